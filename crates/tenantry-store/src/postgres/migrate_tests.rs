use super::{
    super::{
        admin::connect,
        place::{make_database, make_schema},
        stand::{Stand, way},
    },
    *,
};

/// Migrations with a second one that adds a column here and a table there.
const LATER: &[Migration] = &[
    MIGRATIONS[0],
    Migration {
        place: "ALTER TABLE {schema}.records ADD COLUMN later integer",
        root: "CREATE TABLE {schema}.later ()",
    },
];
/// The same with a mistake at its end.
const BROKEN: &[Migration] = &[
    MIGRATIONS[0],
    Migration {
        place: "ALTER TABLE {schema}.records ADD COLUMN later integer; SELECT 1 / 0",
        root: "",
    },
];

async fn versions(client: &Client, places: &[PlaceName]) -> Vec<u32> {
    let mut versions = Vec::new();
    for place in places {
        versions.push(place_version(client, place).await.unwrap().unwrap().1);
    }
    versions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrating_brings_every_place_to_the_newest_version_once() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let mut admin = connect(&made.database_admin_url).await.unwrap();
        let mut places = Vec::new();
        for tenant in 1..=30 {
            let place = stand.place(tenant);
            make_schema(&mut admin, &stand.names, &place, (TenantId::new(tenant), async || Ok(())))
                .await
                .unwrap();
            places.push(place);
        }
        let gone = stand.place(31);
        let all = [places.clone(), vec![gone]].concat();
        let broken = migrate_schemas_by(&mut admin, &all, VECTOR_SCHEMA, &mut |_| {}, BROKEN).await;
        assert_eq!(broken.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(versions(&admin, &places).await, [1; 30]);
        let mut told = Vec::new();
        let mut tell = |done| told.push(done);
        let changed =
            migrate_schemas_by(&mut admin, &all, VECTOR_SCHEMA, &mut tell, LATER).await.unwrap();
        assert_eq!((changed, told), (30, vec![25, 31]));
        assert_eq!(versions(&admin, &places).await, [2; 30]);
        let again = migrate_schemas_by(&mut admin, &all, VECTOR_SCHEMA, &mut |_| {}, LATER).await;
        assert_eq!(again.unwrap(), 0);
        // Versions that are newer than the program are left alone.
        let older = migrate_schemas(&mut admin, &all, VECTOR_SCHEMA, &mut |_| {}).await;
        assert_eq!(older.unwrap_err().kind(), ErrorKind::Unsupported);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_migrated_once_by_many_and_wholly_or_not_at_all() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let mut one = connect(&made.database_admin_url).await.unwrap();
        let mut other = connect(&made.database_admin_url).await.unwrap();
        let none = PlacePrefix::default();
        assert!(migrate_root_by(&mut one, BROKEN, &none).await.is_err());
        assert_eq!(root_version(&*one).await.unwrap(), 1);
        let both = tokio::join!(
            migrate_root_by(&mut one, LATER, &none),
            migrate_root_by(&mut other, LATER, &none)
        );
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
        assert_eq!(root_version(&*one).await.unwrap(), 2);
        assert_eq!(migrate_root(&mut one).await.unwrap_err().kind(), ErrorKind::Unsupported);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_finds_schemas_and_databases() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let url = &made.database_admin_url;
        let mut admin = connect(url).await.unwrap();
        make_schema(&mut admin, &stand.names, &stand.place(1), (TenantId::new(1), async || Ok(())))
            .await
            .unwrap();
        make_database(
            &way(url),
            &stand.names,
            &stand.place(2),
            (TenantId::new(2), async || Ok(())),
        )
        .await
        .unwrap();
        let mut told = Vec::new();
        let done = migrate(url, |at| told.push((at.done, at.of))).await.unwrap();
        assert_eq!(done, Migrated { version: VERSION, places: 2, changed: 0 });
        assert_eq!(told, [(1, 2), (2, 2)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statistics_tell_of_ids() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let mut admin = connect(&made.database_admin_url).await.unwrap();
        let transaction = admin.transaction().await.unwrap();
        run(&transaction, "SET LOCAL tenantry.tenant = 1", "set").await.unwrap();
        let fill = "INSERT INTO tenantry.records SELECT 1, 1, n, substr(sha256(n::text::bytea), 1, 16), \
                    n::text::bytea, '{\"a\": 1}', 'b' FROM generate_series(1, 500) n; \
                    INSERT INTO tenantry.catalog SELECT 1, 1, n::text::bytea, 'r' \
                    FROM generate_series(1, 500) n; ANALYZE tenantry.records, tenantry.catalog";
        run(&transaction, fill, "fill").await.unwrap();
        transaction.commit().await.unwrap();
        let superuser = stand.superuser(stand.names.database()).await;
        let sql = "SELECT array_agg(attname::text ORDER BY attname)::text[] FROM pg_stats \
                   WHERE schemaname = 'tenantry' AND tablename = $1";
        for (table, columns) in
            [("records", vec!["collection", "ordinal", "tenant"]), ("catalog", vec!["family", "tenant"])]
        {
            let row = superuser.query_one(sql, &[&table]).await.unwrap();
            assert_eq!(row.get::<_, Vec<String>>(0), columns, "{table}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_of_another_type_is_refused() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let mut admin = connect(&made.database_admin_url).await.unwrap();
        let sql = "ALTER TABLE tenantry.installation ALTER version TYPE bigint";
        admin.batch_execute(sql).await.unwrap();
        assert_eq!(migrate_root(&mut admin).await.unwrap_err().kind(), ErrorKind::Corrupt);
    })
    .await;
}

#[test]
fn a_stored_version_says_its_tables_and_what_else_there_is() {
    for (stored, tables, known, bound, prefixed) in [
        (0, 0, true, false, false),
        (1, 1, true, false, false),
        (1_001, 1, true, false, false),
        (2_001, 1, true, true, false),
        (3_001, 1, true, true, false),
        (4_001, 1, true, false, true),
        (6_001, 1, true, true, true),
        (7_002, 2, true, true, true),
        // What later programs may say.
        (8_001, 8_001, false, false, false),
        (15_001, 15_001, false, false, false),
    ] {
        assert_eq!(tables_of(stored), tables, "{stored}");
        assert_eq!(is_known(stored), known, "{stored}");
        assert_eq!(is_bound(stored), bound, "{stored}");
        assert_eq!(is_prefixed(stored), prefixed, "{stored}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_are_set_once_each_and_stay_when_tables_change() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let url = &made.database_admin_url;
        let mut admin = connect(url).await.unwrap();
        // As a program of before has left it, in either order of the marks.
        for (before, after) in [(1, [1_001, 3_001]), (1_001, [1_001, 3_001])] {
            set(&admin, before).await;
            for _ in 0..2 {
                mark_moved(&admin).await.unwrap();
                assert_eq!(stored(&admin).await, after[0]);
            }
            for _ in 0..2 {
                migrate(url, |_| {}).await.unwrap();
                assert_eq!(stored(&admin).await, after[1]);
            }
        }
        set(&admin, 1).await;
        for expected in [2_001, 2_001] {
            migrate(url, |_| {}).await.unwrap();
            assert_eq!(stored(&admin).await, expected);
        }
        for _ in 0..2 {
            mark_moved(&admin).await.unwrap();
            assert_eq!(stored(&admin).await, 3_001);
        }
        migrate_root_by(&mut admin, LATER, &PlacePrefix::default()).await.unwrap();
        assert_eq!(stored(&admin).await, 3_002);
        // Serving with the admin's URL is no migration: nodes of before may serve beside.
        set(&admin, 1).await;
        migrate_root(&mut admin).await.unwrap();
        assert_eq!(stored(&admin).await, 1);
        // What a later program has said is not touched.
        set(&admin, 8_001).await;
        assert_eq!(migrate(url, |_| {}).await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(stored(&admin).await, 8_001);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mark_of_a_prefix_stays_beside_the_others_and_its_places_alone_are_migrated() {
    Stand::with(async |plain| {
        let stand = Stand { prefix: PlacePrefix::parse("shop_").unwrap(), ..plain.clone() };
        let made = stand.set_up().await;
        let url = &made.database_admin_url;
        let mut admin = connect(url).await.unwrap();
        assert_eq!(stored(&admin).await, 6_001);
        for (of, tenant) in [(&stand, 1), (&plain, 2)] {
            let (place, whose) = (of.place(tenant), (TenantId::new(tenant), async || Ok(())));
            make_schema(&mut admin, &of.names, &place, whose).await.unwrap();
        }
        let place = stand.place(3);
        let whose = (TenantId::new(3), async || Ok(()));
        make_database(&way(url), &stand.names, &place, whose).await.unwrap();
        // One of the schemas is called as a place without a prefix: it is not ours.
        let done = migrate(url, |_| {}).await.unwrap();
        assert_eq!(done, Migrated { version: VERSION, places: 2, changed: 0 });
        mark_moved(&admin).await.unwrap();
        mark_bound(&*admin).await.unwrap();
        assert_eq!(stored(&admin).await, 7_001);
        migrate_root_by(&mut admin, LATER, &stand.prefix).await.unwrap();
        assert_eq!(stored(&admin).await, 7_002);
        set(&admin, 4_001).await;
        migrate(url, |_| {}).await.unwrap();
        assert_eq!(stored(&admin).await, 6_001);
        // A mark without a prefix is damage: nobody may take other names instead.
        let lose = "UPDATE tenantry.installation SET place_prefix = NULL";
        admin.batch_execute(lose).await.unwrap();
        assert_eq!(migrate(url, |_| {}).await.unwrap_err().kind(), ErrorKind::Corrupt);
        admin.batch_execute("ALTER TABLE tenantry.installation DROP place_prefix").await.unwrap();
        assert_eq!(migrate(url, |_| {}).await.unwrap_err().kind(), ErrorKind::Corrupt);
    })
    .await;
}

async fn set(admin: &Client, version: u32) {
    let sql = format!("UPDATE tenantry.installation SET version = {version}");
    admin.batch_execute(&sql).await.unwrap();
}

async fn stored(admin: &Client) -> i32 {
    let row = admin.query_one("SELECT version FROM tenantry.installation", &[]).await;
    row.unwrap().get(0)
}
