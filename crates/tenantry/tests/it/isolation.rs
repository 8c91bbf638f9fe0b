//! Every route of every dialect × {no key, malformed key, unknown key, revoked key, another
//! tenant's key, read-only key, suspended tenant's key}, and the same of tokens of an issuer.
//!
//! The routes come from the routers' own tables. A route without a row here fails the test, so a
//! route cannot be added without saying what a stranger may do with it: nothing.

use crate::issuer::{Issuer, SECRET as SHARED, now};
use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode},
};
use http_body_util::BodyExt as _;
use serde_json::{Value as Json, json};
use std::{collections::BTreeSet, fmt::Write as _, sync::Arc, time::Duration};
use tenantry_api::{Access, Hosts, name_by_path, with_sign_up};
use tenantry_compat::chroma::{OPERATOR_ROUTES, PUBLIC_ROUTES, ROUTES};
use tenantry_engine::{
    Admin, Allowance, ApiKey, Authority, CollectionName, CollectionSpec, DatabaseName,
    EmbeddedConfig, Engine, EngineConfig, EventKinds, Every, GetRequest, GrantNames, GrantOn,
    GroupName, Include, MemberRole, NewKey, NewMember, PlanName, Principal, RecordId, RecordWrite,
    Restriction, Role, Select, Session, SignUp, SignUpRules, Store, SystemClock, TenantChange,
    TenantName, TenantPlan, TenantSpec, UsageEvent, UsagePage, UserName, Value, VectorName,
    VectorSpec, WebhookName, WebhookUrl, WriteMode,
    token::{ClaimPath, ClaimSpec, IssuerSpec, Issuers, KeysOf, TenantBy},
};
use tower::ServiceExt as _;

/// Stands in every text, name and metadata value of the victim.
const SECRET: &str = "s3cret-of-the-victim";

/// The plan of the victim.
const PLAN: &str = "victims-plan";

/// An endpoint of the operator's.
const WEBHOOK: &str = "operators-webhook";

/// What a route needs, and a body that would do something if the caller were allowed to.
struct Row {
    access: Access,
    method: &'static str,
    path: &'static str,
    body: Option<Json>,
}

/// One tenant with a database, a collection, a record and keys.
struct Party {
    name: &'static str,
    database: &'static str,
    collection: String,
    collection_id: String,
    admin: String,
    reader: String,
    key_id: String,
    revoked: String,
}

struct World {
    engine: Engine,
    operator: Principal,
    native: Router,
    chroma: Router,
    victim: Party,
    attacker: Party,
    suspended: Party,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_embedded(EmbeddedConfig::new(folder.path())).unwrap();
        let authority = Authority::new().with_issuers(issuers());
        let engine = Engine::start(EngineConfig { store, authority, clock: Arc::new(SystemClock) });
        let operator = engine.local_operator().await.unwrap();
        let victim = party(&engine, &operator, "victim", "victims-database").await;
        let attacker = party(&engine, &operator, "attacker", "attackers-database").await;
        let suspended = party(&engine, &operator, "suspended", "suspended-database").await;
        let manage = engine.operator(&operator).unwrap();
        manage.suspend_tenant(&TenantName::parse("suspended").unwrap()).await.unwrap();
        let plan = PlanName::parse(PLAN).unwrap();
        let said = TenantPlan::new(plan.clone(), Allowance::default());
        manage.put_plan(&said).await.unwrap();
        let (webhook, url) = (WebhookName::parse(WEBHOOK), WebhookUrl::parse("https://a.example/"));
        let everything = EventKinds::default();
        manage.create_webhook(webhook.unwrap(), url.unwrap(), everything).await.unwrap();
        let change = TenantChange { plan: Some(Some(plan)), ..TenantChange::default() };
        manage.change_tenant(&TenantName::parse("victim").unwrap(), &change).await.unwrap();
        let sign_up = SignUp::new(engine.clone(), SignUpRules::default());
        let hosts = Arc::new(Hosts::new("example.com", []).unwrap());
        Self {
            native: with_sign_up(tenantry_api::router(engine.clone()), sign_up, hosts),
            chroma: tenantry_compat::chroma::router(engine.clone()),
            engine,
            operator,
            victim,
            attacker,
            suspended,
            _folder: folder,
        }
    }

    /// All that the victim has, to be compared before and after.
    async fn victims_state(&self) -> String {
        let name = TenantName::parse(self.victim.name).unwrap();
        let session: Session<Admin> =
            self.engine.session(&self.operator, Select::Named(&name)).await.unwrap();
        let manage = self.engine.operator(&self.operator).unwrap();
        let (plans, webhooks) = (manage.plans().await.unwrap(), manage.webhooks().await.unwrap());
        let mut state = format!("{:?}{plans:?}{webhooks:?}", session.tenant());
        for key in session.keys().await.unwrap() {
            write!(state, "{:?}", key.id).unwrap();
        }
        write!(state, "{:?}", session.members(None, 100).await.unwrap()).unwrap();
        let months = UsagePage { every: Every::Month, from: 0, limit: 100 };
        for meter in UsageEvent::METERS {
            let used = session.usage(months).await.unwrap();
            let all: u128 = used.iter().map(|one| one.amounts.get(meter)).sum();
            write!(state, "{} {all}", meter.word()).unwrap();
        }
        write!(state, "{:?}", session.groups().await.unwrap()).unwrap();
        for database in session.databases(tenantry_engine::Page::default()).await.unwrap() {
            write!(state, "{:?}", database.info()).unwrap();
            for c in database.collections(tenantry_engine::Page::default()).await.unwrap() {
                let include = Include {
                    vector: true,
                    vectors: true,
                    document: true,
                    uri: true,
                    metadata: true,
                };
                let all = GetRequest { include, ..GetRequest::default() };
                let records = c.get(&all).await.unwrap();
                write!(state, "{:?}{records:?}", c.info()).unwrap();
            }
        }
        state
    }
}

