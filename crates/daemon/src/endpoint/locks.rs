//! One lock per key, made on demand and forgotten when nobody holds it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::limits::FILESYSTEM_LOCK;

/// Locks by key.
pub(super) struct Locks<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

/// The lock of one key, held until dropped.
pub(super) type Guard = OwnedMutexGuard<()>;

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Locks<K> {
    /// Waits for the lock of `key`; none if it is still taken after [`FILESYSTEM_LOCK`].
    pub(super) async fn lock(&self, key: &K) -> Option<Guard> {
        let lock = self.lock_of(key);
        tokio::time::timeout(FILESYSTEM_LOCK, lock.lock_owned()).await.ok()
    }

    fn lock_of(&self, key: &K) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        // Dead entries are dropped when the table would grow, so that it stays as large as what is in
        // use at most.
        if locks.len() == locks.capacity() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        locks.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_held_by_one_and_waited_for_with_a_limit() {
        let locks = Locks::default();
        let first = locks.lock(&"a").await.unwrap();
        assert!(locks.lock(&"b").await.is_some(), "another key");
        assert!(locks.lock(&"a").await.is_none(), "taken for longer than the limit");
        drop(first);
        assert!(locks.lock(&"a").await.is_some());
    }

    #[tokio::test]
    async fn forgotten_keys_take_no_space() {
        let locks = Locks::default();
        for key in 0..10_000 {
            locks.lock(&key).await.unwrap();
        }
        assert!(locks.0.lock().unwrap().len() < 100);
    }
}
