//! Listings: one process for the datasets, one for their versions, side by side.

use std::collections::HashSet;

use model::DatasetName;

use super::argv::{self, Argv, Depth};
use super::classify;
use super::parse::{ContentsRows, DatasetRows, VersionRows, Versions};
use super::run::{Failure, Runner};
use crate::error::{Error, ErrorKind};
use crate::listing::{Contents, Dataset, Listing, Scope};

/// Bytes of arguments that options of a listing take, rounded up.
const OPTION_BYTES: usize = 1024;

pub(crate) async fn list(runner: &Runner, scope: &Scope) -> Result<Listing, Error> {
    match scope {
        Scope::Everything => read(runner, Depth::All, &[]).await,
        Scope::Trees(names) | Scope::Only(names) if names.is_empty() => Ok(Listing::default()),
        Scope::Trees(roots) => list_parts(runner, Depth::All, roots).await,
        Scope::Only(names) => list_parts(runner, Depth::ThisOne, names).await,
    }
}

async fn list_parts(runner: &Runner, depth: Depth, roots: &[DatasetName]) -> Result<Listing, Error> {
    let mut whole = Listing::default();
    let mut work = parts(roots, runner.config.arguments.total.saturating_sub(OPTION_BYTES));
    work.reverse();
    while let Some(part) = work.pop() {
        let listing = match read(runner, depth, part).await {
            Err(error) if matches!(error.kind, ErrorKind::ArgumentsTooLong) && part.len() > 1 => {
                let (first, second) = part.split_at(part.len() / 2);
                work.extend([second, first]);
                continue;
            }
            other => other?,
        };
        whole.datasets.extend(listing.datasets);
        whole.missing.extend(listing.missing);
        whole.skipped.extend(listing.skipped);
    }
    whole.datasets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(whole)
}

/// As many roots as fit into one command; thousands do.
fn parts(roots: &[DatasetName], limit: usize) -> Vec<&[DatasetName]> {
    let (mut parts, mut start, mut cost) = (Vec::new(), 0, 0);
    for (index, root) in roots.iter().enumerate() {
        let more = Argv::cost(root.as_str().len());
        if cost + more > limit && index > start {
            parts.extend(roots.get(start..index));
            (start, cost) = (index, 0);
        }
        cost += more;
    }
    parts.extend(roots.get(start..));
    parts
}

/// Pools whose names this program cannot use are left out.
pub(crate) async fn pools(runner: &Runner) -> Result<Vec<DatasetName>, Error> {
    let mut pools = Vec::new();
    let mut note = |line: &str| {
        pools.extend(DatasetName::parse(line));
        Ok(())
    };
    let listed = runner.lines(&argv::pools(), &mut note).await;
    listed.map_err(|failure| failure.into_error("list", "all pools"))?;
    Ok(pools)
}

pub(crate) async fn dataset(runner: &Runner, name: &DatasetName) -> Result<Dataset, Error> {
    let listing = read(runner, Depth::ThisOne, std::slice::from_ref(name)).await?;
    listing
        .datasets
        .into_iter()
        .find(|dataset| dataset.name == *name)
        .ok_or_else(|| Error::new("list", name, ErrorKind::NotFound))
}

/// What is in a dataset. A ZFS that does not know when snapshots last changed is asked once more.
pub(crate) async fn contents(runner: &Runner, name: &DatasetName) -> Result<Contents, Error> {
    match read_contents(runner, name, true).await {
        Err(Failure::Child(ended)) if ended.stderr.contains("invalid property 'snapshots_changed'") => {
            read_contents(runner, name, false).await
        }
        other => other,
    }
    .map_err(|failure| failure.into_error("look into", name))
}

async fn read_contents(runner: &Runner, name: &DatasetName, with_snapshots_changed: bool) -> Result<Contents, Failure> {
    let mut rows = ContentsRows::default();
    let argv = argv::get_contents(name, with_snapshots_changed);
    let ended = runner.lines(&argv, &mut |line| rows.push(line)).await?;
    rows.finish().map_err(|unexpected| {
        Failure::Kind(ErrorKind::Output { command: ended.command, problem: unexpected.into_problem() })
    })
}

