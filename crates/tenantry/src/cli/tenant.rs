//! `tenantry tenant`: make, list, change and erase tenants.

use super::{
    advise::{self, AdviseArgs},
    archive::{self, CopyArgs, ExportArgs, ImportArgs},
    caller::Reason,
    client::{Client, Defaults, Target, segment},
    moving::{self, MoveArgs},
    output::{print, print_json, printable, table, utc},
    policy::{self, PolicyArgs},
};
use crate::config::{IsolationWord, Secret};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _, stderr, stdin},
};
use tenantry::Isolation;

/// Tenants of one page.
pub(super) const PAGE: usize = 1_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tenantry tenant create acme --server http://127.0.0.1:7700 --key tnt_…
  tenantry tenant list --data-dir ./tenantry-data
  tenantry tenant create acme --location eu
      In the database that the servers know by --location eu=URL.
  TENANTRY_OWN_DATABASE_URL=postgresql://… tenantry tenant create acme
      In a database of its own, by a variable: other users of the machine see arguments.
  tenantry tenant advise acme --compliance regulated
      Which isolation, backend and location, and by which rules.
  tenantry tenant move acme --isolation database
      While it works; `tenantry tenant move --help` says more.
  tenantry tenant export acme --to acme.tar.gz
      Everything in one signed file, which `tenantry tenant import` takes.
  tenantry tenant create acme --plan free
      What it may have and ask, as `tenantry plan show free` says.
  tenantry tenant suspend acme
      With TENANTRY_SERVER and TENANTRY_KEY set, no address or key is needed.")]
