//! The passive side: an endpoint for a peer.

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::DatasetName;
use model::view::{FilesystemView, View};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::authority::{Filtered, PREFACE};
use super::message::{PREFIX, announced};
use super::{ERROR_WORD, MAX_REQUEST, PING_ANSWER, SERVER_PING, method};
use crate::extension::Extension;
use crate::handshake::Agreement;
use crate::pdu::calls::{
    ConfirmReq, ConfirmRes, DestroyReq, DestroyRes, RenameAsideReq, RenameAsideRes, RollBackReq, RollBackRes,
};
use crate::pdu::listing::{ListPart, ListReq, Parts};
use crate::pdu::{self, calls, convert};
use crate::remote;
use crate::service::{CallError, Endpoint, SendRequest};
use crate::transport::Connection;

/// How long one listing answers for every filesystem. A client plans right after it asked for the
/// filesystems, which always lists anew.
const LISTING: Duration = Duration::from_secs(60);

/// Requests of one connection at the same time: twice what a client asks for at once.
const REQUESTS: u32 = 16;

/// How long a request may take to arrive. Nothing larger than [`MAX_REQUEST`] does.
const REQUEST: Duration = Duration::from_secs(60);

/// Bytes of a request from which on it is answered alone: of its lists, an empty element takes two bytes on
/// the way and a hundred here.
const LARGE: usize = 64 << 10;

/// Listings of everything for one connection at the same time; each takes processes.
const LISTINGS: usize = 2;

/// Sizes that one client asks for at the same time; each takes a process.
const ESTIMATES: usize = 4;

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

/// An answer that is longer than zrepl accepts: nothing of its filesystem is replicated. It cannot be cut in
/// zrepl's protocol.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{what} take {length} bytes, and zrepl 0.7 accepts {MAX_REQUEST} (destroy some of them, or run this program on \
     the other side, too)"
)]
pub struct TooLong {
    /// What it tells.
    pub what: String,
    /// Bytes.
    pub length: usize,
}

/// Takes notice of what an administrator should know. Must be quick.
pub type Notice = Box<dyn Fn(TooLong) + Send + Sync>;

/// Serves one connection of a client after its label, until the client ends it or is gone.
pub async fn serve(
    mut io: Connection,
    endpoint: Arc<dyn Endpoint>,
    agreed: Agreement,
    notice: Notice,
) -> Result<(), ServeError> {
    // The library waits for the preface for ever.
    let mut preface = [0; PREFACE];
    let begun = timeout(BEGIN, io.read_exact(&mut preface)).await.map_err(|_| ServeError::Silent)?;
    begun.map_err(ServeError::Lost)?;
    let peer = Arc::new(Peer::new(endpoint, agreed, notice));
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
    agreed: Agreement,
    notice: Notice,
    /// Shared by the requests for single filesystems; whoever finds none makes it anew, and the others
    /// wait for that one.
    listing: Mutex<Option<Listing>>,
    listings: Semaphore,
    estimates: Semaphore,
    large: Semaphore,
}

/// What answers for every filesystem until it is old.
struct Listing {
    when: Instant,
    view: Arc<View>,
    /// Forgets it then: with millions of versions it is large, and a connection lives for hours.
    _forgetting: AbortOnDropHandle<()>,
}

type Answer<T> = Result<T, Status>;

impl Peer {
    fn new(endpoint: Arc<dyn Endpoint>, agreed: Agreement, notice: Notice) -> Self {
        Self {
            endpoint,
            agreed,
            notice,
            listing: Mutex::default(),
            listings: Semaphore::new(LISTINGS),
            estimates: Semaphore::new(ESTIMATES),
            large: Semaphore::new(1),
        }
    }

    async fn answer(self: Arc<Self>, request: http::Request<Incoming>) -> http::Response<Body> {
        let (head, body) = request.into_parts();
        let body = match timeout(REQUEST, whole(body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(status)) => return status.into_http(),
            Err(_) => return refused(format!("the request did not arrive within {REQUEST:?}")).into_http(),
        };
        // Never closed.
        let _turn = if body.len() > LARGE { self.large.acquire().await.ok() } else { None };
        let request = http::Request::from_parts(head, Full::new(body));
        Arc::clone(&self).answer_whole(request).await
    }

    async fn answer_whole(self: Arc<Self>, request: http::Request<Full<Bytes>>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        if path.starts_with(method::SERVICE) {
            return self.answer_beyond(&path, request).await;
        }
        match path.strip_prefix("/Replication/").unwrap_or_default() {
            "Ping" => unary(request, |asked| std::future::ready(ping(asked))).await,
            "ListFilesystems" => unary(request, |asked| Arc::clone(&self).filesystems(asked)).await,
            "ListFilesystemVersions" => unary(request, |asked| Arc::clone(&self).versions(asked)).await,
            "ReplicationCursor" => unary(request, |asked| Arc::clone(&self).cursor(asked)).await,
            "SendDry" => unary(request, |asked| Arc::clone(&self).dry(asked)).await,
            "SendCompleted" => unary(request, |asked| Arc::clone(&self).completed(asked)).await,
            "DestroySnapshots" => unary(request, |asked| Arc::clone(&self).destroy(asked)).await,
            _ => Status::unimplemented(format!("unknown method {path}")).into_http(),
        }
    }

