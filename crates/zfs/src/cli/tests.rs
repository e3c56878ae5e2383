//! Children that misbehave, played by shell scripts in place of `zfs`.

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::Instant;

use model::{Guid, VersionKind};
use rustix::process::{Pid, test_kill_process, test_kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::ops::{ReceiveTarget, SendFlags, SendSource};

/// Far longer than anything here takes, far shorter than a person would wait.
const LONG: Duration = Duration::from_secs(30);

struct Lab {
    dir: TempDir,
    zfs: ZfsCli,
    /// Ends of children.
    finished: mpsc::Receiver<CommandRecord>,
}

impl Lab {
    /// `script` is the body of a shell script that plays `zfs` and `zpool`.
    fn new(script: &str) -> Self {
        Self::with(script, |_| {})
    }

    fn with(script: &str, change: impl FnOnce(&mut CliConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zfs");
        write_program(&path, &format!("#!/bin/sh\nlab='{}'\n{script}\n", dir.path().display()));
        let program: OsString = path.into();
        let mut config = CliConfig { zfs: program.clone(), zpool: program, ..CliConfig::default() };
        change(&mut config);
        let (tell, finished) = mpsc::channel();
        let observer: Observer = Arc::new(move |record| {
            if matches!(record.event, CommandEvent::Finished { .. }) {
                let _ = tell.send(record.clone());
            }
        });
        Self { zfs: ZfsCli::new(config).with_observer(observer), dir, finished }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Waits for the end of one child and checks that neither it nor its group is left, not even as
    /// a zombie.
    async fn nothing_left(&self) -> CommandRecord {
        let since = Instant::now();
        let record = loop {
            match self.finished.try_recv() {
                Ok(record) => break record,
                Err(_) => tokio::task::yield_now().await, // the reaper runs on this thread
            }
            assert!(since.elapsed() < LONG, "the child was never reaped");
        };
        let pid = Pid::from_raw(record.pid.unwrap().cast_signed()).unwrap();
        assert!(test_kill_process(pid).is_err(), "{record:?} is still there");
        // Descendants are reaped by init, whenever that comes to it.
        while test_kill_process_group(pid).is_ok() && group_lives(pid) {
            assert!(since.elapsed() < LONG, "the group of {record:?} is still there");
        }
        assert_eq!(self.zfs.running(), []);
        record
    }
}

/// Whether a group has a process that is no zombie.
fn group_lives(group: Pid) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        fields.first() != Some(&"Z") && fields.get(2) == Some(&&*group.to_string())
    })
}

/// Written by another process: were the file open for writing here, a child forked by another test at
/// that moment would hold it open too, and it could not be executed.
fn write_program(path: &Path, text: &str) {
    let mut shell = std::process::Command::new("/bin/sh")
        .args(["-c", "cat >\"$0\" && chmod +x \"$0\""])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

fn name(text: &str) -> DatasetName {
    DatasetName::parse(text).unwrap()
}

fn snap(text: &str) -> Snapshot {
    let (dataset, short) = text.split_once('@').unwrap();
    Snapshot { dataset: name(dataset), name: VersionName::parse(short).unwrap() }
}

fn names(texts: &[&str]) -> Vec<VersionName> {
    texts.iter().map(|text| VersionName::parse(text).unwrap()).collect()
}

fn tag() -> HoldTag {
    HoldTag::parse("T").unwrap()
}

/// Each result as `ok` or the reason.
fn outcomes(results: &[ItemResult]) -> Vec<String> {
    results.iter().map(|result| result.as_ref().map_or_else(|e| e.kind.to_string(), |()| "ok".to_owned())).collect()
}

fn full_send() -> SendArgs {
    let to = VersionRef { kind: VersionKind::Snapshot, name: VersionName::parse("1").unwrap(), guid: Guid(1) };
    SendArgs { dataset: name("p/a"), source: SendSource::Snapshot { from: None, to, flags: SendFlags::default() } }
}

fn receive_args() -> ReceiveArgs {
    ReceiveArgs {
        dataset: name("q/r"),
        snapshot: VersionName::parse("1").unwrap(),
        target: ReceiveTarget::Continue,
        resumable: true,
        set: vec![],
        inherit: vec![],
        stall_limit: LONG,
    }
}

/// A real head of a stream, 400 bytes.
fn head() -> String {
    format!("cat '{}/testdata/head-full'", env!("CARGO_MANIFEST_DIR"))
}

/// A source of bytes that the test feeds.
fn source() -> (tokio::io::DuplexStream, ByteStream) {
    let (feed, stream) = tokio::io::duplex(64 * 1024);
    (feed, Box::pin(stream))
}

/// A source that gives `bytes` and then fails.
fn failing_source(bytes: &'static [u8]) -> ByteStream {
    struct Fails;
    impl pump::Bytes for Fails {}
    impl tokio::io::AsyncRead for Fails {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(std::io::Error::other("the network is down")))
        }
    }
    Box::pin(std::io::Cursor::new(bytes).chain(Fails))
}

