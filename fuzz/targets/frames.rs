//! Any bytes on a data connection, and any order of events in time.

#![no_main]
#![allow(dead_code, reason = "the other targets use the rest")]

#[path = "../../crates/wire/tests/probe/mod.rs"]
mod probe;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| probe::frames(bytes));
