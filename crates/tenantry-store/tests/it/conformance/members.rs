//! Members of tenants: who is one, how many there are, and when a right that came by one ends.

use super::{UPSERT, World, record};
use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tenantry_auth::{
    Admin, Authority, Credential, KeyDirectory as _, Level, Member, MemberRole, Restriction, Role,
    Scope, TenantId, UserName, Write,
    token::{ClaimPath, ClaimSpec, IssuerSpec, Issuers, KeysOf, TenantBy},
};
use tenantry_store::{MemberChange, NewKey, NewMember, TenantChange};
use tenantry_types::{
    ErrorKind, Exception, Exceptions, GetRequest, Limits, Result, TenantName, TenantSpec, Timestamp,
};

const SECRET: [u8; 32] = [5; 32];

pub(super) fn user(text: &str) -> UserName {
    UserName::parse(text).expect("a user")
}

pub(super) fn new(who: &str, role: MemberRole) -> NewMember {
    NewMember { user: user(who), role, groups: Vec::new(), email: None, name: None }
}

pub(super) fn to(role: MemberRole) -> MemberChange {
    MemberChange { role: Some(role), ..MemberChange::default() }
}

fn suspended(is_suspended: bool) -> MemberChange {
    MemberChange { is_suspended: Some(is_suspended), ..MemberChange::default() }
}

pub(super) fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.expect_err("this must fail").kind()
}

pub(super) fn name(text: &str) -> TenantName {
    TenantName::parse(text).expect("a name")
}

/// An authority whose tokens count for members only.
pub(crate) fn authority() -> Authority {
    let path = |text| ClaimPath::parse(text).expect("a path");
    let spec = IssuerSpec {
        name: "login".into(),
        iss: "issuer".into(),
        audience: "here".into(),
        keys: KeysOf::Secret(SECRET.to_vec().into()),
        claims: ClaimSpec {
            tenant: TenantBy::Id(path("org")),
            roles: path("roles"),
            roles_split: false,
            levels: BTreeMap::new(),
            operator_roles: BTreeSet::new(),
            subject: path("sub"),
            filter: None,
            needs_member: true,
        },
        skew: Duration::ZERO,
        lifetime_max: None,
    };
    Authority::new().with_issuers(Issuers::new(vec![spec]).expect("issuers"))
}

pub(crate) fn token(subject: &str, tenant: TenantId) -> Credential {
    let claims = format!(
        r#"{{"iss":"issuer","aud":"here","sub":"{subject}","exp":9000000000,"org":{tenant}}}"#
    );
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    let signature = encode(hmac::sign(&key, message.as_bytes()).as_ref());
    Credential::parse(&format!("{message}.{signature}")).expect("a token")
}

/// The scope of a member's token.
pub(super) async fn scope_of<L: Level>(
    w: &World<'_>,
    subject: &str,
    tenant: TenantId,
) -> Result<Scope<L>> {
    let authority = authority();
    let who = authority.authenticate(token(subject, tenant), w.store, Timestamp(0)).await?;
    authority.authorize(&who, tenant, "t")
}

/// All members by their names.
async fn all(w: &World<'_>, scope: &Scope<Admin>) -> Vec<Member> {
    let mut found = w.store.members(scope, None, usize::MAX).await.expect("members");
    found.sort_by(|one, other| one.user.cmp(&other.user));
    found
}

