//! A view in parts, as two sides of this program exchange it: all of it in one call, in messages that
//! neither side has to hold many of.

use std::collections::{BTreeMap, btree_map};

use model::protection::{Protection, ProtectionKind};
use model::view::{DatasetKind, Encryption, FilesystemView, PartialReceive, Placeholder, TokenContents, View};
use model::{CreateTxg, DatasetName, Guid, UnixTime, Version, VersionKind, VersionName, VersionRef};

use super::convert::{dataset, token, within};
use super::{Malformed, Problem};

/// Size of a part from which on the next one begins, bytes, estimated.
const PART: usize = 256 << 10;

/// What a version takes without its name, bytes, estimated.
const VERSION: usize = 40;

/// Most versions, and protections of them, that a listing may have; each takes about 100 bytes here.
pub const MAX_VERSIONS: usize = 5_000_000;

/// Most filesystems that a listing may have.
pub const MAX_FILESYSTEMS: usize = 500_000;

/// Most bytes of a listing: all those versions with names of the usual length, and what else there is.
const MAX_BYTES: usize = 512 << 20;

/// Ask for filesystems with their versions and protections.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListReq {
    /// Only the named ones, instead of all.
    #[prost(bool, tag = "1")]
    pub only_some: bool,
    /// These.
    #[prost(string, repeated, tag = "2")]
    pub filesystems: Vec<String>,
}

/// Some of the answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListPart {
    /// In order of their names.
    #[prost(message, repeated, tag = "1")]
    pub filesystems: Vec<Seen>,
    /// Trees that could not be listed.
    #[prost(message, repeated, tag = "2")]
    pub unlisted: Vec<Unlisted>,
    /// In the last part, and there alone.
    #[prost(message, optional, tag = "3")]
    pub summary: Option<Summary>,
}

/// What is true of the whole.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Summary {
    /// Whether the protections mean anything.
    #[prost(bool, tag = "1")]
    pub protections_known: bool,
    /// What the sender demands of its streams.
    #[prost(bool, optional, tag = "2")]
    pub sends_encrypted: Option<bool>,
    /// Whether the sender's policy suits no encrypted filesystem.
    #[prost(bool, tag = "3")]
    pub refuses_encrypted: bool,
}

/// A tree that could not be listed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Unlisted {
    /// Its root.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Why.
    #[prost(string, tag = "2")]
    pub why: String,
}

/// A filesystem, or more versions of the one before.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Seen {
    /// As the sender names it.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Whether this only adds versions to the filesystem before.
    #[prost(bool, tag = "2")]
    pub continues: bool,
    /// A volume.
    #[prost(bool, tag = "3")]
    pub volume: bool,
    /// 0: not set, 1: on, 2: off.
    #[prost(uint32, tag = "4")]
    pub placeholder: u32,
    /// 0: none, 1: with its key loaded, 2: without.
    #[prost(uint32, tag = "5")]
    pub encryption: u32,
    /// Of an interrupted receive, or empty.
    #[prost(string, tag = "6")]
    pub resume_token: String,
    /// Snapshots and bookmarks.
    #[prost(message, repeated, tag = "7")]
    pub versions: Vec<SeenVersion>,
    /// Of the job that answers.
    #[prost(message, repeated, tag = "8")]
    pub protections: Vec<SeenProtection>,
}

/// A snapshot or bookmark.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SeenVersion {
    /// A bookmark.
    #[prost(bool, tag = "1")]
    pub bookmark: bool,
    /// Without dataset, `@` and `#`.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Identity across pools.
    #[prost(fixed64, tag = "3")]
    pub guid: u64,
    /// Order within the pool.
    #[prost(uint64, tag = "4")]
    pub createtxg: u64,
    /// Seconds since 1970.
    #[prost(sint64, tag = "5")]
    pub creation: i64,
    /// Holds.
    #[prost(uint32, tag = "6")]
    pub userrefs: u32,
}

/// A hold or bookmark that protects a version.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SeenProtection {
    /// 1: step hold, 2: tentative cursor, 3: cursor, 4: last-received hold.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// A bookmark.
    #[prost(bool, tag = "2")]
    pub bookmark: bool,
    /// Name of the version.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Identity of the version.
    #[prost(fixed64, tag = "4")]
    pub guid: u64,
    /// Its age within the pool.
    #[prost(uint64, tag = "5")]
    pub createtxg: u64,
}

/// Cuts a view.
pub struct Parts {
    filesystems: btree_map::IntoIter<DatasetName, FilesystemView>,
    /// Begun, and how many of its versions were taken.
    current: Option<(DatasetName, FilesystemView, usize)>,
    unlisted: btree_map::IntoIter<DatasetName, String>,
    summary: Option<Summary>,
}

