//! What is replicated, how often ZFS is called for it, and what protects it.

use model::event::{Replication, What};
use model::plan::replication::InitialReplication;
use model::plan::resolve::{ConflictPolicy, WhenDiverged};
use model::protection::ProtectionStrategy;
use zfs::SendFlags;
use zfs::fake::{StreamFault, Verb};

use crate::world::{Settings, World, filter, name, received};
use daemon::endpoint::SendPolicy;

#[tokio::test(start_paused = true)]
async fn initial_then_incremental_with_zrepls_names_on_disk() {
    let world = World::new(Settings::default());
    world.create(&["src/a", "src/a/b c"]);
    world.snapshot("1", &["src/a", "src/a/b c"]).await;
    world.snapshot("2", &["src/a"]).await;

    let summary = world.run_well().await;
    assert_eq!((summary.filesystems, summary.steps, summary.cancelled), (2, 3, false));
    assert!(summary.bytes > 20_000, "{summary:?}");
    world.assert_replicated("src/a").await;
    world.assert_replicated("src/a/b c").await;
    assert_eq!(world.source_versions("src/a").await, ["@1", "#zrepl_CURSOR_G_GUID_J_push", "@2"]);
    assert_eq!(world.target_versions("src/a").await, ["@1", "@2 zrepl_last_received_J_sink"]);

    world.write("src/a", "second", 5_000);
    world.snapshot("3", &["src/a", "src/a/b c"]).await;
    let summary = world.run_well().await;
    assert_eq!(summary.steps, 2);
    assert!(summary.bytes < 10_000, "only what is new: {summary:?}");
    world.assert_replicated("src/a").await;
    assert_eq!(world.source_versions("src/a").await, ["@1", "@2", "#zrepl_CURSOR_G_GUID_J_push", "@3"]);
    assert_eq!(world.target_versions("src/a").await, ["@1", "@2", "@3 zrepl_last_received_J_sink"]);
    assert_eq!(world.target_versions("src").await, Vec::<String>::new(), "the placeholder between");
}

