//! Who asks, and what it may, is known without a question: a request costs what it reads and no more.

use super::*;
use crate::{Granted, NewKey, NewMember, ObjectNames};
use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tenantry_auth::{
    Allowed, Grant, MemberRole, Read, Restriction, Role, TenantId, UserName,
    token::{ClaimPath, ClaimSpec, IssuerSpec, Issuers, KeysOf, TenantBy},
};
use tenantry_types::GroupName;

const SECRET: [u8; 32] = [5; 32];

/// An issuer whose tokens count for members only, or whose word counts.
fn issuer(name: &str, needs_member: bool) -> IssuerSpec {
    let path = |text: &str| ClaimPath::parse(text).unwrap();
    let levels = [("viewer".to_owned(), Role::Read)];
    IssuerSpec {
        name: name.to_owned(),
        iss: name.to_owned(),
        audience: "here".to_owned(),
        keys: KeysOf::Secret(SECRET.to_vec().into()),
        claims: ClaimSpec {
            tenant: TenantBy::Id(path("org")),
            roles: path("roles"),
            roles_split: false,
            levels: if needs_member { BTreeMap::new() } else { levels.into() },
            subject: path("sub"),
            filter: None,
            needs_member,
            operator_roles: BTreeSet::new(),
        },
        skew: Duration::ZERO,
        lifetime_max: None,
    }
}

fn token(issuer: &str, subject: &str, tenant: TenantId) -> String {
    let roles = if issuer == "login" { r#","roles":"viewer""# } else { "" };
    let claims = format!(
        r#"{{"iss":"{issuer}","aud":"here","sub":"{subject}","exp":9000000000,"org":{tenant}{roles}}}"#
    );
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    format!("{message}.{}", encode(hmac::sign(&key, message.as_bytes()).as_ref()))
}

/// A key, and tokens of somebody who is no member, of a member and of a guest of one collection.
async fn credentials(node: &Node) -> [(&'static str, String); 4] {
    let Node { store, scope, collection, .. } = node;
    let (restriction, label) = (Restriction::default(), String::new());
    let key = NewKey { role: Role::Read, restriction, label, expires_at: None };
    let (_, key) = store.create_key(scope, key).await.unwrap();
    let info = collection.info();
    let readers = GroupName::parse("readers").unwrap();
    let grant = Grant { on: Allowed::Collection(info.database, info.number), writes: false };
    let granted = Granted { grants: vec![grant], names: ObjectNames::new() };
    store.add_group(scope, &readers, &granted).await.unwrap();
    for (who, role, groups) in [
        ("staff/alice", MemberRole::Member, Vec::new()),
        ("staff/guest", MemberRole::Guest, vec![readers]),
    ] {
        let user = UserName::parse(who).unwrap();
        let new = NewMember { user, role, groups, email: None, name: None };
        store.add_member(scope, &new).await.unwrap();
    }
    let tenant = scope.tenant();
    [
        ("a key", key.reveal()),
        ("a token", token("login", "bob", tenant)),
        ("a member", token("staff", "alice", tenant)),
        ("a guest", token("staff", "guest", tenant)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_again_is_let_in_without_a_question() {
    Node::with(|node| async move {
        let (store, tenant) = (&node.store, node.scope.tenant());
        let credentials = credentials(&node).await;
        let issuers = vec![issuer("login", false), issuer("staff", true)];
        let authority = Authority::new().with_issuers(Issuers::new(issuers).unwrap());
        let (database, name) = (DatabaseName::default_database(), &node.collection.info().name);
        let shared = &node.inner().shared;
        let trips = || shared.connections.exchanges() + shared.lookups.exchanges();
        for (case, text) in &credentials {
            // What a request for records asks before it reads any.
            let enter = async || {
                let credential = Credential::parse(text).unwrap();
                let who = authority.authenticate(credential, store, Timestamp(1)).await.unwrap();
                assert!(store.tenant_by_id(tenant).await.unwrap().is_some(), "{case}");
                assert!(store.allowance(tenant).await.unwrap().is_some(), "{case}");
                let scope: Scope<Read> = authority.authorize(&who, tenant, "t").unwrap();
                store.records_of(&scope, &database, Wanted::Name(name)).await.unwrap()
            };
            let (first, begun) = (enter().await, Instant::now());
            // This node hears of what it has just changed, and forgets what it knew once.
            let mut quiet = Instant::now();
            while quiet.elapsed() < Duration::from_millis(1_500) {
                assert!(begun.elapsed() < Duration::from_secs(20), "{case}: it asks each time");
                let before = trips();
                enter().await;
                if trips() != before {
                    quiet = Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let before = trips();
            for _ in 0..100 {
                assert_eq!(enter().await.info().id, first.info().id, "{case}");
            }
            assert_eq!(trips() - before, 0, "{case}");
        }
    })
    .await;
}
