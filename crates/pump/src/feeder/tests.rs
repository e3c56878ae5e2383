use std::io::{Cursor, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::{Bytes, HeadThen, PipeReader};

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
}

/// A pipe whose writing end blocks, for a thread.
fn source(bytes: Vec<u8>) -> PipeReader {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    std::thread::spawn(move || {
        let mut file = std::fs::File::from(write);
        let mut rest = &bytes[..];
        for size in [1, 7, 4096, 70_000, 312].into_iter().cycle() {
            let piece = rest.len().min(size);
            file.write_all(&rest[..piece]).unwrap();
            rest = &rest[piece..];
            if rest.is_empty() {
                return;
            }
        }
    });
    PipeReader::new(read).unwrap()
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// How often bytes were moved, and read.
#[derive(Default)]
struct Ways(std::sync::Arc<std::sync::Mutex<(usize, usize)>>);

struct Watching(ByteStream, Ways);

impl tokio::io::AsyncRead for Watching {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.0.as_mut().poll_read(cx, buffer);
        self.1.0.lock().unwrap().1 += buffer.filled().len() - before;
        polled
    }
}

impl Bytes for Watching {
    fn poll_move(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: std::os::fd::BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        let polled = self.0.as_mut().poll_move(cx, to, most);
        if let Poll::Ready(Ok(Moved::Bytes(moved))) = polled {
            self.1.0.lock().unwrap().0 += moved;
        }
        polled
    }
}

/// Feeds a stream into a pipe that is read slowly; what arrives, how many bytes were moved and read.
async fn through(stream: ByteStream) -> (Vec<u8>, usize, usize) {
    let ways = Ways::default();
    let seen = std::sync::Arc::clone(&ways.0);
    let mut stream: ByteStream = Box::pin(Watching(stream, ways));
    let (read, write) = pipe();
    let reader = tokio::spawn(async move {
        let (mut reader, mut all) = (PipeReader::new(read).unwrap(), Vec::new());
        let mut piece = vec![0; 10_000];
        loop {
            tokio::task::yield_now().await;
            match reader.read(&mut piece).await.unwrap() {
                0 => return all,
                length => all.extend_from_slice(&piece[..length]),
            }
        }
    });
    let mut feeder = Feeder::new(write).unwrap();
    loop {
        match feeder.feed(&mut stream).await {
            Fed::Some => {}
            Fed::End => break,
            other => panic!("{other:?}"),
        }
    }
    drop(feeder);
    let (moved, copied) = *seen.lock().unwrap();
    (reader.await.unwrap(), moved, copied)
}

#[tokio::test]
async fn moved_bytes_are_the_same_as_copied_ones() {
    let wanted = bytes(3_000_000);
    let head = wanted[..5000].to_vec();
    let rest = wanted[5000..].to_vec();
    let mixed: ByteStream = Box::pin(HeadThen::new(head, Box::pin(source(rest))));
    let (found, moved, copied) = through(mixed).await;
    assert!(found == wanted);
    #[cfg(target_os = "linux")]
    assert_eq!((moved, copied), (wanted.len() - 5000, 5000), "only the head is copied");
    assert_eq!(moved + copied, wanted.len());

    let (found, moved, _) = through(Box::pin(Cursor::new(wanted.clone()))).await;
    assert!(found == wanted);
    assert_eq!(moved, 0);
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_any_more_refuses() {
    for stream in [Box::pin(source(bytes(100_000))) as ByteStream, Box::pin(Cursor::new(bytes(100_000)))] {
        let mut stream = stream;
        let (read, write) = pipe();
        drop(read);
        let mut feeder = Feeder::new(write).unwrap();
        let fed = feeder.feed(&mut stream).await;
        assert!(matches!(&fed, Fed::Refused(error) if error.kind() == io::ErrorKind::BrokenPipe), "{fed:?}");
        // The thread that fills the pipe sees the end of it.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    }
}

#[tokio::test]
async fn waiting_costs_nothing_and_loses_nothing() {
    let (from, to_stream) = pipe();
    let mut stream: ByteStream = Box::pin(PipeReader::new(from).unwrap());
    let (read, write) = pipe();
    let mut feeder = Feeder::new(write).unwrap();
    // Nothing there: the wait can be given up, again and again.
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::from_millis(1), feeder.feed(&mut stream)).await.is_err());
    }
    rustix::io::write(&to_stream, b"one").unwrap();
    assert!(matches!(feeder.feed(&mut stream).await, Fed::Some));
    // Full: the same.
    let filler = vec![0; 1 << 20];
    while rustix::io::write(feeder.to.as_fd(), &filler).is_ok() {}
    rustix::io::write(&to_stream, b"two").unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1), feeder.feed(&mut stream)).await.is_err());
    let mut reader = PipeReader::new(read).unwrap();
    let mut piece = vec![0; 1 << 20];
    let mut last = reader.read(&mut piece).await.unwrap();
    assert_eq!(&piece[..3], b"one");
    assert!(matches!(feeder.feed(&mut stream).await, Fed::Some));
    drop((feeder, to_stream));
    let mut tail = piece[..last].to_vec();
    while last > 0 {
        last = reader.read(&mut piece).await.unwrap();
        tail.extend_from_slice(&piece[..last]);
    }
    assert!(tail.ends_with(b"two"));
}
