//! Relative links of Markdown files must lead somewhere, down to the heading they name.

use super::Findings;
use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

pub(super) fn check(
    root: &Path,
    path: &str,
    text: &str,
    files: &BTreeSet<String>,
    findings: &mut Findings,
) {
    for (line_number, target) in links(text) {
        if let Some(problem) = dead(root, path, text, &target, files) {
            findings.problems.push(format!("{path}:{line_number}: the link to {target} {problem}"));
        }
    }
}

/// Why a link is dead; `None` if it leads somewhere or is not ours to judge.
fn dead(
    root: &Path,
    path: &str,
    text: &str,
    target: &str,
    files: &BTreeSet<String>,
) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').map_or((target, None), |(f, h)| (f, Some(h)));
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let aim = if file.is_empty() { Some(PathBuf::from(path)) } else { normal(&folder.join(file)) };
    let Some(aim) = aim else { return Some("leaves the repository; copy what it shows".into()) };
    let aim = aim.to_string_lossy().trim_end_matches('/').to_owned();
    let folder_prefix = format!("{aim}/");
    if !files.contains(&aim) && !files.iter().any(|other| other.starts_with(&folder_prefix)) {
        return Some("leads to no file of the repository; correct or remove it".to_owned());
    }
    let heading = heading.filter(|_| aim.to_ascii_lowercase().ends_with(".md"))?;
    let other =
        if aim == path { text.to_owned() } else { fs::read_to_string(root.join(&aim)).ok()? };
    let known = headings(&other);
    (!known.contains(heading))
        .then(|| format!("names no heading there; the headings are {}", join(&known)))
}

fn join(headings: &BTreeSet<String>) -> String {
    headings.iter().map(|h| format!("#{h}")).collect::<Vec<_>>().join(" ")
}

/// The path without `.` and `..`; `None` if it leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// Lines outside of fenced code, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// The targets of inline links, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line_number, line) in prose(text) {
        // What stands between backticks is code, not a link.
        let visible: String =
            line.split('`').enumerate().filter(|(at, _)| at % 2 == 0).map(|(_, t)| t).collect();
        for piece in visible.split("](").skip(1) {
            let Some((target, _)) = piece.split_once(')') else { continue };
            let target = target.split_whitespace().next().unwrap_or_default();
            found.push((line_number, target.trim_matches(['<', '>']).to_owned()));
        }
    }
    found
}

/// The anchors that code hosts make of headings.
fn headings(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let base: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut anchor = base.clone();
        for count in 1.. {
            if anchors.insert(anchor) {
                break;
            }
            anchor = format!("{base}-{count}");
        }
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let files: BTreeSet<String> =
            ["docs/a.md", "docs/guides/b.md", "README.md"].map(str::to_owned).into();
        let mut findings = Findings::default();
        check(Path::new("/nowhere"), "docs/a.md", text, &files, &mut findings);
        findings.problems
    }

    #[test]
    fn living_links_pass() {
        let text = "# Top\n[b](guides/b.md) [up](../README.md) [folder](guides/) [web](https://a.b/c)\n\
                    [here](#top) [titled](guides/b.md \"B\") `[code](none.md)`\n\
                    ```\n[fenced](none.md)\n```\n";
        assert_eq!(problems(text), Vec::<String>::new());
    }

    #[test]
    fn dead_links_are_named_with_their_line() {
        for text in ["x\n[c](guides/c.md)\n", "x\n[out](../../etc)\n", "x\n[no](#nothing)\n"] {
            let found = problems(text);
            assert!(
                found.len() == 1 && found[0].starts_with("docs/a.md:2: the link"),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn headings_become_anchors() {
        let found = headings("# The `one`, and two!\n## Same\n## Same\n#no\n");
        let expected: BTreeSet<_> = ["the-one-and-two", "same", "same-1"].map(str::to_owned).into();
        assert_eq!(found, expected);
    }
}
