//! `meta.k8s.io/v1 Table`: columns and rows as kubectl prints them. Called when a Table was negotiated.
//!
//! Invariant: cells come from the kind's strategy; nothing here knows a kind.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::negotiate::Include;
use crate::registry::Resource;
use crate::registry::store::meta;
use crate::storage::Object;
use crate::time;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `name` for the object's name, else empty.
    pub format: &'static str,
    /// What it shows.
    pub description: &'static str,
    /// 1 for columns that only `-o wide` shows.
    pub priority: u8,
}

/// A column that always shows.
pub const fn column(name: &'static str, description: &'static str) -> Column {
    Column { name, format: "", description, priority: 0 }
}

/// A column that `-o wide` shows.
pub const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, format: "", description, priority: 1 }
}

/// The column of names.
pub const NAME: Column = Column { name: "Name", format: "name", description: "Name of the object", priority: 0 };
/// The column of ages.
pub const AGE: Column = column("Age", "Time since the object was created");
/// Columns of a kind that has nothing more to say.
pub const PLAIN: [Column; 2] = [NAME, AGE];

/// Cell of the name.
pub fn name(object: &Object) -> Value {
    meta(object, "name").into()
}

/// Cell of the age.
pub fn age(object: &Object, now: Timestamp) -> Value {
    since(meta(object, "creationTimestamp"), now).into()
}

/// Time since an RFC 3339 text, or `<unknown>`.
pub fn since(text: &str, now: Timestamp) -> String {
    match text.parse::<Timestamp>() {
        Ok(then) => time::human(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

fn definitions(resource: &Resource) -> Value {
    let columns = resource.strategy.columns().iter().map(|c| {
        json!({
            "name": c.name, "type": "string", "format": c.format, "description": c.description, "priority": c.priority,
        })
    });
    Value::Array(columns.collect())
}

/// `PartialObjectMetadata` of an object.
pub fn partial(object: &Object, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// One row.
pub fn row(resource: &Resource, object: &Object, include: Include, version: &str, now: Timestamp) -> Value {
    let shown = match include {
        Include::None => Value::Null,
        Include::Metadata => partial(object, version),
        Include::Object => {
            let mut full = object.clone();
            full.insert("kind".into(), resource.kind.into());
            full.insert("apiVersion".into(), "v1".into());
            Value::Object(full)
        }
    };
    let mut row = Map::new();
    row.insert("cells".into(), Value::Array(resource.strategy.cells(object, now)));
    row.insert("object".into(), shown);
    if let Some(conditions) = resource.strategy.row_conditions(object) {
        row.insert("conditions".into(), conditions);
    }
    Value::Object(row)
}

/// A Table around rows; without `columns` the definitions are null, as in later events of a watch.
pub fn table(resource: &Resource, metadata: Value, rows: Vec<Value>, columns: bool, version: &str) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
        "columnDefinitions": if columns { definitions(resource) } else { Value::Null },
        "rows": rows,
    })
}
