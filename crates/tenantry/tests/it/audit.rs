//! `tenantry audit`: logs for people, and as files, looked at by whoever has nothing else.

use crate::{
    commands::{Target, on_all},
    desk::Desk,
    program::{Folder, done, fails, run, tenantry},
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    thread,
};

impl Desk {
    /// A file with these entries.
    fn write(&self, name: &str, entries: &[Value]) -> String {
        let mut lines = String::new();
        for entry in entries {
            writeln!(lines, "{entry}").unwrap();
        }
        fs::write(self.path(name), lines).unwrap();
        self.text(name)
    }

    fn read(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Exports the log of a new tenant with some entries.
    fn log(&self, target: &Target, tenant: &str) -> Vec<Value> {
        target.done(&["tenant", "create", tenant]);
        for label in ["one", "two", "three"] {
            target.done(&["key", "create", "--tenant", tenant, "--label", label]);
        }
        target.done(&["audit", "export", tenant, "--to", &self.text(tenant)]);
        let log = self.read(tenant);
        assert!(log.len() > 3, "{log:?}");
        log
    }
}

fn refused(file: &str, words: &[&str]) {
    fails(&mut tenantry(&["audit", "verify", file]), words);
}

#[test]
fn a_log_is_exported_and_verified_without_a_server() {
    on_all(|target| {
        let desk = Desk::new();
        let log = desk.log(target, "acme");
        let file = desk.text("acme");
        let head = log.last().unwrap()["hash"].as_str().unwrap();
        let told = done(&["audit", "verify", &file]);
        assert!(told.contains(&format!("{} entries, unbroken", log.len())), "{told}");
        // What was not shown is said.
        assert!(told.contains("is not known without --head"), "{told}");
        let origin = log[0]["origin"].as_str().unwrap();
        assert!(told.contains(&format!("The log is the one with the origin {origin}.")), "{told}");
        let told = done(&["audit", "verify", &file, "--head", head, "--json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        let whole = json!({
            "entries": log.len(), "head": head, "end_checked": true, "origin": origin,
        });
        assert_eq!(told, whole);

        let again = ["audit", "export", "acme", "--to", &file];
        target.fails(&again, &["is there already"]);
        target.fails(&["audit", "export", "missing", "--to", &desk.text("x")], &["not exist"]);
        target.done(&["key", "create", "--tenant", "acme"]);
        let more = target.json(&[&again[..], &["--force"]].concat());
        assert!(more["entries"].as_u64().unwrap() > log.len() as u64);
        assert_eq!(desk.read("acme")[..log.len()], log);
        let older = ["audit", "verify", &file, "--head", head];
        fails(&mut tenantry(&older), &[&format!("entry {}'s, and more follow", log.len())]);
        let newer = more["head"].as_str().unwrap();
        done(&["audit", "verify", &file, "--head", newer]);
        assert_eq!(desk.names(), ["acme"]);
    });
}

#[test]
fn whatever_is_changed_in_an_entry_is_found() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let log = desk.log(&Target::Folder(folder.path()), "acme");
    for (at, entry) in log.iter().enumerate() {
        for (name, value) in entry.as_object().unwrap() {
            let other = match value {
                Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
                Value::String(text) if name == "outcome" && text == "done" => "denied".into(),
                Value::String(text) if name == "reason" && text == "none" => "role".into(),
                Value::Null if name == "request_id" => "other".into(),
                Value::String(text) if name == "hash" || name == "origin" => {
                    let last = if text.ends_with('0') { '1' } else { '0' };
                    format!("{}{last}", &text[..63]).into()
                }
                other => format!("{}.", other.as_str().unwrap()).into(),
            };
            let mut changed = log.clone();
            changed[at][name] = other;
            let line = format!("line {}", at + 1);
            refused(&desk.write("changed", &changed), &["verify", &line, "break"]);
            changed[at].as_object_mut().unwrap().remove(name);
            refused(&desk.write("changed", &changed), &["verify", &line, "no entry", name]);
        }
        let mut changed = log.clone();
        changed[at]["tenant"] = "acme".into();
        refused(&desk.write("changed", &changed), &["no entry", "unknown field `tenant`"]);
    }
}

