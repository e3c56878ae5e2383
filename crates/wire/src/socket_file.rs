//! Unix sockets as files: who may make one, and whose it is.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::UnixListener;

/// Why there is no socket.
#[derive(Debug, Error)]
#[error("cannot listen on socket {}: {problem}", path.display())]
pub struct SocketError {
    /// Where it should be.
    pub path: PathBuf,
    /// What is in the way.
    pub problem: Problem,
}

/// What is in the way of a socket.
#[derive(Debug, Error)]
pub enum Problem {
    /// Somebody listens there.
    #[error("another zrepl daemon or job uses it (stop that one, or give this one its own `{setting}`)")]
    InUse {
        /// What chooses the place.
        setting: &'static str,
    },
    /// Anybody could connect.
    #[error(
        "socket directory must not be world-accessible: {} (permissions are 0{permissions:o}; see chmod(1))",
        directory.display()
    )]
    WorldAccessible {
        /// The directory.
        directory: PathBuf,
        /// Its permission bits.
        permissions: u32,
    },
    /// The path is no place for a file.
    #[error("it is not a path of a file in a directory")]
    NoDirectory,
    /// Something that is no socket is there.
    #[error("there is a file that is not a socket (remove it, or change `{setting}`)")]
    NotASocket {
        /// What chooses the place.
        setting: &'static str,
    },
    /// The operating system refuses.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Its words.
        source: io::Error,
    },
}

/// Adds what was tried to the system's words.
pub fn io_problem(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Problem {
    let action = format!("{action} {}", path.display());
    |source| Problem::Io { action, source }
}

/// A socket that is listened on. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Which file of that name is ours.
    identity: (u64, u64),
    listener: UnixListener,
}

impl SocketFile {
    /// Makes it, and its directory if that is missing. `setting` is what the configuration calls the place.
    ///
    /// # Errors
    /// Names the path and what is in the way of it.
    pub fn bind(path: &Path, setting: &'static str) -> Result<Self, SocketError> {
        bind(path, setting).map_err(|problem| SocketError { path: path.to_owned(), problem })
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another daemon may have taken the place, if somebody has removed the file.
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path, setting: &'static str) -> Result<SocketFile, Problem> {
    prepare_directory(path)?;
    remove_stale(path, setting)?;
    let listener = UnixListener::bind(path).map_err(io_problem("bind", path))?;
    let metadata = fs::symlink_metadata(path).map_err(io_problem("look at", path))?;
    Ok(SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()), listener })
}

/// Makes the directory of a socket if it is missing, and checks that not everybody may look into it: it is
/// what protects the socket.
///
/// # Errors
/// Everybody may, or the system refuses.
pub fn prepare_directory(path: &Path) -> Result<(), Problem> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(Problem::NoDirectory)?;
    if !directory.exists() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(io_problem("create the socket directory", directory))?;
    }
    let metadata = fs::metadata(directory).map_err(io_problem("look at", directory))?;
    let permissions = metadata.mode() & 0o777;
    if permissions & 0o007 != 0 {
        return Err(Problem::WorldAccessible { directory: directory.to_owned(), permissions });
    }
    Ok(())
}

/// Removes what a killed daemon left. A socket that answers belongs to somebody.
///
/// # Errors
/// It does, or there is something else.
pub fn remove_stale(path: &Path, setting: &'static str) -> Result<(), Problem> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_problem("look at", path)(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Problem::NotASocket { setting });
    }
    match net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(_) => return Err(Problem::InUse { setting }),
        // Somebody may live there still, and only cannot be asked.
        Err(error) => return Err(io_problem("find out who uses", path)(error)),
    }
    fs::remove_file(path).map_err(io_problem("remove the stale socket", path))
}
