//! The names of fields: those that lines have, those that zrepl 0.7 has, and `docs/reference/log-fields.md`, which
//! is made here and says of each of them where it is or why it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use config::types::LogLevel;
use expect_test::expect_file;
use jiff::Timestamp;
use model::event::{
    About, BlockedOn, Event, Hook, HookEdge, InvocationSummary, Missed, OutputStream, ProcessorTime, ProtectionOutcome,
    Pruning, Receiving, Replication, SnapshotterState, Snapshotting, What,
};
use model::plan::prune::{FilesystemPrunePlan, PrunePlan, PruneSide, SkipReason};
use model::plan::replication::{
    Base, Conflict, Discard, FilesystemAction, FilesystemPlan, NothingReason, ReplicationPlan, Step,
};
use model::plan::resolve::Resolution;
use model::version::{Guid, UnixTime};
use model::{ClientIdentity, DatasetName, JobName, VersionKind, VersionName, VersionRef};

use super::describe::describe;
use super::earlier::Earlier;
use super::level::level_of;
use super::phases::Phases;

/// Every name of a field in zrepl 0.7, with the reason if it is not ours.
const OF_ZREPL: &[(&str, &str)] = &[
    ("abstraction", ""),
    ("abstractions", "holds and bookmarks are told one by one, as `abstraction`"),
    ("args", "a command line is told as `cmd`"),
    ("attempt_number", ""),
    ("attempt_state", ""),
    ("bookmark", ""),
    ("client_identity", ""),
    ("client_label", ""),
    ("clientIdentity", "it is `client_identity` everywhere"),
    ("cmd", ""),
    ("command", ""),
    ("conflict", ""),
    ("connType", "a type of the Go program"),
    ("creation", "when snapshots were taken is not told one by one"),
    ("deadline", ""),
    ("destroy_snap", ""),
    ("duration", ""),
    ("duration_s", ""),
    ("encryption", "the creation of placeholders is told as a command, in `cmd`"),
    ("endpoint", "requests of clients are not told; what comes of them is"),
    ("err", ""),
    ("errType", "a type of the Go program"),
    ("filesystem", ""),
    ("fromVersion", "a step has both its ends in `step`"),
    ("fs", ""),
    ("fullMethod", "there is no gRPC"),
    ("grpc_state", "there is no gRPC"),
    ("hook", ""),
    ("hook_number", "hooks that match nothing are told in one line, with their numbers in its text"),
    ("ipaddr", "it is `peer_addr` everywhere"),
    ("job", ""),
    ("local_fs", ""),
    ("max_peek_bytes", "streams are not looked into by a buffer of their own"),
    ("method", "requests to the control socket are counted in metrics"),
    ("most_recent_err", ""),
    ("most_recent_err_class", ""),
    ("opts", "how `zfs receive` is called is told in `cmd`"),
    ("orig_err_type", "a type of the Go program"),
    ("outlet", "an outlet has no name; `outlet_type` says which it is"),
    ("outlet_type", ""),
    ("output", "what a child process says is part of `err`"),
    ("peer_addr", ""),
    ("peer_client_identity", "it is `client_identity` everywhere"),
    ("placeholder_fs", "the creation of placeholders is told as a command, in `cmd`"),
    ("placeholder_state", "listings are not told filesystem by filesystem"),
    ("post_state", ""),
    ("pre_state", ""),
    ("proto_fs", ""),
    ("prune_side", ""),
    ("pull_interval", "the interval is in the configuration"),
    ("reason", ""),
    ("receive_fs", "it is `local_fs` everywhere"),
    ("receive_resume_token", "tokens are not told; `zrepl test decoderesumetoken` reads one"),
    ("receiverFS.ResumeToken", "tokens are not told; `zrepl test decoderesumetoken` reads one"),
    ("reconnect_decision", ""),
    ("recover_err", "a type of the Go program"),
    ("replication_guarantee", "it is in the configuration, as `protection`"),
    ("report", ""),
    ("res.conn", "a type of the Go program"),
    ("res.err", "it is `err` everywhere"),
    ("root_fs", "it is in the configuration, and in the text of `err`"),
    ("rr", "requests of clients are not told; what comes of them is"),
    ("sfs", "a filesystem that is not pruned is told in `skip_reason`, by number"),
    ("skip_reason", ""),
    ("sleep_until", ""),
    ("snap", ""),
    ("span", ""),
    ("statement_timeout", "it is the `timeout` of the hook in the configuration"),
    ("stderr", ""),
    ("stdout", ""),
    ("step", ""),
    ("subsystem", ""),
    ("syncPoint", ""),
    ("systemtime_s", ""),
    ("temp_recv_fs", "nothing is received into a filesystem of another name"),
    ("to_cursor", ""),
    ("toVersion", "a step has both its ends in `step`"),
    ("token", "tokens are not told; `zrepl test decoderesumetoken` reads one"),
    ("total_time_s", ""),
    ("transition", ""),
    ("url", "requests to the control socket are counted in metrics"),
    ("usertime_s", ""),
    ("visitErr", "the creation of placeholders is told as a command, in `cmd`"),
];

