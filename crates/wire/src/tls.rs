//! TLS: both sides show a certificate. A client is who the common name of its certificate says it is.
//!
//! TLS 1.2 and 1.3, for zrepl of Go speaks both. Certificates, keys and authorities are read again when
//! their files have changed, so that a renewal needs no restart.

mod certificate;
mod credentials;
mod keylog;
mod refusal;
mod stream;
mod verify;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{ClientIdentity, RetryClass};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ProducesTickets;
use rustls::sign::SingleCertAndKey;
use rustls::{CipherSuite, ClientConfig, Error as RustlsError, KeyLog, NoKeyLog, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::{TlsAcceptor as Handshaker, TlsConnector};

pub use credentials::{CredentialError, Tell, TlsFiles};
pub use keylog::KeyLogFile;

use crate::service::CallError;
use crate::tcp::{self, Address};
use crate::transport::{Acceptor, Arrival, Connection, Dialer, HANDSHAKE, Stranger};
use certificate::Certificate;
use credentials::{Credentials, Material};
use refusal::Refusal;
use stream::{Secured, WRITE_BUFFER, buffered, explain, tls_error};
use verify::{Trust, Verifier};

/// Servers whose sessions a client keeps: it has one.
const SESSIONS: usize = 1;

/// What both sides need.
#[derive(Clone)]
pub struct TlsOptions {
    /// The certificates.
    pub files: TlsFiles,
    /// Where the secrets of connections are written, for a person who looks into recorded traffic.
    pub key_log: Option<Arc<KeyLogFile>>,
    /// Is told once when changed files cannot be used and the earlier ones go on being used.
    pub tell: Tell,
}

impl TlsOptions {
    fn key_log(&self) -> Arc<dyn KeyLog> {
        match &self.key_log {
            Some(file) => Arc::clone(file) as Arc<dyn KeyLog>,
            None => Arc::new(NoKeyLog),
        }
    }
}

/// The way to a TLS listener. Keep it as long as possible: it remembers sessions, which makes the next
/// connection cheaper.
pub struct TlsDialer {
    address: Address,
    dial_timeout: Duration,
    client: Client,
}

impl TlsDialer {
    /// Checks that the peer's certificate is for `server_cn`. The `dial_timeout`, zero for none, is for the
    /// connection; the handshake has [`HANDSHAKE`].
    pub fn new(address: Address, dial_timeout: Duration, server_cn: String, options: &TlsOptions) -> Self {
        Self { address, dial_timeout, client: Client::new(server_cn, options) }
    }
}

#[async_trait]
impl Dialer for TlsDialer {
    async fn dial(&self) -> Result<Connection, CallError> {
        let stream = tcp::connect(&self.address, self.dial_timeout).await?;
        self.client.secure(stream, &self.address.to_string()).await
    }

    fn place(&self) -> String {
        self.address.to_string()
    }
}

/// The client's part of a handshake.
struct Client {
    server_cn: String,
    credentials: Arc<Credentials<ClientSide>>,
    /// What each one was.
    #[cfg(test)]
    handshakes: tokio::sync::Mutex<Vec<rustls::HandshakeKind>>,
}

struct ClientSide {
    config: Arc<ClientConfig>,
    /// Shared by handshakes, because sessions belong to it: what it says about one server holds for all.
    verifier: Arc<Verifier>,
}

impl Client {
    fn new(server_cn: String, options: &TlsOptions) -> Self {
        let (provider, key_log) = (provider(), options.key_log());
        let build = {
            let provider = Arc::clone(&provider);
            move |material| client_side(material, &provider, &key_log)
        };
        let credentials = Credentials::new(options.files.clone(), provider, Box::new(build), Arc::clone(&options.tell));
        Self {
            server_cn,
            credentials,
            #[cfg(test)]
            handshakes: Default::default(),
        }
    }

    async fn secure<S>(&self, stream: S, peer: &str) -> Result<Connection, CallError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let name = ServerName::try_from(self.server_cn.clone()).map_err(|_| {
            needs_person(format!(
                "the `server_cn` {:?} is neither a DNS name nor an address, so no certificate can be for it",
                self.server_cn
            ))
        })?;
        let within = Instant::now() + HANDSHAKE;
        let late = |_| CallError::Connection(format!("the TLS handshake with {peer} took longer than {HANDSHAKE:?}"));
        // The files may be where nobody answers.
        let side = timeout_at(within, self.credentials.current()).await.map_err(late)?;
        let side = side.map_err(|error| needs_person(error.to_string()))?;
        let connector = TlsConnector::from(Arc::clone(&side.config));
        let larger = |connection: &mut rustls::ClientConnection| connection.set_buffer_limit(Some(WRITE_BUFFER));
        let shaken = timeout_at(within, connector.connect_with(name, buffered(stream), larger)).await.map_err(late)?;
        let stream = shaken.map_err(|error| refused_server(peer, &error, side.verifier.refusal()))?;
        #[cfg(test)]
        self.handshakes.lock().await.extend(stream.get_ref().1.handshake_kind());
        // That of a resumed session was checked when it began, which may have been hours ago.
        still_valid(stream.get_ref().1.peer_certificates())
            .map_err(|refusal| needs_person(format!("{peer} is not trusted: {refusal}")))?;
        Ok(Box::new(Secured::new(stream)))
    }
}

