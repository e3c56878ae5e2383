//! The head of a send stream: which snapshot it carries, checked before a byte is received.
//!
//! A stream opens with a BEGIN record of 312 bytes in the sender's byte order, which its magic number
//! tells. With properties (`-p`, `-b`, `-R`) there is a compound BEGIN record first, followed by a
//! packed list of properties and an END record, and only then the BEGIN record of a snapshot.

pub(crate) mod package;

use model::{Guid, UnixTime};
use thiserror::Error;

use crate::endian::Endian;

pub use package::Package;

/// Bytes of every record's fixed part.
pub(crate) const RECORD: usize = 312;
/// Type of a BEGIN record.
pub(crate) const BEGIN: u32 = 0;
/// Type of an END record.
pub(crate) const END: u32 = 5;

const MAGIC: u64 = 0x2_F5BA_CBAC;
const SUBSTREAM: u64 = 1;
const COMPOUND: u64 = 2;
const NAME: std::ops::Range<usize> = 56..RECORD;

/// Most bytes of a compound stream's properties that are read to reach the inner record. The list of
/// one filesystem has about 500 bytes; a recursive send of thousands of filesystems stays below this.
pub const MAX_PROPERTIES: usize = 16 * 1024 * 1024;

/// Features of a stream (`DMU_BACKUP_FEATURE_*`) that matter here.
pub mod feature {
    /// Blocks of more than 128 KiB (`-L`).
    pub const LARGE_BLOCKS: u64 = 1 << 19;
    /// Small blocks embedded in their pointers (`-e`).
    pub const EMBEDDED: u64 = 1 << 16;
    /// Compressed blocks (`-c`).
    pub const COMPRESSED: u64 = 1 << 22;
    /// The rest of an interrupted stream.
    pub const RESUMING: u64 = 1 << 20;
    /// Encrypted blocks (`-w` of an encrypted dataset).
    pub const RAW: u64 = 1 << 24;
}

/// What the BEGIN record of a stream says. A stream with properties (`-p`, `-b`) wraps its substream
/// in a compound one; this is then the record of the substream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginRecord {
    /// The snapshot being sent.
    pub to: Guid,
    /// The snapshot from which the stream is incremental.
    pub from: Option<Guid>,
    /// Full name of the snapshot on the sender.
    pub to_name: String,
    /// Feature flags (`DMU_BACKUP_FEATURE_*`).
    pub features: u64,
    /// Whether the substream came inside a compound stream.
    pub compound: bool,
}

/// How far [`parse_begin`] came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The head is not complete: at least so many bytes of the stream, counted from its start, are needed.
    NeedMore(usize),
    /// The record.
    Done(BeginRecord),
}

/// Why bytes are not the head of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The first record is of another type, or has another magic number.
    #[error("it does not begin like a send stream")]
    NotAStream,
    /// Neither a substream nor a compound stream.
    #[error("its kind {0} is unknown")]
    Kind(u64),
    /// Properties longer than any real stream has.
    #[error("its properties have {0} bytes, more than {MAX_PROPERTIES}")]
    Properties(u64),
    /// A compound stream whose list of properties cannot be read.
    #[error("its list of properties is malformed")]
    Package,
    /// A compound stream without a snapshot in it.
    #[error("it carries no snapshot")]
    Empty,
    /// The name of the snapshot is not text that ends within its field.
    #[error("the snapshot's name in it is malformed")]
    Name,
}

/// Reads the head of a stream from its first bytes.
pub fn parse_begin(bytes: &[u8]) -> Result<Parsed, ParseError> {
    match locate(bytes)? {
        Located::NeedMore(total) => Ok(Parsed::NeedMore(total)),
        Located::At { at, record, .. } => record.begin(at > 0).map(Parsed::Done),
    }
}

/// What the head of a compound stream, which [`parse_begin`] found complete, says about the whole.
pub fn parse_package(head: &[u8]) -> Result<Package, ParseError> {
    match locate(head)? {
        Located::At { at, properties, .. } if at > 0 => package::read(properties).ok_or(ParseError::Package),
        Located::At { .. } | Located::NeedMore(_) => Ok(Package::default()),
    }
}

/// A head with what only ZFS and its model need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) begin: BeginRecord,
    /// When the snapshot was taken.
    pub(crate) creation: UnixTime,
    /// `DMU_OST_*`: 2 is a filesystem, 3 a volume.
    pub(crate) objset_type: u32,
    /// What follows the compound record.
    pub(crate) properties: Vec<u8>,
    /// What follows the substream's record.
    pub(crate) payload: Vec<u8>,
}

/// How far [`parse_head`] came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    NeedMore(usize),
    Done(Head),
}

pub(crate) fn parse_head(bytes: &[u8]) -> Result<Progress, ParseError> {
    let (at, record, properties) = match locate(bytes)? {
        Located::NeedMore(total) => return Ok(Progress::NeedMore(total)),
        Located::At { at, record, properties } => (at, record, properties),
    };
    let payload_end = at + RECORD + record.payload_len()?;
    let begin = record.begin(at > 0)?;
    let Some(payload) = bytes.get(at + RECORD..payload_end) else { return Ok(Progress::NeedMore(payload_end)) };
    Ok(Progress::Done(Head {
        begin,
        creation: UnixTime(record.u64(24).cast_signed()),
        objset_type: record.u32(32),
        properties: properties.to_vec(),
        payload: payload.to_vec(),
    }))
}

