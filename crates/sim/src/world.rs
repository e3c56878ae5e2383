//! Two machines with a daemon each, and what happens to them.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use daemon::act::{Invocation, replicate_and_prune};
use daemon::endpoint::{ConfiguredJobs, Receiver, ReceiverConfig, SendPolicy, Sender, SenderConfig, Sink, Source};
use daemon::events::{Events, Reader};
use daemon::limits;
use model::event::InvocationSummary;
use model::plan::prune::KeepRule;
use model::plan::replication::{InitialReplication, ReplicationPolicy};
use model::plan::resolve::ConflictPolicy;
use model::protection::{ProtectionPolicy, ProtectionStrategy};
use model::{ClientIdentity, DatasetName, FilesystemFilter, JobName};
use tokio_util::sync::CancellationToken;
use wire::{Connector, LocalNetwork, SameProcess, Service};
use zfs::PlaceholderEncryption;

use crate::check::{Expected, Standings, Watch};
use crate::disk::Disk;
use crate::fault::{Faults, NoFaults, Victims};
use crate::flow::{Flow, Places};
use crate::machine::Machine;
use crate::network::Network;
use crate::process::{Host, Process};
use crate::report::Reporter;
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

/// Which of the two daemons is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The sender's, with a push job.
    Push,
    /// The receiver's, with a pull job.
    Pull,
}

impl Direction {
    /// Both.
    pub const BOTH: [Direction; 2] = [Direction::Push, Direction::Pull];

    fn active(self) -> Host {
        match self {
            Direction::Push => Host::Sender,
            Direction::Pull => Host::Receiver,
        }
    }

    fn passive(self) -> Host {
        match self {
            Direction::Push => Host::Receiver,
            Direction::Pull => Host::Sender,
        }
    }
}

/// What an administrator configured, and what is random about the machines.
#[derive(Clone)]
pub struct Setup {
    /// For everything that the pools draw.
    pub seed: u64,
    /// Who is active.
    pub direction: Direction,
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
            direction: Direction::Push,
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

    fn flow(&self) -> Flow {
        Flow {
            sender: Host::Sender,
            receiver: Host::Receiver,
            driver: self.direction.active(),
            sending: job(SENDING),
            receiving: job(RECEIVING),
            root: client_root(),
            filesystems: self.filesystems.clone(),
            guarded: self.guarded(),
            expected: expected(self.protection),
        }
    }
}

