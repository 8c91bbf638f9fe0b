//! Connections that end or fall silent.

use super::{
    super::{
        call::read,
        connections::Bounds,
        failure::CommitError,
        statement::{Limits, Mode},
    },
    proxy::{Does, Proxy},
    world::{BOUNDS, LIMITS, World, begin, insert, right, select, write},
};
use std::time::{Duration, Instant};
use tenantry_types::{Error, ErrorKind};

#[tokio::test]
async fn a_commit_whose_answer_is_lost_may_be_there() {
    let world = World::new(1).await;
    let target = world.target(0);
    let proxy = Proxy::start(Does::Pass).await;
    let connections = world.connections_at(&proxy.address(), 1, BOUNDS);
    for (does, value, expected) in
        [(Does::CutAfterCommit, "after", 1), (Does::CutBeforeCommit, "before", 0)]
    {
        let conn = connections.get(&target).await.expect("a connection");
        let open = begin(conn, Mode::Write, right(1)).await.expect("begun");
        proxy.does(does);
        let error = open.commit(vec![insert(1, value)], 0).await.expect_err("no answer");
        assert!(matches!(error, CommitError::Unknown(_)), "{error:?}");
        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.public_message().contains("may have been written"), "{error}");
        proxy.does(Does::Pass);
        assert_eq!(world.count(&format!("value = '{value}'")).await, expected);
    }
    write(&connections, &target, 1, "next").await.expect("on a new connection");
}

#[tokio::test]
async fn a_connection_that_was_ended_before_is_known_not_to_have_committed() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let conn = connections.get(&target).await.expect("a connection");
    let open = begin(conn, Mode::Write, right(1)).await.expect("begun");
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
        world.role("service")
    );
    world.batch(&world.database(0), &end).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = open.commit(vec![insert(1, "one")], 0).await.expect_err("ended");
    assert!(matches!(&error, CommitError::NotCommitted(failure) if failure.is_lost()), "{error:?}");
    write(&connections, &target, 1, "next").await.expect("on a new connection");
    // Also one that is idle when it is ended.
    world.batch(&world.database(0), &end).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    write(&connections, &target, 1, "last").await.expect("on a new connection");
}

/// All at once, for all are long. The world ends after all of them: a server drops no database
/// while somebody has got stuck in the middle of authentication.
#[tokio::test]
async fn silence_is_bounded() {
    let world = World::new(1).await;
    tokio::join!(
        silence_in_between(&world),
        silence_at_the_beginning(&world),
        silence_after_giving_up(&world)
    );
}

async fn silence_in_between(world: &World) {
    let target = world.target(0);
    let proxy = Proxy::start(Does::Pass).await;
    let connections = world.connections_at(&proxy.address(), 1, BOUNDS);
    // What it waits for is longer than the server's limit by a constant: see `patience`.
    let limits = Limits { statement: Duration::from_millis(100), ..LIMITS };
    let conn = connections.get(&target).await.expect("a connection");
    proxy.does(Does::Swallow);
    let started = Instant::now();
    let failure = read(conn, limits, right(1), vec![select()]).await.expect_err("silence");
    assert!(failure.is_lost(), "{failure:?}");
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    proxy.does(Does::Pass);
    write(&connections, &target, 1, "in between").await.expect("on a new connection");
}

/// Opening a connection is bounded as well; after that others are refused for a moment.
async fn silence_at_the_beginning(world: &World) {
    let target = world.target(0);
    let proxy = Proxy::start(Does::Swallow).await;
    let connections = world.connections_at(&proxy.address(), 1, BOUNDS);
    let started = Instant::now();
    let failure = connections.get(&target).await.map(drop).expect_err("silence");
    assert!(failure.is_lost(), "{failure:?}");
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    proxy.does(Does::Pass);
    tokio::time::sleep(BOUNDS.pause).await;
    write(&connections, &target, 1, "at the beginning").await.expect("on a new connection");
}

/// A connection that was given up and cannot be cleaned is replaced.
async fn silence_after_giving_up(world: &World) {
    let target = world.target(0);
    let proxy = Proxy::start(Does::Pass).await;
    let bounds = Bounds { wait: Duration::from_secs(9), ..BOUNDS };
    let connections = world.connections_at(&proxy.address(), 1, bounds);
    let conn = connections.get(&target).await.expect("a connection");
    let open = begin(conn, Mode::Write, right(1)).await.expect("begun");
    proxy.does(Does::Swallow);
    drop(open);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    let waiting = connections.get(&target);
    let (conn, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        proxy.does(Does::Pass);
    });
    conn.expect("a new connection");
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    assert_eq!(connections.totals(), (1, 0));
}
