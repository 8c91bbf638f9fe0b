//! Deleting records.

use super::{
    Inner,
    cluster::signed as signed_tenant,
    draft::{Draft, Slice, asked, signed_collection},
    lines::{Line, Lines, another_record},
    reading::Reading,
    select::{Ask, Selected},
    statement::{Statement, Step},
    write::Changing,
};
use crate::{
    CollectionRef,
    tenancy::{
        batch::note_deleted,
        complete,
        disk::{Kept, Stamp},
        tenants::OpenTenant,
        writers::selector_bytes,
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
            let deleting = inner.delete_named(&scope, &collection, &select, limit);
            inner.pool.beside(scope.tenant(), Box::pin(deleting)).await
        })
        .await
    }

    async fn delete_named(
        &self,
        scope: &Scope<Write>,
        collection: &CollectionRef,
        select: &Selector,
        limit: usize,
    ) -> Result<usize> {
        match self.delete_all(scope, collection, select, limit).await {
            Err(why) => {
                let other = self.namesake(scope, collection, why).await?;
                self.delete_all(scope, &other, select, limit).await
            }
            done => done,
        }
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
                    draft.ordinals(&conditions, &Order::Insertion, slice, true)?
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
            let kept = |draft: &mut Draft| {
                Ok(found.as_ref().map(|(doomed, _)| draft.kept(doomed.as_slice())))
            };
            let begun = self.changing_locked(scope, &tenant, collection, held, false, kept).await?;
            let doomed = match found {
                Some((ordinals, stamp)) if is_same(stamp, begun.statistics.stamp) => {
                    Doomed { ordinals, gone: kept_in(&begun.lines)? }
                }
                // Nobody of this node can have been it: the writer lock is held.
                Some(_) => {
                    writing = Some(begun.into_lock());
                    reading = Reading::new(self, &tenant, collection).await?;
                    continue;
                }
                None => {
                    let mut within =
                        Reading::new(self, &tenant, collection).await?.within(&begun.view);
                    let ordinals = select_all(&mut within, &ask, limit).await?;
                    let gone = kept_of(&mut within, &ordinals).await?;
                    Doomed { ordinals, gone }
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
        doomed: Doomed,
    ) -> Result<usize> {
        let Doomed { ordinals: doomed, gone } = doomed;
        let Changing { writing: _writing, view, info, statistics, looked_at, .. } = begun;
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
        note_deleted(&mut commit, &info, statistics, (ordinals, gone), scope.author());
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
        let view = self.stands_still(scope, tenant, view, looked_at).await?;
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

/// Records that are to be deleted, and what they take.
#[derive(Default)]
struct Doomed {
    ordinals: Vec<i64>,
    gone: Kept,
}

/// The answer to [`Draft::kept`].
fn kept_in(lines: &Lines) -> Result<Kept> {
    lines.records.first().map(Line::kept_of_all).transpose().map(Option::unwrap_or_default)
}

async fn kept_of(within: &mut Reading<'_>, ordinals: &[i64]) -> Result<Kept> {
    let (place, number, tenant) = (within.place.clone(), within.number(), within.tenant);
    let asked = within.ask(|_| {
        let mut draft = Draft::new(tenant, number)?;
        let data = draft.kept(ordinals);
        Ok(draft.finish(&place, "", Some(&data)))
    });
    let asked = asked.await;
    let answer = within.settled(asked).await?;
    let (lines, _) = answer.ok_or_else(|| Error::internal("records change within a change"))?;
    kept_in(&lines)
}

/// The ordinals; the ids that led to them are those that were asked for.
fn doomed(ask: &Ask, records: &[Line]) -> Result<Doomed> {
    let Some(ids) = &ask.ids else {
        let packed = records.first().map(Line::bytes).transpose()?.flatten().unwrap_or_default();
        let (ordinals, rest) = packed.as_chunks();
        if records.len() > 1 || !rest.is_empty() {
            return Err(Error::corrupt("the database answers with half an ordinal"));
        }
        let gone = records.first().map(Line::kept_of_all).transpose()?.unwrap_or_default();
        let ordinals = ordinals.iter().map(|ordinal| i64::from_be_bytes(*ordinal)).collect();
        return Ok(Doomed { ordinals, gone });
    };
    let mut doomed = Doomed::default();
    for line in records {
        let id = line.bytes()?.and_then(|id| std::str::from_utf8(id).ok());
        if !id.is_some_and(|id| ids.contains(id)) {
            return Err(another_record());
        }
        doomed.ordinals.push(line.signed_ordinal()?);
        doomed.gone.add(line.kept()?);
    }
    Ok(doomed)
}