/// One issuer, whose tokens name tenants by their names.
fn issuers() -> Issuers {
    let path = |text| ClaimPath::parse(text).unwrap();
    let issuer = IssuerSpec {
        name: "login".into(),
        iss: "https://login.example".into(),
        audience: "here".into(),
        keys: KeysOf::Secret(SHARED.as_bytes().to_vec().into()),
        claims: ClaimSpec {
            tenant: TenantBy::Name(path("org")),
            roles: path("role"),
            roles_split: false,
            levels: [("reader".into(), Role::Read), ("admin".into(), Role::Admin)].into(),
            operator_roles: BTreeSet::new(),
            subject: path("sub"),
            filter: None,
            needs_member: false,
        },
        skew: Duration::ZERO,
        lifetime_max: None,
    };
    Issuers::new(vec![issuer]).unwrap()
}

/// A token of this party; it holds for so long.
fn token(of: &Party, role: &str, seconds: f64) -> String {
    Issuer::shared().token(&json!({
        "iss": "https://login.example", "aud": "here", "sub": "somebody",
        "org": of.name, "role": role, "iat": now(), "exp": now() + seconds,
    }))
}

async fn party(
    engine: &Engine,
    operator: &Principal,
    name: &'static str,
    database: &'static str,
) -> Party {
    let tenant = TenantName::parse(name).unwrap();
    let manage = engine.operator(operator).unwrap();
    manage.create_tenant(&TenantSpec::new(tenant.clone())).await.unwrap();
    let session: Session<Admin> = engine.session(operator, Select::Named(&tenant)).await.unwrap();
    let key = |role| NewKey {
        role,
        restriction: Restriction::default(),
        label: format!("{SECRET} label"),
        expires_at: None,
    };
    let (row, admin) = session.create_key(key(Role::Admin)).await.unwrap();
    let (_, reader) = session.create_key(key(Role::Read)).await.unwrap();
    let (gone, revoked) = session.create_key(key(Role::Admin)).await.unwrap();
    session.revoke_key(gone.id).await.unwrap();
    let member = NewMember {
        user: UserName::parse(&format!("login/{name}-admin")).unwrap(),
        role: MemberRole::Admin,
        groups: Vec::new(),
        email: Some(format!("{SECRET}@{name}.example")),
        name: None,
    };
    session.add_member(&member).await.unwrap();
    let made = session.create_database(&DatabaseName::parse(database).unwrap()).await.unwrap();
    let grant = GrantNames { database: made.info().name.clone(), on: GrantOn::All, writes: true };
    let group = GroupName::parse(format!("{name}-group")).unwrap();
    session.add_group(&group, &[grant]).await.unwrap();
    let collection = format!("{SECRET}-{name}");
    let vector = VectorName::parse(&format!("{SECRET}.vector")).unwrap();
    let spec = CollectionSpec {
        vectors: [(vector.clone(), VectorSpec::default())].into(),
        metadata: Some([("k".to_owned(), Value::Str(SECRET.into()))].into()),
        ..CollectionSpec::new(CollectionName::parse(collection.as_str()).unwrap())
    };
    let (c, _) = made.create_collection(&spec, false).await.unwrap();
    let record = RecordWrite {
        id: RecordId::parse("r").unwrap(),
        vector: Some(vec![1.0, 2.0]),
        vectors: [(vector, vec![3.0])].into(),
        document: Some(format!("{SECRET} text")),
        uri: Some(format!("{SECRET} uri")),
        metadata: [("k".to_owned(), Some(Value::Str(SECRET.into())))].into(),
    };
    c.write(WriteMode::Upsert, vec![record]).await.unwrap();
    let (collection_id, key_id) = (c.info().id.to_string(), row.id.to_string());
    Party { name, database, collection, collection_id, admin, reader, key_id, revoked }
}

