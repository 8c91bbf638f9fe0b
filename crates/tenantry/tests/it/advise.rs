//! `tenantry tenant advise`, on a folder, on servers and on a database.

use crate::{
    installation::Installation,
    program::{Folder, Server, done, fails, run, tenantry, texts},
};
use serde_json::Value;
use std::fs;

/// A tenant with three records, on whatever these arguments lead to.
fn fill(to: &[&str], name: &str) {
    done(&[&["tenant", "create", name][..], to].concat());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    let lines: Vec<_> =
        (0..3).map(|n| format!("{{\"id\": \"{n}\", \"vector\": [1, {n}]}}\n")).collect();
    fs::write(&file, lines.concat()).unwrap();
    let file = file.display().to_string();
    let what = ["import", &file, "--collection", "notes", "--create", "--tenant", name];
    done(&[&what[..], to].concat());
}

fn advice(to: &[&str], args: &[&str]) -> Value {
    let command = [&["tenant", "advise"], args, to, &["--json"]].concat();
    serde_json::from_str(&done(&command)).unwrap()
}

fn place(advice: &Value) -> String {
    let of = |key: &str| advice["recommended"][key].as_str().unwrap().to_owned();
    ["isolation", "backend", "location"].map(of).join(" ")
}

#[test]
fn a_folder_and_its_server_give_the_same_advice() {
    let folder = Folder::new();
    let path = folder.path();
    let to = ["--data-dir", &path];
    let name = "a/../b?c=%2F é";
    fill(&to, name);
    let shown = done(&[&["tenant", "advise", name][..], &to].concat());
    for line in [
        "tenant       a/../b?c=%2F é",
        "recommended  shared, embedded, at home",
        "present      shared, embedded, at home",
        "from         tenants 1, databases 1, collections 1, records 3, most in a collection 3, \
         components 2",
        "  database if a regulator looks at it (compliance: regulated)",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    let args = [name, "--enterprise", "--load", "50", "--budget", "low"];
    let direct = advice(&to, &args);
    assert_eq!(place(&direct), "schema embedded home");
    let server = folder.serve(&[]);
    let to = ["--server", &server.url, "--key", &folder.key];
    assert_eq!(advice(&to, &args), direct);
    let all = [
        name,
        "--compliance",
        "contract",
        "--residency",
        "home",
        "--records",
        "10000000",
        "--dimension",
        "8",
        "--tenants",
        "7",
    ];
    let expected = advice(&to, &all);
    assert_eq!(place(&expected), "database embedded home");
    assert_eq!(expected["numbers"]["given"].as_array().unwrap().len(), 3);
    let own = advice(&to, &[name, "--own-database"]);
    assert_eq!(
        (place(&own).as_str(), &own["unmet"]),
        ("database postgres own", &Value::from([0; 0]))
    );
    let log = done(&[&["tenant", "show", name][..], &to].concat());
    assert!(log.contains("shared"), "nothing is changed");

    for (args, says) in [
        (&["nobody"][..], "does not exist"),
        (&[name, "--residency", "eu"], "no location eu"),
        (&[name, "--dimension", "0"], "dimension"),
        (&[name, "--tenants", "0"], "tenants"),
    ] {
        fails(&mut tenantry(&[&["tenant", "advise"], args, &to].concat()), &[says]);
    }
    for args in [&["--load", "101"][..], &["--compliance", "x"], &["--budget", "1"]] {
        assert_eq!(run(&[&["tenant", "advise", name], args, &to].concat()).0, 2);
    }
    let both = ["tenant", "advise", name, "--own-database", "--residency", "home"];
    assert_eq!(run(&[&both[..], &to].concat()).0, 2);
    let help = done(&["tenant", "advise", "--help"]);
    assert!(help.contains("Load and cost are not counted by anything yet"), "{help}");
    server.stop();
}

#[test]
fn the_record_of_a_decision_says_all_and_overwrites_nothing() {
    let folder = Folder::new();
    let path = folder.path();
    let to = ["--data-dir", &path];
    fill(&to, "a_b*");
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("adr.md").display().to_string();
    let args = ["tenant", "advise", "a_b*", "--compliance", "regulated", "--load", "20"];
    let command = [&args[..], &["--adr", &file], &to].concat();
    let shown = done(&command);
    assert!(shown.ends_with(&format!("\nwrote {file}\n")), "{shown}");
    let text = fs::read_to_string(&file).unwrap();
    let (head, body) = text.split_once("\n- Status").unwrap();
    let (title, date) = head.split_once("\n\n- Date: ").unwrap();
    assert_eq!(title, "# Where tenant a\\_b\\* lives");
    assert!(date.len() == 10 && date.starts_with("20") && date.matches('-').count() == 2, "{date}");
    assert_eq!(
        body,
        ": proposed

## Context

- It lives in: shared, embedded, at home.
- Counted: tenants 1, databases 1, collections 1, records 3, most in a collection 3, components 2.
- Said by the operator: compliance regulated, load\\_percent 20.

## Decision

It is to live in: database, embedded, at home.

## Reasons

- **stays**: its data stay at home: nothing demands another location. Source: Tenantry's guide to isolation.
- **regulated** asks for database: a regulator looks at it: separate databases are easiest to audit. Source: a guide to multi-tenant GenAI products: decision tree of isolation.
- **load** asks for schema: it makes 20 % of the machine's work: its neighbours feel it less apart. Source: a guide to isolation in vector databases: choosing a strategy.

## Consequences

- database: idle it costs a folder, in use an open database: for some hundreds of tenants at most.
- it can be moved there while it works: tenantry tenant move.

## What would change it

- schema, if no regulator looks at it.
"
    );
    fails(&mut tenantry(&command), &["adr.md exists, and is not overwritten: name another file"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let nowhere = out.path().join("no/adr.md").display().to_string();
    fails(&mut tenantry(&[&args[..], &["--adr", &nowhere], &to].concat()), &["write"]);
}

#[test]
fn on_postgres_it_knows_locations_graphs_and_who_can_make_places() {
    let (home, eu) = (Installation::new(), Installation::new());
    let operator = home.found();
    let mut command = home.command(&home.url, &[]);
    command.env("TENANTRY_LOCATION", format!("eu={}", eu.url));
    let server = Server::spawn(command.env("TENANTRY_DATABASE_ADMIN_URL", &home.admin_url));
    let to = ["--server", &server.url, "--key", &operator];
    fill(&to, "acme");
    done(&[&["tenant", "create", "apart", "--isolation", "schema"][..], &to].concat());

    let plain = advice(&to, &["acme"]);
    assert_eq!(place(&plain), "shared postgres home");
    assert_eq!(plain["numbers"]["records"], 3);
    assert_eq!(plain["numbers"]["dimension"], 2);
    assert!(plain["notes"].to_string().contains("20,000 records and more have no graph"));
    assert_eq!(place(&advice(&to, &["acme", "--records", "19999"])), "shared postgres home");
    assert_eq!(place(&advice(&to, &["acme", "--records", "20000"])), "schema postgres home");
    let wide = ["acme", "--records", "20000", "--dimension", "4001"];
    assert_eq!(place(&advice(&to, &wide)), "shared postgres home");
    assert_eq!(place(&advice(&to, &["acme", "--own-database"])), "database postgres own");
    let mut nowhere = tenantry(&[&["tenant", "advise", "acme"][..], &to].concat());
    let known = "those of this installation: home, eu";
    let (_, _, err) = texts(&nowhere.args(["--residency", "us"]).output().unwrap());
    assert!(err.trim_end().ends_with(known), "{err}");
    // Nobody has given this server the admin's URL of `eu`.
    let there = advice(&to, &["acme", "--residency", "eu", "--compliance", "regulated"]);
    assert_eq!(place(&there), "shared postgres eu");
    assert!(there["unmet"].to_string().contains("admin's URL"), "{there}");
    assert!(there["unmet"].to_string().contains("it could be at home"), "{there}");
    let apart = advice(&to, &["apart"]);
    assert_eq!(
        (&apart["numbers"]["databases"], &apart["numbers"]["tenants"]),
        (&1.into(), &2.into())
    );
    assert_eq!(apart["present"]["isolation"], "schema");
    assert_eq!(place(&apart), "shared postgres home");

    // On the database itself there is no admin either, and a tenant apart stays as it is.
    let keys = home.keys();
    let direct = ["--data-dir", &keys, "--database-url", &home.url];
    let told = advice(&direct, &["acme", "--enterprise"]);
    assert_eq!(place(&told), "shared postgres home");
    assert!(told["unmet"].to_string().contains("admin's URL"), "{told}");
    assert_eq!(place(&advice(&direct, &["apart", "--enterprise"])), "schema postgres home");
    for text in [plain.to_string(), there.to_string(), told.to_string(), server.stop()] {
        for url in [&home.url, &home.admin_url, &eu.url] {
            let password = url.split(['@', ':']).nth(2).unwrap();
            assert!(password.len() > 8 && !text.contains(&password[..8]), "{text}");
        }
    }
}
