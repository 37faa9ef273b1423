//! The ExecutorInput of a step: what its command sees of its inputs and where its outputs go.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::ir::Component;
use crate::types::artifact::Artifact;
use crate::types::run::{Request, Summary};
use crate::types::task::{Task, Values};

/// Where a step writes a parameter. Source: KFP's launcher.
pub const OUTPUT_PARAMETERS_DIR: &str = "/tmp/kfp/outputs";
/// The file of an ExecutorOutput within the task's prefix. The SDK derives `dsl.get_uri` from its folder.
pub const OUTPUT_METADATA_FILE: &str = "output_metadata.json";

/// The id of a task, derived so that whoever asks again gets the same.
pub fn task_id(run_id: &str, path: &str, epoch: u32) -> String {
    let mut hash = Sha256::new();
    for part in [run_id.as_bytes(), path.as_bytes(), &epoch.to_be_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// The prefix of everything that a task writes: `<root>/<pipeline>/<run>/<task>/<id>`. A query string in the root is not
/// copied. Source: KFP's driver.
pub fn task_root(request: &Request, run: &Summary, task: &Task) -> String {
    let root = request.pipeline_root.split('?').next().unwrap_or_default().trim_end_matches('/');
    let id = task_id(&run.id, &task.path, task.epoch);
    format!("{root}/{}/{}/{}/{id}", run.pipeline_name, run.id, task.name)
}

/// The artifacts that a task is to make, with the URIs they will have.
pub fn output_artifacts(component: &Component, task_root: &str) -> Vec<(String, Value)> {
    let outputs = component.output_definitions.artifacts.iter();
    outputs
        .map(|(name, output)| {
            let artifact = json!({
                "name": name,
                "type": output.artifact_type,
                "uri": format!("{task_root}/{name}"),
                "metadata": output.metadata,
            });
            (name.clone(), artifact)
        })
        .collect()
}

/// The inputs in the form of an ExecutorInput. With `defaults`, those of the component fill what is not there.
pub fn inputs(values: &Values, component: &Component, defaults: bool) -> Value {
    let mut parameters: Map<String, Value> = values.parameters.clone();
    if defaults {
        for (name, input) in &component.input_definitions.parameters {
            if let Some(default) = &input.default_value {
                parameters.entry(name.clone()).or_insert_with(|| default.clone());
            }
        }
    }
    let artifacts: Map<String, Value> = values
        .artifacts
        .iter()
        .map(|(name, list)| (name.clone(), json!({"artifacts": list.iter().map(runtime_artifact).collect::<Vec<_>>()})))
        .collect();
    let mut inputs = Map::new();
    if !parameters.is_empty() {
        inputs.insert("parameterValues".to_owned(), Value::Object(parameters));
    }
    if !artifacts.is_empty() {
        inputs.insert("artifacts".to_owned(), Value::Object(artifacts));
    }
    Value::Object(inputs)
}

/// The whole ExecutorInput of a step. `metadata_path` is where the step finds its task's prefix.
pub fn build(task: &Task, component: &Component, task_root: &str, metadata_path: &str) -> Value {
    let mut outputs = Map::new();
    let parameters: Map<String, Value> = component
        .output_definitions
        .parameters
        .keys()
        .map(|name| (name.clone(), json!({"outputFile": format!("{OUTPUT_PARAMETERS_DIR}/{name}")})))
        .collect();
    if !parameters.is_empty() {
        outputs.insert("parameters".to_owned(), Value::Object(parameters));
    }
    let artifacts: Map<String, Value> = output_artifacts(component, task_root)
        .into_iter()
        .map(|(name, artifact)| (name, json!({"artifacts": [artifact]})))
        .collect();
    if !artifacts.is_empty() {
        outputs.insert("artifacts".to_owned(), Value::Object(artifacts));
    }
    outputs.insert("outputFile".to_owned(), Value::String(format!("{metadata_path}/{OUTPUT_METADATA_FILE}")));
    json!({"inputs": inputs(&task.inputs, component, true), "outputs": outputs})
}

/// An input artifact; its name is its id, as text. Source: KFP's driver.
fn runtime_artifact(artifact: &Artifact) -> Value {
    let mut value = json!({
        "name": artifact.id,
        "type": artifact.kind,
        "uri": artifact.uri,
        "metadata": artifact.metadata,
    });
    if let Some(path) = &artifact.custom_path {
        value["customPath"] = Value::String(path.clone());
    }
    value
}
