//! Where a task's inputs come from, and whether they fit.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::state::Draft;
use crate::ir::placeholders::{self, Placeholder};
use crate::ir::{ArtifactSource, Component, InputParameter, ParameterSource, ParameterType, Task, expressions};
use crate::types::artifact::Artifact;
use crate::types::task::{self, State, Values};

/// Where the workspace of a run is mounted in a step. Source: KFP.
const WORKSPACE_PATH: &str = "/kfp-workspace";

/// Why a task's inputs cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The producer ended without it, because the branch that makes it did not run.
    #[error("{producer} did not make {output}")]
    NotProduced {
        /// The task.
        producer: String,
        /// Its output.
        output: String,
    },
    /// A required input got nothing.
    #[error("input {0:?} has no value")]
    Missing(String),
    /// It does not fit its type.
    #[error("input {input:?} is declared {declared:?} and got {value}")]
    Type {
        /// The input.
        input: String,
        /// Its type.
        declared: ParameterType,
        /// The value, shortened.
        value: String,
    },
    /// A selector failed.
    #[error("input {input:?}: {source}")]
    Selector {
        /// The input.
        input: String,
        /// Why.
        source: expressions::Error,
    },
}

/// The inputs of a task, with what its document passes besides what its component declares.
///
/// # Errors
/// When something required cannot be had or does not fit.
pub fn resolve(
    draft: &Draft<'_>,
    scope: &str,
    name: &str,
    task: &Task,
    component: &Component,
) -> Result<Values, Error> {
    let lenient = task.runs_after_failure();
    let mut values = Values::default();
    let mut constants = Vec::new();
    for (input, source) in &task.inputs.parameters {
        if source.runtime_value.is_some() {
            constants.push((input, source));
            continue;
        }
        let declared = component.input_definitions.parameters.get(input);
        let mut value = match channel(draft, scope, source) {
            Ok(value) => value,
            Err(Error::NotProduced { .. }) if lenient || declared.is_some_and(takes_nothing) => Value::Null,
            Err(error) => return Err(error),
        };
        if !source.parameter_expression_selector.is_empty() {
            value = expressions::select(&source.parameter_expression_selector, &value)
                .map_err(|source| Error::Selector { input: input.clone(), source })?;
        }
        put(&mut values.parameters, input, value, declared)?;
    }
    for (input, source) in constants {
        let Some(constant) = source.runtime_value.as_ref() else { continue };
        let raw = constant.constant.clone().or_else(|| constant.constant_value.as_ref().map(legacy_constant));
        let value = match (&raw, &constant.runtime_parameter) {
            (Some(raw), _) => render_constant(draft, scope, name, raw, &values.parameters),
            (None, Some(parameter)) => draft.request().parameters.get(parameter).cloned().unwrap_or_default(),
            (None, None) => Value::Null,
        };
        put(&mut values.parameters, input, value, component.input_definitions.parameters.get(input))?;
    }
    for (input, source) in &task.inputs.artifacts {
        match artifacts(draft, scope, source) {
            Ok(found) => {
                values.artifacts.insert(input.clone(), found);
            }
            Err(error) => {
                let optional = component.input_definitions.artifacts.get(input).is_some_and(|input| input.is_optional);
                if !optional && !lenient {
                    return Err(error);
                }
            }
        }
    }
    check_complete(&values, task, component)?;
    Ok(values)
}

/// The inputs of a DAG: declared ones only, each with its default or null.
pub fn for_scope(mut values: Values, component: &Component) -> Values {
    let declared = &component.input_definitions;
    values.parameters.retain(|name, _| declared.parameters.contains_key(name));
    values.artifacts.retain(|name, _| declared.artifacts.contains_key(name));
    for (name, input) in &declared.parameters {
        if !values.parameters.contains_key(name)
            && let Some(default) = &input.default_value
        {
            values.parameters.insert(name.clone(), default.clone());
        }
    }
    values
}

/// The inputs of a step: declared ones only, without defaults, which must not enter the cache key.
pub fn for_step(mut values: Values, component: &Component) -> Values {
    let declared = &component.input_definitions;
    values.parameters.retain(|name, _| declared.parameters.contains_key(name));
    values.artifacts.retain(|name, _| declared.artifacts.contains_key(name));
    values
}

