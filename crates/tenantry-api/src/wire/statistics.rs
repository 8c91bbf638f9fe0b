//! How a tenant's requests were answered.

use serde::Serialize;
use std::time::{Duration, Instant};
use tenantry_engine::{
    TenantInfo,
    busiest::{Endpoint, Outcome, Tally, TenantTotals},
};
use utoipa::ToSchema;

/// Requests, how they ended, and how long they took.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TallyOut {
    /// All of them.
    requests: u64,
    /// Those that were done.
    done: u64,
    /// Those that were not, for a reason that is the caller's: status 4xx.
    refused: u64,
    /// Those that were not, for a reason that is the server's: status 5xx.
    failed: u64,
    /// Those whose caller went before there was an answer.
    abandoned: u64,
    /// How long one of them took on average, in milliseconds; null if there was none.
    mean_ms: Option<f64>,
    /// How many took how long.
    latency: Vec<LatencyOut>,
}

/// Requests that took about as long.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LatencyOut {
    /// At most so many milliseconds, and more than in the entry before; null: longer than all.
    up_to_ms: Option<f64>,
    /// How many.
    requests: u64,
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

impl From<&Tally> for TallyOut {
    fn from(tally: &Tally) -> Self {
        let requests = tally.requests();
        let bounds = Tally::BOUNDS.iter().map(|bound| Some(milliseconds(*bound))).chain([None]);
        let latency = bounds.zip(tally.by_length());
        #[expect(clippy::cast_precision_loss, reason = "nobody counts so many requests")]
        let mean = |time: Duration| milliseconds(time) / requests as f64;
        Self {
            requests,
            done: tally.ended(Outcome::Done),
            refused: tally.ended(Outcome::Refused),
            failed: tally.ended(Outcome::Failed),
            abandoned: tally.ended(Outcome::Abandoned),
            mean_ms: (requests > 0).then(|| mean(tally.time())),
            latency: latency
                .map(|(up_to_ms, requests)| LatencyOut { up_to_ms, requests: *requests })
                .collect(),
        }
    }
}

/// The requests of one route.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointOut {
    /// `GET`, `POST` and so on; `(further)` for all that is not told apart any more.
    method: &'static str,
    /// The route, with `{name}` for each name; `(none)` for paths that are none.
    route: String,
    #[serde(flatten)]
    tally: TallyOut,
}

impl From<Endpoint> for EndpointOut {
    fn from(endpoint: Endpoint) -> Self {
        let tally = TallyOut::from(&endpoint.tally);
        Self { method: endpoint.method, route: endpoint.path, tally }
    }
}

/// How a tenant's requests were answered by this server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantStatisticsOut {
    /// The tenant's name.
    tenant: String,
    /// Its number, which is its label in metrics.
    id: u64,
    /// Whether it is one of the busiest, which are followed; if not, the rest is null.
    followed: bool,
    /// For how many seconds it is; requests of before are not counted here.
    followed_for_s: Option<u64>,
    /// All of its requests.
    all: Option<TallyOut>,
    /// The same by endpoint, the most asked first.
    endpoints: Option<Vec<EndpointOut>>,
}

impl TenantStatisticsOut {
    pub(crate) fn new(info: &TenantInfo, counted: Option<TenantTotals>, now: Instant) -> Self {
        let since = counted.as_ref().map(|counted| counted.since);
        let length = since.map(|since| now.saturating_duration_since(since).as_secs());
        Self {
            tenant: info.name.to_string(),
            id: info.id.get(),
            followed: counted.is_some(),
            followed_for_s: length,
            all: counted.as_ref().map(|counted| TallyOut::from(&counted.all)),
            endpoints: counted
                .map(|counted| counted.endpoints.into_iter().map(EndpointOut::from).collect()),
        }
    }
}
