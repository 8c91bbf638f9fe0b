//! The reference is what the program says. `UPDATE_EXPECT=1` rewrites it.

use crate::server::Server;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::PathBuf,
    sync::LazyLock,
};
use tenantry_api::{GET_RECORDS_DEFAULT, GET_RECORDS_MAX, ROUTES, openapi};
use tenantry_engine::{Limits, NAME_BYTES_MAX, RecordId, UsageEvent, VectorName};

/// An operation of the document: method, parts of the path, statuses with the kinds of their bodies.
type Described = (String, Vec<String>, BTreeMap<u16, BTreeSet<String>>);

static DESCRIBED: LazyLock<Vec<Described>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap().iter();
            let statuses = answers.map(|(status, answer)| {
                let referred = answer["$ref"].as_str().map(|to| &to[1..]);
                let answer = referred.map_or(answer, |to| document.pointer(to).unwrap());
                let kinds = answer["content"].as_object().into_iter().flatten();
                (status.parse().unwrap(), kinds.map(|(kind, _)| kind.clone()).collect())
            });
            let statuses = statuses.collect();
            let parts = path.split('/').map(str::to_owned).collect();
            all.push((method.to_uppercase(), parts, statuses));
        }
    }
    all
});

/// Fails if the document does not say that this operation answers so, with a body of this kind.
/// Every test of this crate asks it of every answer.
#[track_caller]
pub(crate) fn assert_described(method: &str, path: &str, status: u16, kind: Option<&str>) {
    let parts: Vec<_> = path.split('/').collect();
    let is_at = |of: &[String]| {
        let fits = |(of, part): (&String, &&str)| of.starts_with('{') || of == part;
        of.len() == parts.len() && of.iter().zip(&parts).all(fits)
    };
    let found = DESCRIBED.iter().find(|(of, parts, _)| of == method && is_at(parts));
    if let Some((.., statuses)) = found {
        let kinds = statuses.get(&status);
        let kinds = kinds.unwrap_or_else(|| panic!("{method} {path} answers {status}: untold"));
        let kind = kind.map(|kind| kind.split(';').next().unwrap());
        assert!(kind.is_none_or(|kind| kinds.contains(kind)), "{method} {path} answers {kind:?}");
    }
}

pub(crate) fn reference(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(file)
}

pub(crate) fn check(file: &str, expect: &str) {
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

/// A row for each metric that a server shows, with the labels that it has.
fn metrics_table(text: &str) -> String {
    let mut table = "| metric | kind | labels | what |\n|---|---|---|---|\n".to_owned();
    let mut says = BTreeMap::new();
    let mut rows = BTreeSet::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            says.insert(name, help.strip_suffix('.').unwrap_or(help));
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        else {
            continue;
        };
        let end = if kind == "counter" { "_total" } else { "" };
        let sample = if kind == "histogram" { "_bucket" } else { end };
        let mut samples = text.lines().filter_map(|line| line.strip_prefix(name));
        let labels = samples.find_map(|line| line.strip_prefix(sample)?.strip_prefix('{'));
        let labels = labels.and_then(|line| line.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        let labels: Vec<_> =
            labels.filter(|(l, _)| *l != "le").map(|(l, _)| format!("`{l}`")).collect();
        rows.insert(format!(
            "| `{name}{end}` | {kind} | {} | {} |\n",
            labels.join(", "),
            says[name]
        ));
    }
    table.extend(rows);
    table
}

/// What is documented is what is shown, all of it.
#[tokio::test]
async fn the_page_of_metrics_has_each_that_a_server_shows() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    server.call(&admin, "GET /v1/tenant", Value::Null).await.expect(200);
    let shown = server.call(&server.operator, "GET /metrics", Value::Null).await.text;
    let text = fs::read_to_string(reference("metrics.md")).unwrap();
    check("metrics.md", &with_section(&text, "metrics", &metrics_table(&shown)));
}

