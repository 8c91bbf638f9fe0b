//! `tenantry tenant` and `tenantry key`, on a folder and on a server.

use crate::{
    installation::Installation,
    program::{Folder, done, fails, run, tenantry, texts},
};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStderr, Stdio},
};

/// Where commands go.
pub(crate) enum Target {
    Folder(String),
    Server(String, String),
    Database { keys: String, url: String },
}

impl Target {
    pub(crate) fn with<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let mut all = args.to_vec();
        match self {
            Self::Folder(path) => all.extend(["--data-dir", path]),
            Self::Server(url, key) => all.extend(["--server", url, "--key", key]),
            Self::Database { keys, url } => {
                all.extend(["--data-dir", keys, "--database-url", url]);
            }
        }
        all
    }

    pub(crate) fn done(&self, args: &[&str]) -> String {
        done(&self.with(args))
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&done(&[&self.with(args)[..], &["--json"]].concat())).unwrap()
    }

    pub(crate) fn fails(&self, args: &[&str], words: &[&str]) {
        fails(&mut tenantry(&self.with(args)), words);
    }
}

/// The same work on all targets, since they are the same implementation.
pub(crate) fn on_all(work: impl Fn(&Target)) {
    let folder = Folder::new();
    work(&Target::Folder(folder.path()));
    let folder = Folder::new();
    let server = folder.serve(&[]);
    work(&Target::Server(server.url.clone(), folder.key.clone()));
    server.stop();
    let installation = Installation::new();
    installation.found();
    work(&Target::Database { keys: installation.keys(), url: installation.url.clone() });
}

