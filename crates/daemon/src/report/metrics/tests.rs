use std::collections::BTreeMap;
use std::sync::Arc;

use model::event::{InvocationSummary, ProcessorTime, Pruning, Replication, Snapshotting};
use model::plan::prune::PruneSide;
use model::plan::replication::{Base, FilesystemAction, FilesystemPlan, InitialReplication, ReplicationPlan, Step};
use model::version::{CreateTxg, VersionKind};
use model::{DatasetName, Guid, UnixTime, Version, VersionName};

use super::*;

const JOBS: &str = r#"
jobs:
- type: push
  name: push
  connect: {type: local, listener_name: l, client_identity: me}
  filesystems: {"p<": true}
  snapshotting: {type: periodic, interval: 1h, prefix: z_}
  pruning: {keep_sender: [{type: last_n, count: 2}], keep_receiver: [{type: last_n, count: 3}]}
- type: snap
  name: snap
  filesystems: {"p<": true}
  snapshotting: {type: manual}
  pruning: {keep: [{type: last_n, count: 2}]}
"#;

fn live() -> Live {
    Live { tasks: 3, children: 1, scrapes: 1, lost_lines: vec![("tcp", 2), ("tcp", 3)], ..Live::default() }
}

struct Told {
    metrics: Metrics,
    now: i64,
}

impl Told {
    fn new() -> Told {
        let config = config::parse("zrepl.yml", JOBS).unwrap().config;
        Told { metrics: Metrics::new(&config.jobs, at(1000)), now: 1000 }
    }

    /// A second later.
    fn tell(&mut self, job: &str, what: What) {
        self.now += 1;
        let job = (!job.is_empty()).then(|| JobName::parse(job).unwrap());
        self.metrics.read(&Event { at: at(self.now), job, about: model::event::About::Nothing, what });
    }

