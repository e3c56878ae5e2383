//! Whether a full stream may replace what is at its target (`zfs recv -F`), which destroys that.
//!
//! Only a filesystem that this program or zrepl made, and that nobody used since, is replaced. The mark
//! alone does not say so: `zrepl:placeholder=off` stays on a filesystem for as long as it lives, also
//! when somebody destroyed all its snapshots and works in it.

use model::DatasetName;
use model::view::{DatasetKind, Placeholder};
use wire::CallError;
use zfs::Contents;

use super::needs_person;
use super::table::Facts;
use crate::limits::UNUSED_FILESYSTEM_BYTES;

/// What makes a target replaceable, unless its contents say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Marked as a placeholder.
    Placeholder,
    /// A placeholder whose mark a receive removed that was never completed: zrepl removes it first.
    HalfMade,
    /// It consists of the interrupted receive that the stream continues.
    OwnPartial,
}

impl Claim {
    /// The claim on a target without snapshots for a full stream, which `resumes` an interrupted one or
    /// not; none if there is none.
    pub(super) fn on(facts: &Facts, resumes: bool) -> Option<Self> {
        match facts.placeholder {
            Placeholder::On => Some(Claim::Placeholder),
            Placeholder::Off => Some(Claim::HalfMade),
            // Since 2.2 OpenZFS wants to be told.
            Placeholder::Unset => resumes.then_some(Claim::OwnPartial),
        }
    }

    /// Whether the stream replaces something that carries a mark.
    pub(super) fn is_marked(self) -> bool {
        self != Claim::OwnPartial
    }

    /// What is about to happen, for a person.
    pub(super) fn describe(self, target: &DatasetName) -> String {
        let target = target.as_str();
        match self {
            Claim::Placeholder => format!("the empty placeholder {target:?} is replaced by what arrives for it"),
            Claim::HalfMade => format!(
                "filesystem {target:?} is replaced by what arrives for it: an earlier first receive into it was not completed, and nothing is in it"
            ),
            Claim::OwnPartial => format!("the interrupted first receive into {target:?} is continued"),
        }
    }

    /// Refuses to replace what may hold somebody's data.
    pub(super) fn check(self, target: &DatasetName, contents: &Contents) -> Result<(), CallError> {
        let Some(evidence) = self.evidence(contents) else { return Ok(()) };
        let name = target.as_str();
        let small = contents.logical_bytes <= UNUSED_FILESYSTEM_BYTES;
        let unless_needed = match self {
            Claim::HalfMade if small => format!("`zfs set zrepl:placeholder=on mountpoint=none {name}`"),
            Claim::Placeholder if small => format!("`zfs set mountpoint=none {name}`"),
            _ => String::new(),
        };
        let advice = match unless_needed.is_empty() {
            true => "rename or destroy it".to_owned(),
            false => format!("rename or destroy it; or, if nothing in it is needed, say so with {unless_needed}"),
        };
        Err(needs_person(format!(
            "cannot receive a full stream into {name:?}: it would replace a dataset without snapshots that may be in use ({evidence}); {advice}"
        )))
    }

    /// What speaks against it.
    fn evidence(self, contents: &Contents) -> Option<String> {
        let Contents { kind, logical_bytes, mounted, without_mountpoint, had_snapshots } = *contents;
        // Also because sizes lag behind what is written by up to the seconds of a transaction group;
        // what was unmounted is written.
        if mounted {
            return Some("it is mounted".to_owned());
        }
        if self == Claim::OwnPartial {
            // Its size is that of what arrived.
            return None;
        }
        if kind == DatasetKind::Volume {
            return Some("it is a volume, no placeholder is".to_owned());
        }
        if logical_bytes > UNUSED_FILESYSTEM_BYTES {
            return Some(format!("it has {logical_bytes} bytes of data"));
        }
        if self == Claim::Placeholder {
            return None;
        }
        // Sizes do not show small files.
        match (had_snapshots, without_mountpoint) {
            (Some(true), _) => Some("it had snapshots, so a receive into it was completed".to_owned()),
            (_, false) => Some("it has a mountpoint, which a placeholder has not".to_owned()),
            (None, _) => Some("this ZFS does not tell whether it ever had snapshots".to_owned()),
            (Some(false), true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNUSED: Contents = Contents {
        kind: DatasetKind::Filesystem,
        logical_bytes: 70_656,
        mounted: false,
        without_mountpoint: true,
        had_snapshots: Some(false),
    };

    fn refusal(claim: Claim, contents: &Contents) -> Option<String> {
        claim.check(&DatasetName::parse("p/a").unwrap(), contents).err().map(|error| error.to_string())
    }

    #[test]
    fn only_what_looks_never_used_is_replaced() {
        let differing = |change: fn(&mut Contents)| {
            let mut contents = UNUSED;
            change(&mut contents);
            contents
        };
        let used = differing(|contents| contents.logical_bytes = UNUSED_FILESYSTEM_BYTES + 1);
        let volume = differing(|contents| contents.kind = DatasetKind::Volume);
        let mounted = differing(|contents| contents.mounted = true);
        let mountable = differing(|contents| contents.without_mountpoint = false);
        let completed = differing(|contents| contents.had_snapshots = Some(true));
        let unknown = differing(|contents| contents.had_snapshots = None);
        for claim in [Claim::Placeholder, Claim::HalfMade, Claim::OwnPartial] {
            assert_eq!(refusal(claim, &UNUSED), None);
        }
        for contents in [&used, &volume, &mounted, &mountable, &completed, &unknown] {
            assert!(refusal(Claim::HalfMade, contents).is_some(), "{contents:?}");
        }
        assert!(refusal(Claim::Placeholder, &used).is_some());
        assert!(refusal(Claim::Placeholder, &volume).is_some());
        assert!(refusal(Claim::Placeholder, &mounted).is_some());
        assert_eq!(refusal(Claim::Placeholder, &mountable), None, "it may have children to mount");
        assert_eq!(refusal(Claim::OwnPartial, &used), None, "what arrived of the stream");
        assert!(refusal(Claim::OwnPartial, &mounted).is_some());
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let completed = Contents { had_snapshots: Some(true), ..UNUSED };
        assert_eq!(
            refusal(Claim::HalfMade, &completed).unwrap(),
            "cannot receive a full stream into \"p/a\": it would replace a dataset without snapshots that may be in use \
             (it had snapshots, so a receive into it was completed); rename or destroy it; or, if nothing in it is \
             needed, say so with `zfs set zrepl:placeholder=on mountpoint=none p/a`"
        );
    }
}