impl Parts {
    /// All of a view.
    pub fn of(view: View) -> Self {
        let View { filesystems, protections_known, sends_encrypted, refuses_encrypted, unlisted } = view;
        Self {
            filesystems: filesystems.into_iter(),
            current: None,
            unlisted: unlisted.into_iter(),
            summary: Some(Summary { protections_known, sends_encrypted, refuses_encrypted }),
        }
    }

    /// The next filesystem, or more of the last one, within about so many bytes; and how many it takes.
    fn next_seen(&mut self, room: usize) -> Option<(Seen, usize)> {
        let fresh = |(name, seen)| (name, seen, 0);
        let (name, seen, from) = self.current.take().or_else(|| self.filesystems.next().map(fresh))?;
        let mut entry = if from > 0 {
            Seen { path: name.as_str().to_owned(), continues: true, ..Seen::default() }
        } else {
            beginning(&name, &seen)
        };
        let mut used = VERSION + entry.path.len() + entry.resume_token.len() + entry.protections.len() * 2 * VERSION;
        for version in seen.versions.iter().skip(from) {
            if used >= room && !entry.versions.is_empty() {
                break;
            }
            used += VERSION + version.name.as_str().len();
            entry.versions.push(version.into());
        }
        let taken = from + entry.versions.len();
        if taken < seen.versions.len() {
            self.current = Some((name, seen, taken));
        }
        Some((entry, used))
    }
}

impl Iterator for Parts {
    type Item = ListPart;

    fn next(&mut self) -> Option<ListPart> {
        let (mut part, mut used) = (ListPart::default(), 0);
        while used < PART {
            if let Some((seen, size)) = self.next_seen(PART - used) {
                part.filesystems.push(seen);
                used += size;
            } else if let Some((name, why)) = self.unlisted.next() {
                used += VERSION + name.as_str().len() + why.len();
                part.unlisted.push(Unlisted { path: name.as_str().to_owned(), why });
            } else {
                part.summary = Some(self.summary.take()?);
                break;
            }
        }
        Some(part)
    }
}

fn beginning(name: &DatasetName, seen: &FilesystemView) -> Seen {
    Seen {
        path: name.as_str().to_owned(),
        continues: false,
        volume: seen.kind == DatasetKind::Volume,
        placeholder: match seen.placeholder {
            Placeholder::Unset => 0,
            Placeholder::On => 1,
            Placeholder::Off => 2,
        },
        encryption: match seen.encryption {
            Encryption::None => 0,
            Encryption::Encrypted { key_loaded: true } => 1,
            Encryption::Encrypted { key_loaded: false } => 2,
        },
        resume_token: seen.partial.as_ref().map(|partial| partial.token.to_string()).unwrap_or_default(),
        versions: Vec::new(),
        protections: seen.protections.iter().map(SeenProtection::from).collect(),
    }
}

impl From<&Version> for SeenVersion {
    fn from(version: &Version) -> Self {
        Self {
            bookmark: version.kind == VersionKind::Bookmark,
            name: version.name.as_str().to_owned(),
            guid: version.guid.0,
            createtxg: version.createtxg.0,
            creation: version.creation.0,
            userrefs: version.userrefs,
        }
    }
}

impl From<&Protection> for SeenProtection {
    fn from(protection: &Protection) -> Self {
        Self {
            kind: match protection.kind {
                ProtectionKind::StepHold => 1,
                ProtectionKind::TentativeCursor => 2,
                ProtectionKind::Cursor => 3,
                ProtectionKind::LastReceivedHold => 4,
            },
            bookmark: protection.version.kind == VersionKind::Bookmark,
            name: protection.version.name.as_str().to_owned(),
            guid: protection.version.guid.0,
            createtxg: protection.createtxg.0,
        }
    }
}

/// Reads a resume token; the error's text if it cannot be read.
pub type TokenDecoder = fn(&str) -> Result<TokenContents, String>;

/// Puts a view together again.
pub struct Assembly {
    decode_token: TokenDecoder,
    filesystems: BTreeMap<DatasetName, FilesystemView>,
    unlisted: BTreeMap<DatasetName, String>,
    /// Of which more versions may come.
    open: Option<(DatasetName, FilesystemView, Vec<Version>)>,
    versions: usize,
    bytes: usize,
    summary: Option<Summary>,
}

