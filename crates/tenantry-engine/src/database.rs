//! One database of one tenant.

use crate::{
    Collection,
    engine::{Inner, OPEN},
    validate,
};
use std::sync::Arc;
use tenantry_auth::{CanWrite, Level, Scope};
use tenantry_store::{CollectionRef, DatabaseInfo, DatabaseRef};
use tenantry_types::{
    CollectionId, CollectionName, CollectionSpec, Error, ErrorKind, Page, Resource, Result,
};

/// One database, reached at level `L`.
#[derive(Debug)]
pub struct Database<L: Level> {
    inner: Arc<Inner>,
    scope: Scope<L>,
    found: DatabaseRef,
}

impl<L: Level> Database<L> {
    pub(crate) fn new(inner: &Arc<Inner>, scope: &Scope<L>, found: DatabaseRef) -> Self {
        Self { inner: Arc::clone(inner), scope: scope.clone(), found }
    }

    /// The database.
    pub fn info(&self) -> &DatabaseInfo {
        self.found.info()
    }

    /// Collections with which the caller may do what the level says, in the order of their names.
    pub async fn collections(&self, page: Page) -> Result<Vec<Collection<L>>> {
        let found = self.inner.store.collections(&self.scope, &self.found, page).await?;
        Ok(found.into_iter().map(|c| Collection::new(&self.inner, &self.scope, c)).collect())
    }

    /// The number of those collections.
    pub async fn count_collections(&self) -> Result<usize> {
        self.inner.store.count_collections(&self.scope, &self.found).await
    }

    /// The collection with this name.
    pub async fn collection(&self, name: &CollectionName) -> Result<Collection<L>> {
        let found = self.find(name).await;
        let found = self.inner.watched(&self.scope, OPEN, name.as_str(), found)?;
        Ok(Collection::new(&self.inner, &self.scope, found))
    }

    async fn find(&self, name: &CollectionName) -> Result<CollectionRef> {
        self.inner.store.collection(&self.scope, &self.found, name).await
    }

    /// The collection with this public id, if it is in this database.
    pub async fn collection_by_id(&self, id: CollectionId) -> Result<Collection<L>> {
        let found = self.inner.store.collection_by_id(&self.scope, &self.found, id).await;
        let found = self.inner.watched(&self.scope, OPEN, &id.to_string(), found)?;
        Ok(Collection::new(&self.inner, &self.scope, found))
    }
}

impl<L: CanWrite> Database<L> {
    /// Makes a collection; `true` if it did not exist before. With `get_or_create` an existing
    /// one is returned unchanged, otherwise it is an error.
    pub async fn create_collection(
        &self,
        spec: &CollectionSpec,
        get_or_create: bool,
    ) -> Result<(Collection<L>, bool)> {
        validate::collection_spec(spec)?;
        let made = self.make(spec, get_or_create).await;
        self.inner.watched(&self.scope, "collection.create", spec.name.as_str(), made)
    }

    async fn make(
        &self,
        spec: &CollectionSpec,
        get_or_create: bool,
    ) -> Result<(Collection<L>, bool)> {
        if !self.scope.names_collections(self.info().number) {
            return match self.find(&spec.name).await {
                Ok(found) if get_or_create => {
                    Ok((Collection::new(&self.inner, &self.scope, found), false))
                }
                Ok(_) => Err(Error::already_exists(Resource::Collection, spec.name.as_str())),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Err(Error::denied("what you may reach is limited to existing collections"))
                }
                Err(error) => Err(error),
            };
        }
        let changing = self.inner.changing(&self.scope, Vec::new()).await?;
        let store = &self.inner.store;
        let made = store.create_collection(&self.scope, &self.found, spec, get_or_create).await;
        changing.end(made.as_ref().ok().map(|(_, new)| (*new, Vec::new())));
        let (made, new) = made?;
        Ok((Collection::new(&self.inner, &self.scope, made), new))
    }
}
