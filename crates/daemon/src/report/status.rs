//! The status report: what zrepl's `/status` shows, folded from events.
//!
//! Field names, state numbers and what is null are zrepl's, since scripts read them; keys of our own
//! come on top. Plans are shared, not copied, and become text only while a report is written.

mod clients;
mod environment;
mod health;
mod json;
mod pruning;
mod replication;
mod snapshotting;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use config::Config;
use config::types::Job;
use jiff::Timestamp;
use model::JobName;
use model::event::{Event, InvocationSummary, ProtectionOutcome, Pruning, Replication, Snapshotting, What};
use model::plan::prune::PruneSide;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use zfs::RunningCommand;

use super::movement::Movement;
use crate::control;
use crate::events::Reader;
use crate::monitoring;
use crate::tuning::Tuning;
use environment::Global;
use health::Health;
use json::optional_time;
use pruning::Pruner;
use replication::Report;
use snapshotting::Snapper;

/// Folds events into a report.
pub struct StatusFold {
    jobs: Mutex<BTreeMap<String, JobState>>,
    /// When the daemon started.
    started: Mutex<Option<Timestamp>>,
    /// How many events there were.
    changes: AtomicU64,
}

/// A report as of one moment. Cheap to make; [`Status::write_json`] does the work.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Not in zrepl's report. Changes if something is taken away or means something else.
    #[serde(rename = "Version")]
    version: u32,
    #[serde(rename = "Jobs")]
    jobs: BTreeMap<String, JobState>,
    #[serde(rename = "Global")]
    global: Global,
}

impl Status {
    /// Writes the report as one line of JSON, without a line feed.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_json(&self, writer: impl Write) -> io::Result<()> {
        serde_json::to_writer(writer, self).map_err(io::Error::from)
    }

    /// The report as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl StatusFold {
    /// The report of a daemon whose jobs have done nothing yet.
    pub fn new(config: &Config) -> StatusFold {
        let mut jobs: BTreeMap<String, JobState> =
            config.jobs.iter().map(|job| (job.name().to_string(), JobState::new(job))).collect();
        if config.global.control_socket.is_some() {
            jobs.insert(control::JOB.to_owned(), JobState::Internal);
        }
        if config.global.monitoring.is_some() {
            jobs.insert(monitoring::JOB.to_owned(), JobState::Internal);
        }
        StatusFold { jobs: Mutex::new(jobs), started: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// Another configuration is in use, in which these jobs have begun anew.
    pub(crate) fn follow(&self, config: &Config, restarted: &[JobName]) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = |name: &str| config.jobs.iter().any(|job| job.name().as_str() == name);
        let anew = |name: &str| restarted.iter().any(|one| one.as_str() == name);
        jobs.retain(|name, job| matches!(job, JobState::Internal) || (configured(name) && !anew(name)));
        for job in &config.jobs {
            jobs.entry(job.name().to_string()).or_insert_with(|| JobState::new(job));
        }
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Whether an invocation of a job runs.
    pub(crate) fn runs(&self, job: &str) -> bool {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let invocation = match jobs.get(job) {
            Some(JobState::Push(active) | JobState::Pull(active)) => active.invocation.as_ref(),
            Some(JobState::Snap(snap)) => snap.invocation.as_ref(),
            Some(JobState::Source(_) | JobState::Sink(_) | JobState::Internal) | None => None,
        };
        invocation.is_some_and(|invocation| invocation.finish_at.is_none())
    }

    /// The report as it is now; `running` are the children.
    pub fn status(&self, running: Vec<RunningCommand>, tuning: &Tuning) -> Status {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        Status { version: 1, jobs, global: Global::new(started, running, tuning) }
    }

    /// Tells reports apart, without making one: what it was before a report still is what it is if the
    /// report would be the same.
    pub(crate) fn tag(&self, running: &[RunningCommand]) -> String {
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let mut children = DefaultHasher::new();
        running.iter().for_each(|one| (&one.args, one.started_at).hash(&mut children));
        let started = started.map_or(0, Timestamp::as_nanosecond);
        format!("\"{started}-{}-{:x}\"", self.changes.load(Ordering::Acquire), children.finish())
    }

    /// What the snapshotter of a job waits for; none if it does not wait, or the job has none.
    pub(crate) fn next_round(&self, job: &str) -> Option<Timestamp> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        match jobs.get(job)? {
            JobState::Push(active) | JobState::Pull(active) => active.snapshotting.as_ref()?.next_round(),
            JobState::Snap(snap) => snap.snapshotting.next_round(),
            JobState::Source(source) => source.snapper.next_round(),
            JobState::Internal | JobState::Sink(_) => None,
        }
    }
}

