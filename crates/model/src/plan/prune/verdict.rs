//! What every rule says about every snapshot.

use super::{Decision, KeepRule, PruneSide, PruneView, plan_filesystem, progress};
use crate::version::Version;

/// The decision about a snapshot, and what each rule said to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotVerdict {
    /// The snapshot.
    pub version: Version,
    /// What happens to it. It may stay although no rule keeps it, see [`Decision::KeptAsBase`] and
    /// [`Decision::KeptHeld`].
    pub decision: Decision,
    /// The rules that keep it, by their index in the list.
    pub kept_by: Vec<u16>,
    /// The rules that let it go, by their index in the list, and why they do.
    pub rejected_by: Vec<(u16, Rejection)>,
}

/// Why a rule does not keep a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The rule is about other names.
    NameDoesNotMatch,
    /// The rule keeps what has no such name.
    NameMatches,
    /// The receiver has it.
    Replicated,
    /// Enough newer ones match.
    NotAmongNewest,
    /// Enough older ones lie in the same bucket of the grid.
    Crowded,
    /// It is older than the oldest bucket of the grid.
    BeyondGrid,
}

/// What all rules say about the snapshots of a filesystem, oldest first. The decisions are those of
/// [`super::plan_pruning`]; a filesystem that is skipped has no verdicts.
pub fn verdicts(side: PruneSide, view: &PruneView, rules: &[KeepRule]) -> Vec<SnapshotVerdict> {
    if view.skip.is_some() {
        return Vec::new();
    }
    let progress = progress(side, view);
    let plan = plan_filesystem(side, view, rules);
    let mut verdicts: Vec<SnapshotVerdict> = plan
        .versions
        .iter()
        .zip(&plan.decisions)
        .map(|(version, decision)| SnapshotVerdict {
            version: version.clone(),
            decision: *decision,
            kept_by: Vec::new(),
            rejected_by: Vec::new(),
        })
        .collect();
    for (index, rule) in rules.iter().enumerate() {
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        for (verdict, said) in verdicts.iter_mut().zip(rule.judge(&view.versions, &progress)) {
            match said {
                Ok(()) => verdict.kept_by.push(index),
                Err(why) => verdict.rejected_by.push((index, why)),
            }
        }
    }
    verdicts.retain(|verdict| verdict.version.is_snapshot());
    verdicts
}
