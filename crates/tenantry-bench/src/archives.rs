//! Every tenant out of the server and in again: all archives of a second export must be those of
//! the first one, byte by byte. The times stand beside that of inserting the same records.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    http::{Connection, request},
    process::{empty_folder, output, tenantry_program},
    report::{self, Goal, Row},
    target::{Target, each},
    tenants::{Crowd, Tenants},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// Who inserts and deletes at once. Archives are written and read one after the other.
const CONNECTIONS: usize = 4;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    crowd: Crowd,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// The command line of the program, as an operator uses it.
struct Operator<'a> {
    program: &'a Path,
    server: String,
    key: &'a str,
}

impl Operator<'_> {
    /// Seconds that a command takes.
    fn run(&self, arguments: &[&str]) -> Result<f64> {
        let mut command = Command::new(self.program);
        command.args(["tenant"]).args(arguments).args(["--server", &self.server, "--json"]);
        let begun = Instant::now();
        output(command.env("TENANTRY_KEY", self.key))?;
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// Each tenant's archive in a folder.
fn archives(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let list = fs::read_to_string(folder.join("tenants.jsonl")).context("read the list")?;
    let mut all = BTreeMap::new();
    for line in list.lines() {
        let line: Value = serde_json::from_str(line)?;
        // The last line is the signature.
        if line.get("name").is_none() {
            continue;
        }
        let text = |key: &str| line[key].as_str().map(str::to_owned).context("an odd line");
        all.insert(text("name")?, fs::read(folder.join(text("file")?))?);
    }
    Ok(all)
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let tenants = options.crowd.tenants()?;
    let program = tenantry_program(options.program.as_deref())?;
    let count = tenants.all.len();
    println!("{count} tenants, {} records: {}", tenants.records(), tenants.origin);
    let target = Target::tenantry(&program, &tenants)?;
    let inserted = target.insert(&tenants.inserts(), CONNECTIONS)?;
    target.check_counts(&tenants)?;
    let (address, key) = target.operator.as_ref().context("the server has no operator")?;
    let operator = Operator { program: &program, server: format!("http://{address}"), key };
    let folder = empty_folder("archives")?;
    let path = |name: &str| folder.join(name).display().to_string();
    let (first, second) = (path("first"), path("second"));
    println!("inserted in {inserted:.1} s; exporting");
    let exported = operator.run(&["export", "--all", "--to", &first])?;
    let before = archives(&folder.join("first"))?;
    let bytes: u64 = before.values().map(|file| file.len() as u64).sum();
    ensure!(before.len() == count, "{} of {count} tenants were exported", before.len());
    println!("exported in {exported:.1} s, {:.0} MB; deleting all", bytes as f64 / 1e6);
    each(*address, CONNECTIONS, &tenants.all, |connection, tenant| {
        delete(connection, key, &tenant.name)
    })?;
    let imported = operator.run(&["import", "--all", "--from", &first])?;
    println!("imported in {imported:.1} s; exporting again");
    let again = operator.run(&["export", "--all", "--to", &second])?;
    let after = archives(&folder.join("second"))?;
    let same = before.iter().filter(|(name, file)| after.get(*name) == Some(*file)).count();
    println!("exported again in {again:.1} s: {same} of {count} archives are the same");
    ensure!(same == count && after.len() == count, "a second export differs");
    finish(&tenants, bytes, inserted, [exported, again, imported])
}

fn delete(connection: &mut Connection, key: &str, tenant: &str) -> Result<()> {
    let path = format!("/v1/admin/tenants/{tenant}");
    connection.send(&request("DELETE", &path, key, None))?.success()
}

fn finish(tenants: &Tenants, bytes: u64, inserted: f64, took: [f64; 3]) -> Result<()> {
    let [exported, again, imported] = took;
    let records = tenants.records() as f64;
    let row = |what: &str, seconds: &[f64]| Row {
        what: what.to_owned(),
        unit: "records/s",
        peer: "inserting".to_owned(),
        ours: seconds.iter().map(|seconds| records / seconds).collect(),
        theirs: vec![records / inserted; seconds.len()],
        goal: Goal::Shown,
    };
    let rows = [row("exporting", &[exported, again]), row("importing", &[imported])];
    let details = json!({
        "data": tenants.origin, "tenants": tenants.all.len(), "records": tenants.records(),
        "archive_bytes": bytes, "inserted_s": inserted, "exported_s": [exported, again],
        "imported_s": imported,
    });
    let points = [(1.0, inserted), (2.0, exported), (3.0, imported), (4.0, again)];
    let chart = Chart {
        title: "inserting, exporting, importing, exporting again".to_owned(),
        x: Axis { label: "step", scale: Scale::Linear },
        y: Axis { label: "seconds", scale: Scale::Linear },
        series: vec![Series { name: "all tenants".to_owned(), points: points.to_vec() }],
    };
    report::finish("archives", &rows, details, &chart)
}
