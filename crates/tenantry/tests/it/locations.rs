//! Tenants in several databases: by a location's name, and by a URL of their own.

use crate::{
    installation::{Door, Installation},
    program::{Server, done, fails, key_in, run, tenantry, texts},
};
use serde_json::Value;
use std::process::Command;

/// An installation, a further database as its location `eu`, and one that is nobody's.
struct World {
    home: Installation,
    eu: Installation,
    own: Installation,
    operator: String,
}

impl World {
    fn new() -> Self {
        let (home, eu, own) = (Installation::new(), Installation::new(), Installation::new());
        let operator = home.found();
        Self { home, eu, own, operator }
    }

    fn location(&self) -> String {
        format!("eu={}", self.eu.url)
    }

    fn serve(&self, args: &[&str]) -> Server {
        let mut command = self.home.command(&self.home.url, args);
        let admin = format!("eu={}", self.eu.admin_url);
        command.env("TENANTRY_LOCATION", self.location()).env("TENANTRY_LOCATION_ADMIN", admin);
        Server::spawn(command.env("TENANTRY_DATABASE_ADMIN_URL", &self.home.admin_url))
    }

    /// No text has a password of one of the databases, nor half of one.
    fn is_silent(&self, text: &str) {
        for url in
            [&self.home, &self.eu, &self.own].map(|at| [&at.url, &at.admin_url]).as_flattened()
        {
            let password = url.split(['@', ':']).nth(2).unwrap();
            assert!(password.len() > 8 && !text.contains(&password[..8]), "{text}");
        }
    }
}

/// A command's output, on a server or on the database; it must work.
fn told(mut command: Command) -> String {
    let (code, out, err) = texts(&command.output().unwrap());
    assert_eq!(code, 0, "{out}{err}");
    out + &err
}

/// Writes a record of a tenant with `import`, and reads how many there are.
fn fill(server: &Server, operator: &str, tenant: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    std::fs::write(&file, "{\"id\": \"a\", \"vector\": [1, 0], \"document\": \"x\"}\n").unwrap();
    let file = file.display().to_string();
    let to = ["--server", &server.url, "--key", operator, "--tenant", tenant];
    let what = ["import", &file, "--collection", "notes", "--create"];
    let out = done(&[&what[..], &to].concat());
    assert!(out.contains('1'), "{out}");
}

#[test]
fn tenants_are_made_at_a_location_or_carry_a_database() {
    let world = World::new();
    let server = world.serve(&[]);
    let to = ["--server", &server.url, "--key", &world.operator];
    let tenant = |args: &[&str]| tenantry(&[&["tenant"], args, &to].concat());
    let with_own = |args: &[&str], url: &str| {
        let mut command = tenant(args);
        command.env("TENANTRY_OWN_DATABASE_URL", url);
        command
    };
    assert_eq!(told(tenant(&["create", "usual"])), "created tenant usual (active)\n");
    let near = told(tenant(&["create", "near", "--location", "eu"]));
    assert_eq!(near, "created tenant near (active, location eu)\n");
    let apart = ["create", "apart", "--location", "eu", "--isolation", "schema"];
    assert!(told(tenant(&apart)).contains("location eu"));
    let made = told(with_own(&["create", "alone"], &world.own.url));
    assert_eq!(made, "created tenant alone (active, location own)\n");

    let table = told(tenant(&["list"]));
    let cells: Vec<Vec<_>> =
        table.lines().map(|line| line.split_whitespace().take(4).collect()).collect();
    assert_eq!(cells[0], ["NAME", "STATE", "ISOLATION", "LOCATION"]);
    assert_eq!(cells[1], ["alone", "active", "database", "own"]);
    assert_eq!(cells[2], ["apart", "active", "schema", "eu"]);
    assert_eq!(cells[3], ["near", "active", "shared", "eu"]);
    assert_eq!(cells[4], ["usual", "active", "shared", "home"]);
    let shown = told(tenant(&["show", "alone"]));
    assert!(shown.lines().any(|line| line.starts_with("location") && line.ends_with("own")));
    for name in ["usual", "near", "apart", "alone"] {
        fill(&server, &world.operator, name);
    }

    fails(
        &mut tenant(&["create", "x", "--location", "us"]),
        &["no location us", "given are: eu", "--location us=URL"],
    );
    let taken = with_own(&["create", "x"], &world.own.url).output().unwrap();
    let (code, out, err) = texts(&taken);
    assert!(code == 1 && err.contains("belongs to others"), "{err}");
    let wrong = world.own.url.replace("_service:", "_service:x");
    let (_, more_out, more) = texts(&with_own(&["create", "x"], &wrong).output().unwrap());
    assert!(more.contains("wrong password"), "{more}");
    fails(&mut with_own(&["update", "usual"], &world.own.url), &["no database URL of its own"]);
    fails(&mut with_own(&["update", "alone"], &world.eu.url), &["not the one that the tenant"]);
    fails(&mut tenant(&["update", "alone"]), &["TENANTRY_OWN_DATABASE_URL"]);
    let both = with_own(&["create", "x", "--location", "eu"], &world.own.url).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
    let both = texts(&both).2;
    let audit = crate::on_postgres::get(
        "GET",
        &format!("{}/v1/admin/audit", server.url),
        &world.operator,
        None,
        &Value::Null,
    );
    let log = server.stop();
    let all = [&out, &err, &more_out, &more, &both, &table, &shown, &audit.to_string(), &log];
    for text in all {
        world.is_silent(text);
    }
    assert!(log.contains("eu"), "{log}");
}

