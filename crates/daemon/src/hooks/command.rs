//! Programs as hooks: started without arguments in a process group of their own, told what it is about
//! by their environment, and read line by line.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use model::event::{Hook, HookEdge, OutputStream};
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::{Instant, timeout, timeout_at};

use super::Scene;
use crate::limits::{HOOK_LEFTOVERS, HOOK_LINE_BYTES, HOOK_REAP, HOOK_SAID_LINE_BYTES, HOOK_SAID_LINES};

/// A program that runs before and after snapshots.
pub(super) struct Command {
    /// Its path, or a name that is looked up in `PATH`.
    pub path: PathBuf,
}

/// Why a program counts as failed. Whoever tells it names the hook, which is the path of the program.
#[derive(Debug, Error)]
pub(super) enum CommandError {
    /// It did not start.
    #[error("cannot start {path}: {source} (is it there, executable, and does its first line name its interpreter?)")]
    NotStarted {
        /// The program.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system does not tell how it ended.
    #[error("cannot wait for {path}: {source}")]
    NotWaited {
        /// The program.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// It said so itself, or a signal ended it.
    #[error("{status}; {said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said at last.
        said: Said,
    },
    /// It took too long.
    #[error(
        "timed out after {limit:?} and was killed with all that it had started (see what it waits for, or raise its \
         `timeout`); {said}"
    )]
    TimedOut {
        /// Its `timeout`.
        limit: Duration,
        /// What it said at last.
        said: Said,
    },
}

impl Command {
    /// Runs one edge to its end or to its timeout.
    ///
    /// What the program leaves behind in the background after it ended in time is let live, as a lock
    /// that the other edge releases may be held so. It is not waited for, even if it holds the pipe.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub(super) async fn run(&self, edge: HookEdge, limit: Duration, scene: &Scene) -> Result<(), CommandError> {
        let path = self.path.display().to_string();
        let deadline = Instant::now() + limit;
        let mut child =
            self.start(edge, limit, scene).map_err(|source| CommandError::NotStarted { path: path.clone(), source })?;
        let mut output = Output::new(&mut child, &path, scene);
        let mut group = Group::of(&child);
        let status = match timeout_at(deadline, output.until_exit(&mut child)).await {
            Ok(status) => {
                group.release();
                status
            }
            Err(_elapsed) => {
                group.kill();
                let _ = timeout(HOOK_REAP, output.until_exit(&mut child)).await;
                group.release();
                output.finish().await;
                let said = output.log.said;
                return Err(CommandError::TimedOut { limit, said });
            }
        };
        output.finish().await;
        let status = status.map_err(|source| CommandError::NotWaited { path: path.clone(), source })?;
        if status.success() {
            return Ok(());
        }
        let said = output.log.said;
        Err(CommandError::Failed { status, said })
    }

    fn start(&self, edge: HookEdge, limit: Duration, scene: &Scene) -> io::Result<Child> {
        let edge = match edge {
            HookEdge::Pre => "pre_snapshot",
            HookEdge::Post => "post_snapshot",
        };
        tokio::process::Command::new(&self.path)
            .env("ZREPL_HOOKTYPE", edge)
            .env("ZREPL_FS", scene.filesystem.as_str())
            .env("ZREPL_SNAPNAME", scene.snapshot.as_str())
            .env("ZREPL_TIMEOUT", limit.as_secs().to_string())
            // Scripts of zrepl's manual look at it; it says `true` for a dry run, which there is none of.
            .env("ZREPL_DRYRUN", "")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
    }
}

/// The process group of a child that has not been waited for; killed when dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())))
    }

    fn kill(&self) {
        if let Some(group) = self.0 {
            // It fails only if nothing of the group is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Lets what is left of the group live.
    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

type Pipe = Box<dyn AsyncRead + Send + Unpin>;

/// The output of a child on its way to the log.
struct Output<'a> {
    stdout: Source,
    stderr: Source,
    log: Log<'a>,
}

/// One of its two ends.
struct Source {
    pipe: Option<Pipe>,
    stream: OutputStream,
    buffer: Vec<u8>,
    line: Vec<u8>,
}

/// What of the output becomes events.
struct Log<'a> {
    hook: &'a str,
    scene: &'a Scene,
    left: u64,
    cut: u64,
    said: Said,
}

/// The end of what a program wrote.
#[derive(Debug, Default)]
pub(super) struct Said {
    stdout: VecDeque<String>,
    stderr: VecDeque<String>,
}

impl Said {
    fn add(&mut self, stream: OutputStream, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let lines = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        if lines.len() == HOOK_SAID_LINES {
            lines.pop_front();
        }
        let kept = line.len().min(HOOK_SAID_LINE_BYTES);
        let cut = if kept < line.len() { "…" } else { "" };
        lines.push_back(String::from_utf8_lossy(line.get(..kept).unwrap_or_default()).into_owned() + cut);
    }
}

