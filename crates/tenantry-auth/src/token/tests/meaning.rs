//! What genuine claims mean here.

use super::*;
use crate::TenantId;
use tenantry_types::{FieldTest, Filter, Value as Scalar};

fn who(issuers: &Issuers, changes: Value) -> Result<Claimed, String> {
    ask(issuers, &Signer::shared().token(&but(changes)), at(NOW))
}

#[track_caller]
fn not(issuers: &Issuers, changes: Value, says: &str) {
    refused(issuers, &Signer::shared().token(&but(changes)), says);
}

#[test]
fn a_token_holds_within_its_time() {
    let issuers = issuers(spec(shared()));
    // Clocks may differ by a minute.
    for good in [
        json!({ "exp": NOW - 59 }),
        json!({ "exp": f64::from(u32::MAX) + 0.5 }),
        json!({ "nbf": NOW + 60 }),
        json!({ "iat": NOW + 60 }),
        json!({ "exp": u64::MAX }),
    ] {
        who(&issuers, good).unwrap();
    }
    for (bad, says) in [
        (json!({ "exp": Value::Null }), "no exp"),
        (json!({ "exp": NOW - 60 }), "it has expired"),
        (json!({ "exp": 0 }), "it has expired"),
        (json!({ "nbf": NOW + 61 }), "not come"),
        (json!({ "iat": NOW + 61 }), "in the future"),
        // No time that cannot be read is taken for none.
        (json!({ "exp": "never" }), "times is none"),
        (json!({ "exp": (NOW + 600).to_string() }), "times is none"),
        (json!({ "nbf": "1" }), "times is none"),
        (json!({ "nbf": [1] }), "times is none"),
        (json!({ "exp": -1 }), "times is none"),
        (json!({ "iat": true }), "times is none"),
    ] {
        not(&issuers, bad, says);
    }
    let strict = IssuerSpec { skew: Duration::ZERO, ..spec(shared()) };
    not(&super::issuers(strict), json!({ "exp": NOW }), "it has expired");
}

#[test]
fn a_role_is_one_that_the_operator_knows() {
    let role = |split: bool, roles: Value| {
        let mut spec = spec(shared());
        spec.claims.roles_split = split;
        who(&issuers(spec), json!({ "roles": roles })).map(|who| who.role)
    };
    for (split, roles, expected) in [
        (false, json!("viewer"), Role::Read),
        (false, json!(["viewer", "owner", "guest"]), Role::Admin),
        (true, json!("openid viewer editor"), Role::Write),
        (true, json!(["openid", "a viewer"]), Role::Read),
    ] {
        assert_eq!(role(split, roles.clone()).unwrap(), expected, "{roles}");
    }
    for (split, roles) in [
        (false, json!("guest")),
        (false, json!("viewer editor")),
        (false, json!("Owner")),
        (false, json!("")),
        (false, json!([])),
        (false, json!(["owner", 1])),
        (false, json!({ "owner": true })),
        (false, json!(true)),
        (true, json!("owners own")),
        (false, Value::Null),
    ] {
        let said = role(split, roles.clone()).unwrap_err();
        assert!(said.contains("no role"), "{roles}: {said}");
    }
}

#[test]
fn claims_are_found_in_objects_and_under_names_with_dots() {
    let mut spec = spec(shared());
    spec.claims.roles = path("app_metadata.tenantry.roles");
    spec.claims.tenant =
        TenantBy::Id(ClaimPath::new(vec!["https://x.example/org".into()]).unwrap());
    let issuers = issuers(spec);
    let nested = json!({ "tenantry": { "roles": ["owner"] } });
    let who_is = who(&issuers, json!({ "app_metadata": nested, "https://x.example/org": "77" }));
    let who_is = who_is.unwrap();
    let named = Some(ClaimedTenant::Id(TenantId::new(77)));
    assert_eq!((who_is.role, who_is.tenant), (Role::Admin, named));
    let flat = json!({ "app_metadata.tenantry.roles": "owner", "https://x.example/org": 7 });
    not(&issuers, flat, "no role");
    for bad in ["", ".", "a.", "a..b", "a.b.c.d.e.f.g.h.i"] {
        ClaimPath::parse(bad).unwrap_err();
    }
}

#[test]
fn an_id_of_a_tenant_has_one_spelling() {
    let issuers = issuers(spec(shared()));
    for (org, id) in [(json!(5), 5), (json!("5"), 5), (json!(u64::MAX), u64::MAX)] {
        assert_eq!(
            who(&issuers, json!({ "org": org })).unwrap().tenant,
            Some(ClaimedTenant::Id(TenantId::new(id)))
        );
    }
    for org in [
        Value::Null,
        json!(0),
        json!("0"),
        json!("05"),
        json!("+5"),
        json!(" 5"),
        json!(""),
        json!(-5),
        json!(5.0),
        json!([5]),
        json!("acme"),
        json!("18446744073709551616"),
    ] {
        not(&issuers, json!({ "org": org }), "no tenant");
    }
}

