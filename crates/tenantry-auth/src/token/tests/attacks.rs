//! Whoever has no key, and whoever changes what somebody with one has signed.

use super::*;

#[test]
fn a_token_that_nobody_has_signed_is_refused() {
    for keys in [shared(), set(&[Signer::ed25519().jwk("a")])] {
        let issuers = issuers(spec(keys));
        for word in ["none", "None", "NONE", "nOnE", ""] {
            let header = json!({ "alg": word, "typ": "JWT" }).to_string();
            let message = format!("{}.{}", encode(header), encode(claims().to_string()));
            refused(&issuers, &format!("{message}."), "no key of the issuer");
            refused(&issuers, &format!("{message}.AAAA"), "no key of the issuer");
        }
        let header = json!({ "typ": "JWT" }).to_string();
        let bare = format!("{}.{}.", encode(header), encode(claims().to_string()));
        refused(&issuers, &bare, "no alg");
    }
}

#[test]
fn a_public_key_is_no_secret() {
    for signer in [Signer::rsa(), Signer::p256(), Signer::ed25519()] {
        let jwk = signer.jwk("a");
        let issuers = issuers(spec(set(std::slice::from_ref(&jwk))));
        let mut known: Vec<Vec<u8>> = vec![jwk.to_string().into_bytes()];
        known.push(json!({ "keys": [jwk] }).to_string().into_bytes());
        for name in ["n", "x", "y"] {
            let Some(part) = jwk[name].as_str() else { continue };
            known.push(part.as_bytes().to_vec());
            known.push(BASE64URL_NOPAD.decode(part.as_bytes()).unwrap());
        }
        if let Signer::Rsa(key) = &signer {
            known.push(key.public_key().as_ref().to_vec());
        }
        for secret in known {
            let thief = Signer::Secret(secret);
            for word in ["HS256", signer.algorithm()] {
                let forged = thief.token_with(json!({ "alg": word, "kid": "a" }), &claims());
                refused(&issuers, &forged, "no key of the issuer");
            }
        }
    }
}

#[test]
fn a_token_does_not_choose_the_algorithm() {
    let signer = Signer::ed25519();
    let issuers_ed = issuers(spec(set(&[signer.jwk("a")])));
    for word in ["HS256", "RS256", "ES256", "eddsa", "Ed25519", "EdDSA "] {
        let token = signer.token_with(json!({ "alg": word }), &claims());
        refused(&issuers_ed, &token, "no key of the issuer");
    }
    let issuers_shared = issuers(spec(shared()));
    for word in ["HS384", "HS512", "RS256", "hs256"] {
        let token = Signer::shared().token_with(json!({ "alg": word }), &claims());
        refused(&issuers_shared, &token, "no key of the issuer");
    }
    // Keys that a token brings along are never looked at.
    let thief = Signer::ed25519();
    let header = json!({ "alg": "EdDSA", "jwk": thief.jwk("a"), "jku": "https://thief.example" });
    refused(&issuers_ed, &thief.token_with(header, &claims()), "no key of the issuer");
}