fn client_side(
    material: Material,
    provider: &Arc<CryptoProvider>,
    key_log: &Arc<dyn KeyLog>,
) -> Result<ClientSide, RustlsError> {
    let verifier = Arc::new(Verifier::new(material.trust));
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::clone(&verifier) as _);
    let mut config = builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(material.own)));
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config.key_log = Arc::clone(key_log);
    Ok(ClientSide { config: Arc::new(config), verifier })
}

fn refused_server(peer: &str, error: &io::Error, refusal: Option<Refusal>) -> CallError {
    match (tls_error(error), refusal) {
        (Some(RustlsError::InvalidCertificate(_)), Some(refusal)) => {
            needs_person(format!("{peer} is not trusted: {refusal}"))
        }
        (Some(error), _) => CallError::Connection(format!("no TLS connection to {peer}: {}", explain(error))),
        (None, _) => CallError::Connection(format!("the TLS handshake with {peer} broke off: {error}")),
    }
}

fn needs_person(message: String) -> CallError {
    CallError::Refused { class: RetryClass::NeedsPerson, message }
}

/// Clients by their certificates.
pub struct TlsAcceptor {
    listener: TcpListener,
    server: Arc<Server>,
}

impl TlsAcceptor {
    /// Lets in those whose certificate is vouched for and has one of `client_cns` as its common name.
    pub fn new(
        listener: TcpListener,
        client_cns: Vec<ClientIdentity>,
        handshake_timeout: Duration,
        options: &TlsOptions,
    ) -> Self {
        Self { listener, server: Arc::new(Server::new(client_cns, handshake_timeout, options)) }
    }

    /// Whether the files can be used now. If not, clients are refused until they can.
    ///
    /// # Errors
    /// What is wrong with them.
    pub async fn check(&self) -> Result<(), CredentialError> {
        self.server.credentials.current().await.map(|_| ())
    }
}

#[async_trait]
impl Acceptor for TlsAcceptor {
    async fn accept(&mut self) -> io::Result<Arrival> {
        let (stream, peer) = tcp::accept(&self.listener).await?;
        let server = Arc::clone(&self.server);
        let identify = async move { server.secure(stream).await };
        Ok(Arrival { from: tcp::origin_name(peer), identify: Box::pin(identify) })
    }
}

/// The server's part of a handshake.
struct Server {
    client_cns: Vec<ClientIdentity>,
    handshake_timeout: Duration,
    credentials: Arc<Credentials<ServerSide>>,
    provider: Arc<CryptoProvider>,
    key_log: Arc<dyn KeyLog>,
}

struct ServerSide {
    trust: Arc<Trust>,
    own: Arc<SingleCertAndKey>,
    /// Goes with the rest: who is trusted no longer cannot resume.
    tickets: Arc<dyn ProducesTickets>,
}

