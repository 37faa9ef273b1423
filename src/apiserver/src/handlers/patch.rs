//! `patch`: JSON, merge and strategic merge patches; server-side apply is refused by name.
//!
//! Invariant: see `handlers`.

use std::sync::Arc;

use axum::response::Response;
use http::{StatusCode, header};
use serde_json::{Map, Value};

use super::{Call, shielded};
use crate::facts::{decode, facts, normal, syntax};
use crate::patch::{json, merge, strategic};
use crate::registry::options::{FieldValidation, WriteOptions};
use crate::registry::store::meta;
use crate::registry::strategy::Door;
use crate::status::{ApiError, FieldError};
use crate::storage::Object;

enum Patch {
    Json(Vec<json::Operation>),
    Merge(Value),
    Strategic(Map<String, Value>),
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    }
}

fn undecodable(value: &Value, go: &str) -> ApiError {
    ApiError::bad_request(format!(
        "error decoding patch: json: cannot unmarshal {} into Go value of type {go}",
        go_kind(value)
    ))
}

fn parse(call: &Call) -> Result<Patch, ApiError> {
    let kind = call.headers.get(header::CONTENT_TYPE).and_then(|c| c.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/json-patch+json" | "application/merge-patch+json" | "application/strategic-merge-patch+json" => {}
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
            return Err(ApiError::not_yet("server-side apply (application/apply-patch+yaml) is"));
        }
        _ => return Err(ApiError::unsupported_patch()),
    }
    let value: Value = serde_json::from_slice(&call.body)
        .map_err(|_| ApiError::bad_request(format!("error decoding patch: {}", syntax::explain(&call.body))))?;
    match (kind, value) {
        ("application/json-patch+json", Value::Array(list)) => {
            if list.len() > json::OPERATIONS_LIMIT {
                return Err(ApiError::too_large(&format!(
                    "The allowed maximum operations in a JSON patch is {}, got {}",
                    json::OPERATIONS_LIMIT,
                    list.len()
                )));
            }
            let operations = serde_json::from_value(Value::Array(list)).map_err(|_| ApiError::rejected())?;
            Ok(Patch::Json(operations))
        }
        ("application/json-patch+json", other) => Err(undecodable(&other, "[]handlers.jsonPatchOp")),
        ("application/merge-patch+json", value @ Value::Object(_)) => Ok(Patch::Merge(value)),
        (_, Value::Object(map)) => Ok(Patch::Strategic(map)),
        (_, other) => Err(undecodable(&other, "map[string]interface {}")),
    }
}

impl Patch {
    fn apply(&self, call: &Call, old: &Object) -> Result<Value, ApiError> {
        let mut whole = old.clone();
        whole.insert("kind".into(), call.resource.kind.into());
        whole.insert("apiVersion".into(), "v1".into());
        match self {
            Self::Json(operations) => {
                let mut value = Value::Object(whole);
                json::apply(&mut value, operations).map_err(|error| match error {
                    json::Error::Failed(_) => ApiError::rejected(),
                    json::Error::TooLarge => ApiError::too_large(&error.to_string()),
                })?;
                Ok(value)
            }
            Self::Merge(patch) => {
                let mut value = Value::Object(whole);
                merge::apply(&mut value, patch);
                Ok(value)
            }
            Self::Strategic(patch) => {
                strategic::apply(call.resource.table, &mut whole, patch.clone()).map_err(|e| match e {
                    strategic::Failed::BadDirective { .. } | strategic::Failed::BadFormat(_) => {
                        ApiError::bad_request(e.to_string())
                    }
                    _ => ApiError::internal(e.to_string()),
                })?;
                Ok(Value::Object(whole))
            }
        }
    }
}

/// A result that is no object of the kind: 422 with the whole of it.
fn unfit(call: &Call, whole: &Value, text: &str) -> ApiError {
    let shown = sorted_top(call, whole);
    let quoted = serde_json::Value::String(shown).to_string();
    ApiError::invalid("", "", vec![FieldError::invalid_text("patch", &quoted, text)])
}

/// The patched object as a real server prints it: members of the top sorted, below in Go's order.
fn sorted_top(call: &Call, whole: &Value) -> String {
    let Value::Object(map) = whole else { return whole.to_string() };
    let members = map.iter().map(|(name, value)| {
        let shown = match (name.as_str(), call.resource.table.field(name)) {
            ("metadata", _) => normal::go_text("ObjectMeta", value),
            _ => value.to_string(),
        };
        format!("{}:{shown}", Value::from(name.as_str()))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn result(call: &Call, whole: Value, validation: FieldValidation) -> Result<(Object, Vec<String>), ApiError> {
    let kind = whole.get("kind").and_then(Value::as_str).unwrap_or_default();
    let version = whole.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if kind != call.resource.kind || version != "v1" {
        return Err(unfit(call, &whole, &other_kind(call, &whole, kind)));
    }
    let decoded = call.typed(&whole).map_err(|error| match error {
        decode::Error::Syntax(text) | decode::Error::Shape(text) => unfit(call, &whole, &text),
    })?;
    if validation == FieldValidation::Strict && !decoded.strict.is_empty() {
        return Err(unfit(call, &whole, &format!("strict decoding error: {}", decoded.strict.join(", "))));
    }
    let warnings = if validation == FieldValidation::Warn { decoded.strict } else { Vec::new() };
    let mut object = decoded.object;
    call.resource.strategy.default(&mut object);
    Ok((object, warnings))
}

/// Why a patched object of another kind is refused: it is decoded as that kind first.
fn other_kind(call: &Call, whole: &Value, kind: &str) -> String {
    let decoded = facts().named(kind).map(|table| decode::from_ref(table, whole));
    match decoded {
        Some(Err(decode::Error::Shape(text))) => text,
        _ => {
            let own = call.resource.kind;
            format!("unable to convert object type *v1.{own} to type *core.{kind}: unknown conversion")
        }
    }
}

fn check_name(call: &Call, object: &Object) -> Result<(), ApiError> {
    let name = meta(object, "name");
    if name != call.info.name {
        let text = format!("the name of the object ({name}) does not match the name on the URL ({})", call.info.name);
        return Err(ApiError::bad_request(text));
    }
    if meta(object, "namespace") != call.info.namespace {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

/// Patches the object through a door.
pub async fn patch(call: Arc<Call>, door: Door) -> Result<Response, ApiError> {
    let patch = parse(&call)?;
    let options = WriteOptions::parse(&call.query, "PatchOptions", &call.manager())?;
    call.form(false)?;
    let validation = options.validation;
    let warnings = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let work = {
        let (call, warnings) = (call.clone(), warnings.clone());
        async move {
            let change = |old: &Object| {
                let whole = patch.apply(&call, old)?;
                let (object, found) = result(&call, whole, validation)?;
                check_name(&call, &object)?;
                *warnings.lock() = found;
                Ok(object)
            };
            let (namespace, name) = (&call.info.namespace, &call.info.name);
            call.store.update(call.resource, namespace, name, door, &options, &change).await
        }
    };
    let written = shielded(call.clone(), "patch", work).await?;
    let warnings = std::mem::take(&mut *warnings.lock());
    call.object(StatusCode::OK, &written, &warnings)
}
