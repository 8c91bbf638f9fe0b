use super::*;
use crate::{
    MemberChange, NewKey, NewMember, PostgresConfig, Store, TenantChange,
    postgres::{
        DatabaseUrl, Inner,
        stand::Stand,
        tests::proxy::{Does, Proxy},
    },
    tenancy::{Backend as _, master::MasterKey, place::Placement, tenants::OpenTenant},
};
use tenantry_auth::{
    Admin, Authority, Credential, OperatorScope, Principal, Restriction, Role, Scope,
};
use tenantry_types::{
    CollectionSpec, DatabaseName, ErrorKind, TenantName, TenantSpec, TenantState, Timestamp,
};
use tokio_postgres::types::ToSql;
use zeroize::Zeroizing;

struct World {
    stand: Stand,
    store: Store,
    authority: Authority,
    principal: Principal,
    operator: OperatorScope,
}

impl World {
    async fn new(stand: Stand) -> Self {
        let url = stand.set_up().await.database_url;
        Self::at(stand, &url).await
    }

    /// Over a proxy.
    async fn through(stand: Stand, proxy: &Proxy) -> Self {
        let url = stand.set_up().await.database_url;
        let (user, rest) = url.split_once('@').unwrap();
        let (_, path) = rest.split_once('/').unwrap();
        Self::at(stand, &format!("{user}@{}/{path}", proxy.address())).await
    }

    async fn at(stand: Stand, url: &str) -> Self {
        let url = DatabaseUrl::parse(url).unwrap();
        let mut config = PostgresConfig::new(url, "no-folder");
        config.master_key = MasterKey::Bytes(Zeroizing::new([7; 32]));
        let store = Store::open_postgres(config).await.unwrap();
        let authority = Authority::development();
        let who = authority.authenticate(Credential::None, &store, Timestamp(0)).await;
        let principal = who.unwrap();
        let operator = authority.authorize_operator(&principal).unwrap();
        Self { stand, store, authority, principal, operator }
    }

    fn inner(&self) -> &Inner {
        &self.store.0.databases.inner
    }

    async fn tenant(&self, name: &str) -> (Scope<Admin>, Arc<OpenTenant>) {
        let spec = TenantSpec::new(TenantName::parse(name).unwrap());
        let id = self.store.create_tenant(&self.operator, &spec).await.unwrap().id;
        let scope = self.authority.authorize(&self.principal, id, "t").unwrap();
        (scope, self.inner().tenancy.open_tenant(id).await.unwrap().unwrap())
    }

    async fn epoch(&self) -> i64 {
        let client = self.stand.superuser(self.stand.names.database()).await;
        let sql = "SELECT epoch FROM tenantry.installation";
        client.query_one(sql, &[]).await.unwrap().get(0)
    }
}

/// A row that nothing else of a tenant has.
fn odd_row(tenant: &OpenTenant) -> Vec<u8> {
    keys::Ledger { day: 1, sequence: 1 }.encode(tenant.prefix())
}

fn putting(key: &[u8]) -> WriteSet {
    let mut set = WriteSet::new(Placement::shared(TenantId::INSTALLATION), 0);
    set.operations.push((Space::Data, key.to_vec(), Some(vec![1])));
    set
}

