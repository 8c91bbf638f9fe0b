//! What cannot be reached from outside: rows that are missing, and databases that are reopened.

use super::{commit::Commit, disk::Head, tenants::OpenTenant, *};
use crate::{
    NewKey, Store, SystemEntropy,
    tenancy::{
        Backend as _, done,
        place::{Fresh, PlaceRow, Placement},
        writers::WAITERS_MAX,
    },
};
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use tenantry_auth::{
    Admin, Author, Authority, Credential, OperatorScope, Principal, Restriction, Role, Scope, Write,
};
use tenantry_types::{
    Clock, CollectionName, CollectionSpec, DatabaseName, ErrorKind, Hour, Isolation, Limits,
    Location, Meter, Month, RecordId, RecordWrite, Selector, TenantName, TenantSpec, TenantState,
    Timestamp, UsageEvent, WriteMode,
};

pub(super) fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_embedded(EmbeddedConfig::new(dir.path())).unwrap();
    (dir, store)
}

pub(super) fn inner(store: &Store) -> &Arc<Inner> {
    &store.0.files.as_ref().expect("files").inner
}

pub(super) async fn operator(store: &Store) -> (Authority, Principal, OperatorScope) {
    let authority = Authority::development();
    let now = inner(store).tenancy.now();
    let principal = authority.authenticate(Credential::None, store, now).await.unwrap();
    let operator = authority.authorize_operator(&principal).unwrap();
    (authority, principal, operator)
}

pub(super) async fn tenant(store: &Store) -> Scope<Admin> {
    let (authority, principal, operator) = operator(store).await;
    let spec = TenantSpec::new(TenantName::parse("a").unwrap());
    let info = store.create_tenant(&operator, &spec).await.unwrap();
    authority.authorize(&principal, info.id, "a").unwrap()
}

