//! What is broken is not in the way of the rest: of other pools, and of other filesystems of its own.

use daemon::act::snapshotting::{plan_round, take_round};
use daemon::act::{LocalInvocation, Patience, prune_local};
use daemon::hooks::HookRunner;
use model::event::What;
use model::naming::{SnapshotNaming, TimestampFormat};
use tokio_util::sync::CancellationToken;
use zfs::ErrorKind;
use zfs::fake::{Action, Faults, Moment, Point, PoolState, Verb};

use crate::world::{Settings, World, filter, last_n, name};

const ALL: [&str; 4] = ["src/a", "src/b", "broken/c", "broken/d"];

fn settings(filesystems: &[&str]) -> Settings {
    let keep = || vec![last_n(1)];
    let filesystems = filter(filesystems);
    Settings { filesystems, attempts: 1, keep_sender: keep(), keep_receiver: keep(), ..Settings::default() }
}

/// All is replicated but for two snapshots each.
async fn world(settings: Settings) -> World {
    let world = World::new(settings);
    world.source.create_pool(&name("broken")).unwrap();
    world.create(&ALL);
    world.snapshot("1", &ALL).await;
    world.run_well().await;
    for snapshot in ["2", "3"] {
        world.snapshot(snapshot, &ALL).await;
    }
    world.events();
    world
}

fn fail(faults: &Faults, kind: ErrorKind, which: impl Fn(&Point) -> bool + Send + Sync + 'static) {
    faults.hook(move |point| if which(point) { Action::Fail(kind.clone()) } else { Action::Proceed });
}

fn suspended() -> ErrorKind {
    ErrorKind::PoolSuspended { pool: "broken".to_owned() }
}

/// One run in which `broken` cannot be seen, and one in which it can be again.
async fn only_the_broken_waits(world: &World, broken: &[&str]) {
    let before = versions(world, broken).await;
    let summary = world.run().await;
    let failures = world.failures();
    assert_eq!((summary.errors, summary.replicated), (1, false), "{failures:?}");
    assert!(failures.len() == 1 && failures[0].starts_with("cannot list filesystem"), "told once: {failures:?}");
    for filesystem in ALL.iter().filter(|one| !broken.contains(one)) {
        world.assert_replicated(filesystem).await;
        assert_eq!(world.source_versions(filesystem).await, ["#zrepl_CURSOR_G_GUID_J_push", "@3"], "{filesystem}");
    }
    assert_eq!(versions(world, broken).await, before, "nothing was done to what cannot be seen");
    world.daemons.source_zfs.faults().clear();
    world.run_well().await;
    for filesystem in ALL {
        world.assert_replicated(filesystem).await;
    }
}

