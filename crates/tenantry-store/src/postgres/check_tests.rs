use super::{
    super::{
        admin::{connect, with_database},
        place::{make_database, make_schema},
        stand::{Stand, way},
    },
    *,
};
use tenantry_auth::TenantId;
use tenantry_types::ErrorKind;

/// Does something to an installation as a superuser, sees what the check says, and undoes it.
/// `$me`, `$admin`, `$db`, `$ten` stand for the names.
async fn refused(stand: &Stand, url: &str, cases: &[(&str, &str, &str)]) {
    let superuser = stand.superuser(stand.names.database()).await;
    let fill = |text: &str| {
        text.replace("$me", &stand.names.service())
            .replace("$admin", &stand.names.admin())
            .replace("$db", stand.names.database())
            .replace("$ten", stand.place(7).as_str())
    };
    for (spoil, says, mend) in cases {
        superuser.batch_execute(&fill(spoil)).await.unwrap();
        let error = check_root(&connect(url).await.unwrap()).await.expect_err(spoil);
        assert_eq!(error.kind(), ErrorKind::Internal, "callers must not see it");
        let text = error.to_string();
        assert!(text.contains(&fill(says)), "{spoil}: {text}");
        superuser.batch_execute(&fill(mend)).await.unwrap();
    }
    check_root(&connect(url).await.unwrap()).await.expect("everything was undone");
}

macro_rules! refusals {
    ($($name:ident: $cases:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            Stand::with(async |stand| {
                let made = stand.set_up().await;
                let mut admin = connect(&made.database_admin_url).await.unwrap();
                let place = stand.place(7);
                make_schema(&mut admin, &stand.names, &place, (TenantId::new(7), async || Ok(()))).await.unwrap();
                refused(&stand, &made.database_url, &$cases).await;
            })
            .await;
        }
    )*};
}

