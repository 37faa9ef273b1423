//! The API as one tower service: the router for the TLS port and the in-process client are the same chain, built once.
//!
//! Invariant: every answer carries an Audit-Id; nothing is reached without `filters`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use auth::authenticator::Authenticator;
use auth::authorizer::Authorizer;
use auth::identity::Identity;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use foundation::clock::Clock;
use foundation::id;
use foundation::tasks::Tasks;
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use records::Db;
use serde_json::json;
use telemetry::metrics::Metrics;

use crate::handlers::{self, Call, respond};
use crate::node_proxy::NodeProxy;
use crate::registry::options::{FieldValidation, WriteOptions};
use crate::registry::store::Store;
use crate::registry::strategy::Door;
use crate::registry::{self, Resource};
use crate::request::{Query, RequestInfo};
use crate::status::ApiError;
use crate::{discovery, filters, openapi};

mod in_process;

/// Kubernetes' limit of a body.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// A body that has not arrived by then is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Namespaces that are there from the start.
const NAMESPACES: [&str; 5] = ["default", "kube-system", "kube-public", "kube-node-lease", "kubeflow"];

/// What the server is made of.
pub struct Config {
    /// The records it stores in.
    pub db: Db,
    /// Recognises callers.
    pub authenticator: Authenticator,
    /// Decides what they may do.
    pub authorizer: Authorizer,
    /// Now.
    pub clock: Clock,
    /// Writes go on here when their caller leaves; watches end with it.
    pub tasks: Tasks,
    /// The node's endpoints.
    pub node_proxy: NodeProxy,
    /// What `/metrics` shows, to those who may.
    pub metrics: Metrics,
}

/// The server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    authenticator: Authenticator,
    authorizer: Authorizer,
    node_proxy: NodeProxy,
    metrics: Metrics,
}

impl Server {
    /// Makes the server; nothing runs yet.
    pub fn new(config: Config) -> Self {
        let Config { db, authenticator, authorizer, clock, tasks, node_proxy, metrics } = config;
        let store = Store { db, clock, tasks };
        Self { inner: Arc::new(Inner { store, authenticator, authorizer, node_proxy, metrics }) }
    }

    /// The routes for a listener.
    pub fn router(&self) -> Router {
        let server = self.clone();
        Router::new().fallback(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.serve(request).await }
        })
    }

    /// A client in this process that acts as `identity`. Must be called inside a runtime.
    pub fn client(&self, identity: Identity, default_namespace: &str) -> kube::Client {
        kube::Client::new(in_process::Service::new(self.clone(), identity), default_namespace)
    }

    /// Makes the namespaces that are there from the start, each with its default service account. Call before any listener opens.
    pub async fn bootstrap(&self) -> Result<(), ApiError> {
        for name in NAMESPACES {
            self.make("namespaces", "", name).await?;
            self.make("serviceaccounts", name, "default").await?;
        }
        Ok(())
    }

    /// Makes an object that is only a name, unless it is there.
    async fn make(&self, resource: &str, namespace: &str, name: &str) -> Result<(), ApiError> {
        let resource = registry::find(resource).ok_or_else(ApiError::unknown_resource)?;
        let decoded = crate::facts::decode::from_value(resource.table, json!({"metadata": {"name": name}}));
        let mut object = decoded.map_err(|e| ApiError::internal(e.to_string()))?.object;
        resource.strategy.default(&mut object);
        let (validation, manager) = (FieldValidation::Strict, "kubeflow".to_owned());
        let options = WriteOptions { dry_run: false, validation, manager };
        match self.inner.store.create(resource, namespace, object, &options).await {
            Err(error) if error.reason != "AlreadyExists" => Err(error),
            _ => Ok(()),
        }
    }

    /// Answers a request.
    pub(crate) async fn serve(&self, request: Request<Body>) -> Response {
        let head = request.method() == http::Method::HEAD;
        let mut response = match self.dispatch(request).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        if head {
            *response.body_mut() = Body::empty();
        }
        let headers = response.headers_mut();
        if let Ok(audit) = HeaderValue::from_str(&id::uuid()) {
            headers.insert("audit-id", audit);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        response
    }

    async fn dispatch(&self, request: Request<Body>) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
        let identity = filters::identify(&self.inner.authenticator, &self.inner.authorizer, &parts).await?;
        filters::authorize(&self.inner.authorizer, &identity, &info)?;
        if !info.is_resource {
            return self.plain(&parts, &query);
        }
        if !info.group.is_empty() {
            // A group that is not served is no path of ours at all.
            return Ok(not_found_text());
        }
        let resource = find(&info)?;
        let manager = identity.user.rsplit(':').next().unwrap_or("unknown").to_owned();
        let streams = matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy");
        let (bytes, body) = if streams { (Bytes::new(), body) } else { (whole(body).await?, Body::empty()) };
        let call = Arc::new(Call {
            info,
            query,
            headers: parts.headers.clone(),
            body: bytes,
            resource,
            fallback_manager: manager,
            store: self.inner.store.clone(),
        });
        if call.info.subresource.is_empty() {
            return verb(call).await;
        }
        self.subresource(call, Request::from_parts(parts, body)).await
    }

    async fn subresource(&self, call: Arc<Call>, request: Request<Body>) -> Result<Response, ApiError> {
        let Some(found) = call.resource.subresource(&call.info.subresource) else {
            return Err(ApiError::unknown_resource());
        };
        if !found.verbs.iter().any(|v| v == call.info.verb) {
            return Err(ApiError::method_not_allowed());
        }
        let door = match (call.info.subresource.as_str(), call.resource.name) {
            ("status", _) => Door::Status,
            ("finalize", "namespaces") => Door::Finalize,
            ("ephemeralcontainers", "pods") => Door::Ephemeral,
            ("resize", "pods") => Door::Resize,
            ("binding", "pods") => return handlers::binding::bind(call).await,
            ("eviction", "pods") => return handlers::subresource::evict(call).await,
            ("log", "pods") => return handlers::subresource::log(call, &self.inner.node_proxy, request).await,
            ("exec" | "attach" | "portforward", "pods") => {
                return handlers::subresource::streams(call, &self.inner.node_proxy, request).await;
            }
            ("proxy", "pods") => return Err(ApiError::bad_request("address not allowed")),
            _ => return Err(ApiError::not_yet(&format!("{} is", call.info.qualified_resource()))),
        };
        match call.info.verb {
            "get" => handlers::get::get(&call).await,
            "update" => handlers::update::update(call, door).await,
            "patch" => handlers::patch::patch(call, door).await,
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    fn plain(&self, parts: &Parts, query: &Query) -> Result<Response, ApiError> {
        let path = parts.uri.path();
        if matches!(path.trim_end_matches('/'), "/healthz" | "/livez" | "/readyz") {
            return Ok(health(path, query));
        }
        if parts.method != http::Method::GET {
            return Err(ApiError::method_not_allowed());
        }
        if path == "/metrics" {
            let text = self.inner.metrics.render();
            return Ok(respond(StatusCode::OK, telemetry::metrics::CONTENT_TYPE, text.into(), &[]));
        }
        let host = parts.headers.get(header::HOST).and_then(|h| h.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str)).unwrap_or("localhost");
        if let Some(answer) = discovery::answer(path, &parts.headers, query, host) {
            return answer;
        }
        if let Some(answer) = openapi::answer(path, &parts.headers, query) {
            return answer;
        }
        if path.starts_with("/api/") {
            return Err(ApiError::unknown_resource());
        }
        Ok(not_found_text())
    }
}

