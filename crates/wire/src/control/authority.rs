//! Makes requests of zrepl's clients acceptable to the HTTP library.
//!
//! They name as `:authority` either nothing (an indexed field, 0.7) or a text that is no host name (a
//! literal that enters the table of header compression, 0.6); the library ends such requests with a
//! protocol error. On the way to it the indexed field is left out and the value of a literal is replaced
//! by one letter. For that only the borders of the fields must be found: no table is kept and no text
//! decoded. The table of the library then holds the entries of the client in the same order, the replaced
//! ones smaller, so an index means the same to both, however entries are driven out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `PRI * HTTP/2.0` and what follows it.
pub(super) const PREFACE: usize = 24;

/// Length, type, flags, stream.
const HEADER: usize = 9;

/// Largest frame that a client may send, as nobody has allowed it more.
const MAX_FRAME: usize = 16 << 10;

const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Index of `:authority` in the static table.
const AUTHORITY: usize = 1;

/// A text of one letter, not compressed.
const LETTER: &[u8] = &[1, b'z'];

/// Rewrites what a client sends.
#[derive(Debug)]
pub struct Filter {
    /// Bytes to pass on as they are.
    pass: usize,
    /// A frame's header, and its payload if that is to be rewritten, as far as it has come.
    frame: Vec<u8>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { pass: PREFACE, frame: Vec::new() }
    }
}

impl Filter {
    /// Takes all of `input` and appends what the library is to read.
    pub fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) {
        while !input.is_empty() {
            if self.pass > 0 {
                let (piece, rest) = input.split_at(self.pass.min(input.len()));
                self.pass -= piece.len();
                output.extend(piece);
                input = rest;
                continue;
            }
            let missing = self.frame_length().saturating_sub(self.frame.len());
            let (piece, rest) = input.split_at(missing.min(input.len()));
            self.frame.extend(piece);
            input = rest;
            if self.frame.len() == self.frame_length() {
                self.end_frame(output);
            }
        }
    }

    /// Bytes to collect: the header, and once that says so the payload.
    fn frame_length(&self) -> usize {
        match self.frame.as_slice() {
            [a, b, c, HEADERS, flags, _, _, _, _, ..] if flags & END_HEADERS != 0 => match length(*a, *b, *c) {
                // More is refused by the library, which sees it as it is.
                length if length > MAX_FRAME => HEADER,
                length => HEADER + length,
            },
            _ => HEADER,
        }
    }

    fn end_frame(&mut self, output: &mut Vec<u8>) {
        let frame = std::mem::take(&mut self.frame);
        match (rewritten(&frame), frame.as_slice()) {
            (Some(frame), _) => output.extend(frame),
            (None, [a, b, c, ..]) => {
                self.pass = (HEADER + length(*a, *b, *c)).saturating_sub(frame.len());
                output.extend(&frame);
            }
            (None, _) => output.extend(&frame),
        }
    }
}

fn length(a: u8, b: u8, c: u8) -> usize {
    usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
}

/// A whole frame of headers; none if it is none, or cannot be understood, which the library may judge.
fn rewritten(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = frame.split_at_checked(HEADER)?;
    let [_, _, _, HEADERS, flags, stream @ ..] = header else { return None };
    if payload.is_empty() {
        return None;
    }
    let (padding, rest) = match flags & PADDED {
        0 => (0, payload),
        _ => payload.split_first().map(|(padding, rest)| (usize::from(*padding), rest))?,
    };
    let (priority, rest) = rest.split_at_checked(if flags & PRIORITY == 0 { 0 } else { 5 })?;
    let fields = rest.get(..rest.len().checked_sub(padding)?)?;
    let fields = without_authority(fields)?;
    // Padding says nothing and is left out.
    let length = u32::try_from(priority.len() + fields.len()).ok()?.to_be_bytes();
    let header = [length.get(1..)?, &[HEADERS, flags & !PADDED], stream].concat();
    Some([header.as_slice(), priority, &fields].concat())
}

/// A block of header fields (RFC 7541) with its `:authority` left out or replaced.
fn without_authority(mut block: &[u8]) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(block.len() + 1);
    while let Some(first) = block.first() {
        let field = block;
        let (bits, is_literal) = match first {
            0x80.. => (7, false),
            0x40..=0x7f => (6, true),
            0x20..=0x3f => (5, false),
            _ => (4, true),
        };
        let index = integer(&mut block, bits)?;
        let named = field.get(..field.len() - block.len())?;
        if is_literal {
            if index == 0 {
                text(&mut block)?;
            }
            text(&mut block)?;
        }
        match (index, is_literal, bits) {
            (AUTHORITY, false, 7) => {}
            (AUTHORITY, true, _) => kept.extend([named, LETTER].concat()),
            _ => kept.extend(field.get(..field.len() - block.len())?),
        }
    }
    Some(kept)
}

