mod peers;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use model::protection::ProtectionPolicy;
use model::view::View;
use model::{DatasetName, Guid, RetryClass, VersionKind, VersionName, VersionRef};
use pump::ByteStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;
use crate::frame::{Limits, header};
use crate::handshake::{Agreement, Banner, Label};
use crate::pdu::{PingReq, ReceiveReq, SendReq};
use crate::service::*;
use crate::transport::{Connection, Dialer, greet, welcome};

const SECOND: Duration = Duration::from_secs(1);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

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
    ReceiveRequest {
        filesystem: DatasetName::parse("tank/a").unwrap(),
        from: None,
        to: version(),
        clear_resume_token: true,
        protection: ProtectionPolicy::default(),
    }
}

type Answer<T> = Box<dyn Fn() -> T + Send + Sync>;

/// Serves what it is made of, and keeps what it receives.
#[derive(Default)]
struct Fake {
    stream: Option<Answer<Result<ByteStream, CallError>>>,
    /// Before anything is read of a stream.
    refuses: Option<CallError>,
    /// Pause before every piece that is read.
    stall: Option<Duration>,
    /// Reads no more than this.
    reads: Option<usize>,
    /// Told instead of what was wrong with the stream.
    tells: Option<&'static str>,
    received: Mutex<Vec<u8>>,
}

#[async_trait]
impl Endpoint for Fake {
    async fn list(&self) -> Result<View, CallError> {
        Ok(View::default())
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        assert_eq!(request, &step());
        let stream = (self.stream.as_ref().expect("a sender"))()?;
        let expected = Arc::new(std::sync::OnceLock::from(1_000_000));
        Ok(SendReply { used_resume_token: false, expected, stream })
    }

    async fn receive_announced(&self, request: &ReceiveRequest, mut stream: ByteStream) -> Result<(), CallError> {
        assert_eq!(request, &announced());
        if let Some(error) = &self.refuses {
            return Err(error.clone());
        }
        let mut piece = vec![0; 100_000];
        while self.received.lock().unwrap().len() < self.reads.unwrap_or(usize::MAX) {
            if let Some(stall) = self.stall {
                sleep(stall).await;
            }
            match stream.read(&mut piece).await {
                Ok(0) => break,
                Ok(length) => self.received.lock().unwrap().extend(&piece[..length]),
                Err(error) => return Err(CallError::permanent(self.tells.map_or(error.to_string(), str::to_owned))),
            }
        }
        Ok(())
    }
}

/// Hands out one connection.
struct Once(Mutex<Option<Connection>>);

#[async_trait]
impl Dialer for Once {
    async fn dial(&self) -> Result<Connection, CallError> {
        self.0.lock().unwrap().take().ok_or_else(|| CallError::Connection("dialled twice".into()))
    }
}

fn client(io: DuplexStream) -> DataClient {
    let dialer = Once(Mutex::new(Some(Box::new(io))));
    DataClient::new(Arc::new(dialer), Banner::with_extensions(vec![]).into(), Limits::default())
}

fn server(mut io: DuplexStream, endpoint: Fake) -> (Arc<Fake>, JoinHandle<Result<(), server::ServeError>>) {
    let endpoint = Arc::new(endpoint);
    let serving = Arc::clone(&endpoint);
    let task = tokio::spawn(async move {
        let (_, label) = welcome(&mut io, &Banner::with_extensions(vec![]).into()).await.unwrap();
        assert_eq!(label, Label::Data);
        serve(Box::new(io), serving, Limits::default(), Agreement::default(), Closing::default()).await
    });
    (endpoint, task)
}

fn pair(endpoint: Fake) -> (DataClient, Arc<Fake>, JoinHandle<Result<(), server::ServeError>>) {
    let (here, there) = duplex(1 << 16);
    let (endpoint, task) = server(there, endpoint);
    (client(here), endpoint, task)
}

