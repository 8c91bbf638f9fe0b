//! All issuers: whose a token is, and whether it is genuine.

use super::{
    Claimed, FetchedKeys, IssuerSpec, Refusal,
    Refusal::{Forged, NoKeys},
    TenantBy, Token,
    cache::{By, Verified},
    claims::Times,
    issuer::Issuer,
    json,
    keys::{Signed, Unknown, key_id},
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};
use std::sync::Arc;
use tenantry_types::{Error, Timestamp};

/// What tokens may call themselves. Others are for something else, such as a logout.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// The issuers that are trusted; none by default.
#[derive(Debug, Default)]
pub struct Issuers {
    all: Vec<Issuer>,
    verified: Verified,
}

/// What a header says that matters.
#[derive(Debug)]
struct Header {
    algorithm: String,
    key: Option<String>,
}

impl Issuers {
    /// These issuers.
    ///
    /// # Errors
    /// What is wrong, and the place in the list of the issuer that it is about.
    pub fn new(specs: Vec<IssuerSpec>) -> Result<Self, (usize, String)> {
        let mut all: Vec<Issuer> = Vec::new();
        for (at, spec) in specs.into_iter().enumerate() {
            let issuer = Issuer::new(spec).map_err(|why| (at, why))?;
            let same = |one: &Issuer| one.iss == issuer.iss && one.audience == issuer.audience;
            if all.iter().any(same) {
                return Err((at, "iss and audience: another issuer has both".to_owned()));
            }
            if all.iter().any(|one| one.name == issuer.name) {
                return Err((at, format!("name: another issuer is {} too", issuer.name)));
            }
            all.push(issuer);
        }
        Ok(Self { all, verified: Verified::default() })
    }

    /// The sets of keys that somebody must fetch.
    pub fn fetched(&self) -> impl Iterator<Item = &Arc<FetchedKeys>> {
        self.all.iter().filter_map(Issuer::fetched)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|one| one.name.as_str())
    }

    /// Whether tokens of the issuer with this name count for members only; `None` if there is none.
    pub fn needs_member(&self, name: &str) -> Option<bool> {
        self.all.iter().find(|one| one.name == name).map(|one| one.claims.needs_member)
    }

    /// True if tokens of one of them name tenants by their names.
    pub fn name_tenants(&self) -> bool {
        self.all.iter().any(|one| matches!(one.claims.tenant, TenantBy::Name(_)))
    }

    /// What the token claims, if one of these issuers has signed it and it holds now.
    pub(crate) fn verify(&self, token: &Token, now: Timestamp) -> Result<Claimed, Error> {
        self.genuine(token, now).map_err(Error::from)
    }

    fn genuine(&self, token: &Token, now: Timestamp) -> Result<Claimed, Refusal> {
        let header = header(token)?;
        let claims = part(token.claims()).ok_or(Forged("its claims are no JSON object"))?;
        let (at, issuer) = self.whose(&claims)?;
        let Some((keys, set)) = issuer.keys(now) else {
            issuer.want_keys();
            return Err(NoKeys);
        };
        let by = By { issuer: at, set };
        let is_known = self.verified.has(token, by, now);
        if !is_known {
            let signature = BASE64URL_NOPAD.decode(token.signature().as_bytes());
            let signed = Signed {
                algorithm: &header.algorithm,
                key: header.key.as_deref(),
                message: token.message().as_bytes(),
                signature: &signature.map_err(|_| Forged("its signature is no base64url"))?,
            };
            match keys.has_signed(&signed) {
                Ok(true) => {}
                Ok(false) => return Err(Forged("no key of the issuer has signed it")),
                Err(Unknown) => {
                    issuer.want_keys();
                    return Err(Forged("the issuer has no such key"));
                }
            }
        }
        let times = Times::read(&claims, now, issuer.skew, issuer.lifetime_max)?;
        if !is_known {
            self.verified.put(token, by, times.ends);
        }
        issuer.claims.read(&issuer.name, &claims, times)
    }

    /// The issuer that the token is of and for. Nothing is proved by that.
    fn whose(&self, claims: &Map<String, Value>) -> Result<(usize, &Issuer), Refusal> {
        let iss = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let is_for = |audience: &str| match claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one == audience),
            _ => false,
        };
        let mut found =
            self.all.iter().enumerate().filter(|(_, one)| one.iss == iss && is_for(&one.audience));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(Forged("it is for two audiences of this installation")),
            (None, _) => Err(Forged("its iss and aud are of no issuer that is trusted")),
        }
    }
}

fn header(token: &Token) -> Result<Header, Refusal> {
    let header = part(token.header()).ok_or(Forged("its header is no JSON object"))?;
    // None is understood here, and whoever does not understand one must refuse (RFC 7515).
    if header.contains_key("crit") {
        return Err(Forged("it has critical headers"));
    }
    let is_type = |value: &Value| {
        value.as_str().is_some_and(|text| TYPES.contains(&text.to_ascii_lowercase().as_str()))
    };
    if header.get("typ").is_some_and(|value| !is_type(value)) {
        return Err(Forged("it is of another type"));
    }
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Forged("it has no alg"))?;
    let key = match header.get("kid") {
        None => None,
        Some(id) => Some(key_id(id).ok_or(Forged("its kid is no short text"))?.to_owned()),
    };
    Ok(Header { algorithm: algorithm.to_owned(), key })
}

fn part(text: &str) -> Option<Map<String, Value>> {
    json::object(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?)
}
