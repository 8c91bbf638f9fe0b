//! `--admin-listen`: operators have an address of their own. Over sockets, because it is about which
//! of them answers.

use crate::{
    program::{Folder, Server, done, fails, tenantry},
    stop::{folder_with_collection, half_a_write},
};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};
use tenantry_api::Access;

/// A server with both addresses, a tenant and its key.
struct Both {
    folder: Folder,
    server: Server,
    /// The URL for operators.
    admin: String,
    /// The key of the tenant `acme`.
    tenant: String,
}

impl Both {
    fn start(args: &[&str]) -> Self {
        let folder = folder_with_collection();
        let key = ["key", "create", "--tenant", "acme", "--data-dir", &folder.path()];
        let tenant = done(&key).trim().to_owned();
        let mut server = folder.serve(&[&["--admin-listen", "127.0.0.1:0"][..], args].concat());
        let admin = server.also_listens("(admin)");
        Self { folder, server, admin, tenant }
    }

    /// The answer of a URL to the byte, without what is another one each time.
    fn ask(url: &str, line: &str, key: Option<&str>) -> String {
        let mut stream = TcpStream::connect(url.split_once("://").unwrap().1).unwrap();
        let key = key.map_or(String::new(), |key| format!("authorization: Bearer {key}\r\n"));
        write!(
            stream,
            "{line} HTTP/1.1\r\nhost: x\r\nx-request-id: r1\r\nconnection: close\r\n\
             content-type: application/json\r\n{key}content-length: 2\r\n\r\n{{}}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let lines = answer
            .split("\r\n")
            .filter(|line| !line.starts_with("date: ") && !line.starts_with("chroma-trace-id: "));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn status(url: &str, line: &str, key: Option<&str>) -> u16 {
        let answer = Self::ask(url, line, key);
        answer.split(' ').nth(1).unwrap_or_else(|| panic!("{line}: {answer}")).parse().unwrap()
    }
}

/// Lines of all native routes, filled in so that they would find something.
fn lines() -> impl Iterator<Item = (Access, String)> {
    tenantry_api::ROUTES.iter().map(|route| {
        let path = route.path.replace("{tenant}", "acme").replace("{collection}", "notes");
        let path = path.replace("{database}", "default_database").replace(['{', '}'], "");
        (route.access, format!("{} {path}", route.method))
    })
}

#[test]
fn on_the_tenants_address_an_operators_route_is_a_path_that_does_not_exist() {
    let both = Both::start(&[]);
    let url = &both.server.url;
    for key in [&both.folder.key, &both.tenant] {
        let key = Some(key.as_str());
        for (access, line) in lines().filter(|(access, _)| *access == Access::Operator) {
            let method = line.split_once(' ').unwrap().0;
            let unknown = Both::ask(url, &format!("{method} /v1/no-such-path"), key);
            assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
            assert_eq!(Both::ask(url, &line, key), unknown, "{access:?} {line}");
            assert_eq!(Both::status(url, &line, None), 401, "{line}");
        }
        // Nor does a method tell.
        let unknown = Both::ask(url, "PUT /v1/no-such-path", key);
        for path in ["/metrics", "/v1/admin/tenants", "/v1/admin/keys", "/v1/admin"] {
            assert_eq!(Both::ask(url, &format!("PUT {path}"), key), unknown, "{path}");
        }
    }
    // On the other address a tenant's paths tell as little, by whatever method.
    let operator = Some(both.folder.key.as_str());
    for (url, key) in [(&both.admin, both.tenant.as_str()), (url, both.folder.key.as_str())] {
        let unknown = Both::ask(url, "PUT /v1/no-such-path", Some(key));
        for (access, line) in lines().filter(|(access, _)| *access != Access::Public) {
            let path = line.split_once(' ').unwrap().1;
            assert_eq!(Both::ask(url, &format!("PUT {path}"), Some(key)), unknown, "{access:?}");
        }
    }
    let wrong = Both::ask(&both.admin, "PUT /v1/admin/tenants", operator);
    assert!(wrong.starts_with("HTTP/1.1 405 ") && wrong.contains("\nallow: "), "{wrong}");
    both.server.stop();
}

#[test]
fn each_address_has_nothing_for_who_belongs_to_the_other() {
    let both = Both::start(&[]);
    let (url, admin) = (&both.server.url, &both.admin);
    let (operator, tenant) = (Some(both.folder.key.as_str()), Some(both.tenant.as_str()));
    for (url, key) in [(url, operator), (admin, tenant)] {
        for (access, line) in lines() {
            let method = line.split_once(' ').unwrap().0;
            if access == Access::Public {
                // Nobody signs up here.
                let status = if line.ends_with("/v1/signup") { 404 } else { 200 };
                assert_eq!(Both::status(url, &line, key), status, "{line}");
                assert_eq!(Both::status(url, &line, None), status, "{line}");
                continue;
            }
            let unknown = Both::ask(url, &format!("{method} /v1/no-such-path"), key);
            assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
            assert_eq!(Both::ask(url, &line, key), unknown, "{access:?} {line}");
            assert_eq!(Both::status(url, &line, None), 401, "{line}");
        }
    }
    // And what belongs there is there.
    assert_eq!(Both::status(url, "GET /v1/tenant", tenant), 200);
    assert_eq!(Both::status(url, "GET /v1/databases", tenant), 200);
    for line in ["GET /metrics", "GET /v1/admin/tenants", "GET /v1/admin/tenants/acme/statistics"] {
        assert_eq!(Both::status(admin, line, operator), 200, "{line}");
    }
    both.server.stop();
}

#[test]
fn chromas_protocol_keeps_to_the_addresses_too() {
    let both = Both::start(&[]);
    let (operator, tenant) = (Some(both.folder.key.as_str()), Some(both.tenant.as_str()));
    let (root, below) = (both.server.chroma.as_str(), both.server.url.as_str());
    for (url, prefix) in [(root, ""), (below, "/chroma")] {
        for key in [operator, tenant] {
            let unknown = Both::ask(url, &format!("POST {prefix}/api/v2/no-such-path"), key);
            assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
            for path in ["/api/v2/tenants", "/api/v2/reset"] {
                assert_eq!(Both::ask(url, &format!("POST {prefix}{path}"), key), unknown, "{path}");
            }
        }
        let own = format!("GET {prefix}/api/v2/tenants/default_tenant");
        assert_eq!(Both::status(url, &own, tenant), 200);
        let named = format!("GET {prefix}/api/v2/tenants/acme");
        assert_eq!(Both::status(url, &named, operator), 404);
        assert_eq!(Both::status(url, &format!("GET {prefix}/api/v2/heartbeat"), None), 200);
    }
    let named = "GET /chroma/api/v2/tenants/acme";
    assert_eq!(Both::status(&both.admin, named, operator), 200);
    assert_eq!(Both::status(&both.admin, named, tenant), 404);
    // Read by the operator, it counts the tenant's requests of both protocols.
    let shown = Both::ask(&both.admin, "GET /metrics", operator);
    let mut done = shown.lines().filter(|line| {
        line.starts_with("tenantry_tenant_requests_total") && line.contains("\"done\"")
    });
    assert!(done.next().is_some_and(|line| line.ends_with("} 2")), "{shown}");
    both.server.stop();
}

#[test]
fn the_command_line_works_on_the_operators_address_and_says_so_on_the_other() {
    let both = Both::start(&[]);
    let to = ["--server", &both.admin, "--key", &both.folder.key];
    done(&[&["tenant", "create", "globex"][..], &to].concat());
    let key = done(&[&["key", "create", "--tenant", "globex"][..], &to].concat());
    assert_eq!(Both::status(&both.server.url, "GET /v1/tenant", Some(key.trim())), 200);
    let other = ["tenant", "list", "--server", &both.server.url, "--key", &both.folder.key];
    fails(&mut tenantry(&other), &["no such route", "--admin-listen"]);
    both.server.stop();
}

#[test]
fn a_stop_finishes_what_either_address_has_accepted() {
    let both = Both::start(&[]);
    let address = |url: &str| url.split_once("://").unwrap().1.to_owned();
    let (public, admin) = (address(&both.server.url), address(&both.admin));
    let mut open = [half_a_write(&public, &both.tenant), half_a_write(&admin, &both.folder.key)];
    // The requests are accepted once their headers were read.
    thread::sleep(Duration::from_millis(200));
    both.server.terminate();
    let begun = Instant::now();
    for address in [&public, &admin] {
        while TcpStream::connect(address).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{address} still accepts");
            thread::sleep(Duration::from_millis(5));
        }
    }
    for (stream, later) in &mut open {
        stream.write_all(later.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let (status, _, err) = both.server.wait();
    assert!(status.success(), "{err}");
}

#[test]
fn tenants_that_take_all_connections_leave_the_operators_theirs() {
    let both = Both::start(&["--connections-max", "1"]);
    let mut held = TcpStream::connect(both.server.address()).unwrap();
    held.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(held.read(&mut [0]).unwrap(), 1);
    assert_eq!(Both::status(&both.admin, "GET /metrics", Some(&both.folder.key)), 200);
    drop(held);
    both.server.stop();
}

#[test]
fn the_operators_address_speaks_tls_like_the_others() {
    let folder = Folder::new();
    let at = |name: &str| folder.temporary.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    fs::write(at("cert.pem"), made.cert.pem()).unwrap();
    fs::write(at("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (at("cert.pem"), at("key.pem"));
    let mut server =
        folder.serve(&["--admin-listen", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key]);
    let admin = server.also_listens("(admin)");
    assert!(admin.starts_with("https://"), "{admin}");
    let list = ["tenant", "list", "--server", &admin, "--key", &folder.key, "--tls-ca", &cert];
    assert!(done(&list).starts_with("NAME"));
    server.stop();
}

#[test]
fn an_operators_address_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, says) in [
        (&["--admin-listen", &taken][..], &["cannot listen on", &taken, "--admin-listen"][..]),
        (&["--admin-listen", "0.0.0.0:0"], &["admin_listen 0.0.0.0:0", "--tls-cert"]),
        (&["--admin-listen", "127.0.0.1:0", "--dev"], &["admin_listen", "dev", "everybody"]),
    ] {
        let mut command = tenantry(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        fails(command.arg(&data).args(args), says);
        assert!(!data.exists());
    }
}
