//! The ledger: what tenants have used, in sums of hours and months in the root.
//!
//! Two streams meet there, beside what applications report ([`Tenancy::report`]). What writes cost
//! is in each tenant's counters, in the commits of these writes, and is taken over by difference
//! ([`Tenancy::collect`]). Everything else is a journal of each node, and is added up row by row
//! ([`Tenancy::fold`]). Both change sums in the commit that says that they did, so that no crash and
//! no repetition counts anything twice.

mod accounts;
mod counted;
mod event_day;
mod events;
mod kept;
mod spent;
mod stock;
mod tariffs;

pub(crate) use counted::{Counted, Seen, Work};
pub(crate) use event_day::EventDay;
pub use kept::{Census, Lap};
pub(super) use tariffs::tariff_keys;

use super::{
    Backend, Space, Tenancy, View,
    backend::Scan,
    commit::Commit,
    complete,
    disk::{DiskJournal, DiskKept, DiskSeen, DiskUsage},
    keys::{self, Decode as _, Prefix},
    number,
    tenants::OpenTenant,
};
use crate::{Journaled, Stock, UsageNote, UsagePage};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tenantry_auth::{Admin, OperatorScope, Scope, SystemScope, TenantId};
use tenantry_types::{
    Amounts, Error, ErrorKind, Every, Hour, Location, Result, TenantName, Timestamp, Used,
};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// Rows of journals that one commit folds.
const FOLDED_AT_ONCE: usize = 64;
/// Sums that one commit raises, and those of one row more.
const RAISED_AT_ONCE: usize = 8_192;
/// How long the mark of a node is kept that writes nothing.
const MARKS_KEPT_MILLIS: u64 = 7 * 24 * 3_600_000;
/// Such marks that go in one commit.
const OLD_MARKS_AT_ONCE: usize = 1_000;
/// Time that has passed before stocks are taken over alone.
const STOCKS_AT_LEAST_MILLIS: u64 = 1_000;
/// Sums that are read at once.
const SUMS_AT_ONCE: usize = 256;
/// How often counters are looked at again that somebody else has collected meanwhile.
const COLLECTED_TRIES: usize = 8;

/// The number of a span on disk.
fn span(every: Every) -> u8 {
    match every {
        Every::Hour => 0,
        Every::Month => 1,
    }
}

/// What sums are to be raised by.
#[derive(Default)]
struct Raise(BTreeMap<(u64, u8, u32), Amounts>);

impl Raise {
    fn add(&mut self, tenant: TenantId, hour: Hour, amounts: &Amounts) {
        for (every, at) in [(Every::Hour, hour.0), (Every::Month, hour.month().0)] {
            let sum = self.0.entry((tenant.get(), span(every), at)).or_default();
            sum.add_all(amounts);
        }
    }

    /// Puts the sums, all or none of them. The view is of the root, and nobody else changes it.
    async fn put(
        self,
        view: &impl View,
        installation: &OpenTenant,
        commit: &mut Commit<'_>,
    ) -> Result<()> {
        let all: Vec<_> = self.0.into_iter().collect();
        let (mut sums, mut old) = (Vec::with_capacity(all.len()), Vec::new());
        for some in all.chunks(SUMS_AT_ONCE) {
            let key = |((tenant, span, at), _): &((u64, u8, u32), Amounts)| {
                keys::Usage { tenant: *tenant, span: *span, at: *at }.encode(INSTALLATION)
            };
            let keys: Vec<Vec<u8>> = some.iter().map(key).collect();
            let rows = view.many(Space::Catalog, &keys).await?;
            for ((key, ((tenant, span, at), more)), row) in keys.into_iter().zip(some).zip(rows) {
                let mut sum = match row {
                    Some(row) => installation.open_row::<DiskUsage>(&key, &row)?.into_amounts()?,
                    None if *span == self::span(Every::Hour) => {
                        old.extend(accounts::old_hours(view, *tenant, Hour(*at)).await?);
                        Amounts::default()
                    }
                    None => Amounts::default(),
                };
                sum.add_all(more);
                sums.push((key, sum));
            }
        }
        for (key, sum) in sums {
            commit.put(Space::Catalog, key, &DiskUsage::new(&sum));
        }
        for key in old {
            commit.remove(Space::Catalog, key);
        }
        Ok(())
    }
}

