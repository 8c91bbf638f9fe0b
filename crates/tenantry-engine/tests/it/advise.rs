//! Where a tenant should live: each rule, its bounds, and what no advice may do.

use crate::support::*;
use proptest::prelude::*;
use tenantry_engine::{
    advise::{Advice, Budget, Case, Compliance, Needs, advise},
    *,
};

/// What searches on PostgreSQL depend on.
const GRAPHS: GraphBounds = GraphBounds { records_min: 20_000, dimension_max: 4_000 };

fn location(name: &str) -> Location {
    Location::parse(name).unwrap()
}

fn site(at: &str, backend: BackendKind, isolations: &[Isolation]) -> Site {
    let is_files = backend == BackendKind::Embedded;
    Site {
        location: location(at),
        backend,
        isolations: isolations.to_vec(),
        dimension_max: if is_files { 16_384 } else { 16_000 },
        graphs: (!is_files).then_some(GRAPHS),
    }
}

fn files() -> Vec<Site> {
    vec![site("home", BackendKind::Embedded, &Isolation::ALL)]
}

/// A server on PostgreSQL that makes all kinds at home, and only shared ones at `eu`.
fn cluster() -> Vec<Site> {
    let postgres = BackendKind::Postgres;
    vec![
        site("home", postgres, &Isolation::ALL),
        site("eu", postgres, &[Isolation::Shared]),
        site("own", postgres, &[Isolation::Database]),
    ]
}

/// A shared tenant among a hundred, with one collection of so many records of 384 components.
fn case(sites: Vec<Site>, records: u64) -> Case {
    let mut sizes = TenantSizes { databases: 1, ..TenantSizes::default() };
    sizes.add(records, [384]);
    Case {
        isolation: Isolation::Shared,
        location: Location::Home,
        plan: None,
        sizes,
        tenants: 100,
        sites,
        needs: Needs::default(),
    }
}

/// What the operator says.
type Change = fn(&mut Needs);

fn with(mut case: Case, change: impl FnOnce(&mut Needs)) -> Case {
    change(&mut case.needs);
    case
}

/// The isolation, and the rules of the isolation that apply.
fn told(case: &Case) -> (&'static str, Vec<&'static str>) {
    let advice = advise(case).unwrap();
    let rules = advice.reasons.iter().filter(|r| r.isolation.is_some()).map(|r| r.rule);
    (advice.recommended.isolation.word(), rules.collect())
}

#[test]
fn each_rule_asks_for_its_rung() {
    let rows: [(&str, Change, &str, &[&str]); 12] = [
        ("nothing", |_| {}, "shared", &["usual"]),
        ("a contract", |n| n.compliance = Compliance::Contract, "schema", &["contract"]),
        ("a regulator", |n| n.compliance = Compliance::Regulated, "database", &["regulated"]),
        ("an enterprise", |n| n.enterprise = true, "schema", &["enterprise"]),
        ("9 %", |n| n.load_percent = 9, "shared", &["usual"]),
        ("10 %", |n| n.load_percent = 10, "schema", &["load"]),
        ("49 %", |n| n.load_percent = 49, "schema", &["load"]),
        ("50 %", |n| n.load_percent = 50, "database", &["load"]),
        ("a high budget", |n| n.budget = Budget::High, "schema", &["affordable"]),
        (
            "and few tenants",
            |n| (n.budget, n.tenants) = (Budget::High, Some(49)),
            "database",
            &["affordable"],
        ),
        (
            "and more",
            |n| (n.budget, n.tenants) = (Budget::High, Some(50)),
            "schema",
            &["affordable"],
        ),
        (
            "and many",
            |n| (n.budget, n.tenants) = (Budget::High, Some(10_000)),
            "shared",
            &["usual"],
        ),
    ];
    for (what, change, isolation, rules) in rows {
        for sites in [files(), cluster()] {
            let case = with(case(sites, 10), change);
            assert_eq!(told(&case), (isolation, rules.to_vec()), "{what}");
        }
    }
}

