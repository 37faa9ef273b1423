//! One file a verb; none knows a kind. Called by `server::serve` after authentication and authorization.
//!
//! Invariant: a handler parses options, calls the store, and renders; it decides nothing about objects.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::facts::decode;
use crate::negotiate::{Form, Include, Shape, negotiate};
use crate::registry::Resource;
use crate::registry::options::FieldValidation;
use crate::registry::store::{Store, Written};
use crate::request::{Query, RequestInfo};
use crate::status::ApiError;
use crate::storage::{self, Object};
use crate::table;

pub mod binding;
pub mod body;
pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod patch;
pub mod subresource;
pub mod update;
pub mod watch;

/// A request on its way to a verb.
pub struct Call {
    /// What it asks for.
    pub info: RequestInfo,
    /// Its query.
    pub query: Query,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
    /// The resource.
    pub resource: &'static Resource,
    /// Who is named as manager when nobody is.
    pub fallback_manager: String,
    /// The store.
    pub store: Store,
}

impl Call {
    /// The negotiated form of the answer.
    pub fn form(&self, list: bool) -> Result<Form, ApiError> {
        let accept = self.headers.get(header::ACCEPT).and_then(|a| a.to_str().ok());
        negotiate(accept, &self.query, list)
    }

    /// The manager named by the User-Agent, or the fallback.
    pub fn manager(&self) -> String {
        let agent = self.headers.get(header::USER_AGENT).and_then(|a| a.to_str().ok()).unwrap_or_default();
        let name = agent.split('/').next().unwrap_or_default();
        if name.is_empty() { self.fallback_manager.clone() } else { name.chars().take(128).collect() }
    }

    /// Answers an object in the negotiated form.
    pub fn object(&self, code: StatusCode, written: &Written, warnings: &[String]) -> Result<Response, ApiError> {
        let form = self.form(false)?;
        let revision = written.revision.unwrap_or(0);
        if form.shape == Shape::Object && !form.yaml && !form.pretty && written.revision.is_some() {
            let mut out = Vec::with_capacity(written.value.len() + 96);
            storage::render(Some(self.resource.kind), &written.value, revision, &mut out);
            return Ok(respond(code, "application/json", out.into(), warnings));
        }
        let mut object = storage::decode_at(&written.value, revision);
        if written.revision.is_none()
            && let Some(Value::Object(metadata)) = object.get_mut("metadata")
        {
            metadata.remove("resourceVersion");
        }
        let value = self.shaped(object, form);
        Ok(self.value(code, &value, form, warnings))
    }

    /// One object in its form.
    fn shaped(&self, mut object: Object, form: Form) -> Value {
        match form.shape {
            Shape::Object => {
                object.insert("kind".into(), self.resource.kind.into());
                object.insert("apiVersion".into(), "v1".into());
                Value::Object(object)
            }
            Shape::Metadata => table::partial(&object, form.version),
            Shape::Table(include) => self.one_row(&object, include, true, form.version),
        }
    }

    /// A Table of one row.
    pub fn one_row(&self, object: &Object, include: Include, columns: bool, version: &str) -> Value {
        let now = self.store.clock.now();
        let rows = vec![table::row(self.resource, object, include, version, now)];
        let mut metadata = serde_json::Map::new();
        if let Some(version) = object.get("metadata").and_then(|m| m.get("resourceVersion")) {
            metadata.insert("resourceVersion".into(), version.clone());
        }
        table::table(self.resource, Value::Object(metadata), rows, columns, version)
    }

    /// Answers any JSON in the negotiated encoding.
    pub fn value(&self, code: StatusCode, value: &Value, form: Form, warnings: &[String]) -> Response {
        let (kind, bytes) = encode(value, form);
        respond(code, kind, bytes, warnings)
    }

    /// Decodes, checks and defaults the body as an object of the resource; warnings are what Warn found.
    pub fn decoded(&self, validation: FieldValidation) -> Result<(Object, Vec<String>), ApiError> {
        let (mut object, warnings) = body::object(self, validation)?;
        self.resource.strategy.default(&mut object);
        Ok((object, warnings))
    }

    /// Decodes a patched object.
    pub fn typed(&self, value: &Value) -> Result<decode::Decoded, decode::Error> {
        decode::from_ref(self.resource.table, value)
    }
}

/// JSON or YAML of a value.
pub fn encode(value: &Value, form: Form) -> (&'static str, Bytes) {
    if form.yaml {
        return ("application/yaml", crate::yaml::print(value).into());
    }
    let text = if form.pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    ("application/json", text.unwrap_or_default().into())
}

/// A response with Warning headers.
pub fn respond(code: StatusCode, kind: &'static str, body: Bytes, warnings: &[String]) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for text in warnings {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// Runs a write to its end even when the client leaves.
pub async fn shielded<T: Send + 'static>(
    call: Arc<Call>,
    name: &'static str,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    call.store.tasks.shield(name, work).await.unwrap_or_else(|_| Err(ApiError::internal("the write was lost")))
}
