use std::future::{pending, ready};

use async_trait::async_trait;
use model::view::View;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::*;
use crate::control::Role;
use crate::data::DataClient;
use crate::handshake::Banner;
use crate::peer::Peer;
use crate::service::{Connector as _, Endpoint};
use crate::transport::{Dialer, HANDSHAKE};

fn greeting() -> Greeting {
    Banner::with_extensions(vec![]).into()
}

fn identity(name: &str) -> ClientIdentity {
    ClientIdentity::parse(name).unwrap()
}

/// Has nothing, but lets whoever is not `nobody` look at it.
struct Empty;

impl Service for Empty {
    fn endpoint_for(&self, client: &ClientIdentity) -> Result<Arc<dyn Endpoint>, CallError> {
        match client.as_str() {
            "nobody" => Err(CallError::permanent("nothing for nobody")),
            "panic" => panic!("whoever is this"),
            _ => Ok(Arc::new(Refusing(CallError::permanent("there is nothing")))),
        }
    }
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Watcher for Notes {
    fn notice(&self, incident: &Incident, untold: u64) {
        self.0.lock().unwrap().push(format!("{incident} +{untold}"));
    }

    fn comes(&self, _: &ClientIdentity, _: Label) {}

    fn goes(&self, _: &ClientIdentity, _: Label) {}

    fn serves(&self, _: &ClientIdentity) -> UnderWay {
        Box::new(())
    }
}

impl Notes {
    /// What was told, once there is as much.
    async fn wait_for(&self, count: usize) -> Vec<String> {
        loop {
            let notes = self.0.lock().unwrap().clone();
            if notes.len() >= count {
                return notes;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

struct Hatch(mpsc::Receiver<io::Result<Arrival>>);

#[async_trait]
impl Acceptor for Hatch {
    async fn accept(&mut self) -> io::Result<Arrival> {
        match self.0.recv().await {
            Some(arrived) => arrived,
            None => pending().await,
        }
    }
}

/// A listener and the way to it.
struct Inn {
    door: mpsc::Sender<io::Result<Arrival>>,
    notes: Arc<Notes>,
    stop: CancellationToken,
    closing: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Inn {
    fn open() -> Self {
        let (door, arrivals) = mpsc::channel(1);
        let (notes, stop) = (Arc::<Notes>::default(), CancellationToken::new());
        let watcher = Arc::clone(&notes) as Arc<dyn Watcher>;
        let (service, closing) = (Arc::new(Empty), CancellationToken::new());
        let closes = closing.clone();
        let host = Host { service, greeting: greeting(), limits: Limits::default(), watcher, closing: closes };
        let stopped = stop.clone();
        let serving = tokio::spawn(async move { serve(Box::new(Hatch(arrivals)), host, &stopped).await });
        Self { door, notes, stop, closing, serving }
    }

    async fn arrives(&self, from: &str, identify: crate::transport::Identify) {
        self.door.send(Ok(Arrival { from: from.to_owned(), identify })).await.unwrap();
    }

    /// A client that is let in and has not said anything.
    async fn let_in(&self, name: &str) -> DuplexStream {
        let (here, there) = duplex(1 << 16);
        let client = identity(name);
        self.arrives(name, Box::pin(ready(Ok((Box::new(there) as Connection, client))))).await;
        here
    }

    fn client(&self, name: &'static str) -> DataClient {
        DataClient::new(Arc::new(Way(self.door.clone(), name)), greeting(), Limits::default())
    }
}

struct Way(mpsc::Sender<io::Result<Arrival>>, &'static str);

#[async_trait]
impl Dialer for Way {
    async fn dial(&self) -> Result<Connection, CallError> {
        let (here, there) = duplex(1 << 16);
        let client = identity(self.1);
        let identify: crate::transport::Identify = Box::pin(ready(Ok((Box::new(there) as Connection, client))));
        self.0.send(Ok(Arrival { from: self.1.to_owned(), identify })).await.unwrap();
        Ok(Box::new(here))
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_say_nothing_delay_nobody_and_are_told() {
    let inn = Inn::open();
    inn.arrives("undecided", Box::pin(pending())).await;
    let mut silent = inn.let_in("silent").await;
    let mut half = inn.let_in("half").await;
    half.write_all(&greeting().banner.encode().unwrap()).await.unwrap();
    let start = Instant::now();
    inn.client("me").ping("hello").await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let mut notes = inn.notes.wait_for(2).await;
    assert_eq!(start.elapsed().as_secs(), HANDSHAKE.as_secs());
    notes.sort();
    let told = |name: &str, what: &str| {
        format!("handshake with client {name:?} from {name} failed: the peer sent no {what} within 10s +0")
    };
    assert_eq!(notes, [told("half", "label"), told("silent", "banner")]);
    let mut said = Vec::new();
    silent.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, greeting().banner.encode().unwrap(), "the banner, and then the end");
}

#[tokio::test(start_paused = true)]
async fn strangers_are_told_once_a_minute() {
    let inn = Inn::open();
    let knock = async || inn.arrives("10.0.0.1", Box::pin(ready(Err(Stranger("who is that".to_owned()))))).await;
    for _ in 0..50 {
        knock().await;
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    knock().await;
    let told = "connection from 10.0.0.1 refused: who is that";
    assert_eq!(inn.notes.wait_for(2).await, [format!("{told} +0"), format!("{told} +49")]);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_an_endpoint_hears_why_on_both_kinds_of_connections() {
    let inn = Inn::open();
    let way = || Arc::new(Way(inn.door.clone(), "nobody")) as Arc<dyn Dialer>;
    let peer = Peer::new(way(), way(), greeting(), Role::Sender, |_| Err(String::new()));
    let endpoint = peer.connect().await.unwrap();
    let why = Some(CallError::permanent("nothing for nobody"));
    assert_eq!(endpoint.list().await.map(|view: View| view.filesystems.len()).err(), why);
    let request = crate::service::SendRequest {
        filesystem: "a".parse().unwrap(),
        from: None,
        to: model::VersionRef {
            kind: model::VersionKind::Snapshot,
            name: model::VersionName::parse("s").unwrap(),
            guid: model::Guid(1),
        },
        resume_token: None,
        protection: model::protection::ProtectionPolicy::default(),
    };
    assert_eq!(endpoint.send(&request).await.err(), why);
    let told = "client \"nobody\" from nobody cannot be served: nothing for nobody +0";
    assert_eq!(inn.notes.wait_for(1).await, [told]);
}

#[tokio::test(start_paused = true)]
async fn a_defect_costs_one_connection() {
    let inn = Inn::open();
    assert!(inn.client("panic").ping("hello").await.is_err());
    assert_eq!(inn.notes.wait_for(1).await, ["serving a connection from panic panicked: whoever is this +0"]);
    inn.client("me").ping("hello").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_listener_goes_on_after_it_could_not_accept() {
    let inn = Inn::open();
    for _ in 0..3 {
        inn.door.send(Err(io::Error::other("too many open files"))).await.unwrap();
    }
    inn.door.send(Err(io::ErrorKind::ConnectionAborted.into())).await.unwrap();
    inn.client("me").ping("hello").await.unwrap();
    let told = "cannot accept connections: too many open files; trying again +0";
    assert_eq!(inn.notes.wait_for(1).await, [told]);
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_all_the_room_makes_some_for_others_and_gets_no_more() {
    let inn = Inn::open();
    let start = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..UNKNOWN {
        silent.push(inn.let_in("silent").await);
    }
    inn.client("me").ping("hello").await.unwrap();
    assert!(inn.client("silent").ping("hello").await.is_ok(), "one has left for me, who is known now");
    let last = inn.let_in("silent").await;
    assert!(inn.client("silent").ping("hello").await.is_err());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let notes = inn.notes.wait_for(1).await;
    let told = "connection from silent closed: there are too many (at most 512, 256 of one client, and 128 that";
    assert!(notes.len() == 1 && notes[0].starts_with(told), "{notes:?}");
    let mut said = Vec::new();
    silent[0].read_to_end(&mut said).await.unwrap();
    assert_eq!(said, greeting().banner.encode().unwrap(), "the oldest one was closed");
    tokio::time::sleep(HANDSHAKE).await;
    inn.client("silent").ping("hello").await.unwrap();
    drop(last);
}

#[tokio::test(start_paused = true)]
async fn one_client_cannot_have_all_connections() {
    let inn = Inn::open();
    let mut idle = Vec::new();
    for _ in 0..OF_ONE_CLIENT {
        let mut io = inn.let_in("greedy").await;
        crate::transport::greet(&mut io, &greeting(), Label::Data, b"").await.unwrap();
        idle.push(io);
    }
    assert!(inn.client("greedy").ping("hello").await.is_err());
    inn.client("me").ping("hello").await.unwrap();
    let notes = inn.notes.wait_for(1).await;
    assert!(notes[0].starts_with("connection from greedy closed: there are too many"), "{notes:?}");
    drop(idle.pop());
    tokio::time::sleep(Duration::from_secs(20)).await;
    inn.client("greedy").ping("hello").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_listener_is_that_of_its_connections() {
    let inn = Inn::open();
    let mut silent = inn.let_in("silent").await;
    let way = || Arc::new(Way(inn.door.clone(), "me")) as Arc<dyn Dialer>;
    let control = Peer::new(way(), way(), greeting(), Role::Sender, |_| Err(String::new())).connect().await.unwrap();
    assert!(matches!(control.list().await, Err(CallError::Refused { .. })));
    inn.stop.cancel();
    inn.serving.await.unwrap();
    let mut said = Vec::new();
    silent.read_to_end(&mut said).await.unwrap();
    let gone = control.list().await;
    assert!(matches!(gone, Err(CallError::Connection(_))), "{gone:?}");
    assert!(inn.notes.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_closes_lets_nobody_in_and_serves_who_is_there() {
    let inn = Inn::open();
    let way = || Arc::new(Way(inn.door.clone(), "me")) as Arc<dyn Dialer>;
    let control = Peer::new(way(), way(), greeting(), Role::Sender, |_| Err(String::new())).connect().await.unwrap();
    assert!(matches!(control.list().await, Err(CallError::Refused { .. })));
    inn.closing.cancel();
    inn.door.closed().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(matches!(control.list().await, Err(CallError::Refused { .. })), "a step may be confirmed");
    inn.stop.cancel();
    inn.serving.await.unwrap();
    assert!(matches!(control.list().await, Err(CallError::Connection(_))));
}

#[tokio::test(start_paused = true)]
async fn who_speaks_another_protocol_is_told_apart_at_once() {
    let inn = Inn::open();
    let start = Instant::now();
    for (name, said) in
        [("browser", &b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"[..]), ("shell", b"SSH-2.0-OpenSSH_9.2\r\n")]
    {
        let mut io = inn.let_in(name).await;
        io.write_all(said).await.unwrap();
        let mut heard = Vec::new();
        io.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, greeting().banner.encode().unwrap(), "nothing but the banner");
    }
    assert!(start.elapsed() < Duration::from_secs(1));
    let notes = inn.notes.wait_for(2).await;
    assert!(notes[0].starts_with("handshake with client \"browser\" from browser failed: "), "{notes:?}");
    assert!(notes[0].contains("GET / HTTP/") && notes[1].contains("SSH-2.0-Ope"), "{notes:?}");
    assert!(notes.iter().all(|note| note.contains("is it a zrepl daemon")), "{notes:?}");
}
