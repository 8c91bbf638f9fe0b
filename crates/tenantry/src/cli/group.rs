//! `tenantry group`: groups of a tenant's members, and what they let guests do.

use super::{
    client::{Client, segment},
    member::Whose,
    output::{print, print_json, printable, table, utc},
    tenant::{Common, text, with},
};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

const PAGE: usize = 64;

#[derive(Debug, Args)]
#[command(after_help = "\
A group gives members with the role guest rights on databases and single collections. Other members
have theirs by their role, and groups add nothing to them.

Examples:
  tenantry group add support --tenant acme --read default_database/tickets --write-all drafts
      Guests in it read one collection, and write all of the database drafts.
  tenantry member add login/eve --tenant acme --role guest --group support
  tenantry group update support --tenant acme --read default_database/tickets
      From now on nothing else.
  tenantry group list --tenant acme
  tenantry group remove support --tenant acme
A key of the tenant needs no --tenant.")]
pub(super) struct GroupArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a group
    Add(AddArgs),
    /// List all groups
    List {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        common: Common,
    },
    /// Show one group
    Show {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        common: Common,
    },
    /// Change a group, at once
    Update(UpdateArgs),
    /// Remove a group: what it gave its guests is refused from the moment the command returns
    Remove {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// The group's name
    #[arg(value_name = "NAME")]
    group: String,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, Default, Args)]
struct Grants {
    /// Let guests read this collection; may be repeated
    #[arg(long, value_name = "DATABASE/COLLECTION")]
    read: Vec<String>,
    /// Let guests read and change it; may be repeated
    #[arg(long, value_name = "DATABASE/COLLECTION")]
    write: Vec<String>,
    /// Let guests read all of this database, also collections to come; may be repeated
    #[arg(long, value_name = "DATABASE")]
    read_all: Vec<String>,
    /// Let guests read and change all of it, and make collections in it; may be repeated
    #[arg(long, value_name = "DATABASE")]
    write_all: Vec<String>,
}

#[derive(Debug, Args)]
struct AddArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    grants: Grants,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    change: Changes,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Default, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Another name
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// Let guests read this collection, instead of all it gave; may be repeated
    #[arg(long, value_name = "DATABASE/COLLECTION")]
    read: Vec<String>,
    /// Let guests read and change it, instead of all it gave; may be repeated
    #[arg(long, value_name = "DATABASE/COLLECTION")]
    write: Vec<String>,
    /// Let guests read all of this database, instead of all it gave; may be repeated
    #[arg(long, value_name = "DATABASE")]
    read_all: Vec<String>,
    /// Let guests read and change all of it, instead of all it gave; may be repeated
    #[arg(long, value_name = "DATABASE")]
    write_all: Vec<String>,
    /// Let guests do nothing
    #[arg(long, conflicts_with_all = ["read", "write", "read_all", "write_all"])]
    no_grants: bool,
}

impl Which {
    fn call(&self, client: &Client, method: &str, body: Option<&Value>) -> Result<Value> {
        let path = format!("/v1/groups/{}", segment(&self.group));
        self.whose.call(client, method, &path, body)
    }
}

impl Grants {
    fn is_empty(&self) -> bool {
        [&self.read, &self.write, &self.read_all, &self.write_all].iter().all(|all| all.is_empty())
    }

    fn body(&self) -> Result<Value> {
        let mut all = Vec::new();
        for (paths, role) in [(&self.read, "read"), (&self.write, "write")] {
            for path in paths {
                let (database, collection) = collection(path)?;
                all.push(json!({ "database": database, "collection": collection, "role": role }));
            }
        }
        for (databases, role) in [(&self.read_all, "read"), (&self.write_all, "write")] {
            let grant = |name| json!({ "database": name, "all_collections": true, "role": role });
            all.extend(databases.iter().map(grant));
        }
        Ok(Value::Array(all))
    }
}

