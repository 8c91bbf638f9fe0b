//! Totals for Prometheus. No label names a tenant: a tenant's numbers are its own.

use crate::HttpTotals;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{fmt, time::Duration};
use tenantry_engine::{Engine, Error, Health, MoveTotals, PauseTotals, Result, Totals};

pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All totals of the engine and, if requests are observed, of HTTP.
pub(crate) fn text(engine: &Engine, http: Option<&HttpTotals>) -> Result<String> {
    let mut registry = Registry::with_prefix("tenantry");
    let ready = engine.health() == Health::Ready;
    registry.register_collector(Box::new(EngineTotals { totals: engine.totals(), ready }));
    if let Some(http) = http {
        http.register(&mut registry);
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|e| Error::internal("write metrics").with_source(e))?;
    Ok(text)
}

#[derive(Debug)]
struct EngineTotals {
    totals: Totals,
    ready: bool,
}

impl Collector for EngineTotals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::result::Result<(), fmt::Error> {
        let totals = &self.totals;
        let store = &totals.store;
        for (name, help, value) in [
            ("records_written", "Records written", totals.records_written),
            ("records_deleted", "Records deleted", totals.records_deleted),
            ("queries", "Query vectors answered", totals.queries),
            ("unauthenticated", "Refusals for a missing or wrong key", totals.unauthenticated),
            ("denied", "Refusals for a missing right", totals.denied),
            ("cross_tenant_attempts", "Attempts at other tenants", totals.cross_tenant_attempts),
            ("rate_limited", "Requests refused by their tenant's rates", totals.rate_limited),
            ("commits", "Commits acknowledged", store.commits),
            ("syncs", "Synchronised journal writes", store.syncs),
            ("partition_loads", "Partitions loaded from disk", store.loads),
            ("partition_loads_waited", "Loads that waited for memory", store.loads_waited),
            ("partition_loads_refused", "Loads refused, too many waited", store.loads_refused),
            ("partition_evictions", "Partitions dropped from memory", store.evictions),
            ("index_maintenance", "Pieces of index maintenance done", store.maintenance),
            ("saved_indexes_written", "Indexes written to saved files", store.saved_written),
            ("saved_indexes_used", "Cold queries answered from saved files", store.saved_used),
            ("saved_indexes_refused", "Saved files that were damaged", store.saved_refused),
            ("turns", "Turns that tenants' work was given", store.pool.turns),
            ("turns_waited", "Turns that had to wait", store.pool.waits),
            ("turns_refused", "Work refused because too much waited", store.pool.refused),
            ("turns_cpu_nanoseconds", "CPU time used in turns", store.pool.cpu_ns),
            ("move_bytes_copied", "Bytes written at new places", store.moves.bytes_copied),
            ("move_bytes_compared", "Bytes of copies compared", store.moves.bytes_compared),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        for (name, help, value) in [
            ("rated_tenants", "Tenants with used-up parts of rates", totals.rated_tenants),
            ("open_databases", "Databases that are open", store.open_databases),
            ("read_only_databases", "Databases that take no writes", store.read_only_databases),
            ("connections_open", "Connections to PostgreSQL", store.connections.open),
            ("connections_busy", "Those of them in use", store.connections.busy),
            ("connections_waiting", "Requests that wait for one", store.connections.waiting),
            ("hot_bytes", "Bytes of hot partitions in memory", store.hot_bytes),
            ("hot_partitions", "Hot partitions in memory", store.hot_partitions),
            ("hot_budget_bytes", "Bytes that partitions may take", store.hot_budget_bytes),
            ("loading_bytes", "Bytes reserved for loads under way", store.loading_bytes),
            ("leaving_bytes", "Bytes dropped and still in use", store.leaving_bytes),
            ("partition_loads_waiting", "Loads that wait for memory", store.loads_waiting),
            ("saved_indexes_bytes", "Bytes of saved index files", store.saved_bytes),
            ("turns_waiting", "Turns waited for", store.pool.waiting as u64),
            ("turns_busy", "Turns being used", store.pool.busy as u64),
            ("moves_running", "Moves of tenants that were begun", store.moves.running),
            ("moves_queued", "Moves of tenants that others are before", store.moves.queued),
            ("ready", "1 if the server reads and writes", u64::from(self.ready)),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        moves(&mut encoder, &store.moves)
    }
}

/// How moves of tenants ended, and for how long writes waited.
fn moves(encoder: &mut DescriptorEncoder<'_>, moves: &MoveTotals) -> fmt::Result {
    let help = "Moves of tenants that are over, by how they ended";
    let mut all = encoder.encode_descriptor("moves", help, None, MetricType::Counter)?;
    for (outcome, count) in
        [("done", moves.done), ("cancelled", moves.cancelled), ("failed", moves.failed)]
    {
        ConstCounter::new(count).encode(all.encode_family(&[("outcome", outcome)])?)?;
    }
    let help = "Seconds for which writes of a tenant that is moved waited";
    let name = "move_pause_seconds";
    let mut pauses = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    let bounds = PauseTotals::BOUNDS.iter().map(Duration::as_secs_f64);
    let bounds = bounds.chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(moves.pauses.by_length).collect();
    let (sum, count) = (moves.pauses.sum.as_secs_f64(), moves.pauses.count());
    pauses.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}
