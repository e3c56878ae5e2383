//! Snapshotting in the report.

use config::types::Snapshotting as Configured;
use jiff::Timestamp;
use model::event::{Missed, SnapshotterState, Snapshotting};
use model::{DatasetName, VersionName};
use serde::{Serialize, Serializer};

use super::json::{Lazily, optional_time};

/// A job's snapshotter.
#[derive(Debug, Clone)]
pub(super) enum Snapper {
    Periodic(Periodic),
    Cron(Cron),
    Manual,
}

#[derive(Debug, Clone)]
pub(super) struct Periodic {
    state: SnapshotterState,
    sleep_until: Option<Timestamp>,
    error: String,
    /// None before the first round; sorted by filesystem.
    progress: Option<Vec<Progress>>,
}

/// A snapshotter that follows a calendar.
#[derive(Debug, Clone, Default)]
pub(super) struct Cron {
    running: bool,
    /// The next round's time, or that at which the running one began.
    wakeup_time: Option<Timestamp>,
    /// Of the last round.
    error: Option<String>,
    /// Times that passed while a round was still running, since the last one began.
    missed: usize,
    /// Times that passed unnoticed before the last round.
    overslept: usize,
    progress: Option<Vec<Progress>>,
}

#[derive(Debug, Clone)]
struct Progress {
    filesystem: DatasetName,
    snapshot: VersionName,
    /// None for one that waits for its turn.
    started: Option<Timestamp>,
    done: Option<Timestamp>,
    /// Of the snapshot.
    error: Option<Box<str>>,
    hooks: Option<Hooks>,
}

/// What became of the hooks around a snapshot.
#[derive(Debug, Clone)]
struct Hooks {
    report: Box<str>,
    had_error: bool,
}

impl Snapper {
    pub(super) fn new(configured: &Configured) -> Snapper {
        match configured {
            Configured::Manual => Snapper::Manual,
            Configured::Cron { .. } => Snapper::Cron(Cron::default()),
            Configured::Periodic { .. } => Snapper::Periodic(Periodic {
                state: SnapshotterState::SyncUp,
                sleep_until: None,
                error: String::new(),
                progress: None,
            }),
        }
    }

    /// What it waits for; none while a round runs.
    pub(super) fn next_round(&self) -> Option<Timestamp> {
        match self {
            Snapper::Periodic(periodic) => periodic.sleep_until,
            Snapper::Cron(cron) => cron.wakeup_time.filter(|_| !cron.running),
            Snapper::Manual => None,
        }
    }

    /// Whether a snapshot or a hook of the last round failed, or the round as a whole.
    pub(super) fn has_failed(&self) -> bool {
        let (rows, error) = match self {
            Snapper::Periodic(periodic) => (&periodic.progress, !periodic.error.is_empty()),
            Snapper::Cron(cron) => (&cron.progress, cron.error.is_some()),
            Snapper::Manual => return false,
        };
        let failed = |row: &Progress| row.error.is_some() || row.hooks.as_ref().is_some_and(|hooks| hooks.had_error);
        error || rows.iter().flatten().any(failed)
    }

    pub(super) fn apply(&mut self, at: Timestamp, event: &Snapshotting) {
        match self {
            Snapper::Periodic(periodic) => periodic.apply(at, event),
            Snapper::Cron(cron) => cron.apply(at, event),
            Snapper::Manual => {}
        }
    }
}

impl Periodic {
    fn apply(&mut self, at: Timestamp, event: &Snapshotting) {
        match event {
            Snapshotting::State { state, sleep_until, error } => {
                self.state = *state;
                self.sleep_until = *sleep_until;
                self.error = error.clone().unwrap_or_default();
            }
            other => follow(&mut self.progress, at, other),
        }
    }
}

impl Cron {
    fn apply(&mut self, at: Timestamp, event: &Snapshotting) {
        match event {
            Snapshotting::State { state, sleep_until, error } => {
                let running = matches!(state, SnapshotterState::Planning | SnapshotterState::Snapshotting);
                if running && !self.running {
                    (self.missed, self.overslept) = (0, 0);
                    self.wakeup_time = Some(at);
                }
                if !running {
                    self.wakeup_time = *sleep_until;
                }
                self.running = running;
                self.error.clone_from(error);
            }
            Snapshotting::Missed { count, why: Missed::RoundRunning } => self.missed += count,
            Snapshotting::Missed { count, why: Missed::Asleep } => self.overslept += count,
            other => follow(&mut self.progress, at, other),
        }
    }

    /// In zrepl's order.
    fn errors(&self) -> Option<Vec<String>> {
        let missed = (self.missed > 0)
            .then(|| format!("cron frequency is too high; snapshots were not taken {} times", self.missed));
        let overslept = (self.overslept > 0)
            .then(|| format!("one round was taken for {} more times of the schedule that had passed", self.overslept));
        let errors: Vec<String> = self.error.clone().into_iter().chain(missed).chain(overslept).collect();
        (!errors.is_empty()).then_some(errors)
    }
}

