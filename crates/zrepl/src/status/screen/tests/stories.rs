//! Reports of daemons in all kinds of situations.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// When everything is looked at.
pub(super) fn now() -> Timestamp {
    "2099-02-03T04:05:06Z".parse().unwrap()
}

/// So many seconds before [`now`].
pub(super) fn ago(seconds: i64) -> String {
    (now() - SignedDuration::from_secs(seconds)).to_string()
}

pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn report(jobs: Value, commands: Value) -> String {
    let daemon = json!({"Version": "0.8.0", "StartedAt": ago(90_000)});
    let settings = json!({"Entries": [{"Var": "ZREPL_REPLICATION_MAX_ATTEMPTS", "Value": "3"}]});
    let global = json!({"ZFSCmds": {"Active": commands}, "Envconst": settings, "OsEnviron": [], "Daemon": daemon});
    json!({"Jobs": jobs, "Global": global}).to_string()
}

pub(super) fn push(body: Value) -> Value {
    json!({"type": "push", "push": body})
}

pub(super) fn periodic(state: u64, next: i64, error: &str, rows: Value) -> Value {
    let periodic = json!({"State": state, "SleepUntil": ago(-next), "Error": error, "Progress": rows});
    json!({"Type": "periodic", "Periodic": periodic, "Cron": null, "Manual": null})
}

/// `(name, age of the newest snapshot, age of the newest one that is replicated)`
pub(super) fn health(success: i64, filesystems: &[(&str, i64, Option<i64>)]) -> Value {
    let filesystem = |(name, newest, replicated): &(&str, i64, Option<i64>)| json!({"Name": name, "Newest": ago(*newest), "Replicated": replicated.map_or(NEVER.to_owned(), ago)});
    let filesystems: Vec<Value> = filesystems.iter().map(filesystem).collect();
    json!({"LastSuccess": ago(success), "NextRun": NEVER, "IntervalSeconds": 600.0, "Cron": null,
        "Filesystems": filesystems})
}

pub(super) fn filesystem(name: &str, state: &str, blocked_on: &str, current: usize, steps: Value) -> Value {
    json!({"Info": {"Name": name}, "State": state, "BlockedOn": blocked_on, "PlanError": null,
        "StepError": null, "CurrentStep": current, "Steps": steps})
}

pub(super) fn step(from: &str, to: &str, done: u64, expected: u64) -> Value {
    json!({"Info": {"From": from, "To": to, "Resumed": false, "BytesExpected": expected, "BytesReplicated": done}})
}

pub(super) fn attempt(state: &str, start: i64, end: Option<i64>, filesystems: Value) -> Value {
    json!({"State": state, "StartAt": ago(start), "FinishAt": end.map_or(NEVER.to_owned(), ago),
        "PlanError": null, "Filesystems": filesystems})
}

pub(super) fn replication(attempts: Value) -> Value {
    json!({"StartAt": ago(20), "FinishAt": NEVER, "WaitReconnectSince": NEVER, "WaitReconnectUntil": NEVER,
        "WaitReconnectError": null, "Attempts": attempts})
}

pub(super) fn invocation(number: u64, start: i64, errors: u64) -> Value {
    json!({"Number": number, "StartAt": ago(start), "FinishAt": ago(start - 4), "Summary": {"Filesystems": 3,
        "Steps": 2, "Bytes": 104_857_600, "Destroyed": 3, "Errors": errors, "Seconds": 3.7, "Cancelled": false}})
}

pub(super) fn running(number: u64, start: i64) -> Value {
    json!({"Number": number, "StartAt": ago(start), "FinishAt": NEVER, "Summary": null})
}

