use super::*;
use tenantry_store::BackendKind;
use tenantry_types::{Allowance, Places, PlanName};

const NONE: Rule = Rule {
    from: Isolation::Shared,
    from_location: None,
    to: Isolation::Schema,
    to_location: None,
    records_over: None,
    records_under: None,
    bytes_over: None,
    bytes_under: None,
};

fn up(over: u64) -> Rule {
    Rule { records_over: Some(over), ..NONE }
}

fn down(under: u64) -> Rule {
    Rule { from: Isolation::Schema, to: Isolation::Shared, records_under: Some(under), ..NONE }
}

fn policy(rules: &[Rule]) -> Result<Policy, Refusal> {
    Policy::new(rules.to_vec(), Timing::default())
}

const NOW: Timestamp = Timestamp(100 * 86_400_000);

const CASE: Case = Case {
    isolation: Isolation::Shared,
    location: Location::Home,
    is_fixed: false,
    is_arriving: false,
    is_moving: false,
    since: Timestamp(0),
};

fn site(location: Location) -> Site {
    Site {
        location,
        backend: BackendKind::Embedded,
        isolations: vec![Isolation::Shared, Isolation::Schema, Isolation::Database],
        dimension_max: 4_096,
        graphs: None,
    }
}

fn sizes(records: u64, vector_bytes: u64) -> TenantSizes {
    TenantSizes { records, vector_bytes, ..TenantSizes::default() }
}

fn eu() -> Location {
    Location::parse("eu").unwrap()
}

#[test]
fn rules_that_say_nothing_are_refused() {
    for (rule, word) in [
        (NONE, "no bound"),
        (Rule { to: Isolation::Shared, ..up(1) }, "where the tenant is"),
        (Rule { to_location: Some(Location::Own), ..up(1) }, "of their own"),
        (Rule { records_under: Some(11), ..up(10) }, "no number"),
    ] {
        let refusal = policy(&[up(10), rule]).unwrap_err();
        assert!(refusal.rule == Some(1) && refusal.why.contains(word), "{refusal:?}");
    }
    assert!(policy(&[]).unwrap_err().why.contains("no rules"));
    assert!(policy(&vec![up(1); RULES_MAX + 1]).is_err());
    let timing = Timing { every: Duration::from_millis(10), ..Timing::default() };
    assert!(Policy::new(vec![up(1)], timing).is_err());
}

#[test]
fn rules_that_would_send_a_tenant_back_and_forth_are_refused() {
    policy(&[up(100), down(80)]).unwrap();
    let refusal = policy(&[up(100), down(82)]).unwrap_err();
    assert!(refusal.rule == Some(1) && refusal.why.contains("1 and 2"), "{refusal:?}");
    policy(&[up(100), down(200)]).unwrap_err();
    // Over three places.
    let further = Rule { from: Isolation::Schema, to: Isolation::Database, ..up(1_000) };
    let back = Rule { from: Isolation::Database, to: Isolation::Shared, ..down(70) };
    policy(&[up(100), further.clone(), back.clone()]).unwrap();
    let back = Rule { records_under: Some(5_000), ..back };
    policy(&[up(100), further, back]).unwrap_err();
    // Of other numbers, a tenant may have both.
    let by_bytes = Rule { bytes_under: Some(10), records_under: None, ..down(0) };
    policy(&[up(100), by_bytes.clone()]).unwrap_err();
    policy(&[Rule { bytes_over: Some(100), ..up(100) }, by_bytes]).unwrap();
    // To one location and home again.
    let away = Rule { to: Isolation::Shared, to_location: Some(eu()), ..up(100) };
    let home = Rule {
        from_location: Some(eu()),
        to: Isolation::Shared,
        to_location: Some(Location::Home),
        records_under: Some(90),
        ..NONE
    };
    policy(&[away.clone(), home.clone()]).unwrap_err();
    policy(&[away, Rule { records_under: Some(80), ..home }]).unwrap();
}

#[test]
fn the_first_rule_that_applies_counts() {
    let to_eu = Rule { to_location: Some(eu()), bytes_over: Some(1_000), ..up(100) };
    let policy = policy(&[to_eu, up(100), down(50)]).unwrap();
    let (case, sites) = (CASE, [site(Location::Home), site(eu())]);
    let decide = |case: &Case, sizes: &TenantSizes| {
        let verdict = policy.decide(case, (Some(sizes), None), &sites, NOW);
        verdict.decision().map(|decision| (decision.rule, decision.to, decision.why.clone()))
    };
    assert_eq!(decide(&case, &sizes(100, 9_999)), None);
    let (rule, to, why) = decide(&case, &sizes(101, 1_000)).unwrap();
    assert_eq!((rule, to.location), (1, None));
    assert_eq!(why, "rule 2: 101 records are more than 100");
    let (rule, to, _) = decide(&case, &sizes(101, 1_001)).unwrap();
    assert_eq!((rule, to.location), (0, Some(eu())));
    let schema = Case { isolation: Isolation::Schema, ..case };
    assert_eq!(decide(&schema, &sizes(50, 0)), None);
    assert_eq!(decide(&schema, &sizes(49, 0)).unwrap().1, Isolation::Shared.into());
}

