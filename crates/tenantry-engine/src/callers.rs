//! Whom a listener is for, whose a request is, and what an operator says of it.

use percent_encoding::percent_decode;
use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};
use tenantry_auth::{Principal, StatedReason, TenantId};
use tenantry_types::{Error, Result};

/// The header that says why an operator acts in a tenant: percent-encoded UTF-8 on one line.
pub const REASON_HEADER: &str = "Tenantry-Reason";

/// Whom a listener is for. To anybody else each of its paths is one that does not exist, so that a
/// credential is of no use where it should not be presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Callers {
    /// For everybody: there is no other listener.
    #[default]
    All,
    /// For tenants. What only operators may do is not even mounted.
    Tenants,
    /// For operators, who need tenants' routes too, to act in them.
    Operators,
}

impl Callers {
    /// True if operators are among them.
    pub fn include_operators(self) -> bool {
        self != Self::Tenants
    }

    /// True if this caller is one of them.
    pub fn include(self, who: &Principal) -> bool {
        match self {
            Self::All => true,
            Self::Tenants => !who.is_operator(),
            Self::Operators => who.is_operator(),
        }
    }

    /// Why an operator acts in a tenant, by the values of [`REASON_HEADER`]. Of other callers, and of
    /// whoever finds nothing here, nothing is read, so that it changes nothing.
    pub fn reason<'a>(
        self,
        who: &Principal,
        mut values: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<StatedReason>> {
        if !who.is_operator() || !self.include(who) {
            return Ok(None);
        }
        let Some(value) = values.next() else { return Ok(None) };
        let wrong = |why: &str| Error::invalid(format!("{REASON_HEADER}: {why}"));
        if values.next().is_some() {
            return Err(wrong("send it once"));
        }
        let text = percent_decode(value).decode_utf8();
        let text = text.map_err(|_| wrong("not UTF-8 after percent-decoding"))?;
        StatedReason::parse(&text).map(Some).map_err(|why| wrong(why.public_message()))
    }
}

/// From where a request comes, behind the proxies that are trusted, as a layer around all protocols
/// notes it in each request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Whose a request is: the tenant of its credential, none for operators and strangers. Whoever
/// watches a request from outside hands it in, and knows it also if the request never ends.
#[derive(Debug, Clone, Default)]
pub struct Payer(Arc<OnceLock<TenantId>>);

impl Payer {
    /// Says that the request is this caller's, once.
    pub fn settle(&self, who: &Principal) {
        if let Some(tenant) = who.tenant() {
            let _ = self.0.set(tenant);
        }
    }

    /// The tenant, once it is known.
    pub fn tenant(&self) -> Option<TenantId> {
        self.0.get().copied()
    }
}
