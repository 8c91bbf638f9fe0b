//! One issuer: what the operator says of it, and its keys.

use super::{ClaimSpec, TenantBy, json, keys::KeySet};
use crate::member::{ISSUER_BYTES_MAX, is_issuer};
use parking_lot::RwLock;
use serde_json::Value;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tenantry_types::Timestamp;
use zeroize::Zeroizing;

/// The longest difference of clocks.
const SKEW_MAX: Duration = Duration::from_secs(5 * 60);
/// How long a token may hold whose issuer names tenants by their names, or makes operators, unless the
/// operator says otherwise.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How often keys may be fetched: sooner than they stop being believed.
const FETCH_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(12 * 60 * 60);
/// Bytes of the longest URL of keys.
const URL_BYTES_MAX: usize = 2_048;
/// How long fetched keys are believed when the issuer does not answer, in milliseconds.
const KEYS_AGE_MAX: u64 = 24 * 60 * 60 * 1_000;

/// An issuer as the operator describes it.
#[derive(Debug, Clone)]
pub struct IssuerSpec {
    /// For audit logs: 1 to 32 of `a` to `z`, digits and `-`.
    pub name: String,
    /// What its tokens have as `iss`.
    pub iss: String,
    /// What its tokens have as `aud`, or among it.
    pub audience: String,
    /// What it signs with.
    pub keys: KeysOf,
    /// What its claims mean.
    pub claims: ClaimSpec,
    /// How much its clock may differ, at most 5 minutes.
    pub skew: Duration,
    /// How long after its `iat` a token may hold; without one a day at most, if tokens name tenants by
    /// their names or make operators.
    pub lifetime_max: Option<Duration>,
}

/// Where an issuer's keys come from.
#[derive(Clone)]
pub enum KeysOf {
    /// It shares this secret with the installation.
    Secret(Zeroizing<Vec<u8>>),
    /// This set of public keys, in JSON.
    Set(Vec<u8>),
    /// They are fetched, and again after this time.
    Fetched(KeysFrom, Duration),
}

impl fmt::Debug for KeysOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret(…)"),
            Self::Set(text) => write!(f, "Set({} bytes)", text.len()),
            Self::Fetched(from, every) => write!(f, "Fetched({from:?}, {every:?})"),
        }
    }
}

/// What is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysFrom {
    /// The set of keys itself.
    Url(String),
    /// A document that says where the set is (OpenID Connect Discovery).
    Discovery(String),
}

/// Keys that are fetched. Whoever fetches them hands them in here.
#[derive(Debug)]
pub struct FetchedKeys {
    name: String,
    iss: String,
    from: KeysFrom,
    every: Duration,
    held: RwLock<Option<Held>>,
    is_wanted: AtomicBool,
}

#[derive(Debug)]
struct Held {
    set: Arc<KeySet>,
    number: u64,
    at: Timestamp,
}

impl FetchedKeys {
    /// The issuer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the issuer's tokens have as `iss`.
    pub fn iss(&self) -> &str {
        &self.iss
    }

    /// What is to be fetched.
    pub fn source(&self) -> &KeysFrom {
        &self.from
    }

    /// How often.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// True once after a token named a key that is not in the set.
    pub fn take_wanted(&self) -> bool {
        self.is_wanted.swap(false, Ordering::AcqRel)
    }

    /// These are the issuer's keys now. What is no set of keys changes nothing.
    pub fn take(&self, text: &[u8], now: Timestamp) -> Result<(), String> {
        let set = Arc::new(KeySet::published(text)?);
        // Tokens that were verified by the same set stay so.
        let hash = blake3::hash(text);
        let number = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]));
        *self.held.write() = Some(Held { set, number, at: now });
        Ok(())
    }
}

#[derive(Debug)]
enum Keys {
    Given(Arc<KeySet>),
    Fetched(Arc<FetchedKeys>),
}

/// An issuer that was looked at.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) iss: String,
    pub(super) audience: String,
    pub(super) claims: ClaimSpec,
    pub(super) skew: Duration,
    pub(super) lifetime_max: Option<Duration>,
    keys: Keys,
}

