//! Tenants that are moved while they work.

mod alone;
mod arrivals;
mod child;
mod faults;
mod grace;
mod ground;
mod late;
mod load;
mod lost;
mod nodes;
mod steps;
mod terms;
mod totals;

use arrivals::*;
use grace::{
    a_deletion_outlives_its_process, a_tenant_is_deleted_and_restored_while_it_is_moved,
    a_tenant_is_erased_while_it_is_moved,
};
use ground::Ground;
use load::nothing_fails_is_lost_or_doubled_while_a_tenant_goes_around;
use steps::*;
use terms::a_tenant_is_moved_where_its_plan_has_tenants_live;
use totals::a_tenant_counts_the_same_wherever_it_lives;

use crate::{
    conformance::{groups, members},
    stand::{Chance, Stand, record, tenant},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Allowed, Grant, Group, Restriction, Role, Scope, TenantId, Write};
use tenantry_store::{Attempted, Event, MovePhase, MoveStatus, MoveTarget, NewKey, TenantChange};
use tenantry_types::{
    CollectionChange, CollectionName, DatabaseName, ErrorKind, EventKind, EventKinds, Isolation,
    Location, Page, Record, RecordWrite, Selector, TenantState, Timestamp, WebhookName, WebhookUrl,
    WriteMode,
};

/// On files, and in a database of PostgreSQL.
macro_rules! everywhere {
    ($($name:ident)*) => {
        mod files {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::Ground::files()).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::Ground::postgres().await).await;
                }
            )*
        }

        // From one to the other and back.
        mod across {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::Ground::across().await).await;
                }
            )*
        }
    };
}

everywhere! {
    a_tenant_goes_around_the_circle_and_is_the_same_everywhere
    what_cannot_be_moved_is_refused
    a_tenant_is_moved_where_its_plan_has_tenants_live
    a_tenant_counts_the_same_wherever_it_lives
    large_records_and_many_collections_are_moved
    keys_are_counted_wherever_they_were_made
    a_tenant_is_renamed_suspended_and_given_keys_while_it_is_moved
    a_tenant_is_deleted_while_it_is_moved
    a_move_is_cancelled_at_any_moment
    nothing_fails_is_lost_or_doubled_while_a_tenant_goes_around
    killed_on_the_way_to_a_schema
    killed_on_the_way_to_a_database
    killed_on_the_way_home
    killed_in_the_middle_of_the_copy
    killed_while_a_move_to_the_shared_tables_is_undone
    killed_while_a_move_to_a_database_is_undone
    a_snapshot_is_of_one_moment
    a_snapshot_ends_when_its_tenant_is_moved_or_deleted
    an_arriving_tenant_is_nobodys_until_it_is_whole
    an_arrival_that_is_dropped_or_deleted_leaves_nothing
    killed_while_a_tenant_arrives
    a_tenant_is_deleted_and_restored_while_it_is_moved
    a_tenant_is_erased_while_it_is_moved
    a_deletion_outlives_its_process
}

/// How and where a tenant lives.
type Target = (Isolation, Location);

fn target((isolation, location): Target) -> MoveTarget {
    MoveTarget { isolation: Some(isolation), location: Some(location) }
}

/// Makes an endpoint that wants to know how moves end.
async fn hook(stand: &Stand) {
    let ends =
        [EventKind::TenantMoved, EventKind::TenantMoveFailed, EventKind::TenantMoveCancelled];
    let name = WebhookName::parse("moves").expect("a name");
    let url = WebhookUrl::parse("https://moves.example/").expect("a URL");
    let made = stand.store.create_webhook(&stand.operator, name, url, EventKinds(ends.into()));
    made.await.expect("a webhook");
}

/// What it is told, all of which has arrived then.
async fn told(stand: &Stand) -> Vec<Event> {
    let (system, lease, mut told) = (stand.system(), Duration::from_secs(60), Vec::new());
    loop {
        let claimed = stand.store.claim_deliveries(&system, |_| 100, lease).await.expect("claimed");
        if claimed.is_empty() {
            return told;
        }
        for one in claimed {
            told.push(one.event.clone());
            let settled = stand.store.settle_delivery(&system, one, Attempted::Delivered);
            settled.await.expect("settled");
        }
    }
}

