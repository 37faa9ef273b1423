//! JSON patch (RFC 6902) with Kubernetes' deviation: `replace` of an absent member of an existing object adds it.
//!
//! Invariant: pure; a patch that fails leaves its target to be thrown away.

use serde::Deserialize;
use serde_json::Value;

/// Most operations of one patch.
pub const OPERATIONS_LIMIT: usize = 10_000;

/// One operation.
#[derive(Clone, Debug, Deserialize)]
pub struct Operation {
    #[serde(default)]
    op: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    value: Option<Value>,
}

/// Most bytes that all `copy` operations of one patch may make: a few of them double an object many times.
pub const COPIED_BYTES_LIMIT: usize = 3 * 1024 * 1024;

/// The patch does not apply.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the JSON patch does not apply")]
pub struct Failed;

/// Why a patch was not applied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// An operation failed.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// Its copies are too large.
    #[error("the copies of the JSON patch are too large")]
    TooLarge,
}

fn pointer(text: &str) -> Result<Vec<String>, Failed> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let rest = text.strip_prefix('/').ok_or(Failed)?;
    Ok(rest.split('/').map(|s| s.replace("~1", "/").replace("~0", "~")).collect())
}

fn index(text: &str, len: usize) -> Result<usize, Failed> {
    if let Some(back) = text.strip_prefix('-').filter(|t| !t.is_empty()) {
        let back: usize = back.parse().map_err(|_| Failed)?;
        return len.checked_sub(back).ok_or(Failed);
    }
    text.parse().map_err(|_| Failed)
}

fn walk<'a>(target: &'a mut Value, path: &[String]) -> Result<&'a mut Value, Failed> {
    path.iter().try_fold(target, |value, name| match value {
        Value::Object(map) => map.get_mut(name).ok_or(Failed),
        Value::Array(list) => {
            let at = index(name, list.len())?;
            list.get_mut(at).ok_or(Failed)
        }
        _ => Err(Failed),
    })
}

fn add(target: &mut Value, path: &[String], value: Value) -> Result<(), Failed> {
    let Some((last, parents)) = path.split_last() else {
        *target = value;
        return Ok(());
    };
    match walk(target, parents)? {
        Value::Object(map) => drop(map.insert(last.clone(), value)),
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => {
            let at = index(last, list.len())?;
            if at > list.len() {
                return Err(Failed);
            }
            list.insert(at, value);
        }
        _ => return Err(Failed),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &[String]) -> Result<Value, Failed> {
    let (last, parents) = path.split_last().ok_or(Failed)?;
    match walk(target, parents)? {
        Value::Object(map) => map.remove(last).ok_or(Failed),
        Value::Array(list) => {
            let at = index(last, list.len())?;
            if at < list.len() { Ok(list.remove(at)) } else { Err(Failed) }
        }
        _ => Err(Failed),
    }
}

fn replace(target: &mut Value, path: &[String], value: Value) -> Result<(), Failed> {
    let Some((last, parents)) = path.split_last() else {
        *target = value;
        return Ok(());
    };
    match walk(target, parents)? {
        Value::Object(map) => drop(map.insert(last.clone(), value)),
        Value::Array(list) => {
            let at = index(last, list.len())?;
            *list.get_mut(at).ok_or(Failed)? = value;
        }
        _ => return Err(Failed),
    }
    Ok(())
}

/// Applies the operations in order.
pub fn apply(target: &mut Value, operations: &[Operation]) -> Result<(), Error> {
    let mut copied_bytes = 0;
    for operation in operations {
        let path = pointer(&operation.path)?;
        let value = operation.value.clone().unwrap_or(Value::Null);
        match operation.op.as_str() {
            "add" => add(target, &path, value)?,
            "replace" => replace(target, &path, value)?,
            "remove" => drop(remove(target, &path)?),
            "test" => {
                let found = walk(target, &path).map(|v| v.clone()).or(if value.is_null() {
                    Ok(Value::Null)
                } else {
                    Err(Failed)
                })?;
                if found != value {
                    return Err(Failed.into());
                }
            }
            "move" => {
                let moved = remove(target, &pointer(operation.from.as_deref().ok_or(Failed)?)?)?;
                add(target, &path, moved)?;
            }
            "copy" => {
                let copied = walk(target, &pointer(operation.from.as_deref().ok_or(Failed)?)?)?.clone();
                copied_bytes += copied.to_string().len();
                if copied_bytes > COPIED_BYTES_LIMIT {
                    return Err(Error::TooLarge);
                }
                add(target, &path, copied)?;
            }
            _ => return Err(Failed.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(target: Value, patch: Value) -> Result<Value, Error> {
        let operations: Vec<Operation> = serde_json::from_value(patch).unwrap();
        let mut target = target;
        apply(&mut target, &operations)?;
        Ok(target)
    }

    #[test]
    fn operations() {
        let base = json!({"a": {"b/c": 1}, "l": [1, 2]});
        for (patch, wanted) in [
            (json!([{"op": "add", "path": "/a/x", "value": 2}]), json!({"a": {"b/c": 1, "x": 2}, "l": [1, 2]})),
            (json!([{"op": "remove", "path": "/a/b~1c"}]), json!({"a": {}, "l": [1, 2]})),
            (json!([{"op": "replace", "path": "/a/new", "value": 3}]), json!({"a": {"b/c": 1, "new": 3}, "l": [1, 2]})),
            (json!([{"op": "add", "path": "/l/-", "value": 3}]), json!({"a": {"b/c": 1}, "l": [1, 2, 3]})),
            (json!([{"op": "move", "from": "/l/0", "path": "/m"}]), json!({"a": {"b/c": 1}, "l": [2], "m": 1})),
            (json!([{"op": "copy", "from": "/l", "path": "/m"}]), json!({"a": {"b/c": 1}, "l": [1, 2], "m": [1, 2]})),
        ] {
            assert_eq!(check(base.clone(), patch.clone()).unwrap(), wanted, "{patch}");
        }
        for patch in [
            json!([{"op": "remove", "path": "/zzz"}]),
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
            json!([{"op": "test", "path": "/l", "value": [2]}]),
            json!([{"op": "frob", "path": "/l"}]),
        ] {
            assert_eq!(check(base.clone(), patch), Err(Failed.into()));
        }
    }

    #[test]
    fn copies_that_double_are_stopped() {
        let doubling: Vec<Value> =
            (0..40).map(|n| json!({"op": "copy", "from": "", "path": format!("/c{n}")})).collect();
        assert_eq!(check(json!({"a": "some text"}), Value::Array(doubling)), Err(Error::TooLarge));
    }
}
