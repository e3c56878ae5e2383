//! The real-ZFS suite.
fn main() {}
