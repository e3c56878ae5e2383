//! What cannot be planned is said, and everything else is planned.

use daemon::World;
use daemon::preview::{Wish, WishError, preview};
use zfs::fake::{Action, PoolState, Verb};

use super::{MANUAL, PERIODIC, push, snap};
use crate::world::{Lab, dataset};

#[tokio::test(start_paused = true)]
async fn what_cannot_be_looked_at_is_unknown_and_says_why() {
    let (lab, config) = (Lab::new(), push(PERIODIC, ""));
    lab.snapshot_and_wait("1").await;
    lab.host.set_pool_state("dst", PoolState::Exported).unwrap();
    let away = lab.preview(&config, "push", true).await;
    assert_eq!(
        away.problems,
        ["cannot look at the receiver: pool \"dst\" is not imported (import it with `zpool import dst`)"]
    );
    assert_eq!((away.total.snapshots, away.total.sends, away.total.destroys), (3, 0, 0));
    let unknown: Vec<Option<&String>> = away.sides.iter().map(|side| side.unknown.as_ref()).collect();
    assert_eq!(unknown, [None, Some(&away.problems[0])]);
    for one in &away.filesystems {
        assert!(one.replication.is_none() && one.pruning.len() == 1, "{one:?}");
        assert_eq!(
            one.pruning[0].skipped.as_deref(),
            Some(
                "receiver cannot be listed and there is no replication cursor, so any snapshot may be the common base"
            ),
            "{one:?}"
        );
    }

    // Nobody serves the sink.
    let wish = Wish { job: Some("push".to_owned()), estimate: true };
    let world = World { network: wire::LocalNetwork::default(), ..lab.world.clone() };
    let alone = preview(&config.jobs, &world, &wish).await.unwrap();
    assert!(alone.jobs[0].problems[0].contains("no job serves the local listener"), "{alone:?}");

    lab.host.set_pool_state("src", PoolState::Exported).unwrap();
    let blind = lab.preview(&config, "push", true).await;
    assert!(blind.problems[0].starts_with("cannot look at the sender: no filesystem of the job exists"), "{blind:?}");
    assert_eq!(blind.filesystems, []);
}

#[tokio::test(start_paused = true)]
async fn only_jobs_that_act_have_previews() {
    let (lab, config) = (Lab::new(), push(MANUAL, ""));
    let ask = async |job: Option<&str>| {
        let wish = Wish { job: job.map(str::to_owned), estimate: false };
        preview(&config.jobs, &lab.world, &wish).await
    };
    assert_eq!(ask(Some("sink")).await, Err(WishError::Passive("sink".to_owned())));
    assert_eq!(ask(Some("none")).await, Err(WishError::UnknownJob("none".to_owned())));
    let jobs: Vec<String> = ask(None).await.unwrap().jobs.into_iter().map(|job| job.job).collect();
    assert_eq!(jobs, ["push"]);
}

#[tokio::test(start_paused = true)]
async fn a_side_that_cannot_be_reached_is_named_and_what_does_not_need_it_is_planned() {
    let lab = Lab::new();
    lab.snapshot_and_wait("1").await;
    let yaml = r#"
global: {control: {sockpath: ""}}
jobs:
  - name: far
    type: push
    connect: {type: tcp, address: "127.0.0.1:1"}
    filesystems: {"src<": true}
    snapshotting: {type: periodic, prefix: z_, interval: 1h}
    pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
  - name: fetch
    type: pull
    connect: {type: tcp, address: "127.0.0.1:1"}
    root_fs: dst/backup
    interval: manual
    pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
  - {name: snap, type: snap, filesystems: {"src<": true}, snapshotting: {type: manual}, pruning: {keep: [{type: last_n, count: 2}]}}
"#;
    let jobs = config::parse("zrepl.yml", yaml).unwrap().config.jobs;
    let all = preview(&jobs, &lab.world, &Wish { job: None, estimate: true }).await.unwrap();
    let why = "cannot connect to 127.0.0.1:1: Connection refused (os error 111) (nobody listens there: does the other \
               program run, and on this port?)";
    let problems: Vec<_> = all.jobs.iter().map(|job| (job.job.as_str(), job.problems.concat())).collect();
    let expected = [
        ("far", format!("cannot look at the receiver: {why}")),
        ("fetch", format!("cannot look at the sender: {why}")),
        ("snap", String::new()),
    ];
    assert_eq!(problems, expected);
    assert_eq!((all.jobs[0].total.snapshots, all.jobs[0].total.sends), (3, 0), "the sender is here");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_cannot_be_listed_is_named() {
    let (lab, config) = (Lab::new(), snap(MANUAL));
    lab.snapshot_and_wait("1").await;
    lab.host.create_pool(&dataset("broken")).unwrap();
    let mut jobs = config.jobs.clone();
    for job in &mut jobs {
        let config::types::Job::Snap(job) = job else { continue };
        let all = ["broken<", "src<"].map(|one| (model::filter::Pattern::parse(one).unwrap(), true));
        job.filesystems = model::FilesystemFilter::new(all);
    }
    lab.zfs.faults().hook(|point| match point.verb == Verb::List && point.object.starts_with("broken") {
        true => Action::Fail(zfs::ErrorKind::PoolSuspended { pool: "broken".to_owned() }),
        false => Action::Proceed,
    });
    let preview = preview(&jobs, &lab.world, &Wish { job: None, estimate: false }).await.unwrap();
    let why = r#"pool "broken" is suspended (see `zpool status` and `zpool clear`)"#;
    assert_eq!(preview.jobs[0].problems, [format!(r#"cannot list filesystem "broken" and what is below it: {why}"#)]);
    assert_eq!(preview.jobs[0].filesystems.len(), 3);
}
