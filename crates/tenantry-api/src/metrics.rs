//! Totals for Prometheus, for operators. A tenant is a number here, never its name, which somebody
//! else may get later; and only the busiest are told apart, so that there are never more series.

use crate::HttpTotals;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{fmt, time::Duration};
use tenantry_engine::{
    AllSizes, Engine, Error, Health, KeptSum, MoveTotals, PauseTotals, Result, TenantId,
    TenantSizes, Totals,
    busiest::{Outcome, Ranking, Tally},
};

pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All totals of the engine, what all tenants have if it was counted and, if requests are observed, of
/// HTTP and of tenants.
pub(crate) fn text(
    engine: &Engine,
    http: Option<&HttpTotals>,
    (all, tenants): (Option<AllSizes>, Option<TenantTotals>),
) -> Result<String> {
    let mut registry = Registry::with_prefix("tenantry");
    let ready = engine.health() == Health::Ready;
    registry.register_collector(Box::new(EngineTotals { totals: engine.totals(), ready }));
    if let Some(http) = http {
        http.register(&mut registry);
    }
    if let Some(all) = all {
        registry.register_collector(Box::new(AllTotals(all)));
    }
    if let Some(tenants) = tenants {
        registry.register_collector(Box::new(tenants));
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
        let (store, hooks) = (&totals.store, &totals.webhooks);
        for (name, help, value) in [
            ("records_written", "Records written", totals.records_written),
            ("records_deleted", "Records deleted", totals.records_deleted),
            ("queries", "Query vectors answered", totals.queries),
            ("unauthenticated", "Refusals for a missing or wrong key", totals.unauthenticated),
            ("denied", "Refusals for a missing right", totals.denied),
            ("cross_tenant_attempts", "Attempts at other tenants", totals.cross_tenant_attempts),
            ("logins_turned_away", "Refusals before a look at the key", totals.logins_turned_away),
            ("rate_limited", "Requests refused by their tenant's rates", totals.rate_limited),
            ("webhook_deliveries", "Events that arrived at webhooks", hooks.delivered),
            ("webhook_failures", "Attempts at webhooks that failed", hooks.failed),
            ("webhook_dead_letters", "Events given up for webhooks", hooks.given_up),
            ("webhook_dropped", "Events for webhooks dropped, too many waited", hooks.dropped),
            ("rate_leases", "Leases of rates that were taken", totals.shared.leases),
            ("rate_lease_failures", "Leases that were not answered", totals.shared.failures),
            ("rated_alone", "Requests rated without the other nodes", totals.shared.alone),
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
            ("webhook_events_waiting", "Events that wait for webhooks", hooks.waiting),
            ("webhook_dead_letters_kept", "Dead letters of webhooks", hooks.dead),
            ("rates_shared", "1 while nodes share rates", u64::from(totals.shared.is_shared)),
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

/// What all tenants have.
#[derive(Debug)]
struct AllTotals(AllSizes);

impl Collector for AllTotals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let AllSizes { total, uncounted, age, .. } = self.0;
        for (name, help, value) in [
            ("records", "Records of all tenants", total.records),
            ("storage_bytes", "Bytes of them, as they are counted", total.bytes),
            ("users", "Members of all tenants", total.users),
            ("uncounted_tenants", "Tenants whose records or bytes are not in these", uncounted),
            ("counted_seconds_ago", "Seconds since these were counted", age.as_secs()),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// How the busiest tenants are answered, and all others together; and how much those have.
#[derive(Debug)]
pub(crate) struct TenantTotals {
    tallies: Vec<(String, Tally)>,
    sizes: Vec<(TenantId, TenantSizes)>,
    others: Option<KeptSum>,
}

impl TenantTotals {
    pub(crate) fn new(
        ranking: Ranking,
        sizes: Vec<(TenantId, TenantSizes)>,
        others: Option<KeptSum>,
    ) -> Self {
        let tenants = ranking.tenants.into_iter().map(|(id, tally)| (id.to_string(), tally));
        let tallies = tenants.chain([("other".to_owned(), ranking.others)]).collect();
        Self { tallies, sizes, others }
    }

    /// A gauge of what each of them has, as far as it is known, and all others together.
    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        of: impl Fn(&TenantSizes) -> Option<u64>,
        others: impl Fn(&KeptSum) -> u64,
    ) -> fmt::Result {
        let mut all = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let known = self.sizes.iter().filter_map(|(id, sizes)| Some((id.to_string(), of(sizes)?)));
        let others = self.others.iter().map(|holdings| ("other".to_owned(), others(holdings)));
        for (tenant, value) in known.chain(others) {
            let labels = [("tenant", tenant)];
            ConstGauge::new(value).encode(all.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for TenantTotals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests with credentials of tenants, by tenant and how they ended";
        let mut all =
            encoder.encode_descriptor("tenant_requests", help, None, MetricType::Counter)?;
        for (tenant, tally) in &self.tallies {
            for outcome in Outcome::ALL {
                let labels = [("tenant", tenant.as_str()), ("outcome", outcome.word())];
                let count = ConstCounter::new(tally.ended(outcome));
                count.encode(all.encode_family(&labels)?)?;
            }
        }
        let help = "Seconds from the headers of a tenant's request to its answer's";
        let name = "tenant_request_duration_seconds";
        let mut all = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (tenant, tally) in &self.tallies {
            let bounds = Tally::BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(tally.by_length().iter().copied()).collect();
            let (sum, count) = (tally.time().as_secs_f64(), tally.requests());
            let labels = [("tenant", tenant.as_str())];
            let mut one = all.encode_family(&labels)?;
            one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        let help = "Records of the tenants that are told apart, and of all others";
        let what = ("tenant_records", help);
        self.gauge(&mut encoder, what, |sizes| Some(sizes.records), |all| all.records)?;
        let help = "Members of the tenants that are told apart, and of all others";
        let what = ("tenant_users", help);
        self.gauge(&mut encoder, what, |sizes| Some(sizes.users), |all| all.users)?;
        let help = "Bytes of their records where they are known, as they are counted";
        let what = ("tenant_storage_bytes", help);
        self.gauge(&mut encoder, what, TenantSizes::bytes, |all| all.bytes)
    }
}
