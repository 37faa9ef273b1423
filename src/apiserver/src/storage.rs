//! Objects in records: keys, stored form, and splicing of versions into it. Called by the store, lists and watches.
//!
//! An object is stored as JSON that begins with `{"metadata":{` and holds neither kind, apiVersion nor resourceVersion:
//! its version is the revision of its record. So a read splices two short texts in front and decodes nothing.
//!
//! Invariant: whatever is stored was written by `encode`.

use records::{Entry, RawTable};
use serde::Deserialize;
use serde_json::{Map, Value};

pub mod continue_token;
pub mod watch;

/// The table of all objects.
pub const OBJECTS: RawTable = RawTable::hot(1, "kube");

const START: &[u8] = b"{\"metadata\":{";

/// A JSON object.
pub type Object = Map<String, Value>;

/// Key of an object; `namespace` is empty for cluster-scoped resources.
pub fn key(resource: &str, namespace: &str, name: &str) -> Vec<u8> {
    let mut out = prefix(resource, namespace);
    out.extend_from_slice(name.as_bytes());
    out
}

/// Prefix of all objects of a resource, or of those in a namespace.
pub fn prefix(resource: &str, namespace: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(resource.len() + namespace.len() + 32);
    out.push(b'/');
    out.extend_from_slice(resource.as_bytes());
    out.push(b'/');
    if !namespace.is_empty() {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b'/');
    }
    out
}

/// Namespace and name behind a key of a resource.
pub fn place(key: &[u8]) -> (&str, &str) {
    let text = std::str::from_utf8(key).unwrap_or_default();
    let mut parts = text.trim_start_matches('/').splitn(3, '/').skip(1);
    match (parts.next(), parts.next()) {
        (Some(namespace), Some(name)) => (namespace, name),
        (Some(name), None) => ("", name),
        _ => ("", ""),
    }
}

/// The stored form of an object.
pub fn encode(object: &Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"metadata\":");
    match object.get("metadata") {
        Some(Value::Object(metadata)) if metadata.contains_key("resourceVersion") => {
            let mut metadata = metadata.clone();
            metadata.remove("resourceVersion");
            write(&metadata, &mut out);
        }
        Some(metadata) => write(metadata, &mut out),
        None => out.extend_from_slice(b"{}"),
    }
    for (name, value) in object {
        if !matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
            out.push(b',');
            write(name, &mut out);
            out.push(b':');
            write(value, &mut out);
        }
    }
    out.push(b'}');
    out
}

fn write(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("JSON values and strings always serialize into memory");
}

/// Decodes a stored object and fills in its version.
pub fn decode(entry: &Entry) -> Object {
    decode_at(&entry.value, entry.revision)
}

/// Decodes stored bytes as of `revision`.
pub fn decode_at(value: &[u8], revision: u64) -> Object {
    let mut object: Object = serde_json::from_slice(value).unwrap_or_default();
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.insert("resourceVersion".into(), revision.to_string().into());
    }
    object
}

/// Appends an object as it goes out; `kind` is left out inside lists of built-in kinds.
pub fn render(kind: Option<&str>, value: &[u8], revision: u64, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(kind) = kind {
        out.extend_from_slice(b"\"kind\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"apiVersion\":\"v1\",");
    }
    out.extend_from_slice(b"\"metadata\":{\"resourceVersion\":\"");
    out.extend_from_slice(revision.to_string().as_bytes());
    out.push(b'"');
    let rest = value.get(START.len()..).unwrap_or(b"}}");
    if rest.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(rest);
}

/// The few members of metadata that can be had without decoding the rest.
#[derive(Debug, Default, Deserialize)]
pub struct Peek {
    /// `metadata`
    #[serde(default)]
    pub metadata: PeekMetadata,
}

/// See [`Peek`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeekMetadata {
    /// Labels.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Set while the object is being deleted.
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
}

/// Reads the few members of a stored object.
pub fn peek(value: &[u8]) -> Peek {
    serde_json::from_slice(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_stored_comes_back_with_its_version() {
        let Value::Object(object) = json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": "a", "namespace": "ns", "resourceVersion": "7"}, "data": {"k": "v"},
        }) else {
            unreachable!()
        };
        let bytes = encode(&object);
        let mut out = Vec::new();
        render(Some("ConfigMap"), &bytes, 42, &mut out);
        let back: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            back,
            json!({
                "kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": "a", "namespace": "ns", "resourceVersion": "42"}, "data": {"k": "v"},
            })
        );
        assert_eq!(place(&key("configmaps", "ns", "a")), ("ns", "a"));
        assert_eq!(place(&key("nodes", "", "n")), ("", "n"));
    }
}
