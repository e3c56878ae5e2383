//! Replication in the report.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::DatasetName;
use model::event::{BlockedOn, Replication};
use model::plan::replication::{FilesystemAction, FilesystemPlan, ReplicationPlan, Step};
use model::version::UnixTime;
use serde::{Serialize, Serializer};

use super::json::{Lazily, TimedError, optional_time};

/// Replication in one invocation.
#[derive(Debug, Clone)]
pub(super) struct Report {
    started: Timestamp,
    finished: Option<Timestamp>,
    reconnecting: Option<Reconnecting>,
    attempts: Vec<Attempt>,
}

/// The last wait for a side that could not be reached; none since it could be again.
#[derive(Debug, Clone)]
struct Reconnecting {
    since: Timestamp,
    until: Timestamp,
    /// Why it was given up.
    error: Option<TimedError>,
}

#[derive(Debug, Clone)]
struct Attempt {
    started: Timestamp,
    finished: Option<Timestamp>,
    plan_error: Option<TimedError>,
    progress: Option<Progress>,
}

#[derive(Debug, Clone)]
struct Progress {
    plan: Arc<ReplicationPlan>,
    index: Arc<HashMap<DatasetName, usize>>,
    /// Per filesystem of the plan.
    filesystems: Vec<Filesystem>,
    /// What failed in earlier attempts for good, so that the plan has it no longer.
    given_up: Arc<[GivenUp]>,
}

/// A filesystem as an earlier attempt left it.
#[derive(Debug, Clone)]
struct GivenUp {
    plan: Arc<ReplicationPlan>,
    index: usize,
    filesystem: Filesystem,
}

#[derive(Debug, Clone)]
struct Filesystem {
    state: State,
    blocked_on: BlockedOn,
    /// Index of the step that runs, or that failed.
    current: usize,
    /// Its own plan, since it was planned again.
    replanned: Option<Arc<FilesystemPlan>>,
    /// Per step as far as they have run.
    bytes: Vec<StepBytes>,
}

#[derive(Debug, Clone)]
enum State {
    Stepping,
    Conflict(Box<TimedError>),
    StepFailed(Box<TimedError>),
    Done,
}

#[derive(Debug, Clone, Copy, Default)]
struct StepBytes {
    expected: Option<u64>,
    replicated: u64,
}

impl Report {
    pub(super) fn new(started: Timestamp) -> Report {
        Report { started, finished: None, reconnecting: None, attempts: Vec::new() }
    }

    pub(super) fn apply(&mut self, at: Timestamp, event: &Replication) {
        match event {
            Replication::AttemptStarted => self.attempts.push(Attempt::new(at)),
            Replication::Reconnecting { until, .. } => {
                self.reconnecting = Some(Reconnecting { since: at, until: *until, error: None });
            }
            Replication::Reconnected => self.reconnecting = None,
            Replication::ReconnectFailed { error } => {
                if let Some(waited) = &mut self.reconnecting {
                    waited.error = Some(TimedError::new(error, at));
                }
            }
            Replication::Planned { plan } => {
                let earlier = self.attempts.iter().rev().find_map(|attempt| attempt.progress.as_ref());
                let progress = Progress::new(plan, earlier);
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.progress = Some(progress);
                }
            }
            other => {
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.apply(at, other);
                }
            }
        }
    }

    /// When the snapshot was taken that a step sends.
    pub(super) fn created(&self, filesystem: &DatasetName, step: usize) -> Option<UnixTime> {
        let progress = self.attempts.last()?.progress.as_ref()?;
        let index = *progress.index.get(filesystem)?;
        let steps = progress.filesystems.get(index)?.steps(progress.plan.filesystems.get(index)?);
        Some(steps.get(step)?.created)
    }

    /// No further attempt comes.
    pub(super) fn close(&mut self, at: Timestamp) {
        if self.finished.is_none() {
            self.finished = Some(at);
            self.attempts.iter_mut().for_each(|attempt| attempt.close(at));
        }
    }
}

impl Attempt {
    fn new(started: Timestamp) -> Attempt {
        Attempt { started, finished: None, plan_error: None, progress: None }
    }

