//! `tenantry webhook`: endpoints of the operator's that are told what happens.

use super::{
    client::{Client, segment},
    output::{print, print_json, printable, table, utc},
    tenant::{Common, text, with},
};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write as _;

const WEBHOOKS: &str = "/v1/admin/webhooks";
/// Dead letters of one request.
const PAGE: usize = 1_000;

#[derive(Debug, Args)]
#[command(after_help = "\
A webhook is told by POST what happens to tenants, signed as Standard Webhooks says, at least once.
What cannot be delivered within a day is a dead letter. docs/guides/webhooks.md shows how to check
a signature, and all events.

Examples:
  tenantry webhook create billing --url https://example.com/hooks
  tenantry webhook create alarm --url https://example.com/alarm \\
      --event security.cross_tenant_attempt
  tenantry webhook test billing
  tenantry webhook dead billing
  tenantry webhook retry billing EVENT")]
pub(super) struct WebhookArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a webhook; its secret is shown this once
    Create {
        /// Its name: 1 to 512 bytes of text
        name: String,
        /// Where messages are sent
        #[arg(long, value_name = "URL")]
        url: String,
        /// What it is told, for example tenant.created; may be repeated [default: everything]
        #[arg(long, value_name = "EVENT")]
        event: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List all webhooks
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show a webhook, without its secret
    Show {
        #[command(flatten)]
        named: Named,
    },
    /// Change where a webhook is, what it is told, or whether it is told anything
    Update(UpdateArgs),
    /// Give a webhook another secret, shown this once; for a day messages have both signatures
    Rotate {
        #[command(flatten)]
        named: Named,
    },
    /// Delete a webhook, with all that waits for it
    Delete {
        #[command(flatten)]
        named: Named,
    },
    /// Send a webhook a test.ping
    Test {
        #[command(flatten)]
        named: Named,
    },
    /// List what a webhook was told in vain
    Dead {
        #[command(flatten)]
        named: Named,
    },
    /// Send again what a webhook was told in vain
    Retry(LetterArgs),
    /// Forget what a webhook was told in vain
    Discard(LetterArgs),
}

