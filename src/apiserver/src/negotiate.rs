//! Which form an answer takes: JSON or YAML, the object itself, its metadata only, or a Table. Called by every handler
//! that answers objects.
//!
//! Invariant: an Accept that asks only for what we cannot write is 406, never another form.

use crate::request::Query;
use crate::status::ApiError;

/// What `object` of a Table row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Metadata.
    Metadata,
    /// The whole object.
    Object,
}

/// The form of objects in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As stored.
    Object,
    /// `meta.k8s.io/v1 Table`
    Table(Include),
    /// `PartialObjectMetadata` or its list.
    Metadata,
}

/// The negotiated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Objects, tables or metadata.
    pub shape: Shape,
    /// YAML instead of JSON.
    pub yaml: bool,
    /// Indented JSON.
    pub pretty: bool,
    /// Version of `meta.k8s.io` that tables and metadata are written in.
    pub version: &'static str,
}

fn clause(text: &str) -> Option<(Option<&str>, bool, &'static str)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let mut form = None;
    let mut known_group = true;
    let mut version = "v1";
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => form = Some(value),
            Some(("g", value)) => known_group = known_group && value == "meta.k8s.io",
            Some(("v", "v1")) => {}
            Some(("v", "v1beta1")) => version = "v1beta1",
            Some(("v", _)) => known_group = false,
            _ => {}
        }
    }
    let yaml = match media {
        "application/json" | "*/*" | "application/*" => false,
        "application/yaml" => true,
        _ => return None,
    };
    if form.is_some() && !known_group {
        return None;
    }
    Some((form, yaml, version))
}

/// Chooses the form for this Accept header; `list` says whether the answer is a list.
pub fn negotiate(accept: Option<&str>, query: &Query, list: bool) -> Result<Form, ApiError> {
    let accept = accept.filter(|a| !a.trim().is_empty()).unwrap_or("application/json");
    let pretty = query.get("pretty").is_some_and(|p| !matches!(p, "0" | "false"));
    let mut any_known = false;
    for text in accept.split(',') {
        let Some((form, yaml, version)) = clause(text.trim()) else { continue };
        any_known = true;
        let shape = match form {
            None => Shape::Object,
            Some("Table") => Shape::Table(include(query)?),
            Some("PartialObjectMetadata") if !list => Shape::Metadata,
            Some("PartialObjectMetadataList") if list => Shape::Metadata,
            Some(_) => continue,
        };
        return Ok(Form { shape, yaml, pretty, version });
    }
    let media = accept.split([',', ';']).next().unwrap_or_default().trim();
    Err(if any_known || media.starts_with("application/json") || media == "application/vnd.kubernetes.protobuf" {
        ApiError::not_acceptable()
    } else {
        ApiError::not_acceptable_at_all()
    })
}

fn include(query: &Query) -> Result<Include, ApiError> {
    match query.get("includeObject") {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(ApiError::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
             'Object', 'None', or empty"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, list: bool) -> Result<Shape, u16> {
        negotiate(Some(accept), &Query::default(), list).map(|f| f.shape).map_err(|e| e.code)
    }

    #[test]
    fn several_clauses_are_tried_in_order() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(check(table, true), Ok(Shape::Table(Include::Metadata)));
        assert_eq!(check("application/vnd.kubernetes.protobuf,application/json", true), Ok(Shape::Object));
        assert_eq!(check("text/html,*/*", true), Ok(Shape::Object));
        assert_eq!(check("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", false), Ok(Shape::Metadata));
        assert_eq!(check("application/json;as=Nope;v=v1;g=meta.k8s.io", true), Err(406));
        assert_eq!(check("application/xml", false), Err(406));
    }
}
