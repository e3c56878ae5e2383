//! Which steps bring a receiver up to date.

mod queue;

use std::collections::{HashMap, HashSet};

use crate::diff::{Comparison, compare};
use crate::name::{DatasetName, VersionName};
use crate::plan::protection::{Completion, after_receive};
use crate::plan::resolve::{
    ConflictPolicy, Resolution, WhenDiverged, WhenNothingInCommon, WhenTokenIsDead, rename_aside, roll_back,
};
use crate::plan::resume::resumed_step;
use crate::protection::{ProtectionKind, ProtectionPolicy, ProtectionStrategy};
use crate::version::{Guid, UnixTime, Version, VersionRef};
use crate::view::{Encryption, FilesystemView, Placeholder, View};
use queue::{Queue, renames};

/// The choices of a job that replication depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicationPolicy {
    /// What to send first to a receiver that has nothing.
    pub initial: InitialReplication,
    /// What to keep while and after a step.
    pub protection: ProtectionPolicy,
    /// What to do by itself about sides that do not fit together.
    pub conflicts: ConflictPolicy,
}

/// What to send first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InitialReplication {
    /// Only the newest snapshot.
    #[default]
    MostRecent,
    /// The oldest, then every later one.
    All,
    /// Nothing: a person has to decide.
    Fail,
}

/// What replication will do, filesystem by filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicationPlan {
    /// In the order in which they should start: parents before children, then the one whose next
    /// snapshot is oldest.
    pub filesystems: Vec<FilesystemPlan>,
}

/// What replication will do for one filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemPlan {
    /// The sender's name of it.
    pub name: DatasetName,
    /// The nearest ancestor in the plan whose first full send must succeed before this one can start.
    pub after: Option<DatasetName>,
    /// What is done.
    pub action: FilesystemAction,
    /// When the sender's newest snapshot was taken; none without any.
    pub newest: Option<UnixTime>,
    /// When the newest of the sender's versions that the receiver has was taken; none without any.
    pub received: Option<UnixTime>,
}

/// What is done for one filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesystemAction {
    /// Nothing, and why.
    Nothing(NothingReason),
    /// The receiver has the sender's newest snapshot, but a lost reply or a crash left protections
    /// behind: put them right, as after an incremental step to `version`.
    Confirm {
        /// The newest common version, as the sender names it.
        version: VersionRef,
        /// What is missing or left over.
        repairs: Vec<Repair>,
    },
    /// Send.
    Steps {
        /// Where it starts from.
        base: Base,
        /// Partial state on the receiver that cannot be used any longer, with the reason.
        discard: Option<Discard>,
        /// What is done to the receiver first, as the job's policy on conflicts says.
        resolution: Option<Resolution>,
        /// In order; empty only behind a resolution, if the sender has nothing newer.
        steps: Vec<Step>,
    },
    /// Nothing can be done before a person decides.
    Conflict(Conflict),
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NothingReason {
    /// The receiver has the newest snapshot and all protections are in place.
    UpToDate(VersionRef),
    /// A placeholder carries no data; the receiver makes one when something below it arrives.
    Placeholder,
}

/// What a confirm action puts right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The sender's cursor is not on the newest common version.
    MoveCursor,
    /// Step holds or tentative cursors of a finished step are left.
    RemoveStepProtection,
    /// The receiver does not hold the newest common version.
    HoldLastReceived,
    /// The receiver still holds older ones.
    ReleaseOlderReceived,
}

/// Where replication of a filesystem starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing is on the receiver.
    Initial(InitialReplication),
    /// The newest version that both sides have, as the sender names it.
    Common(VersionRef),
    /// An interrupted step on the receiver.
    Resume,
}

/// One send and receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What the receiver has; none for a full send.
    pub from: Option<VersionRef>,
    /// The snapshot to send.
    pub to: VersionRef,
    /// When it was taken.
    pub created: UnixTime,
    /// The token of the interrupted step that this one completes.
    pub resume_token: Option<String>,
}

