//! Every tenant of an installation, in a folder of archives with a list of them. One that fails does
//! not keep the others.

use super::{
    super::{
        client::Client,
        output::{print, print_json, printable},
        tenant::listed,
    },
    described, export_one, import_one,
};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
};

/// Whose archive each file is.
const LIST: &str = "tenants.jsonl";

pub(super) fn export(client: &Client, to: &Path, force: bool, json: bool) -> Result<()> {
    let folder = to.display();
    fs::create_dir_all(to).with_context(|| format!("make the folder {folder}"))?;
    let path = to.join(LIST);
    if path.exists() && !force {
        bail!("{} is there already: say --force", path.display());
    }
    let mut list = File::create(&path).with_context(|| format!("write {}", path.display()))?;
    let (mut done, mut failed) = (0_u64, 0_u64);
    for tenant in listed(client)? {
        let Some(name) = tenant["name"].as_str().filter(|_| tenant["state"] != "provisioning")
        else {
            continue;
        };
        // Names are data, and no names of files.
        let file = format!("{}.tar.gz", tenant["id"]);
        match export_one(client, name, &to.join(&file), force) {
            Ok(summary) => {
                let mut line = described(&summary);
                line["name"] = name.into();
                line["file"] = file.into();
                writeln!(list, "{line}").context("write the list")?;
                done += 1;
            }
            Err(error) => {
                eprintln!("tenant {}: {error:#}", printable(name));
                failed += 1;
            }
        }
    }
    list.sync_all().context("write the list")?;
    end("exported", done, failed, json)
}

pub(super) fn import(client: &Client, from: &Path, query: &str, json: bool) -> Result<()> {
    let path = from.join(LIST);
    let list = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let (mut done, mut failed) = (0_u64, 0_u64);
    for line in BufReader::new(list).lines() {
        let line: Value = serde_json::from_str(&line.context("read the list")?)
            .with_context(|| format!("read {}", path.display()))?;
        let (Some(name), Some(file)) = (line["name"].as_str(), line["file"].as_str()) else {
            bail!("{}: a line without name and file", path.display());
        };
        // A list from elsewhere leads nowhere but to its own folder.
        if Path::new(file).file_name().is_none_or(|only| only != file) {
            bail!("{}: {:?} is no file of the folder", path.display(), printable(file));
        }
        match import_one(client, name, &from.join(file), query) {
            Ok(_) => done += 1,
            Err(error) => {
                eprintln!("tenant {}: {error:#}", printable(name));
                failed += 1;
            }
        }
    }
    end("imported", done, failed, json)
}

fn end(what: &str, done: u64, failed: u64, json: bool) -> Result<()> {
    if json {
        print_json(&json!({ what: done, "failed": failed }))?;
    } else {
        print(&format!("{what} {done} tenants\n"))?;
    }
    if failed == 0 { Ok(()) } else { bail!("{failed} tenants could not be {what}") }
}
