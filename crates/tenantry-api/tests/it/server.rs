//! A whole server without a socket.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tenantry_api::{HttpTotals, observe, router};
use tenantry_engine::{
    Authority, Clock, EmbeddedConfig, Engine, EngineConfig, Store, Timestamp,
    archive::ArchiveConfig,
};
use tower::ServiceExt;

/// A clock that the test moves.
#[derive(Debug)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance_ms(&self, by: u64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) operator: String,
    router: Router,
    _folder: tempfile::TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The body, if the status is the expected one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The error's message, if status and kind are the expected ones.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, kind: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let body = self.json();
        assert_eq!(body["error"]["kind"], kind, "{body}");
        assert_eq!(body["error"]["request_id"], self.headers["x-request-id"].to_str().unwrap());
        assert_eq!(self.headers["content-type"], "application/json");
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(ArchiveConfig::default()).await
    }

    pub(crate) async fn start_with(archives: ArchiveConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock(AtomicU64::new(1_800_000_000_000)));
        let mut config = EmbeddedConfig::new(folder.path().join("data"));
        config.clock = clock.clone();
        let store = Store::open_embedded(config).unwrap();
        let (authority, handed) = (Authority::new(), clock.clone());
        let config = EngineConfig { store, authority, clock: handed };
        let engine = Engine::start_with(config, archives);
        let operator = engine.first_operator_key().await.unwrap().unwrap();
        let router = observe(router(engine.clone()), &HttpTotals::new());
        Self { engine, clock, operator, router, _folder: folder }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            // An archive is no text.
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// Sends `method path` with a key and a JSON body, unless that is null.
    pub(crate) async fn call(&self, key: &str, line: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.call_text(key, line, body).await
    }

    pub(crate) async fn call_text(&self, key: &str, line: &str, body: impl Into<Body>) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Makes a tenant; its administrator's key.
    pub(crate) async fn tenant(&self, name: &str) -> String {
        let made = self.call(&self.operator, "POST /v1/admin/tenants", json!({"name": name})).await;
        made.expect(201);
        let request = Request::post("/v1/keys")
            .header("authorization", format!("Bearer {}", self.operator))
            .header("x-tenant-id", encoded(name))
            .header("content-type", "application/json")
            .body(Body::from(json!({"role": "admin"}).to_string()))
            .unwrap();
        key_of(&self.send(request).await.expect(201))
    }

    /// Makes a key with the administrator's.
    pub(crate) async fn key(&self, admin: &str, body: Value) -> String {
        key_of(&self.call(admin, "POST /v1/keys", body).await.expect(201))
    }

    /// Makes a collection in the default database.
    pub(crate) async fn collection(&self, admin: &str, name: &str) {
        let line = "POST /v1/databases/default_database/collections";
        self.call(admin, line, json!({"name": name})).await.expect(201);
    }
}

pub(crate) fn key_of(answer: &Value) -> String {
    answer["key"].as_str().unwrap().to_owned()
}

/// A name as a path segment or header.
pub(crate) fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// The line of a record route of a collection in the default database.
pub(crate) fn records(collection: &str, operation: &str) -> String {
    let collection = encoded(collection);
    format!("POST /v1/databases/default_database/collections/{collection}/records/{operation}")
}
