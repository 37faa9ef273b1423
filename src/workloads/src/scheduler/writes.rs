//! What the scheduler writes: bindings, the condition of a pod that waits, and events.
//!
//! Invariant: an event that cannot be written is dropped; it never holds up a binding.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foundation::clock::Clock;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::accounts::Waiting;

const NAME: &str = "default-scheduler";

/// See the module.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    clock: Clock,
    count: Arc<AtomicU64>,
}

impl Writer {
    /// Writes through `client`.
    pub fn new(client: Client, clock: Clock) -> Self {
        Self { client, clock, count: Arc::default() }
    }

    /// Binds a pod; false if it could not be bound.
    pub fn bind(&self, pod: Waiting, node: String) -> impl Future<Output = bool> + Send + use<> {
        let this = self.clone();
        async move {
            let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(this.client.clone(), &pod.namespace);
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            let bound =
                api.create_subresource::<_, Value>("binding", &pod.name, &PostParams::default(), &binding).await;
            match bound {
                Ok(_) => {
                    let message = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                    this.event(&pod, "Normal", "Scheduled", "Binding", &message).await;
                    true
                }
                Err(error) => {
                    tracing::debug!(%error, namespace = pod.namespace, pod.name = pod.name, "a pod could not be bound");
                    false
                }
            }
        }
    }

    /// Tells a pod why it waits.
    pub fn tell(&self, pod: Waiting, message: String) -> impl Future<Output = ()> + Send + use<> {
        let this = self.clone();
        async move {
            let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(this.client.clone(), &pod.namespace);
            let now = this.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                "lastProbeTime": null, "lastTransitionTime": now,
            }]}});
            match api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(_) => this.event(&pod, "Warning", "FailedScheduling", "Scheduling", &message).await,
                Err(error) => {
                    tracing::debug!(%error, namespace = pod.namespace, pod.name = pod.name, "a waiting pod was not told");
                }
            }
        }
    }

    async fn event(&self, pod: &Waiting, kind: &str, reason: &str, action: &str, message: &str) {
        let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(self.client.clone(), &pod.namespace);
        let now = self.clock.now();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let unique = (now.as_nanosecond() as u64).wrapping_add(number);
        let event = json!({
            "metadata": {"name": format!("{}.{unique:016x}", pod.name), "namespace": pod.namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid,
            },
            "type": kind, "reason": reason, "action": action, "message": message,
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "reportingComponent": NAME, "reportingInstance": NAME,
        });
        let Ok(event) = serde_json::from_value(event) else { return };
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, reason, "an event was not written");
        }
    }
}
