//! `tenantry serve`: what it prints, what it refuses to open, how it bounds connections.

use crate::program::{Folder, Server, fails, key_in, tenantry, texts};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    time::Duration,
};

fn get(url: &str, path: &str, key: Option<&str>) -> u16 {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.get(format!("{url}{path}"));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    request.call().unwrap().status().as_u16()
}

#[test]
fn the_operator_key_is_shown_once_and_works() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, &["--log-format", "json"]);
    assert_eq!(get(&server.url, "/readyz", None), 200);
    assert_eq!(get(&server.url, "/v1/admin/tenants", None), 401);
    let err = server.stop();
    let key = key_in(&err).to_owned();
    let logged: Vec<&str> = err.lines().filter(|line| line.starts_with('{')).collect();
    assert!(logged.len() >= 2 && !logged.iter().any(|line| line.contains(&key)), "{err}");

    let server = Server::start(&data, &[]);
    assert_eq!(get(&server.url, "/v1/admin/tenants", Some(&key)), 200);
    assert!(!server.stop().contains("tnt_"));
}

#[test]
fn both_protocols_log_the_trace_that_a_request_came_with() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--log-format", "json"]);
    let asked = [
        (format!("{}/healthz", server.url), "0af7651916cd43dd8448eb211c80319c"),
        (format!("{}/chroma/api/v2/heartbeat", server.url), "1af7651916cd43dd8448eb211c80319c"),
        (format!("{}/api/v2/heartbeat", server.chroma), "2af7651916cd43dd8448eb211c80319c"),
    ];
    for (url, trace) in &asked {
        let parent = format!("00-{trace}-b7ad6b7169203331-01");
        let answer = ureq::get(url.as_str()).header("traceparent", parent).call().unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{url}");
    }
    let log = server.stop();
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests = lines.iter().filter(|line| line["fields"]["message"] == "request");
    let spans: Vec<_> = requests.map(|line| &line["span"]).collect();
    assert_eq!(spans.len(), asked.len(), "{log}");
    for (span, (url, trace)) in spans.iter().zip(&asked) {
        assert_eq!(span["trace_id"], *trace, "{url}");
        assert_eq!(span["parent_span_id"], "b7ad6b7169203331", "{url}");
    }
}

#[test]
fn a_master_key_that_others_may_read_is_told() {
    let folder = Folder::new();
    let key = folder.temporary.path().join("data/master.key");
    assert!(!folder.serve(&[]).stop().contains("chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let log = folder.serve(&[]).stop();
    assert!(log.contains("chmod 600") && log.contains("master.key"), "{log}");
}

#[test]
fn chroma_is_served_under_its_name_and_on_its_own_listener() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    for (url, path, status) in [
        (&server.chroma, "/api/v2/heartbeat", 200),
        (&server.url, "/chroma/api/v2/heartbeat", 200),
        (&server.chroma, "/api/v2/tenants/default_tenant", 401),
        (&server.url, "/chroma/api/v2/tenants/default_tenant", 401),
        (&server.chroma, "/healthz", 401),
    ] {
        assert_eq!(get(url, path, None), status, "{url}{path}");
    }
}

#[test]
fn development_mode_asks_for_no_key_and_has_chromas_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--dev"]);
    assert_eq!(get(&server.url, "/v1/admin/tenants/default_tenant", None), 200);
    assert_eq!(get(&server.chroma, "/api/v2/tenants/default_tenant", None), 200);
    let err = server.stop();
    assert!(err.contains("development mode") && !err.contains("tnt_"), "{err}");
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let path = folder.path();
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["tenant", "list"]] {
        let said = texts(&tenantry(args).args(["--data-dir", &path]).output().unwrap()).2;
        assert!(said.contains("in use by another process: stop that one"), "{said}");
        assert_eq!(said.matches(&path).count(), 1, "{said}");
        assert_eq!(said.contains("--server"), args[0] == "tenant", "{said}");
    }
    server.stop();
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let mode = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    mode(data.as_path(), 0o555);
    // Root may write everywhere, so the program runs as nobody then, from where nobody may.
    let program = folder.path().join("tenantry");
    fs::copy(env!("CARGO_BIN_EXE_tenantry"), &program).unwrap();
    let mut command = std::process::Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    fails(&mut command, &["cannot open the data folder", "Permission denied"]);
}

#[test]
fn a_folder_of_another_format_is_refused() {
    let folder = Folder::new();
    fs::write(folder.temporary.path().join("data/format"), "tenantry-embedded 99\n").unwrap();
    fails(
        tenantry(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path()),
        &["cannot open the data folder", "tenantry-embedded 99"],
    );
}

#[test]
fn connections_beyond_the_limit_wait_for_a_free_place() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--connections-max", "1"]);
    let ask = || {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        stream
    };
    let mut byte = [0];
    let mut first = ask();
    assert_eq!(first.read(&mut byte).unwrap(), 1);
    let mut second = ask();
    assert!(second.read(&mut byte).is_err(), "the second was answered beside the first");
    drop(first);
    second.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(second.read(&mut byte).unwrap(), 1);
}

#[test]
fn headers_beyond_the_limit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    // The server may close before everything is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    assert_eq!(get(&server.url, "/healthz", None), 200);
}

/// Whoever reaches such a server is the operator; a page in a browser of its machine does.
#[test]
fn development_mode_answers_no_web_page() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--dev"]);
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let ask = |url: &str, header: &str, value: &str| {
        let request = ureq::http::Request::post(url).header(header, value);
        let request = request.header("content-type", "application/json");
        let mut answer = agent.run(request.body(r#"{"name":"xxx"}"#).unwrap()).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    let tenants = format!("{}/v1/admin/tenants", server.url);
    let chroma = format!("{}/api/v2/tenants", server.chroma);
    for url in [&tenants, &chroma] {
        for (header, value) in
            [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")]
        {
            let (status, body) = ask(url, header, value);
            assert!(status == 403 && body.contains("development mode"), "{status} {body}");
        }
    }
    assert_eq!(get(&server.url, "/v1/admin/tenants/xxx", None), 404);
    assert_eq!(ask(&tenants, "origin", "http://localhost:3000").0, 201);
    assert_eq!(ask(&chroma, "host", "localhost:1").0, 409);
    server.stop();
}
