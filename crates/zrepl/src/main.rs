//! The zrepl program.
fn main() {}
