//! The report is sound after every single event, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use daemon::act::{Invocation, replicate_and_prune};
use daemon::events::Reader;
use daemon::report::StatusFold;
use daemon::tuning::Tuning;
use model::event::{Event, What};
use serde_json::Value;
use zfs::ErrorKind;
use zfs::fake::{Action, Moment, StreamFault, Verb};

use crate::retries::Away;
use crate::world::{Direct, Settings, World, job, last_n};

const CONFIG: &str = r#"
jobs:
  - name: push
    type: push
    connect: {type: local, listener_name: x, client_identity: me}
    filesystems: {"src<": true}
    snapshotting: {type: manual}
    pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
"#;

/// Reads the report after each event; all reports.
fn polled(events: Vec<What>) -> Vec<Value> {
    let config = config::parse("zrepl.yml", CONFIG).unwrap().config;
    let fold = StatusFold::new(&config);
    let poll = |what| {
        fold.read(&Event {
            at: jiff::Timestamp::UNIX_EPOCH,
            job: Some(job("push")),
            about: model::event::About::Nothing,
            what,
        });
        let report: Value = serde_json::from_str(&fold.status(Vec::new(), &Tuning::default()).to_json()).unwrap();
        check(&report["Jobs"]["push"]["push"]["Replication"]);
        report["Jobs"]["push"]["push"]["Replication"].clone()
    };
    events.into_iter().map(poll).collect()
}

fn keys(value: &Value, expected: &[&str]) {
    let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, expected);
}

fn one_of(value: &Value, allowed: &[&str]) {
    assert!(allowed.contains(&value.as_str().unwrap()), "{value}");
}

fn check(replication: &Value) {
    if replication.is_null() {
        return;
    }
    let waits = ["WaitReconnectError", "WaitReconnectSince", "WaitReconnectUntil"];
    keys(replication, &["Attempts", "FinishAt", "StartAt", waits[0], waits[1], waits[2]]);
    for attempt in replication["Attempts"].as_array().unwrap() {
        keys(attempt, &["Filesystems", "FinishAt", "PlanError", "StartAt", "State"]);
        let states = ["planning", "planning-error", "fan-out-filesystems", "filesystem-error", "done"];
        one_of(&attempt["State"], &states);
        attempt["Filesystems"].as_array().unwrap().iter().for_each(check_filesystem);
    }
}

fn check_filesystem(filesystem: &Value) {
    keys(filesystem, &["BlockedOn", "CurrentStep", "Info", "PlanError", "State", "StepError", "Steps"]);
    one_of(&filesystem["State"], &["planning", "planning-error", "stepping", "step-error", "done"]);
    one_of(&filesystem["BlockedOn"], &["nothing", "plan-queue", "parent-initial-repl", "repl-queue"]);
    let steps = filesystem["Steps"].as_array().unwrap();
    let current = filesystem["CurrentStep"].as_u64().unwrap();
    assert!(current <= steps.len() as u64, "{filesystem}");
    assert!(filesystem["State"] != "done" || current == steps.len() as u64, "{filesystem}");
    assert_eq!(filesystem["State"] == "step-error", !filesystem["StepError"].is_null(), "{filesystem}");
    assert_eq!(filesystem["State"] == "planning-error", !filesystem["PlanError"].is_null(), "{filesystem}");
    for (index, step) in steps.iter().enumerate() {
        let info = &step["Info"];
        keys(info, &["BytesExpected", "BytesReplicated", "From", "Resumed", "To"]);
        let (expected, replicated) =
            (info["BytesExpected"].as_u64().unwrap(), info["BytesReplicated"].as_u64().unwrap());
        assert!(expected == 0 || replicated <= expected, "more than all of it: {filesystem}");
        assert!(replicated == 0 || index as u64 <= current, "not its turn yet: {filesystem}");
    }
}

