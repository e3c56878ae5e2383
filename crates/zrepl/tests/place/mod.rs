//! A place for the program to run in: a configuration, a socket's directory, and a `zfs` that is a script.

#![allow(dead_code, reason = "each file of tests needs some of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// How often something is looked at that happens soon; each look starts a process.
const LOOKS: usize = 1000;

/// A configuration, a socket's directory, and a `zfs` that is a shell script.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// `zfs` is what the script's body does.
    pub(crate) fn new(zfs: &str) -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        let bin = place.path("bin");
        fs::create_dir(&bin).unwrap();
        for program in ["zfs", "zpool"] {
            let path = bin.join(program);
            fs::write(&path, format!("#!/bin/sh\n{zfs}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        place.configure(
            "  - {name: snap, type: snap, filesystems: {'p<': true}, snapshotting: {type: manual}, \
             pruning: {keep: [{type: last_n, count: 1}]}}",
        );
        place
    }

    pub(crate) fn configure(&self, jobs: &str) {
        let socket = self.socket();
        let yaml = format!(
            "global:\n  control: {{sockpath: {}}}\n  logging: [{{type: stdout, level: info, format: human, time: false}}]\njobs:\n{jobs}\n",
            socket.display()
        );
        fs::write(self.path("zrepl.yml"), yaml).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/control")
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zrepl"));
        command.args(words).arg("--config").arg(self.path("zrepl.yml"));
        command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Transcript {
        Transcript::of(self.command(words).output().unwrap())
    }

    /// Starts a daemon and waits until it says that its job has started.
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_with(&[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn daemon_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.command(&["daemon"]);
        command.envs(environment.iter().copied());
        Daemon::start(command)
    }
}

#[derive(Debug)]
pub(crate) struct Transcript {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Transcript {
    pub(crate) fn of(output: Output) -> Transcript {
        Transcript {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Nothing said, all well.
    pub(crate) fn is_silent(&self) -> bool {
        self.code == Some(0) && self.out.is_empty() && self.err.is_empty()
    }

    /// Failed with this on standard error and nothing else.
    pub(crate) fn failed_with(&self, text: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        assert!(self.err.contains(text), "{self:?}");
        assert!(self.err.ends_with('\n') && !self.err.ends_with("\n\n"), "{self:?}");
    }
}

pub(crate) struct Daemon {
    child: Child,
    log: BufReader<ChildStdout>,
}

impl Daemon {
    pub(crate) fn start(command: Command) -> Daemon {
        Daemon::start_until(command, "starting job").0
    }

    /// The same until it says something else, and the line that it says.
    pub(crate) fn start_until(mut command: Command, words: &str) -> (Daemon, String) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        let mut daemon = Daemon { child, log };
        let line = daemon.wait_for_line(words);
        (daemon, line)
    }

    pub(crate) fn wait_for_line(&mut self, words: &str) -> String {
        let lines = self.lines_until(words);
        lines.lines().last().unwrap().to_owned() + "\n"
    }

    /// All lines up to the first with these words.
    pub(crate) fn lines_until(&mut self, words: &str) -> String {
        let mut seen = String::new();
        loop {
            let start = seen.len();
            if self.log.read_line(&mut seen).unwrap() == 0 {
                let mut error = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
                panic!("the daemon ended without saying {words:?}: {seen}{error}");
            }
            if seen[start..].contains(words) {
                return seen;
            }
        }
    }

    /// Where it says that it serves profiles.
    pub(crate) fn address_served(&mut self) -> String {
        let line = self.wait_for_line("serving profiles on http://");
        let (_, after) = line.split_once("http://").unwrap();
        after.split('/').next().unwrap().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The rest of the log, and how it ended.
    pub(crate) fn end(mut self) -> Transcript {
        let mut out = String::new();
        self.log.read_to_string(&mut out).unwrap();
        let mut end = Transcript::of(self.child.wait_with_output().unwrap());
        end.out = out;
        // What a daemon says that is not root's.
        let is_advice =
            |line: &&str| line.starts_with("warning: the daemon runs as user") || line.starts_with("  zfs allow");
        end.err = end.err.split_inclusive('\n').filter(|line| !is_advice(line)).collect();
        end
    }
}

pub(crate) fn status(place: &Place) -> serde_json::Value {
    let status = place.run(&["status", "--mode", "raw"]);
    assert_eq!((status.code, status.err.as_str()), (Some(0), ""));
    assert!(!status.out.contains('\n'), "one line without a line feed");
    serde_json::from_str(&status.out).unwrap()
}

/// Looks at the status until it is as wanted.
pub(crate) fn wait_for_status(place: &Place, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let mut looks = (0..LOOKS).map(|_| status(place));
    looks.find(|status| wanted(status)).expect("the status becomes as wanted")
}

/// The whole answer of an HTTP server.
pub(crate) fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
