//! How long an exported audit log takes to verify, without a server.
//!
//! The log is written here by the published format (`docs/formats/embedded.md`), not by the code
//! that is measured, so that the two check each other.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    process::{empty_folder, output, tenantry_program},
    report::{self, Goal, Row},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// What a log may take, whose entries are a million.
const SECONDS_MAX: f64 = 5.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Entries of the log
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// How often it is verified
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// A built `tenantry` to run, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Writes a log; the hash of its last entry.
fn write(path: &Path, entries: u64) -> Result<String> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut previous = [0; 32];
    let (actor, action) = ("key:abcdefghijklmnop", "records.upsert");
    for sequence in 1..=entries {
        let (at, count) = (1_795_000_000_000 + sequence, sequence % 100);
        let target = format!("default/packages-{}", sequence % 40);
        let mut hasher = blake3::Hasher::new_derive_key("tenantry 2026-11 audit chain");
        hasher.update(&previous);
        hasher.update(&sequence.to_be_bytes());
        hasher.update(&at.to_be_bytes());
        for text in [actor, action, &target] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        // It was done.
        hasher.update(&[0]);
        hasher.update(&count.to_be_bytes());
        let hash = hasher.finalize();
        previous = *hash.as_bytes();
        let line = json!({
            "sequence": sequence, "at_ms": at, "actor": actor, "action": action,
            "target": target, "outcome": "done", "count": count, "hash": hash.to_hex().as_str(),
        });
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    Ok(blake3::Hash::from_bytes(previous).to_hex().to_string())
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = tenantry_program(options.program.as_deref())?;
    let path = empty_folder("audit")?.join("log.jsonl");
    let head = write(&path, options.entries)?;
    let bytes = fs::metadata(&path)?.len();
    println!("{} entries, {:.0} MB", options.entries, bytes as f64 / 1e6);
    let (mut verified, mut read) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let begun = Instant::now();
        ensure!(fs::read(&path)?.len() as u64 == bytes, "the log has changed");
        read.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        output(Command::new(&program).args(["audit", "verify", "--head", &head]).arg(&path))?;
        verified.push(begun.elapsed().as_secs_f64());
    }
    let wrong = "0".repeat(64);
    let mut refused = Command::new(&program);
    refused.args(["audit", "verify", "--head", &wrong]).arg(&path);
    ensure!(output(&mut refused).is_err(), "a log with another end was believed");
    fs::remove_file(&path).context("remove the log")?;
    let points = verified.iter().enumerate().map(|(n, seconds)| (n as f64 + 1.0, *seconds));
    let chart = Chart {
        title: "an audit log, verified".to_owned(),
        x: Axis { label: "round", scale: Scale::Linear },
        y: Axis { label: "seconds", scale: Scale::Linear },
        series: vec![Series { name: "verify".to_owned(), points: points.collect() }],
    };
    let row = Row {
        what: "verifying".to_owned(),
        unit: "s",
        peer: "reading the file".to_owned(),
        ours: verified,
        theirs: read,
        goal: Goal::Within(SECONDS_MAX * options.entries as f64 / 1e6),
    };
    report::finish("audit", &[row], json!({"entries": options.entries, "bytes": bytes}), &chart)
}
