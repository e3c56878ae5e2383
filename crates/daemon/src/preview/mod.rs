//! What the next invocation of a job would do, by the planners that the invocation itself uses.
//!
//! Looking lists both sides and asks ZFS for sizes; nothing is changed, and nothing is told to the
//! log or the status report. Each plan stands on the one before it: sends are planned as if the
//! snapshots had been taken, pruning as if the sends had arrived.

mod apply;
mod assemble;
mod present;
mod report;
mod timing;

use std::sync::{Arc, Mutex, PoisonError};

use config::Config;
use config::types::{Concurrency, Job, PullJob, PushJob, Serve, SnapJob, Snapshotting};
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use model::JobName;
use model::event::{Event, What};
use model::protection::ProtectionPolicy;
use model::view::View;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use wire::control::Role;
use wire::local::Listener;
use wire::{CallError, Endpoint, SendRequest};
use zfs::{SendArgs, SendFlags, SendSource, Zfs};

use crate::daemon::World;
use crate::endpoint::{Receiver, Sender, Sink, Source};
use crate::events::{Events, Reader};
use crate::hooks::HookRunner;
use crate::job::transport::connector;
use crate::job::{pull, push, sink, snap, source};
use crate::limits::{PREVIEW_ESTIMATES, PREVIEW_ESTIMATING, PREVIEW_LOOK};
use assemble::Sizeable;

pub use present::{Present, present};
pub use report::{
    FilesystemPreview, HookPreview, JobPreview, NextRound, Preview, PruningPreview, Rejected, ReplicationPreview,
    ResolutionPreview, Side, SidePreview, Size, SnapshotPreview, StepPreview, Summary, VERSION, Verdict,
};

/// What to preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// One job; none for all that do something by themselves.
    pub job: Option<String>,
    /// Whether to ask ZFS how large streams would be, which takes a process per step.
    pub estimate: bool,
}

/// Why there is no preview.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WishError {
    /// No such job.
    #[error("job {0:?} not defined in config")]
    UnknownJob(String),
    /// A sink waits for its clients.
    #[error("job {0:?} only receives what its clients send: look at the plans of the jobs that send to it")]
    Passive(String),
    /// A source waits for its clients.
    #[error("job {0:?} only sends what its clients ask for: look at the plans of the jobs that pull from it")]
    Source(String),
}

/// Serves the sinks and sources of a configuration in a world without a daemon, until the result is
/// dropped.
///
/// # Errors
/// Two of them have the same `listener_name`.
pub fn serve_all(config: &Config, world: &World) -> Result<Vec<Listener>, wire::local::NameTaken> {
    let events = |job: &JobName| Events::new(world.clock.clone(), world.readers.clone()).of_job(job);
    // Other listeners are for daemons only.
    let serve = |job: &Job| match job {
        Job::Sink(job) => {
            let Serve::Local(serve) = &job.serve else { return None };
            let service = Sink::new(Arc::clone(&world.zfs), events(&job.name), sink::receiver_config(job));
            Some(world.network.listen(&serve.listener_name, service))
        }
        Job::Source(job) => {
            let Serve::Local(serve) = &job.serve else { return None };
            let sender = Sender::new(Arc::clone(&world.zfs), events(&job.name), source::sender_config(job));
            // Nothing is ever sent.
            let service = Source::new(sender, events(&job.name), CancellationToken::new());
            Some(world.network.listen(&serve.listener_name, service))
        }
        _ => None,
    };
    config.jobs.iter().filter_map(serve).collect()
}

/// What the next invocations would do, with the listings of now.
///
/// # Errors
/// The job is none that does something by itself. What cannot be looked at is no error but said in the
/// preview.
pub async fn preview(jobs: &[Job], world: &World, wish: &Wish) -> Result<Preview, WishError> {
    let mut previews = Vec::new();
    for job in wanted(jobs, wish.job.as_deref())? {
        let now = world.clock.now();
        match job {
            Job::Push(job) => previews.push(preview_push(job, world, now, wish.estimate).await),
            Job::Snap(job) => previews.push(preview_snap(job, world, now).await),
            Job::Pull(job) => {
                previews.push(preview_pull(job, world, now, wish.estimate).await);
            }
            Job::Sink(_) | Job::Source(_) => {}
        }
    }
    Ok(Preview { version: VERSION, jobs: previews })
}

