//! Metrics: counts and times, folded from events, as Prometheus reads them.

mod command;
mod family;
mod job;
mod process;
mod table;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::types::{Job, LogLevel};
use jiff::Timestamp;
use model::JobName;
use model::event::{Event, Hook, HookEdge, ProtectionOutcome, What};

use super::Version;
use super::log::level_of;
use crate::events::Reader;
use crate::limits::{METRIC_FILESYSTEMS, METRIC_TIMED_FILESYSTEMS};
use command::{About, Words};
use family::{Family, Kind, single};
use job::JobFold;
use table::{ALL, Metric};

/// What zrepl calls the job of what belongs to none.
const NO_JOB: &str = "_nojobid";

/// Folds events into metrics.
pub struct Metrics {
    state: Mutex<State>,
}

/// The families, and what is needed to fold into them.
struct State {
    table: Table,
    jobs: HashMap<JobName, JobFold>,
}

/// The families in the order of [`ALL`].
struct Table(Vec<Family>);

impl Table {
    fn new() -> Table {
        let room = |descriptor: &family::Descriptor| match descriptor.kind {
            Kind::Histogram(_) => METRIC_TIMED_FILESYSTEMS,
            Kind::Counter | Kind::Gauge => METRIC_FILESYSTEMS,
        };
        Table(ALL.iter().map(|descriptor| Family::new(*descriptor, room(descriptor))).collect())
    }

    fn with(&mut self, metric: Metric, change: impl FnOnce(&mut Family)) {
        if let Some(family) = self.0.get_mut(metric as usize) {
            change(family);
        }
    }

    fn touch(&mut self, metric: Metric, labels: &[&str]) {
        self.with(metric, |family| family.touch(labels));
    }

    fn count(&mut self, metric: Metric, labels: &[&str]) {
        self.add(metric, labels, 1.0);
    }

    fn add(&mut self, metric: Metric, labels: &[&str], more: f64) {
        self.with(metric, |family| family.add(labels, more));
    }

    fn set(&mut self, metric: Metric, labels: &[&str], to: f64) {
        self.with(metric, |family| family.set(labels, to));
    }

    fn set_time(&mut self, metric: Metric, labels: &[&str], at: Timestamp) {
        self.set(metric, labels, seconds(at));
    }

    fn observe(&mut self, metric: Metric, labels: &[&str], took: Duration) {
        self.with(metric, |family| family.observe(labels, took));
    }
}

/// As Unix time.
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// What is asked at the moment of a scrape.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    /// Tasks of the daemon.
    pub tasks: usize,
    /// Child processes.
    pub children: usize,
    /// Scrapes that are being answered.
    pub scrapes: usize,
}

impl Metrics {
    /// The metrics of a daemon with these jobs that starts now.
    pub fn new(jobs: &[Job], now: Timestamp) -> Metrics {
        let mut state = State { table: Table::new(), jobs: HashMap::new() };
        let version = Version::own();
        state.table.set_time(Metric::StartTime, &[&version.version, &version.to_string()], now);
        state.table.touch(Metric::Scrapes, &["200"]);
        state.table.set(Metric::ConfigGood, &[], 1.0);
        state.table.set_time(Metric::ConfigLoaded, &[], now);
        state.follow(jobs);
        Metrics { state: Mutex::new(state) }
    }

    /// The configuration was read again: it is (or is not) in use now, with these jobs.
    pub fn reloaded(&self, result: Result<&[Job], ()>, now: Timestamp) {
        let mut state = self.lock();
        state.table.set(Metric::ConfigGood, &[], f64::from(u8::from(result.is_ok())));
        if let Ok(jobs) = result {
            state.table.set_time(Metric::ConfigLoaded, &[], now);
            state.follow(jobs);
        }
    }

    /// A request to the control socket begins.
    pub fn control_begins(&self, endpoint: &str) {
        self.lock().table.count(Metric::ControlBegin, &[endpoint]);
    }

