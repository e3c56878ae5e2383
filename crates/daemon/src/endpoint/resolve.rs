//! Gets what is on a receiver out of the way of a replication, when the job's policy asks for it: back
//! to a version that the sender knows, or aside under another name.
//!
//! A caller names all that may be destroyed or moved. What is found to be otherwise refuses the call
//! before anything has changed.

use std::collections::BTreeSet;

use model::aside::{aside_name, is_aside};
use model::event::What;
use model::plan::protection::after_receive;
use model::protection::last_received_tag;
use model::{DatasetName, Version, VersionKind, VersionName, VersionRef};
use wire::{CallError, RollBackRequest};
use zfs::{Dataset, ErrorKind, Scope, Snapshot};

use super::passing::Passing;
use super::protect::Made;
use super::view::Side;
use super::{needs_person, refused};

/// The refusal of a name that [`Side::rename_aside`] makes: nothing is received or destroyed there.
pub(super) fn refuse_aside(filesystem: &DatasetName) -> Result<(), CallError> {
    match is_aside(filesystem) {
        false => Ok(()),
        true => Err(CallError::permanent(format!(
            "filesystem {:?} has the name of what was moved out of the way of a replication (rename it first)",
            filesystem.as_str()
        ))),
    }
}

/// The answer to a receive that failed.
pub(super) fn receive_refused(error: &zfs::Error) -> CallError {
    match error.kind {
        ErrorKind::TargetModified => CallError::TargetModified(format!(
            "{error} (if what was changed there may be lost, roll it back on the receiver with `zfs rollback \
             {object}@NEWEST`, NEWEST being its newest snapshot, or let the job do so with `conflict_resolution: \
             {{diverged: rollback_receiver}}`; `zfs set readonly=on {object}` there prevents it)",
            object = error.object
        )),
        _ => refused(error),
    }
}

impl Side {
    /// Destroys the named snapshots of `target`, which must be all that are newer than `to`, and then
    /// rolls its live data back; gives the names of what was destroyed. What this job held there, it
    /// holds at `to` before.
    pub(super) async fn roll_back(
        &self,
        target: &DatasetName,
        request: &RollBackRequest,
    ) -> Result<Vec<VersionName>, CallError> {
        let dataset = self.zfs.dataset(target).await.map_err(|error| refused(&error))?;
        let to = rolled_back_to(&dataset, &request.to)?;
        let newer = newer_snapshots(&dataset, to, request)?;
        self.check_holds(target, &newer).await?;
        // Its base may be among what goes. With live changes alone it stays, and can be resumed.
        let partial = dataset.resume_token.is_some();
        if partial && !request.discard_partial && !newer.is_empty() {
            let how = "an interrupted receive left something there".to_owned();
            return Err(Passing::Changed { what: "roll back", name: target.to_string(), how }.into());
        }
        self.table.forget(target);
        if partial && request.discard_partial {
            self.zfs.abort_receive(target).await.map_err(|error| refused(&error))?;
        }
        self.hold_only(target, &to.to_ref(), request).await?;
        let names: Vec<VersionName> = newer.iter().map(|version| version.name.clone()).collect();
        self.zfs.destroy_together(target, &names).await.map_err(|error| kept(target, &error))?;
        let snapshot = Snapshot { dataset: target.clone(), name: to.name.clone() };
        self.zfs.rollback(&snapshot).await.map_err(|error| refused(&error))?;
        self.tell_resolved(
            target,
            match names.is_empty() {
                true => format!("rolled {:?} back to {to}, as the sender's job wants", target.as_str()),
                false => format!(
                    "rolled {:?} back to {to}, as the sender's job wants; destroyed @{}",
                    target.as_str(),
                    names.iter().map(VersionName::as_str).collect::<Vec<_>>().join(", @")
                ),
            },
        );
        Ok(names)
    }

    /// Fails if somebody else holds one of the snapshots.
    async fn check_holds(&self, target: &DatasetName, snapshots: &[&Version]) -> Result<(), CallError> {
        let held = snapshots.iter().filter(|version| version.userrefs > 0);
        let held: Vec<Snapshot> =
            held.map(|version| Snapshot { dataset: target.clone(), name: version.name.clone() }).collect();
        if held.is_empty() {
            return Ok(());
        }
        let own = last_received_tag(&self.job).map_err(CallError::permanent)?;
        let holds = self.zfs.holds(&held).await.map_err(|error| refused(&error))?;
        match holds.iter().find(|hold| hold.tag != own) {
            None => Ok(()),
            Some(hold) => Err(needs_person(format!(
                "cannot roll back {:?}: {} is held by {:?}; nothing was destroyed",
                target.as_str(),
                hold.snapshot(),
                hold.tag.as_str()
            ))),
        }
    }

    /// Holds `to` for this job as after a step that brought it, and nothing else.
    async fn hold_only(
        &self,
        target: &DatasetName,
        to: &VersionRef,
        request: &RollBackRequest,
    ) -> Result<(), CallError> {
        let Some(facts) = self.facts(target).await? else {
            return Err(Passing::Gone(target.to_string()).into());
        };
        let changes = after_receive(to, request.protection.incremental, &facts.protections);
        self.make(target, &changes, Made::LastReceived).await?;
        self.remove(target, &changes).await;
        self.table.forget(target);
        Ok(())
    }

