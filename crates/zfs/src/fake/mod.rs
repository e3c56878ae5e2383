//! ZFS in memory: the trait, the errors and the rules of OpenZFS 2.2 and later, with faults on demand.
//!
//! A [`FakeHost`] is a machine with pools, which outlives the daemon that uses it; a [`FakeZfs`] is what
//! one daemon holds. Nothing here reads a clock or a random source: time comes from the caller, guids
//! from a seed, so equal calls give equal worlds. That its answers are those of real ZFS is the business
//! of the conformance suite, which runs against both.

mod actions;
mod content;
mod faults;
mod receive;
mod records;
mod rng;
mod send;
mod setup;
mod state;
mod transfer;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use model::view::DatasetKind;
use model::{DatasetName, HoldTag, UnixTime, VersionName, VersionRef};
use pump::ByteStream;

pub use content::ContentHash;
pub use faults::{Action, Faults, Moment, Point, StreamFault, Verb};
pub use state::{PoolState, Source};

use crate::error::{Error, ErrorKind};
use crate::listing::{Contents, Dataset, Hold, Listing, Scope};
use crate::ops::{ExpectedSize, ItemResult, PlaceholderEncryption, ReceiveArgs, SendArgs, SendStream, Snapshot};
use crate::{RunningCommand, Zfs};
use faults::Call;
use state::Host;

/// What time it is.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

struct Inner {
    host: Mutex<Host>,
    clock: Clock,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A machine with pools. Clones are the same machine.
#[derive(Clone)]
pub struct FakeHost(Arc<Inner>);

impl fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FakeHost").field(&*self.lock()).finish()
    }
}

impl FakeHost {
    /// A machine without pools. The seed decides the guids.
    pub fn new(seed: u64, clock: Clock) -> Self {
        Self(Arc::new(Inner { host: Mutex::new(Host::new(seed)), clock }))
    }

    /// What a daemon on this machine uses, with faults and counters of its own.
    pub fn zfs(&self) -> FakeZfs {
        FakeZfs { inner: Arc::clone(&self.0), faults: Faults::default(), running: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.0.lock()
    }
}

/// The commands that run now.
#[derive(Default)]
struct RunningTable(Mutex<(u64, BTreeMap<u64, RunningCommand>)>);

/// An entry there, for as long as it lives.
struct Running {
    table: Arc<RunningTable>,
    key: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.table.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.key);
    }
}

/// [`Zfs`] on a [`FakeHost`].
#[derive(Clone)]
pub struct FakeZfs {
    inner: Arc<Inner>,
    faults: Faults,
    running: Arc<RunningTable>,
}

impl fmt::Debug for FakeZfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeZfs").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl FakeZfs {
    /// What goes wrong here, and how often what was called.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.inner.lock()
    }

    fn start(&self, command: &str, object: &str) -> Running {
        let now = (self.inner.clock)().0;
        let since = Duration::from_secs(now.unsigned_abs());
        let started_at = if now < 0 { SystemTime::UNIX_EPOCH - since } else { SystemTime::UNIX_EPOCH + since };
        let args = ["zfs", command, object].map(str::to_owned).to_vec();
        let mut table = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.0 += 1;
        let key = table.0;
        table.1.insert(key, RunningCommand { path: "zfs".into(), args, started_at });
        Running { table: Arc::clone(&self.running), key }
    }

    /// One call that takes effect at once: the gate before, the effect, the gate after.
    async fn call<T>(
        &self,
        operation: Operation,
        object: &str,
        effect: impl FnOnce(&mut Host) -> Result<T, ErrorKind>,
    ) -> Result<T, Error> {
        let call = self.faults.begin(operation.verb, object.to_owned());
        let failed = |kind| Error::new(operation.words, object, kind);
        call.pass(Moment::Before).await.map_err(failed)?;
        let _running = self.start(operation.command, object);
        self.faults.count_processes(operation.command, operation.processes);
        let result = effect(&mut self.lock()).map_err(failed)?;
        call.pass(Moment::After).await.map_err(failed)?;
        Ok(result)
    }

    /// A call on many snapshots, done one after the other; an interruption leaves the rest undone.
    async fn each(
        &self,
        operation: Operation,
        snapshots: &[Snapshot],
        effect: impl Fn(&mut Host, &Snapshot) -> Result<(), ErrorKind>,
    ) -> Vec<ItemResult> {
        let Some(first) = snapshots.first() else { return Vec::new() };
        let call = self.faults.begin(operation.verb, first.to_string());
        let mut stopped = call.pass(Moment::Before).await.err();
        let _running = self.start(operation.command, &first.to_string());
        self.faults.count_processes(operation.command, operation.processes);
        let mut results = Vec::with_capacity(snapshots.len());
        for (index, snapshot) in snapshots.iter().enumerate() {
            if index > 0 && stopped.is_none() {
                stopped = call.pass(Moment::Between).await.err();
            }
            let result = match &stopped {
                Some(kind) => Err(kind.clone()),
                None => effect(&mut self.lock(), snapshot),
            };
            results.push(result.map_err(|kind| Error::new(operation.words, snapshot, kind)));
        }
        after_all(&call, stopped.is_some(), results, |index| {
            let object = snapshots.get(index).map(Snapshot::to_string).unwrap_or_default();
            (operation.words, object)
        })
        .await
    }
}

