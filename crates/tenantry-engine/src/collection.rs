//! One collection of one tenant: records and queries.

use crate::{
    check,
    counting::Reading,
    engine::{Counters, Inner},
    validate,
};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{CanWrite, Level, Scope};
use tenantry_store::{CollectionInfo, CollectionRef};
use tenantry_types::{
    CollectionChange, CollectionStatistics, Error, Filter, Found, GetRequest, Hit, Meter,
    QueryRequest, Record, RecordWrite, Result, Selector, WriteMode, WriteOutcome,
};

/// One collection, reached at level `L`.
#[derive(Debug)]
pub struct Collection<L: Level> {
    inner: Arc<Inner>,
    scope: Scope<L>,
    found: CollectionRef,
}

impl<L: Level> Collection<L> {
    pub(crate) fn new(inner: &Arc<Inner>, scope: &Scope<L>, found: CollectionRef) -> Self {
        Self { inner: Arc::clone(inner), scope: scope.clone(), found }
    }

    /// The collection.
    pub fn info(&self) -> &CollectionInfo {
        self.found.info()
    }

    /// The same collection as it is stored now, for whoever answers with what it says of itself or
    /// changes a part of that.
    pub async fn again(self) -> Result<Self> {
        let found = self.inner.store.look_again(&self.scope, &self.found).await?;
        Ok(match found {
            Some(found) => Self { found, ..self },
            None => self,
        })
    }

    /// The number of records that match; all if there is no filter.
    pub async fn count(&self, filter: Option<&Filter>) -> Result<usize> {
        filter.map_or(Ok(()), validate::filter)?;
        let select = Selector { ids: None, filter: filter.cloned() };
        let reading = self.reading();
        let answer = self.inner.store.count(&self.scope, &self.found, &select).await;
        let count = answer.and_then(|answer| check::origin(&self.scope, &self.found, answer));
        reading.end(count, |_| Vec::new())
    }

    /// The selected records in the asked order.
    pub async fn get(&self, request: &GetRequest) -> Result<Vec<Record>> {
        let reading = self.reading();
        let records = self.read(request).await;
        reading.end(records, |records| {
            let bytes = records.iter().map(Record::logical_bytes).sum::<u64>();
            vec![(Meter::BytesOut, bytes.into())]
        })
    }

    fn reading(&self) -> Reading<'_, L> {
        Reading::begin(&self.inner, &self.scope, self.info().name.as_str())
    }

    async fn read(&self, request: &GetRequest) -> Result<Vec<Record>> {
        validate::selector(&request.select)?;
        let store = &self.inner.store;
        let Some(bound) = check::Bound::of(&self.scope)? else {
            let answer = store.get(&self.scope, &self.found, request).await?;
            return check::origin(&self.scope, &self.found, answer);
        };
        let wide = GetRequest { include: bound.widen(request.include), ..request.clone() };
        let answer = store.get(&self.scope, &self.found, &wide).await?;
        let records = check::origin(&self.scope, &self.found, answer)?;
        let tenant = self.scope.tenant();
        bound
            .confirm(&self.inner, tenant, records, |all| all.iter_mut().collect(), request.include)
            .await
    }

    /// The nearest selected records to each query vector, nearest first.
    pub async fn query(&self, request: &QueryRequest) -> Result<Vec<Vec<Hit>>> {
        Ok(self.search(request).await?.hits)
    }

    /// The same as [`Collection::query`], and how it was done.
    ///
    /// [`ErrorKind::Denied`](tenantry_types::ErrorKind::Denied) for a key that a filter binds: what
    /// a search costs says something about the records that the filter hides. How long the query
    /// waited and whether the collection was in memory, which say how much neighbours do, is told to
    /// operators alone.
    pub async fn query_explained(&self, request: &QueryRequest) -> Result<Found> {
        self.unbound("records.explain", "explain a query")?;
        let mut found = self.search(request).await?;
        if !self.scope.standing().is_operator() {
            found.explain.waited = None;
            found.explain.hot = None;
        }
        Ok(found)
    }

    /// What the collection holds and takes; what it takes in memory, out of which neighbours crowd
    /// it, is told to operators alone. Refused as [`Collection::query_explained`] is.
    pub async fn statistics(&self) -> Result<CollectionStatistics> {
        self.unbound("collection.statistics", "see a collection's statistics")?;
        let answer = self.inner.store.collection_statistics(&self.scope, &self.found).await?;
        let mut statistics = check::origin(&self.scope, &self.found, answer)?;
        if !self.scope.standing().is_operator() {
            statistics.memory = None;
        }
        Ok(statistics)
    }

    /// Refuses a key that a filter binds, and notes it as every refusal is noted.
    fn unbound(&self, action: &str, what: &str) -> Result<()> {
        if self.scope.restriction().filter.is_none() {
            return Ok(());
        }
        let refused = Err(Error::denied(format!("a key that is bound to a filter cannot {what}")));
        self.inner.watched(&self.scope, action, self.info().name.as_str(), refused)
    }

    /// Refuses what does not fit the collection as it is.
    async fn fits(&self, fits: impl Fn(&CollectionInfo) -> Result<()>) -> Result<()> {
        let Err(why) = fits(self.info()) else { return Ok(()) };
        match self.inner.store.look_again(&self.scope, &self.found).await? {
            Some(now) if *now.info() != *self.info() => fits(now.info()),
            _ => Err(why),
        }
    }

    async fn search(&self, request: &QueryRequest) -> Result<Found> {
        self.fits(|info| validate::query(request, info)).await?;
        let reading = self.reading();
        let found = self.nearest(request).await;
        let found = reading.end(found, cost_of)?;
        Counters::add(&self.inner.counters.queries, request.vectors.len());
        Ok(found)
    }

    async fn nearest(&self, request: &QueryRequest) -> Result<Found> {
        let store = &self.inner.store;
        let Some(bound) = check::Bound::of(&self.scope)? else {
            let answer = store.query(&self.scope, &self.found, request).await?;
            return check::origin(&self.scope, &self.found, answer);
        };
        let wide = QueryRequest { include: bound.widen(request.include), ..request.clone() };
        let answer = store.query(&self.scope, &self.found, &wide).await?;
        let found = check::origin(&self.scope, &self.found, answer)?;
        let tenant = self.scope.tenant();
        bound.confirm(&self.inner, tenant, found, records_of, request.include).await
    }
}

