//! Outlets that leave the process: `syslog`, `journald` and `tcp`.
//!
//! Each has a queue and a thread like that of standard output. A server that is away is tried again every
//! `retry_interval`; meanwhile the queue fills, and what finds no room is counted.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use config::types::{HostPort, JournaldOutlet, LogFormat, LogLevel, LogNet, SyslogOutlet, TcpOutlet};
use futures::FutureExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::tls::{TlsDialer, TlsFiles, TlsOptions};
use wire::transport::{Connection, Dialer};

use super::entry::{Entry, Value};
use super::format::{Layout, Metadata};
use super::local::{JOURNAL_SOCKET, Journal, SYSLOG_SOCKETS, Syslog, journal_entry, send_datagram};
use super::outlet::{StdoutLog, Terminal, Writer, limit_of};
use crate::job::transport::address;

/// What syslog calls the program.
pub(super) const TAG: &str = "zrepl";

/// What the configuration calls standard output.
pub(super) const STDOUT: &str = "stdout";

/// Where an outlet says that it does not work: the first outlet that takes errors. Cheap to clone.
#[derive(Clone, Default)]
pub struct Complaints(Arc<OnceLock<Arc<dyn Outlet>>>);

impl Complaints {
    /// Everything is said to this outlet from now on. One that it makes about itself is written when it
    /// works again.
    pub fn go_to(&self, outlet: Arc<dyn Outlet>) {
        // The first one stays.
        let _ = self.0.set(outlet);
    }

    pub(super) fn complain(&self, outlet: &str, error: &str) {
        let fields = vec![("outlet_type", Value::from(outlet)), ("err", Value::from(error))];
        let entry = Entry { fields, ..Entry::of_the_log(Timestamp::now(), "outlet error".to_owned()) };
        match self.0.get() {
            // What standard output does not take now, it tells by itself later.
            Some(first) if outlet == STDOUT && first.kind() == STDOUT => {}
            Some(first) => first.write(&entry),
            None => eprintln!("{outlet} log outlet: {error}"),
        }
    }
}

/// Takes entries.
pub trait Outlet: Send + Sync {
    /// The least important level that it takes.
    fn level(&self) -> LogLevel;
    /// What the configuration calls it.
    fn kind(&self) -> &'static str;
    /// How many lines were lost since the start.
    fn lost(&self) -> u64;
    /// Queues an entry, if it is important enough.
    fn write(&self, entry: &Entry);
    /// Waits until everything is written, at most so long; how many lines still wait then.
    fn flush(&self, limit: Duration) -> u64;
}

impl Outlet for StdoutLog {
    fn level(&self) -> LogLevel {
        StdoutLog::level(self)
    }

    fn kind(&self) -> &'static str {
        STDOUT
    }

    fn lost(&self) -> u64 {
        StdoutLog::lost(self)
    }

    fn write(&self, entry: &Entry) {
        self.take(entry);
    }

    fn flush(&self, limit: Duration) -> u64 {
        StdoutLog::flush(self, limit)
    }
}

/// A `syslog`, `journald` or `tcp` outlet.
pub struct RemoteLog {
    kind: &'static str,
    level: LogLevel,
    layout: Layout,
    frame: Frame,
    writer: Writer,
    complaints: Complaints,
}

/// What surrounds a line.
enum Frame {
    Nothing,
    /// RFC 3164, as programs hand it to the machine's own daemon: without a host.
    Syslog {
        facility: u8,
        zone: TimeZone,
    },
    /// The fields of the journal.
    Journal,
}

impl RemoteLog {
    /// The `syslog` outlet as configured.
    pub fn syslog(outlet: &SyslogOutlet, complaints: &Complaints) -> RemoteLog {
        Self::syslog_at(SYSLOG_SOCKETS.map(PathBuf::from).to_vec(), outlet, complaints)
    }

    /// The same for a daemon that listens elsewhere.
    pub fn syslog_at(sockets: Vec<PathBuf>, outlet: &SyslogOutlet, complaints: &Complaints) -> RemoteLog {
        let frame = Frame::Syslog { facility: outlet.facility.code, zone: TimeZone::system() };
        let metadata = Metadata { time: false, level: false, color: false };
        let way = Syslog::new(sockets);
        Self::start("syslog", outlet.level, outlet.format, metadata, frame, outlet.retry_interval, way, complaints)
    }

