//! YAML in and out as kubectl knows it: block style, sorted keys, lists at their key's indent.
//!
//! Invariant: what is printed reads back as the same JSON.

use serde_json::Value;

/// A parsed body.
pub struct Parsed {
    /// The value; of repeated keys the last.
    pub value: Value,
    /// The complaint about the first repeated key, as Go's decoder words it.
    pub repeated: Option<String>,
}

/// Parses YAML; the error begins with `yaml: `.
pub fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: control characters are not allowed".to_owned())?;
    let error = match serde_saphyr::from_str::<Value>(text) {
        Ok(value) => return Ok(Parsed { value, repeated: None }),
        Err(error) => error.to_string(),
    };
    let line = number_after(&error, "line ").unwrap_or(1);
    let Some((_, rest)) = error.split_once("duplicate mapping key: ") else {
        return Err(format!("yaml: line {line}: did not find expected node content"));
    };
    let key = rest.split([',', '\n']).next().unwrap_or_default();
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins };
    let value = serde_saphyr::from_str_with_options(text, options)
        .map_err(|_| format!("yaml: line {line}: did not find expected node content"))?;
    let repeated = Some(format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map"));
    Ok(Parsed { value, repeated })
}

fn number_after(text: &str, word: &str) -> Option<usize> {
    let rest = text.split_once(word)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Prints a value as a YAML document.
pub fn print(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => block(value, 0, &mut out),
        other => {
            out.push_str(&scalar(other, 0));
            out.push('\n');
        }
    }
    out
}

fn nested(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (name, member) in map {
                out.push_str(&pad);
                entry(name, member, indent, out);
            }
        }
        Value::Array(list) => {
            for item in list {
                out.push_str(&pad);
                out.push_str("- ");
                if nested(item) {
                    let mut inner = String::new();
                    block(item, indent + 2, &mut inner);
                    out.push_str(inner.trim_start_matches(' '));
                } else {
                    out.push_str(&scalar(item, indent + 2));
                    out.push('\n');
                }
            }
        }
        _ => {}
    }
}

fn entry(name: &str, member: &Value, indent: usize, out: &mut String) {
    out.push_str(&text(name, indent, true));
    out.push(':');
    if nested(member) {
        out.push('\n');
        block(member, indent + if member.is_array() { 0 } else { 2 }, out);
    } else {
        out.push(' ');
        out.push_str(&scalar(member, indent));
        out.push('\n');
    }
}

fn scalar(value: &Value, indent: usize) -> String {
    match value {
        Value::String(string) => text(string, indent, false),
        Value::Object(_) => "{}".into(),
        Value::Array(_) => "[]".into(),
        other => other.to_string(),
    }
}

/// Whether a plain text would be read as something else than a string.
fn ambiguous(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let word = matches!(
        lower.as_str(),
        "" | "~"
            | "null"
            | "true"
            | "false"
            | "yes"
            | "no"
            | "on"
            | "off"
            | "y"
            | "n"
            | ".inf"
            | "-.inf"
            | "+.inf"
            | ".nan"
    );
    let starts = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    let number = starts
        && (text.replace('_', "").parse::<f64>().is_ok()
            || lower.starts_with("0x")
            || lower.starts_with("0o")
            || (text.contains(':') && text.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '.' | '-'))));
    let bytes = text.as_bytes();
    let date = bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    word || number || date
}

fn plain(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let indicator = "!&*[]{},#|>@`\"'%".contains(first)
        || (matches!(first, '-' | '?' | ':') && text[1..].chars().next().is_none_or(char::is_whitespace));
    !indicator
        && !text.starts_with(char::is_whitespace)
        && !text.ends_with(char::is_whitespace)
        && !text.ends_with(':')
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(|c| c.is_control())
}

fn text(text: &str, indent: usize, key: bool) -> String {
    if ambiguous(text) {
        return quoted(text);
    }
    if plain(text) {
        return text.to_owned();
    }
    let printable = text.chars().all(|c| !c.is_control() || c == '\n');
    if text.contains('\n') && printable && !key && !text.starts_with([' ', '\n']) {
        return literal(text, indent);
    }
    if text.chars().any(char::is_control) { quoted(text) } else { format!("'{}'", text.replace('\'', "''")) }
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn literal(text: &str, indent: usize) -> String {
    let end = if text.ends_with("\n\n") {
        "+"
    } else if text.ends_with('\n') {
        ""
    } else {
        "-"
    };
    let pad = " ".repeat(indent + 2);
    let body = text.strip_suffix('\n').unwrap_or(text);
    let lines = body.split('\n').map(|line| if line.is_empty() { String::new() } else { format!("{pad}{line}") });
    format!("|{end}\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn prints_as_kubectl_does() {
        let value = json!({
            "data": {"a": "1", "script": "x\ny\n"}, "list": [{"b": true, "a": "k: v"}, "t"],
            "fieldsV1": {"f:data": {".": {}, "k:{\"name\":\"c\"}": {}}}, "time": "2024-01-01T00:00:00Z", "none": [],
        });
        let wanted = "data:\n  a: \"1\"\n  script: |\n    x\n    y\nfieldsV1:\n  f:data:\n    .: {}\n    \
                      k:{\"name\":\"c\"}: {}\nlist:\n- a: 'k: v'\n  b: true\n- t\nnone: []\ntime: \
                      \"2024-01-01T00:00:00Z\"\n";
        assert_eq!(print(&value), wanted);
    }

    #[test]
    fn repeated_keys_are_told_and_the_last_wins() {
        let found = parse(b"a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(found.value, json!({"a": 3, "b": 2}));
        assert_eq!(found.repeated.as_deref(), Some("yaml: unmarshal errors:\n  line 3: key \"a\" already set in map"));
        assert_eq!(parse(b"a: [").err().as_deref(), Some("yaml: line 1: did not find expected node content"));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(texts in prop::collection::vec("[ -~\n]{0,12}", 1..4)) {
            let value = json!({"list": texts, "map": {"k": texts[0]}});
            prop_assert_eq!(parse(print(&value).as_bytes()).unwrap().value, value);
        }
    }
}
