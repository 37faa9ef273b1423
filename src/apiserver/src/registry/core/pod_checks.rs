//! Checks of a pod's spec (recording `errors`): names, images, ports, mounts, probes, resources, volumes, policies.
//!
//! Invariant: pure; texts are Kubernetes' own.

use serde_json::{Value, json};

use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::storage::Object;
use crate::validation;

fn string<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn one_of(value: &Value, name: &str, field: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    let text = string(value, name);
    if !allowed.contains(&text) {
        errors.push(FieldError::unsupported(format!("{field}.{name}"), &text.into(), allowed));
    }
}

fn ports(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let mut names: Vec<&str> = Vec::new();
    for (at, port) in list(container, "ports").iter().enumerate() {
        let field = format!("{field}.ports[{at}]");
        let name = string(port, "name");
        if !name.is_empty() {
            if names.contains(&name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), &name.into()));
            }
            names.push(name);
        }
        let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or(0);
        if number == 0 {
            errors.push(FieldError::required(format!("{field}.containerPort"), ""));
        } else if !(1..=65535).contains(&number) {
            let text = "must be between 1 and 65535, inclusive";
            errors.push(FieldError::invalid(format!("{field}.containerPort"), &number.into(), text));
        }
        one_of(port, "protocol", &field, &["SCTP", "TCP", "UDP"], errors);
    }
}

fn environment(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (at, env) in list(container, "env").iter().enumerate() {
        let field = format!("{field}.env[{at}]");
        if string(env, "name").is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        }
        if let Some(from) = env.get("valueFrom") {
            let sources = from.as_object().map_or(0, |f| f.len());
            if sources == 0 {
                let text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or \
                            `fileKeyRef`";
                errors.push(FieldError::invalid(format!("{field}.valueFrom"), &"".into(), text));
            } else if !string(env, "value").is_empty() {
                let text = "may not be specified when `value` is not empty";
                errors.push(FieldError::invalid(format!("{field}.valueFrom"), &"".into(), text));
            }
        }
    }
}

fn mounts(container: &Value, volumes: &[&str], field: &str, errors: &mut Vec<FieldError>) {
    let mut paths: Vec<&str> = Vec::new();
    for (at, mount) in list(container, "volumeMounts").iter().enumerate() {
        let field = format!("{field}.volumeMounts[{at}]");
        let name = string(mount, "name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else if !volumes.contains(&name) {
            errors.push(FieldError::not_found(format!("{field}.name"), &name.into()));
        }
        let path = string(mount, "mountPath");
        if path.is_empty() {
            errors.push(FieldError::required(format!("{field}.mountPath"), ""));
        } else if paths.contains(&path) {
            let text = "must be unique";
            errors.push(FieldError::invalid(format!("{field}.mountPath"), &path.into(), text));
        }
        paths.push(path);
        let sub = string(mount, "subPath");
        if sub.starts_with('/') {
            errors.push(FieldError::invalid(format!("{field}.subPath"), &sub.into(), "must be a relative path"));
        }
        if sub.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(format!("{field}.subPath"), &sub.into(), "must not contain '..'"));
        }
    }
}

fn probe(container: &Value, name: &str, field: &str, errors: &mut Vec<FieldError>) {
    let Some(probe) = container.get(name) else { return };
    let field = format!("{field}.{name}");
    let handlers = ["exec", "httpGet", "tcpSocket", "grpc"].iter().filter(|h| probe.get(**h).is_some()).count();
    if handlers == 0 {
        errors.push(FieldError::required(field.clone(), "must specify a handler type"));
    }
    for number in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        let value = probe.get(number).and_then(Value::as_i64).unwrap_or(0);
        if value < 0 {
            let text = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(format!("{field}.{number}"), &value.into(), text));
        }
    }
}

fn resources(container: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let Some(resources) = container.get("resources") else { return };
    let amount = |kind: &str, name: &str| {
        let text = resources.get(kind).and_then(|k| k.get(name)).and_then(Value::as_str)?;
        Quantity::parse(text).ok().map(|q| (q.nano(), text.to_owned()))
    };
    for kind in ["limits", "requests"] {
        for name in resources.get(kind).and_then(Value::as_object).into_iter().flatten().map(|(k, _)| k) {
            if let Some((nano, text)) = amount(kind, name)
                && nano < 0
            {
                let problem = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(format!("{field}.resources.{kind}[{name}]"), &text.into(), problem));
            }
        }
    }
    for name in resources.get("requests").and_then(Value::as_object).into_iter().flatten().map(|(k, _)| k) {
        if let (Some((request, shown)), Some((limit, limit_text))) = (amount("requests", name), amount("limits", name))
            && request > limit
        {
            let text = format!("must be less than or equal to {name} limit of {limit_text}");
            errors.push(FieldError::invalid(format!("{field}.resources.requests"), &shown.into(), &text));
        }
    }
}

