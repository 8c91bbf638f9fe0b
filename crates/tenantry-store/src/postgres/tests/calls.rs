//! Transactions: whose rows they see, what they commit, how they fail.

use super::{
    super::{
        call::{Transaction, read},
        failure::{Cause, CommitError},
        statement::{Limits, Mode, Right, Statement, Step},
    },
    world::{LIMITS, LONG, World, batch, begin, insert, right, run, select, sql, write},
};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tenantry_types::{Error, ErrorKind};
use tokio_postgres::types::{Kind, Type};

#[tokio::test]
async fn a_read_sees_the_rows_of_its_right_and_no_other() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    write(&connections, &target, 1, "one").await.expect("committed");
    write(&connections, &target, 2, "two").await.expect("committed");
    let conn = connections.get(&target).await.expect("a connection");
    let steps = vec![select(), Step::Enter(right(2)), select(), Step::Enter(right(3)), select()];
    let answers = read(conn, LIMITS, right(1), steps).await.expect("read");
    let values: Vec<Vec<String>> =
        answers.iter().map(|rows| rows.iter().map(|row| row.get(1)).collect()).collect();
    assert_eq!(values, [vec!["one".to_owned()], vec!["two".to_owned()], vec![]]);
    assert_eq!(connections.totals(), (1, 0));
}

#[tokio::test]
async fn what_always_says_that_nothing_is_prepared_is_not_asked_for_ever() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let raise = "DO $$BEGIN RAISE 'no' USING ERRCODE = '26000'; END$$";
    let work = |conn| read(conn, LIMITS, right(1), vec![sql(raise)]);
    let error = connections.with(&target, None, work).await.expect_err("refused");
    assert_eq!((error.cause(), error.error().kind()), (Cause::NotPrepared, ErrorKind::Unavailable));
}

/// A database may be its tenant's own, and say anything.
#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let conn = connections.get(&target).await.expect("a connection");
    let limits = Limits { statement: Duration::from_secs(60), ..LIMITS };
    let endless = "SELECT repeat('x', 4000000) FROM generate_series(1, 100000)";
    let error = read(conn, limits, right(1), vec![sql(endless)]).await.expect_err("cut off");
    assert_eq!((error.cause(), error.error().kind()), (Cause::Other, ErrorKind::Corrupt));
    // Its connection has ended, and the next one is open.
    let conn = connections.get(&target).await.expect("another connection");
    read(conn, LIMITS, right(1), vec![sql("SELECT 1")]).await.expect("an answer");
}

#[tokio::test]
async fn several_rights_write_in_one_commit() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let own = Right { tenant: 7, role: Some(world.role("own")) };
    let conn = connections.get(&target).await.expect("a connection");
    let open = begin(conn, Mode::Write, right(0)).await.expect("begun");
    let steps = vec![
        insert(0, "root"),
        Step::Enter(own),
        sql("INSERT INTO own.rows VALUES ('own') RETURNING current_user::text"),
        Step::Enter(right(7)),
        insert(7, "seven"),
    ];
    let answers = open.commit(steps, 2).await.expect("committed");
    assert_eq!(answers[1][0].get::<_, &str>(0), &*world.role("own"));
    assert_eq!(world.count("value IN ('root', 'seven')").await, 2);
}

