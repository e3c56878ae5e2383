use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use model::ClientIdentity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::socket_file::Problem;
use crate::transport::{Acceptor, Arrival, HANDSHAKE};

fn name(text: &str) -> ClientIdentity {
    ClientIdentity::parse(text).unwrap()
}

struct Daemon {
    folder: tempfile::TempDir,
    acceptor: StdinAcceptor,
}

impl Daemon {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = StdinAcceptor::bind(&folder.path().join("run/stdinserver"), &[name("a"), name("b")]).unwrap();
        Self { folder, acceptor }
    }

    fn socket(&self, client: &str) -> PathBuf {
        self.folder.path().join("run/stdinserver").join(client)
    }

    async fn arrival(&mut self) -> Arrival {
        self.acceptor.accept().await.unwrap()
    }
}

/// `zrepl stdinserver` with these as its input and output, and its exit code.
fn stdinserver(socket: PathBuf, input: impl Into<OwnedFd>, output: impl Into<OwnedFd>) -> JoinHandle<i32> {
    let (input, output) = (input.into(), output.into());
    thread::spawn(move || match proxy(&socket, input, output) {
        Ok(()) => 0,
        Err(_) => 1,
    })
}

/// The client's end of two pipes, and the exit code.
fn over_pipes(socket: PathBuf) -> (PipeReader, PipeWriter, JoinHandle<i32>) {
    let ((input, to), (from, output)) = (io::pipe().unwrap(), io::pipe().unwrap());
    (from, to, stdinserver(socket, input, output))
}

fn hear<const LENGTH: usize>(mut from: impl Read) -> [u8; LENGTH] {
    let mut heard = [0; LENGTH];
    from.read_exact(&mut heard).unwrap();
    heard
}

#[test]
fn the_greetings_are_zrepl_s_bytes() {
    for (greeting, text) in [(HELLO, "SSHCON_HELO"), (BEGIN, "SSHCON_BEGIN"), (PROXY_ERROR, "SSHCON_PROXY_ERROR")] {
        let mut expected = text.as_bytes().to_vec();
        expected.resize(31, 0);
        assert_eq!(greeting.to_vec(), expected);
    }
}

/// The client says its part in a thread, the daemon in this one.
async fn conversation(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static, daemon: &mut Daemon) {
    let client = thread::spawn(move || {
        assert_eq!(hear(&mut from), HELLO);
        // What comes next may be under way already.
        to.write_all(&[BEGIN.as_slice(), b"ask"].concat()).unwrap();
        let mut answered = Vec::new();
        from.read_to_end(&mut answered).unwrap();
        // The other direction has ended, this one has not.
        to.write_all(b"thanks").unwrap();
        drop((from, to));
        answered
    });
    let arrival = daemon.arrival().await;
    assert_eq!(arrival.from, daemon.socket("b").display().to_string());
    let (mut connection, client_name) = arrival.identify.await.unwrap();
    assert_eq!(client_name, name("b"));
    let mut asked = [0; 3];
    connection.read_exact(&mut asked).await.unwrap();
    let answer = vec![b'y'; 300_000];
    connection.write_all(&answer).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut thanks = String::new();
    connection.read_to_string(&mut thanks).await.unwrap();
    drop(connection);
    assert_eq!((&asked, thanks.as_str()), (b"ask", "thanks"));
    let answered = tokio::task::spawn_blocking(|| client.join().unwrap()).await.unwrap();
    assert_eq!(answered, answer);
}

#[tokio::test]
async fn pipes_are_handed_over_and_close_each_by_itself() {
    let mut daemon = Daemon::new();
    let (from, to, exit) = over_pipes(daemon.socket("b"));
    conversation(from, to, &mut daemon).await;
    let exit = tokio::task::spawn_blocking(|| exit.join().unwrap()).await.unwrap();
    assert_eq!(exit, 0);
}

/// The client's end of a socket that is shut down rather than closed.
struct Half(BlockingStream);

