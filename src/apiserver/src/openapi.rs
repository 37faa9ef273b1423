//! `/openapi/v3`: the index and the document of `api/v1`, from the facts; and as much of `/openapi/v2` as kubectl asks for.
//!
//! kubectl 1.32 reads v2, as protobuf only, before it applies a `List`; a document without definitions makes it leave the
//! checking to the server. As JSON the definitions are there.
//!
//! Invariant: the document is unpacked once, at its first use; a wrong hash is sent to the right one.

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use sha2::{Digest as _, Sha512};

use crate::facts::openapi_document;
use crate::handlers::respond;
use crate::request::Query;
use crate::status::ApiError;

struct Document {
    text: Bytes,
    hash: String,
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    let text = openapi_document();
    let hash = Sha512::digest(&text).iter().map(|b| format!("{b:02X}")).collect();
    Document { text: text.into(), hash }
});

const PATH: &str = "/openapi/v3/api/v1";

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// `Document { swagger: "2.0", info: { title: "Kubernetes", version: "v1.37.2" } }`
/// (gnostic openapi_v2.Document: fields 1 and 2; Info: fields 1 and 2).
const V2_BYTES: &[u8] = b"\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07v1.37.2";

static V2: LazyLock<Bytes> = LazyLock::new(|| {
    let document: serde_json::Value = serde_json::from_slice(&DOCUMENT.text).unwrap_or_default();
    let schemas = document.pointer("/components/schemas").cloned().unwrap_or_default();
    let v2 = json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.37.2"}, "paths": {}, "definitions": schemas,
    });
    v2.to_string().replace("#/components/schemas/", "#/definitions/").into()
});

fn v2(headers: &HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or_default();
    if accept.contains("com.github.proto-openapi.spec.v2") {
        return respond(StatusCode::OK, V2_PROTOBUF, Bytes::from_static(V2_BYTES), &[]);
    }
    respond(StatusCode::OK, "application/json", V2.clone(), &[])
}

/// Answers an OpenAPI path, or none if the path is no such.
pub fn answer(path: &str, headers: &HeaderMap, query: &Query) -> Option<Result<Response, ApiError>> {
    match path.trim_end_matches('/') {
        "/openapi/v3" => {
            let url = format!("{PATH}?hash={}", DOCUMENT.hash);
            let index = json!({"paths": {"api/v1": {"serverRelativeURL": url}}});
            Some(Ok(respond(StatusCode::OK, "application/json", index.to_string().into(), &[])))
        }
        PATH => Some(document(headers, query)),
        "/openapi/v2" => Some(Ok(v2(headers))),
        _ => None,
    }
}

fn document(headers: &HeaderMap, query: &Query) -> Result<Response, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or("*/*");
    let json =
        accept.split(',').any(|c| matches!(c.split(';').next().unwrap_or("").trim(), "application/json" | "*/*" | ""));
    if !json {
        return Err(ApiError::not_acceptable_at_all());
    }
    let tag = HeaderValue::from_str(&format!("\"{}\"", DOCUMENT.hash)).unwrap_or(HeaderValue::from_static("\"\""));
    let mut response = match query.get("hash") {
        Some(hash) if hash != DOCUMENT.hash => {
            let mut moved = StatusCode::MOVED_PERMANENTLY.into_response();
            if let Ok(to) = HeaderValue::from_str(&format!("{PATH}?hash={}", DOCUMENT.hash)) {
                moved.headers_mut().insert(header::LOCATION, to);
            }
            return Ok(moved);
        }
        known => {
            let mut found = respond(StatusCode::OK, "application/json", DOCUMENT.text.clone(), &[]);
            if known.is_some() {
                let far = HeaderValue::from_static("public, immutable");
                found.headers_mut().insert(header::CACHE_CONTROL, far);
                let expires = HeaderValue::from_static("Fri, 31 Dec 2099 00:00:00 GMT");
                found.headers_mut().insert(header::EXPIRES, expires);
            }
            found
        }
    };
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}