impl Server {
    fn new(client_cns: Vec<ClientIdentity>, handshake_timeout: Duration, options: &TlsOptions) -> Self {
        let build = |material: Material| {
            let own = Arc::new(SingleCertAndKey::from(material.own));
            Ok(ServerSide { trust: material.trust, own, tickets: aws_lc_rs::Ticketer::new()? })
        };
        let (files, tell) = (options.files.clone(), Arc::clone(&options.tell));
        let credentials = Credentials::new(files, provider(), Box::new(build), tell);
        Self { client_cns, handshake_timeout, credentials, provider: provider(), key_log: options.key_log() }
    }

    async fn secure<S>(&self, stream: S) -> Result<(Connection, ClientIdentity), Stranger>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // The files may be where nobody answers.
        let secured = async {
            let side = self.credentials.current().await.map_err(|error| Stranger(error.to_string()))?;
            self.shake(&side, stream).await
        };
        match timeout(self.handshake_timeout, secured).await {
            Ok(result) => result,
            Err(_) => {
                let limit = self.handshake_timeout;
                Err(Stranger(format!("the TLS handshake took longer than the `handshake_timeout` of {limit:?}")))
            }
        }
    }

    async fn shake<S>(&self, side: &ServerSide, stream: S) -> Result<(Connection, ClientIdentity), Stranger>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // One for each, which can say why it refused.
        let verifier = Arc::new(Verifier::new(Arc::clone(&side.trust)));
        let config = self.config(side, &verifier).map_err(|error| Stranger(format!("cannot use TLS: {error}")))?;
        let larger = |connection: &mut rustls::ServerConnection| connection.set_buffer_limit(Some(WRITE_BUFFER));
        let shaken = Handshaker::from(Arc::new(config)).accept_with(buffered(stream), larger).await;
        let mut stream = shaken.map_err(|error| refused_client(&error, verifier.refusal()))?;
        match self.identity(stream.get_ref().1.peer_certificates()) {
            Ok(client) => Ok((Box::new(Secured::new(stream)), client)),
            Err(stranger) => {
                // As zrepl does: no alert, but an end in good order.
                let _ = stream.shutdown().await;
                Err(stranger)
            }
        }
    }

    fn config(&self, side: &ServerSide, verifier: &Arc<Verifier>) -> Result<ServerConfig, RustlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder =
            builder.with_safe_default_protocol_versions()?.with_client_cert_verifier(Arc::clone(verifier) as _);
        let mut config = builder.with_cert_resolver(Arc::clone(&side.own) as _);
        config.ticketer = Arc::clone(&side.tickets);
        config.key_log = Arc::clone(&self.key_log);
        Ok(config)
    }

    fn identity(&self, certificates: Option<&[CertificateDer<'_>]>) -> Result<ClientIdentity, Stranger> {
        let certificate = still_valid(certificates).map_err(|refusal| Stranger(refusal.to_string()))?;
        let subject = &certificate.subject;
        let Some(name) = certificate.common_name.as_deref() else {
            let message = format!("the certificate `{subject}` has no common name, which says who a client is");
            return Err(Stranger(message));
        };
        let known = self.client_cns.iter().find(|known| known.as_str() == name);
        known.cloned().ok_or_else(|| {
            let allowed: Vec<_> = self.client_cns.iter().map(|known| format!("{:?}", known.as_str())).collect();
            let allowed = allowed.join(", ");
            Stranger(format!("unauthorized client common name {name:?} (`client_cns` allows {allowed})"))
        })
    }
}

fn refused_client(error: &io::Error, refusal: Option<Refusal>) -> Stranger {
    Stranger(match (tls_error(error), refusal) {
        (Some(RustlsError::InvalidCertificate(_)), Some(refusal)) => format!("not trusted: {refusal}"),
        (Some(error), _) => format!("no TLS connection: {}", explain(error)),
        (None, _) => format!("the TLS handshake broke off: {error}"),
    })
}

fn still_valid(certificates: Option<&[CertificateDer<'_>]>) -> Result<Certificate, Refusal> {
    let leaf =
        certificates.and_then(<[_]>::first).and_then(|der| Certificate::parse(der)).ok_or(Refusal::NoCertificate)?;
    leaf.check_time(UnixTime::now())?;
    Ok(leaf)
}

const AES_128: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// Ciphers in the order of this side's liking: AES with 128 bits before 256, as peers in Go choose, for it costs
/// a third less. The client's order counts between two of this program.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !AES_128.contains(&suite.suite()));
    Arc::new(provider)
}
