//! The frames that this side sends.
//!
//! A zrepl daemon dies of a frame with one byte of payload and loses an error with an empty text, so
//! neither is ever made.

use super::{FrameKind, MAX_ERROR_TEXT, STREAM_CHUNK, StreamError, header};

/// The pieces in which bytes are sent: at most `max` bytes, and never exactly one while there are two to
/// send. A single byte is the caller's to pad or to keep until more arrives.
#[derive(Debug, Clone)]
pub struct Chunks {
    left: usize,
    max: usize,
}

impl Chunks {
    /// Of `length` bytes, with `max` of 4 or more.
    pub fn new(length: usize, max: usize) -> Self {
        Self { left: length, max: max.max(4) }
    }
}

impl Iterator for Chunks {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let piece = match self.left {
            0 => return None,
            left if left == self.max + 1 => self.max - 1,
            left => left.min(self.max),
        };
        self.left -= piece;
        Some(piece)
    }
}

/// A message of this kind, with its end. A single byte cannot be sent safely and is refused, as is a
/// message that is too long.
pub fn message(kind: FrameKind, payload: &[u8]) -> Result<Vec<u8>, StreamError> {
    if payload.len() > kind.max_message() {
        return Err(StreamError::TooLong(kind));
    }
    if payload.len() == 1 {
        return Err(StreamError::SingleByte(kind));
    }
    let mut frames = Vec::with_capacity(payload.len() + 64);
    append(&mut frames, kind, payload);
    Ok(frames)
}

/// The end of a stream that failed at its source. A text that a peer could not bear is padded or cut.
pub fn stream_error(text: &str) -> Vec<u8> {
    let mut frames = Vec::with_capacity(text.len() + 64);
    append(&mut frames, FrameKind::StreamFailed, sayable(text, MAX_ERROR_TEXT).as_bytes());
    frames
}

/// The text with at least two bytes and at most `max` (a few more than two), cut between letters.
pub fn sayable(text: &str, max: usize) -> String {
    match text.len() {
        0 => "unknown error".to_owned(),
        1 => format!("{text} "),
        _ => {
            let cut = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            text.get(..cut.unwrap_or_default()).unwrap_or_default().to_owned()
        }
    }
}

fn append(frames: &mut Vec<u8>, kind: FrameKind, payload: &[u8]) {
    let mut rest = payload;
    for length in Chunks::new(payload.len(), STREAM_CHUNK) {
        let (piece, after) = rest.split_at(length.min(rest.len()));
        // No longer than `STREAM_CHUNK`.
        frames.extend(header(kind, u32::try_from(piece.len()).unwrap_or(u32::MAX)));
        frames.extend(piece);
        rest = after;
    }
    frames.extend(header(FrameKind::End, 0));
}
