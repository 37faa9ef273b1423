//! What a command that ended well left behind: its ExecutorOutput, its parameter files, its artifacts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use artifacts::durable;
use artifacts::uri::local_path;
use serde_json::{Map, Value};

use super::{Launch, Made, Report};
use crate::ir::{ParameterType, whole_numbers};

/// More than a parameter should be; artifacts are for what is larger.
const PARAMETER_MAX_BYTES: u64 = 64 << 20;

/// Why outputs cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the command ended well but did not write the output parameter {name} (to {path})")]
    Missing { name: String, path: String },
    #[error("the output parameter {name} is larger than {} MiB", PARAMETER_MAX_BYTES >> 20)]
    TooLarge { name: String },
    #[error("the output parameter {name} is declared {declared:?} but holds {text:?}")]
    Type { name: String, declared: ParameterType, text: String },
    #[error("{path} is not an ExecutorOutput: {cause}")]
    ExecutorOutput { path: String, cause: String },
    #[error("{path} cannot be read: {cause}")]
    Read { path: PathBuf, cause: io::Error },
}

pub(super) fn collect(launch: &Launch) -> Result<Report, Error> {
    let outputs = &launch.executor_input["outputs"];
    let said = executor_output(outputs["outputFile"].as_str().unwrap_or_default())?;
    let mut parameters = Map::new();
    for (name, declared) in &launch.output_parameters {
        let value = match said["parameterValues"].get(name) {
            Some(value) => whole_numbers(value.clone()),
            None => parameter_file(name, *declared, &outputs["parameters"][name]["outputFile"])?,
        };
        parameters.insert(name.clone(), value);
    }
    let mut artifacts = BTreeMap::new();
    for (name, planned) in outputs["artifacts"].as_object().into_iter().flatten() {
        let planned = planned["artifacts"].as_array().cloned().unwrap_or_default();
        let returned = said["artifacts"][name]["artifacts"].as_array().filter(|list| !list.is_empty());
        let list = returned.unwrap_or(&planned);
        let made: Result<Vec<Made>, Error> = list.iter().map(|one| artifact(one, planned.first())).collect();
        artifacts.insert(name.clone(), made?);
    }
    Ok(Report { parameters, artifacts, error: None })
}

fn executor_output(path: &str) -> Result<Value, Error> {
    match fs::read(path) {
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Ok(Value::Null),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| Error::ExecutorOutput { path: path.to_owned(), cause: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Value::Null),
        Err(cause) => Err(Error::Read { path: path.into(), cause }),
    }
}

fn parameter_file(name: &str, declared: ParameterType, path: &Value) -> Result<Value, Error> {
    let path = path.as_str().unwrap_or_default();
    let missing = || Error::Missing { name: name.to_owned(), path: path.to_owned() };
    let meta = fs::metadata(path).map_err(|_| missing())?;
    if meta.len() > PARAMETER_MAX_BYTES {
        return Err(Error::TooLarge { name: name.to_owned() });
    }
    let bytes = fs::read(path).map_err(|cause| Error::Read { path: path.into(), cause })?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    parse(declared, &text).ok_or_else(|| Error::Type {
        name: name.to_owned(),
        declared,
        text: text.chars().take(200).collect(),
    })
}

/// Reads a parameter's file by its type: numbers and booleans trimmed, lists and objects as JSON, text as it is.
/// Source: KFP's launcher.
fn parse(declared: ParameterType, text: &str) -> Option<Value> {
    let trimmed = text.trim();
    match declared {
        ParameterType::NumberInteger => trimmed.parse::<i64>().ok().map(Value::from),
        ParameterType::NumberDouble => trimmed.parse::<f64>().ok().map(|number| whole_numbers(Value::from(number))),
        ParameterType::Boolean => match trimmed {
            "true" | "True" | "1" => Some(Value::Bool(true)),
            "false" | "False" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        ParameterType::List => serde_json::from_str::<Value>(trimmed).ok().filter(Value::is_array),
        ParameterType::Struct => serde_json::from_str::<Value>(trimmed).ok().filter(Value::is_object),
        ParameterType::Unspecified
        | ParameterType::String
        | ParameterType::TaskFinalStatus
        | ParameterType::TaskConfig => Some(Value::String(text.to_owned())),
    }
}

/// An artifact as the command returned it, or as it was planned. Nothing at its path is only worth a warning.
fn artifact(value: &Value, planned: Option<&Value>) -> Result<Made, Error> {
    let field = |name: &str| value.get(name).or_else(|| planned.and_then(|planned| planned.get(name)));
    let uri = field("uri").and_then(Value::as_str).unwrap_or_default().to_owned();
    let custom_path =
        ["customPath", "custom_path"].iter().find_map(|name| value.get(*name)?.as_str()).map(str::to_owned);
    let mut metadata = planned.and_then(|planned| planned["metadata"].as_object()).cloned().unwrap_or_default();
    metadata.extend(value["metadata"].as_object().cloned().unwrap_or_default());
    let path = custom_path.clone().unwrap_or_else(|| local_path(&uri));
    let content = match durable::settle(Path::new(&path)) {
        Ok(content) => Some(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(cause) => return Err(Error::Read { path: path.into(), cause }),
    };
    Ok(Made {
        kind: planned
            .and_then(|planned| planned.get("type"))
            .or_else(|| value.get("type"))
            .cloned()
            .unwrap_or_default(),
        uri,
        metadata: metadata.into_iter().map(|(key, value)| (key, whole_numbers(value))).collect(),
        custom_path,
        size_bytes: content.as_ref().map(|content| content.size_bytes),
        sha256: content.and_then(|content| content.sha256),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameter_files_are_read_by_their_type() {
        for (declared, text, value) in [
            (ParameterType::NumberInteger, " 3\n", Some(json!(3))),
            (ParameterType::NumberInteger, "3.5", None),
            (ParameterType::NumberDouble, "0.25\n", Some(json!(0.25))),
            (ParameterType::Boolean, "True\n", Some(json!(true))),
            (ParameterType::Boolean, "maybe", None),
            (ParameterType::List, "[1, 2]", Some(json!([1, 2]))),
            (ParameterType::Struct, "[1, 2]", None),
            (ParameterType::String, " kept\n", Some(json!(" kept\n"))),
        ] {
            assert_eq!(parse(declared, text), value, "{declared:?} {text:?}");
        }
    }
}
