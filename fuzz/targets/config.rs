//! Any bytes given to the reader of configurations: no panic, no hang, no place outside the file.

#![no_main]

#[path = "../../crates/config/tests/probe/mod.rs"]
mod probe;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| probe::probe(&String::from_utf8_lossy(bytes)));