pub(super) async fn members_come_and_go(w: &World<'_>) {
    let (scope, other) = (w.tenant("t").await, w.tenant("u").await);
    let alice = NewMember {
        email: Some("a@b".into()),
        name: Some("Alice".into()),
        ..new("login/alice", MemberRole::Owner)
    };
    let made = w.store.add_member(&scope, &alice).await.unwrap();
    assert_eq!((&made.user, made.role, made.is_suspended), (&alice.user, alice.role, false));
    assert_eq!((&made.email, &made.name), (&alice.email, &alice.name));
    assert_eq!(kind(w.store.add_member(&scope, &alice).await), ErrorKind::AlreadyExists);
    // The same subject of another issuer, and the same member elsewhere, are others.
    w.store.add_member(&scope, &new("other/alice", MemberRole::Member)).await.unwrap();
    let there = w.store.add_member(&other, &new("login/alice", MemberRole::Member)).await.unwrap();
    assert_ne!(there.id, made.id);
    for n in 0..7 {
        let who = format!("login/{n}");
        w.store.add_member(&scope, &new(&who, MemberRole::Member)).await.unwrap();
    }
    assert_eq!(w.store.member(&scope, &alice.user).await.unwrap(), made);
    let found = w.store.find_member(scope.tenant(), &alice.user).await.unwrap().unwrap();
    assert_eq!(found.member, made);
    assert_eq!(all(w, &scope).await.len(), 9);
    assert_eq!(all(w, &other).await, [there]);
    // In pages that have each of them once.
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = w.store.members(&scope, after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.user.clone());
        paged.extend(page);
    }
    paged.sort_by(|one, other| one.user.cmp(&other.user));
    assert_eq!(paged, all(w, &scope).await);
    let change = MemberChange { email: Some(None), ..to(MemberRole::Admin) };
    let bob = user("login/0");
    let changed = w.store.change_member(&scope, &bob, &change).await.unwrap();
    assert_eq!((changed.role, &changed.email), (MemberRole::Admin, &None));
    // Also for whoever remembered it.
    let found = w.store.find_member(scope.tenant(), &bob).await.unwrap().unwrap();
    assert_eq!(found.member, changed);
    w.store.remove_member(&scope, &bob).await.unwrap();
    assert_eq!(w.store.find_member(scope.tenant(), &bob).await.unwrap(), None);
    for missing in [
        w.store.remove_member(&scope, &bob).await,
        w.store.member(&scope, &bob).await.map(drop),
        w.store.change_member(&scope, &bob, &change).await.map(drop),
        w.store.member(&other, &user("other/alice")).await.map(drop),
    ] {
        assert_eq!(kind(missing), ErrorKind::NotFound);
    }
    let log = w.store.audit(&scope, 0, 100).await.unwrap();
    let said = |action: &str, target: &str| {
        let is_it =
            |event: &tenantry_store::AuditEvent| event.action == action && event.target == target;
        assert_eq!(log.iter().filter(|entry| is_it(&entry.event)).count(), 1, "{action} {target}");
    };
    said("member.add", r#""login/alice" → owner"#);
    said("member.role", r#""login/0": member → admin"#);
    said("member.remove", r#""login/0": admin"#);
}

pub(super) async fn one_owner_remains_whoever_races(w: &World<'_>) {
    use MemberRole::{Member as Works, Owner};
    let scope = w.tenant("t").await;
    let (a, b) = (user("login/a"), user("login/b"));
    w.store.add_member(&scope, &new("login/a", Owner)).await.unwrap();
    for outcome in [
        w.store.change_member(&scope, &a, &to(MemberRole::Admin)).await.map(drop),
        w.store.change_member(&scope, &a, &suspended(true)).await.map(drop),
        w.store.remove_member(&scope, &a).await,
    ] {
        assert_eq!(kind(outcome), ErrorKind::Conflict);
    }
    w.store.add_member(&scope, &new("login/b", Owner)).await.unwrap();
    for n in 0..12 {
        let demoted = to(Works);
        let (first, second) = match n % 3 {
            0 => tokio::join!(async { w.store.remove_member(&scope, &a).await }, async {
                w.store.remove_member(&scope, &b).await
            }),
            1 => tokio::join!(
                async { w.store.change_member(&scope, &a, &demoted).await.map(drop) },
                async { w.store.remove_member(&scope, &b).await }
            ),
            _ => tokio::join!(
                async { w.store.change_member(&scope, &a, &suspended(true)).await.map(drop) },
                async { w.store.change_member(&scope, &b, &demoted).await.map(drop) }
            ),
        };
        assert!(first.is_ok() != second.is_ok(), "{n}: {first:?} {second:?}");
        assert_eq!(kind(first.and(second)), ErrorKind::Conflict);
        let owners = all(w, &scope).await.into_iter().filter(Member::is_acting_owner).count();
        assert_eq!(owners, 1);
        for who in [&a, &b] {
            match w.store.member(&scope, who).await {
                Ok(_) => {
                    let back = MemberChange { is_suspended: Some(false), ..to(Owner) };
                    w.store.change_member(&scope, who, &back).await.unwrap();
                }
                Err(_) => {
                    drop(w.store.add_member(&scope, &new(who.as_str(), Owner)).await.unwrap());
                }
            }
        }
    }
}

pub(super) async fn members_are_never_more_than_the_limit(w: &World<'_>) {
    let spec = TenantSpec {
        limits: Limits { users: 5, ..Limits::default() },
        ..TenantSpec::new(name("t"))
    };
    let info = w.store.create_tenant(&w.operator, &spec).await.unwrap();
    assert_eq!(info.limits.users, 5);
    let scope = w.scope(info.id);
    let many: Vec<_> = (0..64).map(|n| new(&format!("login/{n}"), MemberRole::Member)).collect();
    let race = async || {
        let adding = many.iter().map(|one| w.store.add_member(&scope, one));
        let mut done = 0;
        for outcome in join_all(adding).await {
            match outcome.map_err(|why| why.kind()) {
                Ok(_) => done += 1,
                Err(kind) => assert!(
                    matches!(kind, ErrorKind::LimitExceeded | ErrorKind::AlreadyExists),
                    "{kind:?}"
                ),
            }
        }
        done
    };
    assert_eq!((race().await, all(w, &scope).await.len()), (5, 5));
    let somebody = all(w, &scope).await.remove(0).user;
    w.store.remove_member(&scope, &somebody).await.unwrap();
    assert_eq!((race().await, all(w, &scope).await.len()), (1, 5));
    // Changing what is there is no addition, and more are allowed by an exception.
    let users = Some(Exception::lasting(7));
    let exceptions = Some(Exceptions { users, ..Exceptions::default() });
    let change = TenantChange { exceptions, ..TenantChange::default() };
    w.store.change_tenant(&w.operator, &name("t"), &change).await.unwrap();
    assert_eq!((race().await, all(w, &scope).await.len()), (2, 7));
    let users = Some(Exception::lasting(0));
    let exceptions = Some(Exceptions { users, ..Exceptions::default() });
    let change = TenantChange { exceptions, ..TenantChange::default() };
    w.store.change_tenant(&w.operator, &name("t"), &change).await.unwrap();
    let somebody = all(w, &scope).await.remove(0).user;
    w.store.change_member(&scope, &somebody, &suspended(true)).await.unwrap();
    let (_, sizes) = w.store.tenant_sizes(&w.operator, &name("t")).await.unwrap();
    assert!(sizes.is_none_or(|sizes| sizes.users == 7));
}

/// What comes of all, at the same time.
pub(super) async fn join_all<T>(all: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for (one, outcome) in &mut all {
            if outcome.is_none() {
                match one.as_mut().poll(context) {
                    std::task::Poll::Ready(done) => *outcome = Some(done),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, outcome)| outcome).collect()
}

pub(super) async fn members_go_with_their_tenant(w: &World<'_>) {
    let (scope, other) = (w.tenant("t").await, w.tenant("u").await);
    let (id, alice) = (scope.tenant(), user("login/alice"));
    for n in 0..300 {
        let who = format!("login/{n}");
        w.store.add_member(&scope, &new(&who, MemberRole::Member)).await.unwrap();
    }
    w.store.add_member(&scope, &new("login/alice", MemberRole::Owner)).await.unwrap();
    w.store.add_member(&other, &new("login/alice", MemberRole::Owner)).await.unwrap();
    w.store.find_member(id, &alice).await.unwrap().unwrap();
    w.store.delete_tenant(&w.operator, &name("t")).await.unwrap();
    assert_eq!(w.store.find_member(id, &alice).await.unwrap(), None);
    assert!(w.store.find_member(other.tenant(), &alice).await.unwrap().is_some());
    let again = w.tenant("t").await;
    assert_eq!(all(w, &again).await, []);
    assert_eq!(w.store.find_member(again.tenant(), &alice).await.unwrap(), None);
    let refused = scope_of::<Write>(w, "alice", again.tenant()).await.map(drop);
    assert_eq!(kind(refused), ErrorKind::Unauthenticated);
}

pub(super) async fn a_members_right_is_looked_at_again(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    let id = admin.tenant();
    let alice = user("login/alice");
    w.store.add_member(&admin, &new("login/boss", MemberRole::Owner)).await.unwrap();
    w.store.add_member(&admin, &new("login/alice", MemberRole::Member)).await.unwrap();
    let scope: Scope<Write> = scope_of(w, "alice", id).await.unwrap();
    assert_eq!(kind(scope_of::<Admin>(w, "alice", id).await.map(drop)), ErrorKind::Denied);
    let write = async |scope: &Scope<Write>| {
        w.store.write(scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await.map(drop)
    };
    write(&scope).await.unwrap();
    // More than before is no reason to refuse.
    w.store.change_member(&admin, &alice, &to(MemberRole::Owner)).await.unwrap();
    write(&scope).await.unwrap();
    let owner: Scope<Admin> = scope_of(w, "alice", id).await.unwrap();
    w.store.members(&owner, None, 1).await.unwrap();
    // Less is, also where the level is the same.
    w.store.change_member(&admin, &alice, &to(MemberRole::Admin)).await.unwrap();
    assert_eq!(kind(w.store.members(&owner, None, 1).await), ErrorKind::Unauthenticated);
    let scope = scope_of::<Admin>(w, "alice", id).await.unwrap().to_write();
    write(&scope).await.unwrap();
    w.store.change_member(&admin, &alice, &suspended(true)).await.unwrap();
    assert_eq!(kind(write(&scope).await), ErrorKind::Unauthenticated);
    let read = w.store.get(&scope, &c, &GetRequest::default()).await.map(drop);
    assert_eq!(kind(read), ErrorKind::Unauthenticated);
    let refused = scope_of::<Write>(w, "alice", id).await.map(drop);
    assert_eq!(kind(refused), ErrorKind::Unauthenticated);
    w.store.change_member(&admin, &alice, &suspended(false)).await.unwrap();
    let scope: Scope<Write> = scope_of(w, "alice", id).await.unwrap();
    write(&scope).await.unwrap();
    w.store.remove_member(&admin, &alice).await.unwrap();
    assert_eq!(kind(write(&scope).await), ErrorKind::Unauthenticated);
}

pub(super) async fn nobody_gives_more_than_they_have(w: &World<'_>) {
    use MemberRole::{Admin as RunsIt, Member as Works, Owner};
    let operators = w.tenant("t").await;
    let id = operators.tenant();
    for (who, role) in [("boss", Owner), ("chief", Owner), ("alice", RunsIt), ("bob", Works)] {
        w.store.add_member(&operators, &new(&format!("login/{who}"), role)).await.unwrap();
    }
    let alice: Scope<Admin> = scope_of(w, "alice", id).await.unwrap();
    // An admin key is an admin, whoever made it.
    let key = NewKey {
        role: Role::Admin,
        restriction: Restriction::default(),
        label: String::new(),
        expires_at: None,
    };
    let (_, key) = w.store.create_key(&operators, key).await.unwrap();
    let authority = Authority::new();
    let who = authority.authenticate(Credential::Key(key), w.store, Timestamp(0)).await.unwrap();
    let key: Scope<Admin> = authority.authorize(&who, id, "t").unwrap();
    let (boss, bob) = (user("login/boss"), user("login/bob"));
    for scope in [&alice, &key] {
        for refused in [
            w.store.add_member(scope, &new("login/new", Owner)).await.map(drop),
            w.store.change_member(scope, &bob, &to(Owner)).await.map(drop),
            w.store.change_member(scope, &boss, &to(Works)).await.map(drop),
            w.store.change_member(scope, &boss, &suspended(true)).await.map(drop),
            w.store.remove_member(scope, &boss).await,
        ] {
            assert_eq!(kind(refused), ErrorKind::Denied);
        }
        w.store.change_member(scope, &bob, &to(RunsIt)).await.unwrap();
        w.store.change_member(scope, &bob, &to(Works)).await.unwrap();
        w.store.add_member(scope, &new("login/new", RunsIt)).await.unwrap();
        w.store.remove_member(scope, &user("login/new")).await.unwrap();
    }
    let owner: Scope<Admin> = scope_of(w, "chief", id).await.unwrap();
    w.store.change_member(&owner, &boss, &to(Works)).await.unwrap();
    let limited = w.limited(&operators).await;
    let refused = w.store.members(&limited, None, 1).await.map(drop);
    assert_eq!(kind(refused), ErrorKind::Denied);
    let refused = w.store.add_member(&limited, &new("login/new", Works)).await.map(drop);
    assert_eq!(kind(refused), ErrorKind::Denied);
}

impl World<'_> {
    /// A scope of a key that is limited to one database.
    pub(super) async fn limited(&self, admin: &Scope<Admin>) -> Scope<Admin> {
        let database = self.database(admin).await;
        let objects = Some(vec![tenantry_auth::Allowed::Database(database.info().number)].into());
        let restriction = Restriction { objects, filter: None };
        let key = NewKey { role: Role::Admin, restriction, label: String::new(), expires_at: None };
        let (_, key) = self.store.create_key(admin, key).await.expect("a key");
        let authority = Authority::new();
        let who = authority.authenticate(Credential::Key(key), self.store, Timestamp(0)).await;
        authority.authorize(&who.expect("who"), admin.tenant(), "t").expect("scope")
    }
}
