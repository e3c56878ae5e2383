use expect_test::expect;
use model::plan::prune::{CursorView, KeepRule, PruneSide, PruneView, SkipReason, plan_pruning};
use model::{CreateTxg, UnixTime, Version};
use regex::Regex;

use crate::notation::{dataset, guid, unsorted, versions};

fn last_n(count: usize, regex: &str) -> KeepRule {
    KeepRule::LastN { count, regex: (!regex.is_empty()).then(|| Regex::new(regex).unwrap()) }
}

fn regex(regex: &str) -> KeepRule {
    KeepRule::Regex { regex: Regex::new(regex).unwrap(), negate: false }
}

fn not_regex(regex: &str) -> KeepRule {
    KeepRule::Regex { regex: Regex::new(regex).unwrap(), negate: true }
}

fn not_replicated(keep_snapshot_at_cursor: bool) -> KeepRule {
    KeepRule::NotReplicated { keep_snapshot_at_cursor }
}

fn prune_view(text: &str) -> PruneView {
    PruneView {
        name: dataset("p/a"),
        skip: None,
        versions: versions(text),
        cursor: CursorView::NotReplicating,
        common_base: None,
    }
}

fn destroyed(side: PruneSide, view: PruneView, rules: &[KeepRule]) -> String {
    let plan = plan_pruning(side, &[view], rules);
    plan.filesystems[0].destroys().map(|version| version.name.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_snapshot_goes_if_every_rule_lets_it_go() {
    let foobar = "@foo_123 @foo_456 @bar_123";
    let zrepl = "@zrepl_foobar @zrepl @barfoo";
    let table: [(&str, &[KeepRule], &str); 10] = [
        (foobar, &[regex("foo_")], "bar_123"),
        (foobar, &[regex("foo_"), regex("bar_")], ""),
        (foobar, &[regex("notInS1"), regex("bar_")], "foo_123 foo_456"),
        (foobar, &[], ""),
        (zrepl, &[regex("^zrepl_")], "zrepl barfoo"),
        (zrepl, &[not_regex("^zrepl_")], "zrepl_foobar"),
        ("@foo_zrepl_x @bar", &[regex("zrepl_")], "bar"),
        ("@a1 @b1 @a2 @b2 @a3 @b3", &[last_n(2, "^a"), last_n(2, "^b")], "a1 b1"),
        ("@a1 @b1 @a2", &[last_n(4, "a")], "b1"),
        ("#x @a #y", &[regex("z")], "a"),
    ];
    for (snapshots, rules, expected) in table {
        assert_eq!(destroyed(PruneSide::Local, prune_view(snapshots), rules), expected, "{snapshots} {rules:?}");
    }
}

#[test]
fn last_n_goes_by_creation_then_by_the_greater_name() {
    let minutes = [10, 20, 15, 30, 30];
    let at = |(mut version, minute): (Version, i64)| {
        version.creation = UnixTime(minute * 60);
        version
    };
    let versions = Version::sorted(unsorted("@1 @2 @3 @4 @5").into_iter().zip(minutes).map(at).collect());
    for (count, expected) in [(2, "1 2 3"), (1, "1 2 3 4"), (4, "1"), (100, ""), (5, "")] {
        let view = PruneView { versions: versions.clone(), ..prune_view("") };
        assert_eq!(destroyed(PruneSide::Local, view, &[last_n(count, "")]), expected, "last_n {count}");
    }
}

#[test]
fn not_replicated_on_the_sender_goes_by_the_age_of_the_cursor() {
    let (s3, s4) = (CursorView::At(guid("s3"), CreateTxg(30)), CursorView::At(guid("s4"), CreateTxg(40)));
    let all = "@s1 @s2 #c=s3 @s3 @s4";
    let table = [
        // cursor, versions, destroyed if the snapshot at the cursor stays, if it may go
        (s3, all, "s1 s2", "s1 s2 s3"),
        (s3, "@s1 @s2 #c=s3 @s4", "s1 s2", "s1 s2"),
        (s4, "@s1 @s2 @s3 #c=s4 @s4", "s1 s2 s3", "s1 s2 s3 s4"),
        // without its bookmark the snapshot is all that is left of the base
        (s3, "@s1 @s2 @s3 @s4", "s1 s2", "s1 s2"),
        (CursorView::Missing, all, "", ""),
    ];
    for (cursor, versions, default, cursor_may_go) in table {
        let destroyed = |keep| {
            let view = PruneView { cursor, ..prune_view(versions) };
            destroyed(PruneSide::Sender, view, &[not_replicated(keep)])
        };
        assert_eq!(destroyed(true), default, "{cursor:?} {versions}");
        assert_eq!(destroyed(false), cursor_may_go, "{cursor:?} {versions}, cursor may go");
    }
}

#[test]
fn not_replicated_on_the_receiver_goes_by_the_place_of_the_cursors_snapshot() {
    let s3 = CursorView::At(guid("s3"), CreateTxg(1));
    for (cursor, versions, expected) in [
        (s3, "@s1 @s2 @s3 @s4", "s1 s2"),
        (s3, "@s1 @s2 @s4", ""),
        (s3, "@s1 @s2 @s3", "s1 s2"),
        (CursorView::Missing, "@s1 @s2 @s3", ""),
    ] {
        for keep in [true, false] {
            let view = PruneView { cursor, ..prune_view(versions) };
            assert_eq!(destroyed(PruneSide::Receiver, view, &[not_replicated(keep)]), expected, "{versions}");
        }
    }
}

#[test]
fn rules_that_do_not_need_the_cursor_work_without_it() {
    let view = PruneView { cursor: CursorView::Missing, ..prune_view("@a @b @c") };
    assert_eq!(destroyed(PruneSide::Sender, view.clone(), &[last_n(1, "")]), "a b");
    assert_eq!(destroyed(PruneSide::Receiver, view.clone(), &[last_n(1, "")]), "a b");
    assert_eq!(destroyed(PruneSide::Sender, view, &[last_n(1, ""), not_replicated(true)]), "");
}

#[test]
fn two_rules_on_the_cursor_each_have_their_say() {
    let cursor = CursorView::At(guid("b"), CreateTxg(20));
    let view = PruneView { cursor, ..prune_view("@a #b @b @c") };
    assert_eq!(destroyed(PruneSide::Sender, view, &[not_replicated(false), not_replicated(true)]), "a");
}

#[test]
fn the_base_is_never_destroyed() {
    let nothing_kept = [regex("^$")];
    let table = [
        // side, versions, known base, destroyed
        // The sides have diverged: what is live on the receiver belongs to its newest snapshot.
        (PruneSide::Receiver, "@a @b @c", Some("b"), "a"),
        (PruneSide::Receiver, "@a @b @c", None, "a b"),
        (PruneSide::Receiver, "@a @b @c", Some("x"), "a b"),
        (PruneSide::Receiver, "@a #b", None, ""),
        (PruneSide::Sender, "@a @b @c", Some("b"), "a c"),
        // Without the job's cursor on it, a bookmark is somebody else's and may go at any time.
        (PruneSide::Sender, "@a #b @b @c", Some("b"), "a c"),
        (PruneSide::Sender, "@a @b @c", None, "a b c"),
        (PruneSide::Local, "@a @b @c", None, "a b c"),
    ];
    for (side, versions, base, expected) in table {
        let view = PruneView { cursor: CursorView::Missing, common_base: base.map(guid), ..prune_view(versions) };
        assert_eq!(destroyed(side, view, &nothing_kept), expected, "{side} {versions} {base:?}");
    }
    let at_cursor = |cursor: &str, versions: &str| {
        let cursor = CursorView::At(guid(cursor), CreateTxg(20));
        let view = PruneView { cursor, common_base: Some(guid("b")), ..prune_view(versions) };
        destroyed(PruneSide::Sender, view, &nothing_kept)
    };
    assert_eq!(at_cursor("b", "@a #b @b @c"), "a b c", "the cursor stands for the base");
    assert_eq!(at_cursor("a", "#a @a #b @b @c"), "a c", "the cursor is elsewhere");
}

#[test]
fn every_decision_has_its_reason_in_words() {
    let view = PruneView {
        cursor: CursorView::At(guid("s4"), CreateTxg(40)),
        ..prune_view("@s1 @s2! @keep_s3 #zrepl=s4 @s4 @s5 @s6")
    };
    let rules = [not_replicated(true), last_n(1, ""), regex("^keep_"), last_n(2, "^s")];
    let plan = plan_pruning(PruneSide::Sender, std::slice::from_ref(&view), &rules);
    expect![[r#"
        p/a@s1: destroy: no rule keeps it
        p/a@s2: keep: held
        p/a@keep_s3: keep: rule 3, regex `^keep_`
        p/a@s4: keep: rule 1, not_replicated
        p/a@s5: keep: rule 1, not_replicated
        p/a@s6: keep: rule 1, not_replicated
    "#]]
    .assert_eq(&plan.filesystems[0].explain(&rules).to_string());

    let rules = [last_n(1, ""), not_regex("s")];
    let plan = plan_pruning(PruneSide::Receiver, &[view], &rules);
    expect![[r#"
        p/a@s1: destroy: no rule keeps it
        p/a@s2: keep: held
        p/a@keep_s3: destroy: no rule keeps it
        p/a@s4: keep: base of the next replication step
        p/a@s5: destroy: no rule keeps it
        p/a@s6: keep: rule 1, last_n 1
    "#]]
    .assert_eq(&plan.filesystems[0].explain(&rules).to_string());
}

#[test]
fn skipped_filesystems_are_told_and_left_alone() {
    let skipped = |name: &str, skip| PruneView { name: dataset(name), skip: Some(skip), ..prune_view("@a @b") };
    let views = [skipped("p/b", SkipReason::Placeholder), skipped("p/a", SkipReason::NotOnSender)];
    let plan = plan_pruning(PruneSide::Receiver, &views, &[regex("x")]);
    let told: String = plan.filesystems.iter().map(|fs| fs.explain(&[]).to_string()).collect();
    expect![[r#"
        p/a: skipped: filesystem has no correspondence on sender
        p/b: skipped: filesystem is placeholder
    "#]]
    .assert_eq(&told);
    assert!(plan.filesystems.iter().all(|fs| fs.destroys().count() == 0));
}

#[test]
fn what_counts_as_replicated_is_told_for_the_status() {
    let replicated = |side, versions: &str, rules: &[KeepRule]| {
        let view = PruneView { cursor: CursorView::At(guid("b"), CreateTxg(20)), ..prune_view(versions) };
        plan_pruning(side, &[view], rules).filesystems[0].replicated.to_vec()
    };
    assert_eq!(replicated(PruneSide::Sender, "@a #b @b @c", &[not_replicated(true)]), [true, false, false, false]);
    assert_eq!(replicated(PruneSide::Sender, "@a #b @b @c", &[not_replicated(false)]), [true, false, true, false]);
    assert_eq!(replicated(PruneSide::Receiver, "@a @b @c", &[]), [true, false, false]);
}
