//! One server with both: files, and databases of PostgreSQL beside them.

use crate::{
    installation::{Door, Installation},
    on_postgres,
    program::{Folder, Server, done, fails, tenantry, texts},
};
use serde_json::Value;
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// A folder in which a server has started, and a database as its location `eu`.
struct World {
    home: Folder,
    eu: Installation,
}

impl World {
    fn new() -> Self {
        Self { home: Folder::new(), eu: Installation::new() }
    }

    fn location(&self) -> String {
        format!("eu={}", self.eu.url)
    }

    fn command(&self, location: &str, args: &[&str]) -> Command {
        let mut command = tenantry(&["serve", "--data-dir", &self.home.path()]);
        command.args(["--listen", "127.0.0.1:0", "--chroma-listen", "127.0.0.1:0"]).args(args);
        command.env("TENANTRY_LOCATION", location);
        command
    }

    fn serve(&self, args: &[&str]) -> Server {
        let mut command = self.command(&self.location(), args);
        let admin = format!("eu={}", self.eu.admin_url);
        Server::spawn(command.env("TENANTRY_LOCATION_ADMIN", admin))
    }

    fn is_silent(&self, text: &str) {
        for url in [&self.eu.url, &self.eu.admin_url] {
            let password = url.split(['@', ':']).nth(2).unwrap();
            assert!(password.len() > 8 && !text.contains(&password[..8]), "{text}");
        }
    }
}

/// Writes a record of a tenant with `import`.
fn fill(to: &[&str], tenant: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    std::fs::write(&file, "{\"id\": \"a\", \"vector\": [1, 0], \"document\": \"x\"}\n").unwrap();
    let file = file.display().to_string();
    let what = ["import", &file, "--collection", "notes", "--create", "--tenant", tenant];
    let out = done(&[&what[..], to].concat());
    assert!(out.contains('1'), "{out}");
}

fn format(world: &World) -> String {
    std::fs::read_to_string(format!("{}/format", world.home.path())).unwrap()
}

/// From the folder to the location and back, and not from a tenant's own database.
fn moves(to: &[&str]) {
    let moved = done(&[&["tenant", "move", "here", "--location", "eu"][..], to].concat());
    assert!(moved.starts_with("here: shared → shared at eu, done"), "{moved}");
    fill(to, "here");
    let back = ["tenant", "move", "here", "--location", "home", "--isolation", "schema"];
    let moved = done(&[&back[..], to].concat());
    assert!(moved.starts_with("here: shared at eu → schema, done"), "{moved}");
    let never = [&["tenant", "move", "alone", "--location", "eu"][..], to].concat();
    fails(&mut tenantry(&never), &["a database that they carry"]);
}

