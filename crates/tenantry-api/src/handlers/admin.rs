//! `/v1/admin`: the operator's routes. They reach no tenant's data.

use crate::{
    answer::{Created, created},
    body::{Body, Names, Repeatable, Search},
    caller::AsOperator,
    error::Result,
    wire::{
        AdviceOut, AdviceSearch, AuditPageOut, AuditSearch, DeleteSearch, LeftoverOut,
        LeftoversOut, OperatorKeyCreateIn, OperatorKeyCreatedOut, OperatorKeyOut, OperatorKeysOut,
        TenantCreateIn, TenantOut, TenantPatchIn, TenantSearch, TenantShowSearch, TenantsOut,
    },
};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use tenantry_engine::{Engine, Error, KeyId, Resource, TenantId, TenantInfo, TenantName};

/// Make a tenant
///
/// With an `Idempotency-Key` a request that is repeated with the same key and body, by the same
/// caller, is answered with the tenant as it is now and `Idempotency-Replayed: true`, as long as the
/// tenant has its name.
#[utoipa::path(post, path = "/v1/admin/tenants", tag = "admin", request_body = TenantCreateIn,
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$",
        description = "1 to 255 visible ASCII characters")),
    responses((status = 201, description = "The new tenant", body = TenantOut)))]
pub(crate) async fn create_tenant(
    AsOperator(operator): AsOperator,
    Repeatable(key): Repeatable,
    Body(body): Body<TenantCreateIn>,
) -> Result<Response> {
    let spec = body.spec()?;
    let (info, is_repeated) = match key {
        Some(key) => operator.create_tenant_once(&spec, &key).await?,
        None => (operator.create_tenant(&spec).await?, false),
    };
    let mut response = created(TenantOut::from(info)).into_response();
    if is_repeated {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert("idempotency-replayed", yes);
    }
    Ok(response)
}

/// List tenants in the order of their names
#[utoipa::path(get, path = "/v1/admin/tenants", tag = "admin", params(TenantSearch),
    responses((status = 200, description = "One page", body = TenantsOut)))]
pub(crate) async fn list_tenants(
    AsOperator(operator): AsOperator,
    Search(search): Search<TenantSearch>,
) -> Result<Json<TenantsOut>> {
    let limit = search.limit()?;
    let found = operator.tenants(search.after()?.as_ref(), limit + 1).await?;
    Ok(Json(TenantsOut::new(found, limit, &operator.out_of_reach())))
}

/// Show a tenant, and what it has now of its plan
#[utoipa::path(get, path = "/v1/admin/tenants/{tenant}", tag = "admin", params(TenantShowSearch),
    responses((status = 200, description = "The tenant", body = TenantOut)))]
pub(crate) async fn show_tenant(
    AsOperator(operator): AsOperator,
    State(engine): State<Engine>,
    Names(tenant): Names<String>,
    Search(search): Search<TenantShowSearch>,
) -> Result<Json<TenantOut>> {
    let name = TenantName::parse(tenant)?;
    let (info, may) = operator.allotted(&name).await?;
    let has = if search.counts() { operator.holding(info.id).await? } else { None };
    Ok(Json(TenantOut::with_effective(TenantInfo::clone(&info), (may, has), engine.now())))
}

/// Change a tenant's name, plan, exceptions, weight, limits or settings
#[utoipa::path(patch, path = "/v1/admin/tenants/{tenant}", tag = "admin",
    request_body = TenantPatchIn,
    responses((status = 200, description = "The changed tenant", body = TenantOut)))]
pub(crate) async fn change_tenant(
    AsOperator(operator): AsOperator,
    State(engine): State<Engine>,
    Names(tenant): Names<String>,
    Body(body): Body<TenantPatchIn>,
) -> Result<Json<TenantOut>> {
    let name = TenantName::parse(tenant)?;
    let info = operator.change_tenant(&name, &body.change(engine.now())?).await?;
    Ok(Json(info.into()))
}

/// Delete a tenant
///
/// Its API keys are refused at once. If the server lets deletions be taken back for some time, this
/// answers 202 with the time when the tenant is erased; its name stays taken until then. Otherwise, or
/// with `now=true`, its data key is destroyed when this answers.
#[utoipa::path(delete, path = "/v1/admin/tenants/{tenant}", tag = "admin", params(DeleteSearch),
    responses((status = 202, description = "Deleted, and erased later", body = TenantOut),
        (status = 204, description = "Erased")))]
pub(crate) async fn delete_tenant(
    AsOperator(operator): AsOperator,
    Names(tenant): Names<String>,
    Search(search): Search<DeleteSearch>,
) -> Result<Response> {
    let name = TenantName::parse(tenant)?;
    if search.now() {
        operator.erase_tenant(&name).await?;
    } else if let Some(info) = operator.delete_tenant(&name).await? {
        return Ok((StatusCode::ACCEPTED, Json(TenantOut::from(info))).into_response());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Take back the deletion of a tenant that is not erased yet
#[utoipa::path(post, path = "/v1/admin/tenants/{tenant}/restore", tag = "admin",
    responses((status = 200, description = "The tenant, as it was", body = TenantOut)))]
pub(crate) async fn restore_tenant(
    AsOperator(operator): AsOperator,
    Names(tenant): Names<String>,
) -> Result<Json<TenantOut>> {
    let info = operator.restore_tenant(&TenantName::parse(tenant)?).await?;
    Ok(Json(info.into()))
}

