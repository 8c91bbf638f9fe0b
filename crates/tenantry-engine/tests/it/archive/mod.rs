//! Tenants that leave as archives and come back.

mod hostile;
mod list;
mod slow;
mod tar;

use crate::support::*;
use std::{collections::BTreeMap, fmt::Write as _};
use tenantry_engine::{
    archive::{Checked, Importer, NewTenant, Summary, Terms, inspect},
    *,
};

pub(crate) fn new(name: &str) -> NewTenant {
    NewTenant { name: tenant(name), isolation: None, location: None, keep_limits: false }
}

/// All bytes of an archive.
pub(crate) async fn exported(session: &Session<Admin>) -> Vec<u8> {
    let mut export = session.export().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(part) = export.next().await {
        bytes.extend(part.unwrap());
    }
    bytes
}

impl World {
    pub(crate) fn importer(&self) -> Importer {
        self.engine.importer(&self.operator).unwrap()
    }

    pub(crate) async fn acting_in(&self, name: &str) -> Session<Admin> {
        let name = tenant(name);
        self.engine.session(&self.operator, Select::Named(&name)).await.unwrap()
    }

    /// An archive of a tenant, as an operator exports it.
    pub(crate) async fn archive(&self, name: &str) -> Vec<u8> {
        exported(&self.acting_in(name).await).await
    }

    /// Takes an archive, and checks it.
    pub(crate) async fn checked(
        &self,
        archive: &[u8],
        trusted: Option<PublicKey>,
    ) -> Result<Checked> {
        let bytes = Some(archive.len() as u64);
        let mut intake = self.importer().intake(&tenant("new"), bytes).await?;
        for part in archive.chunks(100_000) {
            intake.push(part).await?;
        }
        intake.check(Terms { trusted, hash: None }).await
    }

    pub(crate) async fn import(&self, archive: &[u8], name: &str) -> Result<TenantInfo> {
        let checked = self.checked(archive, None).await?;
        self.importer().import(checked, &new(name)).await
    }

    /// The names and states of all tenants.
    pub(crate) async fn tenants(&self) -> Vec<(String, TenantState)> {
        let all = self.operator().tenants(None, 1_000).await.unwrap();
        all.into_iter().map(|info| (info.name.to_string(), info.state)).collect()
    }

    pub(crate) fn summary(&self, archive: &[u8]) -> Summary {
        let path = self.dir.path().join("archive.tar.gz");
        std::fs::write(&path, archive).unwrap();
        inspect(&path, 1 << 30).unwrap()
    }
}

/// Values of every kind.
fn values() -> BTreeMap<String, Option<Value>> {
    let texts = ["", "ünï€🦀", "line\nbreak\t\u{0}", "\"quoted\\\"", "\u{2028}"];
    let mut all: Vec<(String, Value)> = texts
        .iter()
        .map(|text| (format!("text {text:?}"), Value::Str((*text).to_owned())))
        .collect();
    for (key, value) in [
        ("true", Value::Bool(true)),
        ("min", Value::Int(i64::MIN)),
        ("max", Value::Int(i64::MAX)),
        ("one", Value::Int(1)),
        ("one point", Value::Float(1.0)),
        ("tiny", Value::Float(5e-324)),
        ("huge", Value::Float(-1.797e308)),
        ("zero", Value::Float(-0.0)),
        ("third", Value::Float(1.0 / 3.0)),
        ("no list", Value::List(vec![])),
        ("ints", Value::List(vec![Value::Int(2), Value::Int(2)])),
        ("floats", Value::List(vec![Value::Float(2.0), Value::Float(0.5)])),
        ("texts", Value::List(vec![Value::Str("a".into()), Value::Str(String::new())])),
        ("bools", Value::List(vec![Value::Bool(false)])),
        ("../key/é \u{7f}", Value::Int(7)),
    ] {
        all.push((key.to_owned(), value));
    }
    all.into_iter().map(|(key, value)| (key, Some(value))).collect()
}

