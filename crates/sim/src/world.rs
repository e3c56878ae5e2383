//! Two machines with a daemon each, and what happens to them.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use daemon::act::{Invocation, replicate_and_prune};
use daemon::endpoint::{ReceiverConfig, SendPolicy, Sender, SenderConfig, Sink};
use daemon::events::{Events, Reader};
use daemon::limits;
use model::event::InvocationSummary;
use model::plan::prune::KeepRule;
use model::plan::replication::{InitialReplication, ReplicationPolicy};
use model::plan::resolve::ConflictPolicy;
use model::protection::{ProtectionPolicy, ProtectionStrategy};
use model::{ClientIdentity, DatasetName, FilesystemFilter, JobName};
use tokio_util::sync::CancellationToken;
use wire::{Connector, Endpoint, SameProcess};
use zfs::PlaceholderEncryption;

use crate::check::{Expected, Names, Standing, Watch, standing};
use crate::disk::Disk;
use crate::fault::{Faults, NoFaults, Victims};
use crate::machine::Machine;
use crate::network::Link;
use crate::process::Host;
use crate::report::Listener;
use crate::room::Room;
use crate::time::SimTime;
use crate::trace::Trace;

/// How long a daemon is away after it was killed.
const RESTART: Duration = Duration::from_millis(1500);

/// No invocation may take longer, on the world's clock.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs a world from its beginning to its end, on a clock of its own that waits for nothing.
pub fn simulate<T>(story: impl AsyncFnOnce() -> T) -> T {
    #[allow(clippy::expect_used, reason = "a runtime without I/O needs nothing that could be missing")]
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(story())
}

/// What an administrator configured, and what is random about the machines.
#[derive(Clone)]
pub struct Setup {
    /// For everything that the pools draw.
    pub seed: u64,
    /// What the job replicates.
    pub filesystems: FilesystemFilter,
    /// What it sends first.
    pub initial: InitialReplication,
    /// What it protects.
    pub protection: ProtectionPolicy,
    /// What it does about conflicts.
    pub conflicts: ConflictPolicy,
    /// What it keeps on the sender.
    pub keep_sender: Vec<KeepRule>,
    /// What it keeps on the receiver.
    pub keep_receiver: Vec<KeepRule>,
    /// Steps at a time.
    pub steps: NonZeroUsize,
    /// Print the trace as it grows.
    pub print: bool,
}

impl Setup {
    /// Defaults, for everything below `src/data`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            filesystems: filter(&[("src/data<", true)]),
            initial: InitialReplication::MostRecent,
            protection: ProtectionPolicy::default(),
            conflicts: ConflictPolicy::default(),
            keep_sender: Vec::new(),
            keep_receiver: Vec::new(),
            steps: NonZeroUsize::MIN,
            print: false,
        }
    }

    /// The same kind of protection for all steps.
    pub fn protected_by(mut self, strategy: ProtectionStrategy) -> Self {
        self.protection = ProtectionPolicy { initial: strategy, incremental: strategy };
        self
    }

    /// Whether the job keeps a base, whatever kind of step is under way.
    pub fn guarded(&self) -> bool {
        let kinds = [self.protection.initial, self.protection.incremental];
        !kinds.contains(&ProtectionStrategy::Nothing)
    }

    fn expected(&self) -> Expected {
        let kinds = [self.protection.initial, self.protection.incremental];
        match kinds.iter().filter(|kind| **kind == ProtectionStrategy::Nothing).count() {
            0 => Expected::OneEach,
            1 => Expected::Either,
            _ => Expected::None,
        }
    }
}

/// A filter from the form of a configuration file.
pub fn filter(entries: &[(&str, bool)]) -> FilesystemFilter {
    let parsed =
        entries.iter().filter_map(|(pattern, selects)| Some((model::filter::Pattern::parse(pattern).ok()?, *selects)));
    FilesystemFilter::new(parsed)
}

/// Why a world did not come to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Something unsafe happened.
    Unsafe(Vec<String>),
    /// An invocation never ended.
    Hangs,
    /// After the last fault, the sides did not get level.
    NotConverged(Vec<String>),
    /// An invocation with nothing to do did something.
    NotIdempotent,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unsafe(violations) => write!(f, "unsafe: {}", violations.join("; ")),
            Failure::Hangs => write!(f, "an invocation did not end within {PATIENCE:?}"),
            Failure::NotConverged(problems) => write!(f, "not converged: {}", problems.join("; ")),
            Failure::NotIdempotent => f.write_str("an invocation with nothing to do changed something"),
        }
    }
}

