//! Answers to statements on records, line by line.

use super::{
    draft::{is_of, part, signed_collection},
    fence, vector,
};
use crate::{
    CollectionInfo,
    tenancy::{
        answer::{Records, finite},
        catalog::PARTITION,
        disk::{Body, DiskCollection, DiskStatistics, Kept, Statistics},
        keys,
        tenants::OpenTenant,
    },
};
use std::collections::HashSet;
use tenantry_types::{CollectionNumber, Error, Result, VectorName};
use tokio_postgres::{Row, types::FromSql};

/// The columns of all statements on records.
#[derive(Debug, Clone, Copy)]
enum Column {
    Part,
    N,
    Ordinal,
    Tenant,
    Collection,
    Distance,
    Bytes,
    Fields,
    Vectors,
    Total,
}

/// One line. Every value is read as the type that its statement has given it.
#[derive(Debug)]
pub(super) struct Line(Row);

impl Line {
    fn get<'a, T: FromSql<'a>>(&'a self, column: Column) -> Result<T> {
        self.0
            .try_get(column as usize)
            .map_err(|_| Error::internal("the database answers with another type"))
    }

    fn count(&self, column: Column) -> Result<u64> {
        u64::try_from(self.get::<i64>(column)?)
            .map_err(|_| Error::corrupt("the database answers with a negative number"))
    }

    pub(super) fn n(&self) -> Result<u64> {
        self.count(Column::N)
    }

    pub(super) fn ordinal(&self) -> Result<u64> {
        self.count(Column::Ordinal)
    }

    pub(super) fn signed_ordinal(&self) -> Result<i64> {
        self.get(Column::Ordinal)
    }

    /// A number, and the largest there is for what overflows.
    pub(super) fn distance(&self) -> Result<f32> {
        Ok(finite(self.get(Column::Distance)?))
    }

    pub(super) fn total(&self) -> Result<u64> {
        self.count(Column::Total)
    }

    /// What the record takes, if it says so.
    pub(super) fn kept(&self) -> Result<Option<u64>> {
        Ok(u64::try_from(self.get::<i64>(Column::Total)?).ok())
    }

    /// What several take.
    pub(super) fn kept_of_all(&self) -> Result<Kept> {
        Ok(Kept { bytes: self.total()?, silent: self.n()? })
    }

    pub(super) fn bytes(&self) -> Result<Option<&[u8]>> {
        self.get(Column::Bytes)
    }

    /// Bytes that it brought.
    pub(super) fn weight(&self) -> usize {
        self.0.raw_size_bytes()
    }

    /// The record's body.
    pub(super) fn body(&self, tenant: &OpenTenant, number: CollectionNumber) -> Result<Body> {
        let place =
            keys::Body { collection: number.0, partition: PARTITION, ordinal: self.ordinal()? };
        let sealed = self.bytes()?.ok_or_else(|| Error::corrupt("a record has no body"))?;
        Body::decode(&tenant.key().open(&place.encode(tenant.prefix()), sealed)?)
    }

    /// Adds the record to an answer.
    pub(super) fn answer(
        &self,
        tenant: &OpenTenant,
        info: &CollectionInfo,
        ids: Option<&HashSet<String>>,
        answer: &mut Records,
    ) -> Result<()> {
        let body = self.body(tenant, info.number)?;
        if ids.is_some_and(|ids| !ids.contains(&body.id)) {
            return Err(another_record());
        }
        answer.push(&body)?;
        let fields: Option<Vec<i16>> = self.get(Column::Fields)?;
        let vectors: Option<Vec<&[u8]>> = self.get(Column::Vectors)?;
        for (field, bytes) in fields.iter().flatten().zip(vectors.iter().flatten()) {
            answer.count(bytes.len())?;
            answer.set_vector(name_of(info, *field)?, vector::read(bytes)?);
        }
        Ok(())
    }
}

/// A keyed hash leads to a record whose id has another one.
pub(super) fn another_record() -> Error {
    Error::corrupt("an id leads to another record")
}

fn name_of(info: &CollectionInfo, field: i16) -> Result<Option<&VectorName>> {
    let number = field.cast_unsigned();
    if number == 0 {
        return Ok(None);
    }
    let named = info.vectors.iter().find(|(_, vector)| vector.number == number);
    named
        .map(|(name, _)| Some(name))
        .ok_or_else(|| Error::corrupt("a stored vector belongs to no name of its collection"))
}

/// What a statement returned. Every line is of the tenant and the collection that were asked for.
#[derive(Debug)]
pub(super) struct Lines {
    /// The collection as it is; none if it is gone.
    pub(super) info: Option<CollectionInfo>,
    /// Its counts.
    pub(super) statistics: Option<Statistics>,
    /// Records, or ordinals.
    pub(super) records: Vec<Line>,
    pub(super) near: Vec<Line>,
    /// What was counted.
    pub(super) count: Option<u64>,
    /// The tenant's counters are where it was asked, and the place is not closed.
    pub(super) is_here: bool,
}

impl Lines {
    pub(super) fn of(
        rows: Vec<Row>,
        tenant: &OpenTenant,
        number: CollectionNumber,
    ) -> Result<Self> {
        let mut lines = Self {
            info: None,
            statistics: None,
            records: Vec::new(),
            near: Vec::new(),
            count: None,
            is_here: false,
        };
        let collection = signed_collection(number)?;
        for row in rows {
            let line = Line(row);
            let is_ours = is_of(line.get(Column::Tenant)?, tenant.id())
                && line.get::<i32>(Column::Collection)? == collection;
            if !is_ours {
                tracing::error!(tenant = %tenant.id(), "the database answers for somebody else");
                return Err(Error::corrupt("the database answers for somebody else"));
            }
            match line.get::<i16>(Column::Part)? {
                part::CATALOG => lines.catalog(&line, tenant, number)?,
                part::RECORD => lines.records.push(line),
                part::NEAR => lines.near.push(line),
                part::COUNT => lines.count = Some(line.total()?),
                _ => return Err(Error::internal("a line of no kind")),
            }
        }
        let mut records =
            lines.records.into_iter().map(|l| Ok((l.n()?, l))).collect::<Result<Vec<_>>>()?;
        records.sort_by_key(|(n, _)| *n);
        lines.records = records.into_iter().map(|(_, line)| line).collect();
        Ok(lines)
    }

    fn catalog(
        &mut self,
        line: &Line,
        tenant: &OpenTenant,
        number: CollectionNumber,
    ) -> Result<()> {
        let (collection, partition) = (number.0, PARTITION);
        let sealed = line.bytes()?.ok_or_else(|| Error::corrupt("an empty row of the catalog"))?;
        let family = u8::try_from(line.n()?).ok();
        if family == Some(keys::Collection::FAMILY) {
            let key = keys::Collection { collection }.encode(tenant.prefix());
            let row: DiskCollection = tenant.open_row(&key, sealed)?;
            self.info = Some(row.into_info(number)?);
        } else if family == Some(keys::Statistics::FAMILY) {
            let key = keys::Statistics { collection, partition }.encode(tenant.prefix());
            let row: DiskStatistics = tenant.open_row(&key, sealed)?;
            self.statistics = Some(row.into_statistics());
        } else if family == Some(keys::Head::FAMILY) {
            fence::counters(sealed)?;
            self.is_here = true;
        }
        Ok(())
    }
}
