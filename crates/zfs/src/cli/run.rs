//! Children: started in a process group of their own, watched, and always reaped.
//!
//! Nothing here knows what a command means. Every wait is a single step that can be dropped at any
//! time; a dropped [`Process`] kills its group and is reaped in the background.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, timeout_at};

use super::CliConfig;
use super::argv::{Argv, Class, Program};
use super::classify::{self, classify};
use super::parse::{Lines, Unexpected};
use super::record::{Entry, Observer, Registry};
use super::usage::{Reaped, reap};
use crate::error::{ChildFailure, Error, ErrorKind};

/// How long output is still read after the child has ended and its group is killed. Only a
/// descendant that left the group can hold the pipe open, and nothing that counts comes from it.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(2);

/// How long a killed child is waited for in place; one that is stuck in the kernel, as on a suspended
/// pool, is reaped in the background whenever that ends.
const REAP_LIMIT: Duration = Duration::from_secs(1);

/// What is kept of standard error. The longest real message of one object is a resume token of about
/// 1 KiB behind a few lines of text.
const STDERR_TAIL: usize = 32 * 1024;

/// The same for commands with many objects, which print a line for each.
const STDERR_TAIL_BULK: usize = 1024 * 1024;

/// Starts children.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) config: Arc<CliConfig>,
    pub(crate) observer: Observer,
    pub(crate) registry: Arc<Registry>,
}

/// Which pipes a child gets besides standard error. Standard input is closed otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pipes {
    Output,
    Input,
}

/// How a command failed that has not said anything about its object yet.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The words do not fit into the argument area.
    TooLong,
    /// Before it ran, or because of a limit.
    Kind(ErrorKind),
    /// It ran and failed.
    Child(Ended),
}

impl Failure {
    /// As an error of an operation.
    pub(crate) fn into_error(self, operation: &'static str, object: impl ToString) -> Error {
        match self {
            Failure::TooLong => Error::new(operation, object, ErrorKind::ArgumentsTooLong),
            Failure::Kind(kind) => Error::new(operation, object, kind),
            Failure::Child(ended) => ended.error(operation, object),
        }
    }
}

/// A child that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Ended {
    /// The error that this is, if it is taken as a failure.
    pub(crate) fn error(&self, operation: &'static str, object: impl ToString) -> Error {
        let object = object.to_string();
        let kind = self.kind(&object);
        Error::new(operation, object, kind).with_child(self.failure())
    }

    /// Why it failed.
    pub(crate) fn kind(&self, object: &str) -> ErrorKind {
        match self.status.signal() {
            Some(signal) => ErrorKind::Killed { command: self.command.clone(), signal },
            None => classify(&self.stderr, object).unwrap_or_else(|| self.unknown()),
        }
    }

    pub(crate) fn failure(&self) -> ChildFailure {
        self.failure_saying(self.stderr.clone())
    }

    /// The same with the words about one of many objects.
    pub(crate) fn failure_saying(&self, stderr: String) -> ChildFailure {
        ChildFailure { command: self.command.clone(), status: self.status_text(), stderr }
    }

    fn unknown(&self) -> ErrorKind {
        let words: Vec<&str> = classify::lines(&self.stderr).collect();
        let stderr = if words.is_empty() { "(no message)".to_owned() } else { words.join("; ") };
        ErrorKind::Failed { command: self.command.clone(), status: self.status_text(), stderr }
    }

    fn status_text(&self) -> String {
        self.status.to_string()
    }
}

impl Runner {
    /// Starts a child.
    pub(crate) fn spawn(&self, argv: &Argv, pipes: Pipes) -> Result<Process, Failure> {
        if let Some(name) = &argv.refused {
            return Err(Failure::Kind(ErrorKind::Name(name.clone())));
        }
        let (program, name) = match argv.program {
            Program::Zfs => (&self.config.zfs, "zfs"),
            Program::Zpool => (&self.config.zpool, "zpool"),
        };
        let path = program.to_string_lossy().into_owned();
        let words: Vec<String> = std::iter::once(path.clone()).chain(argv.args.iter().cloned()).collect();
        let command = shorten(name, &argv.args);
        match start(program, argv, pipes) {
            Ok(mut child) => Ok(Process {
                stdin: child.stdin.take(),
                stdout: child.stdout.take(),
                stderr: Stderr::new(child.stderr.take(), argv),
                command,
                guard: Guard::new(child, |pid| self.registry.started(&self.observer, pid, path, words)),
            }),
            Err(problem) => {
                self.registry.not_started(&self.observer, path.clone(), words, problem.to_string());
                if problem.kind() == std::io::ErrorKind::ArgumentListTooLong {
                    return Err(Failure::TooLong);
                }
                Err(Failure::Kind(ErrorKind::NotStarted { program: path, problem: problem.to_string() }))
            }
        }
    }

