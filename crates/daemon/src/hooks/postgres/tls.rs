//! TLS to a PostgreSQL server, with what `sslmode` says about checking who answers.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use config::types::{PostgresDsn, PostgresSsl};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore, SignatureScheme,
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as Encrypted;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::hooks::authorities::{self, NoAuthorities};

/// Where PostgreSQL's own clients look, below the home directory.
const DEFAULT_CERT: &str = ".postgresql/postgresql.crt";
const DEFAULT_KEY: &str = ".postgresql/postgresql.key";

/// Why a connection could not even be tried.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}, the `{parameter}` of `dsn`: {error}")]
    Read { parameter: &'static str, path: PathBuf, error: io::Error },
    /// A file holds something else.
    #[error("{path}, the `{parameter}` of `dsn`, cannot be used: {why}")]
    Content { parameter: &'static str, path: PathBuf, why: String },
    /// Nobody can vouch for the server.
    #[error("{0}, or name their file in `sslrootcert`")]
    NoAuthorities(#[from] NoAuthorities),
    /// The library refuses what is in the files.
    #[error("cannot use TLS: {0}")]
    Refused(#[from] RustlsError),
}

/// Makes encrypted connections to one server.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// As a data source name has it, which asks for TLS.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub(super) async fn new(dsn: &PostgresDsn) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier {
            authorities: authorities(dsn).await?,
            checks_name: dsn.ssl == PostgresSsl::VerifyFull,
            provider: Arc::clone(&provider),
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let config = match identity(dsn).await? {
            Some((certificates, key)) => builder.with_client_auth_cert(certificates, key)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }
}

/// Who vouches for the server; none if it is not checked who answers.
async fn authorities(dsn: &PostgresDsn) -> Result<Option<Authorities>, TlsError> {
    match (&dsn.root_cert, dsn.ssl) {
        (Some(path), _) => certificates("sslrootcert", path).await.map(|trusted| Some(Authorities { trusted })),
        (None, PostgresSsl::VerifyCa | PostgresSsl::VerifyFull) => {
            Ok(Some(Authorities { trusted: authorities::of_system().await? }))
        }
        (None, PostgresSsl::Disable | PostgresSsl::Require) => Ok(None),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificate to show to the server.
async fn identity(dsn: &PostgresDsn) -> Result<Option<Identity>, TlsError> {
    let at_home = |path: &str| std::env::home_dir().map(|home| home.join(path));
    let default = at_home(DEFAULT_CERT).filter(|path| path.exists());
    let Some(path) = dsn.client_cert.clone().or(default) else { return Ok(None) };
    let certificates = certificates("sslcert", &path).await?;
    let key_path = dsn.client_key.clone().or_else(|| at_home(DEFAULT_KEY)).unwrap_or(path);
    let key = PrivateKeyDer::from_pem_slice(&read("sslkey", &key_path).await?);
    let key = key.map_err(|error| content("sslkey", &key_path, error.to_string()))?;
    Ok(Some((certificates, key)))
}

async fn certificates(parameter: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(parameter, path).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(content(parameter, path, "it contains no certificate".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(content(parameter, path, error.to_string())),
    }
}

async fn read(parameter: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|error| TlsError::Read { parameter, path: path.to_owned(), error })
}

fn content(parameter: &'static str, path: &Path, why: String) -> TlsError {
    TlsError::Content { parameter, path: path.to_owned(), why }
}

/// Those whose word is taken.
#[derive(Debug)]
struct Authorities {
    trusted: Vec<CertificateDer<'static>>,
}

/// Decides whether the right one has answered.
#[derive(Debug)]
struct Verifier {
    /// None if it may be anybody.
    authorities: Option<Authorities>,
    checks_name: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn vouched_for(
        &self,
        authorities: &Authorities,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), RustlsError> {
        // Many servers have a certificate that is its own authority, which no chain leads to.
        if authorities.trusted.iter().any(|trusted| trusted == certificate) {
            return valid_at(certificate, now);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.trusted.iter().cloned());
        let certificate = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, between, now, algorithms)
    }
}

fn valid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), RustlsError> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < read.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > read.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        if let Some(authorities) = &self.authorities {
            self.vouched_for(authorities, certificate, between, now)?;
        }
        if self.checks_name {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        // It would prove that anybody has anybody's key, and fail for certificates of X.509 version 1.
        if self.authorities.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        if self.authorities.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, InvalidDnsNameError> {
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Handshake { connector: TlsConnector::from(Arc::clone(&self.0)), name })
    }
}

/// A handshake that is about to be made.
pub(super) struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, socket).await.map(|stream| Stream(Box::new(stream))) })
    }
}

/// An encrypted connection.
pub(super) struct Stream(Box<Encrypted<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Stream {
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
