//! Where a trace goes: a file, or a client. Neither can make the daemon wait: what does not fit into a
//! queue is counted and left out.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Outlet;
use crate::limits::{TRACE_FILE_BYTES, TRACE_QUEUE};

/// A file with a trace, as a list of objects that is closed when the daemon ends. Viewers take an open
/// one too.
pub struct TraceFile {
    /// None once it is closed.
    lines: Option<SyncSender<String>>,
    /// Disconnected once everything is written.
    written: Receiver<()>,
    lost: u64,
}

impl TraceFile {
    /// Makes or empties the file. The thread that writes it ends with the trace.
    ///
    /// # Errors
    /// Those of making the file.
    pub fn create(path: &Path) -> io::Result<TraceFile> {
        Ok(TraceFile::start(File::create(path)?, TRACE_FILE_BYTES))
    }

    /// Writes at most so many bytes.
    pub(super) fn start(out: impl Write + Send + 'static, limit: u64) -> TraceFile {
        let (lines, queue) = sync_channel(TRACE_QUEUE);
        let (writing, written) = sync_channel(0);
        std::thread::spawn(move || {
            let _writing: SyncSender<()> = writing;
            // There is nowhere to complain to; what is written can be read.
            let _ = write(out, &queue, limit);
        });
        TraceFile { lines: Some(lines), written, lost: 0 }
    }
}

impl Outlet for TraceFile {
    fn take(&mut self, line: &str) -> bool {
        let Some(lines) = &self.lines else { return false };
        if self.lost > 0 && lines.try_send(lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        match lines.try_send(line.to_owned()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    fn close(&mut self, limit: Duration) {
        self.lines = None;
        // Either everything is written, or the disk is too slow to be waited for.
        let _ = self.written.recv_timeout(limit);
    }
}

/// Ends when the trace does, or when the file is as large as it may become.
fn write(out: impl Write, queue: &Receiver<String>, limit: u64) -> io::Result<()> {
    let mut out = out;
    out.write_all(b"[\n{}")?;
    let mut written = 0;
    while let Ok(first) = queue.recv() {
        let mut text = String::new();
        for line in std::iter::once(first).chain(queue.try_iter().take(TRACE_QUEUE)) {
            text += ",\n";
            text += &line;
        }
        written += u64::try_from(text.len()).unwrap_or(u64::MAX);
        if written > limit {
            out.write_all(b",\n{\"ph\":\"i\",\"s\":\"g\",\"name\":\"the file is full\",\"pid\":0,\"tid\":0,\"ts\":0}")?;
            break;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    out.write_all(b"\n]\n")?;
    out.flush()
}

/// A trace on its way to a client.
pub struct TraceStream {
    lines: mpsc::Receiver<String>,
}

impl TraceStream {
    /// The next events, one or more, each with a comma and a line feed behind it; none at the end.
    pub async fn next(&mut self) -> Option<String> {
        let mut text = self.lines.recv().await?;
        text += ",\n";
        while let Ok(line) = self.lines.try_recv() {
            text += &line;
            text += ",\n";
        }
        Some(text)
    }
}

struct Client {
    lines: mpsc::Sender<String>,
    lost: u64,
}

pub(super) fn stream() -> (impl Outlet + 'static, TraceStream) {
    let (lines, queue) = mpsc::channel(TRACE_QUEUE);
    (Client { lines, lost: 0 }, TraceStream { lines: queue })
}

impl Outlet for Client {
    fn take(&mut self, line: &str) -> bool {
        if self.lost > 0 && self.lines.try_send(lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        match self.lines.try_send(line.to_owned()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lost += 1;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

fn lost(count: u64) -> String {
    format!("{{\"ph\":\"M\",\"name\":\"lost\",\"pid\":0,\"tid\":0,\"args\":{{\"events\":{count}}}}}")
}