#[test]
fn size_counts_where_it_is_felt() {
    for (records, on_files, on_postgres) in [
        (0, "shared", "shared"),
        (19_999, "shared", "shared"),
        (20_000, "shared", "schema"),
        (999_999, "shared", "schema"),
        (1_000_000, "schema", "schema"),
        (9_999_999, "schema", "schema"),
        (10_000_000, "database", "database"),
        (u64::MAX, "database", "database"),
    ] {
        assert_eq!(told(&case(files(), records)).0, on_files, "{records}");
        assert_eq!(told(&case(cluster(), records)).0, on_postgres, "{records}");
        // What is expected counts as what is there.
        let expected = with(case(cluster(), 5), |n| n.records = Some(records));
        assert_eq!(told(&expected).0, on_postgres, "{records}");
    }
}

#[test]
fn graphs_count_for_vectors_that_they_can_hold() {
    let rules = |sizes: &TenantSizes, dimension: Option<u32>| {
        let mut case = with(case(cluster(), 0), |n| n.dimension = dimension);
        case.sizes = sizes.clone();
        told(&case).1
    };
    let sizes = |all: &[(u64, &[u32])]| {
        let mut sizes = TenantSizes::default();
        for (records, dimensions) in all {
            sizes.add(*records, dimensions.iter().copied());
        }
        sizes
    };
    assert_eq!(rules(&sizes(&[(20_000, &[4_000])]), None), ["graph"]);
    assert_eq!(rules(&sizes(&[(20_000, &[4_001])]), None), ["usual"]);
    // Many small collections are none that is large.
    assert_eq!(rules(&sizes(&[(19_999, &[3]), (19_999, &[3])]), None), ["usual"]);
    // The one that a graph cannot hold does not hide the one that it can.
    assert_eq!(rules(&sizes(&[(90_000, &[5_000]), (20_000, &[8])]), None), ["graph"]);
    assert_eq!(rules(&sizes(&[(90_000, &[5_000]), (19_999, &[8])]), None), ["usual"]);
    assert_eq!(rules(&sizes(&[(20_000, &[5_000, 8])]), None), ["graph"]);
    // Texts alone need none.
    assert_eq!(rules(&sizes(&[(90_000, &[])]), None), ["usual"]);
    // What is expected counts instead.
    assert_eq!(rules(&sizes(&[(90_000, &[5_000])]), Some(4_000)), ["graph"]);
    assert_eq!(rules(&sizes(&[(90_000, &[8])]), Some(4_001)), ["usual"]);
}

#[test]
fn a_low_budget_bounds_what_costs_and_no_demand() {
    let low = |tenants: u64, change: fn(&mut Needs)| {
        let case = with(case(cluster(), 10), |n| {
            (n.budget, n.tenants) = (Budget::Low, Some(tenants));
            change(n);
        });
        let advice = advise(&case).unwrap();
        let is_bounded = advice.reasons.iter().any(|reason| reason.rule == "budget");
        (advice.recommended.isolation.word(), is_bounded)
    };
    assert_eq!(low(9_999, |n| n.load_percent = 50), ("schema", true));
    assert_eq!(low(10_000, |n| n.load_percent = 50), ("shared", true));
    assert_eq!(low(9_999, |n| n.load_percent = 10), ("schema", false));
    assert_eq!(low(9_999, |n| n.records = Some(10_000_000)), ("schema", true));
    // A graph is worth its schema, and a demand is a demand.
    assert_eq!(low(10_000, |n| n.records = Some(10_000_000)), ("schema", true));
    assert_eq!(low(10_000, |n| n.records = Some(20_000)), ("schema", false));
    assert_eq!(low(10_000, |n| n.compliance = Compliance::Regulated), ("database", false));
    assert_eq!(low(10_000, |n| n.enterprise = true), ("schema", false));
}

