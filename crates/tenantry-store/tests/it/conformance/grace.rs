//! Since when a tenant has its name, by what it is known again, and when it is erased. Each case gets
//! a store of its own.

use super::{UPSERT, World, record};
use std::{num::NonZeroU32, slice::from_ref};
use tenantry_auth::{Admin, Authority, Credential, KeyDirectory as _, Restriction, Role};
use tenantry_store::{NewKey, TenantChange, TenantInfo};
use tenantry_types::{
    Allowance, Error, ErrorKind, GetRequest, PlanName, Rate, Rates, Result, TenantName, TenantPlan,
    TenantSpec, TenantState, Timestamp,
};

/// Times of tenants that are not erased for long, and of such as are at once.
const LATE: Timestamp = Timestamp(u64::MAX);
const SOON: Timestamp = Timestamp(1);

fn tenant(text: &str) -> TenantName {
    TenantName::parse(text).expect("name")
}

fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.expect_err("this must fail").kind()
}

async fn found(w: &World<'_>, name: &str) -> Option<TenantInfo> {
    w.store.find_tenant(&tenant(name)).await.unwrap().map(|info| (*info).clone())
}

async fn change(w: &World<'_>, name: &str, change: &TenantChange) -> TenantInfo {
    w.store.change_tenant(&w.operator, &tenant(name), change).await.unwrap()
}

async fn retire(w: &World<'_>, name: &str, until: Timestamp) -> TenantInfo {
    w.store.retire_tenant(&w.operator, &tenant(name), until).await.unwrap()
}

async fn restore(w: &World<'_>, name: &str) -> Result<TenantInfo> {
    w.store.restore_tenant(&w.operator, &tenant(name)).await
}

async fn erase_due(w: &World<'_>) {
    w.store.erase_due(&w.authority.system("tests")).await.unwrap();
}

/// Makes a tenant of which the row has all that it can have; what it is then.
pub(super) async fn rich(w: &World<'_>, name: &str) -> TenantInfo {
    let plan = PlanName::parse("p").unwrap();
    let rates = Rates { hour: NonZeroU32::new(900).map(Rate::new), ..Rates::default() };
    let allowance = Allowance { rates, ..Allowance::default() };
    w.store.put_plan(&w.operator, &TenantPlan::new(plan.clone(), allowance)).await.unwrap();
    let spec = TenantSpec { made_by: Some([6; 32]), ..TenantSpec::new(tenant("before")) };
    let made = w.store.create_tenant(&w.operator, &spec).await.unwrap();
    assert_eq!((made.made_by, made.erase_at), (Some([6; 32]), None));
    assert_eq!(made.named_at, made.created_at);
    // Names have dates in milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let rename = TenantChange {
        name: Some(tenant(name)),
        plan: Some(Some(plan)),
        state: Some(TenantState::Suspended),
        ..TenantChange::default()
    };
    let renamed = change(w, "before", &rename).await;
    assert!(renamed.named_at > made.named_at);
    assert_eq!((renamed.created_at, renamed.made_by), (made.created_at, made.made_by));
    renamed
}

pub(super) async fn a_name_has_a_date(w: &World<'_>) {
    assert!(w.store.dates_names());
    let renamed = rich(w, "t").await;
    let other = TenantChange { weight: Some(7), ..TenantChange::default() };
    let same = TenantChange { name: Some(tenant("t")), ..other.clone() };
    for one in [other, same] {
        assert_eq!(change(w, "t", &one).await.named_at, renamed.named_at);
    }
    assert_eq!(found(w, "t").await.unwrap().named_at, renamed.named_at);
    assert_eq!(found(w, "before").await, None);
}

pub(super) async fn a_restored_tenant_is_what_it_was(w: &World<'_>) {
    let before = rich(w, "t").await;
    let deleted = retire(w, "t", LATE).await;
    assert_eq!(deleted, TenantInfo { erase_at: Some(LATE), ..before.clone() });
    // What was said first counts.
    assert_eq!(retire(w, "t", SOON).await, deleted);
    erase_due(w).await;
    assert_eq!(found(w, "t").await, Some(deleted.clone()));
    assert_eq!(w.store.tenants(&w.operator, None, 9).await.unwrap(), from_ref(&deleted));
    // Its name is taken, and nothing is done with it.
    let made = w.store.create_tenant(&w.operator, &TenantSpec::new(tenant("t"))).await;
    assert_eq!(kind(made), ErrorKind::AlreadyExists);
    for refused in [
        TenantChange { name: Some(tenant("u")), ..TenantChange::default() },
        TenantChange { state: Some(TenantState::Active), ..TenantChange::default() },
        TenantChange { plan: Some(None), ..TenantChange::default() },
    ] {
        let changed = w.store.change_tenant(&w.operator, &tenant("t"), &refused).await;
        assert_eq!(kind(changed), ErrorKind::Conflict);
    }
    // It keeps its plan from being deleted.
    let plan = PlanName::parse("p").unwrap();
    assert_eq!(kind(w.store.delete_plan(&w.operator, &plan).await), ErrorKind::Conflict);
    for _ in 0..2 {
        assert_eq!(restore(w, "t").await.unwrap(), before);
        assert_eq!(found(w, "t").await, Some(before.clone()));
    }
    // What was taken back is not erased, whenever it would have been.
    retire(w, "t", SOON).await;
    restore(w, "t").await.unwrap();
    erase_due(w).await;
    assert_eq!(found(w, "t").await, Some(before.clone()));
    let log = w.store.audit(&w.scope(before.id), 0, 100).await.unwrap();
    crate::stand::verify_chain(&log);
    let operators = w.store.operator_audit(&w.operator, 0, 100).await.unwrap();
    crate::stand::verify_chain(&operators);
    for log in [log, operators] {
        let told = log.iter().map(|entry| entry.event.action.as_str());
        let told: Vec<_> =
            told.filter(|one| ["tenant.retire", "tenant.restore"].contains(one)).collect();
        assert_eq!(told, ["tenant.retire", "tenant.restore", "tenant.retire", "tenant.restore"]);
    }
}

