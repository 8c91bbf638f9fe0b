//! What must hold of recency and shares, against models that look at everything each time.

mod beside;
mod held;
mod loads;

use super::{
    recency::Recency,
    shares::{IDLE_AFTER, Place, Shares},
};
use crate::CollectionInfo;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tenantry_auth::TenantId;
use tenantry_types::{
    CollectionId, CollectionName, CollectionNumber, DatabaseNumber, Metric, Timestamp,
    VectorStorage,
};

fn place(tenant: u64, collection: u32) -> Place {
    (TenantId::new(tenant), CollectionNumber(collection))
}

/// A collection whose records have unnamed vectors.
fn collection(number: u32) -> CollectionInfo {
    CollectionInfo {
        database: DatabaseNumber(1),
        number: CollectionNumber(number),
        id: CollectionId([0; 16]),
        name: CollectionName::parse("c").unwrap(),
        metric: Metric::Cosine,
        dimension: None,
        storage: VectorStorage::Full,
        vectors: BTreeMap::new(),
        last_vector: 0,
        metadata: None,
        attributes: BTreeMap::new(),
        created_at: Timestamp(0),
    }
}

/// Gives way until the budget is kept; what gave way, in order.
fn shrink(shares: &mut Shares<Place>, now: u64) -> Vec<Place> {
    std::iter::from_fn(|| shares.evict(0, now)).collect()
}

/// Loads a partition of weight 100 as the store does.
fn load(shares: &mut Shares<Place>, at: Place, bytes: usize, now: u64) -> Vec<Place> {
    shares.reserve(at.0, 100, bytes);
    let gone = shrink(shares, now);
    shares.release(at.0, bytes);
    shares.insert(at, 100, bytes, at, now);
    gone
}

#[test]
fn who_goes_through_many_collections_drops_its_own() {
    let mut shares = Shares::new(1_000);
    for tenant in 1..=9 {
        load(&mut shares, place(tenant, 1), 50, 0);
    }
    for collection in 0..1_000 {
        for gone in load(&mut shares, place(77, collection), 90, 0) {
            assert_eq!(gone.0, TenantId::new(77));
        }
        assert!(shares.held() <= 1_000);
    }
    assert_eq!(shares.len(), 9 + 6);
}

#[test]
fn what_was_used_longest_ago_gives_way_among_equals() {
    let mut shares = Shares::new(1_000);
    for tenant in 1..=10 {
        load(&mut shares, place(tenant, 1), 100, 0);
    }
    assert!(shares.get(&place(1, 1), 100, 0).is_some());
    assert_eq!(load(&mut shares, place(11, 1), 100, 0), [place(2, 1)]);
    assert_eq!(load(&mut shares, place(12, 1), 100, 0), [place(3, 1)]);
    assert!(shares.peek(&place(1, 1)).is_some());
}

#[test]
fn a_weight_is_a_share() {
    let mut shares = Shares::new(1_000);
    for (tenant, weight) in [(1, 300), (2, 100)] {
        for collection in 0..5 {
            shares.insert(place(tenant, collection), weight, 100, place(tenant, collection), 0);
        }
    }
    // Of 1,000 bytes 750 are the first one's, which has 500, and 250 the other's, which has 500.
    shares.reserve(TenantId::new(1), 300, 200);
    assert_eq!(shrink(&mut shares, 0), [place(2, 0), place(2, 1)]);
    // A plan that is changed counts from the next use.
    assert!(shares.get(&place(1, 4), 10, 0).is_some());
    shares.reserve(TenantId::new(2), 100, 100);
    assert_eq!(shrink(&mut shares, 0), [place(1, 0)]);
}

#[test]
fn a_share_is_for_those_who_use_it() {
    let mut shares = Shares::new(1_000);
    load(&mut shares, place(1, 1), 50, 0);
    load(&mut shares, place(2, 1), 50, 0);
    load(&mut shares, place(3, 1), 850, IDLE_AFTER - 1);
    assert!(shares.get(&place(1, 1), 100, IDLE_AFTER - 1).is_some());
    // Nobody is idle yet: only the third is above its share.
    assert_eq!(load(&mut shares, place(3, 2), 100, IDLE_AFTER - 1), [place(3, 1)]);
    load(&mut shares, place(3, 3), 750, IDLE_AFTER - 1);
    assert_eq!(load(&mut shares, place(3, 4), 150, IDLE_AFTER), [place(2, 1), place(3, 2)]);
}

