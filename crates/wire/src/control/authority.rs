//! Makes requests of zrepl's clients acceptable to the HTTP library.
//!
//! They name as `:authority` either nothing (an indexed field, 0.7) or a text that is no host name (a
//! literal that enters the table of header compression, 0.6); the library ends such requests with a
//! protocol error. On the way to it the indexed field is left out and the value of a literal is replaced
//! by one letter, and a block in several frames comes in one. For that only the borders of the fields must
//! be found: no table is kept and no text decoded. The table of the library then holds the entries of the
//! client in the same order, the replaced ones smaller, so an index means the same to both, however entries
//! are driven out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `PRI * HTTP/2.0` and what follows it.
pub(super) const PREFACE: usize = 24;

/// Length, type, flags, stream.
const HEADER: usize = 9;

/// Largest frame that a client may send, as nobody has allowed it more.
const MAX_FRAME: usize = 16 << 10;

/// Longest block of header fields in several frames that is rewritten, bytes with the frames' headers: more
/// than the library accepts. It is kept until its last frame is there.
const MAX_BLOCK: usize = 64 << 10;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const GOAWAY: u8 = 7;
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
    /// Frames of a block of header fields that goes on in the next one.
    begun: Vec<u8>,
    /// Whether the client has said that it is done.
    goodbye: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self { pass: PREFACE, frame: Vec::new(), begun: Vec::new(), goodbye: false }
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
            [a, b, c, kind, _, _, _, _, _, ..] if self.is_of_block(*kind) => match length(*a, *b, *c) {
                // More is refused by the library, which sees it as it is.
                length if length > MAX_FRAME => HEADER,
                length => HEADER + length,
            },
            _ => HEADER,
        }
    }

    /// Whether a frame begins a block, or continues one that is collected.
    fn is_of_block(&self, kind: u8) -> bool {
        kind == if self.begun.is_empty() { HEADERS } else { CONTINUATION }
    }

    fn end_frame(&mut self, output: &mut Vec<u8>) {
        let belongs = self.belongs();
        let (frame, mut frames) = (std::mem::take(&mut self.frame), std::mem::take(&mut self.begun));
        let [a, b, c, kind, flags, ..] = frame.as_slice() else { return };
        self.goodbye |= *kind == GOAWAY;
        let rest = (HEADER + length(*a, *b, *c)).saturating_sub(frame.len());
        let is_last = flags & END_HEADERS != 0;
        frames.extend(&frame);
        if !belongs || frames.len() > MAX_BLOCK {
            self.pass = rest;
            output.extend(frames);
        } else if is_last {
            output.extend(rewritten(&frames).unwrap_or(frames));
        } else {
            self.begun = frames;
        }
    }

    /// Whether a whole frame of the block is there. What interrupts a block is for the library to judge.
    fn belongs(&self) -> bool {
        let [a, b, c, kind, _, stream @ ..] = self.frame.as_slice() else { return false };
        let same_stream = self.begun.is_empty() || self.begun.get(5..HEADER) == stream.get(..4);
        self.is_of_block(*kind) && same_stream && self.frame.len() == HEADER + length(*a, *b, *c)
    }
}

fn length(a: u8, b: u8, c: u8) -> usize {
    usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
}

/// The frames of a whole block of headers; none if it cannot be understood, which the library may judge.
fn rewritten(frames: &[u8]) -> Option<Vec<u8>> {
    let (first, mut more) = split_frame(frames)?;
    let (header, payload) = first.split_at_checked(HEADER)?;
    let [_, _, _, HEADERS, flags, stream @ ..] = header else { return None };
    let (padding, rest) = match flags & PADDED {
        0 => (0, payload),
        _ => payload.split_first().map(|(padding, rest)| (usize::from(*padding), rest))?,
    };
    let (priority, rest) = rest.split_at_checked(if flags & PRIORITY == 0 { 0 } else { 5 })?;
    let mut fields = rest.get(..rest.len().checked_sub(padding)?)?.to_vec();
    while !more.is_empty() {
        let (frame, after) = split_frame(more)?;
        fields.extend(frame.get(HEADER..)?);
        more = after;
    }
    if fields.is_empty() {
        return None;
    }
    // Padding says nothing and is left out.
    let payload = [priority, &without_authority(&fields)?].concat();
    framed(flags & !PADDED & !END_HEADERS, stream, &payload)
}

/// The first frame and those behind it.
fn split_frame(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let [a, b, c, ..] = frames else { return None };
    frames.split_at_checked(HEADER + length(*a, *b, *c))
}

