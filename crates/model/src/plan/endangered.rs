//! Bases that nothing protects, of filesystems that cannot be replicated before a person decides.
//!
//! Whoever rolls a sender back takes along the job's cursor together with the snapshot that it was on.
//! The receiver has more than the sender then, no step runs, and what both still have in common would be
//! free for any other job's pruning.

use crate::diff::{Comparison, compare};
use crate::name::DatasetName;
use crate::plan::protection::after_receive;
use crate::plan::replication::Repair;
use crate::protection::{Protection, ProtectionKind, ProtectionPolicy, ProtectionStrategy};
use crate::version::VersionRef;
use crate::view::View;

/// A base that one of the two sides does not protect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endangered {
    /// As the sender names it.
    pub version: VersionRef,
    /// As the receiver names it.
    pub received_as: VersionRef,
    /// What is missing, and what is left that protects something else.
    pub repairs: Vec<Repair>,
}

impl Endangered {
    /// Whether a side does not protect it; else only something else is protected as well.
    pub fn is_unprotected(&self) -> bool {
        self.repairs.iter().any(|repair| matches!(repair, Repair::MoveCursor | Repair::HoldLastReceived))
    }
}

/// The newest common version of a filesystem, if the policy wants it protected and nothing of the job
/// does: a cursor on the sender, and on the receiver the hold, which is better on the base than on
/// snapshots that the sender does not have any longer. To be asked about a filesystem with a conflict:
/// whatever else is planned protects the base by itself.
///
/// The cursor is known of every peer, and one that tells no more loses nothing by getting it. None if
/// common versions are in different orders, so that none is the newest.
pub fn endangered_base(
    name: &DatasetName,
    sender: &View,
    receiver: &View,
    policy: ProtectionPolicy,
) -> Option<Endangered> {
    if policy.incremental == ProtectionStrategy::Nothing {
        return None;
    }
    let holds_are_known = receiver.protections_known;
    let (sender, receiver) = (sender.filesystems.get(name)?, receiver.filesystems.get(name)?);
    let common = match compare(&sender.versions, &receiver.versions) {
        Comparison::Follows { common, .. } | Comparison::Diverged { common, .. } => common,
        Comparison::Unrelated | Comparison::OrderDiffers { .. } => return None,
    };
    let received_as = receiver.snapshots().find(|snapshot| snapshot.guid == common.guid)?.to_ref();
    let mut repairs = Vec::new();
    let on_sender =
        |found: &Protection| found.kind != ProtectionKind::LastReceivedHold && found.version.guid == common.guid;
    // Not every ZFS can copy a bookmark, and one is a base without a cursor, too.
    if common.is_snapshot() && !sender.protections.iter().any(on_sender) {
        repairs.push(Repair::MoveCursor);
    }
    if holds_are_known {
        let changes = after_receive(&received_as, policy.incremental, &receiver.protections);
        if changes.creates() {
            repairs.push(Repair::HoldLastReceived);
        }
        if changes.removes() {
            repairs.push(Repair::ReleaseOlderReceived);
        }
    }
    (!repairs.is_empty()).then(|| Endangered { version: common.to_ref(), received_as, repairs })
}
