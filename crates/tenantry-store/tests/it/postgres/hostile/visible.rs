//! What a session can see or infer of other tenants, because PostgreSQL shows it to all:
//!
//! - names `ten_…` of roles and databases on the server and of schemas in the same database, and
//!   so their number; they are keyed hashes of tenants' numbers;
//! - names and columns of tables, their sizes and numbers of rows, live and dead, and how much
//!   they are read and written: in `shared` of all tenants together, of each schema in the same
//!   database, but not of tables in other databases;
//! - of each database how many transactions, rows and bytes it read and wrote, and how many
//!   connections it has; its size only for the login that serves;
//! - in `shared`, from a plan's estimates, about how many rows the largest tenants have, by their
//!   numbers, and which numbers of collections and records are frequent; nothing of ids, keys and
//!   metadata;
//! - from `pg_locks` the numbers of tenants whose place is being made or removed right now;
//! - in `shared`, the texts of statements that are running, which hold no values.
//!
//! And what it can do to others, if nothing but the length of statements and transactions bounds
//! it: lock the tables that are shared, take any advisory lock, raise the installation's epoch,
//! and in `shared` end the node's other sessions.

use super::{
    DENIED,
    ground::{Ground, SECRET, Who, refused, say},
};

/// Neither errors nor plans show whether a row is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_tells_whether_another_tenant_has_a_row() {
    let ground = Ground::new().await;
    let client = ground.service(None).await;
    let [a, b] = &ground.shared;
    let who = Who { tenant: Some(a.number), role: None };
    let other = b.number;
    let key = format!("SELECT encode(key, 'hex') FROM tenantry.records WHERE tenant = {other}");
    let keys = say(&client, Who { tenant: Some(other), role: None }, &key).await.unwrap();
    let insert = |ordinal: i64, key: &str, or: &str| {
        format!(
            "INSERT INTO tenantry.records (tenant, collection, ordinal, key, id, body) \
             SELECT {other}, 1, {ordinal}, '\\x{key}', '', '' {or}"
        )
    };
    let nobodys = "00".repeat(16);
    for or in ["", "ON CONFLICT DO NOTHING", "ON CONFLICT ON CONSTRAINT records_key DO NOTHING"] {
        // Both keys of a row that is there, and of one that nobody has.
        let there = say(&client, who, &insert(1, &keys[0], or)).await.unwrap_err();
        let absent = say(&client, who, &insert(777, &nobodys, or)).await.unwrap_err();
        assert_eq!(there, absent, "{or}");
        assert_eq!(there.0, "42501");
    }
    let sql = format!(
        "INSERT INTO tenantry.records SELECT {other}, 7, n, decode(md5(n::text), 'hex'), \
         convert_to('{SECRET}' || n % 3, 'UTF8'), '{{\"k\": \"{SECRET}\"}}', '' \
         FROM generate_series(1, 3000) n; \
         INSERT INTO tenantry.catalog SELECT {other}, 3, convert_to('{SECRET}', 'UTF8'), ''; \
         ANALYZE tenantry.records; ANALYZE tenantry.catalog; ANALYZE tenantry.vectors"
    );
    ground.site.run(&sql).await;
    let md5 = "c4ca4238a0b923820dcc509a6f75849b";
    for (table, column, theirs, nobodys) in [
        ("records", "key", format!("'\\x{md5}'"), format!("'\\x{nobodys}'")),
        ("records", "id", format!("'{SECRET}1'"), "'nobody1'".to_owned()),
        ("records", "fields", format!("'{{\"k\": \"{SECRET}\"}}'"), "'{\"k\": \"x\"}'".to_owned()),
        ("catalog", "key", format!("'{SECRET}'"), "'nobody'".to_owned()),
        ("catalog", "row", format!("'{SECRET}'"), "'nobody'".to_owned()),
    ] {
        for test in ["=", "<", ">"] {
            let plan = async |value: &str| {
                let sql = format!(
                    "EXPLAIN (FORMAT JSON) SELECT FROM tenantry.{table} WHERE {column} {test} {value}"
                );
                let said = say(&client, who, &sql).await.unwrap().join("\n");
                estimates(&said)
            };
            assert_eq!(plan(&theirs).await, plan(&nobodys).await, "{table}.{column} {test}");
        }
    }
    // How many rows a tenant has does show if they are many: without that no plan would fit.
    let sql = format!("EXPLAIN (FORMAT JSON) SELECT FROM tenantry.records WHERE tenant = {other}");
    let plan = say(&client, who, &sql).await.unwrap().join("\n");
    let lines = estimates(&plan);
    let rows = lines.iter().filter_map(|line| {
        line.strip_prefix("\"Plan Rows\": ")?.trim_end_matches(',').parse::<u32>().ok()
    });
    assert_eq!(rows.max(), Some(3_002));
}

/// The lines of a plan that say costs and numbers.
fn estimates(plan: &str) -> Vec<String> {
    let is_number = |line: &&str| line.contains("Cost\"") || line.contains("Plan ");
    plan.lines().filter(is_number).map(|line| line.trim().to_owned()).collect()
}

