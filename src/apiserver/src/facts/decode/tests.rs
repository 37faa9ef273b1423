//! Decoding against the tables, with the texts a real API server answers.

use serde_json::json;

use super::*;

fn check(kind: &str, body: Value) -> Result<Decoded, Error> {
    from_slice(facts().named(kind).unwrap(), body.to_string().as_bytes())
}

#[test]
fn wrong_types_are_named_as_go_names_them() {
    for (kind, body, text) in [
        (
            "ConfigMap",
            json!({"data": {"a": 1}}),
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            "Pod",
            json!({"spec": {"containers": "x"}}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "Pod",
            json!({"spec": {"containers": [{"ports": [{"containerPort": "http"}]}]}}),
            "json: cannot unmarshal string into Go struct field \
             ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        ("Secret", json!({"data": {"a": "%%"}}), "illegal base64 data at input byte 0"),
    ] {
        assert_eq!(check(kind, body).unwrap_err().to_string(), text);
    }
}

#[test]
fn unknown_and_duplicate_fields_are_collected() {
    let found = check("ConfigMap", json!({"metadata": {"nope": 2}, "bogus": 1})).unwrap();
    assert_eq!(found.strict, ["unknown field \"bogus\"", "unknown field \"metadata.nope\""]);
    let twice = br#"{"data":{"a":"1","a":"2"},"data":{}}"#;
    let found = from_slice(facts().named("ConfigMap").unwrap(), twice).unwrap();
    assert_eq!(found.strict, ["duplicate field \"data.a\"", "duplicate field \"data\""]);
}

#[test]
fn values_come_out_as_go_writes_them() {
    let pod = check("Pod", json!({"spec": {"containers": [{"name": "c", "env": [], "tty": false}]}})).unwrap().object;
    assert_eq!(
        Value::Object(pod),
        json!({
            "metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}, "status": {},
        })
    );
    let event = check("Event", json!({})).unwrap().object;
    assert_eq!(
        Value::Object(event),
        json!({
            "metadata": {}, "involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null,
            "eventTime": null, "reportingComponent": "", "reportingInstance": "",
        })
    );
}
