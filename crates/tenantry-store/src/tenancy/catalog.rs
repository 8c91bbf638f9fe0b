//! Databases and collections of a tenant.

use super::{
    Backend, Space, Tenancy, View,
    backend::Scan,
    complete,
    disk::{DiskCollection, DiskDatabase, Statistics, Touched},
    done,
    keys::{self, Prefix, Tail},
    small_number,
    tenants::{Commit, OpenTenant},
};
use crate::{CollectionInfo, CollectionRef, DatabaseInfo, DatabaseRef, VectorInfo};
use std::sync::Arc;
use tenantry_auth::{Admin, CanWrite, Level, Scope, TenantId};
use tenantry_types::{
    CollectionChange, CollectionId, CollectionName, CollectionNumber, CollectionSpec, DatabaseId,
    DatabaseName, DatabaseNumber, Error, ErrorKind, Limits, Page, Resource, Result, Timestamp,
};

/// The only partition of a collection so far.
pub(crate) const PARTITION: u32 = 0;

/// A public id in the form of a version 4 UUID (RFC 9562 §5.4), derived from the tenant's data
/// key and a tenant-local number: it tells nothing about other tenants, and another tenant's
/// numbers give other ids.
fn public_id(tenant: &OpenTenant, what: &str, number: u32) -> [u8; 16] {
    let hash = tenant.key().derive(&format!("tenantry 2026-11 {what} id"), &number.to_be_bytes());
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(hash) {
        *to = from;
    }
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    id
}

fn put_database(commit: &mut Commit<'_>, info: &DatabaseInfo) {
    let number = info.number.0;
    let key = keys::Database { database: number }.encode(commit.prefix());
    commit.put(Space::Data, key, &DiskDatabase::from_info(info));
    let name = keys::DatabaseName { name: Tail(info.name.as_str().as_bytes()) };
    let key = name.encode(commit.prefix());
    commit.put_clear(Space::Data, key, number.to_be_bytes().to_vec());
    commit.touch(Touched::Database(number));
}

/// Adds a database to a commit; the head counts it.
pub(super) fn put_new_database(
    commit: &mut Commit<'_>,
    tenant: &OpenTenant,
    name: &DatabaseName,
    now: Timestamp,
) -> DatabaseInfo {
    commit.head.last_database += 1;
    commit.head.databases += 1;
    let number = commit.head.last_database;
    let info = DatabaseInfo {
        number: DatabaseNumber(number),
        id: DatabaseId(public_id(tenant, "database", number)),
        name: name.clone(),
        created_at: now,
    };
    put_database(commit, &info);
    info
}

pub(crate) fn put_collection(commit: &mut Commit<'_>, info: &CollectionInfo) {
    let key = keys::Collection { collection: info.number.0 }.encode(commit.prefix());
    commit.put(Space::Data, key, &DiskCollection::from_info(info));
    commit.touch(Touched::Collection(info.number.0));
}

fn collection_name_key(prefix: Prefix, database: DatabaseNumber, name: &CollectionName) -> Vec<u8> {
    keys::CollectionName { database: database.0, name: Tail(name.as_str().as_bytes()) }
        .encode(prefix)
}

/// Rows of collections read at once.
const READ_AT_ONCE: usize = 64;
/// A collection whose row is larger is not kept in the catalog cache.
const CACHED_BYTES_MAX: usize = 16 << 10;

/// The bytes that a collection's row takes in memory.
fn weight(info: &CollectionInfo) -> usize {
    let metadata = info.metadata.iter().flatten().map(|(k, v)| k.len() + v.bytes() + 64);
    let attributes = info.attributes.iter().map(|(k, v)| k.len() + v.len() + 64);
    let vectors = info.vectors.keys().map(|name| name.as_str().len() + 64);
    256 + info.name.as_str().len()
        + metadata.sum::<usize>()
        + attributes.sum::<usize>()
        + vectors.sum::<usize>()
}

fn missing_database(name: &DatabaseName) -> Error {
    Error::not_found(Resource::Database, name.as_str())
}

