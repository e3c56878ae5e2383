//! Names of ZFS objects and of zrepl's own, each parsed once at the edge.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Longest name that ZFS accepts, in bytes; it counts the whole `pool/fs@snap`.
pub const MAX_NAME_LEN: usize = 255;

/// A name that ZFS or zrepl could not use. The message names the offending text and the rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid {what} {name:?}: {problem}")]
pub struct NameError {
    /// What the text was meant to be, such as `dataset name`.
    pub what: &'static str,
    /// The text as given.
    pub name: String,
    /// The rule that it breaks.
    pub problem: String,
}

fn bad(what: &'static str, name: &str, problem: impl Into<String>) -> NameError {
    NameError { what, name: name.chars().take(300).collect(), problem: problem.into() }
}

/// The rule of ZFS for one component of a dataset path, and of zrepl for names that end up in one.
fn check_component(what: &'static str, whole: &str, part: &str) -> Result<(), NameError> {
    if part.is_empty() {
        return Err(bad(what, whole, "has an empty component"));
    }
    if part == "." || part == ".." {
        return Err(bad(what, whole, format!("component {part:?} is not allowed")));
    }
    match part.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.: ".contains(*c))) {
        Some(c) => Err(bad(what, whole, format!("character {c:?} is not allowed"))),
        None => Ok(()),
    }
}

fn check_length(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.len() > MAX_NAME_LEN {
        return Err(bad(what, name, format!("is {} bytes long, ZFS allows {MAX_NAME_LEN}", name.len())));
    }
    Ok(())
}

macro_rules! text_type {
    ($type:ident) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
    };
}

/// The path of a filesystem or volume, `pool/a/b`; never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetName(Arc<str>);
text_type!(DatasetName);

impl DatasetName {
    /// Parses a path by the rules of ZFS.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "dataset name";
        check_length(WHAT, text)?;
        text.split('/').try_for_each(|part| check_component(WHAT, text, part))?;
        Ok(Self(text.into()))
    }

    /// The first component.
    pub fn pool(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// The components from the pool down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The dataset that contains this one; none for a pool's root.
    pub fn parent(&self) -> Option<DatasetName> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// The ancestors, nearest first, without the dataset itself.
    pub fn ancestors(&self) -> impl Iterator<Item = DatasetName> {
        std::iter::successors(self.parent(), DatasetName::parent)
    }

    /// Whether this dataset is `root` or below it. Compares components: `a2` is not below `a`.
    pub fn is_within(&self, root: &DatasetName) -> bool {
        self == root || self.is_below(root)
    }

    /// Whether this dataset is strictly below `root`.
    pub fn is_below(&self, root: &DatasetName) -> bool {
        self.0.strip_prefix(&*root.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// `self/below`. Fails if the result would be too long for ZFS.
    pub fn join(&self, below: &DatasetName) -> Result<DatasetName, NameError> {
        Self::parse(&format!("{self}/{below}"))
    }

    /// The path below `root`; none if this dataset is not strictly below it.
    pub fn strip_root(&self, root: &DatasetName) -> Option<DatasetName> {
        let rest = self.0.strip_prefix(&*root.0)?.strip_prefix('/')?;
        Some(Self(rest.into()))
    }
}

/// The short name of a snapshot or bookmark, without the dataset and without `@` or `#`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionName(Arc<str>);
text_type!(VersionName);

impl VersionName {
    /// Parses a short name by the rules of ZFS. Refuses `,` and `%`, which have a meaning for
    /// `zfs destroy`, so that a name can never stand for more than one snapshot.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "snapshot or bookmark name";
        check_length(WHAT, text)?;
        check_component(WHAT, text, text)?;
        Ok(Self(text.into()))
    }

    /// The shared text, so that a table can keep one copy of a name that many filesystems use.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// The name of a job. It is part of bookmark names and hold tags on disk and must not change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobName(Arc<str>);
text_type!(JobName);

impl JobName {
    /// Parses a job name: a dataset component that leaves room for zrepl's bookmark names and tags.
    /// A leading `_` is for the configuration to refuse, which reserves such names.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "job name";
        check_length(WHAT, text)?;
        check_component(WHAT, text, text)?;
        let longest = "pool/ds#zrepl_CURSORTENTATIVE__G_00000000face601d_J_".len() + text.len();
        if longest > MAX_NAME_LEN {
            return Err(bad(
                WHAT,
                text,
                format!(
                    "is {} bytes long, at most {} fit into the bookmark names that carry it",
                    text.len(),
                    MAX_NAME_LEN - (longest - text.len())
                ),
            ));
        }
        Ok(Self(text.into()))
    }
}

/// Who a receiver's client is. It becomes one dataset component below a sink's `root_fs`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientIdentity(Arc<str>);
text_type!(ClientIdentity);

impl ClientIdentity {
    /// Parses an identity by the rule for a dataset component.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "client identity";
        check_length(WHAT, text)?;
        check_component(WHAT, text, text)?;
        Ok(Self(text.into()))
    }

    /// The dataset component that this identity stands for.
    pub fn component(&self) -> DatasetName {
        DatasetName(Arc::clone(&self.0))
    }
}

