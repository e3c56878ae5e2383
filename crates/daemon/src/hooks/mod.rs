//! What runs before and after the snapshot of a filesystem.
//!
//! A hook has two edges. Those before the snapshot run in the order of the configuration, then the
//! snapshot is taken, then the edges after it run in reverse. What a hook did before the snapshot is
//! undone whatever happens: after another hook's fatal failure, after a failed snapshot, and after the
//! run was dropped by a reset or a stop. Knows nothing of ZFS: the snapshot is a future.

#[cfg(feature = "hooks-db")]
mod authorities;
mod command;
#[cfg(feature = "hooks-db")]
mod mysql;
mod plan;
#[cfg(feature = "hooks-db")]
mod postgres;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use config::types::{Hook as Configured, HookKind, MysqlAddress, MysqlDsn, PostgresDsn};
use model::event::{Hook, HookEdge, What};
use model::{DatasetName, FilesystemFilter, VersionName};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::events::Events;
use crate::limits::HOOK_LOG_BYTES;
use crate::preview::HookPreview;
use crate::tasks::Tasks;
use command::Command;
pub use plan::{Edge, Status};
use plan::{Order, Turn};

/// Runs the hooks of a job. Cheap to clone.
#[derive(Clone)]
pub struct HookRunner {
    hooks: Arc<[Arc<Prepared>]>,
    events: Events,
    log_bytes: u64,
    tasks: Tasks,
}

/// A hook of the configuration that can be run.
struct Prepared {
    /// How people know it.
    name: String,
    program: Program,
    timeout: Duration,
    filesystems: FilesystemFilter,
    fatal: bool,
}

enum Program {
    Command(Command),
    #[cfg(feature = "hooks-db")]
    Postgres(PostgresDsn),
    #[cfg(feature = "hooks-db")]
    Mysql(MysqlDsn),
    /// A database, in a program that was built without support for them.
    #[cfg(not(feature = "hooks-db"))]
    Unavailable,
}

/// What a hook keeps from before the snapshot until after it.
enum Held {
    Nothing,
    #[cfg(feature = "hooks-db")]
    Lock(mysql::Locked),
}

/// Around which snapshot a hook runs, and where it tells what happens.
#[derive(Clone)]
struct Scene {
    filesystem: DatasetName,
    snapshot: VersionName,
    events: Events,
    log_bytes: u64,
}

impl Scene {
    fn tell(&self, what: Hook) {
        let (filesystem, snapshot) = (self.filesystem.clone(), self.snapshot.clone());
        self.events.tell(What::Hook { filesystem, snapshot, what });
    }
}

/// What became of a snapshot and of the hooks around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookOutcome {
    /// All steps in their order, those that were left out too.
    pub steps: Vec<Step>,
    /// The snapshot's own result; an error as well if a hook prevented it.
    pub snapshot: Result<(), String>,
    /// Whether any step failed. A snapshot may have been taken nevertheless.
    pub had_error: bool,
}

/// One edge of a hook, or the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The hook, or `snapshot`.
    pub hook: String,
    /// When it runs.
    pub edge: Edge,
    /// What became of it.
    pub status: Status,
    /// How long it took; zero if it did not run.
    pub runtime: Duration,
    /// Its failure prevents the snapshot.
    pub fatal: bool,
    /// Why it failed.
    pub error: Option<String>,
}

/// One line per step, `NN [Status] [runtime] F [Edge]  hook`, where F is `!` if the step's failure
/// prevents the snapshot and `~` otherwise; then why it failed.
impl fmt::Display for HookOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            let Step { hook, edge, status, runtime, fatal, error } = step;
            let mark = if *fatal { '!' } else { '~' };
            let seconds = runtime.as_secs_f64();
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{:02} [{status:<20}] [{seconds:>8.3}s] {mark} [{edge:<8}]  {hook}", index + 1)?;
            if let Some(error) = error {
                write!(f, ": {error}")?;
            }
        }
        Ok(())
    }
}

impl HookRunner {
    /// The hooks of a job in their order, telling what happens to the job's events.
    pub fn new(hooks: Vec<Configured>, events: Events) -> HookRunner {
        let hooks = hooks.into_iter().map(|hook| Arc::new(Prepared::new(hook))).collect();
        HookRunner { hooks, events, log_bytes: HOOK_LOG_BYTES, tasks: Tasks::default() }
    }

    /// The same, with another limit for what is logged of one edge's output, in bytes.
    pub fn with_log_limit(self, log_bytes: u64) -> HookRunner {
        HookRunner { log_bytes, ..self }
    }

