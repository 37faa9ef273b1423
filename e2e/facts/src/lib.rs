//! Generates the tables of facts from Kubernetes' published definitions: Go types (fields, order, tags, markers),
//! the discovery document and the OpenAPI v3 document. Called by `src/main.rs`; the tables are read by `apiserver::facts`.
//!
//! Invariant: no descriptions and no code of the sources leave this crate, only names, types, tags and markers.

pub mod go;
pub mod openapi;
pub mod tables;

use std::path::Path;

use anyhow::{Context, Result};

/// The resources of group "" that the embedded API serves; everything else is left out of the tables.
pub const RESOURCES: [&str; 8] =
    ["bindings", "configmaps", "events", "namespaces", "nodes", "pods", "secrets", "serviceaccounts"];

/// One generated file: its name under `src/apiserver/src/facts/` and its bytes.
pub struct Output {
    /// File name.
    pub name: &'static str,
    /// Bytes to write.
    pub bytes: Vec<u8>,
}

/// Folders of the three pinned Go modules, as `go mod download -json` prints them.
pub struct Sources<'a> {
    /// `k8s.io/api`
    pub api: &'a Path,
    /// `k8s.io/apimachinery`
    pub apimachinery: &'a Path,
    /// `k8s.io/kubernetes` (discovery and OpenAPI documents)
    pub kubernetes: &'a Path,
}

/// Reads the sources and makes every table.
pub fn generate(sources: &Sources<'_>) -> Result<Vec<Output>> {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(&path).with_context(|| format!("read {path:?}"));
    let mut package = go::Package::default();
    package.scan(&read(sources.apimachinery.join("pkg/apis/meta/v1/types.go"))?, false);
    package.scan(&read(sources.api.join("policy/v1/types.go"))?, false);
    package.scan(&read(sources.api.join("core/v1/types.go"))?, true);
    let discovery = read(sources.kubernetes.join("api/discovery/api__v1.json"))?;
    let document = read(sources.kubernetes.join("api/openapi-spec/v3/api__v1_openapi.json"))?;
    Ok(vec![
        Output { name: "types.json.zst", bytes: pack(&tables::types(&package)?)? },
        Output { name: "resources.json.zst", bytes: pack(&tables::resources(&discovery)?)? },
        Output { name: "openapi.json.zst", bytes: pack(&openapi::filter(&document)?)? },
    ])
}

fn pack(value: &serde_json::Value) -> Result<Vec<u8>> {
    Ok(zstd::encode_all(serde_json::to_vec(value)?.as_slice(), 19)?)
}
