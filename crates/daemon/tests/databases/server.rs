//! Database servers that live as long as a test, in a folder of their own and on Unix sockets only.

use std::fs;
use std::io::{BufRead, BufReader, Write};
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

/// A server; dropping it ends it.
pub(crate) struct Server {
    process: Child,
    /// Its data and its sockets.
    pub folder: TempDir,
}

impl Server {
    pub(crate) fn postgres() -> Server {
        let folder = folder();
        let programs = postgres_programs();
        let data = folder.path().join("data");
        run(
            program(&programs.join("initdb"))
                .args(["-U", "tester", "-A", "trust", "-N", "--no-locale", "-D"])
                .arg(&data),
            "",
        );
        let mut server = program(&programs.join("postgres"));
        let sockets = format!("unix_socket_directories={}", folder.path().display());
        server.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c", &sockets]);
        Server::start(server, "ready to accept connections", folder)
    }

    pub(crate) fn mariadb() -> Server {
        let folder = folder();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        give_away(&data);
        run(mariadbd(&data).arg("--bootstrap"), &bootstrap());
        let mut server = mariadbd(&data);
        server.arg(format!("--socket={}", folder.path().join("socket").display()));
        server.arg(format!("--pid-file={}", folder.path().join("pid").display()));
        Server::start(server, "ready for connections", folder)
    }

    fn start(mut server: Command, ready: &'static str, folder: TempDir) -> Server {
        let mut process = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let server = Server { process, folder };
        let (say, said) = mpsc::channel();
        // Reads to the end, so that the server never waits for room in the pipe.
        std::thread::spawn(move || {
            for line in log.split(b'\n').map_while(Result::ok) {
                let _ = say.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let mut log = Vec::new();
        loop {
            match said.recv_timeout(START) {
                Ok(line) if line.contains(ready) => return server,
                Ok(line) => log.push(line),
                Err(_) => panic!("the server did not start:\n{}", log.join("\n")),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT has PostgreSQL end its children too, which SIGKILL would leave; MariaDB has none.
        let _ = rustix::process::kill_process(Pid::from_child(&self.process), Signal::CONT);
        let _ = rustix::process::kill_process(Pid::from_child(&self.process), Signal::QUIT);
        let _ = self.process.wait();
    }
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

fn mariadbd(data: &Path) -> Command {
    let mut command = program(&root().join("sbin/mariadbd"));
    command.args(["--no-defaults", "--skip-networking"]);
    command.arg(format!("--basedir={}", root().display()));
    command.arg(format!("--lc-messages-dir={}", root().join("share/mysql").display()));
    command.arg(format!("--datadir={}", data.display()));
    command
}

/// The system tables, an account with a password, and a database; one statement per line.
fn bootstrap() -> String {
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
