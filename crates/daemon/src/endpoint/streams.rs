//! What an endpoint wraps around the stream that it sends.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pump::{Bytes, Moved};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use wire::ByteStream;

use super::locks::Guard;

/// A stream that keeps its filesystem locked until it is dropped, and fails when its source is silent
/// for too long.
pub(super) struct Sending {
    bytes: ByteStream,
    limit: Duration,
    /// Runs while a reader waits.
    silence: Option<Pin<Box<Sleep>>>,
    _guard: Guard,
}

impl Sending {
    pub(super) fn new(bytes: ByteStream, limit: Duration, guard: Guard) -> Self {
        Self { bytes, limit, silence: None, _guard: guard }
    }
}

impl Sending {
    /// While there is nothing: the error when it is for too long. Told again and again, so that reading on
    /// does not hang.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.limit;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(silence.as_mut().poll(cx));
        // A timer that is over must not be polled.
        silence.as_mut().reset(Instant::now());
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, format!("zfs send gave no data for {limit:?}")))
    }
}

impl AsyncRead for Sending {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.bytes.as_mut().poll_read(cx, buf) {
            self.silence = None;
            return Poll::Ready(result);
        }
        let error = ready!(self.poll_silence(cx));
        Poll::Ready(Err(error))
    }
}

impl Bytes for Sending {
    fn poll_move(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        if let Poll::Ready(result) = self.bytes.as_mut().poll_move(cx, to, most) {
            self.silence = None;
            return Poll::Ready(result);
        }
        // The error is read.
        ready!(self.poll_silence(cx));
        Poll::Ready(Ok(Moved::Read))
    }

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        if let Poll::Ready(result) = self.bytes.as_mut().poll_ready(cx) {
            self.silence = None;
            return Poll::Ready(result);
        }
        // The error is read.
        self.poll_silence(cx).map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::locks::Locks;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_stream_and_data_does_not() {
        let locks = Locks::default();
        let guard = locks.lock(&()).await.unwrap();
        let (mut source, bytes) = tokio::io::duplex(8);
        let mut stream = Sending::new(Box::pin(bytes), Duration::from_secs(10), guard);
        let feed = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                source.write_all(b"x").await.unwrap();
            }
            source
        };
        let mut got = [0; 5];
        let (source, read) = tokio::join!(feed, stream.read_exact(&mut got));
        read.unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(stream.read_u8().await.is_err());
        drop((stream, source));
        assert!(locks.lock(&()).await.is_some(), "the lock goes with the stream");
    }
}
