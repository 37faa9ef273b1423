//! Cuts the published OpenAPI v3 document down to the served paths, without prose.
//!
//! Invariant: keeps every schema that a kept path or kept schema refers to.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::RESOURCES;

fn without_prose(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(key, value)| !(*key == "description" && value.is_string()))
                .map(|(key, value)| (key.clone(), without_prose(value)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(without_prose).collect()),
        other => other.clone(),
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get("$ref") {
                found.insert(to.rsplit('/').next().unwrap_or_default().to_owned());
            }
            map.values().for_each(|v| references(v, found));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

fn served(path: &str) -> bool {
    let path = path.replace("/watch", "");
    let Some(rest) = path.strip_prefix("/api/v1/") else { return path == "/api/v1/" };
    let rest = rest.strip_prefix("namespaces/{namespace}/").unwrap_or(rest);
    RESOURCES.contains(&rest.split('/').next().unwrap_or_default())
}

/// The document of group "" version v1 for the served resources.
pub fn filter(text: &str) -> Result<Value> {
    let document: Value = serde_json::from_str(text).context("parse the OpenAPI document")?;
    let empty = Map::new();
    let paths = document.get("paths").and_then(Value::as_object).unwrap_or(&empty);
    let all = document.pointer("/components/schemas").and_then(Value::as_object).unwrap_or(&empty);
    let kept: Map<String, Value> =
        paths.iter().filter(|(p, _)| served(p)).map(|(p, v)| (p.clone(), without_prose(v))).collect();
    let mut wanted = BTreeSet::new();
    kept.values().for_each(|v| references(v, &mut wanted));
    let mut schemas = Map::new();
    while let Some(name) = wanted.pop_first() {
        if schemas.contains_key(&name) {
            continue;
        }
        let schema = without_prose(all.get(&name).with_context(|| format!("no schema {name}"))?);
        references(&schema, &mut wanted);
        schemas.insert(name, schema);
    }
    let mut out = without_prose(&document);
    if let Some(map) = out.as_object_mut() {
        map.insert("paths".into(), Value::Object(kept));
    }
    if let Some(components) = out.get_mut("components").and_then(Value::as_object_mut) {
        components.insert("schemas".into(), Value::Object(schemas));
    }
    Ok(out)
}
