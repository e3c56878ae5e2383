//! Resume tokens: the opaque text with which an interrupted receive tells where to go on.
//!
//! Read here rather than by `zfs send -nvt`, which searches the pool for the token's guid. A token
//! comes from a peer: nothing it announces is believed, and a bad one is an error and nothing else.
//!
//! The text is `1-CHECKSUM-LENGTH-PAYLOAD`, all hexadecimal: the payload is zlib over a packed
//! nvlist, the checksum the first word of fletcher-4 over the compressed bytes.

pub(crate) mod nvlist;

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use model::Guid;
use model::view::{TokenContents, TokenFlags};
use thiserror::Error;

use nvlist::Value;

/// Longest text that is looked at. Tokens have some 200 to 400 characters; those of redacted sends
/// carry a list of guids and may be longer.
const MAX_TEXT: usize = 256 * 1024;

/// Most bytes that a payload is inflated to, whatever the token announces.
const MAX_UNPACKED: usize = 1024 * 1024;

/// Why a text is not a usable token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// More text than any real token has.
    #[error("it has {0} characters, more than {MAX_TEXT}")]
    TooLong(usize),
    /// Not four fields, or not hexadecimal.
    #[error("it does not have the form 1-CHECKSUM-LENGTH-PAYLOAD")]
    Shape,
    /// A version other than 1.
    #[error("its version {0:?} is unknown")]
    Version(String),
    /// Damaged on the way.
    #[error("its checksum does not match")]
    Checksum,
    /// The payload does not inflate to the announced length.
    #[error("its payload cannot be decompressed to the announced length")]
    Compression,
    /// The payload is not a list of names and values.
    #[error("its payload is malformed: {0}")]
    Payload(&'static str),
    /// A key that every token has is missing.
    #[error("it lacks the key {0:?}")]
    Missing(&'static str),
}

/// A token with the position in the stream, which only ZFS (and its model) needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    /// What the rest of the program needs to know.
    pub contents: TokenContents,
    /// Object at which the stream goes on.
    pub object: u64,
    /// Byte within the object.
    pub offset: u64,
}

/// What a token says.
pub fn decode(text: &str) -> Result<TokenContents, TokenError> {
    ResumeToken::decode(text).map(|token| token.contents)
}

/// The text of a token.
pub fn encode(token: &ResumeToken) -> String {
    let packed = token.pack();
    let compressed = compress(&packed);
    format!("1-{:x}-{:x}-{}", checksum(&compressed), packed.len(), hex(&compressed))
}

impl ResumeToken {
    /// Reads the text of a token.
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        Self::unpack(&payload(text)?)
    }

    fn unpack(packed: &[u8]) -> Result<Self, TokenError> {
        let (mut from, mut to, mut to_name) = (None, None, None);
        let (mut object, mut offset, mut bytes_received) = (0, 0, 0);
        let mut flags = TokenFlags::default();
        for pair in nvlist::pairs(packed)? {
            let (name, value) = pair?;
            match (name, value) {
                ("fromguid", Value::Number(guid)) => from = Some(Guid(guid)),
                ("toguid", Value::Number(guid)) => to = Some(Guid(guid)),
                ("toname", Value::Text(text)) => to_name = Some(text.to_owned()),
                ("object", Value::Number(n)) => object = n,
                ("offset", Value::Number(n)) => offset = n,
                ("bytes", Value::Number(n)) => bytes_received = n,
                ("fromguid" | "toguid" | "toname" | "object" | "offset" | "bytes", _) => {
                    return Err(TokenError::Payload("a value has an unexpected type"));
                }
                // libzfs looks only whether these keys are there, so any value counts as true.
                ("rawok", _) => flags.raw = true,
                ("compressok", _) => flags.compressed = true,
                ("embedok", _) => flags.embedded = true,
                ("largeblockok", _) => flags.large_blocks = true,
                ("savedok", _) => flags.saved = true,
                _ => {}
            }
        }
        let contents = TokenContents {
            from,
            to: to.ok_or(TokenError::Missing("toguid"))?,
            to_name: to_name.ok_or(TokenError::Missing("toname"))?,
            bytes_received,
            flags,
        };
        Ok(Self { contents, object, offset })
    }

    /// Keys in the order in which the kernel writes them.
    fn pack(&self) -> Vec<u8> {
        let TokenContents { from, to, to_name, bytes_received, flags } = &self.contents;
        let mut list = nvlist::Writer::default();
        if let Some(from) = from {
            list.number("fromguid", from.0);
        }
        list.number("object", self.object);
        list.number("offset", self.offset);
        list.number("bytes", *bytes_received);
        list.number("toguid", to.0);
        list.text("toname", to_name);
        for (name, set) in [
            ("largeblockok", flags.large_blocks),
            ("embedok", flags.embedded),
            ("compressok", flags.compressed),
            ("rawok", flags.raw),
            ("savedok", flags.saved),
        ] {
            if set {
                list.flag(name);
            }
        }
        list.finish()
    }
}

/// The packed list inside a token's text, checked as far as the envelope tells.
fn payload(text: &str) -> Result<Vec<u8>, TokenError> {
    if text.len() > MAX_TEXT {
        return Err(TokenError::TooLong(text.len()));
    }
    let mut fields = text.splitn(4, '-');
    let mut field = || fields.next().ok_or(TokenError::Shape);
    let (version, sum, length, compressed) = (field()?, field()?, field()?, field()?);
    if version != "1" {
        return Err(TokenError::Version(version.chars().take(20).collect()));
    }
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => u64::from_str_radix(text, 16).map_err(|_| TokenError::Shape),
        false => Err(TokenError::Shape),
    };
    let (sum, length) = (number(sum)?, number(length)?);
    let compressed = unhex(compressed).ok_or(TokenError::Shape)?;
    if checksum(&compressed) != sum {
        return Err(TokenError::Checksum);
    }
    inflate(&compressed, length)
}

fn inflate(compressed: &[u8], announced: u64) -> Result<Vec<u8>, TokenError> {
    let announced = usize::try_from(announced).ok().filter(|n| *n <= MAX_UNPACKED).ok_or(TokenError::Compression)?;
    // Grows with what really comes out; one byte beyond the announced length is enough to refuse it.
    let mut packed = Vec::new();
    ZlibDecoder::new(compressed)
        .take(announced as u64 + 1)
        .read_to_end(&mut packed)
        .map_err(|_| TokenError::Compression)?;
    if packed.len() != announced {
        return Err(TokenError::Compression);
    }
    Ok(packed)
}

fn compress(packed: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to a vector cannot fail; were it to, the empty payload would be refused on reading.
    match encoder.write_all(packed) {
        Ok(()) => encoder.finish().unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// First word of fletcher-4: the sum of the little-endian 32-bit words. An incomplete last word
/// does not count.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from(u32::from_le_bytes(*word))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests;
