use super::{
    super::{
        place::make_database as make_place,
        stand::{Stand, way},
    },
    *,
};
use crate::SystemEntropy;
use tenantry_auth::TenantId;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_makes_what_serving_needs_and_can_run_again() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        assert!(made.has_passwords && made.version == VERSION);
        let service = connect(&made.database_url).await.unwrap();
        let admin = connect(&made.database_admin_url).await.unwrap();
        let setting = "SELECT current_setting('idle_in_transaction_session_timeout')";
        let row = service.query_one(setting, &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "10s");
        let row = admin.query_one("SELECT version FROM tenantry.installation", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 2_000 + i32::try_from(VERSION).unwrap());
        let made_again = stand.set_up().await;
        assert!(!made_again.has_passwords);
        assert!(!format!("{made:?}").contains("postgresql"), "{made:?}");
        connect(&made.database_url).await.expect("the password is still the same");
        let what = Setup { reset_passwords: true, ..stand.what() };
        let reset = setup(&stand.url, &what, &SystemEntropy).await.unwrap();
        connect(&made.database_url).await.expect_err("the old password is refused");
        connect(&reset.database_url).await.unwrap();
        connect(&reset.database_admin_url).await.unwrap();
        let error = setup(&reset.database_admin_url, &what, &SystemEntropy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "only a superuser can");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_that_was_cut_off_is_finished_by_the_next() {
    Stand::with(async |stand| {
        for last in [Step::Roles, Step::Template, Step::Database, Step::Root] {
            let done = setup_steps(&stand.url, &stand.what(), &SystemEntropy, last).await.unwrap();
            assert!(done.is_none(), "{last:?}");
        }
        assert!(stand.set_up().await.has_passwords);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_setups_at_once_do_not_disturb_each_other() {
    Stand::with(async |stand| {
        let (one, other) = tokio::join!(stand.set_up(), stand.set_up());
        assert!(one.has_passwords != other.has_passwords);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prefix_of_places_is_said_by_the_first_setup_for_ever() {
    Stand::with(async |stand| {
        let with = |prefix: Option<&str>| {
            let place_prefix = prefix.map(|text| PlacePrefix::parse(text).unwrap());
            Setup { place_prefix, ..stand.what() }
        };
        // What was cut off before there were tables has not said it.
        for (asked, last) in [("a_", Step::Database), ("shop_", Step::Root)] {
            setup_steps(&stand.url, &with(Some(asked)), &SystemEntropy, last).await.unwrap();
        }
        for same in [None, Some("shop_")] {
            let made = setup(&stand.url, &with(same), &SystemEntropy).await.unwrap();
            assert_eq!(made.place_prefix.as_str(), "shop_", "{same:?}");
        }
        for other in ["shop2_", "a_"] {
            let why = setup(&stand.url, &with(Some(other)), &SystemEntropy).await.unwrap_err();
            assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
            let text = why.to_string();
            assert!(
                text.contains("the prefix shop_ ") && text.contains("cannot be changed"),
                "{text}"
            );
        }
        let root = stand.superuser(stand.names.database()).await;
        let sql = "SELECT version, place_prefix FROM tenantry.installation";
        let row = root.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (6_001, "shop_"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_without_a_prefix_gets_none_later() {
    Stand::with(async |stand| {
        assert!(stand.set_up().await.place_prefix.is_none());
        let shop = PlacePrefix::parse("shop_").unwrap();
        let what = Setup { place_prefix: Some(shop.clone()), ..stand.what() };
        let why = setup(&stand.url, &what, &SystemEntropy).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
        assert!(why.to_string().contains("have no prefix here"), "{why}");
        // Somebody else may make the root between the first look and the last.
        let mut root = stand.superuser(stand.names.database()).await;
        act_as_admin(&root, &stand.names).await.unwrap();
        assert_eq!(make_root(&mut root, &shop).await.unwrap_err().kind(), ErrorKind::Conflict);
        let columns = "SELECT count(*) FROM pg_attribute \
                       WHERE attrelid = 'tenantry.installation'::regclass AND attnum > 0";
        let row = root.query_one(columns, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 3, "its tables are as they always were");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_called_like_a_place_is_not_made() {
    let names = Names::parse("shop_ten_aaaaaaaaaaaaaaaa").unwrap();
    let place_prefix = Some(PlacePrefix::parse("shop_").unwrap());
    let what = Setup { names: names.clone(), place_prefix, reset_passwords: false };
    let url = crate::postgres::stand::superuser_url();
    let why = setup(&url, &what, &SystemEntropy).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Invalid, "{why}");
    let client = connect(&url).await.unwrap();
    let sql = "SELECT 1 FROM pg_roles WHERE rolname = $1";
    assert!(client.query_opt(sql, &[&names.admin()]).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_made_is_never_changed() {
    Stand::with(async |stand| {
        let client = connect(&stand.url).await.unwrap();
        let service = stand.names.service();
        client.batch_execute(&format!("CREATE ROLE {service} SUPERUSER")).await.unwrap();
        let error = setup(&stand.url, &stand.what(), &SystemEntropy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let sql = "SELECT rolsuper FROM pg_roles WHERE rolname = $1";
        assert!(client.query_one(sql, &[&service]).await.unwrap().get::<_, bool>(0));
        let role = client.query_opt(sql, &[&stand.names.admin()]).await.unwrap();
        assert!(role.is_none(), "nothing was made beside it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_that_meets_another_database_makes_nothing() {
    Stand::with(async |stand| {
        let client = connect(&stand.url).await.unwrap();
        for taken in [stand.names.database().to_owned(), stand.names.template()] {
            client.batch_execute(&format!("CREATE DATABASE {taken}")).await.unwrap();
            let error = setup(&stand.url, &stand.what(), &SystemEntropy).await.unwrap_err();
            client.batch_execute(&format!("DROP DATABASE {taken}")).await.unwrap();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.to_string().contains(&taken), "{error}");
        }
        let sql = "SELECT rolname FROM pg_roles WHERE rolname = ANY($1)";
        let roles = [stand.names.service(), stand.names.admin()];
        assert!(client.query(sql, &[&roles.as_slice()]).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_pgvector_comes_to_every_database() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let place = stand.place(1);
        make_place(
            &way(&made.database_admin_url),
            &stand.names,
            &place,
            (TenantId::new(1), async || Ok(())),
        )
        .await
        .unwrap();
        let age = "UPDATE pg_extension SET extversion = '0.8.0' WHERE extname = 'vector'";
        for database in [stand.names.database(), place.as_str()] {
            stand.superuser(database).await.batch_execute(age).await.unwrap();
        }
        let version = stand.set_up().await.pgvector_version;
        let sql = "SELECT extversion FROM pg_extension WHERE extname = 'vector'";
        let row = stand.superuser(place.as_str()).await.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), version);
    })
    .await;
}
