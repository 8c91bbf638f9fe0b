//! `tenantry plan` and `tenantry limit`, and what a client sees of them over HTTP.

use crate::{
    commands::{Target, on_all},
    program::{Folder, run},
};
use serde_json::{Value, json};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};
use ureq::http::HeaderMap;

/// Asks with a key: status and headers.
fn get(url: &str, key: &str) -> (u16, HeaderMap) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = agent.get(format!("{url}/v1/tenant"));
    let answer = request.header("authorization", format!("Bearer {key}")).call().unwrap();
    (answer.status().as_u16(), answer.headers().clone())
}

/// The words of a table's line that begins with this one.
fn line<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let found = table.lines().find(|line| line.split_whitespace().next() == Some(first));
    found.unwrap_or_else(|| panic!("{first}: {table}")).split_whitespace().collect()
}

#[test]
fn plans_are_made_listed_shown_and_deleted() {
    on_all(|target| {
        assert_eq!(
            target.done(&["plan", "defaults"]),
            "made plan free\nmade plan pro\nmade plan enterprise\n"
        );
        let put = ["plan", "put", "pro", "keys=7", "requests_per_second=5/9"];
        assert_eq!(target.json(&put)["limits"]["keys"], 7);
        let said = target.json(&["plan", "defaults"]);
        assert_eq!(said, json!({"made": [], "kept": ["free", "pro", "enterprise"]}));
        let shown = target.done(&["plan", "show", "pro"]);
        assert_eq!(line(&shown, "requests_per_second"), ["requests_per_second", "5/9"]);
        assert_eq!(line(&shown, "databases"), ["databases", "1000"], "all else is the default");
        let change = ["plan", "put", "pro", "--change", "requests_per_second=none", "weight=9"];
        target.done(&change);
        let pro = target.json(&["plan", "show", "pro"]);
        assert_eq!((&pro["limits"]["keys"], &pro["weight"]), (&json!(7), &json!(9)));
        assert_eq!(pro["rates"]["requests_per_second"], Value::Null);
        let table = target.done(&["plan", "list"]);
        assert!(table.starts_with("NAME        DATABASES"), "{table}");
        let free = [
            "free", "1", "10", "10000", "5", "5", "2048", "none", "none", "5/20", "none", "3600",
            "none", "none", "none", "1000", "none", "4", "25", "shared", "any",
        ];
        assert_eq!(line(&table, "free"), free);
        let names = target.json(&["plan", "list"]);
        let names: Vec<_> = names.as_array().unwrap().iter().map(|plan| &plan["name"]).collect();
        assert_eq!(names, ["enterprise", "free", "pro"]);

        target.done(&["tenant", "create", "acme", "--plan", "pro"]);
        target.fails(&["plan", "delete", "pro"], &["tenants have the plan pro"]);
        target.done(&["tenant", "delete", "acme", "--yes"]);
        assert_eq!(target.done(&["plan", "delete", "pro"]), "deleted plan pro\n");
        for command in [&["plan", "show", "pro"][..], &["plan", "put", "pro", "--change", "keys=1"]]
        {
            target.fails(command, &["Plan [pro] does not exist"]);
        }
    });
}

#[test]
fn tenants_live_where_their_plan_says_and_have_vectors_as_large_as_it_says() {
    on_all(|target| {
        target.done(&["plan", "put", "p", "vector_dimensions=3", "isolations=schema"]);
        let create = ["tenant", "create", "acme", "--plan", "p"];
        let says = "the plan p does not allow the isolation shared; it allows schema";
        target.fails(&create, &[says]);
        target.done(&["plan", "put", "p", "--change", "isolations=shared"]);
        let change = ["plan", "put", "p", "--change", "locations=home,eu", "keys=4"];
        let said = target.json(&change);
        assert_eq!(said["isolations"], json!(["shared"]));
        assert_eq!(said["locations"], json!(["home", "eu"]));
        let shown = target.done(&["plan", "show", "p"]);
        assert_eq!(line(&shown, "isolations"), ["isolations", "shared"]);
        assert_eq!(line(&shown, "locations"), ["locations", "home,eu"]);
        assert_eq!(line(&shown, "vector_dimensions"), ["vector_dimensions", "3"]);
        target.done(&create);
        let shown = target.done(&["limit", "set", "acme", "vector_dimensions=4", "--for", "7d"]);
        let words = line(&shown, "vector_dimensions");
        assert_eq!(words[..4], ["vector_dimensions", "4", "exception", "until"]);
        target.done(&["plan", "put", "q", "locations=eu"]);
        let update = ["tenant", "update", "acme", "--plan", "q"];
        target.fails(&update, &["it allows eu", "lives in shared at home: move it first"]);
        target.done(&["plan", "put", "q", "--change", "locations=any", "isolations=any"]);
        let q = target.json(&["plan", "show", "q"]);
        assert_eq!(q["locations"], Value::Null);
        target.done(&update);
    });
}

