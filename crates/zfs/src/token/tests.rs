use proptest::prelude::*;

use super::*;

/// Tokens of OpenZFS 2.3, and what `zfs send -nvt` says about them.
const FULL: &str = "1-9316329fd-b8-789c636064000310a500c4ec50360710e72765a52697303030419460caa7a515a796806464e0f26c48f2499525a9c540da43460eabfe92fcf4d2cc14060627f9e933851c44da3590e439c1f27989b9a90c0cc545c9fa890a490ec50a860c3000008d9713ac";
const INCREMENTAL: &str = "1-de4da2591-e0-789c636064000310a501c49c50360710a715e5e7a69766a630408193fcf499420e22ed0a40363b92bafca4acd4e412060666a83a0cf9b4b4e2d412908c0c5c9e0d493ea9b224b518481bc8c861d55f920f71c5c422d3d5059b8dd53590e439c1f27989b9a90c0cc545c9fa890a490ec50a463027330000223b1a8d";
const RAW: &str = "1-d40da4101-f0-789c636064000310a500c4ec50360710e72765a52697303030419460caa7a515a796806464e0f26c48f2499525a9c5405a44490eabfe92fcf4d2cc140686ef891faf5604baab6920c97382e5f312735319188a8b92f553f3921d0c91dcc1cd807077727e6e41516a71717e36444c02ea0e987c5162394c8a010042631bc9";
const RAW_INCREMENTAL: &str = "1-e6a0ec078-118-789c636064000310a501c49c50360710a715e5e7a69766a63040c1f7c48f572b02ddd514806c762475f94959a9c9250c0ccc507518f26969c5a925201919b83c1b927c5265496a3190ee5192c3aabf241fe20ae3c59cb2ed2bbd1b3490e439c1f27989b9a90c0cc545c9faa979c90e4648eee06640f82f393fb7a028b5b8383f1b22260175074cbe28b11c26c50000647b22d1";
const EMBEDDED: &str = "1-b7d06b5cd-f0-789c636064000310a500c4ec50360710e72765a52697303030419460caa7a515a796806464e0f26c48f2499525a9c540da43460eabfe92fcf4d2cc14060627f9e933851c44da3590e439c1f27989b9a90c0cc545c9fa890a490ec50a86607324a0fa61ee4ecd4d4a4dc9cf069bcf8d249e9c9f5b50945a5c0c948203009f6d1b16";

fn token(
    from: Option<u64>,
    to: u64,
    to_name: &str,
    position: (u64, u64),
    bytes: u64,
    flags: TokenFlags,
) -> ResumeToken {
    ResumeToken {
        contents: TokenContents {
            from: from.map(Guid),
            to: Guid(to),
            to_name: to_name.into(),
            bytes_received: bytes,
            flags,
        },
        object: position.0,
        offset: position.1,
    }
}

fn golden() -> Vec<(&'static str, ResumeToken)> {
    let none = TokenFlags::default();
    let raw = TokenFlags { raw: true, compressed: true, ..none };
    let embedded = TokenFlags { embedded: true, compressed: true, ..none };
    let (s1, s2) = (0x8714401299971f42, 0x2733b370ab357291);
    let (e1, e2) = (0x26475178d5f161f7, 0x804ba9871d09a333);
    vec![
        (FULL, token(None, s1, "src/a b@s 1", (2, 0x1c0000), 0x1e1c48, none)),
        (INCREMENTAL, token(Some(s1), s2, "src/a b@s 2", (3, 0x1c0000), 0x1e1c30, none)),
        (RAW, token(None, e1, "src/enc@1", (2, 0x1c0000), 0x1e2214, raw)),
        (RAW_INCREMENTAL, token(Some(e1), e2, "src/enc@2", (3, 0x1c0000), 0x1e228c, raw)),
        (EMBEDDED, token(None, s1, "src/a b@s 1", (2, 0x1c0000), 0x1e1c48, embedded)),
    ]
}

#[test]
fn real_tokens_say_what_zfs_says_about_them() {
    for (text, expected) in golden() {
        assert_eq!(ResumeToken::decode(text).as_ref(), Ok(&expected), "{text}");
    }
}

#[test]
fn a_real_token_is_packed_as_the_kernel_packs_it() {
    for (text, expected) in golden() {
        assert_eq!(payload(text).unwrap(), expected.pack(), "{text}");
    }
}

#[test]
fn a_token_of_a_big_endian_host_reads_the_same() {
    let mut packed = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut pair = |name: &str, kind: u32, value: &[u8]| {
        let value_at = (17 + name.len()).next_multiple_of(8);
        let size = (value_at + value.len()).next_multiple_of(8);
        let start = packed.len();
        packed.extend((size as u32).to_be_bytes());
        packed.extend((name.len() as u16 + 1).to_be_bytes());
        packed.extend([0, 0, 0, 0, 0, 1]);
        packed.extend(kind.to_be_bytes());
        packed.extend(name.as_bytes());
        packed.resize(start + value_at, 0);
        packed.extend(value);
        packed.resize(start + size, 0);
    };
    pair("toguid", 8, &0x1234_5678_9abc_def0_u64.to_be_bytes());
    pair("redact_snaps", 16, &[0; 24]);
    pair("toname", 9, b"p/a@s\0");
    packed.extend([0; 4]);
    let expected = token(None, 0x1234_5678_9abc_def0, "p/a@s", (0, 0), 0, TokenFlags::default());
    assert_eq!(ResumeToken::unpack(&packed), Ok(expected));
}

