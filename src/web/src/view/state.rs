//! One word and one glyph a state, the same everywhere.

use pipelines::types::{run, task};

/// A state as it is shown: the glyph's name and the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) name: &'static str,
    pub(crate) word: &'static str,
}

/// Of a run.
pub(crate) fn of_run(state: run::State) -> Shown {
    let (name, word) = match state {
        run::State::Pending => ("pending", "Pending"),
        run::State::Running => ("running", "Running"),
        run::State::Succeeded => ("succeeded", "Succeeded"),
        run::State::Failed => ("failed", "Failed"),
        run::State::Canceling => ("canceling", "Canceling"),
        run::State::Canceled => ("canceled", "Canceled"),
    };
    Shown { name, word }
}

/// Of a task.
pub(crate) fn of_task(state: task::State) -> Shown {
    let (name, word) = match state {
        task::State::Pending => ("pending", "Pending"),
        task::State::Running => ("running", "Running"),
        task::State::Succeeded => ("succeeded", "Succeeded"),
        task::State::Cached => ("cached", "Cached"),
        task::State::Skipped => ("skipped", "Skipped"),
        task::State::Failed => ("failed", "Failed"),
        task::State::Canceling => ("canceling", "Canceling"),
        task::State::Canceled => ("canceled", "Canceled"),
    };
    Shown { name, word }
}