impl Write for Half {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

#[tokio::test]
async fn a_socket_that_is_input_and_output_is_handed_over_and_closes_each_way_by_itself() {
    let mut daemon = Daemon::new();
    let (near, far) = BlockingStream::pair().unwrap();
    let exit = stdinserver(daemon.socket("b"), far.try_clone().unwrap(), far);
    conversation(near.try_clone().unwrap(), Half(near), &mut daemon).await;
    let exit = tokio::task::spawn_blocking(|| exit.join().unwrap()).await.unwrap();
    assert_eq!(exit, 0);
}

#[tokio::test]
async fn files_are_refused_and_so_is_a_wrong_number_of_descriptors() {
    let mut daemon = Daemon::new();
    let file =
        || File::options().read(true).write(true).create(true).truncate(false).open(daemon.folder.path().join("file"));
    let exit = stdinserver(daemon.socket("a"), file().unwrap(), file().unwrap());
    let refused = daemon.arrival().await.identify.await.err().unwrap().to_string();
    assert!(refused.contains("its standard input is neither a pipe nor a socket"), "{refused}");
    assert_eq!(tokio::task::spawn_blocking(|| exit.join().unwrap()).await.unwrap(), 1);

    let mut client = UnixStream::connect(daemon.socket("a")).await.unwrap();
    client.write_all(&[0]).await.unwrap();
    let refused = daemon.arrival().await.identify.await.err().unwrap().to_string();
    assert!(refused.contains("not exactly two file descriptors"), "{refused}");
    drop(UnixStream::connect(daemon.socket("a")).await.unwrap());
    assert!(daemon.arrival().await.identify.await.is_err());
}

#[tokio::test]
async fn who_answers_with_something_else_is_refused_and_the_proxy_fails() {
    let mut daemon = Daemon::new();
    let (_from, mut to, exit) = over_pipes(daemon.socket("a"));
    to.write_all(&[b'x'; GREETING_LENGTH]).unwrap();
    let refused = daemon.arrival().await.identify.await.err().unwrap().to_string();
    assert!(refused.contains("unknown banner message"), "{refused}");
    drop(to);
    assert_eq!(tokio::task::spawn_blocking(|| exit.join().unwrap()).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_given_up_and_keeps_nobody_waiting() {
    let mut daemon = Daemon::new();
    let silent = UnixStream::connect(daemon.socket("a")).await.unwrap();
    let first = daemon.arrival().await;
    let other = UnixStream::connect(daemon.socket("a")).await.unwrap();
    let _second = daemon.arrival().await;
    let third = UnixStream::connect(daemon.socket("b")).await.unwrap();
    let _third = daemon.arrival().await;
    let start = tokio::time::Instant::now();
    let refused = first.identify.await.err().unwrap().to_string();
    assert!(refused.contains("said nothing for 10s"), "{refused}");
    assert_eq!(start.elapsed(), HANDSHAKE);
    drop((silent, other, third));
}

#[tokio::test]
async fn without_a_daemon_the_client_is_told() {
    let daemon = Daemon::new();
    let socket = daemon.socket("c");
    let ((input, _to), (mut from, output)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let error = proxy(&socket, input.into(), output.into()).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot connect to the daemon at {}: No such file", socket.display())),
        "{error}"
    );
    let mut heard = Vec::new();
    from.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, PROXY_ERROR);
}

#[tokio::test]
async fn any_byte_of_an_older_daemon_is_an_orderly_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a");
    let listener = UnixListener::bind(&socket).unwrap();
    for (farewell, expected) in [(b"\x07".as_slice(), 0), (b"", 1)] {
        let (_from, _to, exit) = over_pipes(socket.clone());
        let (mut daemon, _) = listener.accept().await.unwrap();
        let mut byte = [1];
        daemon.read_exact(&mut byte).await.unwrap();
        daemon.write_all(farewell).await.unwrap();
        drop(daemon);
        let exit = tokio::task::spawn_blocking(|| exit.join().unwrap()).await.unwrap();
        assert_eq!((byte, exit), ([0], expected));
    }
}

#[tokio::test]
async fn folders_are_for_their_owner_and_stale_sockets_are_replaced() {
    let daemon = Daemon::new();
    for folder in ["run", "run/stdinserver"] {
        let mode = fs::metadata(daemon.folder.path().join(folder)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
    let (Daemon { folder, acceptor }, run) = (daemon, "run/stdinserver");
    let run = folder.path().join(run);
    let used = StdinAcceptor::bind(&run, &[name("b")]).unwrap_err();
    assert!(matches!(used.problem, Problem::InUse { .. }), "{used}");
    assert!(used.to_string().contains("`global.serve.stdinserver.sockdir`"), "{used}");
    drop(acceptor);
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0, "the sockets go with the daemon");

    drop(std::os::unix::net::UnixListener::bind(run.join("a")).unwrap());
    let acceptor = StdinAcceptor::bind(&run, &[name("a")]).unwrap();
    assert!(run.join("a").exists());
    // Whose file was taken away leaves another's alone.
    fs::remove_file(run.join("a")).unwrap();
    fs::write(run.join("a"), "").unwrap();
    drop(acceptor);
    let other = StdinAcceptor::bind(&run, &[name("a")]).unwrap_err();
    assert!(matches!(other.problem, Problem::NotASocket { .. }), "{other}");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    let open = StdinAcceptor::bind(&run, &[name("a")]).unwrap_err().to_string();
    assert!(open.contains("must not be world-accessible"), "{open}");
}
