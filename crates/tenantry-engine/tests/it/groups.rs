//! Groups: what a guest's tokens get by them, and what is said of refusals.

use crate::{
    support::*,
    tokens::{spec as issuer, token},
};
use tenantry_engine::{
    token::{ClaimPath, Issuers, TenantBy},
    *,
};

fn name(text: &str) -> GroupName {
    GroupName::parse(text).unwrap()
}

fn on(one: &str, writes: bool) -> GrantNames {
    GrantNames {
        database: DatabaseName::default_database(),
        on: GrantOn::Collection(collection(one)),
        writes,
    }
}

/// The tenant `acme` with the collections `read`, `written` and `hidden`, and a key of it. Alice is a
/// guest who may do with the first two what they are called.
async fn world() -> (World, String) {
    let mut issuer = issuer(TenantBy::Name(ClaimPath::parse("org").unwrap()));
    issuer.claims.needs_member = true;
    let world = World::trusting(Issuers::new(vec![issuer]).unwrap()).await;
    let key = world.tenant("acme").await;
    for one in ["read", "written", "hidden"] {
        let of = |id: &str, of: &str| write(id).vector(&[1.0]).set("of", text(of));
        let records = vec![of("a", "alice"), of("b", "bob")];
        world.collection(&key, one).await.write(WriteMode::Upsert, records).await.unwrap();
    }
    let session = world.session::<Admin>(&key).await;
    session.add_group(&name("g"), &[on("read", false), on("written", true)]).await.unwrap();
    let guest = NewMember {
        user: UserName::parse("login/alice").unwrap(),
        role: MemberRole::Guest,
        groups: vec![name("g")],
        email: None,
        name: None,
    };
    session.add_member(&guest).await.unwrap();
    (world, key)
}

const ALICE: &str = r#""org":"acme","roles":["owner"]"#;

#[tokio::test]
async fn a_guest_that_may_only_read_is_refused_when_it_opens_and_the_log_says_so() {
    let (world, key) = world().await;
    let alice = token(ALICE);
    let database = world.database::<Write>(&alice).await;
    database.collection(&collection("written")).await.unwrap();
    let id = {
        let read = world.database::<Read>(&alice).await;
        read.collection(&collection("read")).await.unwrap().info().id
    };
    let listed = database.collections(Page::default()).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|one| &one.info().name).collect();
    assert_eq!(listed, [&collection("written")]);
    let refused = database.collection(&collection("read")).await;
    assert_eq!(shown(refused).0, ErrorKind::Denied);
    assert_eq!(shown(database.collection_by_id(id).await).0, ErrorKind::Denied);
    let session = world.session::<Write>(&alice).await;
    let default = DatabaseName::default_database();
    let opened = session.records_of(&default, Wanted::Id(id)).await;
    assert_eq!(shown(opened).0, ErrorKind::Denied);
    // What it may not read is what does not exist, to the last letter.
    let hidden = shown(database.collection(&collection("hidden")).await);
    let missing = shown(database.collection(&collection("absent")).await);
    assert_eq!((hidden.0, hidden.1.replace("hidden", "absent")), missing);
    let made = |one: &str| {
        let spec = spec(one);
        let database = &database;
        async move { shown(database.create_collection(&spec, true).await) }
    };
    let (hidden, absent) = (made("hidden").await, made("absent").await);
    assert_eq!((hidden.0, &hidden), (ErrorKind::Denied, &absent));
    assert_eq!(made("read").await.0, ErrorKind::Denied);
    assert!(!database.create_collection(&spec("written"), true).await.unwrap().1);

    let log = world.session::<Admin>(&key).await.audit(0, 100).await.unwrap();
    let said = |action: &str, target: &str| {
        let is_it = |one: &&AuditEntry| one.event.action == action && one.event.target == target;
        let found = log.iter().find(is_it);
        let found = found.unwrap_or_else(|| panic!("{action} {target}: {log:?}"));
        let reason = found.bound.as_ref().map(|bound| bound.reason);
        (found.event.actor.clone(), found.event.outcome, reason, found.event.count)
    };
    let refused = AuditOutcome::Refused(ErrorKind::Denied);
    let entry = |count| ("user:login/alice".to_owned(), refused, Some(AuditReason::Objects), count);
    assert_eq!(said("collection.open", "read"), entry(1));
    assert_eq!(said("collection.open", &id.to_string()), entry(2));
    assert_eq!(said("collection.create", "absent"), entry(1));
}

