//! Which snapshots go, and what keeps the others.

mod grid;
mod verdict;

use std::sync::Arc;

use crate::name::DatasetName;
use crate::version::{CreateTxg, Guid, Version};

pub use grid::{GridError, GridInterval, RetentionGrid};
pub use verdict::{Rejection, SnapshotVerdict, verdicts};

/// A keep rule. A snapshot is destroyed only if every rule of the list lets it go.
#[derive(Debug, Clone)]
pub enum KeepRule {
    /// Keep what the receiver does not have yet.
    NotReplicated {
        /// Whether the snapshot that the cursor stands for is kept as well.
        keep_snapshot_at_cursor: bool,
    },
    /// Keep the newest `count` of those whose name matches.
    LastN {
        /// How many.
        count: usize,
        /// Which; none for all.
        regex: Option<regex::Regex>,
    },
    /// Keep those whose name matches (or, negated, does not).
    Regex {
        /// The pattern, unanchored.
        regex: regex::Regex,
        /// Keep those that do not match.
        negate: bool,
    },
    /// Keep some of those whose name matches, ever fewer with age.
    Grid {
        /// How many of which age.
        grid: RetentionGrid,
        /// Which.
        regex: regex::Regex,
    },
}

/// What pruning knows of one filesystem on the side that is pruned.
#[derive(Debug, Clone)]
pub struct PruneView {
    /// The name in the sender's name space.
    pub name: DatasetName,
    /// Why it is not pruned at all.
    pub skip: Option<SkipReason>,
    /// Its versions in order.
    pub versions: Arc<[Version]>,
    /// Where replication of the job stands.
    pub cursor: CursorView,
    /// Guid of the newest version common to both sides, as far as known: never destroyed on a
    /// receiver, whatever the rules say, and on a sender only if the job's cursor stands for it.
    pub common_base: Option<Guid>,
}

/// Where replication stands, as the pruned side can use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorView {
    /// Pruning has nothing to do with replication (`snap` jobs).
    NotReplicating,
    /// No cursor: nothing is known to be replicated.
    Missing,
    /// The cursor stands for this version; the transaction group is the sender's.
    At(Guid, CreateTxg),
}

/// Why a filesystem is not pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// `filesystem is placeholder`
    Placeholder,
    /// `filesystem has no correspondence on sender`
    NotOnSender,
    /// The sender could not list it, which tells what is replicated.
    SenderUnlisted,
    /// The receiver could not be listed and there is no cursor: any snapshot may be the common base.
    BaseUnknown,
}

/// Which side is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PruneSide {
    /// The sender of a push or pull job.
    Sender,
    /// The receiver of a push or pull job.
    Receiver,
    /// The only side of a snap job.
    Local,
}

/// The decision about every snapshot of every filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunePlan {
    /// The side.
    pub side: PruneSide,
    /// In path order.
    pub filesystems: Vec<FilesystemPrunePlan>,
}

/// The decisions about one filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemPrunePlan {
    /// The name in the sender's name space.
    pub name: DatasetName,
    /// Why it is not pruned.
    pub skip: Option<SkipReason>,
    /// The versions that were looked at (shared with the listing).
    pub versions: Arc<[Version]>,
    /// Per version of `versions`: the decision; bookmarks are never candidates.
    pub decisions: Box<[Decision]>,
    /// Per version of `versions`: whether it counts as replicated.
    pub replicated: Box<[bool]>,
}

/// The decision about one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Not a snapshot, or the filesystem is skipped, or there are no rules.
    NotConsidered,
    /// Kept by the rule with this index in the list (the first one that keeps it).
    KeptByRule(u16),
    /// Every rule lets it go, but it is the newest common version of both sides, or the newest snapshot
    /// of a receiver, which streams continue.
    KeptAsBase,
    /// Every rule lets it go, but it is held: step holds, last-received hold or somebody else's.
    KeptHeld,
    /// Every rule lets it go.
    Destroy,
}

impl FilesystemPrunePlan {
    /// The snapshots that go, oldest first.
    pub fn destroys(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().zip(&self.decisions).filter(|(_, what)| **what == Decision::Destroy).map(|(v, _)| v)
    }
}

