use super::*;

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
    let now = Timestamp(100 * 86_400_000);
    let case = Case {
        isolation: Isolation::Shared,
        location: Location::Home,
        is_fixed: false,
        since: Timestamp(0),
    };
    let sizes =
        |records, vector_bytes| TenantSizes { records, vector_bytes, ..TenantSizes::default() };
    let decide = |case: &Case, sizes: &TenantSizes| policy.decide(case, sizes, now);
    assert_eq!(decide(&case, &sizes(100, 9_999)), None);
    let found = decide(&case, &sizes(101, 1_000)).unwrap();
    assert_eq!((found.rule, found.to.location), (1, None));
    assert_eq!(found.why, "rule 2: 101 records are more than 100");
    let found = decide(&case, &sizes(101, 1_001)).unwrap();
    assert_eq!((found.rule, found.to.location), (0, Some(eu())));
    let schema = Case { isolation: Isolation::Schema, ..case };
    assert_eq!(decide(&schema, &sizes(50, 0)), None);
    assert_eq!(decide(&schema, &sizes(49, 0)).unwrap().to, Isolation::Shared.into());
    // It stays a while, and one that is fixed for ever.
    let large = sizes(1_000, 0);
    let fixed = Case { is_fixed: true, ..case };
    let recent = Case { since: Timestamp(now.0 - 86_400_000 + 1), ..case };
    let own = Case { location: Location::Own, ..case };
    for case in [fixed, recent, own] {
        assert_eq!(decide(&case, &large), None);
    }
    decide(&Case { since: Timestamp(now.0 - 86_400_000), ..case }, &large).unwrap();
}
