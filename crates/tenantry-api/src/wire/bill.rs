//! Tariffs of plans, what a month costs, and whether the ledger is in balance.

use super::{
    described::Name,
    page::limited,
    usage::{ALL_LIMIT_MAX, UsageFormat, amounts_out},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write as _};
use tenantry_engine::{
    Bill, Error, Meter, MicroUnits, Month, Price, Result, Tariff, TenantBill, TenantId,
    UsageBalance, csv_text,
};
use utoipa::{IntoParams, ToSchema};

/// A month in a path or a search.
pub(crate) fn month(text: &str) -> Result<Month> {
    Month::parse(text)
        .ok_or_else(|| Error::invalid(format!("{text:?} is no month; write one as 2026-11")))
}

/// Which month.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct MonthSearch {
    /// A month of UTC: `2026-11`.
    #[param(pattern = "^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])$")]
    pub(crate) month: String,
}

/// Which month of which tenant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantMonthSearch {
    /// The tenant's name.
    #[param(value_type = Name)]
    pub(crate) tenant: String,
    /// A month of UTC: `2026-11`.
    #[param(pattern = "^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])$")]
    pub(crate) month: String,
}

/// Which month of all tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct BillsSearch {
    /// A month of UTC: `2026-11`.
    #[param(pattern = "^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])$")]
    month: String,
    /// After the tenant with this number.
    after: Option<u64>,
    /// How many at most, 1 to 1,000; 100 if absent.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
    /// JSON if absent.
    #[param(inline)]
    #[serde(default)]
    pub(crate) format: UsageFormat,
}

impl BillsSearch {
    /// The month, how many, and the tenant before them.
    pub(crate) fn page(&self) -> Result<(Month, usize, Option<TenantId>)> {
        let limit = limited(self.limit, 100, ALL_LIMIT_MAX)?;
        Ok((month(&self.month)?, limit, self.after.map(TenantId::new)))
    }
}

/// What a plan costs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TariffIn {
    /// Prices by meter: millionths of a unit of your currency for 1,000,000,000 of the meter. A meter
    /// that is absent costs nothing.
    prices: BTreeMap<String, u64>,
}

impl TariffIn {
    pub(crate) fn tariff(self) -> Result<Tariff> {
        let price = |(word, price): (String, u64)| {
            let known = || Meter::ALL.map(Meter::word).join(", ");
            let meter = Meter::parse(&word).ok_or_else(|| {
                Error::invalid(format!("prices: {word:?} is no meter; these are: {}", known()))
            })?;
            Ok((meter, Price(price)))
        };
        self.prices.into_iter().map(price).collect::<Result<_>>().map(Tariff)
    }
}

/// All tariffs of a plan.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TariffsOut {
    /// The earliest first. Each counts until the next one does.
    tariffs: Vec<TariffOut>,
}

/// One tariff of a plan.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TariffOut {
    /// The first month that it counts for: `2026-11`.
    from: String,
    /// Millionths of a unit of your currency for 1,000,000,000 of each meter.
    prices: BTreeMap<&'static str, u64>,
}

impl TariffOut {
    pub(crate) fn new(from: Month, tariff: &Tariff) -> Self {
        let prices = tariff.0.iter().map(|(meter, price)| (meter.word(), price.0)).collect();
        Self { from: from.to_string(), prices }
    }
}

impl TariffsOut {
    pub(crate) fn new(tariffs: &[(Month, Tariff)]) -> Self {
        Self { tariffs: tariffs.iter().map(|(from, one)| TariffOut::new(*from, one)).collect() }
    }
}

/// What a month costs. Amounts and money are decimal numbers as texts, since they may be larger than
/// what many readers of JSON take.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BillOut {
    /// The month: `2026-11`.
    month: String,
    /// What was used.
    amounts: BTreeMap<&'static str, String>,
    /// What each meter that has a price costs, in millionths of a unit of the currency.
    cost_micros: BTreeMap<&'static str, String>,
    /// The sum of these.
    total_micros: String,
}

impl BillOut {
    pub(crate) fn new(month: Month, bill: &Bill) -> Self {
        Self {
            month: month.to_string(),
            amounts: amounts_out(&bill.amounts),
            cost_micros: costs_out(bill),
            total_micros: bill.total.0.to_string(),
        }
    }
}

fn costs_out(bill: &Bill) -> BTreeMap<&'static str, String> {
    let cost = |(meter, cost): (&Meter, &MicroUnits)| (meter.word(), cost.0.to_string());
    bill.lines.iter().map(cost).collect()
}

/// A page of what a month costs each tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BillsOut {
    /// The month: `2026-11`.
    month: String,
    /// The tenants that have used something in it, by their numbers; few or none where many have not.
    bills: Vec<TenantBillOut>,
    /// What to give as `after` for the next page; null on the last. With CSV it is in the header
    /// `Tenantry-Next-After`.
    next: Option<u64>,
}

