//! Tenants that live apart, on files: what is in which folder, what is opened when, and what is
//! left after something went wrong.

use crate::stand::{Stand, record, tenant};
use std::{collections::HashMap, fs, path::Path, sync::Arc, time::Duration};
use tenantry_auth::{Admin, KeyOwner, Restriction, Role, Scope};
use tenantry_store::{EmbeddedConfig, MasterKey, NewKey, TenantChange};
use tenantry_types::{DatabaseName, ErrorKind, Isolation, Selector, TenantState, WriteMode};

const APART: [Isolation; 2] = [Isolation::Schema, Isolation::Database];

async fn fill(stand: &Stand, scope: &Scope<Admin>, value: f32) {
    let collection = stand.collection(scope).await.expect("collection");
    let records = vec![record("x", vec![value, 1.0], &[])];
    stand.store.write(scope, &collection, WriteMode::Upsert, records).await.expect("write");
}

async fn count(stand: &Stand, scope: &Scope<Admin>) -> usize {
    let collection = stand.collection(scope).await.expect("collection");
    stand.store.count(scope, &collection, &Selector::default()).await.expect("count").value
}

fn open_databases(stand: &Stand) -> u64 {
    stand.store.totals().open_databases
}

/// Waits for the purger.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within ten seconds");
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_root_knows_opens_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    let mut scopes = Vec::new();
    for isolation in APART {
        for n in 0..3 {
            scopes.push(stand.create_in(&format!("{isolation:?}{n}"), isolation).await.unwrap());
        }
    }
    let key = NewKey {
        role: Role::Read,
        restriction: Restriction::default(),
        label: "k".into(),
        expires_at: None,
    };
    let mut made = Vec::new();
    for scope in &scopes {
        made.push(stand.store.create_key(scope, key.clone()).await.expect("key").0);
    }
    stand.close();

    let stand = Stand::open(dir.path()).await;
    assert_eq!(stand.store.tenants(&stand.operator, None, 100).await.expect("list").len(), 6);
    let suspend = TenantChange { state: Some(TenantState::Suspended), ..TenantChange::default() };
    for (scope, key) in scopes.iter().zip(&made) {
        let info = stand.store.tenant_by_id(scope.tenant()).await.expect("id").expect("it lives");
        stand.store.change_tenant(&stand.operator, &info.name, &suspend).await.expect("suspend");
        let keys = stand.store.keys(scope).await.expect("keys");
        assert_eq!(keys, std::slice::from_ref(key));
        assert_eq!(key.owner, KeyOwner::Tenant(scope.tenant()));
        stand.store.revoke_key(scope, key.id).await.expect("revoke");
        assert!(stand.store.keys(scope).await.expect("keys").is_empty());
    }
    assert_eq!(open_databases(&stand), 1, "only the root is open");
    // Reading a log opens its place; the bucket is one for all three.
    for scope in &scopes {
        let log = stand.store.audit(scope, 0, 100).await.expect("the log");
        let actions: Vec<_> = log.iter().map(|entry| entry.event.action.as_str()).collect();
        assert_eq!(actions, ["tenant.create", "key.create", "tenant.suspend", "key.revoke"]);
        stand.verify_audit(scope).await;
    }
    assert_eq!(open_databases(&stand), 1 + 1 + 3);
    stand.close();
    // Told once, also to those who open it again.
    let stand = Stand::open(dir.path()).await;
    for scope in &scopes {
        assert_eq!(stand.store.audit(scope, 0, 100).await.expect("the log").len(), 4);
    }
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_tenant_leaves_its_place_to_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    let stays = stand.create_in("stays", Isolation::Schema).await.expect("tenant");
    let own = stand.create_in("own", Isolation::Database).await.expect("tenant");
    let goes = stand.create_in("goes", Isolation::Schema).await.expect("tenant");
    for (scope, value) in [(&stays, 1.0), (&own, 2.0), (&goes, 3.0)] {
        fill(&stand, scope, value).await;
    }
    let folder = dir.path().join(format!("own/{0:02x}/{0:016x}", own.tenant().get()));
    assert!(folder.join("made").exists());
    for name in ["own", "goes"] {
        stand.store.delete_tenant(&stand.operator, &tenant(name)).await.expect("delete");
    }
    until("the folder goes", async || !folder.exists()).await;
    // The space is free again after its rows are gone: the next one gets it, not a new bucket's.
    until("the space is given again", async || {
        let next = stand.create_in("next", Isolation::Schema).await.expect("tenant");
        let space = space_of(dir.path(), &next);
        assert_eq!(count(&stand, &next).await, 0);
        if space == 1 {
            return true;
        }
        stand.store.delete_tenant(&stand.operator, &tenant("next")).await.expect("delete");
        false
    })
    .await;
    assert_eq!(count(&stand, &stays).await, 1);
    assert_eq!(entries(&dir.path().join("buckets")), 1);
    stand.close();
}

