//! The second document of a package: what only Kubernetes knows (`platforms.kubernetes`), as changes to a step's pod.
//!
//! Source: KFP `kubernetes_platform.proto`. A field that is not understood is refused by its name, never dropped in silence.

use serde_json::{Map, Value, json};

use super::ParameterSource;

/// Why a step's settings cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field that this version does not know.
    #[error("the platform setting {0:?} is not supported in this version")]
    Unsupported(String),
    /// A field without what it needs.
    #[error("the platform setting {field:?} has no {needs}")]
    Incomplete {
        /// The field.
        field: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// A name that comes from a parameter which has no value.
    #[error("the platform setting {field:?} takes its name from a parameter that has no text")]
    Unresolved {
        /// The field.
        field: &'static str,
    },
}

/// What a step's settings add to its pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Additions {
    /// Variables of the container.
    pub env: Vec<Value>,
    /// Volumes of the pod.
    pub volumes: Vec<Value>,
    /// Mounts of the container.
    pub mounts: Vec<Value>,
    /// Labels of the pod.
    pub labels: Map<String, Value>,
    /// Annotations of the pod.
    pub annotations: Map<String, Value>,
    /// Further fields of the pod's spec.
    pub spec: Map<String, Value>,
    /// `imagePullPolicy` of the container.
    pub pull_policy: Option<String>,
}

/// The settings of an executor in a platform document.
pub fn of_executor<'a>(platform: &'a Value, label: &str) -> Option<&'a Map<String, Value>> {
    platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].get(label)?.as_object()
}

/// Turns settings into additions. `resolve` gives the value of a name that comes from a parameter.
///
/// # Errors
/// When a setting is not supported, incomplete or takes its name from a parameter without a value.
pub fn additions(
    settings: &Map<String, Value>,
    resolve: &impl Fn(&ParameterSource) -> Option<Value>,
) -> Result<Additions, Error> {
    let mut additions = Additions::default();
    for (field, value) in settings {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        match field.as_str() {
            "secretAsEnv" => env(&mut additions, list, resolve, &SECRET)?,
            "configMapAsEnv" => env(&mut additions, list, resolve, &CONFIG_MAP)?,
            "secretAsVolume" => volumes(&mut additions, list, resolve, &SECRET)?,
            "configMapAsVolume" => volumes(&mut additions, list, resolve, &CONFIG_MAP)?,
            "fieldPathAsEnv" => {
                additions.env.extend(list.iter().map(
                    |one| json!({"name": one["name"], "valueFrom": {"fieldRef": {"fieldPath": one["fieldPath"]}}}),
                ));
            }
            "podMetadata" => {
                additions.labels = value["labels"].as_object().cloned().unwrap_or_default();
                additions.annotations = value["annotations"].as_object().cloned().unwrap_or_default();
            }
            "emptyDirMounts" => empty_dirs(&mut additions, list),
            "enabledSharedMemory" => shared_memory(&mut additions, value),
            "imagePullPolicy" => additions.pull_policy = value.as_str().map(str::to_owned),
            "activeDeadlineSeconds" => {
                let seconds = value.as_i64().or_else(|| value.as_str()?.parse().ok());
                additions.spec.extend(seconds.map(|seconds| (field.clone(), json!(seconds))));
            }
            "imagePullSecret" | "nodeAffinity" | "nodeSelector" | "tolerations" if asks_for_nothing(value, resolve) => {
            }
            other => return Err(Error::Unsupported(other.to_owned())),
        }
    }
    Ok(additions)
}

/// Whether all entries of a setting take what they say from optional inputs that got nothing. Source: KFP leaves these out.
fn asks_for_nothing(value: &Value, resolve: &impl Fn(&ParameterSource) -> Option<Value>) -> bool {
    const SOURCES: [&str; 4] = ["secretNameParameter", "nodeAffinityJson", "nodeSelectorJson", "tolerationJson"];
    let entries = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    entries.iter().all(|one| SOURCES.iter().any(|source| one.get(source).is_some_and(|from| is_unset(from, resolve))))
}

/// Whether a parameter that a setting names is an optional input that got nothing.
fn is_unset(parameter: &Value, resolve: &impl Fn(&ParameterSource) -> Option<Value>) -> bool {
    let source = serde_json::from_value::<ParameterSource>(parameter.clone());
    source
        .is_ok_and(|source| source.component_input_parameter.is_some() && resolve(&source).is_none_or(|v| v.is_null()))
}

/// What secrets and config maps have in common.
struct Source {
    env: &'static str,
    volume: &'static str,
    name: &'static str,
    name_parameter: &'static str,
    key: &'static str,
    key_ref: &'static str,
    volume_source: &'static str,
    volume_name: &'static str,
}

const SECRET: Source = Source {
    env: "secretAsEnv",
    volume: "secretAsVolume",
    name: "secretName",
    name_parameter: "secretNameParameter",
    key: "secretKey",
    key_ref: "secretKeyRef",
    volume_source: "secret",
    volume_name: "secretName",
};

