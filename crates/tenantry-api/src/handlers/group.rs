//! Groups of a tenant's members.

use super::tenant::Objects;
use crate::{
    answer::{Created, created},
    body::{Body, Names, Search},
    caller::Open,
    error::Result,
    wire::{GroupCreateIn, GroupOut, GroupPatchIn, GroupSearch, GroupsOut},
};
use axum::{Json, http::StatusCode};
use tenantry_engine::{Admin, Error, Group, GroupName, Resource, Session};

/// Make a group of members
///
/// It has no members yet. A right is on an object and not on its name: a later namesake is not meant.
#[utoipa::path(post, path = "/v1/groups", tag = "tenant", request_body = GroupCreateIn,
    responses((status = 201, description = "The group", body = GroupOut)))]
pub(crate) async fn add_group(
    Open(session): Open<Admin>,
    Body(body): Body<GroupCreateIn>,
) -> Result<Created<GroupOut>> {
    let (name, grants) = body.group()?;
    let made = session.add_group(&name, &grants).await?;
    Ok(created(shown(&session, made).await?))
}

/// List the tenant's groups
#[utoipa::path(get, path = "/v1/groups", tag = "tenant", params(GroupSearch),
    responses((status = 200, description = "One page", body = GroupsOut)))]
pub(crate) async fn list_groups(
    Open(session): Open<Admin>,
    Search(search): Search<GroupSearch>,
) -> Result<Json<GroupsOut>> {
    let (groups, next) = search.page(session.groups().await?)?;
    Ok(Json(GroupsOut { groups: all_shown(&session, groups).await?, next }))
}

/// Show a group of members
#[utoipa::path(get, path = "/v1/groups/{group}", tag = "tenant",
    responses((status = 200, description = "The group", body = GroupOut)))]
pub(crate) async fn show_group(
    Open(session): Open<Admin>,
    Names(group): Names<String>,
) -> Result<Json<GroupOut>> {
    let found = session.group(&named(&group)?).await?;
    Ok(Json(shown(&session, found).await?))
}

/// Change a group of members, at once
#[utoipa::path(patch, path = "/v1/groups/{group}", tag = "tenant", request_body = GroupPatchIn,
    responses((status = 200, description = "The group", body = GroupOut)))]
pub(crate) async fn change_group(
    Open(session): Open<Admin>,
    Names(group): Names<String>,
    Body(body): Body<GroupPatchIn>,
) -> Result<Json<GroupOut>> {
    let changed = session.change_group(&named(&group)?, &body.change()?).await?;
    Ok(Json(shown(&session, changed).await?))
}

/// Remove a group of members, at once
///
/// Its members stay members. A group that is made anew under the name has none of them.
#[utoipa::path(delete, path = "/v1/groups/{group}", tag = "tenant",
    responses((status = 204, description = "Removed")))]
pub(crate) async fn remove_group(
    Open(session): Open<Admin>,
    Names(group): Names<String>,
) -> Result<StatusCode> {
    session.remove_group(&named(&group)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a path names; what no group can be called does not exist.
fn named(text: &str) -> Result<GroupName> {
    Ok(GroupName::parse(text).map_err(|_| Error::not_found(Resource::Group, text))?)
}

async fn shown(session: &Session<Admin>, group: Group) -> Result<GroupOut> {
    let found = all_shown(session, vec![group]).await?.pop();
    Ok(found.ok_or_else(|| Error::internal("a group cannot be shown"))?)
}

async fn all_shown(session: &Session<Admin>, groups: Vec<Group>) -> Result<Vec<GroupOut>> {
    let mentioned: Vec<_> =
        groups.iter().flat_map(|group| &group.grants).map(|grant| grant.on).collect();
    let objects = Objects::of(session, &mentioned).await?;
    Ok(groups.into_iter().map(|group| GroupOut::new(group, |on| objects.name(on))).collect())
}
