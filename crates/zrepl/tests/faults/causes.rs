//! The faults, in the order of the page.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use crate::Fault;
use crate::machine::{Machine, PUSH_AND_SINK, Said, snapshot};
use crate::place::Daemon;

macro_rules! faults {
    ($($title:literal, $cause:literal, $run:expr;)+) => {
        vec![$(Fault { title: $title, cause: $cause, run: $run }),+]
    };
}

pub(crate) fn all() -> Vec<Fault> {
    faults! {
        "The other side cannot be reached", "Nobody listens at the address in `connect`.", unreachable;
        "The other side does not let this machine in", "`clients` of the sink has another address.", unknown_client;
        "A certificate with a name that is not allowed", "`client_cns` of the sink has another name.", unknown_name;
        "A certificate that has expired", "That of the job that sends.", expired;
        "The other side speaks another version of the protocol", "As zrepl 0.5 does.", old_protocol;
        "Something else listens there", "A web server, for instance.", web_server;
        "A pool is not imported", "The job's `filesystems` are on it.", no_pool;
        "The pool of the sink is not imported", "`root_fs` is on it.", no_root;
        "The receiver is out of space", "`zfs receive` says so.", no_space;
        "A quota on the receiver", "`zfs receive` says so.", quota;
        "No permission to send", "The daemon does not run as root.", || denied("'send '*", "cannot send 'src/a': permission denied");
        "No permission to receive", "The daemon does not run as root.",
            || denied("'receive '*|'recv '*", "cannot receive new filesystem stream: permission denied");
        "No permission to hold", "The daemon does not run as root.",
            || denied("'hold '*", "cannot hold snapshot 'src/a@two': permission denied");
        "No permission to destroy", "The daemon does not run as root.", cannot_destroy;
        "No permission to take snapshots", "The daemon does not run as root.", cannot_snapshot;
        "The receiver has diverged", "Somebody took a snapshot there.", diverged;
        "No snapshot in common", "The newest snapshot that both had was destroyed on the sender.", nothing_in_common;
        "The receiver was written to", "A file below the mountpoint was changed there.", modified;
        "What an interrupted step left cannot be resumed", "Its token is damaged, and the job has `dead_token: fail`.",
            dead_token;
        "A filesystem that is not encrypted", "The job has `send: {encrypted: true}`.", not_encrypted;
        "An encryption key is not loaded", "The job sends what is encrypted as plain text.", no_key;
        "A hook fails", "It ends with exit code 3.", || hook("echo 'database is busy' >&2; exit 3");
        "A hook hangs", "It does not end within its `timeout` of one second.", || hook("exec sleep 600");
        "A stream stands still", "`zfs send` hangs.", stuck;
        "`zfs` is not installed", "It is not in `PATH`.", not_installed;
        "A second daemon", "It has the same configuration.", second;
        "A mistake in a configuration that is read again", "A word is misspelled.", mistake;
        "A log server that is not there", "An outlet of type `tcp` points to where nobody listens.", no_log_server;
    }
}

const TCP: &str = "connect: {type: tcp, address: '127.0.0.1:PORT'}";
const LOCAL: &str = "connect: {type: local, listener_name: l, client_identity: me}";
const LISTENER: &str = "serve: {type: local, listener_name: l}";

fn over(machine: &Machine, connect: &str, serve: &str) -> String {
    let jobs = PUSH_AND_SINK.replace("OPTIONS", "").replace(LOCAL, connect).replace(LISTENER, serve);
    jobs.replace("PORT", &machine.port.to_string())
}

fn impatient() -> Machine {
    Machine::new().with_environment("ZREPL_REPLICATION_RECONNECT_HARD_FAIL_TIMEOUT", "1s")
}

fn unreachable() -> Said {
    let machine = impatient();
    machine.jobs(&over(&machine, TCP, LISTENER));
    machine.run("push")
}

fn unknown_client() -> Said {
    let machine = impatient();
    let serve = "serve: {type: tcp, listen: '127.0.0.1:PORT', clients: {'10.0.0.7': laptop}}";
    machine.jobs(&over(&machine, TCP, serve));
    machine.run("push")
}

fn unknown_name() -> Said {
    certificates(2999, "laptop")
}

fn expired() -> Said {
    certificates(2001, "me")
}