/// Waits until a move is over.
async fn over(stand: &Stand, name: &str) -> MoveStatus {
    for _ in 0..6_000 {
        match stand.store.move_status(&stand.operator, &tenant(name)).await {
            Ok(status) => {
                let status = status.expect("a move");
                if status.phase.is_over() {
                    return status;
                }
            }
            // Where all connections are lost, this one's are too.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = stand.store.move_status(&stand.operator, &tenant(name)).await;
    panic!("a move is not over within a minute: {status:?}");
}

async fn go(stand: &Stand, name: &str, to: Target) -> MoveStatus {
    let begun = stand.store.start_move(&stand.operator, &tenant(name), target(to)).await;
    assert_eq!(begun.expect("a move").to, to);
    let status = over(stand, name).await;
    assert_eq!(status.phase, MovePhase::Done, "{status:?}");
    status
}

async fn lives(stand: &Stand, id: TenantId) -> Target {
    let info = stand.store.tenant_by_id(id).await.expect("by id").expect("it lives");
    (info.isolation, info.location)
}

async fn fill(stand: &Stand, scope: &Scope<Admin>, records: usize) {
    let collection = stand.collection(scope).await.expect("collection");
    let mut chance = Chance(7);
    for from in (0..records).step_by(500) {
        let batch = (from..records.min(from + 500)).map(|n| {
            let vector = (0..8).map(|_| chance.below(1_000) as f32).collect();
            record(&format!("r{n}"), vector, &[("n", i64::try_from(n).unwrap())])
        });
        let batch = batch.collect();
        stand.store.write(scope, &collection, WriteMode::Upsert, batch).await.expect("write");
    }
}

async fn all(stand: &Stand, scope: &Scope<Admin>) -> BTreeMap<String, Record> {
    let collection = stand.collection(scope).await.expect("collection");
    let records = stand.all(scope, &collection).await.expect("get");
    records.into_iter().map(|record| (record.id.as_str().to_owned(), record)).collect()
}

/// Bytes of the records, and of all that the tenant keeps.
fn sum(records: &BTreeMap<String, Record>) -> u64 {
    records.values().map(Record::logical_bytes).sum()
}

async fn kept(stand: &Stand, scope: &Scope<Admin>) -> Option<u64> {
    stand.store.holding(scope, false).await.expect("what is kept").stock.bytes
}

/// Deletes a few, by ids and by a filter.
async fn delete_some(stand: &Stand, scope: &Scope<Admin>) {
    let collection = stand.collection(scope).await.expect("collection");
    let some: Vec<_> = all(stand, scope).await.into_keys().take(5).collect();
    let by_ids = crate::stand::ids(some);
    let gone = stand.store.delete(scope, &collection, &by_ids, None).await.expect("deleted");
    assert_eq!(gone, 5);
    let any = Selector::default();
    stand.store.delete(scope, &collection, &any, Some(7)).await.expect("deleted");
}

fn new_key() -> NewKey {
    NewKey {
        role: Role::Read,
        restriction: Restriction::default(),
        label: "k".into(),
        expires_at: None,
    }
}

/// A guest who reaches one database; the groups then.
async fn guests_of(stand: &Stand, scope: &Scope<Admin>, name: &DatabaseName) -> Vec<Group> {
    let database = stand.store.database(scope, name).await.expect("a database");
    let on = Allowed::Database(database.info().number);
    let granted = groups::gives(&[Grant { on, writes: true }]);
    let made = stand.store.add_group(scope, &groups::group("g"), &granted).await;
    let guest = groups::guest("login/eve", &["g"]);
    stand.store.add_member(scope, &guest).await.expect("a guest");
    vec![made.expect("a group")]
}

async fn seen_by_guest(stand: &Stand, id: TenantId) -> Vec<DatabaseName> {
    let (authority, token) = (members::authority(), members::token("eve", id));
    let who = authority.authenticate(token, &stand.store, Timestamp(0)).await.expect("a guest");
    let scope = authority.authorize::<Write>(&who, id, "mover").expect("a scope");
    let found = stand.store.databases(&scope, Page::default()).await.expect("databases");
    found.iter().map(|one| one.info().name.clone()).collect()
}

async fn a_tenant_goes_around_the_circle_and_is_the_same_everywhere(ground: Ground) {
    let mut stand = ground.open().await;
    let scope = stand.create("mover").await.expect("tenant");
    let neighbour = stand.create("neighbour").await.expect("tenant");
    fill(&stand, &scope, 700).await;
    fill(&stand, &neighbour, 20).await;
    let key = stand.store.create_key(&scope, new_key()).await.expect("key").0;
    let second = DatabaseName::parse("second").expect("a name");
    stand.store.create_database(&scope, &second).await.expect("database");
    let groups = guests_of(&stand, &scope, &second).await;
    let mut entries = stand.verify_audit(&scope).await;
    for round in 0..2 {
        for to in ground.circle() {
            let before = all(&stand, &scope).await;
            let status = go(&stand, "mover", to).await;
            assert_eq!((status.records_copied, status.records_total), (700, 700), "{status:?}");
            assert_eq!(lives(&stand, scope.tenant()).await, to);
            assert_eq!(all(&stand, &scope).await, before);
            // By itself, and by what is deleted and replaced below.
            assert_eq!(kept(&stand, &scope).await, Some(sum(&before)));
            delete_some(&stand, &scope).await;
            assert_eq!(kept(&stand, &scope).await, Some(sum(&all(&stand, &scope).await)));
            let keys = stand.store.keys(&scope).await.expect("keys");
            assert_eq!(keys, std::slice::from_ref(&key));
            stand.store.database(&scope, &second).await.expect("the second database");
            assert_eq!(stand.store.groups(&scope).await.expect("groups"), groups);
            assert_eq!(seen_by_guest(&stand, scope.tenant()).await, std::slice::from_ref(&second));
            // It goes on where it was: names, versions and numbers.
            fill(&stand, &scope, 700).await;
            let name = CollectionName::parse(format!("in-{round}-{}-{}", to.0.word(), to.1));
            let database = stand.store.database(&scope, &second).await.expect("database");
            let spec = tenantry_types::CollectionSpec::new(name.expect("a name"));
            stand.store.create_collection(&scope, &database, &spec, false).await.expect("made");
            let now = stand.verify_audit(&scope).await;
            assert!(now > entries + 2, "the log says of the move that it began and was done");
            entries = now;
            let id = scope.tenant();
            stand.close();
            ground.check(id, to).await;
            stand = ground.open().await;
            let after = all(&stand, &scope).await;
            assert_eq!(after.len(), 700);
            assert_eq!(kept(&stand, &scope).await, Some(sum(&after)));
        }
    }
    assert_eq!(all(&stand, &neighbour).await.len(), 20);
    let database = stand.store.database(&scope, &second).await.expect("database");
    let made = 2 * ground.circle().len();
    assert_eq!(stand.store.count_collections(&scope, &database).await.expect("count"), made);
    let log = stand.store.operator_audit(&stand.operator, 0, usize::MAX).await.expect("log");
    crate::stand::verify_chain(&log);
    let done = |what: &str| log.iter().filter(|entry| entry.event.action == what).count();
    let moves = 2 * ground.circle().len();
    assert_eq!((done("tenant.move"), done("tenant.move.done")), (moves, moves));
    assert!(stand.store.moves(&stand.operator).await.expect("moves").is_empty());
    let last = stand.store.move_status(&stand.operator, &tenant("mover")).await.expect("status");
    let last = last.expect("the last move");
    assert_eq!((last.tenant, last.phase), (scope.tenant(), MovePhase::Done));
    stand.close();
}

async fn what_cannot_be_moved_is_refused(ground: Ground) {
    let stand = ground.open().await;
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, 3_000).await;
    let start = async |name: &str, to: Isolation| {
        let begun = stand.store.start_move(&stand.operator, &tenant(name), to.into()).await;
        begun.map_err(|error| error.kind())
    };
    let cancel = async |name: &str| {
        let cancelled = stand.store.cancel_move(&stand.operator, &tenant(name)).await;
        cancelled.map_err(|error| error.kind())
    };
    assert_eq!(start("b", Isolation::Schema).await, Err(ErrorKind::NotFound));
    assert_eq!(start("a", Isolation::Shared).await, Err(ErrorKind::Invalid));
    assert_eq!(cancel("a").await, Err(ErrorKind::Conflict));
    start("a", Isolation::Schema).await.expect("a move");
    assert_eq!(start("a", Isolation::Database).await, Err(ErrorKind::Conflict));
    over(&stand, "a").await;
    assert_eq!(cancel("a").await, Err(ErrorKind::Conflict));
    stand.close();
}

/// What fills many commits comes whole: large bodies, many vectors, a large catalog.
async fn large_records_and_many_collections_are_moved(ground: Ground) {
    let stand = ground.open().await;
    let scope = stand.create("a").await.expect("tenant");
    let collection = stand.collection(&scope).await.expect("collection");
    let mut chance = Chance(11);
    for n in 0..12 {
        // Text that does not become small.
        let mut letter = || char::from_u32('a' as u32 + u32::try_from(chance.below(26)).unwrap());
        let document = (0..400_000).filter_map(|_| letter()).collect();
        let one = RecordWrite {
            document: Some(document),
            ..record(&format!("r{n}"), vec![n as f32; 8], &[("n", n)])
        };
        let batch = vec![one];
        stand.store.write(&scope, &collection, WriteMode::Upsert, batch).await.expect("write");
    }
    let database = stand.default_database(&scope).await;
    for n in 0..400 {
        let name = CollectionName::parse(format!("many-{n}")).expect("a name");
        let spec = tenantry_types::CollectionSpec::new(name);
        stand.store.create_collection(&scope, &database, &spec, false).await.expect("made");
    }
    let before = all(&stand, &scope).await;
    for (n, to) in ground.circle().into_iter().enumerate() {
        let moving = go(&stand, "a", to);
        // Another client deletes and makes collections meanwhile.
        let deleting = async {
            let name = CollectionName::parse(format!("many-{n}")).expect("a name");
            let found = stand.store.collection(&scope, &database, &name).await.expect("found");
            stand.store.delete_collection(&scope, &found).await.expect("delete");
        };
        tokio::join!(moving, deleting);
        assert_eq!(all(&stand, &scope).await, before);
    }
    let left = stand.store.count_collections(&scope, &database).await.expect("count");
    assert_eq!(left, 401 - ground.circle().len());
    stand.verify_audit(&scope).await;
    stand.close();
}

/// A limit on keys counts those that were made elsewhere.
async fn keys_are_counted_wherever_they_were_made(ground: Ground) {
    let stand = ground.open().await;
    let scope = stand.create_in("a", Isolation::Schema).await.expect("tenant");
    let mut limits = stand.store.tenant_by_id(scope.tenant()).await.unwrap().unwrap().limits;
    limits.keys = 3;
    let change = TenantChange { limits: limits.into(), ..TenantChange::default() };
    stand.store.change_tenant(&stand.operator, &tenant("a"), &change).await.expect("change");
    let mut keys = Vec::new();
    for to in [Isolation::Shared, Isolation::Database, Isolation::Shared] {
        keys.push(stand.store.create_key(&scope, new_key()).await.expect("key").0.id);
        go(&stand, "a", (to, Location::Home)).await;
    }
    let refused = stand.store.create_key(&scope, new_key()).await.expect_err("a fourth");
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    for id in keys {
        stand.store.revoke_key(&scope, id).await.expect("revoke");
    }
    stand.store.create_key(&scope, new_key()).await.expect("one more");
    stand.close();
}

async fn a_tenant_is_renamed_suspended_and_given_keys_while_it_is_moved(ground: Ground) {
    let stand = ground.open().await;
    let scope = stand.create("name-0").await.expect("tenant");
    fill(&stand, &scope, 2_000).await;
    let mut kept = Vec::new();
    for (round, to) in ground.circle().into_iter().chain(ground.circle()).enumerate() {
        let old = tenant(&format!("name-{round}"));
        stand.store.start_move(&stand.operator, &old, target(to)).await.expect("a move");
        let mut changes = 0;
        loop {
            let status = stand.store.move_status(&stand.operator, &old).await.expect("status");
            if status.expect("a move").phase.is_over() {
                break;
            }
            let state = [TenantState::Suspended, TenantState::Active][changes % 2];
            let change = TenantChange { state: Some(state), ..TenantChange::default() };
            stand.store.change_tenant(&stand.operator, &old, &change).await.expect("change");
            if kept.len() >= 50 * (round + 1) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let made = stand.store.create_key(&scope, new_key()).await.expect("key").0.id;
            let gone = stand.store.create_key(&scope, new_key()).await.expect("key").0.id;
            stand.store.revoke_key(&scope, gone).await.expect("revoke");
            kept.push(made);
            changes += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(changes > 0);
        let new = TenantChange {
            name: Some(tenant(&format!("name-{}", round + 1))),
            state: Some(TenantState::Active),
            ..TenantChange::default()
        };
        stand.store.change_tenant(&stand.operator, &old, &new).await.expect("rename");
        let listed = stand.store.keys(&scope).await.expect("keys");
        assert_eq!(listed.len(), kept.len());
        assert!(kept.iter().all(|id| listed.iter().any(|key| key.id == *id)));
        let log = stand.store.audit(&scope, 0, usize::MAX).await.expect("log");
        let told = |what: &str| log.iter().filter(|entry| entry.event.action == what).count();
        assert_eq!((told("key.create"), told("key.revoke")), (2 * kept.len(), kept.len()));
        stand.verify_audit(&scope).await;
        assert_eq!(all(&stand, &scope).await.len(), 2_000);
    }
    stand.close();
}

async fn a_tenant_is_deleted_while_it_is_moved(ground: Ground) {
    let mut chance = Chance(4);
    for round in 0..12 {
        let stand = ground.open().await;
        let circle = ground.circle();
        let from = circle[round % circle.len()];
        let to = circle[(round + 1) % circle.len()];
        let scope = stand.create_at("a", from).await.expect("tenant");
        fill(&stand, &scope, 1_500).await;
        stand.store.start_move(&stand.operator, &tenant("a"), target(to)).await.expect("a move");
        tokio::time::sleep(Duration::from_millis(chance.below(250))).await;
        stand.store.delete_tenant(&stand.operator, &tenant("a")).await.expect("delete");
        for _ in 0..1_000 {
            if stand.store.leftovers(&stand.operator).await.expect("leftovers").is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = stand.store.leftovers(&stand.operator).await.expect("leftovers");
        assert!(left.is_empty(), "{left:?}");
        assert!(stand.store.moves(&stand.operator).await.expect("moves").is_empty());
        let id = scope.tenant();
        stand.close();
        assert_eq!(ground.places(id).await, [""; 0], "round {round}");
    }
}

async fn a_move_is_cancelled_at_any_moment(ground: Ground) {
    let mut stand = ground.open().await;
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, 500).await;
    let mut chance = Chance(5);
    let (mut cancelled, mut done) = (0, 0);
    let circle = ground.circle();
    let mut now = circle[0];
    hook(&stand).await;
    let begun = Instant::now();
    go(&stand, "a", now).await;
    // One that nobody cancels takes about so long, on this machine and beside what else it does.
    let took = u64::try_from(begun.elapsed().as_millis()).expect("small");
    for round in 0..16 {
        let at = circle.iter().position(|one| *one == now).expect("it is one of them");
        let to = circle[(at + 1) % circle.len()];
        stand.store.start_move(&stand.operator, &tenant("a"), target(to)).await.expect("a move");
        tokio::time::sleep(Duration::from_millis(chance.below(round * took / 6 + 1))).await;
        match stand.store.cancel_move(&stand.operator, &tenant("a")).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        }
        let status = over(&stand, "a").await;
        match status.phase {
            MovePhase::Cancelled => cancelled += 1,
            MovePhase::Done => {
                done += 1;
                now = to;
            }
            _ => panic!("{status:?}"),
        }
        assert_eq!(lives(&stand, scope.tenant()).await, now);
        assert_eq!(all(&stand, &scope).await.len(), 500);
        // Between any two, something else is called so and the log goes on.
        let collection = stand.collection(&scope).await.expect("collection");
        let name = CollectionName::parse(format!("c{round}")).expect("a name");
        let change = CollectionChange { name: Some(name), ..CollectionChange::default() };
        stand.store.change_collection(&scope, &collection, &change).await.expect("rename");
        let name = CollectionName::parse("c").expect("a name");
        let change = CollectionChange { name: Some(name), ..CollectionChange::default() };
        stand.store.change_collection(&scope, &collection, &change).await.expect("rename");
        stand.verify_audit(&scope).await;
        let count = stand.store.count(&scope, &collection, &Selector::default()).await;
        assert_eq!(count.expect("count").value, 500);
        let id = scope.tenant();
        stand.close();
        ground.check(id, now).await;
        stand = ground.open().await;
    }
    assert!(cancelled > 1 && done > 1, "{cancelled} were cancelled, {done} were done");
    // Once each, over all the restarts.
    let told = told(&stand).await;
    let of = |kind| told.iter().filter(|event| event.kind == kind).count();
    assert_eq!(of(EventKind::TenantMoveCancelled), cancelled);
    assert_eq!(of(EventKind::TenantMoved), done + 1);
    assert_eq!(told.len(), cancelled + done + 1);
    stand.close();
}
