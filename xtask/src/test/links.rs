//! Relative links between the project's pages.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A line for each relative link in a Markdown file below `root` whose target does not exist.
pub(super) fn broken(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for page in pages(root)? {
        let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let folder = page.parent().unwrap_or(root);
        for (line, target) in targets(&text) {
            if !folder.join(&target).exists() {
                let page = page.strip_prefix(root).unwrap_or(&page).display();
                found.push(format!("{page}:{line}: no such file: {target}"));
            }
        }
    }
    Ok(found)
}

/// Markdown files below `folder`, without those in hidden folders and in `target`.
fn pages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry.with_context(|| folder.display().to_string())?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let kind = entry.file_type().with_context(|| path.display().to_string())?;
        if kind.is_dir() && !name.starts_with('.') && name != "target" {
            pages.extend(self::pages(&path)?);
        } else if kind.is_file() && name.ends_with(".md") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}

/// Line number and file of each relative link outside code.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect();
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let reference = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, to)| to);
        let files = inline.chain(reference).filter_map(file_of);
        targets.extend(files.map(|file| (index + 1, file.to_owned())));
    }
    targets
}

/// The file that a link's target names, if it names one of ours.
fn file_of(target: &str) -> Option<&str> {
    let target = target.split_whitespace().next()?;
    let target = target.split('#').next()?.trim_matches(['<', '>']);
    let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
    (!elsewhere).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_outside_code_count() {
        let text = "See [a](docs/a.md#part \"title\") and [w](https://example.org/x).\n\
                    `[no](code.md)` [top](#top)\n```\n[no](fence.md)\n```\n[ref]: b.md\n";
        assert_eq!(targets(text), [(1, "docs/a.md".to_owned()), (6, "b.md".to_owned())]);
    }

    #[test]
    fn a_missing_page_is_named_with_the_line() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.md"), "[b](b.md)\n\n[c](c.md)").unwrap();
        fs::write(root.path().join("b.md"), "").unwrap();
        assert_eq!(broken(root.path()).unwrap(), ["a.md:3: no such file: c.md"]);
    }
}
