//! Retrying a run: what ended well is kept, what failed and everything after it runs again under the same run.

use super::Refused;
use super::step::{Stepper, Work};
use crate::types::run;
use crate::types::task::{self, Kind, ROOT, State, Times};

impl Stepper<'_> {
    pub(super) fn retry_run(&mut self) -> Result<(), Refused> {
        let state = self.draft.run.state;
        if !matches!(state, run::State::Failed | run::State::Canceled) {
            return Err(Refused::NotRetryable(state));
        }
        self.draft.run.failure = None;
        self.draft.run.finished_at = None;
        self.reopen(ROOT);
        Ok(())
    }

    /// Opens a scope that did not end well again, and in it everything that did not.
    fn reopen(&mut self, scope: &str) {
        let Some(kind) = self.draft.get(scope).map(|task| task.kind) else { return };
        self.draft.change(scope, |task| {
            task.state = State::Running;
            task.failure = None;
            task.times.ended_at = None;
        });
        let mut again = Vec::new();
        for path in self.children(scope) {
            let Some(task) = self.draft.get(&path) else { continue };
            let started = task.times.ready_at.is_some();
            match task.state {
                State::Succeeded | State::Cached => {}
                State::Pending | State::Running | State::Canceling => {}
                State::Failed | State::Canceled if !task.kind.is_leaf() && started => self.reopen(&path),
                State::Failed | State::Canceled | State::Skipped => {
                    again.push(path);
                }
            }
        }
        for path in &again {
            self.renew(path);
        }
        if kind == Kind::Loop {
            self.open_iterations(scope);
        }
        for path in again {
            if self.waits_for_nothing(scope, &path) {
                let name = self.draft.get(&path).map(|task| task.name.clone()).unwrap_or_default();
                self.queue.push_back(Work::Decide { scope: scope.to_owned(), name });
            }
        }
        self.close_if_done(scope);
    }

    /// A row as if the task had never run, in a new epoch so that its pods and URIs are new.
    fn renew(&mut self, path: &str) {
        let now = self.draft.now;
        self.draft.forget_below(path);
        self.draft.change(path, |task| {
            let blank = super::leaves::blank(task.kind);
            *task = task::Task {
                path: task.path.clone(),
                name: task.name.clone(),
                display_name: task.display_name.clone(),
                component: task.component.clone(),
                epoch: task.epoch + 1,
                times: Times { created_at: now, ..Times::default() },
                ..blank
            };
        });
    }

    fn children(&self, scope: &str) -> Vec<String> {
        let below = self.draft.paths_below(scope);
        below.into_iter().filter(|path| task::parent(path) == Some(scope)).collect()
    }

    fn waits_for_nothing(&self, scope: &str, path: &str) -> bool {
        let component = self.draft.component_of(scope);
        let name = self.draft.get(path).map(|task| task.name.as_str()).unwrap_or_default();
        let needs = self.draft.plan().order(&component).and_then(|order| order.producers.get(name));
        needs
            .into_iter()
            .flatten()
            .all(|need| self.draft.get(&task::child(scope, need)).is_some_and(|task| task.state.is_final()))
    }
}