fn wanted<'a>(jobs: &'a [Job], name: Option<&str>) -> Result<Vec<&'a Job>, WishError> {
    let Some(name) = name else { return Ok(jobs.iter().collect()) };
    match jobs.iter().find(|job| job.name().as_str() == name) {
        None => Err(WishError::UnknownJob(name.to_owned())),
        Some(Job::Sink(_)) => Err(WishError::Passive(name.to_owned())),
        Some(Job::Source(_)) => Err(WishError::Source(name.to_owned())),
        Some(job) => Ok(vec![job]),
    }
}

async fn preview_push(job: &PushJob, world: &World, now: Timestamp, estimate: bool) -> JobPreview {
    let warnings = Arc::new(Warnings::default());
    let (sender, receiver) = look_at_both(job, world, &warnings).await;
    let hooks = hooks(&job.snapshotting, warnings.events(world));
    let (mut preview, sizeable) = assemble::replicating(&job.into(), now, &hooks, sender, receiver);
    if estimate {
        let flags = push::sender_config(job).send.effective_flags();
        set_sizes(&mut preview, &Scales::Here(&*world.zfs, flags), sizeable, job.concurrency).await;
    }
    preview.warnings.splice(0..0, warnings.taken());
    preview
}

async fn preview_pull(job: &PullJob, world: &World, now: Timestamp, estimate: bool) -> JobPreview {
    let warnings = Arc::new(Warnings::default());
    let (source, sender, receiver) = look_at_pulled(job, world, &warnings).await;
    let none = HookRunner::new(Vec::new(), warnings.events(world));
    let (mut preview, sizeable) = assemble::replicating(&job.into(), now, &none, sender, receiver);
    if let Some(source) = source.filter(|_| estimate) {
        set_sizes(&mut preview, &Scales::There(&*source), sizeable, job.concurrency).await;
    }
    preview.warnings.splice(0..0, warnings.taken());
    preview
}

async fn set_sizes(preview: &mut JobPreview, scales: &Scales<'_>, sizeable: Vec<Sizeable>, concurrency: Concurrency) {
    for (one, size) in estimate_all(scales, sizeable, concurrency.size_estimates.get()).await {
        set_size(preview, &one, size);
    }
    preview.count();
}

/// The sender, and the receiver wherever it is.
async fn look_at_both(
    job: &PushJob,
    world: &World,
    warnings: &Arc<Warnings>,
) -> (Result<View, String>, Result<View, String>) {
    let sender = Sender::new(Arc::clone(&world.zfs), warnings.events(world), push::sender_config(job));
    let other = connector(&job.name, &job.connect, Role::Receiver, world, &warnings.events(world));
    let receiver = async { other.connect().await?.list().await };
    tokio::join!(look("the sender", sender.list()), look("the receiver", receiver))
}

/// Gives the sender, too, if it could be reached.
async fn look_at_pulled(
    job: &PullJob,
    world: &World,
    warnings: &Arc<Warnings>,
) -> (Option<Arc<dyn Endpoint>>, Result<View, String>, Result<View, String>) {
    let receiver = Receiver::new(Arc::clone(&world.zfs), warnings.events(world), pull::receiver_config(job));
    let other = connector(&job.name, &job.connect, Role::Sender, world, &warnings.events(world));
    let mut source = None;
    let sender = async { source.insert(other.connect().await?).list().await };
    let (sender, receiver) = tokio::join!(look("the sender", sender), look("the receiver", receiver.list()));
    (source, sender, receiver)
}

async fn look_at_one(job: &SnapJob, world: &World, warnings: &Arc<Warnings>) -> Result<View, String> {
    let endpoint = Sender::new(Arc::clone(&world.zfs), warnings.events(world), snap::sender_config(job));
    look("the filesystems", endpoint.list()).await
}

