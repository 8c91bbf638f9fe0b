//! `tenantry limit show`: what a tenant may have, and how much of it is used.

use super::{
    client::{Client, Refusal, segment},
    limit,
    output::{print, print_json, table},
    said,
    tenant::{path, text},
};
use anyhow::{Result, bail};
use serde_json::{Map, Value, json};
use tenantry::{Clock as _, Hour, Meter, SystemClock, Term};

/// Shows the tenant with this name, or the one whose key or token asks.
pub(super) fn show(client: &Client, tenant: Option<&str>, json: bool) -> Result<()> {
    match tenant.filter(|_| !client.has_token()) {
        Some(name) => show_tenant(client, name, json),
        None => show_own(client, tenant, json),
    }
}

/// As the operator sees it.
fn show_tenant(client: &Client, name: &str, json: bool) -> Result<()> {
    let mut tenant = client.call("GET", &format!("{}?counts=true", path(name)), None)?;
    let ledger = Ledger::read(|what| {
        client.call("GET", &format!("/v1/admin/{what}&tenant={}", segment(name)), None)
    })?;
    tenant["used"] = all_used(&tenant, &ledger);
    if json {
        return print_json(&parts(&tenant, &["name", "plan", "exceptions", "effective", "used"]));
    }
    let row = |term: Term| {
        let (value, used) = (said::shown(&tenant["effective"], term), shown(&tenant, term));
        vec![term.word().to_owned(), value, used, limit::source(&tenant, term)]
    };
    let rows: Vec<_> = Term::ALL.into_iter().map(row).collect();
    print(&table(&["LIMIT", "VALUE", "USED", "FROM"], &rows))
}

/// As it sees itself: where its limits come from is the operator's to know.
fn show_own(client: &Client, name: Option<&str>, json: bool) -> Result<()> {
    if name.is_none() && client.own_tenant()?.is_none() {
        bail!("say which tenant: limit show NAME");
    }
    let mut tenant = client.call_in(name, "GET", "/v1/tenant", None)?;
    // Whoever may not read the ledger is not asked for it: its log would have a refusal.
    let is_admin = tenant["counts"]["users"].is_u64();
    let ledger = if is_admin {
        Ledger::read(|what| client.call_in(name, "GET", &format!("/v1/{what}"), None))?
    } else {
        Ledger::default()
    };
    tenant["used"] = all_used(&tenant, &ledger);
    if json {
        return print_json(&parts(&tenant, &["name", "limits", "rates", "quotas", "used"]));
    }
    let is_told = |term: &Term| match term {
        Term::Weight => false,
        Term::Cost => is_admin,
        _ => true,
    };
    let row =
        |term: Term| vec![term.word().to_owned(), said::shown(&tenant, term), shown(&tenant, term)];
    let rows: Vec<_> = Term::ALL.into_iter().filter(is_told).map(row).collect();
    print(&table(&["LIMIT", "VALUE", "USED"], &rows))
}

/// These parts of a tenant's document.
pub(super) fn parts(tenant: &Value, keys: &[&str]) -> Value {
    let part = |key: &&str| ((*key).to_owned(), tenant[*key].clone());
    Value::Object(keys.iter().map(part).collect())
}

/// What is shown of what is used; empty where that is not known, or nothing is counted.
fn shown(tenant: &Value, term: Term) -> String {
    text(&tenant["used"], term.word())
}

/// Everything that is counted, by the word of its limit; null where nobody knows it now.
fn all_used(tenant: &Value, ledger: &Ledger) -> Value {
    let mut all = Map::new();
    for term in Term::ALL {
        if let Some(used) = used(tenant, ledger, term) {
            all.insert(term.word().to_owned(), used);
        }
    }
    Value::Object(all)
}

/// How much is used of a limit; none if it has nothing that is used up.
fn used(tenant: &Value, ledger: &Ledger, term: Term) -> Option<Value> {
    Some(match term {
        Term::Databases | Term::Collections | Term::Keys | Term::Users => {
            tenant["counts"][term.word()].clone()
        }
        Term::Records => tenant["kept_records"].clone(),
        Term::Bytes => tenant["kept_bytes"].clone(),
        Term::Day => json!(sum(&ledger.day, Meter::Requests)),
        Term::MessagesPerDay => json!(sum(&ledger.day, Meter::Messages)),
        Term::TokensPerDay => json!(sum(&ledger.day, Meter::Tokens)),
        Term::Month => json!(sum(&ledger.month, Meter::Requests)),
        Term::Cost => json!(text(&ledger.bill, "total_micros").parse::<u64>().ok()),
        Term::RecordsPerCollection
        | Term::VectorDimensions
        | Term::Requests(_)
        | Term::Concurrent
        | Term::Weight => return None,
    })
}

/// What the ledger says of a tenant now; null what it cannot say.
#[derive(Debug, Default)]
struct Ledger {
    /// The hours of this day.
    day: Value,
    /// This month.
    month: Value,
    /// What the month costs so far.
    bill: Value,
}

impl Ledger {
    /// Asks for a path behind the version with its search.
    fn read(ask: impl Fn(&str) -> Result<Value>) -> Result<Self> {
        let now = SystemClock.now();
        let hour = Hour::of(now);
        let (midnight, month) = (hour.day().first().start(), hour.month());
        let known = |what: String| match ask(&what) {
            // As while the tenant's database does not answer.
            Err(why) if why.downcast_ref().is_some_and(|no: &Refusal| no.status == 503) => {
                Ok(Value::Null)
            }
            answer => answer,
        };
        Ok(Self {
            day: known(format!("usage?every=hour&from_ms={}&limit=24", midnight.0))?,
            month: known(format!("usage?every=month&from_ms={}&limit=1", now.0))?,
            bill: known(format!("bill?month={month}"))?,
        })
    }
}

/// How much of a meter a page has; none if there is no page.
fn sum(page: &Value, meter: Meter) -> Option<u64> {
    let amount = |entry: &Value| text(&entry["amounts"], meter.word()).parse::<u64>().unwrap_or(0);
    let all = page["entries"].as_array()?.iter().map(amount);
    Some(all.fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stands_beside_its_limit_or_is_not_known() {
        let tenant = json!({ "counts": { "databases": 2, "keys": null }, "kept_bytes": 7 });
        let hour = |requests: &str| json!({ "amounts": { "requests": requests } });
        let day = json!({ "entries": [hour("5"), hour("6"), { "amounts": { "tokens": "9" } }] });
        let bill = json!({ "total_micros": "1500000" });
        let ledger = Ledger { day, month: Value::Null, bill };
        let used = all_used(&tenant, &ledger);
        assert_eq!(
            used,
            json!({
                "databases": 2, "collections": null, "keys": null, "users": null,
                "records": null, "bytes": 7, "requests_per_day": 11, "requests_per_month": null,
                "cost_per_month": 1_500_000, "messages_per_day": 0, "tokens_per_day": 9,
            })
        );
    }
}
