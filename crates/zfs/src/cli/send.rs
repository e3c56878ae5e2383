//! Sends: the stream of a child that fails with the child's own error, and its estimate.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use pump::{Bytes, Moved, PipeReader};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::argv;
use super::classify;
use super::run::{Pipes, Process, Runner};
use crate::error::{Error, ErrorKind};
use crate::ops::{ExpectedSize, SendArgs, SendSource, SendStream};
use crate::stream::{BeginRecord, Parsed, parse_begin};

const OPERATION: &str = "send";

/// What is read at once until the head is complete.
const HEAD_CHUNK: usize = 64 * 1024;

pub(crate) async fn send(runner: &Runner, args: &SendArgs) -> Result<SendStream, Error> {
    let object = object(args);
    let mut process =
        runner.spawn(&argv::send(args), Pipes::Output).map_err(|failure| failure.into_error(OPERATION, &object))?;
    let expected = ExpectedSize::default();
    process.stderr.filter(note_size(expected.clone()));
    if let Some(stdout) = &process.stdout {
        pump::enlarge(stdout);
    }
    let limit = runner.config.deadlines.send_start;
    let head = timeout_at(Instant::now() + limit, read_head(&mut process, &object)).await;
    match head {
        Ok(Ok((begin, head))) => {
            let failed = |error: io::Error| Error::new(OPERATION, &object, ErrorKind::Source(error.to_string()));
            let reader = SendReader::new(process, head, object.clone()).map_err(failed)?;
            Ok(SendStream { begin, bytes: Box::pin(reader), expected })
        }
        Ok(Err(error)) => {
            process.kill().await;
            Err(error)
        }
        Err(_elapsed) => {
            process.kill().await;
            Err(Error::new(OPERATION, object, ErrorKind::Deadline(limit)))
        }
    }
}

fn object(args: &SendArgs) -> String {
    match &args.source {
        SendSource::Snapshot { to, .. } => argv::version(&args.dataset, to),
        SendSource::Resume { .. } => args.dataset.to_string(),
    }
}

/// Keeps what is no report of a healthy send, and notes the size.
fn note_size(expected: ExpectedSize) -> super::run::Keep {
    Box::new(move |line| {
        if let Some(size) = classify::send_size(line) {
            expected.set(size);
        }
        !classify::is_send_chatter(line)
    })
}

/// Reads until the head of the stream is complete. The bytes that were read for it are returned too.
async fn read_head(process: &mut Process, object: &str) -> Result<(BeginRecord, Vec<u8>), Error> {
    let mut head = Vec::new();
    let mut chunk = vec![0; HEAD_CHUNK];
    loop {
        match parse_begin(&head) {
            Ok(Parsed::Done(begin)) => {
                // The size was printed before the first byte.
                process.stderr.read_available().await;
                return Ok((begin, head));
            }
            Ok(Parsed::NeedMore(_)) => {}
            Err(problem) => {
                let command = process.command.clone();
                return Err(Error::new(OPERATION, object, ErrorKind::Output { command, problem: problem.to_string() }));
            }
        }
        let n = read_some(process, &mut chunk).await;
        if n == 0 {
            process.stdout = None;
            process.finish().await;
            return Err(ended_without_stream(process, object));
        }
        head.extend_from_slice(chunk.get(..n).unwrap_or_default());
    }
}

/// Reads once, and standard error meanwhile; 0 at the end.
async fn read_some(process: &mut Process, chunk: &mut [u8]) -> usize {
    let Some(stdout) = &mut process.stdout else { return 0 };
    loop {
        tokio::select! {
            read = stdout.read(chunk) => return read.unwrap_or(0),
            () = process.stderr.read_some() => {}
        }
    }
}

fn ended_without_stream(process: &Process, object: &str) -> Error {
    let ended = process.ended();
    if ended.status.success() {
        let problem = "the stream ends within its head".to_owned();
        return Error::new(OPERATION, object, ErrorKind::Output { command: ended.command, problem });
    }
    ended.error(OPERATION, object)
}

/// What a send would transfer.
pub(crate) async fn estimate(runner: &Runner, args: &SendArgs) -> Result<Option<u64>, Error> {
    let mut size = None;
    let mut line = |line: &str| {
        size = size.or_else(|| classify::send_size(line));
        Ok(())
    };
    let outcome = runner.lines(&argv::estimate_send(args), &mut line).await;
    outcome.map_err(|failure| failure.into_error("estimate the send of", object(args)))?;
    Ok(size)
}

