//! Gives every namespace its `default` ServiceAccount and the ConfigMap `kube-root-ca.crt`, again when they are deleted.
//!
//! Invariant: never touches one that exists.

use foundation::tasks::Tasks;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{PartialObjectMeta, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

/// Starts the controller.
pub fn start(tasks: &Tasks, client: Client, root_ca: Option<String>) {
    let cancelled = tasks.cancelled();
    tasks.spawn("service accounts", async move {
        tokio::select! {
            () = cancelled => {}
            () = run(client, root_ca.unwrap_or_default()) => {}
        }
    });
}

/// Namespaces in which something is to be made.
async fn run(client: Client, root_ca: String) {
    let named = |name: &str| watcher::Config::default().streaming_lists().fields(&format!("metadata.name={name}"));
    let namespaces =
        watcher::watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default().streaming_lists())
            .default_backoff()
            .filter_map(|event| async move { created(event).and_then(|n| n.metadata.name) });
    let accounts =
        gone(watcher::watcher(Api::<PartialObjectMeta<ServiceAccount>>::all(client.clone()), named(ACCOUNT)));
    let maps = gone(watcher::watcher(Api::<PartialObjectMeta<ConfigMap>>::all(client.clone()), named(ROOT_CA)));
    let mut all = stream::select_all([namespaces.boxed(), accounts, maps]);
    while let Some(namespace) = all.next().await {
        ensure(&client, &namespace, &root_ca).await;
    }
}

fn created(event: Result<Event<Namespace>, watcher::Error>) -> Option<Namespace> {
    match event {
        Ok(Event::InitApply(namespace) | Event::Apply(namespace)) => {
            namespace.metadata.deletion_timestamp.is_none().then_some(namespace)
        }
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "the watch of namespaces is interrupted");
            None
        }
    }
}

/// Namespaces of deleted objects.
fn gone<K: Resource + Send + 'static>(
    events: impl futures::Stream<Item = Result<Event<PartialObjectMeta<K>>, watcher::Error>> + Send + 'static,
) -> stream::BoxStream<'static, String> {
    events
        .default_backoff()
        .filter_map(|event| {
            futures::future::ready(match event {
                Ok(Event::Delete(object)) => object.metadata.namespace,
                _ => None,
            })
        })
        .boxed()
}

async fn ensure(client: &Client, namespace: &str, root_ca: &str) {
    create::<ServiceAccount>(client, namespace, json!({"metadata": {"name": ACCOUNT}})).await;
    create::<ConfigMap>(client, namespace, json!({"metadata": {"name": ROOT_CA}, "data": {"ca.crt": root_ca}})).await;
}

async fn create<K>(client: &Client, namespace: &str, body: Value)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: serde::de::DeserializeOwned + serde::Serialize,
{
    let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Ok(object) = serde_json::from_value::<K>(body) else { return };
    let api = Api::<K>::namespaced(client.clone(), namespace);
    if matches!(api.get_metadata_opt(&name).await, Ok(Some(_))) {
        return;
    }
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        // Exists already, or the namespace is going or gone.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => {}
        Err(error) => tracing::warn!(%error, namespace, "the objects of a new namespace could not be made"),
    }
}
