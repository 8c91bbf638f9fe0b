//! Endpoints that are told what happens. Each case gets a store of its own, in which older programs
//! are kept out.

use super::World;
use std::time::Duration;
use tenantry_auth::SystemScope;
use tenantry_store::{Answered, Attempted, Delivery, Event, TenantChange, Webhook, WebhookChange};
use tenantry_types::{
    ErrorKind, EventId, EventKind, EventKinds, Fact, Result, TenantName, TenantSpec, TenantState,
    Timestamp, WEBHOOKS_MAX, WebhookName, WebhookUrl,
};

const LEASE: Duration = Duration::from_secs(60);

fn system(w: &World<'_>) -> SystemScope {
    w.authority.system("tell webhooks in tests")
}

fn name(text: &str) -> WebhookName {
    WebhookName::parse(text).unwrap()
}

fn tenant(text: &str) -> TenantName {
    TenantName::parse(text).unwrap()
}

fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.expect_err("this must fail").kind()
}

async fn try_hook(w: &World<'_>, text: &str, kinds: &[EventKind]) -> Result<Webhook> {
    let url = WebhookUrl::parse(format!("https://{text}.example/")).unwrap();
    let events = EventKinds(kinds.iter().copied().collect());
    let made = w.store.create_webhook(&w.operator, name(text), url, events).await?;
    assert_ne!(made.1.reveal(), &[0; 32]);
    Ok(made.0)
}

pub(super) async fn hook(w: &World<'_>, text: &str, kinds: &[EventKind]) -> Webhook {
    try_hook(w, text, kinds).await.unwrap()
}

async fn claim(w: &World<'_>, lease: Duration) -> Vec<Delivery> {
    w.store.claim_deliveries(&system(w), |_| 100, lease).await.unwrap()
}

async fn settle(w: &World<'_>, delivery: Delivery, attempted: Attempted) {
    w.store.settle_delivery(&system(w), delivery, attempted).await.unwrap();
}

/// All that waits, which has arrived then: whom, and what.
pub(super) async fn arrive(w: &World<'_>) -> Vec<(String, Event)> {
    let mut arrived = Vec::new();
    loop {
        let claimed = claim(w, LEASE).await;
        if claimed.is_empty() {
            break;
        }
        for one in claimed {
            arrived.push((one.webhook.name.to_string(), one.event.clone()));
            settle(w, one, Attempted::Delivered).await;
        }
    }
    arrived.sort_by_key(|(whom, event)| (whom.clone(), event.id, event.kind));
    arrived
}

fn kinds(arrived: &[(String, Event)]) -> Vec<EventKind> {
    let mut kinds: Vec<_> = arrived.iter().map(|(_, event)| event.kind).collect();
    kinds.sort_unstable();
    kinds
}

async fn state(w: &World<'_>, whose: &str, state: TenantState) {
    let change = TenantChange { state: Some(state), ..TenantChange::default() };
    w.store.change_tenant(&w.operator, &tenant(whose), &change).await.unwrap();
}

async fn log_of(w: &World<'_>) -> Vec<(String, String)> {
    let log = w.store.operator_audit(&w.operator, 0, 1_000).await.unwrap();
    let told = log.into_iter().map(|entry| (entry.event.action, entry.event.target));
    told.filter(|(action, _)| action.starts_with("webhook.")).collect()
}

