use std::time::Duration;

use expect_test::{Expect, expect};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2099-02-03T04:05:06Z".parse().unwrap()
}

fn ago(seconds: i64) -> String {
    (now() - SignedDuration::from_secs(seconds)).to_string()
}

const NEVER: &str = "0001-01-01T00:00:00Z";
const HOUR: i64 = 3600;

/// `(filesystem, age of the newest snapshot, age of the newest replicated one)`
type Ages<'a> = &'a [(&'a str, Option<i64>, Option<i64>)];

/// A push job every so many seconds.
fn push(interval: Option<i64>, ages: Ages<'_>) -> Value {
    let time = |age: Option<i64>| age.map_or(NEVER.to_owned(), ago);
    let row = |(name, newest, replicated): &(&str, Option<i64>, Option<i64>)| json!({"Name": name, "Newest": time(*newest), "Replicated": time(*replicated)});
    let health = json!({"IntervalSeconds": interval, "Filesystems": ages.iter().map(row).collect::<Vec<_>>()});
    json!({"type": "push", "push": {"Health": health}})
}

fn report(jobs: Value) -> Report {
    let global = json!({"Daemon": {"StartedAt": ago(100 * HOUR)}});
    serde_json::from_value(json!({"Jobs": jobs, "Global": global})).unwrap()
}

fn judge(report: Report, limits: &Check) -> Verdict {
    check(&[(None, Ok(report))], None, limits, now())
}

/// The exit code, then the text.
fn expect_verdict(verdict: &Verdict, expected: &Expect) {
    expected.assert_eq(&format!("{}\n{}", verdict.level.exit_code(), verdict.text));
}

fn hours(hours: u64) -> Option<Duration> {
    Some(Duration::from_secs(hours * 3600))
}

#[test]
fn all_is_well_within_the_schedule_s_limits() {
    let jobs = json!({"home": push(Some(HOUR), &[("p/a", Some(600), Some(700)), ("p/b", Some(300), Some(300))]),
        "vault": {"type": "sink", "sink": {"Snapper": null}}, "_control": {"type": "internal", "internal": null}});
    expect_verdict(
        &judge(report(jobs), &Check::default()),
        &expect![[r#"
            0
            ZREPL OK - 2 jobs, 2 filesystems, newest snapshots at most 10m old, replicated ones at most 11m 40s old | 'home_errors'=0;;;0 'home_snapshot_age'=600s;7200;10800;0 'home_replication_age'=700s;7200;10800;0 'vault_errors'=0;;;0
            limits of home: snapshot 2h, 3h; replication 2h, 3h
            limits of vault: replication no limit (the job has no schedule: see --max-replication-age)"#]],
    );
}

#[test]
fn what_is_too_old_is_named_the_worst_first() {
    let ages: Ages<'_> = &[
        ("p/a", Some(HOUR), Some(5 * HOUR)),
        ("p/b", Some(150 * 60), Some(150 * 60)),
        ("p/c", Some(10), None),
        ("p/d", None, None),
    ];
    expect_verdict(
        &judge(report(json!({"home": push(Some(HOUR), ages)})), &Check::default()),
        &expect![[r#"
        2
        ZREPL CRITICAL - home: p/c is not replicated; 5 more | 'home_errors'=0;;;0 'home_snapshot_age'=9000s;7200;10800;0 'home_replication_age'=18000s;7200;10800;0
        CRITICAL: home: p/c is not replicated
        CRITICAL: home: p/d has no snapshot
        CRITICAL: home: p/d is not replicated
        CRITICAL: home: p/a: what is replicated is 5h old (limit 3h)
        WARNING: home: p/b: its newest snapshot is 2h 30m old (limit 2h)
        WARNING: home: p/b: what is replicated is 2h 30m old (limit 2h)
        limits of home: snapshot 2h, 3h; replication 2h, 3h"#]],
    );
}

#[test]
fn flags_come_before_the_schedule() {
    let jobs = || report(json!({"home": push(Some(60), &[("p/a", Some(3 * HOUR), Some(3 * HOUR))])}));
    let limits = |warn: u64, max: u64| Check {
        warn_snapshot_age: hours(warn),
        max_snapshot_age: hours(max),
        warn_replication_age: hours(warn),
        max_replication_age: hours(max),
        ..Check::default()
    };
    let level = |limits: &Check| judge(jobs(), limits).level;
    assert_eq!(level(&Check::default()), Level::Critical, "3 h are much for a schedule of a minute");
    assert_eq!(level(&limits(4, 5)), Level::Ok);
    assert_eq!(level(&limits(2, 5)), Level::Warning);
    assert_eq!(level(&limits(1, 2)), Level::Critical);
    let only_warning = Check { max_snapshot_age: None, max_replication_age: None, ..limits(1, 2) };
    assert_eq!(level(&only_warning), Level::Warning);
    let only_snapshots = Check { max_replication_age: hours(2), warn_replication_age: None, ..limits(4, 5) };
    assert_eq!(level(&only_snapshots), Level::Critical);
}

#[test]
fn short_schedules_have_grace_and_calendars_their_longest_distance() {
    let limits = |health: Value| {
        let job: Job = serde_json::from_value(json!({"type": "push", "push": {"Health": health}})).unwrap();
        Limits::of(&job, &Check::default()).0.map(|limits| (limits.warning, limits.critical))
    };
    assert_eq!(limits(json!({"IntervalSeconds": 60.0})), Some((660, 1860)));
    assert_eq!(limits(json!({"IntervalSeconds": 86_400})), Some((2 * 86_400, 3 * 86_400)));
    assert_eq!(limits(json!({"Cron": "0 3 * * *"})), Some((2 * 86_400, 3 * 86_400)));
    assert_eq!(limits(json!({"Cron": "0 8-18 * * 1-5"})), Some((2 * 62 * HOUR, 3 * 62 * HOUR)), "the weekend counts");
    assert_eq!(limits(json!({"Cron": "what"})), None);
    assert_eq!(limits(json!({})), None);
}

#[test]
fn without_a_schedule_nothing_is_too_old_and_that_is_said() {
    let jobs = json!({"usb": push(None, &[("p/a", Some(9000 * HOUR), Some(9000 * HOUR))])});
    expect_verdict(
        &judge(report(jobs), &Check::default()),
        &expect![[r#"
        0
        ZREPL OK - 1 job, 1 filesystem, newest snapshots at most 375d old, replicated ones at most 375d old | 'usb_errors'=0;;;0 'usb_snapshot_age'=32400000s;;;0 'usb_replication_age'=32400000s;;;0
        limits of usb: snapshot no limit (the job has no schedule: see --max-snapshot-age); replication no limit (the job has no schedule: see --max-replication-age)"#]],
    );
}

#[test]
fn failures_are_warnings() {
    let mut job = push(Some(HOUR), &[("p/a", Some(60), Some(60))]);
    job["push"]["PruningSender"] = json!({"State": "ExecErr", "Error": "", "Pending": [], "Completed": [
        {"Filesystem": "p/a", "LastError": "@x: dataset | is\nbusy", "SkipReason": ""}]});
    expect_verdict(
        &judge(report(json!({"home": job})), &Check::default()),
        &expect![[r#"
        1
        ZREPL WARNING - home: p/a: pruning the sender: @x: dataset / is | 'home_errors'=1;;;0 'home_snapshot_age'=60s;7200;10800;0 'home_replication_age'=60s;7200;10800;0
        limits of home: snapshot 2h, 3h; replication 2h, 3h"#]],
    );
}

#[test]
fn what_hangs_is_noticed() {
    let running = |hours: i64| json!({"Number": 1, "StartAt": ago(hours * HOUR), "FinishAt": NEVER, "Summary": null});
    let job = |hours: i64| {
        let mut job = push(Some(HOUR), &[("p/a", Some(60), Some(60))]);
        job["push"]["Invocation"] = running(hours);
        report(json!({"home": job}))
    };
    assert_eq!(judge(job(23), &Check::default()).level, Level::Ok);
    assert_eq!(judge(job(25), &Check::default()).level, Level::Warning);
    assert_eq!(judge(job(25), &Check { max_run_time: hours(48), ..Check::default() }).level, Level::Ok);

    let still = |seconds: i64| {
        let mut job = push(Some(HOUR), &[("p/a", Some(60), Some(60))]);
        job["push"]["Invocation"] = running(9);
        job["push"]["Invocation"]["ProgressAt"] = json!(ago(seconds));
        report(json!({"home": job}))
    };
    assert_eq!(judge(still(2 * HOUR), &Check::default()).level, Level::Ok);
    let verdict = judge(still(3 * HOUR), &Check::default());
    assert!(
        verdict.text.starts_with("ZREPL WARNING - home: nothing has moved since 3h (running), limit 2h |"),
        "{verdict:?}"
    );
    assert_eq!(judge(still(3 * HOUR), &Check { max_still_time: hours(4), ..Check::default() }).level, Level::Ok);

    let mut late = push(Some(HOUR), &[("p/a", Some(60), Some(60))]);
    late["push"]["Snapshotting"] = json!({"Type": "periodic", "Periodic": {"State": 16, "SleepUntil": ago(700)}});
    expect_verdict(
        &judge(report(json!({"home": late})), &Check::default()),
        &expect![[r#"
        2
        ZREPL CRITICAL - home: its next run is overdue by 11m 40s | 'home_errors'=0;;;0 'home_snapshot_age'=60s;7200;10800;0 'home_replication_age'=60s;7200;10800;0
        limits of home: snapshot 2h, 3h; replication 2h, 3h"#]],
    );

    let mut lost = push(Some(HOUR), &[("p/a", Some(60), Some(60))]);
    lost["push"]["Replication"] = json!({"WaitReconnectSince": ago(120), "Attempts": []});
    let verdict = judge(report(json!({"home": lost})), &Check::default());
    assert!(verdict.text.starts_with("ZREPL WARNING - home: the other side is not reached since 2m |"), "{verdict:?}");
}

#[test]
fn ages_of_a_daemon_of_zrepl_0_7_are_those_that_pruning_saw() {
    let listed = |rows: &[(&str, i64, bool)]| {
        let row = |(name, age, replicated): &(&str, i64, bool)| json!({"Name": name, "Replicated": replicated, "Date": ago(*age)});
        let list: Vec<Value> = rows.iter().map(row).collect();
        json!({"State": "Done", "Error": "", "Pending": [], "Completed": [{"Filesystem": "p/a", "SkipReason": "",
            "LastError": "", "SnapshotList": list, "DestroyList": []}]})
    };
    let job = json!({"type": "push", "push": {
        "PruningSender": listed(&[("a", 9 * HOUR, true), ("b", HOUR, false)]), "PruningReceiver": listed(&[("a", 9 * HOUR, true)])}});
    let limits = Check { max_snapshot_age: hours(2), max_replication_age: hours(8), ..Check::default() };
    expect_verdict(
        &judge(report(json!({"home": job})), &limits),
        &expect![[r#"
        2
        ZREPL CRITICAL - home: p/a: what is replicated is 9h old (limit 8h) | 'home_errors'=0;;;0 'home_snapshot_age'=3600s;7200;7200;0 'home_replication_age'=32400s;28800;28800;0
        limits of home: snapshot 2h, 2h; replication 8h, 8h"#]],
    );
}

#[test]
fn without_ages_nothing_is_known_unless_the_daemon_is_young() {
    let jobs = json!({"home": push(Some(HOUR), &[])});
    let old = judge(report(jobs.clone()), &Check::default());
    assert_eq!((old.level, old.level.exit_code()), (Level::Unknown, 3), "{old:?}");
    let global = json!({"Daemon": {"StartedAt": ago(60)}});
    let young: Report = serde_json::from_value(json!({"Jobs": jobs, "Global": global})).unwrap();
    assert_eq!(judge(young, &Check::default()).level, Level::Ok);
}

#[test]
fn a_daemon_that_does_not_run_is_critical_and_everything_else_unknown() {
    let answer = |error: Error| check(&[(None, Err(error))], None, &Check::default(), now());
    expect_verdict(
        &answer(anyhow::anyhow!("the daemon's report is not understood")),
        &expect![[r#"
        3
        ZREPL UNKNOWN - the daemon's report is not understood"#]],
    );
    let directory = tempfile::tempdir().unwrap();
    let client = crate::client::Client::at(directory.path().join("control"));
    let error = crate::command::block_on(client.reach()).unwrap_err();
    let verdict = answer(error);
    assert_eq!((verdict.level, verdict.level.exit_code()), (Level::Critical, 2), "{verdict:?}");
    let missing = check(&[(None, Ok(report(json!({}))))], Some("x"), &Check::default(), now());
    assert_eq!((missing.level, missing.text.as_str()), (Level::Unknown, "ZREPL UNKNOWN - job \"x\" not found"));
}

#[test]
fn jobs_of_several_daemons_have_their_names() {
    let one = |age| Ok(report(json!({"home": push(Some(HOUR), &[("p/a", Some(age), Some(age))])})));
    let both = [(Some("a".to_owned()), one(60)), (Some("b".to_owned()), one(9 * HOUR))];
    let verdict = check(&both, None, &Check::default(), now());
    assert!(verdict.text.starts_with("ZREPL CRITICAL - b:home: p/a: "), "{verdict:?}");
    assert_eq!(check(&both, Some("a:home"), &Check::default(), now()).level, Level::Ok);
}

/// A job of this kind with these facts besides its ages.
fn of_kind(kind: &str, more: Value, ages: Ages<'_>) -> Value {
    let mut body = push(Some(600), ages)["push"].clone();
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"type": kind, kind: body})
}

#[test]
fn a_sink_is_measured_by_what_came_if_somebody_asks() {
    let vault = |ages| json!({"vault": of_kind("sink", json!({"Health": push(None, ages)["push"]["Health"]}), ages)});
    let old: Ages<'_> = &[("q/a/p", None, Some(3 * HOUR)), ("q/b/p", None, Some(60))];
    let limits = Check { max_replication_age: hours(2), ..Check::default() };
    assert_eq!(judge(report(vault(old)), &Check::default()).level, Level::Ok);
    let late = judge(report(vault(old)), &limits);
    assert_eq!(late.level, Level::Critical);
    assert!(late.text.contains("vault: q/a/p: what is replicated is 3h old (limit 2h)"), "{}", late.text);
    let nobody = judge(report(vault(&[])), &limits);
    assert_eq!(nobody.level, Level::Unknown);
    assert!(nobody.text.contains("nothing was received"), "{}", nobody.text);
}

#[test]
fn a_job_that_cannot_be_reached_by_its_clients_is_a_problem() {
    let listener = json!({"Listener": {"Place": "127.0.0.1:8888", "Error": "Address already in use"}});
    let verdict = judge(report(json!({"vault": of_kind("sink", listener, &[])})), &Check::default());
    assert_eq!(verdict.level, Level::Warning);
    assert!(verdict.text.contains("nobody can connect: cannot listen on 127.0.0.1:8888"), "{}", verdict.text);
}

#[test]
fn a_job_that_pulls_is_measured_by_how_far_it_is_behind() {
    let pull = |ages| json!({"a": of_kind("pull", json!({}), ages)});
    let in_step: Ages<'_> = &[("p/a", Some(50 * 60), Some(50 * 60))];
    assert_eq!(judge(report(pull(in_step)), &Check::default()).level, Level::Ok);
    let behind: Ages<'_> = &[("p/a", Some(60), Some(2 * HOUR))];
    let verdict = judge(report(pull(behind)), &Check::default());
    assert_eq!(verdict.level, Level::Critical);
    assert!(verdict.text.contains("behind the newest snapshot"), "{}", verdict.text);
}

#[test]
fn what_is_sent_for_the_first_time_is_no_catastrophe() {
    let started = json!({"Invocation": {"Number": 1, "StartAt": ago(60)}});
    let new: Ages<'_> = &[("p/a", Some(60), None)];
    let verdict = judge(report(json!({"a": of_kind("push", started, new)})), &Check::default());
    assert_eq!(verdict.level, Level::Warning, "{}", verdict.text);
}

#[test]
fn an_interval_of_any_length_is_taken() {
    let mut job = of_kind("push", json!({}), &[("p/a", Some(60), Some(60))]);
    job["push"]["Health"]["IntervalSeconds"] = json!(1e300);
    assert_eq!(judge(report(json!({"a": job})), &Check::default()).level, Level::Ok);
}
