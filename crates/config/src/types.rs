//! The checked configuration: plain data, every name parsed, every default filled in.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use model::naming::SnapshotNaming;
use model::plan::prune::KeepRule;
use model::plan::replication::ReplicationPolicy;
use model::schedule::Cron;
use model::{ClientIdentity, DatasetName, FilesystemFilter, JobName};

/// Everything that one daemon does.
#[derive(Debug, Clone)]
pub struct Config {
    /// What concerns the daemon itself.
    pub global: Global,
    /// In file order, those of included files last. Their names are unique and do not begin with `_`.
    pub jobs: Vec<Job>,
}

/// The `global` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// `logging`; never empty.
    pub logging: Vec<Outlet>,
    /// `control.sockpath`; none if it is empty, which asks for a daemon without a control socket.
    pub control_socket: Option<PathBuf>,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            logging: vec![Outlet::Stdout(StdoutOutlet::default())],
            control_socket: Some(PathBuf::from(DEFAULT_CONTROL_SOCKET)),
        }
    }
}

/// Where clients find the daemon unless `control.sockpath` says otherwise.
pub const DEFAULT_CONTROL_SOCKET: &str = "/var/run/zrepl/control";

/// Where log entries go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlet {
    /// `stdout`
    Stdout(StdoutOutlet),
}

/// The `stdout` outlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdoutOutlet {
    /// Least important level that is written.
    pub level: LogLevel,
    /// How an entry is laid out.
    pub format: LogFormat,
    /// Print the time. Means something only where stdout is not a terminal, which always gets it.
    pub time: bool,
    /// Use colours. Means something only where stdout is a terminal.
    pub color: bool,
}

impl Default for StdoutOutlet {
    fn default() -> Self {
        Self { level: LogLevel::Warn, format: LogFormat::Human, time: true, color: true }
    }
}

/// Importance of a log entry; a later one is more important.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warn`
    Warn,
    /// `error`
    Error,
}

/// Layout of log entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `human`
    Human,
    /// `logfmt`
    Logfmt,
    /// `json`, one object per line.
    Json,
}

/// One job.
#[derive(Debug, Clone)]
pub enum Job {
    /// Snapshots, replicates to a sink, prunes both sides.
    Push(PushJob),
    /// Receives what push jobs send.
    Sink(SinkJob),
    /// Snapshots and prunes, without replication.
    Snap(SnapJob),
}

impl Job {
    /// The name.
    pub fn name(&self) -> &JobName {
        match self {
            Job::Push(job) => &job.name,
            Job::Sink(job) => &job.name,
            Job::Snap(job) => &job.name,
        }
    }
}

/// A `push` job.
#[derive(Debug, Clone)]
pub struct PushJob {
    /// Part of names on disk.
    pub name: JobName,
    /// The sink.
    pub connect: LocalConnect,
    /// What it is about.
    pub filesystems: FilesystemFilter,
    /// How streams are made.
    pub send: SendOptions,
    /// What replication protects and how it begins.
    pub replication: ReplicationPolicy,
    /// How much replication does at once.
    pub concurrency: Concurrency,
    /// When snapshots are taken.
    pub snapshotting: Snapshotting,
    /// What is kept.
    pub pruning: PushPruning,
}

/// `connect` of type `local`: a sink job of the same daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConnect {
    /// The sink's `listener_name`.
    pub listener_name: String,
    /// Who the sink takes the job for; a dataset component below its `root_fs`.
    pub client_identity: ClientIdentity,
    /// How long to wait for the sink; zero for no limit.
    pub dial_timeout: Duration,
}

/// The flags of `zfs send`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag of zfs send")]
pub struct SendOptions {
    /// Send only encrypted datasets, raw (`-w`).
    pub encrypted: bool,
    /// Raw (`-w`).
    pub raw: bool,
    /// `-p`
    pub send_properties: bool,
    /// `-b`
    pub backup_properties: bool,
    /// `-L`
    pub large_blocks: bool,
    /// `-c`
    pub compressed: bool,
    /// `-e`
    pub embedded_data: bool,
}

/// `replication.concurrency`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Steps, and filesystems being planned, at once.
    pub steps: NonZeroUsize,
    /// Size estimates at once.
    pub size_estimates: NonZeroUsize,
}

impl Default for Concurrency {
    fn default() -> Self {
        const FOUR: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);
        Self { steps: NonZeroUsize::MIN, size_estimates: FOUR }
    }
}