refusals! {
    a_role_with_rights_of_its_own_is_refused: [
        ("ALTER ROLE $me SUPERUSER", "$me is SUPERUSER", "ALTER ROLE $me NOSUPERUSER"),
        ("ALTER ROLE $me BYPASSRLS", "$me is BYPASSRLS", "ALTER ROLE $me NOBYPASSRLS"),
        ("ALTER ROLE $me CREATEROLE", "$me is CREATEROLE", "ALTER ROLE $me NOCREATEROLE"),
        ("ALTER ROLE $me CREATEDB", "$me is CREATEDB", "ALTER ROLE $me NOCREATEDB"),
        ("ALTER ROLE $me REPLICATION", "$me is REPLICATION", "ALTER ROLE $me NOREPLICATION"),
        ("ALTER ROLE $me INHERIT", "$me is INHERIT", "ALTER ROLE $me NOINHERIT"),
    ];
    memberships_that_give_more_than_a_role_to_set_are_refused: [
        ("GRANT pg_read_all_data TO $me", "member of pg_read_all_data: REVOKE",
         "REVOKE pg_read_all_data FROM $me"),
        ("GRANT $ten TO $me WITH INHERIT TRUE GRANTED BY $admin", "WITH INHERIT FALSE",
         "GRANT $ten TO $me WITH INHERIT FALSE GRANTED BY $admin"),
        ("GRANT $ten TO $me WITH ADMIN TRUE GRANTED BY $admin", "REVOKE ADMIN OPTION FOR $ten",
         "REVOKE ADMIN OPTION FOR $ten FROM $me GRANTED BY $admin"),
        ("ALTER ROLE $ten BYPASSRLS", "$ten has rights of its own", "ALTER ROLE $ten NOBYPASSRLS"),
        ("ALTER ROLE $ten LOGIN", "$ten has rights of its own", "ALTER ROLE $ten NOLOGIN"),
        ("GRANT pg_monitor TO $ten", "$ten is a member of another", "REVOKE pg_monitor FROM $ten"),
    ];
    an_owner_and_rights_to_make_or_use_what_is_not_its_own_are_refused: [
        ("CREATE SCHEMA a AUTHORIZATION $ten; CREATE TABLE a.a (); ALTER TABLE a.a OWNER TO $me",
         "owns table a.a", "DROP SCHEMA a CASCADE"),
        ("ALTER TABLE tenantry.records OWNER TO $ten", "become the owner of the table records",
         "ALTER TABLE tenantry.records OWNER TO $admin; \
          GRANT SELECT, INSERT, UPDATE, DELETE ON tenantry.records TO $me"),
        ("GRANT CREATE ON SCHEMA tenantry TO $me", "make things in the schema tenantry",
         "REVOKE CREATE ON SCHEMA tenantry FROM $me"),
        ("CREATE SCHEMA a; GRANT CREATE ON SCHEMA a TO PUBLIC", "make things in the schema a",
         "DROP SCHEMA a"),
        ("GRANT TEMP ON DATABASE $db TO $me", "the right TEMPORARY in the database $db",
         "REVOKE TEMP ON DATABASE $db FROM $me"),
        ("GRANT CREATE ON DATABASE $db TO $me", "the right CREATE in the database $db",
         "REVOKE CREATE ON DATABASE $db FROM $me"),
        ("GRANT USAGE ON SCHEMA $ten TO $me", "use the tenant's schema $ten without its role",
         "REVOKE USAGE ON SCHEMA $ten FROM $me"),
        ("GRANT CONNECT ON DATABASE $db TO PUBLIC", "$db is open to the public",
         "REVOKE CONNECT ON DATABASE $db FROM PUBLIC"),
        ("GRANT TRUNCATE ON tenantry.vectors TO $me", "TRUNCATE on the table tenantry.vectors",
         "REVOKE TRUNCATE ON tenantry.vectors FROM $me"),
        ("GRANT REFERENCES ON tenantry.records TO PUBLIC", "REFERENCES on the table",
         "REVOKE REFERENCES ON tenantry.records FROM PUBLIC"),
        ("GRANT TRIGGER ON tenantry.catalog TO $me", "TRIGGER on the table",
         "REVOKE TRIGGER ON tenantry.catalog FROM $me"),
    ];
    tables_without_the_wall_are_refused: [
        ("ALTER TABLE tenantry.records DISABLE ROW LEVEL SECURITY",
         "records in the schema tenantry has no forced",
         "ALTER TABLE tenantry.records ENABLE ROW LEVEL SECURITY"),
        ("ALTER TABLE tenantry.vectors NO FORCE ROW LEVEL SECURITY",
         "vectors in the schema tenantry has no forced",
         "ALTER TABLE tenantry.vectors FORCE ROW LEVEL SECURITY"),
        ("CREATE VIEW tenantry.all AS SELECT * FROM tenantry.records",
         "\"all\" in the schema tenantry has no forced", "DROP VIEW tenantry.all"),
        ("CREATE POLICY more ON tenantry.records USING (true)", "tenantry.records has other policies",
         "DROP POLICY more ON tenantry.records"),
        ("ALTER POLICY own ON tenantry.catalog WITH CHECK (true)",
         "tenantry.catalog has other policies",
         "ALTER POLICY own ON tenantry.catalog \
          WITH CHECK (tenant = current_setting('tenantry.tenant')::bigint)"),
        ("ALTER POLICY own ON tenantry.vectors TO $me", "tenantry.vectors has other policies",
         "ALTER POLICY own ON tenantry.vectors TO PUBLIC"),
        ("ALTER TABLE tenantry.vectors RENAME TO other", "the table vectors is missing",
         "ALTER TABLE tenantry.other RENAME TO vectors"),
    ];
    settings_and_versions_that_do_not_fit_are_refused: [
        ("ALTER ROLE $me SET row_security = off", "row_security is off",
         "ALTER ROLE $me RESET row_security"),
        ("ALTER ROLE $me SET synchronous_commit = off", "synchronous_commit is off",
         "ALTER ROLE $me RESET synchronous_commit"),
        ("ALTER ROLE $me SET idle_in_transaction_session_timeout = 0",
         "idle_in_transaction_session_timeout is missing",
         "ALTER ROLE $me SET idle_in_transaction_session_timeout = '10s'"),
        ("UPDATE tenantry.installation SET version = 0", "run `tenantry postgres migrate`",
         "UPDATE tenantry.installation SET version = 1"),
        ("UPDATE tenantry.installation SET version = 2", "use a newer program",
         "UPDATE tenantry.installation SET version = 1"),
        ("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'",
         "pgvector 0.8 or newer",
         "UPDATE pg_extension SET extversion = '0.8.0' WHERE extname = 'vector'"),
        ("UPDATE pg_database SET encoding = 0 WHERE datname = '$db'", "instead of UTF8",
         "UPDATE pg_database SET encoding = 6 WHERE datname = '$db'"),
    ];
}

