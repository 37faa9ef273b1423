//! Pipelines, their versions, and experiments.

use super::tables::{self, EXPERIMENTS, PIPELINES, VERSIONS};
use super::{Error, Store};
use crate::types::experiment::Experiment;
use crate::types::pipeline::{Pipeline, Version};

fn missing(kind: &'static str, id: &str) -> Error {
    Error::NotFound { kind, id: id.to_owned() }
}

impl Store {
    /// Stores a pipeline, with a first version if there is one.
    ///
    /// # Errors
    /// When the name is taken in its namespace or the store refuses.
    pub async fn create_pipeline(&self, pipeline: Pipeline, version: Option<Version>) -> Result<(), Error> {
        self.write(move |tx| {
            for (_, other) in PIPELINES.range(tx, "", None, usize::MAX)? {
                if other.name == pipeline.name && other.namespace == pipeline.namespace {
                    return Err(Error::AlreadyExists { kind: "Pipeline", name: pipeline.name.clone() });
                }
            }
            PIPELINES.put(tx, &pipeline.id, &pipeline)?;
            if let Some(version) = version {
                VERSIONS.put(tx, &tables::version_key(&pipeline.id, &version.id), &version)?;
            }
            Ok(())
        })
        .await
    }

    /// Stores a version of a pipeline that exists.
    ///
    /// # Errors
    /// When the name is taken in the pipeline, there is no such pipeline, or the store refuses.
    pub async fn create_version(&self, version: Version) -> Result<(), Error> {
        self.write(move |tx| {
            PIPELINES.get(tx, &version.pipeline_id)?.ok_or_else(|| missing("Pipeline", &version.pipeline_id))?;
            for (_, other) in VERSIONS.range(tx, &tables::version_key(&version.pipeline_id, ""), None, usize::MAX)? {
                if other.name == version.name {
                    return Err(Error::AlreadyExists { kind: "Pipeline version", name: version.name.clone() });
                }
            }
            VERSIONS.put(tx, &tables::version_key(&version.pipeline_id, &version.id), &version)?;
            Ok(())
        })
        .await
    }

