//! A running daemon: what it is made of, how it starts and how it stops.
//!
//! What differs between the program and a test of it is the [`World`]. Simulated fleets run daemons like
//! this one in worlds of theirs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::Config;
use config::types::Job;
use jiff::Timestamp;
use model::event::What;
use model::{JobName, event};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::tls::KeyLogFile;
use wire::{Connector, LocalNetwork};
use zfs::Zfs;

use crate::clock::Clock;
use crate::control::{self, Profiling, SocketError};
use crate::dispatch::{Dispatch, Operation, SignalError};
use crate::drain::Drain;
use crate::endpoint::ConfiguredJobs;
use crate::events::{Events, Reader};
use crate::job;
use crate::limits;
use crate::monitoring;
use crate::not_yet::not_yet;
use crate::preview::{NextRound, Preview, Wish, WishError, preview};
use crate::reload::{ReloadError, Reloaded, Running};
use crate::report::trace::Trace;
use crate::report::{Metrics, Status, StatusFold};
use crate::services::{ServiceLost, Services};
use crate::startup::look_at_pools;
use crate::tasks::Tasks;
use crate::tuning::Tuning;

/// Replaces a job's way to its other side, for tests of faulty networks.
pub type WrapConnector = Arc<dyn Fn(&JobName, Arc<dyn Connector>) -> Arc<dyn Connector> + Send + Sync>;

/// Replaces a job's handle on ZFS, to attribute what it starts to the job's events.
pub type WrapZfs = Arc<dyn Fn(Arc<dyn Zfs>, &Events) -> Arc<dyn Zfs> + Send + Sync>;

/// Reads the configuration again; the error is every mistake in it.
pub type LoadConfig = Arc<dyn Fn() -> Result<Reread, String> + Send + Sync>;

/// A configuration that was read again.
#[derive(Debug, Clone)]
pub struct Reread {
    /// What it says.
    pub config: Config,
    /// What can be used and is to be told all the same, each as a text of its own: what is probably not meant,
    /// certificates that are no good, what this user is not allowed.
    pub warnings: Vec<String>,
}

impl From<Config> for Reread {
    fn from(config: Config) -> Reread {
        Reread { config, warnings: Vec::new() }
    }
}

/// How many lines each log outlet has lost, by its kind.
pub type LostLines = Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// What a daemon lives in.
#[derive(Clone)]
pub struct World {
    /// The pools.
    pub zfs: Arc<dyn Zfs>,
    /// Applied to `zfs` for every job, together with the job's events.
    pub job_zfs: WrapZfs,
    /// Wall-clock time.
    pub clock: Clock,
    /// Where jobs of one process meet.
    pub network: LocalNetwork,
    /// Applied to the connector of every job that has one.
    pub connector: WrapConnector,
    /// Whom events are told besides the status report.
    pub readers: Vec<Arc<dyn Reader>>,
    /// What is missing in the logs that those readers write.
    pub lost_lines: LostLines,
    /// Reads the configuration again when somebody asks for that; none if there is nothing to read.
    pub load: Option<LoadConfig>,
    /// Tells spans to whoever wants to know.
    pub trace: Arc<Trace>,
    /// Where the daemon serves profiles from its start on, `host:port`.
    pub profiles_at: Option<String>,
    /// Settings from the environment.
    pub tuning: Tuning,
    /// Where the secrets of TLS connections are written, for a person who looks into recorded traffic.
    pub key_log: Option<Arc<KeyLogFile>>,
}

impl World {
    /// A world with the machine's clock, nobody listening, and default settings.
    pub fn new(zfs: Arc<dyn Zfs>) -> World {
        World {
            zfs,
            job_zfs: Arc::new(|zfs, _| zfs),
            clock: Clock::system(),
            network: LocalNetwork::default(),
            connector: Arc::new(|_, connector| connector),
            readers: Vec::new(),
            lost_lines: Arc::new(Vec::new),
            load: None,
            trace: Arc::default(),
            profiles_at: None,
            tuning: Tuning::default(),
            key_log: None,
        }
    }
}

/// Why a daemon did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Nobody could talk to it.
    #[error(transparent)]
    Control(#[from] SocketError),
    /// The configuration asks for what this version cannot do: each with its job and field.
    #[error("{}", .0.join("\n"))]
    NotYet(Vec<String>),
}

/// What a daemon still waited for when its time to stop was over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not stopped within {deadline:?}, still waiting for {}", waiting_for.join(", "))]
pub struct StillRunning {
    /// How long it waited.
    pub deadline: Duration,
    /// Tasks and child processes.
    pub waiting_for: Vec<String>,
}