/// When snapshots are taken.
#[derive(Debug, Clone)]
pub enum Snapshotting {
    /// Every so often.
    Periodic {
        /// What the snapshots are called.
        naming: SnapshotNaming,
        /// At least one second.
        interval: Duration,
        /// What runs around each snapshot, in file order.
        hooks: Vec<Hook>,
    },
    /// At the times of a calendar.
    Cron {
        /// What the snapshots are called.
        naming: SnapshotNaming,
        /// The times.
        cron: Cron,
        /// What runs around each snapshot, in file order.
        hooks: Vec<Hook>,
    },
    /// By somebody else.
    Manual,
}

/// What runs before and after the snapshot of a filesystem.
#[derive(Debug, Clone)]
pub struct Hook {
    /// What it does.
    pub kind: HookKind,
    /// How long each edge may take; positive.
    pub timeout: Duration,
    /// Around which snapshots.
    pub filesystems: FilesystemFilter,
    /// A failure before the snapshot prevents it.
    pub err_is_fatal: bool,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookKind {
    /// Runs a program before and after.
    Command {
        /// Its path, or a name that is looked up in `PATH`.
        path: PathBuf,
    },
    /// `CHECKPOINT` before; nothing after.
    PostgresCheckpoint {
        /// The server.
        dsn: PostgresDsn,
    },
    /// `FLUSH TABLES WITH READ LOCK` before, `UNLOCK TABLES` after, in one session.
    MysqlLockTables {
        /// The server.
        dsn: MysqlDsn,
    },
}

/// A PostgreSQL server, from a `key=value` text or a `postgres://` URL.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PostgresDsn {
    /// A host name, an address, or the folder of a Unix socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The role; empty for the name of the daemon's user.
    pub user: String,
    /// The password; empty for none.
    pub password: String,
    /// The database; empty for the role's name.
    pub database: String,
    /// `sslmode`
    pub ssl: PostgresSsl,
}

/// `sslmode` of a PostgreSQL connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PostgresSsl {
    /// `disable`
    Disable,
    /// `require`: encrypted, whoever answers.
    #[default]
    Require,
    /// `verify-ca` and `verify-full`: encrypted, with a certificate of a known authority.
    Verify,
}

/// A MySQL or MariaDB server, `[user[:password]@][protocol[(address)]]/database[?parameters]`.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlDsn {
    /// The account; empty for none.
    pub user: String,
    /// The password; empty for none.
    pub password: String,
    /// Where it is.
    pub address: MysqlAddress,
    /// The database; may be empty.
    pub database: String,
}

/// Where a MySQL server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MysqlAddress {
    /// A host and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

// Passwords are for servers, not for logs.
impl fmt::Debug for PostgresDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, password: _, database, ssl } = self;
        write!(f, "PostgresDsn({user}@{host}:{port}/{database}, {ssl:?})")
    }
}

impl fmt::Debug for MysqlDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, password: _, address, database } = self;
        write!(f, "MysqlDsn({user}@{address:?}/{database})")
    }
}

/// `pruning` of a push job.
#[derive(Debug, Clone)]
pub struct PushPruning {
    /// What the sender keeps; never empty.
    pub keep_sender: Vec<KeepRule>,
    /// What the receiver keeps; never empty.
    pub keep_receiver: Vec<KeepRule>,
}

/// A `sink` job.
#[derive(Debug, Clone)]
pub struct SinkJob {
    /// Part of names on disk.
    pub name: JobName,
    /// Clients' filesystems go to `root_fs/<client identity>/<the sender's name>`.
    pub root_fs: DatasetName,
    /// Where push jobs find it.
    pub serve: LocalServe,
    /// How streams are received.
    pub recv: RecvOptions,
}

/// `serve` of type `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalServe {
    /// The name that push jobs of the same daemon connect to.
    pub listener_name: String,
}

/// How streams are received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecvOptions {
    /// How placeholders are made.
    pub placeholder_encryption: PlaceholderEncryption,
    /// Properties that are inherited instead of received: `-x`.
    pub inherit: Vec<String>,
    /// Properties that get this value instead of the received one: `-o`, in file order.
    pub override_: Vec<(String, String)>,
}

/// `recv.placeholder.encryption`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlaceholderEncryption {
    /// Making a placeholder below a client's dataset fails.
    #[default]
    Unspecified,
    /// As the parent.
    Inherit,
    /// With `encryption=off`.
    Off,
}

/// A `snap` job.
#[derive(Debug, Clone)]
pub struct SnapJob {
    /// The name.
    pub name: JobName,
    /// What it is about.
    pub filesystems: FilesystemFilter,
    /// When snapshots are taken.
    pub snapshotting: Snapshotting,
    /// What is kept; never empty and without `not_replicated`.
    pub keep: Vec<KeepRule>,
}
