//! What a fresh machine lacks: a Python environment with the real clients, a few Debian packages.
//!
//! No registry is named here: pip, apt and cargo use what the machine is configured with.

use crate::step::{command, output, root, run, target};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The file in the environment that tells what it was made from.
const STAMP: &str = "made-from.txt";
const MINIMUM: (u32, u32) = (3, 11);

/// A Python environment with everything that `clients/requirements.txt` names.
#[derive(Debug)]
pub(crate) struct Venv(PathBuf);

impl Venv {
    /// The environment in `target/venv`; made anew when its requirements have changed.
    pub(crate) fn ensure() -> Result<Self> {
        let venv = Self(target().join("venv"));
        let clients = root().join("clients");
        let requirements = clients.join("requirements.txt");
        let constraints = clients.join("constraints.txt");
        let python = find_python()?;
        let want = format!(
            "{}\n{}{}",
            python.version,
            fs::read_to_string(&requirements).context("read clients/requirements.txt")?,
            fs::read_to_string(&constraints).context("read clients/constraints.txt")?
        );
        let stamp = venv.0.join(STAMP);
        if fs::read_to_string(&stamp).is_ok_and(|made| made == want) {
            return Ok(venv);
        }
        println!("making {} with Python {}", venv.0.display(), python.version);
        venv.make(&python.program)?;
        run(command(venv.program("python"), &["-m", "pip", "install", "--quiet"])
            .arg("--disable-pip-version-check")
            .arg("--requirement")
            .arg(&requirements)
            .arg("--constraint")
            .arg(&constraints))?;
        fs::write(stamp, want).context("write the stamp of target/venv")?;
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

    fn make(&self, python: &str) -> Result<()> {
        let clear = ["-m", "venv", "--clear"];
        if run(command(python, &clear).arg(&self.0)).is_ok() {
            return Ok(());
        }
        // Debian's Python comes without the venv module's wheels.
        apt_install("python3-venv")?;
        run(command(python, &clear).arg(&self.0))
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
    bail!("no Python of at least {}.{} was found: install python3.11", MINIMUM.0, MINIMUM.1)
}

fn new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    parts.next().zip(parts.next()).is_some_and(|found| found >= MINIMUM)
}

/// Makes sure that a program is on the path; `package` is Debian's package that holds it.
pub(crate) fn ensure_program(program: &str, package: &str) -> Result<()> {
    if on_path(program) {
        return Ok(());
    }
    apt_install(package)?;
    if !on_path(program) {
        bail!("{program} is still missing after installing Debian's package {package}");
    }
    Ok(())
}

/// True if the program is in a folder of `PATH`.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_file(&folder.join(program)))
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file())
}

fn apt_install(package: &str) -> Result<()> {
    println!("installing Debian's package {package}");
    let quiet = |arguments: &[&str]| {
        let mut apt = command("apt-get", arguments);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        output(&mut apt)
    };
    quiet(&["update", "-q"])
        .and_then(|_| quiet(&["install", "-y", "-q", "--no-install-recommends", package]))
        .with_context(|| format!("{package} is needed: install it by hand, then run again"))?;
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
    fn a_program_is_found_on_the_path() {
        assert!(on_path("sh"));
        assert!(!on_path("no-program-has-this-name"));
    }
}
