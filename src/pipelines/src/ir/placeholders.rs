//! Placeholders: `{{$.inputs.parameters['n']}}` and its kin, in constants, commands and arguments.
//!
//! Source: the complete list in KFP's SDK and launcher. Upstream replaces most of them only where they are the whole
//! string; here all of them may stand inside longer text. What is not known, or names nothing, is left as it is.

use serde_json::Value;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment<'a> {
    /// To be taken as it is.
    Text(&'a str),
    /// To be replaced; the text is what stands there if it cannot be.
    Placeholder(Placeholder<'a>, &'a str),
}

/// What a placeholder names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder<'a> {
    /// `{{$}}`: the whole ExecutorInput.
    ExecutorInput,
    /// `{{$.inputs.parameters['n']}}`.
    InputParameter(&'a str),
    /// `{{$.inputs.artifacts['n'].uri}}` and its kin.
    InputArtifact(&'a str, Field<'a>),
    /// `{{$.outputs.artifacts['n'].uri}}` and its kin.
    OutputArtifact(&'a str, Field<'a>),
    /// `{{$.outputs.parameters['n'].output_file}}`.
    OutputParameterFile(&'a str),
    /// `{{$.outputs.output_file}}`.
    OutputFile,
    /// `{{$.pipeline_job_name}}` and its kin: facts about the run and the task.
    Fact(&'a str),
}

/// A field of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// The artifact itself, as JSON (a list input: all of them).
    Whole,
    /// `.uri`.
    Uri,
    /// `.path`: where the step finds it.
    Path,
    /// `.metadata` (`.properties` in old documents).
    Metadata,
    /// `.metadata['k']`.
    MetadataKey(&'a str),
}

const OPEN: &str = "{{$";
const CLOSE: &str = "}}";

/// Cuts a text into what is taken as it is and what is replaced.
pub fn segments(text: &str) -> Vec<Segment<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(OPEN) {
        let Some(len) = length(&rest[start..]) else { break };
        let whole = &rest[start..start + len];
        match parse(&whole[OPEN.len()..len - CLOSE.len()]) {
            Some(placeholder) => {
                if start > 0 {
                    found.push(Segment::Text(&rest[..start]));
                }
                found.push(Segment::Placeholder(placeholder, whole));
            }
            None => found.push(Segment::Text(&rest[..start + len])),
        }
        rest = &rest[start + len..];
    }
    if !rest.is_empty() {
        found.push(Segment::Text(rest));
    }
    found
}

/// Replaces the placeholders of a text; where `resolve` has nothing, the placeholder stays.
pub fn render(text: &str, mut resolve: impl FnMut(Placeholder<'_>) -> Option<String>) -> String {
    if !text.contains(OPEN) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for segment in segments(text) {
        match segment {
            Segment::Text(text) => out.push_str(text),
            Segment::Placeholder(placeholder, whole) => match resolve(placeholder) {
                Some(value) => out.push_str(&value),
                None => out.push_str(whole),
            },
        }
    }
    out
}

/// A value inside a text: strings raw, whole numbers without a fraction, lists and objects as JSON.
pub fn to_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => super::whole_numbers(other.clone()).to_string(),
    }
}

/// Length of the placeholder at the start of `text`, brackets included. A `}}` inside quotes does not end it.
fn length(text: &str) -> Option<usize> {
    let mut quoted = false;
    let bytes = text.as_bytes();
    let mut at = OPEN.len();
    while at < bytes.len() {
        match bytes[at] {
            b'\'' => quoted = !quoted,
            b'}' if !quoted && bytes.get(at + 1) == Some(&b'}') => return Some(at + CLOSE.len()),
            _ => {}
        }
        at += 1;
    }
    None
}

fn parse(path: &str) -> Option<Placeholder<'_>> {
    if path.is_empty() {
        return Some(Placeholder::ExecutorInput);
    }
    let path = path.strip_prefix('.')?;
    if let Some(rest) = path.strip_prefix("inputs.parameters") {
        let (name, rest) = key(rest)?;
        return rest.is_empty().then_some(Placeholder::InputParameter(name));
    }
    if let Some(rest) = path.strip_prefix("inputs.artifacts") {
        let (name, rest) = key(rest)?;
        return Some(Placeholder::InputArtifact(name, field(rest)?));
    }
    if let Some(rest) = path.strip_prefix("outputs.artifacts") {
        let (name, rest) = key(rest)?;
        return Some(Placeholder::OutputArtifact(name, field(rest)?));
    }
    if let Some(rest) = path.strip_prefix("outputs.parameters") {
        let (name, rest) = key(rest)?;
        return (rest == ".output_file").then_some(Placeholder::OutputParameterFile(name));
    }
    if path == "outputs.output_file" {
        return Some(Placeholder::OutputFile);
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    path.chars().all(word).then_some(Placeholder::Fact(path))
}

/// `['name']` and what follows it.
fn key(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("['")?.split_once("']")
}

fn field(text: &str) -> Option<Field<'_>> {
    match text {
        "" => Some(Field::Whole),
        ".uri" => Some(Field::Uri),
        ".path" => Some(Field::Path),
        ".metadata" | ".properties" => Some(Field::Metadata),
        _ => {
            let rest = text.strip_prefix(".metadata").or_else(|| text.strip_prefix(".properties"))?;
            let (name, rest) = key(rest)?;
            rest.is_empty().then_some(Field::MetadataKey(name))
        }
    }
}

/// Expands a structured argument: `{"Concat": [...]}` and `{"IfPresent": {...}}`, nested either way. `None` for an
/// ordinary argument. An IfPresent may expand to no argument or to several.
pub fn expand(argument: &str, is_present: &impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let trimmed = argument.trim_start();
    if !trimmed.starts_with('{') || !(trimmed.contains("\"Concat\"") || trimmed.contains("\"IfPresent\"")) {
        return None;
    }
    let value: Value = serde_json::from_str(argument).ok()?;
    structure(&value)?;
    Some(arguments(&value, is_present))
}

enum Structure<'a> {
    Concat(&'a Vec<Value>),
    IfPresent { input: &'a str, then: &'a Value, otherwise: Option<&'a Value> },
}

fn structure(value: &Value) -> Option<Structure<'_>> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    if let Some(parts) = map.get("Concat") {
        return parts.as_array().map(Structure::Concat);
    }
    let choice = map.get("IfPresent")?.as_object()?;
    let get = |names: [&str; 2]| names.iter().find_map(|name| choice.get(*name));
    Some(Structure::IfPresent {
        input: get(["InputName", "inputName"])?.as_str()?,
        then: get(["Then", "then"])?,
        otherwise: get(["Else", "else"]),
    })
}

fn arguments(value: &Value, is_present: &impl Fn(&str) -> bool) -> Vec<String> {
    match structure(value) {
        Some(Structure::Concat(parts)) => {
            vec![parts.iter().flat_map(|part| arguments(part, is_present)).collect::<Vec<_>>().concat()]
        }
        Some(Structure::IfPresent { input, then, otherwise }) => {
            let chosen = if is_present(input) { Some(then) } else { otherwise };
            chosen.map(|chosen| arguments(chosen, is_present)).unwrap_or_default()
        }
        None => match value {
            Value::Array(items) => items.iter().flat_map(|item| arguments(item, is_present)).collect(),
            Value::Null => Vec::new(),
            other => vec![to_text(other)],
        },
    }
}

#[cfg(test)]
mod tests;
