//! Members of tenants: found by whom a token speaks for, added, changed and removed.
//!
//! Their rows are the installation's, sealed with its key: whose member somebody is, is looked up
//! before the tenant is opened. They lie under a keyed hash of the name, since a name may be an
//! address. How many there are is a row that each commit about members changes, so that no race
//! gets past the limit, or leaves a tenant without an owner.

use super::{
    Backend, Space, Tenancy, View,
    about::About,
    backend::Scan,
    complete,
    disk::{self, DiskMember, DiskMemberCounts},
    done, groups,
    keys::{self, Decode as _, Prefix},
    said,
    seal::Nonces,
    tenants::OpenTenant,
};
use crate::{MemberChange, NewMember};
use std::sync::{Arc, atomic::Ordering};
use tenantry_auth::{
    Admin, GroupNumber, Member, MemberId, MemberRights, MemberRole, Scope, Standing, TenantId,
    UserName,
};
use tenantry_types::{Error, ErrorKind, GroupName, Limits, Resource, Result, Term};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

/// Whose members are more is not looked through for those of one group.
const LOOKED_THROUGH_MAX: u32 = 1_000;
/// Members that are looked at before others have their turn.
const LOOKED_AT_ONCE: u32 = 100;

/// What a change of a member is worked out from.
struct Known {
    id: MemberId,
    before: Option<Member>,
    /// What the groups are called that it is in.
    was_in: Vec<GroupName>,
    /// The groups that it is to be in, if anything is said of them.
    groups: Option<Vec<GroupNumber>>,
}

/// A member that changes: added without the first, removed without the second.
struct Changing {
    before: Option<Member>,
    after: Option<Member>,
    action: &'static str,
    target: String,
}

impl<B: Backend> Tenancy<B> {
    /// The member of a tenant whom tokens call so, and what its groups give it, from memory if no right
    /// was taken away since it was read.
    pub(crate) async fn find_member(
        &self,
        tenant: TenantId,
        user: &UserName,
    ) -> Result<Option<Arc<MemberRights>>> {
        self.refresh(None).await?;
        // Read before the row is.
        let revocations = self.revocations.load(Ordering::Acquire);
        let installation = self.installation().await?;
        let id = id_of(&installation, tenant, user);
        if let Some(found) = self.members.lock().get(revocations, &(tenant, id)) {
            return Ok(Some(found));
        }
        let found = rights_in(&self.root(None).await?, &installation, tenant, id).await?;
        let found = found.filter(|rights| rights.member.user == *user).map(Arc::new);
        if let Some(found) = &found {
            self.members.lock().put(revocations, (tenant, id), found);
        }
        Ok(found)
    }

    /// True if a right that came by a member stands: it is active, in its role at least, and a guest's
    /// groups give what they gave.
    pub(super) async fn member_stands(
        &self,
        held: Option<&B::View>,
        (tenant, id): (TenantId, MemberId),
        standing: &Standing,
    ) -> Result<bool> {
        // Opened first: opening it takes a root of its own.
        let installation = self.installation_beside(held).await?;
        let found = rights_in(&self.root(held).await?, &installation, tenant, id).await?;
        Ok(found.is_some_and(|now| standing.is_kept_by(&now)))
    }

    pub(crate) async fn members(
        &self,
        scope: &Scope<Admin>,
        after: Option<&UserName>,
        limit: usize,
    ) -> Result<Vec<Member>> {
        unlimited(scope)?;
        let tenant = self.known(scope).await?;
        let installation = self.installation().await?;
        let from = after.map(|user| {
            let mut key = row_key(tenant.id(), id_of(&installation, tenant.id(), user));
            key.push(0);
            key
        });
        let root = self.root_for(&tenant).await?;
        let all = keys::members_of(INSTALLATION, tenant.id());
        let mut rows = Scan::new(&root, Space::Catalog, all, from);
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = rows.next().await?
        {
            found.push(read(&installation, row)?);
        }
        Ok(found)
    }

    pub(crate) async fn member(&self, scope: &Scope<Admin>, user: &UserName) -> Result<Member> {
        unlimited(scope)?;
        let tenant = self.known(scope).await?;
        let installation = self.installation().await?;
        let id = id_of(&installation, tenant.id(), user);
        let found = member_in(&self.root(None).await?, &installation, tenant.id(), id).await?;
        found.ok_or_else(|| missing(user))
    }

