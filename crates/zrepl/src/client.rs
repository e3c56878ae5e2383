//! A client of the daemon's control socket.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use config::Config;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How long the daemon may take to begin its answer, and between two pieces of it. It answers at
/// once unless the machine is starved.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of an error's text that are shown.
const MAX_ERROR: usize = 4096;

/// The daemon's error.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Refused {
    text: String,
    /// It does not know what it was asked.
    unknown: bool,
}

/// Nobody listens, or not to this user.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Unreachable {
    text: String,
    /// Whether the daemon does not run, as opposed to anything that keeps this program from it.
    pub(crate) stopped: bool,
}

/// Talks to one daemon.
pub(crate) struct Client {
    place: Place,
    /// How long the answer may take to begin.
    patience: Duration,
}

/// Where a daemon is reached.
#[derive(Debug, Clone)]
enum Place {
    /// Its control socket.
    Socket(PathBuf),
    /// What `zrepl pprof listen` has it serve.
    Listener(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Socket(path) => path.display().fmt(f),
            Place::Listener(address) => address.fmt(f),
        }
    }
}

/// A connection to either.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Place {
    async fn connect(&self) -> Result<Box<dyn Stream>> {
        let connected: io::Result<Box<dyn Stream>> = match self {
            Place::Socket(path) => UnixStream::connect(path).await.map(|stream| Box::new(stream) as Box<dyn Stream>),
            Place::Listener(address) => TcpStream::connect(address).await.map(|stream| Box::new(stream) as _),
        };
        connected.map_err(|error| unreachable(self, &error))
    }
}

impl Client {
    /// A client of the daemon with this configuration.
    pub(crate) fn new(config: &Config) -> Result<Client> {
        let socket = config.global.control_socket.clone();
        let socket = socket.context("the daemon has no control socket (`global.control.sockpath` is empty)")?;
        Ok(Client::at(socket))
    }

    /// A client of the daemon with this socket.
    pub(crate) fn at(socket: PathBuf) -> Client {
        Client { place: Place::Socket(socket), patience: PATIENCE }
    }

    /// A client of the daemon that serves on this address, such as `127.0.0.1:6060`.
    pub(crate) fn of_listener(address: String) -> Client {
        Client { place: Place::Listener(address), patience: PATIENCE }
    }

    /// Whether somebody listens; the error says why not and what to do.
    pub(crate) async fn reach(&self) -> Result<()> {
        self.place.connect().await.map(|_| ())
    }

    /// Asks for something and hands the answer to `take`, piece by piece.
    pub(crate) async fn ask(&self, path: &str, request: String, take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let answer = self.send(path, request, None).await?;
        pieces(accepted(answer).await?, take).await
    }

    /// The same for what takes the daemon as long as jobs take to end.
    pub(crate) async fn ask_for_long(&self, path: &str, request: String) -> Result<Option<String>> {
        let client = Client { place: self.place.clone(), patience: PATIENCE * 4 };
        client.ask_if_known(path, request).await
    }

