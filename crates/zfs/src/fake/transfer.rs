//! The two ends of a data path: starting a send, and feeding a receive.

use std::io;
use std::time::Duration;

use pump::ByteStream;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::faults::{Call, StreamFault};
use super::receive::{Admission, Session};
use super::records::{Fixed, Record};
use super::send::{Disturbance, FakeStream};
use super::{ExpectedSize, FakeZfs, Moment, Verb};
use crate::error::{Error, ErrorKind};
use crate::ops::{ReceiveArgs, SendArgs, SendSource, SendStream};
use crate::stream::{Head, Parsed, Progress, RECORD, feature, parse_begin, parse_head};

impl FakeZfs {
    pub(super) async fn start_send(&self, args: &SendArgs) -> Result<SendStream, Error> {
        let object = match &args.source {
            SendSource::Snapshot { to, .. } => format!("{}{to}", args.dataset),
            SendSource::Resume { .. } => args.dataset.to_string(),
        };
        let failed = |kind| Error::new("send", &object, kind);
        let call = self.faults.begin(Verb::Send, object.clone());
        call.pass(Moment::Before).await.map_err(failed)?;
        self.faults.count_processes("send", 1);
        let plan = self.lock().plan_send(args).map_err(failed)?;
        let (begin, expected) = (plan.head.begin.clone(), ExpectedSize::default());
        expected.set(plan.bytes());
        let disturbance = Disturbance { fault: call.stream_fault(), pace: call.pace() };
        let running = self.start("send", &object);
        let bytes: ByteStream = Box::pin(FakeStream::new(&self.inner, plan, object.clone(), disturbance, running));
        call.pass(Moment::After).await.map_err(failed)?;
        Ok(SendStream { begin, bytes, expected })
    }

    pub(super) async fn run_receive(&self, args: &ReceiveArgs, stream: ByteStream) -> Result<(), Error> {
        let object = args.dataset.to_string();
        let failed = |kind| Error::new("receive into", &object, kind);
        let call = self.faults.begin(Verb::Receive, object.clone());
        call.pass(Moment::Before).await.map_err(failed)?;
        self.faults.count_processes("recv", 1);
        let _running = self.start("recv", &object);
        self.receive_stream(args, Input::new(stream, &call, args.stall_limit))
            .await
            .map_err(|failure| failure.into_error(&object))?;
        call.pass(Moment::After).await.map_err(failed)
    }

    async fn receive_stream(&self, args: &ReceiveArgs, mut input: Input) -> Result<(), Failure> {
        let head = match input.head().await {
            Err(HeadError::Cut { resuming: true }) => return Err(self.cut_in_head(args)),
            Err(HeadError::Cut { resuming: false }) => return Err(ErrorKind::Truncated.into()),
            Err(HeadError::Other(kind)) => return Err(kind.into()),
            Ok(head) => head,
        };
        let admission = self.lock().begin_receive(args, &head)?;
        let Admission::Receive(session) = admission else { return input.drain().await };
        let mut guard = Guard { zfs: self, session: Some(session) };
        match self.receive_records(&mut guard, &mut input).await {
            Ok(()) => {
                guard.session = None;
                // What follows a compound stream's end is no concern of the snapshot any more.
                let _ = input.drain().await;
                Ok(())
            }
            Err(kind) => {
                let token = guard.interrupt();
                Err(Failure { kind: interrupted(kind, token.as_ref()), token })
            }
        }
    }

    /// A resumed stream that ends in what follows its first record is an interruption like any other.
    fn cut_in_head(&self, args: &ReceiveArgs) -> Failure {
        let token = self.lock().idle_token(&args.dataset).filter(|_| args.resumable);
        Failure { kind: interrupted(ErrorKind::Truncated, token.as_ref()), token }
    }

    async fn receive_records(&self, guard: &mut Guard<'_>, input: &mut Input) -> Result<(), ErrorKind> {
        loop {
            match input.record().await? {
                Record::Change(change) => {
                    let Some(session) = &mut guard.session else { return Err(ErrorKind::Cancelled) };
                    self.lock().receive_change(session, change)?;
                }
                Record::End(hash) => {
                    let Some(session) = &guard.session else { return Err(ErrorKind::Cancelled) };
                    return self.lock().finish_receive(session, hash);
                }
            }
        }
    }
}

/// An end of input is an interruption if something is kept; other causes keep their kind.
fn interrupted(kind: ErrorKind, token: Option<&String>) -> ErrorKind {
    match (kind, token) {
        (ErrorKind::Truncated, Some(token)) => ErrorKind::Interrupted { token: token.clone() },
        (kind, _) => kind,
    }
}

