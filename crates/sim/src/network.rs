//! The network between the two daemons: calls run in the receiver's process, streams pass byte by
//! byte, and both can be cut anywhere.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use futures::future::BoxFuture;
use model::view::View;
use model::{ClientIdentity, DatasetName, VersionName};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::mpsc;
use wire::{
    ByteStream, CallError, Connector, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, RenameAsideRequest,
    RollBackRequest, SendReply, SendRequest, Service,
};

use crate::fault::{Fault, Site, StreamReader};
use crate::process::{Host, Process};
use crate::room::Room;

/// What one read from a stream takes, so that a cut can come at many places.
const PIECE: usize = 4096;

/// The sender's way to the receiver.
pub struct Link {
    room: Arc<Room>,
    client: ClientIdentity,
    server: Mutex<Option<(Process, Arc<dyn Service>)>>,
}

impl Link {
    /// A way to nobody yet.
    pub fn new(room: Arc<Room>, client: ClientIdentity) -> Arc<Self> {
        Arc::new(Self { room, client, server: Mutex::default() })
    }

    /// The receiver's daemon serves from now on.
    pub fn serve(&self, process: Process, service: Arc<dyn Service>) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some((process, service));
    }

    /// Whether there ever was a daemon that serves.
    pub fn is_served(&self) -> bool {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

fn broken(what: &str) -> CallError {
    CallError::Connection(format!("{what}: connection reset by peer"))
}

#[async_trait]
impl Connector for Link {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        match self.room.fault(&Site::Connect) {
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Kill(victims)) => {
                self.room.kill(victims);
                self.room.process(Host::Sender).go_on().await;
            }
            Some(_) => return Err(broken("connect")),
            None => {}
        }
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (process, service) = server.filter(|(process, _)| process.is_alive()).ok_or_else(|| broken("connect"))?;
        let endpoint = service.endpoint_for(&self.client)?;
        Ok(Arc::new(Remote { room: Arc::clone(&self.room), process, endpoint }))
    }
}

/// A connection.
struct Remote {
    room: Arc<Room>,
    process: Process,
    endpoint: Arc<dyn Endpoint>,
}

type Call<T> = BoxFuture<'static, Result<T, CallError>>;

impl Remote {
    /// Runs a call in the process of the other side.
    async fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        call: impl FnOnce(Arc<dyn Endpoint>) -> Call<T> + Send,
    ) -> Result<T, CallError> {
        self.fault(name, &Site::Call(name)).await?;
        if !self.process.is_alive() {
            return Err(broken(name));
        }
        let answer = self.process.spawn(call(Arc::clone(&self.endpoint))).await;
        let answer = answer.ok().flatten().ok_or_else(|| broken(name))?;
        self.fault(name, &Site::Reply(name)).await?;
        answer
    }

    async fn fault(&self, name: &str, site: &Site) -> Result<(), CallError> {
        match self.room.fault(site) {
            None => Ok(()),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Some(Fault::Kill(victims)) => {
                self.room.kill(victims);
                self.room.process(Host::Sender).go_on().await;
                Ok(())
            }
            Some(_) => Err(broken(name)),
        }
    }

    /// Carries the bytes to the other side, as far as it gets.
    async fn carry(&self, mut from: ByteStream, to: mpsc::Sender<Piece>) -> Result<(), CallError> {
        let fault = self.room.fault(&Site::Stream { host: Host::Receiver, reader: StreamReader::Network });
        let mut carried = 0_u64;
        loop {
            let limit = match &fault {
                Some(Fault::AtByte(at, _)) => {
                    usize::try_from(at.saturating_sub(carried)).map_or(PIECE, |n| n.min(PIECE))
                }
                _ => PIECE,
            };
            if let (0, Some(Fault::AtByte(_, fault))) = (limit, &fault) {
                if let Fault::Kill(victims) = **fault {
                    self.room.kill(victims);
                    self.room.process(Host::Sender).go_on().await;
                }
                return Err(broken("receive"));
            }
            let mut piece = vec![0; limit];
            let piece = match from.read(&mut piece).await {
                Ok(0) => Piece::End,
                Ok(read) => {
                    carried += read as u64;
                    piece.truncate(read);
                    Piece::Data(piece)
                }
                Err(error) => Piece::Failed(error.to_string()),
            };
            let last = !matches!(piece, Piece::Data(_));
            // The other side may stop reading early; its answer says why.
            if to.send(piece).await.is_err() || last {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Endpoint for Remote {
    async fn list(&self) -> Result<View, CallError> {
        self.call("list", |endpoint| Box::pin(async move { endpoint.list().await })).await
    }

    async fn send(&self, _: &SendRequest) -> Result<SendReply, CallError> {
        Err(CallError::permanent("the simulated receiver does not send"))
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        let request = request.clone();
        let (sender, receiver) = mpsc::channel(2);
        let reader: ByteStream = Box::pin(Pipe { pieces: receiver, current: Vec::new(), read: 0, ended: false });
        let call =
            self.call("receive", move |endpoint| Box::pin(async move { endpoint.receive(&request, reader).await }));
        let (carried, answer) = tokio::join!(self.carry(stream, sender), call);
        carried.and(answer)
    }

    async fn send_completed(&self, _: &SendRequest) -> Result<(), CallError> {
        Ok(())
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        let request = request.clone();
        self.call("confirm_received", move |endpoint| {
            Box::pin(async move { endpoint.confirm_received(&request).await })
        })
        .await
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        let requests = requests.to_vec();
        let call = move |endpoint: Arc<dyn Endpoint>| -> Call<_> {
            Box::pin(async move { endpoint.destroy_snapshots(&requests).await })
        };
        self.call("destroy_snapshots", call).await
    }

    async fn roll_back(&self, request: &RollBackRequest) -> Result<Vec<VersionName>, CallError> {
        let request = request.clone();
        self.call("roll_back", move |endpoint| Box::pin(async move { endpoint.roll_back(&request).await })).await
    }

    async fn rename_aside(&self, request: &RenameAsideRequest) -> Result<DatasetName, CallError> {
        let request = request.clone();
        self.call("rename_aside", move |endpoint| Box::pin(async move { endpoint.rename_aside(&request).await })).await
    }

    async fn clean_stale_protections(&self) -> Result<usize, CallError> {
        self.call("clean_stale_protections", |endpoint| {
            Box::pin(async move { endpoint.clean_stale_protections().await })
        })
        .await
    }
}

/// What passes through a stream of the network.
enum Piece {
    Data(Vec<u8>),
    End,
    Failed(String),
}

/// The far end of a stream.
struct Pipe {
    pieces: mpsc::Receiver<Piece>,
    current: Vec<u8>,
    read: usize,
    ended: bool,
}

impl pump::Bytes for Pipe {}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.read == self.current.len() && !self.ended {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Piece::Data(data)) => {
                    self.current = data;
                    self.read = 0;
                }
                Some(Piece::End) => self.ended = true,
                Some(Piece::Failed(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let take = buf.remaining().min(self.current.len() - self.read);
        let end = self.read + take;
        if let Some(bytes) = self.current.get(self.read..end) {
            buf.put_slice(bytes);
        }
        self.read = end;
        Poll::Ready(Ok(()))
    }
}
