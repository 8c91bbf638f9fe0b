//! API keys: found by id, made and revoked.
//!
//! Key rows are the installation's, sealed with its key, because a key is looked up before its
//! tenant is known. A tenant's own list names its keys.

use super::{
    Backend, Space, Tenancy, View,
    backend::Scan,
    complete,
    disk::{self, Head, Touched},
    disk_key::DiskKey,
    done,
    keys::{self, Decode as _, Prefix},
    moving,
    seal::Nonces,
    tenants::OpenTenant,
};
use crate::NewKey;
use std::sync::{Arc, atomic::Ordering};
use tenantry_auth::{
    Admin, ApiKey, Author, KeyId, KeyOwner, KeyRow, OperatorScope, Restriction, Role, Scope,
    TenantId,
};
use tenantry_types::{Error, Resource, Result, Timestamp};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

impl<B: Backend> Tenancy<B> {
    pub(crate) async fn create_operator_key(
        self: &Arc<Self>,
        scope: &OperatorScope,
        act_as: bool,
        label: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<(KeyRow, ApiKey)> {
        let key = NewKey {
            role: Role::Admin,
            restriction: Restriction::default(),
            label: label.to_owned(),
            expires_at,
        };
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move {
            let installation = inner.installation().await?;
            let _writing = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            let owner = KeyOwner::Operator { act_as };
            inner.make_key(&installation, view, owner, key, scope.author()).await
        })
        .await
    }

    pub(crate) async fn operator_keys(
        self: &Arc<Self>,
        scope: &OperatorScope,
    ) -> Result<Vec<KeyRow>> {
        self.operator_stands(scope, None).await?;
        self.keys_of(&*self.installation().await?).await
    }

    pub(crate) async fn revoke_operator_key(
        self: &Arc<Self>,
        scope: &OperatorScope,
        id: KeyId,
    ) -> Result<()> {
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move {
            let installation = inner.installation().await?;
            let _writing = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            inner.revoke(&installation, view, id, scope.author()).await
        })
        .await
    }

    pub(crate) async fn create_key(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        key: NewKey,
    ) -> Result<(KeyRow, ApiKey)> {
        unlimited(scope)?;
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move {
            let tenant = inner.known(&scope).await?;
            let _rooting = inner.rooting_turn(&tenant).await?;
            let view = inner.change_root(&[&tenant]).await?;
            inner.stands_now(scope.standing(), &tenant, &view).await?;
            let owner = KeyOwner::Tenant(tenant.id());
            inner.make_key(&tenant, view, owner, key, scope.author()).await
        })
        .await
    }

    pub(crate) async fn keys(&self, scope: &Scope<Admin>) -> Result<Vec<KeyRow>> {
        unlimited(scope)?;
        self.keys_of(&*self.known(scope).await?).await
    }

    pub(crate) async fn revoke_key(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        id: KeyId,
    ) -> Result<()> {
        unlimited(scope)?;
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move {
            let tenant = inner.known(&scope).await?;
            let _rooting = inner.rooting_turn(&tenant).await?;
            let view = inner.change_root(&[&tenant]).await?;
            inner.stands_now(scope.standing(), &tenant, &view).await?;
            inner.revoke(&tenant, view, id, scope.author()).await
        })
        .await
    }
}

/// Keys are managed by keys that nothing narrows; otherwise a limited key could make itself a
/// wider one.
fn unlimited(scope: &Scope<Admin>) -> Result<()> {
    if scope.restriction().is_none() {
        return Ok(());
    }
    Err(Error::denied("a limited key or token cannot manage keys"))
}

impl<B: Backend> Tenancy<B> {
    /// The row of a key, from memory if nothing was revoked since it was read.
    pub(crate) async fn find_key(&self, id: KeyId) -> Result<Option<Arc<KeyRow>>> {
        self.refresh(None).await?;
        // Read before the row is: a row read before a revocation is never kept as one after it.
        let revocations = self.revocations.load(Ordering::Acquire);
        if let Some(row) = self.keys.lock().get(revocations, &id) {
            return Ok(Some(row));
        }
        let Some(row) = self.key_row(None, id).await?.map(Arc::new) else { return Ok(None) };
        self.keys.lock().put(revocations, id, &row);
        Ok(Some(row))
    }

    pub(super) async fn key_row(
        &self,
        held: Option<&B::View>,
        id: KeyId,
    ) -> Result<Option<KeyRow>> {
        // Opened first: opening it takes a root of its own.
        let installation = self.installation_beside(held).await?;
        key_row_in(&self.root(held).await?, &installation, id).await
    }

    /// How many keys a tenant has, with these counters.
    pub(super) async fn count_keys(&self, owner: &OpenTenant, head: &Head) -> Result<u32> {
        if !owner.placement().is_apart() {
            return Ok(head.keys);
        }
        let ids = listed(&self.root(None).await?, owner, None, usize::MAX).await?;
        Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
    }

