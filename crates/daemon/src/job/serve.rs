//! What jobs that serve others have in common.

use std::sync::Arc;

use config::types::LocalServe;
use model::event::What;
use wire::Service;

use super::Context;

/// Serves clients of the same daemon until it stops. If another job has the name already, that is told
/// and this job has no clients.
pub(super) fn local(context: &Context, serve: &LocalServe, service: Arc<dyn Service>) {
    // Served before the first client looks for it.
    let listener = context.shared.world.network.listen(&serve.listener_name, service);
    let task = context.clone();
    context.spawn("listener", async move {
        task.events.tell(What::JobStarted);
        match listener {
            Ok(listener) => {
                task.shared.jobs.cancelled().await;
                drop(listener);
            }
            Err(taken) => {
                let message = format!("cannot listen: {taken}");
                task.events.tell(What::Error { subsystem: "job", message });
            }
        }
        task.events.tell(What::JobStopped);
    });
}