/// Fields of lines that no event describes, with what those say.
const OF_THE_LOG: &[(&str, &str)] = &[("outlet_type", "outlet error"), ("err", "outlet error")];

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn version(name: &str) -> VersionName {
    VersionName::parse(name).unwrap()
}

fn snapshot(name: &str) -> VersionRef {
    VersionRef { kind: VersionKind::Snapshot, name: version(name), guid: Guid(1) }
}

fn plan(action: FilesystemAction) -> FilesystemPlan {
    FilesystemPlan { name: dataset("p/a"), after: None, action, newest: None, received: None }
}

fn steps() -> FilesystemPlan {
    let step = Step { from: Some(snapshot("a")), to: snapshot("b"), created: UnixTime(0), resume_token: None };
    let base = Base::Common(snapshot("a"));
    plan(FilesystemAction::Steps { base, discard: None, resolution: None, steps: vec![step] })
}

/// An event of each kind, and of each kind within it that makes a line of its own.
fn one_of_each() -> Vec<(About, What)> {
    let mut all = daemon_and_jobs();
    all.extend(
        snapshots_and_hooks().into_iter().chain(replication()).chain(pruning()).map(|what| (About::Nothing, what)),
    );
    let fs = || About::Filesystem(dataset("p/a"));
    for outcome in [ProtectionOutcome::Made, ProtectionOutcome::Removed, ProtectionOutcome::Failed("busy".to_owned())] {
        for object in ["hold zrepl_STEP_J_j on p/a@b", "bookmark p/a#zrepl_CURSOR_G_0000000000000001_J_j"] {
            all.push((fs(), What::Protection { object: object.to_owned(), outcome: outcome.clone() }));
        }
    }
    let (subsystem, client) = ("transport", Some(ClientIdentity::parse("c").unwrap()));
    let peer = || About::Peer { address: "192.0.2.1:9".to_owned(), client: client.clone(), label: Some("data") };
    for about in [fs(), peer()] {
        let message = "words".to_owned();
        all.push((about.clone(), What::Note { subsystem, message: message.clone() }));
        all.push((about.clone(), What::Warning { subsystem, message: message.clone() }));
        all.push((about, What::Error { subsystem, message }));
    }
    all
}

