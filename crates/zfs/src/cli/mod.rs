//! ZFS through its command line.
//!
//! `argv` makes the words, `run` runs them, `parse` and `classify` read what comes back; the
//! other modules put these together, one kind of operation each. Only `run` touches the system.

mod argv;
mod bulk;
mod classify;
mod destroy;
mod list;
mod parse;
mod receive;
mod record;
mod run;
mod send;
mod space;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use model::{DatasetName, HoldTag, PropertyName, VersionName, VersionRef};
use pump::ByteStream;

pub use record::{CommandEvent, CommandRecord, Observer};
pub use space::ArgumentSpace;

use crate::error::{Error, ErrorKind};
use crate::listing::{Contents, Dataset, Hold, Listing, Scope};
use crate::ops::{ItemResult, PlaceholderEncryption, ReceiveArgs, SendArgs, SendStream, Snapshot};
use crate::{RunningCommand, Zfs};
use argv::Class;
use run::{Failure, Runner};

/// How to run the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliConfig {
    /// `zfs`, by name (looked up in `PATH`) or path.
    pub zfs: OsString,
    /// `zpool`, likewise.
    pub zpool: OsString,
    /// How long commands may take.
    pub deadlines: Deadlines,
    /// Room for the words of one command; more items take several commands. One that the system
    /// still refuses is cut into halves.
    pub arguments: ArgumentSpace,
}

impl Default for CliConfig {
    fn default() -> Self {
        Self {
            zfs: "zfs".into(),
            zpool: "zpool".into(),
            deadlines: Deadlines::default(),
            arguments: ArgumentSpace::of_this_process(),
        }
    }
}

/// How long commands may take before they are killed. They are there for a pool that hangs, not for a
/// slow one: a listing of a million snapshots takes minutes on cold disks, and so may the release of
/// thousands of holds, which waits for a transaction group each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Commands that only read.
    pub query: Duration,
    /// Commands that change something.
    pub change: Duration,
    /// From the start of a send to its first bytes, its estimate included.
    pub send_start: Duration,
    /// From the end of a received stream to the end of the receive, which commits what it has.
    pub receive_end: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            query: Duration::from_secs(15 * 60),
            change: Duration::from_secs(30 * 60),
            send_start: Duration::from_secs(30 * 60),
            receive_end: Duration::from_secs(30 * 60),
        }
    }
}

impl Deadlines {
    pub(crate) fn of(&self, class: Class) -> Duration {
        match class {
            Class::Query => self.query,
            Class::Change => self.change,
            Class::Stream => self.send_start,
        }
    }
}

/// ZFS through its command line. Clones share the table of running children and what is known about
/// pools.
#[derive(Clone)]
pub struct ZfsCli {
    runner: Runner,
    resumable_pools: Arc<Mutex<HashSet<String>>>,
}

impl ZfsCli {
    /// Nothing is run yet, and the programs need not be there yet.
    pub fn new(config: CliConfig) -> Self {
        let runner = Runner { config: Arc::new(config), observer: Arc::new(|_| {}), registry: Arc::default() };
        Self { runner, resumable_pools: Arc::default() }
    }

    /// The same with somebody who is told of every child that this handle starts; a job's own handle
    /// can so attribute its children to it.
    #[must_use]
    pub fn with_observer(&self, observer: Observer) -> Self {
        let runner = Runner { observer, ..self.runner.clone() };
        Self { runner, resumable_pools: Arc::clone(&self.resumable_pools) }
    }

    /// Runs a command that concerns one object.
    async fn run(&self, operation: &'static str, object: impl ToString, argv: &argv::Argv) -> Result<(), Error> {
        self.runner.run(argv).await.map(|_| ()).map_err(|failure| failure.into_error(operation, object))
    }

    async fn has_guid(&self, object: &str, wanted: model::Guid) -> Result<bool, Error> {
        const OPERATION: &str = "look up";
        let argv = argv::get_guid(object);
        let text = self.runner.one_line(&argv).await.map_err(|failure| failure.into_error(OPERATION, object))?;
        text.trim().parse().map(|guid: u64| guid == wanted.0).map_err(|_| {
            let problem = format!("guid {text:?} is no number");
            Error::new(OPERATION, object, ErrorKind::Output { command: "zfs get guid".to_owned(), problem })
        })
    }
}

/// An operation whose object being gone is as good as success.
fn unless_gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

#[async_trait]
impl Zfs for ZfsCli {
    async fn list(&self, scope: &Scope) -> Result<Listing, Error> {
        list::list(&self.runner, scope).await
    }

    async fn pools(&self) -> Result<Vec<DatasetName>, Error> {
        list::pools(&self.runner).await
    }

    async fn dataset(&self, name: &DatasetName) -> Result<Dataset, Error> {
        list::dataset(&self.runner, name).await
    }