impl<B: Backend> Tenancy<B> {
    pub(crate) async fn databases<L: Level>(
        &self,
        scope: &Scope<L>,
        page: Page,
    ) -> Result<Vec<DatabaseRef>> {
        let tenant = self.tenant(scope).await?;
        let view = self.view(&tenant).await?;
        let mut found = Vec::new();
        let mut skip = page.offset;
        let all = keys::DatabaseName::all(tenant.prefix());
        let mut names = Scan::new(&view, Space::Data, all, None);
        while page.limit.is_none_or(|limit| found.len() < limit) {
            let Some((_, value)) = names.next().await? else { break };
            let number = DatabaseNumber(small_number(&value)?);
            if !scope.restriction().sees_database(number) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let info = load_database(&view, &tenant, number).await?;
            found.extend(info.map(|info| DatabaseRef { tenant: tenant.id(), info }));
        }
        Ok(found)
    }

    pub(crate) async fn database<L: Level>(
        &self,
        scope: &Scope<L>,
        name: &DatabaseName,
    ) -> Result<DatabaseRef> {
        let tenant = self.tenant(scope).await?;
        let info = self.database_info(&tenant, name).await?;
        if !scope.restriction().sees_database(info.number) {
            return Err(missing_database(name));
        }
        Ok(DatabaseRef { tenant: tenant.id(), info })
    }

