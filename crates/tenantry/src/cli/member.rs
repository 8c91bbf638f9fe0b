//! `tenantry member`: who of an issuer's users a tenant knows, and as what.

use super::{
    client::{Client, segment},
    output::{print, print_json, printable, table, utc},
    tenant::{Common, text, with},
};
use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

/// Members asked for at once.
const PAGE: usize = 1_000;
const HEADING: [&str; 7] = ["MEMBER", "ROLE", "STATE", "GROUPS", "EMAIL", "NAME", "ADDED"];

#[derive(Debug, Args)]
#[command(after_help = "\
A member is ISSUER/SUBJECT: the issuer's name in the file of --token-issuers, and what its tokens
have as subject. With `members = \"required\"` a token counts for members only.

Examples:
  tenantry member add login/alice --tenant acme --role owner --email alice@acme.example
  tenantry member list --tenant acme
  tenantry member update login/bob --tenant acme --role admin
  tenantry member add login/eve --tenant acme --role guest --group support
      Eve reaches what the group gives, see `tenantry group --help`.
  tenantry member update login/bob --tenant acme --suspend
  tenantry member remove login/bob --tenant acme
  TENANTRY_KEY=tnt_… tenantry member list --server http://127.0.0.1:7700
      With a key of the tenant, which needs no --tenant.")]
pub(super) struct MemberArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a member
    Add(AddArgs),
    /// List all members
    List {
        #[command(flatten)]
        whose: Whose,
        /// Only those in this group
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one member
    Show {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        common: Common,
    },
    /// Change a member, at once
    Update(UpdateArgs),
    /// Remove a member: its tokens are refused from the moment the command returns
    Remove {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub(super) struct Whose {
    /// The tenant; by default the one whose key is given
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<String>,
}

impl Whose {
    /// Sends a request within the tenant.
    pub(super) fn call(
        &self,
        client: &Client,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        client.call_in(self.tenant.as_deref(), method, path, body)
    }

    /// All that `/v1/<what>` lists, read by pages of so many.
    pub(super) fn all(&self, client: &Client, what: &str, page: usize) -> Result<Vec<Value>> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/{what}?limit={page}{after}");
            let mut page = self.call(client, "GET", &path, None)?;
            let found = page.get_mut(what).and_then(Value::as_array_mut);
            all.append(found.context("read the answer")?);
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={}", segment(next)),
                None => return Ok(all),
            }
        }
    }
}

#[derive(Debug, Args)]
struct Which {
    /// Who: the issuer's name and the subject of its tokens
    #[arg(value_name = "ISSUER/SUBJECT")]
    member: String,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, Args)]
struct AddArgs {
    #[command(flatten)]
    which: Which,
    /// What it is in the tenant; groups add nothing to any but a guest [default: member]
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// A group it is in; may be repeated
    #[arg(long, value_name = "NAME", requires = "role")]
    group: Vec<String>,
    /// An address, for people
    #[arg(long)]
    email: Option<String>,
    /// A name, for people
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
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

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// What it is in the tenant from now on
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Refuse its tokens
    #[arg(long, conflicts_with = "resume")]
    suspend: bool,
    /// Take its tokens again
    #[arg(long)]
    resume: bool,
    /// A group it is in, instead of all others; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "no_groups")]
    group: Vec<String>,
    /// It is in no group
    #[arg(long)]
    no_groups: bool,
    /// Another address; empty is none
    #[arg(long)]
    email: Option<String>,
    /// Another name; empty is none
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    /// Reaches what its groups give, and nothing else
    Guest,
    /// Reads and writes records, makes and changes collections
    Member,
    /// Also databases, keys, members and the audit log
    Admin,
    /// Also other owners; the last one stays
    Owner,
}

impl Which {
    fn call(&self, client: &Client, method: &str, body: Option<&Value>) -> Result<Value> {
        let path = format!("/v1/members/{}", segment(&self.member));
        self.whose.call(client, method, &path, body)
    }
}

