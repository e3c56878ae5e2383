//! The active side of data connections: one for each request, unless the peer agrees to keep them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pump::ByteStream;
use tokio::time::Instant;

use super::driver::{Conversation, Failure};
use super::inbound::{Inbound, read_message};
use super::kept::{Kept, Waiting};
use super::{FAILED, FAILED_WORD, OK, PING, RECEIVE, SEND, WORD_END, request};
use crate::extension::Extension;
use crate::frame::{FrameKind, Limits};
use crate::handshake::Label;
use crate::pdu::{PingReq, PingRes, ReceiveReq, ReceiveRes, SendReq, SendRes, convert};
use crate::remote;
use crate::service::{CallError, ReceiveRequest, SendReply, SendRequest};
use crate::transport::{Dialer, Greeting, greet};

/// Makes requests, each on a connection of its own or on one that is kept. Clones share those.
#[derive(Clone)]
pub struct DataClient {
    dialer: Arc<dyn Dialer>,
    greeting: Greeting,
    limits: Limits,
    kept: Arc<Kept>,
    /// Whether a step will follow the next request.
    expected: Arc<AtomicBool>,
}

/// A request under way.
struct Asked {
    conversation: Conversation,
    /// Whether the connection may be used again.
    keep: bool,
}

impl DataClient {
    /// A client that greets its peer so.
    pub fn new(dialer: Arc<dyn Dialer>, greeting: Greeting, limits: Limits) -> Self {
        Self { dialer, greeting, limits, kept: Arc::default(), expected: Arc::default() }
    }

    /// The same with connections of its own, which end with it.
    pub fn anew(&self) -> Self {
        Self { kept: Arc::default(), expected: Arc::default(), ..self.clone() }
    }

    /// Whether the peer answers, with the text it is sent.
    pub async fn ping(&self, text: &str) -> Result<(), CallError> {
        let mut asked = self.ask(PING, &PingReq { message: text.to_owned() }).await?;
        let answer: PingRes = self.answer(&mut asked.conversation, PING, "PingRes").await?;
        self.keep(asked);
        match answer.echo == text {
            true => Ok(()),
            false => Err(CallError::permanent("the peer answers a ping with another text")),
        }
    }

    /// Asks the peer for a step.
    pub async fn send(&self, step: &SendRequest) -> Result<SendReply, CallError> {
        let mut asked = self.ask(SEND, &SendReq::from(step)).await?;
        let answer: SendRes = self.answer(&mut asked.conversation, SEND, "SendRes").await?;
        let expected = Arc::<OnceLock<u64>>::default();
        if answer.expected_size > 0 {
            let _ = expected.set(answer.expected_size);
        }
        let stream = Box::pin(self.inbound(asked));
        Ok(SendReply { used_resume_token: answer.used_resume_token, expected, stream })
    }

    /// Has the peer receive a step. Its own error counts more than what this side saw of the connection
    /// or of the stream's source.
    pub async fn receive(&self, step: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        let mut asked = self.ask(RECEIVE, &ReceiveReq::from(step)).await?;
        let mut sent = asked.conversation.send_stream(stream).await.map_err(|error| lost(RECEIVE, &error))?;
        let answer: Result<ReceiveRes, CallError> = self.answer(&mut asked.conversation, RECEIVE, "ReceiveRes").await;
        match (answer, sent.try_recv()) {
            (Ok(_), Ok(Ok(()))) => {
                self.keep(asked);
                Ok(())
            }
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

    /// Says that another step will follow the next request: once that is made, a connection for the one after
    /// it is opened. A peer that keeps connections needs none.
    pub fn expect_step(&self) {
        self.expected.store(true, Ordering::Relaxed);
    }

    async fn ask(&self, path: &str, message: &impl prost::Message) -> Result<Asked, CallError> {
        let frames = request(path, message).map_err(|error| CallError::permanent(format!("{path}: {error}")))?;
        let asked = match self.ask_waiting(&frames).await {
            Some(asked) => asked,
            None => self.dial(path, &frames).await?,
        };
        if self.expected.swap(false, Ordering::Relaxed) && !asked.keep && self.kept.is_empty() {
            self.dial_ahead();
        }
        Ok(asked)
    }

    /// Asks on a connection that waits for it.
    async fn ask_waiting(&self, frames: &[u8]) -> Option<Asked> {
        let Waiting { conversation, kept } = self.kept.take()?;
        conversation.send(frames.to_vec()).await.ok()?;
        Some(Asked { conversation, keep: kept.is_some() })
    }

    async fn dial(&self, path: &str, frames: &[u8]) -> Result<Asked, CallError> {
        let mut io = self.dialer.dial().await?;
        let refused = |error| CallError::Connection(format!("{path}: {error}"));
        let agreed = greet(&mut io, &self.greeting, Label::Data, frames).await.map_err(refused)?;
        Ok(Asked { conversation: Conversation::begin(io, self.limits), keep: agreed.includes(Extension::Keep) })
    }

    /// An error will show again when the step dials by itself.
    fn dial_ahead(&self) {
        let client = self.clone();
        tokio::spawn(async move {
            if let Ok(Asked { conversation, keep }) = client.dial("connecting ahead", &[]).await {
                client.kept.keep(Waiting { conversation, kept: keep.then(Instant::now) });
            }
        });
    }

    fn keep(&self, asked: Asked) {
        if asked.keep {
            self.kept.keep(Waiting { conversation: asked.conversation, kept: Some(Instant::now()) });
        }
    }

    /// The stream of an answer, after which the connection is kept if it can be.
    fn inbound(&self, asked: Asked) -> Inbound {
        if !asked.keep {
            return Inbound::last(asked.conversation);
        }
        let (stream, returned) = Inbound::lent(asked.conversation);
        let kept = Arc::clone(&self.kept);
        // Ends when the stream is dropped.
        tokio::spawn(async move {
            if let Ok(returned) = returned.await
                && returned.is_whole()
                && let Some(conversation) = returned.conversation()
            {
                kept.keep(Waiting { conversation, kept: Some(Instant::now()) });
            }
        });
        stream
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
        if let Some((word, text)) = header.strip_prefix(FAILED_WORD).and_then(|rest| rest.split_once(WORD_END)) {
            return Err(remote::described(word, text));
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
