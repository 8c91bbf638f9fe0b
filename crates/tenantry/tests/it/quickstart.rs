//! `tenantry quickstart`.

use crate::program::{done, key_in, run, tenantry};
use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
};

#[test]
fn each_tenant_finds_its_own_and_the_other_is_out_of_reach() {
    let out = done(&["quickstart", "--once"]);
    for line in [
        "\"lightweight and flexible command-line JSON processor\"",
        "perl-group, 250 texts",
        "libjson-perl",
        "python-team, 250 texts",
        "yq",
        "X-Tenant-ID: python-team      404  Tenant [python-team] does not exist",
        "X-Tenant-ID: no-such-tenant   404  Tenant [no-such-tenant] does not exist",
        "A foreign and a missing tenant answer alike; the audit log shows both tries. │",
        "native REST  http://127.0.0.1:",
    ] {
        assert!(out.contains(line), "{line:?} is missing:\n{out}");
    }
    let wide = |line: &&str| line.chars().count() > 80 && !line.contains("tnt_");
    assert_eq!(out.lines().find(wide), None);
    assert_eq!(out.matches("tnt_").count(), 3, "{out}");
}

/// The README shows what the program shows.
#[test]
fn the_picture_is_the_one_in_the_readme() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) = readme.split_once("```text\n").unwrap();
    let (picture, _) = rest.split_once("```").unwrap();
    let out = done(&["quickstart", "--once"]);
    assert!(out.contains(picture), "{out}");
}

/// What it prints to go on with is run as it stands, on ports that are not the usual ones.
#[test]
fn the_commands_that_it_prints_work() {
    let _taken = ["127.0.0.1:7700", "127.0.0.1:8000"].map(TcpListener::bind);
    let mut child = tenantry(&["quickstart"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    while !shown.contains("Serving until Ctrl-C.") {
        assert!(out.read_line(&mut shown).unwrap() > 0, "{shown}");
    }
    let shell = |from: &str, to: &str| {
        let (_, rest) = shown.split_once(from).unwrap();
        let (script, _) = rest.split_once(":\n\n").unwrap().1.split_once(to).unwrap();
        let ran = Command::new("sh").args(["-ec", script]).output().unwrap();
        String::from_utf8(ran.stdout).unwrap() + &String::from_utf8_lossy(&ran.stderr)
    };
    let searched = shell("is most like", "What the operator's");
    let log = shell("the attempts above", "Serving");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(shown.contains("  (port 7700 is taken)") && shown.contains("  (port 8000 is taken)"));
    let hits: serde_json::Value = serde_json::from_str(&searched).expect(&searched);
    let hits = hits["results"][0].as_array().unwrap();
    assert!(hits.len() == 3 && hits[0]["id"] == "ack", "{searched}");
    assert!(log.contains("cross_tenant_attempt") && log.contains("python-team"), "{log}");
}

#[test]
fn it_runs_again_on_the_folder_it_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let first = done(&["quickstart", "--once", "--data-dir", &data]);
    let second = done(&["quickstart", "--once", "--data-dir", &data]);
    let pictures: Vec<_> =
        [&first, &second].iter().map(|out| out.split("native REST").next().unwrap()).collect();
    assert_eq!(pictures[0], pictures[1]);
    assert_ne!(key_in(&first), key_in(&second));

    // The keys of the first run are revoked, and nothing was loaded twice.
    let list = ["key", "list", "--tenant", "perl-group", "--json", "--data-dir", &data];
    let keys: serde_json::Value = serde_json::from_str(&done(&list)).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn it_is_not_shown_to_other_machines() {
    let (code, _, err) = run(&["quickstart", "--once", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, 1);
    assert!(err.contains("reachable from other machines"), "{err}");
}
