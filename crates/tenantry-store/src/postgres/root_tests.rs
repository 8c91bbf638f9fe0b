//! Databases beside an installation in files.

use super::super::stand::Stand;
use crate::{
    EmbeddedConfig, LocationConfig, Store,
    postgres::DatabaseUrl,
    tenancy::{Backend as _, disk::Touched, done, moving::moved, tenants::OpenTenant},
};
use std::sync::Arc;
use tenantry_auth::{Author, Authority, Credential};
use tenantry_types::{ErrorKind, Location, LocationName, TenantName, TenantSpec, Timestamp};

/// A tenant that is moved between when it is asked who has its records and when they are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_lives_in_files_meanwhile_is_looked_for_again() {
    Stand::with(async |stand| {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(&stand, folder.path()).await;
        let who = Authority::development();
        let caller = who.authenticate(Credential::None, &store, Timestamp(0)).await.unwrap();
        let operator = who.authorize_operator(&caller).unwrap();
        let spec = TenantSpec::new(TenantName::parse("moved").unwrap());
        let info = store.create_tenant(&operator, &spec).await.unwrap();
        let in_files = store.0.tenancy.open_tenant(info.id).await.unwrap().unwrap();
        let why = store.0.databases.inner.place(&in_files).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Unavailable);
        assert_eq!(why.public_message(), moved().public_message());
        store.close();
    })
    .await;
}

/// A store in a folder, and a tenant of it in a database.
async fn open(stand: &Stand, folder: &std::path::Path) -> (Store, Arc<OpenTenant>) {
    let url = DatabaseUrl::parse(&stand.set_up().await.database_url).unwrap();
    let name = LocationName::parse("eu").unwrap();
    let mut config = EmbeddedConfig::new(folder);
    config.databases.locations = vec![LocationConfig { name, url, admin_url: None }];
    let store = Store::open_embedded(config).unwrap();
    let authority = Authority::development();
    let who = authority.authenticate(Credential::None, &store, Timestamp(0)).await.unwrap();
    let operator = authority.authorize_operator(&who).unwrap();
    let location = Some(Location::Named(name));
    let spec = TenantSpec { location, ..TenantSpec::new(TenantName::parse("t").unwrap()) };
    let info = store.create_tenant(&operator, &spec).await.unwrap();
    let scope = authority.authorize::<tenantry_auth::Admin>(&who, info.id, "t").unwrap();
    let tenant = store.0.tenancy.tenant(&scope).await.unwrap();
    (store, tenant)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_beside_files_is_of_their_generation_and_of_its_own_place() {
    Stand::with(async |stand| {
        let folder = tempfile::tempdir().unwrap();
        let (store, tenant) = open(&stand, folder.path()).await;
        let tenancy = &store.0.tenancy;
        let _writing = tenant.writer.lock().await;
        let set = || {
            let mut commit = tenancy.begin(&tenant).unwrap();
            commit.touch(Touched::Tenant);
            commit.audit(done(Author::work("a"), "test", "t", 1));
            commit.finish().0
        };
        let sequence = async || {
            drop(tenancy.change(&tenant).await.unwrap());
            tenant.head().unwrap().sequence
        };
        let before = sequence().await;
        // The files were reopened meanwhile.
        let mut late = set();
        late.generation += 1;
        let view = tenancy.change(&tenant).await.unwrap();
        let why = tenancy.submit(view, late).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Unavailable);
        assert_eq!(sequence().await, before);
        // What was read elsewhere proves nothing here.
        let view = tenancy.root(None).await.unwrap();
        let why = tenancy.submit(view, set()).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Internal);
        assert_eq!(sequence().await, before);
        let view = tenancy.change(&tenant).await.unwrap();
        tenancy.submit(view, set()).await.unwrap();
        assert_eq!(sequence().await, before + 1);
        store.close();
    })
    .await;
}

/// There is one of a tenant in memory, with the locks, whatever happens in a database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_nobody_knows_of_makes_no_second_tenant() {
    Stand::with(async |stand| {
        let folder = tempfile::tempdir().unwrap();
        let (store, tenant) = open(&stand, folder.path()).await;
        let shared = &store.0.databases.inner.shared;
        shared.watch.forget();
        let again = store.0.tenancy.open_tenant(tenant.id()).await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&tenant, &again));
        store.0.tenancy.still_lives(tenant.id()).await.unwrap();
        let again = store.0.tenancy.open_tenant(tenant.id()).await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&tenant, &again));
        assert_eq!(shared.root().unwrap_err().kind(), ErrorKind::Internal);
        store.close();
    })
    .await;
}
