//! Steps and importers: how a leaf starts and ends.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::step::{Stepper, Work};
use super::{Effect, cache, executor_input, inputs};
use crate::ir::placeholders::{self, Placeholder};
use crate::ir::{Importer, Task as Spec};
use crate::types::artifact::Artifact;
use crate::types::run::FirstFailure;
use crate::types::task::{self, Failure, Kind, PodSummary, State, Task, Times, Values};

/// The schema whose metadata are shown as numbers of a run.
const METRICS: &str = "system.Metrics";
/// More numbers than a list can show; the rest stay with their artifact.
const METRICS_MAX: usize = 64;

/// A row with nothing in it.
pub(crate) fn blank(kind: Kind) -> Task {
    Task {
        path: String::new(),
        name: String::new(),
        display_name: String::new(),
        kind,
        component: String::new(),
        state: State::Pending,
        iteration: None,
        waits_for: String::new(),
        inputs: Values::default(),
        outputs: Values::default(),
        epoch: 0,
        attempt: 0,
        attempts: Vec::new(),
        retries_used: 0,
        retry_at: None,
        failure: None,
        times: Times::default(),
        pod: None,
        fingerprint: None,
        cached_from: None,
        iterations: None,
    }
}

/// The times of a row that is made now.
pub(super) fn new_times(now: Timestamp) -> Times {
    Times { created_at: now, ..Times::default() }
}

