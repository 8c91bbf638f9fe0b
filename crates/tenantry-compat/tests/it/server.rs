//! A whole server without a socket.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request},
};
use serde_json::{Value, json};
use std::sync::Arc;
use tenantry_compat::chroma;
use tenantry_engine::{
    Admin, Authority, CollectionName, DatabaseName, EmbeddedConfig, Engine, EngineConfig, NewKey,
    Restriction, Role, Select, Store, SystemClock, TenantName, TenantSpec,
};
use tower::ServiceExt;

pub(crate) const DEFAULT: &str = "/api/v2/tenants/default_tenant/databases/default_database";

pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) operator: String,
    router: Router,
    _folder: tempfile::TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body, if the status is the expected one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The message, if this is a refusal with this status and kind in the protocol's form.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(self.headers["chroma-trace-id"].len(), 32);
        let body: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(body["error"], kind, "{body}");
        body["message"].as_str().unwrap().to_owned()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Authority::new()).await
    }

    /// A server that demands no key, with the tenant that a client without settings asks for.
    pub(crate) async fn development() -> Self {
        let server = Self::with(Authority::development()).await;
        chroma::ensure_development_tenant(&server.engine).await.unwrap();
        server
    }

    async fn with(authority: Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(EngineConfig {
            store: Store::open_embedded(EmbeddedConfig::new(folder.path().join("data"))).unwrap(),
            authority,
            clock: Arc::new(SystemClock),
        });
        let operator = engine.first_operator_key().await.unwrap().unwrap();
        let router = chroma::router(engine.clone());
        Self { engine, operator, router, _folder: folder }
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// Makes a tenant with its default database; its administrator's key.
    pub(crate) async fn tenant(&self, name: &str) -> String {
        let who = self.engine.local_operator().await.unwrap();
        let spec = TenantSpec::new(TenantName::parse(name).unwrap());
        self.engine.operator(&who).unwrap().create_tenant(&spec).await.unwrap();
        self.key(name, Role::Admin, Restriction::default()).await
    }

    /// Makes a key of a tenant.
    pub(crate) async fn key(&self, tenant: &str, role: Role, restriction: Restriction) -> String {
        let who = self.engine.local_operator().await.unwrap();
        let tenant = TenantName::parse(tenant).unwrap();
        let session = self.engine.session::<Admin>(&who, Select::Named(&tenant)).await.unwrap();
        let new = NewKey { role, restriction, label: String::new(), expires_at: None };
        session.create_key(new).await.unwrap().1
    }

    /// What limits a key to one collection of the tenant's default database.
    pub(crate) async fn only(&self, tenant: &str, collection: &str) -> Restriction {
        let who = self.engine.local_operator().await.unwrap();
        let tenant = TenantName::parse(tenant).unwrap();
        let session = self.engine.session::<Admin>(&who, Select::Named(&tenant)).await.unwrap();
        let name = CollectionName::parse(collection).unwrap();
        let objects = [(DatabaseName::default_database(), name)];
        let objects = session.resolve(&[], &objects).await.unwrap();
        Restriction { objects, filter: None }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Sends `METHOD path` with a key (none if empty) and a text as JSON.
    pub(crate) async fn text(&self, key: &str, line: &str, body: impl Into<Body>) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        if !key.is_empty() {
            request = request.header("x-chroma-token", key);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Sends `METHOD path` with a key and a JSON body.
    pub(crate) async fn call(&self, key: &str, line: &str, body: Value) -> Answer {
        self.text(key, line, body.to_string()).await
    }

    /// Makes a collection in the default database of the key's tenant.
    pub(crate) async fn collection(&self, key: &str, name: &str) -> Collection<'_> {
        self.made(key, json!({"name": name})).await
    }

    /// Makes a collection in the default database of the key's tenant from a whole body.
    pub(crate) async fn made(&self, key: &str, body: Value) -> Collection<'_> {
        let made = self.call(key, &format!("POST {DEFAULT}/collections"), body).await.expect(200);
        Collection {
            server: self,
            key: key.to_owned(),
            path: format!("{DEFAULT}/collections/{}", made["id"].as_str().unwrap()),
            id: made["id"].as_str().unwrap().to_owned(),
        }
    }
}

/// A collection with the key that made it.
pub(crate) struct Collection<'a> {
    server: &'a Server,
    key: String,
    pub(crate) path: String,
    pub(crate) id: String,
}

impl Collection<'_> {
    /// Sends a body to one of the collection's POST routes.
    pub(crate) async fn post(&self, route: &str, body: Value) -> Answer {
        self.server.call(&self.key, &format!("POST {}/{route}", self.path), body).await
    }

    pub(crate) async fn post_text(&self, route: &str, body: &str) -> Answer {
        let line = format!("POST {}/{route}", self.path);
        self.server.text(&self.key, &line, body.to_owned()).await
    }

    pub(crate) async fn count(&self) -> Value {
        self.server.text(&self.key, &format!("GET {}/count", self.path), "").await.expect(200)
    }

    /// The collection as its by-id route shows it.
    pub(crate) async fn shown(&self) -> Value {
        let line = format!("GET {DEFAULT}/collections/by-id/{}", self.id);
        self.server.text(&self.key, &line, "").await.expect(200)
    }

    /// The ids of a get.
    pub(crate) async fn ids(&self, body: Value) -> Value {
        self.post("get", body).await.expect(200)["ids"].take()
    }
}
