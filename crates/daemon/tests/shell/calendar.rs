//! Snapshots at the times of a calendar.

use std::time::Duration;

use config::types::Snapshotting;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::event::SnapshotterState;
use model::naming::{SnapshotNaming, TimestampFormat};
use model::schedule::Cron;
use zfs::fake::{Action, Moment, Verb};

use crate::clocks::WallClock;
use crate::snapshots::rounds;
use crate::world::{Lab, START, state_word};

fn at(spec: &str) -> Snapshotting {
    let cron = Cron::parse(spec, |name| TimeZone::get(name).ok(), TimeZone::UTC).unwrap();
    let naming = SnapshotNaming::new("z_".to_owned(), TimestampFormat::dense());
    Snapshotting::Cron { naming, cron, hooks: Vec::new() }
}

fn of_a(lab: &Lab) -> Vec<String> {
    let words = lab.diary.words().into_iter();
    words.filter(|word| word.contains("taken src/a@") || word.contains("missed")).collect()
}

#[tokio::test(start_paused = true)]
async fn rounds_come_at_the_calendar_s_times_and_not_at_the_start() {
    let lab = Lab::new();
    let daemon = lab.start_push(at("5,20 * * * *"));
    rounds(&lab, 3).await;
    lab.diary.wait_for("finished 2", 1).await;
    assert_eq!(
        of_a(&lab),
        ["12:05:00 taken src/a@z_20240514_120500_000", "12:20:00 taken src/a@z_20240514_122000_000"]
    );
    assert!(lab.diary.words().contains(&"12:00:00 Waiting until 12:05:00".to_owned()));
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_time_that_comes_while_a_round_runs_is_left_out_and_told() {
    let lab = Lab::new();
    lab.zfs.faults().at_verb(Verb::Snapshot, 0, Moment::Before, Action::Delay(Duration::from_secs(150)));
    let daemon = lab.start_push(at("* * * * *"));
    rounds(&lab, 3).await;
    assert_eq!(
        of_a(&lab),
        [
            "12:03:30 taken src/a@z_20240514_120100_000",
            "12:03:30 missed 2: RoundRunning",
            "12:04:00 taken src/a@z_20240514_120400_000",
        ]
    );
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_takes_one_round_when_it_wakes_up() {
    let mut lab = Lab::new();
    let wall = WallClock::of(&mut lab);
    let daemon = lab.start_push(at("0 * * * *"));
    rounds(&lab, 1).await;
    wall.jump(SignedDuration::from_mins(5 * 60 + 30));
    rounds(&lab, 3).await;
    assert_eq!(
        of_a(&lab),
        [
            "17:30:10 missed 4: Asleep",
            "17:30:10 taken src/a@z_20240514_173010_000",
            "18:00:00 taken src/a@z_20240514_180000_000",
        ]
    );
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_is_followed() {
    let mut lab = Lab::new();
    let wall = WallClock::of(&mut lab);
    let daemon = lab.start_push(at("0 3 * * *"));
    rounds(&lab, 1).await;
    wall.jump(SignedDuration::from_hours(-24 * 30));
    rounds(&lab, 2).await;
    assert_eq!(lab.diary.count("warning: the clock was set back from about 2024-05-14T12:00:00Z"), 1);
    wall.jump(SignedDuration::from_hours(14));
    rounds(&lab, 3).await;
    assert_eq!(of_a(&lab).len(), 1, "{:#?}", lab.diary.words());
    assert_eq!(lab.diary.count("taken src/a@z_20240415_030000_000"), 1, "{:#?}", lab.diary.words());
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_small_correction_of_the_clock_repeats_no_round() {
    let mut lab = Lab::new();
    let wall = WallClock::of(&mut lab);
    let daemon = lab.start_push(at("0 * * * *"));
    rounds(&lab, 2).await;
    wall.jump(SignedDuration::from_secs(-30));
    rounds(&lab, 3).await;
    assert_eq!(
        of_a(&lab),
        ["13:00:00 taken src/a@z_20240514_130000_000", "14:00:00 taken src/a@z_20240514_140000_000"]
    );
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_clock_change_in_spring_and_in_autumn_leaves_one_round_a_day() {
    for (day, expected) in [
        // 02:30 does not exist on the 31st of March: the round comes when the clock has been set to 03:00.
        ("2024-03-29T12:00:00Z", ["2024-03-30T01:30:00Z", "2024-03-31T01:00:00Z", "2024-04-01T00:30:00Z"]),
        // 02:30 comes twice on the 27th of October.
        ("2024-10-25T12:00:00Z", ["2024-10-26T00:30:00Z", "2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"]),
    ] {
        let mut lab = Lab::new();
        let wall = WallClock::of(&mut lab);
        let (start, day): (Timestamp, Timestamp) = (START.parse().unwrap(), day.parse().unwrap());
        wall.jump(day.duration_since(start));
        let daemon = lab.start_push(at("CRON_TZ=Europe/Berlin 30 2 * * *"));
        for (count, at) in (1..).zip(expected) {
            rounds(&lab, count).await;
            // The diary waits for two hours at most.
            let left = at.parse::<Timestamp>().unwrap().duration_since(lab.world.clock.now());
            wall.jump(left - SignedDuration::from_mins(30));
        }
        rounds(&lab, 4).await;
        let taken: Vec<String> = of_a(&lab);
        let names = expected.map(|at| {
            at.parse::<Timestamp>().unwrap().strftime("%H:%M:%S taken src/a@z_%Y%m%d_%H%M%S_000").to_string()
        });
        assert_eq!(taken, names);
        daemon.stop("test").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_round_that_is_asked_for_leaves_the_calendar_as_it_is() {
    let lab = Lab::new();
    let daemon = lab.start_push(at("0 * * * *"));
    rounds(&lab, 1).await;
    tokio::time::advance(Duration::from_secs(600)).await;
    daemon.snapshot("push").await.unwrap();
    rounds(&lab, 3).await;
    assert_eq!(
        of_a(&lab),
        ["12:10:00 taken src/a@z_20240514_121000_000", "13:00:00 taken src/a@z_20240514_130000_000"]
    );
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_status_shows_zrepl_s_fields() {
    let lab = Lab::new();
    lab.zfs.faults().at_verb(Verb::Snapshot, 0, Moment::Before, Action::Delay(Duration::from_secs(90)));
    let daemon = lab.start_push(at("* * * * *"));
    let cron = || {
        let report: serde_json::Value = serde_json::from_str(&daemon.status().to_json()).unwrap();
        let snapper = report["Jobs"]["push"]["push"]["Snapshotting"].clone();
        assert_eq!((snapper["Type"].as_str(), snapper["Periodic"].is_null()), (Some("cron"), true));
        snapper["Cron"].clone()
    };
    rounds(&lab, 1).await;
    let waiting = serde_json::json!(
        {"State": "waiting", "WakeupTime": "2024-05-14T12:01:00Z", "Errors": null, "Progress": null}
    );
    assert_eq!(cron(), waiting);
    lab.diary.wait_for(&state_word(SnapshotterState::Snapshotting), 1).await;
    assert_eq!((&cron()["State"], &cron()["WakeupTime"]), (&"running".into(), &"2024-05-14T12:01:00Z".into()));
    rounds(&lab, 2).await;
    let after = cron();
    assert_eq!((&after["State"], &after["WakeupTime"]), (&"waiting".into(), &"2024-05-14T12:03:00Z".into()));
    let too_high = "cron frequency is too high; snapshots were not taken 1 times";
    assert_eq!(after["Errors"], serde_json::json!([too_high]));
    assert_eq!(after["Progress"][1]["Path"], "src/a");
    daemon.stop("test").await.unwrap();
}
