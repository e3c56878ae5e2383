//! Which filesystems a job is about, in zrepl's syntax.
//!
//! An entry is a dataset path, or a path with one trailing `<` for the dataset and everything below
//! it; `<` alone is every dataset. An exact entry decides first, then the `<` entry with the longest
//! path; a dataset that no entry covers is not selected.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::name::{DatasetName, NameError};

/// The `filesystems` of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesystemFilter {
    entries: BTreeMap<Pattern, bool>,
}

/// One pattern of a filter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// `<`
    Everything,
    /// `path<`
    Tree(DatasetName),
    /// `path`
    Exactly(DatasetName),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Everything => f.write_str("<"),
            Pattern::Tree(root) => write!(f, "{root}<"),
            Pattern::Exactly(name) => write!(f, "{name}"),
        }
    }
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// `<` elsewhere than at the end.
    #[error("`<` may stand only once, at the end: {0:?}")]
    Misplaced(String),
    /// The path is not a dataset's.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Pattern {
    /// Parses one pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (path, tree) = match text.strip_suffix('<') {
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.contains('<') {
            return Err(PatternError::Misplaced(text.to_owned()));
        }
        Ok(match (path.is_empty(), tree) {
            (true, true) => Pattern::Everything,
            (_, true) => Pattern::Tree(DatasetName::parse(path)?),
            (_, false) => Pattern::Exactly(DatasetName::parse(path)?),
        })
    }
}

impl FilesystemFilter {
    /// A filter of these entries; a later one of the same pattern replaces an earlier one.
    pub fn new(entries: impl IntoIterator<Item = (Pattern, bool)>) -> Self {
        Self { entries: entries.into_iter().collect() }
    }

    /// Whether the filter selects a dataset.
    pub fn selects(&self, name: &DatasetName) -> bool {
        self.decide(name).is_some_and(|(_, selected)| selected)
    }

    /// The entry that decides about a dataset and what it says; none if no entry covers it.
    pub fn decide(&self, name: &DatasetName) -> Option<(Pattern, bool)> {
        let tree = || std::iter::once(name.clone()).chain(name.ancestors()).map(Pattern::Tree);
        std::iter::once(Pattern::Exactly(name.clone()))
            .chain(tree())
            .chain(std::iter::once(Pattern::Everything))
            .find_map(|pattern| self.entries.get(&pattern).map(|selected| (pattern, *selected)))
    }

    /// The datasets below which everything selected lies: what a listing has to cover. None if the
    /// filter reaches all pools.
    pub fn roots(&self) -> Option<Vec<DatasetName>> {
        let mut roots: Vec<DatasetName> = Vec::new();
        for (pattern, _) in self.entries.iter().filter(|(_, selected)| **selected) {
            match pattern {
                Pattern::Everything => return None,
                Pattern::Tree(name) | Pattern::Exactly(name) => roots.push(name.clone()),
            }
        }
        roots.sort();
        roots.dedup();
        let covered: Vec<bool> = roots.iter().map(|name| roots.iter().any(|root| name.is_below(root))).collect();
        let mut covered = covered.into_iter();
        roots.retain(|_| !covered.next().unwrap_or(false));
        Some(roots)
    }

    /// Whether something at or below a dataset may be selected, whatever there is.
    pub fn reaches(&self, root: &DatasetName) -> bool {
        // The root may be left out by itself, and what is below it not.
        let below = std::iter::once(root.clone()).chain(root.ancestors()).map(Pattern::Tree);
        let tree = below.chain(std::iter::once(Pattern::Everything)).find_map(|pattern| self.entries.get(&pattern));
        let names_one = |(pattern, selected): (&Pattern, &bool)| match pattern {
            Pattern::Tree(name) | Pattern::Exactly(name) => *selected && name.is_within(root),
            Pattern::Everything => false,
        };
        tree.is_some_and(|selected| *selected) || self.entries.iter().any(names_one)
    }

