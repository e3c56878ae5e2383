//! How long a step without bytes takes, from the request to the end of its stream, and the processor time
//! of both sides: what a connection for each step costs, and what is left of it when it is kept.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use model::protection::ProtectionPolicy;
use model::view::View;
use model::{ClientIdentity, DatasetName, Guid, VersionKind, VersionName, VersionRef};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;
use wire::data::DataClient;
use wire::frame::Limits;
use wire::handshake::{Banner, Label};
use wire::listen::{Host, Incident, UnderWay, Watcher, serve};
use wire::tcp::{self, Address, TcpAcceptor, TcpDialer};
use wire::tls::{TlsAcceptor, TlsDialer, TlsFiles, TlsOptions};
use wire::transport::{Acceptor, Dialer};
use wire::{ByteStream, CallError, Endpoint, SendReply, SendRequest, Service};

const STEPS: u32 = 500;

/// A transport, zrepl 0.7's milliseconds for a step, and the milliseconds that are aimed at if the peer is zrepl
/// and if it is this program.
struct Case {
    name: &'static str,
    zrepl: f64,
    aims: [Option<f64>; 2],
}

const CASES: [Case; 2] = [
    Case { name: "tcp", zrepl: 3.9, aims: [None, Some(1.0)] },
    Case { name: "tls", zrepl: 6.1, aims: [None, Some(1.0)] },
];

/// Sends streams without bytes.
struct Empty;

#[async_trait]
impl Endpoint for Empty {
    async fn list(&self) -> Result<View, CallError> {
        Ok(View::default())
    }

    async fn send(&self, _: &SendRequest) -> Result<SendReply, CallError> {
        let stream: ByteStream = Box::pin(tokio::io::duplex(1).0);
        Ok(SendReply { used_resume_token: false, expected: Arc::new(OnceLock::new()), stream })
    }
}

struct ForAll;

impl Service for ForAll {
    fn endpoint_for(&self, _: &ClientIdentity) -> Result<Arc<dyn Endpoint>, CallError> {
        Ok(Arc::new(Empty))
    }
}

struct Loud;

impl Watcher for Loud {
    fn notice(&self, incident: &Incident, _: u64) {
        println!("{incident}");
    }

    fn comes(&self, _: &ClientIdentity, _: Label) {}

    fn goes(&self, _: &ClientIdentity, _: Label) {}

    fn serves(&self, _: &ClientIdentity) -> UnderWay {
        Box::new(())
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{STEPS} steps without bytes, one after the other; processor time of both sides");
    println!("{:<34} {:>8} {:>12} {:>10} {:>8}", "", "ms", "CPU ms", "zrepl 0.7", "aim");
    for Case { name, zrepl, aims } in &CASES {
        let peers = [
            ("a connection each, as with zrepl", Banner::with_extensions(vec![])),
            ("kept", Banner::of_this_program()),
        ];
        for ((how, banner), aim) in peers.into_iter().zip(aims) {
            let (wall, cpu) = runtime.block_on(measure(name, banner));
            let (title, aim) = (format!("{name}, {how}"), aim.map_or(String::new(), |aim| format!("{aim:.1}")));
            println!("{title:<40} {wall:>6.2} {cpu:>8.2} {zrepl:>10.1} {aim:>8}");
        }
    }
}

/// Milliseconds and processor milliseconds of a step.
async fn measure(transport: &str, banner: Banner) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let listener = tcp::bind(&Address { host: "127.0.0.1".into(), port: "0".into() }, false).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let address = Address { host: "127.0.0.1".into(), port };
    let limit = Duration::from_secs(10);
    let client = ClientIdentity::parse("client").unwrap();
    let (acceptor, dialer): (Box<dyn Acceptor>, Arc<dyn Dialer>) = match transport {
        "tcp" => {
            let who_is = move |_, _: Option<&str>| Some(client.clone());
            (Box::new(TcpAcceptor::new(listener, Arc::new(who_is))), Arc::new(TcpDialer::for_data(address, limit)))
        }
        _ => {
            certify(folder.path(), "server");
            certify(folder.path(), "client");
            let (here, there) =
                (options(folder.path(), "client", "server"), options(folder.path(), "server", "client"));
            let acceptor = TlsAcceptor::new(listener, vec![client], limit, &there);
            (Box::new(acceptor), Arc::new(TlsDialer::new(address, limit, "server".into(), &here)))
        }
    };
    let host = Host {
        service: Arc::new(ForAll),
        greeting: banner.clone().into(),
        limits: Limits::default(),
        watcher: Arc::new(Loud),
        closing: CancellationToken::new(),
    };
    let stop = CancellationToken::new();
    let serving = {
        let stop = stop.clone();
        tokio::spawn(async move { serve(acceptor, host, &stop).await })
    };
    let client = DataClient::new(dialer, banner.into(), Limits::default());
    step(&client).await;
    let (start, before) = (Instant::now(), cpu());
    for _ in 0..STEPS {
        step(&client).await;
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64() * 1e3, cpu() - before);
    stop.cancel();
    serving.await.unwrap();
    (wall / f64::from(STEPS), cpu / f64::from(STEPS))
}

async fn step(client: &DataClient) {
    let to = VersionRef { kind: VersionKind::Snapshot, name: VersionName::parse("s1").unwrap(), guid: Guid(7) };
    let filesystem = DatasetName::parse("tank/a").unwrap();
    let protection = ProtectionPolicy::default();
    let request = SendRequest { filesystem, from: None, to, resume_token: None, protection };
    let mut reply = client.send(&request).await.unwrap();
    assert_eq!(reply.stream.read(&mut [0; 10]).await.unwrap(), 0);
    drop(reply);
    // The connection is given back by a task of its own.
    tokio::task::yield_now().await;
}

/// A self-signed pair with a key of the kind that zrepl's documentation asks for.
fn certify(folder: &Path, name: &str) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let mut wanted = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(rcgen::DnType::CommonName, name);
    std::fs::write(folder.join(format!("{name}.crt")), wanted.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn options(folder: &Path, own: &str, other: &str) -> TlsOptions {
    let path = |name: &str, end: &str| folder.join(format!("{name}.{end}"));
    let files = TlsFiles { ca: path(other, "crt"), cert: path(own, "crt"), key: path(own, "key") };
    TlsOptions { files, key_log: None, tell: Arc::new(|message| println!("{message}")) }
}

/// Processor milliseconds of this process.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
