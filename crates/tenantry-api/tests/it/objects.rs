//! A list is never an object, however deep in a body.

use crate::server::Server;
use serde_json::{Map, Value, json};
use tenantry_api::openapi;
use tenantry_engine::SignUpRules;

/// A body with all members that this schema of the document has. Its texts and numbers mean
/// nothing, but have their types.
fn sample(document: &Value, schema: &Value) -> Value {
    if let Some(named) = schema["$ref"].as_str() {
        // It may hold filters, in turn.
        let filter = named.ends_with("/Filter");
        return if filter {
            json!({"a": 1})
        } else {
            sample(document, document.pointer(&named[1..]).unwrap())
        };
    }
    if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        return sample(document, &choices[0]);
    }
    if let Some(words) = schema["enum"].as_array() {
        return words[0].clone();
    }
    match schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap() {
        "object" => {
            let members = schema["properties"].as_object().into_iter().flatten();
            let mut all: Map<_, _> =
                members.map(|(name, of)| (name.clone(), sample(document, of))).collect();
            if schema["additionalProperties"].is_object() {
                all.insert("a".to_owned(), sample(document, &schema["additionalProperties"]));
            }
            Value::Object(all)
        }
        "array" => json!([sample(document, &schema["items"])]),
        "string" => json!("a"),
        "boolean" => json!(true),
        _ => json!(1),
    }
}

/// Where objects are in this value, itself among them, as JSON pointers.
fn objects(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                objects(value, format!("{at}/{name}"), found);
            }
            found.push(at);
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                objects(value, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn no_list_is_taken_for_an_object_in_any_body() {
    let server = Server::signing_up(SignUpRules::default()).await;
    let key = server.tenant("acme").await;
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_null() {
                continue;
            }
            let body = sample(&document, schema);
            let path = path.replace("{tenant}", "acme").replace(['{', '}'], "");
            let line = format!("{} {path}", method.to_uppercase());
            let key = if path.starts_with("/v1/admin") { &server.operator } else { &key };
            let told = server.call(key, &line, body.clone()).await.text;
            assert!(!told.contains(" at line "), "{line}: the sample {body} is wrong: {told}");
            let mut places = Vec::new();
            objects(&body, String::new(), &mut places);
            for place in places {
                let mut body = body.clone();
                let object = body.pointer_mut(&place).unwrap();
                // In the order of their names; that of the program shows in no document.
                let members = object.as_object().unwrap().values().cloned();
                *object = members.collect();
                let why = server.call(key, &line, body).await.refused(400, "invalid");
                let says = ["invalid type: sequence", "must be an object", ": an object with"];
                assert!(says.iter().any(|says| why.contains(says)), "{line} {place}: {why}");
                tried += 1;
            }
        }
    }
    assert!(tried > 60, "{tried}");
}
