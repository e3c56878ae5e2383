use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use model::plan::prune::{
    CursorView, GridError, GridInterval, KeepRule, PruneSide, PruneView, RetentionGrid, plan_pruning,
};
use model::{CreateTxg, Guid, UnixTime, Version, VersionKind, VersionName};
use regex::Regex;

use crate::notation::dataset;

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// `keep` 0 is all.
pub(crate) fn interval(repeat: u64, seconds: u64, keep: u64) -> GridInterval {
    GridInterval { repeat, length: Duration::from_secs(seconds), keep: NonZeroU64::new(keep) }
}

pub(crate) fn grid_rule(intervals: &[GridInterval], regex: &str) -> KeepRule {
    let grid = RetentionGrid::new(intervals.to_vec()).unwrap();
    KeepRule::Grid { grid, regex: Regex::new(regex).unwrap() }
}

/// Snapshots taken at these times, in this order of creation.
pub(crate) fn snapshots(taken: impl IntoIterator<Item = (String, i64)>) -> Arc<[Version]> {
    let version = |(index, (name, second)): (usize, (String, i64))| Version {
        kind: VersionKind::Snapshot,
        name: VersionName::parse(&name).unwrap(),
        guid: Guid(index as u64 + 1),
        createtxg: CreateTxg(index as u64 + 1),
        creation: UnixTime(second),
        userrefs: 0,
    };
    taken.into_iter().enumerate().map(version).collect()
}

pub(crate) fn local(versions: Arc<[Version]>) -> PruneView {
    PruneView { name: dataset("p/a"), skip: None, versions, cursor: CursorView::NotReplicating, common_base: None }
}

fn rejected(versions: Arc<[Version]>, rules: &[KeepRule]) -> String {
    let plan = plan_pruning(PruneSide::Local, &[local(versions)], rules);
    plan.filesystems[0].destroys().map(|version| version.name.to_string()).collect::<Vec<_>>().join(" ")
}

/// Which ages go, of snapshots of these ages in the order of creation.
fn rejected_ages(unit: u64, ages: &[i64], intervals: &[GridInterval]) -> String {
    let taken = ages.iter().map(|age| (age.to_string(), 1_000_000 - age * unit as i64));
    rejected(snapshots(taken), &[grid_rule(intervals, "")])
}

#[test]
fn the_oldest_of_each_bucket_stay() {
    let table: [(u64, &[i64], &[GridInterval], &str); 12] = [
        (MINUTE, &[40, 30, 20, 10, 0], &[interval(3, 10 * MINUTE, 1)], "40 30"),
        (SECOND, &[5, 4, 3, 2, 1], &[interval(1, 60, 2)], "3 2 1"),
        (SECOND, &[61, 60, 2, 1, 0], &[interval(1, MINUTE, 0), interval(1, MINUTE, 1)], "60"),
        (
            MINUTE,
            &[120, 91, 90, 75, 30, 26, 25, 19, 11, 9, 8, 6, 0],
            &[
                interval(1, 10 * MINUTE, 0),
                interval(1, 10 * MINUTE, 1),
                interval(1, 10 * MINUTE, 2),
                interval(1, HOUR, 1),
            ],
            "120 91 90 30 11",
        ),
        (MINUTE, &[], &[interval(1, HOUR, 1)], ""),
        (MINUTE, &[0], &[interval(1, HOUR, 1)], ""),
        (MINUTE, &[59, 0], &[interval(1, HOUR, 1)], "0"),
        (MINUTE, &[120, 60, 0], &[interval(1, HOUR, 1), interval(1, HOUR, 1)], "120"),
        (MINUTE, &[120, 119, 60, 0], &[interval(2, HOUR, 1)], "120 60"),
        (
            MINUTE,
            &[240, 230, 180, 170, 120, 110, 70, 60, 50, 10, 0],
            &[interval(1, HOUR, 0), interval(3, HOUR, 1)],
            "240 180 120 70 60",
        ),
        (
            MINUTE,
            &[480, 479, 300, 299, 180, 179, 60, 59, 0],
            &[interval(1, HOUR, 0), interval(2, 2 * HOUR, 1), interval(1, 3 * HOUR, 1)],
            "480 300 180 60",
        ),
        (SECOND, &[25, 24, 15, 14, 1, 0], &[interval(2, 10, 1)], "25 24 14 0"),
    ];
    for (unit, ages, intervals, expected) in table {
        assert_eq!(rejected_ages(unit, ages, intervals), expected, "{ages:?} {intervals:?}");
    }
}

