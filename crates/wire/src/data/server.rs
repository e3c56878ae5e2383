//! The passive side of a data connection: one request, then the end or the next one.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::driver::{Conversation, Event, Failure, Sent};
use super::inbound::{Inbound, read_message, read_message_after};
use super::{PING, RECEIVE, SEND, described_refusal, refusal, response};
use crate::extension::Extension;
use crate::frame::{FrameKind, Limits};
use crate::handshake::Agreement;
use crate::listen::UnderWay;
use crate::pdu::{PingReq, PingRes, ReceiveReq, ReceiveRes, SendReq, convert};
use crate::remote;
use crate::service::{CallError, Endpoint};
use crate::transport::Connection;

/// How long a request may take to arrive once it has begun. Until then heartbeats are enough: some clients
/// connect ahead, while the step before is under way.
const REQUEST: Duration = Duration::from_secs(60);

/// How long a connection that has served a request waits for the next one. Who keeps it gives it up sooner, but
/// may not look.
const IDLE: Duration = Duration::from_secs(120);

/// How long the end of a stream may take once its sink is content with it.
const REST_OF_STREAM: Duration = Duration::from_secs(60);

/// How long who got a stream may take to say on its control connection that it has arrived, when the listener
/// closes: it commits what it received, and holds it. What is not said in time is found out, and made up for, when
/// both meet again.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(10);

/// How a connection hears that its listener closes, and tells that it is at something.
pub struct Closing {
    /// Cancelled when no further request is to be served.
    pub begun: CancellationToken,
    /// Called when a request has arrived; what it gives is dropped when that is served.
    pub under_way: Box<dyn Fn() -> UnderWay + Send + Sync>,
}

/// A listener that never closes.
impl Default for Closing {
    fn default() -> Closing {
        Closing { begun: CancellationToken::new(), under_way: Box::new(|| Box::new(())) }
    }
}

/// A connection that ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServeError {
    /// A request began and did not end.
    #[error("the request did not arrive within {REQUEST:?}")]
    Slow,
    /// The connection broke, or the client went away.
    #[error("{doing}: {why}")]
    Lost {
        /// What was going on.
        doing: &'static str,
        /// What happened.
        why: String,
    },
    /// What was asked for cannot be read.
    #[error(transparent)]
    Malformed(#[from] convert::Malformed),
}

/// Serves one connection of a zrepl client after its label, to its very end. An error that the client was
/// told of is not one of the connection.
pub async fn serve(
    io: Connection,
    endpoint: Arc<dyn Endpoint>,
    limits: Limits,
    agreed: Agreement,
    closing: Closing,
) -> Result<(), ServeError> {
    let server = Server { endpoint, agreed };
    let mut conversation = Conversation::begin(io, limits);
    let mut served = false;
    let closes = || closing.begun.is_cancelled();
    loop {
        let next = async {
            match served {
                true => timeout(IDLE, conversation.next()).await.ok(),
                false => Some(conversation.next().await),
            }
        };
        let Some(first) = closing.begun.run_until_cancelled(next).await.flatten() else {
            conversation.close().await;
            return Ok(());
        };
        let asked = match first {
            Some(first) => timeout(REQUEST, read_request(first, &mut conversation)).await,
            None => Ok(Err(conversation.failure())),
        };
        let (path, message) = match asked {
            Ok(Ok(asked)) => asked,
            // What is too long, or in the wrong place, can be answered all the same.
            Ok(Err(Failure::Stream(error))) => {
                refuse(conversation, &error.to_string()).await?.close().await;
                return Ok(());
            }
            Ok(Err(error)) => {
                // Who connects ahead may have nothing to ask for in the end, and says goodbye.
                let in_order = conversation.broken().is_none() || (served && error == Failure::Closed);
                conversation.close().await;
                return if in_order { Ok(()) } else { Err(lost("reading the request")(error)) };
            }
            Err(_) => {
                conversation.close().await;
                return Err(ServeError::Slow);
            }
        };
        let _under_way = (closing.under_way)();
        if closes() {
            conversation.close().await;
            return Ok(());
        }
        conversation = match server.answer(conversation, &path, &message).await? {
            Answered::Whole(conversation) if server.agreed.includes(Extension::Keep) && !closes() => conversation,
            Answered::Whole(conversation) | Answered::Last(conversation) => {
                conversation.close().await;
                if closes() && path == SEND {
                    sleep(LAST_WORDS).await;
                }
                return Ok(());
            }
        };
        served = true;
    }
}

/// What became of a request.
enum Answered {
    /// All that it was about has been said: the connection could be used for another one.
    Whole(Conversation),
    /// The connection is to be ended.
    Last(Conversation),
}

struct Server {
    endpoint: Arc<dyn Endpoint>,
    agreed: Agreement,
}

