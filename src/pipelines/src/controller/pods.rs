//! The pod of a step: what is asked of it, and how it is told from others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use artifacts::store::{Access, Store as Artifacts};
use artifacts::uri::local_path;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Context;
use crate::engine::PodOf;
use crate::engine::executor_input::{self, task_root};
use crate::engine::state::State;
use crate::ir::placeholders::{Placeholder, render, to_text};
use crate::ir::{Container, ParameterSource, Resources, platform, requirements};
use crate::launcher::{self, Launch};
use crate::types::task::{self, Task};

/// The run that a pod is a step of.
pub const RUN_LABEL: &str = "pipelines.kubeflow.org/run-id";
/// The same under the name that upstream's tools select by.
const UPSTREAM_RUN_LABEL: &str = "pipeline/runid";
const PATH_ANNOTATION: &str = "pipelines.kubeflow.org/task-path";
const EPOCH_ANNOTATION: &str = "pipelines.kubeflow.org/epoch";
const ATTEMPT_ANNOTATION: &str = "pipelines.kubeflow.org/attempt";
/// What the node installs before the step starts: JSON, a list of pip lines.
const REQUIREMENTS_ANNOTATION: &str = "pipelines.kubeflow.org/requirements";
/// Holds a pod until its result is recorded.
const FINALIZER: &str = "pipelines.kubeflow.org/result";
/// The container of the step.
pub const CONTAINER: &str = "main";
/// Where our binary is in a step. Source: upstream mounts its launcher in a folder of this name.
const LAUNCHER_PATH: &str = "/kfp-launcher/launch";
/// Kubernetes' limit for a name that ends up in a label.
const NAME_MAX: usize = 63;

/// A step that cannot be run as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// Everything that a step's pod is made of; derived from the rows, so making it again gives the same.
#[derive(Debug, Clone)]
pub struct Step {
    /// The run.
    pub run_id: String,
    /// The attempt.
    pub of: PodOf,
    /// The pod's name.
    pub pod_name: String,
    task_root: String,
    input_uris: Vec<String>,
    launch: Launch,
    pod: Value,
    launcher: PathBuf,
}

/// The name of the pod of a task's current attempt.
pub fn name(run_id: &str, task: &Task) -> String {
    let mut hash = Sha256::new();
    for part in [run_id, &task.path, &task.epoch.to_string(), &task.attempt.to_string()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let readable: String =
        task.name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let readable: String = readable.trim_matches('-').chars().take(NAME_MAX - hash.len() - 1).collect();
    match readable.trim_end_matches('-') {
        "" => format!("step-{hash}"),
        readable => format!("{readable}-{hash}"),
    }
}

/// The run and the attempt that a pod belongs to; none for a pod that is no step.
pub fn identify(pod: &Pod) -> Option<(String, PodOf)> {
    let annotations = pod.annotations();
    let number = |name: &str| annotations.get(name)?.parse().ok();
    let of = PodOf {
        path: annotations.get(PATH_ANNOTATION)?.clone(),
        epoch: number(EPOCH_ANNOTATION)?,
        attempt: number(ATTEMPT_ANNOTATION)?,
    };
    Some((pod.labels().get(RUN_LABEL)?.clone(), of))
}

/// Works out the pod of a task's current attempt.
///
/// # Errors
/// When what the step asks for cannot be had.
pub fn build(context: &Context, state: &State, path: &str) -> Result<Step, Refused> {
    let gone = || Refused(format!("Task {path:?} is not part of the pipeline any more."));
    let task = state.get(path).ok_or_else(gone)?;
    let component = state.plan.component(&task.component).ok_or_else(gone)?;
    let container = state.plan.executor(&task.component).and_then(|executor| executor.container.as_ref());
    let container = container.ok_or_else(gone)?;
    let root = task_root(&state.request, &state.run, task);
    let executor_input = executor_input::build(task, component, &root, &local_path(&root));
    let parameters = executor_input["inputs"]["parameterValues"].as_object().cloned().unwrap_or_default();
    let artifacts = task.inputs.artifacts.keys().cloned();
    let launch = Launch {
        present: parameters
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, _)| name.clone())
            .chain(artifacts)
            .collect(),
        executor_input,
        command: container.command.clone(),
        args: container.args.clone(),
        output_parameters: component
            .output_definitions
            .parameters
            .iter()
            .map(|(name, output)| (name.clone(), output.parameter_type))
            .collect(),
        facts: facts(state, task),
    };
    let settings = state
        .request
        .document
        .get("platform_spec")
        .and_then(|platform| platform::of_executor(platform, state.plan.executor_label(&task.component)?));
    let additions = match settings {
        Some(settings) => platform::additions(settings, &|source| resolve(state, task, source))
            .map_err(|error| Refused(error.to_string()))?,
        None => platform::Additions::default(),
    };
    let pod_name = name(&state.run.id, task);
    let of = PodOf { path: path.to_owned(), epoch: task.epoch, attempt: task.attempt };
    Ok(Step {
        run_id: state.run.id.clone(),
        pod: pod(state, task, container, &parameters, &pod_name, additions),
        of,
        pod_name,
        input_uris: task.inputs.artifacts.values().flatten().map(|artifact| artifact.uri.clone()).collect(),
        task_root: root,
        launch,
        launcher: context.launcher.clone(),
    })
}

