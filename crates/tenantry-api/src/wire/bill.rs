//! Tariffs of plans, what a month costs, and whether the ledger is in balance.

use super::{described::Name, usage::amounts_out};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tenantry_engine::{Bill, Error, Meter, Month, Price, Result, Tariff, UsageBalance};
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
        let cost = |(meter, cost): (&Meter, &tenantry_engine::MicroUnits)| {
            (meter.word(), cost.0.to_string())
        };
        Self {
            month: month.to_string(),
            amounts: amounts_out(&bill.amounts),
            cost_micros: bill.lines.iter().map(cost).collect(),
            total_micros: bill.total.0.to_string(),
        }
    }
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