#[test]
fn tenants_live_in_files_and_at_locations_of_one_server() {
    let world = World::new();
    assert_eq!(format(&world), "tenantry-embedded 5\n");
    let server = world.serve(&[]);
    let to = ["--server", &server.url, "--key", &world.home.key];
    let create = |args: &[&str]| done(&[&["tenant", "create"], args, &to[..]].concat());
    assert_eq!(create(&["here"]), "created tenant here (active)\n");
    assert_eq!(format(&world), "tenantry-embedded 5\n");
    let near = create(&["near", "--location", "eu"]);
    assert_eq!(near, "created tenant near (active, location eu)\n");
    assert!(create(&["apart", "--location", "eu", "--isolation", "schema"]).contains("eu"));
    assert_eq!(format(&world), "tenantry-embedded 5\n");
    let own = Installation::new();
    let mut alone = tenantry(&[&["tenant", "create", "alone"][..], &to].concat());
    let alone = alone.env("TENANTRY_OWN_DATABASE_URL", &own.url).output().unwrap();
    assert_eq!(texts(&alone).1, "created tenant alone (active, location own)\n");
    for name in ["here", "near", "apart", "alone"] {
        fill(&to, name);
    }
    let listed = done(&[&["tenant", "list"][..], &to].concat());
    for (name, isolation, location) in [
        ("here", "shared", "home"),
        ("near", "shared", "eu"),
        ("apart", "schema", "eu"),
        ("alone", "database", "own"),
    ] {
        let line = listed.lines().find(|line| line.starts_with(name)).unwrap();
        let cells: Vec<_> = line.split_whitespace().take(4).collect();
        assert_eq!(cells, [name, "active", isolation, location]);
    }
    let unknown = [&["tenant", "create", "x", "--location", "us"][..], &to].concat();
    fails(&mut tenantry(&unknown), &["no location us", "given are: eu", "--location us=URL"]);
    moves(&to);
    let log = server.stop();
    assert!(log.contains("eu"), "{log}");
    world.is_silent(&log);

    // Commands on the folder, with the location and without.
    let path = world.home.path();
    let direct = ["--data-dir", &path];
    let location = world.location();
    let with = [&direct[..], &["--database-location", &location]].concat();
    fill(&with, "near");
    let nobody_says = [&["tenant", "create", "x"][..], &with].concat();
    fails(&mut tenantry(&nobody_says), &["--location home"]);
    let usual = [&["tenant", "create", "y", "--location", "home"][..], &with].concat();
    assert_eq!(done(&usual), "created tenant y (active)\n");
    fill(&direct, "here");
    fill(&direct, "alone");

    // The location belongs to this folder, and a server on PostgreSQL has no tenants in files.
    let other = Folder::new();
    let mut twice = tenantry(&["serve", "--data-dir", &other.path(), "--listen", "127.0.0.1:0"]);
    fails(twice.env("TENANTRY_LOCATION", &location), &["location eu", "belongs to others"]);
    let mut both = tenantry(&["serve", "--backend", "postgres", "--data-dir", &path]);
    fails(both.env("TENANTRY_DATABASE_URL", &own.url), &["a folder belongs to one process"]);

    let server = world.serve(&["--default-location", "eu"]);
    let to = ["--server", &server.url, "--key", &world.home.key];
    let made = done(&[&["tenant", "create", "usual"][..], &to].concat());
    assert_eq!(made, "created tenant usual (active, location eu)\n");
    for name in ["near", "apart", "alone"] {
        done(&[&["tenant", "delete", name, "--yes"][..], &to].concat());
    }
    let begun = Instant::now();
    while done(&[&["tenant", "leftovers", "--json"][..], &to].concat()).trim() != "[]" {
        assert!(begun.elapsed().as_secs() < 20, "what is deleted is not removed");
        std::thread::sleep(Duration::from_millis(100));
    }
    server.stop();
}

#[test]
fn a_location_that_is_down_keeps_no_files_from_being_served() {
    let world = World::new();
    let door = Door::to(&world.eu.url);
    let location = format!("eu={}", door.url);
    let server = Server::spawn(&mut world.command(&location, &[]));
    let to = ["--server", &server.url, "--key", &world.home.key];
    done(&[&["tenant", "create", "near", "--location", "eu"][..], &to].concat());
    done(&[&["tenant", "create", "here"][..], &to].concat());
    fill(&to, "near");
    server.stop();
    door.shut();
    let server = Server::spawn(&mut world.command(&location, &[]));
    let to = ["--server", &server.url, "--key", &world.home.key];
    fill(&to, "here");
    let collections = format!("{}/v1/databases/default_database/collections", server.url);
    let ask = |tenant| {
        on_postgres::ask("GET", &collections, &world.home.key, Some(tenant), &Value::Null).0
    };
    assert_eq!((ask("near"), ask("here")), (503, 200));
    door.open();
    let begun = Instant::now();
    while ask("near") != 200 {
        assert!(begun.elapsed().as_secs() < 20, "it does not come back");
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = server.stop();
    assert!(log.contains("out of reach"), "{log}");
    world.is_silent(&log);
}

#[test]
fn a_folder_that_was_put_back_is_adopted_by_a_command() {
    let world = World::new();
    let server = world.serve(&[]);
    let to = ["--server", &server.url, "--key", &world.home.key];
    done(&[&["tenant", "create", "near", "--location", "eu"][..], &to].concat());
    server.stop();
    let slots = format!("{}/slots", world.home.path());
    std::fs::rename(&slots, format!("{slots}.old")).unwrap();
    std::fs::copy(format!("{slots}.old"), &slots).unwrap();
    fails(&mut world.command(&world.location(), &[]), &["location eu", "tenantry postgres adopt"]);
    let adopted = done(&["postgres", "adopt", "--data-dir", &world.home.path()]);
    assert!(adopted.contains("takes its locations"), "{adopted}");
    let server = world.serve(&[]);
    let to = ["--server", &server.url, "--key", &world.home.key];
    fill(&to, "near");
    server.stop();
    fails(&mut tenantry(&["postgres", "adopt", "--data-dir", "none"]), &["no data folder"]);
}