    fn apply(&mut self, at: Timestamp, event: &Replication) {
        match event {
            Replication::PlanFailed { error } => self.plan_error = Some(TimedError::new(error, at)),
            Replication::AttemptFinished => self.finished = Some(at),
            Replication::Blocked { filesystem, on } => self.update(filesystem, |one| one.blocked_on = *on),
            Replication::StepStarted { filesystem, step } => self.update(filesystem, |one| one.start(*step)),
            Replication::StepProgress { filesystem, step, expected, bytes } => self.update(filesystem, |one| {
                let step = one.step(*step);
                *step = StepBytes { expected: expected.or(step.expected), replicated: *bytes };
            }),
            Replication::StepFinished { filesystem, step, bytes, .. } => {
                let steps = self.steps(filesystem);
                self.update(filesystem, |one| one.finish(*step, *bytes, steps));
            }
            Replication::Confirmed { filesystem } => self.update(filesystem, Filesystem::done),
            Replication::Conflicted { filesystem, conflict } => {
                let error = Box::new(TimedError::new(&conflict.to_string(), at));
                self.update(filesystem, |one| one.state = State::Conflict(error));
            }
            Replication::StepFailed { filesystem, step, bytes, error, .. } => {
                let error = Box::new(TimedError::new(error, at));
                self.update(filesystem, |one| one.fail(*step, *bytes, error));
            }
            Replication::Replanned { plan, done } => {
                let steps = self.steps(&plan.name);
                self.update(&plan.name, |one| one.replan(plan, *done, steps));
            }
            Replication::AttemptStarted
            | Replication::Planned { .. }
            | Replication::Reconnecting { .. }
            | Replication::Reconnected
            | Replication::ReconnectFailed { .. }
            | Replication::Discarding { .. }
            | Replication::Resolving { .. }
            | Replication::DestroyedToResolve { .. }
            | Replication::Resolved { .. } => {}
        }
    }

    fn update(&mut self, filesystem: &DatasetName, change: impl FnOnce(&mut Filesystem)) {
        let Some(progress) = &mut self.progress else { return };
        let found = progress.index.get(filesystem).and_then(|index| progress.filesystems.get_mut(*index));
        if let Some(filesystem) = found {
            change(filesystem);
        }
    }

    fn steps(&self, filesystem: &DatasetName) -> usize {
        let steps = self.progress.as_ref().and_then(|progress| {
            let index = *progress.index.get(filesystem)?;
            let plan = progress.plan.filesystems.get(index)?;
            Some(progress.filesystems.get(index)?.steps(plan).len())
        });
        steps.unwrap_or_default()
    }

    /// Ends an attempt that was not allowed to.
    fn close(&mut self, at: Timestamp) {
        if self.finished.is_some() {
            return;
        }
        self.finished = Some(at);
        let Some(progress) = &mut self.progress else {
            self.plan_error.get_or_insert_with(|| TimedError::new("cancelled", at));
            return;
        };
        for filesystem in &mut progress.filesystems {
            if matches!(filesystem.state, State::Stepping) {
                filesystem.state = State::StepFailed(Box::new(TimedError::new("cancelled", at)));
                filesystem.blocked_on = BlockedOn::Nothing;
            }
        }
    }

    fn state(&self) -> &'static str {
        match (&self.plan_error, &self.progress, self.finished) {
            (Some(_), _, _) => "planning-error",
            (None, None, None) => "planning",
            (None, Some(_), None) => "fan-out-filesystems",
            (None, Some(progress), Some(_)) if progress.has_failed() => "filesystem-error",
            (None, _, Some(_)) => "done",
        }
    }
}

fn steps(plan: &FilesystemPlan) -> &[Step] {
    match &plan.action {
        FilesystemAction::Steps { steps, .. } => steps,
        FilesystemAction::Nothing(_) | FilesystemAction::Confirm { .. } | FilesystemAction::Conflict(_) => &[],
    }
}