/// See the module: the list there is this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_everybody_sees() {
    let ground = Ground::new().await;
    let root = ground.service(None).await;
    let own = ground.service(Some(&ground.database[0].place)).await;
    let (schema, database) = (&ground.schema, &ground.database);
    ground
        .site
        .run(&format!("ANALYZE {}.records; ANALYZE tenantry.records", schema[1].place))
        .await;
    let all_places: Vec<_> =
        schema.iter().chain(database).map(|tenant| tenant.place.as_str()).collect();
    let list = all_places.iter().map(|place| format!("'{place}'")).collect::<Vec<_>>().join(",");
    let in_root = Who { tenant: None, role: Some(schema[0].place.as_str()) };
    let in_own = Who { tenant: None, role: Some(database[0].place.as_str()) };
    let shared = Who { tenant: Some(ground.shared[0].number), role: None };
    let other = &schema[1].place;
    let tables = format!("FROM pg_class WHERE relnamespace = '{other}'::regnamespace");
    for (client, who, sql, expected) in [
        // Names.
        (&root, in_root, format!("SELECT count(*) FROM pg_roles WHERE rolname IN ({list})"), "4"),
        (&own, in_own, format!("SELECT count(*) FROM pg_roles WHERE rolname IN ({list})"), "4"),
        (&root, in_root, format!("SELECT count(*) FROM pg_database WHERE datname IN ({list})"), "2"),
        (&own, in_own, format!("SELECT count(*) FROM pg_database WHERE datname IN ({list})"), "2"),
        (&root, in_root, format!("SELECT count(*) FROM pg_namespace WHERE nspname IN ({list})"), "2"),
        (&own, in_own, format!("SELECT count(*) FROM pg_namespace WHERE nspname IN ({list})"), "1"),
        (&root, in_root, format!("SELECT count(*) {tables} AND relkind = 'r'"), "3"),
        // Numbers of rows and sizes.
        (&root, in_root, format!("SELECT reltuples {tables} AND relname = 'records'"), "2"),
        (&root, in_root, format!("SELECT n_live_tup FROM pg_stat_all_tables WHERE schemaname = '{other}' AND relname = 'records'"), "2"),
        (&root, in_root, format!("SELECT pg_relation_size(oid) > 0 {tables} AND relname = 'records'"), "t"),
        (&root, shared, "SELECT reltuples FROM pg_class WHERE oid = 'tenantry.records'::regclass".to_owned(), "4"),
        (&own, in_own, "SELECT count(DISTINCT schemaname) FROM pg_stat_all_tables WHERE schemaname ~ '^ten_'".to_owned(), "1"),
        (&own, in_own, format!("SELECT xact_commit >= 0 FROM pg_stat_database WHERE datname = '{}'", database[1].place), "t"),
        (&root, shared, format!("SELECT pg_database_size('{}') > 0", database[1].place), "t"),
        // Statements of others, without values.
        (&root, in_root, "SELECT count(*) FROM pg_stat_activity WHERE usename = session_user AND query <> '<insufficient privilege>'".to_owned(), "0"),
        (&root, shared, format!("SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query ~ '{SECRET}'"), "0"),
        // Nobody says anything there.
        (&root, shared, "LISTEN x; SELECT count(*) FROM pg_listening_channels()".to_owned(), "0"),
    ] {
        let said = say(client, who, &sql).await.unwrap_or_else(|why| panic!("{sql}: {why:?}"));
        assert_eq!(said, [expected], "{who:?}: {sql}");
    }
    let size = format!("SELECT pg_database_size('{}')", database[1].place);
    refused(&root, in_root, DENIED, &[&size]).await;
    refused(&own, in_own, DENIED, &[&size]).await;
}

/// See the module: what disturbs others and shows nothing of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_held_up() {
    let ground = Ground::new().await;
    let root = ground.service(None).await;
    let shared = Who { tenant: Some(ground.shared[0].number), role: None };
    let apart = Who { tenant: None, role: Some(ground.schema[0].place.as_str()) };
    let other = ground.service(None).await;
    let number = ground.schema[1].number;
    // As whoever makes or removes a place does.
    other.batch_execute(&format!("SELECT pg_advisory_lock({number})")).await.unwrap();
    let seen =
        format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {number}");
    let end = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE usename = session_user AND application_name = 'nobody') ended";
    let locked = "LOCK TABLE tenantry.records IN ACCESS EXCLUSIVE MODE; SELECT 1";
    let epoch = "UPDATE tenantry.installation SET epoch = epoch + 1 RETURNING 1";
    for (who, sql, expected) in [
        (apart, seen.as_str(), "1"),
        (apart, "SELECT pg_try_advisory_xact_lock(1)", "t"),
        (shared, "SELECT pg_try_advisory_xact_lock(1)", "t"),
        (shared, locked, "1"),
        (shared, epoch, "1"),
        (shared, end, "0"),
    ] {
        let said = say(&root, who, sql).await.unwrap_or_else(|why| panic!("{sql}: {why:?}"));
        assert_eq!(said, [expected], "{who:?}: {sql}");
    }
    refused(&root, apart, DENIED, &[locked, epoch]).await;
}