/// What a policy leaves on what is up to date.
pub fn expected(policy: ProtectionPolicy) -> Expected {
    let kinds = [policy.initial, policy.incremental];
    match kinds.iter().filter(|kind| **kind == ProtectionStrategy::Nothing).count() {
        0 => Expected::OneEach,
        1 => Expected::Either,
        _ => Expected::None,
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
    pub machines: Vec<Machine>,
    setup: Setup,
    network: Arc<Network>,
    active: Option<Active>,
    /// Serves until it is dropped.
    listener: Option<Box<dyn Send + Sync>>,
    invocations: u64,
}

/// What a life of the active daemon works with.
#[derive(Clone)]
struct Active {
    events: Events,
    own: Own,
    sender: Arc<dyn Connector>,
    receiver: Arc<dyn Connector>,
}

/// The endpoint of its job.
#[derive(Clone)]
enum Own {
    Sender(Arc<Sender>),
    Receiver(Arc<Receiver>),
}

impl Own {
    /// As a job does when it starts; a failure is told as an event.
    async fn clean(&self) {
        let jobs = ConfiguredJobs::default();
        let _ = match self {
            Own::Sender(sender) => sender.clean_and_warn(&jobs).await,
            Own::Receiver(receiver) => receiver.clean_and_warn(&jobs).await,
        };
    }
}

impl World {
    /// Two machines without data; both daemons start when they are first needed. Only within a tokio
    /// runtime whose time is paused.
    pub fn new(setup: Setup) -> Self {
        let time = SimTime::start();
        let machines: Vec<Machine> = [(Host::Sender, "src"), (Host::Receiver, "dst")]
            .map(|(host, pool)| Machine::new(host, pool, setup.seed, &time))
            .into();
        machines[Host::Receiver.index()].create(ROOT);
        if setup.direction == Direction::Pull {
            machines[Host::Receiver.index()].create(&client_root());
        }
        let watch = Watch::new(Box::new(machines.clone()), vec![setup.flow()]);
        let trace = Trace::new(time.clone(), setup.print);
        let room = Arc::new(Room::new(time.clone(), trace, watch, Box::new(NoFaults)));
        Host::BOTH.iter().zip(&machines).for_each(|(host, machine)| machine.attach(*host, &room));
        let network = Network::new(Arc::clone(&room));
        Self { room, machines, setup, network, active: None, listener: None, invocations: 0 }
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
    pub fn user_did(&self, what: impl fmt::Display, broken: &Places) {
        self.room.user_did(what, broken);
    }

    /// What the receiver calls a filesystem of the sender.
    pub fn on_receiver(&self, filesystem: &str) -> String {
        format!("{}/{filesystem}", client_root())
    }

    /// Runs one invocation of the active job. None if a daemon was killed on the way so that it did not
    /// finish; the next one starts the daemon again.
    pub async fn invoke(&mut self) -> Result<Option<InvocationSummary>, Failure> {
        self.start_passive().await;
        let starts = self.start_active();
        let process = self.room.process(self.setup.direction.active());
        let Some(Active { events, own, sender, receiver }) = self.active.clone() else { return Ok(None) };
        self.invocations += 1;
        let invocation = Invocation {
            number: self.invocations,
            events,
            sender,
            receiver,
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
            drain: daemon::Drain::default(),
            cancel: CancellationToken::new(),
        };
        let work = process.run(async {
            if starts {
                own.clean().await;
            }
            replicate_and_prune(invocation).await
        });
        let guarded = async {
            tokio::select! {
                biased;
                summary = work => summary,
                () = self.keep_passive_running() => None,
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
        excused: &Places,
    ) -> Result<(usize, Vec<(usize, String)>), Failure> {
        self.set_faults(NoFaults);
        self.room.trace.tell(' ', "nothing goes wrong from now on");
        for number in 1..=limit {
            self.invoke().await?;
            let Standings { behind, stuck, .. } = self.standings(excused);
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
    pub fn standings(&self, excused: &Places) -> Standings {
        self.room.standings(excused)
    }

    fn new_life(&self, host: Host, job: &JobName) -> (Process, Arc<Disk>, Events) {
        self.room.process(host).kill();
        let process = self.room.restart(host);
        let zfs = self.machine(host).zfs();
        let disk = Disk::new(Arc::clone(&self.room), host, process.clone(), job.clone(), zfs);
        let reader: Arc<dyn Reader> = Arc::new(Reporter::new(host, process.clone(), &self.room));
        let events = Events::new(self.room.time.clock(), vec![reader]).of_job(job);
        (process, disk, events)
    }

    fn sender(&self, disk: Arc<Disk>, events: Events) -> Arc<Sender> {
        let config = SenderConfig {
            job: job(SENDING),
            filesystems: self.setup.filesystems.clone(),
            send: SendPolicy::default(),
            bandwidth: Default::default(),
        };
        Sender::new(disk, events, config)
    }

    fn start_active(&mut self) -> bool {
        let host = self.setup.direction.active();
        if self.active.is_some() && self.room.process(host).is_alive() {
            return false;
        }
        let job = match self.setup.direction {
            Direction::Push => job(SENDING),
            Direction::Pull => job(RECEIVING),
        };
        let (process, disk, events) = self.new_life(host, &job);
        let other = self.network.link((host, process), (self.setup.direction.passive(), LISTENER), client());
        let told = events.clone();
        let active = match self.setup.direction {
            Direction::Push => {
                let own = self.sender(disk, events);
                let sender = Arc::new(SameProcess(own.clone()));
                Active { events: told, own: Own::Sender(own), sender, receiver: other }
            }
            Direction::Pull => {
                let own = Receiver::new(disk, events, receiver_config(&client_root()));
                let receiver = Arc::new(SameProcess(own.clone()));
                Active { events: told, own: Own::Receiver(own), sender: other, receiver }
            }
        };
        self.active = Some(active);
        true
    }

    async fn start_passive(&mut self) {
        let host = self.setup.direction.passive();
        let process = self.room.process(host);
        if self.listener.is_some() && process.is_alive() {
            return;
        }
        process.kill();
        process.reap().await;
        let (process, service) = match self.setup.direction {
            Direction::Push => {
                let (process, disk, events) = self.new_life(host, &job(RECEIVING));
                (process, Sink::new(disk, events, receiver_config(ROOT)) as Arc<dyn Service>)
            }
            Direction::Pull => {
                let (process, disk, events) = self.new_life(host, &job(SENDING));
                let (sender, cleaned) = (self.sender(disk, events.clone()), CancellationToken::new());
                let source = Source::new(Arc::clone(&sender), events, cleaned.clone());
                process.spawn(async move {
                    let _over = cleaned.drop_guard();
                    sender.clean_and_warn(&ConfiguredJobs::default()).await
                });
                (process, source as Arc<dyn Service>)
            }
        };
        let listeners = LocalNetwork::default();
        // The first of its life.
        self.listener = listeners.listen(LISTENER, service).ok().map(|listener| Box::new(listener) as Box<_>);
        self.network.serve(host, process, listeners);
    }

    /// Starts the passive daemon again whenever it dies.
    async fn keep_passive_running(&mut self) {
        loop {
            self.room.process(self.setup.direction.passive()).death().await;
            tokio::time::sleep(RESTART).await;
            self.start_passive().await;
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

/// The job that sends, pushing or as a source.
const SENDING: &str = "push";

/// The job that receives, as a sink or pulling.
const RECEIVING: &str = "sink";

const LISTENER: &str = "listener";

fn client_root() -> String {
    format!("{ROOT}/client")
}

#[allow(clippy::expect_used, reason = "literals")]
fn job(name: &str) -> JobName {
    JobName::parse(name).expect("a job name")
}

#[allow(clippy::expect_used, reason = "a literal")]
fn client() -> ClientIdentity {
    ClientIdentity::parse("client").expect("a client identity")
}

#[allow(clippy::expect_used, reason = "literals")]
fn receiver_config(root: &str) -> ReceiverConfig {
    ReceiverConfig {
        job: job(RECEIVING),
        root: DatasetName::parse(root).expect("a dataset name"),
        client: None,
        placeholders: Some(PlaceholderEncryption::Inherit),
        inherit: Vec::new(),
        set: Vec::new(),
        bandwidth: Default::default(),
    }
}
