//! The program as a person runs it: words in, lines and exit codes out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod place;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use place::{Daemon, Place, Transcript, status, wait_for_status};

#[test]
fn help_is_no_error_and_unknown_words_are() {
    let place = Place::new("exit 1");
    let bare = Transcript::of(Command::new(env!("CARGO_BIN_EXE_zrepl")).output().unwrap());
    assert!(bare.code == Some(0) && bare.out.contains("Usage: zrepl") && bare.err.is_empty(), "{bare:?}");
    for words in [&["--help"][..], &["help", "daemon"], &["status", "-h"]] {
        let help = Transcript::of(Command::new(env!("CARGO_BIN_EXE_zrepl")).args(words).output().unwrap());
        assert!(help.code == Some(0) && help.out.contains("Example") && help.err.is_empty(), "{words:?} {help:?}");
    }
    place.run(&["dance"]).failed_with("unrecognized subcommand 'dance'");
    place.run(&["signal", "kick", "snap"]).failed_with("invalid value 'kick'");
    place.run(&["daemon", "now"]).failed_with("unexpected argument 'now'");
    place.run(&["status", "--mode", "loud"]).failed_with("invalid value 'loud'");
    place.run(&["status", "--delay", "1"]).failed_with("it has no unit: write ms, s, m");
    place.run(&["status", "--max-snapshot-age", "1h"]).failed_with("--check");
    let unknown = place.run(&["status", "--check", "--max-snapshot-age", "5"]);
    assert!(unknown.code == Some(3) && unknown.out.starts_with("ZREPL UNKNOWN - invalid value '5'"), "{unknown:?}");
}

#[test]
fn version_needs_a_daemon_only_for_its_part() {
    let place = Place::new("exit 1");
    let own = place.run(&["version", "--show", "client"]);
    assert!(own.out.starts_with("client: zrepl version=") && own.out.contains(" GOOS=linux GOARCH="), "{own:?}");
    let both = place.run(&["version"]);
    assert_eq!((both.code, &both.out), (Some(1), &own.out));
    assert!(both.err.starts_with("server: error: cannot reach the daemon on "), "{both:?}");

    let daemon = place.daemon();
    let both = place.run(&["version"]);
    assert_eq!((both.code, both.err.as_str()), (Some(0), ""));
    assert_eq!(both.out, own.out.clone() + &own.out.replace("client", "server"));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn configcheck_is_silent_or_says_where_and_what() {
    let place = Place::new("exit 1");
    assert!(place.run(&["configcheck"]).is_silent());
    place.configure("  - {name: snap, type: snip}\n  - {name: _x, type: snap}");
    let bad = place.run(&["configcheck"]);
    bad.failed_with("zrepl.yml:5:24");
    assert!(bad.err.matches("error").count() >= 2, "all mistakes at once: {bad:?}");
    place.run(&["daemon"]).failed_with("zrepl.yml:5:24");
    place.run(&["status", "--mode", "raw"]).failed_with("zrepl.yml:5:24");
    fs::remove_file(place.path("zrepl.yml")).unwrap();
    place.run(&["configcheck"]).failed_with("zrepl.yml");
}

#[test]
fn configcheck_prints_what_takes_effect_as_a_configuration() {
    let place = Place::new("exit 1");
    let yaml = place.run(&["configcheck", "--format", "yaml"]);
    assert_eq!((yaml.code, yaml.err.as_str()), (Some(0), ""));
    assert!(yaml.out.contains("\n    filesystems:\n      \"p<\": true\n"), "{yaml:?}");
    assert!(yaml.out.contains("sockdir: /var/run/zrepl/stdinserver\n"), "defaults are there: {yaml:?}");
    let json = place.run(&["configcheck", "--format", "json", "--what", "config"]);
    assert!(json.out.ends_with("}\n") && json.out.lines().count() == 1, "{json:?}");
    let parsed: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(parsed["jobs"][0]["pruning"]["keep"][0]["count"], 1);

    for text in [&yaml.out, &json.out] {
        fs::write(place.path("zrepl.yml"), text).unwrap();
        assert!(place.run(&["configcheck", "--strict"]).is_silent());
        assert_eq!(place.run(&["configcheck", "--format", "yaml"]).out, yaml.out);
    }
}

#[test]
fn configcheck_prints_parts() {
    let place = Place::new("exit 1");
    let out = |what, format| place.run(&["configcheck", "--what", what, "--format", format]).out;
    let logging = "global:\n  logging:\n    - type: stdout\n      level: info\n      format: human\n      \
                   time: false\n      color: true\n";
    assert_eq!(out("logging", "yaml"), logging);
    assert!(out("jobs", "yaml").starts_with("jobs:\n  - type: snap\n    name: snap\n"));
    assert!(out("all", "pretty").starts_with("Config {\n"));
    assert!(out("logging", "pretty").starts_with("[\n    Stdout(\n"));
    assert!(place.run(&["configcheck", "--what", "jobs"]).is_silent(), "prints only in a format");
    place.run(&["configcheck", "--format", "toml"]).failed_with("[possible values: yaml, json, pretty]");
    place.run(&["configcheck", "--what", "some"]).failed_with("[possible values: all, config, jobs, logging]");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["configcheck", "--format", "yaml"]).stdout(full).output().unwrap();
    Transcript::of(output).failed_with("cannot write to standard output: No space left on device");
}

