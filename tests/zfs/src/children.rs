//! What only the real command line can show: how many processes an operation takes, and what becomes
//! of children, streams and received state when something ends early.

use crate::case::Case;
use crate::lab::{Bench, command};
use anyhow::{Context as _, Result, bail, ensure};
use model::{DatasetName, HoldTag, VersionKind, VersionName, VersionRef};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::Notify;
use zfs::cli::{CliConfig, CommandEvent, CommandRecord, ZfsCli};
use zfs::{
    ByteStream, Dataset, ErrorKind, ItemResult, ReceiveArgs, ReceiveTarget, Scope, SendArgs, SendFlags, SendSource,
    Snapshot, Zfs,
};

/// A case's body.
type Body = for<'a> fn(&'a Work<'a>) -> futures::future::LocalBoxFuture<'a, Result<()>>;

/// The cases of this module.
pub(crate) fn cases() -> Vec<Case> {
    let cases: [(&str, Body); 8] = [
        ("children::listing_takes_two_processes", |work| Box::pin(listing_takes_two_processes(work))),
        ("children::bulk_commands_take_few_processes", |work| Box::pin(bulk_commands_take_few_processes(work))),
        ("children::destroy_takes_a_round_for_clones_and_one_for_holds", |work| {
            Box::pin(destroy_takes_a_round_for_clones_and_one_for_holds(work))
        }),
        ("children::every_kind_of_stream_arrives_and_announces_its_size", |work| {
            Box::pin(every_kind_of_stream_arrives_and_announces_its_size(work))
        }),
        ("children::killed_send_interrupts_and_resumes", |work| Box::pin(killed_send_interrupts_and_resumes(work))),
        ("children::failed_source_keeps_the_received_state", |work| {
            Box::pin(failed_source_keeps_the_received_state(work))
        }),
        ("children::killed_receive_ends_an_idle_source", |work| Box::pin(killed_receive_ends_an_idle_source(work))),
        ("children::dropped_streams_leave_no_child", |work| Box::pin(dropped_streams_leave_no_child(work))),
    ];
    cases.map(|(name, body)| Case::real(name, move |bench| on_bench(bench, body))).into()
}

fn on_bench(bench: &Bench, body: Body) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let work = Work::new(bench);
        tokio::time::timeout(Duration::from_secs(120), body(&work)).await.context("the case hangs")?
    })
}

/// A bench with a command line whose children are recorded.
struct Work<'a> {
    bench: &'a Bench,
    zfs: ZfsCli,
    records: Arc<Mutex<Vec<CommandRecord>>>,
}

impl<'a> Work<'a> {
    fn new(bench: &'a Bench) -> Self {
        let records = Arc::<Mutex<Vec<CommandRecord>>>::default();
        let log = Arc::clone(&records);
        let zfs = ZfsCli::new(CliConfig::default()).with_observer(Arc::new(move |record| {
            log.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
        }));
        Self { bench, zfs, records }
    }

