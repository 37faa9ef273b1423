//! The effects that a run's rows imply: what a crash may have left undone is found again from the rows alone.

use super::Effect;
use super::state::State;
use crate::types::task::{self, Kind};

/// Every effect that is still due. Performing one that was performed already changes nothing.
pub fn pending(state: &State) -> Vec<Effect> {
    let mut effects = Vec::new();
    if state.loops_to_open().next().is_some() {
        effects.push(Effect::Wake { at: state.run.created_at });
    }
    for task in state.tasks().filter(|task| task.kind == Kind::Container) {
        match (task.state, task.retry_at) {
            (task::State::Pending, Some(at)) => effects.push(Effect::Wake { at }),
            (task::State::Pending, None) if task.times.pod_created_at.is_some() => {
                effects.push(Effect::EnsurePod { path: task.path.clone() });
            }
            (task::State::Running, _) => effects.push(Effect::EnsurePod { path: task.path.clone() }),
            (task::State::Canceling, _) => effects.push(Effect::StopPod { path: task.path.clone() }),
            (
                task::State::Pending
                | task::State::Succeeded
                | task::State::Cached
                | task::State::Skipped
                | task::State::Failed
                | task::State::Canceled,
                _,
            ) => {}
        }
    }
    effects
}