// --- any command ---

#[tokio::test]
async fn the_environment_is_fixed_and_the_input_closed() {
    let lab = Lab::new(r#"read line && echo "input: $line" >&2; echo "$LC_ALL $LANG ${LANGUAGE-none}" >"$lab/env""#);
    lab.zfs.destroy_dataset(&name("p/a")).await.unwrap();
    assert_eq!(lab.read("env"), "C C none\n");
    let record = lab.nothing_left().await;
    assert_eq!(record.command.args[1..], ["destroy", "p/a"]);
}

#[tokio::test]
async fn pools_are_listed_by_name() {
    let lab = Lab::new(r"echo 'p'; echo 'tank 2'; echo 'not/a\pool'");
    assert_eq!(lab.zfs.pools().await.unwrap(), [name("p"), name("tank 2")]);
    let lab = Lab::new("echo 'no pools available' >&2");
    assert_eq!(lab.zfs.pools().await.unwrap(), []);
    let lab = Lab::new("echo 'this is a mock' >&2; exit 1");
    let error = lab.zfs.pools().await.unwrap_err().to_string();
    assert!(error.starts_with("cannot list \"all pools\": `zpool "), "{error}");
}

#[tokio::test]
async fn an_error_keeps_the_command_its_status_and_its_words() {
    let lab = Lab::new("echo 'error: this is a mock' >&2; exit 3");
    let error = lab.zfs.list(&Scope::Everything).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("cannot list \"all pools\": `zfs "), "{text}");
    assert!(text.ends_with("failed with exit status: 3: error: this is a mock"), "{text}");
    let lab = Lab::new("echo \"cannot open 'p/a': permission denied\" >&2; exit 1");
    let error = lab.zfs.destroy_dataset(&name("p/a")).await.unwrap_err();
    let child = error.details.unwrap().child.unwrap();
    assert_eq!(child.command, "zfs destroy p/a");
    assert_eq!(child.status, "exit status: 1");
    assert_eq!(child.stderr.trim(), "cannot open 'p/a': permission denied");
}

#[tokio::test]
async fn a_missing_program_is_not_remembered() {
    let lab = Lab::new("echo active");
    let path = lab.dir.path().join("zfs");
    let away = lab.dir.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    let error = lab.zfs.can_resume("p").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotStarted { .. }), "{error}");
    std::fs::rename(&away, &path).unwrap();
    assert!(lab.zfs.can_resume("p").await.unwrap());
    // A positive answer is kept.
    std::fs::rename(&path, &away).unwrap();
    assert!(lab.zfs.can_resume("p").await.unwrap());
}

#[tokio::test]
async fn a_child_killed_by_somebody_is_told_apart() {
    let lab = Lab::new("kill -KILL $$");
    let error = lab.zfs.destroy_dataset(&name("p/a")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Killed { signal: 9, .. }), "{error}");
    let released = lab.zfs.release(&tag(), &[snap("p/a@1"), snap("p/a@2")]).await;
    assert_eq!(outcomes(&released), ["`zfs release T p/a@1 p/a@2` was killed by signal 9"; 2]);
}

#[tokio::test]
async fn a_hanging_child_is_stopped_with_its_descendants() {
    let lab = Lab::with("sleep 1000 & sleep 1000", |config| config.deadlines.change = Duration::from_millis(50));
    let error = lab.zfs.destroy_dataset(&name("p/a")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline(_)), "{error}");
    lab.nothing_left().await;
}

#[tokio::test]
async fn a_dropped_call_leaves_nothing() {
    let lab = Lab::new("sleep 1000 & sleep 1000");
    let (p, released, holds) = (name("p/a"), [snap("p/a@1")], [snap("p/a@1")]);
    let tag = tag();
    let calls: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> = vec![
        Box::pin(async { drop(lab.zfs.list(&Scope::Everything).await) }),
        Box::pin(async { drop(lab.zfs.destroy_dataset(&p).await) }),
        Box::pin(async { drop(lab.zfs.release(&tag, &released).await) }),
        Box::pin(async { drop(lab.zfs.holds(&holds).await) }),
        Box::pin(async { drop(lab.zfs.send(&full_send()).await.map(|_| ())) }),
        Box::pin(async { drop(lab.zfs.receive(&receive_args(), source().1).await) }),
    ];
    for mut call in calls {
        assert!(futures::poll!(&mut call).is_pending());
        let running = lab.zfs.running().len();
        assert!(running > 0);
        drop(call);
        for _ in 0..running {
            // The last one checks that none is left.
            let record = loop {
                match lab.finished.try_recv() {
                    Ok(record) => break record,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let pid = Pid::from_raw(record.pid.unwrap().cast_signed()).unwrap();
            assert!(test_kill_process(pid).is_err(), "{record:?}");
        }
        assert_eq!(lab.zfs.running(), []);
    }
}

#[tokio::test]
async fn a_descendant_that_keeps_the_pipe_open_does_not_delay_the_end() {
    let lab = Lab::new("sleep 1000 & echo active");
    assert!(lab.zfs.can_resume("p").await.unwrap());
    lab.nothing_left().await;
}

#[tokio::test]
async fn a_flood_of_messages_is_read_and_its_end_kept() {
    let lab = Lab::new("head -c 5000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'the last words' >&2; exit 1");
    let error = lab.zfs.destroy_dataset(&name("p/a")).await.unwrap_err();
    let stderr = error.details.unwrap().child.unwrap().stderr;
    assert!(stderr.len() <= 1024 * 1024 && stderr.ends_with("the last words\n\n"), "{} bytes", stderr.len());
}

#[tokio::test]
async fn names_that_zfs_would_take_for_options_are_not_run() {
    let lab = Lab::new("echo run >\"$lab/run\"");
    let error = lab.zfs.destroy_dataset(&name("-r")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Name(_)), "{error}");
    let error = lab.zfs.set_property(&name("p"), "a=b", "c").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Name(_)), "{error}");
    assert_eq!(lab.read("run"), "");
}

