//! The operator's handle: tenants and operator keys, no data.

mod creation;
pub(crate) mod grace;
mod usage;
mod webhooks;

use crate::{
    advise::{self, Advice, Case, Needs},
    denials::{self, DONE},
    engine::Inner,
    placement::{self, Plan, Policy},
    session::unless_out_of_reach,
    validate,
};
use std::sync::Arc;
use tenantry_auth::{KeyId, KeyRow, OperatorScope, TenantId};
use tenantry_store::{
    AuditEntry, AuditReason, BackendKind, Holding, Leftover, MoveStatus, MoveTarget, TenantChange,
    TenantInfo,
};
use tenantry_types::{
    Allowance, Error, ErrorKind, Location, PlanName, Resource, Result, TenantName, TenantPlan,
    TenantState, Timestamp,
};

/// Manages tenants. Reaches no tenant's data: for that the operator opens a
/// [`crate::Session`], which the tenant can see.
#[derive(Debug)]
pub struct Operator {
    pub(crate) inner: Arc<Inner>,
    pub(crate) scope: OperatorScope,
}

impl Operator {
    pub(crate) fn new(inner: Arc<Inner>, scope: OperatorScope) -> Self {
        Self { inner, scope }
    }

    /// Living tenants in the order of their names, from the first after `after`.
    pub async fn tenants(
        &self,
        after: Option<&TenantName>,
        limit: usize,
    ) -> Result<Vec<TenantInfo>> {
        self.inner.tenants(&self.scope, after, limit).await
    }

    /// Locations that this server cannot use, as far as it has tried, and those that it was not given
    /// though tenants live there.
    pub fn out_of_reach(&self) -> Vec<Location> {
        self.inner.store.out_of_reach(&self.scope)
    }

    /// The tenant with this name.
    pub async fn tenant(&self, name: &TenantName) -> Result<Arc<TenantInfo>> {
        let found = self.inner.find_tenant(name).await?;
        found.ok_or_else(|| Error::not_found(Resource::Tenant, name.as_str()))
    }

    /// Where the tenant should live, by what the operator says and how much the tenant has. That
    /// is numbers only, and still something of the tenant's: its log says that it was looked at.
    pub async fn advise(&self, name: &TenantName, needs: &Needs) -> Result<(TenantInfo, Advice)> {
        self.inner.check_served(name)?;
        let store = &self.inner.store;
        let (info, sizes) = store.tenant_sizes(&self.scope, name).await?;
        if sizes.is_some() {
            self.note_measured(info.id);
        }
        let tenants = match needs.tenants {
            // Counting reads all names.
            Some(said) => said,
            None => store.count_tenants(&self.scope).await?,
        };
        let plan = match &info.plan {
            Some(plan) => Some(store.plan(&self.scope, plan).await?),
            None => None,
        };
        let case = Case {
            isolation: info.isolation,
            location: info.location,
            plan,
            sizes: sizes.unwrap_or_default(),
            tenants,
            sites: store.sites(&self.scope),
            needs: needs.clone(),
        };
        Ok((TenantInfo::clone(&info), advise::advise(&case)?))
    }

    /// Plans in the order of their names.
    pub async fn plans(&self) -> Result<Vec<TenantPlan>> {
        self.inner.store.plans(&self.scope).await
    }

    /// The plan with this name.
    pub async fn plan_called(&self, name: &PlanName) -> Result<TenantPlan> {
        self.inner.store.plan(&self.scope, name).await
    }

    /// Makes a plan, or has it say something else from now on, for all tenants that have it.
    pub async fn put_plan(&self, plan: &TenantPlan) -> Result<()> {
        validate::allowance(&plan.allowance)?;
        if plan.name.as_str() == PlanName::NONE {
            let none = PlanName::NONE;
            let why = format!("no plan is called {none}: settings say so where there is none");
            return Err(Error::invalid(why));
        }
        self.inner.store.put_plan(&self.scope, plan).await?;
        self.look_at_sign_up(&plan.name).await;
        Ok(())
    }

