//! Turns on many threads, with the system's clocks.

use super::*;
use std::{hint::black_box, sync::atomic::AtomicBool, thread, time::Instant};

/// Computes for so many microseconds of this thread's CPU time.
fn burn(us: u64) {
    let meter = ThreadMeter::new();
    let start = meter.cpu();
    while meter.cpu() - start < us * 1_000 {
        black_box((0..200_u64).fold(us, |sum, x| black_box(sum.wrapping_mul(31) ^ x)));
    }
}

#[test]
fn a_thread_is_charged_what_it_computes_and_not_what_it_sleeps() {
    let meter = ThreadMeter::new();
    let start = meter.now();
    burn(3_000);
    let used = start.used_until(meter.now());
    assert!((3_000_000..10_000_000).contains(&used.cpu), "{used:?}");
    let start = meter.now();
    thread::sleep(Duration::from_millis(40));
    let used = start.used_until(meter.now());
    assert!(used.cpu < 4_000_000 && used.cost >= 5_000_000, "{used:?}");
}

#[test]
fn work_that_moves_to_another_thread_is_charged_where_it_runs() {
    let pool = Pool::new(config(2));
    let mut turn = pool.try_turn(tenant(1), 100, Class::Request).unwrap();
    burn(2_000);
    turn.settle();
    // Another thread's clock is far ahead of this one's.
    thread::spawn(move || {
        burn(30_000);
        turn.begin();
        burn(1_000);
        assert!((3_000..13_000).contains(&turn.cpu().as_micros()), "{:?}", turn.cpu());
        turn.pause();
    })
    .join()
    .unwrap();
    let charged = pool.charged(tenant(1)) / 1_000;
    assert!((3_000..13_000).contains(&charged), "{charged}");

    // Whoever forgets to say so is charged real time, never another clock's difference.
    let turn = pool.try_turn(tenant(2), 100, Class::Request).unwrap();
    let start = Instant::now();
    thread::spawn(move || {
        burn(5_000);
        drop(turn);
    })
    .join()
    .unwrap();
    let charged = Duration::from_nanos(pool.charged(tenant(2)));
    assert!(charged <= start.elapsed() && charged >= Duration::from_millis(5), "{charged:?}");
    assert_idle(&pool);
}

#[test]
fn threads_that_pause_share_by_the_time_they_compute() {
    let pool = Pool::new(config(1));
    let is_over = Arc::new(AtomicBool::new(false));
    let held = pool.try_turn(tenant(9), 100, Class::Request).unwrap();
    let threads: Vec<_> = [1, 1, 1, 1, 1, 1, 2]
        .map(|number| {
            let (pool, is_over) = (pool.clone(), Arc::clone(&is_over));
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let ask = pool.turn(tenant(number), 100, Class::Request);
                let mut turn = runtime.block_on(ask).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    burn(if number == 1 { 900 } else { 300 });
                    turn.pause();
                }
            })
        })
        .into_iter()
        .collect();
    while pool.totals().waiting < threads.len() {
        thread::yield_now();
    }
    drop(held);
    while pool.totals().cpu_ns < 300_000_000 {
        thread::sleep(Duration::from_millis(1));
    }
    is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let (crowd, one) = (pool.charged(tenant(1)), pool.charged(tenant(2)));
    let share = one as f64 / (crowd + one) as f64;
    assert!((0.45..0.55).contains(&share), "{share}");
    assert_idle(&pool);
}

/// A stream of numbers, the same for the same seed.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

async fn visitor(pool: Pool, mut seed: u64, busy: Arc<AtomicU64>) {
    let places = pool.0.gate.lock().places() as u64;
    for _ in 0..20 {
        let number = tenant(draw(&mut seed) % 5);
        let class =
            if draw(&mut seed).is_multiple_of(4) { Class::Background } else { Class::Request };
        let patience = Duration::from_micros(draw(&mut seed) % 3_000);
        let ask = pool.turn(number, 100, class);
        let Ok(turn) = tokio::time::timeout(patience, ask).await else { continue };
        let mut turn = turn.unwrap();
        let enter = |busy: &AtomicU64| {
            assert!(busy.fetch_add(1, Ordering::SeqCst) < places, "more turns than places");
        };
        enter(&busy);
        burn(draw(&mut seed) % 300);
        busy.fetch_sub(1, Ordering::SeqCst);
        if draw(&mut seed).is_multiple_of(3) {
            turn.settle();
            let busy = Arc::clone(&busy);
            let work = move || {
                turn.begin();
                turn.pause();
                assert!(busy.fetch_add(1, Ordering::SeqCst) < places, "more turns than places");
                burn(300);
                busy.fetch_sub(1, Ordering::SeqCst);
                turn.pause();
            };
            tokio::task::spawn_blocking(work).await.unwrap();
        } else if tokio::time::timeout(patience, turn.pass()).await.is_ok() {
            enter(&busy);
            burn(draw(&mut seed) % 300);
            busy.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_when_many_come_and_go() {
    for places in [1, 3] {
        let pool = Pool::new(config(places));
        let busy = Arc::new(AtomicU64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for seed in 0..64 {
            tasks.spawn(visitor(pool.clone(), seed, Arc::clone(&busy)));
        }
        tasks.join_all().await;
        assert!(pool.totals().waits > 0);
        assert_idle(&pool);
    }
}

#[test]
fn a_thread_waits_no_longer_than_it_is_patient() {
    let pool = Pool::new(config(1));
    let who = (tenant(1), 100, Class::Background);
    let soon = Duration::from_millis(30);
    let mut mine = pool.turn_within(who, soon).unwrap().unwrap();
    let (asked, begun) = (pool.clone(), Instant::now());
    let other = thread::spawn(move || asked.turn_within(who, soon).unwrap().is_none());
    assert!(other.join().unwrap() && begun.elapsed() >= soon);
    // Whoever gives its place up for somebody who keeps it goes on without one.
    let asked = pool.clone();
    let (holds, held) = std::sync::mpsc::channel();
    let (lets_go, goes) = std::sync::mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let turn = asked.turn_within(who, Duration::from_secs(20)).unwrap().unwrap();
        holds.send(()).unwrap();
        goes.recv().unwrap();
        drop(turn);
    });
    while pool.totals().waiting == 0 {
        thread::yield_now();
    }
    burn(2_000);
    assert!(!mine.pause_within(soon));
    held.recv().unwrap();
    assert!(!mine.pause_within(soon));
    lets_go.send(()).unwrap();
    other.join().unwrap();
    // And has one again when it asks again.
    assert!(mine.pause_within(soon));
    drop(mine);
    assert_idle(&pool);
}
