//! What an update may change of a pod, by door.
//!
//! Invariant: pure.

use serde_json::{Value, json};

use super::pod::{containers, text};
use crate::registry::store::meta;
use crate::registry::strategy::Door;
use crate::status::FieldError;
use crate::storage::Object;

const REFUSED: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
    additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
    previously negative)";

/// Takes from `new` what its door lets through.
pub fn prepare(new: &mut Object, old: &Object, door: Door) {
    if matches!(door, Door::Ephemeral | Door::Resize)
        && let Some(status) = old.get("status")
    {
        new.insert("status".into(), status.clone());
    }
    // A pod that has its node has no nominated one.
    if door == Door::Status
        && !text(old, "spec", "/nodeName").is_empty()
        && let Some(Value::Object(status)) = new.get_mut("status")
    {
        status.remove("nominatedNodeName");
    }
    if door == Door::Status
        && let Some(Value::Object(status)) = new.get_mut("status")
        && !status.contains_key("qosClass")
        && let Some(class) = old.get("status").and_then(|s| s.get("qosClass"))
    {
        status.insert("qosClass".into(), class.clone());
    }
}

/// The spec with everything that may change made equal to `old`'s.
fn without_allowed(new: &Value, old: &Value) -> Value {
    let mut masked = new.clone();
    for list in ["containers", "initContainers"] {
        let before = old.get(list).and_then(Value::as_array);
        let now = masked.get_mut(list).and_then(Value::as_array_mut);
        if let (Some(before), Some(now)) = (before, now)
            && before.len() == now.len()
        {
            for (now, before) in now.iter_mut().zip(before) {
                if let (Value::Object(now), Some(image)) = (now, before.get("image")) {
                    now.insert("image".into(), image.clone());
                }
            }
        }
    }
    let Value::Object(spec) = &mut masked else { return masked };
    for name in ["activeDeadlineSeconds", "schedulingGates"] {
        match old.get(name) {
            Some(value) => drop(spec.insert(name.into(), value.clone())),
            None => drop(spec.remove(name)),
        }
    }
    let grace = "terminationGracePeriodSeconds";
    let negative = old.get(grace).and_then(Value::as_i64).is_some_and(|g| g < 0);
    if negative && spec.get(grace).and_then(Value::as_i64) == Some(1) {
        spec.insert(grace.into(), old.get(grace).cloned().unwrap_or(Value::Null));
    }
    let before = old.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let now = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    if before.iter().all(|t| now.contains(t)) && !before.is_empty() {
        spec.insert("tolerations".into(), Value::Array(before));
    } else if before.is_empty() && old.get("tolerations").is_none() {
        spec.remove("tolerations");
    }
    masked
}

fn ephemeral(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    let empty = json!({});
    let names = |o: &Object| -> Vec<String> {
        let spec = o.get("spec").unwrap_or(&empty);
        let list = containers(spec, &["ephemeralContainers"]);
        list.filter_map(|c| c.get("name").and_then(Value::as_str).map(str::to_owned)).collect()
    };
    let now = names(new);
    for gone in names(old).iter().filter(|n| !now.contains(n)) {
        let text = format!("existing ephemeral containers {gone:?} may not be removed\n");
        errors.push(FieldError::forbidden("spec.ephemeralContainers", &text));
    }
}

/// Checks an update.
pub fn check(new: &Object, old: &Object, door: Door, errors: &mut Vec<FieldError>) {
    let empty = json!({});
    let (now, before) = (new.get("spec").unwrap_or(&empty), old.get("spec").unwrap_or(&empty));
    match door {
        Door::Main => {
            if now != before && without_allowed(now, before) != *before {
                errors.push(FieldError::forbidden("spec", REFUSED));
            }
        }
        Door::Ephemeral => ephemeral(new, old, errors),
        Door::Resize => {
            if super::pod::qos(now) != super::pod::qos(before) {
                let class: Value = super::pod::qos(before).into();
                let text = "Pod QOS Class may not change as a result of resizing";
                errors.push(FieldError::invalid("spec", &class, text));
            }
        }
        Door::Status => {
            let phase = text(new, "status", "/phase");
            let finished = |p: &str| matches!(p, "Succeeded" | "Failed");
            let past = text(old, "status", "/phase");
            if finished(past) && !finished(phase) && meta(old, "deletionTimestamp").is_empty() {
                tracing::debug!(pod.name = meta(old, "name"), "a finished pod was given phase {phase:?}");
            }
        }
        Door::Finalize | Door::Binding => {}
    }
}
