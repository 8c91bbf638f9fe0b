//! Who is let in: keys that are wrong, revoked, expired, suspended or of a tenant that is gone.

use crate::support::*;
use tenantry_engine::*;

const REFUSED: &str = "the API key is not valid";

async fn refusal(world: &World, token: &str) -> (ErrorKind, String) {
    shown(world.engine.authenticate(Some(token)).await)
}

#[tokio::test]
async fn every_wrong_key_gets_the_same_answer() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let unknown = ApiKey::from_random(&[1; ApiKey::RANDOM_BYTES]).reveal();
    let mut secret = key.clone();
    let last = secret.pop().unwrap();
    secret.push(if last == 'a' { 'q' } else { 'a' });
    let upper = key.to_uppercase();
    for wrong in ["", " ", "x", "tnt_", "tnt_a_b", &unknown, &secret, &upper, &key[4..], &key[..20]]
    {
        let expected = (ErrorKind::Unauthenticated, REFUSED.to_owned());
        assert_eq!(refusal(&world, wrong).await, expected, "{wrong}");
    }
    assert_eq!(world.engine.totals().unauthenticated, 10);
    let (none, words) = shown(world.engine.authenticate(None).await);
    assert_eq!(none, ErrorKind::Unauthenticated);
    assert!(words.contains("Authorization: Bearer"), "{words}");
    // Blanks around a key come from copying it.
    world.who(&format!(" {key}\n")).await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let world = World::new().await;
    let (admin, key) = (world.tenant("acme").await, world.key("acme", new_key(Role::Read)).await);
    let who = world.who(&key).await;
    let session = world.session::<Admin>(&admin).await;
    session.revoke_key(who.key().unwrap()).await.unwrap();
    assert_eq!(refusal(&world, &key).await, (ErrorKind::Unauthenticated, REFUSED.into()));
    assert_eq!(kind(session.revoke_key(who.key().unwrap()).await), ErrorKind::NotFound);
    assert_eq!(session.keys().await.unwrap().len(), 1);
    // A principal stands for one request: one that was let in before finishes its work.
    assert!(world.engine.session::<Read>(&who, Select::Own).await.is_ok());
}

