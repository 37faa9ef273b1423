//! One event in, one transition out.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::state::{Applied, Draft, State};
use super::{Cache, Effect, Event, Outcome, PodOf, Refused, Transition, retry, run_state};
use crate::types::run::{self, Since};
use crate::types::task::{self, Attempt, Cell, Failure, Kind, PodSummary, ROOT, Task};

/// An attempt that the machine lost.
const LOST: &str = "Lost";
/// A step that takes the machine down with it must not do so for ever.
const LOST_MAX: usize = 5;

/// Iterations that one step opens, over all loops; the others follow in steps of their own. One transaction holds the rows
/// of many times as many, and events of others have their turn in between.
const ITERATIONS_AT_ONCE: u32 = 500;

/// Work that an event caused within the same step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Everything that this task waits for may have ended.
    Decide {
        /// The scope's path.
        scope: String,
        /// The task's name in it.
        name: String,
    },
    /// A task became final: look at its dependents and its scope.
    Ended(String),
}

/// A step in progress.
pub(super) struct Stepper<'a> {
    pub(super) draft: Draft<'a>,
    pub(super) cache: &'a dyn Cache,
    pub(super) queue: VecDeque<Work>,
    /// How many more iterations this step may open.
    pub(super) iterations_left: u32,
}

/// Decides what follows from `events`, which happened in this order. Several at once cost one commit.
///
/// # Errors
/// When an event does not fit the state; then nothing changes.
pub fn step(
    state: &State,
    events: &[Event],
    now: Timestamp,
    cache: &dyn Cache,
) -> Result<(Transition, Applied), Refused> {
    let mut stepper =
        Stepper { draft: Draft::new(state, now), cache, queue: VecDeque::new(), iterations_left: ITERATIONS_AT_ONCE };
    for event in events {
        stepper.on(event)?;
        stepper.settle();
    }
    stepper.summarize();
    Ok(stepper.draft.finish())
}

