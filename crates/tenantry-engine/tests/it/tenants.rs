//! A tenant's life: made, listed, renamed, suspended, erased.

use crate::support::*;
use std::collections::BTreeMap;
use tenantry_engine::*;

async fn names(world: &World, after: Option<&str>, limit: usize) -> Vec<String> {
    let after = after.map(tenant);
    let page = world.operator().tenants(after.as_ref(), limit).await.unwrap();
    page.into_iter().map(|info| info.name.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_tenant_is_made_with_what_was_asked_for() {
    let world = World::new().await;
    let asked = TenantSpec {
        weight: 300,
        limits: Limits {
            databases: 2,
            collections: 3,
            records_per_collection: 4,
            keys: 5,
            users: 6,
            vector_dimensions: 7,
        },
        settings: BTreeMap::from([("plan".into(), "gold".into())]),
        ..TenantSpec::new(tenant("acme"))
    };
    let made = world.operator().create_tenant(&asked).await.unwrap();
    assert_eq!(made.name, asked.name);
    assert_eq!((made.weight, made.limits), (300, asked.limits));
    assert_eq!(made.settings, asked.settings);
    assert_eq!((made.state, made.created_at), (TenantState::Active, Timestamp(START)));
    assert_eq!(*world.operator().tenant(&asked.name).await.unwrap(), made);
}

#[tokio::test]
async fn a_tenant_may_start_without_a_database() {
    let world = World::new().await;
    let bare = TenantSpec { default_database: false, ..TenantSpec::new(tenant("bare")) };
    world.operator().create_tenant(&bare).await.unwrap();
    let bare = world.key("bare", new_key(Role::Admin)).await;
    let full = world.tenant("full").await;
    for (key, databases) in [(bare, 0), (full, 1)] {
        let session = world.session::<Read>(&key).await;
        assert_eq!(session.databases(Page::default()).await.unwrap().len(), databases);
    }
}

#[tokio::test]
async fn a_taken_name_is_refused_and_its_owner_untouched() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let second = TenantSpec { weight: 1, ..TenantSpec::new(tenant("acme")) };
    let refused = shown(world.operator().create_tenant(&second).await);
    assert_eq!(refused, (ErrorKind::AlreadyExists, "Tenant [acme] already exists".into()));
    assert_eq!(world.session::<Read>(&key).await.tenant().weight, 100);
    assert_eq!(names(&world, None, 10).await, ["acme"]);
}

#[tokio::test]
async fn of_many_makers_of_one_name_one_wins() {
    let world = World::new().await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let operator = world.operator();
        running
            .spawn(async move { operator.create_tenant(&TenantSpec::new(tenant("acme"))).await });
    }
    let outcomes = running.join_all().await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert!(
        outcomes.into_iter().filter_map(Result::err).all(|e| e.kind() == ErrorKind::AlreadyExists)
    );
    assert_eq!(names(&world, None, 10).await, ["acme"]);
}

#[tokio::test]
async fn nothing_is_left_of_a_tenant_that_could_not_be_made() {
    let world = World::new().await;
    let operator = world.operator();
    let long = "x".repeat(65 << 10);
    for bad in [
        TenantSpec { weight: 0, ..TenantSpec::new(tenant("acme")) },
        TenantSpec { weight: 1_001, ..TenantSpec::new(tenant("acme")) },
        TenantSpec {
            settings: BTreeMap::from([("note".into(), long)]),
            ..TenantSpec::new(tenant("acme"))
        },
    ] {
        assert!(operator.create_tenant(&bad).await.is_err());
    }
    assert_eq!(names(&world, None, 10).await, Vec::<String>::new());
    assert_eq!(kind(operator.tenant(&tenant("acme")).await), ErrorKind::NotFound);
    operator.create_tenant(&TenantSpec::new(tenant("acme"))).await.unwrap();
}

