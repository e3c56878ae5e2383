//! What jobs say about each other, over all files.

use std::collections::HashMap;

use crate::decode::Log;
use crate::jobs::Claims;

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
pub(crate) fn relations(claims: &Claims, log: &Log) {
    listeners(claims, log);
    roots(claims, log);
}

fn listeners(claims: &Claims, log: &Log) {
    let mut served = HashMap::new();
    for (name, place) in claims.served.borrow().iter() {
        if let Some(line) = served.get(name) {
            let warning = place.warning(format!("another sink already has the listener name `{name}`"));
            log.report(
                warning.with_hint(format!("it is at {line}; which of the two gets a connection is left to chance")),
            );
        } else {
            served.insert(name.clone(), place.line());
        }
    }
    for (name, place) in claims.dialled.borrow().iter().filter(|(name, _)| !served.contains_key(name)) {
        let warning = place.warning(format!("no sink job has the listener name `{name}`"));
        log.report(warning.with_hint("replication will fail until a sink of the same daemon serves it"));
    }
}

fn roots(claims: &Claims, log: &Log) {
    let roots = claims.roots.borrow();
    // By path, so that a root comes right before what is below it.
    let mut sorted: Vec<_> = roots.iter().collect();
    sorted.sort_by(|(left, _), (right, _)| left.components().cmp(right.components()));
    let mut above: Option<&(model::DatasetName, crate::decode::Place)> = None;
    for entry in sorted {
        match above {
            Some((root, place)) if entry.0.is_within(root) => {
                let message = format!("`root_fs` overlaps with `{root}` of another sink");
                let hint = format!("that one is at {}; give each sink a tree of its own", place.line());
                log.report(entry.1.warning(message).with_hint(hint));
            }
            _ => above = Some(entry),
        }
    }
}
