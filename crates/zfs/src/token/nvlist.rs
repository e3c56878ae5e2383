//! The part of the packed native nvlist encoding that tokens use.
//!
//! Four bytes of header (encoding 0 = native, byte order 1 = little or 0 = big, two reserved), version
//! and flags, then pairs, then a zero size. A pair is its size, the length of its name with the final
//! NUL, a reserve, a count, a type, the name, and the value at the next multiple of eight.

use super::TokenError;
use crate::endian::Endian;

const BOOLEAN: u32 = 1;
const UINT64: u32 = 8;
const STRING: u32 = 9;

const HEADER: usize = 12;
const PAIR_HEADER: usize = 16;
const UNIQUE_NAMES: u32 = 1;

/// The value of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Text(&'a str),
    /// Any other type, which tokens have but nobody here reads.
    Other,
}

/// The pairs of a packed list; ends after the first malformed one.
pub(crate) fn pairs(packed: &[u8]) -> Result<Pairs<'_>, TokenError> {
    let (header, rest) = packed.split_first_chunk::<HEADER>().ok_or(TokenError::Payload("it is too short"))?;
    let endian = match header {
        [0, 1, ..] => Endian::Little,
        [0, 0, ..] => Endian::Big,
        _ => return Err(TokenError::Payload("it has an unknown encoding")),
    };
    Ok(Pairs { rest, endian })
}

pub(crate) struct Pairs<'a> {
    rest: &'a [u8],
    endian: Endian,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a str, Value<'a>), TokenError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.pair() {
            Ok(pair) => pair.map(Ok),
            Err(problem) => {
                self.rest = &[0; 4];
                Some(Err(TokenError::Payload(problem)))
            }
        }
    }
}

impl<'a> Pairs<'a> {
    fn pair(&mut self) -> Result<Option<(&'a str, Value<'a>)>, &'static str> {
        let size = self.rest.first_chunk::<4>().ok_or("it ends without a final zero")?;
        let size = self.endian.u32(*size) as usize;
        if size == 0 {
            return Ok(None);
        }
        let (pair, rest) = self.rest.split_at_checked(size).ok_or("a pair is longer than the list")?;
        let (header, body) = pair.split_first_chunk::<PAIR_HEADER>().ok_or("a pair is too short")?;
        let [_, _, _, _, n0, n1, _, _, _, _, _, _, t0, t1, t2, t3] = *header;
        let name_len = usize::from(self.endian.u16([n0, n1]));
        let name = body.get(..name_len).and_then(until_nul).ok_or("a name is malformed")?;
        let value_at = (PAIR_HEADER + name_len).next_multiple_of(8) - PAIR_HEADER;
        let value = body.get(value_at..).unwrap_or_default();
        let value = match self.endian.u32([t0, t1, t2, t3]) {
            UINT64 => Value::Number(self.endian.u64(*value.first_chunk::<8>().ok_or("a number is cut off")?)),
            STRING => Value::Text(until_nul(value).ok_or("a string is malformed")?),
            _ => Value::Other,
        };
        self.rest = rest;
        Ok(Some((name, value)))
    }
}

fn until_nul(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0)?;
    std::str::from_utf8(bytes.get(..end)?).ok()
}

/// Packs a list in little-endian order.
pub(crate) struct Writer(Vec<u8>);

impl Default for Writer {
    fn default() -> Self {
        let mut bytes = vec![0, 1, 0, 0];
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(UNIQUE_NAMES.to_le_bytes());
        Self(bytes)
    }
}

impl Writer {
    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.pair(name, UINT64, 1, &value.to_le_bytes());
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        // A NUL would end the string early for every reader.
        let value: Vec<u8> = value.bytes().filter(|b| *b != 0).chain([0]).collect();
        self.pair(name, STRING, 1, &value);
    }

    pub(crate) fn flag(&mut self, name: &str) {
        self.pair(name, BOOLEAN, 0, &[]);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 4]);
        self.0
    }

    fn pair(&mut self, name: &str, kind: u32, count: u32, value: &[u8]) {
        let name_len = name.len() + 1;
        let value_at = (PAIR_HEADER + name_len).next_multiple_of(8);
        let size = (value_at + value.len()).next_multiple_of(8);
        let start = self.0.len();
        // Names are literals of this crate and values at most a stream's name, far below the limits.
        self.0.extend((size as u32).to_le_bytes());
        self.0.extend((name_len as u16).to_le_bytes());
        self.0.extend([0; 2]);
        self.0.extend(count.to_le_bytes());
        self.0.extend(kind.to_le_bytes());
        self.0.extend(name.as_bytes());
        self.0.resize(start + value_at, 0);
        self.0.extend(value);
        self.0.resize(start + size, 0);
    }
}
