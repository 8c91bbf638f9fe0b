//! Tokens of issuers, over HTTP, in the native protocol and in Chroma's.

use crate::{
    issuer::{Issuer, KeyServer, SECRET, message, now},
    on_postgres::{ask, get},
    program::{Folder, Server, fails, tenantry, texts},
};
use serde_json::{Value, json};
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

const COLLECTIONS: &str = "/v1/databases/default_database/collections";

/// A server that trusts one issuer of tokens, whose tenants are named by this setting.
struct World {
    folder: Folder,
    server: Server,
}

impl World {
    fn new(tenant: &str) -> Self {
        let folder = Folder::new();
        let file = folder.temporary.path().join("issuers.toml");
        let secret = folder.temporary.path().join("secret");
        fs::write(&secret, SECRET).unwrap();
        let keys = format!("secret_file = \"{}\"", secret.display());
        fs::write(&file, settings(&keys, tenant)).unwrap();
        Self::with(folder)
    }

    /// A server with these issuers, of which each has a name for the file of its keys.
    fn trusting(issuers: &[(&str, &Issuer)]) -> Self {
        let folder = Folder::new();
        let of = |(name, issuer): &(&str, &Issuer)| {
            let file = folder.temporary.path().join(format!("{name}.json"));
            fs::write(&file, issuer.jwks()).unwrap();
            let keys = format!("jwks_file = \"{}\"", file.display());
            settings(&keys, BY_NAME)
                .replace("name = \"login\"", &format!("name = \"{name}\""))
                .replace("login.example", &format!("{name}.example"))
        };
        let all: String = issuers.iter().map(of).collect();
        fs::write(folder.temporary.path().join("issuers.toml"), all).unwrap();
        Self::with(folder)
    }

    fn with(folder: Folder) -> Self {
        let file = folder.temporary.path().join("issuers.toml").display().to_string();
        let server = folder.serve(&["--token-issuers", &file]);
        Self { folder, server }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url)
    }

    fn operator(&self, line: &str, body: &Value) -> Value {
        let (method, path) = line.split_once(' ').unwrap();
        get(method, &self.url(path), &self.folder.key, None, body)
    }

    /// Makes a tenant with a collection of its own name; an admin key and the tenant's id.
    fn tenant(&self, name: &str) -> (String, u64) {
        let made = self.operator("POST /v1/admin/tenants", &json!({ "name": name }));
        let role = json!({ "role": "admin" });
        let key = get("POST", &self.url("/v1/keys"), &self.folder.key, Some(name), &role);
        let key = key["key"].as_str().unwrap().to_owned();
        get("POST", &self.url(COLLECTIONS), &key, None, &json!({ "name": name }));
        (key, made["id"].as_u64().unwrap())
    }

    /// Status and body, without what differs from request to request.
    fn native(&self, line: &str, key: &str, tenant: Option<&str>, body: &Value) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let (status, _, mut answer) = ask(method, &self.url(path), key, tenant, body);
        if let Some(error) = answer.get_mut("error").and_then(Value::as_object_mut) {
            error.remove("request_id");
        }
        (status, answer)
    }

    fn chroma(&self, path: &str, header: (&str, &str)) -> (u16, Value) {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("{}/api/v2/tenants/{path}", self.server.chroma);
        let mut answer = agent.get(url).header(header.0, header.1).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap())
    }

    fn reads(&self, token: &str) -> (u16, Value) {
        self.native(&format!("GET {COLLECTIONS}"), token, None, &Value::Null)
    }
}

fn settings(keys: &str, tenant: &str) -> String {
    format!(
        "[[issuer]]\nname = \"login\"\niss = \"https://login.example\"\naudience = \"tenantry\"\n\
         {keys}\n{tenant}\nroles = \"app_metadata.roles\"\nfilter = \"only\"\n\
         filter_required = false\n\n\
         [issuer.levels]\nviewer = \"read\"\neditor = \"write\"\nowner = \"admin\"\n"
    )
}

const BY_NAME: &str = "tenant_name = \"org\"";
const BY_ID: &str = "tenant_id = \"org\"";

fn claims(tenant: &Value, role: &str) -> Value {
    json!({
        "iss": "https://login.example", "aud": ["tenantry", "other"], "sub": "alice",
        "iat": now(), "exp": now() + 600.0, "org": tenant, "app_metadata": { "roles": [role] },
    })
}

