//! Operators by tokens: what they reach, and what tenants see of it.

use crate::{
    archive::exported,
    support::*,
    tokens::{spec, token},
};
use tenantry_engine::{
    token::{ClaimPath, Issuers, TenantBy},
    *,
};

const STAFF: &str = r#""roles":["staff"]"#;

async fn world() -> World {
    let mut issuer = spec(TenantBy::Id(ClaimPath::parse("org").unwrap()));
    issuer.claims.operator_roles = ["staff".to_owned()].into();
    World::trusting(Issuers::new(vec![issuer]).unwrap()).await
}

async fn open<L: Level>(world: &World, token: &str, name: &str) -> Result<Session<L>> {
    let who = world.engine.authenticate(Some(token)).await?;
    world.engine.session(&who, Select::Named(&tenant(name))).await
}

#[tokio::test]
async fn a_token_acts_in_tenants_and_each_of_them_sees_it() {
    let world = world().await;
    let keys = [world.tenant("acme").await, world.tenant("globex").await];
    let staff = token(STAFF);
    for (name, key) in ["acme", "globex"].into_iter().zip(&keys) {
        let session = open::<Admin>(&world, &staff, name).await.unwrap();
        session.create_database(&database("made")).await.unwrap();
        let log = world.session::<Admin>(key).await.audit(0, 1_000).await.unwrap();
        let done: Vec<_> = log
            .iter()
            .filter(|entry| entry.event.actor == "operator:login/alice")
            .map(|entry| entry.event.action.as_str())
            .collect();
        for action in ["operator.act_as", "database.create"] {
            assert!(done.contains(&action), "{name}: {done:?}");
        }
    }
    // It belongs to none of them, and there is no other.
    assert_eq!(kind(world.try_session::<Read>(&staff).await), ErrorKind::Invalid);
    assert_eq!(kind(open::<Read>(&world, &staff, "none").await), ErrorKind::NotFound);
    // A suspended one it may look at, as the operator's keys may.
    world.operator().suspend_tenant(&tenant("acme")).await.unwrap();
    open::<Read>(&world, &staff, "acme").await.unwrap();
}

#[tokio::test]
async fn a_token_manages_nothing_and_makes_no_tenant_by_naming_it() {
    let world = world().await;
    world.tenant("acme").await;
    let who = world.who(&token(STAFF)).await;
    assert_eq!(kind(world.engine.operator(&who)), ErrorKind::Denied);
    assert_eq!(kind(world.engine.importer(&who)), ErrorKind::Denied);
    let log = world.operator().audit(0, 1_000).await.unwrap();
    let is_noted = |entry: &AuditEntry| {
        entry.event.actor == "operator:login/alice" && entry.event.action == "operator"
    };
    assert!(log.iter().any(is_noted), "{log:?}");
    world.engine.provision(ProvisionRules::default());
    assert_eq!(kind(open::<Read>(&world, &token(STAFF), "new").await), ErrorKind::NotFound);
    let select = tenant("new");
    world.engine.session::<Read>(&world.operator, Select::Named(&select)).await.unwrap();
    open::<Read>(&world, &token(STAFF), "new").await.unwrap();
}

#[tokio::test]
async fn a_token_writes_no_bill_and_takes_nothing_along_that_is_the_operators() {
    let world = world().await;
    world.tenant("acme").await;
    let id = world.operator().tenant(&tenant("acme")).await.unwrap().id;
    let event = [UsageEvent::new("e", Meter::Tokens, 1).unwrap()];
    for staff in [token(STAFF), token(&format!(r#""org":{id},{STAFF}"#))] {
        let session = open::<Admin>(&world, &staff, "acme").await.unwrap();
        let (what, why) = shown(session.report_usage(&event, false).await);
        assert!(what == ErrorKind::Denied && why.contains("operator's key"), "{why}");
        assert!(!world.summary(&exported(&session).await).is_operators);
    }
    let session = world.acting_in("acme").await;
    assert_eq!(session.report_usage(&event, false).await.unwrap().counted, 1);
    assert!(world.summary(&exported(&session).await).is_operators);
}

#[tokio::test]
async fn a_token_with_a_tenant_is_an_operator_there_and_nobody_elsewhere() {
    let world = world().await;
    world.tenant("acme").await;
    world.tenant("globex").await;
    let id = world.operator().tenant(&tenant("acme")).await.unwrap().id;
    let limited = token(&format!(r#""org":{id},{STAFF}"#));
    assert_eq!(world.session::<Admin>(&limited).await.tenant().id, id);
    open::<Admin>(&world, &limited, "acme").await.unwrap();
    for name in ["globex", "none"] {
        let (what, why) = shown(open::<Read>(&world, &limited, name).await);
        assert!(what == ErrorKind::NotFound && why.contains(name), "{why}");
    }
    // The neighbour's log has nothing of it.
    let globex = tenant("globex");
    let select = Select::Named(&globex);
    let session = world.engine.session::<Admin>(&world.operator, select).await.unwrap();
    let log = session.audit(0, 1_000).await.unwrap();
    assert!(!format!("{log:?}").contains("login/alice"), "{log:?}");
    // At its host and below its path as well, before any route.
    let who = world.who(&limited).await;
    let at = |name| who.clone().at_host(Some(std::sync::Arc::new(tenant(name))));
    let below = |name| who.clone().below_path(Some(PathTenant::new(Ok(tenant(name)))));
    for there in [at("acme"), below("acme")] {
        world.engine.check_address(&there).await.unwrap();
    }
    for elsewhere in [at("globex"), below("globex")] {
        assert_eq!(kind(world.engine.check_address(&elsewhere).await), ErrorKind::NotFound);
    }
    world.operator().delete_tenant(&tenant("acme")).await.unwrap();
    let (what, why) = shown(world.engine.authenticate(Some(&limited)).await);
    assert_eq!((what, why.as_str()), (ErrorKind::Unauthenticated, "the token is not valid"));
}

#[tokio::test]
async fn a_session_of_such_a_token_ends_with_the_token() {
    let world = world().await;
    world.tenant("acme").await;
    let session = open::<Admin>(&world, &token(STAFF), "acme").await.unwrap();
    world.clock.set(START + 600_000);
    let late = session.create_database(&database("late")).await;
    assert_eq!(kind(late), ErrorKind::Unauthenticated);
}
