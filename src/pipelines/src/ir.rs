//! The intermediate representation (IR) of a pipeline: what the SDK compiles and what the engine runs.
//!
//! The types mirror `pipeline_spec.proto` (KFP `PipelineSpec`, schema 2.1.0) in its JSON form (camelCase). Only what the
//! engine acts on is typed; what clients get back is the document as they sent it ([`package::Package::document`]).
//!
//! Invariant: pure. A document that parsed and validated can be run without asking anybody.

mod deployment;
pub mod expressions;
mod numbers;
pub mod package;
pub mod placeholders;
pub mod platform;
pub mod requirements;
pub mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use deployment::{Accelerator, Container, DeploymentSpec, EnvVar, Executor, Importer, Resources};
pub use numbers::whole_numbers;

/// The schema version that we run. Source: KFP `PipelineSpec.schema_version`.
pub const SCHEMA_VERSION: &str = "2.1.0";

/// KFP `PipelineSpec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineSpec {
    /// Name and description.
    pub pipeline_info: PipelineInfo,
    /// `kfp-2.17.0`.
    #[serde(default)]
    pub sdk_version: String,
    /// Must be [`SCHEMA_VERSION`].
    pub schema_version: String,
    /// The outermost DAG.
    pub root: Component,
    /// Components by name (`comp-…`).
    #[serde(default)]
    pub components: BTreeMap<String, Component>,
    /// What container tasks run.
    #[serde(default)]
    pub deployment_spec: DeploymentSpec,
}

/// KFP `PipelineInfo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineInfo {
    /// The pipeline's name; not empty.
    #[serde(default)]
    pub name: String,
    /// What pages show instead.
    #[serde(default)]
    pub display_name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
}

/// KFP `ComponentSpec`: a DAG or a label of an executor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Component {
    /// What it takes.
    pub input_definitions: InputDefinitions,
    /// What it makes.
    pub output_definitions: OutputDefinitions,
    /// Its tasks, if it is a DAG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dag: Option<Dag>,
    /// Its executor, if it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor_label: Option<String>,
}

/// KFP `ComponentInputsSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InputDefinitions {
    /// By name.
    pub parameters: BTreeMap<String, InputParameter>,
    /// By name.
    pub artifacts: BTreeMap<String, InputArtifact>,
}

/// KFP `ComponentOutputsSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputDefinitions {
    /// By name.
    pub parameters: BTreeMap<String, OutputParameter>,
    /// By name.
    pub artifacts: BTreeMap<String, OutputArtifact>,
}

/// KFP `ParameterType.ParameterTypeEnum`, with the names of the older `PrimitiveType` as aliases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ParameterType {
    /// Nothing was said.
    #[default]
    #[serde(rename = "PARAMETER_TYPE_ENUM_UNSPECIFIED")]
    Unspecified,
    /// A float.
    #[serde(alias = "DOUBLE")]
    NumberDouble,
    /// A whole number.
    #[serde(alias = "INT")]
    NumberInteger,
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// A JSON list.
    List,
    /// A JSON object.
    Struct,
    /// How an upstream task ended; the engine makes the value.
    TaskFinalStatus,
    /// Kubernetes settings that the component applies itself.
    TaskConfig,
}

/// KFP `ComponentInputsSpec.ParameterSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InputParameter {
    /// Its type; older documents say `type`.
    #[serde(alias = "type")]
    pub parameter_type: ParameterType,
    /// Taken when nothing is passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_value: Option<Value>,
    /// Whether nothing may be passed.
    pub is_optional: bool,
    /// Free text.
    pub description: String,
    /// The only values allowed, if any are named.
    pub literals: Vec<Value>,
}

/// KFP `ComponentInputsSpec.ArtifactSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InputArtifact {
    /// What kind of artifact.
    pub artifact_type: Value,
    /// Whether a list of them.
    pub is_artifact_list: bool,
    /// Whether nothing may be passed.
    pub is_optional: bool,
}

