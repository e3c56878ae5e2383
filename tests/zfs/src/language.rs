//! That errors are told apart by their words although the machine speaks another language.
//!
//! ZFS has no translations that could be installed, so one is made: every text in the program and its
//! library, with the letters moved by thirteen places.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::case::Case;
use crate::lab::Bench;
use crate::machine::clock_is_ours;

/// The name of the language, which no system has.
const LANGUAGE: &str = "xx";
const LOCALE: &str = "xx_XX.UTF-8";

/// Where the C library looks for translations of ZFS.
const CATALOG: &str = "/usr/share/locale/xx/LC_MESSAGES/zfs-linux-user.mo";

/// Cases in which every outcome is read from what a command says.
const READ_FROM_WORDS: [&str; 10] = [
    "conformance::GetNonexistent",
    "conformance::BatchDestroy",
    "conformance::UndestroyableSnapshotParsing",
    "conformance::Z8_batch_destroy_held_cloned_missing_duplicate",
    "conformance::hold_fails_item_by_item",
    "conformance::snapshot_fails_item_by_item",
    "conformance::receive_full_onto_something",
    "conformance::receive_onto_modified_target",
    "conformance::ReceiveForceIntoEncryptedErr",
    "conformance::resume_whose_snapshot_is_gone",
];

/// Only in the test machine, which forgets what is installed there.
pub(crate) fn cases() -> Vec<Case> {
    let name = "language::Z3_a_translated_system_changes_no_outcome";
    if clock_is_ours() { vec![Case::real(name, translated_system)] } else { Vec::new() }
}

fn translated_system(bench: &Bench) -> Result<()> {
    install(bench)?;
    let pool = bench.pool("a")?;
    let spoken = Command::new("zfs").args(["list", &format!("{pool}/none")]).envs(environment()).output()?;
    let spoken = String::from_utf8_lossy(&spoken.stderr).into_owned();
    ensure!(spoken.contains(&moved("dataset does not exist")), "ZFS is not translated: {spoken:?}");
    for case in READ_FROM_WORDS {
        let run = Command::new(std::env::current_exe()?)
            .args(["--backend", "real", "--exact", case, "--work"])
            .arg(bench.folder().join("work"))
            .envs(environment())
            .output()?;
        let output = String::from_utf8_lossy(&run.stdout).into_owned();
        ensure!(run.status.success() && output.contains("1 passed"), "{case}: {output}");
    }
    Ok(())
}

fn environment() -> [(&'static str, &'static str); 3] {
    [("LC_ALL", LOCALE), ("LANG", LOCALE), ("LANGUAGE", LANGUAGE)]
}

/// Makes the language known to the C library, and a catalog of ZFS in it.
fn install(bench: &Bench) -> Result<()> {
    let programs = bench.bash(
        "cp -rT /usr/lib/locale/C.utf8 /usr/lib/locale/xx_XX.utf8
         zfs=$(command -v zfs); echo $zfs; ldd $zfs | awk '$1 ~ /^libzfs/ { print $3 }'",
    )?;
    let mut texts = BTreeMap::new();
    for program in programs.lines() {
        let bytes = fs::read(program).with_context(|| format!("reading {program}"))?;
        bytes.split(|byte| *byte == 0).filter_map(text).for_each(|text| add(&mut texts, text));
    }
    let header = "Content-Type: text/plain; charset=UTF-8\n";
    texts.insert(String::new(), header.to_owned());
    let folder = Path::new(CATALOG).parent().context("it is in a folder")?;
    fs::create_dir_all(folder).context("making the folder of the catalog")?;
    fs::write(CATALOG, catalog(&texts)?).context("writing the catalog")
}

/// Something that might be said.
fn text(bytes: &[u8]) -> Option<&str> {
    let said = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    let text = std::str::from_utf8(bytes).ok()?;
    (bytes.iter().all(said) && text.len() < 500 && text.contains(|c: char| c.is_ascii_alphabetic())).then_some(text)
}

/// With its endings from every word on: a compiler stores a text that is the end of another one only once.
fn add(texts: &mut BTreeMap<String, String>, text: &str) {
    let words = text.match_indices(' ').map(|(blank, _)| blank + 1);
    for ending in std::iter::once(0).chain(words).filter_map(|start| text.get(start..)) {
        texts.insert(ending.to_owned(), moved(ending));
    }
}

/// The translation: places for values stay as they are.
fn moved(text: &str) -> String {
    let mut in_place = false;
    let letter = |c: char| match c {
        'a'..='m' | 'A'..='M' => char::from(c as u8 + 13),
        'n'..='z' | 'N'..='Z' => char::from(c as u8 - 13),
        other => other,
    };
    text.chars()
        .map(|c| match in_place {
            true => {
                in_place = !"diouxXeEfFgGcspn%".contains(c);
                c
            }
            false => {
                in_place = c == '%';
                letter(c)
            }
        })
        .collect()
}

/// The format of gettext: numbers, then lengths and places of the texts and of their translations, both in
/// the order of the texts, then all of them.
fn catalog(texts: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    const NUMBERS: usize = 7;
    const PAIR: usize = 8;
    let (count, first) = (texts.len(), NUMBERS * 4);
    let mut head = Vec::new();
    for number in [0x9504_12de, 0, count, first, first + count * PAIR, 0, 0] {
        head.extend(u32::try_from(number)?.to_le_bytes());
    }
    let (mut tail, place) = (Vec::new(), first + 2 * count * PAIR);
    for text in texts.keys().chain(texts.values()) {
        head.extend(u32::try_from(text.len())?.to_le_bytes());
        head.extend(u32::try_from(place + tail.len())?.to_le_bytes());
        tail.extend(text.as_bytes());
        tail.push(0);
    }
    head.extend(tail);
    Ok(head)
}
