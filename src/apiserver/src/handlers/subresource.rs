//! Subresources that are no door to the object: log, exec, attach, portforward, proxy, eviction.
//!
//! Invariant: the API checks what it knows, the node answers the rest.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{Call, body, respond, shielded};
use crate::node_proxy::NodeProxy;
use crate::registry::core::pod::{containers, text};
use crate::registry::options::{DeleteOptions, WriteOptions};
use crate::registry::store::meta;
use crate::registry::strategy::Door;
use crate::status::{ApiError, FieldError};
use crate::storage::{self, Object};
use crate::time;

fn names(pod: &Object, list: &str) -> Vec<String> {
    let nothing = json!({});
    let spec = pod.get("spec").unwrap_or(&nothing);
    containers(spec, &[list]).filter_map(|c| c.get("name").and_then(Value::as_str)).map(str::to_owned).collect()
}

/// The container that is meant, or why none is.
fn container(pod: &Object, asked: Option<&str>) -> Result<String, ApiError> {
    let name = meta(pod, "name");
    let own = names(pod, "containers");
    match asked {
        Some(asked) => {
            let known = own.iter().any(|n| n == asked)
                || names(pod, "initContainers").iter().any(|n| n == asked)
                || names(pod, "ephemeralContainers").iter().any(|n| n == asked);
            if known {
                Ok(asked.to_owned())
            } else {
                Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}")))
            }
        }
        None => match own.as_slice() {
            [one] => Ok(one.clone()),
            many => {
                let init = names(pod, "initContainers");
                let more = if init.is_empty() {
                    String::new()
                } else {
                    format!(" or one of the init containers: [{}]", init.join(" "))
                };
                let text = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]{more}",
                    many.join(" ")
                );
                Err(ApiError::bad_request(text))
            }
        },
    }
}

fn log_options(call: &Call) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    for (name, least) in [("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)] {
        let Some(value) = call.query.get(name) else { continue };
        let number: i64 = value
            .parse()
            .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax")))?;
        if number < least {
            let text = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            errors.push(FieldError::invalid(name, &number.into(), text));
        }
    }
    if call.query.get("sinceSeconds").is_some() && call.query.get("sinceTime").is_some() {
        errors.push(FieldError::forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("PodLogOptions", &call.info.name, errors)) }
}

fn pod(call: &Call) -> Result<Object, ApiError> {
    call.store.get(call.resource, &call.info.namespace, &call.info.name).map(|e| storage::decode(&e))
}

fn known_node(call: &Call, node: &str) -> Result<(), ApiError> {
    let key = storage::key("nodes", "", node);
    if call.store.db.read(|v| v.get(storage::OBJECTS, &key)).is_none() {
        return Err(ApiError::not_found("pods", node));
    }
    Ok(())
}

/// `log`: what the node has of a container's output.
pub async fn log(call: Arc<Call>, node: &NodeProxy, request: Request<Body>) -> Result<Response, ApiError> {
    let pod = pod(&call)?;
    log_options(&call)?;
    let container = container(&pod, call.query.get("container"))?;
    let on = text(&pod, "spec", "/nodeName");
    if on.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    known_node(&call, on)?;
    let query = request.uri().query().unwrap_or_default();
    let path = format!("/containerLogs/{}/{}/{container}?{query}", call.info.namespace, call.info.name);
    node.send(request, &path).await
}

/// `exec`, `attach`, `portforward`: handed to the node with its upgrade.
pub async fn streams(call: Arc<Call>, node: &NodeProxy, request: Request<Body>) -> Result<Response, ApiError> {
    let pod = pod(&call)?;
    let on = text(&pod, "spec", "/nodeName");
    if on.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", call.info.name)));
    }
    known_node(&call, on)?;
    let query = request.uri().query().unwrap_or_default();
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let path = match call.info.subresource.as_str() {
        "portforward" => format!("/portForward/{namespace}/{name}?{query}"),
        verb => {
            let container = container(&pod, call.query.get("container"))?;
            format!("/{verb}/{namespace}/{name}/{container}?{query}")
        }
    };
    node.send(request, &path).await
}

/// `eviction`: marks the pod as disrupted and deletes it.
pub async fn evict(call: Arc<Call>) -> Result<Response, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions", &call.manager())?;
    let eviction: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    body::media(&call)?;
    pod(&call)?;
    let named = eviction.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if named != call.info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let delete = eviction.get("deleteOptions").map_or_else(|| "{}".to_owned(), Value::to_string);
    let delete = DeleteOptions::parse(delete.as_bytes(), &call.query)?;
    let work = {
        let call = call.clone();
        async move {
            let (namespace, name) = (&call.info.namespace, &call.info.name);
            let now = time::seconds(call.store.clock.now());
            let change = |old: &Object| Ok(disrupted(old, &now));
            call.store.update(call.resource, namespace, name, Door::Binding, &options, &change).await?;
            call.store.delete(call.resource, namespace, name, &delete).await
        }
    };
    shielded(call.clone(), "evict", work).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(respond(StatusCode::CREATED, "application/json", status.to_string().into(), &[]))
}

fn disrupted(old: &Object, now: &str) -> Object {
    let mut new = old.clone();
    let status = new.entry("status").or_insert_with(|| json!({}));
    if let Value::Object(status) = status
        && let Value::Array(conditions) = status.entry("conditions").or_insert_with(|| json!([]))
        && !conditions.iter().any(|c| c.get("type").and_then(Value::as_str) == Some("DisruptionTarget"))
    {
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        }));
    }
    new
}
