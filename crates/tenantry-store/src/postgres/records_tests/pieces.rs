//! Rows are removed in pieces that are ranges of a key.

use super::{
    super::{
        admin::Session,
        cluster::Place,
        pieces::{Last, Only, Table, piece, removal, remove},
        statement::{Statement, Step},
        submit::commit_steps,
        view::PgView,
    },
    looked_up::first_column,
    *,
};
use std::time::Duration;
use tenantry_auth::TenantId;

/// So many tenants that, for all that the statistics say, none has more than a few rows.
const MANY: &str = "INSERT INTO {schema}.records (tenant, collection, ordinal, key, id, body) \
     SELECT 1000 + n, 1, 1, decode(md5(n::text), 'hex'), ''::bytea, ''::bytea \
     FROM generate_series(1, 20000) n";
const FILL: &str = "INSERT INTO {schema}.records (tenant, collection, ordinal, key, id, body) \
     SELECT 7, 1 + n % 2, n, decode(md5(n::text), 'hex'), ''::bytea, ''::bytea \
     FROM generate_series(1, 2000) n";
const TENANT: TenantId = TenantId::new(7);

/// The shared tables, with rows of a tenant of which the statistics do not know.
async fn filled(node: &Node) -> (Place, Session) {
    let place = node.inner().shared.root().unwrap().clone();
    let superuser = node.stand.superuser(node.stand.names.database()).await;
    let say = |text: &str| place.text(text).as_str().to_owned();
    let off = say("ALTER TABLE {schema}.records SET (autovacuum_enabled = false)");
    superuser.batch_execute(&off).await.unwrap();
    superuser.batch_execute(&say(MANY)).await.unwrap();
    superuser.batch_execute(&say("ANALYZE {schema}.records")).await.unwrap();
    superuser.batch_execute(&say(FILL)).await.unwrap();
    (place, superuser)
}

async fn left(place: &Place, superuser: &Session) -> i64 {
    let text = place.text("SELECT count(*) FROM {schema}.records WHERE tenant = 7");
    superuser.query_one(text.as_str(), &[]).await.unwrap().get(0)
}

