//! Members of a tenant, over HTTP and by the command line, with tokens of an issuer that counts for
//! members only.

use crate::{
    issuer::{Issuer, SECRET, now},
    on_postgres::{ask, get},
    program::{Folder, Server, run},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

const COLLECTIONS: &str = "/v1/databases/default_database/collections";

struct World {
    folder: Folder,
    server: Server,
}

impl World {
    /// A server with the tenant `acme`.
    fn new(more: &str) -> Self {
        let folder = Folder::new();
        let (file, secret) =
            (folder.temporary.path().join("issuers.toml"), folder.temporary.path().join("secret"));
        fs::write(&secret, SECRET).unwrap();
        let text = format!(
            "[[issuer]]\nname = \"login\"\niss = \"https://login.example\"\n\
             audience = \"tenantry\"\nsecret_file = \"{}\"\ntenant_name = \"org\"\n\
             members = \"required\"\n{more}",
            secret.display()
        );
        fs::write(&file, text).unwrap();
        let server = folder.serve(&["--token-issuers", &file.display().to_string()]);
        let world = Self { folder, server };
        world.operator("POST /v1/admin/tenants", &json!({ "name": "acme" }));
        world
    }

    fn operator(&self, line: &str, body: &Value) -> Value {
        let (method, path) = line.split_once(' ').unwrap();
        get(method, &format!("{}{path}", self.server.url), &self.folder.key, None, body)
    }

    /// Status and answer.
    fn asks(&self, token: &str, line: &str, body: &Value) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let (status, _, answer) =
            ask(method, &format!("{}{path}", self.server.url), token, None, body);
        (status, answer)
    }

    /// A command of the operator, against the server.
    fn command(&self, args: &[&str]) -> (i32, String, String) {
        let target = ["--server", &self.server.url, "--key", &self.folder.key];
        run(&[args, &target[..]].concat())
    }

    fn done(&self, args: &[&str]) -> String {
        let (code, out, err) = self.command(args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    }
}

/// A token of this subject.
fn token(subject: &str, role: &str) -> String {
    Issuer::shared().token(&json!({
        "iss": "https://login.example", "aud": "tenantry", "sub": subject, "org": "acme",
        "role": role, "iat": now(), "exp": now() + 600.0,
    }))
}

#[test]
fn a_tenant_governs_its_members_by_itself() {
    let world = World::new("");
    let (alice, bob) = (token("alice", ""), token("bob", ""));
    let me = "GET /v1/me";
    assert_eq!(world.asks(&alice, me, &Value::Null).0, 401);
    let added = world.done(&[
        "member",
        "add",
        "login/alice",
        "--tenant",
        "acme",
        "--role",
        "owner",
        "--email",
        "alice@acme.example",
    ]);
    assert!(added.contains("login/alice") && added.contains("owner"), "{added}");
    let (status, who) = world.asks(&alice, me, &Value::Null);
    let said = json!({
        "actor": "user:login/alice", "kind": "user", "tenant": "acme", "level": "admin",
        "role": "owner", "groups": [], "limited": false,
    });
    assert_eq!((status, who), (200, said));

    let new = json!({ "id": "login/bob", "role": "member", "name": "Bob" });
    assert_eq!(world.asks(&bob, me, &Value::Null).0, 401);
    let (status, made) = world.asks(&alice, "POST /v1/members", &new);
    assert_eq!((status, &made["subject"], &made["state"]), (201, &json!("bob"), &json!("active")));
    assert_eq!(world.asks(&alice, "POST /v1/members", &new).0, 409);
    let notes = json!({ "name": "notes" });
    assert_eq!(world.asks(&bob, &format!("POST {COLLECTIONS}"), &notes).0, 201);
    assert_eq!(world.asks(&bob, "GET /v1/members", &Value::Null).0, 403);

    let one = "PATCH /v1/members/login%2Fbob";
    assert_eq!(world.asks(&alice, one, &json!({ "state": "suspended" })).0, 200);
    assert_eq!(world.asks(&bob, me, &Value::Null).0, 401);
    let back = json!({ "state": "active", "role": "admin" });
    assert_eq!(world.asks(&alice, one, &back).0, 200);
    let (status, listed) = world.asks(&bob, "GET /v1/members", &Value::Null);
    assert_eq!((status, listed["members"].as_array().unwrap().len()), (200, 2));
    // An admin is no owner's master, and nobody makes themselves one.
    let owner = json!({ "role": "owner" });
    assert_eq!(world.asks(&bob, one, &owner).0, 403);
    assert_eq!(world.asks(&bob, "DELETE /v1/members/login%2Falice", &Value::Null).0, 403);
    let (status, why) = world.asks(&alice, "DELETE /v1/members/login%2Falice", &Value::Null);
    assert_eq!((status, &why["error"]["kind"]), (409, &json!("conflict")));
    let (code, _, why) = world.command(&["member", "remove", "login/alice", "--tenant", "acme"]);
    assert!(code == 1 && why.contains("the last owner"), "{why}");

    assert_eq!(world.asks(&alice, "DELETE /v1/members/login%2Fbob", &Value::Null).0, 204);
    assert_eq!(world.asks(&bob, me, &Value::Null).0, 401);
    let gone = world.asks(&alice, "GET /v1/members/login%2Fbob", &Value::Null);
    assert_eq!((gone.0, &gone.1["error"]["kind"]), (404, &json!("not_found")));
    assert_eq!(world.asks(&alice, "GET /v1/members/nobody", &Value::Null).0, 404);

    let log = world.asks(&alice, "GET /v1/audit", &Value::Null).1.to_string();
    for said in ["member.add", "member.role", "member.suspend", "member.remove"] {
        assert!(log.contains(said), "{said}: {log}");
    }
}

#[test]
fn what_a_token_says_of_roles_narrows_a_member() {
    let world =
        World::new("roles = \"role\"\n\n[issuer.levels]\nviewer = \"read\"\nall = \"admin\"");
    world.done(&["member", "add", "login/alice", "--tenant", "acme"]);
    let level = |role: &str| {
        let (status, me) = world.asks(&token("alice", role), "GET /v1/me", &Value::Null);
        (status, me["level"].as_str().map(str::to_owned))
    };
    assert_eq!(level("viewer"), (200, Some("read".into())));
    assert_eq!(level("all"), (200, Some("write".into())));
    assert_eq!(level("guest"), (401, None));
}

#[test]
fn a_tenant_has_no_more_members_than_its_plan_says() {
    let world = World::new("");
    world.done(&["limit", "set", "acme", "users=2"]);
    for who in ["login/a", "login/b"] {
        world.done(&["member", "add", who, "--tenant", "acme"]);
    }
    let (code, _, why) = world.command(&["member", "add", "login/c", "--tenant", "acme"]);
    assert!(code == 1 && why.contains("may have 2 members"), "{why}");
    let change = ["member", "update", "login/a", "--tenant", "acme", "--suspend", "--json"];
    let changed: Value = serde_json::from_str(&world.done(&change)).unwrap();
    assert_eq!((&changed["id"], &changed["state"]), (&json!("login/a"), &json!("suspended")));
    let table = world.done(&["member", "list", "--tenant", "acme"]);
    let rows: Vec<Vec<_>> =
        table.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    let expected = [["MEMBER", "ROLE", "STATE"], ["login/a", "member", "suspended"]];
    assert_eq!(rows[..2], expected, "{table}");
    assert_eq!(rows[2], ["login/b", "member", "active"], "{table}");
    let why = world.command(&["member", "add", "elsewhere/a", "--tenant", "acme"]).2;
    assert!(why.contains("no issuer of tokens is called \"elsewhere\""), "{why}");
    world.done(&["member", "remove", "login/a", "--tenant", "acme"]);
    world.done(&["member", "add", "login/c", "--tenant", "acme"]);
}

impl World {
    /// The collections `notes`, `drafts` and `secret` in the default database, with a record each.
    fn fill(&self) {
        let own = |method: &str, path: &str, body: &Value| {
            let url = format!("{}{COLLECTIONS}{path}", self.server.url);
            get(method, &url, &self.folder.key, Some("acme"), body)
        };
        for name in ["notes", "drafts", "secret"] {
            own("POST", "", &json!({ "name": name }));
            own("POST", &format!("/{name}/records/upsert"), &one("a"));
        }
    }

    fn chroma(&self, token: &str, line: &str, body: &Value) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let base = "api/v2/tenants/default_tenant/databases";
        let url = format!("{}/{base}{path}", self.server.chroma);
        let (status, _, answer) = ask(method, &url, token, None, body);
        (status, answer)
    }
}

