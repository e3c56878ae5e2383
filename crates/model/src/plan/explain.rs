//! Plans in words, for logs, status and dry runs.

use std::fmt;

use crate::plan::prune::{Decision, FilesystemPrunePlan, KeepRule, PruneSide, Rejection, SkipReason, SnapshotVerdict};
use crate::plan::replication::{
    Base, Conflict, Discard, FilesystemAction, InitialReplication, NothingReason, Repair, Step,
};
use crate::plan::resolve::Resolution;

impl fmt::Display for FilesystemAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilesystemAction::Nothing(reason) => write!(f, "nothing to do: {reason}"),
            FilesystemAction::Confirm { version, repairs } => {
                write!(f, "confirm {version}: {}", List(repairs))
            }
            FilesystemAction::Steps { base, discard, resolution, steps } => {
                if let Some(discard) = discard {
                    write!(f, "discard partial state ({discard}), then ")?;
                }
                match resolution {
                    Some(resolution) if steps.is_empty() => return write!(f, "{resolution}"),
                    Some(resolution) => write!(f, "{resolution}, then ")?,
                    None => {}
                }
                write!(f, "{base}: {}", List(steps))
            }
            FilesystemAction::Conflict(conflict) => write!(f, "conflict: {conflict}"),
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resolution::RollBack { to, destroy } => {
                write!(f, "roll the receiver back to {to}, destroying ")?;
                match destroy.is_empty() {
                    true => f.write_str("what was written since")?,
                    false => write!(f, "{}", List(destroy))?,
                }
            }
            Resolution::RenameAside { newest, below } => {
                write!(f, "rename the receiver's filesystem, whose newest snapshot is {newest},")?;
                if !below.is_empty() {
                    write!(f, " with {} below it,", below.len())?;
                }
                f.write_str(" aside")?;
            }
        }
        write!(f, " ({})", self.policy())
    }
}

impl Resolution {
    /// The choice in the configuration that asks for it.
    pub fn policy(&self) -> &'static str {
        match self {
            Resolution::RollBack { .. } => "diverged: rollback_receiver",
            Resolution::RenameAside { .. } => "no_common: rename_aside",
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Base::Initial(initial) => write!(f, "send in full ({initial})"),
            Base::Common(version) => write!(f, "send from {version}"),
            Base::Resume => f.write_str("resume"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) => write!(f, "{from} => {}", self.to),
            None => write!(f, "full => {}", self.to),
        }
    }
}

impl fmt::Display for InitialReplication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InitialReplication::MostRecent => "most_recent",
            InitialReplication::All => "all",
            InitialReplication::Fail => "fail",
        })
    }
}

