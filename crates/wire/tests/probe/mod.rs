//! What must hold for any bytes of a peer. Shared by the tests and the fuzz targets.

use std::time::{Duration, Instant};

use model::view::View;
use wire::frame::{Decoder, Fragment, FrameError, FrameKind, Limits, Link, MessageReader, StreamReader};
use wire::handshake::{Banner, BannerDecoder, BannerError, LABEL_LENGTH, Label};
use wire::pdu::calls::{self, ConfirmReq, DestroyReq, DestroyRes, RenameAsideReq, RollBackReq};
use wire::pdu::listing::{Assembly, ListPart, Parts};
use wire::pdu::{self, Malformed, convert};

/// One of the probes.
pub(crate) type Probe = fn(&[u8]);

/// A banner and a label: the same however they are cut, and what was read can be said again.
pub(crate) fn handshake(bytes: &[u8]) {
    let whole = banner(bytes, bytes.len().max(1));
    assert_eq!(whole, banner(bytes, 3));
    if let Ok((Some(banner), _)) = &whole
        && banner.version > 0
    {
        let said = banner.encode().expect("what was read can be said");
        let padded = BannerDecoder::default().feed(&mut said.as_slice());
        assert_eq!(padded, Ok(Some(banner.clone())));
        let _ = Banner::with_extensions(banner.extensions.clone()).agree(banner);
    }
    if let Some(label) = bytes.first_chunk::<LABEL_LENGTH>() {
        match Label::decode(label) {
            Ok(known) => assert_eq!(known.encode(), *label),
            Err(unknown) => assert!(unknown.to_string().len() < 2000),
        }
    }
}

/// The banner and how many bytes it took.
fn banner(bytes: &[u8], cut: usize) -> Result<(Option<Banner>, usize), BannerError> {
    let (mut decoder, mut taken) = (BannerDecoder::default(), 0);
    for piece in bytes.chunks(cut) {
        let mut rest = piece;
        let banner = decoder.feed(&mut rest)?;
        taken += piece.len() - rest.len();
        if banner.is_some() {
            return Ok((banner, taken));
        }
        assert!(rest.is_empty() && decoder.missing() > 0);
    }
    Ok((None, taken))
}

/// Frames: the same however they are cut, and no stream or message longer than its frames. The first
/// bytes also drive the clock of a connection.
pub(crate) fn frames(bytes: &[u8]) {
    let whole = payloads(bytes, bytes.len().max(1));
    assert_eq!(whole, payloads(bytes, 5));
    for kind in [FrameKind::Stream, FrameKind::Request] {
        stream(bytes, kind);
    }
    clock(bytes);
}

/// The kind and payload of every frame; no kind for those without.
type Frames = Vec<(Option<FrameKind>, Vec<u8>)>;

fn payloads(bytes: &[u8], cut: usize) -> (Frames, Option<FrameError>) {
    let (mut decoder, mut found) = (Decoder::default(), Frames::new());
    let mut continues = false;
    for mut piece in bytes.chunks(cut) {
        loop {
            match decoder.next(&mut piece) {
                Err(error) => return (found, Some(error)),
                Ok(None) => break,
                Ok(Some(Fragment::Payload(kind, more))) => match found.last_mut() {
                    Some((last, bytes)) if continues && *last == Some(kind) => bytes.extend(more),
                    _ => found.push((Some(kind), more.to_vec())),
                },
                Ok(Some(_)) => found.push((None, vec![])),
            }
            continues = decoder.missing().is_some();
        }
        assert!(piece.is_empty());
    }
    (found, decoder.finish().err())
}

fn stream(mut bytes: &[u8], kind: FrameKind) {
    let (length, mut decoder, mut taken) = (bytes.len(), Decoder::default(), 0);
    let (mut stream, mut message) = (StreamReader::new(kind), MessageReader::new(kind));
    while let Ok(Some(fragment)) = decoder.next(&mut bytes) {
        let item = stream.accept(fragment);
        let whole = message.accept(fragment);
        match item {
            Err(error) => {
                assert_eq!(whole, Err(error));
                return;
            }
            Ok(wire::frame::Item::End) => {
                assert_eq!(whole.expect("the stream is well").expect("and ended").len(), taken);
                return;
            }
            Ok(wire::frame::Item::Data(piece)) => taken += piece.len(),
            Ok(wire::frame::Item::Nothing) => {}
        }
        assert!(taken <= length);
    }
}

/// Any order of events: nobody is given up before the time that was told, and a dead connection stays dead.
fn clock(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut link = Link::new(Limits::default(), now);
    let mut over = false;
    for byte in bytes.iter().take(200) {
        now += Duration::from_millis(u64::from(byte >> 3) * 250);
        match byte & 7 {
            0 => link.read_began(now),
            1 => link.read_paused(),
            2 => link.received(now),
            3 => link.heartbeat_received(now),
            4 => link.write_began(now),
            5 => link.write_ended(now),
            6 if *byte == 0xfe => link.close(now),
            _ => link.wrote(now),
        }
        let due = link.patience().is_some_and(|patience| patience <= now);
        let action = link.act(now);
        assert!(!over || action.is_none(), "nothing follows the end");
        assert!(action.is_none() || due, "{action:?} came before its time");
        over |= action.is_some();
    }
}

