//! What all parts of a world share: time, trace, the two processes, faults, and the watch over safety.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::check::Watch;
use crate::fault::{Fault, Faults, Op, Site, Victims};
use crate::process::{Host, Process};
use crate::time::SimTime;
use crate::trace::Trace;

/// The shared part of a world.
pub struct Room {
    /// Time.
    pub time: SimTime,
    /// What happened.
    pub trace: Trace,
    inner: Mutex<Inner>,
}

struct Inner {
    processes: [Process; 2],
    faults: Box<dyn Faults>,
    watch: Watch,
    ops: [u64; 2],
    changes: u64,
}

impl Room {
    /// A room in which both daemons live.
    pub fn new(time: SimTime, trace: Trace, watch: Watch, faults: Box<dyn Faults>) -> Self {
        let inner = Inner { processes: Default::default(), faults, watch, ops: [0; 2], changes: 0 };
        Self { time, trace, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life that a machine's daemon lives now.
    pub fn process(&self, host: Host) -> Process {
        let [sender, receiver] = &self.lock().processes;
        match host {
            Host::Sender => sender.clone(),
            Host::Receiver => receiver.clone(),
        }
    }

    /// A new life for a machine's daemon.
    pub fn restart(&self, host: Host) -> Process {
        let process = Process::default();
        if let Some(place) = self.lock().processes.get_mut(host.index()) {
            *place = process.clone();
        }
        self.trace.tell(host, "daemon starts");
        process
    }

    /// Kills daemons.
    pub fn kill(&self, victims: Victims) {
        for host in Host::BOTH.into_iter().filter(|host| victims.include(*host)) {
            let process = self.process(host);
            if process.is_alive() {
                self.trace.tell(host, "daemon is killed");
                process.kill();
            }
        }
    }

    /// Other faults from now on.
    pub fn set_faults(&self, faults: Box<dyn Faults>) {
        self.lock().faults = faults;
    }

    /// What goes wrong at a site.
    pub fn fault(&self, site: &Site) -> Option<Fault> {
        let fault = self.lock().faults.at(site)?;
        if let Fault::Delay(time) = fault {
            self.trace.tell(' ', format_args!("{time:?} pass"));
            return Some(fault);
        }
        self.trace.tell('!', format_args!("{fault:?} at {site:?}"));
        Some(fault)
    }

    /// Numbers an operation.
    pub fn begin_op(&self, host: Host, verb: &'static str, object: String, changes: bool) -> Op {
        let mut inner = self.lock();
        if let Some(ops) = inner.ops.get_mut(host.index()) {
            *ops += 1;
        }
        inner.changes += u64::from(changes);
        let op = Op { host, number: inner.ops.iter().sum(), verb, object, changes };
        drop(inner);
        self.trace.tell(host, &op);
        op
    }

    /// Operations started so far on each machine.
    pub fn ops(&self) -> [u64; 2] {
        self.lock().ops
    }

    /// Operations started so far that can change something.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Looks at the pools, after something may have changed there.
    pub fn look(&self, cause: impl std::fmt::Display) {
        let found = self.lock().watch.look(&cause);
        found.iter().for_each(|violation| self.trace.tell('#', format_args!("UNSAFE {violation}")));
    }

    /// Access to the watch.
    pub fn watch<T>(&self, access: impl FnOnce(&mut Watch) -> T) -> T {
        access(&mut self.lock().watch)
    }
}
