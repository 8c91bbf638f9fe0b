//! Durable inserts of full batches from a few clients: one tenant's batch after another's.
//!
//! The clock says how fast a server is on this machine with the generator beside it; the CPU time
//! that each side used says what limits it.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    postgres::Postgres,
    process::tenantry_program,
    report::{self, Goal, Row},
    server::tree_cpu_seconds,
    target::{self, Target},
    tenants::{Choice, Insert, Tenants},
};
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// How many tenants; their batches come in turn
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    tenants: u16,
    /// Batches in all
    #[arg(long, default_value_t = 960, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batches: u32,
    /// Records of a batch
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    batch: u16,
    /// Clients, each with a connection of its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Into how many parts the batches are cut; the servers take turns
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    parts: u16,
    /// Whom to measure beside Tenantry
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0.., default_values = ["pgvector"])]
    peers: Vec<Peer>,
    /// A built `tenantry` to start, instead of building one; more of them are peers of the first
    #[arg(long)]
    program: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// Chroma's own server
    Chroma,
    /// PostgreSQL with pgvector and row-level security
    Pgvector,
}

/// A server under measurement.
enum Server {
    Chroma(Target),
    Pgvector(Postgres),
}

/// A server and what was measured so far, a number for each part.
struct Contestant {
    name: String,
    server: Server,
    rates: Vec<f64>,
    /// CPU microseconds a record, of the server and of whoever sends.
    server_cpu: Vec<f64>,
    sender_cpu: Vec<f64>,
}

impl Contestant {
    fn new(name: &str, server: Server) -> Self {
        let (rates, server_cpu, sender_cpu) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.to_owned(), server, rates, server_cpu, sender_cpu }
    }

    fn cpu_seconds(&self) -> f64 {
        tree_cpu_seconds(match &self.server {
            Server::Chroma(target) => target.process(),
            Server::Pgvector(postgres) => postgres.process(),
        })
    }

    fn insert(&mut self, part: &[Insert], connections: usize) -> Result<()> {
        let records = part.iter().map(|one| one.records.len()).sum::<usize>() as f64;
        let before = self.cpu_seconds();
        let done = match &self.server {
            Server::Chroma(target) => target.insert_timed(part, connections)?,
            Server::Pgvector(postgres) => postgres.insert_timed(part, connections)?,
        };
        self.rates.push(records / done.seconds);
        self.server_cpu.push((self.cpu_seconds() - before) * 1e6 / records);
        self.sender_cpu.push(done.cpu_seconds * 1e6 / records);
        Ok(())
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "insert_per_second": self.rates,
            "server_cpu_us": self.server_cpu, "sender_cpu_us": self.sender_cpu,
        })
    }
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (count, batch) = (usize::from(options.tenants), usize::from(options.batch));
    let batches = (options.batches as usize).div_ceil(count);
    let tenants = options.choice.even(count, batches * batch)?;
    println!("{count} tenants, {batches} batches of {batch} each: {}", tenants.origin);
    let mut all = start(options, &tenants)?;
    let inserts = in_turn(&tenants, batch);
    println!("inserting over {} connections", options.connections);
    for part in inserts.chunks(inserts.len().div_ceil(options.parts.into()).max(1)) {
        for contestant in &mut all {
            contestant.insert(part, options.connections.into())?;
        }
    }
    for contestant in &all {
        if let Server::Chroma(target) = &contestant.server {
            target.check_counts(&tenants)?;
        }
    }
    let details = json!({
        "data": tenants.origin, "tenants": count, "records": tenants.records(), "batch": batch,
        "connections": options.connections,
        "servers": all.iter().map(Contestant::json).collect::<Vec<_>>(),
    });
    report::finish("insert", &rows(&all), details, &chart(&all))
}

