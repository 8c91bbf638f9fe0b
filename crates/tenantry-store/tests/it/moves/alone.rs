//! Servers that move no tenants, and what programs that know nothing of moves meet.

use super::{
    Ground, MovePhase, all,
    child::{Fault, run},
    fill, go, over,
    steps::{RECORDS, compare},
};
use crate::stand::{Stand, record, tenant};
use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};
use tenantry_store::{
    Health, Store,
    postgres::{DatabaseUrl, migrate},
};
use tenantry_types::{ErrorKind, Isolation, Location, Selector, WriteMode};

/// Whoever moved a tenant has ended in the pause, and no server is left that moves tenants.
async fn left_closed(n: usize, cancel: bool) {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is on PostgreSQL") };
    let (from, to) = ground.way(n);
    let stand = ground.open().await;
    let scope = stand.create_at("a", from).await.expect("tenant");
    fill(&stand, &scope, RECORDS).await;
    stand.close();
    let said = run(&ground, "closed:1", (Fault::Kill, to), false);
    assert!(said.lines().any(|line| line == "end at closed"), "{said}");

    let node = Stand::over(site.open().await).await;
    let begun = Instant::now();
    let collection = loop {
        match node.collection(&scope).await {
            Ok(collection) => break collection,
            Err(why) => assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it stays closed");
    };
    let count = node.store.count(&scope, &collection, &Selector::default()).await.expect("count");
    assert!(count.value >= RECORDS);
    let batch = vec![record("r0", vec![1.0; 8], &[("n", 0)])];
    node.store.write(&scope, &collection, WriteMode::Upsert, batch).await.expect("write");
    let status = node.store.move_status(&node.operator, &tenant("a")).await.expect("status");
    let why = status.expect("a move").error.expect("why it does not go on");
    assert!(why.contains("--database-admin-url"), "{why}");
    if cancel {
        node.store.cancel_move(&node.operator, &tenant("a")).await.expect("cancelled");
    }
    node.close();
    // One that can goes on.
    let phase = compare(&ground, &said, scope.tenant(), from, RECORDS).await;
    assert_eq!(phase, if cancel { MovePhase::Cancelled } else { MovePhase::Done });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_opens_a_tenant_of_the_shared_tables_that_was_left_closed() {
    left_closed(0, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_opens_a_tenant_of_a_schema_that_was_left_closed_and_cancels() {
    left_closed(1, true).await;
}

/// Nodes that stand aside leave a mover alone that is at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_admins_url_only_looks() {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is on PostgreSQL") };
    let urls = site.urls();
    let mut config = site.config();
    let admin = DatabaseUrl::parse(urls.split_once(' ').expect("two").1).expect("a URL");
    config.admin_url = Some(admin);
    config.move_rate = NonZeroU64::new(50_000);
    let stand = Stand::over(Store::open_postgres(config).await.expect("a store")).await;
    let node = Stand::over(site.open().await).await;
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, 1_500).await;
    let to = (Isolation::Schema, Location::Home);
    stand.store.start_move(&stand.operator, &tenant("a"), super::target(to)).await.expect("a move");
    // Longer than it looks.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let status = node.store.move_status(&node.operator, &tenant("a")).await.expect("status");
    let status = status.expect("a move");
    assert!(status.error.is_none() && !status.phase.is_over(), "{status:?}");
    assert_eq!(over(&node, "a").await.phase, MovePhase::Done);
    assert_eq!(all(&node, &scope).await.len(), 1_500);
    stand.close();
    node.close();
}

/// The server knows from the first query on how much there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_place_is_surveyed() {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is on PostgreSQL") };
    let stand = ground.open().await;
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, 700).await;
    go(&stand, "a", (Isolation::Schema, Location::Home)).await;
    for table in ["records", "vectors"] {
        let sql = format!(
            "SELECT max(c.reltuples)::bigint FROM pg_class c JOIN pg_namespace n \
             ON n.oid = c.relnamespace WHERE n.nspname LIKE 'ten\\_%' AND c.relname = '{table}'"
        );
        assert_eq!(site.ask(&sql).await, 700, "{table}");
    }
    stand.close();
}

/// An older program takes the version of the root for a newer one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_know_nothing_of_moves_are_kept_out() {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is on PostgreSQL") };
    let version = async || site.ask("SELECT version::bigint FROM tenantry.installation").await;
    let stand = ground.open().await;
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, 3).await;
    let shared = Isolation::Shared.into();
    stand.store.start_move(&stand.operator, &tenant("a"), shared).await.expect_err("it is there");
    // What is set up by this program has logs of version 2 from the start.
    assert_eq!(version().await, 2_001);
    go(&stand, "a", (Isolation::Schema, Location::Home)).await;
    assert_eq!(version().await, 3_001);
    go(&stand, "a", (Isolation::Shared, Location::Home)).await;
    let urls = site.urls();
    migrate(urls.split_once(' ').expect("two").1, |_| {}).await.expect("nothing to change");
    assert_eq!(version().await, 3_001);
    let node = Stand::over(site.open().await).await;
    assert_eq!(all(&node, &scope).await.len(), 3);

    // What a later program may say.
    site.run("UPDATE tenantry.installation SET version = 8001").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for stand in [&stand, &node] {
        let why = stand.store.find_tenant(&tenant("a")).await.expect_err("refused");
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
        let health = stand.store.health();
        assert!(matches!(&health, Health::Unavailable(why) if why.contains("newer")), "{health:?}");
    }
    let why = Store::open_postgres(site.config()).await.expect_err("refused");
    assert!(why.to_string().contains("use a newer program"), "{why}");
    site.run("UPDATE tenantry.installation SET version = 3001").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(all(&node, &scope).await.len(), 3);
    stand.close();
    node.close();
}
