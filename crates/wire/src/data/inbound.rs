//! A stream that arrives, as its sink reads it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

use super::driver::{Conversation, Event, Failure};
use crate::frame::{FrameKind, Item, MessageReader, StreamReader};

/// Reads one message.
pub(super) async fn read_message(conversation: &mut Conversation, kind: FrameKind) -> Result<Vec<u8>, Failure> {
    let mut reader = MessageReader::new(kind);
    while let Some(event) = conversation.next().await {
        if let Some(message) = reader.accept(event.fragment())? {
            return Ok(message);
        }
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
    /// Where the connection goes when the sink drops the stream; without it, it ends.
    owner: Option<oneshot::Sender<Returned>>,
}

/// A connection whose stream is no longer read by its sink.
pub(super) struct Returned(Inbound);

impl Inbound {
    /// A stream after which the connection ends.
    pub(super) fn last(conversation: Conversation) -> Self {
        Self {
            conversation: Some(conversation),
            reader: StreamReader::new(FrameKind::Stream),
            state: State::Open,
            bytes: Bytes::new(),
            owner: None,
        }
    }

    /// A stream after which the connection is still needed.
    pub(super) fn lent(conversation: Conversation) -> (Self, oneshot::Receiver<Returned>) {
        let (owner, returned) = oneshot::channel();
        let mut stream = Self::last(conversation);
        stream.owner = Some(owner);
        (stream, returned)
    }

    /// Takes the next event.
    fn accept(&mut self, event: Option<Event>) {
        let Some(event) = event else {
            let why = self.conversation.as_ref().map_or(Failure::Closed, Conversation::failure);
            self.state = State::Failed(format!("stream: read error: {why}"));
            return;
        };
        match self.reader.accept(event.fragment()) {
            Ok(Item::Data(_)) => {
                if let Event::Payload(_, bytes) = event {
                    self.bytes = bytes;
                }
            }
            Ok(Item::Nothing) => {}
            Ok(Item::End) => self.state = State::Ended,
            Err(error) => self.state = State::Failed(error.to_string()),
        }
    }
}

impl pump::Bytes for Inbound {}

impl AsyncRead for Inbound {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.bytes.is_empty() {
            match &self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Failed(error) => return Poll::Ready(Err(io::Error::other(error.clone()))),
                State::Open => {}
            }
            let Some(conversation) = &mut self.conversation else { return Poll::Ready(Ok(())) };
            let event = ready!(conversation.poll_next(context));
            self.accept(event);
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
            let stream = Inbound {
                conversation: Some(conversation),
                reader: std::mem::replace(&mut self.reader, StreamReader::new(FrameKind::Stream)),
                state: self.state.clone(),
                bytes: Bytes::new(),
                owner: None,
            };
            // If nobody waits for it, it is dropped, which ends the connection.
            let _ = owner.send(Returned(stream));
        }
    }
}

impl Returned {
    /// Reads what the sink left, which must be little; the reason if the stream was not whole.
    pub(super) async fn drain(&mut self) -> Result<(), String> {
        self.0.bytes.clear();
        while self.0.state == State::Open {
            let Some(conversation) = &mut self.0.conversation else { break };
            let event = conversation.next().await;
            self.0.accept(event);
            self.0.bytes.clear();
        }
        match &self.0.state {
            State::Failed(error) => Err(error.clone()),
            State::Ended | State::Open => Ok(()),
        }
    }

    /// The connection, to answer on.
    pub(super) fn conversation(mut self) -> Option<Conversation> {
        self.0.conversation.take()
    }
}
