//! Counting and getting records.

use super::{
    Inner,
    draft::{ANSWER_ROWS_MAX, Conditions, Draft, PAGE_ROWS, Slice, asked, page_rows},
    lines::Line,
    reading::{Halt, Reading},
    select::{Ask, is_last},
};
use crate::{Answer, CollectionRef, tenancy::answer::Records};
use std::{collections::HashSet, sync::Arc};
use tenantry_auth::{Level, Scope};
use tenantry_types::{CollectionStatistics, Filter, GetRequest, Order, Record, Result, Selector};

impl Inner {
    pub(crate) async fn count<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
    ) -> Result<Answer<usize>> {
        match self.count_in(scope, collection, select).await {
            Err(why) => {
                let other = self.namesake(scope, collection, why).await?;
                Ok(self.count_in(scope, &other, select).await?.of(other))
            }
            done => done,
        }
    }

    async fn count_in<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
    ) -> Result<Answer<usize>> {
        let bound = scope.restriction().filter.as_ref();
        let tenant = self.tenancy.collection_tenant(scope, collection).await?;
        let mut reading = Reading::new(self, &tenant, collection).await?;
        let value = loop {
            let counted = count(&mut reading, select, bound).await;
            if let Some(value) = reading.settled(counted).await? {
                break value;
            }
        };
        Ok(Answer::new(reading.origin(), usize::try_from(value).unwrap_or(usize::MAX)))
    }

    pub(crate) async fn get<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &GetRequest,
    ) -> Result<Answer<Vec<Record>>> {
        match self.get_from(scope, collection, request).await {
            Err(why) => {
                let other = self.namesake(scope, collection, why).await?;
                Ok(self.get_from(scope, &other, request).await?.of(other))
            }
            done => done,
        }
    }

    async fn get_from<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &GetRequest,
    ) -> Result<Answer<Vec<Record>>> {
        let bound = scope.restriction().filter.as_ref();
        let tenant = self.tenancy.collection_tenant(scope, collection).await?;
        let mut reading = Reading::new(self, &tenant, collection).await?;
        loop {
            let got = get(&mut reading, request, bound).await;
            if let Some(value) = reading.settled(got).await? {
                return Ok(Answer::new(reading.origin(), value));
            }
        }
    }

    pub(crate) async fn collection_statistics<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<Answer<CollectionStatistics>> {
        match self.statistics_of(scope, collection).await {
            Err(why) => {
                let other = self.namesake(scope, collection, why).await?;
                Ok(self.statistics_of(scope, &other).await?.of(other))
            }
            done => done,
        }
    }

    async fn statistics_of<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<Answer<CollectionStatistics>> {
        let tenant = self.tenancy.collection_tenant(scope, collection).await?;
        let mut reading = Reading::new(self, &tenant, collection).await?;
        loop {
            let looked = look(&mut reading).await;
            if let Some(records) = reading.settled(looked).await? {
                let value = CollectionStatistics { records, memory: None };
                return Ok(Answer::new(reading.origin(), value));
            }
        }
    }
}

/// Asks for nothing but what the catalog says.
pub(super) async fn look(reading: &mut Reading<'_>) -> std::result::Result<u64, Halt> {
    let (place, number) = (reading.place.clone(), reading.number());
    let tenant = Arc::clone(reading.tenant);
    let make =
        |_: Option<&_>| Ok(Draft::new(&tenant, number)?.finish(&place, "", None).common_if(true));
    Ok(reading.ask(make).await?.1.records)
}

async fn count(
    reading: &mut Reading<'_>,
    select: &Selector,
    bound: Option<&Filter>,
) -> std::result::Result<u64, Halt> {
    let ask = Ask::new(reading, select, bound);
    if ask.is_all() {
        return look(reading).await;
    }
    let selected = ask.select(reading, usize::MAX).await?;
    if let Some(ordinals) = selected.ordinals {
        return Ok(ordinals.len() as u64);
    }
    let filters = ask.filters();
    count_of(reading, &ask.conditions(&filters, &selected)).await
}

/// How many records the server lets through.
pub(super) async fn count_of(
    reading: &mut Reading<'_>,
    conditions: &Conditions<'_>,
) -> std::result::Result<u64, Halt> {
    let (place, number) = (reading.place.clone(), reading.number());
    let tenant = Arc::clone(reading.tenant);
    let (lines, _) = reading
        .ask(|_| {
            let mut draft = Draft::new(&tenant, number)?;
            let count = draft.count(conditions)?;
            Ok(draft.finish(&place, "", Some(&count)))
        })
        .await?;
    Ok(lines.count.unwrap_or(0))
}

async fn get(
    reading: &mut Reading<'_>,
    request: &GetRequest,
    bound: Option<&Filter>,
) -> std::result::Result<Vec<Record>, Halt> {
    let ask = Ask::new(reading, &request.select, bound);
    let slice = Slice {
        offset: request.page.offset,
        limit: request.page.limit.unwrap_or(usize::MAX).min(ANSWER_ROWS_MAX),
    };
    let is_insertion = request.order == Order::Insertion;
    let enough = if is_insertion { slice.offset.saturating_add(slice.limit) } else { usize::MAX };
    let selected = ask.select(reading, enough).await?;
    let filters = ask.filters();
    let conditions = ask.conditions(&filters, &selected);
    let answer = Records::new(request.include);
    let answer = if is_insertion {
        in_insertion_order(reading, &conditions, slice, ask.ids.as_ref(), answer).await?
    } else {
        in_order(reading, &conditions, &request.order, slice, ask.ids.as_ref(), answer).await?
    };
    Ok(answer.records)
}