/// The bytes of a send. The end is clean only if the child's was.
pub(super) struct SendReader {
    state: State,
    object: String,
}

enum State {
    Streaming(Box<Streaming>),
    Ending(Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>),
    Ended(Result<(), Error>),
}

struct Streaming {
    /// None at the end. Closed before the process is ended.
    pipe: Option<PipeReader>,
    process: Process,
    /// What was read already, and how much of it was passed on.
    head: Vec<u8>,
    passed: usize,
}

impl SendReader {
    pub(super) fn new(mut process: Process, head: Vec<u8>, object: String) -> io::Result<Self> {
        let stdout =
            process.stdout.take().map(|stdout| stdout.into_owned_fd().and_then(PipeReader::new)).transpose()?;
        Ok(Self { state: State::Streaming(Box::new(Streaming { pipe: stdout, process, head, passed: 0 })), object })
    }
}

impl AsyncRead for SendReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Streaming(streaming) => {
                    let Streaming { pipe, process, head, passed } = &mut **streaming;
                    if let Some(rest) = head.get(*passed..).filter(|rest| !rest.is_empty()) {
                        let n = rest.len().min(buffer.remaining());
                        buffer.put_slice(rest.get(..n).unwrap_or_default());
                        *passed += n;
                        return Poll::Ready(Ok(()));
                    }
                    (*head, *passed) = (Vec::new(), 0);
                    process.stderr.poll_drain(cx);
                    match std::task::ready!(poll_pipe(pipe, cx, buffer)) {
                        Ok(true) => return Poll::Ready(Ok(())),
                        Ok(false) => {}
                        Err(problem) => {
                            this.fail(&problem);
                            continue;
                        }
                    }
                }
                State::Ending(end) => {
                    let result = std::task::ready!(end.as_mut().poll(cx));
                    this.state = State::Ended(result);
                    continue;
                }
                State::Ended(Ok(())) => return Poll::Ready(Ok(())),
                State::Ended(Err(error)) => return Poll::Ready(Err(io::Error::other(error.clone()))),
            }
            this.end();
        }
    }
}

impl Bytes for SendReader {
    fn poll_move(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        match &mut self.state {
            State::Streaming(streaming) if streaming.passed == streaming.head.len() => {
                streaming.process.stderr.poll_drain(cx);
                match &mut streaming.pipe {
                    Some(pipe) => Pin::new(pipe).poll_move(cx, to, most),
                    None => Poll::Ready(Ok(Moved::Read)),
                }
            }
            _ => Poll::Ready(Ok(Moved::Read)),
        }
    }

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        match &mut self.state {
            State::Streaming(streaming) if streaming.passed == streaming.head.len() => {
                streaming.process.stderr.poll_drain(cx);
                match &mut streaming.pipe {
                    Some(pipe) => Pin::new(pipe).poll_ready(cx),
                    None => Poll::Ready(None),
                }
            }
            _ => Poll::Ready(None),
        }
    }
}

impl SendReader {
    /// The output cannot be read: whatever the child says of itself, bytes are missing.
    fn fail(&mut self, problem: &io::Error) {
        let State::Streaming(streaming) = &self.state else { return };
        let command = streaming.process.command.clone();
        let problem = format!("the stream cannot be read: {problem}");
        // The child ends with its guard.
        self.state = State::Ended(Err(Error::new(OPERATION, &self.object, ErrorKind::Output { command, problem })));
    }

    /// From the end of the output to the end of the child.
    fn end(&mut self) {
        let object = self.object.clone();
        let streaming = std::mem::replace(&mut self.state, State::Ended(Ok(())));
        if let State::Streaming(streaming) = streaming {
            let Streaming { pipe, mut process, .. } = *streaming;
            self.state = State::Ending(Box::pin(async move {
                drop(pipe);
                process.finish().await;
                let ended = process.ended();
                if ended.status.success() { Ok(()) } else { Err(ended.error(OPERATION, object)) }
            }));
        }
    }
}

/// Whether bytes came; false at the end of the output, of which the child knows the reason.
fn poll_pipe(pipe: &mut Option<PipeReader>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
    let Some(stdout) = pipe else { return Poll::Ready(Ok(false)) };
    let before = buffer.filled().len();
    std::task::ready!(Pin::new(stdout).poll_read(cx, buffer))?;
    Poll::Ready(Ok(buffer.filled().len() > before))
}
