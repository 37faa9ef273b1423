//! The steps of a run as a tree that reads like its pipeline: a loop and a condition bear the words that a person would use,
//! not the names that the compiler made up.

use std::collections::{BTreeMap, HashMap};

use pipelines::operations::RunView;
use pipelines::types::task::{Kind, State, Task, parent};
use serde_json::Value;

use super::state;
use crate::layout::{Frame, percent};

/// Rows of the tree; a loop of thousands must not make a page of thousands.
const STEPS_MAX: usize = 400;
/// Of a condition and of an item of a loop.
const WORDS_MAX_CHARS: usize = 80;
/// What the compiler puts before the name of each value that crosses a scope.
const CHANNEL: &str = "pipelinechannel--";

/// A row.
pub(crate) struct Step {
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) depth: usize,
    pub(crate) state: state::Shown,
    pub(crate) remark: String,
    pub(crate) duration: String,
    /// Of what still runs, in milliseconds: the page counts on.
    pub(crate) ticks_from: Option<i64>,
    pub(crate) log: Option<String>,
}

/// The address of a step's log.
pub(crate) fn log_link(frame: &Frame, run_id: &str, path: &str) -> String {
    format!("/ns/{}/runs/{run_id}/logs?task={}", frame.namespace, percent(path))
}

type Children<'a> = BTreeMap<&'a str, Vec<&'a Task>>;

/// The tree in the order in which things became ready, and how many rows are left out; what failed never is.
pub(crate) fn steps(view: &RunView, now: jiff::Timestamp, frame: &Frame) -> (Vec<Step>, usize) {
    let children = children(view);
    let names = Names::of(view);
    let mut ordered = Vec::new();
    let mut stack: Vec<(&Task, usize)> = children.get("").into_iter().flatten().rev().map(|task| (*task, 0)).collect();
    while let Some((task, depth)) = stack.pop() {
        let below = children.get(task.path.as_str());
        let (shown, name) = match only_step(task, below) {
            Some(step) => (step, format!("{} · {}", step.display_name, task.name)),
            None => (task, names.name(task, &children)),
        };
        ordered.push((task, shown, name, depth));
        if shown.path == task.path {
            stack.extend(below.into_iter().flatten().rev().map(|child| (*child, depth + 1)));
        }
    }
    let total = ordered.len();
    if total > STEPS_MAX {
        let mut kept = 0;
        ordered.retain(|(_, shown, _, depth)| {
            kept += 1;
            kept <= STEPS_MAX || *depth == 0 || shown.state == State::Failed
        });
    }
    let hidden = total - ordered.len();
    let rows = ordered.into_iter().map(|(task, shown, name, depth)| {
        let item = if task.kind == Kind::Iteration { item(task) } else { None };
        let duration = duration(shown, now);
        let ticks = shown.times.ended_at.is_none() && matches!(shown.state, State::Running | State::Canceling);
        let has_log = shown.kind == Kind::Container && duration.is_some();
        Step {
            path: shown.path.clone(),
            name,
            depth: depth.min(4),
            state: state::of_task(shown.state),
            remark: [remark(shown), item.unwrap_or_default()]
                .into_iter()
                .find(|text| !text.is_empty())
                .unwrap_or_default(),
            duration: duration.map(super::duration).unwrap_or_default(),
            ticks_from: duration.filter(|_| ticks),
            log: has_log.then(|| log_link(frame, &view.summary.id, &shown.path)),
        }
    });
    (rows.collect(), hidden)
}

fn children(view: &RunView) -> Children<'_> {
    let mut children: Children<'_> = BTreeMap::new();
    for task in view.tasks.iter().filter(|task| task.kind != Kind::Root) {
        children.entry(parent(&task.path).unwrap_or_default()).or_default().push(task);
    }
    // The strip is in the order of the pipeline; deeper down, what became ready first comes first.
    let place = |task: &Task| view.summary.strip.iter().position(|cell| cell.task == task.path);
    for list in children.values_mut() {
        list.sort_by_cached_key(|task| {
            let branch = branch(task);
            // Branches stay as they were written, whichever was taken.
            let ready = task.times.ready_at.filter(|_| branch.is_none());
            (place(task), task.iteration, branch, ready.is_none(), ready, task.name.clone())
        });
    }
    children
}

/// The place of a branch among its likes. Source: the compiler numbers them in the order in which they are written.
fn branch(task: &Task) -> Option<u32> {
    let among_branches = parent(&task.path).is_some_and(|scope| scope.contains("condition-branches-"));
    let number = task.name.rsplit('-').next().and_then(|number| number.parse().ok());
    number.filter(|_| among_branches && task.kind == Kind::Condition)
}

/// The one step of an iteration: it stands for the iteration, a row of its own would say the same twice.
fn only_step<'a>(task: &Task, below: Option<&Vec<&'a Task>>) -> Option<&'a Task> {
    match below.map(Vec::as_slice) {
        Some([one]) if task.kind == Kind::Iteration && one.kind.is_leaf() => Some(one),
        _ => None,
    }
}

