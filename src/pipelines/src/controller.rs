//! Acts: carries out what the engine decided and tells it what happened.
//!
//! One worker per unfinished run owns its state in memory; one watch over all pods of steps feeds the workers. A worker
//! commits before it acts, so whatever a crash leaves undone is found again from the rows (`recovery` below is nothing but
//! starting the workers again).
//!
//! Invariant: speaks to Kubernetes through `kube::Client` only and never asks which API server answers.

mod archive;
mod collect;
mod effects;
mod janitor;
mod logs;
mod pods;
mod retention;
mod watch;
mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use artifacts::store::Store as Artifacts;
use foundation::backoff::Backoff;
use foundation::problem::chain;
use foundation::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use crate::engine::Event;
use crate::logs::LogBook;
use crate::store::{Error, Store};

/// Events of a run that its worker has not taken yet; more than that and the watch waits for it.
const MAILBOX: usize = 1024;
/// A worker that ended too early begins again after so long, at least and at most.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// Effects at once, over all runs.
const EFFECTS_AT_ONCE: usize = 32;

/// What a controller needs.
#[derive(Clone)]
pub struct Context {
    /// Runs.
    pub store: Store,
    /// Launch files and reports.
    pub artifacts: Artifacts,
    /// The cluster.
    pub client: kube::Client,
    /// Parent of everything it starts.
    pub tasks: Tasks,
    /// Logs of steps.
    pub logs: LogBook,
    /// Our own binary, to be the first process of each step.
    pub launcher: PathBuf,
}

/// Something for a worker.
#[derive(Debug)]
enum Message {
    /// Something happened to a pod.
    Happened(Box<Event>),
    /// Somebody else changed the run.
    Look,
    /// Pods may have gone unseen: see to every effect that is due.
    DoAgain,
}

/// The controller. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    context: Arc<Context>,
    workers: Arc<Mutex<HashMap<String, mpsc::Sender<Message>>>>,
    slots: Arc<Semaphore>,
    logs: logs::Logs,
    janitor: janitor::Janitor,
}

impl Controller {
    /// A controller that has not started.
    pub fn new(context: Context) -> Self {
        let logs = logs::Logs::new(context.client.clone(), context.logs.clone(), context.tasks.child("logs"));
        let janitor = janitor::Janitor::new(context.client.clone(), context.tasks.child("janitor"));
        Self {
            context: Arc::new(context),
            workers: Arc::default(),
            slots: Arc::new(Semaphore::new(EFFECTS_AT_ONCE)),
            logs,
            janitor,
        }
    }

    /// Takes up every unfinished run and goes on until the platform stops.
    ///
    /// # Errors
    /// When the unfinished runs cannot be read.
    pub fn start(&self) -> Result<(), Error> {
        let mut changes = self.context.store.changes();
        for run in self.context.store.active_runs()? {
            self.worker(&run);
        }
        let (own, cancelled) = (self.clone(), self.context.tasks.cancelled());
        self.context.tasks.spawn("runs", async move {
            tokio::pin!(cancelled);
            loop {
                tokio::select! {
                    () = &mut cancelled => return,
                    changed = changes.recv() => match changed {
                        Ok(run) => own.look(&run),
                        Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => own.look_at_all(),
                        Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                    },
                }
            }
        });
        let own = self.clone();
        self.context.tasks.spawn("pods", async move { own.watch_pods().await });
        let own = self.clone();
        self.context.tasks.spawn("archive", async move { own.archive_runs().await });
        let own = self.clone();
        self.context.tasks.spawn("retention", async move { own.retain().await });
        self.janitor.start();
        Ok(())
    }

    fn look(&self, run: &str) {
        let is_active = self.context.store.library().run(run).is_some_and(|run| !run.state.is_final());
        let known = self.workers.lock().get(run).cloned();
        match known {
            // A full mailbox means that the worker will look anyway.
            Some(worker) => drop(worker.try_send(Message::Look)),
            None if is_active => drop(self.worker(run)),
            None => {}
        }
    }

    fn look_at_all(&self) {
        match self.context.store.active_runs() {
            Ok(runs) => runs.iter().for_each(|run| self.look(run)),
            Err(error) => {
                tracing::error!(error = %chain(&error), "unfinished runs cannot be read")
            }
        }
    }

    /// The mailbox of a run's worker, which is started if there is none.
    fn worker(&self, run: &str) -> mpsc::Sender<Message> {
        let mut workers = self.workers.lock();
        if let Some(worker) = workers.get(run) {
            return worker.clone();
        }
        let (sender, mut receiver) = mpsc::channel(MAILBOX);
        workers.insert(run.to_owned(), sender.clone());
        let (own, id) = (self.clone(), run.to_owned());
        self.context.tasks.spawn("run", async move {
            let mut backoff = Backoff::new(AGAIN_MIN, AGAIN_MAX);
            loop {
                own.work(&id, &mut receiver).await;
                if own.dismiss(&id) || !own.context.tasks.pause(backoff.next_delay()).await {
                    return;
                }
            }
        });
        sender
    }

    /// Lets the worker of a run go that has nothing more to do; false when the run goes on: it was retried just now, and
    /// word of that is in this worker's mailbox, or it could not be loaded.
    fn dismiss(&self, run: &str) -> bool {
        let mut workers = self.workers.lock();
        match self.context.store.run_version(run) {
            Ok(Some(_)) => false,
            Ok(None) => {
                workers.remove(run);
                true
            }
            Err(error) => {
                tracing::error!(run.id = run, error = %chain(&error), "a run's version cannot be read");
                false
            }
        }
    }

    /// The watch over pods has begun anew: pods that went away in between are found missing by their runs.
    fn do_again(&self) {
        let workers: Vec<_> = self.workers.lock().values().cloned().collect();
        for worker in workers {
            // A full mailbox is a run that is told of its pods, which is what this is for.
            drop(worker.try_send(Message::DoAgain));
        }
    }
}