/// Puts the launch file where the step finds it and fills in how the step reaches its prefix and its inputs.
///
/// # Errors
/// When the artifact store refuses.
pub fn prepare(store: &Artifacts, step: &Step) -> Result<Pod, artifacts::store::Error> {
    let failed = |source: serde_json::Error| artifacts::store::Error::Disk {
        uri: step.task_root.clone(),
        act: "written",
        source: source.into(),
    };
    let host = store.prepare(&step.task_root)?;
    let launch = serde_json::to_vec(&step.launch).map_err(failed)?;
    store.put(&format!("{}/{}", step.task_root, launcher::launch_file()), &launch)?;
    let inside = local_path(&step.task_root);
    let mut binds = vec![
        (host, inside.clone(), "Directory", false),
        (step.launcher.clone(), LAUNCHER_PATH.to_owned(), "File", true),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for uri in &step.input_uris {
        if let Access::Mount { host, is_dir } = store.access(uri)
            && seen.insert(host.clone())
        {
            binds.push((host, local_path(uri), if is_dir { "Directory" } else { "File" }, true));
        }
    }
    let mut pod = step.pod.clone();
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    for (index, (host, path, kind, read_only)) in binds.into_iter().enumerate() {
        let name = format!("artifact-{index}");
        volumes.push(json!({"name": name, "hostPath": {"path": host, "type": kind}}));
        mounts.push(json!({"name": name, "mountPath": path, "readOnly": read_only}));
    }
    extend(&mut pod["spec"]["volumes"], volumes);
    extend(&mut pod["spec"]["containers"][0]["volumeMounts"], mounts);
    pod["spec"]["containers"][0]["command"] = json!([LAUNCHER_PATH, "launch", inside, step.of.attempt.to_string()]);
    serde_json::from_value(pod).map_err(failed)
}

fn extend(list: &mut Value, more: Vec<Value>) {
    let mut all = list.as_array().cloned().unwrap_or_default();
    all.extend(more);
    *list = Value::Array(all);
}

fn pod(
    state: &State,
    task: &Task,
    container: &Container,
    parameters: &Map<String, Value>,
    pod_name: &str,
    additions: platform::Additions,
) -> Value {
    let text = |text: &str| {
        render(text, |placeholder| match placeholder {
            Placeholder::InputParameter(name) => parameters.get(name).map(to_text),
            _ => None,
        })
    };
    let mut labels = additions.labels;
    labels.insert(RUN_LABEL.to_owned(), json!(state.run.id));
    labels.insert(UPSTREAM_RUN_LABEL.to_owned(), json!(state.run.id));
    let mut annotations = additions.annotations;
    annotations.insert(PATH_ANNOTATION.to_owned(), json!(task.path));
    annotations.insert(EPOCH_ANNOTATION.to_owned(), json!(task.epoch.to_string()));
    annotations.insert(ATTEMPT_ANNOTATION.to_owned(), json!(task.attempt.to_string()));
    let lines = requirements::of_command(&container.command);
    if !lines.is_empty() {
        annotations.insert(REQUIREMENTS_ANNOTATION.to_owned(), json!(json!(lines).to_string()));
    }
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut env = vec![
        field("KFP_POD_NAME", "metadata.name"),
        field("KFP_POD_UID", "metadata.uid"),
        field("NAMESPACE", "metadata.namespace"),
        json!({"name": "KFP_RUN_ID", "value": state.run.id}),
    ];
    if task.attempt > 0 {
        env.push(json!({"name": "KFP_RETRY_INDEX", "value": task.attempt.to_string()}));
    }
    env.extend(container.env.iter().map(|var| json!({"name": var.name, "value": text(&var.value)})));
    env.extend(additions.env);
    let mut spec = additions.spec;
    spec.insert("restartPolicy".to_owned(), json!("Never"));
    if !state.request.service_account.is_empty() {
        spec.insert("serviceAccountName".to_owned(), json!(state.request.service_account));
    }
    spec.insert("volumes".to_owned(), json!(additions.volumes));
    spec.insert(
        "containers".to_owned(),
        json!([{
            "name": CONTAINER,
            "image": text(&container.image),
            "imagePullPolicy": additions.pull_policy,
            "env": env,
            "volumeMounts": additions.mounts,
            "resources": resources(container.resources.as_ref(), &text),
        }]),
    );
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name,
            "namespace": state.run.namespace,
            "labels": labels,
            "annotations": annotations,
            "finalizers": [FINALIZER],
        },
        "spec": spec,
    })
}

