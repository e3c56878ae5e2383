//! Jobs: when something is done. What is done is in `act`.

mod cron;
mod periodic;
pub(crate) mod push;
pub(crate) mod sink;
pub(crate) mod snap;
mod snapshotter;

use std::future::Future;
use std::sync::Arc;

use config::types::{Job, Snapshotting};
use model::event::{InvocationSummary, ProtectionOutcome, What};
use model::{FilesystemFilter, JobName};
use tokio::sync::mpsc;
use wire::CallError;
use zfs::Zfs;

use crate::daemon::{Shared, failed_invocation};
use crate::dispatch::{Slot, SnapshotRequests, Snapshots, Start};
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
        Job::Pull(_) | Job::Source(_) => Slot::passive(),
    }
}

/// Tells that a job's start left protections where a crash had left them. They are looked at again at the
/// next start, and those of a filesystem when it is replicated.
fn tell_not_cleaned(context: &Context, error: &CallError) {
    context.events.tell(What::Protection {
        object: format!("stale protections of job {}", context.name),
        outcome: ProtectionOutcome::Failed(error.to_string()),
    });
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
        self.shared.tasks.spawn(&format!("{what} of job {}", self.name), &self.events, task);
    }

    /// Runs the snapshotter that the configuration asks for; where the dispatcher asks it for rounds.
    fn spawn_snapshotter(&self, snapshotting: Snapshotting, filesystems: FilesystemFilter) -> Snapshots {
        let (naming, hooks, rhythm) = match snapshotting {
            Snapshotting::Manual => return Snapshots::ByOthers,
            Snapshotting::Cron { naming, cron, hooks } => (naming, hooks, Rhythm::At(cron)),
            Snapshotting::Periodic { naming, interval, hooks } => (naming, hooks, Rhythm::Every(interval)),
        };
        let hooks = HookRunner::new(hooks, self.events.clone()).with_tasks(self.shared.tasks.clone());
        let requests = SnapshotRequests::default();
        let rounds = Rounds { context: self.clone(), naming, filesystems, hooks, requests: requests.clone() };
        self.spawn("snapshotter", snapshotter::run(rounds, rhythm));
        Snapshots::OnRequest(requests)
    }

    /// Runs an invocation whenever the dispatcher says so, until the daemon stops. `prepare` comes
    /// once before the first.
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
            if let Some(Err(panic)) = stop.run_until_cancelled(catch(prepare)).await {
                let message = format!("the preparation of the job panicked: {panic}; the job goes on without it");
                context.events.tell(What::Error { subsystem: "job", message });
            }
            while let Some(Some(start)) = stop.run_until_cancelled(inbox.recv()).await {
                let number = start.number;
                if let Err(panic) = catch(invoke(start)).await {
                    context.tell_panic(number, &panic);
                }
                context.shared.dispatch.invocation_finished(&context.name).await;
            }
            context.events.tell(What::JobStopped);
        });
        Slot::active(starts)
    }

    fn tell_panic(&self, number: u64, panic: &str) {
        let message = format!("invocation {number} panicked: {panic}; the job waits for its next wake-up");
        self.events.tell(What::Error { subsystem: "job", message });
        self.events.tell(What::InvocationFinished { number, summary: failed_invocation() });
    }
}