/// What a tenant's counters say.
enum Counters {
    /// As of which commit, and what.
    Counted(u64, Box<Counted>),
    /// Nothing that counts: what there is to note of what it keeps.
    Silent(Stock),
}

impl<B: Backend> Tenancy<B> {
    /// Writes a second of a node's journal, once under its number: whoever does not know what
    /// became of it asks again with the same.
    pub(crate) async fn write_journal(
        self: &Arc<Self>,
        _scope: &SystemScope,
        (node, number_of): ([u8; 16], u64),
        notes: Vec<UsageNote>,
    ) -> Result<Journaled> {
        // Before older programs are kept out nothing is counted.
        if !self.tenants.origins.is_open() {
            return Ok(Journaled::Written);
        }
        let inner = Arc::clone(self);
        complete(async move {
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            let mark = keys::Written { node }.encode(INSTALLATION);
            let last = view.get(Space::Catalog, &mark).await?;
            match last.map(|mark| last_of(&mark)).transpose()? {
                Some(last) if last >= number_of => return Ok(Journaled::Written),
                // It may have been written, folded, and its mark removed.
                None if number_of > 1 => return Ok(Journaled::Forgotten),
                Some(_) | None => {}
            }
            let mut commit = inner.begin(&installation)?;
            let key = keys::Journal { node, number: number_of }.encode(INSTALLATION);
            commit.put(Space::Catalog, key, &DiskJournal::new(&notes));
            let written = [number_of.to_be_bytes(), inner.now().0.to_be_bytes()].concat();
            commit.put_clear(Space::Catalog, mark, written);
            if number_of == 1 {
                for old in old_marks(&view, inner.now()).await? {
                    commit.remove(Space::Catalog, old);
                }
            }
            inner.commit(&installation, view, commit).await?;
            Ok(Journaled::Written)
        })
        .await
    }

    /// Adds to the sums what nodes have written, and what the commits have counted of which they
    /// say that there were some.
    pub(crate) async fn fold(self: &Arc<Self>) -> Result<()> {
        let inner = Arc::clone(self);
        complete(async move {
            // What is there already waits for no tenant that has to be asked.
            inner.fold_all(false).await?;
            inner.fold_all(true).await
        })
        .await
    }

    /// Only what nodes have counted, which is added up without asking any tenant.
    pub(crate) async fn fold_amounts(self: &Arc<Self>) -> Result<()> {
        let inner = Arc::clone(self);
        complete(async move { inner.fold_all(false).await }).await
    }

    /// Page by page. Rows that say who wrote stay until these tenants were asked: a reader who wants
    /// to know of one tenant (`with_writers` is false) does not wait for all.
    async fn fold_all(self: &Arc<Self>, with_writers: bool) -> Result<()> {
        let mut after = Some(keys::Journal::all(INSTALLATION));
        while let Some(from) = after {
            after = self.fold_some(&from, with_writers).await?;
        }
        Ok(())
    }

