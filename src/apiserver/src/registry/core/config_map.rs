//! ConfigMap: key names, size, immutability.
//!
//! Invariant: see `registry::strategy`.

use jiff::Timestamp;
use serde_json::Value;

use crate::registry::strategy::{Door, Strategy};
use crate::status::FieldError;
use crate::storage::Object;
use crate::table::{self, AGE, Column, NAME, column};

const SIZE_LIMIT: usize = 1_048_576;
const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
    'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// Problems of a key in ConfigMaps and Secrets.
pub fn key_problems(key: &str) -> Vec<String> {
    let mut out = Vec::new();
    if key.len() > 253 {
        out.push("must be no more than 253 characters".to_owned());
    }
    if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        out.push(KEY.to_owned());
    }
    match key {
        "." => out.push("must not be '.'".to_owned()),
        ".." => out.push("must not be '..'".to_owned()),
        k if k.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
    out
}

/// Members of a map of strings.
pub fn entries<'a>(object: &'a Object, name: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = object.get(name).and_then(Value::as_object);
    map.into_iter().flatten().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()))
}

/// Bytes behind base64 text, by its length.
pub fn decoded_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

/// Checks what `immutable: true` forbids.
pub fn immutable(new: &Object, old: &Object, names: &[&str], errors: &mut Vec<FieldError>) {
    if old.get("immutable").and_then(Value::as_bool) != Some(true) {
        return;
    }
    let text = "field is immutable when `immutable` is set";
    if new.get("immutable").and_then(Value::as_bool) != Some(true) {
        errors.push(FieldError::forbidden("immutable", text));
    }
    for name in names {
        if new.get(*name) != old.get(*name) {
            errors.push(FieldError::forbidden(*name, text));
        }
    }
}

/// See the module.
pub struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Object, errors: &mut Vec<FieldError>) {
        let mut size = 0;
        for (key, value) in entries(object, "data") {
            for problem in key_problems(key) {
                errors.push(FieldError::invalid(format!("data[{key}]"), &key.into(), &problem));
            }
            if object.get("binaryData").is_some_and(|b| b.get(key).is_some()) {
                errors.push(FieldError::invalid(
                    format!("data[{key}]"),
                    &key.into(),
                    "duplicate of key present in binaryData",
                ));
            }
            size += value.len();
        }
        for (key, value) in entries(object, "binaryData") {
            for problem in key_problems(key) {
                errors.push(FieldError::invalid(format!("binaryData[{key}]"), &key.into(), &problem));
            }
            size += decoded_len(value);
        }
        if size > SIZE_LIMIT {
            errors.push(FieldError::too_long("[]", SIZE_LIMIT));
        }
    }

    fn validate_update(&self, new: &Object, old: &Object, _door: Door, errors: &mut Vec<FieldError>) {
        immutable(new, old, &["data", "binaryData"], errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [NAME, column("Data", "Number of keys"), AGE];
        &COLUMNS
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let keys = entries(object, "data").count() + entries(object, "binaryData").count();
        vec![table::name(object), keys.into(), table::age(object, now)]
    }
}