/// A peer that is nothing but bytes, beyond the handshake.
async fn raw_client(endpoint: Fake) -> (DuplexStream, JoinHandle<Result<(), server::ServeError>>) {
    let (mut here, there) = duplex(4 << 20);
    let (_, task) = server(there, endpoint);
    greet(&mut here, &Banner::with_extensions(vec![]).into(), Label::Data, b"").await.unwrap();
    (here, task)
}

/// What a client says first to a server that is nothing but bytes; the server says `answer`.
async fn raw_server(mut io: DuplexStream, answer: Vec<u8>) -> DuplexStream {
    welcome(&mut io, &Banner::with_extensions(vec![]).into()).await.unwrap();
    io.write_all(&answer).await.unwrap();
    io
}

async fn rest(mut io: DuplexStream) -> Vec<u8> {
    let mut bytes = vec![];
    io.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Pieces, pauses and an end.
struct Script(Vec<Line>);

enum Line {
    Bytes(Vec<u8>),
    Pause(Duration),
    Fail(&'static str),
}

impl Script {
    fn stream(self) -> ByteStream {
        let (reader, mut writer) = tokio::io::simplex(1 << 20);
        let failure = Arc::new(Mutex::new(None));
        let told = Arc::clone(&failure);
        tokio::spawn(async move {
            for line in self.0 {
                match line {
                    Line::Bytes(bytes) => writer.write_all(&bytes).await.unwrap_or_default(),
                    Line::Pause(pause) => sleep(pause).await,
                    Line::Fail(text) => *told.lock().unwrap() = Some(text),
                }
            }
            let _ = writer.shutdown().await;
        });
        Box::pin(Failing { reader, failure })
    }
}

impl<R: AsyncRead + Unpin + Send> pump::Bytes for Failing<R> {}

/// Fails at its end.
struct Failing<R> {
    reader: R,
    failure: Arc<Mutex<Option<&'static str>>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Failing<R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        room: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = room.filled().len();
        std::task::ready!(std::pin::Pin::new(&mut self.reader).poll_read(context, room))?;
        match self.failure.lock().unwrap().filter(|_| room.filled().len() == before) {
            Some(text) => std::task::Poll::Ready(Err(std::io::Error::other(text))),
            None => std::task::Poll::Ready(Ok(())),
        }
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + at) as u8).collect()
}

fn sender(lines: fn() -> Vec<Line>) -> Fake {
    Fake { stream: Some(Box::new(move || Ok(Script(lines()).stream()))), ..Fake::default() }
}

const UUID: &str = "3b1c9d52-8a53-4d6a-9b0e-54d6f0c1a2b3";

