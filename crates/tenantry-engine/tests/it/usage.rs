//! What tenants have used: writes in their commits, reads beside them, each once.

use crate::support::*;
use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};
use tenantry_engine::*;
use tenantry_store::{Class, Pool, PoolConfig};

/// What a future says when it is asked once.
async fn once<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

const MONTHS: UsagePage = UsagePage { every: Every::Month, from: 0, limit: 100 };

fn sum(used: &[Used]) -> Amounts {
    let mut all = Amounts::default();
    for one in used {
        all.add_all(&one.amounts);
    }
    all
}

async fn used(world: &World, key: &str) -> Amounts {
    sum(&world.session::<Admin>(key).await.usage(MONTHS).await.unwrap())
}

#[tokio::test]
async fn what_is_done_is_counted_once_and_for_its_tenant() {
    let world = World::new().await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let c = world.collection(&acme, "c").await;
    let (before, quiet) = (used(&world, &acme).await, used(&world, &other).await);
    let records = vec![write("a").vector(&[1.0, 0.0]), write("b").vector(&[0.0, 1.0])];
    c.write(WriteMode::Upsert, records).await.unwrap();
    c.query(&query(&[1.0, 0.0], 1)).await.unwrap();
    c.count(None).await.unwrap();
    c.delete(&by_ids(&["nobody"]), None).await.unwrap();
    for _ in 0..2 {
        let more = used(&world, &acme).await.since(&before).unwrap();
        assert_eq!(more.get(Meter::Requests), 4);
        assert_eq!(more.get(Meter::RecordsWritten), 2);
        assert_eq!(more.get(Meter::BytesIn), 2 * 9);
        assert_eq!(more.get(Meter::VectorsScanned), 2);
    }
    assert_eq!(used(&world, &other).await, quiet);
    let operator = world.operator().usage(&tenant("acme"), MONTHS).await.unwrap();
    assert_eq!(sum(&operator).get(Meter::RecordsWritten), 2);
}

#[tokio::test]
async fn what_is_refused_costs_nothing() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    c.write(WriteMode::Upsert, vec![write("a").vector(&[1.0, 0.0])]).await.unwrap();
    let before = used(&world, &key).await;
    let wrong = vec![write("b").vector(&[1.0])];
    c.write(WriteMode::Upsert, wrong).await.unwrap_err();
    c.query(&query(&[1.0], 1)).await.unwrap_err();
    // But for the time that it took to find out.
    let more = used(&world, &key).await.since(&before).unwrap();
    let others = Meter::ALL.into_iter().filter(|meter| *meter != Meter::CpuMicros);
    for meter in others {
        assert_eq!(more.get(meter), 0, "{meter:?}");
    }
}

/// Whoever hangs up has had the work done.
#[tokio::test]
async fn a_read_that_nobody_waits_for_any_more_is_counted_and_logged() {
    let pool = Pool::new(PoolConfig { places: 1, ..PoolConfig::default() });
    let world = World::with(|config| config.pool = pool.clone()).await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    c.write(WriteMode::Upsert, vec![write("a").vector(&[1.0, 0.0])]).await.unwrap();
    let before = used(&world, &key).await;
    {
        let busy = pool.try_turn(TenantId::new(99), 100, Class::Request).unwrap();
        let asked = query(&[1.0, 0.0], 1);
        let mut asking = pin!(c.query(&asked));
        assert!(once(&mut asking).await.is_none(), "it has its turn");
        drop(busy);
    }
    let more = used(&world, &key).await.since(&before).unwrap();
    assert_eq!(more.get(Meter::Requests), 1);
}

#[tokio::test]
async fn hours_follow_the_engines_clock() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let (hours, first) = (UsagePage { every: Every::Hour, ..MONTHS }, Hour::of(Timestamp(START)).0);
    world.clock.set(START + 2 * 3_600_000);
    c.count(None).await.unwrap();
    let used = world.session::<Admin>(&key).await.usage(hours).await.unwrap();
    let later = used.iter().find(|one| one.at == first + 2).unwrap();
    assert_eq!(later.amounts.get(Meter::Requests), 1);
}

#[tokio::test]
async fn usage_is_for_keys_that_are_limited_in_no_way() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let database = world.database::<Read>(&key).await.info().number;
    let limited = limited_key(Role::Admin, vec![Allowed::Database(database)]);
    let limited = world.key("acme", limited).await;
    let session = world.session::<Admin>(&limited).await;
    assert_eq!(kind(session.usage(MONTHS).await), ErrorKind::Denied);
}

