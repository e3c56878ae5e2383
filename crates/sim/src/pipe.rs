//! The far end of a stream that the network carries.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// What passes through a stream of the network.
pub enum Piece {
    /// Some bytes.
    Data(Vec<u8>),
    /// There are no more.
    End,
    /// Whoever wrote them failed.
    Failed(String),
}

/// Reads what the network carries; without an end, the connection was reset.
pub struct Pipe {
    pieces: mpsc::Receiver<Piece>,
    current: Vec<u8>,
    read: usize,
    ended: bool,
}

impl Pipe {
    /// Reads these pieces.
    pub fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, current: Vec::new(), read: 0, ended: false }
    }
}

impl pump::Bytes for Pipe {}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.read == self.current.len() && !self.ended {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Piece::Data(data)) => {
                    self.current = data;
                    self.read = 0;
                }
                Some(Piece::End) => self.ended = true,
                Some(Piece::Failed(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let take = buf.remaining().min(self.current.len() - self.read);
        let end = self.read + take;
        if let Some(bytes) = self.current.get(self.read..end) {
            buf.put_slice(bytes);
        }
        self.read = end;
        Poll::Ready(Ok(()))
    }
}
