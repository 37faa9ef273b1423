//! DAGs, conditions and loops: how a scope opens, what starts in it, and how it ends.

use serde_json::Value;

use super::executor_input;
use super::step::{Stepper, Work};
use super::{Effect, Item, inputs, outcome, retry, state};
use crate::ir::{Component, Task as Spec, expressions};
use crate::types::task::{self, Failure, Kind, State, Task, Values};

impl Stepper<'_> {
    /// Gives every task of a scope its row and starts those that wait for nothing.
    pub(super) fn open_scope(&mut self, scope: &str) {
        let (plan, now) = (self.draft.plan(), self.draft.now);
        let component = self.draft.component_of(scope);
        let epoch = self.draft.get(scope).map_or(0, |task| task.epoch);
        let (Some(dag), Some(order)) = (plan.dag(&component), plan.order(&component)) else { return };
        for name in &order.topological {
            let Some(spec) = dag.tasks.get(name) else { continue };
            let display_name = if spec.task_info.name.is_empty() { name } else { &spec.task_info.name };
            let needs = order.producers.get(name).map(Vec::as_slice).unwrap_or_default();
            let kind = state::kind_of(plan, spec);
            self.draft.add(Task {
                path: task::child(scope, name),
                name: name.clone(),
                display_name: display_name.clone(),
                component: spec.component_ref.name.clone(),
                waits_for: needs.join(", "),
                epoch,
                times: super::leaves::new_times(now),
                ..super::leaves::blank(kind)
            });
            if needs.is_empty() {
                self.queue.push_back(Work::Decide { scope: scope.to_owned(), name: name.clone() });
            }
        }
    }

    /// Starts, skips or fails a task once everything that it waits for is final.
    pub(super) fn decide(&mut self, scope: &str, name: &str) {
        let (plan, now) = (self.draft.plan(), self.draft.now);
        let path = task::child(scope, name);
        let component = self.draft.component_of(scope);
        let Some(spec) = plan.task(&component, name) else { return };
        let is_pending =
            self.draft.get(&path).is_some_and(|task| task.state == State::Pending && task.times.ready_at.is_none());
        if !is_pending || !self.is_open(scope) {
            return;
        }
        if !spec.runs_after_failure()
            && let Some(why) = self.why_not(scope, &component, name)
        {
            return self.skip(&path, &why);
        }
        let Some(target) = plan.component(&spec.component_ref.name) else { return };
        let values = match inputs::resolve(&self.draft, scope, name, spec, target) {
            Ok(values) => values,
            Err(inputs::Error::NotProduced { producer, output }) if self.ran_no_branch(scope, &producer) => {
                return self.skip(&path, &format!("No branch of {producer} made {output}."));
            }
            Err(error) => {
                let failure =
                    Failure { message: error.to_string(), reason: "InvalidInput".to_owned(), ..Failure::default() };
                return self.fail(&path, failure, now);
            }
        };
        match self.condition_holds(spec, &values) {
            Ok(true) => self.start(&path, spec, target, values),
            Ok(false) => self.skip(&path, "Its condition is false."),
            Err(error) => {
                let failure =
                    Failure { message: error.to_string(), reason: "InvalidCondition".to_owned(), ..Failure::default() };
                self.fail(&path, failure, now);
            }
        }
    }

    /// A task became final: its dependents may start, its scope may end.
    pub(super) fn ended(&mut self, path: &str) {
        let Some(scope) = task::parent(path).map(str::to_owned) else { return };
        let Some(ended) = self.draft.get(path) else { return };
        let (name, failed) = (ended.name.clone(), ended.state == State::Failed);
        match self.draft.get(&scope).map(|scope| scope.kind) {
            Some(Kind::Loop) => {
                if !failed {
                    self.open_iterations(&scope);
                }
            }
            Some(_) => {
                let component = self.draft.component_of(&scope);
                if failed {
                    self.stop_starting(&scope, &component, &name);
                }
                self.decide_dependents(&scope, &component, &name);
            }
            None => return,
        }
        // A dependent that is yet to be decided is not final, so it keeps the scope open.
        self.close_if_done(&scope);
    }

    /// Ends a scope whose children are all final.
    pub(super) fn close_if_done(&mut self, scope: &str) {
        let Some(node) = self.draft.node(scope) else { return };
        let (task, open, failed, opened) = (node.task.clone(), node.open, node.failed, node.opened);
        if task.state.is_final() || open > 0 {
            return;
        }
        let now = self.draft.now;
        if task.state == State::Canceling {
            self.draft.change(scope, |task| {
                task.state = State::Canceled;
                task.times.ended_at = Some(now);
            });
        } else if failed > 0 {
            return self.close_failed(scope);
        } else {
            let plan = self.draft.plan();
            let outputs = match (task.kind, task.iterations) {
                (Kind::Loop, Some(iterations)) if opened < iterations => return,
                (Kind::Loop, Some(iterations)) => outcome::of_loop(&self.draft, scope, &task.component, iterations),
                _ => match plan.component(&task.component) {
                    Some(component) => outcome::of_dag(&self.draft, scope, component),
                    None => Values::default(),
                },
            };
            self.draft.change(scope, |task| {
                task.state = State::Succeeded;
                task.outputs = outputs;
                task.times.ended_at = Some(now);
            });
        }
        self.queue.push_back(Work::Ended(scope.to_owned()));
    }

    fn close_failed(&mut self, scope: &str) {
        let policy = self.spec_of(scope).and_then(|spec| spec.retry_policy.clone());
        let used = self.draft.get(scope).map_or(0, |task| task.retries_used);
        if retry::delay(policy.as_ref(), used).is_some() {
            return self.restart_scope(scope);
        }
        let message = match &self.draft.run.failure {
            Some(first) if first.task.starts_with(scope) => format!("{} failed: {}", first.task, first.message),
            _ => "A step in it failed.".to_owned(),
        };
        let now = self.draft.now;
        self.fail(scope, Failure { message, reason: "StepFailed".to_owned(), ..Failure::default() }, now);
    }

    /// A DAG with retries left runs its children anew.
    fn restart_scope(&mut self, scope: &str) {
        self.draft.forget_below(scope);
        self.draft.change(scope, |task| {
            task.retries_used += 1;
            task.epoch += 1;
        });
        match self.draft.get(scope).map(|task| task.kind) {
            Some(Kind::Loop) => self.open_iterations(scope),
            _ => self.open_scope(scope),
        }
    }

    fn start(&mut self, path: &str, spec: &Spec, component: &Component, values: Values) {
        let now = self.draft.now;
        if component.dag.is_none() && !spec.is_loop() {
            let executor = self.draft.plan().executor(&spec.component_ref.name);
            return match executor.and_then(|executor| executor.importer.as_ref()) {
                Some(importer) => self.import(path, importer, values),
                None => self.start_step(path, spec, values),
            };
        }
        let items = match self.loop_items(spec, &values) {
            Ok(items) => items,
            Err(message) => {
                let failure = Failure { message, reason: "InvalidInput".to_owned(), ..Failure::default() };
                return self.fail(path, failure, now);
            }
        };
        let values = inputs::for_scope(values, component);
        let iterations = items.as_ref().map(|items| u32::try_from(items.len()).unwrap_or(u32::MAX));
        self.draft.change(path, |task| {
            task.state = State::Running;
            task.inputs = values;
            task.iterations = iterations;
            task.waits_for.clear();
            task.times.ready_at = Some(now);
            task.times.started_at = Some(now);
        });
        match items {
            Some(items) => {
                self.draft.set_items(path, items);
                self.open_iterations(path);
                self.close_if_done(path);
            }
            None => self.open_scope(path),
        }
    }

    /// Opens iterations up to the loop's limit.
    pub(super) fn open_iterations(&mut self, path: &str) {
        let Some(node) = self.draft.node(path) else { return };
        let (mut open, mut opened, task) = (node.open, node.opened, node.task.clone());
        if node.failed > 0 || task.state != State::Running {
            return;
        }
        let Some(items) = self.draft.items(path) else { return };
        let Some(spec) = self.spec_of(path).cloned() else { return };
        let limit = match spec.iterator_policy.parallelism_limit {
            0 => u32::MAX,
            limit => limit,
        };
        let unread = self.looped_over_and_not_read(&spec);
        while open < limit
            && let Some(item) = items.get(opened as usize)
        {
            if self.iterations_left == 0 {
                return self.draft.effect(Effect::Wake { at: self.draft.now });
            }
            self.iterations_left -= 1;
            self.open_iteration(path, &task, &spec, opened, item, unread.as_deref());
            open += 1;
            opened += 1;
        }
    }

    fn open_iteration(
        &mut self,
        path: &str,
        looped: &Task,
        spec: &Spec,
        index: u32,
        item: &Item,
        unread: Option<&str>,
    ) {
        let now = self.draft.now;
        let mut values = looped.inputs.clone();
        values.parameters.retain(|name, _| Some(name.as_str()) != unread);
        values.artifacts.retain(|name, _| Some(name.as_str()) != unread);
        let parameter = spec.parameter_iterator.as_ref().map(|iterator| iterator.item_input.clone());
        let artifact = spec.artifact_iterator.as_ref().map(|iterator| iterator.item_input.clone());
        match item {
            Item::Value(value) => values.parameters.extend(parameter.map(|name| (name, value.clone()))),
            Item::Artifact(one) => values.artifacts.extend(artifact.map(|name| (name, vec![one.as_ref().clone()]))),
        }
        let iteration = task::child(path, &index.to_string());
        self.draft.add(Task {
            path: iteration.clone(),
            name: index.to_string(),
            display_name: format!("{} {index}", looped.display_name),
            component: looped.component.clone(),
            state: State::Running,
            iteration: Some(index),
            inputs: values,
            epoch: looped.epoch,
            times: task::Times { ready_at: Some(now), started_at: Some(now), ..super::leaves::new_times(now) },
            ..super::leaves::blank(Kind::Iteration)
        });
        self.open_scope(&iteration);
    }

    /// The list that is looped over, when no task within the loop reads it: it must not be copied into each iteration.
    /// All other inputs stay, for the platform document may name one that no task reads.
    fn looped_over_and_not_read(&self, spec: &Spec) -> Option<String> {
        let parameter = spec.parameter_iterator.as_ref().and_then(|iterator| iterator.items.input_parameter.clone());
        let artifact = spec.artifact_iterator.as_ref().map(|iterator| iterator.items.input_artifact.clone());
        let list = parameter.or(artifact)?;
        let tasks = self.draft.plan().dag(&spec.component_ref.name).map(|dag| dag.tasks.values());
        let read = tasks.into_iter().flatten().any(|task| {
            task.inputs.parameters.values().any(|source| source.component_input_parameter.as_ref() == Some(&list))
                || task.inputs.artifacts.values().any(|source| source.component_input_artifact.as_ref() == Some(&list))
        });
        (!read).then_some(list)
    }

    fn loop_items(&self, spec: &Spec, values: &Values) -> Result<Option<Vec<Item>>, String> {
        if let Some(iterator) = &spec.artifact_iterator {
            let list = values.artifacts.get(&iterator.items.input_artifact);
            let list = list
                .ok_or_else(|| format!("There is nothing to loop over: {} is empty.", iterator.items.input_artifact))?;
            return Ok(Some(list.iter().cloned().map(|one| Item::Artifact(Box::new(one))).collect()));
        }
        let Some(iterator) = &spec.parameter_iterator else { return Ok(None) };
        let source = match (&iterator.items.raw, &iterator.items.input_parameter) {
            (Some(raw), _) => Value::String(raw.clone()),
            (None, Some(input)) => values.parameters.get(input).cloned().unwrap_or_default(),
            (None, None) => Value::Null,
        };
        let list = match source {
            Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            other => other,
        };
        match list {
            Value::Array(items) => {
                Ok(Some(items.into_iter().map(|item| Item::Value(crate::ir::whole_numbers(item))).collect()))
            }
            other => Err(format!("A loop needs a list; it got {}.", kind_of_json(&other))),
        }
    }

    fn condition_holds(&self, spec: &Spec, values: &Values) -> Result<bool, expressions::Error> {
        let condition = &spec.trigger_policy.condition;
        if condition.is_empty() {
            return Ok(true);
        }
        let artifacts = executor_input::inputs(values, &Component::default(), false);
        let artifacts = artifacts.get("artifacts").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        expressions::condition(condition, &values.parameters, &artifacts)
    }

    /// Why a task that needs success before it is not run.
    fn why_not(&self, scope: &str, component: &str, name: &str) -> Option<String> {
        let order = self.draft.plan().order(component)?;
        let bad = order.producers.get(name)?.iter().find_map(|producer| {
            let state = self.draft.get(&task::child(scope, producer))?.state;
            match state {
                State::Failed => Some(format!("{producer} failed.")),
                State::Skipped => Some(format!("{producer} was skipped.")),
                State::Canceled => Some(format!("{producer} was canceled.")),
                State::Pending | State::Running | State::Succeeded | State::Cached | State::Canceling => None,
            }
        });
        bad.or_else(|| {
            (self.draft.node(scope)?.failed > 0).then(|| "Another step failed before it started.".to_owned())
        })
    }

    /// After a failure nothing more starts in the same DAG, but for what asked to run in any case.
    fn stop_starting(&mut self, scope: &str, component: &str, failed: &str) {
        let plan = self.draft.plan();
        let Some(dag) = plan.dag(component) else { return };
        for (name, spec) in &dag.tasks {
            let path = task::child(scope, name);
            let waits =
                self.draft.get(&path).is_some_and(|task| task.state == State::Pending && task.times.ready_at.is_none());
            if waits && !spec.runs_after_failure() {
                self.skip(&path, &format!("Not started, because {failed} failed."));
            }
        }
    }

    fn decide_dependents(&mut self, scope: &str, component: &str, name: &str) {
        let Some(order) = self.draft.plan().order(component) else { return };
        for dependent in order.dependents.get(name).into_iter().flatten() {
            let needs = order.producers.get(dependent).map(Vec::as_slice).unwrap_or_default();
            let all_final = needs
                .iter()
                .all(|need| self.draft.get(&task::child(scope, need)).is_some_and(|task| task.state.is_final()));
            if all_final {
                self.queue.push_back(Work::Decide { scope: scope.to_owned(), name: dependent.clone() });
            }
        }
    }

    fn ran_no_branch(&self, scope: &str, producer: &str) -> bool {
        self.draft
            .get(&task::child(scope, producer))
            .is_some_and(|task| !task.kind.is_leaf() && task.state.is_success())
    }

    fn is_open(&self, scope: &str) -> bool {
        self.draft.get(scope).is_some_and(|task| task.state == State::Running)
    }
}

fn kind_of_json(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
