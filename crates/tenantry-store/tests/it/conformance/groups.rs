//! Groups of members: what they give a guest, and when a right that came by one ends.

use super::{
    UPSERT, World,
    members::{join_all, kind, name, new, scope_of, user},
    record, spec,
};
use std::{collections::BTreeSet, sync::Arc};
use tenantry_auth::{
    Admin, Allowed, Grant, Group, GroupNumber, KeyDirectory as _, MemberRole, Read, Scope, Write,
};
use tenantry_store::{
    AuditEntry, CollectionRef, Granted, GroupChange, MemberChange, NewMember, ObjectNames, Store,
};
use tenantry_types::{
    CollectionChange, CollectionName, DatabaseNumber, ErrorKind, GetRequest, GroupName, Limits,
    Page, RecordId, Resource, Selector,
};

pub(crate) fn group(text: &str) -> GroupName {
    GroupName::parse(text).expect("a name")
}

pub(crate) fn gives(grants: &[Grant]) -> Granted {
    Granted { grants: grants.to_vec(), names: ObjectNames::new() }
}

fn instead(grants: &[Grant]) -> GroupChange {
    GroupChange { granted: Some(gives(grants)), name: None }
}

pub(crate) fn on(c: &CollectionRef, writes: bool) -> Grant {
    Grant { on: Allowed::Collection(c.info().database, c.info().number), writes }
}

/// A guest in these groups.
pub(crate) fn guest(who: &str, groups: &[&str]) -> NewMember {
    let groups = groups.iter().map(|text| group(text)).collect();
    NewMember { groups, ..new(who, MemberRole::Guest) }
}

fn in_groups(groups: &[&str]) -> MemberChange {
    let groups = groups.iter().map(|text| group(text)).collect();
    MemberChange { groups: Some(groups), ..MemberChange::default() }
}

impl World<'_> {
    async fn another(&self, scope: &Scope<Admin>, name: &str) -> CollectionRef {
        let database = self.database(scope).await;
        let made = self.store.create_collection(scope, &database, &spec(name), false).await;
        made.expect("a collection").0
    }
}

pub(super) async fn groups_come_and_go(w: &World<'_>) {
    let ((scope, c), other) = (w.collection("t").await, w.tenant("u").await);
    let store = w.store;
    let made = store.add_group(&scope, &group("b"), &gives(&[on(&c, false)])).await.unwrap();
    assert_eq!((made.number, made.grants.len()), (GroupNumber(1), 1));
    let refused = store.add_group(&scope, &group("b"), &gives(&[])).await;
    assert_eq!(kind(refused), ErrorKind::AlreadyExists);
    let first = store.add_group(&scope, &group("a"), &gives(&[])).await.unwrap();
    assert_eq!(first.number, GroupNumber(2));
    assert_eq!(store.groups(&scope).await.unwrap(), [first, made.clone()]);
    assert_eq!(store.group(&scope, &group("b")).await.unwrap(), made);
    // Another tenant has groups of its own, under numbers of its own.
    let there = store.add_group(&other, &group("b"), &gives(&[])).await.unwrap();
    assert_eq!(there.number, GroupNumber(1));
    let to = |name: &str| GroupChange { name: Some(group(name)), granted: None };
    let taken = store.change_group(&scope, &group("b"), &to("a")).await;
    assert_eq!(kind(taken), ErrorKind::AlreadyExists);
    let renamed = store.change_group(&scope, &group("b"), &to("c")).await.unwrap();
    assert_eq!((renamed.number, &renamed.grants), (made.number, &made.grants));
    let changed = store.change_group(&scope, &group("c"), &instead(&[on(&c, true)])).await.unwrap();
    assert_eq!((changed.name, changed.grants), (group("c"), vec![on(&c, true)]));
    store.add_member(&scope, &guest("login/bob", &["a", "c"])).await.unwrap();
    store.remove_group(&scope, &group("c"), &ObjectNames::new()).await.unwrap();
    store.remove_member(&scope, &user("login/bob")).await.unwrap();
    for missing in [
        store.remove_group(&scope, &group("c"), &ObjectNames::new()).await,
        store.group(&scope, &group("c")).await.map(drop),
        store.change_group(&scope, &group("c"), &instead(&[])).await.map(drop),
        store.group(&other, &group("a")).await.map(drop),
        // A member is in no group that does not exist here, whatever others have.
        store.add_member(&other, &guest("login/eve", &["a"])).await.map(drop),
    ] {
        let why = missing.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::NotFound);
        assert!(why.subject().is_some_and(|(what, _)| what == Resource::Group), "{why}");
    }
    assert!(store.members(&other, None, 9).await.unwrap().is_empty());
    // Both limits are the store's: what is remembered of a guest has a bound because of them.
    let many = gives(&vec![on(&c, false); Limits::GROUP_GRANTS_MAX + 1]);
    let names = ["a"; Limits::MEMBER_GROUPS_MAX + 1];
    let change = GroupChange { granted: Some(many.clone()), name: None };
    for refused in [
        store.add_group(&scope, &group("many"), &many).await.map(drop),
        store.change_group(&scope, &group("a"), &change).await.map(drop),
        store.add_member(&scope, &guest("login/many", &names)).await.map(drop),
        store.change_member(&scope, &user("login/many"), &in_groups(&names)).await.map(drop),
    ] {
        assert_eq!(kind(refused), ErrorKind::Invalid);
    }
    log_says_what_came_and_went(store, &scope).await;
    let limited = w.limited(&scope).await;
    for refused in [
        store.groups(&limited).await.map(drop),
        store.add_group(&limited, &group("new"), &gives(&[])).await.map(drop),
        store.remove_group(&limited, &group("a"), &ObjectNames::new()).await,
    ] {
        assert_eq!(kind(refused), ErrorKind::Denied);
    }
}

