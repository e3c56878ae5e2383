//! Reads the daemons' events into the trace, and tells the watch of prune plans.

use std::sync::{Arc, Weak};

use daemon::events::Reader;
use model::event::{Event, Pruning, Replication, What};
use model::plan::replication::{FilesystemAction, FilesystemPlan};

use crate::process::Host;
use crate::room::Room;

/// A reader of one daemon's events.
pub struct Listener {
    host: Host,
    room: Weak<Room>,
}

impl Listener {
    /// For the daemon of a machine.
    pub fn new(host: Host, room: &Arc<Room>) -> Self {
        Self { host, room: Arc::downgrade(room) }
    }
}

impl Reader for Listener {
    fn read(&self, event: &Event) {
        let Some(room) = self.room.upgrade() else { return };
        let tell = |text: &dyn std::fmt::Display| room.trace.tell(self.host, format_args!("  {text}"));
        match &event.what {
            What::Replication(Replication::StepProgress { .. } | Replication::Blocked { .. }) => {}
            What::Replication(Replication::Planned { plan }) => {
                room.watch(|watch| watch.announced_resolutions(&plan.filesystems));
                tell_replication(&plan.filesystems, &tell);
            }
            What::Replication(Replication::Replanned { plan, .. }) => {
                let plan = std::slice::from_ref(&**plan);
                room.watch(|watch| watch.announced_resolutions(plan));
                tell_replication(plan, &tell);
            }
            What::Pruning { side, what: Pruning::Planned { plan } } => {
                room.watch(|watch| watch.announced(plan));
                for filesystem in plan.filesystems.iter().filter(|filesystem| filesystem.destroys().next().is_some()) {
                    let names: Vec<String> = filesystem.destroys().map(ToString::to_string).collect();
                    tell(&format_args!("prune plan ({side:?}) {}: {}", filesystem.name, names.join(" ")));
                }
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
