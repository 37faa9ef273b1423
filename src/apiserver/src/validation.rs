//! Checks of names, labels, annotations and metadata that hold for every kind. Called by the generic store and by the
//! strategies.
//!
//! Invariant: pure; texts are Kubernetes' own (recordings `errors`).

use serde_json::{Map, Value};

use crate::facts::normal::go_text;
use crate::status::FieldError;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
    with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
    must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const ANNOTATIONS_LIMIT: usize = 262_144;

fn label_shape(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || c == '-')
}

/// DNS-1123 subdomain of at most 253 bytes.
pub fn subdomain(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push("must be no more than 253 characters".to_owned());
    }
    if !text.split('.').all(label_shape) {
        out.push(SUBDOMAIN.to_owned());
    }
    out
}

/// DNS-1123 label of at most 63 bytes.
pub fn label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push("must be no more than 63 bytes".to_owned());
    }
    if !label_shape(text) {
        out.push(if text.contains('.') { "must not contain dots".to_owned() } else { LABEL.to_owned() });
    }
    out
}

fn qualified_part(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
}

/// `[prefix/]name` of labels, annotations and finalizers.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            let example = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!(
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must \
                start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used \
                for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') {example}"
            )];
        }
        Some((prefix, rest)) => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            }
            out.extend(
                subdomain(prefix).into_iter().map(|m| format!("prefix part {m}")).filter(|_| !prefix.is_empty()),
            );
            rest
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        out.push("name part must be no more than 63 bytes".to_owned());
    }
    if !qualified_part(name) {
        out.push(QUALIFIED.to_owned());
    }
    out
}

/// Value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push("must be no more than 63 bytes".to_owned());
    }
    if !text.is_empty() && !qualified_part(text) {
        out.push(VALUE.to_owned());
    }
    out
}

/// How a kind's names are checked.
pub type NameRule = fn(&str) -> Vec<String>;

fn strings(map: Option<&Value>) -> impl Iterator<Item = (&str, &str)> {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()))
}

/// Checks labels under `field`.
pub fn labels(map: Option<&Value>, field: &str, errors: &mut Vec<FieldError>) {
    for (key, value) in strings(map) {
        for problem in qualified_name(key) {
            errors.push(FieldError::invalid(field, &key.into(), &problem));
        }
        for problem in label_value(value) {
            errors.push(FieldError::invalid(field, &value.into(), &problem));
        }
    }
}

fn annotations(map: Option<&Value>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in strings(map) {
        for problem in qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &key.into(), &problem));
        }
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_LIMIT));
    }
}

fn finalizers(list: Option<&Value>, errors: &mut Vec<FieldError>) {
    for (at, value) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let text = value.as_str().unwrap_or_default();
        let field = format!("metadata.finalizers[{at}]");
        let problems = qualified_name(text);
        for problem in &problems {
            errors.push(FieldError::invalid("metadata.finalizers", value, problem));
        }
        let standard = matches!(text, "kubernetes" | "orphan" | "foregroundDeletion");
        if problems.is_empty() && !text.contains('/') && !standard {
            let problem = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(field, value, problem));
        }
    }
}

fn owners(list: Option<&Value>, errors: &mut Vec<FieldError>) {
    let owners = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut controllers = Vec::new();
    for (at, owner) in owners.iter().enumerate() {
        let text = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
        let field = |name: &str| format!("metadata.ownerReferences[{at}].{name}");
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        if version.is_empty() {
            errors.push(FieldError::invalid(
                field("apiVersion"),
                &text("apiVersion").into(),
                "version must not be empty",
            ));
        }
        for name in ["kind", "name", "uid"] {
            if text(name).is_empty() {
                errors.push(FieldError::required(field(name), "must not be empty"));
            }
        }
        if text("kind") == "Event" && matches!(group, "" | "events.k8s.io") {
            let problem = format!("{group}/{version}, Kind=Event is disallowed from being an owner");
            errors.push(FieldError::invalid_text(
                format!("metadata.ownerReferences[{at}]"),
                &go_text("OwnerReference", owner),
                &problem,
            ));
        }
        if owner.get("controller").and_then(Value::as_bool).unwrap_or_default() {
            controllers.push(format!("{}/{}", text("kind"), text("name")));
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let problem = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        let texts: Vec<String> = owners.iter().map(|o| go_text("OwnerReference", o)).collect();
        errors.push(FieldError::invalid_text("metadata.ownerReferences", &format!("[{}]", texts.join(",")), &problem));
    }
}

/// Checks the metadata of any object.
pub fn metadata(metadata: &Map<String, Value>, rule: NameRule, errors: &mut Vec<FieldError>) {
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
    let base = text("generateName");
    if !base.is_empty() {
        let masked = base.strip_suffix('-').map_or_else(|| base.to_owned(), |stem| format!("{stem}a"));
        for problem in rule(&masked) {
            errors.push(FieldError::invalid("metadata.generateName", &base.into(), &problem));
        }
    }
    if text("name").is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        for problem in rule(text("name")) {
            errors.push(FieldError::invalid("metadata.name", &text("name").into(), &problem));
        }
    }
    labels(metadata.get("labels"), "metadata.labels", errors);
    annotations(metadata.get("annotations"), errors);
    owners(metadata.get("ownerReferences"), errors);
    finalizers(metadata.get("finalizers"), errors);
}

/// Checks what an update may do to metadata.
pub fn metadata_update(new: &Map<String, Value>, old: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    for name in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp"] {
        let (now, before) = (new.get(name), old.get(name));
        if now != before {
            let shown = now.cloned().unwrap_or_else(|| "".into());
            errors.push(FieldError::invalid(format!("metadata.{name}"), &shown, "field is immutable"));
        }
    }
    if old.contains_key("deletionTimestamp") {
        let list = |m: &Map<String, Value>| m.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
        let before = list(old);
        let added: Vec<String> = list(new).iter().filter(|f| !before.contains(f)).map(Value::to_string).collect();
        if !added.is_empty() {
            let text = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &text));
        }
    }
}