/// Whoever holds a transaction needs no second connection, whatever has to be looked up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_is_looked_up_in_the_transaction_that_is_there() {
    Stand::with(async |stand| {
        let world = World::new(stand).await;
        let inner = world.inner();
        let (scope, tenant) = world.tenant("t").await;
        let (role, restriction) = (Role::Admin, Restriction::default());
        let key = NewKey { role, restriction, label: String::new(), expires_at: None };
        let (row, key) = world.store.create_key(&scope, key).await.unwrap();
        let keyed = Authority::new();
        let who = keyed.authenticate(Credential::Key(key), &world.store, Timestamp(0)).await;
        let standing =
            keyed.authorize::<Admin>(&who.unwrap(), tenant.id(), "t").unwrap().standing().clone();
        let tenancy = &inner.tenancy;
        let view = tenancy.change(&tenant).await.unwrap();
        let shared = &inner.shared;
        shared.lookups.close();
        shared.connections.close();
        shared.watch.close();
        // Neither the epoch, nor the key, nor the tenant, nor the installation is known any more.
        shared.watch.forget();
        while shared.watch.is_trusted() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let refused = tenancy.stands(&standing, Some(&tenant), None).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        tenancy.stands(&standing, Some(&tenant), Some(&view)).await.unwrap();
        assert!(shared.watch.is_trusted());
        // What others commit meanwhile is seen.
        let client = world.stand.superuser(world.stand.names.database()).await;
        let gone = "DELETE FROM tenantry.catalog WHERE tenant = 0 AND family = $1 AND key = $2";
        let values: [&(dyn ToSql + Sync); 2] =
            [&i16::from(keys::Key::FAMILY), &row.id.bytes().as_slice()];
        assert_eq!(client.execute(gone, &values).await.unwrap(), 1);
        let refused = tenancy.stands(&standing, Some(&tenant), Some(&view)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
        // The view is as good as before.
        let key = odd_row(&tenant);
        assert_eq!(view.get(Space::Data, &key).await.unwrap(), None);
        tenancy.submit(view, putting(&key)).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_needs_the_head_that_was_read() {
    Stand::with(async |stand| {
        let world = World::new(stand).await;
        let inner = world.inner();
        let (_, tenant) = world.tenant("t").await;
        let key = odd_row(&tenant);
        let found = async || inner.view(&tenant).await.unwrap().get(Space::Data, &key).await;
        let mut view = inner.change(&tenant).await.unwrap();
        view.heads[0].1.push(0);
        let refused = inner.submit(view, putting(&key)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Internal);
        assert_eq!(found().await.unwrap(), None);
        // Whoever goes away before the end does not stop a commit.
        let view = inner.change(&tenant).await.unwrap();
        drop(inner.submit(view, putting(&key)));
        // The lock is free when it is done, and not before.
        drop(inner.change(&tenant).await.unwrap());
        assert_eq!(found().await.unwrap(), Some(vec![1]));
    })
    .await;
}

/// Elsewhere a row that only one commit can have written proves that it was done. A copy puts rows
/// that an earlier attempt may have put as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_an_earlier_attempt_proves_nothing_of_a_copy_whose_answer_was_lost() {
    Stand::with(async |stand| {
        let proxy = Proxy::start(Does::Pass).await;
        let world = World::through(stand, &proxy).await;
        let (_, tenant) = world.tenant("t").await;
        let (inner, id) = (world.inner(), tenant.id());
        let [earlier, now] =
            [1_001, 1_002].map(|sequence| keys::Audit { sequence }.encode(tenant.prefix()));
        inner.submit(inner.change(&tenant).await.unwrap(), putting(&earlier)).await.unwrap();
        let of = async |mut view: PgView| {
            let head = view.lock(&[id]).await.unwrap().pop().and_then(|(head, _)| head);
            view.heads = vec![(id, head.unwrap())];
            let mut set = putting(&earlier);
            set.operations.extend(putting(&now).operations);
            proxy.does(Does::CutBeforeCommit);
            let open = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                proxy.does(Does::Pass);
            };
            tokio::join!(inner.submit(view, set), open).0
        };
        let home = inner.place(&tenant).await.unwrap();
        let lost = of(PgView::putting(&inner.shared, home.clone())).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Unavailable, "{lost:?}");
        // So it would be if it were taken for one.
        of(PgView::writing(&inner.shared, home)).await.unwrap();
        let found = inner.view(&tenant).await.unwrap().many(Space::Data, &[earlier, now]).await;
        assert_eq!(found.unwrap(), [Some(vec![1]), None]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_are_given_up_hold_nobody_up() {
    Stand::with(async |stand| {
        let world = World::new(stand).await;
        let inner = world.inner();
        let (_, tenant) = world.tenant("t").await;
        let begun = Instant::now();
        // More than there are connections.
        for _ in 0..100 {
            drop(inner.change(&tenant).await.unwrap());
            let waiting = inner.change(&tenant);
            drop(tokio::time::timeout(Duration::from_micros(300), waiting).await);
        }
        assert!(begun.elapsed() < LOCK * 4, "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_a_right_away_raises_the_epoch_and_nothing_else_does() {
    Stand::with(async |stand| {
        let world = World::new(stand).await;
        let (store, operator) = (&world.store, &world.operator);
        let name = |name: &str| TenantName::parse(name).unwrap();
        let before = world.epoch().await;
        let (scope, _) = world.tenant("t").await;
        let key = NewKey {
            role: tenantry_auth::Role::Admin,
            restriction: tenantry_auth::Restriction::default(),
            label: String::new(),
            expires_at: None,
        };
        let (key, _) = store.create_key(&scope, key).await.unwrap();
        let (root, _) = store.create_operator_key(operator, true, "o", None).await.unwrap();
        let database = store.database(&scope, &DatabaseName::default_database()).await.unwrap();
        let spec = CollectionSpec::new(tenantry_types::CollectionName::parse("c").unwrap());
        let made = store.create_collection(&scope, &database, &spec, false).await.unwrap();
        store.delete_collection(&scope, &made.0).await.unwrap();
        let alice = tenantry_auth::UserName::parse("login/alice").unwrap();
        let role = tenantry_auth::MemberRole::Member;
        let new =
            NewMember { user: alice.clone(), role, groups: Vec::new(), email: None, name: None };
        store.add_member(&scope, &new).await.unwrap();
        assert_eq!(world.epoch().await, before);
        let change = MemberChange { is_suspended: Some(true), ..MemberChange::default() };
        store.change_member(&scope, &alice, &change).await.unwrap();
        assert_eq!(world.epoch().await, before + 1);
        store.remove_member(&scope, &alice).await.unwrap();
        assert_eq!(world.epoch().await, before + 2);
        let before = before + 2;
        store.revoke_key(&scope, key.id).await.unwrap();
        assert_eq!(world.epoch().await, before + 1);
        store.revoke_operator_key(operator, root.id).await.unwrap();
        assert_eq!(world.epoch().await, before + 2);
        let change = |change: TenantChange, of| {
            let of = name(of);
            async move { store.change_tenant(operator, &of, &change).await.unwrap() }
        };
        let suspended = TenantChange { state: Some(TenantState::Suspended), ..Default::default() };
        change(suspended, "t").await;
        assert_eq!(world.epoch().await, before + 3);
        change(TenantChange { name: Some(name("u")), ..Default::default() }, "t").await;
        assert_eq!(world.epoch().await, before + 4);
        store.delete_tenant(operator, &name("u")).await.unwrap();
        assert_eq!(world.epoch().await, before + 5);
    })
    .await;
}