/// Why partial state on the receiver is discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discard {
    /// The token cannot be read.
    Unreadable(String),
    /// The snapshot that it would complete is gone from the sender.
    ToGone {
        /// Its name when it was sent.
        to_name: String,
    },
    /// The version that it is incremental from is gone from the sender.
    FromGone,
    /// It belongs to another filesystem.
    OtherFilesystem {
        /// The name in the token.
        to_name: String,
    },
    /// It does not continue the receiver's newest snapshot, so that nothing can be received on it.
    Superseded,
    /// Its stream is not of the kind (raw or plain) that the job's policy demands.
    OtherPolicy,
}

/// Why replication of a filesystem cannot go on by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// The sender has no snapshots.
    NoSnapshots,
    /// Both have versions, none in common.
    NoCommonVersion {
        /// Newest few on the sender.
        sender: Vec<String>,
        /// Newest few on the receiver.
        receiver: Vec<String>,
    },
    /// The receiver has snapshots that the sender does not know, newer than the common one.
    Diverged {
        /// The newest common version.
        common: String,
        /// What only the sender has since.
        sender_only: Vec<String>,
        /// What only the receiver has since.
        receiver_only: Vec<String>,
    },
    /// As above; the policy is to roll the receiver back, but something is in the way.
    NotRolledBack {
        /// The newest common version.
        common: String,
        /// What is in the way, in words.
        obstacles: Vec<String>,
    },
    /// Both have versions, none in common; the policy is to rename the receiver's, but something is in
    /// the way.
    NotRenamedAside {
        /// What is in the way, in words.
        obstacles: Vec<String>,
    },
    /// What an interrupted step left cannot be used, and the policy is to keep it.
    DeadToken {
        /// Where, as the sender names it.
        filesystem: DatasetName,
        /// Why.
        reason: Discard,
    },
    /// The policy forbids a first full send.
    InitialForbidden,
    /// The sender's is a placeholder, the receiver's holds data.
    PlaceholderMeetsData,
    /// The two sides have their common versions in different orders.
    OrderDiffers,
    /// What is sent does not fit the policy on encryption.
    SendPolicy(String),
    /// The next snapshot has the name of another one that the receiver has.
    NameTaken {
        /// As both sides call theirs.
        snapshot: VersionName,
    },
    /// The receiver does not know what it has; carries its reason.
    ReceiverUnlisted(String),
}

impl Conflict {
    /// Whether it may be gone the next time the sides are listed, without a person or the next snapshot.
    pub fn may_pass(&self) -> bool {
        matches!(self, Conflict::ReceiverUnlisted(_))
    }
}

/// How many versions a conflict names.
const NAMED_VERSIONS_MAX: usize = 5;

/// Decides what brings `receiver` up to date with `sender`. Filesystems that only the receiver has are
/// none of its business.
///
/// Conflicts are resolved only as the policy says. A filesystem with a conflict stops no other, not even
/// one below it, for which the receiver makes placeholders.
pub fn plan_replication(sender: &View, receiver: &View, policy: &ReplicationPolicy) -> ReplicationPlan {
    let mut queue = Queue::default();
    // What the plan moves out of the way, with all that is below it.
    let mut moved: HashSet<&DatasetName> = HashSet::new();
    // First receives that were interrupted and are kept: what arrived below them would discard them.
    let mut kept: HashMap<DatasetName, Conflict> = HashMap::new();
    for (name, source) in &sender.filesystems {
        let is_moved = !moved.is_empty() && name.ancestors().any(|above| moved.contains(&above));
        let sides = Sides {
            name,
            sender: source,
            receiver: receiver.filesystems.get(name).filter(|_| !is_moved),
            views: (sender, receiver),
        };
        let mut planned = sides.nameable(sides.sendable(sides.plan(policy)));
        if renames(&planned.0) {
            moved.insert(name);
        }
        if let Some(conflict) = sides.kept_above(&planned, &kept) {
            planned = (FilesystemAction::Conflict(conflict), None);
        } else if let FilesystemAction::Conflict(conflict @ Conflict::DeadToken { .. }) = &planned.0
            && sides.receiver.is_some_and(FilesystemView::is_only_partial)
        {
            kept.insert(name.clone(), conflict.clone());
        }
        queue.push(&sides, planned);
    }
    queue.into_plan()
}

/// One filesystem, seen from both sides.
struct Sides<'a> {
    name: &'a DatasetName,
    sender: &'a FilesystemView,
    receiver: Option<&'a FilesystemView>,
    /// All of the sender, and of the receiver.
    views: (&'a View, &'a View),
}

