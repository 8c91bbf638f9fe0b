//! The commands that prepare a PostgreSQL server.

use crate::{
    installation::{Installation, superuser_url},
    program::{done, fails, run, tenantry},
};

#[test]
fn a_server_is_set_up_once_and_migrated_at_any_time() {
    let installation = Installation::new();
    let admin = installation.admin_url.as_str();
    let again = installation.setup(&[]);
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
fn the_prefix_of_places_is_shown_and_not_changed() {
    let plain = Installation::new();
    assert!(!plain.setup(&[]).contains("place_prefix"));
    let mut late = tenantry(&["postgres", "setup", "--name", &plain.name]);
    late.env("TENANTRY_SUPERUSER_URL", superuser_url());
    fails(late.env("TENANTRY_PLACE_PREFIX", "shop_"), &["no prefix", "cannot be changed"]);
    for (wrong, says) in [("shop", "must end with _"), ("pg_x_", "not with pg_"), ("", "2 to 24")] {
        let (code, _, err) = run(&["postgres", "setup", "--place-prefix", wrong]);
        assert!(code == 2 && err.contains(says), "{wrong}: {err}");
    }
}

#[test]
fn a_command_without_its_url_says_which_variable_has_it() {
    for (command, variable) in [
        ("setup", "TENANTRY_SUPERUSER_URL"),
        ("migrate", "TENANTRY_DATABASE_ADMIN_URL"),
        ("adopt", "TENANTRY_DATABASE_ADMIN_URL"),
    ] {
        fails(&mut tenantry(&["postgres", command]), &[variable, "-url URL"]);
    }
}

#[test]
fn a_wrong_name_or_url_is_told_without_its_password() {
    let (code, _, err) = run(&["postgres", "setup", "--superuser-url", "x", "--name", "pg_a"]);
    assert!(code == 2 && err.contains("not with pg_ or ten_"), "{err}");
    let mut wrong = tenantry(&["postgres", "migrate"]);
    let wrong = wrong.env("TENANTRY_DATABASE_ADMIN_URL", "postgresql://me:geheim@127.0.0.1:1/d");
    fails(wrong, &["cannot reach the database 127.0.0.1:1/d", "refused"]);
    let (_, _, err) = run(&["postgres", "migrate", "--database-admin-url", "pg:geheim"]);
    assert!(err.contains("not understood") && !err.contains("geheim"), "{err}");
}
