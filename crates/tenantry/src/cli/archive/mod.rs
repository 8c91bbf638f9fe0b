//! `tenantry tenant export`, `import` and `copy`, and `tenantry archive show`: tenants as files.

mod all;

use super::{
    client::{Client, Defaults, segment},
    output::{print, print_json, printable},
    tenant::{Common, path, text, with},
};
use crate::config::IsolationWord;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs::File,
    io::{IsTerminal, stderr},
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::NamedTempFile;
use tenantry::{
    Isolation,
    archive::{Summary, inspect},
};

/// Whose signature archives and lists have, and how a list gets one.
const SIGNER: &str = "/v1/admin/signer";
/// An archive on this machine may be as large as its disk.
const BYTES_MAX: u64 = u64::MAX;

#[derive(Debug, Args)]
#[command(after_long_help = "\
The archive holds all databases, collections and records, as they were at one moment, and is signed
by the installation. Keys, the audit log, public ids and times are not in it. It is a tar in gzip:
`tar xzf` opens it. The file gets its name when all of it has come and was checked.

Examples:
  tenantry tenant export acme --to acme.tar.gz
  tenantry archive show acme.tar.gz
  tenantry tenant export --all --to ./archives
      Every tenant to a file of its own; the folder's `tenants.jsonl` says which is whose.")]
pub(super) struct ExportArgs {
    /// The tenant's name
    #[arg(required_unless_present = "all")]
    name: Option<String>,
    /// Every tenant, each to a file of its own in a folder, which also gets a list of them
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// The file to make, or the folder
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Everything in the archive is checked before anything is written; until the last record is written the
tenant answers like none. Ending the command cancels the import, and nothing of it stays. Archives
that this installation has signed are taken, and others if --trust names who has: the key is what
`tenantry archive show` prints, and should come from that installation's operator. The tenant has no
more than new tenants have, unless you say --keep-limits: of the archive's limits and weight those
count that are less than its plan says.

Examples:
  tenantry tenant import acme-2 --from acme.tar.gz
  tenantry tenant import acme --from acme.tar.gz --location eu --isolation database
  tenantry tenant import acme --from theirs.tar.gz --trust 2f6e…
  tenantry tenant import --all --from ./archives
      Every tenant of the folder's signed list. Run again, it leaves out those that it has made.")]
pub(super) struct ImportArgs {
    /// The new tenant's name
    #[arg(required_unless_present = "all")]
    name: Option<String>,
    /// Every tenant of a folder that `tenant export --all` has made, by its name
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// The archive, or the folder
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Public key of another installation whose archives are taken, too
    #[arg(long, value_name = "KEY")]
    trust: Option<String>,
    /// Take the archive's limits and weight also where they are not less than those of new tenants
    #[arg(long)]
    keep_limits: bool,
    /// With --all: each where and how it was in the installation that has exported it
    #[arg(long, requires = "all", conflicts_with_all = ["isolation", "location"])]
    as_recorded: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
The new tenant has what the other one has at this moment, its weight, limits and settings included;
keys and the audit log are its own. It lives where and how the other one does, unless you say
otherwise. Ending the command cancels the copy, and nothing of it stays.

Example:
  tenantry tenant copy acme acme-test --isolation schema")]
pub(super) struct CopyArgs {
    /// The tenant's name
    name: String,
    /// The new tenant's name
    new_name: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    common: Common,
}

/// Where a new tenant is to live.
#[derive(Debug, Args)]
struct Place {
    /// How it lives; as the installation's default says if not given, a copy as its original
    #[arg(long)]
    isolation: Option<IsolationWord>,
    /// Which of the installation's databases it is in: `home`, or a location that the servers are
    /// given; the server's default if not given, and a copy's original's
    #[arg(long, value_name = "NAME")]
    location: Option<String>,
    #[command(flatten)]
    defaults: Defaults,
}

impl Place {
    /// Has a command without a server know the defaults, or say that it must.
    fn settle(&self, common: &mut Common) -> Result<()> {
        common.target.defaults = self.defaults.clone();
        if self.location.is_none() { common.target.check_default() } else { Ok(()) }
    }

