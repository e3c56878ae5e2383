//! How important what happened is. Asked for every event, so nothing is put into words here.

use config::types::LogLevel::{self, Debug, Error, Info, Warn};
use model::event::{Event, Hook, OutputStream, ProtectionOutcome, Pruning, Receiving, Replication, Snapshotting, What};

/// How important the line for an event is, if it deserves one.
pub(crate) fn level_of(event: &Event) -> Option<LogLevel> {
    Some(match &event.what {
        What::DaemonStarted { .. } | What::DaemonStopping { .. } | What::DaemonStopped => Info,
        What::JobStarted | What::JobStopped => Info,
        What::CommandStarted { .. } | What::CommandFinished { .. } => Debug,
        What::Snapshotting(what) => snapshotting(what),
        What::Hook { what, .. } => return hook(what),
        What::InvocationStarted { .. } | What::InvocationFinished { .. } => Info,
        What::SleepsUntil { .. } | What::Unmatched { .. } | What::Stored { .. } => return None,
        What::Replication(what) => return replication(what),
        What::Pruning { what, .. } => return pruning(what),
        What::Protection { outcome: ProtectionOutcome::Made | ProtectionOutcome::Removed, .. } => Debug,
        What::Protection { outcome: ProtectionOutcome::Failed(_), .. } => Error,
        What::Receiving { what: Receiving::Started | Receiving::Finished, .. } => Debug,
        // The job that sends tries again, or tells it as an error.
        What::Receiving { what: Receiving::Failed(_), .. } => Warn,
        What::Listening { problem: None, .. } => Info,
        What::Listening { problem: Some(_), .. } => Error,
        What::Note { .. } => Info,
        What::Warning { .. } => Warn,
        What::Error { .. } => Error,
    })
}

fn snapshotting(what: &Snapshotting) -> LogLevel {
    match what {
        Snapshotting::State { error: Some(_), .. } | Snapshotting::Taken { result: Err(_), .. } => Error,
        Snapshotting::Missed { .. } => Warn,
        Snapshotting::HooksFinished { had_error: false, .. } | Snapshotting::Taken { result: Ok(()), .. } => Info,
        // Each error of the hooks is told by itself.
        Snapshotting::HooksFinished { had_error: true, .. }
        | Snapshotting::State { error: None, .. }
        | Snapshotting::HooksStarted { .. }
        | Snapshotting::RoundStarted { .. }
        | Snapshotting::RoundFinished => Debug,
    }
}

fn hook(what: &Hook) -> Option<LogLevel> {
    Some(match what {
        Hook::Failed { .. } => Error,
        // The lines about its failure and about the snapshot say so.
        Hook::Prevented { .. } => Debug,
        Hook::Output { stream: OutputStream::Stderr, .. } | Hook::OutputCut { .. } | Hook::Interrupted => Warn,
        Hook::Output { stream: OutputStream::Stdout, .. }
        | Hook::PreEdges
        | Hook::Statement { .. }
        | Hook::Callback
        | Hook::PostEdges
        | Hook::PostSkipped { .. } => Info,
    })
}

fn replication(what: &Replication) -> Option<LogLevel> {
    Some(match what {
        Replication::PlanFailed { .. }
        | Replication::ReconnectFailed { .. }
        | Replication::Conflicted { .. }
        | Replication::StepFailed { will_retry: false, .. } => Error,
        Replication::Reconnecting { .. }
        | Replication::Discarding { .. }
        | Replication::Resolving { .. }
        | Replication::DestroyedToResolve { .. }
        | Replication::Resolved { .. }
        | Replication::StepFailed { will_retry: true, .. } => Warn,
        Replication::Planned { plan } if plan.filesystems.is_empty() => Warn,
        Replication::Planned { .. }
        | Replication::Reconnected
        | Replication::StepFinished { .. }
        | Replication::Confirmed { .. } => Info,
        Replication::AttemptStarted
        | Replication::Replanned { .. }
        | Replication::StepStarted { .. }
        | Replication::AttemptFinished => Debug,
        Replication::Blocked { .. } | Replication::StepProgress { .. } => return None,
    })
}

fn pruning(what: &Pruning) -> Option<LogLevel> {
    Some(match what {
        Pruning::PlanFailed { .. } => Error,
        Pruning::Destroyed { .. } => Info,
        Pruning::Filesystem { failed, .. } if !failed.is_empty() => Error,
        Pruning::Filesystem { destroyed, .. } if destroyed.is_empty() => return None,
        Pruning::Started | Pruning::Planned { .. } | Pruning::Filesystem { .. } | Pruning::Finished => Debug,
    })
}
