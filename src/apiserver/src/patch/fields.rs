//! Managed fields of Update operations: which manager changed which field. Called by the store on every write.
//!
//! Invariant: a manager's set holds exactly the fields whose present value it wrote last; server-set metadata is never
//! owned.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::facts::{Field, ListKind, Struct, Type, facts};
use crate::registry::Resource;
use crate::registry::store::metadata_of;
use crate::storage::Object;
use crate::time;

const UPDATES_LIMIT: usize = 10;
const NEVER_OWNED: [&str; 11] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// A set of paths: a tree whose nodes may themselves be members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    member: bool,
    children: BTreeMap<String, Set>,
}

impl Set {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Reads `fieldsV1`.
    pub fn parse(value: &Value) -> Self {
        let Value::Object(map) = value else { return Self::default() };
        let children: BTreeMap<String, Set> =
            map.iter().filter(|(k, _)| *k != ".").map(|(k, v)| (k.clone(), Self::parse(v))).collect();
        Self { member: map.is_empty() || map.contains_key("."), children }
    }

    /// Writes `fieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".into(), json!({}));
        }
        for (name, child) in &self.children {
            map.insert(name.clone(), child.to_value());
        }
        Value::Object(map)
    }

    fn union(&mut self, other: &Self) {
        self.member |= other.member;
        for (name, child) in &other.children {
            self.children.entry(name.clone()).or_default().union(child);
        }
    }

    fn subtract(&mut self, other: &Self) {
        if other.member {
            self.member = false;
        }
        for (name, theirs) in &other.children {
            if let Some(mine) = self.children.get_mut(name) {
                mine.subtract(theirs);
                if mine.is_empty() {
                    self.children.remove(name);
                }
            }
        }
    }

    fn at(&mut self, path: &[String]) -> &mut Self {
        path.iter().fold(self, |node, name| node.children.entry(name.clone()).or_default())
    }
}

/// What a comparison of two objects found.
#[derive(Default)]
struct Difference {
    changed: Set,
    removed: Set,
}

/// Types of a map's members by name.
type Members<'a> = &'a dyn Fn(&str) -> Option<(&'a Type, Option<&'a Field>)>;

fn empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

impl Difference {
    fn leaf(&mut self, path: &[String], old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, None) => {}
            (Some(_), None) => self.removed.at(path).member = true,
            (before, now) if before != now => self.changed.at(path).member = true,
            _ => {}
        }
    }

    fn compare(
        &mut self,
        ty: &Type,
        field: Option<&Field>,
        path: &mut Vec<String>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) {
        if old == new {
            return;
        }
        let atomic = field.is_some_and(|f| f.atomic);
        let leaf = match ty {
            Type::Struct(at) => atomic || facts().at(*at).atomic || (empty(old) && empty(new)),
            Type::Map(_) => atomic || (empty(old) && empty(new)),
            Type::List(_) => field.is_none_or(|f| f.list == ListKind::Atomic) || (empty(old) && empty(new)),
            _ => true,
        };
        if leaf {
            return self.leaf(path, old, new);
        }
        match ty {
            Type::Struct(at) => self.structure(facts().at(*at), path, old, new),
            Type::Map(item) => self.map(&|_| Some((item.as_ref(), None)), path, old, new),
            Type::List(item) => self.list(item, field, path, old, new),
            _ => {}
        }
        match (old, new) {
            (None, Some(_)) => self.changed.at(path).member = true,
            (Some(_), None) => self.removed.at(path).member = true,
            _ => {}
        }
    }

    fn structure(&mut self, table: &'static Struct, path: &mut Vec<String>, old: Option<&Value>, new: Option<&Value>) {
        self.map(&|name| table.field(name).map(|f| (&f.ty, Some(f))), path, old, new);
    }

    fn map(&mut self, types: Members<'_>, path: &mut Vec<String>, old: Option<&Value>, new: Option<&Value>) {
        let nothing = Map::new();
        let before = old.and_then(Value::as_object).unwrap_or(&nothing);
        let now = new.and_then(Value::as_object).unwrap_or(&nothing);
        let names = before.keys().chain(now.keys().filter(|k| !before.contains_key(*k)));
        for name in names {
            if let Some((ty, field)) = types(name) {
                path.push(format!("f:{name}"));
                self.compare(ty, field, path, before.get(name), now.get(name));
                path.pop();
            }
        }
    }

    fn list(
        &mut self,
        item: &Type,
        field: Option<&Field>,
        path: &mut Vec<String>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) {
        let keyed = |list: Option<&Value>| -> BTreeMap<String, Value> {
            let items = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            items.iter().map(|i| (element(field, i), i.clone())).collect()
        };
        let (before, now) = (keyed(old), keyed(new));
        let names = before.keys().chain(now.keys().filter(|k| !before.contains_key(*k)));
        for name in names {
            path.push(name.clone());
            self.compare(item, None, path, before.get(name), now.get(name));
            path.pop();
        }
    }
}

/// The path element of a list element: its keys, or itself in a set.
fn element(field: Option<&Field>, item: &Value) -> String {
    match field.map(|f| &f.list) {
        Some(ListKind::Map(keys)) => {
            let mut map = Map::new();
            for key in keys {
                if let Some(value) = item.get(key) {
                    map.insert(key.clone(), value.clone());
                }
            }
            format!("k:{}", Value::Object(map))
        }
        _ => format!("v:{item}"),
    }
}