async fn read(runner: &Runner, depth: Depth, roots: &[DatasetName]) -> Result<Listing, Error> {
    let ((mut datasets, mut skipped), (mut versions, unusable, gone)) =
        futures::try_join!(read_datasets(runner, depth, roots), read_versions(runner, depth, roots))?;
    skipped.extend(unusable);
    // Its pool may have been exported between the two: it is missing, not without versions.
    datasets.retain(|dataset| gone.is_empty() || !is_gone(&dataset.name, &gone));
    for dataset in &mut datasets {
        // A dataset that appeared between the two has none yet; versions of one that vanished are dropped.
        if let Some(versions) = versions.remove(dataset.name.as_str()) {
            dataset.versions = versions;
        }
    }
    let missing = missing(roots, &datasets);
    Ok(Listing { datasets, missing, skipped })
}

/// Whether a dataset, or one that contains it, is among those that are not there any longer.
fn is_gone(name: &DatasetName, gone: &HashSet<DatasetName>) -> bool {
    gone.contains(name) || name.ancestors().any(|above| gone.contains(&above))
}

fn missing(roots: &[DatasetName], datasets: &[Dataset]) -> Vec<DatasetName> {
    if roots.is_empty() {
        return Vec::new();
    }
    let found: HashSet<&DatasetName> = datasets.iter().map(|dataset| &dataset.name).collect();
    roots.iter().filter(|root| !found.contains(root)).cloned().collect()
}

async fn read_datasets(
    runner: &Runner,
    depth: Depth,
    roots: &[DatasetName],
) -> Result<(Vec<Dataset>, Vec<String>), Error> {
    let mut rows = DatasetRows::default();
    let argv = argv::get_datasets(depth, roots);
    accept(runner.lines(&argv, &mut |line| rows.push(line)).await, roots)?;
    rows.finish().map_err(|unexpected| {
        let problem = unexpected.into_problem();
        Error::new("list", object(roots), ErrorKind::Output { command: "zfs get".to_owned(), problem })
    })
}

/// The versions, what was left out, and the datasets that were not there.
async fn read_versions(
    runner: &Runner,
    depth: Depth,
    roots: &[DatasetName],
) -> Result<(Versions, Vec<String>, HashSet<DatasetName>), Error> {
    let mut rows = VersionRows::default();
    let argv = argv::list_versions(depth, roots);
    let gone = accept(runner.lines(&argv, &mut |line| rows.push(line)).await, roots)?;
    let (versions, unusable) = rows.finish();
    Ok((versions, unusable, gone))
}

/// A listing fails for a root that does not exist, and lists the others. It is good if that is all
/// that it complains about; gives back what it does not find.
fn accept<T>(outcome: Result<T, Failure>, roots: &[DatasetName]) -> Result<HashSet<DatasetName>, Error> {
    match outcome {
        Ok(_) => Ok(HashSet::new()),
        Err(Failure::Child(ended)) if ended.status.code().is_some() && only_absences(&ended.stderr) => {
            Ok(classify::messages(&ended.stderr).filter_map(|one| DatasetName::parse(one.object?).ok()).collect())
        }
        Err(failure) => Err(failure.into_error("list", object(roots))),
    }
}

fn only_absences(stderr: &str) -> bool {
    let mut lines = classify::lines(stderr).peekable();
    lines.peek().is_some()
        && lines.all(|line| {
            line == "no datasets available"
                || classify::message(line)
                    .is_some_and(|message| message.verb == "open" && classify::is_absence(message.reason))
        })
}

/// What a listing's error is about.
fn object(roots: &[DatasetName]) -> String {
    match roots {
        [] => "all pools".to_owned(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_cut_into_commands_that_fit() {
        let roots: Vec<DatasetName> = ["p/a", "p/b", "p/c", "p/d"].map(|name| DatasetName::parse(name).unwrap()).into();
        let sizes = |limit| parts(&roots, limit).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(sizes(1000), [4]);
        assert_eq!(sizes(2 * Argv::cost(3)), [2, 2]);
        assert_eq!(sizes(3 * Argv::cost(3)), [3, 1]);
        assert_eq!(sizes(0), [1, 1, 1, 1], "one at least");
    }

    #[test]
    fn only_absences_are_forgiven() {
        let absent = "cannot open 'p/x': dataset does not exist\ncannot open 'nopool': dataset does not exist\n";
        assert!(only_absences(absent));
        assert!(!only_absences(""));
        assert!(!only_absences(&format!("{absent}internal error: out of memory\n")));
        assert!(!only_absences("cannot open 'p': pool I/O is currently suspended\n"));
    }
}
