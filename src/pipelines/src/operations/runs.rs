//! Runs: start, look at, stop, retry, archive, delete.

use std::sync::Arc;

use auth::caller::Caller;
use foundation::id;
use foundation::problem::{Kind, Problem};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Operations;
use super::experiments::storage_name;
use super::listing::{Field, Listed, Page, Query, page};
use crate::engine::plan::Plan;
use crate::engine::{Event, Refused, inputs, state, step};
use crate::ir::package::Package;
use crate::ir::{Component, ParameterType};
use crate::store::{Error, RunParts};
use crate::types::experiment::Storage;
use crate::types::run::{self, Request, StartedBy, Summary};

/// Longer names are cut off by nothing that we know of; this is what a page can show.
const NAME_MAX_CHARS: usize = 512;
/// Others changed the run in between: how often to decide again before giving up.
const TRIES: usize = 16;

/// What a run is of.
#[derive(Debug, Clone)]
pub enum RunSource {
    /// A package that came with the request.
    Inline(Box<Package>),
    /// A stored version; without a version id the newest.
    Version {
        /// The pipeline; empty where only the version is named.
        pipeline_id: String,
        /// The version.
        version_id: Option<String>,
    },
}

/// A run that is to be.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// What the user calls it.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its experiment; else the default one.
    pub experiment_id: Option<String>,
    /// What it runs.
    pub source: RunSource,
    /// Values by name.
    pub parameters: Map<String, Value>,
    /// Where its artifacts go.
    pub pipeline_root: Option<String>,
    /// The pods' service account.
    pub service_account: String,
    /// `ui`, `cli`, `sdk`, `api`.
    pub from: String,
}

/// A package with the pipeline that it is a version of, and that version's id and name.
type Resolved = (Package, Option<String>, Option<(String, String)>);

/// A run with all its tasks, from one consistent read.
pub type RunView = RunParts;

impl Operations {
    /// Starts a run; it is on disk when this returns.
    ///
    /// # Errors
    /// When what it is of cannot run, parameters do not fit, or the caller may not.
    pub async fn create_run(&self, caller: &Caller, new: NewRun) -> Result<RunView, Problem> {
        self.allow(caller, "create", "runs")?;
        if new.name.trim().is_empty() {
            return Err(Problem::invalid("Invalid input error: a run needs a name"));
        }
        if new.name.chars().count() > NAME_MAX_CHARS {
            let text = format!("Invalid input error: the run's name is longer than {NAME_MAX_CHARS} characters");
            return Err(Problem::invalid(text));
        }
        let experiment = match &new.experiment_id {
            Some(id) => self.store.experiment(id)?,
            None => self.default_experiment().await?,
        };
        if experiment.storage == Storage::Archived {
            return Err(Problem::new(Kind::FailedPrecondition, format!("Experiment {} is archived", experiment.name))
                .remedy("Restore it, or choose another."));
        }
        let (package, pipeline_id, version) = self.package_of(new.source)?;
        let pipeline_root = new.pipeline_root.clone().filter(|root| !root.is_empty());
        let pipeline_root = pipeline_root.unwrap_or_else(|| artifacts::uri::DEFAULT_ROOT.to_owned());
        artifacts::uri::Uri::parse(&pipeline_root)
            .map_err(|error| Problem::invalid(format!("Invalid input error: pipeline root {error}")))?;
        let (run_id, now) = (id::uuid(), self.store.now());
        let parameters = check_parameters(&package.ir.root, new.parameters, &run_id, now)?;
        let pipeline_name = package.ir.pipeline_info.name.clone();
        let request = Request {
            document: package.document(),
            parameters,
            pipeline_root,
            service_account: new.service_account,
            resource_name: format!("{pipeline_name}-{}", id::random_suffix(5)),
            pipeline_root_given: new.pipeline_root.unwrap_or_default(),
        };
        let summary = Summary {
            id: run_id,
            name: new.name,
            description: new.description,
            namespace: self.namespace.clone(),
            experiment_id: experiment.id,
            experiment_name: experiment.name,
            pipeline_id,
            version_id: version.as_ref().map(|(id, _)| id.clone()),
            pipeline_name,
            version_name: version.map(|(_, name)| name),
            state: run::State::Pending,
            storage: Storage::Available,
            created_at: now,
            scheduled_at: now,
            finished_at: None,
            history: vec![run::Since { state: run::State::Pending, at: now }],
            started_by: StartedBy { user: caller.identity.user.clone(), from: new.from },
            steps_done: 0,
            steps_known: 0,
            strip: Vec::new(),
            failure: None,
            metrics: Map::new(),
        };
        let state = state::State::new(summary.clone(), Arc::new(request.clone()), Arc::new(Plan::new(package.ir)));
        let cache = self.store.cache(&summary.namespace, &summary.pipeline_name);
        let (transition, _) = step::step(&state, &[Event::Created], now, &cache).map_err(refused)?;
        let id = summary.id.clone();
        self.store.create_run(crate::store::NewRun { summary, request }, transition.writes).await?;
        Ok(self.store.run(&id).await?)
    }

