//! A run: one execution of a pipeline.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::experiment::Storage;
use super::task::Cell;

/// The state of a run. Source: KFP `RuntimeState`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Accepted, nothing started.
    #[default]
    Pending,
    /// At work.
    Running,
    /// Every task ended well or was skipped.
    Succeeded,
    /// A task failed for good.
    Failed,
    /// Somebody asked it to stop; steps are being ended.
    Canceling,
    /// It was stopped.
    Canceled,
}

impl State {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// A state and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// The state.
    pub state: State,
    /// When it began.
    pub at: Timestamp,
}

/// Who started a run, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedBy {
    /// The user's name.
    pub user: String,
    /// `ui`, `cli`, `sdk`, `api`.
    pub from: String,
}

/// Why a run failed: its first cause, kept with the run so that lists can say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstFailure {
    /// The task's scope path.
    pub task: String,
    /// What went wrong, verbatim.
    pub message: String,
}

/// What lists show of a run. Small, always in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Unique.
    pub id: String,
    /// What the user calls it.
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Where its pods run; never empty.
    pub namespace: String,
    /// Its experiment, by id and by the name it then had.
    pub experiment_id: String,
    /// The experiment's name when the run was made.
    pub experiment_name: String,
    /// The pipeline, if the run is of a stored one.
    #[serde(default)]
    pub pipeline_id: Option<String>,
    /// The version, if the run is of a stored one.
    #[serde(default)]
    pub version_id: Option<String>,
    /// `pipelineInfo.name`.
    pub pipeline_name: String,
    /// The version's display name when the run was made.
    #[serde(default)]
    pub version_name: Option<String>,
    /// The state.
    pub state: State,
    /// Whether it is archived.
    #[serde(default)]
    pub storage: Storage,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was to start.
    pub scheduled_at: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// All states so far.
    #[serde(default)]
    pub history: Vec<Since>,
    /// Who started it.
    #[serde(default)]
    pub started_by: StartedBy,
    /// Leaf tasks that ended, and leaf tasks known.
    #[serde(default)]
    pub steps_done: u32,
    /// See `steps_done`; grows while loops open.
    #[serde(default)]
    pub steps_known: u32,
    /// One cell per root-level task, in topological order.
    #[serde(default)]
    pub strip: Vec<Cell>,
    /// The first cause of a failure.
    #[serde(default)]
    pub failure: Option<FirstFailure>,
    /// Scalar metrics by `task.output.key`.
    #[serde(default)]
    pub metrics: Map<String, Value>,
}

/// What a run was asked to do. Written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The package ([`crate::ir::package::Package::document`]).
    pub document: Value,
    /// Parameters as given, macros replaced.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Where its artifacts go: `minio://mlpipeline/v2/artifacts` unless the user says otherwise.
    pub pipeline_root: String,
    /// The pod's service account; empty is the default one.
    #[serde(default)]
    pub service_account: String,
    /// The run's name as Kubernetes sees it: pipeline name and five characters.
    pub resource_name: String,
    /// `pipeline_root` as the client sent it, to be echoed.
    #[serde(default)]
    pub pipeline_root_given: String,
}
