//! When to take snapshots.