    pub(crate) async fn add_member(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        new: NewMember,
    ) -> Result<Member> {
        let now = self.now();
        let named = Some(new.groups.clone());
        self.change_members(scope, new.user.clone(), named, move |known| {
            let Known { id, before, groups, .. } = known;
            if before.is_some() {
                return Err(Error::already_exists(Resource::Member, new.user.as_str()));
            }
            let NewMember { user, role, groups: named, email, name } = new;
            let mut target = format!("{:?} → {}", user.as_str(), role.word());
            if !named.is_empty() {
                target = format!("{target}, {}", said::groups(&named));
            }
            let groups = groups.unwrap_or_default();
            let (created_at, changed_at, is_suspended) = (now, now, false);
            let after = Member {
                id,
                user,
                role,
                is_suspended,
                groups,
                email,
                name,
                created_at,
                changed_at,
            };
            Ok(Changing { before: None, after: Some(after), action: "member.add", target })
        })
        .await?
        .ok_or_else(|| Error::internal("a member that was added is none"))
    }

    pub(crate) async fn change_member(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        user: &UserName,
        change: MemberChange,
    ) -> Result<Member> {
        let now = self.now();
        let asked = user.clone();
        let named = change.groups.clone();
        self.change_members(scope, user.clone(), named, move |Known { before, groups, .. }| {
            let before = before.ok_or_else(|| missing(&asked))?;
            let mut after = before.clone();
            after.groups = groups.unwrap_or(after.groups);
            after.role = change.role.unwrap_or(after.role);
            after.is_suspended = change.is_suspended.unwrap_or(after.is_suspended);
            after.email = change.email.unwrap_or(after.email);
            after.name = change.name.unwrap_or(after.name);
            let named = change.groups.as_deref();
            let (action, target) = told(&before, &after, named);
            if before != after {
                after.changed_at = now;
            }
            Ok(Changing { before: Some(before), after: Some(after), action, target })
        })
        .await?
        .ok_or_else(|| Error::internal("a member that was changed is none"))
    }

    pub(crate) async fn remove_member(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        user: &UserName,
    ) -> Result<()> {
        let asked = user.clone();
        let removed = self.change_members(scope, user.clone(), None, move |known| {
            let before = known.before.ok_or_else(|| missing(&asked))?;
            let target = said::of(asked.as_str(), &lost(&before, &known.was_in));
            Ok(Changing { before: Some(before), after: None, action: "member.remove", target })
        });
        removed.await.map(drop)
    }

    /// Works a change out from the member as it is and from the groups that are named, with the locks of
    /// whoever changes what the root knows of a tenant; what the member is then.
    async fn change_members(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        user: UserName,
        named: Option<Vec<GroupName>>,
        work_out: impl FnOnce(Known) -> Result<Changing> + Send + 'static,
    ) -> Result<Option<Member>> {
        unlimited(scope)?;
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move {
            inner.check_gate()?;
            let tenant = inner.known(&scope).await?;
            let _rooting = inner.rooting_turn(&tenant).await?;
            let view = inner.change_root(&[&tenant]).await?;
            inner.stands_now(scope.standing(), &tenant, &view).await?;
            let installation = inner.installation_beside(Some(&view)).await?;
            let id = id_of(&installation, tenant.id(), &user);
            let known = {
                let (root, of) = (inner.root(Some(&view)).await?, tenant.id());
                let before = member_in(&root, &installation, of, id).await?;
                let numbers =
                    before.as_ref().map_or(&[] as &[_], |member| member.groups.as_slice());
                let was_in = groups::named(&root, &installation, of, numbers).await?;
                let was_in = was_in.into_iter().map(|group| group.name).collect();
                let groups = groups::numbers(&root, &installation, of, named.as_deref()).await?;
                Known { id, before, was_in, groups }
            };
            let change = work_out(known)?;
            for member in change.before.iter().chain(&change.after) {
                if !scope.standing().manages(member.role) {
                    let role = member.role.word();
                    return Err(Error::denied(format!("your role manages no {role}s")));
                }
            }
            let after = change.after.clone();
            if change.before != change.after {
                inner.commit_member(&tenant, view, &installation, (change, id), &scope).await?;
            }
            Ok(after)
        })
        .await
    }

    async fn commit_member(
        &self,
        tenant: &Arc<OpenTenant>,
        view: B::View,
        installation: &OpenTenant,
        (change, id): (Changing, MemberId),
        scope: &Scope<Admin>,
    ) -> Result<()> {
        let Changing { before, after, action, target } = change;
        let counts = counts_in(&self.root(Some(&view)).await?, installation, tenant.id()).await?;
        let counts = counts.after(before.as_ref(), after.as_ref())?;
        if before.is_none() {
            let has = self.allowance(Some(&view), tenant).await?;
            counts.check(has.limits.users)?;
        }
        let mut about = self.about(tenant)?;
        let mut nonces = Nonces::draw(&*self.entropy);
        let mut seal = |key: Vec<u8>, row: Vec<u8>| {
            let sealed = installation.key().seal(&key, &row, true, &mut nonces);
            (key, Some(sealed))
        };
        let key = row_key(tenant.id(), id);
        let (key, row) = match &after {
            Some(member) => seal(key, disk::encode(&DiskMember::from_member(member))),
            None => (key, None),
        };
        about.root(key, row);
        let (key, row) = seal(counts_key(tenant.id()), disk::encode(&counts.to_disk()));
        about.root(key, row);
        about.tell(done(scope.author(), action, &target, 1), None);
        // Nobody remembers that somebody is no member, nor asks what is remembered for a name.
        let is_same = |was: &Member, is: &Member| {
            (was.role, was.is_suspended, &was.groups) == (is.role, is.is_suspended, &is.groups)
        };
        let takes =
            before.as_ref().is_some_and(|was| !after.as_ref().is_some_and(|is| is_same(was, is)));
        self.commit_rights(tenant, view, about, takes).await
    }

    /// Commits what was changed about members; with it what is remembered of rights counts no more,
    /// if one is taken.
    pub(super) async fn commit_rights(
        &self,
        tenant: &Arc<OpenTenant>,
        view: B::View,
        mut about: About<'_>,
        takes: bool,
    ) -> Result<()> {
        if takes {
            about.takes_right();
        }
        let (set, after) = about.finish();
        self.submit(view, set).await?;
        after.apply(tenant);
        if takes {
            self.revoked();
        }
        Ok(())
    }

    /// How many members a tenant has.
    pub(super) async fn count_members(&self, tenant: TenantId) -> Result<u32> {
        let installation = self.installation().await?;
        let counts = counts_in(&self.root(None).await?, &installation, tenant).await?;
        Ok(counts.members())
    }
}

