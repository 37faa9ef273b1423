//! Turns declarations into the compact tables: types reachable from the served kinds, and the served resources.
//!
//! Invariant: the output is a function of the input alone (sorted keys), so that `--check` can compare.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::RESOURCES;
use crate::go::{Field, Package};

const ROOTS: [&str; 11] = [
    "Binding",
    "ConfigMap",
    "Event",
    "Namespace",
    "Node",
    "Pod",
    "Secret",
    "ServiceAccount",
    "DeleteOptions",
    "Eviction",
    "LabelSelector",
];

/// A Go type expression in the tables' notation: scalars by name, `[]X` a list, `{}X` a map, `v1.X` a struct.
fn expression(package: &Package, go: &str, needed: &mut BTreeSet<String>) -> String {
    let go = go.trim_start_matches('*');
    if let Some(item) = go.strip_prefix("[]") {
        return if item == "byte" { "bytes".into() } else { format!("[]{}", expression(package, item, needed)) };
    }
    if let Some(rest) = go.strip_prefix("map[")
        && let Some((_, value)) = rest.split_once(']')
    {
        return format!("{{}}{}", expression(package, value, needed));
    }
    let short = go.rsplit('.').next().unwrap_or(go);
    match go {
        "string" | "bool" | "int32" | "int64" => return go.into(),
        "resource.Quantity" => return "quantity".into(),
        "intstr.IntOrString" => return "intorstring".into(),
        "metav1.Time" | "Time" => return "time".into(),
        "metav1.MicroTime" | "MicroTime" => return "microtime".into(),
        "FieldsV1" | "metav1.FieldsV1" => return "raw".into(),
        "types.UID" | "types.NodeName" => return "string".into(),
        _ => {}
    }
    if package.structs.contains_key(short) {
        needed.insert(short.to_owned());
        return format!("v1.{short}");
    }
    match package.named.get(short) {
        Some(other) => expression(package, &other.clone(), needed),
        None => "string".into(),
    }
}

/// The Go type as its own error messages print it (pointers gone, packages by their short names).
fn printed(go: &str) -> String {
    let go = go.trim_start_matches('*');
    if let Some(item) = go.strip_prefix("[]") {
        return if item == "byte" { "[]uint8".into() } else { format!("[]{}", printed(item)) };
    }
    if go.starts_with("map[") {
        return go.into();
    }
    match go {
        "string" | "bool" | "int32" | "int64" => go.into(),
        _ if go.starts_with("metav1.") => go.replace("metav1.", "v1."),
        _ if go.contains('.') => go.into(),
        _ => format!("v1.{go}"),
    }
}

fn encode(package: &Package, field: &Field, needed: &mut BTreeSet<String>) -> Value {
    let mut out = Map::new();
    let marked = |name: &str| -> Vec<String> {
        field.markers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    };
    out.insert("n".into(), json!(field.json));
    out.insert("t".into(), json!(expression(package, &field.go, needed)));
    let go = printed(&field.go);
    if go != expression(package, &field.go, needed) {
        out.insert("g".into(), json!(go));
    }
    if field.go.starts_with('*') {
        out.insert("p".into(), json!(true));
    }
    match (field.omit_empty, field.omit_zero) {
        (_, true) => out.insert("o".into(), json!(2)),
        (true, false) => out.insert("o".into(), json!(1)),
        _ => None,
    };
    if field.number > 0 {
        out.insert("i".into(), json!(field.number));
    }
    if let Some(strategy) = &field.patch_strategy {
        out.insert("s".into(), json!(strategy));
    }
    if let Some(key) = &field.patch_merge_key {
        out.insert("k".into(), json!(key));
    }
    if let Some(kind) = marked("listType").first() {
        out.insert("l".into(), json!(kind));
    }
    let keys: BTreeSet<String> = marked("listMapKey").into_iter().collect();
    if !keys.is_empty() {
        let mut ordered = marked("listMapKey");
        ordered.dedup();
        out.insert("lk".into(), json!(ordered));
    }
    if marked("mapType").first().is_some_and(|v| v == "atomic")
        || marked("structType").first().is_some_and(|v| v == "atomic")
    {
        out.insert("a".into(), json!(true));
    }
    if let Some(text) = marked("default").first()
        && let Ok(value) = serde_json::from_str::<Value>(text)
    {
        out.insert("d".into(), value);
    }
    let named = field.go.trim_start_matches('*').rsplit('.').next().unwrap_or_default();
    if package.enums.contains_key(named) {
        out.insert("e".into(), json!(named));
    }
    Value::Object(out)
}

/// Struct tables of every type reachable from the served kinds, and the enumerations they use.
pub fn types(package: &Package) -> Result<Value> {
    let mut structs: BTreeMap<String, Value> = BTreeMap::new();
    let mut waiting: Vec<String> = ROOTS.iter().map(|r| (*r).to_owned()).collect();
    let mut enums: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(name) = waiting.pop() {
        if structs.contains_key(&name) {
            continue;
        }
        let declared = package.structs.get(&name).with_context(|| format!("no struct {name}"))?;
        let mut needed = BTreeSet::new();
        let mut fields = Vec::new();
        let mut pending: Vec<Field> = declared.fields.iter().rev().cloned().collect();
        while let Some(field) = pending.pop() {
            if field.json.is_empty() {
                let inner = field.go.trim_start_matches('*').rsplit('.').next().unwrap_or_default();
                let inner = package.structs.get(inner).with_context(|| format!("inlined {} of {name}", field.go))?;
                pending.extend(inner.fields.iter().rev().cloned());
                continue;
            }
            if let Some(values) = package.enums.get(field.go.trim_start_matches('*')) {
                let mut sorted = values.clone();
                sorted.sort();
                enums.insert(field.go.trim_start_matches('*').to_owned(), sorted);
            }
            fields.push(encode(package, &field, &mut needed));
        }
        let mut table = Map::new();
        table.insert("f".into(), Value::Array(fields));
        if declared.atomic {
            table.insert("a".into(), json!(true));
        }
        structs.insert(name, Value::Object(table));
        waiting.extend(needed);
    }
    Ok(json!({"structs": structs, "enums": enums}))
}

/// The served resources and their subresources, as the published discovery document lists them.
pub fn resources(discovery: &str) -> Result<Value> {
    let document: Value = serde_json::from_str(discovery).context("parse the discovery document")?;
    let listed = document.get("resources").and_then(Value::as_array).context("no resources")?;
    let served = listed.iter().filter(|r| {
        let name = r.get("name").and_then(Value::as_str).unwrap_or_default();
        RESOURCES.contains(&name.split('/').next().unwrap_or_default())
    });
    Ok(Value::Array(served.cloned().collect()))
}
