//! Runs: loading what the engine needs, committing what it decides.

use std::sync::Arc;

use records::{Db, RawTable, Read};

use super::archive::{delete_hot, forget};
use super::tables::{self, ACTIVE, ARCHIVED, CACHE, CacheRow, EXPERIMENTS, IMPORTS, ITEMS, REQUESTS, RUNS, TASKS};
use super::{Error, Store};
use crate::engine::plan::Plan;
use crate::engine::state::State;
use crate::engine::{Cache, Hit, Write};
use crate::ir::package::Package;
use crate::types::artifact::Artifact;
use crate::types::run::{Request, Summary};
use crate::types::task::{CachedFrom, Kind, Task};

/// Results that later runs may take are in memory: this is what they may cost. The newest stay.
const RESULTS_BYTES_MAX: usize = 32 << 20;
/// The same for imported artifacts, which are small.
const IMPORTS_BYTES_MAX: usize = 8 << 20;
/// Rows that go in one transaction, so that others have their turn in between.
const TRIM_AT_ONCE: usize = 1000;

/// A run that is to be.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its summary.
    pub summary: Summary,
    /// What it is asked to do.
    pub request: Request,
}

/// A run as the engine sees it, and how often it had been changed by then.
#[derive(Debug)]
pub struct Loaded {
    /// For the engine.
    pub state: State,
    /// For [`Store::commit`].
    pub version: u64,
}

/// Everything that is stored of a run, from one consistent read.
#[derive(Debug, Clone)]
pub struct RunParts {
    /// Its summary.
    pub summary: Summary,
    /// What it was asked to do.
    pub request: Request,
    /// Its tasks, by path.
    pub tasks: Vec<Task>,
    /// The revision of the read.
    pub revision: u64,
}

impl Store {
    /// Stores a new run together with the engine's first decision about it.
    ///
    /// # Errors
    /// When the store refuses; then there is no run.
    pub async fn create_run(&self, new: NewRun, writes: Vec<Write>) -> Result<(), Error> {
        let id = new.summary.id.clone();
        let experiment_id = new.summary.experiment_id.clone();
        self.write(move |tx| {
            REQUESTS.put(tx, &new.summary.id, &new.request)?;
            RUNS.put(tx, &new.summary.id, &new.summary)?;
            let version = tx.revision() + 1;
            ACTIVE.put(tx, &new.summary.id, &version)?;
            let experiment = EXPERIMENTS.get(tx, &experiment_id)?;
            if let Some(mut experiment) = experiment {
                experiment.last_run_created_at = Some(new.summary.created_at);
                EXPERIMENTS.put(tx, &experiment_id, &experiment)?;
            }
            apply(tx, &new.summary, &writes)
        })
        .await?;
        self.tell(&id)
    }

    /// Applies a decision about a run that was loaded at `version`; gives the version it has then.
    ///
    /// # Errors
    /// [`Error::Stale`] when somebody changed the run in between; nothing is written then.
    pub async fn commit(&self, run: &Summary, version: u64, writes: Vec<Write>) -> Result<u64, Error> {
        let (id, base) = (run.id.clone(), run.clone());
        let version = self
            .write(move |tx| {
                let found = ACTIVE.get(tx, &base.id)?;
                if found.unwrap_or(0) != version {
                    return Err(Error::Stale(base.id.clone()));
                }
                apply(tx, &base, &writes)?;
                let summary = latest(&base, &writes);
                if summary.as_ref().unwrap_or(&base).state.is_final() {
                    ACTIVE.delete(tx, &base.id);
                    return Ok(0);
                }
                // The store's revision never comes back, so a version names one state of one run for ever.
                let version = tx.revision() + 1;
                ACTIVE.put(tx, &base.id, &version)?;
                Ok(version)
            })
            .await?;
        self.tell(&id)?;
        Ok(version)
    }

    /// Changes what lists show of a run (name, archive), not what the engine decides.
    ///
    /// # Errors
    /// When there is no such run or the store refuses.
    pub async fn change_run(
        &self,
        id: &str,
        change: impl FnOnce(&mut Summary) + Send + 'static,
    ) -> Result<Summary, Error> {
        let key = id.to_owned();
        let summary = self
            .write(move |tx| {
                let mut summary =
                    RUNS.get(tx, &key)?.ok_or_else(|| Error::NotFound { kind: "Run", id: key.clone() })?;
                change(&mut summary);
                RUNS.put(tx, &key, &summary)?;
                // The controller holds a summary of its own; it must not write it over this one.
                if ACTIVE.get(tx, &key)?.is_some() {
                    let version = tx.revision() + 1;
                    ACTIVE.put(tx, &key, &version)?;
                }
                Ok(summary)
            })
            .await?;
        self.tell(id)?;
        Ok(summary)
    }

