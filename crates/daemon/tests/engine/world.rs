//! Two machines, a job that pushes from one to the other, and what a person does to them.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use daemon::act::{Invocation, replicate_and_prune};
use daemon::clock::Clock;
use daemon::endpoint::{ReceiverConfig, SendPolicy, Sender, SenderConfig, Sink};
use daemon::events::{Events, Reader};
use daemon::limits;
use jiff::Timestamp;
use model::event::{Event, InvocationSummary, Pruning, Replication, What};
use model::filter::Pattern;
use model::plan::prune::KeepRule;
use model::plan::replication::{InitialReplication, ReplicationPolicy};
use model::plan::resolve::ConflictPolicy;
use model::protection::{ProtectionPolicy, ProtectionStrategy};
use model::{ClientIdentity, DatasetName, FilesystemFilter, JobName, UnixTime, VersionName};
use tokio_util::sync::CancellationToken;
use wire::{CallError, Connector, Endpoint, SameProcess, Service};
use zfs::fake::{FakeHost, FakeZfs};
use zfs::{PlaceholderEncryption, Snapshot, Zfs};

pub(crate) const ROOT: &str = "dst/sink";

pub(crate) fn name(text: &str) -> DatasetName {
    DatasetName::parse(text).unwrap()
}

pub(crate) fn short(text: &str) -> VersionName {
    VersionName::parse(text).unwrap()
}

pub(crate) fn job(text: &str) -> JobName {
    JobName::parse(text).unwrap()
}

pub(crate) fn filter(entries: &[&str]) -> FilesystemFilter {
    FilesystemFilter::new(entries.iter().map(|entry| match entry.strip_prefix('!') {
        Some(entry) => (Pattern::parse(entry).unwrap(), false),
        None => (Pattern::parse(entry).unwrap(), true),
    }))
}

pub(crate) fn last_n(count: usize) -> KeepRule {
    KeepRule::LastN { count, regex: None }
}

/// What the job is configured to do.
pub(crate) struct Settings {
    pub(crate) filesystems: FilesystemFilter,
    pub(crate) send: SendPolicy,
    pub(crate) initial: InitialReplication,
    pub(crate) strategy: ProtectionStrategy,
    pub(crate) conflicts: ConflictPolicy,
    pub(crate) placeholders: Option<PlaceholderEncryption>,
    pub(crate) concurrency: usize,
    pub(crate) attempts: u32,
    pub(crate) keep_sender: Vec<KeepRule>,
    pub(crate) keep_receiver: Vec<KeepRule>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            filesystems: filter(&["src<", "!src"]),
            send: SendPolicy::default(),
            initial: InitialReplication::All,
            strategy: ProtectionStrategy::Resumability,
            conflicts: ConflictPolicy::default(),
            placeholders: Some(PlaceholderEncryption::Inherit),
            concurrency: 1,
            attempts: 3,
            keep_sender: Vec::new(),
            keep_receiver: Vec::new(),
        }
    }
}

#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Event>>);

impl Reader for Recorder {
    fn read(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// Both machines. Each daemon's `zfs` has counters and faults of its own.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) source: FakeHost,
    pub(crate) target: FakeHost,
    pub(crate) daemons: Daemons,
    recorder: Arc<Recorder>,
}

/// What dies in a crash.
pub(crate) struct Daemons {
    pub(crate) source_zfs: FakeZfs,
    pub(crate) target_zfs: FakeZfs,
    pub(crate) sender: Arc<Sender>,
    pub(crate) sink: Arc<Sink>,
    pub(crate) events: Events,
}

/// A way to the sink without a network.
pub(crate) struct Direct(pub(crate) Arc<Sink>);

#[async_trait]
impl Connector for Direct {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        self.0.endpoint_for(&ClientIdentity::parse("me").unwrap())
    }
}

impl World {
    /// Pools `src` and `dst`, with `dst/sink` to receive below.
    pub(crate) fn new(settings: Settings) -> Self {
        let now = Arc::new(AtomicI64::new(1_000_000));
        let clock = move || UnixTime(now.fetch_add(1, Ordering::Relaxed));
        let source = FakeHost::new(1, Arc::new(clock.clone()));
        let target = FakeHost::new(2, Arc::new(clock));
        source.create_pool(&name("src")).unwrap();
        target.create_pool(&name("dst")).unwrap();
        target.create_filesystem(&name(ROOT)).unwrap();
        let recorder = Arc::new(Recorder::default());
        let daemons = Daemons::start(&settings, &source, &target, &recorder, limits::STALL);
        Self { settings, source, target, daemons, recorder }
    }

