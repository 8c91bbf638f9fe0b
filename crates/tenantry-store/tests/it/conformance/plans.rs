//! Plans, and what a tenant has of one. Each case gets a store of its own, which may be told that
//! programs that know nothing of plans do not open it any more.

use super::{UPSERT, World, record, spec};
use std::num::NonZeroU32;
use tenantry_store::{Arrived, CollectionRef, TenantChange};
use tenantry_types::{
    Allowance, Amount, CollectionSpec, DatabaseName, ErrorKind, Exception, ExceptionChange,
    Exceptions, Isolation, Limits, LimitsChange, Location, Places, PlanName, Quotas, Rate, Rates,
    RecordWrite, Result, SharedFailure, TenantName, TenantPlan, TenantSpec, Term, Timestamp,
    VectorName, VectorSpec,
};

fn name(text: &str) -> PlanName {
    PlanName::parse(text).expect("name")
}

fn tenant(text: &str) -> TenantName {
    TenantName::parse(text).expect("name")
}

fn database(text: &str) -> DatabaseName {
    DatabaseName::parse(text).expect("name")
}

fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.expect_err("this must fail").kind()
}

fn rate(amount: u32) -> Option<Rate> {
    NonZeroU32::new(amount).map(Rate::new)
}

/// A plan with so many databases, and as many requests a second.
fn plan(text: &str, databases: u32) -> TenantPlan {
    let limits = Limits { databases, ..Limits::default() };
    let rates = Rates { second: rate(databases), ..Rates::default() };
    let allowance = Allowance { limits, rates, weight: 300, ..Allowance::default() };
    TenantPlan::new(name(text), allowance)
}

fn to(plan: Option<&str>) -> TenantChange {
    TenantChange { plan: Some(plan.map(name)), ..TenantChange::default() }
}

fn except(exceptions: &Exceptions) -> TenantChange {
    TenantChange { exceptions: Some(*exceptions), ..TenantChange::default() }
}

async fn change(w: &World<'_>, whose: &str, change: &TenantChange) {
    w.store.change_tenant(&w.operator, &tenant(whose), change).await.unwrap();
}

/// Gives a tenant the plan `p`, which says so many databases from now on.
pub(super) async fn give(w: &World<'_>, whose: &str, databases: u32) -> Result<()> {
    w.store.put_plan(&w.operator, &plan("p", databases)).await?;
    w.store.change_tenant(&w.operator, &tenant(whose), &to(Some("p"))).await.map(drop)
}

/// Takes the plan `p` from a tenant, and deletes it.
pub(super) async fn take(w: &World<'_>, whose: &str) -> Result<()> {
    w.store.change_tenant(&w.operator, &tenant(whose), &to(None)).await?;
    w.store.delete_plan(&w.operator, &name("p")).await
}

pub(super) async fn plans_come_and_go(w: &World<'_>) {
    assert_eq!(w.store.plans(&w.operator).await.unwrap(), []);
    let (a, b) = (plan("a", 1), plan("b/é", 2));
    for plan in [&b, &a, &a] {
        w.store.put_plan(&w.operator, plan).await.unwrap();
    }
    assert_eq!(w.store.plans(&w.operator).await.unwrap(), [a.clone(), b.clone()]);
    let on_shared_failure = SharedFailure::Refuse;
    let allowance = Allowance { on_shared_failure, ..Allowance::default() };
    let other = TenantPlan { allowance, ..b.clone() };
    w.store.put_plan(&w.operator, &other).await.unwrap();
    assert_eq!(w.store.plan(&w.operator, &b.name).await.unwrap(), other);
    w.store.delete_plan(&w.operator, &a.name).await.unwrap();
    assert_eq!(kind(w.store.delete_plan(&w.operator, &a.name).await), ErrorKind::NotFound);
    assert_eq!(kind(w.store.plan(&w.operator, &a.name).await), ErrorKind::NotFound);
    let log = w.store.operator_audit(&w.operator, 0, 100).await.unwrap();
    let log = log.iter().map(|entry| (entry.event.action.as_str(), entry.event.target.as_str()));
    let told: Vec<_> = log.filter(|(action, _)| action.starts_with("plan.")).collect();
    let changed = "\"b/é\": databases 2 → 1000; requests_per_second 2 → none; weight 300 → 100; \
                   on_shared_failure local → refuse";
    let expected = [
        ("plan.put", "\"b/é\": databases 2; requests_per_second 2; weight 300"),
        ("plan.put", "\"a\": databases 1; requests_per_second 1; weight 300"),
        ("plan.put", changed),
        ("plan.delete", "a"),
    ];
    assert_eq!(told, expected);
}

