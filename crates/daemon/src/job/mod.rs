//! Jobs: when something is done. What is done is in `act`.

mod cron;
mod periodic;
pub(crate) mod pull;
pub(crate) mod push;
mod serve;
pub(crate) mod sink;
pub(crate) mod snap;
mod snapshotter;
pub(crate) mod source;
pub(crate) mod transport;

use std::future::{Future, pending};
use std::num::NonZeroUsize;
use std::sync::Arc;

use config::types::{Job, PlaceholderEncryption, Pruning, RecvOptions, SendOptions, Snapshotting};
use model::event::{InvocationSummary, What};
use model::plan::replication::ReplicationPolicy;
use model::{DatasetName, FilesystemFilter, JobName};
use tokio::sync::mpsc;
use wire::{CallError, Connector};
use zfs::Zfs;

use crate::act::{Invocation, replicate_and_prune};
use crate::bandwidth::Bandwidth;
use crate::daemon::{Shared, failed_invocation};
use crate::dispatch::{Slot, SnapshotRequests, Snapshots, Start};
use crate::endpoint::{ReceiverConfig, SendPolicy};
use crate::events::Events;
use crate::hooks::HookRunner;
use crate::tasks::catch;
use snapshotter::{Rhythm, Rounds};

/// Starts a job's tasks; what the dispatcher has to know of it. A daemon whose configuration asks for
/// more than this version can do does not get as far as this.
pub(crate) fn start(job: Job, shared: &Shared) -> Slot {
    match job {
        Job::Push(job) => push::start(job, shared),
        Job::Sink(job) => sink::start(job, shared),
        Job::Snap(job) => snap::start(job, shared),
        Job::Pull(job) => pull::start(job, shared),
        Job::Source(job) => source::start(job, shared),
    }
}

/// Tells that a job's start left protections where a crash had left them. They are looked at again at the
/// next start, and those of a filesystem when it is replicated.
fn tell_not_cleaned(context: &Context, error: &CallError) {
    let message = format!(
        "nothing could be cleaned up after an earlier crash, if there was one: {error}; each filesystem is when it is \
         replicated, all are when the job starts again"
    );
    context.events.tell(What::Note { subsystem: "endpoint", message });
}

/// A job and what it needs of the daemon.
#[derive(Clone)]
pub(crate) struct Context {
    pub name: JobName,
    /// The daemon's events, as this job's.
    pub events: Events,
    /// The pools, as this job's.
    pub zfs: Arc<dyn Zfs>,
    pub shared: Shared,
}

impl Context {
    fn new(name: &JobName, shared: &Shared) -> Context {
        let events = shared.events.of_job(name);
        let zfs = (shared.world.job_zfs)(Arc::clone(&shared.world.zfs), &events);
        Context { name: name.clone(), events, zfs, shared: shared.clone() }
    }

    /// Runs a task of the job. Its panic ends the task alone.
    fn spawn(&self, what: &str, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.shared.job_tasks.track_future(task);
        self.shared.tasks.spawn(&format!("{what} of job {}", self.name), &self.events, task);
    }

    /// Runs the snapshotter that the configuration asks for; where the dispatcher asks it for rounds.
    fn spawn_snapshotter(&self, snapshotting: Snapshotting, filesystems: FilesystemFilter) -> Snapshots {
        let (naming, hooks, rhythm) = match snapshotting {
            Snapshotting::Manual => return Snapshots::ByOthers,
            Snapshotting::Cron { naming, cron, hooks } => (naming, hooks, Rhythm::At(cron)),
            Snapshotting::Periodic { naming, interval, hooks } => (naming, hooks, Rhythm::Every(interval)),
        };
        let hooks = HookRunner::new(hooks, self.events.clone())
            .with_tasks(self.shared.undoing.clone())
            .with_log_limit(self.shared.world.tuning.hook_log_bytes);
        let requests = SnapshotRequests::default();
        let rounds = Rounds { context: self.clone(), naming, filesystems, hooks, requests: requests.clone() };
        self.spawn("snapshotter", snapshotter::run(rounds, rhythm));
        Snapshots::OnRequest(requests)
    }

