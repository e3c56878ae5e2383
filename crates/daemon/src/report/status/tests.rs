//! The fold, event by event, against reports as zrepl writes them.

use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use model::event::{BlockedOn, Event, InvocationSummary, Pruning, Replication, SnapshotterState, Snapshotting, What};
use model::plan::prune::{Decision, FilesystemPrunePlan, PrunePlan, PruneSide, SkipReason};
use model::plan::replication::{
    Base, Conflict, FilesystemAction, FilesystemPlan, NothingReason, ReplicationPlan, Step,
};
use model::version::{CreateTxg, Guid, UnixTime};
use model::{DatasetName, JobName, Version, VersionKind, VersionName, VersionRef};

use super::*;

const CONFIG: &str = r#"
jobs:
  - name: push
    type: push
    connect: {type: local, listener_name: l, client_identity: c}
    filesystems: {"p<": true}
    snapshotting: {type: periodic, interval: 10m, prefix: z_}
    pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
  - {name: sink, type: sink, root_fs: q/sink, serve: {type: local, listener_name: l}}
  - name: snap
    type: snap
    filesystems: {"p<": true}
    snapshotting: {type: manual}
    pruning: {keep: [{type: last_n, count: 1}]}
"#;

/// A daemon whose events come a second apart.
struct Story {
    fold: StatusFold,
    at: Timestamp,
}

impl Story {
    fn new() -> Story {
        let config = config::parse("zrepl.yml", CONFIG).unwrap().config;
        Story { fold: StatusFold::new(&config), at: "2024-05-14T21:16:22Z".parse().unwrap() }
    }

    fn tell(&mut self, job: &str, what: What) -> &mut Story {
        self.at += SignedDuration::from_secs(1);
        self.fold.read(&Event {
            at: self.at,
            job: Some(JobName::parse(job).unwrap()),
            about: model::event::About::Nothing,
            what,
        });
        self
    }

    fn push(&mut self, what: Replication) -> &mut Story {
        self.tell("push", What::Replication(what))
    }

    fn prune(&mut self, side: PruneSide, what: Pruning) -> &mut Story {
        self.tell("push", What::Pruning { side, what })
    }

    fn start(&mut self, number: u64) -> &mut Story {
        self.tell("push", What::InvocationStarted { number })
    }

    fn finish(&mut self, number: u64, cancelled: bool) -> &mut Story {
        let summary =
            InvocationSummary { steps: 1, took: Duration::from_millis(1500), cancelled, ..Default::default() };
        self.tell("push", What::InvocationFinished { number, summary })
    }

    fn json(&self) -> serde_json::Value {
        let status = self.fold.status(Vec::new(), &Tuning::default());
        serde_json::from_str(&status.to_json()).unwrap()
    }

    /// One part of the report, on one line.
    fn part(&self, pointer: &str) -> String {
        let mut whole = self.json();
        whole.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")).take().to_string()
    }

    fn check(&self, pointer: &str, expected: &Expect) {
        expected.assert_eq(&self.part(pointer));
    }
}

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn version_name(name: &str) -> VersionName {
    VersionName::parse(name).unwrap()
}

fn snapshot(name: &str) -> VersionRef {
    VersionRef { kind: VersionKind::Snapshot, name: version_name(name), guid: Guid(1) }
}

fn steps(pairs: &[(Option<&str>, &str)]) -> FilesystemAction {
    let step = |(from, to): &(Option<&str>, &str)| Step {
        from: from.map(snapshot),
        to: snapshot(to),
        created: UnixTime(0),
        resume_token: None,
    };
    FilesystemAction::Steps {
        base: Base::Common(snapshot("a")),
        discard: None,
        resolution: None,
        steps: pairs.iter().map(step).collect(),
    }
}

fn plan(filesystems: Vec<(&str, FilesystemAction)>) -> Replication {
    let plan =
        |(name, action)| FilesystemPlan { name: dataset(name), after: None, action, newest: None, received: None };
    Replication::Planned {
        plan: Arc::new(ReplicationPlan { filesystems: filesystems.into_iter().map(plan).collect() }),
    }
}

fn attempt(story: &Story) -> String {
    story.part("/Jobs/push/push/Replication/Attempts/0")
}

