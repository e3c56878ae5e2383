//! The network between the daemons: calls run in the process of the other side, streams pass byte by
//! byte, both can be cut anywhere, and a machine can be unreachable for hours.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use model::view::View;
use model::{ClientIdentity, DatasetName, VersionName};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use wire::{
    ByteStream, CallError, Connector, DestroyRequest, DestroyResult, Endpoint, LocalNetwork, ReceiveRequest,
    RenameAsideRequest, RollBackRequest, SendReply, SendRequest,
};

use crate::fault::{Fault, Site, StreamReader};
use crate::pipe::{Piece, Pipe};
use crate::process::{Host, Process};
use crate::room::Room;

/// What one read from a stream takes, so that a cut can come at many places.
const PIECE: usize = 4096;

/// How long a daemon waits for a listener of one that runs.
const DIAL: Duration = Duration::from_secs(2);

/// How a machine that cannot be reached looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Every packet is refused.
    Refused,
    /// Every packet is lost.
    Silent,
}

/// All machines' network.
pub struct Network {
    room: Arc<Room>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    servers: [Option<(Process, LocalNetwork)>; 3],
    outages: [Option<(Instant, Outage)>; 3],
}

impl Network {
    /// A network in which nobody listens yet.
    pub fn new(room: Arc<Room>) -> Arc<Self> {
        Arc::new(Self { room, inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listeners of a machine's daemon from now on.
    pub fn serve(&self, host: Host, process: Process, listeners: LocalNetwork) {
        self.lock().servers[host.index()] = Some((process, listeners));
    }

    /// A machine cannot be reached for so long.
    pub fn cut_off(&self, host: Host, time: Duration, outage: Outage) {
        self.lock().outages[host.index()] = Some((Instant::now() + time, outage));
    }

    /// All machines can be reached.
    pub fn repair(&self) {
        self.lock().outages = Default::default();
    }

    /// The way of a process to a listener of another machine.
    pub fn link(
        self: &Arc<Self>,
        (from, process): (Host, Process),
        (to, listener): (Host, &str),
        client: ClientIdentity,
    ) -> Arc<dyn Connector> {
        let way = Way { network: Arc::clone(self), hosts: [from, to], process };
        Arc::new(Link { way, listener: listener.to_owned(), client })
    }

    fn outage(&self, hosts: [Host; 2]) -> Option<(Instant, Outage)> {
        let mut inner = self.lock();
        let now = Instant::now();
        for outage in &mut inner.outages {
            outage.take_if(|(end, _)| *end <= now);
        }
        hosts.iter().find_map(|host| inner.outages[host.index()])
    }
}

fn broken(what: &str) -> CallError {
    CallError::Connection(format!("{what}: connection reset by peer"))
}

/// From a process to another machine.
#[derive(Clone)]
struct Way {
    network: Arc<Network>,
    hosts: [Host; 2],
    /// That of the first one.
    process: Process,
}

impl Way {
    /// Waits until a packet has passed; false if it is refused.
    async fn pass(&self) -> bool {
        while let Some((end, outage)) = self.network.outage(self.hosts) {
            if outage == Outage::Refused {
                return false;
            }
            // An outage that is repaired meanwhile is noticed soon.
            let slice = Instant::now() + Duration::from_secs(60);
            tokio::time::sleep_until(end.min(slice)).await;
        }
        true
    }

    async fn fault(&self, name: &str, site: &Site) -> Result<(), CallError> {
        match self.network.room.fault(site) {
            None => {}
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Kill(victims)) => self.network.room.kill(victims),
            Some(_) => return Err(broken(name)),
        }
        self.process.go_on().await;
        if self.pass().await { Ok(()) } else { Err(broken(name)) }
    }

    /// Carries bytes, as far as it gets; `carrier` is the process that does so.
    async fn carry(&self, carrier: &Process, mut from: ByteStream, to: mpsc::Sender<Piece>) -> Result<(), CallError> {
        let site = Site::Stream { host: self.hosts[1], reader: StreamReader::Network };
        let fault = self.network.room.fault(&site);
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
                    self.network.room.kill(victims);
                    carrier.go_on().await;
                }
                return Err(broken("stream"));
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
            if !self.pass().await {
                return Err(broken("stream"));
            }
            let last = !matches!(piece, Piece::Data(_));
            // The other side may stop reading early; its answer says why.
            if to.send(piece).await.is_err() || last {
                return Ok(());
            }
        }
    }
}

/// A daemon's way to a listener.
struct Link {
    way: Way,
    listener: String,
    client: ClientIdentity,
}

#[async_trait]
impl Connector for Link {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        self.way.process.go_on().await;
        self.way.fault("connect", &Site::Connect).await?;
        let server = self.way.network.lock().servers[self.way.hosts[1].index()].clone();
        let server = server.filter(|(process, _)| process.is_alive());
        let (process, listeners) = server.ok_or_else(|| broken("connect"))?;
        let dial = listeners.connector(&self.listener, self.client.clone(), DIAL);
        let endpoint = process.run(async { dial.connect().await }).await.ok_or_else(|| broken("connect"))??;
        Ok(Arc::new(Remote { way: self.way.clone(), process, endpoint }))
    }
}

/// A connection.
struct Remote {
    way: Way,
    /// That of the other side.
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
        self.way.process.go_on().await;
        self.way.fault(name, &Site::Call(name)).await?;
        if !self.process.is_alive() {
            return Err(broken(name));
        }
        let answer = self.process.spawn(call(Arc::clone(&self.endpoint))).await;
        let answer = answer.ok().flatten().ok_or_else(|| broken(name))?;
        self.way.fault(name, &Site::Reply(name)).await?;
        answer
    }
}

/// Both ends of a stream's way.
fn pipe() -> (mpsc::Sender<Piece>, ByteStream) {
    let (sender, receiver) = mpsc::channel(2);
    (sender, Box::pin(Pipe::new(receiver)))
}

#[async_trait]
impl Endpoint for Remote {
    async fn list(&self) -> Result<View, CallError> {
        self.call("list", |endpoint| Box::pin(async move { endpoint.list().await })).await
    }

    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        let filesystems = filesystems.to_vec();
        self.call("list_some", move |endpoint| Box::pin(async move { endpoint.list_some(&filesystems).await })).await
    }

    /// The other side carries the stream here as long as it is read.
    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        let request = request.clone();
        let reply = self.call("send", move |endpoint| Box::pin(async move { endpoint.send(&request).await })).await?;
        let (sender, stream) = pipe();
        let (way, carrier) = (self.way.clone(), self.process.clone());
        self.process.spawn(async move { way.carry(&carrier, reply.stream, sender).await });
        Ok(SendReply { stream, ..reply })
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        let request = request.clone();
        let (sender, reader) = pipe();
        let call =
            self.call("receive", move |endpoint| Box::pin(async move { endpoint.receive(&request, reader).await }));
        let (carried, answer) = tokio::join!(self.way.carry(&self.way.process, stream, sender), call);
        carried.and(answer)
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        let request = request.clone();
        let call = move |endpoint: Arc<dyn Endpoint>| -> Call<_> {
            Box::pin(async move { endpoint.send_completed(&request).await })
        };
        self.call("send_completed", call).await
    }

    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        let request = request.clone();
        let call = move |endpoint: Arc<dyn Endpoint>| -> Call<_> {
            Box::pin(async move { endpoint.confirm_received(&request).await })
        };
        self.call("confirm_received", call).await
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
}