#[test]
fn data_stay_where_they_are_unless_another_place_is_demanded() {
    let place = |case: &Case| {
        let Advice { recommended: to, reasons, unmet, .. } = advise(case).unwrap();
        let at = to.location.to_string();
        (at, to.isolation.word(), to.backend.word(), reasons[0].rule, unmet.len())
    };
    let eu = |n: &mut Needs| n.residency = Some(location("eu"));
    let own = |n: &mut Needs| n.own_database = true;
    let home =
        |isolation, backend, rule, unmet| ("home".to_owned(), isolation, backend, rule, unmet);
    let stays = case(cluster(), 10);
    assert_eq!(place(&stays), home("shared", "postgres", "stays", 0));
    let moved = with(case(cluster(), 10), eu);
    assert_eq!(place(&moved), ("eu".to_owned(), "shared", "postgres", "residency", 0));
    // It could have its own tables at home, but its data belong elsewhere.
    let moved = with(case(cluster(), 20_000), eu);
    assert_eq!(place(&moved), ("eu".to_owned(), "shared", "postgres", "residency", 1));
    assert!(advise(&moved).unwrap().unmet[0].contains("it could be at home"));
    let carried = with(case(cluster(), 10), own);
    assert_eq!(place(&carried), ("own".to_owned(), "database", "postgres", "own-database", 0));
    // On files nobody carries a database: the strongest that there is.
    let elsewhere = with(case(files(), 10), own);
    assert_eq!(place(&elsewhere), home("database", "embedded", "own-database", 1));
    // One demand is one reason, and graphs depend on what is given with the database.
    assert_eq!(told(&carried), ("database", vec!["own-database"]));
    let advice = advise(&carried).unwrap();
    assert_eq!(advice.reasons.len(), 1);
    let graphs = advice.notes.iter().find(|note| note.contains("a graph")).unwrap();
    assert!(graphs.ends_with("the admin's URL of its database too"), "{graphs}");
    // Vectors that PostgreSQL cannot keep stay on files.
    let both = || [files(), cluster().split_off(1)].concat();
    let wide = with(with(case(both(), 10), eu), |n| n.dimension = Some(16_001));
    assert_eq!(place(&wide), home("shared", "embedded", "residency", 1));
    let fits = with(with(case(both(), 10), eu), |n| n.dimension = Some(16_000));
    assert_eq!(place(&fits).0, "eu");
    // A tenant whose location this process is not given.
    let mut far = with(case(cluster(), 10), |n| n.enterprise = true);
    far.location = location("far");
    let (at, isolation, _, _, unmet) = place(&far);
    assert_eq!((at.as_str(), isolation, unmet), ("far", "shared", 1));
}

#[test]
fn what_a_tenant_is_already_needs_no_making() {
    let mut case = with(case(cluster(), 10), |n| n.compliance = Compliance::Contract);
    (case.location, case.isolation) = (location("eu"), Isolation::Schema);
    let advice = advise(&case).unwrap();
    assert_eq!(advice.recommended, advice.present);
    assert!(advice.unmet.is_empty(), "{:?}", advice.unmet);
}

/// A plan that allows these.
fn plan(isolations: &[Isolation], locations: Option<&[&str]>) -> TenantPlan {
    let locations = locations.map(|all| all.iter().map(|name| location(name)).collect());
    let places = Places::new(Some(isolations), locations).unwrap();
    let name = PlanName::parse("p").unwrap();
    TenantPlan { places, ..TenantPlan::new(name, Allowance::default()) }
}

