//! What the servers store: packages of a distribution with real embeddings, a tenant for each
//! maintainer, or the same shape made from a seed; and what their users ask.

use crate::{
    corpus::{gzip_lines, normalise},
    npy,
    random::{Random, Zipf},
};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

/// Records in one insert at most.
const BATCH_RECORDS: usize = 100;
/// Neighbours asked for.
pub(crate) const NEIGHBOURS: usize = 10;
/// How far queries lie from a stored vector.
const NOISE: f32 = 0.5;
/// Squared distances that differ by less count as equal: half-precision data has many ties.
const TIE: f32 = 1e-6;
const SYNTHETIC_SECTIONS: usize = 12;
const SYNTHETIC_CLUSTERS: usize = 6;
/// Different synthetic records at most; more are made of these with other ids.
const SYNTHETIC_POOL: usize = 50_000;

/// Which tenants.
#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// A folder with `vectors.f16.npy` and `packages.jsonl.gz`; without it, synthetic clusters
    #[arg(long)]
    data: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// As many tenants as there are maintainers, or fewer.
#[derive(Debug, Args)]
pub(crate) struct Crowd {
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// How many tenants at most
    #[arg(long, default_value_t = 2_249, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    tenants: u16,
    /// How many records synthetic tenants have together
    #[arg(long, default_value_t = 63_000)]
    records: usize,
}

impl Crowd {
    /// All of them.
    pub(crate) fn tenants(&self) -> Result<Tenants> {
        self.choice.maintainers(self.tenants.into(), self.records)
    }
}

/// One record to store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) section: String,
    pub(crate) vector: Vec<f32>,
}

/// What one tenant stores.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) records: Vec<Record>,
}

/// What all tenants store, the largest first.
#[derive(Debug)]
pub(crate) struct Tenants {
    /// Where it comes from, for the report.
    pub(crate) origin: String,
    pub(crate) all: Vec<Tenant>,
}

