//! Attacks on tokens, each by somebody who has all but the key.

mod attacks;
mod meaning;
mod members;
mod operators;
mod sets;

use super::*;
use crate::Role;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair, RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tenantry_types::Timestamp;

/// When every test is, in seconds.
const NOW: u64 = 1_800_000_000;
const SECRET: [u8; 32] = [7; 32];

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1_000)
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

/// Somebody with a key.
enum Signer {
    Secret(Vec<u8>),
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn shared() -> Self {
        Self::Secret(SECRET.to_vec())
    }

    /// ring makes no RSA keys, so this one is a file; it is nobody's.
    fn rsa() -> Self {
        let pem = include_str!("fixtures/test-only-rsa.pem");
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let key = BASE64.decode(text.as_bytes()).unwrap();
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&key).unwrap()))
    }

    fn p256() -> Self {
        let (random, form) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let key = EcdsaKeyPair::generate_pkcs8(form, &random).unwrap();
        Self::P256(Box::new(EcdsaKeyPair::from_pkcs8(form, key.as_ref(), &random).unwrap()))
    }

    fn ed25519() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(key) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, key);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// The public half.
    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Secret(_) => panic!("a secret has no public half"),
            Self::Rsa(key) => {
                let parts = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "kid": id, "n": encode(parts.n), "e": encode(parts.e) })
            }
            Self::P256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": encode(x), "y": encode(y) })
            }
            Self::Ed25519(key) => {
                let x = encode(key.public_key());
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x })
            }
        }
    }

    /// A token with the algorithm of the key.
    fn token(&self, claims: &Value) -> String {
        self.token_with(json!({ "alg": self.algorithm() }), claims)
    }

    fn token_with(&self, header: Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    fn token_of(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }
}

/// Claims that are taken.
fn claims() -> Value {
    json!({
        "iss": "https://login.example", "aud": "here", "sub": "alice",
        "iat": NOW - 10, "exp": NOW + 600, "org": 5, "roles": "editor",
    })
}

/// The same with these instead; `null` leaves a claim out.
fn but(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            all.as_object_mut().unwrap().remove(name);
        } else {
            all[name] = value.clone();
        }
    }
    all
}

fn path(text: &str) -> ClaimPath {
    ClaimPath::parse(text).unwrap()
}

fn spec(keys: KeysOf) -> IssuerSpec {
    let levels = [("viewer", Role::Read), ("editor", Role::Write), ("owner", Role::Admin)];
    let levels: BTreeMap<_, _> = levels.map(|(word, role)| (word.to_owned(), role)).into();
    IssuerSpec {
        name: "login".into(),
        iss: "https://login.example".into(),
        audience: "here".into(),
        keys,
        claims: ClaimSpec {
            tenant: TenantBy::Id(path("org")),
            roles: path("roles"),
            roles_split: false,
            levels,
            operator_roles: BTreeSet::new(),
            subject: path("sub"),
            filter: None,
            needs_member: false,
        },
        skew: Duration::from_secs(60),
        lifetime_max: None,
    }
}

fn shared() -> KeysOf {
    KeysOf::Secret(Zeroizing::new(SECRET.to_vec()))
}

fn set(keys: &[Value]) -> KeysOf {
    KeysOf::Set(json!({ "keys": keys }).to_string().into_bytes())
}

fn issuers(spec: IssuerSpec) -> Issuers {
    Issuers::new(vec![spec]).unwrap()
}

/// The outcome for a text: who it is, or what is said.
fn ask(issuers: &Issuers, text: &str, now: Timestamp) -> Result<Claimed, String> {
    let token = Token::parse(text).ok_or("no token")?;
    issuers.verify(&token, now).map_err(|error| format!("{error:?}"))
}

#[track_caller]
fn refused(issuers: &Issuers, text: &str, says: &str) {
    let said = ask(issuers, text, at(NOW)).map(|who| who.user.to_string()).unwrap_err();
    assert!(said.contains(says), "{said}");
    // What is not signed learns nothing.
    let is_signed = said.starts_with("Unauthenticated: the token is not valid: ");
    assert!(is_signed || said.starts_with("Unauthenticated: the token is not valid (ca"), "{said}");
}

#[test]
fn each_kind_of_key_verifies_its_algorithm() {
    let who = ask(&issuers(spec(shared())), &Signer::shared().token(&claims()), at(NOW)).unwrap();
    assert_eq!((who.user.as_str(), who.role), ("login/alice", Role::Write));
    assert_eq!(who.tenant, Some(ClaimedTenant::Id(crate::TenantId::new(5))));
    assert!(who.restriction.is_none() && who.ends == at(NOW + 660));
    for signer in [Signer::rsa(), Signer::p256(), Signer::ed25519()] {
        let issuers = issuers(spec(set(&[signer.jwk("a")])));
        ask(&issuers, &signer.token(&claims()), at(NOW)).unwrap();
        // Of another holder of such a key, except that there is one RSA key only.
        let other = match &signer {
            Signer::P256(_) => Signer::p256(),
            _ => Signer::ed25519(),
        };
        let forged = other.token_with(json!({ "alg": signer.algorithm() }), &claims());
        refused(&issuers, &forged, "no key of the issuer has signed it");
    }
}
