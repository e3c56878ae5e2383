//! Which step comes next, and how many at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::event::Replication;

use crate::world::{Settings, World};

const FILESYSTEMS: usize = 70;
const SNAPSHOTS: usize = 3;

/// Snapshots with times all over: which filesystem is snapshotted when follows no order of names.
async fn dated(concurrency: usize) -> (World, BTreeMap<(String, usize), usize>) {
    let world = World::new(Settings { concurrency, ..Settings::default() });
    let names: Vec<String> = (0..FILESYSTEMS).map(|number| format!("src/f{number:02}")).collect();
    world.create(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut dates = BTreeMap::new();
    for turn in 0..FILESYSTEMS * SNAPSHOTS {
        // 29 has no factor in common with 70, so that each turn of 70 reaches all of them.
        let name = &names[(turn * 29 + turn / FILESYSTEMS * 13) % FILESYSTEMS];
        let step = turn / FILESYSTEMS;
        dates.insert((name.clone(), step), turn);
        world.snapshot(&format!("s{step}"), &[name]).await;
    }
    world.daemons.source_zfs.faults().pace(2_000, Duration::from_millis(70));
    world.daemons.target_zfs.faults().pace(3_000, Duration::from_millis(110));
    (world, dates)
}

#[tokio::test(start_paused = true)]
async fn the_oldest_next_snapshot_goes_first_and_capacity_is_never_exceeded() {
    for concurrency in [1, 4, 64] {
        let (world, dates) = dated(concurrency).await;
        world.run_well_keeping_events().await;
        let mut next: BTreeMap<String, usize> = dates.keys().map(|(name, _)| (name.clone(), 0)).collect();
        let mut running: BTreeSet<String> = BTreeSet::new();
        let mut most = 0;
        for what in world.replication_events() {
            match what {
                Replication::StepStarted { filesystem, step } => {
                    let name = filesystem.to_string();
                    assert_eq!(next[&name], step, "{name}");
                    let date = dates[&(name.clone(), step)];
                    let waiting = next.iter().filter(|(name, step)| !running.contains(*name) && **step < SNAPSHOTS);
                    let oldest = waiting.map(|(name, step)| dates[&(name.clone(), *step)]).min();
                    assert_eq!(Some(date), oldest, "{name} step {step} with {concurrency} at a time");
                    assert!(running.insert(name), "one step of a filesystem at a time");
                }
                Replication::StepFinished { filesystem, .. } => {
                    running.remove(filesystem.as_str());
                    *next.get_mut(filesystem.as_str()).unwrap() += 1;
                }
                _ => {}
            }
            most = most.max(running.len());
        }
        assert_eq!(most, concurrency);
        assert!(next.values().all(|done| *done == SNAPSHOTS));
    }
}
