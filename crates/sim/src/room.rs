//! What all parts of a world share: time, trace, the processes, faults, and the watch over safety.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::JobName;

use crate::check::{Standings, Watch};
use crate::fault::{Fault, Faults, Op, Site, Victims};
use crate::flow::Places;
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
    processes: [Process; 3],
    faults: Box<dyn Faults>,
    watch: Watch,
    ops: [u64; 3],
    changes: u64,
    /// Changes that may have taken effect and were not looked at yet, by the number of the operation: in
    /// which process, for which job.
    under_way: BTreeMap<u64, (Host, Process, JobName)>,
}

impl Room {
    /// A room in which all daemons live.
    pub fn new(time: SimTime, trace: Trace, watch: Watch, faults: Box<dyn Faults>) -> Self {
        let inner =
            Inner { processes: Default::default(), faults, watch, ops: [0; 3], changes: 0, under_way: BTreeMap::new() };
        Self { time, trace, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life that a machine's daemon lives now.
    pub fn process(&self, host: Host) -> Process {
        let [sender, receiver, third] = &self.lock().processes;
        match host {
            Host::Sender => sender.clone(),
            Host::Receiver => receiver.clone(),
            Host::Third => third.clone(),
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
        for host in Host::ALL.into_iter().filter(|host| victims.include(*host)) {
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

    /// Numbers an operation, of a job's in a process.
    pub fn begin_op(
        &self,
        (host, process, job): (Host, &Process, &JobName),
        verb: &'static str,
        object: String,
        changes: bool,
    ) -> Op {
        let mut inner = self.lock();
        if let Some(ops) = inner.ops.get_mut(host.index()) {
            *ops += 1;
        }
        inner.changes += u64::from(changes);
        let op = Op { host, number: inner.ops.iter().sum(), verb, object, changes };
        if changes {
            inner.under_way.insert(op.number, (host, process.clone(), job.clone()));
        }
        drop(inner);
        self.trace.tell(host, &op);
        op
    }

    /// Operations started so far on each machine.
    pub fn ops(&self) -> [u64; 3] {
        self.lock().ops
    }

    /// Operations started so far that can change something.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Looks at the pools, after an operation may have changed something there. What other jobs have under
    /// way, or had when they were killed, may show as well.
    pub fn look(&self, op: &Op) {
        self.look_after(op, Some(op.number));
    }

    /// How all filesystems stand now; see [`Watch::standings`]. What the children of a killed daemon
    /// completed shows only after the last operation.
    pub fn standings(&self, excused: &Places) -> Standings {
        self.look_after(&"what was under way", None);
        self.watch(|watch| watch.standings(excused))
    }

    fn look_after(&self, cause: &dyn Display, ended: Option<u64>) {
        let mut inner = self.lock();
        let Inner { watch, under_way, .. } = &mut *inner;
        let actors: Vec<(Host, JobName)> = under_way.values().map(|(host, _, job)| (*host, job.clone())).collect();
        under_way.retain(|number, (_, process, _)| Some(*number) != ended && process.is_alive());
        let found = watch.look(cause, &actors);
        drop(inner);
        found.iter().for_each(|violation| self.trace.tell('#', format_args!("UNSAFE {violation}")));
    }

    /// Tells the watch that a user did something; see [`Watch::user_did`].
    pub fn user_did(&self, what: impl Display, broken: &Places) {
        self.trace.tell('u', &what);
        let found = self.watch(|watch| watch.user_did(&what, broken));
        found.iter().for_each(|violation| self.trace.tell('#', format_args!("UNSAFE {violation}")));
    }

    /// Access to the watch.
    pub fn watch<T>(&self, access: impl FnOnce(&mut Watch) -> T) -> T {
        access(&mut self.lock().watch)
    }
}
