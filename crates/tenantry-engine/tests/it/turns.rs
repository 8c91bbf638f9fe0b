//! Work waits for its tenant's turn, and who asks how a query went is told.

use crate::support::*;
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::{Duration, Instant},
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
    assert_eq!(first.explain.searches[0].plan, SearchPlan::ExactAll);
    let some = c.query_explained(&QueryRequest { select, ..query(&[8.0], 5) }).await.unwrap();
    assert_eq!((some.hits[0].len(), some.explain.allowed), (3, Some(3)));
    assert_eq!(some.explain.searches[0].plan, SearchPlan::ExactAllowed);
    assert_eq!(c.statistics().await.unwrap().records, 9);

    let bound = world.key("acme", bound_key(Role::Read, filter)).await;
    let c = world.database::<Read>(&bound).await.collection(&collection("c")).await.unwrap();
    assert_eq!(c.query(&query(&[8.0], 5)).await.unwrap()[0].len(), 3);
    let denied = c.query_explained(&query(&[8.0], 5)).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    assert_eq!(c.statistics().await.unwrap_err().kind(), ErrorKind::Denied);
}

/// What is in memory depends on what neighbours ask for, and how long one waits on how much they do.
#[tokio::test]
async fn what_neighbours_have_a_part_in_is_told_to_operators_alone() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let own = world.collection(&key, "c").await;
    own.write(WriteMode::Upsert, vec![write("a").vector(&[1.0])]).await.unwrap();
    let name = tenant("acme");
    let select = Select::Named(&name);
    let session = world.engine.session::<Read>(&world.operator, select).await.unwrap();
    let inside = session.database(&DatabaseName::default_database()).await.unwrap();
    let inside = inside.collection(&collection("c")).await.unwrap();
    let asked = query(&[1.0], 1);
    let first = inside.query_explained(&asked).await.unwrap().explain;
    assert!(first.waited.is_some() && first.hot == Some(false), "{first:?}");
    let told = own.query_explained(&asked).await.unwrap().explain;
    assert_eq!((told.waited, told.hot), (None, None));
    assert_eq!(own.statistics().await.unwrap().memory, None);
    assert_eq!(inside.query_explained(&asked).await.unwrap().explain.hot, Some(true));
    assert_eq!(inside.statistics().await.unwrap().memory.unwrap().pending, 1);
}

/// A regular expression can take long on one long text: meanwhile others have their turns, also if
/// there is one place for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_long_text_holds_up_nobody() {
    let pool = Pool::new(PoolConfig { places: 1, ..PoolConfig::default() });
    let world = World::with(|config| config.pool = pool.clone()).await;
    let (key, other) = (world.tenant("acme").await, world.tenant("other").await);
    let c = world.collection(&key, "c").await;
    let long = write("long").vector(&[1.0]).text(&"abcdefghij é中".repeat(800_000));
    c.write(WriteMode::Upsert, vec![long]).await.unwrap();
    let quiet = world.collection(&other, "c").await;
    quiet.write(WriteMode::Upsert, vec![write("a").vector(&[1.0]).text("b")]).await.unwrap();
    let filter = Filter::Text(TextTest::Regex("(?i)(a|b|c|d)*[^x]{50}zzz".to_owned()));
    for is_deleting in [false, true] {
        let (c, filter, begun) =
            (world.collection(&key, "c").await, filter.clone(), Instant::now());
        let slow = tokio::spawn(async move {
            let select = Selector { ids: None, filter: Some(filter.clone()) };
            if is_deleting { c.delete(&select, None).await } else { c.count(Some(&filter)).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let asked = Instant::now();
        let text = Filter::Text(TextTest::Regex("b".to_owned()));
        assert_eq!(quiet.count(Some(&text)).await.unwrap(), 1);
        let waited = asked.elapsed();
        assert!(!slow.is_finished(), "it is too fast to show anything");
        assert_eq!(slow.await.unwrap().unwrap(), 0);
        assert!(waited < begun.elapsed() / 4, "{waited:?} of {:?}", begun.elapsed());
    }
    // The last look at what a bound key sees reads the text as well.
    let filter = Filter::Text(TextTest::Regex("j é中$".to_owned()));
    let bound = world.key("acme", bound_key(Role::Read, filter)).await;
    let c = world.database::<Read>(&bound).await.collection(&collection("c")).await.unwrap();
    let hits = c.query(&query(&[2.0], 5)).await.unwrap();
    assert_eq!(hits[0].iter().map(|hit| hit.record.id.as_str()).collect::<Vec<_>>(), ["long"]);
}

/// A key's own filter is asked of what is written while the tenant's lock is held, so its time has a
/// bound, and what cannot be interrupted is refused by name and not as outside the filter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_filter_has_a_second_for_a_batch() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    world.collection(&key, "c").await;
    let bound = async |pattern: &str| {
        let filter = Filter::Text(TextTest::NotRegex(pattern.to_owned()));
        let key = world.key("acme", bound_key(Role::Write, filter)).await;
        world.database::<Write>(&key).await.collection(&collection("c")).await.unwrap()
    };
    let upsert = async |pattern: &str, text: &str| {
        let records = vec![write("a").vector(&[1.0]).text(text)];
        bound(pattern).await.write(WriteMode::Upsert, records).await
    };
    // Which of the last letters were below q: a state for each set of them, and no room for all.
    let mut seed = 1_u32;
    let text: String = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + u8::try_from((seed >> 24) % 26).unwrap())
    })
    .take(12 << 20)
    .collect();
    let begun = Instant::now();
    let slow = upsert("[a-p][a-y]{200}[^a-z]", &text).await;
    assert_eq!(kind(slow), ErrorKind::LimitExceeded);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let boundaries = upsert(r"\b(needle|x{200}){20}\b", &"é nothing ".repeat(100_000)).await;
    assert_eq!(kind(boundaries), ErrorKind::TooLarge);
    upsert("needle", &text).await.unwrap();
}
