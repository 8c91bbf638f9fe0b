//! Files with flipped bits or without their end: an error that says so, never a panic, and
//! everybody who is not affected goes on.

use crate::stand::{Chance, Stand, everything, record, tenant, verify_chain};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tenantry_auth::TenantId;
use tenantry_store::EmbeddedConfig;
use tenantry_types::{Error, ErrorKind, GetRequest, Selector, WriteMode};

const SLOT: usize = 128;

/// A closed folder with these tenants, `batches` of eight records each.
async fn folder(tenants: &[&str], batches: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    for name in tenants {
        let (scope, collection) = stand.tenant_with_collection(name).await;
        for n in 0..batches {
            let batch =
                (0..8).map(|at| record(&format!("{n}-{at}"), vec![1.0, 2.0], &[])).collect();
            stand.store.write(&scope, &collection, WriteMode::Upsert, batch).await.expect("write");
        }
    }
    stand.close();
    // Opened once more, the journal has no zeros after its content.
    Stand::open(dir.path()).await.close();
    dir
}

fn copy(from: &Path) -> tempfile::TempDir {
    fn copy_all(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("folder");
        for entry in fs::read_dir(from).expect("list") {
            let entry = entry.expect("entry");
            let to = to.join(entry.file_name());
            if entry.file_type().expect("type").is_dir() {
                copy_all(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).expect("copy");
            }
        }
    }
    let dir = tempfile::tempdir().expect("a folder");
    copy_all(from, dir.path());
    dir
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("read");
    change(&mut bytes);
    fs::write(path, bytes).expect("write");
}

async fn refusal(folder: &Path) -> Error {
    match Stand::try_open(EmbeddedConfig::new(folder)).await {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    }
}

/// Reads all of a tenant and checks that it fits together; the number of records.
async fn read_all(stand: &Stand, name: &str) -> Result<usize, Error> {
    let missing = || Error::new(ErrorKind::NotFound, "no such tenant");
    let info = stand.store.find_tenant(&tenant(name)).await?.ok_or_else(missing)?;
    let scope = stand.scope(info.id);
    let log = stand.store.audit(&scope, 0, usize::MAX).await?;
    verify_chain(&log);
    let databases = stand.store.databases(&scope, tenantry_types::Page::default()).await?;
    let page = tenantry_types::Page::default();
    let mut rows = 0;
    for database in databases {
        for collection in stand.store.collections(&scope, &database, page).await? {
            // From disk: to build an index for each damage would take long.
            let request = GetRequest {
                page: tenantry_types::Page { limit: Some(1_000), offset: 0 },
                include: everything(),
                ..GetRequest::default()
            };
            let all = stand.store.get(&scope, &collection, &request).await?.value;
            let counted = stand.store.count(&scope, &collection, &Selector::default()).await?;
            assert_eq!(all.len(), counted.value, "the count is wrong");
            rows += all.len();
        }
    }
    Ok(rows)
}

#[tokio::test]
async fn a_damaged_slot_affects_its_tenant_only() {
    let dir = folder(&["a", "b", "c"], 2).await;
    // "b" is tenant 2: a bit of its wrapped key flips.
    change(&dir.path().join("slots"), |slots| slots[2 * SLOT + 40] ^= 4);
    let stand = Stand::open(dir.path()).await;
    for name in ["a", "c"] {
        assert_eq!(read_all(&stand, name).await.expect("unharmed"), 16);
    }
    let error = read_all(&stand, "b").await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("tenant 2"), "{error}");
    let listed = stand.store.tenants(&stand.operator, None, 10).await.expect("list");
    let names: Vec<&str> = listed.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
    // The page is filled with those that can be read.
    assert_eq!(stand.store.tenants(&stand.operator, None, 2).await.expect("list").len(), 2);
    // The name is not lost: the operator can delete what is damaged, and use it again.
    assert_eq!(stand.create("b").await.map(|_| ()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    stand.store.delete_tenant(&stand.operator, &tenant("b")).await.expect("delete");
    let gone = stand.store.delete_tenant(&stand.operator, &tenant("b")).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(stand.create("b").await.expect("create").tenant(), TenantId::new(4));
    let slots = fs::read(dir.path().join("slots")).expect("slots");
    assert_eq!(slots[2 * SLOT + 4], 2, "erased");
    stand.close();
}

#[tokio::test]
async fn every_flipped_bit_of_a_slot_is_noticed() {
    let dir = folder(&["a", "b"], 1).await;
    let path = dir.path().join("slots");
    let whole = fs::read(&path).expect("slots");
    for at in 0..SLOT {
        let mut damaged = whole.clone();
        damaged[2 * SLOT + at] ^= 1 << (at % 8);
        fs::write(&path, damaged).expect("write");
        let stand = Stand::open(dir.path()).await;
        let error = read_all(&stand, "b").await.expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error:?}");
        assert_eq!(read_all(&stand, "a").await.expect("unharmed"), 8);
        stand.close();
        if at % 16 == 0 {
            // The installation's own slot: nothing can be opened without it.
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).expect("write");
            let error = refusal(dir.path()).await;
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_slot_file_without_its_end_is_refused() {
    let dir = folder(&["a", "b", "c"], 1).await;
    for bytes in [0, 1, SLOT, SLOT + 1, 3 * SLOT] {
        let dir = copy(dir.path());
        change(&dir.path().join("slots"), |slots| slots.truncate(bytes));
        let error = refusal(dir.path()).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bytes} bytes: {error:?}");
        assert!(error.to_string().contains("slot"), "{bytes} bytes: {error}");
    }
    // One that ends within the last slot loses that tenant only.
    change(&dir.path().join("slots"), |slots| slots.truncate(4 * SLOT - 1));
    let stand = Stand::open(dir.path()).await;
    assert_eq!(read_all(&stand, "b").await.expect("unharmed"), 8);
    assert_eq!(stand.create("d").await.expect("create").tenant(), TenantId::new(4));
    stand.close();
}

fn journal(folder: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(folder.join("db"))
        .expect("list")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .collect();
    found.sort();
    found.pop().expect("a journal")
}

/// A journal that ends early looks like a crash before its last commits were written: what is
/// before its end is there and fits together.
#[tokio::test]
async fn a_journal_without_its_end_opens_with_what_it_holds() {
    let whole = folder(&["a", "b"], 10).await;
    let bytes = fs::read(journal(whole.path())).expect("journal").len();
    let mut chance = Chance(5);
    let mut read = 0;
    for _ in 0..20 {
        let dir = copy(whole.path());
        let end = bytes / 2 + chance.index(bytes / 2);
        change(&journal(dir.path()), |journal| journal.truncate(end));
        let stand = Stand::open(dir.path()).await;
        for info in stand.store.tenants(&stand.operator, None, 10).await.expect("list") {
            read += read_all(&stand, info.name.as_str()).await.expect("fits together");
        }
        // Ids go on after the highest slot, whatever the journal has forgotten.
        let next = stand.create("next").await.expect("create").tenant();
        assert_eq!(next, TenantId::new(3));
        stand.close();
    }
    assert!(read > 100, "only {read} records were left");
}

#[tokio::test]
async fn a_flipped_bit_in_the_journal_is_refused_and_changes_nothing() {
    let whole = folder(&["a", "b"], 10).await;
    let path = journal(whole.path());
    let clean = fs::read(&path).expect("journal");
    let mut chance = Chance(6);
    for _ in 0..60 {
        // The last commits are small, so the first nine tenths are before the last one.
        let at = chance.index(clean.len() / 10 * 9);
        let mut damaged = clean.clone();
        damaged[at] ^= 1 << chance.below(8);
        fs::write(&path, &damaged).expect("write");
        let error = refusal(whole.path()).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error:?}");
        assert!(error.to_string().contains("0.jnl is damaged at byte"), "byte {at}: {error}");
        assert!(fs::read(&path).expect("journal") == damaged, "byte {at}: the journal was changed");
    }
    fs::write(&path, &clean).expect("write");
    let stand = Stand::open(whole.path()).await;
    assert_eq!(read_all(&stand, "a").await.expect("whole again"), 80);
    stand.close();
}

