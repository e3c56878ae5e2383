//! What a certificate says, as far as it matters to who is let in.

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, X509Version};
use x509_parser::public_key::PublicKey;

use super::refusal::Refusal;

/// Keys of RSA that the TLS library checks signatures of, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Longest text of a peer's certificate in a message, characters.
const MAX_SHOWN: usize = 200;

/// A certificate that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Whose it is, such as `CN=backups`.
    pub(super) subject: String,
    /// Who vouches for it.
    pub(super) issuer: String,
    /// The last common name of the subject, which is the identity of a client. None too if it is no text.
    pub(super) common_name: Option<String>,
    /// Whether it says for which names it is; the common name does not count.
    pub(super) has_names: bool,
    /// Whether it may vouch for others.
    pub(super) is_authority: bool,
    not_before: i64,
    not_after: i64,
    is_version_1: bool,
    weak_signature: Option<&'static str>,
    rsa_bits: Option<usize>,
    purposes: Option<Purposes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Purposes {
    server: bool,
    client: bool,
}

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Server,
    Client,
}

impl Certificate {
    /// None if it is no certificate.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        let common_name = read.subject().iter_common_name().last().and_then(|name| name.as_str().ok());
        Some(Self {
            subject: shown(&read.subject().to_string()),
            issuer: shown(&read.issuer().to_string()),
            common_name: common_name.map(str::to_owned),
            has_names: matches!(read.subject_alternative_name(), Ok(Some(names)) if !names.value.general_names.is_empty()),
            is_authority: is_authority(&read),
            not_before: read.validity().not_before.timestamp(),
            not_after: read.validity().not_after.timestamp(),
            is_version_1: read.version() == X509Version::V1,
            weak_signature: weak_signature(&read),
            rsa_bits: rsa_bits(&read),
            purposes: purposes(&read),
        })
    }

    /// Whether its time has come and not passed.
    pub(super) fn check_time(&self, now: UnixTime) -> Result<(), Refusal> {
        let subject = || self.subject.clone();
        let (second, at) = (i64::try_from(now.as_secs()).unwrap_or(i64::MAX), now.as_secs());
        if second < self.not_before {
            return Err(Refusal::NotValidYet { subject: subject(), from: instant(self.not_before), now: at });
        }
        if second > self.not_after {
            return Err(Refusal::Expired { subject: subject(), since: instant(self.not_after), now: at });
        }
        Ok(())
    }

    /// Whether it is for this. One that does not say is for everything.
    pub(super) fn check_purpose(&self, purpose: Purpose) -> Result<(), Refusal> {
        let fits = self.purposes.is_none_or(|purposes| match purpose {
            Purpose::Server => purposes.server,
            Purpose::Client => purposes.client,
        });
        if fits { Ok(()) } else { Err(Refusal::WrongPurpose { subject: self.subject.clone(), purpose }) }
    }

    /// Whether the TLS library can use its key, whoever vouches for it.
    pub(super) fn check_form(&self) -> Result<(), Refusal> {
        if self.is_version_1 {
            return Err(Refusal::Version1 { subject: self.subject.clone() });
        }
        match self.rsa_bits {
            Some(bits) if !RSA_BITS.contains(&bits) => Err(Refusal::RsaLength { subject: self.subject.clone(), bits }),
            _ => Ok(()),
        }
    }

    /// Whether somebody's signature below it means anything today.
    pub(super) fn check_signature_kind(&self) -> Result<(), Refusal> {
        match self.weak_signature {
            Some(kind) => Err(Refusal::WeakSignature { subject: self.subject.clone(), kind }),
            None => Ok(()),
        }
    }
}

/// As Go has it: of version 3 it has to say so, and a key usage must not exclude it.
fn is_authority(read: &X509Certificate<'_>) -> bool {
    let constraints = match read.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => read.version() != X509Version::V3,
        Err(_) => false,
    };
    let may_sign = match read.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    constraints && may_sign
}

fn weak_signature(read: &X509Certificate<'_>) -> Option<&'static str> {
    match read.signature_algorithm.algorithm.to_id_string().as_str() {
        // Of RSA, and of ECDSA.
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => Some("SHA-1"),
        "1.2.840.113549.1.1.4" => Some("MD5"),
        _ => None,
    }
}

fn rsa_bits(read: &X509Certificate<'_>) -> Option<usize> {
    match read.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()),
        _ => None,
    }
}

fn purposes(read: &X509Certificate<'_>) -> Option<Purposes> {
    match read.extended_key_usage() {
        Ok(Some(usage)) => {
            let usage = usage.value;
            Some(Purposes { server: usage.any || usage.server_auth, client: usage.any || usage.client_auth })
        }
        Ok(None) => None,
        Err(_) => Some(Purposes { server: false, client: false }),
    }
}

/// The end of the year 9999, which stands for no end, is later than any instant of ours.
fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(if second < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// What a peer wrote, fit for a line of the log.
pub(super) fn shown(text: &str) -> String {
    let text = text.replace(char::is_control, "?");
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
