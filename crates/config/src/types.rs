//! The checked configuration: plain data, every name parsed, every default filled in.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use model::naming::SnapshotNaming;
use model::plan::prune::KeepRule;
use model::plan::replication::ReplicationPolicy;
use model::schedule::Cron;
use model::{ClientIdentity, DatasetName, FilesystemFilter, JobName, PropertyName};

pub use crate::address::{HostPort, Port};
pub use crate::clients::{Client, ClientMap};

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
    /// `monitoring`; none for no metrics.
    pub monitoring: Option<Monitoring>,
    /// `control.sockpath`; none if it is empty, which asks for a daemon without a control socket.
    pub control_socket: Option<PathBuf>,
    /// `serve.stdinserver.sockdir`: the folder of the sockets that `zrepl stdinserver` connects to.
    pub stdinserver_sockets: PathBuf,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            logging: vec![Outlet::Stdout(StdoutOutlet::default())],
            monitoring: None,
            control_socket: Some(PathBuf::from(DEFAULT_CONTROL_SOCKET)),
            stdinserver_sockets: PathBuf::from(DEFAULT_STDINSERVER_SOCKETS),
        }
    }
}

/// Where clients find the daemon unless `control.sockpath` says otherwise.
pub const DEFAULT_CONTROL_SOCKET: &str = "/var/run/zrepl/control";

/// Where `zrepl stdinserver` looks for the daemon unless `serve.stdinserver.sockdir` says otherwise.
pub const DEFAULT_STDINSERVER_SOCKETS: &str = "/var/run/zrepl/stdinserver";

/// `monitoring` of type `prometheus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitoring {
    /// Where the metrics are served.
    pub listen: Listen,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// `listen`; an empty host is every address of the machine.
    pub address: HostPort,
    /// `listen_freebind`: the address may be one that the machine does not have yet.
    pub freebind: bool,
}

/// Where log entries go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlet {
    /// `stdout`
    Stdout(StdoutOutlet),
    /// `syslog`: the socket of this machine.
    Syslog(SyslogOutlet),
    /// `tcp`: a log server.
    Tcp(TcpOutlet),
    /// `journald`: the journal of systemd.
    Journald(JournaldOutlet),
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

/// The `syslog` outlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogOutlet {
    /// Least important level that is written.
    pub level: LogLevel,
    /// How an entry is laid out.
    pub format: LogFormat,
    /// What kind of program this is.
    pub facility: SyslogFacility,
    /// Time between attempts to connect; positive.
    pub retry_interval: Duration,
}

/// A facility of syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyslogFacility {
    /// The number that messages carry, 0 to 23.
    pub code: u8,
}

impl SyslogFacility {
    /// `local0`
    pub(crate) const DEFAULT: SyslogFacility = SyslogFacility { code: 16 };
}

/// The `tcp` outlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpOutlet {
    /// Least important level that is written.
    pub level: LogLevel,
    /// How an entry is laid out.
    pub format: LogFormat,
    /// The server.
    pub address: HostPort,
    /// How it is reached.
    pub net: LogNet,
    /// Limit of one attempt to connect, of one write, and pause between attempts; positive.
    pub retry_interval: Duration,
    /// Encrypt, and prove by certificate who is who.
    pub tls: Option<TlsFiles>,
}

/// The `journald` outlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournaldOutlet {
    /// Least important level that is written.
    pub level: LogLevel,
    /// How the message of an entry is laid out; its fields are in the journal besides.
    pub format: LogFormat,
    /// Time between attempts to connect; positive.
    pub retry_interval: Duration,
}

/// `net` of a `tcp` outlet: the protocol, and the kind of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogNet {
    /// `tcp`
    Tcp,
    /// `tcp4`
    Tcp4,
    /// `tcp6`
    Tcp6,
    /// `udp`: one datagram per entry.
    Udp,
    /// `udp4`
    Udp4,
    /// `udp6`
    Udp6,
}

