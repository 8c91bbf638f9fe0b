//! What the claims of a token mean here.

use super::{Refusal, Refusal::Signed};
use crate::{Restriction, Role, TenantId, UserName};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tenantry_types::{Filter, TenantName, Timestamp};

/// Names of the longest path.
const PATH_NAMES_MAX: usize = 8;

/// Where a claim stands: names from the outermost object inwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// The path of these names.
    pub fn new(names: Vec<String>) -> Result<Self, String> {
        if names.is_empty() || names.len() > PATH_NAMES_MAX || names.iter().any(String::is_empty) {
            return Err(format!("a claim is 1 to {PATH_NAMES_MAX} names, and none is empty"));
        }
        Ok(Self(names))
    }

    /// The path that dots divide. A claim with a dot in its name needs [`ClaimPath::new`].
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::new(text.split('.').map(str::to_owned).collect())
    }

    /// What stands there, for claims that give something: one that cannot be found gives nothing.
    fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        self.look(claims).ok().flatten()
    }

    /// What stands there, for claims that limit: a text, a list or null where an object should hold it
    /// is a refusal, since nobody knows what it was meant to hold.
    fn look<'a>(&self, claims: &'a Map<String, Value>) -> Result<Option<&'a Value>, Refusal> {
        let mut names = self.0.iter();
        let mut found = names.next().and_then(|first| claims.get(first));
        for name in names {
            let Some(outer) = found else { return Ok(None) };
            let outer = outer.as_object().ok_or(Signed("one of its claims lies in no object"))?;
            found = outer.get(name);
        }
        Ok(found)
    }
}

/// Which claim names the tenant, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantBy {
    /// By its id, which is never given again.
    Id(ClaimPath),
    /// By its name. Names are given again, so the token must have been issued after the tenant was
    /// made.
    Name(ClaimPath),
}

/// The claim that binds a token to some records.
#[derive(Clone)]
pub struct FilterClaim {
    /// Where it stands.
    pub path: ClaimPath,
    /// Whether a token without it is refused, or reaches all records.
    pub is_required: bool,
    /// Reads it.
    pub parse: fn(&Value) -> Result<Filter, String>,
}

impl fmt::Debug for FilterClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterClaim")
            .field("path", &self.path)
            .field("is_required", &self.is_required)
            .finish_non_exhaustive()
    }
}

/// What an issuer's claims mean.
#[derive(Debug, Clone)]
pub struct ClaimSpec {
    /// The tenant.
    pub tenant: TenantBy,
    /// The roles: a text or a list of texts.
    pub roles: ClaimPath,
    /// Whether a text holds several roles with spaces between them, as `scope` does.
    pub roles_split: bool,
    /// The role here of each role there. Others count for nothing; of several the highest counts. None
    /// at all, where `needs_member`: then roles are not asked, and members have their own.
    pub levels: BTreeMap<String, Role>,
    /// Roles there that make whoever has one an operator here, who acts in tenants and manages none;
    /// of the one tenant that its token names, or of all if it names none.
    pub operator_roles: BTreeSet<String>,
    /// Who it is, for audit logs.
    pub subject: ClaimPath,
    /// What it is bound to, if issuers bind tokens.
    pub filter: Option<FilterClaim>,
    /// Whether a token counts only for a member of its tenant, and for no more than the member may.
    pub needs_member: bool,
}

/// The tenant that a token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimedTenant {
    /// By its id.
    Id(TenantId),
    /// By its name, in a token that was issued at this time.
    Name(TenantName, Timestamp),
}

/// What a token claims, by an issuer that is trusted, within its time. Whether there is such a
/// tenant is still to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    /// None in a token of an operator who is limited to no tenant, and in no other.
    pub(crate) tenant: Option<ClaimedTenant>,
    pub(crate) is_operator: bool,
    pub(crate) role: Role,
    pub(crate) user: UserName,
    pub(crate) needs_member: bool,
    pub(crate) restriction: Arc<Restriction>,
    /// From when it is refused.
    pub(crate) ends: Timestamp,
}

/// When a token holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From when it is refused.
    pub(super) ends: Timestamp,
    issued: Option<Timestamp>,
}

impl Times {
    /// The token's times, if it is now within them.
    pub(super) fn read(
        claims: &Map<String, Value>,
        now: Timestamp,
        skew: Duration,
        lifetime_max: Option<Duration>,
    ) -> Result<Self, Refusal> {
        let (skew, lifetime_max) = (millis(skew), lifetime_max.map(millis));
        let expires = time(claims, "exp")?.ok_or(Signed("it has no exp"))?;
        let ends = Timestamp(expires.0.saturating_add(skew));
        if now >= ends {
            return Err(Signed("it has expired"));
        }
        let is_ahead = |time: Timestamp| time.0 > now.0.saturating_add(skew);
        if time(claims, "nbf")?.is_some_and(is_ahead) {
            return Err(Signed("its time has not come"));
        }
        let issued = time(claims, "iat")?;
        if issued.is_some_and(is_ahead) {
            return Err(Signed("it was issued in the future"));
        }
        if let Some(most) = lifetime_max {
            let issued = issued.ok_or(Signed("it has no iat"))?;
            if expires.0.saturating_sub(issued.0) > most {
                return Err(Signed("it holds for too long"));
            }
        }
        Ok(Self { ends, issued })
    }
}

