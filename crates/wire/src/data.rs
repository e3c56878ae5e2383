//! The data connection: one request each, with the bytes of a stream before or after the response.
//!
//! `driver` owns the connection and keeps the rules of time and shutdown; `client` and `server`
//! hold the conversation.

pub mod client;
mod driver;
mod ends;
mod inbound;
pub mod server;
mod shutdowns;

pub use client::DataClient;
pub use server::serve;
pub use shutdowns::{Shutdowns, shutdowns};

use crate::frame::{FrameKind, StreamError, encode};

const PING: &str = "/v1/ping";
const SEND: &str = "/v1/send";
const RECEIVE: &str = "/v1/recv";

const OK: &str = "HANDLER OK\n";
const FAILED: &str = "HANDLER ERROR:\n";

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

#[cfg(test)]
mod tests;
