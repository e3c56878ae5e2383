//! What a preview says, and that the invocation after it does exactly that.

mod around;
mod unknown;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use config::Config;
use daemon::Daemon;
use daemon::World;
use daemon::preview::{JobPreview, ReplicationPreview, Size, Wish, WishError, preview, serve_all};
use expect_test::expect;
use model::event::What;
use model::protection::{cursor_name, last_received_tag, step_hold_tag};
use model::{HoldTag, JobName};
use zfs::Snapshot;
use zfs::fake::{PoolState, StreamFault, Verb};

use crate::deeds::{done, planned};
use crate::world::{Lab, dataset, version};

fn snapshot(name: &str) -> Snapshot {
    let (filesystem, name) = name.split_once('@').unwrap();
    Snapshot { dataset: dataset(filesystem), name: version(name) }
}

impl Lab {
    /// Snapshots all of `src`, and lets a minute pass.
    async fn snapshot_and_wait(&self, name: &str) {
        self.snapshot(name).await;
        tokio::time::advance(Duration::from_secs(60)).await;
    }

    async fn destroy(&self, name: &str) {
        let Snapshot { dataset, name } = snapshot(name);
        self.world.zfs.destroy_snapshots(&dataset, &[name]).await.remove(0).unwrap();
    }

    async fn release(&self, tag: &HoldTag, name: &str) {
        self.world.zfs.release(tag, &[snapshot(name)]).await.remove(0).unwrap();
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

    /// What an invocation of a job tells.
    async fn invoke(&self, config: &Config, job: &str) -> Vec<What> {
        self.diary.forget();
        let daemon = Daemon::start(config.clone(), self.world.clone()).unwrap();
        let _ = daemon.wakeup(job).await;
        self.diary.wait_for("finished 1 with", 1).await;
        daemon.stop("test").await.unwrap();
        let mut events = self.diary.whats();
        let first = events.iter().position(|what| matches!(what, What::InvocationFinished { .. })).unwrap();
        events.truncate(first);
        events
    }

    /// An invocation whose first send breaks off in the middle, and which does not try again.
    async fn interrupt(&self, config: &Config) {
        let mut once = Lab { world: self.world.clone(), ..self.clone() };
        once.world.tuning.attempts = NonZeroU32::MIN;
        let sends = self.zfs.faults().calls().get(&Verb::Send).copied().unwrap_or(0);
        self.zfs.faults().break_stream(Verb::Send, sends, 200_000, StreamFault::Ends);
        let events = once.invoke(config, "push").await;
        assert!(done(&events).iter().any(|deed| deed.starts_with("failed ")), "{events:?}");
        self.zfs.faults().clear();
    }
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
    filesystems: {{"src<": true}}
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
    all_that_is_done(lab, config, job).await.len()
}

/// The same; what it was.
async fn all_that_is_done(lab: &Lab, config: &Config, job: &str) -> BTreeSet<String> {
    let planned = planned(&lab.preview(config, job, true).await);
    let done = done(&lab.invoke(config, job).await);
    assert_eq!(planned, done);
    done
}

/// Whether something done begins so.
fn has(done: &BTreeSet<String>, start: &str) -> bool {
    done.iter().any(|deed| deed.starts_with(start))
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
            lab.snapshot_and_wait(name).await;
        }
        let count = previewed_and_done(&lab, &config, "push").await;
        assert_eq!(count, first, "{options}");
        assert_eq!(previewed_and_done(&lab, &config, "push").await, 0, "{options}: nothing is left to do");
        lab.snapshot_and_wait("5").await;
        lab.snapshot_and_wait("6").await;
        let held = snapshot("src/a@5");
        lab.world.zfs.hold(&HoldTag::parse("mine").unwrap(), std::slice::from_ref(&held)).await.remove(0).unwrap();
        assert!(previewed_and_done(&lab, &config, "push").await > 6, "{options}");
        // The common snapshot is gone, and only its cursor is left.
        lab.snapshot_and_wait("7").await;
        lab.destroy("src/b@6").await;
        assert!(previewed_and_done(&lab, &config, "push").await > 2, "{options}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_done_about_conflicts_is_previewed() {
    let resolving = "conflict_resolution: {diverged: rollback_receiver, no_common: rename_aside}";
    let (lab, config) = (Lab::new(), push(MANUAL, resolving));
    lab.snapshot("1").await;
    assert!(previewed_and_done(&lab, &config, "push").await > 2);
    for name in ["src/new", "dst/backup/me/src/new"] {
        lab.host.create_filesystem(&dataset(name)).unwrap();
    }
    for own in
        ["dst/backup/me/src/a@own", "dst/backup/me/src/b@own", "dst/backup/me/src/new@own", "src/a@2", "src/new@2"]
    {
        lab.world.zfs.snapshot(&[snapshot(own)]).await.remove(0).unwrap();
    }
    let preview = lab.preview(&config, "push", false).await;
    let mut resolutions = Vec::new();
    for filesystem in &preview.filesystems {
        if let Some(ReplicationPreview::Send { resolution: Some(resolution), steps, .. }) = &filesystem.replication {
            resolutions.push(format!("{}: {resolution:?}, {} steps", filesystem.filesystem, steps.len()));
        }
    }
    expect![[r#"
        [
            "src/a: RollBack { to: \"@1\", destroys: [\"@own\"], why: \"diverged: rollback_receiver\" }, 1 steps",
            "src/b: RollBack { to: \"@1\", destroys: [\"@own\"], why: \"diverged: rollback_receiver\" }, 0 steps",
            "src/new: RenameAside { to: \"src/new.zrepl.aside.TIME\", below: [], why: \"no_common: rename_aside\" }, 1 steps",
        ]
    "#]].assert_debug_eq(&resolutions);
    // The third is pruned on the sender, now that the receiver has a newer one.
    assert_eq!(preview.total.destroys, 3, "{:?}", preview.total);
    assert!(previewed_and_done(&lab, &config, "push").await > 3);
    assert_eq!(previewed_and_done(&lab, &config, "push").await, 0, "nothing is left to do");
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
        lab.snapshot_and_wait(name).await;
    }
    // A daemon that starts takes its first round at once: no snapshot has its prefix.
    let count = previewed_and_done(&lab, &config, "push").await;
    assert_eq!(count, 3 + 3 + 3 * 2, "a snapshot and a send per filesystem, and all older ones go");

    let (lab, config) = (Lab::new(), snap(PERIODIC));
    for name in ["1", "2"] {
        lab.snapshot_and_wait(name).await;
    }
    assert_eq!(previewed_and_done(&lab, &config, "snap").await, 3 + 3);
}

/// How much a person is told, which what a sink has when it is listed is not.
fn told(lab: &Lab) -> usize {
    lab.diary.whats().iter().filter(|what| !matches!(what, What::Stored { .. })).count()
}

#[tokio::test(start_paused = true)]
async fn a_preview_changes_nothing_and_tells_nobody() {
    let (lab, config) = (Lab::new(), push(PERIODIC, ""));
    for name in ["1", "2", "3"] {
        lab.snapshot_and_wait(name).await;
    }
    let manual = push(MANUAL, "");
    assert!(done(&lab.invoke(&manual, "push").await).len() > 3);
    lab.snapshot_and_wait("4").await;
    let (pools, events) = (format!("{:?}", lab.host), told(&lab));
    let before = lab.zfs.faults().processes();
    let preview = lab.preview(&config, "push", true).await;
    assert_eq!((preview.total.snapshots, preview.total.sends), (3, 6));
    assert_eq!(format!("{:?}", lab.host), pools);
    assert_eq!(told(&lab), events);
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
        lab.snapshot_and_wait(name).await;
    }
    lab.invoke(&push(MANUAL, ""), "push").await;
    lab.snapshot_and_wait("3").await;
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
            "impossible": null,
            "hooks": []
          },
          "replication": {
            "action": "send",
            "why": "send from @2",
            "discard": null,
            "resolution": null,
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
}

#[tokio::test(start_paused = true)]
async fn a_sender_whose_receiver_is_away_is_pruned_by_its_cursor_as_previewed() {
    let (lab, config) = (Lab::new(), push(MANUAL, ""));
    for name in ["1", "2", "3"] {
        lab.snapshot_and_wait(name).await;
    }
    let mine = HoldTag::parse("mine").unwrap();
    assert!(lab.world.zfs.hold(&mine, &[snapshot("src/a@2")]).await[0].is_ok());
    lab.invoke(&config, "push").await;
    lab.release(&mine, "src/a@2").await;
    lab.snapshot_and_wait("4").await;
    lab.host.set_pool_state("dst", PoolState::Exported).unwrap();
    let done = all_that_is_done(&lab, &config, "push").await;
    expect![[r#"
        cannot prune receiver
        cannot replicate
        destroy sender src/a@2"#]]
    .assert_eq(&done.into_iter().collect::<Vec<_>>().join("\n"));
}

#[tokio::test(start_paused = true)]
async fn what_was_interrupted_is_resumed_as_previewed() {
    let (lab, config) = (Lab::new(), push(MANUAL, ""));
    lab.snapshot_and_wait("1").await;
    lab.invoke(&config, "push").await;
    lab.host.write_file(&dataset("src/a"), "file", &[7; 900_000]).unwrap();
    lab.host.write_file(&dataset("src/b"), "file", &[7; 900_000]).unwrap();
    lab.host.write_file(&dataset("src"), "file", &[7; 900_000]).unwrap();
    lab.snapshot_and_wait("2").await;
    lab.interrupt(&config).await;
    lab.snapshot_and_wait("3").await;
    let preview = lab.preview(&config, "push", true).await;
    let resumed = preview.filesystems.iter().find_map(|one| match &one.replication {
        Some(ReplicationPreview::Send { steps, .. }) if steps[0].resumes => Some(steps[0].size.clone()),
        _ => None,
    });
    assert!(matches!(resumed, Some(Size::Bytes(600_000..800_000))), "the rest: {resumed:?}");
    let done = all_that_is_done(&lab, &config, "push").await;
    assert!(has(&done, "resume src"), "{done:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_partial_receive_that_is_of_no_use_is_discarded_as_previewed() {
    let (lab, config) = (Lab::new(), push(MANUAL, ""));
    lab.snapshot_and_wait("1").await;
    lab.invoke(&config, "push").await;
    for name in ["src", "src/a", "src/b"] {
        lab.host.write_file(&dataset(name), "file", &[7; 900_000]).unwrap();
    }
    lab.snapshot_and_wait("2").await;
    lab.interrupt(&config).await;
    let token = step_hold_tag(&JobName::parse("push").unwrap()).unwrap();
    for name in ["src@2", "src/a@2", "src/b@2"] {
        let _ = lab.world.zfs.release(&token, &[snapshot(name)]).await;
        lab.destroy(name).await;
    }
    lab.snapshot_and_wait("3").await;
    let done = all_that_is_done(&lab, &config, "push").await;
    assert!(has(&done, "discard src") && !has(&done, "resume"), "{done:#?}");
}

#[tokio::test(start_paused = true)]
async fn conflicts_stop_only_themselves_as_previewed() {
    let (lab, config) = (Lab::new(), push(MANUAL, ""));
    lab.snapshot_and_wait("1").await;
    lab.invoke(&config, "push").await;
    assert!(lab.world.zfs.snapshot(&[snapshot("dst/backup/me/src/a@theirs")]).await[0].is_ok());
    lab.snapshot_and_wait("2").await;
    let done = all_that_is_done(&lab, &config, "push").await;
    assert!(has(&done, "conflict src/a: the receiver's latest snapshot is not present"), "{done:#?}");
    assert!(has(&done, "send src/b @1 => @2") && !has(&done, "send src/a"), "{done:#?}");

    let (lab, refuses) = (Lab::new(), push(MANUAL, "conflict_resolution: {initial_replication: fail}"));
    lab.snapshot_and_wait("1").await;
    let done = all_that_is_done(&lab, &refuses, "push").await;
    assert_eq!(done.iter().filter(|deed| deed.starts_with("conflict ")).count(), 3, "{done:#?}");
}

#[tokio::test(start_paused = true)]
async fn protections_that_a_crash_left_wrong_are_confirmed_as_previewed() {
    let (lab, config) = (Lab::new(), push(MANUAL, ""));
    lab.snapshot_and_wait("1").await;
    lab.invoke(&config, "push").await;
    lab.release(&last_received_tag(&JobName::parse("sink").unwrap()).unwrap(), "dst/backup/me/src/a@1").await;
    let guid = lab.host.snapshot_guid(&dataset("src/b"), &version("1")).unwrap();
    let cursor = cursor_name(guid, &JobName::parse("push").unwrap()).unwrap();
    lab.world.zfs.destroy_bookmark(&dataset("src/b"), &cursor).await.unwrap();
    let done = all_that_is_done(&lab, &config, "push").await;
    assert_eq!(done, BTreeSet::from(["confirm src/a".to_owned(), "confirm src/b".to_owned()]));
    assert_eq!(previewed_and_done(&lab, &config, "push").await, 0, "all is right");
}
