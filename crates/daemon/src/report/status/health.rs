//! What tells whether a job does its duty, across invocations: when it last succeeded, what comes next,
//! and how old what it protects is. Not in zrepl's report.

use std::time::Duration;

use config::types::{Job, Snapshotting as Configured};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::super::ages::FilesystemAges;
use super::json::{Lazily, optional_time};

/// The health of one job, since the daemon started.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    rhythm: Rhythm,
    last_success: Option<Timestamp>,
    next_run: Option<Timestamp>,
    /// What the job protects.
    pub(super) ages: FilesystemAges,
}

/// How often the job is meant to run by itself.
#[derive(Debug, Clone, Default)]
enum Rhythm {
    #[default]
    None,
    Every(Duration),
    At(Box<str>),
}

impl Health {
    pub(super) fn new(job: &Job) -> Health {
        let snapshotting = |configured: &Configured| match configured {
            Configured::Periodic { interval, .. } => Rhythm::Every(*interval),
            Configured::Cron { cron, .. } => Rhythm::At(cron.text().into()),
            Configured::Manual => Rhythm::None,
        };
        let rhythm = match job {
            Job::Push(job) => snapshotting(&job.snapshotting),
            Job::Snap(job) => snapshotting(&job.snapshotting),
            Job::Source(job) => snapshotting(&job.snapshotting),
            Job::Pull(job) => job.interval.map_or(Rhythm::None, Rhythm::Every),
            Job::Sink(_) => Rhythm::None,
        };
        Health { rhythm, ..Health::default() }
    }

    pub(super) fn sleeps_until(&mut self, at: Timestamp) {
        self.next_run = Some(at);
    }

    /// The job did everything that it is there for.
    pub(super) fn succeeded(&mut self, at: Timestamp) {
        self.last_success = Some(at);
    }
}

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a, F> {
            #[serde(serialize_with = "optional_time")]
            last_success: Option<Timestamp>,
            /// Only of a job that is woken up by an interval of its own.
            #[serde(serialize_with = "optional_time")]
            next_run: Option<Timestamp>,
            interval_seconds: Option<f64>,
            cron: Option<&'a str>,
            filesystems: F,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Filesystem<'a> {
            name: &'a str,
            #[serde(serialize_with = "optional_time")]
            newest: Option<Timestamp>,
            #[serde(serialize_with = "optional_time")]
            replicated: Option<Timestamp>,
        }
        let filesystems = || {
            self.ages.iter().map(|(name, ages)| Filesystem {
                name: name.as_str(),
                newest: ages.newest,
                replicated: ages.received,
            })
        };
        Row {
            last_success: self.last_success,
            next_run: self.next_run,
            interval_seconds: match &self.rhythm {
                Rhythm::Every(interval) => Some(interval.as_secs_f64()),
                Rhythm::None | Rhythm::At(_) => None,
            },
            cron: match &self.rhythm {
                Rhythm::At(text) => Some(text),
                Rhythm::None | Rhythm::Every(_) => None,
            },
            filesystems: Lazily(filesystems),
        }
        .serialize(serializer)
    }
}