/// A block in as few frames as it fits into.
fn framed(flags: u8, stream: &[u8], mut payload: &[u8]) -> Option<Vec<u8>> {
    let mut frames = Vec::with_capacity(payload.len() + HEADER);
    let (mut kind, mut flags) = (HEADERS, flags);
    loop {
        let (piece, rest) = payload.split_at_checked(MAX_FRAME).unwrap_or((payload, &[]));
        let last = if rest.is_empty() { END_HEADERS } else { 0 };
        frames.extend(u32::try_from(piece.len()).ok()?.to_be_bytes().get(1..)?);
        frames.extend([kind, flags | last]);
        frames.extend([stream, piece].concat());
        if rest.is_empty() {
            return Some(frames);
        }
        (kind, flags, payload) = (CONTINUATION, 0, rest);
    }
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
    done: Arc<AtomicBool>,
}

impl<T> Filtered<T> {
    /// Of which the beginning has been read.
    pub(super) fn after_preface(preface: [u8; PREFACE], io: T) -> Self {
        let filter = Filter { pass: 0, ..Filter::default() };
        Self { io, filter, ready: preface.to_vec(), taken: 0, done: Arc::default() }
    }

    /// Becomes true when the client has said goodbye, or closed its way out.
    pub(super) fn done(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.done)
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
                this.done.store(true, Ordering::Relaxed);
                return Poll::Ready(Ok(()));
            }
            this.ready.clear();
            this.taken = 0;
            this.filter.feed(read.filled(), &mut this.ready);
            this.done.fetch_or(this.filter.goodbye, Ordering::Relaxed);
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
    }

    fn continuation(flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[CONTINUATION, flags, 0, 0, 0, stream], payload].concat()
    }

    fn change_all(frames: &[Vec<u8>]) -> Vec<u8> {
        let sent = [&[b'P'; PREFACE], frames.concat().as_slice()].concat();
        let (whole, pieces) = (filtered(&sent, sent.len()), filtered(&sent, 1));
        assert_eq!(whole, pieces);
        whole[PREFACE..].to_vec()
    }

    #[test]
    fn a_block_may_be_cut_anywhere_into_several_frames() {
        // An indexed one, a literal with a long number as its length, and something behind them.
        let text = [b'a'; 200];
        let block = [&[0x83, 0x81, 0x41, 0x7f, 73][..], &text, &[0xbe]].concat();
        let expected = [&[0x83, 0x41, 1, b'z'][..], &[0xbe]].concat();
        for cut in 0..=block.len() {
            let (first, second) = block.split_at(cut);
            let sent = [frame(1, first), continuation(4, 1, second)];
            assert_eq!(change_all(&sent), frame(4 | 1, &expected), "cut at {cut}");
            let (second, third) = second.split_at(second.len() / 2);
            let padded = [&[3, 0, 0, 0, 0, 7], first, &[0, 0, 0]].concat();
            let sent = [frame(PADDED | PRIORITY, &padded), continuation(0, 1, second), continuation(4, 1, third)];
            let expected = [&[0, 0, 0, 0, 7], expected.as_slice()].concat();
            assert_eq!(change_all(&sent), frame(PRIORITY | 4, &expected), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_block_in_frames_is_left_to_the_library() {
        let long = vec![0x83; MAX_FRAME];
        for sent in [
            vec![frame(0, &[0x83]), frame(4, &[0x84])],
            vec![frame(0, &[0x83]), continuation(4, 3, &[0x81])],
            vec![frame(0, &[0x83]), vec![0, 0, 1, 0, 0, 0, 0, 0, 1, 9], continuation(4, 1, &[0x81])],
            vec![continuation(4, 1, &[0x81])],
            vec![frame(0, &[0x83]), continuation(4, 1, &[0x41])],
            [vec![frame(0, &[0x81])], vec![continuation(0, 1, &long); 5]].concat(),
        ] {
            assert_eq!(change_all(&sent), sent.concat());
        }
    }

    #[test]
    fn a_block_that_grows_beyond_a_frame_is_cut() {
        // Empty values become longer.
        let block = [0x41, 0].repeat(MAX_FRAME / 2);
        let changed = change_all(&[continuation(0, 1, &block)].map(|mut frame| {
            frame[3] = HEADERS;
            frame[4] = 4;
            frame
        }));
        let ours = [0x41, 1, b'z'].repeat(MAX_FRAME / 2);
        let mut first = continuation(0, 1, &ours[..MAX_FRAME]);
        first[3] = HEADERS;
        assert!(changed == [first, continuation(4, 1, &ours[MAX_FRAME..])].concat());
    }

    #[test]
    fn an_endless_block_takes_little_memory() {
        let (mut filter, mut output, mut sent) = (Filter::default(), vec![], PREFACE);
        filter.feed(&[b'P'; PREFACE], &mut output);
        filter.feed(&frame(0, &[0x83]), &mut output);
        sent += HEADER + 1;
        for _ in 0..100_000 {
            filter.feed(&continuation(0, 1, b""), &mut output);
            sent += HEADER;
            assert!(filter.begun.len() <= MAX_BLOCK);
        }
        assert_eq!(output.len() + filter.begun.len(), sent, "the library gets all of it, and ends it");
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
