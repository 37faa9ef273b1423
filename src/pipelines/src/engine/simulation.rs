//! A seeded world around the engine: pods that start, end and get lost in any order, a clock that jumps, a crash after any
//! commit. The engine sees only what was committed, so whatever it keeps in memory must follow from the rows.
//!
//! A failure prints its seed; `KUBEFLOW_SIMULATION_SEED=<seed> cargo test -p pipelines simulation` replays it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::state::State;
use super::{Cache, Effect, Event, Hit, Item, Outcome, PodOf, Write, pending, step};
use crate::ir::package::Package;
use crate::types::artifact::Artifact;
use crate::types::run::{self, Request, StartedBy, Summary};
use crate::types::task::{self, Failure, PodSummary, Task, Values};

/// What a step's command does, by the task and the attempt.
type Behaviour = fn(&Task) -> Outcome;

struct World {
    rng: StdRng,
    now: Timestamp,
    plan: Arc<Plan>,
    request: Arc<Request>,
    run: Summary,
    tasks: BTreeMap<String, Task>,
    items: BTreeMap<String, Vec<Item>>,
    /// Pods that exist: how often each was made tells whether a finished step ran again.
    pods: BTreeMap<PodOf, bool>,
    ended: BTreeSet<PodOf>,
    behaviour: Behaviour,
}

struct NoCache;

impl Cache for NoCache {
    fn find(&self, _: &str) -> Option<Hit> {
        None
    }
    fn find_imported(&self, _: &Artifact) -> Option<Artifact> {
        None
    }
}

impl Ord for PodOf {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.path, self.epoch, self.attempt).cmp(&(&other.path, other.epoch, other.attempt))
    }
}

impl PartialOrd for PodOf {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl World {
    fn new(seed: u64, yaml: &str, parameters: Value, behaviour: Behaviour) -> Self {
        let package = Package::from_yaml(yaml).expect("a valid package");
        let now = Timestamp::UNIX_EPOCH;
        let run = summary(&package.ir.pipeline_info.name, now);
        let request = Request {
            document: package.document(),
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            pipeline_root: "minio://mlpipeline/v2/artifacts".to_owned(),
            service_account: String::new(),
            resource_name: format!("{}-abcde", package.ir.pipeline_info.name),
            pipeline_root_given: String::new(),
        };
        Self {
            rng: StdRng::seed_from_u64(seed),
            now,
            plan: Arc::new(Plan::new(package.ir)),
            request: Arc::new(request),
            run,
            tasks: BTreeMap::new(),
            items: BTreeMap::new(),
            pods: BTreeMap::new(),
            ended: BTreeSet::new(),
            behaviour,
        }
    }

    /// The state as a restarted platform finds it.
    fn load(&self) -> State {
        let tasks = self.tasks.values().cloned().collect();
        let items = self.items.iter().map(|(path, items)| (path.clone(), items.clone())).collect();
        State::load(self.run.clone(), self.request.clone(), self.plan.clone(), tasks, items)
    }

    /// Runs to the end, with a crash after about every third commit; returns the number of commits.
    fn drive(&mut self, first: Event, cancel_at: Option<u32>) -> u32 {
        let mut state = self.load();
        let mut queue = vec![first];
        for commit in 0..20_000u32 {
            if cancel_at == Some(commit) && !self.run.state.is_final() {
                queue.push(Event::Cancel);
            }
            if queue.is_empty() && !self.next(&state, &mut queue) {
                return commit;
            }
            let (transition, applied) = step::step(&state, &queue, self.now, &NoCache).expect("an event that fits");
            queue.clear();
            self.write(transition.writes);
            if self.rng.random_ratio(1, 3) {
                // Crash: the effects of this commit are lost and must follow from the rows.
                state = self.load();
                let due = pending::pending(&state);
                self.perform(&state, due);
            } else {
                state.apply(applied);
                self.perform(&state, transition.effects);
            }
        }
        panic!("the run does not end: {:#?}", self.states());
    }

