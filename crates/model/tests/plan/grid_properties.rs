//! What holds for all grids.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use model::plan::prune::{
    Decision, GridInterval, KeepRule, PruneSide, PruneView, RetentionGrid, SnapshotVerdict, plan_pruning, verdicts,
};
use model::{UnixTime, Version};
use proptest::prelude::*;
use regex::Regex;

use crate::grid::{local, snapshots};

/// Intervals of 30 seconds to 5 minutes from short to long; those that keep all come first.
pub(crate) fn any_grid() -> impl Strategy<Value = RetentionGrid> {
    let interval = (1_u64..4, 3_u64..30, 0_u64..3);
    prop::collection::vec(interval, 1..4).prop_map(|mut intervals| {
        intervals.sort_by_key(|(_, tens, _)| *tens);
        let interval = |(repeat, tens, keep)| GridInterval {
            repeat,
            length: Duration::from_secs(10 * tens),
            keep: NonZeroU64::new(keep),
        };
        RetentionGrid::new(intervals.into_iter().map(interval).collect()).unwrap()
    })
}

/// Snapshots `a…` and `b…` at times that often coincide; the order of creation is not that of time.
fn any_snapshots() -> impl Strategy<Value = Arc<[Version]>> {
    prop::collection::vec((any::<bool>(), 0_i64..200), 0..30).prop_map(|list| {
        let name = |index: usize, a: bool| format!("{}{index}", if a { "a" } else { "b" });
        snapshots(list.into_iter().enumerate().map(|(index, (a, tens))| (name(index, a), 10 * tens)))
    })
}

fn rule(grid: RetentionGrid, regex: &str) -> KeepRule {
    KeepRule::Grid { grid, regex: Regex::new(regex).unwrap() }
}

fn any_rules() -> impl Strategy<Value = Vec<KeepRule>> {
    let regex = || prop::sample::select(vec!["a", "^b", "[0-4]", "", "zzz"]);
    let other = || regex().prop_map(|regex| Regex::new(regex).unwrap());
    let rule = prop_oneof![
        3 => (any_grid(), regex()).prop_map(|(grid, regex)| rule(grid, regex)),
        1 => (1_usize..4, other()).prop_map(|(count, regex)| KeepRule::LastN { count, regex: Some(regex) }),
        1 => (other(), any::<bool>()).prop_map(|(regex, negate)| KeepRule::Regex { regex, negate }),
    ];
    prop::collection::vec(rule, 1..4)
}

/// Bucket by bucket, as the grid is explained to people.
fn kept_by_the_book(intervals: &[GridInterval], matching: &[&Version]) -> Vec<Version> {
    let mut kept = Vec::new();
    let Some(mut young_edge) = matching.iter().map(|version| version.creation.0).max() else { return kept };
    for interval in intervals {
        for _ in 0..interval.repeat {
            let old_edge = young_edge - interval.length.as_secs() as i64;
            let mut bucket = matching.to_vec();
            bucket.retain(|version| version.creation.0 <= young_edge && version.creation.0 > old_edge);
            bucket.sort_by_key(|version| std::cmp::Reverse(version.creation));
            let keep = interval.keep.map_or(bucket.len(), |keep| keep.get() as usize);
            bucket.reverse();
            kept.extend(bucket.into_iter().take(keep).cloned());
            young_edge = old_edge;
        }
    }
    kept
}

fn prune(view: &PruneView, rules: &[KeepRule]) -> PruneView {
    let plan = plan_pruning(PruneSide::Local, std::slice::from_ref(view), rules);
    let fs = &plan.filesystems[0];
    let kept = fs.versions.iter().zip(&fs.decisions).filter(|(_, decision)| **decision != Decision::Destroy);
    PruneView { versions: kept.map(|(version, _)| version.clone()).collect(), ..view.clone() }
}

fn matching<'a>(regex: &Regex, view: &'a PruneView) -> Vec<&'a Version> {
    view.versions.iter().filter(|version| regex.is_match(version.name.as_str())).collect()
}