    /// Makes a key. The owner's writer lock is held.
    async fn make_key(
        &self,
        owner: &Arc<OpenTenant>,
        view: B::View,
        whose: KeyOwner,
        new: NewKey,
        by: Author<'_>,
    ) -> Result<(KeyRow, ApiKey)> {
        let mut random = zeroize::Zeroizing::new([0; ApiKey::RANDOM_BYTES]);
        self.entropy.fill(&format!("api key of tenant {}", owner.id()), &mut *random);
        let key = ApiKey::from_random(&random);
        let row = KeyRow {
            id: key.id(),
            owner: whose,
            role: new.role,
            restriction: Arc::new(new.restriction),
            label: new.label,
            created_at: self.now(),
            expires_at: new.expires_at,
            secret_hash: key.hash(),
        };
        let mut about = self.about(owner)?;
        let limits = self.allowance(Some(&view), owner).await?.limits;
        let count = match owner.head().filter(|_| !owner.placement().is_apart()) {
            Some(head) => head.keys as usize,
            None => listed(&view, owner, None, usize::MAX).await?.len(),
        };
        limits.room_for_key(count)?;
        let row_key = row_key(row.id);
        let bytes = disk::encode(&DiskKey::from_row(&row));
        let mut nonces = Nonces::draw(&*self.entropy);
        let installation = self.installation_beside(Some(&view)).await?;
        let sealed = installation.key().seal(&row_key, &bytes, true, &mut nonces);
        about.root(row_key, Some(sealed));
        about.list_key(*row.id.bytes(), true);
        let note = done(by, "key.create", &row.id.to_string(), 1);
        about.tell(note, Some(Touched::Key(*row.id.bytes())));
        let (set, after) = about.finish();
        self.submit(view, set).await?;
        after.apply(owner);
        Ok((row, key))
    }

    async fn keys_of(&self, owner: &OpenTenant) -> Result<Vec<KeyRow>> {
        let installation = self.installation().await?;
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let ids = self.page_of_keys(owner, &installation, after, &mut rows).await?;
            match ids.last() {
                Some(last) if ids.len() == KEYS_AT_ONCE => after = Some(*last),
                _ => return Ok(rows),
            }
        }
    }

    /// Adds the rows of the first keys behind one, and gives the ids that are listed. Nobody
    /// waits for the root for longer than that takes.
    async fn page_of_keys(
        &self,
        owner: &OpenTenant,
        installation: &OpenTenant,
        after: Option<KeyId>,
        rows: &mut Vec<KeyRow>,
    ) -> Result<Vec<KeyId>> {
        let root = self.root_for(owner).await?;
        // Where they are listed depends on where the tenant lives, as this view says it.
        let place = keys::Place { tenant: owner.id().get() }.encode(INSTALLATION);
        let is_apart = root.get(Space::Catalog, &place).await?.is_some();
        if is_apart != owner.placement().is_apart() {
            owner.check_alive()?;
            return Err(moving::moved());
        }
        let ids = listed(&root, owner, after, KEYS_AT_ONCE).await?;
        let keys: Vec<Vec<u8>> = ids.iter().map(|id| row_key(*id)).collect();
        let found = root.many(Space::Catalog, &keys).await?;
        for ((id, key), sealed) in ids.iter().zip(&keys).zip(found) {
            rows.extend(sealed.map(|row| open_row(installation, *id, key, &row)).transpose()?);
        }
        Ok(ids)
    }

    /// Revokes a key. The owner's writer lock is held.
    async fn revoke(
        &self,
        owner: &Arc<OpenTenant>,
        view: B::View,
        id: KeyId,
        by: Author<'_>,
    ) -> Result<()> {
        let mut about = self.about(owner)?;
        let listed = keys::KeyOfTenant { id: *id.bytes() }.encode(owner.prefix());
        if view.get(list_space(owner), &listed).await?.is_none() {
            return Err(Error::not_found(Resource::Key, id.to_string()));
        }
        about.list_key(*id.bytes(), false);
        about.root(row_key(id), None);
        let note = done(by, "key.revoke", &id.to_string(), 1);
        about.tell(note, Some(Touched::Key(*id.bytes())));
        let (set, after) = about.finish();
        self.submit(view, set).await?;
        after.apply(owner);
        self.revoked();
        Ok(())
    }
}

/// Where the keys of a tenant are listed: with its data, or in the root if they are apart.
fn list_space(owner: &OpenTenant) -> Space {
    if owner.placement().is_apart() { Space::Catalog } else { Space::Data }
}

/// Keys whose rows are read at once; no more than a scan reads, or it would read some twice.
const KEYS_AT_ONCE: usize = 256;

/// The ids of a tenant's keys, at most so many behind one.
async fn listed(
    root: &impl View,
    owner: &OpenTenant,
    after: Option<KeyId>,
    limit: usize,
) -> Result<Vec<KeyId>> {
    let mut ids = Vec::new();
    let all = keys::KeyOfTenant::all(owner.prefix());
    let from = after.map(|id| {
        let mut key = keys::KeyOfTenant { id: *id.bytes() }.encode(owner.prefix());
        key.push(0);
        key
    });
    let mut rows = Scan::new(root, list_space(owner), all, from);
    while ids.len() < limit
        && let Some((key, _)) = rows.next().await?
    {
        let listed = keys::KeyOfTenant::decode(owner.prefix(), &key)
            .ok_or_else(|| Error::corrupt("a key of the catalog cannot be read"))?;
        ids.push(KeyId::from_bytes(listed.id));
    }
    Ok(ids)
}

async fn key_row_in(
    view: &impl View,
    installation: &OpenTenant,
    id: KeyId,
) -> Result<Option<KeyRow>> {
    let key = row_key(id);
    let sealed = view.get(Space::Catalog, &key).await?;
    sealed.map(|sealed| open_row(installation, id, &key, &sealed)).transpose()
}

fn row_key(id: KeyId) -> Vec<u8> {
    keys::Key { id: *id.bytes() }.encode(INSTALLATION)
}

fn open_row(installation: &OpenTenant, id: KeyId, key: &[u8], sealed: &[u8]) -> Result<KeyRow> {
    let row: DiskKey = disk::decode(&installation.key().open(key, sealed)?, "a key")?;
    row.into_row(id)
}