/// Kubernetes' resources: the strings win over the older numbers (cores and GB).
fn resources(asked: Option<&Resources>, text: &impl Fn(&str) -> String) -> Value {
    let Some(asked) = asked else { return json!({}) };
    let quantity = |string: &str, number: f64, unit: &str| match (string, number) {
        ("", 0.0) => None,
        ("", number) => Some(format!("{number}{unit}")),
        (string, _) => Some(text(string)).filter(|text| !text.is_empty()),
    };
    let mut limits = Map::new();
    let mut requests = Map::new();
    let put = |map: &mut Map<String, Value>, name: &str, value: Option<String>| {
        map.extend(value.map(|value| (name.to_owned(), Value::String(value))));
    };
    put(&mut limits, "cpu", quantity(&asked.resource_cpu_limit, asked.cpu_limit, ""));
    put(&mut limits, "memory", quantity(&asked.resource_memory_limit, asked.memory_limit, "G"));
    put(&mut requests, "cpu", quantity(&asked.resource_cpu_request, asked.cpu_request, ""));
    put(&mut requests, "memory", quantity(&asked.resource_memory_request, asked.memory_request, "G"));
    if let Some(accelerator) = &asked.accelerator {
        let kind = if accelerator.resource_type.is_empty() { &accelerator.kind } else { &accelerator.resource_type };
        let count = if accelerator.resource_count.is_empty() {
            to_text(&accelerator.count)
        } else {
            text(&accelerator.resource_count)
        };
        if !kind.is_empty() && !count.is_empty() {
            put(&mut limits, &text(kind), Some(count));
        }
    }
    json!({"limits": limits, "requests": requests})
}

fn facts(state: &State, task: &Task) -> BTreeMap<String, String> {
    let second = |at: jiff::Timestamp| jiff::Timestamp::from_second(at.as_second()).unwrap_or(at).to_string();
    [
        ("pipeline_job_name", state.run.name.clone()),
        ("pipeline_job_resource_name", state.request.resource_name.clone()),
        ("pipeline_job_uuid", state.run.id.clone()),
        ("pipeline_task_name", task.name.clone()),
        ("pipeline_task_uuid", executor_input::task_id(&state.run.id, &task.path, task.epoch)),
        ("pipeline_job_create_time_utc", second(state.run.created_at)),
        ("pipeline_job_schedule_time_utc", second(state.run.scheduled_at)),
        ("pipeline_root", state.request.pipeline_root.clone()),
        ("workspace_path", "/kfp-workspace".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The value of a parameter that a platform setting names.
fn resolve(state: &State, task: &Task, source: &ParameterSource) -> Option<Value> {
    if let Some(constant) = source.runtime_value.as_ref().and_then(|value| value.constant.clone()) {
        return Some(constant);
    }
    let scope = task::parent(&task.path)?;
    if let Some(input) = &source.component_input_parameter {
        let own = task.inputs.parameters.get(input);
        return own.or_else(|| state.get(scope)?.inputs.parameters.get(input)).cloned();
    }
    let output = source.task_output_parameter.as_ref()?;
    let producer = state.get(&task::child(scope, &output.producer_task))?;
    producer.outputs.parameters.get(&output.output_parameter_key).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::task::Kind;

    fn task(path: &str, name: &str, attempt: u32) -> Task {
        let value = json!({
            "path": path, "name": name, "display_name": name, "kind": Kind::Container, "component": "c", "attempt": attempt,
            "times": {"created_at": "1970-01-01T00:00:00Z"},
        });
        serde_json::from_value(value).expect("a task")
    }

    #[test]
    fn a_pod_name_is_valid_short_and_different_for_each_attempt() {
        let long = "x".repeat(200);
        for name_of in ["train", "Train_Model", "--", &long, "ünïcode"] {
            let pod = name("run", &task(name_of, name_of, 0));
            assert!(pod.len() <= NAME_MAX, "{pod}");
            assert!(pod.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{pod}");
            assert!(!pod.starts_with('-'), "{pod}");
        }
        assert_ne!(name("run", &task("a", "a", 0)), name("run", &task("a", "a", 1)));
        assert_ne!(name("run", &task("a", "a", 0)), name("other", &task("a", "a", 0)));
    }
}
