//! Runs worlds by seed until one fails.
fn main() {}
