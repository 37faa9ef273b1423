//! An artifact: something a task made or an importer brought in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An artifact as it is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Unique; the same artifact keeps it when a cached task hands it on. Appears as `name` in a consumer's
    /// ExecutorInput and enters its cache key.
    pub id: String,
    /// The name of the output that made it.
    pub name: String,
    /// `{"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}`.
    pub kind: Value,
    /// Where its content is.
    pub uri: String,
    /// What it says of itself.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// A path that the step chose instead of the one that belongs to the URI. Source: KFP `RuntimeArtifact.custom_path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_path: Option<String>,
    /// Bytes, a folder's files added up; `None` where nobody measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// SHA-256 of a file, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// When it was recorded.
    pub created_at: Timestamp,
}

impl Artifact {
    /// `system.Dataset`; empty for an artifact without a type.
    pub fn schema_title(&self) -> &str {
        self.kind.get("schemaTitle").and_then(Value::as_str).unwrap_or_default()
    }
}
