//! The push job: snapshots, sends to a sink, and prunes both sides.

use std::sync::Arc;

use config::types::{Connect, LocalConnect, PushJob, SendOptions};
use model::JobName;
use wire::{Connector, Endpoint};

use super::{Context, tell_not_cleaned};
use crate::act::{Invocation, replicate_and_prune};
use crate::bandwidth::Bandwidth;
use crate::daemon::{Shared, World};
use crate::dispatch::{Slot, Start};
use crate::endpoint::{SendPolicy, Sender, SenderConfig};

pub(super) fn start(job: PushJob, shared: &Shared) -> Slot {
    let Connect::Local(connect) = &job.connect else { return Slot::passive() };
    let context = Context::new(&job.name, shared);
    let sender: Arc<dyn Endpoint> = Sender::new(Arc::clone(&context.zfs), context.events.clone(), sender_config(&job));
    let receiver = receiver(&job.name, connect, &shared.world);
    let snapshots = context.spawn_snapshotter(job.snapshotting.clone(), job.filesystems.clone());
    let prepare = clean_stale_protections(context.clone(), Arc::clone(&sender));
    let invocations = context.clone();
    let slot = context.spawn_invocations(prepare, move |start| {
        let Start { number, cancel } = start;
        replicate_and_prune(Invocation {
            number,
            events: invocations.events.clone(),
            sender: Arc::clone(&sender),
            receiver: Arc::clone(&receiver),
            policy: job.replication,
            step_concurrency: job.concurrency.steps,
            keep_sender: job.pruning.keep_sender.clone(),
            keep_receiver: job.pruning.keep_receiver.clone(),
            attempts: invocations.shared.world.tuning.attempts,
            reconnect_window: invocations.shared.world.tuning.reconnect_window,
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

/// The job's way to its sink.
pub(crate) fn receiver(job: &JobName, connect: &LocalConnect, world: &World) -> Arc<dyn Connector> {
    let connector =
        world.network.connector(&connect.listener_name, connect.client_identity.clone(), connect.dial_timeout);
    (world.connector)(job, Arc::new(connector))
}

/// Removes what a crash left behind. A failure only leaves it where it is.
async fn clean_stale_protections(context: Context, sender: Arc<dyn Endpoint>) {
    if let Err(error) = sender.clean_stale_protections().await {
        tell_not_cleaned(&context, &error);
    }
}
