//! Operations on records, as [`crate::Store`] calls them. Their futures are boxed: those of
//! callers have room for each backend's.

use super::Postgres;
use crate::{Answer, CollectionRef, tenancy::batch::Offered};
use tenantry_auth::{CanWrite, Level, Scope, Write};
use tenantry_types::{
    CollectionStatistics, Found, GetRequest, QueryRequest, Record, Result, Selector, WriteMode,
    WriteOutcome,
};

impl Postgres {
    /// Takes the batch once the collection is known to be there. Whoever calls this does not go away.
    pub(crate) async fn write(
        &self,
        scope: &Scope<Write>,
        collection: &CollectionRef,
        mode: WriteMode,
        batch: &mut Offered,
    ) -> Result<WriteOutcome> {
        Box::pin(self.inner.write(scope, collection, mode, batch)).await
    }

    pub(crate) async fn delete<L: CanWrite>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
        limit: Option<usize>,
    ) -> Result<usize> {
        Box::pin(self.inner.delete(scope, collection, select, limit)).await
    }

    pub(crate) async fn count<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
    ) -> Result<Answer<usize>> {
        Box::pin(self.inner.count(scope, collection, select)).await
    }

    pub(crate) async fn get<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &GetRequest,
    ) -> Result<Answer<Vec<Record>>> {
        Box::pin(self.inner.get(scope, collection, request)).await
    }

    pub(crate) async fn query<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &QueryRequest,
    ) -> Result<Answer<Found>> {
        Box::pin(self.inner.query(scope, collection, request)).await
    }

    pub(crate) async fn collection_statistics<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<Answer<CollectionStatistics>> {
        Box::pin(self.inner.collection_statistics(scope, collection)).await
    }
}
