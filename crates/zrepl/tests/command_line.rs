//! What surrounds the work: completion, man pages, profiles, JSON, typos; as transcripts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod place;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use place::{Daemon, Place, Transcript, status, wait_for_status};
use rustix::process::Signal;
use serde_json::Value;

fn json(transcript: &Transcript) -> Value {
    serde_json::from_str(&transcript.out).unwrap_or_else(|error| panic!("{error}: {transcript:?}"))
}

/// Jobs of every kind.
const JOBS: &str = "  - {name: snap, type: snap, filesystems: {'p<': true}, snapshotting: {type: manual}, \
     pruning: {keep: [{type: last_n, count: 1}]}}\n  - {name: push, type: push, \
     connect: {type: local, listener_name: l, client_identity: me}, filesystems: {'p<': true}, \
     snapshotting: {type: periodic, prefix: z_, interval: 10m}, \
     pruning: {keep_sender: [{type: last_n, count: 2}], keep_receiver: [{type: last_n, count: 9}]}}\n  \
     - {name: sink, type: sink, root_fs: q, serve: {type: local, listener_name: l}}";

#[test]
fn a_word_that_is_nearly_right_is_suggested() {
    let place = Place::new("exit 1");
    for (words, wanted) in [
        (&["statsu"][..], "'status'"),
        (&["singal", "wakeup", "snap"], "'signal'"),
        (&["signal", "wakup", "snap"], "'wakeup'"),
        (&["status", "--jobs", "snap"], "'--job'"),
        (&["test", "filesystem"], "'filesystems'"),
        (&["zfs-abstraction", "lst"], "'list'"),
        (&["pprof", "listen", "onn", "x"], "'on'"),
        (&["migrate", "replication-cursor:v1-v3"], "'replication-cursor:v1-v2'"),
    ] {
        let refused = place.run(words);
        refused.failed_with(wanted);
        refused.failed_with("similar");
    }
    for group in ["test", "zfs-abstraction", "migrate", "pprof", "gencompletion"] {
        let bare = Transcript::of(Command::new(env!("CARGO_BIN_EXE_zrepl")).arg(group).output().unwrap());
        assert!(bare.code == Some(0) && bare.out.contains("Commands:") && bare.err.is_empty(), "{bare:?}");
        place.run(&[group, "dance"]).failed_with("unrecognized subcommand 'dance'");
    }
}

