//! What tenants have used. Each case gets a store of its own, in which older programs are kept out.

use super::{UPSERT, World, only, record};
use tenantry_auth::{Admin, Scope, SystemScope, TenantId};
use tenantry_store::{Journaled, UsageNote, UsagePage};
use tenantry_types::{Amounts, ErrorKind, Every, Hour, Meter};

const NODE: [u8; 16] = [7; 16];

fn system(w: &World<'_>) -> SystemScope {
    w.authority.system("count usage in tests")
}

async fn total(w: &World<'_>, scope: &Scope<Admin>, every: Every) -> Amounts {
    let page = UsagePage { every, from: 0, limit: 1_000 };
    let mut all = Amounts::default();
    for used in w.store.usage(scope, page).await.unwrap() {
        all.add_all(&used.amounts);
    }
    all
}

fn note(tenant: TenantId, requests: u128) -> Vec<UsageNote> {
    let amounts = Amounts::of(Meter::Requests, requests);
    vec![UsageNote { tenant, hour: Hour(7), amounts }]
}

pub(super) async fn a_write_counts_in_its_commit_and_once(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let before = total(w, &scope, Every::Hour).await;
    let records = |n: usize| (0..n).map(|i| record(&format!("r{i}"), 1.0, &[])).collect();
    w.store.write(&scope, &c, UPSERT, records(3)).await.unwrap();
    w.store.write(&scope, &c, UPSERT, records(2)).await.unwrap();
    w.store.delete(&scope, &c, &only(&["r0"]), None).await.unwrap();
    for every in [Every::Hour, Every::Month, Every::Hour] {
        let more = total(w, &scope, every).await.since(&before).unwrap();
        assert_eq!(more.get(Meter::Requests), 3);
        assert_eq!(more.get(Meter::RecordsWritten), 5);
        // An id of 2 bytes, "text of " and the id, and two components.
        assert_eq!(more.get(Meter::BytesIn), 5 * (2 + 10 + 8));
    }
}

pub(super) async fn what_changes_nothing_counts_nothing(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let before = total(w, &scope, Every::Hour).await;
    let mode = tenantry_types::WriteMode::Update(tenantry_types::Missing::Skip);
    w.store.write(&scope, &c, mode, vec![record("r", 1.0, &[])]).await.unwrap();
    let fail = tenantry_types::WriteMode::Update(tenantry_types::Missing::Fail);
    w.store.write(&scope, &c, fail, vec![record("r", 1.0, &[])]).await.unwrap_err();
    assert_eq!(w.store.delete(&scope, &c, &only(&["r"]), None).await.unwrap(), 0);
    assert_eq!(total(w, &scope, Every::Hour).await, before);
}

pub(super) async fn a_journal_counts_once_under_its_number(w: &World<'_>) {
    let scope = w.tenant("t").await;
    let (id, system) = (scope.tenant(), system(w));
    let before = total(w, &scope, Every::Month).await;
    let write = async |number, requests| {
        w.store.write_journal(&system, (NODE, number), note(id, requests)).await.unwrap()
    };
    assert_eq!(write(1, 5).await, Journaled::Written);
    assert_eq!(write(1, 5).await, Journaled::Written);
    w.store.fold_usage(&system).await.unwrap();
    // Whoever waited for the answer to the first one asks after it was folded.
    assert_eq!(write(1, 5).await, Journaled::Written);
    assert_eq!(write(2, 6).await, Journaled::Written);
    let other = w.store.write_journal(&system, ([8; 16], 1), note(id, 100)).await.unwrap();
    assert_eq!(other, Journaled::Written);
    for _ in 0..2 {
        let more = total(w, &scope, Every::Month).await.since(&before).unwrap();
        assert_eq!(more.get(Meter::Requests), 111);
    }
}

pub(super) async fn a_node_that_is_forgotten_goes_on_under_another_id(w: &World<'_>) {
    let id = w.tenant("t").await.tenant();
    let written = w.store.write_journal(&system(w), (NODE, 9), note(id, 5)).await.unwrap();
    assert_eq!(written, Journaled::Forgotten);
}

pub(super) async fn usage_of_another_tenant_is_not_seen(w: &World<'_>) {
    let (scope, other) = (w.tenant("t").await, w.tenant("u").await);
    let before = total(w, &other, Every::Hour).await;
    w.store.write_journal(&system(w), (NODE, 1), note(scope.tenant(), 5)).await.unwrap();
    assert_eq!(total(w, &other, Every::Hour).await, before);
    let page = UsagePage { every: Every::Hour, from: 0, limit: 10 };
    let name = |text| tenantry_types::TenantName::parse(text).unwrap();
    let used = w.store.usage_of(&w.operator, &name("t"), page).await.unwrap();
    assert!(used.iter().any(|one| one.at == 7 && one.amounts.get(Meter::Requests) == 5));
    let missing = w.store.usage_of(&w.operator, &name("v"), page).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}

pub(super) async fn a_deleted_collection_is_not_kept(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let records = (0..9).map(|i| record(&format!("r{i}"), 1.0, &[])).collect();
    w.store.write(&scope, &c, UPSERT, records).await.unwrap();
    w.store.delete_collection(&scope, &c).await.unwrap();
    let after = total(w, &scope, Every::Hour).await.get(Meter::RecordMillis);
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    assert_eq!(total(w, &scope, Every::Hour).await.get(Meter::RecordMillis), after);
}