    /// A pipeline.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn pipeline(&self, id: &str) -> Result<Pipeline, Error> {
        self.db.read(|view| PIPELINES.get(view, id))?.ok_or_else(|| missing("Pipeline", id))
    }

    /// All pipelines, in no order.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn pipelines(&self) -> Result<Vec<Pipeline>, Error> {
        let rows = self.db.read(|view| PIPELINES.range(view, "", None, usize::MAX))?;
        Ok(rows.into_iter().map(|(_, pipeline)| pipeline).collect())
    }

    /// A version of a pipeline.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn version(&self, pipeline_id: &str, id: &str) -> Result<Version, Error> {
        let found = self.db.read(|view| VERSIONS.get(view, &tables::version_key(pipeline_id, id)))?;
        found.ok_or_else(|| missing("Pipeline version", id))
    }

    /// All versions of a pipeline, oldest first.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn versions(&self, pipeline_id: &str) -> Result<Vec<Version>, Error> {
        let prefix = tables::version_key(pipeline_id, "");
        let rows = self.db.read(|view| VERSIONS.range(view, &prefix, None, usize::MAX))?;
        let mut versions: Vec<Version> = rows.into_iter().map(|(_, version)| version).collect();
        versions.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(versions)
    }

    /// A version by its id alone, as the oldest clients name it.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn find_version(&self, id: &str) -> Result<Version, Error> {
        let rows = self.db.read(|view| VERSIONS.range(view, "", None, usize::MAX))?;
        let found = rows.into_iter().map(|(_, version)| version).find(|version| version.id == id);
        found.ok_or_else(|| missing("Pipeline version", id))
    }

    /// Changes a pipeline.
    ///
    /// # Errors
    /// When there is none of this id or the store refuses.
    pub async fn change_pipeline(
        &self,
        id: &str,
        change: impl FnOnce(&mut Pipeline) + Send + 'static,
    ) -> Result<Pipeline, Error> {
        let id = id.to_owned();
        self.write(move |tx| {
            let mut pipeline = PIPELINES.get(tx, &id)?.ok_or_else(|| missing("Pipeline", &id))?;
            change(&mut pipeline);
            PIPELINES.put(tx, &id, &pipeline)?;
            Ok(pipeline)
        })
        .await
    }

    /// Changes what a version is called, never what it does.
    ///
    /// # Errors
    /// When there is none of this id or the store refuses.
    pub async fn change_version(
        &self,
        pipeline_id: &str,
        id: &str,
        change: impl FnOnce(&mut Version) + Send + 'static,
    ) -> Result<Version, Error> {
        let (key, id) = (tables::version_key(pipeline_id, id), id.to_owned());
        self.write(move |tx| {
            let mut version = VERSIONS.get(tx, &key)?.ok_or_else(|| missing("Pipeline version", &id))?;
            change(&mut version);
            VERSIONS.put(tx, &key, &version)?;
            Ok(version)
        })
        .await
    }

    /// Removes a pipeline; with `cascade` its versions too. False when it has versions and they were to stay.
    ///
    /// # Errors
    /// When there is none of this id or the store refuses.
    pub async fn delete_pipeline(&self, id: &str, cascade: bool) -> Result<bool, Error> {
        let id = id.to_owned();
        self.write(move |tx| {
            PIPELINES.get(tx, &id)?.ok_or_else(|| missing("Pipeline", &id))?;
            let versions = tx.range(VERSIONS.raw(), tables::version_key(&id, "").as_bytes(), None, usize::MAX);
            if !versions.is_empty() && !cascade {
                return Ok(false);
            }
            for (key, _) in versions {
                tx.delete(VERSIONS.raw(), &key);
            }
            PIPELINES.delete(tx, &id);
            Ok(true)
        })
        .await
    }

    /// Removes a version.
    ///
    /// # Errors
    /// When there is none of this id or the store refuses.
    pub async fn delete_version(&self, pipeline_id: &str, id: &str) -> Result<(), Error> {
        let (key, id) = (tables::version_key(pipeline_id, id), id.to_owned());
        self.write(move |tx| VERSIONS.delete(tx, &key).map(|_| ()).ok_or_else(|| missing("Pipeline version", &id)))
            .await
    }

    /// Stores an experiment.
    ///
    /// # Errors
    /// When the name is taken in its namespace or the store refuses.
    pub async fn create_experiment(&self, experiment: Experiment) -> Result<(), Error> {
        self.write(move |tx| {
            for (_, other) in EXPERIMENTS.range(tx, "", None, usize::MAX)? {
                if other.name == experiment.name && other.namespace == experiment.namespace {
                    return Err(Error::AlreadyExists { kind: "Experiment", name: experiment.name.clone() });
                }
            }
            EXPERIMENTS.put(tx, &experiment.id, &experiment)?;
            Ok(())
        })
        .await
    }

    /// An experiment.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn experiment(&self, id: &str) -> Result<Experiment, Error> {
        self.db.read(|view| EXPERIMENTS.get(view, id))?.ok_or_else(|| missing("Experiment", id))
    }

    /// All experiments, in no order.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn experiments(&self) -> Result<Vec<Experiment>, Error> {
        let rows = self.db.read(|view| EXPERIMENTS.range(view, "", None, usize::MAX))?;
        Ok(rows.into_iter().map(|(_, experiment)| experiment).collect())
    }

    /// Changes an experiment.
    ///
    /// # Errors
    /// When there is none of this id or the store refuses.
    pub async fn change_experiment(
        &self,
        id: &str,
        change: impl FnOnce(&mut Experiment) + Send + 'static,
    ) -> Result<Experiment, Error> {
        let id = id.to_owned();
        self.write(move |tx| {
            let mut experiment = EXPERIMENTS.get(tx, &id)?.ok_or_else(|| missing("Experiment", &id))?;
            change(&mut experiment);
            EXPERIMENTS.put(tx, &id, &experiment)?;
            Ok(experiment)
        })
        .await
    }

    /// Removes an experiment; its runs stay.
    ///
    /// # Errors
    /// When there is none of this id or the store refuses.
    pub async fn delete_experiment(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.write(move |tx| EXPERIMENTS.delete(tx, &id).map(|_| ()).ok_or_else(|| missing("Experiment", &id))).await
    }
}
