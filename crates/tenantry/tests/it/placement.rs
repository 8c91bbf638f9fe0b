//! Placement policies, and the pace of moves.

use crate::program::{Folder, done, fails, run, tenantry};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

const POLICY: &str = "every = \"1s\"\nstay = \"0s\"\n\n[[rule]]\nfrom = \"shared\"\n\
                      to = \"schema\"\nrecords_over = 100\n\n[[rule]]\nfrom = \"schema\"\n\
                      to = \"shared\"\nrecords_under = 80\n";

fn write(folder: &Path, text: &str) -> String {
    let file = folder.join("placement.toml");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// A tenant with so many records.
fn fill(to: &[&str], name: &str, records: usize) {
    done(&[&["tenant", "create", name][..], to].concat());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    let lines: Vec<_> =
        (0..records).map(|n| format!("{{\"id\": \"{n}\", \"vector\": [1, {n}]}}\n")).collect();
    fs::write(&file, lines.concat()).unwrap();
    let file = file.display().to_string();
    let what = ["import", &file, "--collection", "notes", "--create", "--tenant", name];
    done(&[&what[..], to].concat());
}

fn isolation(to: &[&str], name: &str) -> String {
    let shown = done(&[&["tenant", "show", name][..], to, &["--json"]].concat());
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["isolation"].as_str().unwrap().to_owned()
}

#[test]
fn a_server_moves_tenants_as_a_policy_says_and_a_command_says_it_before() {
    let folder = Folder::new();
    let file = write(folder.temporary.path(), POLICY);
    let (path, key) = (folder.path(), folder.key.clone());
    let to = ["--data-dir", &path];
    fill(&to, "large", 120);
    fill(&to, "small", 20);
    let said = |to: &[&str]| done(&[&["tenant", "policy", &file][..], to].concat());
    let out = said(&to);
    let line = out.lines().find(|line| line.starts_with("large")).expect("it would be moved");
    assert!(line.contains("shared at home") && line.contains("schema at home"), "{out}");
    assert!(line.contains("rule 1: 120 records are more than 100"), "{out}");
    assert!(!out.contains("small"), "{out}");
    assert_eq!(done(&["tenant", "policy", &file, "--check"]), "2 rules fit together\n");
    let all = done(&[&["tenant", "policy", &file, "--all"][..], &to].concat());
    let small = all.lines().find(|line| line.starts_with("small")).expect("also those that stay");
    assert!(small.contains("stays") && small.contains("20 records"), "{all}");
    // Nothing was changed, and a server without it changes nothing.
    let server = folder.serve(&[]);
    let to = ["--server", server.url.as_str(), "--key", &key];
    assert_eq!(said(&to), out);
    let followed = [&["tenant", "policy"][..], &to].concat();
    fails(&mut tenantry(&followed), &["no placement policy is followed"]);
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(isolation(&to, "large"), "shared");
    server.stop();

    let server = folder.serve(&["--placement-policy", &file]);
    let to = ["--server", server.url.as_str(), "--key", &key];
    let begun = Instant::now();
    while isolation(&to, "large") != "schema" {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is not moved");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(isolation(&to, "small"), "shared");
    assert_eq!(said(&to), "every tenant stays where it is\n");
    // The one that the server follows.
    let followed = done(&[&["tenant", "policy", "--all", "--json"][..], &to].concat());
    let followed: Value = serde_json::from_str(&followed).unwrap();
    assert_eq!(followed[0]["why"], "no rule's bounds are met by 120 records, 960 bytes");
    server.stop();
}

#[test]
fn a_place_that_is_not_there_is_told_before_a_policy_is_followed() {
    let folder = Folder::new();
    let away = POLICY.replace("to = \"schema\"", "to = \"schema\"\nto_location = \"eu\"");
    let file = write(folder.temporary.path(), &away);
    let path = folder.path();
    let to = ["--data-dir", path.as_str()];
    fill(&to, "large", 120);
    let out = done(&[&["tenant", "policy", &file][..], &to].concat());
    let line = out.lines().find(|line| line.starts_with("large")).expect("a rule would move it");
    assert!(line.contains("schema at eu") && line.contains("but there is no location eu"), "{out}");
}

#[test]
fn a_policy_that_is_wrong_is_refused_before_anything_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let serve = |file: &str, words: &[&str]| {
        fails(&mut tenantry(&["serve", "--data-dir", &data, "--placement-policy", file]), words);
        assert!(!Path::new(&data).exists());
    };
    let file = write(folder.path(), &POLICY.replace("80", "99"));
    serve(&file, &["placement.toml", "line 9", "back and forth"]);
    fails(&mut tenantry(&["tenant", "policy", &file, "--check"]), &["line 9", "back and forth"]);
    let file = write(folder.path(), &POLICY.replace("records_over", "records_above"));
    serve(&file, &["placement.toml", "line 7", "records_above"]);
    let away = POLICY.replace("to = \"schema\"", "to = \"schema\"\nto_location = \"eu\"");
    let file = write(folder.path(), &away);
    serve(&file, &["there is no location eu", "--location eu=URL"]);
    serve("/nowhere/placement.toml", &["/nowhere/placement.toml"]);
}

#[test]
fn a_move_takes_as_long_as_its_rate_says() {
    let folder = Folder::new();
    let (path, key) = (folder.path(), folder.key.clone());
    fill(&["--data-dir", &path], "acme", 1_200);
    let took = |args: &[&str], isolation: &str| {
        let server = folder.serve(args);
        let to = ["--server", server.url.as_str(), "--key", &key];
        let begun = Instant::now();
        let what = ["tenant", "move", "acme", "--isolation", isolation];
        let (code, out, err) = run(&[&what[..], &to].concat());
        assert!(code == 0 && out.starts_with("acme: "), "{out}{err}");
        server.stop();
        (begun.elapsed(), err)
    };
    let (free, _) = took(&[], "schema");
    let (bound, err) = took(&["--move-rate", "30KB"], "shared");
    // No terminal is there: a line now and then.
    let lines = err.lines().count();
    assert!((2..2 + bound.as_secs() / 3).contains(&(lines as u64)), "{bound:?}: {err}");
    let compared = |line: &&str| line.starts_with("checking: ") && line.contains(" compared");
    let line = err.lines().find(compared).unwrap_or_else(|| panic!("it is not told: {err}"));
    assert!(line.contains(" of 1200 records compared"), "{line}");
    println!("{free:?}, {bound:?} with a bound");
    // 1,200 records of some hundred bytes each, copied and then compared.
    assert!(bound > Duration::from_secs(6) && bound > 2 * free, "{free:?} {bound:?}");
}

#[test]
fn a_backend_that_does_not_keep_the_place_is_refused() {
    let folder = Folder::new();
    let path = folder.path();
    let to = ["--data-dir", path.as_str()];
    done(&[&["tenant", "create", "acme"][..], &to].concat());
    let with = |backend| ["tenant", "move", "acme", "--isolation", "schema", "--backend", backend];
    let refused = [&with("postgres")[..], &to].concat();
    fails(&mut tenantry(&refused), &["location home is kept by embedded, not by postgres", "none"]);
    let moved = done(&[&with("embedded")[..], &to].concat());
    assert!(moved.starts_with("acme: shared → schema, done"), "{moved}");
}