    /// The entries, for display.
    pub fn entries(&self) -> impl Iterator<Item = (&Pattern, bool)> {
        self.entries.iter().map(|(pattern, selected)| (pattern, *selected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(entries: &str) -> FilesystemFilter {
        let entry = |entry: &str| {
            let (pattern, selected) = entry.rsplit_once(':').unwrap();
            (Pattern::parse(pattern.trim()).unwrap(), selected == "t")
        };
        FilesystemFilter::new(entries.split(',').filter(|entry| !entry.is_empty()).map(entry))
    }

    fn decide(filter: &FilesystemFilter, name: &str) -> String {
        let name = DatasetName::parse(name).unwrap();
        let decided = filter.decide(&name);
        assert_eq!(filter.selects(&name), decided.as_ref().is_some_and(|(_, selected)| *selected));
        match decided {
            Some((entry, selected)) => format!("{name}: {} by {entry}", if selected { "yes" } else { "no" }),
            None => format!("{name}: no"),
        }
    }

    #[test]
    fn a_tree_that_is_left_out_is_reached_only_through_what_is_in_it() {
        for (entries, expected) in [
            ("<:t", true),
            ("<:t, usb<:f", false),
            ("<:t, usb:f", true),
            ("<:t, usb<:f, usb/a:t", true),
            ("<:t, usb<:f, usb/a<:t", true),
            ("<:t, usb<:f, usb/a<:f, usbc<:t", false),
            ("usb/a:t", true),
            ("tank<:t", false),
            ("", false),
        ] {
            assert_eq!(filter(entries).reaches(&DatasetName::parse("usb").unwrap()), expected, "{entries}");
        }
    }

    #[test]
    fn an_exact_entry_decides_then_the_longest_tree() {
        for (entries, decisions) in [
            ("", &["foo: no", "zroot: no"][..]),
            (
                "tank<:t, tank/tmp<:f, tank/home/x<:f, tank/home/x/1:t",
                &[
                    "zroot: no",
                    "tank: yes by tank<",
                    "tank/tmp: no by tank/tmp<",
                    "tank/tmp/foo: no by tank/tmp<",
                    "tank/home/x: no by tank/home/x<",
                    "tank/home/y: yes by tank<",
                    "tank/home/x/1: yes by tank/home/x/1",
                    "tank/home/x/2: no by tank/home/x<",
                ],
            ),
            (
                "tank/home/bob:t, tank/home/bob<:f",
                &["tank/home/bob: yes by tank/home/bob", "tank/home/bob/downloads: no by tank/home/bob<"],
            ),
            (
                "tank<:t, tank/foo<:f, tank/foo/bar:t",
                &[
                    "tank/foo/bar/loo: no by tank/foo<",
                    "tank/bar: yes by tank<",
                    "tank/foo/bar: yes by tank/foo/bar",
                    "zroot: no",
                    "tank/var/log: yes by tank<",
                ],
            ),
            ("<:t", &["tank: yes by <", "tank/a: yes by <"]),
            ("<:t, tmp:f", &["tmp: no by tmp", "tmp/x: yes by <", "tank: yes by <"]),
            ("tank<:t", &["tank: yes by tank<", "tank/a: yes by tank<", "tank2: no", "tanker/a: no"]),
            ("tank:t", &["tank: yes by tank", "tank/a: no"]),
            ("tank:f, tank<:t", &["tank: no by tank", "tank/a: yes by tank<"]),
            (
                "a<:t, a/b<:f, a/b/c:t",
                &["a: yes by a<", "a/b: no by a/b<", "a/b/c: yes by a/b/c", "a/b/c/d: no by a/b<", "a/x: yes by a<"],
            ),
            ("A<:t", &["a: no", "A/x: yes by A<"]),
            ("a b<:t", &["a b: yes by a b<", "a b/c d: yes by a b<"]),
            ("a<:f", &["a: no by a<", "b: no"]),
            (
                "pool1/var/db<:t, pool1/usr/home<:t, pool1/usr/home/paranoid:f",
                &[
                    "pool1/usr/home/x: yes by pool1/usr/home<",
                    "pool1/usr/home/paranoid: no by pool1/usr/home/paranoid",
                    "pool1/usr/home/paranoid/y: yes by pool1/usr/home<",
                ],
            ),
        ] {
            let filter = filter(entries);
            for decision in decisions {
                let (name, _) = decision.split_once(": ").unwrap();
                assert_eq!(decide(&filter, name), *decision, "{entries}");
            }
        }
    }
}
