//! Callers that go away at any moment: nothing stays locked, no name stays reserved, and memory
//! holds what the disk holds.

use crate::stand::{Chance, Stand, ids, record, tenant, whole_number};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tenantry_auth::{Admin, Scope};
use tenantry_store::CollectionRef;
use tenantry_types::{
    CollectionName, ErrorKind, FieldTest, Filter, GetRequest, Metric, Page, Record, Selector,
    WriteMode,
};

/// Lets a future live for a moment only.
async fn briefly<T>(chance: &mut Chance, work: impl Future<Output = T>) -> Option<T> {
    let life = Duration::from_micros(chance.below(1_500));
    tokio::time::timeout(life, work).await.ok()
}

/// What memory answers; the filter makes sure that it is memory that is asked.
async fn hot(stand: &Stand, scope: &Scope<Admin>, collection: &CollectionRef) -> Vec<Record> {
    let filter = Filter::Field { key: "n".into(), test: FieldTest::Exists(true) };
    let request = GetRequest {
        select: Selector { ids: None, filter: Some(filter) },
        include: crate::stand::everything(),
        ..GetRequest::default()
    };
    let got = stand.store.get(scope, collection, &request);
    let got = tokio::time::timeout(Duration::from_secs(10), got).await.expect("nothing is locked");
    got.expect("get").value
}

async fn use_records(stand: Arc<Stand>, name: String, seed: u64) {
    let mut chance = Chance(seed);
    let (scope, collection) = stand.tenant_with_collection(&name).await;
    let mut finished = 0;
    for n in 0..60 {
        if n % 20 == 10 {
            hot(&stand, &scope, &collection).await;
        }
        let n = i64::from(n);
        let first = chance.below(20);
        match chance.below(4) {
            0 => {
                let select = ids((first..first + 5).map(|id| format!("r{id}")));
                let work = stand.store.delete(&scope, &collection, &select, None);
                finished += u32::from(briefly(&mut chance, work).await.is_some());
            }
            1 => {
                // Reads that load the partition are dropped half-way too.
                briefly(&mut chance, hot(&stand, &scope, &collection)).await;
            }
            _ => {
                let batch = (first..first + 5)
                    .map(|id| record(&format!("r{id}"), vec![1.0; 64], &[("n", n)]))
                    .collect();
                let work = stand.store.write(&scope, &collection, WriteMode::Upsert, batch);
                if let Some(written) = briefly(&mut chance, work).await {
                    written.expect("write");
                    finished += 1;
                }
            }
        }
    }
    assert!(finished < 60, "nothing was cut short");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_writes_leave_memory_and_disk_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Arc::new(Stand::open(dir.path()).await);
    let mut users = tokio::task::JoinSet::new();
    for n in 0..8 {
        users.spawn(use_records(Arc::clone(&stand), format!("t{n}"), 100 + n));
    }
    while let Some(user) = users.join_next().await {
        user.expect("user");
    }
    let mut before = BTreeMap::new();
    for n in 0..8 {
        let info = stand.store.find_tenant(&tenant(&format!("t{n}"))).await.expect("find");
        let scope = stand.scope(info.expect("it lives").id);
        let collection = stand.collection(&scope).await.expect("collection");
        // A write that waits its turn shows that all before it have ended.
        let last = vec![record("last", vec![0.0; 64], &[("n", -1)])];
        let write = stand.store.write(&scope, &collection, WriteMode::Upsert, last);
        let written = tokio::time::timeout(Duration::from_secs(10), write).await;
        written.expect("nothing is locked").expect("write");
        before.insert(n, hot(&stand, &scope, &collection).await);
    }
    Arc::into_inner(stand).expect("nobody uses it").close();

    let stand = Stand::open(dir.path()).await;
    for (n, before) in before {
        let info = stand.store.find_tenant(&tenant(&format!("t{n}"))).await.expect("find");
        let scope = stand.scope(info.expect("it lives").id);
        let collection = stand.collection(&scope).await.expect("collection");
        let cold = stand.all(&scope, &collection).await.expect("get");
        assert_eq!(before, cold, "tenant t{n}: memory and disk differ");
        assert!(cold.iter().any(|row| whole_number(row, "n") == -1));
        let count = stand.store.count(&scope, &collection, &Selector::default()).await;
        assert_eq!(count.expect("count").value, cold.len());
        stand.verify_audit(&scope).await;
    }
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_creations_and_deletions_leave_names_free_or_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    let mut chance = Chance(3);
    let (scope, _) = stand.tenant_with_collection("owner").await;
    let database = stand.default_database(&scope).await;
    let (mut made, mut cut_short) = (0, 0);
    for n in 0..150 {
        let name = format!("t{}", n % 5);
        match briefly(&mut chance, stand.create(&name)).await {
            Some(Ok(_)) => made += 1,
            Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}"),
            None => cut_short += 1,
        }
        let deletion = async {
            let outcome = stand.store.delete_tenant(&stand.operator, &tenant(&name)).await;
            if let Err(error) = outcome {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
            }
        };
        if chance.below(2) == 0 && briefly(&mut chance, deletion).await.is_none() {
            cut_short += 1;
        }
        let spec = crate::stand::spec(&format!("c{}", n % 3), Metric::Cosine);
        let creation = stand.store.create_collection(&scope, &database, &spec, true);
        briefly(&mut chance, Box::pin(creation)).await;
        if let Ok(found) = stand.store.collection(&scope, &database, &spec.name).await {
            briefly(&mut chance, stand.store.delete_collection(&scope, &found)).await;
        }
    }
    assert!(made > 0 && cut_short > 20, "{made} were made, {cut_short} cut short");

    // Whatever was cut short has ended once these have: every name can be taken and given back.
    let settle = async {
        for n in 0..5 {
            let name = tenant(&format!("t{n}"));
            let living = stand.store.find_tenant(&name).await.expect("find");
            // A creation that is still under way holds the name.
            let mut tries = 0;
            while let Err(error) = stand.create(name.as_str()).await {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
                tries += 1;
                assert!(tries < 1_000, "{name} is neither free nor taken; it was {living:?}");
                match stand.store.delete_tenant(&stand.operator, &name).await {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        for n in 0..3 {
            let spec = crate::stand::spec(&format!("c{n}"), Metric::Cosine);
            let made = stand.store.create_collection(&scope, &database, &spec, true).await;
            stand.store.delete_collection(&scope, &made.expect("create").0).await.expect("delete");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), settle).await.expect("nothing is locked");
    compare_with_disk(dir.path(), stand).await;
}

async fn compare_with_disk(folder: &std::path::Path, stand: Stand) {
    let scope = |stand: &Stand, id| stand.scope(id);
    let memory = stand.store.tenants(&stand.operator, None, 100).await.expect("list");
    let owner = memory.iter().find(|info| info.name.as_str() == "owner").expect("owner").id;
    let of = scope(&stand, owner);
    let database = stand.default_database(&of).await;
    let page = Page::default();
    let names = async |stand: &Stand| -> Vec<CollectionName> {
        let all = stand.store.collections(&of, &database, page).await.expect("list");
        all.iter().map(|one| one.info().name.clone()).collect()
    };
    let collections = names(&stand).await;
    assert_eq!(collections.len(), 1, "{collections:?}");
    stand.close();
    let stand = Stand::open(folder).await;
    let disk = stand.store.tenants(&stand.operator, None, 100).await.expect("list");
    assert_eq!(memory, disk);
    assert_eq!(names(&stand).await, collections);
    for info in disk {
        stand.verify_audit(&scope(&stand, info.id)).await;
    }
    stand.close();
}
