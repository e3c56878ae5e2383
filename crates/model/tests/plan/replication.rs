use expect_test::expect;
use model::plan::endangered::endangered_base;
use model::plan::replication::{InitialReplication, ReplicationPolicy, plan_replication};
use model::protection::{ProtectionPolicy, ProtectionStrategy};
use model::view::{Encryption, FilesystemView, PartialReceive, View};

use crate::notation::{dataset, filesystem, partial, policy, unsorted, view};

use InitialReplication::{All, Fail, MostRecent};

const KEPT: ProtectionStrategy = ProtectionStrategy::Resumability;
const NOTHING: ProtectionStrategy = ProtectionStrategy::Nothing;

/// What is done for `p/a`.
fn action(sender: FilesystemView, receiver: Option<FilesystemView>, policy: &ReplicationPolicy) -> String {
    let receiver = receiver.map_or_else(View::default, |receiver| view([("p/a", receiver)]));
    let plan = plan_replication(&view([("p/a", sender)]), &receiver, policy);
    assert_eq!(plan.filesystems.len(), 1);
    plan.filesystems[0].action.to_string()
}

fn receiver(text: &str) -> Option<FilesystemView> {
    (text != "-").then(|| filesystem(text))
}

#[test]
fn first_steps_follow_the_policy() {
    let none = "conflict: no snapshots available on sender side (nothing has taken one yet, or `filesystems` means another one)";
    let forbidden = "conflict: automatic conflict resolution for initial replication is disabled in config \
                     (`conflict_resolution: {initial_replication: most_recent}`, or `all`, lets it begin)";
    let newest = "send in full (most_recent): full => @c";
    let all = "send in full (all): full => @a, @a => @b, @b => @c";
    let table = [
        (MostRecent, "@a @b @c", "-", newest),
        (MostRecent, "@a @b @c", "placeholder", newest),
        (MostRecent, "@a @b @c", "off", newest),
        (MostRecent, "@a @b @c", "#x", newest),
        (MostRecent, "@a #b @b @c #d", "-", newest),
        (All, "@a @b @c", "-", all),
        (All, "@a #b @b @c #d", "placeholder", all),
        (Fail, "@a @b @c", "-", forbidden),
        (Fail, "@a @b @c", "placeholder", forbidden),
        (MostRecent, "", "-", none),
        (MostRecent, "", "@x", none),
        (MostRecent, "#a #b", "-", none),
        (All, "#a #b", "-", none),
        (Fail, "#a #b", "-", none),
    ];
    for (initial, sender, on_receiver, expected) in table {
        let got = action(filesystem(sender), receiver(on_receiver), &policy(initial, KEPT));
        assert_eq!(got, expected, "{initial} {sender} / {on_receiver}");
    }
}

#[test]
fn later_steps_start_from_the_newest_common_version() {
    let table = [
        ("@a @b @c", "@a", "send from @a: @a => @b, @b => @c"),
        ("#a @b @c", "@a", "send from #a: #a => @b, @b => @c"),
        ("@a @b #b @c #c", "@b", "send from @b: @b => @c"),
        // a placeholder that holds data of this sender is none
        ("@a @b", "placeholder @a", "send from @a: @a => @b"),
    ];
    for (sender, on_receiver, expected) in table {
        for initial in [MostRecent, All, Fail] {
            let got = action(filesystem(sender), receiver(on_receiver), &policy(initial, KEPT));
            assert_eq!(got, expected, "{sender} / {on_receiver}");
        }
    }
}

