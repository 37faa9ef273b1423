//! Errors as `metav1.Status`: the one mapping from what went wrong to code, reason and text. Every handler answers
//! through it.
//!
//! Invariant: texts, reasons and details equal a real API server's (recordings `errors`); no handler picks a code.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

/// One cause of an `Invalid` answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldValueRequired`, `FieldValueInvalid` …
    pub reason: &'static str,
    /// Path of the field.
    pub field: String,
    /// Text, beginning as Kubernetes begins it for this reason.
    pub message: String,
}

impl FieldError {
    fn make(reason: &'static str, start: &str, field: impl Into<String>, text: &str) -> Self {
        let message = if text.is_empty() { start.to_owned() } else { format!("{start}: {text}") };
        Self { reason, field: field.into(), message }
    }

    /// `Required value[: text]`
    pub fn required(field: impl Into<String>, text: &str) -> Self {
        Self::make("FieldValueRequired", "Required value", field, text)
    }

    /// `Invalid value: <value>: text`
    pub fn invalid(field: impl Into<String>, value: &Value, text: &str) -> Self {
        Self::make("FieldValueInvalid", &format!("Invalid value: {value}"), field, text)
    }

    /// `Invalid value: <text>: text`, for values that print in another way than their JSON.
    pub fn invalid_text(field: impl Into<String>, value: &str, text: &str) -> Self {
        Self::make("FieldValueInvalid", &format!("Invalid value: {value}"), field, text)
    }

    /// `Unsupported value: <value>: supported values: "a", "b"`
    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[&str]) -> Self {
        let list: Vec<String> = allowed.iter().map(|a| format!("{a:?}")).collect();
        let text = format!("supported values: {}", list.join(", "));
        Self::make("FieldValueNotSupported", &format!("Unsupported value: {value}"), field, &text)
    }

    /// `Duplicate value: <value>`
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::make("FieldValueDuplicate", &format!("Duplicate value: {value}"), field, "")
    }

    /// `Forbidden: text`
    pub fn forbidden(field: impl Into<String>, text: &str) -> Self {
        Self::make("FieldValueForbidden", "Forbidden", field, text)
    }

    /// `Too long: may not be more than N bytes`
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        Self::make("FieldValueTooLong", "Too long", field, &format!("may not be more than {limit} bytes"))
    }

    /// `Not found: <value>`
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self::make("FieldValueNotFound", &format!("Not found: {value}"), field, "")
    }
}

