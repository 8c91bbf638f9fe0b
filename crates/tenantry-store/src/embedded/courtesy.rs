//! fjall's background thread lets others compute while it merges tables.
//!
//! A thread that computes on keeps its core until its slice is over, and on a kernel with a tick
//! of 4 ms for as long: a request that wakes up there waits. Merging goes on for tens of
//! milliseconds, so every few hundred microseconds the thread gives its turn away. If nobody waits
//! for the core, that costs a call of the system; if others compute all the time, the thread gets
//! less than its share, and writers wait for it at the marks of `opened.rs`.

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use std::{
    sync::Arc,
    thread::yield_now,
    time::{Duration, Instant},
};

/// How long the thread computes before it gives its turn away.
const BURST: Duration = Duration::from_micros(200);
/// Rows between two looks at the clock.
const ROWS: u32 = 16;

/// Says how each keyspace of a database is merged, by its name.
type Assigner = Arc<dyn Fn(&str) -> Option<Arc<dyn Factory>> + Send + Sync>;

/// What a database is opened with, so that all of its keyspaces are merged so.
pub(super) fn courteous() -> Assigner {
    Arc::new(|_| Some(Arc::new(Courteous)))
}

struct Courteous;

impl Factory for Courteous {
    fn name(&self) -> &'static str {
        "courteous"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Merge { since: Instant::now(), rows: 0 })
    }
}

/// One merge of tables. It keeps every row as it is.
struct Merge {
    /// When it gave its turn away last.
    since: Instant,
    rows: u32,
}

impl CompactionFilter for Merge {
    fn filter_item(&mut self, _: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        self.rows += 1;
        if self.rows >= ROWS {
            self.rows = 0;
            if self.since.elapsed() >= BURST {
                yield_now();
                self.since = Instant::now();
            }
        }
        Ok(Verdict::Keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fjall::{Database, KeyspaceCreateOptions};

    #[test]
    fn what_is_merged_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(folder.path())
            .with_compaction_filter_factories(courteous())
            .open()
            .unwrap();
        let space = database.keyspace("data", KeyspaceCreateOptions::default).unwrap();
        for round in 0..3_u8 {
            for n in 0..2_000_u32 {
                space.insert(n.to_be_bytes(), [round; 300]).unwrap();
            }
            for n in (0..2_000_u32).step_by(7) {
                space.remove(n.to_be_bytes()).unwrap();
            }
            space.rotate_memtable_and_wait().unwrap();
        }
        space.major_compact().unwrap();
        for n in 0..2_000_u32 {
            let found = space.get(n.to_be_bytes()).unwrap();
            assert_eq!(found.as_deref(), (n % 7 != 0).then_some(&[2; 300][..]), "{n}");
        }
    }
}