#[tokio::test]
async fn a_right_ends_with_its_transaction() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let own = Right { tenant: 7, role: Some(world.role("own")) };
    let conn = connections.get(&target).await.expect("a connection");
    let steps = vec![sql("SELECT current_user::text, current_setting('lock_timeout')")];
    let answers = read(conn, LIMITS, own, steps).await.expect("read");
    assert_eq!(answers[0][0].get::<_, &str>(0), &*world.role("own"));
    assert_eq!(answers[0][0].get::<_, &str>(1), "300ms");
    let mut conn = connections.get(&target).await.expect("the same connection");
    let check = format!(
        "DO $$BEGIN ASSERT current_user = '{}' AND current_setting('lock_timeout') = '0' \
         AND current_setting('tenantry.tenant') = ''; END$$",
        world.role("service")
    );
    batch(&mut conn, &check, LONG).await.expect("all as it was");
    let error = batch(&mut conn, "SELECT * FROM rows", LONG).await.expect_err("loud");
    assert_eq!(error.error().kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn rights_that_are_not_there_are_gone() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    // A session that may not take a role on is ended: it may know less than others.
    for (role, cause) in [("foreign", Cause::NotGranted), ("nobody", Cause::Gone)] {
        let conn = connections.get(&target).await.expect("a connection");
        let right = Right { tenant: 1, role: Some(world.role(role)) };
        let failure = read(conn, LIMITS, right, vec![select()]).await.expect_err("no such right");
        assert_eq!(failure.cause(), cause);
    }
    let conn = connections.get(&target).await.expect("a connection");
    let failure = read(conn, LIMITS, right(1), vec![sql("SELECT * FROM own.rows")]).await;
    assert_eq!(failure.expect_err("not for the service").cause(), Cause::Gone);
    let nowhere = connections.target("nowhere");
    let failure = connections.get(&nowhere).await.map(drop).expect_err("no such database");
    assert_eq!(failure.cause(), Cause::Gone);
}

#[tokio::test]
async fn a_session_that_knows_too_little_is_followed_by_a_new_one() {
    let world = World::new(1).await;
    let connections = world.connections(3);
    let target = connections.target(&world.target(0).database);
    let session = async |conn| {
        let steps = vec![sql("SELECT pg_catalog.pg_backend_pid()")];
        let answers = read(conn, LIMITS, right(1), steps).await.expect("a session");
        answers[0][0].get::<_, i32>(0)
    };
    let get = || async { connections.get(&target).await.expect("a connection") };
    let (one, two, three) = tokio::join!(get(), get(), get());
    let idle = tokio::join!(session(one), session(two), session(three));
    let foreign = Right { tenant: 1, role: Some(world.role("foreign")) };
    let tried = AtomicU32::new(0);
    let new = connections.with(&target, None, |conn| {
        let (is_old, foreign) = (tried.fetch_add(1, Ordering::Relaxed) < 2, foreign.clone());
        async move {
            if is_old {
                return read(conn, LIMITS, foreign, vec![select()]).await.map(|_| 0);
            }
            Ok(session(conn).await)
        }
    });
    let new = new.await.expect("the third session");
    assert!(![idle.0, idle.1, idle.2].contains(&new));
    // Not for ever.
    tried.store(0, Ordering::Relaxed);
    let refused = connections.with(&target, None, |conn| {
        tried.fetch_add(1, Ordering::Relaxed);
        read(conn, LIMITS, foreign.clone(), vec![select()])
    });
    assert_eq!(refused.await.map(drop).expect_err("no right").cause(), Cause::NotGranted);
    assert_eq!(tried.load(Ordering::Relaxed), 9);
}

#[tokio::test]
async fn a_failed_statement_of_a_commit_leaves_nothing() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    write(&connections, &target, 1, "taken").await.expect("committed");
    let bad: [(fn() -> Step, Cause); 4] = [
        (|| sql("SELECT 1 / 0"), Cause::Other),
        (|| insert(1, "taken"), Cause::Taken),
        (|| insert(2, "a row of somebody else"), Cause::Gone),
        // Never sent; all behind it must not be either.
        (|| run(Statement::new("SELECT $1").with("text", Type::INT8)), Cause::Other),
    ];
    for (make, cause) in bad {
        for at in 0..3 {
            let mut steps = vec![insert(1, "first"), insert(1, "second")];
            steps.insert(at, make());
            let conn = connections.get(&target).await.expect("a connection");
            let open = begin(conn, Mode::Write, right(1)).await.expect("begun");
            match open.commit(steps, 0).await {
                Err(CommitError::NotCommitted(failure)) => assert_eq!(failure.cause(), cause),
                other => panic!("{other:?}"),
            }
            assert_eq!(world.count("value <> 'taken'").await, 0, "{cause:?} at {at}");
        }
    }
}