impl Progress {
    fn new(plan: &Arc<ReplicationPlan>, earlier: Option<&Progress>) -> Progress {
        let names = plan.filesystems.iter().enumerate().map(|(index, filesystem)| (filesystem.name.clone(), index));
        let index: HashMap<DatasetName, usize> = names.collect();
        Progress {
            given_up: earlier.map_or_else(Arc::default, |earlier| earlier.failed_without_chance(&index)),
            index: Arc::new(index),
            filesystems: plan.filesystems.iter().map(Filesystem::new).collect(),
            plan: Arc::clone(plan),
        }
    }

    /// What failed here or before and is not in the next attempt's plan.
    fn failed_without_chance(&self, next: &HashMap<DatasetName, usize>) -> Arc<[GivenUp]> {
        let here = self.filesystems.iter().enumerate().filter(|(_, filesystem)| filesystem.has_failed());
        let here = here.map(|(index, filesystem)| GivenUp {
            plan: Arc::clone(&self.plan),
            index,
            filesystem: filesystem.clone(),
        });
        let all = self.given_up.iter().cloned().chain(here);
        all.filter(|one| one.plan().is_some_and(|plan| !next.contains_key(&plan.name))).collect()
    }

    fn has_failed(&self) -> bool {
        !self.given_up.is_empty() || self.filesystems.iter().any(Filesystem::has_failed)
    }

    fn rows(&self) -> impl Iterator<Item = FilesystemRow<'_>> {
        let earlier = self.given_up.iter().filter_map(|one| Some((one.plan()?, &one.filesystem)));
        let all = earlier.chain(self.plan.filesystems.iter().zip(&self.filesystems));
        all.map(|(plan, filesystem)| FilesystemRow::new(plan, filesystem))
    }
}

impl GivenUp {
    fn plan(&self) -> Option<&FilesystemPlan> {
        self.plan.filesystems.get(self.index)
    }
}

impl Filesystem {
    fn new(plan: &FilesystemPlan) -> Filesystem {
        let (state, blocked_on) = match &plan.action {
            FilesystemAction::Nothing(_) => (State::Done, BlockedOn::Nothing),
            // The engine tells of a conflict at once; until then it is at work on it.
            FilesystemAction::Conflict(_) | FilesystemAction::Confirm { .. } => (State::Stepping, BlockedOn::Nothing),
            FilesystemAction::Steps { .. } => (State::Stepping, BlockedOn::Queue),
        };
        Filesystem { state, blocked_on, current: 0, replanned: None, bytes: Vec::new() }
    }

    /// Its steps: of its own plan, or of everybody's.
    fn steps<'a>(&'a self, plan: &'a FilesystemPlan) -> &'a [Step] {
        steps(self.replanned.as_deref().unwrap_or(plan))
    }

    /// Goes on with a new plan. One without steps is about what the steps so far have brought, which
    /// are shown as they are.
    fn replan(&mut self, plan: &Arc<FilesystemPlan>, done: usize, steps: usize) {
        let fresh = Filesystem::new(plan);
        (self.state, self.blocked_on) = (fresh.state, fresh.blocked_on);
        match plan.action {
            FilesystemAction::Steps { .. } => {
                self.replanned = Some(Arc::clone(plan));
                self.current = done;
                self.bytes.truncate(done);
            }
            FilesystemAction::Nothing(_) | FilesystemAction::Confirm { .. } => self.current = steps,
            FilesystemAction::Conflict(_) => {}
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.state, State::Conflict(_) | State::StepFailed(_))
    }

    fn step(&mut self, index: usize) -> &mut StepBytes {
        if self.bytes.len() <= index {
            self.bytes.resize(index + 1, StepBytes::default());
        }
        #[allow(clippy::indexing_slicing, reason = "resized above")]
        &mut self.bytes[index]
    }

    fn start(&mut self, step: usize) {
        self.state = State::Stepping;
        self.blocked_on = BlockedOn::Nothing;
        self.current = step;
        self.step(step);
    }

    fn finish(&mut self, step: usize, bytes: u64, steps: usize) {
        self.step(step).replicated = bytes;
        // zrepl estimates every step beforehand; here the size is known at the latest now.
        self.step(step).expected.get_or_insert(bytes);
        self.current = step + 1;
        if self.current >= steps {
            self.done();
        }
    }

