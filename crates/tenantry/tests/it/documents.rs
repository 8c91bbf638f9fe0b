//! What the documents tell people to type is typed here, and must do what they say.

use crate::{
    program::{Folder, done},
    webhooks::Hook,
};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// The fenced blocks of a language, one after another.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// Runs a script in an empty folder with `tenantry` on the path; its standard output.
fn sh(script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tenantry"));
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let ran = Command::new("sh")
        .args(["-ec", script])
        .current_dir(folder.path())
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{err}");
    String::from_utf8(ran.stdout).unwrap()
}

/// True if the text is the pattern with each `…` standing for anything.
fn fits(text: &str, pattern: &str) -> bool {
    let (first, rest) = pattern.split_once('…').unwrap_or((pattern, ""));
    let Some(mut text) = text.strip_prefix(first) else { return false };
    if !pattern.contains('…') {
        return text.is_empty();
    }
    let mut parts = rest.split('…').peekable();
    while let Some(part) = parts.next() {
        let found = if parts.peek().is_none() { text.rfind(part) } else { text.find(part) };
        let Some(at) = found else { return false };
        text = &text[at + part.len()..];
    }
    text.is_empty()
}

#[test]
fn the_readme_is_right_about_how_to_use_it() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) = readme.split_once("<!-- use -->").unwrap();
    let (used, rest) = rest.split_once("<!-- /use -->").unwrap();
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let script = blocks(used, "sh").concat();
    assert!(script.contains("tnt_…") && script.contains("http://127.0.0.1:7700"));
    let script = script.replace("tnt_…", &folder.key).replace("http://127.0.0.1:7700", &server.url);
    let out = sh(&script);
    let answer = blocks(rest, "json")[0].trim();
    assert!(fits(out.lines().last().unwrap(), answer), "{out}");
}

#[test]
fn the_tour_of_the_native_protocol_is_right() {
    let tour = include_str!("../../../../docs/guides/native-api.md");
    let folder = Folder::new();
    done(&["tenant", "create", "acme", "--data-dir", &folder.path()]);
    let key = done(&["key", "create", "--tenant", "acme", "--data-dir", &folder.path()]);
    let server = folder.serve(&[]);
    let script = blocks(tour, "sh").concat();
    let script = script.replace("tnt_…", key.trim()).replace("http://127.0.0.1:7700", &server.url);
    let out = sh(&script);
    let answers = blocks(tour, "json");
    assert_eq!((out.lines().count(), answers.len()), (4, 4), "{out}");
    for (answer, told) in out.lines().zip(answers) {
        assert!(fits(answer, told.trim()), "{answer}\n{told}");
    }
}

#[test]
fn the_guide_to_isolation_shows_an_advice_as_it_is() {
    let guide = include_str!("../../../../docs/guides/isolation.md");
    let (_, rest) = guide.split_once("<!-- advice -->").unwrap();
    let (advice, _) = rest.split_once("<!-- /advice -->").unwrap();
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let script = blocks(advice, "sh").concat();
    let to = format!("export TENANTRY_SERVER={} TENANTRY_KEY={}\n", server.url, folder.key);
    assert_eq!(sh(&format!("{to}{script}")), blocks(advice, "text").concat());
}

#[test]
fn the_guide_to_moving_moves() {
    let guide = include_str!("../../../../docs/guides/moving.md");
    let (_, rest) = guide.split_once("<!-- move -->").unwrap();
    let (shown, _) = rest.split_once("<!-- /move -->").unwrap();
    let folder = Folder::new();
    done(&["tenant", "create", "acme", "--data-dir", &folder.path()]);
    let server = folder.serve(&[]);
    let to = format!("export TENANTRY_SERVER={} TENANTRY_KEY={}\n", server.url, folder.key);
    let out = sh(&format!("{to}{}", blocks(shown, "sh").concat()));
    assert!(fits(&out, &blocks(shown, "text").concat()), "{out}");
}

/// The policy that the guide shows is one.
#[test]
fn the_guide_to_moving_shows_a_policy() {
    let guide = include_str!("../../../../docs/guides/moving.md");
    let shown = blocks(guide, "toml");
    let [policy] = shown.as_slice() else { panic!("one policy") };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("placement.toml");
    std::fs::write(&file, policy).unwrap();
    let file = file.display().to_string();
    assert_eq!(done(&["tenant", "policy", &file, "--check"]), "2 rules fit together\n");
}

#[test]
fn the_guide_to_archives_exports_imports_and_copies() {
    let guide = include_str!("../../../../docs/guides/export-import.md");
    let (_, rest) = guide.split_once("<!-- archive -->").unwrap();
    let (shown, _) = rest.split_once("<!-- /archive -->").unwrap();
    let folder = Folder::new();
    done(&["tenant", "create", "acme", "--data-dir", &folder.path()]);
    let server = folder.serve(&[]);
    let to = format!("export TENANTRY_SERVER={} TENANTRY_KEY={}\n", server.url, folder.key);
    let desk = tempfile::tempdir().unwrap();
    let go = format!("cd {}\n", desk.path().display());
    let out = sh(&format!("{to}{go}{}", blocks(shown, "sh").concat()));
    assert!(fits(&out, &blocks(shown, "text").concat()), "{out}");
}

