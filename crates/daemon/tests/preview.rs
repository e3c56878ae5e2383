//! What a preview says, and that the invocation after it does exactly that.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use config::Config;
use daemon::clock::Clock;
use daemon::events::Reader;
use daemon::preview::{
    FilesystemPreview, JobPreview, ReplicationPreview, Side, Size, Wish, WishError, preview, serve_all,
};
use daemon::{Daemon, World};
use expect_test::expect;
use jiff::{SignedDuration, Timestamp};
use model::event::{Event, Pruning, Replication, Snapshotting, What};
use model::plan::prune::PruneSide;
use model::plan::replication::FilesystemAction;
use model::{DatasetName, HoldTag, UnixTime, VersionName};
use tokio::sync::Notify;
use zfs::Snapshot;
use zfs::fake::{FakeHost, FakeZfs, PoolState};

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn snapshot(name: &str) -> Snapshot {
    let (filesystem, name) = name.split_once('@').unwrap();
    Snapshot { dataset: dataset(filesystem), name: VersionName::parse(name).unwrap() }
}

#[derive(Default)]
struct Diary {
    events: Mutex<Vec<What>>,
    news: Notify,
}

impl Reader for Diary {
    fn read(&self, event: &Event) {
        self.events.lock().unwrap().push(event.what.clone());
        self.news.notify_waiters();
    }
}

/// A host with the pools `src` and `dst`.
struct Lab {
    host: FakeHost,
    zfs: FakeZfs,
    world: World,
    diary: Arc<Diary>,
}

impl Lab {
    fn new() -> Lab {
        let start: Timestamp = "2024-05-14T12:00:00Z".parse().unwrap();
        let since = tokio::time::Instant::now();
        let now = move || start + SignedDuration::try_from(since.elapsed()).unwrap();
        let host = FakeHost::new(1, Arc::new(move || UnixTime(now().as_second())));
        for pool in ["src", "dst"] {
            host.create_pool(&dataset(pool)).unwrap();
        }
        for name in ["src/a", "src/b", "dst/backup"] {
            host.create_filesystem(&dataset(name)).unwrap();
        }
        let (zfs, diary) = (host.zfs(), Arc::new(Diary::default()));
        let readers = vec![Arc::clone(&diary) as Arc<dyn Reader>];
        let world = World { clock: Clock::new(now), readers, ..World::new(Arc::new(zfs.clone())) };
        Lab { host, zfs, world, diary }
    }

    async fn snapshot(&self, name: &str) {
        let all = ["src", "src/a", "src/b"].map(|one| snapshot(&format!("{one}@{name}")));
        assert!(self.world.zfs.snapshot(&all).await.iter().all(Result::is_ok));
        tokio::time::advance(Duration::from_secs(60)).await;
    }

    async fn destroy(&self, name: &str) {
        let Snapshot { dataset, name } = snapshot(name);
        self.world.zfs.destroy_snapshots(&dataset, &[name]).await.remove(0).unwrap();
    }

    /// The preview of a job, made without a daemon.
    async fn preview(&self, config: &Config, job: &str, estimate: bool) -> JobPreview {
        let world = World { network: wire::LocalNetwork::default(), ..self.world.clone() };
        let _served = serve_all(config, &world).unwrap();
        let wish = Wish { job: Some(job.to_owned()), estimate };
        let mut preview = preview(&config.jobs, &world, &wish).await.unwrap();
        assert_eq!((preview.version, preview.jobs.len()), (1, 1));
        preview.jobs.remove(0)
    }

    /// What an invocation of a job really does.
    async fn invoke(&self, config: &Config, job: &str) -> BTreeSet<String> {
        self.diary.events.lock().unwrap().clear();
        let daemon = Daemon::start(config.clone(), self.world.clone()).unwrap();
        let _ = daemon.wakeup(job).await;
        loop {
            let news = self.diary.news.notified();
            if self.diary.events.lock().unwrap().iter().any(|what| matches!(what, What::InvocationFinished { .. })) {
                break;
            }
            news.await;
        }
        daemon.stop("test").await.unwrap();
        let events = self.diary.events.lock().unwrap();
        let first = events.iter().position(|what| matches!(what, What::InvocationFinished { .. })).unwrap();
        events[..first].iter().flat_map(done).collect()
    }
}

