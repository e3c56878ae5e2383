use std::time::Duration;

use expect_test::expect;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::UnixTime;
use model::naming::{SnapshotNaming, TimestampFormat, Zone};
use model::plan::prune::{Decision, KeepRule, PruneSide, Rejection};
use model::schedule::Cron;
use model::simulate::{Horizon, Keep, Limits, Policy, Rhythm, Sample, SimulateError, Timeline, run};
use regex::Regex;

use crate::grid::{grid_rule, interval, snapshots};
use crate::notation::unsorted;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

fn at(text: &str) -> Timestamp {
    format!("2024-05-14T{text}:00Z").parse().unwrap()
}

fn naming(layout: &str) -> SnapshotNaming {
    SnapshotNaming::new("z_".to_owned(), TimestampFormat::new(layout, Zone::Utc).unwrap())
}

fn policy(seconds: u64, keep: Keep) -> Policy {
    Policy { rhythm: Rhythm::Periodic(Duration::from_secs(seconds)), naming: naming("15:04"), keep }
}

fn horizon(start: &str, hours: u64) -> Horizon {
    Horizon::new(at(start), Duration::from_secs(hours * HOUR))
}

fn last_n(count: usize) -> KeepRule {
    KeepRule::LastN { count, regex: None }
}

fn exists(sample: &Sample) -> String {
    let side = |side: &Vec<model::simulate::Existing>| {
        side.iter().map(|existing| existing.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    sample.existing.iter().map(side).collect::<Vec<_>>().join(" -> ")
}

fn told(timeline: &Timeline) -> String {
    let mut text = String::new();
    for round in &timeline.rounds {
        text += &format!("{} {}", round.at.strftime("%d %H:%M"), round.name);
        if let Some(why) = &round.failed {
            text += &format!(" failed: {why}");
        }
        if round.replicated > 0 {
            text += &format!(" sent {}", round.replicated);
        }
        for gone in &round.destroyed {
            let why: Vec<String> = gone.reasons.iter().map(|(rule, why)| format!("{}: {why}", rule + 1)).collect();
            text += &format!("; {} {} ({})", gone.side, gone.name, why.join(", "));
        }
        text.push('\n');
    }
    text
}

#[test]
fn rounds_are_taken_and_pruned() {
    let timeline = run(&policy(HOUR, Keep::Local(vec![last_n(2)])), &horizon("10:00", 3)).unwrap();
    expect![[r#"
        14 10:00 z_10:00
        14 11:00 z_11:00
        14 12:00 z_12:00; local z_10:00 (1: it is not among the newest)
        14 13:00 z_13:00; local z_11:00 (1: it is not among the newest)
    "#]]
    .assert_eq(&told(&timeline));
    assert_eq!(exists(&timeline.end), "z_12:00 z_13:00");
    assert_eq!(timeline.end.at, at("13:00"));
    assert_eq!(timeline.sides[0].side, PruneSide::Local);
    assert_eq!(timeline.sides[0].rules, ["last_n 2"]);
    assert_eq!(timeline.rounds[2].destroyed[0].reasons, [(0, Rejection::NotAmongNewest)]);
}

#[test]
fn what_both_sides_have_at_the_start_is_replicated_already() {
    let keep = Keep::Replicated {
        sender: vec![KeepRule::NotReplicated { keep_snapshot_at_cursor: true }],
        receiver: vec![last_n(9)],
    };
    let mut horizon = horizon("10:00", 1);
    let minute = |text: &str| (format!("z_{text}"), at(text).as_second());
    horizon.initial = snapshots([minute("08:30"), minute("09:30"), minute("09:45")]).to_vec();
    horizon.initial_receiver = horizon.initial[..2].to_vec();
    horizon.samples = vec![at("10:00")];
    let timeline = run(&policy(HOUR, keep), &horizon).unwrap();
    let decisions: Vec<&Decision> = timeline.samples[0].existing[0].iter().map(|one| &one.decision).collect();
    assert_eq!(decisions, [&Decision::Destroy, &Decision::KeptByRule(0), &Decision::KeptByRule(0)]);
    assert_eq!(exists(&timeline.end), "z_10:45 -> z_08:30 z_09:30 z_09:45 z_10:45");
}

#[test]
fn samples_show_what_exists_at_a_moment() {
    let mut horizon = horizon("10:00", 3);
    horizon.initial = snapshots([("z_old".to_owned(), at("09:30").as_second())]).to_vec();
    horizon.samples = ["12:30", "10:29", "10:30", "09:00", "23:00"].map(at).to_vec();
    let timeline = run(&policy(HOUR, Keep::Local(vec![last_n(2)])), &horizon).unwrap();
    let shown: Vec<String> =
        timeline.samples.iter().map(|sample| format!("{} {}", sample.at.strftime("%H:%M"), exists(sample))).collect();
    assert_eq!(
        shown,
        ["09:00 z_old", "10:29 z_old", "10:30 z_old z_10:30", "12:30 z_11:30 z_12:30", "23:00 z_11:30 z_12:30"]
    );
    let existing = &timeline.samples[0].existing[0][0];
    assert_eq!((existing.decision, existing.kept_by.as_slice()), (Decision::KeptByRule(0), &[0][..]));
    assert_eq!(existing.creation, UnixTime(at("09:30").as_second()));
}

#[test]
fn a_grid_thins_out() {
    let grid = grid_rule(&[interval(1, HOUR, 0), interval(3, HOUR, 1)], "^z_");
    let timeline = run(&policy(20 * MINUTE, Keep::Local(vec![grid])), &horizon("00:00", 12)).unwrap();
    assert_eq!(timeline.rounds.len(), 37);
    expect!["z_09:00 z_10:00 z_11:00 z_11:20 z_11:40 z_12:00"].assert_eq(&exists(&timeline.end));
    let reasons: Vec<Rejection> =
        timeline.rounds.iter().flat_map(|round| &round.destroyed).map(|gone| gone.reasons[0].1).collect();
    assert!(reasons.contains(&Rejection::Crowded) && reasons.contains(&Rejection::BeyondGrid), "{reasons:?}");
}

#[test]
fn replication_follows_every_round() {
    let not_replicated = KeepRule::NotReplicated { keep_snapshot_at_cursor: false };
    let keep = Keep::Replicated { sender: vec![not_replicated], receiver: vec![last_n(2)] };
    let mut horizon = horizon("10:00", 3);
    horizon.initial = unsorted("@a @b");
    let timeline = run(&policy(HOUR, keep.clone()), &horizon).unwrap();
    expect![[r#"
        14 10:00 z_10:00 sent 1; sender a (1: it is replicated); sender b (1: it is replicated); sender z_10:00 (1: it is replicated)
        14 11:00 z_11:00 sent 1; sender z_11:00 (1: it is replicated)
        14 12:00 z_12:00 sent 1; sender z_12:00 (1: it is replicated); receiver z_10:00 (1: it is not among the newest)
        14 13:00 z_13:00 sent 1; sender z_13:00 (1: it is replicated); receiver z_11:00 (1: it is not among the newest)
    "#]].assert_eq(&told(&timeline));
    assert_eq!(exists(&timeline.end), " -> z_12:00 z_13:00", "the cursor stands for what the sender lacks");

    horizon.initial_receiver = unsorted("@a");
    let timeline = run(&policy(HOUR, keep), &horizon).unwrap();
    assert_eq!(timeline.rounds[0].replicated, 2, "b and the new one follow a");

    let nothing = || vec![KeepRule::Regex { regex: Regex::new("^$").unwrap(), negate: false }];
    let keep = Keep::Replicated { sender: nothing(), receiver: nothing() };
    let timeline = run(&policy(HOUR, keep), &horizon).unwrap();
    assert_eq!(exists(&timeline.end), " -> z_13:00");
    assert_eq!(timeline.end.existing[1][0].decision, Decision::KeptAsBase);
}

#[test]
fn the_calendar_rules_too() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let policy = Policy {
        rhythm: Rhythm::Cron(Cron::parse("30 2 * * *", |_| None, zone).unwrap()),
        naming: naming("dense"),
        keep: Keep::Local(vec![last_n(10)]),
    };
    let start = "2024-03-29T12:00:00Z".parse().unwrap();
    let timeline = run(&policy, &Horizon::new(start, Duration::from_secs(72 * HOUR))).unwrap();
    assert_eq!(exists(&timeline.end), "z_20240330_013000_000 z_20240331_010000_000 z_20240401_003000_000");
}

#[test]
fn names_that_come_again_fail_as_they_would() {
    let policy = Policy { naming: naming("2006-01-02"), ..policy(12 * HOUR, Keep::Local(vec![last_n(10)])) };
    let timeline = run(&policy, &horizon("00:00", 24)).unwrap();
    expect![[r#"
        14 00:00 z_2024-05-14
        14 12:00 z_2024-05-14 failed: the snapshot exists already
        15 00:00 z_2024-05-15
    "#]]
    .assert_eq(&told(&timeline));
}

#[test]
fn a_snapshot_from_the_future_delays_the_first_round_by_an_interval() {
    let mut horizon = horizon("10:00", 1);
    horizon.initial = snapshots([("z_later".to_owned(), at("20:00").as_second())]).to_vec();
    let timeline = run(&policy(HOUR, Keep::Local(vec![last_n(10)])), &horizon).unwrap();
    assert_eq!(timeline.rounds.iter().map(|round| round.at).collect::<Vec<_>>(), [at("11:00")]);
}

#[test]
fn what_takes_too_long_is_refused() {
    let everything = || Keep::Local(vec![last_n(usize::MAX)]);
    let dense = |seconds| Policy { naming: naming("dense"), ..policy(seconds, everything()) };
    let limited = |rounds, looked_at| Horizon { limits: Limits { rounds, looked_at }, ..horizon("10:00", 100) };
    assert_eq!(
        run(&dense(HOUR), &limited(3, 1000)).unwrap_err().to_string(),
        "the simulation has 3 rounds at 2024-05-14T13:00:00Z: simulate a shorter time"
    );
    assert_eq!(
        run(&dense(HOUR), &limited(1000, 10)).unwrap_err(),
        SimulateError::TooManySnapshots { limit: 10, reached: at("14:00"), existing: 5 }
    );
    assert_eq!(run(&dense(0), &horizon("10:00", 1)), Err(SimulateError::NoInterval));
    let slash = Policy { naming: naming("2006/01"), ..dense(HOUR) };
    assert!(matches!(run(&slash, &horizon("10:00", 1)), Err(SimulateError::Name(_))));
    let endless = Horizon { limits: Limits::default(), ..Horizon::new(at("10:00"), Duration::MAX) };
    let bounded = Policy { naming: naming("unix-seconds"), ..policy(1, Keep::Local(vec![last_n(3)])) };
    assert!(matches!(run(&bounded, &endless), Err(SimulateError::TooManyRounds { limit: 100_000, .. })));
}