#[tokio::test]
async fn a_tokens_filter_stays_on_top_of_what_groups_give() {
    let (world, _) = world().await;
    let bound = token(r#""org":"acme","roles":["owner"],"only":"alice""#);
    let database = world.database::<Write>(&bound).await;
    let written = database.collection(&collection("written")).await.unwrap();
    assert_eq!(written.count(None).await.unwrap(), 1);
    let foreign = vec![write("c").vector(&[1.0]).set("of", text("bob"))];
    let refused = written.write(WriteMode::Upsert, foreign).await;
    assert_eq!(shown(refused).0, ErrorKind::Denied);
    let own = vec![write("c").vector(&[1.0]).set("of", text("alice"))];
    written.write(WriteMode::Upsert, own).await.unwrap();
    assert_eq!(shown(database.collection(&collection("hidden")).await).0, ErrorKind::NotFound);
    assert_eq!(shown(database.collection(&collection("read")).await).0, ErrorKind::Denied);
    // A role at its login narrows it, too.
    let reader = token(r#""org":"acme","roles":["reader"]"#);
    assert_eq!(shown(world.try_session::<Write>(&reader).await).0, ErrorKind::Denied);
    let read = world.database::<Read>(&reader).await;
    assert_eq!(read.count_collections().await.unwrap(), 2);
}

#[tokio::test]
async fn what_is_said_of_groups_has_a_bound_and_names_what_is_there() {
    let (world, key) = world().await;
    let session = world.session::<Admin>(&key).await;
    let many = vec![on("read", false); Limits::GROUP_GRANTS_MAX + 1];
    let refused = session.add_group(&name("new"), &many).await;
    assert_eq!(shown(refused).0, ErrorKind::Invalid);
    // Of two rights on one object the higher one counts.
    let made = session.add_group(&name("new"), &[on("read", false), on("read", true)]).await;
    assert!(matches!(made.unwrap().grants[..], [Grant { writes: true, .. }]));
    let gone = GroupUpdate { name: None, grants: Some(vec![on("absent", false)]) };
    let refused = shown(session.change_group(&name("new"), &gone).await);
    assert_eq!(refused.0, ErrorKind::NotFound);
    let groups = Some(vec![name("g"); Limits::MEMBER_GROUPS_MAX + 1]);
    let change = MemberChange { groups, ..MemberChange::default() };
    let alice = UserName::parse("login/alice").unwrap();
    let refused = session.change_member(&alice, &change).await;
    assert_eq!(shown(refused).0, ErrorKind::Invalid);
    let objects: Vec<_> =
        session.groups().await.unwrap()[0].grants.iter().map(|grant| grant.on).collect();
    let names = session.names_of(&objects).await.unwrap();
    let names: Vec<_> = names.values().filter_map(|(_, one)| one.as_ref()).collect();
    assert_eq!(names, [&collection("read"), &collection("written")]);
}

/// Whoever reads the log must not believe that something else was given than what was.
#[tokio::test]
async fn the_log_says_the_difference_and_no_name_forges_it() {
    let (world, key) = world().await;
    let evil = r#"x"; given write "finance"#;
    world.collection(&key, evil).await;
    let session = world.session::<Admin>(&key).await;
    let change = async |grants: Vec<GrantNames>| {
        let change = GroupUpdate { name: None, grants: Some(grants) };
        session.change_group(&name("g"), &change).await.unwrap();
    };
    change(vec![on("read", true), on(evil, false)]).await;
    change(vec![on("read", true), on(evil, false)]).await;
    let limited = limited_key(Role::Admin, AllowedSet::default());
    let (_, limited) = session.create_key(limited).await.unwrap();
    let limited = world.session::<Admin>(&limited).await;
    let refused = limited.remove_group(&name(r#"g": given write "all"#)).await;
    assert_eq!(shown(refused).0, ErrorKind::Denied);
    change(Vec::new()).await;
    change(vec![on("read", false)]).await;
    session.remove_group(&name("g")).await.unwrap();
    let log = session.audit(0, 100).await.unwrap();
    let of_groups = log.iter().filter(|one| one.event.action.starts_with("group."));
    let mut said: Vec<_> = of_groups.map(|one| one.event.target.as_str()).collect();
    let d = r#""default_database""#;
    let mut expected = vec![
        format!(r#""g": given write {d}/"written"; given read {d}/"read""#),
        format!(
            r#""g": given write {d}/"read"; given read {d}/"x\"; given write \"finance"; taken write {d}/"written"; taken read {d}/"read""#
        ),
        format!(r#""g": taken write {d}/"read"; taken read {d}/"x\"; given write \"finance""#),
        r#""g\": given write \"all""#.to_owned(),
        format!(r#""g": given read {d}/"read""#),
        format!(r#""g": taken read {d}/"read"; members "login/alice""#),
    ];
    said.sort_unstable();
    expected.sort_unstable();
    assert_eq!(said, expected);
}
