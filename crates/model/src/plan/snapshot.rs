//! When to take snapshots, and what they are called.
