//! Tenants that are read whole while they work, and such as are being filled.

use super::{Ground, Target, all, fill, go};
use crate::stand::{Running, Stand, record, tenant, this_binary, whole_number};
use std::{
    collections::BTreeMap,
    io::Read as _,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_store::{Arrival, Arrived, MoveTarget, Snapshot, TenantChange};
use tenantry_types::{
    CollectionNumber, DatabaseName, DatabaseNumber, ErrorKind, Isolation, Limits, Location, Record,
    TenantName, TenantSpec, TenantState, WriteMode,
};

const GROUND: &str = "TENANTRY_ARRIVALS_GROUND";
const WHERE: &str = "TENANTRY_ARRIVALS_WHERE";
/// Long enough for what nobody fills any more to be given up.
const SOON: Duration = Duration::from_secs(60);

/// All records of the only collection.
async fn records(snapshot: &Snapshot) -> Vec<Record> {
    assert_eq!(snapshot.databases(DatabaseNumber(0)).await.expect("databases").len(), 1);
    let mut collections = snapshot.collections(CollectionNumber(0)).await.expect("collections");
    let collection = collections.pop().expect("a collection");
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let page = snapshot.records(&collection, from).await.expect("records");
        if page.records.is_empty() {
            break;
        }
        from = page.next;
        found.extend(page.records);
    }
    assert_eq!(snapshot.count(&collection).await.expect("a count"), found.len() as u64);
    found
}

/// Four writers change five records each in every batch, to one value.
pub(super) async fn a_snapshot_is_of_one_moment(ground: Ground) {
    for place in ground.circle().into_iter().take(3) {
        let stand = Arc::new(ground.open().await);
        let scope = stand.create_at("a", place).await.expect("a tenant");
        fill(&stand, &scope, 1_500).await;
        let collection = stand.collection(&scope).await.expect("a collection");
        let is_over = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (stand, is_over) = (Arc::clone(&stand), Arc::clone(&is_over));
                let (scope, collection) = (scope.clone(), collection.clone());
                tokio::spawn(async move {
                    for value in 0.. {
                        if is_over.load(Ordering::SeqCst) {
                            return value;
                        }
                        // The first and the last that are read, and some between them.
                        let part = |n: usize| {
                            let id = format!("r{}", writer + n * 374);
                            record(&id, vec![value as f32; 8], &[("value", value)])
                        };
                        let batch = (0..5).map(part).collect();
                        let written =
                            stand.store.write(&scope, &collection, WriteMode::Upsert, batch);
                        written.await.expect("a write");
                    }
                    0
                })
            })
            .collect();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let snapshot = stand.store.snapshot(&scope).await.expect("a snapshot");
            let found = records(&snapshot).await;
            assert_eq!(found.len(), 1_500);
            let by_id: BTreeMap<&str, &Record> =
                found.iter().map(|one| (one.id.as_str(), one)).collect();
            for writer in 0..4 {
                let value = |n: usize| {
                    let record = by_id[format!("r{}", writer + n * 374).as_str()];
                    let has_value =
                        record.metadata.as_ref().is_some_and(|m| m.contains_key("value"));
                    has_value.then(|| {
                        let value = whole_number(record, "value");
                        assert_eq!(record.vector, Some(vec![value as f32; 8]));
                        value
                    })
                };
                let first = value(0);
                assert!((1..5).all(|n| value(n) == first), "{writer}");
            }
        }
        is_over.store(true, Ordering::SeqCst);
        for writer in writers {
            assert!(writer.await.expect("a writer") > 0);
        }
        stand.store.delete_tenant(&stand.operator, &tenant("a")).await.expect("deleted");
        stand.store.close();
    }
}

