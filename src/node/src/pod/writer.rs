//! Writes a pod's newest status, one write at a time: what is overtaken meanwhile is never written.

use super::{Input, Shown};
use crate::agent::{Shared, patch_params};
use foundation::backoff::Backoff;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Patch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long one write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// Runs until the worker is gone, or the object is not there (any more) as the one we know.
pub async fn run(shared: Arc<Shared>, pod: Arc<Pod>, mut newest: watch::Receiver<Shown>, inputs: mpsc::Sender<Input>) {
    let metadata = &pod.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    while newest.changed().await.is_ok() {
        loop {
            let Some((number, status)) = newest.borrow_and_update().clone() else { break };
            // The uid makes the write fail on a younger pod of the same name.
            let patch = serde_json::json!({"metadata": {"uid": metadata.uid}, "status": status});
            let (params, patch) = (patch_params(), Patch::Merge(&patch));
            let write = api.patch_status(&name, &params, &patch);
            match tokio::time::timeout(WRITE_LIMIT, write).await {
                Ok(Ok(_)) => {
                    backoff.reset();
                    if inputs.send(Input::Written(number)).await.is_err() {
                        return;
                    }
                    break;
                }
                Ok(Err(kube::Error::Api(answer))) if answer.code == 404 => {
                    // A watch will say so too; the worker needs the word to let the shim go.
                    let _ = inputs.send(Input::Written(number)).await;
                    break;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, pod.name = %name, "a pod's status could not be written and is tried again");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                Err(_) => tracing::warn!(pod.name = %name, "a pod's status was not written in time and is tried again"),
            }
        }
    }
}
