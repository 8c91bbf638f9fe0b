//! Which key of which set, and what is remembered of it.

use super::*;

fn fetched(iss: &str) -> Issuers {
    let from = KeysFrom::Url("https://login.example/keys".into());
    let keys = KeysOf::Fetched(from, Duration::from_secs(600));
    issuers(IssuerSpec { iss: iss.into(), ..spec(keys) })
}

fn text(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

#[test]
fn among_several_keys_one_is_named() {
    let (a, b) = (Signer::ed25519(), Signer::p256());
    let issuers = issuers(spec(set(&[a.jwk("a"), b.jwk("b")])));
    let with = |signer: &Signer, id: &str| {
        signer.token_with(json!({ "alg": signer.algorithm(), "kid": id }), &claims())
    };
    ask(&issuers, &with(&a, "a"), at(NOW)).unwrap();
    ask(&issuers, &with(&b, "b"), at(NOW)).unwrap();
    refused(&issuers, &with(&a, "b"), "no key of the issuer has signed it");
    for unknown in ["c", "A", "../a"] {
        refused(&issuers, &with(&a, unknown), "has no such key");
    }
    refused(&issuers, &a.token(&claims()), "has no such key");
}

#[test]
fn an_only_key_needs_no_name_and_takes_no_other() {
    let signer = Signer::ed25519();
    let issuers = issuers(spec(set(&[signer.jwk("a")])));
    ask(&issuers, &signer.token(&claims()), at(NOW)).unwrap();
    let other = signer.token_with(json!({ "alg": "EdDSA", "kid": "b" }), &claims());
    refused(&issuers, &other, "has no such key");
}

#[test]
fn keys_that_were_not_fetched_are_waited_for_and_not_denied() {
    let signer = Signer::ed25519();
    let issuers = fetched("https://login.example");
    let token = signer.token(&claims());
    let unavailable = |issuers: &Issuers, now| {
        ask(issuers, &token, now).map(|who| who.user).unwrap_err().starts_with("Unavailable")
    };
    assert!(unavailable(&issuers, at(NOW)));
    let keys = issuers.fetched().next().unwrap();
    keys.take(&text(&[signer.jwk("a")]), at(NOW)).unwrap();
    ask(&issuers, &token, at(NOW)).unwrap();
    // What is no set changes nothing.
    keys.take(b"<html>", at(NOW)).unwrap_err();
    ask(&issuers, &token, at(NOW)).unwrap();
    keys.take(&text(&[signer.jwk("a")]), at(NOW - 86_401)).unwrap();
    assert!(unavailable(&issuers, at(NOW)));
}

#[test]
fn an_unknown_key_asks_for_the_set_once() {
    let signer = Signer::ed25519();
    let issuers = fetched("https://login.example");
    let keys = issuers.fetched().next().unwrap();
    keys.take(&text(&[signer.jwk("a")]), at(NOW)).unwrap();
    ask(&issuers, &signer.token(&claims()), at(NOW)).unwrap();
    assert!(!keys.take_wanted());
    let unknown = signer.token_with(json!({ "alg": "EdDSA", "kid": "b" }), &claims());
    refused(&issuers, &unknown, "has no such key");
    refused(&issuers, &unknown, "has no such key");
    assert!(keys.take_wanted() && !keys.take_wanted());
}

#[test]
fn a_token_is_forgotten_with_the_key_that_signed_it() {
    let (old, new) = (Signer::ed25519(), Signer::ed25519());
    let issuers = fetched("https://login.example");
    let keys = issuers.fetched().next().unwrap();
    let token = old.token_with(json!({ "alg": "EdDSA", "kid": "a" }), &claims());
    keys.take(&text(&[old.jwk("a")]), at(NOW)).unwrap();
    ask(&issuers, &token, at(NOW)).unwrap();
    // Another key of the same name, then none of the name.
    keys.take(&text(&[new.jwk("a")]), at(NOW)).unwrap();
    refused(&issuers, &token, "no key of the issuer has signed it");
    keys.take(&text(&[new.jwk("b")]), at(NOW)).unwrap();
    refused(&issuers, &token, "has no such key");
}

#[test]
fn what_is_remembered_ends_with_the_token_and_says_nothing_of_rights() {
    let issuers = issuers(spec(shared()));
    let token = Signer::shared().token(&claims());
    for _ in 0..2 {
        ask(&issuers, &token, at(NOW)).unwrap();
    }
    // The last moment within the difference of clocks, and the first one after.
    ask(&issuers, &token, Timestamp(at(NOW + 660).0 - 1)).unwrap();
    let late = ask(&issuers, &token, at(NOW + 660)).map(|who| who.user).unwrap_err();
    assert!(late.contains("it has expired"), "{late}");
    // What was signed by the issuer and means nothing here is refused each time.
    let without = Signer::shared().token(&but(json!({ "roles": "guest" })));
    for _ in 0..2 {
        refused(&issuers, &without, "no role");
    }
}

#[test]
fn keys_come_over_tls_or_from_this_machine() {
    for good in [
        "https://login.example/keys",
        "https://login.example:8443/keys?x=1",
        "http://127.0.0.1:8080/keys",
        "http://localhost/keys",
        "http://[::1]:1/",
    ] {
        assert!(is_fetchable(good), "{good}");
    }
    for bad in [
        "",
        "https://",
        "https:///keys",
        "http://login.example/keys",
        "http://127.0.0.1.thief.example/",
        "http://localhost@thief.example/",
        "http://127.0.0.1:1@thief.example/",
        "https://user:secret@login.example/",
        "file:///etc/passwd",
        "https://login.example/a b",
        "https://login.example/\n",
    ] {
        assert!(!is_fetchable(bad), "{bad}");
    }
}

#[test]
fn a_document_speaks_for_its_own_issuer() {
    let iss = "https://login.example";
    let document = |issuer: &str, url: &str| {
        json!({ "issuer": issuer, "jwks_uri": url }).to_string().into_bytes()
    };
    let good = "https://login.example/keys";
    assert_eq!(keys_url(&document(iss, good), iss).unwrap(), good);
    keys_url(&document("https://thief.example", good), iss).unwrap_err();
    keys_url(&document(iss, "http://login.example/keys"), iss).unwrap_err();
    keys_url(b"{}", iss).unwrap_err();
}
