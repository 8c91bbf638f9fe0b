//! pgvector as an index under filters: one table without tenants, a boolean column with an index
//! of its own for each filter, a graph over all vectors, and iterative scans, as pgvector's
//! documentation recommends.

use crate::{
    corpus::{Corpus, normalise},
    npy::Matrix,
    peer::{Answers, Shape},
    postgres::{Instance, Vector, connect},
    process::Venv,
};
use anyhow::{Context, Result};
use roaring::RoaringBitmap;
use std::{cell::RefCell, collections::HashMap, time::Instant};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Statement, types::ToSql};

const INSERT_ROWS: usize = 500;
/// Enough for a graph over all vectors: one that does not fit is built far more slowly.
const BUILD_MEMORY: &str = "2GB";

/// Which plans PostgreSQL may choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plans {
    /// All: the graph, the filter's index, a scan of the table.
    Any,
    /// All but the graph: answers are exact.
    WithoutGraph,
}

/// A running server with a filled table.
pub(crate) struct Pgvector {
    /// Held for its end.
    _instance: Instance,
    runtime: Runtime,
    any: Session,
    without_graph: Session,
    queries: Vec<Vector>,
}

/// A connection with its settings. A statement keeps its plan, and so has its own for each beam.
struct Session {
    client: Client,
    statements: RefCell<HashMap<(usize, usize, usize), Statement>>,
}

impl Pgvector {
    /// Starts a server and fills a table; each filter is a set of rows.
    pub(crate) fn start(
        venv: &Venv,
        corpus: &Corpus,
        filters: &[&RoaringBitmap],
        shape: Shape,
    ) -> Result<Self> {
        let instance = Instance::start(venv)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (any, without_graph) = runtime.block_on(async {
            let owner = connect(&instance.uri, None).await?;
            owner.batch_execute(&schema(corpus.base.dimension, filters.len())).await?;
            fill(&owner, &corpus.base, filters).await?;
            owner.batch_execute(&indexes(filters.len(), shape)).await?;
            let settings = "LOAD 'vector'; SET hnsw.iterative_scan = relaxed_order";
            let any = Session::open(&instance.uri, settings).await?;
            // As pgvector's documentation does it to measure recall. The filter's index stays in
            // use, by bitmaps.
            let without = Session::open(&instance.uri, "SET enable_indexscan = off").await?;
            anyhow::Ok((any, without))
        })?;
        let queries = corpus.queries.rows().map(unit).collect();
        Ok(Self { _instance: instance, runtime, any, without_graph, queries })
    }

    /// Answers the first `limit` queries among the rows of one filter, one after another.
    pub(crate) fn search(
        &self,
        plans: Plans,
        beam: usize,
        k: usize,
        filter: usize,
        limit: usize,
    ) -> Result<Answers> {
        self.runtime.block_on(async {
            let session = match plans {
                Plans::Any => &self.any,
                Plans::WithoutGraph => &self.without_graph,
            };
            if plans == Plans::Any {
                let set = format!("SET hnsw.ef_search = {beam}");
                session.client.batch_execute(&set).await?;
            }
            let statement = session.statement(filter, beam, k).await?;
            let mut answers = Answers::default();
            for query in self.queries.iter().take(limit) {
                let started = Instant::now();
                let rows = session.client.query(&statement, &[query]).await?;
                answers.nanoseconds.push(started.elapsed().as_secs_f64() * 1e9);
                let ids = rows.iter().map(|row| u32::try_from(row.get::<_, i32>(0)));
                answers.ids.push(ids.collect::<Result<_, _>>()?);
            }
            Ok(answers)
        })
    }
}

impl Session {
    async fn open(uri: &str, settings: &str) -> Result<Self> {
        let client = connect(uri, None).await?;
        client.batch_execute(settings).await?;
        Ok(Self { client, statements: RefCell::default() })
    }

    async fn statement(&self, filter: usize, beam: usize, k: usize) -> Result<Statement> {
        let known = self.statements.borrow().get(&(filter, beam, k)).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let made = self.client.prepare(&query(filter, k)).await?;
        self.statements.borrow_mut().insert((filter, beam, k), made.clone());
        Ok(made)
    }
}

/// Vectors stay inside their rows; of length 1, so that the inner product, pgvector's fastest
/// comparison, orders as the cosine does.
fn schema(dimension: usize, filters: usize) -> String {
    let columns = columns(filters, |filter| format!(", f{filter} boolean"));
    format!(
        "CREATE EXTENSION vector;
         CREATE TABLE items (id int PRIMARY KEY, embedding vector({dimension}){columns});
         ALTER TABLE items ALTER embedding SET STORAGE PLAIN;"
    )
}

fn indexes(filters: usize, shape: Shape) -> String {
    let of_filters = columns(filters, |filter| format!("CREATE INDEX ON items (f{filter});\n"));
    format!(
        "SET maintenance_work_mem = '{BUILD_MEMORY}';
         SET max_parallel_maintenance_workers = {};
         {of_filters}
         CREATE INDEX ON items USING hnsw (embedding vector_ip_ops)
             WITH (m = {}, ef_construction = {});
         ANALYZE items;",
        shape.threads.saturating_sub(1),
        shape.connectivity,
        shape.build_beam
    )
}

fn query(filter: usize, k: usize) -> String {
    format!("SELECT id FROM items WHERE f{filter} ORDER BY embedding <#> $1 LIMIT {k}")
}

fn columns(filters: usize, column: impl Fn(usize) -> String) -> String {
    (0..filters).map(column).collect()
}

async fn fill(client: &Client, base: &Matrix, filters: &[&RoaringBitmap]) -> Result<()> {
    let flags = columns(filters.len(), |filter| format!(", ${}::boolean[]", filter + 3));
    let insert = format!("INSERT INTO items SELECT * FROM unnest($1::int[], $2::vector[]{flags})");
    let insert = client.prepare(&insert).await?;
    let mut rows = (0_i32..).zip(base.rows());
    loop {
        let part: Vec<_> = rows.by_ref().take(INSERT_ROWS).collect();
        if part.is_empty() {
            break;
        }
        let ids: Vec<i32> = part.iter().map(|(id, _)| *id).collect();
        let vectors: Vec<Vector> = part.iter().map(|(_, row)| unit(row)).collect();
        let flags: Vec<Vec<bool>> = filters
            .iter()
            .map(|filter| ids.iter().map(|id| filter.contains(id.unsigned_abs())).collect())
            .collect();
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&ids, &vectors];
        values.extend(flags.iter().map(|flags| flags as &(dyn ToSql + Sync)));
        client.execute(&insert, &values).await?;
    }
    client.batch_execute("VACUUM items").await.context("settle the table")
}

fn unit(row: &[f32]) -> Vector {
    let mut row = row.to_vec();
    normalise(&mut row);
    Vector(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_has_a_column_an_index_and_a_query() {
        let shape = Shape { connectivity: 16, build_beam: 100, candidates: 30, threads: 1 };
        assert!(schema(4, 2).contains("embedding vector(4), f0 boolean, f1 boolean);"));
        let made = indexes(2, shape);
        assert!(made.contains("ON items (f0);\nCREATE INDEX ON items (f1);"), "{made}");
        assert!(made.contains("m = 16, ef_construction = 100") && made.contains("workers = 0;"));
        let asked = query(1, 10);
        assert_eq!(asked, "SELECT id FROM items WHERE f1 ORDER BY embedding <#> $1 LIMIT 10");
    }
}
