//! What the compiler does not check: file sizes, banned words, required documents, links.
//!
//! Every message says what to do. A rule that has exceptions is no rule: there is no allow-list.

mod code;
mod markdown;
mod words;

use crate::step::{command, output, root};
use anyhow::{Context, Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const FILE_BYTES_MAX: u64 = 3 << 19;
/// From so many on, the problems of an untracked folder are one line.
const PROBLEMS_MANY: usize = 10;
const TEXT: &[&str] = &["rs", "md", "toml", "py", "sh", "lua", "txt", "yml", "yaml", "json"];
const REQUIRED: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"];
const DECISIONS: &str = "docs/decisions/";

/// What was found: problems fail the check, notes do not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    problems: Vec<String>,
    notes: Vec<String>,
}

/// Checks every file that git tracks or would track.
pub(crate) fn check() -> Result<()> {
    let root = root();
    let tracked = listed(&root, &["--cached"])?;
    let untracked = listed(&root, &["--others", "--exclude-standard"])?;
    let files = &tracked | &untracked;
    let mut findings = Findings::default();
    paths(&files, &mut findings);
    for path in &files {
        file(&root, path, &files, &mut findings)?;
    }
    findings.problems = gathered(findings.problems, &tracked, &untracked);
    for note in &findings.notes {
        println!("note: {note}");
    }
    for problem in &findings.problems {
        eprintln!("{problem}");
    }
    if !findings.problems.is_empty() {
        bail!("{} untidy places", findings.problems.len());
    }
    println!("{} files are tidy", files.len());
    Ok(())
}

/// The files of a checkout that git lists under these options.
fn listed(root: &Path, which: &[&str]) -> Result<BTreeSet<String>> {
    let listed = output(command("git", &["ls-files", "-z"]).args(which))
        .context("tidy needs a git checkout")?;
    let files = String::from_utf8(listed)?;
    let there = files.split('\0').filter(|path| !path.is_empty() && root.join(path).is_file());
    Ok(there.map(str::to_owned).collect())
}

/// The problems, those of a folder that git does not track at all on one line if they are many:
/// an environment or a scratch folder must not bury what is wrong with the change.
fn gathered(
    problems: Vec<String>,
    tracked: &BTreeSet<String>,
    untracked: &BTreeSet<String>,
) -> Vec<String> {
    let folder = |path: &str| path.split_once('/').map(|(folder, _)| format!("{folder}/"));
    let ours: BTreeSet<_> = tracked.iter().filter_map(|path| folder(path)).collect();
    let foreign: BTreeSet<_> = untracked.iter().filter_map(|path| folder(path)).collect();
    let (mut out, mut counts) = (Vec::new(), BTreeMap::<String, Vec<String>>::new());
    for problem in problems {
        match folder(&problem).filter(|f| foreign.contains(f) && !ours.contains(f)) {
            Some(folder) => counts.entry(folder).or_default().push(problem),
            None => out.push(problem),
        }
    }
    for (folder, of_folder) in counts {
        match of_folder.len() {
            count @ PROBLEMS_MANY.. => out.push(format!(
                "{folder}: {count} untidy places in a folder that git does not track; move it away, \
                 or name it in .git/info/exclude"
            )),
            _ => out.extend(of_folder),
        }
    }
    out
}

/// Rules about which files there are.
fn paths(files: &BTreeSet<String>, findings: &mut Findings) {
    for required in REQUIRED {
        if !files.contains(*required) {
            findings.problems.push(format!("{required}: missing; every release needs it"));
        }
    }
    let decisions: Vec<_> = files.iter().filter(|path| path.starts_with(DECISIONS)).collect();
    if decisions.is_empty() {
        findings.problems.push(format!(
            "{DECISIONS}: empty; write down why the disk format and the layers are as they are"
        ));
    }
    for path in decisions {
        let name = path.trim_start_matches(DECISIONS);
        if !is_decision(name) {
            findings.problems.push(format!("{path}: name it YYYY-MM-DD-title.md"));
        }
    }
}

/// True for `2026-11-21-one-word-after-another.md`.
fn is_decision(name: &str) -> bool {
    let Some((date, title)) = name.split_at_checked(11) else { return false };
    let date_fits = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 | 10 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let title = title.strip_suffix(".md").unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    date_fits && !title.is_empty() && title.bytes().all(fits)
}

/// Rules about one file.
fn file(root: &Path, path: &str, files: &BTreeSet<String>, findings: &mut Findings) -> Result<()> {
    let bytes = fs::metadata(root.join(path))?.len();
    if bytes > FILE_BYTES_MAX {
        findings.problems.push(format!(
            "{path}: {bytes} bytes, at most {FILE_BYTES_MAX}; make it when it is needed instead"
        ));
    }
    let extension = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default();
    if !TEXT.contains(&extension) {
        return Ok(());
    }
    let Ok(text) = String::from_utf8(fs::read(root.join(path))?) else {
        findings.problems.push(format!("{path}: not UTF-8; text files are"));
        return Ok(());
    };
    words::check(path, &text, findings);
    match extension {
        "rs" => code::check(path, &text, findings),
        "md" => markdown::check(root, path, &text, files, findings),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_named_by_date_and_title() {
        for (name, expected) in [
            ("2026-11-21-group-commit.md", true),
            ("2026-11-21-.md", false),
            ("group-commit.md", false),
            ("2026-11-21-Group.md", false),
            ("2026-11-21-group.txt", false),
            ("é", false),
        ] {
            assert_eq!(is_decision(name), expected, "{name}");
        }
    }

    #[test]
    fn a_scratch_folder_is_one_line_and_hides_nothing_else() {
        let files = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let tracked = files(&["README.md", "crates/a/src/lib.rs"]);
        let untracked = files(&["crates/a/src/new.rs", "scratch/a.py", "few/b.py", "c.py"]);
        let mut problems = vec!["c.py:1: a tab".to_owned(), "few/b.py:1: a tab".to_owned()];
        for line in 1..=20 {
            problems.push(format!("scratch/a.py:{line}: a tab"));
            problems.push(format!("crates/a/src/new.rs:{line}: a tab"));
        }
        let told = gathered(problems, &tracked, &untracked);
        assert_eq!(told.len(), 23, "{told:?}");
        let folder: Vec<_> = told.iter().filter(|line| line.starts_with("scratch/")).collect();
        assert!(folder.len() == 1 && folder[0].starts_with("scratch/: 20 untidy"), "{folder:?}");
    }

    #[test]
    fn a_missing_document_is_named() {
        let mut findings = Findings::default();
        let files = REQUIRED[1..].iter().map(|name| (*name).to_owned()).collect();
        paths(&files, &mut findings);
        assert_eq!(findings.problems.len(), 2, "{findings:?}");
        assert!(findings.problems[0].starts_with("README.md: missing"), "{findings:?}");
        assert!(findings.problems[1].starts_with(DECISIONS), "{findings:?}");
    }
}