#[test]
fn configcheck_prints_the_schema_whatever_the_configuration_is_like() {
    let place = Place::new("exit 1");
    fs::remove_file(place.path("zrepl.yml")).unwrap();
    let schema = place.run(&["configcheck", "--schema"]);
    assert_eq!((schema.code, schema.err.as_str()), (Some(0), ""));
    assert_eq!(schema.out, include_str!("../../../dist/zrepl.schema.json"));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["configcheck", "--schema"]).stdout(full).output().unwrap();
    Transcript::of(output).failed_with("cannot write to standard output: No space left on device");
}

#[test]
fn configcheck_looks_at_certificates_and_keys_unless_told_not_to() {
    let place = Place::new("exit 1");
    place.configure(
        "  - {name: in, type: sink, root_fs: p, serve: {type: tls, listen: ':8888', ca: ca.crt, cert: in.crt, \
         key: in.key, client_cns: [a]}}",
    );
    let missing = place.run(&["configcheck", "--format", "yaml"]);
    missing.failed_with("cannot read in.key: no such file or directory");
    assert_eq!(missing.err.matches("error: ").count(), 3, "all at once: {missing:?}");
    assert!(place.run(&["configcheck", "--skip-cert-check", "--strict"]).is_silent());

    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = |last_year| {
        let mut wanted = rcgen::CertificateParams::new(["in".to_owned()]).unwrap();
        wanted.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        wanted.self_signed(&key).unwrap().pem()
    };
    for (name, text) in [("ca.crt", certificate(2999)), ("in.crt", certificate(2999)), ("in.key", key.serialize_pem())]
    {
        fs::write(place.path(name), text).unwrap();
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(place.run(&["configcheck", "--strict"]).is_silent());
    fs::set_permissions(place.path("in.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = place.run(&["configcheck"]);
    assert!(open.code == Some(0) && open.err.starts_with("warning: everybody can read the private key"), "{open:?}");
    place.run(&["configcheck", "--strict"]).failed_with("1 warning, which a strict check does not let pass\n");

    fs::set_permissions(place.path("in.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(place.path("in.crt"), certificate(2001)).unwrap();
    let expired = place.run(&["configcheck"]);
    assert!(expired.code == Some(0) && expired.err.contains("in in.crt has expired on 2001-01-01"), "{expired:?}");
    place.run(&["configcheck", "--strict"]).failed_with("1 warning, which a strict check does not let pass\n");
}

#[test]
fn a_daemon_says_what_is_wrong_with_certificates_and_starts() {
    let place = Place::new("exit 1");
    place.configure(
        "  - {name: snap, type: snap, filesystems: {p: true}, pruning: {keep: [{type: regex, regex: '.*'}]}, \
         snapshotting: {type: periodic, prefix: p, interval: 1h, hooks: [{type: postgres-checkpoint, \
         dsn: 'host=db sslrootcert=root.crt', filesystems: {p: true}}]}}",
    );
    let daemon = place.daemon();
    daemon.signal(Signal::TERM);
    let end = daemon.end();
    assert!(end.code == Some(0) && end.err.starts_with("error: cannot read root.crt: no such file"), "{end:?}");
}

#[test]
fn the_configuration_of_the_readme_can_be_used() {
    let place = Place::new("exit 1");
    let readme = include_str!("../../../README.md");
    let (_, after) = readme.split_once("```yaml\n").unwrap();
    let (yaml, _) = after.split_once("```").unwrap();
    fs::write(place.path("zrepl.yml"), yaml).unwrap();
    assert!(yaml.contains("type: push") && place.run(&["configcheck"]).is_silent());
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_and_no_panic() {
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let place = Place::new("exit 1");
    let output = place.command(&["version", "--show", "client"]).stdout(full()).output().unwrap();
    Transcript::of(output).failed_with("cannot write to standard output: No space left on device");
    let output = place.command(&["--help"]).stdout(full()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn without_a_daemon_clients_say_which_socket_and_what_to_do() {
    let place = Place::new("exit 1");
    let expected = format!("cannot reach the daemon on {}: ", place.socket().display());
    for words in [&["status", "--mode", "raw"][..], &["signal", "wakeup", "snap"], &["signal", "reset", "snap"]] {
        let refused = place.run(words);
        refused.failed_with(&expected);
        refused.failed_with("Start it with `zrepl daemon`");
    }
    for words in [&["status"][..], &["status", "--mode", "dump"]] {
        place.run(words).failed_with(&expected);
    }
    let checked = place.run(&["status", "--check"]);
    assert_eq!((checked.code, checked.err.as_str()), (Some(2), ""));
    assert!(checked.out.starts_with(&format!("ZREPL CRITICAL - {expected}")), "{checked:?}");
    for mode in ["interactive", "legacy"] {
        place.run(&["status", "--mode", mode]).failed_with("use `--mode dump` for text, `--mode raw` for JSON");
    }
}

#[test]
fn the_status_is_text_where_there_is_no_terminal() {
    let place = Place::new(POOL);
    let daemon = place.daemon();
    let text = place.run(&["status"]);
    assert_eq!((text.code, text.err.as_str()), (Some(0), ""));
    assert!(text.out.starts_with("snap  snap\nnot run yet\n\nPruning: not started\n"), "{text:?}");
    assert_eq!(place.run(&["status", "--mode", "dump", "--job", "snap"]).out, text.out);
    for words in [&["status", "--job", "snip"][..], &["status", "--json", "--job", "snip"]] {
        place.run(words).failed_with("job \"snip\" not found: there are snap");
    }
    let alone: serde_json::Value =
        serde_json::from_str(&place.run(&["status", "--json", "--job", "snap"]).out).unwrap();
    let names: Vec<&str> = alone["Jobs"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((names, &alone["Version"]), (vec!["snap"], &1.into()));
    let all = place.run(&["status", "--mode", "raw", "--job", "snip"]);
    assert!(all.code == Some(0) && all.out.contains("_control"), "as zrepl does: {all:?}");
    let colored = place.run(&["status", "--color", "always"]);
    assert!(colored.out.starts_with("\u{1b}[1msnap\u{1b}[0m"), "{colored:?}");

    let raw = place.run(&["status", "--mode", "raw"]);
    fs::write(place.path("saved.json"), &raw.out).unwrap();
    let socket = format!("live={}", place.socket().display());
    let both = place.run(&["status", "--from", "saved.json", "--socket", &socket]);
    assert_eq!((both.code, both.err.as_str()), (Some(0), ""));
    assert!(both.out.contains("live:snap  snap\n") && both.out.contains("saved:snap  snap\n"), "{both:?}");
    place.run(&["status", "--mode", "raw", "--from", "saved.json", "--socket", &socket]).failed_with("one report");
    fs::write(place.path("broken.json"), "{").unwrap();
    place.run(&["status", "--from", "broken.json"]).failed_with("in broken.json: not a report");
    let partly = place.run(&["status", "--from", "broken.json", "--socket", &socket]);
    assert_eq!(partly.code, Some(1));
    assert!(partly.out.contains("live:snap") && partly.err.contains("broken.json"), "{partly:?}");

    let checked = place.run(&["status", "--check"]);
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""));
    assert!(checked.out.starts_with("ZREPL OK - 1 job, 0 filesystems | 'snap_errors'=0;;;0\n"), "{checked:?}");
    let nothing = place.run(&["status", "--check", "--job", "snip"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(3), "ZREPL UNKNOWN - job \"snip\" not found\n"));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
    place.configure("  - {name: snap, type: snip}");
    let unknown = place.run(&["status", "--check"]);
    assert!(unknown.code == Some(3) && unknown.out.starts_with("ZREPL UNKNOWN - "), "{unknown:?}");
}

#[test]
fn a_daemon_does_not_start_where_it_cannot_work() {
    let place = Place::new("exit 1");
    let output = place.command(&["daemon"]).env("PATH", "/nowhere").output().unwrap();
    Transcript::of(output).failed_with("cannot find `zfs` in PATH=/nowhere (install OpenZFS");
    let output = place.command(&["daemon"]).env("ZREPL_REPLICATION_MAX_ATTEMPTS", "many").output().unwrap();
    Transcript::of(output).failed_with("ZREPL_REPLICATION_MAX_ATTEMPTS=\"many\" is not a whole number");
    fs::create_dir(place.path("run")).unwrap();
    fs::set_permissions(place.path("run"), fs::Permissions::from_mode(0o755)).unwrap();
    place.run(&["daemon"]).failed_with("socket directory must not be world-accessible");
}

#[test]
fn a_second_daemon_is_refused_and_the_first_one_unharmed() {
    let place = Place::new("exit 1");
    let first = place.daemon();
    let socket = place.socket();
    place
        .run(&["daemon"])
        .failed_with(&format!("cannot listen on socket {}: another zrepl daemon or job uses it", socket.display()));
    assert_eq!(status(&place)["Jobs"]["snap"]["type"], "snap");
    first.signal(Signal::INT);
    let end = first.end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""));
    assert!(end.out.contains("[INFO]: stopping, waiting for jobs to finish cause=\"SIGINT\""), "{end:?}");
    assert!(end.out.ends_with("[INFO]: daemon exiting\n"), "{end:?}");
    assert!(!socket.exists());
}

#[test]
fn another_configuration_is_used_without_a_restart_and_one_with_a_mistake_is_not() {
    const JOB: &str = "  - {name: NAME, type: snap, filesystems: {'p<': true}, snapshotting: {type: manual}, \
                       pruning: {keep: [{type: last_n, count: 1}]}}\n";
    let place = Place::new("exit 1");
    let mut daemon = place.daemon();
    place.configure(&(JOB.replace("NAME", "snap") + &JOB.replace("NAME", "more")));
    let reloaded = place.run(&["reload"]);
    assert_eq!((reloaded.code, reloaded.out.as_str()), (Some(0), "started more; 1 unchanged\n"), "{reloaded:?}");
    assert_eq!(status(&place)["Jobs"]["more"]["type"], "snap");

    place.configure(&JOB.replace("NAME", "snap").replace("count: 1", "count: one"));
    daemon.signal(Signal::HUP);
    daemon.wait_for_line("the earlier configuration stays in use: ");
    place.run(&["reload"]).failed_with("zrepl.yml:");

    place.configure(&JOB.replace("NAME", "snap").replace("count: 1", "count: 2"));
    daemon.signal(Signal::HUP);
    daemon.wait_for_line("the configuration was read again: stopped more; restarted snap; 0 unchanged");
    assert!(status(&place)["Jobs"]["more"].is_null());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn a_daemon_that_listens_where_it_did_before_is_hinted_at() {
    let place = Place::new("exit 1");
    let daemon = place.daemon();
    let file = std::fs::read_to_string(place.path("zrepl.yml")).unwrap();
    std::fs::write(place.path("zrepl.yml"), file.replace("run/control", "run/moved")).unwrap();
    let refused = place.run(&["reload"]);
    refused.failed_with("run/moved: ");
    refused.failed_with("`global.control.sockpath` has changed since");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn the_service_manager_hears_of_every_state() {
    let place = Place::new("exit 1");
    let manager = UnixDatagram::bind(place.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hear = |state: &str| {
        let mut bytes = [0; 200];
        loop {
            let length = manager.recv(&mut bytes).unwrap();
            if std::str::from_utf8(&bytes[..length]).unwrap().lines().any(|line| line == state) {
                return;
            }
        }
    };
    let mut command = place.command(&["daemon"]);
    command.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "20000");
    let mut daemon = Daemon::start(command);
    hear("READY=1");
    hear("WATCHDOG=1");
    daemon.signal(Signal::HUP);
    hear("RELOADING=1");
    hear("READY=1");
    daemon.wait_for_line("the configuration was read again: no job has changed; 1 unchanged");
    daemon.signal(Signal::TERM);
    hear("STOPPING=1");
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn the_first_signal_drains_the_second_one_cuts_and_the_third_one_waits_for_nothing() {
    let place = Place::new(POOL);
    let hook = place.path("hook");
    fs::write(&hook, "#!/bin/sh\ncase $ZREPL_HOOKTYPE in post_snapshot) : > \"$0.post\"; exec sleep 20;; esac\n")
        .unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let hooks = format!("interval: 1h, hooks: [{{type: command, path: {}, timeout: 60s}}]", hook.display());
    place.configure(&PERIODIC.replace("interval: 1h", &hooks));
    let mut daemon = place.daemon();
    let begun = place.path("hook.post");
    wait_for_status(&place, |_| begun.exists());
    daemon.signal(Signal::TERM);
    daemon.wait_for_line("waiting up to 30s for what is under way: round of snapshots (job snap)");
    daemon.signal(Signal::TERM);
    daemon.wait_for_line("SIGTERM again: what is under way is cut");
    daemon.signal(Signal::TERM);
    let end = daemon.end();
    assert_eq!(end.code, Some(1));
    assert!(end.err.ends_with("stopped at once by another signal (SIGTERM)\n"), "{end:?}");
}

#[test]
fn a_killed_daemon_leaves_nothing_in_the_way_of_the_next() {
    let place = Place::new("exit 1");
    let first = place.daemon();
    first.signal(Signal::KILL);
    assert_eq!(first.end().code, None);
    assert!(place.socket().exists(), "a killed daemon cannot clean up");
    place.run(&["signal", "wakeup", "snap"]).failed_with("Connection refused");
    let second = place.daemon();
    assert_eq!(status(&place)["Jobs"]["_control"]["type"], "internal");
    second.signal(Signal::TERM);
    assert_eq!(second.end().code, Some(0));
}

#[test]
fn signals_reach_a_job_whose_zfs_hangs_and_a_stop_leaves_no_child() {
    let place = Place::new("echo $$ >> \"$0.pids\"; exec sleep 1000");
    let mut daemon = place.daemon();
    assert!(place.run(&["signal", "wakeup", "snap"]).is_silent());
    let busy = wait_for_status(&place, |status| status["Global"]["ZFSCmds"]["Active"].is_array());
    assert_eq!(busy["Global"]["ZFSCmds"]["Active"][0]["Args"][0], "zfs");
    assert!(place.run(&["signal", "wakeup", "snap"]).is_silent(), "queued");
    place.run(&["signal", "wakeup", "snap"]).failed_with("already woken up\n");
    assert!(place.run(&["signal", "reset", "snap"]).is_silent());
    daemon.wait_for_line("invocation cancelled invocation=\"1\"");
    wait_for_status(&place, |status| {
        status["Jobs"]["snap"]["snap"]["Invocation"]["Number"] == 2 && status["Global"]["ZFSCmds"]["Active"].is_array()
    });
    daemon.signal(Signal::TERM);
    let end = daemon.end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""));
    assert!(end.out.contains("invocation cancelled invocation=\"2\""), "{end:?}");
    let pids = fs::read_to_string(place.path("bin/zfs.pids")).unwrap();
    assert!(pids.lines().count() >= 2, "{pids}");
    for pid in pids.lines() {
        assert!(!Path::new("/proc").join(pid).exists(), "child {pid} is left");
    }
}

#[test]
fn who_waits_for_a_wake_up_gets_its_outcome() {
    let place = Place::new(
        "test -e \"$0.broken\" && exit 1; case $1 in get) printf 'p\\ttype\\tfilesystem\\t-\\np\\tkeystatus\\t-\\t-\\np\\treceive_resume_token\\t-\\t-\\np\\tzrepl:placeholder\\t-\\t-\\n';; esac",
    );
    let daemon = place.daemon();
    let done = place.run(&["signal", "wakeup", "snap", "--wait"]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.out.starts_with("1 filesystem, 0 steps with 0 B, 0 snapshots destroyed, in "), "{done:?}");
    fs::write(place.path("bin/zfs.broken"), "").unwrap();
    let failed = place.run(&["signal", "wakeup", "snap", "--wait"]);
    assert!(failed.out.starts_with("0 filesystems"), "{failed:?}");
    assert_eq!((failed.code, failed.err.as_str()), (Some(1), "not all was done: 1 error (see the daemon's log)\n"));
    place.run(&["signal", "wakeup", "nobody", "--wait"]).failed_with("Job nobody does not exist\n");
    place.run(&["signal", "wakeup", "_control", "--wait"]).failed_with("already woken up: job _control serves others");
    place.run(&["signal", "reset", "snap", "--wait"]).failed_with("`--wait` goes with `signal wakeup` only\n");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn who_waits_when_the_daemon_stops_or_does_not_know_how_is_told() {
    let place = Place::new(&format!("test -e \"$0.hangs\" && exec sleep 1000; {POOL}"));
    let daemon = place.daemon();
    // What comes before the first invocation is over then.
    assert_eq!(place.run(&["signal", "wakeup", "snap", "--wait"]).code, Some(0));
    fs::write(place.path("bin/zfs.hangs"), "").unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| place.run(&["signal", "wakeup", "snap", "--wait"]));
        wait_for_status(&place, |status| status["Jobs"]["snap"]["snap"]["Invocation"]["Number"] == 2);
        daemon.signal(Signal::TERM);
        let told = waits.join().unwrap();
        assert_eq!(told.code, Some(1));
        // The end of the invocation and that of the daemon race.
        let lost = told.err.starts_with("invocation 2 of job snap is lost sight of: ");
        assert!(lost || told.err == "the invocation was cancelled before its end\n", "{told:?}");
    });
    assert_eq!(daemon.end().code, Some(0));

    // As daemons answer that know nothing of it.
    let listener = std::os::unix::net::UnixListener::bind(place.socket()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"POST /wakeup "));
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n").unwrap();
        });
        place
            .run(&["signal", "wakeup", "snap", "--wait"])
            .failed_with("so job snap was not woken up: leave out `--wait`");
    });
}