impl Assembly {
    /// Of which nothing has come.
    pub fn new(decode_token: TokenDecoder) -> Self {
        Self {
            decode_token,
            filesystems: BTreeMap::new(),
            unlisted: BTreeMap::new(),
            open: None,
            versions: 0,
            bytes: 0,
            summary: None,
        }
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// What is wrong with it; the listing is of no use then.
    pub fn accept(&mut self, part: ListPart) -> Result<(), Malformed> {
        within("ListPart", self.take(part))
    }

    fn take(&mut self, part: ListPart) -> Result<(), Problem> {
        if self.summary.is_some() {
            return Err(Problem::AfterTheEnd);
        }
        self.bytes = self.bytes.saturating_add(prost::Message::encoded_len(&part));
        if self.bytes > MAX_BYTES {
            return Err(Problem::TooMany { what: "bytes", most: MAX_BYTES });
        }
        for seen in part.filesystems {
            self.take_seen(seen)?;
        }
        for Unlisted { path, why } in part.unlisted {
            self.unlisted.insert(dataset(&path)?, why);
        }
        if self.filesystems.len() + self.unlisted.len() > MAX_FILESYSTEMS {
            return Err(Problem::TooMany { what: "filesystems", most: MAX_FILESYSTEMS });
        }
        self.summary = part.summary;
        Ok(())
    }

    fn take_seen(&mut self, seen: Seen) -> Result<(), Problem> {
        self.versions += seen.versions.len() + seen.protections.len();
        if self.versions > MAX_VERSIONS {
            return Err(Problem::TooMany { what: "versions and protections", most: MAX_VERSIONS });
        }
        let versions = seen.versions.iter().map(read_version).collect::<Result<Vec<_>, Problem>>()?;
        if seen.continues {
            let (name, _, more) = self.open.as_mut().ok_or(Problem::Missing("what continues"))?;
            if name.as_str() != seen.path {
                return Err(Problem::Missing("what continues"));
            }
            more.extend(versions);
            return Ok(());
        }
        self.end_filesystem()?;
        let (name, view) = read_beginning(seen, self.decode_token)?;
        self.open = Some((name, view, versions));
        Ok(())
    }

    fn end_filesystem(&mut self) -> Result<(), Problem> {
        let Some((name, mut view, versions)) = self.open.take() else { return Ok(()) };
        view.versions = Version::sorted(versions);
        match self.filesystems.insert(name.clone(), view) {
            None => Ok(()),
            Some(_) => Err(Problem::Twice(name)),
        }
    }

    /// The view, which must be whole.
    ///
    /// # Errors
    /// If it is not.
    pub fn finish(mut self) -> Result<View, Malformed> {
        let whole = self.end_filesystem().and_then(|()| self.summary.ok_or(Problem::Missing("the end of the listing")));
        let Summary { protections_known, sends_encrypted, refuses_encrypted } = within("ListPart", whole)?;
        let Self { filesystems, unlisted, .. } = self;
        Ok(View { filesystems, protections_known, sends_encrypted, refuses_encrypted, unlisted })
    }
}

fn read_beginning(seen: Seen, decode_token: TokenDecoder) -> Result<(DatasetName, FilesystemView), Problem> {
    let kind = if seen.volume { DatasetKind::Volume } else { DatasetKind::Filesystem };
    let placeholder = match seen.placeholder {
        0 => Placeholder::Unset,
        1 => Placeholder::On,
        2 => Placeholder::Off,
        value => return Err(Problem::Unknown { field: "placeholder", value }),
    };
    let encryption = match seen.encryption {
        0 => Encryption::None,
        1 => Encryption::Encrypted { key_loaded: true },
        2 => Encryption::Encrypted { key_loaded: false },
        value => return Err(Problem::Unknown { field: "encryption", value }),
    };
    let partial = token(seen.resume_token)?;
    let partial = partial.map(|token| PartialReceive { contents: decode_token(&token), token: token.into() });
    let protections = seen.protections.iter().map(read_protection).collect::<Result<_, Problem>>()?;
    let view = FilesystemView { kind, placeholder, encryption, versions: [].into(), partial, protections };
    Ok((dataset(&seen.path)?, view))
}

fn read_version(version: &SeenVersion) -> Result<Version, Problem> {
    Ok(Version {
        kind: kind(version.bookmark),
        name: VersionName::parse(&version.name)?,
        guid: Guid(version.guid),
        createtxg: CreateTxg(version.createtxg),
        creation: UnixTime(version.creation),
        userrefs: version.userrefs,
    })
}

fn read_protection(protection: &SeenProtection) -> Result<Protection, Problem> {
    let name = VersionName::parse(&protection.name)?;
    Ok(Protection {
        kind: match protection.kind {
            1 => ProtectionKind::StepHold,
            2 => ProtectionKind::TentativeCursor,
            3 => ProtectionKind::Cursor,
            4 => ProtectionKind::LastReceivedHold,
            value => return Err(Problem::Unknown { field: "kind of protection", value }),
        },
        version: VersionRef { kind: kind(protection.bookmark), name, guid: Guid(protection.guid) },
        createtxg: CreateTxg(protection.createtxg),
    })
}

fn kind(bookmark: bool) -> VersionKind {
    if bookmark { VersionKind::Bookmark } else { VersionKind::Snapshot }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
