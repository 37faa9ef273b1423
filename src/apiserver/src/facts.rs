//! The tables of facts about Kubernetes' types: fields, Go types, list types, merge keys, resources, OpenAPI.
//! Written by `e2e/facts` from the published definitions; read by decoding, defaulting, patches, discovery and OpenAPI.
//!
//! Invariant: nothing here knows a kind by name; a new kind is a new row.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

pub mod decode;
pub mod normal;
pub mod syntax;

/// What a JSON value of a field may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// A string.
    String,
    /// A boolean.
    Bool,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// Base64 of bytes.
    Bytes,
    /// `resource.Quantity`, stored canonical.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with six digits of a second.
    MicroTime,
    /// Any JSON.
    Raw,
    /// A struct, by its index.
    Struct(usize),
    /// A list.
    List(Box<Type>),
    /// A map with string keys.
    Map(Box<Type>),
}

/// When a zero value is left out of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Omit {
    /// Always written.
    Never,
    /// `omitempty`: empty scalars, lists and maps and absent pointers are left out, structs never.
    Empty,
    /// `omitzero`: structs are left out too.
    Zero,
}

/// How two lists of this field merge under managed fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Replaced as one.
    Atomic,
    /// Unique scalars.
    Set,
    /// Elements identified by these keys.
    Map(Vec<String>),
}

/// One field of a struct.
#[derive(Debug)]
pub struct Field {
    /// JSON name.
    pub name: String,
    /// The Go type as Go's own error messages print it.
    pub go: String,
    /// Shape.
    pub ty: Type,
    /// A Go pointer: present even when zero.
    pub pointer: bool,
    /// When it is left out.
    pub omit: Omit,
    /// Field number of the protobuf message.
    pub number: u32,
    /// Strategic merge: lists merge (by `merge_key`, or as primitives) instead of being replaced.
    pub merge: bool,
    /// Strategic merge: members not named by `$retainKeys` go.
    pub retain_keys: bool,
    /// Key of a merged list.
    pub merge_key: Option<String>,
    /// Managed fields: how a list is owned.
    pub list: ListKind,
    /// Managed fields: a map or struct owned as one.
    pub atomic: bool,
    /// Declared default.
    pub default: Option<Value>,
    /// Allowed values (sorted), if the type is an enumeration.
    pub allowed: Option<Vec<String>>,
}

/// One struct.
#[derive(Debug)]
pub struct Struct {
    /// Go name without package.
    pub name: String,
    /// Fields in Go's order.
    pub fields: Vec<Field>,
    /// Owned as one under managed fields.
    pub atomic: bool,
    index: HashMap<String, usize>,
}

impl Struct {
    /// The field with this JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.index.get(name).and_then(|at| self.fields.get(*at))
    }
}

/// One served resource or subresource, as discovery lists it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceFacts {
    /// `pods` or `pods/log`.
    pub name: String,
    /// Singular name.
    #[serde(default)]
    pub singular_name: String,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Kind of what it takes and answers.
    pub kind: String,
    /// Group of that kind when it is not the list's.
    #[serde(default)]
    pub group: Option<String>,
    /// Version of that kind when it is not the list's.
    #[serde(default)]
    pub version: Option<String>,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Short names.
    #[serde(default)]
    pub short_names: Vec<String>,
    /// Categories.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Hash of the storage version.
    #[serde(default)]
    pub storage_version_hash: Option<String>,
}

/// All tables.
pub struct Facts {
    structs: Vec<Struct>,
    names: HashMap<String, usize>,
    /// Resources and subresources of group "".
    pub resources: Vec<ResourceFacts>,
}

static FACTS: LazyLock<Facts> = LazyLock::new(load);

/// The tables, decoded at first use.
pub fn facts() -> &'static Facts {
    &FACTS
}

