//! What a fresh machine lacks: a Python environment with the real clients, a few Debian packages.
//!
//! No registry is named here: pip, apt and cargo use what the machine is configured with.

use crate::step::{command, output, root, run, target};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The file in the environment that tells what it was made from.
const STAMP: &str = "made-from.txt";
const MINIMUM: (u32, u32) = (3, 11);

/// A Python environment with everything that a list of requirements names.
#[derive(Debug)]
pub(crate) struct Venv(PathBuf);

impl Venv {
    /// The environment in `target/venv`, with the real clients, as `clients/requirements.txt` and
    /// `clients/constraints.txt` have it.
    pub(crate) fn ensure() -> Result<Self> {
        Self::made("venv", "clients")
    }

    /// The environment in `target/venv-schemathesis`: it needs another Hypothesis than Chroma's
    /// own suite.
    pub(crate) fn schemathesis() -> Result<Self> {
        Self::made("venv-schemathesis", "clients/schemathesis")
    }

    /// An environment below `target`; made anew when the requirements in a folder of the checkout
    /// have changed, from the package index that pip is configured with.
    fn made(name: &str, folder: &str) -> Result<Self> {
        let venv = Self(target().join(name));
        let requirements = root().join(folder).join("requirements.txt");
        let constraints = root().join(folder).join("constraints.txt");
        let python = find_python()?;
        let read = |file: &Path| {
            fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
        };
        let want = format!("{}\n{}{}", python.version, read(&requirements)?, read(&constraints)?);
        let stamp = venv.0.join(STAMP);
        if fs::read_to_string(&stamp).is_ok_and(|made| made == want) {
            return Ok(venv);
        }
        println!("making {} with Python {}", venv.0.display(), python.version);
        run(command(&python.program, &["-m", "venv", "--clear"]).arg(&venv.0))?;
        run(command(venv.program("python"), &["-m", "pip", "install", "--quiet"])
            .arg("--disable-pip-version-check")
            .arg("--requirement")
            .arg(&requirements)
            .arg("--constraint")
            .arg(&constraints))?;
        fs::write(stamp, want).with_context(|| format!("write the stamp of target/{name}"))?;
        Ok(venv)
    }

    /// The path of a program in the environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }

    /// The folder of installed packages.
    pub(crate) fn packages(&self) -> Result<PathBuf> {
        let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
        let printed = output(&mut command(self.program("python"), &["-c", script]))?;
        Ok(PathBuf::from(String::from_utf8(printed)?.trim()))
    }

    /// `PATH` with the environment's programs first.
    pub(crate) fn path(&self) -> Result<std::ffi::OsString> {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.0.join("bin")).chain(std::env::split_paths(&old));
        Ok(std::env::join_paths(all)?)
    }
}

struct Python {
    program: String,
    version: String,
}

/// The first Python on the path that is new enough; 3.11 first, because every pinned package has
/// a wheel for it.
fn find_python() -> Result<Python> {
    for program in ["python3.11", "python3", "python3.12", "python3.13"] {
        let script = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
        let Ok(printed) = output(&mut command(program, &["-c", script])) else { continue };
        let version = String::from_utf8_lossy(&printed).trim().to_owned();
        if new_enough(&version) {
            return Ok(Python { program: program.to_owned(), version });
        }
    }
    bail!("no Python of at least {}.{} was found", MINIMUM.0, MINIMUM.1)
}

/// True if there is a Python that is new enough and can make an environment. Debian's comes
/// without the wheels for that.
fn python_makes_venvs() -> bool {
    let can = |python: Python| {
        output(&mut command(python.program, &["-c", "import ensurepip, venv"])).is_ok()
    };
    find_python().is_ok_and(can)
}

fn new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    parts.next().zip(parts.next()).is_some_and(|found| found >= MINIMUM)
}

/// Something that a command needs, and Debian's package that brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    what: &'static str,
    package: &'static str,
    is_there: fn(&str) -> bool,
}

impl Need {
    /// A program on the path.
    pub(crate) const fn program(program: &'static str, package: &'static str) -> Self {
        Self { what: program, package, is_there: on_path }
    }

    /// A Python that can make environments.
    pub(crate) const PYTHON: Self = Self {
        what: "Python 3.11 or newer with the modules venv and ensurepip",
        package: "python3-venv",
        is_there: |_| python_makes_venvs(),
    };
}

/// Makes sure that everything is there. What is missing is installed where that is possible
/// without asking anybody; elsewhere the error names all of it at once.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = packages(&missing);
    let by_hand = format!("install it, on Debian with `apt-get install {packages}`");
    let listed: Vec<_> = missing.iter().map(|need| need.what).collect();
    let listed = listed.join(", ");
    if !is_root() || !on_path("apt-get") {
        bail!("missing on this machine: {listed}; {by_hand}");
    }
    apt_install(&packages).with_context(|| format!("missing: {listed}; {by_hand}"))?;
    let still: Vec<_> = self::missing(needs).iter().map(|need| need.what).collect();
    ensure!(still.is_empty(), "missing even after installing {packages}: {}", still.join(", "));
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<Need> {
    needs.iter().filter(|need| !(need.is_there)(need.what)).copied().collect()
}

/// The packages, each once.
fn packages(needs: &[Need]) -> String {
    let names: BTreeSet<_> = needs.iter().map(|need| need.package).collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// True if the program is in a folder of `PATH`, or in that of Debian's servers, which is not in
/// everybody's.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = PathBuf::from("/usr/sbin");
    std::env::split_paths(&path).chain([servers]).any(|folder| is_file(&folder.join(program)))
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file())
}

fn apt_install(packages: &str) -> Result<()> {
    println!("installing Debian's packages {packages}");
    let quiet = |arguments: &[&str]| {
        let mut apt = command("apt-get", arguments);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        output(apt.args(packages.split(' ').filter(|_| arguments.first() == Some(&"install"))))
    };
    quiet(&["update", "-q"])?;
    quiet(&["install", "-y", "-q", "--no-install-recommends"])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, expected) in
            [("3.11.7", true), ("3.9.18", false), ("3.13.0", true), ("2.7.18", false), ("", false)]
        {
            assert_eq!(new_enough(version), expected, "{version}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_each_package_once() {
        let absent = |what, package| Need { what, package, is_there: |_| false };
        let needs = [Need::program("sh", "dash"), absent("b", "two"), absent("a", "one")];
        let found = missing(&[&needs[..], &[absent("c", "two")]].concat());
        assert_eq!(found.iter().map(|need| need.what).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(packages(&found), "one two");
    }

    #[test]
    fn a_program_is_found_on_the_path() {
        assert!(on_path("sh"));
        assert!(!on_path("no-program-has-this-name"));
    }
}
