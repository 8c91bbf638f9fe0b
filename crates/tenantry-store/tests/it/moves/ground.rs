//! Where the tenants of a test are moved around.

use super::Target;
use crate::{
    postgres::{Site, beside, locations::eu},
    stand::Stand,
};
use std::{fs, path::Path};
use tenantry_auth::TenantId;
use tenantry_types::{Isolation, Location};

/// An installation that can be opened again and again.
pub(super) enum Ground {
    Files(tempfile::TempDir),
    Postgres(Site),
    /// Files, with a database beside them.
    Across(tempfile::TempDir, Site),
}

impl Ground {
    pub(super) fn files() -> Self {
        Self::Files(tempfile::tempdir().expect("a folder"))
    }

    pub(super) async fn postgres() -> Self {
        Self::Postgres(Site::new().await)
    }

    pub(super) async fn across() -> Self {
        Self::Across(tempfile::tempdir().expect("a folder"), Site::new().await)
    }

    /// Where a tenant is moved, one after the other; the last is where it was made.
    pub(super) fn circle(&self) -> Vec<Target> {
        let all = [Isolation::Schema, Isolation::Database, Isolation::Shared];
        let home = all.map(|isolation| (isolation, Location::Home));
        let [schema, database, shared] = home;
        match self {
            Self::Files(_) | Self::Postgres(_) => home.to_vec(),
            Self::Across(..) => {
                let there = |isolation| (isolation, Location::Named(eu()));
                let [to, on, back] = all;
                vec![schema, database, there(back), there(to), there(on), shared]
            }
        }
    }

    /// Some ways from one place to another: to a schema, on to a database, home, and to a database
    /// at once. Across, each of the first three is from one backend to the other.
    pub(super) fn way(&self, n: usize) -> (Target, Target) {
        let circle = self.circle();
        match self {
            Self::Files(_) | Self::Postgres(_) => {
                [(2, 0), (0, 1), (1, 2), (2, 1)].map(|(from, to)| (circle[from], circle[to]))[n]
            }
            Self::Across(..) => {
                [(5, 3), (1, 4), (4, 5), (5, 2)].map(|(from, to)| (circle[from], circle[to]))[n]
            }
        }
    }

    pub(super) async fn open(&self) -> Stand {
        match self {
            Self::Across(folder, site) => {
                Stand::over(beside::open_at(folder.path(), site.word()).await).await
            }
            Self::Files(folder) => Stand::open(folder.path()).await,
            Self::Postgres(site) => Stand::over(site.open_apart(Isolation::Shared).await).await,
        }
    }

    /// How often a word of the mover is waited for: each costs seconds where there is a database.
    pub(super) fn times(&self) -> u32 {
        match self {
            Self::Files(_) => 2,
            Self::Postgres(_) | Self::Across(..) => 1,
        }
    }

    /// What a process needs to know to open it.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Files(folder) => folder.path().to_str().expect("a path").to_owned(),
            Self::Postgres(site) => site.word(),
            Self::Across(folder, site) => {
                format!("{} {}", folder.path().to_str().expect("a path"), site.word())
            }
        }
    }

    /// Opens what a word names.
    pub(super) async fn open_by(word: &str) -> Stand {
        if let Some((folder, site)) = word.split_once(' ')
            && !folder.contains("://")
        {
            let store = beside::open_at(Path::new(folder), site.to_owned()).await;
            return Stand::over(store).await;
        }
        if word.contains(char::is_whitespace) {
            return Stand::over(Site::open_by(word).await).await;
        }
        Stand::open(Path::new(word)).await
    }

    /// The places that hold rows of a tenant, once the store is closed.
    pub(super) async fn places(&self, id: TenantId) -> Vec<String> {
        match self {
            Self::Files(folder) => places(folder.path(), id),
            Self::Postgres(site) => places_in(site, id).await,
            Self::Across(folder, site) => {
                let there = places_in(site, id).await;
                let there = there.into_iter().map(|place| format!("there: {place}"));
                places(folder.path(), id).into_iter().chain(there).collect()
            }
        }
    }

    /// A tenant is in one place, and in the right one.
    pub(super) async fn check(&self, id: TenantId, (isolation, location): Target) {
        let found = self.places(id).await;
        let is_there = |place: &String| place.starts_with("there: ");
        let there = location != Location::Home;
        assert!(found.iter().all(|place| is_there(place) == there), "{location}: {found:?}");
        let plain = |place: &String| place.trim_start_matches("there: ").to_owned();
        check(&found.iter().map(plain).collect::<Vec<_>>(), isolation);
    }
}

fn check(found: &[String], isolation: Isolation) {
    let is_right = match (found, isolation) {
        ([one], Isolation::Shared) => one == "shared",
        ([one], Isolation::Schema) => one != "shared" && !one.starts_with("own"),
        ([one], Isolation::Database) => one.starts_with("own"),
        _ => false,
    };
    assert!(is_right, "{isolation:?}: {found:?}");
}

fn places(folder: &Path, id: TenantId) -> Vec<String> {
    let prefix = id.get().to_be_bytes();
    let mut found = Vec::new();
    let mut look = |db: &Path, spaces: &[String]| {
        let database = fjall::Database::builder(db).open().expect("fjall");
        for space in spaces {
            let keyspace = database.keyspace(space, fjall::KeyspaceCreateOptions::default);
            let rows = keyspace.expect("a keyspace").prefix(prefix).count();
            if rows > 0 {
                found.push(space.clone());
            }
        }
    };
    look(&folder.join("db"), &["shared".to_owned()]);
    for bucket in fs::read_dir(folder.join("buckets")).into_iter().flatten().flatten() {
        let spaces: Vec<String> = (0..64).map(|n| format!("s{n:02}")).collect();
        look(&bucket.path().join("db"), &spaces);
    }
    let own = folder.join("own").join(format!("{:02x}", id.get() & 0xff));
    for home in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = home.file_name().into_string().expect("a name");
        if name.starts_with(&format!("{:016x}", id.get())) {
            found.push(format!("own {name}"));
        }
    }
    found
}

/// In an installation whose only tenant that was ever apart this is.
async fn places_in(site: &Site, id: TenantId) -> Vec<String> {
    let number = id.get();
    let mut found = Vec::new();
    // What the root knows of it is there for as long as it lives.
    let rows = site
        .ask(&format!(
            "SELECT (SELECT count(*) FROM tenantry.catalog WHERE tenant = {number} \
             AND family NOT IN (16, 25)) + (SELECT count(*) FROM tenantry.records \
             WHERE tenant = {number}) + (SELECT count(*) FROM tenantry.vectors \
             WHERE tenant = {number})"
        ))
        .await;
    if rows > 0 {
        found.push("shared".to_owned());
    }
    let schemas = site.ask("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'ten\\_%'").await;
    found.extend((0..schemas).map(|n| format!("schema {n}")));
    let databases = site
        .ask(
            "SELECT count(*) FROM pg_database d JOIN pg_database o ON o.datdba = d.datdba \
             AND o.datname = current_database() WHERE d.datname LIKE 'ten\\_%'",
        )
        .await;
    found.extend((0..databases).map(|n| format!("own {n}")));
    found
}
