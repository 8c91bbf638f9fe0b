//! One tenant's key and everything of another tenant.
//!
//! That a handle of one tenant cannot be used with another's session needs no test here: a handle
//! owns its scope, none of its methods takes another handle or a scope, and its fields are
//! private; see the cases in `compile_fail`.

use crate::support::*;
use tenantry_engine::*;

fn entries(log: &[AuditEntry], action: &str) -> Vec<AuditEvent> {
    log.iter().filter(|e| e.event.action == action).map(|e| e.event.clone()).collect()
}

#[tokio::test]
async fn a_foreign_tenant_and_a_missing_one_give_the_same_answer() {
    let world = World::new().await;
    let (a, _b) = (world.tenant("a").await, world.tenant("b").await);
    world.tenant("suspended").await;
    world.operator().suspend_tenant(&tenant("suspended")).await.unwrap();
    world.tenant("erased").await;
    world.operator().delete_tenant(&tenant("erased")).await.unwrap();
    let who = world.who(&a).await;
    let other_role = world.who(&world.key("a", new_key(Role::Read)).await).await;
    for who in [&who, &other_role] {
        for name in ["b", "missing", "suspended", "erased", "(installation)", "A", "a ", "../a"] {
            let name = tenant(name);
            let select = Select::Named(&name);
            let answers = [
                shown(world.engine.session::<Read>(who, select).await),
                shown(world.engine.session::<Admin>(who, select).await),
            ];
            let expected = (ErrorKind::NotFound, format!("Tenant [{name}] does not exist"));
            assert_eq!(answers, [expected.clone(), expected]);
        }
    }
    let own = tenant("a");
    assert!(world.engine.session::<Admin>(&who, Select::Named(&own)).await.is_ok());
}

#[tokio::test]
async fn a_foreign_collection_id_is_like_a_random_one() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let foreign = world.collection(&b, "c").await.info().id;
    let own = world.collection(&a, "c").await.info().id;
    assert_ne!(own, foreign);
    let db = world.database::<Write>(&a).await;
    let random = CollectionId::parse("0f8fad5b-d9cb-469f-a165-70867728950e").unwrap();
    for id in [foreign, random] {
        let expected = (ErrorKind::NotFound, format!("Collection [{id}] does not exist"));
        assert_eq!(shown(db.collection_by_id(id).await), expected);
    }
    assert_eq!(db.collection_by_id(own).await.unwrap().info().id, own);
}

#[tokio::test]
async fn tenants_with_equal_names_inside_share_nothing() {
    let world = World::new().await;
    let keys = [world.tenant("a").await, world.tenant("b").await];
    for (key, x) in keys.iter().zip([1.0, 2.0]) {
        let c = world.collection(key, "c").await;
        let record = write("r").vector(&[x]).text(&x.to_string());
        c.write(WriteMode::Upsert, vec![record]).await.unwrap();
    }
    for (key, x) in keys.iter().zip(["1", "2"]) {
        let c = world.collection(key, "c").await;
        let found = c.query(&QueryRequest { include: ALL, ..query(&[0.0], 9) }).await.unwrap();
        assert_eq!(found[0].len(), 1);
        assert_eq!(found[0][0].record.document.as_deref(), Some(x));
        assert_eq!(c.count(None).await.unwrap(), 1);
    }
    let [a, b] = &keys;
    world.collection(a, "c").await.remove().await.unwrap();
    assert_eq!(all_ids(&world.collection(b, "c").await).await, ["r"]);
    world.operator().delete_tenant(&tenant("a")).await.unwrap();
    let c = world.collection(b, "c").await;
    assert_eq!(find(&c, "r").await.unwrap().document.as_deref(), Some("2"));
    let hits = c.query(&query(&[2.0], 1)).await.unwrap();
    assert_eq!((hits[0][0].record.id.as_str(), hits[0][0].distance), ("r", 0.0));
}

#[tokio::test]
async fn attempts_are_told_to_the_tenant_and_the_operator_and_to_nobody_else() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let who = world.who(&a).await;
    for name in ["b", "missing"] {
        let name = tenant(name);
        let _ = world.engine.session::<Read>(&who, Select::Named(&name)).await;
    }
    let attempt = |target: &str| AuditEvent {
        actor: who.to_string(),
        action: "cross_tenant_attempt".into(),
        target: target.into(),
        outcome: AuditOutcome::Refused(ErrorKind::NotFound),
        count: 1,
    };
    let log = world.session::<Admin>(&a).await.audit(0, 1_000).await.unwrap();
    assert_eq!(entries(&log, "cross_tenant_attempt"), [attempt("b"), attempt("missing")]);
    let log = world.operator().audit(0, 1_000).await.unwrap();
    let id = who.tenant().unwrap();
    let told = ["b", "missing"].map(|name| attempt(&format!("tenant {id} tried {name:?}")));
    assert_eq!(entries(&log, "cross_tenant_attempt"), told);
    let log = world.session::<Admin>(&b).await.audit(0, 1_000).await.unwrap();
    assert!(entries(&log, "cross_tenant_attempt").is_empty());
    let totals = world.engine.totals();
    assert_eq!((totals.cross_tenant_attempts, totals.denied), (2, 2));
}

