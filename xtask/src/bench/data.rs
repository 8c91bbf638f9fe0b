//! What the benchmark stores: packages of a distribution with real embeddings, a tenant for each
//! maintainer, or the same shape made from a seed.

use super::random::Random;
use crate::step::{command, output};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

const SYNTHETIC_DIMENSION: usize = 384;
const SYNTHETIC_SECTIONS: usize = 12;
const SYNTHETIC_CLUSTERS: usize = 6;

/// One record to store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) section: String,
    pub(crate) priority: String,
    pub(crate) vector: Vec<f32>,
}

/// What one tenant stores.
#[derive(Debug, PartialEq)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) records: Vec<Record>,
}

/// What all tenants store.
#[derive(Debug)]
pub(crate) struct DataSet {
    /// Where it comes from, for the report.
    pub(crate) origin: String,
    pub(crate) tenants: Vec<Tenant>,
}

impl DataSet {
    pub(crate) fn records(&self) -> usize {
        self.tenants.iter().map(|tenant| tenant.records.len()).sum()
    }

    /// Packages from a folder with `packages.jsonl.gz` and `vectors.f16.npy`: `tenants`
    /// maintainers of neighbouring size that have about `records` packages in all.
    pub(crate) fn load(folder: &Path, tenants: usize, records: usize) -> Result<Self> {
        let gzip = output(command("gzip", &["-dc"]).arg(folder.join("packages.jsonl.gz")))?;
        let lines = String::from_utf8(gzip).context("packages.jsonl.gz is not UTF-8")?;
        let npy = fs::read(folder.join("vectors.f16.npy")).context("read vectors.f16.npy")?;
        let vectors = Halves::parse(&npy)?;
        let mut by_maintainer: BTreeMap<String, Vec<(usize, Value)>> = BTreeMap::new();
        for (row, line) in lines.lines().enumerate() {
            let package: Value =
                serde_json::from_str(line).with_context(|| format!("line {row}"))?;
            by_maintainer.entry(text(&package, "maintainer")).or_default().push((row, package));
        }
        let mut groups: Vec<_> = by_maintainer.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let sizes: Vec<_> = groups.iter().map(Vec::len).collect();
        let start = window(&sizes, tenants, records).context("too few maintainers")?;
        let chosen = groups.into_iter().skip(start).take(tenants).enumerate();
        let tenants = chosen
            .map(|(index, group)| {
                Ok(Tenant { name: tenant_name(index), records: packages(&group, &vectors)? })
            })
            .collect::<Result<_>>()?;
        Ok(Self { origin: "packages with all-MiniLM-L6-v2 embeddings".to_owned(), tenants })
    }

    /// Tenants of unequal size whose vectors lie in clusters.
    pub(crate) fn synthetic(seed: u64, tenants: usize, records: usize) -> Self {
        let mut random = Random::new(seed);
        // Sizes fall linearly from 1.8 to 0.2 times the mean.
        let mean = records as f64 / tenants.max(1) as f64;
        let size = |index: usize| {
            let share = 1.8 - 1.6 * index as f64 / tenants.max(2).saturating_sub(1) as f64;
            whole(mean * share).max(1)
        };
        let tenants = (0..tenants)
            .map(|index| Tenant {
                name: tenant_name(index),
                records: synthetic_records(&mut random, size(index)),
            })
            .collect();
        Self { origin: format!("synthetic clusters, seed {seed}"), tenants }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn whole(number: f64) -> usize {
    number.round() as usize
}

fn tenant_name(index: usize) -> String {
    format!("tenant-{index:05}")
}

fn text(package: &Value, key: &str) -> String {
    package.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn packages(group: &[(usize, Value)], vectors: &Halves<'_>) -> Result<Vec<Record>> {
    let mut seen = HashSet::new();
    let mut records = Vec::with_capacity(group.len());
    for (row, package) in group {
        let id = text(package, "package");
        if seen.insert(id.clone()) {
            records.push(Record {
                id,
                text: text(package, "description"),
                section: text(package, "section"),
                priority: text(package, "priority"),
                vector: vectors.row(*row).with_context(|| format!("no vector {row}"))?,
            });
        }
    }
    Ok(records)
}

/// Where to start among falling sizes so that `count` of them add up to about `sum`.
fn window(sizes: &[usize], count: usize, sum: usize) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let sums = sizes.windows(count).map(|window| window.iter().sum::<usize>());
    sums.enumerate().min_by_key(|(_, found)| found.abs_diff(sum)).map(|(start, _)| start)
}

fn synthetic_records(random: &mut Random, count: usize) -> Vec<Record> {
    let centers: Vec<_> = (0..SYNTHETIC_CLUSTERS).map(|_| direction(random)).collect();
    (0..count)
        .map(|index| {
            let cluster = random.below(SYNTHETIC_CLUSTERS);
            let center = centers.get(cluster).cloned().unwrap_or_default();
            Record {
                id: format!("record-{index:05}"),
                text: format!("Record {index} of cluster {cluster}. ").repeat(12),
                section: format!("section-{}", random.below(SYNTHETIC_SECTIONS)),
                priority: "optional".to_owned(),
                vector: near(random, &center, 0.5),
            }
        })
        .collect()
}

fn direction(random: &mut Random) -> Vec<f32> {
    normalized((0..SYNTHETIC_DIMENSION).map(|_| random.normal()).collect())
}

/// A unit vector near another one; `noise` is the length of what is added.
pub(crate) fn near(random: &mut Random, center: &[f32], noise: f32) -> Vec<f32> {
    let scale = noise / (center.len() as f32).sqrt();
    normalized(center.iter().map(|x| x + scale * random.normal()).collect())
}

fn normalized(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for x in &mut vector {
            *x /= length;
        }
    }
    vector
}

/// A NumPy file of little-endian half-precision rows.
#[derive(Debug)]
struct Halves<'a> {
    bytes: &'a [u8],
    columns: usize,
}

