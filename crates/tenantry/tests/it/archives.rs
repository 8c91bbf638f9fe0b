//! `tenantry tenant export`, `import` and `copy`, on a folder, a server and a database.

use crate::{
    commands::{Target, on_all},
    desk::Desk,
    installation::Installation,
    program::{Folder, done, fails, run, tenantry},
};
use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

impl Desk {
    /// Writes records of a tenant with `import`.
    fn fill(&self, target: &Target, tenant: &str, records: usize) {
        let mut lines = String::new();
        for n in 0..records {
            let (id, text) = (format!("r{n}"), format!("text {n}"));
            let record = serde_json::json!({
                "id": id, "vector": [n, 0.5], "document": text, "metadata": { "n": n },
            });
            writeln!(lines, "{record}").unwrap();
        }
        let file = self.text("records.jsonl");
        fs::write(&file, lines).unwrap();
        let what = ["import", &file, "--collection", "notes", "--create", "--tenant", tenant];
        target.done(&what);
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_tenant_leaves_and_comes_back_and_is_exported_as_the_same_bytes() {
    on_all(|target| {
        let desk = Desk::new();
        let (one, two) = (desk.text("one.tar.gz"), desk.text("two.tar.gz"));
        let name = "a/../b?c=%2F é";
        target.done(&["tenant", "create", name, "--weight", "300"]);
        desk.fill(target, name, 2_500);
        let out = target.done(&["tenant", "export", name, "--to", &one]);
        let told =
            format!("exported tenant {name} to {one}: 1 databases, 1 collections, 2500 records\n");
        assert_eq!(out, told);
        target.fails(&["tenant", "export", name, "--to", &one], &["is there already"]);
        let shown = done(&["archive", "show", &one]);
        assert!(shown.contains("records      2500\n"), "{shown}");
        let out = target.done(&["tenant", "import", "back", "--from", &one, "--keep-limits"]);
        assert_eq!(out, "imported tenant back: 2500 records, without a plan\n");
        target.done(&["tenant", "export", "back", "--to", &two]);
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        assert_eq!(target.json(&["tenant", "show", "back"])["weight"], 300);
        target.fails(&["tenant", "import", "back", "--from", &one], &["already exists"]);

        let out = target.done(&["tenant", "copy", "back", "copy"]);
        assert_eq!(out, "copied tenant back → copy\n");
        target.done(&["tenant", "export", "copy", "--to", &two, "--force"]);
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        target.fails(&["tenant", "copy", "missing", "x"], &["does not exist"]);
        target.fails(&["tenant", "export", "missing", "--to", &desk.text("x")], &["not exist"]);

        // What is wrong is refused, and nothing is left of it.
        let mut bytes = fs::read(&one).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&two, &bytes).unwrap();
        target.fails(&["tenant", "import", "x", "--from", &two], &["archive"]);
        fails(&mut tenantry(&["archive", "show", &two]), &["archive"]);
        fs::write(&two, &bytes[..middle]).unwrap();
        target.fails(&["tenant", "import", "x", "--from", &two], &["cut off", "fetch it again"]);
        let listed = target.json(&["tenant", "list"]);
        let names: Vec<_> = listed.as_array().unwrap().iter().map(|t| &t["name"]).collect();
        assert_eq!(names, [name, "back", "copy"]);
        assert_eq!(desk.names(), ["one.tar.gz", "two.tar.gz"]);
    });
}

#[test]
fn an_archive_goes_from_one_installation_to_another_and_between_backends() {
    let desk = Desk::new();
    let (one, two) = (desk.text("one.tar.gz"), desk.text("two.tar.gz"));
    let folder = Folder::new();
    let files = Target::Folder(folder.path());
    let installation = Installation::new();
    installation.found();
    let database = Target::Database { keys: installation.keys(), url: installation.url.clone() };
    files.done(&["tenant", "create", "a"]);
    desk.fill(&files, "a", 1_200);
    files.done(&["tenant", "export", "a", "--to", &one]);
    database.fails(&["tenant", "import", "a", "--from", &one], &["another installation"]);
    let shown = done(&["archive", "show", &one, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let key = shown["signed_by"].as_str().unwrap();
    let wrong = "0".repeat(64);
    database.fails(&["tenant", "import", "a", "--from", &one, "--trust", &wrong], &[key]);
    database.fails(&["tenant", "import", "a", "--from", &one, "--trust", "x"], &["64"]);
    database.done(&["tenant", "import", "a", "--from", &one, "--trust", key]);
    database.done(&["tenant", "export", "a", "--to", &two]);
    files.fails(&["tenant", "import", "b", "--from", &two], &["another installation"]);
    let shown = done(&["archive", "show", &two, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let key = shown["signed_by"].as_str().unwrap();
    files.done(&["tenant", "import", "b", "--from", &two, "--trust", key]);
    let three = desk.text("three.tar.gz");
    files.done(&["tenant", "export", "b", "--to", &three]);
    assert_eq!(fs::read(&one).unwrap(), fs::read(&three).unwrap());
}

#[test]
fn anybody_can_open_an_archive() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let target = Target::Folder(folder.path());
    target.done(&["tenant", "create", "a"]);
    desk.fill(&target, "a", 3);
    let archive = desk.text("a.tar.gz");
    target.done(&["tenant", "export", "a", "--to", &archive]);
    let opened = std::process::Command::new("tar")
        .args(["xzf", &archive, "-C"])
        .arg(desk.0.path())
        .status()
        .unwrap();
    assert!(opened.success());
    let records = fs::read_to_string(desk.path("collections/000001/records-000001.jsonl")).unwrap();
    let first = concat!(
        r#"{"id":"r0","document":"text 0","metadata":{"n":0},"#,
        r#""vector":"AAAAAAAAAD8="}"#
    );
    assert_eq!(records.lines().next().unwrap(), first);
}

#[test]
fn a_tenants_key_exports_its_own_and_imports_nothing() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let server = folder.serve(&[]);
    let operator = Target::Server(server.url.clone(), folder.key.clone());
    for name in ["a", "b"] {
        operator.done(&["tenant", "create", name]);
    }
    let key = operator.done(&["key", "create", "--tenant", "a", "--role", "admin"]);
    let own = Target::Server(server.url.clone(), key.trim().to_owned());
    let archive = desk.text("a.tar.gz");
    own.done(&["tenant", "export", "a", "--to", &archive]);
    assert!(done(&["archive", "show", &archive]).contains("no key of an operator"));
    // Foreign and missing are the same.
    for name in ["b", "missing"] {
        let to = desk.text("b.tar.gz");
        own.fails(&["tenant", "export", name, "--to", &to], &["does not exist"]);
    }
    own.fails(&["tenant", "import", "c", "--from", &archive], &["operator key"]);
    own.fails(&["tenant", "copy", "a", "c"], &["operator key"]);
    operator.done(&["tenant", "import", "c", "--from", &archive]);
    assert_eq!(desk.names(), ["a.tar.gz"]);
    server.stop();
}

#[test]
fn a_server_that_is_killed_during_an_import_leaves_nothing() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let target = Target::Folder(folder.path());
    target.done(&["tenant", "create", "a"]);
    desk.fill(&target, "a", 60_000);
    let archive = desk.text("a.tar.gz");
    target.done(&["tenant", "export", "a", "--to", &archive]);
    let state = |target: &Target, name: &str| {
        let listed = target.json(&["tenant", "list"]);
        let found = listed.as_array().unwrap().iter().find(|one| one["name"] == name).cloned();
        found.map(|one| one["state"].as_str().unwrap().to_owned())
    };
    for _ in 0..2 {
        let server = folder.serve(&[]);
        let remote = Target::Server(server.url.clone(), folder.key.clone());
        let mut importing = tenantry(&remote.with(&["tenant", "import", "b", "--from", &archive]));
        let mut importing = importing.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while state(&remote, "b").as_deref() != Some("provisioning") {
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
        // Dropped, it is killed.
        drop(server);
        assert!(!importing.wait().unwrap().success());
        let server = folder.serve(&[]);
        let remote = Target::Server(server.url.clone(), folder.key.clone());
        let begun = Instant::now();
        while state(&remote, "b").is_some() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is still there");
            sleep(Duration::from_millis(50));
        }
        server.stop();
    }
    // A client that goes away cancels it.
    let server = folder.serve(&[]);
    let remote = Target::Server(server.url.clone(), folder.key.clone());
    let mut importing = tenantry(&remote.with(&["tenant", "import", "b", "--from", &archive]));
    let mut importing = importing.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while state(&remote, "b").as_deref() != Some("provisioning") {}
    importing.kill().unwrap();
    importing.wait().unwrap();
    let begun = Instant::now();
    while state(&remote, "b").is_some() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still there");
        sleep(Duration::from_millis(50));
    }
    remote.done(&["tenant", "import", "b", "--from", &archive]);
    server.stop();
}

#[test]
fn an_export_that_fails_leaves_no_file() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let target = Target::Folder(folder.path());
    let to = desk.text("x.tar.gz");
    target.fails(&["tenant", "export", "missing", "--to", &to], &["does not exist"]);
    assert_eq!(desk.names(), Vec::<String>::new());
    let (code, _, err) = run(&["archive", "show", &to]);
    assert!(code == 1 && err.contains("cannot be read"), "{err}");
    assert!(Path::new(&folder.path()).is_dir());
}