#[test]
fn a_plan_that_tenants_have_is_changed_by_nobody_who_did_not_mean_it() {
    on_all(|target| {
        let put = ["plan", "put", "p", "keys=3", "weight=9", "isolations=schema,shared"];
        target.done(&put);
        // Nobody has it, so nobody is asked.
        target.done(&["plan", "put", "p", "--change", "keys=4"]);
        target.done(&["tenant", "create", "acme", "--plan", "p"]);
        target.done(&["tenant", "create", "other"]);
        for (command, words, end) in [
            (
                &put[..],
                "plan p, which one tenant has:\n  keys 4 → 3\nerror: ",
                "at once: say --yes",
            ),
            (
                &["plan", "put", "p", "--change", "weight=2"],
                "has:\n  weight 9 → 2\nerror: ",
                "at once: say --yes",
            ),
            // More than what is said would change.
            (
                &["plan", "put", "p", "keys=4"],
                "has:\n  weight 9 → 100\n  isolations shared,schema → any\nwhat is not said goes back",
                "unless --change keeps it: say --yes",
            ),
        ] {
            let (code, out, err) = run(&target.with(command));
            assert_eq!((code, out.as_str()), (1, ""), "{err}");
            assert!(err.contains(words), "{err}");
            target.fails(command, &["tenants have the plan p", end]);
        }
        let p = target.json(&["plan", "show", "p"]);
        assert_eq!((&p["limits"]["keys"], &p["weight"]), (&json!(4), &json!(9)), "nothing of it");
        // Who says what it says already changes nothing.
        target.done(&["plan", "put", "p", "--change", "keys=4"]);
        assert_eq!(target.json(&[&put[..], &["--yes"]].concat())["limits"]["keys"], 3);
    });
}

#[test]
fn a_tenants_limits_are_shown_with_where_they_come_from() {
    on_all(|target| {
        target.done(&["plan", "put", "p", "databases=2", "keys=3", "requests_per_hour=50"]);
        let made = target.done(&["tenant", "create", "acme", "--plan", "p"]);
        assert_eq!(made, "created tenant acme (active, plan p)\n");
        target.fails(&["tenant", "create", "b", "--plan", "q"], &["Plan [q] does not exist"]);
        let shown = target.done(&["limit", "show", "acme"]);
        let heading: Vec<_> = shown.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(heading, ["LIMIT", "VALUE", "USED", "FROM"]);
        assert_eq!(line(&shown, "databases"), ["databases", "2", "1", "plan", "p"]);
        assert_eq!(line(&shown, "bytes"), ["bytes", "none", "0", "plan", "p"]);
        let used = &target.json(&["limit", "show", "acme"])["used"];
        assert_eq!((&used["databases"], &used["keys"]), (&json!(1), &json!(0)));
        assert_eq!((&used["users"], &used["requests_per_month"]), (&json!(0), &json!(0)));
        assert_eq!(line(&shown, "weight"), ["weight", "100", "plan", "p"]);

        let until = ["limit", "set", "acme", "keys=9", "--until", "2999-01-01T01:00:00+01:00"];
        let shown = target.done(&until);
        let raised = ["keys", "9", "exception", "until", "2999-01-01", "00:00:00Z"];
        assert_eq!(line(&shown, "keys"), raised);
        let shown = target.done(&["limit", "set", "acme", "records=900"]);
        assert_eq!(line(&shown, "records"), ["records", "900", "exception"]);
        let set = ["limit", "set", "acme", "requests_per_hour=none", "databases=4"];
        let said = target.json(&set);
        assert_eq!((&said["name"], &said["plan"]), (&json!("acme"), &json!("p")));
        assert_eq!(said["effective"]["from"]["databases"], "exception");
        assert_eq!(said["exceptions"]["keys"]["expires_at_ms"], 32_472_144_000_000_u64);
        let shown = target.done(&["limit", "unset", "acme", "databases", "keys"]);
        assert_eq!(line(&shown, "databases"), ["databases", "2", "plan", "p"]);
        let free = ["requests_per_hour", "none", "exception"];
        assert_eq!(line(&shown, "requests_per_hour"), free);

        let changed = target.done(&["tenant", "update", "acme", "--no-plan"]);
        assert_eq!(changed, "changed tenant acme (active)\n");
        let shown = target.done(&["limit", "show", "acme"]);
        assert_eq!(line(&shown, "databases"), ["databases", "1000", "1", "default"]);
        let changed = target.json(&["tenant", "update", "acme", "--plan", "p"]);
        assert_eq!(changed["plan"], "p");
        let listed = target.done(&["tenant", "list"]);
        assert_eq!(line(&listed, "acme").last(), Some(&"p"), "{listed}");
        target.fails(&["limit", "show", "b"], &["Tenant [b] does not exist"]);
        let past = ["limit", "set", "acme", "keys=1", "--until", "2020-01-01"];
        target.fails(&past, &["expiry: must be in the future"]);
    });
}