#[tokio::test(start_paused = true)]
async fn a_ping_is_that_of_zrepl_on_both_sides() {
    let uuid: String = UUID.bytes().map(|byte| format!("{byte:02x}")).collect();
    let asked = hex(&format!(
        "0000000100000008 2f76312f70696e67 0002000000000000 0000000200000026 0a24 {uuid} 0002000000000000"
    ));
    let answered = hex(&format!(
        "000000030000000b 48414e444c4552204f4b0a 0002000000000000 0000000400000026 0a24 {uuid} 0002000000000000 1000000000000000"
    ));

    let (mut io, task) = raw_client(Fake::default()).await;
    io.write_all(&asked).await.unwrap();
    let mut answer = vec![0; answered.len()];
    io.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, answered);
    io.write_all(&header(crate::frame::FrameKind::Reset, 0)).await.unwrap();
    io.shutdown().await.unwrap();
    assert_eq!(task.await.unwrap(), Ok(()));

    let (here, there) = duplex(1 << 16);
    let client = client(here);
    let (pong, mut io) = tokio::join!(client.ping(UUID), raw_server(there, answered));
    assert_eq!(pong, Ok(()));
    io.shutdown().await.unwrap();
    assert_eq!(rest(io).await, [asked, hex("1000000000000000")].concat());
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_sent_in_the_frames_of_zrepl() {
    let all: fn() -> ByteStream = || Box::pin(std::io::Cursor::new(bytes(1_000_000)));
    let (mut io, task) = raw_client(Fake { stream: Some(Box::new(move || Ok(all()))), ..Fake::default() }).await;
    io.write_all(&request(SEND, &SendReq::from(&step())).unwrap()).await.unwrap();
    let head = "000000030000000b 48414e444c4552204f4b0a 0002000000000000 0000000400000004 10c0843d 0002000000000000";
    let mut expected = hex(head);
    for frame in bytes(1_000_000).chunks(0x2_0000) {
        expected.extend(if frame.len() == 0x2_0000 { hex("0000000500020000") } else { hex("0000000500014240") });
        expected.extend(frame);
    }
    expected.extend(hex("0002000000000000 1000000000000000"));
    // Their length is the sender's to choose.
    let sent = rest(io).await;
    assert!(sent == expected, "{} of {}", sent.len(), expected.len());
    drop(task.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_large_stream_arrives_whole_in_both_directions() {
    let sent = bytes(9_999_998);
    let (client, _, task) = pair(sender(|| vec![Line::Bytes(bytes(9_999_998))]));
    let mut reply = client.send(&step()).await.unwrap();
    assert_eq!(reply.expected.get(), Some(&1_000_000));
    let mut received = vec![];
    reply.stream.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    drop(reply);
    assert_eq!(task.await.unwrap(), Ok(()));

    let (client, endpoint, task) = pair(Fake::default());
    client.receive(&announced(), Script(vec![Line::Bytes(sent.clone())]).stream()).await.unwrap();
    assert!(*endpoint.received.lock().unwrap() == sent);
    drop(client);
    assert_eq!(task.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_empty_stream_is_whole() {
    let (client, _, _) = pair(sender(Vec::new));
    let mut reply = client.send(&step()).await.unwrap();
    assert_eq!(reply.stream.read_to_end(&mut vec![]).await.unwrap(), 0);
    let (client, _, _) = pair(Fake::default());
    assert_eq!(client.receive(&announced(), Script(vec![]).stream()).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_source_reaches_the_sink() {
    let lines = || vec![Line::Bytes(bytes(100)), Line::Fail("boomERR")];
    let (client, _, _) = pair(sender(lines));
    let mut reply = client.send(&step()).await.unwrap();
    let error = reply.stream.read_to_end(&mut vec![]).await.unwrap_err();
    assert_eq!(error.to_string(), "stream: source error: boomERR");

    let (client, endpoint, _) = pair(Fake::default());
    let error = client.receive(&announced(), Script(lines()).stream()).await.unwrap_err();
    assert_eq!(error.to_string(), "stream: source error: boomERR", "the peer's word");
    assert_eq!(endpoint.received.lock().unwrap().len(), 100);
}

/// zrepl's sink kills its `zfs recv` when the stream breaks off, and answers with that alone.
#[tokio::test(start_paused = true)]
async fn why_a_stream_failed_here_is_told_where_the_peer_tells_only_that_it_gave_up() {
    let fake = Fake { tells: Some("zfs exited with error: signal: killed\nstderr:\n"), ..Fake::default() };
    let (client, _, _) = pair(fake);
    let lines = vec![Line::Bytes(bytes(100)), Line::Fail("`zfs send` was killed by signal 9")];
    let error = client.receive(&announced(), Script(lines).stream()).await.unwrap_err();
    let message = "the stream failed: `zfs send` was killed by signal 9; \
        the peer: zfs exited with error: signal: killed\nstderr:";
    assert_eq!(error, CallError::Refused { class: RetryClass::Transient, message: message.to_owned() });
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_and_classified() {
    let refusing: Answer<_> = Box::new(|| Err(CallError::permanent("send handler failed: dataset is busy")));
    let (client, _, task) = pair(Fake { stream: Some(refusing), ..Fake::default() });
    let refused = client.send(&step()).await.err().unwrap();
    let message = "send handler failed: dataset is busy".to_owned();
    assert_eq!(refused, CallError::Refused { class: RetryClass::Transient, message });
    assert_eq!(task.await.unwrap(), Ok(()), "closed by the client, at once");

    // While the client still sends, without an end.
    let (client, _, task) = pair(Fake { refuses: Some(CallError::permanent("out of space")), ..Fake::default() });
    let start = Instant::now();
    let refused = client.receive(&announced(), Box::pin(tokio::io::repeat(1))).await.unwrap_err();
    assert_eq!(refused.class(), RetryClass::NeedsPerson);
    assert_eq!(task.await.unwrap(), Ok(()));
    assert!(start.elapsed() < SECOND);

    let long = CallError::permanent("ä".repeat(1 << 20));
    let (client, _, _) = pair(Fake { refuses: Some(long), ..Fake::default() });
    let refused = client.receive(&announced(), Script(vec![]).stream()).await.unwrap_err();
    assert!((32_000..=32_768).contains(&refused.to_string().len()), "cut for the peer");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_content_early_is_answered_after_the_end() {
    let (client, endpoint, _) = pair(Fake { reads: Some(1000), ..Fake::default() });
    let lines = vec![Line::Bytes(bytes(500_000)), Line::Pause(7 * SECOND), Line::Bytes(bytes(10))];
    let start = Instant::now();
    assert_eq!(client.receive(&announced(), Script(lines).stream()).await, Ok(()));
    assert!(start.elapsed() >= 7 * SECOND);
    assert!(endpoint.received.lock().unwrap().len() < 200_000);
}

#[tokio::test(start_paused = true)]
async fn silent_producers_and_stalled_sinks_are_waited_for() {
    let (client, _, _) = pair(sender(|| vec![Line::Pause(60 * SECOND), Line::Bytes(bytes(1000))]));
    let mut reply = client.send(&step()).await.unwrap();
    assert_eq!(reply.stream.read_to_end(&mut vec![]).await.unwrap(), 1000);

    // More than all buffers on the way hold, so that the writer is stuck each time.
    let (client, endpoint, _) = pair(Fake { stall: Some(25 * SECOND), ..Fake::default() });
    client.receive(&announced(), Script(vec![Line::Bytes(bytes(3_000_000))]).stream()).await.unwrap();
    assert_eq!(endpoint.received.lock().unwrap().len(), 3_000_000);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_leave_every_five_seconds_in_both_roles() {
    let (mut io, _task) = raw_client(sender(|| vec![Line::Pause(12 * SECOND), Line::Bytes(bytes(100))])).await;
    let start = Instant::now();
    io.write_all(&request(SEND, &SendReq::from(&step())).unwrap()).await.unwrap();
    let mut head = vec![0; 11 + 4 + 8 * 4];
    io.read_exact(&mut head).await.unwrap();
    for seconds in [5, 10] {
        let mut frame = [0; 8];
        io.read_exact(&mut frame).await.unwrap();
        assert_eq!((&frame[..], start.elapsed().as_secs()), (&hex("0100000000000000")[..], seconds));
        io.write_all(&frame).await.unwrap();
    }
    let mut frame = [0; 8];
    io.read_exact(&mut frame).await.unwrap();
    assert_eq!((&frame[..], start.elapsed().as_secs()), (&hex("0000000500000064")[..], 12));
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_given_up_after_ten_seconds() {
    let (here, there) = duplex(1 << 16);
    let client = client(here);
    let start = Instant::now();
    let (lost, _silent) = tokio::join!(client.ping(UUID), raw_server(there, vec![]));
    let text = lost.unwrap_err().to_string();
    assert!(text.contains("not even a heartbeat"), "{text}");
    assert_eq!(start.elapsed(), 10 * SECOND);

    // A server that waits for a request, and one that is in the middle of a stream.
    let (io, task) = raw_client(Fake::default()).await;
    let start = Instant::now();
    let lost = task.await.unwrap().unwrap_err();
    assert!(lost.to_string().contains("not even a heartbeat"), "{lost}");
    assert_eq!(start.elapsed(), 10 * SECOND);
    drop(io);

    let (mut io, task) = raw_client(sender(|| vec![Line::Bytes(bytes(9_000_000))])).await;
    io.write_all(&request(SEND, &SendReq::from(&step())).unwrap()).await.unwrap();
    let start = Instant::now();
    assert!(task.await.unwrap().is_err());
    assert_eq!(start.elapsed(), 10 * SECOND);
    drop(io);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_not_the_end_of_a_stream() {
    let head = response(&crate::pdu::SendRes::default()).unwrap();
    for broken in ["0000000500000004 61626364", "0000000500000004 6162", "00000005", "", "1000000000000000"] {
        let (here, there) = duplex(1 << 16);
        let client = client(here);
        let answer = [head.clone(), hex(broken)].concat();
        let step = step();
        let (reply, io) = tokio::join!(client.send(&step), raw_server(there, answer));
        drop(io);
        let error = reply.unwrap().stream.read_to_end(&mut vec![]).await.unwrap_err();
        assert!(error.to_string().starts_with("stream: read error: "), "{error}");
    }
    for unanswered in ["", "1000000000000000", "0000000300000004 6162"] {
        let (here, there) = duplex(1 << 16);
        let client = client(here);
        let (pong, io) = tokio::join!(client.ping(UUID), async { drop(raw_server(there, hex(unanswered)).await) });
        assert!(matches!(pong, Err(CallError::Connection(_))), "{pong:?} {io:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_is_told_even_if_the_client_would_still_hear_the_answer() {
    for cut in ["", "00000005", "0000000500000004", "0000000500000004 6162", "0000000500000004 61626364"] {
        let (mut io, task) = raw_client(Fake::default()).await;
        let asked = request(RECEIVE, &ReceiveReq::from(&announced())).unwrap();
        io.write_all(&[asked, hex(cut)].concat()).await.unwrap();
        io.shutdown().await.unwrap();
        let answered = rest(io).await;
        let lost = task.await.unwrap().unwrap_err();
        assert!(lost.to_string().starts_with("receiving a stream: "), "{cut}: {lost}");
        assert!(!String::from_utf8_lossy(&answered).contains(OK), "{cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused() {
    let (mut io, task) = raw_client(Fake::default()).await;
    io.write_all(&request("/v2/send", &PingReq::default()).unwrap()).await.unwrap();
    let told = rest(io).await;
    assert!(String::from_utf8_lossy(&told).contains("HANDLER ERROR:\nrequested endpoint does not exist"));
    assert_eq!(task.await.unwrap(), Ok(()), "the client was told");

    let incomplete = ReceiveReq { replication_config: None, ..ReceiveReq::from(&announced()) };
    let (mut io, _) = raw_client(Fake::default()).await;
    io.write_all(&request(RECEIVE, &incomplete).unwrap()).await.unwrap();
    assert!(String::from_utf8_lossy(&rest(io).await).contains("ReplicationConfig is missing"));

    // A header of two gigabytes ends the connection before anything is set aside for it.
    let (mut io, task) = raw_client(Fake::default()).await;
    io.write_all(&hex("000000017fffffff")).await.unwrap();
    let start = Instant::now();
    assert_eq!(rest(io).await, hex("1000000000000000"));
    assert!(task.await.unwrap().unwrap_err().to_string().contains("2147483647 bytes"));
    assert!(start.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_cancels_its_step() {
    let (mut io, task) = raw_client(sender(|| vec![Line::Pause(3600 * SECOND)])).await;
    io.write_all(&request(SEND, &SendReq::from(&step())).unwrap()).await.unwrap();
    let start = Instant::now();
    drop(io);
    assert!(task.await.unwrap().is_err());
    assert!(start.elapsed() < 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_is_left_after_ten_seconds() {
    let (mut io, task) = raw_client(Fake::default()).await;
    io.write_all(&request(PING, &PingReq { message: UUID.into() }).unwrap()).await.unwrap();
    let start = Instant::now();
    assert_eq!(task.await.unwrap(), Ok(()));
    assert_eq!(start.elapsed(), 10 * SECOND);
    drop(io);
}
