//! What is open, and how events open and close it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::event::{Event, Pruning, Receiving, Replication, Snapshotting, What};
use model::plan::prune::PruneSide;
use serde_json::{Map, Value};

use super::json::{Mark, Place};

/// The lane of a job itself.
const JOB: &str = "job";
/// Lanes of filesystems, child processes.
const STEPS: &str = "repl-fs";
const COMMANDS: &str = "zfscmd";
const RECEIPTS: &str = "receive";
const SNAPSHOTS: &str = "snapshotting";
const HOOKS: &str = "hooks";
const CONNECTION: &str = "connection";

/// Everything that is open.
#[derive(Default)]
pub(in crate::report) struct Spans {
    jobs: Vec<JobSpans>,
    /// Numbers of the jobs; none is the daemon.
    numbers: BTreeMap<Option<String>, usize>,
}

struct JobSpans {
    name: String,
    lanes: Vec<Lane>,
    attempts: u64,
    /// How often it has started and not ended: a reload may begin it anew before it has.
    lives: u64,
}

struct Lane {
    kind: &'static str,
    name: String,
    open: Vec<Open>,
}

struct Open {
    name: String,
    at: Timestamp,
    args: Map<String, Value>,
}

impl Spans {
    /// What has been open all along, for whoever comes now: the marks of its beginnings.
    pub(super) fn open(&self) -> Vec<String> {
        let mut marks = Vec::new();
        for (job, spans) in self.jobs.iter().enumerate() {
            marks.push(Mark::Job(job, spans.name.clone()));
            for (lane, of_lane) in spans.lanes.iter().enumerate() {
                let place = Place { job, lane };
                marks.push(Mark::Lane(place, of_lane.name.clone()));
                let open = of_lane.open.iter();
                marks.extend(open.map(|open| Mark::Begin(place, open.at, open.name.clone(), open.args.clone())));
            }
        }
        marks.iter().map(|mark| mark.to_json().to_string()).collect()
    }

    /// What an event opens and closes.
    pub(in crate::report) fn follow(&mut self, event: &Event) -> Vec<Mark> {
        let mut marks = Vec::new();
        let job = self.number(event, &mut marks);
        if let Some(spans) = self.jobs.get_mut(job) {
            let mut pen = Pen { job, spans, at: event.at, marks: &mut marks };
            pen.draw(&event.what);
        }
        marks
    }

    /// The names of what is open around a lane, from the outside in; none if it is a lane of commands.
    pub(in crate::report) fn around(&self, place: Place) -> Option<Vec<&str>> {
        let lanes = &self.jobs.get(place.job)?.lanes;
        let outer = match lanes.get(place.lane)?.kind {
            COMMANDS => return None,
            JOB | SNAPSHOTS | RECEIPTS => return Some(Vec::new()),
            HOOKS => SNAPSHOTS,
            _ => JOB,
        };
        let open = lanes.iter().filter(|lane| lane.kind == outer).flat_map(|lane| &lane.open);
        Some(open.map(|open| open.name.as_str()).collect())
    }

    fn number(&mut self, event: &Event, marks: &mut Vec<Mark>) -> usize {
        let key = event.job.as_ref().map(ToString::to_string);
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = self.jobs.len();
        let name = key.as_ref().map_or_else(|| "zrepl".to_owned(), |job| format!("job {job}"));
        marks.push(Mark::Job(number, name.clone()));
        self.jobs.push(JobSpans { name, lanes: Vec::new(), attempts: 0, lives: 0 });
        self.numbers.insert(key, number);
        number
    }
}

/// Draws for one event of one job.
struct Pen<'a> {
    job: usize,
    spans: &'a mut JobSpans,
    at: Timestamp,
    marks: &'a mut Vec<Mark>,
}