    /// Runs an invocation whenever the dispatcher says so, until the daemon stops. `prepare` comes
    /// once before the first, which a reset ends without waiting for that.
    fn spawn_invocations<Prepare, Invoke, Invocation>(&self, prepare: Prepare, mut invoke: Invoke) -> Slot
    where
        Prepare: Future<Output = ()> + Send + 'static,
        Invoke: FnMut(Start) -> Invocation + Send + 'static,
        Invocation: Future<Output = InvocationSummary> + Send,
    {
        let (starts, mut inbox) = mpsc::channel::<Start>(1);
        let context = self.clone();
        self.spawn("invocations", async move {
            context.events.tell(What::JobStarted);
            let stop = context.shared.jobs.clone();
            let mut prepare = Some(Box::pin(context.prepare(prepare)));
            loop {
                // In a fixed order, so that a simulation repeats itself.
                let start = tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = async { match prepare.as_mut() { Some(preparing) => preparing.await, None => pending().await } } => {
                        prepare = None;
                        continue;
                    }
                    start = inbox.recv() => start,
                };
                let Some(start) = start else { break };
                if let Some(preparing) = prepare.take() {
                    // A reset ends that as well: it may be what hangs.
                    start.cancel.run_until_cancelled(preparing).await;
                }
                let number = start.number;
                let summary = match catch(invoke(start)).await {
                    Ok(summary) => summary,
                    Err(panic) => context.tell_panic(number, &panic),
                };
                context.shared.dispatch.invocation_finished(&context.name, number, summary).await;
            }
            context.events.tell(What::JobStopped);
        });
        Slot::active(starts)
    }

    /// The same for a job that replicates.
    fn spawn_replicating(&self, prepare: impl Future<Output = ()> + Send + 'static, replicating: Replicating) -> Slot {
        let context = self.clone();
        self.spawn_invocations(prepare, move |start| replicate_and_prune(replicating.invocation(start, &context)))
    }

    async fn prepare(&self, prepare: impl Future<Output = ()> + Send) {
        if let Err(panic) = catch(prepare).await {
            let message = format!("the preparation of the job panicked: {panic}; the job goes on without it");
            self.events.tell(What::Error { subsystem: "job", message });
        }
    }

    fn tell_panic(&self, number: u64, panic: &str) -> InvocationSummary {
        let message = format!("invocation {number} panicked: {panic}; the job waits for its next wake-up");
        self.events.tell(What::Error { subsystem: "job", message });
        let summary = failed_invocation();
        self.events.tell(What::InvocationFinished { number, summary: summary.clone() });
        summary
    }
}

/// A job that replicates, from one invocation to the next.
struct Replicating {
    sender: Arc<dyn Connector>,
    receiver: Arc<dyn Connector>,
    policy: ReplicationPolicy,
    /// At a time.
    steps: NonZeroUsize,
    pruning: Pruning,
}

impl Replicating {
    fn invocation(&self, start: Start, context: &Context) -> Invocation {
        let tuning = &context.shared.world.tuning;
        Invocation {
            number: start.number,
            events: context.events.clone(),
            sender: Arc::clone(&self.sender),
            receiver: Arc::clone(&self.receiver),
            policy: self.policy,
            step_concurrency: self.steps,
            keep_sender: self.pruning.keep_sender.clone(),
            keep_receiver: self.pruning.keep_receiver.clone(),
            attempts: tuning.attempts,
            reconnect_window: tuning.reconnect_window,
            patience: tuning.patience,
            drain: context.shared.drain.of_job(&context.name),
            cancel: start.cancel,
        }
    }
}

/// Removes what a crash left behind. A failure only leaves it where it is.
async fn clean_up(context: Context, cleaning: impl Future<Output = Result<usize, CallError>>) {
    if let Err(error) = cleaning.await {
        tell_not_cleaned(&context, &error);
    }
}

/// What the `send` section of a job says.
fn send_policy(send: &SendOptions) -> SendPolicy {
    SendPolicy {
        encrypted: send.encrypted,
        flags: zfs::SendFlags {
            raw: send.raw,
            properties: send.send_properties,
            backup_properties: send.backup_properties,
            large_blocks: send.large_blocks,
            compressed: send.compressed,
            embedded: send.embedded_data,
        },
    }
}

/// What the `recv` section of a job says, without a client.
fn receiver_config(job: &JobName, root: &DatasetName, recv: &RecvOptions) -> ReceiverConfig {
    ReceiverConfig {
        job: job.clone(),
        root: root.clone(),
        client: None,
        placeholders: match recv.placeholder_encryption {
            PlaceholderEncryption::Unspecified => None,
            PlaceholderEncryption::Inherit => Some(zfs::PlaceholderEncryption::Inherit),
            PlaceholderEncryption::Off => Some(zfs::PlaceholderEncryption::Off),
        },
        inherit: recv.inherit.clone(),
        set: recv.override_.clone(),
        bandwidth: Bandwidth::limited(&recv.bandwidth_limit),
    }
}