/// How what finds or removes a piece of records is planned, with its values written out.
async fn plan_of(superuser: &Session, steps: &[Step], values: &[&str]) -> String {
    let [Step::Run(settings), Step::Run(piece), ..] = steps else { panic!("{steps:?}") };
    let mut text = piece.text.as_str().to_owned();
    assert_eq!(piece.values.len(), values.len(), "{text}");
    for (at, value) in values.iter().enumerate() {
        text = text.replace(&format!("${}", at + 1), value);
    }
    superuser.batch_execute(settings.text.as_str()).await.unwrap();
    let rows = superuser.simple_query(&format!("EXPLAIN (COSTS OFF) {text}")).await;
    if let Some(Step::Run(again)) = steps.get(2) {
        superuser.batch_execute(again.text.as_str()).await.unwrap();
    }
    let plan = first_column(&rows.unwrap()).join("\n").replace("One-Time Filter:", "");
    format!("{text}\n{plan}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_is_found_by_the_index_whatever_the_statistics_say() {
    Node::with(|node| async move {
        let (place, superuser) = filled(&node).await;
        let counted = [
            // Nothing of the tenant's.
            "SELECT 1",
            // Most is the tenant's.
            "DELETE FROM {schema}.records WHERE tenant > 1100; ANALYZE {schema}.records",
        ];
        let service = format!("SET ROLE {}; SET tenantry.tenant = '7'", node.stand.names.service());
        for (counted, role) in
            counted.iter().flat_map(|one| [(one, &*service), (one, "RESET ROLE")])
        {
            superuser.batch_execute("RESET ROLE").await.unwrap();
            superuser.batch_execute(place.text(counted).as_str()).await.unwrap();
            superuser.batch_execute(role).await.unwrap();
            superuser.batch_execute("BEGIN").await.unwrap();
            for (only, of) in [(Only::All, None), (Only::Collection(1), Some("1"))] {
                for after in [None, Some(Last::Record(1, 500))] {
                    let last = if after.is_some() { &["1", "500"][..] } else { &[] };
                    let values: Vec<_> =
                        ["7", "250"].into_iter().chain(of).chain(last.iter().copied()).collect();
                    let steps = piece(&place, 7, (Table::Records, only.clone()), (after, 250));
                    let plan = plan_of(&superuser, &steps, &values).await;
                    let behind = if last.is_empty() { "tenant = 7)" } else { "> ROW(1, 500)" };
                    let found = plan.lines().find(|line| line.contains("Index Cond"));
                    assert!(found.is_some_and(|found| found.contains(behind)), "{plan}");
                    assert!(plan.contains("Index Scan using records_pkey"), "{plan}");
                    for slow in ["Sort", "Filter:"] {
                        assert!(!plan.contains(slow), "{role}\n{plan}");
                    }
                }
                let steps = removal(&place, 7, (Table::Records, only), Vec::new());
                let values: Vec<_> = ["7", "'{}'"].into_iter().chain(of).collect();
                let plan = plan_of(&superuser, &steps, &values).await;
                assert!(plan.contains("Tid Scan"), "{role}\n{plan}");
            }
            let (families, last) = (Only::Families(vec![49, 50]), Last::Entry(49, vec![7]));
            let steps = piece(&place, 7, (Table::Catalog, families), (Some(last), 250));
            let values = ["7", "250", "'{49,50}'::smallint[]", "49::smallint", "'\\x07'::bytea"];
            let plan = plan_of(&superuser, &steps, &values).await;
            let found = plan.lines().find(|line| line.contains("Index Cond")).expect("an index");
            assert!(found.contains("(tenant = 7) AND (ROW(family, key) > ROW("), "{plan}");
            assert!(!found.contains("ANY") && !plan.contains("Sort"), "{plan}");
            superuser.batch_execute("ROLLBACK").await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_removes_counts_and_is_removed_if_it_gives_up() {
    Node::with(|node| async move {
        let (place, superuser) = filled(&node).await;
        let other = node.stand.superuser(node.stand.names.database()).await;
        let first = place.text(
            "DELETE FROM {schema}.records WHERE tenant = 7 AND collection = 1 AND ordinal <= 700",
        );
        for (end, expected) in [("ROLLBACK", 1_750), ("COMMIT", 1_500)] {
            other.batch_execute(&format!("BEGIN; {}", first.as_str())).await.unwrap();
            let (shared, at) = (Arc::clone(&node.inner().shared), place.clone());
            let removing = tokio::spawn(async move {
                let view = PgView::writing(&shared, at.clone());
                let all = (Table::Records, &Only::All);
                let removed = remove(&view, &at, TENANT, all, (&None, 250)).await.unwrap();
                let proof = vec![Step::Run(Statement::new("SELECT 1"))];
                commit_steps(view, proof, 0).await.unwrap();
                removed
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(!removing.is_finished(), "it does not wait");
            other.batch_execute(end).await.unwrap();
            let (count, last) = removing.await.unwrap();
            assert_eq!(count, 250, "{end}: others' rows are not counted");
            assert!(matches!(last, Some(Last::Record(1, _))), "{end}: {last:?}");
            assert_eq!(left(&place, &superuser).await, expected, "{end}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_come_one_behind_the_other_to_the_end() {
    Node::with(|node| async move {
        let (place, superuser) = filled(&node).await;
        let (mut after, mut counts) = (None, Vec::new());
        loop {
            let view = PgView::writing(&node.inner().shared, place.clone());
            let all = (Table::Records, &Only::All);
            let (count, last) = remove(&view, &place, TENANT, all, (&after, 900)).await.unwrap();
            commit_steps(view, vec![Step::Run(Statement::new("SELECT 1"))], 0).await.unwrap();
            counts.push((count, format!("{last:?}")));
            after = last;
            if count < 900 {
                break;
            }
        }
        let expected = [
            (900, "Some(Record(1, 1800))".to_owned()),
            (900, "Some(Record(2, 1599))".to_owned()),
            (200, "Some(Record(2, 1999))".to_owned()),
        ];
        assert_eq!(counts, expected);
        assert_eq!(left(&place, &superuser).await, 0);
        let others = place.text("SELECT count(*) FROM {schema}.records");
        let others: i64 = superuser.query_one(others.as_str(), &[]).await.unwrap().get(0);
        assert_eq!(others, 20_000, "of other tenants");
    })
    .await;
}
