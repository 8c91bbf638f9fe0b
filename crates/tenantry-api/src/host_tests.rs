use super::*;
use tenantry_engine::Network;

fn hosts() -> Hosts {
    Hosts::new("Example.com", ["10.1.0.0/16", "::1"]).unwrap()
}

fn asked(
    peer: Option<&str>,
    headers: &[(&str, &str)],
    uri: &str,
) -> std::result::Result<Option<String>, &'static str> {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(Peer(peer.parse().unwrap()));
    }
    Ok(hosts().tenant(&request)?.map(|name| name.as_str().to_owned()))
}

fn named(name: &str) -> String {
    name.to_owned()
}

#[test]
fn a_label_below_the_domain_is_a_name() {
    for host in
        ["acme.example.com", "ACME.Example.Com", "acme.example.com:7700", "acme.example.com."]
    {
        assert_eq!(asked(None, &[("host", host)], "/"), Ok(Some(named("acme"))), "{host}");
    }
    // Whatever precedes the domain is the name; a tenant may be called so.
    assert_eq!(asked(None, &[("host", "a.b.example.com")], "/"), Ok(Some(named("a.b"))));
    for host in [
        "example.com",
        "www.example.com",
        "API.example.com",
        "acme.example.org",
        "acmeexample.com",
        "acme.example.com.evil.org",
        "127.0.0.1:7700",
        "[::1]:7700",
        "localhost",
        "",
    ] {
        assert_eq!(asked(None, &[("host", host)], "/"), Ok(None), "{host}");
    }
    assert_eq!(asked(None, &[], "/"), Ok(None));
}

#[test]
fn a_host_that_can_be_read_in_two_ways_is_refused() {
    for host in [
        ".example.com",
        "a.example.com,b.example.com",
        "a.example.com b",
        "a@b.example.com",
        "a.example.com:x",
        "\u{e9}.example.com",
        "%61.example.com",
    ] {
        assert!(asked(None, &[("host", host)], "/").is_err(), "{host}");
    }
    let two = [("host", "a.example.com"), ("host", "a.example.com")];
    assert!(asked(None, &two, "/").is_err());
    let line = "http://a.example.com:80/";
    assert_eq!(asked(None, &[], line), Ok(Some(named("a"))));
    assert_eq!(asked(None, &[("host", "a.example.com")], line), Ok(Some(named("a"))));
    assert!(asked(None, &[("host", "b.example.com")], line).is_err());
}

#[test]
fn a_forwarded_host_counts_from_a_trusted_proxy_alone() {
    let both = [("host", "a.example.com"), ("x-forwarded-host", "b.example.com")];
    for (peer, name) in [
        (None, "a"),
        (Some("10.2.0.1"), "a"),
        (Some("::2"), "a"),
        (Some("10.1.255.1"), "b"),
        (Some("::ffff:10.1.0.1"), "b"),
        (Some("::1"), "b"),
    ] {
        assert_eq!(asked(peer, &both, "/"), Ok(Some(named(name))), "{peer:?}");
    }
    let own = [("host", "a.example.com")];
    assert_eq!(asked(Some("10.1.0.1"), &own, "/"), Ok(Some(named("a"))));
    // What the client sent and the proxy has added to, as a list or as two headers.
    let list = [("x-forwarded-host", "a.example.com, b.example.com")];
    assert!(asked(Some("10.1.0.1"), &list, "/").is_err());
    let two = [("x-forwarded-host", "a.example.com"), ("x-forwarded-host", "b.example.com")];
    assert!(asked(Some("10.1.0.1"), &two, "/").is_err());
}

#[test]
fn networks_and_domains_are_looked_at() {
    let has = |network: &str, peer: &str| {
        Network::parse(network).unwrap().has(peer.parse::<IpAddr>().unwrap())
    };
    assert!(has("0.0.0.0/0", "9.9.9.9") && has("::/0", "fe80::1") && !has("::/0", "9.9.9.9"));
    assert!(has("10.0.0.1", "10.0.0.1") && !has("10.0.0.1", "10.0.0.2"));
    assert!(has("10.0.0.1/31", "10.0.0.0") && !has("10.0.0.1/31", "10.0.0.2"));
    assert!(has("fd00::/8", "fdff::1") && !has("fd00::/8", "fe00::1"));
    for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "proxy"] {
        assert!(Network::parse(bad).is_none(), "{bad}");
    }
    for bad in ["", ".example.com", "*.example.com", "example.com.", "a_b.com", "10.0.0.1", "a:80"]
    {
        assert!(Hosts::new(bad, []).is_err(), "{bad}");
    }
}

#[test]
fn a_hop_is_read_for_itself_whatever_a_client_has_sent_before_it() {
    let proxy = Peer("10.1.0.1".parse().unwrap());
    let client = |said: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for said in said {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(said).unwrap());
        }
        hosts().client(proxy, &headers).to_string()
    };
    for (said, address) in [
        (&b"192.0.2.7, 198.51.100.1:5678"[..], "198.51.100.1"),
        (b"[2001:db8::1]:9, 10.1.0.2", "2001:db8::1"),
        (b"[2001:db8::1]", "2001:db8::1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"\xff, 203.0.113.9", "203.0.113.9"),
        (b"\xff,203.0.113.9 ,10.1.0.3", "203.0.113.9"),
        // Never the proxy itself, which may be on this machine, where nothing is bounded.
        (b"198.51.100.1, nonsense", "::"),
        (b"203.0.113.9, \xff", "::"),
        (b"", "::"),
        (b"203.0.113.9, 127.0.0.1", "::"),
        (b"127.0.0.9:5", "::"),
        (b"::ffff:127.0.0.1", "::"),
    ] {
        assert_eq!(client(&[said]), address, "{said:?}");
    }
    assert_eq!(client(&[b"\xff", b"203.0.113.9"]), "203.0.113.9");
    // Whoever it is, it came by no other way.
    assert_eq!(client(&[]), "10.1.0.1");
    assert_eq!(client(&[b"10.1.0.9"]), "10.1.0.1");
}