#[tokio::test]
async fn pages_of_tenants_make_the_whole_list() {
    let world = World::new().await;
    let mut all: Vec<String> = (0..23).map(|n| format!("t{:02}", n * 7 % 23)).collect();
    for name in &all {
        world.operator().create_tenant(&TenantSpec::new(tenant(name))).await.unwrap();
    }
    all.sort();
    assert_eq!(names(&world, None, 100).await, all);
    for size in [1, 5, 22, 23] {
        let mut paged: Vec<String> = Vec::new();
        loop {
            let page = names(&world, paged.last().map(String::as_str), size).await;
            assert!(page.len() <= size);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all, "pages of {size}");
    }
    assert_eq!(names(&world, Some("t05x"), 1).await, ["t06"]);
    assert!(names(&world, Some("t22"), 5).await.is_empty());
}

#[tokio::test]
async fn a_renamed_tenant_keeps_its_data_and_keys_and_frees_its_name() {
    let world = World::new().await;
    let key = world.tenant("old").await;
    world.collection(&key, "c").await.write(WriteMode::Upsert, vec![write("r")]).await.unwrap();
    let change = TenantChange { name: Some(tenant("new")), ..TenantChange::default() };
    let operator = world.operator();
    let renamed = operator.change_tenant(&tenant("old"), &change).await.unwrap();
    assert_eq!(renamed.name, tenant("new"));
    assert_eq!(all_ids(&world.collection(&key, "c").await).await, ["r"]);

    let who = world.who(&key).await;
    let named = |name| {
        let (engine, who) = (world.engine.clone(), who.clone());
        async move { engine.session::<Read>(&who, Select::Named(&tenant(name))).await.map(drop) }
    };
    assert!(named("new").await.is_ok());
    assert_eq!(kind(named("old").await), ErrorKind::NotFound);
    assert_eq!(kind(operator.tenant(&tenant("old")).await), ErrorKind::NotFound);

    let second = world.tenant("old").await;
    let id = world.session::<Read>(&second).await.tenant().id;
    assert_ne!(id, renamed.id);
    let back = TenantChange { name: Some(tenant("old")), ..TenantChange::default() };
    assert_eq!(kind(operator.change_tenant(&tenant("new"), &back).await), ErrorKind::AlreadyExists);
    assert_eq!(names(&world, None, 10).await, ["new", "old"]);
}