/// A job that shows a certificate of `me` that is valid so long, to a sink that lets one name in.
fn certificates(last_year: i32, allowed: &str) -> Said {
    let machine = impatient();
    for (name, year) in [("me", last_year), ("backup", 2999)] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut wanted = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        wanted.not_after = rcgen::date_time_ymd(year, 1, 1);
        wanted.not_before = rcgen::date_time_ymd(2000, 1, 1);
        wanted.distinguished_name = rcgen::DistinguishedName::new();
        wanted.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = wanted.self_signed(&key).unwrap().pem();
        fs::write(machine.place.path(&format!("{name}.crt")), certificate).unwrap();
        let path = machine.place.path(&format!("{name}.key"));
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let connect = "connect: {type: tls, address: '127.0.0.1:PORT', ca: backup.crt, cert: me.crt, \
                   key: me.key, server_cn: backup}";
    let serve = "serve: {type: tls, listen: '127.0.0.1:PORT', ca: me.crt, cert: backup.crt, \
                 key: backup.key, client_cns: [ALLOWED]}";
    machine.jobs(&over(&machine, connect, &serve.replace("ALLOWED", allowed)));
    machine.run("push")
}

fn old_protocol() -> Said {
    let banner = wire::handshake::Banner { version: 5, extensions: Vec::new() };
    peer(&banner.encode().unwrap())
}

fn web_server() -> Said {
    peer(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
}

/// A peer that says this to everybody.
fn peer(says: &[u8]) -> Said {
    let machine = impatient();
    let listener = TcpListener::bind(("127.0.0.1", machine.port)).unwrap();
    let says = says.to_vec();
    thread::spawn(move || {
        let mut served = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(&says);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            served.push(stream);
        }
    });
    machine.jobs(&over(&machine, TCP, LISTENER));
    machine.run("push")
}

fn no_pool() -> Said {
    let machine = Machine::new();
    machine.jobs(&PUSH_AND_SINK.replace("OPTIONS", "").replace("src<", "tank<"));
    in_order(machine.run("push"))
}

fn no_root() -> Said {
    let machine = Machine::new();
    machine.jobs(&PUSH_AND_SINK.replace("OPTIONS", "").replace("dst/sink", "tank/sink"));
    in_order(machine.run("push"))
}

/// The daemon looks for pools while its jobs begin: its line may come anywhere among theirs.
fn in_order(mut said: Said) -> Said {
    let mut lines: Vec<&str> = said.log.lines().collect();
    lines.sort_by_key(|line| (!line.starts_with("[WARN][job]"), !line.starts_with("[WARN]")));
    said.log = lines.join("\n") + "\n";
    said
}

fn no_space() -> Said {
    let machine = Machine::new();
    machine.fails("'receive '*|'recv '*", "cannot receive new filesystem stream: out of space");
    machine.run("push")
}

fn quota() -> Said {
    let machine = Machine::new();
    machine.received(&snapshot("one", 1));
    machine.fails(
        "'receive '*|'recv '*",
        "cannot receive incremental stream: destination dst/sink/me/src/a space quota exceeded.",
    );
    machine.run("push")
}

fn denied(words: &str, stderr: &str) -> Said {
    let machine = Machine::new();
    machine.fails(words, stderr);
    machine.run("push")
}

const SNAP: &str = "
  - name: snap
    type: snap
    filesystems: {'src/a': true}
    snapshotting: {type: SNAPSHOTTING}
    pruning: {keep: [{type: last_n, count: 1}]}";

fn cannot_destroy() -> Said {
    let machine = Machine::new();
    machine.jobs(&SNAP.replace("SNAPSHOTTING", "manual"));
    machine.fails("'destroy '*", "cannot destroy snapshots: permission denied");
    machine.run("snap")
}

const EACH_DAY: &str = "periodic, prefix: z_, interval: 24h, timestamp_format: unix-seconds";

fn cannot_snapshot() -> Said {
    let machine = Machine::new();
    machine.jobs(&SNAP.replace("SNAPSHOTTING", EACH_DAY));
    machine.fails("'snapshot '*", "cannot create snapshots : permission denied");
    after_a_round(&machine)
}

/// What is said about the first round of snapshots and the invocation that follows it.
fn after_a_round(machine: &Machine) -> Said {
    let mut daemon = machine.daemon();
    let first = daemon.lines_until("invocation finished");
    let mut said = machine.said(daemon, "snap");
    said.log = machine.neutral(&first) + &said.log;
    said
}

