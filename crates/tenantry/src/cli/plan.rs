//! `tenantry plan`: what the operator offers under a name.

use super::{
    client::{Client, segment},
    output::{print, print_json, printable, table},
    said::{self, Place, PlanSaid, WORDS},
    tenant::{Common, PAGE, confirm, text, with},
};
use anyhow::{Context, Result};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write as _;
use tenantry::{SharedFailure, Term};

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
counts at once: of a plan that tenants have, the terms that change are shown before, and its name is
asked for. A tenant without a plan has no rates and no quotas, and the limits that it was given.

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
    /// Change a plan that tenants have without asking for its name on the terminal; needed where
    /// there is no terminal
    #[arg(long)]
    yes: bool,
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
        Command::Put(args) => put(args),
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

fn put(args: PutArgs) -> Result<()> {
    let PutArgs { name, limits, change, on_shared_failure, yes, common } = args;
    with(common, |client, json| {
        let before = match (change, yes) {
            (true, _) => Some(client.call("GET", &path(&name), None)?),
            (false, true) => None,
            (false, false) => client.find(&path(&name))?,
        };
        let plan = |before: Option<Value>| {
            let mut plan = body(before, limits.clone());
            if let Some(rule) = &on_shared_failure {
                plan["on_shared_failure"] = rule.as_str().into();
            }
            plan
        };
        let said = plan(before.clone().filter(|_| change));
        if let Some(before) = before.filter(|_| !yes) {
            let changed = changes(&before, &said);
            let is_more_than_said = changed != changes(&before, &plan(Some(before.clone())));
            ask(client, &name, &changed, is_more_than_said)?;
        }
        show(&client.call("PUT", &path(&name), Some(&said))?, json)
    })
}

/// What somebody may not have meant who says one term of several.
const KEEPS: &str = "what is not said goes back to what a tenant has without a plan, unless --change \
    keeps it";

/// Asks whether a plan is meant to change so, if tenants have it.
fn ask(client: &Client, name: &str, changes: &[String], is_more_than_said: bool) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let Some(whose) = who_has(client, name)? else { return Ok(()) };
    let shown = printable(name);
    eprintln!("plan {shown}, {whose}:\n  {}", changes.join("\n  "));
    let mut why =
        format!("tenants have the plan {shown}, and what it says counts for them at once");
    if is_more_than_said {
        eprintln!("{KEEPS}");
        why = format!("{why}; {KEEPS}");
    }
    confirm(&why, &format!("This changes plan {shown} for its tenants"), "name", name, false)
}

/// Whose plan it is, as far as one request tells; none if it is nobody's.
fn who_has(client: &Client, name: &str) -> Result<Option<String>> {
    let page = client.call("GET", &format!("/v1/admin/tenants?limit={PAGE}"), None)?;
    let all = page["tenants"].as_array().context("read the answer")?;
    let many = all.iter().filter(|tenant| tenant["plan"] == name).count();
    Ok(match (many, page["next"].is_null()) {
        (0, true) => None,
        (1, true) => Some("which one tenant has".to_owned()),
        (_, true) => Some(format!("which {many} tenants have")),
        (_, false) => Some(format!("which {many} of the first {} tenants have", all.len())),
    })
}

/// What a plan says otherwise than before, old → new.
fn changes(before: &Value, after: &Value) -> Vec<String> {
    let term = |term| (Term::word(term), said::shown(before, term), said::planned(after, term));
    let terms = Term::ALL.into_iter().map(term).filter(|(_, old, new)| old != new);
    let places = Place::ALL.into_iter().filter(|one| one.all(before) != one.all(after));
    let places = places.map(|one| (one.word(), one.shown(before), one.shown(after)));
    let rule = |plan: &Value| match text(plan, "on_shared_failure") {
        none if none.is_empty() => SharedFailure::default().word().to_owned(),
        some => some,
    };
    let rules = ("on_shared_failure", rule(before), rule(after));
    let all = terms.chain(places).chain((rules.1 != rules.2).then_some(rules));
    all.map(|(word, old, new)| format!("{word} {old} → {new}")).collect()
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
    use tenantry::Allowance;

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

    #[test]
    fn what_a_plan_says_otherwise_is_told() {
        let mut before = json!({
            "limits": {}, "weight": 100, "isolations": ["shared", "schema", "database"],
            "rates": {"requests_per_second": {"value": 5, "burst": 9}},
            "locations": ["home", "eu"], "on_shared_failure": "refuse",
        });
        for term in Term::ALL.into_iter().take(6) {
            before["limits"][term.word()] = Allowance::default().amount(term).value.into();
        }
        before["limits"]["keys"] = 7.into();
        let of = |limits: &[&str], before: Option<Value>| {
            body(before, limits.iter().map(|limit| limit.parse().unwrap()).collect())
        };
        // What is not said is the default, of which the plan before says most.
        let other = of(&["keys=8", "requests_per_second=5/9", "locations=eu,home"], None);
        let told = changes(&before, &other);
        assert_eq!(told, ["keys 7 → 8", "on_shared_failure refuse → local"]);
        let change = of(&["requests_per_second=5", "isolations=schema"], Some(before.clone()));
        let rate = "requests_per_second 5/9 → 5";
        let place = "isolations shared,schema,database → schema";
        assert_eq!(changes(&before, &change), [rate, place]);
        assert_eq!(changes(&before, &of(&["keys=7"], Some(before.clone()))), [""; 0]);
    }
}
