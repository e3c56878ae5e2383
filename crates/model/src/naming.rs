//! What snapshots are called: a prefix and the time.

mod layout;
mod resolution;

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use thiserror::Error;

use crate::name::{NameError, VersionName};
use layout::{LocalTime, Piece};

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

    /// How the time is written.
    pub fn format(&self) -> &TimestampFormat {
        &self.format
    }

    /// The name of the snapshots of a round.
    ///
    /// # Errors
    /// Prefix and time make no name that ZFS accepts.
    pub fn name(&self, now: Timestamp) -> Result<VersionName, NameError> {
        VersionName::parse(&format!("{}{}", self.prefix, self.format.format(now)))
    }

    /// Tries the names of a summer's and a winter's day, before any snapshot depends on them.
    ///
    /// # Errors
    /// One of them is none that ZFS accepts.
    pub fn check(&self) -> Result<(), NameError> {
        [SUMMER, WINTER].into_iter().try_for_each(|day| {
            let moment = TimeZone::UTC.to_timestamp(day).unwrap_or(Timestamp::UNIX_EPOCH);
            self.name(moment).map(drop)
        })
    }
}

const SUMMER: DateTime = date(2020, 6, 1).at(0, 0, 0, 0);
const WINTER: DateTime = date(2020, 12, 1).at(0, 0, 0, 0);

/// How the time is written.
#[derive(Debug, Clone)]
pub struct TimestampFormat {
    /// As the configuration has it.
    text: String,
    zone: Zone,
    style: Style,
}

#[derive(Debug, Clone)]
enum Style {
    UnixSeconds,
    Layout(Vec<Piece>),
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

impl Zone {
    /// The rules of the zone.
    pub fn time_zone(&self) -> &TimeZone {
        const UTC: &TimeZone = &TimeZone::UTC;
        match self {
            Zone::Utc => UTC,
            Zone::Local(zone) | Zone::Named(zone) => zone,
        }
    }
}

/// A way to write times that snapshots cannot be named by.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormatError {
    /// `dense`, `human` and `unix-seconds` do not tell their zone and are read as UTC.
    #[error("timestamp format `{format}` is for UTC only: leave out `timestamp_location`, or use `iso-8601`")]
    NeedsUtc {
        /// The keyword.
        format: &'static str,
    },
    /// Nothing in the layout changes with the time.
    #[error(
        "timestamp format {layout:?} names no date or time, so all snapshots of a filesystem would have the same \
         name: write it as the moment 2006-01-02 15:04:05 would look, or use `dense`"
    )]
    Constant {
        /// The layout.
        layout: String,
    },
    /// A `+` in the layout itself.
    #[error(
        "timestamp format {layout:?} contains `+`, which ZFS does not allow in names: \
         the `+` of an offset is written as `_` by itself, leave out others"
    )]
    Plus {
        /// The layout.
        layout: String,
    },
}

impl TimestampFormat {
    /// The formats that have a word of their own.
    pub const WORDS: [&str; 4] = ["dense", "human", "iso-8601", "unix-seconds"];

    /// `20240514_211623_000` in UTC. The `_000` is not a fraction of a second but part of the format.
    pub fn dense() -> Self {
        Self::layout("dense", DENSE, Zone::Utc)
    }

    /// One of [`TimestampFormat::WORDS`] (in any case), or else a layout that shows
    /// how Monday 2 January 2006, 15:04:05 at UTC-7 would be written.
    ///
    /// # Errors
    /// See [`FormatError`]. Whether the names are valid is for [`SnapshotNaming::check`], as it depends
    /// on the prefix.
    pub fn new(layout: &str, zone: Zone) -> Result<Self, FormatError> {
        let in_utc = |format| match zone {
            Zone::Utc => Ok(()),
            Zone::Local(_) | Zone::Named(_) => Err(FormatError::NeedsUtc { format }),
        };
        match layout.to_ascii_lowercase().as_str() {
            "dense" => in_utc("dense").map(|()| Self::layout(layout, DENSE, Zone::Utc)),
            "human" => in_utc("human").map(|()| Self::layout(layout, HUMAN, Zone::Utc)),
            "unix-seconds" => {
                in_utc("unix-seconds")?;
                Ok(Self { text: layout.to_owned(), zone, style: Style::UnixSeconds })
            }
            "iso-8601" => Ok(Self::layout(layout, ISO, zone)),
            _ if layout.contains('+') => Err(FormatError::Plus { layout: layout.to_owned() }),
            _ => {
                let format = Self::layout(layout, layout, zone);
                let tells_time = format.resolution().is_some();
                tells_time.then_some(format).ok_or_else(|| FormatError::Constant { layout: layout.to_owned() })
            }
        }
    }

    fn layout(text: &str, layout: &str, zone: Zone) -> Self {
        Self { text: text.to_owned(), zone, style: Style::Layout(layout::parse(layout)) }
    }

    /// As the configuration has it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the clock hangs.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The time as text.
    ///
    /// ZFS does not allow a `+`: that of an offset becomes `_`, in every zone and season, offset zero
    /// included (`_0000`). So a layout that works in summer works in winter too.
    pub fn format(&self, now: Timestamp) -> String {
        match &self.style {
            Style::UnixSeconds => now.as_second().to_string(),
            Style::Layout(pieces) => LocalTime::new(now, self.zone.time_zone()).write(pieces).replace('+', "_"),
        }
    }

    /// Whether rounds that are `interval` apart can get the same name, because the format does not tell
    /// times apart that are so close.
    pub fn repeats_within(&self, interval: Duration) -> bool {
        self.resolution().is_none_or(|resolution| interval < resolution)
    }

    /// The length of the span in which all times look alike: a second, a day … A month counts as 31
    /// days, a year as 366. None if all times look alike.
    pub fn resolution(&self) -> Option<Duration> {
        match &self.style {
            Style::UnixSeconds => Some(Duration::from_secs(1)),
            Style::Layout(pieces) => resolution::finest(pieces),
        }
    }

    /// After how long names come again because the format leaves out something larger: a day for
    /// `15:04`. None if they do not.
    pub fn comes_again_after(&self) -> Option<Duration> {
        match &self.style {
            Style::UnixSeconds => None,
            Style::Layout(pieces) => resolution::cycle(pieces),
        }
    }
}

const DENSE: &str = "20060102_150405_000";
const HUMAN: &str = "2006-01-02_15:04:05";
const ISO: &str = "2006-01-02T15:04:05.000Z0700";
