//! Event: where it may lie, field labels, columns.
//!
//! Invariant: see `registry::strategy`.

use jiff::Timestamp;
use serde_json::Value;

use crate::registry::store::meta;
use crate::registry::strategy::Strategy;
use crate::status::FieldError;
use crate::storage::Object;
use crate::table::{self, Column, column, wide};

/// See the module.
pub struct Event;

fn text<'a>(object: &'a Object, path: &[&str]) -> &'a str {
    let first = path.first().and_then(|name| object.get(*name));
    let found = path.iter().skip(1).fold(first, |value, name| value.and_then(|v| v.get(*name)));
    found.and_then(Value::as_str).unwrap_or_default()
}

fn first_of<'a>(values: &[&'a str]) -> &'a str {
    values.iter().find(|v| !v.is_empty()).copied().unwrap_or_default()
}

fn count(object: &Object) -> i64 {
    let series = object.get("series").and_then(|s| s.get("count")).and_then(Value::as_i64);
    let own = object.get("count").and_then(Value::as_i64).filter(|c| *c > 0);
    series.or(own).unwrap_or(1)
}

fn source(object: &Object) -> String {
    let host = text(object, &["source", "host"]);
    let component = first_of(&[text(object, &["source", "component"]), text(object, &["reportingComponent"])]);
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

impl Strategy for Event {
    fn put_creates(&self) -> bool {
        true
    }

    fn validate(&self, object: &Object, errors: &mut Vec<FieldError>) {
        let namespace = meta(object, "namespace");
        let involved = text(object, &["involvedObject", "namespace"]);
        let fits =
            if involved.is_empty() { matches!(namespace, "default" | "kube-system") } else { involved == namespace };
        if !fits {
            let problem = "does not match event.namespace";
            errors.push(FieldError::invalid("involvedObject.namespace", &involved.into(), problem));
        }
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }

    fn field(&self, object: &Object, label: &str) -> Option<String> {
        if let Some(name) = label.strip_prefix("involvedObject.") {
            return Some(text(object, &["involvedObject", name]).to_owned());
        }
        match label {
            "source" => {
                let component = text(object, &["source", "component"]);
                Some(first_of(&[component, text(object, &["reportingComponent"])]).to_owned())
            }
            "reason" | "reportingComponent" | "type" => Some(text(object, &[label]).to_owned()),
            _ => None,
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 10] = [
            column("Last Seen", "Time since it happened last"),
            column("Type", "Normal or Warning"),
            column("Reason", "Why it happened, as one word"),
            column("Object", "What it happened to"),
            wide("Subobject", "Which part of the object"),
            wide("Source", "Who reports it"),
            column("Message", "What happened"),
            wide("First Seen", "Time since it happened first"),
            wide("Count", "How often it happened"),
            Column { name: "Name", format: "name", description: "Name of the event", priority: 1 },
        ];
        &COLUMNS
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let event_time = text(object, &["eventTime"]);
        let first = first_of(&[text(object, &["firstTimestamp"]), event_time]);
        let last = first_of(&[text(object, &["series", "lastObservedTime"]), text(object, &["lastTimestamp"]), first]);
        let kind = text(object, &["involvedObject", "kind"]).to_lowercase();
        let target = text(object, &["involvedObject", "name"]);
        let target = if target.is_empty() { kind } else { format!("{kind}/{target}") };
        vec![
            table::since(last, now).into(),
            text(object, &["type"]).into(),
            text(object, &["reason"]).into(),
            target.into(),
            text(object, &["involvedObject", "fieldPath"]).into(),
            source(object).into(),
            text(object, &["message"]).trim().into(),
            table::since(first, now).into(),
            count(object).into(),
            table::name(object),
        ]
    }
}