impl Choice {
    /// A tenant for each maintainer, or as many synthetic ones; `most` of them at most, of all
    /// sizes.
    fn maintainers(&self, most: usize, synthetic_records: usize) -> Result<Tenants> {
        let Some(folder) = &self.data else {
            return Ok(synthetic(self.seed, most, synthetic_records));
        };
        let mut groups: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for (maintainer, record) in packages(folder)? {
            groups.entry(maintainer).or_default().push(record);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let found = groups.len();
        let count = most.min(found).max(1);
        let all = (0..count)
            .filter_map(|index| groups.get_mut(index * found / count).map(std::mem::take))
            .enumerate()
            .map(|(index, records)| Tenant { name: tenant_name(index), records })
            .collect();
        Ok(Tenants {
            origin: "packages by maintainer, all-MiniLM-L6-v2 embeddings".to_owned(),
            all,
        })
    }

    /// Tenants with `records` records each. Where the data has fewer, it is used again; no id
    /// occurs twice.
    pub(crate) fn even(&self, tenants: usize, records: usize) -> Result<Tenants> {
        self.of_sizes(&vec![records; tenants])
    }

    /// Tenants whose sizes fall evenly by ratio from `most` to `least` records; data as for
    /// [`Self::even`].
    pub(crate) fn uneven(&self, tenants: usize, least: usize, most: usize) -> Result<Tenants> {
        let ratio = least as f64 / most.max(1) as f64;
        let last = tenants.saturating_sub(1).max(1) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let size = |rank| (most as f64 * ratio.powf(rank as f64 / last)).round() as usize;
        self.of_sizes(&(0..tenants).map(size).collect::<Vec<_>>())
    }

    fn of_sizes(&self, sizes: &[usize]) -> Result<Tenants> {
        let mut random = Random::new(self.seed);
        let (origin, pool) = match &self.data {
            Some(folder) => {
                let mut all: Vec<_> =
                    packages(folder)?.into_iter().map(|(_, record)| record).collect();
                (1..all.len()).rev().for_each(|last| all.swap(last, random.below(last + 1)));
                ("packages, all-MiniLM-L6-v2 embeddings".to_owned(), all)
            }
            None => {
                let most = sizes.iter().sum::<usize>().min(SYNTHETIC_POOL);
                let origin = format!("synthetic clusters, seed {}", self.seed);
                (origin, synthetic_records(&mut random, most))
            }
        };
        ensure!(!pool.is_empty(), "there are no records");
        let mut numbered = (0_usize..).zip(pool.iter().cycle()).map(|(number, record)| {
            let id = format!("{number:07}-{}", record.id);
            Record { id, ..record.clone() }
        });
        let tenant = |(index, size): (usize, &usize)| Tenant {
            name: tenant_name(index),
            records: numbered.by_ref().take(*size).collect(),
        };
        let all = sizes.iter().enumerate().map(tenant).collect();
        Ok(Tenants { origin, all })
    }

    /// Two tenants with as many records each.
    pub(crate) fn pair(&self, records: usize) -> Result<Tenants> {
        let all = self.alike(["quiet", "loud"], records)?;
        Ok(Tenants { origin: "two tenants alike".to_owned(), all })
    }

    /// One tenant.
    pub(crate) fn one(&self, records: usize) -> Result<Tenants> {
        let all = self.alike(["only"], records)?;
        let origin = match &self.data {
            Some(_) => "packages with all-MiniLM-L6-v2 embeddings".to_owned(),
            None => format!("synthetic clusters, seed {}", self.seed),
        };
        Ok(Tenants { origin, all })
    }

    /// Tenants with as many random records each.
    fn alike<const N: usize>(&self, names: [&str; N], records: usize) -> Result<Vec<Tenant>> {
        let found: [Vec<Record>; N] = match &self.data {
            Some(folder) => {
                let mut all: Vec<_> =
                    packages(folder)?.into_iter().map(|(_, record)| record).collect();
                Random::new(self.seed).shuffle(&mut all);
                let mut parts = all.chunks(records.max(1)).map(<[Record]>::to_vec);
                [(); N].map(|()| parts.next().unwrap_or_default())
            }
            None => {
                let mut random = Random::new(self.seed);
                [(); N].map(|()| synthetic_records(&mut random, records))
            }
        };
        ensure!(found.iter().all(|one| !one.is_empty()), "too few records for {N} tenants");
        let tenant = |(name, records): (&str, _)| Tenant { name: name.to_owned(), records };
        Ok(names.into_iter().zip(found).map(tenant).collect())
    }
}

impl Tenants {
    pub(crate) fn records(&self) -> usize {
        self.all.iter().map(|tenant| tenant.records.len()).sum()
    }

    /// Components of the vectors.
    pub(crate) fn dimension(&self) -> usize {
        let first = self.all.iter().flat_map(|tenant| &tenant.records).next();
        first.map_or(0, |record| record.vector.len())
    }

    /// The inserts of all tenants, tenant after tenant.
    pub(crate) fn inserts(&self) -> Vec<Insert> {
        let of_tenant = |(tenant, of): (usize, &Tenant)| {
            let batches = of.records.chunks(BATCH_RECORDS);
            batches.map(|batch| Insert { tenant, records: batch.to_vec() }).collect::<Vec<_>>()
        };
        self.all.iter().enumerate().flat_map(of_tenant).collect()
    }

    /// Queries near random records of tenants that ask by Zipf's law, the largest most.
    pub(crate) fn queries(&self, count: usize, skew: f64, seed: u64) -> Vec<Query> {
        let zipf = Zipf::new(self.all.len(), skew);
        let mut random = Random::new(seed);
        (0..count).filter_map(|_| self.query(zipf.draw(&mut random), &mut random)).collect()
    }

    /// Queries of one tenant.
    pub(crate) fn queries_of(&self, tenant: usize, count: usize, seed: u64) -> Vec<Query> {
        let mut random = Random::new(seed);
        (0..count).filter_map(|_| self.query(tenant, &mut random)).collect()
    }

    fn query(&self, tenant: usize, random: &mut Random) -> Option<Query> {
        let records = &self.all.get(tenant)?.records;
        let record = records.get(random.below(records.len()))?;
        let vector = near(random, &record.vector, NOISE);
        let (nearest, wanted) = exact(records, &vector);
        Some(Query { tenant, vector, nearest, wanted })
    }
}

/// One insert of one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub(crate) tenant: usize,
    pub(crate) records: Vec<Record>,
}