async fn log_says_what_came_and_went(store: &Store, scope: &Scope<Admin>) {
    let log = store.audit(scope, 0, 1_000).await.unwrap();
    for (action, target) in [
        ("group.add", r#""a": given nothing"#),
        ("group.add", r#""b": given read collection 1 of database 1"#),
        ("group.change", r#""b" → "c""#),
        (
            "group.change",
            r#""c": given write collection 1 of database 1; taken read collection 1 of database 1"#,
        ),
        ("group.remove", r#""c": taken write collection 1 of database 1; members "login/bob""#),
        ("member.remove", r#""login/bob": guest, groups "a""#),
    ] {
        let said =
            log.iter().filter(|one| one.event.action == action && one.event.target == target);
        assert_eq!(said.count(), 1, "{action} {target}");
    }
}

pub(super) async fn groups_have_one_name_and_a_bound(w: &World<'_>) {
    let (scope, store) = (w.tenant("t").await, w.store);
    let race = (0..8).map(|_| async {
        store.add_group(&scope, &group("race"), &gives(&[])).await.map_err(|why| why.kind())
    });
    let outcomes = join_all(race).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(
        outcomes
            .iter()
            .filter_map(|one| one.as_ref().err())
            .all(|why| *why == ErrorKind::AlreadyExists)
    );
    for n in 0.. {
        match store.add_group(&scope, &group(&format!("n{n}")), &gives(&[])).await {
            Ok(_) => {}
            Err(why) => {
                assert_eq!((n + 1, why.kind()), (Limits::GROUPS_MAX, ErrorKind::LimitExceeded));
                break;
            }
        }
    }
    let all = store.groups(&scope).await.unwrap();
    let numbers: BTreeSet<_> = all.iter().map(|group| group.number).collect();
    assert_eq!((all.len(), numbers.len()), (Limits::GROUPS_MAX, Limits::GROUPS_MAX));
    let last = numbers.last().copied().unwrap();
    store.remove_group(&scope, &group("n7"), &ObjectNames::new()).await.unwrap();
    let made = store.add_group(&scope, &group("n7"), &gives(&[])).await.unwrap();
    assert!(made.number > last, "a number is never given again");
}

/// What a scope for writing may do with a collection, as far as the store lets it.
async fn written(w: &World<'_>, scope: &Scope<Write>, c: &CollectionRef) -> Vec<Option<ErrorKind>> {
    let store = w.store;
    let records = vec![record("a", 1.0, &[])];
    let none = RecordId::parse("none").expect("an id");
    let select = Selector { ids: Some(vec![none]), filter: None };
    let change = CollectionChange { metadata: Some(None), ..CollectionChange::default() };
    let database = w.database(&w.scope(scope.tenant())).await;
    let id = c.info().id;
    let outcomes = [
        store.write(scope, c, UPSERT, records).await.map(drop),
        store.delete(scope, c, &select, None).await.map(drop),
        store.change_collection(scope, c, &change).await.map(drop),
        store.collection(scope, &database, &c.info().name).await.map(drop),
        store.collection_by_id(scope, &database, id).await.map(drop),
        store
            .create_collection(scope, &database, &spec(c.info().name.as_str()), true)
            .await
            .map(drop),
    ];
    outcomes.into_iter().map(|one| one.err().map(|why| why.kind())).collect()
}

pub(super) async fn a_guest_reaches_what_its_groups_give(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    let (id, store) = (admin.tenant(), w.store);
    let (d, hidden) = (w.another(&admin, "d").await, w.another(&admin, "hidden").await);
    let database = w.database(&admin).await;
    for one in [&c, &d, &hidden] {
        store.write(&admin, one, UPSERT, vec![record("r", 1.0, &[])]).await.unwrap();
    }
    store.add_group(&admin, &group("readers"), &gives(&[on(&c, false)])).await.unwrap();
    store.add_group(&admin, &group("writers"), &gives(&[on(&d, true)])).await.unwrap();
    // Without a group it enters, and sees nothing.
    store.add_member(&admin, &guest("login/eve", &[])).await.unwrap();
    let nobody: Scope<Read> = scope_of(w, "eve", id).await.unwrap();
    assert!(store.databases(&nobody, Page::default()).await.unwrap().is_empty());
    assert_eq!(store.own_groups(&nobody).await.unwrap(), []);
    assert_eq!(kind(store.get(&nobody, &c, &GetRequest::default()).await), ErrorKind::NotFound);
    assert_eq!(kind(scope_of::<Write>(w, "eve", id).await), ErrorKind::Denied);
    let change = in_groups(&["writers", "readers", "readers"]);
    let changed = store.change_member(&admin, &user("login/eve"), &change).await.unwrap();
    assert_eq!(changed.groups.len(), 2);
    let read: Scope<Read> = scope_of(w, "eve", id).await.unwrap();
    assert_eq!(store.own_groups(&read).await.unwrap(), [group("readers"), group("writers")]);
    assert_eq!(store.databases(&read, Page::default()).await.unwrap().len(), 1);
    let seen = store.collections(&read, &database, Page::default()).await.unwrap();
    let seen: Vec<_> = seen.iter().map(|one| one.info().name.as_str()).collect();
    assert_eq!(
        (seen, store.count_collections(&read, &database).await.unwrap()),
        (vec!["c", "d"], 2)
    );
    for one in [&c, &d] {
        let got = store.get(&read, one, &GetRequest::default()).await.unwrap().value;
        assert_eq!(got.len(), 1);
    }
    let name = CollectionName::parse("hidden").unwrap();
    for missing in [
        store.get(&read, &hidden, &GetRequest::default()).await.map(drop),
        store.collection(&read, &database, &name).await.map(drop),
        store.collection_by_id(&read, &database, hidden.info().id).await.map(drop),
    ] {
        assert_eq!(kind(missing), ErrorKind::NotFound);
    }
    assert_eq!(kind(scope_of::<Admin>(w, "eve", id).await), ErrorKind::Denied);
    let write: Scope<Write> = scope_of(w, "eve", id).await.unwrap();
    // What it opens for writing is what it may write.
    let listed = store.collections(&write, &database, Page::default()).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|one| one.info().name.as_str()).collect();
    let count = store.count_collections(&write, &database).await.unwrap();
    assert_eq!((listed, count), (vec!["d"], 1));
    assert_eq!(written(w, &write, &d).await, [None; 6]);
    assert_eq!(written(w, &write, &c).await, [Some(ErrorKind::Denied); 6]);
    assert_eq!(kind(store.delete_collection(&write, &c).await), ErrorKind::Denied);
    let mut expected = [Some(ErrorKind::NotFound); 6];
    // As of a name that nobody has.
    expected[5] = Some(ErrorKind::Denied);
    assert_eq!(written(w, &write, &hidden).await, expected);
    let rename = CollectionChange { name: Some(name), ..CollectionChange::default() };
    assert_eq!(kind(store.change_collection(&write, &d, &rename).await), ErrorKind::Denied);
    let new = store.create_collection(&write, &database, &spec("new"), false).await;
    assert_eq!(kind(new), ErrorKind::Denied);
    store.delete_collection(&write, &d).await.unwrap();
    // Its namesake is another one.
    let d = w.another(&admin, "d").await;
    assert_eq!(kind(store.get(&read, &d, &GetRequest::default()).await), ErrorKind::NotFound);
    let log = store.audit(&admin, 0, 1_000).await.unwrap();
    for (action, target) in [
        ("member.add", r#""login/eve" → guest"#),
        ("member.groups", r#""login/eve": groups "readers", "writers""#),
    ] {
        let said =
            log.iter().filter(|one| one.event.action == action && one.event.target == target);
        assert_eq!(said.count(), 1, "{action} {target}");
    }
}

pub(super) async fn objects_have_their_present_names(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    let (store, d) = (w.store, w.another(&admin, "d").await);
    let names = store.names_of(&admin, &[on(&c, true).on, on(&d, true).on]).await.unwrap();
    assert_eq!(names.len(), 2);
    // More than are read at once, and asked for by many at once.
    let mut many = Vec::new();
    for n in 0..40 {
        many.push(on(&w.another(&admin, &format!("many{n}")).await, true).on);
    }
    for names in join_all((0..8).map(|_| store.names_of(&admin, &many))).await {
        let names: BTreeSet<_> = names.unwrap().into_values().filter_map(|(_, one)| one).collect();
        assert_eq!(names.len(), many.len());
    }
    let gone = Allowed::Database(DatabaseNumber(77));
    assert!(store.names_of(&admin, &[gone]).await.unwrap().is_empty());
    // Whoever is limited is told of what it sees, and of nothing else.
    let of_guest = [on(&c, false).on];
    store.add_group(&admin, &group("g"), &gives(&[on(&c, false)])).await.unwrap();
    store.add_member(&admin, &guest("login/eve", &["g"])).await.unwrap();
    let scope: Scope<Read> = scope_of(w, "eve", admin.tenant()).await.unwrap();
    let names = store.names_of(&scope, &[on(&c, false).on, on(&d, false).on]).await.unwrap();
    assert_eq!(names.into_keys().collect::<Vec<_>>(), of_guest);
}

pub(super) async fn groups_add_nothing_to_whoever_has_a_role(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    let (id, store) = (admin.tenant(), w.store);
    store.add_group(&admin, &group("readers"), &gives(&[])).await.unwrap();
    store.add_member(&admin, &guest("login/eve", &["readers"])).await.unwrap();
    let write = scope_of::<Write>(w, "eve", id).await;
    assert_eq!(kind(write), ErrorKind::Denied);
    let as_member = MemberChange { role: Some(MemberRole::Member), ..MemberChange::default() };
    let member = store.change_member(&admin, &user("login/eve"), &as_member).await.unwrap();
    assert_eq!(member.groups.len(), 1);
    let write: Scope<Write> = scope_of(w, "eve", id).await.unwrap();
    assert!(write.restriction().is_none());
    assert_eq!(written(w, &write, &c).await, [None; 6]);
    let log = store.audit(&admin, 0, 1_000).await.unwrap();
    let said = |one: &&AuditEntry| {
        one.event.action == "member.role" && one.event.target == r#""login/eve": guest → member"#
    };
    assert_eq!(log.iter().filter(said).count(), 1);
}

pub(super) async fn whoever_may_write_a_database_makes_collections_in_it(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    let (id, store) = (admin.tenant(), w.store);
    let database = w.database(&admin).await;
    let all = Allowed::Database(database.info().number);
    let reads = Grant { on: all, writes: false };
    store.add_group(&admin, &group("all"), &gives(&[reads, on(&c, true)])).await.unwrap();
    store.add_member(&admin, &guest("login/eve", &["all"])).await.unwrap();
    let scope: Scope<Write> = scope_of(w, "eve", id).await.unwrap();
    let made = store.create_collection(&scope, &database, &spec("new"), false).await;
    assert_eq!(kind(made), ErrorKind::Denied);
    assert_eq!(written(w, &scope, &c).await, [None; 6]);
    let later = w.another(&admin, "later").await;
    assert_eq!(written(w, &scope, &later).await, [Some(ErrorKind::Denied); 6]);
    store.get(&scope.to_read(), &later, &GetRequest::default()).await.unwrap();
    let writes = instead(&[Grant { on: all, writes: true }]);
    store.change_group(&admin, &group("all"), &writes).await.unwrap();
    let scope: Scope<Write> = scope_of(w, "eve", id).await.unwrap();
    let (made, is_new) =
        store.create_collection(&scope, &database, &spec("new"), false).await.unwrap();
    assert!(is_new);
    let name = CollectionName::parse("newer").unwrap();
    let rename = CollectionChange { name: Some(name), ..CollectionChange::default() };
    let made = store.change_collection(&scope, &made, &rename).await.unwrap();
    assert_eq!(written(w, &scope, &made).await, [None; 6]);
    assert_eq!(written(w, &scope, &later).await, [None; 6]);
}

pub(super) async fn a_guests_right_ends_with_what_gave_it(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    let d = w.another(&admin, "d").await;
    let (id, store, eve) = (admin.tenant(), w.store, user("login/eve"));
    store.add_group(&admin, &group("a"), &gives(&[on(&c, true)])).await.unwrap();
    store.add_group(&admin, &group("b"), &gives(&[on(&d, false)])).await.unwrap();
    store.add_member(&admin, &guest("login/eve", &["a"])).await.unwrap();
    let scope = async || scope_of::<Write>(w, "eve", id).await.unwrap();
    let write = async |scope: &Scope<Write>| {
        let done = store.write(scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await;
        done.err().map(|why| why.kind())
    };
    let ended = Some(ErrorKind::Unauthenticated);
    // Remembered with what it may, until that changes.
    let found = async || store.find_member(id, &eve).await.unwrap().unwrap();
    let first = found().await;
    assert!(Arc::ptr_eq(&first, &found().await));
    let held = scope().await;
    assert_eq!(write(&held).await, None);
    // What is added ends nothing, and counts for whoever comes next.
    store
        .change_group(&admin, &group("a"), &instead(&[on(&c, true), on(&d, false)]))
        .await
        .unwrap();
    assert_ne!(first, found().await);
    assert_eq!(write(&held).await, None);
    assert_eq!(kind(store.get(&held, &d, &GetRequest::default()).await), ErrorKind::NotFound);
    let held = scope().await;
    store.get(&held.to_read(), &d, &GetRequest::default()).await.unwrap();
    // It is given by another group, and taken by this one.
    store.change_member(&admin, &eve, &in_groups(&["a", "b"])).await.unwrap();
    store.change_group(&admin, &group("a"), &instead(&[on(&c, true)])).await.unwrap();
    assert_eq!(write(&held).await, None);
    for change in [vec![on(&c, false)], vec![]] {
        let held = scope().await;
        store.change_group(&admin, &group("a"), &instead(&change)).await.unwrap();
        assert_eq!(write(&held).await, ended);
        let read = store.get(&held.to_read(), &d, &GetRequest::default()).await;
        assert_eq!(kind(read), ErrorKind::Unauthenticated);
        store.change_group(&admin, &group("a"), &instead(&[on(&c, true)])).await.unwrap();
    }
    let held = scope().await;
    // A name is no right.
    let rename = GroupChange { name: Some(group("z")), granted: None };
    store.change_group(&admin, &group("a"), &rename).await.unwrap();
    assert_eq!(write(&held).await, None);
    store.change_member(&admin, &eve, &in_groups(&["b"])).await.unwrap();
    assert_eq!(write(&held).await, ended);
    assert_eq!(kind(scope_of::<Write>(w, "eve", id).await), ErrorKind::Denied);
    store.change_member(&admin, &eve, &in_groups(&["z"])).await.unwrap();
    let held = scope().await;
    store.remove_group(&admin, &group("z"), &ObjectNames::new()).await.unwrap();
    assert_eq!(write(&held).await, ended);
    let read: Scope<Read> = scope_of(w, "eve", id).await.unwrap();
    assert!(store.databases(&read, Page::default()).await.unwrap().is_empty());
}

pub(super) async fn a_group_that_is_made_anew_has_no_members(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    let (id, store) = (admin.tenant(), w.store);
    let make = async || -> Group {
        store.add_group(&admin, &group("a"), &gives(&[on(&c, true)])).await.unwrap()
    };
    let first = make().await;
    store.add_member(&admin, &guest("login/eve", &["a"])).await.unwrap();
    scope_of::<Write>(w, "eve", id).await.unwrap();
    store.remove_group(&admin, &group("a"), &ObjectNames::new()).await.unwrap();
    let second = make().await;
    assert_ne!(first.number, second.number);
    let read: Scope<Read> = scope_of(w, "eve", id).await.unwrap();
    assert_eq!(store.own_groups(&read).await.unwrap(), []);
    assert_eq!(kind(store.get(&read, &c, &GetRequest::default()).await), ErrorKind::NotFound);
    // Not even after a change of something else.
    let named = MemberChange { name: Some(Some("Eve".into())), ..MemberChange::default() };
    store.change_member(&admin, &user("login/eve"), &named).await.unwrap();
    assert_eq!(kind(scope_of::<Write>(w, "eve", id).await), ErrorKind::Denied);
    store.change_member(&admin, &user("login/eve"), &in_groups(&["a"])).await.unwrap();
    scope_of::<Write>(w, "eve", id).await.unwrap();
}

/// Whatever happens at the same time, nobody is left out without a word, and nobody is listed who was
/// not in it.
pub(super) async fn the_log_says_who_was_in_a_group(w: &World<'_>) {
    let (scope, store) = (w.tenant("t").await, w.store);
    let (eve, names) = (user("login/eve"), ObjectNames::new());
    store.add_member(&scope, &guest("login/eve", &[])).await.unwrap();
    for n in 0..16 {
        let text = format!("g{n}");
        let (name, change) = (group(&text), in_groups(&[text.as_str()]));
        store.add_group(&scope, &name, &gives(&[])).await.unwrap();
        let (changed, removed) = tokio::join!(
            Box::pin(store.change_member(&scope, &eve, &change)),
            Box::pin(store.remove_group(&scope, &name, &names)),
        );
        removed.unwrap();
        let log = store.audit(&scope, 0, 1_000).await.unwrap();
        let quoted = format!("{text:?}");
        let mut targets = log.iter().filter_map(|one| {
            (one.event.action == "group.remove").then_some(one.event.target.as_str())
        });
        let said = targets.find(|target| target.starts_with(&quoted)).unwrap();
        let expected = match changed {
            Ok(_) => vec![
                format!(r#"{quoted}: members "login/eve""#),
                format!("{quoted}: members not listed"),
            ],
            Err(why) => {
                // The group was gone before, and nothing has changed.
                assert_eq!(why.kind(), ErrorKind::NotFound);
                vec![quoted.clone()]
            }
        };
        assert!(expected.iter().any(|one| one == said), "{said}");
    }
}

pub(super) async fn groups_go_with_their_tenant(w: &World<'_>) {
    let ((scope, c), other) = (w.collection("t").await, w.tenant("u").await);
    for n in 0..3 {
        let name = group(&format!("g{n}"));
        w.store.add_group(&scope, &name, &gives(&[on(&c, false)])).await.unwrap();
        w.store.add_group(&other, &name, &gives(&[])).await.unwrap();
    }
    w.store.add_member(&scope, &guest("login/eve", &["g1"])).await.unwrap();
    w.store.delete_tenant(&w.operator, &name("t")).await.unwrap();
    assert_eq!(w.store.groups(&other).await.unwrap().len(), 3);
    let again = w.tenant("t").await;
    assert!(w.store.groups(&again).await.unwrap().is_empty());
    let made = w.store.add_group(&again, &group("g1"), &gives(&[])).await.unwrap();
    assert_eq!(made.number, GroupNumber(1));
}