    /// Deletes a plan; [`ErrorKind::Conflict`](tenantry_types::ErrorKind::Conflict) while a tenant
    /// has it.
    pub async fn delete_plan(&self, name: &PlanName) -> Result<()> {
        self.inner.store.delete_plan(&self.scope, name).await
    }

    /// What a tenant has now of its plan, its exceptions counted.
    pub async fn allowance(&self, name: &TenantName) -> Result<Allowance> {
        Ok(self.allotted(name).await?.1)
    }

    /// The tenant with this name and what it has now; [`TenantInfo::source`] says from where.
    pub async fn allotted(&self, name: &TenantName) -> Result<(Arc<TenantInfo>, Allowance)> {
        let info = self.tenant(name).await?;
        let found = self.inner.store.allowance(info.id).await?;
        let has = found.ok_or_else(|| Error::not_found(Resource::Tenant, name.as_str()))?;
        Ok((info, has))
    }

    /// How much a tenant has of what is limited, by its counters; none while its place does not answer
    /// or cannot be read, or was not made yet. Its log says that it was looked at.
    pub async fn holding(&self, tenant: TenantId) -> Result<Option<Holding>> {
        let has = unless_out_of_reach(self.inner.store.holding_of(&self.scope, tenant).await)?;
        let has = has.flatten();
        if has.is_some() {
            self.note_measured(tenant);
        }
        Ok(has)
    }

    fn note_measured(&self, tenant: TenantId) {
        let log = (tenant, self.scope.author());
        self.inner.denials.note(log, "operator.measure", "sizes", DONE);
    }

    /// Changes name, state, plan, exceptions, weight, limits or settings.
    pub async fn change_tenant(
        &self,
        name: &TenantName,
        change: &TenantChange,
    ) -> Result<TenantInfo> {
        self.inner.check_served(name)?;
        change.name.as_ref().map_or(Ok(()), |new| self.inner.check_new(new))?;
        validate::tenant_change(change, self.inner.clock.now())?;
        let set = change.settings.iter();
        validate::meant(set.filter_map(|(key, value)| Some((key, value.as_ref()?))))?;
        // A token with the new name may be out that means whoever had it before.
        let is_renamed = change.name.as_ref().is_some_and(|new| new != name);
        let by_name = self.inner.authority.issuers().name_tenants();
        if is_renamed && by_name && !self.inner.store.dates_names() {
            let why = "name: while an issuer's tokens name tenants by their names, no tenant is \
                       renamed before `tenantry postgres migrate`";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        self.inner.store.change_tenant(&self.scope, name, change).await
    }

    /// Suspends a tenant: its keys are refused until it is resumed.
    pub async fn suspend_tenant(&self, name: &TenantName) -> Result<TenantInfo> {
        let state = Some(TenantState::Suspended);
        self.change_tenant(name, &TenantChange { state, ..TenantChange::default() }).await
    }

    /// Serves a suspended tenant again.
    pub async fn resume_tenant(&self, name: &TenantName) -> Result<TenantInfo> {
        let state = Some(TenantState::Active);
        self.change_tenant(name, &TenantChange { state, ..TenantChange::default() }).await
    }

    /// Begins to move a tenant to another place while it works; the rest is done in the
    /// background, also after a restart.
    pub async fn start_move(&self, name: &TenantName, to: MoveTarget) -> Result<MoveStatus> {
        self.inner.check_served(name)?;
        self.inner.store.start_move(&self.scope, name, to).await
    }

    /// Fails unless this backend keeps the place where a tenant is to be moved.
    pub async fn check_backend(
        &self,
        name: &TenantName,
        to: MoveTarget,
        backend: BackendKind,
    ) -> Result<()> {
        let location = match to.location {
            Some(location) => location,
            None => self.tenant(name).await?.location,
        };
        let sites = self.inner.store.sites(&self.scope);
        // A location that is not known is refused by whoever moves.
        let there = sites.iter().find(|site| site.location == location);
        let Some(there) = there.filter(|site| site.backend != backend) else { return Ok(()) };
        let fit = sites.iter().filter(|site| site.backend == backend);
        let names: Vec<_> = fit
            .filter(|site| site.location != Location::Own)
            .map(|site| site.location.to_string())
            .collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(Error::invalid(format!(
            "the location {location} is kept by {}, not by {}: name another location; by {} are \
             kept: {names}",
            there.backend.word(),
            backend.word(),
            backend.word()
        )))
    }

    /// The move of a tenant that is under way, or was the last one; `None` if it was never moved.
    pub async fn move_status(&self, name: &TenantName) -> Result<Option<MoveStatus>> {
        self.inner.check_served(name)?;
        self.inner.store.move_status(&self.scope, name).await
    }

    /// What a policy would do with tenants, in the order of their names from the first after `after`;
    /// with the policy that is followed if none is given. Nothing is moved. A part of it may have
    /// fewer tenants than `limit`, because measuring them takes its time.
    pub async fn plan(
        &self,
        policy: Option<&Policy>,
        after: Option<&TenantName>,
        limit: usize,
    ) -> Result<Plan> {
        let followed = self.inner.policy.get();
        let Some(policy) = policy.or(followed.map(Arc::as_ref)) else {
            return Err(Error::invalid(
                "no placement policy is followed here: give rules, on the command line by a FILE",
            ));
        };
        placement::plan(policy, &self.inner, &self.scope, (after, limit)).await
    }

    /// Cancels the move of a tenant, which stays where it is.
    pub async fn cancel_move(&self, name: &TenantName) -> Result<MoveStatus> {
        self.inner.check_served(name)?;
        self.inner.store.cancel_move(&self.scope, name).await
    }

    /// The moves that are not over, in the order in which they were asked for; the first thousand.
    pub async fn moves(&self) -> Result<Vec<MoveStatus>> {
        let mut moves = self.inner.store.moves(&self.scope).await?;
        moves.retain(|one| self.inner.serves(&one.name));
        Ok(moves)
    }

    /// Deleted tenants whose data are still to be removed, by their numbers; the first thousand.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>> {
        self.inner.store.leftovers(&self.scope).await
    }

