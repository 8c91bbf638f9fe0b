//! `tenantry tenant policy`: what a placement policy would do.

use super::{
    client::Client,
    output::{print, print_json, printable, table},
    tenant::{Common, listed, path, text, with},
};
use crate::config::read_policy;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use tenantry::{
    Clock as _, Isolation, Location, SystemClock, TenantSizes, Timestamp,
    placement::{Case, Decision, Policy, SETTING},
};

#[derive(Debug, Args)]
#[command(after_long_help = "\
Rules are read as `tenantry serve --placement-policy FILE` reads them, and every tenant is looked at
that one of them is about: its log says so. Tenants that a rule would move are listed with the
reason; a server moves them one after the other, so many a day at most.

Examples:
  tenantry tenant policy placement.toml --server http://127.0.0.1:7700 --key tnt_…
  tenantry tenant policy placement.toml --check")]
pub(super) struct PolicyArgs {
    /// The policy
    file: PathBuf,
    /// Only see whether the file is right; no server is asked
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: PolicyArgs) -> Result<()> {
    let policy = read_policy(&args.file)?;
    if args.check {
        let rules = policy.rules().len();
        if args.common.json {
            return print_json(&json!({ "rules": rules }));
        }
        let words = if rules == 1 { "rule fits" } else { "rules fit together" };
        return print(&format!("{rules} {words}\n"));
    }
    with(args.common, |client, json| {
        let now = SystemClock.now();
        let mut moves = Vec::new();
        for tenant in listed(client)? {
            if let Some(decision) = decide(client, &policy, &tenant, now)? {
                moves.push((tenant, decision));
            }
        }
        if json {
            return print_json(&moves.iter().map(shown).collect());
        }
        if moves.is_empty() {
            return print("every tenant stays where it is\n");
        }
        let row = |one: &(Value, Decision)| {
            let shown = shown(one);
            let place = |key: &str| {
                let place = &shown[key];
                format!("{} at {}", text(place, "isolation"), text(place, "location"))
            };
            vec![
                printable(&text(&shown, "tenant")),
                place("from"),
                place("to"),
                text(&shown, "why"),
            ]
        };
        let rows: Vec<_> = moves.iter().map(row).collect();
        print(&table(&["TENANT", "FROM", "TO", "WHY"], &rows))
    })
}

fn shown((tenant, decision): &(Value, Decision)) -> Value {
    let to = decision.to;
    let location = to.location.map_or_else(|| text(tenant, "location"), |to| to.to_string());
    let isolation = to.isolation.map_or_else(|| text(tenant, "isolation"), |to| to.word().into());
    json!({
        "tenant": tenant["name"],
        "from": { "isolation": tenant["isolation"], "location": tenant["location"] },
        "to": { "isolation": isolation, "location": location },
        "why": decision.why,
    })
}

/// What the policy says of a tenant; one that no rule is about is not looked at.
fn decide(
    client: &Client,
    policy: &Policy,
    tenant: &Value,
    now: Timestamp,
) -> Result<Option<Decision>> {
    let (key, value) = SETTING;
    let path = path(&text(tenant, "name"));
    let mut case = Case {
        isolation: Isolation::parse(&text(tenant, "isolation")).context("read the answer")?,
        location: Location::parse(&text(tenant, "location")).context("read the answer")?,
        is_fixed: tenant["settings"][key] == value,
        since: time(tenant, "created_at_ms"),
    };
    if !policy.is_open(&case, now) {
        return Ok(None);
    }
    if let Some(last) = client.find(&format!("{path}/move"))? {
        if last["over"] != true {
            return Ok(None);
        }
        case.since = case.since.max(time(&last, "ended_at_ms"));
    }
    if !policy.is_open(&case, now) {
        return Ok(None);
    }
    let advice = client.call("GET", &format!("{path}/advice?tenants=1"), None)?;
    let number = |key: &str| advice["numbers"][key].as_u64().context("read the answer");
    let sizes = TenantSizes {
        records: number("records")?,
        vector_bytes: number("vector_bytes")?,
        ..TenantSizes::default()
    };
    Ok(policy.decide(&case, &sizes, now))
}

fn time(of: &Value, key: &str) -> Timestamp {
    Timestamp(of[key].as_u64().unwrap_or(0))
}
