//! The sink job: receives what clients send, each below its own part of `root_fs`.

use std::sync::Arc;

use config::types::{PlaceholderEncryption, Serve, SinkJob};
use model::event::What;
use wire::Service;

use super::{Context, tell_not_cleaned};
use crate::bandwidth::Bandwidth;
use crate::daemon::Shared;
use crate::dispatch::Slot;
use crate::endpoint::{ReceiverConfig, Sink};

pub(super) fn start(job: SinkJob, shared: &Shared) -> Slot {
    let Serve::Local(serve) = &job.serve else { return Slot::passive() };
    let context = Context::new(&job.name, shared);
    let service = Sink::new(Arc::clone(&context.zfs), context.events.clone(), receiver_config(&job));
    // Served before the first push job looks for it.
    let listener = shared.world.network.listen(&serve.listener_name, Arc::clone(&service) as Arc<dyn Service>);
    context.clone().spawn("listener", async move {
        context.events.tell(What::JobStarted);
        match listener {
            Ok(listener) => {
                let cleaned = context.shared.jobs.run_until_cancelled(service.clean_stale_protections()).await;
                if let Some(Err(error)) = cleaned {
                    tell_not_cleaned(&context, &error);
                }
                context.shared.jobs.cancelled().await;
                drop(listener);
            }
            Err(taken) => {
                let message = format!("cannot listen: {taken}");
                context.events.tell(What::Error { subsystem: "job", message });
            }
        }
        context.events.tell(What::JobStopped);
    });
    Slot::passive()
}

/// What the job's receivers are made of.
pub(crate) fn receiver_config(job: &SinkJob) -> ReceiverConfig {
    ReceiverConfig {
        job: job.name.clone(),
        root: job.root_fs.clone(),
        client: None,
        placeholders: match job.recv.placeholder_encryption {
            PlaceholderEncryption::Unspecified => None,
            PlaceholderEncryption::Inherit => Some(zfs::PlaceholderEncryption::Inherit),
            PlaceholderEncryption::Off => Some(zfs::PlaceholderEncryption::Off),
        },
        inherit: job.recv.inherit.clone(),
        set: job.recv.override_.clone(),
        bandwidth: Bandwidth::limited(&job.recv.bandwidth_limit),
    }
}