    /// Gives up removing what a deleted tenant has left in databases that do not come back, or a
    /// living one in the place that a move still empties.
    pub async fn abandon(&self, tenant: TenantId) -> Result<Leftover> {
        self.inner.store.abandon(&self.scope, tenant).await
    }

    /// Makes an operator key; the text is shown once. With `act_as` the key may open tenants; only
    /// an operator that may do so itself can make such a key.
    pub async fn create_key(
        &self,
        act_as: bool,
        label: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<(KeyRow, String)> {
        validate::label(label)?;
        validate::expiry(expires_at, self.inner.clock.now())?;
        if act_as && !self.scope.may_act_as() {
            let error =
                Error::denied("this operator key may not open tenants, nor make one that may");
            let log = (TenantId::INSTALLATION, self.scope.author());
            self.inner.refuse(log, "key.create", label, (&error, AuditReason::ActAs));
            return Err(error);
        }
        let (row, key) =
            self.inner.store.create_operator_key(&self.scope, act_as, label, expires_at).await?;
        Ok((row, key.reveal()))
    }

    /// The operator's keys.
    pub async fn keys(&self) -> Result<Vec<KeyRow>> {
        self.inner.store.operator_keys(&self.scope).await
    }

    /// Revokes an operator key, at once.
    pub async fn revoke_key(&self, id: KeyId) -> Result<()> {
        self.inner.store.revoke_operator_key(&self.scope, id).await
    }

    /// The operator's audit log, from the first entry after `after`. What was noted before this
    /// call is in it.
    pub async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        validate::audit_page(limit)?;
        denials::flush_before_reading(&self.inner, TenantId::INSTALLATION).await;
        self.inner.store.operator_audit(&self.scope, after, limit).await
    }

    /// Erases every tenant that is served. For servers in development mode only.
    pub async fn reset(&self) -> Result<()> {
        if !self.inner.authority.is_development() {
            return Err(Error::denied("reset is only allowed by a server started with --dev"));
        }
        loop {
            let page = self.tenants(None, 1_000).await?;
            if page.is_empty() {
                return Ok(());
            }
            for tenant in page {
                self.erase_tenant(&tenant.name).await?;
            }
        }
    }
}