#[test]
fn why_a_tenant_stays_is_told() {
    let policy = policy(&[up(100)]).unwrap();
    let large = sizes(1_000, 0);
    let sites = [site(Location::Home), site(Location::Own)];
    let day = 86_400_000;
    let decide = |case: Case| match policy.decide(&case, (Some(&large), None), &sites, NOW) {
        Verdict::Stay(why) => Some(why),
        _ => None,
    };
    let since = |ms| Case { since: Timestamp(NOW.0 - ms), ..CASE };
    assert_eq!(decide(CASE), None);
    // It stays a while, and one that is fixed for ever.
    assert_eq!(decide(since(day)), None);
    assert_eq!(decide(since(day - 1)), Some(Stay::Recent(Duration::from_millis(1))));
    // Of the future, by another clock.
    assert!(matches!(decide(Case { since: Timestamp(u64::MAX), ..CASE }), Some(Stay::Recent(_))));
    for (case, why) in [
        (Case { is_fixed: true, ..CASE }, Stay::Fixed),
        (Case { is_moving: true, ..CASE }, Stay::Moving),
        (Case { is_arriving: true, ..CASE }, Stay::Arriving),
        (Case { location: Location::Own, ..CASE }, Stay::Own),
        (Case { location: eu(), ..CASE }, Stay::Away(eu())),
        (Case { isolation: Isolation::Schema, ..CASE }, Stay::NoRule),
    ] {
        // And so it need not be measured.
        assert_eq!(policy.stays(&case, &sites, NOW).as_ref(), Some(&why));
        assert_eq!(decide(case), Some(why));
    }
    let empty = policy.decide(&CASE, (None, None), &sites, NOW);
    assert_eq!(empty, Verdict::Stay(Stay::Empty));
    let small = policy.decide(&CASE, (Some(&sizes(7, 56)), None), &sites, NOW);
    assert_eq!(small.to_string(), "no rule's bounds are met by 7 records, 56 bytes");
    let recent = |seconds| Stay::Recent(Duration::from_secs(seconds)).to_string();
    assert!(recent(119).ends_with("119 s") && recent(121).ends_with("3 min"), "{}", recent(121));
    assert!(recent(86_399).ends_with("24 h"), "{}", recent(86_399));
}

#[test]
fn a_rule_that_leads_where_no_tenant_can_be_made_moves_none() {
    let to_eu = Rule { to_location: Some(eu()), ..up(100) };
    let policy = policy(&[to_eu, up(100)]).unwrap();
    let decide = |sites: &[Site]| policy.decide(&CASE, (Some(&sizes(101, 0)), None), sites, NOW);
    assert!(matches!(decide(&[site(Location::Home), site(eu())]), Verdict::Move(_)));
    let nowhere = decide(&[site(Location::Home)]);
    // The first rule counts all the same.
    assert!(nowhere.word() == "blocked" && nowhere.decision().is_some_and(|one| one.rule == 0));
    let why = "rule 1: 101 records are more than 100; but there is no location eu here";
    assert_eq!(nowhere.to_string(), why);
    // A server without the admin's URL.
    let shared = Site { isolations: vec![Isolation::Shared], ..site(eu()) };
    let weak = decide(&[site(Location::Home), shared]);
    assert!(weak.to_string().ends_with("but isolation schema cannot be made at eu here"), "{weak}");
}

#[test]
fn a_rule_that_leads_where_a_plan_has_nobody_live_moves_none_of_its_tenants() {
    let to_eu = Rule { to_location: Some(eu()), bytes_over: Some(1_000), ..up(100) };
    let policy = policy(&[to_eu, up(100)]).unwrap();
    // Also where it could not be made.
    let sites = [site(Location::Home)];
    let plan = |isolations, locations| {
        let name = PlanName::parse("p").unwrap();
        let places = Places::new(isolations, locations).unwrap();
        TenantPlan { places, ..TenantPlan::new(name, Allowance::default()) }
    };
    let decide = |plan: &TenantPlan, bytes| {
        policy.decide(&CASE, (Some(&sizes(101, bytes)), Some(plan)), &sites, NOW)
    };
    let shared = decide(&plan(Some(&[Isolation::Shared]), None), 0);
    assert!(shared.word() == "blocked" && shared.decision().is_some_and(|one| one.rule == 1));
    let why = "rule 2: 101 records are more than 100; but the plan p does not allow the isolation \
               schema; it allows shared";
    assert_eq!(shared.to_string(), why);
    let home = plan(None, Some(vec![Location::Home]));
    let away = decide(&home, 1_001);
    assert!(matches!(&away, Verdict::Blocked(_, Block::Plan(_))), "{away}");
    assert!(away.to_string().ends_with("not allow the location eu; it allows home"), "{away}");
    assert!(matches!(decide(&home, 0), Verdict::Move(_)));
}

#[tokio::test]
async fn more_plans_than_may_be_made_at_once_wait_and_are_then_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = tenantry_store::EmbeddedConfig::new(folder.path().join("data"));
    let engine = crate::Engine::start(crate::EngineConfig {
        store: tenantry_store::Store::open_embedded(config).unwrap(),
        authority: tenantry_auth::Authority::new(),
        clock: std::sync::Arc::new(tenantry_store::SystemClock),
    });
    let operator = engine.operator(&engine.local_operator().await.unwrap()).unwrap();
    let rules = policy(&[up(1_000)]).unwrap();
    let others = engine.0.planning.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
    tokio::time::pause();
    let refused = operator.plan(Some(&rules), None, 10).await.unwrap_err();
    assert_eq!(refused.kind(), tenantry_types::ErrorKind::Unavailable);
    drop(others);
    assert!(operator.plan(Some(&rules), None, 10).await.unwrap().tenants.is_empty());
}