pub(super) async fn a_tenant_without_a_plan_has_what_it_was_given(w: &World<'_>) {
    let limits = Limits { databases: 7, keys: 8, ..Limits::default() };
    let spec = TenantSpec { limits, weight: 30, ..TenantSpec::new(tenant("t")) };
    let id = w.store.create_tenant(&w.operator, &spec).await.unwrap().id;
    let has = async || w.store.allowance(id).await.unwrap().unwrap();
    let before = Allowance { limits, weight: 30, ..Allowance::default() };
    assert_eq!(has().await, before);
    w.store.put_plan(&w.operator, &plan("p", 2)).await.unwrap();
    assert_eq!(has().await, before);
    // What it was given is an exception, and the rest is the plan's.
    change(w, "t", &to(Some("p"))).await;
    assert_eq!(has().await, Allowance { rates: plan("p", 2).allowance.rates, ..before });
    change(w, "t", &to(None)).await;
    assert_eq!(has().await, before);
    w.store.delete_tenant(&w.operator, &tenant("t")).await.unwrap();
    assert_eq!(w.store.allowance(id).await.unwrap(), None);
}

pub(super) async fn a_plan_counts_from_the_moment_it_is_changed(w: &World<'_>) {
    let (scope, other) = (w.tenant("t").await, w.tenant("u").await);
    w.store.put_plan(&w.operator, &plan("p", 2)).await.unwrap();
    change(w, "t", &to(Some("p"))).await;
    let make = async |text: &str| w.store.create_database(&scope, &database(text)).await;
    make("a").await.unwrap();
    assert_eq!(kind(make("b").await), ErrorKind::LimitExceeded);
    w.store.put_plan(&w.operator, &plan("p", 3)).await.unwrap();
    make("b").await.unwrap();
    assert_eq!(kind(make("c").await), ErrorKind::LimitExceeded);
    assert_eq!(w.store.allowance(scope.tenant()).await.unwrap(), Some(plan("p", 3).allowance));
    // Nobody else has it.
    let free = w.store.allowance(other.tenant()).await.unwrap();
    assert_eq!(free, Some(Allowance::default()));
    for text in ["a", "b", "c"] {
        w.store.create_database(&other, &database(text)).await.unwrap();
    }
    // What it has already stays, and is found.
    w.store.put_plan(&w.operator, &plan("p", 1)).await.unwrap();
    let found = w.store.databases(&scope, tenantry_types::Page::default()).await.unwrap();
    assert_eq!(found.len(), 3);
}

pub(super) async fn every_stock_of_a_plan_is_asked_in_the_commit(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let limits = Limits {
        collections: 1,
        records_per_collection: 2,
        keys: 0,
        users: 0,
        databases: 1,
        vector_dimensions: 2,
    };
    let put = async |allowance: Allowance| {
        w.store.put_plan(&w.operator, &TenantPlan::new(name("p"), allowance)).await.unwrap();
    };
    put(Allowance { limits, ..Allowance::default() }).await;
    change(w, "t", &to(Some("p"))).await;
    let db = w.database(&scope).await;
    let made = w.store.create_collection(&scope, &db, &spec("d"), false).await;
    assert_eq!(kind(made), ErrorKind::LimitExceeded);
    let batch = |n: usize| (0..n).map(|i| record(&format!("r{i}"), 1.0, &[])).collect::<Vec<_>>();
    assert_eq!(kind(w.store.write(&scope, &c, UPSERT, batch(3)).await), ErrorKind::LimitExceeded);
    let quotas = Quotas { records: Some(1), ..Quotas::default() };
    put(Allowance { limits, quotas, ..Allowance::default() }).await;
    assert_eq!(kind(w.store.write(&scope, &c, UPSERT, batch(2)).await), ErrorKind::LimitExceeded);
    put(Allowance { limits, ..Allowance::default() }).await;
    w.store.write(&scope, &c, UPSERT, batch(2)).await.unwrap();
    let key = tenantry_store::NewKey {
        role: tenantry_auth::Role::Read,
        restriction: tenantry_auth::Restriction::default(),
        label: String::new(),
        expires_at: None,
    };
    assert_eq!(kind(w.store.create_key(&scope, key).await), ErrorKind::LimitExceeded);
}

