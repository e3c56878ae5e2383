//! The passive side: an endpoint for a peer.

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::DatasetName;
use model::view::{FilesystemView, View};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tonic::body::Body;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::authority::{Filtered, PREFACE};
use super::{MAX_REQUEST, PING_ANSWER, SERVER_PING};
use crate::pdu::{self, convert};
use crate::service::Endpoint;
use crate::transport::Connection;

/// How long one listing answers for every filesystem. A client plans right after it asked for the
/// filesystems, which always lists anew.
const LISTING: Duration = Duration::from_secs(60);

/// Requests of one client at the same time.
const REQUESTS: u32 = 64;

/// Longest text of an error, bytes. It travels in a header.
const MAX_TEXT: usize = 4 << 10;

/// How long a client may take to begin.
const BEGIN: Duration = Duration::from_secs(10);

/// A control connection that did not end in order.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The client opened it and said nothing.
    #[error("the client did not begin to speak HTTP/2 within {BEGIN:?}")]
    Silent,
    /// The client left before it said anything.
    #[error("the client left before its first request: {0}")]
    Lost(#[source] std::io::Error),
    /// It broke, or the client does not speak HTTP/2.
    #[error("the control connection failed: {}{}", .0, cause(.0))]
    Http(#[from] hyper::Error),
}

/// What the library's own words do not tell.
fn cause(error: &hyper::Error) -> String {
    error.source().map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// Serves one connection after its label, until the client ends it or is gone.
pub async fn serve(mut io: Connection, endpoint: Arc<dyn Endpoint>) -> Result<(), ServeError> {
    // The library waits for the preface for ever.
    let mut preface = [0; PREFACE];
    let begun = timeout(BEGIN, io.read_exact(&mut preface)).await.map_err(|_| ServeError::Silent)?;
    begun.map_err(ServeError::Lost)?;
    let peer = Arc::new(Peer { endpoint, listing: Mutex::default() });
    let answer = service_fn(move |request| {
        let peer = Arc::clone(&peer);
        async move { Ok::<_, Infallible>(peer.answer(request).await) }
    });
    let mut http = Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new()).adaptive_window(true).max_concurrent_streams(REQUESTS);
    http.keep_alive_interval(SERVER_PING).keep_alive_timeout(PING_ANSWER);
    let io = Filtered::after_preface(preface, io);
    let done = io.done();
    match http.serve_connection(TokioIo::new(io), answer).await {
        // Nobody is there any more to hear this side's goodbye. Pipes tell that at once, TCP rarely.
        Err(error) if done.load(Ordering::Relaxed) && is_broken(&error) => Ok(()),
        served => Ok(served?),
    }
}

fn is_broken(error: &hyper::Error) -> bool {
    error.source().is_some_and(|cause| cause.is::<std::io::Error>())
}

/// One client.
struct Peer {
    endpoint: Arc<dyn Endpoint>,
    /// Shared by the requests for single filesystems; whoever finds it old makes it anew, and the others
    /// wait for that one.
    listing: Mutex<Option<(Instant, Arc<View>)>>,
}

type Answer<T> = Result<T, Status>;

impl Peer {
    async fn answer(self: Arc<Self>, request: http::Request<Incoming>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        match path.strip_prefix("/Replication/").unwrap_or_default() {
            "Ping" => unary(request, |asked| std::future::ready(ping(asked))).await,
            "ListFilesystems" => unary(request, |asked| Arc::clone(&self).filesystems(asked)).await,
            "ListFilesystemVersions" => unary(request, |asked| Arc::clone(&self).versions(asked)).await,
            "ReplicationCursor" => unary(request, |asked| Arc::clone(&self).cursor(asked)).await,
            "SendDry" => unary(request, |asked| std::future::ready(dry(asked))).await,
            "SendCompleted" => unary(request, |asked| Arc::clone(&self).completed(asked)).await,
            "DestroySnapshots" => unary(request, |asked| Arc::clone(&self).destroy(asked)).await,
            _ => Status::unimplemented(format!("unknown method {path}")).into_http(),
        }
    }

    async fn filesystems(self: Arc<Self>, _: pdu::ListFilesystemReq) -> Answer<pdu::ListFilesystemRes> {
        Ok(convert::list_response(&*self.list(Duration::ZERO).await?))
    }

    async fn versions(
        self: Arc<Self>,
        asked: pdu::ListFilesystemVersionsReq,
    ) -> Answer<pdu::ListFilesystemVersionsRes> {
        self.look(&asked.filesystem, convert::versions_response).await
    }

    async fn cursor(self: Arc<Self>, asked: pdu::ReplicationCursorReq) -> Answer<pdu::ReplicationCursorRes> {
        self.look(&asked.filesystem, convert::cursor_response).await
    }

    async fn completed(self: Arc<Self>, asked: pdu::SendCompletedReq) -> Answer<pdu::SendCompletedRes> {
        let request = convert::send_completed_request(asked).map_err(refused)?;
        self.forget().await;
        self.endpoint.send_completed(&request).await.map_err(refused)?;
        Ok(pdu::SendCompletedRes {})
    }

    async fn destroy(self: Arc<Self>, asked: pdu::DestroySnapshotsReq) -> Answer<pdu::DestroySnapshotsRes> {
        let request = convert::destroy_request(&asked).map_err(refused)?;
        self.forget().await;
        let results = self.endpoint.destroy_snapshots(std::slice::from_ref(&request)).await.map_err(refused)?;
        let result = results.first().ok_or_else(|| Status::unknown("nobody knows what became of the snapshots"))?;
        Ok(convert::destroy_response(asked, result))
    }

    /// A listing not older than this.
    async fn list(&self, age: Duration) -> Answer<Arc<View>> {
        let mut listing = self.listing.lock().await;
        if let Some((when, view)) = &*listing
            && when.elapsed() < age
        {
            return Ok(Arc::clone(view));
        }
        let when = Instant::now();
        let view = Arc::new(self.endpoint.list().await.map_err(refused)?);
        *listing = Some((when, Arc::clone(&view)));
        Ok(view)
    }

    async fn forget(&self) {
        *self.listing.lock().await = None;
    }

    async fn look<T>(&self, filesystem: &str, answer: impl Fn(&FilesystemView) -> T) -> Answer<T> {
        let name: DatasetName = filesystem.parse().map_err(refused)?;
        let view = self.list(LISTING).await?;
        if let Some(why) = view.unlisted.get(&name) {
            return Err(refused(format!("filesystem {filesystem:?} cannot be listed: {why}")));
        }
        let seen = view.filesystems.get(&name);
        seen.map(answer).ok_or_else(|| refused(format!("filesystem {filesystem:?} does not exist, or not for you")))
    }
}

fn ping(asked: pdu::PingReq) -> Answer<pdu::PingRes> {
    Ok(pdu::PingRes { echo: asked.message })
}

/// The size is not known before the stream begins, and 0 says so.
fn dry(asked: pdu::SendReq) -> Answer<pdu::SendRes> {
    let request = convert::send_request(asked).map_err(refused)?;
    Ok(convert::send_response(request.resume_token.is_some(), None))
}

/// Never `unavailable`, which a zrepl client takes for a lost connection.
fn refused(error: impl ToString) -> Status {
    Status::unknown(crate::frame::encode::sayable(&error.to_string(), MAX_TEXT))
}

async fn unary<Q, R, F, A>(request: http::Request<Incoming>, answer: F) -> http::Response<Body>
where
    Q: prost::Message + Default + 'static,
    R: prost::Message + 'static,
    F: FnMut(Q) -> A,
    A: Future<Output = Answer<R>> + Send + 'static,
{
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<R, Q>::default()).max_decoding_message_size(MAX_REQUEST);
    grpc.unary(Method(answer), request).await
}

/// A method as the gRPC library wants it.
struct Method<F>(F);

type Answering<R> = Pin<Box<dyn Future<Output = Result<Response<R>, Status>> + Send>>;

impl<Q, R, F, A> tower_service::Service<Request<Q>> for Method<F>
where
    F: FnMut(Q) -> A,
    A: Future<Output = Answer<R>> + Send + 'static,
{
    type Response = Response<R>;
    type Error = Status;
    type Future = Answering<R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answer = (self.0)(request.into_inner());
        Box::pin(async move { answer.await.map(Response::new) })
    }
}
