//! Statements that the server keeps, in sessions that stay and in sessions that others share.

use super::{super::conn::Conn, *};

/// Of a query: the node's handle of the collection is older than its dimension, which is looked up.
const TRIPS: usize = 2;

impl Node {
    /// The connection that was used last.
    async fn session(&self) -> Conn {
        let shared = &self.inner().shared;
        shared.connections.get(&shared.root.target).await.unwrap()
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
        self.inner().shared.root.target.server.is_pooled()
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
