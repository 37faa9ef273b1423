//! A run in memory, and the draft of its next state.
//!
//! What is stored is one row a task; how many children of a scope are still open, and so on, is counted here and never
//! written, so that the cost of an event does not grow with the size of a loop.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::plan::{Plan, ROOT_COMPONENT};
use super::{Effect, Item, Transition, Write};
use crate::types::run::{Request, Summary};
use crate::types::task::{self, Kind, ROOT, Task};

/// A run as the engine sees it.
#[derive(Debug, Clone)]
pub struct State {
    /// Its summary.
    pub run: Summary,
    /// What it was asked to do.
    pub request: Arc<Request>,
    /// The document, planned.
    pub plan: Arc<Plan>,
    nodes: HashMap<String, Arc<Node>>,
    items: HashMap<String, Arc<Vec<Item>>>,
}

/// A task and what is counted about its children.
#[derive(Debug, Clone)]
pub struct Node {
    /// The row; shared, because counting a child must not copy what a scope holds.
    pub task: Arc<Task>,
    /// Children that have a row and are not final.
    pub open: u32,
    /// Children that failed.
    pub failed: u32,
    /// Iterations that have a row.
    pub opened: u32,
}

impl State {
    /// A run without tasks, as it was accepted.
    pub fn new(run: Summary, request: Arc<Request>, plan: Arc<Plan>) -> Self {
        Self { run, request, plan, nodes: HashMap::new(), items: HashMap::new() }
    }

    /// A run as it was stored.
    pub fn load(
        run: Summary,
        request: Arc<Request>,
        plan: Arc<Plan>,
        tasks: Vec<Task>,
        items: Vec<(String, Vec<Item>)>,
    ) -> Self {
        let mut state = Self::new(run, request, plan);
        state.items = items.into_iter().map(|(path, items)| (path, Arc::new(items))).collect();
        state.nodes = tasks.into_iter().map(|task| (task.path.clone(), Arc::new(Node::of(task)))).collect();
        let ends: Vec<(String, task::State)> =
            state.nodes.values().map(|node| (node.task.path.clone(), node.task.state)).collect();
        for (path, child_state) in ends {
            if let Some(scope) = task::parent(&path).and_then(|scope| state.nodes.get_mut(scope)) {
                Arc::make_mut(scope).count(child_state);
            }
        }
        state
    }

    /// A task by its path.
    pub fn get(&self, path: &str) -> Option<&Task> {
        self.nodes.get(path).map(|node| node.task.as_ref())
    }

    /// All tasks, in no order.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.nodes.values().map(|node| node.task.as_ref())
    }

    /// Loops that are at work and have iterations without a row.
    pub fn loops_to_open(&self) -> impl Iterator<Item = &str> {
        let is_open = |path: &str, items: &[Item]| self.nodes.get(path).is_some_and(|node| node.has_more(items));
        self.items.iter().filter(move |(path, items)| is_open(path, items)).map(|(path, _)| path.as_str())
    }

    /// Takes a transition over that was committed.
    pub fn apply(&mut self, draft: Applied) {
        self.run = draft.run;
        for (path, node) in draft.nodes {
            match node {
                Some(node) => self.nodes.insert(path, node),
                None => self.nodes.remove(&path),
            };
        }
        self.items.extend(draft.items);
    }
}

impl Node {
    fn of(task: Task) -> Self {
        Self { task: Arc::new(task), open: 0, failed: 0, opened: 0 }
    }

    fn has_more(&self, items: &[Item]) -> bool {
        self.task.state == task::State::Running && (self.opened as usize) < items.len()
    }

    fn count(&mut self, child: task::State) {
        self.opened += 1;
        self.open += u32::from(!child.is_final());
        self.failed += u32::from(child == task::State::Failed);
    }
}

/// What a committed draft changes in memory.
#[derive(Debug, Clone)]
pub struct Applied {
    run: Summary,
    nodes: BTreeMap<String, Option<Arc<Node>>>,
    items: HashMap<String, Arc<Vec<Item>>>,
}

