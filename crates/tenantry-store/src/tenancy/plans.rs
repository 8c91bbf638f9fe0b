//! Plans: what the operator offers, and what a tenant has of it.
//!
//! They are the installation's rows, sealed with its key. What a plan says counts from the commit
//! that says it, on other nodes within a second: like a right that is taken away, it ends what is
//! remembered. Which tenants have a plan is listed beside it, so that none loses its plan by a
//! deletion; what counts is each tenant's own row.
//!
//! Where tenants of a plan may live is asked when one comes to a place or to the plan, under the lock
//! under which plans are changed; whoever lives somewhere already stays.

use super::{
    Backend, Space, Tenancy, View,
    about::About,
    backend::Scan,
    complete,
    disk::DiskPlan,
    done,
    keys::{self, Decode as _, Middle, Prefix, Tail},
    moving::{move_in, row::Move},
    said,
    tenants::OpenTenant,
};
use crate::{TenantChange, TenantInfo};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{
    Allowance, Error, ErrorKind, Isolation, Limits, Location, PLANS_MAX, PlanName, Resource,
    Result, TenantPlan,
};
use tokio::sync::MutexGuard;

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

/// Plans that were used, all read when this many rights had been taken away or plans changed; there
/// are never more than [`PLANS_MAX`].
#[derive(Debug, Default)]
pub(super) struct PlanCache {
    revocations: u64,
    plans: HashMap<PlanName, Allowance>,
}

fn row_key(name: &PlanName) -> Vec<u8> {
    keys::Plan { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION)
}

/// The row that lists a tenant beside its plan; its value is empty.
pub(super) fn list_key(name: &PlanName, tenant: TenantId) -> Vec<u8> {
    let plan = Middle(name.as_str().as_bytes().to_vec());
    keys::TenantOfPlan { plan, tenant: tenant.get() }.encode(INSTALLATION)
}

fn missing(name: &PlanName) -> Error {
    Error::not_found(Resource::Plan, name.as_str())
}

async fn plan_in(
    view: &impl View,
    installation: &OpenTenant,
    name: &PlanName,
) -> Result<Option<TenantPlan>> {
    let row: Option<DiskPlan> = installation.row(view, Space::Catalog, &row_key(name)).await?;
    row.map(|row| row.into_plan(name.clone())).transpose()
}

/// Fails unless there is this plan. Who then gives it to a tenant holds the lock of the
/// installation's log until that is committed, so that nobody deletes it meanwhile.
pub(super) async fn require(view: &impl View, name: &PlanName) -> Result<()> {
    match view.get(Space::Catalog, &row_key(name)).await? {
        Some(_) => Ok(()),
        None => Err(missing(name)),
    }
}

/// The same, and fails if the plan has its tenants not live so there.
pub(super) async fn require_place(
    view: &impl View,
    installation: &OpenTenant,
    name: &PlanName,
    (isolation, location): (Isolation, Location),
) -> Result<()> {
    let plan = plan_in(view, installation, name).await?.ok_or_else(|| missing(name))?;
    plan.check_place(isolation, location)
}

/// Fails if a plan that a tenant is given does not let it live where it does, or is being moved to.
async fn require_present(
    view: &impl View,
    installation: &OpenTenant,
    name: &PlanName,
    info: &TenantInfo,
) -> Result<()> {
    let plan = plan_in(view, installation, name).await?.ok_or_else(|| missing(name))?;
    let refused = |why: String, says: &str| {
        let message = format!("{why}, and the tenant {} {says}", info.name);
        Err(Error::new(ErrorKind::Conflict, message))
    };
    if let Some(why) = plan.forbids(info.isolation, info.location) {
        let lives = format!("lives in {} at {}", info.isolation.word(), info.location);
        return refused(why, &format!("{lives}: move it first"));
    }
    let moved = move_in(view, installation, info.id).await?;
    let goal = moved.filter(Move::is_to_switch).map(|one| (one.to.isolation, one.to.location));
    match goal.and_then(|(isolation, location)| plan.forbids(isolation, location)) {
        Some(why) => refused(why, "is being moved there: cancel that first"),
        None => Ok(()),
    }
}