pub(super) struct TenantArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a tenant, with the database `default_database`
    Create {
        /// Its name: 1 to 512 bytes of text, unique among living tenants
        name: String,
        /// Its share of compute while several tenants wait for it, 1 to 1000; 100 is usual
        #[arg(long)]
        weight: Option<u16>,
        /// The plan that says what it may have: see `tenantry plan --help`; none if not given
        #[arg(long, value_name = "NAME")]
        plan: Option<String>,
        /// How it lives; the installation's default if not given
        #[arg(long)]
        isolation: Option<IsolationWord>,
        /// Which of the installation's databases it is in, for good: `home`, or a location that
        /// the servers are given; the server's default if not given. With --database-url and
        /// --database-location there is no default but --default-location
        #[arg(long, value_name = "NAME", conflicts_with_all = ["own_database_url",
              "own_database_admin_url"])]
        location: Option<String>,
        #[command(flatten)]
        own: Own,
        #[command(flatten)]
        defaults: Defaults,
        #[command(flatten)]
        common: Common,
    },
    /// List all tenants
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one tenant
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Say where a tenant should live, and why; nothing is changed
    Advise(Box<AdviseArgs>),
    /// Say what a placement policy would do with the tenants as they are; nothing is changed
    Policy(Box<PolicyArgs>),
    /// Move a tenant to another isolation or location while it works
    Move(Box<MoveArgs>),
    /// List moves that are not over, in the order in which they are done
    Moves {
        #[command(flatten)]
        common: Common,
    },
    /// Write all that a tenant has to a file
    Export(Box<ExportArgs>),
    /// Make a new tenant from such a file
    Import(Box<ImportArgs>),
    /// Make a new tenant that has what another one has
    Copy(Box<CopyArgs>),
    /// Refuse a tenant's keys until it is resumed; nothing is lost
    Suspend {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Serve a suspended tenant again
    Resume {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Give a tenant another name; its keys and data stay
    Rename {
        /// Its name now
        name: String,
        /// Its new name
        new_name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Give a tenant another plan, or new URLs of its own database
    ///
    /// A plan counts at once; what the tenant has already stays, also if it is more than that.
    /// `tenantry limit` says something else than the plan.
    ///
    /// URLs must be of the same database, for instance with another password. Both are replaced:
    /// if the admin's is not given again, none is kept. Then servers make no graphs there any more,
    /// and do not bring its tables to a new version.
    Update {
        /// Its name
        name: String,
        /// The plan that it has from now on
        #[arg(long, value_name = "NAME")]
        plan: Option<String>,
        /// Take its plan away: it has no rates then, and the limits that it was given
        #[arg(long, conflicts_with = "plan")]
        no_plan: bool,
        #[command(flatten)]
        own: Own,
        #[command(flatten)]
        common: Common,
    },
    /// List erased tenants, and such as could not be made, whose data are still to be removed
    Leftovers {
        #[command(flatten)]
        common: Common,
    },
    /// Give up removing what a tenant has left in a database that does not come back
    ///
    /// It stays there, and nobody can read what is sealed: its key is destroyed. Of a living tenant
    /// it gives up the place that a move from or to another location still empties.
    Abandon {
        /// The number that the tenant had, as `leftovers` shows it, or the id of a living one
        number: u64,
        /// Give up without asking for the number on the terminal; needed where there is no
        /// terminal
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Take back the deletion of a tenant that a server with `--delete-grace` has not erased yet
    Restore {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Erase a tenant for good: its data key is destroyed before the command returns, or, by a
    /// server with `--delete-grace`, when that time is over
    Delete {
        /// Its name
        name: String,
        /// Erase it now, whatever the grace is
        #[arg(long)]
        now: bool,
        /// Erase without asking for the name on the terminal; needed where there is no terminal
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// A database that the tenant carries. Other users of the machine can see arguments, so the
/// variables are better.
#[derive(Debug, Args)]
struct Own {
    /// URL of a database of its own, prepared by `tenantry postgres setup`, with the role that
    /// serves; better given by the variable, since other users of this machine see arguments
    #[arg(long, env = "TENANTRY_OWN_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    own_database_url: Option<Secret>,
    /// The same database with its admin role, for graphs and newer tables; better given by the
    /// variable
    #[arg(
        long,
        env = "TENANTRY_OWN_DATABASE_ADMIN_URL",
        value_name = "URL",
        hide_env_values = true,
        requires = "own_database_url"
    )]
    own_database_admin_url: Option<Secret>,
}

impl Own {
    /// What a request says of it, if anything.
    fn body(&self) -> Option<Value> {
        let url = self.own_database_url.as_ref()?;
        let mut own = json!({ "url": url.reveal() });
        if let Some(url) = &self.own_database_admin_url {
            own["admin_url"] = url.reveal().into();
        }
        Some(own)
    }
}

/// What every command of this kind takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Write JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(args: TenantArgs) -> Result<()> {
    match args.command {
        Command::Create { name, weight, plan, isolation, location, own, defaults, mut common } => {
            common.target.defaults = defaults;
            if location.is_none() && own.own_database_url.is_none() {
                common.target.check_default()?;
            }
            with(common, |client, json| {
                let mut body = json!({ "name": name });
                if let Some(isolation) = isolation {
                    body["isolation"] = Isolation::from(isolation).word().into();
                }
                if let Some(location) = location {
                    body["location"] = location.into();
                }
                if let Some(own) = own.body() {
                    body["own_database"] = own;
                }
                if let Some(weight) = weight {
                    body["weight"] = weight.into();
                }
                if let Some(plan) = plan {
                    body["plan"] = plan.into();
                }
                let made = client.call("POST", "/v1/admin/tenants", Some(&body))?;
                show(&made, json, "created")
            })
        }
        Command::List { common } => with(common, list),
        Command::Show { name, common } => with(common, |client, json| {
            let tenant = client.call("GET", &path(&name), None)?;
            if json {
                return print_json(&tenant);
            }
            print(&details(&tenant))
        }),
        Command::Advise(args) => advise::run(*args),
        Command::Policy(args) => policy::run(*args),
        Command::Move(args) => moving::run(*args),
        Command::Export(args) => archive::export(*args),
        Command::Import(args) => archive::import(*args),
        Command::Copy(args) => archive::copy(*args),
        Command::Moves { common } => with(common, moving::list),
        Command::Suspend { name, common } => turn(&name, "suspend", common),
        Command::Resume { name, common } => turn(&name, "resume", common),
        Command::Restore { name, common } => turn(&name, "restore", common),
        Command::Rename { name, new_name, common } => {
            with(common, |client, json| rename(client, json, &name, &new_name))
        }
        Command::Update { name, plan, no_plan, own, common } => {
            let plan = plan.map(Value::from).or(no_plan.then_some(Value::Null));
            update(&name, plan, &own, common)
        }
        Command::Leftovers { common } => with(common, leftovers),
        Command::Abandon { number, yes, common } => {
            let what = format!("This gives up for good what tenant {number} has left");
            let why = "giving up what a tenant has left cannot be undone";
            confirm(why, &what, "number", &number.to_string(), yes)?;
            with(common, |client, json| abandon(client, json, number))
        }
        Command::Delete { name, now, yes, common } => {
            let what = format!(
                "This erases tenant {:?} for good, at once or when the server's grace is over",
                printable(&name)
            );
            confirm("erasing a tenant cannot be undone", &what, "name", &name, yes)?;
            with(common, |client, json| delete(client, json, &name, now))
        }
    }
}

/// Connects, works, and releases the target whatever came of it.
pub(super) fn with(common: Common, work: impl FnOnce(&Client, bool) -> Result<()>) -> Result<()> {
    let client = common.target.client()?;
    let done = work(&client, common.json);
    if done.is_ok() && client.reason().is_some_and(Reason::is_lost) {
        eprintln!(
            "warning: --reason was not used: this acts on tenants from outside, or on none, and is \
             logged without one"
        );
    }
    done.and(client.close())
}

pub(super) fn path(name: &str) -> String {
    format!("/v1/admin/tenants/{}", segment(name))
}

/// Deletes a tenant; a server may let that be taken back for some time, unless it is to be now.
fn delete(client: &Client, json: bool, name: &str, now: bool) -> Result<()> {
    let path = path(name);
    let path = if now { format!("{path}?now=true") } else { path };
    let answer = client.call("DELETE", &path, None)?;
    let later = answer["erase_at_ms"].as_u64();
    if json {
        return print_json(&json!({ "deleted": name, "erase_at_ms": later }));
    }
    let name = printable(name);
    if later.is_some() {
        let when = utc(&answer["erase_at_ms"]);
        return print(&format!(
            "deleted tenant {name}; `tenantry tenant restore` takes that back until it is erased, \
             {when} at the earliest\n"
        ));
    }
    print(&format!("erased tenant {name}\n"))
}

/// Suspends, resumes or restores.
fn turn(name: &str, verb: &str, common: Common) -> Result<()> {
    with(common, |client, json| {
        let tenant = client.call("POST", &format!("{}/{verb}", path(name)), None)?;
        show(&tenant, json, if verb == "restore" { "restored" } else { "changed" })
    })
}

fn update(name: &str, plan: Option<Value>, own: &Own, common: Common) -> Result<()> {
    let mut body = json!({});
    if let Some(plan) = plan {
        body["plan"] = plan;
    }
    let own_body = own.body();
    let has_own = own_body.is_some();
    if let Some(own) = own_body {
        body["own_database"] = own;
    }
    if body == json!({}) {
        bail!(
            "say what is new: --plan NAME, --no-plan, --own-database-url URL, or better than that \
             the variable TENANTRY_OWN_DATABASE_URL"
        )
    }
    with(common, |client, json| {
        let tenant = client.call("PATCH", &path(name), Some(&body))?;
        show(&tenant, json, "changed")?;
        if has_own && own.own_database_admin_url.is_none() {
            eprintln!(
                "no admin URL is kept: there will be no more graphs, and its tables are brought \
                 to a new version by `tenantry postgres migrate` alone"
            );
        }
        Ok(())
    })
}

fn show(tenant: &Value, json: bool, done: &str) -> Result<()> {
    if json {
        return print_json(tenant);
    }
    let (name, state) = (printable(&text(tenant, "name")), text(tenant, "state"));
    let location = match text(tenant, "location").as_str() {
        "" | "home" => String::new(),
        other => format!(", location {other}"),
    };
    let plan = match text(tenant, "plan").as_str() {
        "" => String::new(),
        plan => format!(", plan {}", printable(plan)),
    };
    print(&format!("{done} tenant {name} ({state}{location}{plan})\n"))
}

/// All tenants, as the server describes them.
pub(super) fn listed(client: &Client) -> Result<Vec<Value>> {
    Ok(pages(client)?.0)
}

/// All tenants, and what the last page says beside them.
fn pages(client: &Client) -> Result<(Vec<Value>, Value)> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/admin/tenants?limit={PAGE}{after}");
        let mut page = client.call("GET", &path, None)?;
        let tenants = page["tenants"].as_array_mut().context("read the answer")?;
        all.append(tenants);
        let next = page["next"].as_str().map(segment);
        let Some(next) = next else { return Ok((all, page)) };
        after = format!("&after={next}");
    }
}

fn list(client: &Client, json: bool) -> Result<()> {
    // What is out of reach is known once tenants were looked for; beside the list, which programs read.
    let (all, about) = pages(client)?;
    for location in about["locations_out_of_reach"].as_array().into_iter().flatten() {
        let location = printable(location.as_str().unwrap_or_default());
        eprintln!("the location {location} is out of the server's reach: its log says why");
    }
    if json {
        return print_json(&Value::Array(all));
    }
    let row = |tenant: &Value| {
        let mut cells: Vec<_> = ["name", "state", "isolation", "location", "weight"]
            .iter()
            .map(|c| text(tenant, c))
            .collect();
        cells.push(utc(&tenant["created_at_ms"]));
        cells.push(text(tenant, "plan"));
        cells
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    print(&table(&["NAME", "STATE", "ISOLATION", "LOCATION", "WEIGHT", "CREATED", "PLAN"], &rows))
}

fn rename(client: &Client, json: bool, name: &str, new_name: &str) -> Result<()> {
    let body = json!({ "name": new_name });
    let tenant = client.call("PATCH", &path(name), Some(&body))?;
    if json {
        return print_json(&tenant);
    }
    let (old, new) = (printable(name), printable(&text(&tenant, "name")));
    print(&format!("renamed tenant {old} → {new} ({})\n", text(&tenant, "state")))
}

fn leftovers(client: &Client, json: bool) -> Result<()> {
    let found = client.call("GET", "/v1/admin/leftovers", None)?;
    if json {
        return print_json(&found["leftovers"]);
    }
    let all = found["leftovers"].as_array().context("read the answer")?;
    let row = |left: &Value| {
        ["tenant", "isolation", "location", "reason"].map(|c| text(left, c)).to_vec()
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    print(&table(&["TENANT", "ISOLATION", "LOCATION", "REASON"], &rows))
}

fn abandon(client: &Client, json: bool, number: u64) -> Result<()> {
    let left = client.call("DELETE", &format!("/v1/admin/leftovers/{number}"), None)?;
    if json {
        return print_json(&left);
    }
    let location = text(&left, "location");
    print(&format!("what tenant {number} has left is given up (location {location})\n"))
}

/// Every field of a tenant on a line of its own.
fn details(tenant: &Value) -> String {
    let mut out = String::new();
    let keys = [
        "name",
        "id",
        "state",
        "isolation",
        "location",
        "plan",
        "weight",
        "limits",
        "exceptions",
        "settings",
    ];
    for key in keys {
        let _ = writeln!(out, "{key:<10} {}", printable(&text(tenant, key)));
    }
    let _ = writeln!(out, "{:<10} {}", "created", utc(&tenant["created_at_ms"]));
    if tenant["erase_at_ms"].is_u64() {
        let _ = writeln!(out, "{:<10} {} at the earliest", "erased", utc(&tenant["erase_at_ms"]));
    }
    out
}

/// A field as text; empty if it is not there.
pub(super) fn text(object: &Value, key: &str) -> String {
    match object.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Asks a person for what is meant, which is its `called`; a program, which is told `why` nothing is
/// done without, must say so with `--yes`.
pub(super) fn confirm(why: &str, what: &str, called: &str, meant: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        bail!("{why}: say --yes");
    }
    let mut ask = stderr().lock();
    write!(ask, "{what}. Type its {called} to go on: ")?;
    ask.flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("read the answer")?;
    if answer.trim_end_matches(['\r', '\n']) == meant {
        return Ok(());
    }
    bail!("that is not its {called}; nothing was done")
}
