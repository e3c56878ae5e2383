//! Database servers that live as long as a test, in a folder of their own: on Unix sockets, and on the
//! loopback interface for what goes through TCP only.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// Where unpacked packages of the servers are; `cargo xtask test databases` sets it.
const FOLDER: &str = "ZREPL_TEST_DATABASES";

/// Nobody, whom servers run as if the test is root: PostgreSQL refuses root.
const NOBODY: u32 = 65534;

/// A server on a loaded machine is ready within seconds.
const START: Duration = Duration::from_secs(120);

const POSTGRES_READY: &str = "ready to accept connections";
const MARIADB_READY: &str = "ready for connections";

/// A server; dropping it ends it.
pub(crate) struct Server {
    process: Child,
    /// Its data and its sockets.
    pub folder: TempDir,
    /// Where it listens at the loopback interface, if it does.
    pub port: u16,
}

/// How often a server may find that somebody has taken the port that was free a moment before.
const ATTEMPTS: usize = 5;

/// What TLS needs of a server.
pub(crate) struct Identity {
    /// Its certificate, in PEM form.
    pub certificate: String,
    /// The key.
    pub key: String,
    /// Who vouches for clients.
    pub authority: String,
}

impl Server {
    pub(crate) fn postgres() -> Server {
        let folder = folder();
        initdb(&folder);
        let server = postgres(&folder, &["-c", "listen_addresses="]);
        Server::start(server, POSTGRES_READY, folder, 0).unwrap_or_else(|(log, _)| panic!("{log}"))
    }

    /// One that is reached through TCP, and whom `accounts` says who may connect how: lines of its
    /// `pg_hba.conf`.
    pub(crate) fn postgres_at_port(identity: Option<&Identity>, accounts: &str) -> Server {
        let mut folder = folder();
        initdb(&folder);
        fs::write(folder.path().join("data/pg_hba.conf"), accounts).unwrap();
        let mut settings = vec!["-c".to_owned(), "listen_addresses=127.0.0.1".to_owned()];
        if let Some(identity) = identity {
            let files = [("ssl_cert_file", CERTIFICATE), ("ssl_key_file", KEY), ("ssl_ca_file", AUTHORITY)];
            identity.write(folder.path());
            settings.extend(["-c".to_owned(), "ssl=on".to_owned()]);
            for (setting, file) in files {
                settings.extend(["-c".to_owned(), format!("{setting}={}", folder.path().join(file).display())]);
            }
        }
        for _ in 0..ATTEMPTS {
            let port = free_port();
            let mut server = postgres(&folder, &settings);
            server.args(["-c", &format!("port={port}")]);
            match Server::start(server, POSTGRES_READY, folder, port) {
                Ok(server) => return server,
                Err((log, kept)) if log.contains("could not bind") => folder = kept,
                Err((log, _)) => panic!("{log}"),
            }
        }
        panic!("no port is free for long enough");
    }

    pub(crate) fn mariadb() -> Server {
        let folder = folder();
        bootstrap(&folder);
        let mut server = mariadb(&folder);
        server.arg("--skip-networking");
        Server::start(server, MARIADB_READY, folder, 0).unwrap_or_else(|(log, _)| panic!("{log}"))
    }

    /// One that is reached through TCP.
    pub(crate) fn mariadb_at_port(identity: Option<&Identity>) -> Server {
        let mut folder = folder();
        bootstrap(&folder);
        if let Some(identity) = identity {
            identity.write(folder.path());
        }
        for _ in 0..ATTEMPTS {
            let port = free_port();
            let mut server = mariadb(&folder);
            server.args(["--bind-address=127.0.0.1", &format!("--port={port}")]);
            if identity.is_some() {
                for (setting, file) in [("ssl-cert", CERTIFICATE), ("ssl-key", KEY)] {
                    server.arg(format!("--{setting}={}", folder.path().join(file).display()));
                }
            }
            match Server::start(server, MARIADB_READY, folder, port) {
                Ok(server) => return server,
                Err((log, kept)) if log.contains("Bind on TCP/IP port") => folder = kept,
                Err((log, _)) => panic!("{log}"),
            }
        }
        panic!("no port is free for long enough");
    }

