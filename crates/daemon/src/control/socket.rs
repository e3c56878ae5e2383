//! The control socket as a file: who may make it, and whose it is.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;
use wire::socket_file::{io_problem, prepare_directory, remove_stale};

use wire::socket_file::Problem;
pub use wire::socket_file::SocketError;

/// What a person can change.
const SETTING: &str = "global.control.sockpath";

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
    prepare_directory(path)?;
    let lock = lock(path)?;
    // A socket that answers belongs to a daemon that knows nothing of the lock, such as zrepl itself.
    remove_stale(path, SETTING)?;
    let listener = net::UnixListener::bind(path).map_err(io_problem("bind", path))?;
    Ok(Socket { path: path.to_owned(), listener, _lock: lock })
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
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Problem::InUse { setting: SETTING }),
        Err(error) => Err(io_problem("lock", &name)(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

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
        assert!(matches!(problem(&path), Problem::InUse { .. }));
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
        assert!(matches!(problem(&path), Problem::InUse { .. }));
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
        assert!(matches!(problem(&path), Problem::NotASocket { .. }));
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
