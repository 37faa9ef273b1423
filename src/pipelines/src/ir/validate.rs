//! Can this pipeline run? Everything that can be known before a run is refused here, by name.

use std::collections::{BTreeMap, BTreeSet};

use super::{Component, Dag, PipelineSpec, SCHEMA_VERSION, Task};

/// How deeply components may contain each other.
const DEPTH_MAX: usize = 64;

/// Why a pipeline cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum Invalid {
    #[error("schemaVersion is {0:?}; this server runs {SCHEMA_VERSION}")]
    SchemaVersion(String),
    #[error("pipelineInfo.name is empty")]
    Nameless,
    #[error("root has no tasks")]
    NoTasks,
    #[error("task {task:?} names component {component:?}, which is not in components")]
    MissingComponent { task: String, component: String },
    #[error("component {component:?} names executor {executor:?}, which is not in deploymentSpec.executors")]
    MissingExecutor { component: String, executor: String },
    #[error("component {0:?} has neither a dag nor an executorLabel")]
    EmptyComponent(String),
    #[error("task {task:?} needs {needs:?}, which is not a task of the same dag")]
    MissingTask { task: String, needs: String },
    #[error("the tasks {0} wait for each other")]
    Cycle(String),
    #[error("component {0:?} contains itself")]
    Recursion(String),
    #[error("task {task:?} takes {input:?} from input {from:?} of its dag, which does not exist")]
    MissingInput { task: String, input: String, from: String },
    #[error("output {output:?} of component {component:?} comes from task {task:?}, which is not in its dag")]
    MissingProducer { component: String, output: String, task: String },
    #[error("executor {0:?} has neither a container nor an importer; resolver and customJob run on Vertex AI only")]
    UnknownExecutor(String),
}

/// Checks a whole document.
///
/// # Errors
/// The first reason why it cannot run.
pub fn check(spec: &PipelineSpec) -> Result<(), Invalid> {
    if spec.schema_version != SCHEMA_VERSION {
        return Err(Invalid::SchemaVersion(spec.schema_version.clone()));
    }
    if spec.pipeline_info.name.trim().is_empty() {
        return Err(Invalid::Nameless);
    }
    if spec.root.dag.as_ref().is_none_or(|dag| dag.tasks.is_empty()) {
        return Err(Invalid::NoTasks);
    }
    let mut walk = Walk { spec, above: Vec::new(), checked: BTreeSet::new() };
    walk.component("root", &spec.root)?;
    for (name, component) in &spec.components {
        walk.component(name, component)?;
    }
    Ok(())
}

/// One pass over the components; each is checked once, however many tasks name it.
struct Walk<'a> {
    spec: &'a PipelineSpec,
    above: Vec<&'a str>,
    checked: BTreeSet<&'a str>,
}

impl<'a> Walk<'a> {
    fn component(&mut self, name: &'a str, component: &'a Component) -> Result<(), Invalid> {
        if self.above.contains(&name) || self.above.len() > DEPTH_MAX {
            return Err(Invalid::Recursion(name.to_owned()));
        }
        if self.checked.contains(name) {
            return Ok(());
        }
        let Some(dag) = &component.dag else {
            self.checked.insert(name);
            return check_executor(self.spec, name, component);
        };
        check_dag(name, component, dag)?;
        self.above.push(name);
        for (task_name, task) in &dag.tasks {
            let wanted = &task.component_ref.name;
            let (inner_name, inner) = self
                .spec
                .components
                .get_key_value(wanted)
                .ok_or_else(|| Invalid::MissingComponent { task: task_name.clone(), component: wanted.clone() })?;
            self.component(inner_name, inner)?;
        }
        self.above.pop();
        self.checked.insert(name);
        Ok(())
    }
}

fn check_executor(spec: &PipelineSpec, name: &str, component: &Component) -> Result<(), Invalid> {
    let label = component.executor_label.as_ref().ok_or_else(|| Invalid::EmptyComponent(name.to_owned()))?;
    let executor = spec
        .deployment_spec
        .executors
        .get(label)
        .ok_or_else(|| Invalid::MissingExecutor { component: name.to_owned(), executor: label.clone() })?;
    if executor.container.is_none() && executor.importer.is_none() {
        return Err(Invalid::UnknownExecutor(label.clone()));
    }
    Ok(())
}

fn check_dag(name: &str, component: &Component, dag: &Dag) -> Result<(), Invalid> {
    for (task_name, task) in &dag.tasks {
        for needs in producers(task) {
            if !dag.tasks.contains_key(needs) {
                return Err(Invalid::MissingTask { task: task_name.clone(), needs: needs.to_owned() });
            }
        }
        check_inputs(component, task_name, task)?;
    }
    let outputs =
        dag.outputs.parameters.iter().flat_map(|(output, from)| {
            from.selectors().iter().map(move |selector| (output, &selector.producer_subtask))
        });
    let artifacts = dag.outputs.artifacts.iter().flat_map(|(output, from)| {
        from.artifact_selectors.iter().map(move |selector| (output, &selector.producer_subtask))
    });
    for (output, task) in outputs.chain(artifacts) {
        if !dag.tasks.contains_key(task) {
            return Err(Invalid::MissingProducer {
                component: name.to_owned(),
                output: output.clone(),
                task: task.clone(),
            });
        }
    }
    check_order(dag)
}

fn check_inputs(component: &Component, task_name: &str, task: &Task) -> Result<(), Invalid> {
    let missing = |input: &String, from: &String| Invalid::MissingInput {
        task: task_name.to_owned(),
        input: input.clone(),
        from: from.clone(),
    };
    for (input, source) in &task.inputs.parameters {
        if let Some(from) = &source.component_input_parameter
            && !component.input_definitions.parameters.contains_key(from)
        {
            return Err(missing(input, from));
        }
    }
    for (input, source) in &task.inputs.artifacts {
        if let Some(from) = &source.component_input_artifact
            && !component.input_definitions.artifacts.contains_key(from)
        {
            return Err(missing(input, from));
        }
    }
    Ok(())
}

/// Every task that `task` waits for: the named ones and those whose outputs it reads.
pub fn producers(task: &Task) -> BTreeSet<&str> {
    let named = task.dependent_tasks.iter().map(String::as_str);
    let parameters = task.inputs.parameters.values().filter_map(|source| {
        let output = source.task_output_parameter.as_ref().map(|output| output.producer_task.as_str());
        output.or_else(|| source.task_final_status.as_ref().map(|status| status.producer_task.as_str()))
    });
    let artifacts = task
        .inputs
        .artifacts
        .values()
        .filter_map(|source| source.task_output_artifact.as_ref().map(|output| output.producer_task.as_str()));
    named.chain(parameters).chain(artifacts).collect()
}

fn check_order(dag: &Dag) -> Result<(), Invalid> {
    let mut waits: BTreeMap<&str, BTreeSet<&str>> =
        dag.tasks.iter().map(|(name, task)| (name.as_str(), producers(task))).collect();
    loop {
        let ready: Vec<&str> = waits.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| *name).collect();
        if ready.is_empty() {
            break;
        }
        for name in &ready {
            waits.remove(name);
        }
        for needs in waits.values_mut() {
            for name in &ready {
                needs.remove(name);
            }
        }
    }
    if waits.is_empty() { Ok(()) } else { Err(Invalid::Cycle(waits.keys().copied().collect::<Vec<_>>().join(", "))) }
}