/// What an event says was done.
fn done(what: &What) -> Vec<String> {
    match what {
        What::Snapshotting(Snapshotting::Taken { filesystem, snapshot, result: Ok(()) }) => {
            vec![format!("take {filesystem}@{snapshot}")]
        }
        What::Replication(Replication::Planned { plan }) => {
            let mut sends = Vec::new();
            for filesystem in &plan.filesystems {
                if let FilesystemAction::Steps { steps, .. } = &filesystem.action {
                    sends.extend(steps.iter().map(|step| format!("send {} {step}", filesystem.name)));
                }
            }
            sends
        }
        What::Replication(Replication::StepFailed { filesystem, error, .. }) => {
            vec![format!("failed {filesystem}: {error}")]
        }
        What::Pruning { side, what: Pruning::Filesystem { filesystem, destroyed, .. } } => {
            destroyed.iter().map(|name| format!("destroy {side} {filesystem}@{name}")).collect()
        }
        _ => Vec::new(),
    }
}

/// The same of a preview.
fn planned(job: &JobPreview) -> BTreeSet<String> {
    job.filesystems.iter().flat_map(planned_for).collect()
}

fn planned_for(filesystem: &FilesystemPreview) -> Vec<String> {
    let name = &filesystem.filesystem;
    let mut all = Vec::new();
    if let Some(snapshot) = filesystem.snapshot.as_ref().filter(|one| one.impossible.is_none()) {
        all.push(format!("take {name}@{}", snapshot.name));
    }
    if let Some(ReplicationPreview::Send { steps, .. }) = &filesystem.replication {
        let from = |from: &Option<String>| from.clone().unwrap_or_else(|| "full".to_owned());
        all.extend(steps.iter().map(|step| format!("send {name} {} => {}", from(&step.from), step.to)));
    }
    for pruning in &filesystem.pruning {
        let side = match pruning.side {
            Side::Sender => PruneSide::Sender,
            Side::Receiver => PruneSide::Receiver,
            Side::Local => PruneSide::Local,
        };
        let destroyed = pruning.snapshots.iter().filter(|one| one.destroy);
        all.extend(destroyed.map(|one| format!("destroy {side} {name}@{}", one.name)));
    }
    all
}

const MANUAL: &str = "{type: manual}";
const PERIODIC: &str = "{type: periodic, prefix: z_, interval: 1h}";