#[tokio::test]
async fn a_key_can_revoke_itself() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let session = world.session::<Admin>(&key).await;
    session.revoke_key(world.who(&key).await.key().unwrap()).await.unwrap();
    assert_eq!(refusal(&world, &key).await.0, ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn nobody_revokes_another_tenants_key() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let foreign = world.who(&b).await.key().unwrap();
    let random = KeyId::from_bytes([9; 10]);
    let session = world.session::<Admin>(&a).await;
    let refused = shown(session.revoke_key(foreign).await);
    let missing = shown(session.revoke_key(random).await);
    let words = missing.1.replace(&random.to_string(), &foreign.to_string());
    assert_eq!(refused, (missing.0, words));
    world.who(&b).await;
    assert!(session.keys().await.unwrap().iter().all(|row| row.id != foreign));
    // Nor an operator's.
    let operators = world.operator.key().unwrap();
    assert_eq!(kind(session.revoke_key(operators).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_key_expires_by_the_clock() {
    let world = World::new().await;
    world.tenant("acme").await;
    let until = NewKey { expires_at: Some(Timestamp(START + 1_000)), ..new_key(Role::Read) };
    let key = world.key("acme", until).await;
    world.clock.set(START + 999);
    world.who(&key).await;
    world.clock.set(START + 1_000);
    assert_eq!(refusal(&world, &key).await, (ErrorKind::Unauthenticated, REFUSED.into()));
    world.clock.set(START + 1_000_000);
    assert_eq!(refusal(&world, &key).await.0, ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn an_erased_tenants_keys_are_refused_whatever_they_name() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let who = world.who(&key).await;
    world.operator().delete_tenant(&tenant("acme")).await.unwrap();
    let expected = (ErrorKind::Unauthenticated, REFUSED.to_owned());
    assert_eq!(refusal(&world, &key).await, expected);
    // So is a principal that was let in before.
    let name = tenant("acme");
    for select in [Select::Own, Select::Named(&name)] {
        assert_eq!(shown(world.engine.session::<Read>(&who, select).await), expected);
    }
    world.tenant("acme").await;
    assert_eq!(refusal(&world, &key).await, expected);
    assert_eq!(shown(world.engine.session::<Read>(&who, Select::Named(&name)).await), expected);
}

#[tokio::test]
async fn a_role_reaches_its_level_and_those_below() {
    let world = World::new().await;
    world.tenant("acme").await;
    for (role, write, admin) in
        [(Role::Read, false, false), (Role::Write, true, false), (Role::Admin, true, true)]
    {
        let key = world.key("acme", new_key(role)).await;
        assert!(world.try_session::<Read>(&key).await.is_ok());
        for (allowed, needs, outcome) in [
            (write, "write", world.try_session::<Write>(&key).await.map(drop)),
            (admin, "admin", world.try_session::<Admin>(&key).await.map(drop)),
        ] {
            if allowed {
                outcome.unwrap();
            } else {
                let words = format!("this needs the role {needs}");
                assert_eq!(shown(outcome), (ErrorKind::Denied, words));
            }
        }
    }
}

#[tokio::test]
async fn a_tenants_key_is_no_operator() {
    let world = World::new().await;
    let who = world.who(&world.tenant("acme").await).await;
    assert_eq!(kind(world.engine.operator(&who)), ErrorKind::Denied);
}

#[tokio::test]
async fn an_operator_without_act_as_manages_tenants_and_opens_none() {
    let world = World::new().await;
    world.tenant("acme").await;
    let (row, key) = world.operator().create_key(false, "billing", None).await.unwrap();
    assert_eq!((row.label.as_str(), row.owner), ("billing", KeyOwner::Operator { act_as: false }));
    let who = world.who(&key).await;
    assert_eq!(world.engine.operator(&who).unwrap().tenants(None, 9).await.unwrap().len(), 1);
    let refused = async |name: &str| {
        let name = tenant(name);
        shown(world.engine.session::<Read>(&who, Select::Named(&name)).await)
    };
    let words = "this operator key may not open tenants";
    assert_eq!(refused("acme").await, (ErrorKind::Denied, words.into()));
    assert_eq!(refused("none").await, (ErrorKind::NotFound, "Tenant [none] does not exist".into()));
    assert_eq!(kind(world.engine.session::<Read>(&who, Select::Own).await), ErrorKind::Invalid);

    // It makes no key that may do what it may not.
    let limited = world.engine.operator(&who).unwrap();
    assert_eq!(kind(limited.create_key(true, "wider", None).await), ErrorKind::Denied);
    let (same, _) = limited.create_key(false, "same", None).await.unwrap();
    limited.revoke_key(same.id).await.unwrap();

    world.operator().revoke_key(row.id).await.unwrap();
    assert_eq!(refusal(&world, &key).await.0, ErrorKind::Unauthenticated);
    assert_eq!(world.operator().keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_installation_itself_cannot_be_opened() {
    let world = World::new().await;
    let name = tenant("(installation)");
    let outcome = world.engine.session::<Read>(&world.operator, Select::Named(&name)).await;
    assert_eq!(kind(outcome), ErrorKind::NotFound);
}

#[tokio::test]
async fn rows_of_keys_say_what_was_asked_for_and_no_secret() {
    let world = World::new().await;
    let admin = world.tenant("acme").await;
    let filter = is("owner", text("u1"));
    let asked = NewKey {
        label: "app".into(),
        expires_at: Some(Timestamp(START + 5)),
        ..bound_key(Role::Write, filter.clone())
    };
    let session = world.session::<Admin>(&admin).await;
    let (row, key) = session.create_key(asked).await.unwrap();
    assert_eq!((row.role, row.label.as_str()), (Role::Write, "app"));
    assert_eq!(row.restriction.filter, Some(filter));
    assert_eq!((row.created_at, row.expires_at), (Timestamp(START), Some(Timestamp(START + 5))));
    assert!(key.starts_with(&format!("tnt_{}_", row.id)));
    let listed = session.keys().await.unwrap();
    assert!(listed.contains(&row));
    let secret = key.rsplit('_').next().unwrap();
    assert!(!format!("{listed:?}{:?}", world.who(&key).await).contains(secret));
}

#[tokio::test]
async fn development_mode_takes_everybody_for_the_operator_but_honours_keys() {
    let dir = tempfile::TempDir::new().unwrap();
    let store = Store::open_embedded(EmbeddedConfig::new(dir.path())).unwrap();
    let clock = std::sync::Arc::new(SystemClock);
    let engine = Engine::start(EngineConfig { store, authority: Authority::development(), clock });
    let anybody = engine.authenticate(None).await.unwrap();
    assert!(engine.is_development() && anybody.is_development());
    let operator = engine.operator(&anybody).unwrap();
    for name in ["a", "b"] {
        operator.create_tenant(&TenantSpec::new(tenant(name))).await.unwrap();
    }
    let (a, b) = (tenant("a"), tenant("b"));
    let session = engine.session::<Admin>(&anybody, Select::Named(&a)).await.unwrap();
    let (_, key) = session.create_key(new_key(Role::Admin)).await.unwrap();
    let who = engine.authenticate(Some(&key)).await.unwrap();
    assert_eq!(kind(engine.session::<Read>(&who, Select::Named(&b)).await), ErrorKind::NotFound);
    assert_eq!(kind(engine.authenticate(Some("tnt_x")).await), ErrorKind::Unauthenticated);
    operator.reset().await.unwrap();
    assert!(operator.tenants(None, 9).await.unwrap().is_empty());
    assert_eq!(kind(engine.authenticate(Some(&key)).await), ErrorKind::Unauthenticated);
}