/// Programs complain on standard error; of one that does not, the other one may tell.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = if self.stderr.is_empty() { &self.stdout } else { &self.stderr };
        if lines.is_empty() {
            return write!(f, "it said nothing");
        }
        write!(f, "it said: ")?;
        for (index, line) in lines.iter().enumerate() {
            write!(f, "{}{line}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl<'a> Output<'a> {
    fn new(child: &mut Child, hook: &'a str, scene: &'a Scene) -> Output<'a> {
        let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as Pipe);
        let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as Pipe);
        Output {
            stdout: Source::new(stdout, OutputStream::Stdout),
            stderr: Source::new(stderr, OutputStream::Stderr),
            log: Log { hook, scene, left: scene.log_bytes, cut: 0, said: Said::default() },
        }
    }

    /// Reads until the child has ended. Can be dropped and called again.
    async fn until_exit(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = child.wait() => return status,
                count = self.stdout.read(), if self.stdout.pipe.is_some() => self.stdout.take(count, &mut self.log),
                count = self.stderr.read(), if self.stderr.pipe.is_some() => self.stderr.take(count, &mut self.log),
            }
        }
    }

    /// Reads what is left in the pipes, but does not wait long for it, and ends the last lines.
    async fn finish(&mut self) {
        let Output { stdout, stderr, log } = self;
        let _ = timeout(HOOK_LEFTOVERS, async {
            while stdout.pipe.is_some() || stderr.pipe.is_some() {
                tokio::select! {
                    count = stdout.read(), if stdout.pipe.is_some() => stdout.take(count, log),
                    count = stderr.read(), if stderr.pipe.is_some() => stderr.take(count, log),
                }
            }
        })
        .await;
        stdout.end_line(log);
        stderr.end_line(log);
        log.finish();
    }
}

impl Source {
    fn new(pipe: Option<Pipe>, stream: OutputStream) -> Source {
        Source { pipe, stream, buffer: vec![0; 16 * 1024], line: Vec::new() }
    }

    /// Reads once; how many bytes came. An end or an error closes the pipe.
    async fn read(&mut self) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        let count = pipe.read(&mut self.buffer).await.unwrap_or(0);
        if count == 0 {
            self.pipe = None;
        }
        count
    }

    fn take(&mut self, count: usize, log: &mut Log<'_>) {
        let read = self.buffer.get(..count).unwrap_or_default();
        split(read, &mut self.line, |line| log.line(self.stream, line));
    }

    /// The last line may lack its line feed.
    fn end_line(&mut self, log: &mut Log<'_>) {
        self.pipe = None;
        if !self.line.is_empty() {
            log.line(self.stream, &self.line);
            self.line.clear();
        }
    }
}

/// Splits what was read into lines, of which the last may be unfinished and is kept; one that is too
/// long comes in pieces.
fn split(mut read: &[u8], unfinished: &mut Vec<u8>, mut line: impl FnMut(&[u8])) {
    while !read.is_empty() {
        let room = HOOK_LINE_BYTES.saturating_sub(unfinished.len());
        let (piece, rest, complete) = match read.iter().position(|byte| *byte == b'\n') {
            Some(end) if end <= room => (read.get(..end), read.get(end + 1..), true),
            _ if read.len() <= room => (Some(read), None, false),
            _ => (read.get(..room), read.get(room..), true),
        };
        unfinished.extend_from_slice(piece.unwrap_or_default());
        if complete {
            line(unfinished);
            unfinished.clear();
        }
        read = rest.unwrap_or_default();
    }
}

impl Log<'_> {
    fn line(&mut self, stream: OutputStream, line: &[u8]) {
        self.said.add(stream, line);
        let kept = line.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= kept as u64;
        self.cut += (line.len() - kept) as u64;
        if kept == 0 && (self.left == 0 || !line.is_empty()) {
            return;
        }
        let line = String::from_utf8_lossy(line.get(..kept).unwrap_or_default());
        let line = line.strip_suffix('\r').unwrap_or(&line).to_owned();
        self.scene.tell(Hook::Output { hook: self.hook.to_owned(), stream, line });
    }

    fn finish(&mut self) {
        if self.cut > 0 {
            self.scene.tell(Hook::OutputCut { hook: self.hook.to_owned(), bytes: self.cut });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_standard_error_is_what_it_said_else_that_of_standard_output() {
        let said = |lines: &[(OutputStream, &str)]| {
            let mut said = Said::default();
            lines.iter().for_each(|(stream, line)| said.add(*stream, line.as_bytes()));
            said.to_string()
        };
        let (out, err) = (OutputStream::Stdout, OutputStream::Stderr);
        assert_eq!(said(&[(err, " \r")]), "it said nothing");
        assert_eq!(said(&[(out, "one\r"), (out, " two")]), "it said: one; two");
        assert_eq!(said(&[(out, "one"), (err, "bad"), (err, ""), (out, "two")]), "it said: bad");
        let many: Vec<String> = (0..=HOOK_SAID_LINES).map(|number| format!("<{number}>")).collect();
        let many: Vec<_> = many.iter().map(|line| (err, line.as_str())).collect();
        assert_eq!((said(&many).contains("<0>"), said(&many).contains("<1>; <2>;")), (false, true));
        assert_eq!(said(&[(err, &"x".repeat(5000))]).chars().filter(|c| *c == 'x').count(), HOOK_SAID_LINE_BYTES);
    }

    fn lines(reads: &[&[u8]]) -> (Vec<usize>, Vec<u8>) {
        let (mut lines, mut unfinished) = (Vec::new(), Vec::new());
        for read in reads {
            split(read, &mut unfinished, |line| lines.push(line.len()));
        }
        (lines, unfinished)
    }

    #[test]
    fn lines_do_not_depend_on_how_they_were_read_and_long_ones_come_in_pieces() {
        assert_eq!(lines(&[b"ab", b"c\n\nde"]), (vec![3, 0], b"de".to_vec()));
        let long = [b'x'; HOOK_LINE_BYTES + 3];
        assert_eq!(lines(&[&long, b"\n"]), (vec![HOOK_LINE_BYTES, 3], Vec::new()));
        assert_eq!(lines(&[&long[3..], b"\n"]).0.iter().sum::<usize>(), HOOK_LINE_BYTES);
    }
}
