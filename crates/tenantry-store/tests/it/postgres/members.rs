//! Members of tenants, on several nodes of one installation.

use super::{Site, nodes::Node};
use crate::conformance::{groups, members};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Allowed, Grant, MemberRole, Read, UserName, Write};
use tenantry_store::{GroupChange, MemberChange, NewMember, ObjectNames, TenantChange};
use tenantry_types::{
    Amount, CollectionName, CollectionSpec, DatabaseName, Error, ErrorKind, ExceptionChange,
    Isolation, Page, TenantName, Term, Timestamp, WriteMode,
};

/// What another node may go on with for a while.
const SOON: Duration = Duration::from_secs(1);

fn kind<T>(outcome: Result<T, Error>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_nodes_add_at_once_stays_within_the_limit_and_leaves_an_owner() {
    for isolation in Isolation::ALL {
        let site = Site::new().await;
        let (one, two) = (site.open_apart(isolation).await, site.open_apart(isolation).await);
        let (one, two) = (Arc::new(Node::new(one).await), Arc::new(Node::new(two).await));
        let scope = one.tenant("t").await.unwrap();
        let there = two.scope(scope.tenant());
        let new = |who: &str, role| NewMember {
            user: UserName::parse(who).unwrap(),
            role,
            groups: Vec::new(),
            email: None,
            name: None,
        };
        for who in ["login/a", "login/b"] {
            one.store.add_member(&scope, &new(who, MemberRole::Owner)).await.unwrap();
        }
        let mut change = ExceptionChange::default();
        change.make(Term::Users, Amount::of(6), None).unwrap();
        let change = TenantChange { except: change, ..TenantChange::default() };
        let name = TenantName::parse("t").unwrap();
        one.store.change_tenant(&one.operator, &name, &change).await.unwrap();
        let mut adding = tokio::task::JoinSet::new();
        for n in 0..64 {
            let (node, scope) = if n % 2 == 0 { (&one, &scope) } else { (&two, &there) };
            let (node, scope) = (Arc::clone(node), scope.clone());
            let new = new(&format!("login/{n}"), MemberRole::Member);
            adding.spawn(async move { node.store.add_member(&scope, &new).await.map(drop) });
        }
        let outcomes = adding.join_all().await;
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(done, 4);
        for outcome in outcomes {
            let why = kind(outcome);
            assert!(why.is_none_or(|why| why == ErrorKind::LimitExceeded), "{why:?}");
        }
        let (a, b) = (UserName::parse("login/a").unwrap(), UserName::parse("login/b").unwrap());
        let (first, second) =
            tokio::join!(one.store.remove_member(&scope, &a), two.store.remove_member(&there, &b));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        assert_eq!(kind(first.and(second)), Some(ErrorKind::Conflict));
        one.store.close();
        two.store.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_suspended_or_removed_is_refused_everywhere() {
    for isolation in Isolation::ALL {
        let site = Site::new().await;
        let (one, two) = (site.open_apart(isolation).await, site.open_apart(isolation).await);
        let (one, two) = (Node::new(one).await, Node::new(two).await);
        let scope = one.tenant("t").await.unwrap();
        let (id, alice) = (scope.tenant(), UserName::parse("login/alice").unwrap());
        let new = NewMember {
            user: alice.clone(),
            role: MemberRole::Admin,
            groups: Vec::new(),
            email: None,
            name: None,
        };
        one.store.add_member(&scope, &new).await.unwrap();
        let issuers = members::authority();
        let who = async |node: &Node| {
            let token = members::token("alice", id);
            issuers.authenticate(token, &node.store, Timestamp(0)).await
        };
        let suspend = |is_suspended| MemberChange {
            is_suspended: Some(is_suspended),
            ..MemberChange::default()
        };
        for is_removed in [false, true] {
            // It is good on the other node at once, and then in its memory.
            let principal = soon(async || who(&two).await.ok()).await;
            let acts = issuers.authorize::<Admin>(&principal, id, "t").unwrap();
            two.store.databases(&acts, Page::default()).await.unwrap();
            if is_removed {
                one.store.remove_member(&scope, &alice).await.unwrap();
            } else {
                one.store.change_member(&scope, &alice, &suspend(true)).await.unwrap();
            }
            assert_eq!(kind(who(&one).await), Some(ErrorKind::Unauthenticated));
            soon(async || who(&two).await.is_err().then_some(())).await;
            let refused = two.store.databases(&acts, Page::default()).await;
            assert_eq!(kind(refused), Some(ErrorKind::Unauthenticated));
            if !is_removed {
                one.store.change_member(&scope, &alice, &suspend(false)).await.unwrap();
            }
        }
        one.store.close();
        two.store.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_gives_and_takes_counts_everywhere() {
    for isolation in Isolation::ALL {
        let site = Site::new().await;
        let (one, two) = (site.open_apart(isolation).await, site.open_apart(isolation).await);
        let (one, two) = (Node::new(one).await, Node::new(two).await);
        let scope = one.tenant("t").await.unwrap();
        let (id, eve) = (scope.tenant(), UserName::parse("login/eve").unwrap());
        let database = DatabaseName::default_database();
        let database = one.store.database(&scope, &database).await.unwrap();
        let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
        let c = one.store.create_collection(&scope, &database, &spec, false).await.unwrap().0;
        let change = |grants: &[Grant]| GroupChange {
            granted: Some(groups::gives(grants)),
            ..GroupChange::default()
        };
        let name = groups::group("g");
        let nothing = groups::gives(&[]);
        one.store.add_group(&scope, &name, &nothing).await.unwrap();
        one.store.add_member(&scope, &groups::guest("login/eve", &["g"])).await.unwrap();
        let issuers = members::authority();
        let who = async |node: &Node| {
            let token = members::token("eve", id);
            issuers.authenticate(token, &node.store, Timestamp(0)).await
        };
        // Remembered there as somebody who sees nothing.
        let guest = who(&two).await.unwrap();
        let held = issuers.authorize::<Read>(&guest, id, "t").unwrap();
        assert!(two.store.databases(&held, Page::default()).await.unwrap().is_empty());
        let all = Allowed::Database(database.info().number);
        let writes = change(&[Grant { on: all, writes: true }]);
        let reads = change(&[Grant { on: all, writes: false }]);
        let without = MemberChange { groups: Some(Vec::new()), ..MemberChange::default() };
        for taken in 0..3 {
            one.store.change_group(&scope, &name, &writes).await.unwrap();
            let acts = soon(async || {
                let guest = who(&two).await.unwrap();
                issuers.authorize::<Write>(&guest, id, "t").ok()
            });
            let acts = acts.await;
            // What was added ends nobody's right.
            two.store.databases(&held, Page::default()).await.unwrap();
            let write = async || {
                let records = vec![crate::conformance::record("a", 1.0, &[])];
                two.store.write(&acts, &c, WriteMode::Upsert, records).await.map(drop)
            };
            write().await.unwrap();
            match taken {
                0 => drop(one.store.change_group(&scope, &name, &reads).await.unwrap()),
                1 => drop(one.store.change_member(&scope, &eve, &without).await.unwrap()),
                _ => one.store.remove_group(&scope, &name, &ObjectNames::new()).await.unwrap(),
            }
            soon(async || write().await.is_err().then_some(())).await;
            assert_eq!(kind(write().await), Some(ErrorKind::Unauthenticated));
            let guest = who(&two).await.unwrap();
            let denied = issuers.authorize::<Write>(&guest, id, "t");
            assert_eq!(kind(denied), Some(ErrorKind::Denied));
            let back = groups::guest("login/eve", &["g"]).groups;
            let back = MemberChange { groups: Some(back), ..MemberChange::default() };
            if taken < 2 {
                one.store.change_member(&scope, &eve, &back).await.unwrap();
            }
        }
        one.store.close();
        two.store.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_two_nodes_make_at_once_have_numbers_of_their_own() {
    for isolation in Isolation::ALL {
        let site = Site::new().await;
        let (one, two) = (site.open_apart(isolation).await, site.open_apart(isolation).await);
        let (one, two) = (Arc::new(Node::new(one).await), Arc::new(Node::new(two).await));
        let scope = one.tenant("t").await.unwrap();
        let there = two.scope(scope.tenant());
        let mut adding = tokio::task::JoinSet::new();
        for n in 0..32 {
            let (node, scope) = if n % 2 == 0 { (&one, &scope) } else { (&two, &there) };
            let (node, scope) = (Arc::clone(node), scope.clone());
            // Each name twice, once on each node.
            let name = groups::group(&format!("g{}", n / 2));
            adding.spawn(async move {
                let made = node.store.add_group(&scope, &name, &groups::gives(&[])).await;
                made.map(|group| group.number)
            });
        }
        let outcomes = adding.join_all().await;
        let mut made: Vec<_> = outcomes.iter().filter_map(|one| one.as_ref().ok()).collect();
        made.sort_unstable();
        made.dedup();
        assert_eq!(made.len(), 16);
        for outcome in outcomes {
            let why = kind(outcome);
            assert!(why.is_none_or(|why| why == ErrorKind::AlreadyExists), "{why:?}");
        }
        assert_eq!(one.store.groups(&scope).await.unwrap().len(), 16);
        one.store.close();
        two.store.close();
    }
}

/// What is there within a second.
async fn soon<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < SOON, "it is as before");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
