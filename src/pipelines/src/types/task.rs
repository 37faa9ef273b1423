//! A task: one instance of a task of the IR within a run, addressed by its scope path.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::artifact::Artifact;

/// The path of the root.
pub const ROOT: &str = "";

/// What a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The whole pipeline.
    Root,
    /// A nested pipeline, an exit scope or the branches of a condition.
    Dag,
    /// A branch: a DAG with a condition.
    Condition,
    /// A loop; its children are iterations.
    Loop,
    /// One turn of a loop.
    Iteration,
    /// A command in a pod.
    Container,
    /// Something that exists, brought into the run.
    Importer,
}

impl Kind {
    /// Whether it is counted as a step.
    pub fn is_leaf(self) -> bool {
        matches!(self, Self::Container | Self::Importer)
    }
}

/// The state of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Waits for others, for a slot or for its next attempt.
    #[default]
    Pending,
    /// At work: a pod exists, or children do.
    Running,
    /// Ended well.
    Succeeded,
    /// Served from the cache.
    Cached,
    /// Its condition was false, or it was not needed.
    Skipped,
    /// Failed for good.
    Failed,
    /// Being stopped.
    Canceling,
    /// Stopped, or never started because the run was stopped.
    Canceled,
}

impl State {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Cached | Self::Skipped | Self::Failed | Self::Canceled)
    }

    /// Whether its outputs may be used.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::Cached)
    }
}

/// One cell of a run's strip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The task's name.
    pub task: String,
    /// Its state.
    pub state: State,
}

/// Values by name: parameters as JSON, artifacts as lists (a plain artifact is a list of one).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Values {
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, Vec<Artifact>>,
}

/// Why a task failed, or why it was not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// What went wrong: a process's own words verbatim, else a sentence of ours.
    pub message: String,
    /// `Error`, `OOMKilled`, `ErrImagePull`, `DeadlineExceeded` …
    pub reason: String,
    /// Of the command.
    pub exit_code: Option<i32>,
    /// The end of its log.
    pub last_lines: Vec<String>,
}

/// An attempt that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, from 0.
    pub number: u32,
    /// The pod's name.
    pub pod: String,
    /// When its command began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it failed.
    pub failure: Failure,
}

/// When things happened to a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    /// The row was made.
    pub created_at: Timestamp,
    /// Nothing it waited for was missing any more.
    pub ready_at: Option<Timestamp>,
    /// Its pod was asked for.
    pub pod_created_at: Option<Timestamp>,
    /// Its command began.
    pub started_at: Option<Timestamp>,
    /// It ended.
    pub ended_at: Option<Timestamp>,
}

/// What is kept of a step's pod after the pod is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSummary {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Where it ran.
    pub node: String,
    /// What it was told to run.
    pub image: String,
    /// What the node says of how it ran: the runtime, what stood in for the image.
    pub notes: Vec<String>,
}

/// A task of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Scope path, unique in the run: `for-loop-1/5/train`; [`ROOT`] for the root.
    pub path: String,
    /// Its key in the DAG; the index of an iteration; the pipeline's name for the root.
    pub name: String,
    /// What pages show.
    pub display_name: String,
    /// What it is.
    pub kind: Kind,
    /// The component that it runs.
    pub component: String,
    /// Its state.
    #[serde(default)]
    pub state: State,
    /// Of an iteration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<u32>,
    /// What it waits for, in words; empty when it does not wait.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waits_for: String,
    /// Resolved inputs.
    #[serde(default)]
    pub inputs: Values,
    /// Outputs, once it ended well.
    #[serde(default)]
    pub outputs: Values,
    /// Grows when a retry of the run or of a DAG around it starts it anew.
    #[serde(default)]
    pub epoch: u32,
    /// The attempt that is running or was last; from 0.
    #[serde(default)]
    pub attempt: u32,
    /// Attempts that are over and did not end the task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Of those, the ones that count against the retry policy: an attempt that the machine lost does not.
    #[serde(default)]
    pub retries_used: u32,
    /// When the next attempt may begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When things happened.
    #[serde(default)]
    pub times: Times,
    /// The pod of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSummary>,
    /// The cache key, for a step that may be cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The run and task whose result was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_from: Option<CachedFrom>,
    /// How many iterations a loop has, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u32>,
}

/// Where a cached result came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedFrom {
    /// The run.
    pub run_id: String,
    /// The task's path in it.
    pub task: String,
    /// When that task ended.
    pub at: Timestamp,
}

/// The path of the scope around a path; `None` for the root.
pub fn parent(path: &str) -> Option<&str> {
    if path == ROOT {
        return None;
    }
    Some(path.rsplit_once('/').map_or(ROOT, |(parent, _)| parent))
}

/// The path of a child.
pub fn child(scope: &str, name: &str) -> String {
    if scope == ROOT { name.to_owned() } else { format!("{scope}/{name}") }
}