fn operators_rows() -> Vec<Row> {
    use Access::Operator;
    let row = |access, method, path, body| Row { access, method, path, body };
    vec![
        row(Operator, "POST", "/v1/admin/tenants", Some(json!({"name": "new"}))),
        row(Operator, "GET", "/v1/admin/tenants", None),
        row(Operator, "GET", "/v1/admin/tenants/{tenant}", None),
        row(Operator, "GET", "/v1/admin/tenants/{tenant}/advice", None),
        row(Operator, "GET", "/v1/admin/tenants/{tenant}/statistics", None),
        row(Operator, "PATCH", "/v1/admin/tenants/{tenant}", Some(json!({"weight": 1}))),
        row(Operator, "DELETE", "/v1/admin/tenants/{tenant}", None),
        row(Operator, "POST", "/v1/admin/tenants/{tenant}/suspend", None),
        row(Operator, "POST", "/v1/admin/tenants/{tenant}/resume", None),
        row(Operator, "POST", "/v1/admin/tenants/{tenant}/restore", None),
        row(Operator, "GET", "/v1/admin/plans", None),
        row(Operator, "GET", "/v1/admin/plans/{plan}", None),
        row(Operator, "PUT", "/v1/admin/plans/{plan}", Some(json!({"weight": 1}))),
        row(Operator, "DELETE", "/v1/admin/plans/{plan}", None),
        row(Operator, "GET", "/v1/admin/plans/{plan}/tariffs", None),
        row(
            Operator,
            "PUT",
            "/v1/admin/plans/{plan}/tariffs/{month}",
            Some(json!({"prices": {"requests": 1}})),
        ),
        row(
            Operator,
            "POST",
            "/v1/admin/tenants/{tenant}/move",
            Some(json!({"isolation": "schema"})),
        ),
        row(Operator, "GET", "/v1/admin/tenants/{tenant}/move", None),
        row(Operator, "DELETE", "/v1/admin/tenants/{tenant}/move", None),
        row(Operator, "GET", "/v1/admin/moves", None),
        row(Operator, "POST", "/v1/admin/tenants/{tenant}/import", Some(json!({}))),
        row(
            Operator,
            "POST",
            "/v1/admin/tenants/{tenant}/copy",
            Some(json!({"name": "copy-of-the-victim"})),
        ),
        row(
            Operator,
            "POST",
            "/v1/admin/placement/plan",
            Some(json!({"rules": [{"from": "shared", "to": "schema", "records_over": 1}]})),
        ),
        row(Operator, "GET", "/v1/admin/signer", None),
        row(Operator, "POST", "/v1/admin/signer", Some(json!({"blake3": "7".repeat(64)}))),
        row(Operator, "GET", "/v1/admin/leftovers", None),
        row(Operator, "DELETE", "/v1/admin/leftovers/{tenant}", None),
        row(Operator, "POST", "/v1/admin/keys", Some(json!({"label": "x", "act_as": true}))),
        row(Operator, "GET", "/v1/admin/keys", None),
        row(Operator, "DELETE", "/v1/admin/keys/{key}", None),
        row(Operator, "GET", "/v1/admin/audit", None),
        row(Operator, "GET", "/v1/admin/usage", None),
        row(Operator, "GET", "/v1/admin/usage/tenants", None),
        row(Operator, "GET", "/v1/admin/usage/balance", None),
        row(Operator, "GET", "/v1/admin/bill", None),
        row(Operator, "GET", "/v1/admin/bills", None),
    ]
}

