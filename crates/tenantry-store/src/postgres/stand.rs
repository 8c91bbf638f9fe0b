//! An installation of its own on the server for tests, removed when the test ends.

use super::{
    admin::{Session, connect, with_database},
    names::{Names, PlaceName, PlacePrefix},
    setup::{SetUp, Setup, setup},
    url::{Cluster, DatabaseUrl},
};
use crate::SystemEntropy;
use std::{
    future::Future,
    panic::resume_unwind,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The URL of the superuser.
pub(super) fn superuser_url() -> String {
    std::env::var("TENANTRY_TEST_POSTGRES").expect(
        "TENANTRY_TEST_POSTGRES must hold the URL of a superuser of a PostgreSQL for tests: \
         `cargo xtask test` starts one, clients/postgres/server.py does it by hand",
    )
}

/// The way that a URL says.
pub(super) fn way(url: &str) -> Cluster {
    Cluster::open(DatabaseUrl::parse(url).unwrap()).unwrap()
}

/// Names that no other test has.
#[derive(Debug, Clone)]
pub(super) struct Stand {
    pub(super) names: Names,
    pub(super) prefix: PlacePrefix,
    pub(super) url: String,
}

impl Stand {
    /// Runs a test, then removes everything that has its names, whatever came of it.
    pub(super) async fn with<F: Future<Output = ()> + Send + 'static>(
        test: impl FnOnce(Self) -> F,
    ) {
        let name = format!("t{}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (names, prefix) = (Names::parse(&name).unwrap(), PlacePrefix::default());
        let stand = Self { names, prefix, url: superuser_url() };
        let ended = tokio::spawn(test(stand.clone())).await;
        stand.remove().await;
        if let Err(why) = ended {
            resume_unwind(why.into_panic());
        }
    }

    pub(super) async fn set_up(&self) -> SetUp {
        setup(&self.url, &self.what(), &SystemEntropy).await.unwrap()
    }

    pub(super) fn what(&self) -> Setup {
        let place_prefix = Some(self.prefix.clone()).filter(|prefix| !prefix.is_none());
        Setup { names: self.names.clone(), place_prefix, reset_passwords: false }
    }

    /// A superuser in one of the databases.
    pub(super) async fn superuser(&self, database: &str) -> Session {
        connect(&with_database(&self.url, database).unwrap()).await.unwrap()
    }

    /// The name of a place that is this stand's.
    pub(super) fn place(&self, tenant: u64) -> PlaceName {
        let text = format!("{:?} {tenant}", self.names);
        PlaceName::of_hash(&self.prefix, blake3::hash(text.as_bytes()).as_bytes())
    }

    async fn remove(&self) {
        let client = connect(&self.url).await.unwrap();
        let admin = self.names.admin();
        let sql = "SELECT datname::text FROM pg_database WHERE pg_get_userbyid(datdba) = $1";
        for row in client.query(sql, &[&admin]).await.unwrap() {
            let name: String = row.get(0);
            let sql = format!("ALTER DATABASE {name} IS_TEMPLATE false");
            let _ = client.batch_execute(&sql).await;
            client.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
        }
        let places = "SELECT r.rolname::text FROM pg_auth_members m \
             JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles a ON a.oid = m.member \
             WHERE a.rolname = $1 AND r.rolname ~ 'ten_[a-z2-7]{16}$'";
        let rows = client.query(places, &[&admin]).await.unwrap();
        let roles = rows.iter().map(|row| row.get(0)).chain([self.names.service(), admin]);
        for role in roles {
            client.batch_execute(&format!("DROP ROLE IF EXISTS {role}")).await.unwrap();
        }
    }
}
