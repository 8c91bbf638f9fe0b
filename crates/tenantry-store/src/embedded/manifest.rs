//! Looks at fjall's manifests before fjall does.
//!
//! fjall writes a checksum of each manifest and does not read it, so that one flipped bit may drop
//! a table or make the journal look old. And a keyspace without the file `current` is taken for
//! one whose making was cut short, and is *removed* with all its tables.
//!
//! A keyspace is a folder with `tables/`, the manifest `v<number>`, and `current`: the manifest's
//! number (u64), the XXH3-128 of its bytes (u128), both little-endian, and a zero.

use super::open_error;
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};
use tenantry_types::{Error, Result};
use xxhash_rust::xxh3::xxh3_128;

/// The keyspace in which fjall keeps what it knows of the others.
const META: u64 = 0;

/// Refuses keyspaces whose manifest is damaged or lost.
pub(super) fn check(keyspaces: &Path) -> Result<()> {
    let mut whole = Vec::new();
    let mut any_tables = None;
    for (number, path) in folders(keyspaces)? {
        let tables = path.join("tables");
        let has_tables = match fs::read_dir(&tables) {
            Ok(mut entries) => entries.next().is_some(),
            Err(why) if why.kind() == ErrorKind::NotFound => false,
            Err(why) => return Err(open_error("read", &tables, why)),
        };
        if is_whole(&path)? {
            whole.push(number);
        } else if has_tables {
            return Err(Error::corrupt(format!(
                "{} holds tables, but its file `current` is missing",
                path.display()
            )));
        }
        if has_tables {
            any_tables = Some(path);
        }
    }
    match any_tables {
        Some(path) if !whole.contains(&META) => Err(Error::corrupt(format!(
            "{} holds tables, but the database's list of keyspaces is missing",
            path.display()
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The folders of keyspaces. fjall panics over a folder that is not one.
fn folders(keyspaces: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let failed = |why| open_error("read", keyspaces, why);
    let mut found = Vec::new();
    for entry in fs::read_dir(keyspaces).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_file() {
            continue;
        }
        match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            Some(number) => found.push((number, path)),
            None => {
                return Err(Error::corrupt(format!(
                    "the database holds a folder that is not its own: {}",
                    path.display()
                )));
            }
        }
    }
    Ok(found)
}

/// Checks a keyspace's manifest; false if it has none.
fn is_whole(keyspace: &Path) -> Result<bool> {
    let current = match fs::read(keyspace.join("current")) {
        Ok(current) => current,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(false),
        Err(why) => return Err(open_error("read the manifest of", keyspace, why)),
    };
    let damaged = |what: &str| Error::corrupt(format!("{}: {what}", keyspace.display()));
    let Some((number, rest)) = current.split_first_chunk() else {
        return Err(damaged("the file `current` is damaged"));
    };
    let Some((checksum, [0])) = rest.split_first_chunk() else {
        return Err(damaged("the file `current` is damaged"));
    };
    let manifest = format!("v{}", u64::from_le_bytes(*number));
    match fs::read(keyspace.join(&manifest)) {
        Ok(bytes) if xxh3_128(&bytes) == u128::from_le_bytes(*checksum) => Ok(true),
        Ok(_) => Err(damaged(&format!("the manifest {manifest} is damaged"))),
        Err(why) if why.kind() == ErrorKind::NotFound => {
            Err(damaged(&format!("the manifest {manifest} is missing")))
        }
        Err(why) => Err(open_error("read the manifest of", keyspace, why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fjall::{Database, KeyspaceCreateOptions};

    /// A closed database with a table; the folder of its keyspaces.
    fn database() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        {
            let db = Database::builder(dir.path()).open().unwrap();
            let space = db.keyspace("a", KeyspaceCreateOptions::default).unwrap();
            space.insert("a", "b").unwrap();
            space.rotate_memtable_and_wait().unwrap();
        }
        let keyspaces = dir.path().join("keyspaces");
        (dir, keyspaces)
    }

    fn manifest(keyspace: &Path) -> PathBuf {
        let current = fs::read(keyspace.join("current")).unwrap();
        keyspace.join(format!("v{}", u64::from_le_bytes(*current.first_chunk().unwrap())))
    }

    #[test]
    fn every_flipped_byte_of_a_manifest_is_refused() {
        let (_dir, keyspaces) = database();
        check(&keyspaces).unwrap();
        for keyspace in ["0", "1"].map(|name| keyspaces.join(name)) {
            for path in [keyspace.join("current"), manifest(&keyspace)] {
                let whole = fs::read(&path).unwrap();
                for at in 0..whole.len() {
                    let mut damaged = whole.clone();
                    damaged[at] ^= 1 << (at % 8);
                    fs::write(&path, damaged).unwrap();
                    let error = check(&keyspaces).expect_err("damaged");
                    assert!(error.to_string().contains("keyspaces"), "{error}");
                }
                fs::write(&path, &whole[..whole.len() - 1]).unwrap();
                check(&keyspaces).expect_err("cut short");
                fs::write(&path, whole).unwrap();
            }
        }
        check(&keyspaces).unwrap();
    }

    #[test]
    fn a_keyspace_that_fjall_would_remove_is_refused() {
        let (dir, keyspaces) = database();
        let aside = dir.path().join("aside");
        for lost in ["0/current", "1/current", "0"] {
            fs::rename(keyspaces.join(lost), &aside).unwrap();
            let error = check(&keyspaces).expect_err(lost);
            assert!(error.to_string().contains("is missing"), "{error}");
            fs::rename(&aside, keyspaces.join(lost)).unwrap();
        }
        // One that was being made when the machine stopped holds nothing.
        fs::create_dir_all(keyspaces.join("7/tables")).unwrap();
        check(&keyspaces).unwrap();
        assert!(Database::builder(dir.path()).open().is_ok());
        // fjall would panic over this one.
        fs::create_dir(keyspaces.join("mine")).unwrap();
        assert!(check(&keyspaces).unwrap_err().to_string().contains("keyspaces/mine"));
    }
}