    /// The `journald` outlet as configured.
    pub fn journald(outlet: &JournaldOutlet, complaints: &Complaints) -> RemoteLog {
        Self::journald_at(JOURNAL_SOCKET.into(), outlet, complaints)
    }

    /// The same for a journal that listens elsewhere.
    pub fn journald_at(socket: PathBuf, outlet: &JournaldOutlet, complaints: &Complaints) -> RemoteLog {
        let metadata = Metadata { time: false, level: false, color: false };
        let (interval, way) = (outlet.retry_interval, Journal::new(socket));
        Self::start("journald", outlet.level, outlet.format, metadata, Frame::Journal, interval, way, complaints)
    }

    /// A `tcp` outlet as configured; lines have colours if those of standard output would have.
    pub fn tcp(outlet: &TcpOutlet, terminal: Terminal, complaints: &Complaints) -> RemoteLog {
        let metadata = Metadata { time: true, level: true, color: terminal == Terminal::Color };
        let way = Server::new(outlet, complaints);
        let interval = outlet.retry_interval;
        Self::start("tcp", outlet.level, outlet.format, metadata, Frame::Nothing, interval, way, complaints)
    }

    #[allow(clippy::too_many_arguments)]
    fn start(
        kind: &'static str,
        level: LogLevel,
        format: LogFormat,
        metadata: Metadata,
        frame: Frame,
        retry_interval: Duration,
        way: impl Way,
        complaints: &Complaints,
    ) -> RemoteLog {
        let layout = Layout { format, metadata, zone: TimeZone::system() };
        let complaints = complaints.clone();
        let persistent = Persistent { way, kind, retry_interval, complaints: complaints.clone(), failing: false };
        // It does not return before everything is written.
        let writer = Writer::start(persistent, |_| String::new());
        RemoteLog { kind, level, layout, frame, writer, complaints }
    }

    fn framed(&self, entry: &Entry) -> String {
        let line = self.layout.line(entry);
        match &self.frame {
            Frame::Nothing => line,
            Frame::Syslog { facility, zone } => {
                let priority = u16::from(*facility) * 8 + severity(entry.level);
                let time = entry.at.to_zoned(zone.clone()).strftime("%b %e %H:%M:%S");
                format!("<{priority}>{time} {TAG}[{}]: {line}", std::process::id())
            }
            Frame::Journal => journal_entry(entry, &line),
        }
    }
}

/// What syslog calls a level.
pub(super) fn severity(level: LogLevel) -> u16 {
    match level {
        LogLevel::Debug => 7,
        LogLevel::Info => 6,
        LogLevel::Warn => 4,
        LogLevel::Error => 3,
    }
}

impl Outlet for RemoteLog {
    fn level(&self) -> LogLevel {
        self.level
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn lost(&self) -> u64 {
        self.writer.lost()
    }

    fn write(&self, entry: &Entry) {
        if entry.level < self.level {
            return;
        }
        let loss = |lost: u64| {
            let message = format!("{lost} log lines were lost because the {} outlet was not fast enough", self.kind);
            (self.framed(&Entry::of_the_log(entry.at, message.clone())), message)
        };
        let mut said = None;
        self.writer.push(self.framed(entry), limit_of(entry.level), |lost| {
            let (line, message) = loss(lost);
            said = Some(message);
            line
        });
        if let Some(message) = said {
            self.complaints.complain(self.kind, &message);
        }
    }

    fn flush(&self, limit: Duration) -> u64 {
        self.writer.flush(limit)
    }
}

/// Brings lines somewhere.
pub(super) trait Way: Send + 'static {
    /// Sends whole lines. The error is how many bytes are gone for certain, and why the others are not.
    fn send(&mut self, lines: &[u8]) -> Result<(), (usize, String)>;
}

/// Tries again until lines have gone.
struct Persistent<W> {
    way: W,
    kind: &'static str,
    retry_interval: Duration,
    complaints: Complaints,
    failing: bool,
}

