//! A new tenant that is being filled, for whoever fills it.

use crate::{
    TenantChange, TenantInfo,
    sites::Sites,
    tenancy::{Tenancy, arrival::Arriving},
};
use std::sync::Arc;
use tenantry_auth::OperatorScope;
use tenantry_types::{Email, Limits, PlanName, Result};

/// A tenant that nobody but its maker reaches. Dropped before [`Arrival::end`] it is deleted, and so
/// it is if the process ends.
#[derive(Debug)]
pub struct Arrival {
    pub(crate) tenancy: Arc<Tenancy<Sites>>,
    pub(crate) arriving: Arc<Arriving<Sites>>,
    pub(crate) info: TenantInfo,
    /// The plan, the exceptions and the weight that it gets when it is whole.
    pub(crate) terms: TenantChange,
    /// Whether what is said of it alone may only be less than its plan says.
    pub(crate) is_bounded: bool,
}

/// What is said of a tenant that is whole.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The action, in logs.
    pub action: &'static str,
    /// The target in the tenant's own log.
    pub told: String,
    /// The same in the operator's log.
    pub target: String,
    /// Whose it is, in the event that webhooks are told, and nowhere else.
    pub email: Option<Email>,
}

impl Arrival {
    /// The tenant.
    pub fn info(&self) -> &TenantInfo {
        &self.info
    }

    /// It gets the plan and the exceptions of another one when it is whole.
    #[must_use]
    pub fn on_terms_of(self, other: &TenantInfo) -> Self {
        let (plan, exceptions) = (Some(other.plan.clone()), Some(other.exceptions));
        Self { terms: TenantChange { plan, exceptions, ..TenantChange::default() }, ..self }
    }

    /// It gets this plan when it is whole, if any.
    #[must_use]
    pub fn on_plan(self, plan: Option<PlanName>) -> Self {
        Self { terms: TenantChange { plan: plan.map(Some), ..self.terms }, ..self }
    }

    /// It gets this weight when it is whole, if any.
    #[must_use]
    pub fn weighing(self, weight: Option<u16>) -> Self {
        Self { terms: TenantChange { weight, ..self.terms }, ..self }
    }

    /// Of its limits and its weight those count that are less than its plan says when it is whole, or
    /// than everybody has who has none.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { is_bounded: true, ..self }
    }

    /// Makes the tenant whole: from now on it is one like any other, with these limits.
    pub async fn end(
        self,
        scope: &OperatorScope,
        limits: Limits,
        arrived: Arrived,
    ) -> Result<TenantInfo> {
        let has = (limits, self.terms, self.is_bounded);
        self.tenancy.end_arrival(scope, self.arriving, has, arrived).await
    }

    /// Deletes the tenant, now.
    pub async fn give_up(self) -> Result<()> {
        self.tenancy.forsake(self.arriving).await
    }
}
