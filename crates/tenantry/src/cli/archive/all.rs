//! Every tenant of an installation, in a folder of archives with a signed list of them. One that
//! fails does not keep the others.

use super::{
    super::{
        client::Client,
        output::{print, print_json, printable},
        tenant::{listed, path},
    },
    SIGNER, described, export_one, hex, import_one,
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};
use tenantry::archive::signed_list;

/// Whose archive each file is, and who says so.
const LIST: &str = "tenants.jsonl";
/// Entries of a log that are read at once.
const PAGE: u64 = 1_000;

/// What became of the tenants.
#[derive(Default)]
struct Tally {
    done: u64,
    failed: u64,
    already: u64,
}

impl Tally {
    fn failed(&mut self, name: &str, error: &anyhow::Error) {
        eprintln!("tenant {}: {error:#}", printable(name));
        self.failed += 1;
    }

    fn end(&self, what: &str, json: bool) -> Result<()> {
        let Self { done, failed, already } = self;
        if json {
            print_json(&json!({ what: done, "failed": failed, "already_there": already }))?;
        } else {
            let rest = match already {
                0 => String::new(),
                more => format!(", {more} were there already"),
            };
            print(&format!("{what} {done} tenants{rest}\n"))?;
        }
        ensure!(*failed == 0, "{failed} tenants could not be {what}");
        Ok(())
    }
}

pub(super) fn export(client: &Client, to: &Path, force: bool, json: bool) -> Result<()> {
    let folder = to.display();
    fs::create_dir_all(to).with_context(|| format!("make the folder {folder}"))?;
    let path = to.join(LIST);
    if path.exists() && !force {
        bail!("{} is there already: say --force", path.display());
    }
    let mut list = File::create(&path).with_context(|| format!("write {}", path.display()))?;
    let (mut tally, mut hash) = (Tally::default(), blake3::Hasher::new());
    for tenant in listed(client)? {
        // There is nothing yet, or nothing any more.
        let is_none = ["provisioning", "deleting"].iter().any(|state| tenant["state"] == *state);
        let Some(name) = tenant["name"].as_str().filter(|_| !is_none) else { continue };
        // Names are data, and no names of files.
        let file = format!("{}.tar.gz", tenant["id"]);
        match export_one(client, name, &to.join(&file), force) {
            Ok(summary) => {
                let mut line = described(&summary);
                line["name"] = name.into();
                line["file"] = file.into();
                for key in ["isolation", "location"] {
                    line[key] = tenant[key].clone();
                }
                let mut text = line.to_string();
                text.push('\n');
                hash.update(text.as_bytes());
                list.write_all(text.as_bytes()).context("write the list")?;
                tally.done += 1;
            }
            Err(error) => tally.failed(name, &error),
        }
    }
    let body = json!({ "blake3": hash.finalize().to_hex().as_str() });
    let signature = client.call("POST", SIGNER, Some(&body)).context("have the list signed")?;
    writeln!(list, "{signature}").context("write the list")?;
    list.sync_all().context("write the list")?;
    tally.end("exported", json)
}

/// A folder that is to be imported.
pub(super) struct Order<'a> {
    pub(super) client: &'a Client,
    pub(super) from: &'a Path,
    /// Another installation whose lists and archives are taken.
    pub(super) trust: Option<String>,
    /// Each tenant is to be where and how it was.
    pub(super) as_recorded: bool,
    /// What is asked of every import.
    pub(super) asked: Vec<(&'static str, String)>,
}

impl Order<'_> {
    pub(super) fn import(&self, json: bool) -> Result<()> {
        let path = self.from.join(LIST);
        let shown = path.display();
        let list = fs::read(&path).with_context(|| format!("open {shown}"))?;
        let (by, lines) = signed_list(&list).with_context(|| shown.to_string())?;
        self.check_signer(&hex(&by)).with_context(|| shown.to_string())?;
        let mut tally = Tally::default();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value =
                serde_json::from_slice(line).with_context(|| format!("read {shown}"))?;
            let (Some(name), Some(file)) = (line["name"].as_str(), line["file"].as_str()) else {
                bail!("{shown}: a line without name and file");
            };
            // A list from elsewhere leads nowhere but to its own folder.
            if Path::new(file).file_name().is_none_or(|only| only != file) {
                bail!("{shown}: {:?} is no file of the folder", printable(file));
            }
            match self.one(name, &self.from.join(file), &line) {
                Ok(true) => tally.done += 1,
                Ok(false) => {
                    eprintln!("tenant {}: is there already", printable(name));
                    tally.already += 1;
                }
                Err(error) => tally.failed(name, &error),
            }
        }
        tally.end("imported", json)
    }

    /// Fails if nobody has signed the list who may say whose data a tenant gets.
    fn check_signer(&self, by: &str) -> Result<()> {
        if self.trust.as_deref().is_some_and(|trusted| trusted.eq_ignore_ascii_case(by)) {
            return Ok(());
        }
        let own = self.client.call("GET", SIGNER, None)?;
        ensure!(
            own["public_key"] == by,
            "it is signed by another installation; whoever trusts that one says --trust with its \
             public key, which is {by}"
        );
        Ok(())
    }

    /// Makes a tenant of its archive; false if it was made of that one before.
    fn one(&self, name: &str, file: &Path, line: &Value) -> Result<bool> {
        let hash = line["blake3"].as_str().context("its line has no hash")?;
        if let Some(tenant) = self.client.find(&path(name))? {
            ensure!(
                tenant["state"] != "provisioning" && self.is_from(name, hash, line)?,
                "there is one of this name already, and it was not made from this archive"
            );
            return Ok(false);
        }
        // The file that is sent must be the one that the list means.
        let mut asked = self.asked.clone();
        asked.push(("blake3", hash.to_owned()));
        if self.as_recorded {
            for key in ["isolation", "location"] {
                let word = line[key].as_str().with_context(|| format!("its line has no {key}"))?;
                ensure!(
                    (key, word) != ("location", "own"),
                    "it was in a database of its own: import it alone, and say where it is to be"
                );
                asked.push((key, word.to_owned()));
            }
        }
        import_one(self.client, name, file, &asked).map(|_| true)
    }

    /// True if the tenant's own log says that it was made from an archive with this hash.
    fn is_from(&self, name: &str, hash: &str, line: &Value) -> Result<bool> {
        let told = format!("archive {hash}");
        let is_it = |entry: &Value| {
            entry["action"] == "tenant.import"
                && entry["outcome"] == "done"
                && entry["target"] == told.as_str()
        };
        // That comes behind what has filled it, each part of which has one entry at most.
        let parts = ["databases", "collections", "records"].iter();
        let filled = parts.filter_map(|part| line[*part].as_u64()).fold(PAGE, u64::saturating_add);
        let mut after = 0;
        while after < filled {
            let page = format!("/v1/audit?after={after}&limit={PAGE}");
            let page = self.client.call_in(Some(name), "GET", &page, None)?;
            let entries = page["entries"].as_array().ok_or_else(|| anyhow!("read the answer"))?;
            if entries.iter().any(is_it) {
                return Ok(true);
            }
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => break,
            }
        }
        Ok(false)
    }
}
