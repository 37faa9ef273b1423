//! Defaults of a pod's spec, as Kubernetes' versioned defaulting sets them (recording `kinds`, rich pods).
//!
//! Invariant: applying twice changes nothing; a template gets the same but for what only pods get.

use serde_json::{Map, Value, json};

use super::pod::spec_of;
use crate::storage::Object;

fn put(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    if map.get(name).is_none_or(Value::is_null) {
        map.insert(name.to_owned(), value.into());
    }
}

fn objects<'a>(map: &'a mut Map<String, Value>, list: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn inner<'a>(map: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(name).and_then(Value::as_object_mut)
}

/// `Always` when the tag is `latest` or absent and there is no digest.
pub fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.rsplit_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn field_ref(holder: &mut Map<String, Value>) {
    if let Some(reference) = inner(holder, "fieldRef") {
        put(reference, "apiVersion", "v1");
    }
    if let Some(reference) = inner(holder, "resourceFieldRef") {
        put(reference, "divisor", "0");
    }
}

fn http_get(holder: &mut Map<String, Value>) {
    if let Some(get) = inner(holder, "httpGet") {
        if get.get("path").and_then(Value::as_str).unwrap_or_default().is_empty() {
            get.insert("path".into(), "/".into());
        }
        put(get, "scheme", "HTTP");
    }
}

fn probe(container: &mut Map<String, Value>, name: &str) {
    let Some(probe) = inner(container, name) else { return };
    http_get(probe);
    if let Some(grpc) = inner(probe, "grpc") {
        put(grpc, "service", "");
    }
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        put(probe, field, value);
    }
}

fn requests(container: &mut Map<String, Value>) {
    let Some(resources) = inner(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if let Value::Object(requests) = resources.entry("requests").or_insert_with(|| json!({})) {
        for (name, amount) in limits {
            requests.entry(name).or_insert(amount);
        }
        if requests.is_empty() {
            resources.remove("requests");
        }
    }
}

fn container(container: &mut Map<String, Value>, host_network: bool) {
    put(container, "terminationMessagePath", "/dev/termination-log");
    put(container, "terminationMessagePolicy", "File");
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default().to_owned();
    put(container, "imagePullPolicy", pull_policy(&image));
    for port in objects(container, "ports") {
        put(port, "protocol", "TCP");
        if host_network && let Some(number) = port.get("containerPort").cloned() {
            put(port, "hostPort", number);
        }
    }
    for env in objects(container, "env") {
        if let Some(from) = inner(env, "valueFrom") {
            field_ref(from);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probe(container, name);
    }
    for hook in ["postStart", "preStop"] {
        if let Some(hook) = inner(container, "lifecycle").and_then(|l| inner(l, hook)) {
            http_get(hook);
        }
    }
    requests(container);
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.keys().all(|k| k == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    if let Some(path) = inner(volume, "hostPath") {
        put(path, "type", "");
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = inner(volume, kind) {
            put(source, "defaultMode", 420);
            for item in objects(source, "items") {
                field_ref(item);
            }
            for part in objects(source, "sources") {
                if let Some(token) = inner(part, "serviceAccountToken") {
                    put(token, "expirationSeconds", 3600);
                }
                if let Some(downward) = inner(part, "downwardAPI") {
                    objects(downward, "items").for_each(field_ref);
                }
            }
        }
    }
    if let Some(iscsi) = inner(volume, "iscsi") {
        put(iscsi, "iscsiInterface", "default");
    }
    if let Some(image) = inner(volume, "image") {
        let reference = image.get("reference").and_then(Value::as_str).unwrap_or_default().to_owned();
        put(image, "pullPolicy", pull_policy(&reference));
    }
    let claim = inner(volume, "ephemeral").and_then(|e| inner(e, "volumeClaimTemplate")).and_then(|t| inner(t, "spec"));
    if let Some(claim) = claim {
        put(claim, "volumeMode", "Filesystem");
    }
}

/// Fills in a pod's defaults.
pub fn apply(object: &mut Object) {
    let spec = spec_of(object);
    for (name, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
    ] {
        if spec.get(name).and_then(Value::as_str) == Some("") {
            spec.remove(name);
        }
        put(spec, name, value);
    }
    if let Some(account) = spec.get("serviceAccountName").or_else(|| spec.get("serviceAccount")).cloned() {
        put(spec, "serviceAccountName", account.clone());
        spec.insert("serviceAccount".into(), account);
    }
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        objects(spec, list).for_each(|c| container(c, host_network));
    }
    objects(spec, "volumes").for_each(volume);
}
