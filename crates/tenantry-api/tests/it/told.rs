//! All that a tenant is told in numbers, and why that tells nothing of its neighbours.

use crate::{
    documents::{check, reference, with_section},
    server::{Answer, Server, records},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
};
use tenantry_engine::Meter;

const TENANT: &str = "`GET /v1/tenant`";
const USAGE: &str = "`GET /v1/usage`";
const BILL: &str = "`GET /v1/bill`";
const METERS: &str = "amounts and costs of both";
const STATISTICS: &str = "a collection's statistics";
const EXPLAIN: &str = "`explain: true`";
const WRITES: &str = "an answer to a write";
const ERRORS: &str = "an error";
const HEADERS: &str = "headers";

/// Where, what (`null` for what is always null, `*` for any meter), and why it tells nothing of others.
/// What a neighbour has a part in does not belong here: it is for operators alone.
const TOLD: [(&str, &[&str], &str); 22] = [
    (
        TENANT,
        &["name", "state", "isolation", "created_at_ms"],
        "the operator's word about this tenant",
    ),
    (
        TENANT,
        &[
            "limits.databases",
            "limits.collections",
            "limits.records_per_collection",
            "limits.keys",
            "limits.users",
            "limits.vector_dimensions",
            "rates.requests_per_second.value",
            "rates.requests_per_second.burst",
            "rates.requests_per_minute.value",
            "rates.requests_per_minute.burst",
            "rates.requests_per_hour.value",
            "rates.requests_per_hour.burst",
            "rates.concurrent_requests",
            "quotas.records",
            "quotas.bytes",
            "quotas.requests_per_day",
            "quotas.requests_per_month",
            "quotas.cost_per_month",
            "quotas.messages_per_day",
            "quotas.tokens_per_day",
        ],
        "what its plan and its exceptions say, however much others use",
    ),
    (
        TENANT,
        &["counts.databases", "counts.collections", "counts.keys", "counts.users"],
        "counted in its own commits",
    ),
    (TENANT, &["kept_records", "kept_bytes"], "counted in the commits of its own records"),
    (USAGE, &["entries[].number", "entries[].at", "next"], "hours and months of the calendar"),
    (USAGE, &["entries[].amounts.*"], "its own amounts"),
    (
        BILL,
        &["month", "amounts.*", "cost_micros.*", "total_micros"],
        "its own amounts by its plan's prices",
    ),
    (METERS, &["requests"], "its own, those that were answered"),
    (
        METERS,
        &["records_written", "bytes_in", "bytes_out", "record_ms", "byte_ms"],
        "of its own records",
    ),
    (METERS, &["vectors_scanned"], "of its own collections"),
    (
        METERS,
        &["cpu_us"],
        "computing for its own requests and indexes, without any wait and without loading what others crowded out; a clock tells more",
    ),
    (METERS, &["tokens", "money_micros", "messages"], "what the operator has reported of it"),
    (STATISTICS, &["records"], "counted in the commits of its own records"),
    (
        STATISTICS,
        &["memory: null"],
        "what is in memory is for operators alone: others crowd it out",
    ),
    (
        EXPLAIN,
        &[
            "searches[].plan",
            "searches[].codes_compared",
            "searches[].originals_compared",
            "allowed",
        ],
        "of its own records and their graph; of the machine's load no more than a clock tells",
    ),
    (EXPLAIN, &["cpu_us"], "computing for this search, without any wait; a clock tells more"),
    (WRITES, &["inserted", "updated", "skipped"], "its own records"),
    (WRITES, &["version"], "the number of its own commits"),
    (
        ERRORS,
        &["error.kind", "error.message", "error.request_id"],
        "of a busy server neither whose work waits nor how much; ids are random",
    ),
    (
        HEADERS,
        &["ratelimit", "ratelimit-policy"],
        "what its own requests have left of its plan's rates",
    ),
    (
        HEADERS,
        &["retry-after"],
        "until its own rate, day or month has room; 1 whenever the server is busy",
    ),
    (
        HEADERS,
        &[
            "cache-control",
            "content-disposition",
            "content-type",
            "x-content-type-options",
            "x-request-id",
        ],
        "the same in every answer of a kind; ids are random",
    ),
];

