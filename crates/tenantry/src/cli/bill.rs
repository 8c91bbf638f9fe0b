//! `tenantry bill` and `tenantry tariff`: what a month costs, and what plans cost.

use super::{
    bills,
    client::segment,
    output::{print, print_json, printable, table},
    tenant::{Common, text, with},
};
use anyhow::{Context, Error, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _, str::FromStr};
use tenantry::{Meter, Month};

/// Millionths in one.
const MICROS: u128 = 1_000_000;

fn month(text: &str) -> Result<Month, String> {
    Month::parse(text).ok_or_else(|| format!("{text:?} is no month; write one as 2026-11"))
}

#[derive(Debug, Args)]
#[command(after_help = "\
By the plan that the tenant has now, and in your currency: its sign is not known here. A bill grows
until its month is over.

Examples:
  tenantry bill acme 2026-11
  tenantry bill 2026-11
      With a key of the tenant.
  tenantry bill --all 2026-11
  tenantry bill --all 2026-11 --csv > bills.csv
      Each tenant that has used something in the month, with both for every meter.
  tenantry bill --check 2026-11
      Adds up all tenants' accounts, and compares them with what was entered for all.")]
pub(super) struct BillArgs {
    /// The tenant's name; by default the one whose key is given
    #[arg(required_unless_present_any = ["check", "all"])]
    tenant: Option<String>,
    /// A month of UTC: 2026-11
    #[arg(value_parser = month)]
    month: Option<Month>,
    /// Look whether both sides of the ledger of a month say the same
    #[arg(long, value_name = "MONTH", value_parser = month, conflicts_with = "tenant")]
    check: Option<Month>,
    /// What a month costs each tenant
    #[arg(long, value_name = "MONTH", value_parser = month, conflicts_with_all = ["tenant", "check"])]
    all: Option<Month>,
    /// With --all: write CSV, with how much and what it costs for every meter
    #[arg(long, requires = "all", conflicts_with_all = ["json", "tenant", "check"])]
    csv: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn bill(args: BillArgs) -> Result<()> {
    let BillArgs { tenant, month, check, all, csv, common } = args;
    if let Some(month) = check {
        return balance(month, common);
    }
    if let Some(month) = all {
        return bills::all(month, csv, common);
    }
    // One word alone is the month.
    let (tenant, month) = match (tenant, month) {
        (tenant, Some(month)) => (tenant, month),
        (alone, None) => (None, only_month(&alone.unwrap_or_default())?),
    };
    with(common, |client, json| {
        let within = tenant.as_deref().filter(|_| client.has_token());
        let path = match &tenant {
            Some(_) if client.has_token() => format!("/v1/bill?month={month}"),
            Some(name) => format!("/v1/admin/bill?tenant={}&month={month}", segment(name)),
            None if client.own_tenant()?.is_some() => format!("/v1/bill?month={month}"),
            None => bail!("say which tenant: bill NAME {month}"),
        };
        let bill = client.call_in(within, "GET", &path, None)?;
        if json { print_json(&bill) } else { print(&shown(&bill)) }
    })
}

/// A month without a tenant's name in front of it, which may be a name without a month.
fn only_month(text: &str) -> Result<Month> {
    let said = month(text).map_err(|why| {
        let name = printable(text);
        format!("{why}, behind the tenant's name if that is one: tenantry bill {name} 2026-11")
    });
    said.map_err(Error::msg)
}

fn balance(month: Month, common: Common) -> Result<()> {
    with(common, |client, json| {
        let path = format!("/v1/admin/usage/balance?month={month}");
        let balance = client.call("GET", &path, None)?;
        let is_balanced = balance["is_balanced"] == true;
        if json {
            print_json(&balance)?;
        } else {
            let tenants = text(&balance, "tenants");
            let says = if is_balanced { "both sides say the same" } else { "THE SIDES DIFFER" };
            print(&format!("{month}: {says}, {tenants} accounts\n"))?;
        }
        anyhow::ensure!(is_balanced, "the ledger of {month} is not in balance: see --json");
        Ok(())
    })
}

/// Money as people write it.
pub(super) fn money(micros: &str) -> String {
    match micros.parse::<u128>() {
        Ok(micros) => format!("{}.{:06}", micros / MICROS, micros % MICROS),
        Err(_) => micros.to_owned(),
    }
}

fn shown(bill: &Value) -> String {
    let has = |meter: &Meter| !bill["amounts"][meter.word()].is_null();
    let row = |meter: Meter| {
        let word = meter.word();
        let cost = text(&bill["cost_micros"], word);
        let cost = if cost.is_empty() { "no price".to_owned() } else { money(&cost) };
        vec![word.to_owned(), text(&bill["amounts"], word), cost]
    };
    let mut rows: Vec<Vec<String>> = Meter::ALL.into_iter().filter(has).map(row).collect();
    let total = money(&text(bill, "total_micros"));
    rows.push(vec!["total".to_owned(), String::new(), total]);
    table(&["METER", "AMOUNT", "COST"], &rows)
}

#[derive(Debug, Args)]
#[command(after_help = "\
Prices are whole numbers: millionths of a unit of your currency for 1,000,000,000 of a meter. So
`requests=500000` asks 0.50 for a thousand million requests, and `requests=500000000` asks 0.50 for
a million. A tariff counts from a month on that has not begun, and is never changed, only followed;
the first one of a plan may count from any month.

Examples:
  tenantry tariff put pro 2026-12 requests=500000000 vectors_scanned=20000 record_ms=3
  tenantry tariff list pro")]
pub(super) struct TariffArgs {
    #[command(subcommand)]
    command: TariffCommand,
}

#[derive(Debug, Subcommand)]
enum TariffCommand {
    /// Say what a plan costs from a month on
    Put {
        /// The plan's name
        plan: String,
        /// The first month that it counts for: 2026-12
        #[arg(value_parser = month)]
        from: Month,
        /// Prices; a meter without one costs nothing
        #[arg(value_name = "METER=PRICE", required = true)]
        prices: Vec<Priced>,
        #[command(flatten)]
        common: Common,
    },
    /// List what a plan costs, and from when on
    List {
        /// The plan's name
        plan: String,
        #[command(flatten)]
        common: Common,
    },
}

/// A price as people type it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Priced(Meter, u64);

impl FromStr for Priced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, price) = text.split_once('=').ok_or("write METER=PRICE")?;
        let meter = Meter::parse(word).ok_or_else(|| {
            let all = Meter::ALL.map(Meter::word).join(", ");
            format!("{word:?} is no meter; these are: {all}")
        })?;
        let price = price.replace('_', "").parse().map_err(|_| {
            format!("{price:?} is no price: a whole number of millionths, for 1,000,000,000")
        })?;
        Ok(Self(meter, price))
    }
}