/// A record with a vector of so many components, or a named one.
fn wide(id: &str, dimension: usize, named: Option<&VectorName>) -> Vec<RecordWrite> {
    let vector = vec![1.0; dimension];
    let record = RecordWrite { vector: None, ..record(id, 0.0, &[]) };
    vec![match named {
        Some(name) => RecordWrite { vectors: [(name.clone(), vector)].into(), ..record },
        None => RecordWrite { vector: Some(vector), ..record },
    }]
}

pub(super) async fn a_dimension_is_bounded_where_it_is_fixed(w: &World<'_>) {
    let (scope, old) = w.collection("t").await;
    w.store.write(&scope, &old, UPSERT, wide("a", 4, None)).await.unwrap();
    let limits = Limits { vector_dimensions: 3, ..Limits::default() };
    let allowance = Allowance { limits, ..Allowance::default() };
    w.store.put_plan(&w.operator, &TenantPlan::new(name("p"), allowance)).await.unwrap();
    change(w, "t", &to(Some("p"))).await;
    // What has a larger one goes on.
    w.store.write(&scope, &old, UPSERT, wide("b", 4, None)).await.unwrap();
    let (db, named) = (w.database(&scope).await, VectorName::parse("n").unwrap());
    let spec_of = |text: &str, unnamed, of_name| {
        let vector = VectorSpec { dimension: of_name, ..VectorSpec::default() };
        CollectionSpec {
            dimension: unnamed,
            vectors: [(named.clone(), vector)].into(),
            ..spec(text)
        }
    };
    let make = async |spec: &CollectionSpec| -> Result<CollectionRef> {
        Ok(w.store.create_collection(&scope, &db, spec, true).await?.0)
    };
    assert!(make(&spec_of("c", Some(4), None)).await.is_ok(), "it is there");
    // Said when the collection is made.
    for (unnamed, of_name) in [(Some(4), None), (Some(3), Some(4)), (None, Some(4))] {
        let made = make(&spec_of("d", unnamed, of_name)).await;
        let why = made.expect_err("too many components");
        assert_eq!(why.kind(), ErrorKind::LimitExceeded);
        let says = "new vectors of this tenant may have at most 3 components, these have 4: the";
        assert!(why.public_message().starts_with(says), "{why}");
    }
    make(&spec_of("d", Some(3), Some(3))).await.unwrap();
    // Or by the first record.
    let e = make(&spec_of("e", None, None)).await.unwrap();
    for of in [None, Some(&named)] {
        let mut batch = wide("a", 3, None);
        batch.extend(wide("b", 4, of));
        if of.is_none() {
            batch.remove(0);
        }
        let written = w.store.write(&scope, &e, UPSERT, batch).await;
        assert_eq!(kind(written), ErrorKind::LimitExceeded);
        assert!(w.ids(&scope, &e).await.is_empty());
    }
    // An exception counts first, and the tenant's own limit before the plan.
    let own = async |vector_dimensions| {
        let limits =
            LimitsChange { vector_dimensions: Some(vector_dimensions), ..LimitsChange::default() };
        change(w, "t", &TenantChange { limits, ..TenantChange::default() }).await;
    };
    own(5).await;
    let written = w.store.write(&scope, &e, UPSERT, wide("a", 6, None)).await;
    assert_eq!(kind(written), ErrorKind::LimitExceeded);
    w.store.write(&scope, &e, UPSERT, wide("a", 5, None)).await.unwrap();
    let until = |end| Exceptions {
        vector_dimensions: Some(Exception { value: 6, expires_at: Some(Timestamp(end)) }),
        ..Exceptions::default()
    };
    change(w, "t", &except(&until(u64::MAX))).await;
    w.store.write(&scope, &e, UPSERT, wide("b", 6, Some(&named))).await.unwrap();
    make(&spec_of("f", Some(6), None)).await.unwrap();
    change(w, "t", &except(&until(1))).await;
    assert_eq!(kind(make(&spec_of("g", Some(6), None)).await), ErrorKind::LimitExceeded);
    make(&spec_of("g", Some(5), None)).await.unwrap();
    own(Limits::default().vector_dimensions).await;
    let has = w.store.allowance(scope.tenant()).await.unwrap().unwrap();
    assert_eq!(has.limits.vector_dimensions, 3);
    assert_eq!(w.ids(&scope, &old).await, ["a", "b"]);
}

