//! Connections that are used again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use model::protection::ProtectionPolicy;
use model::view::View;
use model::{DatasetName, Guid, RetryClass, VersionKind, VersionName, VersionRef};
use pump::ByteStream;
use tokio::io::{AsyncReadExt as _, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::driver::Conversation;
use super::inbound::read_message;
use super::kept::KEPT_IDLE;
use super::server::LAST_WORDS;
use super::*;
use crate::frame::{FrameKind, Limits};
use crate::handshake::Banner;
use crate::service::*;
use crate::transport::{Connection, Dialer, Greeting, welcome};

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

/// Bytes that tell whether any were lost or swapped.
fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

/// Sends and receives one content after the other.
#[derive(Default)]
struct Fake {
    sent: AtomicUsize,
    received: Mutex<Vec<Vec<u8>>>,
    fails: Mutex<Option<CallError>>,
    /// How its connections ended.
    ended: Mutex<Vec<Result<(), server::ServeError>>>,
    /// Cancelled when its listener closes.
    closes: CancellationToken,
    /// What is under way, and one more.
    under_way: Arc<()>,
}

const SIZES: [usize; 4] = [3, 70_000, 3_000_001, 64 << 10];

fn contents() -> Vec<Vec<u8>> {
    SIZES.iter().zip(1..).map(|(size, seed)| content(seed, *size)).collect()
}

#[async_trait]
impl Endpoint for Fake {
    async fn list(&self) -> Result<View, CallError> {
        Ok(View::default())
    }

    async fn send(&self, _: &SendRequest) -> Result<SendReply, CallError> {
        if let Some(error) = self.fails.lock().unwrap().take() {
            return Err(error);
        }
        let bytes = contents().swap_remove(self.sent.fetch_add(1, Ordering::Relaxed) % SIZES.len());
        Ok(SendReply { used_resume_token: false, expected: Arc::new(OnceLock::new()), stream: piped(bytes) })
    }

    async fn receive_announced(&self, _: &ReceiveRequest, mut stream: ByteStream) -> Result<(), CallError> {
        if let Some(error) = self.fails.lock().unwrap().take() {
            return Err(error);
        }
        let mut bytes = vec![];
        stream.read_to_end(&mut bytes).await.map_err(CallError::permanent)?;
        self.received.lock().unwrap().push(bytes);
        Ok(())
    }
}

/// What a child's output is: a pipe, whose bytes are moved where that can be done.
fn piped(bytes: Vec<u8>) -> ByteStream {
    let (reader, mut writer) = pump::pipe().unwrap();
    tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes).await });
    Box::pin(reader)
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Memory,
    Tcp,
}

/// Counts the connections.
struct Here {
    way: Way,
    endpoint: Arc<Fake>,
    banner: Banner,
    dialled: Arc<AtomicUsize>,
}

#[async_trait]
impl Dialer for Here {
    async fn dial(&self) -> Result<Connection, CallError> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        let (here, mut there): (Connection, Connection) = match self.way {
            Way::Memory => {
                let (here, there) = duplex(1 << 16);
                (Box::new(here), Box::new(there))
            }
            Way::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
                (Box::new(here.unwrap()), Box::new(there.unwrap().0))
            }
        };
        let (endpoint, greeting) = (Arc::clone(&self.endpoint), Greeting::from(self.banner.clone()));
        tokio::spawn(async move {
            let (agreed, _) = welcome(&mut there, &greeting).await.unwrap();
            let busy = Arc::clone(&endpoint.under_way);
            let under_way = Box::new(move || Box::new(Arc::clone(&busy)) as Box<dyn Send>);
            let closing = Closing { begun: endpoint.closes.clone(), under_way };
            let served = serve(there, Arc::clone(&endpoint) as _, Limits::default(), agreed, closing).await;
            endpoint.ended.lock().unwrap().push(served);
        });
        Ok(here)
    }
}

fn client(way: Way, theirs: Banner) -> (DataClient, Arc<Fake>, Arc<AtomicUsize>) {
    let (endpoint, dialled) = (Arc::<Fake>::default(), Arc::<AtomicUsize>::default());
    let here = Here { way, endpoint: Arc::clone(&endpoint), banner: theirs, dialled: Arc::clone(&dialled) };
    (DataClient::new(Arc::new(here), Banner::of_this_program().into(), Limits::default()), endpoint, dialled)
}

