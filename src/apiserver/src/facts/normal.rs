//! What a round trip through the Go structs would make of a value: absent members that are always written appear,
//! empty ones that are left out go. Called after every decoding and after defaulting changed something.
//!
//! Invariant: normalising twice changes nothing; no-op detection compares normalised bytes.

use serde_json::{Map, Value};

use super::{Field, Omit, Struct, Type, facts};

/// The zero value of a type as JSON.
pub fn zero(ty: &Type) -> Value {
    match ty {
        Type::String => Value::String(String::new()),
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::IntOrString => Value::from(0),
        Type::Quantity => Value::String("0".into()),
        Type::Struct(at) => Value::Object(zero_struct(facts().at(*at))),
        Type::Bytes | Type::Time | Type::MicroTime | Type::Raw | Type::List(_) | Type::Map(_) => Value::Null,
    }
}

/// The zero value of a struct.
pub fn zero_struct(table: &'static Struct) -> Map<String, Value> {
    let mut out = Map::new();
    for field in &table.fields {
        fill(field, &mut out);
    }
    out
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_i64() == Some(0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

/// Adds an absent member that Go always writes.
fn fill(field: &Field, map: &mut Map<String, Value>) {
    let written = match (field.omit, field.pointer, &field.ty) {
        (Omit::Never, true, _) => Value::Null,
        (Omit::Never, false, ty) => zero(ty),
        (Omit::Empty, false, ty @ (Type::Struct(_) | Type::Time | Type::MicroTime)) => zero(ty),
        _ => return,
    };
    map.insert(field.name.clone(), written);
}

/// Whether Go would leave this present value out.
fn left_out(field: &Field, value: &Value) -> bool {
    match field.omit {
        Omit::Never => false,
        _ if field.pointer => value.is_null(),
        Omit::Empty => match field.ty {
            Type::Struct(_) | Type::Time | Type::MicroTime | Type::IntOrString | Type::Quantity => false,
            _ => is_empty(value),
        },
        Omit::Zero => is_empty(value),
    }
}

/// Brings the members of one struct into Go's form (its nested structs are in it already).
pub fn settle(table: &'static Struct, map: &mut Map<String, Value>) {
    for field in &table.fields {
        match map.get(&field.name) {
            Some(value) if value.is_null() || left_out(field, value) => {
                map.remove(&field.name);
                fill(field, map);
            }
            Some(_) => {}
            None => fill(field, map),
        }
    }
}

/// JSON text with the members of structs in Go's order, as Kubernetes prints values in its messages.
pub fn go_text(name: &str, value: &Value) -> String {
    facts().type_of(name).map_or_else(|| value.to_string(), |ty| ordered(&ty, value))
}

fn ordered(ty: &Type, value: &Value) -> String {
    let member = |name: &str, ty: &Type, value: &Value| format!("{}:{}", Value::from(name), ordered(ty, value));
    match (ty, value) {
        (Type::Struct(at), Value::Object(map)) => {
            let table = facts().at(*at);
            let known = table.fields.iter().filter_map(|f| map.get(&f.name).map(|v| member(&f.name, &f.ty, v)));
            let other = map.iter().filter(|(k, _)| table.field(k).is_none()).map(|(k, v)| member(k, &Type::Raw, v));
            format!("{{{}}}", known.chain(other).collect::<Vec<_>>().join(","))
        }
        (Type::Map(item), Value::Object(map)) => {
            format!("{{{}}}", map.iter().map(|(k, v)| member(k, item, v)).collect::<Vec<_>>().join(","))
        }
        (Type::List(item), Value::Array(list)) => {
            format!("[{}]", list.iter().map(|v| ordered(item, v)).collect::<Vec<_>>().join(","))
        }
        _ => value.to_string(),
    }
}
