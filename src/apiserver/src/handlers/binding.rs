//! `pods/<name>/binding` and `bindings`: a scheduler says where a pod runs.
//!
//! Invariant: a pod is bound once; the binding and its PodScheduled condition are one write.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Call, body, respond, shielded};
use crate::registry;
use crate::registry::options::WriteOptions;
use crate::registry::store::{meta, metadata_of};
use crate::registry::strategy::Door;
use crate::status::ApiError;
use crate::storage::Object;
use crate::time;

fn scheduled(status: &mut Map<String, Value>, now: &str) {
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Value::Array(conditions) = conditions else { return };
    conditions.retain(|c| c.get("type").and_then(Value::as_str) != Some("PodScheduled"));
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    }));
}

/// Binds the pod of the URL (or, on `bindings`, the one the body names).
pub async fn bind(call: Arc<Call>) -> Result<Response, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions", &call.manager())?;
    let binding = body::other(&call, "Binding")?;
    let target =
        binding.get("target").and_then(|t| t.get("name")).and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = if call.info.name.is_empty() { meta(&binding, "name").to_owned() } else { call.info.name.clone() };
    if target.is_empty() {
        let cause = crate::status::FieldError::required("target.name", "");
        return Err(ApiError::invalid("Binding", &name, vec![cause]));
    }
    let pods = registry::find("pods").ok_or_else(ApiError::unknown_resource)?;
    let (uid, annotations) =
        (meta(&binding, "uid").to_owned(), binding.get("metadata").and_then(|m| m.get("annotations")).cloned());
    let work = {
        let call = call.clone();
        async move {
            let change = |old: &Object| bound(&call, old, &name, &target, &uid, annotations.as_ref());
            call.store.update(pods, &call.info.namespace, &name, Door::Binding, &options, &change).await
        }
    };
    shielded(call.clone(), "bind", work).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(respond(StatusCode::CREATED, "application/json", status.to_string().into(), &[]))
}

fn bound(
    call: &Call,
    old: &Object,
    name: &str,
    target: &str,
    uid: &str,
    annotations: Option<&Value>,
) -> Result<Object, ApiError> {
    let node = registry::core::pod::text(old, "spec", "/nodeName");
    if !uid.is_empty() && uid != meta(old, "uid") {
        let text = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta(old, "uid"));
        return Err(ApiError::conflict("pods/binding", name, &text));
    }
    if !meta(old, "deletionTimestamp").is_empty() {
        let text = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(ApiError::conflict("pods/binding", name, &text));
    }
    if !node.is_empty() {
        let text = format!("pod {name} is already assigned to node {node:?}");
        return Err(ApiError::conflict("pods/binding", name, &text));
    }
    let mut new = old.clone();
    metadata_of(&mut new).remove("resourceVersion");
    if let Some(Value::Object(extra)) = annotations
        && let Value::Object(own) = metadata_of(&mut new).entry("annotations").or_insert_with(|| json!({}))
    {
        own.extend(extra.clone());
    }
    registry::core::pod::spec_of(&mut new).insert("nodeName".into(), target.into());
    let now = time::seconds(call.store.clock.now());
    if let Value::Object(status) = new.entry("status").or_insert_with(|| json!({})) {
        scheduled(status, &now);
    }
    Ok(new)
}
