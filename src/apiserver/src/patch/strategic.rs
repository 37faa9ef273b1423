//! Strategic merge patch: maps merge, lists merge by their key where the tables say so, with every directive.
//!
//! Invariant: pure; merge keys come from the tables only.

use serde_json::{Map, Value};

use super::lists;
use crate::facts::{Field, Struct, Type, facts};

/// Why a patch does not apply; the text goes into a 500 as a real server answers it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Failed {
    /// `map: map[…] does not contain declared merge key: name`
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The element as Go prints it.
        map: String,
        /// The key.
        key: String,
    },
    /// An unknown `$patch` directive.
    #[error("unknown patch type: {directive} in map: {map}")]
    BadDirective {
        /// Its value.
        directive: String,
        /// The map as Go prints it.
        map: String,
    },
    /// The patch's own order contradicts `$setElementOrder`.
    #[error("The order in patch list:\n{patch}\n doesn't match {order_name} list:\n{order}\n")]
    Order {
        /// Elements of the patch.
        patch: String,
        /// Name of the directive.
        order_name: String,
        /// Elements of the directive.
        order: String,
    },
    /// A directive of the wrong shape.
    #[error("invalid patch format of {0}")]
    BadFormat(&'static str),
}

pub(super) const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
pub(super) const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// A value as Go's `%v` prints it.
pub fn go_print(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let parts: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_print(v))).collect();
            format!("map[{}]", parts.join(" "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(go_print).collect::<Vec<_>>().join(" ")),
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// Where a map's members get their types from.
#[derive(Clone, Copy)]
pub(super) enum Schema<'a> {
    Struct(&'static Struct),
    Map(&'a Type),
    Unknown,
}

impl<'a> Schema<'a> {
    fn of(ty: &'a Type) -> Self {
        match ty {
            Type::Struct(at) => Self::Struct(facts().at(*at)),
            Type::Map(item) => Self::Map(item),
            _ => Self::Unknown,
        }
    }

    fn field(self, name: &str) -> Option<&'static Field> {
        match self {
            Self::Struct(table) => table.field(name),
            _ => None,
        }
    }

    fn member(self, name: &str) -> Schema<'a> {
        match self {
            Self::Struct(table) => table.field(name).map_or(Schema::Unknown, |f| Schema::of(&f.ty)),
            Self::Map(item) => Schema::of(item),
            Self::Unknown => Schema::Unknown,
        }
    }
}

/// Applies `patch` to an object of the struct `table`.
pub fn apply(table: &'static Struct, target: &mut Map<String, Value>, patch: Map<String, Value>) -> Result<(), Failed> {
    merge_map(Schema::Struct(table), target, patch)
}

pub(super) fn merge_map(
    schema: Schema<'_>,
    target: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
) -> Result<(), Failed> {
    if let Some(directive) = patch.remove(PATCH) {
        match directive.as_str() {
            Some("replace") => {
                *target = without_directives(patch);
                return Ok(());
            }
            Some("delete") => {
                target.clear();
                return Ok(());
            }
            Some("merge") => {}
            _ => {
                let directive = go_print(&directive);
                return Err(Failed::BadDirective { directive, map: go_print(&Value::Object(patch)) });
            }
        }
    }
    if let Some(keys) = patch.remove(RETAIN) {
        let Value::Array(keys) = keys else { return Err(Failed::BadFormat("retainKeys list")) };
        target.retain(|name, _| keys.iter().any(|k| k.as_str() == Some(name)));
    }
    order_lists(schema, target, &mut patch)?;
    for (name, change) in patch {
        if let Some(list) = name.strip_prefix(DELETE) {
            delete_from(target, list, &change)?;
            continue;
        }
        merge_member(schema, target, name, change)?;
    }
    Ok(())
}

