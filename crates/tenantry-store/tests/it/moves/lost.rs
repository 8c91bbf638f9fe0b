//! A location that never comes back in the middle of a move: what is there is given up.

use super::{Target, all, fill, go, lives, over, target};
use crate::{
    postgres::{
        Site,
        locations::{self, eu, until},
        proxy::Proxy,
    },
    stand::{Stand, tenant, verify_chain},
};
use tenantry_auth::TenantId;
use tenantry_store::{EmbeddedConfig, LocationConfig, MovePhase, MoveStatus, Store};
use tenantry_types::{ErrorKind, Isolation, Location};

const HOME: Target = (Isolation::Shared, Location::Home);
const APART: Target = (Isolation::Schema, Location::Home);
const RECORDS: usize = 6_000;

fn away() -> Target {
    (Isolation::Shared, Location::Named(eu()))
}

/// An installation with a location that can be lost.
struct Lost {
    stand: Stand,
    proxy: Option<Proxy>,
    there: Site,
    home: Option<Site>,
    folder: Option<tempfile::TempDir>,
}

/// The location, and the only way to it.
async fn way(there: &Site) -> (Option<Proxy>, Vec<LocationConfig>) {
    let urls = there.urls();
    let (url, admin_url) = urls.split_once(' ').expect("two");
    let (_, rest) = url.split_once('@').expect("a user");
    let (address, _) = rest.split_once('/').expect("a database");
    let proxy = Proxy::start(address.to_owned()).await;
    let through = |url: &str| locations::url(&url.replace(address, &proxy.address.to_string()));
    let (url, admin_url) = (through(url), Some(through(admin_url)));
    (Some(proxy), vec![LocationConfig { name: eu(), url, admin_url }])
}

impl Lost {
    async fn files() -> Self {
        let (there, folder) = (Site::new().await, tempfile::tempdir().expect("a folder"));
        let (proxy, places) = way(&there).await;
        let mut config = EmbeddedConfig::new(folder.path());
        config.databases.locations = places;
        let store = Store::open_embedded(config).expect("a store");
        store.open_locations().await.expect("its locations");
        Self { stand: Stand::over(store).await, proxy, there, home: None, folder: Some(folder) }
    }

    async fn postgres() -> Self {
        let (home, there) = (Site::new().await, Site::new().await);
        let (proxy, places) = way(&there).await;
        let mut config = locations::config(&home, &there, Isolation::Shared);
        config.databases.locations = places;
        let store = Store::open_postgres(config).await.expect("a store");
        Self { stand: Stand::over(store).await, proxy, there, home: Some(home), folder: None }
    }

    async fn start(&self, to: Target) -> Result<MoveStatus, ErrorKind> {
        let store = &self.stand.store;
        let begun = store.start_move(&self.stand.operator, &tenant("a"), target(to)).await;
        begun.map_err(|why| why.kind())
    }

    async fn status(&self) -> MoveStatus {
        let (store, operator) = (&self.stand.store, &self.stand.operator);
        store.move_status(operator, &tenant("a")).await.expect("status").expect("a move")
    }

    /// Loses the location when something was copied there.
    async fn lose_while_copying(&mut self) {
        self.start(away()).await.expect("a move");
        until("it is copied", async || self.status().await.records_copied > 0).await;
        assert_eq!(self.status().await.phase, MovePhase::Copying);
        self.proxy = None;
    }

    async fn give_up(&self, id: TenantId) {
        let (store, operator) = (&self.stand.store, &self.stand.operator);
        let given_up = store.abandon(operator, id).await.expect("given up");
        assert_eq!((given_up.tenant, given_up.location), (id, away().1));
        let again = store.abandon(operator, id).await.map_err(|why| why.kind());
        assert!(matches!(again, Err(ErrorKind::Conflict | ErrorKind::NotFound)), "{again:?}");
        let log = store.operator_audit(operator, 0, usize::MAX).await.expect("log");
        verify_chain(&log);
        let said = log.iter().filter(|entry| entry.event.action == "tenant.abandon");
        let said: Vec<_> = said.map(|entry| entry.event.target.clone()).collect();
        assert_eq!(said, [format!("{id} at eu")]);
    }

    fn end(self) {
        self.stand.close();
        drop((self.there, self.home, self.folder));
    }
}

async fn a_tenant_is_deleted_on_its_way_there(mut lost: Lost) {
    let scope = lost.stand.create_at("a", HOME).await.expect("tenant");
    fill(&lost.stand, &scope, RECORDS).await;
    lost.lose_while_copying().await;
    let (store, operator) = (&lost.stand.store, &lost.stand.operator);
    store.delete_tenant(operator, &tenant("a")).await.expect("deleted");
    let left = async || store.leftovers(operator).await.expect("leftovers");
    until("it is left there", async || {
        left().await.iter().any(|one| (one.tenant, one.location) == (scope.tenant(), away().1))
    })
    .await;
    lost.give_up(scope.tenant()).await;
    until("nothing is left", async || left().await.is_empty()).await;
    if let Some(home) = &lost.home {
        let rows = "SELECT count(*) FROM tenantry.catalog WHERE tenant > 0";
        assert_eq!(home.ask(rows).await, 0);
    }
    lost.end();
}

async fn a_tenant_has_left_it(mut lost: Lost) {
    let scope = lost.stand.create_at("a", away()).await.expect("tenant");
    fill(&lost.stand, &scope, 300).await;
    let before = all(&lost.stand, &scope).await;
    lost.start(HOME).await.expect("a move");
    until("it lives at home", async || lost.status().await.phase == MovePhase::Leaving).await;
    lost.proxy = None;
    until("it cannot be emptied", async || lost.status().await.error.is_some()).await;
    assert_eq!(lost.start(APART).await, Err(ErrorKind::Conflict));
    lost.give_up(scope.tenant()).await;
    assert_eq!(lost.status().await.phase, MovePhase::Done);
    assert_eq!(lives(&lost.stand, scope.tenant()).await, HOME);
    go(&lost.stand, "a", APART).await;
    assert_eq!(all(&lost.stand, &scope).await, before);
    lost.stand.verify_audit(&scope).await;
    lost.end();
}

async fn a_move_there_is_cancelled(mut lost: Lost) {
    let scope = lost.stand.create_at("a", HOME).await.expect("tenant");
    fill(&lost.stand, &scope, RECORDS).await;
    lost.lose_while_copying().await;
    let (store, operator) = (&lost.stand.store, &lost.stand.operator);
    // What is under way can be gone on with.
    let early = store.abandon(operator, scope.tenant()).await.map_err(|why| why.kind());
    assert_eq!(early.map(drop), Err(ErrorKind::Conflict));
    store.cancel_move(operator, &tenant("a")).await.expect("cancelled");
    lost.give_up(scope.tenant()).await;
    assert_eq!(over(&lost.stand, "a").await.phase, MovePhase::Cancelled);
    go(&lost.stand, "a", APART).await;
    assert_eq!(all(&lost.stand, &scope).await.len(), RECORDS);
    lost.stand.verify_audit(&scope).await;
    lost.end();
}

macro_rules! beside {
    ($($name:ident)*) => {
        mod files {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::Lost::files().await).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::Lost::postgres().await).await;
                }
            )*
        }
    };
}

beside! {
    a_tenant_is_deleted_on_its_way_there
    a_tenant_has_left_it
    a_move_there_is_cancelled
}
