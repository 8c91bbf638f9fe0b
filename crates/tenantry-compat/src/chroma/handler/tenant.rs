//! Routes about tenants.

use super::super::{
    body::{self, Json},
    error::{Answer, Failure},
    extract::{AsOperator, InTenant},
    name,
    wire::{NewName, TenantView},
};
use axum::http::StatusCode;
use tenantry_engine::{Admin, Read, TenantSpec};

/// Makes a tenant without a database, as Chroma does. It has no key yet: an operator makes one.
pub(crate) async fn create(AsOperator(operator): AsOperator, Json(new): Json<NewName>) -> Answer {
    let spec = TenantSpec { default_database: false, ..TenantSpec::new(name::tenant(new.name)?) };
    operator.create_tenant(&spec).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(crate) async fn get(tenant: InTenant<Read>) -> Answer {
    Ok(body::ok(&TenantView { name: &tenant.asked, resource_name: None }))
}

pub(crate) async fn update(_: InTenant<Admin>) -> Answer {
    Err(Failure::unsupported("Resource names belong to Chroma's cloud and are not supported"))
}