/// Makes a value fit its declared type, or says that it does not.
///
/// A value going into STRING becomes its JSON text; a text going into LIST or STRUCT may hold one.
///
/// # Errors
/// When it does not fit.
pub fn fit(input: &str, value: Value, declared: ParameterType) -> Result<Value, Error> {
    let refuse = |value: &Value| {
        let mut text = value.to_string();
        if let Some((at, _)) = text.char_indices().nth(200) {
            text.truncate(at);
        }
        Error::Type { input: input.to_owned(), declared, value: text }
    };
    let value = crate::ir::whole_numbers(value);
    let fits = match (declared, &value) {
        (_, Value::Null)
        | (ParameterType::Unspecified | ParameterType::TaskFinalStatus | ParameterType::TaskConfig, _) => true,
        (ParameterType::String, Value::String(_))
        | (ParameterType::Boolean, Value::Bool(_))
        | (ParameterType::NumberDouble, Value::Number(_))
        | (ParameterType::List, Value::Array(_))
        | (ParameterType::Struct, Value::Object(_)) => true,
        (ParameterType::NumberInteger, Value::Number(number)) => number.is_i64() || number.is_u64(),
        (ParameterType::String, other) => return Ok(Value::String(other.to_string())),
        (ParameterType::List | ParameterType::Struct, Value::String(text)) => {
            return match serde_json::from_str::<Value>(text) {
                Ok(parsed) if parsed.is_array() && declared == ParameterType::List => Ok(parsed),
                Ok(parsed) if parsed.is_object() && declared == ParameterType::Struct => Ok(parsed),
                _ => Err(refuse(&value)),
            };
        }
        _ => false,
    };
    if fits { Ok(value) } else { Err(refuse(&value)) }
}

fn put(
    parameters: &mut Map<String, Value>,
    input: &str,
    value: Value,
    declared: Option<&InputParameter>,
) -> Result<(), Error> {
    let value = match declared {
        Some(declared) => fit(input, value, declared.parameter_type)?,
        None => value,
    };
    if !value.is_null() {
        parameters.insert(input.to_owned(), value);
    }
    Ok(())
}

fn takes_nothing(input: &InputParameter) -> bool {
    input.is_optional || input.default_value.is_some()
}

fn check_complete(values: &Values, task: &Task, component: &Component) -> Result<(), Error> {
    let item = task.parameter_iterator.as_ref().map(|iterator| &iterator.item_input);
    for (name, input) in &component.input_definitions.parameters {
        if !values.parameters.contains_key(name) && !takes_nothing(input) && Some(name) != item {
            return Err(Error::Missing(name.clone()));
        }
    }
    let item = task.artifact_iterator.as_ref().map(|iterator| &iterator.item_input);
    for (name, input) in &component.input_definitions.artifacts {
        if !values.artifacts.contains_key(name) && !input.is_optional && Some(name) != item {
            return Err(Error::Missing(name.clone()));
        }
    }
    Ok(())
}

fn channel(draft: &Draft<'_>, scope: &str, source: &ParameterSource) -> Result<Value, Error> {
    if let Some(input) = &source.component_input_parameter {
        return Ok(draft.get(scope).and_then(|scope| scope.inputs.parameters.get(input)).cloned().unwrap_or_default());
    }
    if let Some(output) = &source.task_output_parameter {
        let producer = draft.get(&task::child(scope, &output.producer_task));
        return producer
            .and_then(|task| task.outputs.parameters.get(&output.output_parameter_key))
            .cloned()
            .ok_or_else(|| Error::NotProduced {
                producer: output.producer_task.clone(),
                output: output.output_parameter_key.clone(),
            });
    }
    if let Some(status) = &source.task_final_status {
        return Ok(final_status(draft, scope, &status.producer_task));
    }
    Ok(Value::Null)
}

