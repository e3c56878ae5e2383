//! What a compound stream says about itself before its first snapshot: a list of pairs in the XDR
//! encoding of libnvpair, big-endian and in units of four bytes.
//!
//! Four bytes of header (encoding 1), version and flags, then pairs, then eight zero bytes. A pair is its
//! size here, its size in memory, its name, type, number of elements, and value. The value of a nested
//! list is version, flags and pairs.

const HEADER: usize = 4;
const LIST_HEADER: usize = 8;
const XDR: u8 = 1;

const BOOLEAN: u32 = 1;
const STRING: u32 = 9;
const LIST: u32 = 19;

/// Streams of OpenZFS nest three deep; a peer's nest no deeper.
const MAX_DEPTH: usize = 8;

/// Without this flag a stream is a package of several filesystems (`-R`).
const NOT_RECURSIVE: &str = "not_recursive";
/// Of a filesystem: the holds of its snapshots (`-h`).
const HOLDS: &str = "snapholds";

/// What matters of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Package {
    /// It carries more than one snapshot's stream (`zfs send -R` or `-I`).
    pub recursive: bool,
    /// It carries holds (`zfs send -h`), which `zfs recv` would make.
    pub holds: bool,
}

/// Reads the list; none if it is malformed.
pub(crate) fn read(packed: &[u8]) -> Option<Package> {
    let pairs = top_level(packed)?;
    let is_flag = |pair: &Pair<'_>| pair.name == NOT_RECURSIVE && pair.kind == BOOLEAN;
    Some(Package { recursive: !pairs.iter().any(is_flag), holds: has_holds(&pairs, MAX_DEPTH)? })
}

/// The texts at the top of a list; none if it is malformed.
pub(crate) fn texts(packed: &[u8]) -> Option<Vec<(String, String)>> {
    let pairs = top_level(packed)?;
    let texts = pairs.iter().filter(|pair| pair.kind == STRING);
    texts.map(|pair| Some((pair.name.to_owned(), text(&mut { pair.value })?.to_owned()))).collect()
}

/// A list of one filesystem with these texts at its top.
pub(crate) fn write<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut bytes = vec![XDR, 1, 0, 0];
    bytes.extend(0u32.to_be_bytes());
    bytes.extend(1u32.to_be_bytes());
    push(&mut bytes, NOT_RECURSIVE, BOOLEAN, 0, &[]);
    for (name, value) in texts {
        push(&mut bytes, name, STRING, 1, &string(value));
    }
    bytes.extend([0; 8]);
    bytes
}

struct Pair<'a> {
    name: &'a str,
    kind: u32,
    value: &'a [u8],
}

fn top_level(packed: &[u8]) -> Option<Vec<Pair<'_>>> {
    let (header, list) = packed.split_at_checked(HEADER)?;
    (header.first() == Some(&XDR)).then(|| pairs(list)).flatten()
}

/// The pairs of a list from its version on; its end must be there.
fn pairs(list: &[u8]) -> Option<Vec<Pair<'_>>> {
    let (_, mut rest) = list.split_at_checked(LIST_HEADER)?;
    let mut pairs = Vec::new();
    loop {
        let size = usize::try_from(number(&mut { rest })?).ok()?;
        if size == 0 {
            return Some(pairs);
        }
        let (pair, after) = rest.split_at_checked(size)?;
        let mut body = pair.get(8..)?;
        let name = text(&mut body)?;
        let kind = number(&mut body)?;
        let _elements = number(&mut body)?;
        pairs.push(Pair { name, kind, value: body });
        rest = after;
    }
}

fn has_holds(pairs: &[Pair<'_>], depth: usize) -> Option<bool> {
    let depth = depth.checked_sub(1)?;
    for pair in pairs {
        if pair.name == HOLDS {
            return Some(true);
        }
        if pair.kind == LIST && has_holds(&self::pairs(pair.value)?, depth)? {
            return Some(true);
        }
    }
    Some(false)
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*number))
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::try_from(number(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(len.checked_next_multiple_of(4)?)?;
    *bytes = rest;
    std::str::from_utf8(text.get(..len)?).ok()
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn push(bytes: &mut Vec<u8>, name: &str, kind: u32, elements: u32, value: &[u8]) {
    let name = string(name);
    let size = (16 + name.len() + value.len()) as u32;
    for number in [size, size] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(name);
    for number in [kind, elements] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let packed = write([("a:b", "1"), ("c", "four")].into_iter());
        assert_eq!(read(&packed), Some(Package { recursive: false, holds: false }));
        let expected = [("a:b", "1"), ("c", "four")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(texts(&packed).unwrap(), expected);
        for len in 0..packed.len() - 4 {
            assert_eq!(read(&packed[..len]), None, "cut after {len} bytes");
        }
    }

    #[test]
    fn a_name_inside_a_value_is_no_flag() {
        let mut bytes = vec![XDR, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        push(&mut bytes, "tosnap", STRING, 1, &string("x not_recursive"));
        bytes.extend([0; 8]);
        assert_eq!(read(&bytes), Some(Package { recursive: true, holds: false }));
    }

    #[test]
    fn holds_are_found_below_a_filesystem() {
        let list = |name: &str, inner: &[u8]| {
            let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 1];
            push(&mut bytes, name, LIST, 1, inner);
            bytes.extend([0; 8]);
            bytes
        };
        let empty = [vec![0, 0, 0, 0, 0, 0, 0, 1], vec![0; 8]].concat();
        let nested = list("fss", &list("0xba869a5f66109d0a", &list(HOLDS, &empty)));
        assert!(read(&[vec![XDR, 1, 0, 0], nested].concat()).unwrap().holds);
        let deep = (0..20).fold(empty, |inner, _| list("x", &inner));
        assert_eq!(read(&[vec![XDR, 1, 0, 0], deep].concat()), None, "deeper than any real one");
    }
}
