//! Routes about collections.

use super::{
    super::{
        body::{self, Json},
        error::{Answer, Failure},
        extract::{ById, ByName, InDatabase, segment},
        wire::{CollectionView, CreateCollection, ModifyCollection, Paging},
    },
    Params,
};
use axum::{extract::FromRequestParts, http::StatusCode, http::request::Parts};
use tenantry_engine::{Collection, CollectionId, Engine, Level, Read, Write};

fn view<'a, L: Level, M: Level>(
    place: &'a InDatabase<L>,
    collection: &'a Collection<M>,
) -> Result<CollectionView<'a>, Failure> {
    let database = place.database.info().name.as_str();
    let tenant = &place.tenant;
    Ok(CollectionView::new(collection.info(), &tenant.asked, database, tenant.sees_all)?)
}

pub(crate) async fn create(place: InDatabase<Write>, Json(new): Json<CreateCollection>) -> Answer {
    let get_or_create = new.get_or_create;
    let spec = new.into_spec()?;
    let (made, _) = place.database.create_collection(&spec, get_or_create).await?;
    Ok(body::ok(&view(&place, &made)?))
}

pub(crate) async fn list(place: InDatabase<Read>, Params(page): Params<Paging>) -> Answer {
    let all = place.database.collections(page.into()).await?;
    let all = all.iter().map(|one| view(&place, one)).collect::<Result<Vec<_>, _>>()?;
    Ok(body::ok(&all))
}

pub(crate) async fn count(place: InDatabase<Read>) -> Answer {
    Ok(body::ok(&place.database.count_collections().await?))
}

pub(crate) async fn get(found: ByName<Read>) -> Answer {
    found.place.tenant.session.confirm().await?;
    let collection = found.place.database.collection(&found.collection.info().name).await?;
    Ok(body::ok(&view(&found.place, &collection)?))
}

/// The id in a `by-id` path.
pub(crate) struct PathId(CollectionId);

impl FromRequestParts<Engine> for PathId {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self, Failure> {
        let text = segment(parts, engine, "id").await?;
        CollectionId::parse(&text).map(Self).ok_or_else(|| {
            Failure::invalid(
                "Validation error: collection_id: Invalid collection ID format, expected UUID",
            )
        })
    }
}

pub(crate) async fn get_by_id(PathId(id): PathId, place: InDatabase<Read>) -> Answer {
    place.tenant.session.confirm().await?;
    let found = place.database.collection_by_id(id).await?;
    Ok(body::ok(&view(&place, &found)?))
}

pub(crate) async fn modify(
    ById(collection): ById<Write>,
    Json(change): Json<ModifyCollection>,
) -> Answer {
    let collection = collection.again().await?;
    let change = change.into_change(collection.info())?;
    collection.change(&change).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(crate) async fn delete(found: ByName<Write>) -> Answer {
    found.collection.remove().await?;
    Ok(body::empty(StatusCode::OK))
}
