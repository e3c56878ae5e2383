//! Bases that nothing protects, of filesystems that cannot be replicated before a person decides.
//!
//! Whoever rolls a sender back takes along the job's cursor together with the snapshot that it was on.
//! The receiver has more than the sender then, no step runs, and what both still have in common would be
//! free for any other job's pruning.

use crate::diff::{Comparison, compare};
use crate::name::DatasetName;
use crate::protection::{ProtectionKind, ProtectionPolicy, ProtectionStrategy};
use crate::version::VersionRef;
use crate::view::View;

/// The newest common snapshot of a filesystem, as the sender names it, if nothing of the job protects it
/// there although the policy wants a cursor. To be asked about a filesystem with a conflict: whatever
/// else is planned protects the base by itself.
///
/// The cursor is known of every peer, and one that tells no more loses nothing by getting it. None if the newest common version is a bookmark, which not every ZFS can copy, and if common versions
/// are in different orders, so that none is the newest.
pub fn endangered_base(
    name: &DatasetName,
    sender: &View,
    receiver: &View,
    policy: ProtectionPolicy,
) -> Option<VersionRef> {
    if policy.incremental == ProtectionStrategy::Nothing {
        return None;
    }
    let (sender, receiver) = (sender.filesystems.get(name)?, receiver.filesystems.get(name)?);
    let common = match compare(&sender.versions, &receiver.versions) {
        Comparison::Follows { common, .. } | Comparison::Diverged { common, .. } => common,
        Comparison::Unrelated | Comparison::OrderDiffers { .. } => return None,
    };
    let mut protections = sender.protections.iter();
    let is_protected =
        protections.any(|found| found.kind != ProtectionKind::LastReceivedHold && found.version.guid == common.guid);
    (common.is_snapshot() && !is_protected).then(|| common.to_ref())
}
