//! The records of a fake stream: of the size and the order of real ones, with a content of our own.
//!
//! A record is a fixed part of 312 bytes (type, payload length, object, offset or size, a checksum) and
//! its payload. The END record carries the hash of the content that the receiver must have then.

use std::sync::Arc;

use super::content::{Change, ContentHash};
use crate::stream::{END, RECORD};

const OBJECT: u32 = 1;
const FREE: u32 = 2;
const WRITE: u32 = 3;

/// Longest payload of a record that is believed.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Change(Change),
    End(ContentHash),
}

/// The size of the record of a change, without making it.
pub(super) fn encoded_len(change: &Change) -> u64 {
    let payload = match change {
        Change::Object { name, .. } => name.len(),
        Change::Write { data, .. } => data.len(),
        Change::Free { .. } => 0,
    };
    (RECORD + payload) as u64
}

impl Record {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Record::Change(Change::Object { object, name, size }) => encode(OBJECT, *object, *size, name.as_bytes()),
            Record::Change(Change::Write { object, offset, data }) => encode(WRITE, *object, *offset, data),
            Record::Change(Change::Free { object }) => encode(FREE, *object, 0, &[]),
            Record::End(hash) => {
                let mut bytes = encode(END, 0, 0, &[]);
                if let Some(field) = bytes.get_mut(32..64) {
                    field.copy_from_slice(&hash.0);
                }
                bytes
            }
        }
    }
}

fn encode(kind: u32, object: u64, number: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD + payload.len());
    bytes.extend(kind.to_le_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(object.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(checksum(payload).to_le_bytes());
    bytes.resize(RECORD, 0);
    bytes.extend(payload);
    bytes
}

fn checksum(payload: &[u8]) -> u64 {
    let (words, rest) = payload.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let rest = rest.iter().map(|byte| u64::from(*byte));
    words.chain(rest).fold(payload.len() as u64, |sum, word| (sum ^ word).wrapping_mul(0x100_0000_01b3).rotate_left(5))
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fixed([u8; RECORD]);

/// A record that no sender wrote, or that was damaged on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

impl Fixed {
    pub(super) fn new(bytes: [u8; RECORD]) -> Self {
        Self(bytes)
    }

    pub(super) fn payload_len(&self) -> Result<usize, Damaged> {
        let len = self.u32(4) as usize;
        if len > MAX_PAYLOAD { Err(Damaged) } else { Ok(len) }
    }

    pub(super) fn with_payload(&self, payload: &[u8]) -> Result<Record, Damaged> {
        if checksum(payload) != self.u64(24) {
            return Err(Damaged);
        }
        let (object, number) = (self.u64(8), self.u64(16));
        Ok(match self.u32(0) {
            OBJECT => {
                let name = String::from_utf8(payload.to_vec()).map_err(|_| Damaged)?;
                Record::Change(Change::Object { object, name, size: number })
            }
            WRITE => Record::Change(Change::Write { object, offset: number, data: Arc::from(payload) }),
            FREE => Record::Change(Change::Free { object }),
            END => Record::End(ContentHash(*self.0.get(32..).and_then(|b| b.first_chunk()).ok_or(Damaged)?)),
            _ => return Err(Damaged),
        })
    }

    fn u32(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
    }

    fn u64(&self, at: usize) -> u64 {
        self.0.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
    }
}
