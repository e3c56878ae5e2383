//! ZFS as a daemon of the world sees it: every operation can go wrong, and is watched.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use model::{DatasetName, HoldTag, JobName, VersionName, VersionRef};
use tokio::io::{AsyncRead, ReadBuf};
use zfs::{
    ByteStream, Contents, Dataset, Error, ErrorKind, Hold, ItemResult, Listing, PlaceholderEncryption, ReceiveArgs,
    RunningCommand, Scope, SendArgs, SendSource, SendStream, Snapshot, Zfs,
};

use crate::fault::{Fault, Op, Site, StreamReader};
use crate::process::{Host, Process};
use crate::room::Room;

/// The pools of a machine, as a job of one life of its daemon reaches them.
pub struct Disk {
    room: Arc<Room>,
    host: Host,
    process: Process,
    job: JobName,
    zfs: Arc<dyn Zfs>,
}

impl Disk {
    /// The pools behind `zfs` for a job in a process.
    pub fn new(room: Arc<Room>, host: Host, process: Process, job: JobName, zfs: Arc<dyn Zfs>) -> Arc<Self> {
        Arc::new(Self { room, host, process, job, zfs })
    }

    async fn begin(&self, verb: &'static str, object: String, changes: bool) -> Result<Op, ErrorKind> {
        self.process.go_on().await;
        let op = self.room.begin_op((self.host, &self.process, &self.job), verb, object, changes);
        self.pass(&Site::Before(op.clone())).await.map(|()| op)
    }

    async fn end(&self, op: &Op) -> Result<(), ErrorKind> {
        if op.changes {
            self.room.look(op);
        }
        self.pass(&Site::After(op.clone())).await
    }

    async fn pass(&self, site: &Site) -> Result<(), ErrorKind> {
        match self.room.fault(site) {
            None | Some(Fault::AtByte(..)) => Ok(()),
            Some(Fault::Kill(victims)) => {
                self.room.kill(victims);
                self.process.go_on().await;
                Ok(())
            }
            Some(Fault::Error(kind)) => Err(kind),
            Some(Fault::Disconnect) => Err(ErrorKind::Killed { command: "zfs".into(), signal: 9 }),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.process.go_on().await;
                Ok(())
            }
        }
    }

    async fn one<T: Send>(
        &self,
        (verb, changes): (&'static str, bool),
        object: String,
        run: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let failed = |kind| Error::new(verb, &object, kind);
        let op = self.begin(verb, object.clone(), changes).await.map_err(failed)?;
        let result = run.await;
        if let Err(error) = &result {
            self.room.trace.tell(self.host, format_args!("  op {} fails: {error}", op.number));
        }
        self.end(&op).await.map_err(failed)?;
        result
    }

    async fn many(
        &self,
        verb: &'static str,
        items: Vec<String>,
        run: impl Future<Output = Vec<ItemResult>> + Send,
    ) -> Vec<ItemResult> {
        let failed = |kind: ErrorKind| items.iter().map(|item| Err(Error::new(verb, item, kind.clone()))).collect();
        let op = match self.begin(verb, items.join(" "), true).await {
            Ok(op) => op,
            Err(kind) => return failed(kind),
        };
        let results = run.await;
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            self.room.trace.tell(self.host, format_args!("  op {} fails: {error}", op.number));
        }
        match self.end(&op).await {
            Ok(()) => results,
            Err(kind) => failed(kind),
        }
    }

    fn watched(&self, reader: StreamReader, bytes: ByteStream) -> (ByteStream, Arc<std::sync::OnceLock<ErrorKind>>) {
        let fault = self.room.fault(&Site::Stream { host: self.host, reader });
        let failure = Arc::default();
        let stream = FaultyStream {
            room: Arc::clone(&self.room),
            process: self.process.clone(),
            bytes,
            passed: 0,
            fault: match fault {
                Some(Fault::AtByte(at, fault)) => Some((at, *fault)),
                _ => None,
            },
            failure: Arc::clone(&failure),
        };
        (Box::pin(stream), failure)
    }
}

