//! What applications report: who may, and what a clock does to days and to what is known.

use crate::support::*;
use tenantry_engine::*;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// The first moment of a day.
const MIDNIGHT: u64 = START / DAY * DAY + DAY;
const HOURS: UsagePage = UsagePage { every: Every::Hour, from: 0, limit: 1_000 };

fn event(id: &str, amount: u64) -> UsageEvent {
    UsageEvent::new(id, Meter::Messages, amount).unwrap()
}

/// The operator who acts as acme.
async fn acting(world: &World) -> Session<Admin> {
    let name = tenant("acme");
    world.engine.session::<Admin>(&world.operator, Select::Named(&name)).await.unwrap()
}

/// The same, when acme has so many messages a day.
async fn with_quota(world: &World, most: u64) -> Session<Admin> {
    world.tenant("acme").await;
    let name = PlanName::parse("p").unwrap();
    let quotas = Quotas { messages_per_day: Some(most), ..Quotas::default() };
    let allowance = Allowance { quotas, ..Allowance::default() };
    world.operator().put_plan(&TenantPlan::new(name.clone(), allowance)).await.unwrap();
    let change = TenantChange { plan: Some(Some(name)), ..TenantChange::default() };
    world.operator().change_tenant(&tenant("acme"), &change).await.unwrap();
    acting(world).await
}

/// Hours with messages, and how many.
async fn hours(session: &Session<Admin>) -> Vec<(u32, u128)> {
    let used = session.usage(HOURS).await.unwrap();
    let messages = used.iter().map(|one| (one.at, one.amounts.get(Meter::Messages)));
    messages.filter(|(_, amount)| *amount > 0).collect()
}

fn hour(at: u64) -> u32 {
    Hour::of(Timestamp(at)).0
}

#[tokio::test]
async fn a_day_ends_at_midnight_in_utc() {
    let world = World::new().await;
    let session = with_quota(&world, 3).await;
    let ask = async |id: &str, amount| session.report_usage(&[event(id, amount)], true).await;
    world.clock.set(MIDNIGHT - 10_001);
    assert_eq!(ask("a", 2).await.unwrap().left, [(Term::MessagesPerDay, 1)]);
    let why = ask("b", 2).await.unwrap_err();
    assert_eq!((why.kind(), why.retry_after()), (ErrorKind::LimitExceeded, Some(11)));
    assert!(why.public_message().contains("has 1 left, these events have 2"), "{why}");
    // What is above a whole day is not told to wait.
    assert_eq!(ask("c", 4).await.unwrap_err().retry_after(), None);
    world.clock.set(MIDNIGHT - 1);
    assert_eq!(ask("b", 2).await.unwrap_err().retry_after(), Some(1));
    world.clock.set(MIDNIGHT);
    assert_eq!(ask("b", 2).await.unwrap().left, [(Term::MessagesPerDay, 1)]);
    // The one of before is known, and takes nothing of the new day.
    let again = ask("a", 2).await.unwrap();
    assert_eq!((again.counted, again.duplicates), (0, 1));
    assert_eq!(hours(&session).await, [(hour(MIDNIGHT - 1), 2), (hour(MIDNIGHT), 2)]);
}

#[tokio::test]
async fn a_clock_that_goes_back_changes_no_day_that_is_over() {
    let world = World::new().await;
    let session = with_quota(&world, 3).await;
    world.clock.set(MIDNIGHT - 1);
    session.report_usage(&[event("a", 1)], true).await.unwrap();
    world.clock.set(MIDNIGHT);
    session.report_usage(&[event("b", 3)], true).await.unwrap();
    world.clock.set(MIDNIGHT - HOUR);
    let why = session.report_usage(&[event("c", 1)], true).await.unwrap_err();
    // Until the end of the day that has begun.
    assert_eq!(why.retry_after(), Some((DAY + HOUR) / 1_000));
    session.report_usage(&[event("d", 1)], false).await.unwrap();
    assert_eq!(hours(&session).await, [(hour(MIDNIGHT - 1), 1), (hour(MIDNIGHT), 4)]);
    // One that had jumped ahead is believed again, and what the day had before is not forgotten.
    world.clock.set(MIDNIGHT + 90 * DAY);
    session.report_usage(&[event("e", 1)], true).await.unwrap();
    world.clock.set(MIDNIGHT + HOUR);
    assert!(session.report_usage(&[event("f", 1)], true).await.is_err());
}