async fn versions(world: &World, filesystems: &[&str]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for filesystem in filesystems {
        all.push(world.source_versions(filesystem).await);
        all.push(world.target_versions(filesystem).await);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn of_a_job_for_everything() {
    let world = world(settings(&["<", "!src", "!broken"])).await;
    fail(world.daemons.source_zfs.faults(), suspended(), |point| match point.verb {
        Verb::List => point.object.is_empty() || point.object.starts_with("broken"),
        verb => verb != Verb::Pools && point.object.starts_with("broken"),
    });
    only_the_broken_waits(&world, &["broken/c", "broken/d"]).await;
}

#[tokio::test(start_paused = true)]
async fn if_only_its_holds_cannot_be_looked_up() {
    for filesystems in [&["<", "!src", "!broken"][..], &["src<", "broken<", "!src", "!broken"]] {
        let world = world(settings(filesystems)).await;
        let tag = model::HoldTag::parse("mine").unwrap();
        let held = ALL.map(|dataset| zfs::Snapshot { dataset: name(dataset), name: crate::world::short("2") });
        zfs::Zfs::hold(&world.source.zfs(), &tag, &held).await.into_iter().for_each(Result::unwrap);
        fail(world.daemons.source_zfs.faults(), suspended(), |point| {
            point.verb == Verb::Holds && point.object.starts_with("broken")
        });
        let summary = world.run().await;
        assert_eq!((summary.errors, summary.steps), (1, 4), "{:?}", world.failures());
        world.assert_replicated("src/b").await;
        assert_eq!(world.target_versions("broken/c").await, ["@1 zrepl_last_received_J_sink"]);
        world.daemons.source_zfs.faults().clear();
        world.run_well().await;
        world.assert_replicated("broken/c").await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_job_that_does_not_want_it() {
    let world = world(settings(&["<", "!src", "!broken<"])).await;
    fail(world.daemons.source_zfs.faults(), suspended(), |point| {
        point.verb == Verb::List && (point.object.is_empty() || point.object.starts_with("broken"))
    });
    world.run_well().await;
    world.assert_replicated("src/b").await;
}

#[tokio::test(start_paused = true)]
async fn of_two_roots_of_one_pool() {
    let world = world(settings(&["src<", "!src", "broken/c<", "broken/d<"])).await;
    let odd = ErrorKind::Output { command: "zfs list".to_owned(), problem: "odd".to_owned() };
    fail(world.daemons.source_zfs.faults(), odd, |point| point.object.split('@').next() == Some("broken/c"));
    only_the_broken_waits(&world, &["broken/c"]).await;
}

#[tokio::test(start_paused = true)]
async fn when_what_failed_is_listed_again() {
    let world = World::new(Settings { attempts: 3, concurrency: 4, ..settings(&["<", "!src", "!broken"]) });
    world.source.create_pool(&name("broken")).unwrap();
    world.create(&ALL);
    for filesystem in ALL {
        world.snapshot("1", &[filesystem]).await;
    }
    let faults = world.daemons.source_zfs.faults();
    for nth in 0..4 {
        faults.at_verb(Verb::Send, nth, Moment::Before, Action::Fail(ErrorKind::Busy));
    }
    // After all have been listed, the oldest is by itself; then the others are, together at first.
    let calls = faults.clone();
    fail(faults, suspended(), move |point| {
        let nth = calls.calls().get(&Verb::List).copied().unwrap_or_default();
        point.verb == Verb::List && (nth == 3 || nth > 3 && point.object.starts_with("broken"))
    });
    let summary = world.run().await;
    let failures = world.failures();
    assert_eq!(summary.errors, 2, "{failures:?}");
    world.assert_replicated("src/a").await;
    world.assert_replicated("src/b").await;
    for broken in ["broken/c", "broken/d"] {
        let said = format!("{broken}: cannot list filesystem {broken:?}");
        assert_eq!(failures.iter().filter(|failure| failure.starts_with(&said)).count(), 1, "{failures:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_job_that_only_snapshots_prunes() {
    let world = world(settings(&["<", "!src", "!broken"])).await;
    fail(world.daemons.source_zfs.faults(), suspended(), |point| {
        point.verb == Verb::List && (point.object.is_empty() || point.object.starts_with("broken"))
    });
    let summary = prune_local(LocalInvocation {
        number: 1,
        events: world.daemons.events.clone(),
        endpoint: world.daemons.sender.clone(),
        keep: vec![last_n(1)],
        attempts: daemon::limits::ATTEMPTS,
        patience: Patience::default(),
        drain: daemon::Drain::default(),
        cancel: CancellationToken::new(),
    })
    .await;
    assert_eq!((summary.errors, summary.destroyed, summary.filesystems), (1, 4, 2));
    let failures = world.failures();
    let why = r#"pool "broken" is suspended (see `zpool status` and `zpool clear`)"#;
    assert_eq!(failures, [format!(r#"cannot list filesystem "broken" and what is below it: {why}"#)]);
    assert_eq!(world.source_versions("broken/c").await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn when_snapshots_are_taken() {
    let world = world(settings(&["<", "!src", "!broken"])).await;
    let (zfs, events) = (&world.daemons.source_zfs, &world.daemons.events);
    fail(zfs.faults(), suspended(), |point| {
        point.verb == Verb::List && (point.object.is_empty() || point.object.starts_with("broken"))
    });
    let naming = SnapshotNaming::new("auto_".to_owned(), TimestampFormat::dense());
    let plan =
        plan_round(zfs, jiff::Timestamp::UNIX_EPOCH, &naming, &world.settings.filesystems, events).await.unwrap();
    let failures = take_round(zfs, plan, &HookRunner::new(Vec::new(), events.clone()), events).await;
    assert_eq!(failures.snapshots, 1);
    let taken = |what| match what {
        What::Snapshotting(model::event::Snapshotting::Taken { filesystem, result, .. }) => {
            Some((filesystem.to_string(), result.err()))
        }
        _ => None,
    };
    let mut taken: Vec<_> = world.events().into_iter().filter_map(taken).collect();
    taken.sort();
    assert_eq!(taken[1..], [("src/a".to_owned(), None), ("src/b".to_owned(), None)]);
    let (root, why) = &taken[0];
    assert!(root == "broken" && why.as_ref().unwrap().contains("cannot be listed: pool"), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_s_pool_that_goes_away_is_not_taken_for_an_empty_one() {
    let world = world(Settings { attempts: 3, ..settings(&["src/a"]) }).await;
    let before = world.source_versions("src/a").await;
    world.daemons.source_zfs.faults().at_verb(Verb::Send, 1, Moment::Before, Action::Fail(ErrorKind::Busy));
    let gone = async {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        world.target.set_pool_state("dst", PoolState::Exported).unwrap();
    };
    let (summary, ()) = tokio::join!(world.run(), gone);
    let failures = world.failures();
    assert_eq!((summary.steps, summary.errors), (0, 2), "neither replicated nor pruned: {failures:?}");
    assert!(failures.iter().any(|failure| failure.starts_with(r#"src/a: pool "dst" is not imported"#)), "{failures:?}");
    let held = |versions: &[String]| versions.iter().filter(|one| one.contains("STEP")).count();
    assert_eq!((held(&before), held(&world.source_versions("src/a").await)), (0, 2), "what the step needs is held");
    world.target.set_pool_state("dst", PoolState::Online).unwrap();
    world.run_well().await;
    world.assert_replicated("src/a").await;
}
