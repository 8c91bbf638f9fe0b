//! One budget for many databases.

use super::{
    super::{
        call::read,
        connections::{Bounds, Connections},
        target::{Server, Target},
        url::{Cluster, DatabaseUrl},
    },
    world::{BOUNDS, LIMITS, Linked, World, address, connections_to, right, sql, write},
};
use crate::ConnectionTotals;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::ErrorKind;
use tokio::{net::TcpListener, time::sleep};

/// The database that a connection to `target` is really in.
async fn database_of(connections: &Linked, target: &Target) -> String {
    let conn = connections.get(target).await.expect("a connection");
    let steps = vec![sql("SELECT current_database()::text FROM pg_sleep(0.001)")];
    let answers = read(conn, LIMITS, right(1), steps).await.expect("read");
    answers[0][0].get(0)
}

#[tokio::test]
async fn one_connection_serves_two_databases_in_turn() {
    let world = World::new(2).await;
    let connections = world.connections(1);
    for number in [0, 1, 1, 0, 0, 1, 0] {
        let target = world.target(number);
        assert_eq!(database_of(&connections, &target).await, *target.database);
        assert_eq!(connections.totals(), (1, 0));
        assert_eq!(world.open_on_server().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_budget_holds_for_many_databases_at_once() {
    let world = World::new(4).await;
    // The server itself refuses more.
    let limit = format!("ALTER ROLE {} CONNECTION LIMIT 3", world.role("service"));
    world.batch(&world.database(0), &limit).await;
    let connections = Arc::new(world.connections(3));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let (connections, target) = (Arc::clone(&connections), world.target(number % 4));
        tasks.spawn(async move {
            assert_eq!(database_of(&connections, &target).await, *target.database);
        });
    }
    let mut most = 0;
    while let Some(done) = tasks.join_next().await {
        done.expect("served");
        most = most.max(connections.totals().0);
    }
    assert!((2..=3).contains(&most), "{most}");
    assert_eq!(connections.totals().1, 0);
}

#[tokio::test]
async fn what_is_open_in_use_and_waited_for_is_counted() {
    let world = World::new(1).await;
    let bounds = Bounds { wait: Duration::from_millis(300), ..BOUNDS };
    let connections = world.connections_at(&address(), 1, bounds);
    let target = world.target(0);
    let counted = || {
        let mut totals = ConnectionTotals::default();
        connections.add_to(&mut totals);
        (totals.open, totals.busy, totals.waiting)
    };
    assert_eq!(counted(), (0, 0, 0));
    let held = connections.get(&target).await.expect("the connection");
    let (waited, seen) = tokio::join!(connections.get(&target), async {
        sleep(bounds.wait / 6).await;
        counted()
    });
    assert!(waited.is_err() && seen == (1, 1, 1), "{seen:?}");
    assert_eq!(counted(), (1, 1, 0));
    drop(held);
    drop(connections.get(&target).await.expect("free again"));
    assert_eq!((counted().0, counted().2), (1, 0));
}

#[tokio::test]
async fn waiting_is_bounded_in_time_and_number() {
    let world = World::new(1).await;
    let bounds = Bounds { wait: Duration::from_millis(300), waiters: 2, ..BOUNDS };
    let connections = world.connections_at(&address(), 1, bounds);
    let target = world.target(0);
    let held = connections.get(&target).await.expect("the connection");
    let started = Instant::now();
    let (a, b, c) =
        tokio::join!(connections.get(&target), connections.get(&target), connections.get(&target));
    let kind = |got: Result<_, super::super::failure::Failure>| {
        got.map(drop).expect_err("none is free").error().kind()
    };
    assert_eq!(kind(c), ErrorKind::Busy);
    assert_eq!((kind(a), kind(b)), (ErrorKind::Unavailable, ErrorKind::Unavailable));
    assert!(started.elapsed() >= bounds.wait && started.elapsed() < 5 * bounds.wait);
    assert_eq!(connections.totals(), (1, 0));
    drop(held);
    connections.get(&target).await.expect("free again");
}

#[tokio::test]
async fn reads_of_one_tenant_have_a_part_of_the_connections_and_of_the_places_to_wait() {
    let world = World::new(1).await;
    let bounds = Bounds { wait: Duration::from_millis(500), waiters: 8, ..BOUNDS };
    let connections = Arc::new(world.connections_at(&address(), 8, bounds));
    let target = connections.target(&world.database(0));
    let of = |tenant| connections.find_or_open(&target, Some(TenantId::new(tenant)), false);
    let kind = |got: Result<_, super::super::failure::Failure>| {
        got.map(drop).expect_err("none is free").error().kind()
    };
    let first = (of(1).await.expect("a connection"), of(1).await.expect("another"));
    let started = Instant::now();
    let waiting = tokio::join!(of(1), of(1), of(1));
    // Two of eight wait, and others wait for none of them.
    assert_eq!(kind(waiting.2), ErrorKind::Busy);
    assert_eq!(kind(waiting.0), ErrorKind::Unavailable);
    assert_eq!(kind(waiting.1), ErrorKind::Unavailable);
    assert!(started.elapsed() >= bounds.wait);
    let mut others = Vec::new();
    for tenant in [2, 2, 3, 3] {
        others.push(of(tenant).await.expect("of another tenant"));
    }
    // The installation is no tenant.
    for tenant in [TenantId::INSTALLATION; 2] {
        let one = connections.find_or_open(&target, Some(tenant), false).await;
        others.push(one.expect("of nobody"));
    }
    assert_eq!(connections.totals(), (8, 0));
    drop(first.0);
    let again = of(1).await.expect("its own came back");
    drop((again, first.1, others));
}

/// Databases that take connections and say nothing, each of which may have a half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_servers_that_hang_leave_some_for_the_one_that_may_have_all() {
    let world = World::new(1).await;
    let connections = world.connections_of(8, 2);
    let silence = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silence.local_addr().expect("an address").port();
    let mut hung = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let url = format!("postgresql://nobody@127.0.0.1:{port}/none");
        let cluster = Cluster::new(DatabaseUrl::parse(&url).expect("a URL"), None);
        let server = Server::with_part(cluster.expect("loopback"), 2);
        let target = Target { server, database: "none".into() };
        for _ in 0..4 {
            let (connections, target) = (Arc::clone(&connections), target.clone());
            hung.spawn(async move { Connections::get(&connections, &target).await.map(drop) });
        }
    }
    sleep(Duration::from_millis(300)).await;
    assert_eq!(connections.totals().0, 6);
    let started = Instant::now();
    let target = connections.target(&world.database(0));
    let (one, two) =
        tokio::join!(database_of(&connections, &target), database_of(&connections, &target));
    assert_eq!((one.as_str(), two.as_str()), (&*target.database, &*target.database));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    while let Some(ended) = hung.join_next().await {
        assert!(ended.expect("no panic").is_err());
    }
}