#[test]
fn a_daemon_that_has_done_nothing() {
    let story = Story::new();
    let mut whole = story.json();
    assert!(whole["Global"]["OsEnviron"].is_array());
    whole["Global"]["OsEnviron"].take();
    expect![[r#"{"Global":{"Daemon":{"StartedAt":"0001-01-01T00:00:00Z","Version":"0.8.0-dev"},"Envconst":{"Entries":[{"Value":"3","ValueGoType":"int","Var":"ZREPL_REPLICATION_MAX_ATTEMPTS"},{"Value":"600s","ValueGoType":"time.Duration","Var":"ZREPL_REPLICATION_RECONNECT_HARD_FAIL_TIMEOUT"},{"Value":"4500s","ValueGoType":"time.Duration","Var":"ZREPL_REPLICATION_CALL_TIMEOUT"},{"Value":"4500s","ValueGoType":"time.Duration","Var":"ZREPL_REPLICATION_STALL_TIMEOUT"},{"Value":"10s","ValueGoType":"time.Duration","Var":"ZREPL_RPC_CLIENT_VERSIONHANDSHAKE_TIMEOUT"},{"Value":"10s","ValueGoType":"time.Duration","Var":"ZREPL_RPC_SERVER_VERSIONHANDSHAKE_TIMEOUT"},{"Value":"10s","ValueGoType":"time.Duration","Var":"ZREPL_TRANSPORT_DEMUX_TIMEOUT"},{"Value":"1800s","ValueGoType":"time.Duration","Var":"ZREPL_ENDPOINT_STALL_TIMEOUT"},{"Value":"30s","ValueGoType":"time.Duration","Var":"ZREPL_DAEMON_DRAIN_TIMEOUT"},{"Value":"on","ValueGoType":"string","Var":"ZREPL_RPC_EXTENSIONS"},{"Value":"1048576","ValueGoType":"int","Var":"ZREPL_MAX_HOOK_LOG_SIZE"}]},"OsEnviron":null,"ZFSCmds":{"Active":null}},"Jobs":{"_control":{"internal":null,"type":"internal"},"push":{"push":{"Health":{"Cron":null,"Filesystems":[],"IntervalSeconds":600.0,"LastSuccess":"0001-01-01T00:00:00Z","NextRun":"0001-01-01T00:00:00Z"},"Invocation":null,"PruningReceiver":null,"PruningSender":null,"Replication":null,"Snapshotting":{"Cron":null,"Manual":null,"Periodic":{"Error":"","Progress":null,"SleepUntil":"0001-01-01T00:00:00Z","State":1},"Type":"periodic"}},"type":"push"},"sink":{"sink":{"Clients":[],"Health":{"Cron":null,"Filesystems":[],"IntervalSeconds":null,"LastSuccess":"0001-01-01T00:00:00Z","NextRun":"0001-01-01T00:00:00Z"},"Snapper":null},"type":"sink"},"snap":{"snap":{"Health":{"Cron":null,"Filesystems":[],"IntervalSeconds":null,"LastSuccess":"0001-01-01T00:00:00Z","NextRun":"0001-01-01T00:00:00Z"},"Invocation":null,"Pruning":null,"Snapshotting":{"Cron":null,"Manual":{},"Periodic":null,"Type":"manual"}},"type":"snap"}},"Version":1}"#]]
    .assert_eq(&whole.to_string());
}

#[test]
fn the_type_comes_first_in_a_job() {
    // Clients of zrepl decode by key, people read from the left.
    let json = Story::new().fold.status(Vec::new(), &Tuning::default()).to_json();
    assert!(json.starts_with(r#"{"Version":1,"Jobs":{"_control":{"type":"internal","internal":null},"push":{"type":"push","push":{"Replication":null,"#), "{json}");
}

#[test]
fn children_that_run_are_shown() {
    let started_at = std::time::UNIX_EPOCH + Duration::from_secs(1_715_721_383);
    let child = RunningCommand { path: "zfs".into(), args: vec!["zfs".into(), "list".into()], started_at };
    let status = Story::new().fold.status(vec![child], &Tuning::default());
    let whole: serde_json::Value = serde_json::from_str(&status.to_json()).unwrap();
    expect![[r#"[{"Args":["zfs","list"],"Path":"zfs","StartedAt":"2024-05-14T21:16:23Z"}]"#]]
        .assert_eq(&whole["Global"]["ZFSCmds"]["Active"].to_string());
}

#[test]
fn states_of_the_snapshotter_are_numbers() {
    let mut story = Story::new();
    let all = [
        (SnapshotterState::SyncUp, 1),
        (SnapshotterState::SyncUpErrWait, 2),
        (SnapshotterState::Planning, 4),
        (SnapshotterState::Snapshotting, 8),
        (SnapshotterState::Waiting, 16),
        (SnapshotterState::ErrorWait, 32),
        (SnapshotterState::Stopped, 64),
    ];
    for (state, number) in all {
        let what = Snapshotting::State { state, sleep_until: None, error: None };
        story.tell("push", What::Snapshotting(what));
        assert_eq!(story.part("/Jobs/push/push/Snapshotting/Periodic/State"), number.to_string());
    }
}

#[test]
fn a_round_of_snapshots_one_of_which_fails() {
    let mut story = Story::new();
    let name = version_name("z_1");
    let taken = |filesystem: &str, result| {
        What::Snapshotting(Snapshotting::Taken { filesystem: dataset(filesystem), snapshot: name.clone(), result })
    };
    let snapshots =
        vec![(dataset("p/b"), name.clone()), (dataset("p/a"), name.clone()), (dataset("p/c"), name.clone())];
    story.tell("push", What::Snapshotting(Snapshotting::RoundStarted { snapshots, one_by_one: Vec::new() }));
    story.tell("push", taken("p/a", Ok(())));
    story.tell("push", taken("p/b", Err("cannot snapshot \"p/b@z_1\": out of space".to_owned())));
    story.check(
        "/Jobs/push/push/Snapshotting/Periodic/Progress",
        &expect![[r#"[{"DoneAt":"2024-05-14T21:16:24Z","Hooks":"","HooksHadError":false,"Path":"p/a","SnapName":"z_1","StartAt":"2024-05-14T21:16:23Z","State":4},{"DoneAt":"2024-05-14T21:16:25Z","Hooks":"cannot snapshot \"p/b@z_1\": out of space","HooksHadError":true,"Path":"p/b","SnapName":"z_1","StartAt":"2024-05-14T21:16:23Z","State":8},{"DoneAt":"0001-01-01T00:00:00Z","Hooks":"","HooksHadError":false,"Path":"p/c","SnapName":"z_1","StartAt":"2024-05-14T21:16:23Z","State":2}]"#]],
    );
    let until = "2024-05-14T21:30:00.5Z".parse().unwrap();
    let state = SnapshotterState::ErrorWait;
    let error = Some("1 of 3 snapshots could not be taken".to_owned());
    story.tell("push", What::Snapshotting(Snapshotting::State { state, sleep_until: Some(until), error }));
    assert_eq!(story.part("/Jobs/push/push/Snapshotting/Periodic/SleepUntil"), r#""2024-05-14T21:30:00.5Z""#);
    assert_eq!(story.part("/Jobs/push/push/Snapshotting/Periodic/Error"), r#""1 of 3 snapshots could not be taken""#);
}

#[test]
fn planning_then_failing_to() {
    let mut story = Story::new();
    story.start(1).push(Replication::AttemptStarted);
    expect![[r#"{"Attempts":[{"Filesystems":[],"FinishAt":"0001-01-01T00:00:00Z","PlanError":null,"StartAt":"2024-05-14T21:16:24Z","State":"planning"}],"FinishAt":"0001-01-01T00:00:00Z","StartAt":"2024-05-14T21:16:24Z","WaitReconnectError":null,"WaitReconnectSince":"0001-01-01T00:00:00Z","WaitReconnectUntil":"0001-01-01T00:00:00Z"}"#]]
    .assert_eq(&story.part("/Jobs/push/push/Replication"));
    story.push(Replication::PlanFailed { error: "cannot list".to_owned() }).push(Replication::AttemptFinished);
    expect![[r#"{"Filesystems":[],"FinishAt":"2024-05-14T21:16:26Z","PlanError":{"Err":"cannot list","Time":"2024-05-14T21:16:25Z"},"StartAt":"2024-05-14T21:16:24Z","State":"planning-error"}"#]]
    .assert_eq(&attempt(&story));
}

#[test]
fn steps_of_a_filesystem_from_queue_to_done() {
    let mut story = Story::new();
    let filesystem = dataset("p/a");
    story.start(1).push(Replication::AttemptStarted);
    story.push(plan(vec![
        ("p", FilesystemAction::Nothing(NothingReason::UpToDate(snapshot("b")))),
        ("p/a", steps(&[(None, "a"), (Some("a"), "b")])),
    ]));
    expect![[r#"{"Filesystems":[{"BlockedOn":"nothing","CurrentStep":0,"Info":{"Name":"p"},"PlanError":null,"State":"done","StepError":null,"Steps":[]},{"BlockedOn":"repl-queue","CurrentStep":0,"Info":{"Name":"p/a"},"PlanError":null,"State":"stepping","StepError":null,"Steps":[{"Info":{"BytesExpected":0,"BytesReplicated":0,"From":"","Resumed":false,"To":"@a"}},{"Info":{"BytesExpected":0,"BytesReplicated":0,"From":"@a","Resumed":false,"To":"@b"}}]}],"FinishAt":"0001-01-01T00:00:00Z","PlanError":null,"StartAt":"2024-05-14T21:16:24Z","State":"fan-out-filesystems"}"#]]
    .assert_eq(&attempt(&story));

    story.push(Replication::Blocked { filesystem: filesystem.clone(), on: BlockedOn::Parent });
    assert_eq!(
        story.part("/Jobs/push/push/Replication/Attempts/0/Filesystems/1/BlockedOn"),
        r#""parent-initial-repl""#
    );
    story.push(Replication::StepStarted { filesystem: filesystem.clone(), step: 0 });
    story.push(Replication::StepProgress { filesystem: filesystem.clone(), step: 0, expected: Some(100), bytes: 40 });
    expect![[r#"{"BlockedOn":"nothing","CurrentStep":0,"Info":{"Name":"p/a"},"PlanError":null,"State":"stepping","StepError":null,"Steps":[{"Info":{"BytesExpected":100,"BytesReplicated":40,"From":"","Resumed":false,"To":"@a"}},{"Info":{"BytesExpected":0,"BytesReplicated":0,"From":"@a","Resumed":false,"To":"@b"}}]}"#]]
    .assert_eq(&story.part("/Jobs/push/push/Replication/Attempts/0/Filesystems/1"));

    for (step, bytes) in [(0, 101), (1, 7)] {
        story.push(Replication::StepStarted { filesystem: filesystem.clone(), step });
        let took = Duration::from_secs(1);
        story.push(Replication::StepFinished { filesystem: filesystem.clone(), step, bytes, took });
    }
    expect![[r#"{"BlockedOn":"nothing","CurrentStep":2,"Info":{"Name":"p/a"},"PlanError":null,"State":"done","StepError":null,"Steps":[{"Info":{"BytesExpected":100,"BytesReplicated":101,"From":"","Resumed":false,"To":"@a"}},{"Info":{"BytesExpected":7,"BytesReplicated":7,"From":"@a","Resumed":false,"To":"@b"}}]}"#]]
    .assert_eq(&story.part("/Jobs/push/push/Replication/Attempts/0/Filesystems/1"));
    story.push(Replication::AttemptFinished);
    assert_eq!(story.part("/Jobs/push/push/Replication/Attempts/0/State"), r#""done""#);
}

#[test]
fn a_conflict_and_a_failed_step_make_a_filesystem_error() {
    let mut story = Story::new();
    story.start(1).push(Replication::AttemptStarted);
    story.push(plan(vec![
        ("p/a", FilesystemAction::Conflict(Conflict::NoSnapshots)),
        ("p/b", steps(&[(Some("a"), "b")])),
    ]));
    story.push(Replication::Conflicted { filesystem: dataset("p/a"), conflict: Conflict::NoSnapshots });
    story.push(Replication::StepFailed {
        filesystem: dataset("p/b"),
        step: 0,
        bytes: 9,
        error: "out of space".to_owned(),
        will_retry: false,
    });
    story.push(Replication::AttemptFinished);
    expect![[r#"{"Filesystems":[{"BlockedOn":"nothing","CurrentStep":0,"Info":{"Name":"p/a"},"PlanError":{"Err":"no snapshots available on sender side (nothing has taken one yet, or `filesystems` means another one)","Time":"2024-05-14T21:16:26Z"},"State":"planning-error","StepError":null,"Steps":[]},{"BlockedOn":"nothing","CurrentStep":0,"Info":{"Name":"p/b"},"PlanError":null,"State":"step-error","StepError":{"Err":"out of space","Time":"2024-05-14T21:16:27Z"},"Steps":[{"Info":{"BytesExpected":0,"BytesReplicated":9,"From":"@a","Resumed":false,"To":"@b"}}]}],"FinishAt":"2024-05-14T21:16:28Z","PlanError":null,"StartAt":"2024-05-14T21:16:24Z","State":"filesystem-error"}"#]]
    .assert_eq(&attempt(&story));
}

#[test]
fn a_filesystem_that_is_planned_again_keeps_what_it_has_done() {
    let mut story = Story::new();
    let (filesystem, took) = (dataset("p/b"), Duration::from_secs(1));
    story.start(1).push(Replication::AttemptStarted);
    story.push(plan(vec![("p/b", steps(&[(Some("a"), "b"), (Some("b"), "c")]))]));
    story.push(Replication::StepStarted { filesystem: filesystem.clone(), step: 0 });
    story.push(Replication::StepFinished { filesystem: filesystem.clone(), step: 0, bytes: 9, took });
    let error = "busy".to_owned();
    let failed = Replication::StepFailed { filesystem: filesystem.clone(), step: 1, bytes: 5, error, will_retry: true };
    story.push(failed).push(Replication::Blocked { filesystem: filesystem.clone(), on: BlockedOn::Planning });
    let row = |story: &Story| {
        let row = &story.json()["Jobs"]["push"]["push"]["Replication"]["Attempts"][0]["Filesystems"][0];
        let bytes: Vec<u64> =
            row["Steps"].as_array().unwrap().iter().filter_map(|one| one["Info"]["BytesReplicated"].as_u64()).collect();
        format!("{} {} {} {bytes:?}", row["State"], row["BlockedOn"], row["CurrentStep"])
    };
    assert_eq!(row(&story), r#""step-error" "plan-queue" 1 [9, 5]"#);
    let action = steps(&[(Some("a"), "b"), (Some("b"), "c"), (Some("c"), "d")]);
    let again = FilesystemPlan { name: filesystem.clone(), after: None, action, newest: None, received: None };
    story.push(Replication::Replanned { plan: Arc::new(again), done: 1 });
    assert_eq!(row(&story), r#""stepping" "repl-queue" 1 [9, 0, 0]"#);
    story.push(Replication::StepStarted { filesystem: filesystem.clone(), step: 1 });
    story.push(Replication::StepFinished { filesystem: filesystem.clone(), step: 1, bytes: 7, took });
    assert_eq!(row(&story), r#""stepping" "nothing" 2 [9, 7, 0]"#);
}

#[test]
fn a_reset_leaves_nothing_running_in_the_report() {
    let mut story = Story::new();
    story.start(1).push(Replication::AttemptStarted);
    story.push(plan(vec![("p/a", steps(&[(None, "a")]))]));
    story.finish(1, true);
    expect![[r#"{"BlockedOn":"nothing","CurrentStep":0,"Info":{"Name":"p/a"},"PlanError":null,"State":"step-error","StepError":{"Err":"cancelled","Time":"2024-05-14T21:16:26Z"},"Steps":[{"Info":{"BytesExpected":0,"BytesReplicated":0,"From":"","Resumed":false,"To":"@a"}}]}"#]]
    .assert_eq(&story.part("/Jobs/push/push/Replication/Attempts/0/Filesystems/0"));
    assert_eq!(story.part("/Jobs/push/push/Replication/Attempts/0/State"), r#""filesystem-error""#);
    expect![[r#"{"FinishAt":"2024-05-14T21:16:26Z","Number":1,"ProgressAt":"2024-05-14T21:16:26Z","StartAt":"2024-05-14T21:16:23Z","Summary":{"Bytes":0,"Cancelled":true,"Destroyed":0,"Errors":0,"Filesystems":0,"Replicated":false,"Seconds":1.5,"Steps":1}}"#]]
    .assert_eq(&story.part("/Jobs/push/push/Invocation"));
}

fn version(name: &str, kind: VersionKind, creation: i64) -> Version {
    Version {
        kind,
        name: version_name(name),
        guid: Guid(u64::try_from(creation).unwrap()),
        createtxg: CreateTxg(1),
        creation: UnixTime(creation),
        userrefs: 0,
    }
}

fn prune_plan() -> Pruning {
    let versions: Arc<[Version]> = [
        version("old", VersionKind::Snapshot, 1_715_721_383),
        version("cursor", VersionKind::Bookmark, 1_715_721_384),
        version("new", VersionKind::Snapshot, 1_715_721_385),
    ]
    .into();
    let considered = |name: &str, first: Decision| FilesystemPrunePlan {
        name: dataset(name),
        skip: None,
        versions: Arc::clone(&versions),
        decisions: [first, Decision::NotConsidered, Decision::KeptByRule(0)].into(),
        replicated: [true, true, false].into(),
    };
    let skipped =
        FilesystemPrunePlan { skip: Some(SkipReason::Placeholder), ..considered("p", Decision::NotConsidered) };
    let filesystems = vec![skipped, considered("p/a", Decision::Destroy), considered("p/b", Decision::Destroy)];
    Pruning::Planned { plan: Arc::new(PrunePlan { side: PruneSide::Sender, filesystems }) }
}

#[test]
fn pruning_from_plan_to_done() {
    let mut story = Story::new();
    story.start(1).push(Replication::AttemptStarted).push(Replication::AttemptFinished);
    story.prune(PruneSide::Sender, Pruning::Started);
    assert_ne!(story.part("/Jobs/push/push/Replication/FinishAt"), r#""0001-01-01T00:00:00Z""#);
    story.check(
        "/Jobs/push/push/PruningSender",
        &expect![[r#"{"Completed":null,"Error":"","Pending":null,"State":"Plan"}"#]],
    );
    assert_eq!(story.part("/Jobs/push/push/PruningReceiver"), "null");
    story.prune(PruneSide::Sender, prune_plan());
    let done =
        |failed| Pruning::Filesystem { filesystem: dataset("p/a"), destroyed: vec![version_name("old")], failed };
    story.prune(PruneSide::Sender, done(Vec::new()));
    story.check(
        "/Jobs/push/push/PruningSender",
        &expect![[r#"{"Completed":[{"DestroyList":null,"Filesystem":"p","LastError":"","SkipReason":"filesystem is placeholder","SnapshotList":null},{"DestroyList":[{"Date":"2024-05-14T21:16:23Z","Name":"old","Replicated":true}],"Filesystem":"p/a","LastError":"","SkipReason":"","SnapshotList":[{"Date":"2024-05-14T21:16:23Z","Name":"old","Replicated":true},{"Date":"2024-05-14T21:16:25Z","Name":"new","Replicated":false}]}],"Error":"","Pending":[{"DestroyList":[{"Date":"2024-05-14T21:16:23Z","Name":"old","Replicated":true}],"Filesystem":"p/b","LastError":"","SkipReason":"","SnapshotList":[{"Date":"2024-05-14T21:16:23Z","Name":"old","Replicated":true},{"Date":"2024-05-14T21:16:25Z","Name":"new","Replicated":false}]}],"State":"Exec"}"#]],
    );
    story.prune(PruneSide::Sender, done(vec![(version_name("old"), "it is held".to_owned())]));
    story.prune(PruneSide::Sender, Pruning::Finished);
    assert_eq!(story.part("/Jobs/push/push/PruningSender/State"), r#""ExecErr""#);
    assert_eq!(story.part("/Jobs/push/push/PruningSender/Completed/1/LastError"), r#""@old: it is held""#);
}

#[test]
fn pruning_that_cannot_plan_and_pruning_that_is_cancelled() {
    let mut story = Story::new();
    story.start(1).prune(PruneSide::Sender, Pruning::Started);
    story.prune(PruneSide::Sender, Pruning::PlanFailed { error: "pool is gone".to_owned() });
    story.prune(PruneSide::Receiver, Pruning::Started).prune(PruneSide::Receiver, prune_plan()).finish(1, true);
    story.check(
        "/Jobs/push/push/PruningSender",
        &expect![[r#"{"Completed":null,"Error":"pool is gone","Pending":null,"State":"PlanErr"}"#]],
    );
    assert_eq!(story.part("/Jobs/push/push/PruningReceiver/State"), r#""ExecErr""#);
    assert_eq!(story.part("/Jobs/push/push/PruningReceiver/Error"), r#""cancelled""#);
}

#[test]
fn an_invocation_voids_the_reports_of_the_last_one_but_not_the_snapshotter_s() {
    let mut story = Story::new();
    let what = Snapshotting::State { state: SnapshotterState::Waiting, sleep_until: None, error: None };
    story.tell("push", What::Snapshotting(what));
    story.start(1).push(Replication::AttemptStarted).prune(PruneSide::Sender, Pruning::Started).finish(1, false);
    let plan = Arc::new(PrunePlan { side: PruneSide::Sender, filesystems: Vec::new() });
    story.prune(PruneSide::Sender, Pruning::Planned { plan: Arc::clone(&plan) });
    assert_eq!(Arc::strong_count(&plan), 2);
    story.start(2);
    assert_eq!(Arc::strong_count(&plan), 1, "the large part of the report is dropped at once");
    assert_eq!(story.part("/Jobs/push/push/Replication"), "null");
    assert_eq!(story.part("/Jobs/push/push/PruningSender"), "null");
    assert_eq!(story.part("/Jobs/push/push/Snapshotting/Periodic/State"), "16");
    assert_eq!(story.part("/Jobs/push/push/Invocation/Summary"), "null");
}

#[test]
fn a_snap_job_prunes_one_side() {
    let mut story = Story::new();
    story.tell("snap", What::InvocationStarted { number: 1 });
    story.tell("snap", What::Pruning { side: PruneSide::Local, what: Pruning::Started });
    story.tell("snap", What::Pruning { side: PruneSide::Local, what: Pruning::Finished });
    story
        .check("/Jobs/snap/snap/Pruning", &expect![[r#"{"Completed":null,"Error":"","Pending":null,"State":"Done"}"#]]);
}

#[test]
fn failed_protections_are_counted_also_across_invocations() {
    let mut story = Story::new();
    let failed = |object: &str| What::Protection {
        object: object.to_owned(),
        outcome: model::event::ProtectionOutcome::Failed("dataset is busy".to_owned()),
    };
    story.tell("push", failed("hold a")).tell("sink", failed("hold b")).tell("snap", failed("hold e"));
    story.tell("push", What::InvocationStarted { number: 2 }).tell("push", failed("hold c"));
    story.tell("push", What::Protection { object: "hold d".into(), outcome: model::event::ProtectionOutcome::Made });
    let found = story.json();
    let expected = serde_json::json!({"Failed": 2, "LastError": "hold c: dataset is busy"});
    assert_eq!(found["Jobs"]["push"]["push"]["Protections"], expected);
    let expected = serde_json::json!({"Failed": 1, "LastError": "hold b: dataset is busy"});
    assert_eq!(found["Jobs"]["sink"]["sink"]["Protections"], expected);
    assert_eq!(found["Jobs"]["snap"]["snap"]["Protections"]["LastError"], "hold e: dataset is busy");
}

/// `[filesystem, newest, replicated]` as the report has them, times without their date.
fn ages(story: &Story, job: &str, kind: &str) -> String {
    let report = story.json();
    let rows = report["Jobs"][job][kind]["Health"]["Filesystems"].as_array().unwrap().clone();
    let row = |row: &serde_json::Value| {
        let time = |key: &str| row[key].as_str().unwrap().get(11..).unwrap().to_owned();
        format!("{} {} {}", row["Name"].as_str().unwrap(), time("Newest"), time("Replicated"))
    };
    rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn ages_of_what_is_protected_outlive_the_invocation_that_saw_them() {
    let mut story = Story::new();
    let at = |text: &str| UnixTime(format!("2024-05-14T{text}Z").parse::<Timestamp>().unwrap().as_second());
    let mut sends = steps(&[(Some("a"), "b")]);
    if let FilesystemAction::Steps { steps, .. } = &mut sends {
        steps[0].created = at("21:10:00");
    }
    let filesystem = |name: &str, action, newest: &str, received: Option<&str>| FilesystemPlan {
        name: dataset(name),
        after: None,
        action,
        newest: Some(at(newest)),
        received: received.map(at),
    };
    let filesystems = vec![
        filesystem("p/a", sends, "21:10:00", Some("21:00:00")),
        filesystem("p/b", FilesystemAction::Conflict(Conflict::NoSnapshots), "21:10:00", None),
    ];
    story.start(1).push(Replication::AttemptStarted);
    story.push(Replication::Planned { plan: Arc::new(ReplicationPlan { filesystems }) });
    expect![[r#"
        p/a 21:10:00Z 21:00:00Z
        p/b 21:10:00Z 00:00:00Z"#]]
    .assert_eq(&ages(&story, "push", "push"));
    let took = Duration::from_secs(1);
    story.push(Replication::StepFinished { filesystem: dataset("p/a"), step: 0, bytes: 9, took });
    let taken =
        |name: &str| Snapshotting::Taken { filesystem: dataset(name), snapshot: version_name("c"), result: Ok(()) };
    story.tell("push", What::Snapshotting(taken("p/b"))).finish(1, false).start(2);
    expect![[r#"
        p/a 21:10:00Z 21:10:00Z
        p/b 21:16:27Z 00:00:00Z"#]]
    .assert_eq(&ages(&story, "push", "push"));
    let gone =
        vec![filesystem("p/a", FilesystemAction::Nothing(NothingReason::UpToDate(snapshot("b"))), "21:10:00", None)];
    story.push(Replication::AttemptStarted);
    story.push(Replication::Planned { plan: Arc::new(ReplicationPlan { filesystems: gone }) });
    expect!["p/a 21:10:00Z 00:00:00Z"].assert_eq(&ages(&story, "push", "push"));
}

#[test]
fn a_job_that_only_snapshots_tells_its_ages_from_rounds_and_from_pruning() {
    let mut story = Story::new();
    let round = [("p/a", "s"), ("p/b", "s")].map(|(filesystem, name)| (dataset(filesystem), version_name(name)));
    story.tell("snap", What::Snapshotting(Snapshotting::RoundStarted { snapshots: round.into(), one_by_one: vec![] }));
    expect![[r#"
        p/a 00:00:00Z 00:00:00Z
        p/b 00:00:00Z 00:00:00Z"#]]
    .assert_eq(&ages(&story, "snap", "snap"));
    story.tell("snap", What::InvocationStarted { number: 1 });
    story.tell("snap", What::Pruning { side: PruneSide::Local, what: prune_plan() });
    expect![[r#"
        p/a 21:16:25Z 00:00:00Z
        p/b 21:16:25Z 00:00:00Z"#]]
    .assert_eq(&ages(&story, "snap", "snap"));
}

#[test]
fn only_an_invocation_that_did_everything_is_a_success() {
    let mut story = Story::new();
    let finished = |replicated, errors, cancelled| What::InvocationFinished {
        number: 1,
        summary: InvocationSummary { replicated, errors, cancelled, ..Default::default() },
    };
    let success = |story: &Story| story.part("/Jobs/push/push/Health/LastSuccess");
    for what in [finished(false, 0, false), finished(true, 1, false), finished(true, 0, true)] {
        story.start(1).tell("push", what);
        assert_eq!(success(&story), r#""0001-01-01T00:00:00Z""#);
    }
    story.start(2).tell("push", finished(true, 0, false)).start(3);
    assert_eq!(success(&story), r#""2024-05-14T21:16:30Z""#);
    assert_eq!(story.part("/Jobs/push/push/Health/IntervalSeconds"), "600.0");
}

#[test]
fn an_invocation_tells_when_it_last_moved() {
    let mut story = Story::new();
    let told = |story: &Story| story.part("/Jobs/push/push/Invocation/ProgressAt");
    let progress = |bytes| Replication::StepProgress { filesystem: dataset("p/a"), step: 0, bytes, expected: None };
    story.start(1);
    assert_eq!(told(&story), "\"2024-05-14T21:16:23Z\"");
    story.push(Replication::AttemptStarted).push(plan(vec![("p/a", steps(&[(Some("a"), "b")]))]));
    story.push(progress(10));
    assert_eq!(told(&story), "\"2024-05-14T21:16:26Z\"");
    // A stream in which nothing comes, and snapshots that are taken beside it.
    story.push(progress(10)).tell("push", What::Snapshotting(Snapshotting::RoundFinished));
    assert_eq!(told(&story), "\"2024-05-14T21:16:26Z\"");
    story.push(progress(11));
    assert_eq!(told(&story), "\"2024-05-14T21:16:29Z\"");
    story.finish(1, false);
    assert_eq!(told(&story), "\"2024-05-14T21:16:30Z\"");
    story.tell("push", What::Pruning { side: PruneSide::Sender, what: Pruning::Finished });
    assert_eq!(told(&story), "\"2024-05-14T21:16:30Z\"", "it has ended");
}
