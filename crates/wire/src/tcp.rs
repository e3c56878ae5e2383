//! TCP: neither encrypted nor authenticated. A client is who its address says it is.
//!
//! [`connect`], [`bind`] and [`accept`] are for whatever else goes over TCP, too. Sockets get the
//! options that zrepl gives them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::ClientIdentity;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::{sleep, timeout};

use crate::service::CallError;
use crate::transport::{Acceptor, Arrival, Connection, Dialer, Stranger};

/// Silence after which the kernel asks whether the peer lives, and between such questions.
const PROBE: Duration = Duration::from_secs(15);

/// Unanswered questions after which the connection is dead.
const PROBES: u32 = 9;

/// How long sent bytes of a control connection may stay unacknowledged. Data connections stand still as
/// long as their receiver does, which the kernel would take for a dead peer.
const CONTROL_UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// How long an address of a name is tried before the next one is tried as well (RFC 8305 says 250 ms).
const HEAD_START: Duration = Duration::from_millis(300);

/// A place to connect to, or to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, an address (IPv6 without brackets, perhaps with a zone), or empty: this machine when
    /// connecting, every address of it when listening.
    pub host: String,
    /// Digits, or a name that `/etc/services` knows.
    pub port: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Address {
    async fn resolve(&self, empty: &str) -> io::Result<Vec<SocketAddr>> {
        let port = self.port_number()?;
        let host = if self.host.is_empty() { empty } else { &self.host };
        let found: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
        match found.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            false => Ok(found),
        }
    }

    fn port_number(&self) -> io::Result<u16> {
        if let Ok(number) = self.port.parse() {
            return Ok(number);
        }
        let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
        service_port(&services, &self.port).ok_or_else(|| {
            let message = format!("no TCP service {:?} in /etc/services (write the port as a number)", self.port);
            io::Error::new(io::ErrorKind::NotFound, message)
        })
    }
}

/// The port of a service by its name or one of its aliases.
fn service_port(services: &str, wanted: &str) -> Option<u16> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, port) = (words.next()?, words.next()?.strip_suffix("/tcp")?);
        (name == wanted || words.any(|alias| alias == wanted)).then(|| port.parse().ok())?
    };
    services.lines().find_map(line)
}

