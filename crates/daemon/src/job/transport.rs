//! How jobs reach each other: for each transport one arm when connecting and one when listening.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use config::types::{Connect, HostPort, Port, Serve};
use model::JobName;
use wire::control::Role;
use wire::handshake::Banner;
use wire::peer::Peer;
use wire::tcp::{self, Address, TcpAcceptor, TcpDialer};
use wire::transport::{Acceptor, Dialer, Greeting};
use wire::{CallError, Connector, Endpoint};

use crate::daemon::World;
use crate::tuning::Tuning;

/// A job's way to its other side, which plays this role.
pub(crate) fn connector(job: &JobName, connect: &Connect, role: Role, world: &World) -> Arc<dyn Connector> {
    let connector: Arc<dyn Connector> = match connect {
        Connect::Local(local) => {
            let (name, client) = (&local.listener_name, local.client_identity.clone());
            Arc::new(world.network.connector(name, client, local.dial_timeout))
        }
        Connect::Tcp(tcp) => {
            let (address, timeout) = (address(&tcp.address), tcp.dial_timeout);
            let control = TcpDialer::for_control(address.clone(), timeout);
            peer(Arc::new(control), Arc::new(TcpDialer::for_data(address, timeout)), role, &world.tuning)
        }
        Connect::Tls(_) | Connect::Ssh(_) => Arc::new(Unknown(connect.transport())),
    };
    (world.connector)(job, connector)
}

/// A side in another process.
fn peer(control: Arc<dyn Dialer>, data: Arc<dyn Dialer>, role: Role, tuning: &Tuning) -> Arc<dyn Connector> {
    let greeting = Greeting { banner_within: tuning.handshake.client, ..greeting() };
    Arc::new(Peer::new(control, data, greeting, role, read_token))
}

/// Without extensions: what zrepl says, too.
fn greeting() -> Greeting {
    Banner::with_extensions(Vec::new()).into()
}

fn read_token(token: &str) -> Result<model::view::TokenContents, String> {
    zfs::token::decode(token).map_err(|error| error.to_string())
}

fn address(address: &HostPort) -> Address {
    let port = match &address.port {
        Port::Number(number) => number.to_string(),
        Port::Service(name) => name.clone(),
    };
    Address { host: address.host.clone(), port }
}

/// A transport that this version reads and does not run.
struct Unknown(&'static str);

#[async_trait]
impl Connector for Unknown {
    async fn connect(&self) -> Result<Arc<dyn Endpoint>, CallError> {
        Err(CallError::permanent(format!("transport `{}` cannot be used by this version yet", self.0)))
    }
}

/// Where clients arrive.
pub(super) struct Bound {
    pub(super) acceptor: Box<dyn Acceptor>,
    /// In words.
    pub(super) place: String,
}

/// Listens for clients of other processes.
pub(super) async fn bind(serve: &Serve) -> io::Result<Bound> {
    match serve {
        Serve::Tcp(serve) => {
            let listener = tcp::bind(&address(&serve.listen.address), serve.listen.freebind).await?;
            let place = listener.local_addr()?.to_string();
            let clients = serve.clients.clone();
            let who_is = move |address, zone: Option<&str>| clients.identify(address, zone);
            Ok(Bound { acceptor: Box::new(TcpAcceptor::new(listener, Arc::new(who_is))), place })
        }
        Serve::Local(_) | Serve::Tls(_) | Serve::Stdinserver(_) => {
            let message = format!("transport `{}` cannot be used by this version yet", serve.transport());
            Err(io::Error::new(io::ErrorKind::Unsupported, message))
        }
    }
}

/// Where that would be, in words.
pub(super) fn place(serve: &Serve) -> String {
    match serve {
        Serve::Local(serve) => format!("local listener {:?}", serve.listener_name),
        Serve::Tcp(serve) => address(&serve.listen.address).to_string(),
        Serve::Tls(serve) => address(&serve.listen.address).to_string(),
        Serve::Stdinserver(_) => "stdinserver sockets".to_owned(),
    }
}

/// What clients of a listener are told first.
pub(super) fn host_greeting(tuning: &Tuning) -> Greeting {
    Greeting { banner_within: tuning.handshake.server, label_within: tuning.handshake.label, ..greeting() }
}