/// When the snapshot of a stream was taken, by the clock of its sender; none if this is not its whole head.
pub fn creation(bytes: &[u8]) -> Option<UnixTime> {
    match parse_head(bytes) {
        Ok(Progress::Done(head)) => Some(head.creation),
        Ok(Progress::NeedMore(_)) | Err(_) => None,
    }
}

/// Where the record of the snapshot is.
enum Located<'a> {
    NeedMore(usize),
    At { at: usize, record: RawRecord<'a>, properties: &'a [u8] },
}

fn locate(bytes: &[u8]) -> Result<Located<'_>, ParseError> {
    let Some(outer) = RawRecord::read(bytes)? else { return Ok(Located::NeedMore(RECORD)) };
    match outer.kind() {
        SUBSTREAM => Ok(Located::At { at: 0, record: outer, properties: &[] }),
        COMPOUND => locate_inner(bytes, &outer),
        other => Err(ParseError::Kind(other)),
    }
}

/// Goes past the properties of a compound stream and the END record that closes them.
fn locate_inner<'a>(bytes: &'a [u8], outer: &RawRecord<'_>) -> Result<Located<'a>, ParseError> {
    let properties_end = RECORD + outer.payload_len()?;
    let Some(end) = bytes.get(properties_end..properties_end + RECORD) else {
        return Ok(Located::NeedMore(properties_end + RECORD));
    };
    let at = match end.first_chunk::<4>() {
        Some(kind) if outer.endian.u32(*kind) == END => properties_end + RECORD,
        _ => properties_end,
    };
    let properties = bytes.get(RECORD..properties_end).unwrap_or_default();
    match RawRecord::read(bytes.get(at..).unwrap_or_default()) {
        Ok(Some(record)) if record.kind() == SUBSTREAM => Ok(Located::At { at, record, properties }),
        Ok(None) => Ok(Located::NeedMore(at + RECORD)),
        Ok(Some(_)) | Err(_) => Err(ParseError::Empty),
    }
}

/// A BEGIN record whose type and magic number are right.
struct RawRecord<'a> {
    bytes: &'a [u8; RECORD],
    endian: Endian,
}

impl<'a> RawRecord<'a> {
    fn read(bytes: &'a [u8]) -> Result<Option<Self>, ParseError> {
        let endian = match bytes.get(8..16).and_then(|magic| magic.first_chunk::<8>()) {
            None => return Ok(None),
            Some(magic) if u64::from_le_bytes(*magic) == MAGIC => Endian::Little,
            Some(magic) if u64::from_be_bytes(*magic) == MAGIC => Endian::Big,
            Some(_) => return Err(ParseError::NotAStream),
        };
        let Some(bytes) = bytes.first_chunk::<RECORD>() else { return Ok(None) };
        let record = Self { bytes, endian };
        if record.u32(0) != BEGIN {
            return Err(ParseError::NotAStream);
        }
        Ok(Some(record))
    }

    fn u32(&self, at: usize) -> u32 {
        self.bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| self.endian.u32(*b))
    }

    fn u64(&self, at: usize) -> u64 {
        self.bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| self.endian.u64(*b))
    }

    fn kind(&self) -> u64 {
        self.u64(16) & 3
    }

    fn payload_len(&self) -> Result<usize, ParseError> {
        let len = self.u32(4);
        usize::try_from(len).ok().filter(|len| *len <= MAX_PROPERTIES).ok_or(ParseError::Properties(len.into()))
    }

    fn begin(&self, compound: bool) -> Result<BeginRecord, ParseError> {
        let name = self.bytes.get(NAME).unwrap_or_default();
        let end = name.iter().position(|b| *b == 0).ok_or(ParseError::Name)?;
        let to_name = name.get(..end).and_then(|name| std::str::from_utf8(name).ok()).ok_or(ParseError::Name)?;
        Ok(BeginRecord {
            to: Guid(self.u64(40)),
            from: Some(self.u64(48)).filter(|guid| *guid != 0).map(Guid),
            to_name: to_name.to_owned(),
            features: (self.u64(16) >> 2) & 0x3fff_ffff,
            compound,
        })
    }
}

impl Head {
    /// The bytes of this head, little-endian.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.begin.compound {
            let outer = BeginRecord { to: Guid(0), from: None, features: 0, ..self.begin.clone() };
            push_begin(&mut bytes, &outer, COMPOUND, UnixTime(0), 0, &self.properties);
            bytes.extend(END.to_le_bytes());
            bytes.resize(bytes.len() + RECORD - 4, 0);
        }
        push_begin(&mut bytes, &self.begin, SUBSTREAM, self.creation, self.objset_type, &self.payload);
        bytes
    }
}

fn push_begin(
    bytes: &mut Vec<u8>,
    begin: &BeginRecord,
    kind: u64,
    creation: UnixTime,
    objset_type: u32,
    payload: &[u8],
) {
    let end = bytes.len() + RECORD;
    bytes.extend(BEGIN.to_le_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend((begin.features << 2 | kind).to_le_bytes());
    bytes.extend(creation.0.to_le_bytes());
    bytes.extend(objset_type.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(begin.to.0.to_le_bytes());
    bytes.extend(begin.from.map_or(0, |guid| guid.0).to_le_bytes());
    bytes.extend(begin.to_name.bytes().take(NAME.len() - 1));
    bytes.resize(end, 0);
    bytes.extend(payload);
}

#[cfg(test)]
mod tests;