// --- listings ---

#[tokio::test]
async fn a_listing_is_two_processes_and_says_what_is_missing() {
    let lab = Lab::new(
        r#"case "$1" in
        get) printf 'p\ttype\tfilesystem\t-\np\tkeystatus\t-\t-\np\treceive_resume_token\t-\t-\np\tzrepl:placeholder\ton\tlocal\n' ;;
        list) printf 'p@1\t7\t8\t9\t0\np/vanished@1\t7\t8\t9\t0\n' ;;
        esac
        echo "cannot open 'p/missing': dataset does not exist" >&2
        exit 1"#,
    );
    let scope = Scope::Trees(vec![name("p"), name("p/missing")]);
    let listing = lab.zfs.list(&scope).await.unwrap();
    assert_eq!(listing.missing, [name("p/missing")]);
    assert_eq!(listing.datasets.len(), 1);
    assert_eq!(listing.datasets[0].versions.len(), 1);
    assert_eq!(lab.finished.try_iter().count(), 2);
    assert!(lab.zfs.dataset(&name("p/missing")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn what_vanishes_between_the_two_processes_is_missing_and_not_without_versions() {
    let lab = Lab::new(
        r#"case "$1" in
        get) for one in p q q/a qq; do printf '%s\ttype\tfilesystem\t-\n%s\tkeystatus\t-\t-\n' $one $one; done ;;
        list) printf 'p@1\t7\t8\t9\t0\n'; echo "cannot open 'q': dataset does not exist" >&2; exit 1 ;;
        esac"#,
    );
    let scope = Scope::Trees(vec![name("p"), name("q"), name("qq")]);
    let listing = lab.zfs.list(&scope).await.unwrap();
    assert_eq!(listing.datasets.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["p", "qq"]);
    assert_eq!(listing.missing, [name("q")]);
    assert!(lab.zfs.dataset(&name("q")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_listing_that_is_cut_short_is_no_listing() {
    let lab = Lab::new(r#"[ "$1" = list ] && { printf 'p@1\t7\t8\t9\t0\n'; kill -KILL $$; }; exit 0"#);
    let error = lab.zfs.list(&Scope::Everything).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Killed { .. }), "{error}");
    let lab = Lab::new(r#"[ "$1" = list ] && printf 'p@1\t7\t8\n'; exit 0"#);
    let error = lab.zfs.list(&Scope::Everything).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Output { .. }), "{error}");
}

// --- bulk ---

/// Plays `zfs snapshot`: refuses a dataset twice and two pools, then what is missing or there.
const SNAPSHOT: &str = r#"
shift; echo "$*" >>"$lab/calls"
for s; do case "$s" in *missing@*)
    echo "cannot open '${s%@*}': dataset does not exist" >&2; echo usage: >&2; exit 2;; esac; done
bad=
for s; do case "$s" in *@there) echo "cannot create snapshot '$s': dataset already exists" >&2; bad=1;; esac; done
[ $bad ] && { echo "no snapshots were created" >&2; exit 1; }
for s; do case "$s" in *secret@*) echo "cannot create snapshots : permission denied" >&2; exit 1;; esac; done
exit 0"#;

#[tokio::test]
async fn a_failed_snapshot_does_not_prevent_the_others() {
    let lab = Lab::new(SNAPSHOT);
    let items = ["p/a@1", "p/missing@1", "p/b@there", "p/c@1", "p/a@2", "p/d@there"].map(snap);
    let results = lab.zfs.snapshot(&items).await;
    let exists = "it exists already";
    assert_eq!(outcomes(&results), ["ok", "dataset does not exist", exists, "ok", "ok", exists]);
    assert_eq!(
        lab.read("calls"),
        "p/a@1 p/missing@1 p/b@there p/c@1 p/d@there\np/a@1 p/b@there p/c@1 p/d@there\np/a@1 p/c@1\np/a@2\n"
    );
}

