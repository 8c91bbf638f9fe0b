//! What applications report: events, each of which counts once under its id.
//!
//! They are added to the sums in the commit that keeps their ids, so that nobody counts one again
//! who does not know what became of it. Nobody else writes the meters that are reported, so under
//! the lock of that commit the sums of a day are exact, and no race gets past a quota.

use super::{EventDay, INSTALLATION, Raise, event_day::over, span};
use crate::tenancy::{
    Backend, Space, Tenancy, View, complete,
    disk::{DiskEvent, DiskEventDay, DiskUsage},
    keys::{self, Decode as _},
    tenants::OpenTenant,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tenantry_auth::{Admin, Scope, TenantId};
use tenantry_types::{
    Amounts, Error, ErrorKind, Every, Hour, Quotas, Reported, Resource, Result, Term, Timestamp,
    UsageEvent,
};

/// Rows of weeks that are over go with later reports: more than come meanwhile, so that none stay.
const OLD_MORE: usize = 64;

/// An event with the keys that it may be kept under: in its own week, the one before, and the one
/// after, where a node may have come already.
struct Sought {
    event: UsageEvent,
    keys: [Vec<u8>; 3],
}

impl Sought {
    fn key(self) -> (Vec<u8>, UsageEvent) {
        let [_, key, _] = self.keys;
        (key, self.event)
    }
}

/// Each id once, and how many stood there again. Fails if one of them stands for two things.
fn distinct(events: &[UsageEvent]) -> Result<(Vec<UsageEvent>, usize)> {
    let mut known: HashMap<&str, &UsageEvent> = HashMap::with_capacity(events.len());
    let mut all = Vec::with_capacity(events.len());
    for event in events {
        match known.insert(event.id(), event) {
            None => all.push(event.clone()),
            Some(before) if before == event => {}
            Some(before) => return Err(taken(event, &DiskEvent::new(before).words()?)),
        }
    }
    let repeated = events.len() - all.len();
    Ok((all, repeated))
}

fn taken(event: &UsageEvent, before: &str) -> Error {
    let (id, now) = (event.id(), DiskEvent::new(event).words().unwrap_or_default());
    let why = format!(
        "the event {id:?} is of {before} and not of {now}: an id counts once; none of these events \
         was counted"
    );
    Error::new(ErrorKind::Conflict, why)
}

/// Fails if one of the quotas would be passed by these amounts.
fn check_quotas(
    quotas: &Quotas,
    (used, more): (&Amounts, &Amounts),
    hour: Hour,
    now: Timestamp,
) -> Result<()> {
    for (meter, term, most) in quotas.of_reports() {
        let (Some(most), used, more) = (most, used.get(meter), more.get(meter)) else { continue };
        if more == 0 || used.saturating_add(more) <= most.into() {
            continue;
        }
        let (word, left) = (meter.word(), u128::from(most).saturating_sub(used));
        let message = format!(
            "{term}: this tenant may have {most} {word} a day of UTC and has {left} left, these \
             events have {more}; none of them was counted"
        );
        if more > most.into() {
            // Time does not help.
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_limit(term));
        }
        return Err(over(message, hour, now).with_limit(term));
    }
    Ok(())
}

/// What is left of the day, by the quotas that there are.
fn left(quotas: &Quotas, used: &Amounts) -> Vec<(Term, u64)> {
    let of = |(meter, term, most): (_, Term, Option<u64>)| {
        let used = u64::try_from(used.get(meter)).unwrap_or(u64::MAX);
        Some((term, most?.saturating_sub(used)))
    };
    quotas.of_reports().into_iter().filter_map(of).collect()
}

/// What was found of a report's events at one moment.
struct Looked {
    /// How far events had come, sealed: while this stands, so does the rest.
    row: Option<Vec<u8>>,
    /// The week in which they were looked for.
    week: u32,
    /// Those that were not counted before, with the keys under which they are kept.
    new: BTreeMap<Vec<u8>, UsageEvent>,
    /// Some ids of weeks that are over, the oldest first.
    old: Vec<Vec<u8>>,
    /// Below this are no rows when those are gone.
    oldest: (u32, [u8; 16]),
}

/// A tenant whose events are looked for, with the installation that keeps them.
#[derive(Clone, Copy)]
struct Of<'a> {
    installation: &'a OpenTenant,
    tenant: TenantId,
}