    /// Gives `target` the name of [`model::aside`], with what is below it, which must be what is named.
    pub(super) async fn rename_aside(
        &self,
        target: &DatasetName,
        newest: &VersionRef,
        below: &BTreeSet<DatasetName>,
    ) -> Result<DatasetName, CallError> {
        let tree = Scope::Trees(vec![target.clone()]);
        let listing = self.zfs.list(&tree).await.map_err(|error| refused(&error))?;
        let changed = |how: &str| Passing::Changed { what: "rename", name: target.to_string(), how: how.to_owned() };
        if !listing.skipped.is_empty() {
            return Err(needs_person(format!(
                "cannot rename {:?}: it contains what this program cannot name: {}",
                target.as_str(),
                listing.skipped.join(", ")
            )));
        }
        let own = listing.datasets.iter().find(|dataset| dataset.name == *target);
        let own = own.ok_or_else(|| changed("it has gone"))?;
        if own.versions.iter().rfind(|version| version.is_snapshot()).map(|version| version.guid) != Some(newest.guid) {
            return Err(changed("its newest snapshot has changed").into());
        }
        // What was moved out of the way before moves along, unnamed: no plan speaks of it.
        let others = listing.datasets.iter().map(|dataset| &dataset.name);
        let mut others = others.filter(|name| *name != target && !is_aside(name));
        if let Some(new) = others.find(|name| !below.contains(*name)) {
            return Err(changed(&format!("{:?} has appeared", new.as_str())).into());
        }
        let longest = listing.datasets.iter().map(|dataset| longest_name(dataset) - target.as_str().len()).max();
        let aside = aside_name(target, self.events.clock().now(), longest.unwrap_or(0))
            .map_err(|error| needs_person(&error))?;
        listing.datasets.iter().for_each(|dataset| self.table.forget(&dataset.name));
        self.zfs.rename(target, &aside).await.map_err(|error| match error.kind {
            // Of the same second.
            ErrorKind::Exists => Passing::AsideTaken { name: target.to_string(), aside: aside.to_string() }.into(),
            _ => refused(&error),
        })?;
        let (old, new) = (target.as_str(), aside.as_str());
        self.tell_resolved(
            target,
            format!("renamed {old:?} to {new:?}, as the sender's job wants; it is left alone from now on"),
        );
        Ok(aside)
    }

    fn tell_resolved(&self, target: &DatasetName, message: String) {
        self.events.tell_of(target, What::Warning { subsystem: "endpoint", message });
    }
}

/// The snapshot to go back to, told by its guid.
fn rolled_back_to<'a>(dataset: &'a Dataset, wanted: &VersionRef) -> Result<&'a Version, CallError> {
    let found = dataset.versions.iter().find(|version| version.is_snapshot() && version.guid == wanted.guid);
    found.ok_or_else(|| {
        let to = format!("{wanted} (guid {})", wanted.guid);
        Passing::NoTarget { name: dataset.name.to_string(), to }.into()
    })
}

/// Everything newer than `to`, if it is what the request names.
fn newer_snapshots<'a>(
    dataset: &'a Dataset,
    to: &Version,
    request: &RollBackRequest,
) -> Result<Vec<&'a Version>, CallError> {
    let cannot =
        |why: String| format!("cannot roll back {:?} to {to}: {why}; nothing was destroyed", dataset.name.as_str());
    let newer = dataset.versions.iter().filter(|version| version.createtxg > to.createtxg);
    let (newer, marks): (Vec<&Version>, Vec<&Version>) = newer.partition(|version| version.is_snapshot());
    if let Some(mark) = marks.first() {
        return Err(needs_person(cannot(format!(
            "bookmark {mark} is newer, and may be the base of another replication"
        ))));
    }
    if let Some(new) = newer.iter().find(|version| !request.destroy.contains(&version.to_ref())) {
        let (name, to) = (dataset.name.to_string(), to.to_string());
        return Err(Passing::Newer { name, to, new: new.to_string() }.into());
    }
    let is_newer = |named: &VersionRef| newer.iter().any(|version| version.to_ref() == *named);
    let there = |named: &VersionRef| {
        named.kind != VersionKind::Snapshot
            || dataset.versions.iter().any(|version| version.is_snapshot() && version.name == named.name)
    };
    match request.destroy.iter().find(|named| there(named) && !is_newer(named)) {
        Some(named) => Err(CallError::permanent(cannot(format!("{named} is not what is to be destroyed")))),
        None => Ok(newer),
    }
}

/// The refusal of ZFS to destroy what a rollback has to.
fn kept(target: &DatasetName, error: &zfs::Error) -> CallError {
    match error.kind {
        ErrorKind::HasClones | ErrorKind::Held => {
            needs_person(format!("cannot roll back {:?}: {error}; nothing was destroyed", target.as_str()))
        }
        _ => refused(error),
    }
}

/// The longest name of a dataset and its versions, in bytes.
fn longest_name(dataset: &Dataset) -> usize {
    let longest = dataset.versions.iter().map(|version| 1 + version.name.as_str().len()).max();
    dataset.name.as_str().len() + longest.unwrap_or(0)
}
