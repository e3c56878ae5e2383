//! What becomes of filesystems that cannot be replicated, and of those that only seem so.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use model::event::{Replication, What};
use model::plan::prune::KeepRule;
use model::protection::ProtectionStrategy;
use model::{RetryClass, VersionKind, VersionRef};
use wire::{Connector, ReceiveRequest};
use zfs::fake::{Action, Moment, Verb};
use zfs::{ErrorKind, Snapshot, Zfs};

use crate::world::{Direct, Settings, World, filter, last_n, name, received, short};

async fn replicated(settings: Settings) -> World {
    let world = World::new(settings);
    world.create(&["src/a"]);
    for snapshot in ["1", "2", "3"] {
        world.write("src/a", snapshot, 2_000);
        world.snapshot(snapshot, &["src/a"]).await;
    }
    world.run_well().await;
    world
}

async fn destroy(world: &World, filesystem: &str, snapshot: &str) {
    for result in world.source.zfs().destroy_snapshots(&name(filesystem), &[short(snapshot)]).await {
        result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_was_rolled_back_keeps_what_is_left_in_common() {
    for strategy in [ProtectionStrategy::Resumability, ProtectionStrategy::Incremental] {
        let keep_sender = vec![KeepRule::NotReplicated { keep_snapshot_at_cursor: true }, last_n(10)];
        let world = replicated(Settings { strategy, keep_sender, ..Settings::default() }).await;
        world.source.rollback(&Snapshot { dataset: name("src/a"), name: short("2") }).unwrap();
        assert_eq!(world.source_versions("src/a").await, ["@1", "@2"], "the cursor went with its snapshot");
        assert_eq!(world.run().await.errors, 1);
        let told = world.events().into_iter().any(
            |what| matches!(what, What::Note { message, .. } if message.contains("@2, the newest that both sides have, was not protected; now it is")),
        );
        assert!(told);
        let kept = ["@1", "#zrepl_CURSOR_G_GUID_J_push", "@2"];
        assert_eq!(world.source_versions("src/a").await, kept);

        // Once is enough.
        let before = world.daemons.source_zfs.faults().calls().get(&Verb::Bookmark).copied();
        assert_eq!(world.run().await.errors, 1);
        assert_eq!(world.daemons.source_zfs.faults().calls().get(&Verb::Bookmark).copied(), before);
        assert_eq!(world.source_versions("src/a").await, kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_comes_again_is_told_and_renaming_helps() {
    let world = replicated(Settings::default()).await;
    destroy(&world, "src/a", "2").await;
    world.snapshot("2", &["src/a"]).await;
    world.events();
    let (summary, failures) = (world.run().await, world.failures());
    assert_eq!((summary.errors, summary.steps), (1, 0));
    assert!(failures.iter().any(|failure| failure.contains("NameTaken")), "{failures:?}");
    destroy(&world, "src/a", "2").await;
    world.snapshot("2b", &["src/a"]).await;
    world.run_well().await;
    world.assert_replicated("src/a").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_below_does_not_fail_with_a_conflict_that_a_later_plan_finds() {
    let world = World::new(Settings { attempts: 2, ..Settings::default() });
    world.create(&["src/a", "src/a/b"]);
    world.snapshot("1", &["src/a", "src/a/b"]).await;
    world.daemons.source_zfs.faults().at_verb(Verb::Send, 0, Moment::Before, Action::Fail(ErrorKind::Busy));
    // While the parent waits for its second try, its only snapshot goes.
    let user = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let tag = model::HoldTag::parse("zrepl_STEP_J_push").unwrap();
        let snapshot = Snapshot { dataset: name("src/a"), name: short("1") };
        world.source.zfs().release(&tag, &[snapshot]).await;
        destroy(&world, "src/a", "1").await;
    };
    let (summary, ()) = tokio::join!(world.run(), user);
    assert_eq!((summary.errors, summary.steps), (1, 1));
    let conflicts = world.replication_events().into_iter();
    let conflicts = conflicts.filter(|what| matches!(what, Replication::Conflicted { .. })).count();
    assert_eq!(conflicts, 1);
    world.assert_replicated("src/a/b").await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_for_a_confirmation_is_on_what_was_meant() {
    let world = replicated(Settings { strategy: ProtectionStrategy::Nothing, ..Settings::default() }).await;
    let receiver = Direct(world.daemons.sink.clone()).connect().await.unwrap();
    receiver.list().await.unwrap();
    let guid = |snapshot: &str| world.source.snapshot_guid(&name("src/a"), &short(snapshot)).unwrap();
    let confirm = |snapshot: &str, of: &str| {
        let version = VersionRef { kind: VersionKind::Snapshot, name: short(snapshot), guid: guid(of) };
        ReceiveRequest {
            filesystem: name("src/a"),
            from: Some(version.clone()),
            to: version,
            clear_resume_token: false,
            protection: model::protection::ProtectionPolicy::default(),
        }
    };
    let error = receiver.confirm_received(&confirm("2", "3")).await.unwrap_err();
    assert!(error.to_string().contains("another snapshot has its name by now"), "{error}");
    assert_eq!(error.class(), RetryClass::Transient);
    assert_eq!(world.target_versions("src/a").await, ["@1", "@2", "@3"]);
    receiver.confirm_received(&confirm("3", "3")).await.unwrap();
    assert_eq!(world.target_versions("src/a").await, ["@1", "@2", "@3 zrepl_last_received_J_sink"]);
}

#[tokio::test(start_paused = true)]
async fn a_zfs_that_cannot_copy_bookmarks_is_asked_once() {
    for refusal in [
        ErrorKind::Failed { command: "zfs".into(), status: "exit status 2".into(), stderr: "usage".into() },
        ErrorKind::Killed { command: "zfs".into(), signal: 9 },
    ] {
        let asked_again = matches!(refusal, ErrorKind::Killed { .. });
        let world = World::new(Settings { strategy: ProtectionStrategy::Incremental, ..Settings::default() });
        world.create(&["src/a"]);
        world.snapshot("1", &["src/a"]).await;
        world.snapshot("2", &["src/a"]).await;
        let faults = world.daemons.source_zfs.faults();
        // The first marks what is sent, the second copies that mark.
        faults.at_verb(Verb::Bookmark, 1, Moment::Before, Action::Fail(refusal));
        world.run_well().await;
        assert_eq!(world.source_versions("src/a").await, ["@1", "#zrepl_CURSOR_G_GUID_J_push", "@2"]);
        let calls = world.daemons.source_zfs.faults().calls();
        let counted = |verb| calls.get(&verb).copied().unwrap_or(0);
        assert_eq!(counted(Verb::Bookmark), 5, "a mark and a cursor for each, and the refusal");
        assert_eq!(counted(Verb::IsStill), if asked_again { 1 } else { 2 });
    }
}

/// The same below `src` and below another pool.
async fn two_pools() -> World {
    let world = World::new(Settings { filesystems: filter(&["src/a", "other/a"]), ..Settings::default() });
    world.source.create_pool(&name("other")).unwrap();
    world.create(&["src/a", "other/a"]);
    world.snapshot("1", &["src/a", "other/a"]).await;
    world
}

/// Listings that begin with the other pool fail so many times, from the first that `from` says.
fn fail_listings(world: &World, from: u32, count: u32) {
    let calls = AtomicU32::new(0);
    world.daemons.source_zfs.faults().hook(move |point| {
        let lists = point.verb == Verb::List && point.moment == Moment::Before && point.object.starts_with("other");
        let fails = lists && (from..from + count).contains(&calls.fetch_add(1, Ordering::Relaxed));
        if fails { Action::Fail(ErrorKind::Killed { command: "zfs".into(), signal: 9 }) } else { Action::Proceed }
    });
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_fails_to_be_listed_for_a_moment_is_replicated_all_the_same() {
    let world = two_pools().await;
    fail_listings(&world, 0, 3);
    let summary = world.run_well().await;
    assert_eq!(summary.steps, 2);
    for filesystem in ["src/a", "other/a"] {
        assert_eq!(World::versions(&world.target, &received(filesystem)).await, ["@1 zrepl_last_received_J_sink"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_fails_longer_is_left_out_and_others_go_on() {
    let world = two_pools().await;
    fail_listings(&world, 0, 100);
    let summary = world.run().await;
    assert_eq!((summary.errors, summary.steps, summary.replicated), (1, 1, false));
    world.assert_replicated("src/a").await;
}

#[tokio::test(start_paused = true)]
async fn the_base_is_protected_before_the_receiver_is_rolled_back() {
    let mut world = replicated(Settings { attempts: 1, ..Settings::default() }).await;
    world.settings.conflicts.diverged = model::plan::resolve::WhenDiverged::RollbackReceiver;
    world.source.rollback(&Snapshot { dataset: name("src/a"), name: short("2") }).unwrap();
    world.snapshot("4", &["src/a"]).await;
    let faults = world.daemons.target_zfs.faults();
    faults.at_verb(Verb::DestroyTogether, 0, Moment::Before, Action::Fail(ErrorKind::Busy));
    assert_eq!(world.run().await.errors, 1);
    assert_eq!(world.source_versions("src/a").await, ["@1", "#zrepl_CURSOR_G_GUID_J_push", "@2", "@4"]);
    world.run_well().await;
    world.assert_replicated("src/a").await;
}