/// Decides about every snapshot of one side. A snapshot goes if every rule lets it go, nothing holds
/// it, and it is not the base of the next step; without rules nothing goes.
pub fn plan_pruning(side: PruneSide, filesystems: &[PruneView], rules: &[KeepRule]) -> PrunePlan {
    let mut filesystems: Vec<FilesystemPrunePlan> =
        filesystems.iter().map(|view| plan_filesystem(side, view, rules)).collect();
    filesystems.sort_by(|a, b| a.name.cmp(&b.name));
    PrunePlan { side, filesystems }
}

fn plan_filesystem(side: PruneSide, view: &PruneView, rules: &[KeepRule]) -> FilesystemPrunePlan {
    let progress = progress(side, view);
    let decisions = match view.skip {
        Some(_) => vec![Decision::NotConsidered; view.versions.len()],
        None => decide(side, view, rules, &progress),
    };
    let cursor_counts =
        rules.iter().any(|rule| matches!(rule, KeepRule::NotReplicated { keep_snapshot_at_cursor: false }));
    FilesystemPrunePlan {
        name: view.name.clone(),
        skip: view.skip,
        versions: Arc::clone(&view.versions),
        decisions: decisions.into(),
        replicated: progress
            .iter()
            .map(|at| matches!(at, Progress::Replicated) || (*at == Progress::AtCursor && cursor_counts))
            .collect(),
    }
}

/// What replication has done for a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Replicated,
    /// Replicated, and on the sender the snapshot that the cursor stands for.
    AtCursor,
    NotReplicated,
}

/// Exact on the sender, where the cursor has the age of its snapshot. On a receiver ages are its own,
/// and only the place of the cursor's snapshot among the others tells.
fn progress(side: PruneSide, view: &PruneView) -> Vec<Progress> {
    let versions = view.versions.iter();
    let CursorView::At(guid, txg) = view.cursor else { return vec![Progress::NotReplicated; versions.len()] };
    if side == PruneSide::Sender {
        return versions
            .map(|version| match version {
                version if !version.is_snapshot() || version.createtxg > txg => Progress::NotReplicated,
                version if version.guid == guid => Progress::AtCursor,
                _ => Progress::Replicated,
            })
            .collect();
    }
    let at = view.versions.iter().position(|version| version.is_snapshot() && version.guid == guid).unwrap_or(0);
    versions
        .enumerate()
        .map(|(index, version)| match version.is_snapshot() && index < at {
            true => Progress::Replicated,
            false => Progress::NotReplicated,
        })
        .collect()
}

fn decide(side: PruneSide, view: &PruneView, rules: &[KeepRule], progress: &[Progress]) -> Vec<Decision> {
    let unruled = if rules.is_empty() { Decision::NotConsidered } else { Decision::Destroy };
    let mut decisions: Vec<Decision> = view
        .versions
        .iter()
        .map(|version| if version.is_snapshot() { unruled } else { Decision::NotConsidered })
        .collect();
    for (index, rule) in rules.iter().enumerate() {
        let by_rule = Decision::KeptByRule(u16::try_from(index).unwrap_or(u16::MAX));
        for (decision, said) in decisions.iter_mut().zip(rule.judge(&view.versions, progress)) {
            if said.is_ok() && *decision == Decision::Destroy {
                *decision = by_rule;
            }
        }
    }
    let bases = bases(side, view);
    for (version, decision) in view.versions.iter().zip(&mut decisions) {
        if *decision != Decision::Destroy {
            continue;
        }
        if bases.contains(&Some(version.guid)) {
            *decision = Decision::KeptAsBase;
        } else if version.userrefs > 0 {
            *decision = Decision::KeptHeld;
        }
    }
    decisions
}