const READS: bool = false;
const CHANGES: bool = true;

fn names(snapshots: &[Snapshot]) -> Vec<String> {
    snapshots.iter().map(Snapshot::to_string).collect()
}

#[async_trait]
impl Zfs for Disk {
    async fn list(&self, scope: &Scope) -> Result<Listing, Error> {
        let object = match scope {
            Scope::Everything => "everything".to_owned(),
            Scope::Trees(names) | Scope::Only(names) => format!("{names:?}"),
        };
        self.one(("list", READS), object, self.zfs.list(scope)).await
    }

    async fn pools(&self) -> Result<Vec<DatasetName>, Error> {
        self.one(("pools", READS), "all".to_owned(), self.zfs.pools()).await
    }

    async fn dataset(&self, name: &DatasetName) -> Result<Dataset, Error> {
        self.one(("dataset", READS), name.to_string(), self.zfs.dataset(name)).await
    }

    async fn contents(&self, name: &DatasetName) -> Result<Contents, Error> {
        self.one(("contents", READS), name.to_string(), self.zfs.contents(name)).await
    }

    async fn holds(&self, snapshots: &[Snapshot]) -> Result<Vec<Hold>, Error> {
        self.one(("holds", READS), names(snapshots).join(" "), self.zfs.holds(snapshots)).await
    }

    async fn create_placeholder(&self, name: &DatasetName, encryption: PlaceholderEncryption) -> Result<(), Error> {
        let run = self.zfs.create_placeholder(name, encryption);
        self.one(("create_placeholder", CHANGES), name.to_string(), run).await
    }

    async fn set_property(&self, name: &DatasetName, property: &str, value: &str) -> Result<(), Error> {
        let object = format!("{property}={value} {name}");
        self.one(("set_property", CHANGES), object, self.zfs.set_property(name, property, value)).await
    }

    async fn snapshot(&self, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        self.many("snapshot", names(snapshots), self.zfs.snapshot(snapshots)).await
    }

    async fn bookmark(&self, dataset: &DatasetName, source: &VersionRef, name: &VersionName) -> Result<(), Error> {
        let object = format!("{dataset}{source} #{name}");
        self.one(("bookmark", CHANGES), object, self.zfs.bookmark(dataset, source, name)).await
    }

    async fn is_still(&self, dataset: &DatasetName, version: &VersionRef) -> Result<bool, Error> {
        self.one(("is_still", READS), format!("{dataset}{version}"), self.zfs.is_still(dataset, version)).await
    }

    async fn hold(&self, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        self.many("hold", names(snapshots), self.zfs.hold(tag, snapshots)).await
    }

    async fn release(&self, tag: &HoldTag, snapshots: &[Snapshot]) -> Vec<ItemResult> {
        self.many("release", names(snapshots), self.zfs.release(tag, snapshots)).await
    }

    async fn destroy_snapshots(&self, dataset: &DatasetName, destroyed: &[VersionName]) -> Vec<ItemResult> {
        let items = destroyed.iter().map(|name| format!("{dataset}@{name}")).collect();
        self.many("destroy_snapshots", items, self.zfs.destroy_snapshots(dataset, destroyed)).await
    }

    async fn destroy_together(&self, dataset: &DatasetName, destroyed: &[VersionName]) -> Result<(), Error> {
        let names: Vec<&str> = destroyed.iter().map(VersionName::as_str).collect();
        let object = format!("{dataset}@{}", names.join(","));
        self.one(("destroy_together", CHANGES), object, self.zfs.destroy_together(dataset, destroyed)).await
    }

    async fn rollback(&self, snapshot: &Snapshot) -> Result<(), Error> {
        self.one(("rollback", CHANGES), snapshot.to_string(), self.zfs.rollback(snapshot)).await
    }

    async fn rename(&self, from: &DatasetName, to: &DatasetName) -> Result<(), Error> {
        self.one(("rename", CHANGES), format!("{from} {to}"), self.zfs.rename(from, to)).await
    }

