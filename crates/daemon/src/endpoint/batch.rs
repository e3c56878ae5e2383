//! Holds and releases of several filesystems at once share a process.
//!
//! A few commands of a kind run side by side. What is asked for while they run waits for the first of
//! them to end, and then goes together. Who finds none running waits for nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::HoldTag;
use tokio::sync::{Notify, Semaphore};
use zfs::{Error, ErrorKind, ItemResult, Snapshot, Zfs};

use crate::limits::HOLD_COMMANDS;

/// What is done to snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Change {
    Hold,
    Release,
}

impl Change {
    async fn run(self, zfs: &dyn Zfs, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        match self {
            Change::Hold => zfs.hold(tag, snapshots).await,
            Change::Release => zfs.release(tag, snapshots).await,
        }
    }
}

/// The changes of one side that are under way. A pool that hangs holds up its own only.
#[derive(Default)]
pub(super) struct Batches(Mutex<HashMap<(Change, HoldTag, String), Arc<Lanes>>>);

/// Changes of one kind in one pool.
struct Lanes {
    commands: Semaphore,
    waiting: Mutex<Vec<Arc<Request>>>,
}

/// What one caller wants.
struct Request {
    snapshots: Vec<Snapshot>,
    state: Mutex<State>,
    /// The state changed.
    news: Notify,
}

enum State {
    /// Among those that wait, for its caller or for another one to run it.
    Waiting,
    Running,
    Done(Vec<ItemResult>),
}

impl Batches {
    /// Changes snapshots, together with what others want changed; one result per snapshot, in order.
    pub(super) async fn run(
        &self,
        change: Change,
        zfs: &dyn Zfs,
        tag: &HoldTag,
        snapshots: &[Snapshot],
    ) -> Vec<ItemResult> {
        let Some(first) = snapshots.first() else { return Vec::new() };
        let lanes = self.lanes(change, tag, first.dataset.pool());
        let caller = Caller::queue(&lanes, snapshots);
        loop {
            let request = &caller.request;
            let _command = match request.take() {
                Taken::Done(results) => return results,
                Taken::Running => {
                    request.news.notified().await;
                    continue;
                }
                Taken::Waiting => tokio::select! {
                    biased;
                    () = request.news.notified() => continue,
                    command = lanes.commands.acquire() => command,
                },
            };
            if !request.is_waiting() {
                continue;
            }
            let batch = Batch::of_all(&lanes);
            let results = change.run(zfs, tag, &batch.snapshots()).await;
            batch.answer(results);
        }
    }

    fn lanes(&self, change: Change, tag: &HoldTag, pool: &str) -> Arc<Lanes> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lanes = all
            .entry((change, tag.clone(), pool.to_owned()))
            .or_insert_with(|| Arc::new(Lanes { commands: Semaphore::new(HOLD_COMMANDS), waiting: Mutex::default() }));
        Arc::clone(lanes)
    }
}

impl Lanes {
    fn waiting(&self) -> MutexGuard<'_, Vec<Arc<Request>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Taken {
    Waiting,
    Running,
    Done(Vec<ItemResult>),
}

impl Request {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.news.notify_one();
    }

    fn is_waiting(&self) -> bool {
        matches!(*self.state(), State::Waiting)
    }

    fn take(&self) -> Taken {
        match &mut *self.state() {
            State::Waiting => Taken::Waiting,
            State::Running => Taken::Running,
            State::Done(results) => Taken::Done(std::mem::take(results)),
        }
    }
}

/// A caller's place among those that wait, which goes with it.
struct Caller<'a> {
    lanes: &'a Lanes,
    request: Arc<Request>,
}

impl<'a> Caller<'a> {
    fn queue(lanes: &'a Lanes, snapshots: &[Snapshot]) -> Self {
        let state = Mutex::new(State::Waiting);
        let request = Arc::new(Request { snapshots: snapshots.to_vec(), state, news: Notify::new() });
        lanes.waiting().push(Arc::clone(&request));
        Self { lanes, request }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.lanes.waiting().retain(|request| !Arc::ptr_eq(request, &self.request));
    }
}

/// What goes together. If whoever runs it is dropped, the others wait again.
struct Batch<'a> {
    lanes: &'a Lanes,
    requests: Vec<Arc<Request>>,
}

impl<'a> Batch<'a> {
    fn of_all(lanes: &'a Lanes) -> Self {
        let requests = std::mem::take(&mut *lanes.waiting());
        requests.iter().for_each(|request| *request.state() = State::Running);
        Self { lanes, requests }
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.requests.iter().flat_map(|request| request.snapshots.iter().cloned()).collect()
    }

