//! Destroys many snapshots of one dataset in few commands.
//!
//! `zfs destroy FS@a,b,c` destroys all or, if one of them cannot be, none, and says which could not.
//! Those are taken out with their reason and the rest is tried again. Names that do not exist are
//! ignored by ZFS unless it is all of them. What it says for other failures does not tell the culprit,
//! so then each is tried alone.

use std::collections::{BTreeMap, BTreeSet};

use model::{DatasetName, VersionName};

use super::argv::{self, Argv};
use super::bulk::holds_for_all;
use super::classify::{self, Message};
use super::run::{Ended, Failure, Runner};
use crate::error::{Error, ErrorKind};
use crate::ops::ItemResult;

/// How often the rest is tried again before each name is tried alone. ZFS reports all clones at once,
/// and then all holds at once; the third is for changes meanwhile.
const ROUNDS: usize = 3;

/// Bytes of arguments that are not that word, rounded up.
const OPTION_BYTES: usize = 1024;

const OPERATION: &str = "destroy";

pub(crate) async fn snapshots(runner: &Runner, dataset: &DatasetName, names: &[VersionName]) -> Vec<ItemResult> {
    let mut destroyer = Destroyer { runner, dataset, failed: BTreeMap::new() };
    let distinct: Vec<&VersionName> = names.iter().collect::<BTreeSet<_>>().into_iter().collect();
    for batch in fit(runner, dataset, distinct) {
        destroyer.batch(batch).await;
    }
    names.iter().map(|name| destroyer.failed.get(name).cloned().map_or(Ok(()), Err)).collect()
}

/// All of them in one command, or none.
pub(crate) async fn together(runner: &Runner, dataset: &DatasetName, names: &[VersionName]) -> Result<(), Error> {
    let distinct: Vec<&VersionName> = names.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let names = match fit(runner, dataset, distinct).as_slice() {
        [] => return Ok(()),
        [all] => all.clone(),
        _ => return Err(Failure::TooLong.into_error(OPERATION, dataset)),
    };
    match runner.run(&argv::destroy_snapshots(dataset, &names)).await {
        Ok(_) => Ok(()),
        Err(Failure::Child(ended)) if ended.status.code().is_some() => {
            if all_gone(&ended, dataset) {
                return Ok(());
            }
            match culprits(&ended.stderr, dataset, &names).pop_first() {
                Some((name, (kind, said))) => {
                    let object = format!("{dataset}@{name}");
                    Err(Error::new(OPERATION, object, kind).with_child(ended.failure_saying(said)))
                }
                None => Err(ended.error(OPERATION, dataset)),
            }
        }
        Err(other) => Err(other.into_error(OPERATION, dataset)),
    }
}

/// Whether there was nothing to destroy any more.
fn all_gone(ended: &Ended, dataset: &DatasetName) -> bool {
    classify::lines(&ended.stderr).any(|line| {
        line == "could not find any snapshots to destroy; check snapshot names."
            || classify::message(line)
                .is_some_and(|message| classify::is_absence(message.reason) && message.object == Some(dataset.as_str()))
    })
}

fn fit<'a>(runner: &Runner, dataset: &DatasetName, names: Vec<&'a VersionName>) -> Vec<Vec<&'a VersionName>> {
    // All names are one word.
    let limit = runner.config.arguments.total.saturating_sub(OPTION_BYTES).min(runner.config.arguments.one);
    let base = Argv::cost(dataset.as_str().len());
    let (mut batches, mut cost) = (Vec::<Vec<&VersionName>>::new(), base);
    for name in names {
        let more = name.as_str().len() + 1;
        match batches.last_mut() {
            Some(batch) if cost + more <= limit => batch.push(name),
            _ => {
                batches.push(vec![name]);
                cost = base;
            }
        }
        cost += more;
    }
    batches
}

struct Destroyer<'a> {
    runner: &'a Runner,
    dataset: &'a DatasetName,
    /// What is not here is destroyed, or was gone.
    failed: BTreeMap<&'a VersionName, Error>,
}

impl<'a> Destroyer<'a> {
    async fn batch(&mut self, names: Vec<&'a VersionName>) {
        let mut work = vec![(names, ROUNDS)];
        while let Some((mut names, rounds)) = work.pop() {
            match self.runner.run(&argv::destroy_snapshots(self.dataset, &names)).await {
                Ok(_) => {}
                Err(Failure::TooLong) if names.len() > 1 => {
                    let second = names.split_off(names.len() / 2);
                    work.extend([(second, rounds), (names, rounds)]);
                }
                Err(Failure::Child(ended)) if ended.status.code().is_some() => {
                    work.extend(self.failed(names, rounds, &ended));
                }
                Err(Failure::Child(ended)) => names.iter().for_each(|name| self.fail(name, &ended)),
                Err(other) => {
                    let error = other.into_error(OPERATION, self.dataset);
                    for name in names {
                        self.failed.insert(name, Error { object: format!("{}@{name}", self.dataset), ..error.clone() });
                    }
                }
            }
        }
    }

