//! Routes about databases.

use super::{
    super::{
        body::{self, Json},
        error::Answer,
        extract::{InDatabase, InTenant},
        name,
        wire::{DatabaseView, NewName, Paging},
    },
    Params,
};
use axum::http::StatusCode;
use tenantry_engine::{Admin, Read};

pub(crate) async fn create(tenant: InTenant<Admin>, Json(new): Json<NewName>) -> Answer {
    tenant.session.create_database(&name::database(new.name)?).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(crate) async fn list(tenant: InTenant<Read>, Params(page): Params<Paging>) -> Answer {
    let all = tenant.session.databases(page.into()).await?;
    let all: Vec<_> = all.iter().map(|d| DatabaseView::new(d.info(), &tenant.asked)).collect();
    Ok(body::ok(&all))
}

pub(crate) async fn get(place: InDatabase<Read>) -> Answer {
    let session = &place.tenant.session;
    session.confirm().await?;
    let database = session.database(&place.database.info().name).await?;
    Ok(body::ok(&DatabaseView::new(database.info(), &place.tenant.asked)))
}

pub(crate) async fn delete(place: InDatabase<Admin>) -> Answer {
    place.tenant.session.delete_database(&place.database.info().name).await?;
    Ok(body::empty(StatusCode::OK))
}