/// The next state while it is being decided: reads fall through to the state underneath, which stays as it is.
#[derive(Debug)]
pub struct Draft<'a> {
    base: &'a State,
    /// The summary to be.
    pub run: Summary,
    /// The time of the event.
    pub now: Timestamp,
    nodes: BTreeMap<String, Option<Arc<Node>>>,
    items: HashMap<String, Arc<Vec<Item>>>,
    cache: Vec<(String, String)>,
    effects: Vec<Effect>,
}

impl<'a> Draft<'a> {
    /// Starts from `base`.
    pub fn new(base: &'a State, now: Timestamp) -> Self {
        Self {
            base,
            run: base.run.clone(),
            now,
            nodes: BTreeMap::new(),
            items: HashMap::new(),
            cache: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// The document, planned.
    pub fn plan(&self) -> &'a Plan {
        &self.base.plan
    }

    /// What the run was asked to do.
    pub fn request(&self) -> &'a Request {
        &self.base.request
    }

    /// A task and its counts.
    pub fn node(&self, path: &str) -> Option<&Node> {
        match self.nodes.get(path) {
            Some(changed) => changed.as_deref(),
            None => self.base.nodes.get(path).map(Arc::as_ref),
        }
    }

    /// A task.
    pub fn get(&self, path: &str) -> Option<&Task> {
        self.node(path).map(|node| node.task.as_ref())
    }

    /// Changes a task and what is counted in the scope around it.
    pub fn change(&mut self, path: &str, change: impl FnOnce(&mut Task)) {
        let Some(mut node) = self.node(path).cloned() else { return };
        let before = node.task.state;
        change(Arc::make_mut(&mut node.task));
        let after = node.task.state;
        if node.task.kind.is_leaf() {
            self.run.steps_done = self.run.steps_done + u32::from(after.is_final()) - u32::from(before.is_final());
        }
        self.nodes.insert(path.to_owned(), Some(Arc::new(node)));
        if before == after {
            return;
        }
        if let Some(scope) = task::parent(path).map(str::to_owned) {
            self.recount(&scope, |scope| {
                scope.open = scope.open + u32::from(!after.is_final()) - u32::from(!before.is_final());
                scope.failed =
                    scope.failed + u32::from(after == task::State::Failed) - u32::from(before == task::State::Failed);
            });
        }
    }

    /// Adds a task.
    pub fn add(&mut self, task: Task) {
        let (path, state) = (task.path.clone(), task.state);
        if task.kind.is_leaf() {
            self.run.steps_known += 1;
            self.run.steps_done += u32::from(state.is_final());
        }
        self.nodes.insert(path.clone(), Some(Arc::new(Node::of(task))));
        if let Some(scope) = task::parent(&path).map(str::to_owned) {
            self.recount(&scope, |scope| scope.count(state));
        }
    }

    /// Removes a task and everything below it.
    pub fn forget_below(&mut self, scope: &str) {
        for path in self.paths_below(scope) {
            if let Some(task) = self.get(&path).filter(|task| task.kind.is_leaf()) {
                let done = u32::from(task.state.is_final());
                self.run.steps_known -= 1;
                self.run.steps_done -= done;
            }
            self.nodes.insert(path, None);
        }
        self.recount(scope, |node| (node.open, node.failed, node.opened) = (0, 0, 0));
    }

    /// The paths of everything below a scope, in order.
    pub fn paths_below(&self, scope: &str) -> Vec<String> {
        let inside = |path: &str| match scope {
            ROOT => path != ROOT,
            _ => path.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/')),
        };
        let mut paths: Vec<String> = self.base.nodes.keys().filter(|path| inside(path)).cloned().collect();
        paths.extend(self.nodes.keys().filter(|path| inside(path)).cloned());
        paths.sort();
        paths.dedup();
        paths.retain(|path| self.node(path).is_some());
        paths
    }