    /// New daemons on the same machines, which remember nothing.
    pub(crate) fn restart(&mut self) {
        self.restart_with_stall(limits::STALL);
    }

    /// The same, which give a stream that stands still up after so long.
    pub(crate) fn restart_with_stall(&mut self, stall: Duration) {
        self.daemons = Daemons::start(&self.settings, &self.source, &self.target, &self.recorder, stall);
    }

    pub(crate) fn create(&self, filesystems: &[&str]) {
        for filesystem in filesystems {
            self.source.create_filesystem(&name(filesystem)).unwrap();
            self.write(filesystem, "first", 10_000);
        }
    }

    /// Writes a file of so many bytes which depend on its name and length.
    pub(crate) fn write(&self, filesystem: &str, file: &str, len: usize) {
        let seed = file.bytes().fold(len, |seed, byte| seed * 31 + usize::from(byte));
        let bytes: Vec<u8> = (0..len).map(|at| u8::try_from((seed + at * at / 7) % 251).unwrap()).collect();
        self.source.write_file(&name(filesystem), file, &bytes).unwrap();
    }

    pub(crate) async fn snapshot(&self, snapshot: &str, filesystems: &[&str]) {
        let snapshots: Vec<Snapshot> = filesystems
            .iter()
            .map(|filesystem| Snapshot { dataset: name(filesystem), name: short(snapshot) })
            .collect();
        for result in self.source.zfs().snapshot(&snapshots).await {
            result.unwrap();
        }
    }

    pub(crate) fn invocation(&self) -> Invocation {
        let settings = &self.settings;
        Invocation {
            number: 1,
            events: self.daemons.events.clone(),
            sender: Arc::new(SameProcess(self.daemons.sender.clone())),
            receiver: Arc::new(Direct(self.daemons.sink.clone())),
            policy: ReplicationPolicy {
                initial: settings.initial,
                protection: ProtectionPolicy { initial: settings.strategy, incremental: settings.strategy },
                conflicts: settings.conflicts,
            },
            step_concurrency: NonZeroUsize::new(settings.concurrency).unwrap(),
            keep_sender: settings.keep_sender.clone(),
            keep_receiver: settings.keep_receiver.clone(),
            attempts: NonZeroU32::new(settings.attempts).unwrap(),
            reconnect_window: limits::RECONNECT_WINDOW,
            patience: daemon::act::Patience::default(),
            drain: daemon::Drain::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// Runs an invocation, which must end by itself within hours of its own time.
    pub(crate) async fn run(&self) -> InvocationSummary {
        let hours = Duration::from_secs(10 * 3600);
        tokio::time::timeout(hours, replicate_and_prune(self.invocation())).await.unwrap()
    }

    /// Runs an invocation that must leave nothing to do and nothing wrong.
    pub(crate) async fn run_well(&self) -> InvocationSummary {
        let summary = self.run().await;
        assert_eq!(summary.errors, 0, "{:#?}", self.failures());
        summary
    }

    /// The same for who looks at the events afterwards; something may go wrong on the way.
    pub(crate) async fn run_well_keeping_events(&self) -> InvocationSummary {
        let summary = self.run().await;
        assert_eq!((summary.errors, summary.replicated), (0, true), "{:#?}", self.failures());
        summary
    }

    /// The events since the last call.
    pub(crate) fn events(&self) -> Vec<What> {
        std::mem::take(&mut *self.recorder.0.lock().unwrap()).into_iter().map(|event| event.what).collect()
    }

    /// What happened to replication since events were taken last.
    pub(crate) fn replication_events(&self) -> Vec<Replication> {
        let only = |what| match what {
            What::Replication(what) => Some(what),
            _ => None,
        };
        self.events().into_iter().filter_map(only).collect()
    }

    /// Whether no child of either daemon is left.
    pub(crate) fn is_quiet(&self) -> bool {
        self.daemons.source_zfs.running().is_empty() && self.daemons.target_zfs.running().is_empty()
    }

    /// What failed since events were taken last, as a person reads it.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failure = |what| match what {
            What::Error { message, .. } => Some(message),
            What::Replication(Replication::ReconnectFailed { error }) => Some(error),
            What::Replication(Replication::PlanFailed { error }) => Some(format!("plan: {error}")),
            What::Replication(Replication::StepFailed { filesystem, error, .. }) => {
                Some(format!("{filesystem}: {error}"))
            }
            What::Replication(Replication::Conflicted { filesystem, conflict }) => {
                Some(format!("{filesystem}: {conflict:?}"))
            }
            What::Pruning { side, what: Pruning::PlanFailed { error } } => Some(format!("prune {side:?}: {error}")),
            What::Pruning { what: Pruning::Filesystem { filesystem, failed, .. }, .. } => {
                failed.first().map(|(snapshot, why)| format!("{filesystem}@{snapshot}: {why}"))
            }
            What::Protection { object, outcome: model::event::ProtectionOutcome::Failed(why) } => {
                Some(format!("{object}: {why}"))
            }
            _ => None,
        };
        self.events().into_iter().filter_map(failure).collect()
    }

