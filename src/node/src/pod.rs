//! One worker per pod: turns what it hears (the object, its shim, time) into steps, carries out effects, shows the status.
//!
//! Started by `agent`; ends when the object is gone from the API and nothing of the pod is left.
//! Invariant: only this task changes the pod's state; effects run beside it and report back as [`Input`]s.

mod effects;
mod observed;
mod probes;
pub mod state;
pub mod status;
pub mod step;
mod writer;

use crate::agent::{Shared, beside};
use crate::connection::Connection;
use crate::volumes::Volumes;
use foundation::tasks::Tasks;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use shim::folder::Folder;
use state::{Effect, Event, Now, Plan, Sandbox, State};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Inputs that may wait for a worker; whoever sends waits when it is full.
pub const INPUTS_MAX: usize = 64;
/// `ContainerCreating` is shown only if creating takes longer than this: most pods run before anybody could have seen it.
const CREATING_SHOWN_AFTER: SignedDuration = SignedDuration::from_millis(60);
/// A worker without anything to wait for looks around this often.
const IDLE: Duration = Duration::from_secs(3600);

/// What a worker hears.
pub enum Input {
    /// The object changed (or is seen first).
    Object(Arc<Pod>),
    /// The object is gone from the API.
    Gone,
    /// An effect reports.
    Event(Event),
    /// The sandbox is there.
    Connected(Connection, Volumes, shim::protocol::State),
    /// An image turned out to be this.
    Image {
        /// Which container's.
        container: usize,
        /// Its id.
        id: String,
    },
    /// The shim says what is.
    Shim(shim::protocol::State),
    /// The connection to the shim ended.
    ShimGone,
    /// A status is stored (its number).
    Written(u64),
}

/// A status to be written, and its number.
type Shown = Option<(u64, PodStatus)>;

/// The worker.
pub struct Worker {
    shared: Arc<Shared>,
    tasks: Tasks,
    inputs: mpsc::Sender<Input>,
    pod: Arc<Pod>,
    folder: Folder,
    plan: Plan,
    state: State,
    connection: Option<Connection>,
    volumes: Arc<Volumes>,
    image_ids: Vec<String>,
    /// The probes of the attempts that run.
    probing: HashMap<usize, (u32, Tasks)>,
    /// Attempts whose start was told.
    announced: HashSet<(usize, u32)>,
    shown: PodStatus,
    number: u64,
    statuses: watch::Sender<Shown>,
    gone: bool,
    /// The object was in a terminal phase when this worker first saw it: its status is never written again.
    finished: bool,
}

/// Starts the worker of a pod and returns where its inputs go.
pub fn start(shared: Arc<Shared>, pod: Arc<Pod>, tasks: &Tasks) -> mpsc::Sender<Input> {
    let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
    let own = tasks.child("pod");
    let sender = inputs.clone();
    let (statuses, newest) = watch::channel(None);
    beside(&own, "status", writer::run(shared.clone(), pod.clone(), newest, inputs.clone()));
    let plan = status::plan(&pod);
    let folder = shared.folder_of(&pod);
    let worker = Worker {
        state: State::fresh(&plan),
        image_ids: vec![String::new(); plan.kinds.len()],
        plan,
        folder,
        shared,
        tasks: own.clone(),
        inputs,
        shown: pod.status.clone().unwrap_or_default(),
        pod,
        connection: None,
        volumes: Arc::default(),
        probing: HashMap::new(),
        announced: HashSet::new(),
        number: 0,
        statuses,
        gone: false,
        finished: false,
    };
    beside(&own, "worker", worker.run(receiver));
    sender
}

impl Worker {
    async fn run(mut self, mut receiver: mpsc::Receiver<Input>) {
        if !self.take_back().await {
            self.happen(Event::Accepted).await;
        }
        self.on_object(self.pod.clone()).await;
        self.show().await;
        while !self.gone {
            let input = match tokio::time::timeout(self.wait(), receiver.recv()).await {
                Ok(Some(input)) => input,
                Ok(None) => return,
                Err(_) => Input::Event(Event::Tick),
            };
            self.hear(input).await;
            // Whatever else is there already is part of the same picture.
            while let Ok(input) = receiver.try_recv() {
                self.hear(input).await;
            }
            self.show().await;
        }
        self.leave().await;
    }

