//! What is in the text of a certificate or key file. Reads no files and no clock.

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use crate::suggest::shown;

/// What matters of a certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// Whose it is, such as `CN=backups`.
    pub(crate) subject: String,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// From before extensions; TLS libraries of today accept no peer with one.
    pub(crate) is_version_1: bool,
    public_key: Vec<u8>,
}

/// A key that can be used.
#[derive(Debug)]
pub(crate) struct Key {
    public_key: Option<Vec<u8>>,
}

/// Why a file is of no use.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum Unusable {
    #[error("contains no certificate")]
    NoCertificate,
    #[error("contains no private key")]
    NoKey,
    #[error("is cut off or damaged")]
    Pem,
    #[error("holds something that is no X.509 certificate")]
    Certificate,
    #[error("holds an encrypted private key, and there is nobody to ask for the passphrase")]
    Encrypted,
    #[error("holds a private key that cannot be used: {0}")]
    Key(String),
}

impl Unusable {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NoCertificate | Self::NoKey => "the file has to be in PEM form, with `-----BEGIN …` lines",
            Self::Pem | Self::Certificate => "write the file anew",
            Self::Encrypted => "`openssl pkey -in FILE` writes it without passphrase; then let nobody else read it",
            Self::Key(_) => {
                "keys of RSA (2048 bits or more), of ECDSA (P-256, P-384, P-521) and of Ed25519 can be used"
            }
        }
    }
}

/// All certificates of a file, of which there is at least one.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<Certificate>, Unusable> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|_| Unusable::Pem)?;
    if found.is_empty() {
        return Err(Unusable::NoCertificate);
    }
    found.iter().map(|der| certificate(der)).collect()
}

fn certificate(der: &[u8]) -> Result<Certificate, Unusable> {
    let (_, read) = X509Certificate::from_der(der).map_err(|_| Unusable::Certificate)?;
    let subject = read.subject().to_string().replace(char::is_control, "?");
    Ok(Certificate {
        subject: shown(&subject),
        not_before: instant(read.validity().not_before.timestamp()),
        not_after: instant(read.validity().not_after.timestamp()),
        is_version_1: read.version() == X509Version::V1,
        public_key: read.public_key().raw.to_vec(),
    })
}

/// The end of the year 9999, which stands for no end, is later than any instant of ours.
fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(if second < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// The first private key of a file.
pub(crate) fn key(text: &[u8]) -> Result<Key, Unusable> {
    let found = match PrivateKeyDer::from_pem_slice(text) {
        Ok(found) => found,
        Err(PemError::NoItemsFound) if contains(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") => {
            return Err(Unusable::Encrypted);
        }
        Err(PemError::NoItemsFound) => return Err(Unusable::NoKey),
        // The older form says so in a line that no other key has.
        Err(_) if contains(text, b"ENCRYPTED") => return Err(Unusable::Encrypted),
        Err(_) => return Err(Unusable::Pem),
    };
    let usable = any_supported_type(&found).map_err(|error| match contains(text, b"ENCRYPTED") {
        true => Unusable::Encrypted,
        false => Unusable::Key(error.to_string()),
    })?;
    Ok(Key { public_key: usable.public_key().map(|key| key.to_vec()) })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

impl Key {
    /// Whether a certificate is about this key. If the key does not tell, it is taken to be.
    pub(crate) fn belongs_to(&self, certificate: &Certificate) -> bool {
        self.public_key.as_ref().is_none_or(|key| *key == certificate.public_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn a_key_belongs_to_its_certificate_whatever_kind_it_is() {
        let kinds = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256];
        let made = kinds.map(|kind| {
            let key = KeyPair::generate_for(kind).unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap();
            (super::key(key.serialize_pem().as_bytes()).unwrap(), certificates(certificate.pem().as_bytes()).unwrap())
        });
        for (index, (key, _)) in made.iter().enumerate() {
            let belongs: Vec<bool> = made.iter().map(|(_, certificates)| key.belongs_to(&certificates[0])).collect();
            let expected: Vec<bool> = (0..made.len()).map(|other| other == index).collect();
            assert_eq!(belongs, expected);
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_apart() {
        let block = |label: &str, inside: &str| format!("-----BEGIN {label}-----\n{inside}\n-----END {label}-----\n");
        for (text, error) in [
            (String::new(), Unusable::NoKey),
            (block("CERTIFICATE", "AAAA"), Unusable::NoKey),
            (block("ENCRYPTED PRIVATE KEY", "AAAA"), Unusable::Encrypted),
            (block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA"), Unusable::Encrypted),
            (block("PRIVATE KEY", "AAAA").replace("END", ""), Unusable::Pem),
        ] {
            assert_eq!(key(text.as_bytes()).unwrap_err(), error, "{text}");
        }
        let wrong = key(block("PRIVATE KEY", "AAAA").as_bytes()).unwrap_err();
        assert!(matches!(wrong, Unusable::Key(_)), "{wrong}");
        for (text, error) in [
            ("no PEM".to_owned(), Unusable::NoCertificate),
            (block("CERTIFICATE", "AAAA"), Unusable::Certificate),
            (block("CERTIFICATE", "AAAA").replace("END", ""), Unusable::Pem),
        ] {
            assert_eq!(certificates(text.as_bytes()).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn the_end_of_the_year_9999_is_an_instant() {
        assert_eq!(instant(253_402_300_799), Timestamp::MAX);
        assert_eq!(instant(0), Timestamp::UNIX_EPOCH);
    }
}