/// Reads a number whose first bits share a byte with something else.
fn integer(block: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let mask = (1usize << bits) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        // Four bytes hold more than any frame.
        for shift in [0, 7, 14, 21] {
            let (next, after) = rest.split_first()?;
            rest = after;
            value += usize::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

/// Skips a text, compressed or not.
fn text(block: &mut &[u8]) -> Option<()> {
    let length = integer(block, 7)?;
    *block = block.get(length..)?;
    Some(())
}

/// A connection whose client is read through a [`Filter`].
pub(super) struct Filtered<T> {
    io: T,
    filter: Filter,
    ready: Vec<u8>,
    taken: usize,
}

impl<T> Filtered<T> {
    /// Of which the beginning has been read.
    pub(super) fn after_preface(preface: [u8; PREFACE], io: T) -> Self {
        Self { io, filter: Filter { pass: 0, frame: Vec::new() }, ready: preface.to_vec(), taken: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Filtered<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.taken == this.ready.len() {
            let mut bytes = [0; 8192];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.io).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.ready.clear();
            this.taken = 0;
            this.filter.feed(read.filled(), &mut this.ready);
        }
        let waiting = this.ready.get(this.taken..).unwrap_or_default();
        let piece = waiting.get(..waiting.len().min(room.remaining())).unwrap_or_default();
        room.put_slice(piece);
        this.taken += piece.len();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Filtered<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filtered(bytes: &[u8], cut: usize) -> Vec<u8> {
        let (mut filter, mut output) = (Filter::default(), vec![]);
        bytes.chunks(cut).for_each(|piece| filter.feed(piece, &mut output));
        output
    }

    fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, HEADERS, flags, 0, 0, 0, 1], payload].concat()
    }

    fn change(flags: u8, payload: &[u8]) -> Vec<u8> {
        filtered(&[&[b'P'; PREFACE], frame(flags, payload).as_slice()].concat(), 3).split_off(PREFACE)
    }

    #[test]
    fn the_authority_goes_and_all_else_stays() {
        assert_eq!(change(4, &[0x83, 0x81, 0x86]), frame(4, &[0x83, 0x86]));
        assert_eq!(change(4, &[0x41, 0x82, 9, 9, 0xbe]), frame(4, &[0x41, 1, b'z', 0xbe]));
        assert_eq!(change(4, &[0x01, 0x00]), frame(4, &[0x01, 1, b'z']));
        assert_eq!(change(4, &[0x11, 0x01, b'h']), frame(4, &[0x11, 1, b'z']));
        let value_of_81s = [0x40, 2, 0x81, 0x81, 1, 0x81, 0x21, 0x44, 1, 0x81];
        assert_eq!(change(4, &value_of_81s), frame(4, &value_of_81s));
        let padded = [2, 0, 0, 0, 0, 7, 0x81, 0x83, 0, 0];
        assert_eq!(change(4 | PADDED | PRIORITY, &padded), frame(4 | PRIORITY, &[0, 0, 0, 0, 7, 0x83]));
        for strange in [&[0x41][..], &[0x41, 9, 1], &[0xff, 0xff, 0xff, 0xff, 0xff, 1], &[]] {
            assert_eq!(change(4, strange), frame(4, strange));
        }
        assert_eq!(change(0, &[0x81]), frame(0, &[0x81]), "a block in several frames is left to the library");
    }

    proptest! {
        #[test]
        fn other_frames_pass_however_they_are_cut(
            frames in proptest::collection::vec((2u8.., proptest::collection::vec(any::<u8>(), 0..50)), 0..5),
            cut in 1usize..30,
        ) {
            let mut bytes = vec![b'P'; PREFACE];
            for (kind, payload) in frames {
                bytes.extend([0, 0, payload.len() as u8, kind, 4, 0, 0, 0, 1]);
                bytes.extend(payload);
            }
            prop_assert_eq!(filtered(&bytes, cut), bytes);
        }

        #[test]
        fn any_bytes_are_the_same_however_they_are_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1usize..30,
        ) {
            prop_assert_eq!(filtered(&bytes, cut), filtered(&bytes, 1000));
        }
    }
}