#[test]
fn nothing_is_advised_that_the_plan_does_not_allow_and_it_is_said() {
    let on_plan = |case: Case, plan: TenantPlan| {
        let case = Case { plan: Some(plan), ..case };
        let advice = advise(&case).unwrap();
        let said = advice.reasons.iter().filter(|reason| reason.rule == "plan");
        let said: Vec<_> = said.map(|reason| reason.says.clone()).collect();
        let at = (advice.recommended.isolation.word(), advice.recommended.location.to_string());
        (at, said, advice)
    };
    let at = |isolation, location: &str| (isolation, location.to_owned());
    let regulated = || with(case(cluster(), 10), |n| n.compliance = Compliance::Regulated);
    let shared = || plan(&[Isolation::Shared], None);
    let says = "the plan p does not allow the isolation database; it allows shared";
    let (place, said, advice) = on_plan(regulated(), shared());
    assert_eq!((place, said), (at("shared", "home"), vec![says.to_owned()]));
    assert_eq!(advice.unmet, [format!("database is asked for, and {says}")]);
    assert!(advice.changes.is_empty(), "nothing leads out of the plan: {:?}", advice.changes);
    // Next best, as where a server cannot make it.
    let (place, said, advice) =
        on_plan(regulated(), plan(&[Isolation::Shared, Isolation::Schema], None));
    assert_eq!((place, said.len(), advice.unmet.len()), (at("schema", "home"), 1, 1));
    let enterprise = with(case(cluster(), 10), |n| n.enterprise = true);
    let (place, said, advice) =
        on_plan(enterprise, plan(&[Isolation::Shared, Isolation::Database], None));
    assert_eq!((place, said.len(), advice.unmet.len()), (at("database", "home"), 1, 0));
    // What it allows needs no word, nor does a plan that allows more.
    let (place, said, _) = on_plan(case(cluster(), 10), shared());
    assert_eq!((place, said.len()), (at("shared", "home"), 0));
    let (place, said, _) = on_plan(regulated(), plan(&Isolation::ALL, None));
    assert_eq!((place, said.len()), (at("database", "home"), 0));
    // Nobody is sent away from where they live, and that it is not allowed is said.
    let lives = Case { isolation: Isolation::Schema, ..case(cluster(), 20_000) };
    let (place, said, advice) = on_plan(lives, shared());
    assert_eq!((place, said.len(), advice.unmet.len()), (at("schema", "home"), 1, 0));
    // Locations.
    let eu = || with(case(cluster(), 10), |n| n.residency = Some(location("eu")));
    let (place, said, advice) = on_plan(eu(), plan(&Isolation::ALL, Some(&["home", "own"])));
    let says = "the plan p does not allow the location eu; it allows home, own";
    assert_eq!((place, said), (at("shared", "home"), vec![says.to_owned()]));
    assert_eq!(advice.unmet, [format!("{says}: it stays at home")]);
    let own = with(case(cluster(), 10), |n| n.own_database = true);
    let (place, said, _) = on_plan(own, plan(&[Isolation::Shared], Some(&["own", "home"])));
    assert_eq!((place, said.len()), (at("shared", "home"), 1));
    // Where it could come only as the plan has nobody live.
    let (place, said, _) = on_plan(eu(), plan(&[Isolation::Schema], None));
    assert_eq!((place, said.len()), (at("shared", "home"), 1));
    // A place that it is not told of.
    let wants = with(eu(), |n| n.enterprise = true);
    let (_, _, advice) = on_plan(wants, plan(&Isolation::ALL, Some(&["eu"])));
    assert!(!advice.unmet[0].contains("it could be at home"), "{:?}", advice.unmet);
}

#[test]
fn needs_that_cannot_be_are_refused() {
    let rows: [(Change, &str); 7] = [
        (|n| n.load_percent = 101, "load_percent: 101"),
        (|n| n.dimension = Some(0), "dimension"),
        (|n| n.dimension = Some(16_385), "dimension"),
        (|n| n.tenants = Some(0), "tenants"),
        (|n| n.residency = Some(location("us")), "no location us"),
        (|n| n.residency = Some(Location::Own), "use own_database"),
        (|n| (n.residency, n.own_database) = (Some(Location::Home), true), "not both"),
    ];
    for (change, says) in rows {
        let (kind, why) = shown(advise(&with(case(cluster(), 1), change)));
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(why.contains(says), "{why}");
    }
    let good = |n: &mut Needs| (n.load_percent, n.dimension) = (100, Some(16_384));
    assert!(advise(&with(case(files(), 1), good)).is_ok());
}

