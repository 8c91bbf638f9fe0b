//! Statements that the server keeps, in sessions that stay and in sessions that others share.

use super::{super::conn::Conn, *};

/// Of a query: the node's handle of the collection is older than its dimension, which is looked up.
const TRIPS: usize = 2;

impl Node {
    /// The connection that was used last.
    async fn session(&self) -> Conn {
        let shared = &self.inner().shared;
        shared.connections.get(&shared.root().unwrap().target).await.unwrap()
    }

    /// Asks for the nearest, which are the same whatever becomes of the session.
    async fn ask(&self) {
        let request = nearest(3);
        let found = self.store.query(&self.scope, &self.collection, &request).await.unwrap();
        let ids = |hits: &[tenantry_types::Hit]| -> Vec<String> {
            hits.iter().map(|hit| hit.record.id.as_str().to_owned()).collect()
        };
        let all: Vec<_> = found.value.hits.iter().map(|hits| ids(hits)).collect();
        assert_eq!(all, [["0", "1", "2"], ["9", "8", "10"]]);
    }

    fn is_pooled(&self) -> bool {
        self.inner().shared.root().unwrap().target.server.is_pooled()
    }

    /// A node whose last session has the statement prepared; its name and its types.
    async fn prepared(&self) -> (String, String) {
        self.write((0..20).map(record).collect()).await;
        for _ in 0..4 {
            self.ask().await;
        }
        let session = self.session().await;
        let sql = "SELECT name, array_to_string(parameter_types, ','), generic_plans, custom_plans \
             FROM pg_prepared_statements WHERE statement LIKE 'WITH q %'";
        let rows = session.client().unwrap().query_typed(sql, &[]).await.unwrap();
        let [row] = rows.as_slice() else { panic!("{} are prepared", rows.len()) };
        let plans: (i64, i64) = (row.get(2), row.get(3));
        assert_eq!(plans, (2, 0), "one plan is kept");
        assert!(!self.is_pooled());
        (row.get(0), row.get(1))
    }

