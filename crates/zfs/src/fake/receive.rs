//! Receives: whether a stream may land on a target, and what is kept when it ends early.

use std::sync::Arc;

use model::view::{DatasetKind, TokenContents, TokenFlags};
use model::{DatasetName, Guid, UnixTime, VersionName};

use super::content::{Change, Content, ContentHash};
use super::send::{receive_properties, resume_payload, unpack_properties};
use super::state::{Host, Node, Properties, Snap, Source, failed};
use crate::error::ErrorKind;
use crate::ops::{ReceiveArgs, ReceiveTarget};
use crate::stream::{Head, RECORD, feature};
use crate::token::{self, ResumeToken};

/// What a receive has so far. It is part of the pool at every moment, so whoever stops watching, the
/// state is that of the records which arrived.
#[derive(Debug, Clone)]
pub(super) struct Partial {
    pub(super) to: Guid,
    pub(super) to_name: String,
    pub(super) from: Option<Guid>,
    pub(super) creation: UnixTime,
    flags: TokenFlags,
    kind: DatasetKind,
    pub(super) content: Content,
    /// Object and offset of the last object or block.
    position: (u64, u64),
    bytes: u64,
    resumable: bool,
    /// Whether a record followed the stream's head, without which nothing is kept.
    started: bool,
    pub(super) receiving: bool,
}

impl Partial {
    /// The token with which the rest can be sent.
    pub(super) fn token(&self) -> Option<String> {
        let contents = TokenContents {
            from: self.from,
            to: self.to,
            to_name: self.to_name.clone(),
            bytes_received: self.bytes,
            flags: self.flags,
        };
        let token = ResumeToken { contents, object: self.position.0, offset: self.position.1 };
        (self.resumable && self.started).then(|| token::encode(&token))
    }

    fn apply(&mut self, change: Change, record_len: u64) {
        self.started = true;
        self.bytes += record_len;
        match change {
            // A resumed stream describes its object once more, without going back to its start.
            Change::Object { object, .. } if object == self.position.0 => {}
            Change::Free { .. } => {}
            _ => self.position = change.position(),
        }
        self.content.apply(change);
    }
}

/// A receive that was let in.
#[derive(Debug)]
pub(super) struct Session {
    dataset: DatasetName,
    snapshot: VersionName,
    force: bool,
    resumed: bool,
    /// The newest snapshot when the receive began.
    newest: Option<Guid>,
    /// What the properties were, to be restored if an existing dataset's receive fails.
    old_properties: Option<Properties>,
    /// How many bytes fit, as found at the start, and what more of them run into.
    room: Option<(u64, ErrorKind)>,
    written: u64,
}

/// What becomes of a stream.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is received.
    Receive(Session),
    /// The target has its snapshot already; its bytes are read and forgotten.
    Skip,
}

impl Host {
    /// Checks a stream against its target, in the order in which `zfs recv` does, and makes the state
    /// into which it is received.
    pub(super) fn begin_receive(&mut self, args: &ReceiveArgs, head: &Head) -> Result<Admission, ErrorKind> {
        let name = &args.dataset;
        Host::check_snapshot_name(name, &args.snapshot)?;
        let incremental = head.begin.from.is_some();
        let resumed = head.begin.features & feature::RESUMING != 0;
        let force = args.target == ReceiveTarget::Replace;
        match self.node(name) {
            Err(_) if incremental || resumed => return Err(ErrorKind::NotFound),
            Err(_) => self.check_new(name)?,
            Ok(_) if resumed && incremental => {}
            Ok(node) if incremental => {
                if let Some(snap) = node.snap(&args.snapshot) {
                    let same = snap.guid == head.begin.to;
                    return if same { Ok(Admission::Skip) } else { Err(ErrorKind::Exists) };
                }
            }
            Ok(node) => self.check_replaced(name, node, head, force, resumed)?,
        }
        self.writable(name.pool())?;
        if let Ok(node) = self.node(name) {
            check_partial(node, head, resumed)?;
            if let Some(from) = head.begin.from {
                self.check_base(node, from, head, force, resumed)?;
            }
        }
        self.admit(args, head, resumed).map(Admission::Receive)
    }