    /// Snapshots and bookmarks of a dataset, snapshots with their holds' tags.
    pub(crate) async fn versions(host: &FakeHost, dataset: &str) -> Vec<String> {
        let zfs = host.zfs();
        let Ok(found) = zfs.dataset(&name(dataset)).await else { return vec!["missing".to_owned()] };
        let mut texts = Vec::new();
        for version in found.versions.iter() {
            let snapshot = Snapshot { dataset: name(dataset), name: version.name.clone() };
            let holds = if version.is_snapshot() { zfs.holds(&[snapshot]).await.unwrap() } else { Vec::new() };
            let tags: Vec<&str> = holds.iter().map(|hold| hold.tag.as_str()).collect();
            let guid = format!("{:016x}", version.guid.0);
            let text = version.to_string().replace(&guid, "GUID");
            texts.push(if tags.is_empty() { text } else { format!("{text} {}", tags.join(" ")) });
        }
        texts
    }

    pub(crate) async fn source_versions(&self, filesystem: &str) -> Vec<String> {
        Self::versions(&self.source, filesystem).await
    }

    pub(crate) async fn target_versions(&self, filesystem: &str) -> Vec<String> {
        Self::versions(&self.target, &received(filesystem)).await
    }

    /// Whether the newest snapshots of both sides are the same, content included.
    pub(crate) async fn assert_replicated(&self, filesystem: &str) {
        let here = self.source.zfs().dataset(&name(filesystem)).await.unwrap();
        let there = self.target.zfs().dataset(&name(&received(filesystem))).await.unwrap();
        let newest = |dataset: &zfs::Dataset| dataset.versions.iter().rfind(|v| v.is_snapshot()).unwrap().clone();
        let (newest_here, newest_there) = (newest(&here), newest(&there));
        assert_eq!(newest_here.guid, newest_there.guid, "{filesystem}");
        let hash = |host: &FakeHost, dataset: &str, snapshot: &VersionName| {
            host.snapshot_hash(&Snapshot { dataset: name(dataset), name: snapshot.clone() }).unwrap()
        };
        assert_eq!(
            hash(&self.source, filesystem, &newest_here.name),
            hash(&self.target, &received(filesystem), &newest_there.name),
            "{filesystem}"
        );
        assert_eq!(there.resume_token, None, "{filesystem}");
    }

    /// The child processes that the daemons started so far, both sides.
    pub(crate) fn processes(&self) -> u64 {
        [&self.daemons.source_zfs, &self.daemons.target_zfs]
            .into_iter()
            .flat_map(|zfs| zfs.faults().processes().into_values())
            .sum()
    }
}

/// Where a filesystem of the sender arrives.
pub(crate) fn received(filesystem: &str) -> String {
    format!("{ROOT}/me/{filesystem}")
}

impl Daemons {
    fn start(
        settings: &Settings,
        source: &FakeHost,
        target: &FakeHost,
        recorder: &Arc<Recorder>,
        stall: Duration,
    ) -> Self {
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let events = Events::new(clock, vec![Arc::clone(recorder) as Arc<dyn Reader>]);
        let (source_zfs, target_zfs) = (source.zfs(), target.zfs());
        let sender = Sender::with_stall(
            Arc::new(source_zfs.clone()),
            events.clone(),
            SenderConfig {
                job: job("push"),
                filesystems: settings.filesystems.clone(),
                send: settings.send,
                bandwidth: Default::default(),
            },
            stall,
        );
        let sink = Sink::with_stall(
            Arc::new(target_zfs.clone()),
            events.clone(),
            ReceiverConfig {
                job: job("sink"),
                root: name(ROOT),
                client: None,
                placeholders: settings.placeholders,
                inherit: Vec::new(),
                set: Vec::new(),
                bandwidth: Default::default(),
            },
            stall,
        );
        Self { source_zfs, target_zfs, sender, sink, events }
    }
}
