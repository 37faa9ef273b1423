//! What a DAG or a loop makes of its children: its outputs and its state.

use std::collections::BTreeMap;

use serde_json::Value;

use super::plan::Plan;
use super::state::Draft;
use crate::ir::Component;
use crate::types::artifact::Artifact;
use crate::types::task::{self, Values};

/// The outputs of a DAG: each from the first of its selectors that ran. What no branch made is left out.
pub fn of_dag(draft: &Draft<'_>, scope: &str, component: &Component) -> Values {
    let mut outputs = Values::default();
    let Some(dag) = &component.dag else { return outputs };
    let ended_well = |producer: &str| draft.get(&task::child(scope, producer)).filter(|task| task.state.is_success());
    for (name, from) in &dag.outputs.parameters {
        let value = from.selectors().iter().find_map(|selector| {
            ended_well(&selector.producer_subtask)?.outputs.parameters.get(&selector.output_parameter_key)
        });
        if let Some(value) = value {
            outputs.parameters.insert(name.clone(), value.clone());
        }
    }
    for (name, from) in &dag.outputs.artifacts {
        let list = from.artifact_selectors.iter().find_map(|selector| {
            ended_well(&selector.producer_subtask)?.outputs.artifacts.get(&selector.output_artifact_key)
        });
        if let Some(list) = list {
            outputs.artifacts.insert(name.clone(), list.clone());
        }
    }
    outputs
}

/// The outputs of a loop: a list of what its iterations made, in their order. What an inner loop collected is joined, so
/// that nested loops give one flat list.
pub fn of_loop(draft: &Draft<'_>, path: &str, component_name: &str, iterations: u32) -> Values {
    let plan = draft.plan();
    let Some(dag) = plan.dag(component_name) else { return Values::default() };
    let mut parameters: BTreeMap<&String, (bool, Vec<Value>)> = dag
        .outputs
        .parameters
        .iter()
        .map(|(name, from)| {
            let inner = from.selectors().first();
            let flat = inner.is_some_and(|inner| {
                collects(plan, component_name, &inner.producer_subtask, &inner.output_parameter_key)
            });
            (name, (flat, Vec::new()))
        })
        .collect();
    let mut artifacts: BTreeMap<&String, Vec<Artifact>> =
        dag.outputs.artifacts.keys().map(|name| (name, Vec::new())).collect();
    for index in 0..iterations {
        let Some(iteration) = draft.get(&task::child(path, &index.to_string())) else { continue };
        for (name, (flat, list)) in &mut parameters {
            match iteration.outputs.parameters.get(*name) {
                Some(Value::Array(items)) if *flat => list.extend(items.iter().cloned()),
                Some(value) => list.push(value.clone()),
                None => {}
            }
        }
        for (name, list) in &mut artifacts {
            list.extend(iteration.outputs.artifacts.get(*name).into_iter().flatten().cloned());
        }
    }
    Values {
        parameters: parameters.into_iter().map(|(name, (_, list))| (name.clone(), Value::Array(list))).collect(),
        artifacts: artifacts.into_iter().map(|(name, list)| (name.clone(), list)).collect(),
    }
}

/// Whether an output of a task is what a loop collected, however deep.
fn collects(plan: &Plan, component: &str, task_name: &str, output: &str) -> bool {
    let Some(task) = plan.task(component, task_name) else { return false };
    if task.is_loop() {
        return true;
    }
    let inner = &task.component_ref.name;
    let from = plan.dag(inner).and_then(|dag| dag.outputs.parameters.get(output));
    let from = from.and_then(|from| from.selectors().first());
    from.is_some_and(|from| collects(plan, inner, &from.producer_subtask, &from.output_parameter_key))
}
