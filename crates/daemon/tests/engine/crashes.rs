//! Both daemons die at every point of the work; new ones on the same pools finish it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daemon::act::replicate_and_prune;
use daemon::endpoint::ConfiguredJobs;
use model::protection::ProtectionStrategy;
use zfs::fake::{Action, Faults};

use crate::world::{Settings, World, last_n};

/// Makes the calls of both sides hang from the `fatal`-th point on; how many there were.
fn die_at(world: &World, fatal: u64) -> Arc<AtomicU64> {
    let points = Arc::new(AtomicU64::new(0));
    let hook = |faults: &Faults| {
        let points = Arc::clone(&points);
        faults.hook(move |_| match points.fetch_add(1, Ordering::Relaxed) >= fatal {
            true => Action::Hang,
            false => Action::Proceed,
        });
    };
    hook(world.daemons.source_zfs.faults());
    hook(world.daemons.target_zfs.faults());
    points
}

async fn prepare(strategy: ProtectionStrategy, incremental: bool) -> World {
    let settings =
        Settings { strategy, keep_sender: vec![last_n(1)], keep_receiver: vec![last_n(2)], ..Settings::default() };
    let world = World::new(settings);
    world.create(&["src/a", "src/a/b"]);
    world.snapshot("1", &["src/a", "src/a/b"]).await;
    if incremental {
        world.run_well().await;
        world.write("src/a", "second", 3_000);
        world.snapshot("2", &["src/a", "src/a/b"]).await;
    }
    world
}

async fn crash_everywhere(strategy: ProtectionStrategy, incremental: bool) -> u64 {
    for fatal in 0.. {
        let mut world = prepare(strategy, incremental).await;
        let points = die_at(&world, fatal);
        let run = replicate_and_prune(world.invocation());
        let finished = tokio::time::timeout(Duration::from_secs(600), run).await.is_ok();
        let died = points.load(Ordering::Relaxed) > fatal;
        assert!(finished || died, "stuck without a crash at point {fatal}");

        world.restart();
        let jobs = ConfiguredJobs::default();
        world.daemons.sender.clean_and_warn(&jobs).await.unwrap();
        world.daemons.sink.clean_and_warn(&jobs).await.unwrap();
        world.events();
        world.run_well().await;
        for filesystem in ["src/a", "src/a/b"] {
            world.assert_replicated(filesystem).await;
            let newest = if incremental { "2" } else { "1" };
            let protected = match strategy {
                ProtectionStrategy::Nothing => (vec![format!("@{newest}")], format!("@{newest}")),
                _ => (
                    vec!["#zrepl_CURSOR_G_GUID_J_push".to_owned(), format!("@{newest}")],
                    format!("@{newest} zrepl_last_received_J_sink"),
                ),
            };
            assert_eq!(world.source_versions(filesystem).await, protected.0, "crash at point {fatal}");
            assert_eq!(world.target_versions(filesystem).await.last(), Some(&protected.1), "crash at point {fatal}");
        }
        if !died {
            return fatal;
        }
    }
    unreachable!("the loop ends when a run is over before its fatal point")
}

#[tokio::test(start_paused = true)]
async fn of_a_first_replication() {
    assert!(crash_everywhere(ProtectionStrategy::Resumability, false).await > 20);
}

#[tokio::test(start_paused = true)]
async fn of_an_increment() {
    assert!(crash_everywhere(ProtectionStrategy::Resumability, true).await > 20);
}

#[tokio::test(start_paused = true)]
async fn of_an_increment_with_tentative_cursors() {
    assert!(crash_everywhere(ProtectionStrategy::Incremental, true).await > 20);
}

#[tokio::test(start_paused = true)]
async fn of_an_increment_without_protection() {
    assert!(crash_everywhere(ProtectionStrategy::Nothing, true).await > 20);
}