/// What the month costs one tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantBillOut {
    /// The tenant's number, which it keeps; 0 for what was too much at once to be told apart.
    id: u64,
    /// Its name; null if it was deleted, or its row cannot be read.
    name: Option<String>,
    /// The plan that it has now, by whose prices this is; null if it has none, or was deleted.
    plan: Option<String>,
    /// What was used.
    amounts: BTreeMap<&'static str, String>,
    /// What each meter that has a price costs, in millionths of a unit of the currency.
    cost_micros: BTreeMap<&'static str, String>,
    /// The sum of these; null if the tenant has no name here, since nobody knows its plan.
    total_micros: Option<String>,
}

impl TenantBillOut {
    fn new(TenantBill { used, bill }: &TenantBill) -> Self {
        Self {
            id: used.tenant.get(),
            name: used.name.as_ref().map(|name| name.as_str().to_owned()),
            plan: used.plan.as_ref().map(ToString::to_string),
            amounts: amounts_out(&used.amounts),
            cost_micros: bill.as_ref().map(costs_out).unwrap_or_default(),
            total_micros: bill.as_ref().map(|bill| bill.total.0.to_string()),
        }
    }
}

impl BillsOut {
    pub(crate) fn new(month: Month, bills: &[TenantBill], next: Option<TenantId>) -> Self {
        let next = next.map(TenantId::get);
        let bills = bills.iter().map(TenantBillOut::new).collect();
        Self { month: month.to_string(), bills, next }
    }
}

/// The same as CSV, with two columns for every meter: how much, and what it costs. Names are quoted,
/// and what has no price is empty.
pub(crate) fn bills_csv(month: Month, bills: &[TenantBill]) -> String {
    let mut text = "id,name,plan,month,total_micros".to_owned();
    for meter in Meter::ALL.map(Meter::word) {
        write!(text, ",{meter},{meter}_cost_micros").expect("a text takes everything");
    }
    for TenantBill { used, bill } in bills {
        let name = csv_text(used.name.as_ref().map_or("", |name| name.as_str()));
        let plan = csv_text(used.plan.as_ref().map_or("", |plan| plan.as_str()));
        let micros = |cost: Option<&MicroUnits>| cost.map(|cost| cost.0.to_string());
        let total = micros(bill.as_ref().map(|bill| &bill.total)).unwrap_or_default();
        let id = used.tenant.get();
        write!(text, "\r\n{id},{name},{plan},{month},{total}").expect("a text takes everything");
        for meter in Meter::ALL {
            let cost = micros(bill.as_ref().and_then(|bill| bill.lines.get(&meter)));
            let (amount, cost) = (used.amounts.get(meter), cost.unwrap_or_default());
            write!(text, ",{amount},{cost}").expect("a text takes everything");
        }
    }
    text.push_str("\r\n");
    text
}

/// Both sides of the ledger in a month.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BalanceOut {
    /// The month: `2026-11`.
    month: String,
    /// True if both say the same; false only if the ledger is damaged.
    is_balanced: bool,
    /// Accounts that have something.
    tenants: u64,
    /// What these have together.
    sum: BTreeMap<&'static str, String>,
    /// What was entered for all.
    all: BTreeMap<&'static str, String>,
}

impl BalanceOut {
    pub(crate) fn new(month: Month, balance: &UsageBalance) -> Self {
        let UsageBalance { tenants, sum, all } = balance;
        let (is_balanced, month) = (sum == all, month.to_string());
        let (sum, all) = (amounts_out(sum), amounts_out(all));
        Self { month, is_balanced, tenants: *tenants, sum, all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_engine::Amounts;

    #[test]
    fn a_tariff_is_written_as_it_was_read() {
        let prices = BTreeMap::from([("requests".to_owned(), u64::MAX), ("byte_ms".to_owned(), 1)]);
        let tariff = TariffIn { prices }.tariff().unwrap();
        let out = serde_json::to_value(TariffsOut::new(&[(Month(682), tariff)])).unwrap();
        let first = &out["tariffs"][0];
        assert_eq!(first["from"], "2026-11");
        assert_eq!(first["prices"], serde_json::json!({"requests": u64::MAX, "byte_ms": 1}));
        let prices = BTreeMap::from([("request".to_owned(), 1)]);
        let why = TariffIn { prices }.tariff().unwrap_err().to_string();
        assert!(why.contains("record_ms"), "{why}");
    }

    #[test]
    fn a_ledger_is_in_balance_or_not() {
        let one = Amounts::of(Meter::Requests, 1);
        let balance = UsageBalance { tenants: 1, sum: one, all: one };
        assert!(BalanceOut::new(Month(0), &balance).is_balanced);
        let balance = UsageBalance { all: Amounts::default(), ..balance };
        assert!(!BalanceOut::new(Month(0), &balance).is_balanced);
    }
}
