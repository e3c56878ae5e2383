//! What a peer answers, before the gRPC library looks at it.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame, Incoming};
use tonic::Status;

use super::MAX_RESPONSE;
use super::message::{PREFIX, announced, check_fields};

/// Details of an error. Nothing here reads them, and the library panics at those that are not base64.
const DETAILS: &str = "grpc-status-details-bin";

/// An answer that the library can read, whatever the peer sent.
pub(super) fn readable(mut answer: Response<Incoming>) -> Response<Answer> {
    strip(answer.headers_mut());
    answer.map(|body| Answer { body, held: BytesMut::new(), trailers: None })
}

fn strip(headers: &mut HeaderMap) {
    headers.remove(DETAILS);
}

/// The body of an answer. A message is passed on when it is there: the library sets memory aside for what
/// is announced.
pub(super) struct Answer {
    body: Incoming,
    held: BytesMut,
    /// What follows the messages.
    trailers: Option<Frame<Bytes>>,
}

impl Answer {
    /// The next message with its length.
    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(announced) = announced(&self.held) else { return Ok(None) };
        if announced > MAX_RESPONSE {
            // The library refuses it.
            return Ok(Some(self.held.split().freeze()));
        }
        let length = PREFIX + announced;
        if self.held.len() < length {
            return Ok(None);
        }
        let message = self.held.split_to(length).freeze();
        check_fields(message.get(PREFIX..).unwrap_or_default())?;
        Ok(Some(message))
    }

    /// Nothing more comes: what is cut stays so, and announces nothing.
    fn rest(&mut self) -> Option<Frame<Bytes>> {
        self.held.truncate(PREFIX - 1);
        match self.held.is_empty() {
            true => self.trailers.take(),
            false => Some(Frame::data(self.held.split().freeze())),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let Some(message) = self.message()? {
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            if self.trailers.is_some() {
                return Poll::Ready(self.rest().map(Ok));
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
                return Poll::Ready(self.rest().map(Ok));
            };
            let mut frame = frame?;
            if let Some(trailers) = frame.trailers_mut() {
                strip(trailers);
                self.trailers = Some(frame);
            } else if let Some(data) = frame.data_ref() {
                self.held.extend_from_slice(data);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.trailers.is_none() && self.body.is_end_stream()
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
