//! Rounds that somebody asks for, and snapshotters that go on after a panic.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemon::SignalError;
use model::event::SnapshotterState;
use zfs::fake::{Action, Moment, Verb};

use crate::snapshots::{EVERY_TEN_MINUTES, rounds};
use crate::world::{Lab, push_and_sink, state_word};

fn of_a(lab: &Lab) -> Vec<String> {
    lab.diary.words().into_iter().filter(|word| word.contains("taken src/a@")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_round_that_is_asked_for_comes_at_once_with_an_invocation_and_sets_the_rhythm() {
    let lab = Lab::new();
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    rounds(&lab, 1).await;
    tokio::time::advance(Duration::from_secs(240)).await;
    daemon.snapshot("push").await.unwrap();
    rounds(&lab, 3).await;
    lab.diary.wait_for("finished 3", 1).await;
    assert_eq!(
        of_a(&lab),
        [
            "12:00:00 taken src/a@z_20240514_120000_000",
            "12:04:00 taken src/a@z_20240514_120400_000",
            "12:14:00 taken src/a@z_20240514_121400_000",
        ]
    );
    daemon.stop("test").await.unwrap();
    assert_eq!(daemon.snapshot("push").await, Err(SignalError::Stopping));
}

#[tokio::test(start_paused = true)]
async fn a_round_can_be_asked_for_while_the_first_one_is_waited_for() {
    let lab = Lab::new();
    lab.snapshot("z_1").await;
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    lab.diary.wait_for("SyncUp until 12:10:00", 1).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    daemon.snapshot("push").await.unwrap();
    rounds(&lab, 2).await;
    assert_eq!(
        of_a(&lab),
        ["12:01:00 taken src/a@z_20240514_120100_000", "12:11:00 taken src/a@z_20240514_121100_000"]
    );
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_round_that_runs_is_the_one_that_was_asked_for() {
    let lab = Lab::new();
    lab.zfs.faults().at_verb(Verb::Snapshot, 0, Moment::Before, Action::Delay(Duration::from_secs(30)));
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    lab.diary.wait_for(&state_word(SnapshotterState::Snapshotting), 1).await;
    assert_eq!(daemon.snapshot("push").await, Err(SignalError::AlreadySnapshotting));
    rounds(&lab, 2).await;
    assert_eq!(of_a(&lab).len(), 2);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_snapshots_says_what_to_do() {
    let lab = Lab::new();
    let daemon = lab.start(&push_and_sink("{type: manual}"));
    let words = |result: Result<(), SignalError>| result.unwrap_err().to_string();
    assert_eq!(words(daemon.snapshot("nobody").await), "Job nobody does not exist");
    assert!(words(daemon.snapshot("push").await).contains("use `zfs snapshot`"));
    assert!(words(daemon.snapshot("sink").await).contains("signal the job that sends"));
    daemon.stop("test").await.unwrap();
}

/// Panics at the first call of this kind, then works.
fn mine(lab: &Lab, verb: Verb) {
    let sprung = AtomicBool::new(false);
    lab.zfs.faults().hook(move |point| {
        assert!(point.verb != verb || sprung.swap(true, Ordering::Relaxed), "a mine");
        Action::Proceed
    });
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_round_is_an_error_of_that_round_and_the_next_one_comes() {
    let lab = Lab::new();
    mine(&lab, Verb::Snapshot);
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    lab.diary.wait_for("12:00:00 ErrorWait until 12:10:00: the round panicked: a mine", 1).await;
    rounds(&lab, 1).await;
    assert_eq!(of_a(&lab), ["12:10:00 taken src/a@z_20240514_121000_000"]);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_between_rounds_is_told_and_the_snapshotter_begins_anew() {
    let lab = Lab::new();
    mine(&lab, Verb::List);
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    let words = "12:00:00 ErrorWait until 12:01:00: the snapshotter panicked: a mine; it begins anew after a pause";
    lab.diary.wait_for(words, 1).await;
    rounds(&lab, 1).await;
    assert_eq!(of_a(&lab), ["12:01:00 taken src/a@z_20240514_120100_000"]);
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_the_pause_after_a_panic() {
    let lab = Lab::new();
    mine(&lab, Verb::List);
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    lab.diary.wait_for("the snapshotter panicked", 1).await;
    daemon.snapshot("push").await.unwrap();
    rounds(&lab, 1).await;
    assert_eq!(of_a(&lab), ["12:00:00 taken src/a@z_20240514_120000_000"]);
    daemon.stop("test").await.unwrap();
}