fn webhooks_rows() -> Vec<Row> {
    use Access::Operator;
    let row = |access, method, path, body| Row { access, method, path, body };
    vec![
        row(Operator, "GET", "/v1/admin/webhooks", None),
        row(
            Operator,
            "POST",
            "/v1/admin/webhooks",
            Some(json!({"name": "new", "url": "https://example.com/"})),
        ),
        row(Operator, "GET", "/v1/admin/webhooks/{webhook}", None),
        row(Operator, "PATCH", "/v1/admin/webhooks/{webhook}", Some(json!({"enabled": false}))),
        row(Operator, "DELETE", "/v1/admin/webhooks/{webhook}", None),
        row(Operator, "POST", "/v1/admin/webhooks/{webhook}/rotate", None),
        row(Operator, "POST", "/v1/admin/webhooks/{webhook}/test", None),
        row(Operator, "GET", "/v1/admin/webhooks/{webhook}/dead", None),
        row(Operator, "POST", "/v1/admin/webhooks/{webhook}/dead/{event}/retry", None),
        row(Operator, "DELETE", "/v1/admin/webhooks/{webhook}/dead/{event}", None),
    ]
}

fn native_rows() -> Vec<Row> {
    use Access::{Admin, Operator, Public, Read, Write};
    let record = json!({"records": [{"id": "r", "vector": [9.0, 9.0], "document": "changed"}]});
    let row = |access, method, path, body| Row { access, method, path, body };
    let c = "/v1/databases/{database}/collections/{collection}";
    macro_rules! records {
        ($what:literal) => {
            concat!("/v1/databases/{database}/collections/{collection}/records/", $what)
        };
    }
    let mut rows = operators_rows();
    rows.extend(webhooks_rows());
    rows.extend([
        row(Public, "GET", "/healthz", None),
        row(Public, "GET", "/readyz", None),
        row(Public, "GET", "/openapi.json", None),
        row(Public, "POST", "/v1/signup", Some(json!({"subdomain": "victim"}))),
        row(Operator, "GET", "/metrics", None),
        row(Read, "GET", "/v1/tenant", None),
        row(Read, "GET", "/v1/me", None),
        row(Admin, "POST", "/v1/members", Some(json!({"id": "login/somebody", "role": "admin"}))),
        row(Admin, "GET", "/v1/members", None),
        row(Admin, "GET", "/v1/members/{member}", None),
        row(Admin, "PATCH", "/v1/members/{member}", Some(json!({"role": "admin"}))),
        row(Admin, "DELETE", "/v1/members/{member}", None),
        row(Admin, "POST", "/v1/groups", Some(json!({"name": "new"}))),
        row(Admin, "GET", "/v1/groups", None),
        row(Admin, "GET", "/v1/groups/{group}", None),
        row(Admin, "PATCH", "/v1/groups/{group}", Some(json!({"grants": []}))),
        row(Admin, "DELETE", "/v1/groups/{group}", None),
        row(Admin, "POST", "/v1/keys", Some(json!({"role": "admin", "label": "x"}))),
        row(Admin, "GET", "/v1/keys", None),
        row(Admin, "DELETE", "/v1/keys/{key}", None),
        row(Admin, "GET", "/v1/audit", None),
        row(Admin, "GET", "/v1/usage", None),
        row(
            Admin,
            "POST",
            "/v1/usage/events",
            Some(json!({"events": [{"id": "e", "meter": "money_micros", "amount": 7}]})),
        ),
        row(Admin, "GET", "/v1/bill", None),
        row(Admin, "GET", "/v1/archive", None),
        row(Admin, "POST", "/v1/databases", Some(json!({"name": "new"}))),
        row(Read, "GET", "/v1/databases", None),
        row(Read, "GET", "/v1/databases/{database}", None),
        row(Admin, "DELETE", "/v1/databases/{database}", None),
        row(Write, "POST", "/v1/databases/{database}/collections", Some(json!({"name": "new"}))),
        row(Read, "GET", "/v1/databases/{database}/collections", None),
        row(Read, "GET", c, None),
        row(
            Read,
            "GET",
            concat!("/v1/databases/{database}/collections/{collection}", "/statistics"),
            None,
        ),
        row(Write, "PATCH", c, Some(json!({"name": "renamed"}))),
        row(Write, "DELETE", c, None),
        row(Write, "POST", records!("add"), Some(record.clone())),
        row(Write, "POST", records!("upsert"), Some(record.clone())),
        row(Write, "POST", records!("update"), Some(record)),
        row(Read, "POST", records!("get"), Some(json!({}))),
        row(Write, "POST", records!("delete"), Some(json!({"ids": ["r"]}))),
        row(Read, "POST", records!("count"), Some(json!({}))),
        row(Read, "POST", records!("query"), Some(json!({"vectors": [[1.0, 2.0]], "k": 3}))),
    ]);
    rows
}

