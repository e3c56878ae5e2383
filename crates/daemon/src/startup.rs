//! What is looked at once, when a daemon or a job has started: whether its pools are there. Nothing depends on
//! the answer; a person who reads the log at that time can do something about it.

use std::collections::{BTreeMap, BTreeSet};

use config::types::Job;
use model::{DatasetName, FilesystemFilter, JobName};
use zfs::Zfs;

/// Tells of pools that jobs are about and that cannot be seen.
pub(crate) async fn look_at_pools<'a>(
    jobs: impl Iterator<Item = &'a Job>,
    zfs: &dyn Zfs,
    mut tell: impl FnMut(String),
) {
    for (pool, jobs) in pools(jobs) {
        let Err(error) = zfs.dataset(&pool).await else { continue };
        let names: Vec<String> = jobs.iter().map(|job| format!("`{job}`")).collect();
        let (whose, names) = (if names.len() == 1 { "job" } else { "jobs" }, names.join(", "));
        let message = if error.is_not_found() {
            format!(
                "pool `{pool}` of {whose} {names} is not there: import it (`zpool import {pool}`), or correct its name in \
                 the configuration; whatever is on other pools is done meanwhile"
            )
        } else {
            format!("cannot look at pool `{pool}` of {whose} {names}: {error}; trying again whenever it is needed")
        };
        tell(message);
    }
}

/// The pools that the configuration names, each with its jobs. A filter that reaches all pools names none.
fn pools<'a>(jobs: impl Iterator<Item = &'a Job>) -> BTreeMap<DatasetName, BTreeSet<&'a JobName>> {
    let filtered = |filter: &FilesystemFilter| filter.roots().unwrap_or_default();
    let mut pools: BTreeMap<DatasetName, BTreeSet<&'a JobName>> = BTreeMap::new();
    for job in jobs {
        let datasets = match job {
            Job::Push(job) => filtered(&job.filesystems),
            Job::Source(job) => filtered(&job.filesystems),
            Job::Snap(job) => filtered(&job.filesystems),
            Job::Sink(job) => vec![job.root_fs.clone()],
            Job::Pull(job) => vec![job.root_fs.clone()],
        };
        for dataset in datasets {
            let pool = dataset.as_str().split('/').next().unwrap_or_default();
            if let Ok(pool) = DatasetName::parse(pool) {
                pools.entry(pool).or_default().insert(job.name());
            }
        }
    }
    pools
}
