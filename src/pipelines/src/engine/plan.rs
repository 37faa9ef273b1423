//! The order within each DAG, worked out once per document.

use std::collections::{BTreeMap, HashMap};

use crate::ir::validate::producers;
use crate::ir::{Component, Dag, Executor, PipelineSpec, Task};

/// The name under which the root component is found.
pub const ROOT_COMPONENT: &str = "root";

/// A document with the order of each of its DAGs.
#[derive(Debug)]
pub struct Plan {
    ir: PipelineSpec,
    dags: HashMap<String, Order>,
}

/// The order within a DAG.
#[derive(Debug, Default)]
pub struct Order {
    /// Task names so that each comes after those it waits for; names decide where nothing else does.
    pub topological: Vec<String>,
    /// Who waits for a task.
    pub dependents: BTreeMap<String, Vec<String>>,
    /// Whom a task waits for.
    pub producers: BTreeMap<String, Vec<String>>,
}

impl Plan {
    /// Plans a document that was validated.
    pub fn new(ir: PipelineSpec) -> Self {
        let root = (ROOT_COMPONENT.to_owned(), &ir.root);
        let components = ir.components.iter().map(|(name, component)| (name.clone(), component));
        let dags = components
            .chain([root])
            .filter_map(|(name, component)| Some((name, order(component.dag.as_ref()?))))
            .collect();
        Self { ir, dags }
    }

    /// The document.
    pub fn ir(&self) -> &PipelineSpec {
        &self.ir
    }

    /// A component by its name.
    pub fn component(&self, name: &str) -> Option<&Component> {
        if name == ROOT_COMPONENT { Some(&self.ir.root) } else { self.ir.components.get(name) }
    }

    /// The DAG of a component.
    pub fn dag(&self, component: &str) -> Option<&Dag> {
        self.component(component)?.dag.as_ref()
    }

    /// The order of a component's DAG.
    pub fn order(&self, component: &str) -> Option<&Order> {
        self.dags.get(component)
    }

    /// A task by the component it stands in and its name.
    pub fn task(&self, component: &str, name: &str) -> Option<&Task> {
        self.dag(component)?.tasks.get(name)
    }

    /// What a component runs, if it is no DAG.
    pub fn executor(&self, component: &str) -> Option<&Executor> {
        let label = self.component(component)?.executor_label.as_ref()?;
        self.ir.deployment_spec.executors.get(label)
    }

    /// The executor's label.
    pub fn executor_label(&self, component: &str) -> Option<&str> {
        self.component(component)?.executor_label.as_deref()
    }
}

fn order(dag: &Dag) -> Order {
    let mut order = Order::default();
    let mut waits: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, task) in &dag.tasks {
        let needs = producers(task);
        waits.insert(name, needs.len());
        for need in &needs {
            order.dependents.entry((*need).to_owned()).or_default().push(name.clone());
        }
        order.producers.insert(name.clone(), needs.into_iter().map(str::to_owned).collect());
    }
    let mut ready: std::collections::BTreeSet<&str> =
        waits.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(name) = ready.pop_first() {
        order.topological.push(name.to_owned());
        for dependent in order.dependents.get(name).into_iter().flatten() {
            if let Some(count) = waits.get_mut(dependent.as_str()) {
                *count -= 1;
                if *count == 0
                    && let Some((dependent, _)) = dag.tasks.get_key_value(dependent)
                {
                    ready.insert(dependent);
                }
            }
        }
    }
    order
}
