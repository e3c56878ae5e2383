//! Sends: what a stream carries, and the stream itself, made while it is read.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use model::view::DatasetKind;
use model::{DatasetName, Guid, VersionKind};
use tokio::io::{AsyncRead, ReadBuf};

use super::Inner;
use super::content::{Change, Content, ContentHash};
use super::faults::StreamFault;
use super::records::{Record, encoded_len};
use super::state::{Host, Mark, Node, Snap, Source, failed};
use crate::error::{Error, ErrorKind};
use crate::ops::{SendArgs, SendFlags, SendSource};
use crate::stream::{BeginRecord, Head, RECORD, feature, package};
use crate::token::{ResumeToken, nvlist};

/// `DRR_FLAG`-independent features that every stream of a current ZFS has (spill blocks).
const ALWAYS: u64 = 1 << 2;

/// A send that has been checked.
pub(super) struct Plan {
    pub(super) head: Head,
    changes: VecDeque<Change>,
    hash: ContentHash,
    /// Snapshots that cannot be destroyed while the stream lives.
    pins: Vec<(DatasetName, Guid)>,
}

impl Plan {
    /// Bytes of the whole stream.
    pub(super) fn bytes(&self) -> u64 {
        let ends = if self.head.begin.compound { 2 } else { 1 };
        let changes: u64 = self.changes.iter().map(encoded_len).sum();
        self.head.to_bytes().len() as u64 + changes + ends * RECORD as u64
    }
}

struct Wanted<'a> {
    name: &'a DatasetName,
    node: &'a Node,
    to: &'a Snap,
    from: Option<Mark>,
    flags: SendFlags,
}

impl Host {
    pub(super) fn plan_send(&self, args: &SendArgs) -> Result<Plan, ErrorKind> {
        match &args.source {
            SendSource::Snapshot { from, to, flags } => {
                let node = self.node(&args.dataset)?;
                let missing = to.kind != VersionKind::Snapshot;
                let to = node.snap(&to.name).filter(|_| !missing).ok_or(ErrorKind::NotFound)?;
                let from = match from {
                    Some(from) => Some(node.mark(from).ok_or(ErrorKind::NotFound)?),
                    None => None,
                };
                self.plan(Wanted { name: &args.dataset, node, to, from, flags: *flags }, None)
            }
            SendSource::Resume { token } => {
                let token = ResumeToken::decode(token).map_err(|e| ErrorKind::BadResumeToken(e.to_string()))?;
                self.plan(self.wanted_by(&token)?, Some((token.object, token.offset)))
            }
        }
    }

