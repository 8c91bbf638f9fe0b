//! Very many tenants with schemas of their own, and many with databases: how fast they are made,
//! what the first request to one takes, and what a server with all of them takes.
//!
//! On files a schema is a space in a database that 64 tenants share, and only some databases are
//! open at a time; on PostgreSQL it is a schema and a role.

use crate::{
    catalog::{self, Catalog},
    chart::{Axis, Chart, Scale, Series},
    http::Connection,
    natives::{Installation, Key},
    postgres::Instance,
    process::{disk_bytes, empty_folder, tenantry_program},
    psycopg,
    report::{self, Goal, Row},
    server::Tenantry,
    statistics::percentile,
    target::each,
    tenants::{Choice, Record},
};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

const SETTINGS: [&str; 2] = ["shared_buffers=512MB", "max_connections=200"];
/// Numbers of tenants at which the first requests to some are measured, and the last one.
const STOPS: [usize; 3] = [10, 1_000, 10_000];
/// Of these the median is taken.
const TOUCHED: usize = 5;
/// Tenants between two lines about the progress.
const LINE: usize = 1_000;
/// Tenants whose data share a database on files.
const BUCKET: usize = 64;
const BATCH: usize = 100;
const MIB: f64 = 1_048_576.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Where the tenants live
    #[arg(long, value_enum, default_value_t = Backend::Postgres)]
    backend: Backend,
    /// How many tenants get a schema
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// How many get a database [default: 200 on PostgreSQL, 1000 on files]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    databases: Option<u32>,
    /// Connections that make tenants at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Tenants of each kind that get a record and are asked
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sample: u32,
    /// Records of each tenant in a full journal, of as many tenants as share one; only on files
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    journal: u32,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

impl Options {
    /// Records that one tenant with a database has in its journal: a sixteenth of what a bucket's
    /// has, because it is written out sooner.
    fn own_journal(&self) -> usize {
        self.journal as usize * BUCKET / 16
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    Postgres,
    Embedded,
}

/// What is needed to start the server again and again.
struct Site {
    program: PathBuf,
    folder: PathBuf,
    postgres: Option<(Instance, Installation)>,
}

impl Site {
    fn new(options: &Options) -> Result<Self> {
        let program = tenantry_program(options.program.as_deref())?;
        let postgres = match options.backend {
            Backend::Embedded => None,
            Backend::Postgres => {
                let instance = Instance::start_with(&psycopg::environment()?, &SETTINGS)?;
                let made = Installation::set_up(&program, &instance, catalog::DATABASE)?;
                Some((instance, made))
            }
        };
        Ok(Self { program, folder: empty_folder("server-schemas")?, postgres })
    }

    fn arguments(&self) -> Vec<&str> {
        self.postgres.as_ref().map(|(_, made)| made.arguments().to_vec()).unwrap_or_default()
    }

    fn start(&self) -> Result<Tenantry> {
        Tenantry::start_with(&self.program, &self.folder, &self.arguments())
    }

    /// What PostgreSQL has and takes now, which it prints too.
    fn catalog(&self) -> Result<Option<Catalog>> {
        let Some((instance, _)) = &self.postgres else { return Ok(None) };
        let catalog = Catalog::read(instance)?;
        catalog.print();
        Ok(Some(catalog))
    }

