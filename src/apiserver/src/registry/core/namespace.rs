//! Namespace: its name label, the `kubernetes` finalizer in its spec, phases.
//!
//! Invariant: see `registry::strategy`; only `/finalize` changes `spec.finalizers`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::registry::store::{meta, metadata_of};
use crate::registry::strategy::{Door, Graceful, Strategy};
use crate::status::{ApiError, FieldError};
use crate::storage::Object;
use crate::table::{self, AGE, Column, NAME, column};
use crate::validation::{self, NameRule};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];

/// See the module.
pub struct Namespace;

fn label(object: &mut Object) {
    let name = meta(object, "name").to_owned();
    if name.is_empty() {
        return;
    }
    let labels = metadata_of(object).entry("labels").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(labels) = labels {
        labels.insert(NAME_LABEL.into(), name.into());
    }
}

fn phase(object: &Object) -> &str {
    object.get("status").and_then(|s| s.get("phase")).and_then(Value::as_str).unwrap_or_default()
}

fn spec_finalizers(object: &Object) -> &[Value] {
    object
        .get("spec")
        .and_then(|s| s.get("finalizers"))
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

impl Strategy for Namespace {
    fn names(&self) -> NameRule {
        validation::label
    }

    fn delete_answers_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Object) {
        label(object);
    }

    fn prepare_create(&self, object: &mut Object) {
        label(object);
        object.insert("spec".into(), json!({"finalizers": ["kubernetes"]}));
        object.insert("status".into(), json!({"phase": "Active"}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, door: Door) {
        let kept = |name: &str| old.get(name).cloned().unwrap_or_else(|| json!({}));
        match door {
            Door::Finalize => {
                let finalizers = spec_finalizers(new).to_vec();
                let version = new.get("metadata").and_then(|m| m.get("resourceVersion")).cloned();
                *new = old.clone();
                if let Some(version) = version {
                    metadata_of(new).insert("resourceVersion".into(), version);
                }
                let spec = if finalizers.is_empty() { json!({}) } else { json!({"finalizers": finalizers}) };
                new.insert("spec".into(), spec);
            }
            _ => drop(new.insert("spec".into(), kept("spec"))),
        }
    }

    fn validate_update(&self, new: &Object, _old: &Object, door: Door, errors: &mut Vec<FieldError>) {
        let deleting = new.get("metadata").is_some_and(|m| m.get("deletionTimestamp").is_some());
        if door == Door::Status && deleting && phase(new) != "Terminating" {
            let text = "may only be 'Terminating' if `deletionTimestamp` is not empty";
            errors.push(FieldError::invalid("status.Phase", &phase(new).into(), text));
        }
        if door == Door::Status && !deleting && phase(new) == "Terminating" {
            let text = "may not be 'Terminating' if `deletionTimestamp` is empty";
            errors.push(FieldError::invalid("status.Phase", &phase(new).into(), text));
        }
    }

    fn may_delete(&self, name: &str) -> Result<(), ApiError> {
        if PROTECTED.contains(&name) {
            return Err(ApiError::forbidden("namespaces", name, "this namespace may not be deleted"));
        }
        Ok(())
    }

    fn graceful(&self, object: &Object, _grace: Option<i64>) -> Graceful {
        let finalizers = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
        let held = !spec_finalizers(object).is_empty() || finalizers.is_some_and(|f| !f.is_empty());
        if held { Graceful::Marked } else { Graceful::Not }
    }

    fn mark(&self, object: &mut Object) {
        let status = object.entry("status").or_insert_with(|| json!({}));
        if let Value::Object(status) = status {
            status.insert("phase".into(), "Terminating".into());
        }
    }

    fn may_go(&self, object: &Object) -> bool {
        spec_finalizers(object).is_empty()
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn field(&self, object: &Object, label: &str) -> Option<String> {
        (label == "status.phase").then(|| phase(object).to_owned())
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [NAME, column("Status", "Active or Terminating"), AGE];
        &COLUMNS
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![table::name(object), phase(object).into(), table::age(object, now)]
    }
}
