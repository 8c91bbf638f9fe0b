//! The keys of an issuer. Each key has one algorithm, and a token has no say in it.

use super::json;
use data_encoding::BASE64URL_NOPAD;
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
        UnparsedPublicKey,
    },
};
use serde_json::{Map, Value};
use std::fmt;

/// Bytes of the shortest shared secret: as many as the hash has.
pub const SECRET_BYTES_MIN: usize = 32;
/// Keys of the largest set.
const KEYS_MAX: usize = 64;
/// Bytes of the longest id of a key.
const KEY_ID_BYTES_MAX: usize = 256;
/// Bytes of the moduli that are taken: 2,048 to 8,192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

type Result<T> = std::result::Result<T, String>;

/// A key that proves who signed.
#[derive(Clone)]
enum Key {
    Secret(hmac::Key),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    /// The one algorithm of signatures by this key.
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Rsa { .. } => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match self {
            Self::Secret(key) => return hmac::verify(key, message, signature).is_ok(),
            Self::Rsa { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
        };
        outcome.is_ok()
    }
}

/// What a token says about the key that has signed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) algorithm: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) message: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// The keys of an issuer. `Debug` shows their ids alone.
#[derive(Clone)]
pub(super) struct KeySet(Vec<(Option<String>, Key)>);

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, key)| (id, key.algorithm()))).finish()
    }
}

impl KeySet {
    /// A secret that the issuer and this installation share.
    pub(super) fn of_secret(secret: &[u8]) -> Result<Self> {
        if secret.len() < SECRET_BYTES_MIN {
            let len = secret.len();
            return Err(format!(
                "the secret has {len} bytes, at least {SECRET_BYTES_MIN} are needed"
            ));
        }
        Ok(Self(vec![(None, Key::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret)))]))
    }

    /// A set of public keys in JSON (RFC 7517). Keys for other algorithms and uses are left out.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        Self::read(text, true)
    }

    /// The same of a set that an issuer publishes: of what is no key that could be used here, and of
    /// keys with one id, none is taken, and all others are. If such a one kept the rest out, a key
    /// that the issuer has withdrawn would go on to be believed.
    pub(super) fn published(text: &[u8]) -> Result<Self> {
        Self::read(text, false)
    }

    fn read(text: &[u8], is_strict: bool) -> Result<Self> {
        let object = json::object(text).ok_or("this is no JSON object with each name once")?;
        let keys = object.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
        if keys.len() > KEYS_MAX {
            return Err(format!("it has {} keys, at most {KEYS_MAX} are allowed", keys.len()));
        }
        let mut set: Vec<(Option<String>, Key)> = Vec::new();
        let mut twice = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let read = key.as_object().ok_or_else(|| "it is no object".to_owned()).and_then(one);
            let key = match read {
                Ok(Some(key)) => key,
                Ok(None) => continue,
                Err(why) if is_strict => return Err(format!("key {at}: {why}")),
                Err(_) => continue,
            };
            if set.iter().any(|other| other.0 == key.0) {
                if is_strict {
                    return Err(format!("key {at} has the id of another one, or neither has one"));
                }
                twice.push(key.0.clone());
            }
            set.push(key);
        }
        set.retain(|(id, _)| !twice.contains(id));
        if set.is_empty() {
            return Err("it has no key for RS256, ES256 or EdDSA".to_owned());
        }
        Ok(Self(set))
    }

    /// True if the key that the token means has signed it by its algorithm.
    pub(super) fn has_signed(&self, signed: &Signed<'_>) -> std::result::Result<bool, Unknown> {
        let key = self.find(signed.key).ok_or(Unknown)?;
        Ok(key.algorithm() == signed.algorithm && key.has_signed(signed.message, signed.signature))
    }

    /// The only key needs no id; among several one is named.
    fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (&self.0[..], id) {
            ([(known, key)], id) => match (known, id) {
                (Some(known), Some(id)) if known != id => None,
                _ => Some(key),
            },
            (_, None) => None,
            (keys, Some(id)) => {
                keys.iter().find(|(known, _)| known.as_deref() == Some(id)).map(|(_, key)| key)
            }
        }
    }
}

/// There is no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

/// The id of a key, if it is a sane one.
pub(super) fn key_id(value: &Value) -> Option<&str> {
    value.as_str().filter(|id| (1..=KEY_ID_BYTES_MAX).contains(&id.len()))
}

/// A key of a set; `None` if it is for something else.
fn one(key: &Map<String, Value>) -> Result<Option<(Option<String>, Key)>> {
    let word = |name: &str| key.get(name).and_then(Value::as_str);
    let kind = word("kty").ok_or("it has no kty")?;
    // Whoever can read the set could sign.
    if kind == "oct" {
        return Err("a shared secret is no part of a set of public keys".to_owned());
    }
    if key.contains_key("d") {
        return Err("this is a private key".to_owned());
    }
    let signs = key.get("use").is_none_or(|what| what == "sig")
        && key.get("key_ops").is_none_or(|all| {
            all.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"))
        });
    if !signs {
        return Ok(None);
    }
    let id = match key.get("kid") {
        None => None,
        Some(id) => Some(key_id(id).ok_or("its kid is no short text")?.to_owned()),
    };
    let found = match (kind, word("crv")) {
        ("RSA", _) => rsa(key)?,
        ("EC", Some("P-256")) => {
            Key::P256([&[4][..], &exact(key, "x")?, &exact(key, "y")?].concat())
        }
        ("OKP", Some("Ed25519")) => Key::Ed25519(exact(key, "x")?),
        _ => return Ok(None),
    };
    // `Ed25519` is the newer name of the same (RFC 9864).
    let fits = match key.get("alg") {
        None => true,
        Some(named) => {
            named == found.algorithm() || (named == "Ed25519" && found.algorithm() == "EdDSA")
        }
    };
    Ok(fits.then_some((id, found)))
}