    fn parts(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let isolation = self.isolation.map(|word| Isolation::from(word).word().to_owned());
        let parts = [("isolation", isolation), ("location", self.location.clone())];
        parts.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

#[derive(Debug, Args)]
pub(super) struct ArchiveArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check an archive, and say what is in it and who has signed it; needs no server
    Show {
        /// The archive
        file: PathBuf,
        /// Write JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Say whose signature the installation's archives have: what others give by --trust
    Signer(Box<Common>),
}

pub(super) fn run(args: ArchiveArgs) -> Result<()> {
    match args.command {
        Command::Show { file, json } => show(&file, json),
        Command::Signer(common) => with(*common, |client, json| {
            let signer = client.call("GET", SIGNER, None)?;
            if json { print_json(&signer) } else { print(&(text(&signer, "public_key") + "\n")) }
        }),
    }
}

fn show(file: &Path, json: bool) -> Result<()> {
    let summary = inspect(file, BYTES_MAX)?;
    let shown = described(&summary);
    if json {
        return print_json(&shown);
    }
    let mut out = String::new();
    for key in ["blake3", "signed_by", "databases", "collections", "records"] {
        let _ = writeln!(out, "{key:<12} {}", text(&shown, key));
    }
    if !summary.is_operators {
        out.push_str(
            "without the weight and the settings: no key of an operator has exported it\n",
        );
    }
    print(&out)
}

fn described(summary: &Summary) -> Value {
    let counts = summary.counts;
    json!({
        "blake3": hex(&summary.hash),
        "signed_by": hex(&summary.signed_by),
        "databases": counts.databases,
        "collections": counts.collections,
        "records": counts.records,
        "by_operator": summary.is_operators,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn export(args: ExportArgs) -> Result<()> {
    let ExportArgs { name, all, to, force, common } = args;
    let Some(name) = name.filter(|_| !all) else {
        return with(common, |client, json| all::export(client, &to, force, json));
    };
    ensure!(force || !to.exists(), "{} is there already: say --force", to.display());
    with(common, |client, json| {
        let summary = export_one(client, &name, &to, force)?;
        if json {
            return print_json(&described(&summary));
        }
        let counts = summary.counts;
        print(&format!(
            "exported tenant {} to {}: {} databases, {} collections, {} records\n",
            printable(&name),
            to.display(),
            counts.databases,
            counts.collections,
            counts.records
        ))
    })
}

/// Exports a tenant to a file, which gets its name when all of it has come and was checked.
fn export_one(client: &Client, name: &str, to: &Path, force: bool) -> Result<Summary> {
    // In the same folder, so that giving it its name is one step.
    let folder = match to.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let made = NamedTempFile::new_in(folder);
    let mut file = made.with_context(|| format!("make a file in {}", folder.display()))?;
    let bar = bar(None);
    let mut told = |bytes| bar.inc(bytes);
    let came = client.download(name, "/v1/archive", file.as_file_mut(), &mut told);
    bar.finish_and_clear();
    came?;
    let summary = inspect(file.path(), BYTES_MAX).context("check what has come")?;
    file.as_file().sync_all().context("write the archive")?;
    let named = if force { file.persist(to) } else { file.persist_noclobber(to) };
    named.with_context(|| format!("give the archive its name {}", to.display()))?;
    Ok(summary)
}

pub(super) fn import(args: ImportArgs) -> Result<()> {
    let ImportArgs { name, all, from, trust, keep_limits, as_recorded, place, mut common } = args;
    if !as_recorded {
        place.settle(&mut common)?;
    }
    let mut asked: Vec<_> = place.parts().collect();
    asked.extend(trust.clone().map(|key| ("trust", key)));
    asked.extend(keep_limits.then(|| ("keep_limits", true.to_string())));
    let Some(name) = name.filter(|_| !all) else {
        return with(common, |client, json| {
            let order = all::Order { client, from: &from, trust, as_recorded, asked };
            order.import(json)
        });
    };
    with(common, |client, json| {
        let made = import_one(client, &name, &from, &asked)?;
        if json {
            return print_json(&made);
        }
        let records = &made["archive"]["records"];
        let plan = match made["tenant"]["plan"].as_str() {
            Some(plan) => format!("with the plan {}", printable(plan)),
            None => "without a plan".to_owned(),
        };
        print(&format!("imported tenant {}: {records} records, {plan}\n", printable(&name)))
    })
}

/// The part of a path that asks for something.
fn query(asked: &[(&str, String)]) -> String {
    let mut query = String::new();
    for (key, value) in asked {
        let sign = if query.is_empty() { '?' } else { '&' };
        let _ = write!(query, "{sign}{key}={}", segment(value));
    }
    query
}

/// Makes a tenant of the archive in a file.
fn import_one(client: &Client, name: &str, from: &Path, asked: &[(&str, String)]) -> Result<Value> {
    let shown = from.display();
    let file = File::open(from).with_context(|| format!("open {shown}"))?;
    let bytes = file.metadata().with_context(|| format!("open {shown}"))?.len();
    let bar = bar(Some(bytes));
    let sent = bar.clone();
    let to = format!("{}/import{}", path(name), query(asked));
    let made = client.upload(&to, file, bytes, move |read| {
        sent.inc(read);
        if read == 0 {
            sent.set_message("is checked and written");
        }
    });
    bar.finish_and_clear();
    made
}

pub(super) fn copy(args: CopyArgs) -> Result<()> {
    let CopyArgs { name, new_name, place, mut common } = args;
    place.settle(&mut common)?;
    if name == new_name {
        bail!("the copy needs another name");
    }
    let mut body = json!({ "name": new_name });
    for (key, value) in place.parts() {
        body[key] = value.into();
    }
    with(common, |client, json| {
        let bar = bar(None);
        bar.set_message("is copied");
        let made = client.wait_for(&format!("{}/copy", path(&name)), &body);
        bar.finish_and_clear();
        let made = made?;
        if json {
            return print_json(&made);
        }
        print(&format!("copied tenant {} → {}\n", printable(&name), printable(&new_name)))
    })
}

/// How far it is, on a terminal.
fn bar(total: Option<u64>) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = match total {
        Some(_) => "{bar:40} {bytes}/{total_bytes}  {msg}",
        None => "{spinner} {bytes} {msg}  {elapsed}",
    };
    let style = ProgressStyle::with_template(style).expect("the template is a constant");
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