/// Two machines with a daemon each.
pub struct World {
    /// What its parts share.
    pub room: Arc<Room>,
    /// The sending machine and the receiving one.
    pub machines: [Machine; 2],
    setup: Setup,
    link: Arc<Link>,
    events: [Events; 2],
    sender: Option<Arc<Sender>>,
    invocations: u64,
}

impl World {
    /// Two machines without data; both daemons start when they are first needed. Only within a tokio
    /// runtime whose time is paused.
    pub fn new(setup: Setup) -> Self {
        let time = SimTime::start();
        let names = names();
        let machines = Host::BOTH.map(|host| Machine::new(host, setup.seed, &time));
        let pools = Box::new([machines[0].clone(), machines[1].clone()]);
        let watch = Watch::new(pools, names.clone(), setup.guarded());
        let trace = Trace::new(time.clone(), setup.print);
        let room = Arc::new(Room::new(time.clone(), trace, watch, Box::new(NoFaults)));
        Host::BOTH.iter().zip(&machines).for_each(|(host, machine)| machine.attach(*host, &room));
        #[allow(clippy::expect_used, reason = "a literal")]
        let client = ClientIdentity::parse("client").expect("a client identity");
        let jobs = [names.push, names.sink];
        let events = Host::BOTH.map(|host| {
            let reader: Arc<dyn Reader> = Arc::new(Listener::new(host, &room));
            Events::new(time.clock(), vec![reader]).of_job(&jobs[host.index()])
        });
        let link = Link::new(Arc::clone(&room), client);
        Self { room, machines, setup, link, events, sender: None, invocations: 0 }
    }

    /// Other faults from now on.
    pub fn set_faults(&self, faults: impl Faults + 'static) {
        self.room.set_faults(Box::new(faults));
    }

    /// One of the two machines.
    pub fn machine(&self, host: Host) -> &Machine {
        &self.machines[host.index()]
    }

    /// Tells the watch that a user did something; see [`Watch::user_did`].
    pub fn user_did(&self, what: impl fmt::Display, broken: &[String]) {
        self.room.trace.tell('u', &what);
        let found = self.room.watch(|watch| watch.user_did(&what, broken));
        found.iter().for_each(|violation| self.room.trace.tell('#', format_args!("UNSAFE {violation}")));
    }

    /// Runs one invocation of the push job. None if a daemon was killed on the way so that it did not
    /// finish; the next one starts the daemon again.
    pub async fn invoke(&mut self) -> Result<Option<InvocationSummary>, Failure> {
        self.start_receiver().await;
        let starts = self.start_sender().await;
        let process = self.room.process(Host::Sender);
        let Some(sender) = self.sender.clone() else { return Ok(None) };
        self.invocations += 1;
        let invocation = Invocation {
            number: self.invocations,
            events: self.events[0].clone(),
            sender: Arc::new(SameProcess(Arc::clone(&sender) as Arc<dyn Endpoint>)),
            receiver: Arc::clone(&self.link) as Arc<dyn Connector>,
            policy: ReplicationPolicy {
                initial: self.setup.initial,
                protection: self.setup.protection,
                conflicts: self.setup.conflicts,
            },
            step_concurrency: self.setup.steps,
            keep_sender: self.setup.keep_sender.clone(),
            keep_receiver: self.setup.keep_receiver.clone(),
            attempts: limits::ATTEMPTS,
            reconnect_window: limits::RECONNECT_WINDOW,
            patience: daemon::act::Patience::default(),
            cancel: CancellationToken::new(),
        };
        let work = process.run(async {
            if starts {
                // As a job does when it starts; a failure is told as an event.
                let _ = sender.clean_stale_protections().await;
            }
            replicate_and_prune(invocation).await
        });
        let guarded = async {
            tokio::select! {
                biased;
                summary = work => summary,
                () = self.keep_receiver_running() => None,
            }
        };
        let summary = tokio::time::timeout(PATIENCE, guarded).await.map_err(|_| Failure::Hangs)?;
        if !process.is_alive() {
            process.reap().await;
            tokio::time::sleep(RESTART).await;
        }
        match self.room.watch(|watch| watch.violations().to_vec()) {
            violations if violations.is_empty() => Ok(summary),
            violations => Err(Failure::Unsafe(violations)),
        }
    }