    /// Runs a command to its end, handing over its output line by line. Success is an exit status of
    /// zero; a failed command's output has been handed over too.
    pub(crate) async fn lines(
        &self,
        argv: &Argv,
        line: &mut (dyn FnMut(&str) -> Result<(), Unexpected> + Send),
    ) -> Result<Ended, Failure> {
        let limit = self.config.deadlines.of(argv.class);
        let mut process = self.spawn(argv, Pipes::Output)?;
        let outcome = timeout_at(Instant::now() + limit, process.read_lines(line)).await;
        let command = process.command.clone();
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(unexpected)) => {
                process.kill().await;
                return Err(Failure::Kind(ErrorKind::Output { command, problem: unexpected.into_problem() }));
            }
            Err(_elapsed) => {
                process.kill().await;
                return Err(Failure::Kind(ErrorKind::Deadline(limit)));
            }
        }
        let ended = process.ended();
        if ended.status.success() { Ok(ended) } else { Err(Failure::Child(ended)) }
    }

    /// Runs a command whose output does not matter.
    pub(crate) async fn run(&self, argv: &Argv) -> Result<Ended, Failure> {
        self.lines(argv, &mut |_| Ok(())).await
    }

    /// Runs a command that prints one line.
    pub(crate) async fn one_line(&self, argv: &Argv) -> Result<String, Failure> {
        let mut first = None;
        self.lines(argv, &mut |line| {
            first.get_or_insert_with(|| line.to_owned());
            Ok(())
        })
        .await?;
        Ok(first.unwrap_or_default())
    }
}

fn start(program: &OsString, argv: &Argv, pipes: Pipes) -> std::io::Result<Child> {
    let (stdin, stdout) = match pipes {
        Pipes::Output => (Stdio::null(), Stdio::piped()),
        Pipes::Input => (Stdio::piped(), Stdio::null()),
    };
    tokio::process::Command::new(program)
        .args(&argv.args)
        .env("LC_ALL", "C")
        .env("LANG", "C")
        .env_remove("LANGUAGE")
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// A command line for people; one with thousands of names keeps its beginning.
fn shorten(name: &str, args: &[String]) -> String {
    const LONGEST: usize = 600;
    let whole = std::iter::once(name).chain(args.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    if whole.len() <= LONGEST {
        return whole;
    }
    let head: String = whole.chars().take(LONGEST).collect();
    format!("{head}… ({} arguments)", args.len())
}

/// A child with its pipes. The order of the fields is that of their end: the read end of the output
/// is closed before the child is waited for, because a kernel thread that writes a send stream is
/// woken by that and not by the signal.
pub(crate) struct Process {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Stderr,
    pub(crate) command: String,
    guard: Guard,
}

impl Process {
    /// Waits for the end while reading standard error; then nothing of the child's group is left.
    pub(crate) async fn exited(&mut self) {
        loop {
            tokio::select! {
                _ = self.guard.wait() => return,
                () = self.stderr.read_some() => {}
            }
        }
    }

    /// Kills the group and waits for the end, but not for ever.
    pub(crate) async fn kill(&mut self) {
        self.stdin = None;
        self.stdout = None;
        self.guard.kill();
        let _ = tokio::time::timeout(REAP_LIMIT, self.guard.wait()).await;
    }

    /// Waits for the end, and reads what is left of standard error.
    pub(crate) async fn finish(&mut self) {
        self.exited().await;
        let _ = tokio::time::timeout(LEFTOVER_LIMIT, self.stderr.read_all()).await;
    }

    /// The end of a finished child.
    pub(crate) fn ended(&self) -> Ended {
        Ended {
            command: self.command.clone(),
            status: self.guard.status.unwrap_or(unknown_status()),
            stderr: self.stderr.text(),
        }
    }

    pub(super) async fn read_lines(
        &mut self,
        line: &mut (dyn FnMut(&str) -> Result<(), Unexpected> + Send),
    ) -> Result<(), Unexpected> {
        let mut lines = Lines::default();
        let mut buffer = vec![0; 64 * 1024];
        let mut limit = None;
        while let Some(stdout) = &mut self.stdout {
            tokio::select! {
                biased;
                read = stdout.read(&mut buffer) => match read {
                    Ok(0) => self.stdout = None,
                    // The rest of a listing may be missing, whatever the child says of itself.
                    Err(problem) => return Err(Unexpected::unreadable(&problem)),
                    Ok(n) => lines.push(buffer.get(..n).unwrap_or_default(), &mut *line)?,
                },
                () = self.stderr.read_some() => {}
                _ = self.guard.wait(), if limit.is_none() => limit = Some(Instant::now() + LEFTOVER_LIMIT),
                () = tokio::time::sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => {
                    self.stdout = None;
                }
            }
        }
        self.finish().await;
        lines.finish(line)
    }
}

/// Owns the child itself.
#[derive(Debug)]
struct Guard {
    child: Option<Child>,
    group: Option<Pid>,
    entry: Arc<Entry>,
    status: Option<ExitStatus>,
}

impl Guard {
    fn new(child: Child, register: impl FnOnce(Option<u32>) -> Entry) -> Self {
        let pid = child.id();
        let group = pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Self { child: Some(child), group, entry: Arc::new(register(pid)), status: None }
    }

    /// Can be dropped and called again.
    async fn wait(&mut self) -> ExitStatus {
        if let Some(child) = &mut self.child {
            let reaped = reap(child).await;
            self.child = None;
            // Descendants that the child left behind. The group's number cannot belong to somebody
            // else yet: the kernel gives a number again only after all others.
            self.kill();
            self.entry.finished(reaped);
            self.status = reaped.status;
        }
        self.status.unwrap_or(unknown_status())
    }

    fn kill(&self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.kill();
        let entry = Arc::clone(&self.entry);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move { entry.finished(reap(&mut child).await) });
            }
            // Outside of a runtime, tokio reaps the child itself when its next one runs.
            Err(_) => entry.finished(Reaped { status: child.try_wait().ok().flatten(), used: None }),
        }
    }
}

