//! Every form of condition that the SDK's compiler writes, and its two bugs.

use super::*;

fn check(expression: &str, expected: bool) {
    let parameters = json!({"n": 5.0, "i": 5, "f": 0.5, "s": "text", "b": true, "l": [1, 2], "t": "5"});
    let artifacts = json!({"m": {"artifacts": [{"metadata": {"accuracy": 0.97}}]}});
    let parameters = parameters.as_object().expect("an object").clone();
    assert_eq!(condition(expression, &parameters, &artifacts), Ok(expected), "{expression}");
}

#[test]
fn all_forms_of_the_compiler_are_understood() {
    check("int(inputs.parameter_values['n']) > 3", true);
    check("int(inputs.parameter_values['i']) == 5", true);
    check("inputs.parameter_values['f'] > double(1)", false);
    check("double(int(inputs.parameter_values['n'])) == inputs.parameter_values['f']", false);
    check("inputs.parameter_values['s'] == 'text'", true);
    check("inputs.parameter_values['t'] == '5'", true);
    check("inputs.parameter_values['b'] == true", true);
    check("!(inputs.parameter_values['b'] == true)", false);
    check("!(int(inputs.parameter_values['n']) > 8) && int(inputs.parameter_values['n']) >= 5", true);
    check("inputs.parameter_values['s'] != 'a' && !(inputs.parameter_values['f'] <= 0.1)", true);
}

#[test]
fn conditions_written_by_hand_may_look_at_artifacts() {
    check("inputs.artifacts['m'].artifacts[0].metadata['accuracy'] >= 0.9", true);
    check("size(inputs.parameter_values['l']) == 2", true);
}

#[test]
fn what_the_compiler_gets_wrong_fails_with_its_text() {
    let broken = "inputs.parameter_values['s'] == 'int(inputs.parameter_values['n'])'";
    let error = condition(broken, &Map::new(), &Value::Null).expect_err("not CEL");
    assert!(matches!(error, Error::Syntax { .. }), "{error}");
    let error = condition("1 + 1", &Map::new(), &Value::Null).expect_err("a number");
    assert!(matches!(error, Error::NotBoolean { .. }), "{error}");
    let error = condition("inputs.parameter_values['x'] > 1.0", &Map::new(), &Value::Null).expect_err("no such input");
    assert!(matches!(error, Error::Evaluation { .. }), "{error}");
}

#[test]
fn selectors_see_the_value_as_text_and_by_its_type() {
    let item = json!({"a": 1, "b": [2, 3]});
    assert_eq!(select("parseJson(string_value)[\"a\"]", &item), Ok(json!(1)));
    assert_eq!(select("struct_value['b']", &item), Ok(json!([2, 3])));
    assert_eq!(select("parseJson(string_value)[\"a\"]", &json!("{\"a\": \"x\"}")), Ok(json!("x")));
    assert!(select("parseJson(string_value)[\"missing\"]", &item).is_err());
}