/// KFP `ComponentOutputsSpec.ParameterSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutputParameter {
    /// Its type; older documents say `type`.
    #[serde(alias = "type")]
    pub parameter_type: ParameterType,
}

/// KFP `ComponentOutputsSpec.ArtifactSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutputArtifact {
    /// What kind of artifact.
    pub artifact_type: Value,
    /// What every such artifact says of itself.
    pub metadata: serde_json::Map<String, Value>,
    /// Whether a list of them.
    pub is_artifact_list: bool,
}

/// KFP `DagSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dag {
    /// Tasks by name.
    pub tasks: BTreeMap<String, Task>,
    /// Where the DAG's outputs come from.
    pub outputs: DagOutputs,
}

/// KFP `DagOutputsSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DagOutputs {
    /// By name of the DAG's output.
    pub parameters: BTreeMap<String, DagOutputParameter>,
    /// By name of the DAG's output.
    pub artifacts: BTreeMap<String, DagOutputArtifact>,
}

/// KFP `DagOutputsSpec.DagOutputParameterSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DagOutputParameter {
    /// From one task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from_parameter: Option<ParameterSelector>,
    /// From the first of several that ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from_oneof: Option<ParameterSelectors>,
}

impl DagOutputParameter {
    /// Where the value may come from, best first.
    pub fn selectors(&self) -> &[ParameterSelector] {
        match (&self.value_from_parameter, &self.value_from_oneof) {
            (Some(one), _) => std::slice::from_ref(one),
            (None, Some(many)) => &many.parameter_selectors,
            (None, None) => &[],
        }
    }
}

/// KFP `DagOutputsSpec.ParameterSelectorsSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParameterSelectors {
    /// In the order of the branches.
    pub parameter_selectors: Vec<ParameterSelector>,
}

/// KFP `DagOutputsSpec.ParameterSelectorSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParameterSelector {
    /// The task within the DAG.
    pub producer_subtask: String,
    /// Its output.
    pub output_parameter_key: String,
}

/// KFP `DagOutputsSpec.DagOutputArtifactSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DagOutputArtifact {
    /// One, or the branches of a OneOf.
    pub artifact_selectors: Vec<ArtifactSelector>,
}

/// KFP `DagOutputsSpec.ArtifactSelectorSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactSelector {
    /// The task within the DAG.
    pub producer_subtask: String,
    /// Its output.
    pub output_artifact_key: String,
}

/// KFP `PipelineTaskSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    /// Display name.
    pub task_info: TaskInfo,
    /// The component it runs.
    pub component_ref: ComponentRef,
    /// Tasks of the same DAG that must have ended before.
    pub dependent_tasks: Vec<String>,
    /// Where its inputs come from.
    pub inputs: TaskInputs,
    /// Whether an earlier result may be used.
    pub caching_options: CachingOptions,
    /// Whether it runs again after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// When it runs.
    pub trigger_policy: TriggerPolicy,
    /// How many iterations at once.
    pub iterator_policy: IteratorPolicy,
    /// A loop over values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter_iterator: Option<ParameterIterator>,
    /// A loop over artifacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_iterator: Option<ArtifactIterator>,
}

impl Task {
    /// Whether the task is a loop.
    pub fn is_loop(&self) -> bool {
        self.parameter_iterator.is_some() || self.artifact_iterator.is_some()
    }

    /// Whether it runs however the tasks before it ended.
    pub fn runs_after_failure(&self) -> bool {
        self.trigger_policy.strategy == Strategy::AllUpstreamTasksCompleted
    }
}

/// KFP `PipelineTaskInfo`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskInfo {
    /// What pages show.
    pub name: String,
}

/// KFP `ComponentRef`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ComponentRef {
    /// `comp-…`.
    pub name: String,
}

