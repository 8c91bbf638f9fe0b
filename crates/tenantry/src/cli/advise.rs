//! `tenantry tenant advise`: where a tenant should live, and why; as a record of the decision if
//! asked.

use super::{
    client::{Client, segment},
    output::{print, print_json, printable, utc},
    tenant::{Common, path, text, with},
};
use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};
use tenantry::{Clock as _, SystemClock};

#[derive(Debug, Args)]
#[command(after_long_help = "\
What the tenant has is read: its databases, collections, records and vectors, its place, and how
many tenants there are. Its audit log says so. Load and cost are not counted by anything yet, so
they are what the flags say; without them they are none and usual. What can be made is what the
server can make: on a database (--database-url) this command can make shared tenants only, so ask
a server.

Examples:
  tenantry tenant advise acme
  tenantry tenant advise acme --compliance regulated --adr docs/adr/0007-acme.md
  tenantry tenant advise acme --records 5000000 --dimension 768 --load 20")]
pub(super) struct AdviseArgs {
    /// The tenant's name
    name: String,
    /// What a law or a contract demands
    #[arg(long, value_enum, default_value_t)]
    compliance: Compliance,
    /// It is one of the customers who pay for more
    #[arg(long)]
    enterprise: bool,
    /// Its part of the machine's work in per cent; not measured yet, so none if not given
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    load: u8,
    /// What its place may cost
    #[arg(long, value_enum, default_value_t)]
    budget: Budget,
    /// Its data must be in a database that it carries
    #[arg(long, conflicts_with = "residency")]
    own_database: bool,
    /// Where its data must be: `home`, or one of the servers' locations
    #[arg(long, value_name = "NAME")]
    residency: Option<String>,
    /// Records to expect, instead of those that it has, in one collection
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    /// Components of vectors to expect
    #[arg(long, value_name = "N")]
    dimension: Option<u32>,
    /// Tenants to expect, instead of those that there are
    #[arg(long, value_name = "N")]
    tenants: Option<u64>,
    /// Write it as a record of the decision, in Markdown; a file that exists is not overwritten
    #[arg(long, value_name = "FILE")]
    adr: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Compliance {
    /// Nothing beyond what every tenant has
    #[default]
    None,
    /// A contract says that its data lie apart
    Contract,
    /// A regulator looks at it
    Regulated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Budget {
    /// As little as can be
    Low,
    /// What its needs cost
    #[default]
    Usual,
    /// More than its needs cost
    High,
}

fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// What the flags say that is not the default, by its name in the protocol.
fn said(args: &AdviseArgs) -> Vec<(&'static str, String)> {
    let numbers = [
        ("records", args.records),
        ("dimension", args.dimension.map(u64::from)),
        ("tenants", args.tenants),
    ];
    [
        ("compliance", (args.compliance != Compliance::None).then(|| word(args.compliance))),
        ("enterprise", args.enterprise.then(|| "true".to_owned())),
        ("load_percent", (args.load > 0).then(|| args.load.to_string())),
        ("budget", (args.budget != Budget::Usual).then(|| word(args.budget))),
        ("own_database", args.own_database.then(|| "true".to_owned())),
        ("residency", args.residency.clone()),
    ]
    .into_iter()
    .chain(numbers.map(|(name, number)| (name, number.map(|number| number.to_string()))))
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

pub(super) fn run(args: AdviseArgs) -> Result<()> {
    let said = said(&args);
    if let Some(file) = args.adr.as_deref().filter(|file| file.exists()) {
        return Err(exists(file));
    }
    with(args.common, |client, json| {
        let advice = ask(client, &args.name, &said)?;
        if let Some(file) = &args.adr {
            let now = utc(&json!(SystemClock.now().0));
            write(file, &record(&advice, &said, now.split(' ').next().unwrap_or_default()))?;
        }
        if json {
            return print_json(&advice);
        }
        let mut shown = show(&advice);
        if let Some(file) = &args.adr {
            let _ = writeln!(shown, "\nwrote {}", file.display());
        }
        print(&shown)
    })
}

fn ask(client: &Client, name: &str, said: &[(&str, String)]) -> Result<Value> {
    let query: Vec<_> =
        said.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
    client.call("GET", &format!("{}/advice?{}", path(name), query.join("&")), None)
}

fn exists(file: &Path) -> anyhow::Error {
    anyhow!(
        "{} exists, and is not overwritten: name another file, or remove this one",
        file.display()
    )
}

/// Writes a new file, or none.
fn write(file: &Path, content: &str) -> Result<()> {
    let mut out = match OpenOptions::new().write(true).create_new(true).open(file) {
        Err(why) if why.kind() == ErrorKind::AlreadyExists => {
            return Err(exists(file));
        }
        out => out.with_context(|| format!("write {}", file.display()))?,
    };
    let written = out.write_all(content.as_bytes()).and_then(|()| out.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(file);
    }
    written.with_context(|| format!("write {}", file.display()))
}

/// The elements of a list of the answer.
fn all<'a>(advice: &'a Value, key: &str) -> &'a [Value] {
    advice[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A place in words.
fn place(place: &Value) -> String {
    let [isolation, backend, location] =
        ["isolation", "backend", "location"].map(|key| one_line(&text(place, key)));
    format!("{isolation}, {backend}, at {location}")
}

/// Text of elsewhere on one line.
fn one_line(text: &str) -> String {
    printable(text).replace('\n', " ")
}

fn plain(value: &Value) -> String {
    one_line(value.as_str().unwrap_or_default())
}

fn show(advice: &Value) -> String {
    let mut out = format!("tenant       {}\n", one_line(&text(advice, "tenant")));
    let _ = writeln!(out, "recommended  {}", place(&advice["recommended"]));
    let _ = writeln!(out, "present      {}", place(&advice["present"]));
    let _ = writeln!(out, "from         {}", numbers(advice));
    let _ = writeln!(out, "\nWhy");
    for reason in all(advice, "reasons") {
        let [rule, isolation, says, source] =
            ["rule", "isolation", "says", "source"].map(|key| one_line(&text(reason, key)));
        let _ = writeln!(out, "  {rule:<12} {isolation:<8} {says}\n{:<24}[{source}]", "");
    }
    for (title, key) in [("Not possible here", "unmet"), ("To know", "notes")] {
        for (at, line) in all(advice, key).iter().enumerate() {
            let title = if at == 0 { format!("\n{title}\n") } else { String::new() };
            let _ = writeln!(out, "{title}  {}", plain(line));
        }
    }
    for (at, change) in all(advice, "changes").iter().enumerate() {
        let title = if at == 0 { "\nWhat would change it\n" } else { "" };
        let [isolation, when] = ["isolation", "when"].map(|key| one_line(&text(change, key)));
        let _ = writeln!(out, "{title}  {isolation:<8} if {when}");
    }
    out
}

/// What it was worked out from, in words.
fn numbers(advice: &Value) -> String {
    let numbers = &advice["numbers"];
    let is_given = |key: &str| all(numbers, "given").iter().any(|given| given == key);
    let part = |(key, word): (&str, &str)| {
        let given = if is_given(key) { " (given)" } else { "" };
        (!numbers[key].is_null())
            .then(|| format!("{word} {}{given}", one_line(&text(numbers, key))))
    };
    let parts = [
        ("tenants", "tenants"),
        ("databases", "databases"),
        ("collections", "collections"),
        ("records", "records"),
        ("largest_collection", "most in a collection"),
        ("dimension", "components"),
    ];
    parts.into_iter().filter_map(part).collect::<Vec<_>>().join(", ")
}

/// Text of elsewhere as Markdown that shows it as it is.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in one_line(text).chars() {
        if "\\`*_[]<>|#&~!".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The decision as a document.
fn record(advice: &Value, said: &[(&str, String)], date: &str) -> String {
    let name = escaped(&text(advice, "tenant"));
    let mut out = format!("# Where tenant {name} lives\n\n- Date: {date}\n- Status: proposed\n");
    let _ = writeln!(out, "\n## Context\n");
    let _ = writeln!(out, "- It lives in: {}.", escaped(&place(&advice["present"])));
    let _ = writeln!(out, "- Counted: {}.", escaped(&numbers(advice)));
    let words: Vec<_> = said.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let words = if words.is_empty() { "nothing".into() } else { words.join(", ") };
    let _ = writeln!(out, "- Said by the operator: {}.", escaped(&words));
    let _ = writeln!(out, "\n## Decision\n");
    let (to, stays) = (place(&advice["recommended"]), advice["recommended"] == advice["present"]);
    let verb = if stays { "stays in" } else { "is to live in" };
    let _ = writeln!(out, "It {verb}: {}.", escaped(&to));
    let _ = writeln!(out, "\n## Reasons\n");
    for reason in all(advice, "reasons") {
        let [rule, isolation, says, source] =
            ["rule", "isolation", "says", "source"].map(|key| escaped(&text(reason, key)));
        let asks = if isolation.is_empty() { isolation } else { format!(" asks for {isolation}") };
        let _ = writeln!(out, "- **{rule}**{asks}: {says}. Source: {source}.");
    }
    for (title, key) in [("Not met", "unmet"), ("Consequences", "notes")] {
        for (at, line) in all(advice, key).iter().enumerate() {
            let title = if at == 0 { format!("\n## {title}\n\n") } else { String::new() };
            let _ = writeln!(out, "{title}- {}.", escaped(&plain(line)));
        }
    }
    for (at, change) in all(advice, "changes").iter().enumerate() {
        let title = if at == 0 { "\n## What would change it\n\n" } else { "" };
        let [isolation, when] = ["isolation", "when"].map(|key| escaped(&text(change, key)));
        let _ = writeln!(out, "{title}- {isolation}, if {when}.");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_in_markdown_as_they_are() {
        assert_eq!(escaped("a*b_[c](d)<e>\n# f\u{1b}"), "a\\*b\\_\\[c\\](d)\\<e\\> \\# f\\\\u{1b}");
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("adr.md");
        write(&file, "one").unwrap();
        assert!(
            write(&file, "two").unwrap_err().to_string().contains("not overwritten: name another")
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        #[cfg(unix)]
        {
            let link = folder.path().join("link.md");
            std::os::unix::fs::symlink(folder.path().join("target.md"), &link).unwrap();
            write(&link, "two").unwrap_err();
            assert!(!folder.path().join("target.md").exists());
        }
        write(&folder.path().join("no/such/folder.md"), "x").unwrap_err();
    }
}