impl Pen<'_> {
    fn draw(&mut self, what: &What) {
        match what {
            What::InvocationStarted { number } => {
                self.spans.attempts = 0;
                self.close_all(JOB);
                self.begin(JOB, format!("invocation-{number}"));
            }
            What::InvocationFinished { .. } => {
                let pruning = [PruneSide::Sender, PruneSide::Receiver, PruneSide::Local].map(lane_of);
                [STEPS, CONNECTION, JOB].into_iter().chain(pruning).for_each(|kind| self.close_all(kind));
            }
            What::JobStarted => self.spans.lives += 1,
            What::JobStopped => {
                self.spans.lives = self.spans.lives.saturating_sub(1);
                if self.spans.lives == 0 {
                    self.close_everything();
                }
            }
            What::CommandStarted { command } => self.begin_in_a_lane_of(COMMANDS, command.clone(), Map::new()),
            What::CommandFinished { command, success, .. } => {
                self.end_named(COMMANDS, command, args([("success", Value::from(*success))]));
            }
            What::Snapshotting(what) => self.draw_snapshots(what),
            What::Receiving { client, filesystem, snapshot, what, .. } => {
                let name = format!("{client}: {filesystem}@{snapshot}");
                match what {
                    Receiving::Started => self.begin_in_a_lane_of(RECEIPTS, name, Map::new()),
                    Receiving::Finished | Receiving::Failed(_) => {
                        let success = Value::from(*what == Receiving::Finished);
                        self.end_named(RECEIPTS, &name, args([("success", success)]));
                    }
                }
            }
            What::Replication(what) => self.draw_replication(what),
            What::Pruning { side, what } => self.draw_pruning(*side, what),
            _ => {}
        }
    }

    fn draw_snapshots(&mut self, what: &Snapshotting) {
        match what {
            Snapshotting::RoundStarted { .. } => {
                self.close_all(SNAPSHOTS);
                self.begin(SNAPSHOTS, "round".to_owned());
            }
            Snapshotting::RoundFinished => {
                self.close_all(HOOKS);
                self.close_all(SNAPSHOTS);
            }
            Snapshotting::HooksStarted { filesystem } => self.begin(HOOKS, filesystem.to_string()),
            Snapshotting::HooksFinished { filesystem, .. } => self.end_named(HOOKS, filesystem.as_str(), Map::new()),
            Snapshotting::Taken { filesystem, snapshot, .. } => {
                self.instant(SNAPSHOTS, format!("{filesystem}@{snapshot}"));
            }
            _ => {}
        }
    }

    fn draw_replication(&mut self, what: &Replication) {
        match what {
            Replication::AttemptStarted => {
                self.spans.attempts += 1;
                let number = self.spans.attempts;
                self.begin(JOB, format!("replication, attempt {number}"));
                self.begin(JOB, "plan".to_owned());
            }
            Replication::Planned { .. } | Replication::PlanFailed { .. } => self.end_named(JOB, "plan", Map::new()),
            Replication::StepStarted { filesystem, step } => {
                let args = args([("step", Value::from(*step))]);
                self.begin_in_a_lane_of(STEPS, filesystem.to_string(), args);
            }
            Replication::StepFinished { filesystem, bytes, .. } => {
                self.end_named(STEPS, filesystem.as_str(), args([("bytes", Value::from(*bytes))]));
            }
            Replication::StepFailed { filesystem, bytes, error, .. } => {
                let args = args([("bytes", Value::from(*bytes)), ("error", Value::from(error.as_str()))]);
                self.end_named(STEPS, filesystem.as_str(), args);
            }
            Replication::Reconnecting { .. } => self.begin(CONNECTION, "waiting for the other side".to_owned()),
            Replication::Reconnected | Replication::ReconnectFailed { .. } => self.close_all(CONNECTION),
            Replication::AttemptFinished => {
                self.close_all(STEPS);
                self.close_down_to(JOB, 1);
            }
            _ => {}
        }
    }

    fn draw_pruning(&mut self, side: PruneSide, what: &Pruning) {
        let lane = lane_of(side);
        match what {
            Pruning::Started => {
                self.begin(lane, lane.to_owned());
                self.begin(lane, "plan".to_owned());
            }
            Pruning::Planned { .. } => self.end_named(lane, "plan", Map::new()),
            Pruning::PlanFailed { .. } | Pruning::Finished => self.close_all(lane),
            Pruning::Filesystem { filesystem, destroyed, .. } if !destroyed.is_empty() => {
                self.instant(lane, format!("{filesystem}: {} destroyed", destroyed.len()));
            }
            _ => {}
        }
    }

    /// The first lane of a kind.
    fn first(&mut self, kind: &'static str) -> usize {
        match self.spans.lanes.iter().position(|lane| lane.kind == kind) {
            Some(lane) => lane,
            None => self.another(kind, kind.to_owned()),
        }
    }

    fn another(&mut self, kind: &'static str, name: String) -> usize {
        let lane = self.spans.lanes.len();
        self.marks.push(Mark::Lane(Place { job: self.job, lane }, name.clone()));
        self.spans.lanes.push(Lane { kind, name, open: Vec::new() });
        lane
    }

    fn begin(&mut self, kind: &'static str, name: String) {
        let lane = self.first(kind);
        self.begin_on(lane, name, Map::new());
    }

    /// Begins where nothing of the kind is open, so that what runs side by side is drawn side by side.
    fn begin_in_a_lane_of(&mut self, kind: &'static str, name: String, args: Map<String, Value>) {
        let free = self.spans.lanes.iter().position(|lane| lane.kind == kind && lane.open.is_empty());
        let lane = free.unwrap_or_else(|| {
            let number = self.spans.lanes.iter().filter(|lane| lane.kind == kind).count();
            self.another(kind, format!("{kind}#{number}"))
        });
        self.begin_on(lane, name, args);
    }

    fn begin_on(&mut self, lane: usize, name: String, args: Map<String, Value>) {
        let name = short(name);
        self.marks.push(Mark::Begin(Place { job: self.job, lane }, self.at, name.clone(), args.clone()));
        if let Some(of_lane) = self.spans.lanes.get_mut(lane) {
            of_lane.open.push(Open { name, at: self.at, args });
        }
    }

    /// Ends what is open under a name, and what is still open within it.
    fn end_named(&mut self, kind: &str, name: &str, args: Map<String, Value>) {
        let name = short(name.to_owned());
        let found = self.spans.lanes.iter().enumerate().find_map(|(number, lane)| {
            let depth = lane.open.iter().rposition(|open| lane.kind == kind && open.name == name)?;
            Some((number, depth))
        });
        let Some((lane, depth)) = found else { return };
        self.close_lane(lane, depth + 1);
        if let Some(of_lane) = self.spans.lanes.get_mut(lane) {
            of_lane.open.pop();
            self.marks.push(Mark::End(Place { job: self.job, lane }, self.at, args));
        }
    }

    fn instant(&mut self, kind: &'static str, name: String) {
        let lane = self.first(kind);
        self.marks.push(Mark::Instant(Place { job: self.job, lane }, self.at, short(name)));
    }

    fn close_all(&mut self, kind: &str) {
        self.close_down_to(kind, 0);
    }

    fn close_everything(&mut self) {
        (0..self.spans.lanes.len()).for_each(|lane| self.close_lane(lane, 0));
    }

    /// Ends what is open on the lanes of a kind but for the outermost ones.
    fn close_down_to(&mut self, kind: &str, left: usize) {
        let lanes = self.spans.lanes.iter().enumerate().filter(|(_, lane)| lane.kind == kind);
        let lanes: Vec<usize> = lanes.map(|(number, _)| number).collect();
        lanes.into_iter().for_each(|lane| self.close_lane(lane, left));
    }

    fn close_lane(&mut self, lane: usize, left: usize) {
        let Some(of_lane) = self.spans.lanes.get_mut(lane) else { return };
        while of_lane.open.len() > left {
            of_lane.open.pop();
            self.marks.push(Mark::End(Place { job: self.job, lane }, self.at, Map::new()));
        }
    }
}

fn lane_of(side: PruneSide) -> &'static str {
    match side {
        PruneSide::Sender => "prune_sender",
        PruneSide::Receiver => "prune_receiver",
        PruneSide::Local => "prune_local",
    }
}

fn args<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Command lines may name hundreds of snapshots.
const NAME_CHARS: usize = 300;

fn short(name: String) -> String {
    match name.char_indices().nth(NAME_CHARS) {
        Some((at, _)) => format!("{}…", name.get(..at).unwrap_or_default()),
        None => name,
    }
}