fn duration(task: &Task, now: jiff::Timestamp) -> Option<i64> {
    let from = task.times.started_at.filter(|_| !matches!(task.state, State::Skipped | State::Cached))?;
    let to = task.times.ended_at.unwrap_or(now);
    Some(i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX))
}

fn remark(task: &Task) -> String {
    match task.state {
        State::Pending if !task.waits_for.is_empty() => format!("waits for {}", task.waits_for),
        State::Cached => "reused from an earlier run".to_owned(),
        State::Skipped | State::Failed => {
            let message = task.failure.as_ref().map(|failure| failure.message.as_str()).unwrap_or_default();
            message.lines().next().unwrap_or_default().to_owned()
        }
        _ => match (task.kind, task.iterations, task.attempt) {
            (Kind::Loop, Some(1), _) => "1 iteration".to_owned(),
            (Kind::Loop, Some(count), _) => format!("{count} iterations"),
            (_, _, attempt) if attempt > 0 => format!("attempt {}", attempt + 1),
            _ => String::new(),
        },
    }
}

/// What an iteration is about: the value of its item. Source: the compiler calls it `…-loop-item…`.
fn item(iteration: &Task) -> Option<String> {
    let mut items = iteration.inputs.parameters.iter().filter(|(name, _)| name.contains("loop-item"));
    let (_, value) = items.next()?;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    (items.next().is_none()).then(|| format!("item: {}", shorten(&text)))
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(WORDS_MAX_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Finds the words for tasks that the compiler named.
struct Names<'a> {
    spec: &'a Value,
    components: HashMap<&'a str, &'a str>,
}

impl<'a> Names<'a> {
    fn of(view: &'a RunView) -> Self {
        let document = &view.request.document;
        let spec = document.get("pipeline_spec").unwrap_or(document);
        Self { spec, components: view.tasks.iter().map(|task| (task.path.as_str(), task.component.as_str())).collect() }
    }

    fn name(&self, task: &Task, children: &Children<'_>) -> String {
        let words = match task.kind {
            Kind::Condition => self.condition(task).map(condition_in_words),
            Kind::Loop => {
                // A loop around one step is that step, many times.
                let turns = children.get(task.path.as_str()).into_iter().flatten();
                let mut steps = turns.map(|turn| only_step(turn, children.get(turn.path.as_str())));
                steps.next().flatten().map(|step| step.display_name.clone())
            }
            Kind::Iteration => Some(format!("iteration {}", task.name)),
            Kind::Dag if task.name.starts_with("condition-branches-") => Some("one of".to_owned()),
            _ => None,
        };
        words.unwrap_or_else(|| task.display_name.clone())
    }

    /// The expression as the compiled pipeline has it.
    fn condition(&self, task: &Task) -> Option<&'a str> {
        let scope = parent(&task.path)?;
        let dag = match self.components.get(scope) {
            Some(component) if !scope.is_empty() => &self.spec["components"][*component]["dag"],
            _ => &self.spec["root"]["dag"],
        };
        dag["tasks"][task.name.as_str()]["triggerPolicy"]["condition"].as_str()
    }
}

/// `inputs.parameter_values['pipelinechannel--flip-Output'] == 'heads'` → `if flip == 'heads'`.
///
/// Source: what kfp's compiler writes; a later branch begins with the negations of those before it.
fn condition_in_words(expression: &str) -> String {
    let own: Vec<&str> = expression.split(" && ").filter(|part| !part.starts_with("!(")).collect();
    let first = !expression.starts_with("!(");
    let mut text = match (first, own.is_empty()) {
        (_, true) => return "else".to_owned(),
        (true, false) => format!("if {expression}"),
        (false, false) => format!("else if {}", own.join(" && ")),
    };
    while let Some((before, rest)) = text.split_once("inputs.parameter_values['") {
        let Some((name, after)) = rest.split_once("']") else { break };
        let name = name.strip_prefix(CHANNEL).unwrap_or(name);
        let name = name.strip_suffix("-Output").unwrap_or(name);
        // A cast of one value says nothing to a reader.
        let cast = ["int(", "double(", "string("].iter().find_map(|cast| before.strip_suffix(cast));
        text = match (cast, after.strip_prefix(')')) {
            (Some(before), Some(after)) => format!("{before}{name}{after}"),
            _ => format!("{before}{name}{after}"),
        };
    }
    shorten(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_reads_as_its_author_wrote_it() {
        let words = |text: &str| condition_in_words(text);
        assert_eq!(words("inputs.parameter_values['pipelinechannel--flip-Output'] == 'heads'"), "if flip == 'heads'");
        let num = "int(inputs.parameter_values['pipelinechannel--num-Output'])";
        assert_eq!(words(&format!("{num} > 10")), "if num > 10");
        let limit = "int(inputs.parameter_values['pipelinechannel--limit'])";
        assert_eq!(words(&format!("!({num} > 10) && {num} > {limit}")), "else if num > limit");
        assert_eq!(words(&format!("!({num} > 10) && !({num} > {limit})")), "else");
        assert_eq!(words("inputs.parameter_values['half"), "if inputs.parameter_values['half");
        assert!(words(&"x".repeat(500)).chars().count() <= WORDS_MAX_CHARS + 1);
    }
}