/// Takes a tenant that is deleted off the list of its plan's.
pub(super) fn leave_plan(about: &mut About<'_>, info: &TenantInfo) {
    if let Some(plan) = &info.plan {
        about.root(list_key(plan, info.id), None);
    }
}

/// The part of a tenant's change that is about its plan and exceptions: what the logs say of it.
/// The view is of the root, and nobody changes or deletes plans while it is held.
pub(super) async fn change_terms(
    (view, installation): (&impl View, &OpenTenant),
    about: &mut About<'_>,
    info: &mut TenantInfo,
    change: &TenantChange,
) -> Result<Vec<(&'static str, String)>> {
    let (mut told, name) = (Vec::new(), info.name.clone());
    if let Some(new) = change.plan.as_ref().filter(|new| **new != info.plan) {
        leave_plan(about, info);
        if let Some(plan) = new {
            require_present(view, installation, plan, info).await?;
            about.root(list_key(plan, info.id), Some(Vec::new()));
        }
        let plan = new.as_ref().map_or("(none)", PlanName::as_str);
        told.push(("tenant.plan", format!("{name} → {plan}")));
        info.plan.clone_from(new);
    }
    let exceptions = change.except.over(change.exceptions.unwrap_or(info.exceptions));
    if exceptions != info.exceptions {
        let what = said::exceptions(&info.exceptions, &exceptions);
        told.push(("tenant.exceptions", said::of(name.as_str(), &what)));
        info.exceptions = exceptions;
    }
    Ok(told)
}

/// Leaves of a tenant's own limits and weight what is less than its plan says, or than everybody has who
/// has none. The view is as for [`change_terms`].
pub(super) async fn bound(
    (view, installation): (&impl View, &OpenTenant),
    info: &mut TenantInfo,
) -> Result<()> {
    let most = match &info.plan {
        Some(plan) => {
            let found = plan_in(view, installation, plan).await?;
            found.ok_or_else(|| missing(plan))?.allowance
        }
        None => Allowance::default(),
    };
    (info.limits, info.weight) = most.bounding(info.limits, info.weight);
    Ok(())
}

impl<B: Backend> Tenancy<B> {
    /// What a tenant has now. `held` is as for [`Backend::root`]. One without a plan is asked nothing.
    pub(crate) async fn allowance(
        &self,
        held: Option<&B::View>,
        tenant: &OpenTenant,
    ) -> Result<Allowance> {
        let mut info = tenant.info();
        if held.is_some() && self.is_shared() {
            // The one at hand may be from before another node's change.
            if let Some(now) = Box::pin(self.open_tenant_beside(held, tenant.id())).await? {
                info = now.info();
            }
        }
        // Rare, and every operation holds this future.
        let has = match self.has(&info) {
            Some(has) => has,
            None => Box::pin(self.read_allowance(held, &info)).await?,
        };
        tenant.set_weight(has.weight);
        Ok(has)
    }

    /// What a tenant has now by what is in memory, if its plan is.
    fn has(&self, info: &TenantInfo) -> Option<Allowance> {
        let plan = match &info.plan {
            Some(plan) => self.known_plan(plan)?,
            None => Allowance::default(),
        };
        Some(info.allowance(&plan, self.now()))
    }