impl fmt::Display for NothingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NothingReason::UpToDate(version) => write!(f, "the receiver has {version}"),
            NothingReason::Placeholder => f.write_str("filesystem is placeholder"),
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Repair::MoveCursor => "move the replication cursor",
            Repair::RemoveStepProtection => "remove what protected the finished step",
            Repair::HoldLastReceived => "hold it on the receiver",
            Repair::ReleaseOlderReceived => "release older holds on the receiver",
        })
    }
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Discard::Unreadable(error) => write!(f, "the resume token cannot be read: {error}"),
            Discard::ToGone { to_name } => write!(f, "{to_name} is gone from the sender"),
            Discard::FromGone => f.write_str("the version that it starts from is gone from the sender"),
            Discard::OtherFilesystem { to_name } => write!(f, "it belongs to {to_name}"),
            Discard::Superseded => f.write_str("it does not continue the receiver's newest snapshot"),
            Discard::OtherPolicy => f.write_str("its stream is not of the kind that the policy demands"),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conflict::NoSnapshots => f.write_str(
                "no snapshots available on sender side (nothing has taken one yet, or `filesystems` means another one)",
            ),
            Conflict::NoCommonVersion { sender, receiver } => write!(
                f,
                "no common snapshot or suitable bookmark between sender and receiver: \
                 newest on the sender {}; newest on the receiver {} (to begin anew, in full, rename the receiver's \
                 filesystem, or let the job rename it with `conflict_resolution: {{no_common: rename_aside}}`)",
                Names(sender),
                Names(receiver)
            ),
            Conflict::Diverged { common, sender_only, receiver_only } => write!(
                f,
                "the receiver's latest snapshot is not present on sender: last common {common}; \
                 only on the sender {}; only on the receiver {} (if the latter may be lost, `zfs rollback -r` the \
                 receiver's filesystem to {common}, or let the job do so with `conflict_resolution: {{diverged: rollback_receiver}}`)",
                Names(sender_only),
                Names(receiver_only)
            ),
            Conflict::NotRolledBack { common, obstacles } => write!(
                f,
                "the receiver's latest snapshot is not present on sender, and the receiver cannot be rolled back to \
                 {common} (diverged: rollback_receiver): {}; nothing was destroyed",
                Names(obstacles)
            ),
            Conflict::NotRenamedAside { obstacles } => write!(
                f,
                "no common snapshot or suitable bookmark between sender and receiver, and the receiver's filesystem \
                 cannot be renamed (no_common: rename_aside), because what is below would move along: {}",
                Names(obstacles)
            ),
            Conflict::DeadToken { filesystem, reason } => write!(
                f,
                "what an interrupted step left on the receiver cannot be resumed: {reason}; it is kept \
                 (dead_token: fail) until it is discarded on the receiver with `zfs receive -A ROOT/{filesystem}`, ROOT \
                 being the job's `root_fs` there, of a sink with the client's name below it"
            ),
            Conflict::InitialForbidden => f.write_str(
                "automatic conflict resolution for initial replication is disabled in config \
                     (`conflict_resolution: {initial_replication: most_recent}`, or `all`, lets it begin)",
            ),
            Conflict::PlaceholderMeetsData => f.write_str(
                "sender filesystem is placeholder, but receiver filesystem is not (rename or destroy the receiver's, \
                     or leave the filesystem out of `filesystems`)",
            ),
            Conflict::OrderDiffers => f.write_str(
                "sender and receiver have their common snapshots in different orders (one side was copied from \
                     elsewhere: rename the receiver's filesystem and begin anew)",
            ),
            Conflict::SendPolicy(problem) => f.write_str(problem),
            Conflict::NameTaken { snapshot } => write!(
                f,
                "the receiver has another snapshot of the name {:?}, which the next one to be sent has as well (was a \
                 clock set back? give one of them another name with `zfs rename`, on either side)",
                snapshot.as_str()
            ),
            Conflict::ReceiverUnlisted(why) => write!(f, "the receiver cannot list what it has of it: {why}"),
        }
    }
}

impl fmt::Display for PruneSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PruneSide::Sender => "sender",
            PruneSide::Receiver => "receiver",
            PruneSide::Local => "local",
        })
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SkipReason::Placeholder => "filesystem is placeholder",
            SkipReason::NotOnSender => "filesystem has no correspondence on sender",
            SkipReason::SenderUnlisted => "sender cannot list it, so what is replicated is unknown",
            SkipReason::BaseUnknown => {
                "receiver cannot be listed and there is no replication cursor, so any snapshot may be the common base"
            }
        })
    }
}

impl fmt::Display for KeepRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepRule::NotReplicated { keep_snapshot_at_cursor: true } => f.write_str("not_replicated"),
            KeepRule::NotReplicated { keep_snapshot_at_cursor: false } => f.write_str("not_replicated (cursor may go)"),
            KeepRule::LastN { count, regex: None } => write!(f, "last_n {count}"),
            KeepRule::LastN { count, regex: Some(regex) } => write!(f, "last_n {count} of `{regex}`"),
            KeepRule::Regex { regex, negate: false } => write!(f, "regex `{regex}`"),
            KeepRule::Grid { grid, regex } => write!(f, "grid `{grid}` of `{regex}`"),
            KeepRule::Regex { regex, negate: true } => write!(f, "regex not `{regex}`"),
        }
    }
}

