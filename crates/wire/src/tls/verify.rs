//! Whom a peer's certificate is believed.
//!
//! zrepl's documentation has people make self-signed pairs and copy each to the other side's `ca` file.
//! Such a certificate says that it is an authority, and webpki accepts no authority as a peer; so what is
//! in the file byte by byte is accepted here, with its dates, its purpose and (servers) its names checked.
//! Everything else has to be vouched for by an authority of the file, which webpki decides.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as RustlsError, RootCertStore, SignatureScheme,
};

use super::certificate::{Certificate, Purpose, shown};
use super::refusal::Refusal;

/// The certificates of a `ca` file.
#[derive(Debug)]
pub(super) struct Trust {
    path: PathBuf,
    trusted: Vec<Trusted>,
    subjects: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct Trusted {
    der: CertificateDer<'static>,
    certificate: Certificate,
    /// None if it cannot or may not vouch for others.
    anchor: Option<TrustAnchor<'static>>,
}

impl Trust {
    /// Of those that can be read; none if there is no such.
    pub(super) fn new(
        path: &Path,
        certificates: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Option<Self> {
        let (mut trusted, mut subjects) = (Vec::new(), Vec::new());
        for der in certificates {
            let Some(certificate) = Certificate::parse(&der) else { continue };
            let mut roots = RootCertStore::empty();
            // One that webpki cannot read may still be what a peer shows.
            let anchor = roots.add(der.clone()).ok().and_then(|()| roots.roots.pop());
            subjects.extend(anchor.as_ref().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)));
            let anchor = anchor.filter(|_| certificate.is_authority);
            trusted.push(Trusted { der, certificate, anchor });
        }
        let some = !trusted.is_empty();
        some.then(|| Self { path: path.to_owned(), trusted, subjects, provider })
    }

    pub(super) fn check_client(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        self.check(Purpose::Client, leaf, now, |roots| {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider));
            let verifier = verifier.build().map_err(|_| CertificateError::UnknownIssuer)?;
            verifier.verify_client_cert(leaf, between, now).map(|_| ())
        })
    }

    fn check_server(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        self.check(Purpose::Server, leaf, now, |roots| {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let leaf = ParsedCertificate::try_from(leaf)?;
            verify_server_cert_signed_by_trust_anchor(&leaf, &roots, between, now, algorithms)
        })?;
        check_name(leaf, name)
    }

    /// What both sides have in common.
    fn check(
        &self,
        purpose: Purpose,
        der: &CertificateDer<'_>,
        now: UnixTime,
        by_chain: impl FnOnce(RootCertStore) -> Result<(), RustlsError>,
    ) -> Result<(), Refusal> {
        let leaf = Certificate::parse(der).ok_or(Refusal::NoCertificate)?;
        leaf.check_form()?;
        leaf.check_time(now)?;
        leaf.check_purpose(purpose)?;
        if self.trusted.iter().any(|trusted| trusted.der == *der) {
            return Ok(());
        }
        leaf.check_signature_kind()?;
        // webpki does not look at the dates of anchors.
        let valid = self.trusted.iter().filter(|trusted| trusted.certificate.check_time(now).is_ok());
        let roots = RootCertStore { roots: valid.filter_map(|trusted| trusted.anchor.clone()).collect() };
        match by_chain(roots) {
            Ok(()) => Ok(()),
            Err(RustlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => Err(self.unknown(&leaf, now)),
            // webpki has not looked for the issuer then.
            Err(_) if leaf.is_authority && leaf.issuer == leaf.subject => Err(self.unknown(&leaf, now)),
            Err(_) if leaf.is_authority => {
                Err(Refusal::Authority { subject: leaf.subject, authorities: self.path.display().to_string() })
            }
            Err(RustlsError::InvalidCertificate(error)) => {
                Err(Refusal::Chain { subject: leaf.subject, why: error.to_string(), alert: Box::new(error) })
            }
            Err(error) => {
                let (why, alert) = (error.to_string(), Box::new(CertificateError::BadEncoding));
                Err(Refusal::Chain { subject: leaf.subject, why, alert })
            }
        }
    }

    /// If the issuer is there and does not count, that is what a person has to know.
    fn unknown(&self, leaf: &Certificate, now: UnixTime) -> Refusal {
        let issuer = self.trusted.iter().find(|trusted| trusted.certificate.subject == leaf.issuer);
        let why = match issuer.map(|issuer| (issuer, issuer.certificate.check_time(now))) {
            Some((_, Err(Refusal::Expired { since, .. }))) => {
                format!(": that one has expired, it was valid until {since}")
            }
            Some((_, Err(Refusal::NotValidYet { from, .. }))) => format!(": that one is not valid before {from}"),
            Some((issuer, _)) if issuer.anchor.is_none() => {
                ": that one is there and is no authority (CA:FALSE)".to_owned()
            }
            Some(_) => ": the one of this name there has another key".to_owned(),
            None if leaf.issuer == leaf.subject => " itself: it has to be in that file".to_owned(),
            None => ": that one's certificate has to be in that file".to_owned(),
        };
        Refusal::UnknownIssuer {
            subject: leaf.subject.clone(),
            issuer: leaf.issuer.clone(),
            authorities: self.path.display().to_string(),
            why,
        }
    }
}

fn check_name(der: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Refusal> {
    let leaf = Certificate::parse(der).ok_or(Refusal::NoCertificate)?;
    let (subject, wanted) = (leaf.subject, name.to_str().into_owned());
    if !leaf.has_names {
        return Err(Refusal::NoNames { subject, wanted });
    }
    let checked = ParsedCertificate::try_from(der).and_then(|parsed| verify_server_name(&parsed, name));
    match checked {
        Ok(()) => Ok(()),
        Err(RustlsError::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) => {
            Err(Refusal::WrongName { subject, wanted, presented: names(&presented) })
        }
        Err(error) => {
            let (why, alert) = (error.to_string(), Box::new(CertificateError::BadEncoding));
            Err(Refusal::Chain { subject, why, alert })
        }
    }
}

/// The TLS library gives them as it has them in its source.
fn names(presented: &[String]) -> String {
    let plain = presented.iter().map(|name| {
        let inside = name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")"));
        format!("`{}`", inside.unwrap_or(name))
    });
    shown(&plain.collect::<Vec<_>>().join(", "))
}

/// Decides about peers, and remembers why it refused one: the alert that the TLS library makes of a refusal
/// does not carry it.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Arc<Trust>,
    refusal: Mutex<Option<Refusal>>,
}

impl Verifier {
    pub(super) fn new(trust: Arc<Trust>) -> Self {
        Self { trust, refusal: Mutex::new(None) }
    }

    /// Why it refused the last one that it was asked about.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn told(&self, checked: Result<(), Refusal>) -> Result<(), RustlsError> {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = checked.as_ref().err().cloned();
        checked.map_err(|refusal| refusal.alert().into())
    }

    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.trust.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        self.told(self.trust.check_server(leaf, between, name, now))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    /// Go clients keep their certificate to themselves if its issuer is not among these.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.trust.subjects
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, RustlsError> {
        self.told(self.trust.check_client(leaf, between, now))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