impl<B: Backend> Tenancy<B> {
    /// Counts events that are new, all of them or none.
    pub(crate) async fn report(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        events: &[UsageEvent],
        enforce: bool,
    ) -> Result<Reported> {
        if !scope.standing().may_manage() {
            let why = "only an operator's key that may act as tenants reports what they have used";
            return Err(Error::denied(why));
        }
        let (events, repeated) = distinct(events)?;
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move {
            inner.check_gate()?;
            let tenant = inner.known(&scope).await?;
            let bytes = events.iter().map(|event| size_of_val(event) + event.id().len()).sum();
            let _own_turn = tenant.report_turn(bytes).await?;
            let installation = inner.installation().await?;
            // Thousands of keys: before others have to wait. What is wrong with them is said later,
            // to whoever still has the right to hear it.
            let of = Of { installation: &installation, tenant: tenant.id() };
            let looked = look(&inner.root_for(&tenant).await?, of, &events, inner.now()).await;
            let _turn = inner.report_turn().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.stands(scope.standing(), Some(&tenant), Some(&view)).await?;
            tenant.check_alive()?;
            // Whoever erases it holds the same lock, on whichever node.
            let row = keys::Tenant {}.encode(tenant.prefix());
            if view.get(Space::Catalog, &row).await?.is_none() {
                return Err(Error::not_found(Resource::Tenant, tenant.info().name.as_str()));
            }
            let asked = (events.as_slice(), enforce);
            let told = inner.count_events(view, of, &tenant, looked?, asked).await?;
            Ok(Reported { duplicates: told.duplicates + repeated, ..told })
        })
        .await
    }

    /// The same for whoever has the lock of the installation's log, and has looked before.
    async fn count_events(
        &self,
        view: B::View,
        of: Of<'_>,
        tenant: &OpenTenant,
        looked: Looked,
        (events, enforce): (&[UsageEvent], bool),
    ) -> Result<Reported> {
        let (now, installation) = (self.now(), of.installation);
        let quotas = self.allowance(Some(&view), tenant).await?.quotas;
        let row = view.get(Space::Catalog, &of.day_key()).await?;
        let before = of.day(row.as_deref())?;
        let day = before.turned(now);
        let looked = if looked.row == row && looked.week == day.week() {
            looked
        } else {
            look(&view, of, events, now).await?
        };
        let used = used_in(&view, of, day.hour).await?;
        let mut amounts = Amounts::default();
        for event in looked.new.values() {
            amounts.add(event.meter(), event.amount().into());
        }
        let (mut after, counted) = (used, looked.new.len());
        after.add_all(&amounts);
        let duplicates = events.len() - counted;
        let told = Reported { counted, duplicates, amounts, left: left(&quotas, &after) };
        if counted == 0 {
            return Ok(told);
        }
        if enforce {
            check_quotas(&quotas, (&used, &amounts), day.hour, now)?;
        }
        let mut commit = self.begin(installation)?;
        let day = match (EventDay { oldest: looked.oldest, ..day }).with(counted, now) {
            Ok(day) => day,
            Err(why) => {
                // Otherwise a full day to which a clock has jumped would be full for ever.
                if day.behind != before.behind {
                    commit.put(Space::Catalog, of.day_key(), &DiskEventDay::new(day));
                    self.commit(installation, view, commit).await?;
                }
                return Err(why);
            }
        };
        let mut raise = Raise::default();
        raise.enter(tenant.id(), day.hour, &amounts);
        raise.put(&view, installation, &mut commit).await?;
        for (key, event) in &looked.new {
            commit.put(Space::Catalog, key.clone(), &DiskEvent::new(event));
        }
        for key in looked.old {
            commit.remove(Space::Catalog, key);
        }
        commit.put(Space::Catalog, of.day_key(), &DiskEventDay::new(day));
        self.commit(installation, view, commit).await?;
        Ok(told)
    }
}

impl Of<'_> {
    fn day_key(self) -> Vec<u8> {
        keys::EventDay { tenant: self.tenant.get() }.encode(INSTALLATION)
    }

    fn day(self, row: Option<&[u8]>) -> Result<EventDay> {
        let read = |row| self.installation.open_row::<DiskEventDay>(&self.day_key(), row);
        Ok(row.map(read).transpose()?.map(DiskEventDay::read).unwrap_or_default())
    }

    fn key(self, week: u32, id: [u8; 16]) -> Vec<u8> {
        keys::Event { tenant: self.tenant.get(), week, id }.encode(INSTALLATION)
    }
}

/// What the tenant has used in the day of this hour.
async fn used_in(view: &impl View, of: Of<'_>, hour: Hour) -> Result<Amounts> {
    let first = hour.day().first().0;
    let (tenant, span) = (of.tenant.get(), span(Every::Hour));
    let key = |at| keys::Usage { tenant, span, at }.encode(INSTALLATION);
    let hours: Vec<Vec<u8>> = (first..first.saturating_add(24)).map(key).collect();
    let mut used = Amounts::default();
    for (key, row) in hours.iter().zip(view.many(Space::Catalog, &hours).await?) {
        let Some(row) = row else { continue };
        used.add_all(&of.installation.open_row::<DiskUsage>(key, &row)?.into_amounts()?);
    }
    Ok(used)
}