/// libzfs tests whether `rawok` is there, not what it says: a forged `rawok = 0` is sent raw.
#[test]
fn the_presence_of_a_flag_counts_not_its_value() {
    let mut list = nvlist::Writer::default();
    list.number("toguid", 1);
    list.text("toname", "p@s");
    list.number("rawok", 0);
    assert!(ResumeToken::unpack(&list.finish()).unwrap().contents.flags.raw);
}

#[test]
fn damage_is_named() {
    let damaged = |from: &str, to: &str| decode(&FULL.replace(from, to)).unwrap_err();
    assert_eq!(decode(""), Err(TokenError::Shape));
    assert_eq!(decode("1-2-3"), Err(TokenError::Shape));
    assert_eq!(damaged("1-9316", "2-9316"), TokenError::Version("2".into()));
    assert_eq!(damaged("-9316", "-9317"), TokenError::Checksum);
    assert_eq!(damaged("-b8-", "-b9-"), TokenError::Compression);
    assert_eq!(damaged("-b8-", "-ffffffffffffffff-"), TokenError::Compression);
    assert_eq!(damaged("-b8-", "-+8-"), TokenError::Shape);
    assert_eq!(damaged("713ac", "713a"), TokenError::Shape);
    assert_eq!(decode(&"1".repeat(MAX_TEXT + 1)), Err(TokenError::TooLong(MAX_TEXT + 1)));
}

#[test]
fn a_list_without_guid_or_name_is_refused() {
    let mut list = nvlist::Writer::default();
    list.text("toname", "p@s");
    assert_eq!(ResumeToken::unpack(&list.finish()), Err(TokenError::Missing("toguid")));
    let mut list = nvlist::Writer::default();
    list.number("toguid", 1);
    assert_eq!(ResumeToken::unpack(&list.finish()), Err(TokenError::Missing("toname")));
    let mut list = nvlist::Writer::default();
    list.text("toguid", "1");
    assert_eq!(ResumeToken::unpack(&list.finish()), Err(TokenError::Payload("a value has an unexpected type")));
}

/// A kilobyte of text that inflates to a gigabyte must not be inflated.
#[test]
fn an_announced_length_is_a_limit_not_a_promise() {
    let compressed = compress(&vec![0; 16 * MAX_UNPACKED]);
    for announced in [0xb8, MAX_UNPACKED, 16 * MAX_UNPACKED, usize::MAX] {
        let text = format!("1-{:x}-{announced:x}-{}", checksum(&compressed), hex(&compressed));
        assert_eq!(decode(&text), Err(TokenError::Compression));
    }
}

prop_compose! {
    fn any_token()(
        from in proptest::option::of(any::<u64>()),
        to: u64, object: u64, offset: u64, bytes: u64,
        to_name in "[ -~]{0,300}",
        bits: [bool; 5],
    ) -> ResumeToken {
        let [raw, compressed, embedded, large_blocks, saved] = bits;
        let flags = TokenFlags { raw, compressed, embedded, large_blocks, saved };
        token(from, to, &to_name, (object, offset), bytes, flags)
    }
}

proptest! {
    #[test]
    fn decode_inverts_encode(token in any_token()) {
        prop_assert_eq!(ResumeToken::decode(&encode(&token)), Ok(token));
    }

    #[test]
    fn any_text_is_read_without_panic(text in "(1-)?[0-9a-f-]{0,200}|\\PC{0,200}") {
        let _ = decode(&text);
    }

    #[test]
    fn any_payload_is_read_without_panic(mut packed in proptest::collection::vec(any::<u8>(), 0..400), valid: bool) {
        if valid && packed.len() > 2 {
            packed[0] = 0;
            packed[1] = 1;
        }
        let _ = ResumeToken::unpack(&packed);
    }

    #[test]
    fn flipped_bits_of_a_payload_are_read_without_panic(
        token in any_token(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..6),
        cut: prop::sample::Index,
    ) {
        let mut packed = token.pack();
        for (at, bit) in flips {
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
        }
        let _ = ResumeToken::unpack(&packed);
        packed.truncate(cut.index(packed.len()));
        let _ = ResumeToken::unpack(&packed);
    }

    #[test]
    fn a_changed_character_of_the_payload_is_noticed(token in any_token(), at: prop::sample::Index, by in 1..16u8) {
        let text = encode(&token);
        let start = text.rfind('-').unwrap() + 1;
        // The checksum does not cover an incomplete last word; zlib's own does.
        let at = start + at.index(text.len() - start);
        let digit = char::from(text.as_bytes()[at]).to_digit(16).unwrap() as u8 ^ by;
        let mut changed = text.clone();
        changed.replace_range(at..=at, &format!("{digit:x}"));
        prop_assert!(decode(&changed).is_err());
    }
}
