//! One tenant's reads leave connections to the others.

use super::*;
use crate::{
    ConnectionTotals, NewKey,
    postgres::{conn::Conn, connections::Connections, target::Target},
    tenancy::writers::WAITERS_MAX,
};
use std::{collections::BTreeSet, time::Duration};
use tenantry_auth::{KeyId, Restriction, Role, TenantId};
use tenantry_types::ErrorKind;
use tokio::{task::JoinSet, time::timeout};

const SOON: Duration = Duration::from_secs(2);

fn waiting(connections: &Connections) -> u64 {
    let mut totals = ConnectionTotals::default();
    connections.add_to(&mut totals);
    totals.waiting
}

/// Takes all that a tenant's reads may have.
async fn take_share(of: &Connections, target: &Target, tenant: TenantId, most: usize) -> Vec<Conn> {
    let mut held = Vec::new();
    for _ in 0..most {
        held.push(of.find_or_open(target, Some(tenant), false).await.ok().unwrap());
    }
    held
}

impl Node {
    /// The right to another tenant.
    async fn neighbour(&self) -> Scope<Admin> {
        let authority = Authority::development();
        let principal =
            authority.authenticate(Credential::None, &self.store, Timestamp(0)).await.unwrap();
        let spec = TenantSpec::new(TenantName::parse("neighbour").unwrap());
        let id = self.store.create_tenant(&self.operator, &spec).await.unwrap().id;
        authority.authorize(&principal, id, "neighbour").unwrap()
    }

    async fn make_keys(&self, count: usize) -> BTreeSet<KeyId> {
        let mut made = BTreeSet::new();
        for _ in 0..count {
            let key = NewKey {
                role: Role::Read,
                restriction: Restriction::default(),
                label: String::new(),
                expires_at: None,
            };
            made.insert(self.store.create_key(&self.scope, key).await.unwrap().0.id);
        }
        made
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_one_tenant_that_take_long_leave_others_served() {
    Node::with(|node| async move {
        let node = Arc::new(node);
        node.write(vec![record(1)]).await;
        let neighbour = node.neighbour().await;
        let shared = &node.inner().shared;
        let connections = &shared.connections;
        // 32 less an eighth, and a quarter of the rest.
        let held =
            take_share(connections, &shared.root().unwrap().target, node.scope.tenant(), 28 / 4)
                .await;
        let mut reads = JoinSet::new();
        for _ in 0..20 {
            let of = Arc::clone(&node);
            reads.spawn(async move {
                let request = GetRequest {
                    select: Selector::default(),
                    order: Order::Insertion,
                    page: Page::default(),
                    include: all_parts(),
                };
                of.store.get(&of.scope, &of.collection, &request).await.unwrap().value.len()
            });
            let of = Arc::clone(&node);
            reads.spawn(async move {
                of.store.databases(&of.scope, Page::default()).await.unwrap().len()
            });
        }
        let all_wait = async {
            while waiting(connections) < 40 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, all_wait).await.expect("a read had a connection beyond its tenant's share");
        let others = timeout(SOON, node.store.databases(&neighbour, Page::default())).await;
        assert_eq!(others.expect("served at once").unwrap().len(), 1);
        // Changes are made one at a time anyhow.
        timeout(SOON, node.write(vec![record(2)])).await.expect("written at once");
        assert_eq!(waiting(connections), 40);
        drop(held);
        while let Some(read) = reads.join_next().await {
            assert!((1..=2).contains(&read.unwrap()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_databases_takes_few_round_trips() {
    Node::with(|node| async move {
        let mut names = BTreeSet::from(["default_database".to_owned()]);
        for n in 0..80 {
            let name = format!("d{n}");
            node.store
                .create_database(&node.scope, &DatabaseName::parse(&name).unwrap())
                .await
                .unwrap();
            names.insert(name);
        }
        let all = node.store.databases(&node.scope, Page::default());
        let (found, trips) = node.counted(all).await;
        let found: Vec<_> =
            found.unwrap().iter().map(|one| one.info.name.as_str().to_owned()).collect();
        assert_eq!(found, names.iter().cloned().collect::<Vec<_>>());
        // One for the names, and one for each 64 of what they lead to.
        assert!(trips <= 3, "{trips}");
        let page = Page { offset: 70, limit: Some(5) };
        let page = node.store.databases(&node.scope, page).await.unwrap();
        let page: Vec<_> = page.iter().map(|one| one.info.name.as_str()).collect();
        assert_eq!(page, found[70..75]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_keys_takes_few_round_trips_and_lets_others_look_things_up() {
    Node::with(|node| async move {
        let made = node.make_keys(300).await;
        let shared = &node.inner().shared;
        let (lookups, target) = (&shared.lookups, &shared.root().unwrap().target);
        let before = lookups.exchanges();
        let keys = node.store.keys(&node.scope).await.unwrap();
        let trips = lookups.exchanges() - before;
        assert_eq!(keys.len(), 300);
        assert_eq!(keys.iter().map(|key| key.id).collect::<BTreeSet<_>>(), made);
        // Where the tenant lives, the ids and the rows, for each 256.
        assert!(trips <= 8, "{trips}");
        let held = take_share(lookups, target, node.scope.tenant(), 1).await;
        let (listed, looked_up) = tokio::join!(node.store.keys(&node.scope), async {
            let waits = async {
                while waiting(lookups) == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(SOON, waits).await.expect("a list has its tenant's share of the look-ups");
            let mut others = Vec::new();
            for _ in 0..3 {
                others.push(timeout(SOON, lookups.get(target)).await.is_ok_and(|got| got.is_ok()));
            }
            drop(held);
            others
        });
        assert_eq!((listed.unwrap().len(), looked_up), (300, vec![true; 3]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_wait_for_one_before_them_are_bounded() {
    Node::with(|node| async move {
        let tenant = node.inner().tenancy.open_tenant(node.scope.tenant()).await.unwrap().unwrap();
        let writing = tenant.writer.lock().await;
        let node = Arc::new(node);
        let mut writes = JoinSet::new();
        for n in 0..WAITERS_MAX + 2 {
            let node = Arc::clone(&node);
            writes.spawn(async move {
                let (scope, collection) = (&node.scope, &node.collection);
                let batch = vec![record(u16::try_from(n).unwrap())];
                node.store.write(scope, collection, WriteMode::Upsert, batch).await.map(drop)
            });
        }
        // Whoever finds no room is told so at once.
        for _ in 0..2 {
            let refused = timeout(SOON, writes.join_next()).await.expect("at once");
            assert_eq!(refused.unwrap().unwrap().unwrap_err().kind(), ErrorKind::Busy);
        }
        let all = Selector::default();
        let refused = node.store.delete(&node.scope, &node.collection, &all, None).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Busy);
        drop(writing);
        while let Some(written) = writes.join_next().await {
            written.unwrap().unwrap();
        }
        node.write(vec![record(0)]).await;
    })
    .await;
}