    pub(crate) async fn create_database(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        name: &DatabaseName,
    ) -> Result<DatabaseRef> {
        unlimited(scope)?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move {
            let tenant = inner.tenant(&scope).await?;
            let (_writing, view) = inner.writing(&scope, &tenant).await?;
            let mut commit = inner.begin(&tenant)?;
            let name_key = keys::DatabaseName { name: Tail(name.as_str().as_bytes()) };
            if view.get(Space::Data, &name_key.encode(tenant.prefix())).await?.is_some() {
                return Err(Error::already_exists(Resource::Database, name.as_str()));
            }
            let limit = tenant.info().limits.databases;
            if commit.head.databases >= limit {
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!("this tenant may have {limit} databases"),
                ));
            }
            let info = put_new_database(&mut commit, &tenant, &name, inner.now());
            commit.audit(done(scope.actor(), "database.create", name.as_str(), 1));
            inner.commit(&tenant, view, commit).await?;
            tenant.catalog_changed();
            Ok(DatabaseRef { tenant: tenant.id(), info: Arc::new(info) })
        })
        .await
    }

    pub(crate) async fn delete_database(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        name: &DatabaseName,
    ) -> Result<()> {
        unlimited(scope)?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move {
            let tenant = inner.tenant(&scope).await?;
            let (_writing, view) = inner.writing(&scope, &tenant).await?;
            let info = find_database(&view, &tenant, &name).await?;
            let info = info.ok_or_else(|| missing_database(&name))?;
            let mut commit = inner.begin(&tenant)?;
            let names = keys::collection_names_of(tenant.prefix(), info.number.0);
            let mut gone = Vec::new();
            let mut names = Scan::new(&view, Space::Data, names, None);
            let mut numbers = Vec::new();
            while let Some((_, value)) = names.next().await? {
                numbers.push(CollectionNumber(small_number(&value)?));
            }
            for numbers in numbers.chunks(READ_AT_ONCE) {
                for collection in load_collections(&view, &tenant, numbers).await? {
                    drop_collection(&mut commit, &collection);
                    gone.push(collection.number.0);
                }
            }
            let number = info.number.0;
            let prefix = tenant.prefix();
            commit.remove(Space::Data, keys::Database { database: number }.encode(prefix));
            let name_key = keys::DatabaseName { name: Tail(name.as_str().as_bytes()) };
            commit.remove(Space::Data, name_key.encode(prefix));
            commit.head.databases = commit.head.databases.saturating_sub(1);
            commit.touch(Touched::Database(number));
            commit.audit(done(scope.actor(), "database.delete", name.as_str(), 1));
            inner.commit(&tenant, view, commit).await?;
            tenant.catalog_changed();
            inner.collections_gone(tenant.placement(), gone).await
        })
        .await
    }

    pub(crate) async fn collections<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        page: Page,
    ) -> Result<Vec<CollectionRef>> {
        let tenant = self.database_tenant(scope, database).await?;
        let view = self.view(&tenant).await?;
        let mut found = Vec::new();
        let mut left = Limits::ANSWER_BYTES_MAX;
        let numbers = visible(&view, &tenant, scope, database, page).await?;
        for numbers in numbers.chunks(READ_AT_ONCE) {
            for info in load_collections(&view, &tenant, numbers).await? {
                let bytes = weight(&info);
                left = left.checked_sub(bytes).ok_or_else(crate::surface::answer_too_large)?;
                found.push(CollectionRef { tenant: tenant.id(), info, named_in: None });
            }
        }
        Ok(found)
    }

    pub(crate) async fn count_collections<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
    ) -> Result<usize> {
        let tenant = self.database_tenant(scope, database).await?;
        let view = self.view(&tenant).await?;
        Ok(visible(&view, &tenant, scope, database, Page::default()).await?.len())
    }

    pub(crate) async fn collection<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        name: &CollectionName,
    ) -> Result<CollectionRef> {
        let tenant = self.database_tenant(scope, database).await?;
        let place = (database.info.number, name.clone());
        let found = self.cached(
            &tenant,
            |catalog| catalog.by_name.get(&place).cloned(),
            async {
                let view = self.view(&tenant).await?;
                let key = collection_name_key(tenant.prefix(), place.0, name);
                let Some(value) = view.get(Space::Data, &key).await? else { return Ok(None) };
                load_collection(&view, &tenant, CollectionNumber(small_number(&value)?)).await
            },
            |catalog, info| {
                if weight(&info) <= CACHED_BYTES_MAX {
                    catalog.by_name.insert(place.clone(), info);
                }
            },
        );
        let found = found.await?;
        let found = found.filter(|info| visible_to(scope, info));
        let info = found.ok_or_else(|| Error::not_found(Resource::Collection, name.as_str()))?;
        let named_in = Some(Arc::clone(&database.info));
        Ok(CollectionRef { tenant: tenant.id(), info, named_in })
    }

    pub(crate) async fn collection_by_id<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        id: CollectionId,
    ) -> Result<CollectionRef> {
        let tenant = self.database_tenant(scope, database).await?;
        let found = self.cached(
            &tenant,
            |catalog| catalog.by_id.get(&id).cloned(),
            async {
                let view = self.view(&tenant).await?;
                let key = keys::CollectionId { id: id.0 }.encode(tenant.prefix());
                let Some(value) = view.get(Space::Data, &key).await? else { return Ok(None) };
                load_collection(&view, &tenant, CollectionNumber(small_number(&value)?)).await
            },
            |catalog, info| {
                if weight(&info) <= CACHED_BYTES_MAX {
                    catalog.by_id.insert(id, info);
                }
            },
        );
        let found = found.await?;
        let found =
            found.filter(|info| info.database == database.info.number && visible_to(scope, info));
        let info = found.ok_or_else(|| Error::not_found(Resource::Collection, id.to_string()))?;
        Ok(CollectionRef { tenant: tenant.id(), info, named_in: None })
    }

    pub(crate) async fn create_collection<L: CanWrite>(
        self: &Arc<Self>,
        scope: &Scope<L>,
        database: &DatabaseRef,
        spec: &CollectionSpec,
        get_or_create: bool,
    ) -> Result<(CollectionRef, bool)> {
        match self.collection(scope, database, &spec.name).await {
            Ok(found) if get_or_create => return Ok((found, false)),
            Ok(_) => return Err(Error::already_exists(Resource::Collection, spec.name.as_str())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if !scope.restriction().owns_database(database.info.number) {
            return Err(Error::denied("this key is limited to existing collections"));
        }
        let (inner, scope) = (Arc::clone(self), scope.to_write());
        let (database, spec) = (database.clone(), spec.clone());
        complete(async move {
            let tenant = inner.database_tenant(&scope, &database).await?;
            let (_writing, view) = inner.writing(&scope, &tenant).await?;
            inner
                .make_collection(&tenant, view, &database, spec, get_or_create, scope.actor())
                .await
        })
        .await
    }

    pub(crate) async fn change_collection<L: CanWrite>(
        self: &Arc<Self>,
        scope: &Scope<L>,
        collection: &CollectionRef,
        change: &CollectionChange,
    ) -> Result<CollectionRef> {
        if scope.restriction().filter.is_some() {
            return Err(Error::denied("a key bound to a filter cannot change a collection"));
        }
        let (inner, scope) = (Arc::clone(self), scope.to_write());
        let (collection, change) = (collection.clone(), change.clone());
        complete(async move {
            let tenant = inner.collection_tenant(&scope, &collection).await?;
            let (_writing, view) = inner.writing(&scope, &tenant).await?;
            let mut info = (*inner.present_in(&view, &tenant, &collection).await?).clone();
            let mut commit = inner.begin(&tenant)?;
            if let Some(new) = change.name.filter(|new| *new != info.name) {
                let key = collection_name_key(tenant.prefix(), info.database, &new);
                if view.get(Space::Data, &key).await?.is_some() {
                    return Err(Error::already_exists(Resource::Collection, new.as_str()));
                }
                let old = collection_name_key(tenant.prefix(), info.database, &info.name);
                commit.remove(Space::Data, old);
                commit.put_clear(Space::Data, key, info.number.0.to_be_bytes().to_vec());
                info.name = new;
            }
            if let Some(metadata) = change.metadata {
                info.metadata = metadata;
            }
            info.attributes.extend(change.attributes);
            check_attributes(&info)?;
            put_collection(&mut commit, &info);
            commit.audit(done(scope.actor(), "collection.change", info.name.as_str(), 1));
            inner.commit(&tenant, view, commit).await?;
            tenant.catalog_changed();
            Ok(CollectionRef { tenant: tenant.id(), info: Arc::new(info), named_in: None })
        })
        .await
    }

    pub(crate) async fn delete_collection<L: CanWrite>(
        self: &Arc<Self>,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<()> {
        let (inner, scope, collection) = (Arc::clone(self), scope.to_write(), collection.clone());
        if scope.restriction().filter.is_some() {
            return Err(Error::denied("a key bound to a filter cannot delete a collection"));
        }
        complete(async move {
            let tenant = inner.collection_tenant(&scope, &collection).await?;
            let (_writing, view) = inner.writing(&scope, &tenant).await?;
            let info = inner.present_in(&view, &tenant, &collection).await?;
            let mut commit = inner.begin(&tenant)?;
            drop_collection(&mut commit, &info);
            commit.audit(done(scope.actor(), "collection.delete", info.name.as_str(), 1));
            inner.commit(&tenant, view, commit).await?;
            tenant.catalog_changed();
            inner.collections_gone(tenant.placement(), vec![info.number.0]).await
        })
        .await
    }
}

/// What changes may not pass: each is within the bound, all of them together need not be.
pub(crate) fn check_attributes(info: &CollectionInfo) -> Result<()> {
    let bytes: usize = info.attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes <= Limits::ATTRIBUTES_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::TooLarge,
        format!(
            "configuration: would have {bytes} bytes, at most {} are allowed",
            Limits::ATTRIBUTES_BYTES_MAX
        ),
    ))
}

