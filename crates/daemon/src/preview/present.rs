//! What a job's filesystems have now, for simulations that begin with it.

use std::collections::BTreeMap;

use config::types::Job;
use model::protection::ProtectionKind;
use model::view::{FilesystemView, Placeholder, View};
use model::{DatasetName, Version};

use super::{Warnings, look_at_both, look_at_one, look_at_pulled};
use crate::daemon::World;

/// What a filesystem has now. Holds of the job itself do not count: they move with the next replication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// Where snapshots are taken.
    pub sender: Vec<Version>,
    /// Where they are sent; empty if the job sends none, or the filesystem is not there yet.
    pub receiver: Vec<Version>,
}

/// Lists the sides of a job once, and changes nothing.
///
/// # Errors
/// Why a side cannot be looked at, or that the job takes no snapshots by itself.
pub async fn present(job: &Job, world: &World) -> Result<BTreeMap<DatasetName, Present>, String> {
    let warnings = Warnings::default().into();
    let (sender, receiver) = match job {
        Job::Snap(job) => (look_at_one(job, world, &warnings).await?, View::default()),
        Job::Push(job) => {
            let (sender, receiver) = look_at_both(job, world, &warnings).await;
            (sender?, receiver?)
        }
        Job::Pull(job) => {
            let (_, sender, receiver) = look_at_pulled(job, world, &warnings).await;
            (sender?, receiver?)
        }
        Job::Sink(_) | Job::Source(_) => return Err("the job keeps nothing by itself".to_owned()),
    };
    let data = sender.filesystems.into_iter().filter(|(_, view)| view.placeholder != Placeholder::On);
    let with_receiver = data.map(|(name, view)| {
        let there = receiver.filesystems.get(&name).map(versions).unwrap_or_default();
        (name, Present { sender: versions(&view), receiver: there })
    });
    Ok(with_receiver.collect())
}

fn versions(view: &FilesystemView) -> Vec<Version> {
    let own = |version: &Version| {
        let holds = view.protections.iter().filter(|protection| {
            let hold = matches!(protection.kind, ProtectionKind::StepHold | ProtectionKind::LastReceivedHold);
            hold && version.is_snapshot() && protection.version.guid == version.guid
        });
        u32::try_from(holds.count()).unwrap_or(u32::MAX)
    };
    let versions = view.versions.iter();
    versions.map(|one| Version { userrefs: one.userrefs.saturating_sub(own(one)), ..one.clone() }).collect()
}