#[test]
fn a_new_password_of_a_tenants_database_is_told_by_a_command() {
    let world = World::new();
    let server = world.serve(&[]);
    let to = ["--server", &server.url, "--key", &world.operator];
    let with_own = |args: &[&str], url: &str| {
        let mut command = tenantry(&[&["tenant"], args, &to].concat());
        command.env("TENANTRY_OWN_DATABASE_URL", url);
        command
    };
    told(with_own(
        &["create", "alone", "--own-database-admin-url", &world.own.admin_url],
        &world.own.url,
    ));
    fill(&server, &world.operator, "alone");
    let told_anew = world.own.setup(&["--json", "--reset-passwords"]);
    let told_anew: Value = serde_json::from_str(&told_anew).unwrap();
    let url = told_anew["database_url"].as_str().unwrap();
    assert_ne!(url, world.own.url);
    fails(&mut with_own(&["update", "alone"], &world.own.url), &["wrong password"]);
    let changed = told(with_own(&["update", "alone"], url));
    let (changed, warning) = changed.split_once('\n').unwrap();
    assert_eq!(changed, "changed tenant alone (active, location own)");
    assert!(warning.starts_with("no admin URL is kept"), "{warning}");
    let mut with_admin = with_own(&["update", "alone"], url);
    let admin = told_anew["database_admin_url"].as_str().unwrap();
    with_admin.env("TENANTRY_OWN_DATABASE_ADMIN_URL", admin);
    let changed = told(with_admin);
    assert_eq!(changed, "changed tenant alone (active, location own)\n");
    fill(&server, &world.operator, "alone");
    server.stop();
    // What is stored is enough for the next server.
    let server = world.serve(&[]);
    let to = ["--server", &server.url, "--key", &world.operator];
    fill(&server, &world.operator, "alone");
    done(&[&["tenant", "delete", "alone", "--yes"][..], &to].concat());
    server.stop();
}

#[test]
fn commands_and_defaults_know_locations_too() {
    let world = World::new();
    let server = world.serve(&["--default-location", "eu"]);
    let to = ["--server", &server.url, "--key", &world.operator];
    let made = done(&[&["tenant", "create", "near"][..], &to].concat());
    assert_eq!(made, "created tenant near (active, location eu)\n");
    let made = done(&[&["tenant", "create", "usual", "--location", "home"][..], &to].concat());
    assert_eq!(made, "created tenant usual (active)\n");
    fill(&server, &world.operator, "near");

    // Directly on the database, with the location by flag or by a server's variable.
    let keys = world.home.keys();
    let direct = ["--data-dir", &keys, "--database-url", &world.home.url];
    let location = world.location();
    let by_flag = [&direct[..], &["--database-location", &location]].concat();
    let made = done(&[&["tenant", "create", "other", "--location", "eu"][..], &by_flag].concat());
    assert_eq!(made, "created tenant other (active, location eu)\n");
    let mut by_variable = tenantry(&[&["key", "create", "--tenant", "near"][..], &direct].concat());
    by_variable.env("TENANTRY_LOCATION", &location);
    assert!(told(by_variable).starts_with("tnt_"));
    let by_default = |args: &[&str], default: &str| {
        let mut command = tenantry(&[&["tenant", "create"], args, &direct].concat());
        command.env("TENANTRY_LOCATION", &location).env("TENANTRY_DEFAULT_LOCATION", default);
        command
    };
    let made = told(by_default(&["by-default"], "eu"));
    assert_eq!(made, "created tenant by-default (active, location eu)\n");
    assert_eq!(told(by_default(&["at-home"], "home")), "created tenant at-home (active)\n");
    fails(&mut by_default(&["x"], "us"), &["no location us", "--database-location"]);
    let mut apart = by_default(&["x"], "eu");
    fails(apart.env("TENANTRY_DEFAULT_ISOLATION", "schema"), &["schema"]);
    let nobody_says = [&["tenant", "create", "x"][..], &by_flag].concat();
    fails(&mut tenantry(&nobody_says), &["--location home", "TENANTRY_DEFAULT_LOCATION"]);
    let unknown = [&["tenant", "create", "x", "--location", "eu"][..], &direct].concat();
    fails(&mut tenantry(&unknown), &["no location eu, given are: none", "--database-location"]);
    let unknown = [&["tenant", "advise", "near"][..], &direct].concat();
    fails(&mut tenantry(&unknown), &["not known here: give it by --database-location"]);
    let apart = ["tenant", "create", "x", "--location", "home", "--isolation", "schema"];
    let apart = [&apart[..], &by_flag].concat();
    fails(&mut tenantry(&apart), &["servers with --database-admin-url", "asks one by --server"]);
    server.stop();

    // A location is one installation's, and so is a home.
    let other = Installation::new();
    let mut twice = other.command(&other.url, &["--location", &location]);
    fails(&mut twice, &["location eu", "belongs to others"]);
    fails(&mut world.eu.command(&world.eu.url, &[]), &["belongs to others"]);
    let third = Installation::new();
    let mut home = third.command(&third.url, &["--location"]);
    fails(home.arg(format!("eu={}", world.home.url)), &["location eu", "belongs to others"]);
    // Moved to the same tables under another name, they are not taken for the old ones.
    let mut renamed = world.home.command(&world.home.url, &["--location"]);
    fails(renamed.arg(location.replace("eu=", "us=")), &["location us", "belongs to others"]);
    let help = done(&["serve", "--help"]);
    assert!(help.contains("--location <NAME=URL>") && help.contains("--database-citus"), "{help}");
}

