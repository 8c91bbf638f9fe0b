//! Databases and collections of a tenant.

mod changes;

pub(super) use changes::put_new_database;
pub(crate) use changes::{check_attributes, check_dimension, put_collection};

use super::{
    Age, Backend, Space, Tenancy, View,
    backend::Scan,
    disk::{DiskCollection, DiskDatabase},
    keys::{self, Prefix, Tail},
    small_number,
    tenants::OpenTenant,
};
use crate::{CollectionInfo, CollectionRef, DatabaseInfo, DatabaseRef, ObjectNames, Wanted};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tenantry_auth::{Allowed, Level, Scope};
use tenantry_types::{
    CollectionId, CollectionName, CollectionNumber, DatabaseName, DatabaseNumber, Error, ErrorKind,
    Limits, Page, Resource, Result,
};

/// The only partition of a collection so far.
pub(crate) const PARTITION: u32 = 0;

fn collection_name_key(prefix: Prefix, database: DatabaseNumber, name: &CollectionName) -> Vec<u8> {
    keys::CollectionName { database: database.0, name: Tail(name.as_str().as_bytes()) }
        .encode(prefix)
}

/// Rows of collections read at once.
const READ_AT_ONCE: usize = 64;
/// The same where only their names are wanted. Each may have more than a mebibyte beside.
const NAMED_AT_ONCE: usize = 16;
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

/// Databases that the tenant can have: as many as it may, or more if it had them before.
pub(super) fn databases_max(tenant: &OpenTenant, limits: Limits) -> u64 {
    let there = tenant.head().map_or(0, |head| head.databases);
    // Another node may have made them while an exception counted that has ended.
    let once = tenant.info().exceptions.databases.map_or(0, |one| one.value);
    u64::from(there.max(limits.databases).max(once))
}

/// The same of collections.
fn collections_max(tenant: &OpenTenant, limits: Limits) -> u64 {
    let there = tenant.head().map_or(0, |head| head.collections);
    let once = tenant.info().exceptions.collections.map_or(0, |one| one.value);
    u64::from(there.max(limits.collections).max(once))
}

impl<B: Backend> Tenancy<B> {
    pub(crate) async fn databases<L: Level>(
        &self,
        scope: &Scope<L>,
        page: Page,
    ) -> Result<Vec<DatabaseRef>> {
        let tenant = self.tenant(scope).await?;
        let found = self.databases_of(scope, &tenant, page).await;
        self.unless_gone(&tenant, found).await
    }

    async fn databases_of<L: Level>(
        &self,
        scope: &Scope<L>,
        tenant: &OpenTenant,
        page: Page,
    ) -> Result<Vec<DatabaseRef>> {
        let most = databases_max(tenant, self.allowance(None, tenant).await?.limits);
        let view = self.view(tenant).await?;
        let all = keys::DatabaseName::all(tenant.prefix());
        let names = Scan::new(&view, Space::Data, all, None).at_most(most);
        let sees = |number| scope.restriction().sees_database(DatabaseNumber(number));
        let numbers = numbers(names, page, sees).await?;
        let mut found = Vec::new();
        for numbers in numbers.chunks(READ_AT_ONCE) {
            let infos = load_databases(&view, tenant, numbers).await?;
            found.extend(infos.into_iter().map(|info| DatabaseRef { tenant: tenant.id(), info }));
        }
        Ok(found)
    }

    /// What these objects are called now; what is gone, or hidden from the scope, is left out.
    pub(crate) async fn names_of<L: Level>(
        &self,
        scope: &Scope<L>,
        objects: &[Allowed],
    ) -> Result<ObjectNames> {
        let tenant = self.tenant(scope).await?;
        let found = self.named(scope, &tenant, objects).await;
        self.unless_gone(&tenant, found).await
    }

    async fn named<L: Level>(
        &self,
        scope: &Scope<L>,
        tenant: &OpenTenant,
        objects: &[Allowed],
    ) -> Result<ObjectNames> {
        let (mut databases, mut collections) = (BTreeSet::new(), BTreeSet::new());
        for one in objects {
            match one {
                Allowed::Database(database) => databases.insert(database.0),
                Allowed::Collection(database, collection) => {
                    collections.insert(*collection);
                    databases.insert(database.0)
                }
            };
        }
        let (databases, collections) = (Vec::from_iter(databases), Vec::from_iter(collections));
        let (mut names, mut found) = (BTreeMap::new(), BTreeMap::new());
        // However many ask at once, a tenant holds the rows of one of them; who waits has no view.
        let _turn = tenant.naming.lock().await;
        let view = self.view(tenant).await?;
        for numbers in databases.chunks(READ_AT_ONCE) {
            for info in load_databases(&view, tenant, numbers).await? {
                if scope.restriction().sees_database(info.number) {
                    names.insert(info.number, info.name.clone());
                }
            }
        }
        for one in objects {
            if let Allowed::Database(number) = one
                && let Some(name) = names.get(number)
            {
                found.insert(*one, (name.clone(), None));
            }
        }
        for numbers in collections.chunks(NAMED_AT_ONCE) {
            for info in load_collections(&view, tenant, numbers).await? {
                if let Some(database) =
                    names.get(&info.database).filter(|_| visible_to(scope, &info))
                {
                    let name = (database.clone(), Some(info.name.clone()));
                    found.insert(Allowed::Collection(info.database, info.number), name);
                }
            }
        }
        Ok(found)
    }