    /// The component whose DAG a scope runs.
    pub fn component_of(&self, scope: &str) -> String {
        match self.get(scope) {
            Some(task) => task.component.clone(),
            None => ROOT_COMPONENT.to_owned(),
        }
    }

    /// The items of a loop.
    pub fn items(&self, path: &str) -> Option<Arc<Vec<Item>>> {
        self.items.get(path).or_else(|| self.base.items.get(path)).cloned()
    }

    /// Loops that are at work and have iterations without a row.
    pub fn loops_to_open(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.base.items.keys().chain(self.items.keys()).cloned().collect();
        paths.sort();
        paths.dedup();
        paths.retain(|path| {
            let items = self.items(path);
            items.is_some_and(|items| self.node(path).is_some_and(|node| node.has_more(&items)))
        });
        paths
    }

    /// Notes the items of a loop.
    pub fn set_items(&mut self, path: &str, items: Vec<Item>) {
        self.items.insert(path.to_owned(), Arc::new(items));
    }

    /// Lets later runs take a task's result.
    pub fn offer(&mut self, fingerprint: &str, path: &str) {
        self.cache.push((fingerprint.to_owned(), path.to_owned()));
    }

    /// Something to do after the commit.
    pub fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// The tasks that wait for their next attempt, and until when.
    pub fn waiting_until(&self) -> impl Iterator<Item = (String, Timestamp)> + '_ {
        let changed = self.nodes.iter().filter_map(|(path, node)| Some((path, node.as_ref()?.task.retry_at?)));
        let base = self.base.nodes.iter().filter(|(path, _)| !self.nodes.contains_key(*path));
        let base = base.filter_map(|(path, node)| Some((path, node.task.retry_at?)));
        changed.chain(base).map(|(path, at)| (path.clone(), at))
    }

    /// Whether a child of the root changed, so that the strip has to be drawn again.
    pub fn touches_strip(&self) -> bool {
        self.nodes.keys().any(|path| path != ROOT && !path.contains('/'))
    }

    /// The rows and effects, and what to take over in memory once they are committed.
    pub fn finish(self) -> (Transition, Applied) {
        let mut writes = Vec::with_capacity(self.nodes.len() + 1);
        for (path, node) in &self.nodes {
            let before = self.base.nodes.get(path).map(|node| &node.task);
            match (before, node) {
                (Some(before), Some(node)) if Arc::ptr_eq(before, &node.task) || *before == node.task => {}
                (_, Some(node)) => writes.push(Write::Task(Box::new(node.task.as_ref().clone()))),
                (Some(_), None) => writes.push(Write::Forget(path.clone())),
                (None, None) => {}
            }
        }
        for (path, items) in &self.items {
            writes.push(Write::Items(path.clone(), items.as_ref().clone()));
        }
        for (fingerprint, path) in self.cache {
            writes.push(Write::Cache { fingerprint, path });
        }
        if self.run != self.base.run {
            writes.push(Write::Run(Box::new(self.run.clone())));
        }
        let applied = Applied { run: self.run, nodes: self.nodes, items: self.items };
        (Transition { writes, effects: self.effects }, applied)
    }

    fn recount(&mut self, scope: &str, count: impl FnOnce(&mut Node)) {
        if let Some(mut node) = self.node(scope).cloned() {
            count(&mut node);
            self.nodes.insert(scope.to_owned(), Some(Arc::new(node)));
        }
    }
}

/// The kind of a task of the document.
pub fn kind_of(plan: &Plan, task: &crate::ir::Task) -> Kind {
    let component = &task.component_ref.name;
    if task.is_loop() {
        return Kind::Loop;
    }
    if plan.dag(component).is_some() {
        return if task.trigger_policy.condition.is_empty() { Kind::Dag } else { Kind::Condition };
    }
    match plan.executor(component) {
        Some(executor) if executor.importer.is_some() => Kind::Importer,
        _ => Kind::Container,
    }
}
