//! Who owns what after a write.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::facts::decode;
use crate::facts::normal::zero_struct;
use crate::registry;

fn object(value: Value) -> Object {
    let table = registry::find("configmaps").unwrap().table;
    decode::from_value(table, value).unwrap().object
}

fn owned(object: &Object) -> Vec<(String, Value)> {
    let list = object["metadata"].get("managedFields").and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().map(|e| (text(e.as_object().unwrap(), "manager").to_owned(), e["fieldsV1"].clone())).collect()
}

fn write(old: Option<&Object>, new: Value, manager: &str) -> Object {
    let resource = registry::find("configmaps").unwrap();
    let zero = zero_struct(resource.table);
    let mut new = object(new);
    on_update(resource, old.unwrap_or(&zero), &mut new, manager, "", Timestamp::UNIX_EPOCH);
    new
}

#[test]
fn a_manager_owns_what_it_changed_and_loses_what_another_changes() {
    let first = write(None, json!({"metadata": {"name": "a", "uid": "u"}, "data": {"k": "1", "l": "1"}}), "one");
    assert_eq!(owned(&first), [("one".into(), json!({"f:data": {".": {}, "f:k": {}, "f:l": {}}}))]);
    let second =
        write(Some(&first), json!({"metadata": {"name": "a", "uid": "u"}, "data": {"k": "2", "l": "1"}}), "two");
    assert_eq!(
        owned(&second),
        [("one".into(), json!({"f:data": {".": {}, "f:l": {}}})), ("two".into(), json!({"f:data": {"f:k": {}}}))]
    );
    let third = write(Some(&second), json!({"metadata": {"name": "a", "uid": "u"}, "data": {"k": "2"}}), "two");
    assert_eq!(owned(&third)[0], ("one".into(), json!({"f:data": {}})));
    let same = write(Some(&third), json!({"metadata": {"name": "a", "uid": "u"}, "data": {"k": "2"}}), "three");
    assert_eq!(same, third);
}

#[test]
fn an_object_that_is_not_tracked_stays_so() {
    let untracked = object(json!({"metadata": {"name": "a", "uid": "u"}}));
    let changed = write(Some(&untracked), json!({"metadata": {"name": "a", "uid": "u"}, "data": {"k": "1"}}), "one");
    assert!(owned(&changed).is_empty());
}

fn any_set() -> impl Strategy<Value = Value> {
    let leaf = Just(json!({}));
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop::collection::btree_map(prop_oneof!["f:[a-c]", Just(".".to_owned())], inner, 1..3).prop_map(|mut map| {
            if let Some(dot) = map.get_mut(".") {
                *dot = json!({});
            }
            if map.len() == 1 {
                map.remove(".");
            }
            Value::Object(map.into_iter().collect())
        })
    })
}

proptest! {
    #[test]
    fn sets_come_back_and_subtracting_undoes_a_union(a in any_set(), b in any_set()) {
        prop_assert_eq!(Set::parse(&a).to_value(), a.clone());
        let mut union = Set::parse(&a);
        union.union(&Set::parse(&b));
        let mut rest = union.clone();
        rest.subtract(&Set::parse(&a));
        rest.union(&Set::parse(&a));
        prop_assert_eq!(rest, union);
    }
}
