//! Carries what earlier versions of zrepl left on disk over to what this one keeps.
//!
//! Planning lists, once; acting does what the plan names. Between the two a person may be asked.

use std::collections::BTreeMap;

use config::types::Job;
use model::migration::{CursorMigration, is_hashed_placeholder, migrate_cursor};
use model::{DatasetName, FilesystemFilter, JobName, PropertyName, VersionName};
use zfs::{Error, Listing, Scope, Zfs};

use model::abstraction::CURSOR_V1;

/// A filesystem of a migration, with what is to be done there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration<T> {
    /// The filesystem.
    pub filesystem: DatasetName,
    /// What there is to do.
    pub action: T,
}

/// What the marks of zrepl 0.0 are replaced below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivingJob {
    /// The job.
    pub job: JobName,
    /// What it receives below.
    pub root: DatasetName,
    /// What is there, itself included.
    pub filesystems: Vec<Migration<PlaceholderMark>>,
}

/// The placeholder mark of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceholderMark {
    /// Whether it says that the filesystem is a placeholder.
    pub is_placeholder: bool,
    /// The old text, if it is to be replaced.
    pub replaces: Option<String>,
}

/// Looks for cursors of zrepl up to 0.2 on all filesystems of this machine. Filesystems without one are
/// only counted.
///
/// # Errors
/// The machine's filesystems cannot be listed.
pub async fn plan_cursors(zfs: &dyn Zfs, jobs: &[Job]) -> Result<(Vec<Migration<CursorMigration>>, usize), Error> {
    let senders: Vec<(&JobName, &FilesystemFilter)> = jobs.iter().filter_map(sends).collect();
    let Listing { datasets, .. } = zfs.list(&Scope::Everything).await?;
    let (mut plan, mut without) = (Vec::new(), 0);
    for dataset in datasets {
        let owners = senders.iter().filter(|(_, filter)| filter.selects(&dataset.name));
        let owners: Vec<JobName> = owners.map(|(job, _)| (*job).clone()).collect();
        match migrate_cursor(&dataset.versions, &owners) {
            CursorMigration::Nothing => without += 1,
            action => plan.push(Migration { filesystem: dataset.name, action }),
        }
    }
    Ok((plan, without))
}

/// Destroys the old cursor of a filesystem; one that is gone counts as destroyed.
///
/// # Errors
/// ZFS refuses.
pub async fn destroy_old_cursor(zfs: &dyn Zfs, filesystem: &DatasetName) -> Result<(), Error> {
    let name = VersionName::parse(CURSOR_V1).map_err(|error| Error::new("destroy", CURSOR_V1, error.into()))?;
    zfs.destroy_bookmark(filesystem, &name).await
}

fn sends(job: &Job) -> Option<(&JobName, &FilesystemFilter)> {
    match job {
        Job::Push(job) => Some((&job.name, &job.filesystems)),
        Job::Source(job) => Some((&job.name, &job.filesystems)),
        Job::Sink(_) | Job::Pull(_) | Job::Snap(_) => None,
    }
}

/// What a job receives below; none if it does not receive.
pub fn receives(job: &Job) -> Option<(&JobName, &DatasetName)> {
    match job {
        Job::Sink(job) => Some((&job.name, &job.root_fs)),
        Job::Pull(job) => Some((&job.name, &job.root_fs)),
        Job::Push(_) | Job::Source(_) | Job::Snap(_) => None,
    }
}

/// Looks for marks of zrepl 0.0 below what jobs receive, in one listing.
///
/// # Errors
/// The filesystems cannot be listed.
pub async fn plan_placeholders(zfs: &dyn Zfs, jobs: &[Job]) -> Result<Vec<ReceivingJob>, Error> {
    let receiving: Vec<_> = jobs.iter().filter_map(receives).collect();
    let mut roots: Vec<DatasetName> = receiving.iter().map(|(_, root)| (*root).clone()).collect();
    roots.sort();
    roots.dedup();
    let outermost = roots.iter().filter(|root| !roots.iter().any(|other| root.is_below(other)));
    let listing = zfs.list(&Scope::Trees(outermost.cloned().collect())).await?;
    let marks: BTreeMap<DatasetName, PlaceholderMark> = listing
        .datasets
        .into_iter()
        .map(|dataset| {
            let text = dataset.placeholder_text.as_deref();
            let replaces =
                is_hashed_placeholder(dataset.placeholder, text).then(|| text.unwrap_or_default().to_owned());
            let is_placeholder = dataset.placeholder == model::view::Placeholder::On;
            (dataset.name, PlaceholderMark { is_placeholder, replaces })
        })
        .collect();
    let below = |root: &DatasetName| {
        let found = marks.iter().filter(|(name, _)| name.is_within(root));
        found.map(|(name, mark)| Migration { filesystem: name.clone(), action: mark.clone() }).collect()
    };
    let jobs = receiving.into_iter().map(|(job, root)| ReceivingJob {
        job: job.clone(),
        root: root.clone(),
        filesystems: below(root),
    });
    Ok(jobs.collect())
}

/// Replaces the mark of a filesystem by today's.
///
/// # Errors
/// ZFS refuses.
pub async fn mark_placeholder(zfs: &dyn Zfs, filesystem: &DatasetName) -> Result<(), Error> {
    zfs.set_property(filesystem, PropertyName::PLACEHOLDER.as_str(), "on").await
}