fn diverged() -> Said {
    let machine = Machine::new();
    machine.received(&(snapshot("one", 1) + &snapshot("by_hand", 7)));
    machine.run("push")
}

fn nothing_in_common() -> Said {
    let machine = Machine::new();
    machine.received(&snapshot("gone", 7));
    machine.run("push")
}

fn modified() -> Said {
    let machine = Machine::new();
    machine.received(&snapshot("one", 1));
    machine.fails(
        "'receive '*|'recv '*",
        "cannot receive incremental stream: destination dst/sink/me/src/a has been modified\n\
         since most recent snapshot",
    );
    machine.run("push")
}

/// Lets a property of a dataset have this value.
fn property(machine: &Machine, words: &str, dataset: &str, property: &str, value: &str) {
    let line = format!("{}\t{property}\t", dataset.replace('/', r"\/"));
    let instead = format!(r#""$here/../stand-in/zfs" "$@" | sed 's/^{line}.*/{line}{value}\t-/'; exit"#);
    machine.rule(words, &instead.replace('\t', "\\t"));
}

fn dead_token() -> Said {
    let machine = Machine::new();
    machine.received("");
    property(&machine, "'get '*", "dst/sink/me/src/a", "receive_resume_token", "1-abc-0-def");
    let jobs = PUSH_AND_SINK.replace("OPTIONS", "");
    machine.jobs(&jobs.replace("    pruning", "    conflict_resolution: {dead_token: fail}\n    pruning"));
    machine.run("push")
}

fn not_encrypted() -> Said {
    let machine = Machine::new();
    machine.jobs(&PUSH_AND_SINK.replace("OPTIONS", "encrypted: true"));
    machine.run("push")
}

fn no_key() -> Said {
    let machine = Machine::new();
    property(&machine, "'get '*", "src/a", "keystatus", "unavailable");
    machine.fails("'send '*", "warning: cannot send 'src/a@two': dataset key must be loaded");
    machine.run("push")
}

fn hook(does: &str) -> Said {
    let machine = Machine::new();
    let script = machine.place.path("before");
    fs::write(&script, format!("#!/bin/sh\n{does}\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let hook =
        format!("{EACH_DAY}, hooks: [{{type: command, path: {}, timeout: 1s, err_is_fatal: true}}]", script.display());
    machine.jobs(&SNAP.replace("SNAPSHOTTING", &hook));
    after_a_round(&machine)
}

fn stuck() -> Said {
    let machine = Machine::new()
        .with_environment("ZREPL_ENDPOINT_STALL_TIMEOUT", "500ms")
        .with_environment("ZREPL_REPLICATION_MAX_ATTEMPTS", "1");
    machine.rule("'send '*", r#""$here/../stand-in/zfs" "$@" | head -c 400; exec sleep 600"#);
    machine.run("push")
}

fn not_installed() -> Said {
    let machine = Machine::new();
    fs::remove_file(machine.place.path("bin/zfs")).unwrap();
    Said { typed: machine.typed(&["daemon"]), ..Said::default() }
}

fn second() -> Said {
    let machine = Machine::new();
    let first = machine.daemon();
    let typed = machine.typed(&["daemon"]);
    let said = machine.said(first, "push");
    assert_eq!(said.log, "", "the first one is unharmed");
    Said { typed, ..Said::default() }
}

fn mistake() -> Said {
    let machine = Machine::new();
    let daemon = machine.daemon();
    machine.jobs(&PUSH_AND_SINK.replace("OPTIONS", "").replace("snapshotting", "snapshoting"));
    let typed = machine.typed(&["reload"]);
    machine.jobs(&PUSH_AND_SINK.replace("OPTIONS", ""));
    Said { typed, status: String::new(), ..machine.said(daemon, "push") }
}

fn no_log_server() -> Said {
    let machine = Machine::new();
    let outlets = "  logging:\n    - {type: stdout, level: warn, format: human, time: false}\n    \
                   - {type: tcp, level: info, format: json, address: '127.0.0.1:PORT'}";
    machine.configure(&outlets.replace("PORT", &machine.port.to_string()), &PUSH_AND_SINK.replace("OPTIONS", ""));
    let (daemon, line) = Daemon::start_until(machine.place.command(&["daemon"]), "outlet error");
    let said = machine.said(daemon, "push");
    Said { log: machine.neutral(&line), status: String::new(), ..said }
}
