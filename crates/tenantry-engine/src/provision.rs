//! Tenants that begin to exist when an operator's request names them.
//!
//! A product whose back end holds an operator key need not make its customers' tenants first. Only
//! such a key does this: a token that names a tenant was issued by somebody who could name any, and
//! a name that was given again must not open to it.

use crate::{Engine, limiter::Limiter, signup};
use std::{sync::Arc, time::Instant};
use tenantry_auth::{Principal, TenantId};
use tenantry_store::TenantInfo;
use tenantry_types::{
    Error, ErrorKind, Isolation, PlanName, Rates, Resource, Result, TenantName, TenantSpec,
};

/// What a tenant gets that is made when it is named.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProvisionRules {
    /// Its plan; the installation's for new tenants if absent.
    pub plan: Option<PlanName>,
    /// How many may be made in what time, by this process.
    pub rates: Rates,
}

/// The rules that are followed, and how many were made.
#[derive(Debug)]
pub(crate) struct Provision {
    rules: ProvisionRules,
    limiter: Limiter,
    began: Instant,
    /// One at a time: whoever comes second finds what the first has made, and pays nothing.
    turn: tokio::sync::Mutex<()>,
}

impl Engine {
    /// Makes tenants from now on that an operator who may open tenants names and that do not exist.
    /// Counts once.
    pub fn provision(&self, rules: ProvisionRules) {
        let (limiter, began, turn) =
            (Limiter::default(), Instant::now(), tokio::sync::Mutex::default());
        let _ = self.0.provision.set(Provision { rules, limiter, began, turn });
    }

    /// The tenant of this name, which does not exist, for an operator: made if that is wanted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not, or not by this operator;
    /// [`ErrorKind::LimitExceeded`] if too many were made; [`ErrorKind::Unavailable`] if the rules do
    /// not fit.
    pub(crate) async fn provisioned(
        &self,
        who: &Principal,
        name: &TenantName,
    ) -> Result<Arc<TenantInfo>> {
        let missing = || Error::not_found(Resource::Tenant, name.as_str());
        let may = who.may_manage() && who.may_act_as();
        let wanted = self.0.provision.get().filter(|_| may);
        let Some(Provision { rules, limiter, began, turn }) = wanted else { return Err(missing()) };
        let _turn = turn.lock().await;
        if let Some(found) = self.0.store.find_tenant(name).await? {
            return Ok(found);
        }
        let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let asked = limiter.admit(TenantId::INSTALLATION, &rules.rates, now);
        asked.map(drop).map_err(signup::too_many)?;
        let spec = TenantSpec {
            plan: rules.plan.clone(),
            isolation: Some(Isolation::Shared),
            ..TenantSpec::new(name.clone())
        };
        match self.operator(who)?.create_tenant(&spec).await {
            Ok(made) => Ok(Arc::new(made)),
            // Somebody else was first.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let made = self.0.store.find_tenant(name).await?;
                made.ok_or_else(|| {
                    let why = "this tenant is being made; ask again";
                    Error::new(ErrorKind::Unavailable, why).with_retry_after(1)
                })
            }
            // What only the operator can mend is not the request's fault.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound
                        | ErrorKind::Invalid
                        | ErrorKind::Conflict
                        | ErrorKind::Unsupported
                ) =>
            {
                let why = format!("no tenant is made when it is named: {error}");
                Err(Error::new(ErrorKind::Unavailable, why))
            }
            Err(error) => Err(error),
        }
    }
}
