//! The imagined filesystem and its rounds.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;

use super::{Destroyed, Existing, Horizon, Keep, Limits, Policy, Rhythm, Round, Sample, SideRules, SimulateError};
use crate::filter::{FilesystemFilter, Pattern};
use crate::name::{DatasetName, NameError, VersionName};
use crate::plan::prune::{
    CursorView, Decision, KeepRule, PruneSide, PruneView, SnapshotVerdict, plan_pruning, verdicts,
};
use crate::plan::snapshot::plan_snapshots;
use crate::schedule::{next_round, sync_point};
use crate::version::{CreateTxg, Guid, UnixTime, Version, VersionKind};

pub(super) struct World<'a> {
    policy: &'a Policy,
    limits: Limits,
    filesystem: DatasetName,
    filter: FilesystemFilter,
    /// The only side, or sender and receiver.
    sides: Vec<Side<'a>>,
    /// The bookmark that keeps the place of replication on the sender.
    cursor: VersionName,
    /// Guids of the initial versions, which new snapshots must not have.
    initial_guids: BTreeSet<Guid>,
    /// For the next snapshot.
    next_guid: u64,
    /// What both sides have and the cursor stands for.
    common: Option<(Guid, CreateTxg)>,
    rounds: u64,
    looked_at: u64,
}

struct Side<'a> {
    side: PruneSide,
    rules: &'a [KeepRule],
    /// In order.
    versions: Vec<Version>,
}

