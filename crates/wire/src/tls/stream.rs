//! An encrypted connection whose errors say what to do about them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{AlertDescription, Error as RustlsError, InvalidMessage, PeerIncompatible};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::transport::{Connection, Transport};

/// What is read from the socket at a time, bytes. By itself the TLS library reads 4 KiB.
const READ_BUFFER: usize = 128 << 10;

/// What is encrypted before it is written to the socket, bytes.
pub(super) const WRITE_BUFFER: usize = 256 << 10;

/// The bytes below TLS.
pub(super) fn buffered<S: AsyncRead>(stream: S) -> BufReader<S> {
    BufReader::with_capacity(READ_BUFFER, stream)
}

/// An encrypted connection. To shut it down tells the peer, closes the way out, and leaves the way in open.
pub(super) struct Secured<S>(TlsStream<BufReader<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Secured<S> {
    pub(super) fn new(stream: impl Into<TlsStream<BufReader<S>>>) -> Self {
        Self(stream.into())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Secured<S> {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Connection> {
        Err(self)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A server of TLS 1.3 may refuse the client's certificate when that believes the handshake is over.
        Poll::Ready(ready!(Pin::new(&mut self.0).poll_read(context, into)).map_err(explained))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn explained(error: io::Error) -> io::Error {
    match tls_error(&error) {
        Some(cause) => io::Error::new(error.kind(), explain(cause)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "the connection was cut: the peer did not say that it is done")
        }
        None => error,
    }
}

/// The TLS library's own error, if it is one.
pub(super) fn tls_error(error: &io::Error) -> Option<&RustlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// What went wrong, and what to do.
pub(super) fn explain(error: &RustlsError) -> String {
    match error {
        RustlsError::AlertReceived(alert) => format!("the peer refuses: {}", alert_text(*alert)),
        RustlsError::NoCertificatesPresented => {
            "the peer shows no certificate (zrepl shows its own only if the one of its issuer, which is itself if it is \
             self-signed, is in the `ca` file here)"
                .to_owned()
        }
        RustlsError::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "the peer does not speak TLS (is its transport `tls` too, and is this the right port?)".to_owned()
        }
        RustlsError::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => format!("{error} (both sides need TLS 1.2 or 1.3)"),
        other => other.to_string(),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    let hint = match alert {
        AlertDescription::UnknownCA | AlertDescription::CertificateUnknown | AlertDescription::BadCertificate => {
            "it does not know who vouches for this side's certificate: is it, or the one of its authority, in the \
             peer's `ca` file?"
        }
        AlertDescription::CertificateRequired => {
            "it got no certificate: is this side's, or the one of its authority, in the peer's `ca` file?"
        }
        AlertDescription::CertificateExpired => {
            "this side's certificate has expired or is not valid yet: replace it, or correct the clock"
        }
        AlertDescription::UnsupportedCertificate => "this side's certificate is for another purpose",
        AlertDescription::ProtocolVersion => "both sides need TLS 1.2 or 1.3",
        AlertDescription::HandshakeFailure => "the two sides have no cipher or kind of key in common",
        _ => return format!("alert {alert:?}"),
    };
    format!("{hint} (alert {alert:?})")
}