    /// Where to go on, if there may be more.
    async fn fold_some(
        self: &Arc<Self>,
        from: &[u8],
        with_writers: bool,
    ) -> Result<Option<Vec<u8>>> {
        let all = keys::Journal::all(INSTALLATION);
        let installation = self.installation().await?;
        // Whoever finds nothing to add waits for no lock.
        let there = self.root(None).await?.page(Space::Catalog, &all, from, FOLDED_AT_ONCE).await?;
        let Some((last, _)) = there.last() else { return Ok(None) };
        let mut next = (there.len() == FOLDED_AT_ONCE).then(|| [last.as_slice(), &[0]].concat());
        let read = |(key, sealed): &(Vec<u8>, Vec<u8>)| {
            notes_of(&installation, key, sealed).map(|notes| (key.clone(), notes))
        };
        let mut there: Vec<(Vec<u8>, Vec<UsageNote>)> = there.iter().filter_map(read).collect();
        let marks = there.iter().flat_map(|(_, notes)| notes).filter(|note| is_mark(note));
        let mut waiting: BTreeSet<TenantId> = marks.map(|note| note.tenant).collect();
        if with_writers {
            waiting = self.collect_all(waiting).await;
        }
        let stays = |note: &UsageNote| is_mark(note) && waiting.contains(&note.tenant);
        there.retain(|(_, notes)| !notes.iter().all(stays));
        if there.is_empty() {
            return Ok(next);
        }
        let keys: Vec<Vec<u8>> = there.into_iter().map(|(key, _)| key).collect();
        let _logging = installation.writer.lock().await;
        let view = self.change(&installation).await?;
        let (mut commit, mut raise) = (self.begin(&installation)?, Raise::default());
        let (mut has_changed, rows) = (false, view.many(Space::Catalog, &keys).await?);
        for (key, sealed) in keys.into_iter().zip(rows) {
            // A row that is gone was added by somebody else.
            let Some(sealed) = sealed else { continue };
            if raise.0.len() > RAISED_AT_ONCE {
                next = Some(key);
                break;
            }
            let Some(notes) = notes_of(&installation, &key, &sealed) else { continue };
            if notes.iter().all(stays) {
                continue;
            }
            has_changed = true;
            let (mut marks, notes): (Vec<_>, Vec<_>) = notes.into_iter().partition(is_mark);
            marks.retain(stays);
            for UsageNote { tenant, hour, amounts } in notes {
                raise.enter(tenant, hour, &amounts);
            }
            if marks.is_empty() {
                commit.remove(Space::Catalog, key);
            } else {
                commit.put(Space::Catalog, key, &DiskJournal::new(&marks));
            }
        }
        if has_changed {
            raise.put(&view, &installation, &mut commit).await?;
            self.commit(&installation, view, commit).await?;
        }
        Ok(next)
    }

    /// Takes over what a tenant's counters have more than the sums.
    pub(crate) async fn collect(self: &Arc<Self>, id: TenantId) -> Result<()> {
        let inner = Arc::clone(self);
        complete(async move { inner.collect_tried(id).await }).await
    }

    /// The same for many; those are left over that cannot be asked.
    async fn collect_all(&self, tenants: BTreeSet<TenantId>) -> BTreeSet<TenantId> {
        let mut left = BTreeSet::new();
        for tenant in tenants {
            if let Err(error) = self.collect_tried(tenant).await {
                tracing::warn!(?error, %tenant, "add up a tenant's usage; tried again");
                left.insert(tenant);
            }
        }
        left
    }

    async fn collect_tried(&self, id: TenantId) -> Result<()> {
        for _ in 0..COLLECTED_TRIES {
            if self.collect_once(id).await? {
                return Ok(());
            }
        }
        let message = "this tenant's usage is being added up by others; try again";
        Err(Error::new(ErrorKind::Busy, message))
    }

    /// The same for a tenant that is about to be deleted. What cannot be asked is not billed, and
    /// does not keep the tenant.
    pub(super) async fn collect_last(self: &Arc<Self>, name: &TenantName) {
        let Ok(Some(tenant)) = self.find(name).await else { return };
        if let Err(error) = self.collect(tenant.id()).await {
            tracing::warn!(
                ?error, tenant = %tenant.id(),
                "a tenant is deleted whose last usage cannot be added up"
            );
        }
    }

    /// Takes over what a tenant's counters have, as this process knows them, in the commit that
    /// deletes it. What was seen stays, so that whoever collects meanwhile sees that it is not alone.
    pub(super) async fn settle_usage(
        &self,
        view: &B::View,
        installation: &OpenTenant,
        tenant: &OpenTenant,
        log: &mut Commit<'_>,
    ) -> Result<()> {
        let Some(head) = tenant.head() else {
            tracing::warn!(tenant = %tenant.id(), "a tenant is erased whose counters are not known");
            return Ok(());
        };
        let Some(counted) = &head.usage else { return Ok(()) };
        if tenant.placement().location == Location::Own {
            return Ok(());
        }
        let key = keys::Seen { tenant: tenant.id().get() }.encode(INSTALLATION);
        let seen: Option<DiskSeen> = installation.row(view, Space::Catalog, &key).await?;
        let seen = seen.map(DiskSeen::into_seen).transpose()?.unwrap_or_default();
        let (now, news) = seen.look(head.sequence, counted, self.now());
        // Of a tenant apart another node may know more, and has collected it.
        if now.falls > seen.falls {
            return Ok(());
        }
        let mut raise = Raise::default();
        for (hour, amounts) in &news {
            raise.enter(tenant.id(), *hour, amounts);
        }
        raise.put(view, installation, log).await?;
        log.put(Space::Catalog, key, &DiskSeen::new(&now));
        Ok(())
    }

