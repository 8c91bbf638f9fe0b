//! What all tenants keep, when notes of it are missing, wrong or damaged.

use super::{
    tests::{inner, open, operator, tenant},
    *,
};
use crate::{
    Census, Store,
    tenancy::{
        Backend as _,
        place::{Fresh, PlaceRow, Placement},
    },
};
use tenantry_auth::{Admin, Scope, SystemScope};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, RecordId, RecordWrite, TenantName, TenantSpec,
    WriteMode,
};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

async fn system(store: &Store) -> SystemScope {
    operator(store).await.0.system("tests")
}

async fn counted(store: &Store) -> Census {
    let (system, mut census) = (system(store).await, Census::new(&[], (None, None)));
    while !store.count_on(&system, &mut census).await.unwrap() {}
    census
}

async fn collect(store: &Store, id: TenantId) {
    store.collect_usage(&system(store).await, id).await.unwrap();
}

/// Writes rows of the root behind everybody's back.
async fn put(store: &Store, rows: Vec<(Space, Vec<u8>, Option<Vec<u8>>)>) {
    let root = Placement::shared(TenantId::INSTALLATION);
    let mut set = WriteSet::new(root, inner(store).db().unwrap().generation());
    set.operations = rows;
    inner(store).disk.commit(set).await.unwrap();
    inner(store).tenancy.tenants.forget_all();
}

fn note_key(id: TenantId) -> Vec<u8> {
    keys::Kept { tenant: id.get() }.encode(INSTALLATION)
}

async fn write_one(store: &Store, scope: &Scope<Admin>) {
    let database = store.database(scope, &DatabaseName::default_database()).await.unwrap();
    let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
    let (made, _) = store.create_collection(scope, &database, &spec, false).await.unwrap();
    let record = RecordWrite::new(RecordId::parse("r").unwrap());
    store.write(scope, &made, WriteMode::Upsert, vec![record]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_note_is_named_and_mended() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let id = scope.tenant();
    write_one(&store, &scope).await;
    collect(&store, id).await;
    let installation = inner(&store).tenancy.installation().await.unwrap();
    let (key, nothing) = inner(&store).tenancy.first_kept(&installation, id).unwrap();
    for (note, uncounted) in [(nothing, 0), (b"damaged".to_vec(), 1)] {
        put(&store, vec![(Space::Catalog, key.clone(), Some(note))]).await;
        let census = counted(&store).await;
        assert_eq!((census.total.records, census.uncounted), (0, uncounted));
        assert_eq!(census.noted.tenants(), [id]);
        collect(&store, id).await;
        let census = counted(&store).await;
        assert_eq!((census.total.records, census.uncounted), (1, 0));
    }
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_was_never_used_is_noted_to_keep_nothing() {
    let (_dir, store) = open();
    let id = tenant(&store).await.tenant();
    put(&store, vec![(Space::Catalog, note_key(id), None)]).await;
    let census = counted(&store).await;
    assert_eq!((census.uncounted, census.unnoted.tenants()), (1, &[id][..]));
    collect(&store, id).await;
    let census = counted(&store).await;
    assert_eq!((census.uncounted, census.unnoted.tenants()), (0, &[][..]));
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_not_made_keeps_nothing() {
    let (_dir, store) = open();
    let (.., operator) = operator(&store).await;
    let mut spec = TenantSpec::new(TenantName::parse("a").unwrap());
    spec.isolation = Some(Isolation::Database);
    let id = store.create_tenant(&operator, &spec).await.unwrap().id;
    // As if the making had been cut short, by a program that notes nothing.
    let placement = Placement { isolation: Isolation::Database, ..Placement::shared(id) };
    let row = PlaceRow { placement, fresh: Fresh::WithDatabase, told: 0 }.encode();
    let key = keys::Place { tenant: id.get() }.encode(INSTALLATION);
    let rows = [(note_key(id), None), (key, Some(row))];
    put(&store, rows.map(|(key, row)| (Space::Catalog, key, row)).into()).await;
    assert_eq!(counted(&store).await.uncounted, 1);
    collect(&store, id).await;
    assert_eq!(counted(&store).await.uncounted, 0);
    store.close();
}

/// It had records before anything was counted: nobody knows how many, and that is noted.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_noted_as_such() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    write_one(&store, &scope).await;
    let tenancy = &inner(&store).tenancy;
    {
        let opened = tenancy.open_tenant(scope.tenant()).await.unwrap().unwrap();
        let _writing = opened.writer.lock().await;
        let mut commit = tenancy.begin(&opened).unwrap();
        commit.head.usage = None;
        let root = tenancy.root(None).await.unwrap();
        tenancy.commit(&opened, root, commit).await.unwrap();
    }
    put(&store, vec![(Space::Catalog, note_key(scope.tenant()), None)]).await;
    collect(&store, scope.tenant()).await;
    let census = counted(&store).await;
    assert_eq!((census.total.records, census.uncounted), (0, 1));
    assert!(census.unnoted.tenants().is_empty());
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_rows_hide_no_other_tenant() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    write_one(&store, &scope).await;
    collect(&store, scope.tenant()).await;
    let name = [keys::TenantName::all(INSTALLATION), b"zz".to_vec()].concat();
    let longer = [note_key(scope.tenant()), vec![0]].concat();
    let members = keys::MemberCounts { tenant: scope.tenant().get() }.encode(INSTALLATION);
    let members_longer = [members.clone(), vec![0]].concat();
    let damaged = [name, longer, members, members_longer];
    let rows = damaged.map(|key| (Space::Catalog, key, Some(b"bad".to_vec())));
    put(&store, rows.into()).await;
    let census = counted(&store).await;
    // The name, and the members.
    assert_eq!((census.total.records, census.total.users, census.uncounted), (1, 0, 2));
    store.close();
}

/// Whoever adds up its usage meanwhile leaves no row behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_erased_meanwhile_is_not_noted() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let id = scope.tenant();
    write_one(&store, &scope).await;
    let tenancy = Arc::clone(&inner(&store).tenancy);
    let installation = tenancy.installation().await.unwrap();
    let logging = Arc::clone(&installation.writer).lock_owned().await;
    let opened = tenancy.open_tenant(id).await.unwrap().unwrap();
    let collecting = tokio::spawn({
        let tenancy = Arc::clone(&tenancy);
        async move { tenancy.collect(id).await }
    });
    // It waits for the lock.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!collecting.is_finished());
    let mut set = WriteSet::new(
        Placement::shared(TenantId::INSTALLATION),
        inner(&store).db().unwrap().generation(),
    );
    set.operations.push((Space::Catalog, note_key(id), None));
    inner(&store).disk.commit(set).await.unwrap();
    opened.mark_gone();
    drop(logging);
    collecting.await.unwrap().unwrap();
    let db = inner(&store).db().unwrap();
    assert_eq!(db.scan(Space::Catalog, &keys::Kept::all(INSTALLATION), None).count(), 0);
    drop(db);
    store.close();
}
