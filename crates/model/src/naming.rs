//! What snapshots are called: a prefix and the time.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::name::{NameError, VersionName};

/// What the snapshots of a job are called.
#[derive(Debug, Clone)]
pub struct SnapshotNaming {
    prefix: String,
    format: TimestampFormat,
}

impl SnapshotNaming {
    /// Names that begin with `prefix` and go on with the time.
    pub fn new(prefix: String, format: TimestampFormat) -> Self {
        Self { prefix, format }
    }

    /// Begins every name.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the snapshots of a round.
    ///
    /// # Errors
    /// Prefix and time make no name that ZFS accepts.
    pub fn name(&self, now: Timestamp) -> Result<VersionName, NameError> {
        VersionName::parse(&format!("{}{}", self.prefix, self.format.format(now)))
    }
}

/// How the time is written.
#[derive(Debug, Clone)]
pub struct TimestampFormat {
    /// As the configuration has it.
    text: String,
    zone: Zone,
}

/// The time zone that a time is written in.
#[derive(Debug, Clone)]
pub enum Zone {
    /// `UTC`
    Utc,
    /// `Local`, which never counts as UTC.
    Local(TimeZone),
    /// One of the zone database, by name.
    Named(TimeZone),
}

impl TimestampFormat {
    /// `20240514_211623_000` in UTC. The `_000` is not a fraction of a second but part of the format.
    pub fn dense() -> Self {
        Self { text: "dense".to_owned(), zone: Zone::Utc }
    }

    /// The time as text.
    pub fn format(&self, now: Timestamp) -> String {
        now.strftime("%Y%m%d_%H%M%S_000").to_string()
    }
}
