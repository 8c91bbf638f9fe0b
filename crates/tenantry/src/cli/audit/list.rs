//! The newest entries of a log, for people.

use super::PAGE;
use crate::cli::{
    client::Client,
    output::{print, print_json, table, utc},
    tenant::{Common, text, with},
    when::Moment,
};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;
use std::mem;

/// How near the end of a log is looked for before the rest is read.
const NEAR: u64 = 1_000;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The tenant's name; without one the tenant whose key is given, and the operator's own log for
    /// an operator
    name: Option<String>,
    /// The same as the name, as most commands call it
    #[arg(long, value_name = "NAME", hide = true, conflicts_with_all = ["name", "operator"])]
    tenant: Option<String>,
    /// The operator's own log, also where the server would take a tenant for what is meant
    #[arg(long, conflicts_with = "name")]
    operator: bool,
    /// How many entries at most; the newest of those that are asked for
    #[arg(long, value_name = "COUNT", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// From when on, as RFC 3339 says: 2026-11-01; a day is its beginning in UTC
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Until when; what was at that moment is not shown
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: ListArgs) -> Result<()> {
    let ListArgs { name, tenant, operator, limit, since, until, common } = args;
    with(common, |client, json| {
        let tenant = match name.or(tenant) {
            Some(name) => Some(name),
            None if operator => None,
            None => client.own_tenant()?,
        };
        let path = if tenant.is_some() { "/v1/audit" } else { "/v1/admin/audit" };
        let log = Log { client, tenant, path };
        let entries = log.newest(limit, since, until)?;
        if json {
            return print_json(&Value::Array(entries));
        }
        let heading = ["AT", "ACTOR", "ACTION", "TARGET", "COUNT", "OUTCOME", "REASON"];
        print(&table(&heading, &entries.iter().map(row).collect::<Vec<_>>()))
    })
}

fn row(entry: &Value) -> Vec<String> {
    let reason = Some(text(entry, "reason")).filter(|reason| reason != "none");
    let words = ["actor", "action", "target", "count", "outcome"].map(|word| text(entry, word));
    let at = std::iter::once(utc(&entry["at_ms"]));
    at.chain(words).chain([reason.unwrap_or_default()]).collect()
}

/// A log of a tenant, or the operator's.
struct Log<'a> {
    client: &'a Client,
    tenant: Option<String>,
    path: &'static str,
}

impl Log<'_> {
    fn page(&self, after: u64, limit: u64) -> Result<Vec<Value>> {
        let path = format!("{}?after={after}&limit={limit}", self.path);
        let mut page = self.client.call_in(self.tenant.as_deref(), "GET", &path, None)?;
        let entries = page.get_mut("entries").and_then(Value::as_array_mut);
        Ok(mem::take(entries.context("read the answer")?))
    }

    fn first_after(&self, number: u64) -> Result<Option<u64>> {
        self.page(number, 1)?.first().map(sequence).transpose()
    }

    /// The number of the last entry; 0 if there is none. A log is read forwards, and a long one
    /// shall not be read whole for its end.
    fn last(&self) -> Result<u64> {
        let (mut low, mut high) = (0, NEAR);
        while let Some(next) = self.first_after(high)? {
            low = next;
            high = high.checked_mul(2).context("the server's log does not end")?;
        }
        // Entries that come meanwhile may be behind `high`.
        while high.saturating_sub(low) > NEAR {
            let middle = low + (high - low) / 2;
            match self.first_after(middle)? {
                Some(next) => low = next,
                None => high = middle,
            }
        }
        let rest = self.page(low, NEAR)?;
        rest.last().map_or(Ok(low), sequence)
    }

    /// The newest entries of this time, oldest first.
    fn newest(
        &self,
        limit: u64,
        since: Option<Moment>,
        until: Option<Moment>,
    ) -> Result<Vec<Value>> {
        let size = if since.or(until).is_some() { PAGE } else { limit.min(PAGE) };
        let (since, until) = (since.map_or(0, |at| at.0), until.map_or(u64::MAX, |at| at.0));
        let mut found = Vec::new();
        let mut end = self.last()?;
        while end > 0 {
            let start = end.saturating_sub(size);
            let mut is_before = true;
            for entry in self.page(start, end - start)?.into_iter().rev() {
                let at = entry["at_ms"].as_u64().context("read an entry")?;
                is_before &= at < since;
                // Where entries are missing, the page has some that were on the one behind it.
                if sequence(&entry)? <= end && (since..until).contains(&at) {
                    found.push(entry);
                }
                if found.len() as u64 == limit {
                    break;
                }
            }
            if is_before || found.len() as u64 == limit {
                break;
            }
            end = start;
        }
        found.reverse();
        Ok(found)
    }
}

fn sequence(entry: &Value) -> Result<u64> {
    entry["sequence"].as_u64().context("read an entry")
}