/// More than one commit takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_notes_are_told_once_each() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    let scope = stand.create_in("a", Isolation::Database).await.expect("tenant");
    let key = NewKey {
        role: Role::Read,
        restriction: Restriction::default(),
        label: "k".into(),
        expires_at: None,
    };
    for _ in 0..520 {
        let made = stand.store.create_key(&scope, key.clone()).await.expect("key").0;
        stand.store.revoke_key(&scope, made.id).await.expect("revoke");
    }
    for _ in 0..2 {
        let log = stand.store.audit(&scope, 0, 10_000).await.expect("the log");
        assert_eq!(log.len(), 1 + 2 * 520);
        stand.verify_audit(&scope).await;
    }
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_space_is_given_to_two() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Arc::new(Stand::open(dir.path()).await);
    let mut names = 0;
    for round in 0..4 {
        let mut making = tokio::task::JoinSet::new();
        for _ in 0..8 {
            names += 1;
            let (stand, name) = (Arc::clone(&stand), format!("t{names}"));
            making.spawn(async move { stand.create_in(&name, Isolation::Schema).await });
        }
        let made = making.join_all().await;
        let scopes: Vec<_> = made.into_iter().map(|one| one.expect("tenant")).collect();
        if round % 2 == 0 {
            // Some of the next ones get what these leave.
            for gone in [names - 7, names - 3] {
                let name = tenant(&format!("t{gone}"));
                stand.store.delete_tenant(&stand.operator, &name).await.expect("delete");
            }
        }
        drop(scopes);
    }
    let all = spaces(dir.path());
    let living = stand.store.tenants(&stand.operator, None, 100).await.expect("list");
    let mut spaces: Vec<u32> = living.iter().map(|info| all[&info.id.get()]).collect();
    assert_eq!(spaces.len(), 28);
    spaces.sort_unstable();
    spaces.dedup();
    assert_eq!(spaces.len(), 28, "{spaces:?}");
    stand.store.close();
}

/// The space of a tenant, as its clear row in the root says.
fn space_of(folder: &Path, scope: &Scope<Admin>) -> u32 {
    spaces(folder)[&scope.tenant().get()]
}

