//! Secret: write-only stringData, types and the keys they need, size, immutability.
//!
//! Invariant: see `registry::strategy`; `stringData` is never stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::config_map::{decoded_len, entries, immutable, key_problems};
use crate::registry::strategy::{Door, Strategy};
use crate::status::FieldError;
use crate::storage::Object;
use crate::table::{self, AGE, Column, NAME, column};

const SIZE_LIMIT: usize = 1_048_576;

/// See the module.
pub struct Secret;

fn kind(object: &Object) -> &str {
    object.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn need(object: &Object, keys: &[&str], errors: &mut Vec<FieldError>) {
    for key in keys {
        if object.get("data").and_then(|d| d.get(key)).is_none() {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    }
}

fn typed(object: &Object, errors: &mut Vec<FieldError>) {
    match kind(object) {
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            let account = object.get("metadata").and_then(|m| m.get("annotations")).and_then(|a| a.get(name));
            if account.and_then(Value::as_str).unwrap_or_default().is_empty() {
                errors.push(FieldError::required(format!("metadata.annotations[{name}]"), ""));
            }
        }
        "kubernetes.io/dockercfg" => need(object, &[".dockercfg"], errors),
        "kubernetes.io/dockerconfigjson" => need(object, &[".dockerconfigjson"], errors),
        "kubernetes.io/tls" => need(object, &["tls.crt", "tls.key"], errors),
        "kubernetes.io/ssh-auth" => need(object, &["ssh-privatekey"], errors),
        "kubernetes.io/basic-auth" => {
            let has = |key: &str| object.get("data").is_some_and(|d| d.get(key).is_some());
            if !has("username") && !has("password") {
                errors.push(FieldError::required("data[username]", ""));
                errors.push(FieldError::required("data[password]", ""));
            }
        }
        _ => {}
    }
}

impl Strategy for Secret {
    fn default(&self, object: &mut Object) {
        if let Some(Value::Object(plain)) = object.remove("stringData") {
            let data = object.entry("data").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(data) = data {
                for (key, value) in plain {
                    data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
                }
            }
        }
        if kind(object).is_empty() {
            object.insert("type".into(), "Opaque".into());
        }
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, _door: Door) {
        if kind(new).is_empty() {
            new.insert("type".into(), kind(old).into());
        }
    }

    fn validate(&self, object: &Object, errors: &mut Vec<FieldError>) {
        let mut size = 0;
        for (key, value) in entries(object, "data") {
            for problem in key_problems(key) {
                errors.push(FieldError::invalid(format!("data[{key}]"), &key.into(), &problem));
            }
            size += decoded_len(value);
        }
        if size > SIZE_LIMIT {
            errors.push(FieldError::too_long("data", SIZE_LIMIT));
        }
        typed(object, errors);
    }

    fn validate_update(&self, new: &Object, old: &Object, _door: Door, errors: &mut Vec<FieldError>) {
        if kind(new) != kind(old) {
            errors.push(FieldError::invalid("type", &kind(new).into(), "field is immutable"));
        }
        immutable(new, old, &["data"], errors);
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn field(&self, object: &Object, label: &str) -> Option<String> {
        (label == "type").then(|| kind(object).to_owned())
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [NAME, column("Type", "What it is for"), column("Data", "Number of keys"), AGE];
        &COLUMNS
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let keys = entries(object, "data").count();
        vec![table::name(object), kind(object).into(), keys.into(), table::age(object, now)]
    }
}
