//! Why a certificate is not accepted, for the log; and what the peer is told of it, which is an alert.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{CertificateError, OtherError};
use thiserror::Error;

use super::certificate::Purpose;

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Error)]
pub(super) enum Refusal {
    #[error("what it shows is no X.509 certificate")]
    NoCertificate,
    #[error("its certificate `{subject}` has expired: it was valid until {since} (replace it there)")]
    Expired { subject: String, since: Timestamp, now: u64 },
    #[error("its certificate `{subject}` is not valid before {from} (are the clocks of both machines right?)")]
    NotValidYet { subject: String, from: Timestamp, now: u64 },
    #[error(
        "its certificate `{subject}` is of X.509 version 1 (make one of version 3, such as with `openssl req -x509 \
         -addext subjectAltName=DNS:NAME`)"
    )]
    Version1 { subject: String },
    #[error("the RSA key of its certificate `{subject}` has {bits} bits (make one of 2048 to 8192 bits)")]
    RsaLength { subject: String, bits: usize },
    #[error("its certificate `{subject}` is signed with {kind}, which anybody can forge (make one with SHA-256)")]
    WeakSignature { subject: String, kind: &'static str },
    #[error(
        "its certificate `{subject}` is not for {} (its extended key usage lacks `{}`)",
        purpose.role(),
        purpose.usage()
    )]
    WrongPurpose { subject: String, purpose: Purpose },
    #[error(
        "its certificate `{subject}` says for no name that it is (the common name does not count: make one with \
         `-addext subjectAltName=DNS:{wanted}`)"
    )]
    NoNames { subject: String, wanted: String },
    #[error(
        "its certificate `{subject}` is for {presented}, not for `{wanted}` (change `server_cn`, or the certificate)"
    )]
    WrongName { subject: String, wanted: String, presented: String },
    #[error("nothing in {authorities} vouches for its certificate `{subject}`, which `{issuer}` has issued{why}")]
    UnknownIssuer { subject: String, issuer: String, authorities: String, why: String },
    #[error(
        "its certificate `{subject}` is that of an authority (CA:TRUE), which is accepted only if it is itself in \
         {authorities} (put it there, or make one with CA:FALSE)"
    )]
    Authority { subject: String, authorities: String },
    #[error("its certificate `{subject}` cannot be used: {why}")]
    Chain { subject: String, why: String, alert: Box<CertificateError> },
}

impl Refusal {
    /// What the peer is told.
    pub(super) fn alert(&self) -> CertificateError {
        match self {
            Refusal::NoCertificate => CertificateError::BadEncoding,
            Refusal::Expired { since, now, .. } => {
                CertificateError::ExpiredContext { time: unix(*now), not_after: unix_of(*since) }
            }
            Refusal::NotValidYet { from, now, .. } => {
                CertificateError::NotValidYetContext { time: unix(*now), not_before: unix_of(*from) }
            }
            Refusal::WrongPurpose { .. } => CertificateError::InvalidPurpose,
            Refusal::NoNames { .. } | Refusal::WrongName { .. } => CertificateError::NotValidForName,
            Refusal::UnknownIssuer { .. } => CertificateError::UnknownIssuer,
            Refusal::Chain { alert, .. } => (**alert).clone(),
            Refusal::Version1 { .. }
            | Refusal::RsaLength { .. }
            | Refusal::WeakSignature { .. }
            | Refusal::Authority { .. } => CertificateError::Other(OtherError(Arc::new(self.clone()))),
        }
    }
}

impl Purpose {
    fn role(self) -> &'static str {
        match self {
            Purpose::Server => "a server",
            Purpose::Client => "a client",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Purpose::Server => "serverAuth",
            Purpose::Client => "clientAuth",
        }
    }
}

fn unix(second: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(second))
}

fn unix_of(instant: Timestamp) -> UnixTime {
    unix(u64::try_from(instant.as_second()).unwrap_or(0))
}