/// How the log calls a change of a member, and what it says of it.
fn told(before: &Member, after: &Member, named: Option<&[GroupName]>) -> (&'static str, String) {
    let of_groups = named.filter(|_| before.groups != after.groups).map(said::groups);
    let (action, mut parts) = match (before.is_suspended, after.is_suspended) {
        (was, is) if before.role != after.role => {
            let mut parts = vec![format!("{} → {}", before.role.word(), after.role.word())];
            match (was, is) {
                (false, true) => parts.push("suspended".into()),
                (true, false) => parts.push("resumed".into()),
                _ => {}
            }
            ("member.role", parts)
        }
        (false, true) => ("member.suspend", Vec::new()),
        (true, false) => ("member.resume", Vec::new()),
        _ if of_groups.is_some() => ("member.groups", Vec::new()),
        _ => ("member.change", Vec::new()),
    };
    parts.extend(of_groups);
    (action, said::of(before.user.as_str(), &parts.join(", ")))
}

/// What the log says of a member that is removed.
fn lost(member: &Member, was_in: &[GroupName]) -> String {
    let mut parts = vec![member.role.word().to_owned()];
    if member.is_suspended {
        parts.push("suspended".into());
    }
    if !was_in.is_empty() {
        parts.push(said::groups(was_in));
    }
    parts.join(", ")
}

