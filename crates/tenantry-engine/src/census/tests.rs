use super::*;
use crate::{Engine, EngineConfig};
use tenantry_auth::{Admin, Authority, Credential, Scope};
use tenantry_store::{EmbeddedConfig, Store, SystemClock};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, Error, RecordId, RecordWrite, TenantName,
    TenantSpec, Timestamp, WriteMode,
};

#[test]
fn a_page_that_cannot_be_read_is_read_again_a_few_times() {
    let (mut failures, took) = (0, Duration::from_millis(3));
    let failed = || Err(Error::internal("the root does not answer"));
    for _ in 0..2 {
        for _ in 0..RETRIES {
            assert_eq!(rest(failed(), took, &mut failures).unwrap(), Some(RETRY));
        }
        assert_eq!(rest(Ok(false), took, &mut failures).unwrap(), Some(took * RESTS));
    }
    for _ in 0..RETRIES {
        rest(failed(), took, &mut failures).unwrap();
    }
    rest(failed(), took, &mut failures).unwrap_err();
    assert_eq!(rest(Ok(true), took, &mut 0).unwrap(), None);
}

#[test]
fn a_count_that_takes_long_is_followed_by_a_pause() {
    let begun = Instant::now();
    assert_eq!(next(begun, begun + PAUSE), begun + EVERY);
    assert_eq!(next(begun, begun + 9 * EVERY), begun + 9 * EVERY + PAUSE);
}

/// As after a crash: no journal says that this tenant has written.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_said_is_found_by_a_later_count() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_embedded(EmbeddedConfig::new(folder.path().join("data"))).unwrap();
    let other = Authority::development();
    let principal = other.authenticate(Credential::None, &store, Timestamp(0)).await.unwrap();
    let operator = other.authorize_operator(&principal).unwrap();
    let spec = TenantSpec::new(TenantName::parse("a").unwrap());
    let id = store.create_tenant(&operator, &spec).await.unwrap().id;
    let scope: Scope<Admin> = other.authorize(&principal, id, "a").unwrap();
    let database = store.database(&scope, &DatabaseName::default_database()).await.unwrap();
    let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
    let (collection, _) = store.create_collection(&scope, &database, &spec, false).await.unwrap();
    let record = RecordWrite::new(RecordId::parse("r").unwrap());
    store.write(&scope, &collection, WriteMode::Upsert, vec![record]).await.unwrap();

    let (authority, clock) = (Authority::new(), Arc::new(SystemClock));
    let engine = Engine::start(EngineConfig { store, authority, clock });
    let reader = engine.operator(&engine.local_operator().await.unwrap()).unwrap();
    for _ in 0..10 {
        engine.0.counts.expire().await;
        if reader.sizes_of_all(&[]).await.is_some_and(|all| all.total.records == 1) {
            return;
        }
    }
    panic!("what it keeps is not known");
}
