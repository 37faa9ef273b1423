//! A container's environment: `envFrom`, `env` with `valueFrom`, `$(NAME)` expansion. Called when a container is launched.

use crate::limits;
use crate::sources::{Lookup, Missing};
use k8s_openapi::api::core::v1::{Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;

/// Facts about the node and the pod that the downward API shows.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The node's address (pods share it).
    pub host_ip: &'a str,
    /// The node's cores, shown where a container has no limit.
    pub cores: f64,
    /// The node's memory, bytes, likewise.
    pub memory_bytes: f64,
}

/// The environment that the spec asks for, in order, later ones winning.
pub async fn resolve(
    container: &Container,
    facts: &Facts<'_>,
    lookup: &Lookup,
) -> Result<Vec<(String, String)>, Missing> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut set = |known: &mut BTreeMap<String, String>, name: String, value: String| {
        if known.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let data = if let Some(source) = &from.config_map_ref {
            lookup.config_map(&source.name, source.optional.unwrap_or(false)).await?.map(|data| data.texts())
        } else if let Some(source) = &from.secret_ref {
            lookup.secret(&source.name, source.optional.unwrap_or(false)).await?.map(|data| data.texts())
        } else {
            None
        };
        for (key, value) in data.unwrap_or_default() {
            set(&mut known, format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => from_source(source, container, facts, lookup).await?,
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &known)),
        };
        if let Some(value) = value {
            set(&mut known, variable.name.clone(), value);
        }
    }
    Ok(order.into_iter().filter_map(|name| known.remove_entry(&name)).collect())
}

async fn from_source(
    source: &EnvVarSource,
    container: &Container,
    facts: &Facts<'_>,
    lookup: &Lookup,
) -> Result<Option<String>, Missing> {
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional.unwrap_or(false);
        let data = lookup.config_map(&selector.name, optional).await?;
        return lookup.key(data.as_ref(), "ConfigMap", &selector.name, &selector.key, optional);
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional.unwrap_or(false);
        let data = lookup.secret(&selector.name, optional).await?;
        return lookup.key(data.as_ref(), "Secret", &selector.name, &selector.key, optional);
    }
    if let Some(selector) = &source.field_ref {
        return field(selector, facts).map(Some).ok_or_else(|| Missing::Field { path: selector.field_path.clone() });
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource(selector, container, facts)
            .map(Some)
            .ok_or_else(|| Missing::Field { path: selector.resource.clone() });
    }
    Ok(Some(String::new()))
}

/// A field of the pod, as the downward API names it.
pub fn field(selector: &ObjectFieldSelector, facts: &Facts<'_>) -> Option<String> {
    let (metadata, spec) = (&facts.pod.metadata, facts.pod.spec.as_ref());
    let path = selector.field_path.as_str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let entries = match map {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => return None,
        };
        return Some(entries.and_then(|entries| entries.get(key)).cloned().unwrap_or_default());
    }
    let lines = |map: Option<&BTreeMap<String, String>>| {
        let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    Some(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        "spec.nodeName" => spec?.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec?.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" | "status.podIP" | "status.podIPs" | "status.hostIPs" => facts.host_ip.to_owned(),
        _ => return None,
    })
}

/// A limit or request in units of the divisor, rounded up.
pub fn resource(selector: &ResourceFieldSelector, container: &Container, facts: &Facts<'_>) -> Option<String> {
    let (kind, name) = selector.resource.split_once('.')?;
    let quantity = match kind {
        "limits" => limits::limit(container, name),
        "requests" => limits::request(container, name),
        _ => return None,
    };
    let whole = match name {
        "cpu" => facts.cores,
        "memory" => facts.memory_bytes,
        _ => 0.0,
    };
    let unset = if kind == "limits" { whole } else { 0.0 };
    let value = quantity.map_or(Some(unset), limits::value)?;
    let divisor = selector.divisor.as_ref().and_then(limits::value).filter(|divisor| *divisor > 0.0).unwrap_or(1.0);
    // The divisor may be a power of ten below one: keep what binary fractions blur from rounding a unit up.
    Some(format!("{:.0}", (value / divisor - 1e-9).ceil()))
}

/// Replaces `$(NAME)` by what is known; an unknown name stays as it is, `$$` stands for `$`.
pub fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        result.push_str(before);
        let after = &after[1..];
        if let Some(tail) = after.strip_prefix('$') {
            result.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known.get(name) {
                Some(value) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

/// Command or arguments with `$(NAME)` replaced.
pub fn expand_all(texts: &[String], env: &[(String, String)]) -> Vec<String> {
    let known: BTreeMap<String, String> = env.iter().cloned().collect();
    texts.iter().map(|text| expand(text, &known)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let known: BTreeMap<String, String> = [("A".to_owned(), "1".to_owned())].into();
        let cases = [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$$$(A)", "$1"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }
}