fn one(id: &str) -> Value {
    json!({ "records": [{ "id": id, "vector": [1.0] }] })
}

fn names(listed: &Value) -> Vec<&str> {
    let all = listed.as_array().unwrap();
    all.iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn a_guest_reaches_what_its_groups_give() {
    let world = World::new("");
    world.fill();
    world.done(&["member", "add", "login/alice", "--tenant", "acme", "--role", "owner"]);
    let (alice, eve) = (token("alice", ""), token("eve", ""));
    let nothing = Value::Null;
    let group = json!({ "name": "support", "grants": [
        { "database": "default_database", "collection": "notes", "role": "read" },
        { "database": "default_database", "collection": "drafts", "role": "write" },
    ] });
    let (status, made) = world.asks(&alice, "POST /v1/groups", &group);
    assert_eq!((status, &made["name"], &made["grants"]), (201, &group["name"], &group["grants"]));
    assert_eq!(world.asks(&alice, "POST /v1/groups", &group).0, 409);
    let guest = json!({ "id": "login/eve", "role": "guest", "groups": ["support"] });
    let (status, made) = world.asks(&alice, "POST /v1/members", &guest);
    assert_eq!((status, &made["groups"]), (201, &json!(["support"])));
    let (status, me) = world.asks(&eve, "GET /v1/me", &nothing);
    let said = json!({
        "actor": "user:login/eve", "kind": "user", "tenant": "acme", "level": "write",
        "role": "guest", "groups": ["support"], "limited": true,
    });
    assert_eq!((status, me), (200, said));

    let (status, listed) = world.asks(&eve, &format!("GET {COLLECTIONS}"), &nothing);
    assert_eq!((status, names(&listed["collections"])), (200, vec!["drafts", "notes"]));
    let records = |name: &str, what: &str| format!("POST {COLLECTIONS}/{name}/records/{what}");
    for (name, read, write) in [("notes", 200, 403), ("drafts", 200, 200), ("secret", 404, 404)] {
        assert_eq!(world.asks(&eve, &records(name, "get"), &json!({})).0, read, "{name}");
        assert_eq!(world.asks(&eve, &records(name, "upsert"), &one("b")).0, write, "{name}");
        let missing = world.asks(&eve, &records("missing", "upsert"), &one("b"));
        if write == 404 {
            let (_, mut hidden) = world.asks(&eve, &records(name, "upsert"), &one("b"));
            let mut missing = missing.1;
            for answer in [&mut hidden, &mut missing] {
                answer["error"].as_object_mut().unwrap().remove("request_id");
            }
            assert_eq!(hidden.to_string(), missing.to_string().replace("missing", name));
        }
    }
    let new = json!({ "name": "new" });
    assert_eq!(world.asks(&eve, &format!("POST {COLLECTIONS}"), &new).0, 403);
    for line in ["GET /v1/groups", "GET /v1/members", "GET /v1/keys", "GET /v1/archive"] {
        assert_eq!(world.asks(&eve, line, &nothing).0, 403, "{line}");
    }
    let log = world.asks(&alice, "GET /v1/audit", &nothing).1.to_string();
    // As it stands in JSON.
    let given = r#"\"support\": given write \"default_database\"/\"drafts\"; given read"#;
    for said in ["group.add", given, r#"groups \"support\""#, "collection.open"] {
        assert!(log.contains(said), "{said}: {log}");
    }
}

#[test]
fn a_whole_database_is_given_only_if_it_is_asked_for() {
    let world = World::new("");
    world.fill();
    world.done(&["member", "add", "login/alice", "--tenant", "acme", "--role", "owner"]);
    let (alice, nothing) = (token("alice", ""), Value::Null);
    let group = json!({ "name": "support", "grants": [] });
    assert_eq!(world.asks(&alice, "POST /v1/groups", &group).0, 201);
    // A name that is missing or null means nothing, and least of all the whole database.
    let all = json!({ "database": "default_database", "all_collections": true, "role": "read" });
    for (key, value, expected) in [
        ("all_collections", json!(true), 201),
        ("all_collections", json!(false), 400),
        ("all_collections", nothing.clone(), 400),
        ("collection", nothing.clone(), 400),
        ("collection", json!(""), 400),
        ("collection", json!("notes"), 400),
    ] {
        let mut grant = all.clone();
        grant[key] = value;
        let new = json!({ "name": "all", "grants": [grant] });
        let (status, answer) = world.asks(&alice, "POST /v1/groups", &new);
        assert_eq!(status, expected, "{new}: {answer}");
        let grants = json!({ "grants": new["grants"] });
        let changed = world.asks(&alice, "PATCH /v1/groups/support", &grants).0;
        assert_eq!(changed, if expected == 201 { 200 } else { 400 }, "{grants}");
        if expected == 201 {
            assert_eq!(answer["grants"], json!([all]));
            let back = json!({ "grants": group["grants"] });
            world.asks(&alice, "PATCH /v1/groups/support", &back);
        }
    }
    for role in ["read", "write"] {
        let new =
            json!({ "name": "b", "grants": [{ "database": "default_database", "role": role }] });
        assert_eq!(world.asks(&alice, "POST /v1/groups", &new).0, 400);
    }
    let (status, page) = world.asks(&alice, "GET /v1/groups?limit=1", &nothing);
    assert_eq!((status, names(&page["groups"]), &page["next"]), (200, vec!["all"], &json!("all")));
    let page = world.asks(&alice, "GET /v1/groups?limit=1&after=all", &nothing).1;
    assert_eq!((names(&page["groups"]), &page["next"]), (vec!["support"], &nothing));
    assert_eq!(world.asks(&alice, "GET /v1/groups?limit=65", &nothing).0, 400);
}

#[test]
fn a_guest_reaches_what_its_groups_give_by_chromas_protocol() {
    let world = World::new("");
    world.fill();
    let given = ["--read", "default_database/notes", "--write", "default_database/drafts"];
    world.done(&[&["group", "add", "support", "--tenant", "acme"], &given[..]].concat());
    let add = ["member", "add", "login/eve", "--tenant", "acme", "--role", "guest"];
    world.done(&[&add[..], &["--group", "support"]].concat());
    let (eve, nothing) = (token("eve", ""), Value::Null);
    let base = "/default_database/collections";
    let (status, listed) = world.chroma(&eve, &format!("GET {base}"), &nothing);
    let mut found = names(&listed);
    found.sort_unstable();
    assert_eq!((status, found), (200, vec!["drafts", "notes"]));
    let count = world.chroma(&eve, "GET /default_database/collections_count", &nothing);
    assert_eq!(count, (200, json!(2)));
    let listed = world.chroma(&eve, "GET ", &nothing).1;
    assert_eq!(names(&listed), ["default_database"]);
    let id = |name: &str| {
        let path = format!("{}{COLLECTIONS}/{name}", world.server.url);
        let found = get("GET", &path, &world.folder.key, Some("acme"), &nothing);
        found["id"].as_str().unwrap().to_owned()
    };
    let add = json!({ "ids": ["c"], "embeddings": [[1.0]] });
    for (name, read, write, again) in
        [("notes", 200, 403, 403), ("drafts", 200, 201, 200), ("secret", 404, 404, 403)]
    {
        let id = id(name);
        let count = world.chroma(&eve, &format!("GET {base}/{id}/count"), &nothing);
        assert_eq!(count.0, read, "{name}: {}", count.1);
        let added = world.chroma(&eve, &format!("POST {base}/{id}/add"), &add);
        assert_eq!(added.0, write, "{name}: {}", added.1);
        let get_or_create = json!({ "name": name, "get_or_create": true });
        let made = world.chroma(&eve, &format!("POST {base}"), &get_or_create);
        assert_eq!(made.0, again, "{name}: {}", made.1);
        let found = world.chroma(&eve, &format!("GET {base}/{name}"), &nothing);
        assert_eq!(found.0, read, "{name}: {}", found.1);
    }
}

#[test]
fn a_request_that_is_under_way_ends_with_what_its_guest_had() {
    let world = World::new("");
    world.fill();
    let drafts = "default_database/drafts";
    world.done(&["group", "add", "writers", "--tenant", "acme", "--write", drafts]);
    let add = ["member", "add", "login/eve", "--tenant", "acme", "--role", "guest"];
    world.done(&[&add[..], &["--group", "writers"]].concat());
    let eve = token("eve", "");
    let body = one("held").to_string();
    let address = world.server.url.strip_prefix("http://").unwrap();
    // What is done between the two halves of a body, and the answer.
    let held = |between: &dyn Fn()| {
        let mut stream = TcpStream::connect(address).unwrap();
        let (first, second) = body.split_at(body.len() / 2);
        let path = format!("{COLLECTIONS}/drafts/records/upsert");
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {eve}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n\
             {first}",
            body.len()
        )
        .unwrap();
        // Its right is known by then.
        std::thread::sleep(std::time::Duration::from_millis(300));
        between();
        stream.write_all(second.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let update = |args: &[&str]| {
        world.done(&[&["group", "update", "writers", "--tenant", "acme"], args].concat());
    };
    let notes = "default_database/notes";
    assert_eq!(held(&|| update(&["--write", drafts, "--read", notes])), 200);
    assert_eq!(held(&|| update(&["--read", drafts])), 401);
    update(&["--write-all", "default_database"]);
    assert_eq!(held(&|| update(&["--no-grants"])), 401);
    update(&["--write-all", "default_database"]);
    let of_eve = ["member", "update", "login/eve", "--tenant", "acme"];
    assert_eq!(held(&|| drop(world.done(&[&of_eve[..], &["--no-groups"]].concat()))), 401);
    world.done(&[&of_eve[..], &["--group", "writers"]].concat());
    assert_eq!(
        held(&|| drop(world.done(&["group", "remove", "writers", "--tenant", "acme"]))),
        401
    );
}

#[test]
fn groups_are_kept_by_commands() {
    let world = World::new("");
    world.fill();
    let both = ["--read-all", "default_database", "--write", "default_database/notes"];
    let made = world.done(&[&["group", "add", "a", "--tenant", "acme"], &both[..]].concat());
    let rows: Vec<Vec<_>> =
        made.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    let expected =
        [["GROUP", "READ", "WRITE"], ["a", "default_database", "default_database/notes"]];
    assert_eq!(rows, expected, "{made}");
    world.done(&["group", "add", "b", "--tenant", "acme"]);
    let eve = ["member", "add", "login/eve", "--tenant", "acme", "--role", "guest"];
    world.done(&[&eve[..], &["--group", "a", "--group", "b"]].concat());
    let bob = ["member", "add", "login/bob", "--tenant", "acme", "--group", "b"];
    world.done(&[&bob[..], &["--role", "member"]].concat());
    let listed = |args: &[&str]| -> Value {
        let args = [args, &["--tenant", "acme", "--json"]].concat();
        serde_json::from_str(&world.done(&args)).unwrap()
    };
    let in_group = |name: &str| -> Vec<String> {
        let found = listed(&["member", "list", "--group", name]);
        let all = found["members"].as_array().unwrap().iter();
        all.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(in_group("a"), ["login/eve"]);
    assert_eq!(in_group("b"), ["login/bob", "login/eve"]);
    let table = world.done(&["member", "list", "--tenant", "acme"]);
    assert!(table.contains("a, b"), "{table}");
    world.done(&["group", "update", "a", "--tenant", "acme", "--rename", "z"]);
    assert_eq!(in_group("z"), ["login/eve"]);
    // What is gone is not shown, and a namesake is not meant.
    let notes = format!("{}{COLLECTIONS}/notes", world.server.url);
    get("DELETE", &notes, &world.folder.key, Some("acme"), &Value::Null);
    let shown = listed(&["group", "show", "z"]);
    let expected =
        json!([{ "database": "default_database", "all_collections": true, "role": "read" }]);
    assert_eq!(shown["grants"], expected);
    let removed = world.done(&["group", "remove", "b", "--tenant", "acme"]);
    assert_eq!(removed, "removed group b\n");
    assert_eq!(listed(&["member", "show", "login/bob"])["groups"], json!([]));
    assert_eq!(listed(&["group", "list"])["groups"].as_array().unwrap().len(), 1);
    for (args, said) in [
        (vec!["group", "show", "b"], "Group [b] does not exist"),
        (vec!["group", "add", "c", "--read-all", "missing"], "Database [missing] does not exist"),
        (vec!["member", "update", "login/bob", "--group", "b"], "Group [b] does not exist"),
        (vec!["member", "list", "--group", "b"], "Group [b] does not exist"),
        (vec!["group", "add", "c", "--write", "default_database"], "no DATABASE/COLLECTION"),
        (vec!["group", "add", "c", "--write", "default_database/"], "name"),
        (vec!["group", "add", "z"], "Group [z] already exists"),
    ] {
        let (code, _, why) = world.command(&[&args[..], &["--tenant", "acme"]].concat());
        assert!(code == 1 && why.contains(said), "{args:?}: {why}");
    }
    // Groups add nothing to a member, so whoever names one says what somebody is.
    let unsaid = ["member", "add", "login/ann", "--group", "z", "--tenant", "acme"];
    let (code, _, why) = world.command(&unsaid);
    assert!(code == 2 && why.contains("--role"), "{why}");
}
