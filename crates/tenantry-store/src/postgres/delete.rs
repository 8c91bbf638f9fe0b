//! Deleting records.

use super::{
    Inner,
    cluster::signed as signed_tenant,
    draft::{Draft, Slice, asked, signed_collection},
    lines::{Line, another_record},
    reading::Reading,
    select::{Ask, Selected},
    statement::{Statement, Step},
    write::Changing,
};
use crate::{
    CollectionRef,
    tenancy::{
        batch::note_deleted, complete, disk::Stamp, tenants::OpenTenant, writers::selector_bytes,
    },
};
use std::sync::Arc;
use tenantry_auth::{CanWrite, Scope, Write};
use tenantry_types::{Error, ErrorKind, Include, Order, Result, Selector};
use tokio_postgres::types::Type;

const RECORDS: &str = "DELETE FROM {schema}.records \
     WHERE tenant = $1 AND collection = $2 AND ordinal = ANY ($3)";
const VECTORS: &str = "DELETE FROM {schema}.vectors \
     WHERE tenant = $1 AND collection = $2 AND field = ANY ($4) AND ordinal = ANY ($3)";

/// Attempts that may meet a write of another node before records are selected while it is held
/// off.
const ATTEMPTS_MAX: usize = 2;

impl Inner {
    pub(crate) async fn delete<L: CanWrite>(
        self: &Arc<Self>,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
        limit: Option<usize>,
    ) -> Result<usize> {
        let (inner, scope, collection) = (Arc::clone(self), scope.to_write(), collection.clone());
        let select = select.clone();
        let limit = limit.unwrap_or(usize::MAX);
        complete(async move {
            match inner.delete_all(&scope, &collection, &select, limit).await {
                Err(why) => {
                    let other = inner.namesake(&scope, &collection, why).await?;
                    inner.delete_all(&scope, &other, &select, limit).await
                }
                done => done,
            }
        })
        .await
    }

    async fn delete_all(
        &self,
        scope: &Scope<Write>,
        collection: &CollectionRef,
        select: &Selector,
        limit: usize,
    ) -> Result<usize> {
        let tenant = self.tenancy.collection_tenant(scope, collection).await?;
        let bound = scope.restriction().filter.as_ref();
        let writing = tenant.writer_turn(selector_bytes(select)).await?;
        tenant.check_alive()?;
        let mut reading = Reading::new(self, &tenant, collection).await?;
        let ask = Ask::new(&reading, select, bound);
        let filters = ask.filters();
        let slice = Slice { offset: 0, limit };
        if !ask.needs_text() {
            let all = Selected { ordinals: None };
            let conditions = ask.conditions(&filters, &all);
            let data = |draft: &mut Draft| {
                let of_ids = ask.ids.is_some();
                Ok(Some(if of_ids {
                    draft.ordinals(&conditions, &Order::Insertion, slice)?
                } else {
                    draft.packed_ordinals(&conditions, limit.min(DOOMED_MAX + 1))?
                }))
            };
            let begun =
                self.changing_locked(scope, &tenant, collection, writing, false, data).await?;
            let doomed = doomed(&ask, &begun.lines.records)?;
            return self.delete_these(scope, &tenant, begun, doomed).await;
        }
        let mut writing = Some(writing);
        for attempt in 0.. {
            let held = writing.take().ok_or_else(|| Error::internal("a lock is taken twice"))?;
            let found = if attempt < ATTEMPTS_MAX {
                let found = select_all(&mut reading, &ask, limit).await?;
                Some((found, reading.stamp()))
            } else {
                None
            };
            let begun = self.changing_locked(scope, &tenant, collection, held, false, |_| Ok(None));
            let begun = begun.await?;
            let doomed = match found {
                Some((doomed, stamp)) if is_same(stamp, begun.statistics.stamp) => doomed,
                // Nobody of this node can have been it: the writer lock is held.
                Some(_) => {
                    writing = Some(begun.into_lock());
                    reading = Reading::new(self, &tenant, collection).await?;
                    continue;
                }
                None => {
                    let mut within =
                        Reading::new(self, &tenant, collection).await?.within(&begun.view);
                    select_all(&mut within, &ask, limit).await?
                }
            };
            return self.delete_these(scope, &tenant, begun, doomed).await;
        }
        Err(Error::internal("deleting ends without an end"))
    }

    async fn delete_these(
        &self,
        scope: &Scope<Write>,
        tenant: &Arc<OpenTenant>,
        begun: Changing<'_>,
        doomed: Vec<i64>,
    ) -> Result<usize> {
        let Changing { writing: _writing, view, info, statistics, .. } = begun;
        if doomed.is_empty() {
            return Ok(0);
        }
        if doomed.len() > DOOMED_MAX {
            let message = format!("more than {DOOMED_MAX} records would be deleted: give a limit");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let count = doomed.len();
        let ordinals = doomed.iter().map(|ordinal| ordinal.cast_unsigned()).collect();
        let before = statistics.records;
        let mut commit = self.tenancy.begin(tenant)?;
        note_deleted(&mut commit, &info, statistics, ordinals, scope.author());
        let every = Include { vector: true, vectors: true, ..Include::default() };
        let (fields, _) = asked(&info, every);
        let place = view.home().clone();
        let (number, collection) = (signed_tenant(tenant.id())?, signed_collection(info.number)?);
        let statement = |text: &str, doomed: Vec<i64>| {
            Statement::new(place.text(text))
                .with(number, Type::INT8)
                .with(collection, Type::INT4)
                .with(doomed, Type::INT8_ARRAY)
        };
        let steps = vec![
            Step::Run(statement(VECTORS, doomed.clone()).with(fields, Type::INT2_ARRAY)),
            Step::Run(statement(RECORDS, doomed)),
        ];
        let (set, head) = commit.finish();
        self.submit_with(view, set, steps).await?;
        tenant.set_head(head);
        let after = before.saturating_sub(count as u64);
        self.shared.graphs.notice_change(tenant, &info, before, after);
        Ok(count)
    }
}

async fn select_all(reading: &mut Reading<'_>, ask: &Ask, enough: usize) -> Result<Vec<i64>> {
    loop {
        let selected = ask.select(reading, enough).await;
        if let Some(selected) = reading.settled(selected).await? {
            return Ok(selected.ordinals.unwrap_or_default());
        }
    }
}

fn is_same(one: Option<Stamp>, other: Option<Stamp>) -> bool {
    one.is_some() && one == other
}

/// Records that one deletion may take: their ordinals are in memory, here and in the log of
/// changes.
const DOOMED_MAX: usize = 4_000_000;

/// The ordinals; the ids that led to them are those that were asked for.
fn doomed(ask: &Ask, records: &[Line]) -> Result<Vec<i64>> {
    let Some(ids) = &ask.ids else {
        let packed = records.first().map(Line::bytes).transpose()?.flatten().unwrap_or_default();
        let (ordinals, rest) = packed.as_chunks();
        if records.len() > 1 || !rest.is_empty() {
            return Err(Error::corrupt("the database answers with half an ordinal"));
        }
        return Ok(ordinals.iter().map(|ordinal| i64::from_be_bytes(*ordinal)).collect());
    };
    let mut doomed = Vec::with_capacity(records.len());
    for line in records {
        let id = line.bytes()?.and_then(|id| std::str::from_utf8(id).ok());
        if !id.is_some_and(|id| ids.contains(id)) {
            return Err(another_record());
        }
        doomed.push(line.signed_ordinal()?);
    }
    Ok(doomed)
}
