//! A machine with a daemon on it: a stand-in for `zfs` that can be told to fail, and what the daemon says.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use regex::Regex;
use rustix::process::Signal;

use crate::place::{Daemon, Place};

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../xtask/fakezfs/fakezfs.c");

/// What `zfs` is: whatever rule fits the words, else the stand-in.
const ZFS: &str = r#"here="${0%/*}"
words="$*"
export FAKEZFS_STATE="$here/../state"
for rule in "$here"/../rules/*; do
    [ -f "$rule" ] && . "$rule"
done
exec "$here/../stand-in/${0##*/}" "$@""#;

/// The jobs of most faults: one that sends, and one that receives on the same machine.
pub(crate) const PUSH_AND_SINK: &str = "
  - name: push
    type: push
    connect: {type: local, listener_name: l, client_identity: me}
    filesystems: {'src<': true}
    snapshotting: {type: manual}
    send: {OPTIONS}
    pruning: {keep_sender: [{type: last_n, count: 9}], keep_receiver: [{type: last_n, count: 9}]}
  - name: sink
    type: sink
    root_fs: dst/sink
    serve: {type: local, listener_name: l}
    recv: {placeholder: {encryption: inherit}}";

/// A machine. What it has is in a folder that goes with it.
pub(crate) struct Machine {
    pub(crate) place: Place,
    /// Where nobody listens when the machine is made.
    pub(crate) port: u16,
    environment: Vec<(&'static str, &'static str)>,
}

/// What a person can read about a fault.
#[derive(Default)]
pub(crate) struct Said {
    /// What was typed, with what it printed.
    pub(crate) typed: String,
    pub(crate) log: String,
    pub(crate) status: String,
}

impl Machine {
    /// Pools `src` and `dst`; `src/a` has the snapshots `@one` and `@two`, and `dst/sink` nothing below it.
    pub(crate) fn new() -> Machine {
        let place = Place::new(ZFS);
        for folder in ["rules", "stand-in", "state", "state/fs"] {
            fs::create_dir(place.path(folder)).unwrap();
        }
        for name in ["zfs", "zpool"] {
            std::os::unix::fs::symlink(stand_in(), place.path("stand-in").join(name)).unwrap();
        }
        fs::write(place.path("state/txg"), 1000_u64.to_le_bytes()).unwrap();
        // Asked and given back at once: nobody else on the machine gets the same one soon.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let machine = Machine { place, port, environment: Vec::new() };
        machine.jobs(&PUSH_AND_SINK.replace("OPTIONS", ""));
        for name in ["src", "dst", "dst/sink"] {
            machine.dataset(name, "P\tzrepl:placeholder\ton\n");
        }
        machine.dataset("src/a", &(snapshot("one", 1) + &snapshot("two", 2)));
        machine
    }

    pub(crate) fn with_environment(mut self, name: &'static str, value: &'static str) -> Machine {
        self.environment.push((name, value));
        self
    }

    pub(crate) fn jobs(&self, jobs: &str) {
        self.configure("  logging: [{type: stdout, level: info, format: human, time: false}]", jobs);
    }

    pub(crate) fn configure(&self, global: &str, jobs: &str) {
        let socket = self.place.socket();
        let yaml = format!("global:\n  control: {{sockpath: {}}}\n{global}\njobs:\n{jobs}\n", socket.display());
        fs::write(self.place.path("zrepl.yml"), yaml).unwrap();
    }

    /// A dataset with these lines in its log; see the head of the stand-in's source.
    pub(crate) fn dataset(&self, name: &str, lines: &str) {
        let list = self.place.path("state/fslist");
        let known = fs::read_to_string(&list).unwrap_or_default();
        let line = format!("+\t{name}\n");
        if !known.contains(&line) {
            fs::write(&list, known + &line).unwrap();
        }
        let text = format!("F\t{}\t1\t1600000000\tfilesystem\n{lines}", 7 * name.len() + 1);
        fs::write(self.place.path("state/fs").join(name.replace('/', "!")), text).unwrap();
    }

    /// What the sink has of `src/a`.
    pub(crate) fn received(&self, lines: &str) {
        for name in ["dst/sink/me", "dst/sink/me/src"] {
            self.dataset(name, "P\tzrepl:placeholder\ton\n");
        }
        self.dataset("dst/sink/me/src/a", lines);
    }

    /// Lets `zfs` with words that fit this pattern of a shell do this instead.
    pub(crate) fn rule(&self, words: &str, instead: &str) {
        let folder = self.place.path("rules");
        let number = fs::read_dir(&folder).unwrap().count();
        fs::write(folder.join(number.to_string()), format!("case \"$words\" in {words}) {instead};; esac\n")).unwrap();
    }

    /// Lets it fail with these words.
    pub(crate) fn fails(&self, words: &str, stderr: &str) {
        self.rule(words, &format!("echo \"{stderr}\" >&2; exit 1"));
    }

    pub(crate) fn daemon(&self) -> Daemon {
        self.place.daemon_with(&self.environment)
    }

