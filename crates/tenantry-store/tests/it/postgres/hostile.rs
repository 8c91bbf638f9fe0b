//! Isolation on the server itself: SQL of every kind, with the rights that a tenant's statements
//! run with. The program sends none of it; were some smuggled in, this is what holds.
//!
//! Rights are three: the login that serves with `tenantry.tenant` set (`shared`), the same login
//! after `SET ROLE` of a tenant's role (`schema`, `database`), and a tenant's role that somebody
//! let log in. Who may send any statement as the login that serves can set another tenant or take
//! another tenant's role, also within one statement, by `set_config`: what is checked here is that
//! no statement reaches further than what is set.
//!
//! What the server shows to all is listed in [`visible`].

mod ground;
mod visible;

use ground::{Ground, SECRET, TABLES, Who, copied, refused, say};
use tokio_postgres::{NoTls, error::SqlState};

/// Without the right.
const DENIED: &[&str] = &["42501"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_tenant_set_no_statement_reaches_another() {
    let ground = Ground::new().await;
    let client = ground.service(None).await;
    let [a, b] = &ground.shared;
    let who = Who { tenant: Some(a.number), role: None };
    let (own, other) = (a.number, b.number);
    let number = async |sql: &str| -> i64 {
        let said = say(&client, who, sql).await.unwrap_or_else(|why| panic!("{sql}: {why:?}"));
        said[0].parse().unwrap()
    };
    for table in TABLES {
        let all = format!("SELECT count(*) FROM tenantry.{table} WHERE tenant");
        assert!(number(&format!("{all} = {own}")).await > 0, "{table}");
        for what in [
            format!("{all} <> {own}"),
            format!("{all} = {other}"),
            format!("{all} = 0"),
            format!("SELECT count(*) FROM tenantry.{table} t WHERE t::text LIKE '%{SECRET}%'"),
            format!(
                "SELECT count(*) FROM (SELECT * FROM tenantry.{table} WHERE tenant <> {own} \
                 FOR UPDATE) t"
            ),
            format!(
                "WITH x AS (UPDATE tenantry.{table} SET tenant = {own} WHERE tenant <> {own} \
                 RETURNING 1) SELECT count(*) FROM x"
            ),
            format!(
                "WITH x AS (DELETE FROM tenantry.{table} WHERE tenant <> {own} RETURNING 1) \
                 SELECT count(*) FROM x"
            ),
            format!(
                "WITH x AS (MERGE INTO tenantry.{table} t USING (VALUES ({other}::bigint)) v (n) \
                 ON t.tenant = v.n WHEN MATCHED THEN DELETE RETURNING 1) SELECT count(*) FROM x"
            ),
            format!(
                "SELECT count(*) FROM ts_stat('SELECT to_tsvector(''simple'', tenant::text) \
                 FROM tenantry.{table} WHERE tenant <> {own}')"
            ),
        ] {
            assert_eq!(number(&what).await, 0, "{what}");
        }
        // Row-level security is neither switched off nor left out.
        refused(
            &client,
            who,
            DENIED,
            &[
                &format!("SET LOCAL row_security = off; SELECT count(*) FROM tenantry.{table}"),
                &format!("TRUNCATE tenantry.{table}"),
                &format!("UPDATE tenantry.{table} SET tenant = {other}"),
                &format!("ALTER TABLE tenantry.{table} DISABLE ROW LEVEL SECURITY"),
                &format!("DROP POLICY own ON tenantry.{table}"),
                &format!("DROP TABLE tenantry.{table}"),
                &format!("CREATE INDEX ON tenantry.{table} (tenant)"),
                &format!("COMMENT ON TABLE tenantry.{table} IS 'x'"),
                &format!("ANALYZE tenantry.{table}; SELECT * FROM pg_statistic"),
                &format!("GRANT SELECT ON tenantry.{table} TO PUBLIC; SELECT * FROM pg_authid"),
            ],
        )
        .await;
        let none = format!("SELECT count(*) FROM pg_stats WHERE tablename = '{table}'");
        assert_eq!(number(&none).await, 0, "statistics hold values");
        let copied = copied(&client, who, &format!("COPY tenantry.{table} TO STDOUT")).await;
        assert_eq!(copied.len(), usize::try_from(number(&format!("{all} = {own}")).await).unwrap());
        assert!(copied.iter().all(|line| line.starts_with(&format!("{own}\t"))), "{table}");
    }
    // A condition that fails on another's row is not evaluated on it.
    let cast = "SELECT count(*) FROM tenantry.records WHERE encode(id, 'escape')::bigint > 0";
    assert_eq!(number(cast).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_tenant_every_statement_on_shared_rows_fails() {
    let ground = Ground::new().await;
    // In a session that never had a tenant, and in one whose transaction had one.
    let (fresh, used) = (ground.service(None).await, ground.service(None).await);
    let own = Who { tenant: Some(ground.shared[0].number), role: None };
    say(&used, own, "SELECT FROM tenantry.records").await.unwrap();
    for client in [&fresh, &used] {
        for table in TABLES {
            let statements = [
                format!("SELECT count(*) FROM tenantry.{table}"),
                format!("SELECT FROM tenantry.{table} FOR UPDATE"),
                format!("COPY tenantry.{table} TO STDOUT"),
                format!("DELETE FROM tenantry.{table}"),
                format!("UPDATE tenantry.{table} SET tenant = tenant"),
                format!(
                    "MERGE INTO tenantry.{table} t USING (VALUES (1)) v (n) ON true \
                     WHEN MATCHED THEN DELETE"
                ),
            ];
            let statements: Vec<_> = statements.iter().map(String::as_str).collect();
            // The setting is unknown, or empty.
            refused(client, Who::default(), &["42704", "22P02"], &statements).await;
        }
        let insert = "INSERT INTO tenantry.catalog VALUES (1, 1, '', '')";
        refused(client, Who::default(), &["42704", "22P02"], &[insert]).await;
    }
}

/// Statements on the tables of a schema.
fn on_tables(schema: &str) -> Vec<String> {
    let of = |table: &str| {
        [
            format!("SELECT count(*) FROM {schema}.{table}"),
            format!("EXPLAIN SELECT FROM {schema}.{table}"),
            format!("INSERT INTO {schema}.{table} DEFAULT VALUES"),
            format!("UPDATE {schema}.{table} SET tenant = 1"),
            format!("DELETE FROM {schema}.{table}"),
            format!(
                "MERGE INTO {schema}.{table} USING (VALUES (1)) v ON true WHEN MATCHED THEN DELETE"
            ),
            format!("COPY {schema}.{table} TO STDOUT"),
            format!("COPY {schema}.{table} FROM STDIN"),
            format!("TRUNCATE {schema}.{table}"),
            format!("LOCK TABLE {schema}.{table} IN ACCESS SHARE MODE"),
            format!("SELECT pg_relation_size('{schema}.{table}')"),
            format!("SELECT query_to_xml('SELECT * FROM {schema}.{table}', true, false, '')"),
            format!("SELECT * FROM ts_stat('SELECT * FROM {schema}.{table}')"),
            format!("DO $$ BEGIN PERFORM 1 FROM {schema}.{table}; END $$"),
            format!("DECLARE c CURSOR FOR SELECT * FROM {schema}.{table}"),
            format!("PREPARE p AS SELECT * FROM {schema}.{table}"),
            format!("DROP TABLE {schema}.{table}"),
            format!("COMMENT ON TABLE {schema}.{table} IS 'x'"),
        ]
    };
    TABLES.iter().flat_map(|table| of(table)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_role_reaches_no_other_schema() {
    let ground = Ground::new().await;
    for ([a, b], database) in
        [(&ground.schema, None), (&ground.database, Some(&ground.database[0].place))]
    {
        let client = ground.service(database.map(String::as_str)).await;
        let others = on_tables(&b.place).into_iter().chain(on_tables("tenantry"));
        let others: Vec<_> = others.collect();
        let others: Vec<_> = others.iter().map(String::as_str).collect();
        // In another database there is nothing that could be refused.
        let codes: &[&str] = if database.is_some() { &["42P01", "3F000"] } else { DENIED };
        for tenant in [None, Some(a.number), Some(b.number)] {
            let who = Who { tenant, role: Some(a.place.as_str()) };
            refused(&client, who, codes, &others).await;
            let own = format!("SELECT count(*) FROM {}.records", a.place);
            assert_eq!(say(&client, who, &own).await.unwrap(), ["2"]);
            let all = "SELECT count(*) FROM pg_stats WHERE schemaname ~ '^ten' \
                       AND schemaname <> current_user";
            assert_eq!(say(&client, who, all).await.unwrap(), ["0"]);
        }
        // The login that serves reaches none of them before it takes a role.
        let own: Vec<_> = on_tables(&a.place);
        let own: Vec<_> = own.iter().map(String::as_str).collect();
        refused(&client, Who::default(), DENIED, &own).await;
    }
}

/// A tenant's role on its own, as if somebody had let it log in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_role_becomes_nobody_else() {
    let ground = Ground::new().await;
    let (site, [a, b]) = (&ground.site, &ground.schema);
    let database = site.names.database();
    let mut config: tokio_postgres::Config = site.url.parse().unwrap();
    config.user(&a.place).password("x");
    site.run(&format!("ALTER ROLE {} LOGIN PASSWORD 'x'", a.place)).await;
    let refusal = config.connect(NoTls).await.map(drop).unwrap_err();
    assert_eq!(refusal.code().map(SqlState::code), Some("42501"), "it may not enter");
    site.run(&format!("GRANT CONNECT ON DATABASE {database} TO {}", a.place)).await;
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let (service, admin) = (site.names.service(), site.names.admin());
    let mut statements = on_tables(&b.place);
    statements.extend(on_tables("tenantry"));
    for role in [b.place.as_str(), &service, &admin, "postgres", "pg_read_all_data"] {
        statements.push(format!("SET ROLE {role}"));
        statements.push(format!("SET SESSION AUTHORIZATION {role}"));
        statements.push(format!("GRANT {role} TO {}", a.place));
    }
    statements.push(format!("GRANT {} TO {}", a.place, b.place));
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    refused(&client, Who::default(), DENIED, &statements).await;
    let reset = format!(
        "RESET ROLE; RESET SESSION AUTHORIZATION; SELECT count(*) FROM {}.records",
        a.place
    );
    assert_eq!(say(&client, Who::default(), &reset).await.unwrap(), ["2"]);
    // Other databases stay closed.
    for other in [&ground.database[0].place, &ground.database[1].place] {
        let refusal = config.dbname(other).connect(NoTls).await.map(drop).unwrap_err();
        assert_eq!(refusal.code().map(SqlState::code), Some("42501"), "{other}");
    }
    // What serves refuses such a role, and the login that serves takes any tenant's.
    let client = ground.service(None).await;
    let first = Who { tenant: None, role: Some(a.place.as_str()) };
    let second = format!("SET ROLE {}; SELECT count(*) FROM {0}.records", b.place);
    assert_eq!(say(&client, first, &second).await.unwrap(), ["2"]);
    refused(&client, first, DENIED, &[&format!("SET SESSION AUTHORIZATION {}", b.place)]).await;
}

/// What would last, reach the machine, or disturb others.
const MAKING: &[&str] = &[
    "CREATE TABLE t ()",
    "CREATE TABLE tenantry_ext.t ()",
    "CREATE TEMP TABLE t ()",
    "CREATE TEMP VIEW v AS SELECT 1",
    "SELECT 1 INTO TEMP t",
    "CREATE SCHEMA s",
    "CREATE FUNCTION tenantry_ext.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OPERATOR tenantry_ext.=== (FUNCTION = int8eq, LEFTARG = int8, RIGHTARG = int8)",
    "CREATE TYPE tenantry_ext.t AS (a int)",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION postgres_fdw",
    "CREATE EXTENSION pg_trgm",
    "CREATE PUBLICATION p",
    "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION f()",
    "CREATE ROLE r",
    "CREATE LANGUAGE plperl",
    "DROP EXTENSION vector",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT pg_read_file('/etc/hostname')",
    "SELECT pg_read_binary_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_ls_waldir()",
    "SELECT pg_stat_file('.')",
    "COPY (SELECT 1) TO '/x'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_statistic",
    "SELECT * FROM pg_largeobject",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_user_mapping",
    "SELECT pg_stat_reset()",
    "SELECT pg_switch_wal()",
    "SELECT pg_reload_conf()",
    "SELECT pg_promote()",
    "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    "SET session_replication_role = replica",
    "SET log_statement = 'none'",
    "ALTER ROLE CURRENT_USER LOGIN SUPERUSER",
];

/// The same of what no transaction may hold.
const OUTSIDE: &[&str] =
    &["ALTER SYSTEM SET fsync = off", "CREATE DATABASE d", "CREATE TABLESPACE s LOCATION '/s'"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_can_be_made_or_disturbed() {
    let ground = Ground::new().await;
    let (root, own) =
        (ground.service(None).await, ground.service(Some(&ground.database[0].place)).await);
    let rights = [
        (&root, Who { tenant: Some(ground.shared[0].number), role: None }),
        (&root, Who { tenant: None, role: Some(ground.schema[0].place.as_str()) }),
        (&own, Who { tenant: None, role: Some(ground.database[0].place.as_str()) }),
    ];
    // Not allowed, no schema where it could be, or not installed.
    let codes = ["42501", "3F000", "42883", "0A000", "58P01"];
    for (client, who) in rights {
        for sql in OUTSIDE {
            let why = client.simple_query(sql).await.unwrap_err();
            assert_eq!(why.code().map(SqlState::code), Some("42501"), "{sql}");
        }
        refused(client, who, &codes, MAKING).await;
        let Some(role) = who.role else { continue };
        let statements = [
            format!("CREATE TABLE {role}.t ()"),
            format!("CREATE FUNCTION {role}.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
            format!(
                "CREATE TRIGGER t AFTER INSERT ON {role}.records EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            ),
            format!("ALTER TABLE {role}.records ADD a int"),
            format!("DROP SCHEMA {role} CASCADE"),
            format!("GRANT USAGE ON SCHEMA {role} TO PUBLIC; TRUNCATE {role}.records"),
            // Sessions are the login's, whose rights a tenant's role does not have.
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = session_user"
                .to_owned(),
            format!("ALTER ROLE {} SET row_security = off", ground.site.names.service()),
        ];
        let statements: Vec<_> = statements.iter().map(String::as_str).collect();
        refused(client, who, &codes, &statements).await;
    }
}