const CONFIG_MAP: Source = Source {
    env: "configMapAsEnv",
    volume: "configMapAsVolume",
    name: "configMapName",
    name_parameter: "configMapNameParameter",
    key: "configMapKey",
    key_ref: "configMapKeyRef",
    volume_source: "configMap",
    volume_name: "name",
};

fn name(
    one: &Value,
    source: &Source,
    field: &'static str,
    resolve: &impl Fn(&ParameterSource) -> Option<Value>,
) -> Result<String, Error> {
    if let Some(parameter) = one.get(source.name_parameter) {
        let parameter: ParameterSource =
            serde_json::from_value(parameter.clone()).map_err(|_| Error::Unresolved { field })?;
        let value = resolve(&parameter).ok_or(Error::Unresolved { field })?;
        return value.as_str().map(str::to_owned).ok_or(Error::Unresolved { field });
    }
    let name = one.get(source.name).and_then(Value::as_str).filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or(Error::Incomplete { field, needs: source.name })
}

/// Whether an entry is marked optional and its name is an input that got nothing.
fn may_be_left_out(one: &Value, source: &Source, resolve: &impl Fn(&ParameterSource) -> Option<Value>) -> bool {
    one["optional"].as_bool() == Some(true)
        && one.get(source.name_parameter).is_some_and(|from| is_unset(from, resolve))
}

fn env(
    additions: &mut Additions,
    list: &[Value],
    resolve: &impl Fn(&ParameterSource) -> Option<Value>,
    source: &Source,
) -> Result<(), Error> {
    for one in list.iter().filter(|one| !may_be_left_out(one, source, resolve)) {
        let name = name(one, source, source.env, resolve)?;
        for pair in one["keyToEnv"].as_array().into_iter().flatten() {
            let reference = json!({"name": name, "key": pair[source.key], "optional": one["optional"].as_bool()});
            additions.env.push(json!({"name": pair["envVar"], "valueFrom": {source.key_ref: reference}}));
        }
    }
    Ok(())
}

fn volumes(
    additions: &mut Additions,
    list: &[Value],
    resolve: &impl Fn(&ParameterSource) -> Option<Value>,
    source: &Source,
) -> Result<(), Error> {
    for one in list.iter().filter(|one| !may_be_left_out(one, source, resolve)) {
        let name = name(one, source, source.volume, resolve)?;
        let volume = format!("{}-{}", source.volume_source.to_lowercase(), additions.volumes.len());
        let content = json!({source.volume_name: name, "optional": one["optional"].as_bool()});
        additions.volumes.push(json!({"name": volume, source.volume_source: content}));
        additions.mounts.push(json!({"name": volume, "mountPath": one["mountPath"], "readOnly": true}));
    }
    Ok(())
}

fn empty_dirs(additions: &mut Additions, list: &[Value]) {
    for one in list {
        let set = |name: &str| one.get(name).filter(|value| value.as_str() != Some("")).cloned();
        let content = json!({"medium": set("medium"), "sizeLimit": set("sizeLimit")});
        additions.volumes.push(json!({"name": one["volumeName"], "emptyDir": content}));
        additions.mounts.push(json!({"name": one["volumeName"], "mountPath": one["mountPath"]}));
    }
}

fn shared_memory(additions: &mut Additions, value: &Value) {
    let name = value["volumeName"].as_str().filter(|name| !name.is_empty()).unwrap_or("shm");
    let size = value.get("size").filter(|value| value.as_str() != Some(""));
    additions.volumes.push(json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}));
    additions.mounts.push(json!({"name": name, "mountPath": "/dev/shm"}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_variables_and_volumes_and_unknown_settings_are_named() {
        let settings = json!({
            "secretAsEnv": [{"secretName": "s", "keyToEnv": [{"secretKey": "k", "envVar": "V"}], "optional": false}],
            "configMapAsVolume": [{"configMapNameParameter": {"componentInputParameter": "n"}, "mountPath": "/c"}],
        });
        let settings = settings.as_object().expect("an object");
        let found = additions(settings, &|_| Some(json!("from-parameter"))).expect("supported");
        assert_eq!(found.env[0]["valueFrom"]["secretKeyRef"]["key"], json!("k"));
        assert_eq!(found.volumes[0]["configMap"]["name"], json!("from-parameter"));
        assert_eq!(additions(settings, &|_| None), Err(Error::Unresolved { field: "configMapAsVolume" }));
        let optional = json!({
            "secretAsEnv": [{"secretNameParameter": {"componentInputParameter": "n"}, "keyToEnv": [], "optional": true}],
            "nodeSelector": {"nodeSelectorJson": {"componentInputParameter": "n"}},
        });
        let optional = optional.as_object().expect("an object");
        assert_eq!(additions(optional, &|_| None), Ok(Additions::default()));
        assert!(additions(optional, &|_| Some(json!("given"))).is_err());
        let unknown = json!({"pvcMount": []});
        let unknown = additions(unknown.as_object().expect("an object"), &|_| None);
        assert_eq!(unknown, Err(Error::Unsupported("pvcMount".to_owned())));
    }
}