/// What the daemon's parts share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub world: World,
    pub events: Events,
    pub dispatch: Dispatch,
    pub tasks: Tasks,
    /// What undoes hooks, in the background. These end by themselves, within the hooks' timeouts.
    pub undoing: Tasks,
    /// Cancelled when the jobs shall end.
    pub jobs: CancellationToken,
    /// What they may do before.
    pub drain: Drain,
    pub status: Arc<StatusFold>,
    /// The tasks of the job whose this is.
    pub job_tasks: TaskTracker,
    /// The jobs that run.
    pub running: Running,
    /// The configuration's jobs, for previews.
    pub configured: Arc<Mutex<Arc<[Job]>>>,
    /// The same, for endpoints that come upon what belongs to none of them.
    pub configured_jobs: Arc<ConfiguredJobs>,
    /// Where clients arrive that come by SSH.
    pub stdinserver_sockets: Arc<Path>,
    /// When the daemon started, which tells its invocations from those of others.
    pub started: Timestamp,
    /// What is counted for Prometheus. Always: the listener for profiles has it, too, and may come later.
    pub metrics: Arc<Metrics>,
    /// Who looks into the daemon.
    pub profiling: Arc<Profiling>,
    /// Room for clients that wait for invocations.
    pub waiters: Arc<Semaphore>,
    /// One configuration after the other.
    pub reloading: Arc<tokio::sync::Mutex<()>>,
    /// One preview at a time: each lists whole pools.
    pub previewing: Arc<tokio::sync::Mutex<()>>,
}

impl Shared {
    /// Tells what a person should look at.
    pub(crate) fn warn(&self, message: String) {
        self.events.tell(What::Warning { subsystem: "job", message });
    }

    /// How many tasks jobs have.
    pub(crate) fn tasks_alive(&self) -> usize {
        self.tasks.count() + self.undoing.count()
    }

    /// The status report as it is now.
    pub(crate) fn status(&self) -> Status {
        self.status.status(self.world.zfs.running(), &self.world.tuning)
    }

    /// What tells that report from later ones.
    pub(crate) fn status_tag(&self) -> String {
        self.status.tag(&self.world.zfs.running())
    }

    /// What the next invocations would do.
    pub(crate) async fn preview(&self, wish: &Wish) -> Result<Preview, WishError> {
        let _one_at_a_time = self.previewing.lock().await;
        let configured = Arc::clone(&*self.configured.lock().unwrap_or_else(PoisonError::into_inner));
        let mut preview = preview(&configured, &self.world, wish).await?;
        // Whose snapshotter waits knows it best.
        for job in &mut preview.jobs {
            if let Some(at) = self.status.next_round(&job.job) {
                job.next = NextRound::At { at: at.to_string() };
            }
        }
        Ok(preview)
    }
}

/// A running daemon. Dropping it ends everything at once, as a kill would; see [`Daemon::stop`].
pub struct Daemon {
    shared: Shared,
    /// The dispatcher and the control socket, which outlive the jobs.
    services: Services,
}

