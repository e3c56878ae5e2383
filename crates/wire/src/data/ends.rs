//! The two halves of a connection. Those of plain TCP can have streams moved into and out of them
//! without a copy, where the system knows how.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, BytesMut};
use pump::{ByteStream, Moved, PipeWriter};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp;
use tokio_util::io::poll_read_buf;

use crate::transport::Connection;

/// Fewer bytes are cheaper to copy.
pub(super) const WORTH_MOVING: usize = 64 << 10;

/// What is read from.
pub(super) enum Reader<'a> {
    Any(ReadHalf<Connection>),
    Tcp(tcp::ReadHalf<'a>),
}

/// What is written to.
pub(super) enum Writer<'a> {
    Any(WriteHalf<Connection>),
    Tcp(tcp::WriteHalf<'a>),
}

impl Reader<'_> {
    /// Reads some bytes, up to `most`; 0 at the end. Of what is encrypted, a read gives a record of 16 KiB, and
    /// whoever passes such pieces on is woken for each: all that is there is taken at once.
    pub(super) async fn read_ready(&mut self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        let mut length = 0;
        poll_fn(|cx| {
            while length < most {
                let room = &mut (&mut *buffer).limit(most - length);
                match poll_read_buf(Pin::new(&mut *self), cx, room) {
                    Poll::Ready(Ok(read @ 1..)) => length += read,
                    // An end or an error shows again.
                    _ if length > 0 => break,
                    ended => return ended,
                }
                if let Reader::Tcp(_) = self {
                    break;
                }
            }
            Poll::Ready(Ok(length))
        })
        .await
    }

    /// The socket, if its bytes may be moved.
    pub(super) fn socket(&self) -> Option<&TcpStream> {
        match self {
            Reader::Tcp(half) if cfg!(target_os = "linux") => Some(half.as_ref()),
            Reader::Tcp(_) | Reader::Any(_) => None,
        }
    }
}

impl Writer<'_> {
    /// The socket, if bytes may be moved into it.
    pub(super) fn socket(&self) -> Option<&TcpStream> {
        match self {
            Writer::Tcp(half) if cfg!(target_os = "linux") => Some(half.as_ref()),
            Writer::Tcp(_) | Writer::Any(_) => None,
        }
    }
}

/// Moves what has arrived into a pipe, up to `most` bytes.
pub(super) fn poll_move_in(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    pipe: &PipeWriter,
    most: usize,
) -> Poll<io::Result<Moved>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        match socket.try_io(Interest::READABLE, || pump::splice(socket.as_fd(), pipe.as_fd(), most)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            moved => return Poll::Ready(moved),
        }
    }
}

/// Moves bytes of a stream out, up to `most`; waits for whichever of the two is not ready. None if they must
/// be read.
pub(super) fn poll_move_out(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    stream: &mut ByteStream,
    most: usize,
) -> Poll<io::Result<Option<usize>>> {
    loop {
        match ready!(stream.as_mut().poll_move(cx, socket.as_fd(), most))? {
            Moved::Bytes(length) => return Poll::Ready(Ok(Some(length))),
            Moved::Read => return Poll::Ready(Ok(None)),
            Moved::Full => ready!(poll_room(socket, cx))?,
        }
    }
}

fn poll_room(socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        if socket.try_io(Interest::WRITABLE, || pump::writable(socket.as_fd())).is_ok() {
            return Poll::Ready(Ok(()));
        }
    }
}

/// Writes bytes that more will follow at once: they wait for those, for a moment.
pub(super) async fn write_before_more(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    let flags = rustix::net::SendFlags::MORE | rustix::net::SendFlags::NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    let flags = rustix::net::SendFlags::empty();
    while !bytes.is_empty() {
        let send = || Ok(rustix::net::send(socket, bytes, flags)?);
        let sent = socket.async_io(Interest::WRITABLE, send).await?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

impl AsyncRead for Reader<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Reader::Any(half) => Pin::new(half).poll_read(cx, buffer),
            Reader::Tcp(half) => Pin::new(half).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Writer<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Writer::Any(half) => Pin::new(half).poll_write(cx, bytes),
            Writer::Tcp(half) => Pin::new(half).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Writer::Any(half) => Pin::new(half).poll_flush(cx),
            Writer::Tcp(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Writer::Any(half) => Pin::new(half).poll_shutdown(cx),
            Writer::Tcp(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}