fn artifacts(draft: &Draft<'_>, scope: &str, source: &ArtifactSource) -> Result<Vec<Artifact>, Error> {
    if let Some(input) = &source.component_input_artifact {
        return draft
            .get(scope)
            .and_then(|scope| scope.inputs.artifacts.get(input))
            .cloned()
            .ok_or_else(|| Error::Missing(input.clone()));
    }
    let output = source.task_output_artifact.clone().unwrap_or_default();
    let producer = draft.get(&task::child(scope, &output.producer_task));
    producer
        .and_then(|task| task.outputs.artifacts.get(&output.output_artifact_key))
        .cloned()
        .ok_or(Error::NotProduced { producer: output.producer_task, output: output.output_artifact_key })
}

/// What a `PipelineTaskFinalStatus` argument holds. Source: KFP's end-to-end test expects `COMPLETE` for success, the
/// producer's key as its name, and a resource name that contains the pipeline's.
fn final_status(draft: &Draft<'_>, scope: &str, producer: &str) -> Value {
    let task = draft.get(&task::child(scope, producer));
    let state = match task.map(|task| task.state) {
        Some(State::Succeeded) => "COMPLETE",
        Some(State::Cached) => "CACHED",
        Some(State::Failed) => "FAILED",
        Some(State::Skipped | State::Canceled | State::Canceling) => "CANCELED",
        Some(State::Pending | State::Running) | None => "RUNNING",
    };
    let failure = task.and_then(|task| task.failure.as_ref());
    let mut status = json!({
        "state": state,
        "pipelineJobResourceName": draft.request().resource_name,
        "pipelineTaskName": producer,
    });
    if let Some(failure) = failure {
        // google.rpc.Code: 9 FAILED_PRECONDITION is what a failed task is reported with.
        status["error"] = json!({"code": 9, "message": failure.message});
    }
    status
}

/// `{"intValue": "3"}` of the oldest documents.
fn legacy_constant(value: &Value) -> Value {
    let field = |name: &str| value.get(name);
    if let Some(text) = field("stringValue") {
        return text.clone();
    }
    if let Some(number) = field("doubleValue") {
        return number.clone();
    }
    match field("intValue") {
        Some(Value::String(text)) => text.parse::<i64>().map_or(Value::Null, Value::from),
        Some(number) => number.clone(),
        None => value.clone(),
    }
}

/// Replaces placeholders in a constant, in lists and objects too. A constant that is nothing but one parameter keeps that
/// parameter's type.
fn render_constant(
    draft: &Draft<'_>,
    scope: &str,
    name: &str,
    constant: &Value,
    siblings: &Map<String, Value>,
) -> Value {
    match constant {
        Value::String(text) if text.contains("{{$") => {
            if let [placeholders::Segment::Placeholder(Placeholder::InputParameter(input), _)] =
                placeholders::segments(text).as_slice()
                && let Some(value) = siblings.get(*input)
            {
                return value.clone();
            }
            Value::String(placeholders::render(text, |placeholder| match placeholder {
                Placeholder::InputParameter(input) => siblings.get(input).map(placeholders::to_text),
                Placeholder::Fact(fact) => facts(draft, scope, name).remove(fact),
                _ => None,
            }))
        }
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| render_constant(draft, scope, name, item, siblings)).collect())
        }
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), render_constant(draft, scope, name, value, siblings)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Facts about the run and a task, by the name of their placeholder.
fn facts(draft: &Draft<'_>, scope: &str, name: &str) -> BTreeMap<&'static str, String> {
    let (run, request) = (&draft.run, draft.request());
    let path = task::child(scope, name);
    let epoch = draft.get(&path).map_or(0, |task| task.epoch);
    BTreeMap::from([
        ("pipeline_job_name", run.name.clone()),
        ("pipeline_job_resource_name", request.resource_name.clone()),
        ("pipeline_job_uuid", run.id.clone()),
        ("pipeline_task_name", name.to_owned()),
        ("pipeline_task_uuid", super::executor_input::task_id(&run.id, &path, epoch)),
        ("pipeline_job_create_time_utc", whole_seconds(run.created_at)),
        ("pipeline_job_schedule_time_utc", whole_seconds(run.scheduled_at)),
        ("pipeline_root", request.pipeline_root.clone()),
        ("workspace_path", WORKSPACE_PATH.to_owned()),
    ])
}

fn whole_seconds(at: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