/// A tenant with something of everything.
pub(crate) async fn fill(world: &World, name: &str) {
    let key = world.tenant(name).await;
    let change = TenantChange {
        weight: Some(77),
        limits: LimitsChange { databases: Some(5), ..LimitsChange::default() },
        settings: [("a/b".to_owned(), Some("ü".to_owned()))].into(),
        ..TenantChange::default()
    };
    world.operator().change_tenant(&tenant(name), &change).await.unwrap();
    let session = world.session::<Admin>(&key).await;
    let other = session.create_database(&database("../other ünïcode \"db\"")).await.unwrap();
    session.create_database(&database("gone")).await.unwrap();
    session.create_database(&database("empty")).await.unwrap();
    session.delete_database(&database("gone")).await.unwrap();
    let named = |metric, storage, dimension| VectorSpec { metric, storage, dimension };
    let rich = CollectionSpec {
        metric: Metric::Cosine,
        storage: VectorStorage::Half,
        vectors: [
            (vector_name("image.1"), named(Metric::InnerProduct, VectorStorage::Int8, Some(3))),
            (vector_name("never-used"), named(Metric::L2, VectorStorage::Full, None)),
        ]
        .into(),
        metadata: Some([("k".to_owned(), Value::Float(2.0))].into()),
        attributes: [("chroma".to_owned(), "{\"x\":1}".to_owned())].into(),
        ..spec("/etc/passwd")
    };
    let (rich, _) = other.create_collection(&rich, false).await.unwrap();
    other.create_collection(&spec("empty"), false).await.unwrap();
    let bare = CollectionSpec { metadata: Some(Metadata::new()), ..spec("same name") };
    other.create_collection(&bare, false).await.unwrap();
    let mut all = RecordWrite {
        vector: Some(vec![1.0, -0.0, f32::MIN_POSITIVE, f32::MAX]),
        vectors: [(vector_name("image.1"), vec![0.1, 0.2, 0.3])].into(),
        document: Some("text\n\u{0}🦀".into()),
        uri: Some(String::new()),
        metadata: values(),
        ..RecordWrite::new(id("../../etc/shadow"))
    };
    let bare = RecordWrite::new(id("without anything"));
    rich.write(WriteMode::Upsert, vec![all.clone(), bare]).await.unwrap();
    all.id = id("deleted");
    rich.write(WriteMode::Upsert, vec![all]).await.unwrap();
    let select = Selector { ids: Some(vec![id("deleted")]), filter: None };
    rich.delete(&select, None).await.unwrap();
    // More than one entry of records, by number and by bytes.
    let many = world.collection(&key, "same name").await;
    for from in (0..2_500).step_by(500) {
        let batch = (from..from + 500).map(|n: usize| RecordWrite {
            vector: Some(vec![n as f32; 4]),
            document: n.is_multiple_of(500).then(|| "x".repeat(700_000)),
            ..RecordWrite::new(id(&format!("r{n}")))
        });
        many.write(WriteMode::Upsert, batch.collect()).await.unwrap();
    }
    // A dimension that no record has any more.
    let was = world.collection(&key, "was filled").await;
    let record = RecordWrite { vector: Some(vec![1.0; 5]), ..RecordWrite::new(id("r")) };
    was.write(WriteMode::Upsert, vec![record]).await.unwrap();
    let select = Selector { ids: Some(vec![id("r")]), filter: None };
    was.delete(&select, None).await.unwrap();
}

