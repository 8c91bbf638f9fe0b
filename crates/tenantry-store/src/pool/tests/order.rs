//! The gate in simulated time: every cost is given, nothing is measured.

use super::{
    super::{
        gate::Full,
        ring::{Ring, Waiter},
    },
    *,
};
use std::collections::HashMap;

/// A row of equal pieces of work: the next one is asked for when one is done.
#[derive(Debug, Clone, Copy)]
struct Job {
    who: Who,
    /// Nanoseconds of CPU time a piece.
    cost: u64,
    /// Nanoseconds a place is held a piece.
    held: u64,
    /// Nanoseconds between the end of a piece and asking for the next. None: only one piece.
    rest: Option<u64>,
}

impl Job {
    fn of(number: u64, weight: u32, cost: u64) -> Self {
        let who = Who { tenant: tenant(number), weight, class: Class::Request };
        Self { who, cost, held: cost, rest: Some(0) }
    }

    fn background(mut self) -> Self {
        self.who.class = Class::Background;
        self
    }
}

struct Simulation {
    gate: Gate<usize>,
    now: u64,
    jobs: Vec<Job>,
    asked: Vec<u64>,
    /// What happens when, and to which job: true is the end of a piece, false asking for one.
    agenda: std::collections::BTreeSet<(u64, bool, usize)>,
    used: HashMap<TenantId, u64>,
    longest_wait: HashMap<TenantId, u64>,
    background_most: usize,
    background_now: usize,
}

impl Simulation {
    fn new(places: usize) -> Self {
        Self {
            gate: Gate::new(&config(places)),
            now: 0,
            jobs: Vec::new(),
            asked: Vec::new(),
            agenda: std::collections::BTreeSet::new(),
            used: HashMap::new(),
            longest_wait: HashMap::new(),
            background_most: 0,
            background_now: 0,
        }
    }

    fn at(&mut self, when: u64, job: Job) -> &mut Self {
        self.jobs.push(job);
        self.asked.push(0);
        self.agenda.insert((when, false, self.jobs.len() - 1));
        self
    }

    fn add(&mut self, count: usize, job: Job) -> &mut Self {
        for _ in 0..count {
            self.at(self.now, job);
        }
        self
    }

    fn run_until(&mut self, end: u64) -> &mut Self {
        while self.agenda.first().is_some_and(|(when, ..)| *when <= end) {
            let (when, is_end, index) = self.agenda.pop_first().unwrap();
            self.now = when;
            let job = self.jobs[index];
            if is_end {
                self.gate.charge(job.who, Used { cpu: job.cost, cost: job.cost });
                *self.used.entry(job.who.tenant).or_default() += job.cost;
                self.background_now -= usize::from(job.who.class == Class::Background);
                self.gate.free(job.who.class);
                if job.rest == Some(0) {
                    self.asked[index] = when;
                    self.gate.queue(job.who, index);
                } else if let Some(rest) = job.rest {
                    self.agenda.insert((when + rest, false, index));
                }
                while let Some((_, next)) = self.gate.next() {
                    self.start(next);
                }
            } else {
                self.asked[index] = when;
                if self.gate.take(job.who.class) {
                    self.start(index);
                } else {
                    self.gate.admit(job.who, index).unwrap();
                }
            }
        }
        self.now = end;
        self
    }

    fn start(&mut self, index: usize) {
        let job = self.jobs[index];
        let wait = self.now - self.asked[index];
        let longest = self.longest_wait.entry(job.who.tenant).or_default();
        *longest = wait.max(*longest);
        self.background_now += usize::from(job.who.class == Class::Background);
        self.background_most = self.background_most.max(self.background_now);
        self.agenda.insert((self.now + job.held, true, index));
    }

    /// The part of all CPU time that a tenant had.
    fn share(&self, number: u64) -> f64 {
        let all: u64 = self.used.values().sum();
        self.used.get(&tenant(number)).copied().unwrap_or_default() as f64 / all as f64
    }
}

const SECOND: u64 = 1_000_000_000;

#[track_caller]
fn assert_near(value: f64, goal: f64, within: f64) {
    assert!((value - goal).abs() <= within, "{value:.4} is not within {within} of {goal}");
}

