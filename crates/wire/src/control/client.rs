//! The active side: a peer as an endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use hyper::client::conn::http2::{Builder, SendRequest as Sender};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::protection::{Protection, ProtectionKind};
use model::view::{DatasetKind, Encryption, FilesystemView, PartialReceive, Placeholder, View};
use model::{DatasetName, Guid, Version, VersionName, VersionRef};
use pump::ByteStream;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::answer::{Answer, readable};
use super::{CLIENT_PING, ERROR_WORD, MAX_PART, MAX_REQUEST, MAX_RESPONSE, PING_ANSWER, method};
use crate::data::DataClient;
use crate::extension::Extension;
use crate::handshake::{Agreement, Label};
use crate::pdu::calls::{self, ConfirmReq, ConfirmRes, DestroyReq, DestroyRes};
use crate::pdu::listing::{Assembly, ListPart, ListReq, MAX_FILESYSTEMS, MAX_VERSIONS};
use crate::pdu::{self, Problem, RemoteFilesystem, convert};
use crate::remote;
use crate::service::{
    self, CallError, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, RenameAsideRequest, RollBackRequest,
    SendReply, SendRequest,
};
use crate::transport::{Dialer, Greeting, greet};

/// Filesystems whose versions are asked for at the same time.
const LISTED_AT_ONCE: usize = 8;

pub use crate::pdu::listing::TokenDecoder;

/// Longest request for some filesystems only, bytes; more is cheaper to ask for as a whole.
const MAX_NAMED: usize = 1 << 20;

/// Bytes of one request to destroy snapshots from which on the next one begins.
const DESTROYED_AT_ONCE: usize = 1 << 20;

/// Snapshots of one filesystem that a peer is asked to destroy at a time: far from the limits for messages.
const SNAPSHOTS_AT_ONCE: usize = 10_000;

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A source: has cursors, and no interrupted receives.
    Sender,
    /// A sink.
    Receiver,
}

/// A peer on the other end of a control connection. Steps go over data connections.
pub struct Remote {
    channel: Channel,
    /// Ends by itself: with a goodbye when the channel is gone, or when the peer no longer answers pings.
    driver: JoinHandle<()>,
    data: DataClient,
    role: Role,
    decode_token: TokenDecoder,
    agreed: Agreement,
}