#[tokio::test]
async fn a_thousand_attempts_are_one_entry() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let who = world.who(&a).await;
    let name = tenant("b");
    for _ in 0..1_000 {
        let _ = world.engine.session::<Read>(&who, Select::Named(&name)).await;
    }
    let admin = world.session::<Admin>(&a).await;
    let log = admin.audit(0, 10_000).await.unwrap();
    let found = entries(&log, "cross_tenant_attempt");
    // The flusher may have come in between, once a second.
    assert!(found.len() <= 3, "{found:?}");
    assert_eq!(found.iter().map(|e| e.count).sum::<u64>(), 1_000);
}

#[tokio::test]
async fn attempts_reach_the_log_within_a_second_without_being_asked_for() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let who = world.who(&a).await;
    let before = world.engine.totals().store.commits;
    let _ = world.engine.session::<Read>(&who, Select::Named(&tenant("b"))).await;
    for _ in 0..50 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        // One commit for the tenant's log, one for the operator's.
        if world.engine.totals().store.commits >= before + 2 {
            return;
        }
    }
    panic!("nothing was written in five seconds");
}

#[tokio::test]
async fn an_operators_entry_is_seen_by_the_tenant() {
    let world = World::new().await;
    let key = world.tenant("a").await;
    let admin = world.session::<Admin>(&key).await;
    let entered = async || entries(&admin.audit(0, 10_000).await.unwrap(), "operator.act_as");
    let count = |events: &[AuditEvent]| events.iter().map(|e| e.count).sum::<u64>();
    // Making the key above was the first entry.
    assert_eq!(count(&entered().await), 1);
    let name = tenant("a");
    for _ in 0..5 {
        world.engine.session::<Read>(&world.operator, Select::Named(&name)).await.unwrap();
    }
    let events = entered().await;
    assert_eq!(count(&events), 6);
    assert!(events.iter().all(|e| e.actor == world.operator.to_string()));
    let reads = events.iter().filter(|e| e.target == "read").map(|e| e.count).sum::<u64>();
    assert_eq!(reads, 5);
    // What an operator does inside is in the log under its name.
    let session = world.engine.session::<Admin>(&world.operator, Select::Named(&name)).await;
    session.unwrap().create_database(&database("d")).await.unwrap();
    let log = admin.audit(0, 10_000).await.unwrap();
    let made = entries(&log, "database.create");
    assert_eq!(made[0].actor, world.operator.to_string());
}

#[tokio::test]
async fn refusals_inside_a_tenant_are_in_its_log() {
    let world = World::new().await;
    let admin = world.tenant("a").await;
    let all = world.collection(&admin, "c").await;
    all.write(WriteMode::Upsert, vec![write("r")]).await.unwrap();
    let reader = world.key("a", new_key(Role::Read)).await;
    let bound = world.key("a", bound_key(Role::Admin, is("owner", text("u1")))).await;
    assert!(world.try_session::<Write>(&reader).await.is_err());
    let who = world.who(&reader).await;
    assert!(world.engine.operator(&who).is_err());
    let session = world.session::<Admin>(&bound).await;
    assert!(session.create_database(&database("d")).await.is_err());
    assert!(session.create_key(new_key(Role::Admin)).await.is_err());
    let c = world.database::<Admin>(&bound).await.collection(&collection("c")).await.unwrap();
    assert!(c.write(WriteMode::Upsert, vec![write("x")]).await.is_err());
    assert!(c.change(&CollectionChange::default()).await.is_err());
    assert!(c.remove().await.is_err());

    let log = world.session::<Admin>(&admin).await.audit(0, 1_000).await.unwrap();
    let refused = AuditOutcome::Refused(ErrorKind::Denied);
    let mut actions: Vec<_> = log
        .iter()
        .filter(|e| e.event.outcome == refused)
        .map(|e| (e.event.action.as_str(), e.event.target.as_str()))
        .collect();
    actions.sort_unstable();
    let expected = [
        ("collection.change", "c"),
        ("collection.delete", "c"),
        ("database.create", "d"),
        ("key.create", ""),
        ("operator", "installation"),
        ("records.write", "c"),
        ("session.write", "a"),
    ];
    assert_eq!(actions, expected);
    assert_eq!(world.engine.totals().denied, 7);
}

#[tokio::test]
async fn writing_refusals_to_the_log_takes_no_version() {
    let world = World::new().await;
    let key = world.tenant("a").await;
    let c = world.collection(&key, "c").await;
    let first = c.write(WriteMode::Upsert, vec![write("r")]).await.unwrap();
    let who = world.who(&key).await;
    let admin = world.session::<Admin>(&key).await;
    for _ in 0..3 {
        let _ = world.engine.session::<Read>(&who, Select::Named(&tenant("b"))).await;
        let log = admin.audit(0, 1_000).await.unwrap();
        assert!(!entries(&log, "cross_tenant_attempt").is_empty());
    }
    let second = c.write(WriteMode::Upsert, vec![write("r")]).await.unwrap();
    assert_eq!(second.version, first.version + 1);
}