/// One that is larger than its tenant's share gets room, and is the first to give it back.
#[test]
fn a_large_partition_is_loaded_and_leaves_first() {
    let mut shares = Shares::new(1_000);
    for tenant in 1..=10 {
        load(&mut shares, place(tenant, 1), 100, 0);
    }
    let gone = load(&mut shares, place(99, 1), 700, 0);
    assert_eq!(gone, (1..=7).map(|tenant| place(tenant, 1)).collect::<Vec<_>>());
    assert_eq!(load(&mut shares, place(1, 1), 100, 0), [place(99, 1)]);
}

#[test]
fn what_is_larger_than_the_budget_leaves_with_all_others() {
    let mut shares = Shares::new(1_000);
    load(&mut shares, place(1, 1), 100, 0);
    load(&mut shares, place(2, 1), 100, 0);
    shares.resize(&place(2, 1), 1_001);
    assert_eq!(shrink(&mut shares, 0), [place(2, 1)]);
    shares.resize(&place(1, 1), 5_000);
    assert_eq!(shrink(&mut shares, 0), [place(1, 1)]);
    assert_eq!((shares.held(), shares.len()), (0, 0));
    // What is in use besides counts, and everything gives way to it at most.
    load(&mut shares, place(1, 1), 100, 0);
    assert!(shares.evict(900, 0).is_none());
    assert_eq!(shares.evict(901, 0), Some(place(1, 1)));
    assert_eq!(shares.evict(usize::MAX, 0), None);
}

#[test]
fn forgetting_keeps_reservations() {
    let mut shares = Shares::new(1_000);
    load(&mut shares, place(1, 1), 100, 0);
    load(&mut shares, place(1, 2), 100, 0);
    load(&mut shares, place(2, 1), 100, 0);
    shares.reserve(TenantId::new(1), 100, 50);
    let mut gone = shares.remove_tenant(TenantId::new(1));
    gone.sort_unstable();
    assert_eq!(gone, [place(1, 1), place(1, 2)]);
    assert_eq!((shares.held(), shares.reserved()), (100, 50));
    assert_eq!(shares.clear(), [place(2, 1)]);
    assert_eq!((shares.held(), shares.reserved(), shares.len()), (0, 50, 0));
    shares.release(TenantId::new(1), 50);
    assert_eq!((shares.reserved(), shares.remove_tenant(TenantId::new(1)).len()), (0, 0));
}

/// The lock over this is everybody's. Anything linear would take milliseconds a step.
#[test]
fn a_step_takes_microseconds_among_a_hundred_thousand_partitions() {
    const TENANTS: u64 = 5_000;
    const STEPS: u32 = 100_000;
    let mut shares = Shares::new(100_000 * 100);
    // What is oldest is within its share, which is where a search by age alone would look.
    for tenant in 1..=TENANTS {
        for collection in 0..19 {
            load(&mut shares, place(tenant, collection), 100, 0);
        }
    }
    let begun = std::time::Instant::now();
    for step in 0..STEPS {
        let at = place(1 + u64::from(step * 7) % TENANTS, step % 19);
        assert!(shares.get(&at, 100, 0).is_some());
    }
    let uses = begun.elapsed() / STEPS;
    let begun = std::time::Instant::now();
    for step in 0..STEPS {
        load(&mut shares, place(TENANTS + 1, step), 100, 0);
    }
    let loads = begun.elapsed() / STEPS;
    println!("a use takes {uses:?}, a load with an eviction {loads:?}");
    assert_eq!(shares.len(), 100_000);
    assert!(uses.as_micros() < 200 && loads.as_micros() < 200, "{uses:?} {loads:?}");
}