/// The text between `<!-- what -->` and `<!-- /what -->`, replaced.
pub(crate) fn with_section(text: &str, what: &str, section: &str) -> String {
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
        ("bytes of a tenant's, database's, collection's or group's name", NAME_BYTES_MAX),
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
        ("events of usage in one report", UsageEvent::BATCH_MAX),
        ("amount of one event, at least 1", usize::try_from(UsageEvent::AMOUNT_MAX).unwrap()),
        ("events of a tenant in a day of UTC", UsageEvent::DAY_MAX as usize),
        ("databases of a tenant, unless its operator says otherwise", default.databases as usize),
        ("collections of a tenant, likewise", default.collections as usize),
        ("API keys of a tenant, likewise", default.keys as usize),
        ("members of a tenant, likewise, and never more than 100,000", default.users as usize),
        ("groups of a tenant's members", Limits::GROUPS_MAX),
        ("databases and collections that a group gives", Limits::GROUP_GRANTS_MAX),
        ("groups of a member", Limits::MEMBER_GROUPS_MAX),
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
fn the_bounds_of_the_document_are_the_programs() {
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    for (place, bound) in [
        ("Name/maxLength", NAME_BYTES_MAX),
        ("RecordIdText/maxLength", RecordId::BYTES_MAX),
        ("Components/maxItems", Limits::DIMENSION_MAX),
        ("AddIn/properties/records/maxItems", Limits::BATCH_RECORDS_MAX),
        ("UpsertIn/properties/records/maxItems", Limits::BATCH_RECORDS_MAX),
        ("UpdateIn/properties/records/maxItems", Limits::BATCH_RECORDS_MAX),
        ("GetIn/properties/ids/maxItems", Limits::IDS_MAX),
        ("GetIn/properties/limit/maximum", GET_RECORDS_MAX),
        ("DeleteIn/properties/ids/maxItems", Limits::IDS_MAX),
        ("QueryIn/properties/ids/maxItems", Limits::IDS_MAX),
        ("QueryIn/properties/vectors/maxItems", Limits::QUERY_VECTORS_MAX),
        ("QueryIn/properties/k/maximum", Limits::QUERY_HITS_MAX),
        ("ReportIn/properties/events/maxItems", UsageEvent::BATCH_MAX),
        ("EventIn/properties/amount/maximum", usize::try_from(UsageEvent::AMOUNT_MAX).unwrap()),
        ("RecordIn/properties/uri/maxLength", Limits::URI_BYTES_MAX),
        ("Metadata/maxProperties", Limits::METADATA_KEYS_MAX),
        ("MetadataPatch/maxProperties", Limits::METADATA_KEYS_MAX),
        ("Metadata/propertyNames/maxLength", Limits::METADATA_KEY_BYTES_MAX),
        ("VectorCreateIn/properties/dimension/maximum", Limits::DIMENSION_MAX),
        ("Filter/properties/$document/properties/$regex/maxLength", Limits::REGEX_BYTES_MAX),
    ] {
        let found = document.pointer(&format!("/components/schemas/{place}"));
        assert_eq!(found, Some(&bound.into()), "{place}");
    }
}

#[test]
fn everything_that_is_named_is_there() {
    let text = openapi();
    let document: Value = serde_json::from_str(&text).unwrap();
    let components = &document["components"];
    let mut named = 0;
    for part in text.split("\"#/components/").skip(1) {
        let (kind, name) = part.split('"').next().unwrap().split_once('/').unwrap();
        assert!(components[kind].get(name).is_some(), "{kind} {name} is not described");
        named += 1;
    }
    assert!(named > 40, "{named}");
}

#[test]
fn every_link_leads_to_an_operation_with_all_its_names() {
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let operations = || {
        let items = document["paths"].as_object().unwrap().iter();
        items.flat_map(|(path, item)| {
            item.as_object().unwrap().values().map(move |operation| (path, operation))
        })
    };
    let mut links = 0;
    for answer in operations().flat_map(|(_, one)| one["responses"].as_object().unwrap().values()) {
        for link in answer["links"].as_object().into_iter().flat_map(|all| all.values()) {
            let target = operations().find(|(_, one)| one["operationId"] == link["operationId"]);
            let (path, _) = target.unwrap();
            let given = link["parameters"].as_object().unwrap();
            let names = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
            assert!(names.clone().all(|name| given.contains_key(name)), "{path}: {given:?}");
            assert_eq!(names.count(), given.len(), "{path}: {given:?}");
            links += 1;
        }
    }
    assert!(links > 30, "{links}");
}
