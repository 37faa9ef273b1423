//! The node agent: watches the pods that are bound to this node and keeps one worker for each.
//!
//! Made and run by `kubeflow/platform`. Speaks to the API through `kube::Client` alone, so it never knows which one answers.
//! Invariant: whatever an earlier platform left on this machine is either taken back by its pod's worker or ended by [`Agent::recover`].

use crate::environments::Environments;
use crate::images::{Images, StandIn};
use crate::notices::Notices;
use crate::pod::{self, Input};
use crate::{down, registration, server};
use foundation::clock::Clock;
use foundation::tasks::Tasks;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use sandbox::spec::Isolation;
use sandbox::support::Report;
use shim::folder::Folder;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Which runtime to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The best that the probe allows.
    #[default]
    Best,
    /// Plain processes, whatever is allowed.
    Process,
}

/// What the agent is made with.
#[derive(Clone)]
pub struct Options {
    /// Name of the Node object.
    pub node_name: String,
    /// The data folder; pods and environments live below it.
    pub data_dir: PathBuf,
    /// Our own binary.
    pub exe: PathBuf,
    /// The words that make it a shim: `["shim"]`.
    pub shim_role: Vec<String>,
    /// Which runtime.
    pub runtime: Choice,
    /// Whether another minor version of Python may stand in.
    pub stand_in: StandIn,
    /// uv to use instead of looking for one.
    pub uv: Option<PathBuf>,
    /// The time.
    pub clock: Clock,
    /// Parent of everything that the agent runs.
    pub tasks: Tasks,
}

/// Why there can be no agent.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A folder of ours cannot be made.
    #[error("make folder {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The API does not answer.
    #[error("list the pods of this node")]
    List(#[source] kube::Error),
}

/// What every worker needs.
pub struct Shared {
    pub(crate) client: Client,
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) images: Images,
    pub(crate) notices: Notices,
    pub(crate) isolation: Isolation,
    pub(crate) support: Report,
    pub(crate) host_ip: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    boot_id: String,
    workers: parking_lot::Mutex<HashMap<String, mpsc::Sender<Input>>>,
    /// The newest object of each pod, by namespace and name.
    pods: parking_lot::Mutex<HashMap<(String, String), Arc<Pod>>>,
}

/// The agent of this node. Cheap to clone.
#[derive(Clone)]
pub struct Agent(Arc<Shared>);

impl Agent {
    /// Probes what the host allows and makes an agent that does nothing yet.
    pub async fn new(client: Client, options: Options) -> Result<Self, NodeError> {
        for path in [options.data_dir.join("pods"), options.data_dir.join("environments")] {
            std::fs::create_dir_all(&path).map_err(|source| NodeError::Folder { path, source })?;
        }
        let support = probe(&options).await;
        let isolation =
            if support.sandbox && options.runtime == Choice::Best { Isolation::Sandbox } else { Isolation::Process };
        if isolation == Isolation::Process {
            let failure = support.failure.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(failure, remedy = support.remedy, "pods run as plain processes, without isolation");
        }
        let clock = options.clock.clone();
        let environments = Arc::new(Environments::new(&options.data_dir, options.uv.clone(), clock.clone()));
        let images = Images::new(environments, options.exe.clone(), options.stand_in);
        let notices = Notices::new(&client, &options.node_name, clock.clone(), &options.tasks);
        let (cores, memory_bytes) = registration::machine();
        Ok(Self(Arc::new(Shared {
            client,
            clock,
            images,
            notices,
            isolation,
            support,
            host_ip: registration::host_ip(),
            cores,
            memory_bytes,
            boot_id: sandbox::process::boot_id(),
            options,
            workers: parking_lot::Mutex::default(),
            pods: parking_lot::Mutex::default(),
        })))
    }

    /// Which runtime serves, and what the probe found.
    pub fn runtime(&self) -> (Isolation, &Report) {
        (self.0.isolation, &self.0.support)
    }

    /// Ends what runs for pods that are gone. Pods that are still there are taken back by their workers in [`Self::run`].
    pub async fn recover(&self) -> Result<(), NodeError> {
        let api: Api<Pod> = Api::all(self.0.client.clone());
        let params = kube::api::ListParams::default().fields(&format!("spec.nodeName={}", self.0.options.node_name));
        let pods = api.list(&params).await.map_err(NodeError::List)?;
        let known: HashSet<String> = pods.items.into_iter().filter_map(|pod| pod.metadata.uid).collect();
        let root = self.0.options.data_dir.join("pods");
        let orphans = std::fs::read_dir(&root)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_none_or(|name| !known.contains(name)));
        let orphans: Vec<Folder> = orphans.map(|entry| Folder::at(entry.path())).collect();
        let _ = foundation::tasks::blocking("end orphans", move || orphans.iter().for_each(down::remove)).await;
        Ok(())
    }

    /// Registers the node and serves its pods until the tasks are cancelled.
    pub async fn run(&self) {
        let shared = self.0.clone();
        let tasks = shared.options.tasks.child("node");
        beside(&tasks, "registration", registration::keep(shared.clone(), tasks.clone()));
        // Asking interpreters for their names takes long enough to be noticed by the first step.
        let warm = shared.clone();
        beside(&tasks, "interpreters", async move { warm.images.warm().await });
        let api: Api<Pod> = Api::all(shared.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", shared.options.node_name));
        let mut stream = watcher(api, config).default_backoff().boxed();
        let mut listed: HashSet<String> = HashSet::new();
        loop {
            let event = tokio::select! {
                () = tasks.cancelled() => break,
                event = stream.next() => event,
            };
            match event {
                Some(Ok(watcher::Event::Init)) => listed.clear(),
                Some(Ok(watcher::Event::InitApply(pod))) => {
                    listed.extend(pod.metadata.uid.clone());
                    shared.dispatch(pod, &tasks).await;
                }
                Some(Ok(watcher::Event::InitDone)) => shared.end_unlisted(&listed).await,
                Some(Ok(watcher::Event::Apply(pod))) => shared.dispatch(pod, &tasks).await,
                Some(Ok(watcher::Event::Delete(pod))) => {
                    shared.gone(pod.metadata.uid.as_deref().unwrap_or_default()).await
                }
                Some(Err(error)) => tracing::debug!(%error, "the watch of this node's pods is opened again"),
                None => break,
            }
        }
    }

    /// How many pods run here now, as their newest objects say.
    pub fn running_pods(&self) -> usize {
        let running = |pod: &&Arc<Pod>| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        self.0.pods.lock().values().filter(running).count()
    }

    /// The kubelet's endpoints.
    pub fn router(&self) -> axum::Router {
        server::router(self.0.clone())
    }
}