/// What [`Shares`] must do, looking at everything each time.
#[derive(Debug, Default)]
struct Model {
    budget: u64,
    /// With bytes, number and second of the last use.
    partitions: BTreeMap<Place, (u64, u64, u64)>,
    reserved: BTreeMap<TenantId, u64>,
    weights: BTreeMap<TenantId, u64>,
    uses: u64,
}

impl Model {
    fn use_it(&mut self, at: Place, weight: u64, bytes: u64, now: u64) {
        self.uses += 1;
        self.partitions.insert(at, (bytes, self.uses, now));
        self.weights.insert(at.0, weight);
    }

    fn bytes_of(&self, tenant: TenantId) -> u64 {
        let held = self.partitions.iter().filter(|(at, _)| at.0 == tenant);
        held.map(|(_, one)| one.0).sum::<u64>() + self.reserved.get(&tenant).unwrap_or(&0)
    }

    fn tidy(&mut self) {
        let (partitions, reserved) = (&self.partitions, &self.reserved);
        self.weights.retain(|tenant, _| {
            reserved.contains_key(tenant) || partitions.keys().any(|at| at.0 == *tenant)
        });
    }

    fn held(&self) -> u64 {
        self.partitions.values().map(|one| one.0).sum()
    }

    fn shrink(&mut self, now: u64) -> Vec<Place> {
        let mut gone = Vec::new();
        while self.held() + self.reserved.values().sum::<u64>() > self.budget {
            let all: u64 = self.weights.values().sum();
            let is_above = |at: &Place| {
                let weight = self.weights[&at.0];
                u128::from(self.bytes_of(at.0)) * u128::from(all)
                    > u128::from(self.budget) * u128::from(weight)
            };
            let oldest = self.partitions.iter().min_by_key(|(_, one)| one.1);
            let Some((oldest, one)) = oldest else { break };
            let fair = self.partitions.iter().filter(|(at, _)| is_above(at));
            let victim = match fair.min_by_key(|(_, one)| one.1) {
                Some((at, _)) if one.2 + IDLE_AFTER > now => *at,
                _ => *oldest,
            };
            self.partitions.remove(&victim);
            self.tidy();
            gone.push(victim);
        }
        gone
    }
}