/// What bash would offer after these words, the last of which is being written.
fn bash(place: &Place, words: &[&str]) -> Vec<String> {
    let script = place.path("zrepl.bash");
    assert!(place.run(&["gencompletion", "bash", script.to_str().unwrap()]).is_silent());
    let program = Path::new(env!("CARGO_BIN_EXE_zrepl")).parent().unwrap();
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let asked = format!(
        "source {}; COMP_WORDS=(zrepl {}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _zrepl; printf '%s\\n' \
         \"${{COMPREPLY[@]}}\"; complete -p zrepl",
        script.display(),
        quoted.join(" ")
    );
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", &asked]).env("PATH", format!("{}:/usr/bin:/bin", program.display()));
    let said = Transcript::of(command.current_dir(place.path("")).output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let mut lines: Vec<String> = said.out.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
    assert!(lines.pop().unwrap().contains("-F _zrepl zrepl"), "{said:?}");
    lines
}

#[test]
fn bash_offers_commands_and_the_jobs_that_they_can_be_about() {
    let place = Place::new("exit 1");
    place.configure(JOBS);
    let config = ["--config", "zrepl.yml"];
    let offered = |words: &[&str]| bash(&place, &[&config[..], words].concat());
    assert_eq!(offered(&["stat"]), ["status"]);
    assert_eq!(offered(&["status", "--job", ""]), ["snap", "push", "sink"]);
    assert_eq!(offered(&["status", "--job", "s"]), ["snap", "sink"]);
    assert_eq!(offered(&["signal", "wakeup", ""]), ["snap", "push"], "a sink waits for others");
    assert_eq!(offered(&["signal", "snapshot", ""]), ["push"], "the other one takes none by itself");
    assert_eq!(offered(&["plan", "p"]), ["push"]);
    assert_eq!(offered(&["test", "filesystems", "--job", ""]), ["snap", "push"]);
    // Bash takes = and : for ends of words.
    assert_eq!(offered(&["status", "--mode", "=", "r"]), ["raw"]);
    assert_eq!(offered(&["status", "--job", "="]), ["snap", "push", "sink"]);
    assert_eq!(offered(&["migrate", "0.0.X", ":", "0.1", ":", "pl"]), ["placeholder"]);
    let apart = bash(&place, &["--config", "=", "zrepl.yml", "plan", ""]);
    assert_eq!(apart, ["snap", "push"]);
    assert_eq!(bash(&place, &["--config", "nowhere.yml", "plan", ""]), Vec::<String>::new());
    assert_eq!(bash(&place, &["--config", "zrepl.y"]), ["zrepl.yml"]);
}

#[test]
fn completion_is_printed_or_written_and_asks_as_scripts_of_zrepl_do() {
    let place = Place::new("exit 1");
    for (shell, sign) in
        [("bash", "complete -o"), ("zsh", "#compdef zrepl"), ("fish", "complete -c zrepl"), ("powershell", "Register-")]
    {
        let printed = place.run(&["completion", shell]);
        assert!(printed.code == Some(0) && printed.out.contains(sign) && printed.err.is_empty(), "{printed:?}");
    }
    let plain = place.run(&["completion", "zsh", "--no-descriptions"]);
    assert!(plain.out.contains("__completeNoDesc") && !plain.out.contains("__COMPLETE"), "{plain:?}");
    for shell in ["bash", "zsh", "fish"] {
        let file = place.path("script");
        assert!(place.run(&["gencompletion", shell, file.to_str().unwrap()]).is_silent());
        assert_eq!(fs::read_to_string(file).unwrap(), place.run(&["completion", shell]).out);
        place
            .run(&["gencompletion", shell, "/nowhere/script"])
            .failed_with("cannot write /nowhere/script: No such file");
        place.run(&["gencompletion", shell]).failed_with("<OUTFILE>");
    }
    let mut asked = Command::new(env!("CARGO_BIN_EXE_zrepl"));
    asked.args(["__complete", "--config", place.path("zrepl.yml").to_str().unwrap(), "signal", "reset", ""]);
    assert_eq!(Transcript::of(asked.output().unwrap()).out, "snap\tsnap job\n:4\n");
    assert!(!place.run(&["--help"]).out.contains("__complete"));
}

#[test]
fn man_pages_and_the_reference_are_written() {
    let place = Place::new("exit 1");
    let folder = place.path("man");
    place.run(&["gendoc", "man", folder.to_str().unwrap()]).failed_with("cannot write ");
    fs::create_dir(&folder).unwrap();
    assert!(place.run(&["gendoc", "man", folder.to_str().unwrap()]).is_silent());
    let page = fs::read_to_string(folder.join("zrepl-status.8")).unwrap();
    assert!(page.contains(".TH ZREPL\\-STATUS 8"), "{page}");
    let reference = place.run(&["gendoc", "markdown"]);
    assert_eq!(reference.out, include_str!("../../../docs/reference/commands.md"));
}

#[test]
fn scripts_get_json_with_a_version() {
    let place = Place::new(
        "[ $1 = get ] || exit 0; for f in p q; do printf '%s\\ttype\\tfilesystem\\t-\\n%s\\tkeystatus\\t-\\t-\\n' $f $f; done",
    );
    let of_client = json(&place.run(&["version", "--show", "client", "--json"]));
    assert_eq!((&of_client["version"], &of_client["daemon"]), (&1.into(), &Value::Null));
    assert!(of_client["client"]["Version"].is_string());
    let alone = place.run(&["version", "--json"]);
    assert!(alone.code == Some(1) && alone.err.starts_with("server: error: cannot reach"), "{alone:?}");
    assert_eq!(json(&alone), of_client);

    let checked = json(&place.run(&["configcheck", "--json"]));
    assert_eq!(checked, serde_json::json!({"version": 1, "ok": true, "errors": [], "warnings": []}));
    let tested = json(&place.run(&["test", "filesystems", "--job", "snap", "--all", "--json"]));
    assert_eq!(tested["filesystems"][0], serde_json::json!({"filesystem": "p", "accepted": true, "entry": "p<"}));
    assert_eq!(tested["filesystems"][1]["accepted"], false);
    let bad = place.run(&["test", "filesystems", "--job", "snap", "--input", "p//x", "--json"]);
    assert_eq!((bad.code, json(&bad)["errors"].as_array().unwrap().len()), (Some(1), 1));

    let daemon = place.daemon();
    assert_eq!(json(&place.run(&["version", "--json"]))["daemon"], of_client["client"]);
    assert_eq!(json(&place.run(&["status", "--json"]))["Version"], 1);
    assert_eq!(json(&place.run(&["plan", "--json"]))["version"], 1);
    let waited = json(&place.run(&["signal", "wakeup", "snap", "--wait", "--json"]));
    assert_eq!(
        (&waited["version"], &waited["invocation"], &waited["summary"]["errors"]),
        (&1.into(), &1.into(), &0.into())
    );
    let woken = json(&place.run(&["signal", "wakeup", "snap", "--json"]));
    assert_eq!(woken, serde_json::json!({"version": 1, "job": "snap", "operation": "wakeup"}));
    place.configure(JOBS);
    let reloaded = json(&place.run(&["reload", "--json"]));
    let names = |jobs: &str| reloaded[jobs].as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>();
    assert_eq!((&reloaded["version"], &reloaded["global_changed"]), (&1.into(), &false.into()), "{reloaded}");
    assert_eq!((names("started"), names("unchanged")), (vec!["push", "sink"], vec!["snap"]), "{reloaded}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));

    place.configure("  - {name: snap, type: snip}");
    let wrong = place.run(&["configcheck", "--json"]);
    let errors = json(&wrong)["errors"].as_array().unwrap().clone();
    let error = errors.iter().find(|error| error["column"] == 24).unwrap();
    assert_eq!((wrong.code, &error["line"], &error["field"]), (Some(1), &5.into(), &"jobs[0].type".into()));
    assert_eq!(
        wrong.err,
        format!("the configuration cannot be used: {} errors\n", errors.len()).replace(": 1 errors", ": 1 error")
    );
    place.run(&["plan", "--json", "--format", "table"]).failed_with("cannot be used with");
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let place = Place::new("exit 1");
    let daemon = place.daemon();
    for words in
        [&["status", "--mode", "dump"][..], &["status", "--mode", "raw"], &["version"], &["configcheck", "--schema"]]
    {
        let mut child = place.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let end = Transcript::of(child.wait_with_output().unwrap());
        assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{words:?}");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
}

/// The spans of a trace that have ended, by name.
fn ended(text: &str) -> Vec<String> {
    let events: Vec<Value> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut open = std::collections::BTreeMap::<String, Vec<String>>::new();
    let mut ended = Vec::new();
    for event in &events {
        let lane = format!("{} {}", event["pid"], event["tid"]);
        match event["ph"].as_str() {
            Some("B") => open.entry(lane).or_default().push(event["name"].as_str().unwrap().to_owned()),
            Some("E") => ended.push(open.get_mut(&lane).unwrap().pop().unwrap()),
            _ => {}
        }
    }
    ended
}

#[test]
fn what_the_daemon_does_is_traced_into_a_file_and_to_clients() {
    let place = Place::new("[ $1 = get ] || exit 0; printf 'p\\ttype\\tfilesystem\\t-\\np\\tkeystatus\\t-\\t-\\n'");
    let file = place.path("trace.json");
    let daemon = place.daemon_with(&[("ZREPL_ACTIVITY_TRACE", file.to_str().unwrap())]);
    let mut client = place.command(&["pprof", "activity-trace"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut read = client.stdout.take().unwrap();
    let mut text = vec![0; 2];
    read.read_exact(&mut text).unwrap();
    assert_eq!(place.run(&["signal", "wakeup", "snap", "--wait"]).code, Some(0));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
    read.read_to_end(&mut text).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0));
    let (of_client, of_file) = (ended(&String::from_utf8(text).unwrap()), ended(&fs::read_to_string(file).unwrap()));
    assert!(of_file.ends_with(&of_client), "the file begins with the daemon: {of_file:?}, {of_client:?}");
    for wanted in ["invocation-1", "prune_local"] {
        assert!(of_file.iter().any(|name| name == wanted), "{of_file:?}");
    }
    assert!(of_file.iter().any(|name| name.starts_with("zfs get ")), "{of_file:?}");

    let unwritable = place.command(&["daemon"]).env("ZREPL_ACTIVITY_TRACE", "/nowhere/trace").output().unwrap();
    Transcript::of(unwritable).failed_with("cannot write ZREPL_ACTIVITY_TRACE=/nowhere/trace: No such file");
}

#[test]
fn profiles_are_served_when_asked_for_and_not_any_longer() {
    let place = Place::new("exec sleep 1000");
    place.run(&["pprof", "listen", "on", ":0"]).failed_with("cannot reach the daemon on ");
    place.run(&["pprof", "listen", "on"]).failed_with("<ADDRESS>");
    let mut daemon = place.daemon_with(&[("ZREPL_ZFS_DEBUG", "1"), ("ZREPL_DAEMON_AUTOSTART_PPROF_SERVER", ":0")]);
    let address = daemon.address_served();
    assert!(place.run(&["pprof", "listen", "on", &address]).is_silent(), "it serves there already");
    let elsewhere = place.run(&["pprof", "listen", "on", "127.0.0.1:1"]);
    let already = format!("already served on {address}, and not on 127.0.0.1:1 (");
    assert!(elsewhere.code == Some(0) && elsewhere.err.starts_with(&already), "{elsewhere:?}");
    // The first one waits for what is done when a job begins.
    for signal in ["wakeup", "reset", "wakeup"] {
        assert!(place.run(&["signal", signal, "snap"]).is_silent());
    }
    wait_for_status(&place, |status| status["Jobs"]["snap"]["snap"]["Invocation"]["Number"] == 2);
    let get = |path: &str| place::http_get(&address, path);
    assert!(get("/debug/pprof/").contains("/debug/zrepl/activity-trace"));
    assert!(get("/debug/pprof/cmdline").contains("daemon"));
    assert!(get("/debug/pprof/tasks").contains("`zfs get "), "{}", get("/debug/pprof/tasks"));
    let heap = get("/debug/pprof/heap");
    assert!(heap.starts_with("HTTP/1.1 404") && heap.contains("perf record") && heap.contains("heaptrack"), "{heap}");
    assert!(get("/metrics").contains("\nzrepl_start_time{"), "as on zrepl's listener");
    let traced = place.run(&["pprof", "activity-trace", &address, "--for", "1s"]);
    assert!(traced.code == Some(0) && traced.err.is_empty(), "{traced:?}");
    let events: Vec<Value> = serde_json::from_str(&traced.out).unwrap();
    assert!(events.iter().any(|event| event["name"] == "invocation-2" && event["ph"] == "B"), "{traced:?}");

    assert!(place.run(&["pprof", "listen", "off"]).is_silent());
    daemon.wait_for_line("profiles are not served any longer");
    place.run(&["pprof", "activity-trace", &address]).failed_with("does it listen there?");
    place.run(&["pprof", "listen", "on", "nowhere"]).failed_with("cannot listen on nowhere: ");
    assert_eq!(status(&place)["Jobs"]["_control"]["type"], "internal");
    daemon.signal(Signal::TERM);
    let end = daemon.end();
    assert_eq!(end.code, Some(0));
    assert!(end.err.contains("warning: environment variable ZREPL_ZFS_DEBUG has no effect: set the level"), "{end:?}");
}

/// The soft limit of open files of a process.
fn files_of(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().ok()
}

#[test]
fn a_daemon_may_open_more_files_than_its_shell() {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let place = Place::new("exit 0");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 256; exec \"$0\" daemon --config \"$1\"", env!("CARGO_BIN_EXE_zrepl")]);
    shell.arg(place.path("zrepl.yml"));
    shell.env_clear().env("PATH", format!("{}:/usr/bin:/bin", place.path("bin").display()));
    let daemon = Daemon::start(shell);
    assert_eq!(files_of(daemon.pid()), Some(hard.min(65_536)));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code, Some(0));
}
