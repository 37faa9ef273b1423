//! Events about pods, as a kubelet writes them: core/v1, counted up when they repeat. Called by the pods' workers.
//!
//! Invariant: nobody waits for an Event; when the queue is full, the Event is dropped and counted in the log.

use crate::agent::{beside, patch_params, post_params};
use foundation::clock::Clock;
use foundation::tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::Patch;
use kube::{Api, Client};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that may wait to be written.
const QUEUE_MAX: usize = 4096;
/// Written at the same time: each waits for the disk, and the store commits many waiters at once.
const WRITERS: usize = 4;
/// How long one write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// So many repeated Events are remembered by a writer.
const REMEMBERED_MAX: usize = 1024;

/// `Normal` or `Warning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What is expected.
    Normal,
    /// What a person should look at.
    Warning,
}

/// One thing to tell.
#[derive(Debug, Clone)]
struct Notice {
    object: ObjectReference,
    level: Level,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Writes Events for this node.
#[derive(Clone)]
pub struct Notices {
    senders: Vec<mpsc::Sender<Notice>>,
    clock: Clock,
}

impl Notices {
    /// Starts the writers.
    pub fn new(client: &Client, node: &str, clock: Clock, tasks: &Tasks) -> Self {
        let senders = (0..WRITERS).map(|_| {
            let (sender, receiver) = mpsc::channel(QUEUE_MAX / WRITERS);
            beside(tasks, "events", write_all(client.clone(), node.to_owned(), receiver));
            sender
        });
        Self { senders: senders.collect(), clock }
    }

    /// Tells something about a pod, or about one of its containers (`field`: `spec.containers{c}`).
    pub fn say(
        &self,
        pod: &Pod,
        field: Option<String>,
        level: Level,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let metadata = &pod.metadata;
        let object = ObjectReference {
            kind: Some("Pod".to_owned()),
            api_version: Some("v1".to_owned()),
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            field_path: field,
        };
        // One pod's Events stay in order: they go to one writer.
        let lane = metadata
            .uid
            .iter()
            .flat_map(|uid| uid.bytes())
            .fold(0_usize, |sum, byte| sum * 31 % 8191 + usize::from(byte));
        let notice = Notice { object, level, reason, message: message.into(), at: self.clock.now() };
        let sender = &self.senders[lane % self.senders.len()];
        if let Err(error) = sender.try_send(notice) {
            tracing::debug!(%error, reason, "an event is dropped");
        }
    }
}

/// What makes two Events the same.
type Key = (String, &'static str, String);

async fn write_all(client: Client, node: String, mut receiver: mpsc::Receiver<Notice>) {
    let mut written: HashMap<Key, (String, i32)> = HashMap::new();
    while let Some(notice) = receiver.recv().await {
        let namespace = notice.object.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let uid = notice.object.uid.clone().unwrap_or_default();
        let key = (
            format!("{uid}{}", notice.object.field_path.as_deref().unwrap_or_default()),
            notice.reason,
            notice.message.clone(),
        );
        let known = written.get(&key).cloned();
        let write = async {
            match &known {
                Some((name, count)) => {
                    let again = serde_json::json!({"count": count + 1, "lastTimestamp": Time(notice.at)});
                    api.patch(name, &patch_params(), &Patch::Merge(&again)).await.map(|_| (name.clone(), count + 1))
                }
                None => {
                    let event = event(&notice, &node);
                    let name = event.metadata.name.clone().unwrap_or_default();
                    api.create(&post_params(), &event).await.map(|_| (name, 1))
                }
            }
        };
        match tokio::time::timeout(WRITE_LIMIT, write).await {
            Ok(Ok(entry)) => {
                if written.len() >= REMEMBERED_MAX {
                    written.clear();
                }
                written.insert(key, entry);
            }
            // A namespace that is being deleted takes no more Events.
            Ok(Err(error)) => {
                written.remove(&key);
                tracing::debug!(%error, reason = notice.reason, "an event could not be written");
            }
            Err(_) => tracing::debug!(reason = notice.reason, "an event could not be written in time"),
        }
    }
}

fn event(notice: &Notice, node: &str) -> Event {
    let name = notice.object.name.clone().unwrap_or_default();
    let suffix: String = foundation::id::uuid().chars().filter(char::is_ascii_hexdigit).take(16).collect();
    let level = match notice.level {
        Level::Normal => "Normal",
        Level::Warning => "Warning",
    };
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{suffix}")),
            namespace: notice.object.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: notice.object.clone(),
        type_: Some(level.to_owned()),
        reason: Some(notice.reason.to_owned()),
        message: Some(notice.message.clone()),
        source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(notice.at)),
        last_timestamp: Some(Time(notice.at)),
        ..Event::default()
    }
}
