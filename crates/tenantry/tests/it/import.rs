//! `tenantry import`.

use crate::program::{Folder, done, tenantry, texts};
use std::{
    fs::{self, File},
    process::Stdio,
};

/// A folder with the tenant `acme` and a file of these lines.
fn with_lines(lines: &str) -> (Folder, String) {
    let folder = Folder::new();
    done(&["tenant", "create", "acme", "--data-dir", &folder.path()]);
    let file = folder.temporary.path().join("records.jsonl");
    fs::write(&file, lines).unwrap();
    (folder, file.display().to_string())
}

fn import(file: &str, args: &[&str]) -> (i32, String, String) {
    let base = ["import", file, "--tenant", "acme", "--collection", "notes"];
    texts(&tenantry(&[&base[..], args].concat()).output().unwrap())
}

#[test]
fn records_arrive_and_can_be_sent_again() {
    let lines = (0..10_500).map(|i| format!("{{\"id\":\"{i}\",\"metadata\":{{\"n\":{i}}}}}\n"));
    let (folder, file) = with_lines(&lines.collect::<String>());
    let path = folder.path();
    let (code, _, err) = import(&file, &["--data-dir", &path]);
    assert_eq!(code, 1);
    assert!(err.contains("[notes] does not exist (--create makes it)"), "{err}");

    let (code, out, err) = import(&file, &["--create", "--data-dir", &path]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        out,
        "imported 10500 records into acme/default_database/notes: 10500 new, 0 updated\n"
    );
    assert_eq!(err, "imported 10000 records\n");

    let all = fs::read_to_string(&file).unwrap();
    let first: Vec<_> = all.lines().take(1_200).collect();
    fs::write(&file, first.join("\n")).unwrap();
    let server = folder.serve(&[]);
    let (code, out, err) =
        import(&file, &["--json", "--server", &server.url, "--key", &folder.key]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(out, "{\"inserted\":0,\"records\":1200,\"updated\":1200}\n");
}

#[test]
fn a_tenants_key_needs_no_tenant() {
    let (folder, file) = with_lines("{\"id\":\"a\",\"vector\":[1,0]}\n");
    let key = done(&["key", "create", "--tenant", "acme", "--data-dir", &folder.path()]);
    let server = folder.serve(&[]);
    let import = ["import", &file, "--collection", "notes", "--create"];
    let with = |to: &[&str]| texts(&tenantry(&[&import[..], to].concat()).output().unwrap());

    let (code, out, err) = with(&["--server", &server.url, "--key", key.trim()]);
    assert_eq!(code, 0, "{err}");
    let told = "imported 1 records into acme/default_database/notes: 1 new, 0 updated\n";
    assert_eq!(out, told);
    let (code, _, err) = with(&["--server", &server.url, "--key", &folder.key]);
    assert!(code == 1 && err.contains("say which tenant: --tenant NAME"), "{err}");
    server.stop();
    let (code, _, err) = with(&["--data-dir", &folder.path()]);
    assert!(code == 1 && err.contains("say which tenant: --tenant NAME"), "{err}");
}

#[test]
fn standard_input_is_read_too() {
    let (folder, file) =
        with_lines("{\"id\":\"a\",\"embedding\":[1,0]}\n\n{\"id\":\"b\",\"vector\":[0,1]}\n");
    let mut command = tenantry(&["import", "-", "--tenant", "acme", "--collection", "notes"]);
    command.args(["--create", "--metric", "l2", "--data-dir", &folder.path()]);
    let (code, out, err) =
        texts(&command.stdin(Stdio::from(File::open(file).unwrap())).output().unwrap());
    assert!(code == 0 && out.contains("2 new"), "{out}{err}");
}

#[test]
fn an_error_names_its_line() {
    let good: Vec<_> = (0..1_500).map(|i| format!("{{\"id\":\"{i}\",\"vector\":[1]}}\n")).collect();
    let good = good.concat();
    for (bad, says) in [
        ("{\"id\":\"x\",\"colour\":1}", "line 1502: unknown field `colour`"),
        ("not JSON", "line 1502: a line must be a JSON object, see `tenantry import --help`"),
        ("{\"id\":\"x\",\"vector\":[1,2]}", "line 1502: "),
        ("{\"id\":\"1499\",\"vector\":[1]}", "line 1502: "),
        ("{\"id\":\"x\",\"metadata\":{\"a\":{}}}", "lines 1001 to 1502: "),
    ] {
        // An empty line counts.
        let (folder, file) = with_lines(&format!("{good}\n{bad}\n"));
        let (code, _, err) = import(&file, &["--create", "--data-dir", &folder.path()]);
        assert_eq!(code, 1);
        let last = err.lines().last().unwrap();
        assert!(last.starts_with(&format!("error: stopped after 1000 records: {says}")), "{err}");
    }
}
