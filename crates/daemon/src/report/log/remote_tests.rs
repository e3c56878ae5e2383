//! Outlets that leave the process, spoken to over real sockets.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;

use config::types::{Outlet as Configured, StdoutOutlet};
use model::event::{About, Event, What};

use super::super::Log;
use crate::events::Reader;

use super::*;

fn configured(yaml: &str) -> Configured {
    let text = format!("global: {{logging: [{yaml}]}}\njobs: []\n");
    config::parse("zrepl.yml", &text).unwrap().config.global.logging.remove(0)
}

fn tcp(fields: &str) -> TcpOutlet {
    match configured(&format!("{{type: tcp, level: info, format: human, retry_interval: 100ms, {fields}}}")) {
        Configured::Tcp(outlet) => outlet,
        other => panic!("{other:?}"),
    }
}

fn event(message: &str) -> Event {
    let what = What::Warning { subsystem: "repl", message: message.to_owned() };
    Event {
        at: "2024-05-14T12:00:00Z".parse().unwrap(),
        job: Some(model::JobName::parse("j").unwrap()),
        about: About::Nothing,
        what,
    }
}

/// A first outlet that hands out what it would print.
fn complaints() -> (Complaints, mpsc::Receiver<String>) {
    struct Lines(mpsc::Sender<String>);
    impl Write for Lines {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(lines).into_owned());
            Ok(lines.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (sender, receiver) = mpsc::channel();
    let metadata = Metadata { time: false, level: true, color: false };
    let layout = Layout { format: StdoutOutlet::default().format, metadata, zone: TimeZone::UTC };
    let complaints = Complaints::default();
    complaints.go_to(Arc::new(StdoutLog::with(LogLevel::Error, layout, Lines(sender), &complaints)));
    (complaints, receiver)
}

/// An outlet with the log that it writes.
struct Read {
    outlet: Arc<RemoteLog>,
    log: Log,
}

impl Read {
    fn read(&self, event: &Event) {
        self.log.read(event);
    }

    fn flush(&self, limit: Duration) {
        self.outlet.flush(limit);
    }
}

fn read_by(outlet: RemoteLog) -> Read {
    let outlet = Arc::new(outlet);
    Read { log: Log::new(vec![outlet.clone()]), outlet }
}

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn syslog_gets_priority_time_and_tag_but_neither_time_nor_level_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let Configured::Syslog(outlet) = configured("{type: syslog, level: info, format: human, facility: daemon}") else {
        panic!("not syslog");
    };
    let (complaints, _) = complaints();
    let log = read_by(RemoteLog::syslog_at(vec![directory.path().join("missing"), path], &outlet, &complaints));
    log.read(&event("look\nhere"));
    let mut bytes = [0; 500];
    let length = daemon.recv(&mut bytes).unwrap();
    let text = std::str::from_utf8(&bytes[..length]).unwrap();
    // daemon is 3, a warning 4.
    assert!(text.starts_with("<28>May 14 "), "{text}");
    let tail = format!("zrepl[{}]: [j][repl][jrdK$7ww6$7ww6]: look\\nhere", std::process::id());
    assert!(text.ends_with(&tail), "{text}");
}

#[test]
fn a_server_that_comes_later_gets_everything_and_its_absence_is_told_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let (complaints, told) = complaints();
    let log = read_by(RemoteLog::tcp(&tcp(&format!("address: \"{address}\"")), Terminal::No, &complaints));
    for number in 0..100 {
        log.read(&event(&format!("line {number}")));
    }
    let complaint = told.recv_timeout(PATIENCE).unwrap();
    assert!(
        complaint.starts_with("[ERRO][meta]: outlet error outlet_type=\"tcp\" err=\"cannot connect"),
        "{complaint}"
    );
    let server = TcpListener::bind(address).unwrap();
    let (stream, _) = server.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let lines: Vec<String> = BufReader::new(stream).lines().take(100).map(Result::unwrap).collect();
    assert!(lines[0].ends_with("[WARN][j][repl][jrdK$7ww6$7ww6]: line 0"), "{}", lines[0]);
    assert!(lines[99].ends_with("line 99"), "{}", lines[99]);
    assert!(told.try_recv().is_err(), "said once");
    log.flush(PATIENCE);
}

#[test]
fn a_server_that_starts_again_misses_no_line_that_was_written_later() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (complaints, told) = complaints();
    let fields = format!("address: \"{}\"", server.local_addr().unwrap());
    let log = read_by(RemoteLog::tcp(&tcp(&fields), Terminal::No, &complaints));
    for number in 1..=3 {
        // A line that went into the connection that is closed would be lost, and the one after it would fail.
        for line in [format!("line {number}"), "another".to_owned()] {
            log.read(&event(&line));
            log.flush(PATIENCE);
        }
        let (stream, _) = server.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines: Vec<String> = BufReader::new(stream).lines().take(2).map(Result::unwrap).collect();
        assert!(lines[0].ends_with(&format!("line {number}")) && lines[1].ends_with("another"), "{lines:?}");
    }
    assert!(told.try_recv().is_err(), "nothing failed");
}