    async fn read_allowance(&self, held: Option<&B::View>, info: &TenantInfo) -> Result<Allowance> {
        let Some(plan) = &info.plan else {
            return Ok(info.allowance(&Allowance::default(), self.now()));
        };
        if let Some(read) = self.read_plan(held, plan).await? {
            return Ok(info.allowance(&read, self.now()));
        }
        // Without it nobody knows what the tenant may, so it is refused rather than unlimited.
        let gone = || Error::corrupt(format!("the plan {plan} is gone"));
        if !self.is_shared() {
            return Err(gone());
        }
        // Another node may have given it another one since it was read here.
        self.tenants.forget(info.id);
        let now = self.open_tenant_beside(held, info.id).await?.ok_or_else(gone)?.info();
        let plan = match &now.plan {
            Some(other) if other == plan => return Err(gone()),
            Some(other) => self.read_plan(held, other).await?.ok_or_else(gone)?,
            None => Allowance::default(),
        };
        Ok(now.allowance(&plan, self.now()))
    }

    /// The same of a tenant that is named by its id; none if it does not live.
    pub(crate) async fn allowance_by_id(&self, id: TenantId) -> Result<Option<Allowance>> {
        match self.open_tenant(id).await?.filter(|tenant| !tenant.is_gone()) {
            Some(tenant) => Ok(Some(self.allowance(None, &tenant).await?)),
            None => Ok(None),
        }
    }

    /// Fails before older programs are kept out: they would not hold to plans.
    pub(super) fn check_gate(&self) -> Result<()> {
        if self.tenants.origins.is_open() {
            return Ok(());
        }
        let message = "plans, members, exceptions, idempotency keys, a grace of deletions, webhooks and \
                       reports of usage need `tenantry postgres migrate` first: it keeps out \
                       programs that would not hold to them";
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// The same if members or vectors are limited: older programs cannot read such a row.
    pub(super) fn check_limits(&self, own: Limits) -> Result<()> {
        let Limits { users, vector_dimensions, .. } = Limits::default();
        if (own.users, own.vector_dimensions) == (users, vector_dimensions) {
            return Ok(());
        }
        self.check_gate()
    }

    /// True if a tenant's row says since when it has its name: older programs, which could not read
    /// such a row, are kept out.
    pub(crate) fn dates_names(&self) -> bool {
        self.tenants.origins.is_open()
    }

    /// The lock of whoever gives a new tenant a plan, until that is committed: a plan must not be
    /// deleted before who has it is listed beside it.
    pub(super) async fn planning<'t>(
        &self,
        installation: &'t OpenTenant,
    ) -> Result<MutexGuard<'t, ()>> {
        self.check_gate()?;
        Ok(installation.writer.lock().await)
    }

    fn known_plan(&self, name: &PlanName) -> Option<Allowance> {
        let revocations = self.revocations.load(Ordering::Acquire);
        let cache = self.plans.lock();
        (cache.revocations == revocations).then(|| cache.plans.get(name).copied()).flatten()
    }

    async fn read_plan(
        &self,
        held: Option<&B::View>,
        name: &PlanName,
    ) -> Result<Option<Allowance>> {
        // Read before the row is: one read before a change is never kept as one after it.
        let revocations = self.revocations.load(Ordering::Acquire);
        // Opened first: opening it takes a root of its own.
        let installation = self.installation_beside(held).await?;
        let found = plan_in(&self.root(held).await?, &installation, name).await?;
        let Some(TenantPlan { allowance: plan, .. }) = found else { return Ok(None) };
        let mut cache = self.plans.lock();
        if cache.revocations < revocations {
            *cache = PlanCache { revocations, plans: HashMap::new() };
        }
        if cache.revocations == revocations && cache.plans.len() < PLANS_MAX {
            cache.plans.insert(name.clone(), plan);
        }
        Ok(Some(plan))
    }

    pub(crate) async fn plan(&self, scope: &OperatorScope, name: &PlanName) -> Result<TenantPlan> {
        self.operator_stands(scope, None).await?;
        let installation = self.installation().await?;
        let found = plan_in(&self.root(None).await?, &installation, name).await?;
        found.ok_or_else(|| missing(name))
    }

    pub(crate) async fn plan_list(&self, scope: &OperatorScope) -> Result<Vec<TenantPlan>> {
        self.operator_stands(scope, None).await?;
        let installation = self.installation().await?;
        let root = self.root(None).await?;
        let mut rows = Scan::new(&root, Space::Catalog, keys::Plan::all(INSTALLATION), None);
        let mut found = Vec::new();
        while let Some((key, sealed)) = rows.next().await? {
            let row: DiskPlan = installation.open_row(&key, &sealed)?;
            found.push(row.into_plan(name_of(&key)?)?);
        }
        Ok(found)
    }

    /// Makes a plan, or has it say something else.
    pub(crate) async fn put_plan(
        self: &Arc<Self>,
        scope: &OperatorScope,
        plan: &TenantPlan,
    ) -> Result<()> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, plan) = (Arc::clone(self), scope.clone(), plan.clone());
        complete(async move {
            inner.check_gate()?;
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            let before = plan_in(&view, &installation, &plan.name).await?;
            match &before {
                Some(now) if *now == plan => return Ok(()),
                Some(_) => {}
                None => has_room(&view).await?,
            }
            let told = said::of(plan.name.as_str(), &said::plan(before.as_ref(), &plan));
            let mut log = inner.begin(&installation)?;
            log.put(Space::Catalog, row_key(&plan.name), &DiskPlan::of(&plan));
            log.audit(done(scope.author(), "plan.put", &told, 1));
            inner.commit(&installation, view, log).await?;
            inner.revoked();
            Ok(())
        })
        .await
    }

    /// Deletes a plan that no tenant has.
    pub(crate) async fn delete_plan(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &PlanName,
    ) -> Result<()> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move {
            let installation = inner.installation().await?;
            // Whoever gives a tenant a plan holds the same lock.
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            require(&view, &name).await?;
            let left = unused(&view, &name).await?;
            let mut log = inner.begin(&installation)?;
            log.remove(Space::Catalog, row_key(&name));
            let tariffs = super::usage::tariff_keys(&view, &name).await?;
            for key in left.into_iter().chain(tariffs) {
                log.remove(Space::Catalog, key);
            }
            log.audit(done(scope.author(), "plan.delete", name.as_str(), 1));
            inner.commit(&installation, view, log).await?;
            inner.revoked();
            Ok(())
        })
        .await
    }
}

