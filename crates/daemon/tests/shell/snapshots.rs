//! Snapshots every so often, and what follows them.

use daemon::act::snapshotting::{Failures, plan_round, take_round};
use daemon::events::Events;
use daemon::hooks::HookRunner;
use expect_test::{Expect, expect};
use model::FilesystemFilter;
use model::event::SnapshotterState;
use model::filter::Pattern;
use model::naming::{SnapshotNaming, TimestampFormat, Zone};
use zfs::ErrorKind;
use zfs::fake::{Action, Moment, PoolState, Verb};

use crate::world::{Lab, dataset, push_and_sink, state_word, version};

pub(crate) const EVERY_TEN_MINUTES: &str = "{type: periodic, interval: 10m, prefix: z_}";

fn check(lab: &Lab, expected: &Expect) {
    expected.assert_eq(&lab.diary.words().join("\n"));
}

pub(crate) async fn rounds(lab: &Lab, count: usize) {
    lab.diary.wait_for(&state_word(SnapshotterState::Waiting), count).await;
}

#[tokio::test(start_paused = true)]
async fn rounds_come_at_once_and_then_every_interval_each_with_an_invocation() {
    let lab = Lab::new();
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    rounds(&lab, 3).await;
    lab.diary.wait_for("finished 3", 1).await;
    daemon.stop("test").await.unwrap();
    check(
        &lab,
        &expect![[r#"
        12:00:00 SyncUp
        12:00:00 SyncUp until 12:00:00
        12:00:00 Planning
        12:00:00 Snapshotting
        12:00:00 taken src@z_20240514_120000_000
        12:00:00 taken src/a@z_20240514_120000_000
        12:00:00 taken src/b@z_20240514_120000_000
        12:00:00 Waiting until 12:10:00
        12:00:00 invocation 1
        12:00:00 finished 1 with 0 errors
        12:10:00 Planning
        12:10:00 Snapshotting
        12:10:00 taken src@z_20240514_121000_000
        12:10:00 taken src/a@z_20240514_121000_000
        12:10:00 taken src/b@z_20240514_121000_000
        12:10:00 Waiting until 12:20:00
        12:10:00 invocation 2
        12:10:00 finished 2 with 0 errors
        12:20:00 Planning
        12:20:00 Snapshotting
        12:20:00 taken src@z_20240514_122000_000
        12:20:00 taken src/a@z_20240514_122000_000
        12:20:00 taken src/b@z_20240514_122000_000
        12:20:00 Waiting until 12:30:00
        12:20:00 invocation 3
        12:20:00 destroyed 1 of src
        12:20:00 destroyed 1 of src/a
        12:20:00 destroyed 1 of src/b
        12:20:00 finished 3 with 0 errors
        12:20:00 stopping: test
        12:20:00 Stopped
        12:20:00 stopped"#]],
    );
    assert!(lab.host.snapshot_guid(&dataset("dst/backup/me/src/b"), &version("z_20240514_122000_000")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_restart_continues_the_rhythm() {
    let lab = Lab::new();
    lab.start(&push_and_sink(EVERY_TEN_MINUTES)).stop_after_first_round(&lab).await;
    tokio::time::advance(std::time::Duration::from_secs(240)).await;
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    rounds(&lab, 2).await;
    assert_eq!(lab.diary.count("12:04:00 SyncUp until 12:10:00"), 1, "{:#?}", lab.diary.words());
    assert_eq!(lab.diary.count("taken src/a@z_20240514_121000_000"), 1);
    daemon.stop("test").await.unwrap();
}

trait FirstRound {
    async fn stop_after_first_round(self, lab: &Lab);
}

impl FirstRound for daemon::Daemon {
    async fn stop_after_first_round(self, lab: &Lab) {
        rounds(lab, 1).await;
        self.stop("first round").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_filesystem_without_snapshots_waits_with_the_others_and_a_warning() {
    let lab = Lab::new();
    let taken = ["src", "src/a"].map(|name| zfs::Snapshot { dataset: dataset(name), name: version("z_1") });
    lab.world.zfs.snapshot(&taken).await;
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    lab.diary.wait_for("SyncUp until", 1).await;
    daemon.stop("test").await.unwrap();
    check(
        &lab,
        &expect![[r#"
        12:00:00 SyncUp
        12:00:00 warning: without any snapshot until the next round at 2024-05-14T12:10:00Z: src/b
        12:00:00 SyncUp until 12:10:00
        12:00:00 stopping: test
        12:00:00 Stopped
        12:00:00 stopped"#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_fails_where_it_is_and_nowhere_else() {
    let lab = Lab::new();
    let taken = zfs::Snapshot { dataset: dataset("src/a"), name: version("z_2024-05-14") };
    lab.world.zfs.snapshot(&[taken]).await;
    let events = Events::new(lab.world.clock.clone(), lab.world.readers.clone());
    let filter = FilesystemFilter::new([(Pattern::parse("src<").unwrap(), true)]);
    // Where names tell seconds apart, the next free one is taken.
    let daily = SnapshotNaming::new("z_".to_owned(), TimestampFormat::new("2006-01-02", Zone::Utc).unwrap());
    let plan = plan_round(&lab.zfs, lab.world.clock.now(), &daily, &filter, &events).await.unwrap();
    let none = HookRunner::new(Vec::new(), events.clone());
    assert_eq!(take_round(&lab.zfs, plan, &none, &events).await, Failures { snapshots: 1, hooks: 0 });
    check(
        &lab,
        &expect![[r#"
        12:00:00 taken src/a@z_2024-05-14: cannot snapshot "src/a@z_2024-05-14": the snapshot exists already
        12:00:00 taken src@z_2024-05-14
        12:00:00 taken src/b@z_2024-05-14"#]],
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_filter_names_and_is_not_there_is_warned_of() {
    let lab = Lab::new();
    let events = Events::new(lab.world.clock.clone(), lab.world.readers.clone());
    let patterns = ["src/a", "src/gone", "else<"].map(|one| (Pattern::parse(one).unwrap(), true));
    let filter = FilesystemFilter::new(patterns);
    let plan = plan_round(&lab.zfs, lab.world.clock.now(), &naming(), &filter, &events).await.unwrap();
    assert_eq!(plan.filesystems, [dataset("src/a")]);
    check(
        &lab,
        &expect![
            "12:00:00 warning: in `filesystems` but not there: else, src/gone (is the pool imported? see `zpool import`)"
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_round_is_followed_by_an_invocation_and_by_another_round() {
    let lab = Lab::new();
    lab.zfs.faults().at_verb(Verb::Snapshot, 0, Moment::Before, Action::Fail(ErrorKind::NoSpace));
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    rounds(&lab, 1).await;
    lab.diary.wait_for("finished 2", 1).await;
    daemon.stop("test").await.unwrap();
    check(
        &lab,
        &expect![[r#"
            12:00:00 SyncUp
            12:00:00 SyncUp until 12:00:00
            12:00:00 Planning
            12:00:00 Snapshotting
            12:00:00 taken src@z_20240514_120000_000: cannot take snapshot "src@z_20240514_120000_000": out of space (`zfs list -o space` and `zpool list` on that machine show where it went; destroy something there, or lower the keep rules of the job that replicates or snapshots)
            12:00:00 taken src/a@z_20240514_120000_000: cannot take snapshot "src/a@z_20240514_120000_000": out of space (`zfs list -o space` and `zpool list` on that machine show where it went; destroy something there, or lower the keep rules of the job that replicates or snapshots)
            12:00:00 taken src/b@z_20240514_120000_000: cannot take snapshot "src/b@z_20240514_120000_000": out of space (`zfs list -o space` and `zpool list` on that machine show where it went; destroy something there, or lower the keep rules of the job that replicates or snapshots)
            12:00:00 ErrorWait until 12:10:00: 3 of 3 snapshots could not be taken
            12:00:00 invocation 1
            12:00:00 finished 1 with 3 errors
            12:10:00 Planning
            12:10:00 Snapshotting
            12:10:00 taken src@z_20240514_121000_000
            12:10:00 taken src/a@z_20240514_121000_000
            12:10:00 taken src/b@z_20240514_121000_000
            12:10:00 Waiting until 12:20:00
            12:10:00 invocation 2
            12:10:00 finished 2 with 0 errors
            12:10:00 stopping: test
            12:10:00 Stopped
            12:10:00 stopped"#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_goes_away_is_named_and_its_return_is_noticed() {
    let lab = Lab::new();
    lab.host.set_pool_state("src", PoolState::Exported).unwrap();
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    lab.diary.wait_for(&state_word(SnapshotterState::SyncUpErrWait), 1).await;
    lab.host.set_pool_state("src", PoolState::Online).unwrap();
    rounds(&lab, 1).await;
    lab.diary.wait_for("finished 1", 1).await;
    daemon.stop("test").await.unwrap();
    check(
        &lab,
        &expect![[r#"
            12:00:00 SyncUp
            12:00:00 SyncUpErrWait until 12:10:00: none of the job's `filesystems` exist: src (is the pool imported? see `zpool import`)
            12:10:00 Planning
            12:10:00 Snapshotting
            12:10:00 taken src@z_20240514_121000_000
            12:10:00 taken src/a@z_20240514_121000_000
            12:10:00 taken src/b@z_20240514_121000_000
            12:10:00 Waiting until 12:20:00
            12:10:00 invocation 1
            12:10:00 finished 1 with 0 errors
            12:10:00 stopping: test
            12:10:00 Stopped
            12:10:00 stopped"#]],
    );
}

fn naming() -> SnapshotNaming {
    SnapshotNaming::new("z_".to_owned(), TimestampFormat::dense())
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_cannot_be_listed_keeps_no_other_from_its_snapshots() {
    let lab = Lab::new();
    lab.host.create_pool(&dataset("other")).unwrap();
    lab.zfs.faults().hook(|point| match point.verb == Verb::List && point.object.starts_with("other") {
        true => Action::Fail(ErrorKind::PoolSuspended { pool: "other".to_owned() }),
        false => Action::Proceed,
    });
    let filter = FilesystemFilter::new(["other<", "src<"].map(|pattern| (Pattern::parse(pattern).unwrap(), true)));
    let events = Events::new(lab.world.clock.clone(), lab.world.readers.clone());
    let plan = plan_round(&lab.zfs, lab.world.clock.now(), &naming(), &filter, &events).await.unwrap();
    let impossible: Vec<String> = plan.impossible.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert_eq!(
        impossible,
        [
            "other: it and what is below it cannot be listed: pool \"other\" is suspended (see `zpool status` and `zpool clear`)"
        ]
    );
    assert!(plan.filesystems.contains(&dataset("src/a")));
}
