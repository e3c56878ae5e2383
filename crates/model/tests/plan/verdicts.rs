use std::num::NonZeroU64;
use std::time::Duration;

use expect_test::expect;
use model::plan::prune::{CursorView, Decision, GridInterval, KeepRule, PruneSide, PruneView, RetentionGrid, verdicts};
use model::plan::prune::{SkipReason, SnapshotVerdict};
use model::{CreateTxg, Guid};
use regex::Regex;

use crate::notation::{dataset, guid, versions};

fn regex(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

fn rules() -> [KeepRule; 4] {
    // The snapshots are 100 seconds apart.
    let interval =
        |repeat, seconds| GridInterval { repeat, length: Duration::from_secs(seconds), keep: NonZeroU64::new(1) };
    let grid = RetentionGrid::new(vec![interval(1, 100), interval(1, 200)]).unwrap();
    [
        KeepRule::NotReplicated { keep_snapshot_at_cursor: true },
        KeepRule::LastN { count: 1, regex: Some(regex("^z")) },
        KeepRule::Grid { grid, regex: regex("^z") },
        KeepRule::Regex { regex: regex("^z|^old"), negate: true },
    ]
}

fn view(cursor: Guid) -> PruneView {
    PruneView {
        name: dataset("p/a"),
        skip: None,
        versions: versions("@old @z1 @z2! @z3 @man #zrepl=z4 @z4"),
        cursor: CursorView::At(cursor, CreateTxg(60)),
        common_base: None,
    }
}

fn told(verdicts: &[SnapshotVerdict], rules: &[KeepRule]) -> String {
    verdicts.iter().map(|verdict| format!("{}\n", verdict.explain(rules))).collect()
}

#[test]
fn every_rule_says_why() {
    let rules = rules();
    let verdicts = verdicts(PruneSide::Sender, &view(guid("z4")), &rules);
    expect![[r#"
        @old: destroy; rule 1, not_replicated, lets it go: it is replicated; rule 2, last_n 1 of `^z`, lets it go: its name does not match; rule 3, grid `1x100s | 1x200s` of `^z`, lets it go: its name does not match; rule 4, regex not `^z|^old`, lets it go: its name matches
        @z1: destroy; rule 1, not_replicated, lets it go: it is replicated; rule 2, last_n 1 of `^z`, lets it go: it is not among the newest; rule 3, grid `1x100s | 1x200s` of `^z`, lets it go: it is older than the grid reaches; rule 4, regex not `^z|^old`, lets it go: its name matches
        @z2: keep, held; rule 1, not_replicated, lets it go: it is replicated; rule 2, last_n 1 of `^z`, lets it go: it is not among the newest; rule 3, grid `1x100s | 1x200s` of `^z`, lets it go: it is older than the grid reaches; rule 4, regex not `^z|^old`, lets it go: its name matches
        @z3: keep; rule 1, not_replicated, lets it go: it is replicated; rule 2, last_n 1 of `^z`, lets it go: it is not among the newest; rule 3, grid `1x100s | 1x200s` of `^z`, keeps it; rule 4, regex not `^z|^old`, lets it go: its name matches
        @man: keep; rule 1, not_replicated, lets it go: it is replicated; rule 2, last_n 1 of `^z`, lets it go: its name does not match; rule 3, grid `1x100s | 1x200s` of `^z`, lets it go: its name does not match; rule 4, regex not `^z|^old`, keeps it
        @z4: keep; rule 1, not_replicated, keeps it; rule 2, last_n 1 of `^z`, keeps it; rule 3, grid `1x100s | 1x200s` of `^z`, keeps it; rule 4, regex not `^z|^old`, lets it go: its name matches
    "#]].assert_eq(&told(&verdicts, &rules));
}

#[test]
fn what_goes_is_told_with_the_reason_of_every_rule() {
    let rules = rules();
    let verdicts = verdicts(PruneSide::Sender, &view(guid("z4")), &rules);
    let goes = verdicts.iter().filter(|verdict| verdict.decision == Decision::Destroy);
    let told: String =
        goes.map(|verdict| format!("{}: {}\n", verdict.version, verdict.explain_rejections(&rules))).collect();
    expect![[r#"
        @old: not_replicated (it is replicated), last_n 1 of `^z` (its name does not match), grid `1x100s | 1x200s` of `^z` (its name does not match), regex not `^z|^old` (its name matches)
        @z1: not_replicated (it is replicated), last_n 1 of `^z` (it is not among the newest), grid `1x100s | 1x200s` of `^z` (it is older than the grid reaches), regex not `^z|^old` (its name matches)
    "#]].assert_eq(&told);
}

#[test]
fn a_skipped_filesystem_has_no_verdicts() {
    let view = PruneView { skip: Some(SkipReason::Placeholder), ..view(guid("z4")) };
    assert_eq!(verdicts(PruneSide::Receiver, &view, &rules()), []);
}

#[test]
fn without_rules_nobody_says_anything() {
    let verdicts = verdicts(PruneSide::Local, &view(guid("z4")), &[]);
    assert_eq!(verdicts.len(), 6);
    assert!(verdicts.iter().all(|verdict| verdict.kept_by.is_empty() && verdict.rejected_by.is_empty()));
    assert_eq!(told(&verdicts[..1], &[]), "@old: keep, not subject to rules\n");
}
