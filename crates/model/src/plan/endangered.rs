//! Bases that nothing protects, of filesystems that cannot be replicated before a person decides.
//!
//! Whoever rolls a sender back takes along the job's cursor together with the snapshot that it was on.
//! The receiver has more than the sender then, no step runs, and what both still have in common would be
//! free for any other job's pruning.

use crate::diff::{Comparison, compare};
use crate::name::DatasetName;
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
    /// What is missing.
    pub repairs: Vec<Repair>,
}

/// The newest common snapshot of a filesystem, if the policy wants it protected and nothing of the job
/// does: a cursor on the sender, and on the receiver the hold, which is better on the base than on
/// snapshots that the sender does not have any longer. To be asked about a filesystem with a conflict:
/// whatever else is planned protects the base by itself.
///
/// The cursor is known of every peer, and one that tells no more loses nothing by getting it. None if the
/// newest common version is a bookmark, which not every ZFS can copy, and if common versions are in
/// different orders, so that none is the newest.
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
    let is_protected = |protections: &[Protection], held: bool| {
        let is_held = |found: &Protection| (found.kind == ProtectionKind::LastReceivedHold) == held;
        protections.iter().any(|found| is_held(found) && found.version.guid == common.guid)
    };
    let mut repairs = Vec::new();
    if !is_protected(&sender.protections, false) {
        repairs.push(Repair::MoveCursor);
    }
    if holds_are_known && !is_protected(&receiver.protections, true) {
        repairs.push(Repair::HoldLastReceived);
    }
    let version = common.to_ref();
    (common.is_snapshot() && !repairs.is_empty()).then_some(Endangered { version, received_as, repairs })
}