pub(super) async fn a_snapshot_ends_when_its_tenant_is_moved_or_deleted(ground: Ground) {
    let stand = ground.open().await;
    let (from, to) = ground.way(0);
    let scope = stand.create_at("a", from).await.expect("a tenant");
    fill(&stand, &scope, 300).await;
    let snapshot = stand.store.snapshot(&scope).await.expect("a snapshot");
    assert_eq!(records(&snapshot).await.len(), 300);
    // The old place is emptied once nobody reads it, so the snapshot must not be waited for.
    let moved = stand.store.start_move(&stand.operator, &tenant("a"), super::target(to)).await;
    moved.expect("a move");
    let ended = ends(&snapshot).await;
    assert_eq!(ended, ErrorKind::Unavailable);
    drop(snapshot);
    assert_eq!(super::over(&stand, "a").await.to, to);
    let snapshot = stand.store.snapshot(&scope).await.expect("a snapshot");
    assert_eq!(records(&snapshot).await.len(), 300);
    stand.store.delete_tenant(&stand.operator, &tenant("a")).await.expect("deleted");
    assert_eq!(ends(&snapshot).await, ErrorKind::NotFound);
    stand.close();
}

/// How reading ends.
async fn ends(snapshot: &Snapshot) -> ErrorKind {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        if let Err(error) = snapshot.databases(DatabaseNumber(0)).await {
            return error.kind();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it goes on");
}

fn arriving((isolation, location): Target) -> TenantSpec {
    TenantSpec {
        isolation: Some(isolation),
        location: Some(location),
        default_database: false,
        ..TenantSpec::new(tenant("new"))
    }
}

async fn begin(stand: &Stand, place: Target) -> Arrival {
    let arrival = stand.store.begin_arrival(&stand.operator, &arriving(place)).await;
    let arrival = arrival.expect("a tenant");
    let scope = stand.scope(arrival.info().id);
    let name = DatabaseName::default_database();
    stand.store.create_database(&scope, &name).await.expect("a database");
    fill(stand, &scope, 600).await;
    arrival
}

fn arrived() -> Arrived {
    let (told, target) = ("an archive".into(), "new".into());
    Arrived { action: "tenant.import", told, target, email: None }
}

async fn state(stand: &Stand, name: &str) -> Option<TenantState> {
    let listed = stand.store.tenants(&stand.operator, None, 100).await.expect("tenants");
    listed.into_iter().find(|info| info.name == tenant(name)).map(|info| info.state)
}

pub(super) async fn an_arriving_tenant_is_nobodys_until_it_is_whole(ground: Ground) {
    for (n, place) in ground.circle().into_iter().enumerate() {
        let stand = ground.open().await;
        let arrival = begin(&stand, place).await;
        let name = tenant("new");
        assert_eq!(state(&stand, "new").await, Some(TenantState::Provisioning));
        let taken = stand.store.begin_arrival(&stand.operator, &arriving(place)).await;
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::AlreadyExists);
        let renamed = TenantChange {
            name: Some(TenantName::parse("other").unwrap()),
            ..TenantChange::default()
        };
        for state in [TenantState::Active, TenantState::Suspended] {
            let state = TenantChange { state: Some(state), ..TenantChange::default() };
            for change in [&state, &renamed] {
                let changed = stand.store.change_tenant(&stand.operator, &name, change).await;
                assert_eq!(changed.unwrap_err().kind(), ErrorKind::Conflict);
            }
        }
        let isolation = Some(match place.0 {
            Isolation::Shared => Isolation::Schema,
            Isolation::Schema | Isolation::Database => Isolation::Shared,
        });
        let to = MoveTarget { isolation, location: None };
        let moved = stand.store.start_move(&stand.operator, &name, to).await;
        assert_eq!(moved.unwrap_err().kind(), ErrorKind::Conflict);
        // Longer than others would wait.
        if n == 0 {
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        let limits = Limits { collections: 7, ..Limits::default() };
        let made = arrival.end(&stand.operator, limits, arrived()).await.expect("it is whole");
        assert_eq!((made.state, made.limits), (TenantState::Active, limits));
        assert_eq!((made.isolation, made.location), place);
        let scope = stand.scope(made.id);
        assert_eq!(all(&stand, &scope).await.len(), 600);
        stand.verify_audit(&scope).await;
        let log = stand.store.audit(&scope, 0, 1_000).await.expect("the log");
        assert!(log.iter().any(|one| one.event.action == "tenant.import"));
        stand.close();
        let stand = ground.open().await;
        assert_eq!(state(&stand, "new").await, Some(TenantState::Active));
        assert_eq!(all(&stand, &stand.scope(made.id)).await.len(), 600);
        // It is one like any other.
        if n == 0 {
            let to = ground.circle()[1];
            assert_eq!(go(&stand, "new", to).await.to, to);
        }
        stand.store.delete_tenant(&stand.operator, &name).await.expect("deleted");
        stand.close();
    }
}

async fn is_gone(stand: &Stand, id: TenantId) {
    let begun = Instant::now();
    while stand.store.tenant_by_id(id).await.expect("by id").is_some()
        || state(stand, "new").await.is_some()
        || !stand.store.leftovers(&stand.operator).await.expect("leftovers").is_empty()
    {
        assert!(begun.elapsed() < SOON, "it is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn an_arrival_that_is_dropped_or_deleted_leaves_nothing(ground: Ground) {
    for (n, place) in ground.circle().into_iter().enumerate() {
        let stand = ground.open().await;
        let arrival = begin(&stand, place).await;
        let id = arrival.info().id;
        match n % 3 {
            0 => drop(arrival),
            1 => arrival.give_up().await.expect("it is given up"),
            _ => {
                let name = tenant("new");
                stand.store.delete_tenant(&stand.operator, &name).await.expect("deleted");
                let scope = stand.scope(id);
                let name = DatabaseName::parse("more").unwrap();
                let more = stand.store.create_database(&scope, &name).await;
                assert_eq!(more.unwrap_err().kind(), ErrorKind::NotFound);
                let ended = arrival.end(&stand.operator, Limits::default(), arrived()).await;
                assert_eq!(ended.unwrap_err().kind(), ErrorKind::Conflict);
            }
        }
        is_gone(&stand, id).await;
        stand.close();
        assert_eq!(ground.places(id).await, Vec::<String>::new(), "{place:?}");
        // The name is free, and what another one writes there is not touched.
        let stand = ground.open().await;
        stand.create_at("new", place).await.expect("the name is free");
        stand.store.delete_tenant(&stand.operator, &tenant("new")).await.expect("deleted");
        is_gone(&stand, id).await;
        stand.close();
    }
}

/// The child's side; returns at once when the test binary runs as usual.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_fills() {
    let Ok(ground) = std::env::var(GROUND) else { return };
    let place = std::env::var(WHERE).expect("a place");
    let (isolation, location) = place.split_once(' ').expect("two words");
    let isolation = Isolation::parse(isolation).expect("an isolation");
    let location = Location::parse(location).expect("a location");
    let stand = Ground::open_by(&ground).await;
    let arrival = begin(&stand, (isolation, location)).await;
    println!("\nfilled {}", arrival.info().id);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
}

pub(super) async fn killed_while_a_tenant_arrives(ground: Ground) {
    for (isolation, location) in ground.circle().into_iter().take(3) {
        let mut child =
            this_binary("moves::arrivals::child_that_fills", GROUND, Path::new(&ground.word()));
        child.env(WHERE, format!("{} {location}", isolation.word()));
        let mut child = Running(child.stdout(Stdio::piped()).spawn().expect("a child"));
        let mut out = child.0.stdout.take().expect("its output");
        let (mut told, mut byte) = (String::new(), [0]);
        let id = loop {
            assert_eq!(out.read(&mut byte).expect("output"), 1, "it ended: {told}");
            told.push(char::from(byte[0]));
            let filled = told.split("filled ").nth(1).filter(|rest| rest.ends_with('\n'));
            if let Some(id) = filled {
                break TenantId::new(id.trim().parse().expect("a number"));
            }
        };
        drop(child);
        let stand = ground.open().await;
        is_gone(&stand, id).await;
        stand.close();
        assert_eq!(ground.places(id).await, Vec::<String>::new(), "{isolation:?} {location}");
    }
}