    /// Answers what zrepl does not know.
    async fn answer_beyond(self: Arc<Self>, path: &str, request: http::Request<Full<Bytes>>) -> http::Response<Body> {
        let needs = if path == method::LIST { Extension::List } else { Extension::Calls };
        if !self.agreed.includes(needs) {
            return Status::unimplemented(format!("{path} was not agreed on")).into_http();
        }
        match path {
            method::LIST => streamed(request, |asked| Arc::clone(&self).list_parts(asked)).await,
            method::CONFIRM => unary(request, |asked| Arc::clone(&self).confirm(asked)).await,
            method::ROLL_BACK => unary(request, |asked| Arc::clone(&self).roll_back(asked)).await,
            method::RENAME_ASIDE => unary(request, |asked| Arc::clone(&self).rename_aside(asked)).await,
            method::DESTROY => unary(request, |asked| Arc::clone(&self).destroy_all(asked)).await,
            _ => Status::unimplemented(format!("unknown method {path}")).into_http(),
        }
    }

    async fn list_parts(self: Arc<Self>, asked: ListReq) -> Answer<PartStream> {
        let ListReq { only_some, mut filesystems } = asked;
        if !only_some {
            filesystems = Vec::new();
        }
        // Never closed.
        let _turn = self.listings.acquire().await.ok();
        let view = if only_some {
            let named = filesystems.iter().map(|name| convert::filesystem("ListReq", name));
            self.endpoint.list_some(&named.collect::<Result<Vec<_>, _>>().map_err(refused)?).await
        } else {
            self.endpoint.list().await
        };
        let parts = Parts::of(view.map_err(|error| self.failed(&error))?);
        Ok(futures::stream::iter(parts.map(Ok as fn(ListPart) -> Answer<ListPart>)))
    }

    async fn confirm(self: Arc<Self>, asked: ConfirmReq) -> Answer<ConfirmRes> {
        let request = calls::confirm_request(&asked).map_err(refused)?;
        self.forget().await;
        self.endpoint.confirm_received(&request).await.map_err(|error| self.failed(&error))?;
        Ok(ConfirmRes {})
    }

    async fn roll_back(self: Arc<Self>, asked: RollBackReq) -> Answer<RollBackRes> {
        let request = calls::roll_back_request(&asked).map_err(refused)?;
        self.forget().await;
        let gone = self.endpoint.roll_back(&request).await.map_err(|error| self.failed(&error))?;
        Ok(RollBackRes { destroyed: gone.iter().map(|name| name.as_str().to_owned()).collect() })
    }

    async fn rename_aside(self: Arc<Self>, asked: RenameAsideReq) -> Answer<RenameAsideRes> {
        let request = calls::rename_aside_request(&asked).map_err(refused)?;
        self.forget().await;
        let name = self.endpoint.rename_aside(&request).await.map_err(|error| self.failed(&error))?;
        Ok(RenameAsideRes { name: name.as_str().to_owned() })
    }

    async fn destroy_all(self: Arc<Self>, asked: DestroyReq) -> Answer<DestroyRes> {
        let requests = asked.requests.iter().map(convert::destroy_request);
        let requests = requests.collect::<Result<Vec<_>, _>>().map_err(refused)?;
        self.forget().await;
        let results = self.endpoint.destroy_snapshots(&requests).await.map_err(|error| self.failed(&error))?;
        Ok(calls::destroy_response(&results))
    }

    /// An error as the client is told of it.
    fn failed(&self, error: &CallError) -> Status {
        let mut status = refused(error);
        if self.agreed.includes(Extension::Errors) {
            let word = MetadataValue::from_static(remote::word(error));
            status.metadata_mut().insert(ERROR_WORD, word);
        }
        status
    }

    async fn filesystems(self: Arc<Self>, _: pdu::ListFilesystemReq) -> Answer<pdu::ListFilesystemRes> {
        let response = convert::list_response(&*self.list(Duration::ZERO).await?);
        self.measure(&response, || format!("the names of {} filesystems", response.filesystems.len()));
        Ok(response)
    }

    async fn versions(
        self: Arc<Self>,
        asked: pdu::ListFilesystemVersionsReq,
    ) -> Answer<pdu::ListFilesystemVersionsRes> {
        let response = self.look(&asked.filesystem, convert::versions_response).await?;
        let what = || format!("the {} snapshots and bookmarks of {:?}", response.versions.len(), asked.filesystem);
        self.measure(&response, what);
        Ok(response)
    }

    async fn cursor(self: Arc<Self>, asked: pdu::ReplicationCursorReq) -> Answer<pdu::ReplicationCursorRes> {
        self.look(&asked.filesystem, convert::cursor_response).await
    }

