//! A connection between two machines as the protocols see it, and the handshake on it.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use model::ClientIdentity;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::handshake::{
    Agreement, Banner, BannerDecoder, BannerError, LABEL_LENGTH, Label, UnknownLabel, VersionMismatch,
};
use crate::service::CallError;

/// How long either side waits for the peer's banner, and a server for the label, unless somebody says
/// otherwise. zrepl's own.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a side says first, and how long it waits for what the other one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// What this side says.
    pub banner: Banner,
    /// How long the peer's banner may take, its reading of this side's included.
    pub banner_within: Duration,
    /// How long a client may take to say what its connection is for.
    pub label_within: Duration,
}

impl From<Banner> for Greeting {
    fn from(banner: Banner) -> Self {
        Self { banner, banner_within: HANDSHAKE, label_within: HANDSHAKE }
    }
}

/// Bytes in both directions; shutting down the writer leaves the reader open.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {
    /// The socket, if what is written to the transport is what goes through it.
    ///
    /// # Errors
    /// The transport itself, if it is another one.
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Connection>;
}

impl Transport for TcpStream {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Connection> {
        Ok(*self)
    }
}

impl Transport for DuplexStream {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Connection> {
        Err(self)
    }
}

/// An established connection of any transport, before the banner.
pub type Connection = Box<dyn Transport>;

/// The active side's way to new connections.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Connects and authenticates, within the transport's time limit.
    async fn dial(&self) -> Result<Connection, CallError>;

    /// Where to, for messages; empty if there is nothing to say.
    fn place(&self) -> String {
        String::new()
    }
}

/// The passive side's way to new connections, of one transport.
#[async_trait]
pub trait Acceptor: Send {
    /// The next one. Talks to nobody: a client that says nothing must not keep the others waiting. It is
    /// dropped half done only when the listener ends.
    async fn accept(&mut self) -> io::Result<Arrival>;
}

/// What has reached a listener and is still to show who it is.
pub struct Arrival {
    /// Where it is from, for people: an address, or the name of a socket.
    pub from: String,
    /// Finds out who it is, within the transport's time limit.
    pub identify: Identify,
}

/// The connection and whose it is, or why it is nobody's.
pub type Identify = Pin<Box<dyn Future<Output = Result<(Connection, ClientIdentity), Stranger>> + Send>>;

/// A client that the transport does not let in. It is told as little as possible; this text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Stranger(pub String);