pub(super) async fn webhooks_come_and_go(w: &World<'_>) {
    assert_eq!(w.store.webhooks(&w.operator).await.unwrap(), []);
    let b = hook(w, "b", &[EventKind::TenantMoved]).await;
    let a = hook(w, "a", &[]).await;
    assert_eq!(kind(try_hook(w, "a", &[]).await), ErrorKind::AlreadyExists);
    assert_eq!(w.store.webhooks(&w.operator).await.unwrap(), [a.clone(), b.clone()]);
    let url = WebhookUrl::parse("https://other.example/").unwrap();
    let change = WebhookChange { url: Some(url.clone()), enabled: Some(false), events: None };
    let changed = w.store.change_webhook(&w.operator, &b.name, change.clone()).await.unwrap();
    let mut expected = b.clone();
    (expected.url, expected.enabled) = (url, false);
    assert_eq!(changed, expected);
    // What changes nothing is no entry.
    w.store.change_webhook(&w.operator, &b.name, change).await.unwrap();
    assert_eq!(w.store.webhook(&w.operator, &b.name).await.unwrap(), changed);
    let (rotated, _) = w.store.rotate_webhook(&w.operator, &a.name).await.unwrap();
    assert!(rotated.old_secret_until.is_some());
    w.store.delete_webhook(&w.operator, &b.name).await.unwrap();
    assert_eq!(kind(w.store.webhook(&w.operator, &b.name).await), ErrorKind::NotFound);
    assert_eq!(kind(w.store.delete_webhook(&w.operator, &b.name).await), ErrorKind::NotFound);
    let said = |action: &str, target: &str| (action.to_owned(), target.to_owned());
    let expected = [
        said("webhook.create", "b"),
        said("webhook.create", "a"),
        said("webhook.change", "b"),
        said("webhook.rotate", "a"),
        said("webhook.delete", "b"),
    ];
    assert_eq!(log_of(w).await, expected);
}

pub(super) async fn there_are_so_many_webhooks_and_no_more(w: &World<'_>) {
    for n in 0..WEBHOOKS_MAX {
        hook(w, &format!("w{n}"), &[]).await;
    }
    assert_eq!(kind(try_hook(w, "more", &[]).await), ErrorKind::LimitExceeded);
    w.store.delete_webhook(&w.operator, &name("w0")).await.unwrap();
    hook(w, "more", &[]).await;
}

pub(super) async fn nobody_is_told_who_does_not_want_to_know(w: &World<'_>) {
    w.tenant("before").await;
    assert!(claim(w, LEASE).await.is_empty());
    hook(w, "moves", &[EventKind::TenantMoved]).await;
    let all = hook(w, "all", &[]).await;
    let disable = WebhookChange { enabled: Some(false), ..WebhookChange::default() };
    hook(w, "off", &[]).await;
    w.store.change_webhook(&w.operator, &name("off"), disable).await.unwrap();
    let scope = w.tenant("t").await;
    let arrived = arrive(w).await;
    let [(whom, event)] = arrived.as_slice() else { panic!("{arrived:?}") };
    assert_eq!((whom.as_str(), event.kind), ("all", EventKind::TenantCreated));
    assert_eq!(event.tenant, Some((scope.tenant(), tenant("t"))));
    assert_eq!(event.facts.get("origin"), Some(&Fact::from("create")));
    assert_eq!(w.store.tidy_deliveries(&system(w)).await.unwrap().waiting, 0);
    // One that is made anew under the same name is told nothing that was meant for the one before.
    w.tenant("u").await;
    w.store.delete_webhook(&w.operator, &all.name).await.unwrap();
    hook(w, "all", &[]).await;
    assert!(arrive(w).await.is_empty());
}

