//! Several nodes of one installation.

use super::{Site, proxy::Loses};
use crate::stand::{Stand, verify_chain};
use std::time::{Duration, Instant};
use tenantry_auth::{
    Admin, Authority, Credential, KeyDirectory as _, OperatorScope, Principal, Restriction, Role,
    Scope, TenantId,
};
use tenantry_store::{
    CollectionRef, MasterKey, NewKey, Store, TenantChange, Wanted, postgres::migrate,
};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, Error, ErrorKind, Isolation, Page, QueryRequest,
    RecordId, RecordWrite, Result, Selector, TenantName, TenantSpec, TenantState, Timestamp,
    WriteMode,
};
use zeroize::Zeroizing;

/// What another node may go on with for a while.
const SOON: Duration = Duration::from_secs(1);

/// A node with an operator.
pub(super) struct Node {
    pub(super) store: Store,
    authority: Authority,
    principal: Principal,
    pub(super) operator: OperatorScope,
}

impl Node {
    pub(super) async fn new(store: Store) -> Self {
        let authority = Authority::development();
        let who = authority.authenticate(Credential::None, &store, Timestamp(0)).await;
        let principal = who.expect("operator");
        let operator = authority.authorize_operator(&principal).expect("operator");
        Self { store, authority, principal, operator }
    }

    /// The same node for an operator with a key, which is looked up again after each revocation.
    pub(super) async fn with_key(self) -> Self {
        let made = self.store.create_operator_key(&self.operator, true, "", None).await;
        let (_, key) = made.expect("a key");
        let authority = Authority::new();
        let who = authority.authenticate(Credential::Key(key), &self.store, Timestamp(0)).await;
        let principal = who.expect("operator");
        let operator = authority.authorize_operator(&principal).expect("operator");
        Self { authority, principal, operator, ..self }
    }

    pub(super) fn scope(&self, tenant: TenantId) -> Scope<Admin> {
        self.authority.authorize(&self.principal, tenant, "tenant").expect("scope")
    }

    pub(super) async fn tenant(&self, name: &str) -> Result<Scope<Admin>> {
        let spec = TenantSpec::new(tenant(name));
        Ok(self.scope(self.store.create_tenant(&self.operator, &spec).await?.id))
    }

    pub(super) async fn tenant_in(&self, name: &str, isolation: Isolation) -> Result<Scope<Admin>> {
        let spec = TenantSpec { isolation: Some(isolation), ..TenantSpec::new(tenant(name)) };
        Ok(self.scope(self.store.create_tenant(&self.operator, &spec).await?.id))
    }

    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        self.store.delete_tenant(&self.operator, &tenant(name)).await.map(drop)
    }

    pub(super) async fn retire(&self, name: &str, until: u64) -> Result<()> {
        let until = Timestamp(until);
        self.store.retire_tenant(&self.operator, &tenant(name), until).await.map(drop)
    }

    pub(super) async fn suspend(&self, name: &str) -> Result<()> {
        let change =
            TenantChange { state: Some(TenantState::Suspended), ..TenantChange::default() };
        self.store.change_tenant(&self.operator, &tenant(name), &change).await.map(drop)
    }

    pub(super) async fn collection(
        &self,
        scope: &Scope<Admin>,
        name: &str,
    ) -> Result<CollectionRef> {
        let database = self.store.database(scope, &DatabaseName::default_database()).await?;
        self.store.collection(scope, &database, &collection(name)).await
    }

    pub(super) async fn make(&self, scope: &Scope<Admin>, name: &str) -> Result<CollectionRef> {
        let database = self.store.database(scope, &DatabaseName::default_database()).await?;
        let spec = CollectionSpec::new(collection(name));
        Ok(self.store.create_collection(scope, &database, &spec, false).await?.0)
    }
}

fn tenant(name: &str) -> TenantName {
    TenantName::parse(name).expect("a name")
}

fn collection(name: &str) -> CollectionName {
    CollectionName::parse(name).expect("a name")
}

