//! Members: what their tokens get, and when it ends.

use crate::{
    support::*,
    tokens::{spec, token},
};
use tenantry_engine::{
    token::{ClaimPath, Issuers, TenantBy},
    *,
};

/// A world whose tokens name tenants by their names, and count for members only.
async fn world() -> World {
    let mut issuer = spec(TenantBy::Name(ClaimPath::parse("org").unwrap()));
    issuer.claims.needs_member = true;
    World::trusting(Issuers::new(vec![issuer]).unwrap()).await
}

/// The token of this subject, with this role at its login.
fn of(role: &str) -> String {
    token(&format!(r#""org":"acme","roles":["{role}"]"#))
}

fn user(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

fn member(text: &str, role: MemberRole) -> NewMember {
    NewMember { user: user(text), role, groups: Vec::new(), email: None, name: None }
}

fn to(role: MemberRole) -> MemberChange {
    MemberChange { role: Some(role), ..MemberChange::default() }
}

async fn operators(world: &World) -> Session<Admin> {
    let acme = tenant("acme");
    world.engine.session(&world.operator, Select::Named(&acme)).await.unwrap()
}

#[tokio::test]
async fn a_token_is_taken_from_the_moment_its_subject_is_a_member() {
    let world = world().await;
    world.tenant("acme").await;
    // Issued after the tenant got its name.
    let owner = of("owner");
    let refused = world.engine.authenticate(Some(&owner)).await.unwrap_err();
    assert_eq!(refused.public_message(), "the token is not valid");
    let session = operators(&world).await;
    session.add_member(&member("login/alice", MemberRole::Member)).await.unwrap();
    let who = world.who(&owner).await;
    assert_eq!((who.role(), who.member_role()), (Role::Write, Some(MemberRole::Member)));
    assert_eq!(shown(world.try_session::<Admin>(&owner).await).0, ErrorKind::Denied);
    session.change_member(&user("login/alice"), &to(MemberRole::Owner)).await.unwrap();
    world.session::<Admin>(&owner).await.keys().await.unwrap();
    assert_eq!(world.who(&of("reader")).await.role(), Role::Read);
    session.add_member(&member("login/bob", MemberRole::Owner)).await.unwrap();
    // What was opened before ends, too.
    let held = world.session::<Admin>(&owner).await;
    session.remove_member(&user("login/alice")).await.unwrap();
    assert_eq!(shown(held.keys().await).0, ErrorKind::Unauthenticated);
    assert_eq!(shown(world.engine.authenticate(Some(&owner)).await).0, ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn a_name_that_was_given_again_has_no_members_of_before() {
    let world = world().await;
    world.tenant("acme").await;
    operators(&world).await.add_member(&member("login/alice", MemberRole::Owner)).await.unwrap();
    let owner = of("owner");
    world.who(&owner).await;
    world.operator().erase_tenant(&tenant("acme")).await.unwrap();
    // At the same moment, so that the token's time says nothing.
    world.tenant("acme").await;
    let refused = world.engine.authenticate(Some(&owner)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn the_log_says_who_changed_members_and_who_was_refused() {
    let world = world().await;
    let key = world.tenant("acme").await;
    let session = operators(&world).await;
    session.add_member(&member("login/bob", MemberRole::Owner)).await.unwrap();
    session.add_member(&member("login/alice", MemberRole::Admin)).await.unwrap();
    let alice = world.session::<Admin>(&of("owner")).await;
    alice.add_member(&member("login/carol", MemberRole::Member)).await.unwrap();
    let refused = alice.remove_member(&user("login/bob")).await;
    assert_eq!(shown(refused).0, ErrorKind::Denied);
    let log = world.session::<Admin>(&key).await.audit(0, 100).await.unwrap();
    let said = |action: &str, target: &str| {
        let found = log.iter().find(|one| one.event.action == action && one.event.target == target);
        let found = found.unwrap_or_else(|| panic!("{action} {target}: {log:?}"));
        let reason = found.bound.as_ref().map(|bound| bound.reason);
        (found.event.actor.clone(), found.event.outcome, reason)
    };
    let done = (AuditOutcome::Done, Some(AuditReason::None));
    let (actor, outcome, reason) = said("member.add", r#""login/carol" → member"#);
    assert_eq!((actor.as_str(), (outcome, reason)), ("user:login/alice", done));
    let (actor, outcome, reason) = said("member.remove", r#""login/bob""#);
    assert_eq!(actor, "user:login/alice");
    let refused = (AuditOutcome::Refused(ErrorKind::Denied), Some(AuditReason::Role));
    assert_eq!((outcome, reason), refused);
}

#[tokio::test]
async fn what_is_said_of_a_member_has_a_bound() {
    let world = world().await;
    let key = world.tenant("acme").await;
    let session = world.session::<Admin>(&key).await;
    let with = |email: Option<&str>, name: Option<&str>| NewMember {
        email: email.map(str::to_owned),
        name: name.map(str::to_owned),
        ..member("login/alice", MemberRole::Member)
    };
    let (long, longer) = ("x".repeat(255), "x".repeat(257));
    for bad in [
        with(Some(""), None),
        with(Some(&long), None),
        with(None, Some(&longer)),
        with(None, Some("a\nb")),
        member("nobody/alice", MemberRole::Member),
    ] {
        assert_eq!(shown(session.add_member(&bad).await).0, ErrorKind::Invalid, "{bad:?}");
    }
    session.add_member(&with(Some("alice@acme.example"), Some("Älice"))).await.unwrap();
    let change = MemberChange { name: Some(Some(longer)), ..MemberChange::default() };
    let refused = session.change_member(&user("login/alice"), &change).await;
    assert_eq!(shown(refused).0, ErrorKind::Invalid);
    assert_eq!(shown(session.members(None, 10_001).await).0, ErrorKind::Invalid);
}

#[tokio::test]
async fn a_copy_has_no_members() {
    let world = world().await;
    world.tenant("acme").await;
    operators(&world).await.add_member(&member("login/alice", MemberRole::Owner)).await.unwrap();
    let to = archive::NewTenant {
        name: tenant("copy"),
        isolation: None,
        location: None,
        keep_limits: false,
    };
    let importer = world.engine.importer(&world.operator).unwrap();
    importer.copy(&tenant("acme"), &to).await.unwrap();
    let copy = tenant("copy");
    let session: Session<Admin> =
        world.engine.session(&world.operator, Select::Named(&copy)).await.unwrap();
    assert_eq!(session.members(None, 10).await.unwrap(), []);
    assert_eq!(operators(&world).await.members(None, 10).await.unwrap().len(), 1);
}
