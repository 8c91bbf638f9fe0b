//! `tenantry audit`: logs as files, looked at by whoever has nothing else.

use crate::{
    commands::{Target, on_all},
    desk::Desk,
    program::{Folder, done, fails, tenantry},
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

/// Answers each request with the entries after the one that is asked for, two at once.
fn serve(log: Vec<Value>) -> String {
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
            let (_, after) = asked.split_once("after=").unwrap();
            let after: u64 = after.split('&').next().unwrap().parse().unwrap();
            let sequence = |entry: &&Value| entry["sequence"].as_u64().unwrap();
            let page: Vec<_> = log.iter().filter(|entry| sequence(entry) > after).take(2).collect();
            let next = page.get(1).map(sequence);
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

#[test]
fn a_log_that_is_broken_is_exported_whole_and_told() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let mut log = desk.log(&Target::Folder(folder.path()), "acme");
    let file = desk.text("file");
    let url = serve(log.clone());
    done(&["audit", "export", "acme", "--to", &file, "--server", &url]);
    assert_eq!(desk.read("file"), log);

    // An entry that somebody has removed from the database, and one of a later version.
    let gone = log.remove(1);
    log.last_mut().unwrap()["note"] = "unknown".into();
    let (url, broken) = (serve(log.clone()), desk.text("broken"));
    let export = ["audit", "export", "acme", "--to", &broken, "--server", &url];
    let words = ["not to be believed", "line 2", "entry 2 had to come, 3 came"];
    fails(&mut tenantry(&export), &words);
    assert_eq!(desk.read("broken"), log);
    refused(&broken, &["line 2", "entry 2 had to come, 3 came"]);

    log.insert(1, gone);
    let url = serve(log.clone());
    let export = ["audit", "export", "acme", "--to", &broken, "--server", &url, "--force"];
    fails(&mut tenantry(&export), &["not to be believed", "unknown field `note`"]);
    assert_eq!(desk.read("broken"), log);
}