impl Stepper<'_> {
    /// The document's task behind a row; none for the root and for iterations.
    pub(super) fn spec_of(&self, path: &str) -> Option<&Spec> {
        let scope = task::parent(path)?;
        let task = self.draft.get(path)?;
        if task.iteration.is_some() {
            return None;
        }
        let component = self.draft.component_of(scope);
        self.draft.plan().task(&component, &task.name)
    }

    /// A step whose inputs are resolved: served from the cache, or given a pod.
    pub(super) fn start_step(&mut self, path: &str, spec: &Spec, values: Values) {
        let (plan, now) = (self.draft.plan(), self.draft.now);
        let name = &spec.component_ref.name;
        let Some(component) = plan.component(name) else { return };
        let Some(container) = plan.executor(name).and_then(|executor| executor.container.as_ref()) else { return };
        let values = inputs::for_step(values, component);
        let fingerprint = spec
            .caching_options
            .enable_cache
            .then(|| cache::fingerprint(name, component, container, &values, &spec.caching_options.cache_key));
        let hit = fingerprint.as_ref().and_then(|fingerprint| self.cache.find(fingerprint));
        self.draft.change(path, |task| {
            task.inputs = values;
            task.fingerprint = fingerprint;
            task.times.ready_at = Some(now);
            task.waits_for.clear();
        });
        match hit {
            Some(hit) => {
                self.draft.change(path, |task| {
                    task.state = State::Cached;
                    task.outputs = hit.outputs;
                    task.cached_from = Some(hit.from);
                    task.times.started_at = Some(now);
                    task.times.ended_at = Some(now);
                });
                self.note_metrics(path);
                self.queue.push_back(Work::Ended(path.to_owned()));
            }
            None => {
                self.draft.change(path, |task| task.times.pod_created_at = Some(now));
                self.draft.effect(Effect::EnsurePod { path: path.to_owned() });
            }
        }
    }

    /// A step whose outputs were read.
    pub(super) fn succeed_step(&mut self, path: &str, outputs: &Values, at: Timestamp, pod: &PodSummary) {
        self.draft.change(path, |task| {
            task.state = State::Succeeded;
            task.outputs = outputs.clone();
            task.times.ended_at = Some(at);
            task.times.started_at.get_or_insert(at);
            task.pod = Some(pod.clone());
            task.waits_for.clear();
        });
        if let Some(fingerprint) = self.draft.get(path).and_then(|task| task.fingerprint.clone()) {
            self.draft.offer(&fingerprint, path);
        }
        self.note_metrics(path);
        self.queue.push_back(Work::Ended(path.to_owned()));
    }

    /// A task that failed for good.
    pub(super) fn fail(&mut self, path: &str, failure: Failure, at: Timestamp) {
        let first = FirstFailure { task: path.to_owned(), message: failure.message.clone() };
        let is_leaf = self.draft.get(path).is_some_and(|task| task.kind.is_leaf());
        if self.draft.run.failure.is_none() || (is_leaf && !self.first_failure_is_leaf()) {
            self.draft.run.failure = Some(first);
        }
        self.draft.change(path, |task| {
            task.state = State::Failed;
            task.failure = Some(failure);
            task.times.ended_at = Some(at);
            task.waits_for.clear();
        });
        self.queue.push_back(Work::Ended(path.to_owned()));
    }

    /// A task that is not needed; `why` says so on the page.
    pub(super) fn skip(&mut self, path: &str, why: &str) {
        let now = self.draft.now;
        self.draft.change(path, |task| {
            task.state = State::Skipped;
            task.failure =
                Some(Failure { message: why.to_owned(), reason: "Skipped".to_owned(), ..Failure::default() });
            task.times.ended_at = Some(now);
            task.waits_for.clear();
        });
        self.queue.push_back(Work::Ended(path.to_owned()));
    }

    /// Brings an artifact into the run; the one that an earlier import made, unless told to make another.
    pub(super) fn import(&mut self, path: &str, importer: &Importer, values: Values) {
        let now = self.draft.now;
        let uri = importer.artifact_uri.constant.clone();
        let parameter = importer.artifact_uri.runtime_parameter.clone().unwrap_or_else(|| "uri".to_owned());
        let uri = values.parameters.get(&parameter).cloned().or(uri).unwrap_or_default();
        let Some(uri) = uri.as_str().filter(|uri| !uri.is_empty()).map(str::to_owned) else {
            let message = "The importer was given no URI.".to_owned();
            return self.fail(path, Failure { message, reason: "InvalidInput".to_owned(), ..Failure::default() }, now);
        };
        if importer.download_to_workspace {
            let message =
                "The importer asks for a copy in the run's workspace; workspaces are not supported.".to_owned();
            return self.fail(path, Failure { message, reason: "Unsupported".to_owned(), ..Failure::default() }, now);
        }
        let metadata = importer.metadata.iter().map(|(key, value)| (key.clone(), render(value, &values))).collect();
        let epoch = self.draft.get(path).map_or(0, |task| task.epoch);
        let made = Artifact {
            id: executor_input::task_id(&self.draft.run.id, &format!("{path}#artifact"), epoch),
            name: "artifact".to_owned(),
            kind: importer.type_schema.clone(),
            uri,
            metadata,
            custom_path: None,
            size_bytes: None,
            sha256: None,
            created_at: now,
        };
        let known = if importer.reimport { None } else { self.cache.find_imported(&made) };
        let artifact = known.unwrap_or(made);
        self.draft.change(path, |task| {
            task.inputs = values;
            task.outputs.artifacts.insert("artifact".to_owned(), vec![artifact]);
            task.state = State::Succeeded;
            task.waits_for.clear();
            task.times =
                Times { ready_at: Some(now), started_at: Some(now), ended_at: Some(now), ..task.times.clone() };
        });
        self.queue.push_back(Work::Ended(path.to_owned()));
    }

    fn first_failure_is_leaf(&self) -> bool {
        let first = self.draft.run.failure.as_ref();
        first.and_then(|first| self.draft.get(&first.task)).is_some_and(|task| task.kind.is_leaf())
    }

    fn note_metrics(&mut self, path: &str) {
        let Some(task) = self.draft.get(path) else { return };
        let mut found = Vec::new();
        for (output, artifact) in
            task.outputs.artifacts.iter().flat_map(|(output, list)| list.iter().map(move |one| (output, one)))
        {
            if artifact.schema_title() == METRICS {
                let scalars =
                    artifact.metadata.iter().filter(|(key, value)| value.is_number() && *key != "display_name");
                found.extend(scalars.map(|(key, value)| (format!("{path}.{output}.{key}"), value.clone())));
            }
        }
        for (key, value) in found {
            if self.draft.run.metrics.len() < METRICS_MAX {
                self.draft.run.metrics.insert(key, value);
            }
        }
    }
}

fn render(value: &Value, values: &Values) -> Value {
    match value {
        Value::String(text) => {
            let whole = placeholders::segments(text);
            if let [placeholders::Segment::Placeholder(Placeholder::InputParameter(input), _)] = whole.as_slice()
                && let Some(value) = values.parameters.get(*input)
            {
                return value.clone();
            }
            json!(placeholders::render(text, |placeholder| match placeholder {
                Placeholder::InputParameter(input) => values.parameters.get(input).map(placeholders::to_text),
                _ => None,
            }))
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| render(item, values)).collect()),
        Value::Object(map) => {
            let map = map.iter().map(|(key, value)| {
                let key = render(&json!(key), values);
                (placeholders::to_text(&key), render(value, values))
            });
            Value::Object(map.collect())
        }
        other => other.clone(),
    }
}
