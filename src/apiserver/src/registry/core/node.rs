//! Node: the not-ready taint of a new one, defaults, columns.
//!
//! Invariant: see `registry::strategy`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::registry::strategy::{Reader, Strategy};
use crate::status::ApiError;
use crate::storage::Object;
use crate::table::{self, AGE, Column, NAME, column, wide};

/// See the module.
pub struct Node;

fn status<'a>(object: &'a Object, pointer: &str) -> Option<&'a Value> {
    object.get("status").and_then(|s| s.pointer(pointer))
}

fn info(object: &Object, name: &str) -> String {
    let found = status(object, &format!("/nodeInfo/{name}")).and_then(Value::as_str).unwrap_or_default();
    found.to_owned()
}

fn or_unknown(text: String) -> Value {
    if text.is_empty() { "<unknown>".into() } else { text.into() }
}

fn address(object: &Object, kind: &str) -> Value {
    let all = status(object, "/addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().find(|a| a.get("type").and_then(Value::as_str) == Some(kind));
    found.and_then(|a| a.get("address")).cloned().unwrap_or_else(|| "<none>".into())
}

fn unschedulable(object: &Object) -> bool {
    object.get("spec").and_then(|s| s.get("unschedulable")).and_then(Value::as_bool).unwrap_or(false)
}

fn state(object: &Object) -> String {
    let conditions = status(object, "/conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ready = conditions.iter().find(|c| c.get("type").and_then(Value::as_str) == Some("Ready"));
    let mut text = match ready.and_then(|c| c.get("status")).and_then(Value::as_str) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if unschedulable(object) {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(object: &Object) -> String {
    let labels = object.get("metadata").and_then(|m| m.get("labels")).and_then(Value::as_object);
    let names: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role.to_owned()),
            None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
            None => None,
        })
        .collect();
    if names.is_empty() { "<none>".into() } else { names.join(",") }
}

impl Strategy for Node {
    fn status_on_create(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Object) {
        if let Some(Value::Object(status)) = object.get_mut("status")
            && !status.contains_key("allocatable")
            && let Some(capacity) = status.get("capacity").cloned()
        {
            status.insert("allocatable".into(), capacity);
        }
    }

    fn admit(&self, _reader: &dyn Reader, _namespace: &str, object: &mut Object) -> Result<(), ApiError> {
        let spec = object.entry("spec").or_insert_with(|| json!({}));
        if let Value::Object(spec) = spec {
            let taints = spec.entry("taints").or_insert_with(|| json!([]));
            let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
            if let Value::Array(taints) = taints
                && !taints.contains(&taint)
            {
                taints.push(taint);
            }
        }
        Ok(())
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn field(&self, object: &Object, label: &str) -> Option<String> {
        (label == "spec.unschedulable").then(|| unschedulable(object).to_string())
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 10] = [
            NAME,
            column("Status", "Whether it takes pods"),
            column("Roles", "Roles by label"),
            AGE,
            column("Version", "Version of its agent"),
            wide("Internal-IP", "Address inside"),
            wide("External-IP", "Address outside"),
            wide("OS-Image", "Operating system"),
            wide("Kernel-Version", "Kernel"),
            wide("Container-Runtime", "What runs containers"),
        ];
        &COLUMNS
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            table::name(object),
            state(object).into(),
            roles(object).into(),
            table::age(object, now),
            info(object, "kubeletVersion").into(),
            address(object, "InternalIP"),
            address(object, "ExternalIP"),
            or_unknown(info(object, "osImage")),
            or_unknown(info(object, "kernelVersion")),
            or_unknown(info(object, "containerRuntimeVersion")),
        ]
    }
}