#[derive(Debug, Clone)]
enum Step {
    Use { tenant: u64, collection: u32, bytes: u64 },
    Resize { tenant: u64, collection: u32, bytes: u64 },
    Remove { tenant: u64, collection: u32 },
    RemoveTenant { tenant: u64 },
    Reserve { tenant: u64, bytes: u64 },
    Wait { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (tenant, collection, bytes) = (1..8_u64, 0..6_u32, 0..400_u64);
    let one = prop_oneof![
        8 => (tenant.clone(), collection.clone(), bytes.clone())
            .prop_map(|(tenant, collection, bytes)| Step::Use { tenant, collection, bytes }),
        2 => (tenant.clone(), collection.clone(), bytes.clone())
            .prop_map(|(tenant, collection, bytes)| Step::Resize { tenant, collection, bytes }),
        1 => (tenant.clone(), collection)
            .prop_map(|(tenant, collection)| Step::Remove { tenant, collection }),
        1 => tenant.clone().prop_map(|tenant| Step::RemoveTenant { tenant }),
        2 => (tenant, bytes).prop_map(|(tenant, bytes)| Step::Reserve { tenant, bytes }),
        1 => (0..400_u64).prop_map(|seconds| Step::Wait { seconds }),
    ];
    prop::collection::vec(one, 1..300)
}

/// Weights that divide the fixed point, so that the model's fractions are the same.
fn weight_of(tenant: u64) -> u32 {
    1 << (tenant % 4)
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

fn step(
    step: Step,
    shares: &mut Shares<Place>,
    model: &mut Model,
    now: &mut u64,
) -> Result<(), TestCaseError> {
    match step {
        Step::Use { tenant, collection, bytes } => {
            let (at, weight) = (place(tenant, collection), weight_of(tenant));
            let found = shares.get(&at, weight, *now).copied();
            prop_assert_eq!(found.is_some(), model.partitions.contains_key(&at));
            let kept = model.partitions.get(&at).map_or(bytes, |one| one.0);
            if found.is_none() {
                prop_assert_eq!(shares.insert(at, weight, size(bytes), at, *now), None);
            }
            model.use_it(at, weight.into(), kept, *now);
        }
        Step::Resize { tenant, collection, bytes } => {
            let at = place(tenant, collection);
            shares.resize(&at, size(bytes));
            if let Some(one) = model.partitions.get_mut(&at) {
                one.0 = bytes;
            }
        }
        Step::Remove { tenant, collection } => {
            let at = place(tenant, collection);
            prop_assert_eq!(shares.remove(&at).is_some(), model.partitions.remove(&at).is_some());
        }
        Step::RemoveTenant { tenant } => {
            let before = model.partitions.len();
            model.partitions.retain(|at, _| at.0 != TenantId::new(tenant));
            let gone = shares.remove_tenant(TenantId::new(tenant)).len();
            prop_assert_eq!(gone, before - model.partitions.len());
        }
        Step::Reserve { tenant, bytes } => {
            let id = TenantId::new(tenant);
            if let Some(reserved) = model.reserved.remove(&id) {
                shares.resize_reservation(id, size(reserved), size(reserved) / 2);
                shares.release(id, size(reserved) / 2);
            } else {
                shares.reserve(id, weight_of(tenant), size(bytes));
                model.reserved.insert(id, bytes);
                model.weights.insert(id, weight_of(tenant).into());
            }
        }
        Step::Wait { seconds } => *now += seconds,
    }
    model.tidy();
    Ok(())
}

proptest! {
    #[test]
    fn shares_do_as_their_model(steps in steps()) {
        let mut shares = Shares::new(1_500);
        let mut model = Model { budget: 1_500, ..Model::default() };
        let mut now = 0;
        for one in steps {
            step(one, &mut shares, &mut model, &mut now)?;
            prop_assert_eq!(shrink(&mut shares, now), model.shrink(now));
            prop_assert_eq!(shares.held() as u64, model.held());
            let reserved: u64 = model.reserved.values().sum();
            prop_assert_eq!(shares.reserved() as u64, reserved);
            prop_assert_eq!(shares.len(), model.partitions.len());
            prop_assert_eq!(shares.tenants(), model.weights.len());
            prop_assert!(shares.held() + shares.reserved() <= 1_500 || shares.held() == 0);
        }
    }

    /// Whatever others do, with whatever they have, in whatever order.
    #[test]
    fn a_tenant_within_its_share_stays(
        loads in prop::collection::vec((2..12_u64, 0..50_u32, 1..150_usize), 1..400),
    ) {
        let mut shares = Shares::new(12_000);
        // There are 11 others at most: each one's share is at least 1,000.
        for collection in 0..10 {
            load(&mut shares, place(1, collection), 100, 0);
        }
        for (tenant, collection, bytes) in loads {
            let gone = load(&mut shares, place(tenant, collection), bytes, 0);
            prop_assert!(gone.iter().all(|at| at.0 != TenantId::new(1)), "{:?}", gone);
        }
    }

    #[test]
    fn the_oldest_above_a_bound_is_found(
        steps in prop::collection::vec((0..4_u8, 0..200_usize, 0..100_u64), 1..1_000),
    ) {
        let mut recency = Recency::new();
        let mut model: Vec<(u64, usize, u64)> = Vec::new();
        for (what, pick, key) in steps {
            let at = if model.is_empty() { 0 } else { pick % model.len() };
            match what {
                0 | 1 => {
                    let number = recency.push(pick);
                    recency.set_key(number, key);
                    model.push((number, pick, key));
                    prop_assert!(recency.is_last(number));
                }
                2 if !model.is_empty() => {
                    model[at].2 = key;
                    recency.set_key(model[at].0, key);
                }
                3 if !model.is_empty() => {
                    let (number, ..) = model.remove(at);
                    recency.vacate(number);
                    recency.vacate(number);
                }
                _ => {}
            }
            for bound in [0, key, 50] {
                let oldest = model.iter().find(|one| one.2 > bound).map(|one| one.1);
                prop_assert_eq!(recency.oldest_above(bound), oldest);
            }
        }
        recency.clear();
        prop_assert_eq!(recency.oldest_above(0), None);
    }
}