/// Databases are managed by keys that nothing narrows.
fn unlimited(scope: &Scope<Admin>) -> Result<()> {
    if scope.restriction().is_none() {
        return Ok(());
    }
    Err(Error::denied("a limited key cannot make or delete databases"))
}

fn visible_to<L: Level>(scope: &Scope<L>, info: &CollectionInfo) -> bool {
    scope.restriction().sees_collection(info.database, info.number)
}

/// The numbers of the page of collections that the scope may see, in the order of their names.
async fn visible<L: Level>(
    view: &impl View,
    tenant: &OpenTenant,
    scope: &Scope<L>,
    database: &DatabaseRef,
    page: Page,
) -> Result<Vec<CollectionNumber>> {
    let number = database.info.number;
    let all = keys::collection_names_of(tenant.prefix(), number.0);
    let mut found = Vec::new();
    let mut skip = page.offset;
    let mut names = Scan::new(view, Space::Data, all, None);
    while page.limit.is_none_or(|limit| found.len() < limit) {
        let Some((_, value)) = names.next().await? else { break };
        let collection = CollectionNumber(small_number(&value)?);
        if !scope.restriction().sees_collection(number, collection) {
            continue;
        }
        if skip > 0 {
            skip -= 1;
            continue;
        }
        found.push(collection);
    }
    Ok(found)
}