    /// A tenant's counters as they are; none if it is gone.
    async fn counters(&self, id: TenantId) -> Result<Option<(Arc<OpenTenant>, Counters)>> {
        let Some(tenant) = self.open_tenant(id).await?.filter(|tenant| !tenant.is_gone()) else {
            return Ok(None);
        };
        // A database that its tenant carries says what it likes.
        let counters = if tenant.placement().location == Location::Own {
            Counters::Silent(Stock::default())
        } else if !self.open_if_made(&tenant).await? {
            Counters::Silent(self.kept_uncounted(true))
        } else {
            let head = {
                let view = self.view(&tenant).await?;
                tenant.read_head(&view).await?
            };
            match head.usage {
                Some(counted) => Counters::Counted(head.sequence, counted),
                None => Counters::Silent(self.kept_uncounted(head.last_collection == 0)),
            }
        };
        Ok(Some((tenant, counters)))
    }

    /// False if somebody else has done it meanwhile.
    async fn collect_once(&self, id: TenantId) -> Result<bool> {
        let installation = self.installation().await?;
        // Before the counters: ones that are older than what was seen were put back then.
        let ((before, seen), noted) = {
            let root = self.root(None).await?;
            let seen = seen_in(&root, &installation, id).await?;
            (seen, kept::kept_in(&root, &installation, id).await?)
        };
        let Some((tenant, counters)) = self.counters(id).await? else { return Ok(true) };
        let (kept, sums) = match counters {
            Counters::Silent(kept) => (kept, None),
            Counters::Counted(sequence, counted) => {
                let kept = Stock { records: counted.records, bytes: counted.bytes };
                if kept.records.is_none() || kept.bytes.is_none() {
                    match self.count_stock(&tenant, sequence, &counted).await {
                        Ok(true) => return Ok(false),
                        Ok(false) => {}
                        Err(error) => {
                            tracing::debug!(?error, tenant = %id, "count what a tenant keeps");
                        }
                    }
                }
                (kept, Some((sequence, seen.look(sequence, &counted, self.now()))))
            }
        };
        // Stocks alone grow with every look: whoever looks again and again writes nothing by it.
        let has_news = sums.as_ref().is_some_and(|(sequence, (now, news))| {
            let is_fresh = seen.commit == *sequence
                && now.since.0.saturating_sub(seen.since.0) < STOCKS_AT_LEAST_MILLIS;
            !is_fresh && (!news.is_empty() || now.falls != seen.falls)
        });
        let is_noted = noted == Some(kept);
        if is_noted && !has_news {
            return Ok(true);
        }
        let _logging = installation.writer.lock().await;
        // A note of a tenant that was erased meanwhile would stay for ever.
        let is_noted = is_noted || tenant.is_gone();
        if is_noted && sums.is_none() {
            return Ok(true);
        }
        let view = self.change(&installation).await?;
        let key = keys::Seen { tenant: id.get() }.encode(INSTALLATION);
        if view.get(Space::Catalog, &key).await? != before {
            return Ok(false);
        }
        let mut commit = self.begin(&installation)?;
        if let Some((_, (now, news))) = sums {
            if now.falls > seen.falls {
                tracing::warn!(tenant = %id, "a tenant's counters say less than before: put back?");
            }
            let mut raise = Raise::default();
            for (hour, amounts) in &news {
                raise.enter(id, *hour, amounts);
            }
            raise.put(&view, &installation, &mut commit).await?;
            commit.put(Space::Catalog, key, &DiskSeen::new(&now));
        }
        if !is_noted {
            commit.put(Space::Catalog, kept::key(id), &DiskKept::new(kept));
        }
        self.commit(&installation, view, commit).await?;
        Ok(true)
    }

    /// What the tenant of a scope has used, the earliest first.
    pub(crate) async fn usage(
        self: &Arc<Self>,
        scope: &Scope<Admin>,
        page: UsagePage,
    ) -> Result<Vec<Used>> {
        if !scope.restriction().is_none() {
            return Err(Error::denied(
                "a limited key or token cannot read what its tenant has used",
            ));
        }
        self.known(scope).await?;
        self.usage_of(scope.tenant(), page).await
    }