#[test]
fn a_crowd_gets_no_more_than_one() {
    for places in [1, 2, 4] {
        for cost in [20_000, SLICE, 7 * SLICE] {
            let mut s = Simulation::new(places);
            s.add(100, Job::of(1, 100, cost)).add(places, Job::of(2, 100, cost));
            s.run_until(SECOND);
            assert_near(s.share(2), 0.5, 0.01);
        }
    }
}

#[test]
fn time_is_shared_and_not_turns() {
    for places in [1, 2, 4] {
        let mut s = Simulation::new(places);
        s.add(50, Job::of(1, 100, 30_000)).add(50, Job::of(2, 100, 20 * SLICE));
        s.run_until(4 * SECOND);
        assert_near(s.share(1), 0.5, 0.02);
    }
}

#[test]
fn weights_are_shares() {
    for places in [1, 2, 4] {
        for cost in [20_000, SLICE, 3 * SLICE] {
            let mut s = Simulation::new(places);
            s.add(100, Job::of(1, 100, cost)).add(100, Job::of(2, 300, cost));
            s.run_until(SECOND);
            assert_near(s.share(1), 0.25, 0.01);
        }
        let mut s = Simulation::new(places);
        s.add(10, Job::of(1, 1, SLICE)).add(10, Job::of(2, 99, SLICE));
        s.add(10, Job::of(3, 9_900, SLICE));
        s.run_until(40 * SECOND);
        assert_near(s.share(1) * 10_000.0, 1.0, 0.2);
        assert_near(s.share(2) * 10_000.0, 99.0, 3.0);
    }
}

#[test]
fn three_that_come_and_go_are_equal_while_they_are_there() {
    let mut s = Simulation::new(1);
    s.add(30, Job::of(1, 100, SLICE)).run_until(SECOND);
    assert_near(s.share(1), 1.0, 0.0);
    // What was used while nobody else was there is not held against it.
    s.used.clear();
    s.add(30, Job::of(2, 100, SLICE)).run_until(2 * SECOND);
    assert_near(s.share(1), 0.5, 0.01);
}

#[test]
fn a_quiet_tenant_waits_for_one_slice_of_each_other() {
    for places in [1, 2, 4] {
        for others in [1_u64, 3, 20] {
            for heavy in [false, true] {
                let mut s = Simulation::new(places);
                for other in 1..=others {
                    let weight = if heavy { 10_000 / u32::try_from(other).unwrap() } else { 100 };
                    s.add(50, Job::of(other, weight, SLICE));
                }
                // Less than its share even beside the heaviest.
                let quiet = Job { rest: Some(19_300_001), ..Job::of(99, 100, 20_000) };
                s.at(1_234_567, quiet).run_until(2 * SECOND);
                // A heavy tenant may be in its slice, and have another one before the newcomer.
                let most = (others + u64::from(heavy)) * SLICE;
                let waited = s.longest_wait[&tenant(99)];
                assert!(waited <= most, "{waited} of {most}: {places} {others} {heavy}");
                assert!(waited > 0);
            }
        }
    }
}

#[test]
fn a_tenant_in_debt_is_passed_over_until_it_is_repaid() {
    let mut s = Simulation::new(1);
    // One piece of 40 ms while others wait.
    s.at(0, Job { rest: Some(0), ..Job::of(1, 100, 80 * SLICE) });
    s.at(1, Job::of(2, 100, SLICE)).run_until(80 * SLICE);
    assert_eq!(s.used[&tenant(1)], 80 * SLICE);
    s.run_until(155 * SLICE);
    assert_eq!(s.used[&tenant(1)], 80 * SLICE, "came again before its debt was repaid");
    assert_eq!(s.used[&tenant(2)], 75 * SLICE);
    s.run_until(245 * SLICE);
    assert_eq!(s.used[&tenant(1)], 160 * SLICE);
}

