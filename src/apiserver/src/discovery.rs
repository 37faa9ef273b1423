//! Discovery: versions, groups, resources, in the plain and in the aggregated form, with ETag.
//!
//! Invariant: everything comes from the facts; documents are made once.

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::facts::{ResourceFacts, facts};
use crate::handlers::{encode, respond};
use crate::negotiate::negotiate;
use crate::registry;
use crate::request::Query;
use crate::status::ApiError;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A document with its tag.
struct Tagged {
    text: String,
    tag: String,
}

impl Tagged {
    fn new(value: &Value) -> Self {
        let text = value.to_string();
        let digest = Sha256::digest(text.as_bytes());
        let tag = digest.iter().map(|b| format!("{b:02X}")).collect::<String>();
        Self { text, tag: format!("\"{tag}\"") }
    }
}

static CORE: LazyLock<Tagged> = LazyLock::new(|| Tagged::new(&discovery_list(vec![core_item()])));
static GROUPS: LazyLock<Tagged> = LazyLock::new(|| Tagged::new(&discovery_list(Vec::new())));

fn discovery_list(items: Vec<Value>) -> Value {
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn response_kind(of: &ResourceFacts) -> Value {
    json!({
        "group": of.group.clone().unwrap_or_default(),
        "version": of.version.clone().unwrap_or_default(),
        "kind": of.kind,
    })
}

fn core_item() -> Value {
    let resources: Vec<Value> = registry::all()
        .iter()
        .map(|resource| {
            let of = resource.facts;
            let mut item = Map::new();
            item.insert("resource".into(), of.name.clone().into());
            item.insert("responseKind".into(), response_kind(of));
            item.insert("scope".into(), if of.namespaced { "Namespaced" } else { "Cluster" }.into());
            item.insert("singularResource".into(), of.singular_name.clone().into());
            item.insert("verbs".into(), of.verbs.clone().into());
            if !of.short_names.is_empty() {
                item.insert("shortNames".into(), of.short_names.clone().into());
            }
            if !of.categories.is_empty() {
                item.insert("categories".into(), of.categories.clone().into());
            }
            let subresources: Vec<Value> = subresources(of)
                .map(|sub| {
                    json!({
                        "subresource": sub.name.split_once('/').map_or("", |(_, s)| s),
                        "responseKind": response_kind(sub),
                        "verbs": sub.verbs,
                    })
                })
                .collect();
            if !subresources.is_empty() {
                item.insert("subresources".into(), subresources.into());
            }
            Value::Object(item)
        })
        .collect();
    json!({"metadata": {}, "versions": [{"version": "v1", "resources": resources, "freshness": "Current"}]})
}

fn subresources(of: &'static ResourceFacts) -> impl Iterator<Item = &'static ResourceFacts> {
    facts().resources.iter().filter(|r| r.name.split_once('/').is_some_and(|(parent, _)| parent == of.name))
}

fn resource_list() -> Value {
    let resources = facts().resources.iter().map(|of| {
        let mut item = Map::new();
        item.insert("name".into(), of.name.clone().into());
        item.insert("singularName".into(), of.singular_name.clone().into());
        item.insert("namespaced".into(), of.namespaced.into());
        if let Some(group) = &of.group {
            item.insert("group".into(), group.clone().into());
        }
        if let Some(version) = &of.version {
            item.insert("version".into(), version.clone().into());
        }
        item.insert("kind".into(), of.kind.clone().into());
        item.insert("verbs".into(), of.verbs.clone().into());
        if !of.short_names.is_empty() {
            item.insert("shortNames".into(), of.short_names.clone().into());
        }
        if !of.categories.is_empty() {
            item.insert("categories".into(), of.categories.clone().into());
        }
        if let Some(hash) = &of.storage_version_hash {
            item.insert("storageVersionHash".into(), hash.clone().into());
        }
        Value::Object(item)
    });
    json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": resources.collect::<Vec<_>>()})
}

fn accepts_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or_default();
    let first = accept.split(',').map(str::trim).find(|clause| {
        let of_ours = clause.contains("g=apidiscovery.k8s.io") && clause.contains("v=v2;");
        of_ours || clause.ends_with("v=v2") || *clause == "application/json" || *clause == "*/*"
    });
    first.is_some_and(|clause| clause.contains("as=APIGroupDiscoveryList"))
}

fn tagged(document: &'static Tagged, headers: &HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()) == Some(document.tag.as_str());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        respond(StatusCode::OK, AGGREGATED, document.text.as_bytes().into(), &[])
    };
    let out = response.headers_mut();
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&document.tag) {
        out.insert(header::ETAG, tag);
    }
    response
}

fn plain(value: &Value, headers: &HeaderMap, query: &Query) -> Result<Response, ApiError> {
    let form = negotiate(headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()), query, false)?;
    let (kind, bytes) = encode(value, form);
    Ok(respond(StatusCode::OK, kind, bytes, &[]))
}

/// `/version`
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": "v1.37.2", "gitCommit": env!("CARGO_PKG_VERSION"), "gitTreeState": "clean",
        "buildDate": "2026-11-25T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

/// Answers a discovery path, or none if the path is no such.
pub fn answer(path: &str, headers: &HeaderMap, query: &Query, host: &str) -> Option<Result<Response, ApiError>> {
    let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]);
    Some(match path.trim_end_matches('/') {
        "/version" => plain(&version(), headers, query),
        "/api" if accepts_aggregated(headers) => Ok(tagged(&CORE, headers)),
        "/apis" if accepts_aggregated(headers) => Ok(tagged(&GROUPS, headers)),
        "/api" => plain(
            &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}),
            headers,
            query,
        ),
        "/apis" => plain(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}), headers, query),
        "/api/v1" => plain(&resource_list(), headers, query),
        "" => plain(&json!({"paths": PATHS}), headers, query),
        _ => return None,
    })
}

const PATHS: [&str; 10] =
    ["/api", "/api/v1", "/apis", "/apis/", "/healthz", "/livez", "/openapi/v3", "/openapi/v3/", "/readyz", "/version"];
