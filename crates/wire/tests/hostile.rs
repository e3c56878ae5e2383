//! Ordinary inputs of the fuzz targets, and those that once broke something.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod probe;

use std::fs;
use std::path::{Path, PathBuf};

fn inputs(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
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
