//! Groups of a tenant's members: made, changed and removed, and what they give a guest.
//!
//! Their rows lie beside those of members, sealed with the installation's key. A member's row names its
//! groups by their numbers, which are never given again: a group that is gone gives nothing, and one
//! that is made anew under its name has no members. Whatever changes what a group gives raises the
//! epoch, also if it only adds: what is remembered of a guest has its rights.

use super::{
    Backend, Space, Tenancy, View,
    backend::Scan,
    complete,
    disk::{self, DiskGroup},
    done,
    keys::{self, Decode as _, Prefix},
    members::{self, counts_in, counts_key, member_in, unlimited},
    said,
    seal::Nonces,
    tenants::OpenTenant,
};
use crate::{Granted, GroupChange, ObjectNames};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{Admin, Group, GroupNumber, Level, MemberRole, Scope, TenantId, UserName};
use tenantry_types::{Error, ErrorKind, GroupName, Limits, Resource, Result};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

/// What a change of a group is worked out from.
struct Known {
    all: Vec<Group>,
    /// The number of one to come.
    number: GroupNumber,
    /// Who is in the one that leaves; none if that is not known.
    members: Option<Vec<UserName>>,
}

/// What was seen of a group's members before its removal has any lock: nobody has to wait while all
/// members of a tenant are looked at.
struct Seen {
    /// The counts of members as they were stored. Every commit about members or groups seals them
    /// anew, so they are the same only if nothing has changed.
    counts: Option<Vec<u8>>,
    members: Option<Vec<UserName>>,
}

/// A group that changes: made without the first, removed without the second.
struct Changing {
    before: Option<Group>,
    after: Option<Group>,
    action: &'static str,
    target: String,
}

impl<B: Backend> Tenancy<B> {
    /// All groups of a tenant, by their names.
    pub(crate) async fn groups(&self, scope: &Scope<Admin>) -> Result<Vec<Group>> {
        unlimited(scope)?;
        let tenant = self.known(scope).await?;
        let installation = self.installation().await?;
        all(&self.root_for(&tenant).await?, &installation, tenant.id()).await
    }

    pub(crate) async fn group(&self, scope: &Scope<Admin>, name: &GroupName) -> Result<Group> {
        let all = self.groups(scope).await?;
        all.into_iter().find(|group| group.name == *name).ok_or_else(|| missing(name))
    }