fn container(
    container: &Value,
    volumes: &[&str],
    field: &str,
    late: &mut Vec<FieldError>,
    errors: &mut Vec<FieldError>,
) {
    let name = string(container, "name");
    if name.is_empty() {
        errors.push(FieldError::required(format!("{field}.name"), ""));
    } else {
        for problem in validation::label(name) {
            errors.push(FieldError::invalid(format!("{field}.name"), &name.into(), &problem));
        }
    }
    let image = string(container, "image");
    if image.is_empty() {
        errors.push(FieldError::required(format!("{field}.image"), ""));
    } else if image.trim() != image {
        let text = "must not have leading or trailing whitespace";
        late.push(FieldError::invalid(format!("{field}.image"), &image.into(), text));
    }
    ports(container, field, errors);
    environment(container, field, errors);
    mounts(container, volumes, field, errors);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probe(container, name, field, errors);
    }
    one_of(container, "imagePullPolicy", field, &["Always", "IfNotPresent", "Never"], errors);
    resources(container, field, errors);
}

fn volumes(spec: &Value, errors: &mut Vec<FieldError>) {
    let mut names: Vec<&str> = Vec::new();
    for (at, volume) in list(spec, "volumes").iter().enumerate() {
        let field = format!("spec.volumes[{at}]");
        let sources: Vec<&String> =
            volume.as_object().into_iter().flatten().map(|(k, _)| k).filter(|k| *k != "name").collect();
        let mut ordered = sources.clone();
        ordered.sort_by_key(|name| source_order(name));
        for extra in ordered.iter().skip(1) {
            let text = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(format!("{field}.{extra}"), text));
        }
        let name = string(volume, "name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else {
            for problem in validation::label(name) {
                errors.push(FieldError::invalid(format!("{field}.name"), &name.into(), &problem));
            }
            if names.contains(&name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), &name.into()));
            }
        }
        names.push(name);
        if volume.get("hostPath").is_some_and(|h| string(h, "path").is_empty()) {
            errors.push(FieldError::required(format!("{field}.hostPath.path"), ""));
        }
        if volume.get("secret").is_some_and(|s| string(s, "secretName").is_empty()) {
            errors.push(FieldError::required(format!("{field}.secret.secretName"), ""));
        }
        if volume.get("configMap").is_some_and(|s| string(s, "name").is_empty()) {
            errors.push(FieldError::required(format!("{field}.configMap.name"), ""));
        }
    }
}

fn source_order(name: &str) -> usize {
    const ORDER: [&str; 3] = ["emptyDir", "hostPath", "gitRepo"];
    ORDER.iter().position(|n| *n == name).unwrap_or(ORDER.len())
}

/// Checks a pod.
pub fn check(object: &Object, errors: &mut Vec<FieldError>) {
    let nothing = json!({});
    let spec = object.get("spec").unwrap_or(&nothing);
    let mut late = Vec::new();
    volumes(spec, errors);
    let names: Vec<&str> = list(spec, "volumes").iter().map(|v| string(v, "name")).collect();
    if list(spec, "containers").is_empty() {
        errors.push(FieldError::required("spec.containers", ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for (at, found) in list(spec, kind).iter().enumerate() {
            let field = format!("spec.{kind}[{at}]");
            container(found, &names, &field, &mut late, errors);
            let name = string(found, "name");
            if !name.is_empty() && seen.contains(&name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), &name.into()));
            }
            seen.push(name);
        }
    }
    one_of(spec, "restartPolicy", "spec", &["Always", "OnFailure", "Never"], errors);
    one_of(spec, "dnsPolicy", "spec", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], errors);
    if let Some(deadline) = spec.get("activeDeadlineSeconds").and_then(Value::as_i64)
        && !(1..=i64::from(i32::MAX)).contains(&deadline)
    {
        let text = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid("spec.activeDeadlineSeconds", &deadline.into(), text));
    }
    validation::labels(spec.get("nodeSelector"), "spec.nodeSelector", errors);
    errors.append(&mut late);
}
