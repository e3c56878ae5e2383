//! The active side of data connections: one for each request, unless the peer agrees to keep them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pump::ByteStream;
use tokio::time::{Instant, timeout};

use super::driver::{Conversation, Failure, Sent};
use super::inbound::{Inbound, read_message, read_message_if_any};
use super::kept::{Kept, Waiting};
use super::{FAILED, FAILED_WORD, OK, PING, RECEIVE, SEND, WORD_END, request};
use crate::extension::Extension;
use crate::frame::{FrameKind, Limits};
use crate::handshake::Label;
use crate::pdu::{PingReq, PingRes, ReceiveReq, ReceiveRes, SendReq, SendRes, convert};
use crate::remote;
use crate::service::{CallError, ReceiveRequest, SendReply, SendRequest};
use crate::transport::{Dialer, Greeting, greet};

/// How long the end of a connection that is not needed may take.
const LEAVE: Duration = Duration::from_secs(10);

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
    /// Whether it waited for this request. Then it may have been dead already, without anybody's fault.
    waited: bool,
}

/// Why a request was not answered.
enum Unanswered {
    /// Not a word of an answer has come: the peer has done nothing that it would not do once more.
    Silently(CallError),
    /// The peer answered with an error, or the connection broke in the middle of the answer.
    With(CallError),
}