#[tokio::test]
async fn an_id_is_known_for_a_week_at_least_and_not_for_good() {
    let world = World::new().await;
    world.tenant("acme").await;
    let session = acting(&world).await;
    let report = async |id: &str| session.report_usage(&[event(id, 1)], false).await.unwrap();
    for day in 0..7 {
        let begun = MIDNIGHT + day * DAY;
        world.clock.set(begun);
        assert_eq!(report(&format!("of-{day}")).await.counted, 1);
        world.clock.set(begun + 7 * DAY - 1);
        assert_eq!(report(&format!("of-{day}")).await.duplicates, 1, "{day}");
        // The clock goes back for the next one, by more than a day.
    }
    world.clock.set(MIDNIGHT + 30 * DAY);
    assert_eq!(report("of-0").await.counted, 1);
    assert_eq!(report("of-0").await.duplicates, 1);
}

#[tokio::test]
async fn only_an_operator_who_acts_as_a_tenant_reports_and_the_log_has_who_was_refused() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let database = world.database::<Read>(&key).await.info().number;
    let limited = limited_key(Role::Admin, vec![Allowed::Database(database)]);
    let bound = bound_key(Role::Admin, is("owner", text("me")));
    let mut own = vec![key.clone()];
    for narrowed in [limited, bound] {
        own.push(world.key("acme", narrowed).await);
    }
    for key in own {
        let session = world.session::<Admin>(&key).await;
        let why = session.report_usage(&[event("a", 1)], false).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Denied);
        assert!(why.public_message().contains("only an operator's key"), "{why}");
    }
    let writer = world.key("acme", new_key(Role::Write)).await;
    assert_eq!(kind(world.try_session::<Admin>(&writer).await.map(drop)), ErrorKind::Denied);
    let session = acting(&world).await;
    for wrong in [Vec::new(), vec![event("a", 1); UsageEvent::BATCH_MAX + 1]] {
        assert!(session.report_usage(&wrong, false).await.is_err());
    }
    assert_eq!(hours(&session).await, []);
    // Also for a tenant that is suspended, because it was used.
    world.operator().suspend_tenant(&tenant("acme")).await.unwrap();
    let acting = acting(&world).await;
    let tokens = UsageEvent::new("b", Meter::Tokens, 40).unwrap();
    let reports = [vec![event("a", 1)], vec![event("a", 1), tokens], vec![event("c", 2)]];
    let mut counted = Vec::new();
    for report in reports {
        counted.push(acting.report_usage(&report, false).await.unwrap().counted);
    }
    assert_eq!(counted, [1, 1, 1]);
    let log = acting.audit(0, 1_000).await.unwrap();
    let told = log.iter().filter(|entry| entry.event.action == "usage.report");
    let outcomes: Vec<_> = told.map(|entry| entry.event.outcome).collect();
    assert!(outcomes.contains(&AuditOutcome::Refused(ErrorKind::Denied)), "{outcomes:?}");
}

/// What is over goes with later reports, and what comes meanwhile is known all the time.
#[tokio::test]
async fn events_of_weeks_that_are_over_are_looked_for_where_some_may_be() {
    let world = World::new().await;
    world.tenant("acme").await;
    let session = acting(&world).await;
    let batch = |week: u64| -> Vec<UsageEvent> {
        (0..300).map(|n| event(&format!("{week}-{n}"), 1)).collect()
    };
    for week in 0..6 {
        world.clock.set(MIDNIGHT + week * 7 * DAY);
        let told = session.report_usage(&batch(week), false).await.unwrap();
        assert_eq!((told.counted, told.amounts.get(Meter::Messages)), (300, 300));
        if week > 0 {
            let known = session.report_usage(&batch(week - 1), false).await.unwrap();
            assert_eq!(known.duplicates, 300);
        }
    }
}