    /// The snapshots that a token names by guid, looked for first where it says, then in that pool.
    fn wanted_by(&self, token: &ResumeToken) -> Result<Wanted<'_>, ErrorKind> {
        let contents = &token.contents;
        let gone = |what: &str| ErrorKind::BadResumeToken(format!("{what} used in the initial send no longer exists"));
        let said = contents.to_name.split('@').next().and_then(|name| DatasetName::parse(name).ok());
        let pool = said.as_ref().map(|name| name.pool().to_owned()).unwrap_or_default();
        let named = said.as_ref().and_then(|name| self.datasets.get_key_value(name));
        let (name, node, to) = named
            .into_iter()
            .chain(self.datasets.iter().filter(|(name, _)| name.pool() == pool))
            .filter(|(name, _)| self.is_imported(name.pool()))
            .find_map(|(name, node)| Some((name, node, node.snap_by_guid(contents.to)?)))
            .ok_or_else(|| gone(&format!("'{}'", contents.to_name)))?;
        let from = match contents.from {
            Some(guid) => {
                Some(node.mark_by_guid(guid).ok_or_else(|| gone(&format!("incremental source {:#x}", guid.0)))?)
            }
            None => None,
        };
        let flags = SendFlags {
            raw: contents.flags.raw,
            large_blocks: contents.flags.large_blocks,
            compressed: contents.flags.compressed,
            embedded: contents.flags.embedded,
            ..SendFlags::default()
        };
        Ok(Wanted { name, node, to, from, flags })
    }

    fn plan(&self, wanted: Wanted<'_>, resume: Option<(u64, u64)>) -> Result<Plan, ErrorKind> {
        let Wanted { name, node, to, from, flags } = wanted;
        let full_name = format!("{name}@{}", to.name);
        if from.as_ref().is_some_and(|from| from.txg >= to.txg) {
            let words = format!("warning: cannot send '{full_name}': not an earlier snapshot from the same fs");
            return Err(failed("send", words));
        }
        let encrypted = node.encryption_root.is_some();
        let properties = flags.properties || flags.backup_properties;
        if encrypted && properties && !flags.raw {
            let words = format!("encrypted dataset {name} may not be sent with properties without the raw flag");
            return Err(failed("send", words));
        }
        if let Some(root) = node.encryption_root.as_ref().filter(|_| !flags.raw)
            && !self.key_loaded(root)
        {
            return Err(ErrorKind::KeyNotLoaded);
        }
        let mut changes: VecDeque<Change> = to.content.changes_since(from.as_ref().map(|from| &*from.content)).into();
        let (mut features, mut payload) = (features(flags, encrypted), Vec::new());
        if let Some(position) = resume {
            changes.retain(|change| stays(change, position));
            features |= feature::RESUMING;
            payload = resume_payload(position);
        }
        let begin = BeginRecord {
            to: to.guid,
            from: from.as_ref().map(|from| from.guid),
            to_name: full_name,
            features,
            compound: properties,
        };
        let head = Head {
            begin,
            creation: to.creation,
            objset_type: if node.kind == DatasetKind::Volume { 3 } else { 2 },
            properties: if properties { pack_properties(node) } else { Vec::new() },
            payload,
        };
        let base = from.and_then(|from| node.snap_by_guid(from.guid));
        let pins = base.into_iter().chain([to]).map(|snap| (name.clone(), snap.guid)).collect();
        Ok(Plan { head, changes, hash: to.content.hash(), pins })
    }

    fn pin(&mut self, pins: &[(DatasetName, Guid)], count: impl Fn(u32) -> u32) {
        for (dataset, guid) in pins {
            let snapshots = self.datasets.get_mut(dataset).map(|node| &mut node.snapshots).into_iter().flatten();
            snapshots.filter(|snap| snap.guid == *guid).for_each(|snap| snap.sends = count(snap.sends));
        }
    }
}

/// Where a resumed stream begins, as its BEGIN record carries it.
pub(super) fn resume_payload(position: (u64, u64)) -> Vec<u8> {
    let mut list = nvlist::Writer::default();
    list.number("resume_object", position.0);
    list.number("resume_offset", position.1);
    list.finish()
}

/// A resumed stream repeats the record at its position, and the description of that object.
fn stays(change: &Change, position: (u64, u64)) -> bool {
    change.position() >= position || matches!(change, Change::Object { object, .. } if *object == position.0)
}

fn features(flags: SendFlags, encrypted: bool) -> u64 {
    // `-w` implies `-L -c -e` on a dataset that is not encrypted.
    let plain_raw = flags.raw && !encrypted;
    let mut features = ALWAYS;
    for (set, bit) in [
        (flags.raw && encrypted, feature::RAW),
        (flags.compressed || flags.raw, feature::COMPRESSED),
        (flags.embedded || plain_raw, feature::EMBEDDED),
        (flags.large_blocks, feature::LARGE_BLOCKS),
    ] {
        features |= if set { bit } else { 0 };
    }
    features
}

/// The dataset's own properties; those that describe encryption or quotas do not travel.
fn pack_properties(node: &Node) -> Vec<u8> {
    let travels = |name: &str| name.contains(':') || matches!(name, "compression" | "recordsize" | "mountpoint");
    let own = node.properties.iter().filter(|(name, _)| travels(name));
    let own = own.map(|(name, (value, _))| (name.as_str(), value.as_str()));
    package::write(own)
}

pub(super) fn unpack_properties(bytes: &[u8]) -> Vec<(String, String)> {
    package::texts(bytes).unwrap_or_default()
}

