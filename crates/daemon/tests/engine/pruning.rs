//! What is destroyed on both sides, and what never is.

use std::sync::Arc;
use std::time::Duration;

use daemon::act::{LocalInvocation, prune_local, replicate_and_prune};
use daemon::endpoint::{SendPolicy, Sender, SenderConfig};
use model::event::{Pruning, What};
use model::plan::prune::{KeepRule, PruneSide};
use model::protection::ProtectionStrategy;
use model::{HoldTag, JobName, VersionKind, VersionRef};
use tokio_util::sync::CancellationToken;
use wire::{DestroyOutcome, DestroyRequest, Endpoint};
use zfs::fake::{Action, Moment, Verb};
use zfs::{ErrorKind, Snapshot, Zfs};

use crate::world::{Settings, World, filter, last_n, name, received, short};

async fn five_snapshots(settings: Settings) -> World {
    let world = World::new(settings);
    world.create(&["src/a"]);
    for snapshot in ["1", "2", "3", "4", "5"] {
        world.write("src/a", snapshot, 2_000);
        world.snapshot(snapshot, &["src/a"]).await;
    }
    world
}

fn both(keep_sender: usize, keep_receiver: usize) -> Settings {
    let not_replicated = KeepRule::NotReplicated { keep_snapshot_at_cursor: true };
    Settings {
        keep_sender: vec![not_replicated, last_n(keep_sender)],
        keep_receiver: vec![last_n(keep_receiver)],
        ..Settings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_are_pruned_after_replication() {
    let world = five_snapshots(both(1, 3)).await;
    let summary = world.run_well().await;
    assert_eq!((summary.steps, summary.destroyed), (5, 6));
    assert_eq!(world.source_versions("src/a").await, ["#zrepl_CURSOR_G_GUID_J_push", "@5"]);
    assert_eq!(world.target_versions("src/a").await, ["@3", "@4", "@5 zrepl_last_received_J_sink"]);
    let before = world.processes();
    assert_eq!(world.run_well().await.destroyed, 0);
    assert_eq!(world.processes() - before, 5, "an idle cycle lists each side once, pruning included");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_replicated_is_kept_on_the_sender_also_when_replication_failed() {
    let world = five_snapshots(Settings { attempts: 1, ..both(1, 1) }).await;
    let faults = world.daemons.target_zfs.faults();
    faults.at_verb(Verb::Receive, 3, Moment::Before, Action::Fail(ErrorKind::NoSpace));
    let summary = world.run().await;
    assert_eq!((summary.errors, summary.steps, summary.destroyed), (1, 3, 4));
    assert_eq!(
        world.source_versions("src/a").await,
        ["#zrepl_CURSOR_G_GUID_J_push", "@3 zrepl_STEP_J_push", "@4 zrepl_STEP_J_push", "@5"]
    );
    assert_eq!(world.target_versions("src/a").await, ["@3 zrepl_last_received_J_sink"]);
}

#[tokio::test(start_paused = true)]
async fn held_snapshots_are_kept_and_are_no_error() {
    let world = five_snapshots(both(1, 1)).await;
    let tag = HoldTag::parse("mine").unwrap();
    let snapshot = Snapshot { dataset: name("src/a"), name: short("2") };
    world.source.zfs().hold(&tag, &[snapshot]).await.remove(0).unwrap();
    assert_eq!(world.run_well().await.destroyed, 7);
    assert_eq!(world.source_versions("src/a").await, ["@2 mine", "#zrepl_CURSOR_G_GUID_J_push", "@5"]);
}

#[tokio::test(start_paused = true)]
async fn the_common_base_survives_without_any_protection() {
    let settings = Settings {
        strategy: ProtectionStrategy::Nothing,
        keep_receiver: vec![KeepRule::Regex { regex: regex(), negate: false }],
        ..Settings::default()
    };
    let world = five_snapshots(settings).await;
    world.run_well().await;
    assert_eq!(world.target_versions("src/a").await, ["@5"]);
}

fn regex() -> regex::Regex {
    regex::Regex::new("^nothing$").unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_rules_nothing_is_looked_at_or_destroyed() {
    let world = five_snapshots(Settings::default()).await;
    world.run_well().await;
    let before = world.processes();
    assert_eq!(world.run_well().await.destroyed, 0);
    assert_eq!(world.processes() - before, 5);
    assert_eq!(world.source_versions("src/a").await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_cannot_be_destroyed_is_one_error_and_others_go() {
    let world = five_snapshots(both(1, 1)).await;
    let snapshot = Snapshot { dataset: name("src/a"), name: short("2") };
    world.source.clone_snapshot(&snapshot, &name("src/clone")).unwrap();
    let summary = world.run().await;
    assert_eq!((summary.errors, summary.destroyed), (2, 7), "{summary:?}");
    let failures = world.failures();
    assert!(failures.iter().any(|failure| failure.contains("src/a@2: it has clones")), "{failures:?}");
    assert!(failures.iter().any(|failure| failure.contains("src/clone")), "a clone without snapshots: {failures:?}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_was_made_anew_under_its_old_name_is_not_destroyed() {
    let world = five_snapshots(Settings::default()).await;
    let zfs = world.source.zfs();
    let version = |kind, text: &str| VersionRef {
        kind,
        name: short(text),
        guid: world.source.snapshot_guid(&name("src/a"), &short(text)).unwrap_or(model::Guid(1)),
    };
    let request = DestroyRequest {
        filesystem: name("src/a"),
        snapshots: vec![
            version(VersionKind::Snapshot, "1"),
            version(VersionKind::Snapshot, "2"),
            version(VersionKind::Snapshot, "never"),
            version(VersionKind::Bookmark, "3"),
        ],
    };
    zfs.destroy_snapshots(&name("src/a"), &[short("1")]).await.remove(0).unwrap();
    world.snapshot("1", &["src/a"]).await;
    let results = world.daemons.sender.destroy_snapshots(&[request]).await.unwrap();
    let outcomes: Vec<&DestroyOutcome> = results[0].results.iter().map(|(_, outcome)| outcome).collect();
    assert!(matches!(outcomes[0], DestroyOutcome::Failed(why) if why.contains("another snapshot")), "{outcomes:?}");
    assert_eq!(outcomes[1..3], [&DestroyOutcome::Destroyed, &DestroyOutcome::Destroyed]);
    assert!(matches!(outcomes[3], DestroyOutcome::Failed(_)));
    assert_eq!(world.source_versions("src/a").await, ["@3", "@4", "@5", "@1"]);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_keeps_what_is_held_and_says_by_whom() {
    let world = five_snapshots(Settings::default()).await;
    world.run_well().await;
    let guid = world.source.snapshot_guid(&name("src/a"), &short("5")).unwrap();
    let version = VersionRef { kind: VersionKind::Snapshot, name: short("5"), guid };
    let request = DestroyRequest { filesystem: name("src/a"), snapshots: vec![version] };
    let receiver = wire::Connector::connect(&crate::world::Direct(world.daemons.sink.clone())).await.unwrap();
    let results = receiver.destroy_snapshots(&[request]).await.unwrap();
    let kept = DestroyOutcome::Kept(r#"it is held by "zrepl_last_received_J_sink""#.to_owned());
    assert_eq!(results[0].results, [(short("5"), kept)]);
    assert_eq!(world.target_versions("src/a").await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn many_filesystems_are_looked_at_in_few_listings_before_destroying() {
    let world = World::new(both(1, 1));
    let filesystems: Vec<String> = (0..50).map(|number| format!("src/f{number}")).collect();
    let filesystems: Vec<&str> = filesystems.iter().map(String::as_str).collect();
    world.create(&filesystems);
    world.snapshot("1", &filesystems).await;
    world.snapshot("2", &filesystems).await;
    let summary = world.run_well().await;
    assert_eq!(summary.destroyed, 100);
    let lists = world.daemons.source_zfs.faults().processes();
    assert_eq!(lists["list"], 4 * 2, "for planning, before pruning, twice before destroying");
    assert_eq!(lists["destroy"], 50 + 50, "an older cursor and a snapshot per filesystem");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_only_snapshots_prunes_its_own() {
    let world = five_snapshots(Settings::default()).await;
    let invocation = LocalInvocation {
        number: 7,
        events: world.daemons.events.clone(),
        endpoint: world.daemons.sender.clone(),
        keep: vec![last_n(2)],
        attempts: daemon::limits::ATTEMPTS,
        patience: daemon::act::Patience::default(),
        drain: daemon::Drain::default(),
        cancel: CancellationToken::new(),
    };
    let summary = prune_local(invocation).await;
    assert_eq!((summary.destroyed, summary.errors, summary.filesystems), (3, 0, 1));
    assert_eq!(world.source_versions("src/a").await, ["@4", "@5"]);
    let events = world.events();
    assert!(matches!(events.first(), Some(What::InvocationStarted { number: 7 })));
    assert!(matches!(events.last(), Some(What::InvocationFinished { number: 7, .. })));
    let destroyed = events.iter().find_map(|what| match what {
        What::Pruning { side: PruneSide::Local, what: Pruning::Filesystem { destroyed, .. } } => {
            Some(destroyed.clone())
        }
        _ => None,
    });
    assert_eq!(destroyed, Some(vec![short("1"), short("2"), short("3")]));
    let told: Vec<String> = events
        .iter()
        .filter_map(|what| match what {
            What::Pruning { what: Pruning::Destroyed { filesystem, snapshot, rules }, .. } => {
                Some(format!("{filesystem}@{snapshot}: {rules}"))
            }
            _ => None,
        })
        .collect();
    let expected = ["1", "2", "3"].map(|name| format!("src/a@{name}: last_n 2 (it is not among the newest)"));
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_away_does_not_keep_the_sender_from_being_pruned() {
    let world = five_snapshots(Settings { attempts: 1, ..both(1, 1) }).await;
    world.run_well().await;
    world.snapshot("6", &["src/a"]).await;
    world.target.set_pool_state("dst", zfs::fake::PoolState::Exported).unwrap();
    let summary = replicate_and_prune(world.invocation()).await;
    assert_eq!((summary.errors, summary.destroyed), (2, 0), "no plan, and no pruning of the receiver");
    world.target.set_pool_state("dst", zfs::fake::PoolState::Online).unwrap();
    assert_eq!(world.target_versions("src/a").await, ["@5 zrepl_last_received_J_sink"]);
    assert_eq!(world.source_versions("src/a").await, ["#zrepl_CURSOR_G_GUID_J_push", "@5", "@6"]);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_before_destroying_is_one_error_and_destroys_nothing() {
    let world = five_snapshots(both(1, 3)).await;
    // The looks at the sender: for planning, before pruning, and at what is to be pruned.
    let faults = world.daemons.source_zfs.faults();
    faults.at_verb(Verb::List, 2, Moment::Before, Action::Fail(ErrorKind::PermissionDenied));
    let summary = world.run().await;
    assert_eq!((summary.errors, summary.destroyed), (1, 2), "the receiver is pruned all the same");
    let failures = world.failures();
    assert!(failures.len() == 1 && failures[0].contains("cannot be looked at: permission denied"), "{failures:?}");
    assert_eq!(world.source_versions("src/a").await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn without_cursor_and_receiver_nothing_that_may_be_the_base_is_destroyed() {
    let settings = Settings {
        strategy: ProtectionStrategy::Nothing,
        attempts: 1,
        keep_sender: vec![last_n(1)],
        ..Settings::default()
    };
    let world = five_snapshots(settings).await;
    world.run_well().await;
    assert_eq!(world.source_versions("src/a").await, ["@5"]);
    world.snapshot("6", &["src/a"]).await;
    world.target.set_pool_state("dst", zfs::fake::PoolState::Exported).unwrap();
    assert_eq!(world.run().await.destroyed, 0);
    assert_eq!(world.source_versions("src/a").await, ["@5", "@6"]);
    world.target.set_pool_state("dst", zfs::fake::PoolState::Online).unwrap();
    world.run_well().await;
    world.assert_replicated("src/a").await;
    assert_eq!(world.source_versions("src/a").await, ["@6"]);
}

#[tokio::test(start_paused = true)]
async fn snapshots_of_a_pool_that_went_away_are_not_reported_as_destroyed() {
    let world = five_snapshots(Settings::default()).await;
    world.create(&["src/b"]);
    world.snapshot("1", &["src/b"]).await;
    let request = |filesystem: &str| {
        let guid = world.source.snapshot_guid(&name(filesystem), &short("1")).unwrap();
        let version = VersionRef { kind: VersionKind::Snapshot, name: short("1"), guid };
        DestroyRequest { filesystem: name(filesystem), snapshots: vec![version] }
    };
    let requests = [request("src/a"), request("src/b")];
    world.source.set_pool_state("src", zfs::fake::PoolState::Exported).unwrap();
    for asked in [&requests[..], &requests[..1]] {
        let results = world.daemons.sender.destroy_snapshots(asked).await.unwrap();
        for result in results {
            let (_, outcome) = &result.results[0];
            assert!(matches!(outcome, DestroyOutcome::Failed(why) if why.contains("is not imported")), "{result:?}");
        }
    }
    world.source.set_pool_state("src", zfs::fake::PoolState::Online).unwrap();
    assert_eq!(world.source_versions("src/a").await.len(), 5);
}

/// Requests for the snapshot `1` of each of these.
fn requests(world: &World, filesystems: &[String]) -> Vec<DestroyRequest> {
    let request = |filesystem: &String| {
        let guid = world.source.snapshot_guid(&name(filesystem), &short("1")).unwrap();
        let version = VersionRef { kind: VersionKind::Snapshot, name: short("1"), guid };
        DestroyRequest { filesystem: name(filesystem), snapshots: vec![version] }
    };
    filesystems.iter().map(request).collect()
}

#[tokio::test(start_paused = true)]
async fn one_filesystem_that_cannot_be_looked_at_or_is_gone_concerns_no_other() {
    let world = World::new(Settings::default());
    let filesystems: Vec<String> = (0..40).map(|number| format!("src/f{number:02}")).collect();
    let names: Vec<&str> = filesystems.iter().map(String::as_str).collect();
    world.create(&names);
    world.snapshot("1", &names).await;
    let requests = requests(&world, &filesystems);
    let zfs = world.source.zfs();
    zfs.destroy_snapshots(&name("src/f05"), &[short("1")]).await[0].clone().unwrap();
    zfs.destroy_dataset(&name("src/f05")).await.unwrap();
    // The first listing fails, and then the look at one of its filesystems.
    let faults = world.daemons.source_zfs.faults();
    let odd = || ErrorKind::Output { command: "zfs get".to_owned(), problem: "odd".to_owned() };
    faults.at_verb(Verb::List, 0, Moment::Before, Action::Fail(odd()));
    faults.at_verb(Verb::Dataset, 7, Moment::Before, Action::Fail(odd()));
    let results = world.daemons.sender.destroy_snapshots(&requests).await.unwrap();
    let failed: Vec<String> = results
        .iter()
        .filter(|result| result.results[0].1 != DestroyOutcome::Destroyed)
        .map(|result| result.filesystem.to_string())
        .collect();
    assert_eq!(failed, ["src/f06"], "one more look was at the pool of what is gone");
    let left: Vec<String> = zfs
        .list(&zfs::Scope::Everything)
        .await
        .unwrap()
        .datasets
        .iter()
        .filter(|d| !d.versions.is_empty())
        .map(|d| d.name.to_string())
        .collect();
    assert_eq!(left, ["src/f06"]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_cannot_be_listed_is_not_in_the_way_of_the_others() {
    let settings = Settings { filesystems: filter(&["broken<", "src<", "!src", "!broken"]), attempts: 1, ..both(1, 1) };
    let world = World::new(settings);
    world.source.create_pool(&name("broken")).unwrap();
    world.create(&["src/a", "broken/b"]);
    world.snapshot("1", &["src/a"]).await;
    world.snapshot("1", &["broken/b"]).await;
    world.run_well().await;
    for number in ["2", "3"] {
        world.snapshot(number, &["src/a"]).await;
        world.snapshot(number, &["broken/b"]).await;
    }
    let before = world.source_versions("broken/b").await;
    let faults = world.daemons.source_zfs.faults();
    faults.hook(|point| match point.object.starts_with("broken") {
        true => Action::Fail(ErrorKind::PoolSuspended { pool: "broken".to_owned() }),
        false => Action::Proceed,
    });
    let summary = world.run().await;
    assert_eq!((summary.errors, summary.steps), (1, 2));
    let failures = world.failures();
    assert!(failures.iter().all(|failure| failure.contains(r#"cannot list filesystem "broken""#)), "{failures:?}");
    world.assert_replicated("src/a").await;
    assert_eq!(world.source_versions("broken/b").await, before);
    assert_eq!(world.target_versions("broken/b").await, ["@1 zrepl_last_received_J_sink"]);
    faults.clear();
    world.run_well().await;
    world.assert_replicated("broken/b").await;
}

#[tokio::test(start_paused = true)]
async fn what_failed_and_may_work_later_is_tried_again_and_nothing_else() {
    let killed = || ErrorKind::Killed { command: "zfs list".into(), signal: 9 };
    // Both sides are listed for planning, and again before pruning.
    for (kind, errors, destroyed) in [(killed(), 0, 6), (ErrorKind::PermissionDenied, 2, 0)] {
        let world = five_snapshots(both(1, 3)).await;
        world.daemons.source_zfs.faults().at_verb(Verb::List, 1, Moment::Before, Action::Fail(kind));
        let summary = world.run().await;
        let failures = world.failures();
        assert_eq!((summary.errors, summary.destroyed, summary.replicated), (errors, destroyed, true), "{failures:?}");
    }
    let world = five_snapshots(both(1, 3)).await;
    world.daemons.target_zfs.faults().at_verb(Verb::List, 1, Moment::Before, Action::Fail(killed()));
    let summary = world.run().await;
    assert_eq!((summary.errors, summary.destroyed), (0, 6));
    let tried_again = |what: &What| matches!(what, What::Warning { subsystem: "pruning", .. });
    assert_eq!(world.events().iter().filter(|what| tried_again(what)).count(), 1);
    assert_eq!(world.target_versions("src/a").await, ["@3", "@4", "@5 zrepl_last_received_J_sink"]);
}

#[tokio::test(start_paused = true)]
async fn tries_to_prune_end() {
    let world = five_snapshots(both(1, 3)).await;
    world.run_well().await;
    world.snapshot("6", &["src/a"]).await;
    let listed = std::sync::atomic::AtomicBool::new(false);
    world.daemons.target_zfs.faults().hook(move |point| {
        let again = (point.verb, point.moment) == (Verb::List, Moment::Before)
            && listed.swap(true, std::sync::atomic::Ordering::Relaxed);
        if again { Action::Fail(ErrorKind::Busy) } else { Action::Proceed }
    });
    let before = world.daemons.target_zfs.faults().calls()[&Verb::List];
    let summary = world.run().await;
    assert_eq!((summary.errors, summary.steps), (1, 1));
    assert_eq!(world.daemons.target_zfs.faults().calls()[&Verb::List] - before, 4, "one to plan, three to prune");
    let failures = world.failures();
    assert!(failures.len() == 1 && failures[0].starts_with("prune Receiver: cannot list the receiver"), "{failures:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_only_snapshots_tries_again_as_well() {
    let world = five_snapshots(Settings::default()).await;
    world.daemons.source_zfs.faults().at_verb(Verb::List, 0, Moment::Before, Action::Fail(ErrorKind::Busy));
    let invocation = LocalInvocation {
        number: 1,
        events: world.daemons.events.clone(),
        endpoint: world.daemons.sender.clone(),
        keep: vec![last_n(2)],
        attempts: daemon::limits::ATTEMPTS,
        patience: daemon::act::Patience::default(),
        drain: daemon::Drain::default(),
        cancel: CancellationToken::new(),
    };
    let summary = prune_local(invocation).await;
    assert_eq!((summary.destroyed, summary.errors), (3, 0));
}

/// What becomes of the base if a person rolls the sender back to `@3` while the receiver, about to be
/// pruned, is listed, and that listing does not succeed at once.
async fn rolled_back_during_the_look(at_first: Action) -> World {
    let world = five_snapshots(both(5, 1)).await;
    let (source, target) = (world.source.clone(), world.target.clone());
    world.daemons.target_zfs.faults().hook(move |point| {
        let has_arrived = || target.snapshot_guid(&name(&received("src/a")), &short("5")).is_some();
        let is_there = || source.snapshot_guid(&name("src/a"), &short("5")).is_some();
        if point.verb != Verb::List || point.moment != Moment::Before || !has_arrived() || !is_there() {
            return Action::Proceed;
        }
        source.rollback(&Snapshot { dataset: name("src/a"), name: short("3") }).unwrap();
        at_first.clone()
    });
    world.run().await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_receiver_is_not_pruned_by_what_the_sender_had_before() {
    for at_first in [Action::Fail(ErrorKind::Busy), Action::Delay(Duration::from_secs(120))] {
        let world = rolled_back_during_the_look(at_first.clone()).await;
        assert_eq!(world.source_versions("src/a").await, ["@1", "@2", "@3"], "{at_first:?}");
        let left = world.target_versions("src/a").await;
        assert!(left.contains(&"@3".to_owned()) && !left.contains(&"@2".to_owned()), "{at_first:?}: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_received_keeps_its_newest_snapshot_also_while_nobody_holds_it() {
    let world = five_snapshots(Settings::default()).await;
    world.run_well().await;
    world.snapshot("6", &["src/a"]).await;
    // It arrives, and the daemon dies before it is held.
    world.daemons.target_zfs.faults().at_verb(Verb::Receive, 5, Moment::After, Action::Fail(ErrorKind::NoSpace));
    world.run().await;
    let there = name(&received("src/a"));
    let snapshot = |number: &str| VersionRef {
        kind: VersionKind::Snapshot,
        name: short(number),
        guid: world.target.snapshot_guid(&there, &short(number)).unwrap(),
    };
    let requests = [DestroyRequest { filesystem: there.clone(), snapshots: vec![snapshot("2"), snapshot("6")] }];
    // Another job of the receiving machine.
    let job = SenderConfig {
        job: JobName::parse("snap").unwrap(),
        filesystems: filter(&["dst<"]),
        send: SendPolicy::default(),
        bandwidth: Default::default(),
    };
    let other = Sender::new(Arc::new(world.target.zfs()), world.daemons.events.clone(), job);
    let results = other.destroy_snapshots(&requests).await.unwrap().remove(0).results;
    assert_eq!(results[0].1, DestroyOutcome::Destroyed);
    assert!(
        matches!(&results[1].1, DestroyOutcome::Kept(why) if why.contains(r#"what job "sink" receives"#)),
        "{results:?}"
    );
    world.run_well().await;
    world.assert_replicated("src/a").await;
}
