//! Two file descriptors as one connection.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::{FileType, fstat};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::transport::{Connection, Transport};

/// What `zrepl stdinserver` has handed over, and the socket by which it learns of the end.
pub(super) struct Passed {
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    output: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    proxy: UnixStream,
    greeted: bool,
}

impl Passed {
    /// SSH servers use pipes or sockets; nothing else can be waited for.
    pub(super) fn new([input, output]: [OwnedFd; 2], proxy: UnixStream) -> io::Result<Self> {
        let input: Box<dyn AsyncRead + Send + Unpin> = match kind(&input)? {
            FileType::Fifo => Box::new(pipe::Receiver::from_owned_fd(input)?),
            FileType::Socket => Box::new(socket(input)?),
            _ => return Err(unusable("input")),
        };
        let output: Box<dyn AsyncWrite + Send + Unpin> = match kind(&output)? {
            FileType::Fifo => Box::new(pipe::Sender::from_owned_fd(output)?),
            FileType::Socket => Box::new(socket(output)?),
            _ => return Err(unusable("output")),
        };
        Ok(Self { input: Some(input), output: Some(output), proxy, greeted: false })
    }

    /// From now on, the end is one that was to be expected.
    pub(super) fn greeted(mut self) -> Self {
        self.greeted = true;
        self
    }
}

fn kind(descriptor: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(descriptor)?.st_mode))
}

fn unusable(what: &str) -> io::Error {
    let message = format!("its standard {what} is neither a pipe nor a socket (is it run by an SSH server?)");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn socket(descriptor: OwnedFd) -> io::Result<UnixStream> {
    let socket = BlockingStream::from(descriptor);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

impl AsyncRead for Passed {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_read(context, into),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Transport for Passed {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Connection> {
        Err(self)
    }
}

impl AsyncWrite for Passed {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.output {
            Some(output) => Pin::new(output).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe ends when it is closed; a socket may be that of the input too, which goes on.
        if let Some(mut output) = self.output.take() {
            let _ = Pin::new(&mut output).poll_shutdown(context);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.input = None;
        self.output = None;
        // The byte tells `zrepl stdinserver` that this was an orderly end. Nothing was written before, so
        // there is room for it; and if nobody reads it, nobody waits for it.
        if self.greeted {
            let _ = self.proxy.try_write(&[0]);
        }
    }
}