    /// Removes a run and everything about it.
    ///
    /// # Errors
    /// When there is no such run or the store refuses.
    pub async fn delete_run(&self, id: &str) -> Result<(), Error> {
        let key = id.to_owned();
        self.write(move |tx| {
            RUNS.delete(tx, &key).ok_or_else(|| Error::NotFound { kind: "Run", id: key.clone() })?;
            ACTIVE.delete(tx, &key);
            delete_hot(tx, &key);
            forget(tx, &key)
        })
        .await?;
        self.tell(id)
    }

    /// What an unfinished run is and what it was asked to do, without its tasks.
    ///
    /// # Errors
    /// When there is no such run in memory or a row cannot be read.
    pub fn head(&self, id: &str) -> Result<(Summary, Request), Error> {
        self.db.read(|view| {
            let missing = || Error::NotFound { kind: "Run", id: id.to_owned() };
            Ok((RUNS.get(view, id)?.ok_or_else(missing)?, REQUESTS.get(view, id)?.ok_or_else(missing)?))
        })
    }

    /// A run for the engine. One that is over may have left memory: [`Self::unarchive`] it first.
    ///
    /// # Errors
    /// When there is no such run in memory or a row cannot be read.
    pub fn load(&self, id: &str) -> Result<Loaded, Error> {
        let (parts, items, version) = self.db.read(|view| {
            let missing = || Error::NotFound { kind: "Run", id: id.to_owned() };
            // An archive that is being unpacked is not whole yet.
            if ARCHIVED.get(view, id)?.is_some() {
                return Err(missing());
            }
            let parts = RunParts {
                summary: RUNS.get(view, id)?.ok_or_else(missing)?,
                request: REQUESTS.get(view, id)?.ok_or_else(missing)?,
                tasks: tasks_of(view, id)?,
                revision: view.revision(),
            };
            let prefix = tables::task_key(id, "");
            let items = ITEMS.range(view, &prefix, None, usize::MAX)?;
            let items: Vec<_> =
                items.into_iter().map(|(key, items)| (key.trim_start_matches(&prefix).to_owned(), items)).collect();
            Ok::<_, Error>((parts, items, ACTIVE.get(view, id)?.unwrap_or(0)))
        })?;
        let package =
            Package::from_json(parts.request.document.clone()).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let plan = Arc::new(Plan::new(package.ir));
        let state = State::load(parts.summary, Arc::new(parts.request), plan, parts.tasks, items);
        Ok(Loaded { state, version })
    }

    /// How often an unfinished run was changed; `None` for one that is over or gone.
    ///
    /// # Errors
    /// When the row cannot be read.
    pub fn run_version(&self, id: &str) -> Result<Option<u64>, Error> {
        Ok(self.db.read(|view| ACTIVE.get(view, id))?)
    }