impl Insert {
    /// The body in Chroma's protocol, vectors as its clients send them.
    pub(crate) fn body(&self) -> Vec<u8> {
        let column = |cell: fn(&Record) -> Value| self.records.iter().map(cell).collect::<Value>();
        let body = json!({
            "ids": column(|r| json!(r.id)),
            "embeddings": column(|r| json!(STANDARD.encode(little_endian(&r.vector)))),
            "metadatas": column(|r| json!({"section": r.section})),
            "documents": column(|r| json!(r.text)),
            "uris": null,
        });
        body.to_string().into_bytes()
    }
}

/// One query of one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) tenant: usize,
    pub(crate) vector: Vec<f32>,
    /// Ids that belong into the answer; more than `wanted` of them if distances are equal.
    nearest: HashSet<String>,
    wanted: usize,
}

impl Query {
    /// The body in Chroma's protocol.
    pub(crate) fn body(&self) -> Vec<u8> {
        let body = json!({
            "query_embeddings": [self.vector],
            "n_results": NEIGHBOURS,
            "include": ["metadatas", "documents", "distances"],
        });
        body.to_string().into_bytes()
    }

    /// The share of the exact answer that these ids hold, from 0 to 1.
    pub(crate) fn recall<'a>(&self, ids: impl Iterator<Item = &'a str>) -> f64 {
        let ids: HashSet<_> = ids.collect();
        let hits = ids.into_iter().filter(|id| self.nearest.contains(*id)).count();
        if self.wanted == 0 { 1.0 } else { hits.min(self.wanted) as f64 / self.wanted as f64 }
    }
}

fn packages(folder: &Path) -> Result<Vec<(String, Record)>> {
    let file = folder.join("vectors.f16.npy");
    let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let vectors = npy::parse(&bytes)?;
    let mut seen = HashSet::new();
    let mut packages = Vec::new();
    for (row, line) in gzip_lines(&folder.join("packages.jsonl.gz"))?.lines().enumerate() {
        let package: Value = serde_json::from_str(line).with_context(|| format!("line {row}"))?;
        let text =
            |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (id, maintainer) = (text("package"), text("maintainer"));
        let vector = vectors.row(row).to_vec();
        ensure!(!vector.is_empty(), "line {row} has no vector");
        if seen.insert((maintainer.clone(), id.clone())) {
            let record = Record { id, text: text("description"), section: text("section"), vector };
            packages.push((maintainer, record));
        }
    }
    Ok(packages)
}

