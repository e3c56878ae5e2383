//! The push job: snapshots, sends to a sink, and prunes both sides.

use std::sync::Arc;

use config::types::{Connect, PushJob};
use wire::{Endpoint, SameProcess};

use super::{Context, clean_up, connector, send_policy};
use crate::act::{Invocation, replicate_and_prune};
use crate::bandwidth::Bandwidth;
use crate::daemon::Shared;
use crate::dispatch::{Slot, Start};
use crate::endpoint::{Sender, SenderConfig};

pub(super) fn start(job: PushJob, shared: &Shared) -> Slot {
    let Connect::Local(connect) = &job.connect else { return Slot::passive() };
    let context = Context::new(&job.name, shared);
    let sender = Sender::with_stall(
        Arc::clone(&context.zfs),
        context.events.clone(),
        sender_config(&job),
        shared.world.tuning.endpoint_stall,
    );
    let receiver = connector(&job.name, connect, &shared.world);
    let snapshots = context.spawn_snapshotter(job.snapshotting.clone(), job.filesystems.clone());
    let (cleaned, jobs) = (Arc::clone(&sender), Arc::clone(&shared.configured_jobs));
    let prepare = clean_up(context.clone(), async move { cleaned.clean_and_warn(&jobs).await });
    let sender: Arc<dyn Endpoint> = sender;
    let invocations = context.clone();
    let slot = context.spawn_invocations(prepare, move |start| {
        let Start { number, cancel } = start;
        replicate_and_prune(Invocation {
            number,
            events: invocations.events.clone(),
            sender: Arc::new(SameProcess(Arc::clone(&sender))),
            receiver: Arc::clone(&receiver),
            policy: job.replication,
            step_concurrency: job.concurrency.steps,
            keep_sender: job.pruning.keep_sender.clone(),
            keep_receiver: job.pruning.keep_receiver.clone(),
            attempts: invocations.shared.world.tuning.attempts,
            reconnect_window: invocations.shared.world.tuning.reconnect_window,
            patience: invocations.shared.world.tuning.patience,
            cancel,
        })
    });
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
