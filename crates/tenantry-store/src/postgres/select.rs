//! Which records take part in an operation.
//!
//! Texts are sealed, so the server cannot test them. A filter that asks for texts is asked in two
//! steps: the server leaves out what cannot match, and this node opens the rest and tests it.

use super::{
    draft::{Conditions, Draft, IdKeys, PAGE_ROWS, Slice},
    lines::{Line, another_record},
    reading::{Halt, Reading},
};
use crate::pool::Class;
use std::{collections::HashSet, sync::Arc};
use tenantry_index::CompiledFilter;
use tenantry_types::{Filter, Order, Result, Selector};

/// What a selector and a key's bound filter ask for.
pub(super) struct Ask {
    pub(super) ids: Option<Arc<HashSet<String>>>,
    keys: Option<Vec<Vec<u8>>>,
    filters: Vec<Filter>,
}

/// The records that an ask leaves, as far as this node had to find out.
pub(super) struct Selected {
    /// The records, if texts were tested.
    pub(super) ordinals: Option<Vec<i64>>,
}

impl Ask {
    pub(super) fn new(reading: &Reading<'_>, select: &Selector, bound: Option<&Filter>) -> Self {
        let ids = select.ids.as_ref();
        Self {
            keys: ids.map(|ids| IdKeys::new(reading.tenant, reading.number()).all(ids.iter())),
            ids: ids.map(|ids| Arc::new(ids.iter().map(|id| id.as_str().to_owned()).collect())),
            // The key's first.
            filters: bound.into_iter().chain(select.filter.as_ref()).cloned().collect(),
        }
    }

    /// True if all records are asked for.
    pub(super) fn is_all(&self) -> bool {
        self.ids.is_none() && self.filters.is_empty()
    }

    /// True if a graph may be walked for it: the server tests all that is asked, of many records.
    pub(super) fn can_walk(&self) -> bool {
        self.ids.is_none() && !self.needs_text()
    }

    pub(super) fn needs_text(&self) -> bool {
        self.filters.iter().any(Filter::needs_text)
    }

    /// The filters, for [`Ask::conditions`].
    pub(super) fn filters(&self) -> Vec<&Filter> {
        self.filters.iter().collect()
    }

    /// What the server is asked for: all of it if no texts are tested, else what is selected.
    pub(super) fn conditions<'a>(
        &'a self,
        filters: &'a [&'a Filter],
        selected: &'a Selected,
    ) -> Conditions<'a> {
        match &selected.ordinals {
            Some(ordinals) => Conditions { ordinals: Some(ordinals), ..Conditions::default() },
            None => Conditions { keys: self.keys.as_deref(), filters, ..Conditions::default() },
        }
    }

    /// Tests texts if any are asked for. The first `enough` records in the order of insertion do.
    pub(super) async fn select(
        &self,
        reading: &mut Reading<'_>,
        enough: usize,
    ) -> std::result::Result<Selected, Halt> {
        if !self.needs_text() {
            return Ok(Selected { ordinals: None });
        }
        let compiled = self.filters.iter().map(CompiledFilter::compile);
        let compiled = Arc::new(compiled.collect::<Result<Vec<_>>>()?);
        let filters = self.filters();
        let (mut found, mut after) = (Vec::new(), None);
        while found.len() < enough {
            let (keys, filters) = (self.keys.as_deref(), filters.as_slice());
            let conditions = Conditions { keys, ordinals: None, after, filters };
            let (place, number) = (reading.place.clone(), reading.number());
            let tenant = Arc::clone(reading.tenant);
            let (lines, _) = reading
                .ask(|_| {
                    let mut draft = Draft::new(&tenant, number)?;
                    let slice = Slice { offset: 0, limit: PAGE_ROWS };
                    let page = draft.page(&conditions, &Order::Insertion, slice, &[])?;
                    Ok(draft.finish(&place, "", Some(&page)))
                })
                .await?;
            let is_last = is_last(&lines.records, PAGE_ROWS)?;
            let ordinals = lines.records.iter().map(Line::signed_ordinal);
            after = ordinals.collect::<Result<Vec<_>>>()?.into_iter().max().or(after);
            let mut passed = self.test(reading, lines.records, &compiled).await?;
            passed.sort_unstable();
            found.append(&mut passed);
            if is_last {
                break;
            }
        }
        found.truncate(enough);
        Ok(Selected { ordinals: Some(found) })
    }

    async fn test(
        &self,
        reading: &mut Reading<'_>,
        lines: Vec<Line>,
        filters: &Arc<Vec<CompiledFilter>>,
    ) -> Result<Vec<i64>> {
        let (tenant, number) = (Arc::clone(reading.tenant), reading.number());
        let (filters, ids) = (Arc::clone(filters), self.ids.clone());
        // How long a text is, its sealed bytes do not tell.
        reading
            .work(usize::MAX, Class::Request, move |pace| {
                let mut passed = Vec::new();
                for line in &lines {
                    let body = line.body(&tenant, number)?;
                    if ids.as_ref().is_some_and(|ids| !ids.contains(&body.id)) {
                        return Err(another_record());
                    }
                    let (metadata, text) = (body.metadata.as_deref(), body.document.as_deref());
                    let mut passes = true;
                    for filter in filters.iter() {
                        passes = passes && filter.matches_paced(metadata, text, &mut *pace)?;
                    }
                    if passes {
                        passed.push(line.signed_ordinal()?);
                    }
                    pace()?;
                }
                Ok(passed)
            })
            .await
    }
}

/// True if these are all records of a page of at most so many, and the page was not full.
pub(super) fn is_last(records: &[Line], limit: usize) -> Result<bool> {
    let Some(first) = records.first() else { return Ok(true) };
    let total = first.total()?;
    Ok(total == records.len() as u64 && total < limit as u64)
}