    /// The same, whose edges after the snapshot are tasks of the daemon: it waits for them when it stops.
    pub(crate) fn with_tasks(self, tasks: Tasks) -> HookRunner {
        HookRunner { tasks, ..self }
    }

    /// Whether any hook runs around the snapshots of a filesystem.
    pub fn matches(&self, filesystem: &DatasetName) -> bool {
        self.hooks.iter().any(|hook| hook.filesystems.selects(filesystem))
    }

    /// The hooks that run around the snapshot of a filesystem, in their order.
    pub(crate) fn around(&self, filesystem: &DatasetName) -> Vec<HookPreview> {
        let selected = self.hooks.iter().filter(|hook| hook.filesystems.selects(filesystem));
        selected.map(|hook| HookPreview { name: hook.name.clone(), fatal: hook.fatal }).collect()
    }

    /// The hooks that run around none of these filesystems' snapshots, by number (from 1) and name.
    pub fn unmatched(&self, filesystems: &[DatasetName]) -> Vec<String> {
        let numbered = (1..).zip(self.hooks.iter());
        let unmatched = numbered.filter(|(_, hook)| !filesystems.iter().any(|one| hook.filesystems.selects(one)));
        unmatched.map(|(number, hook)| format!("{number} ({})", hook.name)).collect()
    }

    /// Takes a snapshot with the hooks of its filesystem around it.
    ///
    /// Dropped before its end, it kills the program that runs before the snapshot. What earlier hooks
    /// did is undone in the background all the same, in a task that a stopping daemon waits for: a
    /// frozen filesystem or a locked database must not stay so because of a reset. For the same reason
    /// edges after the snapshot, once begun, run to their end or their timeout.
    pub async fn run<F>(&self, filesystem: &DatasetName, snapshot: &VersionName, take: F) -> HookOutcome
    where
        F: Future<Output = Result<(), String>>,
    {
        let selected = self.hooks.iter().filter(|hook| hook.filesystems.selects(filesystem));
        let hooks: Vec<Arc<Prepared>> = selected.cloned().collect();
        let scene = Scene {
            filesystem: filesystem.clone(),
            snapshot: snapshot.clone(),
            events: self.events.clone(),
            log_bytes: self.log_bytes,
        };
        let mut guard = Guard { around: Some(Around::new(hooks, scene)), tasks: self.tasks.clone() };
        let mut result = Err("the hooks before it did not come to an end".to_owned());
        if let Some(around) = &mut guard.around {
            around.before().await;
            result = around.snapshot(take).await;
        }
        match guard.undo() {
            Some(undone) => match undone.await {
                Ok(around) => around.outcome(result),
                // The task panicked or the runtime ended; the former is an event of its own.
                Err(_) => HookOutcome { steps: Vec::new(), snapshot: result, had_error: true },
            },
            None => HookOutcome { steps: Vec::new(), snapshot: result, had_error: true },
        }
    }
}

/// Sees to it that what was done before the snapshot is undone.
struct Guard {
    around: Option<Around>,
    tasks: Tasks,
}

impl Guard {
    /// Runs the edges after the snapshot in a task, which cannot be dropped half-way.
    fn undo(&mut self) -> Option<oneshot::Receiver<Around>> {
        let mut around = self.around.take()?;
        let (done, undone) = oneshot::channel();
        let events = around.scene.events.clone();
        let name = format!("hooks after the snapshot of {}", around.scene.filesystem);
        self.tasks.spawn(&name, &events, async move {
            around.after().await;
            // Nobody waits for it if the run was dropped.
            let _ = done.send(around);
        });
        Some(undone)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(around) = &mut self.around else { return };
        let interrupted = around.order.turns().iter().any(|turn| turn.edge == Edge::Pre && turn.status == Status::Ok);
        // Without a runtime the process is ending at once, and nothing can be run.
        if interrupted && tokio::runtime::Handle::try_current().is_ok() {
            around.order.interrupt();
            around.scene.tell(Hook::Interrupted);
            self.undo();
        }
    }
}

/// One run of the hooks around one snapshot.
struct Around {
    hooks: Vec<Arc<Prepared>>,
    scene: Scene,
    order: Order,
    /// What each hook keeps, by its index.
    held: Vec<Held>,
    /// Time and error of each step that ran, by its index in the order.
    ran: Vec<Option<(Duration, Option<String>)>>,
}