/// Tenants whose sizes fall by Zipf's law, each with vectors in a few clusters.
fn synthetic(seed: u64, tenants: usize, records: usize) -> Tenants {
    let mut random = Random::new(seed);
    let sum: f64 = (1..=tenants).map(|rank| 1.0 / rank as f64).sum();
    let all = (0..tenants)
        .map(|index| {
            let share = records as f64 / sum / (index as f64 + 1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let size = share.round().max(1.0) as usize;
            Tenant { name: tenant_name(index), records: synthetic_records(&mut random, size) }
        })
        .collect();
    Tenants { origin: format!("synthetic clusters, seed {seed}"), all }
}

fn synthetic_records(random: &mut Random, count: usize) -> Vec<Record> {
    let centre = vec![0.0; 384];
    let centres: Vec<_> = (0..SYNTHETIC_CLUSTERS).map(|_| near(random, &centre, 1.0)).collect();
    (0..count)
        .map(|index| {
            let cluster = random.below(SYNTHETIC_CLUSTERS);
            Record {
                id: format!("record-{index:05}"),
                text: format!("Record {index} of cluster {cluster}. ").repeat(12),
                section: format!("section-{}", random.below(SYNTHETIC_SECTIONS)),
                vector: near(random, centres.get(cluster).unwrap_or(&centre), NOISE),
            }
        })
        .collect()
}

/// A unit vector near another one; `noise` is the length of what is added.
fn near(random: &mut Random, centre: &[f32], noise: f32) -> Vec<f32> {
    let scale = noise / (centre.len() as f32).sqrt();
    let mut vector: Vec<f32> = centre.iter().map(|x| x + scale * random.normal()).collect();
    normalise(&mut vector);
    vector
}

fn tenant_name(index: usize) -> String {
    format!("tenant-{index:05}")
}

fn little_endian(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn exact(records: &[Record], query: &[f32]) -> (HashSet<String>, usize) {
    let distance = |record: &Record| -> f32 {
        record.vector.iter().zip(query).map(|(x, y)| (x - y) * (x - y)).sum()
    };
    let mut distances: Vec<_> =
        records.iter().map(|record| (distance(record), &record.id)).collect();
    distances.sort_by(|a, b| a.0.total_cmp(&b.0));
    let wanted = distances.len().min(NEIGHBOURS);
    let limit = distances.get(wanted.wrapping_sub(1)).map_or(0.0, |(last, _)| last + TIE);
    let nearest = distances.into_iter().take_while(|(d, _)| *d <= limit);
    (nearest.map(|(_, id)| id.clone()).collect(), wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_record_once() {
        let tenants = synthetic(1, 3, 600);
        let inserts = tenants.inserts();
        assert_eq!(inserts.iter().map(|one| one.records.len()).sum::<usize>(), tenants.records());
        assert!(inserts.iter().all(|one| one.records.len() <= BATCH_RECORDS));
        let body: Value = serde_json::from_slice(&inserts[0].body()).unwrap();
        assert_eq!(body["ids"].as_array().unwrap().len(), inserts[0].records.len());
    }

    #[test]
    fn sizes_fall_by_zipfs_law_and_depend_on_the_seed_alone() {
        let tenants = synthetic(1, 20, 2_000);
        assert!(tenants.records().abs_diff(2_000) < 20, "{}", tenants.records());
        let sizes: Vec<_> = tenants.all.iter().map(|tenant| tenant.records.len()).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0].abs_diff(2 * sizes[1]) <= 1);
        assert_eq!(tenants.all, synthetic(1, 20, 2_000).all);
        assert_ne!(tenants.all, synthetic(2, 20, 2_000).all);
    }

    #[test]
    fn large_tenants_ask_most_and_recall_counts_exact_neighbours() {
        let tenants = synthetic(1, 10, 500);
        let queries = tenants.queries(500, 1.0, 7);
        let of = |tenant| queries.iter().filter(|query| query.tenant == tenant).count();
        assert!(of(0) > 3 * of(9), "{} {}", of(0), of(9));
        let query = &queries[0];
        assert_eq!(query.nearest.len(), query.wanted);
        let ids = || query.nearest.iter().map(String::as_str);
        assert!((query.recall(ids()) - 1.0).abs() < 1e-9);
        let half = query.recall(ids().take(query.wanted / 2));
        assert!((half - (query.wanted / 2) as f64 / query.wanted as f64).abs() < 1e-9);
        assert!(query.recall(std::iter::empty()).abs() < 1e-9);
    }

    #[test]
    fn uneven_sizes_fall_from_the_most_to_the_least() {
        let choice = Choice { data: None, seed: 4 };
        let sizes = |tenants, least, most| -> Vec<_> {
            let made = choice.uneven(tenants, least, most).unwrap();
            made.all.iter().map(|one| one.records.len()).collect()
        };
        assert_eq!(sizes(3, 2, 50), [50, 10, 2]);
        assert_eq!(sizes(1, 2, 50), [50]);
    }

    #[test]
    fn two_tenants_are_alike_in_size() {
        let choice = Choice { data: None, seed: 4 };
        let both = choice.pair(50).unwrap();
        assert_eq!(both.all.iter().map(|one| one.records.len()).collect::<Vec<_>>(), [50, 50]);
        assert_ne!(both.all[0].records, both.all[1].records);
        assert!(choice.pair(0).is_err() && choice.one(0).is_err());
        assert_eq!(choice.one(30).unwrap().records(), 30);
        assert_eq!(both.queries_of(1, 3, 1).len(), 3);
    }
}
