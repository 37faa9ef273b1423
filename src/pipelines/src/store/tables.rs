//! The tables and their keys.

use jiff::Timestamp;
use records::{ColdTable, RawTable, Table};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::Item;
use crate::types::artifact::Artifact;
use crate::types::experiment::Experiment;
use crate::types::pipeline::{Pipeline, Version};
use crate::types::run::{Request, Summary};
use crate::types::task::{Task, Values};

/// By id.
pub static PIPELINES: Table<Pipeline> = Table::hot(100, "pipelines.pipelines");
/// By `<pipeline id>/<version id>`.
pub static VERSIONS: Table<Version> = Table::hot(101, "pipelines.versions");
/// By id.
pub static EXPERIMENTS: Table<Experiment> = Table::hot(102, "pipelines.experiments");
/// By id.
pub static RUNS: Table<Summary> = Table::hot(103, "pipelines.runs");
/// By run id.
pub static REQUESTS: Table<Request> = Table::hot(104, "pipelines.requests");
/// By `<run id>/<path>`.
pub static TASKS: Table<Task> = Table::hot(105, "pipelines.tasks");
/// By `<run id>/<path>`.
pub static ITEMS: Table<Vec<Item>> = Table::hot(106, "pipelines.items");
/// By `<namespace>/<pipeline>/<fingerprint>`.
pub static CACHE: Table<CacheRow> = Table::hot(107, "pipelines.cache");
/// By `<namespace>/<pipeline>/<hash of type, URI and metadata>`.
pub static IMPORTS: Table<Artifact> = Table::hot(108, "pipelines.imports");
/// Unfinished runs, by id: how often each was changed. What recovery reads, however long the history is.
pub static ACTIVE: Table<u64> = Table::hot(109, "pipelines.active");
/// Finished runs that are in [`ARCHIVE`], by id.
pub static ARCHIVED: Table<Archived> = Table::hot(110, "pipelines.archived");
/// Chunks of packed rows of finished runs, by `<run id>/<number>`.
pub const ARCHIVE: ColdTable = RawTable::cold(111, "pipelines.archive");

/// That a run is in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Into how many chunks it is packed.
    pub chunks: u32,
}

/// A result that later runs may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheRow {
    /// The run that made it.
    pub run_id: String,
    /// The task in it.
    pub path: String,
    /// What it made: a hit needs nothing else, wherever the run's rows are by then.
    #[serde(default)]
    pub outputs: Option<Values>,
    /// When that task ended.
    #[serde(default)]
    pub ended_at: Timestamp,
}

/// The key of a chunk of an archived run.
pub fn chunk_key(run_id: &str, chunk: u32) -> String {
    format!("{run_id}/{chunk:06}")
}

/// The key of a task of a run, and the prefix of all of them for an empty path.
pub fn task_key(run_id: &str, path: &str) -> String {
    format!("{run_id}/{path}")
}

/// The key of a version, and the prefix of all of a pipeline's for an empty id.
pub fn version_key(pipeline_id: &str, version_id: &str) -> String {
    format!("{pipeline_id}/{version_id}")
}

/// The key of a cached result.
pub fn cache_key(namespace: &str, pipeline: &str, fingerprint: &str) -> String {
    format!("{namespace}/{pipeline}/{fingerprint}")
}

/// The key of an imported artifact.
pub fn import_key(namespace: &str, pipeline: &str, artifact: &Artifact) -> String {
    use sha2::{Digest, Sha256};
    let what = serde_json::json!([artifact.kind, artifact.uri, Value::Object(artifact.metadata.clone())]);
    let hash: String = Sha256::digest(what.to_string().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    cache_key(namespace, pipeline, &hash)
}
