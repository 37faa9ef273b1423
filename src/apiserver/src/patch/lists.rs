//! Lists of a strategic merge patch: merging by key or as primitives, and the order that comes out.
//!
//! Invariant: elements the patch does not name keep their relative order; new ones go where Kubernetes puts them.

use serde_json::Value;

use super::strategic::{Failed, ORDER, PATCH, Schema, clean, go_print, merge_map};

/// Whether two elements are the same one.
fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        None => a == b,
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
    }
}

fn position(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    list.iter().position(|other| same(other, item, key))
}

fn sorted_by(mut items: Vec<Value>, order: &[Value], key: Option<&str>) -> Vec<Value> {
    items.sort_by_key(|item| position(order, item, key).unwrap_or(usize::MAX));
    items
}

/// Puts `items` into order: those named by `order` in its order, the others as in `before`, interleaved by where both
/// stood in `before`.
pub(super) fn ordered(items: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let (named, other): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|i| position(order, i, key).is_some());
    let named = sorted_by(named, order, key);
    let other = sorted_by(other, before, key);
    let mut out = Vec::with_capacity(named.len() + other.len());
    let (mut left, mut right) = (other.into_iter().peekable(), named.into_iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return out,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => match (position(before, l, key), position(before, r, key)) {
                (Some(l), Some(r)) => l < r,
                _ => false,
            },
        };
        out.extend(if take_left { left.next() } else { right.next() });
    }
}

/// Primitives: both lists without repetitions.
pub(super) fn merge_primitives(original: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for item in original.iter().chain(&patch) {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    ordered(merged, &patch, &original, None)
}

fn no_key(item: &Value, key: &str) -> Failed {
    Failed::NoMergeKey { map: go_print(item), key: key.to_owned() }
}

/// Maps identified by `key`.
pub(super) fn merge_maps(
    schema: Schema<'_>,
    key: &str,
    original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, Failed> {
    let mut merged = original.clone();
    let mut changes = Vec::new();
    let mut replace = false;
    for item in patch {
        match item.get(PATCH).map(|d| d.as_str().map_or_else(|| go_print(d), str::to_owned)).as_deref() {
            None => changes.push(item),
            Some("delete") => {
                if item.get(key).is_none() {
                    return Err(no_key(&item, key));
                }
                merged.retain(|other| !same(other, &item, Some(key)));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(Failed::BadFormat("merging list cannot yet be specified in the patch")),
            Some(other) => {
                return Err(Failed::BadDirective { directive: other.to_owned(), map: go_print(&item) });
            }
        }
    }
    if replace {
        return Ok(changes.into_iter().map(clean).collect());
    }
    for item in &changes {
        if item.get(key).is_none() {
            return Err(no_key(item, key));
        }
        match (position(&merged, item, Some(key)), item) {
            (Some(at), Value::Object(change)) => {
                if let Some(Value::Object(map)) = merged.get_mut(at) {
                    merge_map(schema, map, change.clone())?;
                }
            }
            _ => merged.push(clean(item.clone())),
        }
    }
    Ok(ordered(merged, &changes, &original, Some(key)))
}

/// The patch's elements must stand in the order that its own directive sets.
pub(super) fn check_order(patch: &[Value], order: &[Value], name: &str, key: Option<&str>) -> Result<(), Failed> {
    let mut rest = order.iter();
    for item in patch.iter().filter(|i| i.get(PATCH).is_none()) {
        if !rest.any(|other| same(other, item, key)) {
            return Err(Failed::Order {
                patch: go_print(&Value::Array(patch.to_vec())),
                order_name: format!("{ORDER}{name}"),
                order: go_print(&Value::Array(order.to_vec())),
            });
        }
    }
    Ok(())
}
