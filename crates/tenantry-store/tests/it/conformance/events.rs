//! What applications report. Each case gets a store of its own, in which older programs are kept out.

use super::{World, cases::join_all};
use std::sync::atomic::{AtomicUsize, Ordering};
use tenantry_auth::{Admin, Scope};
use tenantry_store::{TenantChange, UsagePage};
use tenantry_types::{
    Allowance, Amounts, Bill, ErrorKind, Every, Meter, MicroUnits, Month, PlanName, Price, Quotas,
    Reported, Result, Tariff, TenantName, TenantPlan, Term, UsageEvent,
};

fn event(id: &str, meter: Meter, amount: u64) -> UsageEvent {
    UsageEvent::new(id, meter, amount).expect("an event")
}

fn messages(ids: impl IntoIterator<Item = String>) -> Vec<UsageEvent> {
    ids.into_iter().map(|id| event(&id, Meter::Messages, 1)).collect()
}

async fn report(w: &World<'_>, scope: &Scope<Admin>, events: &[UsageEvent]) -> Result<Reported> {
    w.store.report_usage(scope, events, false).await
}

fn counts(reported: &Reported) -> (usize, usize) {
    (reported.counted, reported.duplicates)
}

/// What a tenant has used, which hours and months say alike.
async fn used(w: &World<'_>, scope: &Scope<Admin>) -> Amounts {
    let mut sums = [Every::Hour, Every::Month].map(|every| (every, Amounts::default()));
    for (every, sum) in &mut sums {
        let page = UsagePage { every: *every, from: 0, limit: 1_000 };
        for one in w.store.usage(scope, page).await.unwrap() {
            sum.add_all(&one.amounts);
        }
    }
    assert_eq!(sums[0].1.get(Meter::Messages), sums[1].1.get(Meter::Messages));
    sums[0].1
}

fn name(text: &str) -> TenantName {
    TenantName::parse(text).expect("a name")
}

/// Gives a tenant a plan with these quotas.
async fn allow(w: &World<'_>, whose: &str, quotas: Quotas) {
    let plan = PlanName::parse("p").expect("a name");
    let allowance = Allowance { quotas, ..Allowance::default() };
    let said = TenantPlan::new(plan.clone(), allowance);
    w.store.put_plan(&w.operator, &said).await.expect("a plan");
    let change = TenantChange { plan: Some(Some(plan)), ..TenantChange::default() };
    w.store.change_tenant(&w.operator, &name(whose), &change).await.expect("changed");
}

pub(super) async fn an_event_counts_once(w: &World<'_>) {
    let (scope, other) = (w.tenant("t").await, w.tenant("u").await);
    let before = used(w, &scope).await;
    let events = [
        event("a", Meter::Messages, 1),
        event("b", Meter::Tokens, 812),
        event("c", Meter::Money, 1_500_000),
    ];
    assert_eq!(counts(&report(w, &scope, &events).await.unwrap()), (3, 0));
    assert_eq!(counts(&report(w, &scope, &events).await.unwrap()), (0, 3));
    // One more among them, which stands there twice.
    let more = event("d", Meter::Messages, 4);
    let again = [events[0].clone(), more.clone(), more];
    assert_eq!(counts(&report(w, &scope, &again).await.unwrap()), (1, 2));
    // Its neighbour has its own ids.
    assert_eq!(counts(&report(w, &other, &events[..1]).await.unwrap()), (1, 0));
    let more = used(w, &scope).await.since(&before).unwrap();
    let reported: Vec<_> =
        more.iter().filter(|(meter, _)| UsageEvent::METERS.contains(meter)).collect();
    let expected = [(Meter::Tokens, 812), (Meter::Money, 1_500_000), (Meter::Messages, 5)];
    // A report is no request.
    assert_eq!((reported.as_slice(), more.get(Meter::Requests)), (&expected[..], 0));
    assert_eq!(used(w, &other).await.get(Meter::Messages), 1);
    // Both sides of the ledger have it.
    let page = UsagePage { every: Every::Month, from: 0, limit: 10 };
    let all = w.store.usage_of_all(&w.operator, page).await.unwrap();
    assert_eq!(all.last().unwrap().amounts.get(Meter::Messages), 6);
    let balance = w.store.check_usage(&w.operator, Month(all.last().unwrap().at)).await.unwrap();
    assert_eq!(balance.sum, balance.all);
}