fn chroma_rows() -> Vec<Row> {
    use Access::{Admin, Operator, Public, Read, Write};
    let row = |access, method, path, body| Row { access, method, path, body };
    let record = json!({"ids": ["r"], "embeddings": [[9.0, 9.0]], "documents": ["changed"]});
    macro_rules! db {
        ($rest:literal) => {
            concat!("/api/v2/tenants/{tenant}/databases/{database}", $rest)
        };
    }
    macro_rules! records {
        ($what:literal) => {
            concat!("/api/v2/tenants/{tenant}/databases/{database}/collections/{collection}", $what)
        };
    }
    let search = json!({"searches": []});
    let attach = json!({"name": "f", "function_id": "statistics", "output_collection": "o"});
    vec![
        row(Public, "GET", "/api/v2", None),
        row(Public, "GET", "/api/v2/heartbeat", None),
        row(Public, "GET", "/api/v2/version", None),
        row(Public, "GET", "/api/v2/healthcheck", None),
        row(Public, "GET", "/api/v2/pre-flight-checks", None),
        row(Read, "GET", "/api/v2/auth/identity", None),
        row(Operator, "POST", "/api/v2/reset", None),
        row(Operator, "POST", "/api/v2/tenants", Some(json!({"name": "new"}))),
        row(Read, "GET", "/api/v2/tenants/{tenant}", None),
        row(Admin, "PATCH", "/api/v2/tenants/{tenant}", Some(json!({"resource_name": "x"}))),
        row(Admin, "POST", "/api/v2/tenants/{tenant}/databases", Some(json!({"name": "new"}))),
        row(Read, "GET", "/api/v2/tenants/{tenant}/databases", None),
        row(Read, "GET", db!(""), None),
        row(Admin, "DELETE", db!(""), None),
        row(Write, "POST", db!("/collections"), Some(json!({"name": "new"}))),
        row(Read, "GET", db!("/collections"), None),
        row(Read, "GET", db!("/collections_count"), None),
        row(Read, "GET", records!(""), None),
        row(Write, "PUT", records!(""), Some(json!({"new_name": "renamed"}))),
        row(Write, "DELETE", records!(""), None),
        row(Read, "GET", db!("/collections/by-id/{id}"), None),
        row(Write, "POST", records!("/add"), Some(record.clone())),
        row(Write, "POST", records!("/upsert"), Some(record.clone())),
        row(Write, "POST", records!("/update"), Some(record)),
        row(Read, "POST", records!("/get"), Some(json!({}))),
        row(Read, "POST", records!("/query"), Some(json!({"query_embeddings": [[1.0, 2.0]]}))),
        row(Write, "POST", records!("/delete"), Some(json!({"ids": ["r"]}))),
        row(Read, "GET", records!("/count"), None),
        row(Read, "GET", records!("/indexing_status"), None),
        row(Read, "POST", records!("/search"), Some(search)),
        row(Write, "POST", records!("/fork"), Some(json!({"new_name": "fork"}))),
        row(Read, "GET", records!("/fork_count"), None),
        row(Write, "POST", records!("/functions/attach"), Some(attach)),
        row(Read, "GET", records!("/functions/{function}"), None),
        row(Write, "POST", records!("/attached_functions/{function}/detach"), Some(json!({}))),
        row(Read, "GET", "/api/v2/collections/{crn}", None),
    ]
}