/// The properties of a received stream become those of its dataset.
pub(super) fn receive_properties(node: &mut Node, properties: Vec<(String, String)>) {
    for (name, value) in properties {
        let local = node.properties.get(&name).is_some_and(|(_, source)| *source == Source::Local);
        if !local {
            node.properties.insert(name, (value, Source::Received));
        }
    }
}

/// Keeps snapshots from being destroyed while they are sent.
struct Pins {
    inner: Arc<Inner>,
    pins: Vec<(DatasetName, Guid)>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.inner.lock().pin(&self.pins, |sends| sends.saturating_sub(1));
    }
}

/// What troubles a stream.
pub(super) struct Disturbance {
    /// At which byte, and what.
    pub(super) fault: Option<(u64, StreamFault)>,
    /// A pause after every so many bytes.
    pub(super) pace: Option<(u64, Duration)>,
}

/// A stream in the making.
pub(super) struct FakeStream {
    _pins: Pins,
    object: String,
    ready: Vec<u8>,
    at: usize,
    changes: VecDeque<Change>,
    ends: VecDeque<ContentHash>,
    passed: u64,
    fault: Option<(u64, StreamFault)>,
    pace: Option<(u64, Duration)>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    _running: super::Running,
}

impl FakeStream {
    pub(super) fn new(
        inner: &Arc<Inner>,
        plan: Plan,
        object: String,
        disturbance: Disturbance,
        running: super::Running,
    ) -> Self {
        inner.lock().pin(&plan.pins, |sends| sends + 1);
        let trailer = plan.head.begin.compound.then_some(Content::default().hash());
        Self {
            _pins: Pins { inner: Arc::clone(inner), pins: plan.pins },
            object,
            ready: plan.head.to_bytes(),
            at: 0,
            changes: plan.changes,
            ends: std::iter::once(plan.hash).chain(trailer).collect(),
            passed: 0,
            fault: disturbance.fault,
            pace: disturbance.pace,
            pause: None,
            _running: running,
        }
    }

    /// Makes the next record when the last one has been read; false at the end.
    fn refill(&mut self) -> bool {
        if self.at < self.ready.len() {
            return true;
        }
        let record = match self.changes.pop_front() {
            Some(change) => Some(Record::Change(change)),
            None => self.ends.pop_front().map(Record::End),
        };
        self.at = 0;
        self.ready = record.as_ref().map(Record::to_bytes).unwrap_or_default();
        record.is_some()
    }

    /// How many bytes may pass before something happens.
    fn until_event(&self) -> u64 {
        let fault = self.fault.as_ref().map_or(u64::MAX, |(byte, _)| byte.saturating_sub(self.passed));
        let pace = self.pace.map_or(u64::MAX, |(bytes, _)| bytes - self.passed % bytes);
        fault.min(pace)
    }

    fn copy_to(&mut self, buf: &mut ReadBuf<'_>) {
        let limit = usize::try_from(self.until_event()).unwrap_or(usize::MAX).min(buf.remaining());
        let rest = self.ready.get(self.at..).unwrap_or_default();
        let part = rest.get(..limit).unwrap_or(rest);
        buf.put_slice(part);
        self.at += part.len();
        self.passed += part.len() as u64;
        if let Some((bytes, pause)) = self.pace
            && self.passed.is_multiple_of(bytes)
        {
            self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        }
    }
}

impl pump::Bytes for FakeStream {}

impl AsyncRead for FakeStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        match &self.fault {
            Some((byte, fault)) if *byte <= self.passed => match fault {
                StreamFault::Dies(kind) => {
                    let error = Error::new("send", &self.object, kind.clone());
                    return Poll::Ready(Err(io::Error::other(error)));
                }
                StreamFault::Stalls => return Poll::Pending,
                StreamFault::Ends => return Poll::Ready(Ok(())),
            },
            _ => {}
        }
        if self.refill() {
            self.copy_to(buf);
        }
        Poll::Ready(Ok(()))
    }
}