fn delete_from(target: &mut Map<String, Value>, name: &str, gone: &Value) -> Result<(), Failed> {
    let Value::Array(gone) = gone else { return Err(Failed::BadFormat("primitive list")) };
    if let Some(Value::Array(list)) = target.get_mut(name) {
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// Merges the lists whose order the patch sets, and takes them out of the patch.
fn order_lists(
    schema: Schema<'_>,
    target: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), Failed> {
    let names: Vec<String> = patch.keys().filter_map(|k| k.strip_prefix(ORDER).map(str::to_owned)).collect();
    for name in names {
        let order = patch.remove(&format!("{ORDER}{name}"));
        let Some(Value::Array(order)) = order else { return Err(Failed::BadFormat("setElementOrder list")) };
        if let Some(Value::Array(gone)) = patch.remove(&format!("{DELETE}{name}")) {
            delete_from(target, &name, &Value::Array(gone))?;
        }
        let change = patch.remove(&name);
        let field = schema.field(&name);
        let key = field.and_then(|f| f.merge_key.clone());
        let original = match target.get(&name) {
            Some(Value::Array(list)) => list.clone(),
            _ => Vec::new(),
        };
        let merged = match change {
            None => original.clone(),
            Some(Value::Array(list)) => {
                lists::check_order(&list, &order, &name, key.as_deref())?;
                merge_list(schema.member(&name), field, original.clone(), list)?
            }
            Some(_) => return Err(Failed::BadFormat("list")),
        };
        let item_order = lists::ordered(merged, &order, &original, key.as_deref());
        if !item_order.is_empty() || target.contains_key(&name) {
            target.insert(name, Value::Array(item_order));
        }
    }
    Ok(())
}

fn merge_member(
    schema: Schema<'_>,
    target: &mut Map<String, Value>,
    name: String,
    change: Value,
) -> Result<(), Failed> {
    if change.is_null() {
        target.remove(&name);
        return Ok(());
    }
    let field = schema.field(&name);
    match (target.get_mut(&name), change) {
        (Some(Value::Object(map)), Value::Object(patch)) => {
            let deletes = patch.get(PATCH).and_then(Value::as_str) == Some("delete");
            merge_map(schema.member(&name), map, patch)?;
            if deletes && map.is_empty() {
                target.remove(&name);
            }
        }
        (Some(Value::Array(list)), Value::Array(patch)) => {
            let original = std::mem::take(list);
            *list = if field.is_some_and(|f| f.merge) {
                merge_list(schema.member(&name), field, original, patch)?
            } else {
                patch.into_iter().map(clean).collect()
            };
        }
        (_, change) => match clean(change) {
            Value::Null => drop(target.remove(&name)),
            value => drop(target.insert(name, value)),
        },
    }
    Ok(())
}

/// Merges lists that have a merge key, or primitives.
fn merge_list(
    _schema: Schema<'_>,
    field: Option<&'static Field>,
    original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, Failed> {
    let Some(field) = field.filter(|f| f.merge) else {
        return Ok(patch.into_iter().map(clean).collect());
    };
    let item = match &field.ty {
        Type::List(item) => Schema::of(item),
        _ => Schema::Unknown,
    };
    match field.merge_key.as_deref() {
        None => Ok(lists::merge_primitives(original, patch)),
        Some(key) => lists::merge_maps(item, key, original, patch),
    }
}

fn without_directives(map: Map<String, Value>) -> Map<String, Value> {
    let kept = map.into_iter().filter(|(name, value)| {
        !value.is_null() && name != PATCH && name != RETAIN && !name.starts_with(ORDER) && !name.starts_with(DELETE)
    });
    kept.map(|(name, value)| (name, clean(value))).collect()
}

/// A value of the patch that meets nothing in the target: nulls and directives go.
pub(super) fn clean(value: Value) -> Value {
    match value {
        Value::Object(map) if map.get(PATCH).and_then(Value::as_str) == Some("delete") => Value::Null,
        Value::Object(map) => Value::Object(without_directives(map)),
        Value::Array(list) => {
            let directive = |v: &Value| v.get(PATCH).is_some();
            Value::Array(list.into_iter().filter(|v| !directive(v)).map(clean).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