#[test]
fn servers_and_extensions_are_judged_by_what_they_say() {
    let seen = |server_number, pgvector: Option<&str>| Seen {
        role: "r".into(),
        database: "d".into(),
        server_number,
        server_version: "x".into(),
        pgvector: pgvector.map(str::to_owned),
    };
    assert_eq!(seen(180_004, Some("0.8.0")).problem(), None);
    for (server, pgvector, says) in [
        (150_020, Some("0.8.0"), "PostgreSQL 16"),
        (170_005, Some("0.8.0"), "known holes"),
        (180_004, Some("0.7.4"), "pgvector 0.8"),
        (180_004, None, "pgvector is not in it"),
    ] {
        let why = seen(server, pgvector).problem().unwrap();
        assert!(why.contains(says), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_own_database_is_looked_at_too() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let place = stand.place(7);
        let tenant = TenantId::new(7);
        make_database(
            &way(&made.database_admin_url),
            &stand.names,
            &place,
            (tenant, async || Ok(())),
        )
        .await
        .unwrap();
        let service = with_database(&made.database_url, place.as_str()).unwrap();
        let service = connect(&service).await.unwrap();
        check_own(&service, &stand.prefix).await.unwrap();
        let superuser = stand.superuser(place.as_str()).await;
        superuser
            .batch_execute(&format!("GRANT CONNECT ON DATABASE {place} TO PUBLIC"))
            .await
            .unwrap();
        let error = check_own(&service, &stand.prefix).await.unwrap_err();
        assert!(error.to_string().contains("open to the public"), "{error}");
        superuser
            .batch_execute(&format!("REVOKE CONNECT ON DATABASE {place} FROM PUBLIC"))
            .await
            .unwrap();
        superuser.batch_execute("DROP EXTENSION vector CASCADE").await.unwrap();
        let error = check_own(&service, &stand.prefix).await.unwrap_err();
        assert!(error.to_string().contains("pgvector is not in it"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_called_like_a_place_of_another_prefix_is_no_place() {
    Stand::with(async |plain| {
        let stand = Stand { prefix: PlacePrefix::parse("shop_").unwrap(), ..plain.clone() };
        let made = stand.set_up().await;
        let mut admin = connect(&made.database_admin_url).await.unwrap();
        let whose = (TenantId::new(7), async || Ok(()));
        make_schema(&mut admin, &stand.names, &stand.place(7), whose).await.unwrap();
        let service = connect(&made.database_url).await.unwrap();
        assert_eq!(check_root(&service).await.unwrap(), stand.prefix);
        check_own(&service, &stand.prefix).await.unwrap();
        let why = check_own(&service, &plain.prefix).await.unwrap_err();
        assert!(why.to_string().contains(&format!("member of {}", stand.place(7))), "{why}");
        let whose = (TenantId::new(8), async || Ok(()));
        make_schema(&mut admin, &plain.names, &plain.place(8), whose).await.unwrap();
        let why = check_root(&service).await.unwrap_err();
        assert!(why.to_string().contains(&format!("member of {}", plain.place(8))), "{why}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_not_known_what_places_are_called_nothing_is_served() {
    Stand::with(async |plain| {
        let stand = Stand { prefix: PlacePrefix::parse("shop_").unwrap(), ..plain };
        let made = stand.set_up().await;
        let mut admin = connect(&made.database_admin_url).await.unwrap();
        let whose = (TenantId::new(7), async || Ok(()));
        make_schema(&mut admin, &stand.names, &stand.place(7), whose).await.unwrap();
        let superuser = stand.superuser(stand.names.database()).await;
        let service = connect(&made.database_url).await.unwrap();
        for (spoil, says) in [
            ("UPDATE tenantry.installation SET place_prefix = 'x''; --'", "the prefix"),
            ("ALTER TABLE tenantry.installation DROP place_prefix", "the prefix"),
            ("DELETE FROM tenantry.installation", "version 0"),
            (
                "ALTER TABLE tenantry.installation RENAME TO o; \
                 CREATE VIEW tenantry.installation AS SELECT true AS one, 2001 AS version, 1 AS epoch; \
                 DROP TABLE tenantry.o; GRANT SELECT ON tenantry.installation TO PUBLIC",
                "cannot be read",
            ),
            ("DROP VIEW tenantry.installation", "installation is missing"),
        ] {
            superuser.batch_execute(spoil).await.unwrap();
            let why = check_root(&service).await.expect_err(spoil).to_string();
            assert!(why.contains(says) && !why.contains("REVOKE"), "{spoil}: {why}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_must_be_another_role_that_can_do_its_work() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let service = connect(&made.database_url).await.unwrap();
        let admin = connect(&made.database_admin_url).await.unwrap();
        check_admin(&admin, &service).await.unwrap();
        let error = check_admin(&service, &service).await.unwrap_err();
        assert!(error.to_string().contains("the role that serves"), "{error}");
        let error = check_admin(&service, &admin).await.unwrap_err();
        assert!(error.to_string().contains("swapped"), "{error}");
        let again = connect(&made.database_admin_url).await.unwrap();
        check_direct(&admin, &again).await.unwrap();
        // What a pooler makes of two connections.
        let error = check_direct(&admin, &admin).await.unwrap_err();
        assert!(error.to_string().contains("pooler"), "{error}");
        let superuser = stand.superuser(stand.names.database()).await;
        let name = stand.names.admin();
        for (spoil, lacks) in [
            (format!("ALTER ROLE {name} NOCREATEDB"), "lacks CREATEDB:"),
            (format!("REVOKE pg_signal_backend FROM {name}"), "CREATEDB,pg_signal_backend:"),
        ] {
            superuser.batch_execute(&spoil).await.unwrap();
            let error = check_admin(&admin, &service).await.unwrap_err();
            assert!(error.to_string().contains(lacks), "{error}");
        }
    })
    .await;
}