    /// The commands that were started since the last call, without their options.
    fn started(&self) -> Vec<String> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records
            .drain(..)
            .filter(|record| matches!(record.event, CommandEvent::Started))
            .filter_map(|record| record.command.args.get(1).cloned())
            .collect()
    }

    /// Kills the children of a command by a signal of somebody else's.
    fn kill(&self, verb: &str) -> Result<()> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let pids = records.iter().filter(|record| {
            matches!(record.event, CommandEvent::Started) && record.command.args.get(1).is_some_and(|a| a == verb)
        });
        for pid in pids.filter_map(|record| record.pid) {
            command("bash", &["-c", &format!("kill -KILL {pid}")])?;
        }
        Ok(())
    }

    /// Waits until no child is left.
    async fn no_child_left(&self) {
        while !self.zfs.running().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    /// A filesystem with a file of random bytes and the snapshots `1` and `2`, and an empty pool.
    fn sender(&self, mib: u32) -> Result<(DatasetName, DatasetName)> {
        let (from, to) = (self.bench.pool("from")?, self.bench.pool("to")?);
        let source = format!("{from}/f s");
        let folder = self.bench.mountpoint(&source);
        self.bench.bash(&format!(
            "zfs create '{source}'
             head -c {mib}M /dev/urandom >'{folder}/one'; zfs snapshot '{source}@1'
             head -c {mib}M /dev/urandom >'{folder}/two'; zfs snapshot '{source}@2'",
            folder = folder.display()
        ))?;
        Ok((DatasetName::parse(&source)?, DatasetName::parse(&format!("{to}/r"))?))
    }

    async fn version(&self, dataset: &DatasetName, kind: VersionKind, name: &str) -> Result<VersionRef> {
        let dataset = self.zfs.dataset(dataset).await?;
        let mut versions = dataset.versions.iter();
        let found = versions.find(|version| version.kind == kind && version.name.as_str() == name);
        Ok(found.with_context(|| format!("no {name} in {dataset:?}"))?.to_ref())
    }

    async fn send_args(&self, dataset: &DatasetName, from: Option<VersionRef>, to: &str) -> Result<SendArgs> {
        let to = self.version(dataset, VersionKind::Snapshot, to).await?;
        let flags = SendFlags::default();
        Ok(SendArgs { dataset: dataset.clone(), source: SendSource::Snapshot { from, to, flags } })
    }

    async fn token(&self, dataset: &DatasetName) -> Result<String> {
        self.zfs.dataset(dataset).await?.resume_token.context("no token")
    }

    /// Continues an interrupted receive to its end.
    async fn resume(&self, source: &DatasetName, target: &DatasetName, snapshot: &str) -> Result<()> {
        let token = self.token(target).await?;
        let resumed = SendArgs { dataset: source.clone(), source: SendSource::Resume { token } };
        let stream = self.zfs.send(&resumed).await?.bytes;
        self.zfs.receive(&receive_args(target, snapshot)?, stream).await?;
        self.same_content(source, target, snapshot)
    }

    fn same_content(&self, source: &DatasetName, target: &DatasetName, snapshot: &str) -> Result<()> {
        let folder =
            |dataset: &DatasetName| self.bench.mountpoint(dataset.as_str()).join(".zfs/snapshot").join(snapshot);
        let (source, target) = (folder(source), folder(target));
        command("diff", &["-r", &source.to_string_lossy(), &target.to_string_lossy()]).map(drop)
    }
}

fn receive_args(target: &DatasetName, snapshot: &str) -> Result<ReceiveArgs> {
    Ok(ReceiveArgs {
        dataset: target.clone(),
        snapshot: VersionName::parse(snapshot)?,
        target: ReceiveTarget::Continue,
        resumable: true,
        set: Vec::new(),
        inherit: Vec::new(),
        stall_limit: Duration::from_secs(60),
    })
}

fn snap(dataset: &str, name: &str) -> Result<Snapshot> {
    Ok(Snapshot { dataset: DatasetName::parse(dataset)?, name: VersionName::parse(name)? })
}

/// Each result as `ok` or the name of its kind.
fn outcomes(results: &[ItemResult]) -> Vec<String> {
    let kind = |error: &zfs::Error| format!("{:?}", error.kind).split([' ', '(']).next().unwrap_or_default().to_owned();
    results.iter().map(|result| result.as_ref().map_or_else(kind, |()| "ok".to_owned())).collect()
}

/// The first `left` bytes of a stream, then an error.
struct Breaking {
    stream: ByteStream,
    left: u64,
}

impl pump::Bytes for Breaking {}

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the network is down")));
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.remaining());
        let mut part = buffer.take(room);
        ready!(self.stream.as_mut().poll_read(cx, &mut part))?;
        let n = part.filled().len();
        self.left -= n as u64;
        // `take` reads into the space behind what is filled: it only remains to be counted.
        let filled = part.filled().to_vec();
        buffer.put_slice(&filled);
        Poll::Ready(Ok(()))
    }
}

/// The first bytes of a stream, after which nothing comes and the end neither. Tells when it has come
/// so far.
fn then_idle(stream: ByteStream, bytes: u64, reached: Arc<Notify>) -> ByteStream {
    struct Idle(Arc<Notify>);
    impl pump::Bytes for Idle {}

    impl AsyncRead for Idle {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.notify_one();
            Poll::Pending
        }
    }
    Box::pin(stream.take(bytes).chain(Idle(reached)))
}

