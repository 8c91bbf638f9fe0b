//! `tenantry plan`: what the operator offers under a name.

use super::{
    client::{Client, segment},
    output::{print, print_json, printable, table},
    said::{self, Place, PlanSaid, WORDS},
    tenant::{Common, text, with},
};
use anyhow::{Context, Result};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write as _;
use tenantry::Term;

const PLANS: &str = "/v1/admin/plans";

/// Plans to begin with. They are a proposal: whoever offers something else says something else.
const DEFAULTS: [(&str, &[&str]); 3] = [
    (
        "free",
        &[
            "databases=1",
            "collections=10",
            "records_per_collection=10000",
            "keys=5",
            "users=5",
            "vector_dimensions=2048",
            "isolations=shared",
            "requests_per_second=5/20",
            "requests_per_hour=3600",
            "messages_per_day=1000",
            "concurrent_requests=4",
            "weight=25",
        ],
    ),
    (
        "pro",
        &[
            "databases=20",
            "collections=500",
            "records_per_collection=1000000",
            "keys=100",
            "users=100",
            "vector_dimensions=4096",
            "isolations=shared,schema",
            "requests_per_second=100/300",
            "concurrent_requests=32",
            "weight=100",
        ],
    ),
    (
        "enterprise",
        &[
            "databases=1000",
            "collections=100000",
            "records_per_collection=100000000",
            "keys=1000",
            "users=10000",
            "vector_dimensions=16384",
            "isolations=any",
            "requests_per_second=1000/3000",
            "concurrent_requests=256",
            "weight=400",
        ],
    ),
];

#[derive(Debug, Args)]
#[command(after_help = "\
A plan says what every tenant has that is given it. What it says can be changed at any time, and
counts at once. A tenant without a plan has no rates and no quotas, and the limits that
it was given.

Examples:
  tenantry plan defaults
      Makes free, pro and enterprise, to begin with.
  tenantry plan put team databases=5 requests_per_second=50/200
  tenantry plan put team --change weight=200
  tenantry plan put team --change isolations=shared,schema locations=home,eu
      Where its tenants may live; see below.
  tenantry tenant create acme --plan team
  tenantry tenant update acme --plan pro
  tenantry limit set acme requests_per_second=500 --until 2026-12-31
      More for one tenant, for some time: see `tenantry limit --help`.")]
pub(super) struct PlanArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all plans
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show what one plan says
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Make a plan, or have it say something else from now on
    Put(PutArgs),
    /// Make the plans free, pro and enterprise; those that are there stay as they are
    Defaults {
        #[command(flatten)]
        common: Common,
    },
    /// Delete a plan that no tenant has
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

/// The same of what a plan says alone.
const PLACES: &str = "\
  isolations, locations
      Where its tenants may live, several with commas: shared, schema, database; home, own and names
      of locations. `any` is anywhere. Asked when a tenant comes to a place or to the plan.";

#[derive(Debug, Args)]
#[command(
    after_help = format!("{WORDS}\n{PLACES}"),
    group = ArgGroup::new("said").args(["limits", "on_shared_failure"]).multiple(true)
)]
struct PutArgs {
    /// Its name: 1 to 512 bytes of text
    name: String,
    /// What it says; of all else it says what a tenant has without a plan
    #[arg(value_name = "LIMIT=VALUE[/BURST]")]
    limits: Vec<PlanSaid>,
    /// Let the plan go on to say what is not said here
    #[arg(long, requires = "said")]
    change: bool,
    /// What a node does while it cannot ask what other nodes have admitted, if rates are shared:
    /// `local` goes on with its share of the rates, `refuse` answers 503 [default: local]
    #[arg(long, value_name = "RULE", value_parser = ["local", "refuse"])]
    on_shared_failure: Option<String>,
    #[command(flatten)]
    common: Common,
}

fn path(name: &str) -> String {
    format!("{PLANS}/{}", segment(name))
}