/// KFP `TaskInputsSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskInputs {
    /// By name of the component's input (or of a channel that is only substituted).
    pub parameters: BTreeMap<String, ParameterSource>,
    /// By name of the component's input.
    pub artifacts: BTreeMap<String, ArtifactSource>,
}

/// KFP `TaskInputsSpec.InputParameterSpec`: one of the first four is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParameterSource {
    /// A value that the document holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_value: Option<RuntimeValue>,
    /// An input of the DAG around the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component_input_parameter: Option<String>,
    /// An output of a task of the same DAG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_output_parameter: Option<TaskOutputParameter>,
    /// How a task of the same DAG ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_final_status: Option<TaskFinalStatus>,
    /// A part of the value: `parseJson(string_value)["key"]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parameter_expression_selector: String,
}

/// KFP `ValueOrRuntimeParameter`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeValue {
    /// The value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<Value>,
    /// The value in the oldest documents: `{"stringValue": "x"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant_value: Option<Value>,
    /// A parameter of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_parameter: Option<String>,
}

/// KFP `TaskInputsSpec.InputParameterSpec.TaskOutputParameterSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskOutputParameter {
    /// The task.
    pub producer_task: String,
    /// Its output.
    pub output_parameter_key: String,
}

/// KFP `TaskInputsSpec.InputParameterSpec.TaskFinalStatus`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskFinalStatus {
    /// The task.
    pub producer_task: String,
}

/// KFP `TaskInputsSpec.InputArtifactSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactSource {
    /// An output of a task of the same DAG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_output_artifact: Option<TaskOutputArtifact>,
    /// An input of the DAG around the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component_input_artifact: Option<String>,
}

/// KFP `TaskInputsSpec.InputArtifactSpec.TaskOutputArtifactSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskOutputArtifact {
    /// The task.
    pub producer_task: String,
    /// Its output.
    pub output_artifact_key: String,
}

/// KFP `PipelineTaskSpec.CachingOptions`; empty means off.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CachingOptions {
    /// Whether an earlier result may be used.
    pub enable_cache: bool,
    /// A key of the user's that replaces the fingerprint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cache_key: String,
}

/// KFP `PipelineTaskSpec.RetryPolicy`; durations as `"10s"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryPolicy {
    /// Further attempts after the first.
    pub max_retry_count: u32,
    /// Before the first retry.
    pub backoff_duration: Option<String>,
    /// Growth of it.
    pub backoff_factor: Option<f64>,
    /// Its limit.
    pub backoff_max_duration: Option<String>,
}

/// KFP `PipelineTaskSpec.TriggerPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerPolicy {
    /// A CEL expression over the task's inputs; empty is true.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// What must have become of the tasks before it.
    pub strategy: Strategy,
}

/// KFP `PipelineTaskSpec.TriggerPolicy.TriggerStrategy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Strategy {
    /// As the next.
    #[default]
    TriggerStrategyUnspecified,
    /// All of them succeeded.
    AllUpstreamTasksSucceeded,
    /// All of them ended, one way or another.
    AllUpstreamTasksCompleted,
}

/// KFP `PipelineTaskSpec.IteratorPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IteratorPolicy {
    /// Iterations at once; 0 is no limit.
    pub parallelism_limit: u32,
}

/// KFP `ParameterIteratorSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParameterIterator {
    /// What to loop over.
    pub items: ParameterItems,
    /// The input that holds the item of an iteration.
    pub item_input: String,
}

/// KFP `ParameterIteratorSpec.ItemsSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParameterItems {
    /// A JSON list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// An input of the task that holds a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_parameter: Option<String>,
}

/// KFP `ArtifactIteratorSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactIterator {
    /// What to loop over.
    pub items: ArtifactItems,
    /// The input that holds the artifact of an iteration.
    pub item_input: String,
}

/// KFP `ArtifactIteratorSpec.ItemsSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactItems {
    /// An input of the task that holds a list of artifacts.
    pub input_artifact: String,
}
