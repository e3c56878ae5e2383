//! Metrics: counts and times, folded from events, as Prometheus reads them.

mod command;
mod connections;
mod family;
mod job;
mod process;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::types::{Job, LogLevel};
use jiff::Timestamp;
use model::event::{Event, Hook, HookEdge, ProcessorTime, ProtectionOutcome, What};
use model::{ClientIdentity, JobName};

use super::Version;
use super::ages::Ages;
use super::log::level_of;
use crate::events::Reader;
use crate::limits::{METRIC_FILESYSTEMS, METRIC_TIMED_FILESYSTEMS};
use command::{About, Words};
use family::{Family, Kind, single};
use job::JobFold;
use table::{ALL, Metric};
use wire::data::Shutdowns;
use wire::handshake::Label;

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
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Tasks of the daemon.
    pub tasks: usize,
    /// Child processes.
    pub children: usize,
    /// Scrapes that are being answered.
    pub scrapes: usize,
    /// Log lines that each kind of outlet has lost.
    pub lost_lines: Vec<(&'static str, u64)>,
    /// How connections for data have ended.
    pub shutdowns: Shutdowns,
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

    /// A client of a job has come, with a connection for this.
    pub fn client_comes(&self, job: &JobName, client: &ClientIdentity, label: Label) {
        self.lock().table.add(Metric::Clients, &[job.as_str(), client.as_str(), label_name(label)], 1.0);
    }

    /// One that has come is gone. A client without any connection is forgotten: whoever owns a network that a
    /// job serves can come under another identity each time.
    pub fn client_goes(&self, job: &JobName, client: &ClientIdentity, label: Label) {
        let [job, client] = [job.as_str(), client.as_str()];
        self.lock().table.with(Metric::Clients, |family| {
            family.add(&[job, client, label_name(label)], -1.0);
            family.forget_zeros(&[job, client]);
        });
    }

    /// The text of a scrape.
    pub fn text(&self, live: Live) -> String {
        let Live { tasks, children, scrapes, lost_lines, shutdowns } = live;
        let mut text = String::new();
        {
            let mut state = self.lock();
            state.table.count(Metric::Scrapes, &["200"]);
            state.table.0.iter().for_each(|family| family.write(&mut text));
            state.write_ages(&mut text);
        }
        let mut gauge = |name, help, value: usize| single(&mut text, name, Kind::Gauge, help, value as f64);
        gauge("zrepl_trace_active_tasks", "Tasks that run or wait in the daemon.", tasks);
        gauge("zrepl_zfscmd_active", "Child processes that run now.", children);
        gauge(
            "zrepl_endpoint_abstractions_cache_entry_count",
            "Holds and bookmarks that are remembered from one call to the next: always none, they are listed each time.",
            0,
        );
        gauge("promhttp_metric_handler_requests_in_flight", "Requests for metrics that are being answered.", scrapes);
        let mut lost: BTreeMap<&str, u64> = BTreeMap::new();
        lost_lines.iter().for_each(|(outlet, lines)| *lost.entry(outlet).or_default() += lines);
        computed(&mut text, Metric::LostLines, lost.into_iter().map(|(outlet, lines)| ([outlet], lines as f64)));
        connections::write(&mut text, &shutdowns);
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

    /// Appends what is known about filesystems.
    fn write_ages(&self, text: &mut String) {
        let mut write = |metric: Metric, value: fn(&JobFold, &Ages) -> Option<f64>| {
            let of_job = |(job, fold)| {
                let with_value = move |(filesystem, ages)| Some(([filesystem, job], value(fold, ages)?));
                ages_of(fold).filter_map(with_value)
            };
            let jobs = self.jobs.iter().map(|(job, fold)| (job.as_str(), fold));
            computed(text, metric, jobs.flat_map(of_job).take(METRIC_FILESYSTEMS));
        };
        write(Metric::NewestSnapshot, |job, ages| (!job.stores).then(|| ages.newest.map_or(0.0, seconds)));
        write(Metric::NewestReplicated, |job, ages| {
            (job.compared || job.stores).then(|| ages.received.map_or(0.0, seconds))
        });
        write(Metric::Lag, |job, ages| if job.compared { lag(ages) } else { None });
    }

    fn apply(&mut self, event: &Event, level: Option<LogLevel>) {
        let job = event.job.as_ref().map_or(NO_JOB, |job| job.as_str());
        let table = &mut self.table;
        if let Some(level) = level {
            table.count(Metric::LogEntries, &[job, level_name(level)]);
        }
        match &event.what {
            What::CommandFinished { command, took, used, .. } => command_finished(table, job, command, *took, *used),
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

/// Appends a metric whose values are made when they are asked for.
fn computed<'a, const N: usize>(text: &mut String, metric: Metric, values: impl Iterator<Item = ([&'a str; N], f64)>) {
    if let Some(descriptor) = ALL.get(metric as usize) {
        family::samples(text, descriptor, values);
    }
}

fn ages_of(fold: &JobFold) -> impl Iterator<Item = (&str, &Ages)> {
    fold.ages.iter().map(|(filesystem, ages)| (filesystem.as_str(), ages))
}

/// In seconds; none if there is nothing that could be behind.
fn lag(ages: &Ages) -> Option<f64> {
    let newest = ages.newest?;
    Some(ages.received.map_or(f64::INFINITY, |received| newest.duration_since(received).as_secs_f64().max(0.0)))
}

/// What a connection is for.
pub(crate) fn label_name(label: Label) -> &'static str {
    match label {
        Label::Control => "control",
        Label::Data => "data",
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

fn command_finished(table: &mut Table, job: &str, command: &str, took: Duration, used: Option<ProcessorTime>) {
    let Words { binary, verb, about } = Words::of(command);
    let labels = [job, binary, verb];
    table.observe(Metric::CommandRuntime, &labels, took);
    if let Some(ProcessorTime { user, system }) = used {
        table.observe(Metric::CommandUser, &labels, user);
        table.observe(Metric::CommandSystem, &labels, system);
    }
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
mod promql;
#[cfg(test)]
mod tests;