fn token(tenant: &Value, role: &str) -> String {
    Issuer::shared().token(&claims(tenant, role))
}

fn names(answer: &(u16, Value)) -> Vec<&str> {
    assert_eq!(answer.0, 200, "{answer:?}");
    let list = answer.1.get("collections").unwrap_or(&answer.1).as_array().unwrap();
    list.iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn a_token_is_taken_on_the_command_line_and_never_shown() {
    let world = World::new(BY_NAME);
    let (key, _) = world.tenant("acme");
    let token = token(&json!("acme"), "owner");
    let forged = format!("{token}A");
    let (key, token, forged) = (key.as_str(), token.as_str(), forged.as_str());
    let listed = |flags: &[&str], variables: &[(&str, &str)]| {
        let args = [&["key", "list", "--server", &world.server.url][..], flags].concat();
        let mut command = tenantry(&args);
        let (code, out, err) = texts(&command.envs(variables.iter().copied()).output().unwrap());
        let said = out + &err;
        assert!(!said.contains(token) && !said.contains(key), "{said}");
        (code, said)
    };
    let id = key.split('_').nth(1).unwrap();
    for (flags, variables) in [
        (&[][..], &[("TENANTRY_TOKEN", token)][..]),
        (&["--token", token], &[]),
        // A flag beats the other's variable.
        (&["--token", token], &[("TENANTRY_KEY", key)]),
        (&["--key", key], &[("TENANTRY_TOKEN", forged)]),
    ] {
        let (code, said) = listed(flags, variables);
        assert!(code == 0 && said.contains(id), "{said}");
    }
    for (variables, words) in [
        (&[("TENANTRY_TOKEN", forged)][..], "the token is not valid"),
        (&[("TENANTRY_TOKEN", key)], "TENANTRY_TOKEN gives is not a token"),
        (&[("TENANTRY_TOKEN", "a.b.c\r\nx-tenant-id: x")], "TENANTRY_TOKEN gives is not a token"),
        (&[("TENANTRY_KEY", token)], "TENANTRY_KEY gives is not an API key"),
        (&[("TENANTRY_KEY", key), ("TENANTRY_TOKEN", token)], "give one, and unset the other"),
    ] {
        let (code, said) = listed(&[], variables);
        assert!(code == 1 && said.contains(words), "{said}");
    }
    let (code, said) = listed(&["--token", token, "--key", key], &[]);
    assert!(code == 1 && said.contains("both a key and a token"), "{said}");
}

#[test]
fn a_token_acts_in_its_own_tenant_and_is_answered_elsewhere_as_a_key_is() {
    for setting in [BY_NAME, BY_ID] {
        let world = World::new(setting);
        let (key, id) = world.tenant("acme");
        world.tenant("globex");
        let means = if setting == BY_ID { json!(id.to_string()) } else { json!("acme") };
        let token = token(&means, "owner");
        assert_eq!(names(&world.reads(&token)), ["acme"]);
        let list = format!("GET {COLLECTIONS}");
        assert_eq!(world.native(&list, &token, Some("acme"), &Value::Null).0, 200);
        for other in ["globex", "nobody"] {
            let of_key = world.native(&list, &key, Some(other), &Value::Null);
            let of_token = world.native(&list, &token, Some(other), &Value::Null);
            assert!(of_key.0 == 404 && of_key == of_token, "{of_key:?} {of_token:?}");
        }
        let operators = world.native("GET /v1/admin/tenants", &token, None, &Value::Null);
        assert_eq!(operators.0, 403, "{operators:?}");
    }
}

#[test]
fn chromas_clients_send_the_same_token() {
    let world = World::new(BY_NAME);
    let (key, _) = world.tenant("acme");
    world.tenant("globex");
    let token = token(&json!("acme"), "viewer");
    let bearer = format!("Bearer {token}");
    for header in [("x-chroma-token", &*token), ("authorization", &*bearer)] {
        for tenant in ["default_tenant", "acme"] {
            let path = format!("{tenant}/databases/default_database/collections");
            assert_eq!(names(&world.chroma(&path, header)), ["acme"]);
        }
        for tenant in ["globex", "nobody"] {
            let path = format!("{tenant}/databases/default_database/collections");
            let of_key = world.chroma(&path, ("x-chroma-token", &key));
            assert!(of_key.0 == 404 && of_key == world.chroma(&path, header), "{of_key:?}");
        }
    }
}

#[test]
fn a_role_is_what_the_issuers_word_means_here() {
    let world = World::new(BY_NAME);
    world.tenant("acme");
    let make = |role: &str, name: &str| {
        let (body, token) = (json!({ "name": name }), token(&json!("acme"), role));
        world.native(&format!("POST {COLLECTIONS}"), &token, None, &body).0
    };
    assert_eq!((make("viewer", "a"), make("editor", "b"), make("guest", "c")), (403, 201, 401));
    let keys = |role: &str| {
        world.native("GET /v1/keys", &token(&json!("acme"), role), None, &Value::Null).0
    };
    assert_eq!((keys("editor"), keys("owner")), (403, 200));
}

#[test]
fn a_suspended_tenant_and_one_that_is_gone_are_closed_to_tokens_as_to_keys() {
    let world = World::new(BY_ID);
    let (key, id) = world.tenant("acme");
    let token = token(&json!(id), "owner");
    assert_eq!(names(&world.reads(&token)), ["acme"]);
    world.operator("POST /v1/admin/tenants/acme/suspend", &Value::Null);
    let of_key = world.reads(&key);
    assert!(of_key.0 == 403 && of_key == world.reads(&token), "{of_key:?}");
    world.operator("POST /v1/admin/tenants/acme/resume", &Value::Null);
    assert_eq!(world.reads(&token).0, 200);
    world.operator("DELETE /v1/admin/tenants/acme", &Value::Null);
    let (status, answer) = world.reads(&token);
    assert_eq!((status, world.reads(&key).0), (401, 401));
    assert_eq!(answer["error"]["message"], "the token is not valid");
    assert_eq!(world.reads(&self::token(&json!(id + 1_000), "owner")), (status, answer));
}

#[test]
fn a_name_that_was_given_again_is_not_what_an_older_token_means() {
    let world = World::new(BY_NAME);
    world.tenant("acme");
    let old = token(&json!("acme"), "owner");
    assert_eq!(world.reads(&old).0, 200);
    world.operator("DELETE /v1/admin/tenants/acme", &Value::Null);
    let gone = world.reads(&old);
    assert_eq!(gone.0, 401);
    world.tenant("acme");
    assert_eq!(world.reads(&old), gone);
    assert_eq!(world.reads(&token(&json!("acme"), "owner")).0, 200);
}

#[test]
fn a_name_that_a_tenant_gets_is_not_what_an_older_token_means() {
    for (setting, status) in [(BY_NAME, 401), (BY_ID, 200)] {
        let world = World::new(setting);
        let (_, id) = world.tenant("acme");
        let means = |name: &str| if setting == BY_ID { json!(id) } else { json!(name) };
        let (old, other) = (token(&means("acme"), "owner"), token(&means("globex"), "owner"));
        assert_eq!(world.reads(&old).0, 200);
        let name = json!({ "name": "globex" });
        world.operator("PATCH /v1/admin/tenants/acme", &name);
        assert_eq!((world.reads(&old).0, world.reads(&other).0), (status, status));
        assert_eq!(world.reads(&token(&means("globex"), "owner")).0, 200);
    }
}

#[test]
fn the_tenants_log_says_who_it_was() {
    let world = World::new(BY_NAME);
    let (key, _) = world.tenant("acme");
    let made = json!({ "name": "notes" });
    let token = token(&json!("acme"), "editor");
    assert_eq!(world.native(&format!("POST {COLLECTIONS}"), &token, None, &made).0, 201);
    let log = get("GET", &world.url("/v1/audit"), &key, None, &Value::Null).to_string();
    assert!(log.contains("\"user:login/alice\""), "{log}");
}

#[test]
fn a_token_reaches_the_records_of_its_filter_alone() {
    let world = World::new(BY_NAME);
    let (key, _) = world.tenant("acme");
    let records = json!({ "records": [
        { "id": "a", "vector": [1.0], "metadata": { "of": "alice" } },
        { "id": "b", "vector": [1.0], "metadata": { "of": "bob" } },
    ]});
    get("POST", &world.url(&format!("{COLLECTIONS}/acme/records/upsert")), &key, None, &records);
    let count = |only: Value| {
        let mut claims = claims(&json!("acme"), "viewer");
        claims["only"] = only;
        let token = Issuer::shared().token(&claims);
        let path = format!("POST {COLLECTIONS}/acme/records/get");
        let (status, answer) = world.native(&path, &token, None, &json!({}));
        (status, answer["records"].as_array().map(Vec::len))
    };
    assert_eq!(count(json!({ "of": "alice" })), (200, Some(1)));
    for bad in [json!({}), json!("of = 'alice'"), json!({ "$near": 1 }), Value::Null] {
        assert_eq!(count(bad.clone()).0, 401, "{bad}");
    }
}

/// A token of an operator, of no tenant.
fn staff(issuer: &Issuer) -> String {
    let mut claims = claims(&Value::Null, "cross_tenant_admin");
    claims.as_object_mut().unwrap().remove("org");
    issuer.token(&claims)
}

fn acts_in_tenants_and_manages_none(world: &World, staff: &str) {
    let keys = ["acme", "globex"].map(|name| world.tenant(name).0);
    let list = format!("GET {COLLECTIONS}");
    for (name, key) in ["acme", "globex"].into_iter().zip(&keys) {
        assert_eq!(names(&world.native(&list, staff, Some(name), &Value::Null)), [name]);
        let path = format!("{name}/databases/default_database/collections");
        assert_eq!(names(&world.chroma(&path, ("x-chroma-token", staff))), [name]);
        let made = json!({ "name": "made" });
        assert_eq!(world.native("POST /v1/databases", staff, Some(name), &made).0, 201);
        let log = get("GET", &world.url("/v1/audit"), key, None, &Value::Null);
        let log = log.to_string();
        for word in ["\"operator:login/alice\"", "operator.act_as", "database.create"] {
            assert!(log.contains(word), "{name}, {word}: {log}");
        }
        let me = world.native("GET /v1/me", staff, Some(name), &Value::Null).1;
        assert_eq!(
            (&me["kind"], &me["actor"]),
            (&json!("operator"), &json!("operator:login/alice"))
        );
    }
    assert_eq!(world.native(&list, staff, None, &Value::Null).0, 400);
    assert_eq!(world.native(&list, staff, Some("nobody"), &Value::Null).0, 404);
    let name = json!({ "name": "new" });
    for (line, body) in [
        ("GET /v1/admin/tenants", &Value::Null),
        ("POST /v1/admin/tenants", &name),
        ("DELETE /v1/admin/tenants/acme", &Value::Null),
        ("POST /v1/admin/keys", &json!({})),
        ("GET /v1/admin/audit", &Value::Null),
        ("GET /metrics", &Value::Null),
    ] {
        assert_eq!(world.native(line, staff, None, body).0, 403, "{line}");
        assert_eq!(world.native(line, staff, Some("acme"), body).0, 403, "{line}");
    }
}

#[test]
fn an_issuer_makes_operators_if_its_settings_say_so() {
    let setting = format!("{BY_NAME}\noperator_roles = [\"cross_tenant_admin\"]");
    let world = World::new(&setting);
    acts_in_tenants_and_manages_none(&world, &staff(&Issuer::shared()));
    // With a tenant it is of this one, and everything else is as if it were not there.
    let limited = token(&json!("acme"), "cross_tenant_admin");
    assert_eq!(names(&world.reads(&limited)), ["acme"]);
    let list = format!("GET {COLLECTIONS}");
    let of_user = token(&json!("acme"), "owner");
    for other in ["globex", "nobody"] {
        let answer = world.native(&list, &limited, Some(other), &Value::Null);
        let user = world.native(&list, &of_user, Some(other), &Value::Null);
        assert!(answer.0 == 404 && answer == user, "{answer:?} {user:?}");
    }
    // The other roles are what they were.
    let me = world.native("GET /v1/me", &of_user, None, &Value::Null).1;
    assert_eq!(me["kind"], "user");
    assert_eq!(world.native(&list, &of_user, Some("globex"), &Value::Null).0, 404);
    world.server.stop();
    // The same by public keys.
    let (issuer, folder) = (Issuer::ed25519("1"), Folder::new());
    let keys = folder.temporary.path().join("keys.json");
    fs::write(&keys, issuer.jwks()).unwrap();
    let keys = format!("jwks_file = \"{}\"", keys.display());
    fs::write(folder.temporary.path().join("issuers.toml"), settings(&keys, &setting)).unwrap();
    let world = World::with(folder);
    acts_in_tenants_and_manages_none(&world, &staff(&issuer));
}

#[test]
fn without_the_setting_no_token_makes_anybody_an_operator() {
    let world = World::new(BY_NAME);
    world.tenant("acme");
    let list = format!("GET {COLLECTIONS}");
    let limited = token(&json!("acme"), "cross_tenant_admin");
    for token in [&staff(&Issuer::shared()), &limited] {
        assert_eq!(world.native(&list, token, Some("acme"), &Value::Null).0, 401);
        assert_eq!(world.native("GET /v1/admin/tenants", token, None, &Value::Null).0, 401);
    }
}

/// These claims with others instead.
fn but(claims: &Value, changes: Value) -> Value {
    let mut all = claims.clone();
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    all
}

#[test]
fn issuers_with_keys_of_several_kinds_sign_each_for_itself() {
    let (rsa, p256) = (Issuer::rsa("1"), Issuer::p256("1"));
    let world = World::trusting(&[("login", &rsa), ("other", &p256)]);
    let (key, _) = world.tenant("acme");
    let of_login = claims(&json!("acme"), "editor");
    let of_other = but(&of_login, json!({ "iss": "https://other.example" }));
    let make = |token: &str, name: &str| {
        let body = json!({ "name": name });
        world.native(&format!("POST {COLLECTIONS}"), token, None, &body).0
    };
    assert_eq!(make(&rsa.token(&of_login), "a"), 201);
    assert_eq!(make(&p256.token(&of_other), "b"), 201);
    assert_eq!((make(&rsa.token(&of_other), "c"), make(&p256.token(&of_login), "d")), (401, 401));
    let log = get("GET", &world.url("/v1/audit"), &key, None, &Value::Null);
    let made = log["entries"].as_array().unwrap().iter();
    let made = made.filter(|entry| entry["action"] == "collection.create");
    let by: Vec<_> = made.map(|entry| entry["actor"].as_str().unwrap()).collect();
    assert_eq!(by[1..], ["user:login/alice", "user:other/alice"], "one was made by a key");
}

#[test]
fn tokens_that_begin_alike_are_each_their_own_tenants() {
    let world = World::new(BY_NAME);
    world.tenant("acme");
    world.tenant("globex");
    // Claims are written in order, and this one comes first.
    let long = json!({ "a": "x".repeat(3_000) });
    let [acme, globex] = ["acme", "globex"]
        .map(|name| Issuer::shared().token(&but(&claims(&json!(name), "viewer"), long.clone())));
    let same = acme.bytes().zip(globex.bytes()).take_while(|(one, other)| one == other).count();
    assert!(same > 4_000, "{same}");
    for _ in 0..3 {
        assert_eq!(names(&world.reads(&acme)), ["acme"]);
        assert_eq!(names(&world.reads(&globex)), ["globex"]);
    }
    // What the one has signed is no signature of the other.
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    let forged = globex.replace(&signature(&globex), &signature(&acme));
    assert_eq!(world.reads(&forged).0, 401);
}

#[test]
fn each_attack_on_a_token_is_a_401_by_both_protocols() {
    let issuer = Issuer::ed25519("1");
    let world = World::trusting(&[("login", &issuer)]);
    world.tenant("acme");
    let good = claims(&json!("acme"), "owner");
    let with = |changes: Value| issuer.token(&but(&good, changes));
    let none = message(&json!({ "alg": "none", "kid": "1" }), &good);
    let (valid, of_other) = (with(json!({})), with(json!({ "org": "globex" })));
    let parts = |token: &str| token.rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let (signed, signature) = (parts(&of_other).unwrap().0, parts(&valid).unwrap().1);
    // Remembered first, so that the memory is attacked too.
    assert_eq!(world.reads(&valid).0, 200);
    let nothing_more = "the token is not valid";
    for (case, token, says) in [
        ("nobody has signed it", format!("{none}."), nothing_more),
        ("nobody has signed it, it says", format!("{none}.{signature}"), nothing_more),
        (
            "the public key is the secret",
            Issuer::knowing(&issuer.jwks()).token(&good),
            nothing_more,
        ),
        ("another's claims", format!("{signed}.{signature}"), nothing_more),
        ("another has signed it", Issuer::ed25519("1").token(&good), nothing_more),
        ("an unknown kid", Issuer::ed25519("2").token(&good), nothing_more),
        ("an unknown issuer", with(json!({ "iss": "https://thief.example" })), nothing_more),
        ("another audience", with(json!({ "aud": "elsewhere" })), nothing_more),
        ("huge", with(json!({ "fill": "x".repeat(8 << 10) })), nothing_more),
        ("expired", with(json!({ "exp": now() - 120.0 })), "it has expired"),
        ("not yet valid", with(json!({ "nbf": now() + 300.0 })), "its time has not come"),
        ("of a tenant that is not there", of_other.clone(), nothing_more),
    ] {
        let (status, answer) = world.reads(&token);
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(status == 401 && said.ends_with(says), "{case}: {status} {answer}");
        let chroma = "default_tenant/databases/default_database/collections";
        let answer = world.chroma(chroma, ("x-chroma-token", &token));
        assert_eq!(answer.0, 401, "{case}: {answer:?}");
    }
    assert_eq!(world.reads(&valid).0, 200);
}

#[test]
fn keys_are_fetched_and_fetched_again() {
    let (old, new) = (Issuer::ed25519("1"), Issuer::ed25519("2"));
    let keys = KeyServer::start(old.jwks());
    for setting in [
        format!("jwks_url = \"{}/keys\"", keys.url),
        format!("discovery_url = \"{}/.well-known/openid-configuration\"", keys.url),
    ] {
        keys.set(old.jwks());
        let folder = Folder::new();
        let file = folder.temporary.path().join("issuers.toml");
        fs::write(&file, settings(&format!("{setting}\nrefresh = \"1s\""), BY_NAME)).unwrap();
        let world = World::with(folder);
        world.tenant("acme");
        let claims = claims(&json!("acme"), "viewer");
        let (of_old, of_new) = (old.token(&claims), new.token(&claims));
        until(&world, &of_old, 200);
        assert_eq!(world.reads(&of_new).0, 401);
        keys.set(new.jwks());
        until(&world, &of_new, 200);
        assert_eq!(world.reads(&of_old).0, 401);
        // What is no set of keys changes nothing.
        keys.set("<html>".into());
        sleep(Duration::from_millis(1_500));
        assert_eq!(world.reads(&of_new).0, 200);
        world.server.stop();
    }
}

fn until(world: &World, token: &str, status: u16) {
    let begun = Instant::now();
    loop {
        let answer = world.reads(token);
        if answer.0 == status {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{answer:?}");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_issuer_that_does_not_answer_is_a_503_and_stops_no_server() {
    let folder = Folder::new();
    let file = folder.temporary.path().join("issuers.toml");
    // Nobody listens there.
    let keys = "jwks_url = \"http://127.0.0.1:1/keys\"";
    fs::write(&file, settings(keys, BY_NAME)).unwrap();
    let world = World::with(folder);
    let (key, _) = world.tenant("acme");
    let token = Issuer::ed25519("1").token(&claims(&json!("acme"), "viewer"));
    assert_eq!((world.reads(&token).0, world.reads(&key).0), (503, 200));
    let log = world.server.stop();
    assert!(log.contains("fetch an issuer's keys") && log.contains("login"), "{log}");
}

#[test]
fn settings_of_issuers_are_looked_at_before_anything_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("issuers.toml"));
    let serve = || {
        let mut command = tenantry(&["serve", "--listen", "127.0.0.1:0", "--token-issuers"]);
        command.arg(&file).arg("--data-dir").arg(&data);
        command
    };
    fails(&mut serve(), &["read the token issuers", "issuers.toml"]);
    fs::write(&file, settings("secret_env = \"OUR_SECRET\"", BY_NAME)).unwrap();
    fails(&mut serve(), &["issuers.toml", "line 1", "OUR_SECRET is not set"]);
    let short = fails_with(serve(), "OUR_SECRET", "too short");
    assert!(short.contains("at least 32") && !short.contains("too short"), "{short}");
    assert!(!data.exists());
}

/// What is said with this variable.
fn fails_with(mut command: std::process::Command, name: &str, value: &str) -> String {
    let out = command.env(name, value).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    String::from_utf8(out.stderr).unwrap()
}
