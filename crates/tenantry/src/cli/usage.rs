//! `tenantry usage`: what tenants have used.

use super::{
    client::{Client, segment},
    output::{print, print_json, table},
    report::{self, ReportArgs},
    tenant::{Common, text, with},
    when::Moment,
};
use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use std::fmt::Write as _;
use tenantry::{Meter, csv_text};

/// Entries that are asked for at once.
const PAGE: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Every {
    Hour,
    Month,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Hours and months are those of UTC. What was answered more than a second ago is counted; in sums of
several tenants, what was written more than a minute ago.

Examples:
  tenantry usage
      All tenants together, by month; for a key of a tenant what this one has used.
  tenantry usage --tenants --every hour --from 2026-11-29T14:00:00Z
      Each tenant in one hour; in this month without --every and --from.
  tenantry usage acme
  tenantry usage acme --every hour --from 2026-11-01
  tenantry usage acme --every hour --from 2026-11-01 --csv > acme.csv
  tenantry usage report acme messages=1 tokens=812 --id order-17
      What an application has counted itself. A tenant called `report` is shown by `usage -- report`."
)]
pub(super) struct UsageArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    shown: ShowArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report what an application has counted itself: messages, tokens, money
    Report(ReportArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The tenant's name; without one the tenant whose key is given, and all together for an operator
    tenant: Option<String>,
    /// Each tenant in one hour or month: that of --from, or the present one
    #[arg(long, conflicts_with = "tenant")]
    tenants: bool,
    /// Sums over hours or months
    #[arg(long, value_enum, default_value = "month")]
    every: Every,
    /// From when on, as RFC 3339 says: 2026-11-01; a day is its beginning in UTC
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Write CSV with a column for every meter
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: UsageArgs) -> Result<()> {
    if let Some(Command::Report(args)) = args.command {
        return report::run(args);
    }
    let ShowArgs { tenant, tenants, every, from, csv, common } = args.shown;
    with(common, |client, json| {
        let (path, first) = if tenants {
            let at = from.map(|moment| format!("&at_ms={}", moment.0)).unwrap_or_default();
            (format!("/v1/admin/usage/tenants?every={}{at}", every.word()), &BY_TENANT[..])
        } else {
            let part = format!("every={}&from_ms={}", every.word(), from.map_or(0, |from| from.0));
            let path = match &tenant {
                // A token is sent with the tenant's name, as wherever it acts in one.
                Some(_) if client.has_token() => format!("/v1/usage?{part}"),
                Some(name) => format!("/v1/admin/usage?{part}&tenant={}", segment(name)),
                None if !client.has_token() && client.is_operators()? => {
                    format!("/v1/admin/usage?{part}")
                }
                None => format!("/v1/usage?{part}"),
            };
            (path, &BY_TIME[..])
        };
        let within = tenant.as_deref().filter(|_| client.has_token());
        let entries = entries(client, within, &path)?;
        if json {
            return print_json(&Value::Array(entries));
        }
        if csv { print(&to_csv(first, &entries)) } else { print(&to_table(first, &entries)) }
    })
}

/// What an entry is of: the columns before the amounts.
const BY_TIME: [&str; 2] = ["number", "at"];
const BY_TENANT: [&str; 2] = ["id", "name"];

impl Every {
    const fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Month => "month",
        }
    }
}

fn entries(client: &Client, tenant: Option<&str>, path: &str) -> Result<Vec<Value>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{path}&limit={PAGE}{after}");
        let mut page = client.call_in(tenant, "GET", &path, None)?;
        let entries = page["entries"].as_array_mut().context("read the answer")?;
        all.append(entries);
        let Some(next) = page["next"].as_u64() else { return Ok(all) };
        after = format!("&after={next}");
    }
}

/// How much of a meter an entry has.
fn amount(entry: &Value, meter: Meter) -> String {
    let amount = text(&entry["amounts"], meter.word());
    if amount.is_empty() { "0".to_owned() } else { amount }
}

/// With the meters of which there is something.
fn to_table(first: &[&str], entries: &[Value]) -> String {
    let is_used = |meter: &Meter| entries.iter().any(|entry| amount(entry, *meter) != "0");
    let meters: Vec<Meter> = Meter::ALL.into_iter().filter(is_used).collect();
    // Numbers of hours and months are for programs.
    let first: Vec<&str> = first.iter().copied().filter(|word| *word != "number").collect();
    let words = first.iter().copied().chain(meters.iter().map(|meter| meter.word()));
    let names: Vec<String> = words.map(str::to_uppercase).collect();
    let heading: Vec<&str> = names.iter().map(String::as_str).collect();
    let row = |entry: &Value| {
        let said = first.iter().map(|word| text(entry, word));
        said.chain(meters.iter().map(|meter| amount(entry, *meter))).collect()
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    table(&heading, &rows)
}

/// A line for each entry, with all meters; texts are quoted.
fn to_csv(first: &[&str], entries: &[Value]) -> String {
    let names: Vec<&str> = Meter::ALL.iter().map(|meter| meter.word()).collect();
    let mut out = format!("{},{}\r\n", first.join(","), names.join(","));
    for entry in entries {
        let said = first.iter().map(|word| match &entry[word] {
            Value::String(text) if *word == "name" => csv_text(text),
            _ => text(entry, word),
        });
        let amounts = Meter::ALL.iter().map(|meter| amount(entry, *meter));
        let line: Vec<String> = said.chain(amounts).collect();
        let _ = write!(out, "{}\r\n", line.join(","));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usage_is_shown_as_a_table_and_as_csv() {
        let entry = json!({ "number": 682, "at": "2026-11", "amounts": { "requests": "5" } });
        let shown = to_table(&BY_TIME, std::slice::from_ref(&entry));
        assert!(shown.contains("REQUESTS") && !shown.contains("TOKENS"), "{shown}");
        let csv = to_csv(&BY_TIME, &[entry]);
        assert!(csv.ends_with("\r\n682,2026-11,5,0,0,0,0,0,0,0,0,0,0\r\n"), "{csv}");
    }
    #[test]
    fn a_tenants_name_is_quoted() {
        let entry = json!({ "id": 7, "name": "a \"b\", c", "amounts": { "requests": "5" } });
        let csv = to_csv(&BY_TENANT, &[entry]);
        assert!(csv.ends_with("\r\n7,\"a \"\"b\"\", c\",5,0,0,0,0,0,0,0,0,0,0\r\n"), "{csv}");
    }
}
