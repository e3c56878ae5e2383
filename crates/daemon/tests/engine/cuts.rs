//! A connection that breaks once, wherever that may be: everything is replicated all the same.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use daemon::act::{Invocation, replicate_and_prune};
use model::DatasetName;
use model::event::{Replication, What};
use model::view::View;
use tokio::io::{AsyncRead, ReadBuf};
use wire::{
    ByteStream, CallError, Connector, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, SameProcess, SendReply,
    SendRequest,
};

use crate::world::{Direct, Settings, World};

/// How a broken connection shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaks {
    /// Whoever uses it gets an error.
    WithReset,
    /// Nobody hears anything any more.
    Silently,
}

/// Counts the places where the network could break, and breaks it at one.
struct Network {
    breaks: Breaks,
    at: u32,
    passed: AtomicU32,
}

/// A connection over it.
#[derive(Clone)]
struct Line {
    network: Arc<Network>,
    broken: Arc<AtomicBool>,
}

impl Line {
    /// Whether the connection still works at this place.
    fn works(&self) -> bool {
        if self.network.passed.fetch_add(1, Ordering::Relaxed) == self.network.at {
            self.broken.store(true, Ordering::Relaxed);
        }
        !self.broken.load(Ordering::Relaxed)
    }

    async fn pass(&self) -> Result<(), CallError> {
        match (self.works(), self.network.breaks) {
            (true, _) => Ok(()),
            (false, Breaks::WithReset) => Err(CallError::Connection("connection reset by peer".to_owned())),
            (false, Breaks::Silently) => std::future::pending().await,
        }
    }
}

/// The way to a side over the network.
struct Dial {
    network: Arc<Network>,
    to: Arc<dyn Connector>,
}

#[async_trait]
impl Connector for Dial {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        let line = Line { network: Arc::clone(&self.network), broken: Arc::default() };
        line.pass().await?;
        Ok(Arc::new(Far { line, endpoint: self.to.connect().await? }))
    }
}

struct Far {
    line: Line,
    endpoint: Arc<dyn Endpoint>,
}

impl Far {
    fn over(&self, bytes: ByteStream) -> ByteStream {
        Box::pin(Wire { bytes, line: self.line.clone(), passed: 0, checked: 0 })
    }
}

#[async_trait]
impl Endpoint for Far {
    async fn list(&self) -> Result<View, CallError> {
        self.line.pass().await?;
        let answer = self.endpoint.list().await;
        self.line.pass().await?;
        answer
    }

    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        self.line.pass().await?;
        let answer = self.endpoint.list_some(filesystems).await;
        self.line.pass().await?;
        answer
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        self.line.pass().await?;
        let reply = self.endpoint.send(request).await?;
        self.line.pass().await?;
        let stream = self.over(reply.stream);
        Ok(SendReply { stream, ..reply })
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        self.line.pass().await?;
        let answer = self.endpoint.receive(request, self.over(stream)).await;
        self.line.pass().await?;
        answer
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        self.line.pass().await?;
        let answer = self.endpoint.send_completed(request).await;
        self.line.pass().await?;
        answer
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        self.line.pass().await?;
        let answer = self.endpoint.confirm_received(request).await;
        self.line.pass().await?;
        answer
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        self.endpoint.destroy_snapshots(requests).await
    }
}

/// A stream over the network, which may break every few thousand bytes.
struct Wire {
    bytes: ByteStream,
    line: Line,
    passed: usize,
    checked: usize,
}

impl pump::Bytes for Wire {}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.line.broken.load(Ordering::Relaxed)
            || self.passed / 4096 >= self.checked && {
                self.checked += 1;
                !self.line.works()
            }
        {
            return match self.line.network.breaks {
                Breaks::WithReset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Breaks::Silently => Poll::Pending,
            };
        }
        let before = buf.filled().len();
        let polled = self.bytes.as_mut().poll_read(cx, buf);
        self.passed += buf.filled().len() - before;
        polled
    }
}

/// One invocation over a network that breaks at a place; whether it came that far.
async fn breaks_at(at: u32, breaks: Breaks, sender_is_far: bool) -> bool {
    let world = World::new(Settings { concurrency: 2, ..Settings::default() });
    let names = ["src/a", "src/a/b", "src/c"];
    world.create(&names);
    for snapshot in ["1", "2"] {
        names.iter().for_each(|name| world.write(name, snapshot, 3_000));
        world.snapshot(snapshot, &names).await;
    }
    let network = Arc::new(Network { breaks, at, passed: AtomicU32::new(0) });
    let dial = |to| -> Arc<dyn Connector> { Arc::new(Dial { network: Arc::clone(&network), to }) };
    let (sender, receiver): (Arc<dyn Connector>, Arc<dyn Connector>) =
        (Arc::new(SameProcess(world.daemons.sender.clone())), Arc::new(Direct(world.daemons.sink.clone())));
    let (sender, receiver) = match sender_is_far {
        true => (dial(sender), receiver),
        false => (sender, dial(receiver)),
    };
    let summary = replicate_and_prune(Invocation { sender, receiver, ..world.invocation() }).await;
    let events = world.events();
    let context = format!("cut at {at} {breaks:?}, sender far: {sender_is_far}: {summary:?} {events:#?}");
    assert_eq!((summary.errors, summary.replicated), (0, true), "{context}");
    assert!(world.is_quiet(), "{context}");
    let mut finished: BTreeMap<(DatasetName, usize), usize> = BTreeMap::new();
    for what in &events {
        if let What::Replication(Replication::StepFinished { filesystem, step, .. }) = what {
            *finished.entry((filesystem.clone(), *step)).or_default() += 1;
        }
    }
    assert!(finished.values().all(|times| *times == 1), "no step was done twice: {context}");
    let waits = events.iter().filter(|what| matches!(what, What::Replication(Replication::Reconnecting { .. })));
    assert!(waits.count() <= 2, "one wait for all that notice together: {context}");
    for name in names {
        world.assert_replicated(name).await;
        assert_eq!(world.target_versions(name).await, ["@1", "@2 zrepl_last_received_J_sink"], "{context}");
        assert_eq!(
            world.source_versions(name).await,
            ["@1", "#zrepl_CURSOR_G_GUID_J_push", "@2"],
            "nothing is left behind: {context}"
        );
    }
    network.passed.load(Ordering::Relaxed) > at
}

async fn wherever(breaks: Breaks, sender_is_far: bool) {
    let mut at = 0;
    while breaks_at(at, breaks, sender_is_far).await {
        at += 1;
    }
    assert!(at > 25, "only {at} places");
}

#[tokio::test(start_paused = true)]
async fn to_the_receiver_with_a_reset() {
    wherever(Breaks::WithReset, false).await;
}

#[tokio::test(start_paused = true)]
async fn to_the_receiver_silently() {
    wherever(Breaks::Silently, false).await;
}

#[tokio::test(start_paused = true)]
async fn to_the_sender_with_a_reset() {
    wherever(Breaks::WithReset, true).await;
}

#[tokio::test(start_paused = true)]
async fn to_the_sender_silently() {
    wherever(Breaks::Silently, true).await;
}
