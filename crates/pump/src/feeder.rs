//! From a stream into a descriptor.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite as _, ReadBuf};

use crate::{ByteStream, Moved, PipeWriter};

/// What is read at once, bytes. A quarter of the pipe, so that both of its ends work at the same time.
const CHUNK: usize = 256 << 10;

/// What is moved at once at most, bytes: a whole pipe.
const MOVE: usize = 1 << 20;

/// The writing end of a pipe, which takes bytes from a stream.
#[derive(Debug)]
pub struct Feeder {
    to: PipeWriter,
    /// Read, and from `start` on not yet written. Empty until something must be read.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// One step of feeding.
#[derive(Debug)]
pub enum Fed {
    /// Bytes have moved on.
    Some,
    /// The stream is at its end, and all of it is in the pipe.
    End,
    /// The stream failed.
    Failed(io::Error),
    /// The reader of the pipe wants no more, or the pipe is broken.
    Refused(io::Error),
}

impl Feeder {
    /// Makes the descriptor one that does not block. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// It is no pipe that can be written; those of the runtime.
    pub fn new(to: OwnedFd) -> io::Result<Self> {
        Ok(Self { to: PipeWriter::new(to)?, buffer: Vec::new(), start: 0, end: 0 })
    }

    /// Moves some bytes. Loses none if the future is dropped.
    pub async fn feed(&mut self, from: &mut ByteStream) -> Fed {
        poll_fn(|cx| self.poll_feed(cx, from)).await
    }

    fn poll_feed(&mut self, cx: &mut Context<'_>, from: &mut ByteStream) -> Poll<Fed> {
        loop {
            if self.start < self.end {
                return match ready!(self.poll_write(cx)) {
                    Ok(()) => Poll::Ready(Fed::Some),
                    Err(error) => Poll::Ready(Fed::Refused(error)),
                };
            }
            match ready!(from.as_mut().poll_move(cx, self.to.as_fd(), MOVE)) {
                Ok(Moved::Bytes(_)) => {
                    self.buffer = Vec::new();
                    return Poll::Ready(Fed::Some);
                }
                Ok(Moved::Full) => match ready!(self.to.poll_room(cx)) {
                    Ok(()) => {}
                    Err(error) => return Poll::Ready(Fed::Refused(error)),
                },
                Ok(Moved::Read) => match ready!(self.poll_fill(cx, from)) {
                    Ok(()) if self.end == 0 => return Poll::Ready(Fed::End),
                    Ok(()) => {}
                    Err(error) => return Poll::Ready(Fed::Failed(error)),
                },
                Err(error) => return Poll::Ready(Fed::Refused(error)),
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, from: &mut ByteStream) -> Poll<io::Result<()>> {
        self.buffer.resize(CHUNK, 0);
        let mut room = ReadBuf::new(&mut self.buffer);
        ready!(from.as_mut().poll_read(cx, &mut room))?;
        (self.start, self.end) = (0, room.filled().len());
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let rest = self.buffer.get(self.start..self.end).unwrap_or_default();
        match ready!(Pin::new(&mut self.to).poll_write(cx, rest))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            length => {
                self.start += length;
                Poll::Ready(Ok(()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
