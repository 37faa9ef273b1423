//! Numbers as `google.protobuf.Struct` has them.

use serde_json::Value;

/// Numbers of a `google.protobuf.Struct` are doubles; whole ones are shown and compared as integers.
pub fn whole_numbers(value: Value) -> Value {
    /// Beyond this a double no longer tells neighbouring integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() <= EXACT => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(whole_numbers).collect()),
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, whole_numbers(value))).collect()),
        other => other,
    }
}