    fn write(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Run(run) => self.run = *run,
                Write::Task(task) => {
                    self.tasks.insert(task.path.clone(), *task);
                }
                Write::Forget(path) => {
                    self.tasks.remove(&path);
                }
                Write::Items(path, items) => {
                    self.items.insert(path, items);
                }
                Write::Cache { .. } => {}
            }
        }
    }

    fn perform(&mut self, state: &State, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::EnsurePod { path } => {
                    let of = pod_of(state.get(&path).expect("a task for its pod"));
                    assert!(
                        !self.ended.contains(&of),
                        "{of:?} had ended and its result was recorded; it must not run again"
                    );
                    self.pods.entry(of).or_insert(false);
                }
                Effect::StopPod { path } => {
                    let of = pod_of(state.get(&path).expect("a task for its pod"));
                    self.pods.entry(of).or_insert(false);
                }
                Effect::ReleasePod { .. } | Effect::Wake { .. } => {}
            }
        }
    }

    /// Something that may happen next; false when nothing can.
    fn next(&mut self, state: &State, queue: &mut Vec<Event>) -> bool {
        let pods: Vec<_> = self.pods.iter().map(|(of, started)| (of.clone(), *started)).collect();
        if pods.is_empty() {
            if state.loops_to_open().next().is_some() {
                queue.push(Event::Tick);
                return true;
            }
            let Some(at) = state.tasks().filter_map(|task| task.retry_at).min() else { return false };
            self.now = self.now.max(at);
            queue.push(Event::Tick);
            return true;
        }
        self.now = self.now.saturating_add(Duration::from_millis(7)).expect("a time");
        let (of, started) = pods[self.rng.random_range(0..pods.len())].clone();
        let pod = PodSummary { name: format!("{}-{}-{}", of.path, of.epoch, of.attempt), ..PodSummary::default() };
        if !started {
            self.pods.insert(of.clone(), true);
            queue.push(Event::PodStarted { of, at: self.now, pod });
            return true;
        }
        self.pods.remove(&of);
        let task = state.get(&of.path).expect("a task for its pod");
        let lost = self.rng.random_ratio(1, 10) && task.attempts.len() < 3;
        let outcome = if lost { Outcome::Lost } else { (self.behaviour)(task) };
        self.ended.insert(of.clone());
        queue.push(Event::PodEnded { of, outcome, at: self.now, pod });
        true
    }

    fn states(&self) -> BTreeMap<&str, task::State> {
        self.tasks.iter().map(|(path, task)| (path.as_str(), task.state)).collect()
    }
}

fn pod_of(task: &Task) -> PodOf {
    PodOf { path: task.path.clone(), epoch: task.epoch, attempt: task.attempt }
}

fn summary(pipeline: &str, now: Timestamp) -> Summary {
    Summary {
        id: "run".to_owned(),
        name: "a run".to_owned(),
        description: String::new(),
        namespace: "kubeflow".to_owned(),
        experiment_id: "experiment".to_owned(),
        experiment_name: "Default".to_owned(),
        pipeline_id: None,
        version_id: None,
        pipeline_name: pipeline.to_owned(),
        version_name: None,
        state: run::State::Pending,
        storage: Default::default(),
        created_at: now,
        scheduled_at: now,
        finished_at: None,
        history: Vec::new(),
        started_by: StartedBy::default(),
        steps_done: 0,
        steps_known: 0,
        strip: Vec::new(),
        failure: None,
        metrics: Map::new(),
    }
}

fn output(value: Value) -> Outcome {
    let parameters = Map::from_iter([("Output".to_owned(), value)]);
    Outcome::Succeeded(Values { parameters, ..Values::default() })
}

fn failed() -> Outcome {
    Outcome::Failed(Failure { message: "ValueError: boom".to_owned(), exit_code: Some(1), ..Failure::default() })
}

fn number(task: &Task, name: &str, default: i64) -> i64 {
    task.inputs.parameters.get(name).and_then(Value::as_i64).unwrap_or(default)
}

