//! The layer around every protocol: request ids, traces, one log line a request, totals, and a last
//! net under handlers that panic.

use crate::{error::error_body, held, trace};
use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    future::poll_fn,
    hash::{BuildHasher as _, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};
use tenantry_engine::{
    Payer, TenantId,
    busiest::{Busiest, Outcome, Served},
};
use tracing::{Instrument as _, Span};

/// The header that carries a request's id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const REQUEST_ID_BYTES_MAX: usize = 64;
/// 0.5 ms to 16 s, doubling.
const LATENCY_BUCKETS_S: [f64; 16] = [
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0,
    8.0, 16.0,
];
/// What proxies write when a client goes before its answer comes; no status is sent.
const CLIENT_CLOSED: u16 = 499;

type Labels = [(&'static str, &'static str); 2];

/// Totals over all observed requests of all listeners. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct HttpTotals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    busiest: Busiest,
    requests: Family<Labels, Counter>,
    latency: Histogram,
    in_flight: Gauge,
}

impl HttpTotals {
    /// Totals of nothing yet. Hand one to every [`observe`] of a server.
    pub fn new() -> Self {
        Self::with_tenants(0)
    }

    /// Totals that tell so many of the busiest tenants apart, for operators.
    pub fn with_tenants(most: usize) -> Self {
        Self(Arc::new(Inner {
            busiest: Busiest::new(most),
            requests: Family::default(),
            latency: Histogram::new(LATENCY_BUCKETS_S),
            in_flight: Gauge::default(),
        }))
    }

    /// Who asks most.
    pub(crate) fn busiest(&self) -> &Busiest {
        &self.0.busiest
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let inner = &self.0;
        let help = "HTTP requests by method and class of status";
        registry.register("http_requests", help, inner.requests.clone());
        let help = "Seconds from a request's headers to its answer's";
        registry.register("http_request_duration_seconds", help, inner.latency.clone());
        let help = "HTTP requests being served";
        registry.register("http_requests_in_flight", help, inner.in_flight.clone());
    }
}

impl Default for HttpTotals {
    fn default() -> Self {
        Self::new()
    }
}

/// Wraps a listener's whole router: must be the last layer added to it.
///
/// - `x-request-id`: a sane one (1 to 64 visible ASCII characters) is kept, another is replaced.
///   Handlers find it in the request's headers, callers in the answer's.
/// - One `tracing` event a request at info level: method, route (never the path, which holds
///   names), status, latency in milliseconds, request id and, if known, the tenant's number. The
///   tenant is read from the response's extensions, a [`TenantId`]; else it is the credential's,
///   as whoever authenticates says to the [`Payer`] among the request's extensions.
/// - That line and all that is logged for the request are in a span, which has the trace's id, the
///   request's own and, if it came with a sane `traceparent`, its parent's.
/// - Totals by method and class of status, and of the busiest tenants, whose requests are those with
///   their own credentials; `/metrics` shows them.
/// - The request's admission, an `Arc` in the answer's extensions, is kept until the answer is sent.
/// - A panic in a handler becomes a 500 without detail.
pub fn observe(router: Router, totals: &HttpTotals) -> Router {
    router.layer(from_fn_with_state(totals.clone(), observe_one))
}

async fn observe_one(
    State(totals): State<HttpTotals>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers_mut());
    request.extensions_mut().insert(totals.clone());
    let mut observation = Observation::begin(totals, &request, id.clone());
    request.extensions_mut().insert(observation.payer.clone());
    let answered = catch_panic(next.run(request)).instrument(observation.span.clone()).await;
    let mut response = match answered {
        Ok(response) => response,
        Err(()) => observation.span.in_scope(|| internal_error(observation.id())),
    };
    observation.entered = response.extensions().get::<TenantId>().copied();
    observation.status = response.status().as_u16();
    response.headers_mut().insert(REQUEST_ID, id);
    held::hold(response)
}

/// Request ids need to be unique and no more, but are told to tenants and kept in their logs: a count
/// that can be read would say how much others ask. Each half is a keyed hash of it, SipHash of the
/// standard library, whose keys are drawn once for this process.
static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The id of a request, made or replaced if there is no sane one.
pub(crate) fn request_id(headers: &mut HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(value) = headers.get(REQUEST_ID).filter(sane) {
        return value.clone();
    }
    let [one, other] = distinct();
    let text = format!("{one:016x}{other:016x}");
    let id = HeaderValue::from_str(&text).expect("hexadecimal digits are visible ASCII");
    headers.insert(REQUEST_ID, id.clone());
    id
}

/// Two numbers that no other call gives, but by a chance of 2^-64 each.
pub(crate) fn distinct() -> [u64; 2] {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    KEYS.each_ref().map(|keys| keys.hash_one(count))
}

/// Polls a future to its end, or to its panic, which the panic hook has reported by then.
async fn catch_panic<F: Future>(future: F) -> Result<F::Output, ()> {
    let mut future = Box::pin(future);
    poll_fn(|context| {
        // The future is dropped after a panic, never polled again, so nobody sees what it broke.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(())),
        }
    })
    .await
}

fn internal_error(request_id: &str) -> Response {
    tracing::error!(request_id, "a handler panicked");
    let message = "internal error; the server's log has the detail";
    let mut response = Response::new(Body::from(error_body("internal", message, request_id)));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// One request under way; counted and logged when dropped, so that requests whose clients leave
/// are seen too.
struct Observation {
    totals: HttpTotals,
    method: Method,
    route: Option<MatchedPath>,
    id: HeaderValue,
    span: Span,
    begun: Instant,
    payer: Payer,
    /// The tenant in which the request has acted.
    entered: Option<TenantId>,
    status: u16,
}

impl Observation {
    fn begin(totals: HttpTotals, request: &Request, id: HeaderValue) -> Self {
        totals.0.in_flight.inc();
        Self {
            totals,
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
            id,
            span: trace::span(request.headers()),
            begun: Instant::now(),
            payer: Payer::default(),
            entered: None,
            status: CLIENT_CLOSED,
        }
    }

    fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let now = Instant::now();
        let latency = now.saturating_duration_since(self.begun);
        let route = self.route.as_ref().map_or("(none)", MatchedPath::as_str);
        let labels = [("method", method(&self.method)), ("status", class(self.status))];
        let totals = &self.totals.0;
        totals.requests.get_or_create(&labels).inc();
        totals.latency.observe(latency.as_secs_f64());
        totals.in_flight.dec();
        let payer = self.payer.tenant();
        if let Some(tenant) = payer {
            let method = method(&self.method);
            let served =
                Served { method, path: route, outcome: outcome(self.status), took: latency };
            totals.busiest.count(tenant, &served, now);
        }
        let _in_it = self.span.enter();
        tracing::info!(
            method = method(&self.method),
            route,
            status = self.status,
            latency_ms = milliseconds(latency),
            request_id = self.id(),
            tenant = self.entered.or(payer).map(TenantId::get),
            "request"
        );
    }
}

/// To the microsecond: what is behind it is noise.
fn milliseconds(latency: Duration) -> f64 {
    (latency.as_secs_f64() * 1e6).round() / 1e3
}

/// A known method: a caller must not be able to make labels.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

fn outcome(status: u16) -> Outcome {
    match status {
        CLIENT_CLOSED => Outcome::Abandoned,
        400..=499 => Outcome::Refused,
        100..=399 => Outcome::Done,
        _ => Outcome::Failed,
    }
}
