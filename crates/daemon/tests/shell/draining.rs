//! A stop lets what is under way end, within its limit, and begins nothing new.

use std::time::Duration;

use daemon::{Daemon, SignalError};
use model::event::{Pruning, Replication, What};
use tokio::time::Instant;
use zfs::fake::{Action, Moment, Verb};

use crate::world::{Lab, dataset, push_and_sink, version};

const MANUAL: &str = "{type: manual}";

/// Filesystems with so many bytes each to send, of which so many move in a second.
async fn lab(bytes: usize, rate: u64) -> Lab {
    let lab = Lab::new();
    for name in ["src/a", "src/b"] {
        lab.host.write_file(&dataset(name), "much", &vec![7; bytes]).unwrap();
    }
    lab.snapshot("1").await;
    lab.zfs.faults().pace(rate, Duration::from_secs(1));
    lab
}

async fn first_step(lab: &Lab, filesystem: &str) -> Daemon {
    let daemon = lab.start(&push_and_sink(MANUAL));
    daemon.wakeup("push").await.unwrap();
    let begun = |what: &What| matches!(what, What::Replication(Replication::StepProgress { filesystem: of, bytes, .. }) if of.as_str() == filesystem && *bytes > 0);
    lab.diary.wait_until(|whats| whats.iter().any(begun)).await;
    daemon
}

fn notes(lab: &Lab) -> Vec<String> {
    let whats = lab.diary.whats().into_iter();
    whats.filter_map(|what| if let What::Note { message, .. } = what { Some(message) } else { None }).collect()
}

fn steps(lab: &Lab) -> (usize, usize) {
    let (mut begun, mut done) = (0, 0);
    for what in lab.diary.whats() {
        match what {
            What::Replication(Replication::StepStarted { .. }) => begun += 1,
            What::Replication(Replication::StepFinished { .. }) => done += 1,
            _ => {}
        }
    }
    (begun, done)
}

