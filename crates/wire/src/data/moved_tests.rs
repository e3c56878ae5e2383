//! Streams that are moved between pipes and sockets are, on the wire, what copied ones are.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use model::protection::ProtectionPolicy;
use model::view::View;
use model::{DatasetName, Guid, VersionKind, VersionName, VersionRef};
use proptest::prelude::*;
use pump::ByteStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::*;
use crate::frame::{HEADER_LENGTH, Limits};
use crate::handshake::{Agreement, Banner, LABEL_LENGTH};
use crate::service::*;
use crate::transport::{Connection, Dialer, welcome};

/// Payload of the largest frame that a side of this program sends, bytes.
const LARGEST: usize = 1 << 20;

const STREAM: u32 = 0x5;

fn version() -> VersionRef {
    VersionRef { kind: VersionKind::Snapshot, name: VersionName::parse("s1").unwrap(), guid: Guid(7) }
}

fn step() -> SendRequest {
    SendRequest {
        filesystem: DatasetName::parse("tank/a").unwrap(),
        from: None,
        to: version(),
        resume_token: None,
        protection: ProtectionPolicy::default(),
    }
}

fn announced() -> ReceiveRequest {
    let SendRequest { filesystem, from, to, protection, .. } = step();
    ReceiveRequest { filesystem, from, to, clear_resume_token: true, protection }
}

/// Pieces of a stream, as a child writes them.
#[derive(Debug, Clone)]
struct Pieces(Vec<Vec<u8>>);

impl Pieces {
    fn of(sizes: &[usize]) -> Self {
        let byte = |at: usize| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3];
        let mut at = 0;
        Self(
            sizes
                .iter()
                .map(|size| {
                    (0..*size)
                        .map(|_| {
                            at += 1;
                            byte(at)
                        })
                        .collect()
                })
                .collect(),
        )
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// Through a pipe, which can be moved, or through memory, which must be read.
    fn stream(&self, how: How) -> ByteStream {
        match how {
            How::Moved => {
                let (reader, writer) = pump::pipe().unwrap();
                tokio::spawn(self.clone().write(writer));
                Box::pin(reader)
            }
            How::Copied => {
                let (reader, writer) = tokio::io::duplex(1 << 20);
                tokio::spawn(self.clone().write(writer));
                Box::pin(reader)
            }
        }
    }