#[test]
fn what_an_application_has_counted_is_reported_and_shown() {
    on_all(|target| {
        target.done(&["plan", "put", "p", "messages_per_day=2", "tokens_per_day=none"]);
        target.done(&["tenant", "create", "acme", "--plan", "p"]);
        let report = |id: &'static str, more: &'static str| {
            ["usage", "report", "acme", "messages=1", "tokens=812", "--id", id, more]
        };
        let (one, two) = (report("chat-17", "--enforce"), report("chat-18", "--enforce"));
        let said = target.done(&one);
        assert_eq!(said, "counted 2, counted before 0\nmessages_per_day: 1 left today\n");
        let again = json!({"counted": 0, "duplicates": 2, "left": {"messages_per_day": 1}});
        assert_eq!(target.json(&one), again);
        target.done(&two);
        target.fails(&report("chat-19", "--enforce"), &["messages_per_day", "has 0 left"]);
        target.done(&report("chat-19", "money_micros=1500000"));
        target.fails(
            &["usage", "report", "acme", "messages=2", "--id", "chat-17"],
            &["\"chat-17:messages\" is of 1 messages and not of 2 messages"],
        );
        let shown = target.done(&["usage", "acme"]);
        assert!(shown.contains("TOKENS") && shown.contains("MESSAGES"), "{shown}");
        let used = target.json(&["usage", "acme"]);
        let amounts = &used[0]["amounts"];
        assert_eq!((&amounts["messages"], &amounts["tokens"]), (&json!("3"), &json!("2436")));
        let month = used[0]["at"].as_str().unwrap();
        let bill = target.done(&["bill", "acme", month]);
        assert_eq!(line(&bill, "money_micros"), ["money_micros", "1500000", "1.500000"]);
        assert_eq!(line(&bill, "total"), ["total", "1.500000"]);
        let all = target.done(&["bill", "--all", month]);
        assert_eq!(line(&all, "ID"), ["ID", "NAME", "PLAN", "TOTAL"]);
        assert!(all.lines().any(|line| line.ends_with("acme  p     1.500000")), "{all}");
        let all = target.json(&["bill", "--all", month]);
        assert_eq!((&all[0]["name"], &all[0]["total_micros"]), (&json!("acme"), &json!("1500000")));
        let all = target.done(&["bill", "--all", month, "--csv"]);
        assert!(all.contains(&format!(",\"acme\",\"p\",{month},1500000,")), "{all}");
        target.done(&["bill", "--check", month]);
        let shown = target.done(&["limit", "show", "acme"]);
        let messages = ["messages_per_day", "2", "3", "plan", "p"];
        assert_eq!(line(&shown, "messages_per_day"), messages);
        let cost = ["cost_per_month", "none", "1500000", "plan", "p"];
        assert_eq!(line(&shown, "cost_per_month"), cost);
        target.fails(&["usage", "report", "none", "tokens=1", "--id", "a"], &["does not exist"]);
        // A tenant may be called as the command is.
        target.done(&["tenant", "create", "report"]);
        let (code, out, err) = run(&[&target.with(&["usage"])[..], &["--", "report"]].concat());
        assert!(code == 0 && !out.contains("MESSAGES"), "{out}{err}");
    });
}