    async fn destroy_bookmark(&self, dataset: &DatasetName, name: &VersionName) -> Result<(), Error> {
        let object = format!("{dataset}#{name}");
        self.one(("destroy_bookmark", CHANGES), object, self.zfs.destroy_bookmark(dataset, name)).await
    }

    async fn destroy_dataset(&self, name: &DatasetName) -> Result<(), Error> {
        self.one(("destroy_dataset", CHANGES), name.to_string(), self.zfs.destroy_dataset(name)).await
    }

    async fn send(&self, args: &SendArgs) -> Result<SendStream, Error> {
        let source = match &args.source {
            SendSource::Snapshot { from: None, to, .. } => to.to_string(),
            SendSource::Snapshot { from: Some(from), to, .. } => format!("{from} {to}"),
            SendSource::Resume { .. } => "-t".to_owned(),
        };
        let object = format!("{} {source}", args.dataset);
        let started = self.one(("send", READS), object, self.zfs.send(args)).await?;
        let (bytes, _) = self.watched(StreamReader::Daemon, started.bytes);
        Ok(SendStream { bytes, ..started })
    }

    async fn estimate_send(&self, args: &SendArgs) -> Result<Option<u64>, Error> {
        self.one(("estimate_send", READS), args.dataset.to_string(), self.zfs.estimate_send(args)).await
    }

    async fn receive(&self, args: &ReceiveArgs, stream: ByteStream) -> Result<(), Error> {
        let object = format!("{}@{} {:?} {:?}", args.dataset, args.snapshot, args.target, args.set);
        let (stream, failure) = self.watched(StreamReader::Receive, stream);
        let run = async {
            let result = self.zfs.receive(args, stream).await;
            match failure.get() {
                Some(kind) => Err(Error::new("receive into", &args.dataset, kind.clone())),
                None => result,
            }
        };
        self.one(("receive", CHANGES), object, run).await
    }

    async fn abort_receive(&self, name: &DatasetName) -> Result<(), Error> {
        self.one(("abort_receive", CHANGES), name.to_string(), self.zfs.abort_receive(name)).await
    }

    async fn can_resume(&self, pool: &str) -> Result<bool, Error> {
        self.one(("can_resume", READS), pool.to_owned(), self.zfs.can_resume(pool)).await
    }

    fn running(&self) -> Vec<RunningCommand> {
        self.zfs.running()
    }
}

/// A stream that ends with its reader's process, and in which a fault can come at a byte.
struct FaultyStream {
    room: Arc<Room>,
    process: Process,
    bytes: ByteStream,
    passed: u64,
    fault: Option<(u64, Fault)>,
    failure: Arc<std::sync::OnceLock<ErrorKind>>,
}

impl FaultyStream {
    /// The fault strikes.
    fn strike(&self, fault: &Fault) -> Poll<io::Result<()>> {
        let kind = match fault {
            Fault::Kill(victims) => {
                self.room.kill(*victims);
                if !self.process.is_alive() {
                    return Poll::Pending;
                }
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Fault::Error(kind) => kind.clone(),
            _ => ErrorKind::Killed { command: "zfs".into(), signal: 9 },
        };
        let text = kind.to_string();
        let _ = self.failure.set(kind);
        Poll::Ready(Err(io::Error::other(text)))
    }
}

impl pump::Bytes for FaultyStream {}

impl AsyncRead for FaultyStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.process.is_alive() {
            return Poll::Pending;
        }
        let left = match &self.fault {
            Some((at, fault)) if self.passed >= *at => return self.strike(fault),
            Some((at, _)) => usize::try_from(at - self.passed).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let mut part = buf.take(left.min(buf.remaining()));
        ready!(self.bytes.as_mut().poll_read(cx, &mut part))?;
        let read = part.filled().len();
        // `part` shares the memory of `buf`, whose own marks do not move by themselves.
        let filled = part.filled().to_vec();
        buf.put_slice(&filled);
        self.passed += read as u64;
        Poll::Ready(Ok(()))
    }
}
