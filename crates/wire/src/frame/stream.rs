//! Puts frames together: a stream is any number of frames of one kind and an end; a message is a
//! stream that fits into memory.

use thiserror::Error;

use super::{Fragment, FrameKind, MAX_ERROR_TEXT};

/// Most bytes of a failed stream's text that are read, over all frames. zrepl's texts are the end of what
/// a child process wrote.
const MAX_ERROR_READ: usize = 8 << 20;

/// A stream that cannot be read to its end. Only after [`StreamError::Source`] is the connection still
/// of use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StreamError {
    /// The peer could not read it to its end; its reason.
    #[error("stream: source error: {0}")]
    Source(String),
    /// The peer's reason is not UTF-8.
    #[error("stream: source implementation error: source error, but not encoded as UTF-8")]
    NotText,
    /// The peer's reason does not end.
    #[error("stream: the text of its error is longer than {MAX_ERROR_READ} bytes")]
    EndlessText,
    /// A frame that does not belong to the stream.
    #[error("stream: protocol error: unexpected frame type {:x} (expected {:x})", .found.number(), .expected.number())]
    Unexpected {
        /// What came.
        found: FrameKind,
        /// What the stream consists of.
        expected: FrameKind,
    },
    /// The peer ended the connection instead.
    #[error("stream: the peer ended the connection in the middle")]
    Reset,
    /// A message is longer than its kind may be.
    #[error("a message of type {:x} is longer than {} bytes", .0.number(), .0.max_message())]
    TooLong(FrameKind),
    /// A message of this side has one byte, which would kill a zrepl peer. No message of the protocol has.
    #[error("a message of type {:x} with a single byte cannot be sent", .0.number())]
    SingleByte(FrameKind),
}

/// What a fragment means for the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// Bytes of the stream, perhaps none.
    Data(&'a [u8]),
    /// Nothing: a heartbeat, or part of a text.
    Nothing,
    /// Its end, all well.
    End,
}

/// Reads one stream.
#[derive(Debug)]
pub struct StreamReader {
    kind: FrameKind,
    /// What the peer says went wrong; any text at all, even an empty one, means failure.
    text: Option<Vec<u8>>,
    text_length: usize,
}

impl StreamReader {
    /// Of frames of this kind.
    pub fn new(kind: FrameKind) -> Self {
        Self { kind, text: None, text_length: 0 }
    }

    /// Takes the next fragment of the connection. Must not be called again after the end or an error.
    pub fn accept<'a>(&mut self, fragment: Fragment<'a>) -> Result<Item<'a>, StreamError> {
        match fragment {
            Fragment::Heartbeat => Ok(Item::Nothing),
            Fragment::Reset => Err(StreamError::Reset),
            Fragment::End => self.end().map(|()| Item::End),
            Fragment::Payload(FrameKind::StreamFailed, text) => self.keep_text(text).map(|()| Item::Nothing),
            Fragment::Payload(kind, bytes) if kind == self.kind && self.text.is_none() => Ok(Item::Data(bytes)),
            Fragment::Payload(found, _) => {
                let expected = if self.text.is_none() { self.kind } else { FrameKind::StreamFailed };
                Err(StreamError::Unexpected { found, expected })
            }
        }
    }

    fn keep_text(&mut self, piece: &[u8]) -> Result<(), StreamError> {
        self.text_length = self.text_length.saturating_add(piece.len());
        if self.text_length > MAX_ERROR_READ {
            return Err(StreamError::EndlessText);
        }
        let kept = self.text.get_or_insert_default();
        let room = MAX_ERROR_TEXT.saturating_sub(kept.len());
        kept.extend(piece.iter().take(room));
        Ok(())
    }

    fn end(&mut self) -> Result<(), StreamError> {
        let Some(text) = self.text.take() else { return Ok(()) };
        let cut = text.len() < self.text_length;
        match std::str::from_utf8(&text) {
            Ok(text) => Err(StreamError::Source(text.to_owned())),
            // The place where a long text was cut may lie within a letter.
            Err(error) if cut && error.error_len().is_none() => Err(StreamError::Source(
                String::from_utf8_lossy(text.get(..error.valid_up_to()).unwrap_or_default()).into(),
            )),
            Err(_) => Err(StreamError::NotText),
        }
    }
}

/// Reads one message. Memory grows with what has arrived, not with what is announced.
#[derive(Debug)]
pub struct MessageReader {
    stream: StreamReader,
    bytes: Vec<u8>,
}

impl MessageReader {
    /// Of frames of this kind.
    pub fn new(kind: FrameKind) -> Self {
        Self { stream: StreamReader::new(kind), bytes: Vec::new() }
    }

    /// Takes the next fragment of the connection; the message once it is whole.
    pub fn accept(&mut self, fragment: Fragment<'_>) -> Result<Option<Vec<u8>>, StreamError> {
        match self.stream.accept(fragment)? {
            Item::Nothing => Ok(None),
            Item::End => Ok(Some(std::mem::take(&mut self.bytes))),
            Item::Data(piece) => {
                let kind = self.stream.kind;
                if piece.len() > kind.max_message().saturating_sub(self.bytes.len()) {
                    return Err(StreamError::TooLong(kind));
                }
                self.bytes.extend_from_slice(piece);
                Ok(None)
            }
        }
    }
}
