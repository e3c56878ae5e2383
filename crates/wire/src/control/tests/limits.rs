//! What a client may ask of a server at a time.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::Instant;

use super::*;

/// A server that knows all that this program does.
struct New(Arc<Fake>);

#[async_trait]
impl Dialer for New {
    async fn dial(&self) -> Result<Connection, CallError> {
        let (here, mut there) = duplex(1 << 16);
        let endpoint = Arc::clone(&self.0);
        tokio::spawn(async move {
            let (agreed, _) = welcome(&mut there, &Banner::of_this_program().into()).await.unwrap();
            drop(serve(Box::new(there), endpoint, agreed, Box::new(drop)).await);
        });
        Ok(Box::new(here))
    }
}

async fn new() -> Remote {
    let dialer: Arc<dyn Dialer> = Arc::new(New(Arc::default()));
    let greeting = Greeting::from(Banner::of_this_program());
    let data = DataClient::new(Arc::clone(&dialer), greeting.clone(), Limits::default());
    Remote::connect(&*dialer, &greeting, data, Role::Sender, |_| Err(String::new())).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn listings_run_two_at_a_time_and_large_requests_one() {
    let remote = new().await;
    let start = Instant::now();
    // Each takes 100 ms.
    assert!(join_all((0..8).map(|_| remote.list())).await.iter().all(Result::is_ok));
    assert_eq!(start.elapsed().as_millis() / 100, 4);

    let names: Vec<_> = (0..5_000).map(|number| dataset(&format!("tank/of/usual/length/{number}"))).collect();
    let start = Instant::now();
    assert!(join_all((0..8).map(|_| remote.list_some(&names))).await.iter().all(Result::is_ok));
    assert_eq!(start.elapsed().as_millis() / 100, 8);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_refused_after_a_minute() {
    let (here, there) = duplex(1 << 16);
    let task = tokio::spawn(serve(Box::new(there), Arc::new(Fake::default()), Agreement::default(), Box::new(drop)));
    let http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = http.handshake(TokioIo::new(here)).await.unwrap();
    // Answers pings.
    let driver = tokio::spawn(connection);
    let begun = Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 9, 1])));
    let body = StreamBody::new(futures::stream::iter([begun]).chain(futures::stream::pending()));
    let request = http::Request::post("http://zrepl/Replication/Ping").body(Box::pin(body)).unwrap();
    let start = Instant::now();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 60);
    let told = answer.headers().get("grpc-message").unwrap().to_str().unwrap().to_owned();
    assert!(told.contains("did%20not%20arrive%20within%2060s"), "{told}");
    drop((answer.into_body().collect().await, sender));
    drop((driver.await, task.await));
}