impl<L: CanWrite> Collection<L> {
    /// Applies a batch of records: all of it or, on an error, nothing. Durable when it returns.
    pub async fn write(&self, mode: WriteMode, records: Vec<RecordWrite>) -> Result<WriteOutcome> {
        self.write_noting(mode, records, BTreeMap::new()).await
    }

    /// [`Collection::write`], and in the same commit attributes that the collection does not have
    /// yet: what a protocol has learnt from the records. They are left out, and the records
    /// written, if no record changes, if the key is bound to a filter, or if the collection would
    /// have too many.
    pub async fn write_noting(
        &self,
        mode: WriteMode,
        records: Vec<RecordWrite>,
        attributes: BTreeMap<String, String>,
    ) -> Result<WriteOutcome> {
        self.fits(|info| validate::batch(&records, info)).await?;
        let (store, count) = (&self.inner.store, records.len());
        let bytes = records.iter().map(RecordWrite::logical_bytes).sum::<u64>();
        let work = |written: usize| {
            vec![(Meter::RecordsWritten, written as u128), (Meter::BytesIn, bytes.into())]
        };
        let changing = self.inner.changing(&self.scope, work(count)).await?;
        let outcome = store.write_noting(&self.scope, &self.found, mode, records, attributes).await;
        let written = |outcome: &WriteOutcome| count.saturating_sub(outcome.skipped);
        let done = outcome.as_ref().map(|done| (done.version > 0, work(written(done))));
        changing.end(done.ok());
        let outcome = self.watched("records.write", outcome)?;
        Counters::add(&self.inner.counters.records_written, written(&outcome));
        Ok(outcome)
    }

    /// Deletes the selected records, at most `limit` of them in insertion order; the number
    /// deleted. A selector without ids and filter selects nothing here, so that a forgotten
    /// filter does not empty a collection.
    pub async fn delete(&self, select: &Selector, limit: Option<usize>) -> Result<usize> {
        validate::selector(select)?;
        if select.ids.is_none() && select.filter.is_none() {
            return Ok(0);
        }
        let changing = self.inner.changing(&self.scope, Vec::new()).await?;
        let deleted = self.inner.store.delete(&self.scope, &self.found, select, limit).await;
        changing.end(deleted.as_ref().ok().map(|deleted| (*deleted > 0, Vec::new())));
        let deleted = self.watched("records.delete", deleted)?;
        Counters::add(&self.inner.counters.records_deleted, deleted);
        Ok(deleted)
    }

    /// Changes name, metadata or attributes.
    pub async fn change(&self, change: &CollectionChange) -> Result<Self> {
        validate::collection_change(change)?;
        let renames = change.name.as_ref().is_some_and(|new| *new != self.info().name);
        let changing = self.inner.changing(&self.scope, Vec::new()).await?;
        let changed = if renames && !self.scope.names_collections(self.info().database) {
            Err(Error::denied(
                "what you may reach is limited to existing collections and their names",
            ))
        } else {
            self.inner.store.change_collection(&self.scope, &self.found, change).await
        };
        changing.of(&changed);
        let found = self.watched("collection.change", changed)?;
        Ok(Self::new(&self.inner, &self.scope, found))
    }

    /// Removes the collection with all it holds.
    pub async fn remove(self) -> Result<()> {
        let changing = self.inner.changing(&self.scope, Vec::new()).await?;
        let removed = self.inner.store.delete_collection(&self.scope, &self.found).await;
        changing.of(&removed);
        self.watched("collection.delete", removed)
    }

    fn watched<T>(&self, action: &str, outcome: Result<T>) -> Result<T> {
        self.inner.watched(&self.scope, action, self.info().name.as_str(), outcome)
    }
}

/// What a search cost besides CPU time, which its turns count. Those whose codes were compared are the ones of which some are compared in
/// full.
fn cost_of(found: &Found) -> Vec<(Meter, u128)> {
    let bytes = found.hits.iter().flatten().map(|hit| hit.record.logical_bytes()).sum::<u64>();
    let searches = found.explain.searches.iter();
    let scanned = searches.map(|one| one.codes_compared.max(one.originals_compared)).sum::<u64>();
    vec![(Meter::BytesOut, bytes.into()), (Meter::VectorsScanned, scanned.into())]
}

fn records_of(found: &mut Found) -> Vec<&mut Record> {
    found.hits.iter_mut().flatten().map(|hit| &mut hit.record).collect()
}
