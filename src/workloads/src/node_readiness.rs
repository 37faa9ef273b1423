//! Takes the not-ready taint off nodes that report Ready, and puts it on those that do not.
//!
//! Invariant: touches only its own taint.

use foundation::tasks::Tasks;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node as FullNode;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::slim::Node;

const TAINT: &str = "node.kubernetes.io/not-ready";

/// Starts the controller.
pub fn start(tasks: &Tasks, client: Client) {
    let cancelled = tasks.cancelled();
    tasks.spawn("node readiness", async move {
        tokio::select! {
            () = cancelled => {}
            () = run(client) => {}
        }
    });
}

async fn run(client: Client) {
    let config = watcher::Config::default().streaming_lists();
    let mut nodes = watcher::watcher(Api::<Node>::all(client.clone()), config).default_backoff().boxed();
    while let Some(event) = nodes.next().await {
        match event {
            Ok(Event::InitApply(node) | Event::Apply(node)) => settle(&client, &node).await,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the watch of nodes is interrupted"),
        }
    }
}

/// The taints a node should have; none if they are right.
fn wanted(node: &Node) -> Option<Vec<Value>> {
    let ready = node.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True");
    let tainted = node.spec.taints.iter().any(|t| t.key == TAINT);
    if ready != tainted {
        return None;
    }
    let kept = node.spec.taints.iter().filter(|t| t.key != TAINT);
    let mut list: Vec<Value> =
        kept.map(|t| json!({"key": t.key, "value": t.value.clone().unwrap_or_default(), "effect": t.effect})).collect();
    if !ready {
        list.push(json!({"key": TAINT, "effect": "NoSchedule"}));
    }
    Some(list)
}

async fn settle(client: &Client, node: &Node) {
    let Some(taints) = wanted(node) else { return };
    let name = node.metadata.name.clone().unwrap_or_default();
    let list = if taints.is_empty() { Value::Null } else { Value::Array(taints) };
    let patch = json!({
        "metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": list},
    });
    let api: Api<FullNode> = Api::all(client.clone());
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => {}
        // Another write came first; its event is on the way.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => tracing::warn!(%error, node.name = name, "the readiness taint could not be set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ready: &str, taints: Value) -> Option<Vec<Value>> {
        let node = json!({
            "metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        wanted(&serde_json::from_value(node).unwrap())
    }

    #[test]
    fn the_taint_follows_readiness_and_other_taints_stay() {
        let own = json!({"key": TAINT, "effect": "NoSchedule"});
        assert_eq!(check("True", json!([own])), Some(vec![]));
        assert_eq!(check("True", json!([])), None);
        assert_eq!(check("False", json!([own])), None);
        let other = json!({"key": "x", "value": "", "effect": "NoSchedule"});
        assert_eq!(check("Unknown", json!([other.clone()])), Some(vec![other, own]));
    }
}
