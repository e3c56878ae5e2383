//! The active side of data connections: one for each request.

use std::sync::{Arc, OnceLock};

use pump::ByteStream;

use super::driver::{Conversation, Failure};
use super::inbound::{Inbound, read_message};
use super::{FAILED, OK, PING, RECEIVE, SEND, request};
use crate::frame::{FrameKind, Limits};
use crate::handshake::Label;
use crate::pdu::{PingReq, PingRes, ReceiveReq, ReceiveRes, SendReq, SendRes, convert};
use crate::remote;
use crate::service::{CallError, ReceiveRequest, SendReply, SendRequest};
use crate::transport::{Dialer, Greeting, greet};

/// Makes requests, each on a connection of its own.
#[derive(Clone)]
pub struct DataClient {
    dialer: Arc<dyn Dialer>,
    greeting: Greeting,
    limits: Limits,
}

impl DataClient {
    /// A client that greets its peer so.
    pub fn new(dialer: Arc<dyn Dialer>, greeting: Greeting, limits: Limits) -> Self {
        Self { dialer, greeting, limits }
    }

    /// Whether the peer answers, with the text it is sent.
    pub async fn ping(&self, text: &str) -> Result<(), CallError> {
        let mut conversation = self.ask(PING, &PingReq { message: text.to_owned() }).await?;
        let answer: PingRes = self.answer(&mut conversation, PING, "PingRes").await?;
        match answer.echo == text {
            true => Ok(()),
            false => Err(CallError::permanent("the peer answers a ping with another text")),
        }
    }

    /// Asks the peer for a step.
    pub async fn send(&self, step: &SendRequest) -> Result<SendReply, CallError> {
        let mut conversation = self.ask(SEND, &SendReq::from(step)).await?;
        let answer: SendRes = self.answer(&mut conversation, SEND, "SendRes").await?;
        let expected = Arc::<OnceLock<u64>>::default();
        if answer.expected_size > 0 {
            let _ = expected.set(answer.expected_size);
        }
        let stream = Box::pin(Inbound::last(conversation));
        Ok(SendReply { used_resume_token: answer.used_resume_token, expected, stream })
    }

    /// Has the peer receive a step. Its own error counts more than what this side saw of the connection
    /// or of the stream's source.
    pub async fn receive(&self, step: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        let mut conversation = self.ask(RECEIVE, &ReceiveReq::from(step)).await?;
        let mut sent = conversation.send_stream(stream).await.map_err(|error| lost(RECEIVE, &error))?;
        let answer: Result<ReceiveRes, CallError> = self.answer(&mut conversation, RECEIVE, "ReceiveRes").await;
        match (answer, sent.try_recv()) {
            (Ok(_), Ok(Ok(()))) => Ok(()),
            (Err(CallError::Connection(_)), Ok(Err(source))) => {
                Err(remote::refusal(&format!("the stream failed: {source}")))
            }
            (Err(error), _) => Err(error),
            (Ok(_), Ok(Err(source))) => {
                Err(CallError::permanent(format!("the peer took a stream for whole that failed: {source}")))
            }
            (Ok(_), Err(_)) => Err(CallError::permanent("the peer took a stream for whole before its end")),
        }
    }

    async fn ask(&self, path: &str, message: &impl prost::Message) -> Result<Conversation, CallError> {
        let frames = request(path, message).map_err(|error| CallError::permanent(format!("{path}: {error}")))?;
        let mut io = self.dialer.dial().await?;
        let refused = |error| CallError::Connection(format!("{path}: {error}"));
        greet(&mut io, &self.greeting, Label::Data, &frames).await.map_err(refused)?;
        Ok(Conversation::begin(io, self.limits))
    }

    async fn answer<M: prost::Message + Default>(
        &self,
        conversation: &mut Conversation,
        path: &str,
        name: &'static str,
    ) -> Result<M, CallError> {
        let lost = |error: Failure| lost(path, &error);
        let header = read_message(conversation, FrameKind::ResponseHeader).await.map_err(lost)?;
        let header = String::from_utf8_lossy(&header);
        if let Some(text) = header.strip_prefix(FAILED) {
            return Err(remote::refusal(text));
        }
        if !header.starts_with(OK) {
            let shown: String = header.chars().take(100).collect();
            return Err(CallError::permanent(format!("{path}: protocol error: invalid header: {shown:?}")));
        }
        let body = read_message(conversation, FrameKind::Response).await.map_err(lost)?;
        convert::decode(name, &body).map_err(|error| CallError::permanent(format!("{path}: {error}")))
    }
}

fn lost(path: &str, error: &Failure) -> CallError {
    CallError::Connection(format!("{path}: {error}"))
}
