//! The data connection: one request each, with the bytes of a stream before or after the response. Two
//! sides that have agreed to [`Keep`](crate::extension::Extension::Keep) it use it for the next request if the
//! last one was answered without an error and its stream came to its end.
//!
//! `driver` owns the connection and keeps the rules of time and shutdown; `client` and `server`
//! hold the conversation.

pub mod client;
mod driver;
mod ends;
mod inbound;
mod kept;
pub mod server;
mod shutdowns;

pub use client::DataClient;
pub use server::{Closing, serve};
pub use shutdowns::{Shutdowns, shutdowns};

use crate::frame::{FrameKind, StreamError, encode};

const PING: &str = "/v1/ping";
const SEND: &str = "/v1/send";
const RECEIVE: &str = "/v1/recv";

const OK: &str = "HANDLER OK\n";
const FAILED: &str = "HANDLER ERROR:\n";

/// Followed by the word for the error, [`WORD_END`] and the text.
const FAILED_WORD: &str = "HANDLER ERROR ";
const WORD_END: &str = ":\n";

/// A request as frames.
fn request(path: &str, message: &impl prost::Message) -> Result<Vec<u8>, StreamError> {
    let mut frames = encode::message(FrameKind::RequestHeader, path.as_bytes())?;
    frames.extend(encode::message(FrameKind::Request, &message.encode_to_vec())?);
    Ok(frames)
}

/// A response as frames.
fn response(message: &impl prost::Message) -> Result<Vec<u8>, StreamError> {
    let mut frames = encode::message(FrameKind::ResponseHeader, OK.as_bytes())?;
    frames.extend(encode::message(FrameKind::Response, &message.encode_to_vec())?);
    Ok(frames)
}

/// A refusal as frames, short enough for a zrepl peer.
fn refusal(text: &str) -> Result<Vec<u8>, StreamError> {
    let room = FrameKind::ResponseHeader.max_message() - FAILED.len();
    encode::message(FrameKind::ResponseHeader, format!("{FAILED}{}", encode::sayable(text, room)).as_bytes())
}

/// The same with the word for the error.
fn described_refusal(word: &str, text: &str) -> Result<Vec<u8>, StreamError> {
    let head = format!("{FAILED_WORD}{word}{WORD_END}");
    let room = FrameKind::ResponseHeader.max_message().saturating_sub(head.len());
    encode::message(FrameKind::ResponseHeader, format!("{head}{}", encode::sayable(text, room)).as_bytes())
}

#[cfg(test)]
mod agreed_tests;
#[cfg(test)]
mod moved_tests;
#[cfg(test)]
mod tests;