impl Around {
    fn new(hooks: Vec<Arc<Prepared>>, scene: Scene) -> Around {
        let order = Order::new(&hooks.iter().map(|hook| hook.fatal).collect::<Vec<_>>());
        let held = hooks.iter().map(|_| Held::Nothing).collect();
        let ran = vec![None; order.turns().len()];
        Around { hooks, scene, order, held, ran }
    }

    async fn before(&mut self) {
        if !self.hooks.is_empty() {
            self.scene.tell(Hook::PreEdges);
        }
        while let Some((index, turn)) = self.order.begin(Edge::Pre) {
            let Some(hook) = self.hooks.get(turn.hook).cloned() else { continue };
            let started = Instant::now();
            let result = hook.program.pre(&hook, &self.scene).await;
            let result = result.map(|held| {
                if let Some(slot) = self.held.get_mut(turn.hook) {
                    *slot = held;
                }
            });
            self.end(index, turn, &hook.name, started, result);
        }
    }

    /// Takes the snapshot unless a hook prevents it.
    async fn snapshot(&mut self, take: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let Some((index, turn)) = self.order.begin(Edge::Callback) else {
            return Err(self.prevented());
        };
        if !self.hooks.is_empty() {
            self.scene.tell(Hook::Callback);
        }
        let started = Instant::now();
        let result = take.await;
        // The snapshotter reports the failure.
        self.end(index, turn, CALLBACK, started, result.clone());
        result
    }

    async fn after(&mut self) {
        if !self.hooks.is_empty() {
            self.scene.tell(Hook::PostEdges);
        }
        self.tell_skipped();
        while let Some((index, turn)) = self.order.begin(Edge::Post) {
            let Some(hook) = self.hooks.get(turn.hook).cloned() else { continue };
            let held = self.held.get_mut(turn.hook).map(|held| std::mem::replace(held, Held::Nothing));
            let started = Instant::now();
            let result = hook.program.post(&hook, &self.scene, held.unwrap_or(Held::Nothing)).await;
            self.end(index, turn, &hook.name, started, result);
        }
    }

    fn end(&mut self, index: usize, turn: Turn, name: &str, started: Instant, result: Result<(), String>) {
        self.order.end(index, result.is_ok());
        let edge = match turn.edge {
            Edge::Pre => Some(HookEdge::Pre),
            Edge::Post => Some(HookEdge::Post),
            Edge::Callback => None,
        };
        let error = match (edge, result) {
            (Some(edge), Err(error)) => Some(format!("{error} ({})", advice(edge, turn.fatal))),
            // The snapshotter knows what helps.
            (None, result) | (_, result @ Ok(())) => result.err(),
        };
        if let (Some(edge), Some(error)) = (edge, &error) {
            self.scene.tell(Hook::Failed { hook: name.to_owned(), edge, error: error.clone() });
            if turn.fatal {
                self.scene.tell(Hook::Prevented { hook: name.to_owned() });
            }
        }
        if let Some(slot) = self.ran.get_mut(index) {
            *slot = Some((started.elapsed(), error));
        }
    }

    fn tell_skipped(&self) {
        let skipped = |turn: &&Turn| turn.edge == Edge::Post && turn.status == Status::SkippedDueToPreErr;
        for turn in self.order.turns().iter().filter(skipped) {
            self.scene.tell(Hook::PostSkipped { hook: self.name(*turn) });
        }
    }

    fn name(&self, turn: Turn) -> String {
        self.hooks.get(turn.hook).map_or_else(|| CALLBACK.to_owned(), |hook| hook.name.clone())
    }

    /// Why there is no snapshot.
    fn prevented(&self) -> String {
        let fatal = |(turn, _): &(&Turn, _)| turn.fatal && turn.status == Status::Err;
        let steps = self.order.turns().iter().zip(&self.ran);
        let error = steps.clone().find(fatal).and_then(|(turn, ran)| {
            let (_, error) = ran.as_ref()?;
            Some(format!("hook {}: {}", self.name(*turn), error.as_deref().unwrap_or_default()))
        });
        format!("not taken because of the error of a hook before it: {}", error.unwrap_or_default())
    }

    fn outcome(self, snapshot: Result<(), String>) -> HookOutcome {
        let steps = self.order.turns().iter().zip(&self.ran).map(|(turn, ran)| {
            let (runtime, error) = ran.clone().unwrap_or_default();
            Step { hook: self.name(*turn), edge: turn.edge, status: turn.status, runtime, fatal: turn.fatal, error }
        });
        HookOutcome { steps: steps.collect(), snapshot, had_error: self.order.has_error() }
    }
}

