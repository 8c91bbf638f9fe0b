//! `tenantry tenant move` and `moves`: a tenant goes to another place while it works.

use super::{
    client::{Client, Refusal},
    output::{print, print_json, printable, table, utc},
    tenant::{Common, path, text, with},
};
use crate::config::{BackendWord, IsolationWord};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _, stderr},
    thread::sleep,
    time::{Duration, Instant},
};
use tenantry::{Clock as _, ErrorKind, Isolation, SystemClock};

/// How often it is asked how far a move has come, and how often that is said where no terminal is.
const ASK_EVERY: Duration = Duration::from_millis(250);
const SAY_EVERY: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
#[command(after_long_help = "\
The tenant is copied in the background, compared row by row, and lives in the new place from one
moment to the next; its writes wait for some milliseconds then. The command shows how far that has
come, and ends when the old place is empty; it fails if the move fails or somebody cancels it. Ending
the command does not end the move: the server goes on, also after a restart. The same command, or
--follow, shows again how far it has come. On a data folder (--data-dir) the command does the work
itself, and whoever opens the folder next goes on where it was ended, the same command too.

Until the tenant lives in the new place the move can be cancelled; afterwards it can be moved back.
What was deleted in the old place may stay in its files until they are rewritten; it is sealed with
the tenant's key.

Examples:
  tenantry tenant move acme --isolation database
  tenantry tenant move acme --isolation schema --no-wait
  tenantry tenant move acme --status
  tenantry tenant move acme --follow
  tenantry tenant move acme --cancel")]
pub(super) struct MoveArgs {
    /// The tenant's name
    name: String,
    /// How it is to live
    #[arg(long)]
    isolation: Option<IsolationWord>,
    /// Where it is to live: `home`, or one of the servers' locations; as now if not given
    #[arg(long, value_name = "NAME")]
    location: Option<String>,
    /// Which backend keeps that place; the location says it already, and a move is refused if it is
    /// another one
    #[arg(long, value_name = "BACKEND", conflicts_with_all = ["cancel", "status"])]
    backend: Option<BackendWord>,
    /// End once the server knows of it, or with --cancel that it is to be cancelled
    #[arg(long, conflicts_with = "status")]
    no_wait: bool,
    /// Wait for the move that is under way, wherever it leads
    #[arg(
        long,
        conflicts_with_all = ["isolation", "location", "backend", "no_wait", "cancel", "status"]
    )]
    follow: bool,
    /// Let the tenant stay where it is
    #[arg(long, conflicts_with_all = ["isolation", "location", "status"])]
    cancel: bool,
    /// Only say how far the move has come that is under way, or how the last one ended
    #[arg(long, conflicts_with_all = ["isolation", "location"])]
    status: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: MoveArgs) -> Result<()> {
    let path = format!("{}/move", path(&args.name));
    let mut body = json!({});
    if let Some(isolation) = args.isolation {
        body["isolation"] = Isolation::from(isolation).word().into();
    }
    if let Some(location) = args.location {
        body["location"] = location.into();
    }
    let is_asked = args.cancel || args.status || args.follow;
    if !is_asked && body == json!({}) {
        bail!("say where to: --isolation, --location, or both");
    }
    if let Some(backend) = args.backend {
        body["backend"] = backend.word().into();
    }
    let since = SystemClock.now().0;
    with(args.common, |client, json| {
        let begun = match (args.status || args.follow, args.cancel) {
            (true, _) => client.call("GET", &path, None)?,
            (_, true) => client.call("DELETE", &path, None)?,
            _ => match client.call("POST", &path, Some(&body)) {
                Ok(begun) => begun,
                Err(why) => join(client, (path.as_str(), &body), since, why)?,
            },
        };
        if args.status || args.no_wait {
            return show(&begun, json);
        }
        let ended = follow(client, &path, begun, json)?;
        show(&ended, json)?;
        match text(&ended, "phase").as_str() {
            "failed" => bail!("the tenant stays where it was: {}", text(&ended, "error")),
            // Whoever waited for it does not go on as if it had been moved.
            "cancelled" if !args.cancel => bail!("the move was cancelled"),
            _ => Ok(()),
        }
    })
}

/// Somebody has asked for the same before, or this command has and was ended. What is under way is
/// followed then, and what was done since the command began is what it was to do: a folder's move goes
/// on as soon as it is opened. Everything else stays refused.
fn join(
    client: &Client,
    (path, body): (&str, &Value),
    since: u64,
    why: anyhow::Error,
) -> Result<Value> {
    let is = |kind| why.downcast_ref().is_some_and(|why: &Refusal| why.is(kind));
    let (is_conflict, is_invalid) = (is(ErrorKind::Conflict), is(ErrorKind::Invalid));
    if !is_conflict && !is_invalid {
        return Err(why);
    }
    let Some(status) = client.find(path)? else { return Err(why) };
    let leads_there = ["isolation", "location"].into_iter().all(|field| {
        let asked = body.get(field).unwrap_or(&status["from"][field]);
        status["to"][field] == *asked
    });
    let is_under_way = is_conflict && status["over"] != true && status["phase"] != "undoing";
    let ended = status["ended_at_ms"].as_u64();
    let is_done = status["phase"] == "done" && ended.is_some_and(|at| at >= since);
    if !leads_there || !(is_under_way || is_done) {
        return Err(why);
    }
    if is_under_way {
        let name = printable(&text(&status, "tenant"));
        eprintln!("{name} is being moved there already; this is how far that has come");
    }
    Ok(status)
}