/// The files of one side of a TLS connection. Relative paths are relative to the daemon's current
/// directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates that vouch for the other side, PEM.
    pub ca: PathBuf,
    /// The own certificate and those that lead to its authority, PEM.
    pub cert: PathBuf,
    /// The key of `cert`, PEM.
    pub key: PathBuf,
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
    /// Fetches from a source, prunes both sides.
    Pull(PullJob),
    /// Snapshots, and serves what pull jobs fetch.
    Source(SourceJob),
}

impl Job {
    /// The name.
    pub fn name(&self) -> &JobName {
        match self {
            Job::Push(job) => &job.name,
            Job::Sink(job) => &job.name,
            Job::Snap(job) => &job.name,
            Job::Pull(job) => &job.name,
            Job::Source(job) => &job.name,
        }
    }
}

/// A `push` job.
#[derive(Debug, Clone)]
pub struct PushJob {
    /// Part of names on disk.
    pub name: JobName,
    /// The sink.
    pub connect: Connect,
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
    pub pruning: Pruning,
}

/// The other side of an active job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connect {
    /// `local`
    Local(LocalConnect),
    /// `tcp`
    Tcp(TcpConnect),
    /// `tls`
    Tls(TlsConnect),
    /// `ssh+stdinserver`
    Ssh(SshConnect),
}

impl Connect {
    /// The `type`.
    pub fn transport(&self) -> &'static str {
        match self {
            Connect::Local(_) => "local",
            Connect::Tcp(_) => "tcp",
            Connect::Tls(_) => "tls",
            Connect::Ssh(_) => "ssh+stdinserver",
        }
    }
}

/// `connect` of type `tcp`: neither encrypted nor authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConnect {
    /// The other side.
    pub address: HostPort,
    /// How long to wait for a connection; zero for no limit.
    pub dial_timeout: Duration,
}

/// `connect` of type `tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConnect {
    /// The other side.
    pub address: HostPort,
    /// Certificates and key.
    pub files: TlsFiles,
    /// The name that the other side's certificate must have.
    pub server_cn: String,
    /// How long to wait for a connection, without the handshake; zero for no limit.
    pub dial_timeout: Duration,
}

/// `connect` of type `ssh+stdinserver`: the other side runs `zrepl stdinserver` as a forced command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshConnect {
    /// The other side.
    pub host: String,
    /// The account there.
    pub user: String,
    /// The port of its SSH server.
    pub port: NonZeroU16,
    /// The private key.
    pub identity_file: PathBuf,
    /// Each becomes `-o OPTION`.
    pub options: Vec<String>,
    /// `ssh_command`: the program instead of `ssh`.
    pub command: Option<String>,
    /// How long to wait for the other side's greeting; positive.
    pub dial_timeout: Duration,
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
    /// `-S`: also send what a filesystem has received in part.
    pub saved: bool,
    /// How fast.
    pub bandwidth_limit: BandwidthLimit,
}

/// A token bucket for the streams of a job. It starts full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BandwidthLimit {
    /// Bytes per second; none for as fast as possible.
    pub max: Option<NonZeroU64>,
    /// The bucket, in bytes: how much may go at once after a pause.
    pub bucket_capacity: NonZeroU64,
}

impl Default for BandwidthLimit {
    fn default() -> Self {
        const BUCKET: NonZeroU64 = NonZeroU64::MIN.saturating_add((128 << 10) - 1);
        Self { max: None, bucket_capacity: BUCKET }
    }
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
    /// `sslmode`; `disable` for a Unix socket.
    pub ssl: PostgresSsl,
    /// `sslrootcert`: the certificates of the authorities, in PEM form; none for those that the system
    /// trusts. If it is given, `require` means `verify-ca`.
    pub root_cert: Option<PathBuf>,
    /// `sslcert`: the certificate to show, in PEM form; none for `~/.postgresql/postgresql.crt`, if there
    /// is one.
    pub client_cert: Option<PathBuf>,
    /// `sslkey`: the key of that certificate, in PEM form; none for `~/.postgresql/postgresql.key`.
    pub client_key: Option<PathBuf>,
}

/// `sslmode` of a PostgreSQL connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PostgresSsl {
    /// `disable`
    Disable,
    /// `require`: encrypted, whoever answers, unless authorities are named.
    #[default]
    Require,
    /// `verify-ca`: encrypted, with a certificate of a known authority.
    VerifyCa,
    /// `verify-full`: that certificate has the name of the host, too.
    VerifyFull,
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
    /// `tls`; off for a Unix socket.
    pub tls: MysqlTls,
}