#[test]
fn conflicts_are_told_and_never_resolved() {
    let mut told = String::new();
    for (sender, on_receiver) in [
        ("@a @b", "@x"),
        ("@a @b @c @d @e @f @g", "@u @v"),
        ("@a @b @c", "@a @x @y"),
        ("@a", "@a @x"),
        ("@a @b", "placeholder @a @x"),
        ("@a @b", "placeholder @x"),
        ("@a @b @c", "@b @a"),
        ("placeholder", "@a"),
        ("placeholder", "off"),
    ] {
        let got = action(filesystem(sender), receiver(on_receiver), &policy(MostRecent, KEPT));
        told += &format!("{sender} / {on_receiver}\n    {got}\n");
    }
    expect![[r#"
        @a @b / @x
            conflict: no common snapshot or suitable bookmark between sender and receiver: newest on the sender @a, @b; newest on the receiver @x (to begin anew, in full, rename the receiver's filesystem, or let the job rename it with `conflict_resolution: {no_common: rename_aside}`)
        @a @b @c @d @e @f @g / @u @v
            conflict: no common snapshot or suitable bookmark between sender and receiver: newest on the sender @c, @d, @e, @f, @g; newest on the receiver @u, @v (to begin anew, in full, rename the receiver's filesystem, or let the job rename it with `conflict_resolution: {no_common: rename_aside}`)
        @a @b @c / @a @x @y
            conflict: the receiver's latest snapshot is not present on sender: last common @a; only on the sender @b, @c; only on the receiver @x, @y (if the latter may be lost, `zfs rollback -r` the receiver's filesystem to @a, or let the job do so with `conflict_resolution: {diverged: rollback_receiver}`)
        @a / @a @x
            conflict: the receiver's latest snapshot is not present on sender: last common @a; only on the sender none; only on the receiver @x (if the latter may be lost, `zfs rollback -r` the receiver's filesystem to @a, or let the job do so with `conflict_resolution: {diverged: rollback_receiver}`)
        @a @b / placeholder @a @x
            conflict: the receiver's latest snapshot is not present on sender: last common @a; only on the sender @b; only on the receiver @x (if the latter may be lost, `zfs rollback -r` the receiver's filesystem to @a, or let the job do so with `conflict_resolution: {diverged: rollback_receiver}`)
        @a @b / placeholder @x
            conflict: no common snapshot or suitable bookmark between sender and receiver: newest on the sender @a, @b; newest on the receiver @x (to begin anew, in full, rename the receiver's filesystem, or let the job rename it with `conflict_resolution: {no_common: rename_aside}`)
        @a @b @c / @b @a
            conflict: sender and receiver have their common snapshots in different orders (one side was copied from elsewhere: rename the receiver's filesystem and begin anew)
        placeholder / @a
            conflict: sender filesystem is placeholder, but receiver filesystem is not (rename or destroy the receiver's, or leave the filesystem out of `filesystems`)
        placeholder / off
            conflict: sender filesystem is placeholder, but receiver filesystem is not (rename or destroy the receiver's, or leave the filesystem out of `filesystems`)
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_senders_placeholder_needs_nothing() {
    for on_receiver in ["-", "placeholder"] {
        let got = action(filesystem("placeholder"), receiver(on_receiver), &policy(Fail, KEPT));
        assert_eq!(got, "nothing to do: filesystem is placeholder");
    }
}

#[test]
fn an_interrupted_step_is_completed_or_its_state_discarded() {
    let unreadable = PartialReceive { contents: Err("checksum differs".into()), ..partial(None, "b") };
    let mut elsewhere = partial(None, "b");
    if let Ok(token) = &mut elsewhere.contents {
        token.to_name = "p/ab@b".into();
    }
    let table = [
        ("@a @b @c", "", partial(None, "b"), "resume: full => @b, @b => @c"),
        ("@a @b @c", "placeholder", partial(None, "b"), "resume: full => @b, @b => @c"),
        ("@a @b @c", "@a", partial(Some("a"), "b"), "resume: @a => @b, @b => @c"),
        ("@a #a @b @c", "@a", partial(Some("a"), "c"), "resume: @a => @c"),
        ("#a @b @c", "@a", partial(Some("a"), "b"), "resume: #a => @b, @b => @c"),
        (
            "@a @c",
            "@a",
            partial(Some("a"), "b"),
            "discard partial state (p/a@b is gone from the sender), then send from @a: @a => @c",
        ),
        (
            "@a #b @c",
            "@a",
            partial(Some("a"), "b"),
            "discard partial state (p/a@b is gone from the sender), then send from @a: @a => @c",
        ),
        (
            "@b @c",
            "@0 @b",
            partial(Some("a"), "c"),
            "discard partial state (the version that it starts from is gone from the sender), then send from @b: @b => @c",
        ),
        (
            "@a @b",
            "",
            elsewhere,
            "discard partial state (it belongs to p/ab@b), then send in full (most_recent): full => @b",
        ),
        (
            "@a @b",
            "",
            unreadable,
            "discard partial state (the resume token cannot be read: checksum differs), then send in full (most_recent): full => @b",
        ),
        (
            "@a @b @c",
            "@a @b",
            partial(Some("a"), "b"),
            "discard partial state (it does not continue the receiver's newest snapshot), then send from @b: @b => @c",
        ),
        (
            "@a @b @c",
            "@b",
            partial(None, "c"),
            "discard partial state (it does not continue the receiver's newest snapshot), then send from @b: @b => @c",
        ),
        (
            "",
            "",
            partial(None, "b"),
            "conflict: no snapshots available on sender side (nothing has taken one yet, or `filesystems` means another one)",
        ),
    ];
    for (sender, on_receiver, partial, expected) in table {
        let receiver = FilesystemView { partial: Some(partial), ..filesystem(on_receiver) };
        let got = action(filesystem(sender), Some(receiver), &policy(MostRecent, KEPT));
        assert_eq!(got, expected, "{sender} / {on_receiver}");
    }
}

#[test]
fn partial_state_settles_the_initial_policy() {
    let receiver = FilesystemView { partial: Some(partial(None, "b")), ..filesystem("") };
    let got = action(filesystem("@a @b"), Some(receiver), &policy(Fail, KEPT));
    assert_eq!(got, "resume: full => @b");
}

#[test]
fn what_the_senders_policy_on_encryption_refuses_is_not_planned() {
    let plan = |encryption, demanded, raw, on_receiver: Option<FilesystemView>| {
        let mut on_receiver = on_receiver;
        if let Some(Ok(token)) = on_receiver.as_mut().and_then(|r| r.partial.as_mut()).map(|p| p.contents.as_mut()) {
            token.flags.raw = raw;
        }
        let mut sender = view([("p/a", FilesystemView { encryption, ..filesystem("@a @b") })]);
        sender.sends_encrypted = demanded;
        let receiver = on_receiver.map_or_else(View::default, |receiver| view([("p/a", receiver)]));
        plan_replication(&sender, &receiver, &policy(MostRecent, NOTHING)).filesystems[0].action.to_string()
    };
    let encrypted = Encryption::Encrypted { key_loaded: true };
    let half = || Some(FilesystemView { partial: Some(partial(Some("a"), "b")), ..filesystem("@a") });
    let refused = "conflict: encrypted send mandated by policy, but the filesystem is not encrypted (leave it out of \
                   `filesystems`, or drop `send: {encrypted: true}`)";
    let discarded = "discard partial state (its stream is not of the kind that the policy demands), \
                     then send from @a: @a => @b";
    assert_eq!(plan(Encryption::None, Some(true), false, None), refused);
    assert_eq!(plan(Encryption::None, None, false, None), "send in full (most_recent): full => @b");
    assert_eq!(plan(Encryption::None, Some(true), false, Some(filesystem("@b"))), "nothing to do: the receiver has @b");
    assert_eq!(plan(encrypted, Some(true), true, half()), "resume: @a => @b");
    assert_eq!(plan(encrypted, Some(true), false, half()), discarded);
    assert_eq!(plan(encrypted, Some(false), true, half()), discarded);
    assert_eq!(plan(encrypted, None, true, half()), "resume: @a => @b");

    let raw_but_not_encrypted = |encryption, on_receiver: Option<FilesystemView>| {
        let mut sender = view([("p/a", FilesystemView { encryption, ..filesystem("@a @b") })]);
        (sender.sends_encrypted, sender.refuses_encrypted) = (Some(false), true);
        let receiver = on_receiver.map_or_else(View::default, |receiver| view([("p/a", receiver)]));
        plan_replication(&sender, &receiver, &policy(MostRecent, NOTHING)).filesystems[0].action.to_string()
    };
    let refused = "conflict: policy mandates raw+unencrypted sends, but the filesystem is encrypted";
    assert_eq!(raw_but_not_encrypted(encrypted, None), refused);
    assert_eq!(raw_but_not_encrypted(encrypted, Some(filesystem("@a"))), refused);
    assert_eq!(raw_but_not_encrypted(encrypted, half()), refused);
    assert_eq!(raw_but_not_encrypted(encrypted, Some(filesystem("@b"))), "nothing to do: the receiver has @b");
    assert_eq!(raw_but_not_encrypted(Encryption::None, None), "send in full (most_recent): full => @b");
}

#[test]
fn raw_sends_that_may_not_be_encrypted_are_refused_for_what_is() {
    let plan = |encryption| {
        let mut sender = view([("p/a", FilesystemView { encryption, ..filesystem("@a") })]);
        (sender.sends_encrypted, sender.refuses_encrypted) = (Some(false), true);
        plan_replication(&sender, &View::default(), &policy(MostRecent, NOTHING)).filesystems[0].action.to_string()
    };
    let refused = "conflict: policy mandates raw+unencrypted sends, but the filesystem is encrypted";
    assert_eq!(plan(Encryption::Encrypted { key_loaded: true }), refused);
    assert_eq!(plan(Encryption::None), "send in full (most_recent): full => @a");
}

#[test]
fn an_up_to_date_filesystem_is_confirmed_if_its_protections_are_not_as_after_a_step() {
    let move_cursor = "move the replication cursor";
    let remove = "remove what protected the finished step";
    let hold = "hold it on the receiver";
    let release = "release older holds on the receiver";
    let table: [(ProtectionStrategy, &str, &str, &[&str]); 14] = [
        (KEPT, "cursor:b", "received:b", &[]),
        (KEPT, "", "", &[move_cursor, hold]),
        (KEPT, "cursor:a step:a step:b", "received:a", &[move_cursor, remove, hold, release]),
        (KEPT, "cursor:a cursor:b", "received:b", &[move_cursor]),
        (KEPT, "cursor:b tentative:b", "received:b", &[remove]),
        (KEPT, "cursor:b step:a", "received:a received:b", &[remove, release]),
        (KEPT, "cursor:b", "received:b received:a", &[release]),
        (KEPT, "cursor:b", "", &[hold]),
        (ProtectionStrategy::Incremental, "cursor:b", "received:b", &[]),
        (ProtectionStrategy::Incremental, "cursor:a tentative:a tentative:b", "received:b", &[move_cursor, remove]),
        (NOTHING, "", "", &[]),
        (NOTHING, "cursor:b", "received:b", &[move_cursor, release]),
        (NOTHING, "step:b tentative:b", "", &[remove]),
        (NOTHING, "cursor:b", "", &[move_cursor]),
    ];
    for (strategy, on_sender, on_receiver, repairs) in table {
        let (sender, receiver) = (format!("@a @b | {on_sender}"), format!("@a @b | {on_receiver}"));
        let expected = match repairs {
            [] => "nothing to do: the receiver has @b".to_owned(),
            repairs => format!("confirm @b: {}", repairs.join(", ")),
        };
        let got = action(filesystem(&sender), Some(filesystem(&receiver)), &policy(MostRecent, strategy));
        assert_eq!(got, expected, "{strategy:?} {on_sender} / {on_receiver}");
    }
}

#[test]
fn a_base_that_is_only_a_bookmark_is_left_as_it_is() {
    for (on_sender, expected) in [
        ("cursor:b", "nothing to do: the receiver has #b"),
        ("tentative:b step:a", "nothing to do: the receiver has #b"),
        ("cursor:b cursor:a", "confirm #b: move the replication cursor"),
    ] {
        let sender = filesystem(&format!("@a #b | {on_sender}"));
        let got = action(sender, receiver("@a @b | received:b"), &policy(MostRecent, KEPT));
        assert_eq!(got, expected, "{on_sender}");
    }
}

#[test]
fn a_side_that_cannot_tell_its_protections_is_not_repaired() {
    let plan = |sender_knows, receiver_knows| {
        let mut sender = view([("p/a", filesystem("@a"))]);
        let mut receiver = view([("p/a", filesystem("@a"))]);
        sender.protections_known = sender_knows;
        receiver.protections_known = receiver_knows;
        plan_replication(&sender, &receiver, &policy(MostRecent, KEPT)).filesystems[0].action.to_string()
    };
    assert_eq!(plan(true, true), "confirm @a: move the replication cursor, hold it on the receiver");
    assert_eq!(plan(true, false), "confirm @a: move the replication cursor");
    assert_eq!(plan(false, true), "confirm @a: hold it on the receiver");
    assert_eq!(plan(false, false), "nothing to do: the receiver has @a");
}

#[test]
fn with_two_strategies_the_end_of_either_kind_of_step_is_fine() {
    let policy = ReplicationPolicy {
        protection: ProtectionPolicy { initial: NOTHING, incremental: KEPT },
        ..ReplicationPolicy::default()
    };
    for (on_sender, on_receiver, expected) in [
        ("", "", "nothing to do: the receiver has @b"),
        ("cursor:b", "received:b", "nothing to do: the receiver has @b"),
        (
            "cursor:a",
            "received:a",
            "confirm @b: move the replication cursor, hold it on the receiver, release older holds on the receiver",
        ),
    ] {
        let (sender, receiver) = (format!("@a @b | {on_sender}"), format!("@b | {on_receiver}"));
        assert_eq!(action(filesystem(&sender), Some(filesystem(&receiver)), &policy), expected);
    }
}

/// A filesystem whose only snapshot was taken at this time.
fn dated(seconds: i64) -> FilesystemView {
    let mut list = unsorted("@s");
    list[0].creation = model::UnixTime(seconds);
    FilesystemView { versions: list.into(), ..filesystem("") }
}

fn order(sender: &View, receiver: &View) -> String {
    let plan = plan_replication(sender, receiver, &policy(MostRecent, NOTHING));
    let line = |fs: &model::plan::replication::FilesystemPlan| match &fs.after {
        Some(after) => format!("{} after {after}\n", fs.name),
        None => format!("{}\n", fs.name),
    };
    plan.filesystems.iter().map(line).collect()
}

#[test]
fn parents_come_first_then_the_oldest() {
    let sender = view([
        ("p", dated(50)),
        ("p/a", dated(10)),
        ("p/a/x", dated(70)),
        ("p/a b", dated(5)),
        ("q", dated(20)),
        ("q/gap", filesystem("")),
        ("q/gap/y", dated(1)),
        ("r", filesystem("placeholder")),
        ("r/z", dated(30)),
    ]);
    expect![[r#"
        q/gap
        r
        q
        q/gap/y after q
        r/z
        p
        p/a after p
        p/a b after p
        p/a/x after p/a
    "#]]
    .assert_eq(&order(&sender, &View::default()));
}

#[test]
fn nobody_waits_for_a_parent_that_the_receiver_has() {
    let sender = view([("p", dated(50)), ("p/a", dated(10)), ("p/b", dated(20))]);
    let with = |parent| order(&sender, &view([("p", parent)]));
    assert_eq!(with(filesystem("placeholder")), "p/a\np/b\np\n");
    let half = FilesystemView {
        partial: Some(PartialReceive { contents: Err("x".into()), ..partial(None, "s") }),
        ..filesystem("")
    };
    assert_eq!(with(half), "p\np/a after p\np/b after p\n");
}

#[test]
fn a_plan_tells_how_old_both_sides_are() {
    let table = [
        ("@a @b @c", "@a", Some("c"), Some("a")),
        ("@a @b @c", "-", Some("c"), None),
        ("@a @c", "@a @b @c", Some("c"), Some("c")),
        // The snapshot is gone from the sender, but its bookmark knows when it was taken.
        ("#a @b", "@a", Some("b"), Some("a")),
        ("@a @b", "@a @x", Some("b"), Some("a")),
        ("#a", "@a", None, Some("a")),
        ("", "@x", None, None),
    ];
    for (sender, on_receiver, newest, received) in table {
        let there = receiver(on_receiver).map_or_else(View::default, |receiver| view([("p/a", receiver)]));
        let here = filesystem(sender);
        let taken = |name: Option<&str>| {
            let version = name.and_then(|name| here.versions.iter().find(|version| version.name.as_str() == name));
            version.map(|version| version.creation)
        };
        let expected = (taken(newest), taken(received));
        let plan = plan_replication(&view([("p/a", here.clone())]), &there, &policy(MostRecent, KEPT));
        let plan = &plan.filesystems[0];
        assert_eq!((plan.newest, plan.received), expected, "{sender} / {on_receiver}");
        if let model::plan::replication::FilesystemAction::Steps { steps, .. } = &plan.action {
            assert_eq!(steps.last().map(|step| step.created), plan.newest, "{sender} / {on_receiver}");
        }
    }
}

#[test]
fn a_name_that_the_receiver_gave_to_another_snapshot_is_a_conflict() {
    let taken = "conflict: the receiver has another snapshot of the name \"b\", which the next one to be sent has as \
                 well (was a clock set back? give one of them another name with `zfs rename`, on either side)";
    let table = [
        ("@a @b", "@b=x @a", taken),
        ("@a @b @c", "@b=x @a", taken),
        // What comes before can be sent.
        ("@a @c @b", "@b=x @a", "send from @a: @a => @c, @c => @b"),
        ("@a @b", "@a=x @b=a", taken),
        ("@a @c", "@b=x @a", "send from @a: @a => @c"),
        ("@a @b", "#b=x @a", "send from @a: @a => @b"),
    ];
    for (sender, on_receiver, expected) in table {
        let got = action(filesystem(sender), receiver(on_receiver), &policy(MostRecent, KEPT));
        assert_eq!(got, expected, "{sender} / {on_receiver}");
    }
}

#[test]
fn what_the_receiver_cannot_list_is_not_sent_in_full() {
    let sender = view([("p/a", filesystem("@a @b")), ("p/a/b", filesystem("@a")), ("p/ab", filesystem("@a"))]);
    let mut receiver = view([("p/a/b", filesystem("@a | received:a"))]);
    receiver.unlisted.insert(dataset("p/a"), "it is busy".to_owned());
    let plan = plan_replication(&sender, &receiver, &policy(MostRecent, NOTHING));
    let mut told: Vec<String> = plan.filesystems.iter().map(|plan| format!("{} {}", plan.name, plan.action)).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "p/a conflict: the receiver cannot list what it has of it: it is busy",
            "p/a/b confirm @a: release older holds on the receiver",
            "p/ab send in full (most_recent): full => @a"
        ]
    );
}

#[test]
fn a_base_that_nothing_protects_is_found() {
    let table = [
        ("@a @b", "@a @x", Some("@a by @a: [MoveCursor, HoldLastReceived]")),
        ("@a @b", "@y=a @x", Some("@a by @y: [MoveCursor, HoldLastReceived]")),
        ("@a @b", "@a @x | received:x", Some("@a by @a: [MoveCursor, HoldLastReceived, ReleaseOlderReceived]")),
        ("@a @b", "@a @x | received:a", Some("@a by @a: [MoveCursor]")),
        ("@a @b | cursor:a", "@a @x", Some("@a by @a: [HoldLastReceived]")),
        ("@a @b | cursor:a", "@a @x | received:a", None),
        ("@a @b | tentative:a", "@a @x | received:a", None),
        ("@a @b | step:a", "@a @x | received:a", None),
        ("@a @b | cursor:b step:b", "@a @x | received:a", Some("@a by @a: [MoveCursor]")),
        ("@a @b", "@a", Some("@a by @a: [MoveCursor, HoldLastReceived]")),
        ("#a @b", "@a @x", Some("#a by @a: [HoldLastReceived]")),
        ("#a @b", "@a @x | received:a received:x", Some("#a by @a: [ReleaseOlderReceived]")),
        ("#a @b", "@a @x | received:a", None),
        ("@a @b", "@x", None),
        ("@a @b", "@b @a", None),
    ];
    for (sender, on_receiver, expected) in table {
        let sides = (view([("p/a", filesystem(sender))]), view([("p/a", filesystem(on_receiver))]));
        let base = |protection| {
            let policy = ProtectionPolicy { initial: KEPT, incremental: protection };
            let base = endangered_base(&dataset("p/a"), &sides.0, &sides.1, policy)?;
            Some(format!("{} by {}: {:?}", base.version, base.received_as, base.repairs))
        };
        assert_eq!(base(KEPT).as_deref(), expected, "{sender} / {on_receiver}");
        assert_eq!(base(NOTHING), None, "{sender} / {on_receiver}");
    }
}
