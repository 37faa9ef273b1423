//! The garbage collector: dependents of absent owners go, in the background, in the foreground, or stay as orphans.
//!
//! Watches the metadata of every kind that can own or be owned, indexed by uid; work is driven by what changes.
//!
//! Invariant: a dependent is deleted only after its owner was looked up and was not there, with its own uid as
//! precondition.

use std::collections::HashSet;
use std::fmt::Debug;

use foundation::tasks::Tasks;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

mod graph;

use graph::{Action, Graph, Node as Known};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Starts the controller.
pub fn start(tasks: &Tasks, client: Client) {
    let cancelled = tasks.cancelled();
    tasks.spawn("garbage collector", async move {
        tokio::select! {
            () = cancelled => {}
            () = run(client) => {}
        }
    });
}

/// What a watch of one kind says.
enum Seen {
    Apply(Box<Known>),
    Delete(String),
    /// All of a kind have been listed: these uids are there.
    Listed(&'static str, HashSet<String>),
}

fn node(kind: &'static str, plural: &'static str, metadata: ObjectMeta) -> Option<Known> {
    Some(Known {
        uid: metadata.uid?,
        kind,
        plural,
        namespace: metadata.namespace,
        name: metadata.name?,
        owners: metadata.owner_references.unwrap_or_default(),
        finalizers: metadata.finalizers.unwrap_or_default(),
        deleting: metadata.deletion_timestamp.is_some(),
    })
}

fn watch<K>(client: &Client, kind: &'static str, plural: &'static str) -> BoxStream<'static, Seen>
where
    K: Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let config = watcher::Config::default().streaming_lists();
    let events = watcher::watcher(Api::<PartialObjectMeta<K>>::all(client.clone()), config).default_backoff();
    let mut listed = HashSet::new();
    let seen = events.filter_map(move |event: Result<Event<PartialObjectMeta<K>>, watcher::Error>| {
        let out = match event {
            Ok(Event::Init) => {
                listed.clear();
                None
            }
            Ok(Event::InitApply(object)) => {
                listed.extend(object.metadata.uid.clone());
                node(kind, plural, object.metadata).map(|n| Seen::Apply(Box::new(n)))
            }
            Ok(Event::InitDone) => Some(Seen::Listed(kind, std::mem::take(&mut listed))),
            Ok(Event::Apply(object)) => node(kind, plural, object.metadata).map(|n| Seen::Apply(Box::new(n))),
            Ok(Event::Delete(object)) => object.metadata.uid.map(Seen::Delete),
            Err(error) => {
                tracing::debug!(%error, kind, "a watch of the garbage collector is interrupted");
                None
            }
        };
        futures::future::ready(out)
    });
    seen.boxed()
}

async fn run(client: Client) {
    let mut seen = stream::select_all([
        watch::<Pod>(&client, "Pod", "pods"),
        watch::<ConfigMap>(&client, "ConfigMap", "configmaps"),
        watch::<Secret>(&client, "Secret", "secrets"),
        watch::<ServiceAccount>(&client, "ServiceAccount", "serviceaccounts"),
        watch::<Node>(&client, "Node", "nodes"),
    ]);
    let mut graph = Graph::default();
    let mut listed = HashSet::new();
    while let Some(change) = seen.next().await {
        match change {
            Seen::Apply(node) => graph.apply(*node),
            Seen::Delete(uid) => graph.remove(&uid),
            Seen::Listed(kind, uids) => {
                graph.keep(kind, &uids);
                listed.insert(kind);
            }
        }
        if listed.len() < KINDS {
            continue;
        }
        while let Some(action) = graph.next() {
            if let Err(error) = perform(&client, &mut graph, action).await {
                tracing::debug!(%error, "the garbage collector will try again");
            }
        }
    }
}

/// Kinds that are watched.
const KINDS: usize = 5;

fn api(client: &Client, node: &Known) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: node.kind.into(),
        plural: node.plural.into(),
    };
    match &node.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// NotFound and Conflict mean that somebody else was faster: the watch brings the news.
fn settled<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn perform(client: &Client, graph: &mut Graph, action: Action) -> kube::Result<()> {
    match action {
        Action::CheckOwners(node) => check_owners(client, graph, &node).await,
        Action::Delete(node, policy) => delete(client, &node, policy).await,
        Action::DropOwner(node, owner) => drop_owners(client, &node, &[owner]).await,
        Action::RemoveFinalizer(node, finalizer) => remove_finalizer(client, &node, finalizer).await,
    }
}

async fn delete(client: &Client, node: &Known, policy: PropagationPolicy) -> kube::Result<()> {
    let params = DeleteParams {
        propagation_policy: Some(policy),
        preconditions: Some(Preconditions { uid: Some(node.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    settled(api(client, node).delete(&node.name, &params).await)
}

/// Looks up the owners that the watches do not know; without any the node goes, without some it forgets them.
async fn check_owners(client: &Client, graph: &mut Graph, node: &Known) -> kube::Result<()> {
    let mut absent = Vec::new();
    let mut held = false;
    for owner in &node.owners {
        if graph.knows_in(&owner.uid, node.namespace.as_deref()) {
            held |= !graph.waits_for_dependents(&owner.uid);
            continue;
        }
        let Some((kind, plural, namespaced)) = graph::resource_of(&owner.api_version, &owner.kind) else {
            // A kind that is not served here: nobody can say that it is gone.
            held = true;
            continue;
        };
        let namespace = namespaced.then(|| node.namespace.clone()).flatten();
        if namespaced && namespace.is_none() {
            held = true;
            continue;
        }
        let probe = Known::probe(kind, plural, namespace, &owner.name);
        match api(client, &probe).get_metadata_opt(&owner.name).await? {
            Some(found) if found.metadata.uid.as_deref() == Some(&owner.uid) => held = true,
            _ => absent.push(owner.uid.clone()),
        }
    }
    if absent.is_empty() {
        return Ok(());
    }
    if held {
        return drop_owners(client, node, &absent).await;
    }
    delete(client, node, PropagationPolicy::Background).await
}

async fn drop_owners(client: &Client, node: &Known, uids: &[String]) -> kube::Result<()> {
    let gone: Vec<Value> = uids.iter().map(|uid| json!({"$patch": "delete", "uid": uid})).collect();
    let patch = json!({"metadata": {"uid": node.uid, "ownerReferences": gone}});
    settled(api(client, node).patch_metadata(&node.name, &PatchParams::default(), &Patch::Strategic(patch)).await)
}

async fn remove_finalizer(client: &Client, node: &Known, finalizer: &str) -> kube::Result<()> {
    let patch = json!({"metadata": {"uid": node.uid, "$deleteFromPrimitiveList/finalizers": [finalizer]}});
    settled(api(client, node).patch_metadata(&node.name, &PatchParams::default(), &Patch::Strategic(patch)).await)
}
