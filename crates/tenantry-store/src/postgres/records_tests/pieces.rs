//! Rows are removed in pieces that are ranges of a key.

use super::{
    super::{
        admin::Session,
        cluster::Place,
        pieces::{Last, Only, Table, remove, removed},
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

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_is_found_by_the_index_whatever_the_statistics_say() {
    Node::with(|node| async move {
        let (place, superuser) = filled(&node).await;
        let opening = format!(
            "SET ROLE {}; SET tenantry.tenant = '7'; SET enable_sort = off",
            node.stand.names.service()
        );
        superuser.batch_execute(&opening).await.unwrap();
        for after in [None, Some(Last::Record(1, 500))] {
            for only in [Only::All, Only::Collection(1)] {
                let has_cursor = after.is_some();
                let steps = remove(&place, 7, (Table::Records, only), (after.clone(), 250));
                let Some(Step::Run(piece)) = steps.last() else { panic!("{steps:?}") };
                // With its values written out.
                let mut text = piece.text.as_str().to_owned();
                let first = if piece.values.len() == 5 { 4 } else { 3 };
                if has_cursor {
                    text = text.replace(&format!("${}", first + 1), "500");
                    text = text.replace(&format!("${first}"), "1");
                }
                for (name, value) in [("$1", "7"), ("$2", "250"), ("$3", "1")] {
                    text = text.replace(name, value);
                }
                let rows = superuser.simple_query(&format!("EXPLAIN (COSTS OFF) {text}")).await;
                let plan = first_column(&rows.unwrap()).join("\n");
                assert!(plan.contains("<= ROW("), "{text}\n{plan}");
                let cursors = plan.matches("> ROW(1, ").count();
                assert_eq!(cursors, if has_cursor { 2 } else { 0 }, "{text}\n{plan}");
                for slow in ["Seq Scan", " Filter:", "Tid Scan", "Hash"] {
                    assert!(!plan.replace("One-Time Filter:", "").contains(slow), "{text}\n{plan}");
                }
            }
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
                let piece = || remove(&at, 7, (Table::Records, Only::All), (None, 250));
                let answers = view.run(&at, TENANT, piece).await.unwrap();
                let proof = vec![Step::Run(Statement::new("SELECT 1"))];
                commit_steps(view, proof, 0).await.unwrap();
                removed(Table::Records, &answers).unwrap()
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
            let bounds: (Option<Last>, i64) = (after.take(), 900);
            let piece = || remove(&place, 7, (Table::Records, Only::All), bounds.clone());
            let answers = view.run(&place, TENANT, piece).await.unwrap();
            commit_steps(view, vec![Step::Run(Statement::new("SELECT 1"))], 0).await.unwrap();
            let (count, last) = removed(Table::Records, &answers).unwrap();
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
