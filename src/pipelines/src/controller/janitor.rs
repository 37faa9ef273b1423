//! Pods that are over do not pile up: the newest stay for a while, the others are deleted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use foundation::problem::chain;
use foundation::tasks::Tasks;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Finished pods that are kept at most …
const KEPT: usize = 200;
/// … and how long, at most.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);
const SWEEP_EVERY: Duration = Duration::from_secs(60);

struct Finished {
    namespace: String,
    name: String,
    at: Timestamp,
}

/// Deletes finished pods. Cheap to clone.
#[derive(Clone)]
pub(super) struct Janitor {
    client: kube::Client,
    tasks: Tasks,
    finished: Arc<Mutex<VecDeque<Finished>>>,
    full: Arc<Notify>,
}

impl Janitor {
    pub(super) fn new(client: kube::Client, tasks: Tasks) -> Self {
        Self { client, tasks, finished: Arc::default(), full: Arc::default() }
    }

    pub(super) fn start(&self) {
        let own = self.clone();
        self.tasks.spawn("sweep", async move {
            let cancelled = own.tasks.cancelled();
            tokio::pin!(cancelled);
            loop {
                tokio::select! {
                    () = &mut cancelled => return,
                    () = own.full.notified() => {}
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                }
                own.sweep().await;
            }
        });
    }

    /// A pod whose result is recorded and that is over.
    pub(super) fn finished(&self, namespace: &str, name: &str, at: Timestamp) {
        let mut finished = self.finished.lock();
        if finished.iter().any(|pod| pod.name == name && pod.namespace == namespace) {
            return;
        }
        finished.push_back(Finished { namespace: namespace.to_owned(), name: name.to_owned(), at });
        if finished.len() > KEPT {
            self.full.notify_one();
        }
    }

    async fn sweep(&self) {
        let now = Timestamp::now();
        loop {
            let next = {
                let mut finished = self.finished.lock();
                let is_old = finished.front().is_some_and(|pod| now.duration_since(pod.at) > KEPT_FOR);
                if finished.len() > KEPT || is_old { finished.pop_front() } else { None }
            };
            let Some(pod) = next else { return };
            self.delete(&pod.namespace, &pod.name).await;
        }
    }

    pub(super) async fn delete(&self, namespace: &str, name: &str) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => tracing::warn!(pod.name = name, error = %chain(&error), "a pod was not deleted"),
        }
    }
}
