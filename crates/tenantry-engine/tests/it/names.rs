//! Names are data: whatever they look like, they are stored, found and returned unchanged, and
//! mean nothing to the file system or the key layout.

use crate::support::*;
use std::path::Path;
use tenantry_engine::*;

fn awkward() -> Vec<String> {
    let mut names: Vec<String> = [
        "../",
        "../../etc/passwd",
        ".",
        "..",
        "/",
        "a/b\\c",
        "C:\\temp",
        "\"quoted\" 'names'",
        "'; DROP TABLE tenants; --",
        "$(id) `id` %2e%2e %00",
        "tenant_user:user1",
        "🦀🦀",
        "e\u{301} is not \u{e9}",
        "\u{e9}",
        " ",
        "UPPER",
        "upper",
        "default_tenant",
        "(installation)",
        "0",
        "\u{10FFFF}",
        "\u{7f00}",
    ]
    .map(str::to_owned)
    .into();
    // A prefix of another name, and the longest ones.
    names.extend(["x".repeat(254), "x".repeat(255), "x".repeat(512), "é".repeat(256)]);
    names
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.to_string_lossy().into_owned());
        if path.is_dir() {
            found.extend(files_below(&path));
        }
    }
    found
}

#[tokio::test]
async fn awkward_tenant_names_work_and_stay_apart() {
    let world = World::new().await;
    let mut keys = Vec::new();
    for name in awkward() {
        let key = world.tenant(&name).await;
        let c = world.collection(&key, "c").await;
        c.write(WriteMode::Upsert, vec![write("who").text(&name)]).await.unwrap();
        keys.push((name, key));
    }
    for (name, key) in &keys {
        let session = world.session::<Read>(key).await;
        assert_eq!(session.tenant().name.as_str(), name);
        let found = find(&world.collection(key, "c").await, "who").await.unwrap();
        assert_eq!(found.document.as_deref(), Some(name.as_str()));
    }
    let mut sorted: Vec<String> = keys.iter().map(|(name, _)| name.clone()).collect();
    sorted.sort();
    let listed = world.operator().tenants(None, 100).await.unwrap();
    assert!(listed.iter().map(|t| t.name.as_str()).eq(sorted.iter().map(String::as_str)));
    // No name became a path.
    for file in files_below(world.dir.path()) {
        assert!(!file.contains("user1") && !file.contains('🦀') && !file.contains("xxx"), "{file}");
    }
    let beside: Vec<_> = std::fs::read_dir(world.dir.path()).unwrap().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

#[tokio::test]
async fn awkward_database_and_collection_names_work_and_stay_apart() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let session = world.session::<Admin>(&key).await;
    let names = awkward();
    for name in &names {
        let db = session.create_database(&database(name)).await.unwrap();
        let (c, new) = db.create_collection(&spec(name), false).await.unwrap();
        assert!(new);
        c.write(WriteMode::Upsert, vec![write(name).text(name)]).await.unwrap();
    }
    let one = session.database(&database("0")).await.unwrap();
    for name in names.iter().filter(|name| *name != "0") {
        one.create_collection(&spec(name), false).await.unwrap();
    }
    for name in &names {
        let db = session.database(&database(name)).await.unwrap();
        assert_eq!(db.info().name.as_str(), name);
        let expected = if name == "0" { names.len() } else { 1 };
        assert_eq!(db.count_collections().await.unwrap(), expected);
        let c = db.collection(&collection(name)).await.unwrap();
        assert_eq!(c.info().name.as_str(), name);
        assert_eq!(all_ids(&c).await, [name.as_str()]);
        c.remove().await.unwrap();
    }
    assert_eq!(one.count_collections().await.unwrap(), names.len() - 1);
}

#[test]
fn control_characters_empty_and_overlong_names_are_refused() {
    let long = "x".repeat(513);
    for bad in ["", "\0", "nul\0byte", "a\nb", "\u{7f}", "\u{85}", &long] {
        for outcome in [
            TenantName::parse(bad).map(drop),
            DatabaseName::parse(bad).map(drop),
            CollectionName::parse(bad).map(drop),
        ] {
            assert_eq!(kind(outcome), ErrorKind::Invalid, "{bad:?}");
        }
    }
    assert_eq!(kind(RecordId::parse("")), ErrorKind::Invalid);
    assert_eq!(kind(RecordId::parse("x".repeat(8_193))), ErrorKind::Invalid);
}

#[tokio::test]
async fn record_ids_may_hold_anything_and_stay_apart() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let mut names = awkward();
    names.extend(["a", "a\0", "a\0b", "\0", "a\nb", "\u{ff}"].map(str::to_owned));
    names.push("x".repeat(8_192));
    let batch = names.iter().map(|name| write(name).text(name)).collect();
    c.write(WriteMode::Add(Existing::Fail), batch).await.unwrap();
    for name in &names {
        assert_eq!(find(&c, name).await.unwrap().document.as_deref(), Some(name.as_str()));
    }
    assert_eq!(c.delete(&by_ids(&["a\0"]), None).await.unwrap(), 1);
    names.retain(|name| name != "a\0");
    assert_eq!(all_ids(&c).await, names);
}
