//! Reading ahead: what a load needs later is read and opened on a thread of its own, while the
//! load is busy with what it needs first.

use std::{
    sync::mpsc::sync_channel,
    thread::{Builder, Scope},
};
use tenantry_types::{Error, Result};

/// Items handed over at once.
const BATCH: usize = 64;
/// Bytes that may be read ahead.
const BYTES_MAX: usize = 16 << 20;

/// The items of `open()`, of about `bytes` each, read ahead. It stops soon after the iterator that
/// it gives is dropped.
pub(super) fn ahead<'scope, T, I>(
    threads: &'scope Scope<'scope, '_>,
    bytes: usize,
    open: impl FnOnce() -> I + Send + 'scope,
) -> Result<impl Iterator<Item = Result<T>>>
where
    T: Send + 'scope,
    I: Iterator<Item = Result<T>>,
{
    let batches = BYTES_MAX / BATCH / bytes.max(1);
    let (sender, receiver) = sync_channel::<Vec<Result<T>>>(batches.clamp(1, 4_096));
    let read = move || {
        let mut items = open();
        loop {
            let batch: Vec<Result<T>> = items.by_ref().take(BATCH).collect();
            if batch.is_empty() || sender.send(batch).is_err() {
                return;
            }
        }
    };
    Builder::new()
        .name("read-ahead".to_owned())
        .spawn_scoped(threads, read)
        .map_err(|why| Error::internal("start a thread to read ahead").with_source(why))?;
    Ok(receiver.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    #[test]
    fn all_comes_in_order_and_no_more_is_read_than_is_wanted() {
        for bytes in [0, 1, 1 << 30] {
            let read = AtomicUsize::new(0);
            let count = |n: usize| {
                read.fetch_add(1, Ordering::Relaxed);
                if n == 9_000 { Err(Error::internal("no more")) } else { Ok(n) }
            };
            thread::scope(|threads| {
                let mut items = ahead(threads, bytes, || (0..10_000).map(count)).expect("a thread");
                assert!(items.by_ref().take(9_000).map(Result::unwrap).eq(0..9_000));
                assert!(items.next().is_some_and(|item| item.is_err()));
                assert_eq!(items.count(), 999);
            });
            assert_eq!(read.swap(0, Ordering::Relaxed), 10_000);
            // Whoever goes away is not read for.
            thread::scope(|threads| {
                let mut items = ahead(threads, 1 << 30, || (0..).map(count)).expect("a thread");
                assert!(items.next().is_some());
            });
            assert!(read.load(Ordering::Relaxed) <= 4 * BATCH);
        }
    }
}
