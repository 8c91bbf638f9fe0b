//! Whoever has worked at a place for longer than it is kept after its tenant has left it.

use super::{Ground, all, fill, go};
use crate::stand::Stand;
use std::{num::NonZeroUsize, sync::Arc, time::Duration};
use tenantry_store::Store;
use tenantry_types::{ErrorKind, Isolation, WriteMode};

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}

/// A node has one connection for work, and somebody else uses it while the tenant is moved by another
/// one: what waits for it then asks where the tenant has lived.
async fn held_up_on_the_way(n: usize) {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is on PostgreSQL") };
    let stand = ground.open().await;
    let neighbour = stand.create_in("n", Isolation::Schema).await.expect("tenant");
    fill(&stand, &neighbour, 3).await;
    let session = site.session().await;
    let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'ten\\_%'";
    let schema: String = session.query_one(sql, &[]).await.expect("one").get(0);
    let (from, to) = ground.way(n);
    let scope = stand.create_at("a", from).await.expect("tenant");
    fill(&stand, &scope, 20).await;

    let mut config = site.config();
    config.databases.connections = NonZeroUsize::MIN;
    let other = Store::open_postgres(config).await.expect("a store");
    let other = Arc::new(Stand::over(other).await);
    let (ours, theirs) =
        (other.collection(&scope).await.unwrap(), other.collection(&neighbour).await.unwrap());
    assert_eq!(other.all(&scope, &ours).await.expect("get").len(), 20);
    assert_eq!(other.all(&neighbour, &theirs).await.expect("get").len(), 3);

    let lock = format!("BEGIN; LOCK TABLE {schema}.records IN ACCESS EXCLUSIVE MODE");
    session.batch_execute(&lock).await.expect("locked");
    let holding = {
        let (other, scope) = (Arc::clone(&other), neighbour.clone());
        tokio::spawn(async move { other.all(&scope, &theirs).await.map(|all| all.len()) })
    };
    until("nobody holds the connection", async || other.store.totals().connections.busy > 0).await;
    let reading = {
        let (other, scope, ours) = (Arc::clone(&other), scope.clone(), ours.clone());
        tokio::spawn(async move { other.all(&scope, &ours).await.map(|all| all.len()) })
    };
    let waiting = async || other.store.totals().connections.waiting > 0;
    until("nobody waits for the connection", waiting).await;
    go(&stand, "a", to).await;
    session.batch_execute("ROLLBACK").await.expect("unlocked");
    assert_eq!(holding.await.expect("it ends").expect("get"), 3);
    assert_eq!(reading.await.expect("it ends").expect("it is told where the tenant lives"), 20);
    // So does whoever changes something.
    let batch = vec![crate::stand::record("new", vec![1.0; 8], &[])];
    other.store.write(&scope, &ours, WriteMode::Upsert, batch).await.expect("write");
    assert_eq!(all(&stand, &scope).await.len(), 21);
    stand.close();
    other.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_was_held_up_finds_a_tenant_whose_rows_were_removed() {
    held_up_on_the_way(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_was_held_up_finds_a_tenant_whose_schema_was_removed() {
    held_up_on_the_way(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_was_held_up_finds_a_tenant_whose_database_was_removed() {
    held_up_on_the_way(2).await;
}

/// Counters that are really gone are damage, and not a move that never ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_that_are_gone_are_no_move() {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is on PostgreSQL") };
    let stand = ground.open().await;
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, 3).await;
    let collection = stand.collection(&scope).await.expect("collection");
    let id = scope.tenant();
    site.run(&format!("DELETE FROM tenantry.catalog WHERE tenant = {id} AND family = 17")).await;
    let begun = std::time::Instant::now();
    let why = stand.all(&scope, &collection).await.expect_err("damage");
    assert_eq!(why.kind(), ErrorKind::Corrupt, "{why:?}");
    let why = stand.store.audit(&scope, 0, 10).await.expect_err("damage");
    assert_eq!(why.kind(), ErrorKind::Corrupt, "{why:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "it was waited for");
    stand.close();
}
