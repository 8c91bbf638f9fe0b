//! The audit log: complete, in order, and verifiable without the server.

use crate::support::*;
use tenantry_engine::*;

/// What a tenant does with the log it downloaded. `None` if every entry follows from the one
/// before, otherwise the position of the first that does not.
fn first_break(log: &[AuditEntry]) -> Option<u64> {
    let mut previous = [0; 32];
    for (expected, entry) in (1..).zip(log) {
        let hash = entry.hash_after(&previous);
        if entry.sequence != expected || entry.hash != hash {
            return Some(expected);
        }
        previous = hash;
    }
    None
}

type Forgery = fn(&mut AuditEntry);

async fn busy_log() -> Vec<AuditEntry> {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let session = world.session::<Admin>(&key).await;
    session.create_database(&database("d")).await.unwrap();
    world.clock.set(START + 5);
    let c = world.collection(&key, "c").await;
    c.write(WriteMode::Add(Existing::Fail), vec![write("a"), write("b")]).await.unwrap();
    c.write(WriteMode::Upsert, vec![write("b"), write("c")]).await.unwrap();
    c.write(WriteMode::Update(Missing::Fail), vec![write("b")]).await.unwrap();
    c.delete(&by_ids(&["a", "b"]), None).await.unwrap();
    let _ = c.write(WriteMode::Add(Existing::Fail), vec![write("c")]).await;
    let who = world.who(&key).await;
    let _ = world.engine.session::<Read>(&who, Select::Named(&tenant("other"))).await;
    let change = CollectionChange { metadata: Some(None), ..CollectionChange::default() };
    c.change(&change).await.unwrap().remove().await.unwrap();
    let (row, _) = session.create_key(new_key(Role::Read)).await.unwrap();
    session.revoke_key(row.id).await.unwrap();
    session.delete_database(&database("d")).await.unwrap();
    let operator = world.operator();
    operator.suspend_tenant(&tenant("acme")).await.unwrap();
    operator.resume_tenant(&tenant("acme")).await.unwrap();
    let log = session.audit(0, 1_000).await.unwrap();
    world.engine.shutdown().await.unwrap();
    log
}

#[tokio::test]
async fn everything_done_is_in_the_log_once_and_in_order() {
    let log = busy_log().await;
    let noted = ["cross_tenant_attempt", "operator.act_as"];
    let done: Vec<(&str, &str, u64)> = log
        .iter()
        .filter(|e| !noted.contains(&e.event.action.as_str()))
        .map(|e| (e.event.action.as_str(), e.event.target.as_str(), e.event.count))
        .collect();
    let (key, revoked) = (done[1].1, done[11].1);
    let expected = [
        ("tenant.create", "acme", 1),
        ("key.create", key, 1),
        ("database.create", "d", 1),
        ("collection.create", "c", 1),
        ("records.add", "c", 2),
        ("records.upsert", "c", 2),
        ("records.update", "c", 1),
        ("records.delete", "c", 2),
        ("collection.change", "c", 1),
        ("collection.delete", "c", 1),
        ("key.create", revoked, 1),
        ("key.revoke", revoked, 1),
        ("database.delete", "d", 1),
        ("tenant.suspend", "acme", 1),
        ("tenant.resume", "acme", 1),
    ];
    assert_eq!(done, expected);
    for action in noted {
        let events: Vec<_> = log.iter().filter(|e| e.event.action == action).collect();
        assert_eq!(events.iter().map(|e| e.event.count).sum::<u64>(), 1, "{action}");
    }
    assert_eq!(log[0].at, Timestamp(START));
    assert!(log.iter().any(|e| e.at == Timestamp(START + 5)));
}