fn daemon_and_jobs() -> Vec<(About, What)> {
    let took = Duration::from_millis(1500);
    let used = Some(ProcessorTime { user: took, system: took });
    let command = || "zfs list".to_owned();
    let receiving = |what| What::Receiving {
        client: ClientIdentity::parse("c").unwrap(),
        filesystem: dataset("p/a"),
        snapshot: version("b"),
        target: dataset("q/c/p/a"),
        created: UnixTime(0),
        what,
    };
    let place = || ":8888".to_owned();
    let all = vec![
        What::DaemonStarted { version: "1".to_owned() },
        What::DaemonStopping { cause: "SIGTERM".to_owned() },
        What::DaemonStopped,
        What::JobStarted,
        What::JobStopped,
        What::CommandStarted { command: command() },
        What::CommandFinished { command: command(), took, used, success: true },
        What::CommandFinished { command: command(), took, used, success: false },
        What::CommandFinished { command: command(), took, used: None, success: false },
        What::InvocationStarted { number: 3 },
        What::SleepsUntil { at: Timestamp::UNIX_EPOCH },
        What::InvocationFinished { number: 3, summary: InvocationSummary { replicated: true, ..Default::default() } },
        What::InvocationFinished { number: 3, summary: InvocationSummary { errors: 1, ..Default::default() } },
        What::InvocationFinished { number: 3, summary: InvocationSummary { cancelled: true, ..Default::default() } },
        What::Unmatched { count: 1 },
        receiving(Receiving::Started),
        receiving(Receiving::Finished),
        receiving(Receiving::Failed(Some("broken".to_owned()))),
        receiving(Receiving::Failed(None)),
        What::Stored { below: dataset("q"), newest: Vec::new() },
        What::Listening { place: place(), problem: None },
        What::Listening { place: place(), problem: Some("taken".to_owned()) },
    ];
    all.into_iter().map(|what| (About::Nothing, what)).collect()
}

fn snapshots_and_hooks() -> Vec<What> {
    let filesystem = || dataset("p/a");
    let state = |state, error: Option<&str>| Snapshotting::State {
        state,
        sleep_until: Some(Timestamp::UNIX_EPOCH),
        error: error.map(str::to_owned),
    };
    let taken = |result| Snapshotting::Taken { filesystem: filesystem(), snapshot: version("b"), result };
    let finished =
        |had_error| Snapshotting::HooksFinished { filesystem: filesystem(), report: String::new(), had_error };
    let hook = || "freeze".to_owned();
    let output = |stream| Hook::Output { hook: hook(), stream, line: "words".to_owned() };
    let failed = |edge| Hook::Failed { hook: hook(), edge, error: "no".to_owned() };
    let snapshots = [
        state(SnapshotterState::SyncUp, None),
        state(SnapshotterState::Planning, None),
        state(SnapshotterState::ErrorWait, Some("no")),
        Snapshotting::RoundStarted { snapshots: Vec::new(), one_by_one: Vec::new() },
        Snapshotting::HooksStarted { filesystem: filesystem() },
        finished(false),
        finished(true),
        taken(Ok(())),
        taken(Err("no".to_owned())),
        Snapshotting::RoundFinished,
        Snapshotting::Missed { count: 1, why: Missed::Asleep },
        Snapshotting::Missed { count: 1, why: Missed::RoundRunning },
    ];
    let hooks = [
        Hook::PreEdges,
        output(OutputStream::Stdout),
        output(OutputStream::Stderr),
        Hook::OutputCut { hook: hook(), bytes: 1 },
        Hook::Statement { hook: hook(), statement: "CHECKPOINT" },
        failed(HookEdge::Pre),
        failed(HookEdge::Post),
        Hook::Prevented { hook: hook() },
        Hook::Callback,
        Hook::PostEdges,
        Hook::PostSkipped { hook: hook() },
        Hook::Interrupted,
    ];
    let of_hook = |what| What::Hook { filesystem: filesystem(), snapshot: version("b"), what };
    let after_it = What::InvocationFinished { number: 4, summary: InvocationSummary::default() };
    snapshots.into_iter().map(What::Snapshotting).chain(hooks.into_iter().map(of_hook)).chain([after_it]).collect()
}

