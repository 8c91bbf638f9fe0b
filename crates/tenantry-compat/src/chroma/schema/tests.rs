use super::*;
use serde_json::json;
use tenantry_engine::{
    CollectionId, CollectionName, CollectionNumber, DatabaseNumber, FieldTest, Filter, Metric,
    TextTest, Timestamp, VectorStorage,
};

fn reconciled(
    configuration: Configuration,
    schema: serde_json::Value,
) -> Result<(Configuration, BTreeMap<String, String>), (u16, String)> {
    let schema = serde_json::from_value(schema).map_err(|e| (422, e.to_string()))?;
    reconcile(configuration, Some(schema)).map_err(|f| {
        let (status, _, text) = f.parts();
        (status, text.to_owned())
    })
}

fn info(attributes: BTreeMap<String, String>) -> CollectionInfo {
    CollectionInfo {
        database: DatabaseNumber(1),
        number: CollectionNumber(1),
        id: CollectionId([0; 16]),
        name: CollectionName::parse("abc").unwrap(),
        metric: Metric::Cosine,
        dimension: None,
        storage: VectorStorage::Full,
        vectors: BTreeMap::new(),
        last_vector: 0,
        metadata: None,
        attributes,
        created_at: Timestamp(0),
    }
}

fn key(index: &str, enabled: bool) -> serde_json::Value {
    json!({ index: {"enabled": enabled, "config": {}} })
}

#[test]
fn a_collection_of_another_protocol_has_a_schema() {
    let (configuration, schema) = of(&info(BTreeMap::new()), true).unwrap();
    assert_eq!(configuration.space, Space::Cosine);
    let shown = serde_json::to_value(&schema).unwrap();
    let embedding = &shown["keys"]["#embedding"]["float_list"]["vector_index"];
    assert_eq!(embedding["enabled"], true);
    assert_eq!(embedding["config"]["space"], "cosine");
    assert_eq!(embedding["config"]["source_key"], "#document");
    assert_eq!(embedding["config"]["hnsw"]["ef_search"], 100);
    let defaults = &shown["defaults"];
    assert_eq!(defaults["float_list"]["vector_index"]["enabled"], false);
    assert_eq!(
        defaults["sparse_vector"]["sparse_vector_index"],
        json!({"enabled": false,
            "config": {"embedding_function": {"type": "unknown"}, "bm25": false}})
    );
    assert_eq!(defaults["string"]["string_inverted_index"], json!({"enabled": true, "config": {}}));
}

/// What `Schema()` of the client sends when nothing was changed in it.
fn clients_default() -> serde_json::Value {
    let function = json!({"name": "default", "type": "known", "config": {}});
    json!({
        "defaults": {
            "string": {"fts_index": {"enabled": false, "config": {}},
                "string_inverted_index": {"enabled": true, "config": {}}},
            "float_list": {"vector_index": {"enabled": false,
                "config": {"embedding_function": function, "space": "l2"}}},
            "sparse_vector": {"sparse_vector_index": {"enabled": false,
                "config": {"embedding_function": {"type": "unknown"}}}},
            "int": key("int_inverted_index", true),
            "float": key("float_inverted_index", true),
            "bool": key("bool_inverted_index", true),
        },
        "keys": {
            "#document": {"string": {"fts_index": {"enabled": true, "config": {}},
                "string_inverted_index": {"enabled": false, "config": {}}}},
            "#embedding": {"float_list": {"vector_index": {"enabled": true, "config":
                {"embedding_function": function, "source_key": "#document", "space": "l2"}}}},
        },
    })
}

#[test]
fn a_default_schema_leaves_the_word_to_the_configuration() {
    let asked = Configuration { space: Space::Ip, ..Configuration::default() };
    for schema in [json!({"defaults": {}, "keys": {}}), clients_default()] {
        let (kept, attributes) = reconciled(asked.clone(), schema).unwrap();
        assert_eq!(kept, asked);
        assert!(!attributes.contains_key(ATTRIBUTE) && attributes.len() == 1, "{attributes:?}");
    }
    assert_eq!(reconciled(Configuration::default(), clients_default()).unwrap().1.len(), 0);
}

#[test]
fn a_schema_beside_a_configuration_is_refused() {
    let schema = json!({"defaults": {}, "keys": {"a": {"int": key("int_inverted_index", false)}}});
    let asked = Configuration { space: Space::Ip, ..Configuration::default() };
    let (status, text) = reconciled(asked, schema.clone()).unwrap_err();
    assert_eq!(status, 400);
    assert!(text.contains("Cannot set both collection config and schema"), "{text}");
    assert!(reconciled(Configuration::default(), schema).is_ok());
}

#[test]
fn a_schema_decides_the_space() {
    let config = json!({"space": "cosine", "spann": {"search_nprobe": 16}});
    let schema = json!({"defaults": {}, "keys": {"#embedding": {"float_list":
        {"vector_index": {"enabled": true, "config": config}}}}});
    let (kept, attributes) = reconciled(Configuration::default(), schema).unwrap();
    assert_eq!(kept.space, Space::Cosine);
    let (configuration, schema) = of(&info(attributes), true).unwrap();
    assert_eq!(configuration, kept);
    let shown = serde_json::to_value(&schema).unwrap();
    let config = &shown["keys"]["#embedding"]["float_list"]["vector_index"]["config"];
    assert_eq!((&config["space"], &config["spann"]), (&json!("cosine"), &json!(null)));
    assert_eq!(shown["defaults"]["float_list"]["vector_index"]["config"]["space"], "l2");
}