impl Reader for StatusFold {
    fn read(&self, event: &Event) {
        if let What::DaemonStarted { .. } = &event.what {
            *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.at);
        }
        let Some(name) = &event.job else { return };
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = jobs.get_mut(name.as_str()) {
            job.apply(event);
        }
        // After the change: who saw the number before has not seen it.
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// What is known of one job.
#[derive(Debug, Clone)]
enum JobState {
    Internal,
    Sink(Box<clients::Sink>),
    Source(Box<Source>),
    Push(Box<Active>),
    Pull(Box<Active>),
    Snap(Box<Snap>),
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Active {
    replication: Option<Report>,
    pruning_sender: Option<Pruner>,
    pruning_receiver: Option<Pruner>,
    /// None for a job that takes no snapshots.
    snapshotting: Option<Snapper>,
    /// Not in zrepl's report.
    invocation: Option<Invocation>,
    /// Not in zrepl's report.
    #[serde(skip_serializing_if = "Option::is_none")]
    protections: Option<FailedProtections>,
    /// Not in zrepl's report.
    health: Health,
}

/// A job that takes snapshots, which others fetch.
#[derive(Debug, Clone)]
struct Source {
    snapper: Snapper,
    health: Health,
    protections: Option<FailedProtections>,
    listener: Option<Listener>,
}

/// Holds and bookmarks that could not be made or removed since an invocation last ended without any error. One
/// that stays where it is not needed keeps its snapshot from being pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FailedProtections {
    failed: u64,
    last_error: String,
    /// None of them is of the invocation that runs.
    #[serde(skip)]
    earlier: bool,
}

/// Where a job that serves others can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listener {
    place: String,
    /// Why not; empty if it can be.
    error: String,
}

impl Listener {
    fn follow(listener: &mut Option<Self>, what: &What) {
        if let What::Listening { place, problem } = what {
            *listener = Some(Self { place: place.clone(), error: problem.clone().unwrap_or_default() });
        }
    }
}

impl FailedProtections {
    fn count(found: &mut Option<Self>, what: &What) {
        let What::Protection { object, outcome: ProtectionOutcome::Failed(why) } = what else { return };
        let failed = found.as_ref().map_or(0, |before| before.failed) + 1;
        *found = Some(Self { failed, last_error: format!("{object}: {why}"), earlier: false });
    }

    /// Another invocation has begun, or has ended. One without errors has put right what earlier ones left,
    /// or has at least found nothing in its way.
    fn invocation(found: &mut Option<Self>, what: &What) {
        match what {
            What::InvocationStarted { .. } => found.iter_mut().for_each(|found| found.earlier = true),
            What::InvocationFinished { summary, .. } if is_clean(summary) => drop(found.take_if(|found| found.earlier)),
            _ => {}
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Snap {
    pruning: Option<Pruner>,
    snapshotting: Snapper,
    /// Not in zrepl's report.
    invocation: Option<Invocation>,
    /// Not in zrepl's report.
    #[serde(skip_serializing_if = "Option::is_none")]
    protections: Option<FailedProtections>,
    /// Not in zrepl's report.
    health: Health,
}

/// The invocation that runs, or the last one.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Invocation {
    number: u64,
    #[serde(serialize_with = "optional_time")]
    start_at: Option<Timestamp>,
    #[serde(serialize_with = "optional_time")]
    finish_at: Option<Timestamp>,
    /// When something of it last moved: a byte, a step, a phase.
    #[serde(serialize_with = "optional_time")]
    progress_at: Option<Timestamp>,
    summary: Option<Summary>,
    #[serde(skip)]
    movement: Movement,
}

/// What an invocation did, for clients of the control socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary {
    /// Filesystems that were looked at.
    pub filesystems: usize,
    /// Steps completed.
    pub steps: usize,
    /// Stream bytes.
    pub bytes: u64,
    /// Snapshots destroyed, on all sides.
    pub destroyed: usize,
    /// What failed.
    pub errors: usize,
    /// How long it took.
    pub seconds: f64,
    /// Ended by a reset or by the daemon's stop.
    pub cancelled: bool,
    /// Whether every filesystem was brought up to date; of a job that does not replicate, never.
    #[serde(default)]
    pub replicated: bool,
}

impl From<&InvocationSummary> for Summary {
    fn from(summary: &InvocationSummary) -> Summary {
        let InvocationSummary { filesystems, steps, bytes, destroyed, errors, took, cancelled, replicated } = *summary;
        let seconds = took.as_secs_f64();
        Summary { filesystems, steps, bytes, destroyed, errors, seconds, cancelled, replicated }
    }
}

impl Invocation {
    fn started(number: u64, at: Timestamp) -> Invocation {
        Invocation {
            number,
            start_at: Some(at),
            finish_at: None,
            progress_at: Some(at),
            summary: None,
            movement: Movement::default(),
        }
    }

