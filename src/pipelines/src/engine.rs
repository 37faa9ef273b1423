//! Decides what a run does next: state × event → rows to write and effects to carry out afterwards.
//!
//! The controller loads a [`state::State`], calls [`step::step`] with what happened, commits the [`Transition::writes`] in one
//! transaction and only then performs the effects, each of which may be repeated. Whatever a crash leaves undone follows
//! from the rows again ([`pending::pending`]).
//!
//! Invariant: pure. No clock, no randomness, no I/O: ids are derived from the run and the path, time arrives with the event,
//! the cache is a question to a trait.

pub mod cache;
pub mod executor_input;
pub mod inputs;
pub mod leaves;
pub mod outcome;
pub mod pending;
pub mod plan;
pub mod restart;
pub mod retry;
pub mod scopes;
pub mod state;
pub mod step;

#[cfg(test)]
mod simulation;

use jiff::Timestamp;
use serde_json::Value;

use crate::types::artifact::Artifact;
use crate::types::task::{CachedFrom, Failure, PodSummary, Task, Values};
use crate::types::{run, task};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run was accepted.
    Created,
    /// A step's command began.
    PodStarted {
        /// Which attempt.
        of: PodOf,
        /// When.
        at: Timestamp,
        /// What is kept of the pod.
        pod: PodSummary,
    },
    /// A step's pod ended, or cannot run.
    PodEnded {
        /// Which attempt.
        of: PodOf,
        /// How it ended.
        outcome: Outcome,
        /// When.
        at: Timestamp,
        /// What is kept of the pod.
        pod: PodSummary,
    },
    /// What a step waits for, in words for the page.
    PodWaits {
        /// Which attempt.
        of: PodOf,
        /// `1 pod is ahead of it`, `building its environment`.
        reason: String,
    },
    /// Time passed: retries may be due.
    Tick,
    /// Somebody asked the run to stop.
    Cancel,
    /// Somebody asked the run to go on after a failure.
    Retry,
}

/// Which attempt of which task a pod is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodOf {
    /// The task's path.
    pub path: String,
    /// The task's epoch.
    pub epoch: u32,
    /// The attempt.
    pub attempt: u32,
}

/// How a pod ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its command ended with 0 and its outputs were read.
    Succeeded(Values),
    /// It did not.
    Failed(Failure),
    /// The machine went down under it: it runs again, which counts as no failure of its own.
    Lost,
}

/// Something to do once the writes are on disk.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// See to it that the task's current attempt has a pod.
    EnsurePod {
        /// The task.
        path: String,
    },
    /// End the pod of the task's current attempt.
    StopPod {
        /// The task.
        path: String,
    },
    /// The result of this pod is recorded: let it go.
    ReleasePod {
        /// The pod.
        pod: String,
    },
    /// Come back at this time with a [`Event::Tick`].
    Wake {
        /// When.
        at: Timestamp,
    },
}

/// A row that a transition changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// The run's summary.
    Run(Box<run::Summary>),
    /// A task.
    Task(Box<Task>),
    /// A task that a retry made obsolete.
    Forget(String),
    /// The items of a loop, written once.
    Items(String, Vec<Item>),
    /// A result that later runs may take.
    Cache {
        /// The key.
        fingerprint: String,
        /// The task whose result it is.
        path: String,
    },
}

/// An item of a loop.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Item {
    /// A value.
    Value(Value),
    /// An artifact.
    Artifact(Box<Artifact>),
}

/// What follows from an event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transition {
    /// Rows to change, in one transaction.
    pub writes: Vec<Write>,
    /// What to do after the commit, each at least once.
    pub effects: Vec<Effect>,
}

/// The event does not fit the state; nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Only an unfinished run can be stopped.
    #[error("the run is {0:?} and cannot be canceled")]
    NotCancelable(run::State),
    /// Only a failed or stopped run can be retried.
    #[error("the run is {0:?}; only a failed or canceled run can be retried")]
    NotRetryable(run::State),
}

/// Earlier results, asked while deciding.
pub trait Cache {
    /// The newest result under this key in the run's namespace and pipeline.
    fn find(&self, fingerprint: &str) -> Option<Hit>;
    /// An artifact that an importer of this pipeline brought in before: same type, URI and metadata.
    fn find_imported(&self, wanted: &Artifact) -> Option<Artifact>;
}

/// A result that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The outputs.
    pub outputs: Values,
    /// Where they come from.
    pub from: CachedFrom,
}

/// The state a run shows for the state its root is in.
pub fn run_state(root: task::State) -> run::State {
    match root {
        task::State::Pending => run::State::Pending,
        task::State::Running => run::State::Running,
        task::State::Succeeded | task::State::Cached | task::State::Skipped => run::State::Succeeded,
        task::State::Failed => run::State::Failed,
        task::State::Canceling => run::State::Canceling,
        task::State::Canceled => run::State::Canceled,
    }
}