async fn preview_snap(job: &SnapJob, world: &World, now: Timestamp) -> JobPreview {
    let warnings = Arc::new(Warnings::default());
    let view = look_at_one(job, world, &warnings).await;
    let mut preview = assemble::snap(job, now, &hooks(&job.snapshotting, warnings.events(world)), view);
    preview.warnings.splice(0..0, warnings.taken());
    preview
}

/// What would run around snapshots; nothing of it is run.
fn hooks(snapshotting: &Snapshotting, events: Events) -> HookRunner {
    let hooks = match snapshotting {
        Snapshotting::Periodic { hooks, .. } | Snapshotting::Cron { hooks, .. } => hooks.clone(),
        Snapshotting::Manual => Vec::new(),
    };
    HookRunner::new(hooks, events)
}

async fn look(what: &str, list: impl Future<Output = Result<View, CallError>>) -> Result<View, String> {
    match tokio::time::timeout(PREVIEW_LOOK, list).await {
        Ok(listed) => listed.map_err(|error| format!("cannot look at {what}: {error}")),
        Err(_) => Err(format!("gave up looking at {what} after {PREVIEW_LOOK:?}")),
    }
}

/// Who tells how large a stream would be.
enum Scales<'a> {
    /// This machine's ZFS, for streams with these options.
    Here(&'a dyn Zfs, SendFlags),
    /// The side that sends. zrepl tells it, too.
    There(&'a dyn Endpoint),
}

/// Asks for the sizes of the first streams, a few at a time and not for ever; the rest stays unknown.
async fn estimate_all(scales: &Scales<'_>, mut sizeable: Vec<Sizeable>, at_once: usize) -> Vec<(Sizeable, Size)> {
    sizeable.truncate(PREVIEW_ESTIMATES);
    let end = tokio::time::sleep(PREVIEW_ESTIMATING);
    let sizes = stream::iter(sizeable).map(|one| async move {
        let size = match scales.estimate(&one).await {
            Ok(Some(bytes)) => Size::Bytes(bytes.saturating_sub(one.received)),
            Ok(None) => Size::Unknown("ZFS gives no estimate".to_owned()),
            Err(error) => Size::Unknown(error),
        };
        (one, size)
    });
    sizes.buffer_unordered(at_once).take_until(end).collect().await
}

impl Scales<'_> {
    /// Of a step that resumes, too, the whole: to ask with its token may take ZFS a walk through the pool.
    async fn estimate(&self, one: &Sizeable) -> Result<Option<u64>, String> {
        let Sizeable { filesystem, from, to, .. } = one;
        let (filesystem, from, to) = (filesystem.clone(), from.clone(), to.clone());
        match self {
            Scales::Here(zfs, flags) => {
                let source = SendSource::Snapshot { from, to, flags: *flags };
                let args = SendArgs { dataset: filesystem, source };
                zfs.estimate_send(&args).await.map_err(|error| error.to_string())
            }
            Scales::There(sender) => {
                let protection = ProtectionPolicy::default();
                let request = SendRequest { filesystem, from, to, resume_token: None, protection };
                sender.estimate(&request).await.map_err(|error| error.to_string())
            }
        }
    }
}

fn set_size(preview: &mut JobPreview, one: &Sizeable, size: Size) {
    let mut filesystems = preview.filesystems.iter_mut();
    let found = filesystems.find(|filesystem| filesystem.filesystem == one.filesystem.as_str());
    let Some(ReplicationPreview::Send { steps, .. }) = found.and_then(|found| found.replication.as_mut()) else {
        return;
    };
    if let Some(step) = steps.get_mut(one.step) {
        step.size = size;
    }
}

/// What endpoints warn of while a preview looks, for the preview instead of the log.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    fn events(self: &Arc<Self>, world: &World) -> Events {
        Events::new(world.clock.clone(), vec![Arc::clone(self) as Arc<dyn Reader>])
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reader for Warnings {
    fn read(&self, event: &Event) {
        if let What::Warning { message, .. } = &event.what {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
        }
    }
}
