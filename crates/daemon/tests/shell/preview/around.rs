//! What a preview says besides what is sent and destroyed: times, hooks, and what there is now.

use std::time::Duration;

use daemon::Daemon;
use daemon::preview::{HookPreview, NextRound, Wish, present, serve_all};
use model::HoldTag;
use zfs::fake::PoolState;

use super::{MANUAL, PERIODIC, pull, push, snap, snapshot};
use crate::world::{Lab, dataset};

#[tokio::test(start_paused = true)]
async fn the_next_round_is_said() {
    let at = |text: &str| NextRound::At { at: format!("2024-05-14T{text}Z") };
    let lab = Lab::new();
    let next = async |snapshotting| lab.preview(&snap(snapshotting), "snap", false).await.next;
    assert_eq!(next(MANUAL).await, NextRound::OnRequest);
    assert_eq!(next("{type: cron, prefix: z_, cron: '30 * * * *'}").await, at("12:30:00"));
    assert_eq!(next(PERIODIC).await, at("12:00:00"), "no snapshot has the prefix");
    lab.snapshot_and_wait("z_1").await;
    assert_eq!(next(PERIODIC).await, at("13:00:00"), "an hour after the newest");
    lab.host.set_pool_state("src", PoolState::Exported).unwrap();
    let unknown = next(PERIODIC).await;
    assert!(matches!(&unknown, NextRound::Unknown { why } if why.contains("cannot look at")), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_says_what_its_snapshotter_waits_for() {
    let lab = Lab::new();
    let daemon = Daemon::start(snap(PERIODIC), lab.world.clone()).unwrap();
    lab.diary.wait_for("Waiting until 13:00:00", 1).await;
    // Listings alone would tell another time.
    let younger = ["src", "src/a", "src/b"].map(|one| snapshot(&format!("{one}@z_younger")));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(lab.world.zfs.snapshot(&younger).await.iter().all(Result::is_ok));
    let wish = Wish { job: None, estimate: false };
    let preview = daemon.preview(&wish).await.unwrap();
    assert_eq!(preview.jobs[0].next, NextRound::At { at: "2024-05-14T13:00:00Z".to_owned() });
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn hooks_are_listed_where_they_would_run_and_are_not_run() {
    let lab = Lab::new();
    let hook = |path: &str, filesystem: &str, fatal: bool| {
        format!("{{type: command, path: {path}, filesystems: {{\"{filesystem}\": true}}, err_is_fatal: {fatal}}}")
    };
    let hooks =
        [hook("/nowhere/all", "src<", false), hook("/nowhere/a", "src/a", true), hook("/nowhere/no", "x", true)];
    let config = snap(&format!("{{type: periodic, prefix: z_, interval: 1h, hooks: [{}]}}", hooks.join(", ")));
    let preview = lab.preview(&config, "snap", false).await;
    let of = |name: &str| {
        let one = preview.filesystems.iter().find(|one| one.filesystem == name).unwrap();
        one.snapshot.as_ref().unwrap().hooks.clone()
    };
    let expected = |name: &str, fatal| HookPreview { name: name.to_owned(), fatal };
    assert_eq!(of("src/b"), [expected("/nowhere/all", false)]);
    assert_eq!(of("src/a"), [expected("/nowhere/all", false), expected("/nowhere/a", true)]);
    assert_eq!(preview.warnings, ["hook matches no filesystem that is snapshotted: 3 (/nowhere/no)"]);
}

#[tokio::test(start_paused = true)]
async fn the_present_has_no_holds_of_the_job_itself() {
    let (lab, config) = (Lab::new(), push(MANUAL, ""));
    lab.snapshot_and_wait("1").await;
    lab.invoke(&config, "push").await;
    lab.snapshot_and_wait("2").await;
    let mine = HoldTag::parse("mine").unwrap();
    assert!(lab.world.zfs.hold(&mine, &[snapshot("src/a@2")]).await[0].is_ok());
    let (pools, _served) = (format!("{:?}", lab.host), serve_all(&config, &lab.world).unwrap());
    let presents = present(&config.jobs[0], &lab.world).await.unwrap();
    assert_eq!(presents.keys().map(ToString::to_string).collect::<Vec<_>>(), ["src", "src/a", "src/b"]);
    let held = |versions: &[model::Version]| {
        let snapshots = versions.iter().filter(|one| one.is_snapshot());
        snapshots.map(|one| format!("{one} {}", one.userrefs)).collect::<Vec<_>>()
    };
    let one = &presents[&dataset("src/a")];
    assert_eq!((held(&one.sender), held(&one.receiver)), (vec!["@1 0".into(), "@2 1".into()], vec!["@1 0".into()]));
    assert!(present(&config.jobs[1], &lab.world).await.is_err(), "a sink takes none");
    assert_eq!(format!("{:?}", lab.host), pools);
}

#[tokio::test(start_paused = true)]
async fn the_present_of_a_job_that_pulls_is_that_of_its_source_and_its_own() {
    let (lab, config) = (Lab::new(), pull());
    lab.snapshot_and_wait("1").await;
    lab.invoke(&config, "pull").await;
    lab.snapshot_and_wait("2").await;
    let _served = serve_all(&config, &lab.world).unwrap();
    let presents = present(&config.jobs[1], &lab.world).await.unwrap();
    assert_eq!(presents.keys().map(ToString::to_string).collect::<Vec<_>>(), ["src", "src/a", "src/b"]);
    let snapshots = |versions: &[model::Version]| {
        versions.iter().filter(|one| one.is_snapshot()).map(ToString::to_string).collect::<Vec<_>>()
    };
    let one = &presents[&dataset("src/a")];
    let pulled = snapshots(&one.receiver);
    assert_eq!(pulled.len(), 1, "the first replication is of the newest: {pulled:?}");
    assert_eq!(snapshots(&one.sender), [&pulled[0], "@2"]);
    assert!(present(&config.jobs[0], &lab.world).await.is_err(), "a source keeps nothing by itself");
}