/// The commands of the documents in `testdata/`.
fn commands(task: &Task) -> Outcome {
    match task.component.trim_start_matches("comp-").trim_end_matches(|c: char| c == '-' || c.is_ascii_digit()) {
        "add" => output(json!(number(task, "a", 0) + number(task, "b", 2))),
        "mk" => output(json!((0..number(task, "n", 0)).collect::<Vec<_>>())),
        "total" => {
            let list = task.inputs.parameters.get("xs").and_then(Value::as_array).cloned().unwrap_or_default();
            output(json!(list.iter().filter_map(Value::as_i64).sum::<i64>()))
        }
        "shell" => {
            let message = task.inputs.parameters.get("msg").cloned().unwrap_or_default();
            Outcome::Succeeded(Values {
                parameters: Map::from_iter([("out".to_owned(), message)]),
                ..Values::default()
            })
        }
        "ds" => {
            let artifact = Artifact {
                id: "dataset".to_owned(),
                name: "x".to_owned(),
                kind: json!({"schemaTitle": "system.Dataset"}),
                uri: "minio://mlpipeline/x".to_owned(),
                metadata: Map::new(),
                custom_path: None,
                size_bytes: None,
                sha256: None,
                created_at: Timestamp::UNIX_EPOCH,
            };
            let artifacts = BTreeMap::from([("x".to_owned(), vec![artifact])]);
            Outcome::Succeeded(Values { artifacts, ..Values::default() })
        }
        "fail" => failed(),
        _ => output(json!("done")),
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("KUBEFLOW_SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..60).collect(),
    }
}

fn check(yaml: &str, parameters: Value, behaviour: Behaviour, expected: impl Fn(&World)) {
    for seed in seeds() {
        let mut world = World::new(seed, yaml, parameters.clone(), behaviour);
        println!("seed {seed}");
        world.drive(Event::Created, None);
        assert!(world.run.state.is_final(), "seed {seed}: {:#?}", world.states());
        assert!(world.tasks.values().all(|task| task.state.is_final()), "seed {seed}: {:#?}", world.states());
        let leaves = world.tasks.values().filter(|task| task.kind.is_leaf()).count();
        assert_eq!((world.run.steps_done, world.run.steps_known), (leaves as u32, leaves as u32), "seed {seed}");
        expected(&world);
    }
}

const CONSTRUCTS: &str = include_str!("../../testdata/constructs.yaml");
const EXIT_HANDLER: &str = include_str!("../../testdata/exit_handler.yaml");
const NESTED_LOOPS: &str = include_str!("../../testdata/nested_loops.yaml");

#[test]
fn every_construct_ends_the_same_in_any_order_and_through_crashes() {
    check(CONSTRUCTS, json!({"f": 0.1}), commands, |world| {
        assert_eq!(world.run.state, run::State::Succeeded, "{:#?}", world.states());
        // add(3) = 5, so mk makes 0..5, add-2 gives 5..10, total 35: the first branch.
        assert_eq!(world.tasks["total"].inputs.parameters["xs"], json!([5, 6, 7, 8, 9]));
        assert_eq!(world.tasks["shell-4"].inputs.parameters["msg"], json!("hello big 35"));
        assert_eq!(world.tasks["condition-8"].state, task::State::Skipped);
        assert_eq!(world.tasks["inner"].state, task::State::Succeeded);
        assert!(world.tasks.contains_key("for-loop-7/1/add-4"), "{:#?}", world.states());
        let branches = world.tasks.iter().filter(|(path, _)| path.starts_with("condition-branches-2/"));
        assert_eq!(branches.filter(|(_, task)| task.state == task::State::Skipped).count(), 2);
    });
}

#[test]
fn a_failed_branch_fails_the_run_and_names_the_step() {
    check(CONSTRUCTS, json!({}), commands, |world| {
        assert_eq!(world.run.state, run::State::Failed, "{:#?}", world.states());
        assert_eq!(world.run.failure.as_ref().map(|first| first.task.as_str()), Some("condition-8/fail"));
    });
}

#[test]
fn exit_tasks_run_after_success_and_after_failure() {
    check(EXIT_HANDLER, json!({}), commands, |world| {
        assert_eq!(world.run.state, run::State::Succeeded, "{:#?}", world.states());
        assert_eq!(world.tasks["status"].inputs.parameters["s"]["state"], json!("COMPLETE"));
    });
    let broken: Behaviour = |task| if task.name == "add" { failed() } else { commands(task) };
    check(EXIT_HANDLER, json!({}), broken, |world| {
        assert_eq!(world.run.state, run::State::Failed, "{:#?}", world.states());
        assert_eq!(world.tasks["status"].state, task::State::Succeeded);
        assert_eq!(world.tasks["status"].inputs.parameters["s"]["state"], json!("FAILED"));
    });
}

#[test]
fn nested_loops_collect_one_flat_list() {
    check(NESTED_LOOPS, json!({}), commands, |world| {
        assert_eq!(world.tasks["total"].inputs.parameters["xs"], json!([4, 5, 5, 6]), "{:#?}", world.states());
    });
}

const WIDE_LOOP: &str = "
pipelineInfo: {name: wide}
schemaVersion: 2.1.0
root:
  dag: {tasks: {loop: {taskInfo: {name: loop}, componentRef: {name: comp-loop},
    inputs: {parameters: {list: {componentInputParameter: list}}},
    parameterIterator: {itemInput: item, items: {inputParameter: list}}}}}
  inputDefinitions: {parameters: {list: {parameterType: LIST}}}
components:
  comp-loop:
    dag: {tasks: {one: {taskInfo: {name: one}, componentRef: {name: comp-one}}}}
    inputDefinitions: {parameters: {list: {parameterType: LIST}, item: {parameterType: NUMBER_INTEGER}}}
  comp-one: {executorLabel: exec-one}
deploymentSpec: {executors: {exec-one: {container: {image: alpine, command: ['true']}}}}
";

#[test]
fn a_wide_loop_opens_in_parts_and_goes_on_after_a_crash() {
    let list: Vec<u32> = (0..1234).collect();
    let mut world = World::new(0, WIDE_LOOP, json!({"list": list}), commands);
    let mut event = Event::Created;
    let mut opened = Vec::new();
    loop {
        // Each time as after a crash: only the rows are known.
        let (transition, _) = step::step(&world.load(), &[event], world.now, &NoCache).expect("an event that fits");
        let wakes = transition.effects.iter().any(|effect| matches!(effect, Effect::Wake { .. }));
        assert!(transition.writes.len() < 1100, "{} rows at once", transition.writes.len());
        world.write(transition.writes);
        opened.push(world.tasks.values().filter(|task| task.iteration.is_some()).count());
        let state = world.load();
        let due = pending::pending(&state);
        assert_eq!(due.iter().any(|effect| matches!(effect, Effect::Wake { .. })), wakes);
        world.perform(&state, due);
        if !wakes {
            break;
        }
        event = Event::Tick;
    }
    assert_eq!(opened, [500, 1000, 1234]);
    assert_eq!(world.pods.len(), 1234);
}

#[test]
fn retries_are_counted_and_lost_attempts_are_not() {
    let flaky: Behaviour = |task| if task.path == "add" && task.retries_used < 2 { failed() } else { commands(task) };
    check(CONSTRUCTS, json!({"f": 0.1}), flaky, |world| {
        assert_eq!(world.run.state, run::State::Succeeded, "{:#?}", world.states());
        assert_eq!(world.tasks["add"].retries_used, 2);
        assert!(world.tasks["add"].attempts.len() >= 2);
    });
}

#[test]
fn a_canceled_run_ends_with_everything_in_it_whenever_it_is_canceled() {
    for seed in seeds() {
        let mut world = World::new(seed, CONSTRUCTS, json!({}), commands);
        println!("seed {seed}");
        world.drive(Event::Created, Some(u32::try_from(seed % 40).unwrap_or(0) + 1));
        assert!(world.run.state.is_final(), "seed {seed}: {:#?}", world.states());
        assert!(world.tasks.values().all(|task| task.state.is_final()), "seed {seed}: {:#?}", world.states());
    }
}

#[test]
fn a_retried_run_keeps_what_ended_well_and_ends_well() {
    for seed in seeds() {
        let mut world = World::new(seed, CONSTRUCTS, json!({}), commands);
        println!("seed {seed}");
        world.drive(Event::Created, None);
        assert_eq!(world.run.state, run::State::Failed);
        let kept: Vec<String> = world
            .tasks
            .values()
            .filter(|task| task.kind.is_leaf() && task.state.is_success())
            .map(|task| task.path.clone())
            .collect();
        let epochs: Vec<u32> = kept.iter().map(|path| world.tasks[path].epoch).collect();
        world.behaviour = |task| if task.name == "fail" { output(json!(1)) } else { commands(task) };
        world.drive(Event::Retry, None);
        assert_eq!(world.run.state, run::State::Succeeded, "seed {seed}: {:#?}", world.states());
        assert_eq!(kept.iter().map(|path| world.tasks[path].epoch).collect::<Vec<_>>(), epochs, "seed {seed}");
    }
}