impl Issuer {
    pub(super) fn new(spec: IssuerSpec) -> Result<Self, String> {
        if !is_issuer(&spec.name) {
            return Err(format!("name: 1 to {ISSUER_BYTES_MAX} of a to z, digits and -"));
        }
        if spec.iss.is_empty() || spec.audience.is_empty() {
            return Err("iss and audience: neither may be empty".to_owned());
        }
        if spec.skew > SKEW_MAX {
            return Err(format!("skew: at most {} seconds", SKEW_MAX.as_secs()));
        }
        let (levels, operators) = (&spec.claims.levels, &spec.claims.operator_roles);
        if levels.is_empty() && operators.is_empty() && !spec.claims.needs_member {
            return Err("levels: say which role there is which role here".to_owned());
        }
        if operators.iter().any(|word| word.trim().is_empty() || levels.contains_key(word)) {
            let why = "operator_roles: none may be empty, or one of levels too";
            return Err(why.to_owned());
        }
        let makes_operators = !operators.is_empty();
        let keys = match spec.keys {
            KeysOf::Secret(secret) => Keys::Given(Arc::new(KeySet::of_secret(&secret)?)),
            KeysOf::Set(text) => Keys::Given(Arc::new(KeySet::parse(&text)?)),
            KeysOf::Fetched(from, every) => {
                let (KeysFrom::Url(url) | KeysFrom::Discovery(url)) = &from;
                if !is_fetchable(url) {
                    return Err(format!("{url:?} is not an https URL"));
                }
                if !FETCH_EVERY.contains(&every) {
                    return Err("refresh: 1 second to 12 hours".to_owned());
                }
                let (name, iss) = (spec.name.clone(), spec.iss.clone());
                let (held, is_wanted) = (RwLock::default(), AtomicBool::new(false));
                let keys = FetchedKeys { name, iss, from, every, held, is_wanted };
                Keys::Fetched(Arc::new(keys))
            }
        };
        let by_name = matches!(spec.claims.tenant, TenantBy::Name(_));
        Ok(Self {
            name: spec.name,
            iss: spec.iss,
            audience: spec.audience,
            claims: spec.claims,
            skew: spec.skew,
            lifetime_max: spec.lifetime_max.or((by_name || makes_operators).then_some(LIFETIME)),
            keys,
        })
    }

    /// Its keys, and the number of their set; none if they are not known now.
    pub(super) fn keys(&self, now: Timestamp) -> Option<(Arc<KeySet>, u64)> {
        match &self.keys {
            Keys::Given(set) => Some((Arc::clone(set), 0)),
            Keys::Fetched(keys) => {
                let held = keys.held.read();
                let held = held.as_ref()?;
                let is_fresh = now.0.saturating_sub(held.at.0) <= KEYS_AGE_MAX;
                is_fresh.then(|| (Arc::clone(&held.set), held.number))
            }
        }
    }

    /// A token names a key that is not in the set.
    pub(super) fn want_keys(&self) {
        if let Keys::Fetched(keys) = &self.keys {
            keys.is_wanted.store(true, Ordering::Release);
        }
    }

    pub(super) fn fetched(&self) -> Option<&Arc<FetchedKeys>> {
        match &self.keys {
            Keys::Given(_) => None,
            Keys::Fetched(keys) => Some(keys),
        }
    }
}

/// True if keys may be fetched from there: over TLS, or from this machine.
pub fn is_fetchable(url: &str) -> bool {
    let is_plain = url.len() <= URL_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic());
    let rest = |scheme: &str| url.strip_prefix(scheme).filter(|_| is_plain);
    let authority = |rest: &str| {
        rest.split(['/', '?', '#'])
            .next()
            .filter(|a| !a.is_empty() && !a.contains('@'))
            .map(str::to_owned)
    };
    if let Some(rest) = rest("https://") {
        return authority(rest).is_some();
    }
    let local = rest("http://").and_then(authority);
    local.is_some_and(|to| {
        ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| {
            to.strip_prefix(host).is_some_and(|port| port.is_empty() || port.starts_with(':'))
        })
    })
}

/// Where the keys of the issuer are, as its document says. A document of another issuer is refused.
pub fn keys_url(document: &[u8], iss: &str) -> Result<String, String> {
    let object = json::object(document).ok_or("the document is no JSON object")?;
    if object.get("issuer").and_then(Value::as_str) != Some(iss) {
        return Err("the document is of another issuer".to_owned());
    }
    let url = object.get("jwks_uri").and_then(Value::as_str).unwrap_or_default();
    if !is_fetchable(url) {
        return Err("its jwks_uri is not an https URL".to_owned());
    }
    Ok(url.to_owned())
}