/// The plan `p`, which allows one isolation or all, and some locations or all.
fn placed(isolation: Option<Isolation>, locations: Option<Vec<Location>>) -> TenantPlan {
    let isolations = isolation.map(|one| [one]);
    let isolations = isolations.as_ref().map(<[Isolation; 1]>::as_slice);
    let places = Places::new(isolations, locations).expect("places");
    TenantPlan { places, ..plan("p", 9) }
}

/// Places where a tenant that lives here does not.
fn elsewhere(isolation: Isolation, location: Location) -> [TenantPlan; 2] {
    let other = Isolation::ALL.into_iter().find(|one| *one != isolation);
    let far = Location::parse("far").expect("a location");
    assert_ne!(location, far);
    [placed(other, None), placed(None, Some(vec![far]))]
}

pub(super) async fn a_tenant_gets_no_plan_that_does_not_have_it_live_where_it_does(w: &World<'_>) {
    let scope = w.tenant("t").await;
    let info = w.store.tenant_by_id(scope.tenant()).await.unwrap().unwrap();
    let give = async || w.store.change_tenant(&w.operator, &tenant("t"), &to(Some("p"))).await;
    for plan in elsewhere(info.isolation, info.location) {
        w.store.put_plan(&w.operator, &plan).await.unwrap();
        assert_eq!(w.store.plan(&w.operator, &name("p")).await.unwrap(), plan);
        assert_eq!(w.store.plans(&w.operator).await.unwrap(), [plan]);
        let why = give().await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Conflict);
        let lives = format!("lives in {} at {}", info.isolation.word(), info.location);
        let says = format!("and the tenant t {lives}: move it first");
        assert!(why.public_message().ends_with(&says), "{why}");
    }
    let now = w.store.tenant_by_id(info.id).await.unwrap().unwrap();
    assert_eq!(now.plan, None);
    let fits = placed(Some(info.isolation), Some(vec![info.location]));
    w.store.put_plan(&w.operator, &fits).await.unwrap();
    give().await.unwrap();
    // The plan may say something else later, and whoever lives there stays, with all that it has.
    for plan in elsewhere(info.isolation, info.location) {
        w.store.put_plan(&w.operator, &plan).await.unwrap();
        give().await.unwrap();
        assert_eq!(w.store.allowance(info.id).await.unwrap(), Some(plan.allowance));
        w.store.create_database(&scope, &database("d")).await.unwrap();
        w.store.delete_database(&scope, &database("d")).await.unwrap();
    }
    // Who has left it does not come back.
    change(w, "t", &to(None)).await;
    assert_eq!(kind(give().await), ErrorKind::Conflict);
}

pub(super) async fn a_tenant_is_made_where_its_plan_has_tenants_live(w: &World<'_>) {
    let spec = TenantSpec { plan: Some(name("p")), ..TenantSpec::new(tenant("t")) };
    let (isolation, location) = w.store.place_for(&spec).unwrap();
    for plan in elsewhere(isolation, location) {
        w.store.put_plan(&w.operator, &plan).await.unwrap();
        let why = w.store.create_tenant(&w.operator, &spec).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Conflict);
        assert!(why.public_message().starts_with("the plan p does not allow the "), "{why}");
        let begun = w.store.begin_arrival(&w.operator, &spec).await;
        assert_eq!(kind(begun), ErrorKind::Conflict);
        assert!(w.store.find_tenant(&tenant("t")).await.unwrap().is_none());
    }
    // A plan that it gets when it is whole.
    let bare = TenantSpec { plan: None, ..spec.clone() };
    let (told, target) = ("t".to_owned(), "t".to_owned());
    let arrived = Arrived { action: "tenant.copy", told, target, email: None };
    let arrival = w.store.begin_arrival(&w.operator, &bare).await.unwrap();
    let arrival = arrival.on_plan(Some(name("p")));
    let why = arrival.end(&w.operator, Limits::default(), arrived.clone()).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Conflict);
    assert!(why.public_message().starts_with("the plan p does not allow the "), "{why}");
    w.store.put_plan(&w.operator, &placed(Some(isolation), Some(vec![location]))).await.unwrap();
    let bare = TenantSpec { name: tenant("u"), ..bare };
    let arrival = w.store.begin_arrival(&w.operator, &bare).await.unwrap();
    let arrival = arrival.on_plan(Some(name("p")));
    arrival.end(&w.operator, Limits::default(), arrived).await.unwrap();
    let spec = TenantSpec { name: tenant("v"), ..spec };
    w.store.create_tenant(&w.operator, &spec).await.unwrap();
}

