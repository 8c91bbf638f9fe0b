//! Too many refused credentials of one address: over HTTP, with the program, in both protocols.

use crate::program::{Folder, Server, done};
use std::time::{Duration, Instant};
use ureq::http;

/// Sends a key as a client behind the proxy of this machine; the status, and after how many seconds
/// to ask again.
fn ask(url: &str, key: &str, client: &str) -> (u16, Option<u64>) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = http::Request::builder().method("GET").uri(url);
    let request = request.header("authorization", format!("Bearer {key}"));
    let request = request.header("x-forwarded-for", client).body(()).unwrap();
    let answer = agent.run(request).unwrap();
    let after =
        answer.headers().get("retry-after").and_then(|text| text.to_str().ok()?.parse().ok());
    (answer.status().as_u16(), after)
}

fn wrong(n: u32) -> String {
    format!("tnt_wrong_{n}")
}

#[test]
fn an_address_is_turned_away_after_too_many_refusals_and_known_keys_go_on() {
    let folder = Folder::new();
    let path = folder.path();
    done(&["tenant", "create", "acme", "--data-dir", &path]);
    let key = || {
        let key = ["key", "create", "--tenant", "acme", "--role", "admin", "--data-dir", &path];
        done(&key).trim().to_owned()
    };
    let (known, new) = (key(), key());
    let flags = ["--trusted-proxies", "127.0.0.1", "--login-failures-per-minute", "60"];
    let server = folder.serve(&flags);
    let native = format!("{}/v1/databases", server.url);
    let chroma = format!("{}/api/v2/auth/identity", server.chroma);
    assert_eq!(ask(&native, &known, "192.0.2.1"), (200, None));
    let begun = Instant::now();
    let mut n = 0;
    // In either protocol it is one budget.
    while ask(if n % 2 == 0 { &native } else { &chroma }, &wrong(n), "192.0.2.1").0 == 401 {
        n += 1;
        assert!(n <= 20 + u32::try_from(begun.elapsed().as_secs()).unwrap() + 1, "{n}");
    }
    assert!(n >= 20, "{n}");
    for url in [&native, &chroma] {
        let (status, after) = ask(url, &new, "192.0.2.1");
        assert!(status == 429 && after.is_some_and(|seconds| seconds >= 1), "{status} {after:?}");
        assert_eq!(ask(url, &known, "192.0.2.1"), (200, None));
    }
    assert_eq!(ask(&native, &new, "192.0.2.2"), (200, None));
    // It was good elsewhere, and is looked at as ever.
    assert_eq!(ask(&native, &new, "192.0.2.1"), (200, None));
    let (id, _) = new.strip_prefix("tnt_").unwrap().split_once('_').unwrap();
    let target = ["--server", &server.url, "--key", &folder.key];
    done(&[&["key", "revoke", id, "--tenant", "acme"], &target[..]].concat());
    assert!([401, 429].contains(&ask(&native, &new, "192.0.2.1").0));
    // After a while others are heard again.
    let begun = Instant::now();
    while ask(&native, &wrong(0), "192.0.2.1").0 != 401 {
        assert!(begun.elapsed() < Duration::from_secs(20), "for ever");
        std::thread::sleep(Duration::from_millis(200));
    }
    server.stop();
}

#[test]
fn the_machine_itself_is_bounded_only_behind_a_proxy_that_is_named() {
    let folder = Folder::new();
    let refused = |server: &Server| {
        let url = format!("{}/v1/databases", server.url);
        (0..40).filter(|n| ask(&url, &wrong(*n), "192.0.2.1").0 == 401).count()
    };
    let server = folder.serve(&[]);
    assert_eq!(refused(&server), 40);
    server.stop();
    let off = ["--trusted-proxies", "127.0.0.1", "--login-failures-per-minute", "0"];
    let server = folder.serve(&off);
    assert_eq!(refused(&server), 40);
    server.stop();
}