/// Finds out which events are new. Fails if one was counted as something else.
async fn look(
    view: &impl View,
    of: Of<'_>,
    events: &[UsageEvent],
    now: Timestamp,
) -> Result<Looked> {
    let row = view.get(Space::Catalog, &of.day_key()).await?;
    let day = of.day(row.as_deref())?.turned(now);
    let week = day.week();
    let hash = of.installation.key().deriving("tenantry 2026-11 event of usage");
    let sought = |event: &UsageEvent| {
        let named = [&of.tenant.get().to_be_bytes(), event.id().as_bytes()].concat();
        let mut id = [0; 16];
        id.copy_from_slice(hash.hash(&named).split_at(16).0);
        let weeks = [week.saturating_sub(1), week, week.saturating_add(1)];
        Sought { event: event.clone(), keys: weeks.map(|week| of.key(week, id)) }
    };
    let sought: Vec<Sought> = events.iter().map(sought).collect();
    let asked: Vec<Vec<u8>> = sought.iter().flat_map(|one| &one.keys).cloned().collect();
    let mut rows = view.many(Space::Catalog, &asked).await?.into_iter();
    let mut new = BTreeMap::new();
    for one in sought {
        let mut is_known = false;
        for (key, row) in one.keys.iter().zip(rows.by_ref()) {
            let Some(row) = row else { continue };
            let before: DiskEvent = of.installation.open_row(key, &row)?;
            if before != DiskEvent::new(&one.event) {
                return Err(taken(&one.event, &before.words()?));
            }
            is_known = true;
        }
        if !is_known {
            let (key, event) = one.key();
            new.insert(key, event);
        }
    }
    let (old, oldest) = if new.is_empty() {
        (Vec::new(), day.oldest)
    } else {
        old_events(view, of, day, 2 * new.len() + OLD_MORE).await?
    };
    Ok(Looked { row, week, new, old, oldest })
}

/// Some ids of weeks that are over for longer than they are known, the oldest first, and below what
/// there are none when these are gone. Most of the time it is known that there are none, and what was
/// removed is not looked through again.
async fn old_events(
    view: &impl View,
    of: Of<'_>,
    day: EventDay,
    most: usize,
) -> Result<(Vec<Vec<u8>>, (u32, [u8; 16]))> {
    let (kept, (week, id)) = (day.kept(), day.oldest);
    if week >= kept {
        return Ok((Vec::new(), day.oldest));
    }
    let all = keys::events_of(INSTALLATION, of.tenant);
    let page = view.page(Space::Catalog, &all, &of.key(week, id), most).await?;
    let (mut old, is_last) = (Vec::new(), page.len() < most);
    let mut oldest = day.oldest;
    for (key, _) in page {
        let found = keys::Event::decode(INSTALLATION, &key)
            .ok_or_else(|| Error::corrupt("the key of an event of usage cannot be read"))?;
        if found.week >= kept {
            return Ok((old, (kept, [0; 16])));
        }
        oldest = (found.week, found.id);
        old.push(key);
    }
    Ok((old, if is_last { (kept, [0; 16]) } else { oldest }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_types::Meter;

    fn event(id: &str, amount: u64) -> UsageEvent {
        UsageEvent::new(id, Meter::Tokens, amount).unwrap()
    }

    #[test]
    fn an_id_stands_for_one_thing() {
        let (all, repeated) = distinct(&[event("a", 1), event("b", 1), event("a", 1)]).unwrap();
        assert_eq!((all.len(), repeated), (2, 1));
        let why = distinct(&[event("a", 1), event("a", 2)]).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Conflict);
        assert!(why.public_message().contains("\"a\" is of 1 tokens and not of 2 tokens"), "{why}");
    }

    #[test]
    fn whoever_wants_more_than_a_day_has_is_not_told_to_wait() {
        let quotas = Quotas { tokens_per_day: Some(10), ..Quotas::default() };
        let of = |tokens| Amounts::of(Meter::Tokens, tokens);
        let check = |used, more| {
            let checked = check_quotas(&quotas, (&of(used), &of(more)), Hour(5), Timestamp(0));
            checked.map_err(|why| why.retry_after())
        };
        assert_eq!(check(0, 10), Ok(()));
        assert_eq!(check(9, 1), Ok(()));
        assert_eq!(check(9, 2), Err(Some(86_400)));
        assert_eq!(check(0, 11), Err(None));
        // What has been used anyway keeps nobody from reporting something else.
        assert_eq!(check(99, 0), Ok(()));
        assert_eq!(left(&quotas, &of(99)), [(Term::TokensPerDay, 0)]);
        assert_eq!(left(&Quotas::default(), &of(99)), []);
    }
}
