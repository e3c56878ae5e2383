//! The certificate authorities that this system trusts.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

/// The system trusts nobody.
#[derive(Debug, Error)]
#[error(
    "there are no certificates of authorities on this system to check the server's with: install them, on Debian the \
     package ca-certificates"
)]
pub(super) struct NoAuthorities;

/// Their certificates, as far as they can be used; from `SSL_CERT_FILE` and `SSL_CERT_DIR` if these are
/// set, as other programs have it.
///
/// # Errors
/// There are none.
pub(super) async fn of_system() -> Result<Vec<CertificateDer<'static>>, NoAuthorities> {
    let read = tokio::task::spawn_blocking(|| rustls_native_certs::load_native_certs().certs);
    let mut certificates = read.await.unwrap_or_default();
    certificates.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if certificates.is_empty() { Err(NoAuthorities) } else { Ok(certificates) }
}
