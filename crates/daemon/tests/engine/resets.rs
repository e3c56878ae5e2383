//! `signal reset` ends an invocation at once, whatever it is at, and the next one goes on.

use std::sync::Arc;
use std::time::Duration;

use daemon::act::{Invocation, replicate_and_prune};
use tokio::time::Instant;
use zfs::ErrorKind;
use zfs::fake::{Action, Faults, Moment, Verb};

use crate::retries::Away;
use crate::world::{Direct, Settings, World, last_n};

const HOUR: Duration = Duration::from_secs(3600);

async fn world() -> World {
    let world =
        World::new(Settings { keep_sender: vec![last_n(1)], keep_receiver: vec![last_n(1)], ..Settings::default() });
    world.create(&["src/a", "src/b"]);
    world.write("src/a", "big", 1_000_000);
    for snapshot in ["1", "2"] {
        world.snapshot(snapshot, &["src/a", "src/b"]).await;
    }
    world
}

/// Resets after a second, in which nothing may have ended by itself.
async fn reset(world: &World, invocation: Invocation) {
    let cancel = invocation.cancel.clone();
    let started = Instant::now();
    let (summary, ()) = tokio::join!(replicate_and_prune(invocation), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
    });
    assert_eq!(started.elapsed(), Duration::from_secs(1), "the invocation ended with the reset");
    assert!(summary.cancelled, "{summary:?}");
    assert_eq!(summary.replicated, summary.steps == 4, "only what came to its end counts: {summary:?}");
    assert!(world.is_quiet(), "no child is left");
    world.daemons.source_zfs.faults().clear();
    world.daemons.target_zfs.faults().clear();
    world.events();
    world.run_well().await;
    for filesystem in ["src/a", "src/b"] {
        world.assert_replicated(filesystem).await;
    }
}

fn stuck(faults: &Faults, verb: Verb) {
    faults.hook(move |point| if point.verb == verb { Action::Delay(HOUR) } else { Action::Proceed });
}

#[tokio::test(start_paused = true)]
async fn while_a_call_of_any_kind_is_under_way() {
    let of_sender = [Verb::List, Verb::Hold, Verb::Send, Verb::Bookmark, Verb::Release, Verb::DestroySnapshots];
    let of_receiver =
        [Verb::List, Verb::CanResume, Verb::CreatePlaceholder, Verb::Receive, Verb::Hold, Verb::DestroySnapshots];
    for verb in of_sender {
        let world = world().await;
        stuck(world.daemons.source_zfs.faults(), verb);
        reset(&world, world.invocation()).await;
    }
    for verb in of_receiver {
        let world = world().await;
        stuck(world.daemons.target_zfs.faults(), verb);
        reset(&world, world.invocation()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_one_is_sent_and_another_one_waits_in_the_queue() {
    let world = world().await;
    world.daemons.source_zfs.faults().pace(100_000, Duration::from_millis(500));
    reset(&world, world.invocation()).await;
}

#[tokio::test(start_paused = true)]
async fn while_what_failed_waits_to_be_tried_again() {
    let world = world().await;
    for nth in 0..2 {
        world.daemons.source_zfs.faults().at_verb(Verb::Send, nth, Moment::Before, Action::Fail(ErrorKind::Busy));
    }
    world.daemons.source_zfs.faults().hook(|point| match point.verb {
        Verb::Send => Action::Fail(ErrorKind::Busy),
        _ => Action::Proceed,
    });
    // The shortest wait is a second: so it must not have begun with the invocation.
    world.daemons.source_zfs.faults().at_verb(Verb::List, 0, Moment::Before, Action::Delay(Duration::from_millis(500)));
    reset(&world, world.invocation()).await;
}

#[tokio::test(start_paused = true)]
async fn while_what_failed_is_listed_again() {
    let world = world().await;
    let faults = world.daemons.source_zfs.faults();
    faults.at_verb(Verb::Send, 0, Moment::Before, Action::Fail(ErrorKind::Busy));
    faults.at_verb(Verb::List, 1, Moment::Before, Action::Hang);
    // b alone is done before a is due; the reset finds nothing but a listing.
    let invocation = world.invocation();
    let cancel = invocation.cancel.clone();
    let started = Instant::now();
    let (summary, ()) = tokio::join!(replicate_and_prune(invocation), async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        cancel.cancel();
    });
    assert_eq!((started.elapsed(), summary.cancelled, summary.steps), (Duration::from_secs(60), true, 2));
    assert!(world.is_quiet());
    world.daemons.source_zfs.faults().clear();
    world.events();
    world.run_well().await;
    world.assert_replicated("src/a").await;
}

#[tokio::test(start_paused = true)]
async fn while_it_waits_for_a_peer_that_is_away() {
    let world = world().await;
    let receiver = Arc::new(Away::new(Direct(world.daemons.sink.clone()), u32::MAX));
    let invocation = Invocation { receiver, ..world.invocation() };
    reset(&world, invocation).await;
}
