//! What tenants have used, as JSON and as CSV.

use super::{described::Name, page::limited};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write as _};
use tenantry_engine::{
    Amounts, Every, Hour, Meter, Result, TenantId, TenantName, TenantUsed, Timestamp, UsagePage,
    Used, csv_text,
};
use utoipa::{IntoParams, ToSchema};

const LIMIT_MAX: usize = 10_000;
/// Of tenants, each of which is looked up.
pub(super) const ALL_LIMIT_MAX: usize = 1_000;

/// What sums are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EveryIn {
    /// Hours of UTC.
    Hour,
    /// Months of UTC.
    #[default]
    Month,
}

/// How usage is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UsageFormat {
    /// As JSON.
    #[default]
    Json,
    /// As CSV (RFC 4180), with a line of names first.
    Csv,
}

/// Which part of a tenant's usage.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageSearch {
    /// Sums over hours or months; months if absent.
    #[param(inline)]
    #[serde(default)]
    every: EveryIn,
    /// From the hour or month of this moment on, in milliseconds since 1970 UTC.
    #[serde(default)]
    from_ms: u64,
    /// After the entry with this number.
    after: Option<u32>,
    /// How many at most, 1 to 10,000; 100 if absent.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<usize>,
    /// JSON if absent.
    #[param(inline)]
    #[serde(default)]
    pub(crate) format: UsageFormat,
}

/// Which part of which tenant's usage.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantUsageSearch {
    /// The tenant's name; if absent, what all tenants together have used.
    #[param(value_type = Option<Name>)]
    tenant: Option<String>,
    /// Sums over hours or months; months if absent.
    #[param(inline)]
    #[serde(default)]
    every: EveryIn,
    /// From the hour or month of this moment on, in milliseconds since 1970 UTC.
    #[serde(default)]
    from_ms: u64,
    /// After the entry with this number.
    after: Option<u32>,
    /// How many at most, 1 to 10,000; 100 if absent.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<usize>,
    /// JSON if absent.
    #[param(inline)]
    #[serde(default)]
    format: UsageFormat,
}

impl UsageSearch {
    pub(crate) fn page(&self) -> Result<UsagePage> {
        let hour = Hour::of(Timestamp(self.from_ms));
        let (every, from) = match self.every {
            EveryIn::Hour => (Every::Hour, hour.0),
            EveryIn::Month => (Every::Month, hour.month().0),
        };
        let from = self.after.map_or(from, |after| from.max(after.saturating_add(1)));
        Ok(UsagePage { every, from, limit: limited(self.limit, 100, LIMIT_MAX)? })
    }
}

impl TenantUsageSearch {
    /// Whose, and what.
    pub(crate) fn split(self) -> Result<(Option<TenantName>, UsageSearch)> {
        let Self { tenant, every, from_ms, after, limit, format } = self;
        let tenant = tenant.map(TenantName::parse).transpose()?;
        Ok((tenant, UsageSearch { every, from_ms, after, limit, format }))
    }
}

/// Which hour or month of all tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllUsageSearch {
    /// An hour or a month; a month if absent.
    #[param(inline)]
    #[serde(default)]
    every: EveryIn,
    /// The hour or month of this moment, in milliseconds since 1970 UTC; the present one if absent.
    at_ms: Option<u64>,
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

impl AllUsageSearch {
    /// The hour or month, which is `from` of the page, and the tenant before it.
    pub(crate) fn page(&self, now: Timestamp) -> Result<(UsagePage, Option<TenantId>)> {
        let hour = Hour::of(self.at_ms.map_or(now, Timestamp));
        let (every, from) = match self.every {
            EveryIn::Hour => (Every::Hour, hour.0),
            EveryIn::Month => (Every::Month, hour.month().0),
        };
        let limit = limited(self.limit, 100, ALL_LIMIT_MAX)?;
        Ok((UsagePage { every, from, limit }, self.after.map(TenantId::new)))
    }
}

/// A page of a tenant's usage.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsagePageOut {
    /// The sums, the earliest first; hours and months without any are left out.
    entries: Vec<UsageOut>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<u32>,
}

/// What was used in one hour or month.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageOut {
    /// Hours or months since 1970.
    number: u32,
    /// When it began: `2026-11`, or `2026-11-29T14:00:00Z`.
    at: String,
    /// How much of each meter of which there is something. Decimal numbers as texts, since they may
    /// be larger than what many readers of JSON take.
    amounts: BTreeMap<&'static str, String>,
}

