//! What is stale by the rules of zrepl 0.7, but for step holds without a cursor, for a person who asks for it.
//!
//! [`crate::plan::protection::stale_protections`], which needs nobody's word, spares more: an older
//! cursor may be all that is left of the base of a receiver that lost its newest snapshots.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Abstraction, AbstractionKind, Query};
use crate::name::{DatasetName, JobName};
use crate::protection::ProtectionKind;
use crate::version::CreateTxg;

/// Abstractions by whether anybody needs them, each in the given order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Needed.
    pub live: Vec<Abstraction>,
    /// Not needed.
    pub stale: Vec<Abstraction>,
}

/// A question that does not show enough to tell what is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StalenessError {
    /// Step holds are judged by cursors.
    #[error("what is stale of step-hold and replication-cursor-bookmark-v2 can be told only if `--type` has both")]
    Kinds,
    /// The newest one decides about the others.
    #[error("what is stale can be told only without a range of createtxg")]
    Range,
}

impl Query {
    /// Fails if the answer does not show what is stale.
    pub fn check_shows_stale(&self) -> Result<(), StalenessError> {
        if !self.createtxg.is_unbounded() {
            return Err(StalenessError::Range);
        }
        match self.kinds.contains(&AbstractionKind::STEP_HOLD) == self.kinds.contains(&AbstractionKind::CURSOR) {
            true => Ok(()),
            false => Err(StalenessError::Kinds),
        }
    }
}

