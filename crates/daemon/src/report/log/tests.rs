//! Lines as they come out, and a reader who does not read.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use config::types::{LogFormat, LogLevel};
use expect_test::{Expect, expect};
use jiff::tz::{Offset, TimeZone};
use model::event::{About, Event, InvocationSummary, ProtectionOutcome, Pruning, Replication, Snapshotting, What};
use model::plan::prune::PruneSide;
use model::plan::replication::{Base, Discard, FilesystemAction, FilesystemPlan, ReplicationPlan, Step};
use model::plan::resolve::Resolution;
use model::version::{Guid, UnixTime};
use model::{DatasetName, JobName, VersionKind, VersionName, VersionRef};

use super::*;
use crate::events::Reader;

mod hooks;
mod phases;

/// What was written so far.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn layout(format: LogFormat, time: bool, color: bool) -> Layout {
    Layout { format, metadata: Metadata { time, level: true, color }, zone: TimeZone::fixed(Offset::constant(2)) }
}

/// What a log with this level and layout writes about these events.
fn written(level: LogLevel, layout: Layout, events: &[Event]) -> String {
    let page = Page::default();
    let outlet = Arc::new(StdoutLog::with(level, layout, page.clone(), &Complaints::default()));
    let log = Log::new(vec![outlet.clone()]);
    events.iter().for_each(|event| log.read(event));
    outlet.flush(Duration::from_secs(60));
    let bytes = page.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn check(level: LogLevel, layout: Layout, events: &[Event], expected: &Expect) {
    expected.assert_eq(&written(level, layout, events));
}

fn event(job: Option<&str>, what: What) -> Event {
    let at = "2024-05-14T21:16:23.004567Z".parse().unwrap();
    Event { at, job: job.map(|job| JobName::parse(job).unwrap()), about: About::Nothing, what }
}

fn dataset(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn snapshot(name: &str) -> VersionRef {
    VersionRef { kind: VersionKind::Snapshot, name: VersionName::parse(name).unwrap(), guid: Guid(1) }
}

/// A day in the life of a daemon.
fn story() -> Vec<Event> {
    let step = Step { from: Some(snapshot("a")), to: snapshot("b"), created: UnixTime(0), resume_token: None };
    let action = FilesystemAction::Steps {
        base: Base::Common(snapshot("a")),
        discard: None,
        resolution: None,
        steps: vec![step],
    };
    let filesystems = vec![FilesystemPlan { name: dataset("p/a"), after: None, action, newest: None, received: None }];
    let replication = |what| event(Some("office push"), What::Replication(what));
    let filesystem = dataset("p/a");
    let took = Duration::from_millis(1234);
    vec![
        event(None, What::DaemonStarted { version: "1.2.3".to_owned() }),
        event(Some("office push"), What::JobStarted),
        event(Some("office push"), What::CommandStarted { command: "zfs list".to_owned() }),
        event(
            Some("office push"),
            What::Snapshotting(Snapshotting::Taken {
                filesystem: filesystem.clone(),
                snapshot: VersionName::parse("b").unwrap(),
                result: Err("cannot take snapshot \"p/a@b\": out of space".to_owned()),
            }),
        ),
        event(Some("office push"), What::InvocationStarted { number: 7 }),
        replication(Replication::AttemptStarted),
        replication(Replication::Planned { plan: Arc::new(ReplicationPlan { filesystems }) }),
        replication(Replication::StepStarted { filesystem: filesystem.clone(), step: 0 }),
        replication(Replication::StepProgress { filesystem: filesystem.clone(), step: 0, expected: None, bytes: 1 }),
        replication(Replication::StepFailed {
            filesystem: filesystem.clone(),
            step: 0,
            bytes: 1,
            error: "broken".to_owned(),
            will_retry: true,
        }),
        replication(Replication::StepFinished { filesystem: filesystem.clone(), step: 0, bytes: 4096, took }),
        event(
            Some("office push"),
            What::Pruning {
                side: PruneSide::Sender,
                what: Pruning::Destroyed {
                    filesystem: filesystem.clone(),
                    snapshot: VersionName::parse("x").unwrap(),
                    rules: "not_replicated (it is replicated), last_n 2 of `^z_` (it is not among the newest)".into(),
                },
            },
        ),
        event(
            Some("office push"),
            What::Pruning {
                side: PruneSide::Sender,
                what: Pruning::Filesystem {
                    filesystem: filesystem.clone(),
                    destroyed: vec![VersionName::parse("x").unwrap()],
                    failed: Vec::new(),
                },
            },
        ),
        event(
            Some("office push"),
            What::Protection {
                object: "hold h on p/a@b".to_owned(),
                outcome: ProtectionOutcome::Failed("busy".to_owned()),
            },
        ),
        event(
            Some("office push"),
            What::InvocationFinished {
                number: 7,
                summary: InvocationSummary {
                    filesystems: 1,
                    steps: 1,
                    bytes: 4096,
                    destroyed: 2,
                    took,
                    ..Default::default()
                },
            },
        ),
        event(None, What::Warning { subsystem: "meta", message: "first\nsecond \u{1b}[31m".to_owned() }),
    ]
}

#[test]
fn human_lines() {
    check(
        LogLevel::Info,
        layout(LogFormat::Human, true, false),
        &story(),
        &expect![[r#"
            2024-05-14T23:16:23+02:00 [INFO]: starting daemon version="1.2.3"
            2024-05-14T23:16:23+02:00 [INFO][office push][job][sQaZ$i+Dr$i+Dr]: starting job
            2024-05-14T23:16:23+02:00 [ERRO][office push][snapshot][sQaZ$i+Dr$i+Dr.QtEY]: snapshot failed fs="p/a" snap="b" err="cannot take snapshot \"p/a@b\": out of space"
            2024-05-14T23:16:23+02:00 [INFO][office push][job][sQaZ$i+Dr$i+Dr.i7]: invocation started invocation="7"
            2024-05-14T23:16:23+02:00 [INFO][office push][repl][sQaZ$i+Dr$i+Dr.i7.r1]: planned filesystems="1" steps="1"
            2024-05-14T23:16:23+02:00 [WARN][office push][repl][sQaZ$i+Dr$i+Dr.i7.r1.QtEY.s1]: step failed and will be tried again fs="p/a" step="@a => @b" bytes="1" err="broken"
            2024-05-14T23:16:23+02:00 [INFO][office push][repl][sQaZ$i+Dr$i+Dr.i7.r1.QtEY.s1]: replicated fs="p/a" step="@a => @b" bytes="4096" duration="1.234s"
            2024-05-14T23:16:23+02:00 [INFO][office push][pruning][sQaZ$i+Dr$i+Dr.i7.ps.QtEY]: destroyed snapshot prune_side="sender" fs="p/a" destroy_snap="x" reason="no keep rule keeps it" rule="not_replicated (it is replicated), last_n 2 of `^z_` (it is not among the newest)"
            2024-05-14T23:16:23+02:00 [ERRO][office push][endpoint][sQaZ$i+Dr$i+Dr]: protection failed abstraction="hold h on p/a@b" err="busy"
            2024-05-14T23:16:23+02:00 [INFO][office push][job][sQaZ$i+Dr$i+Dr.i7]: invocation finished invocation="7" filesystems="1" steps="1" bytes="4096" destroyed="2" errors="0" snapshots_failed="1" duration="1.234s" last_successful="not since the daemon started"
            2024-05-14T23:16:23+02:00 [WARN][meta]: first\nsecond \u{1b}[31m
        "#]],
    );
}

#[test]
fn an_invocation_that_failed_says_when_the_last_one_succeeded() {
    let mut earlier = super::earlier::Earlier::default();
    let mut finished = |second, errors, cancelled| {
        let summary = InvocationSummary { errors, cancelled, ..InvocationSummary::default() };
        let job = Some(JobName::parse("j").unwrap());
        let what = What::InvocationFinished { number: 1, summary };
        let entry = earlier
            .entry(
                &Event { at: jiff::Timestamp::from_second(second).unwrap(), job, about: About::Nothing, what },
                &[LogLevel::Info],
            )
            .unwrap();
        entry.fields.into_iter().find_map(|(name, value)| (name == "last_successful").then_some(value))
    };
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    assert_eq!(finished(1, 2, false), text("not since the daemon started"));
    assert_eq!(finished(2, 0, false), None);
    assert_eq!(finished(3, 0, true), text("1970-01-01T00:00:02Z"));
    assert_eq!(finished(4, 1, false), text("1970-01-01T00:00:02Z"));
}

#[test]
fn logfmt_lines() {
    check(
        LogLevel::Info,
        layout(LogFormat::Logfmt, true, false),
        &story(),
        &expect![[r#"
            time=2024-05-14T23:16:23.004567+02:00 level=info msg="starting daemon" version=1.2.3
            time=2024-05-14T23:16:23.004567+02:00 level=info job="office push" subsystem=job span=sQaZ$i+Dr$i+Dr msg="starting job"
            time=2024-05-14T23:16:23.004567+02:00 level=error job="office push" subsystem=snapshot span=sQaZ$i+Dr$i+Dr.QtEY msg="snapshot failed" fs=p/a snap=b err="cannot take snapshot \"p/a@b\": out of space"
            time=2024-05-14T23:16:23.004567+02:00 level=info job="office push" subsystem=job span=sQaZ$i+Dr$i+Dr.i7 msg="invocation started" invocation=7
            time=2024-05-14T23:16:23.004567+02:00 level=info job="office push" subsystem=repl span=sQaZ$i+Dr$i+Dr.i7.r1 msg=planned filesystems=1 steps=1 attempt_number=1
            time=2024-05-14T23:16:23.004567+02:00 level=warn job="office push" subsystem=repl span=sQaZ$i+Dr$i+Dr.i7.r1.QtEY.s1 msg="step failed and will be tried again" fs=p/a step="@a => @b" bytes=1 err=broken filesystem=p/a
            time=2024-05-14T23:16:23.004567+02:00 level=info job="office push" subsystem=repl span=sQaZ$i+Dr$i+Dr.i7.r1.QtEY.s1 msg=replicated fs=p/a step="@a => @b" bytes=4096 duration=1.234s filesystem=p/a duration_s=1.234000
            time=2024-05-14T23:16:23.004567+02:00 level=info job="office push" subsystem=pruning span=sQaZ$i+Dr$i+Dr.i7.ps.QtEY msg="destroyed snapshot" prune_side=sender fs=p/a destroy_snap=x reason="no keep rule keeps it" rule="not_replicated (it is replicated), last_n 2 of `^z_` (it is not among the newest)"
            time=2024-05-14T23:16:23.004567+02:00 level=error job="office push" subsystem=endpoint span=sQaZ$i+Dr$i+Dr msg="protection failed" abstraction="hold h on p/a@b" err=busy
            time=2024-05-14T23:16:23.004567+02:00 level=info job="office push" subsystem=job span=sQaZ$i+Dr$i+Dr.i7 msg="invocation finished" invocation=7 filesystems=1 steps=1 bytes=4096 destroyed=2 errors=0 snapshots_failed=1 duration=1.234s last_successful="not since the daemon started" duration_s=1.234000
            time=2024-05-14T23:16:23.004567+02:00 level=warn subsystem=meta msg="first\nsecond \u001b[31m"
        "#]],
    );
}

#[test]
fn json_lines() {
    check(
        LogLevel::Info,
        layout(LogFormat::Json, false, false),
        &story(),
        &expect![[r#"
            {"level":"info","msg":"starting daemon","time":"2024-05-14T23:16:23+02:00","version":"1.2.3"}
            {"job":"office push","level":"info","msg":"starting job","span":"sQaZ$i+Dr$i+Dr","subsystem":"job","time":"2024-05-14T23:16:23+02:00"}
            {"err":"cannot take snapshot \"p/a@b\": out of space","fs":"p/a","job":"office push","level":"error","msg":"snapshot failed","snap":"b","span":"sQaZ$i+Dr$i+Dr.QtEY","subsystem":"snapshot","time":"2024-05-14T23:16:23+02:00"}
            {"invocation":7,"job":"office push","level":"info","msg":"invocation started","span":"sQaZ$i+Dr$i+Dr.i7","subsystem":"job","time":"2024-05-14T23:16:23+02:00"}
            {"attempt_number":1,"filesystems":1,"job":"office push","level":"info","msg":"planned","span":"sQaZ$i+Dr$i+Dr.i7.r1","steps":1,"subsystem":"repl","time":"2024-05-14T23:16:23+02:00"}
            {"bytes":1,"err":"broken","filesystem":"p/a","fs":"p/a","job":"office push","level":"warn","msg":"step failed and will be tried again","span":"sQaZ$i+Dr$i+Dr.i7.r1.QtEY.s1","step":"@a => @b","subsystem":"repl","time":"2024-05-14T23:16:23+02:00"}
            {"bytes":4096,"duration":1.234,"duration_s":1.234,"filesystem":"p/a","fs":"p/a","job":"office push","level":"info","msg":"replicated","span":"sQaZ$i+Dr$i+Dr.i7.r1.QtEY.s1","step":"@a => @b","subsystem":"repl","time":"2024-05-14T23:16:23+02:00"}
            {"destroy_snap":"x","fs":"p/a","job":"office push","level":"info","msg":"destroyed snapshot","prune_side":"sender","reason":"no keep rule keeps it","rule":"not_replicated (it is replicated), last_n 2 of `^z_` (it is not among the newest)","span":"sQaZ$i+Dr$i+Dr.i7.ps.QtEY","subsystem":"pruning","time":"2024-05-14T23:16:23+02:00"}
            {"abstraction":"hold h on p/a@b","err":"busy","job":"office push","level":"error","msg":"protection failed","span":"sQaZ$i+Dr$i+Dr","subsystem":"endpoint","time":"2024-05-14T23:16:23+02:00"}
            {"bytes":4096,"destroyed":2,"duration":1.234,"duration_s":1.234,"errors":0,"filesystems":1,"invocation":7,"job":"office push","last_successful":"not since the daemon started","level":"info","msg":"invocation finished","snapshots_failed":1,"span":"sQaZ$i+Dr$i+Dr.i7","steps":1,"subsystem":"job","time":"2024-05-14T23:16:23+02:00"}
            {"level":"warn","msg":"first\nsecond \u001b[31m","subsystem":"meta","time":"2024-05-14T23:16:23+02:00"}
        "#]],
    );
}

#[test]
fn warnings_without_time_and_in_color() {
    let red = |text: &str| format!("\x1b[91m{text}\x1b[0m");
    let line = written(LogLevel::Warn, layout(LogFormat::Human, false, true), &story()[..4]);
    assert!(line.starts_with(&format!("[{}][{}]", red("ERRO"), red("office push"))), "{line:?}");
    assert!(line.contains(&format!("snapshot failed {}=\"p/a\"", red("fs"))), "{line:?}");
}

#[test]
fn debug_tells_of_children() {
    check(
        LogLevel::Debug,
        layout(LogFormat::Human, false, false),
        &story()[2..3],
        &expect![[r#"
            [DEBG][office push][zfs.cmd][sQaZ$i+Dr$i+Dr]: started command cmd="zfs list"
        "#]],
    );
}

#[test]
fn utc_is_written_with_a_z() {
    let layout = Layout { zone: TimeZone::UTC, ..layout(LogFormat::Human, true, false) };
    assert!(written(LogLevel::Info, layout, &story()[..1]).starts_with("2024-05-14T21:16:23Z [INFO]: "));
}

#[test]
fn a_line_has_a_limit_and_is_whole_all_the_same() {
    let entry = event(
        Some("j"),
        What::Pruning {
            side: PruneSide::Sender,
            what: Pruning::Filesystem {
                filesystem: dataset("p/a"),
                destroyed: Vec::new(),
                failed: vec![(VersionName::parse("s0").unwrap(), "ä\u{1}\"".repeat(1 << 18))],
            },
        },
    );
    let lines = [LogFormat::Human, LogFormat::Logfmt, LogFormat::Json]
        .map(|format| written(LogLevel::Warn, layout(format, false, false), std::slice::from_ref(&entry)));
    for line in &lines {
        assert!(line.len() <= crate::limits::LOG_LINE_BYTES + 1, "{}", line.len());
        assert!(line.contains("p/a") && line.contains("@s0: ä") && line.contains('…'), "{line}");
    }
    assert!(lines[0].ends_with("…\"\n") && lines[1].ends_with("…\"\n"));
    let json: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
    assert_eq!(json["prune_side"], "sender");
}

#[test]
fn a_field_whose_name_says_seconds_is_a_number() {
    let command = What::CommandFinished {
        command: "zfs list".to_owned(),
        took: Duration::from_micros(12_345),
        used: None,
        success: true,
    };
    check(
        LogLevel::Debug,
        layout(LogFormat::Human, false, false),
        &[event(Some("j"), command)],
        &expect![[r#"
            [DEBG][j][zfs.cmd][sQaZ$7ww6$7ww6]: command exited with success cmd="zfs list" total_time_s="0.012345"
        "#]],
    );
}

/// Lets the writer through a write at a time.
struct Gate {
    open: Receiver<()>,
    page: Page,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A dropped key leaves the gate open.
        let _ = self.open.recv();
        self.page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_who_stops_reading_loses_lines_and_learns_how_many() {
    let (key, open): (Sender<()>, _) = channel();
    let page = Page::default();
    let gate = Gate { open, page: page.clone() };
    let layout = layout(LogFormat::Human, false, false);
    let outlet = Arc::new(StdoutLog::with(LogLevel::Info, layout, gate, &Complaints::default()));
    let log = Log::new(vec![outlet.clone()]);
    let info = |text: &str| event(None, What::DaemonStarted { version: text.repeat(60_000) });
    for _ in 0..100 {
        log.read(&info("x"));
    }
    log.read(&event(None, What::Error { subsystem: "job", message: "important".to_owned() }));
    drop(key);
    outlet.flush(Duration::from_secs(60));
    log.read(&event(None, What::DaemonStopped));
    outlet.flush(Duration::from_secs(60));
    let bytes = page.0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.len() < 5 << 20, "{} bytes", text.len());
    assert!(text.contains("important"), "errors have room that others have not");
    let complaint = text.lines().find(|line| line.contains("log lines were lost")).unwrap();
    let lost: usize = complaint.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("xxx")).count() + lost, 100);
    assert!(text.trim_end().ends_with("daemon exiting"));
}

/// A disk that is full until it is not.
#[derive(Clone, Default)]
struct Disk {
    page: Page,
    room: Arc<Mutex<usize>>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.room.lock().unwrap();
        let part = bytes.get(..bytes.len().min(*room)).unwrap();
        *room -= part.len();
        match part {
            [] => Err(io::ErrorKind::StorageFull.into()),
            _ => self.page.write(part),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_full_disk_does_not_take_is_counted_and_told_when_it_has_room() {
    let disk = Disk::default();
    let layout = layout(LogFormat::Human, false, false);
    let outlet = Arc::new(StdoutLog::with(LogLevel::Info, layout, disk.clone(), &Complaints::default()));
    let log = Log::new(vec![outlet.clone()]);
    let tell = |what| {
        log.read(&event(None, what));
        assert_eq!(outlet.flush(Duration::from_secs(60)), 0);
    };
    *disk.room.lock().unwrap() = 10;
    tell(What::DaemonStarted { version: "1".to_owned() });
    tell(What::DaemonStopped);
    assert_eq!(outlet.lost(), 2);
    *disk.room.lock().unwrap() = usize::MAX;
    tell(What::DaemonStopped);
    tell(What::DaemonStopped);
    assert_eq!(outlet.lost(), 2);
    expect![[r#"
        [INFO]: st
        [ERRO][meta]: 2 log lines were lost because standard output could not be written to: no storage space
        [INFO]: daemon exiting
        [INFO]: daemon exiting
    "#]]
    .assert_eq(std::str::from_utf8(&disk.page.0.lock().unwrap()).unwrap());
}

#[test]
fn an_error_is_repeated_where_the_line_that_had_it_is_not() {
    let outlet = |level| {
        let page = Page::default();
        let layout = layout(LogFormat::Human, false, false);
        (Arc::new(StdoutLog::with(level, layout, page.clone(), &Complaints::default())), page)
    };
    let both = [outlet(LogLevel::Warn), outlet(LogLevel::Error)];
    let log = Log::new(both.iter().map(|(outlet, _)| Arc::clone(outlet) as Arc<dyn Outlet>).collect());
    let error = || "the cable is out (plug it in)".to_owned();
    let until = jiff::Timestamp::UNIX_EPOCH;
    for what in [
        Replication::Reconnecting { error: error(), until },
        Replication::Reconnecting { error: error(), until },
        Replication::ReconnectFailed { error: error() },
        Replication::ReconnectFailed { error: error() },
    ] {
        log.read(&event(Some("j"), What::Replication(what)));
    }
    let [warnings, errors] = both.map(|(outlet, page)| {
        outlet.flush(Duration::from_secs(60));
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    });
    let has = |text: &str| text.lines().map(|line| line.contains("the cable is out (plug it in)")).collect::<Vec<_>>();
    assert_eq!(has(&warnings), [true, false, true, false], "{warnings}");
    assert_eq!(has(&errors), [true, false], "{errors}");
    assert_eq!(warnings.matches("the cable is out (see above)").count(), 2, "{warnings}");
}

#[test]
fn what_is_told_of_both_sides_is_not_told_again_of_one() {
    let both = "cannot list the sender and receiver:\n  sender: gone (look)\n  receiver: asleep (wake it)";
    let pruning = |side, error: &str| What::Pruning { side, what: Pruning::PlanFailed { error: error.to_owned() } };
    let events = [
        What::Replication(Replication::PlanFailed { error: both.to_owned() }),
        pruning(PruneSide::Sender, "cannot list the sender: gone (look)"),
        pruning(PruneSide::Receiver, "cannot list the receiver: asleep (wake it)"),
    ]
    .map(|what| event(Some("j"), what));
    let lines = written(LogLevel::Error, layout(LogFormat::Logfmt, false, false), &events);
    let told: Vec<&str> = lines.lines().filter_map(|line| line.split_once("err=").map(|(_, err)| err)).collect();
    assert_eq!(
        told[1..],
        [r#""cannot list the sender: gone (see above)""#, r#""cannot list the receiver: asleep (see above)""#]
    );
}

#[test]
fn the_words_of_a_child_on_several_lines_are_no_sides() {
    let failed = "cannot list the receiver: exit status 1\nstderr:\ncannot open 'p/x': I/O error";
    let pruning = "pruning of the sender side failed and will be tried again: q/y: I/O error".to_owned();
    let events = [
        What::Replication(Replication::PlanFailed { error: failed.to_owned() }),
        What::Warning { subsystem: "pruning", message: pruning.clone() },
    ]
    .map(|what| event(Some("j"), what));
    let lines = written(LogLevel::Warn, layout(LogFormat::Human, false, false), &events);
    assert!(lines.contains(&pruning) && !lines.contains("(see above)"), "{lines}");
}

#[test]
fn what_an_outlet_has_not_written_at_the_end_is_told_by_the_first_one() {
    let page = Page::default();
    let (key, open): (Sender<()>, _) = channel();
    let layout = layout(LogFormat::Human, false, false);
    let outlet = |out: Box<dyn Write + Send>| -> Arc<dyn Outlet> {
        Arc::new(StdoutLog::with(LogLevel::Info, layout.clone(), out, &Complaints::default()))
    };
    let slow = outlet(Box::new(Gate { open, page: Page::default() }));
    let outlets = [outlet(Box::new(page.clone())), Arc::clone(&slow)];
    let log = Log::new(outlets.to_vec());
    log.read(&event(None, What::DaemonStopped));
    // The first one has to write in that time.
    assert_eq!(finish(&outlets, Duration::from_secs(2)), None);
    expect![[r#"
        [INFO]: daemon exiting
        [ERRO][meta]: the last 1 log lines are missing in the stdout outlet, which was too slow
    "#]]
    .assert_eq(std::str::from_utf8(&page.0.lock().unwrap()).unwrap());
    let left = finish(&[slow], Duration::from_millis(1));
    assert_eq!(left.as_deref(), Some("the last 1 log lines are missing in the stdout outlet, which was too slow"));
    drop(key);
}

#[test]
fn a_span_leads_from_the_daemon_to_the_step() {
    let lines = written(LogLevel::Debug, layout(LogFormat::Logfmt, false, false), &story());
    let span = |message: &str| {
        let line = lines.lines().find(|line| line.contains(message)).unwrap();
        line.split(' ').find_map(|word| word.strip_prefix("span=")).unwrap().to_owned()
    };
    let attempt = span("start planning");
    assert!(attempt.starts_with(&span("invocation started")) && attempt.ends_with(".i7.r1"), "{attempt}");
    assert!(span("step started").starts_with(&format!("{attempt}.")), "{lines}");
    let [root, job, stack] = attempt.split('$').collect::<Vec<_>>()[..] else { panic!("{attempt}") };
    assert!(root != job && stack.starts_with(job) && root.len() == 4 && job.len() == 4, "{attempt}");
}

#[test]
fn what_is_done_about_conflicts_is_said_before_and_after() {
    let filesystem = || dataset("p/a");
    let discarding = |reason| Replication::Discarding { filesystem: filesystem(), reason };
    let resolving = |resolution| Replication::Resolving { filesystem: filesystem(), resolution };
    let resolved = |how: &str| Replication::Resolved { filesystem: filesystem(), how: how.to_owned() };
    let story: Vec<Event> = [
        resolving(Resolution::RollBack { to: snapshot("1"), destroy: vec![snapshot("own"), snapshot("own 2")] }),
        Replication::DestroyedToResolve {
            filesystem: filesystem(),
            snapshot: VersionName::parse("own").unwrap(),
            reason: "newer than @1 (diverged: rollback_receiver)".into(),
        },
        resolved("rolled back to @1"),
        resolving(Resolution::RenameAside { newest: snapshot("own"), below: vec![dataset("p/a/b")] }),
        resolved("renamed to q/a.zrepl.aside.1"),
        discarding(Discard::ToGone { to_name: "p/a@2".to_owned() }),
        discarding(Discard::Unreadable("its checksum does not match".to_owned())),
    ]
    .into_iter()
    .map(|what| event(Some("j"), What::Replication(what)))
    .collect();
    let lines = written(LogLevel::Info, layout(LogFormat::Human, false, false), &story);
    expect![[r#"
        [WARN][j][repl][sQaZ$7ww6$7ww6.QtEY]: resolving a conflict as the job is configured to fs="p/a" how="roll the receiver back to @1, destroying @own, @own 2 (diverged: rollback_receiver)"
        [WARN][j][repl][sQaZ$7ww6$7ww6.QtEY]: destroyed a snapshot on the receiver fs="p/a" snap="own" reason="newer than @1 (diverged: rollback_receiver)"
        [WARN][j][repl][sQaZ$7ww6$7ww6.QtEY]: resolved a conflict fs="p/a" how="rolled back to @1"
        [WARN][j][repl][sQaZ$7ww6$7ww6.QtEY]: resolving a conflict as the job is configured to fs="p/a" how="rename the receiver's filesystem, whose newest snapshot is @own, with 1 below it, aside (no_common: rename_aside)"
        [WARN][j][repl][sQaZ$7ww6$7ww6.QtEY]: resolved a conflict fs="p/a" how="renamed to q/a.zrepl.aside.1"
        [WARN][j][repl][sQaZ$7ww6$7ww6.QtEY]: discarding what an interrupted receive left, it cannot be resumed fs="p/a" reason="p/a@2 is gone from the sender"
        [WARN][j][repl][sQaZ$7ww6$7ww6.QtEY]: discarding what an interrupted receive left, it cannot be resumed fs="p/a" reason="the resume token cannot be read: its checksum does not match"
    "#]]
    .assert_eq(&lines);
}