async fn listing_takes_two_processes(work: &Work<'_>) -> Result<()> {
    let pool = work.bench.pool("a")?;
    work.bench.bash(&format!(
        "zfs create -o zrepl:placeholder=on {pool}/a
         zfs create '{pool}/a b'
         zfs create {pool}/a/c
         zfs create -V 1M {pool}/vol
         zfs set zrepl:placeholder=$'off\\nx\\ty' '{pool}/a b'
         for i in 1 2 3; do zfs snapshot -r {pool}@$i; done
         zfs bookmark {pool}/a@2 {pool}/a#mark
         zfs destroy {pool}/a@2
         zfs hold tag {pool}/a@3"
    ))?;
    let missing = DatasetName::parse(&format!("{pool}/none"))?;
    let elsewhere = DatasetName::parse("no-such-pool/a")?;
    let scope = Scope::Trees(vec![DatasetName::parse(&pool)?, missing.clone(), elsewhere.clone()]);
    let listing = work.zfs.list(&scope).await?;
    ensure!(work.started().len() == 2, "more than two processes");
    ensure!(listing.missing == [missing.clone(), elsewhere], "missing: {:?}", listing.missing);
    let row = |dataset: &Dataset| {
        let versions: Vec<String> = dataset.versions.iter().map(|v| format!("{v}{}", v.userrefs)).collect();
        let name = dataset.name.as_str().replace(&pool, "P");
        format!("{name} {:?} {:?} {}", dataset.kind, dataset.placeholder, versions.join(" "))
    };
    let rows: Vec<String> = listing.datasets.iter().map(row).collect();
    let expected = [
        "P Filesystem Unset @10 @20 @30",
        "P/a Filesystem On @10 #mark0 @31",
        "P/a b Filesystem Unset @10 @20 @30",
        "P/a/c Filesystem Unset @10 @20 @30",
        "P/vol Volume Unset @10 @20 @30",
    ];
    ensure!(rows == expected, "{rows:#?}");
    let one = work.zfs.dataset(&listing.datasets.get(1).context("no P/a")?.name).await?;
    ensure!(listing.datasets.get(1) == Some(&one), "{one:?}");
    let error = work.zfs.dataset(&missing).await.err().context("a missing dataset was found")?;
    ensure!(error.is_not_found(), "{error}");
    Ok(())
}

async fn bulk_commands_take_few_processes(work: &Work<'_>) -> Result<()> {
    let (pool, other) = (work.bench.pool("a")?, work.bench.pool("b")?);
    work.bench.bash(&format!("zfs create {pool}/x; zfs create '{pool}/y z'; zfs snapshot {pool}/x@there"))?;
    let items = [
        snap(&format!("{pool}/x"), "1")?,
        snap(&format!("{pool}/y z"), "1")?,
        snap(&other, "1")?,
        snap(&format!("{pool}/none"), "1")?,
    ];
    let made = outcomes(&work.zfs.snapshot(&items).await);
    ensure!(made == ["ok", "ok", "ok", "NotFound"], "{made:?}");
    ensure!(work.started() == ["snapshot"; 3], "one for each pool and one without the missing dataset");
    let twice = [snap(&format!("{pool}/x"), "2")?, snap(&format!("{pool}/x"), "there")?, snap(&pool, "2")?];
    let made = outcomes(&work.zfs.snapshot(&twice).await);
    ensure!(made == ["ok", "Exists", "ok"], "{made:?}");
    work.started();
    let tag = HoldTag::parse("t 1")?;
    for _ in 0..2 {
        let held = outcomes(&work.zfs.hold(&tag, &items).await);
        ensure!(held == ["ok", "ok", "ok", "NotFound"], "{held:?}");
    }
    let holds = work.zfs.holds(&items).await?;
    ensure!(holds.len() == 3 && holds.iter().all(|hold| hold.tag == tag), "{holds:?}");
    for _ in 0..2 {
        let released = outcomes(&work.zfs.release(&tag, &items).await);
        ensure!(released == ["ok"; 4], "{released:?}");
    }
    ensure!(work.zfs.holds(&items).await?.is_empty(), "holds are left");
    let started = work.started();
    ensure!(started == ["hold", "hold", "holds", "release", "release", "holds"], "{started:?}");
    Ok(())
}

