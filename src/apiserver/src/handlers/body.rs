//! Bodies: media types, JSON or YAML, kind and version, strict fields. Called through `Call::decoded`.
//!
//! Invariant: texts are Kubernetes' own; protobuf is refused by name.

use http::header;
use serde::Deserialize;
use serde_json::Value;

use super::Call;
use crate::facts::{decode, syntax};
use crate::registry::options::FieldValidation;
use crate::status::ApiError;
use crate::storage::Object;
use crate::yaml;

/// What the body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// JSON, also when nothing is said.
    Json,
    /// YAML.
    Yaml,
}

/// Reads the Content-Type of a create, update or delete.
pub fn media(call: &Call) -> Result<Media, ApiError> {
    let sent = call.headers.get(header::CONTENT_TYPE).and_then(|c| c.to_str().ok()).unwrap_or_default();
    match sent.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => {
            Err(ApiError::not_yet("bodies in application/vnd.kubernetes.protobuf are"))
        }
        _ => Err(ApiError::unsupported_body()),
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TypeMeta {
    kind: Option<Value>,
    api_version: Option<Value>,
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<empty>".into();
    }
    let shown = &bytes[..bytes.len().min(1024)];
    if bytes.first() == Some(&b'{') {
        return String::from_utf8_lossy(shown).into_owned();
    }
    shown.iter().map(|b| format!("{b:02x}")).collect()
}

fn unrecognized(kind: &str, text: &str, bytes: &[u8]) -> ApiError {
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {text} ({})",
        hex(bytes)
    ))
}

/// The kind and apiVersion must be ours or absent.
pub fn check_type(kind: &str, found_kind: &str, found_version: &str) -> Result<(), ApiError> {
    let scheme = "in scheme \"pkg/runtime/scheme.go:111\"";
    let short = found_version.rsplit('/').next().unwrap_or_default();
    let version = if short.is_empty() { "v1" } else { short };
    let shown = if found_kind.is_empty() { kind } else { found_kind };
    let wrong = |text: String| {
        Err(ApiError::bad_request(format!("{shown} in version {version:?} cannot be handled as a {kind}: {text}")))
    };
    let known = ["Pod", "ConfigMap", "Secret", "Event", "Namespace", "Node", "ServiceAccount", "Binding"];
    if !matches!(found_version, "" | "v1") || (!found_kind.is_empty() && !known.contains(&found_kind)) {
        let version = if found_version.is_empty() { "v1" } else { found_version };
        return wrong(format!("no kind {shown:?} is registered for version {version:?} {scheme}"));
    }
    if !found_kind.is_empty() && found_kind != kind {
        return wrong(format!("converting (v1.{found_kind}) to (core.{kind}): unknown conversion"));
    }
    Ok(())
}

/// The body as an object of the call's resource.
pub fn object(call: &Call, validation: FieldValidation) -> Result<(Object, Vec<String>), ApiError> {
    typed(call, call.resource.kind, validation)
}

fn typed(call: &Call, kind: &'static str, validation: FieldValidation) -> Result<(Object, Vec<String>), ApiError> {
    let table = crate::facts::facts().named(kind).ok_or_else(|| ApiError::internal("no table of this kind"))?;
    let bytes = &call.body;
    let mut repeated = None;
    let decoded = match media(call)? {
        Media::Yaml => {
            let found = yaml::parse(bytes).map_err(|text| unrecognized(kind, &text, bytes))?;
            repeated = found.repeated;
            decode::from_value(table, found.value)
        }
        Media::Json => {
            if !matches!(first(bytes), Some(b'{') | Some(b'n')) || serde_json::from_slice::<TypeMeta>(bytes).is_err() {
                not_an_object(kind, bytes)?;
            }
            decode::from_slice(table, bytes)
        }
    };
    let (found_kind, found_version) = match &decoded {
        Ok(found) => (text(&found.object, "kind"), text(&found.object, "apiVersion")),
        Err(_) => (String::new(), String::new()),
    };
    check_type(kind, &found_kind, &found_version)?;
    let decoded = decoded.map_err(|error| match error {
        decode::Error::Syntax(_) => {
            let text = format!("couldn't get version/kind; json parse error: {}", syntax::explain(bytes));
            unrecognized(kind, &text, bytes)
        }
        decode::Error::Shape(text) => cannot(kind, &text),
    })?;
    let found = repeated.into_iter().chain(decoded.strict).collect();
    let warnings = strict(kind, found, validation)?;
    Ok((decoded.object, warnings))
}

/// What unknown and duplicate fields come to.
pub fn strict(kind: &str, found: Vec<String>, validation: FieldValidation) -> Result<Vec<String>, ApiError> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(found),
        FieldValidation::Strict if found.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => Err(cannot(kind, &format!("strict decoding error: {}", found.join(", ")))),
    }
}

fn cannot(kind: &str, text: &str) -> ApiError {
    ApiError::bad_request(format!("{kind} in version \"v1\" cannot be handled as a {kind}: {text}"))
}

fn first(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|b| !b.is_ascii_whitespace())
}

fn not_an_object(kind: &str, bytes: &[u8]) -> Result<(), ApiError> {
    let start = "couldn't get version/kind; json parse error";
    let found = match serde_json::from_slice::<Value>(bytes) {
        Err(_) => return Err(unrecognized(kind, &format!("{start}: {}", syntax::explain(bytes)), bytes)),
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Ok(Value::Object(_) | Value::Null) => return Ok(()),
    };
    let target = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
                  \"json:\\\"kind,omitempty\\\"\" }";
    let text = format!("{start}: json: cannot unmarshal {found} into Go value of type {target}");
    Err(unrecognized(kind, &text, bytes))
}

fn text(object: &Object, name: &str) -> String {
    object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Decodes a body of another kind than the resource's (`Binding`, `Eviction`).
pub fn other(call: &Call, kind: &'static str) -> Result<Object, ApiError> {
    typed(call, kind, FieldValidation::Warn).map(|(object, _)| object)
}
