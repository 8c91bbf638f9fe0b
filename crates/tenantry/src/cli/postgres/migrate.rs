//! `tenantry postgres migrate`.

use super::admin_url;
use crate::{
    cli::{
        output::{print, print_json},
        runtime,
    },
    config::Secret,
};
use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::{IsTerminal, stderr};
use tenantry::postgres::{Progress, migrate};

/// Places between two plain lines.
const PLACES_PER_LINE: usize = 1_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Tables of tenants that have a schema or a database of their own are changed in small batches, each
wholly or not at all: it can be stopped and run again, also while servers run.

Example:
  TENANTRY_DATABASE_ADMIN_URL=postgresql://tenantry_admin:…@db.internal/tenantry \\
      tenantry postgres migrate")]
pub(super) struct MigrateArgs {
    /// URL of the admin role, as `tenantry postgres setup` printed it; better given by the variable
    #[arg(long, env = "TENANTRY_DATABASE_ADMIN_URL", value_name = "URL", hide_env_values = true)]
    database_admin_url: Option<Secret>,
    /// Write JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &MigrateArgs) -> Result<()> {
    let url = admin_url(args.database_admin_url.as_ref())?;
    let mut shown = Shown::new();
    let done = runtime()?.block_on(migrate(url, |progress| shown.tell(progress)));
    shown.finish();
    let done = done?;
    if args.json {
        return print_json(&json!({
            "version": done.version,
            "places": done.places,
            "changed": done.changed,
        }));
    }
    print(&format!(
        "tables have version {}: {} of {} schemas and databases of tenants were changed\n",
        done.version, done.changed, done.places
    ))
}

/// How far it is, on standard error: a bar on a terminal, plain lines elsewhere.
#[derive(Debug)]
struct Shown {
    bar: Option<ProgressBar>,
    told: usize,
}

impl Shown {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} places  {eta} left");
        let style = style.expect("the template is a constant");
        let bar = stderr().is_terminal().then(|| ProgressBar::new(0).with_style(style));
        Self { bar, told: 0 }
    }

    fn tell(&mut self, progress: Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.of as u64);
            bar.set_position(progress.done as u64);
        } else if progress.done - self.told >= PLACES_PER_LINE {
            self.told = progress.done;
            eprintln!("looked at {} of {} places", progress.done, progress.of);
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
