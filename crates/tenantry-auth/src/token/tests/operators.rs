//! Tokens that make operators.

use super::{
    members::{A, B, Directory, who},
    *,
};
use crate::{Admin, Authority, Credential, MemberRole, Read, TenantId};
use tenantry_types::{Error, ErrorKind, FieldTest, Filter, Value as Scalar};

const STAFF: &str = "cross_tenant_admin";

/// An authority whose one issuer says this of itself, and that it makes operators.
fn authority(change: impl FnOnce(&mut IssuerSpec)) -> Authority {
    let mut spec = spec(shared());
    spec.claims.operator_roles = [STAFF.to_owned()].into();
    change(&mut spec);
    Authority::new().with_issuers(issuers(spec))
}

fn staff() -> Value {
    json!({ "org": Value::Null, "roles": ["guest", STAFF] })
}

fn kind<T>(outcome: Result<T, Error>) -> Result<(), ErrorKind> {
    outcome.map(drop).map_err(|error| error.kind())
}

#[tokio::test]
async fn whoever_has_the_role_acts_in_every_tenant_and_manages_nothing() {
    let (authority, directory) = (authority(|_| {}), Directory::default());
    let who = who(&authority, &directory, staff()).await.unwrap();
    assert!(who.is_operator() && who.may_act_as() && who.is_user() && !who.may_manage());
    assert_eq!((who.to_string(), who.role()), ("operator:login/alice".into(), Role::Admin));
    assert_eq!((who.tenant(), who.bound_to(), who.key()), (None, None, None));
    for tenant in [A, B] {
        let scope = authority.authorize::<Admin>(&who, tenant, "a").unwrap();
        assert!(scope.standing().is_operator() && scope.standing().manages(MemberRole::Owner));
        assert!(!scope.standing().may_manage());
        assert_eq!(scope.actor(), "operator:login/alice");
    }
    let installation = authority.authorize::<Read>(&who, TenantId::INSTALLATION, "a");
    assert_eq!(kind(installation), Err(ErrorKind::NotFound));
    assert_eq!(kind(authority.authorize_operator(&who)), Err(ErrorKind::Denied));
    // It ends as every token does.
    assert!(who.standing().is_expired(at(NOW + 660)) && !who.standing().is_expired(at(NOW + 659)));
}

#[tokio::test]
async fn a_tenant_in_the_token_limits_it_also_one_that_cannot_be_read() {
    let (authority, directory) = (authority(|_| {}), Directory::default());
    let of = async |org: Value| {
        let mut claims = but(staff());
        claims["org"] = org;
        let credential = Credential::parse(&Signer::shared().token(&claims)).unwrap();
        let who = authority.authenticate(credential, &directory, at(NOW)).await;
        who.map_err(|error| error.public_message().to_owned())
    };
    let who = of(json!(5)).await.unwrap();
    assert!(who.is_operator() && who.bound_to() == Some(A) && who.tenant().is_none());
    assert_eq!(kind(authority.authorize::<Admin>(&who, A, "a")), Ok(()));
    assert_eq!(kind(authority.authorize::<Read>(&who, B, "b")), Err(ErrorKind::NotFound));
    assert_eq!(of(json!(7)).await.unwrap_err(), "the token is not valid");
    for bad in [Value::Null, json!(""), json!(0), json!("acme"), json!([5, 6])] {
        let said = of(bad.clone()).await.unwrap_err();
        assert!(said.contains("it names no tenant"), "{bad}: {said}");
    }
}

#[tokio::test]
async fn a_claim_that_limits_and_lies_in_no_object_makes_a_token_invalid() {
    fn parse(_: &Value) -> Result<Filter, String> {
        Err("never asked".into())
    }
    let directory = Directory::default();
    let nested = authority(|spec| {
        spec.claims.tenant = TenantBy::Id(path("app_metadata.of.tenant"));
        spec.claims.filter =
            Some(FilterClaim { path: path("bound.only"), is_required: false, parse });
    });
    let of = async |name: &str, value: &Value| {
        let mut claims = but(staff());
        claims[name] = value.clone();
        let credential = Credential::parse(&Signer::shared().token(&claims)).unwrap();
        let who = nested.authenticate(credential, &directory, at(NOW)).await;
        who.map_err(|error| error.public_message().to_owned())
    };
    for bad in [Value::Null, json!("{\"tenant\":5}"), json!([{ "tenant": 5 }]), json!(5)] {
        for (name, value) in [
            ("app_metadata", bad.clone()),
            ("app_metadata", json!({ "of": bad.clone() })),
            ("bound", bad.clone()),
        ] {
            let said = of(name, &value).await.unwrap_err();
            assert!(said.contains("lies in no object"), "{name} {value}: {said}");
        }
    }
    let limited = of("app_metadata", &json!({ "of": { "tenant": 5 } })).await.unwrap();
    assert_eq!(limited.bound_to(), Some(A));
    for none in [json!({}), json!({ "of": {} })] {
        assert_eq!(of("app_metadata", &none).await.unwrap().bound_to(), None, "{none}");
    }
}

