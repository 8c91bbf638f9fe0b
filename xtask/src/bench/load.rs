//! Sending prepared requests and measuring: one client, or several connections at once.

use crate::http::Connection;
use anyhow::{Result, anyhow};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Applies `work` to every item over several connections; the results in the items' order.
pub(crate) fn on_connections<T: Sync, R: Send>(
    address: SocketAddr,
    connections: usize,
    items: &[T],
    work: impl Fn(&mut Connection, &T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(usize, R)>> {
        let mut connection = Connection::open(address)?;
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return Ok(done) };
            done.push((index, work(&mut connection, item)?));
        }
    };
    let mut all = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::with_capacity(items.len());
        for worker in workers {
            all.extend(worker.join().map_err(|_| anyhow!("a connection's thread panicked"))??);
        }
        anyhow::Ok(all)
    })?;
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

/// Sends all requests over several connections; the time from the first to the last answer.
pub(crate) fn send_all(
    address: SocketAddr,
    connections: usize,
    requests: &[Vec<u8>],
) -> Result<Duration> {
    let started = Instant::now();
    on_connections(address, connections, requests, |connection, request| {
        connection.send(request)?.success()
    })?;
    Ok(started.elapsed())
}

/// Sends requests one after another over one connection: how long each took, and the answers.
pub(crate) fn one_by_one(
    connection: &mut Connection,
    requests: &[Vec<u8>],
) -> Result<Vec<(Duration, Value)>> {
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let started = Instant::now();
        let answer = connection.send(request)?;
        let took = started.elapsed();
        answers.push((took, answer.json()?));
    }
    Ok(answers)
}

/// The value below which `percent` of all lie; zero if there are none.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_sorted_values() {
        let sorted: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 50), Duration::from_millis(100));
        assert_eq!(percentile(&sorted, 99), Duration::from_millis(198));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn a_refused_connection_is_an_error() {
        let free = crate::server::free_address().unwrap();
        assert!(send_all(free, 2, &[Vec::new()]).is_err());
    }
}