#[tokio::test]
async fn the_chain_verifies_and_any_change_breaks_it() {
    let log = busy_log().await;
    assert_eq!(first_break(&log), None);
    assert!(log.iter().all(|e| e.bound.is_some()), "{log:?}");
    let changes: [(&str, Forgery); 12] = [
        ("time", |e| e.at.0 += 1),
        ("actor", |e| e.event.actor.push('x')),
        ("action", |e| e.event.action.push('x')),
        ("target", |e| e.event.target.push('x')),
        ("outcome", |e| e.event.outcome = AuditOutcome::Refused(ErrorKind::Internal)),
        ("count", |e| e.event.count += 1),
        ("hash", |e| e.hash[31] ^= 1),
        ("version", |e| e.bound = None),
        ("origin", |e| e.bound.as_mut().unwrap().origin[0] ^= 1),
        ("reason", |e| e.bound.as_mut().unwrap().reason = AuditReason::ActAs),
        ("request", |e| e.bound.as_mut().unwrap().request = RequestId::parse("other")),
        ("text moved between fields", |e| {
            let c = e.event.action.pop().unwrap();
            e.event.target.insert(0, c);
        }),
    ];
    for at in [0, log.len() / 2, log.len() - 1] {
        let sequence = log[at].sequence;
        for (case, change) in changes {
            let mut forged = log.clone();
            change(&mut forged[at]);
            assert_eq!(first_break(&forged), Some(sequence), "{case} of entry {sequence}");
        }
    }
    let mut removed = log.clone();
    removed.remove(2);
    assert_eq!(first_break(&removed), Some(3));
    let mut swapped = log.clone();
    swapped.swap(1, 2);
    assert_eq!(first_break(&swapped), Some(2));
    // A forger who also recomputes the changed entry's hash breaks the next one.
    let mut rehashed = log;
    rehashed[3].event.count += 1;
    let before = rehashed[2].hash;
    let forged = &mut rehashed[3];
    forged.hash = forged.hash_after(&before);
    assert_eq!(first_break(&rehashed), Some(5));
}