    async fn write(self, mut writer: impl AsyncWrite + Unpin) {
        for piece in &self.0 {
            writer.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum How {
    Moved,
    Copied,
}

/// Sends pieces, and keeps what it receives.
struct Side {
    pieces: Pieces,
    how: How,
    received: Mutex<Vec<u8>>,
    /// Whether the sink takes anything.
    open: Semaphore,
}

#[async_trait]
impl Endpoint for Side {
    async fn list(&self) -> Result<View, CallError> {
        Ok(View::default())
    }

    async fn send(&self, _: &SendRequest) -> Result<SendReply, CallError> {
        let stream = self.pieces.stream(self.how);
        Ok(SendReply { used_resume_token: false, expected: Arc::new(OnceLock::new()), stream })
    }

    async fn receive_announced(&self, _: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        drop(self.open.acquire().await.unwrap());
        *self.received.lock().unwrap() = taken(stream, self.how).await;
        Ok(())
    }
}

/// What arrives, by way of a pipe as `zfs recv` has one, or read.
async fn taken(mut stream: ByteStream, how: How) -> Vec<u8> {
    let mut bytes = vec![];
    match how {
        How::Copied => drop(stream.read_to_end(&mut bytes).await.unwrap()),
        How::Moved => {
            let (reader, writer) = std::io::pipe().unwrap();
            let mut reader = pump::PipeReader::new(reader.into()).unwrap();
            let fed = async {
                let mut feeder = pump::Feeder::new(writer.into()).unwrap();
                loop {
                    match feeder.feed(&mut stream).await {
                        pump::Fed::Some => {}
                        ended => return ended,
                    }
                }
            };
            let (fed, read) = tokio::join!(fed, reader.read_to_end(&mut bytes));
            assert!(matches!(fed, pump::Fed::End), "{fed:?}");
            read.unwrap();
        }
    }
    bytes
}

/// Listens, and records what passes in both directions.
struct Tapped {
    side: Arc<Side>,
    heard: Heard,
    /// Of each socket, bytes; as the system likes without it.
    buffers: Option<usize>,
}

/// What passed: to the server, and from it.
type Heard = Arc<[Mutex<Vec<u8>>; 2]>;

async fn connection(buffers: Option<usize>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
    let ends = (here.unwrap(), there.unwrap().0);
    for socket in [socket2::SockRef::from(&ends.0), socket2::SockRef::from(&ends.1)] {
        // Heartbeats must not wait for the acknowledgement of others, which takes real time.
        socket.set_tcp_nodelay(true).unwrap();
        if let Some(size) = buffers {
            socket.set_send_buffer_size(size).unwrap();
            socket.set_recv_buffer_size(size).unwrap();
        }
    }
    ends
}

async fn relay(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, heard: &Mutex<Vec<u8>>) {
    let mut piece = vec![0; 100_000];
    loop {
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                heard.lock().unwrap().extend(&piece[..length]);
                if to.write_all(&piece[..length]).await.is_err() {
                    break;
                }
            }
        }
    }
    drop(to.shutdown().await);
}

#[async_trait]
impl Dialer for Tapped {
    async fn dial(&self) -> Result<Connection, CallError> {
        let ((here, tap_here), (tap_there, mut there)) =
            tokio::join!(connection(self.buffers), connection(self.buffers));
        let heard = Arc::clone(&self.heard);
        tokio::spawn(async move {
            let ((from_client, to_client), (from_server, to_server)) = (tap_here.into_split(), tap_there.into_split());
            tokio::join!(relay(from_client, to_server, &heard[0]), relay(from_server, to_client, &heard[1]));
        });
        let side = Arc::clone(&self.side);
        tokio::spawn(async move {
            welcome(&mut there, &Banner::with_extensions(vec![]).into()).await.unwrap();
            serve(Box::new(there), side, Limits::default(), Agreement::default(), Closing::default()).await.unwrap();
        });
        Ok(Box::new(here))
    }
}

/// Payloads of the frames of streams, after the handshake.
fn stream_frames(heard: &[u8], handshake: usize) -> Vec<&[u8]> {
    let (mut rest, mut frames) = (&heard[handshake..], vec![]);
    while let Some((head, after)) = rest.split_first_chunk::<HEADER_LENGTH>() {
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        let (kind, length) = (number(&head[..4]), number(&head[4..]) as usize);
        let (payload, after) = after.split_at(length);
        if kind == STREAM {
            frames.push(payload);
        }
        rest = after;
    }
    assert!(rest.is_empty(), "half a frame");
    frames
}

/// Two sides of which one has this to send, and what passes between them.
fn tapped(pieces: &Pieces, how: How, buffers: Option<usize>) -> (DataClient, Arc<Side>, Heard) {
    let side = Arc::new(Side { pieces: pieces.clone(), how, received: Mutex::default(), open: Semaphore::new(1) });
    let heard = Heard::default();
    let tapped = Tapped { side: Arc::clone(&side), heard: Arc::clone(&heard), buffers };
    let client = DataClient::new(Arc::new(tapped), Banner::with_extensions(vec![]).into(), Limits::default());
    (client, side, heard)
}

fn banner_length() -> usize {
    Banner::with_extensions(vec![]).encode().unwrap().len()
}

/// Waits until nothing passes any more, and looks at the frames.
async fn check_frames(heard: Heard, to_the_server: bool, arrived: &[u8], how: How) {
    while Arc::strong_count(&heard) > 1 {
        tokio::task::yield_now().await;
    }
    let handshake = banner_length();
    let [to_server, from_server] = &*heard;
    let heard = if to_the_server { to_server.lock().unwrap() } else { from_server.lock().unwrap() };
    let frames = stream_frames(&heard, if to_the_server { handshake + LABEL_LENGTH } else { handshake });
    assert!(frames.concat() == arrived, "the frames carry something else");
    let sizes: Vec<usize> = frames.iter().map(|frame| frame.len()).collect();
    assert!(sizes.iter().all(|size| (2..=LARGEST).contains(size)), "{how:?} {sizes:?}");
}

/// The bytes arrive, in frames that a zrepl peer can read.
async fn passes(pieces: &Pieces, how: How, to_the_server: bool) {
    let (client, side, heard) = tapped(pieces, how, None);
    let arrived = if to_the_server {
        assert_eq!(client.receive(&announced(), pieces.stream(how)).await, Ok(()));
        side.received.lock().unwrap().clone()
    } else {
        taken(client.send(&step()).await.unwrap().stream, how).await
    };
    assert!(arrived == pieces.bytes(), "other bytes: {} of {}", arrived.len(), pieces.bytes().len());
    drop((client, side));
    check_frames(heard, to_the_server, &arrived, how).await;
}

/// Lets everybody do what there is to do.
async fn settle() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

/// The sink takes nothing for 25 seconds. Each side says every five that it lives, and nobody gives up.
async fn stalls(how: How, to_the_server: bool) {
    const STALL: usize = 25;
    let pieces = Pieces::of(&[1 << 20; 4]);
    let (client, side, heard) = tapped(&pieces, how, Some(64 << 10));
    let open = side.open.acquire().await.unwrap();
    let sink = Arc::clone(&side);
    let transfer = tokio::spawn(async move {
        if to_the_server {
            assert_eq!(client.receive(&announced(), sink.pieces.stream(how)).await, Ok(()));
            return sink.received.lock().unwrap().clone();
        }
        let stream = client.send(&step()).await.unwrap().stream;
        drop(sink.open.acquire().await.unwrap());
        taken(stream, how).await
    });
    // What the stalled side has said so far, and what the other one could send.
    let said = || heard[usize::from(to_the_server)].lock().unwrap().len();
    let sent = || heard[usize::from(!to_the_server)].lock().unwrap().len();
    while sent() < 256 << 10 {
        tokio::task::yield_now().await;
    }
    let before = said();
    for second in 1..=STALL {
        tokio::time::advance(Duration::from_secs(1)).await;
        settle().await;
        while said() < before + (second / 5) * HEADER_LENGTH {
            tokio::task::yield_now().await;
        }
    }
    assert!(!transfer.is_finished() && sent() < 4 << 20, "nobody stalled: {} bytes", sent());
    assert_eq!(said(), before + STALL / 5 * HEADER_LENGTH, "{how:?}: other than a heartbeat each five seconds");
    drop(open);
    let arrived = transfer.await.unwrap();
    assert!(arrived == pieces.bytes(), "other bytes: {} of {}", arrived.len(), pieces.bytes().len());
    drop(side);
    check_frames(heard, to_the_server, &arrived, how).await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_stalls_is_waited_for_on_real_sockets() {
    // As long as something blocks, time passes only when it is told to, whatever the sockets do.
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let blocks = tokio::task::spawn_blocking(move || wait.recv());
    for how in [How::Moved, How::Copied] {
        for to_the_server in [true, false] {
            stalls(how, to_the_server).await;
        }
    }
    drop(done);
    blocks.await.unwrap().unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn moved_and_copied_streams_are_the_same(
        sizes in proptest::collection::vec(
            prop_oneof![Just(1usize), 2usize..100, (64usize << 10) - 2..(64 << 10) + 2, 100_000usize..1_500_000],
            1..6,
        )
        .prop_filter("a stream of a single byte cannot be sent", |sizes| sizes.iter().sum::<usize>() > 1),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // What ends with a single byte after a pause could not be sent either.
            let pieces = Pieces::of(&[sizes.as_slice(), &[8]].concat());
            for how in [How::Moved, How::Copied] {
                for to_the_server in [true, false] {
                    passes(&pieces, how, to_the_server).await;
                }
            }
        });
    }
}
