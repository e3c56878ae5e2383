//! A daemon in a world of its own: pools in memory, and a clock that stands still but for tokio's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use config::types::{Job, Snapshotting as Snapshotted};
use daemon::clock::Clock;
use daemon::events::Reader;
use daemon::{Daemon, World};
use jiff::{SignedDuration, Timestamp};
use model::event::{Event, Hook, Pruning, SnapshotterState, Snapshotting, What};
use model::{DatasetName, UnixTime, VersionName};
use tokio::sync::Notify;
use zfs::fake::{FakeHost, FakeZfs};

/// When tests begin.
pub(crate) const START: &str = "2024-05-14T12:00:00Z";

/// Longer than anything that is waited for takes, on a clock that is stopped or not.
const LONG: Duration = Duration::from_secs(7200);

/// Collects what happens.
#[derive(Default)]
pub(crate) struct Diary {
    events: Mutex<Vec<Event>>,
    news: Notify,
}

impl Reader for Diary {
    fn read(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
        self.news.notify_waiters();
    }
}

impl Diary {
    /// All events in short words, of those that have any.
    pub(crate) fn words(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().filter_map(in_words).collect()
    }

    /// What happened, without when and to whom.
    pub(crate) fn whats(&self) -> Vec<What> {
        self.events.lock().unwrap().iter().map(|event| event.what.clone()).collect()
    }

    /// Begins anew.
    pub(crate) fn forget(&self) {
        self.events.lock().unwrap().clear();
    }

    pub(crate) fn count(&self, word: &str) -> usize {
        self.words().iter().filter(|one| one.contains(word)).count()
    }

    /// Waits until so many events have the word in them.
    pub(crate) async fn wait_for(&self, word: &str, count: usize) {
        let waited = tokio::time::timeout(LONG, self.wait_until(|_| self.count(word) >= count));
        assert!(waited.await.is_ok(), "no {word:?}, but {:#?}", self.words());
    }

    /// Waits until what happened is enough.
    pub(crate) async fn wait_until(&self, enough: impl Fn(&[What]) -> bool) {
        loop {
            let news = self.news.notified();
            if enough(&self.whats()) {
                return;
            }
            news.await;
        }
    }
}

fn in_words(event: &Event) -> Option<String> {
    let text = match &event.what {
        What::Snapshotting(Snapshotting::State { state, sleep_until, error }) => {
            let state = format!("{state:?}");
            let until = sleep_until.map(|until| format!(" until {}", until.strftime("%H:%M:%S"))).unwrap_or_default();
            let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("{state}{until}{error}")
        }
        What::Snapshotting(Snapshotting::Taken { filesystem, snapshot, result }) => {
            let result = result.as_ref().map_or_else(|error| format!(": {error}"), |()| String::new());
            format!("taken {filesystem}@{snapshot}{result}")
        }
        What::InvocationStarted { number } => format!("invocation {number}"),
        What::InvocationFinished { number, summary } if summary.cancelled => format!("cancelled {number}"),
        What::InvocationFinished { number, summary } => format!("finished {number} with {} errors", summary.errors),
        What::Pruning { what: Pruning::Filesystem { filesystem, destroyed, .. }, .. } if !destroyed.is_empty() => {
            format!("destroyed {} of {filesystem}", destroyed.len())
        }
        What::Snapshotting(Snapshotting::HooksFinished { filesystem, had_error, .. }) => {
            format!("hooks of {filesystem} {}", if *had_error { "failed" } else { "done" })
        }
        What::Hook { what: Hook::Output { line, .. }, .. } => format!("hook says {line}"),
        What::Hook { what: Hook::Failed { error, .. }, .. } => format!("hook failed: {error}"),
        What::Snapshotting(Snapshotting::Missed { count, why }) => format!("missed {count}: {why:?}"),
        What::Warning { message, .. } => format!("warning: {message}"),
        What::Error { message, .. } => format!("error: {message}"),
        What::Listening { place, problem: Some(problem) } => format!("error: cannot listen on {place}: {problem}"),
        What::DaemonStopping { cause } => format!("stopping: {cause}"),
        What::DaemonStopped => "stopped".to_owned(),
        _ => return None,
    };
    let at = event.at.strftime("%H:%M:%S");
    Some(format!("{at} {text}"))
}

/// Whether an event is this snapshotter state; for waiting.
pub(crate) fn state_word(state: SnapshotterState) -> String {
    format!(" {state:?}")
}

#[derive(Clone)]
pub(crate) struct Lab {
    pub host: FakeHost,
    pub zfs: FakeZfs,
    pub diary: Arc<Diary>,
    pub world: World,
}

impl Lab {
    /// Pools `src` and `dst` with a few filesystems.
    pub(crate) fn new() -> Lab {
        let start: Timestamp = START.parse().unwrap();
        let since = tokio::time::Instant::now();
        let now = move || start + SignedDuration::try_from(since.elapsed()).unwrap();
        let host = FakeHost::new(1, Arc::new(move || UnixTime(now().as_second())));
        for pool in ["src", "dst"] {
            host.create_pool(&dataset(pool)).unwrap();
        }
        for name in ["src/a", "src/b", "dst/backup"] {
            host.create_filesystem(&dataset(name)).unwrap();
        }
        let (zfs, diary) = (host.zfs(), Arc::new(Diary::default()));
        let world = World {
            clock: Clock::new(now),
            readers: vec![Arc::clone(&diary) as Arc<dyn Reader>],
            ..World::new(Arc::new(zfs.clone()))
        };
        Lab { host, zfs, diary, world }
    }

    /// Snapshots all of `src`.
    pub(crate) async fn snapshot(&self, name: &str) {
        let all = ["src", "src/a", "src/b"].map(|one| zfs::Snapshot { dataset: dataset(one), name: version(name) });
        assert!(self.world.zfs.snapshot(&all).await.iter().all(Result::is_ok));
    }

    pub(crate) fn start(&self, yaml: &str) -> Daemon {
        let config = config::parse("zrepl.yml", yaml).unwrap().config;
        Daemon::start(config, self.world.clone()).unwrap()
    }

    /// A daemon with a push job that takes snapshots so.
    pub(crate) fn start_push(&self, snapshotting: Snapshotted) -> Daemon {
        let mut config = config::parse("zrepl.yml", &push_and_sink("{type: manual}")).unwrap().config;
        let jobs = config.jobs.iter_mut().filter_map(|job| if let Job::Push(push) = job { Some(push) } else { None });
        jobs.for_each(|push| push.snapshotting = snapshotting.clone());
        Daemon::start(config, self.world.clone()).unwrap()
    }
}

pub(crate) fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

pub(crate) fn version(name: &str) -> VersionName {
    VersionName::parse(name).unwrap()
}

/// A push job to a sink of the same daemon, without a control socket.
pub(crate) fn push_and_sink(snapshotting: &str) -> String {
    format!(
        r#"
global: {{control: {{sockpath: ""}}}}
jobs:
  - name: push
    type: push
    connect: {{type: local, listener_name: l, client_identity: me}}
    filesystems: {{"src<": true}}
    snapshotting: {snapshotting}
    pruning: {{keep_sender: [{{type: last_n, count: 2}}], keep_receiver: [{{type: last_n, count: 3}}]}}
  - name: sink
    type: sink
    root_fs: dst/backup
    serve: {{type: local, listener_name: l}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#
    )
}
