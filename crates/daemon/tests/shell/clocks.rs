//! Snapshots under clocks that jump and machines that sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use daemon::clock::Clock;
use jiff::SignedDuration;

use crate::snapshots::{EVERY_TEN_MINUTES, rounds};
use crate::world::{Lab, push_and_sink};

/// What the wall clock is ahead of the time that passes for tasks. A suspended machine is one whose
/// wall clock goes on alone.
pub(crate) struct WallClock(Arc<AtomicI64>);

impl WallClock {
    pub(crate) fn of(lab: &mut Lab) -> WallClock {
        let (clock, seconds) = (lab.world.clock.clone(), Arc::new(AtomicI64::new(0)));
        let ahead = Arc::clone(&seconds);
        lab.world.clock = Clock::new(move || clock.now() + SignedDuration::from_secs(ahead.load(Ordering::Relaxed)));
        WallClock(seconds)
    }

    pub(crate) fn jump(&self, by: SignedDuration) {
        self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_stop_the_rounds() {
    let mut lab = Lab::new();
    let wall = WallClock::of(&mut lab);
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    rounds(&lab, 1).await;
    wall.jump(SignedDuration::from_hours(-24));
    rounds(&lab, 3).await;
    assert_eq!(lab.diary.count("taken src/a@z_20240513_121000_000"), 1, "{:#?}", lab.diary.words());
    assert_eq!(lab.diary.count("taken src/a@z_20240513_122000_000"), 1, "{:#?}", lab.diary.words());
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_takes_one_overdue_round_when_it_wakes_up_and_goes_on_from_there() {
    let mut lab = Lab::new();
    let wall = WallClock::of(&mut lab);
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    rounds(&lab, 1).await;
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    wall.jump(SignedDuration::from_hours(8));
    rounds(&lab, 3).await;
    let taken: Vec<String> = lab.diary.words().into_iter().filter(|word| word.contains("taken src/a@")).collect();
    // The sleep is noticed within ten seconds, not at the end of the interval.
    assert_eq!(
        taken,
        [
            "12:00:00 taken src/a@z_20240514_120000_000",
            "20:00:10 taken src/a@z_20240514_200010_000",
            "20:10:10 taken src/a@z_20240514_201010_000",
        ]
    );
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sleep_during_sync_up_ends_it() {
    let mut lab = Lab::new();
    let wall = WallClock::of(&mut lab);
    lab.snapshot("z_1").await;
    let daemon = lab.start(&push_and_sink(EVERY_TEN_MINUTES));
    lab.diary.wait_for("SyncUp until 12:10:00", 1).await;
    wall.jump(SignedDuration::from_hours(8));
    rounds(&lab, 1).await;
    assert_eq!(lab.diary.count("20:00:10 taken src/a@z_20240514_200010_000"), 1, "{:#?}", lab.diary.words());
    daemon.stop("test").await.unwrap();
}