#[tokio::test]
async fn pages_make_the_whole_log() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let session = world.session::<Admin>(&key).await;
    for n in 0..7 {
        session.create_database(&database(&n.to_string())).await.unwrap();
    }
    let whole = session.audit(0, 10_000).await.unwrap();
    let mut paged: Vec<AuditEntry> = Vec::new();
    loop {
        let after = paged.last().map_or(0, |e| e.sequence);
        let page = session.audit(after, 3).await.unwrap();
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, whole);
    assert_eq!(first_break(&whole), None);
    assert!(session.audit(u64::MAX, 3).await.unwrap().is_empty());
    assert!(session.audit(0, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_operators_log_has_its_own_chain() {
    let world = World::new().await;
    world.tenant("acme").await;
    let operator = world.operator();
    let change = TenantChange { name: Some(tenant("new")), ..TenantChange::default() };
    operator.change_tenant(&tenant("acme"), &change).await.unwrap();
    let (row, _) = operator.create_key(false, "x", None).await.unwrap();
    operator.revoke_key(row.id).await.unwrap();
    operator.delete_tenant(&tenant("new")).await.unwrap();
    let log = operator.audit(0, 1_000).await.unwrap();
    assert_eq!(first_break(&log), None);
    let actions: Vec<_> = log.iter().map(|e| e.event.action.as_str()).collect();
    // A tenant's making has no commit in this log; it comes with what is summed up.
    let (made, committed): (Vec<&str>, Vec<&str>) =
        actions.into_iter().partition(|a| *a == "tenant.create");
    assert_eq!(made.len(), 1);
    let expected = [
        "installation.create",
        "key.create",
        "tenant.rename",
        "key.create",
        "key.revoke",
        "tenant.delete",
    ];
    assert_eq!(committed, expected);
    // The first key was made by whoever holds the data folder.
    assert_eq!(log[1].event.actor, "operator:local");
}

#[tokio::test]
async fn what_is_pending_is_written_at_shutdown() {
    let dir = tempfile::TempDir::new().unwrap();
    let data = dir.path().join("data");
    let world = World::with(|config| config.data_dir.clone_from(&data)).await;
    let key = world.tenant("acme").await;
    let who = world.who(&key).await;
    let _ = world.engine.session::<Read>(&who, Select::Named(&tenant("b"))).await;
    world.engine.shutdown().await.unwrap();
    let mut config = EmbeddedConfig::new(&data);
    config.master_key = MasterKey::Bytes(zeroize::Zeroizing::new([7; 32]));
    let store = Store::open_embedded(config).unwrap();
    let clock = world.clock.clone();
    let engine = Engine::start(EngineConfig { store, authority: Authority::new(), clock });
    let operator = engine.operator(&engine.local_operator().await.unwrap()).unwrap();
    let log = operator.audit(0, 100).await.unwrap();
    assert!(log.iter().any(|e| e.event.action == "cross_tenant_attempt"));
}

#[tokio::test]
async fn the_log_says_why_and_in_which_request() {
    let world = World::new().await;
    let admin = world.tenant("acme").await;
    let number = world.database::<Read>(&admin).await.info().number;
    let test = FieldTest::Eq(Value::Int(1));
    let filter = Filter::Field { key: "user".into(), test };
    let bound = world.key("acme", bound_key(Role::Admin, filter)).await;
    let objects = vec![Allowed::Database(number)];
    let limited = world.key("acme", limited_key(Role::Admin, objects)).await;
    let reader = world.key("acme", new_key(Role::Read)).await;
    let (_, outside) = world.operator().create_key(false, "", None).await.unwrap();
    let engine = &world.engine;
    let acting = async |key: &str, id: &str| world.who(key).await.in_request(RequestId::parse(id));

    let who = acting(&admin, "r-done").await;
    let session = engine.session::<Admin>(&who, Select::Own).await.unwrap();
    session.create_database(&database("d")).await.unwrap();
    let who = acting(&reader, "r-role").await;
    engine.session::<Write>(&who, Select::Own).await.unwrap_err();
    engine.operator(&who).unwrap_err();
    for (key, id) in [(&bound, "r-filter"), (&limited, "r-objects")] {
        let who = acting(key, id).await;
        let session = engine.session::<Admin>(&who, Select::Own).await.unwrap();
        session.create_database(&database("x")).await.unwrap_err();
    }
    let who = acting(&admin, "r-foreign").await;
    engine.session::<Read>(&who, Select::Named(&tenant("other"))).await.unwrap_err();
    let who = acting(&outside, "r-act").await;
    engine.session::<Read>(&who, Select::Named(&tenant("acme"))).await.unwrap_err();

    let log = session.audit(0, 1_000).await.unwrap();
    let said = |id: &str| {
        let of = |bound: &&AuditBinding| bound.request.as_ref().is_some_and(|r| r.as_str() == id);
        let found = log.iter().filter(|e| e.bound.as_ref().is_some_and(|b| of(&b)));
        let mut found: Vec<_> =
            found.map(|e| (e.event.action.as_str(), e.bound.as_ref().unwrap().reason)).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(said("r-done"), [("database.create", AuditReason::None)]);
    let role = [("operator", AuditReason::Role), ("session.write", AuditReason::Role)];
    assert_eq!(said("r-role"), role);
    assert_eq!(said("r-filter"), [("database.create", AuditReason::Filter)]);
    assert_eq!(said("r-objects"), [("database.create", AuditReason::Objects)]);
    assert_eq!(said("r-foreign"), [("cross_tenant_attempt", AuditReason::ForeignTenant)]);
    assert_eq!(said("r-act"), [("session.read", AuditReason::ActAs)]);
    // What was done in no request says none.
    assert!(log.iter().any(|e| e.bound.as_ref().is_some_and(|b| b.request.is_none())));
}

#[tokio::test]
async fn what_the_root_tells_a_log_elsewhere_says_its_request() {
    let world = World::new().await;
    let isolation = Some(Isolation::Database);
    let spec = TenantSpec { isolation, ..TenantSpec::new(tenant("apart")) };
    world.operator().create_tenant(&spec).await.unwrap();
    let who = world.operator.clone().in_request(RequestId::parse("r-1"));
    world.engine.operator(&who).unwrap().suspend_tenant(&tenant("apart")).await.unwrap();
    let session = world.engine.session::<Admin>(&who, Select::Named(&tenant("apart"))).await;
    let log = session.unwrap().audit(0, 1_000).await.unwrap();
    assert_eq!(first_break(&log), None);
    let told = log.iter().find(|e| e.event.action == "tenant.suspend").unwrap();
    let bound = told.bound.as_ref().unwrap();
    assert_eq!(bound.request, RequestId::parse("r-1"));
    assert!(log.iter().all(|e| e.bound.as_ref().is_some_and(|b| b.origin == bound.origin)));
}

#[tokio::test]
async fn the_reads_of_the_last_minute_are_in_the_log_after_a_stop() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    {
        let c = world.collection(&key, "c").await;
        c.count(None).await.unwrap();
        c.get(&GetRequest::default()).await.unwrap();
    }
    let world = world.again().await;
    let log = world.session::<Admin>(&key).await.audit(0, 1_000).await.unwrap();
    let reads: Vec<_> = log.iter().filter(|e| e.event.action == "records.read").collect();
    let [read] = reads.as_slice() else { panic!("{log:?}") };
    let (actor, event) = (world.who(&key).await.to_string(), &read.event);
    assert_eq!((&event.actor, event.target.as_str(), event.count), (&actor, "c", 2));
}
