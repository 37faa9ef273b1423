//! What lists are made of: summaries of runs, decoded once and kept in order of their creation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use records::Db;

use super::Error;
use super::tables::RUNS;
use crate::types::run::Summary;

/// Summaries in memory.
#[derive(Debug, Default)]
pub struct Library {
    runs: RwLock<Runs>,
}

#[derive(Debug, Default)]
struct Runs {
    by_age: BTreeMap<(Timestamp, String), Arc<Summary>>,
    created: HashMap<String, Timestamp>,
}

impl Library {
    pub(super) fn load(db: &Db) -> Result<Self, Error> {
        let library = Self::default();
        for (_, summary) in db.read(|view| RUNS.range(view, "", None, usize::MAX))? {
            library.put_run(summary);
        }
        Ok(library)
    }

    pub(super) fn put_run(&self, summary: Summary) {
        let mut runs = self.runs.write();
        runs.created.insert(summary.id.clone(), summary.created_at);
        runs.by_age.insert((summary.created_at, summary.id.clone()), Arc::new(summary));
    }

    pub(super) fn forget_run(&self, id: &str) {
        let mut runs = self.runs.write();
        if let Some(created_at) = runs.created.remove(id) {
            runs.by_age.remove(&(created_at, id.to_owned()));
        }
    }

    /// One run.
    pub fn run(&self, id: &str) -> Option<Arc<Summary>> {
        let runs = self.runs.read();
        let created_at = *runs.created.get(id)?;
        runs.by_age.get(&(created_at, id.to_owned())).cloned()
    }

    /// The runs that `wanted` accepts, oldest first.
    pub fn runs(&self, wanted: impl Fn(&Summary) -> bool) -> Vec<Arc<Summary>> {
        self.runs.read().by_age.values().filter(|run| wanted(run)).cloned().collect()
    }

    /// How many runs there are.
    pub fn run_count(&self) -> usize {
        self.runs.read().by_age.len()
    }
}