impl Remote {
    /// Opens the control connection.
    pub async fn connect(
        dialer: &dyn Dialer,
        greeting: &Greeting,
        data: DataClient,
        role: Role,
        decode_token: TokenDecoder,
    ) -> Result<Self, CallError> {
        let mut io = dialer.dial().await?;
        let agreed = greet(&mut io, greeting, Label::Control, b"").await.map_err(|error| match dialer.place() {
            place if place.is_empty() => lost(&error),
            place => CallError::Connection(format!("control connection to {place}: {error}")),
        })?;
        let mut http = Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new()).adaptive_window(true);
        http.keep_alive_interval(CLIENT_PING).keep_alive_timeout(PING_ANSWER).keep_alive_while_idle(true);
        let (sender, connection) = http.handshake(TokioIo::new(io)).await.map_err(|error| lost(&error))?;
        // Its error is told to the calls that it broke.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { channel: Channel(sender), driver, data, role, decode_token, agreed })
    }

    #[cfg(test)]
    pub(super) fn driver_for_tests(&self) -> &JoinHandle<()> {
        &self.driver
    }

    /// Whether the control connection stands, as far as is known here. For tests and tools, as the next one: a job
    /// finds out when it asks for something.
    pub fn is_connected(&self) -> bool {
        !self.driver.is_finished()
    }

    /// Whether the peer answers on both kinds of connection, with the text that it is sent.
    pub async fn ping(&self, text: &str) -> Result<(), CallError> {
        let control = async {
            let answer: pdu::PingRes = self.call(METHOD_PING, pdu::PingReq { message: text.to_owned() }).await?;
            match answer.echo == text {
                true => Ok(()),
                false => Err(CallError::permanent("the peer answers a ping with another text")),
            }
        };
        tokio::try_join!(control, self.data.ping(text)).map(|((), ())| ())
    }

    pub(super) async fn call<Q, R>(&self, method: &'static str, request: Q) -> Result<R, CallError>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut grpc = self.ready().await?;
        let codec = ProstCodec::<Q, R>::default();
        let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(method), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| failed(method, &status))
    }

    async fn ready(&self) -> Result<Grpc<Channel>, CallError> {
        let origin = http::Uri::from_static("http://zrepl");
        let mut grpc = Grpc::with_origin(self.channel.clone(), origin)
            .max_decoding_message_size(MAX_RESPONSE)
            .max_encoding_message_size(MAX_REQUEST);
        grpc.ready().await.map_err(|error| lost(&error))?;
        Ok(grpc)
    }

    /// One call for all that a plan is made from.
    async fn list_at_once(&self, request: ListReq) -> Result<View, CallError> {
        let failed = |status| failed(method::LIST, &status);
        let mut grpc = self.ready().await?.max_decoding_message_size(MAX_PART);
        let codec = ProstCodec::<ListReq, ListPart>::default();
        let path = PathAndQuery::from_static(method::LIST);
        let answer = grpc.server_streaming(tonic::Request::new(request), path, codec).await.map_err(failed)?;
        let mut parts = answer.into_inner();
        let mut assembly = Assembly::new(self.decode_token);
        while let Some(part) = parts.message().await.map_err(failed)? {
            assembly.accept(part).map_err(CallError::permanent)?;
        }
        let mut view = assembly.finish().map_err(CallError::permanent)?;
        // What cannot be put right is better not known.
        view.protections_known &= self.agreed.includes(Extension::Calls);
        Ok(view)
    }

    /// Asks for outcomes in as few requests as the limits allow.
    async fn destroy_at_once(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        let pieces: Vec<DestroyRequest> = requests.iter().flat_map(pieces).collect();
        let mut outcomes = Vec::with_capacity(pieces.len());
        let mut rest = &pieces[..];
        while !rest.is_empty() {
            let (mut asked, mut size) = (DestroyReq::default(), 0);
            for piece in rest {
                let piece = pdu::DestroySnapshotsReq::from(piece);
                size += prost::Message::encoded_len(&piece);
                if size > DESTROYED_AT_ONCE && !asked.requests.is_empty() {
                    break;
                }
                asked.requests.push(piece);
            }
            let (now, later) = rest.split_at(asked.requests.len());
            let response: DestroyRes = self.call(method::DESTROY, asked).await?;
            outcomes.extend(calls::destroy_results(now, response).into_iter().flat_map(|result| result.results));
            rest = later;
        }
        let mut outcomes = outcomes.into_iter();
        let joined = |request: &DestroyRequest| DestroyResult {
            filesystem: request.filesystem.clone(),
            results: outcomes.by_ref().take(request.snapshots.len()).collect(),
        };
        Ok(requests.iter().map(joined).collect())
    }

    /// Fails if the peer does not know the calls beyond zrepl's.
    fn needs_calls(&self, what: &str) -> Result<(), CallError> {
        match self.agreed.includes(Extension::Calls) {
            true => Ok(()),
            false => Err(CallError::permanent(format!("the peer cannot be asked to {what} (zrepl 0.7 cannot)"))),
        }
    }

    async fn list_all(&self) -> Result<Vec<RemoteFilesystem>, CallError> {
        let listed: pdu::ListFilesystemRes = self.call(METHOD_FILESYSTEMS, pdu::ListFilesystemReq {}).await?;
        if listed.filesystems.len() > MAX_FILESYSTEMS {
            return Err(too_many("filesystems", MAX_FILESYSTEMS));
        }
        convert::filesystems(listed).map_err(CallError::permanent)
    }

    /// Asks for the versions of each, and gives up only if the connection breaks: a filesystem that
    /// cannot be listed concerns itself alone.
    async fn view_of(&self, listed: Vec<RemoteFilesystem>) -> Result<View, CallError> {
        let views = listed.into_iter().map(|listed| async move { (listed.name.clone(), self.look_into(listed).await) });
        let mut views = stream::iter(views).buffer_unordered(LISTED_AT_ONCE);
        let (mut view, mut versions) = (View::without_protections(BTreeMap::new()), 0);
        while let Some((name, seen)) = views.next().await {
            match seen {
                Ok(seen) => {
                    versions += seen.versions.len();
                    if versions > MAX_VERSIONS {
                        return Err(too_many("versions", MAX_VERSIONS));
                    }
                    view.filesystems.insert(name, seen);
                }
                Err(lost @ CallError::Connection(_)) => return Err(lost),
                Err(error) => drop(view.unlisted.insert(name, error.to_string())),
            }
        }
        Ok(view)
    }

    async fn look_into(&self, listed: RemoteFilesystem) -> Result<FilesystemView, CallError> {
        let filesystem = listed.name.as_str().to_owned();
        let request = pdu::ListFilesystemVersionsReq { filesystem: filesystem.clone() };
        let response: pdu::ListFilesystemVersionsRes = self.call(METHOD_VERSIONS, request).await?;
        let versions = Version::sorted(convert::versions(&response).map_err(CallError::permanent)?);
        let cursor = match self.role {
            Role::Receiver => None,
            Role::Sender => {
                let response = self.call(METHOD_CURSOR, pdu::ReplicationCursorReq { filesystem }).await?;
                convert::cursor(&response).map_err(CallError::permanent)?
            }
        };
        let partial = listed
            .resume_token
            .map(|token| PartialReceive { contents: (self.decode_token)(&token), token: token.into() });
        Ok(FilesystemView {
            // The protocol tells neither; both are checked by the peer itself when it matters.
            kind: DatasetKind::Filesystem,
            encryption: Encryption::None,
            placeholder: if listed.is_placeholder { Placeholder::On } else { Placeholder::Unset },
            protections: cursor.and_then(|guid| cursor_protection(&versions, guid)).into_iter().collect(),
            versions,
            partial,
        })
    }
}