async fn destroy_takes_a_round_for_clones_and_one_for_holds(work: &Work<'_>) -> Result<()> {
    let pool = work.bench.pool("a")?;
    work.bench.bash(&format!(
        "zfs create '{pool}/x y'
         for i in 1 2 3 4 5 6 'x: y'; do zfs snapshot \"{pool}/x y@$i\"; done
         zfs clone '{pool}/x y@2' {pool}/c2; zfs clone '{pool}/x y@4' {pool}/c4
         zfs hold tag '{pool}/x y@3' '{pool}/x y@x: y'"
    ))?;
    let dataset = DatasetName::parse(&format!("{pool}/x y"))?;
    let names: Vec<VersionName> = ["1", "2", "3", "4", "5", "none", "x: y"]
        .iter()
        .map(|name| VersionName::parse(name))
        .collect::<Result<_, _>>()?;
    let gone = outcomes(&work.zfs.destroy_snapshots(&dataset, &names).await);
    ensure!(gone == ["ok", "HasClones", "Held", "HasClones", "ok", "ok", "Held"], "{gone:?}");
    ensure!(work.started() == ["destroy"; 3], "more than three processes");
    let left: Vec<String> = work.zfs.dataset(&dataset).await?.versions.iter().map(ToString::to_string).collect();
    ensure!(left == ["@2", "@3", "@4", "@6", "@x: y"], "{left:?}");
    Ok(())
}

async fn every_kind_of_stream_arrives_and_announces_its_size(work: &Work<'_>) -> Result<()> {
    let (source, target) = work.sender(2)?;
    work.bench.bash(&format!("zfs bookmark '{source}@1' '{source}#b'"))?;
    for kind in [None, Some(VersionKind::Snapshot), Some(VersionKind::Bookmark)] {
        let (from, to) = match kind {
            None => (None, "1"),
            Some(VersionKind::Snapshot) => (Some(work.version(&source, VersionKind::Snapshot, "1").await?), "2"),
            Some(VersionKind::Bookmark) => (Some(work.version(&source, VersionKind::Bookmark, "b").await?), "2"),
        };
        for flags in [
            SendFlags::default(),
            SendFlags { raw: true, large_blocks: true, compressed: true, embedded: true, ..SendFlags::default() },
            SendFlags { properties: true, ..SendFlags::default() },
            SendFlags { backup_properties: true, ..SendFlags::default() },
        ] {
            let to_ref = work.version(&source, VersionKind::Snapshot, to).await?;
            let args = SendArgs {
                dataset: source.clone(),
                source: SendSource::Snapshot { from: from.clone(), to: to_ref.clone(), flags },
            };
            work.started();
            let mut send = work.zfs.send(&args).await?;
            ensure!(work.started() == ["send"], "an estimate takes no process of its own");
            ensure!(send.begin.to == to_ref.guid && send.begin.from == from.as_ref().map(|from| from.guid));
            let mut bytes = Vec::new();
            send.bytes.read_to_end(&mut bytes).await?;
            let expected = send.expected.get().context("no size")?;
            ensure!(bytes.len() as u64 / 2 <= expected && expected <= bytes.len() as u64 * 2, "{expected}");
            ensure!(work.zfs.estimate_send(&args).await? == Some(expected));
            let plain = work.bench.bash(&plain_send(&args, flags))?;
            ensure!(plain.trim().parse() == Ok(bytes.len()), "-vP changes the stream: {plain} and {}", bytes.len());
        }
        let stream = work.zfs.send(&work.send_args(&source, from.clone(), to).await?).await?.bytes;
        if kind != Some(VersionKind::Bookmark) {
            work.zfs.receive(&receive_args(&target, to)?, stream).await?;
            work.same_content(&source, &target, to)?;
        }
    }
    Ok(())
}

/// The size of a stream that is sent without the options that only this program gives.
fn plain_send(args: &SendArgs, flags: SendFlags) -> String {
    let SendSource::Snapshot { from, to, .. } = &args.source else { return "false".to_owned() };
    let words = [
        (flags.raw, "-w"),
        (flags.properties, "-p"),
        (flags.backup_properties, "-b"),
        (flags.large_blocks, "-L"),
        (flags.compressed, "-c"),
        (flags.embedded, "-e"),
    ];
    let words: Vec<&str> = words.into_iter().filter_map(|(on, word)| on.then_some(word)).collect();
    let from = from.as_ref().map(|from| format!("-i '{}{from}'", args.dataset)).unwrap_or_default();
    format!("zfs send {} {from} '{}{to}' | wc -c", words.join(" "), args.dataset)
}