#[tokio::test]
async fn who_waits_first_is_served_first() {
    let world = World::new(2).await;
    let connections = Arc::new(world.connections(1));
    let held = connections.get(&world.target(0)).await.expect("the connection");
    let served = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (connections, served) = (Arc::clone(&connections), Arc::clone(&served));
        // The idle connection's own database gets no advantage.
        let target = world.target(number % 2);
        tasks.spawn(async move {
            let _conn = connections.get(&target).await.expect("a connection");
            served.lock().push(number);
        });
        tokio::task::yield_now().await;
    }
    drop(held);
    while let Some(done) = tasks.join_next().await {
        done.expect("served");
    }
    assert_eq!(*served.lock(), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_server_has_no_connection_left_those_that_are_open_serve_all() {
    let world = World::new(2).await;
    let limit = |most: u32| format!("ALTER ROLE {} CONNECTION LIMIT {most}", world.role("service"));
    world.batch(&world.database(0), &limit(2)).await;
    let bounds =
        Bounds { wait: Duration::from_secs(20), pause: Duration::from_millis(50), ..BOUNDS };
    let connections = Arc::new(world.connections_at(&address(), 8, bounds));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let (connections, target) = (Arc::clone(&connections), world.target(number % 2));
        tasks.spawn(async move {
            assert_eq!(database_of(&connections, &target).await, *target.database);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("served");
    }
    assert!(connections.totals().0 <= 2, "{:?}", connections.totals());
    assert_eq!(connections.totals().1, 0);
}

#[tokio::test]
async fn a_node_without_any_connection_does_not_wait_for_one() {
    let world = World::new(1).await;
    let limit = format!("ALTER ROLE {} CONNECTION LIMIT 1", world.role("service"));
    world.batch(&world.database(0), &limit).await;
    let (other, connections) = (world.connections(1), world.connections(4));
    let held = other.get(&world.target(0)).await.expect("the only one");
    let since = Instant::now();
    let failure = connections.get(&world.target(0)).await.map(drop).expect_err("none left");
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    let error = failure.error();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.public_message().contains("no connection left"), "{error}");
    drop(held);
}

#[tokio::test]
async fn after_a_failure_nobody_tries_for_a_moment() {
    let url = DatabaseUrl::parse("postgresql://nobody@127.0.0.1:1/none").expect("a URL");
    let bounds = Bounds { pause: Duration::from_millis(300), ..BOUNDS };
    let connections = connections_to(Cluster::new(url, None).expect("loopback"), 2, bounds);
    let target = |name: &str| connections.target(name);
    for name in ["a", "b"] {
        let failure = connections.get(&target(name)).await.map(drop).expect_err("nobody listens");
        assert!(failure.is_lost(), "{failure:?}");
    }
    let paused = connections.get(&target("a")).await.map(drop).expect_err("paused");
    assert_eq!(paused.error().kind(), ErrorKind::Unavailable);
    assert_eq!(connections.totals(), (0, 0));
}

#[tokio::test]
async fn a_failure_of_one_database_pauses_no_other() {
    let world = World::new(1).await;
    let connections = world.connections(1);
    let nowhere = connections.target("nowhere");
    connections.get(&nowhere).await.map(drop).expect_err("no such database");
    write(&connections, &world.target(0), 1, "one").await.expect("committed");
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let world = World::new(2).await;
    let bounds = Bounds { idle: Duration::from_millis(200), ..BOUNDS };
    let connections = world.connections_at(&address(), 2, bounds);
    drop(connections.get(&world.target(0)).await.expect("a connection"));
    let used = connections.get(&world.target(1)).await.expect("a connection");
    assert_eq!(connections.totals(), (2, 0));
    sleep(3 * bounds.idle).await;
    assert_eq!(connections.totals(), (1, 0));
    assert_eq!(world.open_on_server().await, 1);
    drop(used);
}

#[tokio::test]
async fn opening_goes_on_for_the_next_when_it_is_given_up() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let given_up = tokio::time::timeout(Duration::from_micros(1), connections.get(&target)).await;
    assert!(given_up.is_err());
    connections.get(&target).await.expect("the one that was opened");
    assert_eq!(world.open_on_server().await, 1);
}