/// The gate behind a bulk call: if the reply is lost, all results are.
async fn after_all(
    call: &Call,
    stopped: bool,
    results: Vec<ItemResult>,
    name: impl Fn(usize) -> (&'static str, String),
) -> Vec<ItemResult> {
    if stopped {
        return results;
    }
    match call.pass(Moment::After).await {
        Ok(()) => results,
        Err(kind) => (0..results.len())
            .map(|index| {
                let (words, object) = name(index);
                Err(Error::new(words, object, kind.clone()))
            })
            .collect(),
    }
}

/// How a call is named and counted.
#[derive(Clone, Copy)]
struct Operation {
    verb: Verb,
    /// After "cannot".
    words: &'static str,
    command: &'static str,
    processes: usize,
}

impl Operation {
    const fn one(verb: Verb, words: &'static str, command: &'static str) -> Self {
        Self { verb, words, command, processes: 1 }
    }
}

const LIST: Operation = Operation { processes: 2, ..Operation::one(Verb::List, "list", "list") };
const DATASET: Operation = Operation { processes: 2, ..Operation::one(Verb::Dataset, "list", "list") };
const CONTENTS: Operation = Operation::one(Verb::Contents, "look into", "get");
const HOLDS: Operation = Operation::one(Verb::Holds, "list holds of", "holds");
const CREATE: Operation = Operation::one(Verb::CreatePlaceholder, "create", "create");
const SET: Operation = Operation::one(Verb::SetProperty, "set a property of", "set");
const BOOKMARK: Operation = Operation::one(Verb::Bookmark, "create bookmark", "bookmark");
const IS_STILL: Operation = Operation::one(Verb::IsStill, "look up", "get");
const HOLD: Operation = Operation::one(Verb::Hold, "hold", "hold");
const RELEASE: Operation = Operation::one(Verb::Release, "release", "release");
const DESTROY_TOGETHER: Operation = Operation::one(Verb::DestroyTogether, "destroy", "destroy");
const ROLLBACK: Operation = Operation::one(Verb::Rollback, "roll back to", "rollback");
const RENAME: Operation = Operation::one(Verb::Rename, "rename", "rename");
const DESTROY_BOOKMARK: Operation = Operation::one(Verb::DestroyBookmark, "destroy", "destroy");
const DESTROY: Operation = Operation::one(Verb::DestroyDataset, "destroy", "destroy");
const ESTIMATE: Operation = Operation::one(Verb::EstimateSend, "estimate a send of", "send");
const ABORT: Operation = Operation::one(Verb::AbortReceive, "discard the partial receive of", "recv");
const POOLS: Operation = Operation::one(Verb::Pools, "list the pools", "zpool list");
const CAN_RESUME: Operation = Operation::one(Verb::CanResume, "get features of pool", "get");

#[async_trait]
impl Zfs for FakeZfs {
    async fn list(&self, scope: &Scope) -> Result<Listing, Error> {
        let object = match scope {
            Scope::Everything => String::new(),
            Scope::Trees(names) | Scope::Only(names) => names.first().map(ToString::to_string).unwrap_or_default(),
        };
        self.call(LIST, &object, |host| Ok(host.list(scope))).await
    }

    async fn pools(&self) -> Result<Vec<DatasetName>, Error> {
        self.call(POOLS, "", |host| {
            let imported = host.pools.keys().filter(|pool| host.is_imported(pool));
            Ok(imported.filter_map(|pool| DatasetName::parse(pool).ok()).collect())
        })
        .await
    }

    async fn dataset(&self, name: &DatasetName) -> Result<Dataset, Error> {
        self.call(DATASET, name.as_str(), |host| Ok(host.dataset(name, host.node(name)?))).await
    }

    async fn contents(&self, name: &DatasetName) -> Result<Contents, Error> {
        self.call(CONTENTS, name.as_str(), |host| host.contents(name)).await
    }

    async fn holds(&self, snapshots: &[Snapshot]) -> Result<Vec<Hold>, Error> {
        let Some(first) = snapshots.first() else { return Ok(Vec::new()) };
        self.call(HOLDS, &first.to_string(), |host| Ok(host.holds(snapshots))).await
    }

    async fn create_placeholder(&self, name: &DatasetName, encryption: PlaceholderEncryption) -> Result<(), Error> {
        let mut properties = vec![("zrepl:placeholder", "on"), ("mountpoint", "none")];
        if encryption == PlaceholderEncryption::Off {
            properties.push(("encryption", "off"));
        }
        self.call(CREATE, name.as_str(), |host| host.create(name, DatasetKind::Filesystem, &properties)).await
    }

    async fn set_property(&self, name: &DatasetName, property: &str, value: &str) -> Result<(), Error> {
        self.call(SET, name.as_str(), |host| host.set_property(name, property, value)).await
    }

    async fn snapshot(&self, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        let Some(first) = snapshots.first() else { return Vec::new() };
        let call = self.faults.begin(Verb::Snapshot, first.to_string());
        let _running = self.start("snapshot", &first.to_string());
        let mut results: Vec<Option<ItemResult>> = vec![None; snapshots.len()];
        let mut stopped = call.pass(Moment::Before).await.err();
        let mut pools: Vec<&str> = snapshots.iter().map(|snapshot| snapshot.dataset.pool()).collect();
        pools.sort_unstable();
        pools.dedup();
        for (number, pool) in pools.into_iter().enumerate() {
            if number > 0 && stopped.is_none() {
                stopped = call.pass(Moment::Between).await.err();
            }
            let of_pool = || snapshots.iter().enumerate().filter(|(_, s)| s.dataset.pool() == pool);
            let group: Vec<&Snapshot> = of_pool().map(|(_, snapshot)| snapshot).collect();
            let outcome = match &stopped {
                Some(kind) => vec![Err(kind.clone()); group.len()],
                None => self.lock().take_snapshots(&group, (self.inner.clock)()),
            };
            self.faults.count_processes("snapshot", 1);
            for ((index, snapshot), result) in of_pool().zip(outcome) {
                if let Some(slot) = results.get_mut(index) {
                    *slot = Some(result.map_err(|kind| Error::new("take snapshot", snapshot, kind)));
                }
            }
        }
        let results = results.into_iter().flatten().collect();
        let name = |index: usize| ("take snapshot", snapshots.get(index).map(Snapshot::to_string).unwrap_or_default());
        after_all(&call, stopped.is_some(), results, name).await
    }

    async fn bookmark(&self, dataset: &DatasetName, source: &VersionRef, bookmark: &VersionName) -> Result<(), Error> {
        let object = format!("{dataset}#{bookmark}");
        self.call(BOOKMARK, &object, |host| host.bookmark(dataset, source, bookmark)).await
    }

    async fn is_still(&self, dataset: &DatasetName, version: &VersionRef) -> Result<bool, Error> {
        let object = format!("{dataset}{version}");
        let guid = |host: &mut Host| Ok(host.node(dataset)?.mark(version).ok_or(ErrorKind::NotFound)?.guid);
        Ok(self.call(IS_STILL, &object, guid).await? == version.guid)
    }

    async fn hold(&self, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        self.each(HOLD, snapshots, |host, snapshot| host.hold(tag, snapshot)).await
    }

    async fn release(&self, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        self.each(RELEASE, snapshots, |host, snapshot| host.release(tag, snapshot)).await
    }

    async fn destroy_snapshots(&self, dataset: &DatasetName, names: &[VersionName]) -> Vec<ItemResult> {
        let Some(first) = names.first() else { return Vec::new() };
        let object = |name: &VersionName| format!("{dataset}@{name}");
        let call = self.faults.begin(Verb::DestroySnapshots, object(first));
        let _running = self.start("destroy", &object(first));
        let stopped = call.pass(Moment::Before).await.err();
        self.faults.count_processes("destroy", 1);
        let results: Vec<ItemResult> = {
            let mut host = self.lock();
            let one = |name: &VersionName| match &stopped {
                Some(kind) => Err(Error::new("destroy", object(name), kind.clone())),
                None => host.destroy_snapshot(dataset, name).map_err(|kind| Error::new("destroy", object(name), kind)),
            };
            names.iter().map(one).collect()
        };
        // The second process goes without those that the first one refused.
        if names.len() > 1 && results.iter().any(Result::is_err) {
            self.faults.count_processes("destroy", 1);
        }
        let name = |index: usize| ("destroy", names.get(index).map(object).unwrap_or_default());
        after_all(&call, stopped.is_some(), results, name).await
    }

    async fn destroy_together(&self, dataset: &DatasetName, names: &[VersionName]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let mut culprit = None;
        let destroyed = self.call(DESTROY_TOGETHER, dataset.as_str(), |host| {
            host.destroy_together(dataset, names).map_err(|(name, kind)| {
                culprit = name;
                kind
            })
        });
        let mut destroyed = destroyed.await;
        if let (Err(error), Some(name)) = (&mut destroyed, culprit) {
            error.object = format!("{dataset}@{name}");
        }
        destroyed
    }

    async fn rollback(&self, snapshot: &Snapshot) -> Result<(), Error> {
        self.call(ROLLBACK, &snapshot.to_string(), |host| host.rollback_to_newest(snapshot)).await
    }

    async fn rename(&self, from: &DatasetName, to: &DatasetName) -> Result<(), Error> {
        self.call(RENAME, from.as_str(), |host| host.rename(from, to)).await
    }

    async fn destroy_bookmark(&self, dataset: &DatasetName, name: &VersionName) -> Result<(), Error> {
        let object = format!("{dataset}#{name}");
        self.call(DESTROY_BOOKMARK, &object, |host| host.destroy_bookmark(dataset, name)).await
    }

    async fn destroy_dataset(&self, name: &DatasetName) -> Result<(), Error> {
        self.call(DESTROY, name.as_str(), |host| host.destroy_dataset(name)).await
    }

    async fn send(&self, args: &SendArgs) -> Result<SendStream, Error> {
        self.start_send(args).await
    }

    async fn estimate_send(&self, args: &SendArgs) -> Result<Option<u64>, Error> {
        self.call(ESTIMATE, args.dataset.as_str(), |host| Ok(Some(host.plan_send(args)?.bytes()))).await
    }

    async fn receive(&self, args: &ReceiveArgs, stream: ByteStream) -> Result<(), Error> {
        self.run_receive(args, stream).await
    }

    async fn abort_receive(&self, name: &DatasetName) -> Result<(), Error> {
        self.call(ABORT, name.as_str(), |host| host.abort_receive(name)).await
    }

    async fn can_resume(&self, pool: &str) -> Result<bool, Error> {
        self.call(CAN_RESUME, pool, |host| {
            let missing = || ErrorKind::PoolMissing { pool: pool.to_owned() };
            if host.is_imported(pool) { Ok(host.pools.get(pool).is_some_and(|p| p.can_resume)) } else { Err(missing()) }
        })
        .await
    }

    fn running(&self) -> Vec<RunningCommand> {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).1.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
