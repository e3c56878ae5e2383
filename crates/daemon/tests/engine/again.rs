//! A filesystem that failed is tried again by itself.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use model::event::Replication;
use model::plan::replication::FilesystemAction;
use zfs::ErrorKind;
use zfs::fake::{Action, Moment, Verb};

use crate::world::{Settings, World};

async fn two_filesystems(settings: Settings) -> World {
    let world = World::new(settings);
    world.create(&["src/a", "src/b"]);
    for snapshot in ["1", "2", "3"] {
        world.snapshot(snapshot, &["src/a", "src/b"]).await;
    }
    world
}

#[tokio::test(start_paused = true)]
async fn while_another_one_is_still_being_sent() {
    let world = two_filesystems(Settings { concurrency: 2, ..Settings::default() }).await;
    let faults = world.daemons.source_zfs.faults();
    // Both full sends start at once: the one of a fails, the one of b takes an hour.
    faults.at_verb(Verb::Send, 0, Moment::Before, Action::Fail(ErrorKind::Busy));
    faults.at_verb(Verb::Send, 1, Moment::Before, Action::Delay(Duration::from_secs(3600)));
    let summary = world.run_well_keeping_events().await;
    assert_eq!((summary.steps, summary.replicated), (6, true));
    let events = world.replication_events();
    let position = |wanted: &dyn Fn(&Replication) -> bool| events.iter().position(wanted).unwrap();
    let done = |name: &'static str, index: usize| {
        position(
            &move |what| matches!(what, Replication::StepFinished { filesystem, step, .. } if filesystem.as_str() == name && *step == index),
        )
    };
    assert!(done("src/a", 2) < done("src/b", 0), "a did not wait for b");
    let count = |wanted: &dyn Fn(&Replication) -> bool| events.iter().filter(|what| wanted(what)).count();
    assert_eq!(count(&|what| matches!(what, Replication::AttemptStarted)), 1);
    assert_eq!(count(&|what| matches!(what, Replication::Replanned { .. })), 1);
    assert_eq!(world.daemons.source_zfs.faults().calls().get(&Verb::List), Some(&2), "all at first, then a by itself");
}

#[tokio::test(start_paused = true)]
async fn with_all_its_steps_in_the_plan_and_the_completed_ones_done() {
    let world = two_filesystems(Settings::default()).await;
    // The second step of a, which is the third to be sent.
    world.daemons.source_zfs.faults().at_verb(Verb::Send, 2, Moment::Before, Action::Fail(ErrorKind::Busy));
    world.run_well_keeping_events().await;
    let replanned = world.replication_events().into_iter().find_map(|what| match what {
        Replication::Replanned { plan, done } => Some((plan, done)),
        _ => None,
    });
    let (plan, done) = replanned.unwrap();
    let FilesystemAction::Steps { steps, .. } = &plan.action else { panic!("{plan:?}") };
    assert_eq!((done, steps.len()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn as_often_as_it_makes_progress() {
    let world = two_filesystems(Settings { attempts: 2, ..Settings::default() }).await;
    // Each snapshot's first send fails: more failures than tries, but never two without a step in between.
    let sent = Mutex::new(HashSet::new());
    world.daemons.source_zfs.faults().hook(move |point| match (point.verb, point.moment) {
        (Verb::Send, Moment::Before) if sent.lock().unwrap().insert(point.object.clone()) => {
            Action::Fail(ErrorKind::Busy)
        }
        _ => Action::Proceed,
    });
    let summary = world.run().await;
    assert_eq!((summary.steps, summary.errors), (6, 0), "{:#?}", world.failures());
}

#[tokio::test(start_paused = true)]
async fn several_that_failed_together_share_the_listings() {
    let world = World::new(Settings { concurrency: 50, ..Settings::default() });
    let names: Vec<String> = (0..50).map(|number| format!("src/f{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.create(&names);
    world.snapshot("1", &names).await;
    let faults = world.daemons.source_zfs.faults();
    (0..50).for_each(|nth| faults.at_verb(Verb::Send, nth, Moment::Before, Action::Fail(ErrorKind::Busy)));
    world.run_well().await;
    let calls = world.daemons.source_zfs.faults().calls();
    // Of the invocation, and of those that failed: one of them may be alone if it is due first.
    assert!(calls[&Verb::List] + calls.get(&Verb::Dataset).copied().unwrap_or(0) <= 3, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn unless_it_is_gone_by_then() {
    let world = two_filesystems(Settings::default()).await;
    let source = world.source.clone();
    world.daemons.source_zfs.faults().at_verb(Verb::Hold, 0, Moment::Before, Action::Fail(ErrorKind::Busy));
    let gone = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let zfs = source.zfs();
        let dataset = crate::world::name("src/a");
        let names = ["1", "2", "3"].map(crate::world::short);
        zfs::Zfs::destroy_snapshots(&zfs, &dataset, &names).await.into_iter().for_each(Result::unwrap);
        zfs::Zfs::destroy_dataset(&zfs, &dataset).await.unwrap();
    };
    let (summary, ()) = tokio::join!(world.run(), gone);
    assert_eq!((summary.errors, summary.replicated), (1, false));
    assert!(world.failures().contains(&"src/a: the filesystem does not exist any longer".to_owned()));
    world.assert_replicated("src/b").await;
}

#[tokio::test(start_paused = true)]
async fn children_wait_for_a_parent_that_is_tried_again() {
    let world = World::new(Settings { concurrency: 4, ..Settings::default() });
    world.create(&["src/a", "src/a/b", "src/a/b/c"]);
    world.snapshot("1", &["src/a", "src/a/b", "src/a/b/c"]).await;
    for nth in 0..2 {
        world.daemons.target_zfs.faults().at_verb(Verb::Receive, nth, Moment::After, Action::Fail(ErrorKind::Busy));
    }
    let summary = world.run().await;
    assert_eq!(summary.errors, 0, "{:#?}", world.failures());
    for filesystem in ["src/a", "src/a/b", "src/a/b/c"] {
        world.assert_replicated(filesystem).await;
    }
}
