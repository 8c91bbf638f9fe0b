//! A whole server without a socket.

use crate::documents;
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
use tenantry_api::{
    Hosts, HttpTotals, name_by_path, observe, router, select_by_host, with_sign_up,
};
use tenantry_engine::{
    Authority, Clock, EmbeddedConfig, Engine, EngineConfig, SignUp, SignUpRules, Store, Timestamp,
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
        Self::built(20, archives, None).await
    }

    /// Its metrics tell so many tenants apart.
    pub(crate) async fn start_telling(most: usize, archives: ArchiveConfig) -> Self {
        Self::built(most, archives, None).await
    }

    /// One where strangers make tenants.
    pub(crate) async fn signing_up(rules: SignUpRules) -> Self {
        Self::built(20, ArchiveConfig::default(), Some(rules)).await
    }

    async fn built(most: usize, archives: ArchiveConfig, sign_up: Option<SignUpRules>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock(AtomicU64::new(1_800_000_000_000)));
        let mut config = EmbeddedConfig::new(folder.path().join("data"));
        config.clock = clock.clone();
        let store = Store::open_embedded(config).unwrap();
        let (authority, handed) = (Authority::new(), clock.clone());
        let config = EngineConfig { store, authority, clock: handed };
        let engine = Engine::start_with(config, archives);
        let operator = engine.first_operator_key().await.unwrap().unwrap();
        let hosts = Arc::new(Hosts::new("example.com", ["10.0.0.0/8"]).unwrap());
        let mut router = router(engine.clone());
        if let Some(rules) = sign_up {
            let sign_up = SignUp::new(engine.clone(), rules);
            router = with_sign_up(router, sign_up, Arc::clone(&hosts));
        }
        let router = select_by_host(router, hosts);
        let router = observe(router, &HttpTotals::with_tenants(most));
        Self { engine, clock, operator, router, _folder: folder }
    }

    /// An answer whose body nobody has read.
    pub(crate) async fn unread(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        // As a listener does.
        name_by_path(&mut request);
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let response = self.unread(request).await;
        let (parts, body) = response.into_parts();
        let kind = parts.headers.get("content-type").map(|kind| kind.to_str().unwrap());
        documents::assert_described(&method, &path, parts.status.as_u16(), kind);
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
        key_of(&self.call_in(name, "POST /v1/keys", json!({"role": "admin"})).await.expect(201))
    }

    /// Sends `method path` as the operator that acts as a tenant.
    pub(crate) async fn call_in(&self, name: &str, line: &str, body: Value) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.operator))
            .header("x-tenant-id", encoded(name))
            .header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
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
