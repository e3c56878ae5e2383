//! What can go wrong with ZFS, and whether trying again may help.

use std::time::Duration;

use model::RetryClass;
use thiserror::Error;

/// Most characters of a child's words in a message: a line of `zfs` with two names of any length.
const MAX_SAID: usize = 700;

/// A failed operation: what was tried, on what, and why it failed.
#[derive(Debug, Clone, Error)]
#[error("cannot {operation} {object:?}: {}", self.why())]
pub struct Error {
    /// A verb that fits after "cannot", such as `hold` or `receive into`.
    pub operation: &'static str,
    /// The dataset, snapshot, bookmark or pool.
    pub object: String,
    /// Why.
    pub kind: ErrorKind,
    /// What a log wants to have besides; boxed, because most errors have none.
    pub details: Option<Box<Details>>,
}

/// What is known about a failure besides its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The child process that failed, whatever its failure was taken for.
    pub child: Option<ChildFailure>,
    /// The token that an interrupted receive printed, whatever interrupted it.
    pub resume_token: Option<String>,
}

/// A child process that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildFailure {
    /// Command line, shortened if it is very long.
    pub command: String,
    /// Exit status in words.
    pub status: String,
    /// The end of its standard error.
    pub stderr: String,
}

impl Error {
    /// An error of `operation` on `object`.
    pub fn new(operation: &'static str, object: impl ToString, kind: ErrorKind) -> Self {
        Self { operation, object: object.to_string(), kind, details: None }
    }

    /// The same error with the child that caused it.
    #[must_use]
    pub fn with_child(mut self, child: ChildFailure) -> Self {
        self.details.get_or_insert_default().child = Some(child);
        self
    }

    /// The same error of a receive that can be resumed.
    #[must_use]
    pub fn with_resume_token(mut self, token: Option<String>) -> Self {
        if token.is_some() {
            self.details.get_or_insert_default().resume_token = token;
        }
        self
    }

    /// The token with which an interrupted receive can be resumed, if it left one.
    pub fn resume_token(&self) -> Option<&str> {
        match &self.kind {
            ErrorKind::Interrupted { token } => Some(token),
            _ => self.details.as_ref()?.resume_token.as_deref(),
        }
    }

    /// Why, for whoever names operation and object.
    pub fn why(&self) -> String {
        format!("{}{}{}", self.kind, self.resumable_hint(), self.said())
    }

    fn resumable_hint(&self) -> &'static str {
        match self.kind {
            ErrorKind::Interrupted { .. } => "",
            _ if self.resume_token().is_some() => "; what arrived is kept and can be resumed",
            _ => "",
        }
    }

    /// The words of the child, where the kind is only what they were taken for: those about the object, if
    /// there are any, else the last ones.
    fn said(&self) -> String {
        let Some(child) = self.details.as_ref().and_then(|details| details.child.as_ref()) else {
            return String::new();
        };
        if self.kind.is_told_by_itself() {
            return String::new();
        }
        let name = self.object.rsplit('/').next().unwrap_or(&self.object);
        let lines = || child.stderr.lines().map(str::trim).take_while(|line| *line != "usage:");
        let lines = || lines().filter(|line| !line.is_empty() && !line.starts_with("A resuming stream can be"));
        let about = lines().find(|line| line.contains(name)).or_else(|| lines().last());
        match about {
            Some(words) => format!("; `zfs` said: {}", words.chars().take(MAX_SAID).collect::<String>()),
            None => String::new(),
        }
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::NotFound)
    }

    /// Whether trying again may help.
    pub fn class(&self) -> RetryClass {
        self.kind.class()
    }
}