#[test]
fn debt_outlives_an_empty_queue_and_credit_does_not() {
    let mut s = Simulation::new(1);
    // Leaves and returns after each piece of 10 slices, against one that stays.
    s.at(0, Job { rest: Some(1_000), ..Job::of(1, 100, 10 * SLICE) });
    s.add(2, Job::of(2, 100, SLICE)).run_until(5 * SECOND);
    assert_near(s.share(1), 0.5, 0.01);

    // Away for long, then a crowd: it gets half from then on, not what it missed.
    let mut s = Simulation::new(1);
    s.at(0, Job { rest: None, ..Job::of(1, 100, SLICE) });
    s.add(20, Job::of(2, 100, SLICE)).run_until(SECOND);
    s.used.clear();
    s.add(20, Job::of(1, 100, SLICE)).run_until(SECOND + 40 * SLICE);
    assert_near(s.share(1), 0.5, 0.05);
}

#[test]
fn coming_back_brings_no_second_quantum() {
    for others in [1, 20] {
        let mut s = Simulation::new(1);
        for other in 1..=others {
            s.add(5, Job::of(other, 100, SLICE));
        }
        // Gone before its quantum is used up, and back at once, as if it were new.
        s.at(0, Job { rest: Some(1), ..Job::of(99, 100, SLICE * 9 / 10) });
        s.run_until(3 * SECOND);
        let fair = 1.0 / (others + 1) as f64;
        assert!(s.share(99) <= 1.05 * fair, "{} of {fair}", s.share(99));
    }
}

#[test]
fn what_is_left_of_a_quantum_is_kept_until_the_round_ends() {
    let slice = i64::try_from(SLICE).unwrap();
    let mut ring = Ring::new(slice);
    let mut number = 0;
    let mut push = |ring: &mut Ring<()>, of: u64| {
        number += 1;
        ring.push(tenant(of), Waiter { number, weight: 100, wake: () });
    };
    let pop = |ring: &mut Ring<()>| ring.pop().unwrap().0.get();
    // The first waits for the next round.
    push(&mut ring, 1);
    ring.charge(tenant(1), 100, slice);
    // The second leaves with a tenth of its quantum, and comes back after another one.
    push(&mut ring, 2);
    assert_eq!(pop(&mut ring), 2);
    ring.charge(tenant(2), 100, slice * 9 / 10);
    push(&mut ring, 3);
    assert_eq!(pop(&mut ring), 3);
    push(&mut ring, 2);
    assert_eq!(pop(&mut ring), 2);
    ring.charge(tenant(2), 100, slice * 9 / 10);
    push(&mut ring, 2);
    assert_eq!(pop(&mut ring), 1, "it had a second quantum in one round");
    assert_eq!(pop(&mut ring), 2);
    assert_eq!(ring.tenants(), 0);
}

#[test]
fn an_endless_row_of_newcomers_starves_nobody() {
    let mut s = Simulation::new(1);
    s.add(5, Job::of(1, 100, SLICE));
    // Half as much again as can be done, each by a tenant never seen before.
    for number in 0..3_000 {
        s.at(number * SLICE * 2 / 3, Job { rest: None, ..Job::of(1_000 + number, 100, SLICE) });
    }
    s.run_until(1_500 * SLICE);
    // Rounds grow with the row by half each time: eight or so, and a turn in each.
    assert!(s.used[&tenant(1)] >= 6 * SLICE, "{:?}", s.used.get(&tenant(1)));
}

/// A thread that only waits: real time passes, its own clock stands still.
struct Idle(Hand);

impl Meter for Idle {
    fn wall(&self) -> u64 {
        self.0.wall()
    }

    fn cpu(&self) -> u64 {
        7
    }
}

#[test]
fn work_that_waits_on_its_place_pays_for_it() {
    let hand = Hand::default();
    let (works, waits) = (hand.now(), Idle(hand.clone()).now());
    hand.spend(8_000);
    let used = works.used_until(hand.now());
    assert_eq!((used.cpu, used.cost), (8_000, 8_000));
    let used = waits.used_until(Idle(hand).now());
    assert_eq!((used.cpu, used.cost), (0, 1_000));
}