#[test]
fn a_token_with_a_tenants_name_says_when_it_was_issued_and_holds_a_day_at_most() {
    let mut by_name = spec(shared());
    by_name.claims.tenant = TenantBy::Name(path("org"));
    let longer = IssuerSpec { lifetime_max: Some(Duration::from_secs(900_000)), ..by_name.clone() };
    let issuers = issuers(by_name);
    let named = who(&issuers, json!({ "org": "acme" })).unwrap().tenant;
    let name = tenantry_types::TenantName::parse("acme").unwrap();
    assert_eq!(named, Some(ClaimedTenant::Name(name, at(NOW - 10))));
    not(&issuers, json!({ "org": "acme", "iat": Value::Null }), "no iat");
    not(&issuers, json!({ "org": "acme", "exp": NOW + 86_400 }), "too long");
    who(&super::issuers(longer), json!({ "org": "acme", "exp": NOW + 86_400 })).unwrap();
    for org in [json!(5), json!(""), json!("a\u{0}"), json!(["acme"]), Value::Null] {
        not(&issuers, json!({ "org": org }), "no tenant");
    }
}

#[test]
fn a_subject_is_a_short_line_of_text() {
    let issuers = issuers(spec(shared()));
    let long = "x".repeat(255);
    for good in ["auth0|5f7", "a/b", "\u{e9}", &long] {
        let user = who(&issuers, json!({ "sub": good })).unwrap().user;
        assert_eq!(user.as_str(), format!("login/{good}"));
    }
    for bad in [
        Value::Null,
        json!(""),
        json!(5),
        json!("a\nb"),
        json!("\u{1b}[31m"),
        json!("a\u{85}b"),
        json!("x".repeat(256)),
    ] {
        not(&issuers, json!({ "sub": bad }), "no subject");
    }
}

#[test]
fn a_filter_that_is_there_must_be_one() {
    fn parse(value: &Value) -> Result<Filter, String> {
        let text = value.as_str().ok_or("no text")?;
        let test = FieldTest::Eq(Scalar::Str(text.to_owned()));
        Ok(Filter::Field { key: "owner".into(), test })
    }
    let with = |is_required| {
        let mut spec = spec(shared());
        spec.claims.filter = Some(FilterClaim { path: path("only"), is_required, parse });
        issuers(spec)
    };
    for is_required in [true, false] {
        let bound = who(&with(is_required), json!({ "only": "alice" })).unwrap().restriction;
        assert_eq!(bound.filter, Some(parse(&json!("alice")).unwrap()));
        not(&with(is_required), json!({ "only": 5 }), "filter");
    }
    not(&with(true), json!({}), "no filter");
    assert!(who(&with(false), json!({})).unwrap().restriction.is_none());
    // `null` is there.
    let mut null = claims();
    null["only"] = Value::Null;
    refused(&with(false), &Signer::shared().token(&null), "filter");
    // So is what should have held it.
    let mut nested = spec(shared());
    let only = path("app_metadata.only");
    nested.claims.filter = Some(FilterClaim { path: only, is_required: false, parse });
    let nested = issuers(nested);
    not(&nested, json!({ "app_metadata": "{\"only\":\"alice\"}" }), "lies in no object");
    not(&nested, json!({ "app_metadata": ["alice"] }), "lies in no object");
    assert!(who(&nested, json!({ "app_metadata": {} })).unwrap().restriction.is_none());
}

#[test]
fn an_issuer_that_is_described_wrongly_is_refused() {
    let good = || spec(shared());
    let mut no_levels = good();
    no_levels.claims.levels.clear();
    for (bad, says) in [
        (IssuerSpec { name: "a/b".into(), ..good() }, "name"),
        (IssuerSpec { name: String::new(), ..good() }, "name"),
        (IssuerSpec { name: "x".repeat(33), ..good() }, "name"),
        (IssuerSpec { iss: String::new(), ..good() }, "iss"),
        (IssuerSpec { audience: String::new(), ..good() }, "audience"),
        (IssuerSpec { skew: Duration::from_secs(301), ..good() }, "skew"),
        (spec(KeysOf::Secret(Zeroizing::new(vec![1; 31]))), "at least 32"),
        (no_levels, "levels"),
    ] {
        let (at, why) = Issuers::new(vec![bad]).unwrap_err();
        assert!(at == 0 && why.contains(says), "{why}");
    }
    let (at, why) = Issuers::new(vec![good(), good()]).unwrap_err();
    assert!(at == 1 && why.contains("another issuer"), "{why}");
    let namesake = IssuerSpec { audience: "there".into(), ..good() };
    Issuers::new(vec![good(), namesake]).unwrap_err();
}