#[test]
fn every_route_has_a_row() {
    let listed = |rows: Vec<Row>| -> BTreeSet<(String, String)> {
        rows.into_iter().map(|r| (r.method.to_owned(), r.path.to_owned())).collect()
    };
    let native = tenantry_api::ROUTES.iter().map(|r| (r.method.to_owned(), r.path.to_owned()));
    assert_eq!(listed(native_rows()), native.collect());
    let chroma = PUBLIC_ROUTES.iter().chain(OPERATOR_ROUTES).chain(ROUTES);
    let chroma = chroma.map(|(m, p)| ((*m).to_owned(), (*p).to_owned()));
    assert_eq!(listed(chroma_rows()), chroma.collect());
    for row in chroma_rows() {
        let is_operators = OPERATOR_ROUTES.contains(&(row.method, row.path));
        assert_eq!(is_operators, row.access == Access::Operator, "{} {}", row.method, row.path);
    }
    for row in native_rows() {
        let route =
            tenantry_api::ROUTES.iter().find(|r| r.method == row.method && r.path == row.path);
        assert_eq!(route.unwrap().access, row.access, "{} {}", row.method, row.path);
    }
}

/// A row's path filled in with a party's things. Chroma's record routes and PUT take the
/// collection's id, its GET and DELETE the name.
fn fill(row: &Row, tenant: &str, database: &str, of: &Party) -> String {
    let ends_with_collection = row.path.ends_with("/{collection}");
    let by_name = row.path.starts_with("/v1") || (ends_with_collection && row.method != "PUT");
    let collection = if by_name { &of.collection } else { &of.collection_id };
    row.path
        .replace("{tenant}", tenant)
        .replace("{database}", database)
        .replace("{collection}", collection)
        .replace("{id}", &of.collection_id)
        .replace("{key}", &of.key_id)
        .replace("{member}", &format!("login%2F{}-admin", of.name))
        .replace("{group}", &format!("{}-group", of.name))
        .replace("{function}", "f")
        .replace("{plan}", PLAN)
        .replace("{webhook}", WEBHOOK)
        .replace("{event}", "evt_00000000000000000000000000000000")
        .replace("{crn}", &format!("{tenant}:{database}:{}", of.collection))
}

/// What everybody is answered, whatever key is sent: a stranger gets no name that is taken.
fn everybodys(row: &Row) -> StatusCode {
    if row.path == "/v1/signup" { StatusCode::CONFLICT } else { StatusCode::OK }
}