fn not_found_text() -> Response {
    let mut response = respond(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".into(), &[]);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn health(path: &str, query: &Query) -> Response {
    let name = path.trim_matches('/');
    let text = if query.is_true("verbose") {
        format!("[+]ping ok\n[+]records ok\n{name} check passed\n")
    } else {
        "ok".to_owned()
    };
    let mut response = respond(StatusCode::OK, "text/plain; charset=utf-8", text.into(), &[]);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The resource, or the answer for what is not served.
fn find(info: &RequestInfo) -> Result<&'static Resource, ApiError> {
    if info.name.contains('/') || info.namespace.contains('/') {
        return Err(ApiError::bad_request("names and namespaces may not contain '/'"));
    }
    if info.version != "v1" {
        return Err(ApiError::unknown_resource());
    }
    let found = registry::find(&info.resource).ok_or_else(ApiError::unknown_resource)?;
    // There is no such path: a cluster-scoped resource below a namespace, or an object without its namespace.
    let lost = found.namespaced && info.namespace.is_empty() && !info.name.is_empty() && !info.legacy_watch;
    if lost || (!found.namespaced && !info.namespace.is_empty()) {
        return Err(ApiError::unknown_resource());
    }
    Ok(found)
}

async fn whole(body: Body) -> Result<Bytes, ApiError> {
    let limited = Limited::new(body, BODY_LIMIT).collect();
    match tokio::time::timeout(BODY_TIMEOUT, limited).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::too_large(&format!("limit is {BODY_LIMIT}")))
        }
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the body could not be read: {error}"))),
        Err(_) => Err(ApiError::bad_request("the body did not arrive in time")),
    }
}

async fn verb(call: Arc<Call>) -> Result<Response, ApiError> {
    let info = &call.info;
    let has = |verb: &str| call.resource.facts.verbs.iter().any(|v| v == verb);
    let on_object = !info.name.is_empty();
    let fits = match info.verb {
        "create" => !on_object,
        "update" | "patch" => on_object,
        _ => true,
    };
    if !fits || !has(info.verb) {
        return Err(ApiError::method_not_allowed());
    }
    if call.resource.namespaced && info.namespace.is_empty() && !matches!(info.verb, "list" | "watch") {
        return Err(ApiError::method_not_allowed());
    }
    match info.verb {
        "get" => handlers::get::get(&call).await,
        "list" => handlers::list::list(&call).await,
        "watch" => handlers::watch::watch(call).await,
        "create" if call.resource.name == "bindings" => handlers::binding::bind(call).await,
        "create" => handlers::create::create(call).await,
        "update" => handlers::update::update(call, Door::Main).await,
        "patch" => handlers::patch::patch(call, Door::Main).await,
        "delete" => handlers::delete::delete(call).await,
        "deletecollection" => handlers::delete::collection(call).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// A response of a service that cannot fail.
pub(crate) type Answer = Result<Response, Infallible>;