/// What a client of the control service sends: the same however it is cut, hardly longer than before, and
/// without another change the second time.
pub(crate) fn headers(bytes: &[u8]) {
    let once = filtered(bytes, bytes.len().max(1));
    assert_eq!(once, filtered(bytes, 7));
    // An empty text of one byte becomes a letter of two.
    assert!(once.len() <= bytes.len() * 3 / 2);
    assert_eq!(filtered(&once, 100), once);
}

fn filtered(bytes: &[u8], cut: usize) -> Vec<u8> {
    let (mut filter, mut output) = (wire::control::authority::Filter::default(), vec![]);
    bytes.chunks(cut).for_each(|piece| filter.feed(piece, &mut output));
    output
}

/// Messages: read or refused, and what was read can be said again.
pub(crate) fn messages(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    match first % 16 {
        0 => {
            if let Ok(request) = convert::decode("SendReq", bytes).and_then(convert::send_request) {
                assert_eq!(convert::send_request((&request).into()), Ok(request));
            }
        }
        1 => {
            let read = convert::decode::<pdu::ReceiveReq>("ReceiveReq", bytes);
            if let Ok(request) = read.and_then(|request| convert::receive_request(&request)) {
                assert_eq!(convert::receive_request(&(&request).into()), Ok(request));
            }
        }
        2 => {
            let _ = convert::decode("SendCompletedReq", bytes).and_then(convert::send_completed_request);
        }
        3 => destroy(bytes),
        4 => {
            let _ = convert::decode("ListFilesystemRes", bytes).and_then(convert::filesystems);
        }
        5 => versions(bytes),
        8 => {
            let read = convert::decode::<ConfirmReq>("ConfirmReq", bytes);
            if let Ok(request) = read.and_then(|request| calls::confirm_request(&request)) {
                assert_eq!(calls::confirm_request(&(&request).into()), Ok(request));
            }
        }
        9 => {
            let read = convert::decode::<RollBackReq>("RollBackReq", bytes);
            if let Ok(request) = read.and_then(|request| calls::roll_back_request(&request)) {
                assert_eq!(calls::roll_back_request(&(&request).into()), Ok(request));
            }
        }
        10 => {
            let read = convert::decode::<RenameAsideReq>("RenameAsideReq", bytes);
            if let Ok(request) = read.and_then(|request| calls::rename_aside_request(&request)) {
                assert_eq!(calls::rename_aside_request(&(&request).into()), Ok(request));
            }
        }
        11 => destroy_many(bytes),
        12 => listing(bytes),
        6 => {
            let read = convert::decode::<pdu::ReplicationCursorRes>("ReplicationCursorRes", bytes);
            let _ = read.and_then(|response| convert::cursor(&response));
        }
        _ => {
            let read = convert::decode::<pdu::ListFilesystemVersionsReq>("ListFilesystemVersionsReq", bytes);
            let _ = read.and_then(|request| convert::filesystem("ListFilesystemVersionsReq", &request.filesystem));
        }
    }
}

fn destroy(bytes: &[u8]) {
    // The same bytes as a question and as its answer.
    let Ok(message) = convert::decode::<pdu::DestroySnapshotsReq>("DestroySnapshotsReq", bytes) else { return };
    let Ok(request) = convert::destroy_request(&message) else { return };
    let answer = convert::decode::<pdu::DestroySnapshotsRes>("DestroySnapshotsRes", bytes).unwrap_or_default();
    let result = convert::destroy_result(&request, &answer);
    assert_eq!(result.results.len(), request.snapshots.len());
    let count = message.snapshots.len();
    assert_eq!(convert::destroy_response(message, &result).results.len(), count);
}

fn destroy_many(bytes: &[u8]) {
    let Ok(message) = convert::decode::<DestroyReq>("DestroyReq", bytes) else { return };
    let requests = message.requests.iter().map(convert::destroy_request).collect::<Result<Vec<_>, _>>();
    let Ok(requests) = requests else { return };
    let answer = convert::decode::<DestroyRes>("DestroyRes", bytes).unwrap_or_default();
    let results = calls::destroy_results(&requests, answer);
    assert_eq!(results.len(), requests.len());
    let again = calls::destroy_results(&requests, calls::destroy_response(&results));
    assert_eq!(again, results, "what became of snapshots can be said");
}

/// A listing of one part, and of the same part after itself.
fn listing(bytes: &[u8]) {
    let Ok(part) = convert::decode::<ListPart>("ListPart", bytes) else { return };
    let Ok(view) = assembled(std::iter::once(part.clone())) else { return };
    assert_eq!(assembled(Parts::of(view.clone())), Ok(view));
    assert!(assembled([part.clone(), part].into_iter()).is_err(), "nothing comes after the end");
}

fn assembled(parts: impl Iterator<Item = ListPart>) -> Result<View, Malformed> {
    let mut assembly = Assembly::new(|_| Err("not looked into".to_owned()));
    for part in parts {
        assembly.accept(part)?;
    }
    assembly.finish()
}

fn versions(bytes: &[u8]) {
    let read = convert::decode::<pdu::ListFilesystemVersionsRes>("ListFilesystemVersionsRes", bytes);
    let Ok(versions) = read.and_then(|response| convert::versions(&response)) else { return };
    let said = pdu::ListFilesystemVersionsRes { versions: versions.iter().map(Into::into).collect() };
    let again = convert::versions(&said).expect("what was read can be said");
    assert!(again.iter().zip(&versions).all(|(again, version)| again.to_ref() == version.to_ref()));
}