impl Server {
    async fn answer(&self, conversation: Conversation, path: &str, message: &[u8]) -> Result<Answered, ServeError> {
        match path {
            PING => ping(conversation, message).await,
            SEND => self.send(conversation, message).await,
            RECEIVE => self.receive(conversation, message).await,
            _ => refuse(conversation, "requested endpoint does not exist").await.map(Answered::Last),
        }
    }

    async fn send(&self, mut conversation: Conversation, message: &[u8]) -> Result<Answered, ServeError> {
        let request: SendReq = convert::decode("SendReq", message)?;
        let request = match convert::send_request(request) {
            Ok(request) => request,
            Err(error) => return refuse(conversation, &error.to_string()).await.map(Answered::Last),
        };
        // A client that goes away wants no stream: the step is cancelled.
        let reply = tokio::select! {
            reply = self.endpoint.send(&request) => reply,
            gone = gone(&mut conversation) => return Err(lost("starting a stream")(gone)),
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return self.fail(conversation, &error).await,
        };
        let head = convert::send_response(reply.used_resume_token, reply.expected.get().copied());
        conversation = say(conversation, response(&head)).await?;
        match conversation.send_stream(reply.stream).await.await {
            Ok(Sent::Whole) => Ok(Answered::Whole(conversation)),
            // The client was told of the error of the source.
            Ok(Sent::Failed(_)) => Ok(Answered::Last(conversation)),
            Ok(Sent::Unsent(_)) | Err(_) => Err(lost("sending a stream")(conversation.failure())),
        }
    }

    async fn receive(&self, conversation: Conversation, message: &[u8]) -> Result<Answered, ServeError> {
        let request: ReceiveReq = convert::decode("ReceiveReq", message)?;
        let request = match convert::receive_request(&request) {
            Ok(request) => request,
            Err(error) => return refuse(conversation, &error.to_string()).await.map(Answered::Last),
        };
        let (stream, returned) = Inbound::lent(conversation);
        let received = self.endpoint.receive_announced(&request, Box::pin(stream)).await;
        // The sink has dropped its stream by now, or is about to.
        let gone = |_| ServeError::Lost { doing: "receiving a stream", why: "its sink keeps it".to_owned() };
        let mut returned = returned.await.map_err(gone)?;
        // A sink may be content before the end, but the answer must not come before it.
        let received = match received {
            Err(error) => Err(error),
            Ok(()) => match timeout(REST_OF_STREAM, returned.drain()).await {
                Ok(whole) => whole.map_err(CallError::permanent),
                Err(_) => Err(CallError::permanent(format!("the stream did not end within {REST_OF_STREAM:?}"))),
            },
        };
        let gone = ServeError::Lost { doing: "receiving a stream", why: "the connection is gone".to_owned() };
        let conversation = returned.conversation().ok_or(gone)?;
        match received {
            Ok(()) => say(conversation, response(&ReceiveRes {})).await.map(Answered::Whole),
            Err(error) => {
                let broken = conversation.broken();
                // A client that has only closed its way out may still hear it.
                let told = self.fail(conversation, &error).await;
                match broken {
                    Some(why) => Err(lost("receiving a stream")(why)),
                    None => told,
                }
            }
        }
    }

    /// Tells the client of an error of the endpoint.
    async fn fail(&self, conversation: Conversation, error: &CallError) -> Result<Answered, ServeError> {
        let text = error.to_string();
        let frames = match self.agreed.includes(Extension::Errors) {
            true => described_refusal(remote::word(error), &text),
            false => refusal(&text),
        };
        say(conversation, frames).await.map(Answered::Last)
    }
}

async fn read_request(first: Event, conversation: &mut Conversation) -> Result<(String, Vec<u8>), Failure> {
    let header = read_message_after(first, conversation, FrameKind::RequestHeader).await?;
    let message = read_message(conversation, FrameKind::Request).await?;
    Ok((String::from_utf8_lossy(&header).into_owned(), message))
}

async fn ping(conversation: Conversation, message: &[u8]) -> Result<Answered, ServeError> {
    let request: PingReq = convert::decode("PingReq", message)?;
    say(conversation, response(&PingRes { echo: request.message })).await.map(Answered::Whole)
}

async fn refuse(conversation: Conversation, text: &str) -> Result<Conversation, ServeError> {
    say(conversation, refusal(text)).await
}

async fn say(
    conversation: Conversation,
    frames: Result<Vec<u8>, crate::frame::StreamError>,
) -> Result<Conversation, ServeError> {
    let doing = "answering";
    let frames = frames.map_err(|error| ServeError::Lost { doing, why: error.to_string() })?;
    conversation.send(frames).await.map_err(lost(doing))?;
    Ok(conversation)
}

/// Returns when the client ends the connection, or sends what it must not.
async fn gone(conversation: &mut Conversation) -> Failure {
    match conversation.next().await {
        Some(_) => Failure::Unexpected,
        None => conversation.failure(),
    }
}

fn lost(doing: &'static str) -> impl Fn(Failure) -> ServeError {
    move |why| ServeError::Lost { doing, why: why.to_string() }
}
