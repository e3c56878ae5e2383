//! The reference page of the configuration.

use crate::describe::meaning::meaning;
use crate::describe::sections::{Section, Sections, join};
use crate::describe::{Key, Presence, Shape, kinds, whole};

const HEAD: &str = "\
# Configuration reference

<!-- Generated from the program; a test compares. Change what it says in `crates/config/src/describe`. -->

The configuration is one YAML file, `/etc/zrepl/zrepl.yml` or `/usr/local/etc/zrepl/zrepl.yml`, whichever is there
first, or the one that `--config` names. `zrepl configcheck` says what is wrong with it, and `zrepl configcheck
--schema` prints a JSON Schema for editors.

Unknown keys are errors. Keys that begin with `x-` are not looked at: they are a place for what aliases refer to. A
section may be merged into another by `<<: *name`.
";

/// The reference of the configuration, in Markdown.
pub fn reference() -> String {
    let whole = whole();
    let sections = Sections::of(&whole);
    let mut page = HEAD.to_owned();
    for section in &sections.0 {
        page += &of_section(section, &sections);
    }
    page += "\n## Values\n";
    for kind in kinds::ALL {
        page += &format!("\n### {}\n\n{}\n", kind.name, kind.meaning);
    }
    page
}

fn of_section(section: &Section<'_>, sections: &Sections<'_>) -> String {
    let path = section.paths.first().map_or("", String::as_str);
    let mut text = format!("\n## {}\n", if path.is_empty() { "The file" } else { section.name.as_str() });
    if let Some(meaning) = meaning(path) {
        text += &format!("\n{meaning}\n");
    }
    if section.paths.len() > 1 {
        let paths: Vec<String> = section.paths.iter().map(|path| format!("`{path}`")).collect();
        text += &format!("\nThe same at {}.\n", paths.join(", "));
    }
    text += "\n| key | value | default | meaning |\n|---|---|---|---|\n";
    if let Some(tag) = section.tag {
        text += &format!("| `type` | `{tag}` | required | |\n");
    }
    for key in section.keys {
        text += &of_key(key, &join(path, key.name), sections);
    }
    text
}

fn of_key(key: &Key, path: &str, sections: &Sections<'_>) -> String {
    let default = match &key.presence {
        Presence::Required => "required".to_owned(),
        Presence::Optional(Some(default)) if !default.is_empty() => format!("`{default}`"),
        Presence::Optional(_) => String::new(),
    };
    let (value, meaning) = (of_shape(&key.shape, path, sections), meaning(path).unwrap_or_default());
    format!("| `{}` | {} | {} | {} |\n", key.name, cell(&value), cell(&default), cell(meaning))
}

/// A bar would begin the next cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn of_shape(shape: &Shape, path: &str, sections: &Sections<'_>) -> String {
    match shape {
        Shape::Scalar(wanted) => link(kinds::of(wanted).name),
        Shape::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Shape::List(item) => format!("list of {}", of_shape(item, path, sections)),
        Shape::Map(_, value) => format!("mapping to {}", of_shape(value, path, sections)),
        Shape::Section(_) => link(sections.name(path)),
        Shape::Tagged(variants) => {
            let links: Vec<String> = variants.iter().map(|(tag, _)| link(sections.name(&join(path, tag)))).collect();
            links.join(" or ")
        }
    }
}

/// A link to a heading of the page, as Markdown renderers name them.
fn link(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect::<String>();
    format!("[{heading}](#{kept})")
}
