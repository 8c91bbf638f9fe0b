//! Making tenants, each request for one once.

use super::Operator;
use crate::{denials::DONE, engine::Inner, validate};
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_store::TenantInfo;
use tenantry_types::{
    ErrorKind, IdempotencyKey, Isolation, Limits, PlanName, Result, SecretText, TenantName,
    TenantPlan, TenantSpec, TenantState,
};

impl Inner {
    /// The plan that a tenant gets; fails unless there is one, and has it live where it is to be made.
    pub(crate) async fn check_plan(
        &self,
        scope: &OperatorScope,
        plan: &PlanName,
        spec: &TenantSpec,
    ) -> Result<TenantPlan> {
        let (isolation, location) = self.store.place_for(spec)?;
        let found = self.store.plan(scope, plan).await?;
        found.check_place(isolation, location)?;
        Ok(found)
    }
}

impl Operator {
    /// Fails if no tenant could be made with this plan as things are: of this isolation, or else of
    /// the usual one, at the usual location.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such plan; [`ErrorKind::Conflict`] if it has tenants
    /// live otherwise.
    pub async fn check_plan(&self, plan: &PlanName, isolation: Option<Isolation>) -> Result<()> {
        self.plan_for_new(plan, isolation).await.map(drop)
    }

    /// The same plan, if a tenant could be made with it.
    pub(crate) async fn plan_for_new(
        &self,
        plan: &PlanName,
        isolation: Option<Isolation>,
    ) -> Result<TenantPlan> {
        let spec = TenantSpec { isolation, ..TenantSpec::new(TenantName::parse("new")?) };
        self.inner.check_plan(&self.scope, plan, &spec).await
    }

    /// Makes a tenant, with the installation's plan for new ones if `spec` names none. Nothing is
    /// left behind if it fails.
    pub async fn create_tenant(&self, spec: &TenantSpec) -> Result<TenantInfo> {
        self.make(spec.clone()).await
    }

    /// Makes a tenant unless this operator has made it with this key and the same `spec` before:
    /// then it is given as it is now, and `true`. That is known as long as the tenant has its name.
    ///
    /// # Errors
    /// Those of [`Operator::create_tenant`], also while the first request is under way.
    pub async fn create_tenant_once(
        &self,
        spec: &TenantSpec,
        key: &IdempotencyKey,
    ) -> Result<(TenantInfo, bool)> {
        let mark = Some(mark(self.scope.actor(), key, spec));
        match self.make(TenantSpec { made_by: mark, ..spec.clone() }).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let found = self.inner.store.find_tenant(&spec.name).await?;
                let is_it = |info: &TenantInfo| {
                    info.made_by == mark
                        && info.state != TenantState::Provisioning
                        && info.erase_at.is_none()
                };
                match found.filter(|info| is_it(info)) {
                    Some(info) => Ok((TenantInfo::clone(&info), true)),
                    None => Err(error),
                }
            }
            made => Ok((made?, false)),
        }
    }

    async fn make(&self, mut spec: TenantSpec) -> Result<TenantInfo> {
        self.inner.check_new(&spec.name)?;
        validate::tenant_spec(&spec)?;
        validate::meant(spec.settings.iter())?;
        if spec.plan.is_none() {
            spec.plan = self.inner.default_plan.get().cloned();
        }
        let made = self.inner.store.create_tenant(&self.scope, &spec).await?;
        // The commit carries it in the new tenant's log; tenants made at once must not wait for
        // each other in the operator's.
        let log = (TenantId::INSTALLATION, self.scope.author());
        self.inner.denials.note(log, "tenant.create", spec.name.as_str(), DONE);
        if let Some(plan) = &spec.plan {
            self.inner.denials.note(log, "tenant.plan", &format!("{} → {plan}", spec.name), DONE);
        }
        Ok(made)
    }
}

/// By what a request is known again: who asks, with which key, for what. Two that differ in any of
/// it are two requests.
fn mark(actor: &str, key: &IdempotencyKey, spec: &TenantSpec) -> [u8; 32] {
    // All fields by name: whoever adds one says what it means here.
    let TenantSpec {
        name,
        weight,
        limits,
        plan,
        settings,
        default_database,
        isolation,
        location,
        own_database,
        made_by: _,
    } = spec;
    let mut hash = blake3::Hasher::new_derive_key("tenantry 2026-11 a request for a tenant");
    let mut part = |said: Option<&str>| {
        // With its length, so that no two lists of parts are the same bytes.
        let length = said.map_or(u64::MAX, |said| said.len() as u64);
        hash.update(&length.to_be_bytes());
        hash.update(said.unwrap_or_default().as_bytes());
    };
    part(Some(actor));
    part(Some(key.as_str()));
    part(Some(name.as_str()));
    part(plan.as_ref().map(PlanName::as_str));
    part(isolation.map(Isolation::word));
    part(location.map(|location| location.to_string()).as_deref());
    let admin_url = own_database.as_ref().and_then(|own| own.admin_url.as_ref());
    part(own_database.as_ref().map(|own| own.url.reveal()));
    part(admin_url.map(SecretText::reveal));
    for (key, value) in settings {
        part(Some(key));
        part(Some(value));
    }
    part(None);
    let numbers = [
        u64::from(*weight),
        u64::from(limits.databases),
        u64::from(limits.collections),
        limits.records_per_collection,
        u64::from(limits.keys),
        u64::from(limits.users),
        u64::from(*default_database),
    ];
    // What was not there always is in the hash only if it says something, so that requests of before
    // are known again.
    let dimensions = u64::from(limits.vector_dimensions);
    let is_usual = limits.vector_dimensions == Limits::default().vector_dimensions;
    for number in numbers.into_iter().chain((!is_usual).then_some(dimensions)) {
        hash.update(&number.to_be_bytes());
    }
    *hash.finalize().as_bytes()
}