#[tokio::test]
async fn all_ends_when_it_is_closed_or_dropped() {
    let world = World::new(1).await;
    let target = world.target(0);
    for is_closed in [true, false] {
        let connections = world.connections(2);
        let used = connections.get(&target).await.expect("a connection");
        drop(connections.get(&target).await.expect("a connection"));
        if is_closed {
            connections.close();
            let refused = connections.get(&target).await.map(drop).expect_err("closed");
            assert_eq!(refused.error().kind(), ErrorKind::Unavailable);
        }
        drop(connections);
        let answers = read(used, LIMITS, right(1), vec![sql("SELECT 1")]).await;
        assert_eq!(answers.expect("what is in use goes on").len(), 1);
        let started = Instant::now();
        while world.open_on_server().await > 0 {
            assert!(started.elapsed() < Duration::from_secs(5), "a connection stays open");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn who_can_do_without_a_connection_takes_none_that_others_need() {
    let world = World::new(2).await;
    let connections = world.connections(4);
    let (target, other) = (world.target(0), world.target(1));
    let spare = async |target: &Target| connections.spare(target).await.expect("an answer");
    let taken = [spare(&target).await, spare(&target).await];
    assert!(taken.iter().all(Option::is_some));
    assert!(spare(&target).await.is_none(), "half of all stays free");
    drop(taken);
    // Four are open, two of each.
    let held = [
        connections.get(&other).await.expect("one"),
        connections.get(&other).await.expect("one more"),
    ];
    drop(held);
    let more = [
        connections.get_fresh(&other).await.expect("one"),
        connections.get_fresh(&other).await.expect("one more"),
    ];
    drop(more);
    assert_eq!(connections.totals().0, 4);
    let idle = spare(&target).await;
    let closes = spare(&target).await;
    assert!(idle.is_none() && closes.is_none(), "another one would have to be closed");
    assert!(spare(&other).await.is_some());
}
