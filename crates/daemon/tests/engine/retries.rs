//! What is tried again, what is not, and what a failure stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use daemon::act::{Invocation, replicate_and_prune};
use model::event::{Replication, What};
use model::view::View;
use wire::{
    ByteStream, CallError, Connector, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, SendReply, SendRequest,
};
use zfs::ErrorKind;
use zfs::fake::{Action, Moment, StreamFault, Verb};

use crate::world::{Direct, Settings, World, name, received};

fn killed() -> ErrorKind {
    ErrorKind::Killed { command: "zfs".into(), signal: 9 }
}

async fn three_snapshots(attempts: u32) -> World {
    let world = World::new(Settings { attempts, ..Settings::default() });
    world.create(&["src/a"]);
    for snapshot in ["1", "2", "3"] {
        world.write("src/a", snapshot, 2_000);
        world.snapshot(snapshot, &["src/a"]).await;
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_step_that_failed_is_tried_again_as_that_step_whichever_it_was() {
    for verb in [Verb::Send, Verb::Hold, Verb::Bookmark, Verb::Release] {
        for moment in [Moment::Before, Moment::After] {
            for nth in 0..3 {
                let world = three_snapshots(2).await;
                world.daemons.source_zfs.faults().at_verb(verb, nth, moment, Action::Fail(killed()));
                let summary = world.run().await;
                let failures = world.failures();
                assert_eq!(summary.errors, 0, "{verb:?} {nth} {moment:?}: {failures:#?}");
                assert!(!failures.is_empty(), "{verb:?} {nth} {moment:?}: nothing went wrong");
                world.assert_replicated("src/a").await;
                let all: Vec<String> = world.target_versions("src/a").await;
                assert_eq!(all, ["@1", "@2", "@3 zrepl_last_received_J_sink"], "{verb:?} {nth} {moment:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_gets_on_is_tried_as_often_as_it_is_cut() {
    let settings = || Settings { attempts: 2, ..Settings::default() };
    let run_cut_at = async |bytes: u64| {
        let world = World::new(settings());
        world.create(&["src/a"]);
        world.write("src/a", "large", 400_000);
        world.snapshot("1", &["src/a"]).await;
        for nth in 0..5 {
            world.daemons.target_zfs.faults().break_stream(Verb::Receive, nth, bytes, StreamFault::Dies(killed()));
        }
        (world.run().await.errors, world.failures().len())
    };
    assert_eq!(run_cut_at(60_000).await, (0, 5));
    assert_eq!(run_cut_at(0).await, (1, 2), "without progress there is an end");
}

#[tokio::test(start_paused = true)]
async fn the_receivers_failures_are_tried_again_too() {
    for (verb, count) in [(Verb::Receive, 3), (Verb::Hold, 3), (Verb::CreatePlaceholder, 2), (Verb::CanResume, 1)] {
        for moment in [Moment::Before, Moment::After] {
            for nth in 0..count {
                let world = three_snapshots(2).await;
                world.daemons.target_zfs.faults().at_verb(verb, nth, moment, Action::Fail(killed()));
                let summary = world.run().await;
                let failures = world.failures();
                assert_eq!(summary.errors, 0, "{verb:?} {nth} {moment:?}: {failures:#?}");
                assert!(!failures.is_empty(), "{verb:?} {nth} {moment:?}: nothing went wrong");
                world.assert_replicated("src/a").await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_completion_is_made_up_without_a_new_snapshot() {
    let mut world = three_snapshots(1).await;
    world.daemons.source_zfs.faults().at_verb(Verb::Bookmark, 2, Moment::Before, Action::Fail(killed()));
    assert_eq!(world.run().await.errors, 1);
    world.restart();
    let summary = world.run_well().await;
    assert_eq!((summary.steps, summary.bytes), (0, 0));
    assert_eq!(world.source_versions("src/a").await, ["@1", "@2", "#zrepl_CURSOR_G_GUID_J_push", "@3"]);
}

#[tokio::test(start_paused = true)]
async fn only_what_may_work_is_tried_again_and_others_go_on() {
    let world = World::new(Settings::default());
    world.create(&["src/a", "src/b", "src/c"]);
    world.snapshot("1", &["src/a", "src/b", "src/c"]).await;
    let faults = world.daemons.source_zfs.faults();
    faults.at_verb(Verb::Send, 0, Moment::Before, Action::Fail(ErrorKind::PermissionDenied));
    faults.at_verb(Verb::Send, 1, Moment::Before, Action::Fail(killed()));
    let summary = world.run().await;
    assert_eq!((summary.errors, summary.steps), (1, 2));
    let failed: Vec<(String, bool)> = world
        .events()
        .into_iter()
        .filter_map(|what| match what {
            What::Replication(Replication::StepFailed { filesystem, will_retry, .. }) => {
                Some((filesystem.to_string(), will_retry))
            }
            _ => None,
        })
        .collect();
    assert_eq!(failed, [("src/a".to_owned(), false), ("src/b".to_owned(), true)]);
    assert_eq!(world.target_versions("src/a").await, ["missing"]);
}

#[tokio::test(start_paused = true)]
async fn attempts_end() {
    let world = three_snapshots(3).await;
    world.daemons.source_zfs.faults().hook(|point| match point.verb {
        Verb::Send => Action::Fail(ErrorKind::Busy),
        _ => Action::Proceed,
    });
    let started = tokio::time::Instant::now();
    assert_eq!(world.run().await.errors, 1);
    assert_eq!(world.failures().len(), 3);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(3) && waited < Duration::from_secs(7), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn children_wait_for_their_parent_and_fail_with_it() {
    let world = World::new(Settings { attempts: 1, concurrency: 4, ..Settings::default() });
    world.create(&["src/a", "src/a/b", "src/a/b/c", "src/aa"]);
    world.snapshot("1", &["src/a", "src/a/b", "src/a/b/c", "src/aa"]).await;
    world.daemons.target_zfs.faults().hook(|point| match (point.verb, point.object.as_str()) {
        (Verb::Receive, object) if object.split('@').next() == Some("dst/sink/me/src/a") => {
            Action::Fail(ErrorKind::NoSpace)
        }
        _ => Action::Proceed,
    });
    let summary = world.run().await;
    assert_eq!((summary.errors, summary.steps), (3, 1));
    let failures = world.failures();
    assert!(failures[0].contains("out of space"), "{failures:?}");
    assert_eq!(failures[1], "src/a/b: parent(s) failed during initial replication: [src/a]");
    assert_eq!(failures[2], "src/a/b/c: parent(s) failed during initial replication: [src/a/b]");
    world.assert_replicated("src/aa").await;

    world.daemons.target_zfs.faults().clear();
    world.run_well().await;
    world.assert_replicated("src/a/b/c").await;
}

#[tokio::test(start_paused = true)]
async fn the_oldest_snapshot_goes_first() {
    let world = World::new(Settings::default());
    world.create(&["src/a", "src/b"]);
    for (snapshot, filesystem) in [("1", "src/b"), ("2", "src/a"), ("3", "src/b"), ("4", "src/a")] {
        world.snapshot(snapshot, &[filesystem]).await;
    }
    world.run_well().await;
    let started: Vec<(String, usize)> = world
        .events()
        .into_iter()
        .filter_map(|what| match what {
            What::Replication(Replication::StepStarted { filesystem, step }) => Some((filesystem.to_string(), step)),
            _ => None,
        })
        .collect();
    let expected = [("src/b", 0), ("src/a", 0), ("src/b", 1), ("src/a", 1)];
    assert_eq!(started, expected.map(|(filesystem, step)| (filesystem.to_owned(), step)));
}

#[tokio::test(start_paused = true)]
async fn no_more_steps_than_allowed_run_at_a_time() {
    for concurrency in [1, 3] {
        let world = World::new(Settings { concurrency, ..Settings::default() });
        let filesystems = ["src/a", "src/b", "src/c", "src/d", "src/e"];
        world.create(&filesystems);
        world.snapshot("1", &filesystems).await;
        world.daemons.source_zfs.faults().pace(1000, Duration::from_millis(100));
        world.run_well().await;
        let (mut running, mut most) = (0, 0);
        for what in world.events() {
            match what {
                What::Replication(Replication::StepStarted { .. }) => running += 1,
                What::Replication(Replication::StepFinished { .. }) => running -= 1,
                _ => {}
            }
            most = most.max(running);
        }
        assert_eq!(most, concurrency);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_invocation_leaves_nothing_running_and_can_be_resumed() {
    let world = World::new(Settings::default());
    world.create(&["src/a"]);
    world.write("src/a", "big", 1_000_000);
    world.snapshot("1", &["src/a"]).await;
    world.daemons.source_zfs.faults().pace(100_000, Duration::from_secs(1));
    let invocation = world.invocation();
    let cancel = invocation.cancel.clone();
    let (summary, ()) = tokio::join!(replicate_and_prune(invocation), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cancel.cancel();
    });
    assert!(summary.cancelled && summary.bytes > 300_000 && summary.steps == 0, "{summary:?}");
    assert!(zfs::Zfs::running(&world.daemons.source_zfs).is_empty());
    assert!(zfs::Zfs::running(&world.daemons.target_zfs).is_empty());
    let rest = world.run_well().await;
    assert!(rest.bytes < 800_000, "{rest:?}");
    world.assert_replicated("src/a").await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_given_up_and_resumed() {
    let world = World::new(Settings::default());
    world.create(&["src/a"]);
    world.write("src/a", "big", 1_000_000);
    world.snapshot("1", &["src/a"]).await;
    world.daemons.source_zfs.faults().break_stream(Verb::Send, 0, 500_000, StreamFault::Stalls);
    let summary = world.run_well().await;
    assert!(summary.bytes < 1_300_000, "{summary:?}");
    world.assert_replicated("src/a").await;
}

/// A connector whose peer is away for the first calls.
pub(crate) struct Away {
    direct: Direct,
    calls: AtomicU32,
    away: u32,
}

impl Away {
    pub(crate) fn new(direct: Direct, away: u32) -> Self {
        Self { direct, calls: AtomicU32::new(0), away }
    }
}

#[async_trait]
impl Connector for Away {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        match self.calls.fetch_add(1, Ordering::Relaxed) < self.away {
            true => Err(CallError::Connection("connection refused".to_owned())),
            false => self.direct.connect().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_receiver_is_waited_for_within_a_window() {
    let run = |away| async move {
        let world = three_snapshots(2).await;
        let direct = Direct(world.daemons.sink.clone());
        let receiver = Arc::new(Away::new(direct, away));
        let started = tokio::time::Instant::now();
        let summary = replicate_and_prune(Invocation { receiver, ..world.invocation() }).await;
        (summary, started.elapsed(), world.failures())
    };
    let (summary, _, failures) = run(5).await;
    assert_eq!((summary.errors, summary.steps), (0, 3), "{failures:?}");
    assert_eq!(failures, ["plan: no connection to the receiver: connection refused"]);
    let (summary, waited, failures) = run(u32::MAX).await;
    assert_eq!((summary.errors, summary.steps), (1, 0));
    assert!(waited >= daemon::limits::RECONNECT_WINDOW && waited < daemon::limits::RECONNECT_WINDOW * 2);
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(
        failures[1].ends_with("of trying to connect: no connection to the receiver: connection refused"),
        "{failures:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_pool_or_root_is_named() {
    let world = three_snapshots(1).await;
    world.target.set_pool_state("dst", zfs::fake::PoolState::Exported).unwrap();
    assert_eq!(world.run().await.errors, 1);
    assert_eq!(
        world.failures(),
        [r#"plan: cannot list the receiver: pool "dst" is not imported (import it with `zpool import dst`)"#]
    );
    world.target.set_pool_state("dst", zfs::fake::PoolState::Online).unwrap();
    let gone = world.target.zfs();
    zfs::Zfs::destroy_dataset(&gone, &name(crate::world::ROOT)).await.unwrap();
    assert_eq!(world.run().await.errors, 1);
    assert_eq!(
        world.failures(),
        [
            r#"plan: cannot list the receiver: root_fs "dst/sink" does not exist (create it with `zfs create -p dst/sink`)"#
        ]
    );
    world.source.set_pool_state("src", zfs::fake::PoolState::Exported).unwrap();
    assert_eq!(world.run().await.errors, 1);
    assert!(world.failures()[0].contains("cannot list the sender"), "both are named");
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_fails_once_and_what_arrived_is_kept() {
    let world = World::new(Settings::default());
    world.create(&["src/a"]);
    world.write("src/a", "big", 1_000_000);
    world.snapshot("1", &["src/a"]).await;
    world.target.set_capacity("dst", Some(500_000)).unwrap();
    assert_eq!(world.run().await.errors, 1);
    let failures = world.failures();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].contains("out of space"), "{failures:?}");
    world.target.set_capacity("dst", None).unwrap();
    let rest = world.run_well().await;
    assert!(rest.bytes < 800_000, "{rest:?}");
    assert!(world.target.content_hash(&name(&received("src/a"))).is_ok());
    world.assert_replicated("src/a").await;
}

#[tokio::test(start_paused = true)]
async fn what_still_runs_when_the_peer_is_given_up_may_end_well() {
    let world = World::new(Settings { concurrency: 2, ..Settings::default() });
    world.create(&["src/a", "src/b", "src/b/c"]);
    world.snapshot("1", &["src/a", "src/b", "src/b/c"]).await;
    // The first connection is the only one that ever works: a step over it takes longer than the window,
    // the other one loses it.
    let delay = Action::Delay(daemon::limits::RECONNECT_WINDOW * 2);
    world.daemons.source_zfs.faults().at_verb(Verb::Send, 0, Moment::Before, delay);
    let receiver = Arc::new(OnlyOnce { sink: world.daemons.sink.clone(), connected: AtomicBool::new(false) });
    let summary = replicate_and_prune(Invocation { receiver, ..world.invocation() }).await;
    assert_eq!((summary.steps, summary.errors, summary.replicated), (1, 2, false), "{:#?}", world.failures());
    world.assert_replicated("src/a").await;
    world.run_well().await;
    world.assert_replicated("src/b/c").await;
}

/// Connects once, to a receiver that cannot be reached for one of the filesystems.
struct OnlyOnce {
    sink: Arc<daemon::endpoint::Sink>,
    connected: AtomicBool,
}

#[async_trait]
impl Connector for OnlyOnce {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        match self.connected.swap(true, Ordering::Relaxed) {
            true => Err(CallError::Connection("connection refused".to_owned())),
            false => Ok(Arc::new(LosesB(Direct(self.sink.clone()).connect().await?))),
        }
    }
}

struct LosesB(Arc<dyn Endpoint>);

#[async_trait]
impl Endpoint for LosesB {
    async fn list(&self) -> Result<View, CallError> {
        self.0.list().await
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        self.0.send(request).await
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        match request.filesystem.as_str() {
            "src/b" => Err(CallError::Connection("connection reset by peer".to_owned())),
            _ => self.0.receive(request, stream).await,
        }
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        self.0.send_completed(request).await
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        self.0.confirm_received(request).await
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        self.0.destroy_snapshots(requests).await
    }
}