/// A folder whose first commits lie in table files and whose last lie in the journal.
async fn folder_with_tables() -> tempfile::TempDir {
    let dir = folder(&["small"], 4).await;
    let stand = Stand::open(dir.path()).await;
    let (scope, collection) = stand.tenant_with_collection("large").await;
    let mut chance = Chance(8);
    let mut write = async |stand: &Stand, name: &str| {
        let batch = (0..64).map(|at| {
            let vector = (0..512).map(|_| chance.below(1 << 20) as f32).collect();
            record(&format!("{name}-{at}"), vector, &[])
        });
        let batch = batch.collect();
        stand.store.write(&scope, &collection, WriteMode::Upsert, batch).await.expect("write");
    };
    write(&stand, "in a table").await;
    stand.close();
    {
        let database = fjall::Database::builder(dir.path().join("db")).open().expect("fjall");
        for name in ["catalog", "shared"] {
            let space = database.keyspace(name, Default::default).expect("keyspace");
            space.rotate_memtable_and_wait().expect("tables");
        }
    }
    let stand = Stand::open(dir.path()).await;
    write(&stand, "in the journal").await;
    stand.close();
    dir
}

/// The database's files apart from journals and locks, with their sizes.
fn tables(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut open = vec![folder.join("db")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("list") {
            let entry = entry.expect("entry");
            let bytes = entry.metadata().expect("metadata").len();
            if entry.file_type().expect("type").is_dir() {
                open.push(entry.path());
            } else if entry.path().extension().is_none() && bytes > 0 {
                found.push((entry.path(), bytes));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn damaged_tables_are_errors_and_never_panics() {
    let whole = folder_with_tables().await;
    let mut chance = Chance(9);
    let (mut refused, mut failed, mut read) = (0, 0, 0);
    for (path, bytes) in tables(whole.path()) {
        let rounds = if path.ends_with("2/tables/1") { 60 } else { 12 };
        for round in 0..rounds {
            let dir = copy(whole.path());
            let path = dir.path().join(path.strip_prefix(whole.path()).expect("inside"));
            let at = chance.index(usize::try_from(bytes).expect("small"));
            change(&path, |bytes| {
                if round == 0 { bytes.truncate(at) } else { bytes[at] ^= 1 << chance.below(8) }
            });
            let stand = match Stand::try_open(EmbeddedConfig::new(dir.path())).await {
                Ok(stand) => stand,
                Err(error) => {
                    let expected = [ErrorKind::Corrupt, ErrorKind::Unavailable];
                    assert!(expected.contains(&error.kind()), "{}: {error:?}", path.display());
                    refused += 1;
                    continue;
                }
            };
            for name in ["small", "large"] {
                match read_all(&stand, name).await {
                    Ok(rows) => {
                        assert_eq!(
                            rows,
                            if name == "small" { 32 } else { 128 },
                            "{name}, byte {at} of {}, round {round}",
                            path.display()
                        );
                        read += 1;
                    }
                    Err(error) => {
                        assert_eq!(
                            error.kind(),
                            ErrorKind::Corrupt,
                            "{}: {error:?}",
                            path.display()
                        );
                        failed += 1;
                    }
                }
            }
            stand.close();
        }
    }
    assert!(refused > 0 && failed > 0 && read > 0, "{refused} {failed} {read}");
}