#[test]
fn the_guide_to_plans_makes_them() {
    let guide = include_str!("../../../../docs/guides/plans.md");
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let to = format!("export TENANTRY_SERVER={} TENANTRY_KEY={}\n", server.url, folder.key);
    for part in ["plans", "exceptions"] {
        let (_, rest) = guide.split_once(&format!("<!-- {part} -->")).unwrap();
        let (shown, _) = rest.split_once(&format!("<!-- /{part} -->")).unwrap();
        let out = sh(&format!("{to}{}", blocks(shown, "sh").concat()));
        assert_eq!(out, blocks(shown, "text").concat());
    }
}

#[test]
fn the_guide_to_a_tenants_life_makes_and_deletes_one() {
    let guide = include_str!("../../../../docs/guides/lifecycle.md");
    let folder = Folder::new();
    let settings = blocks(guide, "toml")[0];
    let file = folder.temporary.path().join("life.toml");
    std::fs::write(&file, settings).unwrap();
    let server = folder.serve(&["--config", file.to_str().unwrap()]);
    let part = |name: &str| {
        let (_, rest) = guide.split_once(&format!("<!-- {name} -->")).unwrap();
        rest.split_once(&format!("<!-- /{name} -->")).unwrap().0
    };
    let signed_up = blocks(part("signup"), "sh").concat();
    let out = sh(&signed_up.replace("http://127.0.0.1:7700", &server.url));
    assert!(fits(&out, &blocks(part("signup"), "json").concat()), "{out}");
    let to = format!("export TENANTRY_SERVER={} TENANTRY_KEY={}\n", server.url, folder.key);
    let out = sh(&format!("{to}{}", blocks(part("delete"), "sh").concat()));
    assert!(fits(&out, &blocks(part("delete"), "text").concat()), "{out}");
    let named = blocks(part("provision"), "sh").concat();
    let out = sh(&format!("{to}{}", named.replace("http://127.0.0.1:7700", &server.url)));
    assert!(fits(&out, &blocks(part("provision"), "json").concat()), "{out}");
}

#[test]
fn the_guide_to_webhooks_makes_one_and_its_check_takes_what_is_sent() {
    let guide = include_str!("../../../../docs/guides/webhooks.md");
    let part = |name: &str| {
        let (_, rest) = guide.split_once(&format!("<!-- {name} -->")).unwrap();
        rest.split_once(&format!("<!-- /{name} -->")).unwrap().0
    };
    let folder = Folder::new();
    let server = folder.serve(&["--webhook-networks", "127.0.0.1"]);
    let to = format!("export TENANTRY_SERVER={} TENANTRY_KEY={}\n", server.url, folder.key);
    let out = sh(&format!("{to}{}", blocks(part("webhooks"), "sh").concat()));
    assert!(fits(&out, &blocks(part("webhooks"), "text").concat()), "{out}");
    let hook = Hook::new(&[]);
    let secret = sh(&format!("{to}tenantry webhook create w --url '{}'\n", hook.url));
    sh(&format!("{to}tenantry webhook test w\n"));
    let (headers, body) = hook.next().parts();
    let check = blocks(part("verify"), "python")[0];
    let program = format!(
        "{check}\nimport json, sys\nsecret, headers, body = map(json.loads, sys.argv[1:])\n\
         verify(secret, headers, body.encode())\n\
         for wrong in [(secret, headers, body + ' '), ('whsec_AAAA', headers, body)]:\n    \
         try:\n        verify(wrong[0], wrong[1], wrong[2].encode())\n    \
         except ValueError:\n        continue\n    raise SystemExit('not noticed')\n"
    );
    let python = std::env::var("TENANTRY_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let ran = Command::new(python)
        .args(["-c", &program])
        .arg(serde_json::json!(secret.trim()).to_string())
        .arg(serde_json::json!(headers).to_string())
        .arg(serde_json::json!(body).to_string())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn the_guide_to_audit_logs_suspends_lists_exports_and_verifies() {
    let guide = include_str!("../../../../docs/guides/audit.md");
    let folder = Folder::new();
    let path = folder.path();
    done(&["tenant", "create", "acme", "--data-dir", &path]);
    let key = ["key", "create", "--tenant", "acme", "--role", "admin", "--data-dir", &path];
    let key = done(&key);
    let server = folder.serve(&[]);
    let to = format!(
        "export TENANTRY_SERVER={} TENANTRY_KEY={} ACME_KEY={key}\n",
        server.url, folder.key
    );
    for part in ["suspend", "list", "reason", "audit"] {
        let (_, rest) = guide.split_once(&format!("<!-- {part} -->")).unwrap();
        let (shown, _) = rest.split_once(&format!("<!-- /{part} -->")).unwrap();
        let out = sh(&format!("{to}{}", blocks(shown, "sh").concat()));
        assert!(fits(&out, &blocks(shown, "text").concat()), "{out}");
    }
}

#[test]
fn a_pattern_fits_what_it_leaves_open() {
    assert!(fits("{\"a\":1}", "{\"a\":…}") && fits("ab", "ab") && fits("a1b2", "a…b…"));
    assert!(!fits("{\"a\":1}x", "{\"a\":…}") && !fits("abc", "ab") && !fits("ba", "a…"));
}

/// The program for the library is the one that is compiled as an example of the crate.
#[test]
fn the_readme_shows_the_librarys_tested_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let library = std::fs::read_to_string(root.join("crates/tenantry/src/lib.rs")).expect("lib.rs");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = shown.expect("a program").lines().map(str::trim);
    let is_own = |line: &&str| {
        !line.is_empty()
            && !line.contains("fn main")
            && *line != "}"
            && !line.starts_with('#')
            && !line.contains("tenantry::open")
    };
    for line in lines.filter(is_own) {
        assert!(library.contains(line), "README.md has a line that lib.rs has not: {line}");
    }
}
