//! A chat product on Tenantry: its customers are tenants, from sign-up to their end, as their clients
//! and the product's operator see them over HTTP.

use crate::{
    commands::Target,
    installation::Installation,
    lifecycle::raw,
    program::{Folder, Server},
};
use serde_json::{Value, json};

const SETTINGS: [&str; 9] = [
    "--base-domain",
    "example.com",
    "--signup",
    "--signup-plan",
    "free",
    "--signup-template",
    "chat/messages",
    "--signup-rate",
    "100",
];

struct Product {
    server: Server,
    operator: String,
}

impl Product {
    /// Sends a request to a host; status and JSON.
    fn send(&self, line: &str, host: &str, key: &str, named: Option<&str>, body: &Value) -> Answer {
        let mut headers = vec![("host", host), ("content-type", "application/json")];
        if !key.is_empty() {
            headers.extend([("x-api-key", key), ("x-chroma-token", key)]);
        }
        headers.extend(named.map(|name| ("x-tenant-id", name)));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        raw(&self.server.url, line, &headers, &body)
    }

    /// What a client of a tenant sends to its subdomain.
    fn at(&self, tenant: &Tenant, line: &str, body: &Value) -> Answer {
        self.send(line, &tenant.host, &tenant.key, None, body)
    }

    /// What the operator sends.
    fn manage(&self, line: &str, body: &Value) -> Answer {
        self.send(line, "example.com", &self.operator, None, body)
    }

    fn sign_up(&self, subdomain: &str) -> Answer {
        let wish = json!({ "subdomain": subdomain });
        self.send("POST /v1/signup", "example.com", "", None, &wish)
    }

    /// A message of a tenant's user, asked for before it is taken.
    fn message(&self, tenant: &Tenant, id: &str) -> Answer {
        let event = json!({ "id": id, "meter": "messages", "amount": 1 });
        let report = json!({ "events": [event], "enforce": true });
        self.send("POST /v1/usage/events", &tenant.host, &self.operator, None, &report)
    }
}

type Answer = (u16, Value);

struct Tenant {
    host: String,
    key: String,
}

const OWN: &str = "GET /v1/tenant";
const NOTHING: Value = Value::Null;

/// A stranger becomes a tenant, with a place to begin with and the free plan.
fn signs_up(product: &Product, subdomain: &str) -> Tenant {
    let (status, made) = product.sign_up(subdomain);
    assert_eq!((status, &made["plan"]), (201, &json!("free")), "{made}");
    assert_eq!(made["login_url"], format!("https://{subdomain}.example.com/login"));
    assert_eq!(product.sign_up(subdomain).0, 409);
    let key = made["key"].as_str().unwrap().to_owned();
    Tenant { host: format!("{subdomain}.example.com"), key }
}

/// A subdomain, a header and a path, before every route or in one's own, say which tenant is meant, and a credential who may.
fn is_selected(product: &Product, acme: &Tenant) {
    let ask = |host: &str, key: &str, named: Option<&str>| {
        product.send(OWN, host, key, named, &NOTHING).0
    };
    let operator = &product.operator;
    assert_eq!(ask("acme.example.com", &acme.key, None), 200);
    assert_eq!(ask("example.com", &acme.key, Some("acme")), 200);
    assert_eq!(ask("example.com", operator, Some("acme")), 200);
    let path = "GET /chroma/api/v2/tenants/acme";
    assert_eq!(product.send(path, "example.com", operator, None, &NOTHING).0, 200);
    let below = |name: &str, key: &str| {
        let line = format!("GET /t/{name}/v1/databases/chat/collections/messages");
        product.send(&line, "example.com", key, None, &NOTHING).0
    };
    assert_eq!((below("acme", &acme.key), below("acme", operator)), (200, 200));
    // Nobody is meant, nobody is there, and somebody else is there: of these two one learns nothing.
    assert_eq!(ask("example.com", operator, None), 400);
    assert_eq!(ask("nobody.example.com", operator, None), 404);
    assert_eq!(ask("globex.example.com", &acme.key, None), 404);
    assert_eq!(ask("nobody.example.com", &acme.key, None), 404);
    assert_eq!(ask("example.com", &acme.key, Some("globex")), 404);
    assert_eq!((below("globex", &acme.key), below("nobody", &acme.key)), (404, 404));
    assert_eq!((below("globex", operator), below("nobody", operator)), (200, 404));
    assert_eq!(ask("acme.example.com", "", None), 401);
}

/// Messages are records of the tenant's own, and its neighbour finds none of them.
fn keeps_messages(product: &Product, acme: &Tenant, globex: &Tenant) {
    let records =
        |what: &str| format!("POST /v1/databases/chat/collections/messages/records/{what}");
    let hello =
        json!({"records": [{"id": "m1", "document": "hello", "metadata": {"user": "ann"}}]});
    assert_eq!(product.at(acme, &records("add"), &hello).0, 200);
    let (status, found) = product.at(acme, &records("get"), &json!({"filter": {"user": "ann"}}));
    assert_eq!((status, &found["records"][0]["document"]), (200, &json!("hello")), "{found}");
    let (_, counted) = product.at(globex, &records("count"), &json!({}));
    assert_eq!(counted["count"], 0, "{counted}");
}

/// What the plan says there may be.
fn is_limited(product: &Product, acme: &Tenant) {
    let user = |n: u32| json!({"id": format!("login/{n}"), "role": "member"});
    let statuses = [1, 2, 3].map(|n| product.at(acme, "POST /v1/members", &user(n)).0);
    assert_eq!(statuses, [201, 201, 429]);
    let database = |name: &str| json!({ "name": name });
    assert_eq!(product.at(acme, "POST /v1/databases", &database("more")).0, 429);
}

