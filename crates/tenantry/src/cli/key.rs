//! `tenantry key`: make, list and revoke API keys.

use super::{
    client::{Client, Refusal, WHICH_TENANT, segment},
    output::{print, print_json, table, utc},
    tenant::{Common, text, with},
};
use crate::config::Span;
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use tenantry::{ApiKey, KeyId};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tenantry key create --tenant acme --role write --label backend
  tenantry key create --tenant acme --role read --collection default_database/notes
      A key that can read one collection; for it nothing else exists.
  tenantry key create --operator --label ci
  tenantry key list --tenant acme
  tenantry key revoke KEY_ID --tenant acme
  TENANTRY_KEY=tnt_… tenantry key list --server http://127.0.0.1:7700
      With a key of the tenant, which needs no --tenant.")]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key; it is shown this once
    Create(CreateArgs),
    /// List keys, without their secrets
    List {
        #[command(flatten)]
        owner: Owner,
        #[command(flatten)]
        common: Common,
    },
    /// Revoke a key: refused from the moment the command returns
    Revoke {
        /// The id of the key, its 16 characters between the underscores; a whole key is taken too
        #[arg(value_name = "KEY_ID")]
        id: String,
        #[command(flatten)]
        owner: Owner,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    owner: Owner,
    /// What its holder may do in the tenant
    #[arg(long, value_enum, default_value_t = Role::Write, conflicts_with = "operator")]
    role: Role,
    /// A name for people
    #[arg(long, default_value = "")]
    label: String,
    /// Limit it to this database; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "operator")]
    database: Vec<String>,
    /// Limit it to this collection; may be repeated
    #[arg(long, value_name = "DATABASE/NAME", conflicts_with = "operator")]
    collection: Vec<String>,
    /// Refuse the key after this time, for example 30m, 12h or 90d
    #[arg(long, value_name = "TIME", value_parser = Span::with_unit)]
    expires_in: Option<Span>,
    /// Let the operator key manage tenants but open none
    #[arg(long, requires = "operator")]
    no_act_as: bool,
    #[command(flatten)]
    common: Common,
}

/// Whose key.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
struct Owner {
    /// A tenant's; by default that whose key is given
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The operator's
    #[arg(long)]
    operator: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    /// Read records and the catalog
    Read,
    /// Read, and change records and collections
    Write,
    /// Write, and change databases and keys
    Admin,
}

impl Owner {
    /// Sends a request about keys to the tenant or to the operator's part.
    fn call(
        &self,
        client: &Client,
        method: &str,
        id: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Value> {
        let id = id.map_or_else(String::new, |id| format!("/{}", segment(id)));
        if self.operator {
            return client.call(method, &format!("/v1/admin/keys{id}"), body);
        }
        let told = client.call_in(self.tenant.as_deref(), method, &format!("/v1/keys{id}"), body);
        told.map_err(|why| match why.downcast_ref() {
            Some(Refusal { message, .. }) if message == WHICH_TENANT => {
                anyhow!("{WHICH_TENANT}, or say --operator for a key of the operator's")
            }
            _ => why,
        })
    }
}

pub(super) fn run(args: KeyArgs) -> Result<()> {
    match args.command {
        Command::Create(args) => create(args),
        Command::List { owner, common } => with(common, |client, json| {
            let keys = owner.call(client, "GET", None, None)?;
            if json {
                return print_json(&keys);
            }
            let keys = keys.get("keys").and_then(Value::as_array).context("read the answer")?;
            let rows: Vec<_> = keys.iter().map(row).collect();
            print(&table(&["ID", "ROLE", "LABEL", "CREATED", "EXPIRES"], &rows))
        }),
        Command::Revoke { id, owner, common } => {
            let id = public_half(&id)?;
            with(common, |client, json| {
                owner.call(client, "DELETE", Some(&id), None)?;
                if json {
                    return print_json(&json!({ "revoked": id }));
                }
                print(&format!("revoked key {id}\n"))
            })
        }
    }
}

/// The id of a key that is given by its id or as a whole. Nothing of the text is repeated, since
/// it may hold a secret.
fn public_half(given: &str) -> Result<String> {
    let id = KeyId::parse(given).or_else(|| ApiKey::parse(given).map(|key| key.id()));
    let id =
        id.context("that is not a key's id: 16 characters, as `tenantry key list` shows them")?;
    Ok(id.to_string())
}

fn row(key: &Value) -> Vec<String> {
    let role = match key.get("act_as").and_then(Value::as_bool) {
        None => text(key, "role"),
        Some(true) => "operator, acts as tenants".to_owned(),
        Some(false) => "operator".to_owned(),
    };
    let expires = key.get("expires_at_ms").map_or_else(String::new, utc);
    vec![text(key, "id"), role, text(key, "label"), utc(&key["created_at_ms"]), expires]
}

fn create(args: CreateArgs) -> Result<()> {
    let mut body = if args.owner.operator {
        json!({ "label": args.label, "act_as": !args.no_act_as })
    } else {
        json!({ "role": args.role, "label": args.label })
    };
    // The server refuses an empty list, which may mean none or any.
    if !args.database.is_empty() {
        body["databases"] = json!(args.database);
    }
    if !args.collection.is_empty() {
        body["collections"] = args.collection.iter().map(|c| split(c)).collect::<Result<_>>()?;
    }
    if let Some(span) = args.expires_in {
        body["expires_in_s"] = span.0.as_secs().into();
    }
    with(args.common, |client, json| {
        let made = args.owner.call(client, "POST", None, Some(&body))?;
        if json {
            return print_json(&made);
        }
        // The key alone, so that it can be put into a variable.
        print(&format!("{}\n", text(&made, "key")))?;
        eprintln!("This is the only time the key is shown.");
        Ok(())
    })
}

/// A collection's name may hold slashes, its database's here may not.
fn split(path: &str) -> Result<Value> {
    let Some((database, collection)) = path.split_once('/') else {
        bail!("--collection {path:?}: write it as DATABASE/COLLECTION")
    };
    Ok(json!({ "database": database, "collection": collection }))
}
