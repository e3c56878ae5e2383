//! Cuts bytes into frames, keeping nothing but an unfinished header.

use thiserror::Error;

use super::{FrameKind, HEADER_LENGTH};

/// Bytes that are no frames. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Nobody knows this type.
    #[error("unknown frame type {0:x}")]
    UnknownType(u32),
    /// The peer announces more than a frame of this kind may carry.
    #[error("a frame of type {:x} with {length} bytes, at most {} are allowed", .kind.number(), .kind.max_payload())]
    TooLong {
        /// The kind.
        kind: FrameKind,
        /// The announced length, bytes.
        length: u32,
    },
    /// The connection ended in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Cut,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment<'a> {
    /// Part of a payload, or the empty payload of a whole frame. Never a sign of how long the frame is.
    Payload(FrameKind, &'a [u8]),
    /// The end of a message or stream.
    End,
    /// A sign of life.
    Heartbeat,
    /// The peer will send nothing more.
    Reset,
}

/// Reads frames from bytes as they arrive.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    header: [u8; HEADER_LENGTH],
    /// How much of `header` has arrived.
    filled: usize,
    /// The frame whose payload is arriving, and what is missing of it; never 0.
    payload: Option<(FrameKind, u32)>,
}

impl Decoder {
    /// Takes one fragment from the front of `input`; none if more bytes are needed, in which case all of
    /// `input` was taken. Must not be called again after an error.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Fragment<'a>>, FrameError> {
        if let Some((kind, missing)) = self.payload {
            return Ok(self.payload(kind, missing, input));
        }
        if !self.fill_header(input) {
            return Ok(None);
        }
        let (kind, length) = read_header(self.header)?;
        self.filled = 0;
        match kind {
            FrameKind::End => Ok(Some(Fragment::End)),
            FrameKind::Heartbeat => Ok(Some(Fragment::Heartbeat)),
            FrameKind::Reset => Ok(Some(Fragment::Reset)),
            _ if length == 0 => Ok(Some(Fragment::Payload(kind, &[]))),
            _ => {
                self.payload = Some((kind, length));
                Ok(self.payload(kind, length, input))
            }
        }
    }

    /// What is missing of the payload that is arriving. All of it may be read or moved elsewhere
    /// without looking; see [`Decoder::skip`].
    pub fn missing(&self) -> Option<(FrameKind, u32)> {
        self.payload
    }

    /// Notes that `length` bytes of the payload went another way, at most those missing.
    pub fn skip(&mut self, length: u32) {
        self.payload = self.payload.and_then(|(kind, missing)| match missing.saturating_sub(length) {
            0 => None,
            rest => Some((kind, rest)),
        });
    }

    /// Whether the connection may end here.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.payload.is_none() && self.filled == 0 {
            true => Ok(()),
            false => Err(FrameError::Cut),
        }
    }

    fn payload<'a>(&mut self, kind: FrameKind, missing: u32, input: &mut &'a [u8]) -> Option<Fragment<'a>> {
        let length = input.len().min(missing as usize);
        if length == 0 {
            return None;
        }
        let (piece, rest) = input.split_at(length);
        *input = rest;
        // The piece is no longer than `missing`, which fits.
        self.skip(u32::try_from(length).unwrap_or(missing));
        Some(Fragment::Payload(kind, piece))
    }

    /// Whether the header is complete.
    fn fill_header(&mut self, input: &mut &[u8]) -> bool {
        let free = self.header.iter_mut().skip(self.filled);
        let mut taken = 0;
        for (to, from) in free.zip(input.iter()) {
            *to = *from;
            taken += 1;
        }
        self.filled += taken;
        *input = input.get(taken..).unwrap_or_default();
        self.filled == HEADER_LENGTH
    }
}

fn read_header(bytes: [u8; HEADER_LENGTH]) -> Result<(FrameKind, u32), FrameError> {
    let both = u64::from_be_bytes(bytes);
    #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
    let (number, length) = ((both >> 32) as u32, both as u32);
    let kind = FrameKind::from_number(number).ok_or(FrameError::UnknownType(number))?;
    match length <= kind.max_payload() {
        true => Ok((kind, length)),
        false => Err(FrameError::TooLong { kind, length }),
    }
}