impl<W: Way> Write for Persistent<W> {
    /// Returns when all has gone, however long that takes: the thread has nothing else to do.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut rest = lines;
        while let Err((gone, why)) = self.way.send(rest) {
            // A line that went in part is sent again as a whole.
            let whole = rest.get(..gone).and_then(|gone| gone.iter().rposition(|byte| *byte == b'\n'));
            rest = whole.and_then(|end| rest.get(end + 1..)).unwrap_or(rest);
            // Once, until it has worked again.
            if !std::mem::replace(&mut self.failing, true) {
                self.complaints.complain(self.kind, &format!("{why}; trying again every {:?}", self.retry_interval));
            }
            std::thread::sleep(self.retry_interval);
        }
        self.failing = false;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log server, spoken to from the outlet's thread with a runtime of its own.
struct Server {
    address: HostPort,
    net: LogNet,
    limit: Duration,
    tls: Option<TlsDialer>,
    runtime: io::Result<tokio::runtime::Runtime>,
    connected: Option<Connected>,
}

enum Connected {
    Plain(tokio::net::TcpStream),
    Tls(Connection),
    Datagrams(std::net::UdpSocket),
}

impl Server {
    fn new(outlet: &TcpOutlet, complaints: &Complaints) -> Server {
        let TcpOutlet { address: place, net, retry_interval, tls, .. } = outlet;
        let tls = tls.as_ref().map(|files| {
            let files = TlsFiles { ca: files.ca.clone(), cert: files.cert.clone(), key: files.key.clone() };
            let complaints = complaints.clone();
            let tell = Arc::new(move |message: String| complaints.complain("tcp", &message));
            let options = TlsOptions { files, key_log: None, tell };
            TlsDialer::new(address(place), *retry_interval, place.host.clone(), &options)
        });
        Server {
            address: place.clone(),
            net: *net,
            limit: *retry_interval,
            tls,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build(),
            connected: None,
        }
    }
}

async fn connect(place: &HostPort, net: LogNet, limit: Duration, tls: Option<&TlsDialer>) -> Result<Connected, String> {
    let address = address(place);
    let datagrams = matches!(net, LogNet::Udp | LogNet::Udp4 | LogNet::Udp6);
    match tls {
        Some(tls) => tls.dial().await.map(Connected::Tls).map_err(|error| error.to_string()),
        None if datagrams => udp(&address.to_string()).map(Connected::Datagrams),
        None => {
            let connected = wire::tcp::connect(&address, limit).await;
            connected.map(Connected::Plain).map_err(|error| error.to_string())
        }
    }
}

fn udp(address: &str) -> Result<std::net::UdpSocket, String> {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
    let connect = || {
        let to = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let from: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        Ok(socket)
    };
    connect().map_err(|error: io::Error| format!("cannot reach {address}: {error}"))
}

impl Connected {
    /// Whether the server has not ended the connection: what is written after its end is lost without an error.
    /// Servers of logs say nothing.
    async fn is_open(&mut self) -> bool {
        // Lets the runtime hear what has come since it last ran.
        tokio::task::yield_now().await;
        let mut byte = [0];
        let read = match self {
            Connected::Plain(stream) => stream.read(&mut byte).now_or_never(),
            Connected::Tls(stream) => stream.read(&mut byte).now_or_never(),
            Connected::Datagrams(_) => return true,
        };
        !matches!(read, Some(Ok(0) | Err(_)))
    }

    async fn send(&mut self, lines: &[u8], gone: &mut usize) -> io::Result<()> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            match self {
                Connected::Plain(stream) => stream.write_all(line).await?,
                Connected::Tls(stream) => stream.write_all(line).await?,
                Connected::Datagrams(socket) => send_datagram(line, |line| socket.send(line))?,
            }
            *gone += line.len();
        }
        match self {
            Connected::Plain(stream) => stream.flush().await,
            Connected::Tls(stream) => stream.flush().await,
            Connected::Datagrams(_) => Ok(()),
        }
    }
}

impl Way for Server {
    fn send(&mut self, lines: &[u8]) -> Result<(), (usize, String)> {
        let Server { address, net, limit, tls, runtime, connected } = self;
        let runtime = runtime.as_ref().map_err(|error| (0, error.to_string()))?;
        let place = crate::job::transport::address(address);
        let mut gone = 0;
        let sent = runtime.block_on(async {
            if let Some(known) = connected
                && !known.is_open().await
            {
                *connected = None;
            }
            let mut open = match connected.take() {
                Some(open) => open,
                None => connect(address, *net, *limit, tls.as_ref()).await?,
            };
            match tokio::time::timeout(*limit, open.send(lines, &mut gone)).await {
                Ok(Ok(())) => *connected = Some(open),
                Ok(Err(error)) => return Err(format!("cannot write to {place}: {error}")),
                Err(_) => return Err(format!("{place} took nothing for {limit:?}")),
            }
            Ok(())
        });
        sent.map_err(|why: String| (gone, why))
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
