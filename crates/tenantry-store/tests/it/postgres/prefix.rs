//! Places whose names begin with what the operator has chosen.

use super::{
    Site,
    locations::{self, eu, until, url, write},
    nodes::Node,
    superuser,
};
use crate::stand::tenant;
use std::time::Duration;
use tenantry_auth::{Admin, Scope, TenantId};
use tenantry_store::{
    EmbeddedConfig, LocationConfig, MovePhase, MoveTarget, Store, SystemEntropy,
    postgres::{PlacePrefix, Setup, migrate, setup},
};
use tenantry_types::{ErrorKind, Isolation, Location, Selector, TenantSpec};

fn prefix(text: &str) -> PlacePrefix {
    PlacePrefix::parse(text).expect("a prefix")
}

async fn site(text: &str) -> Site {
    Site::with_prefix(superuser(), Some(prefix(text))).await
}

/// What there is of tenants on the server that is this setup's, sorted: what each is, and its name.
async fn places(site: &Site) -> Vec<(String, String)> {
    let (admin, service) = (site.names.admin(), site.names.service());
    let sql = format!(
        "SELECT 'database', datname::text FROM pg_database WHERE datdba = '{admin}'::regrole \
           AND datname NOT IN ('{}', '{}') \
         UNION ALL SELECT 'role', roleid::regrole::text FROM pg_auth_members \
           WHERE member = '{service}'::regrole \
         UNION ALL SELECT 'schema', nspname::text FROM pg_namespace \
           WHERE nspowner = '{admin}'::regrole AND nspname <> 'tenantry' ORDER BY 1, 2",
        site.names.database(),
        site.names.template()
    );
    let rows = site.session().await.query(&sql, &[]).await.expect("names");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The same, each of which must have the form of a place with this prefix: how many there are of
/// databases, roles and schemas.
async fn count_places(site: &Site, prefix: &str) -> [usize; 3] {
    let places = places(site).await;
    for (what, name) in &places {
        let hash = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("ten_"));
        let hash = hash.unwrap_or_else(|| panic!("the {what} {name} has not the prefix {prefix}"));
        let is_hash = |c: char| c.is_ascii_lowercase() || ('2'..='7').contains(&c);
        assert!(hash.len() == 16 && hash.chars().all(is_hash), "{what} {name}");
    }
    ["database", "role", "schema"]
        .map(|what| places.iter().filter(|(found, _)| found == what).count())
}

/// A tenant with three records.
async fn made(node: &Node, name: &str, isolation: Isolation, location: Location) -> Scope<Admin> {
    let spec = TenantSpec {
        isolation: Some(isolation),
        location: Some(location),
        ..TenantSpec::new(tenant(name))
    };
    let made = node.store.create_tenant(&node.operator, &spec).await.expect("a tenant");
    let scope = node.scope(made.id);
    node.make(&scope, "c").await.expect("a collection");
    write(node, &scope, "c", 3).await.expect("written");
    scope
}

async fn count(node: &Node, id: TenantId) -> usize {
    let scope = node.scope(id);
    let collection = node.collection(&scope, "c").await.expect("a collection");
    node.store.count(&scope, &collection, &Selector::default()).await.expect("a count").value
}