    async fn in_session(&self, sql: &str) {
        self.session().await.client().unwrap().batch_execute(sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_often_is_prepared_and_takes_no_more_round_trips() {
    Node::with(|node| async move {
        node.prepared().await;
        assert_eq!(node.counted(node.ask()).await.1, TRIPS);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_somebody_else_is_not_believed() {
    Node::with(|node| async move {
        let (name, types) = node.prepared().await;
        let other = format!(
            "DEALLOCATE {name}; SET search_path = pg_catalog, tenantry_ext; \
             PREPARE {name} ({types}) AS SELECT 0::smallint AS part, 0::bigint AS n, \
             0::bigint AS ordinal, $1 AS tenant, $2 AS collection, 0::real AS distance, \
             NULL::bytea AS bytes, NULL::smallint[] AS fields, NULL::bytea[] AS vectors, \
             0::bigint AS total WHERE false; RESET search_path; \
             SET tenantry.session = 'of another node'"
        );
        node.in_session(&other).await;
        node.ask().await;
        assert!(node.is_pooled());
        // Nothing is asked by a name any more.
        assert_eq!(node.counted(node.ask()).await.1, TRIPS);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_forgotten_is_asked_without_names() {
    Node::with(|node| async move {
        node.prepared().await;
        node.in_session("DEALLOCATE ALL").await;
        node.ask().await;
        assert!(node.is_pooled());
        node.ask().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_others_have_taken_are_left_to_them() {
    Node::with(|node| async move {
        node.write((0..20).map(record).collect()).await;
        let take: Vec<_> = (0..200).map(|n| format!("PREPARE s{n} AS SELECT {n}")).collect();
        node.in_session(&take.join(";")).await;
        for _ in 0..5 {
            node.ask().await;
        }
        assert!(node.is_pooled());
    })
    .await;
}

/// A tenant's schema that is made anew, and tables that change, are planned anew.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_change_are_planned_anew() {
    Node::with(|node| async move {
        node.prepared().await;
        let client = node.stand.superuser(node.stand.names.database()).await;
        for sql in [
            "ALTER TABLE tenantry.records ADD COLUMN one int, ALTER COLUMN fields DROP NOT NULL",
            "ALTER TABLE tenantry.vectors ALTER COLUMN v TYPE tenantry_ext.halfvec \
             USING v::tenantry_ext.halfvec, ALTER COLUMN v TYPE tenantry_ext.vector \
             USING v::tenantry_ext.vector",
        ] {
            let _ = client.batch_execute(sql).await;
            node.ask().await;
        }
        assert!(!node.is_pooled());
    })
    .await;
}

fn batch(n: u16) -> Vec<RecordWrite> {
    (10 * n..10 * (n + 1)).map(record).collect()
}

impl Node {
    /// A node in whose last session what writes is prepared: names, types and texts.
    async fn prepared_to_write(&self) -> Vec<(String, String, String)> {
        for n in 0..5 {
            self.write(batch(n)).await;
        }
        let session = self.session().await;
        let sql = "SELECT name, array_to_string(parameter_types, ','), statement, generic_plans, \
             custom_plans FROM pg_prepared_statements WHERE statement LIKE '%\"tenantry\".%'";
        let rows = session.client().unwrap().query_typed(sql, &[]).await.unwrap();
        let mut writes = 0;
        for row in &rows {
            let (text, generic, custom): (String, i64, i64) = (row.get(2), row.get(3), row.get(4));
            let is_insert = text.starts_with("INSERT");
            writes += usize::from(is_insert);
            // What looks for rows is planned for its values.
            assert!(if is_insert { custom == 0 } else { generic == 0 || custom == 0 }, "{text}");
        }
        // Records, their vectors, rows of the catalog.
        assert_eq!((writes, self.is_pooled()), (3, false));
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    /// As many records as batches were written, each with its own vector.
    async fn holds(&self, batches: u16) {
        let request = GetRequest {
            page: Page { limit: None, offset: 0 },
            include: all_parts(),
            ..Default::default()
        };
        let got = self.store.get(&self.scope, &self.collection, &request).await.unwrap().value;
        let all: Vec<_> = (0..10 * batches).map(record).collect();
        let got: Vec<_> = got.into_iter().map(|one| (one.id, one.vector)).collect();
        assert_eq!(got, all.into_iter().map(|one| (one.id, one.vector)).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_often_goes_by_names_and_takes_no_more_round_trips() {
    Node::with(|node| async move {
        node.prepared_to_write().await;
        assert_eq!(node.counted(node.write(batch(5))).await.1, 2);
        // An update of what is there goes without a name, and its vectors are put by one.
        for _ in 0..5 {
            node.write(batch(3)).await;
        }
        assert_eq!(node.counted(node.write(batch(3))).await.1, 2);
        node.holds(6).await;
        assert!(!node.is_pooled());
    })
    .await;
}

/// Every name means a write to another table in the session of another node.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_by_names_of_somebody_else() {
    Node::with(|node| async move {
        let all = node.prepared_to_write().await;
        let client = node.stand.superuser(node.stand.names.database()).await;
        let table = "CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO PUBLIC; \
             CREATE TABLE other.wrong (n int); GRANT ALL ON other.wrong TO PUBLIC";
        client.batch_execute(table).await.unwrap();
        let mut other = vec!["SET tenantry.session = 'of another node'".to_owned()];
        for (name, types, _) in &all {
            other.push(format!("DEALLOCATE {name}"));
            other.push(format!("PREPARE {name} ({types}) AS INSERT INTO other.wrong VALUES (1)"));
        }
        node.in_session(&other.join(";")).await;
        node.write(batch(5)).await;
        assert!(node.is_pooled());
        let wrong = client.query_one("SELECT count(*) FROM other.wrong", &[]).await.unwrap();
        assert_eq!(wrong.get::<_, i64>(0), 0);
        node.write(batch(6)).await;
        node.holds(7).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_forgotten_is_written_to_without_names() {
    for forget in ["DEALLOCATE ALL", "DISCARD ALL", "RESET tenantry.session"] {
        Node::with(move |node| async move {
            node.prepared_to_write().await;
            node.in_session(forget).await;
            node.write(batch(5)).await;
            assert!(node.is_pooled(), "{forget}");
            node.write(batch(6)).await;
            node.holds(7).await;
        })
        .await;
    }
}

/// Another node may let go of its own name in this session, behind a pooler: then the write fails as
/// a whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_gone_where_it_would_write_fails_the_write() {
    Node::with(|node| async move {
        let all = node.prepared_to_write().await;
        let (name, ..) = all.iter().find(|(.., text)| text.contains("\".vectors")).unwrap();
        node.in_session(&format!("DEALLOCATE {name}")).await;
        let (scope, collection) = (&node.scope, &node.collection);
        let wrote = node.store.write(scope, collection, WriteMode::Upsert, batch(5)).await;
        assert_eq!(wrote.unwrap_err().kind(), tenantry_types::ErrorKind::Unavailable);
        assert!(node.is_pooled());
        node.holds(5).await;
        node.write(batch(5)).await;
        node.holds(6).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_leave_names_to_others_who_have_taken_them() {
    Node::with(|node| async move {
        let take: Vec<_> = (0..200).map(|n| format!("PREPARE s{n} AS SELECT {n}")).collect();
        node.write(batch(0)).await;
        node.in_session(&take.join(";")).await;
        for n in 1..6 {
            node.write(batch(n)).await;
        }
        assert!(node.is_pooled());
        node.holds(6).await;
    })
    .await;
}