/// So many messages a day, each of them once.
fn has_so_many_messages(product: &Product, acme: &Tenant, globex: &Tenant) {
    for left in [2, 1, 0] {
        let (status, told) = product.message(acme, &format!("m{left}"));
        assert_eq!((status, &told["left"]["messages_per_day"]), (200, &json!(left)), "{told}");
    }
    let (status, refused) = product.message(acme, "one-too-many");
    assert_eq!((status, &refused["error"]["kind"]), (429, &json!("limit_exceeded")), "{refused}");
    // Whoever has not heard the answer asks again.
    let (status, told) = product.message(acme, "m0");
    assert_eq!((status, &told["duplicates"]), (200, &json!(1)), "{told}");
    assert_eq!(product.message(globex, "m0").0, 200);
    // It writes nothing on its own bill.
    let own = json!({"events": [{"id": "own", "meter": "messages", "amount": 1}]});
    assert_eq!(product.at(acme, "POST /v1/usage/events", &own).0, 403);
    let (_, used) = product.at(acme, "GET /v1/usage", &NOTHING);
    assert_eq!(used["entries"][0]["amounts"]["messages"], "3", "{used}");
    // A larger plan counts at once.
    let pro = json!({"plan": "pro"});
    assert_eq!(product.manage("PATCH /v1/admin/tenants/acme", &pro).0, 200);
    assert_eq!(product.message(acme, "one-too-many").0, 200);
}

fn is_suspended_and_resumed(product: &Product, acme: &Tenant, globex: &Tenant) {
    let (status, _) = product.manage("POST /v1/admin/tenants/acme/suspend", &NOTHING);
    assert_eq!((status, product.at(acme, OWN, &NOTHING).0), (200, 403));
    // What was used until then is counted.
    assert_eq!(product.message(acme, "late").0, 200);
    assert_eq!(product.at(globex, OWN, &NOTHING).0, 200);
    let (status, _) = product.manage("POST /v1/admin/tenants/acme/resume", &NOTHING);
    assert_eq!((status, product.at(acme, OWN, &NOTHING).0), (200, 200));
}

/// The operator makes, shows, changes and deletes tenants, and nobody else does.
fn is_managed(product: &Product, acme: &Tenant) {
    let all = "/v1/admin/tenants";
    let made = product.manage(&format!("POST {all}"), &json!({"name": "hooli", "plan": "free"}));
    assert_eq!((made.0, &made.1["state"]), (201, &json!("active")), "{}", made.1);
    assert_eq!(product.manage(&format!("POST {all}"), &json!({"name": "hooli"})).0, 409);
    let changed = product.manage(&format!("PATCH {all}/hooli"), &json!({"name": "hooli 2"}));
    assert_eq!(changed.0, 200, "{}", changed.1);
    let shown = product.manage(&format!("GET {all}/hooli%202"), &NOTHING);
    assert_eq!((shown.0, &shown.1["plan"]), (200, &json!("free")));
    assert_eq!(product.manage(&format!("DELETE {all}/hooli%202"), &NOTHING).0, 204);
    assert_eq!(product.manage(&format!("GET {all}/hooli%202"), &NOTHING).0, 404);
    assert_eq!(product.at(acme, &format!("DELETE {all}/globex"), &NOTHING).0, 403);
}

fn ends(product: &Product, acme: &Tenant, globex: &Tenant) {
    assert_eq!(product.manage("DELETE /v1/admin/tenants/acme", &NOTHING).0, 204);
    assert_eq!(product.at(acme, OWN, &NOTHING).0, 401);
    assert_eq!(product.at(globex, OWN, &NOTHING).0, 200);
    // Its name is free, and its messages are nobody's.
    let next = signs_up(product, "acme");
    let count = "POST /v1/databases/chat/collections/messages/records/count";
    assert_eq!(product.at(&next, count, &json!({})).1["count"], 0);
    let (_, told) = product.message(&next, "m0");
    assert_eq!((&told["counted"], &told["left"]["messages_per_day"]), (&json!(1), &json!(2)));
}

fn serves_a_chat_product(operator: String, server: Server) {
    let target = Target::Server(server.url.clone(), operator.clone());
    let free = ["databases=2", "users=2", "messages_per_day=3"];
    target.done(&[&["plan", "put", "free"][..], &free].concat());
    target.done(&["plan", "put", "pro", "messages_per_day=none"]);
    let product = Product { server, operator };
    assert_eq!(product.sign_up("Not A Subdomain!").0, 400);
    let (acme, globex) = (signs_up(&product, "acme"), signs_up(&product, "globex"));
    is_selected(&product, &acme);
    keeps_messages(&product, &acme, &globex);
    is_limited(&product, &acme);
    has_so_many_messages(&product, &acme, &globex);
    is_suspended_and_resumed(&product, &acme, &globex);
    is_managed(&product, &acme);
    ends(&product, &acme, &globex);
    product.server.stop();
}

#[test]
fn a_chat_product_is_served_from_files() {
    let folder = Folder::new();
    serves_a_chat_product(folder.key.clone(), folder.serve(&SETTINGS));
}

#[test]
fn a_chat_product_is_served_from_postgres() {
    let installation = Installation::new();
    let operator = installation.found();
    let server = Server::spawn(&mut installation.command(&installation.url, &SETTINGS));
    serves_a_chat_product(operator, server);
}