/// All that is listed, by where it is.
fn listed() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (place, fields, _) in TOLD {
        for field in fields {
            let is_new = all.entry(place).or_default().insert((*field).to_owned());
            assert!(is_new, "{place}: {field} is listed twice");
        }
    }
    all
}

/// What answers have had, by where it was.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, BTreeSet<String>>);

impl Seen {
    fn note(&mut self, place: &'static str, answer: Answer, status: u16) {
        self.headers(&answer);
        self.fields(place, &answer.expect(status));
    }

    fn fields(&mut self, place: &'static str, body: &Value) {
        leaves(body, "", self.0.entry(place).or_default());
    }

    fn headers(&mut self, answer: &Answer) {
        // How long a body is, is seen by whoever reads it.
        let names = answer.headers.keys().filter(|name| *name != "content-length");
        self.0.entry(HEADERS).or_default().extend(names.map(ToString::to_string));
    }
}

/// The paths of all that is neither an object nor a list.
fn leaves(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let is_by_meter = at.ends_with("amounts") || at.ends_with("cost_micros");
                let name: &str =
                    if is_by_meter && Meter::parse(name).is_some() { "*" } else { name };
                let dot = if at.is_empty() { "" } else { "." };
                leaves(value, &format!("{at}{dot}{name}"), found);
            }
        }
        Value::Array(items) => {
            for item in items {
                leaves(item, &format!("{at}[]"), found);
            }
        }
        Value::Null => {
            found.insert(format!("{at}: null"));
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(at.to_owned());
        }
    }
}

const COLLECTION: &str = "GET /v1/databases/default_database/collections/notes/statistics";

/// A plan of which every term has a number.
fn plan(an_hour: u32) -> Value {
    json!({
        "rates": {
            "requests_per_second": {"value": 1_000}, "requests_per_minute": {"value": 10_000},
            "requests_per_hour": {"value": an_hour}, "concurrent_requests": 100,
        },
        "quotas": {
            "records": 1_000, "bytes": 1_000_000, "requests_per_day": 100_000,
            "requests_per_month": 1_000_000, "cost_per_month": 1_000_000,
            "messages_per_day": 1_000, "tokens_per_day": 1_000,
        },
    })
}

fn question() -> Value {
    json!({"vectors": [[1.0, 0.0]], "filter": {"n": 1}, "explain": true})
}

impl Server {
    async fn manage(&self, line: &str, body: Value) {
        let answer = self.call(&self.operator, line, body).await;
        assert!(answer.status.is_success(), "{line}: {}", answer.text);
    }

    /// A tenant of a plan, with a price and a collection; the key of its administrator.
    async fn priced(&self) -> String {
        self.manage("PUT /v1/admin/plans/p", plan(100_000)).await;
        let prices = json!({"prices": {"requests": 5, "records_written": 7}});
        self.manage("PUT /v1/admin/plans/p/tariffs/2027-01", prices).await;
        let key = self.tenant("acme").await;
        self.manage("PATCH /v1/admin/tenants/acme", json!({"plan": "p"})).await;
        self.collection(&key, "notes").await;
        key
    }
}

