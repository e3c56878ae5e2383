//! Connections over real TCP that end at every byte of a request and of a response: in order, and with a reset.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use model::protection::ProtectionPolicy;
use model::view::View;
use model::{DatasetName, Guid, VersionKind, VersionName, VersionRef};
use pump::ByteStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use wire::data::DataClient;
use wire::frame::{FrameKind, Limits, header, message};
use wire::handshake::{Agreement, Banner, Label};
use wire::pdu::{ReceiveReq, SendReq};
use wire::transport::{Connection, Dialer, Greeting, welcome};
use wire::{CallError, Endpoint, ReceiveRequest, SendReply, SendRequest};

/// Longer than anything takes that does not wait for one of the limits.
const SOON: Duration = Duration::from_secs(5);

fn greeting() -> Greeting {
    Banner::with_extensions(vec![]).into()
}

fn version() -> VersionRef {
    VersionRef { kind: VersionKind::Snapshot, name: VersionName::parse("s1").unwrap(), guid: Guid(7) }
}

fn filesystem() -> DatasetName {
    DatasetName::parse("tank/a").unwrap()
}

fn announced() -> ReceiveRequest {
    ReceiveRequest {
        filesystem: filesystem(),
        from: None,
        to: version(),
        clear_resume_token: true,
        protection: ProtectionPolicy::default(),
    }
}

fn step() -> SendRequest {
    SendRequest {
        filesystem: filesystem(),
        from: None,
        to: version(),
        resume_token: None,
        protection: ProtectionPolicy::default(),
    }
}

/// Counts what reached it as something whole.
#[derive(Default)]
struct Counting {
    listings: AtomicUsize,
    begun: AtomicUsize,
    ended: AtomicUsize,
    whole: AtomicUsize,
}

