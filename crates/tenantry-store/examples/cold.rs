//! How long the first query of a cold collection takes: from the records, and from a saved index.
//!
//! ```sh
//! cargo run --release -p tenantry-store --example cold -- [records] [dimension] [rounds]
//! ```
//!
//! The folder is in the system's folder for temporary files; its pages are in the page cache, as
//! they are for a tenant that was used today. Between rounds the store is closed and opened.

use std::{
    path::Path,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Authority, Credential, Principal, Scope, TenantId};
use tenantry_store::{CollectionRef, EmbeddedConfig, Store};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, Include, Metric, QueryRequest, RecordId,
    RecordWrite, Result, TenantName, TenantSpec, Timestamp, Value, WriteMode,
};

/// Records of one write.
const BATCH: usize = 500;

/// SplitMix64, as numbers between -1 and 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    /// A vector near one of 100 centres.
    fn vector(&mut self, n: usize, dimension: usize) -> Vec<f32> {
        let mut centre = Self(n as u64 % 100);
        (0..dimension).map(|_| centre.next() + self.next() * 0.7).collect()
    }
}

fn record(n: usize, vector: Vec<f32>) -> Result<RecordWrite> {
    let value = Value::Int(i64::try_from(n % 100).unwrap_or(0));
    Ok(RecordWrite {
        vector: Some(vector),
        document: Some(format!("{n} is a text of usual length for a passage. ").repeat(8)),
        metadata: [("section".to_owned(), Some(value))].into(),
        ..RecordWrite::new(RecordId::parse(format!("record-{n}"))?)
    })
}

struct Opened {
    store: Store,
    authority: Authority,
    principal: Principal,
}

impl Opened {
    async fn open(folder: &Path, saves: bool) -> Result<Self> {
        let mut config = EmbeddedConfig::new(folder);
        config.memory_budget_bytes = 8 << 30;
        config.saved.close_within = Duration::from_secs(60);
        if !saves {
            config.saved.bytes_max = 0;
        }
        let store = Store::open_embedded(config)?;
        let authority = Authority::development();
        let principal = authority.authenticate(Credential::None, &store, Timestamp(0)).await?;
        Ok(Self { store, authority, principal })
    }

    fn scope(&self, tenant: TenantId) -> Result<Scope<Admin>> {
        self.authority.authorize(&self.principal, tenant, "tenant")
    }

    async fn fill(&self, records: usize, dimension: usize) -> Result<(TenantId, CollectionRef)> {
        let operator = self.authority.authorize_operator(&self.principal)?;
        let spec = TenantSpec::new(TenantName::parse("cold")?);
        let tenant = self.store.create_tenant(&operator, &spec).await?.id;
        let scope = self.scope(tenant)?;
        let database = self.store.database(&scope, &DatabaseName::default_database()).await?;
        let name = CollectionName::parse("c")?;
        let spec = CollectionSpec { metric: Metric::Cosine, ..CollectionSpec::new(name) };
        let collection = self.store.create_collection(&scope, &database, &spec, false).await?.0;
        let mut random = Random(1);
        for from in (0..records).step_by(BATCH) {
            let one = |n| record(n, random.vector(n, dimension));
            let batch = (from..records.min(from + BATCH)).map(one).collect::<Result<_>>()?;
            self.store.write(&scope, &collection, WriteMode::Upsert, batch).await?;
        }
        Ok((tenant, collection))
    }

    /// One query; how long it took, and whether a saved file answered it.
    async fn query(
        &self,
        (tenant, collection): &(TenantId, CollectionRef),
        vector: Vec<f32>,
    ) -> Result<(Duration, bool)> {
        let scope = self.scope(*tenant)?;
        let request = QueryRequest {
            vectors: vec![vector],
            k: 10,
            include: Include { document: true, metadata: true, ..Include::default() },
            ..QueryRequest::default()
        };
        let used = self.store.totals().saved_used;
        let begun = Instant::now();
        self.store.query(&scope, collection, &request).await?;
        let took = begun.elapsed();
        Ok((took, self.store.totals().saved_used > used))
    }

    /// Waits until the collection is in memory.
    async fn hot(&self, (tenant, collection): &(TenantId, CollectionRef)) -> Result<()> {
        let scope = self.scope(*tenant)?;
        while self.store.collection_statistics(&scope, collection).await?.value.memory.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let number = |at, or| std::env::args().nth(at).and_then(|n| n.parse().ok()).unwrap_or(or);
    let (records, dimension, rounds) = (number(1, 10_000), number(2, 384), number(3, 9));
    let folder = std::env::temp_dir().join(format!("tenantry-cold-{}", std::process::id()));
    let opened = Opened::open(&folder, false).await?;
    let place = opened.fill(records, dimension).await?;
    opened.store.close();
    println!("{records} records of {dimension} components; first query, then one in memory");
    for saves in [false, true] {
        let mut all = Vec::new();
        for round in 0..=rounds {
            let opened = Opened::open(&folder, saves).await?;
            let vector = Random(round as u64).vector(round, dimension);
            let (first, used) = opened.query(&place, vector.clone()).await?;
            opened.hot(&place).await?;
            let (then, _) = opened.query(&place, vector).await?;
            opened.store.close();
            // The first round of the second pass writes the file.
            if round > 0 {
                assert_eq!(used, saves, "it did not go the way it should");
                all.push((first, then));
            }
        }
        all.sort_unstable();
        let way = if saves { "saved index" } else { "records" };
        if let (Some(least), Some(median), Some(most)) =
            (all.first(), all.get(all.len() / 2), all.last())
        {
            println!(
                "{way:>12}: {:.1?} (from {:.1?} to {:.1?}), then {:.2?}",
                median.0, least.0, most.0, median.1
            );
        }
    }
    std::fs::remove_dir_all(&folder)
        .map_err(|why| tenantry_types::Error::internal("remove the folder").with_source(why))
}