#[test]
fn lines_that_are_missing_doubled_swapped_or_anothers_are_found() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let target = Target::Folder(folder.path());
    let (log, other) = (desk.log(&target, "acme"), desk.log(&target, "other"));
    let changed = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut log = log.clone();
        change(&mut log);
        desk.write("changed", &log)
    };
    refused(&changed(&|log| drop(log.remove(0))), &["entry 1 had to come, 2 came"]);
    refused(&changed(&|log| drop(log.remove(2))), &["entry 3 had to come, 4 came"]);
    refused(&changed(&|log| log.swap(1, 2)), &["entry 2 had to come, 3 came"]);
    refused(&changed(&|log| log.insert(1, log[1].clone())), &["entry 3 had to come, 2 came"]);
    refused(&changed(&|log| log[2] = other[2].clone()), &["line 3", "breaks at entry 3"]);
    refused(&changed(&|log| log.extend_from_slice(&other)), &["had to come, 1 came"]);
    let tail = changed(&|log| {
        log.truncate(2);
        log.extend_from_slice(&other[2..]);
    });
    refused(&tail, &["line 3", "breaks at entry 3"]);

    // An end that is missing shows by what was noted, and by nothing else.
    let cut = changed(&|log| drop(log.pop()));
    done(&["audit", "verify", &cut]);
    let head = log.last().unwrap()["hash"].as_str().unwrap();
    let noted = ["audit", "verify", &cut, "--head", head];
    fails(&mut tenantry(&noted), &["no entry has the hash of --head"]);
    fails(&mut tenantry(&["audit", "verify", &cut, "--head", "5f"]), &["--head", "64 digits"]);
    let empty = desk.write("empty", &[]);
    assert!(done(&["audit", "verify", &empty]).starts_with("0 entries"));
    fails(&mut tenantry(&["audit", "verify", &empty, "--head", head]), &["--head"]);
}

#[test]
fn what_is_no_log_is_refused_in_a_few_words() {
    let desk = Desk::new();
    let file = desk.text("file");
    fs::write(&file, "x".repeat(3 << 20)).unwrap();
    refused(&file, &["line 1 is too long"]);
    fs::write(&file, format!("{{{:?}:1}}\n", "x".repeat(1 << 19))).unwrap();
    let output = tenantry(&["audit", "verify", &file]).output().unwrap();
    assert!(output.status.code() == Some(1) && output.stderr.len() < 1_000);
    fs::write(&file, "{\"\\u001b[31m\":1}\n").unwrap();
    let output = tenantry(&["audit", "verify", &file]).output().unwrap();
    assert!(output.status.code() == Some(1) && !output.stderr.contains(&0x1b));
    fs::write(&file, [0xff, b'\n']).unwrap();
    refused(&file, &["line 1 is no entry"]);
    refused(&desk.text("missing"), &["open", "missing"]);
    refused(&desk.0.path().display().to_string(), &["read"]);
}

/// Answers each request with the entries after the one that is asked for, so many at once.
fn serve(log: Vec<Value>, most: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut asked, mut line) = (String::new(), String::new());
            reader.read_line(&mut asked).unwrap();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let (after, limit) = (parameter(&asked, "after="), parameter(&asked, "limit="));
            let most = most.min(usize::try_from(limit).unwrap());
            let sequence = |entry: &&Value| entry["sequence"].as_u64().unwrap();
            let after = log.iter().filter(|entry| sequence(entry) > after);
            let page: Vec<_> = after.take(most).collect();
            let next = page.last().filter(|_| page.len() == most).map(sequence);
            let body = json!({ "entries": page, "next": next }).to_string();
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n");
            write!(
                stream,
                "{head}content-type: application/json\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    url
}

/// A number in the first line of a request.
fn parameter(asked: &str, name: &str) -> u64 {
    let (_, rest) = asked.split_once(name).unwrap();
    rest.split(['&', ' ']).next().unwrap().parse().unwrap()
}

#[test]
fn a_log_that_is_broken_is_exported_whole_and_told() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let mut log = desk.log(&Target::Folder(folder.path()), "acme");
    let file = desk.text("file");
    let url = serve(log.clone(), 2);
    done(&["audit", "export", "acme", "--to", &file, "--server", &url]);
    assert_eq!(desk.read("file"), log);

    // An entry that somebody has removed from the database, and one of a later version.
    let gone = log.remove(1);
    log.last_mut().unwrap()["note"] = "unknown".into();
    let (url, broken) = (serve(log.clone(), 2), desk.text("broken"));
    let export = ["audit", "export", "acme", "--to", &broken, "--server", &url];
    let words = ["not to be believed", "line 2", "entry 2 had to come, 3 came"];
    fails(&mut tenantry(&export), &words);
    assert_eq!(desk.read("broken"), log);
    refused(&broken, &["line 2", "entry 2 had to come, 3 came"]);

    log.insert(1, gone);
    let url = serve(log.clone(), 2);
    let export = ["audit", "export", "acme", "--to", &broken, "--server", &url, "--force"];
    fails(&mut tenantry(&export), &["not to be believed", "unknown field `note`"]);
    assert_eq!(desk.read("broken"), log);
}

