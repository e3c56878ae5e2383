//! Ordinary inputs of the fuzz targets, those that were found to reach other code, and those that once broke
//! something.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod probe;

use std::fs;
use std::path::{Path, PathBuf};

fn inputs(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Inputs that fuzzing found, as `cargo xtask fuzz NAME --keep` packs them.
fn kept(file: &Path) -> Vec<Vec<u8>> {
    let packed = fs::read(file).unwrap();
    let (mut rest, mut inputs) = (packed.as_slice(), vec![]);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (input, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        inputs.push(input.to_vec());
        rest = after;
    }
    assert!(rest.is_empty() && inputs.len() > 50, "{}", file.display());
    inputs
}

fn replay(name: &str, probe: probe::Probe) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let seeds = inputs(&fuzz.join("seeds").join(name));
    assert!(!seeds.is_empty(), "no seeds for {name}");
    for (path, input) in seeds.into_iter().chain(inputs(&fuzz.join("found").join(name))) {
        println!("{}", path.display());
        probe(&input);
        // Cut off anywhere, and with a wrong bit.
        for at in 0..input.len().min(300) {
            probe(&input[..at]);
            let mut changed = input.clone();
            changed[at] ^= 1 << (at % 8);
            probe(&changed);
        }
    }
    for input in kept(&fuzz.join("corpus").join(name)) {
        // Shown if the test fails.
        println!("{}", input.escape_ascii());
        probe(&input);
    }
}

#[test]
fn handshakes() {
    replay("handshake", probe::handshake);
}

#[test]
fn frames() {
    replay("frames", probe::frames);
}

#[test]
fn headers() {
    replay("headers", probe::headers);
}

#[test]
fn messages() {
    replay("messages", probe::messages);
}
