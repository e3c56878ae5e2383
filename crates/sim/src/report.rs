//! Reads the daemons' events into the trace, and tells the watch of plans and panics.

use std::sync::{Arc, Weak};

use daemon::events::Reader;
use model::event::{Event, Pruning, Replication, What};
use model::plan::replication::{FilesystemAction, FilesystemPlan};

use crate::check::{Actor, Watch};
use crate::process::{Host, Process};
use crate::room::Room;

/// A reader of the events of one life of a daemon.
pub struct Reporter {
    host: Host,
    process: Process,
    room: Weak<Room>,
}

impl Reporter {
    /// For the daemon of a machine that is this process.
    pub fn new(host: Host, process: Process, room: &Arc<Room>) -> Self {
        Self { host, process, room: Arc::downgrade(room) }
    }
}

impl Reader for Reporter {
    fn read(&self, event: &Event) {
        let Some(room) = self.room.upgrade().filter(|_| self.process.is_alive()) else { return };
        let actor = event.job.clone().map(|job| (self.host, job));
        let watched = |tell: &dyn Fn(&mut Watch, &Actor)| {
            if let Some(actor) = &actor {
                room.watch(|watch| tell(watch, actor));
            }
        };
        let tell = |text: &dyn std::fmt::Display| room.trace.tell(self.host, format_args!("  {text}"));
        match &event.what {
            What::Replication(Replication::StepProgress { .. } | Replication::Blocked { .. }) => {}
            What::Replication(Replication::Planned { plan }) => {
                watched(&|watch, actor| watch.announced_resolutions(actor, &plan.filesystems));
                tell_replication(&plan.filesystems, &tell);
            }
            What::Replication(Replication::Replanned { plan, .. }) => {
                let plan = std::slice::from_ref(&**plan);
                watched(&|watch, actor| watch.announced_resolutions(actor, plan));
                tell_replication(plan, &tell);
            }
            What::Pruning { side, what: Pruning::Planned { plan } } => {
                watched(&|watch, actor| watch.announced(actor, plan));
                for filesystem in plan.filesystems.iter().filter(|filesystem| filesystem.destroys().next().is_some()) {
                    let names: Vec<String> = filesystem.destroys().map(ToString::to_string).collect();
                    tell(&format_args!("prune plan ({side:?}) {}: {}", filesystem.name, names.join(" ")));
                }
            }
            What::Error { message, .. } if message.contains("panicked") => {
                room.watch(|watch| watch.violated(message.clone()));
                tell(&format_args!("UNSAFE {message}"));
            }
            What::Protection { object, outcome } => tell(&format_args!("{outcome:?}: {object}")),
            other => tell(&format_args!("{other:?}")),
        }
    }
}

fn tell_replication(plans: &[FilesystemPlan], tell: &dyn Fn(&dyn std::fmt::Display)) {
    for filesystem in plans {
        match &filesystem.action {
            FilesystemAction::Nothing(_) => {}
            FilesystemAction::Steps { discard, resolution, steps, .. } => {
                let step = |step: &model::plan::replication::Step| {
                    let from = step.from.as_ref().map(ToString::to_string).unwrap_or_default();
                    format!("{from}→{}{}", step.to, if step.resume_token.is_some() { " (resumed)" } else { "" })
                };
                let steps: Vec<String> = steps.iter().map(step).collect();
                let resolution = resolution.as_ref().map(|resolution| format!(" {resolution}")).unwrap_or_default();
                tell(&format_args!("plan {}: {} discard {discard:?}{resolution}", filesystem.name, steps.join(", ")));
            }
            action => tell(&format_args!("plan {}: {action:?}", filesystem.name)),
        }
    }
}
