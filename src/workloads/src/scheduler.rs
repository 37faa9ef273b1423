//! The scheduler: binds pods to nodes with room, in order of priority and age; what does not fit waits and says so.
//!
//! One watch of pods and one of nodes keep the accounting in memory; the end of a pod, a new pod or a changed node wakes
//! the next pass. Bindings run side by side, so that the store commits many at once.
//!
//! Invariant: the accounting never gives a node more than its allocatable pods, cpu and memory.

use std::collections::HashMap;
use std::time::Duration;

use foundation::clock::Clock;
use foundation::tasks::Tasks;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::time::Instant;

use crate::slim::{Node, Pod};

mod accounts;
mod writes;

use accounts::{Accounts, Placement};
use writes::Writer;

/// Bindings on their way at a time.
const BINDINGS_LIMIT: usize = 64;
/// How long a pod waits before it is told that it waits: most have been placed by then.
const PATIENCE: Duration = Duration::from_secs(1);
/// Waiting pods that are told per second, so that a long queue does not write more than the bindings do.
const TOLD_PER_TICK: usize = 20;

/// Starts the scheduler.
pub fn start(tasks: &Tasks, client: Client, clock: Clock) {
    let cancelled = tasks.cancelled();
    tasks.spawn("scheduler", async move {
        tokio::select! {
            () = cancelled => {}
            () = Scheduler::new(client, clock).run() => {}
        }
    });
}

/// What a finished write says.
enum Done {
    Bound { uid: String, success: bool },
    Told,
}

struct Scheduler {
    client: Client,
    accounts: Accounts,
    writer: Writer,
    /// Waiting pods: since when, and what they were told.
    waiting: HashMap<String, (Instant, Option<String>)>,
    pods_known: bool,
    nodes_known: bool,
    seen: std::collections::HashSet<String>,
}

impl Scheduler {
    fn new(client: Client, clock: Clock) -> Self {
        Self {
            writer: Writer::new(client.clone(), clock),
            client,
            accounts: Accounts::default(),
            waiting: HashMap::new(),
            pods_known: false,
            nodes_known: false,
            seen: std::collections::HashSet::new(),
        }
    }

    async fn run(mut self) {
        let config = watcher::Config::default().streaming_lists();
        let pods = watcher::watcher(Api::<Pod>::all(self.client.clone()), config.clone()).default_backoff();
        let nodes = watcher::watcher(Api::<Node>::all(self.client.clone()), config).default_backoff();
        let (mut pods, mut nodes) = (pods.boxed(), nodes.boxed());
        let mut writes = FuturesUnordered::new();
        let mut tick = tokio::time::interval(PATIENCE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(event) = pods.next() => self.on_pod(event),
                Some(event) = nodes.next() => self.on_node(event),
                Some(done) = writes.next() => self.on_done(done),
                _ = tick.tick() => {
                    for (pod, message) in self.untold() {
                        writes.push(self.writer.tell(pod, message).map(|()| Done::Told).boxed());
                    }
                }
            }
            drain(&mut pods, |event| self.on_pod(event));
            while let Some(Some(done)) = writes.next().now_or_never() {
                self.on_done(done);
            }
            let room = BINDINGS_LIMIT.saturating_sub(writes.len());
            for placement in self.pass(room) {
                let Placement { pod, node } = placement;
                let uid = pod.uid.clone();
                let bound = self.writer.bind(pod, node).map(move |success| Done::Bound { uid, success });
                writes.push(bound.boxed());
            }
        }
    }

    fn on_pod(&mut self, event: Result<Event<Pod>, watcher::Error>) {
        match event {
            Ok(Event::Init) => self.seen.clear(),
            Ok(Event::InitApply(pod)) => {
                self.seen.extend(pod.metadata.uid.clone());
                self.accounts.apply_pod(&pod);
            }
            Ok(Event::InitDone) => {
                self.pods_known = true;
                self.accounts.keep_pods(&self.seen);
                self.seen.clear();
            }
            Ok(Event::Apply(pod)) => self.accounts.apply_pod(&pod),
            Ok(Event::Delete(pod)) => {
                if let Some(uid) = &pod.metadata.uid {
                    self.accounts.remove_pod(uid);
                    self.waiting.remove(uid);
                }
            }
            Err(error) => tracing::debug!(%error, "the scheduler's watch of pods is interrupted"),
        }
    }

    fn on_node(&mut self, event: Result<Event<Node>, watcher::Error>) {
        match event {
            Ok(Event::InitApply(node) | Event::Apply(node)) => self.accounts.apply_node(&node),
            Ok(Event::Delete(node)) => self.accounts.remove_node(node.metadata.name.as_deref().unwrap_or_default()),
            Ok(Event::InitDone) => self.nodes_known = true,
            Ok(Event::Init) => {}
            Err(error) => tracing::debug!(%error, "the scheduler's watch of nodes is interrupted"),
        }
    }

    fn on_done(&mut self, done: Done) {
        if let Done::Bound { uid, success } = done {
            self.waiting.remove(&uid);
            if !success {
                self.accounts.release(&uid);
            }
        }
    }

    /// Places what fits; nothing before both watches have told what is there.
    fn pass(&mut self, room: usize) -> Vec<Placement> {
        if !self.pods_known || !self.nodes_known || room == 0 {
            return Vec::new();
        }
        self.accounts.place(room)
    }

    /// Pods that have waited long enough to be told why, or whose reason has changed.
    fn untold(&mut self) -> Vec<(accounts::Waiting, String)> {
        if !self.pods_known || !self.nodes_known {
            return Vec::new();
        }
        let now = Instant::now();
        let mut out = Vec::new();
        for pod in self.accounts.waiting() {
            let (since, told) = self.waiting.entry(pod.uid.clone()).or_insert((now, None));
            if now.duration_since(*since) < PATIENCE || out.len() >= TOLD_PER_TICK {
                continue;
            }
            let message = self.accounts.why(&pod);
            if told.as_deref() != Some(message.as_str()) {
                *told = Some(message.clone());
                out.push((pod, message));
            }
        }
        out
    }
}

/// Takes in what a stream has ready.
fn drain<T>(stream: &mut (impl Stream<Item = T> + Unpin), mut take: impl FnMut(T)) {
    while let Some(Some(item)) = stream.next().now_or_never() {
        take(item);
    }
}
