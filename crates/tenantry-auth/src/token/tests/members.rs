//! Tokens of an issuer whose tokens count for members only.

use super::*;
use crate::{
    Admin, Allowed, Authority, Credential, Grant, KeyDirectory, KeyId, KeyRow, Member, MemberId,
    MemberRights, MemberRole, Principal, Read, TenantId, UserName, Write,
};
use parking_lot::Mutex;
use std::sync::Arc;
use tenantry_types::{CollectionNumber, DatabaseNumber, Error, ErrorKind};

pub(super) const A: TenantId = TenantId::new(5);
pub(super) const B: TenantId = TenantId::new(6);

/// Two tenants, and the members of one of them, all in one group that gives this.
#[derive(Default)]
pub(super) struct Directory(Mutex<Vec<Member>>, Mutex<Vec<Grant>>);

impl Directory {
    fn add(&self, user: &str, role: MemberRole) {
        let (id, user) = (MemberId([1; 32]), UserName::parse(user).unwrap());
        let (created_at, changed_at) = (Timestamp(0), Timestamp(0));
        let (email, name, is_suspended, groups) = (None, None, false, Vec::new());
        let member =
            Member { id, user, role, is_suspended, groups, email, name, created_at, changed_at };
        self.0.lock().push(member);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Member>)) {
        change(&mut self.0.lock());
    }
}

impl KeyDirectory for Directory {
    async fn find_key(&self, _: KeyId) -> Result<Option<Arc<KeyRow>>, Error> {
        Ok(None)
    }

    async fn claimed_tenant(
        &self,
        claimed: &ClaimedTenant,
    ) -> Result<Option<(TenantId, Timestamp)>, Error> {
        let ClaimedTenant::Id(id) = claimed else { return Ok(None) };
        Ok([A, B].contains(id).then_some((*id, Timestamp(0))))
    }

    async fn find_member(
        &self,
        tenant: TenantId,
        user: &UserName,
    ) -> Result<Option<Arc<MemberRights>>, Error> {
        let members = self.0.lock();
        let found = members.iter().find(|one| tenant == A && one.user == *user);
        let given = self.1.lock().clone();
        Ok(found.map(|member| Arc::new(MemberRights::new(member.clone(), given))))
    }

    fn revocations(&self) -> u64 {
        0
    }
}

/// An authority with the issuer `login`, and another one of the same keys.
fn authority(levels: &[(&str, Role)]) -> Authority {
    let levels: BTreeMap<_, _> =
        levels.iter().map(|(word, role)| ((*word).to_owned(), *role)).collect();
    let of = |name: &str, iss: &str| {
        let mut spec = IssuerSpec { name: name.to_owned(), iss: iss.to_owned(), ..spec(shared()) };
        spec.claims.needs_member = true;
        spec.claims.levels.clone_from(&levels);
        spec
    };
    let all = vec![of("login", "https://login.example"), of("other", "https://other.example")];
    Authority::new().with_issuers(Issuers::new(all).unwrap())
}

const LEVELS: [(&str, Role); 3] =
    [("viewer", Role::Read), ("editor", Role::Write), ("owner", Role::Admin)];

pub(super) async fn who(
    authority: &Authority,
    directory: &Directory,
    changes: Value,
) -> Result<Principal, String> {
    let token = Signer::shared().token(&but(changes));
    let credential = Credential::parse(&token).unwrap();
    let who = authority.authenticate(credential, directory, at(NOW)).await;
    who.map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        error.public_message().to_owned()
    })
}