async fn find_database(
    view: &impl View,
    tenant: &OpenTenant,
    name: &DatabaseName,
) -> Result<Option<Arc<DatabaseInfo>>> {
    let key = keys::DatabaseName { name: Tail(name.as_str().as_bytes()) };
    let value = view.get(Space::Data, &key.encode(tenant.prefix())).await?;
    let Some(value) = value else { return Ok(None) };
    load_database(view, tenant, DatabaseNumber(small_number(&value)?)).await
}

async fn load_database(
    view: &impl View,
    tenant: &OpenTenant,
    number: DatabaseNumber,
) -> Result<Option<Arc<DatabaseInfo>>> {
    let key = keys::Database { database: number.0 }.encode(tenant.prefix());
    let row: Option<DiskDatabase> = tenant.row(view, Space::Data, &key).await?;
    row.map(|row| row.into_info(number).map(Arc::new)).transpose()
}

async fn load_collection(
    view: &impl View,
    tenant: &OpenTenant,
    number: CollectionNumber,
) -> Result<Option<Arc<CollectionInfo>>> {
    let key = keys::Collection { collection: number.0 }.encode(tenant.prefix());
    let row: Option<DiskCollection> = tenant.row(view, Space::Data, &key).await?;
    row.map(|row| row.into_info(number).map(Arc::new)).transpose()
}

/// Those of these collections that are there.
async fn load_collections(
    view: &impl View,
    tenant: &OpenTenant,
    numbers: &[CollectionNumber],
) -> Result<Vec<Arc<CollectionInfo>>> {
    let key = |number: &CollectionNumber| {
        keys::Collection { collection: number.0 }.encode(tenant.prefix())
    };
    let keys: Vec<Vec<u8>> = numbers.iter().map(key).collect();
    let mut found = Vec::new();
    for ((number, key), row) in numbers.iter().zip(&keys).zip(view.many(Space::Data, &keys).await?)
    {
        let Some(row) = row else { continue };
        let row: DiskCollection = tenant.open_row(key, &row)?;
        found.push(Arc::new(row.into_info(*number)?));
    }
    Ok(found)
}

/// Removes a collection's rows and leaves a note for the purger, in one commit.
fn drop_collection(commit: &mut Commit<'_>, info: &CollectionInfo) {
    let prefix = commit.prefix();
    let number = info.number.0;
    commit.remove(Space::Data, keys::Collection { collection: number }.encode(prefix));
    commit.remove(Space::Data, collection_name_key(prefix, info.database, &info.name));
    commit.remove(Space::Data, keys::CollectionId { id: info.id.0 }.encode(prefix));
    // In the commit that removes its row, so with the tenant's data if they are apart.
    let purge = keys::Purge { tenant: prefix.tenant().get(), collection: number };
    let (space, whose) = if commit.is_apart() {
        (Space::Data, prefix)
    } else {
        (Space::Catalog, Prefix::of(TenantId::INSTALLATION))
    };
    commit.put_clear(space, purge.encode(whose), Vec::new());
    commit.head.collections = commit.head.collections.saturating_sub(1);
    commit.touch(Touched::Collection(number));
}

impl<B: Backend> Tenancy<B> {
    async fn database_info(
        &self,
        tenant: &OpenTenant,
        name: &DatabaseName,
    ) -> Result<Arc<DatabaseInfo>> {
        let found = self.cached(
            tenant,
            |catalog| catalog.databases.get(name).cloned(),
            async { find_database(&self.view(tenant).await?, tenant, name).await },
            |catalog, info| {
                catalog.databases.insert(name.clone(), info);
            },
        );
        found.await?.ok_or_else(|| missing_database(name))
    }