/// A handshake that failed. Nothing more is said to the peer.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The banner or label could not be sent.
    #[error("could not send the protocol banner: {0}")]
    Send(#[source] io::Error),
    /// The peer closed the connection, as one does that refuses this client, or it broke.
    #[error("{}", unread(what, error))]
    Receive {
        /// What was being read.
        what: &'static str,
        /// What happened.
        error: io::Error,
    },
    /// The peer said nothing.
    #[error("the peer sent no {what} within {limit:?}")]
    Silent {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// What it sent is no banner.
    #[error(transparent)]
    Banner(#[from] BannerError),
    /// It speaks another protocol.
    #[error(transparent)]
    Version(#[from] VersionMismatch),
    /// It wants something unknown.
    #[error(transparent)]
    Label(#[from] UnknownLabel),
}

/// A peer over TLS says why it refuses, any other one just closes. Whether what was still on the way made a reset
/// of the end of the connection is chance.
fn unread(what: &str, error: &io::Error) -> String {
    let text = error.to_string();
    match error.kind() {
        _ if text.starts_with("the peer refuses") => text,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => format!(
            "the other side closed the connection instead of sending its {what} (mostly because it does not allow this \
             client: its log says whom it refuses, and why)"
        ),
        _ => format!("could not read the {what} of the other side: {text}"),
    }
}

/// The client's part. Banner, label and the first bytes of the conversation leave together, which saves
/// round trips; the banner is checked before any answer is used.
pub async fn greet(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ours: &Greeting,
    label: Label,
    first: &[u8],
) -> Result<Agreement, HandshakeError> {
    let sent = [ours.banner.encode()?.as_slice(), &label.encode(), first].concat();
    let exchange = async {
        // The peer may be about to send its banner before it reads.
        let (mut reader, mut writer) = tokio::io::split(io);
        let send = async {
            writer.write_all(&sent).await.map_err(HandshakeError::Send)?;
            writer.flush().await.map_err(HandshakeError::Send)
        };
        let (received, sent) = tokio::join!(read_banner(&mut reader), send);
        // A peer that refuses this client may close before it has read everything: what it said counts.
        let theirs = received?;
        sent.map(|()| theirs)
    };
    let theirs = within(ours.banner_within, "banner", exchange).await??;
    Ok(ours.banner.agree(&theirs)?)
}

/// The server's part: what both know, and what the client wants.
pub async fn welcome(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ours: &Greeting,
) -> Result<(Agreement, Label), HandshakeError> {
    let exchange = async {
        io.write_all(&ours.banner.encode()?).await.map_err(HandshakeError::Send)?;
        io.flush().await.map_err(HandshakeError::Send)?;
        read_banner(io).await
    };
    let theirs = within(ours.banner_within, "banner", exchange).await??;
    let agreement = ours.banner.agree(&theirs)?;
    let mut label = [0; LABEL_LENGTH];
    let read = within(ours.label_within, "label", io.read_exact(&mut label)).await?;
    read.map_err(|error| HandshakeError::Receive { what: "label", error })?;
    Ok((agreement, Label::decode(&label)?))
}

async fn within<T>(limit: Duration, what: &'static str, wait: impl Future<Output = T>) -> Result<T, HandshakeError> {
    timeout(limit, wait).await.map_err(|_| HandshakeError::Silent { what, limit })
}

async fn read_banner(io: &mut (impl AsyncRead + Unpin)) -> Result<Banner, HandshakeError> {
    let failed = |error| HandshakeError::Receive { what: "banner", error };
    let (mut decoder, mut piece) = (BannerDecoder::default(), [0; 1024]);
    loop {
        let wanted = decoder.missing().min(piece.len());
        let room = piece.get_mut(..wanted).unwrap_or_default();
        let length = io.read(room).await.map_err(failed)?;
        if length == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some(banner) = decoder.feed(&mut room.get(..length).unwrap_or_default())? {
            return Ok(banner);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::Instant;

    use super::*;

    fn plain() -> Greeting {
        Banner::with_extensions(vec![]).into()
    }

    #[tokio::test(start_paused = true)]
    async fn two_sides_agree_and_the_first_bytes_follow() {
        // A narrow pipe, so that everything is cut.
        let (mut client, mut server) = duplex(5);
        let ours = Banner::with_extensions(vec!["keep".into(), "new".into()]).into();
        let theirs = Banner::with_extensions(vec!["keep".into()]).into();
        let (greeted, (agreed, first)) = tokio::join!(greet(&mut client, &ours, Label::Data, b"request"), async {
            let agreed = welcome(&mut server, &theirs).await.unwrap();
            let mut first = [0; 7];
            server.read_exact(&mut first).await.unwrap();
            (agreed, first)
        });
        let keep = Agreement { extensions: vec!["keep".into()] };
        assert_eq!((greeted.unwrap(), agreed, &first), (keep.clone(), (keep, Label::Data), b"request"));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_peers_are_given_up_after_ten_seconds() {
        let start = Instant::now();
        let (mut here, mut there) = duplex(1000);
        let refused = greet(&mut here, &plain(), Label::Data, b"").await.unwrap_err();
        assert!(matches!(refused, HandshakeError::Silent { what: "banner", .. }));
        assert_eq!(start.elapsed(), HANDSHAKE);
        there.write_all(&plain().banner.encode().unwrap()).await.unwrap();
        there.write_all(&[b'z'; 63]).await.unwrap();
        let refused = welcome(&mut here, &plain()).await.unwrap_err();
        assert!(matches!(refused, HandshakeError::Silent { what: "label", .. }));
        assert_eq!(start.elapsed(), 2 * HANDSHAKE);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_say_why() {
        let told = async |bytes: &[u8]| {
            let (mut here, mut there) = duplex(1000);
            there.write_all(bytes).await.unwrap();
            there.shutdown().await.unwrap();
            greet(&mut here, &plain(), Label::Control, b"").await.unwrap_err().to_string()
        };
        assert!(told(b"").await.contains("allow this client"));
        assert!(told(b"HTTP/1.1 400 Bad Request\r\n").await.contains("is it a zrepl daemon"));
        let six = Banner { version: 6, extensions: vec![] }.encode().unwrap();
        assert!(told(&six).await.contains("ours is 7, theirs is 6"));
    }
}