fn hashes(list: &Path) -> Vec<(String, String)> {
    let list = fs::read_to_string(list).unwrap();
    let lines = list.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let named = lines.filter(|line| line.get("name").is_some());
    let mut all: Vec<_> =
        named.map(|line| (line["name"].to_string(), line["blake3"].to_string())).collect();
    all.sort();
    all
}

#[test]
fn all_tenants_leave_and_come_back() {
    let (desk, folder, other) = (Desk::new(), Folder::new(), Folder::new());
    let (target, other) = (Target::Folder(folder.path()), Target::Folder(other.path()));
    let names = ["a", "../b", "c/é 🦀", "d"];
    for name in names {
        target.done(&["tenant", "create", name]);
    }
    desk.fill(&target, "../b", 10);
    let (one, two) = (desk.text("one"), desk.text("two"));
    assert_eq!(target.done(&["tenant", "export", "--all", "--to", &one]), "exported 4 tenants\n");
    target.fails(&["tenant", "export", "--all", "--to", &one], &["--force"]);
    let key = target.done(&["archive", "signer"]);
    let key = key.trim();
    // Before anything is sent.
    let strange = ["another installation", "--trust", key];
    other.fails(&["tenant", "import", "--all", "--from", &one], &strange);
    other.fails(&["tenant", "import", "--all", "--from", &two], &["tenants.jsonl"]);
    let back = ["tenant", "import", "--all", "--from", &one, "--trust", key];
    assert_eq!(other.done(&back), "imported 4 tenants\n");
    // Those that were not made from these archives are nobody's to overwrite.
    target.fails(&["tenant", "import", "--all", "--from", &one], &["4 tenants"]);
    // With the same key the second time is byte for byte the first.
    for name in names {
        target.done(&["tenant", "delete", name, "--yes"]);
    }
    target.done(&["tenant", "import", "--all", "--from", &one]);
    target.done(&["tenant", "export", "--all", "--to", &two]);
    let [first, second] =
        [&one, &two].map(|folder| hashes(&Path::new(folder).join("tenants.jsonl")));
    assert_eq!((first.len(), first), (4, second));
}