/// For a child whose end the system would not tell: never taken for success.
fn unknown_status() -> ExitStatus {
    ExitStatus::from_raw(0xff00)
}

/// Which lines of standard error are kept.
pub(crate) type Keep = Box<dyn FnMut(&str) -> bool + Send>;

/// The reading end of standard error and the tail of what came.
pub(crate) struct Stderr {
    pipe: Option<ChildStderr>,
    tail: Vec<u8>,
    limit: usize,
    keep: Option<(Keep, Lines)>,
}

impl Stderr {
    fn new(pipe: Option<ChildStderr>, argv: &Argv) -> Self {
        let limit = if argv.class == Class::Change { STDERR_TAIL_BULK } else { STDERR_TAIL };
        Self { pipe, tail: Vec::new(), limit, keep: None }
    }

    /// Hands each line to `keep` as it comes, and keeps those for which it says so.
    pub(crate) fn filter(&mut self, keep: Keep) {
        self.keep = Some((keep, Lines::default()));
    }

    /// Reads once; for ever pending at the end, so that it can stand in a `select!`.
    pub(crate) async fn read_some(&mut self) {
        std::future::poll_fn(|cx| match self.poll_read(cx) {
            Poll::Ready(true) => Poll::Ready(()),
            Poll::Ready(false) | Poll::Pending => Poll::Pending,
        })
        .await;
    }

    /// Reads what is known to be there, without waiting for more.
    pub(crate) async fn read_available(&mut self) {
        std::future::poll_fn(|cx| {
            self.poll_drain(cx);
            Poll::Ready(())
        })
        .await;
    }

    async fn read_all(&mut self) {
        while std::future::poll_fn(|cx| self.poll_read(cx)).await {}
    }

    /// Takes whatever is there.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(true) = self.poll_read(cx) {}
    }

    /// Whether something came; false at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut space = [0; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(false) };
        let result = std::task::ready!(Pin::new(pipe).poll_read(cx, &mut buffer));
        if result.is_err() || buffer.filled().is_empty() {
            self.pipe = None;
            self.take(b"\n"); // a last line without an end
            return Poll::Ready(false);
        }
        self.take(buffer.filled());
        Poll::Ready(true)
    }

    fn take(&mut self, bytes: &[u8]) {
        match self.keep.take() {
            None => self.tail.extend_from_slice(bytes),
            Some((mut keep, mut lines)) => {
                let tail = &mut self.tail;
                let _ = lines.push(bytes, |line| {
                    if keep(line) {
                        tail.extend_from_slice(line.as_bytes());
                        tail.push(b'\n');
                    }
                    Ok::<(), ()>(())
                });
                // A line that never ends is not one that `keep` wants.
                if lines.pending() > self.limit {
                    lines = Lines::default();
                }
                self.keep = Some((keep, lines));
            }
        }
        if self.tail.len() > self.limit {
            let excess = self.tail.len() - self.limit;
            self.tail.drain(..excess);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }
}
