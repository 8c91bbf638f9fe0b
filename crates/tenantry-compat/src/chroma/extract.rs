//! What a path names, as handles. A handler that has one is allowed to be there.

use super::{auth, error::Failure};
use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use tenantry_engine::{
    Collection, CollectionId, CollectionName, Database, DatabaseName, Engine, Error, ErrorKind,
    Level, Operator, Principal, Resource, Session, Wanted,
};

/// The authenticated caller.
pub(crate) struct Caller(pub(crate) Principal);

/// The caller, if it is an operator.
pub(crate) struct AsOperator(pub(crate) Operator);

/// `/tenants/{tenant}`.
pub(crate) struct InTenant<L: Level> {
    pub(crate) session: Session<L>,
    /// The tenant's name as the path has it; answers repeat it.
    pub(crate) asked: String,
    /// True if no filter hides records from the caller.
    pub(crate) sees_all: bool,
}

/// `/tenants/{tenant}/databases/{database}`.
pub(crate) struct InDatabase<L: Level> {
    pub(crate) tenant: InTenant<L>,
    pub(crate) database: Database<L>,
}

/// `…/collections/{collection}`, where the last part is an id.
pub(crate) struct ById<L: Level>(pub(crate) Collection<L>);

/// `…/collections/{collection}`, where the last part is a name.
pub(crate) struct ByName<L: Level> {
    pub(crate) place: InDatabase<L>,
    pub(crate) collection: Collection<L>,
}

impl FromRequestParts<Engine> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Engine) -> Result<Self, Failure> {
        let who = parts.extensions.get::<Principal>().cloned();
        Ok(Self(who.ok_or_else(|| Error::internal("a route was reached without a principal"))?))
    }
}

impl FromRequestParts<Engine> for AsOperator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self, Failure> {
        let Caller(who) = Caller::from_request_parts(parts, engine).await?;
        let operator = engine.operator(&who);
        // None of it is below a path that names a tenant, where a proxy might not know it again.
        if who.path().is_some() {
            return Err(Failure::not_found("there is no such route"));
        }
        Ok(Self(operator?))
    }
}

impl<L: Level> FromRequestParts<Engine> for InTenant<L> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self, Failure> {
        let Caller(who) = Caller::from_request_parts(parts, engine).await?;
        let asked = segment(parts, engine, "tenant").await?;
        let session = auth::open(engine, &who, &asked).await?;
        Ok(Self { session, asked, sees_all: who.restriction().filter.is_none() })
    }
}

impl<L: Level> FromRequestParts<Engine> for InDatabase<L> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self, Failure> {
        let tenant = InTenant::from_request_parts(parts, engine).await?;
        let name = segment(parts, engine, "database").await?;
        if name.chars().count() < 3 {
            return Err(Failure::invalid("database name must be at least 3 characters"));
        }
        let name = DatabaseName::parse(name.as_str())
            .map_err(|_| Error::not_found(Resource::Database, name))?;
        let database = tenant.session.database(&name).await?;
        Ok(Self { tenant, database })
    }
}

impl<L: Level> FromRequestParts<Engine> for ById<L> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self, Failure> {
        let text = segment(parts, engine, "collection").await?;
        let id = CollectionId::parse(&text)
            .ok_or_else(|| Failure::invalid("Collection ID is not a valid UUIDv4"))?;
        // A collection of a deleted database is a deleted collection, and clients know only that.
        let missing = || Failure::not_found(format!("Collection [{id}] does not exist."));
        let tenant: InTenant<L> = InTenant::from_request_parts(parts, engine).await?;
        let name = segment(parts, engine, "database").await?;
        let name = DatabaseName::parse(name).map_err(|_| missing())?;
        match tenant.session.records_of(&name, Wanted::Id(id)).await {
            Ok(collection) => Ok(Self(collection)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(missing()),
            Err(error) => Err(error.into()),
        }
    }
}

impl<L: Level> FromRequestParts<Engine> for ByName<L> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self, Failure> {
        let place: InDatabase<L> = InDatabase::from_request_parts(parts, engine).await?;
        let name = segment(parts, engine, "collection").await?;
        let name = CollectionName::parse(name.as_str())
            .map_err(|_| Error::not_found(Resource::Collection, name))?;
        let collection = place.database.collection(&name).await?;
        Ok(Self { place, collection })
    }
}

/// A part of the path, decoded.
pub(crate) async fn segment(
    parts: &mut Parts,
    engine: &Engine,
    name: &str,
) -> Result<String, Failure> {
    let params = RawPathParams::from_request_parts(parts, engine)
        .await
        .map_err(|_| Failure::invalid("the path is not UTF-8"))?;
    let found = params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    Ok(found.ok_or_else(|| Error::internal("a route lacks a part that its handler reads"))?)
}
