//! `tenantry quickstart`.

use crate::program::{done, key_in, run};

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
        "native REST  http://127.0.0.1:",
    ] {
        assert!(out.contains(line), "{line:?} is missing:\n{out}");
    }
    let wide = |line: &&str| line.chars().count() > 80 && !line.contains("tnt_");
    assert_eq!(out.lines().find(wide), None);
    assert_eq!(out.matches("tnt_").count(), 3, "{out}");
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