#[tokio::test]
async fn a_token_without_a_member_is_refused_as_one_that_nobody_has_signed() {
    let (authority, directory) = (authority(&LEVELS), Directory::default());
    directory.add("login/alice", MemberRole::Owner);
    assert!(who(&authority, &directory, json!({})).await.is_ok());
    for changes in [
        json!({ "sub": "bob" }),
        // The same subject, of another issuer.
        json!({ "iss": "https://other.example" }),
        // A member elsewhere.
        json!({ "org": 6 }),
        // No tenant at all.
        json!({ "org": 7 }),
    ] {
        let said = who(&authority, &directory, changes.clone()).await.unwrap_err();
        assert_eq!(said, "the token is not valid", "{changes}");
    }
    directory.change(|all| all[0].is_suspended = true);
    let said = who(&authority, &directory, json!({})).await.unwrap_err();
    assert_eq!(said, "the token is not valid");
    directory.change(Vec::clear);
    let said = who(&authority, &directory, json!({})).await.unwrap_err();
    assert_eq!(said, "the token is not valid");
}

#[tokio::test]
async fn a_token_narrows_what_its_member_may_and_never_widens_it() {
    use MemberRole::{Admin as RunsIt, Member as Works, Owner};
    let (authority, directory) = (authority(&LEVELS), Directory::default());
    directory.add("login/alice", Owner);
    for (role, word, gets) in [
        (Works, "viewer", Role::Read),
        (Works, "editor", Role::Write),
        (Works, "owner", Role::Write),
        (RunsIt, "viewer", Role::Read),
        (RunsIt, "owner", Role::Admin),
        (Owner, "editor", Role::Write),
        (Owner, "owner", Role::Admin),
    ] {
        directory.change(|all| all[0].role = role);
        let who = who(&authority, &directory, json!({ "roles": word })).await.unwrap();
        assert_eq!((who.role(), who.member_role()), (gets, Some(role)), "{role:?} {word}");
        assert_eq!(who.to_string(), "user:login/alice");
        let scopes = [
            authority.authorize::<Read>(&who, A, "a").is_ok(),
            authority.authorize::<Write>(&who, A, "a").is_ok(),
            authority.authorize::<Admin>(&who, A, "a").is_ok(),
        ];
        assert_eq!(scopes, [true, gets >= Role::Write, gets >= Role::Admin]);
    }
    let said = who(&authority, &directory, json!({ "roles": "guest" })).await.unwrap_err();
    assert!(said.contains("no role that is known here"), "{said}");
}

#[tokio::test]
async fn without_levels_the_members_role_alone_counts() {
    let (authority, directory) = (authority(&[]), Directory::default());
    directory.add("login/alice", MemberRole::Member);
    for roles in [json!("owner"), Value::Null] {
        let who = who(&authority, &directory, json!({ "roles": roles })).await.unwrap();
        assert_eq!(who.role(), Role::Write);
    }
}

#[tokio::test]
async fn who_manages_members_follows_from_who_acts() {
    use MemberRole::{Admin as RunsIt, Member as Works, Owner};
    let (authority, directory) = (authority(&[]), Directory::default());
    directory.add("login/alice", Owner);
    let manages = async |role| {
        directory.change(|all| all[0].role = role);
        let who = who(&authority, &directory, json!({})).await.unwrap();
        MemberRole::ALL.map(|other| who.standing().manages(other))
    };
    assert_eq!(manages(Owner).await, [true; 4]);
    assert_eq!(manages(RunsIt).await, [true, true, true, false]);
    assert_eq!(manages(Works).await, [false; 4]);
    assert_eq!(manages(MemberRole::Guest).await, [false; 4]);
    let operator = authority.local_operator();
    let operator = operator.standing();
    assert!(operator.manages(Owner) && operator.member().is_none());
}

const D: DatabaseNumber = DatabaseNumber(1);
const C: [CollectionNumber; 2] = [CollectionNumber(1), CollectionNumber(2)];

fn grant(on: Allowed, writes: bool) -> Grant {
    Grant { on, writes }
}