pub(super) async fn an_exception_counts_before_the_plan_until_it_ends(w: &World<'_>) {
    let scope = w.tenant("t").await;
    w.store.put_plan(&w.operator, &plan("p", 2)).await.unwrap();
    change(w, "t", &to(Some("p"))).await;
    let has = async || w.store.allowance(scope.tenant()).await.unwrap().unwrap();
    let at = |end: u64| Exceptions {
        databases: Some(Exception { value: 3, expires_at: Some(Timestamp(end)) }),
        second: Some(Exception::lasting(None)),
        ..Exceptions::default()
    };
    change(w, "t", &except(&at(u64::MAX))).await;
    assert_eq!((has().await.limits.databases, has().await.rates), (3, Rates::default()));
    for text in ["a", "b"] {
        w.store.create_database(&scope, &database(text)).await.unwrap();
    }
    change(w, "t", &except(&at(1))).await;
    assert_eq!((has().await.limits.databases, has().await.weight), (2, 300));
    let made = w.store.create_database(&scope, &database("c")).await;
    assert_eq!(kind(made), ErrorKind::LimitExceeded);
    // Those that are not said again have ended.
    change(w, "t", &except(&Exceptions::default())).await;
    assert_eq!(has().await, plan("p", 2).allowance);
    let log = w.store.audit(&scope, 0, 100).await.unwrap();
    let told = log.iter().filter(|entry| entry.event.action == "tenant.exceptions");
    let told: Vec<_> = told.map(|entry| entry.event.target.as_str()).collect();
    assert_eq!(told.len(), 3);
    let last = "\"t\": databases 3 until 1970-01-01T00:00:00.001Z → plan; \
                requests_per_second none → plan";
    assert_eq!(told[2], last);
}

pub(super) async fn a_plan_that_a_tenant_has_is_not_deleted(w: &World<'_>) {
    let scope = w.tenant("t").await;
    w.tenant("u").await;
    let unknown = w.store.change_tenant(&w.operator, &tenant("t"), &to(Some("p"))).await;
    assert_eq!(kind(unknown), ErrorKind::NotFound);
    for text in ["p", "pp", "q"] {
        w.store.put_plan(&w.operator, &plan(text, 5)).await.unwrap();
    }
    change(w, "t", &to(Some("p"))).await;
    change(w, "u", &to(Some("p"))).await;
    let delete = async |text: &str| w.store.delete_plan(&w.operator, &name(text)).await;
    assert_eq!(kind(delete("p").await), ErrorKind::Conflict);
    // Its name begins with the other's, and nobody has it.
    delete("pp").await.unwrap();
    change(w, "t", &to(Some("q"))).await;
    assert_eq!(kind(delete("p").await), ErrorKind::Conflict);
    w.store.delete_tenant(&w.operator, &tenant("u")).await.unwrap();
    delete("p").await.unwrap();
    assert_eq!(kind(delete("q").await), ErrorKind::Conflict);
    let renamed = TenantChange { name: Some(tenant("v")), ..to(None) };
    change(w, "t", &renamed).await;
    delete("q").await.unwrap();
    let log = w.store.audit(&scope, 0, 100).await.unwrap();
    let told: Vec<_> = log.iter().map(|entry| entry.event.target.as_str()).collect();
    for target in ["t → p", "t → q", "t → (none)", "t → v"] {
        assert!(told.contains(&target), "{told:?}");
    }
}