/// Streams of all sizes in both directions, and pings between them.
async fn converse(client: &DataClient, endpoint: &Fake) {
    for bytes in contents() {
        assert_eq!(client.ping("there?").await, Ok(()));
        assert_eq!(client.receive(&announced(), piped(bytes.clone())).await, Ok(()));
        assert!(endpoint.received.lock().unwrap().last() == Some(&bytes), "other bytes than those sent");
        let mut stream = client.send(&step()).await.unwrap().stream;
        let mut arrived = vec![];
        stream.read_to_end(&mut arrived).await.unwrap();
        assert!(arrived == bytes, "other bytes than those asked for: {} of {}", arrived.len(), bytes.len());
        drop(stream);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    for way in [Way::Memory, Way::Tcp] {
        let (client, endpoint, dialled) = client(way, Banner::of_this_program());
        converse(&client, &endpoint).await;
        assert_eq!(dialled.load(Ordering::Relaxed), 1);
        drop(client);
        while endpoint.ended.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*endpoint.ended.lock().unwrap(), [Ok(())]);
    }
}

#[tokio::test]
async fn with_an_older_peer_each_request_has_its_own() {
    let (client, endpoint, dialled) = client(Way::Tcp, Banner::with_extensions(vec![]));
    converse(&client, &endpoint).await;
    assert_eq!(dialled.load(Ordering::Relaxed), 3 * SIZES.len());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_lives_for_a_minute() {
    let (client, _, dialled) = client(Way::Memory, Banner::of_this_program());
    for (pause, connections) in [(Duration::ZERO, 1), (KEPT_IDLE - Duration::from_secs(1), 1), (KEPT_IDLE, 2)] {
        sleep(pause).await;
        assert_eq!(client.ping("there?").await, Ok(()));
        assert_eq!(dialled.load(Ordering::Relaxed), connections, "after {pause:?}");
    }
    assert_eq!(client.anew().ping("there?").await, Ok(()));
    assert_eq!(dialled.load(Ordering::Relaxed), 3, "not shared");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_its_client_keeps_and_forgets_is_ended_by_the_server() {
    let (client, endpoint, dialled) = client(Way::Memory, Banner::of_this_program());
    assert_eq!(client.ping("there?").await, Ok(()));
    sleep(Duration::from_secs(300)).await;
    assert_eq!(*endpoint.ended.lock().unwrap(), [Ok(())]);
    assert_eq!(client.ping("there?").await, Ok(()));
    assert_eq!(dialled.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn after_an_error_whose_kind_is_told_the_connection_ends() {
    let (client, endpoint, dialled) = client(Way::Memory, Banner::of_this_program());
    let error = CallError::Refused { class: RetryClass::NeedsPerson, message: "dataset is busy".into() };
    *endpoint.fails.lock().unwrap() = Some(error.clone());
    assert_eq!(client.send(&step()).await.err(), Some(error));
    let error = CallError::TargetModified("tank/a has other data".into());
    *endpoint.fails.lock().unwrap() = Some(error.clone());
    assert_eq!(client.receive(&announced(), piped(content(1, 10))).await.err(), Some(error));
    assert_eq!(client.ping("there?").await, Ok(()));
    assert_eq!(dialled.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_not_read_to_its_end_takes_its_connection_along() {
    let (client, _, dialled) = client(Way::Memory, Banner::of_this_program());
    client.send(&step()).await.map(drop).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(client.ping("there?").await, Ok(()));
    assert_eq!(dialled.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_closes_ends_what_is_idle_and_lets_a_stream_end() {
    let (idle, endpoint, _) = client(Way::Memory, Banner::of_this_program());
    let dial = |banner: Banner| {
        let here = Here { way: Way::Memory, endpoint: Arc::clone(&endpoint), banner, dialled: Arc::default() };
        DataClient::new(Arc::new(here), Banner::of_this_program().into(), Limits::default())
    };
    assert_eq!(idle.ping("there?").await, Ok(()));
    // More than fits in between.
    endpoint.sent.store(2, Ordering::Relaxed);
    let (kept, older) = (dial(Banner::of_this_program()), dial(Banner::with_extensions(vec![])));
    let mut sent = kept.send(&step()).await.unwrap().stream;
    let received = tokio::spawn(async move {
        let (reader, mut writer) = pump::pipe().unwrap();
        let slowly = async {
            for part in content(9, 10_000).chunks(1_000) {
                tokio::io::AsyncWriteExt::write_all(&mut writer, part).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            drop(writer);
        };
        let request = announced();
        tokio::join!(older.receive(&request, Box::pin(reader)), slowly).0
    });
    sleep(Duration::from_secs(1)).await;
    let busy = || Arc::strong_count(&endpoint.under_way) - 1 - 3;
    assert_eq!((busy(), endpoint.ended.lock().unwrap().len()), (2, 0));
    endpoint.closes.cancel();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*endpoint.ended.lock().unwrap(), [Ok(())], "the idle one");
    assert_eq!(received.await.unwrap(), Ok(()));
    assert!(endpoint.received.lock().unwrap()[0] == content(9, 10_000));
    let mut arrived = vec![];
    sent.read_to_end(&mut arrived).await.unwrap();
    assert!(arrived == contents()[2], "{} bytes", arrived.len());
    drop(sent);
    assert!(busy_after(&endpoint, LAST_WORDS / 2).await, "whoever got a stream may still say so");
    assert!(!busy_after(&endpoint, Duration::from_secs(30)).await);
    assert_eq!(*endpoint.ended.lock().unwrap(), [Ok(()), Ok(()), Ok(())], "also the one that would be kept");
    // Who comes now is not served.
    assert!(idle.ping("there?").await.is_err());
}

async fn busy_after(endpoint: &Fake, pause: Duration) -> bool {
    sleep(pause).await;
    Arc::strong_count(&endpoint.under_way) > 1
}

/// The next step's connection is there before it is asked for, whether the peer is an older one or not.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_expected_finds_its_connection_open() {
    // A step may take long, and the connection that waits stays open. What is kept is less long without a request.
    for (banner, minutes, opened, in_all) in
        [(Banner::with_extensions(vec![]), 20, [2, 2, 3], 3), (Banner::of_this_program(), 1, [1, 1, 1], 1)]
    {
        let (client, _, dialled) = client(Way::Memory, banner);
        // The first of three steps, and the second, know that another follows.
        for (expected, opened) in [true, false, false].into_iter().zip(opened) {
            if expected {
                client.expect_step();
            }
            let mut stream = client.send(&step()).await.unwrap().stream;
            sleep(Duration::from_secs(minutes * 60)).await;
            assert_eq!(dialled.load(Ordering::Relaxed), opened);
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
            drop(stream);
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(dialled.load(Ordering::Relaxed), in_all);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_opened_in_vain_ends_in_order() {
    let (client, endpoint, dialled) = client(Way::Memory, Banner::with_extensions(vec![]));
    client.expect_step();
    assert_eq!(client.ping("there?").await, Ok(()));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(dialled.load(Ordering::Relaxed), 2);
    drop(client);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(*endpoint.ended.lock().unwrap(), [Ok(()), Ok(())]);
}

/// Notes what is asked on all connections but the first.
struct Noting {
    here: Here,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Dialer for Noting {
    async fn dial(&self) -> Result<Connection, CallError> {
        if self.here.dialled.load(Ordering::Relaxed) == 0 {
            return self.here.dial().await;
        }
        let ((here, mut there), asked) = (duplex(1 << 16), Arc::clone(&self.asked));
        let greeting = Greeting::from(self.here.banner.clone());
        tokio::spawn(async move {
            welcome(&mut there, &greeting).await.unwrap();
            let mut conversation = Conversation::begin(Box::new(there), Limits::default());
            let path = read_message(&mut conversation, FrameKind::RequestHeader).await.unwrap();
            asked.lock().unwrap().push(String::from_utf8(path).unwrap());
        });
        Ok(Box::new(here))
    }
}

#[tokio::test(start_paused = true)]
async fn zrepl_is_asked_something_on_a_connection_that_was_opened_in_vain() {
    let banner = Banner::with_extensions(vec![]);
    let here = Here { way: Way::Memory, endpoint: Arc::default(), banner, dialled: Arc::default() };
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let noting = Noting { here, asked: Arc::clone(&asked) };
    let client = DataClient::new(Arc::new(noting), Banner::of_this_program().into(), Limits::default());
    client.expect_step();
    assert_eq!(client.ping("there?").await, Ok(()));
    sleep(Duration::from_secs(1)).await;
    assert!(asked.lock().unwrap().is_empty(), "it waits");
    drop(client);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*asked.lock().unwrap(), [PING]);
}

/// A way to a peer that vanishes in silence when it is asked for something on a connection that has served a
/// request, or that was opened ahead.
struct Forgetful {
    here: Here,
    /// How many of its first connections do.
    vanishing: usize,
}

#[async_trait]
impl Dialer for Forgetful {
    async fn dial(&self) -> Result<Connection, CallError> {
        let (io, nth) = (self.here.dial().await?, self.here.dialled.load(Ordering::Relaxed));
        if nth > self.vanishing {
            return Ok(io);
        }
        let (here, there) = duplex(1 << 16);
        tokio::spawn(async move {
            let ((mut from, mut to), (mut answers, mut requests)) = (tokio::io::split(there), tokio::io::split(io));
            let mut back = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut to).await });
            let (mut piece, mut rested) = (vec![0; 1 << 16], false);
            loop {
                let read = tokio::time::timeout(REST, from.read(&mut piece)).await;
                match read {
                    Err(_) => rested = true,
                    // Not a heartbeat.
                    Ok(Ok(length)) if length > 0 && !(rested && length > 8) => {
                        if tokio::io::AsyncWriteExt::write_all(&mut requests, &piece[..length]).await.is_err() {
                            break;
                        }
                    }
                    Ok(_) => break,
                }
            }
            back.abort();
            let _ = (&mut back).await;
        });
        Ok(Box::new(here))
    }
}

/// Without bytes for so long, a connection is one that waits.
const REST: Duration = Duration::from_secs(1);

fn forgetful(banner: Banner, vanishing: usize) -> (DataClient, Arc<Fake>, Arc<AtomicUsize>) {
    let (endpoint, dialled) = (Arc::<Fake>::default(), Arc::<AtomicUsize>::default());
    let here = Here { way: Way::Memory, endpoint: Arc::clone(&endpoint), banner, dialled: Arc::clone(&dialled) };
    let dialer = Arc::new(Forgetful { here, vanishing });
    (DataClient::new(dialer, Banner::of_this_program().into(), Limits::default()), endpoint, dialled)
}

/// Asks for everything once, after the connection has waited.
async fn ask_after_rest(client: &DataClient, endpoint: &Fake, what: &str) -> Result<(), CallError> {
    sleep(2 * REST).await;
    match what {
        "ping" => client.ping("there?").await,
        "send" => {
            let mut arrived = vec![];
            client.send(&step()).await?.stream.read_to_end(&mut arrived).await.unwrap();
            assert!(arrived == contents()[0]);
            // Until the connection is given back.
            tokio::task::yield_now().await;
            Ok(())
        }
        _ => {
            // Some of it is there already when the connection turns out to be dead.
            client.receive(&announced(), piped(content(1, 3_000_000))).await?;
            assert!(endpoint.received.lock().unwrap().last() == Some(&content(1, 3_000_000)), "other bytes");
            Ok(())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_is_dead_when_it_is_needed_is_replaced_in_silence() {
    for what in ["ping", "send", "receive"] {
        let (client, endpoint, dialled) = forgetful(Banner::of_this_program(), 1);
        assert_eq!(client.ping("there?").await, Ok(()));
        assert_eq!(ask_after_rest(&client, &endpoint, what).await, Ok(()), "{what}");
        assert_eq!(dialled.load(Ordering::Relaxed), 2, "{what}");
        assert_eq!(client.ping("still there?").await, Ok(()));
        assert_eq!(dialled.load(Ordering::Relaxed), 2, "{what}: the new one is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_opened_ahead_that_is_dead_when_it_is_needed_is_replaced_in_silence() {
    for what in ["ping", "send", "receive"] {
        let (client, endpoint, dialled) = forgetful(Banner::with_extensions(vec![]), 2);
        client.expect_step();
        assert_eq!(client.ping("there?").await, Ok(()));
        assert_eq!(ask_after_rest(&client, &endpoint, what).await, Ok(()), "{what}");
        assert_eq!(dialled.load(Ordering::Relaxed), 3, "{what}");
    }
}

/// Once: a peer that answers nothing on a fresh connection either is told of.
#[tokio::test(start_paused = true)]
async fn a_fresh_connection_is_tried_once() {
    struct Deaf(Forgetful);
    #[async_trait]
    impl Dialer for Deaf {
        async fn dial(&self) -> Result<Connection, CallError> {
            let Here { dialled, banner, .. } = &self.0.here;
            if dialled.load(Ordering::Relaxed) == 0 {
                return self.0.dial().await;
            }
            dialled.fetch_add(1, Ordering::Relaxed);
            let ((here, mut there), greeting) = (duplex(1 << 16), Greeting::from(banner.clone()));
            tokio::spawn(async move { welcome(&mut there, &greeting).await.map(drop) });
            Ok(Box::new(here))
        }
    }
    for what in ["ping", "send", "receive"] {
        let (endpoint, dialled) = (Arc::<Fake>::default(), Arc::<AtomicUsize>::default());
        let banner = Banner::of_this_program();
        let here = Here { way: Way::Memory, endpoint: Arc::clone(&endpoint), banner, dialled: Arc::clone(&dialled) };
        let client = DataClient::new(
            Arc::new(Deaf(Forgetful { here, vanishing: 1 })),
            Banner::of_this_program().into(),
            Limits::default(),
        );
        assert_eq!(client.ping("there?").await, Ok(()));
        let failed = ask_after_rest(&client, &endpoint, what).await;
        assert!(matches!(failed, Err(CallError::Connection(_))), "{what}: {failed:?}");
        assert_eq!(dialled.load(Ordering::Relaxed), 2, "{what}");
    }
}
