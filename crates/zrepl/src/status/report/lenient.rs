//! Forms that JSON of Go programs has, and lists of which only a summary is kept.

use std::fmt;

use jiff::Timestamp;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A missing list is null.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A missing time is in the year 1.
pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<String> = Option::deserialize(from)?;
    Ok(text.and_then(|text| parse(&text)))
}

fn parse(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().filter(|at| at.as_second() > 0)
}

/// All snapshots of a filesystem: there may be hundreds of them for each of thousands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshots {
    pub(crate) count: usize,
    pub(crate) newest: Option<Timestamp>,
    pub(crate) newest_replicated: Option<Timestamp>,
}

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Destroyed {
    pub(crate) count: usize,
    pub(crate) first: Option<String>,
}

impl<'de> Deserialize<'de> for Snapshots {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Snapshot {
            #[serde(default)]
            replicated: bool,
            #[serde(default)]
            date: String,
        }
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Snapshots;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a list of snapshots")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Snapshots, A::Error> {
                let mut all = Snapshots::default();
                while let Some(Snapshot { replicated, date }) = list.next_element()? {
                    let date = parse(&date);
                    all.count += 1;
                    all.newest = all.newest.max(date);
                    if replicated {
                        all.newest_replicated = all.newest_replicated.max(date);
                    }
                }
                Ok(all)
            }
        }
        from.deserialize_seq(All)
    }
}

impl<'de> Deserialize<'de> for Destroyed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Named {
            #[serde(default)]
            name: String,
        }
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Destroyed;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a list of snapshots")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Destroyed, A::Error> {
                let first = list.next_element::<Named>()?.map(|one| one.name);
                let mut count = usize::from(first.is_some());
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Destroyed { count, first })
            }
        }
        from.deserialize_seq(All)
    }
}