    pub(crate) async fn database<L: Level>(
        &self,
        scope: &Scope<L>,
        name: &DatabaseName,
    ) -> Result<DatabaseRef> {
        let tenant = self.tenant(scope).await?;
        let info = self.visible_database(scope, &tenant, name, Age::Second).await?;
        Ok(DatabaseRef { tenant: tenant.id(), info })
    }

    pub(crate) async fn collections<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        page: Page,
    ) -> Result<Vec<CollectionRef>> {
        let tenant = self.database_tenant(scope, database).await?;
        let found = self.collections_of(scope, &tenant, database, page).await;
        self.unless_gone(&tenant, found).await
    }

    async fn collections_of<L: Level>(
        &self,
        scope: &Scope<L>,
        tenant: &OpenTenant,
        database: &DatabaseRef,
        page: Page,
    ) -> Result<Vec<CollectionRef>> {
        let most = collections_max(tenant, self.allowance(None, tenant).await?.limits);
        let view = self.view(tenant).await?;
        let mut found = Vec::new();
        let mut left = Limits::ANSWER_BYTES_MAX;
        let numbers = visible((&view, most), tenant, scope, database, page).await?;
        for numbers in numbers.chunks(READ_AT_ONCE) {
            for info in load_collections(&view, tenant, numbers).await? {
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
        let numbers = async {
            let most = collections_max(&tenant, self.allowance(None, &tenant).await?.limits);
            let view = self.view(&tenant).await?;
            visible((&view, most), &tenant, scope, database, Page::default()).await
        };
        let numbers = numbers.await;
        Ok(self.unless_gone(&tenant, numbers).await?.len())
    }

    pub(crate) async fn collection<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        name: &CollectionName,
    ) -> Result<CollectionRef> {
        let tenant = self.database_tenant(scope, database).await?;
        self.find_collection(scope, &tenant, &database.info, Wanted::Name(name), Age::Second).await
    }

    pub(crate) async fn collection_by_id<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        id: CollectionId,
    ) -> Result<CollectionRef> {
        let tenant = self.database_tenant(scope, database).await?;
        self.find_collection(scope, &tenant, &database.info, Wanted::Id(id), Age::Second).await
    }

    /// What is cached of it may be of any age; what seems not to be there is looked for again.
    pub(crate) async fn records_of<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseName,
        wanted: Wanted<'_>,
    ) -> Result<CollectionRef> {
        let tenant = self.tenant(scope).await?;
        match self.find_collection_in(scope, &tenant, database, wanted, Age::Any).await {
            Err(why) if why.kind() == ErrorKind::NotFound && self.is_old(&tenant) => {
                self.confirm_of(&tenant).await?;
                self.find_collection_in(scope, &tenant, database, wanted, Age::Second).await
            }
            found => found,
        }
    }

    /// The collection as it is now, under the name that led to it or by its id; none if what is
    /// known of it cannot be old.
    pub(crate) async fn look_again<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<Option<CollectionRef>> {
        if !self.is_shared() {
            return Ok(None);
        }
        let tenant = self.collection_tenant(scope, collection).await?;
        self.confirm_of(&tenant).await?;
        let info = &collection.info;
        Ok(Some(match &collection.named_in {
            Some(database) => {
                let wanted = Wanted::Name(&info.name);
                self.find_collection_in(scope, &tenant, &database.name, wanted, Age::Second).await?
            }
            None => {
                let info = self.present(&tenant, collection).await?;
                CollectionRef { info, ..collection.clone() }
            }
        }))
    }

    async fn find_collection_in<L: Level>(
        &self,
        scope: &Scope<L>,
        tenant: &OpenTenant,
        database: &DatabaseName,
        wanted: Wanted<'_>,
        age: Age,
    ) -> Result<CollectionRef> {
        let database = self.visible_database(scope, tenant, database, age).await?;
        self.find_collection(scope, tenant, &database, wanted, age).await
    }

    async fn find_collection<L: Level>(
        &self,
        scope: &Scope<L>,
        tenant: &OpenTenant,
        database: &Arc<DatabaseInfo>,
        wanted: Wanted<'_>,
        age: Age,
    ) -> Result<CollectionRef> {
        let key = match wanted {
            Wanted::Name(name) => collection_name_key(tenant.prefix(), database.number, name),
            Wanted::Id(id) => keys::CollectionId { id: id.0 }.encode(tenant.prefix()),
        };
        let place = |name: &CollectionName| (database.number, name.clone());
        let found = self.cached(
            tenant,
            age,
            |catalog| match wanted {
                Wanted::Name(name) => catalog.by_name.get(&place(name)).cloned(),
                Wanted::Id(id) => catalog.by_id.get(&id).cloned(),
            },
            async {
                let view = self.view(tenant).await?;
                let Some(value) = view.get(Space::Data, &key).await? else { return Ok(None) };
                load_collection(&view, tenant, CollectionNumber(small_number(&value)?)).await
            },
            |catalog, info| {
                if weight(&info) <= CACHED_BYTES_MAX {
                    match wanted {
                        Wanted::Name(name) => catalog.by_name.insert(place(name), info),
                        Wanted::Id(id) => catalog.by_id.insert(id, info),
                    };
                }
            },
        );
        let found = found.await?;
        let is_here = |info: &Arc<CollectionInfo>| {
            info.database == database.number && visible_to(scope, info)
        };
        let info = found.filter(is_here).ok_or_else(|| match wanted {
            Wanted::Name(name) => Error::not_found(Resource::Collection, name.as_str()),
            Wanted::Id(id) => Error::not_found(Resource::Collection, id.to_string()),
        })?;
        reaches(scope, &info)?;
        let named_in = match wanted {
            Wanted::Name(_) => Some(Arc::clone(database)),
            Wanted::Id(_) => None,
        };
        Ok(CollectionRef { tenant: tenant.id(), info, named_in })
    }
}