    /// How long nothing needs to be looked at.
    fn wait(&self) -> Duration {
        let now = self.shared.clock.now();
        let deferred = self.creating_until().filter(|at| *at > now);
        let wake = [self.state.wake_at(&self.plan), deferred].into_iter().flatten().min();
        wake.map_or(IDLE, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO).max(Duration::from_millis(1))
        })
    }

    async fn hear(&mut self, input: Input) {
        match input {
            Input::Object(pod) => self.on_object(pod).await,
            Input::Gone => self.gone = true,
            Input::Event(event) => self.happen(event).await,
            Input::Connected(connection, volumes, state) => {
                self.connection = Some(connection);
                self.volumes = Arc::new(volumes);
                self.happen(Event::SandboxReady).await;
                self.on_shim(&state).await;
            }
            Input::Image { container, id } => {
                if let Some(place) = self.image_ids.get_mut(container) {
                    *place = id;
                }
            }
            Input::Shim(state) => self.on_shim(&state).await,
            Input::ShimGone => self.on_shim_gone().await,
            Input::Written(number) if number == self.number => self.happen(Event::StatusWritten).await,
            Input::Written(_) => {}
        }
    }

    async fn on_object(&mut self, pod: Arc<Pod>) {
        let deleted = pod.metadata.deletion_timestamp.is_some();
        let grace = pod.metadata.deletion_grace_period_seconds;
        // A deadline may be set later; nothing else of the plan can change.
        self.plan.deadline =
            pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).map(SignedDuration::from_secs);
        self.pod = pod;
        if deleted {
            let grace = grace.map_or(self.plan.grace, SignedDuration::from_secs);
            self.happen(Event::Delete { grace }).await;
        }
    }

    /// One step and what follows from it.
    async fn happen(&mut self, event: Event) {
        let now = self.shared.clock.now();
        for effect in step::step(&self.plan, &mut self.state, event, now) {
            self.perform(effect).await;
        }
        self.watch_over();
    }

    /// Starts the probes of attempts that run and ends those of attempts that do not.
    fn watch_over(&mut self) {
        for index in 0..self.state.containers.len() {
            let one = &self.state.containers[index];
            let running = matches!(one.now, Now::Running(_)) && !one.terminated && self.state.ending.is_none();
            let attempt = one.attempt;
            let known = self.probing.get(&index).map(|(attempt, _)| *attempt);
            if known.is_some() && (!running || known != Some(attempt)) {
                self.probing.remove(&index).into_iter().for_each(|(_, tasks)| tasks.token().cancel());
            }
            let Some(container) =
                self.container(index).filter(|container| running && probes::has_any(container)).cloned()
            else {
                continue;
            };
            if self.probing.contains_key(&index) {
                continue;
            }
            let Some(connection) = self.connection.clone() else { continue };
            let tasks = self.tasks.child("probes");
            let probing = probes::Probing {
                shared: self.shared.clone(),
                pod: self.pod.clone(),
                container,
                index,
                field: self.field(index),
                connection,
                inputs: self.inputs.clone(),
            };
            beside(&tasks, "probes", probing.run());
            self.probing.insert(index, (attempt, tasks));
        }
    }

    /// Shows the status if it says something new.
    async fn show(&mut self) {
        let now = self.shared.clock.now();
        if self.finished || self.creating_until().is_some_and(|at| at > now) {
            return;
        }
        let around = status::Surroundings {
            pod: &self.pod,
            host_ip: &self.shared.host_ip,
            runtime: self.shared.runtime_words(),
            image_ids: &self.image_ids,
        };
        let status = status::render(&self.plan, &self.state, &around, &self.shown, now);
        if status == self.shown {
            let settled = step::is_over(&self.state) && !self.state.released;
            if settled && self.number == 0 {
                Box::pin(self.happen(Event::StatusWritten)).await;
            }
            return;
        }
        self.shown = status.clone();
        self.number += 1;
        self.statuses.send_replace(Some((self.number, status)));
    }

    /// Until when the first status is held back, if it says no more than that the pod is being created.
    fn creating_until(&self) -> Option<jiff::Timestamp> {
        let plain = |now: &Now| match now {
            Now::Launching => true,
            Now::Waiting(waiting) => waiting.reason.is_none(),
            Now::Running(_) | Now::Ended(_) => false,
        };
        let creating = self.state.ending.is_none() && self.state.containers.iter().all(|one| plain(&one.now));
        let creating = creating && self.state.sandbox != Sandbox::Over && self.number == 0;
        creating.then(|| self.state.started_at?.checked_add(CREATING_SHOWN_AFTER).ok()).flatten()
    }

    /// The container at an index of the plan.
    fn container(&self, index: usize) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.init_containers.iter().flatten().chain(&spec.containers).nth(index)
    }

    /// The index of a container in the plan.
    fn index_of(&self, name: &str) -> Option<usize> {
        let spec = self.pod.spec.as_ref()?;
        spec.init_containers.iter().flatten().chain(&spec.containers).position(|container| container.name == name)
    }

    /// How Events name a container.
    fn field(&self, index: usize) -> Option<String> {
        let inits = self.pod.spec.as_ref()?.init_containers.as_ref().map_or(0, Vec::len);
        let list = if index < inits { "initContainers" } else { "containers" };
        Some(format!("spec.{list}{{{}}}", self.container(index)?.name))
    }

    async fn perform(&mut self, effect: Effect) {
        effects::perform(self, effect).await;
    }

    /// The object is gone: nothing of the pod stays.
    async fn leave(self) {
        let Self { connection, folder, .. } = &self;
        if let Some(connection) = connection {
            let _ = connection.send(&shim::protocol::Request::Release).await;
        }
        let folder = folder.clone();
        let _ = foundation::tasks::blocking("remove pod", move || crate::down::remove(&folder)).await;
        self.shared.forget(self.pod.metadata.uid.as_deref().unwrap_or_default());
        self.tasks.token().cancel();
    }
}
