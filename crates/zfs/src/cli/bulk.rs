//! Commands that take many snapshots at once, with a result for each.

use model::HoldTag;

use super::argv::{self, Argv};
use super::classify::{self, Message};
use super::parse::HoldRows;
use super::run::{Ended, Failure, Runner};
use crate::error::{Error, ErrorKind};
use crate::listing::Hold;
use crate::ops::{ItemResult, Snapshot};

/// Bytes of arguments that are no snapshots, rounded up: the options, or a tag.
const OPTION_BYTES: usize = 1024;

/// Indices into the caller's list.
type Batch = Vec<usize>;

/// Cuts what one command shall do into what fits into one.
fn fit(runner: &Runner, snapshots: &[Snapshot], items: Batch) -> Vec<Batch> {
    let limit = runner.config.arguments.total.saturating_sub(OPTION_BYTES);
    let (mut batches, mut cost) = (Vec::<Batch>::new(), 0);
    for item in items {
        let Some(snapshot) = snapshots.get(item) else { continue };
        let more = Argv::cost(snapshot.dataset.as_str().len() + 1 + snapshot.name.as_str().len());
        match batches.last_mut() {
            Some(batch) if cost + more <= limit => {
                batch.push(item);
                cost += more;
            }
            _ => {
                batches.push(vec![item]);
                cost = more;
            }
        }
    }
    batches
}

fn halves(mut batch: Batch) -> [Batch; 2] {
    let second = batch.split_off(batch.len() / 2);
    [batch, second]
}

/// The results of one bulk operation as they become known.
struct Results<'a> {
    operation: &'static str,
    snapshots: &'a [Snapshot],
    known: Vec<(usize, ItemResult)>,
}

impl<'a> Results<'a> {
    fn new(operation: &'static str, snapshots: &'a [Snapshot]) -> Self {
        Self { operation, snapshots, known: Vec::new() }
    }

    fn of(&self, batch: &[usize]) -> Vec<&'a Snapshot> {
        batch.iter().filter_map(|item| self.snapshots.get(*item)).collect()
    }

    fn set(&mut self, item: usize, result: Result<(), (ErrorKind, Option<&Ended>)>) {
        let object = self.snapshots.get(item).map(ToString::to_string).unwrap_or_default();
        let result = result.map_err(|(kind, ended)| {
            let error = Error::new(self.operation, object, kind);
            match ended {
                Some(ended) => error.with_child(ended.failure()),
                None => error,
            }
        });
        self.known.push((item, result));
    }

    fn succeed(&mut self, batch: &[usize]) {
        batch.iter().for_each(|item| self.set(*item, Ok(())));
    }

    fn fail(&mut self, batch: &[usize], kind: &ErrorKind, ended: Option<&Ended>) {
        batch.iter().for_each(|item| self.set(*item, Err((kind.clone(), ended))));
    }
}

/// One result per snapshot, in order.
fn in_order(operation: &'static str, snapshots: &[Snapshot], known: Vec<(usize, ItemResult)>) -> Vec<ItemResult> {
    let mut results: Vec<ItemResult> =
        snapshots.iter().map(|snapshot| Err(Error::new(operation, snapshot, ErrorKind::Cancelled))).collect();
    for (item, result) in known {
        if let Some(place) = results.get_mut(item) {
            *place = result;
        }
    }
    results
}

/// Whether a message is about this snapshot, or about its dataset as a whole.
fn concerns(message: Message<'_>, snapshot: &Snapshot) -> bool {
    let Some(object) = message.object else { return false };
    match object.split_once('@') {
        Some((dataset, name)) => dataset == snapshot.dataset.as_str() && name == snapshot.name.as_str(),
        None => object == snapshot.dataset.as_str(),
    }
}

/// Takes snapshots. One command is atomic; ZFS allows one snapshot per dataset and one pool in it.
/// What is too much for one command is taken by several, one after the other in the order given: each
/// is one instant, and a failure of one does not stop the next.
pub(crate) async fn snapshot(runner: &Runner, snapshots: &[Snapshot]) -> Vec<ItemResult> {
    const OPERATION: &str = "create snapshot";
    let pools = by_pool(snapshots).into_iter().map(|rounds| snapshot_pool(runner, OPERATION, snapshots, rounds));
    let known = futures::future::join_all(pools).await.concat();
    in_order(OPERATION, snapshots, known)
}

/// For each pool, rounds in which no dataset occurs twice.
fn by_pool(snapshots: &[Snapshot]) -> Vec<Vec<Batch>> {
    let mut pools = std::collections::BTreeMap::<&str, Vec<Batch>>::new();
    let mut seen = std::collections::HashMap::<&str, usize>::new();
    for (item, snapshot) in snapshots.iter().enumerate() {
        let round = seen.entry(snapshot.dataset.as_str()).and_modify(|round| *round += 1).or_insert(0);
        let rounds = pools.entry(snapshot.dataset.pool()).or_default();
        match rounds.get_mut(*round) {
            Some(batch) => batch.push(item),
            None => rounds.push(vec![item]),
        }
    }
    pools.into_values().collect()
}