/// Asks until the move is over, and says how far it has come.
fn follow(client: &Client, path: &str, mut status: Value, json: bool) -> Result<Value> {
    let is_terminal = stderr().is_terminal();
    let (mut said, mut at) = (String::new(), Instant::now());
    while status["over"] != true {
        let line = progress(&status);
        // A line of its own says also that nothing is new: whoever reads a log knows that it goes on.
        let is_due = said.is_empty() || at.elapsed() >= SAY_EVERY;
        if !json && (is_due || (is_terminal && line != said)) {
            let mut err = stderr().lock();
            if is_terminal {
                write!(err, "\r\x1b[K{line}")?;
            } else {
                writeln!(err, "{line}")?;
            }
            err.flush()?;
            (said, at) = (line, Instant::now());
        }
        sleep(ASK_EVERY);
        let now = client.call("GET", path, None)?;
        check_same(&status, &now)?;
        status = now;
    }
    if is_terminal && !json && !said.is_empty() {
        write!(stderr(), "\r\x1b[K")?;
    }
    Ok(status)
}

/// Fails if a tenant's move is not the one that it was: how that has ended nobody knows then.
fn check_same(before: &Value, now: &Value) -> Result<()> {
    if before["begun_at_ms"] != now["begun_at_ms"] {
        bail!("another move was begun, and how this one has ended is not known: see --status");
    }
    Ok(())
}

/// How far a move has come, on one line.
fn progress(status: &Value) -> String {
    let number = |field: &str| status[field].as_f64().unwrap_or(0.0);
    let phase = text(status, "phase");
    let (field, verb) = match phase.as_str() {
        "checking" if status["records_compared"].is_u64() => ("records_compared", " compared"),
        _ => ("records_copied", ""),
    };
    let (records, total) = (&status[field], &status["records_total"]);
    let mut line = format!("{}: {records} of {total} records{verb}", phase.replace('_', " "));
    let rate = number("records_per_second");
    if rate >= 1.0 && matches!(phase.as_str(), "copying" | "checking") {
        let _ = write!(line, ", {rate:.0}/s");
    }
    if status["seconds_left"].is_number() {
        let _ = write!(line, ", {:.0} s left", number("seconds_left").ceil());
    }
    if let Some(error) = status["error"].as_str() {
        let _ = write!(line, " (is tried again: {})", printable(error));
    }
    line
}

fn place(place: &Value) -> String {
    match text(place, "location").as_str() {
        "home" => text(place, "isolation"),
        location => format!("{} at {location}", text(place, "isolation")),
    }
}

fn show(status: &Value, json: bool) -> Result<()> {
    if json {
        return print_json(status);
    }
    let name = printable(&text(status, "tenant"));
    let way = format!("{} → {}", place(&status["from"]), place(&status["to"]));
    if status["over"] != true {
        return print(&format!("{name}: {way}, {}\n", progress(status)));
    }
    let ended = utc(&status["ended_at_ms"]);
    let pause = status["longest_pause_ms"].as_f64().unwrap_or(0.0);
    let pause = format!("{pause:.1} ms longest pause of writes");
    print(&match text(status, "phase").as_str() {
        "done" => {
            let records = &status["records_copied"];
            format!("{name}: {way}, done {ended}: {records} records copied, {pause}\n")
        }
        phase => {
            let why = printable(&text(status, "error"));
            let why = if why.is_empty() { why } else { format!("; {why}") };
            format!("{name}: {way}, {phase} {ended}: it is where it was{why}\n")
        }
    })
}

/// Lists moves that are not over.
pub(super) fn list(client: &Client, json: bool) -> Result<()> {
    let found = client.call("GET", "/v1/admin/moves", None)?;
    if json {
        return print_json(&found["moves"]);
    }
    let all = found["moves"].as_array().context("read the answer")?;
    let row = |one: &Value| {
        let name = printable(&text(one, "tenant"));
        vec![name, place(&one["from"]), place(&one["to"]), progress(one), utc(&one["begun_at_ms"])]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    print(&table(&["TENANT", "FROM", "TO", "PHASE", "BEGUN"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_move_is_not_followed_as_if_it_were_the_same() {
        let status = |at: u64, phase: &str| json!({"begun_at_ms": at, "phase": phase});
        assert!(check_same(&status(1, "copying"), &status(1, "done")).is_ok());
        assert!(check_same(&status(1, "copying"), &status(2, "done")).is_err());
    }

    #[test]
    fn progress_is_that_of_what_is_being_done() {
        let told = |phase: &str, compared: Value| {
            progress(&json!({
                "phase": phase, "records_copied": 9, "records_compared": compared,
                "records_total": 10, "records_per_second": 3.0, "seconds_left": 1.2,
            }))
        };
        let null = Value::Null;
        assert_eq!(told("copying", null.clone()), "copying: 9 of 10 records, 3/s, 2 s left");
        let checking = told("checking", json!(4));
        assert_eq!(checking, "checking: 4 of 10 records compared, 3/s, 2 s left");
        // Servers from before this say nothing of it.
        assert_eq!(told("checking", null), "checking: 9 of 10 records, 3/s, 2 s left");
        let queued = json!({"phase": "catching_up", "records_copied": 0, "records_total": 0});
        assert_eq!(progress(&queued), "catching up: 0 of 0 records");
    }
}