#[test]
fn it_says_what_would_change_it() {
    let changes = |case: &Case| -> Vec<(String, &str)> {
        let changes = advise(case).unwrap().changes;
        changes.into_iter().map(|change| (change.when, change.isolation.word())).collect()
    };
    let plain = [
        ("a regulator looks at it (compliance: regulated)", "database"),
        ("a contract says so (compliance: contract)", "schema"),
        ("it becomes an enterprise customer", "schema"),
        ("it makes 50 % or more of the machine's work", "database"),
        ("it makes 10 % or more of the machine's work", "schema"),
        ("it has 10,000,000 records or more", "database"),
        ("it has 1,000,000 records or more", "schema"),
        ("a collection has 20,000 records or more, with vectors", "schema"),
    ];
    let rich_says = "its place may cost more (budget: high)";
    for (tenants, rich) in
        [(49, Some((rich_says, "database"))), (50, Some((rich_says, "schema"))), (10_000, None)]
    {
        for budget in [Budget::Low, Budget::Usual] {
            let case =
                with(case(cluster(), 10), |n| (n.tenants, n.budget) = (Some(tenants), budget));
            let mut expected: Vec<_> = plain.into_iter().chain(rich).collect();
            if budget == Budget::Low {
                expected.retain_mut(|(when, to)| {
                    let costs =
                        when.contains("machine's work") || when.contains(",000,000 records");
                    *to = if costs { "schema" } else { *to };
                    !costs || tenants < 10_000
                });
            }
            let changes = changes(&case);
            let changes: Vec<_> = changes.iter().map(|(when, to)| (when.as_str(), *to)).collect();
            assert_eq!(changes, expected, "{tenants} {budget:?}");
        }
    }
    let poor = with(case(cluster(), 10), |n| (n.load_percent, n.budget) = (50, Budget::Low));
    let usual = ("its place may cost what its needs cost (budget: usual)".to_owned(), "database");
    assert!(changes(&poor).contains(&usual));
    let large = changes(&case(cluster(), 20_000));
    assert!(large.contains(&("its collections are smaller".to_owned(), "shared")), "{large:?}");
    let regulated = with(case(files(), 10), |n| n.compliance = Compliance::Regulated);
    assert_eq!(changes(&regulated), [("no regulator looks at it".to_owned(), "shared")]);
    // Two rules that ask for the same: without one of them the other is still there.
    let both = with(regulated, |n| n.load_percent = 60);
    assert_eq!(changes(&both), []);
}

fn isolations() -> impl Strategy<Value = Isolation> {
    prop::sample::select(Isolation::ALL.to_vec())
}

/// Installations: on files, on PostgreSQL with and without admins, files with a location.
fn installations() -> impl Strategy<Value = Vec<Site>> {
    let (files, postgres) = (BackendKind::Embedded, BackendKind::Postgres);
    let some = prop::sample::select(vec![&Isolation::ALL[..], &Isolation::ALL[..1]]);
    (any::<bool>(), any::<bool>(), some.clone(), some).prop_map(
        move |(is_files, eu, home, at_eu)| {
            let mut sites = Vec::new();
            if is_files {
                sites.push(site("home", files, &Isolation::ALL));
            } else {
                sites.push(site("home", postgres, home));
                sites.push(site("own", postgres, &[Isolation::Database]));
            }
            if eu {
                sites.push(site("eu", postgres, at_eu));
            }
            sites
        },
    )
}