#[tokio::test]
async fn no_word_counts_that_the_issuer_does_not_list() {
    let directory = Directory::default();
    let none = authority(|spec| spec.claims.operator_roles.clear());
    let said = who(&none, &directory, staff()).await.unwrap_err();
    assert!(said.contains("it names no tenant"), "{said}");
    let with_tenant = json!({ "roles": STAFF });
    let said = who(&none, &directory, with_tenant).await.unwrap_err();
    assert!(said.contains("no role that is known here"), "{said}");
    let some = authority(|_| {});
    for (roles, is_known) in [("cross_tenant_boss", false), ("viewer", true)] {
        let nowhere = json!({ "org": Value::Null, "roles": roles });
        let said = who(&some, &directory, nowhere).await.unwrap_err();
        assert!(said.contains("it names no tenant"), "{roles}: {said}");
        assert_eq!(said.contains("no role that is known here"), !is_known, "{roles}: {said}");
    }
    for roles in [
        json!("Cross_Tenant_Admin"),
        json!("openid cross_tenant_admin"),
        json!([STAFF, 1]),
        json!({ STAFF: true }),
        json!([[STAFF]]),
    ] {
        let said = who(&some, &directory, json!({ "roles": roles.clone() })).await.unwrap_err();
        assert!(said.contains("no role that is known here"), "{roles}: {said}");
    }
    // A tenant's role is not raised, whatever else its token says.
    for role in ["viewer", "owner"] {
        let who = who(&some, &directory, json!({ "roles": role, "operator": true })).await.unwrap();
        assert!(!who.is_operator() && who.tenant() == Some(A), "{role}");
    }
    let split = authority(|spec| spec.claims.roles_split = true);
    let roles = json!({ "org": Value::Null, "roles": "openid cross_tenant_admin" });
    assert!(who(&split, &directory, roles).await.unwrap().is_operator());
    // What a list has is one role, whatever somebody has called it.
    let roles = json!({ "roles": ["viewer", "openid cross_tenant_admin"] });
    assert!(!who(&split, &directory, roles).await.unwrap().is_operator());
}

#[tokio::test]
async fn what_is_remembered_of_a_token_is_no_role() {
    let (authority, directory) = (authority(|_| {}), Directory::default());
    let viewer = json!({ "roles": "viewer" });
    for _ in 0..3 {
        let operator = who(&authority, &directory, staff()).await.unwrap();
        let reader = who(&authority, &directory, viewer.clone()).await.unwrap();
        let limited = who(&authority, &directory, json!({ "roles": STAFF })).await.unwrap();
        assert!(operator.is_operator() && operator.bound_to().is_none());
        assert_eq!((reader.is_operator(), reader.role()), (false, Role::Read));
        assert_eq!((limited.is_operator(), limited.bound_to()), (true, Some(A)));
    }
}

#[tokio::test]
async fn an_operator_is_no_member_and_the_others_still_must_be() {
    let authority = authority(|spec| spec.claims.needs_member = true);
    let directory = Directory::default();
    let operator = who(&authority, &directory, staff()).await.unwrap();
    assert!(operator.is_operator() && operator.member_role().is_none());
    let said = who(&authority, &directory, json!({ "roles": "owner" })).await.unwrap_err();
    assert_eq!(said, "the token is not valid");
}

#[tokio::test]
async fn such_a_token_holds_a_day_at_most_unless_something_else_is_said() {
    let directory = Directory::default();
    let long = json!({ "org": Value::Null, "roles": STAFF, "exp": NOW + 86_400 });
    let said = who(&authority(|_| {}), &directory, long.clone()).await.unwrap_err();
    assert!(said.contains("it holds for too long"), "{said}");
    let undated = json!({ "org": Value::Null, "roles": STAFF, "iat": Value::Null });
    let said = who(&authority(|_| {}), &directory, undated).await.unwrap_err();
    assert!(said.contains("it has no iat"), "{said}");
    let longer = authority(|spec| spec.lifetime_max = Some(Duration::from_secs(900_000)));
    assert!(who(&longer, &directory, long).await.unwrap().is_operator());
}

#[tokio::test]
async fn operators_are_bound_to_no_records() {
    #[expect(clippy::unnecessary_wraps, reason = "as a reader of filters does")]
    fn parse(_: &Value) -> Result<Filter, String> {
        let test = FieldTest::Eq(Scalar::Str("alice".into()));
        Ok(Filter::Field { key: "owner".into(), test })
    }
    let authority = authority(|spec| {
        spec.claims.filter = Some(FilterClaim { path: path("only"), is_required: true, parse });
    });
    let directory = Directory::default();
    assert!(who(&authority, &directory, staff()).await.unwrap().restriction().is_none());
    let bound = json!({ "org": Value::Null, "roles": STAFF, "only": "alice" });
    let said = who(&authority, &directory, bound).await.unwrap_err();
    assert!(said.contains("an operator's and has a filter"), "{said}");
    let said = who(&authority, &directory, json!({ "roles": "owner" })).await.unwrap_err();
    assert!(said.contains("it has no filter"), "{said}");
}

#[test]
fn words_of_operators_are_none_of_tenants() {
    for word in ["", " ", "owner"] {
        let mut spec = spec(shared());
        spec.claims.operator_roles = [STAFF.to_owned(), word.to_owned()].into();
        let (_, why) = Issuers::new(vec![spec]).unwrap_err();
        assert!(why.contains("operator_roles"), "{why}");
    }
    // An issuer of operators alone.
    let mut alone = spec(shared());
    alone.claims.levels.clear();
    alone.claims.operator_roles = [STAFF.to_owned()].into();
    Issuers::new(vec![alone]).unwrap();
}