/// The space of every tenant, from the rows `Place` in the root's journal: tenant 0, family 5, the
/// tenant; then the value.
fn spaces(folder: &Path) -> HashMap<u64, u32> {
    const START: [u8; 9] = [0, 0, 0, 0, 0, 0, 0, 0, 5];
    let mut found = HashMap::new();
    for entry in fs::read_dir(folder.join("db")).expect("db").flatten() {
        if entry.path().extension().is_none_or(|end| end != "jnl") {
            continue;
        }
        let journal = fs::read(entry.path()).expect("journal");
        // What was never written is zeros.
        let end = journal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for (at, _) in journal[..end].windows(9).enumerate().filter(|(_, bytes)| *bytes == START) {
            let Some((tenant, value)) = journal[at + 9..].split_first_chunk() else { continue };
            if let [1, a, b, c, d, ..] = value {
                let space = u32::from_be_bytes([*a, *b, *c, *d]);
                found.insert(u64::from_be_bytes(*tenant), space);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_cannot_be_made_makes_no_tenant() {
    for (isolation, folder) in [(Isolation::Schema, "buckets"), (Isolation::Database, "own")] {
        let dir = tempfile::tempdir().expect("a folder");
        let stand = Stand::open(dir.path()).await;
        fs::write(dir.path().join(folder), "in the way").expect("write");
        let error = stand.create_in("a", isolation).await.map(|_| ()).expect_err("no folder");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(stand.store.find_tenant(&tenant("a")).await.expect("find").is_none());
        fs::remove_file(dir.path().join(folder)).expect("remove");
        let scope = stand.create_in("a", isolation).await.expect("the name is free");
        fill(&stand, &scope, 1.0).await;
        stand.close();
        let stand = Stand::open(dir.path()).await;
        assert_eq!(count(&stand, &scope).await, 1);
        stand.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_place_is_one_tenants_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    let lost = stand.create_in("lost", Isolation::Database).await.expect("tenant");
    let well = stand.create_in("well", Isolation::Database).await.expect("tenant");
    for scope in [&lost, &well] {
        fill(&stand, scope, 1.0).await;
    }
    stand.close();
    let folder = dir.path().join(format!("own/{0:02x}/{0:016x}", lost.tenant().get()));
    for what in ["made", "db/version", "db"] {
        let path = folder.join(what);
        let aside = dir.path().join("aside");
        fs::rename(&path, &aside).expect("move aside");
        let stand = Stand::open(dir.path()).await;
        let database = DatabaseName::default_database();
        let error = stand.store.database(&lost, &database).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
        assert!(stand.store.database(&well, &database).await.is_ok());
        assert_eq!(count(&stand, &well).await, 1);
        assert_eq!(stand.store.tenants(&stand.operator, None, 9).await.expect("list").len(), 2);
        stand.close();
        fs::rename(&aside, &path).expect("move back");
    }
    // Nothing was made anew over it.
    let stand = Stand::open(dir.path()).await;
    assert_eq!(count(&stand, &lost).await, 1);
    stand.close();
    // And the operator can always be rid of it.
    fs::remove_dir_all(&folder).expect("remove");
    let stand = Stand::open(dir.path()).await;
    stand.store.delete_tenant(&stand.operator, &tenant("lost")).await.expect("delete");
    assert_eq!(count(&stand, &well).await, 1);
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_says_that_older_programs_must_not_write_its_logs() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    let format = || fs::read_to_string(dir.path().join("format")).expect("format");
    assert_eq!(format(), "tenantry-embedded 5\n");
    // What earlier formats say is in it.
    stand.create_in("b", Isolation::Database).await.expect("tenant");
    assert_eq!(format(), "tenantry-embedded 5\n");
    stand.close();
    for older in 1..5 {
        fs::write(dir.path().join("format"), format!("tenantry-embedded {older}\n"))
            .expect("write");
        Stand::open(dir.path()).await.close();
        assert_eq!(format(), "tenantry-embedded 5\n");
    }
    // Whoever cannot open it changes nothing.
    fs::write(dir.path().join("format"), "tenantry-embedded 1\n").expect("write");
    let mut config = EmbeddedConfig::new(dir.path());
    config.master_key = MasterKey::from_hex(&"5a".repeat(32)).expect("a key");
    assert!(Stand::try_open(config).await.is_err());
    assert_eq!(format(), "tenantry-embedded 1\n");
    let stand = Stand::try_open(EmbeddedConfig::new(dir.path())).await.expect("opens again");
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_apart_cost_a_row_each() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = EmbeddedConfig::new(dir.path());
    config.open_databases = 4;
    let stand = Stand::try_open(config.clone()).await.expect("the store opens");
    let mut scopes = Vec::new();
    for n in 0..70 {
        let scope = stand.create_in(&format!("s{n}"), Isolation::Schema).await.expect("tenant");
        fill(&stand, &scope, 1.0).await;
        scopes.push(scope);
    }
    for n in 0..12 {
        let scope = stand.create_in(&format!("d{n}"), Isolation::Database).await.expect("tenant");
        fill(&stand, &scope, 1.0).await;
        scopes.push(scope);
    }
    assert!(open_databases(&stand) <= 1 + 4, "{} are open", open_databases(&stand));
    assert_eq!(entries(&dir.path().join("buckets")), 2);
    stand.close();
    let stand = Stand::try_open(config).await.expect("the store opens");
    assert_eq!(open_databases(&stand), 1);
    for scope in scopes.iter().rev() {
        assert_eq!(count(&stand, scope).await, 1);
        assert_eq!(stand.verify_audit(scope).await, 3);
    }
    assert!(open_databases(&stand) <= 1 + 4, "{} are open", open_databases(&stand));
    stand.close();
}