impl UsagePageOut {
    pub(crate) fn new(used: &[Used], page: UsagePage) -> Self {
        let next = used.last().filter(|_| used.len() >= page.limit).map(|last| last.at);
        let entry = |used: &Used| UsageOut {
            number: used.at,
            at: page.every.label(used.at),
            amounts: amounts_out(&used.amounts),
        };
        Self { entries: used.iter().map(entry).collect(), next }
    }
}

/// Amounts by the names of their meters.
pub(super) fn amounts_out(amounts: &Amounts) -> BTreeMap<&'static str, String> {
    amounts.iter().map(|(meter, amount)| (meter.word(), amount.to_string())).collect()
}

/// A page of what each tenant has used in one hour or month.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AllUsageOut {
    /// When the hour or month began: `2026-11`, or `2026-11-29T14:00:00Z`.
    at: String,
    /// The tenants that have used something, by their numbers; few or none where many have not.
    entries: Vec<TenantUsedOut>,
    /// What to give as `after` for the next page; null on the last. With CSV it is in the header
    /// `Tenantry-Next-After`.
    next: Option<u64>,
}

/// What one tenant has used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantUsedOut {
    /// The tenant's number, which it keeps; 0 for what was too much at once to be told apart.
    id: u64,
    /// Its name; null if it was deleted, or its row cannot be read.
    name: Option<String>,
    /// As in a page of one tenant's usage.
    amounts: BTreeMap<&'static str, String>,
}

impl AllUsageOut {
    pub(crate) fn new(used: Vec<TenantUsed>, page: UsagePage, next: Option<TenantId>) -> Self {
        let entry = |TenantUsed { tenant, name, plan: _, amounts }| TenantUsedOut {
            id: TenantId::get(tenant),
            name: name.map(|name: TenantName| name.as_str().to_owned()),
            amounts: amounts_out(&amounts),
        };
        let at = page.every.label(page.from);
        Self { at, entries: used.into_iter().map(entry).collect(), next: next.map(TenantId::get) }
    }
}

/// The same as CSV, with a column for every meter. Nothing in it needs quotes.
pub(crate) fn usage_csv(used: &[Used], page: UsagePage) -> String {
    let mut text = headed("number,at");
    for one in used {
        let (number, at) = (one.at.to_string(), page.every.label(one.at));
        line(&mut text, &[&number, &at], &one.amounts);
    }
    text
}

/// The same for all tenants. Names are quoted.
pub(crate) fn all_usage_csv(used: &[TenantUsed], page: UsagePage) -> String {
    let mut text = headed("id,name,at");
    let at = page.every.label(page.from);
    for one in used {
        let name = csv_text(one.name.as_ref().map_or("", |name| name.as_str()));
        line(&mut text, &[&one.tenant.get().to_string(), &name, &at], &one.amounts);
    }
    text
}

fn headed(first: &str) -> String {
    let words: Vec<&str> = Meter::ALL.iter().map(|meter| meter.word()).collect();
    format!("{first},{}\r\n", words.join(","))
}

fn line(text: &mut String, first: &[&str], amounts: &Amounts) {
    text.push_str(&first.join(","));
    for meter in Meter::ALL {
        write!(text, ",{}", amounts.get(meter)).expect("a text takes everything");
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(after: Option<u32>, limit: Option<usize>) -> UsageSearch {
        let (every, format) = (EveryIn::Month, UsageFormat::Json);
        UsageSearch { every, from_ms: 1_795_960_800_000, after, limit, format }
    }

    #[test]
    fn a_page_begins_where_it_is_said() {
        let page = |after, limit| search(after, limit).page();
        assert_eq!(page(None, None).unwrap().from, 682);
        assert_eq!(page(Some(3), None).unwrap().from, 682);
        assert_eq!(page(Some(700), None).unwrap().from, 701);
        assert!(page(None, Some(0)).is_err() && page(None, Some(10_001)).is_err());
    }

    #[test]
    fn usage_is_the_same_in_both_formats() {
        let page = search(None, Some(1)).page().unwrap();
        let mut amounts = Amounts::of(Meter::Requests, 5);
        amounts.add(Meter::ByteMillis, u128::MAX);
        let used = [Used { at: 682, amounts }];
        let json = serde_json::to_value(UsagePageOut::new(&used, page)).unwrap();
        assert_eq!(json["next"], 682);
        assert_eq!(json["entries"][0]["at"], "2026-11");
        assert_eq!(json["entries"][0]["amounts"]["byte_ms"], u128::MAX.to_string());
        let csv = usage_csv(&used, page);
        let end = format!("682,2026-11,5,0,0,0,0,0,0,{},0,0,0\r\n", u128::MAX);
        assert!(csv.starts_with("number,at,requests,") && csv.ends_with(&end), "{csv}");
    }
}