/// Connects; a `dial_timeout` of zero is none.
///
/// # Errors
/// [`CallError::Connection`], naming the address.
pub async fn connect(address: &Address, dial_timeout: Duration) -> Result<TcpStream, CallError> {
    let connecting = async { first_of(address.resolve("localhost").await?).await };
    let connected = match dial_timeout {
        Duration::ZERO => connecting.await,
        limit => timeout(limit, connecting).await.unwrap_or_else(|_| {
            let message = format!("no answer within the `dial_timeout` of {limit:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }),
    };
    connected.map_err(|error| CallError::Connection(format!("cannot connect to {address}: {error}{}", hint(&error))))
}

/// The first of these addresses that answers.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let (mut waiting, mut running) = (addresses.into_iter(), FuturesUnordered::new());
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    loop {
        running.extend(waiting.next().map(connect_to));
        tokio::select! {
            tried = running.next() => match tried {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failed = error,
                None => return Err(failed),
            },
            () = sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // On the own machine a free port may get connected to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    tune(&stream)?;
    Ok(stream)
}

/// The options of every connection.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(PROBE).with_interval(PROBE).with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Listens. With `freebind` also at an address that the machine does not have yet. Without a host it
/// listens at all addresses, of IPv6 and IPv4 alike.
///
/// # Errors
/// The system's; the caller adds the address.
pub async fn bind(listen: &Address, freebind: bool) -> io::Result<TcpListener> {
    let address = match listen.host.as_str() {
        "" => {
            let port = listen.port_number()?;
            let everywhere = bind_to(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), freebind);
            match everywhere {
                Err(error) if without_ipv6(&error) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
                bound => return bound,
            }
        }
        _ => {
            let found = listen.resolve("").await?;
            // Of a name with both kinds the IPv4 address, as zrepl does.
            let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
            *first.ok_or(io::ErrorKind::NotFound)?
        }
    };
    bind_to(address, freebind)
}

/// Whether the machine has no IPv6 at all.
fn without_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bind_to(address: SocketAddr, freebind: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if freebind {
        allow_any(&socket, address)?;
    }
    socket.bind(&address.into())?;
    // The kernel's own limit is the limit.
    socket.listen(i32::MAX)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

#[cfg(target_os = "linux")]
fn allow_any(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_freebind_v6(true) } else { socket.set_freebind_v4(true) }
}

#[cfg(not(target_os = "linux"))]
fn allow_any(_: &Socket, _: SocketAddr) -> io::Result<()> {
    let message = "`listen_freebind` is known on Linux only (listen at all addresses, without a host, instead)";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// The next connection of a listener, with the options of every connection.
///
/// # Errors
/// The system's; another try may succeed.
pub async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    // Of one that is broken already this fails, and whoever reads it will see.
    let _ = tune(&stream);
    Ok((stream, peer))
}

/// A client's address: IPv4 as such, however the socket calls it; the zone of a link-local one.
pub fn origin(peer: SocketAddr) -> (IpAddr, Option<String>) {
    let zone = match peer {
        SocketAddr::V6(peer) if peer.scope_id() != 0 => Some(zone_name(peer.scope_id())),
        SocketAddr::V6(_) | SocketAddr::V4(_) => None,
    };
    (peer.ip().to_canonical(), zone)
}

/// The text of what [`origin`] gives, for people and as the name of a source of connections.
pub fn origin_name(peer: SocketAddr) -> String {
    match origin(peer) {
        (address, Some(zone)) => format!("{address}%{zone}"),
        (address, None) => address.to_string(),
    }
}

/// The name of a network interface, its number if it has none.
#[cfg(target_os = "linux")]
fn zone_name(index: u32) -> String {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let name = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| netdevice::index_to_name(&socket, index));
    name.unwrap_or_else(|_| index.to_string())
}

#[cfg(not(target_os = "linux"))]
fn zone_name(index: u32) -> String {
    index.to_string()
}

/// The way to a listener.
#[derive(Debug, Clone)]
pub struct TcpDialer {
    address: Address,
    dial_timeout: Duration,
    unacknowledged: Option<Duration>,
}

impl TcpDialer {
    /// For data connections. A `dial_timeout` of zero is none.
    pub fn for_data(address: Address, dial_timeout: Duration) -> Self {
        Self { address, dial_timeout, unacknowledged: None }
    }

    /// For control connections, whose peer is given up sooner.
    pub fn for_control(address: Address, dial_timeout: Duration) -> Self {
        Self { address, dial_timeout, unacknowledged: Some(CONTROL_UNACKNOWLEDGED) }
    }
}

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(&self) -> Result<Connection, CallError> {
        let stream = connect(&self.address, self.dial_timeout).await?;
        limit_unacknowledged(&stream, self.unacknowledged);
        Ok(Box::new(stream))
    }

    fn place(&self) -> String {
        self.address.to_string()
    }
}

/// What to look at.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => " (nobody listens there: does the other program run, and on this port?)",
        io::ErrorKind::TimedOut => " (is the address right, and does a firewall let it through?)",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => " (is the network up?)",
        _ => "",
    }
}

/// Without it, pings of the protocol find the same a little later.
fn limit_unacknowledged(stream: &TcpStream, limit: Option<Duration>) {
    #[cfg(target_os = "linux")]
    if limit.is_some() {
        let _ = SockRef::from(stream).set_tcp_user_timeout(limit);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, limit);
}

/// Who connects from an address; the text is the zone of a link-local one. None if nobody may.
pub type WhoIs = Arc<dyn Fn(IpAddr, Option<&str>) -> Option<ClientIdentity> + Send + Sync>;

/// Clients by their addresses.
pub struct TcpAcceptor {
    listener: TcpListener,
    who_is: WhoIs,
}

impl TcpAcceptor {
    /// Lets in whom `who_is` knows.
    pub fn new(listener: TcpListener, who_is: WhoIs) -> Self {
        Self { listener, who_is }
    }
}