/// The snapshots without which no incremental step would be possible any longer.
fn bases(side: PruneSide, view: &PruneView) -> [Option<Guid>; 2] {
    let known = view.common_base.or(match view.cursor {
        CursorView::At(guid, _) => Some(guid),
        CursorView::Missing | CursorView::NotReplicating => None,
    });
    match side {
        PruneSide::Local => [None, None],
        // Only the job's cursor can stand for the snapshot. A bookmark of somebody else may go at any time:
        // another job's cursor does as soon as that job has replicated further.
        PruneSide::Sender => {
            let at_cursor = |guid: &Guid| matches!(view.cursor, CursorView::At(cursor, _) if cursor == *guid);
            let bookmarked = |guid: &Guid| view.versions.iter().any(|v| v.guid == *guid && !v.is_snapshot());
            [known.filter(|guid| !(at_cursor(guid) && bookmarked(guid))), None]
        }
        // A stream continues the newest snapshot. Where that is not the common one, the sides have
        // diverged; without it the live data would count as modified, and be the only copy of itself.
        PruneSide::Receiver => {
            let newest = view.versions.iter().rev().find(|version| version.is_snapshot());
            [known, newest.map(|version| version.guid)]
        }
    }
}

/// What a rule says about one version.
type Judgement = Result<(), Rejection>;

impl KeepRule {
    /// Per version: whether this rule keeps it, or why not. What it says about bookmarks means nothing.
    fn judge(&self, versions: &[Version], progress: &[Progress]) -> Vec<Judgement> {
        let matches = |regex: &regex::Regex, version: &Version| regex.is_match(version.name.as_str());
        match self {
            KeepRule::NotReplicated { keep_snapshot_at_cursor } => {
                progress.iter().map(|at| at.judge(*keep_snapshot_at_cursor)).collect()
            }
            KeepRule::Regex { regex, negate } => {
                let why = if *negate { Rejection::NameMatches } else { Rejection::NameDoesNotMatch };
                versions.iter().map(|version| (matches(regex, version) != *negate).then_some(()).ok_or(why)).collect()
            }
            KeepRule::LastN { count, regex } => {
                let among = |version: &Version| regex.as_ref().is_none_or(|regex| matches(regex, version));
                judge_matching(versions, among, |matching| last(*count, matching))
            }
            KeepRule::Grid { grid, regex } => {
                judge_matching(versions, |version| matches(regex, version), |matching| grid.judge(matching))
            }
        }
    }
}

impl Progress {
    /// What the rule `not_replicated` says.
    fn judge(self, keep_snapshot_at_cursor: bool) -> Judgement {
        match self {
            Progress::NotReplicated => Ok(()),
            Progress::AtCursor if keep_snapshot_at_cursor => Ok(()),
            Progress::AtCursor | Progress::Replicated => Err(Rejection::Replicated),
        }
    }
}

/// Lets `judge` decide about the snapshots that match; the others are not kept.
fn judge_matching(
    versions: &[Version],
    matches: impl Fn(&Version) -> bool,
    judge: impl FnOnce(&[&Version]) -> Vec<Judgement>,
) -> Vec<Judgement> {
    let is_candidate: Vec<bool> = versions.iter().map(|version| version.is_snapshot() && matches(version)).collect();
    let candidates: Vec<&Version> =
        versions.iter().zip(&is_candidate).filter(|(_, candidate)| **candidate).map(|(version, _)| version).collect();
    let mut judged = judge(&candidates).into_iter();
    let next = |candidate| if candidate { judged.next().unwrap_or(Ok(())) } else { Err(Rejection::NameDoesNotMatch) };
    is_candidate.into_iter().map(next).collect()
}

/// The newest `count`; of those that are equally old the one with the greater name.
fn last(count: usize, matching: &[&Version]) -> Vec<Judgement> {
    if count >= matching.len() {
        return vec![Ok(()); matching.len()];
    }
    let mut judged = vec![Err(Rejection::NotAmongNewest); matching.len()];
    let mut newest: Vec<(&&Version, &mut Judgement)> = matching.iter().zip(&mut judged).collect();
    newest.sort_by(|(a, _), (b, _)| (b.creation, &b.name).cmp(&(a.creation, &a.name)));
    newest.into_iter().take(count).for_each(|(_, judged)| *judged = Ok(()));
    judged
}
