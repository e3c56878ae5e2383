//! Destroys what the rules of a job let go.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use model::RetryClass;
use model::diff::{Comparison, compare};
use model::event::{Pruning, What};
use model::plan::prune::{
    CursorView, KeepRule, PrunePlan, PruneSide, PruneView, SkipReason, SnapshotVerdict, plan_pruning, verdicts,
};
use model::protection::ProtectionKind;
use model::view::{FilesystemView, Placeholder, View};
use model::{DatasetName, Guid, Version, VersionName};
use tokio::time::sleep;
use wire::{CallError, DestroyOutcome, DestroyRequest, DestroyResult, Endpoint};

use super::back_off::back_off;
use super::tally::Tally;
use crate::drain::Drain;
use crate::events::Events;
use crate::limits::DESTROYS_PER_CALL;

/// Pruning of one side.
pub(super) struct Prune<'a> {
    pub(super) side: PruneSide,
    pub(super) events: &'a Events,
    pub(super) tally: &'a Tally,
    pub(super) rules: &'a [KeepRule],
    pub(super) drain: &'a Drain,
}

/// Why one side could not be pruned.
pub(super) struct PruneFailed {
    pub(super) class: RetryClass,
    pub(super) error: String,
}

/// What one side is pruned by.
pub(super) type Views<'a> = Result<(&'a dyn Endpoint, Vec<PruneView>), PruneFailed>;

impl Prune<'_> {
    /// Prunes what `views` shows; the error says why it could not be listed.
    pub(super) async fn run(&self, views: Views<'_>) -> Result<(), PruneFailed> {
        self.tell(Pruning::Started);
        let (endpoint, views) = views?;
        let plan = Arc::new(plan_pruning(self.side, &views, self.rules));
        self.tell(Pruning::Planned { plan: Arc::clone(&plan) });
        self.execute(endpoint, &plan, &views).await.map_err(|error| PruneFailed {
            class: error.class(),
            error: format!("cannot destroy snapshots: {error}"),
        })?;
        self.tell(Pruning::Finished);
        Ok(())
    }

    /// Nothing is destroyed without rules, so that nothing has to be looked at.
    pub(super) fn run_without_rules(&self) {
        self.tell(Pruning::Started);
        self.tell(Pruning::Finished);
    }

    /// Waits before try `tries + 1`, if another one may help; otherwise the side has failed.
    pub(super) async fn goes_on_after(&self, failed: PruneFailed, tries: u32, attempts: NonZeroU32) -> bool {
        let PruneFailed { class, error } = failed;
        if class != RetryClass::Transient || tries >= attempts.get() {
            self.tally.pruning_failed();
            self.tell(Pruning::PlanFailed { error });
            return false;
        }
        let message = format!("pruning of the {} side failed and will be tried again: {error}", self.side);
        self.events.tell(What::Warning { subsystem: "pruning", message });
        sleep(back_off(tries, self.events.clock())).await;
        true
    }

    /// A part at a time, each of which is told before the next may fail.
    async fn execute(&self, endpoint: &dyn Endpoint, plan: &PrunePlan, views: &[PruneView]) -> Result<(), CallError> {
        let mut requests = Vec::new();
        for filesystem in &plan.filesystems {
            let snapshots: Vec<_> = filesystem.destroys().map(Version::to_ref).collect();
            if !snapshots.is_empty() {
                requests.push(DestroyRequest { filesystem: filesystem.name.clone(), snapshots });
            }
        }
        let views: HashMap<&DatasetName, &PruneView> = views.iter().map(|view| (&view.name, view)).collect();
        for part in requests.chunks(DESTROYS_PER_CALL) {
            let _under_way = self.drain.enter(&format!("pruning of the {} side", self.side)).await;
            for result in endpoint.destroy_snapshots(part).await? {
                // Asked for again, since the reasons of all snapshots of a large pool are many megabytes.
                let view = views.get(&result.filesystem);
                let verdicts = view.map(|view| verdicts(self.side, view, self.rules)).unwrap_or_default();
                self.tell_result(result, &verdicts);
            }
        }
        Ok(())
    }

    fn tell_result(&self, DestroyResult { filesystem, results }: DestroyResult, verdicts: &[SnapshotVerdict]) {
        let by_name: HashMap<&VersionName, &SnapshotVerdict> =
            verdicts.iter().map(|verdict| (&verdict.version.name, verdict)).collect();
        let (mut destroyed, mut failed) = (Vec::new(), Vec::new());
        for (name, outcome) in results {
            match outcome {
                DestroyOutcome::Destroyed => {
                    let (filesystem, snapshot) = (filesystem.clone(), name.clone());
                    let rules = by_name.get(&name).map(|verdict| verdict.explain_rejections(self.rules));
                    let rules = rules.unwrap_or_default().into();
                    self.tell(Pruning::Destroyed { filesystem, snapshot, rules });
                    destroyed.push(name);
                }
                DestroyOutcome::Failed(why) => failed.push((name, why)),
                // Planning keeps what is held; this hold is younger than the listing.
                DestroyOutcome::Kept(why) => {
                    let message = format!("{filesystem}@{name} is kept: {why}");
                    self.events.tell_of(&filesystem, What::Warning { subsystem: "pruning", message });
                }
            }
        }
        self.tally.destroyed(destroyed.len());
        if !failed.is_empty() {
            self.tally.pruning_failed();
        }
        self.tell(Pruning::Filesystem { filesystem, destroyed, failed });
    }

    fn tell(&self, what: Pruning) {
        self.events.tell(What::Pruning { side: self.side, what });
    }
}