#[tokio::test]
async fn a_change_sets_only_what_it_names() {
    let world = World::new().await;
    world.tenant("acme").await;
    let operator = world.operator();
    let setting = |value: Option<&str>| TenantChange {
        settings: BTreeMap::from([("plan".into(), value.map(str::to_owned))]),
        ..TenantChange::default()
    };
    let name = tenant("acme");
    let before = operator.tenant(&name).await.unwrap();
    let gold = operator.change_tenant(&name, &setting(Some("gold"))).await.unwrap();
    assert_eq!(gold.settings["plan"], "gold");
    let heavy = TenantChange { weight: Some(500), ..TenantChange::default() };
    let heavy = operator.change_tenant(&name, &heavy).await.unwrap();
    assert_eq!((heavy.weight, heavy.settings["plan"].as_str()), (500, "gold"));
    let bare = operator.change_tenant(&name, &setting(None)).await.unwrap();
    assert_eq!(bare, TenantInfo { weight: 500, ..TenantInfo::clone(&before) });
    assert_eq!(*operator.tenant(&name).await.unwrap(), bare);

    let deleted = TenantChange { state: Some(TenantState::Deleted), ..TenantChange::default() };
    assert_eq!(kind(operator.change_tenant(&name, &deleted).await), ErrorKind::Invalid);
    let missing = operator.change_tenant(&tenant("none"), &setting(None)).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_and_loses_nothing() {
    let world = World::new().await;
    let (key, other) = (world.tenant("acme").await, world.tenant("other").await);
    world.collection(&key, "c").await.write(WriteMode::Upsert, vec![write("r")]).await.unwrap();
    let operator = world.operator();
    let suspended = operator.suspend_tenant(&tenant("acme")).await.unwrap();
    assert_eq!(suspended.state, TenantState::Suspended);
    for outcome in [
        world.try_session::<Read>(&key).await.map(drop),
        world.try_session::<Admin>(&key).await.map(drop),
    ] {
        assert_eq!(kind(outcome), ErrorKind::Suspended);
    }
    // For another tenant it still looks like no tenant.
    let who = world.who(&other).await;
    let foreign = world.engine.session::<Read>(&who, Select::Named(&tenant("acme"))).await;
    assert_eq!(kind(foreign), ErrorKind::NotFound);
    // The operator may look at it.
    let select = tenant("acme");
    let session = world.engine.session::<Read>(&world.operator, Select::Named(&select)).await;
    assert_eq!(session.unwrap().databases(Page::default()).await.unwrap().len(), 1);

    operator.resume_tenant(&tenant("acme")).await.unwrap();
    assert_eq!(all_ids(&world.collection(&key, "c").await).await, ["r"]);
}

#[tokio::test]
async fn an_erased_tenants_name_can_be_reused_without_its_data() {
    let world = World::new().await;
    let old_key = world.tenant("acme").await;
    let old_id = world.session::<Read>(&old_key).await.tenant().id;
    let old = world.collection(&old_key, "c").await;
    old.write(WriteMode::Upsert, vec![write("secret").vector(&[1.0])]).await.unwrap();
    let old_collection = old.info().id;

    let operator = world.operator();
    operator.delete_tenant(&tenant("acme")).await.unwrap();
    assert_eq!(kind(operator.tenant(&tenant("acme")).await), ErrorKind::NotFound);
    assert_eq!(kind(operator.delete_tenant(&tenant("acme")).await), ErrorKind::NotFound);
    // A handle that was open meanwhile reaches nothing more.
    assert_eq!(kind(old.count(None).await), ErrorKind::NotFound);
    assert_eq!(kind(old.write(WriteMode::Upsert, vec![write("r")]).await), ErrorKind::NotFound);

    let key = world.tenant("acme").await;
    let session = world.session::<Admin>(&key).await;
    assert!(session.tenant().id > old_id);
    let default = world.database::<Read>(&key).await;
    assert_eq!(default.count_collections().await.unwrap(), 0);
    assert_eq!(kind(default.collection_by_id(old_collection).await), ErrorKind::NotFound);
    assert!(all_ids(&world.collection(&key, "c").await).await.is_empty());
    assert_eq!(session.keys().await.unwrap().len(), 1);
    let log = session.audit(0, 100).await.unwrap();
    assert!(log.iter().all(|e| e.event.action != "records.upsert"), "{log:?}");
}

#[tokio::test]
async fn identities_are_never_given_twice_even_after_a_restart() {
    let world = World::new().await;
    let dir = world.dir.path().join("data");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let made = world.operator().create_tenant(&TenantSpec::new(tenant("acme"))).await.unwrap();
        seen.push(made.id);
        world.operator().delete_tenant(&tenant("acme")).await.unwrap();
    }
    world.engine.shutdown().await.unwrap();
    let mut config = EmbeddedConfig::new(dir);
    config.master_key = MasterKey::Bytes(zeroize::Zeroizing::new([7; 32]));
    let engine = Engine::start(EngineConfig {
        store: Store::open_embedded(config).unwrap(),
        authority: Authority::new(),
        clock: world.clock.clone(),
    });
    let operator = engine.operator(&engine.local_operator().await.unwrap()).unwrap();
    let made = operator.create_tenant(&TenantSpec::new(tenant("acme"))).await.unwrap();
    seen.push(made.id);
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted, seen);
    assert!(engine.first_operator_key().await.unwrap().is_none());
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn reset_is_for_development_only() {
    let world = World::new().await;
    world.tenant("acme").await;
    assert_eq!(kind(world.operator().reset().await), ErrorKind::Denied);
    assert_eq!(names(&world, None, 10).await, ["acme"]);
}

