mod limits;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use model::protection::{Protection, ProtectionKind, ProtectionPolicy};
use model::view::{DatasetKind, Encryption, FilesystemView, PartialReceive, Placeholder, View};
use model::{CreateTxg, DatasetName, Guid, RetryClass, UnixTime, Version, VersionKind, VersionName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::sleep;

use super::*;
use crate::data::DataClient;
use crate::frame::Limits;
use crate::handshake::{Agreement, Banner, Label};
use crate::service::*;
use crate::transport::{Connection, Dialer, Greeting, welcome};

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn version(kind: VersionKind, name: &str, number: u64) -> Version {
    Version {
        kind,
        name: VersionName::parse(name).unwrap(),
        guid: Guid(u64::MAX - number),
        createtxg: CreateTxg(number),
        creation: UnixTime(1_767_323_045),
        userrefs: 0,
    }
}

fn filesystem(versions: Vec<Version>) -> FilesystemView {
    FilesystemView {
        kind: DatasetKind::Filesystem,
        placeholder: Placeholder::Unset,
        encryption: Encryption::None,
        versions: Version::sorted(versions),
        partial: None,
        protections: vec![],
    }
}

/// A filesystem with a cursor, one with an interrupted receive, a placeholder, and a tree that cannot
/// be listed.
fn view() -> View {
    let bookmark = version(VersionKind::Bookmark, "cursor", 3);
    let cursor = Protection { kind: ProtectionKind::Cursor, version: bookmark.to_ref(), createtxg: bookmark.createtxg };
    let snapshots = ["a", "b", "c"].into_iter().zip(2..).map(|(name, at)| version(VersionKind::Snapshot, name, at));
    let replicated = FilesystemView { protections: vec![cursor], ..filesystem(snapshots.chain([bookmark]).collect()) };
    let partial = PartialReceive { token: "1-abc".into(), contents: Err("token 1-abc".into()) };
    let interrupted = FilesystemView { partial: Some(partial), ..filesystem(vec![]) };
    let placeholder = FilesystemView { placeholder: Placeholder::On, ..filesystem(vec![]) };
    let mut view = View::without_protections(BTreeMap::from([
        (dataset("tank"), placeholder),
        (dataset("tank/a"), replicated),
        (dataset("tank/b"), interrupted),
    ]));
    view.unlisted.insert(dataset("tank/x"), "pool I/O is suspended".into());
    view
}

/// Counts what it is asked for.
#[derive(Default)]
struct Fake {
    view: View,
    listings: AtomicUsize,
    completed: Mutex<Vec<SendRequest>>,
    fails: Option<CallError>,
}

#[async_trait]
impl Endpoint for Fake {
    async fn list(&self) -> Result<View, CallError> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(100)).await;
        self.fails.clone().map_or(Ok(self.view.clone()), Err)
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        self.completed.lock().unwrap().push(request.clone());
        self.fails.clone().map_or(Ok(()), Err)
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        let outcome = |name: &VersionName| match name.as_str() {
            "a" => DestroyOutcome::Destroyed,
            _ => DestroyOutcome::Kept("it has a clone".into()),
        };
        let result = |request: &DestroyRequest| DestroyResult {
            filesystem: request.filesystem.clone(),
            results: request.snapshots.iter().map(|it| (it.name.clone(), outcome(&it.name))).collect(),
        };
        Ok(requests.iter().map(result).collect())
    }
}

/// Every connection is served in a task of its own.
struct Here(Arc<Fake>);

#[async_trait]
impl Dialer for Here {
    async fn dial(&self) -> Result<Connection, CallError> {
        let (here, there) = duplex(1 << 16);
        tokio::spawn(accept(there, self.0.clone()));
        Ok(Box::new(here))
    }
}

async fn accept(mut io: DuplexStream, endpoint: Arc<Fake>) {
    match welcome(&mut io, &Banner::with_extensions(vec![]).into()).await.unwrap() {
        (_, Label::Control) => drop(serve(Box::new(io), endpoint, Agreement::default(), Box::new(drop)).await),
        (_, Label::Data) => drop(
            crate::data::serve(
                Box::new(io),
                endpoint,
                Limits::default(),
                Agreement::default(),
                crate::data::Closing::default(),
            )
            .await,
        ),
    }
}

async fn remote(endpoint: Fake, role: Role) -> (Remote, Arc<Fake>) {
    let endpoint = Arc::new(endpoint);
    let dialer: Arc<dyn Dialer> = Arc::new(Here(endpoint.clone()));
    let banner = Greeting::from(Banner::with_extensions(vec![]));
    let data = DataClient::new(dialer.clone(), banner.clone(), Limits::default());
    let read: client::TokenDecoder = |token| Err(format!("token {token}"));
    (Remote::connect(&*dialer, &banner, data, role, read).await.unwrap(), endpoint)
}

