use proptest::prelude::*;

use super::*;

/// The first bytes of streams of OpenZFS 2.3; the names say the options.
const FULL: &[u8] = include_bytes!("../../testdata/head-full");
const INCREMENTAL: &[u8] = include_bytes!("../../testdata/head-incr");
const FROM_BOOKMARK: &[u8] = include_bytes!("../../testdata/head-bookmark");
const RAW: &[u8] = include_bytes!("../../testdata/head-raw");
const RAW_INCREMENTAL: &[u8] = include_bytes!("../../testdata/head-raw-incr");
const RAW_OF_PLAIN: &[u8] = include_bytes!("../../testdata/head-raw-unencrypted");
const LARGE_COMPRESSED_EMBEDDED: &[u8] = include_bytes!("../../testdata/head-Lce");
const PROPERTIES: &[u8] = include_bytes!("../../testdata/head-p");
const PROPERTIES_INCREMENTAL: &[u8] = include_bytes!("../../testdata/head-p-incr");
const RECURSIVE: &[u8] = include_bytes!("../../testdata/head-R");
const RESUMED: &[u8] = include_bytes!("../../testdata/head-resumed");
const VOLUME: &[u8] = include_bytes!("../../testdata/head-vol");

const S1: u64 = 0x8714401299971f42;
const S2: u64 = 0x2733b370ab357291;
const BASIC: u64 = 1 << 2;

fn done(bytes: &[u8]) -> BeginRecord {
    match parse_begin(bytes) {
        Ok(Parsed::Done(record)) => record,
        other => panic!("{other:?}"),
    }
}

/// Feature bits without those that every stream of the machine has (spill blocks).
fn features(bytes: &[u8]) -> u64 {
    done(bytes).features & !BASIC
}

#[test]
fn real_heads_name_their_snapshots() {
    let of = |bytes| {
        let record = done(bytes);
        (record.to.0, record.from.map(|guid| guid.0), record.to_name, record.compound)
    };
    assert_eq!(of(FULL), (S1, None, "src/a b@s 1".into(), false));
    assert_eq!(of(INCREMENTAL), (S2, Some(S1), "src/a b@s 2".into(), false));
    assert_eq!(of(FROM_BOOKMARK), of(INCREMENTAL));
    assert_eq!(of(PROPERTIES), (S1, None, "src/a b@s 1".into(), true));
    assert_eq!(of(PROPERTIES_INCREMENTAL), (S2, Some(S1), "src/a b@s 2".into(), true));
    assert_eq!(of(RECURSIVE), (S1, None, "src/a b@s 1".into(), true), "the first of its substreams");
    assert_eq!(of(RESUMED), (S1, None, "src/a b@s 1".into(), false));
    assert_eq!(of(RAW), (0x26475178d5f161f7, None, "src/enc@1".into(), false));
    assert_eq!(of(RAW_INCREMENTAL), (0x804ba9871d09a333, Some(0x26475178d5f161f7), "src/enc@2".into(), false));
}

#[test]
fn real_heads_name_their_features() {
    // LZ4 blocks may follow; real streams set it with -c.
    const LZ4: u64 = 1 << 17;
    assert_eq!(features(FULL), 0);
    assert_eq!(features(RESUMED), feature::RESUMING);
    assert_eq!(features(RAW), feature::RAW | feature::COMPRESSED | LZ4);
    assert_eq!(features(LARGE_COMPRESSED_EMBEDDED), feature::COMPRESSED | feature::EMBEDDED | LZ4);
    assert_eq!(features(RAW_OF_PLAIN), features(LARGE_COMPRESSED_EMBEDDED), "-w of a plain dataset is not raw");
}

#[test]
fn real_heads_tell_whether_they_are_packages() {
    let one = Package { recursive: false, holds: false };
    for bytes in [FULL, RAW, PROPERTIES, PROPERTIES_INCREMENTAL] {
        assert_eq!(parse_package(bytes), Ok(one));
    }
    assert_eq!(parse_package(RECURSIVE), Ok(Package { recursive: true, holds: false }));
}

fn head(bytes: &[u8]) -> Head {
    match parse_head(bytes) {
        Ok(Progress::Done(head)) => head,
        other => panic!("{other:?}"),
    }
}

#[test]
fn real_heads_tell_kind_and_time() {
    assert_eq!(head(FULL).objset_type, 2);
    assert_eq!(head(VOLUME).objset_type, 3);
    assert_eq!(head(FULL).creation, UnixTime(0x6b0169b4));
    assert_eq!(head(RESUMED).payload.len(), 0x60);
    assert_eq!(head(PROPERTIES).properties.len(), 0x1dc);
}

#[test]
fn a_head_asks_for_what_is_missing_until_it_is_whole() {
    for whole in [FULL, PROPERTIES, RECURSIVE, RESUMED] {
        let (mut have, mut steps) = (0, 0);
        while let Parsed::NeedMore(total) = parse_begin(&whole[..have]).unwrap() {
            assert!(total > have && total <= whole.len(), "{total} after {have}");
            have = total;
            steps += 1;
        }
        assert!(steps <= 4, "{steps}");
        for shorter in 0..have {
            assert!(matches!(parse_begin(&whole[..shorter]), Ok(Parsed::NeedMore(_))), "{shorter}");
        }
        assert!(matches!(parse_begin(&whole[..have]), Ok(Parsed::Done(_))));
    }
}

#[test]
fn a_big_endian_head_reads_the_same() {
    let mut bytes = FULL[..RECORD].to_vec();
    for (at, len) in [(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 4), (36, 4), (40, 8), (48, 8)] {
        bytes[at..at + len].reverse();
    }
    assert_eq!(done(&bytes), done(FULL));
}

#[test]
fn what_is_no_stream_is_refused_early() {
    assert_eq!(parse_begin(b"#!/bin/sh\nexit 0\n"), Err(ParseError::NotAStream));
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = PROPERTIES.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        parse_begin(&changed)
    };
    assert_eq!(changed(0, &[7]), Err(ParseError::NotAStream));
    assert_eq!(changed(16, &[0]), Err(ParseError::Kind(0)));
    assert_eq!(changed(4, &[255; 4]), Err(ParseError::Properties(u32::MAX.into())));
    assert_eq!(changed(2 * RECORD + 0x1dc, &[5]), Err(ParseError::Empty));
    assert_eq!(changed(2 * RECORD + 0x1dc + 56, &[b'x'; 256]), Err(ParseError::Name));
}

proptest! {
    #[test]
    fn parsing_inverts_writing(
        to: u64, from in proptest::option::of(1..u64::MAX), to_name in "[ -~]{0,255}",
        features in 0..1u64 << 30, compound: bool, creation: i64, objset_type: u32,
        properties in proptest::collection::vec(any::<u8>(), 0..40),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let begin = BeginRecord { to: Guid(to), from: from.map(Guid), to_name, features, compound };
        let properties = if compound { properties } else { Vec::new() };
        let head = Head { begin, creation: UnixTime(creation), objset_type, properties, payload };
        prop_assert_eq!(parse_head(&head.to_bytes()), Ok(Progress::Done(head)));
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        which in prop::sample::select(vec![FULL, PROPERTIES, RECURSIVE]),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8u8), 0..6),
        noise in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        let mut bytes = which.to_vec();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = parse_begin(&bytes);
        let _ = parse_begin(&noise);
    }
}