pub(super) async fn a_deleted_tenants_key_is_refused_until_it_is_restored(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let (row, key) = {
        let (role, restriction) = (Role::Admin, Restriction::default());
        let new = NewKey { role, restriction, label: String::new(), expires_at: None };
        w.store.create_key(&scope, new).await.unwrap()
    };
    let authority = Authority::new();
    let who = authority.authenticate(Credential::Key(key), w.store, Timestamp(0)).await.unwrap();
    let acts = authority.authorize::<Admin>(&who, scope.tenant(), "t").unwrap();
    let write = async || w.store.write(&acts, &c, UPSERT, vec![record("a", 1.0, &[])]).await;
    let read = async || w.store.get(&acts, &c, &GetRequest::default()).await;
    write().await.unwrap();
    retire(w, "t", LATE).await;
    for why in [write().await.map(drop), read().await.map(drop)] {
        let why: Error = why.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Unauthenticated);
        assert_eq!(why.public_message(), "the API key is not valid any more");
    }
    restore(w, "t").await.unwrap();
    assert_eq!(w.ids(&scope, &c).await, ["a"]);
    // The key is there, and so is its right: it is looked up again, as after a revocation.
    assert!(w.store.find_key(row.id).await.unwrap().is_some());
    write().await.unwrap();
    read().await.unwrap();
}

pub(super) async fn a_tenant_is_erased_when_its_time_has_come(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    w.store.write(&scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await.unwrap();
    w.tenant("u").await;
    retire(w, "u", LATE).await;
    retire(w, "t", SOON).await;
    // Until somebody erases it, it can be restored.
    restore(w, "t").await.unwrap();
    retire(w, "t", SOON).await;
    for _ in 0..2 {
        erase_due(w).await;
        assert_eq!(found(w, "t").await, None);
        assert!(w.store.tenant_by_id(scope.tenant()).await.unwrap().is_none());
        assert_eq!(kind(restore(w, "t").await), ErrorKind::NotFound);
    }
    assert_eq!(kind(w.store.get(&scope, &c, &GetRequest::default()).await), ErrorKind::NotFound);
    // Whoever gets its name is nobody's heir.
    let (again, c) = w.collection("t").await;
    assert!(again.tenant() > scope.tenant());
    erase_due(w).await;
    assert!(w.ids(&again, &c).await.is_empty());
    // One can be erased before its time.
    w.store.delete_tenant(&w.operator, &tenant("u")).await.unwrap();
    assert_eq!(found(w, "u").await, None);
    erase_due(w).await;
    let log = w.store.operator_audit(&w.operator, 0, 100).await.unwrap();
    let gone = log.iter().filter(|entry| entry.event.action == "tenant.delete");
    assert_eq!(gone.count(), 2);
}

pub(super) async fn one_restores_or_one_erases(w: &World<'_>) {
    let system = w.authority.system("tests");
    for n in 0..10 {
        let name = format!("t{n}");
        let scope = w.tenant(&name).await;
        retire(w, &name, SOON).await;
        let (restored, erased, again) = if n % 2 == 0 {
            tokio::join!(restore(w, &name), w.store.erase_due(&system), w.store.erase_due(&system))
        } else {
            let (erased, again, restored) = tokio::join!(
                w.store.erase_due(&system),
                w.store.erase_due(&system),
                restore(w, &name)
            );
            (restored, erased, again)
        };
        erased.and(again).unwrap();
        let left = w.store.tenant_by_id(scope.tenant()).await.unwrap();
        match restored {
            Ok(info) => assert_eq!(left.as_deref(), Some(&info)),
            Err(why) => {
                assert_eq!((why.kind(), left), (ErrorKind::NotFound, None));
            }
        }
    }
}
