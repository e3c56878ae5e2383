//! What two sides have in common, by guid.
//!
//! Only the order of each side's own transaction groups is used, never a clock and never a name.

use std::collections::HashMap;

use crate::version::{Guid, Version};

/// How a sender's and a receiver's versions of one filesystem relate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison<'a> {
    /// No version is on both sides.
    Unrelated,
    /// The receiver's newest snapshot is known to the sender.
    Follows {
        /// The newest common version as the sender has it: its snapshot, or its bookmark if the
        /// snapshot is gone.
        common: &'a Version,
        /// The sender's later snapshots, oldest first; empty if the receiver is up to date.
        later: Vec<&'a Version>,
    },
    /// The receiver has snapshots that the sender does not know, newer than the common one.
    Diverged {
        /// The newest common version as the sender has it.
        common: &'a Version,
        /// The sender's later snapshots, oldest first.
        sender_only: Vec<&'a Version>,
        /// The receiver's later snapshots, oldest first.
        receiver_only: Vec<&'a Version>,
    },
    /// Common versions are in different orders, so that none is the newest.
    OrderDiffers {
        /// A version that is older on the sender, as the sender has it.
        older: &'a Version,
        /// A version that is newer on the sender but older on the receiver.
        newer: &'a Version,
    },
}

/// Compares the versions of both sides. A bookmark on the receiver counts for nothing: a stream
/// cannot be received on top of it. Linear in the number of versions.
pub fn compare<'a>(sender: &'a [Version], receiver: &'a [Version]) -> Comparison<'a> {
    let sender = in_order(sender.iter());
    let receiver = in_order(receiver.iter().filter(|version| version.is_snapshot()));
    // A snapshot follows the bookmarks that were made from it and thereby replaces them.
    let positions: HashMap<Guid, usize> = sender.iter().enumerate().map(|(at, version)| (version.guid, at)).collect();

    let mut newest: Option<(usize, &Version)> = None;
    let mut matched = 0;
    for (index, version) in receiver.iter().enumerate() {
        let Some((&at, here)) = positions.get(&version.guid).and_then(|at| Some((at, *sender.get(*at)?))) else {
            continue;
        };
        if let Some((_, newer)) = newest.filter(|(before, _)| *before > at) {
            return Comparison::OrderDiffers { older: here, newer };
        }
        newest = Some((at, here));
        matched = index + 1;
    }

    let Some((at, common)) = newest else { return Comparison::Unrelated };
    let later = sender.into_iter().skip(at + 1).filter(|v| v.is_snapshot() && v.guid != common.guid).collect();
    let receiver_only: Vec<&Version> = receiver.into_iter().skip(matched).collect();
    if receiver_only.is_empty() {
        Comparison::Follows { common, later }
    } else {
        Comparison::Diverged { common, sender_only: later, receiver_only }
    }
}

/// Versions by age. Lists are in this order already, except perhaps those of a peer.
fn in_order<'a>(versions: impl Iterator<Item = &'a Version>) -> Vec<&'a Version> {
    let mut versions: Vec<&Version> = versions.collect();
    versions.sort_by_key(|version| version.order());
    versions
}
