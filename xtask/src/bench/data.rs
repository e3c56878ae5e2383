//! One large stream: how fast it gets from `zfs send` to `zfs recv`, and what that costs in processor
//! time, beside bare movers that do nothing else.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::daemon::{Daemon, build};
use super::stand_in::{CLIENT, Scale, StandIn};
use crate::cargo::cargo;
use crate::children::{self, Scratch};

const GIB: u64 = 1 << 30;

/// What is sent unless somebody says otherwise, GiB.
const SIZE: u64 = 4;

/// A transport with the processor seconds per GiB of zrepl 0.7 and those that are aimed at.
struct Case {
    name: &'static str,
    zrepl: f64,
    aim: f64,
}

const CASES: [Case; 3] = [
    Case { name: "local", zrepl: 0.77, aim: 0.05 },
    Case { name: "tcp", zrepl: 1.15, aim: 0.60 },
    Case { name: "tls", zrepl: 2.41, aim: 1.5 },
];

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let (gib, only) = match arguments {
        [] => (SIZE, None),
        [gib, only @ ..] if only.len() < 2 => (gib.parse().context("how many GiB to send")?, only.first()),
        _ => bail!("bench data takes how many GiB to send and one of the transports, or nothing"),
    };
    let zrepl = build()?;
    println!("{gib} GiB; processor time without that of zfs send and zfs recv");
    println!("{:<22} {:>10} {:>14} {:>10} {:>8}", "", "GiB/s", "CPU s per GiB", "zrepl 0.7", "aim");
    for case in CASES.iter().filter(|case| only.is_none_or(|only| only == case.name)) {
        let measured = replicate(&zrepl, case.name, gib * GIB)?;
        measured.print(case.name, Some(case));
    }
    if only.is_some() {
        return Ok(());
    }
    for (name, mover) in MOVERS {
        bare(*mover, gib * GIB)?.print(name, None);
    }
    println!();
    if !children::run(&mut cargo(["bench", "--quiet", "--package", "wire", "--bench", "empty_step"]))?.success() {
        bail!("the measurement of steps without bytes failed");
    }
    Ok(())
}

struct Measured {
    bytes: u64,
    wall: f64,
    cpu: f64,
}

impl Measured {
    fn print(&self, name: &str, case: Option<&Case>) {
        let gib = self.bytes as f64 / GIB as f64;
        let (speed, cost) = (gib / self.wall, self.cpu / gib);
        let (zrepl, aim) = match case {
            Some(case) => (format!("{:.2}", case.zrepl), format!("{:.2}", case.aim)),
            None => (String::new(), String::new()),
        };
        println!("{name:<22} {speed:>10.2} {cost:>14.3} {zrepl:>10} {aim:>8}");
    }
}

/// A daemon that pushes to its own sink.
fn replicate(zrepl: &Path, transport: &str, bytes: u64) -> Result<Measured> {
    let scratch = Scratch::new(&std::env::temp_dir(), "zrepl-bench-")?;
    let host = StandIn::new(scratch.path(), Scale { filesystems: 1, snapshots: 1, increments: 1, bytes })?;
    let (connect, serve) = ends(transport, scratch.path())?;
    let mut daemon = Daemon::start(&zrepl.to_owned(), &host, host.config_over(1, &connect, &serve)?)?;
    daemon.wait_for("[INFO]")?;
    let before = daemon.cpu()?.daemon;
    let start = Instant::now();
    daemon.cycle()?;
    let wall = start.elapsed().as_secs_f64();
    let cpu = daemon.cpu()?.daemon - before;
    match host.received()? {
        2 => Ok(Measured { bytes, wall, cpu }),
        received => bail!("the receiver has {received} snapshots instead of 2"),
    }
}

/// The values of `connect` and `serve`; certificates go to the folder.
fn ends(transport: &str, folder: &Path) -> Result<(String, String)> {
    match transport {
        "local" => Ok((
            format!("{{type: local, listener_name: bench, client_identity: {CLIENT}}}"),
            "{type: local, listener_name: bench}".to_owned(),
        )),
        "tcp" => {
            let port = free_port()?;
            Ok((
                format!("{{type: tcp, address: \"127.0.0.1:{port}\"}}"),
                format!("{{type: tcp, listen: \"127.0.0.1:{port}\", clients: {{\"127.0.0.1\": {CLIENT}}}}}"),
            ))
        }
        "tls" => {
            let port = free_port()?;
            for name in ["server", CLIENT] {
                certify(folder, name)?;
            }
            let files = |own: &str, other: &str| {
                let folder = folder.display();
                format!("ca: \"{folder}/{other}.crt\", cert: \"{folder}/{own}.crt\", key: \"{folder}/{own}.key\"")
            };
            let (client, server) = (files(CLIENT, "server"), files("server", CLIENT));
            Ok((
                format!("{{type: tls, address: \"127.0.0.1:{port}\", server_cn: server, {client}}}"),
                format!("{{type: tls, listen: \"127.0.0.1:{port}\", client_cns: [{CLIENT}], {server}}}"),
            ))
        }
        other => bail!("no transport {other}"),
    }
}