    /// Gives back the folder, and what the server has said, if it did not start.
    fn start(
        mut server: Command,
        ready: &'static str,
        folder: TempDir,
        port: u16,
    ) -> Result<Server, (String, TempDir)> {
        let mut process = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let (say, said) = mpsc::channel();
        // Reads to the end, so that the server never waits for room in the pipe.
        std::thread::spawn(move || {
            for line in log.split(b'\n').map_while(Result::ok) {
                let _ = say.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let mut log = vec!["the server did not start:".to_owned()];
        loop {
            match said.recv_timeout(START) {
                Ok(line) if line.contains(ready) => return Ok(Server { process, folder, port }),
                Ok(line) => log.push(line),
                Err(_) => {
                    end(&mut process);
                    return Err((log.join("\n"), folder));
                }
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

fn end(process: &mut Child) {
    // SIGQUIT has PostgreSQL end its children too, which SIGKILL would leave; MariaDB has none.
    let _ = rustix::process::kill_process(Pid::from_child(process), Signal::CONT);
    let _ = rustix::process::kill_process(Pid::from_child(process), Signal::QUIT);
    let _ = process.wait();
}

const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";
const AUTHORITY: &str = "authority.crt";

impl Identity {
    /// Into files that the server accepts: nobody else may read its key.
    fn write(&self, folder: &Path) {
        for (name, text) in [(CERTIFICATE, &self.certificate), (KEY, &self.key), (AUTHORITY, &self.authority)] {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            give_away(&path);
        }
    }
}

/// A port that nobody listens at, as the servers cannot be told to take any.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn root() -> PathBuf {
    let folder = std::env::var_os(FOLDER);
    PathBuf::from(folder.unwrap_or_else(|| panic!("{FOLDER} is not set: run `cargo xtask test databases`"))).join("usr")
}

fn folder() -> TempDir {
    let folder = TempDir::with_prefix("zrepl-db-").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    give_away(folder.path());
    folder
}

fn give_away(path: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    let libraries = format!("{}-linux-gnu", std::env::consts::ARCH);
    command.env("LD_LIBRARY_PATH", root().join("lib").join(libraries)).env("LC_ALL", "C").current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// `usr/lib/postgresql/VERSION/bin`
fn postgres_programs() -> PathBuf {
    let versions = fs::read_dir(root().join("lib/postgresql")).unwrap();
    versions.map(|entry| entry.unwrap().path().join("bin")).max().unwrap()
}

fn initdb(folder: &TempDir) {
    let mut initdb = program(&postgres_programs().join("initdb"));
    initdb.args(["-U", "tester", "-A", "trust", "-N", "--no-locale", "-D"]).arg(folder.path().join("data"));
    run(&mut initdb, "");
}

fn postgres(folder: &TempDir, settings: &[impl AsRef<OsStr>]) -> Command {
    let mut server = program(&postgres_programs().join("postgres"));
    let sockets = format!("unix_socket_directories={}", folder.path().display());
    server.arg("-D").arg(folder.path().join("data")).args(["-c", &sockets]).args(settings);
    server
}

fn bootstrap(folder: &TempDir) {
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    give_away(&data);
    run(mariadbd(&data).args(["--bootstrap", "--skip-networking"]), &system_tables());
}

fn mariadb(folder: &TempDir) -> Command {
    let mut server = mariadbd(&folder.path().join("data"));
    server.arg(format!("--socket={}", folder.path().join("socket").display()));
    server.arg(format!("--pid-file={}", folder.path().join("pid").display()));
    server
}

fn mariadbd(data: &Path) -> Command {
    let mut command = program(&root().join("sbin/mariadbd"));
    command.arg("--no-defaults");
    command.arg(format!("--basedir={}", root().display()));
    command.arg(format!("--lc-messages-dir={}", root().join("share/mysql").display()));
    command.arg(format!("--datadir={}", data.display()));
    // Each has its own: when one starts it removes what temporary tables it finds there.
    command.arg(format!("--tmpdir={}", data.parent().unwrap_or(data).display()));
    command
}

/// The system tables, an account with a password, and a database; one statement per line.
fn system_tables() -> String {
    let mut text = "create database mysql;\nuse mysql;\nset @auth_root_socket=null;\nset @skip_auth_anonymous=1;\n\
                    set @current_hostname='localhost';\n"
        .to_owned();
    for name in ["mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data"] {
        text += &fs::read_to_string(root().join("share/mysql").join(format!("{name}.sql"))).unwrap();
    }
    text + "flush privileges;\ncreate user tester@'%' identified by 'se cret';\ngrant all on *.* to tester@'%';\n\
            create database shop;\n"
}

fn run(command: &mut Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