    /// Nothing goes wrong any longer: after so many invocations at most, both sides must be level except
    /// for `excused` filesystems, and another invocation must change nothing. Returns how many were
    /// needed, and the filesystems that need a person.
    pub async fn come_to_rest(
        &mut self,
        limit: usize,
        excused: &BTreeSet<String>,
    ) -> Result<(usize, Vec<String>), Failure> {
        self.set_faults(NoFaults);
        self.room.trace.tell(' ', "nothing goes wrong from now on");
        for number in 1..=limit {
            self.invoke().await?;
            let (behind, stuck) = self.standings(excused);
            if behind.is_empty() {
                let changes = self.room.changes();
                self.invoke().await?;
                return if self.room.changes() == changes { Ok((number, stuck)) } else { Err(Failure::NotIdempotent) };
            }
            if number == limit {
                return Err(Failure::NotConverged(behind));
            }
        }
        Ok((0, Vec::new()))
    }

    /// What is behind, with the reason, and which filesystems need a person.
    pub fn standings(&self, excused: &BTreeSet<String>) -> (Vec<String>, Vec<String>) {
        let expected = self.setup.expected();
        self.room.watch(|watch| {
            let mut behind = Vec::new();
            let mut stuck = Vec::new();
            for (name, dataset) in &watch.pictures()[0] {
                let selected = DatasetName::parse(name).is_ok_and(|name| self.setup.filesystems.selects(&name));
                if !selected || dataset.placeholder {
                    continue;
                }
                match standing(watch.names(), watch.pictures(), name, expected) {
                    Standing::Empty | Standing::Converged => {}
                    Standing::Behind(_) if excused.contains(name) => stuck.push(name.clone()),
                    Standing::Stuck => stuck.push(name.clone()),
                    Standing::Behind(why) => behind.push(format!("{name}: {why}")),
                }
            }
            (behind, stuck)
        })
    }

    async fn start_sender(&mut self) -> bool {
        if self.sender.is_some() && self.room.process(Host::Sender).is_alive() {
            return false;
        }
        self.room.process(Host::Sender).kill();
        let process = self.room.restart(Host::Sender);
        let disk = Disk::new(Arc::clone(&self.room), Host::Sender, process, self.machines[0].zfs());
        let config = SenderConfig {
            job: names().push,
            filesystems: self.setup.filesystems.clone(),
            send: SendPolicy::default(),
            bandwidth: Default::default(),
        };
        self.sender = Some(Sender::new(disk, self.events[0].clone(), config));
        true
    }

    async fn start_receiver(&self) {
        let process = self.room.process(Host::Receiver);
        if self.link.is_served() && process.is_alive() {
            return;
        }
        process.kill();
        process.reap().await;
        let process = self.room.restart(Host::Receiver);
        let disk = Disk::new(Arc::clone(&self.room), Host::Receiver, process.clone(), self.machines[1].zfs());
        #[allow(clippy::expect_used, reason = "a literal")]
        let config = ReceiverConfig {
            job: names().sink,
            root: DatasetName::parse(ROOT).expect("a dataset name"),
            client: None,
            placeholders: Some(PlaceholderEncryption::Inherit),
            inherit: Vec::new(),
            set: Vec::new(),
            bandwidth: Default::default(),
        };
        self.link.serve(process, Sink::new(disk, self.events[1].clone(), config));
    }

    /// Starts the receiver's daemon again whenever it dies.
    async fn keep_receiver_running(&self) {
        loop {
            self.room.process(Host::Receiver).death().await;
            tokio::time::sleep(RESTART).await;
            self.start_receiver().await;
        }
    }

    /// The job protects something else from the next invocation on.
    pub fn set_protection(&mut self, protection: ProtectionPolicy) {
        self.setup.protection = protection;
    }

    /// Kills daemons now.
    pub fn kill(&self, victims: Victims) {
        self.room.kill(victims);
    }
}

/// Below which the sink keeps its clients.
pub const ROOT: &str = "dst/sink";

#[allow(clippy::expect_used, reason = "literals")]
fn names() -> Names {
    let job = |name: &str| JobName::parse(name).expect("a job name");
    Names { push: job("push"), sink: job("sink"), root: format!("{ROOT}/client") }
}
