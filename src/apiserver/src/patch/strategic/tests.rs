//! Strategic merge with every directive.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn check(target: Value, patch: Value) -> Result<Value, Failed> {
    let (Value::Object(mut target), Value::Object(patch)) = (target, patch) else { unreachable!() };
    apply(facts().named("Pod").unwrap(), &mut target, patch)?;
    Ok(Value::Object(target))
}

fn spec(spec: Value) -> Value {
    json!({"spec": spec})
}

fn names(value: &Value) -> Vec<&str> {
    value["spec"]["containers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
}

#[test]
fn lists_merge_by_their_key_and_new_elements_go_first() {
    let base = spec(json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}));
    let merged = check(base.clone(), spec(json!({"containers": [{"name": "b", "image": "3"}]}))).unwrap();
    assert_eq!(merged["spec"]["containers"][1], json!({"name": "b", "image": "3"}));
    let merged = check(base.clone(), spec(json!({"containers": [{"name": "c", "image": "9"}]}))).unwrap();
    assert_eq!(names(&merged), ["c", "a", "b"]);
    let order = json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "7"}]});
    assert_eq!(names(&check(base.clone(), spec(order)).unwrap()), ["b", "a"]);
    let gone = json!({"containers": [{"name": "a", "$patch": "delete"}]});
    assert_eq!(names(&check(base.clone(), spec(gone)).unwrap()), ["b"]);
    let replaced = json!({"containers": [{"$patch": "replace"}, {"name": "only"}]});
    assert_eq!(names(&check(base.clone(), spec(replaced)).unwrap()), ["only"]);
    let no_key = check(base, spec(json!({"containers": [{"image": "x"}]}))).unwrap_err();
    assert_eq!(no_key.to_string(), "map: map[image:x] does not contain declared merge key: name");
}

#[test]
fn maps_and_primitives_know_their_directives() {
    let base = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x/a", "x/b"]}});
    let merged = check(base.clone(), json!({"metadata": {"labels": {"$retainKeys": ["a"], "a": "3"}}})).unwrap();
    assert_eq!(merged["metadata"]["labels"], json!({"a": "3"}));
    let merged = check(base.clone(), json!({"metadata": {"labels": {"$patch": "replace", "c": "1"}}})).unwrap();
    assert_eq!(merged["metadata"]["labels"], json!({"c": "1"}));
    let merged = check(base.clone(), json!({"metadata": {"labels": {"$patch": "delete"}}})).unwrap();
    assert_eq!(merged["metadata"].get("labels"), None);
    let merged = check(base.clone(), json!({"metadata": {"finalizers": ["x/c"]}})).unwrap();
    assert_eq!(merged["metadata"]["finalizers"], json!(["x/c", "x/a", "x/b"]));
    let gone = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"]}});
    assert_eq!(check(base, gone).unwrap()["metadata"]["finalizers"], json!(["x/b"]));
}

#[test]
fn lists_without_a_key_are_replaced() {
    let base = spec(json!({"tolerations": [{"key": "a"}], "containers": [{"name": "c", "args": ["a", "b"]}]}));
    let patch = spec(json!({"tolerations": [{"key": "b"}], "containers": [{"name": "c", "args": ["z"]}]}));
    let merged = check(base, patch.clone()).unwrap();
    assert_eq!(merged, patch);
}

fn any_containers() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::btree_map("[a-f]", "[x-z]", 1..5)
        .prop_map(|map| map.into_iter().map(|(name, image)| json!({"name": name, "image": image})).collect::<Vec<_>>())
        .prop_shuffle()
}

proptest! {
    #[test]
    fn merging_twice_is_merging_once_and_unnamed_elements_keep_their_order(a in any_containers(), b in any_containers()) {
        let (target, patch) = (spec(json!({"containers": a})), spec(json!({"containers": b})));
        let once = check(target, patch.clone()).unwrap();
        prop_assert_eq!(&check(once.clone(), patch).unwrap(), &once);
        let named: Vec<&str> = b.iter().map(|c| c["name"].as_str().unwrap()).collect();
        let before: Vec<&str> = a.iter().map(|c| c["name"].as_str().unwrap()).filter(|n| !named.contains(n)).collect();
        let after: Vec<&str> = names(&once).into_iter().filter(|n| !named.contains(n)).collect();
        prop_assert_eq!(before, after);
    }
}