#[test]
fn a_second_import_of_all_leaves_out_what_is_there() {
    on_all(|target| {
        let desk = Desk::new();
        let from = desk.text("all");
        for name in ["a", "b", "c"] {
            target.done(&["tenant", "create", name]);
        }
        desk.fill(target, "a", 10);
        target.done(&["tenant", "export", "--all", "--to", &from]);
        for name in ["a", "b", "c"] {
            target.done(&["tenant", "delete", name, "--yes"]);
        }
        let back = ["tenant", "import", "--all", "--from", &from];
        assert_eq!(target.done(&back), "imported 3 tenants\n");
        // As after a run that was cut short; what was written to one since then is not lost.
        target.done(&["tenant", "delete", "c", "--yes"]);
        desk.fill(target, "b", 5);
        let (code, out, err) = run(&target.with(&back));
        let said = "tenant a: is there already\ntenant b: is there already\n";
        assert_eq!(
            (code, out.as_str()),
            (0, "imported 1 tenants, 2 were there already\n"),
            "{err}"
        );
        assert!(err.contains(said), "{err}");
        let told = target.json(&back);
        let counts = serde_json::json!({ "imported": 0, "failed": 0, "already_there": 3 });
        assert_eq!(told, counts);
        target.done(&["tenant", "export", "b", "--to", &desk.text("b.tar.gz")]);
        assert!(done(&["archive", "show", &desk.text("b.tar.gz")]).contains("records      5\n"));
        // One of the same name that is another one is a failure, and stays as it is.
        target.done(&["tenant", "delete", "b", "--yes"]);
        target.done(&["tenant", "create", "b", "--weight", "77"]);
        let (code, out, err) = run(&target.with(&back));
        assert_eq!((code, out.as_str()), (1, "imported 0 tenants, 2 were there already\n"));
        assert!(err.contains("tenant b: ") && err.contains("not made from this archive"), "{err}");
        assert_eq!(target.json(&["tenant", "show", "b"])["weight"], 77);
    });
}