/// A collection's name may hold slashes, its database's here may not. A database alone is not meant: it
/// may be what is left of a name that is missing.
fn collection(path: &str) -> Result<(&str, &str)> {
    path.split_once('/').with_context(|| {
        format!(
            "{path:?} is no DATABASE/COLLECTION; all of a database is --read-all or --write-all"
        )
    })
}

pub(super) fn run(args: GroupArgs) -> Result<()> {
    match args.command {
        Command::Add(args) => add(args),
        Command::List { whose, common } => with(common, |client, json| {
            let groups = whose.all(client, "groups", PAGE)?;
            if json {
                return print_json(&json!({ "groups": groups }));
            }
            show_all(&groups)
        }),
        Command::Show { which, common } => with(common, |client, json| {
            let group = which.call(client, "GET", None)?;
            show(group, json)
        }),
        Command::Update(args) => {
            let UpdateArgs { which, change, common } = args;
            let body = body(change)?;
            with(common, |client, json| show(which.call(client, "PATCH", Some(&body))?, json))
        }
        Command::Remove { which, common } => with(common, |client, json| {
            which.call(client, "DELETE", None)?;
            if json {
                return print_json(&json!({ "removed": which.group }));
            }
            print(&format!("removed group {}\n", printable(&which.group)))
        }),
    }
}

fn add(args: AddArgs) -> Result<()> {
    let AddArgs { which, grants, common } = args;
    let body = json!({ "name": which.group, "grants": grants.body()? });
    with(common, |client, json| {
        show(which.whose.call(client, "POST", "/v1/groups", Some(&body))?, json)
    })
}

fn body(change: Changes) -> Result<Value> {
    let Changes { rename, read, write, read_all, write_all, no_grants } = change;
    let grants = Grants { read, write, read_all, write_all };
    let mut body = json!({});
    if let Some(name) = rename {
        body["name"] = name.into();
    }
    if no_grants || !grants.is_empty() {
        body["grants"] = grants.body()?;
    }
    Ok(body)
}

fn show(group: Value, json: bool) -> Result<()> {
    if json { print_json(&group) } else { show_all(&[group]) }
}

fn show_all(groups: &[Value]) -> Result<()> {
    let rows: Vec<_> = groups.iter().map(row).collect();
    print(&table(&["GROUP", "READ", "WRITE", "ADDED"], &rows))
}

fn row(group: &Value) -> Vec<String> {
    let grants = group.get("grants").and_then(Value::as_array);
    let of = |role: &str| {
        let all = grants.into_iter().flatten().filter(|one| text(one, "role") == role);
        let names = all.map(|one| match one.get("collection").and_then(Value::as_str) {
            Some(_) => format!("{}/{}", text(one, "database"), text(one, "collection")),
            None => text(one, "database"),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    vec![text(group, "name"), of("read"), of("write"), utc(&group["created_at_ms"])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_says_what_is_given() {
        let said = |change| body(change).unwrap();
        let rename = Some("b".to_owned());
        let nothing = Changes::default;
        assert_eq!(said(Changes { rename, ..nothing() }), json!({ "name": "b" }));
        assert_eq!(said(Changes { no_grants: true, ..nothing() }), json!({ "grants": [] }));
        let (read, write_all) = (vec!["d/c/e".to_owned()], vec!["d".to_owned()]);
        let grants = json!([
            { "database": "d", "collection": "c/e", "role": "read" },
            { "database": "d", "all_collections": true, "role": "write" },
        ]);
        let change = Changes { read, write_all, ..nothing() };
        assert_eq!(said(change), json!({ "grants": grants }));
        // A variable that was empty gives nothing on all of the database.
        let write = vec!["d".to_owned()];
        assert!(body(Changes { write, ..nothing() }).is_err());
    }

    #[test]
    fn a_group_is_a_row() {
        let group = json!({ "name": "a", "created_at_ms": 0, "grants": [
            { "database": "d", "all_collections": true, "role": "read" },
            { "database": "d", "collection": "c", "role": "write" },
            { "database": "e", "collection": "c", "role": "write" },
        ] });
        assert_eq!(row(&group)[..3], ["a", "d", "d/c, e/c"]);
    }
}