    /// A run with all its tasks.
    ///
    /// # Errors
    /// When there is none of this id or the caller may not.
    pub async fn run(&self, caller: &Caller, id: &str) -> Result<RunView, Problem> {
        self.allow(caller, "get", "runs")?;
        Ok(self.store.run(id).await?)
    }

    /// A page of runs, of one experiment or of all.
    ///
    /// # Errors
    /// When the query does not fit or the caller may not.
    pub fn runs(
        &self,
        caller: &Caller,
        experiment_id: Option<&str>,
        query: &Query,
    ) -> Result<Page<Arc<Summary>>, Problem> {
        self.allow(caller, "list", "runs")?;
        let runs = self.store.library().runs(|run| experiment_id.is_none_or(|id| run.experiment_id == id));
        page(runs, query)
    }

    /// A page of the runs that `wanted` accepts.
    ///
    /// # Errors
    /// When the query does not fit or the caller may not.
    pub fn runs_where(
        &self,
        caller: &Caller,
        wanted: impl Fn(&Summary) -> bool,
        query: &Query,
    ) -> Result<Page<Arc<Summary>>, Problem> {
        self.allow(caller, "list", "runs")?;
        page(self.store.library().runs(wanted), query)
    }

    /// Asks a run to stop.
    ///
    /// # Errors
    /// When there is none of this id, it is over, or the caller may not.
    pub async fn terminate_run(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        self.allow(caller, "terminate", "runs")?;
        self.decide(id, Event::Cancel).await
    }

    /// Lets a failed or stopped run go on from what failed.
    ///
    /// # Errors
    /// When there is none of this id, it neither failed nor was stopped, or the caller may not.
    pub async fn retry_run(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        self.allow(caller, "retry", "runs")?;
        self.decide(id, Event::Retry).await
    }

    /// Puts a run away, or brings it back.
    ///
    /// # Errors
    /// When there is none of this id or the caller may not.
    pub async fn archive_run(&self, caller: &Caller, id: &str, storage: Storage) -> Result<(), Problem> {
        let verb = if storage == Storage::Archived { "archive" } else { "unarchive" };
        self.allow(caller, verb, "runs")?;
        self.store.change_run(id, move |run| run.storage = storage).await?;
        Ok(())
    }