#[async_trait]
impl Acceptor for TcpAcceptor {
    async fn accept(&mut self) -> io::Result<Arrival> {
        let (stream, peer) = accept(&self.listener).await?;
        let who_is = Arc::clone(&self.who_is);
        let identify = async move {
            let (address, zone) = origin(peer);
            match who_is(address, zone.as_deref()) {
                Some(client) => Ok((Box::new(stream) as Connection, client)),
                // Without a byte, as zrepl does.
                None => Err(Stranger("client IP not in client map (add it to `clients`)".to_owned())),
            }
        };
        Ok(Arrival { from: origin_name(peer), identify: Box::pin(identify) })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port: port.to_string() }
    }

    async fn listener(host: &str) -> (TcpListener, u16) {
        let listener = bind(&address(host, 0), false).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[test]
    fn services_have_names_and_aliases() {
        let services = "# a comment\nssh 22/tcp # shell\ndomain 53/udp\ndomain\t53/tcp nameserver\nbad x/tcp\n";
        for (name, port) in [("ssh", Some(22)), ("domain", Some(53)), ("nameserver", Some(53)), ("bad", None)] {
            assert_eq!(service_port(services, name), port, "{name}");
        }
        assert_eq!(address("fe80::1%eth0", 1).to_string(), "[fe80::1%eth0]:1");
        assert_eq!(address("", 1).to_string(), ":1");
    }

    #[test]
    fn clients_have_one_name_whatever_the_socket_calls_them() {
        for (peer, name) in [
            ("10.1.2.3:4", "10.1.2.3"),
            ("[::ffff:10.1.2.3]:4", "10.1.2.3"),
            ("[2001:db8::1]:4", "2001:db8::1"),
            ("[fe80::1%4000000]:4", "fe80::1%4000000"),
        ] {
            assert_eq!(origin_name(peer.parse().unwrap()), name);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_zone_is_the_name_of_the_interface() {
        assert_eq!(origin("[fe80::1%1]:4".parse().unwrap()).1.as_deref(), Some("lo"));
    }

    #[tokio::test]
    async fn a_connection_has_zrepl_s_options_and_closes_each_way_by_itself() {
        let (listener, port) = listener("127.0.0.1").await;
        let dialer = TcpDialer::for_control(address("127.0.0.1", port), Duration::from_secs(10));
        let (dialed, accepted) = tokio::join!(connect(&dialer.address, dialer.dial_timeout), accept(&listener));
        let (mut client, (mut server, peer)) = (dialed.unwrap(), accepted.unwrap());
        assert_eq!(peer, client.local_addr().unwrap());
        for socket in [SockRef::from(&client), SockRef::from(&server)] {
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        }
        limit_unacknowledged(&client, dialer.unacknowledged);
        #[cfg(target_os = "linux")]
        assert_eq!(SockRef::from(&client).tcp_user_timeout().unwrap(), Some(CONTROL_UNACKNOWLEDGED));

        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = String::new();
        server.read_to_string(&mut asked).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answered = String::new();
        client.read_to_string(&mut answered).await.unwrap();
        assert_eq!((asked.as_str(), answered.as_str()), ("ask", "answer"));
    }

    #[tokio::test]
    async fn without_a_host_both_kinds_of_addresses_are_served() {
        let (listener, port) = listener("").await;
        for host in ["127.0.0.1", "localhost", ""] {
            let address = address(host, port);
            let dialed = connect(&address, Duration::from_secs(10));
            let (dialed, accepted) = tokio::join!(dialed, accept(&listener));
            assert!(dialed.is_ok() && origin(accepted.unwrap().1).0.is_loopback(), "{host:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_named() {
        let (listener, port) = listener("127.0.0.1").await;
        drop(listener);
        let refused = connect(&address("127.0.0.1", port), Duration::from_secs(10)).await.unwrap_err();
        let told = format!("cannot connect to 127.0.0.1:{port}: Connection refused");
        assert!(matches!(&refused, CallError::Connection(text) if text.starts_with(&told)), "{refused}");
        let nowhere = Address { host: "127.0.0.1".to_owned(), port: "no such service".to_owned() };
        let refused = connect(&nowhere, Duration::ZERO).await.unwrap_err().to_string();
        assert!(refused.contains("write the port as a number"), "{refused}");
    }

    #[tokio::test]
    async fn an_address_that_may_come_can_be_listened_at_on_linux() {
        // For documentation only (RFC 5737): no machine has it.
        let away = address("192.0.2.1", 0);
        assert_eq!(bind(&away, false).await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        let bound = bind(&away, true).await.map(|listener| listener.local_addr().unwrap().ip().to_string());
        let expected = if cfg!(target_os = "linux") { Ok("192.0.2.1") } else { Err(io::ErrorKind::Unsupported) };
        assert_eq!(bound.as_deref().map_err(io::Error::kind), expected);
    }

    #[tokio::test]
    async fn who_is_not_in_the_map_hears_nothing() {
        let (listener, port) = listener("127.0.0.1").await;
        let who_is = |address: IpAddr, _: Option<&str>| {
            assert!(address.is_loopback());
            None
        };
        let mut acceptor = TcpAcceptor::new(listener, Arc::new(who_is));
        let dialer = TcpDialer::for_data(address("127.0.0.1", port), Duration::from_secs(10));
        let (dialed, arrival) = tokio::join!(dialer.dial(), acceptor.accept());
        let arrival = arrival.unwrap();
        assert_eq!(arrival.from, "127.0.0.1");
        let refused = arrival.identify.await.err().unwrap();
        assert!(refused.to_string().starts_with("client IP not in client map"), "{refused}");
        let mut heard = Vec::new();
        let ended = dialed.unwrap().read_to_end(&mut heard).await;
        assert!(heard.is_empty() && ended.is_ok_and(|length| length == 0));
    }
}
