//! One watch over the pods of all steps: what it sees becomes events of their runs.

use std::collections::HashSet;
use std::time::Duration;

use foundation::backoff::Backoff;
use foundation::problem::chain;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};

use super::pods::{self, CONTAINER};
use super::{Controller, Message};
use crate::engine::{Event, Outcome, PodOf};
use crate::types::task::{Failure, PodSummary};

const TELL_TRIES: usize = 3;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Waiting reasons that do not pass by themselves.
const HOPELESS: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// What a pod is doing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Not yet at work; why, in words.
    Waiting(String),
    /// It will never be.
    Hopeless(Failure),
    /// Its command runs since then.
    Running(Timestamp),
    /// All over.
    Ended,
}

impl Controller {
    pub(super) async fn watch_pods(&self) {
        let api: Api<Pod> = Api::all(self.context.client.clone());
        let config = watcher::Config::default().labels(pods::RUN_LABEL);
        let events = watcher(api, config).default_backoff();
        let cancelled = self.context.tasks.cancelled();
        tokio::pin!(events, cancelled);
        let mut collected = HashSet::new();
        // The pods of a list that is coming in; the first list finds what recovery has begun with.
        let (mut listed, mut is_first) = (HashSet::new(), true);
        loop {
            let event = tokio::select! {
                () = &mut cancelled => return,
                event = events.next() => match event { Some(event) => event, None => return },
            };
            match event {
                Ok(watcher::Event::Apply(pod)) => self.on_pod(pod, &mut collected).await,
                Ok(watcher::Event::InitApply(pod)) => {
                    listed.extend(pod.uid());
                    self.on_pod(pod, &mut collected).await;
                }
                Ok(watcher::Event::Delete(pod)) => self.on_deleted(&pod, &mut collected).await,
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitDone) => {
                    collected.retain(|uid| listed.contains(uid));
                    listed = HashSet::new();
                    if !std::mem::take(&mut is_first) {
                        self.do_again();
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "the watch over pods broke; it starts again"),
            }
        }
    }

    async fn on_pod(&self, pod: Pod, collected: &mut HashSet<String>) {
        let Some((run_id, of)) = pods::identify(&pod) else { return };
        let phase = phase(&pod);
        if !self.is_wanted(&run_id, &of) {
            return self.let_go(&pod, &phase);
        }
        let summary = summary(&pod);
        match phase {
            Phase::Waiting(reason) => self.tell(&run_id, Event::PodWaits { of, reason }).await,
            Phase::Running(at) => {
                let at = self.precisely(at);
                self.logs.follow(&run_id, &of, &pod);
                self.tell(&run_id, Event::PodStarted { of, at, pod: summary }).await;
            }
            Phase::Hopeless(failure) => {
                let at = self.context.store.now();
                self.tell(&run_id, Event::PodEnded { of, outcome: Outcome::Failed(failure), at, pod: summary }).await;
            }
            Phase::Ended => {
                if collected.insert(pod.uid().unwrap_or_default()) {
                    let own = self.clone();
                    self.context.tasks.spawn("collect", async move { own.collect(&run_id, of, pod).await });
                }
            }
        }
    }

    /// Kubernetes tells whole seconds; what was seen within the last of them was seen now.
    pub(super) fn precisely(&self, at: Timestamp) -> Timestamp {
        let now = self.context.store.now();
        if now.duration_since(at).as_secs() <= 1 { now } else { at }
    }

    /// A pod that went away before its end was seen: somebody took our finalizer off.
    async fn on_deleted(&self, pod: &Pod, collected: &mut HashSet<String>) {
        let uid = pod.uid().unwrap_or_default();
        if collected.remove(&uid) {
            return;
        }
        let Some((run_id, of)) = pods::identify(pod) else { return };
        if self.is_wanted(&run_id, &of) {
            let failure = Failure {
                message: "The pod was deleted before it ended.".to_owned(),
                reason: "Deleted".to_owned(),
                ..Failure::default()
            };
            let at = self.context.store.now();
            let pod = summary(pod);
            self.tell(&run_id, Event::PodEnded { of, outcome: Outcome::Failed(failure), at, pod }).await;
        }
    }

    /// Whether a run still waits for this very attempt.
    fn is_wanted(&self, run_id: &str, of: &PodOf) -> bool {
        match self.context.store.task(run_id, &of.path) {
            Ok(Some(task)) => task.epoch == of.epoch && task.attempt == of.attempt && !task.state.is_final(),
            Ok(None) => false,
            Err(error) => {
                tracing::error!(run.id = run_id, error = %chain(&error), "a task cannot be read");
                true
            }
        }
    }

    /// A pod that nobody waits for: it is released, and ended if it still runs.
    fn let_go(&self, pod: &Pod, phase: &Phase) {
        let (Some(namespace), name) = (pod.namespace(), pod.name_any()) else { return };
        let is_over = matches!(phase, Phase::Ended);
        let is_held = !pod.finalizers().is_empty();
        let deleting = pod.metadata.deletion_timestamp.is_some();
        if is_over && !is_held {
            return self.janitor.finished(&namespace, &name, self.context.store.now());
        }
        let own = self.clone();
        self.context.tasks.spawn("let go", async move {
            if !is_over && !deleting {
                own.janitor.delete(&namespace, &name).await;
            }
            let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
            while is_held && let Err(error) = own.release_pod(&namespace, &name).await {
                tracing::warn!(pod.name = name, error = %chain(&error), "a pod that nobody waits for was not released");
                if !own.context.tasks.pause(backoff.next_delay()).await {
                    return;
                }
            }
        });
    }

    pub(super) async fn tell(&self, run_id: &str, event: Event) {
        let mut message = Message::Happened(Box::new(event));
        // A worker that has just been dismissed has a successor, should its run go on.
        for _ in 0..TELL_TRIES {
            match self.worker(run_id).send(message).await {
                Ok(()) => return,
                Err(refused) => message = refused.0,
            }
        }
        tracing::debug!(run.id = run_id, "a run ended before an event reached it");
    }
}

pub(super) fn phase(pod: &Pod) -> Phase {
    let status = pod.status.clone().unwrap_or_default();
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Phase::Ended;
    }
    let state = main(pod).and_then(|container| container.state.clone()).unwrap_or_default();
    if let Some(running) = state.running {
        return Phase::Running(running.started_at.map_or(Timestamp::UNIX_EPOCH, |at| at.0));
    }
    if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        let message = waiting.message.unwrap_or_default();
        if HOPELESS.contains(&reason.as_str()) {
            let message = if message.is_empty() { reason.clone() } else { message };
            return Phase::Hopeless(Failure { message, reason, ..Failure::default() });
        }
        return Phase::Waiting(if message.is_empty() { "its pod to start".to_owned() } else { message });
    }
    let unschedulable = status
        .conditions
        .unwrap_or_default()
        .into_iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let reason = unschedulable.and_then(|condition| condition.message).unwrap_or_else(|| "its pod to start".to_owned());
    Phase::Waiting(reason)
}

pub(super) fn main(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)
}

pub(super) fn summary(pod: &Pod) -> PodSummary {
    let spec = pod.spec.as_ref();
    let image = spec.and_then(|spec| spec.containers.first()).and_then(|container| container.image.clone());
    let notes = pod.annotations().iter().filter(|(name, _)| name.starts_with("node.kubeflow.org/"));
    PodSummary {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        image: image.unwrap_or_default(),
        notes: notes
            .map(|(name, value)| format!("{}: {value}", name.trim_start_matches("node.kubeflow.org/")))
            .collect(),
    }
}