    /// Wakes the job up, waits until it is done, and tells what can be read then.
    pub(crate) fn run(&self, job: &str) -> Said {
        let daemon = self.daemon();
        self.place.run(&["signal", "wakeup", "--wait", job]);
        self.said(daemon, job)
    }

    /// Stops the daemon, and tells what can be read.
    pub(crate) fn said(&self, daemon: Daemon, job: &str) -> Said {
        let status = self.place.run(&["status", "--mode", "dump", "--job", job]);
        daemon.signal(Signal::TERM);
        let end = daemon.end();
        assert_eq!((status.code, status.err.as_str()), (Some(0), ""), "{status:?}");
        let mut typed = self.neutral(&end.err);
        if !typed.is_empty() {
            typed.insert_str(0, "$ zrepl daemon\n");
        }
        Said { typed, log: by_job(&self.neutral(&end.out)), status: self.neutral(&status.out) }
    }

    /// What was typed, and what came of it.
    pub(crate) fn typed(&self, words: &[&str]) -> String {
        let transcript = self.place.run(words);
        let mut text = format!("$ zrepl {}\n{}{}", words.join(" "), transcript.out, transcript.err);
        if transcript.code != Some(0) {
            let _ = writeln!(text, "(exit code {})", transcript.code.unwrap());
        }
        self.neutral(&text)
    }

    /// A text without what is another one each time, and what is said at each start and end.
    pub(crate) fn neutral(&self, text: &str) -> String {
        let folder = self.place.path("");
        let text = text.replace(&format!("{}/", folder.display()).replace("//", "/"), "/");
        let text = text.replace(&self.port.to_string(), "8888");
        let mut lines = String::new();
        for line in text.lines().filter(|line| !is_routine(line)) {
            let _ = writeln!(lines, "{}", neutral_line(line));
        }
        lines
    }
}

/// The lines of each job together: which of two jobs is the first to say something is another one each time.
fn by_job(log: &str) -> String {
    let mut lines: Vec<_> = log.split_inclusive('\n').collect();
    lines.sort_by_key(|line| line.split(['[', ']']).nth(3));
    lines.concat()
}

fn is_routine(line: &str) -> bool {
    const ROUTINE: [&str; 11] = [
        ": starting job",
        ": starting daemon",
        ": stopping, waiting for jobs to finish",
        ": job exited",
        ": daemon exiting",
        ": invocation started",
        ": planned filesystems",
        "warning: the daemon runs as user",
        "  zfs allow",
        ": replicated fs=",
        "]: listening on ",
    ];
    ROUTINE.iter().any(|routine| line.contains(routine))
}

fn neutral_line(line: &str) -> String {
    static PATTERNS: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let pattern = |text, neutral| (Regex::new(text).unwrap(), neutral);
        vec![
            pattern(r"20\d\d-\d\d-\d\dT[0-9:.]+Z", "TIME"),
            pattern(r"(20\d\d-\d\d-\d\d )?\b\d\d:\d\d:\d\d\b", "TIME"),
            // The daemon, in spans.
            pattern(r"\]\[[A-Za-z0-9+/]{4}\$", "][aB3d$"),
            pattern(r#"duration="[0-9.]+s""#, r#"duration="0.1s""#),
            pattern(r#"bytes="[1-9][0-9]*""#, r#"bytes="…""#),
            pattern(r" +[0-9.]+ (B|KiB) / ", " … / "),
            pattern(r"20\d\d-\d\d-\d\d TIME", "TIME"),
            pattern(r"z_1\d{9}\b", "z_1700000000"),
            pattern(r"\b[0-9]+\.[0-9]s:", "0.5s:"),
            pattern(r"\(\d+s\)$", "(1s)"),
            pattern(r"\[ +\d\.\d{3}s\]", "[   0.010s]"),
            pattern(r"(! error .*)  \d\.\ds$", "$1  0.1s"),
            pattern(r"\b\d{3,}d( \d+h)? old", "500d old"),
            pattern(r"in 23h 59m", "in 24h"),
            pattern(r"127\.0\.0\.1:\d{5}\b", "127.0.0.1:40000"),
        ]
    });
    patterns
        .iter()
        .fold(line.trim_end().to_owned(), |line, (pattern, neutral)| pattern.replace_all(&line, *neutral).into_owned())
}

/// A snapshot's line, with a guid and times that follow from its number.
pub(crate) fn snapshot(name: &str, number: u64) -> String {
    format!("S\t{name}\t{}\t{}\t{}\t2000\n", 100 + number, 10 * number, 1_700_000_000 + number)
}

/// The stand-in, compiled once per run of the tests.
fn stand_in() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("stand-in-{}", std::process::id()));
        let compiled = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args(["-O1", "-std=gnu11", "-w", "-o"])
            .arg(&program)
            .arg(STAND_IN)
            .status();
        assert!(compiled.unwrap().success(), "the linker of Rust compiles C as well");
        program
    })
}
