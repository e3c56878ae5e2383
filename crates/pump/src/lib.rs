//! Streams of bytes, and the cheapest way from one descriptor to another.
//!
//! A [`ByteStream`] can always be read. One that comes from a pipe can also be *moved*: the kernel hands
//! its pages on to another pipe or a socket, and nobody copies them through this process. What wraps a
//! stream, to count, limit or watch it, passes the ability on. Whoever wants the bytes asks for a move and
//! reads where there is none ([`Feeder`] does both).

mod fd;
mod feeder;

pub use fd::{PipeReader, PipeWriter, enlarge, pipe, splice, writable, write};
pub use feeder::{Fed, Feeder};

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncRead;

/// Bytes of a send stream. Ends with an error, never with a clean end of file, when its source
/// failed, so that a short stream is not taken for a whole one.
pub type ByteStream = Pin<Box<dyn Bytes>>;

/// What becomes of an attempt to move bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many were moved, more than 0.
    Bytes(usize),
    /// The receiving end takes no more at present. Nothing wakes the task up: whoever owns that end waits
    /// for it.
    Full,
    /// There is nothing here that can be moved, now at least: it must be read. The end of a stream, and its
    /// errors, are read.
    Read,
}

/// A stream that can be read and perhaps moved.
pub trait Bytes: AsyncRead + Send {
    /// Moves up to `most` bytes, more than 0, into a pipe or socket that does not block. Pending while
    /// there is nothing to move.
    ///
    /// # Errors
    /// Those of the receiving end. [`io::ErrorKind::BrokenPipe`] is one that wants no more.
    fn poll_move(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        let _ = (cx, to, most);
        Poll::Ready(Ok(Moved::Read))
    }

    /// How many bytes a move finds right now, at least; pending while there are none. None if they must be
    /// read.
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let _ = cx;
        Poll::Ready(None)
    }
}

impl Bytes for tokio::io::DuplexStream {}
impl Bytes for tokio::io::Empty {}
impl Bytes for &[u8] {}
impl Bytes for tokio::io::Repeat {}
impl<T: AsRef<[u8]> + Unpin + Send> Bytes for io::Cursor<T> {}
impl<A: AsyncRead + Send, B: AsyncRead + Send> Bytes for tokio::io::Chain<A, B> {}
impl<A: AsyncRead + Send> Bytes for tokio::io::Take<A> {}

/// Some bytes that were read already, and the rest.
pub struct HeadThen {
    head: io::Cursor<Vec<u8>>,
    rest: ByteStream,
}

impl HeadThen {
    /// `head`, then `rest`.
    pub fn new(head: Vec<u8>, rest: ByteStream) -> Self {
        Self { head: io::Cursor::new(head), rest }
    }

    fn in_head(&mut self) -> bool {
        let inside = self.head.position() < self.head.get_ref().len() as u64;
        if !inside && self.head.get_ref().capacity() > 0 {
            self.head = io::Cursor::new(Vec::new());
        }
        inside
    }
}

impl AsyncRead for HeadThen {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.in_head() {
            true => Pin::new(&mut self.head).poll_read(cx, buffer),
            false => self.rest.as_mut().poll_read(cx, buffer),
        }
    }
}

impl Bytes for HeadThen {
    fn poll_move(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        match self.in_head() {
            true => Poll::Ready(Ok(Moved::Read)),
            false => self.rest.as_mut().poll_move(cx, to, most),
        }
    }

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        match self.in_head() {
            true => Poll::Ready(None),
            false => self.rest.as_mut().poll_ready(cx),
        }
    }
}
