//! Experiments.

use auth::caller::Caller;
use foundation::id;
use foundation::problem::Problem;

use super::Operations;
use super::listing::{Field, Listed, Page, Query, page};
use crate::types::experiment::{DEFAULT_NAME, Experiment, NAME_MAX_CHARS, Storage};

/// An experiment that is to be.
#[derive(Debug, Clone, Default)]
pub struct NewExperiment {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
}

impl Operations {
    /// Makes an experiment.
    ///
    /// # Errors
    /// When the name is empty, too long or taken, or the caller may not.
    pub async fn create_experiment(&self, caller: &Caller, new: NewExperiment) -> Result<Experiment, Problem> {
        self.allow(caller, "create", "experiments")?;
        if new.name.trim().is_empty() {
            return Err(Problem::invalid("Invalid input error: an experiment needs a name"));
        }
        if new.name.chars().count() > NAME_MAX_CHARS {
            let text = format!("Invalid input error: the name is longer than {NAME_MAX_CHARS} characters");
            return Err(Problem::invalid(text));
        }
        let experiment = self.new_experiment(new);
        self.store.create_experiment(experiment.clone()).await?;
        Ok(experiment)
    }

    /// An experiment.
    ///
    /// # Errors
    /// When there is none of this id or the caller may not.
    pub fn experiment(&self, caller: &Caller, id: &str) -> Result<Experiment, Problem> {
        self.allow(caller, "get", "experiments")?;
        Ok(self.store.experiment(id)?)
    }

    /// A page of experiments.
    ///
    /// # Errors
    /// When the query does not fit or the caller may not.
    pub fn experiments(&self, caller: &Caller, query: &Query) -> Result<Page<Experiment>, Problem> {
        self.allow(caller, "list", "experiments")?;
        page(self.store.experiments()?, query)
    }

    /// Archives an experiment and its runs, or brings the experiment back.
    ///
    /// # Errors
    /// When there is none of this id or the caller may not.
    pub async fn archive_experiment(&self, caller: &Caller, id: &str, storage: Storage) -> Result<(), Problem> {
        let verb = if storage == Storage::Archived { "archive" } else { "unarchive" };
        self.allow(caller, verb, "experiments")?;
        self.store.change_experiment(id, move |experiment| experiment.storage = storage).await?;
        if storage == Storage::Archived {
            for run in self.store.library().runs(|run| run.experiment_id == id) {
                self.store.change_run(&run.id, |run| run.storage = Storage::Archived).await?;
            }
        }
        Ok(())
    }

    /// Deletes an experiment; its runs stay. The default one stays too.
    ///
    /// # Errors
    /// When there is none of this id, it is the default one, or the caller may not.
    pub async fn delete_experiment(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        self.allow(caller, "delete", "experiments")?;
        if self.store.experiment(id)?.name == DEFAULT_NAME {
            return Err(Problem::invalid("Invalid input error: the default experiment cannot be deleted"));
        }
        Ok(self.store.delete_experiment(id).await?)
    }

    /// The experiment of runs that name none; made when it is first needed.
    pub(super) async fn default_experiment(&self) -> Result<Experiment, Problem> {
        let find = |operations: &Self| {
            let all = operations.store.experiments()?;
            Ok::<_, Problem>(
                all.into_iter().find(|one| one.name == DEFAULT_NAME && one.namespace == operations.namespace),
            )
        };
        if let Some(found) = find(self)? {
            return Ok(found);
        }
        let new = self.new_experiment(NewExperiment {
            name: DEFAULT_NAME.to_owned(),
            description: "Runs that name no experiment".to_owned(),
        });
        match self.store.create_experiment(new.clone()).await {
            Ok(()) => Ok(new),
            // Somebody else made it in between.
            Err(error) => find(self)?.ok_or_else(|| error.into()),
        }
    }

    fn new_experiment(&self, new: NewExperiment) -> Experiment {
        Experiment {
            id: id::uuid(),
            name: new.name,
            description: new.description,
            namespace: self.namespace.clone(),
            storage: Storage::Available,
            created_at: self.store.now(),
            last_run_created_at: None,
        }
    }
}

/// KFP `StorageState` by its name on the wire.
pub(super) fn storage_name(storage: Storage) -> &'static str {
    match storage {
        Storage::Available => "AVAILABLE",
        Storage::Archived => "ARCHIVED",
    }
}

impl Listed for Experiment {
    const KIND: &'static str = "Experiment";

    fn id(&self) -> &str {
        &self.id
    }

    fn field(&self, name: &str) -> Option<Field> {
        Some(match name {
            "id" | "experiment_id" => Field::Text(self.id.clone()),
            "name" | "display_name" => Field::Text(self.name.clone()),
            "created_at" => Field::Time(self.created_at),
            "last_run_created_at" => self.last_run_created_at.map_or(Field::None, Field::Time),
            "description" => Field::Text(self.description.clone()),
            "namespace" => Field::Text(self.namespace.clone()),
            "storage_state" => Field::Text(storage_name(self.storage).to_owned()),
            _ => return None,
        })
    }

    fn has_field(name: &str) -> bool {
        matches!(
            name,
            "id" | "experiment_id"
                | "name"
                | "display_name"
                | "created_at"
                | "last_run_created_at"
                | "description"
                | "namespace"
                | "storage_state"
        )
    }
}
