//! Whatever is given up, and whenever: nobody reads what is another's.

use super::{
    super::{
        call::{Transaction, read},
        failure::CommitError,
        statement::Mode,
    },
    proxy::{Does, Proxy},
    world::{BOUNDS, LIMITS, Linked, World, begin, insert, right, select, sql, write},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::sleep;

/// Polls a future so many times and no more; none if it did not end.
struct Polls<F> {
    future: Pin<Box<F>>,
    left: u32,
}

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The last poll was made: what was waited for is given up.
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

/// A read or a write of `tenant`, all of which is checked.
async fn once(connections: &Linked, world: &World, tenant: u64, number: u32) {
    let target = world.target(0);
    let conn = connections.get(&target).await.expect("a connection");
    let answers = match number % 3 {
        0 => read(conn, LIMITS, right(tenant), vec![select(), select()]).await.expect("read"),
        1 => {
            let steps = vec![select()];
            let (mut open, mut answers) =
                Transaction::begin(conn, Mode::Read, LIMITS, right(tenant), steps)
                    .await
                    .expect("begun");
            answers.extend(open.run(vec![select()]).await.expect("read"));
            open.end().await;
            answers
        }
        _ => {
            let open = begin(conn, Mode::Write, right(tenant)).await.expect("begun");
            let value = format!("extra {number}");
            let steps = vec![
                select(),
                insert(i64::try_from(tenant).expect("small"), &value),
                sql("DELETE FROM public.rows WHERE value LIKE 'extra%' RETURNING 1"),
                select(),
            ];
            let mut answers = open.commit(steps, 2).await.expect("committed");
            drop(answers.drain(1..3));
            answers
        }
    };
    for rows in answers {
        assert_eq!(rows.len(), 1, "{tenant} sees its own row");
        assert_eq!(rows[0].get::<_, i64>(0), i64::try_from(tenant).expect("small"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_read_by_another_tenant_whatever_is_given_up() {
    let world = World::new(1).await;
    let connections = world.connections(1);
    for tenant in [1, 2] {
        write(&connections, &world.target(0), tenant, &format!("of {tenant}"))
            .await
            .expect("committed");
    }
    let (mut numbers, mut ended) = (Numbers(0x9e37_79b9_7f4a_7c15), 0);
    for number in 0..10_000 {
        let future = Box::pin(once(&connections, &world, u64::from(1 + number % 2), number));
        let left = 1 + numbers.below(8);
        ended += u32::from(Polls { future, left }.await.is_some());
    }
    assert!((500..9_500).contains(&ended), "{ended} of 10,000 were not given up");
    // Both still see all that is theirs, and what was given up left nothing.
    for number in 0..6 {
        once(&connections, &world, u64::from(1 + number % 2), number).await;
    }
    assert_eq!(connections.totals(), (1, 0));
    assert_eq!(world.count("true").await, 2);
}

#[tokio::test]
async fn a_write_that_is_given_up_leaves_nothing() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    let conn = connections.get(&target).await.expect("a connection");
    let mut open = begin(conn, Mode::Write, right(1)).await.expect("begun");
    open.run(vec![insert(1, "one")]).await.expect("inserted");
    drop(open);
    let conn = connections.get(&target).await.expect("after the other was rolled back");
    let mut open = begin(conn, Mode::Write, right(1)).await.expect("begun");
    let slow = open.run(vec![insert(1, "two"), sql("SELECT 1 FROM pg_sleep(60)")]);
    assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err());
    drop(open);
    // Which takes a request to cancel, and with it the connection.
    write(&connections, &target, 1, "three").await.expect("committed");
    assert_eq!(world.count("value <> 'three'").await, 0);
    assert_eq!(world.open_on_server().await, 1);
}

#[tokio::test]
async fn without_its_beginning_a_transaction_is_refused_everything() {
    let world = World::new(1).await;
    let target = world.target(0);
    let clear = world.connections(1);
    write(&clear, &target, 1, "one").await.expect("committed");
    let proxy = Proxy::start(Does::Replace(b"BEGIN ISOLATION", b"BEGIX ISOLATION")).await;
    let connections = world.connections_at(&proxy.address(), 1, BOUNDS);
    let own = super::super::statement::Right { tenant: 1, role: Some(world.role("own")) };

    let conn = connections.get(&target).await.expect("a connection");
    let failure = read(conn, LIMITS, right(1), vec![select()]).await.expect_err("no transaction");
    assert!(!failure.is_lost(), "{failure:?}");
    assert_eq!(failure.error().kind(), tenantry_types::ErrorKind::Internal);
    assert!(failure.error().to_string().contains("42601"), "the first error: {failure:?}");
    for (right, step) in [
        (right(1), insert(1, "two")),
        (own, sql("INSERT INTO own.rows VALUES ('three') RETURNING 1")),
    ] {
        let conn = connections.get(&target).await.expect("a connection");
        let steps = vec![step];
        let begun = Transaction::begin(conn, Mode::Write, LIMITS, right, steps).await;
        drop(begun.map(drop).expect_err("no transaction"));
    }
    proxy.does(Does::Pass);
    let conn = connections.get(&target).await.expect("the same connection");
    let own = super::super::statement::Right { tenant: 1, role: Some(world.role("own")) };
    let steps = vec![sql("SELECT count(*) FROM own.rows")];
    let answers = read(conn, LIMITS, own, steps).await.expect("read");
    assert_eq!(answers[0][0].get::<_, i64>(0), 0);
    assert_eq!(world.count("true").await, 1);
}

#[tokio::test]
async fn a_right_that_cannot_be_entered_gives_nothing() {
    let world = World::new(1).await;
    let target = world.target(0);
    let proxy = Proxy::start(Does::Replace(b"set_config('role'", b"set_konfig('role'")).await;
    let connections = world.connections_at(&proxy.address(), 1, BOUNDS);
    let conn = connections.get(&target).await.expect("a connection");
    let begun =
        Transaction::begin(conn, Mode::Write, LIMITS, right(1), vec![insert(1, "one")]).await;
    let failure = begun.map(drop).expect_err("not entered");
    assert!(failure.error().to_string().contains("42883"), "{failure:?}");
    assert_eq!(world.count("true").await, 0);
}

#[tokio::test]
async fn a_commit_that_is_given_up_is_still_whole() {
    let world = World::new(1).await;
    let (connections, target) = (world.connections(1), world.target(0));
    for number in 0..20 {
        let conn = connections.get(&target).await.expect("a connection");
        let open = begin(conn, Mode::Write, right(1)).await.expect("begun");
        let (a, b) = (format!("a{number}"), format!("b{number}"));
        let commit = open.commit(vec![insert(1, &a), insert(1, &b)], 1);
        let given_up: Option<Result<_, CommitError>> =
            Polls { future: Box::pin(commit), left: 1 + number % 3 }.await;
        drop(given_up);
        sleep(Duration::from_millis(2)).await;
        let count = world.count(&format!("value IN ('{a}', '{b}')")).await;
        assert!(count == 0 || count == 2, "{count} of 2");
    }
}
