//! Decodes JSON (or an already parsed value) against the tables, as Go's strict decoder would: wrong types stop it,
//! unknown and duplicate fields are collected. Called by every handler that takes a body and after every patch.
//!
//! Invariant: one pass; the answer is normalised.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::normal::{settle, zero};
use super::{Field, Struct, Type, facts};
use crate::quantity::Quantity;

/// What decoding found.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The object, normalised.
    pub object: Map<String, Value>,
    /// `unknown field "a.b"`, `duplicate field "a.b"` in order of appearance.
    pub strict: Vec<String>,
}

/// Why a body cannot be decoded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Not JSON; the parser's text.
    #[error("{0}")]
    Syntax(String),
    /// JSON of the wrong shape; Go's text.
    #[error("{0}")]
    Shape(String),
}

/// Decodes `bytes` as the struct `table`.
pub fn from_slice(table: &'static Struct, bytes: &[u8]) -> Result<Decoded, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let decoded = from_deserializer(table, &mut deserializer)?;
    deserializer.end().map_err(|e| Error::Syntax(e.to_string()))?;
    Ok(decoded)
}

/// Decodes a parsed value as the struct `table`.
pub fn from_value(table: &'static Struct, value: Value) -> Result<Decoded, Error> {
    from_deserializer(table, value)
}

/// Decodes a parsed value that is still needed.
pub fn from_ref(table: &'static Struct, value: &Value) -> Result<Decoded, Error> {
    from_deserializer(table, value)
}

fn from_deserializer<'de, D>(table: &'static Struct, deserializer: D) -> Result<Decoded, Error>
where
    D: Deserializer<'de>,
    D::Error: fmt::Display,
{
    let ty = facts().type_of(&table.name).unwrap_or(Type::Raw);
    let mut context = Context::default();
    let seed = Seed { ty: &ty, go: "", owner: &table.name, context: &mut context };
    let value = seed.deserialize(deserializer).map_err(|e| Error::Syntax(e.to_string()))?;
    if let Some(message) = context.error {
        return Err(Error::Shape(message));
    }
    let object = match value {
        Value::Object(map) => map,
        _ => super::normal::zero_struct(table),
    };
    Ok(Decoded { object, strict: context.strict })
}

enum Segment {
    Field(&'static str),
    Key(String),
    Index(usize),
}

#[derive(Default)]
struct Context {
    path: Vec<Segment>,
    strict: Vec<String>,
    error: Option<String>,
}

impl Context {
    fn fail(&mut self, message: String) {
        self.error.get_or_insert(message);
    }

    fn strict(&mut self, what: &str, name: &str) {
        let mut text = String::new();
        for segment in &self.path {
            match segment {
                Segment::Index(at) => text.push_str(&format!("[{at}]")),
                Segment::Field(name) => push_name(&mut text, name),
                Segment::Key(name) => push_name(&mut text, name),
            }
        }
        push_name(&mut text, name);
        self.strict.push(format!("{what} field \"{text}\""));
    }

    fn go_path(&self) -> String {
        let names: Vec<&str> = self
            .path
            .iter()
            .filter_map(|s| match s {
                Segment::Field(name) => Some(*name),
                _ => None,
            })
            .collect();
        names.join(".")
    }
}

fn push_name(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(name);
}

struct Seed<'a> {
    ty: &'a Type,
    /// Go's name of the type, empty at the top.
    go: &'a str,
    /// Go's name of the struct that holds the value.
    owner: &'a str,
    context: &'a mut Context,
}