/// The sender as pruning sees it. Without a receiver's view the cursor alone says what it has; where
/// there is none either (a job that guarantees nothing keeps none), nothing is pruned until the receiver
/// can be listed again. The same for a part of the receiver that could not be listed.
pub(crate) fn sender_views(sender: &View, receiver: Option<&View>) -> Vec<PruneView> {
    let is_listed = |name: &DatasetName| receiver.is_some_and(|receiver| receiver.tells_of(name));
    let base_unknown =
        |name: &DatasetName, view: &FilesystemView| !is_listed(name) && cursor(view) == CursorView::Missing;
    let views = sender.filesystems.iter().map(|(name, view)| {
        let there = receiver.and_then(|receiver| receiver.filesystems.get(name));
        PruneView {
            name: name.clone(),
            skip: skip_placeholder(view).or(base_unknown(name, view).then_some(SkipReason::BaseUnknown)),
            versions: Arc::clone(&view.versions),
            cursor: cursor(view),
            common_base: there.and_then(|there| common_base(view, there)),
        }
    });
    views.collect()
}

/// The receiver as pruning sees it.
pub(crate) fn receiver_views(sender: &View, receiver: &View) -> Vec<PruneView> {
    let views = receiver.filesystems.iter().map(|(name, view)| {
        let there = sender.filesystems.get(name);
        PruneView {
            name: name.clone(),
            skip: skip_placeholder(view).or(there.is_none().then(|| absence(sender, name))),
            versions: Arc::clone(&view.versions),
            cursor: there.map_or(CursorView::Missing, cursor),
            common_base: there.and_then(|there| common_base(there, view)),
        }
    });
    views.collect()
}

/// Why the sender's view lacks a filesystem of the receiver.
fn absence(sender: &View, name: &DatasetName) -> SkipReason {
    if sender.tells_of(name) { SkipReason::NotOnSender } else { SkipReason::SenderUnlisted }
}

/// The only side of a job that does not replicate.
pub(crate) fn local_views(view: &View) -> Vec<PruneView> {
    let views = view.filesystems.iter().map(|(name, view)| PruneView {
        name: name.clone(),
        skip: skip_placeholder(view),
        versions: Arc::clone(&view.versions),
        cursor: CursorView::NotReplicating,
        common_base: None,
    });
    views.collect()
}

fn skip_placeholder(view: &FilesystemView) -> Option<SkipReason> {
    (view.placeholder == Placeholder::On).then_some(SkipReason::Placeholder)
}

/// The job's newest cursor.
fn cursor(sender: &FilesystemView) -> CursorView {
    let cursors = sender.protections.iter().filter(|protection| protection.kind == ProtectionKind::Cursor);
    match cursors.max_by_key(|cursor| cursor.createtxg) {
        Some(cursor) => CursorView::At(cursor.version.guid, cursor.createtxg),
        None => CursorView::Missing,
    }
}

fn common_base(sender: &FilesystemView, receiver: &FilesystemView) -> Option<Guid> {
    match compare(&sender.versions, &receiver.versions) {
        Comparison::Unrelated => None,
        Comparison::Follows { common, .. } | Comparison::Diverged { common, .. } => Some(common.guid),
        Comparison::OrderDiffers { newer, .. } => Some(newer.guid),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use model::view::{DatasetKind, Encryption};

    #[test]
    fn what_the_receiver_did_not_list_is_not_taken_for_missing() {
        let name = |text| DatasetName::parse(text).unwrap();
        let filesystem = FilesystemView {
            kind: DatasetKind::Filesystem,
            placeholder: Placeholder::Unset,
            encryption: Encryption::None,
            versions: Arc::default(),
            partial: None,
            protections: Vec::new(),
        };
        let sender = View::new(BTreeMap::from([(name("p/a"), filesystem.clone()), (name("p/b"), filesystem)]));
        let mut receiver = View::default();
        receiver.unlisted.insert(name("p/a"), "it is busy".to_owned());
        let skips: Vec<_> = sender_views(&sender, Some(&receiver)).into_iter().map(|view| view.skip).collect();
        assert_eq!(skips, [Some(SkipReason::BaseUnknown), None]);
        let skips: Vec<_> = sender_views(&sender, None).into_iter().map(|view| view.skip).collect();
        assert_eq!(skips, [Some(SkipReason::BaseUnknown); 2]);
        let skips: Vec<_> = receiver_views(&receiver, &sender).into_iter().map(|view| view.skip).collect();
        assert_eq!(skips, [Some(SkipReason::SenderUnlisted), Some(SkipReason::NotOnSender)]);
    }
}
