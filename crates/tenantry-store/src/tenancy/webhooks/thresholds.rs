//! Tenants that have used a part of a budget, told once each; of parts that are found by one look
//! the largest.
//!
//! What was told is a row of the tenant's, which the commit of the events changes. Whoever looks at
//! the same time, on whatever node, finds under the lock of the installation's log that it was told.
//! Without an endpoint that wants to know there is neither a row nor a commit.

use super::INSTALLATION;
use crate::{
    Spent,
    tenancy::{
        Backend, Space, Tenancy, View, complete,
        disk::DiskThresholds,
        keys::{self, Prefix},
        tenants::OpenTenant,
    },
};
use std::sync::Arc;
use tenantry_auth::{SystemScope, TenantId};
use tenantry_types::{Budget, EventKind, Fact, Quotas, Result, Timestamp};

/// The key of what was told of a tenant's budgets.
pub(in crate::tenancy) fn row_key(tenant: TenantId) -> Vec<u8> {
    keys::Thresholds { tenant: tenant.get() }.encode(INSTALLATION)
}

/// What was told of a budget in one period, of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) budget: Budget,
    /// Of which day or month, as [`Budget::period`] counts them.
    pub(crate) period: u32,
    /// How much the budget was.
    pub(crate) most: u64,
    /// The largest part of it that was told, in hundredths.
    pub(crate) percent: u8,
}

/// How many marks of a budget are kept: of so many days, months and limits it is known what was told.
const MARKS_MAX: usize = 4;
/// How far the clocks of two nodes may be apart.
const CLOCKS_APART_MILLIS: u64 = 5 * 60_000;

/// A budget of which a part is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reached {
    mark: Mark,
    used: u64,
    /// The next period may have begun by another node's clock.
    ends_soon: bool,
}

impl Reached {
    /// Those of a tenant at a moment.
    fn all((at, spent): (Timestamp, &Spent), quotas: &Quotas) -> Vec<Self> {
        let reached = |budget: Budget| {
            let (most, used) = (budget.most(quotas)?, spent.of(budget)?);
            let percent = Budget::reached(used, most)?;
            let ends_soon = at.0.saturating_add(CLOCKS_APART_MILLIS) >= budget.end(at).0;
            let mark = Mark { budget, period: budget.period(at), most, percent };
            Some(Self { mark, used, ends_soon })
        };
        Budget::ALL.into_iter().filter_map(reached).collect()
    }

    /// True if this mark is about the same day or month, and the same limit.
    fn is_of(&self, mark: &Mark) -> bool {
        let key = |mark: &Mark| (mark.budget, mark.period, mark.most);
        key(&self.mark) == key(mark)
    }

    /// True if it is to be told after these marks.
    fn is_news(&self, marks: &[Mark]) -> bool {
        let Mark { budget, period, percent, .. } = self.mark;
        // A mark of the next period is of a node whose clock is ahead, unless it is ahead by too much.
        let is_past = |mark: &Mark| {
            self.ends_soon && mark.budget == budget && mark.period == period.saturating_add(1)
        };
        let is_told = |mark: &Mark| self.is_of(mark) && mark.percent >= percent;
        !marks.iter().any(|mark| is_past(mark) || is_told(mark))
    }

    fn facts(&self) -> [(&'static str, Fact); 5] {
        let Mark { budget, period, most, percent } = self.mark;
        [
            ("budget", Fact::from(budget.term().word())),
            ("period", Fact::from(budget.label(period).as_str())),
            ("limit", Fact::Number(most)),
            ("used", Fact::Number(self.used)),
            ("threshold_percent", Fact::Number(percent.into())),
        ]
    }
}

/// What is to be told after these marks, of each budget the largest part only; and the marks after
/// it. Those of other periods and limits stay, or a limit that comes again, and nodes whose clocks
/// are days apart, would have the same told again; of each budget the oldest go.
fn after(mut marks: Vec<Mark>, reached: &[Reached]) -> (Vec<Reached>, Vec<Mark>) {
    let news: Vec<_> = reached.iter().filter(|one| one.is_news(&marks)).copied().collect();
    for one in &news {
        marks.retain(|mark| !one.is_of(mark));
        marks.push(one.mark);
        let has = marks.iter().filter(|mark| mark.budget == one.mark.budget).count();
        if has > MARKS_MAX
            && let Some(oldest) = marks.iter().position(|mark| mark.budget == one.mark.budget)
        {
            marks.remove(oldest);
        }
    }
    // Those of one budget stay in the order in which they were told.
    marks.sort_by_key(|mark| mark.budget.number());
    (news, marks)
}

async fn marks_in(
    view: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
) -> Result<Vec<Mark>> {
    let row: Option<DiskThresholds> =
        installation.row(view, Space::Catalog, &row_key(tenant)).await?;
    row.map_or(Ok(Vec::new()), DiskThresholds::into_marks)
}

impl<B: Backend> Tenancy<B> {
    /// Tells of the parts of a tenant's budgets that it has used at a moment, and nobody was told of;
    /// how many events.
    pub(crate) async fn tell_budgets(
        self: &Arc<Self>,
        _scope: &SystemScope,
        tenant: TenantId,
        at: (Timestamp, &Spent),
        quotas: &Quotas,
    ) -> Result<usize> {
        let reached = Reached::all(at, quotas);
        if reached.is_empty() {
            return Ok(0);
        }
        let inner = Arc::clone(self);
        complete(async move { inner.tell_reached(tenant, &reached).await }).await
    }