/// Keeps the rows of a round up to date.
fn follow(progress: &mut Option<Vec<Progress>>, at: Timestamp, event: &Snapshotting) {
    match event {
        Snapshotting::RoundStarted { snapshots, one_by_one } => {
            let entry = |(filesystem, snapshot): &(DatasetName, VersionName)| Progress {
                filesystem: filesystem.clone(),
                snapshot: snapshot.clone(),
                started: Some(at),
                done: None,
                error: None,
                hooks: None,
            };
            let mut entries: Vec<Progress> = snapshots.iter().map(entry).collect();
            entries.sort_by(|a, b| a.filesystem.cmp(&b.filesystem));
            *progress = Some(entries);
            for filesystem in one_by_one {
                if let Some(entry) = row(progress, filesystem) {
                    entry.started = None;
                }
            }
        }
        Snapshotting::HooksStarted { filesystem } => {
            if let Some(entry) = row(progress, filesystem) {
                entry.started = Some(at);
            }
        }
        Snapshotting::HooksFinished { filesystem, report, had_error } => {
            if let Some(entry) = row(progress, filesystem) {
                entry.hooks = Some(Hooks { report: report.as_str().into(), had_error: *had_error });
            }
        }
        Snapshotting::Taken { filesystem, result, .. } => {
            if let Some(entry) = row(progress, filesystem) {
                entry.done = Some(at);
                entry.error = result.as_ref().err().map(|error| error.as_str().into());
            }
        }
        Snapshotting::State { .. } | Snapshotting::RoundFinished | Snapshotting::Missed { .. } => {}
    }
}

fn row<'a>(progress: &'a mut Option<Vec<Progress>>, filesystem: &DatasetName) -> Option<&'a mut Progress> {
    let progress = progress.as_mut().map_or(&mut [][..], Vec::as_mut_slice);
    let found = progress.binary_search_by(|entry| entry.filesystem.cmp(filesystem));
    progress.get_mut(found.ok()?)
}

/// zrepl's number of a state of the snapshotter.
fn number(state: SnapshotterState) -> u8 {
    match state {
        SnapshotterState::SyncUp => 1,
        SnapshotterState::SyncUpErrWait => 2,
        SnapshotterState::Planning => 4,
        SnapshotterState::Snapshotting => 8,
        SnapshotterState::Waiting => 16,
        SnapshotterState::ErrorWait => 32,
        SnapshotterState::Stopped => 64,
    }
}

impl Serialize for Snapper {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Nothing {}
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a> {
            r#type: &'static str,
            periodic: Option<&'a Periodic>,
            cron: Option<&'a Cron>,
            manual: Option<Nothing>,
        }
        match self {
            Snapper::Periodic(periodic) => {
                Row { r#type: "periodic", periodic: Some(periodic), cron: None, manual: None }
            }
            Snapper::Cron(cron) => Row { r#type: "cron", periodic: None, cron: Some(cron), manual: None },
            Snapper::Manual => Row { r#type: "manual", periodic: None, cron: None, manual: Some(Nothing {}) },
        }
        .serialize(serializer)
    }
}

impl Serialize for Periodic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a, P> {
            state: u8,
            #[serde(serialize_with = "optional_time")]
            sleep_until: Option<Timestamp>,
            error: &'a str,
            progress: Option<P>,
        }
        let progress = self.progress.as_ref().map(|entries| Lazily(|| entries.iter()));
        Row { state: number(self.state), sleep_until: self.sleep_until, error: &self.error, progress }
            .serialize(serializer)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<P> {
            state: &'static str,
            #[serde(serialize_with = "optional_time")]
            wakeup_time: Option<Timestamp>,
            errors: Option<Vec<String>>,
            progress: Option<P>,
        }
        let progress = self.progress.as_ref().map(|entries| Lazily(|| entries.iter()));
        let state = if self.running { "running" } else { "waiting" };
        Row { state, wakeup_time: self.wakeup_time, errors: self.errors(), progress }.serialize(serializer)
    }
}

impl Serialize for Progress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a> {
            path: &'a str,
            state: u8,
            snap_name: &'a str,
            #[serde(serialize_with = "optional_time")]
            start_at: Option<Timestamp>,
            hooks: &'a str,
            hooks_had_error: bool,
            #[serde(serialize_with = "optional_time")]
            done_at: Option<Timestamp>,
        }
        let hooks = self.hooks.as_ref().map(|hooks| &*hooks.report);
        let had_error = self.error.is_some() || self.hooks.as_ref().is_some_and(|hooks| hooks.had_error);
        Row {
            path: self.filesystem.as_str(),
            // Pending, started, done, error; as in zrepl, a hook's error counts like the snapshot's.
            state: match (self.started, self.done, had_error) {
                (None, None, _) => 1,
                (Some(_), None, _) => 2,
                (_, Some(_), false) => 4,
                (_, Some(_), true) => 8,
            },
            snap_name: self.snapshot.as_str(),
            start_at: self.started,
            // zrepl's client shows the reason of a failure only from these two.
            hooks: hooks.or(self.error.as_deref()).unwrap_or_default(),
            hooks_had_error: had_error,
            done_at: self.done,
        }
        .serialize(serializer)
    }
}
