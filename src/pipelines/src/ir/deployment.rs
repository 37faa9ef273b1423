//! What the tasks of a pipeline run: KFP `PipelineDeploymentConfig`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RuntimeValue;

/// KFP `PipelineDeploymentConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentSpec {
    /// By label (`exec-…`).
    pub executors: BTreeMap<String, Executor>,
}

/// KFP `PipelineDeploymentConfig.ExecutorSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Executor {
    /// A command in an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Brings something that exists into the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importer: Option<Importer>,
    /// Vertex only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<Value>,
    /// Vertex only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_job: Option<Value>,
}

/// KFP `PipelineDeploymentConfig.PipelineContainerSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// May hold placeholders of parameters.
    pub image: String,
    /// Entry point.
    pub command: Vec<String>,
    /// Arguments.
    pub args: Vec<String>,
    /// Variables.
    pub env: Vec<EnvVar>,
    /// CPU, memory, accelerators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// A variable of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value, with Kubernetes' `$(VAR)` expansion.
    pub value: String,
}

/// KFP `PipelineContainerSpec.ResourceSpec`: the strings win over the older numbers (cores, GB).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are Kubernetes' own words")]
pub struct Resources {
    pub cpu_limit: f64,
    pub memory_limit: f64,
    pub cpu_request: f64,
    pub memory_request: f64,
    pub resource_cpu_limit: String,
    pub resource_memory_limit: String,
    pub resource_cpu_request: String,
    pub resource_memory_request: String,
    pub accelerator: Option<Accelerator>,
}

/// KFP `PipelineContainerSpec.ResourceSpec.AcceleratorConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Accelerator {
    /// Older name of the resource.
    #[serde(rename = "type")]
    pub kind: String,
    /// Older count.
    pub count: Value,
    /// The Kubernetes resource, such as `nvidia.com/gpu`.
    pub resource_type: String,
    /// How many; may hold a placeholder.
    pub resource_count: String,
}

/// KFP `PipelineDeploymentConfig.ImporterSpec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Importer {
    /// The URI, unless the task's input `uri` says it.
    pub artifact_uri: RuntimeValue,
    /// What kind of artifact.
    pub type_schema: Value,
    /// What it says of itself; strings may hold placeholders.
    pub metadata: serde_json::Map<String, Value>,
    /// Whether to make a new artifact even if the same was imported before.
    pub reimport: bool,
    /// Whether the content must be copied to the run's workspace.
    pub download_to_workspace: bool,
}