#[tokio::test]
async fn a_commit_without_its_proof_is_not_believed() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    for (steps, proof) in [
        (vec![insert(1, "a"), sql("DELETE FROM public.rows WHERE false RETURNING 1")], 1),
        (vec![insert(1, "b")], 1),
        (vec![sql("SELECT 1 UNION ALL SELECT 2")], 0),
    ] {
        let conn = connections.get(&target).await.expect("a connection");
        let open = begin(conn, Mode::Write, right(1)).await.expect("begun");
        let error = open.commit(steps, proof).await.expect_err("no proof");
        assert!(matches!(error, CommitError::Unknown(_)), "{error:?}");
    }
}

#[tokio::test]
async fn no_value_that_is_there_already_is_told() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    write(&connections, &target, 1, "secret").await.expect("committed");
    let Err(CommitError::NotCommitted(failure)) = write(&connections, &target, 1, "secret").await
    else {
        panic!("committed twice")
    };
    let error = Error::from(failure);
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn a_transaction_that_failed_does_not_go_on() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let conn = connections.get(&target).await.expect("a connection");
    let mut open = begin(conn, Mode::Write, right(1)).await.expect("begun");
    open.run(vec![insert(1, "one")]).await.expect("inserted");
    open.run(vec![sql("SELECT 1 / 0")]).await.expect_err("divided");
    open.run(vec![select()]).await.expect_err("over");
    let error = open.commit(vec![insert(1, "two")], 0).await.expect_err("over");
    assert!(matches!(error, CommitError::NotCommitted(_)), "{error:?}");
    assert_eq!(world.count("true").await, 0);
}

#[tokio::test]
async fn the_server_bounds_statements_and_waits() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(2), world.target(0));
    write(&connections, &target, 1, "one").await.expect("committed");
    let limits = Limits { statement: Duration::from_millis(100), ..LIMITS };
    let conn = connections.get(&target).await.expect("a connection");
    let slow = read(conn, limits, right(1), vec![sql("SELECT 1 FROM pg_sleep(9)")]).await;
    let error = Error::from(slow.expect_err("too slow"));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.public_message().contains("too long"), "{error}");

    let lock = || sql("SELECT 1 FROM public.rows WHERE value = 'one' FOR UPDATE");
    let conn = connections.get(&target).await.expect("a connection");
    let steps = vec![lock()];
    let (holder, _) =
        Transaction::begin(conn, Mode::Write, LIMITS, right(1), steps).await.expect("locked");
    let conn = connections.get(&target).await.expect("a connection");
    let started = Instant::now();
    let waited = Transaction::begin(conn, Mode::Write, LIMITS, right(1), vec![lock()]).await;
    let error = Error::from(waited.map(drop).expect_err("locked"));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.public_message().contains("somebody else"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
    holder.end().await;
}

#[tokio::test]
async fn a_vanished_writer_holds_its_locks_for_as_long_as_it_may_idle() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let conn = connections.get(&target).await.expect("a connection");
    let limits = Limits { idle: Duration::from_millis(100), ..LIMITS };
    let (open, _) = Transaction::begin(conn, Mode::Write, limits, right(1), vec![insert(1, "a")])
        .await
        .expect("begun");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let error = open.commit(vec![insert(1, "b")], 0).await.expect_err("ended by the server");
    assert!(matches!(&error, CommitError::NotCommitted(failure) if failure.is_lost()), "{error:?}");
    assert_eq!(world.count("true").await, 0);
    write(&connections, &target, 1, "c").await.expect("on a new connection");
}

