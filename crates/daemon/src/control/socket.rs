//! The control socket as a file: who may make it, and whose it is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use tokio::net::UnixListener;

/// Why there is no control socket.
#[derive(Debug, Error)]
#[error("cannot listen on control socket {}: {problem}", path.display())]
pub struct SocketError {
    /// Where it should be.
    pub path: PathBuf,
    /// What is in the way.
    pub problem: Problem,
}

/// What is in the way of a control socket.
#[derive(Debug, Error)]
pub enum Problem {
    /// Another daemon runs.
    #[error("another zrepl daemon uses it (stop that one, or give this one its own `global.control.sockpath`)")]
    InUse,
    /// Anybody could wake and reset jobs.
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
    #[error("there is a file that is not a socket (remove it, or change `global.control.sockpath`)")]
    NotASocket,
    /// The operating system refuses.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Its words.
        source: io::Error,
    },
}

fn io_problem(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Problem {
    let action = format!("{action} {}", path.display());
    |source| Problem::Io { action, source }
}

/// A bound socket, ours alone. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: net::UnixListener,
    /// Held as long as the socket is. Its file stays: to remove it would let two daemons lock two
    /// different files of one name.
    _lock: File,
}

impl Socket {
    /// Makes the socket, and its directory if that is missing.
    ///
    /// # Errors
    /// Names the path and what is in the way of it.
    pub fn bind(path: &Path) -> Result<Socket, SocketError> {
        bind(path).map_err(|problem| SocketError { path: path.to_owned(), problem })
    }

    pub(super) fn listener(&self) -> Result<UnixListener, SocketError> {
        let listener = self.listener.try_clone().and_then(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        let problem =
            |error| SocketError { path: self.path.clone(), problem: io_problem("listen on", &self.path)(error) };
        listener.map_err(problem)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // If it is gone already, that is what was wanted.
        let _ = fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> Result<Socket, Problem> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(Problem::NoDirectory)?;
    check_directory(directory)?;
    let lock = lock(path)?;
    remove_stale(path)?;
    let listener = net::UnixListener::bind(path).map_err(io_problem("bind", path))?;
    Ok(Socket { path: path.to_owned(), listener, _lock: lock })
}

fn check_directory(directory: &Path) -> Result<(), Problem> {
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

/// Takes the lock that a daemon holds as long as it lives, even if it is killed.
fn lock(path: &Path) -> Result<File, Problem> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&name);
    let file = opened.map_err(io_problem("open the lock file", &name))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Problem::InUse),
        Err(error) => Err(io_problem("lock", &name)(error.into())),
    }
}

/// Removes what a killed daemon left. A socket that answers belongs to a daemon that knows nothing of
/// the lock, such as zrepl itself.
fn remove_stale(path: &Path) -> Result<(), Problem> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_problem("look at", path)(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Problem::NotASocket);
    }
    match net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(_) => return Err(Problem::InUse),
        // Somebody may live there still, and only cannot be asked.
        Err(error) => return Err(io_problem("find out who uses", path)(error)),
    }
    fs::remove_file(path).map_err(io_problem("remove the stale socket", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn private_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    fn problem(path: &Path) -> Problem {
        Socket::bind(path).unwrap_err().problem
    }

    #[test]
    fn a_socket_belongs_to_one_daemon_and_goes_with_it() {
        let directory = private_directory();
        let path = directory.path().join("control");
        let socket = Socket::bind(&path).unwrap();
        assert!(matches!(problem(&path), Problem::InUse));
        assert!(path.exists(), "the refused one leaves it alone");
        drop(socket);
        assert!(!path.exists());
        drop(Socket::bind(&path).unwrap());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_without_lock_is_not() {
        let directory = private_directory();
        let path = directory.path().join("control");
        let other = net::UnixListener::bind(&path).unwrap();
        assert!(matches!(problem(&path), Problem::InUse));
        drop(other);
        assert!(path.exists());
        drop(Socket::bind(&path).unwrap());
    }

    #[test]
    fn a_missing_directory_is_made_for_the_owner_alone() {
        let directory = private_directory();
        let below = directory.path().join("run/zrepl");
        let socket = Socket::bind(&below.join("control")).unwrap();
        assert_eq!(fs::metadata(&below).unwrap().mode() & 0o777, 0o700);
        drop(socket);
    }

    #[test]
    fn an_open_directory_or_another_file_is_refused() {
        let directory = private_directory();
        let path = directory.path().join("control");
        fs::write(&path, "").unwrap();
        assert!(matches!(problem(&path), Problem::NotASocket));
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = Socket::bind(&path).unwrap_err().to_string();
        let directory = directory.path().display();
        assert!(
            error
                .contains(&format!("socket directory must not be world-accessible: {directory} (permissions are 0755")),
            "{error}"
        );
        assert!(matches!(problem(Path::new("control")), Problem::NoDirectory));
    }
}