impl<'a> World<'a> {
    pub(super) fn new(policy: &'a Policy, horizon: &Horizon) -> Result<Self, NameError> {
        let side = |side, rules: &'a [KeepRule], versions: &[Version]| {
            let mut versions = versions.to_vec();
            versions.sort_by_key(Version::order);
            Side { side, rules, versions }
        };
        let sides = match &policy.keep {
            Keep::Local(rules) => vec![side(PruneSide::Local, rules, &horizon.initial)],
            Keep::Replicated { sender, receiver } => vec![
                side(PruneSide::Sender, sender, &horizon.initial),
                side(PruneSide::Receiver, receiver, &horizon.initial_receiver),
            ],
        };
        let common = match sides.as_slice() {
            [sender, receiver] => sender.newest_of(&receiver.guids()),
            _ => None,
        };
        let initial_guids = sides.iter().flat_map(|side| &side.versions).map(|version| version.guid).collect();
        Ok(Self {
            policy,
            limits: horizon.limits,
            filesystem: DatasetName::parse("filesystem")?,
            filter: FilesystemFilter::new([(Pattern::Everything, true)]),
            cursor: VersionName::parse("simulated_cursor")?,
            initial_guids,
            next_guid: 1,
            sides,
            common,
            rounds: 0,
            looked_at: 0,
        })
    }

    pub(super) fn sides(&self) -> Vec<SideRules> {
        let of = |side: &Side<'_>| SideRules {
            side: side.side,
            rules: side.rules.iter().map(KeepRule::to_string).collect(),
        };
        self.sides.iter().map(of).collect()
    }

    /// The first round after the start.
    pub(super) fn first(&self, start: Timestamp) -> Option<Timestamp> {
        match &self.policy.rhythm {
            Rhythm::Cron(cron) => cron.next(start),
            Rhythm::Periodic(interval) => {
                let versions = self.sides.first().map_or(&[][..], |side| &side.versions);
                let listed = [(&self.filesystem, versions)];
                let point = sync_point(start, *interval, self.policy.naming.prefix(), listed);
                // A newest snapshot from the future tells nothing; then one interval is waited.
                point.map_or_else(|_| self.next(start), |point| Some(point.at))
            }
        }
    }

    /// The round after the one at `at`.
    pub(super) fn next(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.policy.rhythm {
            Rhythm::Cron(cron) => cron.next(at),
            Rhythm::Periodic(interval) => Some(next_round(at, at, *interval)).filter(|next| *next > at),
        }
    }

    /// Takes, replicates, prunes.
    pub(super) fn round(&mut self, at: Timestamp) -> Result<Round, SimulateError> {
        if self.rounds >= self.limits.rounds {
            return Err(SimulateError::TooManyRounds { limit: self.limits.rounds, reached: at });
        }
        self.rounds += 1;
        let (name, failed) = self.take(at)?;
        let replicated = self.replicate();
        let mut destroyed = Vec::new();
        for index in 0..self.sides.len() {
            self.count(at, index)?;
            destroyed.extend(self.prune(index));
        }
        Ok(Round { at, name, failed, replicated, destroyed })
    }

    fn take(&mut self, at: Timestamp) -> Result<(VersionName, Option<String>), SimulateError> {
        let guid = self.fresh_guid();
        let Some(side) = self.sides.first_mut() else { return Ok((self.policy.naming.name(at)?, None)) };
        let listed = [(&self.filesystem, side.versions.as_slice())];
        let plan = plan_snapshots(at, &self.policy.naming, &self.filter, listed)?;
        if let Some((_, why)) = plan.impossible.first() {
            return Ok((plan.name, Some(why.to_string())));
        }
        side.versions.push(Version {
            kind: VersionKind::Snapshot,
            name: plan.name.clone(),
            guid,
            createtxg: CreateTxg(side.newest_txg().saturating_add(1)),
            creation: UnixTime(at.as_second()),
            userrefs: 0,
        });
        Ok((plan.name, None))
    }

    fn fresh_guid(&mut self) -> Guid {
        loop {
            let guid = Guid(self.next_guid);
            self.next_guid = self.next_guid.wrapping_add(1);
            if !self.initial_guids.contains(&guid) {
                return guid;
            }
        }
    }

    /// Sends the receiver what it lacks, from the newest common version on, and moves the cursor. How
    /// many snapshots arrived.
    fn replicate(&mut self) -> usize {
        let [sender, receiver] = self.sides.as_mut_slice() else { return 0 };
        let there = receiver.guids();
        let base = sender.versions.iter().rposition(|sent| there.contains(&sent.guid));
        let newer = sender.versions.get(base.map_or(0, |base| base + 1)..).unwrap_or(&[]);
        let mut lacking: Vec<Version> = newer.iter().filter(|version| version.is_snapshot()).cloned().collect();
        if base.is_none() && lacking.len() > 1 {
            lacking.drain(..lacking.len() - 1);
        }
        let newest = lacking.last().or_else(|| base.and_then(|base| sender.versions.get(base))).cloned();
        let received = lacking.len();
        for version in lacking {
            let createtxg = CreateTxg(receiver.newest_txg().saturating_add(1));
            receiver.versions.push(Version { createtxg, userrefs: 0, ..version });
        }
        if let Some(newest) = newest {
            sender.move_cursor(&self.cursor, &newest);
            self.common = Some((newest.guid, newest.createtxg));
        }
        received
    }

    fn view(&self, side: &Side<'_>) -> PruneView {
        let replicates = side.side != PruneSide::Local;
        let cursor = self.common.map_or(CursorView::Missing, |(guid, txg)| CursorView::At(guid, txg));
        PruneView {
            name: self.filesystem.clone(),
            skip: None,
            versions: side.versions.as_slice().into(),
            cursor: if replicates { cursor } else { CursorView::NotReplicating },
            common_base: self.common.filter(|_| replicates).map(|(guid, _)| guid),
        }
    }

    fn prune(&mut self, index: usize) -> Vec<Destroyed> {
        let Some(side) = self.sides.get(index) else { return Vec::new() };
        let view = self.view(side);
        let (side, rules) = (side.side, side.rules);
        let plan = plan_pruning(side, std::slice::from_ref(&view), rules);
        if plan.filesystems.iter().all(|plan| plan.destroys().next().is_none()) {
            return Vec::new();
        }
        let (gone, kept): (Vec<SnapshotVerdict>, Vec<SnapshotVerdict>) =
            verdicts(side, &view, rules).into_iter().partition(|verdict| verdict.decision == Decision::Destroy);
        let bookmarks = view.versions.iter().filter(|version| !version.is_snapshot()).cloned();
        let mut left: Vec<Version> = kept.into_iter().map(|verdict| verdict.version).chain(bookmarks).collect();
        left.sort_by_key(Version::order);
        if let Some(side) = self.sides.get_mut(index) {
            side.versions = left;
        }
        let destroyed = |verdict: SnapshotVerdict| Destroyed {
            side,
            name: verdict.version.name,
            creation: verdict.version.creation,
            reasons: verdict.rejected_by,
        };
        gone.into_iter().map(destroyed).collect()
    }

    /// What exists now, and what the rules say to it.
    pub(super) fn look(&mut self, at: Timestamp) -> Result<Sample, SimulateError> {
        for index in 0..self.sides.len() {
            self.count(at, index)?;
        }
        let existing = |verdict: SnapshotVerdict| Existing {
            name: verdict.version.name,
            creation: verdict.version.creation,
            decision: verdict.decision,
            kept_by: verdict.kept_by,
        };
        let of =
            |side: &Side<'_>| verdicts(side.side, &self.view(side), side.rules).into_iter().map(existing).collect();
        Ok(Sample { at, existing: self.sides.iter().map(of).collect() })
    }

    /// Counts what is about to be looked at on a side.
    fn count(&mut self, reached: Timestamp, index: usize) -> Result<(), SimulateError> {
        let snapshots = self.sides.get(index).map_or(0, |side| side.versions.len());
        self.looked_at = self.looked_at.saturating_add(u64::try_from(snapshots).unwrap_or(u64::MAX));
        if self.looked_at <= self.limits.looked_at {
            return Ok(());
        }
        let existing = self.sides.iter().map(|side| side.versions.iter().filter(|v| v.is_snapshot()).count()).sum();
        Err(SimulateError::TooManySnapshots { limit: self.limits.looked_at, reached, existing })
    }
}

impl Side<'_> {
    fn guids(&self) -> HashSet<Guid> {
        self.versions.iter().filter(|version| version.is_snapshot()).map(|version| version.guid).collect()
    }

    /// The newest version with one of these guids.
    fn newest_of(&self, guids: &HashSet<Guid>) -> Option<(Guid, CreateTxg)> {
        let found = self.versions.iter().rfind(|version| guids.contains(&version.guid));
        found.map(|version| (version.guid, version.createtxg))
    }

    fn newest_txg(&self) -> u64 {
        self.versions.last().map_or(0, |version| version.createtxg.0)
    }

    /// Makes the cursor bookmark stand for `newest` and nothing else.
    fn move_cursor(&mut self, cursor: &VersionName, newest: &Version) {
        let is_cursor = |version: &Version| !version.is_snapshot() && version.name == *cursor;
        self.versions.retain(|version| !is_cursor(version));
        let bookmark = Version { kind: VersionKind::Bookmark, name: cursor.clone(), userrefs: 0, ..newest.clone() };
        let place = self.versions.partition_point(|version| version.order() < bookmark.order());
        self.versions.insert(place.min(self.versions.len()), bookmark);
    }
}