    fn has(&self, lines: &[&str]) {
        let text = self.metrics.text(live());
        for line in lines {
            let metric = line.split(['{', ' ']).next().unwrap_or_default();
            let alike: Vec<&str> = text.lines().filter(|one| one.starts_with(metric)).collect();
            assert!(alike.contains(line), "no {line}, but\n{}", alike.join("\n"));
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn snapshot(name: &str, number: u64, creation: i64) -> Version {
    Version {
        kind: VersionKind::Snapshot,
        name: VersionName::parse(name).unwrap(),
        guid: Guid(number),
        createtxg: CreateTxg(number),
        creation: UnixTime(creation),
        userrefs: 0,
    }
}

fn plan(filesystem: &str, to: &Version, received: Option<UnixTime>) -> FilesystemPlan {
    FilesystemPlan {
        name: dataset(filesystem),
        after: None,
        newest: Some(to.creation),
        received,
        action: FilesystemAction::Steps {
            base: Base::Initial(InitialReplication::MostRecent),
            discard: None,
            resolution: None,
            steps: vec![Step { from: None, to: to.to_ref(), created: to.creation, resume_token: None }],
        },
    }
}

/// Name and labels, `le` left out, as zrepl 0.7 has them. What it never observed is among them.
const ZREPL: [(&str, &[&str]); 24] = [
    ("zrepl_start_time", &["raw", "version_info"]),
    ("zrepl_daemon_log_entries", &["zrepl_job", "level"]),
    ("zrepl_control_request_begin", &["endpoint"]),
    ("zrepl_control_request_finished", &["endpoint"]),
    ("zrepl_replication_state_time", &["state", "zrepl_job"]),
    ("zrepl_replication_bytes_replicated", &["filesystem", "zrepl_job"]),
    ("zrepl_replication_filesystem_errors", &["zrepl_job"]),
    ("zrepl_replication_last_successful", &["zrepl_job"]),
    ("zrepl_pruning_time", &["prune_side", "zrepl_job"]),
    ("zrepl_zfs_list_filesystem_versions_duration", &["filesystem"]),
    ("zrepl_zfs_snapshot_duration", &["filesystem"]),
    ("zrepl_zfs_bookmark_duration", &["filesystem"]),
    ("zrepl_zfs_destroy_duration", &["dataset_type", "filesystem"]),
    ("zrepl_zfs_list_unmatched_user_specified_dataset_count", &["jobid"]),
    ("zrepl_zfscmd_runtime", &["jobid", "zfsbinary", "zfsverb"]),
    ("zrepl_zfscmd_systemtime", &["jobid", "zfsbinary", "zfsverb"]),
    ("zrepl_zfscmd_usertime", &["jobid", "zfsbinary", "zfsverb"]),
    ("zrepl_frameconn_shutdown_drain_bytes_read", &[]),
    ("zrepl_frameconn_shutdown_seconds", &[]),
    ("zrepl_frameconn_shutdown_drain_seconds", &[]),
    ("zrepl_frameconn_shutdown_hard_closes", &["step"]),
    ("zrepl_frameconn_shutdown_close_errors", &["step"]),
    ("zrepl_trace_active_tasks", &[]),
    ("zrepl_endpoint_abstractions_cache_entry_count", &[]),
];

/// zrepl's own metrics, with their labels; of those that are made when they are asked for, no labels.
pub(super) fn families() -> BTreeMap<String, Vec<String>> {
    let text = Told::new().metrics.text(live());
    let live = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut all: BTreeMap<String, Vec<String>> = live.map(|name| (name.to_owned(), Vec::new())).collect();
    for descriptor in ALL {
        all.insert(descriptor.name.to_owned(), descriptor.labels.iter().map(ToString::to_string).collect());
    }
    all.retain(|name, _| name.starts_with("zrepl_"));
    all
}

/// Every name that a sample can have, with its labels.
pub(super) fn exposed() -> BTreeMap<String, Vec<String>> {
    let text = Told::new().metrics.text(live());
    let live = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut all: BTreeMap<String, Vec<String>> = live.map(|name| (name.to_owned(), Vec::new())).collect();
    for descriptor in ALL {
        let labels: Vec<String> = descriptor.labels.iter().map(ToString::to_string).collect();
        match descriptor.kind {
            Kind::Counter | Kind::Gauge => drop(all.insert(descriptor.name.to_owned(), labels)),
            Kind::Histogram(_) => {
                for suffix in ["_bucket", "_sum", "_count"] {
                    all.insert(format!("{}{suffix}", descriptor.name), labels.clone());
                }
                all.entry(format!("{}_bucket", descriptor.name)).or_default().push("le".to_owned());
            }
        }
    }
    all
}

#[test]
fn names_and_labels_of_zrepl_are_kept() {
    let text = Told::new().metrics.text(live());
    let alone = |name: &str| {
        text.lines().any(|line| line.strip_prefix("# TYPE ").is_some_and(|line| line.starts_with(&format!("{name} "))))
    };
    for (name, labels) in ZREPL {
        let kept = ALL.iter().find(|descriptor| descriptor.name == name);
        match kept {
            Some(descriptor) => assert_eq!(descriptor.labels, labels, "{name}"),
            None => {
                assert!(alone(name), "{name} is missing");
                labels
                    .iter()
                    .for_each(|label| assert!(text.contains(&format!("\n{name}{{{label}=")), "{name} {label}"));
            }
        }
    }
}

#[test]
fn a_replication_is_counted_while_it_runs_and_its_lag_goes_when_it_ends() {
    let new = snapshot("new", 2, 900);
    let mut told = Told::new();
    told.has(&[
        r#"zrepl_replication_filesystem_errors{zrepl_job="push"} 0"#,
        r#"zrepl_replication_last_successful{zrepl_job="push"} 0"#,
        r#"zrepl_job_invocations_total{zrepl_job="push",result="ok"} 0"#,
    ]);
    let mut tell = |what| told.tell("push", what);
    tell(What::InvocationStarted { number: 1 });
    tell(What::Replication(Replication::AttemptStarted));
    let plans = vec![plan("p/a", &new, Some(UnixTime(500))), plan("p/b", &new, None)];
    tell(What::Replication(Replication::Planned { plan: Arc::new(ReplicationPlan { filesystems: plans }) }));
    tell(What::Replication(Replication::StepStarted { filesystem: dataset("p/a"), step: 0 }));
    let progress = |bytes| {
        What::Replication(Replication::StepProgress { filesystem: dataset("p/a"), step: 0, expected: None, bytes })
    };
    tell(progress(10));
    tell(progress(10));
    told.has(&[
        r#"zrepl_replication_bytes_replicated{filesystem="p/a",zrepl_job="push"} 10"#,
        r#"zrepl_replication_bytes_replicated{filesystem="p/b",zrepl_job="push"} 0"#,
        r#"zrepl_replication_lag_seconds{filesystem="p/a",zrepl_job="push"} 400"#,
        r#"zrepl_replication_lag_seconds{filesystem="p/b",zrepl_job="push"} +Inf"#,
        r#"zrepl_replication_newest_timestamp_seconds{filesystem="p/b",zrepl_job="push"} 0"#,
        r#"zrepl_snapshot_newest_timestamp_seconds{filesystem="p/a",zrepl_job="push"} 900"#,
        r#"zrepl_replication_state_time_sum{state="planning",zrepl_job="push"} 1"#,
        r#"zrepl_job_phase_start_timestamp_seconds{zrepl_job="push",phase="replicating"} 1003"#,
        // The second look at the same number of bytes is no progress.
        r#"zrepl_job_progress_timestamp_seconds{zrepl_job="push"} 1005"#,
        r#"zrepl_job_invocation_start_timestamp_seconds{zrepl_job="push"} 1001"#,
    ]);

    let mut tell = |what| told.tell("push", what);
    let took = Duration::from_secs(1);
    tell(What::Replication(Replication::StepFinished { filesystem: dataset("p/a"), step: 0, bytes: 25, took }));
    tell(What::Replication(Replication::StepStarted { filesystem: dataset("p/b"), step: 0 }));
    let failed = Replication::StepFailed {
        filesystem: dataset("p/b"),
        step: 0,
        bytes: 7,
        error: "no space".to_owned(),
        will_retry: false,
    };
    tell(What::Replication(failed));
    tell(What::Replication(Replication::AttemptFinished));
    let summary = InvocationSummary { errors: 1, took: Duration::from_secs(9), ..InvocationSummary::default() };
    tell(What::InvocationFinished { number: 1, summary });
    told.has(&[
        r#"zrepl_replication_bytes_replicated{filesystem="p/a",zrepl_job="push"} 25"#,
        r#"zrepl_replication_bytes_replicated{filesystem="p/b",zrepl_job="push"} 7"#,
        r#"zrepl_replication_lag_seconds{filesystem="p/a",zrepl_job="push"} 0"#,
        r#"zrepl_replication_newest_timestamp_seconds{filesystem="p/a",zrepl_job="push"} 900"#,
        r#"zrepl_replication_filesystem_errors{zrepl_job="push"} 1"#,
        r#"zrepl_replication_last_successful{zrepl_job="push"} 0"#,
        r#"zrepl_replication_state_time_count{state="fan-out-filesystems",zrepl_job="push"} 1"#,
        r#"zrepl_job_invocations_total{zrepl_job="push",result="error"} 1"#,
        r#"zrepl_job_last_invocation_duration_seconds{zrepl_job="push"} 9"#,
        r#"zrepl_job_phase_start_timestamp_seconds{zrepl_job="push",phase="replicating"} 0"#,
        r#"zrepl_job_invocation_start_timestamp_seconds{zrepl_job="push"} 0"#,
        r#"zrepl_daemon_log_entries{zrepl_job="push",level="error"} 1"#,
    ]);

    told.tell("push", What::InvocationStarted { number: 2 });
    told.tell("push", What::Replication(Replication::AttemptStarted));
    told.tell("push", What::Replication(Replication::PlanFailed { error: "unreachable".to_owned() }));
    told.tell("push", What::InvocationFinished { number: 2, summary: InvocationSummary::default() });
    told.has(&[r#"zrepl_replication_filesystem_errors{zrepl_job="push"} -1"#]);
    let summary = InvocationSummary { replicated: true, ..InvocationSummary::default() };
    told.tell("push", What::InvocationFinished { number: 3, summary });
    let now = told.now;
    told.has(&[
        r#"zrepl_replication_filesystem_errors{zrepl_job="push"} 0"#,
        &format!(r#"zrepl_replication_last_successful{{zrepl_job="push"}} {now}"#),
    ]);
}

#[test]
fn pruning_snapshots_commands_and_filters_are_measured() {
    let mut told = Told::new();
    let mut prune = |what| told.tell("snap", What::Pruning { side: PruneSide::Local, what });
    prune(Pruning::Started);
    let gone = VersionName::parse("old").unwrap();
    prune(Pruning::Destroyed { filesystem: dataset("p"), snapshot: gone.clone(), rules: "none".into() });
    let failed = vec![(VersionName::parse("busy").unwrap(), "held".to_owned())];
    prune(Pruning::Filesystem { filesystem: dataset("p"), destroyed: vec![gone], failed });
    prune(Pruning::Finished);
    let taken = |result| {
        What::Snapshotting(Snapshotting::Taken {
            filesystem: dataset("p/a"),
            snapshot: VersionName::parse("z_1").unwrap(),
            result,
        })
    };
    told.tell("push", taken(Ok(())));
    told.tell("push", taken(Err("full".to_owned())));
    told.tell("push", What::Unmatched { count: 2 });
    let command = "zfs destroy p/a@1,2".to_owned();
    let used = Some(ProcessorTime { user: Duration::from_millis(3), system: Duration::from_millis(15) });
    told.tell("push", What::CommandFinished { command, took: Duration::from_millis(20), used, success: true });
    let list = "zfs list p".to_owned();
    told.tell("", What::CommandFinished { command: list, took: Duration::ZERO, used: None, success: true });
    told.has(&[
        r#"zrepl_pruning_time_sum{prune_side="local",zrepl_job="snap"} 3"#,
        r#"zrepl_pruning_destroyed_snapshots_total{prune_side="local",zrepl_job="snap"} 1"#,
        r#"zrepl_pruning_failed_snapshots_total{prune_side="local",zrepl_job="snap"} 1"#,
        r#"zrepl_snapshots_total{zrepl_job="push",result="ok"} 1"#,
        r#"zrepl_snapshots_total{zrepl_job="push",result="error"} 1"#,
        r#"zrepl_snapshot_newest_timestamp_seconds{filesystem="p/a",zrepl_job="push"} 1005"#,
        r#"zrepl_zfs_list_unmatched_user_specified_dataset_count{jobid="push"} 2"#,
        r#"zrepl_zfs_destroy_duration_count{dataset_type="snapshot",filesystem="p/a"} 1"#,
        r#"zrepl_zfscmd_runtime_bucket{jobid="push",zfsbinary="zfs",zfsverb="destroy",le="0.1"} 1"#,
        r#"zrepl_zfscmd_systemtime_sum{jobid="push",zfsbinary="zfs",zfsverb="destroy"} 0.015"#,
        r#"zrepl_zfscmd_usertime_sum{jobid="push",zfsbinary="zfs",zfsverb="destroy"} 0.003"#,
        r#"zrepl_zfscmd_runtime_count{jobid="_nojobid",zfsbinary="zfs",zfsverb="list"} 1"#,
    ]);
}

#[test]
fn a_job_that_is_gone_from_the_configuration_is_gone_from_the_metrics() {
    let told = Told::new();
    let config = config::parse("zrepl.yml", JOBS).unwrap().config;
    told.metrics.reloaded(Err(()), at(2000));
    told.has(&["zrepl_config_last_reload_successful 0", "zrepl_config_load_timestamp_seconds 1000"]);
    told.metrics.reloaded(Ok(&config.jobs[1..]), at(2000));
    told.has(&["zrepl_config_last_reload_successful 1", "zrepl_config_load_timestamp_seconds 2000"]);
    assert!(!told.metrics.text(live()).contains("\"push\""));
}

#[test]
fn ten_thousand_filesystems_fit() {
    let mut told = Told::new();
    let newest = snapshot("new", 2, 900);
    let names: Vec<DatasetName> = (0..10_000).map(|number| dataset(&format!("p/customers/{number:05}/home"))).collect();
    let filesystems = names.iter().map(|name| plan(name.as_str(), &newest, None)).collect();
    told.tell("push", What::Replication(Replication::AttemptStarted));
    told.tell("push", What::Replication(Replication::Planned { plan: Arc::new(ReplicationPlan { filesystems }) }));
    for filesystem in &names {
        let command = format!("zfs destroy {filesystem}@1");
        told.tell("push", What::CommandFinished { command, took: Duration::ZERO, used: None, success: true });
    }
    let text = told.metrics.text(live());
    let samples = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
    assert_eq!(samples("zrepl_replication_lag_seconds"), 10_000);
    assert_eq!(samples("zrepl_zfs_destroy_duration_count"), METRIC_TIMED_FILESYSTEMS + 1, "and the others together");
    assert!(text.len() < 8 << 20, "{} bytes", text.len());
}

#[test]
fn snapshots_are_no_progress_of_an_invocation_that_stands_still() {
    let mut told = Told::new();
    told.tell("push", What::Snapshotting(Snapshotting::RoundFinished));
    told.has(&[r#"zrepl_job_progress_timestamp_seconds{zrepl_job="push"} 1001"#]);
    told.tell("push", What::InvocationStarted { number: 1 });
    told.tell("push", What::Snapshotting(Snapshotting::RoundFinished));
    told.has(&[r#"zrepl_job_progress_timestamp_seconds{zrepl_job="push"} 1002"#]);
    told.tell("push", What::InvocationFinished { number: 1, summary: InvocationSummary::default() });
    told.tell("push", What::Snapshotting(Snapshotting::RoundFinished));
    told.has(&[r#"zrepl_job_progress_timestamp_seconds{zrepl_job="push"} 1005"#]);
}

#[test]
fn a_client_that_has_left_is_forgotten() {
    let told = Told::new();
    let job = JobName::parse("source").unwrap();
    let connections = || {
        let text = told.metrics.text(live());
        let found: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("zrepl_client_connections{")).map(str::to_owned).collect();
        found
    };
    let client = |name: &str| ClientIdentity::parse(name).unwrap();
    for name in ["a", "ab"] {
        told.metrics.client_comes(&job, &client(name), Label::Control);
    }
    told.metrics.client_comes(&job, &client("a"), Label::Data);
    told.metrics.client_goes(&job, &client("a"), Label::Data);
    let of = |client, kind, count| format!("zrepl_job=\"source\",client=\"{client}\",kind=\"{kind}\"}} {count}");
    assert_eq!(connections(), [of("a", "control", 1), of("a", "data", 0), of("ab", "control", 1)]);
    told.metrics.client_goes(&job, &client("a"), Label::Control);
    assert_eq!(connections(), [of("ab", "control", 1)]);
    for number in 0..1000 {
        let client = client(&format!("passer-by-{number}"));
        told.metrics.client_comes(&job, &client, Label::Control);
        told.metrics.client_goes(&job, &client, Label::Control);
    }
    assert_eq!(connections().len(), 1);
}
