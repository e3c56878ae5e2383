//! Which abstractions a person asks for, in the words of zrepl's command line.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{Abstraction, AbstractionKind};
use crate::filter::{FilesystemFilter, Pattern, PatternError};
use crate::name::{DatasetName, JobName, NameError};
use crate::version::CreateTxg;

/// What is asked for; every part narrows it.
#[derive(Debug, Clone)]
pub struct Query {
    /// Where.
    pub filesystems: Filesystems,
    /// Whose. A cursor of zrepl up to 0.2 belongs to every job.
    pub job: Option<JobName>,
    /// Which.
    pub kinds: BTreeSet<AbstractionKind>,
    /// How old.
    pub createtxg: TxgRange,
}

impl Default for Query {
    fn default() -> Self {
        let kinds = AbstractionKind::ALL.into_iter().collect();
        Self { filesystems: Filesystems::default(), job: None, kinds, createtxg: TxgRange::default() }
    }
}

impl Query {
    /// Whether this one is asked for.
    pub fn matches(&self, one: &Abstraction) -> bool {
        self.filesystems.selects(&one.dataset)
            && self.kinds.contains(&one.kind)
            && self.createtxg.contains(one.version.createtxg)
            && (one.job.is_none() || self.job.is_none() || self.job == one.job)
    }

    /// Whether holds have to be looked at.
    pub fn wants_holds(&self) -> bool {
        self.kinds.iter().any(|kind| kind.is_hold())
    }
}

/// Where to look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Filesystems {
    /// All of this machine.
    #[default]
    All,
    /// This one.
    One(DatasetName),
    /// What a filter selects.
    Filter(FilesystemFilter),
}

/// Words that ask for nothing that there can be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueryError {
    /// Not a dataset's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not a pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// An entry of a filter without its verdict.
    #[error("filter entry {0:?} does not end with `:ok` or `:!`")]
    Entry(String),
    /// Not a kind.
    #[error("{0:?} is no type; types are {list}", list = AbstractionKind::ALL.map(AbstractionKind::as_str).join(", "))]
    Kind(String),
    /// Not a range.
    #[error("{0:?} is no range of createtxg; write such as `[2,5]`, `(2,5)`, `[2,~` or `~,5]`")]
    Range(String),
}

impl Filesystems {
    /// One name without a colon, or a comma list of `PATTERN:ok` and `PATTERN:!`.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if !text.contains([':', ',']) {
            return Ok(Filesystems::One(DatasetName::parse(text)?));
        }
        let entries = text.split(',').map(|entry| match entry.trim().rsplit_once(':') {
            Some((pattern, "ok")) => Ok((Pattern::parse(pattern)?, true)),
            Some((pattern, "!")) => Ok((Pattern::parse(pattern)?, false)),
            _ => Err(QueryError::Entry(entry.to_owned())),
        });
        Ok(Filesystems::Filter(FilesystemFilter::new(entries.collect::<Result<Vec<_>, _>>()?)))
    }

    /// Whether to look there.
    pub fn selects(&self, name: &DatasetName) -> bool {
        match self {
            Filesystems::All => true,
            Filesystems::One(one) => one == name,
            Filesystems::Filter(filter) => filter.selects(name),
        }
    }
}

impl std::str::FromStr for AbstractionKind {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| QueryError::Kind(text.to_owned()))
    }
}

/// Transaction groups from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxgRange {
    first: u64,
    last: u64,
}

impl Default for TxgRange {
    fn default() -> Self {
        Self { first: 0, last: u64::MAX }
    }
}

impl TxgRange {
    /// `[2,5]`, with `(` and `)` for an end that is not included and `~` for none.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        Self::bounds(text).ok_or_else(|| QueryError::Range(text.to_owned()))
    }

    fn bounds(text: &str) -> Option<Self> {
        // No version has been made in transaction group 0.
        let number = |text: &str| text.parse::<u64>().ok().filter(|txg| *txg > 0);
        let (since, until) = text.split_once(',')?;
        let first = match (since, since.split_at_checked(1)?) {
            ("~", _) => 0,
            (_, ("[", txg)) => number(txg)?,
            (_, ("(", txg)) => number(txg)?.checked_add(1)?,
            _ => return None,
        };
        let last = match (until, until.split_at_checked(until.len().checked_sub(1)?)?) {
            ("~", _) => u64::MAX,
            (_, (txg, "]")) => number(txg)?,
            (_, (txg, ")")) => number(txg)?.checked_sub(1)?,
            _ => return None,
        };
        (first <= last).then_some(Self { first, last })
    }

    /// Whether it leaves nothing out.
    pub fn is_unbounded(&self) -> bool {
        *self == Self::default()
    }

    fn contains(&self, txg: CreateTxg) -> bool {
        (self.first..=self.last).contains(&txg.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems_are_one_name_or_a_filter() {
        let name = |text: &str| DatasetName::parse(text).unwrap();
        assert_eq!(Filesystems::parse("p/a b"), Ok(Filesystems::One(name("p/a b"))));
        let filter = Filesystems::parse("p<:ok,p/x:!, p/a:b:ok").unwrap();
        for (path, selected) in [("p", true), ("p/y", true), ("p/x", false), ("p/a:b", true), ("q", false)] {
            assert_eq!(filter.selects(&name(path)), selected, "{path}");
        }
        for wrong in ["", "p,q", "p:yes", "p//a", "a<b:ok", "p:ok,"] {
            assert!(Filesystems::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ranges_have_open_and_closed_ends() {
        let inside = |text: &str| {
            let range = TxgRange::parse(text).unwrap();
            (1..=7).filter(|txg| range.contains(CreateTxg(*txg))).collect::<Vec<_>>()
        };
        assert_eq!(inside("[2,5]"), [2, 3, 4, 5]);
        assert_eq!(inside("(2,5)"), [3, 4]);
        assert_eq!(inside("(2,5]"), [3, 4, 5]);
        assert_eq!(inside("[5,5]"), [5]);
        assert_eq!(inside("[6,~"), [6, 7]);
        assert_eq!(inside("~,2]"), [1, 2]);
        assert!(TxgRange::parse("~,~").unwrap().is_unbounded());
        let end = format!("({},~", u64::MAX);
        for wrong in ["", ",", "2,5", "[0,5]", "[5,2]", "(5,5)", "[2,5", "[a,5]", "[2;5]", "[-1,~", "é,é", &end] {
            assert_eq!(TxgRange::parse(wrong), Err(QueryError::Range(wrong.to_owned())));
        }
    }

    #[test]
    fn kinds_have_zrepl_s_words() {
        for kind in AbstractionKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        let error = "hold".parse::<AbstractionKind>().unwrap_err().to_string();
        assert!(error.contains("\"hold\"") && error.contains("step-hold, tentative"), "{error}");
    }
}