impl Counting {
    fn count(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn of(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Endpoint for Counting {
    async fn list(&self) -> Result<View, CallError> {
        Self::count(&self.listings);
        Ok(View::default())
    }

    async fn send(&self, _: &SendRequest) -> Result<SendReply, CallError> {
        let expected = Arc::new(OnceLock::from(300_000));
        Ok(SendReply { used_resume_token: false, expected, stream: Box::pin(std::io::Cursor::new(vec![7; 300_000])) })
    }

    async fn receive_announced(&self, _: &ReceiveRequest, mut stream: ByteStream) -> Result<(), CallError> {
        Self::count(&self.begun);
        let read = stream.read_to_end(&mut Vec::new()).await;
        Self::count(&self.ended);
        read.map_err(CallError::permanent)?;
        Self::count(&self.whole);
        Ok(())
    }
}

/// How a connection goes.
#[derive(Debug, Clone, Copy)]
enum End {
    InOrder,
    Reset,
}

const ENDS: [End; 2] = [End::InOrder, End::Reset];

impl End {
    async fn of(self, mut io: TcpStream) {
        match self {
            End::InOrder => {
                let _ = io.shutdown().await;
                // Until the other side is done too.
                let _ = timeout(SOON, io.read_to_end(&mut Vec::new())).await.expect("the other side never ends");
            }
            End::Reset => io.set_zero_linger().unwrap(),
        }
    }
}

/// Serves one connection as a listener does.
async fn serve(listener: &TcpListener, endpoint: &Arc<Counting>) -> Result<(), String> {
    let (mut io, _) = listener.accept().await.unwrap();
    let (_, label) = welcome(&mut io, &greeting()).await.map_err(|error| error.to_string())?;
    let endpoint = Arc::clone(endpoint) as Arc<dyn Endpoint>;
    match label {
        Label::Control => {
            let served = wire::control::serve(Box::new(io), endpoint, Agreement::default(), Box::new(drop)).await;
            served.map_err(|error| error.to_string())
        }
        Label::Data => {
            let served = wire::data::serve(
                Box::new(io),
                endpoint,
                Limits::default(),
                Agreement::default(),
                wire::data::Closing::default(),
            )
            .await;
            served.map_err(|error| error.to_string())
        }
    }
}

/// A client that says so much and goes; what became of its connection.
async fn cut_request(endpoint: &Arc<Counting>, said: &[u8], end: End) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = async {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.write_all(said).await.unwrap();
        // The banner, and time for the server to take what was said.
        let _ = io.read(&mut [0; 67]).await;
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        end.of(io).await;
    };
    let both = async { tokio::join!(client, serve(&listener, endpoint)).1 };
    timeout(SOON, both).await.unwrap_or_else(|_| panic!("{} bytes and {end:?} keep the server", said.len()))
}

/// The beginning of a connection.
fn opening(label: Label) -> Vec<u8> {
    [greeting().banner.encode().unwrap().as_slice(), &label.encode()].concat()
}

fn request(path: &str, request: &impl prost::Message) -> Vec<u8> {
    let body = message(FrameKind::Request, &request.encode_to_vec()).unwrap();
    [opening(Label::Data), message(FrameKind::RequestHeader, path.as_bytes()).unwrap(), body].concat()
}

/// Two frames with some bytes.
fn stream() -> Vec<u8> {
    let frame = [header(FrameKind::Stream, 10).as_slice(), &[1; 10]].concat();
    [frame.as_slice(), &frame, &header(FrameKind::End, 0)].concat()
}

#[tokio::test]
async fn a_stream_that_is_cut_at_any_byte_is_never_taken_for_whole_and_is_told() {
    let endpoint = Arc::<Counting>::default();
    let said = [request("/v1/recv", &ReceiveReq::from(&announced())), stream()].concat();
    for end in ENDS {
        for length in 0..said.len() {
            let served = cut_request(&endpoint, &said[..length], end).await;
            assert!(served.is_err(), "{end:?} after {length} of {} bytes", said.len());
        }
    }
    assert!(Counting::of(&endpoint.begun) > 50, "streams began");
    assert_eq!(Counting::of(&endpoint.ended), Counting::of(&endpoint.begun));
    assert_eq!(Counting::of(&endpoint.whole), 0);
}

#[tokio::test]
async fn a_request_for_a_stream_that_is_cut_at_any_byte_is_told() {
    let endpoint = Arc::<Counting>::default();
    let said = request("/v1/send", &SendReq::from(&step()));
    for end in ENDS {
        for length in 0..said.len() {
            let served = cut_request(&endpoint, &said[..length], end).await;
            assert!(served.is_err(), "{end:?} after {length} of {} bytes", said.len());
        }
    }
}

/// A client's request for a list, as it was recorded.
fn recorded() -> Vec<u8> {
    let recording = include_str!("captures/control.jsonl").lines();
    let lines = recording.map(|line| serde_json::from_str::<(f64, u64, String, String)>(line).unwrap());
    let digits: String = lines.filter(|line| line.2 == ">").map(|line| line.3).collect();
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    bytes.collect()
}

#[tokio::test]
async fn a_control_connection_may_be_cut_at_any_byte() {
    let endpoint = Arc::<Counting>::default();
    let said = recorded();
    for end in ENDS {
        for length in 0..=said.len() {
            // Whether it ended in order is the library's to say; that it ended is checked.
            let served = cut_request(&endpoint, &said[..length], end).await;
            assert!(served.is_err() || length >= 67 + 64, "{end:?} after {length} bytes: {served:?}");
        }
    }
    assert!(Counting::of(&endpoint.listings) > 0, "whole requests were answered");
}

/// Answers a request with so much and goes.
async fn cut_answer(listener: TcpListener, answer: &[u8], end: End) {
    let (mut io, _) = listener.accept().await.unwrap();
    io.write_all(answer).await.unwrap();
    // Until the client has begun, and time to take what was said.
    io.read_exact(&mut [0; 67 + 64]).await.unwrap();
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    end.of(io).await;
}

struct Dial(std::net::SocketAddr);

#[async_trait]
impl Dialer for Dial {
    async fn dial(&self) -> Result<Connection, CallError> {
        let stream = TcpStream::connect(self.0).await.map_err(|error| CallError::Connection(error.to_string()))?;
        Ok(Box::new(stream))
    }
}

async fn listener() -> (TcpListener, DataClient) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = Arc::new(Dial(listener.local_addr().unwrap()));
    (listener, DataClient::new(dialer, greeting(), Limits::default()))
}

#[tokio::test]
async fn an_answer_that_is_cut_at_any_byte_is_no_success_of_a_push() {
    let head = message(FrameKind::ResponseHeader, b"HANDLER OK\n").unwrap();
    let answer = [greeting().banner.encode().unwrap(), head, message(FrameKind::Response, b"").unwrap()].concat();
    for end in ENDS {
        for length in 0..answer.len() {
            let (listener, client) = listener().await;
            let sent: ByteStream = Box::pin(std::io::Cursor::new(vec![1; 100_000]));
            let step = announced();
            let both =
                async { tokio::join!(client.receive(&step, sent), cut_answer(listener, &answer[..length], end)) };
            let (received, ()) = timeout(SOON, both).await.unwrap_or_else(|_| panic!("{end:?} after {length}"));
            assert!(matches!(received, Err(CallError::Connection(_))), "{end:?} after {length}: {received:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_at_any_byte_is_no_end_of_a_pulled_stream() {
    let head = message(FrameKind::ResponseHeader, b"HANDLER OK\n").unwrap();
    let body = message(FrameKind::Response, b"").unwrap();
    let answer = [greeting().banner.encode().unwrap(), head, body, stream()].concat();
    for end in ENDS {
        for length in 0..answer.len() {
            let (listener, client) = listener().await;
            let step = step();
            let pulled = async {
                let mut reply = client.send(&step).await?;
                let read = reply.stream.read_to_end(&mut Vec::new()).await;
                read.map_err(|error| CallError::Connection(error.to_string()))
            };
            let both = async { tokio::join!(pulled, cut_answer(listener, &answer[..length], end)) };
            let (pulled, ()) = timeout(SOON, both).await.unwrap_or_else(|_| panic!("{end:?} after {length}"));
            assert!(matches!(pulled, Err(CallError::Connection(_))), "{end:?} after {length}: {pulled:?}");
        }
    }
}
