//! The reference is what the program says. `UPDATE_EXPECT=1` rewrites it.

use crate::server::Server;
use serde_json::Value;
use std::{collections::BTreeSet, fmt::Write, fs, path::PathBuf};
use tenantry_api::{GET_RECORDS_DEFAULT, GET_RECORDS_MAX, ROUTES, openapi};
use tenantry_engine::{Limits, NAME_BYTES_MAX, RecordId, VectorName};

fn reference(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(file)
}

fn check(file: &str, expect: &str) {
    let path = reference(file);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, expect).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap();
    assert!(found == expect, "docs/reference/{file} is out of date; run with UPDATE_EXPECT=1");
}

/// Names of metrics that a text has as code, without the ends that Prometheus adds.
fn metrics_of(text: &str) -> BTreeSet<String> {
    let names = text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("tenantry_"));
    names.map(|name| name.strip_suffix("_total").unwrap_or(name).to_owned()).collect()
}

#[tokio::test]
async fn the_metrics_that_are_documented_are_there() {
    let server = Server::start().await;
    // What is counted by method is there from the first request on.
    server.call(&server.operator, "GET /healthz", Value::Null).await.expect(200);
    let text = server.call(&server.operator, "GET /metrics", Value::Null).await.text;
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let there: BTreeSet<_> = kinds.map(str::to_owned).collect();
    let guide = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
    let guide = fs::read_to_string(guide).unwrap();
    let (_, section) = guide.split_once("\n## Logs and metrics\n").unwrap();
    let told = metrics_of(section.split_once("\n## ").map_or(section, |(section, _)| section));
    assert!(told.len() > 8, "{told:?}");
    let missing: Vec<_> = told.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?} are not among {there:?}");
    let untold = there.difference(&told).filter(|name| name.starts_with("tenantry_move"));
    assert_eq!(untold.count(), 0, "what is counted of moves is documented: {there:?}");
}

/// The text between `<!-- what -->` and `<!-- /what -->`, replaced.
fn with_section(text: &str, what: &str, section: &str) -> String {
    let (head, rest) = text.split_once(&format!("<!-- {what} -->\n")).unwrap();
    let (_, tail) = rest.split_once(&format!("<!-- /{what} -->\n")).unwrap();
    format!("{head}<!-- {what} -->\n{section}<!-- /{what} -->\n{tail}")
}

fn limits() -> String {
    let mut table = "| what | at most |\n|---|---|\n".to_owned();
    let default = Limits::default();
    for (what, limit) in [
        ("bytes of a request body", Limits::BODY_BYTES_MAX),
        ("nesting of a filter", Limits::DEPTH_MAX),
        ("bytes of a tenant's, database's or collection's name", NAME_BYTES_MAX),
        ("bytes of a record's id", RecordId::BYTES_MAX),
        ("records in one write", Limits::BATCH_RECORDS_MAX),
        ("ids in one get, delete or query", Limits::IDS_MAX),
        ("records of one get", GET_RECORDS_MAX),
        ("records of one get that names no limit", GET_RECORDS_DEFAULT),
        ("components of a vector", Limits::DIMENSION_MAX),
        ("named vectors of a collection", Limits::NAMED_VECTORS_MAX),
        ("bytes of a named vector's name", VectorName::BYTES_MAX),
        ("bytes of a record's document", Limits::DOCUMENT_BYTES_MAX),
        ("bytes of a record's uri", Limits::URI_BYTES_MAX),
        ("metadata keys of a record or collection", Limits::METADATA_KEYS_MAX),
        ("bytes of a metadata key", Limits::METADATA_KEY_BYTES_MAX),
        ("bytes of a record's or collection's metadata", Limits::METADATA_BYTES_MAX),
        ("terms of a filter: conditions and listed values", Limits::FILTER_TERMS_MAX),
        ("bytes of a regular expression", Limits::REGEX_BYTES_MAX),
        ("vectors in one query", Limits::QUERY_VECTORS_MAX),
        ("neighbours of one query, over all its vectors", Limits::QUERY_HITS_MAX),
        ("databases of a tenant, unless its operator says otherwise", default.databases as usize),
        ("collections of a tenant, likewise", default.collections as usize),
        ("API keys of a tenant, likewise", default.keys as usize),
        (
            "records in a collection, likewise",
            usize::try_from(default.records_per_collection).unwrap(),
        ),
    ] {
        writeln!(table, "| {what} | {limit} |").unwrap();
    }
    table
}

fn routes() -> String {
    let mut table = "| method | path | needs |\n|---|---|---|\n".to_owned();
    for route in ROUTES {
        let access = format!("{:?}", route.access).to_lowercase();
        writeln!(table, "| {} | `{}` | {access} |", route.method, route.path).unwrap();
    }
    table
}

#[test]
fn the_openapi_document_is_the_committed_one() {
    check("openapi.json", &openapi());
}

#[test]
fn the_tables_of_the_reference_are_the_programs() {
    let text = fs::read_to_string(reference("rest.md")).unwrap();
    let text = with_section(&text, "limits", &limits());
    check("rest.md", &with_section(&text, "routes", &routes()));
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let mut described = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            described.push((method.to_uppercase(), path.clone()));
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            let named = path.matches('{').count();
            let listed = operation["parameters"]
                .as_array()
                .map_or(0, |all| all.iter().filter(|parameter| parameter["in"] == "path").count());
            assert_eq!(named, listed, "{method} {path}");
        }
    }
    let mut mounted: Vec<_> =
        ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    described.sort();
    mounted.sort();
    assert_eq!(described, mounted);
}

#[test]
fn every_schema_that_is_named_is_there() {
    let text = openapi();
    let document: Value = serde_json::from_str(&text).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut named = 0;
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is not described");
        named += 1;
    }
    assert!(named > 40, "{named}");
}
