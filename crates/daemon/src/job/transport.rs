//! How jobs reach each other: for each transport one arm when connecting and one when listening.

use std::io;
use std::sync::Arc;

use config::types::{Connect, HostPort, Port, Serve, SshConnect, TlsConnect, TlsFiles};
use model::JobName;
use model::event::What;
use wire::Connector;
use wire::control::Role;
use wire::handshake::Banner;
use wire::peer::Peer;
use wire::ssh::SshDialer;
use wire::stdinserver::StdinAcceptor;
use wire::tcp::{self, Address, TcpAcceptor, TcpDialer};
use wire::tls::{self, TlsAcceptor, TlsDialer, TlsOptions};
use wire::transport::{Acceptor, Dialer, Greeting};

use super::Context;
use crate::daemon::World;
use crate::events::Events;
use crate::tuning::Tuning;

/// A job's way to its other side, which plays this role.
pub(crate) fn connector(
    job: &JobName,
    connect: &Connect,
    role: Role,
    world: &World,
    events: &Events,
) -> Arc<dyn Connector> {
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
        // One for both kinds of connections: sessions are shared.
        Connect::Tls(tls) => {
            let dialer: Arc<dyn Dialer> = Arc::new(tls_dialer(tls, world, events));
            peer(Arc::clone(&dialer), dialer, role, &world.tuning)
        }
        Connect::Ssh(ssh) => {
            let dialer: Arc<dyn Dialer> = Arc::new(ssh_dialer(ssh));
            peer(Arc::clone(&dialer), dialer, role, &world.tuning)
        }
    };
    (world.connector)(job, connector)
}

/// A side in another process.
fn peer(control: Arc<dyn Dialer>, data: Arc<dyn Dialer>, role: Role, tuning: &Tuning) -> Arc<dyn Connector> {
    let greeting = Greeting { banner_within: tuning.handshake.client, ..greeting(tuning) };
    Arc::new(Peer::new(control, data, greeting, role, read_token))
}

fn greeting(tuning: &Tuning) -> Greeting {
    match tuning.extensions {
        true => Banner::of_this_program().into(),
        false => Banner::with_extensions(Vec::new()).into(),
    }
}

fn read_token(token: &str) -> Result<model::view::TokenContents, String> {
    zfs::token::decode(token).map_err(|error| error.to_string())
}

/// A configured address.
pub(crate) fn address(address: &HostPort) -> Address {
    let port = match &address.port {
        Port::Number(number) => number.to_string(),
        Port::Service(name) => name.clone(),
    };
    Address { host: address.host.clone(), port }
}

fn tls_dialer(tls: &TlsConnect, world: &World, events: &Events) -> TlsDialer {
    let options = tls_options(&tls.files, world, events);
    TlsDialer::new(address(&tls.address), tls.dial_timeout, tls.server_cn.clone(), &options)
}

fn tls_options(files: &TlsFiles, world: &World, events: &Events) -> TlsOptions {
    let TlsFiles { ca, cert, key } = files.clone();
    let events = events.clone();
    let tell = move |message| events.tell(What::Warning { subsystem: "transport", message });
    TlsOptions { files: tls::TlsFiles { ca, cert, key }, key_log: world.key_log.clone(), tell: Arc::new(tell) }
}

fn ssh_dialer(ssh: &SshConnect) -> SshDialer {
    let SshConnect { host, user, port, identity_file, options, command, dial_timeout } = ssh.clone();
    SshDialer { command, host, user, port, identity_file, options, dial_timeout }
}

/// Where clients arrive.
pub(super) struct Bound {
    pub(super) acceptor: Box<dyn Acceptor>,
    /// In words.
    pub(super) place: String,
}

/// Listens for clients of other processes; of other jobs, who wait by another way, nobody comes.
pub(super) async fn bind(serve: &Serve, context: &Context) -> io::Result<Bound> {
    let place = place(serve, context);
    match serve {
        Serve::Tcp(serve) => {
            let listener = tcp::bind(&address(&serve.listen.address), serve.listen.freebind).await?;
            let place = listener.local_addr()?.to_string();
            let clients = serve.clients.clone();
            let who_is = move |address, zone: Option<&str>| clients.identify(address, zone);
            Ok(Bound { acceptor: Box::new(TcpAcceptor::new(listener, Arc::new(who_is))), place })
        }
        Serve::Tls(serve) => {
            let listener = tcp::bind(&address(&serve.listen.address), serve.listen.freebind).await?;
            let place = listener.local_addr()?.to_string();
            let options = tls_options(&serve.files, &context.shared.world, &context.events);
            let acceptor = TlsAcceptor::new(listener, serve.client_cns.clone(), serve.handshake_timeout, &options);
            if let Err(error) = acceptor.check().await {
                let message = format!("nobody is let in at {place} until this is repaired: {error}");
                context.events.tell(What::Error { subsystem: "transport", message });
            }
            Ok(Bound { acceptor: Box::new(acceptor), place })
        }
        Serve::Stdinserver(serve) => {
            let folder = &context.shared.stdinserver_sockets;
            let acceptor = StdinAcceptor::bind(folder, &serve.client_identities).map_err(io::Error::other)?;
            Ok(Bound { acceptor: Box::new(acceptor), place })
        }
        Serve::Local(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// What may help if an address cannot be listened on.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program has the port: `ss -ltnp` shows which)",
        io::ErrorKind::AddrNotAvailable => {
            " (no interface has this address: with `listen_freebind: true` it may come later)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege)",
        _ => "",
    }
}

/// Where that would be, in words.
pub(super) fn place(serve: &Serve, context: &Context) -> String {
    match serve {
        Serve::Local(serve) => format!("local listener {:?}", serve.listener_name),
        Serve::Tcp(serve) => address(&serve.listen.address).to_string(),
        Serve::Tls(serve) => address(&serve.listen.address).to_string(),
        Serve::Stdinserver(_) => format!("stdinserver sockets in {}", context.shared.stdinserver_sockets.display()),
    }
}

/// What clients of a listener are told first.
pub(super) fn host_greeting(tuning: &Tuning) -> Greeting {
    Greeting { banner_within: tuning.handshake.server, label_within: tuning.handshake.label, ..greeting(tuning) }
}