pub(super) fn run(args: MemberArgs) -> Result<()> {
    match args.command {
        Command::Add(args) => add(args),
        Command::List { whose, group, common } => {
            with(common, |client, json| list(client, json, &whose, group.as_deref()))
        }
        Command::Show { which, common } => with(common, |client, json| {
            let member = which.call(client, "GET", None)?;
            show(&member, json)
        }),
        Command::Update(args) => update(args),
        Command::Remove { which, common } => with(common, |client, json| {
            which.call(client, "DELETE", None)?;
            if json {
                return print_json(&json!({ "removed": which.member }));
            }
            print(&format!("removed member {}\n", printable(&which.member)))
        }),
    }
}

fn add(args: AddArgs) -> Result<()> {
    let AddArgs { which, role, group, email, name, common } = args;
    let mut body = json!({ "id": which.member, "role": role.unwrap_or(Role::Member) });
    if !group.is_empty() {
        body["groups"] = group.into();
    }
    if let Some(email) = email {
        body["email"] = email.into();
    }
    if let Some(name) = name {
        body["name"] = name.into();
    }
    with(common, |client, json| {
        let member = which.whose.call(client, "POST", "/v1/members", Some(&body))?;
        show(&member, json)
    })
}

fn update(args: UpdateArgs) -> Result<()> {
    let UpdateArgs { which, change, common } = args;
    let body = body(change);
    with(common, |client, json| {
        let member = which.call(client, "PATCH", Some(&body))?;
        show(&member, json)
    })
}

fn body(change: Changes) -> Value {
    let Changes { role, suspend, resume, group, no_groups, email, name } = change;
    let mut body = json!({});
    if let Some(role) = role {
        body["role"] = json!(role);
    }
    if suspend || resume {
        body["state"] = if suspend { "suspended" } else { "active" }.into();
    }
    if no_groups || !group.is_empty() {
        body["groups"] = group.into();
    }
    for (key, text) in [("email", email), ("name", name)] {
        if let Some(text) = text {
            body[key] = if text.is_empty() { Value::Null } else { text.into() };
        }
    }
    body
}

/// All members, or those in a group, by their names.
fn list(client: &Client, json: bool, whose: &Whose, group: Option<&str>) -> Result<()> {
    if let Some(group) = group {
        // One that does not exist is said to be so.
        whose.call(client, "GET", &format!("/v1/groups/{}", segment(group)), None)?;
    }
    let mut all = whose.all(client, "members", PAGE)?;
    if let Some(group) = group {
        all.retain(|member| groups(member).any(|name| name == group));
    }
    all.sort_by_key(|member| text(member, "id"));
    if json {
        return print_json(&json!({ "members": all }));
    }
    let rows: Vec<_> = all.iter().map(row).collect();
    print(&table(&HEADING, &rows))
}

fn groups(member: &Value) -> impl Iterator<Item = &str> {
    let all = member.get("groups").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(Value::as_str)
}

fn row(member: &Value) -> Vec<String> {
    let mut row: Vec<_> = ["id", "role", "state"].map(|key| text(member, key)).into();
    row.push(groups(member).collect::<Vec<_>>().join(", "));
    row.extend(["email", "name"].map(|key| text(member, key)));
    row.push(utc(&member["created_at_ms"]));
    row
}

fn show(member: &Value, json: bool) -> Result<()> {
    if json {
        return print_json(member);
    }
    print(&table(&HEADING, &[row(member)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_says_what_is_given_and_an_empty_text_is_none() {
        let nothing = || Changes {
            role: None,
            suspend: false,
            resume: false,
            group: Vec::new(),
            no_groups: false,
            email: None,
            name: None,
        };
        let role = Some(Role::Owner);
        assert_eq!(body(Changes { role, ..nothing() }), json!({ "role": "owner" }));
        let change = Changes { suspend: true, email: Some(String::new()), ..nothing() };
        assert_eq!(body(change), json!({ "state": "suspended", "email": null }));
        let change = Changes { group: vec!["a".into()], ..nothing() };
        assert_eq!(body(change), json!({ "groups": ["a"] }));
        let change = Changes { no_groups: true, ..nothing() };
        assert_eq!(body(change), json!({ "groups": [] }));
        let change = Changes { resume: true, name: Some("A".into()), ..nothing() };
        assert_eq!(body(change), json!({ "state": "active", "name": "A" }));
    }
}