pub(super) fn run(args: PlanArgs) -> Result<()> {
    match args.command {
        Command::List { common } => with(common, list),
        Command::Show { name, common } => with(common, |client, json| {
            let plan = client.call("GET", &path(&name), None)?;
            show(&plan, json)
        }),
        Command::Put(PutArgs { name, limits, change, on_shared_failure, common }) => {
            with(common, |client, json| {
                let before = change.then(|| client.call("GET", &path(&name), None)).transpose()?;
                let mut said = body(before, limits);
                if let Some(rule) = on_shared_failure {
                    said["on_shared_failure"] = rule.into();
                }
                show(&client.call("PUT", &path(&name), Some(&said))?, json)
            })
        }
        Command::Defaults { common } => with(common, defaults),
        Command::Delete { name, common } => with(common, |client, json| {
            client.call("DELETE", &path(&name), None)?;
            if json {
                return print_json(&json!({ "deleted": name }));
            }
            print(&format!("deleted plan {}\n", printable(&name)))
        }),
    }
}

/// A plan with these limits, over what it has said before.
fn body(before: Option<Value>, limits: Vec<PlanSaid>) -> Value {
    let mut plan = before.unwrap_or_else(|| json!({}));
    if let Some(plan) = plan.as_object_mut() {
        plan.remove("name");
    }
    for limit in limits {
        limit.put(&mut plan);
    }
    plan
}

fn list(client: &Client, json: bool) -> Result<()> {
    let found = client.call("GET", PLANS, None)?;
    if json {
        return print_json(&found["plans"]);
    }
    let all = found["plans"].as_array().context("read the answer")?;
    let row = |plan: &Value| {
        let name = std::iter::once(text(plan, "name"));
        let terms = Term::ALL.map(|term| said::shown(plan, term));
        name.chain(terms).chain(Place::ALL.map(|one| one.shown(plan))).collect()
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let heading = [
        "NAME",
        "DATABASES",
        "COLLECTIONS",
        "RECORDS/COLLECTION",
        "KEYS",
        "USERS",
        "DIMENSIONS",
        "RECORDS",
        "BYTES",
        "/SECOND",
        "/MINUTE",
        "/HOUR",
        "/DAY",
        "/MONTH",
        "COST/MONTH",
        "MESSAGES/DAY",
        "TOKENS/DAY",
        "CONCURRENT",
        "WEIGHT",
        "ISOLATIONS",
        "LOCATIONS",
    ];
    print(&table(&heading, &rows))
}

fn show(plan: &Value, json: bool) -> Result<()> {
    if json {
        return print_json(plan);
    }
    let mut out = format!("{:<23} {}\n", "name", printable(&text(plan, "name")));
    for term in Term::ALL {
        let _ = writeln!(out, "{:<23} {}", term.word(), said::shown(plan, term));
    }
    for one in Place::ALL {
        let _ = writeln!(out, "{:<23} {}", one.word(), one.shown(plan));
    }
    let _ = writeln!(out, "{:<23} {}", "on_shared_failure", text(plan, "on_shared_failure"));
    print(&out)
}

fn defaults(client: &Client, json: bool) -> Result<()> {
    let (mut made, mut kept) = (Vec::new(), Vec::new());
    for (name, limits) in DEFAULTS {
        if client.find(&path(name))?.is_some() {
            kept.push(name);
            continue;
        }
        let limits = limits.iter().map(|limit| limit.parse().map_err(anyhow::Error::msg));
        let limits: Vec<PlanSaid> = limits.collect::<Result<_>>()?;
        client.call("PUT", &path(name), Some(&body(None, limits)))?;
        made.push(name);
    }
    if json {
        return print_json(&json!({ "made": made, "kept": kept }));
    }
    let mut out = String::new();
    for name in made {
        let _ = writeln!(out, "made plan {name}");
    }
    for name in kept {
        let _ = writeln!(out, "plan {name} is there, and stays as it is");
    }
    print(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_to_begin_with_can_be_said() {
        for (name, limits) in DEFAULTS {
            for limit in limits {
                limit.parse::<PlanSaid>().unwrap_or_else(|why| panic!("{name}: {why}"));
            }
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_say() {
        let before = json!({"name": "p", "limits": {"keys": 1, "databases": 2}, "weight": 3});
        let limits: Vec<PlanSaid> = vec!["keys=4".parse().unwrap()];
        let plan = body(Some(before), limits.clone());
        assert_eq!(plan, json!({"limits": {"keys": 4, "databases": 2}, "weight": 3}));
        assert_eq!(body(None, limits), json!({"limits": {"keys": 4}}));
    }
}