/// All that callers can see of a tenant, but for versions, ids and times.
pub(crate) async fn content(session: &Session<Admin>) -> String {
    let mut all = format!("{:?} {:?}\n", session.tenant().limits, session.tenant().settings);
    for database in session.databases(Page::default()).await.unwrap() {
        writeln!(all, "{:?}", database.info().name).unwrap();
        for collection in database.collections(Page::default()).await.unwrap() {
            let info = collection.info();
            let spec = (info.metric, info.dimension, info.storage, &info.vectors);
            let rest = (&info.metadata, &info.attributes);
            writeln!(all, "{:?} {spec:?} {rest:?}", info.name).unwrap();
            let include =
                Include { vector: true, vectors: true, document: true, uri: true, metadata: true };
            let request = GetRequest { include, ..GetRequest::default() };
            for mut record in collection.get(&request).await.unwrap() {
                record.version = 0;
                writeln!(all, "{record:?}").unwrap();
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_exported_and_imported_is_the_same_and_is_exported_as_the_same_bytes() {
    let world = World::new().await;
    fill(&world, "a").await;
    let archive = world.archive("a").await;
    let summary = world.summary(&archive);
    let counts = summary.counts;
    assert_eq!((counts.databases, counts.collections, counts.records), (3, 5, 2_502));
    assert!(summary.is_operators);
    assert_eq!(world.archive("a").await, archive);
    let info = world.import(&archive, "b / ../ü").await.unwrap();
    assert_eq!((info.state, info.weight), (TenantState::Active, 77));
    assert_eq!(info.limits.databases, 5);
    let before = content(&world.acting_in("a").await).await;
    assert_eq!(content(&world.acting_in("b / ../ü").await).await, before);
    assert_eq!(world.archive("b / ../ü").await, archive);
    // Another installation takes it, if it is told whose it is.
    let other = World::with(|config| {
        config.master_key = MasterKey::Bytes(zeroize::Zeroizing::new([8; 32]));
    })
    .await;
    let refused = other.checked(&archive, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let key = data_encoding::HEXLOWER.encode(&summary.signed_by);
    assert!(refused.to_string().contains(&key), "{refused}");
    let own = other.importer();
    assert!(other.checked(&archive, Some([1; 32])).await.is_err());
    assert!(other.tenants().await.is_empty());
    let checked = other.checked(&archive, Some(summary.signed_by)).await.unwrap();
    own.import(checked, &new("c")).await.unwrap();
    assert_eq!(content(&other.acting_in("c").await).await, before);
    // The same but for who has signed.
    assert_ne!(other.archive("c").await, archive);
    assert_eq!(tar::entries(&other.archive("c").await)[..6], tar::entries(&archive)[..6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_the_same_and_grows_apart() {
    let world = World::new().await;
    fill(&world, "a").await;
    let info = world.importer().copy(&tenant("a"), &new("b")).await.unwrap();
    assert_eq!((info.state, info.weight), (TenantState::Active, 77));
    let (a, b) = (world.acting_in("a").await, world.acting_in("b").await);
    let before = content(&a).await;
    assert_eq!(content(&b).await, before);
    assert_eq!(exported(&b).await, exported(&a).await);
    let made = b.database(&database("empty")).await.unwrap();
    made.create_collection(&spec("more"), false).await.unwrap();
    assert_eq!(content(&a).await, before);
    // Both logs say so, and neither names the other tenant.
    for (session, name) in [(&a, "a"), (&b, "b")] {
        let log = session.audit(0, 1_000).await.unwrap();
        let found = log.iter().find(|one| one.event.action == "tenant.copy").unwrap();
        assert_eq!(found.event.target, name);
    }
    let log = world.operator().audit(0, 1_000).await.unwrap();
    let found = log.iter().find(|one| one.event.action == "tenant.copy").unwrap();
    assert_eq!(found.event.target, "a → b");
    let taken = world.importer().copy(&tenant("a"), &new("b")).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    let missing = world.importer().copy(&tenant("x"), &new("y")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whole_admin_keys_and_operators_who_may_act_export() {
    let world = World::new().await;
    let key = world.tenant("a").await;
    let c = world.collection(&key, "c").await;
    let session = world.session::<Admin>(&key).await;
    let own = exported(&session).await;
    // Weight and settings are the operator's alone.
    assert!(!world.summary(&own).is_operators);
    assert!(world.summary(&world.archive("a").await).is_operators);
    let limited =
        limited_key(Role::Admin, vec![Allowed::Collection(c.info().database, c.info().number)]);
    let test = FieldTest::Exists(true);
    let bound = bound_key(Role::Admin, Filter::Field { key: "k".into(), test });
    for limited in [limited, bound] {
        let key = world.key("a", limited).await;
        let refused = world.session::<Admin>(&key).await.export().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied);
    }
    for role in [Role::Read, Role::Write] {
        let key = world.key("a", new_key(role)).await;
        let refused = world.try_session::<Admin>(&key).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied);
    }
    let log = session.audit(0, 1_000).await.unwrap();
    let exports: Vec<_> = log.iter().filter(|one| one.event.action == "tenant.export").collect();
    let done = |one: &&&AuditEntry| one.event.outcome == AuditOutcome::Done;
    assert_eq!(exports.iter().filter(done).count(), 2, "{exports:?}");
    assert!(exports.len() > 2);
    // Keys that import nothing.
    let plain = world.operator().create_key(false, "plain", None).await.unwrap().1;
    for key in [&key, &plain] {
        let who = world.who(key).await;
        let refused = world.engine.importer(&who).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied);
    }
    // A suspended tenant is exported and copied by the operator.
    world.operator().suspend_tenant(&tenant("a")).await.unwrap();
    world.archive("a").await;
    world.importer().copy(&tenant("a"), &new("b")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_does_not_export() {
    let world = World::new().await;
    let key = world.tenant("a").await;
    let session = world.session::<Admin>(&key).await;
    let row = session.keys().await.unwrap().remove(0);
    world.acting_in("a").await.revoke_key(row.id).await.unwrap();
    let refused = session.export().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_nobody_waits_for_leaves_nothing() {
    let world = World::new().await;
    fill(&world, "a").await;
    let archive = world.archive("a").await;
    for after in [1, 20, 80, 200, 400] {
        let checked = world.checked(&archive, None).await.unwrap();
        let (importer, to) = (world.importer(), new("b"));
        let importing = importer.import(checked, &to);
        let after = std::time::Duration::from_millis(after);
        match tokio::time::timeout(after, importing).await {
            Ok(Ok(_)) => drop(world.operator().delete_tenant(&tenant("b")).await.unwrap()),
            // What the one before had begun to make came only now.
            Ok(Err(why)) => assert_eq!(why.kind(), ErrorKind::AlreadyExists, "{why:?}"),
            Err(_) => {}
        }
        let begun = std::time::Instant::now();
        while world.tenants().await.len() > 1 {
            assert!(begun.elapsed().as_secs() < 20, "{:?}", world.tenants().await);
            if world.tenants().await.contains(&("b".to_owned(), TenantState::Active)) {
                // The commit that makes it whole was under way, and is completed.
                let _ = world.operator().delete_tenant(&tenant("b")).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    world.import(&archive, "b").await.unwrap();
    assert_eq!(world.archive("b").await, archive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_being_filled_answers_like_none() {
    let world = World::new().await;
    fill(&world, "a").await;
    let archive = world.archive("a").await;
    let checked = world.checked(&archive, None).await.unwrap();
    let importer = world.importer();
    let importing = tokio::spawn(async move { importer.import(checked, &new("b")).await });
    let mut seen = false;
    while !importing.is_finished() {
        let name = tenant("b");
        let found = world.operator().tenant(&name).await;
        let is_provisioning =
            found.as_ref().is_ok_and(|info| info.state == TenantState::Provisioning);
        let session = world.engine.session::<Read>(&world.operator, Select::Named(&name)).await;
        if is_provisioning
            && world.operator().tenant(&name).await.unwrap().state == TenantState::Provisioning
        {
            let missing = tenant("x");
            let none = world.engine.session::<Read>(&world.operator, Select::Named(&missing));
            let (error, none) = (session.unwrap_err(), none.await.unwrap_err());
            assert_eq!(error.kind(), none.kind());
            assert_eq!(error.to_string().replace("[b]", "[x]"), none.to_string());
            seen = true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    importing.await.unwrap().unwrap();
    assert!(seen, "the import was too fast to be looked at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_an_imported_tenant_says_from_which_archive_it_is() {
    let world = World::new().await;
    world.tenant("a").await;
    let archive = world.archive("a").await;
    let hash = blake3::hash(&archive).to_hex();
    assert_eq!(world.summary(&archive).hash, *blake3::hash(&archive).as_bytes());
    world.import(&archive, "b").await.unwrap();
    let log = world.acting_in("b").await.audit(0, 1_000).await.unwrap();
    let found = log.iter().find(|one| one.event.action == "tenant.import").unwrap();
    assert_eq!(found.event.target, format!("archive {hash}"));
    let log = world.operator().audit(0, 1_000).await.unwrap();
    let found = log.iter().find(|one| one.event.action == "tenant.import").unwrap();
    assert_eq!(found.event.target, format!("b: archive {hash}"));
    let taken = world.import(&archive, "b").await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_more_than_its_limits_comes_back() {
    let world = World::new().await;
    fill(&world, "a").await;
    let limits = Limits {
        databases: 1,
        collections: 1,
        records_per_collection: 1,
        keys: 1,
        users: 1,
        vector_dimensions: 1,
    };
    let change = TenantChange { limits: limits.into(), ..TenantChange::default() };
    world.operator().change_tenant(&tenant("a"), &change).await.unwrap();
    let archive = world.archive("a").await;
    let info = world.import(&archive, "b").await.unwrap();
    // Whoever imports a tenant decides how many may enter it.
    assert_eq!(info.limits, Limits { users: Limits::default().users, ..limits });
    assert_eq!(world.archive("b").await, archive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_nobody_reads_holds_no_other_up() {
    let world = World::new().await;
    let key = world.tenant("a").await;
    slow::much(&world, &key).await;
    let (own, operators) = (world.session::<Admin>(&key).await, world.acting_in("a").await);
    // Both are written whole, at the server's pace, and wait for whoever takes them.
    let held = own.export().await.unwrap();
    let _other = operators.export().await.unwrap();
    for session in [&own, &operators] {
        let refused = session.export().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
    }
    fill(&world, "b").await;
    for _ in 0..2 {
        assert!(!world.archive("b").await.is_empty());
    }
    drop(held);
    let begun = std::time::Instant::now();
    while let Err(error) = own.export().await {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(begun.elapsed().as_secs() < 10, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// The right is looked at until the last page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_ends_its_export() {
    let world = World::new().await;
    let key = world.tenant("a").await;
    let c = world.collection(&key, "c").await;
    for batch in 0..40 {
        let record = |n| RecordWrite {
            document: Some(format!("{n} ").repeat(200)),
            ..RecordWrite::new(id(&format!("r{n}")))
        };
        let records = (batch * 250..(batch + 1) * 250).map(record).collect();
        c.write(WriteMode::Upsert, records).await.unwrap();
    }
    let session = world.session::<Admin>(&key).await;
    let mut export = session.export().await.unwrap();
    let keys = world.acting_in("a").await;
    for row in keys.keys().await.unwrap() {
        keys.revoke_key(row.id).await.unwrap();
    }
    let mut outcome = Ok(());
    while let Some(part) = export.next().await {
        outcome = outcome.and(part.map(drop));
    }
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_tenant_has_the_plan_of_new_ones_and_a_copy_that_of_the_other() {
    let world = World::new().await;
    let key = world.tenant("a").await;
    world.session::<Admin>(&key).await.create_database(&database("other")).await.unwrap();
    let archive = world.archive("a").await;
    let plan = PlanName::parse("small").unwrap();
    world.engine.give_new_tenants(plan.clone());
    // Nobody is made with more than was meant.
    assert_eq!(world.import(&archive, "b").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.tenants().await, [("a".to_owned(), TenantState::Active)]);
    let limits = Limits { databases: 1, ..Limits::default() };
    let allowance = Allowance { limits, ..Allowance::default() };
    world.operator().put_plan(&TenantPlan::new(plan.clone(), allowance)).await.unwrap();
    // It may have more than that by now, and no more.
    let made = world.import(&archive, "b").await.unwrap();
    assert_eq!(made.plan, Some(plan));
    let more = world.acting_in("b").await.create_database(&database("more")).await;
    assert_eq!(more.unwrap_err().kind(), ErrorKind::LimitExceeded);
    let copy = world.importer().copy(&tenant("a"), &new("c")).await.unwrap();
    assert_eq!(copy.plan, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_gives_no_more_than_new_tenants_have_unless_its_limits_are_kept() {
    let world = World::new().await;
    world.tenant("a").await;
    let own = LimitsChange {
        databases: Some(5_000),
        collections: Some(7),
        keys: Some(3),
        ..LimitsChange::default()
    };
    let change = TenantChange { limits: own, weight: Some(500), ..TenantChange::default() };
    world.operator().change_tenant(&tenant("a"), &change).await.unwrap();
    let (archive, usual) = (world.archive("a").await, Limits::default());
    let made = world.import(&archive, "b").await.unwrap();
    assert_eq!((made.limits, made.weight), (Limits { collections: 7, keys: 3, ..usual }, 100));

    let plan = PlanName::parse("small").unwrap();
    let limits = Limits { databases: 2, collections: 5, keys: 9, ..usual };
    let allowance = Allowance { limits, weight: 300, ..Allowance::default() };
    world.operator().put_plan(&TenantPlan::new(plan.clone(), allowance)).await.unwrap();
    world.engine.give_new_tenants(plan);
    world.import(&archive, "c").await.unwrap();
    let has = world.operator().allowance(&tenant("c")).await.unwrap();
    assert_eq!((has.limits, has.weight), (Limits { keys: 3, ..limits }, 300));

    let kept = NewTenant { keep_limits: true, ..new("d") };
    let checked = world.checked(&archive, None).await.unwrap();
    world.importer().import(checked, &kept).await.unwrap();
    let has = world.operator().allowance(&tenant("d")).await.unwrap();
    assert_eq!((has.limits, has.weight), (own.over(usual), 500));
}

/// The plan `p`, which has its tenants live so alone.
async fn put_placed(world: &World, isolation: Isolation) -> PlanName {
    let name = PlanName::parse("p").unwrap();
    let places = Places::new(Some(&[isolation]), None).unwrap();
    let plan = TenantPlan { places, ..TenantPlan::new(name.clone(), Allowance::default()) };
    world.operator().put_plan(&plan).await.unwrap();
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_or_copied_tenant_lives_where_its_plan_has_tenants_live() {
    let world = World::new().await;
    world.tenant("a").await;
    let archive = world.archive("a").await;
    let plan = put_placed(&world, Isolation::Shared).await;
    let change = TenantChange { plan: Some(Some(plan)), ..TenantChange::default() };
    world.operator().change_tenant(&tenant("a"), &change).await.unwrap();
    let plan = put_placed(&world, Isolation::Schema).await;
    world.engine.give_new_tenants(plan.clone());
    let says = "the plan p does not allow the isolation shared; it allows schema: choose another \
                plan, or change `isolations` of this one";
    let imported = world.import(&archive, "b").await.unwrap_err();
    // The other lives as the plan does not have it any more, and it stays; a copy does not.
    let copied = world.importer().copy(&tenant("a"), &new("b")).await.unwrap_err();
    for why in [imported, copied] {
        assert_eq!((why.kind(), why.public_message()), (ErrorKind::Conflict, says));
    }
    assert_eq!(world.tenants().await, [("a".to_owned(), TenantState::Active)]);
    let apart = NewTenant { isolation: Some(Isolation::Schema), ..new("b") };
    let copy = world.importer().copy(&tenant("a"), &apart).await.unwrap();
    assert_eq!((copy.isolation, copy.plan), (Isolation::Schema, Some(plan)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_that_are_imported_or_copied_may_be_larger_than_a_plan_allows_now() {
    let world = World::new().await;
    let key = world.tenant("a").await;
    let c = world.collection(&key, "c").await;
    c.write(WriteMode::Upsert, vec![write("r").vector(&[1.0, 2.0, 3.0])]).await.unwrap();
    let archive = world.archive("a").await;
    let plan = PlanName::parse("small").unwrap();
    let limits = Limits { vector_dimensions: 2, ..Limits::default() };
    let allowance = Allowance { limits, ..Allowance::default() };
    world.operator().put_plan(&TenantPlan::new(plan.clone(), allowance)).await.unwrap();
    world.engine.give_new_tenants(plan.clone());
    let change = TenantChange { plan: Some(Some(plan)), ..TenantChange::default() };
    world.operator().change_tenant(&tenant("a"), &change).await.unwrap();
    world.import(&archive, "b").await.unwrap();
    world.importer().copy(&tenant("a"), &new("d")).await.unwrap();
    for name in ["a", "b", "d"] {
        let session = world.acting_in(name).await;
        let database = session.database(&database("default_database")).await.unwrap();
        let old = database.collection(&CollectionName::parse("c").unwrap()).await.unwrap();
        let more = vec![write("s").vector(&[1.0, 2.0, 4.0])];
        old.write(WriteMode::Upsert, more.clone()).await.unwrap();
        let spec = CollectionSpec::new(CollectionName::parse("new").unwrap());
        let (new, _) = database.create_collection(&spec, false).await.unwrap();
        let written = new.write(WriteMode::Upsert, more).await;
        assert_eq!(kind(written), ErrorKind::LimitExceeded, "{name}");
    }
}
