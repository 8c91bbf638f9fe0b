//! The commit that decides where a tenant lives, when nobody knows whether it was done.

use super::{
    db::Fault,
    tests::{inner, open, operator, tenant},
    *,
};
use crate::{MovePhase, Store};
use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Scope};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, ErrorKind, RecordId, RecordWrite, Selector,
    TenantName, WriteMode,
};

async fn over(store: &Store, operator: &tenantry_auth::OperatorScope) -> MovePhase {
    let name = TenantName::parse("a").unwrap();
    let begun = Instant::now();
    loop {
        let status = store.move_status(operator, &name).await.unwrap().unwrap();
        if status.phase.is_over() {
            return status.phase;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn collection(store: &Store, scope: &Scope<Admin>) -> crate::CollectionRef {
    let database = store.database(scope, &DatabaseName::default_database()).await.unwrap();
    let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
    store.create_collection(scope, &database, &spec, true).await.unwrap().0
}

async fn write(
    store: &Store,
    scope: &Scope<Admin>,
    collection: &crate::CollectionRef,
    n: usize,
) -> Result<()> {
    let record = RecordWrite {
        vector: Some(vec![n as f32, 1.0]),
        ..RecordWrite::new(RecordId::parse(format!("r{n}")).unwrap())
    };
    store.write(scope, collection, WriteMode::Upsert, vec![record]).await.map(drop)
}

/// Nothing is acknowledged before it is known, and nothing is lost whichever it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_writes_until_it_is_known_where_a_tenant_lives() {
    for fault in [Fault::Lost, Fault::Unknown] {
        let (_dir, store) = open();
        let store = Arc::new(store);
        let scope = tenant(&store).await;
        let (.., operator) = operator(&store).await;
        let name = TenantName::parse("a").unwrap();
        let made = collection(&store, &scope).await;
        for n in 0..40 {
            write(&store, &scope, &made, n).await.unwrap();
        }
        // Not from the root, whose commits fail as a whole.
        store.start_move(&operator, &name, Isolation::Schema).await.unwrap();
        assert_eq!(over(&store, &operator).await, MovePhase::Done);

        let failed = Arc::new(AtomicBool::new(false));
        let disk = &inner(&store).disk;
        let place = keys::Place { tenant: scope.tenant().get() };
        let place = place.encode(Prefix::of(TenantId::INSTALLATION));
        disk.fail_when({
            let failed = Arc::clone(&failed);
            move |set| {
                let decides = set.operations.iter().any(|(_, key, _)| *key == place);
                let is_first = decides && !failed.swap(true, Ordering::SeqCst);
                is_first.then_some(fault)
            }
        });
        store.start_move(&operator, &name, Isolation::Database).await.unwrap();
        let (mut written, mut unknown) = (40, Vec::new());
        let mut is_seen = false;
        loop {
            let was_failed = failed.load(Ordering::SeqCst) && disk.health() != Health::Ready;
            let outcome = write(&store, &scope, &made, written).await;
            let is_failed = failed.load(Ordering::SeqCst) && disk.health() != Health::Ready;
            is_seen |= was_failed;
            match outcome {
                Ok(()) => assert!(!(was_failed && is_failed), "written while nobody knows"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                    unknown.push(written);
                }
            }
            written += 1;
            let status = store.move_status(&operator, &name).await.unwrap().unwrap();
            if status.phase.is_over() && status.to == Isolation::Database {
                assert_eq!(status.phase, MovePhase::Done);
                break;
            }
        }
        assert!(is_seen, "the commit that decides never failed");
        let count = store.count(&scope, &made, &Selector::default()).await.unwrap().value;
        assert!((written - unknown.len()..=written).contains(&count), "{count} of {written}");
        let info = store.tenant_by_id(scope.tenant()).await.unwrap().unwrap();
        assert_eq!(info.isolation, Isolation::Database);
        store.close();
    }
}
