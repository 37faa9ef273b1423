//! Reads Go type declarations line by line: structs with their tags and markers, named types, string constants.
//!
//! Invariant: knows only the regular shape of Kubernetes' `types.go`; what it does not know it leaves out.

use std::collections::BTreeMap;

/// One field of a struct.
#[derive(Clone, Debug, Default)]
pub struct Field {
    /// JSON name; empty for an inlined struct.
    pub json: String,
    /// Go type as written.
    pub go: String,
    /// `omitempty` in the JSON tag.
    pub omit_empty: bool,
    /// `omitzero` in the JSON tag.
    pub omit_zero: bool,
    /// Field number of the protobuf tag, 0 if none.
    pub number: u32,
    /// Values of `patchStrategy` and `patchMergeKey`.
    pub patch_strategy: Option<String>,
    /// See `patch_strategy`.
    pub patch_merge_key: Option<String>,
    /// Comment markers `+name=value`; a marker may stand several times.
    pub markers: Vec<(String, String)>,
}

/// A struct.
#[derive(Clone, Debug, Default)]
pub struct Struct {
    /// Fields in order.
    pub fields: Vec<Field>,
    /// Carries `+structType=atomic`.
    pub atomic: bool,
}

/// Everything found.
#[derive(Default)]
pub struct Package {
    /// Structs by name.
    pub structs: BTreeMap<String, Struct>,
    /// `type X Y` by name.
    pub named: BTreeMap<String, String>,
    /// Values of string constants by type, only of types marked `+enum`.
    pub enums: BTreeMap<String, Vec<String>>,
}

fn marker(line: &str) -> Option<(String, String)> {
    let text = line.trim().strip_prefix("//")?.trim().strip_prefix('+')?;
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Some((name.to_owned(), value.to_owned()))
}

fn tag(line: &str, name: &str) -> Option<String> {
    let start = line.find(&format!("{name}:\""))? + name.len() + 2;
    Some(line[start..].split('"').next()?.to_owned())
}

fn field(line: &str, markers: Vec<(String, String)>) -> Option<Field> {
    let code = line.split('`').next()?.split("//").next()?.trim();
    let words: Vec<&str> = code.split_whitespace().collect();
    let (go, embedded) = match words.as_slice() {
        [only] => (*only, true),
        [_, rest @ ..] => (*rest.first()?, false),
        [] => return None,
    };
    let json = tag(line, "json")?;
    let mut parts = json.split(',');
    let mut name = parts.next().unwrap_or_default().to_owned();
    let options: Vec<&str> = parts.collect();
    if embedded && options.contains(&"inline") {
        name.clear();
    }
    let number = tag(line, "protobuf").and_then(|p| p.split(',').nth(1)?.parse().ok()).unwrap_or(0);
    Some(Field {
        json: name,
        go: go.to_owned(),
        omit_empty: options.contains(&"omitempty"),
        omit_zero: options.contains(&"omitzero"),
        number,
        patch_strategy: tag(line, "patchStrategy"),
        patch_merge_key: tag(line, "patchMergeKey"),
        markers,
    })
}

impl Package {
    /// Adds the declarations of one file; with `replace` a name seen before is taken from this file.
    pub fn scan(&mut self, text: &str, replace: bool) {
        let mut markers: Vec<(String, String)> = Vec::new();
        let mut open: Option<(String, Struct)> = None;
        let mut enum_types: Vec<String> = Vec::new();
        for line in text.lines() {
            let code = line.trim();
            if let Some(found) = marker(line) {
                markers.push(found);
                continue;
            }
            if code.starts_with("//") {
                continue;
            }
            if let Some((name, mut current)) = open.take() {
                if code == "}" {
                    if replace || !self.structs.contains_key(&name) {
                        self.structs.insert(name, current);
                    }
                } else {
                    if code.contains("json:\"")
                        && let Some(field) = field(line, std::mem::take(&mut markers))
                    {
                        current.fields.push(field);
                    }
                    open = Some((name, current));
                }
                markers.clear();
                continue;
            }
            let words: Vec<&str> = code.split_whitespace().collect();
            match words.as_slice() {
                ["type", name, "struct", "{"] => {
                    let atomic = markers.iter().any(|(n, v)| n == "structType" && v == "atomic");
                    open = Some(((*name).to_owned(), Struct { fields: Vec::new(), atomic }));
                }
                ["type", name, other] if !other.contains('{') => {
                    self.named.insert((*name).to_owned(), (*other).to_owned());
                    if markers.iter().any(|(n, _)| n == "enum") {
                        enum_types.push((*name).to_owned());
                    }
                }
                [_, of, "=", value] if value.starts_with('"') && enum_types.iter().any(|t| t == of) => {
                    self.enums.entry((*of).to_owned()).or_default().push(value.trim_matches('"').to_owned());
                }
                _ => {}
            }
            if !code.is_empty() {
                markers.clear();
            }
        }
    }
}