/// The version that the peer's cursor stands for. A cursor of nothing that is there protects nothing.
fn cursor_protection(versions: &[Version], guid: Guid) -> Option<Protection> {
    // The order puts the bookmark, which the cursor is, before its snapshot.
    let version = versions.iter().find(|version| version.guid == guid)?;
    Some(Protection { kind: ProtectionKind::Cursor, version: version.to_ref(), createtxg: version.createtxg })
}

const METHOD_PING: &str = "/Replication/Ping";
const METHOD_FILESYSTEMS: &str = "/Replication/ListFilesystems";
const METHOD_VERSIONS: &str = "/Replication/ListFilesystemVersions";
const METHOD_CURSOR: &str = "/Replication/ReplicationCursor";
const METHOD_DRY: &str = "/Replication/SendDry";
const METHOD_COMPLETED: &str = "/Replication/SendCompleted";
const METHOD_DESTROY: &str = "/Replication/DestroySnapshots";

/// One filesystem may have more snapshots than a message can hold.
fn pieces(request: &DestroyRequest) -> impl Iterator<Item = DestroyRequest> {
    let of = |snapshots: &[VersionRef]| DestroyRequest {
        filesystem: request.filesystem.clone(),
        snapshots: snapshots.to_vec(),
    };
    request.snapshots.chunks(SNAPSHOTS_AT_ONCE).map(of)
}

fn too_many(what: &'static str, most: usize) -> CallError {
    CallError::permanent(Problem::TooMany { what, most })
}

fn lost(error: &dyn std::error::Error) -> CallError {
    CallError::Connection(format!("control connection: {error}"))
}

/// An error without a cause in this process is the peer's answer.
fn failed(method: &str, status: &Status) -> CallError {
    use std::error::Error as _;
    match (status.code(), status.source()) {
        (_, Some(cause)) => CallError::Connection(format!("{method}: {cause}")),
        (Code::Unavailable | Code::Cancelled, None) => CallError::Connection(format!("{method}: {}", status.message())),
        _ => match status.metadata().get(ERROR_WORD).and_then(|word| word.to_str().ok()) {
            Some(word) => remote::described(word, status.message()),
            None => remote::refusal(status.message()),
        },
    }
}

