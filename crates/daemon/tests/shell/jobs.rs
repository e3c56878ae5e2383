//! When jobs do something, and how they are told to and told not to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use daemon::{Daemon, SignalError};
use model::event::What;
use wire::{CallError, Connector, Endpoint};
use zfs::fake::{Action, Moment, PoolState, Verb};

use crate::world::{Lab, START, dataset, push_and_sink, version};

const MANUAL: &str = "{type: manual}";

#[tokio::test(start_paused = true)]
async fn a_wake_up_replicates_and_one_more_is_queued() {
    let lab = Lab::new();
    lab.snapshot("s1").await;
    lab.zfs.faults().pace(64, std::time::Duration::from_secs(1));
    let daemon = lab.start(&push_and_sink(MANUAL));
    daemon.wakeup("push").await.unwrap();
    lab.diary.wait_for("invocation 1", 1).await;
    assert_eq!(daemon.wakeup("push").await, Ok(()), "queued");
    assert_eq!(daemon.wakeup("push").await, Err(SignalError::AlreadyWokenUp));
    lab.diary.wait_for("finished 2", 1).await;
    assert_eq!(lab.diary.count("invocation"), 2);
    assert!(lab.host.snapshot_guid(&dataset("dst/backup/me/src/a"), &version("s1")).is_some());
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reset_cancels_and_the_next_wake_up_completes() {
    let lab = Lab::new();
    lab.snapshot("s1").await;
    let stuck = Arc::new(AtomicBool::new(true));
    let still_stuck = Arc::clone(&stuck);
    lab.zfs.faults().hook(move |point| match point.verb == Verb::Receive && still_stuck.load(Ordering::Relaxed) {
        true => Action::Hang,
        false => Action::Proceed,
    });
    let daemon = lab.start(&push_and_sink(MANUAL));
    assert_eq!(daemon.reset("push").await, Err(SignalError::AlreadyReset), "nothing runs yet");
    daemon.wakeup("push").await.unwrap();
    lab.diary.wait_for("invocation 1", 1).await;
    daemon.reset("push").await.unwrap();
    lab.diary.wait_for("cancelled 1", 1).await;
    stuck.store(false, Ordering::Relaxed);
    daemon.wakeup("push").await.unwrap();
    lab.diary.wait_for("finished 2", 1).await;
    assert!(lab.host.snapshot_guid(&dataset("dst/backup/me/src/a"), &version("s1")).is_some());
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_is_not_there_or_never_woken_says_so_in_zrepl_s_words() {
    let lab = Lab::new();
    let daemon = lab.start(&push_and_sink(MANUAL));
    let words = |result: Result<(), SignalError>| result.unwrap_err().to_string();
    assert_eq!(words(daemon.wakeup("nobody").await), "Job nobody does not exist");
    assert_eq!(words(daemon.reset("nobody").await), "Job nobody does not exist");
    assert!(words(daemon.wakeup("sink").await).starts_with("already woken up: job sink serves others"));
    assert!(words(daemon.reset("sink").await).starts_with("already reset: job sink serves others"));
    daemon.stop("test").await.unwrap();
    assert_eq!(words(daemon.wakeup("push").await), "the daemon is stopping");
    assert_eq!(lab.diary.count("stopping: test"), 1);
    assert_eq!(lab.diary.count("stopped"), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_cancels_what_runs_and_waits_for_it() {
    let lab = Lab::new();
    lab.snapshot("s1").await;
    lab.zfs.faults().at_verb(Verb::Receive, 0, Moment::Before, Action::Hang);
    let daemon = lab.start(&push_and_sink(MANUAL));
    daemon.wakeup("push").await.unwrap();
    lab.diary.wait_for("invocation 1", 1).await;
    daemon.stop("test").await.unwrap();
    assert_eq!(lab.diary.count("cancelled 1"), 1);
    assert_eq!(lab.world.zfs.running(), []);
    assert!(lab.diary.words().last().unwrap().ends_with("stopped"));
}

/// Panics at the first use, then works.
struct Trap {
    sprung: AtomicBool,
    way: Arc<dyn Connector>,
}

#[async_trait]
impl Connector for Trap {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        assert!(self.sprung.swap(true, Ordering::Relaxed), "a mine");
        self.way.connect().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_of_one_invocation() {
    let mut lab = Lab::new();
    lab.snapshot("s1").await;
    lab.world.connector = Arc::new(|_, way| Arc::new(Trap { sprung: AtomicBool::new(false), way }));
    let daemon = lab.start(&push_and_sink(MANUAL));
    daemon.wakeup("push").await.unwrap();
    lab.diary.wait_for("error: invocation 1 panicked: a mine", 1).await;
    lab.diary.wait_for("finished 1 with 1 errors", 1).await;
    daemon.wakeup("push").await.unwrap();
    lab.diary.wait_for("finished 2 with 0 errors", 1).await;
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_without_a_name_of_its_own_is_told_and_the_others_go_on() {
    let lab = Lab::new();
    let yaml = push_and_sink(MANUAL)
        + "  - {name: sink2, type: sink, root_fs: dst/other, serve: {type: local, listener_name: l}}\n";
    let daemon = lab.start(&yaml);
    lab.diary
        .wait_for("error: cannot listen on local listener \"l\": another job serves the local listener \"l\"", 1)
        .await;
    daemon.wakeup("push").await.unwrap();
    lab.diary.wait_for("finished 1", 1).await;
    daemon.stop("test").await.unwrap();
}

#[tokio::test]
async fn a_sink_that_cannot_listen_says_so_in_the_status_until_it_can() {
    let lab = Lab::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let daemon = lab.start(&format!(
        "jobs:\n  - name: vault\n    type: sink\n    root_fs: dst/backup\n    \
         serve: {{type: tcp, listen: \"{address}\", clients: {{\"127.0.0.1\": a}}}}\n\
         global: {{control: {{sockpath: \"\"}}}}\n"
    ));
    let error = || {
        let report: serde_json::Value = serde_json::from_str(&daemon.status().to_json()).unwrap();
        report["Jobs"]["vault"]["sink"]["Listener"]["Error"].as_str().unwrap().to_owned()
    };
    let told = |times: usize| {
        let listening = |what: &&What| matches!(what, What::Listening { .. });
        lab.diary.wait_until(move |whats| whats.iter().filter(listening).count() >= times)
    };
    told(1).await;
    let deaf = error();
    assert!(deaf.contains("(another program has the port: `ss -ltnp` shows which)"), "{deaf}");
    drop(taken);
    // Nobody waits for real until it tries again.
    tokio::time::pause();
    told(2).await;
    assert_eq!(error(), "");
    daemon.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_whose_pool_comes_later_knows_the_ages_of_what_it_has() {
    let lab = Lab::new();
    lab.snapshot("one").await;
    let daemon = lab.start(&push_and_sink("{type: manual}"));
    assert_eq!(daemon.wakeup_and_wait("push").await.unwrap().unwrap().errors, 0);
    daemon.stop("test").await.unwrap();

    lab.host.set_pool_state("dst", PoolState::Exported).unwrap();
    lab.diary.forget();
    let sink_alone = config_of_sink_alone();
    let daemon = Daemon::start(sink_alone, lab.world.clone()).unwrap();
    lab.diary.wait_for("warning: what the job has received", 1).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(lab.diary.count("warning: what the job has received"), 1, "told once");
    assert!(!daemon.status().to_json().contains("dst/backup/me/src/a"));
    lab.host.set_pool_state("dst", PoolState::Online).unwrap();
    // Nobody connects.
    let stored = |what: &What| matches!(what, What::Stored { newest, .. } if newest.len() == 3);
    lab.diary.wait_until(|whats| whats.iter().any(stored)).await;
    let report: serde_json::Value = serde_json::from_str(&daemon.status().to_json()).unwrap();
    let filesystems = report["Jobs"]["sink"]["sink"]["Health"]["Filesystems"].as_array().unwrap();
    let ages: Vec<_> = filesystems.iter().map(|one| (one["Name"].as_str(), one["Replicated"].as_str())).collect();
    let names = ["dst/backup/me/src", "dst/backup/me/src/a", "dst/backup/me/src/b"];
    assert_eq!(ages, names.map(|name| (Some(name), Some(START))), "not when they came, nor when they were looked at");
    daemon.stop("test").await.unwrap();
}

fn config_of_sink_alone() -> config::Config {
    let mut config = config::parse("zrepl.yml", &push_and_sink("{type: manual}")).unwrap().config;
    config.jobs.remove(0);
    config
}