/// Why an operation failed. Texts are fragments that follow "cannot send \"p/a@s\": ".
#[derive(Debug, Clone, Error)]
pub enum ErrorKind {
    /// The object does not exist.
    #[error("dataset does not exist")]
    NotFound,
    /// The pool does not exist or is not imported.
    #[error("pool {pool:?} is not imported (see `zpool import`)")]
    PoolMissing {
        /// Its name.
        pool: String,
    },
    /// The pool stopped I/O after an error.
    #[error("pool {pool:?} is suspended (see `zpool status` and `zpool clear`)")]
    PoolSuspended {
        /// Its name.
        pool: String,
    },
    /// The object exists already, as something else than wanted.
    #[error("it exists already")]
    Exists,
    /// A snapshot is held.
    #[error("it is held (see `zfs holds`)")]
    Held,
    /// A snapshot has clones.
    #[error("it has clones (see `zfs get clones`, and destroy or promote them)")]
    HasClones,
    /// A rollback would cost snapshots or bookmarks.
    #[error("newer snapshots or bookmarks exist")]
    NewerVersions,
    /// A dataset has children or snapshots.
    #[error("it has children or snapshots")]
    HasChildren,
    /// In use: mounted, being received, being sent, ….
    #[error("it is busy")]
    Busy,
    /// No space in the pool.
    #[error(
        "out of space (`zfs list -o space` and `zpool list` on that machine show where it went; destroy something there, \
         or lower the keep rules of the job that replicates or snapshots)"
    )]
    NoSpace,
    /// A quota is exceeded.
    #[error(
        "quota exceeded (`zfs get -r quota,refquota` on that machine shows which; raise it, or lower the keep rules of the job that \
         replicates or snapshots)"
    )]
    QuotaExceeded,
    /// The pool is read-only.
    #[error("the pool is read-only (see `zpool get readonly`, and import it without `-o readonly=on`)")]
    ReadOnly,
    /// The user may not do it.
    #[error(
        "permission denied (run the daemon of that machine as root, or delegate with the `zfs allow` lines that it prints \
         at its start)"
    )]
    PermissionDenied,
    /// An encryption key is needed and not loaded.
    #[error(
        "its encryption key is not loaded (load it with `zfs load-key -r` on the machine that has the filesystem; \
         `send: {{encrypted: true}}` needs none, but what was received as plain text has to be begun anew then)"
    )]
    KeyNotLoaded,
    /// The resume token is corrupt or does not fit any longer.
    #[error("the resume token cannot be used: {0}")]
    BadResumeToken(String),
    /// A receive ended early; what arrived is kept and can be resumed.
    #[error("the stream ended early; it can be resumed")]
    Interrupted {
        /// The token for the next send.
        token: String,
    },
    /// A receive ended early; nothing is kept.
    #[error("the stream ended early")]
    Truncated,
    /// The source of a stream failed; carries its text.
    #[error("the stream failed: {0}")]
    Source(String),
    /// The target exists and the stream may not replace it.
    #[error("the target exists and is not a placeholder")]
    TargetExists,
    /// The target has snapshots that a full stream would destroy.
    #[error("the target has snapshots")]
    TargetHasSnapshots,
    /// The target has the state of another interrupted receive.
    #[error("the target has the state of an interrupted receive (resume it, or discard it with `zfs receive -A`)")]
    TargetHasPartial,
    /// The target was written to since its last snapshot.
    #[error("the target has been modified since its most recent snapshot")]
    TargetModified,
    /// The newest snapshot of the target is not the stream's source.
    #[error("the target's most recent snapshot does not match the source of the incremental stream")]
    SourceMismatch,
    /// A forced receive would replace encrypted data by unencrypted, or the reverse.
    #[error(
        "zfs receive -F cannot be used to destroy an encrypted filesystem or overwrite an unencrypted one with an encrypted one"
    )]
    EncryptionBoundary,
    /// Encryption of stream and target do not go together; carries the words of ZFS.
    #[error("the encryption of stream and target do not fit: {0}")]
    EncryptionMismatch(String),
    /// The stream needs a feature that this ZFS or pool lacks.
    #[error("the stream needs a feature that the pool or the kernel module lacks: {0}")]
    Unsupported(String),
    /// The caller gave it up; the child is dead and reaped.
    #[error("cancelled")]
    Cancelled,
    /// The child ran longer than its limit and was killed.
    #[error("it took longer than {0:?} and was stopped")]
    Deadline(Duration),
    /// No byte moved for too long; the child was killed.
    #[error(
        "no data moved for {0:?}; it was stopped (either side may be the cause: see on both which `zfs` hangs, and `zpool \
         status`)"
    )]
    Stalled(Duration),
    /// The program cannot be started.
    #[error("cannot start `{program}`: {problem} (is ZFS installed and on the PATH?)")]
    NotStarted {
        /// `zfs` or `zpool`.
        program: String,
        /// The operating system's words.
        problem: String,
    },
    /// The words of a command that cannot be cut into several do not fit into what the system
    /// allows.
    #[error(
        "its arguments are longer than the system allows (see `ulimit -s` and the size of the environment of the daemon)"
    )]
    ArgumentsTooLong,
    /// The kernel module is not there.
    #[error("the ZFS kernel module is not loaded (see `modprobe zfs`)")]
    NoModule,
    /// The child was killed by a signal that we did not send.
    #[error("`{command}` was killed by signal {signal}")]
    Killed {
        /// Command line.
        command: String,
        /// Signal number.
        signal: i32,
    },
    /// The child's output is not what it is documented to be.
    #[error("cannot make sense of the output of `{command}`: {problem}")]
    Output {
        /// Command line.
        command: String,
        /// What is wrong, with the line.
        problem: String,
    },
    /// A name that cannot be used.
    #[error(transparent)]
    Name(#[from] model::NameError),
    /// Anything else: the child's own words.
    #[error("`{command}` failed with {status}: {stderr}")]
    Failed {
        /// Command line.
        command: String,
        /// Exit status in words.
        status: String,
        /// The end of its standard error.
        stderr: String,
    },
}

impl ErrorKind {
    /// Whether its text has all that the child said, or the child's words are beside the point: what ended it
    /// came from elsewhere.
    fn is_told_by_itself(&self) -> bool {
        use ErrorKind as K;
        matches!(
            self,
            K::Failed { .. }
                | K::Output { .. }
                | K::Interrupted { .. }
                | K::Truncated
                | K::Source(_)
                | K::Cancelled
                | K::Deadline(_)
                | K::Stalled(_)
                | K::NotStarted { .. }
                | K::ArgumentsTooLong
                | K::Name(_)
        )
    }

    /// Whether trying again may help.
    pub fn class(&self) -> RetryClass {
        use ErrorKind as K;
        match self {
            K::Busy
            | K::Interrupted { .. }
            | K::Truncated
            | K::Source(_)
            | K::Cancelled
            | K::Deadline(_)
            | K::Stalled(_)
            | K::Killed { .. } => RetryClass::Transient,
            K::PoolMissing { .. }
            | K::PoolSuspended { .. }
            | K::NoSpace
            | K::QuotaExceeded
            | K::ReadOnly
            | K::PermissionDenied
            | K::KeyNotLoaded
            | K::TargetExists
            | K::TargetHasSnapshots
            | K::TargetModified
            | K::EncryptionBoundary
            | K::EncryptionMismatch(_)
            | K::Unsupported(_)
            | K::NoModule
            | K::ArgumentsTooLong
            | K::NotStarted { .. } => RetryClass::NeedsPerson,
            K::NotFound
            | K::Exists
            | K::Held
            | K::HasClones
            | K::HasChildren
            | K::NewerVersions
            | K::BadResumeToken(_)
            | K::SourceMismatch
            | K::TargetHasPartial
            | K::Output { .. }
            | K::Name(_)
            | K::Failed { .. } => RetryClass::Permanent,
        }
    }
}
