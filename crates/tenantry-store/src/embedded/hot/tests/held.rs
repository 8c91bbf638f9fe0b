//! What the budget counts is what the process has.
//!
//! Memory is measured in a process of its own: this test binary again, one test of it.

use super::collection;
use crate::{
    Origin,
    embedded::{
        disk::Body,
        partition::{Partition, PartitionConfig},
        write::VECTOR,
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    process::Command,
    sync::Arc,
};
use tenantry_auth::TenantId;
use tenantry_index::IndexConfig;
use tenantry_types::{CollectionNumber, Value};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ALONE: &str = "TENANTRY_MEASURE_MEMORY";
const DIMENSION: u16 = 384;

/// Memory of this process that is not mapped from files.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<usize>().unwrap() << 10
}

/// Records as they come from disk: a text of 300 bytes and four keys.
fn partition(number: u32, records: u32) -> Partition {
    let origin = Origin { tenant: TenantId::new(1), collection: CollectionNumber(number) };
    let config = PartitionConfig { index: IndexConfig::default(), metadata_bytes_max: 0 };
    let mut partition = Partition::new(origin, &collection(number), config);
    partition.reserve(records as usize);
    for record in 0..records {
        let metadata = BTreeMap::from([
            ("section".to_owned(), Value::Str(format!("section-{}", record % 12))),
            ("source".to_owned(), Value::Str(format!("documents/{number}/{record}.md"))),
            ("page".to_owned(), Value::Int(record.into())),
            ("score".to_owned(), Value::Float(0.5)),
        ]);
        let body = Body {
            id: format!("record-{record:06}"),
            document: Some("text".repeat(75).into()),
            uri: None,
            metadata: Some(Arc::new(metadata)),
            version: 1,
            expires_at: None,
            vectors: None,
        };
        let body = Body::decode(&body.encode()).unwrap();
        partition.put(record.into(), body, &[]);
    }
    for record in 0..records {
        let offset = number as f32;
        let vector: Vec<f32> = (0..DIMENSION).map(|at| f32::from(at % 77) + offset).collect();
        partition.set_vector(record, VECTOR, &vector);
    }
    partition
}

fn sum(partitions: &VecDeque<Partition>) -> usize {
    partitions.iter().map(Partition::bytes).sum()
}

#[test]
fn child_that_is_measured() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let before = resident();
    let mut partitions: VecDeque<_> = (0..60).map(|number| partition(number, 120)).collect();
    partitions.extend((60..62).map(|number| partition(number, 3_000)));
    let most = sum(&partitions);
    let taken = resident() - before;
    assert!(taken.abs_diff(most) < most / 10, "loaded: counted {most}, taken {taken}");
    // Others come and go, of all sizes and from several threads.
    let mut number = 100;
    for round in 0..6 {
        for size in [40, 120, 300, 700, 1_500] {
            // As the store does it: room is made before a byte is read.
            while sum(&partitions) + 4 * size as usize * 3_500 > most {
                partitions.pop_front();
            }
            let loads: Vec<_> = (0..4)
                .map(|_| {
                    number += 1;
                    std::thread::spawn(move || partition(number, size))
                })
                .collect();
            partitions.extend(loads.into_iter().map(|load| load.join().unwrap()));
        }
        let taken = resident() - before;
        println!("round {round}: at most {most}, counted {}, taken {taken}", sum(&partitions));
        assert!(taken < most + most / 10, "round {round}: at most {most}, taken {taken}");
    }
    println!("measured");
}

/// With the program's allocator. With glibc's the same loads take nearly twice the memory: what is
/// freed by one thread is of no use to another.
#[test]
fn what_is_counted_is_what_is_taken() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["embedded::hot::tests::held::child_that_is_measured", "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("measured"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
