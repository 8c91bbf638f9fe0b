//! The mover loses its connections at each step, or is so late that another node has taken over: the
//! move goes on, nothing that was acknowledged is lost, and there is one living copy.

use super::{
    Ground, MovePhase, Target,
    child::{Fault, Mover, run, write_on},
    steps::{RECORDS, STEPS, compare, forget},
};
use crate::stand::{Stand, tenant};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::ErrorKind;

/// Of the rows that say where a tenant lives that is not in the shared tables.
const PLACE_FAMILY: u8 = 5;

/// Steps of the mover. What comes before is the request's.
fn steps() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().filter(|step| !["mark", "marked"].contains(step))
}

/// Every second one, since they take seconds: the tests divide them. All of them, if the variable says
/// so.
fn some_steps(first: usize) -> impl Iterator<Item = &'static str> {
    let (skipped, every) = match std::env::var_os("TENANTRY_TEST_ALL_STEPS") {
        Some(_) => (0, 1),
        None => (first % 2, 2),
    };
    steps().skip(skipped).step_by(every)
}

/// A tenant with some records, in a store that is closed.
async fn prepare(ground: &Ground, from: Target) -> TenantId {
    let stand = ground.open().await;
    let scope = stand.create_at("a", from).await.expect("tenant");
    super::fill(&stand, &scope, RECORDS).await;
    stand.close();
    scope.tenant()
}

/// Sessions end at steps, and the same node goes on.
async fn at_steps(first: usize, ground: Ground, n: usize, fault: Fault) {
    let (from, to) = ground.way(n);
    for step in some_steps(first) {
        let id = prepare(&ground, from).await;
        let said = run(&ground, &format!("{step}:1"), (fault, to), false);
        assert!(said.lines().any(|line| line == format!("end at {step}")), "{step}: {said}");
        assert!(said.lines().any(|line| line == "over"), "{step}: {said}");
        assert_eq!(compare(&ground, &said, id, from, RECORDS).await, MovePhase::Done, "{step}");
        forget(&ground).await;
    }
}

/// Waits until a move is done. While a node that hangs holds what is locked, nobody is told anything.
async fn until_moved(stand: &Stand, step: &str) {
    let begun = Instant::now();
    loop {
        match stand.store.move_status(&stand.operator, &tenant("a")).await {
            Ok(Some(status)) if status.phase.is_over() => {
                assert_eq!(status.phase, MovePhase::Done, "{step}: {status:?}");
                return;
            }
            Ok(_) => {}
            Err(why) => assert_eq!(why.kind(), ErrorKind::Unavailable, "{step}: {why:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{step}: it is not over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// At a step the mover is held up until another node has moved the tenant.
async fn late(step: &'static str, n: usize, fault: Fault) {
    let ground = Ground::postgres().await;
    let (from, to) = ground.way(n);
    let id = prepare(&ground, from).await;
    let mut mover = Mover::start(&ground, &format!("{step}:1"), (fault, to), false);
    let begun = Instant::now();
    while !mover.has_said("end at ") {
        assert!(!mover.has_ended() && begun.elapsed() < Duration::from_secs(60), "{step}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let other = Arc::new(ground.open().await);
    let (said, is_over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
    let heard = Arc::clone(&said);
    let say = move |line: &str| heard.lock().unwrap().push(line.to_owned());
    let writer = tokio::spawn(write_on(Arc::clone(&other), "v", say, Arc::clone(&is_over)));
    until_moved(&other, step).await;
    mover.let_go(fault);
    let of_mover = tokio::task::spawn_blocking(move || mover.end()).await.expect("its end");
    assert!(of_mover.lines().any(|line| line == "over"), "{step}: {of_mover}");
    is_over.store(true, Ordering::SeqCst);
    writer.await.expect("the writer");
    Arc::<Stand>::into_inner(other).expect("the writer is done").close();
    let said = format!("{of_mover}\n{}", said.lock().unwrap().join("\n"));
    assert_eq!(compare(&ground, &said, id, from, RECORDS).await, MovePhase::Done, "{step}");
}

/// So many at once: they mostly wait.
const AT_ONCE: usize = 3;

async fn late_at(steps: impl Iterator<Item = &'static str>, n: usize, fault: Fault) {
    let mut running = tokio::task::JoinSet::new();
    for step in steps {
        if running.len() >= AT_ONCE {
            running.join_next().await.expect("one").unwrap_or_else(|why| panic!("{why}"));
        }
        running.spawn(late(step, n, fault));
    }
    while let Some(one) = running.join_next().await {
        one.unwrap_or_else(|why| panic!("{why}"));
    }
}

macro_rules! cut {
    ($($name:ident $first:literal $ground:ident $n:literal $fault:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                at_steps($first, Ground::$ground().await, $n, Fault::$fault).await;
            }
        )*
    };
}

cut! {
    cut_off_on_the_way_to_a_schema 0 postgres 0 Lost
    cut_off_on_the_way_to_a_database 1 postgres 1 Lost
    cut_off_on_the_way_home 2 postgres 2 Lost
    cut_off_on_the_way_from_files 3 across 0 Lost
    cut_off_on_the_way_to_files 4 across 2 Lost
    cut_off_from_leading 5 postgres 0 Leader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_on_the_way_to_a_schema_and_cut_off() {
    late_at(some_steps(0), 0, Fault::Held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_on_the_way_home_and_cut_off() {
    late_at(some_steps(1), 2, Fault::Held).await;
}

/// Whoever takes over meets a move that is decided between its looking at it and its signing it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_that_was_left_stays_closed_when_another_node_takes_over_late_on_it() {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is on PostgreSQL") };
    let (from, to) = ground.way(0);
    let id = prepare(&ground, from).await;
    let mut mover = Mover::start(&ground, "flip:1", (Fault::Slow, to), false);
    while !mover.has_said("end at ") {
        assert!(!mover.has_ended());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = ground.open().await;
    let session = site.session().await;
    // Counters in the shared tables that are not closed, while the root says that it lives elsewhere.
    let sql = format!(
        "SELECT count(*) FROM tenantry.catalog h WHERE h.tenant = {id} AND h.family = 17 \
         AND get_byte(h.row, 0) <> 255 AND EXISTS (SELECT FROM tenantry.catalog p \
         WHERE p.tenant = 0 AND p.family = {PLACE_FAMILY} AND p.key = int8send({id}))"
    );
    let begun = Instant::now();
    loop {
        let open: i64 = session.query_one(&sql, &[]).await.expect("a count").get(0);
        assert_eq!(open, 0, "the old place is open after {:?}", begun.elapsed());
        let status = other.store.move_status(&other.operator, &tenant("a")).await;
        if status.is_ok_and(|status| status.is_some_and(|one| one.phase.is_over())) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not over");
    }
    other.close();
    let said = tokio::task::spawn_blocking(move || mover.end()).await.expect("its end");
    assert_eq!(compare(&ground, &said, id, from, RECORDS).await, MovePhase::Done, "{said}");
}

/// The server ends the session of one that says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_on_the_way_to_a_database_and_stopped() {
    let some = ["held", "copied", "closed", "replayed", "flip", "flipped", "left"];
    late_at(some.into_iter(), 1, Fault::Stopped).await;
}