impl FilesystemPrunePlan {
    /// Every snapshot with its decision, one per line, oldest first. `rules` are those of the plan.
    pub fn explain<'a>(&'a self, rules: &'a [KeepRule]) -> impl fmt::Display + 'a {
        Explained { plan: self, rules }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejection::NameDoesNotMatch => "its name does not match",
            Rejection::NameMatches => "its name matches",
            Rejection::Replicated => "it is replicated",
            Rejection::NotAmongNewest => "it is not among the newest",
            Rejection::Crowded => "older ones fill its place in the grid",
            Rejection::BeyondGrid => "it is older than the grid reaches",
        })
    }
}

impl SnapshotVerdict {
    /// The decision, then what every rule says, on one line. `rules` are those of the verdict.
    pub fn explain<'a>(&'a self, rules: &'a [KeepRule]) -> impl fmt::Display + 'a {
        ExplainedVerdict { verdict: self, rules }
    }

    /// The rules that let it go, each with its reason, on one line. `rules` are those of the verdict.
    pub fn explain_rejections(&self, rules: &[KeepRule]) -> String {
        let said = self.rejected_by.iter().map(|(index, why)| match rules.get(usize::from(*index)) {
            Some(rule) => format!("{rule} ({why})"),
            None => format!("rule {} ({why})", u32::from(*index) + 1),
        });
        said.collect::<Vec<_>>().join(", ")
    }
}

struct ExplainedVerdict<'a> {
    verdict: &'a SnapshotVerdict,
    rules: &'a [KeepRule],
}

impl fmt::Display for ExplainedVerdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict;
        write!(f, "{}: {}", verdict.version, verdict.decision.in_short())?;
        let keeps = verdict.kept_by.iter().map(|index| (*index, None));
        let rejects = verdict.rejected_by.iter().map(|(index, why)| (*index, Some(*why)));
        let mut said: Vec<(u16, Option<Rejection>)> = keeps.chain(rejects).collect();
        said.sort_by_key(|(index, _)| *index);
        for (index, why) in said {
            write!(f, "; rule {}", u32::from(index) + 1)?;
            if let Some(rule) = self.rules.get(usize::from(index)) {
                write!(f, ", {rule},")?;
            }
            match why {
                None => f.write_str(" keeps it")?,
                Some(why) => write!(f, " lets it go: {why}")?,
            }
        }
        Ok(())
    }
}

impl Decision {
    /// Without the rule.
    fn in_short(self) -> &'static str {
        match self {
            Decision::NotConsidered => "keep, not subject to rules",
            Decision::KeptByRule(_) => "keep",
            Decision::KeptAsBase => "keep as base of the next replication step",
            Decision::KeptHeld => "keep, held",
            Decision::Destroy => "destroy",
        }
    }

    /// The decision in words. `rules` are those that it was made by.
    pub fn explain<'a>(&'a self, rules: &'a [KeepRule]) -> impl fmt::Display + 'a {
        ExplainedDecision { decision: *self, rules }
    }
}

struct Explained<'a> {
    plan: &'a FilesystemPrunePlan,
    rules: &'a [KeepRule],
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(skip) = self.plan.skip {
            return writeln!(f, "{}: skipped: {skip}", self.plan.name);
        }
        let decided = self.plan.versions.iter().zip(&self.plan.decisions);
        for (version, decision) in decided.filter(|(version, _)| version.is_snapshot()) {
            writeln!(f, "{}{version}: {}", self.plan.name, decision.explain(self.rules))?;
        }
        Ok(())
    }
}

struct ExplainedDecision<'a> {
    decision: Decision,
    rules: &'a [KeepRule],
}

impl fmt::Display for ExplainedDecision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decision {
            Decision::NotConsidered => f.write_str("keep: not subject to rules"),
            Decision::KeptByRule(index) => match self.rules.get(usize::from(index)) {
                Some(rule) => write!(f, "keep: rule {}, {rule}", u32::from(index) + 1),
                None => write!(f, "keep: rule {}", u32::from(index) + 1),
            },
            Decision::KeptAsBase => f.write_str("keep: base of the next replication step"),
            Decision::KeptHeld => f.write_str("keep: held"),
            Decision::Destroy => f.write_str("destroy: no rule keeps it"),
        }
    }
}

/// Items separated by commas.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { List(self.0).fmt(f) }
    }
}