async fn probe(options: &Options) -> Report {
    let (exe, role) = (options.exe.clone(), options.shim_role.clone());
    let folder = options.data_dir.join("pods/.probe");
    let ask = move || {
        let _ = std::fs::create_dir_all(&folder);
        let words: Vec<&str> = role.iter().map(String::as_str).chain(["probe"]).collect();
        let report = sandbox::support::ask(&exe, &words, &folder);
        let _ = std::fs::remove_dir_all(&folder);
        report
    };
    let nothing = Report { sandbox: false, overlay: false, failure: None, remedy: None };
    foundation::tasks::blocking("probe", ask).await.unwrap_or(nothing)
}

/// Who changed a field: what a kubelet would be.
pub(crate) const FIELD_MANAGER: &str = "kubelet";

/// For patches of this crate.
pub(crate) fn patch_params() -> kube::api::PatchParams {
    kube::api::PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..kube::api::PatchParams::default() }
}

/// For objects that this crate makes.
pub(crate) fn post_params() -> kube::api::PostParams {
    kube::api::PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..kube::api::PostParams::default() }
}

/// Runs `work` as a task that is dropped where it stands when `tasks` are cancelled.
///
/// Right for all of this crate: a killed platform stops at any instruction, and everything here goes on from there.
pub(crate) fn beside(tasks: &Tasks, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let token = tasks.token();
    tasks.spawn(name, async move {
        let _ = token.run_until_cancelled(work).await;
    });
}

impl Shared {
    async fn dispatch(self: &Arc<Self>, pod: Pod, tasks: &Tasks) {
        let pod = Arc::new(pod);
        let (Some(uid), Some(name), Some(namespace)) = (&pod.metadata.uid, &pod.metadata.name, &pod.metadata.namespace)
        else {
            return;
        };
        // A server that does not know the selector sends everything.
        if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) != Some(&self.options.node_name) {
            return;
        }
        self.pods.lock().insert((namespace.clone(), name.clone()), pod.clone());
        let known = self.workers.lock().get(uid).cloned();
        match known {
            // A worker that has just left does not need the object any more.
            Some(worker) => drop(worker.send(Input::Object(pod)).await),
            None => {
                let worker = pod::start(self.clone(), pod.clone(), tasks);
                self.workers.lock().insert(uid.clone(), worker);
            }
        }
    }

    async fn gone(&self, uid: &str) {
        let worker = self.workers.lock().get(uid).cloned();
        if let Some(worker) = worker {
            let _ = worker.send(Input::Gone).await;
        }
    }

    async fn end_unlisted(&self, listed: &HashSet<String>) {
        let unlisted: Vec<String> = self.workers.lock().keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in unlisted {
            self.gone(&uid).await;
        }
    }

    /// A worker has left.
    pub(crate) fn forget(&self, uid: &str) {
        self.workers.lock().remove(uid);
        self.pods.lock().retain(|_, pod| pod.metadata.uid.as_deref() != Some(uid));
    }

    /// The newest object of a pod.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The run folder of a pod.
    pub(crate) fn folder_of(&self, pod: &Pod) -> Folder {
        Folder::at(self.options.data_dir.join("pods").join(pod.metadata.uid.as_deref().unwrap_or("unnamed")))
    }

    /// What the shim of a pod must know.
    pub(crate) fn describe(&self, pod: &Pod) -> shim::protocol::Pod {
        let metadata = &pod.metadata;
        shim::protocol::Pod {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            hostname: crate::boxes::host_name(pod),
            isolation: self.isolation,
            boot_id: self.boot_id.clone(),
        }
    }

    /// This boot of the machine.
    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// What serves pods here, for their conditions.
    pub(crate) fn runtime_words(&self) -> (&'static str, &'static str) {
        match self.isolation {
            Isolation::Sandbox => ("Sandbox", "runs in namespaces of its own; shares the host's network"),
            Isolation::Process => {
                ("Process", "runs as a plain process without isolation, as its user; shares the host's network")
            }
        }
    }
}