#[tokio::test(start_paused = true)]
async fn an_idle_cycle_starts_as_few_processes_for_500_filesystems_as_for_5() {
    let mut processes = Vec::new();
    for count in [5, 500] {
        let world = World::new(Settings { initial: InitialReplication::MostRecent, ..Settings::default() });
        let filesystems: Vec<String> = (0..count).map(|number| format!("src/f{number}")).collect();
        let filesystems: Vec<&str> = filesystems.iter().map(String::as_str).collect();
        world.create(&filesystems);
        world.snapshot("1", &filesystems).await;
        assert_eq!(world.run_well().await.steps, count);
        let before = world.processes();
        let summary = world.run_well().await;
        assert_eq!((summary.filesystems, summary.steps, summary.bytes), (count, 0, 0));
        processes.push(world.processes() - before);
    }
    // Two per listing and side; the holds of the receiver's last-received snapshots.
    assert_eq!(processes, [5, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_step_needs_few_processes_beyond_those_of_the_listings() {
    let world = World::new(Settings::default());
    world.create(&["src/a"]);
    world.snapshot("1", &["src/a"]).await;
    world.run_well().await;
    world.snapshot("2", &["src/a"]).await;
    let (source, target) = (&world.daemons.source_zfs, &world.daemons.target_zfs);
    let before = (source.faults().processes(), target.faults().processes());
    world.run_well().await;
    let counts = |now: std::collections::BTreeMap<&'static str, u64>, before: &std::collections::BTreeMap<_, u64>| {
        let new = now.into_iter().map(|(verb, count)| (verb, count - before.get(verb).copied().unwrap_or(0)));
        new.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    };
    assert_eq!(
        counts(source.faults().processes(), &before.0),
        [("bookmark", 1), ("destroy", 1), ("hold", 1), ("list", 2), ("release", 1), ("send", 1)]
    );
    assert_eq!(
        counts(target.faults().processes(), &before.1),
        [("hold", 1), ("holds", 1), ("list", 2), ("recv", 1), ("release", 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn many_steps_at_a_time_share_processes() {
    const FILESYSTEMS: u64 = 60;
    let world = World::new(Settings { concurrency: 60, ..Settings::default() });
    let names: Vec<String> = (0..FILESYSTEMS).map(|number| format!("src/f{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.create(&names);
    world.snapshot("1", &names).await;
    world.run_well().await;
    world.snapshot("2", &names).await;
    let slow = |point: &zfs::fake::Point| match (point.verb, point.moment) {
        (Verb::Hold | Verb::Release, zfs::fake::Moment::Before) => {
            zfs::fake::Action::Delay(std::time::Duration::from_millis(20))
        }
        _ => zfs::fake::Action::Proceed,
    };
    let counts = |zfs: &zfs::fake::FakeZfs| zfs.faults().processes().values().sum::<u64>();
    let (source, target) = (&world.daemons.source_zfs, &world.daemons.target_zfs);
    source.faults().hook(slow);
    target.faults().hook(slow);
    let before = (counts(source), counts(target));
    world.run_well().await;
    let (sender, receiver) = (counts(source) - before.0, counts(target) - before.1);
    // Send, cursor, and the old cursor are a process each; receive is one. All else is shared.
    assert!(sender < FILESYSTEMS * 7 / 2 + 10, "{sender} processes on the sender");
    assert!(receiver < FILESYSTEMS * 3 / 2 + 10, "{receiver} processes on the receiver");
}

#[tokio::test(start_paused = true)]
async fn after_a_cut_what_arrived_is_not_sent_again() {
    for cut in [200_000, 500_000, 900_000] {
        let world = World::new(Settings { attempts: 1, ..Settings::default() });
        world.create(&["src/a"]);
        world.write("src/a", "big", 1_000_000);
        world.snapshot("1", &["src/a"]).await;
        let broken = StreamFault::Dies(zfs::ErrorKind::Killed { command: "zfs send".into(), signal: 9 });
        world.daemons.source_zfs.faults().break_stream(Verb::Send, 0, cut, broken);

        let first = world.run().await;
        assert_eq!((first.errors, first.steps), (1, 0));
        assert!(first.bytes <= cut);
        let second = world.run_well().await;
        assert_eq!(second.steps, 1);
        let total = first.bytes + second.bytes;
        assert!(
            total > 1_000_000 && total < 1_015_000 + 2 * 132_000,
            "cut at {cut}: {} + {}",
            first.bytes,
            second.bytes
        );
        world.assert_replicated("src/a").await;
        assert_eq!(world.source_versions("src/a").await, ["#zrepl_CURSOR_G_GUID_J_push", "@1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn partial_state_whose_snapshot_is_gone_is_discarded() {
    let world = World::new(Settings { attempts: 1, strategy: ProtectionStrategy::Nothing, ..Settings::default() });
    world.create(&["src/a"]);
    world.write("src/a", "big", 1_000_000);
    world.snapshot("1", &["src/a"]).await;
    world.daemons.source_zfs.faults().break_stream(Verb::Send, 0, 500_000, StreamFault::Ends);
    assert_eq!(world.run().await.errors, 1);
    world.snapshot("2", &["src/a"]).await;
    let gone = world.source.zfs();
    zfs::Zfs::destroy_snapshots(&gone, &name("src/a"), &[crate::world::short("1")]).await.remove(0).unwrap();
    world.events();
    world.run().await;
    world.assert_replicated("src/a").await;
    let events = world.events();
    assert!(events.iter().any(|what| matches!(what, What::Replication(Replication::Discarding { .. }))), "{events:#?}");
}

#[tokio::test(start_paused = true)]
async fn tentative_cursors_and_no_protection() {
    for (strategy, source, target) in [
        (
            ProtectionStrategy::Incremental,
            &["@1", "#zrepl_CURSOR_G_GUID_J_push", "@2"][..],
            &["@1", "@2 zrepl_last_received_J_sink"][..],
        ),
        (ProtectionStrategy::Nothing, &["@1", "@2"], &["@1", "@2"]),
    ] {
        let world = World::new(Settings { strategy, ..Settings::default() });
        world.create(&["src/a"]);
        world.snapshot("1", &["src/a"]).await;
        world.snapshot("2", &["src/a"]).await;
        world.run_well().await;
        assert_eq!(world.source_versions("src/a").await, source);
        assert_eq!(world.target_versions("src/a").await, target);
        let before = world.processes();
        world.run_well().await;
        assert!(world.processes() - before <= 5, "nothing is left to put right");
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_replicated_like_a_filesystem() {
    let world = World::new(Settings::default());
    world.source.create_volume(&name("src/v")).unwrap();
    world.source.write_file(&name("src/v"), "", &[7; 50_000]).unwrap();
    world.snapshot("1", &["src/v"]).await;
    world.run_well().await;
    world.source.write_file(&name("src/v"), "", &[8; 60_000]).unwrap();
    world.snapshot("2", &["src/v"]).await;
    world.run_well().await;
    world.assert_replicated("src/v").await;
}

#[tokio::test(start_paused = true)]
async fn policy_on_encryption_is_enforced_by_the_sender() {
    let run = |encrypted, raw, dataset: &'static str| async move {
        let send = SendPolicy { encrypted, flags: SendFlags { raw, ..SendFlags::default() } };
        let world = World::new(Settings { send, filesystems: filter(&[dataset]), ..Settings::default() });
        world.source.create_filesystem(&name("src/plain")).unwrap();
        world.source.create_encrypted(&name("src/secret")).unwrap();
        world.write(dataset, "f", 1000);
        world.snapshot("1", &[dataset]).await;
        let errors = world.run().await.errors;
        (errors, world.failures())
    };
    assert_eq!(run(true, false, "src/secret").await.0, 0);
    assert_eq!(run(false, false, "src/plain").await.0, 0);
    assert_eq!(run(false, false, "src/secret").await.0, 0, "plain, with the key");
    let (errors, failures) = run(true, false, "src/plain").await;
    assert_eq!(errors, 1);
    assert!(failures[0].contains("encrypted send mandated by policy"), "{failures:?}");
    let (errors, failures) = run(false, true, "src/secret").await;
    assert_eq!(errors, 1);
    assert!(failures[0].contains("policy mandates raw+unencrypted sends"), "{failures:?}");
}

#[tokio::test(start_paused = true)]
async fn streams_with_properties_are_accepted() {
    let send = SendPolicy { encrypted: false, flags: SendFlags { properties: true, ..SendFlags::default() } };
    let world = World::new(Settings { send, ..Settings::default() });
    world.create(&["src/a"]);
    world.source.set_property(&name("src/a"), "user:color", "blue").unwrap();
    world.snapshot("1", &["src/a"]).await;
    world.run_well().await;
    world.assert_replicated("src/a").await;
    let property = world.target.property(&name(&received("src/a")), "user:color").unwrap();
    assert_eq!(property.0, "blue");
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_at_most_four_times_per_second() {
    let world = World::new(Settings::default());
    world.create(&["src/a"]);
    world.write("src/a", "big", 1_000_000);
    world.snapshot("1", &["src/a"]).await;
    world.daemons.source_zfs.faults().pace(10_000, std::time::Duration::from_millis(100));
    let started = tokio::time::Instant::now();
    let bytes = world.run_well().await.bytes;
    let seconds = started.elapsed().as_secs_f64();
    let progress: Vec<u64> = world
        .events()
        .into_iter()
        .filter_map(|what| match what {
            What::Replication(Replication::StepProgress { bytes, .. }) => Some(bytes),
            _ => None,
        })
        .collect();
    assert!(seconds > 5.0 && progress.len() > 10, "{seconds} {progress:?}");
    assert!((progress.len() as f64) < seconds * 4.0 + 2.0, "{} in {seconds} s", progress.len());
    assert!(progress.is_sorted() && progress.last() == Some(&bytes));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_run_again_after_a_rollback_counts_its_bytes_once() {
    let conflicts = ConflictPolicy { diverged: WhenDiverged::RollbackReceiver, ..ConflictPolicy::default() };
    let mut told = Vec::new();
    for modified in [false, true] {
        let world = World::new(Settings { conflicts, ..Settings::default() });
        world.create(&["src/a"]);
        world.snapshot("1", &["src/a"]).await;
        world.run_well().await;
        world.write("src/a", "second", 50_000);
        world.snapshot("2", &["src/a"]).await;
        if modified {
            world.target.write_file(&name(&received("src/a")), "own", b"somebody works here").unwrap();
        }
        world.events();
        let summary = world.run_well_keeping_events().await;
        let finished = world.replication_events().into_iter().find_map(|what| match what {
            Replication::StepFinished { bytes, .. } => Some(bytes),
            _ => None,
        });
        told.push((finished.unwrap(), summary.bytes));
    }
    let [(plain, of_all), (again, of_both)] = told[..] else { panic!("{told:?}") };
    assert_eq!((plain, plain), (again, of_all));
    assert!(of_both > again, "what was sent twice was sent: {told:?}");
}