impl Daemon {
    /// Starts all jobs and the control socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The control socket cannot be made, or another daemon uses it; or the configuration asks for
    /// what this version cannot do. Nothing else stops a start: pools may appear later.
    pub fn start(config: Config, world: World) -> Result<Daemon, StartError> {
        let not_yet = not_yet(&config);
        if !not_yet.is_empty() {
            return Err(StartError::NotYet(not_yet));
        }
        let socket = config.global.control_socket.as_deref().map(control::Socket::bind).transpose()?;
        let status = Arc::new(StatusFold::new(&config));
        let monitoring = config.global.monitoring.clone();
        let metrics = Arc::new(Metrics::new(&config.jobs, world.clock.now()));
        let own = [Arc::clone(&status) as Arc<dyn Reader>, Arc::clone(&world.trace) as _, Arc::clone(&metrics) as _];
        let readers = own.into_iter().chain(world.readers.iter().cloned());
        let events = Events::new(world.clock.clone(), readers.collect());
        let (jobs, drain) = (CancellationToken::new(), Drain::default());
        let started = world.clock.now();
        let (dispatch, mut dispatcher) = Dispatch::new(events.clone(), jobs.clone(), drain.clone());
        let configured: Arc<[Job]> = config.jobs.clone().into();
        let configured_jobs = Arc::new(ConfiguredJobs::new(&configured));
        let stdinserver_sockets = config.global.stdinserver_sockets.clone().into();
        let shared = Shared {
            world,
            events,
            dispatch,
            tasks: Tasks::default(),
            undoing: Tasks::default(),
            jobs,
            drain,
            status,
            job_tasks: TaskTracker::new(),
            running: Running::default(),
            configured: Arc::new(Mutex::new(configured)),
            configured_jobs,
            stdinserver_sockets,
            started,
            metrics,
            profiling: Arc::default(),
            waiters: Arc::new(Semaphore::new(limits::OUTCOME_WAITERS)),
            reloading: Arc::default(),
            previewing: Arc::default(),
        };
        let services = Services::default();

        shared.events.tell(What::DaemonStarted { version: crate::VERSION.to_owned() });
        shared.running.begin(&config);
        for job in &config.jobs {
            let own = shared.running.own(job, &config, &shared);
            dispatcher.add(job.name().as_str(), job::start(job.clone(), &own));
        }
        if let Some(socket) = socket {
            dispatcher.add(control::JOB, crate::dispatch::Slot::passive());
            let serving = control::serve(socket, shared.clone(), services.end());
            services.spawn_vital("control socket", &shared.events, serving);
        }
        if let Some(monitoring) = monitoring {
            dispatcher.add(monitoring::JOB, crate::dispatch::Slot::passive());
            let serving = monitoring::serve(monitoring, shared.clone(), services.end());
            services.spawn("metrics listener", &shared.events, serving);
        }
        if let Some(address) = shared.world.profiles_at.clone() {
            shared.tasks.spawn("profile listener", &shared.events, control::autostart(shared.clone(), address));
        }
        services.spawn_vital("dispatcher", &shared.events, dispatcher.run(services.end()));
        Ok(Daemon { shared, services })
    }

    /// Starts an invocation of a job now, or after the one that runs.
    ///
    /// # Errors
    /// See [`SignalError`].
    pub async fn wakeup(&self, job: &str) -> Result<(), SignalError> {
        self.shared.dispatch.signal(job, Operation::Wakeup).await
    }

    /// Wakes a job up and waits for the invocation that this brings, which may be one that was waiting
    /// already. None if the daemon stopped first.
    ///
    /// # Errors
    /// See [`SignalError`].
    pub async fn wakeup_and_wait(&self, job: &str) -> Result<Option<event::InvocationSummary>, SignalError> {
        let followed = self.shared.dispatch.wake_and_follow(job).await?;
        Ok(self.shared.jobs.run_until_cancelled(followed.finished()).await.flatten())
    }

    /// Cancels the invocation of a job that runs; the job waits for its next one.
    ///
    /// # Errors
    /// See [`SignalError`].
    pub async fn reset(&self, job: &str) -> Result<(), SignalError> {
        self.shared.dispatch.signal(job, Operation::Reset).await
    }

    /// Takes a round of snapshots of a job now.
    ///
    /// # Errors
    /// See [`SignalError`].
    pub async fn snapshot(&self, job: &str) -> Result<(), SignalError> {
        self.shared.dispatch.signal(job, Operation::Snapshot).await
    }

    /// What the next invocations would do; see [`preview`].
    ///
    /// # Errors
    /// See [`WishError`].
    pub async fn preview(&self, wish: &Wish) -> Result<Preview, WishError> {
        self.shared.preview(wish).await
    }

    /// Warns of pools that the jobs are about and that are not there; the jobs go on.
    pub async fn check_pools(&self) {
        let shared = &self.shared;
        let configured = Arc::clone(&*shared.configured.lock().unwrap_or_else(PoisonError::into_inner));
        look_at_pools(configured.iter(), &*shared.world.zfs, |message| shared.warn(message)).await;
    }