impl<'a> Halves<'a> {
    fn parse(file: &'a [u8]) -> Result<Self> {
        ensure!(file.starts_with(b"\x93NUMPY\x01\x00"), "not a NumPy file of version 1.0");
        let length = file.get(8..10).context("no header length")?;
        let length = usize::from(u16::from_le_bytes(length.try_into()?));
        let header = std::str::from_utf8(file.get(10..10 + length).context("no header")?)?;
        if !header.contains("'<f2'") || !header.contains("'fortran_order': False") {
            bail!("expected rows of '<f2', found {header}");
        }
        let shape = header.split_once("'shape': (").context("no shape")?.1;
        let columns = shape.split([',', ')']).nth(1).context("no columns")?.trim().parse()?;
        Ok(Self { bytes: file.get(10 + length..).unwrap_or_default(), columns })
    }

    fn row(&self, index: usize) -> Option<Vec<f32>> {
        let width = self.columns * 2;
        let row = self.bytes.get(index * width..(index + 1) * width)?;
        let pairs = row.chunks_exact(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok());
        Some(pairs.map(|pair| widen(u16::from_le_bytes(pair))).collect())
    }
}

/// A half-precision number as a single-precision one.
fn widen(half: u16) -> f32 {
    let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((half >> 10) & 0x1f);
    let fraction = f32::from(half & 0x3ff) / 1_024.0;
    sign * match exponent {
        0 => fraction * 2.0_f32.powi(-14),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        _ => (1.0 + fraction) * 2.0_f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_read_exactly() {
        for (half, expected) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65_504.0),
            (0x0000, 0.0),
        ] {
            assert_eq!(widen(half).to_bits(), f32::to_bits(expected), "{half:#x}");
        }
        assert!(widen(0x7e00).is_nan() && widen(0xfc00).is_infinite());
    }

    #[test]
    fn rows_of_a_numpy_file_are_read() {
        let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2), }\n";
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        file.extend(header.as_bytes());
        file.extend([0x00, 0x3c, 0x00, 0x40, 0x00, 0xbc, 0x00, 0x00]);
        let halves = Halves::parse(&file).unwrap();
        assert_eq!(halves.row(0), Some(vec![1.0, 2.0]));
        assert_eq!(halves.row(1), Some(vec![-1.0, 0.0]));
        assert_eq!(halves.row(2), None);
        assert!(Halves::parse(b"PK").is_err());
    }

    #[test]
    fn the_window_comes_nearest_to_the_asked_sum() {
        let sizes = [50, 20, 10, 5, 1];
        assert_eq!(window(&sizes, 2, 31), Some(1));
        assert_eq!(window(&sizes, 2, 1_000), Some(0));
        assert_eq!(window(&sizes, 6, 10), None);
    }

    #[test]
    fn synthetic_data_has_the_asked_size_and_depends_on_the_seed_alone() {
        let made = DataSet::synthetic(1, 20, 640);
        assert_eq!(made.tenants.len(), 20);
        assert!(made.records().abs_diff(640) < 20, "{}", made.records());
        assert_eq!(made.tenants, DataSet::synthetic(1, 20, 640).tenants);
        assert_ne!(made.tenants, DataSet::synthetic(2, 20, 640).tenants);
        let lengths = made
            .tenants
            .iter()
            .flat_map(|t| &t.records)
            .map(|r| r.vector.iter().map(|x| x * x).sum::<f32>());
        assert!(lengths.into_iter().all(|length| (length - 1.0).abs() < 1e-3));
    }
}
