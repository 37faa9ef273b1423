//! Ends namespaces: deletes what is in a namespace that is marked, then takes its finalizer away.
//!
//! Invariant: the finalizer goes only after every collection was seen empty.

use std::time::Duration;

use foundation::backoff::Backoff;
use foundation::tasks::Tasks;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::json;

/// Namespaces that end side by side.
const AT_ONCE: usize = 8;
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Starts the controller.
pub fn start(tasks: &Tasks, client: Client) {
    let cancelled = tasks.cancelled();
    tasks.spawn("namespaces", async move {
        tokio::select! {
            () = cancelled => {}
            () = run(client) => {}
        }
    });
}

async fn run(client: Client) {
    let config = watcher::Config::default().streaming_lists();
    let mut namespaces = watcher::watcher(Api::<Namespace>::all(client.clone()), config).default_backoff().boxed();
    let mut ending = FuturesUnordered::new();
    let mut names = std::collections::HashSet::new();
    loop {
        tokio::select! {
            event = namespaces.next(), if ending.len() < AT_ONCE => {
                let Some(event) = event else { return };
                if let Some(name) = marked(event)
                    && names.insert(name.clone())
                {
                    ending.push(end(client.clone(), name));
                }
            }
            Some(name) = ending.next() => {
                names.remove(&name);
            }
        }
    }
}

fn marked(event: Result<Event<Namespace>, watcher::Error>) -> Option<String> {
    match event {
        Ok(Event::InitApply(namespace) | Event::Apply(namespace)) => {
            let held = namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref()).is_some_and(|f| !f.is_empty());
            let going = namespace.metadata.deletion_timestamp.is_some() && held;
            going.then_some(namespace.metadata.name).flatten()
        }
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "the watch of namespaces is interrupted");
            None
        }
    }
}

/// Ends one namespace, however long it takes; answers its name.
async fn end(client: Client, name: String) -> String {
    let mut backoff = Backoff::new(FIRST_LOOK, LAST_LOOK);
    let mut told = String::new();
    loop {
        match round(&client, &name).await {
            Ok(Remaining::Nothing) => match finalize(&client, &name).await {
                Ok(()) => return name,
                Err(error) => tracing::debug!(%error, namespace = name, "the namespace could not be finalized yet"),
            },
            Ok(Remaining::Some(message)) => {
                if message != told {
                    told.clone_from(&message);
                    tell(&client, &name, &message).await;
                }
            }
            Err(error) => tracing::debug!(%error, namespace = name, "the namespace could not be emptied yet"),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

enum Remaining {
    Nothing,
    Some(String),
}

/// Resources with collections that can be deleted, pods first.
async fn collections(client: &Client) -> kube::Result<Vec<ApiResource>> {
    let listed = client.list_core_api_resources("v1").await?;
    let mut out: Vec<ApiResource> = listed
        .resources
        .iter()
        .filter(|r| r.namespaced && !r.name.contains('/'))
        .filter(|r| r.verbs.iter().any(|v| v == "deletecollection"))
        .map(|r| ApiResource {
            group: String::new(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: r.kind.clone(),
            plural: r.name.clone(),
        })
        .collect();
    out.sort_by_key(|r| r.plural != "pods");
    Ok(out)
}

async fn round(client: &Client, name: &str) -> kube::Result<Remaining> {
    let mut left = Vec::new();
    for resource in collections(client).await? {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), name, &resource);
        if api.list_metadata(&ListParams::default().limit(1)).await?.items.is_empty() {
            continue;
        }
        api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        let count = api.list_metadata(&ListParams::default()).await?.items.len();
        if count > 0 {
            left.push(format!("{}. has {count} resource instances", resource.plural));
            // Controllers of pods may still write events and the like: they go after the pods.
            if resource.plural == "pods" {
                break;
            }
        }
    }
    Ok(if left.is_empty() {
        Remaining::Nothing
    } else {
        Remaining::Some(format!("Some resources are remaining: {}", left.join(", ")))
    })
}

async fn finalize(client: &Client, name: &str) -> kube::Result<()> {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}});
    let request = http_put(&format!("/api/v1/namespaces/{name}/finalize"), body.to_string().into_bytes());
    match client.request::<serde_json::Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

fn http_put(path: &str, body: Vec<u8>) -> http::Request<Vec<u8>> {
    let mut request = http::Request::new(body);
    *request.method_mut() = http::Method::PUT;
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    request.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    request
}

async fn tell(client: &Client, name: &str, message: &str) {
    let api: Api<Namespace> = Api::all(client.clone());
    let patch = json!({"status": {"conditions": [
        {"type": "NamespaceContentRemaining", "status": "True", "reason": "SomeResourcesRemain", "message": message},
    ]}});
    if let Err(error) = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        tracing::debug!(%error, namespace = name, "the state of an ending namespace was not written");
    }
}