    /// Deletes a run, with its logs and artifacts. A run that is at work is stopped by that.
    ///
    /// # Errors
    /// When there is none of this id or the caller may not.
    pub async fn delete_run(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        self.allow(caller, "delete", "runs")?;
        let parts = self.store.run(id).await?;
        self.store.delete_run(id).await?;
        let root = parts.request.pipeline_root.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        let uri = format!("{root}/{}/{id}", parts.summary.pipeline_name);
        let (artifacts, logs) = (self.artifacts.clone(), self.logs.of_run(id));
        let sweep = move || {
            if let Err(error) = artifacts.delete(&uri) {
                tracing::warn!(error = %foundation::problem::chain(&error), "artifacts of a deleted run stay");
            }
            match std::fs::remove_dir_all(&logs) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "logs of a deleted run stay");
                }
                _ => {}
            }
        };
        foundation::tasks::blocking("sweep a deleted run", sweep)
            .await
            .map_err(|error| Problem::internal("The run is deleted, its files are not", error))
    }

    async fn decide(&self, id: &str, event: Event) -> Result<(), Problem> {
        for _ in 0..TRIES {
            if let Some(over) = self.store.library().run(id).map(|run| run.state).filter(|state| state.is_final()) {
                match event {
                    Event::Retry if matches!(over, run::State::Failed | run::State::Canceled) => {
                        self.store.unarchive(id).await?;
                    }
                    Event::Retry => return Err(refused(Refused::NotRetryable(over))),
                    _ => return Err(refused(Refused::NotCancelable(over))),
                }
            }
            let loaded = match self.store.load(id) {
                // It has just ended, or left memory again.
                Err(Error::NotFound { .. }) if self.store.library().run(id).is_some() => continue,
                loaded => loaded?,
            };
            let cache = self.store.cache(&loaded.state.run.namespace, &loaded.state.run.pipeline_name);
            let decided = step::step(&loaded.state, std::slice::from_ref(&event), self.store.now(), &cache);
            let (transition, _) = decided.map_err(refused)?;
            match self.store.commit(&loaded.state.run, loaded.version, transition.writes).await {
                Ok(_) => return Ok(()),
                Err(Error::Stale(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Stale(id.to_owned()).into())
    }

    fn package_of(&self, source: RunSource) -> Result<Resolved, Problem> {
        match source {
            RunSource::Inline(package) => Ok((*package, None, None)),
            RunSource::Version { pipeline_id, version_id } => {
                let version = match version_id {
                    Some(id) if pipeline_id.is_empty() => self.store.find_version(&id)?,
                    Some(id) => self.store.version(&pipeline_id, &id)?,
                    None => {
                        self.store.pipeline(&pipeline_id)?;
                        let versions = self.store.versions(&pipeline_id)?;
                        let none =
                            || Problem::invalid(format!("Invalid input error: pipeline {pipeline_id} has no versions"));
                        versions.into_iter().next_back().ok_or_else(none)?
                    }
                };
                let package = Package::from_json(version.document)?;
                Ok((package, Some(version.pipeline_id), Some((version.id, version.display_name))))
            }
        }
    }
}

fn refused(error: Refused) -> Problem {
    Problem::new(Kind::FailedPrecondition, error.to_string())
}

/// Checks the parameters of a run against what its root declares, and replaces the macros in their texts.
fn check_parameters(
    root: &Component,
    given: Map<String, Value>,
    run_id: &str,
    now: Timestamp,
) -> Result<Map<String, Value>, Problem> {
    let bad = |text: String| Problem::invalid(format!("Invalid input error: {text}"));
    let declared = &root.input_definitions.parameters;
    let mut parameters = Map::new();
    for (name, value) in given {
        let Some(input) = declared.get(&name) else {
            let known: Vec<&str> = declared.keys().map(String::as_str).collect();
            return Err(bad(format!("unknown parameter {name:?}; the pipeline takes: {}", known.join(", "))));
        };
        if value.is_null() {
            continue;
        }
        let value = inputs::fit(&name, macros(value, run_id, now), input.parameter_type)
            .map_err(|_| bad(format!("parameter {name:?} must be {}", type_name(input.parameter_type))))?;
        let allowed = |literal: &Value| crate::ir::whole_numbers(literal.clone()) == value;
        if !input.literals.is_empty() && !input.literals.iter().any(allowed) {
            return Err(bad(format!("parameter {name:?} is none of its allowed values")));
        }
        parameters.insert(name, value);
    }
    let missing: Vec<&str> = declared
        .iter()
        .filter(|(name, input)| !parameters.contains_key(*name) && input.default_value.is_none() && !input.is_optional)
        .map(|(name, _)| name.as_str())
        .collect();
    if missing.is_empty() { Ok(parameters) } else { Err(bad(format!("missing parameters: {}", missing.join(", ")))) }
}

fn type_name(declared: ParameterType) -> &'static str {
    match declared {
        ParameterType::NumberDouble => "a number",
        ParameterType::NumberInteger => "a whole number",
        ParameterType::String => "a text",
        ParameterType::Boolean => "true or false",
        ParameterType::List => "a list",
        ParameterType::Struct => "an object",
        ParameterType::Unspecified | ParameterType::TaskFinalStatus | ParameterType::TaskConfig => "a value",
    }
}

/// `[[RunUUID]]` and its kin in the texts of parameters. Source: KFP's parameter formatter; the default layout is
/// `yyyymmddHHMMSS`.
fn macros(value: Value, run_id: &str, now: Timestamp) -> Value {
    match value {
        Value::String(text) if text.contains("[[") => {
            let time = now.strftime("%Y%m%d%H%M%S").to_string();
            let text = text.replace("[[RunUUID]]", run_id);
            Value::String(text.replace("[[CurrentTime]]", &time).replace("[[ScheduledTime]]", &time))
        }
        other => other,
    }
}

/// KFP `RuntimeState` by its name on the wire.
pub(crate) fn state_name(state: run::State) -> &'static str {
    match state {
        run::State::Pending => "PENDING",
        run::State::Running => "RUNNING",
        run::State::Succeeded => "SUCCEEDED",
        run::State::Failed => "FAILED",
        run::State::Canceling => "CANCELING",
        run::State::Canceled => "CANCELED",
    }
}

