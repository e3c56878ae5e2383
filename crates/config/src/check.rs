//! What jobs say about each other, over all files.

use std::collections::{HashMap, HashSet};

use model::DatasetName;

use crate::decode::Log;
use crate::jobs::Claims;
use crate::lint;
use crate::place::{Place, Spot};
use crate::types::{Connect, Job, LocalConnect, LocalServe, Serve};

/// Two jobs of one name would share what they keep on disk.
pub(crate) fn names(claims: &Claims, log: &Log) {
    let mut first = HashMap::new();
    for (name, place) in claims.names.borrow().iter() {
        if let Some(line) = first.get(name) {
            let error = place.error(format!("duplicate job name `{name}`"));
            log.report(error.with_hint(format!("the first one is at {line}; names of jobs are unique over all files")));
        } else {
            first.insert(name.clone(), place.line());
        }
    }
}

/// What works, but hardly as it was meant. Only worth saying when all jobs could be read.
pub(crate) fn relations(jobs: &[Job], claims: &Claims, log: &Log) {
    let spots = claims.spots.borrow();
    let jobs: Vec<(&Job, &Spot)> = jobs.iter().zip(spots.iter()).collect();
    listeners(&jobs, log);
    roots(&jobs, log);
    lint::listeners(&jobs, log);
    lint::snapshotters(&jobs, log);
    lint::local_pairs(&jobs, log);
    lint::unprotected_bases(&jobs, log);
    lint::keep_rules(&jobs, log);
}

/// Passwords in files that everybody can read.
pub(crate) fn secrets(secrets: &[Place], public: &HashSet<String>, log: &Log) {
    for place in secrets.iter().filter(|place| public.contains(place.file())) {
        let warning = place.warning("everybody on this machine can read this password");
        log.report(warning.with_hint(format!("`chmod o= {}`", place.file())));
    }
}

fn serve(job: &Job) -> Option<&Serve> {
    match job {
        Job::Sink(job) => Some(&job.serve),
        Job::Source(job) => Some(&job.serve),
        Job::Push(_) | Job::Pull(_) | Job::Snap(_) => None,
    }
}

fn connect(job: &Job) -> Option<&Connect> {
    match job {
        Job::Push(job) => Some(&job.connect),
        Job::Pull(job) => Some(&job.connect),
        Job::Sink(_) | Job::Source(_) | Job::Snap(_) => None,
    }
}

fn root(job: &Job) -> Option<&DatasetName> {
    match job {
        Job::Sink(job) => Some(&job.root_fs),
        Job::Pull(job) => Some(&job.root_fs),
        Job::Push(_) | Job::Source(_) | Job::Snap(_) => None,
    }
}

fn listeners(jobs: &[(&Job, &Spot)], log: &Log) {
    let mut served = HashMap::new();
    for (job, spot) in jobs {
        let Some(Serve::Local(LocalServe { listener_name: name })) = serve(job) else { continue };
        let place = spot.place(&["serve", "listener_name"]);
        if let Some(line) = served.get(name) {
            let warning = place.warning(format!("another job already has the listener name `{name}`"));
            log.report(warning.with_hint(format!("it is at {line}; that one gets all the clients, this one none")));
        } else {
            served.insert(name.clone(), place.line());
        }
    }
    for (job, spot) in jobs {
        let Some(Connect::Local(LocalConnect { listener_name: name, .. })) = connect(job) else { continue };
        if served.contains_key(name) {
            continue;
        }
        let passive = if matches!(job, Job::Push(_)) { "sink" } else { "source" };
        let place = spot.place(&["connect", "listener_name"]);
        let warning = place.warning(format!("no {passive} job has the listener name `{name}`"));
        log.report(warning.with_hint(format!("replication will fail until a {passive} of the same daemon serves it")));
    }
}

fn roots(jobs: &[(&Job, &Spot)], log: &Log) {
    // By path, so that a root comes right before what is below it.
    let roots = jobs.iter().filter_map(|(job, spot)| Some((root(job)?, spot.place(&["root_fs"]))));
    let mut sorted: Vec<_> = roots.collect();
    sorted.sort_by(|(left, _), (right, _)| left.components().cmp(right.components()));
    let mut above: Option<(&DatasetName, Place)> = None;
    for entry in sorted {
        match &above {
            Some((root, place)) if entry.0.is_within(root) => {
                let message = format!("`root_fs` overlaps with `{root}` of another job");
                let hint = format!("that one is at {}; give each job a tree of its own", place.line());
                log.report(entry.1.warning(message).with_hint(hint));
            }
            _ => above = Some(entry),
        }
    }
}
