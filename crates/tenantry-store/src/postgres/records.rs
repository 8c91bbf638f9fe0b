//! Operations on records.

use super::Postgres;
use crate::{Answer, CollectionRef};
use std::collections::BTreeMap;
use tenantry_auth::{CanWrite, Level, Scope};
use tenantry_types::{
    CollectionStatistics, Error, ErrorKind, Found, GetRequest, QueryRequest, Record, RecordWrite,
    Result, Selector, WriteMode, WriteOutcome,
};

fn missing() -> Error {
    Error::new(ErrorKind::Unsupported, "records on PostgreSQL are not there yet")
}

impl Postgres {
    pub(crate) async fn write<L: CanWrite>(
        &self,
        _scope: &Scope<L>,
        _collection: &CollectionRef,
        _mode: WriteMode,
        _records: Vec<RecordWrite>,
        _attributes: BTreeMap<String, String>,
    ) -> Result<WriteOutcome> {
        Err(missing())
    }

    pub(crate) async fn delete<L: CanWrite>(
        &self,
        _scope: &Scope<L>,
        _collection: &CollectionRef,
        _select: &Selector,
        _limit: Option<usize>,
    ) -> Result<usize> {
        Err(missing())
    }

    pub(crate) async fn count<L: Level>(
        &self,
        _scope: &Scope<L>,
        _collection: &CollectionRef,
        _select: &Selector,
    ) -> Result<Answer<usize>> {
        Err(missing())
    }

    pub(crate) async fn get<L: Level>(
        &self,
        _scope: &Scope<L>,
        _collection: &CollectionRef,
        _request: &GetRequest,
    ) -> Result<Answer<Vec<Record>>> {
        Err(missing())
    }

    pub(crate) async fn query<L: Level>(
        &self,
        _scope: &Scope<L>,
        _collection: &CollectionRef,
        _request: &QueryRequest,
    ) -> Result<Answer<Found>> {
        Err(missing())
    }

    pub(crate) async fn collection_statistics<L: Level>(
        &self,
        _scope: &Scope<L>,
        _collection: &CollectionRef,
    ) -> Result<Answer<CollectionStatistics>> {
        Err(missing())
    }
}
