//! Just enough of a Kubernetes API in memory: objects with revisions, merge patches, graceful deletion, watches with history.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

type Key = (String, String, String);

#[derive(Default)]
struct Store {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<(u64, &'static str, String, Value)>,
}

#[derive(Clone)]
pub struct Api {
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<u64>,
}

impl Api {
    pub fn new() -> Self {
        Self { store: Arc::default(), changed: watch::channel(0).0 }
    }

    pub fn client(&self) -> kube::Client {
        kube::Client::new(Router::new().fallback(serve).with_state(self.clone()), "default")
    }

    fn change(&self, what: &'static str, key: &Key, mut object: Value) -> Value {
        let mut store = self.store.lock();
        store.revision += 1;
        let revision = store.revision;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        if what == "DELETED" {
            store.objects.remove(key);
        } else {
            store.objects.insert(key.clone(), object.clone());
        }
        store.history.push((revision, what, key.0.clone(), object.clone()));
        drop(store);
        self.changed.send_replace(revision);
        object
    }
}

fn kind(resource: &str) -> &'static str {
    match resource {
        "pods" => "Pod",
        "nodes" => "Node",
        "events" => "Event",
        "configmaps" => "ConfigMap",
        _ => "Secret",
    }
}

async fn serve(State(api): State<Api>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches("/api/v1/").to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    let (namespace, rest) = match parts.as_slice() {
        ["namespaces", namespace, rest @ ..] => ((*namespace).to_owned(), rest),
        rest => (String::new(), rest),
    };
    let resource = rest.first().copied().unwrap_or_default().to_owned();
    let name = rest.get(1).copied().unwrap_or_default().to_owned();
    let method = request.method().clone();
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 24).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let key = (resource.clone(), namespace, name.clone());
    match method.as_str() {
        "GET" if name.is_empty() && query.contains("watch=true") => watch_stream(&api, &resource, &query),
        "GET" if name.is_empty() => list(&api, &resource),
        "GET" => api.store.lock().objects.get(&key).cloned().map_or_else(|| missing(&name), answer),
        "POST" => create(&api, key, body),
        "PATCH" | "PUT" => patch(&api, &key, &body),
        "DELETE" => delete(&api, &key, &body),
        _ => missing(&name),
    }
}

fn answer(object: Value) -> Response {
    axum::Json(object).into_response()
}

fn missing(name: &str) -> Response {
    status(404, "NotFound", &format!("{name:?} not found"))
}

fn status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code});
    (http::StatusCode::from_u16(code).unwrap(), axum::Json(body)).into_response()
}

fn list(api: &Api, resource: &str) -> Response {
    let store = api.store.lock();
    let items: Vec<Value> =
        store.objects.iter().filter(|(key, _)| key.0 == resource).map(|(_, object)| object.clone()).collect();
    let kind = format!("{}List", kind(resource));
    answer(
        json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": store.revision.to_string()}, "items": items}),
    )
}

fn watch_stream(api: &Api, resource: &str, query: &str) -> Response {
    let from =
        query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse::<u64>().ok()).unwrap_or(0);
    let start = (api.clone(), resource.to_owned(), from, api.changed.subscribe());
    let lines = futures::stream::unfold(start, |(api, resource, from, mut changed)| async move {
        loop {
            changed.borrow_and_update();
            let found: Vec<(u64, Value)> = {
                let store = api.store.lock();
                let newer = store.history.iter().filter(|(revision, _, kind, _)| *revision > from && *kind == resource);
                newer.map(|(revision, what, _, object)| (*revision, json!({"type": what, "object": object}))).collect()
            };
            if let Some((last, _)) = found.last() {
                let last = *last;
                let text: String = found.into_iter().map(|(_, event)| format!("{event}\n")).collect();
                return Some((text, (api, resource, last, changed)));
            }
            changed.changed().await.ok()?;
        }
    });
    Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>)).into_response()
}

fn create(api: &Api, mut key: Key, mut body: Value) -> Response {
    key.2 = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if api.store.lock().objects.contains_key(&key) {
        return status(409, "AlreadyExists", "already exists");
    }
    body["kind"] = json!(kind(&key.0));
    body["apiVersion"] = json!("v1");
    body["metadata"]["uid"] = json!(foundation::id::uuid());
    body["metadata"]["generation"] = json!(1);
    if !key.1.is_empty() {
        body["metadata"]["namespace"] = json!(key.1);
    }
    if key.0 == "pods" {
        body["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    }
    answer(api.change("ADDED", &key, body))
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

fn patch(api: &Api, key: &Key, body: &Value) -> Response {
    let Some(mut object) = api.store.lock().objects.get(key).cloned() else { return missing(&key.2) };
    let uid = &body["metadata"]["uid"];
    if !uid.is_null() && *uid != object["metadata"]["uid"] {
        return status(409, "Conflict", "another uid");
    }
    merge(&mut object, body);
    let gone = object["metadata"]["deletionGracePeriodSeconds"] == 0
        && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    answer(api.change(if gone { "DELETED" } else { "MODIFIED" }, key, object))
}

fn delete(api: &Api, key: &Key, body: &Value) -> Response {
    let Some(mut object) = api.store.lock().objects.get(key).cloned() else { return missing(&key.2) };
    let grace = body["gracePeriodSeconds"].as_i64().unwrap_or(30);
    let held = object["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    if key.0 != "pods" || (grace == 0 && !held) {
        return answer(api.change("DELETED", key, object));
    }
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    answer(api.change("MODIFIED", key, object))
}
