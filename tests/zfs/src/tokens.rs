//! The reader of resume tokens against `zfs send -nvt`, for tokens of every kind that this ZFS makes.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use zfs::token::ResumeToken;

use crate::case::Case;
use crate::lab::Bench;

/// The cases of this module; the model has no second opinion on a token.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::real("tokens::Z11_tokens_of_every_kind_say_what_zfs_says", every_kind),
        Case::real("tokens::Z11_damaged_tokens_are_refused_as_zfs_refuses_them", damaged),
    ]
}

/// Kinds of streams, and the options and sources of their sends. `%` is the filesystem.
const STREAMS: [(&str, &str); 11] = [
    ("full", "'%@1'"),
    ("incremental", "-i @1 '%@2'"),
    ("from_bookmark", "-i '%#mark' '%@2'"),
    ("big_blocks", "-L '%@1'"),
    ("compressed", "-c '%@1'"),
    ("embedded", "-e -c '%@1'"),
    ("big_embedded_compressed", "-L -e -c -i @1 '%@2'"),
    ("with_properties", "-p '%@1'"),
    ("raw", "-w '%@1'"),
    ("raw_incremental", "-w -L -i @1 '%@2'"),
    ("redacted", "--redact book '%@2'"),
];

/// Pools with interrupted receives of all kinds, and the token of each.
fn tokens(bench: &Bench) -> Result<BTreeMap<String, String>> {
    let (from, to) = (bench.pool("from")?, bench.pool("to")?);
    std::fs::write(bench.folder().join("key"), "a passphrase")?;
    bench.bash(&format!(
        "key=\"-o encryption=on -o keyformat=passphrase -o keylocation=file://$PWD/key\"
         for fs in 'f s' 'r s' 'e s'; do
             options='-o recordsize=1M -o compression=on'
             [ \"$fs\" != 'e s' ] || options=\"$options $key\"
             zfs create $options {from}/\"$fs\"
             folder=mnt/{from}/\"$fs\"
             for version in 1 2; do
                 head -c 4M /dev/urandom >\"$folder/data $version\"
                 for i in {{1..30}}; do printf %070d $i >\"$folder/small $version $i\"; done
                 zfs snapshot {from}/\"$fs@$version\"
             done
         done
         zfs bookmark '{from}/f s@1' '{from}/f s#mark'
         zfs clone '{from}/r s@2' {from}/clone; rm -f mnt/{from}/clone/small*
         zfs snapshot {from}/clone@redacted; zfs redact '{from}/r s@2' book {from}/clone@redacted"
    ))?;
    for (kind, send) in STREAMS {
        // With a bookmark that is not of a redaction, `zfs send -t` of a redacted stream aborts (OpenZFS 2.3).
        let source = match kind {
            "raw" | "raw_incremental" => format!("{from}/e s"),
            "redacted" => format!("{from}/r s"),
            _ => format!("{from}/f s"),
        };
        let send = send.replace('%', &source);
        // A later stream needs its base, which must be of the same kind.
        let flags: Vec<&str> = ["-w ", "-L "].into_iter().filter(|flag| send.contains(flag)).collect();
        let flags = flags.concat();
        let base = match send.contains("-i ") {
            true => format!("zfs send {flags} '{source}@1' | zfs receive -u {to}/{kind}"),
            false => String::new(),
        };
        let receive = format!("head -c 3000000 | zfs receive -u -s {to}/{kind}");
        bench.bash(&format!("{base}\n! (zfs send {send} | {receive}) 2>cut.txt"))?;
    }
    // What has arrived of a stream can be sent on.
    bench.bash(&format!("! (zfs send -S {to}/full | head -c 1500000 | zfs receive -u -s {to}/saved) 2>cut.txt"))?;
    let mut tokens = BTreeMap::new();
    for kind in STREAMS.iter().map(|(kind, _)| *kind).chain(["saved"]) {
        let token = bench.bash(&format!("zfs get -Ho value receive_resume_token {to}/{kind}"))?;
        ensure!(token.starts_with("1-"), "no token of the kind {kind}: {token:?}");
        tokens.insert(kind.to_owned(), token.trim().to_owned());
    }
    Ok(tokens)
}

/// What ZFS reads in a token, or says to refuse it.
fn said_by_zfs(token: &str) -> Result<Result<BTreeMap<String, String>, String>> {
    let output = Command::new("zfs").args(["send", "-nvt", token]).env("LC_ALL", "C").output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if !said.contains("resume token contents:") {
        return Ok(Err(format!("{}: {said}", output.status)));
    }
    let pairs = said.lines().filter_map(|line| line.strip_prefix('\t')?.split_once(" = "));
    Ok(Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
}

/// Fails unless both read the same.
fn compare(kind: &str, ours: &ResumeToken, theirs: &BTreeMap<String, String>) -> Result<()> {
    let number =
        |key: &str| theirs.get(key).and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    let contents = &ours.contents;
    let pairs = [
        ("fromguid", contents.from.map(|guid| guid.0), number("fromguid")),
        ("toguid", Some(contents.to.0), number("toguid")),
        ("bytes", Some(contents.bytes_received), number("bytes")),
        ("object", Some(ours.object), number("object")),
        ("offset", Some(ours.offset), number("offset")),
    ];
    for (key, ours, theirs) in pairs {
        ensure!(ours == theirs, "{key} of {kind}: {ours:?} is read, ZFS reads {theirs:?}");
    }
    let name = theirs.get("toname").context("ZFS says its name")?;
    ensure!(contents.to_name == *name, "{kind} is of {:?}, ZFS says {name:?}", contents.to_name);
    let flags = [
        ("rawok", contents.flags.raw),
        ("compressok", contents.flags.compressed),
        ("embedok", contents.flags.embedded),
        ("largeblockok", contents.flags.large_blocks),
        ("savedok", contents.flags.saved),
    ];
    for (key, ours) in flags {
        ensure!(ours == theirs.contains_key(key), "{key} of {kind} is read as {ours}: {theirs:?}");
    }
    Ok(())
}

fn every_kind(bench: &Bench) -> Result<()> {
    let tokens = tokens(bench)?;
    for (kind, token) in &tokens {
        let ours = ResumeToken::decode(token).with_context(|| format!("the token of the kind {kind}"))?;
        let theirs = said_by_zfs(token)?;
        let theirs = theirs.map_err(|said| anyhow!("ZFS refuses the token of the kind {kind}, {said}: {ours:?}"))?;
        compare(kind, &ours, &theirs)?;
    }
    // Or the kinds would not be what they are called.
    let flags =
        |kind: &str| tokens.get(kind).and_then(|token| ResumeToken::decode(token).ok()).map(|t| t.contents.flags);
    ensure!(flags("raw_incremental").is_some_and(|flags| flags.raw && flags.large_blocks), "raw and large");
    ensure!(flags("big_blocks").is_some_and(|flags| flags.large_blocks), "large blocks");
    ensure!(flags("embedded").is_some_and(|flags| flags.embedded && flags.compressed), "embedded");
    let redacted = said_by_zfs(tokens.get("redacted").context("a token")?)?;
    ensure!(redacted.iter().flatten().any(|(key, _)| key.contains("redact")), "{redacted:?}");
    Ok(())
}

/// The digit that differs from another one in its lowest bit.
fn flipped(digit: char) -> char {
    let value = digit.to_digit(16).unwrap_or(0);
    char::from_digit(value ^ 1, 16).unwrap_or('0')
}

fn damaged(bench: &Bench) -> Result<()> {
    let tokens = tokens(bench)?;
    let mut refused = 0;
    for (number, (kind, token)) in tokens.iter().enumerate() {
        let mut wrong = Vec::new();
        for part in 1..4 {
            wrong.push(token.chars().take(token.len() * part / 4 + number).collect::<String>());
            let place = (token.len() * part / 4).saturating_sub(number * 7);
            let flip = |(at, digit): (usize, char)| if at == place { flipped(digit) } else { digit };
            wrong.push(token.chars().enumerate().map(flip).collect());
        }
        // A digit of the checksum, and one of the length.
        let fields: Vec<&str> = token.splitn(4, '-').collect();
        let [version, checksum, length, payload] = fields[..] else { bail!("{kind} has four fields") };
        let last = |field: &str| -> String {
            let (start, end) = field.split_at(field.len() - 1);
            start.chars().chain(end.chars().map(flipped)).collect()
        };
        wrong.push(format!("{version}-{}-{length}-{payload}", last(checksum)));
        wrong.push(format!("{version}-{checksum}-{}-{payload}", last(length)));
        wrong.push(format!("2-{checksum}-{length}-{payload}"));
        for text in wrong.iter().filter(|text| *text != token) {
            match (ResumeToken::decode(text), said_by_zfs(text)?) {
                (Err(_), _) => refused += 1,
                (Ok(ours), Ok(theirs)) => compare(kind, &ours, &theirs)?,
                (Ok(ours), Err(said)) => bail!("ZFS refuses {text:?} of the kind {kind}, {said}: {ours:?}"),
            }
        }
    }
    ensure!(refused >= tokens.len() * 7, "only {refused} were refused");
    Ok(())
}
