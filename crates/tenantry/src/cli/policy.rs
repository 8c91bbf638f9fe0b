//! `tenantry tenant policy`: what a placement policy would do.

use super::{
    client::Client,
    output::{print, print_json, printable, table},
    tenant::{Common, text, with},
};
use crate::config::read_policy;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use tenantry::placement::{Policy, Rule};

/// Tenants of one page.
const PAGE: usize = 100;

#[derive(Debug, Args)]
#[command(after_long_help = "\
Rules are read as `tenantry serve --placement-policy FILE` reads them; without a file it is the policy
that the server follows. The server decides as if it followed them, and every tenant is measured that
one of them is about: its log says so. Tenants that a rule would move are listed with the reason, and
those that it would move and the server cannot; a server moves them one after the other, so many a day
at most.

Examples:
  tenantry tenant policy placement.toml --server http://127.0.0.1:7700 --key tnt_…
  tenantry tenant policy --all
  tenantry tenant policy placement.toml --check")]
pub(super) struct PolicyArgs {
    /// The policy; the one that the server follows if not given
    file: Option<PathBuf>,
    /// Only see whether the file is right; no server is asked
    #[arg(long, requires = "file", conflicts_with = "all")]
    check: bool,
    /// Say of the other tenants too why they stay
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: PolicyArgs) -> Result<()> {
    let policy = args.file.as_deref().map(read_policy).transpose()?;
    if args.check {
        let Some(policy) = policy else { bail!("say which file") };
        let rules = policy.rules().len();
        if args.common.json {
            return print_json(&json!({ "rules": rules }));
        }
        let words = if rules == 1 { "rule fits" } else { "rules fit together" };
        return print(&format!("{rules} {words}\n"));
    }
    with(args.common, |client, json| {
        let mut found = planned(client, policy.as_ref())?;
        if !args.all {
            found.retain(|one| one["verdict"] != "stay");
        }
        if json {
            return print_json(&Value::Array(found));
        }
        if found.is_empty() {
            return print("every tenant stays where it is\n");
        }
        let rows: Vec<_> = found.iter().map(row).collect();
        print(&table(&["TENANT", "FROM", "TO", "WHY"], &rows))
    })
}

/// What would be done with each tenant.
fn planned(client: &Client, policy: Option<&Policy>) -> Result<Vec<Value>> {
    let mut body = json!({ "limit": PAGE });
    if let Some(policy) = policy {
        let stay = u64::try_from(policy.timing().stay.as_millis()).unwrap_or(u64::MAX);
        body["stay_ms"] = stay.into();
        body["rules"] = policy.rules().iter().map(spelled).collect();
    }
    let mut all = Vec::new();
    loop {
        let mut page = client.call("POST", "/v1/admin/placement/plan", Some(&body))?;
        all.append(page["tenants"].as_array_mut().context("read the answer")?);
        match page["next"].take() {
            Value::Null => return Ok(all),
            next => body["after"] = next,
        }
    }
}

/// A rule as the server reads it.
fn spelled(rule: &Rule) -> Value {
    json!({
        "from": rule.from.word(),
        "from_location": rule.from_location.map(|location| location.to_string()),
        "to": rule.to.word(),
        "to_location": rule.to_location.map(|location| location.to_string()),
        "records_over": rule.records_over,
        "records_under": rule.records_under,
        "bytes_over": rule.bytes_over,
        "bytes_under": rule.bytes_under,
    })
}

fn row(one: &Value) -> Vec<String> {
    let place = |key: &str| {
        let place = &one[key];
        format!("{} at {}", text(place, "isolation"), text(place, "location"))
    };
    let to = if one["to"].is_null() { "stays".to_owned() } else { place("to") };
    let why = printable(&text(one, "why"));
    let why = if one["verdict"] == "blocked" { format!("blocked: {why}") } else { why };
    vec![printable(&text(one, "tenant")), place("from"), to, why]
}