#[test]
fn impossible_schemas_are_refused() {
    let vector = json!({"float_list": {"vector_index": {"enabled": true, "config": {}}}});
    let sparse = json!({"sparse_vector": {"sparse_vector_index": {"enabled": true, "config": {}}}});
    let text = json!({"string": key("fts_index", true)});
    let unknown = json!({"int_inverted_index": {"enabled": true, "config": {"x": 1}}});
    for (status, part, schema) in [
        (400, "by default", json!({"defaults": vector, "keys": {}})),
        (400, "by default", json!({"defaults": sparse, "keys": {}})),
        (400, "by default", json!({"defaults": text, "keys": {}})),
        (
            400,
            "Sparse vector indexing is not enabled in local",
            json!({"defaults": {}, "keys": {"a": sparse}}),
        ),
        (400, "only be enabled on #embedding", json!({"defaults": {}, "keys": {"a": vector}})),
        (400, "only be enabled on #document", json!({"defaults": {}, "keys": {"a": text}})),
        (400, "begin with '#'", json!({"defaults": {}, "keys": {"#bad": {}}})),
        (400, "other than string", json!({"defaults": {}, "keys": {"#document": {"int": {}}}})),
        (
            400,
            "other than float_list",
            json!({"defaults": {}, "keys": {"#embedding": {"int": {}}}}),
        ),
        (501, "cmek", json!({"defaults": {}, "keys": {}, "cmek": {"gcp": "x"}})),
        (400, "reserved", json!({"defaults": {}, "keys": {}, "source_attached_function_id": "x"})),
        (422, "missing field", json!({"defaults": {}})),
        (422, "unknown field", json!({"defaults": {"int": unknown}, "keys": {}})),
    ] {
        let (got, why) = reconciled(Configuration::default(), schema.clone()).unwrap_err();
        assert_eq!(got, status, "{schema}: {why}");
        assert!(why.contains(part), "{schema}: {why}");
    }
}

#[test]
fn a_switched_off_index_refuses_filters_of_its_kind_only() {
    let schema = json!({
        "defaults": {"int": key("int_inverted_index", false)},
        "keys": {"a": {"string": key("string_inverted_index", false)},
            "#document": {"string": key("fts_index", false)}},
    });
    let (_, attributes) = reconciled(Configuration::default(), schema).unwrap();
    let info = info(attributes);
    let field =
        |key: &str, value| Filter::Field { key: key.to_owned(), test: FieldTest::Eq(value) };
    let refused = |filter: &Filter| permit(&info, filter).err().map(|f| f.parts().2.to_owned());
    assert_eq!(
        refused(&field("a", Value::Str("x".into()))).unwrap(),
        "Cannot filter using metadata key 'a' with type 'Str' because indexing is disabled"
    );
    assert!(refused(&field("b", Value::Int(1))).is_some());
    assert!(
        refused(&Filter::Or(vec![field("b", Value::Bool(true)), field("b", Value::Int(1))]))
            .is_some()
    );
    assert!(refused(&Filter::Text(TextTest::Contains("x".into()))).unwrap().contains("FTS"));
    assert!(refused(&field("a", Value::Float(1.5))).is_none());
    assert!(refused(&field("b", Value::Str("x".into()))).is_none());
}

#[test]
fn texts_are_never_compared() {
    let info = info(BTreeMap::new());
    let test = FieldTest::Eq(Value::Str("x".into()));
    let filter = Filter::Field { key: DOCUMENT.to_owned(), test };
    assert_eq!(permit(&info, &filter).unwrap_err().parts().0, 400);
}

#[test]
fn a_changed_configuration_reaches_the_schema() {
    let schema = json!({"defaults": {}, "keys": {"a": {"int": key("int_inverted_index", false)}}});
    let (_, attributes) = reconciled(Configuration::default(), schema).unwrap();
    let wire = serde_json::from_value(json!({"hnsw": {"ef_search": 7}})).unwrap();
    let changed = change(&info(attributes), wire).unwrap();
    let (configuration, schema) = of(&info(changed), true).unwrap();
    assert_eq!(configuration.hnsw.ef_search, 7);
    let shown = serde_json::to_value(&schema).unwrap();
    assert_eq!(shown["defaults"]["float_list"]["vector_index"]["config"]["hnsw"]["ef_search"], 7);
    assert_eq!(shown["keys"]["a"]["int"]["int_inverted_index"]["enabled"], false);
}

#[test]
fn discovered_keys_take_the_defaults() {
    let schema = json!({"defaults": {"string": key("string_inverted_index", false)}, "keys": {}});
    let (_, mut attributes) = reconciled(Configuration::default(), schema).unwrap();
    for name in ["chroma.key.str:title", "chroma.key.int:title", "chroma.key.bool:a:b"] {
        attributes.insert(name.to_owned(), String::new());
    }
    let info = info(attributes);
    let shown = serde_json::to_value(of(&info, true).unwrap().1).unwrap();
    let title = &shown["keys"]["title"];
    assert_eq!(title["string"]["string_inverted_index"]["enabled"], false);
    assert_eq!(title["int"]["int_inverted_index"]["enabled"], true);
    assert_eq!(shown["keys"]["a:b"]["bool"]["bool_inverted_index"]["enabled"], true);
    let hidden = serde_json::to_value(of(&info, false).unwrap().1).unwrap();
    assert!(hidden["keys"].get("title").is_none());
}