    /// What is left to do after a command that destroyed nothing.
    fn failed(
        &mut self,
        mut names: Vec<&'a VersionName>,
        rounds: usize,
        ended: &Ended,
    ) -> Vec<(Vec<&'a VersionName>, usize)> {
        if all_gone(ended, self.dataset) {
            return Vec::new();
        }
        let before = names.len();
        let culprits = culprits(&ended.stderr, self.dataset, &names);
        names.retain(|name| !culprits.contains_key(name));
        for (name, (kind, said)) in culprits {
            let object = format!("{}@{name}", self.dataset);
            self.failed.insert(name, Error::new(OPERATION, object, kind).with_child(ended.failure_saying(said)));
        }
        let is_of_the_filesystem = |kind| holds_for_all(&kind) || matches!(kind, ErrorKind::PermissionDenied);
        if names.len() == before && is_of_the_filesystem(ended.kind(self.dataset.as_str())) {
            names.iter().for_each(|name| self.fail(name, ended));
            return Vec::new();
        }
        match names.as_slice() {
            [] => Vec::new(),
            _ if names.len() < before && rounds > 0 => vec![(names, rounds - 1)],
            [one] if names.len() == before => {
                self.fail(one, ended);
                Vec::new()
            }
            _ => names.into_iter().rev().map(|name| (vec![name], 0)).collect(),
        }
    }

    fn fail(&mut self, name: &'a VersionName, ended: &Ended) {
        self.failed.insert(name, ended.error(OPERATION, format!("{}@{name}", self.dataset)));
    }
}

/// The names that a failed command says it cannot destroy, with the reason and the words for it. Of thousands each
/// has its own: all of them for each would be gigabytes.
fn culprits<'a>(
    stderr: &str,
    dataset: &DatasetName,
    names: &[&'a VersionName],
) -> BTreeMap<&'a VersionName, (ErrorKind, String)> {
    let by_text: BTreeMap<&str, &'a VersionName> = names.iter().map(|name| (name.as_str(), *name)).collect();
    let mut culprits = BTreeMap::new();
    for line in classify::lines(stderr) {
        let found =
            line.strip_prefix("cannot destroy snapshot ").and_then(|object| name_in(object, dataset)).map_or_else(
                || {
                    let message = classify::message(line)?;
                    Some((*by_text.get(name_in(message.object?, dataset)?)?, message.reason))
                },
                |rest| unquoted_culprit(rest, &by_text),
            );
        let Some((name, reason)) = found else { continue };
        let object = format!("{dataset}@{name}");
        let message = Message { verb: "destroy snapshot", object: Some(&object), reason };
        let kind = classify::of_message(message, &object).unwrap_or_else(|| ErrorKind::Failed {
            command: "zfs destroy".to_owned(),
            status: "an error".to_owned(),
            stderr: reason.to_owned(),
        });
        culprits.insert(name, (kind, line.to_owned()));
    }
    culprits
}

/// The short name of a snapshot of this dataset.
fn name_in<'t>(object: &'t str, dataset: &DatasetName) -> Option<&'t str> {
    object.strip_prefix(dataset.as_str())?.strip_prefix('@')
}

/// `NAME: REASON` where the name may itself contain a colon and a blank, and the reason the name: the
/// longest name that was asked for is meant.
fn unquoted_culprit<'a, 't>(
    rest: &'t str,
    names: &BTreeMap<&str, &'a VersionName>,
) -> Option<(&'a VersionName, &'t str)> {
    rest.rmatch_indices(": ").find_map(|(at, colon)| {
        let name = names.get(rest.get(..at)?)?;
        Some((*name, rest.get(at + colon.len()..)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stderr: &str, names: &[&str]) -> Vec<String> {
        let dataset = DatasetName::parse("p/a b").unwrap();
        let names: Vec<VersionName> = names.iter().map(|name| VersionName::parse(name).unwrap()).collect();
        let names: Vec<&VersionName> = names.iter().collect();
        culprits(stderr, &dataset, &names).into_iter().map(|(name, (kind, _))| format!("{name}: {kind}")).collect()
    }

    #[test]
    fn undestroyable_snapshots_in_every_wording() {
        let text = "cannot destroy snapshot p/a b@4 5 6: it's being held. Run 'zfs holds -r p/a b@4 5 6' to see holders.\n\
                    cannot destroy snapshot p/a b@old: dataset is busy\n\
                    cannot destroy snapshot p/a b@x: y: it's being held. Run 'zfs holds -r p/a b@x: y' to see holders.\n\
                    cannot destroy 'p/a b@c': snapshot has dependent clones\n\
                    use '-R' to destroy the following datasets:\np/clone\n\
                    cannot destroy snapshot p/a b@d: snapshot is cloned\n\
                    cannot destroy snapshot p/a b@e: something new\n\
                    cannot destroy snapshot p/other@f: dataset is busy\n";
        assert_eq!(
            found(text, &["4 5 6", "old", "x: y", "x", "c", "d", "e", "f", "free"]),
            [
                "4 5 6: it is held (see `zfs holds`)",
                "c: it has clones (see `zfs get clones`, and destroy or promote them)",
                "d: it has clones (see `zfs get clones`, and destroy or promote them)",
                "e: `zfs destroy` failed with an error: something new",
                "old: it is held (see `zfs holds`)",
                "x: y: it is held (see `zfs holds`)",
            ]
        );
    }
}