async fn killed_send_interrupts_and_resumes(work: &Work<'_>) -> Result<()> {
    let (source, target) = work.sender(30)?;
    let args = work.send_args(&source, None, "1").await?;
    let mut stream = work.zfs.send(&args).await?.bytes;
    // Enough for a state worth keeping, too little for the child to be done.
    let mut start = vec![0; 8 << 20];
    stream.read_exact(&mut start).await?;
    work.kill("send")?;
    let whole: ByteStream = Box::pin(io::Cursor::new(start).chain(stream));
    let error = work.zfs.receive(&receive_args(&target, "1")?, whole).await.err().context("it was cut")?;
    let ErrorKind::Source(text) = &error.kind else { bail!("{error}") };
    ensure!(text.contains("was killed by signal 9"), "{text}");
    ensure!(error.resume_token() == Some(&*work.token(&target).await?), "{error}");
    work.resume(&source, &target, "1").await
}

async fn failed_source_keeps_the_received_state(work: &Work<'_>) -> Result<()> {
    let (source, target) = work.sender(20)?;
    let stream = work.zfs.send(&work.send_args(&source, None, "1").await?).await?.bytes;
    let broken = Box::pin(Breaking { stream, left: 9 << 20 });
    let error = work.zfs.receive(&receive_args(&target, "1")?, broken).await.err().context("it was cut")?;
    ensure!(matches!(&error.kind, ErrorKind::Source(text) if text == "the network is down"), "{error}");
    ensure!(error.resume_token() == Some(&*work.token(&target).await?), "{error}");
    // The state of an interrupted receive is in the way of another one.
    let again = work.zfs.send(&work.send_args(&source, None, "1").await?).await?.bytes;
    let error = work.zfs.receive(&receive_args(&target, "1")?, again).await.err().context("it is in the way")?;
    ensure!(matches!(error.kind, ErrorKind::TargetExists), "{error}");
    work.resume(&source, &target, "1").await?;
    // An incremental stream keeps its state beside the dataset.
    let from = work.version(&source, VersionKind::Snapshot, "1").await?;
    let args = work.send_args(&source, Some(from), "2").await?;
    let half = work.zfs.send(&args).await?.bytes.take(9 << 20);
    let error = work.zfs.receive(&receive_args(&target, "2")?, Box::pin(half)).await.err().context("it was cut")?;
    ensure!(matches!(error.kind, ErrorKind::Interrupted { .. }), "{error}");
    let again = work.zfs.send(&args).await?.bytes;
    let error = work.zfs.receive(&receive_args(&target, "2")?, again).await.err().context("it is in the way")?;
    ensure!(matches!(error.kind, ErrorKind::TargetHasPartial), "{error}");
    work.resume(&source, &target, "2").await?;
    work.no_child_left().await;
    Ok(())
}

async fn killed_receive_ends_an_idle_source(work: &Work<'_>) -> Result<()> {
    let (source, target) = work.sender(20)?;
    let stream = work.zfs.send(&work.send_args(&source, None, "1").await?).await?.bytes;
    let args = receive_args(&target, "1")?;
    let idle = Arc::new(Notify::new());
    let killer = async {
        idle.notified().await;
        work.kill("recv")
    };
    let receive = work.zfs.receive(&args, then_idle(stream, 9 << 20, Arc::clone(&idle)));
    let (result, killed) = futures::join!(receive, killer);
    killed?;
    let error = result.err().context("it was killed")?;
    ensure!(matches!(error.kind, ErrorKind::Killed { signal: 9, .. }), "{error}");
    work.no_child_left().await;
    Ok(())
}

async fn dropped_streams_leave_no_child(work: &Work<'_>) -> Result<()> {
    let (source, target) = work.sender(30)?;
    let args = work.send_args(&source, None, "1").await?;
    let send = work.zfs.send(&args).await?;
    drop(send);
    work.no_child_left().await;
    let stream = work.zfs.send(&args).await?.bytes;
    let receive_args = receive_args(&target, "1")?;
    let idle = Arc::new(Notify::new());
    let mut receive = work.zfs.receive(&receive_args, then_idle(stream, 1 << 20, Arc::clone(&idle)));
    tokio::select! {
        result = &mut receive => bail!("it ended before its stream: {result:?}"),
        () = idle.notified() => {}
    }
    drop(receive);
    work.no_child_left().await;
    Ok(())
}