struct Failure {
    kind: ErrorKind,
    token: Option<String>,
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, token: None }
    }
}

impl Failure {
    fn into_error(self, object: &str) -> Error {
        Error::new("receive into", object, self.kind).with_resume_token(self.token)
    }
}

/// Ends the receive when its future is dropped, as `zfs recv` does when its input ends.
struct Guard<'a> {
    zfs: &'a FakeZfs,
    session: Option<Session>,
}

impl Guard<'_> {
    fn interrupt(&mut self) -> Option<String> {
        let session = self.session.take()?;
        self.zfs.lock().interrupt_receive(session)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.interrupt();
    }
}

/// Why a head could not be read.
enum HeadError {
    /// The stream ended; whether its BEGIN record had said that it resumes another.
    Cut {
        resuming: bool,
    },
    Other(ErrorKind),
}

impl HeadError {
    fn new(kind: ErrorKind, bytes: &[u8]) -> Self {
        match (kind, parse_begin(bytes)) {
            (ErrorKind::Truncated, Ok(Parsed::Done(begin))) => {
                Self::Cut { resuming: begin.features & feature::RESUMING != 0 }
            }
            (ErrorKind::Truncated, _) => Self::Cut { resuming: false },
            (kind, _) => Self::Other(kind),
        }
    }
}

/// The receiver's end of the stream: watched for stalls, with the receiver's own faults.
struct Input {
    stream: ByteStream,
    passed: u64,
    stall_limit: Duration,
    fault: Option<(u64, StreamFault)>,
}

impl Input {
    fn new(stream: ByteStream, call: &Call, stall_limit: Duration) -> Self {
        Self { stream, passed: 0, stall_limit, fault: call.stream_fault() }
    }

    async fn head(&mut self) -> Result<Head, HeadError> {
        let mut bytes = Vec::new();
        loop {
            match parse_head(&bytes) {
                Ok(Progress::Done(head)) => return Ok(head),
                Ok(Progress::NeedMore(total)) => {
                    let have = bytes.len();
                    bytes.resize(total, 0);
                    let filled = self.fill(bytes.get_mut(have..).unwrap_or_default()).await;
                    filled.map_err(|kind| HeadError::new(kind, bytes.get(..have).unwrap_or_default()))?;
                }
                Err(problem) => {
                    let words = format!("cannot receive: invalid stream ({problem})");
                    return Err(HeadError::Other(super::state::failed("recv", words)));
                }
            }
        }
    }

    async fn record(&mut self) -> Result<Record, ErrorKind> {
        let mut fixed = [0; RECORD];
        self.fill(&mut fixed).await?;
        let fixed = Fixed::new(fixed);
        // ZFS says the same of damage as of an early end.
        let mut payload = vec![0; fixed.payload_len().map_err(|_| ErrorKind::Truncated)?];
        self.fill(&mut payload).await?;
        fixed.with_payload(&payload).map_err(|_| ErrorKind::Truncated)
    }

    async fn drain(&mut self) -> Result<(), Failure> {
        let mut scrap = vec![0; 64 * 1024];
        while self.read(&mut scrap).await? > 0 {}
        Ok(())
    }

    async fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), ErrorKind> {
        while !buffer.is_empty() {
            let count = self.read(buffer).await?;
            if count == 0 {
                return Err(ErrorKind::Truncated);
            }
            buffer = buffer.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let mut limit = buffer.len() as u64;
        if let Some((byte, fault)) = &self.fault {
            if *byte <= self.passed {
                return Err(strike(fault.clone(), self.stall_limit).await);
            }
            limit = limit.min(byte - self.passed);
        }
        let part = buffer.get_mut(..usize::try_from(limit).unwrap_or(usize::MAX)).unwrap_or_default();
        let count = match tokio::time::timeout(self.stall_limit, read_some(&mut self.stream, part)).await {
            Ok(result) => result.map_err(|problem| ErrorKind::Source(problem.to_string()))?,
            Err(_) => return Err(ErrorKind::Stalled(self.stall_limit)),
        };
        self.passed += count as u64;
        Ok(count)
    }
}

async fn strike(fault: StreamFault, stall_limit: Duration) -> ErrorKind {
    match fault {
        StreamFault::Dies(kind) => kind,
        StreamFault::Ends => ErrorKind::Truncated,
        StreamFault::Stalls => {
            tokio::time::sleep(stall_limit).await;
            ErrorKind::Stalled(stall_limit)
        }
    }
}

async fn read_some(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<usize> {
    stream.read(buffer).await
}