/// `tls` of a connection to MySQL or MariaDB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MysqlTls {
    /// `false`
    #[default]
    Off,
    /// `preferred`: encrypted if the server can do that, whoever answers.
    Preferred,
    /// `skip-verify`: encrypted, whoever answers.
    SkipVerify,
    /// `true`: encrypted, with a certificate for the host's name of an authority that the system trusts.
    Verify,
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
        let Self { host, port, user, password: _, database, ssl, root_cert, client_cert, client_key } = self;
        write!(f, "PostgresDsn({user}@{host}:{port}/{database}, {ssl:?}")?;
        for (name, path) in [("sslrootcert", root_cert), ("sslcert", client_cert), ("sslkey", client_key)] {
            if let Some(path) = path {
                write!(f, ", {name} {}", path.display())?;
            }
        }
        f.write_str(")")
    }
}

impl fmt::Debug for MysqlDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, password: _, address, database, tls } = self;
        write!(f, "MysqlDsn({user}@{address:?}/{database}, TLS {tls:?})")
    }
}

/// `pruning` of a push or pull job.
#[derive(Debug, Clone)]
pub struct Pruning {
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
    pub serve: Serve,
    /// How streams are received.
    pub recv: RecvOptions,
}

/// Where a passive job is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serve {
    /// `local`
    Local(LocalServe),
    /// `tcp`
    Tcp(TcpServe),
    /// `tls`
    Tls(TlsServe),
    /// `stdinserver`
    Stdinserver(StdinserverServe),
}

impl Serve {
    /// The `type`.
    pub fn transport(&self) -> &'static str {
        match self {
            Serve::Local(_) => "local",
            Serve::Tcp(_) => "tcp",
            Serve::Tls(_) => "tls",
            Serve::Stdinserver(_) => "stdinserver",
        }
    }
}

/// `serve` of type `tcp`: a client is who its address says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpServe {
    /// Where clients find it.
    pub listen: Listen,
    /// Who they are; never empty.
    pub clients: ClientMap,
}

/// `serve` of type `tls`: a client is who its certificate says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsServe {
    /// Where clients find it.
    pub listen: Listen,
    /// Certificates and key.
    pub files: TlsFiles,
    /// Common names of certificates that are let in; never empty.
    pub client_cns: Vec<ClientIdentity>,
    /// How long a handshake may take; positive.
    pub handshake_timeout: Duration,
}

/// `serve` of type `stdinserver`: a client is who its forced command says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdinserverServe {
    /// Who is let in; never empty, each once.
    pub client_identities: Vec<ClientIdentity>,
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
    pub inherit: Vec<PropertyName>,
    /// Properties that get this value instead of the received one: `-o`, in file order.
    pub override_: Vec<(PropertyName, String)>,
    /// How fast.
    pub bandwidth_limit: BandwidthLimit,
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

/// A `pull` job.
#[derive(Debug, Clone)]
pub struct PullJob {
    /// Part of names on disk.
    pub name: JobName,
    /// The source.
    pub connect: Connect,
    /// The source's filesystems go to `root_fs/<the sender's name>`.
    pub root_fs: DatasetName,
    /// Time between rounds, at least one second; none for rounds by `zrepl signal wakeup` only.
    pub interval: Option<Duration>,
    /// How streams are received.
    pub recv: RecvOptions,
    /// What replication protects and how it begins.
    pub replication: ReplicationPolicy,
    /// How much replication does at once.
    pub concurrency: Concurrency,
    /// What is kept.
    pub pruning: Pruning,
}

/// A `source` job.
#[derive(Debug, Clone)]
pub struct SourceJob {
    /// The name.
    pub name: JobName,
    /// Where pull jobs find it.
    pub serve: Serve,
    /// What clients may read, and destroy snapshots of.
    pub filesystems: FilesystemFilter,
    /// How streams are made.
    pub send: SendOptions,
    /// When snapshots are taken.
    pub snapshotting: Snapshotting,
}
