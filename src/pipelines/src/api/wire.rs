//! Protobuf JSON out: snake_case, enums by name, unset fields left out, times as RFC 3339 in UTC.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::engine::executor_input::task_id;
use crate::operations::RunView;
use crate::operations::listing::Page;
use crate::types::experiment::{Experiment, Storage};
use crate::types::pipeline::{Pipeline, Version};
use crate::types::run::{self, Summary};
use crate::types::task::{self, Kind, Task};

/// google.rpc.Code INTERNAL, for a task or run that failed.
const CODE_FAILED: i32 = 13;

/// An object whose empty fields are left out, as proto3 JSON has it.
struct Message(Map<String, Value>);

impl Message {
    fn new() -> Self {
        Self(Map::new())
    }

    fn put(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let empty = match &value {
            Value::Null => true,
            Value::Bool(flag) => !flag,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
        };
        if !empty {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

/// Whole seconds, as upstream stores them: clients parse this form everywhere.
fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// A time that has not come is the epoch, not left out. Source: KFP's converter.
fn time_or_epoch(at: Option<Timestamp>) -> String {
    time(at.unwrap_or(Timestamp::UNIX_EPOCH))
}

fn storage(state: Storage) -> &'static str {
    match state {
        Storage::Available => "AVAILABLE",
        Storage::Archived => "ARCHIVED",
    }
}

fn tags(tags: &BTreeMap<String, String>) -> Value {
    json!(tags)
}

/// A list response.
pub(super) fn page<T>(name: &str, page: Page<T>, one: impl Fn(T) -> Value) -> Value {
    let items: Vec<Value> = page.items.into_iter().map(one).collect();
    Message::new()
        .put(name, items)
        .put("total_size", page.total)
        .put("next_page_token", page.next.unwrap_or_default())
        .into_value()
}

pub(super) fn pipeline(pipeline: &Pipeline) -> Value {
    Message::new()
        .put("pipeline_id", pipeline.id.as_str())
        .put("name", pipeline.name.as_str())
        .put("display_name", pipeline.display_name.as_str())
        .put("description", pipeline.description.as_str())
        .put("created_at", time(pipeline.created_at))
        .put("tags", tags(&pipeline.tags))
        .into_value()
}

pub(super) fn version(version: &Version) -> Value {
    Message::new()
        .put("pipeline_id", version.pipeline_id.as_str())
        .put("pipeline_version_id", version.id.as_str())
        .put("name", version.name.as_str())
        .put("display_name", version.display_name.as_str())
        .put("description", version.description.as_str())
        .put("created_at", time(version.created_at))
        .put("code_source_url", version.code_source_url.as_str())
        .put("pipeline_spec", version.document.clone())
        .put("tags", tags(&version.tags))
        .into_value()
}

pub(super) fn experiment(experiment: &Experiment) -> Value {
    Message::new()
        .put("experiment_id", experiment.id.as_str())
        .put("display_name", experiment.name.as_str())
        .put("description", experiment.description.as_str())
        .put("created_at", time(experiment.created_at))
        .put("storage_state", storage(experiment.storage))
        .put("last_run_created_at", time_or_epoch(experiment.last_run_created_at))
        .into_value()
}

/// What lists hold of a run: everything but its spec, parameters and tasks.
pub(super) fn run_summary(run: &Summary) -> Value {
    summary(run).into_value()
}

fn summary(run: &Summary) -> Message {
    let history: Vec<Value> = run
        .history
        .iter()
        .map(|since| json!({"update_time": time(since.at), "state": run_state(since.state)}))
        .collect();
    let reference = run.version_id.as_ref().map(
        |version| json!({"pipeline_id": run.pipeline_id.clone().unwrap_or_default(), "pipeline_version_id": version}),
    );
    let error = run.failure.as_ref().map(
        |failure| json!({"code": CODE_FAILED, "message": format!("{} failed: {}", failure.task, failure.message)}),
    );
    Message::new()
        .put("experiment_id", run.experiment_id.as_str())
        .put("run_id", run.id.as_str())
        .put("display_name", run.name.as_str())
        .put("storage_state", storage(run.storage))
        .put("description", run.description.as_str())
        .put("created_at", time(run.created_at))
        .put("scheduled_at", time(run.scheduled_at))
        .put("finished_at", time_or_epoch(run.finished_at))
        .put("state", run_state(run.state))
        .put("state_history", history)
        .put("pipeline_version_reference", reference)
        .put("error", error)
}

/// A run as `GET /runs/{id}` shows it.
pub(super) fn run(view: &RunView) -> Value {
    let (run, request) = (&view.summary, &view.request);
    let spec = if run.version_id.is_some() { Value::Null } else { request.document.clone() };
    let config = Message::new()
        .put("parameters", request.parameters.clone())
        .put("pipeline_root", request.pipeline_root_given.as_str())
        .into_value();
    let details = json!({"task_details": task_details(view)});
    summary(run)
        .put("pipeline_spec", spec)
        .put("runtime_config", config)
        .put("service_account", request.service_account.as_str())
        .put("run_details", details)
        .into_value()
}

fn task_details(view: &RunView) -> Vec<Value> {
    let run_id = &view.summary.id;
    let id = |task: &Task| task_id(run_id, &task.path, task.epoch);
    let ids: HashMap<&str, String> = view.tasks.iter().map(|task| (task.path.as_str(), id(task))).collect();
    let mut children: HashMap<&str, Vec<Value>> = HashMap::new();
    for task in &view.tasks {
        if let Some(scope) = task::parent(&task.path) {
            children.entry(scope).or_default().push(json!({"task_id": ids.get(task.path.as_str())}));
        }
    }
    let detail = |task: &Task| {
        let parent = task::parent(&task.path).and_then(|scope| ids.get(scope)).cloned().unwrap_or_default();
        task_detail(run_id, task, &ids[task.path.as_str()], &parent, children.remove(task.path.as_str()))
    };
    let mut detail = detail;
    view.tasks.iter().map(&mut detail).collect()
}

fn task_detail(run_id: &str, task: &Task, id: &str, parent: &str, children: Option<Vec<Value>>) -> Value {
    // Scripts look for a step by the key of its task.
    let name = if task.kind == Kind::Root { "root" } else { task.name.as_str() };
    let name = if task.kind == Kind::Iteration { task.display_name.as_str() } else { name };
    let error = task.failure.as_ref().filter(|_| task.state == task::State::Failed);
    let error = error.map(|failure| json!({"code": CODE_FAILED, "message": failure_text(failure)}));
    let state = task_state(task.state);
    let mut history = vec![json!({"update_time": time(task.times.created_at), "state": "PENDING"})];
    if let Some(at) = task.times.started_at {
        history.push(json!({"update_time": time(at), "state": "RUNNING"}));
    }
    if let Some(at) = task.times.ended_at {
        history.push(json!({"update_time": time(at), "state": state}));
    }
    let pod = task.pod.as_ref().map(|pod| pod.name.as_str()).unwrap_or_default();
    let job = (task.kind == Kind::Container).then(|| json!({"main_job": pod}));
    let mut message = Message::new()
        .put("run_id", run_id)
        .put("task_id", id)
        .put("display_name", name)
        .put("create_time", time(task.times.created_at))
        .put("start_time", time(task.times.started_at.unwrap_or(task.times.created_at)))
        .put("end_time", time_or_epoch(task.times.ended_at))
        .put("state", state)
        .put("error", error)
        .put("parent_task_id", parent)
        .put("state_history", history)
        .put("pod_name", pod)
        .put("executor_detail", job)
        .put("child_tasks", children.unwrap_or_default())
        .put("inputs", artifact_ids(&task.inputs))
        .put("outputs", artifact_ids(&task.outputs));
    if task.state == task::State::Cached {
        // v2beta1 has no state for it; the SDK ignores this field, our clients read it.
        message = message.put("cached", true);
    }
    message.into_value()
}

/// The tasks of a run with everything about them: the message that upstream is about to have (`PipelineTask`, branch
/// `mlmd-removal`), and what pages need besides.
pub(super) fn tasks(view: &RunView) -> Vec<Value> {
    view.tasks.iter().map(|task| pipeline_task(&view.summary.id, task)).collect()
}

pub(super) fn pipeline_task(run_id: &str, task: &Task) -> Value {
    let kind = match task.kind {
        Kind::Root => "ROOT",
        Kind::Dag => "DAG",
        Kind::Condition => "CONDITION",
        Kind::Loop | Kind::Iteration => "LOOP",
        Kind::Container => "RUNTIME",
        Kind::Importer => "IMPORTER",
    };
    let state = if task.state == task::State::Cached { "CACHED" } else { task_state(task.state) };
    let pods: Vec<Value> =
        task.pod.iter().map(|pod| json!({"name": pod.name, "uid": pod.uid, "type": "EXECUTOR"})).collect();
    let failure = task.failure.as_ref().map(|failure| {
        json!({
            "message": failure.message,
            "reason": failure.reason,
            "exit_code": failure.exit_code,
            "last_lines": failure.last_lines,
        })
    });
    Message::new()
        .put("task_id", task_id(run_id, &task.path, task.epoch))
        .put("run_id", run_id)
        .put("name", task.name.as_str())
        .put("display_name", task.display_name.as_str())
        .put("scope_path", task.path.as_str())
        .put("type", kind)
        .put("state", state)
        .put("waits_for", task.waits_for.as_str())
        .put("attempt", task.attempt)
        .put("create_time", time(task.times.created_at))
        .put("start_time", task.times.started_at.map(time))
        .put("end_time", task.times.ended_at.map(time))
        .put("duration_ms", duration_ms(task))
        .put("pods", pods)
        .put("cache_fingerprint", task.fingerprint.as_deref())
        .put("cached_from", json!(task.cached_from))
        .put("type_attributes", json!({"iteration_index": task.iteration, "iteration_count": task.iterations}))
        .put("inputs", values(&task.inputs))
        .put("outputs", values(&task.outputs))
        .put("failure", failure)
        .into_value()
}

fn duration_ms(task: &Task) -> Option<i64> {
    let (start, end) = (task.times.started_at?, task.times.ended_at?);
    i64::try_from(end.duration_since(start).as_millis()).ok()
}

fn values(values: &task::Values) -> Value {
    let artifacts: Map<String, Value> = values
        .artifacts
        .iter()
        .map(|(name, list)| {
            let list = list.iter().map(|artifact| {
                json!({
                    "artifact_id": artifact.id,
                    "name": artifact.name,
                    "type": artifact.schema_title(),
                    "uri": artifact.uri,
                    "metadata": artifact.metadata,
                    "size_bytes": artifact.size_bytes,
                    "sha256": artifact.sha256,
                })
            });
            (name.clone(), list.collect())
        })
        .collect();
    json!({"parameters": values.parameters, "artifacts": artifacts})
}

/// The failure with the command's exit code and its last words, for clients that have one field.
fn failure_text(failure: &task::Failure) -> String {
    let mut text = failure.message.clone();
    if let Some(code) = failure.exit_code {
        text.push_str(&format!(" (exit code {code})"));
    }
    if !failure.last_lines.is_empty() {
        text.push('\n');
        text.push_str(&failure.last_lines.join("\n"));
    }
    text
}

/// `ArtifactList` holds int64 ids; ours are texts, so they are folded to 63 bits that stay the same.
fn artifact_ids(values: &task::Values) -> Value {
    let fold = |id: &str| {
        use sha2::{Digest, Sha256};
        let hash = Sha256::digest(id.as_bytes());
        let bytes: [u8; 8] = hash[..8].try_into().unwrap_or_default();
        (u64::from_be_bytes(bytes) >> 1).to_string()
    };
    let lists: Map<String, Value> = values
        .artifacts
        .iter()
        .map(|(name, list)| {
            let ids: Vec<String> = list.iter().map(|artifact| fold(&artifact.id)).collect();
            (name.clone(), json!({"artifact_ids": ids}))
        })
        .collect();
    Value::Object(lists)
}

fn run_state(state: run::State) -> &'static str {
    crate::operations::state_name(state)
}

fn task_state(state: task::State) -> &'static str {
    match state {
        task::State::Pending => "PENDING",
        task::State::Running => "RUNNING",
        task::State::Succeeded | task::State::Cached => "SUCCEEDED",
        task::State::Skipped => "SKIPPED",
        task::State::Failed => "FAILED",
        task::State::Canceling => "CANCELING",
        task::State::Canceled => "CANCELED",
    }
}
