use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::handshake::{BannerDecoder, LABEL_LENGTH, Label};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// All fragments of bytes that come in pieces of `cut`, joined where a payload was cut.
fn decode(bytes: &[u8], cut: usize) -> Result<Vec<(String, Vec<u8>)>, FrameError> {
    let (mut decoder, mut found) = (Decoder::default(), Vec::<(String, Vec<u8>)>::new());
    let mut continues = false;
    for mut piece in bytes.chunks(cut) {
        while let Some(fragment) = decoder.next(&mut piece)? {
            match fragment {
                Fragment::Payload(_, more) if continues => found.last_mut().unwrap().1.extend(more),
                Fragment::Payload(kind, more) => found.push((format!("{kind:?}"), more.to_vec())),
                other => found.push((format!("{other:?}"), vec![])),
            }
            continues = decoder.missing().is_some();
        }
        assert!(piece.is_empty());
    }
    decoder.finish().map(|()| found)
}

/// What is said on a connection, one line per frame.
fn script(mut bytes: &[u8], cut: usize) -> String {
    let banner = BannerDecoder::default().feed(&mut bytes).unwrap().unwrap();
    assert_eq!(banner.version, 7);
    if let Some((label, rest)) = bytes.split_first_chunk::<LABEL_LENGTH>()
        && Label::decode(label) == Ok(Label::Data)
    {
        bytes = rest;
    }
    let line = |(kind, payload): (String, Vec<u8>)| match kind.as_str() {
        "RequestHeader" | "ResponseHeader" | "StreamFailed" => {
            format!("{kind} {:?}", String::from_utf8(payload).unwrap())
        }
        _ if payload.is_empty() => kind,
        _ => format!("{kind} {}", payload.len()),
    };
    decode(bytes, cut).unwrap().into_iter().map(line).collect::<Vec<_>>().join(", ")
}

/// The bytes of both directions of the `number`th connection of a recording.
fn recorded(recording: &str, number: u64, direction: &str) -> Vec<u8> {
    let lines = recording.lines().map(|line| serde_json::from_str::<(f64, u64, String, String)>(line).unwrap());
    lines.filter(|line| line.1 == number && line.2 == direction).flat_map(|line| hex(&line.3)).collect()
}

#[test]
fn recorded_exchanges_are_read_however_they_are_cut() {
    let errors = include_str!("../../tests/captures/errors.jsonl");
    let heartbeats = include_str!("../../tests/captures/heartbeats.jsonl");
    let send = "RequestHeader \"/v1/send\", End, Request";
    let receive = "RequestHeader \"/v1/recv\", End, Request";
    let ok = "ResponseHeader \"HANDLER OK\\n\", End";
    for (recording, number, client, server) in [
        (
            errors,
            1,
            format!("{send} 56, End"),
            "ResponseHeader \"HANDLER ERROR:\\nsend handler failed: fail/x\", End, Reset".to_owned(),
        ),
        (
            errors,
            2,
            format!("{send} 70, End, Reset"),
            format!("{ok}, Response 2, End, Stream 100, StreamFailed \"boomERR\", End, Reset"),
        ),
        (
            errors,
            4,
            format!("{receive} 57, End, Reset"),
            "ResponseHeader \"HANDLER ERROR:\\nearly handler error\", End, Reset".to_owned(),
        ),
        // An empty text is no error to zrepl.
        (errors, 5, format!("{send} 63, End, Reset"), format!("{ok}, Response 2, End, Stream 100, End, Reset")),
        (
            heartbeats,
            1,
            format!("{send} 68, End, Heartbeat, Heartbeat, Reset"),
            format!("{ok}, Response 2, End, Heartbeat, Heartbeat, Stream 100, End, Reset"),
        ),
        (
            heartbeats,
            2,
            format!("{receive} 55, End, Heartbeat, Heartbeat, Stream 100, End, Reset"),
            format!("Heartbeat, Heartbeat, {ok}, End, Reset"),
        ),
    ] {
        for cut in [1, 7, 1 << 20] {
            assert_eq!(script(&recorded(recording, number, ">"), cut), client);
            assert_eq!(script(&recorded(recording, number, "<"), cut), server);
        }
    }
}