#[test]
fn background_work_yields_and_is_not_starved() {
    for places in [1, 2, 4] {
        let mut s = Simulation::new(places);
        s.add(50, Job::of(1, 100, SLICE)).add(50, Job::of(2, 100, SLICE));
        s.add(20, Job::of(3, 100, SLICE).background());
        s.run_until(5 * SECOND);
        assert_near(s.share(3), 0.05, 0.005);
        assert_near(s.share(1), 0.475, 0.01);
        assert!(s.longest_wait[&tenant(3)] < 20 * 25 * SLICE);
    }
}

#[test]
fn background_work_has_what_is_left_but_one_place() {
    for (places, most) in [(1, 1), (2, 1), (4, 3)] {
        let mut s = Simulation::new(places);
        s.add(20, Job::of(3, 100, SLICE).background()).run_until(SECOND);
        assert_eq!(s.background_most, most);
        let full = SECOND * u64::try_from(most).unwrap();
        assert!(s.used[&tenant(3)] >= full - 20 * SLICE);
        // A request that comes now waits at most until a slice ends; with two places, not at all.
        s.at(SECOND + 1_000, Job { rest: None, ..Job::of(1, 100, SLICE) });
        s.run_until(2 * SECOND);
        let waited = s.longest_wait[&tenant(1)];
        assert!(if places == 1 { waited <= SLICE } else { waited == 0 }, "{waited}");
    }
}

#[test]
fn background_work_of_two_tenants_is_fair_too() {
    let mut s = Simulation::new(2);
    s.add(50, Job::of(1, 100, SLICE).background()).add(2, Job::of(2, 300, SLICE).background());
    s.run_until(2 * SECOND);
    assert_near(s.share(1), 0.25, 0.01);
}

#[test]
fn requests_do_not_pay_for_the_same_tenants_background_work() {
    let mut s = Simulation::new(2);
    s.add(10, Job::of(1, 100, SLICE).background());
    s.add(10, Job::of(1, 100, SLICE)).add(10, Job::of(2, 100, SLICE));
    s.run_until(5 * SECOND);
    assert_near(s.share(2), 0.475, 0.01);
}

#[test]
fn what_is_done_is_forgotten() {
    let mut s = Simulation::new(2);
    for number in 0..5_000 {
        let job = Job { rest: None, ..Job::of(number, 100, SLICE) };
        s.at(number, if number % 3 == 0 { job.background() } else { job });
    }
    s.run_until(SECOND / 10);
    assert!(s.gate.tenants() > 1_000);
    s.run_until(10 * SECOND);
    assert_eq!(s.gate.tenants(), 0);
    assert_eq!(s.used.len(), 5_000);
    let known = (0..5_000).filter(|number| s.gate.charged(tenant(*number)).is_some()).count();
    assert_eq!(known, 4_096);
}

#[test]
fn the_remembered_are_few_while_others_always_wait() {
    let mut s = Simulation::new(1);
    s.add(5, Job::of(1, 100, SLICE));
    for number in 0..2_000 {
        s.at(number * 2 * SLICE, Job { rest: None, ..Job::of(1_000 + number, 100, 10_000) });
    }
    for step in 1..2_000 {
        s.run_until(step * 2 * SLICE);
        assert!(s.gate.tenants() < 20, "{}", s.gate.tenants());
    }
}

#[test]
fn a_full_house_has_room_for_those_who_did_not_fill_it() {
    let who = |number| Who { tenant: tenant(number), weight: 100, class: Class::Request };
    let mut gate = Gate::new(&PoolConfig { places: 1, queue_max: 3, total_max: 5, ..config(1) });
    assert!(gate.take(Class::Request));
    let mut admit = |number| gate.admit(who(number), ()).is_ok();
    assert_eq!([1, 1, 1, 1].map(&mut admit), [true, true, true, false]);
    assert_eq!([2, 2, 2].map(&mut admit), [true, true, false]);
    assert_eq!([3, 4, 5, 6, 7, 8].map(&mut admit), [true, true, true, true, true, false]);
    assert_eq!([3, 8].map(&mut admit), [false, false]);
    assert_eq!(gate.totals().refused, 5);
    gate.free(Class::Request);
    assert!(gate.next().is_some());
    assert!(matches!(gate.admit(who(1), ()), Err(Full)));
    assert!(gate.admit(who(9), ()).is_ok());
}
