//! Claims against a server.

use super::{
    super::{
        config::{LocationConfig, PostgresConfig},
        purge,
        stand::Stand,
        store::Postgres,
        url::DatabaseUrl,
    },
    *,
};
use crate::{
    MasterKey,
    tenancy::{Backend as _, place::Placement},
};
use std::sync::Arc;
use tenantry_types::{Isolation, Location};
use zeroize::Zeroizing;

fn eu() -> LocationName {
    LocationName::parse("eu").unwrap()
}

fn config(url: &str, location: Option<&str>) -> PostgresConfig {
    let parse = |url: &str| DatabaseUrl::parse(url).unwrap();
    let mut config = PostgresConfig::new(parse(url), ".");
    config.master_key = MasterKey::Bytes(Zeroizing::new([7; 32]));
    let at = |url| LocationConfig { name: eu(), url: parse(url), admin_url: None };
    config.locations = location.map(at).into_iter().collect();
    config
}

fn placement() -> Placement {
    let (tenant, location) = (TenantId::new(1), Location::Named(eu()));
    Placement { tenant, isolation: Isolation::Shared, space: 0, location }
}

const MARK: &str = "INSERT INTO tenantry.catalog VALUES (1, 16, '', 'x')";
const LOSE: &str = "UPDATE tenantry.catalog SET row = 'lost' WHERE family = 12";

#[test]
fn only_this_installation_can_have_made_a_row() {
    let (key, other) = ([1; 32], [2; 32]);
    let claim = Claim::of_location(&key, eu());
    let row = claim.row(Some(&[9; 16]));
    assert_eq!((claim.nonce(&row), row.len()), (Some([9; 16]), 48));
    assert!(claim.made(&row) && claim.made(&claim.row(None)));
    let us = LocationName::parse("us").unwrap();
    for foreign in [
        Claim::of_location(&other, eu()),
        Claim::of_location(&key, us),
        Claim::of_tenant(&key, TenantId::new(1)),
    ] {
        assert!(!foreign.made(&row) && !foreign.made(&claim.row(None)));
        assert_eq!(foreign.nonce(&row), None);
    }
    // What an old row shows is not what makes a new one.
    let mut forged = vec![9; 16];
    forged.extend(blake3::keyed_hash(&claim.hash, &[9; 16]).as_bytes());
    assert!(!claim.made(&forged));
}