#[test]
fn messages_are_those_of_zrepl() {
    let path = message(FrameKind::RequestHeader, b"/v1/ping").unwrap();
    assert_eq!(path, hex("0000000100000008 2f76312f70696e67 0002000000000000"));
    let ok = message(FrameKind::ResponseHeader, b"HANDLER OK\n").unwrap();
    assert_eq!(ok, hex("000000030000000b 48414e444c4552204f4b0a 0002000000000000"));
    assert_eq!(message(FrameKind::Response, b"").unwrap(), hex("0002000000000000"));
    let failed = b"HANDLER ERROR:\nsend handler failed: fail/x";
    assert_eq!(
        message(FrameKind::ResponseHeader, failed).unwrap(),
        hex(
            "000000030000002a 48414e444c4552204552524f523a0a 73656e642068616e646c6572206661696c65643a206661696c2f78 0002000000000000"
        )
    );
    assert_eq!(stream_error("boomERR"), hex("0001000000000007 626f6f6d455252 0002000000000000"));
    assert_eq!(header(FrameKind::Heartbeat, 0).as_slice(), hex("0100000000000000"));
    assert_eq!(header(FrameKind::Reset, 0).as_slice(), hex("1000000000000000"));
    assert_eq!(header(FrameKind::Stream, 524_288).as_slice(), hex("0000000500080000"));
    let lengths: Vec<usize> = Chunks::new(1_000_000, STREAM_CHUNK).collect();
    assert_eq!(lengths, [524_288, 475_712]);
}

#[test]
fn limits_of_messages_hold_on_both_sides() {
    let longest = vec![b'x'; 32768];
    let sent = message(FrameKind::RequestHeader, &longest).unwrap();
    assert_eq!(collect(FrameKind::RequestHeader, &sent), Ok(longest.clone()));
    let longer = [longest, vec![b'x']].concat();
    assert_eq!(message(FrameKind::RequestHeader, &longer), Err(StreamError::TooLong(FrameKind::RequestHeader)));
    let mut frames = Vec::new();
    for half in [&longer[..20000], &longer[20000..]] {
        frames.extend(header(FrameKind::RequestHeader, half.len() as u32));
        frames.extend(half);
    }
    assert_eq!(collect(FrameKind::RequestHeader, &frames), Err(StreamError::TooLong(FrameKind::RequestHeader)));
    assert_eq!(message(FrameKind::Response, b"x"), Err(StreamError::SingleByte(FrameKind::Response)));
}

/// The message in these frames.
fn collect(kind: FrameKind, mut bytes: &[u8]) -> Result<Vec<u8>, StreamError> {
    let (mut decoder, mut reader) = (Decoder::default(), MessageReader::new(kind));
    while let Some(fragment) = decoder.next(&mut bytes).unwrap() {
        if let Some(message) = reader.accept(fragment)? {
            return Ok(message);
        }
    }
    panic!("the message does not end")
}

#[test]
fn headers_that_make_no_sense_end_the_connection() {
    let refused = |header: &str| decode(&hex(header), 64).unwrap_err();
    for unknown in [0u32, 0x9, 0x0004_0000, 0x0200_0000, 0xffff_ffff] {
        assert_eq!(refused(&format!("{unknown:08x}00000000")), FrameError::UnknownType(unknown));
    }
    assert_eq!(refused("0200000000000000").to_string(), "unknown frame type 2000000");
    for (kind, longest) in [
        (FrameKind::RequestHeader, 32 << 10),
        (FrameKind::Request, 4 << 20),
        (FrameKind::ResponseHeader, 32 << 10),
        (FrameKind::Response, 8 << 20),
        (FrameKind::Stream, 64 << 20),
        (FrameKind::End, 0),
        (FrameKind::Heartbeat, 0),
        (FrameKind::Reset, 0),
    ] {
        for length in [longest + 1, u32::MAX] {
            assert_eq!(decode(&header(kind, length), 8), Err(FrameError::TooLong { kind, length }));
        }
    }
    assert_eq!(decode(&header(FrameKind::Stream, 64 << 20), 8), Err(FrameError::Cut), "allowed, and cut off");
}

#[test]
fn an_announced_length_takes_no_memory() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.next(&mut &header(FrameKind::Stream, 64 << 20)[..]), Ok(None));
    assert_eq!(decoder.missing(), Some((FrameKind::Stream, 64 << 20)));
    assert!(std::mem::size_of::<Decoder>() <= 40);
    decoder.skip((64 << 20) - 2);
    let mut rest = &b"abcd"[..];
    assert_eq!(decoder.next(&mut rest), Ok(Some(Fragment::Payload(FrameKind::Stream, b"ab"))));
    assert_eq!((decoder.missing(), rest), (None, &b"cd"[..]));
}