fn again(text: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text).unwrap()
}

#[tokio::test]
async fn a_repeated_request_makes_one_tenant() {
    let world = World::new().await;
    let operator = world.operator();
    let spec = TenantSpec::new(tenant("acme"));
    let (made, is_repeated) = operator.create_tenant_once(&spec, &again("k")).await.unwrap();
    assert!(!is_repeated);
    // It is shown as it is now.
    let changed = operator.suspend_tenant(&spec.name).await.unwrap();
    let (found, is_repeated) = operator.create_tenant_once(&spec, &again("k")).await.unwrap();
    assert_eq!((found.id, is_repeated), (made.id, true));
    assert_eq!(found, changed);
    // Another key, another body and no key are other requests.
    let other = TenantSpec { weight: 7, ..spec.clone() };
    for refused in [
        operator.create_tenant_once(&spec, &again("l")).await.map(|made| made.0),
        operator.create_tenant_once(&other, &again("k")).await.map(|made| made.0),
        operator.create_tenant(&spec).await,
    ] {
        assert_eq!(kind(refused), ErrorKind::AlreadyExists);
    }
    // So is the same of another operator.
    let (_, key) = operator.create_key(false, "", None).await.unwrap();
    let who = world.who(&key).await;
    let second = world.engine.operator(&who).unwrap();
    let refused = second.create_tenant_once(&spec, &again("k")).await;
    assert_eq!(kind(refused), ErrorKind::AlreadyExists);
    assert_eq!(names(&world, None, 10).await, ["acme"]);
    // With the tenant its key goes.
    operator.delete_tenant(&spec.name).await.unwrap();
    let (anew, is_repeated) = operator.create_tenant_once(&spec, &again("k")).await.unwrap();
    assert!(anew.id != made.id && !is_repeated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_is_repeated_by_many_at_once_makes_one_tenant() {
    let world = World::new().await;
    let spec = TenantSpec::new(tenant("acme"));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (operator, spec) = (world.operator(), spec.clone());
        running.spawn(async move {
            loop {
                match operator.create_tenant_once(&spec, &again("k")).await {
                    // The first one is not done yet.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        tokio::task::yield_now().await;
                    }
                    made => return made.unwrap(),
                }
            }
        });
    }
    let told = running.join_all().await;
    assert_eq!(told.iter().filter(|(_, is_repeated)| !is_repeated).count(), 1);
    assert!(told.iter().all(|(made, _)| made.id == told[0].0.id), "{told:?}");
    assert_eq!(names(&world, None, 100).await, ["acme"]);
    let made = world.operator().audit(0, 1_000).await.unwrap();
    let made = made.iter().filter(|entry| entry.event.action == "tenant.create");
    assert_eq!(made.map(|entry| entry.event.count).sum::<u64>(), 1);
}

#[tokio::test]
async fn new_tenants_have_the_plan_that_is_usual() {
    let world = World::new().await;
    let operator = world.operator();
    let named = |name: &str| PlanName::parse(name).unwrap();
    world.engine.give_new_tenants(named("free"));
    // Nobody gets more because the plan is not there yet.
    let spec = TenantSpec::new(tenant("acme"));
    assert_eq!(kind(operator.create_tenant(&spec).await), ErrorKind::NotFound);
    for name in ["free", "pro"] {
        let plan = TenantPlan::new(named(name), Allowance::default());
        operator.put_plan(&plan).await.unwrap();
    }
    assert_eq!(operator.create_tenant(&spec).await.unwrap().plan, Some(named("free")));
    let said = TenantSpec { plan: Some(named("pro")), ..TenantSpec::new(tenant("globex")) };
    assert_eq!(operator.create_tenant(&said).await.unwrap().plan, Some(named("pro")));
}

