//! How far long work has come: one value for the command line, pages and streams.

use serde::{Deserialize, Serialize};

/// A point in long work. Never shown as a percentage unless `total` is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done now, in words.
    pub stage: String,
    /// How much is done, in `unit`s.
    pub done: u64,
    /// How much there is in all, where that is known.
    pub total: Option<u64>,
    /// What is counted: `steps`, `bytes`.
    pub unit: String,
    /// What it waits for, or the last thing that happened.
    pub message: Option<String>,
}
