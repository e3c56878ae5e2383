//! Limits of the rate at which streams are read: a bucket of tokens, one per byte, that all streams of an
//! endpoint share.
//!
//! The bucket knows no clock. A stream that took more than there was has a debt, which is paid by waiting
//! before the next read, so that several streams together keep the rate whatever their sizes of reads.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use config::types::BandwidthLimit;
use pump::{Bytes, Moved};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use wire::ByteStream;

/// Most bytes that are read at once from a limited stream.
const LARGEST_READ: u64 = 64 * 1024;

/// The same of a stream with a small limit, which reads about a quarter of a second's worth, so that
/// streams take turns and no wait is taken for a stalled stream.
const SMALLEST_READ: u64 = 512;

/// The state of a bucket, with time as the duration since it was made.
#[derive(Debug, Clone, PartialEq)]
struct Bucket {
    /// Bytes per second, more than 0.
    rate: f64,
    /// Most tokens that unused time leaves.
    capacity: f64,
    /// Below 0 while a debt is paid.
    tokens: f64,
    /// When the tokens were counted.
    at: Duration,
}

impl Bucket {
    /// Full, as after a long rest.
    fn new(rate: f64, capacity: f64) -> Self {
        Self { rate, capacity, tokens: capacity, at: Duration::ZERO }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.capacity);
        self.at = self.at.max(now);
    }

    /// Takes tokens for bytes that were read; from when on the next may be read.
    fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        self.refill(now);
        self.tokens -= bytes as f64;
        let debt = (-self.tokens).max(0.0);
        // A rate so small that this overflows is as good as a stop.
        now.saturating_add(Duration::try_from_secs_f64(debt / self.rate).unwrap_or(Duration::MAX))
    }
}

/// The limit of one endpoint. Clones share the bucket.
#[derive(Debug, Clone, Default)]
pub struct Bandwidth(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    made: Instant,
    largest_read: usize,
    bucket: Mutex<Bucket>,
    waited: Mutex<Duration>,
}

impl Bandwidth {
    /// No limit.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// As configured.
    pub fn limited(limit: &BandwidthLimit) -> Self {
        match limit.max {
            None => Self::unlimited(),
            Some(max) => Self::new(max.get(), limit.bucket_capacity.get()),
        }
    }

    /// So many bytes per second, and so many at once after a rest.
    pub fn new(bytes_per_second: u64, capacity: u64) -> Self {
        let bucket = Bucket::new(bytes_per_second.max(1) as f64, capacity as f64);
        let largest_read = (bytes_per_second / 4).clamp(SMALLEST_READ, LARGEST_READ);
        Self(Some(Arc::new(Shared {
            made: Instant::now(),
            largest_read: usize::try_from(largest_read).unwrap_or(usize::MAX),
            bucket: Mutex::new(bucket),
            waited: Mutex::default(),
        })))
    }

    /// A stream that keeps the limit together with the others of it.
    pub fn limit(&self, bytes: ByteStream) -> ByteStream {
        match &self.0 {
            None => bytes,
            Some(shared) => Box::pin(Limited { bytes, shared: Arc::clone(shared), wait: None }),
        }
    }

    /// How long streams were made to wait, in sum.
    pub fn waited(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |shared| *shared.waited.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    /// Takes tokens for bytes that were read; until when to wait, if at all.
    fn take(&self, bytes: usize) -> Option<Instant> {
        let now = self.made.elapsed();
        let until = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(bytes as u64, now);
        if until <= now {
            return None;
        }
        // A day at most at a time: an instant far away cannot be said.
        let wait = (until - now).min(Duration::from_secs(24 * 3600));
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner) += wait;
        Some(Instant::now() + wait)
    }
}

/// A stream with a limit.
struct Limited {
    bytes: ByteStream,
    shared: Arc<Shared>,
    /// Before the next read.
    wait: Option<Pin<Box<Sleep>>>,
}

impl Limited {
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(())
    }

    fn pay(&mut self, bytes: usize) {
        self.wait = self.shared.take(bytes).map(|until| Box::pin(sleep_until(until)));
    }
}

impl Bytes for Limited {
    fn poll_move(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        ready!(self.poll_wait(cx));
        let most = self.shared.largest_read.min(most);
        let moved = ready!(self.bytes.as_mut().poll_move(cx, to, most))?;
        if let Moved::Bytes(bytes) = moved {
            self.pay(bytes);
        }
        Poll::Ready(Ok(moved))
    }

    /// In the portions in which they may leave.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        ready!(self.poll_wait(cx));
        let ready = ready!(self.bytes.as_mut().poll_ready(cx));
        Poll::Ready(ready.map(|bytes| bytes.min(self.shared.largest_read)))
    }
}

impl AsyncRead for Limited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_wait(cx));
        let most = self.shared.largest_read.min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(self.bytes.as_mut().poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        self.pay(read);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[test]
    fn a_bucket_pays_its_debt_and_saves_no_more_than_it_holds() {
        let seconds = Duration::from_secs;
        let mut bucket = Bucket::new(100.0, 50.0);
        assert_eq!(bucket.take(50, seconds(0)), seconds(0), "what it holds at first");
        assert_eq!(bucket.take(200, seconds(0)), seconds(2));
        assert_eq!(bucket.take(100, seconds(0)), seconds(3), "debts add up");
        assert_eq!(bucket.take(50, seconds(1000)), seconds(1000), "a long rest fills it");
        assert_eq!(bucket.take(100, seconds(1000)), seconds(1001), "once");
        assert_eq!(bucket.take(1, seconds(999)).as_secs(), 1000, "a clock that went back changes nothing");
    }

    fn endless() -> ByteStream {
        Box::pin(tokio::io::repeat(7))
    }

    /// Bytes of streams with different sizes of reads, read side by side for a minute.
    async fn through(limit: &Bandwidth, streams: usize) -> u64 {
        let end = Instant::now() + Duration::from_secs(60);
        let read = |number: usize| {
            let mut stream = limit.limit(endless());
            async move {
                let (mut buffer, mut sum) = (vec![0; 1000 << (2 * number)], 0);
                while let Ok(read) = tokio::time::timeout_at(end, stream.read(&mut buffer)).await {
                    sum += read.unwrap() as u64;
                }
                sum
            }
        };
        futures::future::join_all((0..streams).map(read)).await.into_iter().sum()
    }

    #[tokio::test(start_paused = true)]
    async fn parallel_streams_keep_the_rate_together() {
        for (rate, streams) in [(1 << 20, 1), (1 << 20, 4), (10 << 20, 5), (200_000, 3)] {
            let limit = Bandwidth::new(rate, 128 * 1024);
            let found = through(&limit, streams).await;
            let expected = rate * 60;
            assert!(found.abs_diff(expected) * 20 <= expected, "{found} bytes, not {expected}, by {streams} streams");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let limit = Bandwidth::unlimited();
        let mut stream = limit.limit(Box::pin(tokio::io::repeat(7).take(10_000_000)));
        let before = Instant::now();
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
        assert_eq!((before.elapsed(), limit.waited()), (Duration::ZERO, Duration::ZERO));
    }
}
