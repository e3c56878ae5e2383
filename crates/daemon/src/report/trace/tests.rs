use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use model::event::{InvocationSummary, Replication, What};
use model::plan::prune::PruneSide;
use model::{DatasetName, JobName};
use serde_json::Value;

use super::*;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(1_700_000_000_000_000 + micros).unwrap()
}

fn tell(trace: &Trace, micros: i64, what: What) {
    trace.read(&Event {
        at: at(micros),
        job: Some(JobName::parse("j").unwrap()),
        about: model::event::About::Nothing,
        what,
    });
}

fn fs(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn step(name: &str) -> What {
    What::Replication(Replication::StepStarted { filesystem: fs(name), step: 0 })
}

fn done(name: &str) -> What {
    let (step, bytes, took) = (0, 7, Duration::from_secs(1));
    What::Replication(Replication::StepFinished { filesystem: fs(name), step, bytes, took })
}

fn invocation(trace: &Trace) {
    let command = || "zfs send p/a@s".to_owned();
    tell(trace, 0, What::InvocationStarted { number: 3 });
    tell(trace, 10, What::Replication(Replication::AttemptStarted));
    tell(trace, 20, What::Replication(Replication::PlanFailed { error: "x".to_owned() }));
    tell(trace, 30, step("p/a"));
    tell(trace, 31, step("p/b"));
    tell(trace, 32, What::CommandStarted { command: command() });
    tell(trace, 40, done("p/a"));
    tell(trace, 41, step("p/c"));
    tell(trace, 42, What::CommandFinished { command: command(), took: Duration::ZERO, used: None, success: true });
    tell(trace, 50, done("p/b"));
    tell(trace, 60, What::Replication(Replication::AttemptFinished));
    tell(trace, 70, What::Pruning { side: PruneSide::Sender, what: model::event::Pruning::Started });
    tell(trace, 90, What::InvocationFinished { number: 3, summary: InvocationSummary::default() });
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the file holds once its trace has ended.
fn written(limit: u64, story: impl FnOnce(&Trace)) -> String {
    let out = Shared::default();
    let trace = Trace::default();
    trace.into_file(TraceFile::start(out.clone(), limit));
    story(&trace);
    trace.close(Duration::from_secs(60));
    let bytes = out.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// `lane: name begin+duration`, indented as nested; fails unless everything begun is ended on its lane.
fn drawn(text: &str) -> Vec<String> {
    let events: Vec<Value> = serde_json::from_str(text).unwrap();
    let mut lanes = std::collections::BTreeMap::<(u64, u64), String>::new();
    let mut open = std::collections::BTreeMap::<(u64, u64), Vec<(usize, i64)>>::new();
    let mut lines = Vec::new();
    for event in events.iter().filter(|event| event.get("ph").is_some()) {
        let place = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
        let since = || event["ts"].as_i64().unwrap() - at(0).as_microsecond();
        match event["ph"].as_str().unwrap() {
            "M" if event["name"] == "thread_name" => {
                lanes.insert(place, event["args"]["name"].as_str().unwrap().to_owned());
            }
            "B" => {
                let open = open.entry(place).or_default();
                let indent = "  ".repeat(open.len());
                open.push((lines.len(), since()));
                lines.push(format!("{indent}{}: {} {}", lanes[&place], event["name"].as_str().unwrap(), since()));
            }
            "E" => {
                let (line, begun) = open.get_mut(&place).unwrap().pop().unwrap();
                lines[line] += &format!("+{}", since() - begun);
            }
            _ => {}
        }
    }
    assert!(open.values().all(Vec::is_empty), "{open:?}");
    lines
}

#[test]
fn what_runs_within_another_is_drawn_within_it_and_what_runs_beside_it_beside_it() {
    let text = written(u64::MAX, invocation);
    assert_eq!(
        drawn(&text),
        [
            "job: invocation-3 0+90",
            "  job: replication, attempt 1 10+50",
            "    job: plan 10+10",
            "repl-fs#0: p/a 30+10",
            "repl-fs#1: p/b 31+19",
            "zfscmd#0: zfs send p/a@s 32+10",
            "repl-fs#0: p/c 41+19",
            "prune_sender: prune_sender 70+20",
            "  prune_sender: plan 70+20",
        ]
    );
}

#[test]
fn a_job_that_ends_late_does_not_end_what_runs_in_its_successor() {
    let text = written(u64::MAX, |trace| {
        tell(trace, 0, What::JobStarted);
        tell(trace, 10, What::JobStarted);
        tell(trace, 20, What::InvocationStarted { number: 2 });
        tell(trace, 30, What::JobStopped);
        tell(trace, 40, What::InvocationFinished { number: 2, summary: InvocationSummary::default() });
        tell(trace, 50, What::JobStopped);
    });
    assert_eq!(drawn(&text), ["job: invocation-2 20+20"]);
}

#[tokio::test]
async fn who_comes_later_is_told_what_is_open() {
    let trace = Trace::default();
    tell(&trace, 0, What::InvocationStarted { number: 1 });
    tell(&trace, 5, step("p/a"));
    tell(&trace, 6, done("p/a"));
    let mut stream = trace.stream();
    tell(&trace, 90, What::InvocationFinished { number: 1, summary: InvocationSummary::default() });
    let text = stream.next().await.unwrap();
    assert_eq!(drawn(&format!("[{text}{{}}]")), ["job: invocation-1 0+90"]);
    drop(trace);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_events_and_learns_how_many() {
    let trace = Trace::default();
    let mut stream = trace.stream();
    let events = i64::try_from(crate::limits::TRACE_QUEUE).unwrap();
    for number in 0..events {
        tell(&trace, number, step("p/a"));
        tell(&trace, number, done("p/a"));
    }
    stream.next().await.unwrap();
    tell(&trace, events, step("p/a"));
    let after = stream.next().await.unwrap();
    let lost: Value = serde_json::from_str(after.lines().next().unwrap().trim_end_matches(',')).unwrap();
    // The names of the job and of the lane are events too.
    assert_eq!(lost["args"]["events"], events + 2, "{after}");
}

#[test]
fn a_file_does_not_grow_without_end_and_stays_whole() {
    let text = written(1000, |trace| (0..50).for_each(|_| invocation(trace)));
    assert!(text.len() < 2000 && text.contains("the file is full"), "{text}");
    let events: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(!events.is_empty());
}
