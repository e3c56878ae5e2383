//! The push job: snapshots, sends to a sink, and prunes both sides.

use std::sync::Arc;

use config::types::PushJob;
use wire::SameProcess;
use wire::control::Role;

use super::transport::connector;
use super::{Context, Replicating, clean_up, send_policy};
use crate::bandwidth::Bandwidth;
use crate::daemon::Shared;
use crate::dispatch::Slot;
use crate::endpoint::{Sender, SenderConfig};

pub(super) fn start(job: PushJob, shared: &Shared) -> Slot {
    let context = Context::new(&job.name, shared);
    let sender = Sender::with_stall(
        Arc::clone(&context.zfs),
        context.events.clone(),
        sender_config(&job),
        shared.world.tuning.endpoint_stall,
    );
    let receiver = connector(&job.name, &job.connect, Role::Receiver, &shared.world, &context.events);
    let snapshots = context.spawn_snapshotter(job.snapshotting.clone(), job.filesystems.clone());
    let (cleaned, jobs) = (Arc::clone(&sender), Arc::clone(&shared.configured_jobs));
    let prepare = clean_up(context.clone(), async move { cleaned.clean_and_warn(&jobs).await });
    let replicating = Replicating {
        sender: Arc::new(SameProcess(sender)),
        receiver,
        policy: job.replication,
        steps: job.concurrency.steps,
        pruning: job.pruning,
    };
    let slot = context.spawn_replicating(prepare, replicating);
    slot.with(snapshots)
}

/// What the job's sender is made of.
pub(crate) fn sender_config(job: &PushJob) -> SenderConfig {
    SenderConfig {
        job: job.name.clone(),
        filesystems: job.filesystems.clone(),
        send: send_policy(&job.send),
        bandwidth: Bandwidth::limited(&job.send.bandwidth_limit),
    }
}
