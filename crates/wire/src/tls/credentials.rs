//! The files of one side of a connection, read again when they change.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::Error as RustlsError;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::verify::Trust;

/// Bundles of all public authorities take less than a tenth.
const MAX_BYTES: u64 = 4 << 20;

/// Where the certificates of one side are. Relative paths are relative to the current directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates that vouch for the other side, PEM.
    pub ca: PathBuf,
    /// The own certificate and those that lead to its authority, PEM.
    pub cert: PathBuf,
    /// The key of `cert`, PEM.
    pub key: PathBuf,
}

/// Files that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// The system does not let it be read.
    #[error("cannot read {}, the `{setting}`: {reason}", path.display())]
    Read {
        /// What the configuration calls it.
        setting: &'static str,
        /// Where it is.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Something else is in it.
    #[error("{}, the `{setting}`, cannot be used: {reason}", path.display())]
    Content {
        /// What the configuration calls it.
        setting: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The parts do not fit together, or the TLS library knows no such key.
    #[error("the certificate {} and the key {} cannot be used: {reason}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What is in the files.
pub(super) struct Material {
    pub(super) trust: Arc<Trust>,
    pub(super) own: Arc<CertifiedKey>,
}

/// Told what a person should know though the connection works.
pub type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// How what is in the files is used.
type Build<T> = Box<dyn Fn(Material) -> Result<T, RustlsError> + Send + Sync>;

/// Something that is made of the files, and made again when they have changed.
pub(super) struct Credentials<T> {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    build: Build<T>,
    tell: Tell,
    state: Mutex<State<T>>,
    /// Held by who looks: files that answer no more, such as on a server that is gone, cost one thread.
    turn: Arc<Semaphore>,
    /// Whether the system refuses to read.
    #[cfg(test)]
    pub(super) refuses: std::sync::atomic::AtomicBool,
}

struct State<T> {
    /// What the files looked like when they were last read.
    seen: Option<Marks>,
    usable: Option<Arc<T>>,
    problem: Option<CredentialError>,
}

impl<T: Send + Sync + 'static> Credentials<T> {
    /// Reads nothing yet: a file that is missing now may come.
    pub(super) fn new(files: TlsFiles, provider: Arc<CryptoProvider>, build: Build<T>, tell: Tell) -> Arc<Self> {
        let state = State { seen: None, usable: None, problem: None };
        Arc::new(Self {
            files,
            provider,
            build,
            tell,
            state: Mutex::new(state),
            turn: Arc::new(Semaphore::new(1)),
            #[cfg(test)]
            refuses: Default::default(),
        })
    }

    /// As the files are now. If they have changed to something unusable, as they were; that is told once.
    /// Takes as long as the files do: limit it.
    ///
    /// # Errors
    /// They have never been usable.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<T>, CredentialError> {
        let own = Arc::clone(self);
        // Never closed.
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok();
        let looked = tokio::task::spawn_blocking(move || {
            let looked = own.look();
            drop(turn);
            looked
        });
        let looked = looked.await;
        looked.unwrap_or_else(|error| {
            let (setting, path) = ("cert", self.files.cert.clone());
            Err(CredentialError::Read { setting, path, reason: error.to_string() })
        })
    }

    fn look(&self) -> Result<Arc<T>, CredentialError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Before reading: what is changed in the meantime is read again the next time.
        let marks = Marks::of(&self.files);
        if state.seen.as_ref() != Some(&marks) {
            state.seen = Some(marks);
            match self.load() {
                Ok(loaded) => {
                    state.usable = Some(Arc::new(loaded));
                    state.problem = None;
                }
                Err(problem) => {
                    // What could not be read may be all right, and readable a moment later.
                    if matches!(problem, CredentialError::Read { .. }) {
                        state.seen = None;
                    }
                    if state.usable.is_some() && state.problem.as_ref() != Some(&problem) {
                        (self.tell)(format!("{problem} (what was there before goes on being used)"));
                    }
                    state.problem = Some(problem);
                }
            }
        }
        match (&state.usable, &state.problem) {
            (Some(usable), _) => Ok(Arc::clone(usable)),
            (None, Some(problem)) => Err(problem.clone()),
            (None, None) => Err(self.pair("nothing was read")),
        }
    }

    fn load(&self) -> Result<T, CredentialError> {
        let files = &self.files;
        #[cfg(test)]
        if self.refuses.load(std::sync::atomic::Ordering::Relaxed) {
            let (setting, path) = ("cert", files.cert.clone());
            return Err(CredentialError::Read { setting, path, reason: "Too many open files".to_owned() });
        }
        let own: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read("cert", &files.cert)?).collect();
        let own = own.map_err(|error| content("cert", &files.cert, error.to_string()))?;
        if own.is_empty() {
            return Err(content("cert", &files.cert, NO_CERTIFICATE.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&read("key", &files.key)?);
        let key = key.map_err(|error| content("key", &files.key, key_problem(&error)))?;
        let own = CertifiedKey::from_der(own, key, &self.provider).map_err(|error| self.pair(pair_problem(&error)))?;
        // As zrepl does, whatever else is in this file is skipped.
        let trusted = CertificateDer::pem_slice_iter(&read("ca", &files.ca)?).flatten().collect();
        let trust = Trust::new(&files.ca, trusted, Arc::clone(&self.provider));
        let trust = trust.ok_or_else(|| content("ca", &files.ca, NO_CERTIFICATE.to_owned()))?;
        let material = Material { trust: Arc::new(trust), own: Arc::new(own) };
        (self.build)(material).map_err(|error| self.pair(error))
    }

    fn pair(&self, reason: impl ToString) -> CredentialError {
        let TlsFiles { cert, key, .. } = self.files.clone();
        CredentialError::Pair { cert, key, reason: reason.to_string() }
    }
}

const NO_CERTIFICATE: &str = "it contains no certificate (the file has to be in PEM form, with `-----BEGIN …` lines)";

fn key_problem(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            "it contains no private key without passphrase (`openssl pkey -in FILE` writes one)".to_owned()
        }
        other => other.to_string(),
    }
}

fn pair_problem(error: &RustlsError) -> String {
    match error {
        RustlsError::InconsistentKeys(_) => {
            "they do not belong together (the certificate that was made for the key has to come first)".to_owned()
        }
        RustlsError::InvalidCertificate(error) => {
            format!("{error} (make a certificate of X.509 version 3, such as with `openssl req -x509`)")
        }
        other => other.to_string(),
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, CredentialError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    read().map_err(|error| CredentialError::Read { setting, path: path.to_owned(), reason: error.to_string() })
}

fn content(setting: &'static str, path: &Path, reason: String) -> CredentialError {
    CredentialError::Content { setting, path: path.to_owned(), reason }
}

/// What tells a changed file from the same one. The time of the last change of the inode is among it
/// because `cp -p` and `rsync -t` keep the other.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// None of a file that cannot be looked at.
#[derive(Debug, PartialEq, Eq)]
struct Marks([Option<Mark>; 3]);

impl Marks {
    fn of(files: &TlsFiles) -> Self {
        Self([&files.ca, &files.cert, &files.key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some(Mark {
                device: metadata.dev(),
                inode: metadata.ino(),
                length: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            })
        }))
    }
}