/// Sorts all abstractions of some filesystems. For each filesystem and job: all cursors and all
/// last-received holds but the newest are stale, and step holds that are not newer than the cursor,
/// without a cursor none. Tentative cursors and what belongs to no job are live.
pub fn sort_out(all: Vec<Abstraction>) -> Sorted {
    let mut newest: BTreeMap<(DatasetName, JobName, ProtectionKind), CreateTxg> = BTreeMap::new();
    for one in &all {
        if let (AbstractionKind::Protection(kind), Some(job)) = (one.kind, &one.job) {
            let txg = newest.entry((one.dataset.clone(), job.clone(), kind)).or_insert(one.version.createtxg);
            *txg = one.version.createtxg.max(*txg);
        }
    }
    let (stale, live) = all.into_iter().partition(|one| {
        let (AbstractionKind::Protection(kind), Some(job)) = (one.kind, &one.job) else { return false };
        let newest = |kind| newest.get(&(one.dataset.clone(), job.clone(), kind)).copied();
        let txg = one.version.createtxg;
        match (kind, newest(ProtectionKind::Cursor)) {
            (ProtectionKind::TentativeCursor, _) => false,
            (ProtectionKind::StepHold, Some(cursor)) => txg <= cursor,
            // zrepl takes all but the newest; an older one may be on the only common base, see
            // `stale_protections`.
            (ProtectionKind::StepHold, None) => false,
            (kind, _) => newest(kind).is_some_and(|newest| txg < newest),
        }
    });
    Sorted { live, stale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abstraction::abandoned;
    use crate::name::{HoldTag, VersionName};
    use crate::version::{Guid, UnixTime, Version, VersionKind};

    /// `fs kind job txg`.
    fn abstractions(lines: &str) -> Vec<Abstraction> {
        let one = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [fs, kind, job, txg] = words[..] else { panic!("{line}") };
            let (txg, dataset) = (txg.parse().unwrap(), DatasetName::parse(fs).unwrap());
            let version = |kind, name: &str| Version {
                kind,
                name: VersionName::parse(name).unwrap(),
                guid: Guid(txg),
                createtxg: CreateTxg(txg),
                creation: UnixTime(0),
                userrefs: 0,
            };
            let hold = |prefix: &str| {
                let tag = HoldTag::parse(&format!("{prefix}{job}")).unwrap();
                Abstraction::of_hold(&dataset, &version(VersionKind::Snapshot, &txg.to_string()), &tag)
            };
            let mark = |name: &str| Abstraction::of_bookmark(&dataset, &version(VersionKind::Bookmark, name));
            match kind {
                "step" => hold("zrepl_STEP_J_"),
                "last" => hold("zrepl_last_received_J_"),
                "cursor" => mark(&format!("zrepl_CURSOR_G_{txg:016x}_J_{job}")),
                "tentative" => mark(&format!("zrepl_CURSORTENTATIVE__G_{txg:016x}_J_{job}")),
                _ => mark("zrepl_replication_cursor"),
            }
            .unwrap()
        };
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(one).collect()
    }

    fn stale(lines: &str) -> Vec<String> {
        let all = abstractions(lines);
        let sorted = sort_out(all.clone());
        assert_eq!(sorted.live.len() + sorted.stale.len(), all.len());
        sorted.stale.iter().map(|one| format!("{} {}", one.kind, one.full_path())).collect()
    }

    #[test]
    fn each_filesystem_and_job_has_its_own_newest() {
        let lines = "
            p/a cursor j 5
            p/a cursor j 7
            p/a cursor other 3
            p/b cursor j 4
            p/a step j 7
            p/a step j 8
            p/a step other 3
            p/b step other 2
            p/b step other 9
            p/a tentative j 1
            p/a v1 - 1
            q last sink 3
            q last sink 4
            q last other 2";
        assert_eq!(
            stale(lines),
            [
                "replication-cursor-bookmark-v2 p/a#zrepl_CURSOR_G_0000000000000005_J_j",
                "step-hold p/a@7",
                "step-hold p/a@3",
                "last-received-hold q@3",
            ]
        );
        assert_eq!(stale(""), [""; 0]);
    }

    #[test]
    fn what_is_stale_shows_only_in_whole_answers() {
        let kinds = |kinds: &[AbstractionKind]| Query { kinds: kinds.iter().copied().collect(), ..Query::default() };
        let last = AbstractionKind::Protection(ProtectionKind::LastReceivedHold);
        assert_eq!(Query::default().check_shows_stale(), Ok(()));
        assert_eq!(kinds(&[last]).check_shows_stale(), Ok(()));
        assert_eq!(kinds(&[AbstractionKind::STEP_HOLD]).check_shows_stale(), Err(StalenessError::Kinds));
        assert_eq!(kinds(&[AbstractionKind::CURSOR, last]).check_shows_stale(), Err(StalenessError::Kinds));
        let range = Query { createtxg: crate::abstraction::TxgRange::parse("[1,~").unwrap(), ..Query::default() };
        assert_eq!(range.check_shows_stale(), Err(StalenessError::Range));
    }

    #[test]
    fn a_question_is_narrowed_by_job_and_kind() {
        let all = abstractions("p/a step j 1\np/a last other 2\np/a v1 - 3\np/b cursor j 4");
        let found = |query: Query| {
            all.iter().filter(|one| query.matches(one)).map(|one| one.version.createtxg.0).collect::<Vec<_>>()
        };
        let job = Some(JobName::parse("j").unwrap());
        assert_eq!(found(Query { job, ..Query::default() }), [1, 3, 4], "a cursor v1 is every job's");
        let filesystems = super::super::Filesystems::parse("p/a").unwrap();
        assert_eq!(found(Query { filesystems, ..Query::default() }), [1, 2, 3]);
        let kinds = [AbstractionKind::CursorV1].into_iter().collect();
        assert_eq!(found(Query { kinds, ..Query::default() }), [3]);
    }

    #[test]
    fn abandoned_is_what_no_job_of_the_configuration_looks_after() {
        let all = abstractions(
            "p/a cursor mine 1\np/out cursor mine 2\np/a step gone 3\np/out step gone 4\np/out step other 5\np/a v1 - 6",
        );
        let job = |name: &str| JobName::parse(name).unwrap();
        let configured = [job("mine"), job("other")].into_iter().collect();
        let found = abandoned(&all, &job("mine"), |name| name.as_str() == "p/a", &configured);
        assert_eq!(found.iter().map(|one| one.version.createtxg.0).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn words_are_those_of_zrepl() {
        let all = abstractions("p/a step j 1");
        assert_eq!(all[0].to_string(), "step-hold \"zrepl_STEP_J_j\" on p/a@1");
        let all = abstractions("p/a cursor j 255");
        assert_eq!(all[0].to_string(), "replication-cursor-bookmark-v2 p/a#zrepl_CURSOR_G_00000000000000ff_J_j");
    }
}
