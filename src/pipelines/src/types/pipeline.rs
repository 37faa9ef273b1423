//! Pipelines and their versions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Source: KFP's column width.
pub const PIPELINE_NAME_MAX_CHARS: usize = 128;
/// Source: KFP's column width.
pub const VERSION_NAME_MAX_CHARS: usize = 127;
/// Source: KFP's limit.
pub const TAGS_MAX: usize = 20;
/// Source: KFP's limit, for keys and values.
pub const TAG_MAX_CHARS: usize = 63;

/// A named pipeline; what it does is in its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Unique.
    pub id: String,
    /// Unique in its namespace.
    pub name: String,
    /// What pages show.
    pub display_name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Where it lives; never empty.
    pub namespace: String,
    /// The user's own labels.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A version of a pipeline; it never changes what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Unique.
    pub id: String,
    /// The pipeline it is a version of.
    pub pipeline_id: String,
    /// Unique in its pipeline.
    pub name: String,
    /// What pages show.
    pub display_name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Where its source is, as the user says.
    #[serde(default)]
    pub code_source_url: String,
    /// The user's own labels.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The package ([`crate::ir::package::Package::document`]).
    pub document: Value,
}
