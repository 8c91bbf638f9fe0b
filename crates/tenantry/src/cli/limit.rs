//! `tenantry limit`: what one tenant has instead of what its plan says.

use super::{
    client::Client,
    output::{print, print_json, printable, table, utc},
    said::{self, Said, WORDS},
    tenant::{Common, path, text, with},
    used,
    when::Moment,
};
use crate::config::Span;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tenantry::Term;

#[derive(Debug, Args)]
#[command(after_help = "\
What a tenant has comes from an exception, if there is one; else from limits of its own, if they
were changed; else from its plan; else it is the default. An exception with an end is over by
itself.

Examples:
  tenantry limit show acme
  tenantry limit show
      With a key of the tenant.
  tenantry limit set acme requests_per_second=500/2000 --until 2026-12-31T18:00:00Z
  tenantry limit set acme databases=50 keys=200
  tenantry limit set acme requests_per_hour=none --for 7d
  tenantry limit unset acme databases keys")]
pub(super) struct LimitArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a tenant may have, how much of it is used, and where each limit comes from
    Show {
        /// The tenant's name; by default the one whose key is given
        tenant: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Say something else than the plan, for ever or for some time
    Set(SetArgs),
    /// Let the plan count again
    Unset {
        /// The tenant's name
        tenant: String,
        /// What limits, for example `keys`
        #[arg(required = true, value_name = "LIMIT", value_parser = said::term)]
        limits: Vec<Term>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
#[command(after_help = WORDS)]
struct SetArgs {
    /// The tenant's name
    tenant: String,
    /// What it has instead
    #[arg(required = true, value_name = "LIMIT=VALUE[/BURST]")]
    limits: Vec<Said>,
    /// Until when, as RFC 3339 says: 2026-12-31T18:00:00Z; a day is its beginning in UTC
    #[arg(long, value_name = "TIME", conflicts_with = "span")]
    until: Option<Moment>,
    /// For how long, for example 30m, 12h or 90d
    #[arg(long = "for", id = "span", value_name = "TIME", value_parser = Span::with_unit)]
    span: Option<Span>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: LimitArgs) -> Result<()> {
    match args.command {
        Command::Show { tenant, common } => {
            with(common, |client, json| used::show(client, tenant.as_deref(), json))
        }
        Command::Set(args) => {
            let mut exceptions = Map::new();
            for Said { term, amount } in args.limits {
                let mut one = json!({ "value": amount.value });
                if let Some(burst) = amount.burst {
                    one["burst"] = burst.into();
                }
                if let Some(until) = args.until {
                    one["expires_at_ms"] = until.0.into();
                }
                if let Some(span) = args.span {
                    one["expires_in_s"] = span.0.as_secs().into();
                }
                exceptions.insert(term.word().to_owned(), one);
            }
            with(args.common, |client, json| except(client, json, &args.tenant, exceptions))
        }
        Command::Unset { tenant, limits, common } => {
            let exceptions =
                limits.into_iter().map(|term| (term.word().to_owned(), Value::Null)).collect();
            with(common, |client, json| except(client, json, &tenant, exceptions))
        }
    }
}

/// Makes and ends exceptions, and shows what the tenant has then.
fn except(client: &Client, json: bool, tenant: &str, all: Map<String, Value>) -> Result<()> {
    let path = path(tenant);
    client.call("PATCH", &path, Some(&json!({ "exceptions": all })))?;
    show(&client.call("GET", &path, None)?, json)
}

fn show(tenant: &Value, json: bool) -> Result<()> {
    if json {
        return print_json(&used::parts(tenant, &["name", "plan", "exceptions", "effective"]));
    }
    let row = |term: Term| {
        let value = said::shown(&tenant["effective"], term);
        vec![term.word().to_owned(), value, source(tenant, term)]
    };
    let rows: Vec<_> = Term::ALL.into_iter().map(row).collect();
    print(&table(&["LIMIT", "VALUE", "FROM"], &rows))
}

/// Where a limit comes from, in words.
pub(super) fn source(tenant: &Value, term: Term) -> String {
    let exception = &tenant["exceptions"][term.word()];
    let end = utc(&exception["expires_at_ms"]);
    let from = match text(&tenant["effective"]["from"], term.word()).as_str() {
        "exception" if end.is_empty() => return "exception".to_owned(),
        "exception" => return format!("exception until {end}"),
        "own" => "its own limits".to_owned(),
        "plan" => format!("plan {}", printable(&text(tenant, "plan"))),
        other => other.to_owned(),
    };
    if exception.is_null() {
        return from;
    }
    let value = said::amount(exception["value"].as_u64(), exception["burst"].as_u64());
    format!("{from}; an exception of {value} ended {end}")
}
