//! The `filter` parameter. Source: KFP `filter.proto`; names in snake_case or camelCase, operations by name or number.

use foundation::problem::Problem;
use serde_json::{Map, Value};

use crate::operations::listing::{Field, Operation, Predicate};

/// More conditions than a person writes.
const PREDICATES_MAX: usize = 64;

/// Reads a filter.
///
/// # Errors
/// When it is no filter.
pub(super) fn parse(text: &str) -> Result<Vec<Predicate>, Problem> {
    let bad = |cause: &str| Problem::invalid(format!("Invalid input error: the filter is not valid: {cause}"));
    let value: Value = serde_json::from_str(text).map_err(|error| bad(&error.to_string()))?;
    let list = match value.get("predicates") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= PREDICATES_MAX => list,
        Some(_) => return Err(bad("predicates must be a list of at most 64")),
    };
    list.iter()
        .map(|one| predicate(one.as_object().ok_or("a predicate must be an object")?))
        .collect::<Result<_, _>>()
        .map_err(bad)
}

fn predicate(map: &Map<String, Value>) -> Result<Predicate, &'static str> {
    let operation = operation(map.get("operation").or_else(|| map.get("op")).ok_or("a predicate has no operation")?)?;
    let key = map.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut values = None;
    for (name, value) in map {
        let found = match name.as_str() {
            "operation" | "op" | "key" => continue,
            "int_value" | "intValue" | "long_value" | "longValue" => (false, vec![number(value)?]),
            "string_value" | "stringValue" => (false, vec![text(value)?]),
            "timestamp_value" | "timestampValue" => (false, vec![time(value)?]),
            "int_values" | "intValues" | "long_values" | "longValues" => (true, list(value, number)?),
            "string_values" | "stringValues" => (true, list(value, text)?),
            _ => return Err("a predicate has an unknown field"),
        };
        if values.replace(found).is_some() {
            return Err("a predicate has more than one value");
        }
    }
    let (is_list, values) = values.ok_or("a predicate has no value")?;
    if is_list != (operation == Operation::In) {
        return Err("IN takes a list, everything else a single value");
    }
    if operation == Operation::IsSubstring && !matches!(values.as_slice(), [Field::Text(_)]) {
        return Err("IS_SUBSTRING takes a string_value");
    }
    Ok(Predicate { operation, key, values })
}

fn operation(value: &Value) -> Result<Operation, &'static str> {
    let name = value.as_str().unwrap_or_default();
    let number = value.as_u64().or_else(|| name.parse().ok()).unwrap_or_default();
    Ok(match (name, number) {
        ("EQUALS", _) | (_, 1) => Operation::Equals,
        ("NOT_EQUALS", _) | (_, 2) => Operation::NotEquals,
        ("GREATER_THAN", _) | (_, 3) => Operation::GreaterThan,
        ("GREATER_THAN_EQUALS", _) | (_, 5) => Operation::GreaterThanEquals,
        ("LESS_THAN", _) | (_, 6) => Operation::LessThan,
        ("LESS_THAN_EQUALS", _) | (_, 7) => Operation::LessThanEquals,
        ("IN", _) | (_, 8) => Operation::In,
        ("IS_SUBSTRING", _) | (_, 9) => Operation::IsSubstring,
        _ => return Err("a predicate has an unknown operation"),
    })
}

fn number(value: &Value) -> Result<Field, &'static str> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    number.map(Field::Number).ok_or("a number is not a number")
}

fn text(value: &Value) -> Result<Field, &'static str> {
    value.as_str().map(|text| Field::Text(text.to_owned())).ok_or("a string is not a string")
}

fn time(value: &Value) -> Result<Field, &'static str> {
    value.as_str().and_then(|text| text.parse().ok()).map(Field::Time).ok_or("a timestamp is not RFC 3339")
}

fn list(value: &Value, one: fn(&Value) -> Result<Field, &'static str>) -> Result<Vec<Field>, &'static str> {
    let values = value.get("values").and_then(Value::as_array).ok_or("a list value has no values")?;
    values.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sdk_sends_is_read() {
        let one = parse(r#"{"predicates": [{"operation": 1, "key": "display_name", "stringValue": "E"}]}"#)
            .expect("a filter");
        let expected = Predicate {
            operation: Operation::Equals,
            key: "display_name".to_owned(),
            values: vec![Field::Text("E".to_owned())],
        };
        assert_eq!(one, [expected]);
        let many =
            r#"{"predicates":[{"operation":"IN","key":"state","string_values":{"values":["FAILED","RUNNING"]}}]}"#;
        assert_eq!(parse(many).expect("a filter")[0].values.len(), 2);
        assert_eq!(parse("{}").expect("an empty filter"), []);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for bad in [
            "",
            "[",
            r#"{"predicates": [{"key": "a", "stringValue": "b"}]}"#,
            r#"{"predicates": [{"operation": 8, "key": "a", "stringValue": "b"}]}"#,
            r#"{"predicates": [{"operation": 1, "key": "a", "string_values": {"values": []}}]}"#,
            r#"{"predicates": [{"operation": 4, "key": "a", "stringValue": "b"}]}"#,
            r#"{"predicates": [{"operation": 1, "key": "a", "stringValue": "b", "intValue": 1}]}"#,
            r#"{"predicates": [{"operation": 9, "key": "a", "intValue": 1}]}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
