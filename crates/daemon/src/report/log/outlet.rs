//! Where lines go: a bounded queue and a thread that writes, so that a reader of the log who stops
//! reading never stops the daemon.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::types::{LogLevel, StdoutOutlet};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::event::Event;

use super::earlier::Earlier;
use super::entry::Entry;
use super::format::{Layout, Metadata};
use crate::events::Reader;
use crate::limits::{LOG_QUEUE_BYTES, LOG_QUEUE_RESERVED_BYTES};

/// The `stdout` outlet.
pub struct StdoutLog {
    level: LogLevel,
    layout: Layout,
    steps: Mutex<Earlier>,
    writer: Writer,
}

impl StdoutLog {
    /// An outlet as configured, for a standard output that is (or is not) a terminal which wants
    /// colours.
    pub fn new(outlet: &StdoutOutlet, terminal: Terminal) -> StdoutLog {
        let metadata = Metadata {
            time: outlet.time || terminal != Terminal::No,
            level: true,
            color: outlet.color && terminal == Terminal::Color,
        };
        let layout = Layout { format: outlet.format, metadata, zone: TimeZone::system() };
        StdoutLog::with(outlet.level, layout, Writer::start(std::io::stdout()))
    }

    /// An outlet with these parts.
    pub fn with(level: LogLevel, layout: Layout, writer: Writer) -> StdoutLog {
        StdoutLog { level, layout, steps: Mutex::default(), writer }
    }

    /// Waits until everything is written, at most so long.
    pub fn flush(&self, limit: Duration) {
        self.writer.flush(limit);
    }

    pub(super) fn lost(&self) -> u64 {
        self.writer.lost()
    }

    /// Queues an entry, if it is important enough.
    pub(super) fn take(&self, entry: &Entry) {
        if entry.level >= self.level {
            self.writer.push(self.layout.line(entry), limit_of(entry.level), |lost| self.loss(lost, entry.at));
        }
    }

    pub(super) fn level(&self) -> LogLevel {
        self.level
    }

    /// How many lines were lost before this one.
    fn loss(&self, lines: u64, at: Timestamp) -> String {
        let message = format!("{lines} log lines were lost because standard output is not read fast enough");
        let entry =
            Entry { at, level: LogLevel::Error, job: None, subsystem: Some("meta"), message, fields: Vec::new() };
        self.layout.line(&entry)
    }
}

/// What standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Not a terminal.
    No,
    /// A terminal without colours, or whose user does not want them.
    Plain,
    /// A terminal with colours.
    Color,
}

impl Reader for StdoutLog {
    fn read(&self, event: &Event) {
        let entry = self.steps.lock().unwrap_or_else(PoisonError::into_inner).entry(event);
        if let Some(entry) = entry {
            self.take(&entry);
        }
    }
}

/// How many bytes may wait before an entry of this level is lost: what is important has room of its own.
pub(super) fn limit_of(level: LogLevel) -> usize {
    match level {
        LogLevel::Debug | LogLevel::Info => LOG_QUEUE_BYTES - LOG_QUEUE_RESERVED_BYTES,
        LogLevel::Warn | LogLevel::Error => LOG_QUEUE_BYTES,
    }
}

/// A queue of lines and the thread that writes them.
pub struct Writer {
    shared: Arc<(Mutex<Queue>, Condvar)>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    lost: u64,
    lost_before: u64,
    writing: bool,
    closed: bool,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Starts the thread. It ends when the writer is dropped and everything is written.
    pub fn start(mut out: impl Write + Send + 'static) -> Writer {
        let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        // Not a task: a write to a pipe that nobody reads blocks for ever.
        std::thread::spawn(move || {
            while let Some(lines) = next(&theirs) {
                // There is nowhere to complain to.
                let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
                lock(&theirs.0).writing = false;
                theirs.1.notify_all();
            }
        });
        Writer { shared }
    }

    /// Queues a line unless that makes more than `limit` bytes wait. The first line after a loss is
    /// preceded by what `loss` says about it.
    pub(super) fn push(&self, line: String, limit: usize, loss: impl FnOnce(u64) -> String) {
        let mut queue = lock(&self.shared.0);
        if queue.bytes + line.len() > limit {
            queue.lost += 1;
            return;
        }
        if queue.lost > 0 {
            queue.lost_before += queue.lost;
            let notice = loss(std::mem::take(&mut queue.lost));
            queue.add(notice);
        }
        queue.add(line);
        self.shared.1.notify_all();
    }

    /// How many lines found no room since the start.
    pub(super) fn lost(&self) -> u64 {
        let queue = lock(&self.shared.0);
        queue.lost_before + queue.lost
    }

    pub(super) fn flush(&self, limit: Duration) {
        let (queue, changed) = &*self.shared;
        let busy = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        let waited = changed.wait_timeout_while(lock(queue), limit, busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.shared.0).closed = true;
        self.shared.1.notify_all();
    }
}

impl Queue {
    fn add(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }
}

/// Everything that waits, as one text; none once the queue is closed and empty.
fn next(shared: &(Mutex<Queue>, Condvar)) -> Option<String> {
    let (queue, changed) = shared;
    let idle = |queue: &mut Queue| queue.lines.is_empty() && !queue.closed;
    let mut queue = changed.wait_while(lock(queue), idle).unwrap_or_else(PoisonError::into_inner);
    if queue.lines.is_empty() {
        return None;
    }
    queue.writing = true;
    queue.bytes = 0;
    Some(queue.lines.drain(..).collect())
}