#[test]
fn whatever_is_changed_is_no_longer_signed() {
    let signer = Signer::ed25519();
    let issuers = issuers(spec(set(&[signer.jwk("a")])));
    let good = signer.token(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let other = encode(but(json!({ "org": 6 })).to_string());
    let header = encode(json!({ "alg": "EdDSA", "kid": "a" }).to_string());
    // Remembered first, so that the memory is attacked too.
    ask(&issuers, &good, at(NOW)).unwrap();
    for forged in [
        format!("{}.{other}.{}", parts[0], parts[2]),
        format!("{header}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], encode([0; 64])),
        format!("{}.{}.{}", parts[0], parts[1], &parts[2][..80]),
        format!("{}.{}.", parts[0], parts[1]),
    ] {
        refused(&issuers, &forged, "no key of the issuer");
    }
    ask(&issuers, &good, at(NOW)).unwrap();
}

#[test]
fn a_token_has_one_spelling() {
    let good = Signer::shared().token(&claims());
    let issuers = issuers(spec(shared()));
    ask(&issuers, &good, at(NOW)).unwrap();
    // 32 bytes leave two bits of the last character to nobody.
    let (rest, last) = good.split_at(good.len() - 1);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.iter().position(|c| *c == last.as_bytes()[0]).unwrap();
    let twin = format!("{rest}{}", char::from(alphabet[place ^ 1]));
    refused(&issuers, &twin, "base64url");
    for text in [format!("{good}="), format!("{good}.x"), format!(".{good}"), good.replace('.', "")]
    {
        assert!(Token::parse(&text).is_none(), "{text}");
    }
}

#[test]
fn a_huge_token_is_not_even_read() {
    let fill = |len: usize| but(json!({ "fill": "x".repeat(len) }));
    let issuers = issuers(spec(shared()));
    let large = Signer::shared().token(&fill(5_500));
    assert!(large.len() <= Token::BYTES_MAX && ask(&issuers, &large, at(NOW)).is_ok());
    let huge = Signer::shared().token(&fill(6_100));
    assert!(huge.len() > Token::BYTES_MAX && Token::parse(&huge).is_none());
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let issuers = issuers(spec(shared()));
    let good = claims().to_string();
    let twice = good.replacen('{', "{\"org\": 6, ", 1);
    refused(&issuers, &Signer::shared().token_of(r#"{"alg":"HS256"}"#, &twice), "claims");
    let header = r#"{"alg":"HS256","alg":"none"}"#;
    refused(&issuers, &Signer::shared().token_of(header, &good), "header");
    let twice = good.replacen('{', "{\"app\": {\"a\": 1, \"a\": 2}, ", 1);
    refused(&issuers, &Signer::shared().token_of(r#"{"alg":"HS256"}"#, &twice), "claims");
}

#[test]
fn critical_headers_and_other_types_are_refused() {
    let issuers = issuers(spec(shared()));
    let with = |more: Value| {
        let mut header = json!({ "alg": "HS256" });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Signer::shared().token_with(header, &claims())
    };
    for crit in [json!(["b64"]), json!([]), Value::Null] {
        refused(&issuers, &with(json!({ "crit": crit })), "critical");
    }
    for typ in [json!("logout+jwt"), json!("dpop+jwt"), json!(1)] {
        refused(&issuers, &with(json!({ "typ": typ })), "another type");
    }
    for typ in ["JWT", "at+JWT", "application/at+jwt"] {
        ask(&issuers, &with(json!({ "typ": typ })), at(NOW)).unwrap();
    }
    refused(&issuers, &with(json!({ "kid": 1 })), "kid");
}

#[test]
fn another_audience_or_issuer_is_refused() {
    let issuers = issuers(spec(shared()));
    for aud in [json!("there"), json!(["there"]), json!([]), json!(["her"]), json!({ "here": 1 })] {
        let token = Signer::shared().token(&but(json!({ "aud": aud })));
        refused(&issuers, &token, "of no issuer");
    }
    for changed in [
        json!({ "aud": Value::Null }),
        json!({ "iss": Value::Null }),
        json!({ "iss": "https://login.example/" }),
        json!({ "iss": ["https://login.example"] }),
    ] {
        refused(&issuers, &Signer::shared().token(&but(changed)), "of no issuer");
    }
    let several = Signer::shared().token(&but(json!({ "aud": ["there", "here"] })));
    ask(&issuers, &several, at(NOW)).unwrap();
    refused(&Issuers::default(), &Signer::shared().token(&claims()), "of no issuer");
}

#[test]
fn the_key_of_one_issuer_signs_for_no_other() {
    let other = IssuerSpec {
        name: "other".into(),
        iss: "https://other.example".into(),
        keys: KeysOf::Secret(Zeroizing::new(vec![9; 32])),
        ..spec(shared())
    };
    let issuers = Issuers::new(vec![spec(shared()), other]).unwrap();
    let (own, foreign) = (claims(), but(json!({ "iss": "https://other.example" })));
    ask(&issuers, &Signer::shared().token(&own), at(NOW)).unwrap();
    refused(&issuers, &Signer::shared().token(&foreign), "no key of the issuer");
    let signer = Signer::Secret(vec![9; 32]);
    let who = ask(&issuers, &signer.token(&foreign), at(NOW)).unwrap();
    assert_eq!(who.user.as_str(), "other/alice");
    refused(&issuers, &signer.token(&own), "no key of the issuer");
}
