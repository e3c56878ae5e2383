//! The sections of a configuration, each once and with a name: `send` of push and source jobs is one.

use crate::describe::{Key, Shape};

/// A section.
pub(super) struct Section<'a> {
    /// As much of the end of the path as tells it from other sections.
    pub(super) name: String,
    /// The paths where it may stand; never empty.
    pub(super) paths: Vec<String>,
    /// What its `type` has to be.
    pub(super) tag: Option<&'a str>,
    pub(super) keys: &'a [Key],
}

impl Section<'_> {
    /// The path of one of its keys, as the table of meanings has it.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(self.paths.first().map_or("", String::as_str), key)
    }
}

/// All sections, the outer before the inner ones.
pub(super) struct Sections<'a>(pub(super) Vec<Section<'a>>);

/// What is found at one path.
struct Found<'a> {
    path: String,
    tag: Option<&'a str>,
    keys: &'a [Key],
}

impl<'a> Sections<'a> {
    pub(super) fn of(whole: &'a Shape) -> Self {
        let mut found = Vec::new();
        collect(whole, String::new(), &mut found);
        let mut sections: Vec<Section<'a>> = Vec::new();
        for one in &found {
            let name = name(one, &found);
            match sections.iter_mut().find(|section| section.name == name) {
                Some(known) => known.paths.push(one.path.clone()),
                None => sections.push(Section { name, paths: vec![one.path.clone()], tag: one.tag, keys: one.keys }),
            }
        }
        Self(sections)
    }

    /// The name of the section at a path.
    pub(super) fn name(&self, path: &str) -> &str {
        let at = self.0.iter().find(|section| section.paths.iter().any(|known| known == path));
        at.map_or("", |section| section.name.as_str())
    }
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn collect<'a>(shape: &'a Shape, path: String, found: &mut Vec<Found<'a>>) {
    match shape {
        Shape::Scalar(_) | Shape::Words(_) => {}
        Shape::List(inner) | Shape::Map(_, inner) => collect(inner, path, found),
        Shape::Section(keys) => section(keys, path, None, found),
        Shape::Tagged(variants) => {
            for (tag, keys) in variants {
                section(keys, join(&path, tag), Some(tag), found);
            }
        }
    }
}

fn section<'a>(keys: &'a [Key], path: String, tag: Option<&'a str>, found: &mut Vec<Found<'a>>) {
    found.push(Found { path: path.clone(), tag, keys });
    for key in keys {
        collect(&key.shape, join(&path, key.name), found);
    }
}

/// The shortest end of the path that stands for the same keys wherever it stands.
fn name(one: &Found<'_>, all: &[Found<'_>]) -> String {
    let parts: Vec<&str> = one.path.split('.').collect();
    let shortest = if one.tag.is_some() { 2 } else { 1 };
    let ends = (shortest..=parts.len()).filter_map(|length| parts.get(parts.len() - length..));
    let mut ends = ends.map(|end| end.join("."));
    let found = ends.find(|end| all.iter().all(|other| !ends_with(&other.path, end) || other.keys == one.keys));
    found.unwrap_or_else(|| one.path.clone())
}

/// Whether a path ends with whole parts.
pub(super) fn ends_with(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
