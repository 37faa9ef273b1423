//! An experiment: a named folder of runs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The experiment of runs that name none.
pub const DEFAULT_NAME: &str = "Default";
/// Source: KFP's column width.
pub const NAME_MAX_CHARS: usize = 128;

/// Whether something is shown in the usual lists. Source: KFP `StorageState`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// It is.
    #[default]
    Available,
    /// Put away.
    Archived,
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// Unique.
    pub id: String,
    /// Unique in its namespace.
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Where it lives; never empty.
    pub namespace: String,
    /// Whether it is archived.
    #[serde(default)]
    pub storage: Storage,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its newest run was made.
    #[serde(default)]
    pub last_run_created_at: Option<Timestamp>,
}
