//! Pod: admission (service account, priority, tolerations), QoS, grace, what may change, field labels, columns.
//!
//! Invariant: see `registry::strategy`; defaults are in `pod_defaults`, checks in `pod_checks`, cells in `pod_columns`.

use foundation::id;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{pod_checks, pod_columns, pod_defaults, pod_update};
use crate::quantity::Quantity;
use crate::registry::store::{meta, metadata_of};
use crate::registry::strategy::{Door, Graceful, Reader, Strategy};
use crate::status::{ApiError, FieldError};
use crate::storage::Object;
use crate::table::Column;

/// See the module.
pub struct Pod;

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOLERATED: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// A string below the object, empty if absent.
pub fn text<'a>(object: &'a Object, root: &str, pointer: &str) -> &'a str {
    object.get(root).and_then(|s| s.pointer(pointer)).and_then(Value::as_str).unwrap_or_default()
}

/// The spec, made if absent.
pub fn spec_of(object: &mut Object) -> &mut Map<String, Value> {
    let spec = object.entry("spec").or_insert_with(|| json!({}));
    if !spec.is_object() {
        *spec = json!({});
    }
    spec.as_object_mut().expect("made an object two lines above")
}

/// All containers of the three lists.
pub fn containers<'a>(spec: &'a Value, lists: &'a [&str]) -> impl Iterator<Item = &'a Value> {
    lists.iter().filter_map(|l| spec.get(*l).and_then(Value::as_array)).flatten()
}

/// The QoS class of a pod's spec.
pub fn qos(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in containers(spec, &["containers", "initContainers"]) {
        let amount = |kind: &str, name: &str| {
            let text = container.pointer(&format!("/resources/{kind}/{name}")).and_then(Value::as_str)?;
            Quantity::parse(text).ok().map(|q| q.nano()).filter(|n| *n != 0)
        };
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount("requests", name), amount("limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn admit_account(reader: &dyn Reader, namespace: &str, object: &mut Object) -> Result<(), ApiError> {
    let pod = meta(object, "name").to_owned();
    let spec = spec_of(object);
    let named = spec.get("serviceAccountName").and_then(Value::as_str).filter(|n| !n.is_empty());
    let name = named.unwrap_or("default").to_owned();
    let Some(account) = reader.find("serviceaccounts", namespace, &name) else {
        let text = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(ApiError::forbidden("pods", &pod, &text));
    };
    spec.insert("serviceAccountName".into(), name.clone().into());
    spec.insert("serviceAccount".into(), name.into());
    let wanted = |map: &Map<String, Value>| map.get("automountServiceAccountToken").and_then(Value::as_bool);
    if wanted(spec).or_else(|| wanted(&account)).unwrap_or(true) {
        mount_token(spec);
    }
    if !spec.contains_key("imagePullSecrets")
        && let Some(secrets) = account.get("imagePullSecrets")
    {
        spec.insert("imagePullSecrets".into(), secrets.clone());
    }
    Ok(())
}

fn mount_token(spec: &mut Map<String, Value>) {
    let mounted = |c: &Value| {
        let mounts = c.get("volumeMounts").and_then(Value::as_array);
        mounts.is_some_and(|m| m.iter().any(|m| m.get("mountPath").and_then(Value::as_str) == Some(MOUNT)))
    };
    let name = format!("kube-api-access-{}", id::random_suffix(5));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if mounted(container) {
                continue;
            }
            used = true;
            if let Value::Object(container) = container
                && let Value::Array(mounts) = container.entry("volumeMounts").or_insert_with(|| json!([]))
            {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT}));
            }
        }
    }
    if used && let Value::Array(volumes) = spec.entry("volumes").or_insert_with(|| json!([])) {
        volumes.push(json!({"name": name, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]}}));
    }
}

fn admit_priority(object: &mut Object) -> Result<(), ApiError> {
    let pod = meta(object, "name").to_owned();
    let spec = spec_of(object);
    let class = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let priority = match SYSTEM_PRIORITIES.iter().find(|(name, _)| *name == class) {
        Some((_, value)) => *value,
        None if class.is_empty() => 0,
        None => {
            let text = format!("no PriorityClass with name {class} was found");
            return Err(ApiError::forbidden("pods", &pod, &text));
        }
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|given| *given != priority) {
        let text = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        );
        return Err(ApiError::forbidden("pods", &pod, &text));
    }
    spec.insert("priority".into(), priority.into());
    spec.entry("preemptionPolicy").or_insert_with(|| "PreemptLowerPriority".into());
    Ok(())
}

fn tolerate(spec: &mut Map<String, Value>) {
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Value::Array(list) = list else { return };
    for key in TOLERATED {
        let covered = list.iter().any(|t| {
            let own = t.get("key").and_then(Value::as_str).unwrap_or_default();
            let effect = t.get("effect").and_then(Value::as_str).unwrap_or_default();
            (own == key || own.is_empty()) && matches!(effect, "" | "NoExecute")
        });
        if !covered {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

impl Strategy for Pod {
    fn has_generation(&self) -> bool {
        true
    }

    fn delete_answers_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Object) {
        pod_defaults::apply(object);
    }

    fn admit(&self, reader: &dyn Reader, namespace: &str, object: &mut Object) -> Result<(), ApiError> {
        admit_account(reader, namespace, object)?;
        let runtime = text(object, "spec", "/runtimeClassName");
        if !runtime.is_empty() {
            let text = format!("pod rejected: RuntimeClass {runtime:?} not found");
            return Err(ApiError::forbidden("pods", meta(object, "name"), &text));
        }
        admit_priority(object)?;
        tolerate(spec_of(object));
        Ok(())
    }

    fn prepare_create(&self, object: &mut Object) {
        let class = object.get("spec").map_or("BestEffort", qos);
        object.insert("status".into(), json!({"phase": "Pending", "qosClass": class}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, door: Door) {
        pod_update::prepare(new, old, door);
    }

    fn validate(&self, object: &Object, errors: &mut Vec<FieldError>) {
        pod_checks::check(object, errors);
    }

    fn validate_update(&self, new: &Object, old: &Object, door: Door, errors: &mut Vec<FieldError>) {
        pod_update::check(new, old, door, errors);
    }

    fn graceful(&self, object: &Object, grace: Option<i64>) -> Graceful {
        let finished = matches!(text(object, "status", "/phase"), "Succeeded" | "Failed");
        if text(object, "spec", "/nodeName").is_empty() || finished {
            return Graceful::After(0);
        }
        let own = object.get("spec").and_then(|s| s.get("terminationGracePeriodSeconds")).and_then(Value::as_i64);
        let seconds = grace.or(own).unwrap_or(30);
        Graceful::After(if seconds < 0 { 1 } else { seconds })
    }

    fn mark(&self, object: &mut Object) {
        metadata_of(object);
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &pod_columns::LABELS
    }

    fn field(&self, object: &Object, label: &str) -> Option<String> {
        pod_columns::field(object, label)
    }

    fn columns(&self) -> &'static [Column] {
        &pod_columns::COLUMNS
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        pod_columns::cells(object, now)
    }

    fn row_conditions(&self, object: &Object) -> Option<Value> {
        pod_columns::conditions(object)
    }
}