/// The tag of a hold, zrepl's or somebody else's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldTag(Arc<str>);
text_type!(HoldTag);

impl HoldTag {
    /// Parses a tag: 1 to 255 bytes without white space other than a blank.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "hold tag";
        check_length(WHAT, text)?;
        if text.is_empty() {
            return Err(bad(WHAT, text, "is empty"));
        }
        if text.starts_with('-') {
            return Err(bad(WHAT, text, "starts with '-', which zfs would take for an option"));
        }
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(bad(WHAT, text, format!("character {c:?} is not allowed")));
        }
        Ok(Self(text.into()))
    }
}

/// The name of a ZFS property that is set or inherited.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PropertyName(Cow<'static, str>);
text_type!(PropertyName);

impl PropertyName {
    /// Whether a filesystem was made only to carry what is below it.
    pub const PLACEHOLDER: PropertyName = PropertyName(Cow::Borrowed("zrepl:placeholder"));

    /// Parses a name: what ZFS accepts, and no `=`, which would end it on a command line.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "property name";
        const LONGEST: usize = 256;
        if text.is_empty() {
            return Err(bad(WHAT, text, "is empty"));
        }
        if text.starts_with('-') {
            return Err(bad(WHAT, text, "begins with `-`"));
        }
        if text.len() > LONGEST {
            return Err(bad(WHAT, text, format!("is longer than {LONGEST} bytes")));
        }
        if let Some(c) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.:".contains(*c))) {
            return Err(bad(WHAT, text, format!("character {c:?} is not allowed")));
        }
        Ok(Self(text.to_owned().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn property_names_follow_zfs() {
        for good in ["compression", "zrepl:placeholder", "a.b-c_d:E9", &"x".repeat(256)] {
            assert!(PropertyName::parse(good).is_ok(), "{good}");
        }
        for wrong in ["", "-x", "a=b", "a b", "ä", &"x".repeat(257)] {
            assert!(PropertyName::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(PropertyName::parse(PropertyName::PLACEHOLDER.as_str()), Ok(PropertyName::PLACEHOLDER));
    }

    #[test]
    fn dataset_names_follow_zfs() {
        for good in ["p", "p/a b/c", "p/a:b.c-d_e", &format!("p/{}", "x".repeat(253))] {
            assert!(DatasetName::parse(good).is_ok(), "{good:?}");
        }
        for wrong in ["", "/", "/p", "p/", "p//a", "p/..", "p/.", "p@s", "p#b", "p/ä", "p/a\tb", "p/%recv", "p/a+b"] {
            assert!(DatasetName::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(DatasetName::parse(&format!("p/{}", "x".repeat(254))).is_err());
    }

    #[test]
    fn a_path_is_compared_by_component() {
        let name = |text: &str| DatasetName::parse(text).unwrap();
        assert!(name("a/b").is_below(&name("a")));
        assert!(!name("a2/b").is_within(&name("a")));
        assert!(!name("a").is_below(&name("a")));
        assert_eq!(name("a/b/c").strip_root(&name("a")), Some(name("b/c")));
        assert_eq!(name("a").strip_root(&name("a")), None);
        assert_eq!(name("a/b/c").ancestors().collect::<Vec<_>>(), [name("a/b"), name("a")]);
        assert_eq!(name("dst").join(&name("p/a")).unwrap(), name("dst/p/a"));
    }

    #[test]
    fn a_version_name_never_names_a_range_or_a_list() {
        for wrong in ["%", "a%b", "a,b", "../x", "", "a@b", "a/b", "."] {
            assert!(VersionName::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(VersionName::parse("a b:c").is_ok());
    }

    #[test]
    fn a_job_name_leaves_room_for_the_names_on_disk() {
        assert!(JobName::parse(&"a".repeat(203)).is_ok());
        assert!(JobName::parse(&"a".repeat(204)).is_err());
        assert!(JobName::parse("valid with spaces").is_ok());
        assert!(JobName::parse("a/b").is_err());
    }
}
