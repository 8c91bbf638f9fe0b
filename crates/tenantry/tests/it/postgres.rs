//! The commands that prepare a PostgreSQL server.

use crate::program::{done, fails, run, tenantry};
use serde_json::Value;
use std::process;

fn superuser_url() -> String {
    std::env::var("TENANTRY_TEST_POSTGRES").expect(
        "TENANTRY_TEST_POSTGRES must hold the URL of a superuser of a PostgreSQL for tests: \
         `cargo xtask test` starts one, clients/postgres/server.py does it by hand",
    )
}

/// Removes what setup made, as a person would.
struct Installation {
    name: String,
}

impl Drop for Installation {
    fn drop(&mut self) {
        let name = &self.name;
        let sql = format!(
            "ALTER DATABASE {name}_template IS_TEMPLATE false|DROP DATABASE {name} WITH (FORCE)|\
             DROP DATABASE {name}_template|DROP ROLE {name}_service|DROP ROLE {name}_admin"
        );
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let url = superuser_url();
            let (client, connection) =
                tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            let work = tokio::spawn(connection);
            for statement in sql.split('|') {
                let _ = client.batch_execute(statement).await;
            }
            drop(client);
            let _ = work.await;
        });
    }
}

#[test]
fn a_server_is_set_up_once_and_migrated_at_any_time() {
    let installation = Installation { name: format!("c{}", process::id()) };
    let setup = |more: &[&str]| {
        let url = superuser_url();
        let start = ["postgres", "setup", "--superuser-url", &url, "--name", &installation.name];
        done(&[&start, more].concat())
    };
    let made: Value = serde_json::from_str(&setup(&["--json"])).unwrap();
    assert_eq!(made["has_passwords"], true);
    assert_eq!(made["version"], 1);
    let admin = made["database_admin_url"].as_str().unwrap();
    let again = setup(&[]);
    assert!(again.contains("--reset-passwords makes new ones"), "{again}");
    let told = done(&["postgres", "migrate", "--database-admin-url", admin]);
    assert_eq!(
        told,
        "tables have version 1: 0 of 0 schemas and databases of tenants were changed\n"
    );
    let json = done(&["postgres", "migrate", "--json", "--database-admin-url", admin]);
    assert_eq!(json, "{\"changed\":0,\"places\":0,\"version\":1}\n");
    // The admin is no superuser.
    let mut denied = tenantry(&["postgres", "setup"]);
    fails(denied.env("TENANTRY_SUPERUSER_URL", admin), &["needs the URL of a superuser"]);
}

#[test]
fn a_wrong_name_or_url_is_told_without_its_password() {
    let (code, _, err) = run(&["postgres", "setup", "--superuser-url", "x", "--name", "pg_a"]);
    assert!(code == 2 && err.contains("not with pg_ or ten_"), "{err}");
    let mut wrong = tenantry(&["postgres", "migrate"]);
    let wrong = wrong.env("TENANTRY_DATABASE_ADMIN_URL", "postgresql://me:geheim@127.0.0.1:1/d");
    fails(wrong, &["connect as me to the database d"]);
    let (_, _, err) = run(&["postgres", "migrate", "--database-admin-url", "pg:geheim"]);
    assert!(err.contains("not an URL of PostgreSQL") && !err.contains("geheim"), "{err}");
}