/// Removes a key behind everybody's back.
async fn lose(store: &Store, key: Vec<u8>) {
    let root = Placement::shared(TenantId::INSTALLATION);
    let mut set = WriteSet::new(root, inner(store).db().unwrap().generation());
    set.operations.push((Space::Data, key, None));
    inner(store).disk.commit(set).await.unwrap();
    inner(store).tenancy.tenants.forget_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_counters_are_damage_and_not_zero() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let name = DatabaseName::default_database();
    let database = store.database(&scope, &name).await.unwrap();
    let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
    let made = store.create_collection(&scope, &database, &spec, false).await.unwrap().0;
    let prefix = Prefix::of(scope.tenant());
    let collection = made.info().number.0;
    lose(&store, keys::Statistics { collection, partition: 0 }.encode(prefix)).await;
    let error = store.count(&scope, &made, &Selector::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    lose(&store, keys::Head {}.encode(prefix)).await;
    let error = store.database(&scope, &name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    // The tenant itself can still be deleted.
    let (.., operator) = operator(&store).await;
    let name = TenantName::parse("a").unwrap();
    store.delete_tenant(&operator, &name).await.unwrap();
    assert!(store.find_tenant(&name).await.unwrap().is_none());
    store.close();
}

/// A note of the purger that names what lives is not obeyed, and does not stop the others.
#[tokio::test(flavor = "multi_thread")]
async fn the_purger_removes_nothing_that_lives() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let installation = Prefix::of(TenantId::INSTALLATION);
    let mut set = WriteSet::new(Placement::shared(TenantId::INSTALLATION), 0);
    for note in [scope.tenant().get(), 77] {
        let key = keys::Purge { tenant: note, collection: 0 }.encode(installation);
        set.operations.push((Space::Catalog, key, Some(Vec::new())));
    }
    inner(&store).disk.commit(set).await.unwrap();
    inner(&store).purge.notify_one();
    let notes = || {
        let db = inner(&store).db().unwrap();
        db.scan(Space::Catalog, &keys::Purge::all(installation), None).count()
    };
    let start = Instant::now();
    while notes() > 1 {
        assert!(start.elapsed() < Duration::from_secs(5), "the other note waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let name = DatabaseName::default_database();
    store.database(&scope, &name).await.expect("the tenant lives");
    store.close();
}

/// So many thousands of them were before.
fn messages(thousands: usize) -> Vec<UsageEvent> {
    let first = thousands * UsageEvent::BATCH_MAX;
    let event = |n: usize| UsageEvent::new(&n.to_string(), Meter::Messages, 1).unwrap();
    (first..first + UsageEvent::BATCH_MAX).map(event).collect()
}

/// However many have used nothing in the month that is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_ledger_looks_at_so_many_accounts() {
    let (_dir, store) = open();
    let (authority, principal, operator) = operator(&store).await;
    for n in 1..=20 {
        let name = format!("t{n}");
        let spec = TenantSpec::new(TenantName::parse(name.as_str()).unwrap());
        let info = store.create_tenant(&operator, &spec).await.unwrap();
        let scope = authority.authorize::<Admin>(&principal, info.id, &name).unwrap();
        store.report_usage(&scope, &messages(0)[..1], false).await.unwrap();
    }
    let now = Hour::of(inner(&store).tenancy.now()).month();
    let pages = async |month: Month, limit: usize| {
        let (mut after, mut sizes) = (None, Vec::new());
        loop {
            let (bills, next) = store.bills(&operator, (month, limit), after).await.unwrap();
            sizes.push(bills.len());
            after = next;
            if after.is_none() {
                return sizes;
            }
        }
    };
    assert_eq!(pages(now, 100).await, [8, 8, 4]);
    assert_eq!(pages(now, 5).await, [5, 5, 5, 5, 0]);
    assert_eq!(pages(Month(now.0 - 1), 100).await, [0, 0, 0]);
    store.close();
}

#[derive(Debug)]
struct At(AtomicU64);

impl Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// More of what is over goes than comes, some at a time, and what was removed is not looked through.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_weeks_that_are_over_go_with_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, week) = (1_000_000_u64, 7 * 24 * 3_600_000);
    let clock = Arc::new(At(AtomicU64::new(begun)));
    let mut config = EmbeddedConfig::new(dir.path());
    config.clock = clock.clone();
    let store = Store::open_embedded(config).unwrap();
    let scope = tenant(&store).await;
    let installation = Prefix::of(TenantId::INSTALLATION);
    let rows = || {
        let db = inner(&store).db().unwrap();
        db.scan(Space::Catalog, &keys::Event::all(installation), None).count()
    };
    store.report_usage(&scope, &messages(0), false).await.unwrap();
    clock.0.store(begun + week, Ordering::SeqCst);
    store.report_usage(&scope, &messages(1), false).await.unwrap();
    assert_eq!(rows(), 2_000);
    // The first week is over: 2 * 100 and 64 more go with each hundred that come.
    clock.0.store(begun + 2 * week, Ordering::SeqCst);
    for (n, left) in [(0, 1_836), (1, 1_672), (2, 1_508), (3, 1_400), (4, 1_500)] {
        let some = &messages(2)[n * 100..(n + 1) * 100];
        assert_eq!(store.report_usage(&scope, some, false).await.unwrap().counted, 100);
        assert_eq!(rows(), left, "{n}");
    }
    // The clock has gone back, and so there are rows below those that went.
    clock.0.store(begun, Ordering::SeqCst);
    store.report_usage(&scope, &messages(0)[..10], false).await.unwrap();
    assert_eq!(rows(), 1_510);
    clock.0.store(begun + 2 * week, Ordering::SeqCst);
    store.report_usage(&scope, &messages(3)[..1], false).await.unwrap();
    assert_eq!(rows(), 1_501);
    store.close();
}

/// However many tenants are reported about, one report is before whoever comes next.
#[tokio::test(flavor = "multi_thread")]
async fn reports_of_all_tenants_are_one_of_those_who_wait_for_the_log() {
    let (_dir, store) = open();
    let (authority, principal, operator) = operator(&store).await;
    let installation = inner(&store).tenancy.installation().await.unwrap();
    let mut scopes = Vec::new();
    for n in 0..10 {
        let name = format!("t{n}");
        let spec = TenantSpec::new(TenantName::parse(&name).unwrap());
        let id = store.create_tenant(&operator, &spec).await.unwrap().id;
        scopes.push(authority.authorize::<Admin>(&principal, id, &name).unwrap());
    }
    let (store, done) = (Arc::new(store), Arc::new(AtomicUsize::new(0)));
    let logging = Arc::clone(&installation.writer).lock_owned().await;
    let report = |scope: Scope<Admin>| {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::spawn(async move {
            store.report_usage(&scope, &messages(0)[..1], false).await.unwrap();
            done.fetch_add(1, Ordering::SeqCst);
        })
    };
    let reports: Vec<_> = scopes.into_iter().map(report).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let next = tokio::spawn({
        let (writer, done) = (Arc::clone(&installation.writer), Arc::clone(&done));
        async move {
            let _logging = writer.lock_owned().await;
            done.load(Ordering::SeqCst)
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(done.load(Ordering::SeqCst), 0);
    drop(logging);
    assert!(next.await.unwrap() <= 1);
    for report in reports {
        report.await.unwrap();
    }
    assert_eq!(done.load(Ordering::SeqCst), 10);
    store.close();
}

/// Thousands of keys are not looked up again while others wait.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_report_contradicts_is_found_before_the_log_is_locked() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    store.report_usage(&scope, &messages(0), false).await.unwrap();
    let installation = inner(&store).tenancy.installation().await.unwrap();
    let logging = Arc::clone(&installation.writer).lock_owned().await;
    let store = Arc::new(store);
    let report = tokio::spawn({
        let (store, scope) = (Arc::clone(&store), scope.clone());
        let other = UsageEvent::new("7", Meter::Messages, 2).unwrap();
        async move { store.report_usage(&scope, &[other], false).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!report.is_finished());
    // Whoever looked now would find nothing.
    let all = keys::Event::all(Prefix::of(TenantId::INSTALLATION));
    let db = inner(&store).db().unwrap();
    let mut set = WriteSet::new(Placement::shared(TenantId::INSTALLATION), db.generation());
    for row in db.scan(Space::Catalog, &all, None) {
        set.operations.push((Space::Catalog, row.unwrap().0.to_vec(), None));
    }
    inner(&store).disk.commit(set).await.unwrap();
    drop(logging);
    let why = report.await.unwrap().unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Conflict, "{why:?}");
    store.close();
}

/// Also more than one commit removes.
#[tokio::test(flavor = "multi_thread")]
async fn events_go_with_their_tenant() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let events = 3 * UsageEvent::BATCH_MAX;
    for n in 0..3 {
        store.report_usage(&scope, &messages(n), false).await.unwrap();
    }
    let installation = Prefix::of(TenantId::INSTALLATION);
    let rows = || {
        let day = keys::EventDay::all(installation);
        let all = [keys::Event::all(installation), day, keys::Kept::all(installation)];
        let db = inner(&store).db().unwrap();
        all.map(|start| db.scan(Space::Catalog, &start, None).count())
    };
    assert_eq!(rows(), [events, 1, 1]);
    // In turns, between which others have theirs.
    assert!(!inner(&store).purge_events(scope.tenant()).await.unwrap());
    assert_eq!(rows(), [events - 2_000, 1, 1]);
    let (.., operator) = operator(&store).await;
    store.delete_tenant(&operator, &TenantName::parse("a").unwrap()).await.unwrap();
    let start = Instant::now();
    while rows() != [0, 0, 0] {
        assert!(start.elapsed() < Duration::from_secs(20), "they are still there: {:?}", rows());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.close();
}

/// Waits until the store was reopened after `disk` was told that writing has failed.
fn reopen(disk: &Disk) {
    let before = disk.db(0).unwrap().generation();
    disk.fail_for_test("as if the disk were full");
    assert_eq!(disk.health(), Health::ReadOnly("as if the disk were full".into()));
    let start = Instant::now();
    while disk.health() != Health::Ready {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", disk.health());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(disk.db(0).unwrap().generation(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_reopening_is_not_written_after() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let old = inner(&store).tenancy.open_tenant(scope.tenant()).await.unwrap().unwrap();
    let writing = Arc::clone(&old.writer).lock_owned().await;
    let mut stale = inner(&store).tenancy.begin(&old).unwrap();
    stale.audit(done(Author::work("test"), "late", "x", 1));
    reopen(&inner(&store).disk);
    let error = inner(&store)
        .tenancy
        .commit(&old, inner(&store).tenancy.root(None).await.unwrap(), stale)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("reopened"), "{error}");
    drop(writing);
    // The tenant is opened anew and goes on where the disk is.
    let new = inner(&store).tenancy.open_tenant(scope.tenant()).await.unwrap().unwrap();
    assert!(!Arc::ptr_eq(&old, &new));
    let mut commit = inner(&store).tenancy.begin(&new).unwrap();
    commit.audit(done(Author::work("test"), "in time", "x", 1));
    inner(&store)
        .tenancy
        .commit(&new, inner(&store).tenancy.root(None).await.unwrap(), commit)
        .await
        .unwrap();
    let log = store.audit(&scope, 0, 10).await.unwrap();
    assert_eq!(log.last().unwrap().event.action, "in time");
    store.close();
}

/// Nobody has to stop reading for the store to come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_reopened_while_it_is_read() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let name = DatabaseName::default_database();
    let store = Arc::new(store);
    let reading = Arc::clone(&store);
    let reader = tokio::spawn(async move {
        let (start, mut refused) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(3) {
            match reading.database(&scope, &name).await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                    refused += 1;
                }
            }
            tokio::task::yield_now().await;
        }
        refused
    });
    let inner = Arc::clone(inner(&store));
    tokio::task::spawn_blocking(move || reopen(&inner.disk)).await.unwrap();
    reader.await.unwrap();
    store.close();
}

/// A tenant that nobody has made.
fn nine(store: &Store) -> OpenTenant {
    let info = crate::TenantInfo {
        id: TenantId::new(9),
        name: TenantName::parse("n").unwrap(),
        state: TenantState::Active,
        isolation: Isolation::Shared,
        location: Location::Home,
        weight: 1,
        limits: Limits::default(),
        plan: None,
        exceptions: tenantry_types::Exceptions::default(),
        settings: std::collections::BTreeMap::new(),
        created_at: Timestamp(0),
        named_at: Timestamp(0),
        made_by: None,
        erase_at: None,
    };
    let origin = crate::tenancy::origin::Origins::of_nobody().of(info.id).unwrap();
    OpenTenant::new(info, (inner(store).tenancy.new_data_key(), origin), 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_commit_removes_the_change_row_that_falls_out() {
    let (_dir, store) = open();
    let tenant = nine(&store);
    let head = Head { sequence: 4_999, ..Head::default() };
    // It touches nothing, as the summed-up refusals of an audit log do.
    let mut commit = Commit::new(&tenant, head, &SystemEntropy, Timestamp(0));
    commit.audit(done(Author::work("test"), "x", "x", 1));
    let (set, _) = commit.finish();
    let old = keys::Change { sequence: 5_000 - 1_024 }.encode(tenant.prefix());
    assert!(set.operations.contains(&(Space::Data, old, None)));
    store.close();
}

#[tokio::test]
async fn a_tenant_that_is_forgotten_while_it_is_loaded_is_loaded_again() {
    let tenants = Tenants::new();
    let loads = std::cell::Cell::new(0);
    let found = tenants
        .get(TenantId::new(1), async || {
            loads.set(loads.get() + 1);
            if loads.get() == 1 {
                // Deleted between being read and being kept.
                tenants.forget(TenantId::new(1));
            }
            Ok(None)
        })
        .await
        .unwrap();
    assert!(found.is_none());
    assert_eq!((loads.get(), tenants.len()), (2, 0));
}

/// Several nodes may open a tenant twice in one process, each time with locks in the database.
#[tokio::test]
async fn what_was_committed_of_a_tenant_is_what_the_next_one_finds() {
    let (_dir, store) = open();
    let new_tenant = || nine(&store);
    let info = |state| crate::TenantInfo { state, ..(*new_tenant().info()).clone() };
    let tenants = Tenants::new();
    let (old, id) = (Arc::new(new_tenant()), new_tenant().id());
    let load = async || Ok(Some(new_tenant()));
    let before = tenants.get(id, load).await.unwrap().unwrap();
    assert_eq!(before.info().state, TenantState::Active);
    // Changed by whoever had it open before.
    tenants.renew(&old, info(TenantState::Suspended));
    assert_eq!((old.info().state, tenants.len()), (TenantState::Suspended, 0));
    // And while it is loaded.
    let loads = std::cell::Cell::new(0);
    let load = async || {
        loads.set(loads.get() + 1);
        if loads.get() == 1 {
            tenants.renew(&old, info(TenantState::Suspended));
        }
        Ok(Some(new_tenant()))
    };
    let after = tenants.get(id, load).await.unwrap().unwrap();
    assert_eq!(loads.get(), 2);
    // What is open stays open when it is changed itself.
    tenants.renew(&after, info(TenantState::Suspended));
    let found = tenants.get(id, async || panic!("it is open")).await.unwrap().unwrap();
    assert_eq!(found.info().state, TenantState::Suspended);
    store.close();
}

/// A view of the database does not change while others write.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_the_database_stands_still() {
    let (_dir, store) = open();
    let before: Arc<Db> = inner(&store).db().unwrap();
    tenant(&store).await;
    let names = keys::TenantName::all(Prefix::of(TenantId::INSTALLATION));
    assert_eq!(before.scan(Space::Catalog, &names, None).count(), 0);
    assert_eq!(inner(&store).db().unwrap().scan(Space::Catalog, &names, None).count(), 1);
    drop(before);
    store.close();
}

#[path = "vectors_tests.rs"]
mod vectors;

#[tokio::test(flavor = "multi_thread")]
async fn asking_how_much_a_tenant_has_makes_no_place() {
    let (dir, store) = open();
    let (.., operator) = operator(&store).await;
    let mut spec = TenantSpec::new(TenantName::parse("a").unwrap());
    spec.isolation = Some(Isolation::Database);
    let info = store.create_tenant(&operator, &spec).await.unwrap();
    // As if the making had been cut short.
    let placement = Placement { isolation: Isolation::Database, ..Placement::shared(info.id) };
    let row = PlaceRow { placement, fresh: Fresh::WithDatabase, told: 0 };
    let root = Placement::shared(TenantId::INSTALLATION);
    let mut set = WriteSet::new(root, inner(&store).db().unwrap().generation());
    let key = keys::Place { tenant: info.id.get() }.encode(Prefix::of(TenantId::INSTALLATION));
    set.operations.push((Space::Catalog, key.clone(), Some(row.encode())));
    inner(&store).disk.commit(set).await.unwrap();
    inner(&store).tenancy.tenants.forget_all();
    let (found, sizes) = store.tenant_sizes(&operator, &info.name).await.unwrap();
    assert_eq!((found.id, sizes), (info.id, None));
    let is = Db::get(&inner(&store).db().unwrap(), Space::Catalog, &key).unwrap();
    assert_eq!(is.as_deref(), Some(&row.encode()[..]));
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_counts_are_damage_for_whoever_asks_how_much_there_is() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let database = store.database(&scope, &DatabaseName::default_database()).await.unwrap();
    let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
    let (made, _) = store.create_collection(&scope, &database, &spec, false).await.unwrap();
    let key = keys::Statistics { collection: made.info().number.0, partition: catalog::PARTITION };
    lose(&store, key.encode(Prefix::of(scope.tenant()))).await;
    let (.., operator) = operator(&store).await;
    let asked = store.tenant_sizes(&operator, &TenantName::parse("a").unwrap()).await;
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A change goes on when its caller has gone away, so those that wait must have a bound.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_wait_for_one_before_them_are_bounded() {
    let (_dir, store) = open();
    let store = Arc::new(store);
    let scope = tenant(&store).await;
    let database = store.database(&scope, &DatabaseName::default_database()).await.unwrap();
    let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
    let collection = store.create_collection(&scope, &database, &spec, false).await.unwrap().0;
    let open = inner(&store).tenancy.open_tenant(scope.tenant()).await.unwrap().unwrap();
    let writing = open.writer.lock().await;
    let mut writes = tokio::task::JoinSet::new();
    let written = Arc::new(AtomicUsize::new(0));
    for n in 0..WAITERS_MAX + 2 {
        let (store, scope, collection) = (Arc::clone(&store), scope.clone(), collection.clone());
        let written = Arc::clone(&written);
        writes.spawn(async move {
            let record = RecordWrite::new(RecordId::parse(n.to_string()).unwrap());
            let record = RecordWrite { document: Some("text".into()), ..record };
            let mode = WriteMode::Upsert;
            let work = store.write(&scope, &collection, mode, vec![record]);
            let done = work.await.map(drop);
            written.fetch_add(1, Ordering::SeqCst);
            done
        });
    }
    for _ in 0..2 {
        let refused = tokio::time::timeout(Duration::from_secs(5), writes.join_next()).await;
        let refused = refused.expect("at once").unwrap().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy);
    }
    let all = Selector::default();
    let refused = store.delete(&scope, &collection, &all, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    let name = DatabaseName::parse("d").unwrap();
    let refused = store.create_database(&scope, &name).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    // Whoever changes a right comes after one of them, and not after all.
    let keys = {
        let (store, scope) = (Arc::clone(&store), scope.clone());
        tokio::spawn(async move { store.create_key(&scope, new_key(Role::Read)).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = written.load(Ordering::SeqCst);
    drop(writing);
    keys.await.unwrap().unwrap();
    let before = written.load(Ordering::SeqCst) - refused;
    assert!(before < WAITERS_MAX / 4, "{before}");
    while let Some(written) = writes.join_next().await {
        written.unwrap().unwrap();
    }
    store.create_database(&scope, &name).await.unwrap();
    store.close();
}

/// Whoever revokes a key waits only so long for a change of a tenant apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_long_under_way_looks_at_its_right_again() {
    let (_dir, store) = open();
    let (authority, principal, operator) = operator(&store).await;
    for (name, isolation) in [("a", Isolation::Shared), ("b", Isolation::Schema)] {
        let new = TenantSpec::new(TenantName::parse(name).unwrap());
        let spec = TenantSpec { isolation: Some(isolation), ..new };
        let info = store.create_tenant(&operator, &spec).await.unwrap();
        let admin: Scope<Admin> = authority.authorize(&principal, info.id, name).unwrap();
        let (row, key) = store.create_key(&admin, new_key(Role::Write)).await.unwrap();
        let tenancy = &inner(&store).tenancy;
        let who =
            authority.authenticate(Credential::Key(key), &store, tenancy.now()).await.unwrap();
        let scope: Scope<Write> = authority.authorize(&who, info.id, name).unwrap();
        let tenant = tenancy.open_tenant(info.id).await.unwrap().unwrap();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        tenancy.stands_still(&scope, (&tenant, None), long_ago).await.unwrap();
        store.revoke_key(&admin, row.id).await.unwrap();
        tenancy.stands_still(&scope, (&tenant, None), Instant::now()).await.unwrap();
        let again = tenancy.stands_still(&scope, (&tenant, None), long_ago).await;
        // One that is not apart was waited for.
        let kind = again.map_err(|error| error.kind());
        let is_apart = isolation != Isolation::Shared;
        assert_eq!(kind, if is_apart { Err(ErrorKind::Unauthenticated) } else { Ok(()) });
    }
    store.close();
}

fn new_key(role: Role) -> NewKey {
    NewKey { role, restriction: Restriction::default(), label: String::new(), expires_at: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_many_pages_are_listed_once_each() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let mut made = Vec::new();
    for count in [255, 256, 257, 513] {
        while made.len() < count {
            made.push(store.create_key(&scope, new_key(Role::Read)).await.unwrap().0.id);
        }
        made.sort();
        let listed = store.keys(&scope).await.unwrap();
        assert_eq!(listed.iter().map(|key| key.id).collect::<Vec<_>>(), made);
    }
    store.close();
}