pub(super) fn any_key() -> NewKey {
    NewKey {
        role: Role::Admin,
        restriction: Restriction::default(),
        label: String::new(),
        expires_at: None,
    }
}

fn kind<T>(outcome: Result<T>) -> Option<ErrorKind> {
    outcome.err().map(|error: Error| error.kind())
}

/// Two nodes of one installation.
async fn two(site: &Site) -> (Node, Node) {
    let (one, two) = (site.open().await, site.open().await);
    (Node::new(one).await, Node::new(two).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_refused_everywhere() {
    let site = Site::new().await;
    let (one, two) = two(&site).await;
    let scope = one.tenant("t").await.unwrap();
    let (row, key) = one.store.create_key(&scope, any_key()).await.unwrap();
    // It is good on the other node at once, and then in its memory.
    let keys = Authority::new();
    let who = async |node: &Node| {
        keys.authenticate(Credential::Key(key.clone()), &node.store, Timestamp(0)).await
    };
    let principal = who(&two).await.unwrap();
    let acts = keys.authorize::<Admin>(&principal, scope.tenant(), "t").unwrap();
    assert_eq!(two.store.databases(&acts, Page::default()).await.unwrap().len(), 1);
    one.store.revoke_key(&scope, row.id).await.unwrap();
    assert_eq!(kind(who(&one).await), Some(ErrorKind::Unauthenticated));
    let begun = Instant::now();
    while who(&two).await.is_ok() {
        assert!(begun.elapsed() < SOON, "the key is still good");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = two.store.databases(&acts, Page::default()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_tenant_is_refused_everywhere() {
    for isolation in Isolation::ALL {
        Box::pin(a_tenant_is_suspended(isolation)).await;
    }
}

async fn a_tenant_is_suspended(isolation: Isolation) {
    let site = Site::new().await;
    let (one, two) = (site.open_apart(isolation).await, site.open_apart(isolation).await);
    let (one, two) = (Node::new(one).await, Node::new(two).await);
    let scope = one.tenant("t").await.unwrap();
    let (_, key) = one.store.create_key(&scope, any_key()).await.unwrap();
    let keys = Authority::new();
    let acting = async |node: &Node| {
        let who = keys.authenticate(Credential::Key(key.clone()), &node.store, Timestamp(0)).await;
        keys.authorize::<Admin>(&who.unwrap(), scope.tenant(), "t").unwrap()
    };
    let (here, there) = (acting(&one).await, acting(&two).await);
    two.store.databases(&there, Page::default()).await.unwrap();
    let name = DatabaseName::parse("d").unwrap();
    one.suspend("t").await.unwrap();
    let refused = one.store.databases(&here, Page::default()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Suspended));
    // A change looks at the stored row if it is in the same database, so it is refused at once.
    if isolation != Isolation::Database {
        let refused = two.store.create_database(&there, &name).await;
        assert_eq!(kind(refused), Some(ErrorKind::Suspended));
    }
    let begun = Instant::now();
    while two.store.databases(&there, Page::default()).await.is_ok() {
        assert!(begun.elapsed() < SOON, "the tenant is still served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = two.store.databases(&there, Page::default()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Suspended));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_tenant_is_refused_everywhere_and_any_node_restores_it() {
    for isolation in Isolation::ALL {
        Box::pin(a_tenant_is_deleted_for_a_while(isolation)).await;
    }
}

async fn a_tenant_is_deleted_for_a_while(isolation: Isolation) {
    let site = Site::new().await;
    let (one, two) = (site.open_apart(isolation).await, site.open_apart(isolation).await);
    let (one, two) = (Node::new(one).await, Node::new(two).await);
    let scope = one.tenant("t").await.unwrap();
    let (_, key) = one.store.create_key(&scope, any_key()).await.unwrap();
    let keys = Authority::new();
    let who = keys.authenticate(Credential::Key(key), &two.store, Timestamp(0)).await.unwrap();
    let there = keys.authorize::<Admin>(&who, scope.tenant(), "t").unwrap();
    two.store.databases(&there, Page::default()).await.unwrap();
    one.retire("t", u64::MAX).await.unwrap();
    // As with one that is suspended.
    let name = DatabaseName::parse("d").unwrap();
    if isolation != Isolation::Database {
        let refused = two.store.create_database(&there, &name).await;
        assert_eq!(kind(refused), Some(ErrorKind::Unauthenticated));
    }
    let begun = Instant::now();
    while two.store.databases(&there, Page::default()).await.is_ok() {
        assert!(begun.elapsed() < SOON, "the tenant is still served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = two.store.databases(&there, Page::default()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Unauthenticated));
    two.store.restore_tenant(&two.operator, &tenant("t")).await.unwrap();
    two.store.create_database(&there, &name).await.unwrap();
    // Of one that erases and one that restores, one finds what the other has done.
    let system = keys.system("tests");
    for n in 0..6 {
        let scope = one.tenant(&format!("t{n}")).await.unwrap();
        let name = tenant(&format!("t{n}"));
        two.store.find_tenant(&name).await.unwrap().unwrap();
        one.retire(name.as_str(), 1).await.unwrap();
        let (erases, restores) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let (erased, again, restored) = tokio::join!(
            erases.store.erase_due(&system),
            restores.store.erase_due(&system),
            restores.store.restore_tenant(&restores.operator, &name),
        );
        erased.and(again).unwrap();
        let is_restored = match restored {
            Ok(info) => info.erase_at.is_none(),
            Err(why) => {
                assert_eq!(why.kind(), ErrorKind::NotFound);
                false
            }
        };
        for node in [&one, &two] {
            let found = node.store.find_tenant(&name).await.unwrap();
            assert_eq!(found.map(|info| info.id), is_restored.then_some(scope.tenant()));
        }
    }
    one.store.close();
    two.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_wrote_another_reads() {
    let site = Site::new().await;
    let (one, two) = two(&site).await;
    let here = one.tenant("t").await.unwrap();
    let there = two.scope(two.store.find_tenant(&tenant("t")).await.unwrap().unwrap().id);
    for round in 0..5 {
        let name = format!("c{round}");
        assert_eq!(kind(two.collection(&there, &name).await), Some(ErrorKind::NotFound));
        let made = one.make(&here, &name).await.unwrap();
        let found = two.collection(&there, &name).await.unwrap();
        let again = two.collection(&there, &name).await.unwrap();
        assert_eq!([found.info().id, again.info().id], [made.info().id; 2]);
        // It is in the memory of both; either may delete it.
        let (deletes, other) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let scope = if round % 2 == 0 { &here } else { &there };
        deletes.store.delete_collection(scope, &found).await.unwrap();
        // Whoever answers with what is looked up asks first; others see it within a second.
        other.store.confirm(&here).await.unwrap();
        assert_eq!(kind(other.collection(&here, &name).await), Some(ErrorKind::NotFound));
        let database = DatabaseName::parse(format!("d{round}")).unwrap();
        two.store.create_database(&there, &database).await.unwrap();
        one.store.database(&here, &database).await.unwrap();
        one.store.delete_database(&here, &database).await.unwrap();
        two.store.confirm(&there).await.unwrap();
        let gone = two.store.database(&there, &database).await;
        assert_eq!(kind(gone), Some(ErrorKind::NotFound));
    }
    // Without asking.
    let made = one.make(&here, "c").await.unwrap();
    two.collection(&there, "c").await.unwrap();
    one.store.delete_collection(&here, &made).await.unwrap();
    let begun = Instant::now();
    while two.collection(&there, "c").await.is_ok() {
        assert!(begun.elapsed() < SOON, "a deleted collection is still found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(kind(two.collection(&there, "c").await), Some(ErrorKind::NotFound));
    // A tenant's old name leads to whoever has it now.
    let change = TenantChange { name: Some(tenant("u")), ..TenantChange::default() };
    one.store.change_tenant(&one.operator, &tenant("t"), &change).await.unwrap();
    let again = one.tenant("t").await.unwrap();
    let found = two.store.find_tenant(&tenant("t")).await.unwrap().unwrap();
    assert_eq!(found.id, again.tenant());
    let found = two.store.find_tenant(&tenant("u")).await.unwrap().unwrap();
    assert_eq!((found.id, found.name.as_str()), (here.tenant(), "u"));
    one.store.delete_tenant(&one.operator, &tenant("u")).await.unwrap();
    assert_eq!(two.store.find_tenant(&tenant("u")).await.unwrap(), None);
    let gone = two.make(&there, "late").await;
    assert_eq!(kind(gone), Some(ErrorKind::NotFound));
}

/// What another node makes anew under a known name is what is meant, also after a quiet time, when
/// nobody compares what is cached before the records are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_those_of_what_has_the_name_now() {
    let site = Site::new().await;
    let (one, two) = two(&site).await;
    let here = one.tenant("t").await.unwrap();
    let there = two.scope(two.store.find_tenant(&tenant("t")).await.unwrap().unwrap().id);
    let (place, name) = (DatabaseName::parse("place").unwrap(), collection("c"));
    let find = async |node: &Node, scope: &Scope<Admin>| {
        node.store.records_of(scope, &place, Wanted::Name(&name)).await
    };
    // Vectors of another length each time.
    let fill = async |length: usize| {
        let database = one.store.database(&here, &place).await.unwrap();
        let spec = CollectionSpec::new(name.clone());
        let made = one.store.create_collection(&here, &database, &spec, false).await.unwrap().0;
        let record = RecordWrite {
            vector: Some(vec![1.0; length]),
            ..RecordWrite::new(RecordId::parse(format!("{length}")).unwrap())
        };
        one.store.write(&here, &made, WriteMode::Upsert, vec![record]).await.unwrap();
        made
    };
    let asked = async |length: usize| {
        let found = find(&two, &there).await.unwrap();
        let request =
            QueryRequest { vectors: vec![vec![1.0; length]], k: 3, ..QueryRequest::default() };
        let hits = two.store.query(&there, &found, &request).await.unwrap().value.hits;
        let ids: Vec<_> = hits[0].iter().map(|hit| hit.record.id.as_str().to_owned()).collect();
        assert_eq!(ids, [length.to_string()]);
        found
    };
    let quiet = Duration::from_secs(1);
    one.store.create_database(&here, &place).await.unwrap();
    let first = fill(2).await;
    let known = asked(2).await;
    let by_id = Wanted::Id(first.info().id);
    two.store.records_of(&there, &place, by_id).await.unwrap();
    tokio::time::sleep(quiet).await;
    one.store.delete_collection(&here, &first).await.unwrap();
    let gone = two.store.records_of(&there, &place, by_id).await.unwrap();
    let all = Selector::default();
    assert_eq!(kind(two.store.count(&there, &gone, &all).await), Some(ErrorKind::NotFound));
    assert_eq!(kind(two.store.count(&there, &known, &all).await), Some(ErrorKind::NotFound));
    fill(3).await;
    let again = two.store.look_again(&there, &known).await.unwrap().unwrap();
    assert_eq!(again.info().vector(None).unwrap().spec.dimension, Some(3));
    asked(3).await;
    tokio::time::sleep(quiet).await;
    one.store.delete_database(&here, &place).await.unwrap();
    assert_eq!(kind(two.store.count(&there, &again, &all).await), Some(ErrorKind::NotFound));
    one.store.create_database(&here, &place).await.unwrap();
    fill(4).await;
    asked(4).await;
    // Of a database that is known, a collection that is not.
    tokio::time::sleep(quiet).await;
    one.store.delete_database(&here, &place).await.unwrap();
    one.store.create_database(&here, &place).await.unwrap();
    let other = collection("other");
    let database = one.store.database(&here, &place).await.unwrap();
    let spec = CollectionSpec::new(other.clone());
    let made = one.store.create_collection(&here, &database, &spec, false).await.unwrap().0;
    let found = two.store.records_of(&there, &place, Wanted::Name(&other)).await.unwrap();
    assert_eq!(found.info().id, made.info().id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_make_things_at_once_give_no_number_twice() {
    let site = Site::new().await;
    let (one, two) = two(&site).await;
    let make = async |node: &Node, from: &str| {
        let mut ids = Vec::new();
        for number in 0..12 {
            ids.push(node.tenant(&format!("{from}{number}")).await.unwrap().tenant().get());
        }
        ids
    };
    let (mut ids, more) = tokio::join!(make(&one, "a"), make(&two, "b"));
    ids.extend(more);
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id was given twice");
    assert_eq!(one.store.tenants(&one.operator, None, 100).await.unwrap().len(), all);

    // One name, many makers on both nodes.
    let same = async |node: &Node| node.tenant("same").await.is_ok();
    let (a, b, c, d) = tokio::join!(same(&one), same(&two), same(&one), same(&two));
    assert_eq!([a, b, c, d].into_iter().filter(|made| *made).count(), 1);

    // A limit holds although both nodes count.
    let mut spec = TenantSpec::new(tenant("limited"));
    spec.limits.collections = 10;
    let id = one.store.create_tenant(&one.operator, &spec).await.unwrap().id;
    let fill = async |node: &Node, from: &str| {
        let scope = node.scope(id);
        let mut made = Vec::new();
        for number in 0..8 {
            match node.make(&scope, &format!("{from}{number}")).await {
                Ok(collection) => made.push(collection.info().id.to_string()),
                Err(why) => assert_eq!(why.kind(), ErrorKind::LimitExceeded, "{why}"),
            }
        }
        made
    };
    let (mut made, more) = tokio::join!(fill(&one, "a"), fill(&two, "b"));
    made.extend(more);
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), 10);
    let audit = one.store.audit(&one.scope(id), 0, 100).await.unwrap();
    assert_eq!(audit.len(), 11);
    crate::stand::verify_chain(&audit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_nodes_that_start_at_once_one_makes_the_installation() {
    let site = Site::new().await;
    let open = async || Store::open_postgres(site.config()).await;
    let (a, b, c) = tokio::join!(open(), open(), open());
    let (a, b, c) = (Node::new(a.unwrap()).await, Node::new(b.unwrap()).await, c.unwrap());
    a.tenant("t").await.unwrap();
    assert_eq!(kind(b.tenant("t").await), Some(ErrorKind::AlreadyExists));
    c.close();
    let log = a.store.operator_audit(&a.operator, 0, 10).await.unwrap();
    assert_eq!(log.iter().filter(|e| e.event.action == "installation.create").count(), 1);
    // Another key, or none, opens nothing and leaves no file behind.
    let mut config = site.config();
    config.master_key = MasterKey::Bytes(Zeroizing::new([8; 32]));
    let refused = Store::open_postgres(config).await.unwrap_err();
    assert!(refused.to_string().contains("another master key"), "{refused}");
    let mut config = site.config();
    config.master_key = MasterKey::File;
    let refused = Store::open_postgres(config.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("is missing"), "{refused}");
    assert!(!config.key_folder.join("master.key").exists());
}

/// Before this node hears of the deletion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_of_a_deleted_tenant_is_not_taken_for_a_broken_one() {
    let site = Site::new().await;
    let node = Node::new(site.open_apart(Isolation::Schema).await).await;
    let name = DatabaseName::default_database();
    for number in 0..5 {
        let tenant = format!("t{number}");
        let scope = node.tenant_in(&tenant, Isolation::Schema).await.unwrap();
        let made = node.make(&scope, "c").await.unwrap();
        let database = node.store.database(&scope, &name).await.unwrap();
        // As another node would, which takes its time to say it.
        let place = "DO $$ DECLARE place text; BEGIN FOR place IN SELECT nspname FROM pg_namespace \
             WHERE nspname ~ '^ten_' LOOP EXECUTE format('DROP SCHEMA %I CASCADE', place); \
             END LOOP; END $$";
        site.run(place).await;
        let page = Page::default();
        if number == 4 {
            let broken = kind(node.store.databases(&scope, page).await);
            assert_eq!(broken, Some(ErrorKind::Corrupt), "it is not deleted");
        }
        site.run(&format!("DELETE FROM tenantry.catalog WHERE tenant = {}", scope.tenant())).await;
        let why = match number {
            0 => kind(node.store.databases(&scope, page).await),
            1 => kind(node.store.collections(&scope, &database, page).await),
            2 => kind(node.store.count_collections(&scope, &database).await),
            _ => kind(node.store.count(&scope, &made, &Selector::default()).await),
        };
        assert_eq!(why, Some(ErrorKind::NotFound), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_is_removed() {
    let site = Site::new().await;
    let (one, two) = two(&site).await;
    let scope = one.tenant("t").await.unwrap();
    one.store.create_key(&scope, any_key()).await.unwrap();
    let id = scope.tenant();
    let kept = one.tenant("kept").await.unwrap().tenant();
    one.make(&scope, "c").await.unwrap();
    let made = one.make(&scope, "d").await.unwrap();
    // More than goes in one piece, of both collections and of a neighbour.
    for (tenant, collection) in [(id, 1), (id, 2), (kept, 1), (kept, 2)] {
        let rows = format!(
            "WITH made AS (INSERT INTO tenantry.records (tenant, collection, ordinal, key, id, body) \
             SELECT {tenant}, {collection}, n, decode(lpad(n::text, 32, '0'), 'hex'), '', '' \
             FROM generate_series(1, 2500) AS n RETURNING 1), \
             more AS (INSERT INTO tenantry.vectors (tenant, collection, field, ordinal, v) \
             SELECT {tenant}, {collection}, 0, n, '[1]'::tenantry_ext.vector \
             FROM generate_series(1, 2500) AS n RETURNING 1) \
             SELECT (SELECT count(*) FROM made) + (SELECT count(*) FROM more)"
        );
        assert_eq!(site.ask(&rows).await, 5_000);
    }
    let rows = async |of: &str| {
        let count = format!(
            "SELECT (SELECT count(*) FROM tenantry.records WHERE {of}) \
             + (SELECT count(*) FROM tenantry.vectors WHERE {of})"
        );
        site.ask(&count).await
    };
    let none_left = async |sql: &str| {
        let begun = Instant::now();
        while site.ask(sql).await > 0 {
            assert!(begun.elapsed() < SOON * 20, "what was deleted is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    one.store.delete_collection(&scope, &made).await.unwrap();
    none_left("SELECT count(*) FROM tenantry.catalog WHERE tenant = 0 AND family = 3").await;
    assert_eq!(rows(&format!("tenant = {id} AND collection = 2")).await, 0);
    assert_eq!(rows(&format!("tenant = {id} AND collection = 1")).await, 5_000);
    let before = site.ask("SELECT epoch FROM tenantry.installation").await;
    two.store.delete_tenant(&two.operator, &tenant("t")).await.unwrap();
    let slots = "SELECT count(*) FROM tenantry.catalog WHERE tenant = 0 AND family = 8";
    assert_eq!(site.ask(slots).await, 2, "a data key outlived its tenant");
    assert_eq!(site.ask("SELECT epoch FROM tenantry.installation").await, before + 1);
    let left = format!(
        "SELECT count(*) FROM tenantry.catalog \
         WHERE tenant = {id} OR (tenant = 0 AND family IN (2, 3))"
    );
    none_left(&left).await;
    assert_eq!(rows(&format!("tenant = {id}")).await, 0);
    assert_eq!(rows(&format!("tenant = {kept}")).await, 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_out() {
    let site = Site::new().await;
    let (proxy, config) = site.through_proxy().await;
    let node = Node::new(Store::open_postgres(config).await.unwrap()).await;
    let scope = node.tenant("t").await.unwrap();
    node.make(&scope, "before").await.unwrap();

    proxy.lose(Loses::Answer);
    node.make(&scope, "answer").await.unwrap();
    assert!(proxy.has_lost());
    node.collection(&scope, "answer").await.unwrap();

    proxy.lose(Loses::Commit);
    let refused = node.make(&scope, "commit").await;
    assert!(proxy.has_lost());
    assert_eq!(kind(refused), Some(ErrorKind::Unavailable));
    assert_eq!(kind(node.collection(&scope, "commit").await), Some(ErrorKind::NotFound));
    node.make(&scope, "commit").await.unwrap();

    // Making and deleting tenants too.
    proxy.lose(Loses::Answer);
    node.tenant("u").await.unwrap();
    assert!(proxy.has_lost());
    proxy.lose(Loses::Answer);
    node.store.delete_tenant(&node.operator, &tenant("u")).await.unwrap();
    assert!(proxy.has_lost());
    node.tenant("u").await.unwrap();
    proxy.lose(Loses::Nothing);
    let audit = node.store.audit(&scope, 0, 100).await.unwrap();
    crate::stand::verify_chain(&audit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_nothing_is_answered_from_memory() {
    let site = Site::new().await;
    let (proxy, config) = site.through_proxy().await;
    let node = Node::new(Store::open_postgres(config).await.unwrap()).await;
    let scope = node.tenant("t").await.unwrap();
    let (row, _) = node.store.create_key(&scope, any_key()).await.unwrap();
    assert!(node.store.find_key(row.id).await.unwrap().is_some());
    drop(proxy);
    tokio::time::sleep(SOON).await;
    assert_eq!(kind(node.store.find_key(row.id).await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(node.make(&scope, "c").await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(node.tenant("u").await), Some(ErrorKind::Unavailable));
    assert!(matches!(node.store.health(), tenantry_store::Health::Unavailable(_)));
}

/// Which entries of a log are of version 2; the log is unbroken.
async fn versions(node: &Stand, scope: &Scope<Admin>) -> Vec<bool> {
    let log = node.store.audit(scope, 0, usize::MAX).await.expect("log");
    verify_chain(&log);
    log.iter().map(|entry| entry.bound.is_some()).collect()
}

/// Makes a database, which the log says.
async fn enter(node: &Stand, scope: &Scope<Admin>, name: &str) {
    let name = DatabaseName::parse(name).expect("a name");
    node.store.create_database(scope, &name).await.expect("database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_of_version_2_when_older_programs_are_kept_out_and_stay_so() {
    let site = Site::new().await;
    let set = async |version| {
        site.run(&format!("UPDATE tenantry.installation SET version = {version}")).await;
    };
    // As a program of before has set it up.
    set(1).await;
    let one = Stand::over(site.open().await).await;
    let two = Stand::over(site.open().await).await;
    let scope = one.create("a").await.expect("tenant");
    enter(&two, &scope, "b").await;
    assert_eq!(versions(&one, &scope).await, [false; 2]);
    let urls = site.urls();
    migrate(urls.split_once(' ').expect("two").1, |_| {}).await.expect("migrate");
    tokio::time::sleep(2 * SOON).await;
    enter(&one, &scope, "c").await;
    enter(&two, &scope, "d").await;
    assert_eq!(versions(&two, &scope).await, [false, false, true, true]);
    // A node that knows nothing of it goes on as the log is.
    set(1).await;
    let late = Stand::over(site.open().await).await;
    enter(&late, &scope, "e").await;
    assert_eq!(versions(&late, &scope).await, [false, false, true, true, true]);
    let other = late.create("b").await.expect("tenant");
    assert_eq!(versions(&late, &other).await, [false]);
    for node in [one, two, late] {
        node.close();
    }
}