    /// The status report as it is now.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Goes on with another configuration. Jobs that it does not change are left alone, streams included;
    /// those that it changes end and begin anew, those that are gone end. What is `global` stays as it was.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing has changed then, which is told.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        self.shared.reload(config.into()).await
    }

    /// The same with what [`World::load`] reads.
    ///
    /// # Errors
    /// As above.
    pub async fn reload_from_file(&self) -> Result<Reloaded, ReloadError> {
        self.shared.reload_from_file().await
    }

    /// Whether whoever puts requests in order answers within [`limits::SIGN_OF_LIFE`]. A daemon in which it
    /// does not looks alive and does nothing; that is told.
    pub async fn answers(&self) -> bool {
        let answers = self.shared.dispatch.answers().await;
        if !answers {
            let message = format!(
                "whoever puts requests to jobs in order has not answered within {:?}: a fault of this program, or a \
                 machine that is starved; the service manager hears of it",
                limits::SIGN_OF_LIFE
            );
            self.shared.events.tell(What::Error { subsystem: "job", message });
        }
        answers
    }

    /// Waits until the dispatcher or the control socket has ended although nobody stopped the daemon, which
    /// then is to be stopped and started anew; as a rule for ever.
    pub async fn lost(&self) -> ServiceLost {
        self.services.lost().await
    }

    /// Ends the daemon: [`Daemon::drain`], then [`Daemon::end`].
    ///
    /// # Errors
    /// As the latter.
    pub async fn stop(&self, cause: &str) -> Result<(), StillRunning> {
        self.drain(cause).await;
        self.end().await
    }

    /// Lets nothing new begin, and waits for steps, rounds of snapshots and the like that are under way,
    /// [`Tuning::drain`] at most: they need not be repeated then. `cause` is what the log says.
    pub async fn drain(&self, cause: &str) {
        let Shared { dispatch, drain, events, world, .. } = &self.shared;
        let stops = tokio::time::timeout(limits::SIGN_OF_LIFE, dispatch.stop(cause)).await;
        if !stops.unwrap_or(false) {
            // It has ended before its time, see `lost`, or stands still, see `answers`.
            events.tell(What::DaemonStopping { cause: cause.to_owned() });
            drain.begin();
        }
        let limit = world.tuning.drain;
        let under_way = drain.under_way();
        if !under_way.is_empty() && !limit.is_zero() {
            self.note(format!("waiting up to {limit:?} for what is under way: {}", briefly(&under_way)));
        }
        if tokio::time::timeout(limit, drain.over()).await.is_err() {
            let under_way = briefly(&drain.under_way());
            self.note(format!("cut, as {limit:?} have passed; steps will be resumed: {under_way}"));
        }
    }

    /// Tells what a person may want to know.
    pub fn note(&self, message: String) {
        self.shared.events.tell(What::Note { subsystem: "job", message });
    }

    /// What a stop waits for, see [`Daemon::drain`], in words.
    pub fn under_way(&self) -> Vec<String> {
        self.shared.drain.under_way()
    }

    /// Cuts what runs and waits until all tasks have ended and all children are reaped; the socket file is gone
    /// then.
    ///
    /// What undoes hooks is waited for as long as their timeouts allow, on top of that limit: a frozen
    /// filesystem that nobody thaws is worse than a late end.
    ///
    /// # Errors
    /// [`limits::STOP`] passed first, for the jobs or for the rest.
    pub async fn end(&self) -> Result<(), StillRunning> {
        self.shared.jobs.cancel();
        let jobs = tokio::time::timeout(limits::STOP, self.shared.tasks.wait()).await;
        self.shared.undoing.wait().await;
        let rest = tokio::time::timeout(limits::STOP, async {
            self.children_reaped().await;
            self.services.stop().await;
        });
        if jobs.is_err() || rest.await.is_err() {
            return Err(self.still_running());
        }
        self.shared.events.tell(What::DaemonStopped);
        Ok(())
    }

    /// Whether something undoes hooks. A stop may take as long as their timeouts then.
    pub fn undoes_hooks(&self) -> bool {
        self.shared.undoing.count() > 0
    }

    /// A child whose task has ended is killed, and reaped soon after.
    async fn children_reaped(&self) {
        while !self.shared.world.zfs.running().is_empty() {
            tokio::time::sleep(limits::REAP_PAUSE).await;
        }
    }

    fn still_running(&self) -> StillRunning {
        let tasks = [self.shared.tasks.alive(), self.shared.undoing.alive(), self.services.alive()].concat();
        let commands = self.shared.world.zfs.running();
        let commands = commands.iter().map(|command| format!("`{}`", command.args.join(" ")));
        StillRunning { deadline: limits::STOP, waiting_for: tasks.into_iter().chain(commands).collect() }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shared.jobs.cancel();
        self.shared.tasks.abort();
        self.shared.undoing.abort();
        self.services.abort();
    }
}

/// The first of many.
fn briefly(all: &[String]) -> String {
    const TOLD: usize = 5;
    match all.split_at_checked(TOLD) {
        Some((first, more)) if !more.is_empty() => format!("{}, and {} more", first.join(", "), more.len()),
        _ => all.join(", "),
    }
}

/// A summary of an invocation that ended by its own failure.
pub(crate) fn failed_invocation() -> event::InvocationSummary {
    event::InvocationSummary { errors: 1, ..event::InvocationSummary::default() }
}
