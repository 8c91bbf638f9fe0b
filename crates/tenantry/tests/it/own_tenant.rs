//! Commands with a key of a tenant, which says itself whose it is.

use crate::program::{Folder, done, fails, run, tenantry};
use std::fs;

#[test]
fn a_tenants_key_needs_no_name_of_the_tenant_in_any_command() {
    let folder = Folder::new();
    let path = folder.path();
    for name in ["acme", "other"] {
        done(&["tenant", "create", name, "--data-dir", &path]);
    }
    let key = ["key", "create", "--tenant", "acme", "--role", "admin", "--data-dir", &path];
    let key = done(&key);
    let file = folder.temporary.path().join("log.jsonl").display().to_string();
    let commands: [(&[&str], &str); 15] = [
        (&["key", "create", "--role", "read", "--label", "second"], "tnt_"),
        (&["key", "list"], "second"),
        (&["group", "add", "g", "--read-all", "default_database"], "default_database"),
        (&["group", "list"], "default_database"),
        (&["group", "show", "g"], "default_database"),
        (&["group", "update", "g", "--no-grants"], "GROUP"),
        (&["member", "add", "login/eve", "--role", "guest", "--group", "g"], "login/eve"),
        (&["member", "list", "--group", "g"], "login/eve"),
        (&["member", "show", "login/eve"], "guest"),
        (&["member", "update", "login/eve", "--suspend"], "suspended"),
        (&["member", "remove", "login/eve"], "removed member login/eve"),
        (&["group", "remove", "g"], "removed group g"),
        (&["audit", "export", "--force", "--to", &file], " entries to "),
        (&["bill", "2020-01"], "total"),
        (&["limit", "show"], "USED"),
    ];
    let server = folder.serve(&[]);
    let at = |to: &[&str], command: &[&str]| run(&[command, to].concat());
    let operator = ["--server", &server.url, "--key", &folder.key];
    for (command, _) in commands {
        let (code, _, err) = at(&operator, command);
        assert!(code == 1 && err.contains("say which tenant: "), "{command:?}: {err}");
    }
    let own = ["--server", &server.url, "--key", key.trim()];
    for (command, says) in commands {
        let (code, out, err) = at(&own, command);
        assert!(code == 0 && out.contains(says), "{command:?}: {out}{err}");
    }
    // It is told within a minute what there was; here it counts that it is told at all.
    let (code, out, err) = at(&own, &["usage", "--every", "hour"]);
    assert!(code == 0 && out.starts_with("AT"), "{out}{err}");
    // For an operator it is still that of all.
    let (code, out, err) = at(&operator, &["usage", "--json"]);
    assert!(code == 0 && out.starts_with('['), "{out}{err}");
    // So is the log: each key has its own.
    let (code, out, err) = at(&operator, &["audit", "list"]);
    let made = |line: &str| line.contains("tenant.create") && line.contains("other");
    assert!(code == 0 && out.lines().any(made), "{out}{err}");
    let (code, out, err) = at(&own, &["audit", "list"]);
    assert!(code == 0 && out.contains("group.add") && !out.contains("other"), "{out}{err}");
    let (code, out, err) = at(&own, &["audit", "list", "--operator"]);
    assert!(code == 1 && out.is_empty() && err.contains("operator key"), "{out}{err}");
    let (code, out, err) = at(&operator, &["key", "list", "--tenant", "other"]);
    assert!(code == 0 && !out.contains("second"), "{out}{err}");
    assert!(done(&["audit", "verify", &file]).contains("unbroken"));
    // What is made without a tenant's name is never the operator's.
    let (_, listed, _) = at(&operator, &["key", "list", "--operator"]);
    assert!(!listed.contains("second"), "{listed}");
    server.stop();
    for (command, _) in commands {
        let (code, _, err) = at(&["--data-dir", &path], command);
        assert!(code == 1 && err.contains("say which tenant: "), "{command:?}: {err}");
    }
}

/// The tenant `acme`, and a key of its admin's.
fn with_acme() -> (Folder, String) {
    let folder = Folder::new();
    let path = folder.path();
    done(&["tenant", "create", "acme", "--data-dir", &path]);
    let key = ["key", "create", "--tenant", "acme", "--role", "admin", "--data-dir", &path];
    let key = done(&key).trim().to_owned();
    (folder, key)
}

#[test]
fn a_suspended_tenants_key_is_told_that_and_not_to_name_a_tenant() {
    let (folder, key) = with_acme();
    done(&["tenant", "suspend", "acme", "--data-dir", &folder.path()]);
    let file = |name: &str| folder.temporary.path().join(name).display().to_string();
    let (records, log) = (file("records.jsonl"), file("log.jsonl"));
    fs::write(&records, "{\"id\":\"a\",\"vector\":[1,0]}\n").unwrap();
    let commands: [&[&str]; 8] = [
        &["import", &records, "--collection", "notes", "--create"],
        &["audit", "list"],
        &["audit", "export", "--to", &log],
        &["bill", "2020-01"],
        &["usage"],
        &["key", "list"],
        &["member", "list"],
        &["group", "list"],
    ];
    let server = folder.serve(&[]);
    let own = ["--server", &server.url, "--key", &key];
    for command in commands {
        let mut command = tenantry(&[command, &own[..]].concat());
        fails(&mut command, &["this tenant is suspended; ask the operator to resume it"]);
    }
    // An operator's key and the name do.
    let operator = ["--server", &server.url, "--key", &folder.key];
    let export = ["audit", "export", "acme", "--to", &log];
    assert!(done(&[&export[..], &operator[..]].concat()).contains(" entries to "));
    server.stop();
}