    fn answer(mut self, results: Vec<ItemResult>) {
        let mut results = results.into_iter();
        for request in std::mem::take(&mut self.requests) {
            let own = request.snapshots.iter().map(|snapshot| {
                results.next().unwrap_or_else(|| Err(Error::new("change the holds of", snapshot, ErrorKind::Cancelled)))
            });
            request.set(State::Done(own.collect()));
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        // The last owner of a request is its caller: one that is alone here has none any longer.
        self.requests.retain(|request| Arc::strong_count(request) > 1);
        self.lanes.waiting().extend(self.requests.iter().cloned());
        self.requests.iter().for_each(|request| request.set(State::Waiting));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::{join_all, select};
    use model::{DatasetName, UnixTime, VersionName};
    use zfs::fake::{Action, FakeHost, FakeZfs, Moment, Verb};

    use super::*;

    /// Filesystems with a snapshot each, whose commands take a second.
    async fn pool(filesystems: usize) -> (FakeZfs, Vec<Snapshot>) {
        let host = FakeHost::new(1, Arc::new(|| UnixTime(0)));
        let name = |text: &str| DatasetName::parse(text).unwrap();
        host.create_pool(&name("p")).unwrap();
        let mut snapshots = Vec::new();
        for number in 0..filesystems {
            let dataset = name(&format!("p/f{number}"));
            host.create_filesystem(&dataset).unwrap();
            snapshots.push(Snapshot { dataset, name: VersionName::parse("s").unwrap() });
        }
        host.zfs().snapshot(&snapshots).await.into_iter().for_each(Result::unwrap);
        let zfs = host.zfs();
        zfs.faults().hook(|point| match (point.verb, point.moment) {
            (Verb::Hold, Moment::Before) => Action::Delay(Duration::from_secs(1)),
            _ => Action::Proceed,
        });
        (zfs, snapshots)
    }

    fn tag() -> HoldTag {
        HoldTag::parse("t").unwrap()
    }

    async fn held(zfs: &FakeZfs, snapshots: &[Snapshot]) -> usize {
        zfs.holds(snapshots).await.unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_commands_run_goes_together() {
        let (zfs, snapshots) = pool(100).await;
        let (batches, tag) = (Batches::default(), tag());
        let started = tokio::time::Instant::now();
        let calls = snapshots.chunks(1).map(|one| batches.run(Change::Hold, &zfs, &tag, one));
        let results = join_all(calls).await;
        assert!(results.iter().all(|results| matches!(results[..], [Ok(())])));
        assert_eq!(held(&zfs, &snapshots).await, 100);
        assert_eq!(zfs.faults().calls()[&Verb::Hold], HOLD_COMMANDS as u64 + 1);
        assert_eq!(started.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn each_gets_its_own_result() {
        let (zfs, mut snapshots) = pool(20).await;
        snapshots[13].name = VersionName::parse("other").unwrap();
        let (batches, tag) = (Batches::default(), tag());
        let results = join_all(snapshots.chunks(2).map(|two| batches.run(Change::Hold, &zfs, &tag, two))).await;
        let failed: Vec<bool> = results.concat().iter().map(Result::is_err).collect();
        assert_eq!(failed.iter().position(|failed| *failed), Some(13));
        assert_eq!(failed.iter().filter(|failed| **failed).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_dropped_while_it_runs_for_others_does_not_take_them_along() {
        let (zfs, snapshots) = pool(50).await;
        let (batches, tag) = (Batches::default(), tag());
        let hold = |one| batches.run(Change::Hold, &zfs, &tag, one);
        // The first of the second batch runs it, and is dropped at half time.
        let (first, rest) = snapshots.split_at(HOLD_COMMANDS);
        let (dropped, rest) = rest.split_at(1);
        let impatient = async {
            let limit = std::pin::pin!(tokio::time::sleep(Duration::from_millis(1500)));
            select(std::pin::pin!(hold(dropped)), limit).await;
        };
        let others = join_all(rest.chunks(1).map(hold));
        let (_, (), others) = tokio::join!(join_all(first.chunks(1).map(hold)), impatient, others);
        assert!(others.iter().all(|results| matches!(results[..], [Ok(())])));
        assert_eq!(held(&zfs, rest).await, rest.len());
        assert!(batches.lanes(Change::Hold, &tag, "p").waiting().is_empty(), "nothing is left");
    }
}
