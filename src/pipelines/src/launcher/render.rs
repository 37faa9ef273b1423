//! The command line of a step: structured arguments expanded, placeholders replaced.

use artifacts::uri::local_path;
use serde_json::Value;

use super::Launch;
use crate::ir::placeholders::{Field, Placeholder, expand, render, to_text};

/// The command and its arguments, ready to be run.
pub(super) fn command(launch: &Launch) -> Vec<String> {
    let is_present = |name: &str| launch.present.iter().any(|present| present == name);
    let mut argv = Vec::new();
    for argument in launch.command.iter().chain(&launch.args) {
        let expanded = expand(argument, &is_present).unwrap_or_else(|| vec![argument.clone()]);
        argv.extend(expanded.iter().map(|argument| render(argument, |placeholder| resolve(launch, placeholder))));
    }
    argv
}

fn resolve(launch: &Launch, placeholder: Placeholder<'_>) -> Option<String> {
    let input = &launch.executor_input;
    match placeholder {
        Placeholder::ExecutorInput => Some(input.to_string()),
        Placeholder::InputParameter(name) => input["inputs"]["parameterValues"].get(name).map(to_text),
        Placeholder::InputArtifact(name, field) => artifact(&input["inputs"]["artifacts"][name]["artifacts"], field),
        Placeholder::OutputArtifact(name, field) => artifact(&input["outputs"]["artifacts"][name]["artifacts"], field),
        Placeholder::OutputParameterFile(name) => {
            input["outputs"]["parameters"][name]["outputFile"].as_str().map(str::to_owned)
        }
        Placeholder::OutputFile => input["outputs"]["outputFile"].as_str().map(str::to_owned),
        Placeholder::Fact(name) => launch.facts.get(name).cloned(),
    }
}

fn artifact(list: &Value, field: Field<'_>) -> Option<String> {
    let first = list.get(0)?;
    match field {
        Field::Whole => Some(list.to_string()),
        Field::Uri => first["uri"].as_str().map(str::to_owned),
        Field::Path => match first["customPath"].as_str() {
            Some(path) => Some(path.to_owned()),
            None => first["uri"].as_str().map(local_path),
        },
        Field::Metadata => Some(first["metadata"].to_string()),
        Field::MetadataKey(key) => first["metadata"].get(key).map(to_text),
    }
}
