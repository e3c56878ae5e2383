//! Any bytes as a message: the first one chooses which.

#![no_main]
#![allow(dead_code, reason = "the other targets use the rest")]

#[path = "../../crates/wire/tests/probe/mod.rs"]
mod probe;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| probe::messages(bytes));