fn replication() -> Vec<What> {
    let filesystem = || dataset("p/a");
    let error = || "broken".to_owned();
    let failed = |will_retry| Replication::StepFailed {
        filesystem: filesystem(),
        step: 0,
        bytes: 1,
        error: error(),
        will_retry,
    };
    let planned = |filesystems| Replication::Planned { plan: Arc::new(ReplicationPlan { filesystems }) };
    let all = [
        Replication::AttemptStarted,
        Replication::PlanFailed { error: error() },
        planned(Vec::new()),
        planned(vec![plan(FilesystemAction::Nothing(NothingReason::Placeholder))]),
        planned(vec![steps()]),
        Replication::Replanned { plan: Arc::new(steps()), done: 0 },
        Replication::Reconnecting { error: error(), until: Timestamp::UNIX_EPOCH },
        Replication::Reconnected,
        Replication::ReconnectFailed { error: error() },
        Replication::Discarding { filesystem: filesystem(), reason: Discard::FromGone },
        Replication::Resolving {
            filesystem: filesystem(),
            resolution: Resolution::RollBack { to: snapshot("1"), destroy: Vec::new() },
        },
        Replication::DestroyedToResolve { filesystem: filesystem(), snapshot: version("2"), reason: "newer".into() },
        Replication::Resolved { filesystem: filesystem(), how: "rolled back".to_owned() },
        Replication::Blocked { filesystem: filesystem(), on: BlockedOn::Queue },
        Replication::StepStarted { filesystem: filesystem(), step: 0 },
        Replication::StepProgress { filesystem: filesystem(), step: 0, expected: None, bytes: 1 },
        failed(true),
        failed(false),
        Replication::StepFinished { filesystem: filesystem(), step: 0, bytes: 1, took: Duration::ZERO },
        Replication::Confirmed { filesystem: filesystem() },
        Replication::Conflicted { filesystem: filesystem(), conflict: Conflict::NoSnapshots },
        Replication::AttemptFinished,
    ];
    all.into_iter().map(What::Replication).collect()
}

fn pruning() -> Vec<What> {
    let skipped = FilesystemPrunePlan {
        name: dataset("p"),
        skip: Some(SkipReason::Placeholder),
        versions: Arc::new([]),
        decisions: Box::new([]),
        replicated: Box::new([]),
    };
    let plan = |filesystems| Arc::new(PrunePlan { side: PruneSide::Sender, filesystems });
    let of = |destroyed: &[&str], failed: &[&str]| Pruning::Filesystem {
        filesystem: dataset("p/a"),
        destroyed: destroyed.iter().map(|name| version(name)).collect(),
        failed: failed.iter().map(|name| (version(name), "busy".to_owned())).collect(),
    };
    let all = [
        Pruning::Started,
        Pruning::PlanFailed { error: "broken".to_owned() },
        Pruning::Planned { plan: plan(Vec::new()) },
        Pruning::Planned { plan: plan(vec![skipped]) },
        Pruning::Destroyed { filesystem: dataset("p/a"), snapshot: version("b"), rules: "last_n".into() },
        of(&[], &[]),
        of(&["a"], &[]),
        of(&["a"], &["b"]),
        of(&[], &["b"]),
        Pruning::Finished,
    ];
    all.into_iter().map(|what| What::Pruning { side: PruneSide::Sender, what }).collect()
}

fn events() -> impl Iterator<Item = Event> {
    let event =
        |(about, what)| Event { at: Timestamp::UNIX_EPOCH, job: Some(JobName::parse("j").unwrap()), about, what };
    one_of_each().into_iter().map(event)
}