pub(super) async fn an_id_that_stands_for_something_else_counts_nothing(w: &World<'_>) {
    let scope = w.tenant("t").await;
    report(w, &scope, &[event("a", Meter::Tokens, 5)]).await.unwrap();
    for wrong in [event("a", Meter::Tokens, 6), event("a", Meter::Messages, 5)] {
        let batch = [event("b", Meter::Tokens, 100), wrong];
        let why = report(w, &scope, &batch).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Conflict);
        assert!(why.public_message().contains("the event \"a\" is of 5 tokens"), "{why}");
    }
    assert_eq!(used(w, &scope).await.get(Meter::Tokens), 5);
    let batch = [event("b", Meter::Tokens, 100)];
    assert_eq!(counts(&report(w, &scope, &batch).await.unwrap()), (1, 0));
}

pub(super) async fn the_largest_report_is_counted_whole(w: &World<'_>) {
    let scope = w.tenant("t").await;
    let batch = messages((0..UsageEvent::BATCH_MAX).map(|n| format!("{n}")));
    assert_eq!(counts(&report(w, &scope, &batch).await.unwrap()), (batch.len(), 0));
    assert_eq!(counts(&report(w, &scope, &batch).await.unwrap()), (0, batch.len()));
    assert_eq!(used(w, &scope).await.get(Meter::Messages), batch.len() as u128);
}

/// Whoever comes at the same time gets no more than the day has, and no less.
pub(super) async fn a_quota_of_a_day_is_passed_by_nobody_who_holds_to_it(w: &World<'_>) {
    let scope = w.tenant("t").await;
    let quotas =
        Quotas { messages_per_day: Some(20), tokens_per_day: Some(7), ..Quotas::default() };
    allow(w, "t", quotas).await;
    let admitted = AtomicUsize::new(0);
    ask(w, &scope, "m", &admitted).await;
    assert_eq!(admitted.into_inner(), 20);
    assert_eq!(used(w, &scope).await.get(Meter::Messages), 20);
    // What was counted is found again, also by whoever holds to a quota that is used up.
    let all = messages((0..64).map(|n| format!("m{n}")));
    let mut known = 0;
    for one in all {
        known += usize::from(w.store.report_usage(&scope, &[one], true).await.is_ok());
    }
    assert_eq!(known, 20);
    // All of a report or none, and one meter's quota is not another's.
    let batch = [event("x", Meter::Tokens, 5), event("y", Meter::Messages, 1)];
    assert!(w.store.report_usage(&scope, &batch, true).await.is_err());
    let told = w.store.report_usage(&scope, &batch[..1], true).await.unwrap();
    assert_eq!(told.left, [(Term::MessagesPerDay, 0), (Term::TokensPerDay, 2)]);
    // What has happened is counted.
    let told = report(w, &scope, &[event("z", Meter::Messages, 3)]).await.unwrap();
    assert_eq!((counts(&told), told.left[0]), ((1, 0), (Term::MessagesPerDay, 0)));
    assert_eq!(used(w, &scope).await.get(Meter::Messages), 23);
}

