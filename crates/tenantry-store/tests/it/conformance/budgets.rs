//! What a tenant has used of its budgets, and who is told of it. Each case gets a store of its own, in
//! which older programs are kept out.

use super::{UPSERT, World, only, record, webhooks};
use tenantry_auth::{Admin, Scope, SystemScope, TenantId};
use tenantry_store::{Event, Spent, TenantChange, UsageNote, UsagePage};
use tenantry_types::{
    Allowance, Amounts, Bill, EventKind, Every, Fact, Hour, Meter, PlanName, Price, Quotas, Tariff,
    TenantName, TenantPlan, Timestamp,
};

const NOW: Timestamp = Timestamp(1_795_953_600_000);
const COST: Quotas = Quotas {
    records: None,
    bytes: None,
    day: None,
    month: None,
    cost: Some(1_000),
    messages_per_day: None,
    tokens_per_day: None,
};

fn system(w: &World<'_>) -> SystemScope {
    w.authority.system("look at budgets in tests")
}

fn name(text: &str) -> TenantName {
    TenantName::parse(text).unwrap()
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

fn costs(cost: u64) -> Spent {
    Spent { cost: Some(cost), ..Spent::default() }
}

/// Gives the tenant `t` a plan with these prices.
async fn pays(w: &World<'_>, prices: &[(Meter, u64)]) {
    let plan = PlanName::parse("p").unwrap();
    let put = TenantPlan::new(plan.clone(), Allowance::default());
    w.store.put_plan(&w.operator, &put).await.unwrap();
    let change = TenantChange { plan: Some(Some(plan.clone())), ..TenantChange::default() };
    w.store.change_tenant(&w.operator, &name("t"), &change).await.unwrap();
    let tariff = Tariff(prices.iter().map(|(meter, price)| (*meter, Price(*price))).collect());
    let month = Hour::of(now()).month();
    w.store.put_tariff(&w.operator, &plan, (month, tariff)).await.unwrap();
}

/// Tells of what a tenant has used; how many events that are.
async fn tell(w: &World<'_>, tenant: TenantId, spent: Spent, quotas: &Quotas) -> usize {
    w.store.tell_budgets(&system(w), tenant, (NOW, &spent), quotas).await.unwrap()
}

/// What has come to whom, by the parts that it is about.
async fn come(w: &World<'_>) -> Vec<(String, u64, Event)> {
    let part = |event: &Event| match event.facts.get("threshold_percent") {
        Some(Fact::Number(part)) => *part,
        other => panic!("{other:?}"),
    };
    let all = webhooks::arrive(w).await.into_iter();
    let mut all: Vec<_> = all.map(|(whom, event)| (whom, part(&event), event)).collect();
    all.sort_by_key(|(whom, part, _)| (whom.clone(), *part));
    all
}

async fn parts(w: &World<'_>) -> Vec<u64> {
    come(w).await.into_iter().map(|(_, part, _)| part).collect()
}

async fn bill(w: &World<'_>, scope: &Scope<Admin>) -> (u64, u64) {
    let month = Hour::of(now()).month();
    let page = UsagePage { every: Every::Month, from: month.0, limit: 1 };
    let used = w.store.usage(scope, page).await.unwrap()[0].amounts;
    let tariff = w.store.tariff(scope, month).await.unwrap();
    let total = Bill::of(used, &tariff).total.0;
    (used.get(Meter::Requests).try_into().unwrap(), total.try_into().unwrap())
}

pub(super) async fn a_look_says_what_bills_say_and_writes_nothing(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let id = scope.tenant();
    // Half a micro-unit for a record written, and 2 for a request.
    pays(w, &[(Meter::RecordsWritten, 500_000_000), (Meter::Requests, 2_000_000_000)]).await;
    let records = (0..3).map(|i| record(&format!("r{i}"), 1.0, &[])).collect();
    w.store.write(&scope, &c, UPSERT, records).await.unwrap();
    let note = |requests| {
        let amounts = Amounts::of(Meter::Requests, requests);
        vec![UsageNote { tenant: id, hour: Hour::of(now()), amounts }]
    };
    w.store.write_journal(&system(w), ([7; 16], 1), note(5)).await.unwrap();
    w.store.fold_amounts(&system(w)).await.unwrap();
    let quotas = Quotas { day: Some(1), ..COST };
    let look = async || w.store.spent(&system(w), id, now(), &quotas).await.unwrap();
    // Nobody has taken over what the commits have counted.
    let commits = w.store.totals().commits;
    let first = look().await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    for _ in 0..5 {
        assert_eq!(look().await, first);
    }
    assert_eq!(w.store.totals().commits, commits);
    let (requests, total) = bill(w, &scope).await;
    assert_eq!((first.day, first.month, first.cost), (Some(requests), requests, Some(total)));
    // Three halves are 2, rounded half up.
    assert_eq!(total, 2 * requests + 2);
    // Once it was taken over it is the same, and what comes then is added.
    assert_eq!(look().await, first);
    w.store.delete(&scope, &c, &only(&["r0"]), None).await.unwrap();
    assert_eq!(look().await.month, requests + 1);
    let unasked = w.store.spent(&system(w), id, now(), &Quotas::default()).await.unwrap();
    assert_eq!(unasked, Spent { day: None, month: requests + 1, cost: None });
}

/// What is kept costs more with time, without a commit; whoever looks makes none.
pub(super) async fn what_is_kept_costs_without_a_commit(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    pays(w, &[(Meter::RecordMillis, 1_000_000_000)]).await;
    w.store.write(&scope, &c, UPSERT, vec![record("r", 1.0, &[])]).await.unwrap();
    bill(w, &scope).await;
    let commits = w.store.totals().commits;
    let cost = async |at: u64| {
        let at = Timestamp(now().0 + at);
        w.store.spent(&system(w), scope.tenant(), at, &COST).await.unwrap().cost.unwrap()
    };
    let (soon, later) = (cost(1_000).await, cost(100_000).await);
    assert!(soon >= 1 && later > soon, "{soon} {later}");
    assert_eq!(w.store.totals().commits, commits);
}

/// Whoever looks again and again makes a commit a day of a tenant that keeps something.
pub(super) async fn what_is_kept_for_a_day_is_taken_over_once(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let (keeps, id) = (scope.tenant(), w.tenant("u").await.tenant());
    w.store.write(&scope, &c, UPSERT, vec![record("r", 1.0, &[])]).await.unwrap();
    let look = async |tenant, at: u64| {
        let before = w.store.totals().commits;
        w.store.spent_again(&system(w), tenant, Timestamp(at), &COST).await.unwrap();
        w.store.totals().commits - before
    };
    // Nobody has taken over anything of it yet.
    assert_eq!(look(keeps, now().0).await, 1);
    assert_eq!(look(keeps, now().0 + 3_600_000).await, 0);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(look(keeps, now().0 + 86_400_000 + 60_000).await, 1);
    // One that keeps nothing makes none.
    assert_eq!(look(id, now().0 + 86_400_000).await, 0);
}

pub(super) async fn each_part_of_a_budget_is_told_once(w: &World<'_>) {
    webhooks::hook(w, "a", &[]).await;
    webhooks::hook(w, "b", &[EventKind::BudgetThreshold]).await;
    webhooks::hook(w, "c", &[EventKind::TenantMoved]).await;
    let id = w.tenant("t").await.tenant();
    let other = w.tenant("u").await.tenant();
    webhooks::arrive(w).await;
    assert_eq!(tell(w, id, costs(499), &COST).await, 0);
    let (one, two) = tokio::join!(tell(w, id, costs(800), &COST), tell(w, id, costs(801), &COST));
    assert_eq!(one + two, 1);
    // Of what is found at once only the largest part.
    let told = come(w).await;
    let whom: Vec<_> = told.iter().map(|(whom, part, _)| (whom.as_str(), *part)).collect();
    assert_eq!(whom, [("a", 80), ("b", 80)]);
    let event = &told[0].2;
    assert_eq!(event.tenant, Some((id, name("t"))));
    let fact = |word: &str| event.facts[word].clone();
    assert_eq!(fact("budget"), Fact::from("cost_per_month"));
    assert_eq!(fact("period"), Fact::from("2026-11"));
    assert_eq!(fact("limit"), Fact::Number(1_000));
    assert!([Fact::Number(800), Fact::Number(801)].contains(&fact("used")));
    assert_eq!(tell(w, id, costs(900), &COST).await, 0);
    // Another tenant, another budget and another limit are others.
    assert_eq!(tell(w, other, costs(500), &COST).await, 1);
    let both = Quotas { day: Some(10), ..COST };
    assert_eq!(tell(w, id, Spent { day: Some(10), ..costs(900) }, &both).await, 1);
    let more = Quotas { cost: Some(1_200), ..COST };
    assert_eq!(tell(w, id, costs(900), &more).await, 1);
    webhooks::arrive(w).await;
    assert_eq!(tell(w, id, costs(1_300), &more).await, 1);
    // The limit of before comes again, of which this was told.
    assert_eq!(tell(w, id, costs(900), &COST).await, 0);
    assert_eq!(parts(w).await, [100, 100]);
}

pub(super) async fn a_budget_of_which_nobody_wants_to_know_is_told_later(w: &World<'_>) {
    let id = w.tenant("t").await.tenant();
    webhooks::hook(w, "moves", &[EventKind::TenantMoved]).await;
    let commits = w.store.totals().commits;
    assert_eq!(tell(w, id, costs(800), &COST).await, 0);
    assert_eq!(w.store.totals().commits, commits);
    webhooks::hook(w, "w", &[]).await;
    assert_eq!(tell(w, id, costs(900), &COST).await, 1);
    assert_eq!(parts(w).await, [80]);
    // One that is made now hears of what comes.
    webhooks::hook(w, "x", &[]).await;
    assert_eq!(tell(w, id, costs(1_000), &COST).await, 1);
    assert_eq!(parts(w).await, [100, 100]);
}

pub(super) async fn what_was_told_goes_with_its_tenant(w: &World<'_>) {
    webhooks::hook(w, "w", &[EventKind::BudgetThreshold]).await;
    let id = w.tenant("t").await.tenant();
    assert_eq!(tell(w, id, costs(500), &COST).await, 1);
    w.store.delete_tenant(&w.operator, &name("t")).await.unwrap();
    assert_eq!(tell(w, id, costs(1_000), &COST).await, 0);
    assert_eq!(parts(w).await, [50]);
    let again = w.tenant("t").await.tenant();
    assert_eq!(tell(w, again, costs(500), &COST).await, 1);
}

pub(super) async fn told_once_by_two(one: &World<'_>, two: &World<'_>) {
    webhooks::hook(one, "budgets", &[EventKind::BudgetThreshold]).await;
    for n in 0..8 {
        let id = one.tenant(&format!("b{n}")).await.tenant();
        let (first, second) =
            tokio::join!(tell(one, id, costs(850), &COST), tell(two, id, costs(850), &COST));
        assert_eq!(first + second, 1, "{first} {second}");
        let (first, second) =
            tokio::join!(tell(one, id, costs(1_000), &COST), tell(two, id, costs(1_000), &COST));
        assert_eq!(first + second, 1, "{first} {second}");
        assert_eq!(tell(one, id, costs(1_000), &COST).await, 0);
        assert_eq!(parts(two).await, [80, 100]);
    }
}