pub(super) async fn a_new_tenant_has_its_plan_from_the_first_commit_on(w: &World<'_>) {
    let asked =
        |whose: &str| TenantSpec { plan: Some(name("p")), ..TenantSpec::new(tenant(whose)) };
    let unknown = w.store.create_tenant(&w.operator, &asked("t")).await;
    assert_eq!(kind(unknown), ErrorKind::NotFound);
    assert!(w.store.find_tenant(&tenant("t")).await.unwrap().is_none());
    w.store.put_plan(&w.operator, &plan("p", 2)).await.unwrap();
    let made = w.store.create_tenant(&w.operator, &asked("t")).await.unwrap();
    assert_eq!(made.plan, Some(name("p")));
    let has = w.store.allowance(made.id).await.unwrap();
    assert_eq!(has, Some(plan("p", 2).allowance));
    assert_eq!(kind(w.store.delete_plan(&w.operator, &name("p")).await), ErrorKind::Conflict);
    let log = w.store.audit(&w.scope(made.id), 0, 100).await.unwrap();
    let told: Vec<_> = log.iter().map(|entry| entry.event.action.as_str()).collect();
    assert_eq!(told, ["tenant.create", "tenant.plan"]);
    w.store.delete_tenant(&w.operator, &tenant("t")).await.unwrap();
    w.store.delete_plan(&w.operator, &name("p")).await.unwrap();
}

pub(super) async fn a_plan_is_not_deleted_while_a_tenant_is_made_with_it(w: &World<'_>) {
    for n in 0..12 {
        w.store.put_plan(&w.operator, &plan("p", 2)).await.unwrap();
        let whose = format!("t{n}");
        let spec = TenantSpec { plan: Some(name("p")), ..TenantSpec::new(tenant(&whose)) };
        let p = name("p");
        let (made, deleted) = if n % 2 == 0 {
            tokio::join!(
                w.store.create_tenant(&w.operator, &spec),
                w.store.delete_plan(&w.operator, &p)
            )
        } else {
            let (deleted, made) = tokio::join!(
                w.store.delete_plan(&w.operator, &p),
                w.store.create_tenant(&w.operator, &spec)
            );
            (made, deleted)
        };
        match made {
            Ok(made) => {
                assert_eq!(kind(deleted), ErrorKind::Conflict);
                let has = w.store.allowance(made.id).await.unwrap();
                assert_eq!(has, Some(plan("p", 2).allowance));
                w.store.delete_tenant(&w.operator, &tenant(&whose)).await.unwrap();
            }
            Err(why) => {
                assert_eq!(why.kind(), ErrorKind::NotFound);
                deleted.unwrap();
            }
        }
    }
}

pub(super) async fn exceptions_are_made_and_ended_one_by_one(w: &World<'_>) {
    let id = w.tenant("t").await.tenant();
    let except = async |say: &dyn Fn(&mut ExceptionChange)| {
        let mut except = ExceptionChange::default();
        say(&mut except);
        change(w, "t", &TenantChange { except, ..TenantChange::default() }).await;
        let info = w.store.tenant_by_id(id).await.unwrap().unwrap();
        (info.exceptions.keys, info.exceptions.weight)
    };
    let make = |change: &mut ExceptionChange, term, value| {
        change.make(term, Amount::of(value), None).unwrap();
    };
    let after = except(&|change| make(change, Term::Keys, 4)).await;
    assert_eq!(after, (Some(Exception::lasting(4)), None));
    let after = except(&|change| make(change, Term::Weight, 9)).await;
    assert_eq!(after, (Some(Exception::lasting(4)), Some(Exception::lasting(9))));
    let after = except(&|change| change.end(Term::Keys)).await;
    assert_eq!(after, (None, Some(Exception::lasting(9))));
    assert_eq!(w.store.allowance(id).await.unwrap().unwrap().weight, 9);
}

pub(super) async fn limits_that_are_changed_at_once_are_all_kept(w: &World<'_>) {
    let id = w.tenant("t").await.tenant();
    let nothing = LimitsChange::default();
    let settings = [("a".to_owned(), Some("1".to_owned()))].into();
    let changes = [
        TenantChange { limits: LimitsChange { databases: Some(3), ..nothing }, ..to(None) },
        TenantChange { limits: LimitsChange { keys: Some(4), ..nothing }, ..to(None) },
        TenantChange { limits: LimitsChange { users: Some(5), ..nothing }, ..to(None) },
        TenantChange { settings, ..to(None) },
    ];
    let [a, b, c, d] = &changes;
    tokio::join!(change(w, "t", a), change(w, "t", b), change(w, "t", c), change(w, "t", d));
    let info = w.store.tenant_by_id(id).await.unwrap().unwrap();
    assert_eq!(info.limits, Limits { databases: 3, keys: 4, users: 5, ..Limits::default() });
    assert_eq!(info.settings.get("a").map(String::as_str), Some("1"));
}