fn visible_to<L: Level>(scope: &Scope<L>, info: &CollectionInfo) -> bool {
    scope.restriction().sees_collection(info.database, info.number)
}

/// Refuses a scope for writing where it may only read. That says nothing: it sees the collection.
fn reaches<L: Level>(scope: &Scope<L>, info: &CollectionInfo) -> Result<()> {
    if scope.reaches_collection(info.database, info.number) {
        return Ok(());
    }
    Err(Error::denied("the groups of this guest let it read the collection, and not change it"))
}

/// The numbers of the page of collections with which the scope may do what its level says, in the order
/// of their names: what is handed out is opened with it.
async fn visible<L: Level>(
    (view, most): (&impl View, u64),
    tenant: &OpenTenant,
    scope: &Scope<L>,
    database: &DatabaseRef,
    page: Page,
) -> Result<Vec<CollectionNumber>> {
    let number = database.info.number;
    let all = keys::collection_names_of(tenant.prefix(), number.0);
    let names = Scan::new(view, Space::Data, all, None).at_most(most);
    let sees = |one| scope.reaches_collection(number, CollectionNumber(one));
    Ok(numbers(names, page, sees).await?.into_iter().map(CollectionNumber).collect())
}

/// The page of those numbers that are seen, in the order of the names that lead to them.
async fn numbers(
    mut names: Scan<'_, impl View>,
    page: Page,
    sees: impl Fn(u32) -> bool,
) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut skip = page.offset;
    while page.limit.is_none_or(|limit| found.len() < limit) {
        let Some((_, value)) = names.next().await? else { break };
        let number = small_number(&value)?;
        if !sees(number) {
            continue;
        }
        if skip > 0 {
            skip -= 1;
            continue;
        }
        found.push(number);
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

/// Those of these databases that are there.
async fn load_databases(
    view: &impl View,
    tenant: &OpenTenant,
    numbers: &[u32],
) -> Result<Vec<Arc<DatabaseInfo>>> {
    let key = |number: &u32| keys::Database { database: *number }.encode(tenant.prefix());
    let keys: Vec<Vec<u8>> = numbers.iter().map(key).collect();
    let mut found = Vec::new();
    for ((number, key), row) in numbers.iter().zip(&keys).zip(view.many(Space::Data, &keys).await?)
    {
        let Some(row) = row else { continue };
        let row: DiskDatabase = tenant.open_row(key, &row)?;
        found.push(Arc::new(row.into_info(DatabaseNumber(*number))?));
    }
    Ok(found)
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

impl<B: Backend> Tenancy<B> {
    async fn visible_database<L: Level>(
        &self,
        scope: &Scope<L>,
        tenant: &OpenTenant,
        name: &DatabaseName,
        age: Age,
    ) -> Result<Arc<DatabaseInfo>> {
        let found = self.cached(
            tenant,
            age,
            |catalog| catalog.databases.get(name).cloned(),
            async { find_database(&self.view(tenant).await?, tenant, name).await },
            |catalog, info| {
                catalog.databases.insert(name.clone(), info);
            },
        );
        let found = found.await?.filter(|info| scope.restriction().sees_database(info.number));
        found.ok_or_else(|| missing_database(name))
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

    /// The tenant of a collection, which must be the scope's, visible to it and within its level.
    pub(crate) async fn collection_tenant<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<Arc<OpenTenant>> {
        if collection.tenant != scope.tenant() || !visible_to(scope, &collection.info) {
            return Err(missing_collection(&collection.info));
        }
        reaches(scope, &collection.info)?;
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
            Age::Second,
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
}

pub(crate) fn missing_collection(info: &CollectionInfo) -> Error {
    Error::not_found(Resource::Collection, info.id.to_string())
}