    /// The groups that whoever acts is in; none for whoever is no member.
    pub(crate) async fn own_groups<L: Level>(&self, scope: &Scope<L>) -> Result<Vec<GroupName>> {
        let tenant = self.known(scope).await?;
        let Some((id, _)) = scope.standing().member() else { return Ok(Vec::new()) };
        let installation = self.installation().await?;
        let root = self.root(None).await?;
        let member = member_in(&root, &installation, tenant.id(), id).await?;
        let numbers = member.map(|member| member.groups).unwrap_or_default();
        let found = named(&root, &installation, tenant.id(), &numbers).await?;
        let mut names: Vec<_> = found.into_iter().map(|group| group.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) async fn add_group(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        name: GroupName,
        granted: Granted,
    ) -> Result<Group> {
        check_grants(&granted)?;
        let now = self.now();
        let made = self.change_groups(scope, None, move |Known { all, number, .. }| {
            if all.iter().any(|one| one.name == name) {
                return Err(Error::already_exists(Resource::Group, name.as_str()));
            }
            if all.len() >= Limits::GROUPS_MAX {
                let most = Limits::GROUPS_MAX;
                let why = format!("a tenant may have {most} groups; remove one first");
                return Err(Error::new(ErrorKind::LimitExceeded, why));
            }
            let target = match said::grants(&[], &granted) {
                given if given.is_empty() => said::of(&name, "given nothing"),
                given => said::of(&name, &given),
            };
            let (grants, created_at, changed_at) = (granted.grants, now, now);
            let after = Some(Group { number, name, grants, created_at, changed_at });
            Ok(Changing { before: None, after, action: "group.add", target })
        });
        made.await?.ok_or_else(|| Error::internal("a group that was made is none"))
    }

    pub(crate) async fn change_group(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        name: &GroupName,
        change: GroupChange,
    ) -> Result<Group> {
        change.granted.as_ref().map_or(Ok(()), check_grants)?;
        let (now, asked) = (self.now(), name.clone());
        let changed = self.change_groups(scope, None, move |Known { all, .. }| {
            let before = all.iter().find(|one| one.name == asked).ok_or_else(|| missing(&asked))?;
            let mut after = before.clone();
            let mut target = format!("{asked:?}");
            if let Some(name) = change.name.filter(|name| *name != asked) {
                if all.iter().any(|one| one.name == name) {
                    return Err(Error::already_exists(Resource::Group, name.as_str()));
                }
                target = format!("{target} → {name:?}");
                after.name = name;
            }
            if let Some(granted) = change.granted {
                let given = said::grants(&before.grants, &granted);
                if !given.is_empty() {
                    target = format!("{target}: {given}");
                }
                after.grants = granted.grants;
            }
            if *before != after {
                after.changed_at = now;
            }
            let before = Some(before.clone());
            Ok(Changing { before, after: Some(after), action: "group.change", target })
        });
        changed.await?.ok_or_else(|| Error::internal("a group that was changed is none"))
    }

    pub(crate) async fn remove_group(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        name: &GroupName,
        names: ObjectNames,
    ) -> Result<()> {
        let (asked, seen) = (name.clone(), Some(self.seen_in(scope, name).await?));
        let removed = self.change_groups(scope, seen, move |Known { all, members, .. }| {
            let before = all.into_iter().find(|one| one.name == asked);
            let before = before.ok_or_else(|| missing(&asked))?;
            let taken = said::grants(&before.grants, &Granted { grants: Vec::new(), names });
            let target =
                said::of(&asked, &said::joined([taken, said::members(members.as_deref())]));
            Ok(Changing { before: Some(before), after: None, action: "group.remove", target })
        });
        removed.await.map(drop)
    }

    /// Who is in a group now, for its removal.
    async fn seen_in(&self, scope: &Scope<Admin>, name: &GroupName) -> Result<Seen> {
        unlimited(scope)?;
        let tenant = self.known(scope).await?;
        let installation = self.installation().await?;
        let root = self.root_for(&tenant).await?;
        let counts = root.get(Space::Catalog, &counts_key(tenant.id())).await?;
        let all = all(&root, &installation, tenant.id()).await?;
        let members = match all.into_iter().find(|group| group.name == *name) {
            Some(group) => {
                members::of_group(&root, &installation, tenant.id(), group.number).await?
            }
            None => None,
        };
        Ok(Seen { counts, members })
    }

    /// Works a change out from the groups as they are, with the locks of whoever changes what the root
    /// knows of a tenant; what the group is then.
    async fn change_groups(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        seen: Option<Seen>,
        work_out: impl FnOnce(Known) -> Result<Changing> + Send + 'static,
    ) -> Result<Option<Group>> {
        unlimited(scope)?;
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move {
            inner.check_gate()?;
            let tenant = inner.known(&scope).await?;
            let _rooting = inner.rooting_turn(&tenant).await?;
            let view = inner.change_root(&[&tenant]).await?;
            inner.stands_now(scope.standing(), &tenant, &view).await?;
            if !scope.standing().manages(MemberRole::Member) {
                return Err(Error::denied("groups are managed by whoever manages members"));
            }
            let installation = inner.installation_beside(Some(&view)).await?;
            let known = {
                let root = inner.root(Some(&view)).await?;
                let counts = counts_in(&root, &installation, tenant.id()).await?;
                let next = counts.last_group.checked_add(1);
                let next = next.ok_or_else(|| Error::internal("no number for a group is left"))?;
                let all = all(&root, &installation, tenant.id()).await?;
                let members = match seen {
                    Some(Seen { counts, members }) => {
                        let now = root.get(Space::Catalog, &counts_key(tenant.id())).await?;
                        members.filter(|_| counts == now)
                    }
                    None => None,
                };
                Known { all, number: GroupNumber(next), members }
            };
            let change = work_out(known)?;
            let after = change.after.clone();
            if change.before != change.after {
                inner.commit_group(&tenant, view, &installation, change, &scope).await?;
            }
            Ok(after)
        })
        .await
    }

