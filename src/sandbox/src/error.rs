//! Why a box could not be made: the step that failed, on what, and the kernel's answer.

use serde::{Deserialize, Serialize};
use std::io;

/// A step of making a sandbox that the kernel (or the file system) refused.
///
/// It crosses a pipe from the child that was being boxed to its parent, so it holds the number and not an `io::Error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step} {subject}: {}", io::Error::from_raw_os_error(*.errno))]
pub struct Failure {
    /// What was attempted, as a verb phrase: "mount", "exec", "write uid_map".
    pub step: String,
    /// On what: a path, a flag.
    pub subject: String,
    /// The kernel's error number.
    pub errno: i32,
}

impl Failure {
    /// The failure of `step` on `subject` with an error number.
    pub fn new(step: &str, subject: impl Into<String>, errno: i32) -> Self {
        Self { step: step.to_owned(), subject: subject.into(), errno }
    }

    /// The failure of `step` on `subject` with what the last call said.
    pub fn last(step: &str, subject: impl Into<String>) -> Self {
        Self::of(step, subject, &io::Error::last_os_error())
    }

    /// The failure of `step` on `subject` with an `io::Error` (EIO where it carries no number).
    pub fn of(step: &str, subject: impl Into<String>, error: &io::Error) -> Self {
        Self::new(step, subject, error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// True if the program itself could not be started (as opposed to the box around it).
    pub fn is_exec(&self) -> bool {
        self.step == "exec"
    }
}

/// What a step of boxing answers.
pub type Result<T> = std::result::Result<T, Failure>;
