//! What is done with members and their groups.

use super::Cell;
use crate::support::*;
use tenantry_engine::*;

pub(super) const MEMBERS: (&str, [&str; 15]) = (
    "Members of the tenant: owners, an admin, a member and a guest",
    [
        "list members",
        "add a guest",
        "add a member",
        "add an admin",
        "add an owner",
        "make the member a guest",
        "make the member an admin",
        "make the member an owner",
        "put the guest into a group",
        "suspend the admin",
        "make an owner a member",
        "suspend an owner",
        "remove the member",
        "remove an owner",
        "remove all owners",
    ],
);

pub(super) const GROUPS: (&str, [&str; 5]) = (
    "Groups of the tenant's members",
    ["list groups", "make a group", "change a group", "remove a group", "list own groups"],
);

/// Members who are there beside whoever acts.
const OTHERS: [(&str, MemberRole); 5] = [
    ("login/boss", MemberRole::Owner),
    ("login/chief", MemberRole::Owner),
    ("login/admin", MemberRole::Admin),
    ("login/member", MemberRole::Member),
    ("login/guest", MemberRole::Guest),
];

/// Who acts as a member.
const ACTOR: &str = "login/alice";

fn user(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

fn group(text: &str) -> GroupName {
    GroupName::parse(text).unwrap()
}

fn new_member(text: &str, role: MemberRole) -> NewMember {
    NewMember { user: user(text), role, groups: Vec::new(), email: None, name: None }
}

/// Adds the others, and a group that nobody is in.
pub(super) async fn add_others(session: &Session<Admin>) {
    for (text, role) in OTHERS {
        session.add_member(&new_member(text, role)).await.unwrap();
    }
    session.add_group(&group("group"), &[]).await.unwrap();
}

/// The token of somebody who is added as a member.
pub(super) async fn as_member(session: &Session<Admin>, role: MemberRole) -> String {
    add(session, new_member(ACTOR, role)).await
}

async fn add(session: &Session<Admin>, member: NewMember) -> String {
    session.add_member(&member).await.unwrap();
    let tenant = session.tenant().id;
    crate::tokens::token(&format!(r#""org":{tenant},"roles":["owner"]"#))
}

/// The token of a guest in a group that gives this; in none if it gives nothing.
pub(super) async fn as_guest(
    session: &Session<Admin>,
    grants: &[(&str, Option<&str>, bool)],
) -> String {
    let grant = |(on, one, writes): &(&str, Option<&str>, bool)| GrantNames {
        database: database(on),
        on: one.map_or(GrantOn::All, |one| GrantOn::Collection(collection(one))),
        writes: *writes,
    };
    let mut guest = new_member(ACTOR, MemberRole::Guest);
    if !grants.is_empty() {
        let grants: Vec<_> = grants.iter().map(grant).collect();
        session.add_group(&group("own"), &grants).await.unwrap();
        guest.groups.push(group("own"));
    }
    add(session, guest).await
}

impl Cell {
    pub(super) async fn on_members(&self, action: &str) -> Result<Option<String>> {
        use MemberRole::{Admin as RunsIt, Member as Works, Owner};
        let session = async || self.session::<Admin>().await;
        let add = async |role| session().await?.add_member(&new_member("login/new", role)).await;
        let change = async |who: &str, change: MemberChange| {
            session().await?.change_member(&user(who), &change).await
        };
        let to = |role| MemberChange { role: Some(role), ..MemberChange::default() };
        let suspend = || MemberChange { is_suspended: Some(true), ..MemberChange::default() };
        match action {
            "list members" => {
                let others = |member: &Member| member.user.as_str() != ACTOR;
                let found = session().await?.members(None, 100).await?;
                return Ok(Some(found.into_iter().filter(others).count().to_string()));
            }
            "add a member" => add(Works).await.map(drop)?,
            "add a guest" => add(MemberRole::Guest).await.map(drop)?,
            "add an admin" => add(RunsIt).await.map(drop)?,
            "add an owner" => add(Owner).await.map(drop)?,
            "make the member an admin" => change("login/member", to(RunsIt)).await.map(drop)?,
            "make the member a guest" => {
                change("login/member", to(MemberRole::Guest)).await.map(drop)?;
            }
            "make the member an owner" => change("login/member", to(Owner)).await.map(drop)?,
            "suspend the admin" => change("login/admin", suspend()).await.map(drop)?,
            "make an owner a member" => change("login/boss", to(Works)).await.map(drop)?,
            "suspend an owner" => change("login/boss", suspend()).await.map(drop)?,
            "put the guest into a group" => {
                let groups = Some(vec![group("group")]);
                let into = MemberChange { groups, ..MemberChange::default() };
                change("login/guest", into).await.map(drop)?;
            }
            "remove the member" => session().await?.remove_member(&user("login/member")).await?,
            "remove an owner" => session().await?.remove_member(&user("login/boss")).await?,
            "remove all owners" => {
                let session = session().await?;
                // Oneself last, as somebody who leaves.
                for who in ["login/boss", "login/chief", ACTOR] {
                    session.remove_member(&user(who)).await?;
                }
            }
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    pub(super) async fn on_groups(&self, action: &str) -> Result<Option<String>> {
        let session = async || self.session::<Admin>().await;
        let grant = GrantNames { database: database("d2"), on: GrantOn::All, writes: false };
        let grants = vec![grant];
        let name = group("group");
        match action {
            "list groups" => {
                let others = |one: &Group| one.name.as_str() != "own";
                let found = session().await?.groups().await?;
                return Ok(Some(found.into_iter().filter(others).count().to_string()));
            }
            "make a group" => {
                session().await?.add_group(&group("new"), &grants).await.map(drop)?;
            }
            "change a group" => {
                let change = GroupUpdate { name: None, grants: Some(grants) };
                session().await?.change_group(&name, &change).await.map(drop)?;
            }
            "remove a group" => session().await?.remove_group(&name).await?,
            "list own groups" => {
                let found = self.session::<Read>().await?.own_groups().await?;
                return Ok(Some(found.len().to_string()));
            }
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }
}
