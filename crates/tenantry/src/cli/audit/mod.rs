//! `tenantry audit`: logs for people and as files, and whether they can be believed.

mod file;
mod list;

use super::{
    output::{print, print_json, printable},
    tenant::{Common, with},
};
use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, Subcommand};
use file::{Log, hash};
use list::ListArgs;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// Entries that are asked for at once.
const PAGE: u64 = 10_000;

#[derive(Debug, Args)]
#[command(after_long_help = "\
Each line of an exported file is an entry as `GET /v1/audit` gives it. Verifying needs no server
and no key.
That entries are missing at the end shows only by a hash that was noted elsewhere: give it as
--head. Whose log it is, entries of version 1 do not say; later ones have an origin for that.

Examples:
  tenantry audit list acme --limit 20
      Without a name the operator's own log, or with a key of a tenant its log.
  tenantry audit list acme --since 2026-11-29T14:00:00Z --until 2026-11-29T15:00:00Z
  tenantry audit export acme --to acme.jsonl
      A key of the tenant needs no name.
  tenantry audit verify acme.jsonl
  tenantry audit verify acme.jsonl --head 5f0c...")]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the newest entries of a log, the last one last
    List(Box<ListArgs>),
    /// Write a tenant's audit log to a file, an entry a line
    Export(Box<ExportArgs>),
    /// Check that no entry of a file was changed, removed or put elsewhere
    Verify {
        /// What `tenantry audit export` has written
        file: PathBuf,
        /// The hash that the last entry must have, 64 hexadecimal digits
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
        /// Write JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// The tenant's name; by default the one whose key is given
    name: Option<String>,
    /// The same as the name, as most commands call it
    #[arg(long, value_name = "NAME", hide = true, conflicts_with = "name")]
    tenant: Option<String>,
    /// The file to make
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: AuditArgs) -> Result<()> {
    match args.command {
        Command::List(args) => list::run(*args),
        Command::Export(args) => export(*args),
        Command::Verify { file, head, json } => verify(&file, head.as_deref(), json),
    }
}

fn verify(file: &Path, head: Option<&str>, json: bool) -> Result<()> {
    let wanted = head.map(|text| hash(text).context("--head")).transpose()?;
    let shown = printable(&file.display().to_string());
    let input = File::open(file).with_context(|| format!("open {shown}"))?;
    let log = Log::read(&mut BufReader::with_capacity(1 << 16, input), wanted.as_ref())
        .with_context(|| format!("verify {shown}"))?;
    if json {
        // `origin` is what binds entries to a tenant; those of version 1 have none.
        let told = json!({
            "entries": log.entries(), "head": log.head(), "end_checked": wanted.is_some(),
            "origin": log.origin(),
        });
        return print_json(&told);
    }
    let end = match wanted {
        Some(_) => "The last entry is the one of --head.",
        None => "Whether entries are missing at the end is not known without --head.",
    };
    let whose = match log.origin() {
        Some(origin) => format!("The log is the one with the origin {origin}."),
        None => "Whose log this is, its entries do not say.".to_owned(),
    };
    print(&format!(
        "{} entries, unbroken; the last has hash {}\n{end}\n{whose}\n",
        log.entries(),
        log.head()
    ))
}

/// Writes whatever the server has, for a log that is broken is looked at too; the file gets its
/// name when all of it has come, and where it breaks is an error then.
fn export(args: ExportArgs) -> Result<()> {
    let ExportArgs { name, tenant, to, force, common } = args;
    let shown = printable(&to.display().to_string());
    ensure!(force || !to.exists(), "{shown} is there already: say --force");
    let folder = to.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    with(common, |client, json| {
        let name = match name.or(tenant) {
            Some(name) => name,
            None => client.own_tenant()?.context("say which tenant: audit export NAME")?,
        };
        let made = NamedTempFile::new_in(folder);
        let mut file = made.with_context(|| format!("make a file in {}", folder.display()))?;
        let mut output = BufWriter::new(file.as_file_mut());
        let (mut log, mut broken, mut lines) = (Log::new(), None, 0_u64);
        let mut after = Some(0);
        while let Some(from) = after {
            let path = format!("/v1/audit?after={from}&limit={PAGE}");
            let page = client.call_in(Some(&name), "GET", &path, None)?;
            let entries = page.get("entries").and_then(Value::as_array);
            for entry in entries.context("read the answer")? {
                let line = format!("{entry}\n");
                output.write_all(line.as_bytes()).context("write the file")?;
                lines += 1;
                // Behind a break nothing follows from anything.
                if broken.is_none() {
                    broken = log.follow(line.as_bytes()).err();
                }
            }
            after = page.get("next").and_then(Value::as_u64);
            // A server that says the same page again shall not fill the disk.
            ensure!(after.is_none_or(|next| next > from), "the server's pages do not end");
        }
        output.flush().context("write the file")?;
        drop(output);
        file.as_file().sync_all().context("write the file")?;
        let named = if force { file.persist(&to) } else { file.persist_noclobber(&to) };
        named.with_context(|| format!("give the file its name {shown}"))?;
        if let Some(why) = broken {
            let what = format!("{shown} has all {lines} entries, and they are not to be believed");
            return Err(anyhow!("{what}: {why:#}"));
        }
        if json {
            return print_json(&json!({ "entries": lines, "head": log.head() }));
        }
        let head = log.head();
        print(&format!("{lines} entries to {shown}; note the last one's hash elsewhere: {head}\n"))
    })
}
