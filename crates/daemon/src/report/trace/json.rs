//! One line of a trace: an object of the trace event format. Processes stand for jobs, threads for what a
//! job does side by side; on a thread what begins later ends earlier.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Where on the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::report) struct Place {
    /// Number of the job, 0 for the daemon itself.
    pub job: usize,
    /// Number of the lane in the job.
    pub lane: usize,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) enum Mark {
    /// A job's name.
    Job(usize, String),
    /// A lane's name.
    Lane(Place, String),
    /// Something begins.
    Begin(Place, Timestamp, String, Map<String, Value>),
    /// What began last on the lane ends.
    End(Place, Timestamp, Map<String, Value>),
    /// Something that takes no time.
    Instant(Place, Timestamp, String),
}

impl Mark {
    /// The object.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Mark::Job(job, name) => {
                json!({"ph": "M", "name": "process_name", "pid": job, "tid": 0, "args": {"name": name}})
            }
            Mark::Lane(Place { job, lane }, name) => {
                json!({"ph": "M", "name": "thread_name", "pid": job, "tid": lane, "args": {"name": name}})
            }
            Mark::Begin(Place { job, lane }, at, name, args) => {
                json!({"ph": "B", "name": name, "pid": job, "tid": lane, "ts": at.as_microsecond(), "args": args})
            }
            Mark::End(Place { job, lane }, at, args) => {
                json!({"ph": "E", "pid": job, "tid": lane, "ts": at.as_microsecond(), "args": args})
            }
            Mark::Instant(Place { job, lane }, at, name) => {
                json!({"ph": "i", "s": "t", "name": name, "pid": job, "tid": lane, "ts": at.as_microsecond()})
            }
        }
    }
}
