//! Carries out what a step decided: sandboxes, launches, signals, Events, removal. Part of the worker.
//!
//! What may take time runs as a task beside the worker and reports back as an [`Input`]; everything is idempotent.

use super::state::{Effect, Event};
use super::status::DEADLINE_MESSAGE;
use super::{Input, Worker};
use crate::agent::{Shared, beside};
use crate::boxes::{self, Parts};
use crate::connection::{self, Connection};
use crate::images::ImageError;
use crate::notices::Level;
use crate::sources::Lookup;
use crate::variables::{self, Facts};
use crate::volumes::{self, Volumes};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, Preconditions};
use shim::folder::Folder;
use shim::protocol::{Request, Start};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The annotation in which `pipelines` names a step's requirements: a JSON list of `pip install` lines.
pub const REQUIREMENTS: &str = "pipelines.kubeflow.org/requirements";
/// The annotation that says what stands in for a pod's image.
const STANDS_IN: &str = "kubeflow.org/stands-in";
/// SIGTERM and SIGKILL.
const SIGNALS: [i32; 2] = [15, 9];

pub(super) async fn perform(worker: &mut Worker, effect: Effect) {
    match effect {
        Effect::MakeSandbox => make_sandbox(worker),
        Effect::Launch { container, attempt } => launch(worker, container, attempt),
        Effect::Signal { container, kill } => {
            let name = worker.container(container).map(|container| container.name.clone()).unwrap_or_default();
            let signal = SIGNALS[usize::from(kill)];
            send(worker, Request::Signal { container: name, signal }).await;
        }
        Effect::SayKilling { container } => {
            let name = worker.container(container).map(|container| container.name.clone()).unwrap_or_default();
            say(worker, Some(container), Level::Normal, "Killing", format!("Stopping container {name}"));
        }
        Effect::SayBackOff { container } => {
            let name = worker.container(container).map(|container| container.name.clone()).unwrap_or_default();
            let metadata = &worker.pod.metadata;
            let [pod, namespace, uid] =
                [&metadata.name, &metadata.namespace, &metadata.uid].map(|text| text.as_deref().unwrap_or_default());
            let message = format!("Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})");
            say(worker, Some(container), Level::Warning, "BackOff", message);
        }
        Effect::SayPullBackOff { container } => {
            let image = worker.container(container).and_then(|container| container.image.clone()).unwrap_or_default();
            say(worker, Some(container), Level::Normal, "BackOff", format!("Back-off pulling image {image:?}"));
            say(worker, Some(container), Level::Warning, "Failed", "Error: ImagePullBackOff".to_owned());
        }
        Effect::SayDeadline => say(worker, None, Level::Normal, "DeadlineExceeded", DEADLINE_MESSAGE.to_owned()),
        Effect::Release => release(worker).await,
        Effect::Remove => remove(worker),
    }
}

fn say(worker: &Worker, container: Option<usize>, level: Level, reason: &'static str, message: String) {
    let field = container.and_then(|container| worker.field(container));
    worker.shared.notices.say(&worker.pod, field, level, reason, message);
}

async fn send(worker: &Worker, request: Request) {
    let Some(connection) = &worker.connection else { return };
    if let Err(error) = connection.send(&request).await {
        tracing::warn!(%error, pod.name = worker.pod.metadata.name, "a shim does not listen");
    }
}

/// The shim may go, and what only running containers need may too; logs stay until the object is gone.
async fn release(worker: &mut Worker) {
    send(worker, Request::Release).await;
    worker.connection = None;
    let folder = worker.folder.clone();
    beside(&worker.tasks, "tidy", async move {
        let _ = foundation::tasks::blocking("tidy", move || crate::down::tidy(&folder)).await;
    });
}

fn remove(worker: &Worker) {
    let metadata = worker.pod.metadata.clone();
    let client = worker.shared.client.clone();
    beside(&worker.tasks, "remove", async move {
        let name = metadata.name.unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(client, metadata.namespace.as_deref().unwrap_or_default());
        let preconditions = Preconditions { uid: metadata.uid, resource_version: None };
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match api.delete(&name, &now).await {
            Ok(_) => {}
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
            Err(error) => tracing::warn!(%error, pod.name = %name, "a deleted pod could not be removed"),
        }
    });
}

