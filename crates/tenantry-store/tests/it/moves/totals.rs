//! What all tenants keep, while one of them is moved.

use super::{Ground, fill, go};
use crate::stand::{Stand, tenant};
use tenantry_store::{Census, KeptSum};
use tenantry_types::TenantSpec;

async fn total(stand: &Stand) -> KeptSum {
    let mut census = Census::new(&[], (None, None));
    while !stand.store.count_on(&stand.system(), &mut census).await.expect("a page") {}
    assert_eq!(census.uncounted, 0);
    census.total
}

pub(super) async fn a_tenant_counts_the_same_wherever_it_lives(ground: Ground) {
    let (from, to) = ground.way(0);
    let stand = ground.open().await;
    let spec = TenantSpec {
        isolation: Some(from.0),
        location: Some(from.1),
        ..TenantSpec::new(tenant("a"))
    };
    let info = stand.store.create_tenant(&stand.operator, &spec).await.expect("made");
    let scope = stand.scope(info.id);
    let collect = async || {
        stand.store.collect_usage(&stand.system(), info.id).await.expect("added up");
    };
    fill(&stand, &scope, 500).await;
    collect().await;
    let before = total(&stand).await;
    assert_eq!(before.records, 500);
    go(&stand, "a", to).await;
    assert_eq!(total(&stand).await, before);
    collect().await;
    assert_eq!(total(&stand).await, before);
    fill(&stand, &scope, 700).await;
    collect().await;
    assert_eq!(total(&stand).await.records, 700);
    stand.close();
}