    fn restart(&self, operator_key: &str) -> Result<Tenantry> {
        let key = operator_key.to_owned();
        Tenantry::restart_with(&self.program, &self.folder, &self.arguments(), key)
    }
}

/// Milliseconds of one tenant's first and second requests; medians of a few tenants.
#[derive(Debug, Clone, Copy, Default)]
struct Touch {
    /// How many tenants there were.
    at: usize,
    collection: f64,
    write: [f64; 2],
    read: [f64; 2],
}

/// Tenants of one isolation.
#[derive(Debug)]
struct Group {
    isolation: &'static str,
    count: usize,
    /// How many there were, and how many were made a second since the last line.
    rates: Vec<(usize, f64)>,
    touches: Vec<Touch>,
    seconds: f64,
    /// Tenants with a record, spread over all.
    used: Vec<Key>,
}

/// Milliseconds of queries with one client.
#[derive(Debug, Default)]
struct Asked {
    /// Each tenant's first since the server started.
    first: Vec<f64>,
    same: Vec<f64>,
    /// To another tenant each time, all of which were asked before.
    another: Vec<f64>,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let site = Site::new(options)?;
    let records = &options.choice.one(options.own_journal().max(TOUCHED))?.all;
    let records = records.first().map(|one| one.records.as_slice()).context("no records")?;
    let server = site.start()?;
    let databases = options.databases.unwrap_or(match options.backend {
        Backend::Postgres => 200,
        Backend::Embedded => 1_000,
    });
    let mut groups = Vec::new();
    for (isolation, count) in [("schema", options.count), ("database", databases)] {
        groups.push(make(&server, isolation, count as usize, records, options)?);
    }
    let operator = server.operator_key.clone();
    let after_making = server.server.resident_bytes();
    let catalog_before = site.catalog()?;
    server.server.stop()?;
    let migrated = site.postgres.as_ref().map(|(_, made)| catalog::migrate(&site.program, made));
    let migrated = migrated.transpose()?;
    let server = site.restart(&operator)?;
    let ready = server.ready_after.as_secs_f64();
    let at_rest = server.server.resident_bytes();
    println!("restart: ready after {ready:.3} s, {:.1} MiB resident", at_rest as f64 / MIB);
    let vector = records.first().map(|one| one.vector.as_slice()).unwrap_or_default();
    let asked =
        groups.iter().map(|group| ask(&server, group, vector)).collect::<Result<Vec<_>>>()?;
    let catalog_after = site.catalog()?;
    let after_asking = server.server.resident_bytes();
    let mut details = json!({
        "backend": format!("{:?}", options.backend).to_lowercase(),
        "connections": options.connections, "ready_seconds": ready,
        "resident_mib_after_making": after_making as f64 / MIB,
        "resident_mib_at_rest": at_rest as f64 / MIB,
        "resident_mib_after_asking": after_asking as f64 / MIB,
        "groups": groups.iter().zip(&asked).map(group_json).collect::<Vec<_>>(),
    });
    details["more"] = match &site.postgres {
        Some((_, made)) => {
            server.server.stop()?;
            let [before, after] =
                [&catalog_before, &catalog_after].map(|one| one.as_ref().map(Catalog::json));
            json!({"catalog_after_making": before, "catalog_after_asking": after,
                "migrate_seconds": migrated, "second_migration": catalog::second_migration(made)?})
        }
        None => on_files(&site, server, &operator, records, options)?,
    };
    let name = match options.backend {
        Backend::Postgres => "schemas-postgres",
        Backend::Embedded => "schemas-embedded",
    };
    report::finish(name, &rows(&groups, &asked), details, &chart(&groups))
}

/// Makes tenants, looks at the newest ones now and then, and gives some a record.
fn make(
    server: &Tenantry,
    isolation: &'static str,
    count: usize,
    records: &[Record],
    options: &Options,
) -> Result<Group> {
    let names: Vec<_> = (0..count).map(|index| format!("{isolation}-{index:07}")).collect();
    let (mut rates, mut touches, mut seconds) = (Vec::new(), Vec::new(), 0.0);
    let mut untouched = Vec::new();
    for (from, to) in spans(count) {
        let started = Instant::now();
        let part = names.get(from..to).unwrap_or_default();
        each(server.native, options.connections.into(), part, |connection, name| {
            Key::make_tenant(connection, &server.operator_key, name, isolation)
        })?;
        let took = started.elapsed().as_secs_f64();
        seconds += took;
        rates.push((to, part.len() as f64 / took));
        println!("{to} of {count} with {isolation}: {:.0} a second", part.len() as f64 / took);
        let is_stop = STOPS.contains(&to) || to == count;
        let newest = if is_stop { part.len().saturating_sub(TOUCHED) } else { part.len() };
        let (before, newest) = part.split_at(newest);
        untouched.extend(before);
        if is_stop {
            let touch = touch(server, to, newest, records)?;
            println!("  first requests: {touch:.2?}");
            touches.push(touch);
        }
    }
    let sample = (options.sample as usize).min(untouched.len());
    let spread = |one| untouched.get(one * untouched.len() / sample);
    let chosen: Vec<_> = (0..sample).filter_map(spread).collect();
    let used = each(server.native, options.connections.into(), &chosen, |connection, name| {
        let key = Key::make(connection, &server.operator_key, name)?;
        key.make_collection(connection)?;
        connection.send(&key.add(records.get(..1).unwrap_or_default()))?.success()?;
        Ok(key)
    })?;
    Ok(Group { isolation, count, rates, touches, seconds, used })
}

/// From one line or stop to the next.
fn spans(count: usize) -> Vec<(usize, usize)> {
    let mut ends: Vec<_> = (1..=count / LINE).map(|line| line * LINE).chain(STOPS).collect();
    ends.push(count);
    ends.retain(|end| *end <= count);
    ends.sort_unstable();
    ends.dedup();
    std::iter::once(0).chain(ends.iter().copied()).zip(ends.iter().copied()).collect()
}

fn touch(server: &Tenantry, at: usize, names: &[String], records: &[Record]) -> Result<Touch> {
    let mut connection = Connection::open(server.native)?;
    let mut took: [Vec<f64>; 5] = Default::default();
    for name in names {
        let key = Key::make(&mut connection, &server.operator_key, name)?;
        let started = Instant::now();
        key.make_collection(&mut connection)?;
        took[0].push(millis(started));
        let record = |index: usize| records.get(index..=index).unwrap_or_default();
        let query = records.first().map(|one| key.query(&one.vector)).context("no records")?;
        let requests = [key.add(record(0)), query.clone(), key.add(record(1)), query];
        for (request, took) in requests.iter().zip(took.iter_mut().skip(1)) {
            let started = Instant::now();
            connection.send(request)?.success()?;
            took.push(millis(started));
        }
    }
    let [collection, write, read, again, reread] = took.map(|all| percentile(&all, 50.0));
    Ok(Touch { at, collection, write: [write, again], read: [read, reread] })
}

/// Asks the group's sample one by one; the server has just started.
fn ask(server: &Tenantry, group: &Group, vector: &[f32]) -> Result<Asked> {
    let mut connection = Connection::open(server.native)?;
    let mut pass = |keys: &mut dyn Iterator<Item = &Key>| {
        keys.map(|key| {
            let request = key.query(vector);
            let started = Instant::now();
            connection.send(&request)?.success()?;
            Ok(millis(started))
        })
        .collect::<Result<Vec<_>>>()
    };
    let used = &group.used;
    let first = pass(&mut used.iter())?;
    let another = pass(&mut used.iter().chain(used))?;
    let same = pass(&mut used.iter().take(1).cycle().take(used.len() * 2))?;
    let asked = Asked { first, same, another };
    let [first, another, same] =
        [&asked.first, &asked.another, &asked.same].map(|all| percentile(all, 50.0));
    println!(
        "{}: p50 of the first query {first:.2} ms, of another tenant each time {another:.2} ms, \
         of the same tenant {same:.2} ms",
        group.isolation
    );
    Ok(asked)
}

/// What only files have: bytes on disk, and journals that are read when a database is opened.
fn on_files(
    site: &Site,
    mut server: Tenantry,
    operator: &str,
    records: &[Record],
    options: &Options,
) -> Result<Value> {
    let data = site.folder.join("data");
    let size = |part: &Path| -> Result<f64> { Ok(disk_bytes(&data.join(part))? as f64 / MIB) };
    let mut result = json!({"disk_mib": size(Path::new(""))?,
        "buckets_mib": size(Path::new("buckets"))?, "own_mib": size(Path::new("own"))?});
    println!("on disk: {result}");
    let few = records.get(..(options.journal as usize).min(records.len())).unwrap_or_default();
    // Until those that follow have a bucket for themselves.
    let before = (options.count as usize).next_multiple_of(BUCKET) - options.count as usize;
    let before: Vec<_> = (0..before).map(|one| format!("before-journal-{one}")).collect();
    each(server.native, options.connections.into(), &before, |connection, name| {
        Key::make_tenant(connection, operator, name, "schema")
    })?;
    for (isolation, count, records) in [("schema", BUCKET, few), ("database", 1, records)] {
        let names: Vec<_> = (0..count).map(|one| format!("journal-{isolation}-{one}")).collect();
        let keys = each(server.native, options.connections.into(), &names, |connection, name| {
            Key::make_tenant(connection, operator, name, isolation)?;
            let key = Key::make(connection, operator, name)?;
            key.make_collection(connection)?;
            Ok(key)
        })?;
        each(server.native, options.connections.into(), &keys, |connection, key| {
            let mut batches = records.chunks(BATCH).map(|batch| key.add(batch));
            batches.try_for_each(|batch| connection.send(&batch)?.success())
        })?;
        // Killed: what is in memory is only in the journal.
        drop(server);
        server = site.restart(operator)?;
        let key = keys.last().context("no tenant")?;
        let mut connection = Connection::open(server.native)?;
        let opening = [(); 2].map(|()| {
            let started = Instant::now();
            connection.send(&key.count())?.success()?;
            anyhow::Ok(millis(started))
        });
        let [first, second] = opening;
        let (first, second, total) = (first?, second?, count * records.len());
        println!(
            "{isolation}, {total} records, killed: opened in {first:.1} ms (then {second:.2})"
        );
        result[format!("journal_{isolation}")] =
            json!({"records": total, "first_ms": first, "second_ms": second});
    }
    server.server.stop()?;
    Ok(result)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn group_json((group, asked): (&Group, &Asked)) -> Value {
    let touch = |one: &Touch| {
        json!({"tenants": one.at, "collection_ms": one.collection, "writes_ms": one.write,
            "reads_ms": one.read})
    };
    let times = |all: &[f64]| {
        json!({"p50_ms": percentile(all, 50.0), "p99_ms": percentile(all, 99.0),
            "requests": all.len()})
    };
    json!({
        "isolation": group.isolation, "count": group.count, "make_seconds": group.seconds,
        "make_per_second": group.rates, "first_requests": group.touches.iter().map(touch).collect::<Vec<_>>(),
        "first_query": times(&asked.first), "another_tenant": times(&asked.another),
        "same_tenant": times(&asked.same),
    })
}

/// Later tenants beside the first ones, and another tenant beside the same.
fn rows(groups: &[Group], asked: &[Asked]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (group, asked) in groups.iter().zip(asked) {
        let mut row = |what: String, unit, peer: &str, ours: Vec<f64>, theirs: Vec<f64>| {
            let what = format!("{}: {what}", group.isolation);
            rows.push(Row { what, unit, peer: peer.to_owned(), ours, theirs, goal: Goal::Shown });
        };
        let Some((first, later)) = group.touches.split_first() else { continue };
        let rate = |at: Option<&(usize, f64)>| at.map(|one| one.1).into_iter().collect();
        let thousand = group.rates.iter().find(|one| one.0 >= LINE);
        row("made".to_owned(), "a second", "up to 1,000", rate(group.rates.last()), rate(thousand));
        for one in later {
            let peer = format!("at {}", first.at);
            let mut beside = |what: &str, of: fn(&Touch) -> f64| {
                row(format!("{what} at {}", one.at), "ms", &peer, vec![of(one)], vec![of(first)]);
            };
            beside("first collection", |touch| touch.collection);
            beside("first write", |touch| touch.write[0]);
            beside("first read", |touch| touch.read[0]);
        }
        let p50 = |all: &[f64]| vec![percentile(all, 50.0)];
        let same = p50(&asked.same);
        row(
            "query, closed place, p50".to_owned(),
            "ms",
            "same tenant",
            p50(&asked.first),
            same.clone(),
        );
        row(
            "query, another tenant, p50".to_owned(),
            "ms",
            "same tenant",
            p50(&asked.another),
            same,
        );
    }
    rows
}

fn chart(groups: &[Group]) -> Chart {
    let series = |group: &Group| Series {
        name: group.isolation.to_owned(),
        points: group.rates.iter().map(|(at, rate)| (*at as f64, *rate)).collect(),
    };
    Chart {
        title: "tenants made a second".to_owned(),
        x: Axis { label: "tenants", scale: Scale::Linear },
        y: Axis { label: "a second", scale: Scale::Logarithmic },
        series: groups.iter().map(series).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_made_from_stop_to_stop() {
        assert_eq!(spans(5), [(0, 5)]);
        assert_eq!(spans(2_500), [(0, 10), (10, 1_000), (1_000, 2_000), (2_000, 2_500)]);
    }
}