    /// Asks for something that other daemons may not know; none if this one does not.
    pub(crate) async fn ask_if_known(&self, path: &str, request: String) -> Result<Option<String>> {
        match self.ask_text(path, request).await {
            Err(error) if error.downcast_ref().is_some_and(|refused: &Refused| refused.unknown) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Asks for something large that may be the same as last time, of which `tag` is known.
    pub(crate) async fn ask_anew(&self, path: &str, request: String, tag: Option<&str>) -> Result<Anew> {
        let answer = self.send(path, request, tag).await?;
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(Anew::Same);
        }
        let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let mut text = Vec::new();
        let collect = |piece: &[u8]| {
            text.extend_from_slice(piece);
            Ok(())
        };
        pieces(accepted(answer).await?, collect).await?;
        Ok(Anew::New { text, tag })
    }

    /// Asks for something small.
    pub(crate) async fn ask_text(&self, path: &str, request: String) -> Result<String> {
        let mut bytes = Vec::new();
        let collect = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        self.ask(path, request, collect).await?;
        String::from_utf8(bytes).context("the daemon's answer is not text")
    }

    async fn send(&self, path: &str, request_body: String, tag: Option<&str>) -> Result<Response<Incoming>> {
        let stream = self.place.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection, which ends with the answer or with the program.
        tokio::spawn(connection);
        let request = Request::post(path).header(header::HOST, "unix").header(header::CONTENT_TYPE, "application/json");
        let request = match tag {
            Some(tag) => request.header(header::IF_NONE_MATCH, tag),
            None => request,
        };
        let request = request.body(Full::new(Bytes::from(request_body)))?;
        let sent = patiently(self.patience, sender.send_request(request), "an answer").await?;
        sent.with_context(|| format!("no answer from the daemon on {}", self.place))
    }
}

/// Something that is asked for again and again.
pub(crate) enum Anew {
    /// It is what it was.
    Same,
    /// It has changed; the daemon may say by what to know it.
    New { text: Vec<u8>, tag: Option<String> },
}

/// What was asked for, if the daemon gives it.
async fn accepted(answer: Response<Incoming>) -> Result<Incoming> {
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => {
            let text = error_text(status, answer.into_body()).await;
            Err(Refused { text, unknown: status == StatusCode::NOT_FOUND }.into())
        }
    }
}

async fn pieces(mut answer: Incoming, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    while let Some(frame) = patiently(PATIENCE, answer.frame(), "the rest of its answer").await? {
        let frame = frame.context("the daemon's answer is incomplete (did it stop?)")?;
        if let Some(piece) = frame.data_ref() {
            take(piece)?;
        }
    }
    Ok(())
}

async fn patiently<T>(patience: Duration, answer: impl Future<Output = T>, what: &str) -> Result<T> {
    let answer = tokio::time::timeout(patience, answer).await;
    answer.map_err(|_| anyhow!("gave up after waiting {patience:?} for the daemon to send {what}"))
}

async fn error_text(status: StatusCode, mut body: Incoming) -> String {
    let mut text = Vec::new();
    while let Ok(Some(Ok(frame))) = patiently(PATIENCE, body.frame(), "its error").await {
        text.extend_from_slice(frame.data_ref().map_or(&[], |piece| piece));
        if text.len() >= MAX_ERROR {
            text.truncate(MAX_ERROR);
            break;
        }
    }
    match String::from_utf8_lossy(&text).trim_end() {
        "" => format!("the daemon answered {status}"),
        text => text.to_owned(),
    }
}

fn unreachable(place: &Place, error: &io::Error) -> anyhow::Error {
    let hint = match error.kind() {
        _ if matches!(place, Place::Listener(_)) => "does it listen there? See `zrepl pprof listen`",
        io::ErrorKind::PermissionDenied => "run this as the user that runs the daemon",
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is it running, with this configuration? Start it with `zrepl daemon`"
        }
        _ => "see `global.control.sockpath`",
    };
    let stopped = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    Unreachable { text: format!("cannot reach the daemon on {}: {error} ({hint})", place), stopped }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_person_from_the_daemon_is_said_with_what_to_do() {
        let said = |place: Place, kind: io::ErrorKind| unreachable(&place, &kind.into()).to_string();
        let socket = || Place::Socket("/run/control".into());
        assert_eq!(
            said(socket(), io::ErrorKind::PermissionDenied),
            "cannot reach the daemon on /run/control: permission denied (run this as the user that runs the daemon)"
        );
        assert!(said(socket(), io::ErrorKind::ConnectionRefused).ends_with("Start it with `zrepl daemon`)"));
        let listener = said(Place::Listener("localhost:1".to_owned()), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            listener,
            "cannot reach the daemon on localhost:1: connection refused (does it listen there? See `zrepl pprof listen`)"
        );
    }
}
