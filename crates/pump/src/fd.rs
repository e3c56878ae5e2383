//! Descriptors that do not block.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
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

/// The reading end of a pipe.
#[derive(Debug)]
pub struct PipeReader(pipe::Receiver);

impl PipeReader {
    /// Makes the descriptor one that does not block. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// It is no pipe that can be read; those of the runtime.
    pub fn new(pipe: OwnedFd) -> io::Result<Self> {
        pipe::Receiver::from_owned_fd(pipe).map(Self)
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

#[cfg(target_os = "linux")]
impl Bytes for PipeReader {
    fn poll_move(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let moved = self.0.try_io(|| match splice(self.0.as_fd(), to, most) {
                // The end is read, like everything that is not bytes.
                Ok(0) => Ok(Moved::Read),
                Ok(length) => Ok(Moved::Bytes(length)),
                // It does not say which end would block.
                Err(rustix::io::Errno::AGAIN) if readable(self.0.as_fd()) => Ok(Moved::Full),
                // A descriptor that cannot take part.
                Err(rustix::io::Errno::INVAL) => Ok(Moved::Read),
                Err(error) => Err(error.into()),
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => return Poll::Ready(moved),
            }
        }
    }

    fn ready(&self) -> Option<usize> {
        let bytes = rustix::io::ioctl_fionread(self.0.as_fd()).ok()?;
        usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)
    }
}

#[cfg(not(target_os = "linux"))]
impl Bytes for PipeReader {}

#[cfg(target_os = "linux")]
fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> rustix::io::Result<usize> {
    use rustix::pipe::SpliceFlags;
    loop {
        match rustix::pipe::splice(from, None, to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Whether a read would not block.
#[cfg(target_os = "linux")]
fn readable(from: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut poll_fd = [PollFd::from_borrowed_fd(from, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut poll_fd, Some(&now)).is_ok_and(|found| found > 0)
}