/// An error answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable reason; empty where a real server sends none.
    pub reason: &'static str,
    /// Text.
    pub message: String,
    /// `details`.
    pub details: Option<Value>,
    /// Seconds, also sent as a header.
    pub retry_after: Option<u32>,
    /// `metadata.continue` of an expired list.
    pub resume: Option<String>,
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, retry_after: None, resume: None }
    }

    fn about(mut self, name: &str, kind: &str) -> Self {
        let mut details = Map::new();
        if !name.is_empty() {
            details.insert("name".into(), name.into());
        }
        details.insert("kind".into(), kind.into());
        self.details = Some(Value::Object(details));
        self
    }

    fn empty_details(mut self) -> Self {
        self.details = Some(json!({}));
        self
    }

    /// `configmaps "a" not found`
    pub fn not_found(resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {name:?} not found")).about(name, resource)
    }

    /// The path names no resource that is served.
    pub fn unknown_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").empty_details()
    }

    /// `configmaps "a" already exists`
    pub fn already_exists(resource: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} {name:?} already exists")).about(name, resource)
    }

    /// A second create while the first object is being deleted.
    pub fn being_deleted(resource: &str, name: &str) -> Self {
        let text = format!("object is being deleted: {resource} {name:?} already exists");
        Self::new(409, "AlreadyExists", text).about(name, resource)
    }

    /// `Operation cannot be fulfilled on configmaps "a": text`; `what` is the resource or the kind.
    pub fn conflict(what: &str, name: &str, text: &str) -> Self {
        let text = format!("Operation cannot be fulfilled on {what} {name:?}: {text}");
        Self::new(409, "Conflict", text).about(name, what)
    }

    /// The stored object is newer than the one that was read.
    pub fn modified(resource: &str, name: &str) -> Self {
        let text = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, text)
    }

    /// 422 with causes; `kind` may carry a group as `CreateOptions.meta.k8s.io`.
    pub fn invalid(kind: &str, name: &str, causes: Vec<FieldError>) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for cause in &causes {
            let line = format!("{}: {}", cause.field, cause.message);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let text = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error = Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {text}"));
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        let mut details = Map::new();
        if !name.is_empty() {
            details.insert("name".into(), name.into());
        }
        if !group.is_empty() {
            details.insert("group".into(), group.into());
        }
        if !kind.is_empty() {
            details.insert("kind".into(), kind.into());
        }
        let causes: Vec<Value> =
            causes.into_iter().map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field})).collect();
        details.insert("causes".into(), Value::Array(causes));
        error.details = Some(Value::Object(details));
        error
    }

    /// 422 without causes, as a JSON patch that does not apply gives it.
    pub fn rejected() -> Self {
        Self::new(422, "Invalid", "the server rejected our request due to an error in our request").empty_details()
    }

    /// 400 with this text.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// `configmaps "a" is forbidden: text`
    pub fn forbidden(resource: &str, name: &str, text: &str) -> Self {
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {text}")
        } else {
            format!("{resource} {name:?} is forbidden: {text}")
        };
        Self::new(403, "Forbidden", message).about(name, resource)
    }

    /// A path that is no resource and not allowed.
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        Self::new(403, "Forbidden", format!("forbidden: User {user:?} cannot {verb} path {path:?}")).empty_details()
    }

    /// Creation in a namespace that is going away.
    pub fn namespace_terminating(resource: &str, name: &str, namespace: &str) -> Self {
        let text = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = Self::forbidden(resource, name, &text);
        let cause = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        if let Some(Value::Object(details)) = &mut error.details {
            details.insert("causes".into(), cause);
        }
        error
    }

    /// 401
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405
    pub fn method_not_allowed() -> Self {
        let text = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", text).empty_details()
    }

    /// 406 for an Accept that names nothing we can write.
    pub fn not_acceptable() -> Self {
        let list = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {list}"))
    }

    /// 406 for an Accept that is no media type of ours at all.
    pub fn not_acceptable_at_all() -> Self {
        let list = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        let text = format!("406: Not Acceptable\n\nAvailable representations: {list}");
        Self::new(406, "NotAcceptable", text).empty_details()
    }

    /// 415 for a body of an unknown kind.
    pub fn unsupported_body() -> Self {
        let list = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        let text = format!("the body of the request was in an unknown format - accepted media types include: {list}");
        Self::new(415, "UnsupportedMediaType", text)
    }

    /// 415 for a PATCH of a type that is no patch.
    pub fn unsupported_patch() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").empty_details()
    }

    /// 415 for what a later version of ours will take.
    pub fn not_yet(what: &str) -> Self {
        let list = "application/json, application/yaml";
        Self::new(
            415,
            "UnsupportedMediaType",
            format!("{what} not supported yet - accepted media types include: {list}"),
        )
    }

    /// 413
    pub fn too_large(text: &str) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {text}"))
    }

    /// 500 without a reason, as a real server's internal refusals are.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 503
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504 for a resourceVersion of the future.
    pub fn too_large_version(asked: u64, current: u64) -> Self {
        let text = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut error = Self::new(504, "Timeout", text);
        error.details = Some(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        }));
        error.retry_after = Some(1);
        error
    }

    /// 410 for a list at a version that is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410 of a watch.
    pub fn too_old(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(resume) = &self.resume {
            metadata.insert("continue".into(), resume.clone().into());
        }
        let mut out = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if let Value::Object(map) = &mut out {
            if !self.reason.is_empty() {
                map.insert("reason".into(), self.reason.into());
            }
            if let Some(details) = &self.details {
                map.insert("details".into(), details.clone());
            }
        }
        out
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (
            StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            [(header::CONTENT_TYPE, "application/json")],
            self.to_value().to_string(),
        )
            .into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