async fn go(node: &Node, name: &str, isolation: Isolation, location: Location) {
    let to = MoveTarget { isolation: Some(isolation), location: Some(location) };
    node.store.start_move(&node.operator, &tenant(name), to).await.expect("a move");
    let status = async || {
        let status = node.store.move_status(&node.operator, &tenant(name)).await;
        status.expect("an answer").expect("a move")
    };
    until("the move", async || status().await.phase.is_over()).await;
    let status = status().await;
    assert_eq!(status.phase, MovePhase::Done, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_installations_on_one_server_have_their_own_prefixes() {
    let sites = [(site("shop_").await, "shop_"), (site("a_ten_").await, "a_ten_")];
    let mut nodes = Vec::new();
    for (site, text) in &sites {
        let node = Node::new(site.open_apart(Isolation::Schema).await).await;
        let mut tenants = Vec::new();
        for isolation in Isolation::ALL {
            tenants.push(made(&node, isolation.word(), isolation, Location::Home).await.tenant());
        }
        assert_eq!(count_places(site, text).await, [1, 2, 1]);
        // A node that comes later, and one that makes no places.
        let (second, plain) = (site.open_apart(Isolation::Schema).await, site.open().await);
        for (store, has) in [(second, 3), (plain, 5)] {
            let other = Node::new(store).await;
            for id in &tenants {
                assert_eq!(count(&other, *id).await, has);
                write(&other, &other.scope(*id), "c", 5).await.expect("written");
                assert_eq!(count(&node, *id).await, 5);
            }
            other.store.close();
        }
        nodes.push((node, tenants));
    }
    for ((site, text), (node, tenants)) in sites.iter().zip(&nodes) {
        let what = Setup {
            names: site.names.clone(),
            place_prefix: Some(prefix("other_")),
            reset_passwords: false,
        };
        let why = setup(&site.superuser, &what, &SystemEntropy).await.expect_err("refused");
        assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
        // Of the other installation's places none is seen.
        let done = migrate(&site.admin_url, |_| {}).await.expect("migrate");
        assert_eq!((done.places, done.changed), (2, 0));
        go(node, "schema", Isolation::Database, Location::Home).await;
        until("the schema is gone", async || count_places(site, text).await == [2, 2, 0]).await;
        for id in tenants {
            assert_eq!(count(node, *id).await, 5);
        }
        for isolation in Isolation::ALL {
            node.delete(isolation.word()).await.expect("deleted");
        }
        until("nothing is left", async || places(site).await.is_empty()).await;
        node.store.close();
    }
}

/// The names are where the places are: whoever works with a location's database alone, as migrations
/// do, knows them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_location_has_the_prefix_that_it_was_set_up_with() {
    let (home, there) = (Site::new().await, site("eu_").await);
    let open = async || {
        let config = locations::config(&home, &there, Isolation::Schema);
        Node::new(Store::open_postgres(config).await.expect("a store")).await
    };
    let node = open().await;
    let away = Location::Named(eu());
    let mut tenants = Vec::new();
    for (name, isolation, location) in [
        ("home", Isolation::Schema, Location::Home),
        ("schema", Isolation::Schema, away),
        ("database", Isolation::Database, away),
    ] {
        tenants.push(made(&node, name, isolation, location).await.tenant());
    }
    assert_eq!(count_places(&home, "").await, [0, 1, 1]);
    assert_eq!(count_places(&there, "eu_").await, [1, 2, 1]);
    assert_eq!(migrate(&there.admin_url, |_| {}).await.expect("migrate").places, 2);
    go(&node, "home", Isolation::Database, away).await;
    go(&node, "schema", Isolation::Database, Location::Home).await;
    until("it is moved", async || {
        count_places(&home, "").await == [1, 1, 0] && count_places(&there, "eu_").await == [2, 2, 0]
    })
    .await;
    node.store.close();
    let node = open().await;
    for id in tenants {
        assert_eq!(count(&node, id).await, 3);
    }
    for name in ["home", "schema", "database"] {
        node.delete(name).await.expect("deleted");
    }
    until("nothing is left", async || {
        places(&home).await.is_empty() && places(&there).await.is_empty()
    })
    .await;
    node.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_beside_files_has_its_prefix_too() {
    let (folder, there) = (tempfile::tempdir().expect("a folder"), site("disk_").await);
    let open = async || {
        let mut config = EmbeddedConfig::new(folder.path());
        let (url, admin_url) = (url(&there.url), Some(url(&there.admin_url)));
        config.databases.locations = vec![LocationConfig { name: eu(), url, admin_url }];
        // The folder is let go of by whoever works in it yet.
        let mut opened = Store::open_embedded(config.clone());
        for _ in 0..100 {
            if opened.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            opened = Store::open_embedded(config.clone());
        }
        let store = opened.expect("a store");
        store.open_locations().await.expect("its locations");
        Node::new(store).await
    };
    let node = open().await;
    let mut tenants = Vec::new();
    for isolation in [Isolation::Schema, Isolation::Database] {
        let made = made(&node, isolation.word(), isolation, Location::Named(eu())).await;
        tenants.push(made.tenant());
    }
    assert_eq!(count_places(&there, "disk_").await, [1, 2, 1]);
    node.store.close();
    drop(node);
    let node = open().await;
    for id in tenants {
        assert_eq!(count(&node, id).await, 3);
    }
    for isolation in [Isolation::Schema, Isolation::Database] {
        node.delete(isolation.word()).await.expect("deleted");
    }
    until("nothing is left", async || places(&there).await.is_empty()).await;
    node.store.close();
}