#[test]
fn what_is_mistyped_is_told_before_anything_is_opened() {
    for (args, words) in [
        (&["plan", "put", "p", "key=1"][..], "no limit is called \"key\""),
        (&["plan", "put", "p", "keys=none"], "keys: it must be a number"),
        (&["plan", "put", "p", "--change"], "LIMIT=VALUE"),
        (&["limit", "set", "acme"], "LIMIT=VALUE"),
        (&["limit", "set", "acme", "keys=1/2"], "only rates have a burst"),
        (&["limit", "set", "acme", "keys=1", "--until", "soon"], "\"soon\" is not a time"),
        (&["limit", "set", "acme", "keys=1", "--until", "2999-01-01", "--for", "1d"], "--for"),
        (&["limit", "unset", "acme", "keys=1"], "no limit is called \"keys=1\""),
        (&["limit", "unset", "acme"], "LIMIT"),
        (&["usage", "report", "acme", "requests=1", "--id", "a"], "\"requests\" is not reported"),
        (&["usage", "report", "acme", "tokens=1"], "--id"),
        (&["tenant", "update", "acme", "--plan", "p", "--no-plan"], "--no-plan"),
    ] {
        let (code, _, err) = run(args);
        assert!(code == 2 && err.contains(words), "{args:?}: {code} {err}");
    }
    let (code, _, err) = run(&["tenant", "update", "acme", "--data-dir", "/nowhere"]);
    assert!(code == 1 && err.contains("--plan NAME"), "{err}");
}

#[test]
fn a_client_is_refused_by_its_plan_and_served_when_that_says_more() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    target.done(&["plan", "put", "p", "requests_per_hour=2"]);
    target.done(&["tenant", "create", "acme", "--plan", "p"]);
    let key = target.done(&["key", "create", "--tenant", "acme", "--role", "read"]);
    let ask = || get(&server.url, key.trim());
    let left = |headers: &HeaderMap| headers["ratelimit"].to_str().unwrap().to_owned();
    for n in [1, 0] {
        let (status, headers) = ask();
        assert_eq!(
            (status, &headers["ratelimit-policy"]),
            (200, &r#""hour";q=2;w=3600"#.parse().unwrap())
        );
        assert!(left(&headers).starts_with(&format!("\"hour\";r={n};")), "{headers:?}");
    }
    let (status, headers) = ask();
    let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(status == 429 && (1_700..=1_800).contains(&wait), "{status} {headers:?}");
    // At once, and not when somebody starts anew.
    target.done(&["plan", "put", "p", "--change", "requests_per_hour=3", "--yes"]);
    assert_eq!((ask().0, ask().0), (200, 429));
    let raise = ["limit", "set", "acme", "requests_per_hour=100", "--for", "2s"];
    let raised = Instant::now();
    target.done(&raise);
    if raised.elapsed() < Duration::from_secs(1) {
        assert_eq!(ask().0, 200);
    }
    while ask().0 != 429 {
        assert!(raised.elapsed() < Duration::from_secs(30), "the exception does not end");
        sleep(Duration::from_millis(200));
    }
    assert!(raised.elapsed() > Duration::from_secs(2));
    let shown = target.done(&["limit", "show", "acme"]);
    assert!(shown.contains("plan p; an exception of 100 ended 20"), "{shown}");
    // A tenant's key reaches none of it.
    let other = Target::Server(server.url.clone(), key.trim().to_owned());
    target.done(&["limit", "unset", "acme", "requests_per_hour"]);
    target.done(&["tenant", "update", "acme", "--no-plan"]);
    for command in
        [&["plan", "list"][..], &["plan", "put", "q"], &["limit", "set", "acme", "keys=1"]]
    {
        other.fails(command, &["operator key"]);
    }
    server.stop();
}