/// One page; whether it is the last.
async fn page(
    reading: &mut Reading<'_>,
    conditions: &Conditions<'_>,
    order: &Order,
    slice: Slice,
    answer: &Records,
) -> std::result::Result<(Vec<Line>, bool), Halt> {
    let (place, number) = (reading.place.clone(), reading.number());
    let tenant = Arc::clone(reading.tenant);
    let (fields, bytes) = asked(&reading.info, answer.include());
    let limit = slice.limit.min(page_rows(bytes));
    let slice = Slice { limit, ..slice };
    // An order by a key, or a filter, may be better planned for its values.
    let is_common = conditions.filters.is_empty() && !matches!(order, Order::Key { .. });
    let (lines, _) = reading
        .ask(|_| {
            let mut draft = Draft::new(&tenant, number)?;
            let page = draft.page(conditions, order, slice, &fields)?;
            Ok(draft.finish(&place, "", Some(&page)).common_if(is_common))
        })
        .await?;
    let is_last = is_last(&lines.records, limit)?;
    Ok((lines.records, is_last))
}

async fn in_insertion_order(
    reading: &mut Reading<'_>,
    conditions: &Conditions<'_>,
    mut slice: Slice,
    ids: Option<&Arc<HashSet<String>>>,
    mut answer: Records,
) -> std::result::Result<Records, Halt> {
    let mut conditions = conditions.clone();
    loop {
        let (lines, is_last) =
            page(reading, &conditions, &Order::Insertion, slice, &answer).await?;
        slice.limit = slice.limit.saturating_sub(lines.len());
        slice.offset = 0;
        conditions.after = match lines.last() {
            Some(last) => Some(last.signed_ordinal()?),
            None => conditions.after,
        };
        answer = reading.open(lines, ids, answer).await?;
        if is_last || slice.limit == 0 {
            return Ok(answer);
        }
    }
}

/// What is not one page is asked for in two steps, because the order costs a sort each time: first
/// which records in which order, then these.
async fn in_order(
    reading: &mut Reading<'_>,
    conditions: &Conditions<'_>,
    order: &Order,
    slice: Slice,
    ids: Option<&Arc<HashSet<String>>>,
    answer: Records,
) -> std::result::Result<Records, Halt> {
    let (_, bytes) = asked(&reading.info, answer.include());
    if slice.limit <= page_rows(bytes) {
        let (lines, is_last) = page(reading, conditions, order, slice, &answer).await?;
        if is_last || lines.len() == slice.limit {
            return Ok(reading.open(lines, ids, answer).await?);
        }
    }
    let ordinals = ordinals(reading, conditions, order, slice).await?;
    these(reading, &ordinals, ids, answer).await
}

/// The ordinals of a slice, in its order.
pub(super) async fn ordinals(
    reading: &mut Reading<'_>,
    conditions: &Conditions<'_>,
    order: &Order,
    slice: Slice,
) -> std::result::Result<Vec<i64>, Halt> {
    let (place, number) = (reading.place.clone(), reading.number());
    let tenant = Arc::clone(reading.tenant);
    let (lines, _) = reading
        .ask(|_| {
            let mut draft = Draft::new(&tenant, number)?;
            let data = draft.ordinals(conditions, order, slice, false)?;
            Ok(draft.finish(&place, "", Some(&data)))
        })
        .await?;
    Ok(lines.records.iter().map(Line::signed_ordinal).collect::<Result<Vec<_>>>()?)
}

/// Adds these records to an answer, in this order.
pub(super) async fn these(
    reading: &mut Reading<'_>,
    ordinals: &[i64],
    ids: Option<&Arc<HashSet<String>>>,
    mut answer: Records,
) -> std::result::Result<Records, Halt> {
    let (place, number) = (reading.place.clone(), reading.number());
    let tenant = Arc::clone(reading.tenant);
    let mut left = ordinals;
    while !left.is_empty() {
        let (fields, bytes) = asked(&reading.info, answer.include());
        let (next, _) = left.split_at(left.len().min(page_rows(bytes).min(PAGE_ROWS)));
        let (lines, _) = reading
            .ask(|_| {
                let mut draft = Draft::new(&tenant, number)?;
                let data = draft.these(next, &fields);
                Ok(draft.finish(&place, "", Some(&data)).common_if(true))
            })
            .await?;
        // The stamp says that all of them are there.
        let Some(last) = lines.records.last() else {
            return Err(tenantry_types::Error::corrupt("records are gone that were found").into());
        };
        let taken = usize::try_from(last.n()?).unwrap_or(usize::MAX).min(next.len());
        left = left.get(taken..).unwrap_or_default();
        answer = reading.open(lines.records, ids, answer).await?;
    }
    Ok(answer)
}