    async fn commit_group(
        &self,
        tenant: &Arc<OpenTenant>,
        view: B::View,
        installation: &OpenTenant,
        change: Changing,
        scope: &Scope<Admin>,
    ) -> Result<()> {
        let Changing { before, after, action, target } = change;
        let mut counts =
            counts_in(&self.root(Some(&view)).await?, installation, tenant.id()).await?;
        let mut about = self.about(tenant)?;
        let mut nonces = Nonces::draw(&*self.entropy);
        let mut seal =
            |key: &[u8], row: &[u8]| installation.key().seal(key, row, true, &mut nonces);
        let Some(number) = before.iter().chain(&after).map(|group| group.number).next() else {
            return Err(Error::internal("a change of no group"));
        };
        let key = row_key(tenant.id(), number);
        let row = after.as_ref().map(|group| disk::encode(&DiskGroup::from_group(group)));
        let row = row.map(|row| seal(&key, &row));
        about.root(key, row);
        // In every commit, as in those about members: no two of them are worked out from the same.
        counts.last_group = counts.last_group.max(number.0);
        let key = counts_key(tenant.id());
        let row = seal(&key, &disk::encode(&counts.to_disk()));
        about.root(key, Some(row));
        about.tell(done(scope.author(), action, &target, 1), None);
        // A group that is made has no members.
        let gives = after.as_ref().map(|group| &group.grants);
        let takes = before.as_ref().is_some_and(|was| gives != Some(&was.grants));
        self.commit_rights(tenant, view, about, takes).await
    }
}

/// All groups of a tenant, by their names.
async fn all(root: &impl View, installation: &OpenTenant, tenant: TenantId) -> Result<Vec<Group>> {
    let mut rows = Scan::new(root, Space::Catalog, keys::groups_of(INSTALLATION, tenant), None);
    let mut found = Vec::new();
    while let Some((key, sealed)) = rows.next().await? {
        let number = keys::Group::decode(INSTALLATION, &key)
            .ok_or_else(|| Error::corrupt("the key of a group cannot be read"))?
            .group;
        let row: DiskGroup = installation.open_row(&key, &sealed)?;
        found.push(row.into_group(GroupNumber(number))?);
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Those of these groups that are there.
pub(super) async fn named(
    root: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
    numbers: &[GroupNumber],
) -> Result<Vec<Group>> {
    let keys: Vec<_> = numbers.iter().map(|number| row_key(tenant, *number)).collect();
    let mut found = Vec::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let rows = root.many(Space::Catalog, &keys).await?;
    for ((number, key), sealed) in numbers.iter().zip(&keys).zip(rows) {
        let Some(sealed) = sealed else { continue };
        let row: DiskGroup = installation.open_row(key, &sealed)?;
        found.push(row.into_group(*number)?);
    }
    Ok(found)
}

/// The numbers of the groups with these names, in order; none if nothing is said of groups.
pub(super) async fn numbers(
    root: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
    names: Option<&[GroupName]>,
) -> Result<Option<Vec<GroupNumber>>> {
    let Some(names) = names.filter(|names| !names.is_empty()) else {
        return Ok(names.map(|_| Vec::new()));
    };
    // Whatever is listed twice counts twice: a list without end must not be looked up.
    at_most("groups", names.len(), Limits::MEMBER_GROUPS_MAX)?;
    let all = all(root, installation, tenant).await?;
    let all: BTreeMap<_, _> = all.iter().map(|group| (&group.name, group.number)).collect();
    let number = |name: &GroupName| all.get(name).copied().ok_or_else(|| missing(name));
    let mut numbers = names.iter().map(number).collect::<Result<Vec<_>>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Some(numbers))
}

fn check_grants(granted: &Granted) -> Result<()> {
    at_most("grants", granted.grants.len(), Limits::GROUP_GRANTS_MAX)
}

/// What a guest is remembered with has a bound because of these.
fn at_most(what: &str, there: usize, most: usize) -> Result<()> {
    if there > most {
        return Err(Error::invalid(format!("{what}: {there}, at most {most} are allowed")));
    }
    Ok(())
}

fn missing(name: &GroupName) -> Error {
    Error::not_found(Resource::Group, name.as_str())
}

fn row_key(tenant: TenantId, number: GroupNumber) -> Vec<u8> {
    keys::Group { tenant: tenant.get(), group: number.0 }.encode(INSTALLATION)
}
