//! The law of dependencies: which crate may name which.

use crate::step::{cargo, output};
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Every crate of the workspace, from the bottom up, and the crates that it may name in any kind
/// of dependency. A new arrow needs a decision record in `docs/decisions`.
const ARROWS: &[(&str, &[&str])] = &[
    ("tenantry-types", &[]),
    ("tenantry-index", &["tenantry-types"]),
    ("tenantry-auth", &["tenantry-types"]),
    ("tenantry-store", &["tenantry-types", "tenantry-auth", "tenantry-index"]),
    ("tenantry-engine", &["tenantry-types", "tenantry-auth", "tenantry-index", "tenantry-store"]),
    ("tenantry-api", &["tenantry-engine"]),
    ("tenantry-compat", &["tenantry-engine"]),
    (
        "tenantry",
        &["tenantry-types", "tenantry-engine", "tenantry-store", "tenantry-api", "tenantry-compat"],
    ),
    // A tool, not a part of the program: it measures any of it, from inside and from outside.
    (
        "tenantry-bench",
        &["tenantry-types", "tenantry-index", "tenantry-store", "tenantry-engine", "tenantry"],
    ),
    ("xtask", &[]),
];

/// One crate and what it names, as its manifest says.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    name: String,
    names: Vec<String>,
}

/// Checks the workspace's manifests against [`ARROWS`].
pub(crate) fn check() -> Result<()> {
    let metadata =
        output(&mut cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]))?;
    let packages = parse(&serde_json::from_slice(&metadata)?)?;
    let problems = problems(&packages, ARROWS);
    if problems.is_empty() {
        println!("{} crates, every arrow is allowed", packages.len());
        return Ok(());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    bail!("{} forbidden dependencies", problems.len())
}

fn parse(metadata: &Value) -> Result<Vec<Package>> {
    let list = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_array).cloned().with_context(|| format!("no {key}"))
    };
    let name = |value: &Value| {
        value.get("name").and_then(Value::as_str).map(str::to_owned).context("no name")
    };
    let mut packages = Vec::new();
    for package in list(metadata, "packages")? {
        // Only crates of this workspace are dependencies by path.
        let names = list(&package, "dependencies")?
            .iter()
            .filter(|dependency| dependency.get("path").is_some_and(Value::is_string))
            .map(name)
            .collect::<Result<_>>()?;
        packages.push(Package { name: name(&package)?, names });
    }
    Ok(packages)
}

fn problems(packages: &[Package], arrows: &[(&str, &[&str])]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let Some((_, allowed)) = arrows.iter().find(|(name, _)| *name == package.name) else {
            problems.push(format!(
                "{0}: unknown crate. Put {0} and the crates it may name into ARROWS in \
                 xtask/src/layers.rs, and say in docs/decisions why a module cannot serve",
                package.name
            ));
            continue;
        };
        for named in &package.names {
            // A crate may name itself: a dev-dependency that switches a feature on for its tests.
            if *named != package.name && !allowed.contains(&named.as_str()) {
                problems.push(format!(
                    "{} must not depend on {named}: it may name {}. Move the code to the layer \
                     where it belongs",
                    package.name,
                    if allowed.is_empty() {
                        "no crate of ours".to_owned()
                    } else {
                        allowed.join(", ")
                    }
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, names: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn an_allowed_arrow_passes() {
        let packages =
            [package("tenantry-api", &["tenantry-engine"]), package("tenantry-types", &[])];
        assert_eq!(problems(&packages, ARROWS), Vec::<String>::new());
    }

    #[test]
    fn a_forbidden_arrow_is_refused() {
        let found = problems(&[package("tenantry-index", &["tenantry-auth"])], ARROWS);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("tenantry-index must not depend on tenantry-auth"),
            "{found:?}"
        );
    }

    #[test]
    fn a_crate_outside_the_table_is_refused() {
        let found = problems(&[package("tenantry-utils", &[])], ARROWS);
        assert!(found[0].contains("unknown crate"), "{found:?}");
    }

    #[test]
    fn arrows_of_the_table_point_down_only() {
        for (position, (name, allowed)) in ARROWS.iter().enumerate() {
            for below in *allowed {
                let at = ARROWS.iter().position(|(other, _)| other == below);
                assert!(at.is_some_and(|at| at < position), "{name} names {below}");
            }
        }
    }

    #[test]
    fn dependencies_of_every_kind_count_and_registry_crates_do_not() {
        let metadata = json!({"packages": [{"name": "tenantry-types", "dependencies": [
            {"name": "serde", "kind": null},
            {"name": "tenantry-auth", "kind": "dev", "path": "/x"},
            {"name": "tenantry-store", "kind": "build", "path": "/y"},
        ]}]});
        let expected = vec![package("tenantry-types", &["tenantry-auth", "tenantry-store"])];
        assert_eq!(parse(&metadata).unwrap(), expected);
    }
}