#[test]
fn a_tenant_lives_its_life() {
    on_all(|target| {
        // A name is data, whatever characters it has.
        let name = "a/../b?c=%2F é";
        assert_eq!(
            target.done(&["tenant", "create", name]),
            format!("created tenant {name} (active)\n")
        );
        target.done(&["tenant", "create", "other", "--weight", "300"]);
        target.fails(&["tenant", "create", name], &["already exists"]);
        assert_eq!(target.json(&["tenant", "show", "other"])["weight"], 300);

        assert!(target.done(&["tenant", "suspend", name]).contains("(suspended)"));
        let listed = target.json(&["tenant", "list"]);
        let states: Vec<_> = listed.as_array().unwrap().iter().map(|t| &t["state"]).collect();
        assert_eq!(states, ["suspended", "active"]);
        target.done(&["tenant", "resume", name]);
        assert_eq!(
            target.done(&["tenant", "rename", name, "acme"]),
            format!("renamed tenant {name} → acme (active)\n")
        );
        target.fails(&["tenant", "show", name], &["does not exist"]);
        let table = target.done(&["tenant", "list"]);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("NAME   STATE"), "{table}");
        assert!(lines[1].starts_with("acme   active  shared     home      100     20"), "{table}");

        target.fails(&["tenant", "delete", "acme"], &["--yes"]);
        target.done(&["tenant", "delete", "acme", "--yes"]);
        target.fails(&["tenant", "show", "acme"], &["does not exist"]);
        assert_eq!(target.json(&["tenant", "list"]).as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_list_of_tenants_that_fits_one_page_is_one_request() {
    let folder = Folder::new();
    let server = folder.serve(&["--log-format", "json"]);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    target.done(&["tenant", "list"]);
    let log = server.stop();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let asked = lines.filter(|line| line["fields"]["route"] == "/v1/admin/tenants").count();
    assert_eq!(asked, 1, "{log}");
}

#[test]
fn keys_are_made_listed_and_revoked() {
    on_all(|target| {
        target.done(&["tenant", "create", "acme"]);
        let labelled = ["key", "create", "--tenant", "acme", "--label"];
        let red = [&labelled[..], &["x\u{1b}[31m"]].concat();
        target.fails(&red, &["label", "is not allowed"]);
        let key = target.done(&[&labelled[..], &["ingest of π"]].concat());
        let id = key.strip_prefix("tnt_").and_then(|k| k.split('_').next()).unwrap().to_owned();
        let limited = ["key", "create", "--tenant", "acme", "--role", "read", "--database"];
        let made =
            target.json(&[&limited[..], &["default_database", "--expires-in", "1h"]].concat());
        assert_eq!(made["limited_to"]["databases"], serde_json::json!(["default_database"]));
        assert!(made["expires_at_ms"].as_u64() > made["created_at_ms"].as_u64());
        target.fails(
            &["key", "create", "--tenant", "acme", "--collection", "default_database/none"],
            &["none", "does not exist"],
        );

        let table = target.done(&["key", "list", "--tenant", "acme"]);
        assert!(table.contains(&id) && table.contains("ingest of π"), "{table}");
        assert!(!table.contains("tnt_"), "{table}");
        target.done(&["key", "revoke", &id, "--tenant", "acme"]);
        assert!(!target.done(&["key", "list", "--tenant", "acme"]).contains(&id));
        target.fails(&["key", "revoke", &id, "--tenant", "acme"], &["does not exist"]);

        // A whole key names the key too, and its secret is not repeated, even if it is cut short.
        let whole = target.done(&["key", "create", "--tenant", "acme"]);
        let (named, secret) = whole.trim()["tnt_".len()..].split_once('_').unwrap();
        let cut = &whole[..40];
        let (code, out, err) = run(&target.with(&["key", "revoke", cut, "--tenant", "acme"]));
        assert!(code == 1 && err.contains("not a key's id"), "{err}");
        assert!(!(out + &err).contains(&secret[..8]));
        let said = target.done(&["key", "revoke", whole.trim(), "--tenant", "acme"]);
        assert_eq!(said, format!("revoked key {named}\n"));

        let operator = target.json(&["key", "create", "--operator", "--no-act-as"]);
        assert_eq!(operator["act_as"], false);
        assert_eq!(
            target.json(&["key", "list", "--operator"])["keys"].as_array().unwrap().len(),
            2
        );
    });
}

#[test]
fn a_tenants_key_is_no_operators() {
    let folder = Folder::new();
    done(&["tenant", "create", "acme", "--data-dir", &folder.path()]);
    let admin = ["key", "create", "--tenant", "acme", "--role", "admin", "--data-dir"];
    let key = done(&[&admin[..], &[&folder.path()]].concat());
    let server = folder.serve(&[]);
    let acme = Target::Server(server.url.clone(), key.trim().to_owned());
    acme.done(&["key", "list", "--tenant", "acme"]);
    acme.fails(&["tenant", "list"], &["operator key"]);
    acme.fails(&["key", "list", "--tenant", "beta"], &["Tenant [beta] does not exist"]);
    fails(&mut tenantry(&["tenant", "list", "--server", &server.url]), &["key", "TENANTRY_KEY"]);
}

#[test]
fn a_wrong_command_line_is_told_apart_from_a_failure() {
    for args in [
        &["tenant", "make", "acme"][..],
        &["key", "create", "--role", "king"],
        &["key", "create", "--operator", "--role", "read"],
        &["serve", "--cache-size", "lots"],
    ] {
        assert_eq!(run(args).0, 2, "{args:?}");
    }
    fails(&mut tenantry(&["tenant", "list"]), &["--server", "--data-dir"]);
    let both = ["tenant", "list", "--server", "http://127.0.0.1:1", "--data-dir", "x"];
    fails(&mut tenantry(&both), &["give one"]);
    let both = ["tenant", "list", "--server", "http://127.0.0.1:1", "--database-url", "x"];
    fails(&mut tenantry(&both), &["a server and a database", "give one"]);
    fails(&mut tenantry(&["tenant", "list", "--server", "127.0.0.1:1"]), &["URL"]);
    let alone = ["tenant", "list", "--server", "http://127.0.0.1:1/v1"];
    fails(&mut tenantry(&alone), &["has a path", "http://127.0.0.1:7700"]);
    fails(
        &mut tenantry(&["tenant", "list", "--server", "http://127.0.0.1:1"]),
        &["http://127.0.0.1:1", "refused", "is the server running there?"],
    );
    let mut command = tenantry(&["tenant", "list", "--server", "http://127.0.0.1:1"]);
    let said = texts(&command.env("TENANTRY_KEY", "hunter2").output().unwrap()).2;
    assert!(said.contains("TENANTRY_KEY gives is not an API key"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    fails(&mut tenantry(&["tenant", "list", "--data-dir", "/nowhere"]), &["no data folder"]);
}

#[test]
fn a_command_makes_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    for entry in [None, Some("passwd")] {
        if let Some(name) = entry {
            fs::write(folder.path().join(name), "root").unwrap();
        }
        for command in [&["tenant", "list"][..], &["key", "create", "--operator"]] {
            let mut command = tenantry(command);
            fails(command.args(["--data-dir", &path]), &[&path, "is not a Tenantry data folder"]);
        }
        let left: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, entry.map(Into::into).into_iter().collect::<Vec<OsString>>());
    }
    let mut serve = tenantry(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &path]);
    fails(&mut serve, &["is not a Tenantry data folder", "\"passwd\"", "an empty folder"]);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn what_does_not_speak_the_native_protocol_is_told() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let list = |url: &str| tenantry(&["tenant", "list", "--server", url, "--key", &folder.key]);
    fails(
        &mut list(&server.chroma),
        &[&server.chroma, "answered 404 and is not a native Tenantry listener"],
    );
    let encrypted = server.url.replace("http://", "https://");
    fails(&mut list(&encrypted), &[&encrypted, "the server speaks plain http"]);
}

#[test]
fn a_tenant_is_moved_on_a_folder_and_on_a_server() {
    let folder = Folder::new();
    let path = folder.path();
    let home = Target::Folder(path.clone());
    home.done(&["tenant", "create", "acme"]);
    home.fails(&["tenant", "move", "acme"], &["--isolation", "--location"]);
    home.fails(&["tenant", "move", "acme", "--status"], &["never moved"]);
    let out = home.done(&["tenant", "move", "acme", "--isolation", "database"]);
    assert!(out.contains("acme: shared → database, done"), "{out}");
    assert!(out.contains("longest pause of writes"), "{out}");
    assert_eq!(home.json(&["tenant", "show", "acme"])["isolation"], "database");

    let server = folder.serve(&[]);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    let moved = target.json(&["tenant", "move", "acme", "--isolation", "schema"]);
    assert_eq!((&moved["phase"], &moved["over"]), (&Value::from("done"), &Value::from(true)));
    let out = target.done(&["tenant", "move", "acme", "--isolation", "shared", "--no-wait"]);
    assert!(out.starts_with("acme: schema → shared, "), "{out}");
    while target.json(&["tenant", "move", "acme", "--status"])["over"] != true {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(target.json(&["tenant", "moves"]), Value::Array(Vec::new()));
    assert!(target.done(&["tenant", "moves"]).starts_with("TENANT"));
    target.fails(&["tenant", "move", "acme", "--cancel"], &["lives in its new place already"]);
    assert_eq!(target.json(&["tenant", "show", "acme"])["isolation"], "shared");
    server.stop();
}

/// A command that runs, and what it says next on standard error.
struct Following(Child, BufReader<ChildStderr>);

impl Following {
    fn start(target: &Target, args: &[&str]) -> Self {
        let mut command = tenantry(&target.with(args));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Self(child, err)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line
    }

    /// Waits for its end: exit code, and the rest.
    fn end(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.1.read_to_string(&mut rest).unwrap();
        (self.0.wait().unwrap().code().unwrap(), rest)
    }
}

#[test]
fn a_move_that_is_under_way_is_followed_cancelled_and_continued() {
    let folder = Folder::new();
    let home = Target::Folder(folder.path());
    home.done(&["tenant", "create", "acme"]);
    let lines: Vec<_> =
        (0..1_500).map(|n| format!("{{\"id\": \"{n}\", \"vector\": [1, {n}]}}\n")).collect();
    let file = folder.temporary.path().join("records.jsonl");
    fs::write(&file, lines.concat()).unwrap();
    let file = file.display().to_string();
    home.done(&["import", &file, "--collection", "notes", "--create", "--tenant", "acme"]);

    // So slow that it is under way for as long as this takes.
    let server = folder.serve(&["--move-rate", "2KB"]);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    let there = ["tenant", "move", "acme", "--isolation", "schema"];
    let begin = [&there[..], &["--no-wait"]].concat();
    for _ in 0..2 {
        let out = target.done(&begin);
        assert!(out.starts_with("acme: shared → schema, "), "{out}");
    }
    let words = ["not over yet: shared → schema", "--follow", "--cancel"];
    target.fails(&["tenant", "move", "acme", "--isolation", "database"], &words);
    let mut same = Following::start(&target, &there);
    let line = same.line();
    assert!(line.starts_with("acme is being moved there already"), "{line}");
    let mut any = Following::start(&target, &["tenant", "move", "acme", "--follow"]);
    let line = any.line();
    assert!(line.contains(" records"), "{line}");
    let out = target.done(&["tenant", "move", "acme", "--cancel", "--no-wait"]);
    assert!(out.starts_with("acme: shared → schema, undoing: "), "{out}");
    for following in [same, any] {
        let (code, err) = following.end();
        assert_eq!(code, 1, "{err}");
        assert!(err.ends_with("error: the move was cancelled\n"), "{err}");
    }
    target.fails(&["tenant", "move", "acme", "--follow"], &["the move was cancelled"]);
    target.done(&begin);
    server.stop();

    // Whoever opens the folder goes on, and the command says how that ends.
    let out = home.done(&there);
    assert!(out.starts_with("acme: shared → schema, done "), "{out}");
    home.fails(&there, &["lives in schema there already"]);
    home.done(&["tenant", "move", "acme", "--follow"]);
}