/// Where each field occurs: subsystems, and what the lines there say.
fn occurrences() -> BTreeMap<&'static str, BTreeSet<(String, String)>> {
    let mut all: BTreeMap<&'static str, BTreeSet<(String, String)>> = BTreeMap::new();
    let mut earlier = Earlier::default();
    for event in events() {
        let Some(entry) = earlier.entry(&event, &[LogLevel::Debug]) else { continue };
        let about = matches!(event.what, What::Note { .. } | What::Warning { .. } | What::Error { .. });
        let message = if about { "notes, warnings and errors about it".to_owned() } else { entry.message };
        for (name, _) in entry.fields.iter().chain(&entry.also) {
            let subsystem = if about { "any" } else { entry.subsystem.unwrap_or("daemon") };
            all.entry(name).or_default().insert((subsystem.to_owned(), message.clone()));
        }
    }
    let (mut phases, events) = (Phases::default(), events().chain(events()));
    for entry in events.flat_map(|event| phases.entries(&event, ToString::to_string)) {
        let message: Vec<&str> = entry.message.split(' ').take(2).collect();
        let places = entry.fields.iter().map(|(name, _)| (*name, message.join(" ")));
        for (name, message) in places {
            all.entry(name).or_default().insert((entry.subsystem.unwrap().to_owned(), message));
        }
    }
    for (name, message) in OF_THE_LOG {
        all.entry(name).or_default().insert(("meta".to_owned(), (*message).to_owned()));
    }
    all
}

#[test]
fn an_event_has_a_level_exactly_if_it_is_put_into_words() {
    let mut earlier = Earlier::default();
    for event in events() {
        let level = level_of(&event);
        assert_eq!(level.is_some(), describe(&event, &earlier).is_some(), "{event:?}");
        earlier.entry(&event, &[LogLevel::Debug]);
    }
}

#[test]
fn no_field_is_written_that_these_events_do_not_have() {
    let source = [include_str!("describe.rs"), include_str!("describe/replication.rs")].concat();
    let name = regex::Regex::new(r#"\.(?:with|maybe|also|also_maybe)\(\s*"([^"]+)""#).unwrap();
    let written: BTreeSet<&str> = name.captures_iter(&source).map(|found| found.get(1).unwrap().as_str()).collect();
    let occurring = occurrences();
    let of_events: BTreeSet<&str> = occurring.keys().copied().filter(|name| *name != "outlet_type").collect();
    assert_eq!(written, of_events);
}

#[test]
fn the_documentation_says_of_each_field_where_it_is_or_why_it_is_not() {
    let of_zrepl: BTreeMap<&str, &str> = OF_ZREPL.iter().copied().collect();
    let mut page = PAGE.to_owned();
    let occurring = occurrences();
    let everywhere = ["job", "subsystem", "span"];
    for (name, places) in &occurring {
        let is_new = if of_zrepl.contains_key(name) { "" } else { "new" };
        page += &format!("| `{name}` | {is_new} | {} |\n", described(places));
    }
    page += MISSING;
    for (name, why) in OF_ZREPL {
        let occurs = occurring.contains_key(name) || everywhere.contains(name);
        assert_eq!(occurs, why.is_empty(), "{name} occurs, or there is a reason why it does not");
        if !occurs {
            page += &format!("| `{name}` | {why} |\n");
        }
    }
    expect_file!["../../../../../docs/reference/log-fields.md"].assert_eq(&page);
}

/// A few lines by what they say, many by their subsystems.
fn described(places: &BTreeSet<(String, String)>) -> String {
    const FEW: usize = 4;
    let subsystems: BTreeSet<&str> = places.iter().map(|(subsystem, _)| subsystem.as_str()).collect();
    let parts: Vec<String> = match places.len() <= FEW {
        true => places.iter().map(|(subsystem, message)| format!("{subsystem}: {message}")).collect(),
        false => subsystems.into_iter().map(str::to_owned).collect(),
    };
    parts.join("; ")
}

const PAGE: &str = "\
# Fields of log lines

Every line has `time`, `level` and `msg`, and in a job `job`, `subsystem` and `span`, see [logging](../logging.md). Names
are those of zrepl 0.7 where it has one for the same thing. `human` leaves out what says the same as something else in
the line; `logfmt`, `json` and `journald` have everything.

| field | | in lines of |
|---|---|---|
";

const MISSING: &str = "
## Names of zrepl 0.7 that do not occur

| field | why |
|---|---|
";