fn pruned(state: &str, error: &str, rows: &[(&str, usize, usize, &str)]) -> Value {
    let snapshots = |number: usize| -> Vec<Value> {
        let one = |index| json!({"Name": format!("zrepl_{index:03}"), "Replicated": true, "Date": ago(9000)});
        (0..number).map(one).collect()
    };
    let row = |(name, all, gone, error): &(&str, usize, usize, &str)| {
        json!({"Filesystem": name, "SnapshotList": snapshots(*all), "DestroyList": snapshots(*gone),
            "SkipReason": "", "LastError": error})
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    json!({"State": state, "Error": error, "Pending": [], "Completed": rows})
}

/// Everything went well four minutes ago.
pub(super) fn idle() -> String {
    let filesystems = json!([
        filesystem("tank/home", "done", "nothing", 1, json!([step("@zrepl_1", "@zrepl_2", 104_857_600, 104_857_600)])),
        filesystem("tank/home/mail", "done", "nothing", 0, json!([])),
        filesystem("tank/home/photos", "done", "nothing", 1, json!([step("", "@zrepl_2", 0, 0)])),
    ]);
    let rows = json!([
        {"Path": "tank/home", "State": 4, "SnapName": "zrepl_2", "StartAt": ago(244), "Hooks": "", "HooksHadError": false, "DoneAt": ago(243)},
        {"Path": "tank/home/mail", "State": 4, "SnapName": "zrepl_2", "StartAt": ago(244), "Hooks": "", "HooksHadError": false, "DoneAt": ago(243)},
    ]);
    let body = json!({
        "Replication": replication(json!([attempt("done", 243, Some(240), filesystems)])),
        "PruningSender": pruned("Done", "", &[("tank/home", 12, 2, ""), ("tank/home/mail", 10, 0, "")]),
        "PruningReceiver": pruned("Done", "", &[("tank/home", 100, 1, "")]),
        "Snapshotting": periodic(16, 356, "", rows),
        "Invocation": invocation(12, 243, 0),
        "Health": health(239, &[("tank/home", 244, Some(244)), ("tank/home/mail", 244, Some(244))]),
    });
    report(
        json!({
            "_control": {"type": "internal", "internal": null},
            "home_to_vault": push(body),
            "vault": {"type": "sink", "sink": {"Snapper": null}},
        }),
        json!(null),
    )
}

/// Three of four filesystems have work; so many bytes of one have come.
pub(super) fn sending(bytes: u64) -> String {
    let filesystems = json!([
        filesystem(
            "tank/home",
            "stepping",
            "nothing",
            1,
            json!([step("@a", "@b", 41_943_040, 41_943_040), step("@b", "@c", bytes, 62_914_560)])
        ),
        filesystem("tank/home/mail", "done", "nothing", 1, json!([step("@b", "@c", 2048, 2048)])),
        filesystem("tank/home/photos", "stepping", "repl-queue", 0, json!([step("", "@c", 0, 10_485_760)])),
        filesystem("tank/home/quiet", "done", "nothing", 0, json!([])),
    ]);
    let body = json!({
        "Replication": replication(json!([attempt("fan-out-filesystems", 12, None, filesystems)])),
        "PruningSender": null, "PruningReceiver": null,
        "Snapshotting": periodic(16, 588, "", json!(null)),
        "Invocation": running(13, 12),
        "Health": health(700, &[("tank/home", 12, Some(612)), ("tank/home/photos", 12, None)]),
    });
    let command =
        json!({"Path": "/sbin/zfs", "Args": ["zfs", "send", "-vP", "-i", "@b", "tank/home@c"], "StartedAt": ago(8)});
    let other = json!({"Path": "/sbin/zfs", "Args": ["zfs", "list", "-r", "other"], "StartedAt": ago(1)});
    let receive = json!({"Path": "/sbin/zfs", "Args": ["zfs", "receive", "-s", "vault/backup/host/tank/home"], "StartedAt": ago(8)});
    report(json!({"home_to_vault": push(body)}), json!([command, other, receive]))
}

/// Several things failed, with messages of several lines.
pub(super) fn failed() -> String {
    let mut diverged = filesystem("tank/home/mail", "planning-error", "nothing", 0, json!([]));
    diverged["PlanError"] =
        json!({"Err": "the two sides have diverged: the newest common version is @a", "Time": ago(60)});
    let mut busy = filesystem("tank/home", "step-error", "nothing", 0, json!([step("@a", "@b", 1024, 2048)]));
    busy["StepError"] = json!({"Err": "zfs receive ended with exit status 1:\ncannot receive incremental stream: dataset is busy\nsee `zfs holds` for what keeps it", "Time": ago(60)});
    let mut again = filesystem("tank/home/photos", "step-error", "plan-queue", 0, json!([step("@a", "@b", 0, 0)]));
    again["StepError"] = json!({"Err": "connection reset by peer", "Time": ago(60)});
    let rows = json!([
        {"Path": "tank/home", "State": 8, "SnapName": "zrepl_2", "StartAt": ago(244), "DoneAt": ago(240), "HooksHadError": true,
         "Hooks": "01 [Ok                  ] [   0.012s]   [Pre     ]  /usr/local/bin/quiesce\n02 [Err                 ] [   0.105s] ! [Post    ]  /usr/local/bin/flush: exit status: 7"},
        {"Path": "tank/home/mail", "State": 4, "SnapName": "zrepl_2", "StartAt": ago(244), "DoneAt": ago(243), "HooksHadError": false, "Hooks": ""},
    ]);
    let body = json!({
        "Replication": replication(json!([attempt("filesystem-error", 64, Some(60), json!([diverged, busy, again]))])),
        "PruningSender": pruned("ExecErr", "", &[("tank/home", 12, 2, "@zrepl_000: dataset is busy"), ("tank/home/mail", 9, 0, "")]),
        "PruningReceiver": pruned("PlanErr", "cannot reach the receiver", &[]),
        "Snapshotting": periodic(32, 300, "hooks failed for 1 of 2 filesystems", rows),
        "Invocation": invocation(14, 64, 4),
        "Protections": {"Failed": 2, "LastError": "hold zrepl_STEP_J_x on tank/home@b: dataset is busy"},
        "Health": health(90_000, &[("tank/home", 244, Some(90_000)), ("tank/home/mail", 244, None)]),
    });
    report(json!({"home_to_vault": push(body)}), json!(null))
}

/// Nothing could be planned, twice.
pub(super) fn planning_error() -> String {
    let mut first = attempt("planning-error", 40, Some(39), json!([]));
    first["PlanError"] = json!({"Err": "cannot list the receiver: timeout", "Time": ago(39)});
    let mut second = attempt("planning-error", 10, Some(9), json!([]));
    second["PlanError"] =
        json!({"Err": "cannot list the receiver: no route to host\n(is the network up?)", "Time": ago(9)});
    let body = json!({"Replication": replication(json!([first, second])), "PruningSender": null,
        "PruningReceiver": null, "Snapshotting": null, "Invocation": invocation(2, 40, 1)});
    report(json!({"nas": {"type": "pull", "pull": body}}), json!(null))
}

/// The connection broke, and may come back.
pub(super) fn reconnecting() -> String {
    let filesystems = json!([filesystem("tank", "stepping", "repl-queue", 0, json!([step("", "@a", 0, 0)]))]);
    let mut replication = replication(json!([attempt("fan-out-filesystems", 100, None, filesystems)]));
    replication["WaitReconnectSince"] = json!(ago(75));
    replication["WaitReconnectUntil"] = json!(ago(-525));
    let body = json!({"Replication": replication, "PruningSender": null, "PruningReceiver": null,
        "Snapshotting": {"Type": "cron", "Cron": {"State": "waiting", "WakeupTime": ago(-3600),
        "Errors": ["cron frequency is too high; snapshots were not taken 2 times"], "Progress": null}},
        "Invocation": running(3, 101)});
    report(json!({"office": push(body)}), json!(null))
}

/// As large hosts have them: with an error in the middle.
pub(super) fn large(number: usize) -> String {
    let one = |index: usize| {
        let name = format!("tank/vm/disk-{index:05}");
        if index == number / 2 {
            let mut one = filesystem(&name, "step-error", "nothing", 0, json!([step("@a", "@b", 5, 10)]));
            one["StepError"] = json!({"Err": "out of space", "Time": ago(5)});
            return one;
        }
        filesystem(&name, "done", "nothing", 1, json!([step("@a", "@b", 1024, 1024)]))
    };
    let filesystems: Vec<Value> = (0..number).map(one).collect();
    let body = json!({"Replication": replication(json!([attempt("filesystem-error", 64, Some(60), json!(filesystems))])),
        "PruningSender": null, "PruningReceiver": null, "Snapshotting": null, "Invocation": invocation(5, 64, 1)});
    report(json!({"vms": push(body)}), json!(null))
}
