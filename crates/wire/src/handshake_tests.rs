use proptest::prelude::*;

use super::*;

/// The only banner of zrepl 0.7, as recorded.
const ZREPL: &[u8] = b"0000000056 ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0000\n";

fn decode(mut bytes: &[u8]) -> Result<Option<Banner>, BannerError> {
    BannerDecoder::default().feed(&mut bytes)
}

fn body(body: &str) -> Result<Option<Banner>, BannerError> {
    decode(format!("{:010} {body}", body.len()).as_bytes())
}

#[test]
fn the_banner_is_that_of_zrepl() {
    let ours = Banner::with_extensions(vec![]);
    assert_eq!(ours.encode().unwrap(), ZREPL);
    assert_eq!(decode(ZREPL), Ok(Some(ours)));
}

#[test]
fn what_follows_the_banner_is_left_alone() {
    let mut sent = [ZREPL, &Label::Data.encode(), b"request"].concat();
    sent.extend(b"more");
    let mut input = sent.as_slice();
    assert!(BannerDecoder::default().feed(&mut input).unwrap().is_some());
    assert_eq!(input, &sent[ZREPL.len()..]);
}

#[test]
fn a_banner_may_come_byte_by_byte() {
    let mut decoder = BannerDecoder::default();
    assert_eq!(decoder.missing(), 11, "no more than the length may be read at first");
    for (at, byte) in ZREPL.iter().enumerate() {
        let mut input = &[*byte][..];
        let banner = decoder.feed(&mut input).unwrap();
        assert_eq!(banner.is_some(), at + 1 == ZREPL.len());
        assert!(input.is_empty());
    }
    assert_eq!(decoder.missing(), 0);
}

#[test]
fn unknown_extensions_are_kept_and_only_common_ones_agreed() {
    let theirs = body("ZREPL_ZFS_REPLICATION PROTOVERSION=7 EXTENSIONS=3\nx y\n\nkeep\n").unwrap().unwrap();
    assert_eq!(theirs.extensions, ["x y", "", "keep"]);
    let ours = Banner::with_extensions(vec!["keep".into(), "list".into()]);
    let agreed = ours.agree(&theirs).unwrap();
    assert!(agreed.has("keep") && !agreed.has("list") && !agreed.has("x y"));
    let old = decode(ZREPL).unwrap().unwrap();
    assert_eq!(ours.agree(&old), Ok(Agreement::default()));
}

#[test]
fn other_versions_are_named() {
    for version in [6, 8] {
        let theirs = Banner { version, extensions: vec![] };
        let said = Banner::with_extensions(vec![]).agree(&theirs).unwrap_err().to_string();
        assert!(said.starts_with(&format!("protocol versions do not match: ours is 7, theirs is {version}")), "{said}");
    }
}

#[test]
fn blanks_instead_of_zeros_are_accepted() {
    let sent = b"        56 ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0000\n";
    assert_eq!(decode(sent), decode(ZREPL));
}

#[test]
fn what_is_no_banner_is_refused() {
    assert!(matches!(decode(b"HTTP/1.1 400 Bad Request\r\n"), Err(BannerError::Length(text)) if text == "HTTP/1.1 40"));
    for prefix in ["          x", "           ", "0000000056x", "+000000056 ", "-000000056 ", "00 0000056 "] {
        assert!(matches!(decode(prefix.as_bytes()), Err(BannerError::Length(_))), "{prefix:?}");
    }
    assert_eq!(decode(b"0000065537 "), Err(BannerError::TooLong(65537)));
    assert_eq!(decode(b"9999999999 "), Err(BannerError::TooLong(9_999_999_999)));
    assert_eq!(decode(b"0000065536 "), Ok(None), "allowed, and awaited");
    assert!(matches!(decode(b"0000000000 "), Err(BannerError::Body(_))));
    for bad in [
        "",
        "ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0000",
        "ZREPL_ZFS_REPLICATION PROTOVERSION=00007 EXTENSIONS=0000\n",
        "ZREPL_ZFS_REPLICATION PROTOVERSION= EXTENSIONS=0000\n",
        "ZREPL_ZFS_REPLICATION PROTOVERSION=+7 EXTENSIONS=0000\n",
        "ZREPL PROTOVERSION=0007 EXTENSIONS=0000\n",
        "ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0001\nno end",
    ] {
        assert!(matches!(body(bad), Err(BannerError::Body(_))), "{bad:?}");
    }
    let count = |n| format!("ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS={n}\na\n");
    assert_eq!(body(&count(0)), Err(BannerError::Count { announced: 0, found: 1 }));
    assert_eq!(body(&count(2)), Err(BannerError::Count { announced: 2, found: 1 }));
    assert!(matches!(decode(b"0000000001 \xff"), Err(BannerError::Body("it is not UTF-8"))));
}

#[test]
fn what_a_banner_cannot_carry_is_not_sent() {
    let with = |extensions: Vec<String>| Banner::with_extensions(extensions).encode();
    assert!(with(vec!["a\nb".into()]).is_err());
    assert!(with(vec![String::new(); 9999]).is_err());
    assert!(with(vec![String::new(); 9998]).is_ok());
    assert!(with(vec!["x".repeat(65536)]).is_err());
    assert!(Banner { version: 0, extensions: vec![] }.encode().is_err());
    assert!(Banner { version: 10000, extensions: vec![] }.encode().is_err());
}

#[test]
fn labels_are_those_of_zrepl() {
    let mut control = [0; 64];
    control[..13].copy_from_slice(b"zrepl_control");
    assert_eq!(Label::Control.encode(), control);
    assert_eq!(Label::decode(&control), Ok(Label::Control));
    assert_eq!(Label::decode(&Label::Data.encode()), Ok(Label::Data));
    let mut almost = Label::Data.encode();
    almost[63] = 1;
    assert!(Label::decode(&almost).is_err(), "all 64 bytes count");
    let mut other = [0; 64];
    other[..5].copy_from_slice(b"other");
    assert_eq!(Label::decode(&other), Err(UnknownLabel("other".into())));
}

proptest! {
    #[test]
    fn decode_inverts_encode_however_it_is_cut(
        version in 1u16..=9999,
        extensions in proptest::collection::vec("[^\n]{0,20}", 0..20),
        cut in 1usize..40,
    ) {
        let banner = Banner { version, extensions };
        let mut decoder = BannerDecoder::default();
        let mut decoded = None;
        for mut piece in banner.encode().unwrap().chunks(cut) {
            prop_assert!(decoded.is_none());
            decoded = decoder.feed(&mut piece).unwrap();
        }
        prop_assert_eq!(decoded, Some(banner));
    }
}
