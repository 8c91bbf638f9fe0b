use super::{
    super::{
        admin::{connect, with_database},
        stand::{Stand, way},
    },
    *,
};
use tokio_postgres::error::SqlState;

const TENANT: TenantId = TenantId::new(7);

async fn exists(client: &Client, place: &PlaceName) -> (bool, bool, bool) {
    let sql = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1), \
               EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), \
               EXISTS (SELECT FROM pg_database WHERE datname = $1)";
    let row = client.query_one(sql, &[&place.as_str()]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

/// Runs one statement as a role in a transaction, as serving does.
async fn as_role(client: &mut Client, role: &str, sql: &str) -> Option<SqlState> {
    let transaction = client.transaction().await.unwrap();
    let set = "SELECT set_config('role', $1, true), set_config('tenantry.tenant', '7', true)";
    if let Err(why) = transaction.query(set, &[&role]).await {
        return why.code().cloned();
    }
    transaction.batch_execute(sql).await.err().and_then(|why| why.code().cloned())
}

async fn anybody() -> Result<()> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_made_and_removed_any_number_of_times() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let mut admin = connect(&made.database_admin_url).await.unwrap();
        let place = stand.place(7);
        for _ in 0..2 {
            make_schema(&mut admin, &stand.names, &place, (TENANT, anybody)).await.unwrap();
            assert_eq!(exists(&admin, &place).await, (true, true, false));
        }
        let other =
            make_schema(&mut admin, &stand.names, &place, (TenantId::new(8), anybody)).await;
        assert_eq!(other.unwrap_err().kind(), ErrorKind::Corrupt);
        for _ in 0..2 {
            drop_schema(&mut admin, &place, TENANT, anybody).await.unwrap();
            assert_eq!(exists(&admin, &place).await, (false, false, false));
        }
    })
    .await;
}