impl From<Unanswered> for CallError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Silently(error) | Unanswered::With(error) => error,
        }
    }
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
        let (asked, answer): (_, PingRes) = self.call(PING, &PingReq { message: text.to_owned() }, "PingRes").await?;
        self.keep(asked);
        match answer.echo == text {
            true => Ok(()),
            false => Err(CallError::permanent("the peer answers a ping with another text")),
        }
    }

    /// Asks the peer for a step.
    pub async fn send(&self, step: &SendRequest) -> Result<SendReply, CallError> {
        let (asked, answer): (_, SendRes) = self.call(SEND, &SendReq::from(step), "SendRes").await?;
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
        let frames = frames(RECEIVE, &ReceiveReq::from(step))?;
        let asked = self.ask(RECEIVE, &frames).await?;
        let waited = asked.waited;
        match self.received(asked, stream).await {
            // The connection was dead before the stream was needed.
            Err((Unanswered::Silently(_), Some(stream))) if waited => {
                let asked = self.dial(RECEIVE, &frames).await?;
                self.received(asked, stream).await.map_err(|(unanswered, _)| unanswered.into())
            }
            result => result.map_err(|(unanswered, _)| unanswered.into()),
        }
    }

    /// Sends the stream and waits for the answer. With the error comes the stream, if nothing of it was sent.
    async fn received(&self, mut asked: Asked, stream: ByteStream) -> Result<(), (Unanswered, Option<ByteStream>)> {
        let mut sent = asked.conversation.send_stream(stream).await;
        let answer: Result<ReceiveRes, _> = answer(&mut asked.conversation, RECEIVE, "ReceiveRes").await;
        // The driver of a connection that broke is about to say what it has left.
        let sent = match &answer {
            Err(Unanswered::Silently(_)) if asked.waited => sent.await.ok(),
            _ => sent.try_recv().ok(),
        };
        let with = |error| Err((Unanswered::With(error), None));
        match (answer, sent) {
            (Ok(_), Some(Sent::Whole)) => {
                self.keep(asked);
                Ok(())
            }
            (Ok(_), Some(Sent::Failed(source))) => {
                with(CallError::permanent(format!("the peer took a stream for whole that failed: {source}")))
            }
            (Ok(_), _) => with(CallError::permanent("the peer took a stream for whole before its end")),
            (Err(unanswered), Some(Sent::Failed(source))) => with(remote::of_failed_stream(unanswered.into(), &source)),
            (Err(unanswered), Some(Sent::Unsent(stream))) => Err((unanswered, Some(stream))),
            (Err(unanswered), _) => Err((unanswered, None)),
        }
    }

    /// Says that another step will follow the next request: once that is made, a connection for the one after
    /// it is opened. A peer that keeps connections needs none.
    pub fn expect_step(&self) {
        self.expected.store(true, Ordering::Relaxed);
    }

    /// Makes a request and reads its answer; on a fresh connection if one that waited turns out to be dead.
    async fn call<M: prost::Message + Default>(
        &self,
        path: &str,
        message: &impl prost::Message,
        name: &'static str,
    ) -> Result<(Asked, M), CallError> {
        let frames = frames(path, message)?;
        let mut asked = self.ask(path, &frames).await?;
        match answer(&mut asked.conversation, path, name).await {
            Ok(answer) => Ok((asked, answer)),
            Err(Unanswered::Silently(_)) if asked.waited => {
                let mut asked = self.dial(path, &frames).await?;
                let answer = answer(&mut asked.conversation, path, name).await?;
                Ok((asked, answer))
            }
            Err(unanswered) => Err(unanswered.into()),
        }
    }

    async fn ask(&self, path: &str, frames: &[u8]) -> Result<Asked, CallError> {
        let asked = match self.ask_waiting(frames).await {
            Some(asked) => asked,
            None => self.dial(path, frames).await?,
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
        Some(Asked { conversation, keep: kept.is_some(), waited: true })
    }

    async fn dial(&self, path: &str, frames: &[u8]) -> Result<Asked, CallError> {
        let mut io = self.dialer.dial().await?;
        let refused = |error| CallError::Connection(format!("{path}: {error}"));
        let agreed = greet(&mut io, &self.greeting, Label::Data, frames).await.map_err(refused)?;
        let keep = agreed.includes(Extension::Keep);
        Ok(Asked { conversation: Conversation::begin(io, self.limits), keep, waited: false })
    }

    /// An error will show again when the step dials by itself.
    fn dial_ahead(&self) {
        let client = self.clone();
        tokio::spawn(async move {
            if let Ok(Asked { conversation, keep, .. }) = client.dial("connecting ahead", &[]).await {
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
}

/// Ends a connection that was opened ahead and is not needed. zrepl takes one that ends without a request for one
/// that broke, and logs an error.
pub(super) async fn take_leave(mut conversation: Conversation) {
    let leave = async {
        if let Ok(frames) = frames(PING, &PingReq { message: "goodbye".to_owned() })
            && conversation.send(frames).await.is_ok()
        {
            let _ = answer::<PingRes>(&mut conversation, PING, "PingRes").await;
        }
    };
    let _ = timeout(LEAVE, leave).await;
}

fn frames(path: &str, message: &impl prost::Message) -> Result<Vec<u8>, CallError> {
    request(path, message).map_err(|error| CallError::permanent(format!("{path}: {error}")))
}

async fn answer<M: prost::Message + Default>(
    conversation: &mut Conversation,
    path: &str,
    name: &'static str,
) -> Result<M, Unanswered> {
    let with = Unanswered::With;
    let header = match read_message_if_any(conversation, FrameKind::ResponseHeader).await {
        Ok(Some(header)) => header,
        Ok(None) => return Err(Unanswered::Silently(lost(path, &conversation.failure()))),
        Err(error) => return Err(with(lost(path, &error))),
    };
    let header = String::from_utf8_lossy(&header);
    if let Some(text) = header.strip_prefix(FAILED) {
        return Err(with(remote::refusal(text)));
    }
    if let Some((word, text)) = header.strip_prefix(FAILED_WORD).and_then(|rest| rest.split_once(WORD_END)) {
        return Err(with(remote::described(word, text)));
    }
    if !header.starts_with(OK) {
        let shown: String = header.chars().take(100).collect();
        return Err(with(CallError::permanent(format!("{path}: protocol error: invalid header: {shown:?}"))));
    }
    let body = read_message(conversation, FrameKind::Response).await.map_err(|error| with(lost(path, &error)))?;
    convert::decode(name, &body).map_err(|error| with(CallError::permanent(format!("{path}: {error}"))))
}

fn lost(path: &str, error: &Failure) -> CallError {
    CallError::Connection(format!("{path}: {error}"))
}
