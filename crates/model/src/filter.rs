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

    /// The entries, for display.
    pub fn entries(&self) -> impl Iterator<Item = (&Pattern, bool)> {
        self.entries.iter().map(|(pattern, selected)| (pattern, *selected))
    }
}