    /// The same for the operator.
    pub(crate) async fn usage_of_tenant(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
        page: UsagePage,
    ) -> Result<Vec<Used>> {
        self.operator_stands(scope, None).await?;
        let id = self.require(name).await?.id();
        self.usage_of(id, page).await
    }

    async fn usage_of(self: &Arc<Self>, id: TenantId, page: UsagePage) -> Result<Vec<Used>> {
        let inner = Arc::clone(self);
        complete(async move {
            inner.fold_all(false).await?;
            inner.collect_tried(id).await
        })
        .await?;
        self.sums_of(id, page).await
    }

    /// The sums as they are.
    async fn sums_of(&self, id: TenantId, page: UsagePage) -> Result<Vec<Used>> {
        let installation = self.installation().await?;
        let root = self.root(None).await?;
        sums_in(&root, &installation, id, page).await
    }
}

/// What of a tenant's counters is in its sums, and the row that says so.
async fn seen_in(
    view: &impl View,
    installation: &OpenTenant,
    id: TenantId,
) -> Result<(Option<Vec<u8>>, Seen)> {
    let key = keys::Seen { tenant: id.get() }.encode(INSTALLATION);
    let row = view.get(Space::Catalog, &key).await?;
    let seen = match &row {
        Some(sealed) => installation.open_row::<DiskSeen>(&key, sealed)?.into_seen()?,
        None => Seen::default(),
    };
    Ok((row, seen))
}

/// Sums of a tenant, the earliest first.
async fn sums_in(
    view: &impl View,
    installation: &OpenTenant,
    id: TenantId,
    page: UsagePage,
) -> Result<Vec<Used>> {
    let all = keys::usage_of(INSTALLATION, id, span(page.every));
    let from = keys::Usage { tenant: id.get(), span: span(page.every), at: page.from };
    let mut rows = Scan::new(view, Space::Catalog, all, Some(from.encode(INSTALLATION)));
    let mut found = Vec::new();
    while found.len() < page.limit
        && let Some((key, sealed)) = rows.next().await?
    {
        let at = keys::Usage::decode(INSTALLATION, &key)
            .ok_or_else(|| Error::corrupt("the key of a sum of usage cannot be read"))?
            .at;
        let row: DiskUsage = installation.open_row(&key, &sealed)?;
        found.push(Used { at, amounts: row.into_amounts()? });
    }
    Ok(found)
}

/// What a row of a journal says. One that cannot be read, or that a newer program has written, stays
/// where it is, and keeps nobody from the others.
fn notes_of(installation: &OpenTenant, key: &[u8], sealed: &[u8]) -> Option<Vec<UsageNote>> {
    let row = installation.open_row::<DiskJournal>(key, sealed);
    row.and_then(DiskJournal::into_notes)
        .inspect_err(|error| {
            tracing::error!(?error, "a second of usage cannot be read; it is kept");
        })
        .ok()
}

/// True if it says that its tenant had commits that counted, and nothing else.
fn is_mark(note: &UsageNote) -> bool {
    note.amounts.is_empty()
}

/// Marks of nodes that have written nothing for long. One that lives all the same does not know then
/// whether its last second was counted, and leaves it out.
async fn old_marks(view: &impl View, now: Timestamp) -> Result<Vec<Vec<u8>>> {
    let mut marks = Scan::new(view, Space::Catalog, keys::Written::all(INSTALLATION), None);
    let mut old = Vec::new();
    while old.len() < OLD_MARKS_AT_ONCE
        && let Some((key, mark)) = marks.next().await?
    {
        let at = number(mark.get(8..).unwrap_or_default())?;
        if at.saturating_add(MARKS_KEPT_MILLIS) < now.0 {
            old.push(key);
        }
    }
    Ok(old)
}

/// The last number that a node has written.
fn last_of(mark: &[u8]) -> Result<u64> {
    let unreadable = || Error::corrupt("the mark of a node's journal cannot be read");
    number(mark.get(..8).filter(|_| mark.len() == 16).ok_or_else(unreadable)?)
}