#[tokio::test]
async fn a_failure_without_a_name_is_narrowed_down() {
    let lab = Lab::new(SNAPSHOT);
    let items = ["p/a@1", "p/b@1", "p/secret@1", "p/c@1"].map(snap);
    let denied = ErrorKind::PermissionDenied.to_string();
    assert_eq!(outcomes(&lab.zfs.snapshot(&items).await), ["ok", "ok", &denied, "ok"]);
    assert_eq!(lab.read("calls"), "p/a@1 p/b@1 p/secret@1 p/c@1\np/a@1 p/b@1\np/secret@1 p/c@1\np/secret@1\np/c@1\n");
}

#[tokio::test]
async fn a_pool_wide_failure_is_not_tried_item_by_item() {
    let lab = Lab::new(r#"echo "$*" >>"$lab/calls"; echo "cannot create snapshots : pool is read-only" >&2; exit 1"#);
    let results = lab.zfs.snapshot(&["p/a@1", "p/b@1", "p/c@1"].map(snap)).await;
    assert_eq!(
        outcomes(&results),
        ["the pool is read-only (see `zpool get readonly`, and import it without `-o readonly=on`)"; 3]
    );
    assert_eq!(lab.read("calls"), "snapshot p/a@1 p/b@1 p/c@1\n");
}

#[tokio::test]
async fn holds_are_made_once_and_failures_attributed() {
    let lab = Lab::new(
        r#"shift; shift; echo "$*" >>"$lab/calls"
        echo "cannot hold snapshot 'p/a@there': tag already exists on this dataset" >&2
        echo "cannot hold snapshot 'p/a@gone': dataset does not exist" >&2
        echo "cannot open 'p/gone': dataset does not exist" >&2
        exit 1"#,
    );
    let items = ["p/a@1", "p/a@there", "p/a@gone", "p/gone@1"].map(snap);
    let missing = "dataset does not exist";
    assert_eq!(outcomes(&lab.zfs.hold(&tag(), &items).await), ["ok", "ok", missing, missing]);
    assert_eq!(lab.read("calls"), "p/a@1 p/a@there p/a@gone p/gone@1\n");
}

#[tokio::test]
async fn a_release_succeeds_if_nothing_is_left_to_release() {
    let lab = Lab::new(
        r#"echo "cannot release hold from snapshot 'p/a@1': no such tag on this dataset" >&2
        echo "cannot release hold from snapshot 'p/a@2': dataset does not exist" >&2
        echo "cannot open 'p/gone': dataset does not exist" >&2
        echo "cannot release hold from snapshot 'p/a@3': permission denied" >&2
        exit 1"#,
    );
    let items = ["p/a@1", "p/a@2", "p/gone@1", "p/a@3", "p/a@4"].map(snap);
    let denied = ErrorKind::PermissionDenied.to_string();
    assert_eq!(outcomes(&lab.zfs.release(&tag(), &items).await), ["ok", "ok", "ok", &denied, "ok"]);
}

#[tokio::test]
async fn one_complaint_for_each_item_without_its_name_fails_all() {
    let lab = Lab::new(
        r#"shift; shift; echo "$*" >>"$lab/calls"; for s; do echo "cannot hold: permission denied" >&2; done; exit 1"#,
    );
    let denied = ErrorKind::PermissionDenied.to_string();
    assert_eq!(outcomes(&lab.zfs.hold(&tag(), &["p/a@1", "p/a@2"].map(snap)).await), [&*denied, &denied]);
    assert_eq!(lab.read("calls"), "p/a@1 p/a@2\n");
    // A failure without a word is nobody's success.
    let lab = Lab::new("exit 1");
    let results = lab.zfs.release(&tag(), &["p/a@1", "p/a@2"].map(snap)).await;
    assert!(results.iter().all(Result::is_err), "{results:?}");
}

#[tokio::test]
async fn what_no_snapshot_of_a_filesystem_allows_is_not_tried_for_each() {
    for (said, kind) in [("permission denied", ErrorKind::PermissionDenied), ("pool is read-only", ErrorKind::ReadOnly)]
    {
        let script = format!(r#"echo "$*" >>"$lab/calls"; echo "cannot destroy snapshots: {said}" >&2; exit 1"#);
        let lab = Lab::new(&script);
        let names = ["1", "2", "3"].map(|name| VersionName::parse(name).unwrap());
        let results = lab.zfs.destroy_snapshots(&DatasetName::parse("p/a").unwrap(), &names).await;
        assert_eq!(outcomes(&results), [kind.to_string(), kind.to_string(), kind.to_string()]);
        assert_eq!(lab.read("calls"), "destroy p/a@1,2,3\n");
    }
}

#[tokio::test]
async fn arguments_are_cut_to_what_fits() {
    let lab = Lab::with(r#"shift; echo "$#" >>"$lab/calls""#, |config| config.arguments.total = 1024 + 140);
    let items: Vec<Snapshot> = (0..10).map(|i| snap(&format!("p/a@{i}"))).collect();
    assert_eq!(outcomes(&lab.zfs.hold(&tag(), &items).await), ["ok"; 10]);
    assert_eq!(lab.read("calls"), "11\n");
    let items: Vec<Snapshot> = (10..30).map(|i| snap(&format!("p/a@{i}"))).collect();
    assert_eq!(outcomes(&lab.zfs.hold(&tag(), &items).await), ["ok"; 20]);
    assert_eq!(lab.read("calls"), "11\n10\n10\n3\n", "the tag counts too");
}

/// A lab whose limits allow more than any system does; each command writes down how many words it got.
fn unlimited(script: &str) -> Lab {
    let count = r#"echo "$#" >>"$lab/calls""#;
    Lab::with(&format!("{count}; {script}"), |config| {
        config.arguments = ArgumentSpace { total: usize::MAX, one: usize::MAX };
    })
}

fn many(count: usize, name: impl Fn(usize) -> String) -> Vec<Snapshot> {
    (0..count).map(|index| snap(&name(index))).collect()
}

impl Lab {
    /// Number of commands that ran, and of their words without the `options` of each.
    fn commands_and_items(&self, options: usize) -> (usize, usize) {
        let words: Vec<usize> = self.read("calls").lines().map(|line| line.parse().unwrap()).collect();
        (words.len(), words.iter().sum::<usize>() - options * words.len())
    }
}

#[tokio::test]
async fn words_that_no_command_can_take_are_a_kind_of_error() {
    let lab = Lab::new("exit 0");
    let mebibyte = "x".repeat(1024 * 1024);
    let argv = argv::destroy(&mebibyte);
    let argv = argv::Argv { args: [argv.args, vec![mebibyte]].concat(), ..argv };
    let error = lab.zfs.run("destroy", "p/a", &argv).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::ArgumentsTooLong), "{error}");
    assert!(error.to_string().starts_with("cannot destroy \"p/a\": its arguments are longer than"), "{error}");
}

#[tokio::test]
async fn more_than_the_system_takes_is_halved_until_all_is_done() {
    const COUNT: usize = 30_000;
    let long = "x".repeat(200);
    let of_one = many(COUNT, |index| format!("p/a@{long}{index}"));
    let of_many = many(COUNT, |index| format!("p/{long}{index}@s"));

    let lab = unlimited("");
    assert!(lab.zfs.snapshot(&of_many).await.iter().all(Result::is_ok));
    let (commands, items) = lab.commands_and_items(1);
    assert!(commands > 1 && items == COUNT, "snapshot: {commands}, {items}");

    let lab = unlimited("");
    assert!(lab.zfs.hold(&tag(), &of_one).await.iter().all(Result::is_ok));
    let (commands, items) = lab.commands_and_items(2);
    assert!(commands > 1 && items == COUNT, "hold: {commands}, {items}");

    let lab = unlimited("");
    assert!(lab.zfs.release(&tag(), &of_one).await.iter().all(Result::is_ok));
    let (commands, items) = lab.commands_and_items(2);
    assert!(commands > 1 && items == COUNT, "release: {commands}, {items}");

    let lab = unlimited("");
    assert_eq!(lab.zfs.holds(&of_one).await.unwrap(), []);
    let (commands, items) = lab.commands_and_items(2);
    assert!(commands > 1 && items == COUNT, "holds: {commands}, {items}");

    let lab = unlimited("");
    let roots: Vec<DatasetName> = of_many.iter().map(|snapshot| snapshot.dataset.clone()).collect();
    let listing = lab.zfs.list(&Scope::Trees(roots)).await.unwrap();
    assert_eq!(listing.missing.len(), COUNT, "the stand-in has none of them");
    let (commands, _) = lab.commands_and_items(0);
    assert!(commands > 2 && commands % 2 == 0, "list: {commands}");
}

#[tokio::test]
async fn one_word_that_is_too_long_is_halved_until_all_is_done() {
    let long = "x".repeat(200);
    let wanted: Vec<VersionName> =
        (0..30_000).map(|index| VersionName::parse(&format!("{long}{index}")).unwrap()).collect();
    let lab = unlimited(r#"echo "$2" | tr , '\n' | sed 's/^p@//' >>"$lab/destroyed""#);
    assert!(lab.zfs.destroy_snapshots(&name("p"), &wanted).await.iter().all(Result::is_ok));
    let text = lab.read("destroyed");
    let mut destroyed: Vec<&str> = text.lines().collect();
    destroyed.sort_unstable();
    let mut expected: Vec<&str> = wanted.iter().map(VersionName::as_str).collect();
    expected.sort_unstable();
    assert!(destroyed == expected, "{} of {} destroyed, each once", destroyed.len(), expected.len());
}

#[tokio::test]
async fn the_snapshots_of_a_large_pool_are_one_command() {
    let lab = Lab::new(r#"echo "$#" >>"$lab/calls""#);
    let items = many(5000, |index| format!("tank/data/g{:03}/fs{index:05}@round_20261121_160411_000", index % 5));
    assert!(lab.zfs.snapshot(&items).await.iter().all(Result::is_ok));
    assert_eq!(lab.read("calls"), "5001\n");
}

#[tokio::test]
async fn the_room_that_is_reckoned_with_is_there() {
    let lab = Lab::new(r#"echo "$#" >>"$lab/calls""#);
    let refused = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let zfs = lab.zfs.with_observer(Arc::new(move |record| {
        if matches!(record.event, CommandEvent::NotStarted(_)) {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }));
    // Words of few bytes and of many: the pointers count for the former.
    for name in [String::new(), "x".repeat(200)] {
        let space = ArgumentSpace::of_this_process().total;
        let items = many(space / argv::Argv::cost(name.len() + 9) * 5 / 4, |index| format!("p/a@{name}{index:05}"));
        assert!(zfs.hold(&tag(), &items).await.iter().all(Result::is_ok));
    }
    assert_eq!(refused.load(std::sync::atomic::Ordering::Relaxed), 0, "the kernel takes what was reckoned");
    assert_eq!(lab.commands_and_items(0).0, 4, "and each was filled");
}

#[tokio::test]
async fn holds_of_vanished_snapshots_are_none() {
    let lab = Lab::new(
        r#"printf 'p/a@1\tT\tSat Nov 21 09:53 2026\n'; echo "cannot open 'p/a@gone': dataset does not exist" >&2; exit 1"#,
    );
    let holds = lab.zfs.holds(&["p/a@1", "p/a@gone"].map(snap)).await.unwrap();
    assert_eq!(holds, [Hold { dataset: name("p/a"), snapshot: names(&["1"])[0].clone(), tag: tag() }]);
    let error = lab.zfs.holds(&[snap("p/a@1")]).await.unwrap_err();
    assert!(error.is_not_found(), "a snapshot that was not asked for: {error}");
}

/// Plays `zfs destroy`: what has "held" or "clone" in its name stays, and then all others do too.
const DESTROY: &str = r#"
arg=$2; echo "$arg" >>"$lab/calls"; fs=${arg%%@*}; IFS=,; set -- ${arg#*@}
case "$arg" in *broken*) echo "internal error: who knows" >&2; exit 1;; esac
bad=; for s; do case "$s" in clone*) echo "cannot destroy '$fs@$s': snapshot has dependent clones" >&2
    echo "use '-R' to destroy the following datasets:" >&2; echo "p/c" >&2; bad=1;; esac; done
[ $bad ] && exit 1
for s; do case "$s" in held*)
    echo "cannot destroy snapshot $fs@$s: it's being held. Run 'zfs holds -r $fs@$s' to see holders." >&2; bad=1;; esac; done
[ $bad ] && exit 1
for s; do case "$s" in gone*) ;; *) exit 0;; esac; done
echo "could not find any snapshots to destroy; check snapshot names." >&2; exit 1"#;

#[tokio::test]
async fn destroying_takes_out_what_cannot_be_destroyed() {
    let held = ErrorKind::Held.to_string();
    let clones = ErrorKind::HasClones.to_string();
    for (request, expected, calls) in [
        (&["foo", "bar"][..], vec!["ok", "ok"], "a@bar,foo\n"),
        (&["zab", "held", "bar"], vec!["ok", &held, "ok"], "a@bar,held,zab\na@bar,zab\n"),
        (&["held"], vec![&*held], "a@held\n"),
        (&["held1", "held2"], vec![&held, &held], "a@held1,held2\n"),
        (
            &["clone", "held", "b", "clone2"],
            vec![&clones, &held, "ok", &clones],
            "a@b,clone,clone2,held\na@b,held\na@b\n",
        ),
        (&["gone1", "gone2"], vec!["ok", "ok"], "a@gone1,gone2\n"),
        (&["x", "gone", "x"], vec!["ok"; 3], "a@gone,x\n"),
        (&["4 5 6", "1 2 3"], vec!["ok", "ok"], "a@1 2 3,4 5 6\n"),
        (&[], vec![], ""),
    ] {
        let lab = Lab::new(DESTROY);
        let results = lab.zfs.destroy_snapshots(&name("a"), &names(request)).await;
        assert_eq!(outcomes(&results), expected, "{request:?}");
        assert_eq!(lab.read("calls"), calls, "{request:?}");
    }
}

#[tokio::test]
async fn destroying_tries_each_alone_if_the_reason_names_none() {
    let lab = Lab::new(DESTROY);
    let results = lab.zfs.destroy_snapshots(&name("c"), &names(&["bar", "baz", "broken"])).await;
    assert_eq!(
        outcomes(&results),
        ["ok", "ok", "`zfs destroy c@broken` failed with exit status: 1: internal error: who knows"]
    );
    assert_eq!(lab.read("calls"), "c@bar,baz,broken\nc@bar\nc@baz\nc@broken\n");
}

// --- send ---

#[tokio::test]
async fn a_send_gives_its_size_and_exactly_its_bytes() {
    let chatter = r#"printf 'full\tp/a@1\t4711\nsize\t4711\n' >&2"#;
    let lab =
        Lab::new(&format!("{chatter}; {}; head -c 300000 /dev/zero; printf '09:54:15\\t12\\tp/a@1\\n' >&2", head()));
    let mut send = lab.zfs.send(&full_send()).await.unwrap();
    assert_eq!(send.expected.get(), Some(4711));
    let mut bytes = Vec::new();
    send.bytes.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len(), 300_400);
    assert_eq!(bytes[..400], std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/head-full")).unwrap());
    assert_eq!(send.bytes.read(&mut [0; 10]).await.unwrap(), 0, "the end stays the end");
    lab.nothing_left().await;
}

#[tokio::test]
async fn a_send_that_cannot_start_fails_with_its_own_error() {
    let lab = Lab::new(
        "printf 'size\\t1\\n' >&2; echo \"warning: cannot send 'p/a@1': dataset key must be loaded\" >&2; exit 1",
    );
    let error = lab.zfs.send(&full_send()).await.err().unwrap();
    assert!(matches!(error.kind, ErrorKind::KeyNotLoaded), "{error}");
    let child = error.details.unwrap().child.unwrap();
    assert_eq!(child.stderr.trim(), "warning: cannot send 'p/a@1': dataset key must be loaded", "no chatter");
    for not_a_stream in ["exit 0", "head -c 1000 /dev/zero"] {
        let lab = Lab::new(not_a_stream);
        let error = lab.zfs.send(&full_send()).await.err().unwrap();
        assert!(matches!(error.kind, ErrorKind::Output { .. }), "{error}");
        lab.nothing_left().await;
    }
}

#[tokio::test]
async fn a_send_that_dies_in_the_middle_is_no_clean_end() {
    for (death, expected) in [
        ("kill -KILL $$", "was killed by signal 9"),
        ("echo \"warning: cannot send 'p/a@1': I/O error\" >&2; exit 1", "I/O error"),
    ] {
        let lab = Lab::new(&format!("{}; head -c 100000 /dev/zero; {death}", head()));
        let mut send = lab.zfs.send(&full_send()).await.unwrap();
        let mut bytes = Vec::new();
        let error = send.bytes.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(bytes.len(), 100_400);
        assert!(error.get_ref().unwrap().downcast_ref::<Error>().is_some());
        assert!(error.to_string().contains(expected), "{error}");
        assert!(send.bytes.read(&mut [0; 10]).await.is_err(), "and stays that");
        lab.nothing_left().await;
    }
}

/// An output that fails to be read: a socket whose other end went away without reading.
fn unreadable() -> tokio::process::ChildStdout {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.write_all(b"unread").unwrap();
    drop(theirs);
    tokio::process::ChildStdout::from_std(std::process::ChildStdout::from(std::os::fd::OwnedFd::from(ours))).unwrap()
}

/// zrepl calls this `SendStreamNonEOFReadErrorHandling`.
#[tokio::test]
async fn a_stream_that_cannot_be_read_has_no_clean_end_even_if_its_child_has() {
    for script in ["head -c 100000 /dev/zero", "exec cat /dev/zero", "sleep 1000"] {
        let lab = Lab::new(script);
        let mut process = lab.zfs.runner.spawn(&argv::send(&full_send()), run::Pipes::Output).unwrap();
        process.stdout = Some(unreadable());
        let mut bytes = send::SendReader::new(process, vec![1; 128], "p/a@1".to_owned()).unwrap();
        let mut start = [0; 128];
        bytes.read_exact(&mut start).await.unwrap();
        for _ in 0..2 {
            let error = bytes.read(&mut [0; 10]).await.unwrap_err();
            assert!(error.to_string().contains("the stream cannot be read: Connection reset by peer"), "{error}");
            assert!(error.get_ref().unwrap().downcast_ref::<Error>().is_some());
        }
        drop(bytes);
        lab.nothing_left().await;
    }
}

#[tokio::test]
async fn a_listing_that_cannot_be_read_is_no_listing() {
    let lab = Lab::new("echo p/a");
    let mut process = lab.zfs.runner.spawn(&argv::send(&full_send()), run::Pipes::Output).unwrap();
    process.stdout = Some(unreadable());
    let read = process.read_lines(&mut |_| Ok(())).await;
    assert!(read.unwrap_err().into_problem().starts_with("it cannot be read: Connection reset by peer"));
    drop(process);
    lab.nothing_left().await;
}

#[tokio::test]
async fn dropping_a_send_ends_a_child_that_writes_and_one_that_does_not() {
    for rest in ["exec cat /dev/zero", "sleep 1000", "trap '' PIPE TERM; while :; do :; done"] {
        let lab = Lab::new(&format!("{}; {rest}", head()));
        let send = lab.zfs.send(&full_send()).await.unwrap();
        drop(send);
        lab.nothing_left().await;
    }
}

#[tokio::test]
async fn a_send_that_says_nothing_is_stopped() {
    let lab = Lab::with("sleep 1000", |config| config.deadlines.send_start = Duration::from_millis(50));
    let error = lab.zfs.send(&full_send()).await.err().unwrap();
    assert!(matches!(error.kind, ErrorKind::Deadline(_)), "{error}");
    lab.nothing_left().await;
}

#[tokio::test]
async fn an_estimate_may_be_missing() {
    let lab = Lab::new(r#"printf 'incremental\tp/a#b\tp/a@1\t624\nsize\t624\n'"#);
    assert_eq!(lab.zfs.estimate_send(&full_send()).await.unwrap(), Some(624));
    let lab = Lab::new(r#"printf 'full\tp/a@1\n'"#);
    assert_eq!(lab.zfs.estimate_send(&full_send()).await.unwrap(), None);
}

// --- receive ---

const INTERRUPTED: &str = "echo 'cannot receive new filesystem stream: checksum mismatch or incomplete stream.
Partially received snapshot is saved.
A resuming stream can be generated on the sending system by running:
    zfs send -t 1-ab-c-d' >&2; exit 1";

#[tokio::test]
async fn a_receive_gets_exactly_the_bytes() {
    let lab = Lab::new("cat >\"$lab/received\"");
    let bytes: &'static [u8] = vec![7; 3_000_000].leak();
    lab.zfs.receive(&receive_args(), Box::pin(bytes)).await.unwrap();
    assert_eq!(std::fs::read(lab.dir.path().join("received")).unwrap(), bytes);
    lab.nothing_left().await;
}

#[tokio::test]
async fn a_receive_that_fails_early_does_not_wait_for_an_idle_source() {
    let lab = Lab::new("echo \"cannot receive new filesystem stream: out of space\" >&2; exit 1");
    let (_feed, idle) = source();
    let error = lab.zfs.receive(&receive_args(), idle).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NoSpace), "{error}");
    lab.nothing_left().await;
}

#[tokio::test]
async fn a_receive_that_fails_while_bytes_come_says_why() {
    let lab =
        Lab::new("head -c 100000 >/dev/null; echo 'cannot receive new filesystem stream: out of space' >&2; exit 1");
    let error = lab.zfs.receive(&receive_args(), Box::pin(tokio::io::repeat(0))).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NoSpace), "{error}");
    lab.nothing_left().await;
}

