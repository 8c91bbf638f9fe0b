//! What rights depend on, kept in memory for as long as nothing anywhere took one away.

use lru::LruCache;
use std::{hash::Hash, num::NonZeroUsize, sync::Arc};

/// Rows kept at most.
const ROWS_MAX: usize = 4_096;

/// Rows that were used lately, all read when this many rights had been taken away: one more, of
/// anybody, and none of them counts.
#[derive(Debug)]
pub(super) struct Remembered<K: Hash + Eq, V> {
    revocations: u64,
    rows: LruCache<K, Arc<V>>,
}

impl<K: Hash + Eq, V> Default for Remembered<K, V> {
    fn default() -> Self {
        let room = NonZeroUsize::new(ROWS_MAX).unwrap_or(NonZeroUsize::MIN);
        Self { revocations: 0, rows: LruCache::new(room) }
    }
}

impl<K: Hash + Eq, V> Remembered<K, V> {
    /// The row, if it is as it was when so many rights had been taken away.
    pub(super) fn get(&mut self, revocations: u64, key: &K) -> Option<Arc<V>> {
        if self.revocations == revocations {
            return self.rows.get(key).map(Arc::clone);
        }
        if self.revocations < revocations {
            self.rows.clear();
            self.revocations = revocations;
        }
        None
    }

    /// Keeps a row that was read after so many had been taken away: one read before a revocation is
    /// never kept as one after it.
    pub(super) fn put(&mut self, revocations: u64, key: K, row: &Arc<V>) {
        if self.revocations == revocations {
            self.rows.put(key, Arc::clone(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_revocation_is_not_kept_after_it() {
        let mut all = Remembered::default();
        let row = Arc::new("row");
        assert_eq!(all.get(0, &1), None);
        all.put(0, 1, &row);
        assert_eq!(all.get(0, &1), Some(Arc::clone(&row)));
        assert_eq!(all.get(1, &1), None);
        all.put(0, 1, &row);
        assert_eq!(all.get(1, &1), None);
        // Whoever began before sees nothing, and takes nothing away.
        all.put(1, 2, &row);
        assert_eq!((all.get(0, &2), all.get(1, &2)), (None, Some(row)));
    }

    #[test]
    fn there_is_a_bound() {
        let mut all = Remembered::default();
        for n in 0..2 * ROWS_MAX {
            all.put(0, n, &Arc::new(()));
        }
        assert_eq!(all.rows.len(), ROWS_MAX);
    }
}