#[tokio::test]
async fn citus_is_told_the_tenant_of_each_transaction_and_nothing_stays() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let told = || {
        sql("SELECT current_setting('citus.propagate_set_commands', true), \
             current_setting('tenantry.tenant', true)")
    };
    for (citus, tenant) in [(true, 1), (true, 2), (false, 3)] {
        let limits = Limits { citus, ..LIMITS };
        let conn = connections.get(&target).await.expect("a connection");
        let answers = read(conn, limits, right(tenant), vec![told()]).await.expect("told");
        let row = &answers[0][0];
        // What was set for a transaction is empty after it, as if it had never been given.
        let propagates = row.get::<_, Option<&str>>(0).is_some_and(|word| word == "local");
        assert_eq!((propagates, row.get::<_, &str>(1)), (citus, tenant.to_string().as_str()));
    }
    let said: Vec<_> = connections.said().into_iter().map(|(text, _)| text).collect();
    let sets = said.iter().filter(|text| text.starts_with("SET LOCAL ")).collect::<Vec<_>>();
    assert_eq!(sets.len(), 4, "{said:?}");
    assert!(sets[1] == "SET LOCAL tenantry.tenant = '1'" && sets[3].ends_with("= '2'"), "{sets:?}");
}

#[tokio::test]
async fn megabytes_both_ways_in_one_round_trip() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let conn = connections.get(&target).await.expect("a connection");
    let big = "x".repeat(8 << 20);
    let steps = (0..4).map(|_| {
        let twice = Statement::new("SELECT $1 UNION ALL SELECT $1").with(big.clone(), Type::TEXT);
        run(twice)
    });
    let answers = read(conn, LIMITS, right(1), steps.collect()).await.expect("all of it");
    let bytes: usize = answers.iter().flatten().map(|row| row.get::<_, &str>(0).len()).sum();
    assert_eq!(bytes, 8 * big.len());
}

#[tokio::test]
async fn values_of_pgvector_need_no_lookup() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let none = connections.get(&target).await.expect("a connection");
    let facts = none.facts().expect("facts").clone();
    assert!(facts.vector.is_none(), "{facts:?}");
    drop(none);
    world.batch(&target.database, "CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext").await;
    world
        .batch(&target.database, &format!("GRANT USAGE ON SCHEMA ext TO {}", world.role("service")))
        .await;
    connections.forget(&target);
    let conn = connections.get(&target).await.expect("a connection");
    let facts = conn.facts().expect("facts").clone();
    let vector = facts.vector.as_ref().expect("pgvector");
    let Kind::Array(one) = vector.many.kind() else { panic!("{vector:?}") };
    let mut value = vec![0, 2, 0, 0];
    value.extend_from_slice(&1.5_f32.to_be_bytes());
    value.extend_from_slice(&2.0_f32.to_be_bytes());
    let bytes = Raw(value.clone());
    let steps = vec![run(Statement::new("SELECT ext.vector_send($1)").with(bytes, one.clone()))];
    let answers = read(conn, LIMITS, right(1), steps).await.expect("sent back");
    assert_eq!(answers[0][0].get::<_, Vec<u8>>(0), value);
}

#[tokio::test]
async fn types_that_are_not_there_any_more_are_looked_up_again() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let conn = connections.get(&target).await.expect("a connection");
    let old = conn.facts().expect("facts").clone();
    let gone = Type::new("vector".to_owned(), 4_000_000_000, Kind::Simple, "ext".to_owned());
    let steps = vec![run(Statement::new("SELECT $1 IS NULL").with(Raw(vec![0; 4]), gone))];
    let failure = read(conn, LIMITS, right(1), steps).await.expect_err("no such type");
    assert_eq!(failure.cause(), Cause::TypesChanged, "{failure:?}");
    let conn = connections.get(&target).await.expect("a connection");
    assert!(!std::sync::Arc::ptr_eq(&old, conn.facts().expect("facts")));
}

/// Bytes as they go over the wire.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl tokio_postgres::types::ToSql for Raw {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut tokio_postgres::types::private::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}