/// Whoever adds a field or a header says here why it tells nothing of a neighbour, or tells it to
/// operators alone.
#[tokio::test]
async fn a_tenant_is_told_nothing_but_what_is_listed() {
    let server = Server::start().await;
    let key = server.priced().await;
    let ask = async |line: &str, body: Value| server.call(&key, line, body).await;
    let mut seen = Seen::default();
    let rows = json!({"records": [{"id": "a", "vector": [1.0, 0.0], "metadata": {"n": 1}}]});
    seen.note(WRITES, ask(&records("notes", "upsert"), rows).await, 200);
    let found = ask(&records("notes", "query"), question()).await;
    seen.headers(&found);
    seen.fields(EXPLAIN, &found.expect(200)["explain"]);
    for (place, line) in [
        (TENANT, "GET /v1/tenant"),
        (TENANT, "GET /t/acme/v1/tenant"),
        (USAGE, "GET /v1/usage?limit=1"),
        (BILL, "GET /v1/bill?month=2027-01"),
        (STATISTICS, COLLECTION),
    ] {
        seen.note(place, ask(line, Value::Null).await, 200);
    }
    let csv = ask("GET /v1/usage?format=csv", Value::Null).await;
    seen.headers(&csv);
    let meters = Meter::ALL.map(Meter::word);
    assert_eq!(csv.text.lines().next().unwrap(), format!("number,at,{}", meters.join(",")));

    let query = records("notes", "query");
    for (line, body, status) in [
        ("GET /v1/databases/none", Value::Null, 404),
        ("GET /t/neighbour/v1/tenant", Value::Null, 404),
        ("GET /v1/admin/tenants", Value::Null, 403),
        (query.as_str(), json!({"vectors": 1}), 400),
        ("POST /v1/databases", json!({"name": "default_database"}), 409),
    ] {
        seen.note(ERRORS, ask(line, body).await, status);
    }
    server.manage("PUT /v1/admin/plans/p", plan(1)).await;
    let mut answer = ask("GET /v1/tenant", Value::Null).await;
    for _ in 0..2 {
        if answer.status == 200 {
            answer = ask("GET /v1/tenant", Value::Null).await;
        }
    }
    seen.note(ERRORS, answer, 429);

    seen.0.insert(METERS, meters.map(str::to_owned).into());
    let listed = listed();
    assert!(listed.keys().eq(seen.0.keys()));
    for (place, found) in &seen.0 {
        let untold: Vec<_> = found.difference(&listed[place]).collect();
        let gone: Vec<_> = listed[place].difference(found).collect();
        assert!(untold.is_empty(), "{place}: say why {untold:?} tells nothing of a neighbour");
        assert!(gone.is_empty(), "{place}: {gone:?} is told no more");
    }
}

#[tokio::test]
async fn what_a_neighbour_does_changes_nothing_that_a_tenant_is_told() {
    let server = Server::start().await;
    let key = server.priced().await;
    let row = |id: &str| json!({"id": id, "vector": [1.0, 0.0], "metadata": {"n": 1}});
    let upsert = records("notes", "upsert");
    server.call(&key, &upsert, json!({"records": [row("a")]})).await.expect(200);
    let told = async || {
        let asked = server.call(&key, &records("notes", "query"), question()).await.expect(200);
        let mut explain = asked["explain"].clone();
        explain.as_object_mut().unwrap().remove("cpu_us");
        let tenant = server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
        let statistics = server.call(&key, COLLECTION, Value::Null).await.expect(200);
        json!([tenant, statistics, explain])
    };
    // The first question loads the collection: that is not seen either.
    let before = told().await;
    let other = server.tenant("neighbour").await;
    server.collection(&other, "notes").await;
    let rows: Vec<_> = (0..100).map(|n| row(&n.to_string())).collect();
    server.call(&other, &upsert, json!({"records": rows})).await.expect(200);
    server.call(&other, &records("notes", "query"), question()).await.expect(200);
    assert_eq!(told().await, before);
}

#[test]
fn the_page_about_security_lists_what_a_tenant_is_told() {
    let mut table = "| in | told | what it is |\n|---|---|---|\n".to_owned();
    for (place, fields, why) in TOLD {
        let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
        writeln!(table, "| {place} | {} | {why} |", fields.join(", ")).unwrap();
    }
    let page = "../../SECURITY.md";
    let text = fs::read_to_string(reference(page)).unwrap();
    check(page, &with_section(&text, "told", &table));
}
