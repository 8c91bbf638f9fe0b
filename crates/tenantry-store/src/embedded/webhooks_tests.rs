//! The bounds of what webhooks are to be told, with small numbers, and what a deleted one leaves.

use super::tests::{inner, open, operator};
use crate::{Answered, Attempted, Spent, Store};
use std::{collections::BTreeMap, time::Duration};
use tenantry_auth::{Authority, OperatorScope};
use tenantry_types::{
    EventKind, EventKinds, Quotas, TenantName, TenantSpec, Timestamp, WebhookName, WebhookUrl,
};

const LEASE: Duration = Duration::from_secs(60);

fn name(text: &str) -> WebhookName {
    WebhookName::parse(text).unwrap()
}

/// A webhook that is to be told so much.
async fn world(store: &Store, events: usize) -> (Authority, OperatorScope) {
    let (authority, _, operator) = operator(store).await;
    let url = WebhookUrl::parse("https://example.com/").unwrap();
    store.create_webhook(&operator, name("w"), url, EventKinds::default()).await.unwrap();
    for _ in 0..events {
        store.test_webhook(&operator, &name("w")).await.unwrap();
    }
    (authority, operator)
}

#[tokio::test]
async fn beyond_the_bounds_what_was_tried_most_and_the_oldest_letters_go() {
    let (_dir, store) = open();
    let (authority, operator) = world(&store, 5).await;
    let scope = authority.system("tests");
    let one = store.claim_deliveries(&scope, |_| 1, LEASE).await.unwrap().remove(0);
    let tried = one.event.id;
    let later = Attempted::Again(Timestamp(u64::MAX), Answered::default());
    store.settle_delivery(&scope, one, later).await.unwrap();
    let tenancy = &inner(&store).tenancy;
    let counted = tenancy.tidy((4, 9)).await.unwrap();
    assert_eq!((counted.waiting, counted.dropped), (5, 1));
    let left = store.claim_deliveries(&scope, |_| 9, LEASE).await.unwrap();
    assert!(left.len() == 4 && left.iter().all(|one| one.event.id != tried));
    let mut ids: Vec<_> = left.iter().map(|one| one.event.id).collect();
    ids.sort_unstable();
    for one in left {
        let dead = Attempted::Dead(Answered::default());
        store.settle_delivery(&scope, one, dead).await.unwrap();
    }
    let counted = tenancy.tidy((4, 3)).await.unwrap();
    assert_eq!((counted.waiting, counted.dead, counted.dropped), (0, 4, 1));
    let letters = store.dead_letters(&operator, &name("w"), None, 9).await.unwrap();
    let kept: Vec<_> = letters.iter().map(|letter| letter.event.id).collect();
    assert_eq!(kept, ids[1..]);
    assert_eq!(tenancy.tidy((4, 3)).await.unwrap().dropped, 0);
}

/// Parts of budgets must not crowd out what has happened: they are told when there is room again.
#[tokio::test]
async fn a_budget_of_which_nobody_can_be_told_now_is_told_later() {
    let (_dir, store) = open();
    let (authority, operator) = world(&store, 3).await;
    let scope = authority.system("tests");
    let spec = TenantSpec::new(TenantName::parse("t").unwrap());
    let id = store.create_tenant(&operator, &spec).await.unwrap().id;
    let tell = async || {
        let quotas = Quotas { day: Some(10), ..Quotas::default() };
        let spent = Spent { day: Some(9), ..Spent::default() };
        store.tell_budgets(&scope, id, (Timestamp(0), &spent), &quotas).await.unwrap()
    };
    let tenancy = &inner(&store).tenancy;
    // Four wait, and more than half of six are many.
    tenancy.tidy((6, 9)).await.unwrap();
    assert_eq!(tell().await, 0);
    for one in store.claim_deliveries(&scope, |_| 9, LEASE).await.unwrap() {
        store.settle_delivery(&scope, one, Attempted::Delivered).await.unwrap();
    }
    tenancy.tidy((6, 9)).await.unwrap();
    assert_eq!((tell().await, tell().await), (1, 0));
}

/// Whoever tries other tenants or says why it comes, for days, must not crowd out what has happened.
#[tokio::test]
async fn what_audit_logs_have_is_not_told_where_too_much_waits_and_leaves_no_letter() {
    let (_dir, store) = open();
    let (authority, operator) = world(&store, 4).await;
    let scope = authority.system("tests");
    let spec = TenantSpec::new(TenantName::parse("t").unwrap());
    let info = store.create_tenant(&operator, &spec).await.unwrap();
    let raise = async |kind: EventKind| {
        let whose = (info.id, info.name.clone());
        store.raise_event(&scope, kind, whose, BTreeMap::new()).await.unwrap()
    };
    let logged = [EventKind::CrossTenantAttempt, EventKind::BreakGlass];
    let tenancy = &inner(&store).tenancy;
    // Five wait, and more than half of six are many.
    tenancy.tidy((6, 9)).await.unwrap();
    for kind in logged {
        assert!(!raise(kind).await, "{kind}");
    }
    assert!(raise(EventKind::TenantMoved).await);
    tenancy.tidy((100, 9)).await.unwrap();
    for kind in logged {
        assert!(raise(kind).await, "{kind}");
    }
    let claimed = store.claim_deliveries(&scope, |_| 9, LEASE).await.unwrap();
    assert_eq!(claimed.len(), 8);
    for one in claimed {
        store.settle_delivery(&scope, one, Attempted::Dead(Answered::default())).await.unwrap();
    }
    let letters = store.dead_letters(&operator, &name("w"), None, 9).await.unwrap();
    assert_eq!(letters.len(), 6);
    assert!(letters.iter().all(|letter| !logged.contains(&letter.event.kind)));
}

#[tokio::test]
async fn what_a_deleted_webhook_has_left_goes() {
    let (_dir, store) = open();
    let (authority, operator) = world(&store, 3).await;
    let scope = authority.system("tests");
    // As if it had been too much for the commit that deletes it.
    let tenancy = &inner(&store).tenancy;
    let event = tenancy.event(EventKind::Ping, None, []);
    store.delete_webhook(&operator, &name("w")).await.unwrap();
    assert_eq!(store.tidy_deliveries(&scope).await.unwrap().waiting, 0);
    tenancy.leave_behind(7, &event).await.unwrap();
    let counted = store.tidy_deliveries(&scope).await.unwrap();
    assert_eq!((counted.waiting, counted.dropped), (1, 0));
    assert_eq!(store.tidy_deliveries(&scope).await.unwrap().waiting, 0);
}