impl Facts {
    /// The struct behind a `Type::Struct`.
    pub fn at(&'static self, index: usize) -> &'static Struct {
        &self.structs[index]
    }

    /// The struct with this Go name (`Pod`, `ObjectMeta`).
    pub fn named(&'static self, name: &str) -> Option<&'static Struct> {
        self.names.get(name).map(|at| &self.structs[*at])
    }

    /// The type with this Go name.
    pub fn type_of(&self, name: &str) -> Option<Type> {
        self.names.get(name).map(|at| Type::Struct(*at))
    }
}

/// The OpenAPI v3 document of `api/v1`, as JSON text.
pub fn openapi_document() -> Vec<u8> {
    unpack(include_bytes!("facts/openapi.json.zst"))
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    zstd::decode_all(packed).expect("the tables are packed by e2e/facts and compared by its test")
}

#[derive(Deserialize)]
struct RawField {
    n: String,
    t: String,
    #[serde(default)]
    g: Option<String>,
    #[serde(default)]
    p: bool,
    #[serde(default)]
    o: u8,
    #[serde(default)]
    i: u32,
    #[serde(default)]
    s: String,
    #[serde(default)]
    k: Option<String>,
    #[serde(default)]
    l: Option<String>,
    #[serde(default)]
    lk: Vec<String>,
    #[serde(default)]
    a: bool,
    #[serde(default)]
    d: Option<Value>,
    #[serde(default)]
    e: Option<String>,
}

#[derive(Deserialize)]
struct RawStruct {
    f: Vec<RawField>,
    #[serde(default)]
    a: bool,
}

#[derive(Deserialize)]
struct RawTypes {
    structs: BTreeMap<String, RawStruct>,
    enums: HashMap<String, Vec<String>>,
}

fn parse_type(text: &str, names: &HashMap<String, usize>) -> Type {
    if let Some(item) = text.strip_prefix("[]") {
        return Type::List(Box::new(parse_type(item, names)));
    }
    if let Some(item) = text.strip_prefix("{}") {
        return Type::Map(Box::new(parse_type(item, names)));
    }
    match text {
        "string" => Type::String,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "bytes" => Type::Bytes,
        "quantity" => Type::Quantity,
        "intorstring" => Type::IntOrString,
        "time" => Type::Time,
        "microtime" => Type::MicroTime,
        other => other.strip_prefix("v1.").and_then(|n| names.get(n)).map_or(Type::Raw, |at| Type::Struct(*at)),
    }
}

fn field(raw: RawField, names: &HashMap<String, usize>, enums: &HashMap<String, Vec<String>>) -> Field {
    let list = match raw.l.as_deref() {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(raw.lk),
        _ => ListKind::Atomic,
    };
    Field {
        ty: parse_type(&raw.t, names),
        go: raw.g.unwrap_or_else(|| raw.t.clone()),
        name: raw.n,
        pointer: raw.p,
        omit: match raw.o {
            0 => Omit::Never,
            1 => Omit::Empty,
            _ => Omit::Zero,
        },
        number: raw.i,
        merge: raw.s.split(',').any(|s| s == "merge"),
        retain_keys: raw.s.split(',').any(|s| s == "retainKeys"),
        merge_key: raw.k,
        list,
        atomic: raw.a,
        default: raw.d,
        allowed: raw.e.and_then(|e| enums.get(&e).cloned()),
    }
}

fn load() -> Facts {
    let raw: RawTypes = serde_json::from_slice(&unpack(include_bytes!("facts/types.json.zst")))
        .expect("the tables are written by e2e/facts and compared by its test");
    let resources = serde_json::from_slice(&unpack(include_bytes!("facts/resources.json.zst")))
        .expect("the tables are written by e2e/facts and compared by its test");
    let names: HashMap<String, usize> = raw.structs.keys().enumerate().map(|(at, n)| (n.clone(), at)).collect();
    let structs = raw
        .structs
        .into_iter()
        .map(|(name, table)| {
            let fields: Vec<Field> = table.f.into_iter().map(|f| field(f, &names, &raw.enums)).collect();
            let index = fields.iter().enumerate().map(|(at, f)| (f.name.clone(), at)).collect();
            Struct { name, fields, atomic: table.a, index }
        })
        .collect();
    Facts { structs, names, resources }
}