fn push(snapshotting: &str, options: &str) -> Config {
    let yaml = format!(
        r#"
global: {{control: {{sockpath: ""}}}}
jobs:
  - name: push
    type: push
    connect: {{type: local, listener_name: l, client_identity: me}}
    filesystems: {{"src<": true, "gone<": true}}
    snapshotting: {snapshotting}
    {options}
    pruning: {{keep_sender: [{{type: not_replicated}}, {{type: last_n, count: 1}}], keep_receiver: [{{type: last_n, count: 2}}]}}
  - name: sink
    type: sink
    root_fs: dst/backup
    serve: {{type: local, listener_name: l}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#
    );
    config::parse("zrepl.yml", &yaml).unwrap().config
}

fn snap(snapshotting: &str) -> Config {
    let yaml = format!(
        r#"
global: {{control: {{sockpath: ""}}}}
jobs:
  - {{name: snap, type: snap, filesystems: {{"src<": true}}, snapshotting: {snapshotting}, pruning: {{keep: [{{type: last_n, count: 2}}]}}}}
"#
    );
    config::parse("zrepl.yml", &yaml).unwrap().config
}

fn pull() -> Config {
    let yaml = r#"
global: {control: {sockpath: ""}}
jobs:
  - name: source
    type: source
    serve: {type: local, listener_name: s}
    filesystems: {"src<": true}
    snapshotting: {type: periodic, prefix: z_, interval: 1h}
  - name: pull
    type: pull
    connect: {type: local, listener_name: s, client_identity: me}
    root_fs: dst/backup
    interval: manual
    recv: {placeholder: {encryption: inherit}}
    pruning: {keep_sender: [{type: not_replicated}, {type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 2}]}
"#;
    config::parse("zrepl.yml", yaml).unwrap().config
}

/// Compares a preview with what the next invocation does; how much that was.
async fn previewed_and_done(lab: &Lab, config: &Config, job: &str) -> usize {
    let planned = planned(&lab.preview(config, job, true).await);
    let done = lab.invoke(config, job).await;
    assert_eq!(planned, done);
    done.len()
}

#[tokio::test(start_paused = true)]
async fn an_invocation_does_what_its_preview_said() {
    const ALL: &str = "conflict_resolution: {initial_replication: all}";
    for (options, first) in [
        ("", 3 + 3 * 3),
        (ALL, 3 * 4 + 3 * (3 + 2)),
        ("replication: {protection: {initial: guarantee_nothing, incremental: guarantee_nothing}}", 3 + 3 * 3 - 9),
        ("replication: {protection: {initial: guarantee_incremental, incremental: guarantee_incremental}}", 3 + 3 * 3),
    ] {
        let (lab, config) = (Lab::new(), push(MANUAL, options));
        for name in ["1", "2", "3", "4"] {
            lab.snapshot(name).await;
        }
        let count = previewed_and_done(&lab, &config, "push").await;
        assert_eq!(count, first, "{options}");
        assert_eq!(previewed_and_done(&lab, &config, "push").await, 0, "{options}: nothing is left to do");
        lab.snapshot("5").await;
        lab.snapshot("6").await;
        let held = snapshot("src/a@5");
        lab.world.zfs.hold(&HoldTag::parse("mine").unwrap(), std::slice::from_ref(&held)).await.remove(0).unwrap();
        assert!(previewed_and_done(&lab, &config, "push").await > 6, "{options}");
        // The common snapshot is gone, and only its cursor is left.
        lab.snapshot("7").await;
        lab.destroy("src/b@6").await;
        assert!(previewed_and_done(&lab, &config, "push").await > 2, "{options}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_does_what_its_preview_said() {
    let (lab, mut config) = (Lab::new(), pull());
    for job in &mut config.jobs {
        if let config::types::Job::Source(source) = job {
            source.snapshotting = config::types::Snapshotting::Manual;
        }
    }
    for name in ["1", "2"] {
        lab.snapshot(name).await;
    }
    let preview = lab.preview(&config, "pull", true).await;
    assert_eq!((preview.kind.as_str(), preview.total.sends, preview.snapshot), ("pull", 3, None));
    for filesystem in &preview.filesystems {
        let Some(ReplicationPreview::Send { steps, .. }) = &filesystem.replication else { panic!("{filesystem:?}") };
        assert!(matches!(steps[0].size, Size::Bytes(_)), "the source is of the same configuration: {filesystem:?}");
    }
    assert_eq!(previewed_and_done(&lab, &config, "pull").await, 6);
    assert_eq!(previewed_and_done(&lab, &config, "pull").await, 0);
    lab.snapshot("3").await;
    assert_eq!(previewed_and_done(&lab, &config, "pull").await, 6);

    let wish = Wish { job: Some("source".to_owned()), estimate: false };
    let refused = preview_of(&lab, &config, &wish).await;
    assert_eq!(refused, Err(WishError::Source("source".to_owned())));
    let all = preview_of(&lab, &pull(), &Wish { job: None, estimate: false }).await.unwrap();
    assert_eq!(all.jobs.len(), 1);
}

async fn preview_of(lab: &Lab, config: &Config, wish: &Wish) -> Result<daemon::preview::Preview, WishError> {
    let world = World { network: wire::LocalNetwork::default(), ..lab.world.clone() };
    let _served = serve_all(config, &world).unwrap();
    preview(&config.jobs, &world, wish).await
}

#[tokio::test(start_paused = true)]
async fn an_invocation_after_a_round_does_what_the_preview_said() {
    let (lab, config) = (Lab::new(), push(PERIODIC, ""));
    for name in ["1", "2"] {
        lab.snapshot(name).await;
    }
    // A daemon that starts takes its first round at once: no snapshot has its prefix.
    let count = previewed_and_done(&lab, &config, "push").await;
    assert_eq!(count, 3 + 3 + 3 * 2, "a snapshot and a send per filesystem, and all older ones go");

    let (lab, config) = (Lab::new(), snap(PERIODIC));
    for name in ["1", "2"] {
        lab.snapshot(name).await;
    }
    assert_eq!(previewed_and_done(&lab, &config, "snap").await, 3 + 3);
}

#[tokio::test(start_paused = true)]
async fn a_preview_changes_nothing_and_tells_nobody() {
    let (lab, config) = (Lab::new(), push(PERIODIC, ""));
    for name in ["1", "2", "3"] {
        lab.snapshot(name).await;
    }
    let manual = push(MANUAL, "");
    assert!(lab.invoke(&manual, "push").await.len() > 3);
    lab.snapshot("4").await;
    let (pools, events) = (format!("{:?}", lab.host), lab.diary.events.lock().unwrap().len());
    let before = lab.zfs.faults().processes();
    let preview = lab.preview(&config, "push", true).await;
    assert_eq!((preview.total.snapshots, preview.total.sends), (3, 6));
    assert_eq!(format!("{:?}", lab.host), pools);
    assert_eq!(lab.diary.events.lock().unwrap().len(), events);
    let after = lab.zfs.faults().processes();
    let more = after.iter().map(|(command, count)| (*command, count - before.get(command).unwrap_or(&0)));
    let more: Vec<(&str, u64)> = more.filter(|(_, count)| *count > 0).collect();
    assert_eq!(more, [("holds", 1), ("list", 4), ("send", 3)], "the sends are estimates of what is there");
    assert_eq!(planned(&lab.preview(&config, "push", false).await), planned(&preview));
    assert_eq!(lab.zfs.faults().processes()["send"], after["send"], "no estimates without a wish");
}

#[tokio::test(start_paused = true)]
async fn every_decision_has_its_reason() {
    let (lab, config) = (Lab::new(), push(PERIODIC, ""));
    for name in ["1", "2"] {
        lab.snapshot(name).await;
    }
    lab.invoke(&push(MANUAL, ""), "push").await;
    lab.snapshot("3").await;
    let preview = lab.preview(&config, "push", true).await;
    let mut one = preview.filesystems.into_iter().find(|one| one.filesystem == "src/a").unwrap();
    if let Some(ReplicationPreview::Send { steps, .. }) = &mut one.replication {
        assert!(matches!(steps[0].size, Size::Bytes(1..)), "{steps:?}");
        steps[0].size = Size::Bytes(42);
    }
    one.pruning.iter_mut().flat_map(|side| &mut side.snapshots).for_each(|one| one.creation.clear());
    one.summary.bytes = 42;
    expect![[r#"
        {
          "filesystem": "src/a",
          "snapshot": {
            "name": "z_20240514_120300_000",
            "impossible": null
          },
          "replication": {
            "action": "send",
            "why": "send from @2",
            "discard": null,
            "steps": [
              {
                "from": "@2",
                "to": "@3",
                "resumes": false,
                "size": {
                  "bytes": 42
                }
              },
              {
                "from": "@3",
                "to": "@z_20240514_120300_000",
                "resumes": false,
                "size": {
                  "unknown": "the snapshot is not taken yet"
                }
              }
            ]
          },
          "pruning": [
            {
              "side": "sender",
              "skipped": null,
              "snapshots": [
                {
                  "name": "2",
                  "creation": "",
                  "destroy": true,
                  "why": "no rule keeps it: 1. it is replicated, 2. it is not among the newest",
                  "kept_by": [],
                  "rejected_by": [
                    {
                      "rule": 1,
                      "why": "it is replicated"
                    },
                    {
                      "rule": 2,
                      "why": "it is not among the newest"
                    }
                  ]
                },
                {
                  "name": "3",
                  "creation": "",
                  "destroy": true,
                  "why": "no rule keeps it: 1. it is replicated, 2. it is not among the newest",
                  "kept_by": [],
                  "rejected_by": [
                    {
                      "rule": 1,
                      "why": "it is replicated"
                    },
                    {
                      "rule": 2,
                      "why": "it is not among the newest"
                    }
                  ]
                },
                {
                  "name": "z_20240514_120300_000",
                  "creation": "",
                  "destroy": false,
                  "why": "rule 1, not_replicated",
                  "kept_by": [
                    1,
                    2
                  ],
                  "rejected_by": []
                }
              ]
            },
            {
              "side": "receiver",
              "skipped": null,
              "snapshots": [
                {
                  "name": "2",
                  "creation": "",
                  "destroy": true,
                  "why": "no rule keeps it: 1. it is not among the newest",
                  "kept_by": [],
                  "rejected_by": [
                    {
                      "rule": 1,
                      "why": "it is not among the newest"
                    }
                  ]
                },
                {
                  "name": "3",
                  "creation": "",
                  "destroy": false,
                  "why": "rule 1, last_n 2",
                  "kept_by": [
                    1
                  ],
                  "rejected_by": []
                },
                {
                  "name": "z_20240514_120300_000",
                  "creation": "",
                  "destroy": false,
                  "why": "rule 1, last_n 2",
                  "kept_by": [
                    1
                  ],
                  "rejected_by": []
                }
              ]
            }
          ],
          "summary": {
            "snapshots": 1,
            "sends": 2,
            "bytes": 42,
            "sizes_unknown": 1,
            "destroys": 3,
            "blocked": 0
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&one).unwrap());
    assert_eq!(preview.sides[0].rules, ["not_replicated", "last_n 1"]);
    assert_eq!(preview.warnings, ["filesystem \"gone\" in the job's filter does not exist (is the pool imported?)"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_looked_at_is_unknown_and_says_why() {
    let (lab, config) = (Lab::new(), push(PERIODIC, ""));
    lab.snapshot("1").await;
    lab.host.set_pool_state("dst", PoolState::Exported).unwrap();
    let away = lab.preview(&config, "push", true).await;
    assert_eq!(away.problems, ["cannot look at the receiver: pool \"dst\" not imported"]);
    assert_eq!((away.total.snapshots, away.total.sends, away.total.destroys), (3, 0, 0));
    for side in &away.sides {
        assert_eq!(side.unknown.as_ref(), Some(&away.problems[0]), "{side:?}");
    }
    assert!(away.filesystems.iter().all(|one| one.replication.is_none() && one.pruning.is_empty()), "{away:?}");

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