/// What a reader of a stream makes of these frames.
fn read(frames: &[Fragment<'_>]) -> Result<Option<Vec<u8>>, StreamError> {
    let (mut reader, mut data) = (StreamReader::new(FrameKind::Stream), Vec::new());
    for fragment in frames {
        match reader.accept(*fragment)? {
            Item::Data(piece) => data.extend(piece),
            Item::Nothing => {}
            Item::End => return Ok(Some(data)),
        }
    }
    Ok(None)
}

#[test]
fn streams_end_as_the_peer_says() {
    use Fragment::{End, Heartbeat, Payload, Reset};
    let data = |bytes| Payload(FrameKind::Stream, bytes);
    let failed = |bytes| Payload(FrameKind::StreamFailed, bytes);
    let source = |text: &str| Err(StreamError::Source(text.into()));
    assert_eq!(read(&[End]), Ok(Some(vec![])));
    assert_eq!(read(&[data(b"a"), data(b""), Heartbeat, data(b"b"), Heartbeat, End]), Ok(Some(b"ab".to_vec())));
    assert_eq!(read(&[data(b"ab"), Heartbeat]), Ok(None));
    assert_eq!(read(&[data(b"a"), failed(b"bo"), Heartbeat, failed(b"om"), End]), source("boom"));
    assert_eq!(read(&[failed("ä".as_bytes().split_at(1).0), failed("ä".as_bytes().split_at(1).1), End]), source("ä"));
    assert_eq!(read(&[data(b"a"), failed(b""), End]), source(""), "short all the same");
    assert_eq!(read(&[failed(b"\xff"), End]), Err(StreamError::NotText));
    assert_eq!(read(&[data(b"a"), Reset]), Err(StreamError::Reset));
    let unexpected = read(&[data(b"a"), Payload(FrameKind::Response, b"")]).unwrap_err();
    assert_eq!(unexpected.to_string(), "stream: protocol error: unexpected frame type 4 (expected 5)");
    assert!(matches!(read(&[failed(b"a"), data(b"b")]), Err(StreamError::Unexpected { .. })));
    let long = "ä".repeat(MAX_ERROR_TEXT);
    let odd = format!("x{long}");
    assert_eq!(read(&[failed(odd.as_bytes()), End]), source(&odd[..MAX_ERROR_TEXT - 1]), "cut between letters");
    let piece = vec![b'x'; 1 << 20];
    assert_eq!(read(&[failed(&piece); 9]), Err(StreamError::EndlessText));
}

#[test]
fn no_text_is_sent_that_a_peer_cannot_bear() {
    assert_eq!(stream_error(""), [&hex("000100000000000d")[..], b"unknown error", &hex("0002000000000000")].concat());
    assert_eq!(stream_error("x"), hex("0001000000000002 7820 0002000000000000"));
    assert_eq!(encode::sayable("aäb", 2), "a");
    assert_eq!(encode::sayable("aäb", 3), "aä");
    assert_eq!(encode::sayable("abc", 8), "abc");
}

const SECOND: Duration = Duration::from_secs(1);

fn link() -> (Link, Instant) {
    let now = Instant::now();
    (Link::new(Limits::default(), now), now)
}

#[test]
fn heartbeats_follow_what_was_sent_last() {
    let (mut link, start) = link();
    assert_eq!(link.heartbeat_due(), Some(start + 5 * SECOND));
    link.write_began(start + 4 * SECOND);
    assert_eq!(link.heartbeat_due(), None, "a frame being written is a sign of life");
    link.write_ended(start + 7 * SECOND);
    assert_eq!(link.heartbeat_due(), Some(start + 12 * SECOND));
    assert_eq!(link.act(start + 12 * SECOND), None, "that is for whoever writes");
    link.write_began(start + 12 * SECOND);
    link.write_ended(start + 12 * SECOND);
    assert_eq!(link.heartbeat_due(), Some(start + 17 * SECOND));
}

#[test]
fn only_time_in_which_this_side_reads_counts_against_the_peer() {
    let (mut link, start) = link();
    link.write_began(start);
    link.write_ended(start + 100 * SECOND);
    link.read_began(start + 100 * SECOND);
    link.received(start + 104 * SECOND);
    link.read_began(start + 105 * SECOND);
    link.write_began(start + 109 * SECOND);
    link.write_ended(start + 113 * SECOND);
    assert_eq!(link.patience(), Some(start + 114 * SECOND));
    link.read_paused();
    assert_eq!((link.patience(), link.heartbeat_due()), (None, Some(start + 118 * SECOND)));
    link.read_began(start + 114 * SECOND);
    link.write_began(start + 117 * SECOND);
    link.write_ended(start + 117 * SECOND);
    assert_eq!(link.act(start + 124 * SECOND), Some(Action::GiveUpReading));
    assert_eq!((link.act(start + 200 * SECOND), link.patience()), (None, None), "said once");
}

#[test]
fn a_blocked_write_survives_on_heartbeats_and_progress() {
    let (mut link, start) = link();
    link.write_began(start);
    for second in [5, 10, 15, 20, 25] {
        assert_eq!(link.act(start + second * SECOND), None);
        link.heartbeat_received(start + second * SECOND);
    }
    link.wrote(start + 30 * SECOND);
    assert_eq!(link.act(start + 39 * SECOND), None);
    assert_eq!(link.act(start + 40 * SECOND), Some(Action::GiveUpWriting));
}

#[test]
fn a_peer_that_lives_and_takes_nothing_is_given_up_after_half_an_hour() {
    let silent = |link: &mut Link, from: Instant, minutes: u32| {
        (0..minutes * 12).find_map(|beat| {
            let now = from + (beat + 1) * 5 * SECOND;
            link.heartbeat_received(now);
            link.act(now).map(|action| (action, now - from))
        })
    };
    let (mut link, start) = link();
    link.write_began(start);
    assert_eq!(silent(&mut link, start, 29), None);
    let later = start + 29 * 60 * SECOND;
    link.wrote(later);
    assert_eq!(silent(&mut link, later, 29), None, "a single byte is enough");
    link.write_ended(later + 29 * 60 * SECOND);
    let third = later + 60 * 60 * SECOND;
    link.write_began(third);
    assert_eq!(link.clone().patience(), Some(third + 10 * SECOND));
    assert_eq!(silent(&mut link, third, 31), Some((Action::GiveUpStuck, 30 * 60 * SECOND)));

    let now = Instant::now();
    let mut watched = Link::new(Limits { stuck: None, ..Limits::default() }, now);
    watched.write_began(now);
    assert_eq!(silent(&mut watched, now, 600), None, "somebody else looks after that");
}

#[test]
fn a_closing_connection_ends_in_time() {
    let (mut link, start) = link();
    link.read_began(start);
    link.close(start + 2 * SECOND);
    link.close(start + 9 * SECOND);
    assert_eq!(link.patience(), Some(start + 12 * SECOND), "from the first reset on");
    assert_eq!(link.heartbeat_due(), None);
    assert!(!link.is_open());
    assert_eq!(link.act(start + 11 * SECOND), None);
    assert_eq!(link.act(start + 12 * SECOND), Some(Action::Close));
    assert_eq!(link.act(start + 13 * SECOND), None);
}

proptest! {
    #[test]
    fn pieces_are_whole_and_never_single_bytes(length in 0usize..5000, max in 4usize..70) {
        let pieces: Vec<usize> = Chunks::new(length, max).collect();
        prop_assert_eq!(pieces.iter().sum::<usize>(), length);
        prop_assert!(pieces.iter().all(|piece| *piece <= max && (*piece > 1 || length == 1)), "{pieces:?}");
    }

    #[test]
    fn frames_are_read_however_they_are_cut(
        frames in proptest::collection::vec((0usize..9, proptest::collection::vec(any::<u8>(), 0..50)), 0..10),
        cut in 1usize..30,
    ) {
        let (mut bytes, mut sent) = (vec![], vec![]);
        for (kind, payload) in frames {
            let kind = FrameKind::ALL[kind];
            let payload = if kind.max_payload() == 0 { vec![] } else { payload };
            bytes.extend(header(kind, payload.len() as u32));
            bytes.extend(&payload);
            sent.push((format!("{kind:?}"), payload));
        }
        prop_assert_eq!(decode(&bytes, cut), Ok(sent));
    }

    #[test]
    fn any_bytes_are_frames_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100), cut in 1usize..20) {
        let all = decode(&bytes, 100);
        prop_assert_eq!(decode(&bytes, cut), all);
    }
}
