//! What connections cost that announce much: the memory of this process, with nothing else in it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use model::view::View;
use model::{ClientIdentity, Guid, VersionKind, VersionName, VersionRef};
use pump::ByteStream;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wire::frame::{FrameKind, Limits, MAX_STREAM_FRAME, header, message};
use wire::handshake::{Banner, Label};
use wire::listen::{Host, Incident, UnderWay, Watcher, serve};
use wire::pdu::ReceiveReq;
use wire::tcp::{TcpAcceptor, WhoIs};
use wire::transport::{Greeting, greet};
use wire::{CallError, Endpoint, ReceiveRequest, Service};

/// Of each kind.
const CONNECTIONS: usize = 200;

/// What all of a kind may cost, KiB, of 400 GiB that were announced.
const MOST: u64 = 64 << 10;

/// Two gigabytes, nearly.
const ANNOUNCED: u32 = 0x7fff_ffff;

/// The longest that a request of the control service may be, bytes.
const LONGEST_REQUEST: u32 = 4 << 20;

fn greeting() -> Greeting {
    Banner::with_extensions(vec![]).into()
}

/// Takes streams and does not read them; says when it has one.
struct Stalled(Arc<Semaphore>);

#[async_trait]
impl Endpoint for Stalled {
    async fn list(&self) -> Result<View, CallError> {
        Ok(View::default())
    }

    async fn receive_announced(&self, _: &ReceiveRequest, _stream: ByteStream) -> Result<(), CallError> {
        self.0.add_permits(1);
        std::future::pending().await
    }
}

struct Everybody(Arc<Semaphore>);

impl Service for Everybody {
    fn endpoint_for(&self, _: &ClientIdentity) -> Result<Arc<dyn Endpoint>, CallError> {
        Ok(Arc::new(Stalled(Arc::clone(&self.0))))
    }
}

struct Nobody;

impl Watcher for Nobody {
    fn notice(&self, _: &Incident, _: u64) {}
    fn comes(&self, _: &ClientIdentity, _: Label) {}
    fn goes(&self, _: &ClientIdentity, _: Label) {}
    fn serves(&self, _: &ClientIdentity) -> UnderWay {
        Box::new(())
    }
}

/// The most memory that this process ever had, KiB.
fn peak() -> u64 {
    status("VmHWM:")
}

/// The most that it ever set aside, KiB, whether used or not.
fn set_aside() -> u64 {
    status("VmPeak:")
}

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

fn receive() -> Vec<u8> {
    let version = VersionRef { kind: VersionKind::Snapshot, name: VersionName::parse("s").unwrap(), guid: Guid(1) };
    let request = ReceiveReq::from(&ReceiveRequest {
        filesystem: "a".parse().unwrap(),
        from: None,
        to: version,
        clear_resume_token: true,
        protection: model::protection::ProtectionPolicy::default(),
    });
    let body = message(FrameKind::Request, &prost::Message::encode_to_vec(&request)).unwrap();
    [message(FrameKind::RequestHeader, b"/v1/recv").unwrap(), body].concat()
}

/// A request of the control service whose message is said to be as long.
fn list(length: u32) -> Vec<u8> {
    let mut headers = vec![0x83, 0x86, 0x81];
    for (name, value) in [(&[0x04][..], "/Replication/ListFilesystems"), (&[0x0f, 0x10], "application/grpc")] {
        headers.extend(name);
        headers.push(value.len() as u8);
        headers.extend(value.as_bytes());
    }
    headers.extend(b"\x00\x02te\x08trailers");
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let announced = [&[0][..], &length.to_be_bytes()].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    [preface, &frame(4, 0, 0, b""), &frame(1, 4, 1, &headers), &frame(0, 0, 1, &announced)].concat()
}

/// A listener with its connections, and what they have in common.
struct Inn {
    open: Vec<TcpStream>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Inn {
    /// Opens connections that all say this, each when the one before was answered or is known to the endpoint.
    async fn fill(count: usize, label: Label, said: &[u8], is_taken: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let who_is: WhoIs = Arc::new(|_, _| ClientIdentity::parse("client").ok());
        let acceptor = TcpAcceptor::new(listener, who_is);
        let (taken, stop) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
        let service = Arc::new(Everybody(Arc::clone(&taken)));
        let (watcher, closing) = (Arc::new(Nobody), CancellationToken::new());
        let host = Host { service, greeting: greeting(), limits: Limits::default(), watcher, closing };
        let stopped = stop.clone();
        let serving = tokio::spawn(async move { serve(Box::new(acceptor), host, &stopped).await });
        let mut open = Vec::new();
        for _ in 0..count {
            let mut io = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            greet(&mut io, &greeting(), label, said).await.unwrap();
            if is_taken {
                taken.acquire().await.unwrap().forget();
            } else {
                // A reset frame, or the settings of the HTTP library.
                io.read_exact(&mut [0; 8]).await.unwrap();
            }
            open.push(io);
        }
        Self { open, stop, serving }
    }

    async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

fn stream(length: u32) -> Vec<u8> {
    [receive().as_slice(), &header(FrameKind::Stream, length)].concat()
}

#[tokio::test]
async fn two_hundred_connections_that_announce_two_gibibytes_cost_little() {
    // What the first connections cost is not theirs.
    Inn::fill(1, Label::Control, &list(ANNOUNCED), false).await.close().await;
    Inn::fill(1, Label::Data, &stream(ANNOUNCED), true).await.close().await;
    let before = peak();
    for (what, label, said, is_taken) in [
        ("a request's path of 2 GiB", Label::Data, header(FrameKind::RequestHeader, ANNOUNCED).to_vec(), false),
        ("a stream's frame of 2 GiB", Label::Data, stream(ANNOUNCED), true),
        ("a stream's frame of 64 MiB, the longest", Label::Data, stream(MAX_STREAM_FRAME), true),
        ("a control request of 2 GiB", Label::Control, list(ANNOUNCED), false),
        ("a control request of 4 MiB, the longest", Label::Control, list(LONGEST_REQUEST), false),
    ] {
        let before_set_aside = set_aside();
        let inn = Inn::fill(CONNECTIONS, label, &said, is_taken).await;
        let cost = peak() - before;
        println!("{CONNECTIONS} connections with {what}: {cost} KiB more");
        assert!(cost < MOST, "{what}: {cost} KiB");
        let cost = set_aside() - before_set_aside;
        assert!(cost < MOST, "{what}: {cost} KiB were set aside");
        inn.close().await;
    }

    // As much as they get rid of, while nobody reads it.
    let inn = Inn::fill(CONNECTIONS, Label::Data, &stream(MAX_STREAM_FRAME), true).await;
    let (piece, mut sent) = (vec![0; 64 << 10], 0);
    for io in &inn.open {
        // A connection that stands still gets some turns to go on.
        for _ in 0..64 {
            match io.try_write(&piece) {
                Ok(length) => sent += length,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
    let cost = peak() - before;
    println!("{CONNECTIONS} connections that sent {} KiB which nobody reads: {cost} KiB more", sent >> 10);
    assert!(cost < MOST, "{cost} KiB");
    inn.close().await;
}