/// Volumes of the pod, named for launches (on disk they may be there already).
pub(super) async fn prepare_volumes(worker: &mut Worker) -> Result<(), volumes::VolumeError> {
    let prepared = volumes_of(&worker.shared, &worker.pod, &worker.folder).await?;
    worker.volumes = Arc::new(prepared);
    Ok(())
}

async fn volumes_of(shared: &Shared, pod: &Pod, folder: &Folder) -> Result<Volumes, volumes::VolumeError> {
    let lookup = Lookup::new(shared.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    volumes::prepare(pod, folder.path(), &facts(shared, pod), &lookup).await
}

fn facts<'a>(shared: &'a Shared, pod: &'a Pod) -> Facts<'a> {
    Facts { pod, host_ip: &shared.host_ip, cores: shared.cores as f64, memory_bytes: shared.memory_bytes as f64 }
}

fn make_sandbox(worker: &Worker) {
    let (shared, pod, folder) = (worker.shared.clone(), worker.pod.clone(), worker.folder.clone());
    let (tasks, inputs) = (worker.tasks.clone(), worker.inputs.clone());
    beside(&worker.tasks, "sandbox", async move {
        let input = match sandbox(&shared, &pod, &folder, &tasks, &inputs).await {
            Ok((connection, volumes, state)) => Input::Connected(connection, volumes, state),
            Err((reason, message)) => {
                shared.notices.say(&pod, None, Level::Warning, reason, message);
                Input::Event(Event::SandboxFailed)
            }
        };
        let _ = inputs.send(input).await;
    });
}

type Made = (Connection, Volumes, shim::protocol::State);

async fn sandbox(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    folder: &Folder,
    tasks: &foundation::tasks::Tasks,
    inputs: &mpsc::Sender<Input>,
) -> Result<Made, (&'static str, String)> {
    let failed = |message: String| ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"));
    let volumes = volumes_of(shared, pod, folder).await.map_err(|error| ("FailedMount", error.to_string()))?;
    // A shim of an earlier try serves as well.
    if let Ok((connection, state)) = connection::connect(folder, tasks, inputs.clone()).await {
        return Ok((connection, volumes, state));
    }
    let (description, starting, place) = (shared.describe(pod), shared.clone(), folder.clone());
    let start = move || {
        place.create(&description)?;
        shim::client::start(&starting.options.exe, &starting.options.shim_role, &place)
    };
    let started = foundation::tasks::blocking("start shim", start).await;
    started.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    let connected = connection::connect(folder, tasks, inputs.clone()).await;
    let (connection, state) = connected.map_err(|error| failed(error.to_string()))?;
    Ok((connection, volumes, state))
}

/// Why a launch came to nothing: a kubelet's word for it, and in words.
struct Refused {
    reason: &'static str,
    message: String,
}

/// What one launch needs; runs beside the worker.
struct Launch {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    folder: Folder,
    volumes: Arc<Volumes>,
    connection: Connection,
    container: Container,
    index: usize,
    attempt: u32,
    field: Option<String>,
    inputs: mpsc::Sender<Input>,
}

fn launch(worker: &Worker, index: usize, attempt: u32) {
    let (Some(container), Some(connection)) = (worker.container(index).cloned(), worker.connection.clone()) else {
        return;
    };
    let launch = Launch {
        shared: worker.shared.clone(),
        pod: worker.pod.clone(),
        folder: worker.folder.clone(),
        volumes: worker.volumes.clone(),
        connection,
        container,
        index,
        attempt,
        field: worker.field(index),
        inputs: worker.inputs.clone(),
    };
    beside(&worker.tasks, "launch", async move {
        if let Err(Refused { reason, message }) = launch.run().await {
            let event = Event::LaunchFailed { container: index, attempt, reason, message };
            let _ = launch.inputs.send(Input::Event(event)).await;
        }
    });
}

impl Launch {
    fn say(&self, level: Level, reason: &'static str, message: impl Into<String>) {
        self.shared.notices.say(&self.pod, self.field.clone(), level, reason, message);
    }

    async fn run(&self) -> Result<(), Refused> {
        let image = self.image().await?;
        let _ = self.inputs.send(Input::Image { container: self.index, id: image.id.clone() }).await;
        let lookup =
            Lookup::new(self.shared.client.clone(), self.pod.metadata.namespace.as_deref().unwrap_or_default());
        let misconfigured = |message: String| {
            self.say(Level::Warning, "Failed", format!("Error: {message}"));
            Refused { reason: "CreateContainerConfigError", message }
        };
        let variables = variables::resolve(&self.container, &facts(&self.shared, &self.pod), &lookup).await;
        let variables = variables.map_err(|missing| misconfigured(missing.to_string()))?;
        let mounts = volumes::mounts(&self.container, &self.volumes, &variables).map_err(misconfigured)?;
        let parts = Parts {
            pod: &self.pod,
            container: &self.container,
            attempt: self.attempt,
            image: &image,
            variables,
            volumes: mounts,
            folder: &self.folder,
            isolation: self.shared.isolation,
            overlay: self.shared.support.overlay,
        };
        let spec = boxes::build(parts).map_err(|error| misconfigured(error.to_string()))?;
        let start = Start {
            container: self.container.name.clone(),
            attempt: self.attempt,
            spec,
            log: self.folder.log(&self.container.name, self.attempt),
            memory_bytes: crate::limits::limit(&self.container, "memory").and_then(crate::limits::bytes),
        };
        let sent = self.connection.send(&Request::Start(Box::new(start))).await;
        sent.map_err(|error| misconfigured(format!("the pod's shim does not listen: {error}")))
    }

    async fn image(&self) -> Result<crate::images::Image, Refused> {
        let name = self.container.image.as_deref().unwrap_or_default();
        let requirements = self.requirements();
        if self.container.image_pull_policy.as_deref() == Some("Never")
            && crate::images::classify(name) == crate::images::Class::Unknown
        {
            let message = format!("Container image {name:?} is not present with pull policy of Never");
            self.say(Level::Warning, "ErrImageNeverPull", message.clone());
            self.say(Level::Warning, "Failed", "Error: ErrImageNeverPull");
            return Err(Refused { reason: "ErrImageNeverPull", message });
        }
        let long = self.shared.images.takes_long(name, &requirements).await;
        let known = crate::images::classify(name) != crate::images::Class::Unknown;
        if long || !known {
            self.say(Level::Normal, "Pulling", format!("Pulling image {name:?}"));
        }
        let began = self.shared.clock.now();
        match self.shared.images.get(name, &requirements).await {
            Ok(image) => {
                let message = if long {
                    let took = self.shared.clock.now().duration_since(began).as_secs_f64();
                    format!(
                        "Successfully pulled image {name:?} in {took:.1}s ({took:.1}s including waiting): its environment was built"
                    )
                } else {
                    format!("Container image {name:?} already present on machine and can be accessed by the pod")
                };
                self.say(Level::Normal, "Pulled", message);
                if let Some(what) = &image.stands_in {
                    self.tell_stand_in(what).await;
                }
                Ok(image)
            }
            Err(error) => Err(self.pull_failed(name, &error)),
        }
    }

    fn pull_failed(&self, name: &str, error: &ImageError) -> Refused {
        let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        let message = format!("{error}{cause}");
        self.say(Level::Warning, "Failed", format!("Failed to pull image {name:?}: {message}"));
        self.say(Level::Warning, "Failed", "Error: ErrImagePull");
        Refused { reason: "ErrImagePull", message }
    }

    /// Another Python than asked for: said in an Event and on the pod itself.
    async fn tell_stand_in(&self, what: &str) {
        self.say(Level::Warning, "ImageStandIn", what);
        let metadata = &self.pod.metadata;
        if metadata.annotations.as_ref().is_some_and(|known| known.get(STANDS_IN).is_some_and(|value| value == what)) {
            return;
        }
        let api: Api<Pod> =
            Api::namespaced(self.shared.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
        let patch = serde_json::json!({"metadata": {"uid": metadata.uid, "annotations": {STANDS_IN: what}}});
        let name = metadata.name.as_deref().unwrap_or_default();
        if let Err(error) = api.patch(name, &crate::agent::patch_params(), &Patch::Merge(&patch)).await {
            tracing::debug!(%error, pod.name = name, "a pod's annotation could not be written");
        }
    }

    fn requirements(&self) -> Vec<Vec<String>> {
        let annotations = self.pod.metadata.annotations.as_ref();
        let text = annotations.and_then(|annotations| annotations.get(REQUIREMENTS));
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}