    fn check_new(&self, name: &DatasetName) -> Result<(), ErrorKind> {
        let parent = name.parent().ok_or(ErrorKind::NotFound)?;
        match self.node(&parent)?.kind {
            DatasetKind::Filesystem => Ok(()),
            DatasetKind::Volume => Err(failed("recv", format!("parent '{parent}' is not a filesystem"))),
        }
    }

    /// A full stream onto something that exists.
    fn check_replaced(
        &self,
        name: &DatasetName,
        node: &Node,
        head: &Head,
        force: bool,
        resumed: bool,
    ) -> Result<(), ErrorKind> {
        let continues = resumed && node.incomplete;
        if !force && !continues {
            return Err(ErrorKind::TargetExists);
        }
        if !node.snapshots.is_empty() {
            return Err(ErrorKind::TargetHasSnapshots);
        }
        if kind_of(head) == DatasetKind::Volume && self.has_children(name) && !continues {
            return Err(ErrorKind::HasChildren);
        }
        let encrypted = node.encryption_root.is_some() || is_raw(head);
        if encrypted && !resumed && !node.incomplete {
            return Err(ErrorKind::EncryptionBoundary);
        }
        Ok(())
    }

    /// The base of an incremental stream on the target.
    fn check_base(&self, node: &Node, from: Guid, head: &Head, force: bool, resumed: bool) -> Result<(), ErrorKind> {
        match &node.encryption_root {
            None if is_raw(head) => {
                let words = "cannot perform raw receive on top of existing unencrypted dataset";
                return Err(ErrorKind::EncryptionMismatch(words.into()));
            }
            Some(root) if !is_raw(head) && !self.key_loaded(root) => return Err(ErrorKind::KeyNotLoaded),
            _ => {}
        }
        let base = node.snap_by_guid(from).ok_or(ErrorKind::SourceMismatch)?;
        // The target of a resumed stream is looked at when all of it has arrived, see `check_end`.
        if force || resumed {
            return Ok(());
        }
        let is_newest = node.snapshots.last().is_some_and(|snap| snap.guid == from);
        // Snapshots without changes in between are in the way of raw streams only.
        if node.modified > base.txg || (is_raw(head) && !is_newest) { Err(ErrorKind::TargetModified) } else { Ok(()) }
    }

    fn admit(&mut self, args: &ReceiveArgs, head: &Head, resumed: bool) -> Result<Session, ErrorKind> {
        let name = &args.dataset;
        let is_new = !self.datasets.contains_key(name);
        if is_new {
            let node = self.new_target(name, head, args)?;
            self.datasets.insert(name.clone(), node);
            self.next_txg(name.pool());
        }
        let node = self.datasets.get_mut(name).ok_or(ErrorKind::NotFound)?;
        let newest = node.snapshots.last().map(|snap| snap.guid);
        let old_properties = (!is_new && !node.incomplete).then(|| node.properties.clone());
        apply_properties(node, args, head);
        match &mut node.partial {
            Some(partial) if resumed => {
                partial.receiving = true;
                partial.resumable = args.resumable;
            }
            partial => *partial = Some(fresh_partial(args, head, base_content(&node.snapshots, head))),
        }
        Ok(Session {
            dataset: name.clone(),
            snapshot: args.snapshot.clone(),
            force: args.target == ReceiveTarget::Replace,
            resumed,
            newest,
            old_properties,
            room: self.room(name),
            written: 0,
        })
    }

    fn new_target(&self, name: &DatasetName, head: &Head, args: &ReceiveArgs) -> Result<Node, ErrorKind> {
        let mut node = Node::new(kind_of(head));
        node.incomplete = true;
        let parent = name.parent().ok_or(ErrorKind::NotFound)?;
        let off = args.set.iter().any(|(property, value)| property.as_str() == "encryption" && value == "off");
        if is_raw(head) {
            node.encryption_root = Some(name.clone());
        } else if !off {
            node.encryption_root = self.inherited_key(&parent)?;
        }
        Ok(node)
    }