/// What the failure of a hook means, and what helps.
fn advice(edge: HookEdge, fatal: bool) -> &'static str {
    match (edge, fatal) {
        (HookEdge::Pre, true) => {
            "no snapshot is taken: mend the hook, or let snapshots be taken without it by `err_is_fatal: false`"
        }
        (HookEdge::Pre, false) => {
            "the snapshot is taken nevertheless: mend the hook, or let it prevent that by `err_is_fatal: true`"
        }
        (HookEdge::Post, _) => {
            "see whether what it did before the snapshot is undone, or anything is still frozen or locked"
        }
    }
}

/// What the snapshot is called among the steps.
const CALLBACK: &str = "snapshot";

#[cfg(not(feature = "hooks-db"))]
const UNAVAILABLE: &str = "this zrepl was built without support for databases (feature `hooks-db`)";

impl Prepared {
    fn new(hook: Configured) -> Prepared {
        let Configured { kind, timeout, filesystems, err_is_fatal: fatal } = hook;
        let (name, program) = match kind {
            HookKind::Command { path } => (path.display().to_string(), Program::Command(Command { path })),
            HookKind::PostgresCheckpoint { dsn } => {
                let PostgresDsn { host, port, user, database, .. } = &dsn;
                (format!("postgres-checkpoint {user}@{host}:{port}/{database}"), Program::postgres(dsn))
            }
            HookKind::MysqlLockTables { dsn } => {
                let MysqlDsn { user, address, database, .. } = &dsn;
                let address = match address {
                    MysqlAddress::Tcp(host, port) => format!("{host}:{port}"),
                    MysqlAddress::Unix(path) => path.display().to_string(),
                };
                (format!("mysql-lock-tables {user}@{address}/{database}"), Program::mysql(dsn))
            }
        };
        Prepared { name, program, timeout, filesystems, fatal }
    }

    #[cfg(feature = "hooks-db")]
    fn tell_statement(&self, statement: &'static str, scene: &Scene) {
        scene.tell(Hook::Statement { hook: self.name.clone(), statement });
    }
}

#[cfg(feature = "hooks-db")]
impl Program {
    fn postgres(dsn: PostgresDsn) -> Program {
        Program::Postgres(dsn)
    }

    fn mysql(dsn: MysqlDsn) -> Program {
        Program::Mysql(dsn)
    }
}

#[cfg(not(feature = "hooks-db"))]
impl Program {
    fn postgres(_: PostgresDsn) -> Program {
        Program::Unavailable
    }

    fn mysql(_: MysqlDsn) -> Program {
        Program::Unavailable
    }
}

impl Program {
    async fn pre(&self, hook: &Prepared, scene: &Scene) -> Result<Held, String> {
        match self {
            Program::Command(command) => {
                command.run(HookEdge::Pre, hook.timeout, scene).await.map_err(|error| error.to_string())?;
                Ok(Held::Nothing)
            }
            #[cfg(feature = "hooks-db")]
            Program::Postgres(dsn) => {
                hook.tell_statement(postgres::CHECKPOINT, scene);
                postgres::checkpoint(dsn, hook.timeout).await.map_err(|error| error.to_string())?;
                Ok(Held::Nothing)
            }
            #[cfg(feature = "hooks-db")]
            Program::Mysql(dsn) => {
                hook.tell_statement(mysql::LOCK, scene);
                mysql::lock(dsn, hook.timeout).await.map(Held::Lock).map_err(|error| error.to_string())
            }
            #[cfg(not(feature = "hooks-db"))]
            Program::Unavailable => Err(UNAVAILABLE.to_owned()),
        }
    }

    async fn post(&self, hook: &Prepared, scene: &Scene, held: Held) -> Result<(), String> {
        match (self, held) {
            (Program::Command(command), _) => {
                command.run(HookEdge::Post, hook.timeout, scene).await.map_err(|error| error.to_string())
            }
            #[cfg(feature = "hooks-db")]
            (Program::Mysql(_), Held::Lock(locked)) => {
                hook.tell_statement(mysql::UNLOCK, scene);
                locked.unlock(hook.timeout).await.map_err(|error| error.to_string())
            }
            // A checkpoint needs no undoing, nor does what never succeeded.
            #[cfg(feature = "hooks-db")]
            (Program::Postgres(_) | Program::Mysql(_), _) => Ok(()),
            #[cfg(not(feature = "hooks-db"))]
            (Program::Unavailable, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
