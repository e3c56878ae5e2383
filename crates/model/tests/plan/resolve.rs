use expect_test::expect;
use model::plan::replication::{FilesystemPlan, InitialReplication, ReplicationPolicy, plan_replication};
use model::plan::resolve::{ConflictPolicy, WhenDiverged, WhenNothingInCommon, WhenTokenIsDead};
use model::protection::ProtectionStrategy;
use model::view::{FilesystemView, View};

use crate::notation::{filesystem, partial, policy, view};

const ROLLBACK: ConflictPolicy = ConflictPolicy {
    diverged: WhenDiverged::RollbackReceiver,
    dead_token: WhenTokenIsDead::Discard,
    no_common: WhenNothingInCommon::Fail,
};
const ASIDE: ConflictPolicy = ConflictPolicy {
    diverged: WhenDiverged::Fail,
    dead_token: WhenTokenIsDead::Discard,
    no_common: WhenNothingInCommon::RenameAside,
};
const KEEP_TOKEN: ConflictPolicy = ConflictPolicy {
    diverged: WhenDiverged::Fail,
    dead_token: WhenTokenIsDead::Fail,
    no_common: WhenNothingInCommon::Fail,
};

fn with(conflicts: ConflictPolicy) -> ReplicationPolicy {
    ReplicationPolicy { conflicts, ..policy(InitialReplication::MostRecent, ProtectionStrategy::Resumability) }
}

fn action(sender: &str, receiver: FilesystemView, policy: &ReplicationPolicy) -> String {
    let (sender, receiver) = (view([("p/a", filesystem(sender))]), view([("p/a", receiver)]));
    plan_replication(&sender, &receiver, policy).filesystems[0].action.to_string()
}

fn told(table: &[(&str, &str)], policy: &ReplicationPolicy) -> String {
    let line = |(sender, receiver): &(&str, &str)| {
        format!("{sender} / {receiver}\n    {}\n", action(sender, filesystem(receiver), policy))
    };
    table.iter().map(line).collect()
}

#[test]
fn every_choice_is_off_unless_asked_for() {
    let default = ReplicationPolicy::default();
    assert_eq!(default.conflicts.diverged, WhenDiverged::Fail);
    assert_eq!(default.conflicts.dead_token, WhenTokenIsDead::Discard);
    assert_eq!(default.conflicts.no_common, WhenNothingInCommon::Fail);
}