#[test]
fn a_server_that_reads_nothing_blocks_nobody_and_losses_are_counted() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let (complaints, told) = complaints();
    let fields = format!("address: \"{address}\"");
    let log = read_by(RemoteLog::tcp(&tcp(&fields), Terminal::No, &complaints));
    let long = "x".repeat(30_000);
    let begun = std::time::Instant::now();
    // Far more than the queue and the kernel's buffers hold.
    for _ in 0..2_000 {
        log.read(&event(&long));
    }
    assert!(begun.elapsed() < PATIENCE);
    // It stands still: sooner or later that is told.
    let complaint = told.recv_timeout(PATIENCE).unwrap();
    assert!(complaint.contains("outlet_type=\"tcp\""), "{complaint}");
}

#[test]
fn datagrams_carry_a_line_each() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let fields = format!("net: udp, address: \"{}\"", server.local_addr().unwrap());
    let (complaints, _) = complaints();
    let log = read_by(RemoteLog::tcp(&tcp(&fields), Terminal::No, &complaints));
    log.read(&event("one"));
    let mut bytes = [0; 500];
    let length = server.recv(&mut bytes).unwrap();
    assert!(std::str::from_utf8(&bytes[..length]).unwrap().ends_with("[WARN][j][repl][jrdK$7ww6$7ww6]: one\n"));
}

#[test]
fn of_a_line_that_no_datagram_holds_the_beginning_is_sent_and_the_next_one_comes() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let fields = format!("net: udp, address: \"{}\"", server.local_addr().unwrap());
    let (complaints, _) = complaints();
    let log = read_by(RemoteLog::tcp(&tcp(&fields), Terminal::No, &complaints));
    log.read(&event(&"x".repeat(100_000)));
    log.read(&event("next"));
    let mut bytes = vec![0; 70_000];
    let length = server.recv(&mut bytes).unwrap();
    assert!((30_000..65_508).contains(&length), "{length}");
    let length = server.recv(&mut bytes).unwrap();
    assert!(std::str::from_utf8(&bytes[..length]).unwrap().ends_with("[WARN][j][repl][jrdK$7ww6$7ww6]: next\n"));
}

#[test]
fn the_journal_gets_the_fields_of_an_entry_and_its_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let Configured::Journald(outlet) = configured("{type: journald, level: info, retry_interval: 100ms}") else {
        panic!("not journald");
    };
    let (complaints, told) = complaints();
    let log = read_by(RemoteLog::journald_at(path.clone(), &outlet, &complaints));
    let mut failed = event("");
    let filesystem = model::DatasetName::parse("p/a").unwrap();
    failed.what = What::Replication(model::event::Replication::StepFailed {
        filesystem,
        step: 0,
        bytes: 7,
        error: "no\nspace".to_owned(),
        will_retry: false,
    });
    log.read(&failed);
    let complaint = told.recv_timeout(PATIENCE).unwrap();
    assert!(complaint.contains("the journal does not listen on"), "{complaint}");

    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = vec![0; 70_000];
    let length = journal.recv(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let fields: Vec<&str> = text.lines().collect();
    assert!(text.ends_with('\n'), "{text:?}");
    for field in ["PRIORITY=3", "SYSLOG_IDENTIFIER=zrepl", "ZREPL_JOB=j", "ZREPL_SUBSYSTEM=repl", "ZREPL_FS=p/a"] {
        assert!(fields.contains(&field), "no {field} in {text}");
    }
    assert!(fields[0].starts_with("MESSAGE=[j][repl][jrdK$7ww6$7ww6.QtEY.s1]: "), "{text}");
    assert!(fields.contains(&"ZREPL_ERR=no\\nspace"), "{text}");
}

/// A certificate that each side shows, and by which it knows the other.
fn certificate(directory: &std::path::Path, name: &str) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wanted = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(rcgen::DnType::CommonName, name);
    let paths = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
    std::fs::write(&paths.0, wanted.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&paths.1, key.serialize_pem()).unwrap();
    paths
}

#[test]
fn a_server_with_tls_is_known_by_its_name_without_the_port() {
    use tokio::io::AsyncBufReadExt as _;
    use wire::transport::Acceptor as _;

    let directory = tempfile::tempdir().unwrap();
    let (server, client) = (certificate(directory.path(), "localhost"), certificate(directory.path(), "client"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let fields = format!(
        "address: \"localhost:{}\", retry_interval: 10s, tls: {{ca: {}, cert: {}, key: {}}}",
        address.port(),
        server.0.display(),
        client.0.display(),
        client.1.display()
    );
    let Configured::Tcp(outlet) = configured(&format!("{{type: tcp, level: info, format: human, {fields}}}")) else {
        panic!("not tcp");
    };
    let (complaints, _) = complaints();
    let log = read_by(RemoteLog::tcp(&outlet, Terminal::No, &complaints));
    log.read(&event("secret"));
    let line = runtime.block_on(async {
        let files = TlsFiles { ca: client.0.clone(), cert: server.0.clone(), key: server.1.clone() };
        let options = TlsOptions { files, key_log: None, tell: Arc::new(|_| {}) };
        let names = vec![model::ClientIdentity::parse("client").unwrap()];
        let mut acceptor = wire::tls::TlsAcceptor::new(listener, names, PATIENCE, &options);
        let (connection, _) = acceptor.accept().await.unwrap().identify.await.unwrap();
        let mut lines = tokio::io::BufReader::new(connection).lines();
        tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap()
    });
    assert!(line.unwrap().ends_with("[WARN][j][repl][jrdK$7ww6$7ww6]: secret"));
}