/// Two setups, the second one's database a location of the first.
async fn with_location<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Stand, Stand, String, String) -> F + Send + 'static,
) {
    Stand::with(async |there| {
        let location = there.set_up().await.database_url;
        Stand::with(async move |home| {
            let url = home.set_up().await.database_url;
            test(home, there, url, location).await;
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_removed_where_the_claim_is_lost() {
    with_location(|_, there, url, location| async move {
        let node = Postgres::open(config(&url, Some(&location))).await.unwrap();
        let shared = Arc::clone(&node.inner.shared);
        let superuser = there.superuser(there.names.database()).await;
        let rows = "SELECT count(*) FROM tenantry.catalog WHERE tenant = 1";
        let count = async || superuser.query_one(rows, &[]).await.unwrap().get::<_, i64>(0);
        superuser.batch_execute(MARK).await.unwrap();
        let located = shared.located(placement()).await.unwrap();
        let root = located.root.clone();
        // Connections of before, and then new ones.
        purge::empty(&shared, &root, TenantId::new(2)).await.unwrap();
        superuser.batch_execute(LOSE).await.unwrap();
        let why = purge::empty(&shared, &root, TenantId::new(1)).await.unwrap_err();
        assert_eq!((why.kind(), count().await), (ErrorKind::Unavailable, 1), "{why}");
        // It is looked at again, and is others' now.
        assert_eq!(shared.located(placement()).await.err().unwrap().kind(), ErrorKind::Unavailable);
        node.close();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_new_connection_shows_that_the_database_is_ours() {
    with_location(|_, there, url, location| async move {
        let node = Postgres::open(config(&url, Some(&location))).await.unwrap();
        let shared = Arc::clone(&node.inner.shared);
        let place = shared.place_of(placement()).await.unwrap();
        let get = async || shared.connections.get(&place.target).await.map(drop);
        get().await.unwrap();
        let superuser = there.superuser(there.names.database()).await;
        superuser.batch_execute(LOSE).await.unwrap();
        // One that was looked at goes on, as far as this is concerned.
        get().await.unwrap();
        let fresh = shared.connections.get_fresh(&place.target).await.map(drop);
        assert_eq!(fresh.expect_err("another one").error().kind(), ErrorKind::Unavailable);
        assert!(shared.place_of(placement()).await.is_err());
        node.close();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_others_is_not_migrated() {
    with_location(|_, there, url, location| async move {
        Postgres::open(config(&url, Some(&location))).await.unwrap().close();
        let superuser = there.superuser(there.names.database()).await;
        // A version that a migration would change, or refuse.
        let old = "UPDATE tenantry.installation SET version = 99";
        superuser.batch_execute(old).await.unwrap();
        let made = there.what();
        let made = super::super::setup::Setup { reset_passwords: true, ..made };
        let made = async {
            superuser
                .batch_execute("UPDATE tenantry.installation SET version = 1")
                .await
                .map(|()| made)
        };
        let made = made.await.unwrap();
        let urls =
            super::super::setup::setup(&there.url, &made, &crate::SystemEntropy).await.unwrap();
        superuser.batch_execute(old).await.unwrap();
        Stand::with(async move |other| {
            let home = other.set_up().await.database_url;
            let mut config = config(&home, Some(&urls.database_url));
            config.locations[0].admin_url =
                Some(DatabaseUrl::parse(&urls.database_admin_url).unwrap());
            let why = Postgres::open(config).await.expect_err("it is others'");
            assert!(why.to_string().contains("belongs to others"), "{why}");
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_commit_and_a_release_see_each_other() {
    with_location(|_, there, url, location| async move {
        let node = Postgres::open(config(&url, None)).await.unwrap();
        let shared = Arc::clone(&node.inner.shared);
        let tenant = TenantId::new(1);
        let claim = Claim::of_tenant(&[1; 32], tenant);
        let mut ours = super::super::admin::connect(&location).await.unwrap();
        assert!(matches!(take(&mut ours, &claim, None).await.unwrap(), Owner::Us(_)));
        let server = {
            let way = super::super::stand::way(&location);
            super::super::connections::Server::with_part(way, 2)
        };
        let database = there.names.database().into();
        let place = Place::root(super::super::connections::Target { server, database }).unwrap();
        let hold = || place.target.server.set_claim(Some(claim.row(None).into()));
        // A first commit is under way: whoever lets go waits, and then finds its rows.
        hold();
        let view = PgView::writing(&shared, place.clone());
        view.hold_claim().await.unwrap();
        let text = "INSERT INTO {schema}.catalog VALUES (1, 17, '', 'x') RETURNING 1";
        let write = || vec![Step::Run(Statement::new(place.text(text)))];
        view.run(&place, tenant, write).await.unwrap();
        let releasing = tokio::spawn(async move {
            let why = release(&mut ours, &claim, tenant).await;
            (ours, why)
        });
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert!(!releasing.is_finished());
        let proof = vec![Step::Run(Statement::new("SELECT 1"))];
        super::super::submit::commit_steps(view, proof, 0).await.unwrap();
        let (mut ours, why) = releasing.await.unwrap();
        assert_eq!(why.unwrap_err().kind(), ErrorKind::Unavailable);
        // It was let go of: a first commit comes too late.
        purge::empty(&shared, &place, tenant).await.unwrap();
        release(&mut ours, &claim, tenant).await.unwrap();
        let view = PgView::writing(&shared, place.clone());
        assert_eq!(view.hold_claim().await.unwrap_err().kind(), ErrorKind::Unavailable);
        node.close();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_is_one_database_whatever_its_url_is_elsewhere() {
    with_location(|_, _, url, location| async move {
        Postgres::open(config(&url, Some(&location))).await.unwrap().close();
        Stand::with(async move |second| {
            let elsewhere = second.set_up().await.database_url;
            let why = Postgres::open(config(&url, Some(&elsewhere))).await.expect_err("another");
            assert_eq!(why.kind(), ErrorKind::Conflict);
            let text = why.to_string();
            assert!(text.contains("location eu") && text.contains("the same URL"), "{text}");
            // It was not claimed by that, and the first one is still good.
            let superuser = second.superuser(second.names.database()).await;
            let claims = "SELECT count(*) FROM tenantry.catalog WHERE family = 12";
            assert_eq!(superuser.query_one(claims, &[]).await.unwrap().get::<_, i64>(0), 0);
            Postgres::open(config(&url, Some(&location))).await.unwrap().close();
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_before_there_were_nonces_gets_one() {
    with_location(|home, there, url, location| async move {
        let node = Postgres::open(config(&url, Some(&location))).await.unwrap();
        let claim = node.inner.shared.claim(placement()).unwrap();
        node.close();
        let superuser = there.superuser(there.names.database()).await;
        let set = "UPDATE tenantry.catalog SET row = $1 WHERE family = 12";
        superuser.execute(set, &[&claim.row(None)]).await.unwrap();
        let root = home.superuser(home.names.database()).await;
        root.batch_execute("DELETE FROM tenantry.catalog WHERE family = 14").await.unwrap();
        Postgres::open(config(&url, Some(&location))).await.unwrap().close();
        let row = superuser.query_one("SELECT row FROM tenantry.catalog WHERE family = 12", &[]);
        let row: Vec<u8> = row.await.unwrap().get(0);
        let nonce: Vec<u8> = {
            let sql = "SELECT row FROM tenantry.catalog WHERE family = 14";
            root.query_one(sql, &[]).await.unwrap().get(0)
        };
        assert_eq!(claim.nonce(&row).unwrap().as_slice(), nonce);
    })
    .await;
}

/// A dump of the root that is restored, here as the database's number that it was claimed with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_root_enters_nothing_until_it_is_adopted() {
    with_location(|home, there, url, location| async move {
        Postgres::open(config(&url, Some(&location))).await.unwrap().close();
        let names = home.names.clone();
        let copy = format!("{}_copy", names.database());
        let superuser = home.superuser("postgres").await;
        for sql in [
            format!("CREATE DATABASE {copy} TEMPLATE {} OWNER {}", names.database(), names.admin()),
            format!("REVOKE ALL ON DATABASE {copy} FROM PUBLIC"),
            format!("GRANT CONNECT ON DATABASE {copy} TO {}", names.service()),
        ] {
            superuser.batch_execute(&sql).await.unwrap();
        }
        let copied = super::super::admin::with_database(&url, &copy).unwrap();
        let why = Postgres::open(config(&copied, Some(&location))).await.expect_err("a copy");
        assert_eq!(why.kind(), ErrorKind::Conflict);
        assert!(why.to_string().contains("tenantry postgres adopt"), "{why}");
        // Nor does it take a tenant's database.
        let node = Postgres::open(config(&copied, None)).await.unwrap();
        let own = tenantry_types::SecretText::new(&location);
        let own = tenantry_types::OwnDatabase { url: own, admin_url: None };
        let why = node.inner.check_own(None, &own).await.unwrap_err();
        assert!(why.to_string().contains("tenantry postgres adopt"), "{why}");
        node.close();
        let what = super::super::setup::Setup { reset_passwords: true, ..home.what() };
        let made =
            super::super::setup::setup(&home.url, &what, &crate::SystemEntropy).await.unwrap();
        let admin = super::super::admin::with_database(&made.database_admin_url, &copy).unwrap();
        super::super::home::adopt(&admin).await.unwrap();
        let adopted = super::super::admin::with_database(&made.database_url, &copy).unwrap();
        Postgres::open(config(&adopted, Some(&location))).await.unwrap().close();
        // From then on the original is refused.
        let why =
            Postgres::open(config(&made.database_url, Some(&location))).await.expect_err("gone");
        assert!(why.to_string().contains("adopted"), "{why}");
        // Where no installation lives there is nothing to adopt.
        let empty = super::super::setup::setup(
            &there.url,
            &super::super::setup::Setup { reset_passwords: true, ..there.what() },
            &crate::SystemEntropy,
        )
        .await
        .unwrap();
        let why = super::super::home::adopt(&empty.database_admin_url).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::NotFound);
    })
    .await;
}
