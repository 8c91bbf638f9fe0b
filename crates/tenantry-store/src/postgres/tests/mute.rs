//! Servers that take connections and say nothing, or nothing any more.

use super::{
    super::{
        admin::{LOOK, MAKE},
        config::{LocationConfig, PostgresConfig},
        stand::Stand,
        store::Postgres,
        url::DatabaseUrl,
    },
    proxy::{Does, Proxy},
};
use crate::{MasterKey, tenancy::place::Placement};
use std::time::{Duration, Instant};
use tenantry_auth::TenantId;
use tenantry_types::{ErrorKind, Isolation, LocationName};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

/// The first question of whoever has logged in.
const FIRST: &[u8] = b"server_version_num";
const SOME_MORE: Duration = Duration::from_secs(3);

fn config(url: &str) -> PostgresConfig {
    let mut config = PostgresConfig::new(DatabaseUrl::parse(url).unwrap(), ".");
    config.master_key = MasterKey::Bytes(Zeroizing::new([7; 32]));
    config
}

/// A URL with another address.
fn through(url: &str, address: &str) -> String {
    let (user, rest) = url.split_once('@').unwrap();
    format!("{user}@{address}/{}", rest.split_once('/').unwrap().1)
}

async fn refused(config: PostgresConfig) {
    let begun = Instant::now();
    let why = Postgres::open(config).await.expect_err("silence");
    assert_eq!(why.kind(), ErrorKind::Unavailable, "{why}");
    assert!(why.to_string().contains("within"), "{why}");
    assert!(begun.elapsed() < LOOK + SOME_MORE, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_ends_if_the_server_takes_the_connection_and_says_nothing() {
    let silence = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silence.local_addr().unwrap();
    refused(config(&format!("postgresql://a:b@{address}/c"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_ends_if_the_server_falls_silent_after_the_login() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let proxy = Proxy::start(Does::SwallowFrom(FIRST)).await;
        refused(config(&through(&made.database_url, &proxy.address()))).await;
        // What was said on ends too, though nothing is answered.
        let superuser = stand.superuser("postgres").await;
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        let begun = Instant::now();
        while superuser.query_one(open, &[&stand.names.service()]).await.unwrap().get::<_, i64>(0)
            > 0
        {
            assert!(begun.elapsed() < Duration::from_secs(5), "a connection stays open");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_that_falls_silent_is_left_for_later() {
    Stand::with(async |there| {
        let location = there.set_up().await.database_url;
        Stand::with(async move |stand| {
            let made = stand.set_up().await;
            let proxy = Proxy::start(Does::SwallowFrom(FIRST)).await;
            let url = DatabaseUrl::parse(&through(&location, &proxy.address())).unwrap();
            let name = LocationName::parse("eu").unwrap();
            let mut config = config(&made.database_url);
            config.databases.locations = vec![LocationConfig { name, url, admin_url: None }];
            let begun = Instant::now();
            let node = Postgres::open(config).await.expect("the others are served");
            assert!(begun.elapsed() < LOOK + SOME_MORE, "{:?}", begun.elapsed());
            node.close();
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_places_gives_up_a_server_that_falls_silent() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let proxy = Proxy::start(Does::Pass).await;
        let mut config = config(&made.database_url);
        let admin = through(&made.database_admin_url, &proxy.address());
        config.admin_url = Some(DatabaseUrl::parse(&admin).unwrap());
        let node = Postgres::open(config).await.unwrap();
        let shared = &node.inner.shared;
        let of = |number| {
            let tenant = TenantId::new(number);
            Placement { isolation: Isolation::Schema, ..Placement::shared(tenant) }
        };
        shared.make_place(of(1)).await.unwrap();
        // The connection of before is used again, and nothing comes back.
        proxy.does(Does::Swallow);
        let begun = Instant::now();
        let why = shared.make_place(of(2)).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why}");
        assert!(begun.elapsed() < MAKE + SOME_MORE, "{:?}", begun.elapsed());
        proxy.does(Does::Pass);
        shared.make_place(of(2)).await.unwrap();
        node.close();
    })
    .await;
}
