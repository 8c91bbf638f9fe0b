//! Moving tenants by the operator's routes.

use crate::server::Server;
use serde_json::{Value, json};
use std::time::Duration;

const MOVE: &str = "/v1/admin/tenants/acme/move";

async fn over(server: &Server) -> Value {
    for _ in 0..2_000 {
        let line = format!("GET {MOVE}");
        let status = server.call(&server.operator, &line, Value::Null).await.expect(200);
        if status["over"] == true {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a move is not over after twenty seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_moved_and_keeps_its_keys() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let admin = server.tenant("acme").await;
    let post = format!("POST {MOVE}");
    for to in ["schema", "database", "shared"] {
        let begun = server.call(&op, &post, json!({"isolation": to})).await.expect(202);
        assert_eq!(begun["tenant"], "acme");
        assert_eq!(begun["to"], json!({"isolation": to, "location": "home"}));
        let status = over(&server).await;
        assert_eq!(status["phase"], "done", "{status}");
        assert_eq!(status["error"], Value::Null);
        assert_eq!(status["records_compared"], Value::Null, "nothing is compared any more");
        assert!(status["longest_pause_ms"].as_f64().unwrap() > 0.0, "{status}");
        assert!(status["ended_at_ms"].is_u64());
        let shown = server.call(&op, "GET /v1/admin/tenants/acme", Value::Null).await.expect(200);
        assert_eq!(shown["isolation"], to);
        server.call(&admin, "GET /v1/databases", Value::Null).await.expect(200);
    }
    let metrics = server.call(&op, "GET /metrics", Value::Null).await.text;
    for line in [
        "# TYPE tenantry_moves counter\n",
        "tenantry_moves_total{outcome=\"done\"} 3\n",
        "tenantry_moves_total{outcome=\"cancelled\"} 0\n",
        "tenantry_moves_total{outcome=\"failed\"} 0\n",
        "tenantry_moves_running 0\n",
        "tenantry_moves_queued 0\n",
        "# TYPE tenantry_move_pause_seconds histogram\n",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    let number = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{metrics}")).parse().unwrap()
    };
    assert!(number("tenantry_move_bytes_copied_total") > 0.0);
    assert!(number("tenantry_move_bytes_compared_total") > 0.0);
    let pauses = number("tenantry_move_pause_seconds_count");
    assert!(pauses >= 3.0, "each move has one at least");
    let last = format!("tenantry_move_pause_seconds_bucket{{le=\"+Inf\"}} {pauses}\n");
    assert!(metrics.contains(&last), "{last} is missing in\n{metrics}");
    assert!(number("tenantry_move_pause_seconds_sum") > 0.0);
    let list = server.call(&op, "GET /v1/admin/moves", Value::Null).await.expect(200);
    assert_eq!(list, json!({"moves": []}));
    let log = server.call(&admin, "GET /v1/audit?limit=1000", Value::Null).await.expect(200);
    assert_eq!(log.to_string().matches("\"tenant.move\"").count(), 3);
    let cancel = server.call(&op, &format!("DELETE {MOVE}"), Value::Null).await;
    assert!(cancel.refused(409, "conflict").contains("lives in its new place already"));
}

#[tokio::test]
async fn moves_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let admin = server.tenant("acme").await;
    let post = format!("POST {MOVE}");
    for (body, status, kind, says) in [
        (json!({}), 400, "invalid", "isolation, location, or both"),
        (json!({"isolation": "shared"}), 400, "invalid", "already"),
        (json!({"isolation": "room"}), 400, "invalid", "isolation"),
        (json!({"isolation": 1}), 400, "invalid", "expected a string"),
        (json!({"location": "A"}), 400, "invalid", "location: home"),
        (json!({"location": "eu"}), 400, "invalid", "there is no location eu"),
        (json!({"location": "own"}), 501, "unsupported", "a database that they carry"),
        (json!({"to": "schema"}), 400, "invalid", "to"),
        (json!({"backend": "embedded"}), 400, "invalid", "isolation, location, or both"),
        (json!({"isolation": "schema", "backend": "disk"}), 400, "invalid", "backend must be"),
        (json!({"isolation": "schema", "backend": "postgres"}), 400, "invalid", "kept by embedded"),
    ] {
        let why = server.call(&op, &post, body.clone()).await.refused(status, kind);
        assert!(why.contains(says), "{body}: {why}");
    }
    let never = server.call(&op, &format!("GET {MOVE}"), Value::Null).await;
    assert!(never.refused(404, "not_found").contains("never moved"));
    let cancel = server.call(&op, &format!("DELETE {MOVE}"), Value::Null).await;
    assert!(cancel.refused(409, "conflict").contains("not being moved"));
    for method in ["POST", "GET", "DELETE"] {
        let line = format!("{method} /v1/admin/tenants/x/move");
        let body = if method == "POST" { json!({"isolation": "schema"}) } else { Value::Null };
        server.call(&op, &line, body).await.refused(404, "not_found");
    }
    server.call(&admin, &post, json!({"isolation": "schema"})).await.refused(403, "denied");
}
