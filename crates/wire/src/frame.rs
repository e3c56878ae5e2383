//! Frames of a data connection: eight bytes of header, then a payload.
//!
//! No I/O and no clock here: bytes and times come in as values. [`decode`] cuts bytes into frames,
//! [`stream`] puts frames together to streams and messages, [`link`] decides when to send a heartbeat,
//! when the peer has been silent for too long, and in which order a connection ends.

pub mod decode;
pub mod encode;
pub mod link;
pub mod stream;

pub use decode::{Decoder, Fragment, FrameError};
pub use encode::{Chunks, message, stream_error};
pub use link::{Action, Limits, Link};
pub use stream::{Item, MessageReader, StreamError, StreamReader};

/// Bytes before the payload.
pub const HEADER_LENGTH: usize = 8;

/// Longest payload of a frame of a stream that is read, bytes. zrepl sends 512 KiB.
pub const MAX_STREAM_FRAME: u32 = 64 << 20;

/// Longest text of a failed stream that is kept, bytes; more is read and dropped.
pub const MAX_ERROR_TEXT: usize = 16 << 10;

/// Payload of a full frame of a stream that this side sends, bytes. More than 4 MiB would make a zrepl
/// peer allocate for every frame.
pub const STREAM_CHUNK: usize = 512 << 10;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// The path of the request.
    RequestHeader,
    /// The request.
    Request,
    /// Whether the request succeeded.
    ResponseHeader,
    /// The response.
    Response,
    /// Bytes of `zfs send`.
    Stream,
    /// Why a stream could not be read to its end at its source.
    StreamFailed,
    /// The end of a message or stream.
    End,
    /// A sign of life.
    Heartbeat,
    /// The last frame.
    Reset,
}

impl FrameKind {
    /// All of them.
    pub const ALL: [FrameKind; 9] = [
        FrameKind::RequestHeader,
        FrameKind::Request,
        FrameKind::ResponseHeader,
        FrameKind::Response,
        FrameKind::Stream,
        FrameKind::StreamFailed,
        FrameKind::End,
        FrameKind::Heartbeat,
        FrameKind::Reset,
    ];

    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            FrameKind::RequestHeader => 0x1,
            FrameKind::Request => 0x2,
            FrameKind::ResponseHeader => 0x3,
            FrameKind::Response => 0x4,
            FrameKind::Stream => 0x5,
            FrameKind::StreamFailed => 0x1_0000,
            FrameKind::End => 0x2_0000,
            FrameKind::Heartbeat => 0x100_0000,
            FrameKind::Reset => 0x1000_0000,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Longest payload of one such frame that is read, bytes.
    pub fn max_payload(self) -> u32 {
        match self {
            FrameKind::RequestHeader | FrameKind::ResponseHeader => 32 << 10,
            FrameKind::Request => 4 << 20,
            FrameKind::Response => 8 << 20,
            FrameKind::Stream => MAX_STREAM_FRAME,
            FrameKind::StreamFailed => 1 << 20,
            FrameKind::End | FrameKind::Heartbeat | FrameKind::Reset => 0,
        }
    }

    /// Longest message of this kind, over all its frames, bytes; zrepl's own limits. Its readers hang
    /// on a longer one.
    pub fn max_message(self) -> usize {
        self.max_payload() as usize
    }
}

/// The header of a frame.
pub fn header(kind: FrameKind, length: u32) -> [u8; HEADER_LENGTH] {
    ((u64::from(kind.number()) << 32) | u64::from(length)).to_be_bytes()
}

#[cfg(test)]
mod tests;
