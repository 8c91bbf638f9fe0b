//! Inserts and queries as request bodies, made before any clock starts, with the exact answers.

use super::{
    data::{DataSet, Record, Tenant, near},
    random::Random,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Records in one insert at most.
const BATCH_RECORDS: usize = 100;
/// Neighbours asked for.
pub(crate) const NEIGHBOURS: usize = 10;
/// How far queries lie from a stored vector.
const NOISE: f32 = 0.5;
/// Squared distances that differ by less count as equal: half-precision data has many ties.
const TIE: f32 = 1e-6;

/// One insert of one tenant.
#[derive(Debug)]
pub(crate) struct Insert {
    pub(crate) tenant: usize,
    pub(crate) records: usize,
    pub(crate) body: Vec<u8>,
}

/// One query of one tenant.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) tenant: usize,
    pub(crate) body: Vec<u8>,
    /// Ids that belong into the answer; more than `want` of them if distances are equal.
    nearest: HashSet<String>,
    want: usize,
}

impl Query {
    /// The share of the exact answer that these ids hold, from 0 to 1.
    pub(crate) fn recall(&self, answer: &Value) -> f64 {
        let ids = answer.pointer("/ids/0").and_then(Value::as_array);
        let found = ids.into_iter().flatten().filter_map(Value::as_str);
        let hits = found.filter(|id| self.nearest.contains(*id)).count();
        if self.want == 0 { 1.0 } else { hits.min(self.want) as f64 / self.want as f64 }
    }
}

/// The inserts of a data set, tenant after tenant. Vectors travel as Chroma's clients send them.
pub(crate) fn inserts(data: &DataSet) -> Vec<Insert> {
    let of_tenant = |(tenant, of): (usize, &Tenant)| {
        of.records
            .chunks(BATCH_RECORDS)
            .map(|batch| Insert { tenant, records: batch.len(), body: insert_body(batch) })
            .collect::<Vec<_>>()
    };
    data.tenants.iter().enumerate().flat_map(of_tenant).collect()
}

fn insert_body(batch: &[Record]) -> Vec<u8> {
    let column = |cell: fn(&Record) -> Value| batch.iter().map(cell).collect::<Value>();
    let body = json!({
        "ids": column(|r| json!(r.id)),
        "embeddings": column(|r| json!(STANDARD.encode(little_endian(&r.vector)))),
        "metadatas": column(|r| json!({"section": r.section, "priority": r.priority})),
        "documents": column(|r| json!(r.text)),
        "uris": null,
    });
    body.to_string().into_bytes()
}

fn little_endian(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Queries of random tenants near random records, with or without a filter on the record's
/// section.
pub(crate) fn queries(data: &DataSet, count: usize, filtered: bool, seed: u64) -> Vec<Query> {
    let mut random = Random::new(seed);
    (0..count).filter_map(|_| query(data, filtered, &mut random)).collect()
}

fn query(data: &DataSet, filtered: bool, random: &mut Random) -> Option<Query> {
    let tenant = random.below(data.tenants.len());
    let records = &data.tenants.get(tenant)?.records;
    let record = records.get(random.below(records.len()))?;
    let vector = near(random, &record.vector, NOISE);
    let section = filtered.then_some(record.section.as_str());
    let (nearest, want) = exact(records, &vector, section);
    let mut body = json!({
        "query_embeddings": [vector],
        "n_results": NEIGHBOURS,
        "include": ["metadatas", "documents", "distances"],
    });
    if let (Some(section), Some(fields)) = (section, body.as_object_mut()) {
        fields.insert("where".to_owned(), json!({"section": section}));
    }
    Some(Query { tenant, body: body.to_string().into_bytes(), nearest, want })
}

fn exact(records: &[Record], query: &[f32], section: Option<&str>) -> (HashSet<String>, usize) {
    let matching = records.iter().filter(|r| section.is_none_or(|s| r.section == s));
    let mut distances: Vec<_> =
        matching.map(|record| (distance(&record.vector, query), &record.id)).collect();
    distances.sort_by(|a, b| a.0.total_cmp(&b.0));
    let want = distances.len().min(NEIGHBOURS);
    let limit = distances.get(want.wrapping_sub(1)).map_or(0.0, |(last, _)| last + TIE);
    let nearest = distances.into_iter().take_while(|(d, _)| *d <= limit);
    (nearest.map(|(_, id)| id.clone()).collect(), want)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_record_once() {
        let data = DataSet::synthetic(1, 3, 600);
        let all = inserts(&data);
        assert_eq!(all.iter().map(|insert| insert.records).sum::<usize>(), data.records());
        assert!(all.iter().all(|insert| insert.records <= BATCH_RECORDS));
        assert!(all.len() > 3);
    }

    #[test]
    fn recall_counts_exact_neighbours() {
        let data = DataSet::synthetic(1, 1, 50);
        let record = data.tenants[0].records[7].clone();
        let (nearest, want) = exact(&data.tenants[0].records, &record.vector, None);
        assert!(nearest.contains(&record.id));
        assert_eq!((nearest.len(), want), (NEIGHBOURS, NEIGHBOURS));
        let query = Query { tenant: 0, body: Vec::new(), nearest: nearest.clone(), want };
        let all = json!({"ids": [nearest.iter().collect::<Vec<_>>()]});
        assert!((query.recall(&all) - 1.0).abs() < 1e-9);
        assert!((query.recall(&json!({"ids": [[record.id, "x"]]})) - 0.1).abs() < 1e-9);
        assert!(query.recall(&json!({})).abs() < 1e-9);
    }

    #[test]
    fn a_filtered_query_expects_only_its_section() {
        let data = DataSet::synthetic(1, 2, 200);
        for query in queries(&data, 20, true, 3) {
            let body: Value = serde_json::from_slice(&query.body).unwrap();
            let section = body.pointer("/where/section").and_then(Value::as_str).unwrap();
            let records = &data.tenants[query.tenant].records;
            let of = |id: &String| records.iter().find(|r| r.id == *id).unwrap().section.clone();
            assert!(query.nearest.iter().all(|id| of(id) == section));
        }
    }
}