    async fn contents(&self, name: &DatasetName) -> Result<Contents, Error> {
        list::contents(&self.runner, name).await
    }

    async fn holds(&self, snapshots: &[Snapshot]) -> Result<Vec<Hold>, Error> {
        bulk::holds(&self.runner, snapshots).await
    }

    async fn create_placeholder(&self, name: &DatasetName, encryption: PlaceholderEncryption) -> Result<(), Error> {
        self.run("create placeholder", name, &argv::create_placeholder(name, encryption)).await
    }

    async fn set_property(&self, name: &DatasetName, property: &str, value: &str) -> Result<(), Error> {
        const OPERATION: &str = "set a property of";
        let property = PropertyName::parse(property).map_err(|error| Error::new(OPERATION, name, error.into()))?;
        self.run(OPERATION, name, &argv::set_property(name, &property, value)).await
    }

    async fn snapshot(&self, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        bulk::snapshot(&self.runner, snapshots).await
    }

    async fn bookmark(&self, dataset: &DatasetName, source: &VersionRef, bookmark: &VersionName) -> Result<(), Error> {
        let target = format!("{dataset}#{bookmark}");
        let made = self.run("create bookmark", &target, &argv::bookmark(dataset, source, bookmark)).await;
        match made {
            Err(error) if matches!(error.kind, ErrorKind::Exists) => {
                if self.has_guid(&target, source.guid).await? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            other => other,
        }
    }

    async fn is_still(&self, dataset: &DatasetName, version: &VersionRef) -> Result<bool, Error> {
        self.has_guid(&format!("{dataset}{version}"), version.guid).await
    }

    async fn hold(&self, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        bulk::hold(&self.runner, tag, snapshots).await
    }

    async fn release(&self, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        bulk::release(&self.runner, tag, snapshots).await
    }

    async fn destroy_snapshots(&self, dataset: &DatasetName, names: &[VersionName]) -> Vec<ItemResult> {
        destroy::snapshots(&self.runner, dataset, names).await
    }

    async fn destroy_together(&self, dataset: &DatasetName, names: &[VersionName]) -> Result<(), Error> {
        destroy::together(&self.runner, dataset, names).await
    }

    async fn rollback(&self, snapshot: &Snapshot) -> Result<(), Error> {
        self.run("roll back to", snapshot, &argv::rollback(snapshot)).await
    }

    async fn rename(&self, from: &DatasetName, to: &DatasetName) -> Result<(), Error> {
        self.run("rename", from, &argv::rename(from, to)).await
    }

    async fn destroy_bookmark(&self, dataset: &DatasetName, name: &VersionName) -> Result<(), Error> {
        let object = format!("{dataset}#{name}");
        unless_gone(self.run("destroy bookmark", &object, &argv::destroy(&object)).await)
    }

    async fn destroy_dataset(&self, name: &DatasetName) -> Result<(), Error> {
        unless_gone(self.run("destroy", name, &argv::destroy(name)).await)
    }

    async fn send(&self, args: &SendArgs) -> Result<SendStream, Error> {
        send::send(&self.runner, args).await
    }

    async fn estimate_send(&self, args: &SendArgs) -> Result<Option<u64>, Error> {
        send::estimate(&self.runner, args).await
    }

    async fn receive(&self, args: &ReceiveArgs, stream: ByteStream) -> Result<(), Error> {
        receive::receive(&self.runner, args, stream).await
    }

    async fn abort_receive(&self, name: &DatasetName) -> Result<(), Error> {
        const OPERATION: &str = "discard the interrupted receive of";
        match self.runner.run(&argv::abort_receive(name)).await {
            Ok(_) => Ok(()),
            Err(Failure::Child(ended)) if nothing_to_abort(&ended.stderr) => Ok(()),
            Err(failure) => unless_gone(Err(failure.into_error(OPERATION, name))),
        }
    }

    async fn can_resume(&self, pool: &str) -> Result<bool, Error> {
        let known =
            |pools: &Mutex<HashSet<String>>| pools.lock().unwrap_or_else(PoisonError::into_inner).contains(pool);
        if known(&self.resumable_pools) {
            return Ok(true);
        }
        let state = self
            .runner
            .one_line(&argv::extensible_dataset(pool))
            .await
            .map_err(|failure| failure.into_error("look up the features of pool", pool))?;
        let can = matches!(state.trim(), "active" | "enabled");
        if can {
            self.resumable_pools.lock().unwrap_or_else(PoisonError::into_inner).insert(pool.to_owned());
        }
        Ok(can)
    }

    fn running(&self) -> Vec<RunningCommand> {
        self.runner.registry.running()
    }
}

fn nothing_to_abort(stderr: &str) -> bool {
    classify::lines(stderr).any(|line| line.ends_with("' does not have any resumable receive state to abort"))
}