#[tokio::test]
async fn a_source_that_fails_lets_the_receive_write_down_its_state() {
    let lab = Lab::new(&format!("cat >\"$lab/received\"; {INTERRUPTED}"));
    let error = lab.zfs.receive(&receive_args(), failing_source(b"some bytes")).await.unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Source(text) if text == "the network is down"), "{error}");
    assert_eq!(error.resume_token(), Some("1-ab-c-d"));
    assert_eq!(
        error.to_string(),
        "cannot receive into \"q/r\": the stream failed: the network is down; what arrived is kept and can be resumed"
    );
    assert_eq!(lab.read("received"), "some bytes");
    lab.nothing_left().await;
}

#[tokio::test]
async fn a_source_that_ends_early_interrupts_the_receive() {
    let lab = Lab::new(&format!("cat >/dev/null; {INTERRUPTED}"));
    let error = lab.zfs.receive(&receive_args(), Box::pin(&b"half"[..])).await.unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Interrupted { token } if token == "1-ab-c-d"), "{error}");
}

#[tokio::test]
async fn a_stalled_source_ends_the_receive_and_keeps_its_state() {
    let lab = Lab::new(&format!("cat >/dev/null; {INTERRUPTED}"));
    let (mut feed, idle) = source();
    feed.write_all(b"some bytes").await.unwrap();
    let args = ReceiveArgs { stall_limit: Duration::from_millis(50), ..receive_args() };
    let error = lab.zfs.receive(&args, idle).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Stalled(_)), "{error}");
    assert_eq!(error.resume_token(), Some("1-ab-c-d"));
    lab.nothing_left().await;
}

#[tokio::test]
async fn a_receive_that_does_not_end_is_stopped() {
    let lab = Lab::with("exec 0<&-; sleep 1000 & sleep 1000", |config| {
        config.deadlines.receive_end = Duration::from_millis(50);
    });
    let error = lab.zfs.receive(&receive_args(), Box::pin(tokio::io::empty())).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline(_)), "{error}");
    lab.nothing_left().await;
}

#[tokio::test]
async fn a_stream_is_read_to_its_end_after_the_receive_is_complete() {
    let lab = Lab::new("head -c 10 >/dev/null; exit 0");
    let (mut feed, stream) = source();
    let args = receive_args();
    let (result, ()) = futures::join!(lab.zfs.receive(&args, stream), async {
        feed.write_all(&[0; 200_000]).await.unwrap();
        feed.shutdown().await.unwrap();
    });
    result.unwrap();
}