prop_compose! {
    fn needs()(
        compliance in prop::sample::select(vec![
            Compliance::None, Compliance::None, Compliance::Contract, Compliance::Regulated,
        ]),
        enterprise in any::<bool>(),
        load_percent in 0_u8..=100,
        budget in prop::sample::select(vec![Budget::Low, Budget::Usual, Budget::High]),
        where_to in 0_u8..6,
        dimension in prop::option::of(1_u32..=16_384),
    ) -> Needs {
        let residency = match where_to { 0 => Some("eu"), 1 => Some("home"), _ => None };
        Needs {
            compliance, enterprise, load_percent, budget, dimension,
            own_database: where_to == 2,
            residency: residency.map(location),
            records: None,
            tenants: None,
        }
    }
}

prop_compose! {
    fn cases()(
        sites in installations(),
        mut needs in needs(),
        isolation in isolations(),
        at in any::<prop::sample::Index>(),
        plan in plans(),
        collections in prop::collection::vec((0_u64..30_000_000, 1_u32..17_000), 0..4),
        tenants in 1_u64..40_000,
    ) -> Case {
        needs.residency = needs.residency.filter(|to| sites.iter().any(|at| at.location == *to));
        let location = sites[at.index(sites.len())].location;
        let isolation = if location == Location::Own { Isolation::Database } else { isolation };
        let mut sizes = TenantSizes::default();
        for (records, dimension) in collections {
            sizes.add(records, [dimension]);
        }
        Case { isolation, location, plan, sizes, tenants, sites, needs }
    }
}

/// Plans, or none.
fn plans() -> impl Strategy<Value = Option<TenantPlan>> {
    let isolations = prop::sample::subsequence(Isolation::ALL.to_vec(), 1..=3);
    let locations = prop::sample::subsequence(vec!["home", "eu", "own"], 1..=3);
    let plan = (isolations, prop::option::of(locations));
    prop::option::of(plan.prop_map(|(some, at)| super::advise::plan(&some, at.as_deref())))
}

fn isolation(case: &Case) -> Isolation {
    advise(case).unwrap().recommended.isolation
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Nothing is recommended that this installation cannot make or the plan does not allow, unless
    /// it is so already.
    #[test]
    fn no_advice_is_out_of_reach(case in cases()) {
        let advice = advise(&case).unwrap();
        let to = advice.recommended;
        let makes = |at: &&Site| at.location == to.location && at.isolations.contains(&to.isolation);
        let made = case.sites.iter().find(makes);
        prop_assert!(to == advice.present || made.is_some_and(|at| at.backend == to.backend));
        let why = case.plan.as_ref().and_then(|plan| plan.forbids(to.isolation, to.location));
        let is_told = advice.reasons.iter().any(|reason| reason.rule == "plan");
        prop_assert!(why.is_none() || is_told);
        let has_postgres = case.sites.iter().any(|at| at.backend == BackendKind::Postgres);
        prop_assert!(has_postgres || to.backend == BackendKind::Embedded);
        // Nobody is sent elsewhere who has not asked for it.
        let asked = case.needs.own_database || case.needs.residency.is_some();
        prop_assert!(asked || to.location == case.location);
    }

    /// What was asked for and is not done is said.
    #[test]
    fn what_is_not_met_is_said(case in cases()) {
        let advice = advise(&case).unwrap();
        let asked = advice.reasons.iter().filter_map(|reason| reason.isolation).max();
        let to = advice.recommended;
        prop_assert!(!advice.unmet.is_empty() || asked.is_none_or(|asked| asked <= to.isolation));
        let wanted = if case.needs.own_database { Some(Location::Own) } else { case.needs.residency };
        prop_assert!(!advice.unmet.is_empty() || wanted.is_none_or(|at| at == to.location));
        prop_assert!(!advice.reasons.is_empty());
        for change in advice.changes {
            prop_assert_ne!(change.isolation, to.isolation);
        }
    }

    /// More records, more load or stricter demands never move a tenant down; more tenants never up.
    #[test]
    fn more_never_moves_down(
        case in cases(),
        more in 0_u64..30_000_000,
        dimension in 1_u32..17_000,
        expected in prop::option::of(0_u64..30_000_000),
    ) {
        let mut case = case;
        let now = isolation(&case);
        let mut larger = case.clone();
        // Whatever there is grows, and there is one collection more.
        for records in larger.sizes.by_dimension.values_mut() {
            *records = records.saturating_add(more);
        }
        larger.sizes.largest_collection = larger.sizes.largest_collection.saturating_add(more);
        if case.sizes.by_dimension.is_empty() || case.needs.dimension.is_some() {
            larger.sizes.add(more, [dimension.min(case.needs.dimension.unwrap_or(4_000))]);
        }
        larger.sizes.records = larger.sizes.records.saturating_add(more);
        prop_assert!(isolation(&larger) >= now);

        case.needs.records = expected;
        let now = isolation(&case);
        let mut larger = case.clone();
        larger.needs.records = expected.map(|records| records.saturating_add(more));
        prop_assert!(isolation(&larger) >= now);

        let mut busier = case.clone();
        busier.needs.load_percent = 100;
        prop_assert!(isolation(&busier) >= now);
        let mut stricter = case.clone();
        stricter.needs.compliance = Compliance::Regulated;
        prop_assert!(isolation(&stricter) >= now);
        let mut crowded = case.clone();
        crowded.tenants = crowded.tenants.saturating_add(more);
        prop_assert!(isolation(&crowded) <= now);
    }
}