async fn send(
    router: &Router,
    row: &Row,
    path: &str,
    key: Option<&str>,
    select: Option<&str>,
) -> (StatusCode, String) {
    let mut request =
        Request::builder().method(Method::from_bytes(row.method.as_bytes()).unwrap()).uri(path);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    if let Some(tenant) = select {
        request = request.header("x-tenant-id", tenant);
    }
    request = request.header("content-type", "application/json");
    let body = row.body.as_ref().map_or_else(Body::empty, |json| Body::from(json.to_string()));
    let mut request = request.body(body).unwrap();
    // As a listener does.
    name_by_path(&mut request);
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

fn routes(world: &World) -> Vec<(bool, &Router, Row)> {
    let native = native_rows().into_iter().map(|row| (true, &world.native, row));
    let chroma = chroma_rows().into_iter().map(|row| (false, &world.chroma, row));
    native.chain(chroma).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_valid_key_nothing_but_the_public_routes_answers() {
    let world = World::new().await;
    let before = world.victims_state().await;
    let unknown = ApiKey::from_random(&[9; ApiKey::RANDOM_BYTES]).reveal();
    let half = format!("{}{}", &world.victim.admin[..60], &unknown[60..]);
    let expired = token(&world.victim, "admin", -1.0);
    let mut forged = token(&world.attacker, "admin", 600.0);
    // The attacker's signature under the victim's claims.
    let victims = token(&world.victim, "admin", 600.0);
    let claims = victims.rsplit_once('.').unwrap().0;
    forged.replace_range(..forged.rfind('.').unwrap(), claims);
    let keys = [
        None,
        Some(expired.as_str()),
        Some(forged.as_str()),
        Some("not a key"),
        Some(unknown.as_str()),
        Some(half.as_str()),
        Some(world.victim.revoked.as_str()),
    ];
    for (_, router, row) in routes(&world) {
        let path = fill(&row, "victim", world.victim.database, &world.victim);
        let below = format!("/t/victim{path}");
        for (key, path) in keys.iter().flat_map(|key| [(*key, &path), (*key, &below)]) {
            let (status, body) = send(router, &row, path, key, Some("victim")).await;
            if row.path == "/v1/signup" && *path == below {
                assert_eq!(status, StatusCode::NOT_FOUND, "{} {path}", row.method);
            } else if row.access == Access::Public {
                assert_eq!(status, everybodys(&row), "{} {path}", row.method);
            } else {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{} {path} {key:?}", row.method);
            }
            assert!(!body.contains(SECRET), "{} {path}: {body}", row.method);
        }
    }
    assert_eq!(world.victims_state().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_key_finds_nothing() {
    let world = World::new().await;
    finds_nothing(&world, &world.attacker.admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_token_finds_nothing() {
    let world = World::new().await;
    finds_nothing(&world, &token(&world.attacker, "admin", 600.0)).await;
}

async fn finds_nothing(world: &World, key: &str) {
    let before = world.victims_state().await;
    let (victim, attacker) = (&world.victim, &world.attacker);
    let key = Some(key);
    for (native, router, row) in routes(world) {
        if row.access == Access::Public {
            continue;
        }
        // The victim's names, by the victim's tenant name and as the attacker's own.
        let own = if native { "attacker" } else { "default_tenant" };
        let attempts = [
            ("victim", victim.database, Some("victim"), ""),
            (own, victim.database, None, ""),
            (own, attacker.database, None, ""),
            (own, victim.database, None, "/t/victim"),
        ];
        for (tenant, database, select, below) in attempts {
            let path = format!("{below}{}", fill(&row, tenant, database, victim));
            let select = select.filter(|_| native);
            let (status, body) = send(router, &row, &path, key, select).await;
            let place = format!("{} {path} {select:?}: {status} {body}", row.method);
            let names_victim = tenant == "victim" && (select.is_some() || path.contains("/victim"));
            let names_object = ["{collection}", "{id}", "{key}", "{member}", "{group}"]
                .iter()
                .any(|p| row.path.contains(p))
                || (row.path.contains("{database}") && database == victim.database);
            if !below.is_empty() {
                // Whatever the route is.
                assert_eq!(status, StatusCode::NOT_FOUND, "{place}");
            } else if row.access == Access::Operator {
                assert!(matches!(status.as_u16(), 403 | 404), "{place}");
            } else if row.path == "/v1/usage/events" && !names_victim {
                // Not of itself either: only an operator that acts as it.
                assert_eq!(status, StatusCode::FORBIDDEN, "{place}");
            } else if row.path.ends_with("{crn}") {
                // Not offered, whatever it names.
                assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{place}");
            } else if names_victim || names_object {
                assert_eq!(status, StatusCode::NOT_FOUND, "{place}");
            }
            // A refusal may repeat the name that the caller sent, and nothing else of the victim.
            let echoed = body.replace(&victim.collection, "");
            assert!(!echoed.contains("s3cret-of-the-victim-victim"), "{place}");
            assert!(
                !echoed.contains("victims-database") || path.contains("victims-database"),
                "{place}"
            );
            if !status.is_success() {
                assert!(!echoed.contains(SECRET), "{place}");
            }
        }
    }
    assert_eq!(world.victims_state().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_missing_answer_the_same_bytes() {
    let world = World::new().await;
    answers_the_same_bytes(&world, &world.attacker.admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_missing_answer_a_token_the_same_bytes() {
    let world = World::new().await;
    answers_the_same_bytes(&world, &token(&world.attacker, "admin", 600.0)).await;
}

async fn answers_the_same_bytes(world: &World, key: &str) {
    let (victim, attacker) = (&world.victim, &world.attacker);
    let key = Some(key);
    let missing = Party {
        name: "missing",
        database: "missing-database",
        collection: "missing-collection".to_owned(),
        collection_id: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(),
        admin: String::new(),
        reader: String::new(),
        key_id: "aaaaaaaaaaaaaaaa".to_owned(),
        revoked: String::new(),
    };
    let plain = |body: &str, of: &Party| {
        let mut json: Json = serde_json::from_str(body).unwrap_or_default();
        if let Some(error) = json.get_mut("error").and_then(Json::as_object_mut) {
            error.remove("request_id");
        }
        json.to_string()
            .replace(&of.collection, "COLLECTION")
            .replace(&of.collection_id, "ID")
            .replace(&of.key_id, "KEY")
            .replace(of.database, "DATABASE")
            .replace(of.name, "TENANT")
    };
    for (native, router, row) in routes(world) {
        if matches!(row.access, Access::Public | Access::Operator) {
            continue;
        }
        let own = if native { "attacker" } else { "default_tenant" };
        let by_path = async |of: &Party| {
            let path = format!("/t/{}{}", of.name, fill(&row, own, of.database, of));
            let (status, body) = send(router, &row, &path, key, None).await;
            (status, plain(&body, of))
        };
        assert_eq!(by_path(victim).await, by_path(&missing).await, "{} {}", row.method, row.path);
        for (foreign_tenant, missing_tenant) in [("victim", "missing"), (own, own)] {
            for own_database in [false, true] {
                let database =
                    |of: &Party| if own_database { attacker.database } else { of.database };
                let path = fill(&row, foreign_tenant, database(victim), victim);
                let select = (native && foreign_tenant != own).then_some(foreign_tenant);
                let names = ["victim", SECRET, &victim.collection_id, &victim.key_id];
                if select.is_none() && !names.iter().any(|name| path.contains(name)) {
                    continue;
                }
                let foreign = send(router, &row, &path, key, select).await;
                let path = fill(&row, missing_tenant, database(&missing), &missing);
                let select = (native && missing_tenant != own).then_some(missing_tenant);
                let absent = send(router, &row, &path, key, select).await;
                assert_eq!(foreign.0, absent.0, "{} {path}", row.method);
                assert_eq!(
                    plain(&foreign.1, victim),
                    plain(&absent.1, &missing),
                    "{} {path}",
                    row.method
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_key_reads_and_changes_nothing() {
    let world = World::new().await;
    changes_nothing(&world, &world.victim.reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_token_reads_and_changes_nothing() {
    let world = World::new().await;
    changes_nothing(&world, &token(&world.victim, "reader", 600.0)).await;
}

async fn changes_nothing(world: &World, key: &str) {
    let before = world.victims_state().await;
    let victim = &world.victim;
    let key = Some(key);
    for (_, router, row) in routes(world) {
        let path = fill(&row, "victim", victim.database, victim);
        let (status, body) = send(router, &row, &path, key, None).await;
        let place = format!("{} {path}: {status} {body}", row.method);
        match row.access {
            Access::Public => assert_eq!(status, everybodys(&row), "{place}"),
            Access::Read => assert!(
                status.is_success()
                    || status == StatusCode::NOT_IMPLEMENTED
                    || row.path.contains("{function}"),
                "{place}"
            ),
            Access::Write | Access::Admin | Access::Operator => {
                assert_eq!(status, StatusCode::FORBIDDEN, "{place}");
            }
        }
    }
    assert_eq!(world.victims_state().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_tenants_key_is_refused_everywhere() {
    let world = World::new().await;
    is_refused_everywhere(&world, &world.suspended.admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_tenants_token_is_refused_everywhere() {
    let world = World::new().await;
    is_refused_everywhere(&world, &token(&world.suspended, "admin", 600.0)).await;
}

async fn is_refused_everywhere(world: &World, key: &str) {
    let suspended = &world.suspended;
    let key = Some(key);
    for (_, router, row) in routes(world) {
        let path = fill(&row, "suspended", suspended.database, suspended);
        let (status, body) = send(router, &row, &path, key, None).await;
        let expected =
            if row.access == Access::Public { everybodys(&row) } else { StatusCode::FORBIDDEN };
        assert_eq!(status, expected, "{} {path}: {body}", row.method);
        assert!(!body.contains(SECRET), "{} {path}: {body}", row.method);
    }
}
