//! Any bytes of a client of the control service, before the HTTP library sees them.

#![no_main]
#![allow(dead_code, reason = "the other targets use the rest")]

#[path = "../../crates/wire/tests/probe/mod.rs"]
mod probe;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| probe::headers(bytes));
