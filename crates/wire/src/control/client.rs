//! The active side: a peer as an endpoint.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest as Sender};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::protection::{Protection, ProtectionKind};
use model::view::{DatasetKind, Encryption, FilesystemView, PartialReceive, Placeholder, TokenContents, View};
use model::{DatasetName, Guid, Version};
use pump::ByteStream;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::{CLIENT_PING, MAX_REQUEST, MAX_RESPONSE, PING_ANSWER};
use crate::data::DataClient;
use crate::handshake::Label;
use crate::pdu::{self, RemoteFilesystem, convert};
use crate::remote;
use crate::service::{CallError, DestroyRequest, DestroyResult, Endpoint, ReceiveRequest, SendReply, SendRequest};
use crate::transport::{Dialer, Greeting, greet};

/// Filesystems whose versions are asked for at the same time.
const LISTED_AT_ONCE: usize = 8;

/// Reads a resume token, of which this crate knows nothing; the error's text if it cannot be read.
pub type TokenDecoder = fn(&str) -> Result<TokenContents, String>;

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
        greet(&mut io, greeting, Label::Control, b"").await.map_err(|error| lost(&error))?;
        let mut http = Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new()).adaptive_window(true);
        http.keep_alive_interval(CLIENT_PING).keep_alive_timeout(PING_ANSWER).keep_alive_while_idle(true);
        let (sender, connection) = http.handshake(TokioIo::new(io)).await.map_err(|error| lost(&error))?;
        // Its error is told to the calls that it broke.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { channel: Channel(sender), driver, data, role, decode_token })
    }

    #[cfg(test)]
    pub(super) fn driver_for_tests(&self) -> &JoinHandle<()> {
        &self.driver
    }

    /// Whether the control connection stands, as far as is known here.
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

    async fn call<Q, R>(&self, method: &'static str, request: Q) -> Result<R, CallError>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let origin = http::Uri::from_static("http://zrepl");
        let mut grpc = Grpc::with_origin(self.channel.clone(), origin)
            .max_decoding_message_size(MAX_RESPONSE)
            .max_encoding_message_size(MAX_REQUEST);
        grpc.ready().await.map_err(|error| lost(&error))?;
        let codec = ProstCodec::<Q, R>::default();
        let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(method), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| failed(method, &status))
    }

    async fn list_all(&self) -> Result<Vec<RemoteFilesystem>, CallError> {
        let listed = self.call(METHOD_FILESYSTEMS, pdu::ListFilesystemReq {}).await?;
        convert::filesystems(listed).map_err(CallError::permanent)
    }

    /// Asks for the versions of each, and gives up only if the connection breaks: a filesystem that
    /// cannot be listed concerns itself alone.
    async fn view_of(&self, listed: Vec<RemoteFilesystem>) -> Result<View, CallError> {
        let views = listed.into_iter().map(|listed| async move { (listed.name.clone(), self.look_into(listed).await) });
        let mut views = stream::iter(views).buffer_unordered(LISTED_AT_ONCE);
        let mut view = View::without_protections(BTreeMap::new());
        while let Some((name, seen)) = views.next().await {
            match seen {
                Ok(seen) => drop(view.filesystems.insert(name, seen)),
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
const METHOD_COMPLETED: &str = "/Replication/SendCompleted";
const METHOD_DESTROY: &str = "/Replication/DestroySnapshots";

fn lost(error: &dyn std::error::Error) -> CallError {
    CallError::Connection(format!("control connection: {error}"))
}

/// An error without a cause in this process is the peer's answer.
fn failed(method: &str, status: &Status) -> CallError {
    use std::error::Error as _;
    match (status.code(), status.source()) {
        (_, Some(cause)) => CallError::Connection(format!("{method}: {cause}")),
        (Code::Unavailable | Code::Cancelled, None) => CallError::Connection(format!("{method}: {}", status.message())),
        _ => remote::refusal(status.message()),
    }
}

#[async_trait]
impl Endpoint for Remote {
    async fn list(&self) -> Result<View, CallError> {
        self.view_of(self.list_all().await?).await
    }

    async fn list_some(&self, filesystems: &[DatasetName]) -> Result<View, CallError> {
        let mut listed = self.list_all().await?;
        listed.retain(|listed| filesystems.contains(&listed.name));
        self.view_of(listed).await
    }

    async fn send(&self, request: &SendRequest) -> Result<SendReply, CallError> {
        self.data.send(request).await
    }

    async fn receive(&self, request: &ReceiveRequest, stream: ByteStream) -> Result<(), CallError> {
        self.data.receive(request, stream).await
    }

    async fn send_completed(&self, request: &SendRequest) -> Result<(), CallError> {
        let request = pdu::SendCompletedReq { original_req: Some(request.into()) };
        self.call::<_, pdu::SendCompletedRes>(METHOD_COMPLETED, request).await.map(|_| ())
    }

    /// A zrepl receiver does this within each receive, and cannot be asked for it alone.
    async fn confirm_received(&self, _: &ReceiveRequest) -> Result<(), CallError> {
        Err(CallError::permanent("the peer cannot be asked to confirm what it received"))
    }

    async fn destroy_snapshots(&self, requests: &[DestroyRequest]) -> Result<Vec<DestroyResult>, CallError> {
        let mut results = Vec::with_capacity(requests.len());
        for request in requests {
            let response: pdu::DestroySnapshotsRes =
                self.call(METHOD_DESTROY, pdu::DestroySnapshotsReq::from(request)).await?;
            results.push(convert::destroy_result(request, &response));
        }
        Ok(results)
    }

    /// A zrepl peer cleans up by itself.
    async fn clean_stale_protections(&self) -> Result<usize, CallError> {
        Ok(0)
    }
}

/// The HTTP/2 connection as the gRPC library wants it.
#[derive(Clone)]
struct Channel(Sender<Body>);

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
