//! What an endpoint wraps around the stream that it sends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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

impl AsyncRead for Sending {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.bytes.as_mut().poll_read(cx, buf) {
            self.silence = None;
            return Poll::Ready(result);
        }
        let limit = self.limit;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(silence.as_mut().poll(cx));
        // Keeps failing rather than panicking if it is read again.
        silence.as_mut().reset(Instant::now());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, format!("zfs send gave no data for {limit:?}"))))
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
