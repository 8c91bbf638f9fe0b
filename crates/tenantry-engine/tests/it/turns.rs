//! Work waits for its tenant's turn, and who asks how a query went is told.

use crate::support::*;
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};
use tenantry_engine::*;
use tenantry_store::{Class, Pool, PoolConfig};

async fn is_ready<F: Future>(future: &mut Pin<&mut F>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

#[tokio::test]
async fn large_bodies_wait_for_a_turn_and_small_ones_do_not() {
    let pool = Pool::new(PoolConfig { places: 1, queue_max: 1, ..PoolConfig::default() });
    let world = World::with(|config| config.pool = pool.clone()).await;
    let key = world.tenant("acme").await;
    let who = world.who(&key).await;
    let other = pool.try_turn(TenantId::new(99), 100, Class::Request).unwrap();
    assert_eq!(world.engine.compute(&who, 1_000, || 1).await.unwrap(), 1);
    {
        let mut large = pin!(world.engine.compute(&who, 100_000, || 2));
        assert!(!is_ready(&mut large).await, "it did not wait for its turn");
        // One more than may wait.
        let refused = world.engine.compute(&who, 100_000, || 3).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy);
        drop(other);
        assert_eq!(large.await.unwrap(), 2);
    }
    for bytes in [100_000, 500_000, 5_000_000] {
        assert_eq!(world.engine.compute(&who, bytes, || 4).await.unwrap(), 4);
    }
    assert!(pool.charged(who.tenant().unwrap()) > 0, "the tenant was not charged");
}

#[tokio::test]
async fn a_query_can_be_explained_but_not_to_a_key_that_a_filter_binds() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let mine =
        |n: u8| write(&n.to_string()).vector(&[f32::from(n)]).set("mine", Value::Bool(n < 3));
    c.write(WriteMode::Upsert, (0..9).map(mine).collect()).await.unwrap();
    let filter = is("mine", Value::Bool(true));
    let select = by_filter(filter.clone());
    let first = c.query_explained(&query(&[1.2], 2)).await.unwrap();
    assert!(!first.explain.hot, "the first query loads the collection");
    assert_eq!(first.explain.searches[0].plan, SearchPlan::ExactAll);
    let some = c.query_explained(&QueryRequest { select, ..query(&[8.0], 5) }).await.unwrap();
    assert_eq!((some.hits[0].len(), some.explain.allowed), (3, Some(3)));
    assert!(some.explain.hot && some.explain.searches[0].plan == SearchPlan::ExactAllowed);
    let statistics = c.statistics().await.unwrap();
    assert_eq!((statistics.records, statistics.memory.unwrap().pending), (9, 9));

    let bound = world.key("acme", bound_key(Role::Read, filter)).await;
    let c = world.database::<Read>(&bound).await.collection(&collection("c")).await.unwrap();
    assert_eq!(c.query(&query(&[8.0], 5)).await.unwrap()[0].len(), 3);
    let denied = c.query_explained(&query(&[8.0], 5)).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    assert_eq!(c.statistics().await.unwrap_err().kind(), ErrorKind::Denied);
}

/// One regular expression on one long text cannot be paused: whatever asks one leaves a place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_of_long_texts_leaves_a_place_to_others() {
    let pool = Pool::new(PoolConfig { places: 2, ..PoolConfig::default() });
    let world = World::with(|config| config.pool = pool.clone()).await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let long = write("long").vector(&[1.0]).text(&"ab".repeat(100_000));
    let short = write("short").vector(&[2.0]).text("ab");
    c.write(WriteMode::Upsert, vec![long, short]).await.unwrap();
    let filter = Filter::Text(TextTest::Regex("(ab){3}$".to_owned()));
    let busy = pool.try_turn(TenantId::new(99), 100, Class::Background).unwrap();
    {
        let mut count = pin!(c.count(Some(&filter)));
        let waited = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(waited, &mut count).await.is_err(), "it took the last place");
        assert_eq!(c.query(&query(&[1.2], 2)).await.unwrap()[0].len(), 2);
        drop(busy);
        assert_eq!(count.await.unwrap(), 1);
    }
    // The last look at what a bound key sees reads the text as well.
    let bound = world.key("acme", bound_key(Role::Read, filter)).await;
    let c = world.database::<Read>(&bound).await.collection(&collection("c")).await.unwrap();
    let hits = c.query(&query(&[2.0], 5)).await.unwrap();
    assert_eq!(hits[0].iter().map(|hit| hit.record.id.as_str()).collect::<Vec<_>>(), ["long"]);
}