#[tokio::test]
async fn sizes_are_read_from_the_tenant_and_its_log_says_so() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    world.tenant("other").await;
    let small = world.collection(&key, "small").await;
    small.write(WriteMode::Upsert, vec![write("a").vector(&[1.0, 0.0])]).await.unwrap();
    let large = world.collection(&key, "large").await;
    let records: Vec<_> = (0..7).map(|n| write(&n.to_string()).vector(&[1.0; 5])).collect();
    large.write(WriteMode::Upsert, records).await.unwrap();
    world.collection(&key, "empty").await;

    let operator = world.operator();
    let (info, advice) = operator.advise(&tenant("acme"), &Needs::default()).await.unwrap();
    assert_eq!(info.name.as_str(), "acme");
    let numbers = advice.numbers;
    assert_eq!((numbers.tenants, numbers.databases, numbers.collections), (2, 1, 3));
    assert_eq!((numbers.records, numbers.largest_collection), (8, 7));
    assert_eq!((numbers.dimension, numbers.given), (Some(5), vec![]));
    let said = Needs { tenants: Some(9), records: Some(5), ..Needs::default() };
    let numbers = operator.advise(&tenant("acme"), &said).await.unwrap().1.numbers;
    assert_eq!((numbers.tenants, numbers.records, numbers.given.len()), (9, 5, 2));
    assert_eq!(kind(operator.advise(&tenant("nobody"), &said).await), ErrorKind::NotFound);

    let log = world.session::<Admin>(&key).await.audit(0, 100).await.unwrap();
    let looked: Vec<_> = log.iter().filter(|e| e.event.action == "operator.measure").collect();
    assert_eq!(looked.iter().map(|entry| entry.event.count).sum::<u64>(), 2);
    assert!(looked.iter().all(|entry| !entry.event.actor.is_empty()));
}

#[tokio::test]
async fn a_suspended_tenant_that_lives_apart_is_advised_about() {
    let world = World::new().await;
    let operator = world.operator();
    let mut spec = TenantSpec::new(tenant("apart"));
    spec.isolation = Some(Isolation::Database);
    operator.create_tenant(&spec).await.unwrap();
    operator.suspend_tenant(&spec.name).await.unwrap();
    let (_, advice) = operator.advise(&spec.name, &Needs::default()).await.unwrap();
    assert_eq!(advice.present.isolation, Isolation::Database);
    assert_eq!(advice.recommended.isolation, Isolation::Shared);
    assert_eq!(advice.numbers.databases, 1);
}