/// Money is on the bill as it is, and messages have a price as other meters.
pub(super) async fn what_is_reported_is_on_the_bill(w: &World<'_>) {
    let scope = w.tenant("t").await;
    allow(w, "t", Quotas::default()).await;
    let events = [event("a", Meter::Messages, 10), event("b", Meter::Money, 1_500_000)];
    report(w, &scope, &events).await.unwrap();
    let tariff = Tariff([(Meter::Messages, Price(2_000_000_000_000))].into());
    let plan = PlanName::parse("p").expect("a name");
    w.store.put_tariff(&w.operator, &plan, (Month(0), tariff)).await.unwrap();
    let tariff = w.store.tariff(&scope, Month(1_000)).await.unwrap();
    let bill = Bill::of(used(w, &scope).await, &tariff);
    assert_eq!(bill.lines[&Meter::Messages], MicroUnits(20_000));
    assert_eq!(bill.total, MicroUnits(1_520_000));
}

pub(super) async fn nobody_reports_for_a_tenant_that_is_gone(w: &World<'_>) {
    let scope = w.tenant("t").await;
    report(w, &scope, &messages(["a".to_owned()])).await.unwrap();
    let before = used(w, &scope).await;
    w.store.delete_tenant(&w.operator, &name("t")).await.unwrap();
    let late = report(w, &scope, &messages(["b".to_owned()])).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotFound);
    // Its sums stay, under its number.
    let page = UsagePage { every: Every::Month, from: 0, limit: 10 };
    let all = w.store.usage_of_all(&w.operator, page).await.unwrap();
    let sum: u128 = all.iter().map(|one| one.amounts.get(Meter::Messages)).sum();
    assert_eq!(sum, before.get(Meter::Messages));
    // Whoever has the name next has its own ids.
    let next = w.tenant("t").await;
    assert_eq!(counts(&report(w, &next, &messages(["a".to_owned()])).await.unwrap()), (1, 0));
}

/// Sends events in batches that have most of them in common; how many were counted, and how many
/// were sent.
async fn send(w: &World<'_>, scope: &Scope<Admin>, totals: &[AtomicUsize; 2]) {
    let one = async |n: usize| {
        let batch = messages((n..n + 4).map(|n| n.to_string()));
        let told = report(w, scope, &batch).await.expect("counted");
        totals[0].fetch_add(told.counted, Ordering::Relaxed);
        totals[1].fetch_add(told.counted + told.duplicates, Ordering::Relaxed);
    };
    join_all((0..20).map(one).collect()).await;
}

/// Asks for so many messages, one by one, each counted as admitted or not.
async fn ask(w: &World<'_>, scope: &Scope<Admin>, of: &str, admitted: &AtomicUsize) {
    let one = async |n: usize| {
        let events = [event(&format!("{of}{n}"), Meter::Messages, 1)];
        match w.store.report_usage(scope, &events, true).await {
            Ok(told) => {
                assert_eq!(counts(&told), (1, 0));
                admitted.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => {
                let wait = why.retry_after().unwrap_or_default();
                let is_refused = why.kind() == ErrorKind::LimitExceeded;
                assert!(is_refused && (1..=86_400).contains(&wait), "{why:?} {wait}");
            }
        }
    };
    join_all((0..64).map(one).collect()).await;
}

/// Two nodes that are told the same at the same time count it once, and hold to one quota.
pub(super) async fn counted_once_by_two(one: &World<'_>, two: &World<'_>) {
    let mine = one.tenant("t").await;
    let other = two.scope(mine.tenant());
    let quotas = Quotas { messages_per_day: Some(30), ..Quotas::default() };
    allow(one, "t", quotas).await;
    let totals = <[AtomicUsize; 2]>::default();
    tokio::join!(send(one, &mine, &totals), send(two, &other, &totals));
    assert_eq!(totals.map(AtomicUsize::into_inner), [23, 160]);
    assert_eq!(used(two, &other).await.get(Meter::Messages), 23);
    let admitted = AtomicUsize::new(0);
    tokio::join!(ask(one, &mine, "a", &admitted), ask(two, &other, "b", &admitted));
    assert_eq!(admitted.into_inner(), 7);
    assert_eq!(used(one, &mine).await.get(Meter::Messages), 30);
}
