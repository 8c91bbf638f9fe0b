//! Claims against a server.

use super::{
    super::{
        admin::{Session, connect, with_database},
        config::{LocationConfig, PostgresConfig},
        emptying,
        home::adopt,
        locations::Located,
        opening::Ways,
        setup::SetUp,
        stand::{Stand, way},
        store::Postgres,
        submit::commit_steps,
        target::{Server, Target},
        url::DatabaseUrl,
    },
    *,
};
use crate::{
    MasterKey,
    tenancy::{Backend as _, place::Placement},
};
use std::{sync::Arc, time::Duration};
use tenantry_types::{Isolation, Location, OwnDatabase, SecretText};
use zeroize::Zeroizing;

fn eu() -> LocationName {
    LocationName::parse("eu").unwrap()
}

fn parse(url: &str) -> DatabaseUrl {
    DatabaseUrl::parse(url).unwrap()
}

fn config(url: &str, location: Option<&str>) -> PostgresConfig {
    let mut config = PostgresConfig::new(parse(url), ".");
    config.master_key = MasterKey::Bytes(Zeroizing::new([7; 32]));
    let at = |url| LocationConfig { name: eu(), url: parse(url), admin_url: None };
    config.databases.locations = location.map(at).into_iter().collect();
    config
}

fn placement() -> Placement {
    let (tenant, location) = (TenantId::new(1), Location::Named(eu()));
    Placement { location, ..Placement::shared(tenant) }
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

/// A setup, and a second one whose database is to be a location of the first.
struct Two {
    home: Stand,
    there: Stand,
    made: SetUp,
    made_there: SetUp,
}

impl Two {
    async fn with<F: Future<Output = ()> + Send + 'static>(
        test: impl FnOnce(Self) -> F + Send + 'static,
    ) {
        Stand::with(async |there| {
            let made_there = there.set_up().await;
            Stand::with(async move |home| {
                let made = home.set_up().await;
                test(Self { home, there, made, made_there }).await;
            })
            .await;
        })
        .await;
    }

    /// How the installation is opened with its location.
    fn config(&self) -> PostgresConfig {
        config(&self.made.database_url, Some(&self.made_there.database_url))
    }

    async fn at_home(&self) -> Session {
        self.home.superuser(self.home.names.database()).await
    }

    async fn at_location(&self) -> Session {
        self.there.superuser(self.there.names.database()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_removed_where_the_claim_is_lost() {
    Two::with(|two| async move {
        let node = Postgres::open(two.config()).await.unwrap();
        let shared = Arc::clone(&node.inner.shared);
        let superuser = two.at_location().await;
        let rows = "SELECT count(*) FROM tenantry.catalog WHERE tenant = 1";
        let count = async || superuser.query_one(rows, &[]).await.unwrap().get::<_, i64>(0);
        superuser.batch_execute(MARK).await.unwrap();
        let located = shared.located(placement()).await.unwrap();
        let root = located.root.clone();
        // Connections of before, and then new ones.
        emptying::empty(&shared, &root, TenantId::new(2)).await.unwrap();
        superuser.batch_execute(LOSE).await.unwrap();
        let why = emptying::empty(&shared, &root, TenantId::new(1)).await.unwrap_err();
        assert_eq!((why.kind(), count().await), (ErrorKind::Unavailable, 1), "{why}");
        // Nor by whoever comes next and has the place of before.
        let why = emptying::empty(&shared, &root, TenantId::new(1)).await.unwrap_err();
        assert_eq!((why.kind(), count().await), (ErrorKind::Unavailable, 1), "{why}");
        // It is looked at again, and is others' now.
        assert_eq!(shared.located(placement()).await.err().unwrap().kind(), ErrorKind::Unavailable);
        node.close();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_new_connection_shows_that_the_database_is_ours() {
    Two::with(|two| async move {
        let node = Postgres::open(two.config()).await.unwrap();
        let shared = Arc::clone(&node.inner.shared);
        let place = shared.place_of(placement()).await.unwrap();
        let get = async || shared.connections.get(&place.target).await.map(drop);
        get().await.unwrap();
        let superuser = two.at_location().await;
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
    Two::with(|two| async move {
        Postgres::open(two.config()).await.unwrap().close();
        let superuser = two.at_location().await;
        // A version that whoever migrates refuses.
        superuser.batch_execute("UPDATE tenantry.installation SET version = 99").await.unwrap();
        Stand::with(async move |other| {
            let home = other.set_up().await.database_url;
            let mut config = config(&home, Some(&two.made_there.database_url));
            let admin = parse(&two.made_there.database_admin_url);
            config.databases.locations[0].admin_url = Some(admin);
            let why = Postgres::open(config).await.expect_err("it is others'");
            assert!(why.to_string().contains("belongs to others"), "{why}");
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_commit_and_a_release_see_each_other() {
    Two::with(|two| async move {
        let node = Postgres::open(config(&two.made.database_url, None)).await.unwrap();
        let shared = Arc::clone(&node.inner.shared);
        let tenant = TenantId::new(1);
        let claim = Claim::of_tenant(&[1; 32], tenant);
        let mut ours = connect(&two.made_there.database_url).await.unwrap();
        assert!(matches!(take(&mut ours, &claim, None).await.unwrap(), Owner::Us(_)));
        let server = Server::with_part(way(&two.made_there.database_url), 2);
        let database = two.there.names.database().into();
        let place = Place::root(Target { server, database }).unwrap();
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
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!releasing.is_finished());
        let proof = vec![Step::Run(Statement::new("SELECT 1"))];
        commit_steps(view, proof, 0).await.unwrap();
        let (mut ours, why) = releasing.await.unwrap();
        assert_eq!(why.unwrap_err().kind(), ErrorKind::Unavailable);
        // It was let go of: a first commit comes too late.
        emptying::empty(&shared, &place, tenant).await.unwrap();
        release(&mut ours, &claim, tenant).await.unwrap();
        let view = PgView::writing(&shared, place.clone());
        assert_eq!(view.hold_claim().await.unwrap_err().kind(), ErrorKind::Unavailable);
        node.close();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_is_one_database_whatever_its_url_is_elsewhere() {
    Two::with(|two| async move {
        Postgres::open(two.config()).await.unwrap().close();
        Stand::with(async move |second| {
            let elsewhere = second.set_up().await.database_url;
            let why = Postgres::open(config(&two.made.database_url, Some(&elsewhere)))
                .await
                .expect_err("another");
            assert_eq!(why.kind(), ErrorKind::Conflict);
            let text = why.to_string();
            assert!(text.contains("location eu") && text.contains("the same URL"), "{text}");
            // It was not claimed by that, and the first one is still good.
            let superuser = second.superuser(second.names.database()).await;
            let claims = "SELECT count(*) FROM tenantry.catalog WHERE family = 12";
            assert_eq!(superuser.query_one(claims, &[]).await.unwrap().get::<_, i64>(0), 0);
            Postgres::open(two.config()).await.unwrap().close();
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_agree_on_a_new_location() {
    Two::with(|two| async move {
        Postgres::open(config(&two.made.database_url, None)).await.unwrap().close();
        let mut nodes = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let config = two.config();
            nodes.spawn(async move { Postgres::open(config).await.map(|node| node.close()) });
        }
        while let Some(opened) = nodes.join_next().await {
            opened.unwrap().unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_taken_for_a_tenant_that_lives_only() {
    Two::with(|two| async move {
        let node = Postgres::open(config(&two.made.database_url, None)).await.unwrap();
        let shared = Arc::clone(&node.inner.shared);
        let ways = Ways::new(&parse(&two.made_there.database_url), None, None).unwrap();
        let located = Located::new(ways, 2).unwrap();
        let own = Placement { location: Location::Own, ..placement() };
        let claim = shared.claim(own).unwrap();
        let root = two.at_home().await;
        // The place of a tenant that is deleted, and not purged yet.
        let place = "INSERT INTO tenantry.catalog VALUES (0, 5, int8send(1), 'x')";
        root.batch_execute(place).await.unwrap();
        let why = shared.look_at(&located, &claim, true).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::NotFound, "{why}");
        let mut there = two.at_location().await;
        assert_eq!(look(&mut there, Some(&claim)).await.unwrap(), Owner::Nobody);
        let lives = "INSERT INTO tenantry.catalog VALUES (1, 16, '', 'x')";
        root.batch_execute(lives).await.unwrap();
        let (row, _) = shared.look_at(&located, &claim, true).await.unwrap();
        assert_eq!(look(&mut there, Some(&claim)).await.unwrap(), Owner::Us(row));
        node.close();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_before_there_were_nonces_gets_one() {
    Two::with(|two| async move {
        let node = Postgres::open(two.config()).await.unwrap();
        let claim = node.inner.shared.claim(placement()).unwrap();
        node.close();
        let superuser = two.at_location().await;
        let set = "UPDATE tenantry.catalog SET row = $1 WHERE family = 12";
        superuser.execute(set, &[&claim.row(None)]).await.unwrap();
        let root = two.at_home().await;
        root.batch_execute("DELETE FROM tenantry.catalog WHERE family = 14").await.unwrap();
        Postgres::open(two.config()).await.unwrap().close();
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

/// A copy of the root as a restored dump is one: another database, of the same rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_root_enters_nothing_until_it_is_adopted() {
    Two::with(|two| async move {
        Postgres::open(two.config()).await.unwrap().close();
        let (names, location) = (&two.home.names, Some(two.made_there.database_url.as_str()));
        let (from, copy) = (names.database(), format!("{}_copy", names.database()));
        let superuser = two.home.superuser("postgres").await;
        for sql in [
            format!("CREATE DATABASE {copy} TEMPLATE {from} OWNER {}", names.admin()),
            format!("REVOKE ALL ON DATABASE {copy} FROM PUBLIC"),
            format!("GRANT CONNECT ON DATABASE {copy} TO {}", names.service()),
        ] {
            superuser.batch_execute(&sql).await.unwrap();
        }
        let copied = with_database(&two.made.database_url, &copy).unwrap();
        let why = Postgres::open(config(&copied, location)).await.expect_err("a copy");
        assert_eq!(why.kind(), ErrorKind::Conflict);
        assert!(why.to_string().contains("tenantry postgres adopt"), "{why}");
        // Nor does it take a tenant's database.
        let node = Postgres::open(config(&copied, None)).await.unwrap();
        let own = OwnDatabase { url: SecretText::new(location.unwrap()), admin_url: None };
        let why = node.inner.check_own(None, &own).await.unwrap_err();
        assert!(why.to_string().contains("tenantry postgres adopt"), "{why}");
        // On the same server tenants' databases have the same names.
        let home =
            Placement { isolation: Isolation::Database, location: Location::Home, ..placement() };
        let shared = Arc::clone(&node.inner.shared);
        for refused in [
            shared.make_place(home).await,
            shared.check_place(home).await,
            shared.drop_place(home, true).await,
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        node.close();
        adopt(&with_database(&two.made.database_admin_url, &copy).unwrap()).await.unwrap();
        Postgres::open(config(&copied, location)).await.unwrap().close();
        // From then on the original is refused.
        let why = Postgres::open(two.config()).await.expect_err("it was adopted");
        assert!(why.to_string().contains("adopted"), "{why}");
        // Where no installation lives there is nothing to adopt.
        let why = adopt(&two.made_there.database_admin_url).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::NotFound);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_to_a_database_that_cannot_be_read_is_not_one_that_is_gone() {
    Two::with(|two| async move {
        let node = Postgres::open(config(&two.made.database_url, None)).await.unwrap();
        let shared = Arc::clone(&node.inner.shared);
        let (isolation, location) = (Isolation::Database, Location::Own);
        let own = Placement { isolation, location, ..placement() };
        // The root says nothing of it: there is nothing to remove.
        shared.drop_place(own, true).await.unwrap();
        let superuser = two.at_home().await;
        let damaged = "INSERT INTO tenantry.catalog VALUES (0, 11, int8send(1), 'x')";
        superuser.batch_execute(damaged).await.unwrap();
        let why = shared.drop_place(own, true).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Corrupt, "{why}");
        node.close();
    })
    .await;
}