    fn finished(started: Option<Invocation>, number: u64, at: Timestamp, summary: &InvocationSummary) -> Invocation {
        Invocation {
            number,
            start_at: started.and_then(|invocation| invocation.start_at),
            finish_at: Some(at),
            progress_at: Some(at),
            summary: Some(summary.into()),
            movement: Movement::default(),
        }
    }

    /// Notes when something of the one that runs moves.
    fn follow(invocation: &mut Option<Invocation>, event: &Event) {
        let Some(running) = invocation.as_mut().filter(|invocation| invocation.finish_at.is_none()) else { return };
        if running.movement.moves(&event.what) {
            running.progress_at = Some(event.at);
        }
    }
}

impl JobState {
    fn new(job: &Job) -> JobState {
        let health = Health::new(job);
        match job {
            Job::Sink(_) => JobState::Sink(Box::default()),
            Job::Source(job) => {
                let snapper = Snapper::new(&job.snapshotting);
                JobState::Source(Box::new(Source { snapper, health, protections: None, listener: None }))
            }
            Job::Push(job) => JobState::Push(Box::new(Active::new(Some(Snapper::new(&job.snapshotting)), health))),
            Job::Pull(_) => JobState::Pull(Box::new(Active::new(None, health))),
            Job::Snap(job) => JobState::Snap(Box::new(Snap::new(Snapper::new(&job.snapshotting), health))),
        }
    }

    fn apply(&mut self, event: &Event) {
        match self {
            JobState::Push(active) | JobState::Pull(active) => active.apply(event),
            JobState::Source(source) => source.apply(event),
            JobState::Snap(snap) => snap.apply(event),
            JobState::Sink(sink) => sink.apply(event),
            JobState::Internal => {}
        }
    }
}

impl Source {
    fn apply(&mut self, event: &Event) {
        FailedProtections::count(&mut self.protections, &event.what);
        Listener::follow(&mut self.listener, &event.what);
        let What::Snapshotting(what) = &event.what else { return };
        self.snapper.apply(event.at, what);
        self.health.ages.retain(what);
        self.health.ages.snapshotting(event.at, what);
        if matches!(what, Snapshotting::RoundFinished) && !self.snapper.has_failed() {
            self.health.succeeded(event.at);
        }
    }
}

impl Active {
    fn new(snapshotting: Option<Snapper>, health: Health) -> Active {
        Active {
            replication: None,
            pruning_sender: None,
            pruning_receiver: None,
            snapshotting,
            invocation: None,
            protections: None,
            health,
        }
    }