    /// Bytes that fit below `name`, found by halving the question; none if there is no limit.
    fn room(&self, name: &DatasetName) -> Option<(u64, ErrorKind)> {
        const LARGEST: u64 = 1 << 50;
        let mut reason = self.no_room(name, LARGEST)?;
        let (mut fits, mut too_much) = (0, LARGEST);
        while fits + 1 < too_much {
            let middle = fits.midpoint(too_much);
            match self.no_room(name, middle) {
                None => fits = middle,
                Some(found) => (too_much, reason) = (middle, found),
            }
        }
        Some((fits, reason))
    }

    /// Takes one record. An error ends the receive; what arrived before stays.
    pub(super) fn receive_change(&mut self, session: &mut Session, change: Change) -> Result<(), ErrorKind> {
        let (payload, len) = match &change {
            Change::Write { data, .. } => (data.len() as u64, (RECORD + data.len()) as u64),
            Change::Object { name, .. } => (0, (RECORD + name.len()) as u64),
            Change::Free { .. } => (0, RECORD as u64),
        };
        if !self.is_imported(session.dataset.pool()) {
            return Err(ErrorKind::PoolMissing { pool: session.dataset.pool().to_owned() });
        }
        self.writable(session.dataset.pool())?;
        session.written += payload;
        if let Some((room, reason)) = &session.room
            && session.written > *room
        {
            return Err(reason.clone());
        }
        let partial = self.datasets.get_mut(&session.dataset).and_then(|node| node.partial.as_mut());
        partial.ok_or(ErrorKind::NotFound)?.apply(change, len);
        Ok(())
    }

    /// Ends a receive whose stream is complete.
    pub(super) fn finish_receive(&mut self, session: &Session, expected: ContentHash) -> Result<(), ErrorKind> {
        let name = &session.dataset;
        self.writable(name.pool())?;
        let node = self.node(name)?;
        let partial = node.partial.as_ref().ok_or(ErrorKind::NotFound)?;
        if partial.content.hash() != expected {
            return Err(failed("recv", "the received content is not that of the sent snapshot"));
        }
        check_end(node, partial, session)?;
        // Without -F they are without changes, and stay.
        let newer = if session.force { newer_than_base(node, partial.from) } else { &[] };
        if newer.iter().any(|snap| self.undestroyable(name, node, snap).is_some()) {
            return Err(ErrorKind::Busy);
        }
        let newer: Vec<Guid> = newer.iter().map(|snap| snap.guid).collect();
        let txg = self.next_txg(name.pool());
        let node = self.node_mut(name)?;
        let Some(partial) = node.partial.take() else { return Err(ErrorKind::NotFound) };
        node.snapshots.retain(|snap| !newer.contains(&snap.guid));
        node.kind = partial.kind;
        node.incomplete = false;
        node.head = Arc::new(partial.content);
        node.modified = txg;
        node.had_snapshots = true;
        node.snapshots.push(Snap {
            name: session.snapshot.clone(),
            guid: partial.to,
            txg,
            creation: partial.creation,
            content: Arc::clone(&node.head),
            holds: Default::default(),
            sends: 0,
        });
        Ok(())
    }

    /// The token of a receive that is not under way.
    pub(super) fn idle_token(&self, name: &DatasetName) -> Option<String> {
        let partial = self.node(name).ok()?.partial.as_ref()?;
        if partial.receiving { None } else { partial.token() }
    }

    /// Ends a receive that failed; gives the token if something is kept.
    pub(super) fn interrupt_receive(&mut self, session: Session) -> Option<String> {
        let node = self.datasets.get_mut(&session.dataset)?;
        if let Some(old) = session.old_properties {
            node.properties = old;
        }
        let partial = node.partial.as_mut()?;
        partial.receiving = false;
        let token = partial.token();
        if token.is_some() {
            return token;
        }
        if node.incomplete {
            self.datasets.remove(&session.dataset);
        } else {
            node.partial = None;
        }
        None
    }
}