impl Listed for Arc<Summary> {
    const KIND: &'static str = "Run";

    fn id(&self) -> &str {
        &self.id
    }

    fn field(&self, name: &str) -> Option<Field> {
        Some(match name {
            "id" | "run_id" => Field::Text(self.id.clone()),
            "name" | "display_name" => Field::Text(self.name.clone()),
            "created_at" => Field::Time(self.created_at),
            "finished_at" => self.finished_at.map_or(Field::None, Field::Time),
            "scheduled_at" => Field::Time(self.scheduled_at),
            "description" => Field::Text(self.description.clone()),
            "storage_state" => Field::Text(storage_name(self.storage).to_owned()),
            "status" | "state" => Field::Text(state_name(self.state).to_owned()),
            "namespace" => Field::Text(self.namespace.clone()),
            "experiment_id" => Field::Text(self.experiment_id.clone()),
            "pipeline_id" => self.pipeline_id.clone().map_or(Field::None, Field::Text),
            "pipeline_version_id" => self.version_id.clone().map_or(Field::None, Field::Text),
            "recurring_run_id" => Field::None,
            "state_history" | "runtime_details" => Field::None,
            _ => {
                let metric = name.strip_prefix("metric:")?;
                self.metrics.get(metric).and_then(Value::as_f64).map_or(Field::None, Field::Number)
            }
        })
    }

    fn has_field(name: &str) -> bool {
        matches!(
            name,
            "id" | "run_id"
                | "name"
                | "display_name"
                | "created_at"
                | "finished_at"
                | "scheduled_at"
                | "description"
                | "storage_state"
                | "status"
                | "state"
                | "namespace"
                | "experiment_id"
                | "pipeline_id"
                | "pipeline_version_id"
                | "recurring_run_id"
                | "state_history"
                | "runtime_details"
        ) || name.starts_with("metric:")
    }
}