/// Suspend a tenant: its keys are refused until it is resumed
#[utoipa::path(post, path = "/v1/admin/tenants/{tenant}/suspend", tag = "admin",
    responses((status = 200, description = "The suspended tenant", body = TenantOut)))]
pub(crate) async fn suspend_tenant(
    AsOperator(operator): AsOperator,
    Names(tenant): Names<String>,
) -> Result<Json<TenantOut>> {
    let info = operator.suspend_tenant(&TenantName::parse(tenant)?).await?;
    Ok(Json(info.into()))
}

/// Serve a suspended tenant again
#[utoipa::path(post, path = "/v1/admin/tenants/{tenant}/resume", tag = "admin",
    responses((status = 200, description = "The active tenant", body = TenantOut)))]
pub(crate) async fn resume_tenant(
    AsOperator(operator): AsOperator,
    Names(tenant): Names<String>,
) -> Result<Json<TenantOut>> {
    let info = operator.resume_tenant(&TenantName::parse(tenant)?).await?;
    Ok(Json(info.into()))
}

/// Say where a tenant should live, and why
///
/// From what the operator says of it here and from how much it has: numbers of its databases,
/// collections and records, which is noted in the tenant's audit log as `operator.measure`.
#[utoipa::path(get, path = "/v1/admin/tenants/{tenant}/advice", tag = "admin",
    params(AdviceSearch),
    responses((status = 200, description = "The advice; nothing is changed", body = AdviceOut)))]
pub(crate) async fn advise_tenant(
    AsOperator(operator): AsOperator,
    Names(tenant): Names<String>,
    Search(search): Search<AdviceSearch>,
) -> Result<Json<AdviceOut>> {
    let needs = search.needs()?;
    let (info, advice) = operator.advise(&TenantName::parse(tenant)?, &needs).await?;
    Ok(Json(AdviceOut::new(&info, advice)))
}

/// List deleted tenants whose data are still to be removed
///
/// Nobody can read them: a deletion destroys the tenant's key before it answers. At most 1,000 are
/// listed.
#[utoipa::path(get, path = "/v1/admin/leftovers", tag = "admin",
    responses((status = 200, description = "All of them", body = LeftoversOut)))]
pub(crate) async fn list_leftovers(AsOperator(operator): AsOperator) -> Result<Json<LeftoversOut>> {
    let found = operator.leftovers().await?;
    Ok(Json(LeftoversOut { leftovers: found.into_iter().map(LeftoverOut::from).collect() }))
}

/// Give up removing what a deleted tenant has left in a database that does not come back
///
/// It stays there. What the installation knows of the tenant is removed. Of a living tenant it gives
/// up the place that a move from or to another location still empties; the move is over then.
#[utoipa::path(delete, path = "/v1/admin/leftovers/{tenant}", tag = "admin",
    responses((status = 200, description = "What is left behind", body = LeftoverOut)))]
pub(crate) async fn abandon_leftover(
    AsOperator(operator): AsOperator,
    Names(tenant): Names<String>,
) -> Result<Json<LeftoverOut>> {
    let number = tenant.parse().map_err(|_| Error::not_found(Resource::Tenant, tenant))?;
    Ok(Json(operator.abandon(TenantId::new(number)).await?.into()))
}

/// Make an operator key
#[utoipa::path(post, path = "/v1/admin/keys", tag = "admin", request_body = OperatorKeyCreateIn,
    responses((status = 201, description = "The key, shown once", body = OperatorKeyCreatedOut)))]
pub(crate) async fn create_operator_key(
    AsOperator(operator): AsOperator,
    State(engine): State<Engine>,
    Body(body): Body<OperatorKeyCreateIn>,
) -> Result<Created<OperatorKeyCreatedOut>> {
    let expires_at = body.expires_at(engine.now())?;
    let (row, key) = operator.create_key(body.act_as, &body.label, expires_at).await?;
    Ok(created(OperatorKeyCreatedOut { key, row: (&row).into() }))
}

/// List operator keys
#[utoipa::path(get, path = "/v1/admin/keys", tag = "admin",
    responses((status = 200, description = "All operator keys", body = OperatorKeysOut)))]
pub(crate) async fn list_operator_keys(
    AsOperator(operator): AsOperator,
) -> Result<Json<OperatorKeysOut>> {
    let rows = operator.keys().await?;
    Ok(Json(OperatorKeysOut { keys: rows.iter().map(OperatorKeyOut::from).collect() }))
}

/// Revoke an operator key, at once
#[utoipa::path(delete, path = "/v1/admin/keys/{key}", tag = "admin",
    responses((status = 204, description = "Revoked")))]
pub(crate) async fn revoke_operator_key(
    AsOperator(operator): AsOperator,
    Names(key): Names<String>,
) -> Result<StatusCode> {
    let id = KeyId::parse(&key).ok_or_else(|| Error::not_found(Resource::Key, key))?;
    operator.revoke_key(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read the operator's audit log
#[utoipa::path(get, path = "/v1/admin/audit", tag = "admin", params(AuditSearch),
    responses((status = 200, description = "One page", body = AuditPageOut)))]
pub(crate) async fn operator_audit(
    AsOperator(operator): AsOperator,
    Search(search): Search<AuditSearch>,
) -> Result<Json<AuditPageOut>> {
    let limit = search.limit()?;
    let entries = operator.audit(search.after, limit).await?;
    Ok(Json(AuditPageOut::new(entries, limit)))
}