pub(super) fn tariff(args: TariffArgs) -> Result<()> {
    match args.command {
        TariffCommand::Put { plan, from, prices, common } => with(common, |client, json| {
            let mut all = BTreeMap::new();
            for Priced(meter, price) in &prices {
                let before = all.insert(meter.word(), *price);
                anyhow::ensure!(before.is_none(), "{} is said twice", meter.word());
            }
            let path = format!("/v1/admin/plans/{}/tariffs/{from}", segment(&plan));
            let made = client.call("PUT", &path, Some(&json!({ "prices": all })))?;
            if json {
                return print_json(&made);
            }
            print(&format!("from {from} on, plan {} costs:\n{}", printable(&plan), lines(&made)))
        }),
        TariffCommand::List { plan, common } => with(common, |client, json| {
            let path = format!("/v1/admin/plans/{}/tariffs", segment(&plan));
            let found = client.call("GET", &path, None)?;
            if json {
                return print_json(&found["tariffs"]);
            }
            let all = found["tariffs"].as_array().context("read the answer")?;
            let mut out = String::new();
            for one in all {
                let _ = write!(out, "from {}\n{}", text(one, "from"), lines(one));
            }
            if all.is_empty() {
                out.push_str("nothing: this plan has no tariff\n");
            }
            print(&out)
        }),
    }
}

fn lines(tariff: &Value) -> String {
    let mut out = String::new();
    for meter in Meter::ALL {
        let price = text(&tariff["prices"], meter.word());
        if !price.is_empty() {
            let _ = writeln!(out, "  {:<16} {price} millionths for 10^9", meter.word());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_with_its_millionths() {
        for (micros, shown) in [("0", "0.000000"), ("1", "0.000001"), ("12345678", "12.345678")] {
            assert_eq!(money(micros), shown);
        }
    }

    #[test]
    fn whoever_says_no_month_is_told_where_it_stands() {
        assert_eq!(only_month("2026-11").ok(), Month::parse("2026-11"));
        let why = only_month("acme").unwrap_err().to_string();
        assert!(why.contains("no month") && why.ends_with("bill acme 2026-11"), "{why}");
    }

    #[test]
    fn a_bill_is_shown_by_meter() {
        let bill = json!({
            "amounts": { "requests": "5", "cpu_us": "7" }, "cost_micros": { "requests": "2" },
            "total_micros": "2",
        });
        let shown = shown(&bill);
        assert!(shown.contains("no price") && shown.contains("0.000002"), "{shown}");
        assert!(!shown.contains("tokens"), "{shown}");
    }

    #[test]
    fn a_price_is_a_meter_and_a_number() {
        assert_eq!("requests=1_000".parse(), Ok(Priced(Meter::Requests, 1_000)));
        for wrong in ["requests", "request=1", "requests=-1", "requests=1.5", "=1"] {
            assert!(wrong.parse::<Priced>().is_err(), "{wrong}");
        }
    }
}