#[test]
fn of_equal_times_the_last_counts_as_the_oldest() {
    let same = |name: &str| (name.to_owned(), 5);
    let versions = snapshots([same("a"), same("b"), same("c")]);
    assert_eq!(rejected(versions, &[grid_rule(&[interval(1, HOUR, 1)], "")]), "a b");
}

#[test]
fn each_grid_has_its_own_names_and_its_own_now() {
    let at = |list: &[(&str, i64)]| snapshots(list.iter().map(|(name, second)| ((*name).to_owned(), *second)));
    let two = at(&[("p1_a", 4), ("p2_a", 5), ("p1_b", 14), ("p2_b", 15), ("p1_c", 29), ("p2_c", 30)]);
    let grid = [interval(1, 10, 1), interval(1, 10, 1)];
    assert_eq!(rejected(two, &[grid_rule(&grid, "^p1_"), grid_rule(&grid, "^p2_")]), "p1_a p2_a");

    let hours = |hours: i64| 1_000_000 - hours * 1800;
    let mixed = at(&[("man", hours(6)), ("z3", hours(4)), ("z2", hours(1)), ("z1", hours(0))]);
    let not_z = KeepRule::Regex { regex: Regex::new("^z").unwrap(), negate: true };
    let hour = [interval(1, HOUR, 1)];
    assert_eq!(rejected(Arc::clone(&mixed), &[grid_rule(&hour, "^z"), not_z]), "z3 z1");
    assert_eq!(rejected(mixed, &[grid_rule(&hour, "^q")]), "man z3 z2 z1", "nothing matches");
}

#[test]
fn sizes_beyond_all_bounds_cost_nothing() {
    let huge = [interval(u64::MAX, u64::MAX, 1), interval(u64::MAX, u64::MAX, u64::MAX)];
    assert_eq!(rejected_ages(MINUTE, &[59, 0], &huge), "0");
    let edges = [("old".to_owned(), i64::MIN), ("new".to_owned(), i64::MAX)];
    assert_eq!(rejected(snapshots(edges.clone()), &[grid_rule(&huge, "")]), "", "each in its own bucket");
    let seconds = [interval(u64::MAX, 1, 1)];
    assert_eq!(rejected(snapshots(edges.clone()), &[grid_rule(&seconds, "")]), "old");
    assert_eq!(rejected(snapshots(edges), &[grid_rule(&[interval(u64::MAX, 2, 1)], "")]), "");
}

#[test]
fn a_grid_is_checked_once() {
    let new = |intervals: &[GridInterval]| RetentionGrid::new(intervals.to_vec()).map_err(|error| error.to_string());
    let shown = |intervals: &[GridInterval]| new(intervals).unwrap().to_string();
    let day = 24 * HOUR;
    let common = [interval(1, HOUR, 0), interval(24, HOUR, 1), interval(35, day, 1), interval(6, 30 * day, 2)];
    assert_eq!(shown(&common), "1x1h(keep=all) | 24x1h | 35x1d | 6x30d(keep=2)");
    assert_eq!(shown(&[interval(1, 90, 1), interval(1, 90 * MINUTE, 1)]), "1x90s | 1x90m");
    assert_eq!(new(&common).unwrap().intervals(), common);

    let half = MINUTE * 30;
    for good in [
        &[interval(24, HOUR, 1), interval(1, HOUR, 1)][..],
        &[interval(1, HOUR, 0), interval(1, half, 1)],
        &[interval(1, HOUR, 0), interval(1, half, 0), interval(1, 10 * MINUTE, 1)],
    ] {
        assert!(new(good).is_ok(), "{good:?}");
    }
    assert_eq!(
        new(&[interval(24, HOUR, 1), interval(1, half, 1)]).unwrap_err(),
        "grid interval 2 (30m) is shorter than the one before it (1h): order the intervals from short to long; \
         a shorter one may follow only where all before it are `keep=all`"
    );
    let third = [interval(1, half, 1), interval(1, HOUR, 0), interval(1, 10 * MINUTE, 1)];
    assert!(new(&third).unwrap_err().starts_with("grid interval 3 (10m) is shorter than the one before it (1h)"));
    assert_eq!(RetentionGrid::new(Vec::new()), Err(GridError::Empty));
    assert_eq!(RetentionGrid::new(vec![interval(0, 1, 1)]), Err(GridError::NoRepeat { position: 1 }));
    assert_eq!(
        RetentionGrid::new(vec![interval(1, 1, 1), interval(1, 0, 1)]),
        Err(GridError::NoLength { position: 2 })
    );
}
