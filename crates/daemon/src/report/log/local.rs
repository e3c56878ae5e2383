//! Log daemons of this machine: syslog, and the journal of systemd.

use std::io::{self, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::entry::Entry;
use super::format::{one_line, plain};
use super::remote::{TAG, Way, severity};
use crate::limits::LOG_LINE_BYTES;

/// Where programs of this machine hand in what shall be logged, on one system or another.
pub(super) const SYSLOG_SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Where the journal takes entries with fields; see systemd.journal-fields(7).
pub(super) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// What stands between the fields of an entry while it waits. Texts have no control characters by then.
const FIELD_END: char = '\u{1f}';

/// Sends a datagram; of one that is larger than the socket takes, the beginning. It would never get through.
pub(super) fn send_datagram(whole: &[u8], send: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    let mut part = whole;
    loop {
        match send(part) {
            Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) && part.len() > 1 => {
                part = part.get(..part.len() / 2).unwrap_or_default();
            }
            sent => return sent.map(drop),
        }
    }
}

/// Whoever listens for what syslog is told.
pub(super) struct Syslog {
    sockets: Vec<PathBuf>,
    connected: Option<Local>,
}

enum Local {
    Datagrams(UnixDatagram),
    Stream(UnixStream),
}

impl Local {
    fn connect(path: &Path) -> io::Result<Local> {
        let datagrams = || {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            Ok(Local::Datagrams(socket))
        };
        datagrams().or_else(|_: io::Error| Ok(Local::Stream(UnixStream::connect(path)?)))
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Local::Datagrams(socket) => {
                send_datagram(line.strip_suffix(b"\n").unwrap_or(line), |line| socket.send(line))
            }
            Local::Stream(stream) => stream.write_all(line),
        }
    }
}

impl Syslog {
    /// Tries these places in turn.
    pub(super) fn new(sockets: Vec<PathBuf>) -> Syslog {
        Syslog { sockets, connected: None }
    }
}

impl Way for Syslog {
    fn send(&mut self, lines: &[u8]) -> Result<(), (usize, String)> {
        let mut gone = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.connected.is_none() {
                self.connected = self.sockets.iter().find_map(|path| Local::connect(path).ok());
            }
            let Some(connected) = &mut self.connected else {
                let places: Vec<String> = self.sockets.iter().map(|path| path.display().to_string()).collect();
                return Err((gone, format!("no syslog daemon listens on {}", places.join(", "))));
            };
            if let Err(error) = connected.send(line) {
                self.connected = None;
                return Err((gone, format!("cannot write to the syslog daemon: {error}")));
            }
            gone += line.len();
        }
        Ok(())
    }
}

/// The journal of systemd.
pub(super) struct Journal {
    socket: PathBuf,
    connected: Option<UnixDatagram>,
}

impl Journal {
    pub(super) fn new(socket: PathBuf) -> Journal {
        Journal { socket, connected: None }
    }

    fn connected(&mut self) -> Result<&UnixDatagram, String> {
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.socket)?;
            Ok(socket)
        };
        let connected = match self.connected.take() {
            Some(connected) => connected,
            None => connect().map_err(|error: io::Error| {
                format!("the journal does not listen on {}: {error}", self.socket.display())
            })?,
        };
        Ok(self.connected.insert(connected))
    }
}

impl Way for Journal {
    fn send(&mut self, lines: &[u8]) -> Result<(), (usize, String)> {
        let mut gone = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let end = u32::from(FIELD_END) as u8;
            let entry: Vec<u8> = line.iter().map(|byte| if *byte == end { b'\n' } else { *byte }).collect();
            let connected = self.connected().map_err(|why| (gone, why))?;
            if let Err(error) = send_datagram(&entry, |entry| connected.send(entry)) {
                self.connected = None;
                return Err((gone, format!("cannot write to the journal: {error}")));
            }
            gone += line.len();
        }
        Ok(())
    }
}

/// The fields of an entry, on one line as long as it waits; `line` is its text. Details that make it too
/// large are in the text alone.
pub(super) fn journal_entry(entry: &Entry, line: &str) -> String {
    let priority = severity(entry.level).to_string();
    let mut text = String::new();
    let mut add = |name: &str, value: &str| {
        if text.len() + name.len() + value.len() < 2 * LOG_LINE_BYTES {
            text += name;
            text.push('=');
            text += &one_line(value);
            text.push(FIELD_END);
        }
    };
    add("MESSAGE", line.trim_end_matches('\n'));
    add("PRIORITY", &priority);
    add("SYSLOG_IDENTIFIER", TAG);
    if let Some(job) = &entry.job {
        add("ZREPL_JOB", job.as_str());
    }
    if let Some(subsystem) = entry.subsystem {
        add("ZREPL_SUBSYSTEM", subsystem);
    }
    if let Some(span) = &entry.span {
        add("ZREPL_SPAN", span);
    }
    for (name, value) in entry.fields.iter().chain(&entry.also) {
        add(&format!("ZREPL_{}", name.to_ascii_uppercase()), &plain(name, value));
    }
    text.push('\n');
    text
}