    fn fail(&mut self, step: usize, bytes: u64, error: Box<TimedError>) {
        self.state = State::StepFailed(error);
        self.blocked_on = BlockedOn::Nothing;
        self.current = step;
        if bytes > 0 {
            self.step(step).replicated = bytes;
        }
    }

    fn done(&mut self) {
        self.state = State::Done;
        self.blocked_on = BlockedOn::Nothing;
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a> {
            #[serde(serialize_with = "optional_time")]
            start_at: Option<Timestamp>,
            #[serde(serialize_with = "optional_time")]
            finish_at: Option<Timestamp>,
            #[serde(serialize_with = "optional_time")]
            wait_reconnect_since: Option<Timestamp>,
            #[serde(serialize_with = "optional_time")]
            wait_reconnect_until: Option<Timestamp>,
            wait_reconnect_error: Option<TimedError>,
            attempts: &'a [Attempt],
        }
        Row {
            start_at: Some(self.started),
            finish_at: self.finished,
            wait_reconnect_since: self.reconnecting.as_ref().map(|waited| waited.since),
            wait_reconnect_until: self.reconnecting.as_ref().map(|waited| waited.until),
            wait_reconnect_error: self.reconnecting.as_ref().and_then(|waited| waited.error.clone()),
            attempts: &self.attempts,
        }
        .serialize(serializer)
    }
}

impl Serialize for Attempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a, F> {
            state: &'static str,
            #[serde(serialize_with = "optional_time")]
            start_at: Option<Timestamp>,
            #[serde(serialize_with = "optional_time")]
            finish_at: Option<Timestamp>,
            plan_error: Option<&'a TimedError>,
            filesystems: F,
        }
        let filesystems = || self.progress.iter().flat_map(Progress::rows);
        Row {
            state: self.state(),
            start_at: Some(self.started),
            finish_at: self.finished,
            plan_error: self.plan_error.as_ref(),
            filesystems: Lazily(filesystems),
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct FilesystemRow<'a> {
    info: Name<'a>,
    state: &'static str,
    blocked_on: &'static str,
    plan_error: Option<&'a TimedError>,
    step_error: Option<&'a TimedError>,
    current_step: usize,
    steps: Vec<StepRow>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StepRow {
    info: StepInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StepInfo {
    from: String,
    to: String,
    resumed: bool,
    bytes_expected: u64,
    bytes_replicated: u64,
}

impl<'a> FilesystemRow<'a> {
    fn new(plan: &'a FilesystemPlan, filesystem: &'a Filesystem) -> Self {
        let (state, plan_error, step_error) = match &filesystem.state {
            State::Stepping => ("stepping", None, None),
            State::Done => ("done", None, None),
            State::Conflict(error) => ("planning-error", Some(&**error), None),
            State::StepFailed(error) => ("step-error", None, Some(&**error)),
        };
        let bytes = filesystem.bytes.iter().copied().chain(std::iter::repeat(StepBytes::default()));
        FilesystemRow {
            info: Name { name: plan.name.as_str() },
            state,
            blocked_on: match filesystem.blocked_on {
                BlockedOn::Nothing => "nothing",
                BlockedOn::Planning => "plan-queue",
                BlockedOn::Parent => "parent-initial-repl",
                BlockedOn::Queue => "repl-queue",
            },
            plan_error,
            step_error,
            current_step: filesystem.current,
            steps: filesystem
                .steps(plan)
                .iter()
                .zip(bytes)
                .map(|(step, bytes)| StepRow { info: StepInfo::new(step, bytes) })
                .collect(),
        }
    }
}

impl StepInfo {
    fn new(step: &Step, bytes: StepBytes) -> StepInfo {
        StepInfo {
            from: step.from.as_ref().map(ToString::to_string).unwrap_or_default(),
            to: step.to.to_string(),
            resumed: step.resume_token.is_some(),
            bytes_expected: bytes.expected.unwrap_or(0),
            bytes_replicated: bytes.replicated,
        }
    }
}