#[test]
fn a_server_stops_in_order_while_a_location_is_down() {
    let world = World::new();
    let door = Door::to(&world.eu.url);
    let mut command = world.home.command(&world.home.url, &[]);
    let server = Server::spawn(command.env("TENANTRY_LOCATION", format!("eu={}", door.url)));
    let to = ["--server", &server.url, "--key", &world.operator];
    done(&[&["tenant", "create", "near", "--location", "eu"][..], &to].concat());
    fill(&server, &world.operator, "near");
    door.shut();
    // That the operator enters is to be written into the tenant's log.
    let url = format!("{}/v1/tenant", server.url);
    crate::on_postgres::get("GET", &url, &world.operator, Some("near"), &Value::Null);
    let log = server.stop();
    let lost = log.lines().find(|line| line.contains("audit logs are lost"));
    assert!(lost.is_some_and(|line| line.contains("location=eu")), "{log}");
}

#[test]
fn a_location_that_is_down_is_named_to_the_operator_and_said_now_and_then() {
    let world = World::new();
    let door = Door::to(&world.eu.url);
    let mut command = world.home.command(&world.home.url, &[]);
    let server = Server::spawn(command.env("TENANTRY_LOCATION", format!("eu={}", door.url)));
    let to = ["--server", &server.url, "--key", &world.operator];
    done(&[&["tenant", "create", "near", "--location", "eu"][..], &to].concat());
    fill(&server, &world.operator, "near");
    let list = || run(&[&["tenant", "list"][..], &to].concat());
    let words = "the location eu is out of the server's reach";
    assert!(!list().2.contains(words));
    door.shut();
    // That the operator enters is to be written into the tenant's log, once a second.
    let url = format!("{}/v1/tenant", server.url);
    crate::on_postgres::get("GET", &url, &world.operator, Some("near"), &Value::Null);
    let begun = std::time::Instant::now();
    let (code, out, err) = loop {
        let told = list();
        if told.2.contains(words) || begun.elapsed() > std::time::Duration::from_secs(20) {
            break told;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    // It is tried again each second.
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(code == 0 && out.contains("near") && err.contains(words), "{out}{err}");
    let log = server.stop();
    for words in ["the database cannot be reached", "append refusals to audit logs"] {
        let is_said = |line: &&str| line.contains(words) && line.contains("tried=");
        let lines = log.lines().filter(is_said).count();
        assert!((1..=2).contains(&lines), "{lines}: {log}");
    }
}

#[test]
fn leftovers_say_what_keeps_a_server_from_removing_them() {
    let world = World::new();
    let server = world.serve(&[]);
    let to = ["--server", &server.url, "--key", &world.operator];
    for (name, how) in [("apart", ["--isolation", "schema"]), ("near", ["--location", "eu"])] {
        done(&[&["tenant", "create", name], &how[..], &to].concat());
        fill(&server, &world.operator, name);
    }
    server.stop();
    // This one has neither the admin's URL nor the location's.
    let server = world.home.serve();
    let to = ["--server", &server.url, "--key", &world.operator];
    for name in ["apart", "near"] {
        done(&[&["tenant", "delete", name, "--yes"][..], &to].concat());
    }
    let left = done(&[&["tenant", "leftovers"][..], &to].concat());
    for (place, reason) in
        [("schema     home", "the admin's URL"), ("eu", "not given the location")]
    {
        let line = left.lines().find(|line| line.contains(place));
        assert!(line.is_some_and(|line| line.contains(reason)), "{left}");
    }
    server.stop();
}

#[test]
fn what_an_erased_tenant_left_in_a_lost_database_is_given_up() {
    let world = World::new();
    let server = world.serve(&[]);
    let to = ["--server", &server.url, "--key", &world.operator];
    let mut made = tenantry(&[&["tenant", "create", "alone"][..], &to].concat());
    told({
        made.env("TENANTRY_OWN_DATABASE_URL", &world.own.url);
        made
    });
    fill(&server, &world.operator, "alone");
    let shown = done(&[&["tenant", "show", "alone"][..], &to].concat());
    let id = shown.lines().find_map(|line| line.strip_prefix("id")).unwrap().trim().to_owned();
    // Nobody comes into it any more.
    world.own.setup(&["--reset-passwords"]);
    world.own.sql(&["SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE usename LIKE current_database() || '_service'"]);
    done(&[&["tenant", "delete", "alone", "--yes"][..], &to].concat());
    let left = done(&[&["tenant", "leftovers"][..], &to].concat());
    let cells: Vec<_> = left.lines().map(|line| line.split_whitespace().collect()).collect();
    let cells: Vec<Vec<&str>> = cells;
    assert_eq!(cells[0], ["TENANT", "ISOLATION", "LOCATION", "REASON"]);
    assert!(cells.len() == 2 && cells[1].starts_with(&[&id, "database", "own"]), "{left}");
    let begun = std::time::Instant::now();
    while !done(&[&["tenant", "leftovers"][..], &to].concat()).contains("tried and failed") {
        assert!(begun.elapsed().as_secs() < 20, "nothing is said to be in the way");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut unasked = tenantry(&[&["tenant", "abandon", &id][..], &to].concat());
    fails(&mut unasked, &["cannot be undone: say --yes"]);
    let given_up = done(&[&["tenant", "abandon", &id, "--yes"][..], &to].concat());
    assert_eq!(given_up, format!("what tenant {id} has left is given up (location own)\n"));
    let begun = std::time::Instant::now();
    while done(&[&["tenant", "leftovers", "--json"][..], &to].concat()).trim() != "[]" {
        assert!(begun.elapsed().as_secs() < 20, "the rest is not removed");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut again = tenantry(&[&["tenant", "abandon", &id, "--yes"][..], &to].concat());
    fails(&mut again, &["does not exist"]);
    let log = server.stop();
    assert!(log.contains("given up") && log.contains(&world.own.name), "{log}");
    world.is_silent(&log);
}

#[test]
fn an_installation_is_adopted_by_a_command() {
    let world = World::new();
    world.serve(&[]).stop();
    // As if a dump had been restored here.
    world.home.sql(&[
        "SET tenantry.tenant = '0'",
        "UPDATE tenantry.catalog SET row = '\\x00' WHERE family = 15",
    ]);
    let mut refused = world.home.command(&world.home.url, &[]);
    fails(refused.env("TENANTRY_LOCATION", world.location()), &["tenantry postgres adopt"]);
    let mut adopt = tenantry(&["postgres", "adopt"]);
    adopt.env("TENANTRY_DATABASE_ADMIN_URL", &world.home.admin_url);
    assert!(told(adopt).contains("take its locations"));
    world.serve(&[]).stop();
    let mut nobody = tenantry(&["postgres", "adopt"]);
    nobody.env("TENANTRY_DATABASE_ADMIN_URL", &world.own.admin_url);
    fails(&mut nobody, &["no installation lives"]);
}

#[test]
fn citus_is_told_the_tenant_and_another_server_does_not_mind() {
    let installation = Installation::new();
    let server = Server::spawn(&mut installation.command(&installation.url, &["--database-citus"]));
    let operator = key_in(&server.stop()).to_owned();
    let server = Server::spawn(&mut installation.command(&installation.url, &["--database-citus"]));
    let to = ["--server", &server.url, "--key", &operator];
    done(&[&["tenant", "create", "acme"][..], &to].concat());
    fill(&server, &operator, "acme");
    server.stop();
}
