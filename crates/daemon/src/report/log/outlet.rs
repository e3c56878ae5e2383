//! Where lines go: a bounded queue and a thread that writes, so that a reader of the log who stops
//! reading never stops the daemon.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::types::{LogLevel, StdoutOutlet};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::entry::Entry;
use super::format::{Layout, Metadata};
use super::remote::{Complaints, STDOUT};
use crate::limits::{LOG_QUEUE_BYTES, LOG_QUEUE_RESERVED_BYTES};

/// The `stdout` outlet.
pub struct StdoutLog {
    level: LogLevel,
    layout: Layout,
    writer: Writer,
}

impl StdoutLog {
    /// An outlet as configured, for a standard output that is (or is not) a terminal which wants
    /// colours.
    pub fn new(outlet: &StdoutOutlet, terminal: Terminal, complaints: &Complaints) -> StdoutLog {
        let metadata = Metadata {
            time: outlet.time || terminal != Terminal::No,
            level: true,
            color: outlet.color && terminal == Terminal::Color,
        };
        let layout = Layout { format: outlet.format, metadata, zone: TimeZone::system() };
        StdoutLog::with(outlet.level, layout, standard_output(), complaints)
    }

    /// An outlet with these parts.
    pub fn with(
        level: LogLevel,
        layout: Layout,
        out: impl Write + Send + 'static,
        complaints: &Complaints,
    ) -> StdoutLog {
        let (complaints, of_notice) = (complaints.clone(), layout.clone());
        let notice = move |happened: Written<'_>| match happened {
            Written::Failed(why) => {
                complaints.complain(STDOUT, why);
                String::new()
            }
            Written::Again { lost, why } => {
                let message =
                    format!("{lost} log lines were lost because standard output could not be written to: {why}");
                of_notice.line(&Entry::of_the_log(Timestamp::now(), message))
            }
        };
        StdoutLog { level, layout, writer: Writer::start(out, notice) }
    }

    /// Waits until everything is written, at most so long; how many lines still wait then.
    pub fn flush(&self, limit: Duration) -> u64 {
        self.writer.flush(limit)
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
        self.layout.line(&Entry::of_the_log(at, message))
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

/// How many bytes may wait before an entry of this level is lost: what is important has room of its own.
pub(super) fn limit_of(level: LogLevel) -> usize {
    match level {
        LogLevel::Debug | LogLevel::Info => LOG_QUEUE_BYTES - LOG_QUEUE_RESERVED_BYTES,
        LogLevel::Warn | LogLevel::Error => LOG_QUEUE_BYTES,
    }
}

/// Without the buffer of the standard library, which would try again to write what is counted as lost.
fn standard_output() -> Box<dyn Write + Send> {
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(io::stdout()),
    }
}

/// What a thread that writes has met.
pub(super) enum Written<'a> {
    /// Nothing can be written, and why. Told once, until it works again.
    Failed(&'a str),
    /// Something can be written again. What is answered is written first.
    Again {
        /// So many lines are missing.
        lost: u64,
        /// Why the last of them is.
        why: &'a str,
    },
}

/// A queue of lines and the thread that writes them.
pub(super) struct Writer {
    shared: Arc<(Mutex<Queue>, Condvar)>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    /// Found no room, and nobody was told yet.
    lost: u64,
    /// Missing for good, and counted.
    lost_before: u64,
    /// Lines that are being written.
    writing: u64,
    closed: bool,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Starts the thread. It ends when the writer is dropped and everything is written.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        notice: impl FnMut(Written<'_>) -> String + Send + 'static,
    ) -> Writer {
        let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        // Not a task: a write to a pipe that nobody reads blocks for ever.
        std::thread::spawn(move || {
            let mut pen = Pen { out, notice, torn: false, failing: None };
            while let Some(lines) = next(&theirs) {
                let lost = pen.write(&lines);
                let mut queue = lock(&theirs.0);
                queue.lost_before += lost;
                queue.writing = 0;
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

    /// How many lines found no room or could not be written since the start.
    pub(super) fn lost(&self) -> u64 {
        let queue = lock(&self.shared.0);
        queue.lost_before + queue.lost
    }

    /// Waits until everything is written, at most so long; how many lines still wait then.
    pub(super) fn flush(&self, limit: Duration) -> u64 {
        let (queue, changed) = &*self.shared;
        let waited = changed.wait_timeout_while(lock(queue), limit, |queue| queue.waiting() > 0);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.waiting()
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

    fn waiting(&self) -> u64 {
        self.writing + self.lines.len() as u64
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
    queue.writing = queue.lines.len() as u64;
    queue.bytes = 0;
    Some(queue.lines.drain(..).collect())
}

/// Writes, and remembers what could not be written.
struct Pen<W, N> {
    out: W,
    notice: N,
    /// The last line ends in its middle.
    torn: bool,
    /// Lines that are missing since it worked last, and why.
    failing: Option<(u64, String)>,
}

impl<W: Write, N: FnMut(Written<'_>) -> String> Pen<W, N> {
    /// How many lines are lost.
    fn write(&mut self, lines: &str) -> u64 {
        if let Some((lost, why)) = &self.failing {
            // Without it the rest would not be written either.
            let notice = (self.notice)(Written::Again { lost: *lost, why });
            let notice = if self.torn { format!("\n{notice}") } else { notice };
            match write_out(&mut self.out, notice.as_bytes()) {
                Ok(()) => (self.failing, self.torn) = (None, false),
                Err((rest, error)) => return self.lose(&notice, rest, lines, &error),
            }
        }
        match write_out(&mut self.out, lines.as_bytes()) {
            Ok(()) => 0,
            Err((rest, error)) => self.lose(lines, rest, lines.get(lines.len() - rest..).unwrap_or(lines), &error),
        }
    }

    /// Of `text`, the last `rest` bytes were not written, and `missing` is what is counted.
    fn lose(&mut self, text: &str, rest: usize, missing: &str, error: &io::Error) -> u64 {
        let written = text.len() - rest;
        if written > 0 {
            self.torn = text.as_bytes().get(written - 1) != Some(&b'\n');
        }
        let lost = missing.bytes().filter(|byte| *byte == b'\n').count() as u64;
        let why = error.to_string();
        match &mut self.failing {
            Some((before, last)) => (*before, *last) = (*before + lost, why),
            none => {
                (self.notice)(Written::Failed(&why));
                *none = Some((lost, why));
            }
        }
        lost
    }
}

/// The error is how many bytes were not written, and why.
fn write_out(out: &mut impl Write, text: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut rest = text;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err((rest.len(), io::ErrorKind::WriteZero.into())),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares the terminal or pipe has made it so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(FULL),
            Err(error) => return Err((rest.len(), error)),
        }
    }
    out.flush().map_err(|error| (0, error))
}

/// How long a pipe is left alone that is full and does not let its writer wait. People do not notice it.
const FULL: Duration = Duration::from_millis(20);