impl ClaimSpec {
    /// What these claims mean.
    pub(super) fn read(
        &self,
        issuer: &str,
        claims: &Map<String, Value>,
        times: Times,
    ) -> Result<Claimed, Refusal> {
        let subject = self.subject.find(claims).and_then(Value::as_str);
        let user = subject.and_then(|subject| UserName::of(issuer, subject));
        let is_operator = self.is_operator(claims);
        let role = if is_operator { Some(Role::Admin) } else { self.role(claims) };
        // One that cannot be read is a refusal: it was meant to limit.
        let is_limited = !is_operator || self.tenant_path().look(claims)?.is_some();
        Ok(Claimed {
            tenant: is_limited.then(|| self.tenant(claims, times)).transpose()?,
            is_operator,
            role: role.ok_or(Signed("it has no role that is known here"))?,
            user: user.ok_or(Signed("it has no subject"))?,
            needs_member: self.needs_member,
            restriction: self.restriction(claims, is_operator)?,
            ends: times.ends,
        })
    }

    fn tenant_path(&self) -> &ClaimPath {
        match &self.tenant {
            TenantBy::Id(path) | TenantBy::Name(path) => path,
        }
    }

    fn tenant(&self, claims: &Map<String, Value>, times: Times) -> Result<ClaimedTenant, Refusal> {
        // An operator whose role is another one here looks for the mistake at the tenant otherwise.
        let none = if self.is_nobodys(claims) {
            Signed("it names no tenant and has no role that is known here")
        } else {
            Signed("it names no tenant")
        };
        match &self.tenant {
            TenantBy::Id(path) => {
                let id = path.find(claims).and_then(number).ok_or(none)?;
                Ok(ClaimedTenant::Id(TenantId::new(id)))
            }
            TenantBy::Name(path) => {
                let name = path.find(claims).and_then(Value::as_str).ok_or(none)?;
                let name = TenantName::parse(name).map_err(|_| none)?;
                let issued = times.issued.ok_or(Signed("it has no iat"))?;
                Ok(ClaimedTenant::Name(name, issued))
            }
        }
    }

    fn role(&self, claims: &Map<String, Value>) -> Option<Role> {
        if self.needs_member && self.levels.is_empty() {
            return Some(Role::Admin);
        }
        let words = self.words(claims, true)?;
        words.into_iter().filter_map(|word| self.levels.get(word).copied()).max()
    }

    /// True if it may have been meant to make an operator, and has no role that says anything here.
    fn is_nobodys(&self, claims: &Map<String, Value>) -> bool {
        let known = |word: &&str| self.levels.contains_key(*word);
        !self.operator_roles.is_empty()
            && !self.is_operator(claims)
            && !self.words(claims, true).unwrap_or_default().iter().any(known)
    }

    fn is_operator(&self, claims: &Map<String, Value>) -> bool {
        // An item of a list is one role: whoever may name roles could name one with such a word in it.
        let words = self.words(claims, false).unwrap_or_default();
        words.into_iter().any(|word| self.operator_roles.contains(word))
    }

    /// The issuer's words for what somebody may. A list with something else in it is not what the
    /// operator took it for, and has none.
    fn words<'c>(
        &self,
        claims: &'c Map<String, Value>,
        splits_items: bool,
    ) -> Option<Vec<&'c str>> {
        let (texts, splits) = match self.roles.find(claims)? {
            Value::String(text) => (vec![text.as_str()], true),
            Value::Array(list) => {
                (list.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?, splits_items)
            }
            _ => return None,
        };
        if !(self.roles_split && splits) {
            return Some(texts);
        }
        Some(texts.into_iter().flat_map(|text| text.split(' ')).collect())
    }

    fn restriction(
        &self,
        claims: &Map<String, Value>,
        is_operator: bool,
    ) -> Result<Arc<Restriction>, Refusal> {
        let Some(filter) = &self.filter else { return Ok(Arc::default()) };
        match filter.path.look(claims)? {
            // Operators are limited to tenants and not within them.
            Some(_) if is_operator => Err(Signed("it is an operator's and has a filter")),
            None if filter.is_required && !is_operator => Err(Signed("it has no filter")),
            None => Ok(Arc::default()),
            Some(value) => {
                let parsed = (filter.parse)(value).map_err(|_| Signed("its filter is none"))?;
                Ok(Arc::new(Restriction { objects: None, filter: Some(parsed) }))
            }
        }
    }
}

/// A number, or a text of digits for those whose JSON knows no large numbers, of one spelling.
fn number(value: &Value) -> Option<u64> {
    let found = match value {
        Value::String(text) => text.parse().ok().filter(|id: &u64| id.to_string() == *text),
        value => value.as_u64(),
    };
    found.filter(|id| *id != TenantId::INSTALLATION.get())
}

/// A time in seconds, which may have a fraction. A time of another kind is never taken for none.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let millis = match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => seconds.saturating_mul(1_000),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is no less than zero, and what is too large becomes the largest"
        )]
        (None, Some(seconds)) if seconds >= 0.0 => (seconds * 1_000.0) as u64,
        _ => return Err(Signed("one of its times is none")),
    };
    Ok(Some(Timestamp(millis)))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
