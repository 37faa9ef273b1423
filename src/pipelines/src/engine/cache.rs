//! The key under which a step's result is found again.
//!
//! Source: KFP's `CacheKey` message: names of input artifacts, values of input parameters, the shape of the outputs, image
//! and raw command. Environment, resources and defaults are not part of it.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::executor_input::output_artifacts;
use crate::ir::{Component, Container};
use crate::types::task::Values;

/// The fingerprint of a step, or of the user's own key for it.
pub fn fingerprint(
    component_name: &str,
    component: &Component,
    container: &Container,
    inputs: &Values,
    key: &str,
) -> String {
    if !key.is_empty() {
        return hex(&[component_name.as_bytes(), b"\0", key.as_bytes()].concat());
    }
    let artifact_names: Map<String, Value> = inputs
        .artifacts
        .iter()
        .map(|(name, list)| {
            let names: Vec<&str> = list.iter().map(|artifact| artifact.id.as_str()).collect();
            (name.clone(), json!({"artifactNames": names}))
        })
        .collect();
    let outputs: Map<String, Value> = output_artifacts(component, "")
        .into_iter()
        .map(|(name, mut artifact)| {
            artifact["uri"] = Value::String(String::new());
            (name, artifact)
        })
        .collect();
    let parameters = component.output_definitions.parameters.iter();
    let parameters: Map<String, Value> =
        parameters.map(|(name, output)| (name.clone(), json!(output.parameter_type))).collect();
    let command: Vec<&String> = container.command.iter().chain(&container.args).collect();
    // serde_json's map is sorted, so the text is the same for the same content.
    let key = json!({
        "inputArtifactNames": artifact_names,
        "inputParameterValues": inputs.parameters,
        "outputArtifactsSpec": outputs,
        "outputParametersSpec": parameters,
        "containerSpec": {"image": container.image, "cmdArgs": command, "pvcNames": []},
    });
    hex(key.to_string().as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_decides_the_result_changes_the_key() {
        let component = Component::default();
        let container = Container { image: "a".to_owned(), command: vec!["c".to_owned()], ..Container::default() };
        let mut inputs = Values::default();
        let base = fingerprint("comp-a", &component, &container, &inputs, "");
        let with_env = Container { env: vec![crate::ir::EnvVar::default()], ..container.clone() };
        assert_eq!(fingerprint("comp-b", &component, &with_env, &inputs, ""), base);
        inputs.parameters.insert("n".to_owned(), json!(1));
        assert_ne!(fingerprint("comp-a", &component, &container, &inputs, ""), base);
        let keyed = fingerprint("comp-a", &component, &container, &inputs, "mine");
        assert_eq!(keyed, fingerprint("comp-a", &component, &with_env, &Values::default(), "mine"));
        assert_ne!(keyed, fingerprint("comp-b", &component, &container, &inputs, "mine"));
    }
}
