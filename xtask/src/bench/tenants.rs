//! How many idle tenants one server carries: time to make them, to start with them, memory.

use super::{load::on_connections, report, target::create_tenant};
use crate::{
    ci::build_release,
    http::{Connection, request},
    server::{Server, Tenantry, disk_bytes, empty_folder},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use std::{path::Path, time::Instant};

const START_SECONDS_MAX: f64 = 1.0;
const RESIDENT_MIB_MAX: f64 = 100.0;
/// How often the filled server is started again.
const RESTARTS: u32 = 5;
const MIB: f64 = 1_048_576.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many tenants to make
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    count: u32,
    /// Connections that make tenants at the same time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    connections: u16,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = build_release()?;
    let folder = empty_folder("bench/many-tenants")?;
    let Tenantry { server, native, ready_after, .. } = Tenantry::start(&program, &folder, &[])?;
    let empty_start = ready_after.as_secs_f64();
    let empty_mib = server.resident_bytes()? as f64 / MIB;
    let operator = server.operator_key()?;
    let names: Vec<_> = (0..options.count).map(|index| format!("tenant-{index:07}")).collect();
    println!("making {} tenants over {} connections", options.count, options.connections);
    let made = Instant::now();
    on_connections(native, options.connections.into(), &names, |connection, name| {
        create_tenant(connection, &operator, name)
    })?;
    let made = made.elapsed().as_secs_f64();
    let after_making_mib = server.resident_bytes()? as f64 / MIB;
    stop(server)?;
    let restarts = (0..RESTARTS)
        .map(|_| restart(&program, &folder, &operator, &names))
        .collect::<Result<Vec<_>>>()?;
    // The worst of all counts: a server must always come back quickly.
    let ready = restarts.iter().map(|one| one.0).fold(0.0, f64::max);
    let resident_mib = restarts.iter().map(|one| one.1).fold(0.0, f64::max);
    let disk_mib = disk_bytes(&folder.join("data"))? as f64 / MIB;
    let per_second = f64::from(options.count) / made;
    println!(
        "made:     {made:.1} s ({per_second:.0}/s), {after_making_mib:.1} MiB resident after it"
    );
    println!(
        "restart:  {ready:.3} s to /readyz at worst of {RESTARTS} (empty {empty_start:.3} s; goal < {START_SECONDS_MAX} s)"
    );
    println!(
        "resident: {resident_mib:.1} MiB (empty {empty_mib:.1} MiB; goal < {RESIDENT_MIB_MAX} MiB)"
    );
    println!("on disk:  {disk_mib:.1} MiB");
    report::write(
        "tenants",
        &json!({
            "tenants": options.count,
            "make_seconds": made,
            "make_per_second": per_second,
            "resident_mib_after_making": after_making_mib,
            "ready_seconds": ready,
            "ready_seconds_of_each": restarts.iter().map(|one| one.0).collect::<Vec<_>>(),
            "ready_seconds_when_empty": empty_start,
            "resident_mib": resident_mib,
            "resident_mib_when_empty": empty_mib,
            "disk_mib": disk_mib,
            "reached": ready < START_SECONDS_MAX && resident_mib < RESIDENT_MIB_MAX,
        }),
    )
}

/// Starts the server on the filled folder, looks at a few tenants, and stops it: seconds until it
/// was ready, and resident MiB then.
fn restart(program: &Path, folder: &Path, operator: &str, names: &[String]) -> Result<(f64, f64)> {
    let Tenantry { server, native, ready_after, .. } = Tenantry::start(program, folder, &[])?;
    let resident_mib = server.resident_bytes()? as f64 / MIB;
    for name in [names.first(), names.get(names.len() / 2), names.last()].into_iter().flatten() {
        let path = format!("/v1/admin/tenants/{name}");
        Connection::open(native)?
            .send(&request("GET", &path, operator, None))?
            .success()
            .with_context(|| format!("{name} after the restart"))?;
    }
    stop(server)?;
    Ok((ready_after.as_secs_f64(), resident_mib))
}

fn stop(server: Server) -> Result<()> {
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status}");
    Ok(())
}