async fn stop(daemon: Daemon) -> Duration {
    let asked = Instant::now();
    daemon.stop("test").await.unwrap();
    asked.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_step_that_runs_ends_with_its_confirmation_and_no_other_begins() {
    let lab = lab(10_000, 4096).await;
    let daemon = first_step(&lab, "src/a").await;
    let took = stop(daemon).await;
    assert!((5..30).contains(&took.as_secs()), "{took:?}");
    let (begun, done) = steps(&lab);
    assert!(begun == done && done < 3, "{begun} begun, {done} done of 3");
    assert_eq!(notes(&lab), ["waiting up to 30s for what is under way: step of src/a (job push)"]);
    let words = lab.diary.words();
    assert!(words.iter().any(|word| word.contains("cancelled 1")) && words.last().unwrap().contains("stopped"));
    assert!(!lab.diary.whats().iter().any(|what| matches!(what, What::Pruning { .. })), "nor pruning");
    let sent = lab.world.zfs.dataset(&dataset("src/a")).await.unwrap();
    let bookmarks: Vec<_> = sent.versions.iter().filter(|one| !one.is_snapshot()).collect();
    assert_eq!(bookmarks.len(), 1, "the cursor");
    lab.zfs.faults().clear();
    let daemon = lab.start(&push_and_sink(MANUAL));
    let rest = daemon.wakeup_and_wait("push").await.unwrap().unwrap();
    assert_eq!((rest.errors, rest.steps), (0, 3 - done));
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_step_that_takes_longer_is_cut_and_resumed() {
    for (limit, told) in [(30, 2), (0, 1)] {
        let mut lab = lab(200_000, 1024).await;
        lab.world.tuning.drain = Duration::from_secs(limit);
        let daemon = first_step(&lab, "src/a").await;
        let took = stop(daemon).await;
        assert!((limit..limit + 2).contains(&took.as_secs()), "{took:?}");
        let limit = Duration::from_secs(limit);
        let cut = format!("cut, as {limit:?} have passed; steps will be resumed: step of src/a (job push)");
        assert_eq!((notes(&lab).len(), notes(&lab).last()), (told, Some(&cut)));
        assert!(lab.world.zfs.running().is_empty());
        lab.zfs.faults().clear();
        lab.diary.forget();
        let daemon = lab.start(&push_and_sink(MANUAL));
        assert_eq!(daemon.wakeup_and_wait("push").await.unwrap().unwrap().errors, 0);
        let resumed = |what: &What| matches!(what, What::Replication(Replication::Planned { plan }) if format!("{plan:?}").contains("resume_token: Some"));
        assert!(lab.diary.whats().iter().any(resumed));
        daemon.stop("test").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_more_meanwhile_hears_that_the_daemon_stops() {
    let lab = lab(20_000, 1024).await;
    let daemon = first_step(&lab, "src/a").await;
    let (_, before) = steps(&lab);
    let (stopped, ()) = tokio::join!(daemon.stop("test"), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(daemon.wakeup("push").await, Err(SignalError::Stopping));
        assert_eq!(daemon.snapshot("push").await, Err(SignalError::Stopping));
        assert_eq!(daemon.under_way(), ["step of src/a (job push)"]);
        let config = config::parse("zrepl.yml", &push_and_sink(MANUAL)).unwrap().config;
        assert_eq!(daemon.reload(config).await.unwrap_err().to_string(), "the daemon is stopping");
        // Who does not want to wait may still end it.
        assert_eq!(daemon.reset("push").await, Ok(()));
    });
    stopped.unwrap();
    assert_eq!(steps(&lab).1, before, "reset");
}

#[tokio::test(start_paused = true)]
async fn a_round_of_snapshots_ends_and_brings_no_invocation() {
    let lab = Lab::new();
    lab.zfs.faults().at_verb(Verb::Snapshot, 0, Moment::Before, Action::Delay(Duration::from_secs(10)));
    let daemon = lab.start(&push_and_sink("{type: periodic, prefix: z_, interval: 20s}"));
    lab.diary.wait_for("Snapshotting", 1).await;
    let took = stop(daemon).await;
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
    assert_eq!(notes(&lab), ["waiting up to 30s for what is under way: round of snapshots (job push)"]);
    assert_eq!((lab.diary.count("taken "), lab.diary.count("invocation")), (3, 0), "{:#?}", lab.diary.words());
}

#[tokio::test(start_paused = true)]
async fn what_is_being_destroyed_is_told() {
    let lab = Lab::new();
    for name in ["1", "2", "3"] {
        lab.snapshot(name).await;
    }
    lab.zfs.faults().at_verb(Verb::DestroySnapshots, 0, Moment::Before, Action::Delay(Duration::from_secs(10)));
    let daemon = lab.start(&push_and_sink(MANUAL));
    daemon.wakeup("push").await.unwrap();
    let planned = |what: &What| matches!(what, What::Pruning { what: Pruning::Planned { .. }, .. });
    lab.diary.wait_until(|whats| whats.iter().any(planned)).await;
    let took = stop(daemon).await;
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
    assert_eq!(notes(&lab), ["waiting up to 30s for what is under way: pruning of the sender side (job push)"]);
    assert_eq!(lab.diary.count("destroyed 1 of"), 3, "{:#?}", lab.diary.words());
    assert!(lab.host.snapshot_guid(&dataset("src/a"), &version("1")).is_none());
    assert!(lab.host.snapshot_guid(&dataset("src/a"), &version("2")).is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_where_nothing_is_under_way() {
    let lab = lab(20_000, 1024).await;
    let daemon = lab.start(&push_and_sink("{type: periodic, prefix: z_, interval: 1h}"));
    lab.diary.wait_for("finished 1", 1).await;
    // Listed for ever, which loses nothing if it is cut.
    lab.zfs.faults().hook(|point| if point.verb == Verb::List { Action::Hang } else { Action::Proceed });
    daemon.wakeup("push").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(stop(daemon).await < Duration::from_secs(1));
    assert!(notes(&lab).is_empty(), "{:?}", notes(&lab));
}