/// What to do, and when the snapshot was taken that comes first.
type Planned = (FilesystemAction, Option<UnixTime>);

impl Sides<'_> {
    fn plan(&self, policy: &ReplicationPolicy) -> Planned {
        if self.sender.placeholder == Placeholder::On {
            return (self.plan_placeholder(), None);
        }
        if let Some(why) = self.receiver_unlisted() {
            return (FilesystemAction::Conflict(Conflict::ReceiverUnlisted(why)), None);
        }
        let comparison = compare(&self.sender.versions, self.receiver_versions());
        let newest = match comparison {
            Comparison::OrderDiffers { .. } => return (FilesystemAction::Conflict(Conflict::OrderDiffers), None),
            _ => self.receiver.and_then(FilesystemView::newest_snapshot).map(|version| version.guid),
        };
        let discard = match self.receiver.and_then(|receiver| receiver.partial.as_ref()) {
            None => None,
            Some(partial) => {
                match resumed_step(self.name, partial, self.sender, self.views.0.sends_encrypted, newest) {
                    Ok(step) => return self.resume(step),
                    Err(discard) => Some(discard),
                }
            }
        };
        keep_dead_token(self.name, policy, self.plan_normally(&comparison, policy, discard))
    }

    /// Why nothing is known of the receiver's, which is not the same as having nothing.
    fn receiver_unlisted(&self) -> Option<String> {
        self.views.1.why_unlisted(self.name).map(|(_, why)| why.to_owned())
    }

    /// The conflict of a filesystem above that stands in the way of making a way to this one.
    fn kept_above(&self, planned: &Planned, kept: &HashMap<DatasetName, Conflict>) -> Option<Conflict> {
        let arrives = self.receiver.is_none() && matches!(planned.0, FilesystemAction::Steps { .. });
        if kept.is_empty() || !arrives {
            return None;
        }
        self.name.ancestors().find_map(|above| kept.get(&above)).cloned()
    }

    /// Refuses steps of which the first would be refused by the receiver for its name. If it is a later
    /// one, those before it are worth being done.
    fn nameable(&self, planned: Planned) -> Planned {
        let FilesystemAction::Steps { steps, resolution, .. } = &planned.0 else { return planned };
        let (Some(first), Some(receiver)) = (steps.first(), self.receiver) else { return planned };
        let goes = |version: &Version| match resolution {
            Some(Resolution::RollBack { destroy, .. }) => destroy.contains(&version.to_ref()),
            Some(Resolution::RenameAside { .. }) => true,
            None => false,
        };
        let to = &first.to;
        let is_taken = |version: &Version| version.name == to.name && version.guid != to.guid && !goes(version);
        match receiver.snapshots().any(is_taken) {
            true => (FilesystemAction::Conflict(Conflict::NameTaken { snapshot: to.name.clone() }), None),
            false => planned,
        }
    }

    /// Refuses steps that the sender would refuse.
    fn sendable(&self, planned: Planned) -> Planned {
        let has_steps = matches!(planned.0, FilesystemAction::Steps { .. });
        match self.forbidden().filter(|_| has_steps) {
            Some(problem) => (FilesystemAction::Conflict(Conflict::SendPolicy(problem.to_owned())), None),
            None => planned,
        }
    }

    /// Why the sender's policy on encryption forbids to send the filesystem at all.
    fn forbidden(&self) -> Option<&'static str> {
        let sender = self.views.0;
        match self.sender.encryption {
            Encryption::None if sender.sends_encrypted == Some(true) => Some(
                "encrypted send mandated by policy, but the filesystem is not encrypted (leave it out of \
                     `filesystems`, or drop `send: {encrypted: true}`)",
            ),
            Encryption::Encrypted { .. } if sender.refuses_encrypted => {
                Some("policy mandates raw+unencrypted sends, but the filesystem is encrypted")
            }
            _ => None,
        }
    }

    fn plan_placeholder(&self) -> FilesystemAction {
        match self.receiver.map(|receiver| receiver.placeholder) {
            None | Some(Placeholder::On) => FilesystemAction::Nothing(NothingReason::Placeholder),
            Some(Placeholder::Off | Placeholder::Unset) => FilesystemAction::Conflict(Conflict::PlaceholderMeetsData),
        }
    }

    fn receiver_versions(&self) -> &[Version] {
        self.receiver.map_or(&[], |receiver| &receiver.versions)
    }

    /// When the newest version was taken that both sides have.
    fn received(&self) -> Option<UnixTime> {
        let there: HashSet<Guid> = self.receiver?.snapshots().map(|version| version.guid).collect();
        let common = self.sender.versions.iter().rev().find(|version| there.contains(&version.guid));
        common.map(|version| version.creation)
    }

    fn resume(&self, step: Step) -> Planned {
        let to = self.sender.snapshots().position(|version| version.guid == step.to.guid);
        let mut rest = self.sender.snapshots().skip(to.unwrap_or(usize::MAX));
        let first = rest.next().map(|version| version.creation);
        let later: Vec<&Version> = rest.collect();
        let mut steps = vec![step];
        extend(&mut steps, &later);
        (FilesystemAction::Steps { base: Base::Resume, discard: None, resolution: None, steps }, first)
    }

    fn plan_normally(
        &self,
        comparison: &Comparison<'_>,
        policy: &ReplicationPolicy,
        discard: Option<Discard>,
    ) -> Planned {
        let conflict = match comparison {
            Comparison::Follows { common, later } if later.is_empty() => {
                return (self.confirm(common.to_ref(), policy), None);
            }
            Comparison::Follows { common, later } => {
                return steps(Base::Common(common.to_ref()), discard, Some(common), later);
            }
            Comparison::Unrelated => match self.start_anew(policy, discard) {
                Ok(planned) => return planned,
                Err(conflict) => conflict,
            },
            Comparison::Diverged { common, sender_only, receiver_only } => {
                match self.reconcile(policy, common, receiver_only) {
                    Ok(resolution) => {
                        let base = Base::Common(common.to_ref());
                        return resolved(resolution, steps(base, discard, Some(common), sender_only));
                    }
                    Err(None) => Conflict::Diverged {
                        common: common.to_string(),
                        sender_only: newest_few(sender_only.iter().copied()),
                        receiver_only: newest_few(receiver_only.iter().copied()),
                    },
                    Err(Some(obstacles)) => Conflict::NotRolledBack { common: common.to_string(), obstacles },
                }
            }
            Comparison::OrderDiffers { .. } => Conflict::OrderDiffers,
        };
        (FilesystemAction::Conflict(conflict), None)
    }

    /// How a diverged receiver gets back to `common`; the error is what forbids it, none if the policy.
    fn reconcile(
        &self,
        policy: &ReplicationPolicy,
        common: &Version,
        receiver_only: &[&Version],
    ) -> Result<Resolution, Option<Vec<String>>> {
        match (policy.conflicts.diverged, self.receiver) {
            (WhenDiverged::Fail, _) | (_, None) => Err(None),
            (WhenDiverged::RollbackReceiver, Some(receiver)) => {
                roll_back(common, receiver, receiver_only).map_err(Some)
            }
        }
    }

    /// Full sends to a receiver that shares nothing with the sender.
    fn start_anew(&self, policy: &ReplicationPolicy, discard: Option<Discard>) -> Result<Planned, Conflict> {
        let base = Base::Initial(policy.initial);
        let in_the_way = self.receiver.and_then(FilesystemView::newest_snapshot);
        match (policy.conflicts.no_common, in_the_way) {
            (WhenNothingInCommon::RenameAside, Some(newest)) => {
                let snapshots = self.first_sent(policy.initial)?;
                let resolution = rename_aside(self.name, newest, self.views.0, self.views.1)
                    .map_err(|obstacles| Conflict::NotRenamedAside { obstacles })?;
                // Partial state moves along.
                Ok(resolved(resolution, steps(base, None, None, &snapshots)))
            }
            _ => Ok(steps(base, discard, None, &self.initial(policy.initial)?)),
        }
    }

    /// What to send first to a receiver that shares nothing with the sender.
    fn initial(&self, initial: InitialReplication) -> Result<Vec<&Version>, Conflict> {
        let snapshots = self.first_sent(initial);
        if let Err(Conflict::NoSnapshots) = snapshots {
            return snapshots;
        }
        let has_data = self.receiver.is_some_and(|receiver| receiver.newest_snapshot().is_some());
        if has_data {
            return Err(Conflict::NoCommonVersion {
                sender: newest_few(self.sender.versions.iter()),
                receiver: newest_few(self.receiver_versions().iter()),
            });
        }
        snapshots
    }

    fn first_sent(&self, initial: InitialReplication) -> Result<Vec<&Version>, Conflict> {
        let Some(newest) = self.sender.newest_snapshot() else { return Err(Conflict::NoSnapshots) };
        match initial {
            InitialReplication::MostRecent => Ok(vec![newest]),
            InitialReplication::All => Ok(self.sender.snapshots().collect()),
            InitialReplication::Fail => Err(Conflict::InitialForbidden),
        }
    }

    fn confirm(&self, version: VersionRef, policy: &ReplicationPolicy) -> FilesystemAction {
        let repairs = self.repairs(&version, policy.protection.incremental);
        // Which kind of step brought the version cannot be seen any longer: either kind's end is fine.
        if repairs.is_empty() || self.repairs(&version, policy.protection.initial).is_empty() {
            return FilesystemAction::Nothing(NothingReason::UpToDate(version));
        }
        FilesystemAction::Confirm { version, repairs }
    }

    /// What would have to be done for protections to be as after a step to `version`.
    fn repairs(&self, version: &VersionRef, strategy: ProtectionStrategy) -> Vec<Repair> {
        let mut repairs = Vec::new();
        if self.views.0.protections_known {
            let completion = Completion::of(version, strategy, &self.sender.protections);
            let (cursors, step): (Vec<_>, Vec<_>) =
                completion.remove.into_iter().partition(|protection| protection.kind == ProtectionKind::Cursor);
            if completion.make_cursor || !cursors.is_empty() {
                repairs.push(Repair::MoveCursor);
            }
            if !step.is_empty() {
                repairs.push(Repair::RemoveStepProtection);
            }
        }
        if let Some(receiver) = self.receiver.filter(|_| self.views.1.protections_known) {
            let changes = after_receive(version, strategy, &receiver.protections);
            if changes.creates() {
                repairs.push(Repair::HoldLastReceived);
            }
            if changes.removes() {
                repairs.push(Repair::ReleaseOlderReceived);
            }
        }
        repairs
    }
}