#[async_trait]
impl Endpoint for Remote {
    async fn list(&self) -> Result<View, CallError> {
        if self.agreed.includes(Extension::List) {
            return self.list_at_once(ListReq::default()).await;
        }
        self.view_of(self.list_all().await?).await
    }

    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        if self.agreed.includes(Extension::List) {
            let named = filesystems.iter().map(|name| name.as_str().to_owned()).collect();
            let request = ListReq { only_some: true, filesystems: named };
            if prost::Message::encoded_len(&request) <= MAX_NAMED {
                return self.list_at_once(request).await;
            }
            let mut view = self.list_at_once(ListReq::default()).await?;
            let wanted: BTreeSet<&DatasetName> = filesystems.iter().collect();
            view.filesystems.retain(|name, _| wanted.contains(name));
            return Ok(view);
        }
        let mut listed = self.list_all().await?;
        let wanted: BTreeSet<&DatasetName> = filesystems.iter().collect();
        let there: BTreeSet<DatasetName> = listed.iter().map(|listed| listed.name.clone()).collect();
        let absent: Vec<&DatasetName> = filesystems.iter().filter(|name| !there.contains(*name)).collect();
        // What is not in the list may be in a tree that the peer could not look into: its root tells.
        let is_above = |root: &DatasetName| absent.iter().any(|name| name.is_within(root));
        listed.retain(|listed| wanted.contains(&listed.name) || is_above(&listed.name));
        let mut view = self.view_of(listed).await?;
        view.filesystems.retain(|name, _| wanted.contains(name));
        Ok(view)
    }

    fn expect_step(&self) {
        self.data.expect_step();
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        self.data.send(request).await
    }

    async fn estimate(&self, request: &SendRequest) -> Result<Option<u64>, CallError> {
        let response: pdu::SendRes = self.call(METHOD_DRY, pdu::SendReq::from(request)).await?;
        Ok(Some(response.expected_size).filter(|size| *size > 0))
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        self.data.receive(request, stream).await
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        let request = pdu::SendCompletedReq { original_req: Some(request.into()) };
        self.call::<_, pdu::SendCompletedRes>(METHOD_COMPLETED, request).await.map(|_| ())
    }

    /// A zrepl receiver does this within each receive, and cannot be asked for it alone.
    async fn confirm_received(&self, request: &ReceiveRequest) -> Result<(), CallError> {
        self.needs_calls("confirm what it received")?;
        self.call::<_, ConfirmRes>(method::CONFIRM, ConfirmReq::from(request)).await.map(|_| ())
    }

    async fn roll_back(&self, request: &RollBackRequest) -> Result<Vec<VersionName>, CallError> {
        if !self.agreed.includes(Extension::Calls) {
            return Err(service::cannot_roll_back(&request.filesystem));
        }
        let response = self.call(method::ROLL_BACK, calls::RollBackReq::from(request)).await?;
        calls::rolled_back(&response).map_err(CallError::permanent)
    }

    async fn rename_aside(&self, request: &RenameAsideRequest) -> Result<DatasetName, CallError> {
        if !self.agreed.includes(Extension::Calls) {
            return Err(service::cannot_rename_aside(&request.filesystem));
        }
        let response = self.call(method::RENAME_ASIDE, calls::RenameAsideReq::from(request)).await?;
        calls::renamed_aside(&response).map_err(CallError::permanent)
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        if self.agreed.includes(Extension::Calls) {
            return self.destroy_at_once(requests).await;
        }
        let mut results = Vec::with_capacity(requests.len());
        for request in requests {
            let mut result = DestroyResult { filesystem: request.filesystem.clone(), results: Vec::new() };
            for piece in pieces(request) {
                let response: pdu::DestroySnapshotsRes =
                    self.call(METHOD_DESTROY, pdu::DestroySnapshotsReq::from(&piece)).await?;
                result.results.extend(convert::destroy_result(&piece, &response).results);
            }
            results.push(result);
        }
        Ok(results)
    }
}

/// The HTTP/2 connection as the gRPC library wants it.
#[derive(Clone)]
struct Channel(Sender<Body>);

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Answer>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.send_request(request);
        Box::pin(async move { answer.await.map(readable) })
    }
}