pub(super) async fn a_tenants_life_is_told_in_its_commits(w: &World<'_>) {
    hook(w, "w", &[]).await;
    w.tenant("t").await;
    state(w, "t", TenantState::Suspended).await;
    state(w, "t", TenantState::Suspended).await;
    state(w, "t", TenantState::Active).await;
    w.store.retire_tenant(&w.operator, &tenant("t"), Timestamp(u64::MAX)).await.unwrap();
    w.store.restore_tenant(&w.operator, &tenant("t")).await.unwrap();
    let told = arrive(w).await;
    let expected = [
        EventKind::TenantCreated,
        EventKind::TenantSuspended,
        EventKind::TenantResumed,
        EventKind::TenantDeleted,
        EventKind::TenantRestored,
    ];
    assert_eq!(kinds(&told), expected);
    let deleted = told.iter().find(|(_, event)| event.kind == EventKind::TenantDeleted).unwrap();
    assert_eq!(deleted.1.facts.get("erase_at_ms"), Some(&Fact::Number(u64::MAX)));
    // With its time come it is only erased; without a grace it is deleted and erased.
    w.store.retire_tenant(&w.operator, &tenant("t"), Timestamp(1)).await.unwrap();
    w.store.erase_due(&system(w)).await.unwrap();
    assert_eq!(kinds(&arrive(w).await), [EventKind::TenantDeleted, EventKind::TenantErased]);
    let id = w.tenant("u").await.tenant();
    w.store.delete_tenant(&w.operator, &tenant("u")).await.unwrap();
    let told = arrive(w).await;
    let expected = [EventKind::TenantCreated, EventKind::TenantDeleted, EventKind::TenantErased];
    assert_eq!(kinds(&told), expected);
    assert!(told.iter().all(|(_, event)| event.tenant == Some((id, tenant("u")))));
}