async fn snapshot_pool(
    runner: &Runner,
    operation: &'static str,
    snapshots: &[Snapshot],
    rounds: Vec<Batch>,
) -> Vec<(usize, ItemResult)> {
    let mut results = Results::new(operation, snapshots);
    for round in rounds {
        let mut work: Vec<Batch> = fit(runner, snapshots, round);
        work.reverse();
        while let Some(batch) = work.pop() {
            let failure = match runner.run(&argv::snapshot(&results.of(&batch))).await {
                Ok(_) => {
                    results.succeed(&batch);
                    continue;
                }
                Err(failure) => failure,
            };
            work.extend(snapshot_failed(&mut results, batch, failure).into_iter().rev());
        }
    }
    results.known
}

/// Nothing was made. Those that ZFS named are out; the rest is tried again.
fn snapshot_failed(results: &mut Results<'_>, batch: Batch, failure: Failure) -> Vec<Batch> {
    let ended = match failure {
        Failure::TooLong if batch.len() > 1 => return halves(batch).into(),
        Failure::Child(ended) => ended,
        other => {
            let kind = other.into_error(results.operation, "").kind;
            results.fail(&batch, &kind, None);
            return Vec::new();
        }
    };
    let (named, rest): (Vec<_>, Vec<_>) = batch.iter().copied().partition(|item| {
        let snapshot = results.snapshots.get(*item);
        snapshot.is_some_and(|snapshot| classify::messages(&ended.stderr).any(|message| concerns(message, snapshot)))
    });
    if !named.is_empty() && ended.status.code().is_some() {
        for item in named {
            let kind = own_kind(&ended, results.snapshots.get(item));
            results.set(item, Err((kind, Some(&ended))));
        }
        return if rest.is_empty() { Vec::new() } else { vec![rest] };
    }
    let object = batch.first().and_then(|item| results.snapshots.get(*item)).map(ToString::to_string);
    let kind = ended.kind(&object.unwrap_or_default());
    if batch.len() == 1 || holds_for_all(&kind) {
        results.fail(&batch, &kind, Some(&ended));
        return Vec::new();
    }
    halves(batch).into()
}

/// What a failed command says of one of its snapshots.
fn own_kind(ended: &Ended, snapshot: Option<&Snapshot>) -> ErrorKind {
    let Some(snapshot) = snapshot else { return ErrorKind::NotFound };
    let object = snapshot.to_string();
    classify::messages(&ended.stderr)
        .filter(|message| concerns(*message, snapshot))
        .find_map(|message| classify::of_message(message, &object))
        .unwrap_or_else(|| ended.kind(&object))
}

/// Failures that would be the same for every snapshot of the command.
pub(super) fn holds_for_all(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PoolMissing { .. }
            | ErrorKind::PoolSuspended { .. }
            | ErrorKind::ReadOnly
            | ErrorKind::NoModule
            | ErrorKind::Killed { .. }
    )
}

/// Which failures of an item mean that what was wanted is so.
type GoodEnough = fn(&ErrorKind) -> bool;