#[test]
fn a_round_of_snapshots_is_taken_when_asked_for() {
    let place = Place::new(POOL);
    place.configure(PERIODIC);
    let mut daemon = place.daemon();
    // Without snapshots the first round is taken at once, the next one in an hour.
    wait_for_status(&place, |status| status["Jobs"]["snap"]["snap"]["Snapshotting"]["Periodic"]["State"] == 16);
    fs::write(place.path("bin/zfs.taken"), "").unwrap();
    assert!(place.run(&["signal", "snapshot", "snap"]).is_silent());
    daemon.wait_for_line("snapshot taken");
    daemon.wait_for_line("snapshot taken");
    let taken = fs::read_to_string(place.path("bin/zfs.taken")).unwrap();
    assert!(taken.starts_with("p@z_") && taken.lines().count() == 1, "{taken}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn one_round_of_snapshots_is_asked_for_at_a_time() {
    let place = Place::new("exec sleep 1000");
    place.configure(PERIODIC);
    let daemon = place.daemon();
    assert!(place.run(&["signal", "snapshot", "snap"]).is_silent());
    place.run(&["signal", "snapshot", "snap"]).failed_with("already snapshotting\n");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
}

/// A pool with one filesystem and no snapshot, which takes some.
const POOL: &str = "case $1 in get) printf 'p\\ttype\\tfilesystem\\t-\\np\\tkeystatus\\t-\\t-\\np\\treceive_resume_token\\t-\\t-\\np\\tzrepl:placeholder\\t-\\t-\\n';; snapshot) echo $2 >> \"$0.taken\";; esac";

const PERIODIC: &str = "  - {name: snap, type: snap, filesystems: {'p<': true}, pruning: {keep: [{type: last_n, count: 1}]}, \
     snapshotting: {type: periodic, interval: 1h, prefix: z_}}";

#[test]
fn words_for_what_cannot_be_signalled() {
    let place = Place::new("exit 1");
    let daemon = place.daemon();
    place.run(&["signal", "wakeup", "nobody"]).failed_with("Job nobody does not exist\n");
    place.run(&["signal", "reset", "snap"]).failed_with("already reset\n");
    place.run(&["signal", "wakeup", "_control"]).failed_with("already woken up: job _control serves others");
    place.run(&["signal", "snapshot", "nobody"]).failed_with("Job nobody does not exist\n");
    place.run(&["signal", "snapshot", "snap"]).failed_with(
        "the snapshots of job snap are taken by others (`snapshotting` is `manual`): use `zfs snapshot`, or configure \
         `periodic` or `cron` with a prefix\n",
    );
    place.run(&["signal", "snapshot", "_control"]).failed_with("job _control takes no snapshots: ");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn a_strict_check_fails_on_warnings() {
    let place = Place::new("exit 1");
    assert!(place.run(&["configcheck", "--strict", "--skip-cert-check"]).is_silent());
    let sink = "  - {name: SINK, type: sink, root_fs: p/ROOT, serve: {type: local, listener_name: SINK}}";
    let sinks = [("one", "x"), ("two", "x/y")].map(|(name, root)| sink.replace("SINK", name).replace("ROOT", root));
    place.configure(&sinks.join("\n"));
    let lenient = place.run(&["configcheck"]);
    assert!(lenient.code == Some(0) && lenient.err.contains("warning"), "{lenient:?}");
    let strict = place.run(&["configcheck", "--strict"]);
    strict.failed_with("1 warning, which a strict check does not let pass\n");
    assert!(strict.err.starts_with(&lenient.err), "{strict:?}");
}

#[test]
fn filesystems_are_tested_by_name_and_from_a_listing() {
    let place = Place::new(
        r"[ $1 = get ] || exit 0; for f in p p/a p/a/tmp q; do printf '%s\ttype\tfilesystem\t-\n%s\tkeystatus\t-\t-\n' $f $f; done",
    );
    let snap = "  - {name: snap, type: snap, filesystems: {'p<': true, 'p/a/tmp': false}, \
                snapshotting: {type: manual}, pruning: {keep: [{type: last_n, count: 1}]}}";
    let sink = "  - {name: sink, type: sink, root_fs: q, serve: {type: local, listener_name: l}}";
    place.configure(&format!("{snap}\n{sink}"));
    let test = |words: &[&str]| place.run(&[&["test", "filesystems", "--job"], words].concat());
    let said = |out: &str| (Some(0), out.to_owned(), String::new());
    let transcript = |words: &[&str]| {
        let Transcript { code, out, err } = test(words);
        (code, out, err)
    };
    assert_eq!(transcript(&["snap", "--input", "p/x"]), said("ACCEPT\tp/x\t\n"));
    assert_eq!(transcript(&["snap", "--input", "other"]), said("REJECT\tother\t\n"));
    assert_eq!(
        transcript(&["snap", "--input", "p/a/tmp", "--explain"]),
        said("REJECT\tp/a/tmp\tentry \"p/a/tmp\": false\n")
    );
    assert_eq!(transcript(&["snap", "--input", "other", "--explain"]), said("REJECT\tother\tno entry covers it\n"));
    assert_eq!(transcript(&["snap", "--all"]), said("ACCEPT\tp\t\nACCEPT\tp/a\t\nREJECT\tp/a/tmp\t\nREJECT\tq\t\n"));
    let bad = test(&["snap", "--input", "p//x"]);
    assert!(bad.code == Some(1) && bad.out.starts_with("ERROR\tp//x\t"), "{bad:?}");
    test(&["none", "--all"]).failed_with("job \"none\" not defined in config\n");
    test(&["sink", "--all"]).failed_with("job \"sink\" does not have filesystems filter");
    test(&["snap"]).failed_with("required");
    test(&["snap", "--all", "--input", "p"]).failed_with("cannot be used with");
}

/// A `zfs` with a filesystem of three snapshots that writes down what it is asked.
const THREE_SNAPSHOTS: &str = r#"
echo "$1" >> "$0.asked"
test -e "${0%/*}/away" && exit 1
case "$1" in
    get) printf 'p/a\ttype\tfilesystem\t-\np/a\tkeystatus\t-\t-\n';;
    list) for n in 1 2 3; do printf 'p/a@s%s\t%s\t%s\t171568800%s\t0\n' $n $n $n $n; done;;
    *) exit 1;;
