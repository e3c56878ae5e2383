//! What is known about children: the table of those that run, and records for an observer.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use model::event::ProcessorTime;

use super::usage::Reaped;
use crate::RunningCommand;

/// Told of every start and end of a child, on the thread where it happens: it must not block.
pub type Observer = Arc<dyn Fn(&CommandRecord) + Send + Sync>;

/// A start or end of a child process.
#[derive(Debug, Clone)]
pub struct CommandRecord {
    /// Equal in both records of one child, different from those of all others of this process.
    pub id: u64,
    /// Its process id, which was also that of its process group; none if it could not be started.
    pub pid: Option<u32>,
    /// What runs.
    pub command: RunningCommand,
    /// What happened.
    pub event: CommandEvent,
}

/// What happened to a child.
#[derive(Debug, Clone)]
pub enum CommandEvent {
    /// It runs.
    Started,
    /// It could not be started; carries the operating system's words.
    NotStarted(String),
    /// It has ended and is reaped.
    Finished {
        /// How; none if the operating system would not tell.
        status: Option<ExitStatus>,
        /// How long it ran.
        runtime: Duration,
        /// What it computed; none if the operating system would not tell.
        used: Option<ProcessorTime>,
    },
}

/// The children that run.
#[derive(Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    running: BTreeMap<u64, RunningCommand>,
}

impl Registry {
    pub(crate) fn running(&self) -> Vec<RunningCommand> {
        self.lock().running.values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn not_started(&self, observer: &Observer, path: String, args: Vec<String>, problem: String) {
        let id = {
            let mut state = self.lock();
            state.next_id += 1;
            state.next_id
        };
        let command = RunningCommand { path, args, started_at: SystemTime::now() };
        observer(&CommandRecord { id, pid: None, command, event: CommandEvent::NotStarted(problem) });
    }

    pub(crate) fn started(
        self: &Arc<Self>,
        observer: &Observer,
        pid: Option<u32>,
        path: String,
        args: Vec<String>,
    ) -> Entry {
        let command = RunningCommand { path, args, started_at: SystemTime::now() };
        let id = {
            let mut state = self.lock();
            state.next_id += 1;
            let id = state.next_id;
            state.running.insert(id, command.clone());
            id
        };
        observer(&CommandRecord { id, pid, command, event: CommandEvent::Started });
        Entry { registry: Arc::clone(self), observer: Arc::clone(observer), id, pid, since: Instant::now() }
    }
}

/// One child's place in the table.
pub(crate) struct Entry {
    registry: Arc<Registry>,
    observer: Observer,
    id: u64,
    pid: Option<u32>,
    since: Instant,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("id", &self.id).field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Entry {
    /// Takes the child out of the table; a second time has no effect.
    pub(crate) fn finished(&self, reaped: Reaped) {
        let Reaped { status, used } = reaped;
        let command = self.registry.lock().running.remove(&self.id);
        if let Some(command) = command {
            let event = CommandEvent::Finished { status, runtime: self.since.elapsed(), used };
            (self.observer)(&CommandRecord { id: self.id, pid: self.pid, command, event });
        }
    }
}
