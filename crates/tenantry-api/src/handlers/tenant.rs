//! A tenant's own routes: itself, its keys, its audit log.

use crate::{
    answer::{Created, created},
    body::{Body, Names, Search},
    caller::Open,
    error::Result,
    wire::{
        AuditPageOut, AuditSearch, CollectionNameIn, KeyCreateIn, KeyCreatedOut, KeyLimitsOut,
        KeyOut, KeysOut, OwnTenantOut,
    },
};
use axum::{Json, extract::State, http::StatusCode};
use tenantry_engine::{
    Admin, Allowed, CollectionName, DatabaseName, Engine, Error, KeyId, KeyRow, NewKey,
    ObjectNames, Read, Resource, Restriction, Session,
};

/// Show the tenant, what it may have and ask now, and what it keeps
#[utoipa::path(get, path = "/v1/tenant", tag = "tenant",
    responses((status = 200, description = "The tenant", body = OwnTenantOut)))]
pub(crate) async fn show_own_tenant(Open(session): Open<Read>) -> Result<Json<OwnTenantOut>> {
    let (may, has) = (session.allowance().await?, session.holding().await?);
    Ok(Json(OwnTenantOut::new(session.tenant(), may, has)))
}

/// Make a key of the tenant
#[utoipa::path(post, path = "/v1/keys", tag = "tenant", request_body = KeyCreateIn,
    responses((status = 201, description = "The key, shown once", body = KeyCreatedOut)))]
pub(crate) async fn create_key(
    Open(session): Open<Admin>,
    State(engine): State<Engine>,
    Body(body): Body<KeyCreateIn>,
) -> Result<Created<KeyCreatedOut>> {
    let expires_at = body.expires_at(engine.now())?;
    let filter = body.filter()?;
    let objects = session.resolve(&body.databases()?, &body.collections()?).await?;
    let new = NewKey {
        role: body.role.into(),
        restriction: Restriction { objects, filter },
        label: body.label,
        expires_at,
    };
    let (row, key) = session.create_key(new).await?;
    let objects = Objects::of_keys(&session, std::slice::from_ref(&row)).await?;
    Ok(created(KeyCreatedOut { key, row: KeyOut::new(&row, objects.limits(&row)) }))
}

/// List the tenant's keys
#[utoipa::path(get, path = "/v1/keys", tag = "tenant",
    responses((status = 200, description = "All keys", body = KeysOut)))]
pub(crate) async fn list_keys(Open(session): Open<Admin>) -> Result<Json<KeysOut>> {
    let rows = session.keys().await?;
    let objects = Objects::of_keys(&session, &rows).await?;
    let keys = rows.iter().map(|row| KeyOut::new(row, objects.limits(row))).collect();
    Ok(Json(KeysOut { keys }))
}

/// Revoke a key of the tenant, at once
#[utoipa::path(delete, path = "/v1/keys/{key}", tag = "tenant",
    responses((status = 204, description = "Revoked")))]
pub(crate) async fn revoke_key(
    Open(session): Open<Admin>,
    Names(key): Names<String>,
) -> Result<StatusCode> {
    let id = KeyId::parse(&key).ok_or_else(|| Error::not_found(Resource::Key, key))?;
    session.revoke_key(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read the tenant's audit log
#[utoipa::path(get, path = "/v1/audit", tag = "tenant", params(AuditSearch),
    responses((status = 200, description = "One page", body = AuditPageOut)))]
pub(crate) async fn tenant_audit(
    Open(session): Open<Admin>,
    Search(search): Search<AuditSearch>,
) -> Result<Json<AuditPageOut>> {
    let limit = search.limit()?;
    let entries = session.audit(search.after, limit).await?;
    Ok(Json(AuditPageOut::new(entries, limit)))
}

/// The present names of the objects that keys and groups are limited to; those know numbers only.
#[derive(Debug, Default)]
pub(super) struct Objects(ObjectNames);

impl Objects {
    /// Looks up only what is mentioned: most keys are not limited.
    pub(super) async fn of(session: &Session<Admin>, mentioned: &[Allowed]) -> Result<Self> {
        Ok(Self(session.names_of(mentioned).await?))
    }

    async fn of_keys(session: &Session<Admin>, rows: &[KeyRow]) -> Result<Self> {
        let mentioned = rows.iter().flat_map(|row| row.restriction.objects.iter().flatten());
        Self::of(session, &mentioned.copied().collect::<Vec<_>>()).await
    }

    /// The database, and the collection in it if it is one; none if it is gone.
    pub(super) fn name(&self, of: Allowed) -> Option<&(DatabaseName, Option<CollectionName>)> {
        self.0.get(&of)
    }

    fn limits(&self, row: &KeyRow) -> Option<KeyLimitsOut> {
        let allowed = row.restriction.objects.as_ref()?;
        let mut limits =
            KeyLimitsOut { databases: Vec::new(), collections: Vec::new(), unlisted: 0 };
        for one in allowed {
            match self.name(*one) {
                Some((database, None)) => limits.databases.push(database.to_string()),
                Some((database, Some(collection))) => limits.collections.push(CollectionNameIn {
                    database: database.to_string(),
                    collection: collection.to_string(),
                }),
                None => limits.unlisted += 1,
            }
        }
        Some(limits)
    }
}