impl Seed<'_> {
    fn mismatch(&mut self, found: &str) -> Value {
        let path = self.context.go_path();
        let message = if path.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type v1.{}", self.owner)
        } else {
            format!("json: cannot unmarshal {found} into Go struct field {}.{path} of type {}", self.owner, self.go)
        };
        self.context.fail(message);
        Value::Null
    }

    fn text(&mut self, text: String) -> Value {
        match self.ty {
            Type::String | Type::IntOrString | Type::Raw => Value::String(text),
            Type::Quantity => match Quantity::parse(&text) {
                Ok(quantity) => Value::String(quantity.to_string()),
                Err(error) => {
                    self.context.fail(error.to_string());
                    Value::Null
                }
            },
            Type::Bytes => self.bytes(text),
            Type::Time | Type::MicroTime => match crate::time::parse(&text) {
                Ok(time) if *self.ty == Type::Time => Value::String(crate::time::seconds(time)),
                Ok(time) => Value::String(crate::time::micros(time)),
                Err(message) => {
                    self.context.fail(message);
                    Value::Null
                }
            },
            _ => self.mismatch("string"),
        }
    }

    fn bytes(&mut self, text: String) -> Value {
        use base64::Engine as _;
        match base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
            Ok(_) => Value::String(text),
            Err(error) => {
                let at = match error {
                    base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                    _ => text.len() / 4 * 4,
                };
                self.context.fail(format!("illegal base64 data at input byte {at}"));
                Value::Null
            }
        }
    }

    fn number(&mut self, number: Value) -> Value {
        match self.ty {
            Type::Int64 if number.is_i64() => number,
            Type::Int32 if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => number,
            Type::IntOrString if number.is_i64() => number,
            Type::Raw => number,
            Type::Quantity => self.text(number.to_string()),
            Type::Int32 | Type::Int64 => self.mismatch(&format!("number {number}")),
            _ => self.mismatch("number"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<Value, E> {
        Ok(match self.ty {
            Type::Bool | Type::Raw => Value::Bool(value),
            _ => self.mismatch("bool"),
        })
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<Value, E> {
        Ok(self.number(Value::from(value)))
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<Value, E> {
        Ok(self.number(Value::from(value)))
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<Value, E> {
        Ok(self.number(Value::from(value)))
    }

    fn visit_str<E>(mut self, value: &str) -> Result<Value, E> {
        Ok(self.text(value.to_owned()))
    }

    fn visit_string<E>(mut self, value: String) -> Result<Value, E> {
        Ok(self.text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let item = match self.ty {
            Type::List(item) => item,
            Type::Raw => &Type::Raw,
            _ => {
                while access.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(self.mismatch("array"));
            }
        };
        let go = self.go.strip_prefix("[]").unwrap_or(self.go);
        let mut out = Vec::new();
        loop {
            self.context.path.push(Segment::Index(out.len()));
            let seed = Seed { ty: item, go, owner: self.owner, context: self.context };
            let next = access.next_element_seed(seed);
            self.context.path.pop();
            match next? {
                Some(Value::Null) if *item != Type::Raw => out.push(zero(item)),
                Some(value) => out.push(value),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        match self.ty {
            Type::Struct(at) => self.structure(facts().at(*at), access),
            Type::Map(item) => self.map(item, access),
            Type::Raw => self.map(&Type::Raw, access),
            _ => {
                while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(self.mismatch("object"))
            }
        }
    }
}

impl Seed<'_> {
    fn structure<'de, A: MapAccess<'de>>(self, table: &'static Struct, mut access: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        let mut seen: HashSet<&'static str> = HashSet::new();
        while let Some(name) = access.next_key::<std::borrow::Cow<'_, str>>()? {
            let Some(field) = table.field(&name) else {
                self.context.strict("unknown", &name);
                access.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = member(field, table, self.context, &mut access)?;
            if !seen.insert(&field.name) {
                self.context.strict("duplicate", &name);
            }
            if !value.is_null() {
                out.insert(field.name.clone(), value);
            }
        }
        settle(table, &mut out);
        Ok(Value::Object(out))
    }

    fn map<'de, A: MapAccess<'de>>(self, item: &Type, mut access: A) -> Result<Value, A::Error> {
        let go = self.go.split_once(']').map_or(self.go, |(_, rest)| rest);
        let mut out = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            self.context.path.push(Segment::Key(name));
            let seed = Seed { ty: item, go, owner: self.owner, context: self.context };
            let value = access.next_value_seed(seed);
            let Some(Segment::Key(name)) = self.context.path.pop() else { continue };
            let mut value = value?;
            if value.is_null() && *item != Type::Raw {
                value = zero(item);
            }
            if out.contains_key(&name) {
                self.context.strict("duplicate", &name);
            }
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}

fn member<'de, A: MapAccess<'de>>(
    field: &'static Field,
    table: &'static Struct,
    context: &mut Context,
    access: &mut A,
) -> Result<Value, A::Error> {
    context.path.push(Segment::Field(&field.name));
    let seed = Seed { ty: &field.ty, go: &field.go, owner: &table.name, context };
    let value = access.next_value_seed(seed);
    context.path.pop();
    value
}

#[cfg(test)]
mod tests;
