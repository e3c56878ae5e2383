//! What a peer answers, before the gRPC library looks at it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Details of an error. Nothing here reads them, and the library panics at those that are not base64.
const DETAILS: &str = "grpc-status-details-bin";

/// An answer that the library can read, whatever the peer sent.
pub(super) fn readable(mut answer: Response<Incoming>) -> Response<Answer> {
    strip(answer.headers_mut());
    answer.map(Answer)
}

fn strip(headers: &mut HeaderMap) {
    headers.remove(DETAILS);
}

/// The body of an answer.
pub(super) struct Answer(Incoming);

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.0).poll_frame(context));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            strip(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