    /// It was answered.
    pub fn control_finished(&self, endpoint: &str, took: Duration) {
        self.lock().table.observe(Metric::ControlFinished, &[endpoint], took);
    }

    /// The text of a scrape.
    pub fn text(&self, live: Live) -> String {
        let mut text = String::new();
        {
            let mut state = self.lock();
            state.table.count(Metric::Scrapes, &["200"]);
            state.table.0.iter().for_each(|family| family.write(&mut text));
        }
        let mut gauge = |name, help, value: usize| single(&mut text, name, Kind::Gauge, help, value as f64);
        gauge("zrepl_trace_active_tasks", "Tasks that run or wait in the daemon.", live.tasks);
        gauge("zrepl_zfscmd_active", "Child processes that run now.", live.children);
        gauge(
            "zrepl_endpoint_abstractions_cache_entry_count",
            "Holds and bookmarks that are remembered from one call to the next: always none, they are listed each time.",
            0,
        );
        gauge(
            "promhttp_metric_handler_requests_in_flight",
            "Requests for metrics that are being answered.",
            live.scrapes,
        );
        process::write(&mut text);
        text
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader for Metrics {
    fn read(&self, event: &Event) {
        let level = level_of(event);
        self.lock().apply(event, level);
    }
}

impl State {
    /// Makes the series of these jobs, and forgets those of jobs that are gone.
    fn follow(&mut self, jobs: &[Job]) {
        let kept = |name: &JobName| jobs.iter().any(|job| job.name() == name);
        let gone: Vec<JobName> = self.jobs.keys().filter(|name| !kept(name)).cloned().collect();
        for name in gone {
            self.jobs.remove(&name);
            for family in &mut self.table.0 {
                family.forget("zrepl_job", name.as_str());
                family.forget("jobid", name.as_str());
            }
        }
        for job in jobs {
            let table = &mut self.table;
            self.jobs.entry(job.name().clone()).or_insert_with(|| JobFold::new(job, table));
        }
    }

    fn apply(&mut self, event: &Event, level: Option<LogLevel>) {
        let job = event.job.as_ref().map_or(NO_JOB, |job| job.as_str());
        let table = &mut self.table;
        if let Some(level) = level {
            table.count(Metric::LogEntries, &[job, level_name(level)]);
        }
        match &event.what {
            What::CommandFinished { command, took, .. } => command_finished(table, job, command, *took),
            What::Hook { what: Hook::Failed { edge, .. }, .. } => {
                let edge = match edge {
                    HookEdge::Pre => "pre",
                    HookEdge::Post => "post",
                };
                table.count(Metric::HookFailures, &[job, edge]);
            }
            What::Protection { outcome: ProtectionOutcome::Failed(_), .. } => {
                table.count(Metric::Protections, &[job]);
            }
            What::Unmatched { count } => table.add(Metric::Unmatched, &[job], *count as f64),
            What::SleepsUntil { at } => table.set_time(Metric::NextWakeup, &[job], *at),
            _ => {}
        }
        if let Some(fold) = event.job.as_ref().and_then(|job| self.jobs.get_mut(job)) {
            fold.apply(table, job, event);
        }
    }
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

fn command_finished(table: &mut Table, job: &str, command: &str, took: Duration) {
    let Words { binary, verb, about } = Words::of(command);
    table.observe(Metric::CommandRuntime, &[job, binary, verb], took);
    match about {
        About::Listing(below) => table.observe(Metric::ListDuration, &[below], took),
        About::Snapshot(below) => table.observe(Metric::SnapshotDuration, &[below], took),
        About::Bookmark(filesystem) => table.observe(Metric::BookmarkDuration, &[filesystem], took),
        About::Destroy(kind, filesystem) => table.observe(Metric::DestroyDuration, &[kind, filesystem], took),
        About::Other => {}
    }
}

#[cfg(test)]
mod dist_tests;
#[cfg(test)]
mod tests;
