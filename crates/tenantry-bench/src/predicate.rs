//! usearch's search with a predicate, which its Python package leaves out.

use crate::process::{Venv, empty_folder, output};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

const CODE: &str = include_str!("../peers/usearch_filtered.cpp");
const REQUIREMENTS: &str = include_str!("../peers/vectors.txt");

/// A library for [`crate::peer::Peer::use_predicate`], compiled for this machine from the source
/// that belongs to the Python package.
pub(crate) fn library(venv: &Venv) -> Result<PathBuf> {
    let required = required(REQUIREMENTS).context("usearch is not required")?;
    let folder = empty_folder("usearch-source")?;
    let mut pip = Command::new(venv.program("python"));
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--no-binary", "usearch", required, "--dest"]).arg(&folder);
    output(&mut pip).context("fetch usearch's source")?;
    let source = folder.join(required.replace("==", "-"));
    let archive = folder.join(format!("{}.tar.gz", required.replace("==", "-")));
    output(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&folder))?;
    let (code, library) = (folder.join("filtered.cpp"), folder.join("filtered.so"));
    fs::write(&code, CODE)?;
    let mut compiler = Command::new("g++");
    compiler.args(["-shared", "-fPIC", "-std=c++17", "-O3", "-march=native", "-ffast-math"]);
    // Its hand-written kernels are another package's; the compiler's are as fast for 32-bit floats.
    compiler.args(["-fopenmp-simd", "-DUSEARCH_USE_NUMKONG=0", "-DUSEARCH_USE_OPENMP=0"]);
    compiler.arg("-I").arg(source.join("include")).arg("-I").arg(source.join("numkong/include"));
    output(compiler.arg("-o").arg(&library).arg(&code)).context("compile usearch's search")?;
    Ok(library)
}

/// The line that names usearch with its version.
fn required(requirements: &str) -> Option<&str> {
    requirements.lines().map(str::trim).find(|line| line.starts_with("usearch=="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_python_package() {
        assert_eq!(required("numpy==1\n usearch==2.3.4\n"), Some("usearch==2.3.4"));
        assert!(required(REQUIREMENTS).is_some());
        assert_eq!(required("numpy==1"), None);
    }
}