fn step() -> SendRequest {
    SendRequest {
        filesystem: dataset("tank/a"),
        from: Some(version(VersionKind::Bookmark, "cursor", 3).to_ref()),
        to: version(VersionKind::Snapshot, "c", 4).to_ref(),
        resume_token: Some("1-abc".into()),
        protection: ProtectionPolicy::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_crosses_the_network_with_one_listing() {
    let (remote, endpoint) = remote(Fake { view: view(), ..Fake::default() }, Role::Sender).await;
    let mut expected = view();
    let unlisted = expected.unlisted.get_mut(&dataset("tank/x")).unwrap();
    *unlisted = "filesystem \"tank/x\" cannot be listed: pool I/O is suspended".into();
    assert_eq!(remote.list().await, Ok(expected.clone()));
    assert_eq!(endpoint.listings.load(Ordering::Relaxed), 1);
    expected.filesystems.retain(|name, _| *name == dataset("tank/a"));
    expected.unlisted.clear();
    assert_eq!(remote.list_some(&[dataset("tank/a"), dataset("gone")]).await, Ok(expected));
    // What is below a root that the peer could not look into is not missing.
    let unlisted = remote.list_some(&[dataset("tank/x/below"), dataset("tank/y")]).await.unwrap();
    assert!(unlisted.filesystems.is_empty(), "{unlisted:?}");
    let (root, why) = unlisted.why_unlisted(&dataset("tank/x/below")).unwrap();
    assert_eq!((root.as_str(), why), ("tank/x", "filesystem \"tank/x\" cannot be listed: pool I/O is suspended"));
    assert_eq!(unlisted.why_unlisted(&dataset("tank/y")), None);
    assert_eq!(endpoint.listings.load(Ordering::Relaxed), 3, "every attempt sees the present");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_is_not_asked_for_cursors() {
    let (remote, _) = remote(Fake { view: view(), ..Fake::default() }, Role::Receiver).await;
    let seen = remote.list().await.unwrap();
    assert!(seen.filesystems.values().all(|seen| seen.protections.is_empty()));
    assert!(!seen.protections_known);
}

#[tokio::test(start_paused = true)]
async fn large_lists_pass() {
    let name = |at: u64| format!("a_name_of_the_usual_length_{at:05}");
    let snapshots = (1..=100_000).map(|at| version(VersionKind::Snapshot, &name(at), at)).collect();
    let filesystems = BTreeMap::from([(dataset("tank"), filesystem(snapshots))]);
    let large = View::without_protections(filesystems);
    let (remote, _) = remote(Fake { view: large.clone(), ..Fake::default() }, Role::Sender).await;
    assert!(remote.list().await == Ok(large), "more than 4 MiB");
}

#[tokio::test(start_paused = true)]
async fn steps_and_outcomes_keep_their_meaning() {
    let (remote, endpoint) = remote(Fake::default(), Role::Sender).await;
    assert_eq!(remote.ping("are you there").await, Ok(()), "on both kinds of connection");
    assert_eq!(remote.send_completed(&step()).await, Ok(()));
    assert_eq!(*endpoint.completed.lock().unwrap(), [step()]);
    assert_eq!(remote.send(&step()).await.err().unwrap(), CallError::permanent("this side cannot be asked to send"));
    let snapshots = vec![step().to, version(VersionKind::Snapshot, "a", 2).to_ref()];
    let request = DestroyRequest { filesystem: dataset("tank/a"), snapshots };
    let results = remote.destroy_snapshots(&[request]).await.unwrap();
    let outcomes: Vec<_> = results[0].results.iter().map(|(name, outcome)| (name.as_str(), outcome.clone())).collect();
    let kept = DestroyOutcome::Failed("it has a clone".into());
    assert_eq!(outcomes, [("c", kept), ("a", DestroyOutcome::Destroyed)]);
}

#[tokio::test(start_paused = true)]
async fn errors_are_answers_and_lost_connections_are_not() {
    let text = "nö\n%zz: dataset is busy";
    let (remote, _) =
        remote(Fake { fails: Some(CallError::Connection(text.into())), ..Fake::default() }, Role::Sender).await;
    let answer = CallError::Refused { class: RetryClass::Transient, message: text.into() };
    assert_eq!(remote.list().await, Err(answer.clone()), "the connection meant is another one");
    assert_eq!(remote.send_completed(&step()).await, Err(answer));
    remote.driver_for_tests().abort();
    tokio::task::yield_now().await;
    assert!(!remote.is_connected());
    assert!(matches!(remote.list().await, Err(CallError::Connection(_))));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays() {
    let (remote, _) = remote(Fake::default(), Role::Sender).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(remote.ping("still there").await, Ok(()));
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// What the server answers to a client that sends these bytes after its label.
async fn answers(sent: &[u8]) -> Vec<u8> {
    let endpoint = Arc::new(Fake { view: view(), ..Fake::default() });
    let (mut here, there) = duplex(1 << 16);
    let task = tokio::spawn(serve(Box::new(there), endpoint, Agreement::default(), Box::new(drop)));
    here.write_all(sent).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    here.shutdown().await.unwrap();
    let mut answered = vec![];
    here.read_to_end(&mut answered).await.unwrap();
    drop(task.await.unwrap());
    answered
}

/// How often a list of filesystems was answered, and nothing else than that.
fn lists(answered: &[u8]) -> usize {
    let message =
        hex("0a080a0474616e6b1801 0a080a0674616e6b2f61 0a0f0a0674616e6b2f621205312d616263 0a080a0674616e6b2f78");
    let reset_stream = hex("000004 03 00");
    assert!(!answered.windows(5).any(|five| five == reset_stream), "a request was refused: {answered:x?}");
    answered.windows(message.len()).filter(|window| *window == message).count()
}

#[tokio::test(start_paused = true)]
async fn recorded_clients_of_zrepl_are_answered() {
    // Two requests with an empty authority, and pings between them.
    let recording = include_str!("../../tests/captures/control.jsonl").lines();
    let lines = recording.map(|line| serde_json::from_str::<(f64, u64, String, String)>(line).unwrap());
    let sent: Vec<u8> = lines.filter(|line| line.2 == ">").flat_map(|line| hex(&line.3)).collect();
    assert_eq!(lists(&answers(&sent[67 + 64..sent.len() - 42]).await), 2);

    // An older client's text, which later requests mean by its index.
    let recording = include_str!("../../tests/captures/older_control.jsonl").lines();
    let lines = recording.map(|line| serde_json::from_str::<(f64, u64, String, String)>(line).unwrap());
    let sent: Vec<u8> = lines.filter(|line| line.2 == ">").flat_map(|line| hex(&line.3)).collect();
    let again = hex("000007 01 04 00000003 8386c2c1c0bfbe 000005 00 01 00000003 0000000000");
    let sent = [&sent[67 + 64..sent.len() - 42], &again].concat();
    assert_eq!(lists(&answers(&sent).await), 2);
}

#[tokio::test(start_paused = true)]
async fn clients_that_say_nothing_are_left() {
    let (here, there) = duplex(100);
    let start = tokio::time::Instant::now();
    let silent = serve(Box::new(there), Arc::new(Fake::default()), Agreement::default(), Box::new(drop)).await;
    assert!(matches!(silent, Err(server::ServeError::Silent)));
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    drop(here);

    // One that began and then hangs.
    let (mut here, there) = duplex(1 << 16);
    here.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    here.write_all(&hex("000000 04 00 00000000")).await.unwrap();
    let start = tokio::time::Instant::now();
    assert!(serve(Box::new(there), Arc::new(Fake::default()), Agreement::default(), Box::new(drop)).await.is_err());
    assert!(start.elapsed() <= Duration::from_secs(16), "{:?}", start.elapsed());
    drop(here);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_done_says_so() {
    let (here, mut there) = duplex(1 << 16);
    let once = Mutex::new(Some(here));
    struct Once(Mutex<Option<DuplexStream>>);
    #[async_trait]
    impl Dialer for Once {
        async fn dial(&self) -> Result<Connection, CallError> {
            Ok(Box::new(self.0.lock().unwrap().take().expect("dialled once")))
        }
    }
    let server = tokio::spawn(async move {
        welcome(&mut there, &Banner::with_extensions(vec![]).into()).await.unwrap();
        serve(Box::new(there), Arc::new(Fake::default()), Agreement::default(), Box::new(drop)).await
    });
    let dialer: Arc<dyn Dialer> = Arc::new(Once(once));
    let banner = Greeting::from(Banner::with_extensions(vec![]));
    let data = DataClient::new(dialer.clone(), banner.clone(), Limits::default());
    let remote = Remote::connect(&*dialer, &banner, data, Role::Sender, |_| Err(String::new())).await.unwrap();
    assert_eq!(remote.send_completed(&step()).await, Ok(()));
    assert!(remote.is_connected());
    drop(remote);
    let ended = tokio::time::timeout(Duration::from_secs(1), server).await.expect("at once").unwrap();
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn headers_in_several_frames_and_without_authority_are_answered() {
    let (authority, rest) = ("81", "5f8b1d75d0620d263d4c4d6564 7a8a9acac8b4c7602bbaf2e0 40027465864d833505b11f");
    let path = "8386 459463696ba0c41a4c7a98ce642709a82a3d2125a51f";
    let frame =
        |kind: u8, flags: u8, payload: &[u8]| [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat();
    for authority in [authority, ""] {
        let block = hex(&[path, authority, rest].concat());
        for cut in 0..=block.len() {
            let (first, second) = block.split_at(cut);
            let sent = [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
                &hex("000000 04 00 00000000"),
                &frame(1, 0, first),
                &frame(9, 4, second),
                &frame(0, 1, &[0; 5]),
            ];
            assert_eq!(lists(&answers(&sent.concat()).await), 1, "cut at {cut}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_given_up() {
    struct Silent;
    #[async_trait]
    impl Dialer for Silent {
        async fn dial(&self) -> Result<Connection, CallError> {
            let (here, mut there) = duplex(1 << 16);
            tokio::spawn(async move {
                welcome(&mut there, &Banner::with_extensions(vec![]).into()).await.unwrap();
                // Its settings, and then nothing: its machine is gone, and nobody closes the connection.
                there.write_all(&hex("000000 04 00 00000000")).await.unwrap();
                std::future::pending::<()>().await;
            });
            Ok(Box::new(here))
        }
    }
    let dialer: Arc<dyn Dialer> = Arc::new(Silent);
    let banner = Greeting::from(Banner::with_extensions(vec![]));
    let data = DataClient::new(dialer.clone(), banner.clone(), Limits::default());
    let start = tokio::time::Instant::now();
    let remote = Remote::connect(&*dialer, &banner, data, Role::Sender, |_| Err(String::new())).await.unwrap();
    assert!(matches!(remote.list().await, Err(CallError::Connection(_))));
    assert!((10..=21).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(!remote.is_connected());
}

/// A connection whose other end has stopped reading, once that is said.
struct Deaf(DuplexStream, Arc<std::sync::atomic::AtomicBool>);

impl crate::transport::Transport for Deaf {
    fn into_tcp(self: Box<Self>) -> Result<tokio::net::TcpStream, Connection> {
        Err(self)
    }
}

impl tokio::io::AsyncRead for Deaf {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        room: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(context, room)
    }
}

impl tokio::io::AsyncWrite for Deaf {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if self.1.load(Ordering::Relaxed) {
            return std::task::Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        std::pin::Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_said_goodbye_need_not_hear_the_answer() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let goodbye = hex("000021 07 00 00000000 0000000f 00000000 636c69656e74207472616e73706f72742073687574646f776e");
    let ping = hex("000008 06 00 00000000 0102030405060708");
    for (last, in_order) in [(&goodbye, true), (&ping, false)] {
        let (mut here, there) = duplex(1 << 16);
        let deaf = Arc::<std::sync::atomic::AtomicBool>::default();
        let io = Box::new(Deaf(there, Arc::clone(&deaf)));
        let task = tokio::spawn(serve(io, Arc::new(Fake::default()), Agreement::default(), Box::new(drop)));
        here.write_all(&[preface.as_slice(), &hex("000000 04 00 00000000")].concat()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        deaf.store(true, Ordering::Relaxed);
        here.write_all(last).await.unwrap();
        let served = task.await.unwrap();
        assert_eq!(served.is_ok(), in_order, "{served:?}");
        if let Err(error) = served {
            assert!(error.to_string().ends_with("connection error: broken pipe"), "{error}");
        }
    }
}

/// More in one request than a message may hold is asked for in several.
#[tokio::test(start_paused = true)]
async fn an_older_peer_destroys_as_many_snapshots_as_there_are() {
    let (remote, _) = remote(Fake { view: view(), ..Fake::default() }, Role::Receiver).await;
    let long = "s".repeat(150);
    let name = |number: u64| format!("{long}{number}");
    let snapshots = (0..35_000).map(|number| version(VersionKind::Snapshot, &name(number), number).to_ref()).collect();
    let request = DestroyRequest { filesystem: dataset("tank/a"), snapshots };
    let results = remote.destroy_snapshots(std::slice::from_ref(&request)).await.unwrap();
    assert_eq!(results.len(), 1);
    let told: Vec<&VersionName> = results[0].results.iter().map(|(name, _)| name).collect();
    let asked: Vec<&VersionName> = request.snapshots.iter().map(|snapshot| &snapshot.name).collect();
    assert!(told == asked, "{} of {}", told.len(), asked.len());
}