fn rsa(key: &Map<String, Value>) -> Result<Key> {
    let number = |name: &str| {
        let bytes = bytes(key, name)?;
        // Some write a zero before a number whose first bit is set.
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok::<_, String>(bytes[zeros..].to_vec())
    };
    let (modulus, exponent) = (number("n")?, number("e")?);
    if !MODULUS_BYTES.contains(&modulus.len()) {
        return Err(format!("its modulus has {} bytes, 256 to 1024 are taken", modulus.len()));
    }
    Ok(Key::Rsa { modulus, exponent })
}

fn exact(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>> {
    let bytes = bytes(key, name)?;
    if bytes.len() == 32 { Ok(bytes) } else { Err(format!("its {name} has not 32 bytes")) }
}

fn bytes(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>> {
    let text = key.get(name).and_then(Value::as_str).ok_or_else(|| format!("it has no {name}"))?;
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| format!("its {name} is no base64url"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(keys: &Value) -> Result<KeySet> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn x(byte: u8) -> String {
        BASE64URL_NOPAD.encode(&[byte; 32])
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": x(1), "kid": "a" });
        let other = |more: Value| {
            let mut key = ed.clone();
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        assert_eq!(parse(&json!([ed])).unwrap().0.len(), 1);
        for more in [
            json!({ "use": "enc", "kid": "b" }),
            json!({ "key_ops": ["sign"], "kid": "b" }),
            json!({ "alg": "RS512", "kid": "b" }),
            json!({ "crv": "X25519", "kid": "b" }),
            json!({ "kty": "new", "kid": "b" }),
        ] {
            assert_eq!(parse(&json!([ed, other(more.clone())])).unwrap().0.len(), 1, "{more}");
            let alone = parse(&json!([other(more)])).unwrap_err();
            assert!(alone.contains("no key for"), "{alone}");
        }
    }

    #[test]
    fn an_odd_key_does_not_keep_the_others_of_a_published_set_out() {
        let ed = |id: &str| json!({ "kty": "OKP", "crv": "Ed25519", "x": x(1), "kid": id });
        let n = BASE64URL_NOPAD.encode(&[0xff; 128]);
        let published = |keys: Value| {
            let text = json!({ "keys": keys }).to_string();
            let set = KeySet::published(text.as_bytes())?;
            Ok::<_, String>(set.0.into_iter().map(|(id, _)| id.unwrap()).collect::<Vec<_>>())
        };
        for odd in [
            json!({ "kty": "RSA", "n": n, "e": "AQAB", "kid": "b" }),
            json!({ "kty": "oct", "k": x(1), "kid": "b" }),
            json!({ "kty": "EC", "crv": "P-256", "x": x(1), "kid": "b" }),
            json!(7),
        ] {
            assert_eq!(published(json!([odd, ed("a")])).unwrap(), ["a"], "{odd}");
            assert!(published(json!([odd])).unwrap_err().contains("no key for"));
        }
        assert_eq!(published(json!([ed("a"), ed("b"), ed("b"), ed("b")])).unwrap(), ["a"]);
    }

    #[test]
    fn what_is_no_set_of_public_keys_is_refused() {
        let n = BASE64URL_NOPAD.encode(&[0xff; 128]);
        for (keys, says) in [
            (json!([{ "kty": "oct", "k": x(1) }]), "shared secret"),
            (json!([{ "kty": "OKP", "crv": "Ed25519", "x": x(1), "d": x(2) }]), "private key"),
            (json!([{ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }]), "32 bytes"),
            (json!([{ "kty": "OKP", "crv": "Ed25519", "x": "=" }]), "base64url"),
            (json!([{ "kty": "OKP", "crv": "Ed25519", "x": x(1), "kid": 1 }]), "kid"),
            (json!([{ "kty": "RSA", "n": n, "e": "AQAB" }]), "modulus"),
            (json!([{ "kty": "EC", "crv": "P-256", "x": x(1) }]), "no y"),
            (json!([{ "crv": "P-256" }]), "kty"),
            (json!([7]), "is no object"),
            (json!({}), "keys"),
        ] {
            let why = parse(&keys).unwrap_err();
            assert!(why.contains(says), "{keys}: {why}");
        }
        let one = json!({ "kty": "OKP", "crv": "Ed25519", "x": x(1), "kid": "a" });
        assert!(parse(&json!([one, one])).unwrap_err().contains("the id of another"));
        assert!(parse(&json!(vec![one; KEYS_MAX + 1])).unwrap_err().contains("at most"));
        assert!(KeySet::of_secret(&[1; 31]).unwrap_err().contains("at least 32"));
    }
}
