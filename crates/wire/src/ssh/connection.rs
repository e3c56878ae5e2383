//! The child's standard input and output as one connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::process::Process;

use crate::transport::{Connection, Transport};

/// How long an unexpected end of the connection waits for the child's, which tells why.
const WHY: Duration = Duration::from_millis(250);

type Why = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A connection over `ssh`. To shut it down closes the way out; to drop it ends the child.
pub(super) struct SshConnection {
    /// None once it is shut down.
    input: Option<ChildStdin>,
    output: ChildStdout,
    process: Process,
    why: Option<Why>,
}

impl SshConnection {
    pub(super) fn new(process: Process, input: ChildStdin, output: ChildStdout) -> Self {
        Self { input: Some(input), output, process, why: None }
    }

    /// What the child says if it has failed; none if it has not, or not said anything soon enough.
    fn poll_why(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Error>> {
        let ended = self.process.ended();
        let why = self.why.get_or_insert_with(|| {
            Box::pin(async { matches!(timeout(WHY, ended).await, Ok(Some(status)) if !status.success()) })
        });
        let failed = ready!(why.as_mut().poll(context));
        self.why = None;
        let words = if failed { self.process.words() } else { String::new() };
        let error = || io::Error::new(io::ErrorKind::ConnectionReset, format!("ssh has failed: {words}"));
        Poll::Ready((!words.is_empty()).then(error))
    }
}

impl AsyncRead for SshConnection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        if self.why.is_none() {
            ready!(Pin::new(&mut self.output).poll_read(context, into))?;
            // When this side is done too, the end is the expected one.
            if into.filled().len() > before || into.remaining() == 0 || self.input.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(ready!(self.poll_why(context)).map_or(Ok(()), Err))
    }
}

impl Transport for SshConnection {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Connection> {
        Err(self)
    }
}

impl AsyncWrite for SshConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(input) = &mut self.input else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        Pin::new(input).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}
