//! Members of a tenant, and who a caller is.

use crate::{
    answer::{Created, created},
    body::{Body, Names, Search},
    caller::{Open, OpenNamed, Who},
    error::Result,
    wire::{GroupNames, MeOut, MemberCreateIn, MemberOut, MemberPatchIn, MemberSearch, MembersOut},
};
use axum::{Json, http::StatusCode};
use tenantry_engine::{Admin, Error, Member, Resource, Session, UserName};

/// Show who the caller is in the tenant
///
/// An operator enters a tenant by `X-Tenant-ID` or `/t/{tenant}`, not by the host: else it is null.
#[utoipa::path(get, path = "/v1/me", tag = "tenant",
    responses((status = 200, description = "The caller", body = MeOut)))]
pub(crate) async fn show_me(OpenNamed(session): OpenNamed, Who(who): Who) -> Result<Json<MeOut>> {
    let (tenant, groups) = match &session {
        Some(session) => (Some(session.tenant().name.as_str()), session.own_groups().await?),
        None => (None, Vec::new()),
    };
    Ok(Json(MeOut::new(&who, tenant, &groups)))
}

/// Add a member to the tenant
///
/// A token of an issuer whose tokens count for members only is taken from then on. Nobody gives a role
/// that their own does not manage.
#[utoipa::path(post, path = "/v1/members", tag = "tenant", request_body = MemberCreateIn,
    responses((status = 201, description = "The member", body = MemberOut)))]
pub(crate) async fn add_member(
    Open(session): Open<Admin>,
    Body(body): Body<MemberCreateIn>,
) -> Result<Created<MemberOut>> {
    let member = session.add_member(&body.member()?).await?;
    Ok(created(shown(&session, member).await?))
}

/// List the tenant's members
#[utoipa::path(get, path = "/v1/members", tag = "tenant", params(MemberSearch),
    responses((status = 200, description = "One page", body = MembersOut)))]
pub(crate) async fn list_members(
    Open(session): Open<Admin>,
    Search(search): Search<MemberSearch>,
) -> Result<Json<MembersOut>> {
    let (after, limit) = (search.after()?, search.limit()?);
    let found = session.members(after.as_ref(), limit + 1).await?;
    let names = names_for(&session, &found).await?;
    Ok(Json(MembersOut::new(found, limit, &names)))
}

/// Show a member of the tenant
#[utoipa::path(get, path = "/v1/members/{member}", tag = "tenant",
    responses((status = 200, description = "The member", body = MemberOut)))]
pub(crate) async fn show_member(
    Open(session): Open<Admin>,
    Names(member): Names<String>,
) -> Result<Json<MemberOut>> {
    let member = session.member(&user(&member)?).await?;
    Ok(Json(shown(&session, member).await?))
}

/// Change a member of the tenant, at once
///
/// The last owner that is not suspended keeps its role.
#[utoipa::path(patch, path = "/v1/members/{member}", tag = "tenant",
    request_body = MemberPatchIn,
    responses((status = 200, description = "The member", body = MemberOut)))]
pub(crate) async fn change_member(
    Open(session): Open<Admin>,
    Names(member): Names<String>,
    Body(body): Body<MemberPatchIn>,
) -> Result<Json<MemberOut>> {
    let member = session.change_member(&user(&member)?, &body.change()?).await?;
    Ok(Json(shown(&session, member).await?))
}

/// Remove a member from the tenant, at once
///
/// The last owner that is not suspended stays. Keys that the member has made stay, too.
#[utoipa::path(delete, path = "/v1/members/{member}", tag = "tenant",
    responses((status = 204, description = "Removed")))]
pub(crate) async fn remove_member(
    Open(session): Open<Admin>,
    Names(member): Names<String>,
) -> Result<StatusCode> {
    session.remove_member(&user(&member)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whom a path names; what no member can be called does not exist.
fn user(text: &str) -> Result<UserName> {
    Ok(UserName::parse(text).map_err(|_| Error::not_found(Resource::Member, text))?)
}

async fn shown(session: &Session<Admin>, member: Member) -> Result<MemberOut> {
    let names = names_for(session, std::slice::from_ref(&member)).await?;
    Ok(MemberOut::new(member, &names))
}

/// The names of the groups of these members, which know numbers only.
async fn names_for(session: &Session<Admin>, members: &[Member]) -> Result<GroupNames> {
    if members.iter().all(|member| member.groups.is_empty()) {
        return Ok(GroupNames::new());
    }
    let groups = session.groups().await?;
    Ok(groups.into_iter().map(|group| (group.number, group.name)).collect())
}