/// Who is in a group; none if the tenant has too many members to look at each.
pub(super) async fn of_group(
    root: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
    group: GroupNumber,
) -> Result<Option<Vec<UserName>>> {
    if counts_in(root, installation, tenant).await?.members > LOOKED_THROUGH_MAX {
        return Ok(None);
    }
    let all = keys::members_of(INSTALLATION, tenant);
    let mut rows = Scan::new(root, Space::Catalog, all, None);
    let (mut found, mut looked_at) = (Vec::new(), 0_u32);
    while let Some(row) = rows.next().await? {
        let member = read(installation, row)?;
        if member.groups.contains(&group) {
            found.push(member.user);
        }
        looked_at += 1;
        if looked_at.is_multiple_of(LOOKED_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
    Ok(Some(found))
}

/// The member in this row.
fn read(installation: &OpenTenant, (key, sealed): (Vec<u8>, Vec<u8>)) -> Result<Member> {
    let id = keys::Member::decode(INSTALLATION, &key)
        .ok_or_else(|| Error::corrupt("the key of a member cannot be read"))?
        .id;
    let row: DiskMember = installation.open_row(&key, &sealed)?;
    row.into_member(MemberId(id))
}

/// Takes the members of a tenant that is erased with it, and their groups. The view is of the root.
pub(super) async fn leave(view: &impl View, about: &mut About<'_>, tenant: TenantId) -> Result<()> {
    for key in all_keys(view, tenant).await? {
        about.root(key, None);
    }
    Ok(())
}

/// The keys of all that the root has of a tenant's members and groups.
pub(super) async fn all_keys(view: &impl View, tenant: TenantId) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for all in [keys::members_of(INSTALLATION, tenant), keys::groups_of(INSTALLATION, tenant)] {
        let mut rows = Scan::new(view, Space::Catalog, all, None);
        while let Some((key, _)) = rows.next().await? {
            found.push(key);
        }
    }
    if !found.is_empty() || view.get(Space::Catalog, &counts_key(tenant)).await?.is_some() {
        found.push(counts_key(tenant));
    }
    Ok(found)
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    members: u32,
    /// Owners that are not suspended.
    owners: u32,
    /// The number of the last group that was made.
    pub(super) last_group: u32,
}

impl Counts {
    pub(super) fn of(row: DiskMemberCounts) -> Self {
        match row {
            DiskMemberCounts::V1 { members, owners } => Self { members, owners, last_group: 0 },
            DiskMemberCounts::V2 { members, owners, last_group } => {
                Self { members, owners, last_group }
            }
        }
    }

    /// Members, suspended ones too.
    pub(super) fn members(self) -> u32 {
        self.members
    }

    pub(super) fn to_disk(self) -> DiskMemberCounts {
        let Self { members, owners, last_group } = self;
        match last_group {
            0 => DiskMemberCounts::V1 { members, owners },
            _ => DiskMemberCounts::V2 { members, owners, last_group },
        }
    }

    /// After a member has changed; the last owner stays.
    fn after(self, before: Option<&Member>, after: Option<&Member>) -> Result<Self> {
        let is_owner = |member: Option<&Member>| member.is_some_and(Member::is_acting_owner);
        let count = |now: u32, was: bool, is: bool| match (was, is) {
            (false, true) => now.saturating_add(1),
            (true, false) => now.saturating_sub(1),
            (true, true) | (false, false) => now,
        };
        let counts = Self {
            members: count(self.members, before.is_some(), after.is_some()),
            owners: count(self.owners, is_owner(before), is_owner(after)),
            ..self
        };
        if counts.owners == 0 && self.owners > 0 {
            let why = "the last owner cannot be removed, suspended or given another role; make \
                       another member owner first";
            return Err(Error::new(ErrorKind::Conflict, why));
        }
        Ok(counts)
    }

    fn check(self, limit: u32) -> Result<()> {
        let limit = limit.min(Limits::USERS_MAX);
        if self.members <= limit {
            return Ok(());
        }
        let why = format!("this tenant may have {limit} members; remove one first");
        Err(Error::new(ErrorKind::LimitExceeded, why).with_limit(Term::Users))
    }
}

/// Members and groups are managed by whoever nothing narrows; otherwise a limited key could make itself
/// a way to more.
pub(super) fn unlimited(scope: &Scope<Admin>) -> Result<()> {
    if scope.restriction().is_none() {
        return Ok(());
    }
    Err(Error::denied("a limited key or token cannot manage members and groups"))
}

fn missing(user: &UserName) -> Error {
    Error::not_found(Resource::Member, user.as_str())
}

/// By what a member is kept: a hash that only the installation can make.
fn id_of(installation: &OpenTenant, tenant: TenantId, user: &UserName) -> MemberId {
    let named = [&tenant.get().to_be_bytes(), user.as_str().as_bytes()].concat();
    MemberId(installation.key().derive("tenantry 2026-11 member of a tenant", &named))
}

fn row_key(tenant: TenantId, id: MemberId) -> Vec<u8> {
    keys::Member { tenant: tenant.get(), id: id.0 }.encode(INSTALLATION)
}

pub(super) fn counts_key(tenant: TenantId) -> Vec<u8> {
    keys::MemberCounts { tenant: tenant.get() }.encode(INSTALLATION)
}

pub(super) async fn member_in(
    root: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
    id: MemberId,
) -> Result<Option<Member>> {
    let row: Option<DiskMember> =
        installation.row(root, Space::Catalog, &row_key(tenant, id)).await?;
    row.map(|row| row.into_member(id)).transpose()
}

/// A member, and what its groups give it.
async fn rights_in(
    root: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
    id: MemberId,
) -> Result<Option<MemberRights>> {
    let Some(member) = member_in(root, installation, tenant, id).await? else { return Ok(None) };
    let given = match member.role {
        MemberRole::Guest => groups::named(root, installation, tenant, &member.groups).await?,
        MemberRole::Member | MemberRole::Admin | MemberRole::Owner => Vec::new(),
    };
    Ok(Some(MemberRights::new(member, given.into_iter().flat_map(|group| group.grants))))
}

pub(super) async fn counts_in(
    root: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
) -> Result<Counts> {
    let row: Option<DiskMemberCounts> =
        installation.row(root, Space::Catalog, &counts_key(tenant)).await?;
    Ok(row.map_or_else(Counts::default, Counts::of))
}