#[test]
fn a_list_that_was_changed_is_not_imported() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let target = Target::Folder(folder.path());
    for name in ["a", "b"] {
        target.done(&["tenant", "create", name]);
    }
    desk.fill(&target, "b", 10);
    let (from, path) = (desk.text("all"), desk.path("all/tenants.jsonl"));
    target.done(&["tenant", "export", "--all", "--to", &from]);
    for name in ["a", "b"] {
        target.done(&["tenant", "delete", name, "--yes"]);
    }
    let back = ["tenant", "import", "--all", "--from", &from];
    let list = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = list.lines().collect();
    // Whose data a tenant gets, and where it gets them, is what was signed.
    let swapped =
        list.replace("1.tar.gz", "x").replace("2.tar.gz", "1.tar.gz").replace('x', "2.tar.gz");
    for (lie, words) in [
        (swapped, "changed after it was signed"),
        (list.replacen("\"location\":\"home\"", "\"location\":\"eu\"", 1), "changed after"),
        (format!("{}\n{}\n", lines[0], lines[2]), "changed after"),
        (format!("{}\n{}\n", lines[0], lines[1]), "does not end with a signature"),
        (String::new(), "does not end with a signature"),
    ] {
        assert_ne!(lie, list);
        fs::write(&path, lie).unwrap();
        target.fails(&back, &["tenants.jsonl", words]);
    }
    fs::write(&path, &list).unwrap();
    // So is which archive it is: the files are swapped, and neither is taken for the other.
    for (from, to) in [("1", "x"), ("2", "1"), ("x", "2")] {
        let file = |name: &str| desk.path(&format!("all/{name}.tar.gz"));
        fs::rename(file(from), file(to)).unwrap();
    }
    let (code, _, err) = run(&target.with(&back));
    assert!(code == 1 && err.matches("another one than is meant").count() == 2, "{err}");
    assert_eq!(target.json(&["tenant", "list"]), serde_json::json!([]));
}

#[test]
fn a_signed_list_leads_nowhere_but_to_its_own_folder() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let server = folder.serve(&[]);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    target.done(&["tenant", "create", "a"]);
    let from = desk.text("all");
    target.done(&["tenant", "export", "--all", "--to", &from]);
    let list = fs::read_to_string(desk.path("all/tenants.jsonl")).unwrap();
    let line = list.lines().next().unwrap().replace("1.tar.gz", "../1.tar.gz") + "\n";
    let body = serde_json::json!({ "blake3": blake3::hash(line.as_bytes()).to_hex().as_str() });
    let bearer = format!("Bearer {}", folder.key);
    let asked =
        ureq::post(format!("{}/v1/admin/signer", server.url)).header("authorization", bearer);
    let signature = asked.send_json(body).unwrap().body_mut().read_to_string().unwrap();
    fs::write(desk.path("all/tenants.jsonl"), format!("{line}{signature}\n")).unwrap();
    target.fails(&["tenant", "import", "--all", "--from", &from], &["no file of the folder"]);
    server.stop();
}

#[test]
fn tenants_come_back_where_and_how_they_were_if_that_is_said() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let target = Target::Folder(folder.path());
    for (name, isolation) in [("a", "shared"), ("b", "schema"), ("c", "database")] {
        target.done(&["tenant", "create", name, "--isolation", isolation]);
    }
    let from = desk.text("all");
    target.done(&["tenant", "export", "--all", "--to", &from]);
    let isolations = || {
        let listed = target.json(&["tenant", "list"]);
        let word = |one: &serde_json::Value| one["isolation"].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(word).collect::<Vec<_>>()
    };
    let back = ["tenant", "import", "--all", "--from", &from];
    let recorded = [&back[..], &["--as-recorded"]].concat();
    for (back, expect) in
        [(&back[..], ["shared"; 3]), (&recorded[..], ["shared", "schema", "database"])]
    {
        for name in ["a", "b", "c"] {
            target.done(&["tenant", "delete", name, "--yes"]);
        }
        target.done(back);
        assert_eq!(isolations(), expect);
    }
    let (code, _, err) = run(&target.with(&[&recorded[..], &["--isolation", "shared"]].concat()));
    assert!(code == 2 && err.contains("--as-recorded"), "{err}");
}

#[test]
fn an_operator_key_that_may_not_open_tenants_is_told_so_when_it_exports() {
    let (desk, folder) = (Desk::new(), Folder::new());
    let server = folder.serve(&[]);
    let operator = Target::Server(server.url.clone(), folder.key.clone());
    operator.done(&["tenant", "create", "a"]);
    let key = operator.done(&["key", "create", "--operator", "--no-act-as"]);
    let limited = Target::Server(server.url.clone(), key.trim().to_owned());
    let to = desk.text("a.tar.gz");
    limited.fails(&["tenant", "export", "a", "--to", &to], &["may not open tenants"]);
    limited.fails(&["tenant", "export", "x", "--to", &to], &["does not exist"]);
    assert_eq!(desk.names(), Vec::<String>::new());
    server.stop();
}
