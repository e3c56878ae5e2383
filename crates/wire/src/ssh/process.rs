//! A child that is a connection: its end, and what it says on standard error.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is kept of standard error, bytes: its end.
const KEPT: usize = 32 << 10;

/// How long the child may take to end because its input did. What was said last is on its way that long: who
/// interrupts `ssh` earlier turns an end in order into a connection that breaks on the other side.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long the child may take to end by itself when it is asked to.
const GRACE: Duration = Duration::from_secs(1);

/// How long standard error is still read after the child has ended. Only a process that left the child's
/// group, such as a master connection of `ssh`, can hold it open.
const LEFTOVERS: Duration = Duration::from_millis(100);

/// A running child. When it is dropped, the child may end by itself, is then asked to, then killed, and reaped
/// in the background.
#[derive(Debug)]
pub(super) struct Process {
    words: Arc<Mutex<Vec<u8>>>,
    ended: watch::Receiver<Option<ExitStatus>>,
    _over: DropGuard,
}

impl Process {
    /// Starts it with an empty environment, in a process group of its own, which gets no signal of a terminal.
    pub(super) fn start(program: &Path, arguments: &[OsString]) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // If the whole program ends before this.
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        pump::enlarge(&input);
        pump::enlarge(&output);
        let (over, words) = (CancellationToken::new(), Arc::<Mutex<Vec<u8>>>::default());
        let (tell, ended) = watch::channel(None);
        tokio::spawn(supervise(child, errors, Arc::clone(&words), over.clone(), tell));
        Ok((Self { words, ended, _over: over.drop_guard() }, input, output))
    }

    /// How it ended, when it has; none if the system does not tell. All its words are there then.
    pub(super) fn ended(&self) -> impl Future<Output = Option<ExitStatus>> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // An error says that whoever waited for the child is gone.
            ended.wait_for(Option::is_some).await.ok().and_then(|status| *status)
        }
    }

    /// The end of what it has said until now, in one line.
    pub(super) fn words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&words);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("; ").replace(char::is_control, "?")
    }
}

async fn supervise(
    mut child: Child,
    errors: ChildStderr,
    words: Arc<Mutex<Vec<u8>>>,
    over: CancellationToken,
    ended: watch::Sender<Option<ExitStatus>>,
) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut listening = Box::pin(listen(errors, &words));
    let waiting = async {
        tokio::select! {
            status = child.wait() => status,
            () = over.cancelled() => stop(&mut child, group).await,
        }
    };
    tokio::pin!(waiting);
    let status = tokio::select! {
        status = &mut waiting => {
            let _ = timeout(LEFTOVERS, &mut listening).await;
            status
        }
        () = &mut listening => waiting.await,
    };
    ended.send_replace(status.ok());
}

async fn stop(child: &mut Child, group: Option<Pid>) -> io::Result<ExitStatus> {
    if let Ok(status) = timeout(FAREWELL, child.wait()).await {
        // What it has started goes with it.
        signal(group, Signal::TERM);
        return status;
    }
    signal(group, Signal::TERM);
    if let Ok(status) = timeout(GRACE, child.wait()).await {
        return status;
    }
    signal(group, Signal::KILL);
    child.wait().await
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        let _ = kill_process_group(group, signal);
    }
}

async fn listen(mut errors: ChildStderr, words: &Mutex<Vec<u8>>) {
    let mut piece = Vec::with_capacity(4096);
    while let Ok(1..) = errors.read_buf(&mut piece).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.append(&mut piece);
        let surplus = words.len().saturating_sub(KEPT);
        words.drain(..surplus);
    }
}