    /// The ids of unfinished runs.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn active_runs(&self) -> Result<Vec<String>, Error> {
        let rows = self.db.read(|view| ACTIVE.range(view, "", None, usize::MAX))?;
        Ok(rows.into_iter().map(|(id, _)| id).collect())
    }

    /// A task of an unfinished run; of one that is over it may have left memory.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn task(&self, run_id: &str, path: &str) -> Result<Option<Task>, Error> {
        Ok(self.db.read(|view| TASKS.get(view, &tables::task_key(run_id, path)))?)
    }

    /// Lets go of results of deleted runs, and of the oldest of what the cache holds beyond its bounds.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn trim_results(&self) -> Result<(), Error> {
        let mut doomed: Vec<(RawTable, Arc<[u8]>, u64)> = Vec::new();
        for (table, bytes_max) in [(CACHE.raw(), RESULTS_BYTES_MAX), (IMPORTS.raw(), IMPORTS_BYTES_MAX)] {
            let mut rows = self.db.read(|view| view.range(table, b"", None, usize::MAX));
            rows.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.revision));
            let mut bytes = 0;
            for (key, entry) in rows {
                bytes += key.len() + entry.value.len();
                let orphan = table == CACHE.raw()
                    && CACHE.decode(&key, &entry.value).map_or(true, |row| self.library.run(&row.run_id).is_none());
                if orphan || bytes > bytes_max {
                    doomed.push((table, key, entry.revision));
                }
            }
        }
        for part in doomed.chunks(TRIM_AT_ONCE) {
            let part = part.to_vec();
            self.write(move |tx| {
                for (table, key, revision) in part {
                    // One that was renewed in the meantime stays.
                    if tx.get(table, &key).is_some_and(|entry| entry.revision == revision) {
                        tx.delete(table, &key);
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Earlier results, for a run of this pipeline in this namespace.
    pub fn cache(&self, namespace: &str, pipeline: &str) -> Results {
        Results { db: self.db.clone(), namespace: namespace.to_owned(), pipeline: pipeline.to_owned() }
    }

    fn tell(&self, id: &str) -> Result<(), Error> {
        self.library.follow(&self.db, id)?;
        // No receiver is fine: nobody is looking.
        let _ = self.changes.send(id.to_owned());
        Ok(())
    }
}

pub(super) fn tasks_of(view: &impl Read, id: &str) -> Result<Vec<Task>, Error> {
    let rows = TASKS.range(view, &tables::task_key(id, ""), None, usize::MAX)?;
    Ok(rows.into_iter().map(|(_, task)| task).collect())
}

fn latest(base: &Summary, writes: &[Write]) -> Option<Summary> {
    writes.iter().rev().find_map(|write| match write {
        Write::Run(summary) if summary.id == base.id => Some(summary.as_ref().clone()),
        _ => None,
    })
}

fn apply(tx: &mut records::Transaction<'_>, run: &Summary, writes: &[Write]) -> Result<(), Error> {
    for write in writes {
        match write {
            Write::Run(summary) => {
                RUNS.put(tx, &summary.id, summary)?;
            }
            Write::Task(task) => {
                TASKS.put(tx, &tables::task_key(&run.id, &task.path), task)?;
                remember_import(tx, run, task)?;
            }
            Write::Forget(path) => {
                let key = tables::task_key(&run.id, path);
                TASKS.delete(tx, &key);
                ITEMS.delete(tx, &key);
            }
            Write::Items(path, items) => {
                ITEMS.put(tx, &tables::task_key(&run.id, path), items)?;
            }
            Write::Cache { fingerprint, path } => {
                remember_result(tx, run, fingerprint, path)?;
            }
        }
    }
    Ok(())
}

fn remember_result(
    tx: &mut records::Transaction<'_>,
    run: &Summary,
    fingerprint: &str,
    path: &str,
) -> Result<(), Error> {
    let Some(task) = TASKS.get(tx, &tables::task_key(&run.id, path))? else { return Ok(()) };
    let ended_at = task.times.ended_at.unwrap_or(task.times.created_at);
    let row = CacheRow { run_id: run.id.clone(), path: path.to_owned(), outputs: Some(task.outputs), ended_at };
    CACHE.put(tx, &tables::cache_key(&run.namespace, &run.pipeline_name, fingerprint), &row)?;
    Ok(())
}

fn remember_import(tx: &mut records::Transaction<'_>, run: &Summary, task: &Task) -> Result<(), Error> {
    if task.kind != Kind::Importer || !task.state.is_success() {
        return Ok(());
    }
    for artifact in task.outputs.artifacts.values().flatten() {
        IMPORTS.put(tx, &tables::import_key(&run.namespace, &run.pipeline_name, artifact), artifact)?;
    }
    Ok(())
}

/// Earlier results of one pipeline in one namespace.
pub struct Results {
    db: Db,
    namespace: String,
    pipeline: String,
}

impl Cache for Results {
    fn find(&self, fingerprint: &str) -> Option<Hit> {
        let key = tables::cache_key(&self.namespace, &self.pipeline, fingerprint);
        self.db.read(|view| {
            let row = CACHE.get(view, &key).ok().flatten()?;
            // The artifacts of a deleted run are gone.
            view.get(RUNS.raw(), row.run_id.as_bytes())?;
            let from = CachedFrom { run_id: row.run_id, task: row.path, at: row.ended_at };
            Some(Hit { outputs: row.outputs?, from })
        })
    }

    fn find_imported(&self, wanted: &Artifact) -> Option<Artifact> {
        let key = tables::import_key(&self.namespace, &self.pipeline, wanted);
        self.db.read(|view| IMPORTS.get(view, &key)).ok().flatten()
    }
}
