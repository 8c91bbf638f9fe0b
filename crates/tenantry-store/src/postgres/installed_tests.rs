use super::{
    super::{
        admin::{connect, with_database},
        home::adopt,
        migrate::migrate,
        setup::setup,
        stand::Stand,
    },
    *,
};
use crate::SystemEntropy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_of_an_installation_migrates_and_adopts_it() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let root = with_database(&stand.url, stand.names.database()).unwrap();
        for url in [&made.database_url, &root] {
            let why = migrate(url, |_| {}).await.unwrap_err();
            assert_eq!(why.kind(), ErrorKind::Denied, "{why}");
            assert!(why.to_string().contains("database_admin_url"), "{why}");
            assert_eq!(adopt(url).await.unwrap_err().kind(), ErrorKind::Denied);
        }
        let why = migrate(&stand.url, |_| {}).await.unwrap_err();
        assert!(why.to_string().contains("there is no installation"), "{why}");
        let why = adopt(&stand.url).await.unwrap_err();
        assert!(why.to_string().contains("there is no installation"), "{why}");
        let done = migrate(&made.database_admin_url, |_| {}).await.unwrap();
        assert_eq!((done.places, done.changed), (0, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_does_not_call_a_damaged_root_ready() {
    for (damage, says) in [
        ("DROP TABLE tenantry.records", "tenantry.records"),
        ("DROP EXTENSION vector CASCADE", "column v of the table tenantry.vectors"),
        ("ALTER TABLE tenantry.catalog DROP COLUMN row", "column row"),
    ] {
        Stand::with(async move |stand| {
            stand.set_up().await;
            stand.superuser(stand.names.database()).await.batch_execute(damage).await.unwrap();
            let why = setup(&stand.url, &stand.what(), &SystemEntropy).await.unwrap_err();
            assert_eq!(why.kind(), ErrorKind::Corrupt, "{why}");
            let text = why.to_string();
            assert!(text.contains(says) && text.contains("restore a backup"), "{text}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_of_role_and_database_are_seen() {
    Stand::with(async |stand| {
        let made = stand.set_up().await;
        let service = connect(&made.database_url).await.unwrap();
        let all = room(&service).await.unwrap();
        assert!(all > 6, "{all}");
        let superuser = stand.superuser(stand.names.database()).await;
        let (role, database) = (stand.names.service(), stand.names.database().to_owned());
        let limit = format!("ALTER DATABASE {database} CONNECTION LIMIT 6");
        superuser.batch_execute(&limit).await.unwrap();
        assert_eq!(room(&service).await.unwrap(), 6);
        let limit = format!("ALTER ROLE {role} CONNECTION LIMIT 5");
        superuser.batch_execute(&limit).await.unwrap();
        assert_eq!(room(&service).await.unwrap(), 5);
    })
    .await;
}