#[test]
fn a_log_is_listed_for_people_and_for_programs() {
    on_all(|target| {
        let desk = Desk::new();
        let log = desk.log(target, "acme");
        let listed = target.json(&["audit", "list", "acme"]);
        assert_eq!(listed.as_array().unwrap()[..log.len()], log);
        let table = target.done(&["audit", "list", "acme"]);
        let heading: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
        let words = ["AT", "ACTOR", "ACTION", "TARGET", "COUNT", "OUTCOME", "REASON"];
        assert_eq!(heading, words);
        let (made, key) = (table.find("tenant.create"), table.find("key.create"));
        assert!(made.is_some() && made < key, "{table}");

        let newest = target.json(&["audit", "list", "--tenant", "acme", "--limit", "2"]);
        let newest = newest.as_array().unwrap();
        let numbers: Vec<_> = newest.iter().map(|one| one["sequence"].as_u64().unwrap()).collect();
        assert!(numbers.len() == 2 && numbers[0] + 1 == numbers[1], "{numbers:?}");
        assert!(numbers[1] >= log.len() as u64, "{numbers:?}");
        let between = |since, until| {
            let asked = ["audit", "list", "acme", "--since", since, "--until", until];
            target.json(&asked).as_array().unwrap().len()
        };
        assert_eq!(between("2000-01-01", "2001-01-01"), 0);
        assert!(between("2001-01-01", "2999-01-01") >= log.len());
        assert_eq!(between("2999-01-01", "2999-01-02"), 0);
        target.fails(&["audit", "list", "missing"], &["not exist"]);

        // Who names no tenant and belongs to none gets the operator's.
        let own = target.json(&["audit", "list"]);
        let own = own.as_array().unwrap();
        assert!(own.iter().any(|one| one["action"] == "tenant.create" && one["target"] == "acme"));
        assert_ne!(own[0]["origin"], log[0]["origin"]);
        let said = target.json(&["audit", "list", "--operator"]);
        assert_eq!(said.as_array().unwrap()[..own.len()], own[..]);
    });
    for wrong in [
        &["--limit", "0"][..],
        &["--since", "yesterday"],
        &["acme", "--operator"],
        &["acme", "--tenant", "acme"],
        &["--tenant", "acme", "--operator"],
    ] {
        assert_eq!(run(&[&["audit", "list"][..], wrong].concat()).0, 2, "{wrong:?}");
    }
}

#[test]
fn the_end_of_a_long_log_is_found() {
    let entry = |sequence: u64| {
        json!({
            "sequence": sequence, "at_ms": 1_000 * sequence, "actor": "a\u{1b}[31m",
            "action": "records.add", "target": format!("t{sequence}"), "outcome": "denied",
            "count": 3, "origin": "", "reason": "role", "request_id": null, "hash": "",
        })
    };
    let numbers = |url: &str, more: &[&str]| -> Vec<u64> {
        let asked = ["audit", "list", "acme", "--json", "--server", url];
        let listed: Vec<Value> = serde_json::from_str(&done(&[&asked[..], more].concat())).unwrap();
        listed.iter().map(|one| one["sequence"].as_u64().unwrap()).collect()
    };
    for length in [0_u64, 1, 999, 1_000, 1_001, 12_345] {
        let url = serve((1..=length).map(entry).collect(), 10_000);
        let newest: Vec<_> = (length.saturating_sub(2).max(1)..=length).collect();
        assert_eq!(numbers(&url, &["--limit", "3"]), newest, "{length}");
    }
    let url = serve((1..=12_345).map(entry).collect(), 10_000);
    let all: Vec<u64> = (1..=12_345).collect();
    assert_eq!(numbers(&url, &["--limit", "20000"]), all);
    // Amid a page that is not the last one, and from one page to the next.
    let (since, until) = ("1970-01-01T00:16:40Z", "1970-01-01T00:33:20Z");
    let between = ["--since", since, "--until", until];
    assert_eq!(numbers(&url, &[&between[..], &["--limit", "2"]].concat()), [1_998, 1_999]);
    assert_eq!(numbers(&url, &[&between[..], &["--limit", "5000"]].concat()), all[999..1_999]);

    // Entries that somebody has removed from the database are nowhere, and nothing is shown twice.
    let some = (1..=5_000_u64).filter(|number| !(2_000..4_999).contains(number));
    let some: Vec<u64> = some.collect();
    let url = serve(some.iter().copied().map(entry).collect(), 10_000);
    assert_eq!(numbers(&url, &["--limit", "20000"]), some);
    assert_eq!(numbers(&url, &["--limit", "600"]), some[some.len() - 600..]);
    let shown = done(&["audit", "list", "acme", "--server", &url, "--limit", "1"]);
    let cells: Vec<_> = shown.lines().nth(1).unwrap().split_whitespace().skip(2).collect();
    assert_eq!(cells, ["a\\u{1b}[31m", "records.add", "t5000", "3", "denied", "role"]);
}