#[test]
fn a_diverged_receiver_is_rolled_back_by_name_and_only_if_asked_for() {
    let table = [
        ("@a @b @c", "@a @x @y"),
        ("@a", "@a @x"),
        ("#a @b", "@a @x=y"),
        ("@a @b", "@s=a @x | received:a"),
        ("@a @b", "@a @x! | received:x"),
        ("@a @b", "@a @x!"),
        ("@a @b", "@a @x @y! | received:x"),
        ("@a @b", "@a #a @x"),
        ("@a @b", "@a @x #x"),
        ("@a @b", "placeholder @a @x"),
        ("@a @b", "@x"),
        ("@a @b", "@b @a"),
        ("placeholder", "@a"),
    ];
    expect![[r#"
        @a @b @c / @a @x @y
            roll the receiver back to @a, destroying @x, @y (diverged: rollback_receiver), then send from @a: @a => @b, @b => @c
        @a / @a @x
            roll the receiver back to @a, destroying @x (diverged: rollback_receiver)
        #a @b / @a @x=y
            roll the receiver back to @a, destroying @x (diverged: rollback_receiver), then send from #a: #a => @b
        @a @b / @s=a @x | received:a
            roll the receiver back to @s, destroying @x (diverged: rollback_receiver), then send from @a: @a => @b
        @a @b / @a @x! | received:x
            roll the receiver back to @a, destroying @x (diverged: rollback_receiver), then send from @a: @a => @b
        @a @b / @a @x!
            conflict: the receiver's latest snapshot is not present on sender, and the receiver cannot be rolled back to @a (diverged: rollback_receiver): @x is held by somebody else; nothing was destroyed
        @a @b / @a @x @y! | received:x
            conflict: the receiver's latest snapshot is not present on sender, and the receiver cannot be rolled back to @a (diverged: rollback_receiver): @y is held by somebody else; nothing was destroyed
        @a @b / @a #a @x
            roll the receiver back to @a, destroying @x (diverged: rollback_receiver), then send from @a: @a => @b
        @a @b / @a @x #x
            conflict: the receiver's latest snapshot is not present on sender, and the receiver cannot be rolled back to @a (diverged: rollback_receiver): bookmark #x is newer; nothing was destroyed
        @a @b / placeholder @a @x
            roll the receiver back to @a, destroying @x (diverged: rollback_receiver), then send from @a: @a => @b
        @a @b / @x
            conflict: no common snapshot or suitable bookmark between sender and receiver: newest on the sender @a, @b; newest on the receiver @x (to begin anew, in full, rename the receiver's filesystem, or let the job rename it with `conflict_resolution: {no_common: rename_aside}`)
        @a @b / @b @a
            conflict: sender and receiver have their common snapshots in different orders (one side was copied from elsewhere: rename the receiver's filesystem and begin anew)
        placeholder / @a
            conflict: sender filesystem is placeholder, but receiver filesystem is not (rename or destroy the receiver's, or leave the filesystem out of `filesystems`)
    "#]].assert_eq(&told(&table, &with(ROLLBACK)));
    let refused = action("@a @b @c", filesystem("@a @x @y"), &with(ASIDE));
    assert!(refused.starts_with("conflict: the receiver's latest snapshot is not present"), "{refused}");
}

#[test]
fn partial_state_on_what_diverged_goes_first() {
    let receiver = FilesystemView { partial: Some(partial(Some("x"), "y")), ..filesystem("@a @x") };
    let got = action("@a @b", receiver, &with(ROLLBACK));
    expect!["discard partial state (p/a@y is gone from the sender), then roll the receiver back to @a, destroying @x (diverged: rollback_receiver), then send from @a: @a => @b"].assert_eq(&got);
}

#[test]
fn an_unrelated_receiver_is_renamed_only_if_asked_for() {
    let table = [
        ("@a @b", "@x @y"),
        ("@a @b", "placeholder @x"),
        ("@a @b", ""),
        ("@a @b", "#x"),
        ("#a", "@x"),
        ("", "@x"),
        ("@a @b", "@a @x"),
        ("@a @b", "@b @a"),
    ];
    expect![[r#"
        @a @b / @x @y
            rename the receiver's filesystem, whose newest snapshot is @y, aside (no_common: rename_aside), then send in full (most_recent): full => @b
        @a @b / placeholder @x
            rename the receiver's filesystem, whose newest snapshot is @x, aside (no_common: rename_aside), then send in full (most_recent): full => @b
        @a @b / 
            send in full (most_recent): full => @b
        @a @b / #x
            send in full (most_recent): full => @b
        #a / @x
            conflict: no snapshots available on sender side (nothing has taken one yet, or `filesystems` means another one)
         / @x
            conflict: no snapshots available on sender side (nothing has taken one yet, or `filesystems` means another one)
        @a @b / @a @x
            conflict: the receiver's latest snapshot is not present on sender: last common @a; only on the sender @b; only on the receiver @x (if the latter may be lost, `zfs rollback -r` the receiver's filesystem to @a, or let the job do so with `conflict_resolution: {diverged: rollback_receiver}`)
        @a @b / @b @a
            conflict: sender and receiver have their common snapshots in different orders (one side was copied from elsewhere: rename the receiver's filesystem and begin anew)
    "#]].assert_eq(&told(&table, &with(ASIDE)));
    let refused = action("@a @b", filesystem("@x"), &with(ROLLBACK));
    assert!(refused.starts_with("conflict: no common snapshot"), "{refused}");
    let forbidden = ReplicationPolicy { initial: InitialReplication::Fail, ..with(ASIDE) };
    let refused = action("@a @b", filesystem("@x"), &forbidden);
    assert!(
        refused.starts_with("conflict: automatic conflict resolution for initial replication is disabled in config (")
    );
    let moved = FilesystemView { partial: Some(partial(Some("x"), "b")), ..filesystem("@x") };
    let got = action("@a @b", moved, &with(ASIDE));
    assert!(got.starts_with("rename the receiver's filesystem"), "partial state moves along: {got}");
}

fn plan(sender: &View, receiver: &View, policy: &ReplicationPolicy) -> String {
    let line = |plan: &FilesystemPlan| match &plan.after {
        Some(after) => format!("{} after {after}: {}\n", plan.name, plan.action),
        None => format!("{}: {}\n", plan.name, plan.action),
    };
    plan_replication(sender, receiver, policy).filesystems.iter().map(line).collect()
}

#[test]
fn what_is_below_moves_along_and_is_sent_anew() {
    let sender = view([
        ("p/a", filesystem("@a")),
        ("p/a b", filesystem("@c @d")),
        ("p/a/x", filesystem("@a @b")),
        ("p/a/x/y", filesystem("@f")),
        ("p/a/z", filesystem("placeholder")),
    ]);
    let receiver = view([
        ("p/a", filesystem("@o")),
        ("p/a b", filesystem("@c")),
        ("p/a/x", filesystem("@o")),
        ("p/a/z", filesystem("placeholder")),
        ("p/a/gone", filesystem("placeholder")),
    ]);
    expect![[r#"
        p/a/z: nothing to do: filesystem is placeholder
        p/a: rename the receiver's filesystem, whose newest snapshot is @o, with 3 below it, aside (no_common: rename_aside), then send in full (most_recent): full => @a
        p/a b: send from @c: @c => @d
        p/a/x after p/a: send in full (most_recent): full => @b
        p/a/x/y after p/a/x: send in full (most_recent): full => @f
    "#]].assert_eq(&plan(&sender, &receiver, &with(ASIDE)));
}

#[test]
fn nothing_is_renamed_with_a_base_below_it() {
    let sender = view([("p/a", filesystem("@a")), ("p/a/x", filesystem("@a @b")), ("p/a/y", filesystem("@a @b"))]);
    let receiver = view([
        ("p/a", filesystem("@o")),
        ("p/a/other", filesystem("@o")),
        ("p/a/x", filesystem("@a")),
        ("p/a/y", filesystem("@b @a")),
    ]);
    expect![[r#"
        p/a: conflict: no common snapshot or suitable bookmark between sender and receiver, and the receiver's filesystem cannot be renamed (no_common: rename_aside), because what is below would move along: p/a/other is not this job's, p/a/x has snapshots in common with the sender, p/a/y has snapshots in common with the sender
        p/a/y: conflict: sender and receiver have their common snapshots in different orders (one side was copied from elsewhere: rename the receiver's filesystem and begin anew)
        p/a/x: send from @a: @a => @b
    "#]].assert_eq(&plan(&sender, &receiver, &with(ASIDE)));
}

#[test]
fn nothing_arrives_below_an_interrupted_first_receive_that_is_kept() {
    let sender = || view([("p/a", filesystem("@a")), ("p/a/b/c", filesystem("@a")), ("p/d", filesystem("@a"))]);
    let plan = |conflicts, at_a: &str| {
        let receiver = FilesystemView { partial: Some(partial(None, "gone")), ..filesystem(at_a) };
        let plan = plan_replication(&sender(), &view([("p/a", receiver)]), &with(conflicts));
        plan.filesystems.iter().map(|plan| format!("{}: {}\n", plan.name, plan.action)).collect::<String>()
    };
    let told = plan(KEEP_TOKEN, "")
        + "onto a placeholder:\n"
        + &plan(KEEP_TOKEN, "placeholder")
        + "discarded:\n"
        + &plan(ROLLBACK, "");
    expect![[r#"
        p/a: conflict: what an interrupted step left on the receiver cannot be resumed: p/a@gone is gone from the sender; it is kept (dead_token: fail) until it is discarded on the receiver with `zfs receive -A ROOT/p/a`, ROOT being the job's `root_fs` there, of a sink with the client's name below it
        p/a/b/c: conflict: what an interrupted step left on the receiver cannot be resumed: p/a@gone is gone from the sender; it is kept (dead_token: fail) until it is discarded on the receiver with `zfs receive -A ROOT/p/a`, ROOT being the job's `root_fs` there, of a sink with the client's name below it
        p/d: send in full (most_recent): full => @a
        onto a placeholder:
        p/a: conflict: what an interrupted step left on the receiver cannot be resumed: p/a@gone is gone from the sender; it is kept (dead_token: fail) until it is discarded on the receiver with `zfs receive -A ROOT/p/a`, ROOT being the job's `root_fs` there, of a sink with the client's name below it
        p/a/b/c: send in full (most_recent): full => @a
        p/d: send in full (most_recent): full => @a
        discarded:
        p/a: discard partial state (p/a@gone is gone from the sender), then send in full (most_recent): full => @a
        p/a/b/c: send in full (most_recent): full => @a
        p/d: send in full (most_recent): full => @a
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_dead_token_is_kept_if_asked_for() {
    let unreadable = || {
        let mut partial = partial(None, "b");
        partial.contents = Err("checksum differs".into());
        partial
    };
    let table = [
        ("@a @c", "@a", partial(Some("a"), "b")),
        ("@b @c", "@0 @b", partial(Some("a"), "c")),
        ("@a @b", "", unreadable()),
        ("@a @b @c", "@a", partial(Some("a"), "b")),
        // nothing is to be sent, and nothing to be discarded
        ("@a @b", "@a @b", partial(Some("a"), "b")),
        ("", "", partial(None, "b")),
    ];
    let mut told = String::new();
    for (sender, receiver, partial) in table {
        let on_receiver = FilesystemView { partial: Some(partial), ..filesystem(receiver) };
        told += &format!("{sender} / {receiver}\n    {}\n", action(sender, on_receiver, &with(KEEP_TOKEN)));
    }
    expect![[r#"
        @a @c / @a
            conflict: what an interrupted step left on the receiver cannot be resumed: p/a@b is gone from the sender; it is kept (dead_token: fail) until it is discarded on the receiver with `zfs receive -A ROOT/p/a`, ROOT being the job's `root_fs` there, of a sink with the client's name below it
        @b @c / @0 @b
            conflict: what an interrupted step left on the receiver cannot be resumed: the version that it starts from is gone from the sender; it is kept (dead_token: fail) until it is discarded on the receiver with `zfs receive -A ROOT/p/a`, ROOT being the job's `root_fs` there, of a sink with the client's name below it
        @a @b / 
            conflict: what an interrupted step left on the receiver cannot be resumed: the resume token cannot be read: checksum differs; it is kept (dead_token: fail) until it is discarded on the receiver with `zfs receive -A ROOT/p/a`, ROOT being the job's `root_fs` there, of a sink with the client's name below it
        @a @b @c / @a
            resume: @a => @b, @b => @c
        @a @b / @a @b
            confirm @b: move the replication cursor, hold it on the receiver
         / 
            conflict: no snapshots available on sender side (nothing has taken one yet, or `filesystems` means another one)
    "#]].assert_eq(&told);
}
