//! The committed document is the one the code generates, and it hangs together.

use std::collections::BTreeSet;

use quarry_openapi::document::openapi_json;
use serde_json::Value;

#[test]
fn committed_document_is_current() {
    let committed = include_str!("../openapi.json");
    assert!(
        committed == openapi_json(),
        "openapi/openapi.json is stale: run `cargo run -p quarry-openapi --example write` and read the difference"
    );
}

#[test]
fn every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(&openapi_json()).unwrap();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    assert!(references.len() >= 12, "only {references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                into.insert(reference.clone());
            }
            map.values().for_each(|v| collect(v, into));
        }
        Value::Array(list) => list.iter().for_each(|v| collect(v, into)),
        _ => {}
    }
}
