//! A stream that arrives, as its sink reads it.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use pump::{Moved, PipeReader};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

use super::driver::{Conversation, Event, Failure};
use crate::frame::{FrameKind, Item, MessageReader, StreamReader};

/// Reads one message.
pub(super) async fn read_message(conversation: &mut Conversation, kind: FrameKind) -> Result<Vec<u8>, Failure> {
    match read_message_if_any(conversation, kind).await? {
        Some(message) => Ok(message),
        None => Err(conversation.failure()),
    }
}

/// Reads one message; none if the connection ends before the first byte of it.
pub(super) async fn read_message_if_any(
    conversation: &mut Conversation,
    kind: FrameKind,
) -> Result<Option<Vec<u8>>, Failure> {
    match conversation.next().await {
        Some(first) => read_message_after(first, conversation, kind).await.map(Some),
        None => Ok(None),
    }
}

/// Reads one message of which something has come.
pub(super) async fn read_message_after(
    first: Event,
    conversation: &mut Conversation,
    kind: FrameKind,
) -> Result<Vec<u8>, Failure> {
    let (mut reader, mut event) = (MessageReader::new(kind), Some(first));
    while let Some(arrived) = event {
        if let Some(message) = reader.accept(arrived.fragment())? {
            return Ok(message);
        }
        event = conversation.next().await;
    }
    Err(conversation.failure())
}

/// How far a stream got.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed(String),
}

/// The bytes of a stream. Ends with an error unless the peer said that it is whole.
pub(super) struct Inbound {
    /// Taken when it is given back.
    conversation: Option<Conversation>,
    reader: StreamReader,
    state: State,
    /// Arrived, and not yet read.
    bytes: Bytes,
    /// Where large payloads arrive, once there was one.
    pipe: Option<PipeReader>,
    /// What is in it; all of it comes after `bytes`.
    piped: usize,
    /// Where the connection goes when the sink drops the stream; without it, it ends.
    owner: Option<oneshot::Sender<Returned>>,
}

/// A connection whose stream is no longer read by its sink.
pub(super) struct Returned(Inbound);

impl Inbound {
    /// A stream after which the connection ends.
    pub(super) fn last(conversation: Conversation) -> Self {
        Self::new(conversation, StreamReader::new(FrameKind::Stream), State::Open)
    }

    fn new(conversation: Conversation, reader: StreamReader, state: State) -> Self {
        Self { conversation: Some(conversation), reader, state, bytes: Bytes::new(), pipe: None, piped: 0, owner: None }
    }

    /// A stream after which the connection is still needed.
    pub(super) fn lent(conversation: Conversation) -> (Self, oneshot::Receiver<Returned>) {
        let (owner, returned) = oneshot::channel();
        let mut stream = Self::last(conversation);
        stream.owner = Some(owner);
        (stream, returned)
    }

    /// Nobody reads what has arrived. Without its other end, the pipe takes no more.
    fn forget(&mut self) {
        self.bytes.clear();
        (self.pipe, self.piped) = (None, 0);
    }

    /// Takes the next event.
    fn accept(&mut self, event: Option<Event>) {
        let Some(event) = event else {
            let why = self.conversation.as_ref().map_or(Failure::Closed, Conversation::failure);
            self.state = State::Failed(format!("stream: read error: {why}"));
            return;
        };
        match self.reader.accept(event.fragment()) {
            Ok(Item::Data(_)) => match event {
                Event::Payload(_, bytes) => self.bytes = bytes,
                Event::Piped(length, pipe) => {
                    self.piped += length;
                    self.pipe = pipe.or(self.pipe.take());
                }
                Event::End => {}
            },
            Ok(Item::Nothing) => {}
            Ok(Item::End) => self.state = State::Ended,
            Err(error) => self.state = State::Failed(error.to_string()),
        }
    }
}

impl Inbound {
    /// Waits until there is something: bytes, or an end.
    fn poll_some(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.bytes.is_empty() && self.piped == 0 && self.state == State::Open {
            let Some(conversation) = &mut self.conversation else { break };
            let event = ready!(conversation.poll_next(context));
            self.accept(event);
        }
        Poll::Ready(())
    }

    fn poll_pipe(&mut self, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gone = || io::Error::other("the pipe of the stream is gone");
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Err(gone())) };
        let length = room.remaining().min(self.piped);
        let mut part = ReadBuf::new(room.initialize_unfilled_to(length));
        ready!(Pin::new(pipe).poll_read(context, &mut part))?;
        let length = part.filled().len();
        if length == 0 {
            return Poll::Ready(Err(gone()));
        }
        room.advance(length);
        self.piped = self.piped.saturating_sub(length);
        Poll::Ready(Ok(()))
    }
}

impl pump::Bytes for Inbound {
    fn poll_move(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<Moved>> {
        ready!(self.poll_some(context));
        let Self { bytes, piped, pipe, .. } = &mut *self;
        match pipe {
            Some(pipe) if bytes.is_empty() && *piped > 0 => {
                let moved = ready!(Pin::new(pipe).poll_move(context, to, most.min(*piped)))?;
                if let Moved::Bytes(length) = moved {
                    *piped = piped.saturating_sub(length);
                }
                Poll::Ready(Ok(moved))
            }
            _ if bytes.is_empty() => Poll::Ready(Ok(Moved::Read)),
            // Into the descriptor itself: who reads copies once more.
            _ => {
                let written = pump::write(to, bytes.get(..most.min(bytes.len())).unwrap_or_default())?;
                if let Moved::Bytes(length) = written {
                    bytes.advance(length);
                }
                Poll::Ready(Ok(written))
            }
        }
    }
}

impl AsyncRead for Inbound {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_some(context));
        if self.bytes.is_empty() && self.piped > 0 {
            return self.poll_pipe(context, room);
        }
        if let (State::Failed(error), true) = (&self.state, self.bytes.is_empty()) {
            return Poll::Ready(Err(io::Error::other(error.clone())));
        }
        let length = room.remaining().min(self.bytes.len());
        room.put_slice(self.bytes.get(..length).unwrap_or_default());
        self.bytes.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let (Some(owner), Some(conversation)) = (self.owner.take(), self.conversation.take()) {
            let reader = std::mem::replace(&mut self.reader, StreamReader::new(FrameKind::Stream));
            let stream = Inbound::new(conversation, reader, self.state.clone());
            // If nobody waits for it, it is dropped, which ends the connection.
            let _ = owner.send(Returned(stream));
        }
    }
}

impl Returned {
    /// Reads what the sink left, which must be little; the reason if the stream was not whole.
    pub(super) async fn drain(&mut self) -> Result<(), String> {
        self.0.forget();
        while self.0.state == State::Open {
            let Some(conversation) = &mut self.0.conversation else { break };
            let event = conversation.next().await;
            self.0.accept(event);
            self.0.forget();
        }
        match &self.0.state {
            State::Failed(error) => Err(error.clone()),
            State::Ended | State::Open => Ok(()),
        }
    }

    /// Whether the peer said that the stream is whole, and its sink has seen it.
    pub(super) fn is_whole(&self) -> bool {
        self.0.state == State::Ended
    }

    /// The connection, to answer on.
    pub(super) fn conversation(mut self) -> Option<Conversation> {
        self.0.conversation.take()
    }
}