    /// A size that is not known, 0, is no reason to give a step up.
    async fn dry(self: Arc<Self>, asked: pdu::SendReq) -> Answer<pdu::SendRes> {
        let request = convert::send_request(asked).map_err(refused)?;
        let resumes = request.resume_token.is_some();
        // To ask with a token may take ZFS a walk through the whole pool.
        let size = if resumes { None } else { self.estimate(&request).await };
        Ok(convert::send_response(resumes, size))
    }

    async fn estimate(&self, request: &SendRequest) -> Option<u64> {
        // Never closed.
        let _turn = self.estimates.acquire().await.ok()?;
        self.endpoint.estimate(request).await.ok().flatten()
    }

    async fn completed(self: Arc<Self>, asked: pdu::SendCompletedReq) -> Answer<pdu::SendCompletedRes> {
        let request = convert::send_completed_request(asked).map_err(refused)?;
        self.forget().await;
        self.endpoint.send_completed(&request).await.map_err(|error| self.failed(&error))?;
        Ok(pdu::SendCompletedRes {})
    }

    async fn destroy(self: Arc<Self>, asked: pdu::DestroySnapshotsReq) -> Answer<pdu::DestroySnapshotsRes> {
        let request = convert::destroy_request(&asked).map_err(refused)?;
        self.forget().await;
        let results = self.endpoint.destroy_snapshots(std::slice::from_ref(&request)).await;
        let results = results.map_err(|error| self.failed(&error))?;
        let result = results.first().ok_or_else(|| Status::unknown("nobody knows what became of the snapshots"))?;
        Ok(convert::destroy_response(asked, result))
    }

    /// Tells of an answer that is too long for a client of zrepl's protocol.
    fn measure(&self, response: &impl prost::Message, what: impl Fn() -> String) {
        let length = response.encoded_len();
        if length > MAX_REQUEST && !self.agreed.includes(Extension::List) {
            (self.notice)(TooLong { what: what(), length });
        }
    }

    /// A listing not older than this.
    async fn list(self: &Arc<Self>, age: Duration) -> Answer<Arc<View>> {
        let mut listing = self.listing.lock().await;
        if let Some(Listing { when, view, .. }) = &*listing
            && when.elapsed() < age
        {
            return Ok(Arc::clone(view));
        }
        // What is old need not be in memory beside what is new.
        *listing = None;
        let when = Instant::now();
        let view = Arc::new(self.endpoint.list().await.map_err(|error| self.failed(&error))?);
        let peer = Arc::downgrade(self);
        let forgetting = tokio::spawn(async move {
            sleep(LISTING).await;
            if let Some(peer) = peer.upgrade() {
                peer.forget().await;
            }
        });
        *listing = Some(Listing { when, view: Arc::clone(&view), _forgetting: AbortOnDropHandle::new(forgetting) });
        Ok(view)
    }

    async fn forget(&self) {
        *self.listing.lock().await = None;
    }

    async fn look<T>(self: &Arc<Self>, filesystem: &str, answer: impl Fn(&FilesystemView) -> T) -> Answer<T> {
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

/// Never `unavailable`, which a zrepl client takes for a lost connection.
fn refused(error: impl ToString) -> Status {
    Status::unknown(crate::frame::encode::sayable(&error.to_string(), MAX_TEXT))
}

/// A request, when all of it is there.
async fn whole(mut body: Incoming) -> Result<Bytes, Status> {
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // The client has reset the stream, or is gone.
        let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        held.extend_from_slice(data);
        let announced = announced(&held).unwrap_or_default();
        if announced > MAX_REQUEST || held.len() > PREFIX + MAX_REQUEST {
            return Err(Status::out_of_range(format!("the request has more than {MAX_REQUEST} bytes")));
        }
    }
    Ok(held.freeze())
}

async fn unary<Q, R, F, A>(request: http::Request<Full<Bytes>>, answer: F) -> http::Response<Body>
where
    Q: prost::Message + Default + 'static,
    R: prost::Message + 'static,
    F: FnMut(Q) -> A,
    A: Future<Output = Answer<R>> + Send + 'static,
{
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<R, Q>::default()).max_decoding_message_size(MAX_REQUEST);
    grpc.unary(Method(answer), request).await
}

/// As [`unary`], with an answer in parts.
async fn streamed<Q, F, A>(request: http::Request<Full<Bytes>>, answer: F) -> http::Response<Body>
where
    Q: prost::Message + Default + 'static,
    F: FnMut(Q) -> A,
    A: Future<Output = Answer<PartStream>> + Send + 'static,
{
    let mut grpc =
        tonic::server::Grpc::new(ProstCodec::<ListPart, Q>::default()).max_decoding_message_size(MAX_REQUEST);
    grpc.server_streaming(Method(answer), request).await
}

/// A listing as it is sent; a part is made when there is room for it on the way.
type PartStream = futures::stream::Iter<std::iter::Map<Parts, fn(ListPart) -> Answer<ListPart>>>;

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

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