#[tokio::test]
async fn a_guest_has_what_its_groups_give_and_a_token_narrows_it() {
    let (authority, directory) = (authority(&LEVELS), Directory::default());
    directory.add("login/alice", MemberRole::Guest);
    let gives = |given: &[Grant]| *directory.1.lock() = given.to_vec();
    let (first, second) = (Allowed::Collection(D, C[0]), Allowed::Collection(D, C[1]));
    for (given, word, gets) in [
        (vec![], "owner", Role::Read),
        (vec![grant(first, false)], "owner", Role::Read),
        (vec![grant(first, false), grant(second, true)], "owner", Role::Write),
        (vec![grant(Allowed::Database(D), true)], "owner", Role::Write),
        (vec![grant(second, true)], "viewer", Role::Read),
    ] {
        gives(&given);
        let who = who(&authority, &directory, json!({ "roles": word })).await.unwrap();
        assert_eq!((who.role(), who.member_role()), (gets, Some(MemberRole::Guest)));
        assert!(authority.authorize::<Admin>(&who, A, "a").is_err());
        assert_eq!(authority.authorize::<Write>(&who, A, "a").is_ok(), gets == Role::Write);
        let read = authority.authorize::<Read>(&who, A, "a").unwrap();
        assert!(!read.restriction().is_none());
        let sees = |one| given.iter().any(|grant| grant.on == one);
        let all = sees(Allowed::Database(D));
        assert_eq!(read.reaches_collection(D, C[0]), all || sees(first));
        assert_eq!(read.reaches_collection(D, C[1]), all || sees(second));
    }
    gives(&[grant(first, false), grant(second, true)]);
    let guest = who(&authority, &directory, json!({ "roles": "owner" })).await.unwrap();
    let write = authority.authorize::<Write>(&guest, A, "a").unwrap();
    // It sees the first, and leaves it as it is.
    assert!(write.restriction().sees_collection(D, C[0]) && !write.reaches_collection(D, C[0]));
    assert!(write.reaches_collection(D, C[1]) && !write.names_collections(D));
    assert!(write.to_read().reaches_collection(D, C[0]));
    gives(&[grant(Allowed::Database(D), true)]);
    let guest = who(&authority, &directory, json!({ "roles": "owner" })).await.unwrap();
    assert!(authority.authorize::<Write>(&guest, A, "a").unwrap().names_collections(D));
}

#[tokio::test]
async fn a_guests_right_ends_when_less_is_given_and_not_when_more_is() {
    let (authority, directory) = (authority(&LEVELS), Directory::default());
    directory.add("login/alice", MemberRole::Guest);
    let one = Allowed::Collection(D, C[0]);
    *directory.1.lock() = vec![grant(one, true)];
    let guest = who(&authority, &directory, json!({ "roles": "owner" })).await.unwrap();
    let member = directory.0.lock()[0].clone();
    let as_role = |role| Member { role, ..member.clone() };
    let is_kept = |role, given: &[Grant]| {
        let now = MemberRights::new(as_role(role), given.to_vec());
        guest.standing().is_kept_by(&now)
    };
    let whole = Allowed::Database(D);
    for (given, expected) in [
        (vec![grant(one, true)], true),
        (vec![grant(one, true), grant(Allowed::Collection(D, C[1]), false)], true),
        (vec![grant(whole, true)], true),
        (vec![grant(whole, false)], false),
        (vec![grant(one, false)], false),
        (vec![], false),
    ] {
        assert_eq!(is_kept(MemberRole::Guest, &given), expected, "{given:?}");
        assert!(is_kept(MemberRole::Member, &given), "whom groups add nothing is not narrowed");
    }
    let suspended = Member { is_suspended: true, ..member.clone() };
    let suspended = MemberRights::new(suspended, [grant(one, true)]);
    assert!(!guest.standing().is_kept_by(&suspended));
    directory.change(|all| all[0].role = MemberRole::Member);
    let works = who(&authority, &directory, json!({ "roles": "owner" })).await.unwrap();
    assert!(works.restriction().is_none());
    let now = MemberRights::new(as_role(MemberRole::Guest), [grant(whole, true)]);
    assert!(!works.standing().is_kept_by(&now));
}
