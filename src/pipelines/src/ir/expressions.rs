//! CEL: conditions of tasks and selectors of parameters.
//!
//! Numbers of `inputs.parameter_values` are doubles, as in KFP's driver, where they come out of a protobuf Value; the
//! compiler writes `int(…)` around what was declared an integer.

use std::collections::HashMap;
use std::sync::Arc;

use cel::cel::{Context, Program, Value as Cel};
use serde_json::{Map, Value, json};

/// Why an expression gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not CEL.
    #[error("{expression:?} is not a valid expression: {cause}")]
    Syntax {
        /// The expression.
        expression: String,
        /// What the parser says.
        cause: String,
    },
    /// It failed on these inputs.
    #[error("{expression:?} failed: {cause}")]
    Evaluation {
        /// The expression.
        expression: String,
        /// What the evaluator says.
        cause: String,
    },
    /// A condition that is neither true nor false.
    #[error("{expression:?} is not true or false but {value}")]
    NotBoolean {
        /// The expression.
        expression: String,
        /// What it is.
        value: String,
    },
}

/// Evaluates the condition of a task over its resolved inputs. `artifacts` is the ExecutorInput's `inputs.artifacts`.
///
/// # Errors
/// When it is not CEL, fails, or gives something other than true or false.
pub fn condition(expression: &str, parameters: &Map<String, Value>, artifacts: &Value) -> Result<bool, Error> {
    let mut context = Context::default();
    add_functions(&mut context);
    let inputs = json!({"parameter_values": parameters, "artifacts": artifacts});
    context.add_variable_from_value("inputs", to_cel(&inputs));
    match run(expression, &context)? {
        Cel::Bool(answer) => Ok(answer),
        other => Err(Error::NotBoolean { expression: expression.to_owned(), value: from_cel(&other).to_string() }),
    }
}

/// Takes a part of a parameter: `parseJson(string_value)["key"]`. The variables are the fields of a protobuf Value;
/// `string_value` always holds the value as text.
///
/// # Errors
/// When it is not CEL or fails.
pub fn select(expression: &str, value: &Value) -> Result<Value, Error> {
    let mut context = Context::default();
    add_functions(&mut context);
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    context.add_variable_from_value("string_value", Cel::from(text));
    let field = match value {
        Value::Number(_) => Some("number_value"),
        Value::Bool(_) => Some("bool_value"),
        Value::Array(_) => Some("list_value"),
        Value::Object(_) => Some("struct_value"),
        Value::String(_) | Value::Null => None,
    };
    if let Some(field) = field {
        context.add_variable_from_value(field, to_cel(value));
    }
    run(expression, &context).map(|value| super::whole_numbers(from_cel(&value)))
}

fn add_functions(context: &mut Context<'_>) {
    context.add_function("parseJson", |text: Arc<String>| -> Result<Cel, cel::cel::ExecutionError> {
        serde_json::from_str::<Value>(&text)
            .map(|value| to_cel(&value))
            .map_err(|error| cel::cel::ExecutionError::function_error("parseJson", error.to_string()))
    });
}

fn run(expression: &str, context: &Context<'_>) -> Result<Cel, Error> {
    // The parser is generated code that has been seen to panic on odd input; a document must not end the engine.
    let program = std::panic::catch_unwind(|| Program::compile(expression).map_err(|error| error.to_string()))
        .unwrap_or_else(|_| Err("the parser gave up".to_owned()))
        .map_err(|cause| Error::Syntax { expression: expression.to_owned(), cause: one_line(&cause) })?;
    program
        .execute(context)
        .map_err(|error| Error::Evaluation { expression: expression.to_owned(), cause: one_line(&error.to_string()) })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let map: HashMap<String, Cel> = map.iter().map(|(key, value)| (key.clone(), to_cel(value))).collect();
            map.into()
        }
    }
}

fn from_cel(value: &Cel) -> Value {
    match value {
        Cel::Null | Cel::Function(..) | Cel::Opaque(_) => Value::Null,
        Cel::Bool(flag) => Value::from(*flag),
        Cel::Int(number) => Value::from(*number),
        Cel::UInt(number) => Value::from(*number),
        Cel::Float(number) => Value::from(*number),
        Cel::String(text) => Value::from(text.as_str()),
        Cel::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes).into_owned()),
        Cel::List(items) => Value::Array(items.iter().map(from_cel).collect()),
        Cel::Map(map) => Value::Object(map.map.iter().map(|(key, value)| (key_text(key), from_cel(value))).collect()),
        other => Value::from(format!("{other:?}")),
    }
}

fn key_text(key: &cel::cel::objects::Key) -> String {
    use cel::cel::objects::Key;
    match key {
        Key::Int(number) => number.to_string(),
        Key::Uint(number) => number.to_string(),
        Key::Bool(flag) => flag.to_string(),
        Key::String(text) => text.to_string(),
    }
}

#[cfg(test)]
mod tests;