impl Stepper<'_> {
    fn on(&mut self, event: &Event) -> Result<(), Refused> {
        match event {
            Event::Created => self.created(),
            Event::PodStarted { of, at, pod } => self.pod_started(of, *at, pod),
            Event::PodWaits { of, reason } => self.pod_waits(of, reason),
            Event::PodEnded { of, outcome, at, pod } => self.pod_ended(of, outcome, *at, pod),
            Event::Tick => self.tick(),
            Event::Cancel => return self.cancel(),
            Event::Retry => return self.retry_run(),
        }
        Ok(())
    }

    fn settle(&mut self) {
        while let Some(work) = self.queue.pop_front() {
            match work {
                Work::Decide { scope, name } => self.decide(&scope, &name),
                Work::Ended(path) => self.ended(&path),
            }
        }
    }

    fn created(&mut self) {
        if self.draft.get(ROOT).is_some() {
            return;
        }
        let now = self.draft.now;
        let plan = self.draft.plan();
        let inputs = task::Values { parameters: self.draft.request().parameters.clone(), ..task::Values::default() };
        let root = Task {
            path: ROOT.to_owned(),
            name: plan.ir().pipeline_info.name.clone(),
            display_name: self.draft.run.name.clone(),
            kind: Kind::Root,
            component: super::plan::ROOT_COMPONENT.to_owned(),
            state: task::State::Running,
            inputs: super::inputs::for_scope(inputs, &plan.ir().root),
            times: task::Times { ready_at: Some(now), started_at: Some(now), ..super::leaves::new_times(now) },
            ..super::leaves::blank(Kind::Root)
        };
        self.draft.add(root);
        self.open_scope(ROOT);
    }

    /// The task of a pod, if the pod is its current attempt and the task is not final.
    fn current(&self, of: &PodOf) -> Option<&Task> {
        let task = self.draft.get(&of.path)?;
        (task.epoch == of.epoch && task.attempt == of.attempt && !task.state.is_final()).then_some(task)
    }

    fn pod_started(&mut self, of: &PodOf, at: Timestamp, pod: &PodSummary) {
        let Some(task) = self.current(of) else { return };
        if task.state != task::State::Pending {
            return;
        }
        self.draft.change(&of.path, |task| {
            task.state = task::State::Running;
            task.waits_for.clear();
            task.times.started_at.get_or_insert(at);
            task.pod = Some(pod.clone());
        });
    }

    fn pod_waits(&mut self, of: &PodOf, reason: &str) {
        if self.current(of).is_some_and(|task| task.state == task::State::Pending && task.waits_for != reason) {
            self.draft.change(&of.path, |task| reason.clone_into(&mut task.waits_for));
        }
    }

    fn pod_ended(&mut self, of: &PodOf, outcome: &Outcome, at: Timestamp, pod: &PodSummary) {
        self.draft.effect(Effect::ReleasePod { pod: pod.name.clone() });
        let Some(task) = self.current(of) else { return };
        if task.state == task::State::Canceling {
            return self.end_canceled(&of.path, at, pod);
        }
        match outcome {
            Outcome::Succeeded(outputs) => self.succeed_step(&of.path, outputs, at, pod),
            Outcome::Failed(failure) => {
                let policy = self.spec_of(&of.path).and_then(|spec| spec.retry_policy.clone());
                match retry::delay(policy.as_ref(), task.retries_used) {
                    Some(wait) => self.try_again(&of.path, failure, at, pod, Some(wait)),
                    None => {
                        self.draft.change(&of.path, |task| task.pod = Some(pod.clone()));
                        self.fail(&of.path, failure.clone(), at);
                    }
                }
            }
            Outcome::Lost => {
                let lost = task.attempts.iter().filter(|attempt| attempt.failure.reason == LOST).count();
                if lost >= LOST_MAX {
                    let message = format!("Nobody knows how the step ended, {} times in a row.", lost + 1);
                    let failure = Failure { message, reason: LOST.to_owned(), ..Failure::default() };
                    return self.fail(&of.path, failure, at);
                }
                let failure = Failure {
                    message: "The machine went down while the step ran; it runs again.".to_owned(),
                    reason: LOST.to_owned(),
                    ..Failure::default()
                };
                self.try_again(&of.path, &failure, at, pod, None);
            }
        }
    }

    /// Starts the next attempt: after `wait` if this one counts as a failure of the step's own, else at once.
    fn try_again(
        &mut self,
        path: &str,
        failure: &Failure,
        at: Timestamp,
        pod: &PodSummary,
        wait: Option<std::time::Duration>,
    ) {
        let due = wait.map(|wait| at.saturating_add(wait).unwrap_or(Timestamp::MAX));
        self.draft.change(path, |task| {
            task.attempts.push(Attempt {
                number: task.attempt,
                pod: pod.name.clone(),
                started_at: task.times.started_at.take(),
                ended_at: at,
                failure: failure.clone(),
            });
            task.attempt += 1;
            task.retries_used += u32::from(wait.is_some());
            task.state = task::State::Pending;
            task.retry_at = due;
            task.waits_for = if due.is_some() { "its next attempt".to_owned() } else { String::new() };
        });
        match due {
            Some(at) if at > self.draft.now => self.draft.effect(Effect::Wake { at }),
            _ => {
                self.draft.change(path, |task| task.retry_at = None);
                self.draft.effect(Effect::EnsurePod { path: path.to_owned() });
            }
        }
    }

    fn tick(&mut self) {
        let now = self.draft.now;
        let due = self.draft.waiting_until().filter(|(_, at)| *at <= now).map(|(path, _)| path).collect::<Vec<_>>();
        for path in due {
            self.draft.change(&path, |task| {
                task.retry_at = None;
                task.waits_for.clear();
            });
            self.draft.effect(Effect::EnsurePod { path });
        }
        for path in self.draft.loops_to_open() {
            self.open_iterations(&path);
        }
    }

    fn cancel(&mut self) -> Result<(), Refused> {
        let state = self.draft.run.state;
        if state == run::State::Canceling {
            return Ok(());
        }
        if state.is_final() {
            return Err(Refused::NotCancelable(state));
        }
        let now = self.draft.now;
        self.draft.change(ROOT, |root| root.state = task::State::Canceling);
        // Deepest first, so that a scope is looked at after what is in it.
        for path in self.draft.paths_below(ROOT).into_iter().rev() {
            let Some(task) = self.draft.get(&path).filter(|task| !task.state.is_final()) else { continue };
            let has_pod =
                task.kind == Kind::Container && task.times.pod_created_at.is_some() && task.retry_at.is_none();
            let is_open_scope = !task.kind.is_leaf() && task.state != task::State::Pending;
            if has_pod {
                self.draft.change(&path, |task| task.state = task::State::Canceling);
                self.draft.effect(Effect::StopPod { path });
            } else if is_open_scope {
                self.draft.change(&path, |task| task.state = task::State::Canceling);
                self.close_if_done(&path);
            } else {
                self.draft.change(&path, |task| {
                    task.state = task::State::Canceled;
                    task.retry_at = None;
                    task.waits_for.clear();
                    task.times.ended_at = Some(now);
                });
            }
        }
        self.close_if_done(ROOT);
        Ok(())
    }

    fn end_canceled(&mut self, path: &str, at: Timestamp, pod: &PodSummary) {
        self.draft.change(path, |task| {
            task.state = task::State::Canceled;
            task.times.ended_at = Some(at);
            task.pod = Some(pod.clone());
        });
        self.queue.push_back(Work::Ended(path.to_owned()));
    }

    /// Brings the run's summary up to what its tasks say.
    fn summarize(&mut self) {
        let now = self.draft.now;
        let root = self.draft.get(ROOT).map_or(task::State::Pending, |root| root.state);
        let state = run_state(root);
        if state != self.draft.run.state {
            self.draft.run.state = state;
            self.draft.run.history.push(Since { state, at: now });
            self.draft.run.finished_at = state.is_final().then_some(now);
        }
        if self.draft.touches_strip() {
            let plan = self.draft.plan();
            let order = plan.order(super::plan::ROOT_COMPONENT).map(|order| order.topological.as_slice());
            let cells = order.unwrap_or_default().iter().map(|name| {
                let state = self.draft.get(name).map_or(task::State::Pending, |task| task.state);
                Cell { task: name.clone(), state }
            });
            self.draft.run.strip = cells.collect();
        }
    }
}