    /// The tenant of a database, which must be the scope's.
    async fn database_tenant<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
    ) -> Result<Arc<OpenTenant>> {
        if database.tenant != scope.tenant() {
            return Err(missing_database(&database.info.name));
        }
        self.tenant(scope).await
    }

    /// The tenant of a collection, which must be the scope's and visible to it.
    pub(crate) async fn collection_tenant<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<Arc<OpenTenant>> {
        if collection.tenant != scope.tenant() || !visible_to(scope, &collection.info) {
            return Err(missing_collection(&collection.info));
        }
        self.tenant(scope).await
    }

    /// The collection as it is now; it may have changed or gone since it was found.
    pub(crate) async fn present(
        &self,
        tenant: &OpenTenant,
        collection: &CollectionRef,
    ) -> Result<Arc<CollectionInfo>> {
        let id = collection.info.id;
        let found = self.cached(
            tenant,
            |catalog| catalog.by_id.get(&id).cloned(),
            async {
                let view = self.view(tenant).await?;
                load_collection(&view, tenant, collection.info.number).await
            },
            |catalog, info| {
                if weight(&info) <= CACHED_BYTES_MAX {
                    catalog.by_id.insert(id, info);
                }
            },
        );
        found.await?.ok_or_else(|| missing_collection(&collection.info))
    }

    /// The same for whoever changes it.
    async fn present_in(
        &self,
        view: &B::View,
        tenant: &OpenTenant,
        collection: &CollectionRef,
    ) -> Result<Arc<CollectionInfo>> {
        let found = load_collection(view, tenant, collection.info.number).await?;
        found.ok_or_else(|| missing_collection(&collection.info))
    }

    async fn make_collection(
        &self,
        tenant: &Arc<OpenTenant>,
        view: B::View,
        database: &DatabaseRef,
        spec: CollectionSpec,
        get_or_create: bool,
        actor: &str,
    ) -> Result<(CollectionRef, bool)> {
        let name_key = collection_name_key(tenant.prefix(), database.info.number, &spec.name);
        if let Some(value) = view.get(Space::Data, &name_key).await? {
            let number = CollectionNumber(small_number(&value)?);
            let info = load_collection(&view, tenant, number).await?.filter(|_| get_or_create);
            let info = info
                .ok_or_else(|| Error::already_exists(Resource::Collection, spec.name.as_str()))?;
            return Ok((CollectionRef { tenant: tenant.id(), info, named_in: None }, false));
        }
        // The database may have gone since it was found.
        if load_database(&view, tenant, database.info.number).await?.is_none() {
            return Err(missing_database(&database.info.name));
        }
        let mut commit = self.begin(tenant)?;
        let limit = tenant.info().limits.collections;
        if commit.head.collections >= limit {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("this tenant may have {limit} collections"),
            ));
        }
        commit.head.collections += 1;
        commit.head.last_collection += 1;
        let number = commit.head.last_collection;
        let info = CollectionInfo {
            database: database.info.number,
            number: CollectionNumber(number),
            id: CollectionId(public_id(tenant, "collection", number)),
            name: spec.name,
            metric: spec.metric,
            dimension: None,
            storage: spec.storage,
            last_vector: u16::try_from(spec.vectors.len())
                .map_err(|_| Error::invalid("too many named vectors"))?,
            vectors: (1..)
                .zip(spec.vectors)
                .map(|(number, (name, spec))| (name, VectorInfo { number, spec }))
                .collect(),
            metadata: spec.metadata,
            attributes: spec.attributes,
            created_at: self.now(),
        };
        put_collection(&mut commit, &info);
        let key = keys::Statistics { collection: number, partition: PARTITION };
        commit.put_statistics(key, Statistics::default());
        commit.put_clear(Space::Data, name_key, number.to_be_bytes().to_vec());
        let id_key = keys::CollectionId { id: info.id.0 }.encode(tenant.prefix());
        commit.put_clear(Space::Data, id_key, number.to_be_bytes().to_vec());
        commit.audit(done(actor, "collection.create", info.name.as_str(), 1));
        self.commit(tenant, view, commit).await?;
        tenant.catalog_changed();
        Ok((CollectionRef { tenant: tenant.id(), info: Arc::new(info), named_in: None }, true))
    }
}

pub(crate) fn missing_collection(info: &CollectionInfo) -> Error {
    Error::not_found(Resource::Collection, info.id.to_string())
}
