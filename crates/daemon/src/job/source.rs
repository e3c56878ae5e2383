//! The source job: snapshots, and sends what clients ask for.

use std::sync::Arc;

use config::types::SourceJob;
use tokio_util::sync::CancellationToken;

use super::{Context, clean_up, send_policy, serve};
use crate::bandwidth::Bandwidth;
use crate::daemon::Shared;
use crate::dispatch::Slot;
use crate::endpoint::{Sender, SenderConfig, Source};

pub(super) fn start(job: SourceJob, shared: &Shared) -> Slot {
    let context = Context::new(&job.name, shared);
    let sender = Sender::with_stall(
        Arc::clone(&context.zfs),
        context.events.clone(),
        sender_config(&job),
        shared.world.tuning.endpoint_stall,
    );
    let cleaned = CancellationToken::new();
    let service = Source::new(Arc::clone(&sender), context.events.clone(), cleaned.clone());
    spawn_cleaning(&context, sender, cleaned);
    serve::start(&context, job.serve, service);
    Slot::passive().with(context.spawn_snapshotter(job.snapshotting, job.filesystems))
}

/// Removes what a crash left behind, while clients may connect already but have to wait with their
/// first step: what it needs would look like what was left.
fn spawn_cleaning(context: &Context, sender: Arc<Sender>, cleaned: CancellationToken) {
    // Also if it panics or the daemon stops.
    let over = cleaned.drop_guard();
    let task = context.clone();
    context.spawn("cleaning", async move {
        let _over = over;
        let jobs = task.shared.jobs.clone();
        let configured = Arc::clone(&task.shared.configured_jobs);
        jobs.run_until_cancelled(clean_up(task, async move { sender.clean_and_warn(&configured).await })).await;
    });
}

/// What the job's sender is made of.
pub(crate) fn sender_config(job: &SourceJob) -> SenderConfig {
    SenderConfig {
        job: job.name.clone(),
        filesystems: job.filesystems.clone(),
        send: send_policy(&job.send),
        bandwidth: Bandwidth::limited(&job.send.bandwidth_limit),
    }
}