esac"#;

#[test]
fn a_plan_comes_from_the_daemon_or_without_one_and_changes_nothing() {
    let place = Place::new(THREE_SNAPSHOTS);
    place.configure(
        "  - {name: snap, type: snap, filesystems: {'p/a<': true}, snapshotting: {type: manual}, \
         pruning: {keep: [{type: last_n, count: 1}]}}",
    );
    let alone = place.run(&["plan", "snap"]);
    assert_eq!(alone.code, Some(0), "{alone:?}");
    assert!(alone.err.starts_with("planned by this program, without a daemon: cannot reach"), "{alone:?}");
    let (head, table) = alone.out.split_once('\n').unwrap();
    assert!(head.starts_with("job snap (snap), planned at 20"), "{head}");
    assert_eq!(
        table,
        "  takes no snapshots by itself\n  acts when asked: zrepl signal wakeup snap\n  local keeps: 1. last_n 1\n\n\
         p/a: 2 snapshots destroyed\n\
         \u{20} destroy  local  @s1    no rule keeps it: 1. it is not among the newest\n\
         \u{20} destroy  local  @s2    no rule keeps it: 1. it is not among the newest\n\
         \u{20} keep     local  @s3    rule 1, last_n 1\n\n\
         total of 1 filesystem: 2 snapshots destroyed\n"
    );

    let daemon = place.daemon();
    let asked = place.run(&["plan", "snap"]);
    assert_eq!(asked.code, Some(0));
    assert!(asked.err.starts_with("planned by the running daemon, with the configuration that it read last ("));
    assert_eq!(asked.out.split_once('\n').unwrap().1, table);
    let summary = place.run(&["plan", "--format", "summary"]);
    assert!(summary.out.contains("\n  p/a  2 snapshots destroyed\n"), "{summary:?}");
    let json: serde_json::Value = serde_json::from_str(&place.run(&["plan", "--format", "json"]).out).unwrap();
    assert_eq!((&json["version"], &json["jobs"][0]["total"]["destroys"]), (&1.into(), &2.into()));
    assert_eq!(
        json["jobs"][0]["filesystems"][0]["pruning"][0]["snapshots"][0]["rejected_by"],
        serde_json::json!([{"rule": 1, "why": "it is not among the newest"}])
    );
    place.run(&["plan", "none"]).failed_with("job \"none\" not defined in config\n");
    let file = fs::read_to_string(place.path("zrepl.yml")).unwrap();
    fs::write(place.path("zrepl.yml"), file.replace("count: 1", "count: 2")).unwrap();
    assert!(place.run(&["plan", "snap"]).out.contains("local keeps: 1. last_n 1\n"), "the daemon knows nothing of it");
    let changed = place.run(&["plan", "snap", "--without-daemon"]);
    assert_eq!(changed.err, "planned by this program, with the configuration file as it is now\n");
    assert!(changed.out.contains("local keeps: 1. last_n 2\n"), "{changed:?}");
    assert!(changed.out.contains("p/a: 1 snapshot destroyed\n"), "{changed:?}");
    fs::write(place.path("zrepl.yml"), file.replace("name: snap", "name: new")).unwrap();
    place.run(&["plan"]).failed_with("the running daemon has no job \"new\", as it has read another");
    fs::write(place.path("zrepl.yml"), file).unwrap();
    fs::write(place.path("bin/away"), "").unwrap();
    let away = place.run(&["plan", "snap"]);
    assert_eq!(away.code, Some(1), "{away:?}");
    assert!(away.out.contains("\n  local: pruning is unknown\n"), "what is known is printed: {away:?}");
    assert!(away.err.contains("\nthe plan is not complete: job snap: cannot look at the filesystems: "), "{away:?}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
    let asked = fs::read_to_string(place.path("bin/zfs.asked")).unwrap();
    assert!(asked.lines().all(|verb| ["get", "list"].contains(&verb)), "{asked}");
}

#[test]
fn a_policy_is_played_without_a_daemon_or_a_pool() {
    let place = Place::new("echo asked >> \"$0.asked\"; exit 1");
    place.run(&["simulate", "snap", "--for", "1d"]).failed_with("job \"snap\" takes no snapshots by itself");
    place
        .run(&["simulate", "--for", "1d"])
        .failed_with("no job can be simulated: job \"snap\" takes no snapshots by itself");
    place.configure(
        "  - {name: snap, type: snap, filesystems: {'p<': true}, snapshotting: {type: periodic, prefix: z_, interval: 1h}, \
         pruning: {keep: [{type: last_n, count: 3}]}}\n  - {name: push, type: push, \
         connect: {type: local, listener_name: l, client_identity: me}, filesystems: {'p<': true}, \
         snapshotting: {type: periodic, prefix: z_, interval: 10m}, pruning: {keep_sender: [{type: not_replicated}, \
         {type: last_n, count: 2}], keep_receiver: [{type: last_n, count: 9}]}}\n  - {name: sink, type: sink, root_fs: q, \
         serve: {type: local, listener_name: l}}",
    );
    let words = ["simulate", "--for", "12h", "--from", "2024-05-14"];
    let both = place.run(&words);
    assert_eq!((both.code, both.err.as_str()), (Some(0), ""));
    assert!(
        both.out.starts_with("job snap: 13 snapshots from 2024-05-14T00:00:00Z to 2024-05-14T12:00:00Z\n"),
        "{both:?}"
    );
    assert!(both.out.contains("\njob push: 73 snapshots from "), "{both:?}");
    assert!(both.out.lines().all(|line| line.chars().count() <= 80), "{both:?}");
    let words = [&words[..], &["push", "--side", "receiver"]].concat();
    let one = place.run(&words);
    assert!(one.out.contains("left on the receiver side at the end: 9\n") && !one.out.contains("sender"), "{one:?}");
    let json = place.run(&[&words[..], &["--format", "json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let job = &json["jobs"][0];
    assert_eq!((&json["version"], job["rounds"].as_array().unwrap().len()), (&1.into(), 73));
    assert_eq!(job["end"]["sides"][0]["snapshots"].as_array().unwrap().len(), 9);
    assert_eq!(
        job["rounds"][9]["destroyed"][0]["rejected_by"],
        serde_json::json!([{"rule": 1, "why": "it is not among the newest"}])
    );
    place.run(&["simulate", "snap", "--for", "1d", "--side", "sender"]).failed_with("does not replicate");
    place
        .run(&["simulate", "sink", "--for", "1d"])
        .failed_with("no rules of its own: simulate the job that sends to it");
    place.run(&["simulate", "none", "--for", "1d"]).failed_with("job \"none\" not defined in config\n");
    place.run(&["simulate", "--for", "9"]).failed_with("it has no unit");
    assert!(!place.path("bin/zfs.asked").exists(), "no pool is looked at");
}

#[test]
fn the_policy_of_a_job_that_pulls_is_played_over_the_snapshots_of_its_source() {
    let place = Place::new("exit 1");
    let pull = |name: &str, connect: &str| {
        format!(
            "  - {{name: {name}, type: pull, connect: {connect}, root_fs: q/{name}, interval: 1h, \
             recv: {{placeholder: {{encryption: inherit}}}}, pruning: {{keep_sender: [{{type: last_n, count: 2}}], \
             keep_receiver: [{{type: last_n, count: 5}}]}}}}\n"
        )
    };
    place.configure(&format!(
        "{}{}  - {{name: source, type: source, serve: {{type: local, listener_name: s}}, filesystems: {{'p<': true}}, \
         snapshotting: {{type: periodic, prefix: z_, interval: 1h}}}}",
        pull("here", "{type: local, listener_name: s, client_identity: me}"),
        pull("far", "{type: tcp, address: 'host:8888'}"),
    ));
    let span = ["--for", "12h", "--from", "2024-05-14"];
    let here = place.run(&[&["simulate", "here"], &span[..]].concat());
    assert_eq!((here.code, here.err.as_str()), (Some(0), ""), "{here:?}");
    assert!(here.out.starts_with("job here: 13 snapshots from 2024-05-14T00:00:00Z to"), "{here:?}");
    assert!(here.out.contains("left on the sender side at the end: 2\n"), "{here:?}");
    assert!(here.out.contains("left on the receiver side at the end: 5\n"), "{here:?}");
    let far = [&["simulate", "far"], &span[..]].concat();
    place.run(&far).failed_with("say how often others take them");
    let far = place.run(&[&far[..], &["--every", "2h"]].concat());
    assert!(far.out.starts_with("job far: 7 snapshots from "), "{far:?}");
    place
        .run(&[&["simulate", "source"], &span[..]].concat())
        .failed_with("no rules of its own: simulate the job that pulls from it");
}

#[test]
fn snapshots_of_others_are_played_when_it_is_said_how_often_they_come() {
    let place = Place::new("exit 1");
    let manual = |regex: &str| {
        format!(
            "  - {{name: snap, type: snap, filesystems: {{'p<': true}}, snapshotting: {{type: manual}}, \
             pruning: {{keep: [{{type: last_n, count: 3, regex: '{regex}'}}]}}}}"
        )
    };
    place.configure(&manual("^auto_"));
    let words = ["simulate", "snap", "--for", "12h", "--from", "2024-05-14"];
    place.run(&words).failed_with("say how often others take them and what they are called, such as --every 1h");
    let played = place.run(&[&words[..], &["--every", "2h", "--prefix", "auto_"]].concat());
    assert_eq!((played.code, played.err.as_str()), (Some(0), ""));
    assert!(played.out.starts_with("job snap: 7 snapshots from "), "{played:?}");
    assert!(played.out.contains("left on the local side at the end: 3\n  4h  auto_20240514_080000_000"), "{played:?}");
    place.run(&[&words[..], &["--prefix", "auto_"]].concat()).failed_with("--every");
}

#[test]
fn a_policy_is_played_on_from_what_exists_now() {
    let place = Place::new(THREE_SNAPSHOTS);
    place.configure(
        "  - {name: snap, type: snap, filesystems: {'p/a<': true}, \
         snapshotting: {type: periodic, prefix: z_, interval: 1h}, pruning: {keep: [{type: last_n, count: 5}]}}",
    );
    let words = ["simulate", "snap", "--for", "90m", "--from-present"];
    let json = place.run(&[&words[..], &["--format", "json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let job = &json["jobs"][0];
    assert_eq!((&json["version"], &job["filesystem"]), (&1.into(), &"p/a".into()));
    let names = |sample: &serde_json::Value| {
        let snapshots = sample["sides"][0]["snapshots"].as_array().unwrap().clone();
        snapshots.iter().map(|one| one["snapshot"].as_str().unwrap()[..2].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&job["end"]), ["s1", "s2", "s3", "z_", "z_"], "a round at once, another after an hour");
    let drawn = place.run(&words);
    assert!(drawn.out.starts_with("job snap, from what p/a has now on: 2 snapshots from"), "{drawn:?}");
    let elsewhere = [&words[..], &["--filesystem", "p/b"]].concat();
    place.run(&elsewhere).failed_with("no job in question has a filesystem p/b");
    place.run(&[&words[..], &["--from", "2024-05-14"]].concat()).failed_with("cannot be used with");
    let asked = fs::read_to_string(place.path("bin/zfs.asked")).unwrap();
    assert!(asked.lines().all(|verb| ["get", "list"].contains(&verb)), "{asked}");
}