fn name_of(key: &[u8]) -> Result<PlanName> {
    let unreadable = || Error::corrupt("the key of a plan cannot be read");
    let key = keys::Plan::decode(INSTALLATION, key).ok_or_else(unreadable)?;
    let name = std::str::from_utf8(key.name.0).map_err(|_| unreadable())?;
    PlanName::parse(name).map_err(|_| unreadable())
}

async fn has_room(view: &impl View) -> Result<()> {
    let rows = Scan::new(view, Space::Catalog, keys::Plan::all(INSTALLATION), None);
    if rows.count().await? < PLANS_MAX {
        return Ok(());
    }
    let message = format!("an installation has at most {PLANS_MAX} plans; delete one first");
    Err(Error::new(ErrorKind::LimitExceeded, message))
}

/// The list of a plan that no living tenant has: what was left there by tenants that were deleted
/// although they could not be read.
async fn unused(view: &impl View, name: &PlanName) -> Result<Vec<Vec<u8>>> {
    let all = keys::tenants_of_plan(INSTALLATION, name.as_str().as_bytes());
    let mut rows = Scan::new(view, Space::Catalog, all, None);
    let mut left = Vec::new();
    while let Some((key, _)) = rows.next().await? {
        let listed = keys::TenantOfPlan::decode(INSTALLATION, &key)
            .ok_or_else(|| Error::corrupt("the list of a plan cannot be read"))?;
        let row = keys::Tenant {}.encode(Prefix::of(TenantId::new(listed.tenant)));
        if view.get(Space::Catalog, &row).await?.is_some() {
            let message = format!("tenants have the plan {name}; give them another one first");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        left.push(key);
    }
    Ok(left)
}