/// The tenants' batches, the first of each, then the second of each.
fn in_turn(tenants: &Tenants, batch: usize) -> Vec<Insert> {
    let longest = tenants.all.iter().map(|tenant| tenant.records.len()).max().unwrap_or(0);
    let turns = (0..longest.div_ceil(batch)).flat_map(|turn| {
        tenants.all.iter().enumerate().filter_map(move |(tenant, of)| {
            let records = of.records.chunks(batch).nth(turn)?.to_vec();
            Some(Insert { tenant, records })
        })
    });
    turns.collect()
}

/// Tenantry first.
fn start(options: &Options, tenants: &Tenants) -> Result<Vec<Contestant>> {
    let mut all = Vec::new();
    let (first, others) = match options.program.split_first() {
        Some((first, others)) => (Some(first.as_path()), others),
        None => (None, [].as_slice()),
    };
    let program = tenantry_program(first)?;
    let ours = Target::tenantry(&program, tenants)?;
    all.push(Contestant::new("tenantry", Server::Chroma(ours)));
    for (number, other) in (2..).zip(others) {
        let folder = format!("server-tenantry-{number}");
        let target = Target::tenantry_in(&tenantry_program(Some(other))?, tenants, &folder, &[])?;
        all.push(Contestant::new(&format!("tenantry {number}"), Server::Chroma(target)));
    }
    if options.peers.is_empty() {
        return Ok(all);
    }
    let venv = target::environment()?;
    for kind in &options.peers {
        let (name, server) = match kind {
            Peer::Chroma => ("chroma", Server::Chroma(Target::chroma(&venv, tenants)?)),
            Peer::Pgvector => {
                ("pgvector + RLS", Server::Pgvector(Postgres::start(&venv, tenants)?))
            }
        };
        all.push(Contestant::new(name, server));
    }
    Ok(all)
}

fn rows(all: &[Contestant]) -> Vec<Row> {
    let Some((ours, peers)) = all.split_first() else { return Vec::new() };
    let row = |what: &str, unit, peer: &Contestant, number: fn(&Contestant) -> &Vec<f64>, goal| {
        let (ours, theirs) = (number(ours).clone(), number(peer).clone());
        Row { what: what.to_owned(), unit, peer: peer.name.clone(), ours, theirs, goal }
    };
    let rows_of = |peer: &Contestant| {
        let goal = match peer.server {
            Server::Pgvector(_) => Goal::AtLeast(3.0),
            Server::Chroma(_) => Goal::Shown,
        };
        [
            row("durable inserts", "records/s", peer, |one| &one.rates, goal),
            row("CPU of the server", "us/record", peer, |one| &one.server_cpu, Goal::Shown),
            row("CPU of the sender", "us/record", peer, |one| &one.sender_cpu, Goal::Shown),
        ]
    };
    peers.iter().flat_map(rows_of).collect()
}

fn chart(all: &[Contestant]) -> Chart {
    let series = |one: &Contestant| Series {
        name: one.name.clone(),
        points: (1..).zip(&one.rates).map(|(part, rate)| (f64::from(part), *rate)).collect(),
    };
    Chart {
        title: "durable inserts, part by part".to_owned(),
        x: Axis { label: "part", scale: Scale::Linear },
        y: Axis { label: "records a second", scale: Scale::Logarithmic },
        series: all.iter().map(series).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        choice: Choice,
    }

    #[test]
    fn batches_are_full_and_tenants_take_turns() {
        let tenants = Line::parse_from(["x"]).choice.even(3, 20).unwrap();
        let inserts = in_turn(&tenants, 10);
        assert_eq!(inserts.iter().map(|one| one.tenant).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        assert!(inserts.iter().all(|one| one.records.len() == 10));
        let ids = |of: usize| -> Vec<_> {
            let own = inserts.iter().filter(|one| one.tenant == of);
            own.flat_map(|one| &one.records).map(|record| &record.id).collect()
        };
        let all: std::collections::HashSet<_> = ids(1).into_iter().collect();
        assert_eq!(all.len(), 20);
    }
}
