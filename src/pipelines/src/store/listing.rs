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

impl Runs {
    fn put(&mut self, summary: Summary) {
        self.created.insert(summary.id.clone(), summary.created_at);
        self.by_age.insert((summary.created_at, summary.id.clone()), Arc::new(summary));
    }

    fn forget(&mut self, id: &str) {
        if let Some(created_at) = self.created.remove(id) {
            self.by_age.remove(&(created_at, id.to_owned()));
        }
    }
}

impl Library {
    pub(super) fn load(db: &Db) -> Result<Self, Error> {
        let library = Self::default();
        for (_, summary) in db.read(|view| RUNS.range(view, "", None, usize::MAX))? {
            library.put_run(summary);
        }
        Ok(library)
    }

    fn put_run(&self, summary: Summary) {
        self.runs.write().put(summary);
    }

    /// Takes over what the store now holds of a run. Writers call this each after its own write and in no order, so what is
    /// taken is the durable row, not what the writer wrote.
    pub(super) fn follow(&self, db: &Db, id: &str) -> Result<(), Error> {
        let mut runs = self.runs.write();
        match db.read(|view| RUNS.get(view, id))? {
            Some(summary) => runs.put(summary),
            None => runs.forget(id),
        }
        Ok(())
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
