//! `tenantry tenant` and `tenantry key`, on a folder and on a server.

use crate::program::{Folder, done, fails, run, tenantry};
use serde_json::Value;

/// Where commands go.
enum Target {
    Folder(String),
    Server(String, String),
}

impl Target {
    fn with<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let mut all = args.to_vec();
        match self {
            Self::Folder(path) => all.extend(["--data-dir", path]),
            Self::Server(url, key) => all.extend(["--server", url, "--key", key]),
        }
        all
    }

    fn done(&self, args: &[&str]) -> String {
        done(&self.with(args))
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&done(&[&self.with(args)[..], &["--json"]].concat())).unwrap()
    }

    fn fails(&self, args: &[&str], words: &[&str]) {
        fails(&mut tenantry(&self.with(args)), words);
    }
}

/// The same work on both targets, since both are the same implementation.
fn on_both(work: impl Fn(&Target)) {
    let folder = Folder::new();
    work(&Target::Folder(folder.path()));
    let folder = Folder::new();
    let server = folder.serve(&[]);
    work(&Target::Server(server.url.clone(), folder.key.clone()));
    server.stop();
}

#[test]
fn a_tenant_lives_its_life() {
    on_both(|target| {
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
        target.done(&["tenant", "rename", name, "acme"]);
        target.fails(&["tenant", "show", name], &["does not exist"]);
        let table = target.done(&["tenant", "list"]);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("NAME   STATE"), "{table}");
        assert!(lines[1].starts_with("acme   active  shared     100     20"), "{table}");

        target.fails(&["tenant", "delete", "acme"], &["--yes"]);
        target.done(&["tenant", "delete", "acme", "--yes"]);
        target.fails(&["tenant", "show", "acme"], &["does not exist"]);
        assert_eq!(target.json(&["tenant", "list"]).as_array().unwrap().len(), 1);
    });
}

#[test]
fn keys_are_made_listed_and_revoked() {
    on_both(|target| {
        target.done(&["tenant", "create", "acme"]);
        let key = target.done(&["key", "create", "--tenant", "acme", "--label", "x\u{1b}[31m"]);
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
        assert!(table.contains(&id) && table.contains("x\\u{1b}[31m"), "{table}");
        assert!(!table.contains("tnt_"), "{table}");
        target.done(&["key", "revoke", &id, "--tenant", "acme"]);
        assert!(!target.done(&["key", "list", "--tenant", "acme"]).contains(&id));
        target.fails(&["key", "revoke", &id, "--tenant", "acme"], &["does not exist"]);

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
        &["key", "create"],
        &["key", "create", "--operator", "--role", "read"],
        &["serve", "--cache-size", "lots"],
    ] {
        assert_eq!(run(args).0, 2, "{args:?}");
    }
    fails(&mut tenantry(&["tenant", "list"]), &["--server", "--data-dir"]);
    let both = ["tenant", "list", "--server", "http://127.0.0.1:1", "--data-dir", "x"];
    fails(&mut tenantry(&both), &["give one"]);
    fails(&mut tenantry(&["tenant", "list", "--server", "127.0.0.1:1"]), &["URL"]);
    fails(&mut tenantry(&["tenant", "list", "--server", "http://127.0.0.1:1"]), &["refused"]);
    fails(&mut tenantry(&["tenant", "list", "--data-dir", "/nowhere"]), &["no data folder"]);
}
