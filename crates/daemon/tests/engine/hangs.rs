//! Whatever hangs is ended, named and tried again.

use std::time::Duration;

use daemon::act::Patience;
use daemon::limits;
use model::event::{Replication, What};
use zfs::fake::{Action, FakeZfs, Moment, StreamFault, Verb};

use crate::world::{Settings, World, last_n};

async fn world(concurrency: usize) -> World {
    let keep = || vec![last_n(1)];
    let settings = Settings { concurrency, keep_sender: keep(), keep_receiver: keep(), ..Settings::default() };
    let world = World::new(settings);
    world.create(&["src/a", "src/a/b"]);
    for snapshot in ["1", "2"] {
        world.snapshot(snapshot, &["src/a", "src/a/b"]).await;
    }
    world
}

/// Lets the first such call hang; what the invocation says of it.
async fn hang(zfs_of: impl Fn(&World) -> &FakeZfs, verb: Verb, moment: Moment) -> Vec<String> {
    let world = world(2).await;
    zfs_of(&world).faults().at_verb(verb, 0, moment, Action::Hang);
    let summary = world.run().await;
    let failures = world.failures();
    let context = format!("{verb:?} {moment:?}: {failures:#?}");
    assert_eq!((summary.errors, summary.replicated), (0, true), "{context}");
    assert!(world.is_quiet(), "{context}");
    for filesystem in ["src/a", "src/a/b"] {
        world.assert_replicated(filesystem).await;
    }
    assert!(!failures.is_empty(), "{context}");
    failures
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_sender() {
    let waits = [
        (Verb::List, "the sender did not answer within 4500s: list filesystems"),
        (Verb::Hold, "the sender did not answer within 4500s: start to send src/a@1"),
        (Verb::Send, "the sender did not answer within 4500s: start to send src/a@1"),
        (Verb::Bookmark, "the sender did not answer within 4500s: move the cursor to src/a@1"),
        (Verb::Release, "the sender did not answer within 4500s: move the cursor to src/a@1"),
    ];
    for (verb, said) in waits {
        for moment in [Moment::Before, Moment::After] {
            let failures = hang(|world| &world.daemons.source_zfs, verb, moment).await;
            assert!(failures.iter().any(|failure| failure.contains(said)), "{verb:?} {moment:?}: {failures:#?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_receiver() {
    let stands = "no byte of src/a@1 has moved for 4500s";
    let waits = [
        (Verb::List, "the receiver did not answer within 4500s: list filesystems"),
        (Verb::CanResume, stands),
        (Verb::CreatePlaceholder, stands),
        (Verb::Receive, stands),
        (Verb::Hold, stands),
    ];
    for (verb, said) in waits {
        let failures = hang(|world| &world.daemons.target_zfs, verb, Moment::Before).await;
        assert!(failures.iter().any(|failure| failure.contains(said)), "{verb:?}: {failures:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_of_what_failed() {
    let world = world(2).await;
    let faults = world.daemons.source_zfs.faults();
    faults.at_verb(Verb::Send, 0, Moment::Before, Action::Fail(zfs::ErrorKind::Busy));
    faults.at_verb(Verb::List, 1, Moment::Before, Action::Hang);
    assert_eq!(world.run().await.errors, 0);
    let failures = world.failures();
    assert!(failures[1].contains("list filesystems that failed"), "{failures:#?}");
    world.assert_replicated("src/a/b").await;
}

#[tokio::test(start_paused = true)]
async fn others_go_on_meanwhile() {
    let world = World::new(Settings { concurrency: 2, ..Settings::default() });
    let names = ["src/a", "src/b", "src/c", "src/d"];
    world.create(&names);
    world.snapshot("1", &names).await;
    world.daemons.source_zfs.faults().at_verb(Verb::Send, 0, Moment::Before, Action::Hang);
    world.run_well_keeping_events().await;
    let order: Vec<String> = world
        .replication_events()
        .into_iter()
        .filter_map(|what| match what {
            Replication::StepFinished { filesystem, .. } => Some(filesystem.to_string()),
            Replication::StepFailed { filesystem, .. } => Some(format!("{filesystem} failed")),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["src/b", "src/c", "src/d", "src/a failed", "src/a"]);
}

#[tokio::test(start_paused = true)]
async fn pruning_of_one_side_which_is_told_and_tried_again() {
    for sender_hangs in [true, false] {
        let world = world(2).await;
        let zfs = if sender_hangs { &world.daemons.source_zfs } else { &world.daemons.target_zfs };
        zfs.faults().at_verb(Verb::DestroySnapshots, 0, Moment::Before, Action::Hang);
        let summary = world.run_well_keeping_events().await;
        // One that went beside the one that hangs is not answered for either.
        assert!(summary.destroyed >= 3, "{summary:?}");
        for filesystem in ["src/a", "src/a/b"] {
            assert_eq!(world.source_versions(filesystem).await, ["#zrepl_CURSOR_G_GUID_J_push", "@2"]);
            assert_eq!(world.target_versions(filesystem).await, ["@2 zrepl_last_received_J_sink"]);
        }
        let side = if sender_hangs { "sender" } else { "receiver" };
        let said = format!("the {side} did not answer within 4500s: destroy snapshots of");
        let told = |what: &What| matches!(what, What::Warning { message, .. } if message.contains(&said));
        assert_eq!(world.events().iter().filter(|what| told(what)).count(), 1, "{side}");
        assert!(world.is_quiet());
    }
}

#[tokio::test(start_paused = true)]
async fn a_person_may_be_more_or_less_patient() {
    let world = world(1).await;
    world.daemons.source_zfs.faults().break_stream(Verb::Send, 0, 5_000, StreamFault::Stalls);
    let patience = Patience { call: limits::CALL, stall: Duration::from_secs(60) };
    let invocation = daemon::act::Invocation { patience, ..world.invocation() };
    let started = tokio::time::Instant::now();
    let summary = daemon::act::replicate_and_prune(invocation).await;
    assert!(started.elapsed() < Duration::from_secs(120));
    assert_eq!((summary.errors, summary.steps), (0, 4));
    let stood_still = |what: &What| matches!(what, What::Replication(Replication::StepFailed { error, .. }) if error.contains("has moved for 60s"));
    assert_eq!(world.events().iter().filter(|what| stood_still(what)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_an_endpoint_may_be_told_to_wait_less_for() {
    let minute = Duration::from_secs(60);
    let mut world = world(1).await;
    for sender_stands in [true, false] {
        world.restart_with_stall(minute);
        world.snapshot(if sender_stands { "3" } else { "4" }, &["src/a", "src/a/b"]).await;
        let zfs = if sender_stands { &world.daemons.source_zfs } else { &world.daemons.target_zfs };
        let verb = if sender_stands { Verb::Send } else { Verb::Receive };
        zfs.faults().break_stream(verb, 0, 1, StreamFault::Stalls);
        let started = tokio::time::Instant::now();
        assert_eq!(world.run().await.errors, 0);
        assert!(started.elapsed() < 2 * minute, "{verb:?}");
        let failures = world.failures();
        assert!(failures.len() == 1 && failures[0].contains("1m") | failures[0].contains("60s"), "{failures:?}");
    }
}