/// Names are hashes, so two installations may have one in common, however unlikely that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_of_another_installation_is_not_taken_for_ones_own() {
    Stand::with(async |one| {
        Stand::with(async move |two| {
            let (mine, theirs) = (one.set_up().await, two.set_up().await);
            let mut admin = connect(&mine.database_admin_url).await.unwrap();
            let place = one.place(7);
            make_schema(&mut admin, &one.names, &place, (TENANT, anybody)).await.unwrap();
            let mut other = connect(&theirs.database_admin_url).await.unwrap();
            assert!(make_schema(&mut other, &two.names, &place, (TENANT, anybody)).await.is_err());
            assert_eq!(exists(&other, &place).await, (true, false, false));
            assert!(drop_schema(&mut other, &place, TENANT, anybody).await.is_err());
            assert_eq!(exists(&admin, &place).await, (true, true, false));
            let sql = "SELECT pg_has_role($1, $2, 'MEMBER')";
            let row = admin.query_one(sql, &[&two.names.service(), &place.as_str()]).await;
            assert!(!row.unwrap().get::<_, bool>(0));
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_role_reaches_its_own_tables_only() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let mut admin = connect(&made.database_admin_url).await.unwrap();
        let (place, other) = (stand.place(7), stand.place(8));
        make_schema(&mut admin, &stand.names, &place, (TENANT, anybody)).await.unwrap();
        make_schema(&mut admin, &stand.names, &other, (TenantId::new(8), anybody)).await.unwrap();
        let mut service = connect(&made.database_url).await.unwrap();
        let count = |schema: &str| format!("SELECT count(*) FROM {schema}.records");
        let (own, foreign) = (count(place.as_str()), count(other.as_str()));
        assert_eq!(as_role(&mut service, place.as_str(), &own).await, None);
        assert_eq!(as_role(&mut service, "none", &count("tenantry")).await, None);
        for (role, sql) in [
            (place.as_str(), foreign.clone()),
            (place.as_str(), count("tenantry")),
            (place.as_str(), "CREATE TABLE tenantry_ext.a ()".to_owned()),
            (place.as_str(), format!("CREATE TABLE {place}.a ()")),
            (place.as_str(), format!("DROP TABLE {place}.records")),
            (place.as_str(), format!("TRUNCATE {place}.records")),
            // Without its role a session that serves reaches nobody who is apart.
            ("none", own),
            ("none", foreign),
            ("none", "TRUNCATE tenantry.records".to_owned()),
            ("none", "UPDATE tenantry.installation SET version = 2".to_owned()),
        ] {
            let code = as_role(&mut service, role, &sql).await;
            assert_eq!(code, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{role}: {sql}");
        }
        let epoch = "UPDATE tenantry.installation SET epoch = epoch + 1";
        assert_eq!(as_role(&mut service, "none", epoch).await, None);
        let admin_role = as_role(&mut service, &stand.names.admin(), "SELECT 1").await;
        assert_eq!(admin_role, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_level_security_binds_every_session_and_is_loud_without_a_tenant() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let mut service = connect(&made.database_url).await.unwrap();
        let insert = "INSERT INTO tenantry.catalog VALUES (7, 1, 'a', '')";
        let foreign = "INSERT INTO tenantry.catalog VALUES (8, 1, 'a', '')";
        for sql in [insert, "SELECT * FROM tenantry.records", "DELETE FROM tenantry.vectors"] {
            let code = service.batch_execute(sql).await.unwrap_err().code().cloned();
            assert_eq!(code, Some(SqlState::UNDEFINED_OBJECT), "{sql}");
        }
        assert_eq!(as_role(&mut service, "none", insert).await, None);
        let code = as_role(&mut service, "none", foreign).await;
        assert_eq!(code, Some(SqlState::INSUFFICIENT_PRIVILEGE));
        // After a transaction that had set it the setting is empty, not unset.
        let code = service.batch_execute(insert).await.unwrap_err().code().cloned();
        assert_eq!(code, Some(SqlState::INVALID_TEXT_REPRESENTATION));
        let admin = connect(&made.database_admin_url).await.unwrap();
        let read = "SELECT * FROM tenantry.catalog";
        let code = admin.batch_execute(read).await.unwrap_err().code().cloned();
        assert_eq!(code, Some(SqlState::UNDEFINED_OBJECT), "the owner is bound too");
    })
    .await;
}

async fn is_closed_to_the_public(client: &Client, database: &str) -> bool {
    let sql = "SELECT datacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(datacl) \
               WHERE grantee = 0) FROM pg_database WHERE datname = $1";
    client.query_one(sql, &[&database]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_cut_off_at_any_step_is_finished() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let url = &way(&made.database_admin_url);
        let admin = enter(url).await.unwrap();
        let making = [Making::Role, Making::Database, Making::Privileges, Making::Tables];
        let place = stand.place(7);
        for last in making {
            make_database_steps(url, &stand.names, &place, (TENANT, anybody), last).await.unwrap();
            make_database(url, &stand.names, &place, (TENANT, anybody)).await.unwrap();
            assert!(is_closed_to_the_public(&admin, place.as_str()).await);
            let service = with_database(&made.database_url, place.as_str()).unwrap();
            let mut service = connect(&service).await.unwrap();
            let sql = format!("SELECT * FROM {place}.vectors");
            assert_eq!(as_role(&mut service, place.as_str(), &sql).await, None);
            let code = as_role(&mut service, "none", &sql).await;
            assert_eq!(code, Some(SqlState::INSUFFICIENT_PRIVILEGE));
            // Removing ends the session that is still there.
            drop_database(url, &place, TENANT, anybody).await.unwrap();
            assert!(service.query("SELECT 1", &[]).await.is_err());
            assert_eq!(exists(&admin, &place).await, (false, false, false));
        }
        for last in [Removing::Closing, Removing::Database, Removing::Role] {
            make_database(url, &stand.names, &place, (TENANT, anybody)).await.unwrap();
            drop_database_steps(url, &place, (TENANT, anybody), last).await.unwrap();
            if last == Removing::Closing {
                let error =
                    make_database(url, &stand.names, &place, (TENANT, anybody)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "making undoes no removal");
            }
            drop_database(url, &place, TENANT, anybody).await.unwrap();
            assert_eq!(exists(&admin, &place).await, (false, false, false));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_the_server_left_half_removed_can_be_removed() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let url = &way(&made.database_admin_url);
        let place = stand.place(7);
        make_database(url, &stand.names, &place, (TENANT, anybody)).await.unwrap();
        let superuser = stand.superuser(stand.names.database()).await;
        let mark = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = $1";
        superuser.execute(mark, &[&place.as_str()]).await.unwrap();
        let error = make_database(url, &stand.names, &place, (TENANT, anybody)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        drop_database(url, &place, TENANT, anybody).await.unwrap();
        assert_eq!(exists(&superuser, &place).await, (false, false, false));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_make_the_same_database_make_one() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let (url, names) = (&way(&made.database_admin_url), &stand.names);
        let place = stand.place(7);
        let make = || make_database(url, names, &place, (TENANT, anybody));
        let (a, b, c) = tokio::join!(make(), make(), make());
        assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
        // One that is given up on leaves no lock behind.
        let gives_up = tokio::time::timeout(std::time::Duration::from_millis(5), make());
        let _ = gives_up.await;
        drop_database(url, &place, TENANT, anybody).await.unwrap();
    })
    .await;
}
