//! What goes wrong between the two endpoints.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use model::view::View;
use model::{DatasetName, RetryClass, VersionName};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use wire::{
    ByteStream, CallError, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, RenameAsideRequest,
    RollBackRequest, SendReply, SendRequest,
};

/// The text of errors that come from here.
pub(crate) const INJECTED: &str = "injected error";

/// A side of a replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

type OnRequest = Box<dyn Fn(&DatasetName) -> Result<(), CallError> + Send + Sync>;
type OnList = Box<dyn Fn(Side, &mut View) -> Result<(), CallError> + Send + Sync>;
type Hook = Box<dyn Fn() + Send + Sync>;

/// A fault. Each concerns one kind of call; all others pass.
pub(crate) enum Fault {
    None,
    /// Streams end cleanly after so many bytes.
    CutEnd(u64),
    /// Streams fail after so many bytes.
    CutError(u64),
    /// The stream never ends, and the receiver fails at once.
    Endless,
    /// The receiver fails at once for this filesystem, or for all.
    RefuseReceive,
    /// The sender is never told that a step has arrived.
    LoseCompletion,
    /// The sender is told, but its answer is lost.
    LoseCompletionReply,
    /// The receiver's answer is lost.
    LoseReceiveReply,
    /// Runs before a send of a filesystem.
    BeforeSend(OnRequest),
    /// Changes what listings show, or lets them fail.
    Listing(OnList),
    /// Nothing goes wrong; runs after each listing and before each send.
    Watched {
        list: Box<dyn Fn(Side) + Send + Sync>,
        send: Hook,
    },
    /// Runs before snapshots are destroyed.
    BeforeDestroy(Hook),
    /// Runs when so many bytes of a stream have passed; then the stream goes on or is silent for ever.
    AfterBytes {
        bytes: u64,
        hook: Hook,
        stalls: bool,
    },
}

/// An answer that says that trying again may help, or not.
pub(crate) fn injected(class: RetryClass) -> CallError {
    CallError::Refused { class, message: INJECTED.to_owned() }
}

fn lost() -> CallError {
    CallError::Connection(format!("{INJECTED}: connection reset"))
}

/// An endpoint with a fault.
pub(crate) struct Faulty {
    pub(crate) inner: Arc<dyn Endpoint>,
    pub(crate) side: Side,
    pub(crate) fault: Arc<Fault>,
}

#[async_trait]
impl Endpoint for Faulty {
    async fn list(&self) -> Result<View, CallError> {
        let mut view = self.inner.list().await?;
        if let Fault::Listing(change) = &*self.fault {
            change(self.side, &mut view)?;
            // Who was just cancelled notices here.
            tokio::task::yield_now().await;
        }
        if let Fault::Watched { list, .. } = &*self.fault {
            list(self.side);
        }
        Ok(view)
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        if let Fault::BeforeSend(hook) = &*self.fault {
            hook(&request.filesystem)?;
        }
        if let Fault::Watched { send, .. } = &*self.fault {
            send();
        }
        let mut reply = self.inner.send(request).await?;
        let failure = || io::Error::other(INJECTED);
        reply.stream = match &*self.fault {
            Fault::CutEnd(bytes) => Box::pin(reply.stream.take(*bytes)),
            Fault::CutError(bytes) => Box::pin(reply.stream.take(*bytes).chain(Failing(failure()))),
            Fault::Endless => Box::pin(tokio::io::repeat(0)),
            Fault::AfterBytes { bytes, .. } => {
                Box::pin(Tripwire { stream: reply.stream, left: *bytes, fault: Some(Arc::clone(&self.fault)) })
            }
            _ => reply.stream,
        };
        Ok(reply)
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        if matches!(&*self.fault, Fault::Endless | Fault::RefuseReceive) {
            return Err(injected(RetryClass::Permanent));
        }
        self.inner.receive(request, stream).await?;
        match &*self.fault {
            Fault::LoseReceiveReply => Err(lost()),
            _ => Ok(()),
        }
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        if matches!(&*self.fault, Fault::LoseCompletion) {
            return Err(lost());
        }
        self.inner.send_completed(request).await?;
        match &*self.fault {
            Fault::LoseCompletionReply => Err(lost()),
            _ => Ok(()),
        }
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        self.inner.confirm_received(request).await
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        if let Fault::BeforeDestroy(hook) = &*self.fault {
            hook();
            // Who was just cancelled notices here.
            tokio::task::yield_now().await;
        }
        self.inner.destroy_snapshots(requests).await
    }

    async fn roll_back(&self, request: &RollBackRequest) -> Result<Vec<VersionName>, CallError> {
        if let Fault::BeforeDestroy(hook) = &*self.fault {
            hook();
        }
        self.inner.roll_back(request).await
    }

    async fn rename_aside(&self, request: &RenameAsideRequest) -> Result<DatasetName, CallError> {
        self.inner.rename_aside(request).await
    }
}

/// Fails when read.
struct Failing(io::Error);

impl pump::Bytes for Failing {}

impl AsyncRead for Failing {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::new(self.0.kind(), self.0.to_string())))
    }
}

/// A stream that runs a hook at a byte.
struct Tripwire {
    stream: ByteStream,
    left: u64,
    fault: Option<Arc<Fault>>,
}

impl pump::Bytes for Tripwire {}

impl AsyncRead for Tripwire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0
            && let Some(fault) = self.fault.take()
            && let Fault::AfterBytes { hook, stalls, .. } = &*fault
        {
            hook();
            if *stalls {
                self.stream = Box::pin(Silent);
            }
        }
        let before = buf.filled().len();
        let polled = self.stream.as_mut().poll_read(cx, buf);
        self.left = self.left.saturating_sub((buf.filled().len() - before) as u64);
        polled
    }
}

/// Never has anything to read.
struct Silent;

impl pump::Bytes for Silent {}

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
