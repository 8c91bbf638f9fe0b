//! `tenantry import`: records from JSON lines into a collection.

mod lines;
mod progress;

use super::{
    client::{Client, Refusal, Target, WHICH_TENANT, segment},
    output::{print, print_json, printable},
};
use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use lines::{Batch, Batches};
use progress::Progress;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufReader, Read, stdin},
    path::{Path, PathBuf},
};
use tenantry::DEFAULT_DATABASE;

#[derive(Debug, Args)]
#[command(after_long_help = "\
A line is one record: a JSON object with `id` and any of `vector` (or `embedding`), `document`,
`metadata`, `uri`, without line breaks in it:

  {\"id\": \"a\", \"vector\": [0.1, 0.9], \"document\": \"…\", \"metadata\": {\"year\": 2026}}

A record whose id exists is updated, so an import can be run again.

Examples:
  tenantry import notes.jsonl --tenant acme --collection notes --create --metric cosine
  TENANTRY_KEY=tnt_… tenantry import notes.jsonl --collection notes --server http://127.0.0.1:7700
      With a key of the tenant, which needs no --tenant.
  zcat notes.jsonl.gz | tenantry import - --tenant acme --collection notes
  tenantry import notes.jsonl --tenant acme --collection notes --data-dir ./tenantry-data
      Straight into a folder that no server holds.")]
pub(super) struct ImportArgs {
    /// File with one JSON object a line; `-` for standard input
    file: PathBuf,
    /// The tenant; by default the one whose key is given
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The database
    #[arg(long, value_name = "NAME", default_value = DEFAULT_DATABASE)]
    database: String,
    /// The collection
    #[arg(long, value_name = "NAME")]
    collection: String,
    /// Make the collection if it does not exist
    #[arg(long)]
    create: bool,
    /// How vectors of a new collection are compared
    #[arg(long, value_enum, default_value_t = Metric::Cosine, requires = "create")]
    metric: Metric,
    /// Write JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Metric {
    /// 1 - cosine similarity
    Cosine,
    /// Squared Euclidean distance
    L2,
    /// 1 - inner product
    InnerProduct,
}

/// What an import did.
#[derive(Debug, Default, Serialize)]
pub(super) struct Imported {
    pub(super) records: usize,
    pub(super) inserted: u64,
    pub(super) updated: u64,
}

/// A collection of a tenant, as paths name it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) tenant: String,
    pub(super) database: String,
    pub(super) collection: String,
}

impl Place {
    fn collections(&self) -> String {
        format!("/v1/databases/{}/collections", segment(&self.database))
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collections(), segment(&self.collection))
    }

    /// Where records are written.
    pub(super) fn upsert_path(&self) -> String {
        format!("{}/records/upsert", self.path())
    }

    /// Where it is searched.
    pub(super) fn query_path(&self) -> String {
        format!("{}/records/query", self.path())
    }

    /// Makes the collection if it is not there.
    pub(super) fn create(&self, client: &Client, metric: Metric) -> Result<()> {
        let body = json!({ "name": self.collection, "metric": metric, "get_or_create": true });
        let made = client.call_in(Some(&self.tenant), "POST", &self.collections(), Some(&body));
        made.context("make the collection").map(drop)
    }
}

pub(super) fn run(args: ImportArgs) -> Result<()> {
    let (input, total): (Box<dyn Read>, _) = open(&args.file)?;
    let client = args.target.client()?;
    let metric = args.create.then_some(args.metric);
    let done = tenant(&client, args.tenant).and_then(|tenant| {
        let place = Place { tenant, database: args.database, collection: args.collection };
        let imported = import(&client, &place, metric, input, Progress::new(total))?;
        Ok((place, imported))
    });
    // Also after a failure: what waits is written then.
    let closed = client.close();
    let (place, imported) = done.and_then(|done| closed.map(|()| done))?;
    if args.json {
        return print_json(&serde_json::to_value(&imported)?);
    }
    print(&format!(
        "imported {} records into {}/{}/{}: {} new, {} updated\n",
        imported.records,
        printable(&place.tenant),
        printable(&place.database),
        printable(&place.collection),
        imported.inserted,
        imported.updated
    ))
}

/// The tenant that is named, or the one that the key belongs to.
fn tenant(client: &Client, named: Option<String>) -> Result<String> {
    match named {
        Some(name) => Ok(name),
        None => client.own_tenant()?.context(WHICH_TENANT),
    }
}

fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(stdin()), None));
    }
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let total = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
    Ok((Box::new(file), total))
}

fn import(
    client: &Client,
    place: &Place,
    create: Option<Metric>,
    input: Box<dyn Read>,
    mut progress: Progress,
) -> Result<Imported> {
    let mut imported = Imported::default();
    let mut batches = Batches::new(BufReader::with_capacity(1 << 20, input));
    if let Some(metric) = create {
        place.create(client, metric)?;
    }
    let done = loop {
        let sent = batches.next().and_then(|batch| match batch {
            Some(batch) => send(client, place, &batch, &mut imported).map(|()| Some(batch)),
            None => Ok(None),
        });
        match sent {
            Ok(Some(batch)) => progress.add(batch.bytes, batch.lines.len()),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    progress.finish();
    done.with_context(|| format!("stopped after {} records", imported.records))?;
    Ok(imported)
}

fn send(client: &Client, place: &Place, batch: &Batch, imported: &mut Imported) -> Result<()> {
    #[derive(Serialize)]
    struct Body<'a> {
        records: &'a [lines::Line],
    }
    let body = serde_json::to_string(&Body { records: &batch.lines })?;
    let tenant = Some(place.tenant.as_str());
    let answer = client
        .send("POST", tenant, &place.upsert_path(), body)
        .map_err(|error| place_error(error, batch))?;
    let count = |key| answer.get(key).and_then(Value::as_u64).unwrap_or(0);
    imported.records += batch.lines.len();
    imported.inserted += count("inserted");
    imported.updated += count("updated");
    Ok(())
}

/// Says which lines of the file a refusal is about, or how to get the collection that it misses.
fn place_error(error: anyhow::Error, batch: &Batch) -> anyhow::Error {
    let refusal = error.downcast_ref::<Refusal>();
    if refusal.is_some_and(|r| r.status == 404 && r.message.starts_with("Collection [")) {
        return anyhow!("{error:#} (--create makes it)");
    }
    let about = refusal.and_then(|r| batch.line_of(&r.message));
    match (about, batch.numbers.first(), batch.numbers.last()) {
        (Some(line), ..) => anyhow!("line {line}: {error:#}"),
        (None, Some(first), Some(last)) => anyhow!("lines {first} to {last}: {error:#}"),
        (None, ..) => error,
    }
}