/// A port that nobody uses at this moment.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Makes a self-signed certificate as zrepl's documentation has people make it, and its key.
fn certify(folder: &Path, name: &str) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-sha256", "-nodes", "-newkey", "rsa:2048", "-days", "90"]);
    command.args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")]);
    command.arg("-keyout").arg(folder.join(format!("{name}.key")));
    command.arg("-out").arg(folder.join(format!("{name}.crt")));
    let made = command.stdin(Stdio::null()).output().context("starting openssl, which makes certificates")?;
    if !made.status.success() {
        bail!("openssl failed: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}

/// Moves what comes out of one child into another; ends when the first one does.
type Mover = fn(ChildStdout, ChildStdin) -> Result<()>;

const MOVERS: &[(&str, Mover)] =
    &[("bare copy, pipe", copy_pipe), ("bare copy, tcp", copy_tcp), ("bare splice, tcp", splice_tcp)];

/// What is copied at once, bytes.
const PIECE: usize = 256 << 10;

/// The same stream moved by threads of this process.
fn bare(mover: Mover, bytes: u64) -> Result<Measured> {
    let scratch = Scratch::new(&std::env::temp_dir(), "zrepl-bench-")?;
    let host = StandIn::new(scratch.path(), Scale { filesystems: 1, snapshots: 1, increments: 1, bytes })?;
    let dataset = "data/g000/fs00000";
    let mut send = Command::new(host.programs().join("zfs"));
    send.args(["send", "-i", "@bench_00000", &format!("src/{dataset}@bench_00001")]);
    let mut receive = Command::new(host.programs().join("zfs"));
    receive.args(["recv", &format!("dst/sink/{CLIENT}/src/{dataset}@bench_00001")]);
    let mut send = start(host.equip(&mut send).stdout(Stdio::piped()))?;
    let mut receive = start(host.equip(&mut receive).stdin(Stdio::piped()))?;
    let from = send.stdout.take().context("zfs send has no output")?;
    let to = receive.stdin.take().context("zfs recv has no input")?;
    for pipe in [rustix::fd::AsFd::as_fd(&from), rustix::fd::AsFd::as_fd(&to)] {
        rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20).context("enlarging a pipe")?;
    }
    let (began, before) = (Instant::now(), own_cpu());
    mover(from, to)?;
    let cpu = own_cpu() - before;
    if !send.wait()?.success() || !receive.wait()?.success() {
        bail!("zfs send or zfs recv failed");
    }
    Ok(Measured { bytes, wall: began.elapsed().as_secs_f64(), cpu })
}

fn start(command: &mut Command) -> Result<Child> {
    command.spawn().context("starting the stand-in")
}

/// Processor seconds of this process, without its children.
fn own_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn copy_pipe(mut from: ChildStdout, mut to: ChildStdin) -> Result<()> {
    copy(&mut from, &mut to)
}

fn copy(from: &mut impl std::io::Read, to: &mut impl std::io::Write) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            length => to.write_all(piece.get(..length).unwrap_or_default())?,
        }
    }
}

/// Both ends of a connection on this machine.
fn connection() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

fn copy_tcp(mut from: ChildStdout, mut to: ChildStdin) -> Result<()> {
    let (mut out, mut into) = connection()?;
    let sender = std::thread::spawn(move || copy(&mut from, &mut out));
    copy(&mut into, &mut to)?;
    sender.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))?
}

fn splice_tcp(from: ChildStdout, to: ChildStdin) -> Result<()> {
    let (out, into) = connection()?;
    let sender = std::thread::spawn(move || splice(from, out));
    splice(into, to)?;
    sender.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))?
}

fn splice(from: impl rustix::fd::AsFd, to: impl rustix::fd::AsFd) -> Result<()> {
    while rustix::pipe::splice(&from, None, &to, None, 1 << 20, rustix::pipe::SpliceFlags::MOVE)? > 0 {}
    Ok(())
}