    fn apply(&mut self, event: &Event) {
        FailedProtections::count(&mut self.protections, &event.what);
        FailedProtections::invocation(&mut self.protections, &event.what);
        Invocation::follow(&mut self.invocation, event);
        match &event.what {
            What::Snapshotting(what) => {
                self.snapshotting.iter_mut().for_each(|snapper| snapper.apply(event.at, what));
                self.health.ages.snapshotting(event.at, what);
            }
            What::SleepsUntil { at } => self.health.sleeps_until(*at),
            What::InvocationStarted { number } => {
                // The reports of the last one go before those of this one come: they are large.
                let protections = self.protections.take();
                *self = Active::new(self.snapshotting.take(), std::mem::take(&mut self.health));
                self.protections = protections;
                self.invocation = Some(Invocation::started(*number, event.at));
            }
            What::Replication(what) => {
                let report = self.replication.get_or_insert_with(|| Report::new(event.at));
                report.apply(event.at, what);
                match what {
                    Replication::AttemptStarted => self.health.ages.attempt_started(event.at),
                    Replication::Planned { plan } => self.health.ages.planned(plan),
                    Replication::StepFinished { filesystem, step, .. } => {
                        if let Some(created) = report.created(filesystem, *step) {
                            self.health.ages.received(filesystem, created);
                        }
                    }
                    _ => {}
                }
            }
            What::Pruning { side, what } => {
                if let Some(replication) = &mut self.replication {
                    replication.close(event.at);
                }
                let pruner = match side {
                    PruneSide::Sender | PruneSide::Local => &mut self.pruning_sender,
                    PruneSide::Receiver => &mut self.pruning_receiver,
                };
                pruner.get_or_insert_with(Pruner::new).apply(what);
            }
            What::InvocationFinished { number, summary } => {
                self.replication.iter_mut().for_each(|replication| replication.close(event.at));
                self.pruning_sender.iter_mut().chain(&mut self.pruning_receiver).for_each(Pruner::close);
                let snapshotted = !self.snapshotting.as_ref().is_some_and(Snapper::has_failed);
                if snapshotted && summary.replicated && is_clean(summary) {
                    self.health.succeeded(event.at);
                }
                self.invocation = Some(Invocation::finished(self.invocation.take(), *number, event.at, summary));
            }
            _ => {}
        }
    }
}

fn is_clean(summary: &InvocationSummary) -> bool {
    summary.errors == 0 && !summary.cancelled
}

impl Snap {
    fn new(snapshotting: Snapper, health: Health) -> Snap {
        Snap { pruning: None, snapshotting, invocation: None, protections: None, health }
    }

    fn apply(&mut self, event: &Event) {
        FailedProtections::count(&mut self.protections, &event.what);
        FailedProtections::invocation(&mut self.protections, &event.what);
        Invocation::follow(&mut self.invocation, event);
        match &event.what {
            What::Snapshotting(what) => {
                self.snapshotting.apply(event.at, what);
                self.health.ages.snapshotting(event.at, what);
            }
            What::InvocationStarted { number } => {
                self.pruning = None;
                self.invocation = Some(Invocation::started(*number, event.at));
            }
            What::Pruning { what, .. } => {
                self.pruning.get_or_insert_with(Pruner::new).apply(what);
                if let Pruning::Planned { plan } = what {
                    self.health.ages.pruning_planned(plan);
                }
            }
            What::InvocationFinished { number, summary } => {
                self.pruning.iter_mut().for_each(Pruner::close);
                if !self.snapshotting.has_failed() && is_clean(summary) {
                    self.health.succeeded(event.at);
                }
                self.invocation = Some(Invocation::finished(self.invocation.take(), *number, event.at, summary));
            }
            _ => {}
        }
    }
}

impl Serialize for JobState {
    /// `{"type": "push", "push": {…}}`
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn entry<S: Serializer>(serializer: S, kind: &'static str, value: &impl Serialize) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(2))?;
            map.serialize_entry("type", kind)?;
            map.serialize_entry(kind, value)?;
            map.end()
        }
        #[derive(Serialize)]
        struct Passive<'a> {
            #[serde(rename = "Snapper")]
            snapper: Option<&'a Snapper>,
            #[serde(rename = "Protections", skip_serializing_if = "Option::is_none")]
            protections: Option<&'a FailedProtections>,
            #[serde(rename = "Listener", skip_serializing_if = "Option::is_none")]
            listener: Option<&'a Listener>,
            #[serde(rename = "Health", skip_serializing_if = "Option::is_none")]
            health: Option<&'a Health>,
        }
        match self {
            JobState::Push(push) => entry(serializer, "push", push),
            JobState::Snap(snap) => entry(serializer, "snap", snap),
            JobState::Pull(pull) => entry(serializer, "pull", pull),
            JobState::Sink(sink) => entry(serializer, "sink", sink),
            JobState::Source(source) => {
                let Source { snapper, health, protections, listener } = &**source;
                let (protections, listener) = (protections.as_ref(), listener.as_ref());
                let source = Passive { snapper: Some(snapper), protections, listener, health: Some(health) };
                entry(serializer, "source", &source)
            }
            JobState::Internal => entry(serializer, "internal", &None::<()>),
        }
    }
}

#[cfg(test)]
mod tests;