fn strip(set: &mut Set) {
    set.member = false;
    set.children.remove("f:kind");
    set.children.remove("f:apiVersion");
    if let Some(metadata) = set.children.get_mut("f:metadata") {
        metadata.member = false;
        for name in NEVER_OWNED {
            metadata.children.remove(&format!("f:{name}"));
        }
        if metadata.children.is_empty() {
            set.children.remove("f:metadata");
        }
    }
}

/// Fields that this door resets: nobody comes to own them through it.
fn through_door(set: &mut Set, resource: &Resource, subresource: &str) {
    match subresource {
        "" if resource.has_status() => drop(set.children.remove("f:status")),
        "status" => set.children.retain(|name, _| matches!(name.as_str(), "f:status" | "f:metadata")),
        _ => {}
    }
}

struct Entry {
    value: Map<String, Value>,
    set: Set,
}

fn text<'a>(entry: &'a Map<String, Value>, name: &str) -> &'a str {
    entry.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn entries(list: Option<&Value>) -> Vec<Entry> {
    let items = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let parsed = items.iter().filter_map(|item| {
        let mut value = item.as_object()?.clone();
        let set = Set::parse(&value.remove("fieldsV1").unwrap_or_default());
        Some(Entry { value, set })
    });
    parsed.collect()
}

/// Brings `new`'s managedFields up to date for an Update by `manager` through `subresource`; `old` is what was stored
/// (for a create, the zero value of its struct).
pub fn on_update(
    resource: &Resource,
    old: &Object,
    new: &mut Object,
    manager: &str,
    subresource: &str,
    now: Timestamp,
) {
    let sent = metadata_of(new).remove("managedFields");
    if let Some(Value::Array(list)) = &sent
        && list.as_slice() == [json!({})]
    {
        return;
    }
    let stored = old.get("metadata").and_then(|m| m.get("managedFields"));
    // An object that exists and is not tracked stays so.
    if stored.is_none() && old.get("metadata").is_some_and(|m| m.get("uid").is_some()) {
        return;
    }
    let Some(difference) = difference(resource, old, new, subresource) else {
        put_back(new, stored.cloned());
        return;
    };
    let mut list = entries(stored);
    for entry in &mut list {
        let own = is(&entry.value, manager, subresource);
        entry.set.subtract(&difference.removed);
        if !own {
            entry.set.subtract(&difference.changed);
        }
    }
    match list.iter_mut().find(|e| is(&e.value, manager, subresource)) {
        Some(entry) => {
            entry.set.union(&difference.changed);
            entry.value.insert("time".into(), time::seconds(now).into());
        }
        None => list.push(Entry { value: header(manager, subresource, now), set: difference.changed }),
    }
    list.retain(|e| !e.set.is_empty());
    merge_old(&mut list);
    list.sort_by_key(|entry| order(&entry.value));
    let values: Vec<Value> = list
        .into_iter()
        .map(|entry| {
            let mut value = entry.value;
            value.insert("fieldsV1".into(), entry.set.to_value());
            Value::Object(value)
        })
        .collect();
    put_back(new, (!values.is_empty()).then_some(Value::Array(values)));
}

fn difference(resource: &Resource, old: &Object, new: &Object, subresource: &str) -> Option<Difference> {
    let mut difference = Difference::default();
    let table = resource.table;
    for field in &table.fields {
        let (before, now) = (old.get(&field.name), new.get(&field.name));
        let mut path = vec![format!("f:{}", field.name)];
        difference.compare(&field.ty, Some(field), &mut path, before, now);
    }
    for set in [&mut difference.changed, &mut difference.removed] {
        strip(set);
        through_door(set, resource, subresource);
    }
    (!difference.changed.is_empty() || !difference.removed.is_empty()).then_some(difference)
}

fn header(manager: &str, subresource: &str, now: Timestamp) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("manager".into(), manager.into());
    value.insert("operation".into(), "Update".into());
    value.insert("apiVersion".into(), "v1".into());
    value.insert("time".into(), time::seconds(now).into());
    value.insert("fieldsType".into(), "FieldsV1".into());
    if !subresource.is_empty() {
        value.insert("subresource".into(), subresource.into());
    }
    value
}

fn is(entry: &Map<String, Value>, manager: &str, subresource: &str) -> bool {
    text(entry, "manager") == manager
        && text(entry, "operation") == "Update"
        && text(entry, "subresource") == subresource
}

fn order(entry: &Map<String, Value>) -> (String, String, String, String) {
    let get = |name: &str| text(entry, name).to_owned();
    (get("operation"), get("time"), get("manager"), get("subresource"))
}

/// More than ten Update entries: the oldest become one.
fn merge_old(list: &mut Vec<Entry>) {
    let mut updates: Vec<usize> =
        (0..list.len()).filter(|at| list.get(*at).is_some_and(|e| text(&e.value, "operation") == "Update")).collect();
    if updates.len() <= UPDATES_LIMIT {
        return;
    }
    updates.sort_by_key(|at| text(&list[*at].value, "time").to_owned());
    let surplus = updates.len() - UPDATES_LIMIT + 1;
    let mut oldest: Vec<usize> = updates.into_iter().take(surplus).collect();
    oldest.sort_unstable_by(|a, b| b.cmp(a));
    let mut merged: Option<Entry> = None;
    for at in oldest {
        let entry = list.remove(at);
        match &mut merged {
            Some(into) => into.set.union(&entry.set),
            None => merged = Some(entry),
        }
    }
    if let Some(mut entry) = merged {
        entry.value.insert("manager".into(), "ancient-changes".into());
        list.push(entry);
    }
}

fn put_back(object: &mut Object, list: Option<Value>) {
    if let Some(list) = list {
        metadata_of(object).insert("managedFields".into(), list);
    }
}

#[cfg(test)]
mod tests;