pub(crate) async fn hold(runner: &Runner, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult> {
    each("hold", runner, snapshots, |batch| argv::hold(tag, batch), |kind| matches!(kind, ErrorKind::Exists)).await
}

pub(crate) async fn release(runner: &Runner, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult> {
    let gone: GoodEnough = |kind| matches!(kind, ErrorKind::NotFound);
    each("release the hold of", runner, snapshots, |batch| argv::release(tag, batch), gone).await
}

/// Runs a command that treats each of its snapshots on its own, and complains in a line for each that
/// failed.
async fn each(
    operation: &'static str,
    runner: &Runner,
    snapshots: &[Snapshot],
    argv: impl Fn(&[&Snapshot]) -> Argv,
    good_enough: GoodEnough,
) -> Vec<ItemResult> {
    let mut results = Results::new(operation, snapshots);
    let mut work = fit(runner, snapshots, (0..snapshots.len()).collect());
    work.reverse();
    while let Some(batch) = work.pop() {
        let outcome = runner.run(&argv(&results.of(&batch))).await;
        match outcome {
            Ok(_) => results.succeed(&batch),
            Err(failure) => work.extend(each_failed(&mut results, batch, failure, good_enough)),
        }
    }
    in_order(operation, snapshots, results.known)
}

fn each_failed(results: &mut Results<'_>, batch: Batch, failure: Failure, good_enough: GoodEnough) -> Vec<Batch> {
    let ended = match failure {
        Failure::TooLong if batch.len() > 1 => return halves(batch).into(),
        Failure::Child(ended) if ended.status.code().is_some() => ended,
        Failure::Child(ended) => {
            let kind = ended.kind("");
            results.fail(&batch, &kind, Some(&ended));
            return Vec::new();
        }
        other => {
            let kind = other.into_error(results.operation, "").kind;
            results.fail(&batch, &kind, None);
            return Vec::new();
        }
    };
    let unnamed = set_named(results, &batch, &ended, good_enough);
    // Lines that name nothing: one for each snapshot, or which is meant is found out in halves.
    let complaints = complaints_about_nothing(&ended, results, &batch);
    if complaints == 0 && unnamed.len() < batch.len() {
        results.succeed(&unnamed);
        return Vec::new();
    }
    if unnamed.is_empty() {
        return Vec::new();
    }
    if unnamed.len() == 1 || complaints == unnamed.len() {
        for item in unnamed {
            let object = results.snapshots.get(item).map(ToString::to_string).unwrap_or_default();
            let kind = ended.kind(&object);
            results.set(item, Err((kind, Some(&ended))));
        }
        return Vec::new();
    }
    halves(unnamed).into()
}

/// Sets the results of those that are named, and returns the others.
fn set_named(results: &mut Results<'_>, batch: &[usize], ended: &Ended, good_enough: GoodEnough) -> Batch {
    let mut others = Vec::new();
    for &item in batch {
        let Some(snapshot) = results.snapshots.get(item) else { continue };
        if classify::messages(&ended.stderr).any(|message| concerns(message, snapshot)) {
            let kind = own_kind(ended, Some(snapshot));
            results.set(item, if good_enough(&kind) { Ok(()) } else { Err((kind, Some(ended))) });
        } else {
            others.push(item);
        }
    }
    others
}

fn complaints_about_nothing(ended: &Ended, results: &Results<'_>, batch: &[usize]) -> usize {
    let about_one = |line: &str| {
        classify::message(line).is_some_and(|message| results.of(batch).iter().any(|s| concerns(message, s)))
    };
    classify::lines(&ended.stderr).filter(|line| !about_one(line)).count()
}

pub(crate) async fn holds(runner: &Runner, snapshots: &[Snapshot]) -> Result<Vec<Hold>, Error> {
    const OPERATION: &str = "list the holds of";
    let mut holds = Vec::new();
    let mut work = fit(runner, snapshots, (0..snapshots.len()).collect());
    work.reverse();
    while let Some(batch) = work.pop() {
        let items: Vec<&Snapshot> = batch.iter().filter_map(|item| snapshots.get(*item)).collect();
        let object = items.first().map(ToString::to_string).unwrap_or_default();
        let mut rows = HoldRows::default();
        match runner.lines(&argv::holds(&items), &mut |line| rows.push(line)).await {
            Ok(_) => {}
            Err(Failure::TooLong) if batch.len() > 1 => {
                work.extend(halves(batch));
                continue;
            }
            Err(Failure::Child(ended)) if ended.status.code().is_some() && only_vanished(&ended, &items) => {}
            Err(failure) => return Err(failure.into_error(OPERATION, object)),
        }
        let found = rows.finish().map_err(|unexpected| {
            let problem = unexpected.into_problem();
            Error::new(OPERATION, object, ErrorKind::Output { command: "zfs holds".to_owned(), problem })
        })?;
        holds.extend(found);
    }
    Ok(holds)
}

/// Snapshots that went away since they were listed have no holds.
fn only_vanished(ended: &Ended, items: &[&Snapshot]) -> bool {
    let mut lines = classify::lines(&ended.stderr).peekable();
    lines.peek().is_some()
        && lines.all(|line| {
            line == "no datasets available"
                || classify::message(line).is_some_and(|message| {
                    classify::is_absence(message.reason) && items.iter().any(|item| concerns(message, item))
                })
        })
}

#[cfg(test)]
mod tests {
    use model::{DatasetName, VersionName};

    use super::*;

    fn snap(text: &str) -> Snapshot {
        let (dataset, name) = text.split_once('@').unwrap();
        Snapshot { dataset: DatasetName::parse(dataset).unwrap(), name: VersionName::parse(name).unwrap() }
    }

    #[test]
    fn a_command_has_one_pool_and_no_dataset_twice() {
        let snapshots = ["p/a@1", "q/a@1", "p/b@1", "p/a@2", "p/a@3", "p/b@2"].map(snap);
        assert_eq!(by_pool(&snapshots), [vec![vec![0, 2], vec![3, 5], vec![4]], vec![vec![1]]]);
    }
}