/// One step per snapshot, each from the one before, the first from `from`.
fn steps(base: Base, discard: Option<Discard>, from: Option<&Version>, snapshots: &[&Version]) -> Planned {
    let mut steps = Vec::with_capacity(snapshots.len());
    if let Some(first) = snapshots.first() {
        steps.push(Step {
            from: from.map(Version::to_ref),
            to: first.to_ref(),
            created: first.creation,
            resume_token: None,
        });
    }
    extend(&mut steps, snapshots.get(1..).unwrap_or_default());
    (
        FilesystemAction::Steps { base, discard, resolution: None, steps },
        snapshots.first().map(|version| version.creation),
    )
}

/// The same steps behind a resolution.
fn resolved(how: Resolution, (mut action, next): Planned) -> Planned {
    if let FilesystemAction::Steps { resolution, .. } = &mut action {
        *resolution = Some(how);
    }
    (action, next)
}

/// Steps that begin with discarding what the policy wants to be kept are a conflict.
fn keep_dead_token(name: &DatasetName, policy: &ReplicationPolicy, planned: Planned) -> Planned {
    match planned.0 {
        FilesystemAction::Steps { discard: Some(reason), .. }
            if policy.conflicts.dead_token == WhenTokenIsDead::Fail =>
        {
            (FilesystemAction::Conflict(Conflict::DeadToken { filesystem: name.clone(), reason }), None)
        }
        action => (action, planned.1),
    }
}

fn extend(steps: &mut Vec<Step>, later: &[&Version]) {
    for version in later {
        let from = steps.last().map(|step| step.to.clone());
        steps.push(Step { from, to: version.to_ref(), created: version.creation, resume_token: None });
    }
}

fn newest_few<'a>(versions: impl DoubleEndedIterator<Item = &'a Version>) -> Vec<String> {
    let mut few: Vec<String> = versions.rev().take(NAMED_VERSIONS_MAX).map(Version::to_string).collect();
    few.reverse();
    few
}