pub(super) async fn what_is_refused_is_told_nobody(w: &World<'_>) {
    hook(w, "w", &[]).await;
    w.tenant("t").await;
    arrive(w).await;
    let again = TenantSpec::new(tenant("t"));
    assert_eq!(kind(w.store.create_tenant(&w.operator, &again).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(w.store.delete_tenant(&w.operator, &tenant("u")).await), ErrorKind::NotFound);
    assert!(arrive(w).await.is_empty());
}

pub(super) async fn one_claim_of_an_event_is_one_and_ends(w: &World<'_>) {
    hook(w, "w", &[]).await;
    w.tenant("t").await;
    let scope = system(w);
    // Of two at once one gets it.
    let one = || w.store.claim_deliveries(&scope, |_| 9, LEASE);
    let (a, b) = tokio::join!(one(), one());
    let mut both = [a.unwrap(), b.unwrap()].concat();
    assert_eq!(both.len(), 1, "{both:?}");
    assert!(claim(w, LEASE).await.is_empty());
    // No place is free: nobody takes any.
    let event = both.remove(0);
    settle(w, event.clone(), Attempted::Again(Timestamp(1), Answered::default())).await;
    assert!(w.store.claim_deliveries(&scope, |_| 0, LEASE).await.unwrap().is_empty());
    // A claim that has ended: another one has it, under the same id, and who was first says nothing.
    let first = claim(w, Duration::ZERO).await.remove(0);
    assert_eq!((first.event.id, first.attempts), (event.event.id, 1));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = claim(w, LEASE).await.remove(0);
    assert_eq!(second.event, first.event);
    settle(w, first, Attempted::Dead(Answered::default())).await;
    assert!(w.store.dead_letters(&w.operator, &name("w"), None, 9).await.unwrap().is_empty());
    settle(w, second, Attempted::Delivered).await;
    assert_eq!(w.store.tidy_deliveries(&scope).await.unwrap().waiting, 0);
}

pub(super) async fn what_does_not_arrive_is_kept_sent_again_or_forgotten(w: &World<'_>) {
    hook(w, "w", &[]).await;
    w.tenant("t").await;
    w.tenant("u").await;
    let later = Answered { status: Some(500), why: "status 500".to_owned() };
    for one in claim(w, LEASE).await {
        settle(w, one, Attempted::Again(Timestamp(u64::MAX), later.clone())).await;
    }
    assert!(claim(w, LEASE).await.is_empty());
    let waiting = w.store.tidy_deliveries(&system(w)).await.unwrap();
    assert_eq!((waiting.waiting, waiting.dead, waiting.dropped), (2, 0, 0));
    w.tenant("v").await;
    w.tenant("x").await;
    for one in claim(w, LEASE).await {
        settle(w, one, Attempted::Dead(later.clone())).await;
    }
    let w_ = name("w");
    let dead = async |after: Option<EventId>| {
        w.store.dead_letters(&w.operator, &w_, after, 9).await.unwrap()
    };
    let letters = dead(None).await;
    let [first, second] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((first.attempts, &first.last), (1, &later));
    assert_eq!(dead(Some(first.event.id)).await, std::slice::from_ref(second));
    w.store.retry_dead_letter(&w.operator, &w_, first.event.id).await.unwrap();
    w.store.discard_dead_letter(&w.operator, &w_, second.event.id).await.unwrap();
    assert!(dead(None).await.is_empty());
    let gone = w.store.retry_dead_letter(&w.operator, &w_, second.event.id).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
    let again = claim(w, LEASE).await;
    let [again] = again.as_slice() else { panic!("{again:?}") };
    assert_eq!((&again.event, again.attempts), (&first.event, 0));
    let targets: Vec<_> = log_of(w).await.split_off(1);
    let said = |action: &str, id: EventId| (action.to_owned(), format!("w {id}"));
    let expected =
        [said("webhook.retry", first.event.id), said("webhook.discard", second.event.id)];
    assert_eq!(targets, expected);
}

pub(super) async fn a_test_and_an_attempt_are_told_and_signed_by_both_secrets(w: &World<'_>) {
    let only = hook(w, "w", &[EventKind::CrossTenantAttempt]).await;
    let id = w.store.test_webhook(&w.operator, &only.name).await.unwrap();
    let pinged = claim(w, LEASE).await.remove(0);
    assert_eq!((pinged.event.id, pinged.event.kind), (id, EventKind::Ping));
    assert_eq!((pinged.event.tenant.as_ref(), pinged.secrets.len()), (None, 1));
    let before = pinged.secrets[0].clone();
    settle(w, pinged, Attempted::Delivered).await;
    let scope = w.tenant("t").await;
    let facts = || [("attempts", Fact::Number(3))].into();
    let raise = async |kind| {
        let whose = (scope.tenant(), tenant("t"));
        w.store.raise_event(&system(w), kind, whose, facts()).await.unwrap()
    };
    assert!(!raise(EventKind::TenantMoved).await);
    assert!(raise(EventKind::CrossTenantAttempt).await);
    let (_, new) = w.store.rotate_webhook(&w.operator, &only.name).await.unwrap();
    let told = claim(w, LEASE).await.remove(0);
    assert_eq!(told.event.facts.get("attempts"), Some(&Fact::Number(3)));
    assert_eq!(told.secrets, [new, before]);
    let disable = WebhookChange { enabled: Some(false), ..WebhookChange::default() };
    w.store.change_webhook(&w.operator, &only.name, disable).await.unwrap();
    assert_eq!(kind(w.store.test_webhook(&w.operator, &only.name).await), ErrorKind::Conflict);
}

pub(super) async fn told_once_by_two(one: &World<'_>, two: &World<'_>) {
    hook(one, "w", &[]).await;
    for n in 0..6 {
        let at = if n % 2 == 0 { one } else { two };
        at.tenant(&format!("t{n}")).await;
    }
    let claims = || async { tokio::join!(claim(one, LEASE), claim(two, LEASE)) };
    let ((a, b), (c, d)) = tokio::join!(claims(), claims());
    let claimed = [a, b, c, d].concat();
    let mut whose: Vec<_> =
        claimed.iter().map(|one| one.event.tenant.clone().unwrap().1.to_string()).collect();
    whose.sort_unstable();
    assert_eq!(whose, ["t0", "t1", "t2", "t3", "t4", "t5"]);
    // Whoever has not claimed it may say what became of it, as after a restart.
    for delivery in claimed {
        settle(two, delivery, Attempted::Delivered).await;
    }
    assert_eq!(one.store.tidy_deliveries(&system(one)).await.unwrap().waiting, 0);
    one.store.delete_webhook(&one.operator, &name("w")).await.unwrap();
}
