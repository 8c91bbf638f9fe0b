//! What must not compile, with the code of the compiler's error: a case that fails for another
//! reason than the one it is about does not pass.
//!
//! Each file of `compile_fail/` is a program; a line that must be refused ends with `//~ CODE`.
//! Every error must have its mark and every mark its error. `compile_pass/` holds the same
//! programs without the offence, so that a broken set-up is noticed. Only codes and lines are
//! compared, never the compiler's words, which change from release to release.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

type Marks = BTreeSet<(usize, String)>;

const CRATES: [&str; 3] = ["tenantry_engine", "tenantry_auth", "tenantry_store"];

/// The folder with the libraries that this test was built with.
fn libraries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}

/// The most recent build of a crate.
fn library(name: &str) -> PathBuf {
    let start = format!("lib{name}-");
    let mut builds: Vec<(SystemTime, PathBuf)> = fs::read_dir(libraries())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(&start) && Path::new(&name).extension().is_some_and(|e| e == "rlib")
        })
        .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
        .collect();
    builds.sort();
    builds.pop().unwrap_or_else(|| panic!("{name} is not built")).1
}

/// The errors of a program, by line and code; one without a code is `?` and its text.
fn errors(program: &Path, text: &str) -> Marks {
    let out = tempfile::tempdir().unwrap();
    let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()));
    rustc
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--error-format=json"])
        .arg(format!("-Ldependency={}", libraries().display()))
        .arg("-o")
        .arg(out.path().join("case.rmeta"))
        .arg(program);
    for name in CRATES.into_iter().filter(|name| text.contains(name)) {
        rustc.arg("--extern").arg(format!("{name}={}", library(name).display()));
    }
    let output = rustc.output().expect("rustc runs");
    let report = String::from_utf8(output.stderr).unwrap();
    let mut found = Marks::new();
    for line in report.lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        if message["level"] != "error" || message["spans"] == serde_json::json!([]) {
            continue;
        }
        let words = message["message"].as_str().unwrap();
        let code =
            message["code"]["code"].as_str().map_or_else(|| format!("? {words}"), str::to_owned);
        // One error may point at several places, such as all private fields of one expression.
        for span in message["spans"].as_array().unwrap().iter().filter(|s| s["is_primary"] == true)
        {
            let line = usize::try_from(span["line_start"].as_u64().unwrap()).unwrap();
            found.insert((line, code.clone()));
        }
    }
    assert_eq!(output.status.success(), found.is_empty(), "{}: {report}", program.display());
    found
}

fn marks(text: &str) -> Marks {
    (1..)
        .zip(text.lines())
        .filter_map(|(line, text)| Some((line, text.split_once("//~ ")?.1.trim().to_owned())))
        .collect()
}

fn programs(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn offences_are_refused_for_the_right_reason() {
    let programs = programs("compile_fail");
    assert!(programs.len() >= 10, "cases are missing");
    let mut wrong = Vec::new();
    for (path, text) in programs {
        let (expected, found) = (marks(&text), errors(&path, &text));
        assert!(!expected.is_empty(), "{}: no line is marked", path.display());
        let missing: Vec<_> = expected.difference(&found).collect();
        let unmarked: Vec<_> = found.difference(&expected).collect();
        if expected != found {
            wrong.push(format!("{}: missing {missing:?}, unmarked {unmarked:?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_programs_without_the_offence_compile() {
    let programs = programs("compile_pass");
    assert!(programs.len() >= CRATES.len(), "cases are missing");
    for (path, text) in programs {
        assert_eq!(errors(&path, &text), Marks::new(), "{}", path.display());
    }
}