#[tokio::test]
async fn a_month_costs_what_the_tariff_says_and_no_bill_changes() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let operator = world.operator();
    let name = PlanName::parse("p").unwrap();
    let plan = TenantPlan::new(name.clone(), Allowance::default());
    operator.put_plan(&plan).await.unwrap();
    let change = TenantChange { plan: Some(Some(name.clone())), ..TenantChange::default() };
    operator.change_tenant(&tenant("acme"), &change).await.unwrap();
    let month = Hour::of(Timestamp(START)).month();
    let prices = |price| Tariff([(Meter::RecordsWritten, Price(price))].into());
    operator.put_tariff(&name, month, prices(500_000_000)).await.unwrap();
    let c = world.collection(&key, "c").await;
    c.write(WriteMode::Upsert, vec![write("a"), write("b"), write("d")]).await.unwrap();
    let bill = async || world.session::<Admin>(&key).await.bill(month).await.unwrap();
    // 1.5 micro-units, rounded half up.
    assert_eq!(bill().await.total, MicroUnits(2));
    assert_eq!(kind(operator.put_tariff(&name, month, prices(1)).await), ErrorKind::Conflict);
    operator.put_tariff(&name, Month(month.0 + 1), prices(1)).await.unwrap();
    assert_eq!(bill().await.total, MicroUnits(2));
}

/// What a tenant has used of CPU time, in microseconds.
async fn cpu(world: &World, key: &str) -> u128 {
    used(world, key).await.get(Meter::CpuMicros)
}

/// Records with vectors of this length that are all different.
fn vectors(count: u16, dimension: usize) -> Vec<RecordWrite> {
    let record = |n: u16| {
        let vector: Vec<f32> =
            (1..=dimension).map(|at| (f32::from(n + 1) * at as f32 * 0.37).sin()).collect();
        write(&n.to_string()).vector(&vector)
    };
    (0..count).map(record).collect()
}

#[tokio::test]
async fn whatever_is_done_takes_cpu_time_of_its_tenant_and_of_nobody_else() {
    let world = World::new().await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let c = world.collection(&acme, "c").await;
    let (before, quiet) = (cpu(&world, &acme).await, used(&world, &other).await);
    c.write(WriteMode::Upsert, vectors(1_000, 32)).await.unwrap();
    let written = cpu(&world, &acme).await;
    assert!(written > before, "{written}");
    // It is read into memory, and then from there.
    c.query(&query(&[1.0; 32], 1)).await.unwrap();
    let loaded = cpu(&world, &acme).await;
    assert!(loaded > written, "{loaded} {written}");
    assert_eq!(all_ids(&c).await.len(), 1_000);
    let read = cpu(&world, &acme).await;
    assert!(read > loaded, "{read} {loaded}");
    c.delete(&by_ids(&["1", "2", "3"]), None).await.unwrap();
    assert!(cpu(&world, &acme).await > read);
    assert_eq!(used(&world, &other).await, quiet);
}

#[tokio::test]
async fn what_a_query_says_of_its_cpu_time_is_counted_once() {
    let world = World::with(|config| config.saved.bytes_max = 0).await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    c.write(WriteMode::Upsert, vectors(4_000, 64)).await.unwrap();
    let vectors = vec![vec![1.0; 64]; 64];
    let asked = QueryRequest { vectors, k: 10, exact: true, ..QueryRequest::default() };
    c.query(&asked).await.unwrap();
    let (before, mut said) = (cpu(&world, &key).await, Duration::ZERO);
    for _ in 0..5 {
        said += c.query_explained(&asked).await.unwrap().explain.cpu;
    }
    let (counted, said) = (cpu(&world, &key).await - before, said.as_micros());
    // Each time that it is taken over it is rounded.
    assert!(counted + 10 >= said && counted < said * 2, "{counted} of {said}");
}

#[tokio::test]
async fn building_an_index_takes_cpu_time_of_its_tenant() {
    let world = World::with(|config| config.index.graph_above = 500).await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let c = world.collection(&acme, "c").await;
    c.write(WriteMode::Upsert, vectors(4_000, 32)).await.unwrap();
    let quiet = used(&world, &other).await;
    c.query(&query(&[1.0; 32], 1)).await.unwrap();
    // Nobody asks for anything of acme's records from here on.
    let (asked, begun) = (cpu(&world, &acme).await, Instant::now());
    let name = tenant("acme");
    let inside = world.engine.session::<Read>(&world.operator, Select::Named(&name)).await.unwrap();
    let inside = inside.database(&DatabaseName::default_database()).await.unwrap();
    let inside = inside.collection(&collection("c")).await.unwrap();
    while inside.statistics().await.unwrap().memory.unwrap().pending > 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "the graph is not built");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let built = cpu(&world, &acme).await;
    assert!(built > asked, "{built} {asked}");
    assert_eq!(used(&world, &other).await, quiet);
}
