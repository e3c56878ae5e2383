//! The sink job: receives what clients send, each below its own part of `root_fs`.

use std::sync::Arc;

use config::types::SinkJob;
use wire::Service;

use super::{Context, serve, tell_not_cleaned};
use crate::daemon::Shared;
use crate::dispatch::Slot;
use crate::endpoint::{ReceiverConfig, Sink};

pub(super) fn start(job: SinkJob, shared: &Shared) -> Slot {
    let context = Context::new(&job.name, shared);
    let service = Sink::with_stall(
        Arc::clone(&context.zfs),
        context.events.clone(),
        receiver_config(&job),
        shared.world.tuning.endpoint_stall,
    );
    serve::start(&context, job.serve, Arc::clone(&service) as Arc<dyn Service>);
    let task = context.clone();
    context.spawn("cleaning", async move {
        let cleaning = service.clean_and_warn(&task.shared.configured_jobs);
        let cleaned = task.shared.jobs.run_until_cancelled(cleaning).await;
        if let Some(Err(error)) = cleaned {
            tell_not_cleaned(&task, &error);
        }
    });
    Slot::passive()
}

/// What the job's receivers are made of.
pub(crate) fn receiver_config(job: &SinkJob) -> ReceiverConfig {
    super::receiver_config(&job.name, &job.root_fs, &job.recv)
}