/// Where the buckets of each grid begin.
fn anchors(view: &PruneView, rules: &[KeepRule]) -> Vec<Option<UnixTime>> {
    let anchor = |rule: &KeepRule| match rule {
        KeepRule::Grid { regex, .. } => matching(regex, view).iter().map(|version| version.creation).max(),
        _ => None,
    };
    rules.iter().map(anchor).collect()
}

/// Whether a rule is about some snapshot and keeps at least one of those it is about.
fn matches_something(rule: &KeepRule, view: &PruneView) -> bool {
    match rule {
        KeepRule::NotReplicated { .. } => true,
        KeepRule::LastN { regex, .. } => {
            view.versions.iter().any(|v| regex.as_ref().is_none_or(|regex| regex.is_match(v.name.as_str())))
        }
        KeepRule::Regex { regex, negate } => {
            view.versions.iter().any(|version| regex.is_match(version.name.as_str()) != *negate)
        }
        KeepRule::Grid { regex, .. } => !matching(regex, view).is_empty(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_grid_keeps_what_going_from_bucket_to_bucket_keeps(versions in any_snapshots(), grid in any_grid()) {
        let view = local(versions);
        let regex = Regex::new("a").unwrap();
        let mut expected = kept_by_the_book(grid.intervals(), &matching(&regex, &view));
        expected.sort_by_key(Version::order);
        prop_assert_eq!(prune(&view, &[rule(grid, "a")]).versions.to_vec(), expected);
    }

    /// Buckets are counted from the youngest matching snapshot. As long as one of that age survives, the
    /// buckets stay where they are, and so does everything in them.
    #[test]
    fn pruning_again_destroys_nothing_more_where_the_youngest_survive(
        versions in any_snapshots(), rules in any_rules(),
    ) {
        let view = local(versions);
        let once = prune(&view, &rules);
        prop_assume!(anchors(&once, &rules) == anchors(&view, &rules));
        prop_assert_eq!(prune(&once, &rules).versions, once.versions);
    }

    /// A first interval that keeps all makes the youngest survive.
    #[test]
    fn a_grid_that_begins_with_keep_all_is_stable(versions in any_snapshots(), grid in any_grid()) {
        let first = GridInterval { repeat: 1, length: Duration::from_secs(1), keep: None };
        let intervals: Vec<GridInterval> = std::iter::once(first).chain(grid.intervals().iter().copied()).collect();
        let rules = [rule(RetentionGrid::new(intervals).unwrap(), "a")];
        let once = prune(&local(versions), &rules);
        prop_assert_eq!(prune(&once, &rules).versions, once.versions);
    }

    /// Otherwise pruning again may destroy more, as the buckets move into the past; but never all.
    #[test]
    fn pruning_over_and_over_ends_before_all_is_gone(versions in any_snapshots(), rules in any_rules()) {
        let mut view = local(versions);
        prop_assume!(rules.iter().any(|rule| matches_something(rule, &view)));
        loop {
            let next = prune(&view, &rules);
            prop_assert!(!next.versions.is_empty());
            if next.versions == view.versions {
                break;
            }
            view = next;
        }
    }

    #[test]
    fn verdicts_tell_what_the_plan_does(versions in any_snapshots(), rules in any_rules()) {
        let view = local(versions);
        let plan = plan_pruning(PruneSide::Local, std::slice::from_ref(&view), &rules);
        let verdicts: Vec<SnapshotVerdict> = verdicts(PruneSide::Local, &view, &rules);
        prop_assert_eq!(verdicts.len(), view.versions.len());
        for (verdict, decision) in verdicts.iter().zip(&plan.filesystems[0].decisions) {
            prop_assert_eq!(verdict.decision, *decision);
            prop_assert_eq!(verdict.kept_by.len() + verdict.rejected_by.len(), rules.len());
            match verdict.decision {
                Decision::KeptByRule(first) => prop_assert_eq!(verdict.kept_by.first(), Some(&first)),
                other => prop_assert!(other == Decision::Destroy && verdict.kept_by.is_empty()),
            }
        }
    }
}