#[derive(Debug, Args)]
struct Named {
    /// Its name
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// Its name
    name: String,
    /// Another place
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What it is told instead; may be repeated
    #[arg(long, value_name = "EVENT")]
    event: Vec<String>,
    /// Tell it everything
    #[arg(long, conflicts_with = "event")]
    all_events: bool,
    /// Tell it again
    #[arg(long)]
    enable: bool,
    /// Tell it nothing until it is enabled; what waits becomes dead letters
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct LetterArgs {
    /// The webhook's name
    name: String,
    /// The event, as `tenantry webhook dead` shows it
    event: String,
    #[command(flatten)]
    common: Common,
}

fn path(name: &str) -> String {
    format!("{WEBHOOKS}/{}", segment(name))
}

pub(super) fn run(args: WebhookArgs) -> Result<()> {
    match args.command {
        Command::Create { name, url, event, common } => with(common, |client, json| {
            let body = json!({ "name": name, "url": url, "events": event });
            secret(&client.call("POST", WEBHOOKS, Some(&body))?, json)
        }),
        Command::List { common } => with(common, list),
        Command::Show { named: Named { name, common } } => {
            with(common, |client, json| show(&client.call("GET", &path(&name), None)?, json))
        }
        Command::Update(args) => update(args),
        Command::Rotate { named: Named { name, common } } => with(common, |client, json| {
            secret(&client.call("POST", &format!("{}/rotate", path(&name)), None)?, json)
        }),
        Command::Delete { named: Named { name, common } } => with(common, |client, json| {
            client.call("DELETE", &path(&name), None)?;
            if json {
                return print_json(&json!({ "deleted": name }));
            }
            print(&format!("deleted webhook {}\n", printable(&name)))
        }),
        Command::Test { named: Named { name, common } } => with(common, |client, json| {
            let sent = client.call("POST", &format!("{}/test", path(&name)), None)?;
            if json {
                return print_json(&sent);
            }
            print(&format!("{} is on its way\n", text(&sent, "event")))
        }),
        Command::Dead { named: Named { name, common } } => {
            with(common, |client, json| dead(client, json, &name))
        }
        Command::Retry(LetterArgs { name, event, common }) => with(common, |client, json| {
            let path = format!("{}/dead/{}/retry", path(&name), segment(&event));
            let sent = client.call("POST", &path, None)?;
            if json {
                return print_json(&sent);
            }
            print(&format!("{} is on its way\n", printable(&event)))
        }),
        Command::Discard(LetterArgs { name, event, common }) => with(common, |client, json| {
            let path = format!("{}/dead/{}", path(&name), segment(&event));
            client.call("DELETE", &path, None)?;
            if json {
                return print_json(&json!({ "discarded": event }));
            }
            print(&format!("discarded {}\n", printable(&event)))
        }),
    }
}

fn update(args: UpdateArgs) -> Result<()> {
    let UpdateArgs { name, url, event, all_events, enable, disable, common } = args;
    let mut body = json!({});
    if let Some(url) = url {
        body["url"] = url.into();
    }
    if all_events || !event.is_empty() {
        body["events"] = event.into();
    }
    if enable || disable {
        body["enabled"] = enable.into();
    }
    with(common, |client, json| show(&client.call("PATCH", &path(&name), Some(&body))?, json))
}

/// The secret alone, so that it can be put into a variable.
fn secret(made: &Value, json: bool) -> Result<()> {
    if json {
        return print_json(made);
    }
    print(&format!("{}\n", text(made, "secret")))?;
    eprintln!("This is the only time the secret is shown.");
    Ok(())
}

/// What a webhook is told, in words.
fn events(webhook: &Value) -> String {
    let all = webhook["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<_> = all.iter().filter_map(Value::as_str).collect();
    if words.is_empty() { "everything".to_owned() } else { words.join(", ") }
}

fn state(webhook: &Value) -> String {
    if webhook["enabled"] == true { "enabled" } else { "disabled" }.to_owned()
}

fn list(client: &Client, json: bool) -> Result<()> {
    let found = client.call("GET", WEBHOOKS, None)?;
    if json {
        return print_json(&found["webhooks"]);
    }
    let all = found["webhooks"].as_array().context("read the answer")?;
    let row = |one: &Value| vec![text(one, "name"), state(one), text(one, "url"), events(one)];
    let rows: Vec<_> = all.iter().map(row).collect();
    print(&table(&["NAME", "STATE", "URL", "EVENTS"], &rows))
}

fn show(webhook: &Value, json: bool) -> Result<()> {
    if json {
        return print_json(webhook);
    }
    let mut lines = vec![
        ("name", text(webhook, "name")),
        ("state", state(webhook)),
        ("url", text(webhook, "url")),
        ("events", events(webhook)),
        ("created", utc(&webhook["created_at_ms"])),
    ];
    if !webhook["old_secret_until_ms"].is_null() {
        lines.push(("old secret until", utc(&webhook["old_secret_until_ms"])));
    }
    let mut out = String::new();
    for (word, value) in lines {
        let _ = writeln!(out, "{word:<17} {}", printable(&value));
    }
    print(&out)
}

fn dead(client: &Client, json: bool, name: &str) -> Result<()> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{}/dead?limit={PAGE}{after}", path(name));
        let mut page = client.call("GET", &path, None)?;
        all.append(page["letters"].as_array_mut().context("read the answer")?);
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", segment(next)),
            None => break,
        }
    }
    if json {
        return print_json(&all.into());
    }
    let row = |one: &Value| {
        let tenant = text(one, "tenant_name");
        let (at, attempts) = (utc(&one["at_ms"]), text(one, "attempts"));
        vec![text(one, "event"), text(one, "type"), tenant, at, attempts, text(one, "reason")]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    print(&table(&["EVENT", "TYPE", "TENANT", "AT", "ATTEMPTS", "REASON"], &rows))
}
