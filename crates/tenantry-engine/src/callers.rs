//! Whom a listener is for, and whose a request is.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};
use tenantry_auth::{Principal, TenantId};

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
