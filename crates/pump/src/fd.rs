//! Descriptors that do not block.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

use crate::{Bytes, Moved};

/// The size of pipes that streams pass through, bytes; the most that Linux gives to everyone.
#[cfg(target_os = "linux")]
const PIPE: usize = 1 << 20;

/// Makes a pipe larger, where the system can.
pub fn enlarge(pipe: impl AsFd) {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
    #[cfg(not(target_os = "linux"))]
    let _ = pipe;
}

/// The reading end of a pipe, or of whatever a child has for one.
#[derive(Debug)]
pub struct PipeReader(pipe::Receiver);

impl PipeReader {
    /// Makes the descriptor one that does not block. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// It is something that cannot be waited for, like a file.
    pub fn new(pipe: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        pipe::Receiver::from_owned_fd_unchecked(pipe).map(Self)
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Bytes for PipeReader {
    fn poll_move(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_io(|| splice(self.0.as_fd(), to, most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => return Poll::Ready(moved),
            }
        }
    }

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        loop {
            if ready!(self.0.poll_read_ready(cx)).is_err() {
                return Poll::Ready(None);
            }
            let ready = self.0.try_io(|| match rustix::io::ioctl_fionread(self.0.as_fd())? {
                0 if is_ready(self.0.as_fd(), PollFlags::IN) => Ok(None),
                0 => Err(io::ErrorKind::WouldBlock.into()),
                length => Ok(usize::try_from(length).ok()),
            });
            match ready {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Whatever is wrong is read.
                ready => return Poll::Ready(ready.unwrap_or(None)),
            }
        }
    }
}

/// The writing end of a pipe.
#[derive(Debug)]
pub struct PipeWriter(pipe::Sender);

impl PipeWriter {
    /// Makes the descriptor one that does not block. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// It is no pipe that can be written; those of the runtime.
    pub fn new(pipe: OwnedFd) -> io::Result<Self> {
        pipe::Sender::from_owned_fd(pipe).map(Self)
    }

    /// Waits after [`Moved::Full`].
    ///
    /// # Errors
    /// Those of the runtime.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            if self.0.try_io(|| writable(self.0.as_fd())).is_ok() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsFd for PipeWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A pipe for streams. Must be called within a tokio runtime.
///
/// # Errors
/// There are too many descriptors.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (writer, reader) = pipe::pipe()?;
    enlarge(&writer);
    Ok((PipeReader(reader), PipeWriter(writer)))
}

/// Moves up to `most` bytes from one descriptor to another, of which one is a pipe and none blocks.
/// [`Moved::Read`] if there are none to come, or if this cannot be done with such descriptors.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if there is nothing to move; those of either end.
#[cfg(target_os = "linux")]
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<Moved> {
    use rustix::io::Errno;
    use rustix::pipe::SpliceFlags;
    loop {
        return match rustix::pipe::splice(from, None, to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(0) | Err(Errno::INVAL) => Ok(Moved::Read),
            Ok(length) => Ok(Moved::Bytes(length)),
            Err(Errno::INTR) => continue,
            // It does not say which end would block.
            Err(Errno::AGAIN) if is_ready(from, PollFlags::IN) => Ok(Moved::Full),
            Err(error) => Err(error.into()),
        };
    }
}

/// Other systems read and write.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn splice(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: usize) -> io::Result<Moved> {
    Ok(Moved::Read)
}

/// Writes some of the bytes, of which there are some, into a descriptor that does not block.
///
/// # Errors
/// Those of the descriptor.
pub fn write(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<Moved> {
    loop {
        return match rustix::io::write(to, bytes) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => Ok(Moved::Bytes(length)),
            Err(rustix::io::Errno::AGAIN) => Ok(Moved::Full),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Whether something can be written right now.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if not.
pub fn writable(to: BorrowedFd<'_>) -> io::Result<()> {
    match is_ready(to, PollFlags::OUT) {
        true => Ok(()),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn is_ready(fd: BorrowedFd<'_>, what: PollFlags) -> bool {
    let mut poll_fd = [PollFd::from_borrowed_fd(fd, what)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut poll_fd, Some(&now)).is_ok_and(|found| found > 0)
}