const DAY: u64 = 86_400_000;

async fn with_grace() -> (World, String) {
    let world = World::new().await;
    world.engine.keep_deleted(std::time::Duration::from_millis(DAY));
    let key = world.tenant("acme").await;
    (world, key)
}

#[tokio::test]
async fn a_deleted_tenant_answers_like_none_and_is_what_it_was_when_restored() {
    let (world, key) = with_grace().await;
    let operator = world.operator();
    let acme = tenant("acme");
    let before = operator.suspend_tenant(&acme).await.unwrap();
    let deleted = operator.delete_tenant(&acme).await.unwrap().unwrap();
    assert_eq!(deleted.erase_at, Some(Timestamp(START + DAY)));
    let refused = shown(world.engine.authenticate(Some(&key)).await);
    assert_eq!(refused, (ErrorKind::Unauthenticated, "the API key is not valid".to_owned()));
    // Its name is not given to anybody, and nothing is done with it.
    let kinds = [
        kind(operator.create_tenant(&TenantSpec::new(acme.clone())).await),
        kind(operator.resume_tenant(&acme).await),
        kind(operator.start_move(&acme, Isolation::Database.into()).await),
        kind(world.engine.session::<Read>(&world.operator, Select::Named(&acme)).await),
    ];
    let conflict = ErrorKind::Conflict;
    assert_eq!(kinds, [ErrorKind::AlreadyExists, conflict, conflict, conflict]);
    // Deleting it again later does not give it more time.
    world.clock.set(START + 5);
    let again = operator.delete_tenant(&acme).await.unwrap().unwrap();
    assert_eq!(again.erase_at, deleted.erase_at);
    assert_eq!(operator.restore_tenant(&acme).await.unwrap(), before);
    operator.resume_tenant(&acme).await.unwrap();
    world.who(&key).await;
    // What was taken back is not erased.
    world.clock.set(START + 2 * DAY);
    world.engine.erase_due().await.unwrap();
    world.who(&key).await;
}

#[tokio::test]
async fn a_deleted_tenant_is_erased_when_its_time_has_come() {
    let (world, key) = with_grace().await;
    let operator = world.operator();
    let acme = tenant("acme");
    world.tenant("globex").await;
    operator.delete_tenant(&acme).await.unwrap();
    world.clock.set(START + DAY - 1);
    world.engine.erase_due().await.unwrap();
    assert_eq!(names(&world, None, 10).await, ["acme", "globex"]);
    world.clock.set(START + DAY);
    for _ in 0..2 {
        world.engine.erase_due().await.unwrap();
        assert_eq!(names(&world, None, 10).await, ["globex"]);
    }
    assert_eq!(kind(operator.restore_tenant(&acme).await), ErrorKind::NotFound);
    assert_eq!(kind(world.engine.authenticate(Some(&key)).await), ErrorKind::Unauthenticated);
    // Its name is free, and whoever gets it is nobody's heir.
    operator.create_tenant(&TenantSpec::new(acme.clone())).await.unwrap();
    world.engine.erase_due().await.unwrap();
    operator.delete_tenant(&acme).await.unwrap();
    operator.erase_tenant(&acme).await.unwrap();
    assert_eq!(kind(operator.tenant(&acme).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn whoever_wrote_while_a_tenant_was_deleted_is_refused() {
    let (world, key) = with_grace().await;
    let notes = world.collection(&key, "notes").await;
    let one = || vec![write("a").vector(&[1.0])];
    notes.write(WriteMode::Upsert, one()).await.unwrap();
    world.operator().delete_tenant(&tenant("acme")).await.unwrap();
    let refused = notes.write(WriteMode::Upsert, one()).await;
    assert_eq!(kind(refused), ErrorKind::Unauthenticated);
    world.operator().restore_tenant(&tenant("acme")).await.unwrap();
    notes.write(WriteMode::Upsert, one()).await.unwrap();
}