    async fn tell_reached(&self, tenant: TenantId, reached: &[Reached]) -> Result<usize> {
        // One that is deleted for a while has asked before.
        let info = self.tenant_by_id(tenant).await?.filter(|info| info.erase_at.is_none());
        let Some(info) = info else { return Ok(0) };
        let (installation, kind) = (self.installation().await?, EventKind::BudgetThreshold);
        {
            // Most looks end here, after one row and without a lock.
            let root = self.root(None).await?;
            if after(marks_in(&root, &installation, tenant).await?, reached).0.is_empty() {
                return Ok(0);
            }
            if self.told(&root, &installation, kind).await?.is_empty() {
                return Ok(0);
            }
        }
        let _logging = installation.writer.lock().await;
        let view = self.change(&installation).await?;
        let row = keys::Tenant {}.encode(Prefix::of(tenant));
        // The row must not outlive its tenant, which is erased under the same lock.
        if view.get(Space::Catalog, &row).await?.is_none() {
            return Ok(0);
        }
        let told = self.told(&view, &installation, kind).await?;
        let (news, marks) = after(marks_in(&view, &installation, tenant).await?, reached);
        // Without a mark what nobody could be told of now is found by a later look.
        if told.is_empty() || news.is_empty() {
            return Ok(0);
        }
        let mut log = self.begin(&installation)?;
        for one in &news {
            let whose = Some((tenant, &info.name));
            told.tell(&mut log, &self.event(kind, whose, one.facts()));
        }
        log.put(Space::Catalog, row_key(tenant), &DiskThresholds::new(&marks));
        self.commit(&installation, view, log).await?;
        self.events.notify_one();
        Ok(news.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(budget: Budget, period: u32, (used, most): (u64, u64)) -> Reached {
        let percent = Budget::reached(used, most).unwrap();
        Reached { mark: Mark { budget, period, most, percent }, used, ends_soon: false }
    }

    /// What is told of each of these, one after the other; 0 is nothing.
    fn told(all: &[Reached]) -> Vec<u8> {
        let mut marks = Vec::new();
        let mut told = Vec::new();
        for one in all {
            let (news, next) = after(marks, &[*one]);
            told.push(news.first().map_or(0, |one| one.mark.percent));
            assert!(news.len() <= 1 && next.len() <= MARKS_MAX);
            marks = next;
        }
        told
    }

    #[test]
    fn each_part_is_told_once_in_its_period() {
        let month = |period, used| reached(Budget::Month, period, (used, 10));
        let all = [month(1, 5), month(1, 7), month(1, 9), month(1, 5), month(1, 99), month(2, 8)];
        assert_eq!(told(&all), [50, 0, 80, 0, 100, 80]);
    }

    #[test]
    fn another_limit_counts_anew_and_one_that_comes_again_does_not() {
        let day = |used, most| reached(Budget::Day, 1, (used, most));
        let all = [day(8, 10), day(9, 18), day(9, 10), day(10, 18), day(10, 10), day(10, 10)];
        assert_eq!(told(&all), [80, 50, 0, 0, 100, 0]);
    }

    #[test]
    fn of_so_many_limits_it_is_known_what_was_told() {
        let day = |most| reached(Budget::Day, 1, (10, most));
        let all = [day(10), day(9), day(8), day(7), day(10), day(6), day(9), day(10)];
        // The fifth takes the place of the one that was told first.
        assert_eq!(told(&all), [100, 100, 100, 100, 0, 100, 0, 100]);
    }

    #[test]
    fn nodes_whose_clocks_are_days_apart_tell_each_day_once() {
        let day = |period| reached(Budget::Day, period, (10, 10));
        for ahead in [1, 2, 9] {
            let minutes = [day(2), day(2 + ahead), day(2), day(2 + ahead), day(2)];
            assert_eq!(told(&minutes), [100, 100, 0, 0, 0], "{ahead}");
        }
    }

    #[test]
    fn shortly_before_midnight_the_next_day_may_have_begun() {
        let at = |millis| {
            let quotas = Quotas { day: Some(4), ..Quotas::default() };
            let spent = Spent { day: Some(4), ..Spent::default() };
            Reached::all((Timestamp(millis), &spent), &quotas)[0]
        };
        let (midnight, minute) = (86_400_000, 60_000);
        assert_eq!(told(&[at(midnight), at(midnight - 5 * minute)]), [100, 0]);
        // A clock that is ahead by more does not silence the day.
        assert_eq!(told(&[at(midnight), at(midnight - 6 * minute)]), [100, 100]);
    }

    #[test]
    fn budgets_are_told_of_each_by_itself() {
        let (bytes, day, month, cost) = (Some(1), Some(4), Some(10), Some(8));
        let quotas = Quotas { bytes, day, month, cost, ..Quotas::default() };
        let spent = Spent { day: Some(4), month: 4, cost: Some(5) };
        let all = Reached::all((Timestamp(0), &spent), &quotas);
        let (news, marks) = after(Vec::new(), &all);
        let budgets: Vec<_> = news.iter().map(|one| (one.mark.budget, one.mark.percent)).collect();
        assert_eq!(budgets, [(Budget::Cost, 50), (Budget::Day, 100)]);
        assert!(after(marks, &all).0.is_empty());
        // What is not known is not told.
        let spent = Spent { cost: None, ..spent };
        assert_eq!(Reached::all((Timestamp(0), &spent), &quotas).len(), 1);
    }
}
