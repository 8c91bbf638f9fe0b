//! Tenants whose rows are changed: name, state, plan, exceptions, limits, settings.

use super::{
    Backend, Tenancy, arrival,
    disk::Touched,
    done, plans,
    tenant_rows::{name_key, require_free},
    tenants::OpenTenant,
};
use crate::{TenantChange, TenantInfo};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::OperatorScope;
use tenantry_types::{
    Error, EventKind, Limits, Location, Resource, Result, TenantName, TenantState,
};

impl<B: Backend> Tenancy<B> {
    /// Refuses what needs no look at the rows as they are under the locks.
    async fn check_change(
        &self,
        tenant: &OpenTenant,
        name: &TenantName,
        change: &TenantChange,
    ) -> Result<()> {
        if change.plan.is_some() || change.exceptions.is_some() || !change.except.is_empty() {
            self.check_gate()?;
        }
        self.check_limits(change.limits.over(Limits::default()))?;
        let Some(own) = &change.own_database else { return Ok(()) };
        if tenant.placement().location != Location::Own {
            let message = format!("the tenant {name} carries no database URL of its own");
            return Err(Error::invalid(message));
        }
        self.check_own(Some(tenant.id()), own).await
    }

    pub(super) async fn change_row(
        self: &Arc<Self>,
        name: &TenantName,
        change: TenantChange,
        scope: &OperatorScope,
    ) -> Result<TenantInfo> {
        let tenant = self.require(name).await?;
        self.check_change(&tenant, name, &change).await?;
        let _new_name = match &change.name {
            Some(new) if new != name => Some(self.reserve(new)?),
            Some(_) | None => None,
        };
        let _rooting = self.rooting(&tenant).await?;
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change_root(&[&tenant, &installation]).await?;
        // Whoever revokes an operator's key holds the same lock.
        self.operator_stands(scope, Some(&view)).await?;
        let mut about = self.about(&tenant)?;
        let mut info = (*tenant.info()).clone();
        if info.name != *name {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        }
        arrival::check_whole(&info)?;
        let mut told =
            plans::change_terms((&view, &installation), &mut about, &mut info, &change).await?;
        if let Some(new) = change.name.filter(|new| *new != info.name) {
            require_free(&view, &new).await?;
            told.push(("tenant.rename", format!("{name} → {new}")));
            about.root(name_key(&info.name), None);
            about.root(name_key(&new), Some(info.id.get().to_be_bytes().to_vec()));
            // Never back, should the clock have gone: what was refused stays refused.
            if self.dates_names() {
                info.named_at = self.now().max(info.named_at);
            }
            info.name = new;
        }
        if let Some(state) = change.state.filter(|state| *state != info.state) {
            told.push((word_of(state)?, name.to_string()));
            info.state = state;
        }
        let before = info.clone();
        info.weight = change.weight.unwrap_or(info.weight);
        info.limits = change.limits.over(info.limits);
        set_all(&mut info.settings, change.settings);
        if before != info {
            told.push(("tenant.change", name.to_string()));
        }
        if let Some(own) = &change.own_database {
            let (key, row) = self.own_row(&installation, tenant.id(), own);
            about.root(key, Some(row));
            told.push(("tenant.database", name.to_string()));
        }
        if told.is_empty() {
            return Ok(info);
        }
        about.put_tenant(&info);
        let mut log = self.begin(&installation)?;
        for kind in told.iter().filter_map(|(action, _)| event_of(action)) {
            self.tell_of((&view, &installation), &mut log, kind, info.named(), None).await?;
        }
        for (action, target) in told {
            about.tell(done(scope.author(), action, &target, 1), Some(Touched::Tenant));
            log.audit(done(scope.author(), action, &target, 1));
        }
        self.commit_two(view, (&tenant, about), (&installation, log)).await?;
        self.tenants.renew(&tenant, info.clone());
        self.own_changed(tenant.id());
        self.revoked();
        Ok(info)
    }
}

/// What logs say of a tenant that is given this state.
fn word_of(state: TenantState) -> Result<&'static str> {
    match state {
        TenantState::Active => Ok("tenant.resume"),
        TenantState::Suspended => Ok("tenant.suspend"),
        TenantState::Deleted | TenantState::Provisioning => {
            Err(Error::invalid("a tenant is erased by deleting it"))
        }
    }
}

/// What endpoints are told of what logs say of a tenant that is changed.
fn event_of(action: &str) -> Option<EventKind> {
    match action {
        "tenant.suspend" => Some(EventKind::TenantSuspended),
        "tenant.resume" => Some(EventKind::TenantResumed),
        _ => None,
    }
}

/// Sets and removes settings.
fn set_all(settings: &mut BTreeMap<String, String>, changes: BTreeMap<String, Option<String>>) {
    for (key, value) in changes {
        match value {
            Some(value) => settings.insert(key, value),
            None => settings.remove(&key),
        };
    }
}