/// Why a stream that has arrived whole cannot become a snapshot: what changed at the target meanwhile,
/// or, of a resumed stream, since its beginning.
fn check_end(node: &Node, partial: &Partial, session: &Session) -> Result<(), ErrorKind> {
    if node.snap(&session.snapshot).is_some() {
        return Err(ErrorKind::Exists);
    }
    if session.force || node.incomplete {
        return Ok(());
    }
    let newest = node.snapshots.last();
    let base = node.snapshots.iter().find(|snap| Some(snap.guid) == partial.from);
    if session.resumed && newest.map(|snap| snap.guid) != partial.from {
        return Err(no_state());
    }
    if newest.map(|snap| snap.guid) != session.newest {
        // In the words of ZFS, the stream is invalid.
        return Err(ErrorKind::Truncated);
    }
    if node.modified > base.map_or(0, |base| base.txg) { Err(ErrorKind::TargetModified) } else { Ok(()) }
}

fn check_partial(node: &Node, head: &Head, resumed: bool) -> Result<(), ErrorKind> {
    match &node.partial {
        Some(_) if !resumed => Err(ErrorKind::TargetHasPartial),
        None if resumed => Err(no_state()),
        Some(partial) => {
            let position = resume_payload(partial.position);
            let same = (partial.to, partial.from, &position) == (head.begin.to, head.begin.from, &head.payload);
            match (partial.receiving, same) {
                (true, _) => Err(ErrorKind::Busy),
                (false, true) => Ok(()),
                (false, false) => Err(no_state()),
            }
        }
        None => Ok(()),
    }
}

fn no_state() -> ErrorKind {
    ErrorKind::BadResumeToken("the target has no state of an interrupted receive".into())
}

/// Snapshots newer than the base of a stream; all of them for a full one.
fn newer_than_base(node: &Node, from: Option<Guid>) -> &[Snap] {
    let base = from.and_then(|from| node.snapshots.iter().position(|snap| snap.guid == from));
    node.snapshots.get(base.map_or(0, |base| base + 1)..).unwrap_or_default()
}

fn base_content(snapshots: &[Snap], head: &Head) -> Content {
    let base = snapshots.iter().find(|snap| Some(snap.guid) == head.begin.from);
    base.map(|snap| Content::clone(&snap.content)).unwrap_or_default()
}

fn fresh_partial(args: &ReceiveArgs, head: &Head, content: Content) -> Partial {
    let has = |bit: u64| head.begin.features & bit != 0;
    Partial {
        to: head.begin.to,
        to_name: head.begin.to_name.clone(),
        from: head.begin.from,
        creation: head.creation,
        flags: TokenFlags {
            raw: has(feature::RAW),
            compressed: has(feature::COMPRESSED),
            embedded: has(feature::EMBEDDED),
            large_blocks: has(feature::LARGE_BLOCKS),
            saved: false,
        },
        kind: kind_of(head),
        content,
        position: (super::content::MASTER, 0),
        bytes: 0,
        resumable: args.resumable,
        started: false,
        receiving: true,
    }
}

fn apply_properties(node: &mut Node, args: &ReceiveArgs, head: &Head) {
    let mut received = unpack_properties(&head.properties);
    received.retain(|(name, _)| !args.inherit.iter().any(|inherited| inherited.as_str() == *name));
    receive_properties(node, received);
    for (name, value) in &args.set {
        // The command line takes any property here; one that it would refuse is not used by zrepl.
        let _ = super::actions::set(node, name.as_str(), value, Source::Local);
    }
}

fn kind_of(head: &Head) -> DatasetKind {
    if head.objset_type == 3 { DatasetKind::Volume } else { DatasetKind::Filesystem }
}

fn is_raw(head: &Head) -> bool {
    head.begin.features & feature::RAW != 0
}
