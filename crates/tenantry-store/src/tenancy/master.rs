//! The key that wraps the data keys of all tenants.

use super::seal::SealingKey;
use crate::Entropy;
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};
use tenantry_types::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

/// Where the key comes from that wraps every tenant's data key. Whoever loses it loses the data;
/// whoever has it and the folder can read all.
#[derive(Clone)]
pub enum MasterKey {
    /// `master.key` in a folder, 64 hexadecimal digits, made on first start and readable
    /// by its owner only. Protects nothing against a thief of the whole folder.
    File,
    /// These 32 bytes, for example from an environment variable.
    Bytes(Zeroizing<[u8; 32]>),
    /// The output of this shell command: 64 hexadecimal digits.
    Command(String),
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "MasterKey::File",
            Self::Bytes(_) => "MasterKey::Bytes(…)",
            Self::Command(_) => "MasterKey::Command(…)",
        })
    }
}

impl MasterKey {
    /// Parses 64 hexadecimal digits, blanks around them allowed.
    pub fn from_hex(text: &str) -> Result<Self> {
        parse_hex(text).map(Self::Bytes)
    }

    /// Where its file is.
    pub(crate) fn file(folder: &Path) -> PathBuf {
        folder.join("master.key")
    }

    /// The key; `None` if it should be in a file that is not there.
    pub(crate) fn read(&self, folder: &Path) -> Result<Option<SealingKey>> {
        let bytes = match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Command(command) => parse_hex(&run(command)?)?,
            Self::File => {
                let path = Self::file(folder);
                match fs::read_to_string(&path) {
                    Ok(text) => {
                        if is_open(&path) {
                            let path = path.display();
                            tracing::warn!(
                                %path,
                                "others than its owner may read the master key: chmod 600"
                            );
                        }
                        parse_hex(&text).map_err(|why| {
                            let message = format!("the file {}: {why}", path.display());
                            Error::new(why.kind(), message)
                        })?
                    }
                    Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(why) => return Err(open_error("read the master key", &path, why)),
                }
            }
        };
        Ok(Some(SealingKey::new(bytes, 0)))
    }

    /// Makes the file.
    pub(crate) fn make_file(folder: &Path, entropy: &dyn Entropy) -> Result<SealingKey> {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill("master key", &mut *bytes);
        let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len() + 1));
        for byte in *bytes {
            text.extend(
                [byte >> 4, byte & 15].iter().filter_map(|d| char::from_digit((*d).into(), 16)),
            );
        }
        text.push('\n');
        let path = Self::file(folder);
        write_new(&path, text.as_bytes())
            .map_err(|why| open_error("make the master key", &path, why))?;
        Ok(SealingKey::new(bytes, 0))
    }
}

/// True if others than its owner may read or change a file.
fn is_open(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 != 0)
}

/// Writes a file that is there whole or not at all, readable by its owner only.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn parse_hex(text: &str) -> Result<Zeroizing<[u8; 32]>> {
    let text = text.trim();
    let bad = || Error::invalid("the master key must be 64 hexadecimal digits");
    if text.len() != 64 || !text.is_ascii() {
        return Err(bad());
    }
    let mut bytes = Zeroizing::new([0; 32]);
    for (at, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * at..2 * at + 2).ok_or_else(bad)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
    }
    Ok(bytes)
}

fn run(command: &str) -> Result<Zeroizing<String>> {
    let failed = |why: String| {
        Error::new(ErrorKind::Unavailable, format!("the master key command failed: {why}"))
    };
    let output =
        Command::new("sh").args(["-c", command]).output().map_err(|why| failed(why.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("output is not text".into()))?;
    Ok(Zeroizing::new(text))
}

/// A failure to open something of the data folder, in words for whoever starts the program.
pub(crate) fn open_error(what: &str, path: &Path, why: std::io::Error) -> Error {
    let message = format!("cannot {what} {}: {why}", path.display());
    Error::new(ErrorKind::Unavailable, message).with_source(why)
}
