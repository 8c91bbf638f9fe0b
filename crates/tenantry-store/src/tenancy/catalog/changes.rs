//! Changes of a tenant's databases and collections.

use super::{
    PARTITION, READ_AT_ONCE, collection_name_key, find_database, load_collection, load_collections,
    load_database, missing_collection, missing_database,
};
use crate::{
    CollectionInfo, CollectionRef, DatabaseInfo, DatabaseRef, VectorInfo,
    tenancy::{
        Backend, Space, Tenancy, View,
        backend::Scan,
        commit::Commit,
        complete,
        disk::{DiskCollection, DiskDatabase, DiskStatistics, Statistics, Touched},
        done,
        keys::{self, Prefix, Tail},
        small_number,
        tenants::OpenTenant,
        usage::Work,
    },
};
use std::sync::Arc;
use tenantry_auth::{Admin, Author, CanWrite, Scope, TenantId};
use tenantry_types::{
    CollectionChange, CollectionId, CollectionNumber, CollectionSpec, DatabaseId, DatabaseName,
    DatabaseNumber, Error, ErrorKind, Limits, Resource, Result, Term, Timestamp,
};

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
pub(in crate::tenancy) fn put_new_database(
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

impl<B: Backend> Tenancy<B> {
    pub(crate) async fn create_database(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        name: &DatabaseName,
    ) -> Result<DatabaseRef> {
        unlimited(scope)?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move {
            let tenant = inner.tenant(&scope).await?;
            let (_writing, view) = inner.writing(&scope, &tenant, 0).await?;
            let mut commit = inner.begin(&tenant)?;
            let name_key = keys::DatabaseName { name: Tail(name.as_str().as_bytes()) };
            if view.get(Space::Data, &name_key.encode(tenant.prefix())).await?.is_some() {
                return Err(Error::already_exists(Resource::Database, name.as_str()));
            }
            let limits = inner.allowance(Some(&view), &tenant).await?.limits;
            limits.room_for_database(commit.head.databases as usize)?;
            let info = put_new_database(&mut commit, &tenant, &name, inner.now());
            commit.count(&Work::default());
            commit.audit(done(scope.author(), "database.create", name.as_str(), 1));
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
            let (_writing, view) = inner.writing(&scope, &tenant, 0).await?;
            let info = find_database(&view, &tenant, &name).await?;
            let info = info.ok_or_else(|| missing_database(&name))?;
            let mut commit = inner.begin(&tenant)?;
            let names = keys::collection_names_of(tenant.prefix(), info.number.0);
            let (mut gone, mut work) = (Vec::new(), Work::default());
            let all = u64::from(commit.head.collections);
            let mut names = Scan::new(&view, Space::Data, names, None).at_most(all);
            let mut numbers = Vec::new();
            while let Some((_, value)) = names.next().await? {
                numbers.push(CollectionNumber(small_number(&value)?));
            }
            for numbers in numbers.chunks(READ_AT_ONCE) {
                go(&view, &tenant, numbers, &mut work).await?;
                for collection in load_collections(&view, &tenant, numbers).await? {
                    drop_collection(&mut commit, &collection);
                    gone.push(collection.number.0);
                }
            }
            commit.count(&work);
            let number = info.number.0;
            let prefix = tenant.prefix();
            commit.remove(Space::Data, keys::Database { database: number }.encode(prefix));
            let name_key = keys::DatabaseName { name: Tail(name.as_str().as_bytes()) };
            commit.remove(Space::Data, name_key.encode(prefix));
            commit.head.databases = commit.head.databases.saturating_sub(1);
            commit.touch(Touched::Database(number));
            commit.audit(done(scope.author(), "database.delete", name.as_str(), 1));
            inner.commit(&tenant, view, commit).await?;
            tenant.catalog_changed();
            inner.collections_gone(tenant.placement(), gone).await
        })
        .await
    }

    pub(crate) async fn create_collection<L: CanWrite>(
        self: &Arc<Self>,
        scope: &Scope<L>,
        database: &DatabaseRef,
        spec: &CollectionSpec,
        get_or_create: bool,
    ) -> Result<(CollectionRef, bool)> {
        self.confirm(scope).await?;
        match self.collection(scope, database, &spec.name).await {
            Ok(found) if get_or_create => return Ok((found, false)),
            Ok(_) => return Err(Error::already_exists(Resource::Collection, spec.name.as_str())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if !scope.owns_database(database.info.number) {
            return Err(Error::denied("what you may reach is limited to existing collections"));
        }
        let (inner, scope) = (Arc::clone(self), scope.to_write());
        let (database, spec) = (database.clone(), spec.clone());
        complete(async move {
            let tenant = inner.database_tenant(&scope, &database).await?;
            let (_writing, view) = inner.writing(&scope, &tenant, 0).await?;
            inner
                .make_collection(&tenant, view, &database, spec, get_or_create, scope.author())
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
            return Err(Error::denied(
                "a key or token bound to a filter cannot change a collection",
            ));
        }
        let (inner, scope) = (Arc::clone(self), scope.to_write());
        let (collection, change) = (collection.clone(), change.clone());
        complete(async move {
            let tenant = inner.collection_tenant(&scope, &collection).await?;
            let (_writing, view) = inner.writing(&scope, &tenant, 0).await?;
            let mut info = (*inner.present_in(&view, &tenant, &collection).await?).clone();
            let mut commit = inner.begin(&tenant)?;
            if let Some(new) = change.name.filter(|new| *new != info.name) {
                if !scope.names_collections(info.database) {
                    return Err(Error::denied(
                        "what you may reach is limited to existing collections and their names",
                    ));
                }
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
            commit.count(&Work::default());
            commit.audit(done(scope.author(), "collection.change", info.name.as_str(), 1));
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
            return Err(Error::denied(
                "a key or token bound to a filter cannot delete a collection",
            ));
        }
        complete(async move {
            let tenant = inner.collection_tenant(&scope, &collection).await?;
            let (_writing, view) = inner.writing(&scope, &tenant, 0).await?;
            let info = inner.present_in(&view, &tenant, &collection).await?;
            let mut commit = inner.begin(&tenant)?;
            let mut work = Work::default();
            go(&view, &tenant, &[info.number], &mut work).await?;
            commit.count(&work);
            drop_collection(&mut commit, &info);
            commit.audit(done(scope.author(), "collection.delete", info.name.as_str(), 1));
            inner.commit(&tenant, view, commit).await?;
            tenant.catalog_changed();
            inner.collections_gone(tenant.placement(), vec![info.number.0]).await
        })
        .await
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
        by: Author<'_>,
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
        let limits = self.allowance(Some(&view), tenant).await?.limits;
        limits.room_for_collection(commit.head.collections as usize)?;
        let named = spec.vectors.values().map(|vector| vector.dimension);
        let fixed = named.chain([spec.dimension]).flatten();
        fixed.max().map_or(Ok(()), |dimension| check_dimension(dimension, &limits))?;
        // Before there is a collection: a tenant without any keeps nothing.
        commit.count(&Work::default());
        commit.head.collections += 1;
        commit.head.last_collection += 1;
        let number = commit.head.last_collection;
        let info = CollectionInfo {
            database: database.info.number,
            number: CollectionNumber(number),
            id: CollectionId(public_id(tenant, "collection", number)),
            name: spec.name,
            metric: spec.metric,
            dimension: spec.dimension,
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
        commit.audit(done(by, "collection.create", info.name.as_str(), 1));
        self.commit(tenant, view, commit).await?;
        tenant.catalog_changed();
        Ok((CollectionRef { tenant: tenant.id(), info: Arc::new(info), named_in: None }, true))
    }
}

/// Fails if no vectors of a tenant with these limits have so many components. Asked where a dimension
/// is fixed: what has it already keeps it.
pub(crate) fn check_dimension(dimension: u32, limits: &Limits) -> Result<()> {
    let most = limits.vector_dimensions;
    if dimension <= most {
        return Ok(());
    }
    let message = format!(
        "new vectors of this tenant may have at most {most} components, these have {dimension}: \
         the operator can allow more, by another plan or an exception of `vector_dimensions`"
    );
    Err(Error::new(ErrorKind::LimitExceeded, message).with_limit(Term::VectorDimensions))
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
    Err(Error::denied("a limited key or token cannot make or delete databases"))
}

/// Adds what goes with these collections.
async fn go(
    view: &impl View,
    tenant: &OpenTenant,
    collections: &[CollectionNumber],
    work: &mut Work,
) -> Result<()> {
    let key = |number: &CollectionNumber| {
        keys::Statistics { collection: number.0, partition: PARTITION }.encode(tenant.prefix())
    };
    let keys: Vec<Vec<u8>> = collections.iter().map(key).collect();
    for (key, row) in keys.iter().zip(view.many(Space::Data, &keys).await?) {
        // What is damaged can be deleted, too.
        let row = row.and_then(|row| tenant.open_row::<DiskStatistics>(key, &row).ok());
        let Some(counts) = row.map(DiskStatistics::into_statistics) else {
            work.is_lost = true;
            continue;
        };
        work.gone = work.gone.saturating_add(counts.records);
        work.freed = work.freed.saturating_add(counts.bytes().unwrap_or(0));
        work.is_silent |= counts.bytes().is_none();
    }
    Ok(())
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