async fn world() -> World {
    let keep = || vec![last_n(1)];
    let settings = Settings { concurrency: 2, keep_sender: keep(), keep_receiver: keep(), ..Settings::default() };
    let world = World::new(settings);
    world.create(&["src/a", "src/a/b", "src/c"]);
    for snapshot in ["1", "2", "3"] {
        world.write("src/a", snapshot, 200_000);
        world.snapshot(snapshot, &["src/a", "src/a/b", "src/c"]).await;
    }
    world.daemons.source_zfs.faults().pace(50_000, Duration::from_millis(600));
    world
}

#[tokio::test(start_paused = true)]
async fn when_all_goes_well_and_when_nothing_is_left_to_do() {
    let world = world().await;
    world.run().await;
    let reports = polled(world.events());
    assert!(reports.len() > 40);
    let last = &reports[reports.len() - 1];
    assert_eq!(last["Attempts"][0]["State"], "done");
    assert_ne!(last["FinishAt"], "0001-01-01T00:00:00Z");
    world.run().await;
    polled(world.events());
}

#[tokio::test(start_paused = true)]
async fn when_steps_of_all_kinds_fail() {
    for verb in [Verb::Send, Verb::Hold, Verb::Bookmark, Verb::Release, Verb::List, Verb::Dataset] {
        for nth in 0..6 {
            for kind in [ErrorKind::Busy, ErrorKind::PermissionDenied] {
                let world = world().await;
                let faults = world.daemons.source_zfs.faults();
                faults.at_verb(verb, nth, Moment::After, Action::Fail(kind));
                faults.break_stream(Verb::Send, 3, 20_000, StreamFault::Dies(ErrorKind::Busy));
                world.run().await;
                polled(world.events());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_receiver_fails() {
    for verb in [Verb::Receive, Verb::Hold, Verb::CreatePlaceholder] {
        for nth in 0..6 {
            let world = world().await;
            world.daemons.target_zfs.faults().at_verb(verb, nth, Moment::After, Action::Fail(ErrorKind::Busy));
            world.run().await;
            polled(world.events());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_there_is_a_conflict() {
    let world = world().await;
    world.run().await;
    world.events();
    let target = world.target.zfs();
    let there = zfs::Snapshot {
        dataset: crate::world::name(&crate::world::received("src/c")),
        name: crate::world::short("own"),
    };
    zfs::Zfs::snapshot(&target, &[there]).await.into_iter().for_each(Result::unwrap);
    world.snapshot("4", &["src/a", "src/a/b", "src/c"]).await;
    assert!(!world.run().await.replicated);
    let reports = polled(world.events());
    assert_eq!(reports[reports.len() - 1]["Attempts"][0]["State"], "filesystem-error");
}

#[tokio::test(start_paused = true)]
async fn when_it_is_reset_at_any_second() {
    for seconds in 0..12 {
        let world = world().await;
        world.daemons.source_zfs.faults().at_verb(Verb::Send, 1, Moment::Before, Action::Fail(ErrorKind::Busy));
        let invocation = world.invocation();
        let cancel = invocation.cancel.clone();
        tokio::join!(replicate_and_prune(invocation), async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            cancel.cancel();
        });
        let reports = polled(world.events());
        assert_ne!(reports[reports.len() - 1]["FinishAt"], "0001-01-01T00:00:00Z");
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_receiver_is_away_which_it_says() {
    let world = world().await;
    let direct = || Direct(world.daemons.sink.clone());
    for away in [3, u32::MAX] {
        let receiver = Arc::new(Away::new(direct(), away));
        replicate_and_prune(Invocation { receiver, ..world.invocation() }).await;
        let reports = polled(world.events());
        let waiting = |report: &&Value| report["WaitReconnectUntil"] == "1970-01-01T00:10:00Z";
        let first = reports.iter().find(waiting).unwrap();
        assert_eq!(
            (first["WaitReconnectSince"].as_str(), first["WaitReconnectError"].is_null()),
            (Some("1970-01-01T00:00:00Z"), true)
        );
        let last = &reports[reports.len() - 1];
        match away {
            u32::MAX => assert!(last["WaitReconnectError"]["Err"].as_str().unwrap().contains("connection refused")),
            _ => assert!(!waiting(&last), "it is back"),
        }
    }
}
