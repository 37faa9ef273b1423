//! Where a step finds its files when it runs as a plain process: without mounts, paths of the pod lie elsewhere on the host.
//!
//! The node says so in [`VARIABLE`]. Records hold `minio://…` whatever the runtime: inputs are mapped on the way in, outputs
//! on the way back. In a sandbox the variable is not set and nothing is changed.

use std::collections::BTreeMap;

use artifacts::uri::local_path;
use serde_json::Value;

use super::{Launch, Report};

/// A JSON object from paths of the pod to paths of the host.
const VARIABLE: &str = "KUBEFLOW_MOUNTS";
/// What `minio://` URIs look like as paths.
const MINIO: (&str, &str) = ("/minio/", "minio://");

/// The mapping, empty in a sandbox.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, String>);

impl Places {
    /// As the node said.
    pub(super) fn from_env() -> Self {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        Self(serde_json::from_str(&text).unwrap_or_default())
    }

    /// The launch with every URI and path as this host has it.
    pub(super) fn enter(&self, mut launch: Launch) -> Launch {
        if !self.0.is_empty() {
            walk(&mut launch.executor_input, &|text| self.on_host(text));
        }
        launch
    }

    /// The report with URIs as records hold them.
    pub(super) fn leave(&self, mut report: Report) -> Report {
        for made in report.artifacts.values_mut().flatten() {
            if let Some(uri) = self.as_uri(&made.uri) {
                made.uri = uri;
            }
        }
        report
    }

    fn on_host(&self, text: &str) -> Option<String> {
        let path = if text.starts_with(MINIO.1) { local_path(text) } else { text.to_owned() };
        let inside = |target: &str| path.strip_prefix(target).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let matching = self.0.iter().filter_map(|(target, host)| Some((target.len(), host, inside(target)?)));
        let (_, host, rest) = matching.max_by_key(|(length, ..)| *length)?;
        Some(format!("{host}{rest}"))
    }

    fn as_uri(&self, path: &str) -> Option<String> {
        let below = self.0.iter().filter_map(|(target, host)| {
            let rest = path.strip_prefix(host.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            Some((host.len(), format!("{}{}{rest}", MINIO.1, target.strip_prefix(MINIO.0)?)))
        });
        below.max_by_key(|(length, _)| *length).map(|(_, uri)| uri)
    }
}

fn walk(value: &mut Value, change: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(changed) = change(text) {
                *text = changed;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, change)),
        Value::Object(fields) => {
            // What a caller passed as a parameter is not ours to change.
            let ours = fields.iter_mut().filter(|(name, _)| *name != "parameterValues");
            ours.for_each(|(_, field)| walk(field, change));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_place_wins_and_the_way_back_leads_to_the_uri() {
        let places = [("/tmp", "/data/tmp"), ("/minio/m/run/a", "/data/artifacts/m/run/a"), ("/minio/m/run", "/never")];
        let places = Places(places.iter().map(|(target, host)| ((*target).to_owned(), (*host).to_owned())).collect());
        for (text, expected) in [
            ("minio://m/run/a/out", Some("/data/artifacts/m/run/a/out")),
            ("/tmp/outputs/file", Some("/data/tmp/outputs/file")),
            ("/tmpfile", None),
            ("plain text", None),
        ] {
            assert_eq!(places.on_host(text).as_deref(), expected, "{text}");
        }
        assert_eq!(places.as_uri("/data/artifacts/m/run/a/out").as_deref(), Some("minio://m/run/a/out"));
        assert_eq!(places.as_uri("/elsewhere"), None);
    }
}
